//! Relaying where this process's own network has the servers: each connection of the tool gets one to the server.
use super::line::Line;
use super::{CONNECTIONS_MAX, Doors, later, reset, udp};
use crate::channel::interest;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd;

/// Bytes on their way in one direction.
const BUFFER: usize = 64 * 1024;

pub(super) fn run(doors: Doors) -> io::Result<()> {
    let mut clients = udp::Clients::new(&doors.udp)?;
    doors.tcp.iter().try_for_each(|(_, listener)| listener.set_nonblocking(true))?;
    let mut lines = doors.lines.into_iter().map(Line::new).collect::<Vec<_>>();
    let mut open: Vec<Connection> = Vec::new();
    loop {
        lines.iter_mut().for_each(Line::begin);
        let accepting = open.len() < CONNECTIONS_MAX;
        let mut fds: Vec<PollFd<'_>> = Vec::new();
        let waiting = if accepting { PollFlags::POLLIN } else { PollFlags::empty() };
        fds.extend(doors.tcp.iter().map(|(_, listener)| PollFd::new(listener.as_fd(), waiting)));
        for connection in &open {
            fds.extend(connection.interest());
        }
        let of_tcp = fds.len();
        fds.extend(clients.interest());
        let of_udp = fds.len() - of_tcp;
        lines.iter().for_each(|line| fds.extend(line.interest()));
        match poll(&mut fds, timeout(&clients, &lines)) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready: Vec<PollFlags> = fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::POLLERR)).collect();
        drop(fds);
        let (ready, rest) = ready.split_at(of_tcp);
        clients.turn(&rest[..of_udp]);
        lines.iter_mut().for_each(Line::turn);
        let (heads, ends) = ready.split_at(doors.tcp.len());
        pass_on(&mut open, ends);
        let heads = doors.tcp.iter().zip(heads);
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

/// Until a client is to be forgotten, or a line tried again.
fn timeout(clients: &udp::Clients<'_>, lines: &[Line]) -> PollTimeout {
    let lines = lines.iter().filter_map(Line::timeout).min();
    match (clients.timeout(), lines) {
        (udp, None) => udp,
        (PollTimeout::NONE, Some(line)) => line,
        (udp, Some(line)) => udp.min(line),
    }
}

/// `ready`: what the ends of the connections that were waited for say, in their order.
fn pass_on(open: &mut Vec<Connection>, ready: &[PollFlags]) {
    let mut ready = ready.iter().copied();
    open.retain_mut(|connection| {
        let mut next = |waited: bool| if waited { ready.next() } else { None }.unwrap_or(PollFlags::empty());
        let [tool, other] = connection.waited();
        let (tool, other) = (next(tool), next(other));
        tool.is_empty() && other.is_empty() || connection.turn(tool, other).unwrap_or(false)
    });
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
pub(super) struct Lane {
    waiting: Vec<u8>,
    read_end: bool,
    write_end: bool,
}

impl Lane {
    pub(super) fn wants_read(&self) -> bool {
        !self.read_end && self.waiting.is_empty()
    }

    pub(super) fn wants_write(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.read_end
    }

    /// Moves what can be moved without waiting, and passes the end on.
    fn turn(&mut self, from: &TcpStream, to: &TcpStream) -> io::Result<()> {
        self.pass(from, to)?;
        if self.read_end && self.waiting.is_empty() && !self.write_end {
            self.write_end = true;
            to.shutdown(Shutdown::Write)?;
        }
        Ok(())
    }

    /// Moves what can be moved without waiting.
    pub(super) fn pass(&mut self, mut from: impl Read, mut to: impl Write) -> io::Result<()> {
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
        Ok(())
    }
}

/// Begins a connection.
pub(super) fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    rustix::net::sockopt::set_tcp_nodelay(&socket, true)?;
    match rustix::net::connect(&socket, &to) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(TcpStream::from(socket)),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether a connection that was begun is there.
pub(super) fn is_connected(stream: &TcpStream) -> io::Result<bool> {
    match stream.take_error()? {
        Some(error) => Err(error),
        None => Ok(stream.peer_addr().is_ok()),
    }
}

impl Connection {
    fn new(tool: TcpStream, to: SocketAddr) -> io::Result<Self> {
        // Commands to instruments are short and wait for an answer.
        tool.set_nodelay(true)?;
        tool.set_nonblocking(true)?;
        let other = connect(to).inspect_err(|_| reset(&tool))?;
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
        if self.connected {
            [
                interest(self.out.wants_read(), self.back.wants_write()),
                interest(self.back.wants_read(), self.out.wants_write()),
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
            // Woken by the tool's end alone: the other side has not answered yet.
            if !is_connected(&self.other)? {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A relay on a thread, from one port of this machine to another.
    fn relay(to: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        std::thread::spawn(move || run(Doors { tcp: vec![(to, listener)], ..Doors::default() }).unwrap());
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
