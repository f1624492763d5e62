//! The unit's standard streams: pipes or one terminal on its side, ports on the other.
use super::ports;
use crate::error::{Error, Step};
use hatchway_wire::guest::{GuestOrder, GuestReport, Stream, Window};
use nix::poll::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::pty::OpenptFlags;
use rustix::termios::{LocalModes, Winsize};
use std::os::fd::{AsFd, OwnedFd};

const BUFFER: usize = 64 << 10;
/// Ctrl-C, Ctrl-\ and Ctrl-Z as a terminal begins with them.
const KEYS: [(i32, u8); 3] = [(2, 0x03), (3, 0x1c), (20, 0x1a)];

/// One direction of one stream.
#[derive(Debug)]
struct Pump {
    stream: Stream,
    from: Option<OwnedFd>,
    to: Option<OwnedFd>,
    buffer: Vec<u8>,
    /// Bytes read so far; of an abandoned one, those of them that went on.
    read: u64,
    /// Where the stream ends, where that is known from a message.
    end: Option<u64>,
    /// Out of the guest: its end is to be told.
    outward: bool,
    told: bool,
}

impl Pump {
    fn new(stream: Stream, from: OwnedFd, to: OwnedFd, outward: bool) -> Result<Self, Error> {
        ports::nonblocking(&from)?;
        ports::nonblocking(&to)?;
        let (from, to) = (Some(from), Some(to));
        Ok(Self { stream, from, to, buffer: Vec::new(), read: 0, end: None, outward, told: false })
    }

    /// What it waits for.
    fn watch(&self) -> Option<PollFd<'_>> {
        if self.buffer.is_empty() {
            self.from.as_ref().map(|from| PollFd::new(from.as_fd(), PollFlags::POLLIN))
        } else {
            self.to.as_ref().map(|to| PollFd::new(to.as_fd(), PollFlags::POLLOUT))
        }
    }

    /// Nobody reads it any more, and who writes is to notice. What is dropped here never leaves the guest, so the end that is
    /// told is before it.
    fn abandon(&mut self) {
        (self.from, self.to) = (None, None);
        self.read -= self.buffer.len() as u64;
        self.buffer.clear();
    }

    /// Moves what can be moved now.
    fn turn(&mut self) {
        loop {
            self.give();
            if !self.buffer.is_empty() || !self.take() {
                break;
            }
        }
        if self.buffer.is_empty() && (self.from.is_none() || self.is_at_its_end()) {
            // The reader sees the end.
            (self.from, self.to) = (None, None);
        }
    }

    fn is_at_its_end(&self) -> bool {
        self.end.is_some_and(|end| self.read >= end)
    }

    fn give(&mut self) {
        while let (Some(to), false) = (&self.to, self.buffer.is_empty()) {
            match rustix::io::write(to, &self.buffer) {
                Ok(0) | Err(Errno::AGAIN | Errno::INTR) => return,
                Ok(count) => drop(self.buffer.drain(..count)),
                Err(_) => self.abandon(),
            }
        }
    }

    /// True when there may be more.
    fn take(&mut self) -> bool {
        let Some(from) = &self.from else { return false };
        if self.is_at_its_end() {
            return false;
        }
        self.buffer.resize(BUFFER, 0);
        let (count, more, ended) = match rustix::io::read(from, &mut self.buffer[..]) {
            Ok(0) => (0, false, true),
            Ok(count) => (count, true, false),
            Err(Errno::AGAIN | Errno::INTR) => (0, false, false),
            Err(_) => (0, false, true),
        };
        self.buffer.truncate(count);
        self.read += count as u64;
        if ended {
            self.from = None;
        }
        more
    }

    fn is_over(&self) -> bool {
        self.from.is_none() && self.buffer.is_empty()
    }
}

/// All streams of the unit.
#[derive(Debug)]
pub(super) struct Streams {
    pumps: Vec<Pump>,
    /// The unit's ends: standard input, output, error. Given away at its start.
    pub(super) ends: Vec<OwnedFd>,
    /// Both ends of the terminal, where there is one.
    master: Option<OwnedFd>,
    slave: Option<OwnedFd>,
    /// Keys are asked for by a message, once.
    keys: bool,
}

impl Streams {
    pub(super) fn open(order: &GuestOrder) -> Result<Self, Error> {
        let mut all = Self { pumps: Vec::new(), ends: Vec::new(), master: None, slave: None, keys: false };
        if order.terminals.contains(&true) {
            all.terminal(order)?;
        }
        let inward = [Stream::Input, Stream::Output, Stream::Error];
        for (stream, terminal) in inward.into_iter().zip(order.terminals) {
            match (&all.slave, terminal) {
                (Some(slave), true) => {
                    all.ends.push(rustix::io::fcntl_dupfd_cloexec(slave, 3).step("make a terminal")?);
                }
                _ => all.pipe(stream)?,
            }
        }
        Ok(all)
    }

