//! The caller's streams and the guest's ports: bytes from one to the other, each direction by itself.

use std::os::fd::{AsFd, BorrowedFd};

use hatchway_wire::guest::{HostOrder, Stream};
use rustix::event::PollFlags;
use rustix::io::Errno;

/// Bytes that a pipe which says that it is writable takes without blocking (pipe(7), `PIPE_BUF`); a terminal takes fewer.
const WRITE: usize = 4096;
const WRITE_TERMINAL: usize = 256;
const READ: usize = 64 << 10;

/// The streams that have a port of their own when these of the three standard streams are a terminal.
pub(in crate::launch) fn of(terminals: [bool; 3]) -> Vec<Stream> {
    let all = [Stream::Input, Stream::Output, Stream::Error];
    let apart = all.into_iter().zip(terminals).filter(|(_, terminal)| !terminal).map(|(stream, _)| stream);
    apart.chain(terminals.contains(&true).then_some(Stream::Terminal)).collect()
}

/// From the caller into the guest.
#[derive(Debug)]
pub(in crate::launch) struct Inward<'a> {
    pub(in crate::launch) stream: Stream,
    from: BorrowedFd<'a>,
    buffer: Vec<u8>,
    read: u64,
    ended: bool,
}

impl<'a> Inward<'a> {
    pub(in crate::launch) fn new(stream: Stream, from: BorrowedFd<'a>) -> Self {
        Self { stream, from, buffer: Vec::new(), read: 0, ended: false }
    }

    /// What to wait for: at the caller's end, at the port.
    pub(in crate::launch) fn wants(&self) -> (bool, bool) {
        (!self.ended && self.buffer.is_empty(), !self.buffer.is_empty())
    }

    pub(in crate::launch) fn from(&self) -> BorrowedFd<'a> {
        self.from
    }

    /// Reads what is there; at the end, the order that says so.
    pub(in crate::launch) fn read(&mut self) -> Option<HostOrder> {
        self.buffer.resize(READ, 0);
        let (count, ended) = match rustix::io::read(self.from, &mut self.buffer[..]) {
            Ok(0) => (0, true),
            Ok(count) => (count, false),
            Err(Errno::AGAIN | Errno::INTR) => (0, false),
            // A terminal that is gone, a folder: there is nothing to read.
            Err(_) => (0, true),
        };
        self.buffer.truncate(count);
        self.read += count as u64;
        self.ended = ended;
        ended.then_some(HostOrder::End { stream: self.stream, bytes: self.read })
    }

    /// Writes as much as the port takes.
    pub(in crate::launch) fn write(&mut self, port: BorrowedFd<'_>) {
        match rustix::io::write(port, &self.buffer) {
            Ok(count) => drop(self.buffer.drain(..count)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            // The guest is gone, which is noticed elsewhere.
            Err(_) => {
                self.buffer.clear();
                self.ended = true;
            }
        }
    }
}

/// Out of the guest to the caller.
#[derive(Debug)]
pub(in crate::launch) struct Outward<'a> {
    pub(in crate::launch) stream: Stream,
    /// Nobody, once the reader has gone away.
    to: Option<BorrowedFd<'a>>,
    most: usize,
    buffer: Vec<u8>,
    read: u64,
    /// Where it ends, once the guest has said so.
    end: Option<u64>,
    closed: bool,
}

impl<'a> Outward<'a> {
    pub(in crate::launch) fn new(stream: Stream, to: BorrowedFd<'a>) -> Self {
        let most = if stream == Stream::Terminal { WRITE_TERMINAL } else { WRITE };
        Self { stream, to: Some(to), most, buffer: Vec::new(), read: 0, end: None, closed: false }
    }

    /// What to wait for: at the port, at the caller's end.
    pub(in crate::launch) fn wants(&self) -> (bool, bool) {
        (!self.closed && self.buffer.is_empty(), !self.buffer.is_empty())
    }

