//! Who comes to the unit through `hatchway run`: their messages go over the port for messages, the streams of what they start over a
//! port with many streams, and to the attendant this process is one who comes.
use super::ports;
use crate::channel::{Channel, Received, interest};
use crate::error::{Error, Step};
use hatchway_wire::attend::LeaseOrder;
use hatchway_wire::control::{ControlOrder, ControlReport};
use hatchway_wire::guest::{EXEC, GuestReport, Window, stream_of};
use hatchway_wire::mux::{Local, Mux, Side};
use nix::poll::{PollFd, PollFlags};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::Winsize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

const READ: usize = 64 << 10;
/// How long what a program has left behind may still write to its streams.
const REST_MAX: Duration = Duration::from_secs(2);
/// How often streams of programs that have ended are looked at.
pub(super) const REST_EVERY_MS: u16 = 100;

/// All who are there.
#[derive(Debug)]
pub(super) struct Visitors {
    port: OwnedFd,
    mux: Mux,
    attendant: Channel,
    open: BTreeMap<u32, Visitor>,
    /// `hatchway run` is gone.
    gone: bool,
}

#[derive(Debug)]
struct Visitor {
    connection: Channel,
    master: Option<OwnedFd>,
    streams: Vec<u32>,
    /// The program has ended, and what it said is still on its way.
    ended: Option<(ControlReport, Instant)>,
}

impl Visitors {
    /// With the attendant's end of the way to it.
    pub(super) fn open() -> Result<(Self, Channel), Error> {
        let port = ports::open(EXEC)?;
        let (attendant, theirs) = Channel::pair().step("make a way to the attendant")?;
        Ok((Self { port, mux: Mux::new(Side::Inner), attendant, open: BTreeMap::new(), gone: false }, theirs))
    }

