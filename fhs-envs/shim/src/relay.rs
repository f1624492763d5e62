//! An allow-list of addresses without a packet filter: the unit's own loopback interface answers for each address, the
//! shim listens there, and passes what connects on to the same address of the host's network. Nothing else has a
//! route. It needs no privilege on the host, no veth pair, no forwarding and no netfilter, so it is the same for root
//! and for an ordinary user.
//!
//! What differs from a real route: the kernel accepts a connection before the other side has; if that refuses, the tool
//! sees a reset instead of a refusal. The other side sees the host's address. Of UDP, nothing says that a datagram was
//! refused; see `relay/udp.rs`.
//!
//! Channels take the same way, and their doors are more: a port at another address than the server's, and serial lines
//! (`relay/line.rs`). In a container and in a guest, where this process's own network has no servers, `hatchway run` connects,
//! and all of it goes over one way to it (`relay/through.rs`).
mod direct;
mod line;
mod through;
mod udp;

use crate::channel::Channel;
use crate::link;
use hatchway_sys::process::{Fork, fork};
use hatchway_wire::attend::{Handed, Report};
use hatchway_wire::{Endpoint, Process, Transport};
use nix::unistd::Pid;
use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// Connections at a time; more wait in the kernel's queue. Each holds two buffers.
const CONNECTIONS_MAX: usize = 128;
/// How long a line waits until its server is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// The inner half's side: addresses, and a listener for each, handed to the attendant.
pub(crate) fn listen(to: &[Endpoint], channel: &Channel) -> io::Result<()> {
    let addresses = to.iter().map(|to| to.address.ip());
    for address in addresses.filter(|ip| !ip.is_loopback()).collect::<BTreeSet<_>>() {
        link::add_loopback_address(address)?;
    }
    for to in to {
        let door: OwnedFd = match to.transport {
            Transport::Tcp => TcpListener::bind(to.address)?.into(),
            Transport::Udp => UdpSocket::bind(to.address)?.into(),
        };
        channel.send(&Report::Handed(Handed::Listener { to: *to }), Some(door.as_fd()))?;
    }
    Ok(())
}

/// Where the tool can knock: the sockets in the unit's network, with the servers they stand for.
#[derive(Debug, Default)]
pub(crate) struct Doors {
    tcp: Vec<(SocketAddr, TcpListener)>,
    udp: Vec<udp::Door>,
    lines: Vec<LineDoor>,
}

/// A serial line of the tool's.
#[derive(Debug)]
struct LineDoor {
    master: File,
    /// Held open, or the master would hang up whenever the tool closes its line.
    _slave: OwnedFd,
    to: SocketAddr,
}

impl Doors {
    pub(crate) fn add(&mut self, to: Endpoint, fd: OwnedFd) {
        match to.transport {
            Transport::Tcp => self.tcp.push((to.address, fd.into())),
            Transport::Udp => self.udp.push((to.address, fd.into())),
        }
    }

    pub(crate) fn add_line(&mut self, to: Endpoint, master: OwnedFd) -> io::Result<()> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
        let status = rustix::fs::fcntl_getfl(&master)?;
        rustix::fs::fcntl_setfl(&master, status | OFlags::NONBLOCK)?;
        self.lines.push(LineDoor { master: master.into(), _slave: slave, to: to.address });
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tcp.is_empty() && self.udp.is_empty() && self.lines.is_empty()
    }
}

/// Starts the process that relays. It runs outside of the sandbox with the tool's ids and nothing else, and ends with the shim.
pub(crate) fn start(doors: Doors, process: &Process, way: Option<OwnedFd>) -> io::Result<Pid> {
    match fork()? {
        Fork::Parent(pid) => Ok(pid),
        Fork::Child => {
            // Nobody waits for the reason: the tool sees that nothing answers.
            let done = become_relay(process).and_then(|()| match way {
                None => direct::run(doors),
                Some(way) => through::run(doors, way),
            });
            hatchway_sys::process::end_at_once(u8::from(done.is_err()))
        }
    }
}

fn become_relay(process: &Process) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    rustix::thread::set_name(c"hatchway-relay")?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    if rustix::process::geteuid().is_root() {
        let (uid, gid) = (nix::unistd::Uid::from_raw(process.uid), nix::unistd::Gid::from_raw(process.gid));
        nix::unistd::setgroups(&[])?;
        nix::unistd::setresgid(gid, gid, gid)?;
        nix::unistd::setresuid(uid, uid, uid)?;
        // A change of user takes the wish back.
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    }
    rustix::thread::set_no_new_privs(true)?;
    crate::privileges::hide()
}

fn later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// What is not passed on must not look as if it was: the end of this connection is an error to whoever has the other
/// end.
fn reset(stream: &TcpStream) {
    rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO)).ok();
}
