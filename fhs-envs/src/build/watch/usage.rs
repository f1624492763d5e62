//! What a running step has: its processes, their memory, and what it wrote. All of it can change or vanish while it is
//! looked at, and the step is hostile: nothing is followed, and no look takes long.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, openat, openat2, statat};
use rustix::io::Errno;

use super::held;

/// How long one look at what was written may take. A million entries take about a second from memory.
pub(super) const WALK_TIME: Duration = Duration::from_millis(500);
/// Entries between two looks at the clock.
const ENTRIES_AT_ONCE: usize = 256;
/// `st_blocks` counts these, whatever the file system's own are.
pub(super) const BLOCK: u64 = 512;

/// A process and all below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Family {
    /// Process ids, without the first.
    pub(super) processes: Vec<u32>,
    /// Processes and threads, without the first's.
    pub(super) tasks: u64,
}

/// What is below a process now.
pub(super) fn family(first: u32) -> Family {
    let mut below: BTreeMap<u32, Vec<(u32, u64)>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that has ended meanwhile.
        let Ok(text) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        if let Some((parent, tasks)) = of_stat(&text) {
            below.entry(parent).or_default().push((pid, tasks));
        }
    }
    let mut all = Family::default();
    let mut next = vec![first];
    while let Some(pid) = next.pop() {
        for (child, tasks) in below.remove(&pid).unwrap_or_default() {
            all.tasks += tasks;
            all.processes.push(child);
            next.push(child);
        }
    }
    all
}

/// The parent, and the number of threads. See proc_pid_stat(5); the name may hold anything.
fn of_stat(text: &str) -> Option<(u32, u64)> {
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    Some((parent, fields.nth(15)?.parse().ok()?))
}

/// Bytes of memory of processes; of what several share each has its part. Files that are memory alone (`memfd_create`) are
/// in it whether they are mapped or not. Which of them are mapped would take a look at each mapping: the larger of all that
/// is mapped and all that is open is taken, so what is both is not counted twice, and never is more than half left out.
pub(super) fn memory(processes: &[u32]) -> u64 {
    let all = processes.iter().map(|&pid| memory_of(pid));
    let (own, shared) = all.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    own + shared.max(held::memory_files(processes))
}

/// A process's memory, that of shared memory's files apart.
fn memory_of(pid: u32) -> (u64, u64) {
    // `Pss`: see "smaps_rollup" in the kernel's Documentation/filesystems/proc.rst. The first thread may have ended.
    for task in held::tasks(pid) {
        let rollup = std::fs::read_to_string(task.join("smaps_rollup")).unwrap_or_default();
        let value = |name: &str| rollup.lines().find_map(|line| kib(line.strip_prefix(name)?));
        if let Some(all) = value("Pss:") {
            let shared = value("Pss_Shmem:").unwrap_or(0).min(all);
            return (all - shared, shared);
        }
    }
    // Of a process that is not ours to look into: what it has for itself.
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    (status.lines().find_map(|line| kib(line.strip_prefix("RssAnon:")?)).unwrap_or(0), 0)
}

/// Bytes of a value in KiB.
fn kib(value: &str) -> Option<u64> {
    value.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kib| kib << 10)
}

/// What was counted below a folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counted {
    /// Bytes on the disk.
    pub(super) bytes: u64,
    /// Nothing was left out.
    pub(super) whole: bool,
}

/// Bytes on the disk of what is below folders that a step may be changing.
pub(super) fn below(folders: &[PathBuf]) -> Counted {
    below_until(folders, Instant::now() + WALK_TIME)
}

fn below_until(folders: &[PathBuf], end: Instant) -> Counted {
    let mut walk = Walk { end, linked: BTreeSet::new(), counted: Counted { bytes: 0, whole: true } };
    for folder in folders {
        walk.below(folder);
    }
    walk.counted
}

struct Walk {
    end: Instant,
    /// Files with several names that were counted.
    linked: BTreeSet<(u64, u64)>,
    counted: Counted,
}

