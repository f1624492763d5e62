//! Locks that belong to an open file description: they survive `execve`, are shared by copies of the descriptor
//! and end with the last one.
use nix::fcntl::{FcntlArg, fcntl};
use std::io;
use std::os::fd::AsFd;

/// The whole file. `l_pid` must be 0 for this kind of lock.
fn whole(kind: libc::c_int) -> libc::flock {
    let l_type = libc::c_short::try_from(kind).unwrap_or_default();
    let l_whence = libc::c_short::try_from(libc::SEEK_SET).unwrap_or_default();
    libc::flock { l_type, l_whence, l_start: 0, l_len: 0, l_pid: 0 }
}

/// Takes the lock shared, waiting for an exclusive holder.
pub fn lock_shared(file: impl AsFd) -> io::Result<()> {
    fcntl(file, FcntlArg::F_OFD_SETLKW(&whole(libc::F_RDLCK))).map(drop).map_err(io::Error::from)
}

/// Takes the lock shared; `false` if somebody holds it exclusively.
pub fn try_lock_shared(file: impl AsFd) -> io::Result<bool> {
    attempt(file, libc::F_RDLCK)
}

/// Takes the lock exclusively; `false` if somebody holds it. The file must be open for writing.
pub fn try_lock_exclusive(file: impl AsFd) -> io::Result<bool> {
    attempt(file, libc::F_WRLCK)
}

/// Takes the lock exclusively, waiting for every holder. The file must be open for writing.
pub fn lock_exclusive(file: impl AsFd) -> io::Result<()> {
    fcntl(file, FcntlArg::F_OFD_SETLKW(&whole(libc::F_WRLCK))).map(drop).map_err(io::Error::from)
}

/// Gives the lock up before the descriptor is closed.
pub fn unlock(file: impl AsFd) -> io::Result<()> {
    fcntl(file, FcntlArg::F_OFD_SETLK(&whole(libc::F_UNLCK))).map(drop).map_err(io::Error::from)
}

fn attempt(file: impl AsFd, kind: libc::c_int) -> io::Result<bool> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&whole(kind))) {
        Ok(_) => Ok(true),
        Err(nix::Error::EAGAIN | nix::Error::EACCES) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}
