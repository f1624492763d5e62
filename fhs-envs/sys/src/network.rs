//! Interfaces of a network namespace: the loopback's, and the one of a guest.
use crate::check;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

/// From linux/sockios.h; libc's constant has the type of glibc's `ioctl` whatever the C library is.
const SIOCSIFFLAGS: libc::Ioctl = 0x8914;
const SIOCSIFADDR: libc::Ioctl = 0x8916;
const SIOCSIFNETMASK: libc::Ioctl = 0x891c;
const SIOCADDRT: libc::Ioctl = 0x890b;

/// Brings `lo` up in the network namespace of the calling process.
pub fn loopback_up() -> io::Result<()> {
    loopback(libc::IFF_UP | libc::IFF_RUNNING)
}

/// Takes `lo` down in the network namespace of the calling process.
pub fn loopback_down() -> io::Result<()> {
    loopback(0)
}

/// Gives an interface an IPv4 address, brings it up, and makes `gateway` the way to everything else.
///
/// # Errors
/// Names of more than 15 bytes; what the kernel refuses.
pub fn address(name: &str, own: Ipv4Addr, mask: Ipv4Addr, gateway: Ipv4Addr) -> io::Result<()> {
    let socket = socket()?;
    let flags = libc::IFF_UP | libc::IFF_RUNNING;
    set(&socket, name, SIOCSIFADDR, libc::__c_anonymous_ifr_ifru { ifru_addr: internet(own) })?;
    set(&socket, name, SIOCSIFNETMASK, libc::__c_anonymous_ifr_ifru { ifru_netmask: internet(mask) })?;
    set(&socket, name, SIOCSIFFLAGS, libc::__c_anonymous_ifr_ifru { ifru_flags: short(flags) })?;
    let any = internet(Ipv4Addr::UNSPECIFIED);
    let route = libc::rtentry {
        rt_dst: any,
        rt_genmask: any,
        rt_gateway: internet(gateway),
        rt_flags: libc::RTF_UP | libc::RTF_GATEWAY,
        rt_pad1: 0,
        rt_pad2: 0,
        rt_pad3: 0,
        rt_tos: 0,
        rt_class: 0,
        rt_pad4: [0; 3],
        rt_metric: 0,
        rt_dev: std::ptr::null_mut(),
        rt_mtu: 0,
        rt_window: 0,
        rt_irtt: 0,
    };
    // SAFETY: SIOCADDRT reads a whole `rtentry`; `route` is one, all fields set, its only pointers that are read are
    // null (`rt_dev`: no interface named), and it outlives the call; the socket is open.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCADDRT, &raw const route) }).map(drop)
}

/// An IPv4 address as `ifreq` and `rtentry` have it.
fn internet(address: Ipv4Addr) -> libc::sockaddr {
    let mut data = [0; 14];
    // Behind two bytes of a port, in the order of the network.
    for (to, from) in data[2..].iter_mut().zip(address.octets()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    let family = libc::sa_family_t::try_from(libc::AF_INET).unwrap_or_default();
    libc::sockaddr { sa_family: family, sa_data: data }
}

fn short(flags: libc::c_int) -> libc::c_short {
    libc::c_short::try_from(flags).unwrap_or_default()
}

fn loopback(flags: libc::c_int) -> io::Result<()> {
    let value = libc::__c_anonymous_ifr_ifru { ifru_flags: short(flags) };
    set(&socket()?, "lo", SIOCSIFFLAGS, value)
}

fn socket() -> io::Result<OwnedFd> {
    Ok(nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Inet,
        nix::sys::socket::SockType::Datagram,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        None,
    )?)
}

/// One of the requests that set something of an interface.
fn set(
    socket: &OwnedFd,
    name: &str,
    what: libc::Ioctl,
    value: libc::__c_anonymous_ifr_ifru,
) -> io::Result<()> {
    if name.len() >= libc::IFNAMSIZ {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut terminated = [0; libc::IFNAMSIZ];
    for (to, from) in terminated.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    let request = libc::ifreq { ifr_name: terminated, ifr_ifru: value };
    // SAFETY: the four requests of this file read a whole `ifreq`; `request` is one, its name zero-terminated (checked
    // above) and the field of the union set that the request reads, and it outlives the call; the socket is open.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), what, &raw const request) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_lies_behind_its_port() {
        let address = internet(Ipv4Addr::new(10, 0, 2, 255));
        assert_eq!(address.sa_family, 2);
        assert_eq!(address.sa_data.map(|byte| byte.to_ne_bytes()[0])[..8], [0, 0, 10, 0, 2, 255, 0, 0]);
    }

    #[test]
    fn names_that_are_too_long_are_refused() {
        let any = Ipv4Addr::UNSPECIFIED;
        let error = address("sixteen-bytes-xx", any, any, any).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