    fn pipe(&mut self, stream: Stream) -> Result<(), Error> {
        let port = ports::open(stream.port())?;
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).step("make a pipe")?;
        if stream == Stream::Input {
            self.pumps.push(Pump::new(stream, port, write, false)?);
            self.ends.push(read);
        } else {
            self.pumps.push(Pump::new(stream, read, port, true)?);
            self.ends.push(write);
        }
        Ok(())
    }

    fn terminal(&mut self, order: &GuestOrder) -> Result<(), Error> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = rustix::pty::openpt(flags).step("make a terminal")?;
        rustix::pty::unlockpt(&master).step("make a terminal")?;
        let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).step("make a terminal")?;
        let port = ports::open(Stream::Terminal.port())?;
        let copy = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, 3).step("make a terminal");
        self.pumps.push(Pump::new(Stream::Terminal, copy(&port)?, copy(&master)?, false)?);
        self.pumps.push(Pump::new(Stream::Terminal, copy(&master)?, port, true)?);
        (self.master, self.slave) = (Some(master), Some(slave));
        if let Some(window) = order.window {
            self.resize(window);
        }
        Ok(())
    }

    /// The unit's side of the terminal.
    pub(super) fn slave(&self) -> Option<&OwnedFd> {
        self.slave.as_ref()
    }

    pub(super) fn resize(&self, window: Window) {
        let size = Winsize { ws_row: window.rows, ws_col: window.columns, ws_xpixel: 0, ws_ypixel: 0 };
        if let Some(master) = &self.master {
            rustix::termios::tcsetwinsize(master, size).ok();
        }
    }

    /// A key that the caller's terminal has made a signal of becomes one here as well; false where there is no terminal.
    pub(super) fn key(&self, signal: i32) -> bool {
        let key = KEYS.iter().find(|(number, _)| *number == signal);
        let (Some(master), Some((_, key))) = (&self.master, key) else { return false };
        rustix::io::write(master, &[*key]).is_ok()
    }

    /// The unit has made its terminal raw, which it does to read keys. Told once.
    pub(super) fn wants_keys(&mut self) -> bool {
        let Some(slave) = self.slave.as_ref().filter(|_| !self.keys) else { return false };
        let lines = rustix::termios::tcgetattr(slave)
            .is_ok_and(|settings| settings.local_modes.contains(LocalModes::ICANON));
        self.keys = !lines;
        self.keys
    }

    /// Has a terminal whose keys nobody has asked for yet.
    pub(super) fn may_want_keys(&self) -> bool {
        self.slave.is_some() && !self.keys
    }

    pub(super) fn watches(&self) -> impl Iterator<Item = PollFd<'_>> {
        self.pumps.iter().filter_map(Pump::watch)
    }

    /// Moves everything that can be moved; the ends of streams that were reached come out.
    pub(super) fn turn(&mut self) -> Vec<GuestReport> {
        let mut reports = Vec::new();
        for pump in &mut self.pumps {
            pump.turn();
            if pump.outward && pump.is_over() && !pump.told {
                pump.told = true;
                reports.push(GuestReport::End { stream: pump.stream, bytes: pump.read });
            }
        }
        reports
    }

    /// The stream into the guest ends there.
    pub(super) fn end(&mut self, stream: Stream, bytes: u64) {
        let into = |pump: &&mut Pump| pump.stream == stream && !pump.outward;
        if let Some(pump) = self.pumps.iter_mut().find(into) {
            pump.end = Some(bytes);
        }
    }

    /// Nobody reads the stream out of the guest any more: who writes it gets to know.
    pub(super) fn unread(&mut self, stream: Stream) {
        let out = |pump: &&mut Pump| pump.stream == stream && pump.outward;
        self.pumps.iter_mut().find(out).into_iter().for_each(Pump::abandon);
    }

    /// The unit has ended: of its terminal there is only what it has shown.
    pub(super) fn ended(&mut self) {
        self.slave = None;
    }

    /// All that the unit has said is out.
    pub(super) fn is_over(&self) -> bool {
        self.pumps.iter().filter(|pump| pump.outward).all(|pump| pump.told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pipe in the place of the port, which takes less than is there.
    #[test]
    fn the_end_of_a_stream_that_nobody_reads_is_what_has_left() {
        let (from, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (_reader, to) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let holds = rustix::pipe::fcntl_setpipe_size(&to, 4096).unwrap();
        rustix::io::write(&writer, &[0; 10_000]).unwrap();
        let pumps = vec![Pump::new(Stream::Output, from, to, true).unwrap()];
        let mut streams = Streams { pumps, ends: Vec::new(), master: None, slave: None, keys: false };
        assert_eq!(streams.turn(), []);
        streams.unread(Stream::Output);
        assert_eq!(streams.turn(), [GuestReport::End { stream: Stream::Output, bytes: holds as u64 }]);
        assert!(streams.is_over());
        assert_eq!(rustix::io::write(&writer, b"more"), Err(Errno::PIPE));
    }
}
