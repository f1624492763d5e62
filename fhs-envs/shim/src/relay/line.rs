//! A serial line of the tool's and the connection behind it.
//!
//! While the server is away the tool's writes wait in the kernel, as on a line whose device does not take them, and there is
//! nothing to read. What was on its way when a connection broke is lost, as with a device that is switched off.
use super::direct::{Lane, connect, is_connected};
use super::{AGAIN, LineDoor};
use crate::channel::interest;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use std::io;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::Instant;

#[derive(Debug)]
pub(super) struct Line {
    door: LineDoor,
    other: Other,
    out: Lane,
    back: Lane,
}

#[derive(Debug)]
enum Other {
    Away { again: Instant },
    Begun(TcpStream),
    There(TcpStream),
}

impl Line {
    pub(super) fn new(door: LineDoor) -> Self {
        let other = Other::Away { again: Instant::now() };
        Self { door, other, out: Lane::default(), back: Lane::default() }
    }

    /// Tries the server where it is time.
    pub(super) fn begin(&mut self) {
        if let Other::Away { again } = self.other
            && again <= Instant::now()
        {
            match connect(self.door.to) {
                Ok(stream) => self.other = Other::Begun(stream),
                Err(_) => self.away(),
            }
        }
    }

    fn away(&mut self) {
        self.other = Other::Away { again: Instant::now() + AGAIN };
        (self.out, self.back) = (Lane::default(), Lane::default());
    }

    /// Until the server is tried again.
    pub(super) fn timeout(&self) -> Option<PollTimeout> {
        let Other::Away { again } = self.other else { return None };
        let left = again.saturating_duration_since(Instant::now()).as_millis().saturating_add(1);
        PollTimeout::try_from(left).ok()
    }

    pub(super) fn interest(&self) -> impl Iterator<Item = PollFd<'_>> {
        let ends = match &self.other {
            Other::Away { .. } => [None, None],
            Other::Begun(stream) => [Some((stream.as_fd(), PollFlags::POLLOUT)), None],
            Other::There(stream) => [
                Some((stream.as_fd(), interest(self.back.wants_read(), self.out.wants_write()))),
                Some((self.door.master.as_fd(), interest(self.out.wants_read(), self.back.wants_write()))),
            ],
        };
        ends.into_iter()
            .flatten()
            .filter(|(_, wish)| !wish.is_empty())
            .map(|(fd, wish)| PollFd::new(fd, wish))
    }

    /// Moves what can be moved.
    pub(super) fn turn(&mut self) {
        if self.pass().is_err() {
            self.away();
        }
    }

    fn pass(&mut self) -> io::Result<()> {
        if let Other::Begun(stream) = &self.other {
            if !is_connected(stream)? {
                return Ok(());
            }
            self.other = Other::There(stream.try_clone()?);
        }
        let Other::There(stream) = &self.other else { return Ok(()) };
        self.out.pass(&self.door.master, stream)?;
        self.back.pass(stream, &self.door.master)?;
        if self.back.has_ended() && !self.back.wants_write() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}
