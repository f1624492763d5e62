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

/// Removes the group, which is empty once the inner half is gone.
pub(crate) fn leave(op: &Op) -> Option<String> {
    let Op::ControlGroup { path } = op else { return None };
    let deadline = Instant::now() + EMPTY_MAX;
    while let Err(error) = std::fs::remove_dir(path) {
        let busy = error.raw_os_error() == Some(nix::errno::Errno::EBUSY as i32);
        if !busy || Instant::now() >= deadline {
            return Some(format!("cannot remove the control group `{path}`: {error}"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    None
}
