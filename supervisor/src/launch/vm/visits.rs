//! Who comes to a unit in a guest: messages go over the port for messages, streams over a port with many of them. The guest
//! asks for the streams, and gets those of who has come and no others.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use hatchway_wire::control::{ControlOrder, ControlReport, SOCKET};
use hatchway_wire::guest::{HostOrder, read_stream};
use hatchway_wire::mux::frame::Broken;
use hatchway_wire::mux::{Event, Local, Mux, Side};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::super::packets::{Listener, Packets, Received, interest};

/// Bytes that are read from the port at once.
const READ: usize = 64 << 10;
/// A pipe that says it is writable takes at least so many bytes (PIPE_BUF, pipe(7)).
const WRITE: usize = 4096;
/// Numbers of a program's streams: the standard ones, and a terminal.
const STREAMS: usize = 4;

/// All who are there.
#[derive(Debug)]
pub(super) struct Visits {
    listener: Listener,
    mux: Mux,
    open: BTreeMap<u32, Visitor>,
    next: u32,
    /// The port is at its end.
    ended: bool,
}

#[derive(Debug)]
struct Visitor {
    connection: Packets,
    /// Ends for the streams that the guest is to ask for.
    ends: [Option<OwnedFd>; STREAMS],
    streams: Vec<u32>,
    /// The program has ended, and what it said is still on its way.
    ended: Option<ControlReport>,
}

impl Visits {
    pub(super) fn new(folder: &Path) -> io::Result<Self> {
        let listener = Listener::new(folder, SOCKET)?;
        Ok(Self { listener, mux: Mux::new(Side::Outer), open: BTreeMap::new(), next: 1, ended: false })
    }

    /// What to wait for.
    pub(super) fn watches<'a>(&'a self, port: BorrowedFd<'a>) -> Vec<PollFd<'a>> {
        if self.ended {
            return Vec::new();
        }
        let mut all = vec![
            PollFd::from_borrowed_fd(self.listener.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(port, interest(self.mux.hears(), !self.mux.out().is_empty())),
        ];
        let connections = self.open.values().map(|visitor| (visitor.connection.as_fd(), PollFlags::IN));
        let local = self.mux.wishes().map(|(_, fd, read, write)| (fd, interest(read, write)));
        all.extend(connections.chain(local).map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags)));
        all
    }

    /// Moves what can be moved without waiting; orders for the guest come out.
    ///
    /// # Errors
    /// [`Broken`]: the guest is not listened to any more.
    pub(super) fn turn(&mut self, port: BorrowedFd<'_>) -> Result<Vec<HostOrder>, Broken> {
        while let Ok(Some(connection)) = self.listener.next() {
            let visitor = Visitor { connection, ends: Default::default(), streams: Vec::new(), ended: None };
            self.open.insert(self.next, visitor);
            self.next = self.next.wrapping_add(1);
        }
        let orders = self.hear_visitors();
        let mut bytes = vec![0; READ];
        if self.mux.hears() && !self.ended {
            match rustix::io::read(port, &mut bytes[..]) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                // QEMU is gone, which is noticed elsewhere.
                Ok(0) | Err(_) => self.ended = true,
                Ok(count) => {
                    for event in self.mux.take(&bytes[..count])? {
                        self.event(event);
                    }
                }
            }
        }
        drop(self.mux.turn());
        while !self.mux.out().is_empty() {
            match rustix::io::write(port, self.mux.out()) {
                Ok(0) | Err(Errno::AGAIN | Errno::INTR) => break,
                Ok(count) => self.mux.written(count),
                // QEMU is gone, which is noticed elsewhere.
                Err(_) => break,
            }
        }
        self.conclude();
        Ok(orders)
    }

    /// An answer of the guest's.
    pub(super) fn report(&mut self, id: u32, report: ControlReport) {
        let Some(visitor) = self.open.get_mut(&id) else { return };
        match report {
            ControlReport::Ended { .. } => visitor.ended = Some(report),
            // The descriptor of a terminal comes from here.
            ControlReport::Terminal => {}
            report => drop(visitor.connection.offer(&report, &[])),
        }
    }

    fn hear_visitors(&mut self) -> Vec<HostOrder> {
        let mut orders = Vec::new();
        let mux = &mut self.mux;
        self.open.retain(|id, visitor| {
            loop {
                match visitor.connection.receive::<ControlOrder>() {
                    Ok(Received::Message(order, fds)) => {
                        if let ControlOrder::Exec(exec) = &order
                            && visitor.begin(exec.terminal.is_some(), fds).is_err()
                        {
                            break;
                        }
                        orders.push(HostOrder::Control { id: *id, order });
                    }
                    Ok(Received::Nothing) => return true,
                    Ok(Received::End) | Err(_) => break,
                }
            }
            visitor.streams.iter().for_each(|stream| mux.reset(*stream));
            orders.push(HostOrder::Forget { id: *id });
            false
        });
        orders
    }

    fn event(&mut self, event: Event) {
        let Event::Wanted { id, target } = event else { return };
        let found = read_stream(&target).and_then(|(whose, number)| {
            let visitor = self.open.get_mut(&whose)?;
            let end = visitor.ends.get_mut(number)?.take()?;
            visitor.streams.push(id);
            Some(End { file: end.into(), number, ended: false })
        });
        match found {
            Some(end) => self.mux.accept(id, Box::new(end)),
            None => self.mux.refuse(id),
        }
    }

    /// Those whose program has ended and has said everything.
    fn conclude(&mut self) {
        let mux = &mut self.mux;
        self.open.retain(|_, visitor| {
            // Of what it reads nothing is waited for: the first stream, where it is no terminal.
            let out = visitor.streams.iter().skip(usize::from(visitor.streams.len() == 3));
            let Some(report) = visitor.ended.as_ref().filter(|_| out.clone().all(|stream| !mux.has(*stream)))
            else {
                return true;
            };
            visitor.streams.iter().for_each(|stream| mux.reset(*stream));
            drop(visitor.connection.offer(report, &[]));
            false
        });
    }
}

impl Visitor {
    fn begin(&mut self, terminal: bool, fds: Vec<OwnedFd>) -> io::Result<()> {
        if terminal {
            let flags = SocketFlags::CLOEXEC;
            let (own, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            self.ends[STREAMS - 1] = Some(own);
            return self.connection.offer(&ControlReport::Terminal, &[theirs.as_fd()]);
        }
        for (end, fd) in self.ends.iter_mut().zip(fds) {
            *end = Some(fd);
        }
        Ok(())
    }
}

/// A stream of somebody who has come. It may be shared with other programs, so it is not made one that never waits: it is asked
/// first.
#[derive(Debug)]
struct End {
    file: File,
    number: usize,
    /// A terminal is at its end.
    ended: bool,
}

impl End {
    fn is_ready(&self, what: PollFlags) -> bool {
        let mut fds = [PollFd::new(&self.file, what)];
        matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1..))
    }
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Read for End {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self.number {
            1 | 2 => Ok(0),
            3 if self.ended => Ok(0),
            _ if self.is_ready(PollFlags::IN) => self.file.read(bytes),
            _ => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for End {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.number {
            0 => Err(io::ErrorKind::BrokenPipe.into()),
            _ if self.is_ready(PollFlags::OUT) => self.file.write(&bytes[..bytes.len().min(WRITE)]),
            _ => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Local for End {
    fn end(&mut self) -> io::Result<()> {
        // Who has the other end of a terminal is told the end by a message.
        self.ended = true;
        Ok(())
    }

    fn reset(&mut self) {}
}
