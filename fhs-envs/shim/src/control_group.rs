//! The unit's control group: entered by the inner half, killed and removed by the attendant.
use hatchway_wire::{HostPath, Op};
use nix::sched::CloneFlags;
use std::io;
use std::time::{Duration, Instant};

/// How long the kernel may take to forget ended processes.
const EMPTY_MAX: Duration = Duration::from_secs(2);

/// Moves this process, and so everything it starts, into the group, which becomes the root of what is seen inside.
pub(crate) fn enter(path: &HostPath) -> io::Result<()> {
    std::fs::write(format!("{path}/cgroup.procs"), "0")?;
    Ok(nix::sched::unshare(CloneFlags::CLONE_NEWCGROUP)?)
}

/// Kills whatever is in the group; a note if that is not possible.
pub(crate) fn kill(op: &Op) -> Option<String> {
    let Op::ControlGroup { path } = op else { return None };
    let error = std::fs::write(format!("{path}/cgroup.kill"), "1").err()?;
    Some(format!("cannot kill the control group `{path}`: {error}"))
}

/// Removes the group, which is empty once the inner half is gone. What the kernel did about memory goes into a note.
pub(crate) fn leave(op: &Op) -> Option<String> {
    let Op::ControlGroup { path } = op else { return None };
    let events = std::fs::read_to_string(format!("{path}/memory.events")).unwrap_or_default();
    let killed = counted(&events, "oom_kill");
    let deadline = Instant::now() + EMPTY_MAX;
    while let Err(error) = std::fs::remove_dir(path) {
        let busy = error.raw_os_error() == Some(nix::errno::Errno::EBUSY as i32);
        if !busy || Instant::now() >= deadline {
            return Some(format!("cannot remove the control group `{path}`: {error}"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    (killed > 0).then(|| format!("the kernel killed {killed} processes that went over the memory limit"))
}

/// A counter of `memory.events`.
fn counted(events: &str, name: &str) -> u64 {
    let line = events.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn counters_are_found_by_their_whole_name() {
        let events = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 1\n";
        assert_eq!(super::counted(events, "oom_kill"), 2);
        assert_eq!(super::counted(events, "oom"), 3);
        assert_eq!(super::counted("", "oom_kill"), 0);
    }
}
