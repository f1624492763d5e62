//! The loopback interface of a network namespace.
use crate::check;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// From linux/sockios.h; libc's constant has the type of glibc's `ioctl` whatever the C library is.
const SIOCSIFFLAGS: libc::Ioctl = 0x8914;

/// Brings `lo` up in the network namespace of the calling process.
pub fn loopback_up() -> io::Result<()> {
    loopback(libc::IFF_UP | libc::IFF_RUNNING)
}

/// Takes `lo` down in the network namespace of the calling process.
pub fn loopback_down() -> io::Result<()> {
    loopback(0)
}

fn loopback(flags: libc::c_int) -> io::Result<()> {
    let socket: OwnedFd = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Inet,
        nix::sys::socket::SockType::Datagram,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let mut name = [0; libc::IFNAMSIZ];
    for (to, from) in name.iter_mut().zip(b"lo") {
        *to = libc::c_char::try_from(*from).unwrap_or_default();
    }
    let flags = libc::c_short::try_from(flags).unwrap_or_default();
    let request =
        libc::ifreq { ifr_name: name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: flags } };
    // SAFETY: SIOCSIFFLAGS reads a whole `ifreq`; `request` is one, zero-terminated name and flags set, and
    // outlives the call; the socket is open.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCSIFFLAGS, &raw const request) }).map(drop)
}
