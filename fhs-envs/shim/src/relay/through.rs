//! Relaying where the servers are out of reach: all of it goes over one way to `hatchway run`, which connects
//! ([`hatchway_wire::mux`]).
use super::{AGAIN, Doors, LineDoor, reset};
use crate::channel::interest;
use hatchway_wire::Endpoint;
use hatchway_wire::mux::{Event, Local, Mux, STREAMS_MAX, Side};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

/// Bytes that are read from the way at once.
const READ: usize = 64 << 10;

pub(super) fn run(doors: Doors, way: OwnedFd) -> io::Result<()> {
    let status = rustix::fs::fcntl_getfl(&way)?;
    rustix::fs::fcntl_setfl(&way, status | OFlags::NONBLOCK)?;
    doors.tcp.iter().try_for_each(|(_, listener)| listener.set_nonblocking(true))?;
    let lines = doors.lines.into_iter().map(|door| Line { door, state: State::Away(Instant::now()) });
    let mut relay = Through { way, mux: Mux::new(Side::Inner), lines: lines.collect() };
    loop {
        relay.begin_lines();
        let (carries, knocks) = relay.wait(&doors.tcp)?;
        if carries {
            relay.hear()?;
        }
        for ((to, listener), _) in doors.tcp.iter().zip(knocks).filter(|(_, knocks)| *knocks) {
            if let Ok((tool, _)) = listener.accept() {
                relay.accept(Endpoint::tcp(*to), tool);
            }
        }
        let over = relay.mux.turn();
        relay.over(&over);
        relay.say()?;
    }
}

struct Through {
    way: OwnedFd,
    mux: Mux,
    lines: Vec<Line>,
}

struct Line {
    door: LineDoor,
    state: State,
}

enum State {
    /// Until then.
    Away(Instant),
    /// This stream carries it.
    There(u32),
}

impl Through {
    fn begin_lines(&mut self) {
        for line in &mut self.lines {
            let State::Away(until) = line.state else { continue };
            if until > Instant::now() {
                continue;
            }
            let opened = line.door.master.try_clone().and_then(|master| {
                self.mux.open(&Endpoint::tcp(line.door.to).to_string(), Box::new(Master(master)))
            });
            line.state = opened.map_or_else(|_| State::Away(Instant::now() + AGAIN), State::There);
        }
    }

    fn over(&mut self, events: &[Event]) {
        for event in events {
            let Event::Over { id } = event else { continue };
            let line =
                self.lines.iter_mut().find(|line| matches!(line.state, State::There(own) if own == *id));
            line.into_iter().for_each(|line| line.state = State::Away(Instant::now() + AGAIN));
        }
    }

    /// Whether there is something on the way, and who knocks at which door.
    fn wait(&self, tcp: &[(std::net::SocketAddr, std::net::TcpListener)]) -> io::Result<(bool, Vec<bool>)> {
        let mut fds =
            vec![PollFd::new(self.way.as_fd(), interest(self.mux.hears(), !self.mux.out().is_empty()))];
        let accepting = self.mux.count() < STREAMS_MAX;
        fds.extend(tcp.iter().map(|(_, listener)| PollFd::new(listener.as_fd(), interest(accepting, false))));
        fds.extend(self.mux.wishes().map(|(_, fd, read, write)| PollFd::new(fd, interest(read, write))));
        let again = self.lines.iter().filter_map(|line| match line.state {
            State::Away(until) => Some(until.saturating_duration_since(Instant::now()).as_millis()),
            State::There(_) => None,
        });
        let timeout = again.min().map_or(PollTimeout::NONE, |left| {
            PollTimeout::try_from(left.saturating_add(1)).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready = |fd: &PollFd<'_>| fd.any().unwrap_or(true);
        let carries = fds[0].revents().is_none_or(|is| is.intersects(!PollFlags::POLLOUT));
        Ok((carries, fds[1..=tcp.len()].iter().map(ready).collect()))
    }

    fn hear(&mut self) -> io::Result<()> {
        let mut bytes = vec![0; READ];
        match rustix::io::read(&self.way, &mut bytes[..]) {
            // Nobody is there any more.
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                let events = self.mux.take(&bytes[..count]).map_err(io::Error::other)?;
                self.over(&events);
                Ok(())
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn say(&mut self) -> io::Result<()> {
        while !self.mux.out().is_empty() {
            match rustix::io::write(&self.way, self.mux.out()) {
                Ok(0) | Err(Errno::AGAIN | Errno::INTR) => break,
                Ok(count) => self.mux.written(count),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn accept(&mut self, to: Endpoint, tool: TcpStream) {
        // Commands to instruments are short and wait for an answer.
        let ready = tool.set_nodelay(true).and_then(|()| tool.set_nonblocking(true));
        // One that is not taken is closed.
        drop(ready.and_then(|()| self.mux.open(&to.to_string(), Box::new(Tool(tool)))));
    }
}

/// A connection of the tool's.
#[derive(Debug)]
struct Tool(TcpStream);

/// The far end of a serial line of the tool's. It has no end.
#[derive(Debug)]
struct Master(File);

impl Local for Tool {
    fn end(&mut self) -> io::Result<()> {
        self.0.shutdown(Shutdown::Write)
    }

    fn reset(&mut self) {
        reset(&self.0);
    }
}

impl Local for Master {
    fn end(&mut self) -> io::Result<()> {
        // The server has hung up: the line is begun anew.
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    fn reset(&mut self) {}
}

macro_rules! passes_on {
    ($name:ty) => {
        impl Read for $name {
            fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
                self.0.read(bytes)
            }
        }

        impl Write for $name {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.write(bytes)
            }

            fn flush(&mut self) -> io::Result<()> {
                self.0.flush()
            }
        }

        impl AsFd for $name {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.0.as_fd()
            }
        }
    };
}

passes_on!(Tool);
passes_on!(Master);
