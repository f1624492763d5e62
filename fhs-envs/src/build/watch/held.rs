//! Files that a step's processes hold and that have no name: deleted ones, which take room on the disk, and those that are
//! memory alone. A process can hold one by a descriptor, which is counted; by a mapping, or on its way through a socket,
//! which is only noticed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{MemfdFlags, major, makedev};

use super::usage::{BLOCK, Counted, WALK_TIME};

/// Bytes on the disk with this device's number of files without a name that processes have open. Not whole where they hold
/// such files otherwise too.
pub(super) fn nameless(processes: &[u32], device: u64) -> Counted {
    let end = Instant::now() + WALK_TIME;
    let mut files = BTreeMap::new();
    let mut passed = false;
    let mut whole = each_open(processes, end, |descriptor, file| {
        if file.is_file() && file.nlink() == 0 && file.dev() == device {
            files.insert(file.ino(), file.blocks() * BLOCK);
        }
        passed |= file.file_type().is_socket() && has_files_on_their_way(descriptor);
    });
    let open: BTreeSet<u64> = files.keys().copied().collect();
    let memory = memory_device();
    whole &= !passed && processes.iter().all(|pid| maps_none(*pid, device, memory, &open, end));
    Counted { bytes: files.into_values().sum(), whole }
}

/// Bytes of memory in files that have no folder at all (`memfd_create`) and that processes have open, each file once.
pub(super) fn memory_files(processes: &[u32]) -> u64 {
    let Some(memory) = memory_device() else { return 0 };
    let mut files = BTreeMap::new();
    each_open(processes, Instant::now() + WALK_TIME, |_, file| {
        if file.dev() == memory {
            files.insert(file.ino(), file.blocks() * BLOCK);
        }
    });
    files.into_values().sum()
}

/// The number of the device on which the kernel has such files, and shared memory without a file.
fn memory_device() -> Option<u64> {
    let file = rustix::fs::memfd_create("hatchway", MemfdFlags::CLOEXEC).ok()?;
    Some(rustix::fs::fstat(&file).ok()?.st_dev)
}

/// Shows each open file of each thread, as a thread may have a table of its own, and the first one may have ended. False
/// where one could not be looked at, or time is out.
fn each_open(processes: &[u32], end: Instant, mut show: impl FnMut(&Path, &Metadata)) -> bool {
    let mut whole = true;
    for task in processes.iter().flat_map(|pid| tasks(*pid)) {
        let entries = match fs::read_dir(task.join("fd")) {
            Ok(entries) => entries,
            Err(error) => {
                whole &= is_gone(&error) || has_ended(&task);
                continue;
            }
        };
        for entry in entries.flatten() {
            if Instant::now() >= end {
                return false;
            }
            // The kernel's own link to the file: it is not opened.
            if let Ok(file) = fs::metadata(entry.path()) {
                show(&entry.path(), &file);
            }
        }
    }
    whole
}

/// The folders of a process's threads.
pub(super) fn tasks(pid: u32) -> Vec<PathBuf> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    tasks.into_iter().flatten().flatten().map(|task| task.path()).collect()
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

/// A thread that has ended has nothing open, and nobody's but root's to be looked into.
fn has_ended(task: &Path) -> bool {
    let Ok(stat) = fs::read_to_string(task.join("stat")) else { return true };
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    matches!(state, Some('Z' | 'X'))
}

/// Whether descriptors were sent to a socket and not received yet: see proc_pid_fdinfo(5).
fn has_files_on_their_way(descriptor: &Path) -> bool {
    let info = descriptor.parent().zip(descriptor.file_name());
    let info = info.map(|(folder, number)| folder.with_file_name("fdinfo").join(number));
    let text = info.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
    let count = text.lines().find_map(|line| line.strip_prefix("scm_fds:"));
    count.is_some_and(|count| count.trim() != "0")
}

/// Whether a process maps no deleted file of the device but those that are `open`.
fn maps_none(pid: u32, device: u64, memory: Option<u64>, open: &BTreeSet<u64>, end: Instant) -> bool {
    // Threads have the same memory; of one that has ended none is shown.
    for task in tasks(pid) {
        let Ok(file) = fs::File::open(task.join("maps")) else { continue };
        let mut lines = BufReader::new(file).split(b'\n').peekable();
        if !lines.peek().is_some_and(Result::is_ok) {
            continue;
        }
        return lines.map_while(Result::ok).all(|line| {
            let deleted = Mapping::deleted(&String::from_utf8_lossy(&line));
            Instant::now() < end && deleted.is_none_or(|file| !file.may_be_on(device, memory, open))
        });
    }
    true
}

/// A deleted file that is mapped.
#[derive(Debug, PartialEq, Eq)]
struct Mapping {
    device: u64,
    inode: u64,
}

impl Mapping {
    /// See proc_pid_maps(5).
    fn deleted(line: &str) -> Option<Self> {
        if !line.ends_with(" (deleted)") {
            return None;
        }
        let mut fields = line.split(' ');
        let (major, minor) = fields.nth(3)?.split_once(':')?;
        let number = |hex: &str| u32::from_str_radix(hex, 16).ok();
        Some(Self { device: makedev(number(major)?, number(minor)?), inode: fields.next()?.parse().ok()? })
    }