impl Walk {
    fn below(&mut self, folder: &Path) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let top = match openat(CWD, folder, flags, Mode::empty()) {
            Ok(top) => top,
            Err(errno) => return self.missed(errno),
        };
        // Paths, not open folders: a step could make them deeper than there are descriptors.
        let mut next = vec![PathBuf::from(".")];
        while let Some(path) = next.pop() {
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            match openat2(&top, &path, flags, Mode::empty(), resolve) {
                Ok(open) => self.folder(&open, &path, &mut next),
                Err(errno) => self.missed(errno),
            }
        }
    }

    fn folder(&mut self, open: &OwnedFd, path: &Path, next: &mut Vec<PathBuf>) {
        let mut entries = match Dir::read_from(open) {
            Ok(entries) => entries,
            Err(errno) => return self.missed(errno),
        };
        for (number, entry) in std::iter::from_fn(|| entries.read()).enumerate() {
            if number % ENTRIES_AT_ONCE == 0 && Instant::now() >= self.end {
                self.counted.whole = false;
                return;
            }
            let entry = match entry {
                Ok(entry) => entry,
                Err(errno) => return self.missed(errno),
            };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            match statat(open, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => {
                    let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
                    let counted =
                        !is_folder && stat.st_nlink > 1 && !self.linked.insert((stat.st_dev, stat.st_ino));
                    if !counted {
                        self.counted.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * BLOCK;
                    }
                    if is_folder {
                        next.push(path.join(std::ffi::OsStr::from_bytes(name.to_bytes())));
                    }
                }
                Err(errno) => self.missed(errno),
            }
        }
    }

    /// What is gone meanwhile takes nothing.
    fn missed(&mut self, errno: Errno) {
        if errno != Errno::NOENT {
            self.counted.whole = false;
        }
    }
}

/// The number of the device that a folder is on.
pub(super) fn device(folder: &Path) -> io::Result<u64> {
    std::fs::metadata(folder).map(|metadata| metadata.dev())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::symlink;

    const MIB: u64 = 1 << 20;

    fn write(path: &Path, bytes: u64) {
        let mut file = fs::File::create(path).unwrap();
        file.write_all(&vec![7; usize::try_from(bytes).unwrap()]).unwrap();
        file.sync_all().unwrap();
    }

    #[test]
    fn what_is_there_is_counted_once_and_nothing_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (own, other) = (folder.path().join("own"), folder.path().join("other"));
        let mut deep = own.join("a");
        // Deeper than there may be open files, in names of one letter.
        for _ in 0..1200 {
            deep.push("b");
        }
        fs::create_dir_all(&deep).unwrap();
        fs::create_dir(&other).unwrap();
        write(&other.join("large"), 8 * MIB);
        symlink(&other, own.join("link")).unwrap();
        write(&deep.join("file"), 2 * MIB);
        fs::hard_link(deep.join("file"), own.join("same")).unwrap();
        let counted = below(std::slice::from_ref(&own));
        // Each folder has a block.
        assert!(counted.whole && (2 * MIB..8 * MIB).contains(&counted.bytes), "{counted:?}");
        symlink(&own, folder.path().join("way")).unwrap();
        assert_eq!(below(&[folder.path().join("way")]), Counted { bytes: 0, whole: false });
        assert_eq!(below(&[folder.path().join("gone")]), Counted { bytes: 0, whole: true });
        assert!(!below_until(&[own], Instant::now()).whole, "no time");
    }

    #[test]
    fn names_of_processes_do_not_confuse() {
        let stat = "7 (a) 1 (b) S 5 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 3 0 100 4096 9 0";
        assert_eq!(of_stat(stat), Some((5, 3)));
        assert_eq!(of_stat("7 (a"), None);
    }

    #[test]
    fn memory_that_two_share_is_counted_once() {
        // The child has the parent's pages until it writes them.
        let script = "import os, sys, time\nheld = b'x' * (64 << 20)\nos.fork()\nprint('ready', flush=True)\ntime.sleep(60)\n";
        let mut python = std::process::Command::new("python3")
            .args(["-c", script])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 12];
        io::Read::read_exact(python.stdout.as_mut().unwrap(), &mut ready).unwrap();
        let children = family(python.id()).processes;
        let both = memory(&[&children[..], &[python.id()]].concat());
        for pid in children.iter().chain([&python.id()]) {
            let pid = rustix::process::Pid::from_raw(i32::try_from(*pid).unwrap()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
        python.wait().unwrap();
        assert_eq!(children.len(), 1);
        assert!((64 * MIB..110 * MIB).contains(&both), "{both}");
    }

    /// Memory in a `memfd` that nobody maps was nobody's.
    #[test]
    fn memory_that_is_only_open_is_counted_and_what_is_mapped_too_not_twice() {
        for map in
            ["", "import mmap\nheld = mmap.mmap(file, 64 << 20)\nheld[0:64 << 20] = b'y' * (64 << 20)\n"]
        {
            let script = format!(
                "import os, time\nfile = os.memfd_create('x')\nfor _ in range(64): os.write(file, b'x' * (1 << 20))\n{map}print('ready', flush=True)\ntime.sleep(60)\n"
            );
            let mut python = std::process::Command::new("python3")
                .args(["-c", &script])
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            let mut ready = [0; 6];
            io::Read::read_exact(python.stdout.as_mut().unwrap(), &mut ready).unwrap();
            let bytes = memory(&[python.id()]);
            python.kill().unwrap();
            python.wait().unwrap();
            // The copy that is assigned from may still be Python's.
            let most = if map.is_empty() { 100 } else { 180 };
            assert!((64 * MIB..most * MIB).contains(&bytes), "{bytes} {map}");
        }
    }
}
