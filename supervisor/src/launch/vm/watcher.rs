//! Who ends a guest that hangs when this process is gone: a process of the shim's that has the end of a pipe, and QEMU as a
//! descriptor.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::pipe::{PipeFlags, pipe_with};

use super::super::shim;
use crate::error::Error;

/// As long as it lives, the guest is left alone.
#[derive(Debug)]
pub(super) struct Watched {
    _alive: OwnedFd,
}

/// `patience`: what the guest has from the end of this process to its own.
pub(super) fn start(machine: BorrowedFd<'_>, patience: Duration) -> Result<Watched, Error> {
    let failed = |errno: rustix::io::Errno| Error::io("watch", "QEMU")(errno.into());
    let (way, alive) = pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
    // Copies for the watcher alone: nothing else is started meanwhile.
    let machine = rustix::io::fcntl_dupfd_cloexec(machine, 3).map_err(failed)?;
    for fd in [way.as_fd(), machine.as_fd()] {
        fcntl_setfd(fd, FdFlags::empty()).map_err(failed)?;
    }
    let numbers = [way.as_raw_fd(), machine.as_raw_fd()].map(|fd| fd.to_string());
    let mut command = Command::new(shim()?);
    command.arg("--watch").args(numbers).arg(patience.as_millis().to_string()).env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    // It ends with the guest, and is nobody's to wait for.
    let started = command.spawn();
    drop(started.map_err(Error::io("start", "hatchway-shim"))?);
    Ok(Watched { _alive: alive })
}
