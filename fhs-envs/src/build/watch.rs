//! What a build step may take of the machine as a whole, beyond the limits that the kernel keeps for each process: room on
//! the disk, processes, memory. Looked at while it runs.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::Error;
use crate::sandbox::build_plan::{DATA_BYTES_MAX, FILE_BYTES_MAX, TASKS_MAX};
use crate::store::space::{self, Space, readable};

/// How often a running step is looked at. A fast disk takes 200 MB in that time, which is less than the reserve.
pub(super) const INTERVAL: Duration = Duration::from_millis(100);
/// Bytes that one step may write: twice what the largest tool chains of chip makers install.
const WRITTEN_BYTES_MAX: u64 = 256 << 30;
/// What is taken by nobody in particular: a step that takes no more is not why the disk is full.
const NOISE_BYTES: u64 = 1 << 20;
/// A step is ended that keeps this many processes and threads. The kernel would refuse some more; a program that tries
/// again and again would then never end.
const TASKS_KEPT_MAX: u64 = TASKS_MAX / 8 * 7;
/// With less than this part of the memory left, the largest user is asked for.
const MEMORY_PART_LEFT: u64 = 16;
/// A step that then has more than this part is that user.
const MEMORY_PART_TAKEN: u64 = 4;

/// What a step of a build took more of than it may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepLimit {
    /// What is kept free on the disk.
    Room {
        /// Where it wrote.
        path: PathBuf,
        /// Bytes it took of what was free.
        written: u64,
        /// Bytes that are free now.
        available: u64,
        /// Bytes that stay free.
        reserve: u64,
    },
    /// Bytes on the disk.
    Written {
        /// What it wrote.
        bytes: u64,
    },
    /// Processes and threads.
    Tasks {
        /// How many there were.
        count: u64,
    },
    /// Memory of the machine.
    Memory {
        /// Bytes of all its processes.
        bytes: u64,
        /// Bytes that the machine had left.
        left: u64,
    },
}

impl fmt::Display for StepLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Room { path, written, available, reserve } => write!(
                f,
                "it took {} of the device of `{}`, which leaves {}, and {} stay free for others",
                readable(*written),
                path.display(),
                readable(*available),
                readable(*reserve)
            ),
            Self::Written { bytes } => {
                write!(f, "it wrote {}, more than {}", readable(*bytes), readable(WRITTEN_BYTES_MAX))
            }
            Self::Tasks { count } => {
                write!(f, "it had {count} processes and threads, of {TASKS_MAX} that there may be")
            }
            Self::Memory { bytes, left } => {
                write!(
                    f,
                    "its processes had {} of memory and left {} to the machine",
                    readable(*bytes),
                    readable(*left)
                )
            }
        }
    }
}

impl StepLimit {
    /// What to do about it.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Room { .. } => ROOM_HINT.to_owned(),
            Self::Written { .. } => format!("{PARTS_HINT} its files, or {UNPACK_HINT}"),
            Self::Tasks { .. } => format!("{PARTS_HINT} fewer jobs at once, or {UNPACK_HINT}"),
            Self::Memory { .. } => format!(
                "end what else takes memory on this machine; or {PARTS_HINT} fewer jobs at once, or {UNPACK_HINT}"
            ),
        }
    }
}

const ROOM_HINT: &str = "free some space: `hatchway store du` says what takes it, `hatchway store gc` removes what no recipe needs";
const PARTS_HINT: &str = "look for the option of what runs there for a part of";
const UNPACK_HINT: &str = "have it unpacked without running it: `unpack = \"/opt/…\"` instead of `install`";

/// The hints of a step that ended by itself, and by what it said has met a limit.
pub(crate) fn hints(said: &str) -> Vec<String> {
    let said = said.to_ascii_lowercase();
    let any = |words: &[&str]| words.iter().any(|word| said.contains(word));
    let mut hints = Vec::new();
    if any(&["no space left on device"]) {
        hints.push(ROOM_HINT.to_owned());
    }
    if any(&["file too large", "file size limit exceeded"]) {
        let max = readable(FILE_BYTES_MAX);
        hints.push(format!(
            "one file of a build step has at most {max}: {PARTS_HINT} its files, or {UNPACK_HINT}"
        ));
    }
    if any(&["cannot allocate memory", "out of memory", "memory exhausted", "bad_alloc", "memoryerror"]) {
        let max = readable(DATA_BYTES_MAX);
        hints.push(format!(
            "each process of a build step has at most {max} of memory: {PARTS_HINT} fewer jobs at once, or {UNPACK_HINT}"
        ));
    }
    if any(&["resource temporarily unavailable", "cannot fork"]) {
        hints.push(format!(
            "a build step has at most {TASKS_MAX} processes and threads: {PARTS_HINT} fewer jobs at once, or {UNPACK_HINT}"
        ));
    }
    hints
}

