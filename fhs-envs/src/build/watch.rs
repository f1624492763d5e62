//! What a build step may take of the machine as a whole, beyond the limits that the kernel keeps for each process: room on
//! the disk, processes, memory. Looked at while it runs.

mod held;
mod usage;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::Error;
use crate::sandbox::build_plan::{DATA_BYTES_MAX, FILE_BYTES_MAX, TASKS_MAX};
use crate::store::space::{self, Space, readable};
use usage::{Counted, family};

/// How often a running step is looked at. A fast disk takes 200 MB in that time, which is less than the reserve.
pub(super) const INTERVAL: Duration = Duration::from_millis(100);
/// Bytes that one step may write: twice what the largest tool chains of chip makers install.
const WRITTEN_BYTES_MAX: u64 = 256 << 30;
/// A step that wrote no more is not why the disk is full.
const NOISE_BYTES: u64 = 1 << 20;
/// A step is ended that keeps this many processes and threads. The kernel would refuse some more; a program that tries
/// again and again would then never end.
const TASKS_KEPT_MAX: u64 = TASKS_MAX / 8 * 7;
/// Some programs start many processes that end at once, or need much memory for a moment: a step is ended for what it has
/// at so many looks in a row.
const LOOKS: u32 = 3;
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
        /// Bytes it wrote.
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
                "it wrote {} to the device of `{}`, which has {} left, and {} stay free for others",
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
    device: u64,
    /// What it may write.
    writable: Vec<PathBuf>,
    /// Bytes that were in there.
    written_before: u64,
    before: Space,
    tasks_before: u64,
    written_max: u64,
    tasks_max: u64,
    /// At how many looks in a row it had too many processes.
    many: u32,
    /// At how many looks in a row it had too much memory.
    large: u32,
}

impl Watch {
    /// Before the step begins.
    pub(super) fn begin(folder: &Path, writable: Vec<PathBuf>) -> Result<Self, Error> {
        Ok(Self {
            folder: folder.to_owned(),
            device: usage::device(folder).map_err(Error::io("look at", folder))?,
            written_before: usage::below(&writable).bytes,
            writable,
            before: space::of(folder)?,
            tasks_before: tasks_of_all(),
            written_max: WRITTEN_BYTES_MAX,
            tasks_max: TASKS_KEPT_MAX,
            many: 0,
            large: 0,
        })
    }

    /// What a step whose shim has this process id took too much of.
    pub(super) fn look(&mut self, shim: u32) -> Result<Option<StepLimit>, Error> {
        if let Some(limit) = self.disk(Some(shim))? {
            return Ok(Some(limit));
        }
        if let Some(limit) = self.tasks(shim) {
            return Ok(Some(limit));
        }
        let Some((total, left)) = machines_memory() else { return Ok(None) };
        Ok(self.memory(total, left, || usage::memory(&family(shim).processes)))
    }

    /// What it took too much of on the disk, while it runs or afterwards.
    pub(super) fn disk(&self, shim: Option<u32>) -> Result<Option<StepLimit>, Error> {
        self.disk_with(space::of(&self.folder)?, shim)
    }

    fn disk_with(&self, now: Space, shim: Option<u32>) -> Result<Option<StepLimit>, Error> {
        let taken = self.before.available_bytes.saturating_sub(now.available_bytes);
        let (available, reserve) = (now.available_bytes, now.reserve());
        let short = available < reserve;
        // Others write, too: what the step itself wrote is counted only where it may matter.
        if !short && taken <= self.written_max {
            return Ok(None);
        }
        let written = self.written(taken, shim);
        if written > self.written_max {
            return Ok(Some(StepLimit::Written { bytes: written }));
        }
        let room = StepLimit::Room { path: self.folder.clone(), written, available, reserve };
        Ok((short && written >= NOISE_BYTES).then_some(room))
    }

    /// Bytes that the step wrote. `taken` is what is gone of the device: all that is known where it cannot be counted.
    fn written(&self, taken: u64, shim: Option<u32>) -> u64 {
        let counted = usage::below(&self.writable);
        let none = Counted { bytes: 0, whole: true };
        let nameless = shim.map_or(none, |shim| held::nameless(&family(shim).processes, self.device));
        let written = counted.bytes.saturating_sub(self.written_before).saturating_add(nameless.bytes);
        if counted.whole && nameless.whole { written } else { written.max(taken) }
    }

    fn tasks(&mut self, shim: u32) -> Option<StepLimit> {
        // Counting those of everybody is one small file.
        let few = tasks_of_all().saturating_sub(self.tasks_before) < self.tasks_max / 2;
        let count = if few { 0 } else { family(shim).tasks };
        let lasts = in_a_row(&mut self.many, count > self.tasks_max);
        lasts.then_some(StepLimit::Tasks { count })
    }

    /// Whether the machine is short of memory because of the step. The kernel ends processes by itself then, and not always
    /// the right ones.
    fn memory(&mut self, total: u64, left: u64, taken: impl FnOnce() -> u64) -> Option<StepLimit> {
        let bytes = if left < total / MEMORY_PART_LEFT { taken() } else { 0 };
        let lasts = in_a_row(&mut self.large, bytes > total / MEMORY_PART_TAKEN);
        lasts.then_some(StepLimit::Memory { bytes, left })
    }
}

