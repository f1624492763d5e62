//! Virtio ports: character devices by name. Reading one whose other end is not open gives an end at once, so nothing is
//! read before it is.
use super::machine::{appearing, missing};
use crate::error::{Error, Step};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fs::{Mode, OFlags};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

/// Opens the port of a name, without waiting in what is done with it.
pub(super) fn open(name: &str) -> Result<OwnedFd, Error> {
    let device = appearing(|| device_of(name)).ok_or_else(|| missing(&format!("find the port `{name}`")))?;
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let port = rustix::fs::open(&device, flags, Mode::empty())
        .map_err(|errno| Error::Guest { step: format!("open the port `{name}`"), source: errno.into() })?;
    appearing(|| (!is_hung_up(&port)).then_some(()))
        .ok_or_else(|| missing(&format!("find anybody at the other end of the port `{name}`")))?;
    Ok(port)
}

/// Nobody is at the other end.
pub(super) fn is_hung_up(port: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(port.as_fd(), PollFlags::empty())];
    matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1..))
        && fds[0].revents().is_some_and(|is| is.contains(PollFlags::POLLHUP))
}

fn device_of(name: &str) -> Option<PathBuf> {
    let entries = fs::read_dir("/sys/class/virtio-ports").ok()?.flatten();
    let named = |entry: &fs::DirEntry| {
        fs::read_to_string(entry.path().join("name")).is_ok_and(|own| own.trim_end() == name)
    };
    let found = entries.into_iter().find(named)?;
    let device = PathBuf::from("/dev").join(found.file_name());
    device.exists().then_some(device)
}

/// Nothing that is done with it waits.
pub(super) fn nonblocking(fd: &OwnedFd) -> Result<(), Error> {
    let flags = rustix::fs::fcntl_getfl(fd).step("carry a stream")?;
    rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK).step("carry a stream")
}