/// Looks at a running step.
#[derive(Debug)]
pub(super) struct Watch {
    /// On the file system it writes to.
    folder: PathBuf,
    /// What it may write.
    writable: Vec<PathBuf>,
    before: Space,
    tasks_before: u64,
    written_max: u64,
    tasks_max: u64,
    /// It had too many processes at the last look. Some programs start many that end at once.
    many: bool,
}

impl Watch {
    /// Before the step begins.
    pub(super) fn begin(folder: &Path, writable: Vec<PathBuf>) -> Result<Self, Error> {
        Ok(Self {
            folder: folder.to_owned(),
            writable,
            before: space::of(folder)?,
            tasks_before: tasks_of_all(),
            written_max: WRITTEN_BYTES_MAX,
            tasks_max: TASKS_KEPT_MAX,
            many: false,
        })
    }

    /// What a step whose shim has this process id took too much of.
    pub(super) fn look(&mut self, shim: u32) -> Result<Option<StepLimit>, Error> {
        if let Some(limit) = self.disk()? {
            return Ok(Some(limit));
        }
        if let Some(limit) = self.tasks(shim) {
            return Ok(Some(limit));
        }
        Ok(memory(shim))
    }

    /// What it took too much of on the disk, while it runs or afterwards.
    pub(super) fn disk(&self) -> Result<Option<StepLimit>, Error> {
        let now = space::of(&self.folder)?;
        let taken = self.before.available_bytes.saturating_sub(now.available_bytes);
        let reserve = now.reserve();
        // Others write, too: what the step itself wrote is counted only where it may matter.
        let short = now.available_bytes < reserve && taken >= NOISE_BYTES;
        if !short && taken <= self.written_max {
            return Ok(None);
        }
        let written = self.writable.iter().map(|folder| bytes_below(folder)).sum();
        if written > self.written_max {
            return Ok(Some(StepLimit::Written { bytes: written }));
        }
        let room = StepLimit::Room {
            path: self.folder.clone(),
            written: taken,
            available: now.available_bytes,
            reserve,
        };
        Ok(short.then_some(room))
    }

    fn tasks(&mut self, shim: u32) -> Option<StepLimit> {
        // Counting those of everybody is one small file.
        if tasks_of_all().saturating_sub(self.tasks_before) < self.tasks_max / 2 {
            self.many = false;
            return None;
        }
        let count = family(shim).tasks;
        let before = std::mem::replace(&mut self.many, count > self.tasks_max);
        (before && self.many).then_some(StepLimit::Tasks { count })
    }
}

/// Whether the machine is short of memory because of the step. A host without swap ends processes by itself then, and not
/// always the right ones.
fn memory(shim: u32) -> Option<StepLimit> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let value = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().ok()
    };
    let (total, left) = (value("MemTotal")? << 10, value("MemAvailable")? << 10);
    memory_limit(total, left, || family(shim).resident_bytes)
}

fn memory_limit(total: u64, left: u64, taken: impl FnOnce() -> u64) -> Option<StepLimit> {
    if left >= total / MEMORY_PART_LEFT {
        return None;
    }
    let bytes = taken();
    (bytes > total / MEMORY_PART_TAKEN).then_some(StepLimit::Memory { bytes, left })
}

/// The processes and threads of the machine, as `/proc/loadavg` counts them.
fn tasks_of_all() -> u64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let counts = text.split(' ').nth(3).and_then(|counts| counts.split_once('/'));
    counts.and_then(|(_, all)| all.parse().ok()).unwrap_or(0)
}

/// A process and all below it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Family {
    tasks: u64,
    resident_bytes: u64,
}