/// Counts a look; true where enough of them in a row were too much.
fn in_a_row(looks: &mut u32, too_much: bool) -> bool {
    *looks = if too_much { *looks + 1 } else { 0 };
    *looks >= LOOKS
}

/// Bytes of memory that the machine has, and those that programs can still get, on the swap device too.
fn machines_memory() -> Option<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    memory_of(&text)
}

fn memory_of(meminfo: &str) -> Option<(u64, u64)> {
    let value = |name: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kib| kib << 10)
    };
    Some((value("MemTotal")?, value("MemAvailable")? + value("SwapFree").unwrap_or(0)))
}

/// The processes and threads of the machine, as `/proc/loadavg` counts them.
fn tasks_of_all() -> u64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let counts = text.split(' ').nth(3).and_then(|counts| counts.split_once('/'));
    counts.and_then(|(_, all)| all.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// A disk on which `available` bytes are free.
    fn space(available: u64) -> Space {
        Space { available_bytes: available, available_files: 1 << 20, total_bytes: 1 << 40 }
    }

    fn random(path: &Path, bytes: u64) -> std::fs::File {
        let mut random = std::io::Read::take(std::fs::File::open("/dev/urandom").unwrap(), bytes);
        let mut file = std::fs::File::create(path).unwrap();
        std::io::copy(&mut random, &mut file).unwrap();
        file.sync_all().unwrap();
        file
    }

    #[test]
    fn what_was_written_counts_and_what_others_wrote_or_was_there_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("own");
        std::fs::create_dir_all(own.join("deep")).unwrap();
        random(&own.join("before"), 4 << 20);
        let mut watch = Watch::begin(folder.path(), vec![own.clone()]).unwrap();
        watch.before = space(100 << 30);
        watch.written_max = 2 << 20;
        let (half, short) = (space(50 << 30), space(1 << 20));
        assert_eq!(watch.disk_with(half, None).unwrap(), None, "somebody else's");
        assert_eq!(watch.disk_with(short, None).unwrap(), None, "somebody else filled the disk");
        let file = random(&own.join("deep/file"), (1 << 20) + 1);
        assert_eq!(watch.disk_with(half, None).unwrap(), None);
        let limit = watch.disk_with(short, None).unwrap();
        assert!(
            matches!(limit, Some(StepLimit::Room { written, .. }) if written < 2 << 20),
            "its own, not what is gone of the device: {limit:?}"
        );
        random(&own.join("deep/more"), 1 << 20);
        let limit = watch.disk_with(half, None).unwrap();
        assert!(matches!(limit, Some(StepLimit::Written { bytes }) if bytes > 2 << 20), "{limit:?}");
        assert_eq!(watch.disk_with(space(100 << 30), None).unwrap(), None, "nothing is gone of the device");
        drop(file);
        // What cannot be counted is what is gone of the device.
        std::fs::rename(&own, folder.path().join("away")).unwrap();
        std::os::unix::fs::symlink("away", &own).unwrap();
        let limit = watch.disk_with(half, None).unwrap();
        assert_eq!(limit, Some(StepLimit::Written { bytes: 50 << 30 }));
    }

    #[test]
    fn processes_below_a_process_are_counted_at_the_third_look() {
        let mut shell = Command::new("sh").args(["-c", "sleep 60 & sleep 60 & wait"]).spawn().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut watch = Watch::begin(folder.path(), Vec::new()).unwrap();
        watch.tasks_before = 0;
        watch.tasks_max = 1;
        let begin = std::time::Instant::now();
        while family(shell.id()).tasks < 2 && begin.elapsed().as_secs() < 20 {
            std::thread::sleep(Duration::from_millis(10));
        }
        let looks = [0; 3].map(|_| watch.tasks(shell.id()));
        assert_eq!(looks, [None, None, Some(StepLimit::Tasks { count: 2 })]);
        for pid in family(shell.id()).processes {
            let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
        shell.wait().unwrap();
    }

    #[test]
    fn only_a_step_that_has_much_for_a_while_is_ended_for_little_memory() {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = Watch::begin(folder.path(), Vec::new()).unwrap();
        let limit = Some(StepLimit::Memory { bytes: 401, left: 99 });
        assert_eq!(watch.memory(1600, 100, || unreachable!("there is enough")), None);
        let looks = [(99, 401), (99, 401), (99, 400), (99, 401), (99, 401), (100, 401), (99, 401), (99, 401)];
        for (left, bytes) in looks {
            assert_eq!(watch.memory(1600, left, || bytes), None);
        }
        assert_eq!(watch.memory(1600, 99, || 401), limit);
    }

    #[test]
    fn what_is_free_on_the_swap_device_is_left() {
        let text = "MemTotal:        100 kB\nMemAvailable:    7 kB\nSwapTotal: 50 kB\nSwapFree:  30 kB\n";
        assert_eq!(memory_of(text), Some((100 << 10, 37 << 10)));
        assert_eq!(memory_of("MemTotal: 100 kB\nMemAvailable: 7 kB\n"), Some((100 << 10, 7 << 10)));
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