    pub(in crate::launch) fn to(&self) -> Option<BorrowedFd<'a>> {
        self.to
    }

    /// The guest says that there are no more than so many bytes.
    pub(in crate::launch) fn end(&mut self, bytes: u64) {
        self.end = Some(bytes);
    }

    /// Everything that the guest has said was passed on. Where nobody reads it nothing is waited for but the word that it ends.
    pub(in crate::launch) fn is_over(&self) -> bool {
        let is_read = |end| self.to.is_none() || self.read >= end;
        self.buffer.is_empty() && (self.closed || self.end.is_some_and(is_read))
    }

    /// Nothing more can come, and what came was passed on.
    pub(in crate::launch) fn is_drained(&self) -> bool {
        self.closed && self.buffer.is_empty()
    }

    /// Reads what is there. `cooked`: the caller's terminal makes its own carriage returns.
    pub(in crate::launch) fn read(&mut self, port: BorrowedFd<'_>, cooked: bool) {
        self.buffer.resize(READ, 0);
        let (count, closed) = match rustix::io::read(port, &mut self.buffer[..]) {
            Ok(0) => (0, true),
            Ok(count) => (count, false),
            Err(Errno::AGAIN | Errno::INTR) => (0, false),
            Err(_) => (0, true),
        };
        self.buffer.truncate(count);
        self.read += count as u64;
        self.closed = closed;
        if self.to.is_none() {
            self.buffer.clear();
        } else if cooked {
            single_returns(&mut self.buffer);
        }
    }

    /// Writes some of it; an order for the guest when the reader is gone.
    pub(in crate::launch) fn write(&mut self) -> Option<HostOrder> {
        let to = self.to?;
        let most = self.most.min(self.buffer.len());
        match rustix::io::write(to, &self.buffer[..most]) {
            Ok(count) => drop(self.buffer.drain(..count)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => {
                self.to = None;
                self.buffer.clear();
                return Some(HostOrder::Unread { stream: self.stream });
            }
        }
        None
    }
}

/// Takes one carriage return from before each new line.
fn single_returns(bytes: &mut Vec<u8>) {
    let mut kept = Vec::with_capacity(bytes.len());
    for (index, byte) in bytes.iter().enumerate() {
        if *byte != b'\r' || bytes.get(index + 1) != Some(&b'\n') {
            kept.push(*byte);
        }
    }
    *bytes = kept;
}

/// What of a descriptor to wait for.
pub(in crate::launch) fn flags(wanted: bool, what: PollFlags) -> PollFlags {
    if wanted { what } else { PollFlags::empty() }
}

/// Nothing that is done with it waits.
pub(in crate::launch) fn nonblocking(fd: &impl AsFd) -> rustix::io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    rustix::fs::fcntl_setfl(fd, flags | rustix::fs::OFlags::NONBLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_that_are_a_terminal_share_one_port() {
        assert_eq!(of([false; 3]), [Stream::Input, Stream::Output, Stream::Error]);
        assert_eq!(of([true; 3]), [Stream::Terminal]);
        assert_eq!(of([true, false, true]), [Stream::Output, Stream::Terminal]);
    }

    #[test]
    fn a_stream_is_over_where_the_guest_says_it_ends() {
        let (port, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let (to, _kept) = std::os::unix::net::UnixStream::pair().unwrap();
        std::io::Write::write_all(&mut &theirs, b"a\r\nb").unwrap();
        let mut out = Outward::new(Stream::Output, to.as_fd());
        out.end(4);
        assert!(!out.is_over());
        out.read(port.as_fd(), true);
        assert_eq!(out.buffer, b"a\nb");
        assert!(!out.is_over());
        assert_eq!(out.write(), None);
        assert!(out.is_over());
    }

    #[test]
    fn a_reader_that_goes_away_is_told() {
        let (port, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        drop(reader);
        std::io::Write::write_all(&mut &theirs, b"more").unwrap();
        let mut out = Outward::new(Stream::Output, writer.as_fd());
        out.read(port.as_fd(), false);
        assert_eq!(out.write(), Some(HostOrder::Unread { stream: Stream::Output }));
        std::io::Write::write_all(&mut &theirs, b"and more").unwrap();
        out.read(port.as_fd(), false);
        assert_eq!((out.write(), out.wants()), (None, (true, false)));
        // The guest may have counted what it never sent.
        assert!(!out.is_over());
        out.end(1_000);
        assert!(out.is_over());
    }
}
