//! Ends a guest that hangs after whoever started it is gone: its init cannot, and nobody else knows of it.
use crate::error::{Error, Step};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use std::os::fd::{AsFd, OwnedFd};

/// `way`: a pipe whose other end whoever started the guest has; `process`: the machine, as a descriptor. From the end of the
/// one the other has so many milliseconds.
pub(crate) fn run(way: &OwnedFd, process: &OwnedFd, ms: u64) -> Result<i32, Error> {
    SigSet::all().thread_block().step("block signals")?;
    rustix::process::setsid().ok();
    let ended = |fds: &[PollFd<'_>], index: usize| fds[index].any().unwrap_or(true);
    loop {
        // Nothing is written to the pipe: it only ends.
        let mut fds =
            [PollFd::new(process.as_fd(), PollFlags::POLLIN), PollFd::new(way.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(nix::Error::EINTR) => continue,
            done => drop(done.step("watch the guest")?),
        }
        if ended(&fds, 0) {
            return Ok(0);
        }
        break;
    }
    let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    let patience = PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX);
    poll(&mut fds, patience).step("watch the guest")?;
    if !ended(&fds, 0) {
        // By a descriptor: the number may be another's by now.
        rustix::process::pidfd_send_signal(process, rustix::process::Signal::KILL).step("end the guest")?;
    }
    Ok(0)
}
