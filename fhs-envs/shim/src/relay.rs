//! An allow-list of addresses without a packet filter: the unit's own loopback interface answers for each address, the
//! shim listens there, and passes what connects on to the same address of the host's network. Nothing else has a
//! route. It needs no privilege on the host, no veth pair, no forwarding and no netfilter, so it is the same for root
//! and for an ordinary user.
//!
//! What differs from a real route: the kernel accepts a connection before the other side has; if that refuses, the tool
//! sees a reset instead of a refusal. The other side sees the host's address. Of UDP, nothing says that a datagram was
//! refused; see `relay/udp.rs`.
mod udp;

use crate::channel::Channel;
use crate::link;
use hatchway_sys::process::{Fork, fork};
use hatchway_wire::attend::{Handed, Report};
use hatchway_wire::{Endpoint, Process, Transport};
use nix::poll::{PollFd, PollFlags, poll};
use nix::unistd::Pid;
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// Connections at a time; more wait in the kernel's queue. Each holds two buffers.
const CONNECTIONS_MAX: usize = 128;
/// Bytes on their way in one direction.
const BUFFER: usize = 64 * 1024;

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
}

impl Doors {
    pub(crate) fn add(&mut self, to: Endpoint, fd: OwnedFd) {
        match to.transport {
            Transport::Tcp => self.tcp.push((to.address, fd.into())),
            Transport::Udp => self.udp.push((to.address, fd.into())),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tcp.is_empty() && self.udp.is_empty()
    }
}

/// Starts the process that relays. It runs on the host with the tool's ids and nothing else, and ends with the shim.
pub(crate) fn start(doors: &Doors, process: &Process) -> io::Result<Pid> {
    match fork()? {
        Fork::Parent(pid) => Ok(pid),
        Fork::Child => {
            // Nobody waits for the reason: the tool sees that nothing answers.
            let done = become_relay(process).and_then(|()| run(doors));
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

fn run(doors: &Doors) -> io::Result<()> {
    let listeners = &doors.tcp;
    let mut clients = udp::Clients::new(&doors.udp)?;
    listeners.iter().try_for_each(|(_, listener)| listener.set_nonblocking(true))?;
    let mut open: Vec<Connection> = Vec::new();
    loop {
        let accepting = open.len() < CONNECTIONS_MAX;
        let mut fds: Vec<PollFd<'_>> = Vec::new();
        let waiting = if accepting { PollFlags::POLLIN } else { PollFlags::empty() };
        fds.extend(listeners.iter().map(|(_, listener)| PollFd::new(listener.as_fd(), waiting)));
        for connection in &open {
            fds.extend(connection.interest());
        }
        let of_tcp = fds.len();
        fds.extend(clients.interest());
        match poll(&mut fds, clients.timeout()) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready: Vec<PollFlags> = fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::POLLERR)).collect();
        drop(fds);
        let (ready, datagrams) = ready.split_at(of_tcp);
        clients.turn(datagrams);
        let (heads, ends) = ready.split_at(listeners.len());
        let mut ends = ends.iter().copied();
        open.retain_mut(|connection| {
            let mut next =
                |waited: bool| if waited { ends.next() } else { None }.unwrap_or(PollFlags::empty());
            let [tool, other] = connection.waited();
            let (tool, other) = (next(tool), next(other));
            tool.is_empty() && other.is_empty() || connection.turn(tool, other).unwrap_or(false)
        });
        let heads = listeners.iter().zip(heads);
        for ((to, listener), _) in heads.filter(|(_, ready)| !ready.is_empty() && accepting) {
            // The tool may be gone already, and the other side may refuse: that is between the two.
            if let Ok((tool, _)) = listener.accept()
                && let Ok(connection) = Connection::new(tool, *to)
            {
                open.push(connection);
            }
        }
    }
}

/// The tool's end and the other side's, with what is on its way between them.
#[derive(Debug)]
struct Connection {
    tool: TcpStream,
    other: TcpStream,
    connected: bool,
    /// The kernel has said that the tool's end, or the other side's, is closed or broken. It says so again at every
    /// look, so this end is looked at only while something is wanted of it.
    hung: [bool; 2],
    out: Lane,
    back: Lane,
}

/// One direction.
#[derive(Debug, Default)]
struct Lane {
    waiting: Vec<u8>,
    read_end: bool,
    write_end: bool,
}

impl Lane {
    fn wants_read(&self) -> bool {
        !self.read_end && self.waiting.is_empty()
    }

    fn wants_write(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Moves what can be moved without waiting.
    fn turn(&mut self, mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
        if self.wants_read() {
            let mut bytes = vec![0; BUFFER];
            match from.read(&mut bytes) {
                Ok(0) => self.read_end = true,
                Ok(read) => {
                    bytes.truncate(read);
                    self.waiting = bytes;
                }
                Err(error) if later(&error) => {}
                Err(error) => return Err(error),
            }
        }
        while !self.waiting.is_empty() {
            match to.write(&self.waiting) {
                Ok(written) => drop(self.waiting.drain(..written)),
                Err(error) if later(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        if self.read_end && !self.write_end {
            self.write_end = true;
            to.shutdown(Shutdown::Write)?;
        }
        Ok(())
    }
}

fn later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

impl Connection {
    fn new(tool: TcpStream, to: SocketAddr) -> io::Result<Self> {
        // Commands to instruments are short and wait for an answer.
        tool.set_nodelay(true)?;
        tool.set_nonblocking(true)?;
        let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        rustix::net::sockopt::set_tcp_nodelay(&socket, true)?;
        let other = match rustix::net::connect(&socket, &to) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => TcpStream::from(socket),
            Err(errno) => {
                reset(&tool);
                return Err(errno.into());
            }
        };
        Ok(Self {
            tool,
            other,
            connected: false,
            hung: [false; 2],
            out: Lane::default(),
            back: Lane::default(),
        })
    }

    /// Which ends are waited for: the tool's, the other side's.
    fn waited(&self) -> [bool; 2] {
        let [tool, other] = self.wishes();
        [!(self.hung[0] && tool.is_empty()), !(self.hung[1] && other.is_empty())]
    }

    /// Those ends, and for what.
    fn interest(&self) -> impl Iterator<Item = PollFd<'_>> {
        let ends = [self.tool.as_fd(), self.other.as_fd()].into_iter().zip(self.wishes());
        ends.zip(self.waited()).filter(|(_, waited)| *waited).map(|((fd, wish), _)| PollFd::new(fd, wish))
    }

    fn wishes(&self) -> [PollFlags; 2] {
        let wish = |read: bool, write: bool| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::POLLIN, read);
            flags.set(PollFlags::POLLOUT, write);
            flags
        };
        if self.connected {
            [
                wish(self.out.wants_read(), self.back.wants_write()),
                wish(self.back.wants_read(), self.out.wants_write()),
            ]
        } else {
            [PollFlags::empty(), PollFlags::POLLOUT]
        }
    }

    /// False when both directions are at their end.
    fn turn(&mut self, tool: PollFlags, other: PollFlags) -> io::Result<bool> {
        let done = self.pass_on(tool, other);
        if done.is_err() {
            reset(&self.tool);
            reset(&self.other);
        }
        done
    }

    fn pass_on(&mut self, tool: PollFlags, other: PollFlags) -> io::Result<bool> {
        let closed = PollFlags::POLLERR | PollFlags::POLLHUP;
        self.hung = [self.hung[0] || tool.intersects(closed), self.hung[1] || other.intersects(closed)];
        if !self.connected {
            if self.hung[0] {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            if let Some(error) = self.other.take_error()? {
                return Err(error);
            }
            // Woken by the tool's end alone: the other side has not answered yet.
            if self.other.peer_addr().is_err() {
                return Ok(true);
            }
            self.connected = true;
        }
        self.out.turn(&self.tool, &self.other)?;
        self.back.turn(&self.other, &self.tool)?;
        // Where no more is read, a break is not noticed otherwise. What was read before is still passed on.
        let broken = |flags: PollFlags, from: &Lane| flags.contains(PollFlags::POLLERR) && from.read_end;
        if broken(tool, &self.out) || broken(other, &self.back) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(!(self.out.write_end && self.back.write_end))
    }
}

/// What is not passed on must not look as if it was: the end of this connection is an error to whoever has the other
/// end.
fn reset(stream: &TcpStream) {
    rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO)).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A relay on a thread, from one port of this machine to another.
    fn relay(to: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        std::thread::spawn(move || run(&Doors { tcp: vec![(to, listener)], udp: Vec::new() }).unwrap());
        at
    }

    #[test]
    fn what_is_sent_arrives_and_the_end_of_each_direction_is_its_own() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = relay(server.local_addr().unwrap());
        let much: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let expected = much.clone();
        let answering = std::thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            let mut got = Vec::new();
            stream.read_to_end(&mut got).unwrap();
            assert_eq!(got, expected);
            stream.write_all(&got).unwrap();
        });
        let mut stream = TcpStream::connect(at).unwrap();
        stream.write_all(&much).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut back = Vec::new();
        stream.read_to_end(&mut back).unwrap();
        answering.join().unwrap();
        assert_eq!(back, much);
    }

    #[test]
    fn a_reset_after_the_end_reaches_the_other_side() {
        // Either side: the one that ends its direction and then resets, while the other stays.
        for tool_resets in [true, false] {
            let server = TcpListener::bind("127.0.0.1:0").unwrap();
            let at = relay(server.local_addr().unwrap());
            let tool = TcpStream::connect(at).unwrap();
            let (other, _) = server.accept().unwrap();
            let (mut gone, mut stays) = if tool_resets { (tool, other) } else { (other, tool) };
            gone.write_all(b"x").unwrap();
            gone.shutdown(Shutdown::Write).unwrap();
            let mut got = Vec::new();
            stays.read_to_end(&mut got).unwrap();
            assert_eq!(got, b"x");
            reset(&gone);
            drop(gone);
            let mut fds = [PollFd::new(stays.as_fd(), PollFlags::empty())];
            assert_eq!(poll(&mut fds, nix::poll::PollTimeout::from(10_000_u16)), Ok(1), "{tool_resets}");
            assert!(fds[0].revents().unwrap().contains(PollFlags::POLLERR), "{tool_resets}");
        }
    }

    #[test]
    fn a_refusal_is_an_error_and_no_end() {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = relay(gone.local_addr().unwrap());
        drop(gone);
        let mut stream = TcpStream::connect(at).unwrap();
        assert!(stream.read(&mut [0]).is_err());
    }
}