    fn may_be_on(&self, device: u64, memory: Option<u64>, open: &BTreeSet<u64>) -> bool {
        // Btrfs and overlays have one number for their files and another one for mappings of these.
        let unclear = major(device) == 0 && major(self.device) == 0 && Some(self.device) != memory;
        (self.device == device || unclear) && !open.contains(&self.inode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    const MIB: u64 = 1 << 20;

    /// A child that has done this and waits, as long as the value lives.
    struct Waiting(Child);

    impl Waiting {
        fn new(script: &str, folder: &Path) -> Self {
            let imports = "import ctypes, mmap, os, socket, sys, threading, time\n";
            let end = "\nprint('ready', flush=True)\ntime.sleep(60)\n";
            let mut child = Command::new("python3")
                .args(["-c", &format!("{imports}{script}{end}")])
                .current_dir(folder)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut ready = [0; 6];
            io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
            Self(child)
        }

        fn nameless(&self, folder: &Path) -> Counted {
            nameless(&[self.0.id()], super::super::usage::device(folder).unwrap())
        }
    }

    impl Drop for Waiting {
        fn drop(&mut self) {
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }

    const DELETED: &str = "file = os.open('f', os.O_RDWR | os.O_CREAT)\nos.write(file, os.urandom(2 << 20))\n\
                           os.fsync(file)\nos.unlink('f')\n";

    #[test]
    fn a_deleted_file_is_counted_by_its_descriptor_and_noticed_without_one() {
        let folder = tempfile::tempdir().unwrap();
        let holds = |more: &str| {
            let child = Waiting::new(&format!("{DELETED}{more}"), folder.path());
            child.nameless(folder.path())
        };
        let counted = |counted: Counted| counted.whole && (2 * MIB..3 * MIB).contains(&counted.bytes);
        assert!(counted(holds("")));
        let map = "held = mmap.mmap(file, 4096)\n";
        assert!(counted(holds(map)), "what is open too is known");
        // Python keeps a descriptor of its own for a mapping.
        let only_mapped = "libc = ctypes.CDLL(None)\nlibc.mmap.restype = ctypes.c_void_p\n\
                           libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]\n\
                           libc.mmap(None, 4096, 3, 1, file, 0)\nos.close(file)\n";
        assert_eq!(holds(only_mapped), Counted { bytes: 0, whole: false });
        let sent = "a, b = socket.socketpair()\nsocket.send_fds(a, [b'x'], [file])\nos.close(file)\n";
        assert_eq!(holds(sent), Counted { bytes: 0, whole: false });
        assert_eq!(holds("os.close(file)\na, b = socket.socketpair()\n"), Counted { bytes: 0, whole: true });
    }

    #[test]
    fn a_thread_with_descriptors_of_its_own_is_looked_into() {
        let folder = tempfile::tempdir().unwrap();
        let script = format!(
            "def work():\n    ctypes.CDLL(None).unshare(0x400)\n    {}    print('ready', flush=True)\n    time.sleep(60)\n\
             threading.Thread(target=work).start()\ntime.sleep(60)",
            DELETED.replace('\n', "\n    ").trim_end_matches(' ')
        );
        let child = Waiting::new(&script, folder.path());
        assert!(child.nameless(folder.path()).bytes >= 2 * MIB);
    }

    #[test]
    fn memory_in_files_without_a_folder_is_counted_once() {
        let folder = tempfile::tempdir().unwrap();
        let script = "file = os.memfd_create('x')\nos.write(file, b'x' * (8 << 20))\nagain = os.dup(file)\n\
                      held = mmap.mmap(file, 8 << 20)\nif not os.fork(): time.sleep(60)\n";
        let child = Waiting::new(script, folder.path());
        let both = [&super::super::usage::family(child.0.id()).processes[..], &[child.0.id()]].concat();
        assert_eq!(both.len(), 2);
        let bytes = memory_files(&both);
        for pid in both {
            let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
        assert_eq!(bytes, 8 * MIB);
        assert_eq!(memory_files(&[]), 0);
        // It is no file of a disk, and known to be none.
        let script =
            "file = os.memfd_create('x')\nos.write(file, b'x' * 4096)\nheld = mmap.mmap(file, 4096)\n";
        let child = Waiting::new(script, folder.path());
        assert_eq!(child.nameless(folder.path()), Counted { bytes: 0, whole: true });
    }

    #[test]
    fn lines_of_mappings_are_read_whatever_their_paths_hold() {
        let line = "7f00-7f01 rw-s 00000000 fe:01 77                         /a b (deleted) (deleted)";
        let file = Mapping::deleted(line).unwrap();
        assert_eq!(file, Mapping { device: makedev(0xfe, 1), inode: 77 });
        assert_eq!(Mapping::deleted("7f00-7f01 rw-s 00000000 fe:01 77   /a"), None);
        let (none, open) = (BTreeSet::new(), BTreeSet::from([77]));
        let (disk, other) = (makedev(0xfe, 1), makedev(0, 40));
        assert!(file.may_be_on(disk, Some(1), &none) && !file.may_be_on(disk, Some(1), &open));
        assert!(!file.may_be_on(other, Some(1), &none), "a disk's mapping has the disk's number");
        let unclear = Mapping { device: makedev(0, 30), inode: 7 };
        assert!(
            unclear.may_be_on(other, Some(1), &none)
                && !unclear.may_be_on(other, Some(unclear.device), &none)
        );
        assert!(!unclear.may_be_on(disk, Some(1), &none));
    }
}
