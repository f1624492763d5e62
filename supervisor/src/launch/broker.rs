//! The outer end of a unit's channels: where the unit's own relay has no servers, in a container or a guest, it asks here, and
//! this process connects ([`hatchway_wire::mux`]). It asks for servers that were bound and gets no others.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use hatchway_envs::sandbox::Endpoint;
use hatchway_wire::mux::frame::Broken;
use hatchway_wire::mux::{Event, Local, Mux, Side};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::packets::interest;

/// Bytes that are read from the way at once.
const READ: usize = 64 << 10;

/// What is between the way and the servers.
#[derive(Debug)]
pub(super) struct Broker {
    mux: Mux,
    allowed: Vec<Endpoint>,
    /// Connections that were begun.
    dialled: Vec<(u32, Endpoint, TcpStream)>,
    /// Servers of which was said that they do not answer.
    told: BTreeSet<Endpoint>,
    /// It was said that the unit asks for servers that were not bound.
    asked_for_others: bool,
    ended: bool,
}

/// What a person should know.
pub(super) type Words = Vec<String>;

impl Broker {
    /// `None` where the unit leads nowhere.
    pub(super) fn new(allowed: Vec<Endpoint>) -> Option<Self> {
        let new = |allowed| Self {
            mux: Mux::new(Side::Outer),
            allowed,
            dialled: Vec::new(),
            told: BTreeSet::new(),
            asked_for_others: false,
            ended: false,
        };
        (!allowed.is_empty()).then(|| new(allowed))
    }

    /// What to wait for.
    pub(super) fn watches<'a>(&'a self, way: BorrowedFd<'a>) -> Vec<PollFd<'a>> {
        if self.ended {
            return Vec::new();
        }
        let mut all =
            vec![PollFd::from_borrowed_fd(way, interest(self.mux.hears(), !self.mux.out().is_empty()))];
        let dialled = self.dialled.iter().map(|(.., stream)| (stream.as_fd(), PollFlags::OUT));
        let local = self.mux.wishes().map(|(_, fd, read, write)| (fd, interest(read, write)));
        all.extend(dialled.chain(local).map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags)));
        all
    }

    /// Moves what can be moved without waiting.
    ///
    /// # Errors
    /// [`Broken`]: the unit is not listened to any more.
    pub(super) fn turn(&mut self, way: BorrowedFd<'_>) -> Result<Words, Broken> {
        let mut words = Words::new();
        if self.ended {
            return Ok(words);
        }
        if self.mux.hears() {
            let mut bytes = vec![0; READ];
            match rustix::io::read(way, &mut bytes[..]) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                Ok(0) | Err(_) => self.ended = true,
                Ok(count) => {
                    for event in self.mux.take(&bytes[..count])? {
                        if let Event::Wanted { id, target } = event {
                            words.extend(self.dial(id, &target));
                        }
                    }
                }
            }
        }
        words.extend(self.answer());
        drop(self.mux.turn());
        while !self.mux.out().is_empty() {
            match rustix::io::write(way, self.mux.out()) {
                Ok(0) | Err(Errno::AGAIN | Errno::INTR) => break,
                Ok(count) => self.mux.written(count),
                Err(_) => {
                    self.ended = true;
                    break;
                }
            }
        }
        Ok(words)
    }

    fn dial(&mut self, id: u32, target: &str) -> Option<String> {
        if !self.mux.has(id) {
            // Taken back in the same breath.
            return None;
        }
        self.dialled.retain(|(own, ..)| *own != id);
        let to = target.parse::<Endpoint>().ok().filter(|to| self.allowed.contains(to));
        let Some(to) = to else {
            self.mux.refuse(id);
            let first = !std::mem::replace(&mut self.asked_for_others, true);
            return first
                .then(|| "the unit asked for a server that nothing was bound to: refused".to_owned());
        };
        match connect(to) {
            Ok(stream) => {
                self.dialled.push((id, to, stream));
                None
            }
            Err(error) => self.refused(id, to, &error),
        }
    }

    /// Takes those that are there by now.
    fn answer(&mut self) -> Words {
        let mut words = Words::new();
        for (id, to, stream) in std::mem::take(&mut self.dialled) {
            let there = match stream.take_error() {
                Ok(None) => Ok(stream.peer_addr().is_ok()),
                Ok(Some(error)) | Err(error) => Err(error),
            };
            match there {
                // The unit may not want it any more.
                _ if !self.mux.has(id) => {}
                Ok(false) => self.dialled.push((id, to, stream)),
                Ok(true) => {
                    self.told.remove(&to);
                    self.mux.accept(id, Box::new(Remote(stream)));
                }
                Err(error) => words.extend(self.refused(id, to, &error)),
            }
        }
        words
    }

    fn refused(&mut self, id: u32, to: Endpoint, error: &io::Error) -> Option<String> {
        self.mux.refuse(id);
        // A line is tried again each second.
        self.told.insert(to).then(|| format!("{to} does not answer: {error}"))
    }
}

