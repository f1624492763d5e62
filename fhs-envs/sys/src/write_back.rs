//! Sending written data to the disk ahead of the moment when somebody waits for it.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use crate::check;

/// Begins to write a file's changed pages to the disk, all of them, and does not wait. It promises nothing about what is
/// durable: that takes `fsync` or `syncfs`, which have less to wait for then.
///
/// # Errors
/// What `sync_file_range(2)` gives: the descriptor is no regular file.
pub fn begin(file: impl AsFd) -> io::Result<()> {
    let descriptor = file.as_fd().as_raw_fd();
    // SAFETY: takes an open descriptor, which the borrow keeps open, and numbers; it touches no memory of ours.
    let result = unsafe { libc::sync_file_range(descriptor, 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
    check(result).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_sent_and_a_pipe_is_not() {
        begin(std::fs::File::open("/proc/self/exe").unwrap()).unwrap();
        let (reader, _writer) = std::io::pipe().unwrap();
        assert!(begin(reader).is_err());
    }
}
