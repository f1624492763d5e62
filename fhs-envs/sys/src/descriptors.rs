//! Descriptors that must not travel on.
use crate::check;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

/// Marks every descriptor from `first` on to be closed at the next `execve`, except those in `keep`, which are
/// marked to stay open. Nothing is closed now, so no live handle in this process loses its descriptor.
pub fn close_on_exec_from(first: RawFd, keep: &[RawFd]) -> io::Result<()> {
    let first_unsigned = libc::c_uint::try_from(first).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: with CLOSE_RANGE_CLOEXEC the call changes one flag per descriptor and closes none; it takes no pointer.
    let done = unsafe {
        libc::syscall(libc::SYS_close_range, first_unsigned, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    };
    if check(done).is_err() {
        // Before Linux 5.11.
        for entry in std::fs::read_dir("/proc/self/fd")? {
            let number = entry?.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok());
            if let Some(fd) = number.filter(|fd| *fd >= first) {
                set_close_on_exec(fd, true)?;
            }
        }
    }
    keep.iter().try_for_each(|fd| set_close_on_exec(*fd, false))
}

/// Marks one descriptor to be closed, or to stay open, at the next `execve`.
pub fn set_close_on_exec(fd: RawFd, close: bool) -> io::Result<()> {
    let flag = if close { libc::FD_CLOEXEC } else { 0 };
    // SAFETY: F_SETFD changes one flag of a descriptor, or fails with EBADF; it neither closes nor takes a pointer.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, flag) }).map(drop)
}

/// A descriptor of one's own for what this process was started with under a number. The number stays open as it is.
pub fn copy_of(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the number is not -1, which is all that the type demands of its value. It is used for one system call, which copies
    // what is open under it or fails with EBADF, and is not closed.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    borrowed.try_clone_to_owned()
}