fn connect(to: Endpoint) -> io::Result<TcpStream> {
    let family = if to.address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    // Commands to instruments are short and wait for an answer.
    rustix::net::sockopt::set_tcp_nodelay(&socket, true)?;
    match rustix::net::connect(&socket, &to.address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(TcpStream::from(socket)),
        Err(errno) => Err(errno.into()),
    }
}

/// A connection to a server.
#[derive(Debug)]
struct Remote(TcpStream);

impl Local for Remote {
    fn end(&mut self) -> io::Result<()> {
        self.0.shutdown(Shutdown::Write)
    }

    fn reset(&mut self) {
        // What is not passed on must not look as if it was.
        rustix::net::sockopt::set_socket_linger(&self.0, Some(Duration::ZERO)).ok();
    }
}

impl Read for Remote {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read(bytes)
    }
}

impl Write for Remote {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl AsFd for Remote {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixStream;

    use hatchway_wire::mux::frame::{Decoder, Frame};

    use super::*;

    fn turns(broker: &mut Broker, way: &UnixStream) -> Words {
        (0..50)
            .flat_map(|_| {
                std::thread::sleep(Duration::from_millis(2));
                broker.turn(way.as_fd()).unwrap()
            })
            .collect()
    }

    fn frames(mut from: &UnixStream) -> Vec<Frame> {
        let mut bytes = vec![0; 4096];
        let count = from.read(&mut bytes).unwrap_or(0);
        let mut decoder = Decoder::default();
        decoder.push(&bytes[..count]);
        std::iter::from_fn(|| decoder.next().unwrap()).collect()
    }

    #[test]
    fn a_unit_gets_the_servers_that_were_bound_and_no_others() {
        let (own, other) =
            (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let at = |listener: &TcpListener| Endpoint::tcp(listener.local_addr().unwrap());
        let mut broker = Broker::new(vec![at(&own)]).unwrap();
        let (way, mut unit) = UnixStream::pair().unwrap();
        way.set_nonblocking(true).unwrap();
        for (id, target) in
            [(1, at(&own).to_string()), (3, at(&other).to_string()), (5, "/etc/passwd".into())]
        {
            unit.write_all(&Frame::Open { id, target }.encode()).unwrap();
        }
        assert_eq!(turns(&mut broker, &way).len(), 1, "told once");
        let said = frames(&unit);
        assert!(
            said.contains(&Frame::Opened { id: 1 }) && said.contains(&Frame::Reset { id: 3 }),
            "{said:?}"
        );
        assert!(said.contains(&Frame::Reset { id: 5 }), "{said:?}");
        unit.write_all(&Frame::Data { id: 1, bytes: b"*IDN?".to_vec() }.encode()).unwrap();
        turns(&mut broker, &way);
        let mut got = [0; 5];
        own.accept().unwrap().0.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"*IDN?");
        other.set_nonblocking(true).unwrap();
        assert!(other.accept().is_err());
    }

    #[test]
    fn a_server_that_does_not_answer_is_told_once() {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = Endpoint::tcp(gone.local_addr().unwrap());
        drop(gone);
        let mut broker = Broker::new(vec![to]).unwrap();
        let (way, mut unit) = UnixStream::pair().unwrap();
        way.set_nonblocking(true).unwrap();
        for id in [1, 3] {
            unit.write_all(&Frame::Open { id, target: to.to_string() }.encode()).unwrap();
        }
        let words = turns(&mut broker, &way);
        assert!(words.len() == 1 && words[0].contains("refused"), "{words:?}");
        assert_eq!(frames(&unit), [Frame::Reset { id: 1 }, Frame::Reset { id: 3 }]);
    }
}
