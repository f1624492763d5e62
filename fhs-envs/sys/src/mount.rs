//! Attributes of whole mount trees.
use crate::check;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// What to switch on for a mount, and for every mount below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(clippy::struct_excessive_bools, reason = "four independent kernel flags, each its own bit")]
pub struct Attributes {
    /// Refuse writes.
    pub read_only: bool,
    /// Set-id bits mean nothing.
    pub no_suid: bool,
    /// Device nodes cannot be opened.
    pub no_dev: bool,
    /// Nothing can be executed.
    pub no_exec: bool,
}

impl Attributes {
    fn bits(self) -> u64 {
        [
            (self.read_only, libc::MOUNT_ATTR_RDONLY),
            (self.no_suid, libc::MOUNT_ATTR_NOSUID),
            (self.no_dev, libc::MOUNT_ATTR_NODEV),
            (self.no_exec, libc::MOUNT_ATTR_NOEXEC),
        ]
        .iter()
        .filter(|(on, _)| *on)
        .fold(0, |bits, (_, bit)| bits | bit)
    }
}

/// Switches `set` on for the mount behind `mount` and, if `recursive`, for everything mounted below it.
/// An ordinary remount reaches the top mount only.
pub fn set_attributes(mount: impl AsFd, set: Attributes, recursive: bool) -> io::Result<()> {
    let attr = libc::mount_attr { attr_set: set.bits(), attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    let fd = mount.as_fd().as_raw_fd();
    // SAFETY: the path is a NUL-terminated literal; `attr` is an initialised struct of exactly the size given and
    // outlives the call, which only reads it; the descriptor is borrowed and stays open.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd,
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    check(done).map(drop)
}