    pub(super) fn watches(&self) -> Vec<PollFd<'_>> {
        if self.gone {
            return Vec::new();
        }
        let mut all =
            vec![PollFd::new(self.port.as_fd(), interest(self.mux.hears(), !self.mux.out().is_empty()))];
        all.extend(self.mux.wishes().map(|(_, fd, read, write)| PollFd::new(fd, interest(read, write))));
        let connections = self.open.values().filter(|visitor| visitor.ended.is_none());
        all.extend(connections.map(|visitor| PollFd::new(visitor.connection.as_fd(), PollFlags::POLLIN)));
        all
    }

    /// A program has ended, and its streams have not.
    pub(super) fn rests(&self) -> bool {
        self.open.values().any(|visitor| visitor.ended.is_some())
    }

    pub(super) fn obey(&mut self, id: u32, order: ControlOrder) -> Option<GuestReport> {
        let done = match order {
            ControlOrder::Resize(window) => self.resize(id, window),
            order => self.pass_on(id, &order),
        };
        done.err().map(|error| self.failed(id, error.to_string()))
    }

    /// Nothing becomes of what somebody wants, and they are told so.
    fn failed(&mut self, id: u32, message: String) -> GuestReport {
        self.forget(id);
        GuestReport::Control { id, report: ControlReport::Failed { found: false, message, hint: None } }
    }

    pub(super) fn forget(&mut self, id: u32) {
        // The end of the connection is the end of the program.
        let visitor = self.open.remove(&id);
        visitor.into_iter().flat_map(|visitor| visitor.streams).for_each(|stream| self.mux.reset(stream));
    }

    fn pass_on(&mut self, id: u32, order: &ControlOrder) -> io::Result<()> {
        if !self.open.contains_key(&id) {
            let (connection, theirs) = Channel::pair()?;
            self.attendant.send(&LeaseOrder::Control, Some(theirs.as_fd()))?;
            self.open.insert(id, Visitor { connection, master: None, streams: Vec::new(), ended: None });
        }
        let mut given = Vec::new();
        if let ControlOrder::Exec(exec) = order
            && exec.terminal.is_none()
        {
            for number in 0..3 {
                let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
                let (own, theirs) = if number == 0 { (write, read) } else { (read, write) };
                let way = if number == 0 { Way::In } else { Way::Out };
                self.stream(id, number, own, way)?;
                given.push(theirs);
            }
        }
        let given: Vec<BorrowedFd<'_>> = given.iter().map(AsFd::as_fd).collect();
        self.open.get(&id).map_or(Ok(()), |visitor| visitor.connection.send_all(order, &given))
    }

    fn stream(&mut self, id: u32, number: usize, fd: OwnedFd, way: Way) -> io::Result<()> {
        let flags = rustix::fs::fcntl_getfl(&fd)?;
        rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?;
        let end = End { file: Some(fd.into()), way };
        let stream = self.mux.open(&stream_of(id, number), Box::new(end))?;
        self.open.get_mut(&id).into_iter().for_each(|visitor| visitor.streams.push(stream));
        Ok(())
    }

    fn resize(&mut self, id: u32, window: Window) -> io::Result<()> {
        let size = Winsize { ws_row: window.rows, ws_col: window.columns, ws_xpixel: 0, ws_ypixel: 0 };
        if let Some(master) = self.open.get(&id).and_then(|visitor| visitor.master.as_ref()) {
            rustix::termios::tcsetwinsize(master, size)?;
        }
        Ok(())
    }

    /// Moves everything that can be moved; what they are to be told comes out.
    pub(super) fn turn(&mut self) -> Vec<GuestReport> {
        let mut reports = self.hear_attendant();
        let mut bytes = vec![0; READ];
        if self.mux.hears() && !self.gone {
            match rustix::io::read(&self.port, &mut bytes[..]) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                Ok(0) | Err(_) => self.gone = true,
                // What breaks the rules is another release's; the first message has said which this is.
                Ok(count) => drop(self.mux.take(&bytes[..count])),
            }
        }
        drop(self.mux.turn());
        while !self.mux.out().is_empty() {
            match rustix::io::write(&self.port, self.mux.out()) {
                Ok(0) | Err(Errno::AGAIN | Errno::INTR) => break,
                Ok(count) => self.mux.written(count),
                // `hatchway run` is gone, which is noticed elsewhere.
                Err(_) => break,
            }
        }
        reports.extend(self.rest());
        reports
    }

    fn hear_attendant(&mut self) -> Vec<GuestReport> {
        let mut reports = Vec::new();
        let ids: Vec<u32> = self.open.keys().copied().collect();
        for id in ids {
            while let Some(visitor) = self.open.get_mut(&id).filter(|visitor| visitor.ended.is_none()) {
                match visitor.connection.receive::<ControlReport>() {
                    Ok(Received::Message(ControlReport::Terminal, Some(master))) => {
                        let copy = rustix::io::fcntl_dupfd_cloexec(&master, 3);
                        visitor.master = Some(master);
                        if copy
                            .map_err(io::Error::from)
                            .and_then(|copy| self.stream(id, 3, copy, Way::Both))
                            .is_err()
                        {
                            self.forget(id);
                        }
                    }
                    Ok(Received::Message(report @ ControlReport::Ended { .. }, _)) => {
                        visitor.ended = Some((report, Instant::now()));
                    }
                    Ok(Received::Message(report, _)) => reports.push(GuestReport::Control { id, report }),
                    Ok(Received::Nothing) => break,
                    Ok(Received::End) | Err(_) => {
                        reports.push(self.failed(id, "the unit takes nobody now".to_owned()));
                    }
                }
            }
        }
        reports
    }

    /// Those whose program has ended and has nothing more to say.
    fn rest(&mut self) -> Vec<GuestReport> {
        let mut reports = Vec::new();
        let mux = &mut self.mux;
        self.open.retain(|id, visitor| {
            let Some((report, since)) = &mut visitor.ended else { return true };
            let out = visitor.streams.iter().skip(usize::from(visitor.master.is_none()));
            if out.clone().any(|stream| mux.is_held_up(*stream)) {
                // Its reader takes its time, and gets everything.
                *since = Instant::now();
            }
            if out.clone().any(|stream| mux.has(*stream)) && since.elapsed() < REST_MAX {
                return true;
            }
            out.for_each(|stream| mux.end(*stream));
            reports.push(GuestReport::Control { id: *id, report: report.clone() });
            false
        });
        reports
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    In,
    Out,
    Both,
}

/// This process's end of a program's stream.
#[derive(Debug)]
struct End {
    file: Option<File>,
    way: Way,
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // One without a file is not asked for again: it is over.
        match &self.file {
            Some(file) => file.as_fd(),
            None => rustix::stdio::stdin(),
        }
    }
}

impl Read for End {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match (&mut self.file, self.way) {
            (Some(file), Way::Out) => file.read(bytes),
            // A terminal that nobody has open any more is at its end.
            (Some(file), Way::Both) => match file.read(bytes) {
                Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => Ok(0),
                other => other,
            },
            _ => Ok(0),
        }
    }
}

impl Write for End {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match (&mut self.file, self.way) {
            (Some(file), Way::In | Way::Both) => file.write(bytes),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Local for End {
    fn end(&mut self) -> io::Result<()> {
        if self.way == Way::In {
            // The program sees the end of what it reads.
            self.file = None;
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.file = None;
    }
}