fn family(first: u32) -> Family {
    let mut below: BTreeMap<u32, Vec<(u32, Family)>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that has ended meanwhile.
        let Ok(text) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        if let Some((parent, own)) = of_stat(&text) {
            below.entry(parent).or_default().push((pid, own));
        }
    }
    let mut all = Family::default();
    let mut next = vec![first];
    while let Some(pid) = next.pop() {
        for (child, own) in below.remove(&pid).unwrap_or_default() {
            all.tasks += own.tasks;
            all.resident_bytes += own.resident_bytes;
            next.push(child);
        }
    }
    all
}

/// The parent, and what the process itself has. See proc_pid_stat(5); the name may hold anything.
fn of_stat(text: &str) -> Option<(u32, Family)> {
    const PAGE: u64 = 4096;
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let tasks = fields.nth(15)?.parse().ok()?;
    let pages: u64 = fields.nth(3)?.parse().ok()?;
    Some((parent, Family { tasks, resident_bytes: pages * PAGE }))
}

/// Bytes on the disk of all that is below a folder that a step may be changing. Nothing is followed.
fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let of_one = |entry: std::fs::DirEntry| {
        let Ok(metadata) = entry.metadata() else { return 0 };
        let own = metadata.blocks() * 512;
        if metadata.is_dir() { own + bytes_below(&entry.path()) } else { own }
    };
    entries.map(of_one).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn what_was_written_counts_and_what_others_wrote_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("own");
        std::fs::create_dir_all(own.join("deep")).unwrap();
        let mut watch = Watch::begin(folder.path(), vec![own.clone()]).unwrap();
        // As if a gigabyte more had been free before.
        watch.before.available_bytes += 1 << 30;
        watch.written_max = 1 << 20;
        assert_eq!(watch.disk().unwrap(), None, "somebody else's");
        let mut random =
            std::fs::File::open("/dev/urandom").map(|file| std::io::Read::take(file, 2 << 20)).unwrap();
        let mut file = std::fs::File::create(own.join("deep/file")).unwrap();
        std::io::copy(&mut random, &mut file).unwrap();
        file.sync_all().unwrap();
        assert!(matches!(watch.disk().unwrap(), Some(StepLimit::Written { bytes }) if bytes >= 2 << 20));
    }

    #[test]
    fn processes_below_a_process_are_counted_at_the_second_look() {
        let mut shell = Command::new("sh").args(["-c", "sleep 60 & sleep 60 & wait"]).spawn().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut watch = Watch::begin(folder.path(), Vec::new()).unwrap();
        watch.tasks_before = 0;
        watch.tasks_max = 1;
        let begin = std::time::Instant::now();
        while family(shell.id()).tasks < 2 && begin.elapsed().as_secs() < 20 {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(watch.tasks(shell.id()), None, "the first look");
        assert_eq!(watch.tasks(shell.id()), Some(StepLimit::Tasks { count: 2 }));
        assert!(family(shell.id()).resident_bytes > 0);
        for pid in
            std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", shell.id())).unwrap().split(' ')
        {
            if let Some(pid) = pid.parse().ok().and_then(rustix::process::Pid::from_raw) {
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            }
        }
        shell.wait().unwrap();
    }

    #[test]
    fn only_a_step_that_has_much_is_ended_for_little_memory() {
        assert_eq!(memory_limit(1600, 100, || unreachable!("there is enough")), None);
        assert_eq!(memory_limit(1600, 99, || 400), None);
        assert_eq!(memory_limit(1600, 99, || 401), Some(StepLimit::Memory { bytes: 401, left: 99 }));
    }

    #[test]
    fn names_of_processes_do_not_confuse() {
        let stat = "7 (a) 1 (b) S 5 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 3 0 100 4096 9 0";
        assert_eq!(of_stat(stat), Some((5, Family { tasks: 3, resident_bytes: 9 * 4096 })));
        assert_eq!(of_stat("7 (a"), None);
    }

    #[test]
    fn what_a_step_said_gives_the_hint() {
        for (said, hint) in [
            ("dd: writing: No space left on device", "free some space"),
            ("File size limit exceeded (core dumped)", "one file of a build step has at most 64"),
            ("virtual memory exhausted: Cannot allocate memory", "of memory"),
            ("sh: 0: Cannot fork", "4096 processes"),
        ] {
            assert!(hints(said).iter().any(|line| line.contains(hint)), "{said}: {:?}", hints(said));
        }
        assert_eq!(hints("all is well"), [""; 0]);
    }
}
