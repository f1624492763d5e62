//! Interfaces and addresses, by rtnetlink (linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h).
use hatchway_wire::op::INTERFACE_INDEX;
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::io;
use std::net::IpAddr;

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const NLMSG_ERROR: u16 = 2;
/// Request, acknowledge, create, and fail where it is there.
const FLAGS: u16 = 0x1 | 0x4 | 0x400 | 0x200;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// No search for another machine with the same address: there is none.
const IFA_F_NODAD: u8 = 2;
const IFF_UP: u32 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// `lo` is the first interface of every network namespace.
const LOOPBACK: u32 = 1;

/// Kinds that are an Ethernet interface by themselves, without a second end or a wire. Which of them a kernel has
/// differs; a bridge without ports is as good as a dummy.
const KINDS: [&str; 3] = ["dummy", "bridge", "ifb"];

/// Makes an interface that leads nowhere, with this name and hardware address, and brings it up.
pub(crate) fn make_interface(name: &str, mac: [u8; 6]) -> io::Result<()> {
    let mut last = Errno::OPNOTSUPP;
    for kind in KINDS {
        let mut body = vec![0; 16];
        // What is shown of it in /sys was planned with this number.
        body[4..8].copy_from_slice(&INTERFACE_INDEX.to_ne_bytes());
        body[8..12].copy_from_slice(&IFF_UP.to_ne_bytes());
        body[12..16].copy_from_slice(&IFF_UP.to_ne_bytes());
        attribute(&mut body, IFLA_IFNAME, &[name.as_bytes(), b"\0"].concat());
        attribute(&mut body, IFLA_ADDRESS, &mac);
        let mut info = Vec::new();
        attribute(&mut info, IFLA_INFO_KIND, kind.as_bytes());
        attribute(&mut body, IFLA_LINKINFO, &info);
        match request(RTM_NEWLINK, &body) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::OPNOTSUPP) => last = Errno::OPNOTSUPP,
            done => return done,
        }
    }
    Err(last.into())
}

/// Makes the loopback interface answer for an address.
pub(crate) fn add_loopback_address(address: IpAddr) -> io::Result<()> {
    let (family, bytes) = match address {
        IpAddr::V4(address) => (AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (AF_INET6, address.octets().to_vec()),
    };
    let prefix = if family == AF_INET { 32 } else { 128 };
    let mut body = vec![family, prefix, IFA_F_NODAD, 0];
    body.extend(LOOPBACK.to_ne_bytes());
    attribute(&mut body, IFA_LOCAL, &bytes);
    attribute(&mut body, IFA_ADDRESS, &bytes);
    match request(RTM_NEWADDR, &body) {
        // Two ports of one address.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::EXIST) => Ok(()),
        done => done,
    }
}

/// Length, type, value, padded to four bytes.
fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// One request; the kernel's answer is an error number, 0 for done.
fn request(kind: u16, body: &[u8]) -> io::Result<()> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None, // 0 is NETLINK_ROUTE
    )?;
    let length = u32::try_from(body.len() + 16).map_err(io::Error::other)?;
    let mut message = Vec::new();
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(FLAGS.to_ne_bytes());
    message.extend([0; 8]); // sequence number and port: ours alone
    message.extend(body);
    rustix::net::sendto(&socket, &message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut answer = [0; 4096];
    let (read, _) = rustix::net::recv(&socket, &mut answer[..], RecvFlags::empty())?;
    errno(answer.get(..read).unwrap_or_default())
}

fn errno(answer: &[u8]) -> io::Result<()> {
    let short = || io::Error::other("the kernel's answer is too short");
    let kind = answer.get(4..6).and_then(|b| b.try_into().ok()).map(u16::from_ne_bytes).ok_or_else(short)?;
    if kind != NLMSG_ERROR {
        return Err(io::Error::other("the kernel answered something else"));
    }
    let code =
        answer.get(16..20).and_then(|b| b.try_into().ok()).map(i32::from_ne_bytes).ok_or_else(short)?;
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_their_length_is_not() {
        let mut body = Vec::new();
        attribute(&mut body, 3, b"eth0\0");
        assert_eq!(body.len(), 12);
        assert_eq!(body[0..2], 9_u16.to_ne_bytes());
    }

    #[test]
    fn an_answer_that_is_cut_is_an_error() {
        for length in [0, 5, 16, 19] {
            assert!(errno(&vec![2; length]).is_err());
        }
    }
}
