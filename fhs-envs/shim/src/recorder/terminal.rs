//! The unit's terminal, and those who have come to it. The tool waits for none of them: who does not read misses output, and is told
//! how much.
use crate::terminal::open_for;
use hatchway_wire::guest::Window;
use hatchway_wire::unit::{Attach, RECENT_MAX, UnitReport, WHO_MAX, WINDOW};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, Shutdown, SocketFlags, SocketType, send, shutdown, socketpair};
use rustix::termios::Winsize;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// Beyond what their socket holds, so much waits for somebody who reads slowly.
const WAITING_MAX: usize = 32 << 10;
/// Keys that are taken before the tool has taken those before: what a terminal holds of a line.
const KEYS_MAX: usize = 4096;
/// Those who may be there at a time.
const SEATS_MAX: usize = 12;
/// How long somebody may take to what was said last, once the unit has ended.
const FAREWELL_MAX: Duration = Duration::from_millis(200);

/// See the module.
#[derive(Debug)]
pub(super) struct Terminal {
    master: OwnedFd,
    /// Held while the unit runs: whoever of it closes the terminal may open it again, and nothing is lost meanwhile.
    slave: Option<OwnedFd>,
    recent: Recent,
    /// What was typed and the terminal has not taken.
    keys: Vec<u8>,
    seats: Vec<Seat>,
    /// The unit's name, for hints.
    unit: String,
}

/// Somebody who has come.
#[derive(Debug)]
struct Seat {
    /// The connection over which they came.
    client: u64,
    who: String,
    write: bool,
    out: Outbox,
}

impl Terminal {
    pub(super) fn open(unit: &str) -> io::Result<Self> {
        let (master, slave) = open_for(WINDOW)?;
        let flags = rustix::fs::fcntl_getfl(&master)?;
        rustix::fs::fcntl_setfl(&master, flags | OFlags::NONBLOCK)?;
        let (recent, keys, seats) = (Recent::default(), Vec::new(), Vec::new());
        Ok(Self { master, slave: Some(slave), recent, keys, seats, unit: unit.to_owned() })
    }

    /// To read from, as from a pipe.
    pub(super) fn output(&self) -> io::Result<OwnedFd> {
        self.master.try_clone()
    }

    /// What the tool's side gets as standard streams.
    pub(super) fn inner(&self) -> io::Result<OwnedFd> {
        self.slave.as_ref().ok_or(io::ErrorKind::NotFound)?.try_clone()
    }

    /// What runs the tool has ended: from now on the terminal's end is seen.
    pub(super) fn let_go(&mut self) {
        self.slave = None;
    }

    /// The tool has said this.
    pub(super) fn show(&mut self, data: &[u8]) {
        self.recent.add(data);
        let unit = &self.unit;
        self.seats.retain_mut(|seat| seat.out.say(data, unit));
    }

    /// Lets somebody come.
    pub(super) fn attach(&mut self, client: u64, order: &Attach) -> (UnitReport, Option<OwnedFd>) {
        let failed = |message: &str| (UnitReport::Failed { message: message.to_owned() }, None);
        if self.seats.iter().any(|seat| seat.client == client) {
            return failed("over this connection somebody has come already");
        }
        if self.seats.len() >= SEATS_MAX {
            return failed("as many have come as there is room for");
        }
        let who = name_of(&order.who);
        if let Some(by) = self.writer().filter(|_| order.write && !order.take) {
            return (UnitReport::Occupied { by: by.to_owned() }, None);
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let Ok((ours, theirs)) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None) else {
            return failed("there is no socket left");
        };
        if order.write && self.writer().is_some() {
            self.unseat(&who);
        }
        let mut seat = Seat { client, who, write: order.write, out: Outbox::new(ours) };
        if !order.write {
            seat.out.hear_no_more();
        }
        let recent = if order.recent { self.recent.shown() } else { &[] };
        if seat.out.say(recent, &self.unit) {
            self.seats.push(seat);
        }
        if let Some(window) = order.window.filter(|_| order.write) {
            self.resize(window);
        }
        (UnitReport::Attached, Some(theirs))
    }

    fn writer(&self) -> Option<&str> {
        self.seats.iter().find(|seat| seat.write).map(|seat| seat.who.as_str())
    }

    /// Whoever writes only reads from now on.
    fn unseat(&mut self, by: &str) {
        // What they have typed and the tool has not taken is not done in another's name.
        self.keys.clear();
        for seat in self.seats.iter_mut().filter(|seat| seat.write) {
            seat.write = false;
            seat.out.hear_no_more();
            seat.out.tell(&format!("{by} writes here now, and you only read"));
        }
    }

    /// As somebody asks for it.
    pub(super) fn resize_for(&self, client: u64, window: Window) -> UnitReport {
        if self.seats.iter().any(|seat| seat.client == client && !seat.write) {
            return UnitReport::Failed { message: "only who writes gives the terminal its size".to_owned() };
        }
        self.resize(window);
        UnitReport::Done
    }

    /// The kernel tells what runs the tool. One without a line or a column is that of nobody's terminal.
    fn resize(&self, window: Window) {
        if window.rows > 0 && window.columns > 0 {
            let size = Winsize { ws_row: window.rows, ws_col: window.columns, ws_xpixel: 0, ws_ypixel: 0 };
            rustix::termios::tcsetwinsize(&self.master, size).ok();
        }
    }

    /// Only those stay whose connection is still there.
    pub(super) fn keep(&mut self, is_there: impl Fn(u64) -> bool) {
        self.seats.retain(|seat| is_there(seat.client));
    }

    /// What to wait for.
    pub(super) fn interest(&self) -> impl Iterator<Item = PollFd<'_>> {
        let master = (!self.keys.is_empty()).then(|| PollFd::new(self.master.as_fd(), PollFlags::POLLOUT));
        let seats = self.seats.iter().filter_map(|seat| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::POLLIN, seat.write && self.keys.is_empty());
            flags.set(PollFlags::POLLOUT, !seat.out.waiting.is_empty());
            (!flags.is_empty()).then(|| PollFd::new(seat.out.stream.as_fd(), flags))
        });
        master.into_iter().chain(seats)
    }

    /// Moves what can be moved.
    pub(super) fn turn(&mut self) {
        let unit = &self.unit;
        self.seats.retain_mut(|seat| seat.out.flush(unit));
        if self.keys.is_empty()
            && let Some(seat) = self.seats.iter_mut().find(|seat| seat.write)
        {
            self.keys.resize(KEYS_MAX, 0);
            let count = match rustix::io::read(&seat.out.stream, &mut self.keys[..]) {
                Err(Errno::AGAIN | Errno::INTR) => 0,
                // They have said all that they want to say, and others may; they are still told.
                Ok(0) | Err(_) => {
                    seat.write = false;
                    0
                }
                Ok(count) => count,
            };
            self.keys.truncate(count);
        }
        if !self.keys.is_empty() {
            match rustix::io::write(&self.master, &self.keys) {
                Ok(count) => drop(self.keys.drain(..count)),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => self.keys.clear(),
            }
        }
    }

    /// The unit has ended, and is told so: nobody waits for this.
    pub(super) fn farewell(&mut self) {
        let end = Instant::now() + FAREWELL_MAX;
        loop {
            let unit = &self.unit;
            self.seats.retain_mut(|seat| seat.out.flush(unit) && !seat.out.waiting.is_empty());
            let left = end.saturating_duration_since(Instant::now());
            if self.seats.is_empty() || left.is_zero() {
                return;
            }
            let streams = self.seats.iter().map(|seat| seat.out.stream.as_fd());
            let mut fds: Vec<PollFd<'_>> = streams.map(|fd| PollFd::new(fd, PollFlags::POLLOUT)).collect();
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            if poll(&mut fds, timeout) == Ok(0) {
                return;
            }
        }
    }
}

/// It is shown at another's terminal, and steers nothing there.
fn name_of(who: &str) -> String {
    match who.is_empty() {
        true => "somebody".to_owned(),
        false => who.chars().take(WHO_MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect(),
    }
}

/// What somebody is still to be told.
#[derive(Debug)]
struct Outbox {
    stream: OwnedFd,
    waiting: Vec<u8>,
    /// Bytes that found no room since.
    lost: u64,
}

impl Outbox {
    fn new(stream: OwnedFd) -> Self {
        Self { stream, waiting: Vec::new(), lost: 0 }
    }

    /// Whoever writes to the other end is told that nobody reads it.
    fn hear_no_more(&self) {
        shutdown(&self.stream, Shutdown::Read).ok();
    }

    /// False where nobody is there any more.
    fn say(&mut self, data: &[u8], unit: &str) -> bool {
        let mut rest = data;
        if self.waiting.is_empty() && self.lost == 0 {
            match self.send(rest) {
                Some(count) => rest = &rest[count..],
                None => return false,
            }
        }
        // One who has missed something is told that first.
        let room = if self.lost > 0 { 0 } else { WAITING_MAX.saturating_sub(self.waiting.len()) };
        let (kept, lost) = rest.split_at(room.min(rest.len()));
        self.waiting.extend_from_slice(kept);
        self.lost = self.lost.saturating_add(u64::try_from(lost.len()).unwrap_or(u64::MAX));
        self.flush(unit)
    }

    /// A line of ours between those of the tool; it waits however much waits already.
    fn tell(&mut self, line: &str) {
        self.waiting.extend_from_slice(format!("\r\n[hatchway: {line}]\r\n").as_bytes());
    }

    /// False where nobody is there any more.
    fn flush(&mut self, unit: &str) -> bool {
        loop {
            if self.waiting.is_empty() {
                // Nothing stays of a burst.
                self.waiting.shrink_to_fit();
                if self.lost == 0 {
                    return true;
                }
                let lost = std::mem::take(&mut self.lost);
                self.tell(&format!("{lost} bytes are not shown here; `hatchway logs {unit}` has them"));
            }
            match self.send(&self.waiting) {
                Some(0) => return true,
                Some(count) => drop(self.waiting.drain(..count)),
                None => return false,
            }
        }
    }

    fn send(&self, data: &[u8]) -> Option<usize> {
        if data.is_empty() {
            return Some(0);
        }
        match send(&self.stream, data, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(count) => Some(count),
            Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS | Errno::NOMEM) => Some(0),
            Err(_) => None,
        }
    }
}

/// What was said last.
#[derive(Debug, Default)]
struct Recent {
    bytes: Vec<u8>,
    /// Something was before it.
    cut: bool,
}

impl Recent {
    fn add(&mut self, data: &[u8]) {
        self.cut |= data.len() > RECENT_MAX;
        self.bytes.extend_from_slice(&data[data.len().saturating_sub(RECENT_MAX)..]);
        // Not at each byte.
        if self.bytes.len() > 2 * RECENT_MAX {
            self.bytes.drain(..self.bytes.len() - RECENT_MAX);
            self.cut = true;
        }
    }

    /// Its end; from a line's beginning, where it has one: no half of a character or of a terminal's command.
    fn shown(&self) -> &[u8] {
        let begin = self.bytes.len().saturating_sub(RECENT_MAX);
        let end = &self.bytes[begin..];
        if begin == 0 && !self.cut {
            return end;
        }
        let line = end.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if line == end.len() { end } else { &end[line..] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn ask(write: bool, take: bool, who: &str) -> Attach {
        Attach { write, take, recent: true, who: who.to_owned(), window: None }
    }

    fn text(stream: &OwnedFd) -> String {
        let mut text = Vec::new();
        let mut file = std::fs::File::from(stream.try_clone().unwrap());
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = file.read(&mut buffer) {
            text.extend_from_slice(&buffer[..count]);
        }
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn what_was_said_last_is_bounded_and_begins_with_a_line() {
        let mut recent = Recent::default();
        recent.add(b"no line yet");
        assert_eq!(recent.shown(), b"no line yet");
        for number in 0..10_000 {
            recent.add(format!("line {number}\r\n").as_bytes());
            assert!(recent.bytes.len() <= 2 * RECENT_MAX);
        }
        let shown = recent.shown();
        assert!(shown.len() <= RECENT_MAX && shown.len() > RECENT_MAX - 20);
        assert!(shown.starts_with(b"line ") && shown.ends_with(b"line 9999\r\n"));
        // Without a line there is nothing better than all of it.
        let mut recent = Recent::default();
        recent.add(&[b'x'; 3 * RECENT_MAX]);
        assert_eq!(recent.shown(), [b'x'; RECENT_MAX]);
    }

    #[test]
    fn one_writes_and_a_second_one_takes_it_over_by_name() {
        let mut terminal = Terminal::open("acme").unwrap();
        terminal.show(b"before\r\n");
        let (report, first) = terminal.attach(1, &ask(true, false, "ada\x1b[2J"));
        assert_eq!((report, text(first.as_ref().unwrap()).as_str()), (UnitReport::Attached, "before\r\n"));
        let (report, none) = terminal.attach(2, &ask(true, false, "bob"));
        assert!(none.is_none());
        assert_eq!(report, UnitReport::Occupied { by: "ada\u{fffd}[2J".to_owned() });
        let (report, reader) = terminal.attach(3, &ask(false, false, "eve"));
        assert_eq!(report, UnitReport::Attached);
        // Who only reads types nothing.
        assert!(rustix::io::write(reader.as_ref().unwrap(), b"x").is_err());
        assert!(matches!(terminal.resize_for(3, WINDOW), UnitReport::Failed { .. }));
        let (report, second) = terminal.attach(2, &ask(true, true, "bob"));
        assert_eq!(report, UnitReport::Attached);
        terminal.turn();
        let first = first.unwrap();
        assert_eq!(text(&first), "\r\n[hatchway: bob writes here now, and you only read]\r\n");
        assert!(rustix::io::write(&first, b"x").is_err());
        // At the end of their input others may.
        shutdown(second.as_ref().unwrap(), Shutdown::Write).unwrap();
        terminal.turn();
        assert_eq!(terminal.attach(4, &ask(true, false, "cid")).0, UnitReport::Attached);
        // Who has had it before needs it not again.
        let again = Attach { recent: false, ..ask(false, false, "fay") };
        assert_eq!(text(&terminal.attach(6, &again).1.unwrap()), "");
        terminal.keep(|client| client != 4);
        assert_eq!(terminal.attach(5, &ask(true, false, "dan")).0, UnitReport::Attached);
        assert!(matches!(terminal.attach(5, &ask(false, false, "dan")).0, UnitReport::Failed { .. }));
    }

    #[test]
    fn who_does_not_read_misses_what_is_counted_and_waits_for_nobody() {
        let mut terminal = Terminal::open("acme").unwrap();
        let stream = terminal.attach(1, &ask(false, false, "")).1.unwrap();
        let line = [b'x'; 1000];
        for _ in 0..4000 {
            terminal.show(&line);
            assert!(terminal.seats[0].out.waiting.len() <= WAITING_MAX);
        }
        let mut said = String::new();
        for _ in 0..100 {
            said += &text(&stream);
            terminal.turn();
        }
        let shown = said.bytes().filter(|byte| *byte == b'x').count();
        let (_, rest) = said.split_once("\r\n[hatchway: ").unwrap();
        let lost: usize = rest.split_once(" bytes are not shown here").unwrap().0.parse().unwrap();
        assert!(lost > 0 && shown + lost == 4_000_000, "{shown} shown, {lost} lost");
        terminal.show(b"on\r\n");
        assert_eq!(text(&stream), "on\r\n");
        drop(stream);
        terminal.show(b"gone\r\n");
        assert!(terminal.seats.is_empty());
    }

    #[test]
    fn keys_and_sizes_reach_the_terminal() {
        let mut terminal = Terminal::open("acme").unwrap();
        let order = Attach { window: Some(Window { rows: 33, columns: 101 }), ..ask(true, false, "ada") };
        let stream = terminal.attach(1, &order).1.unwrap();
        let inner = terminal.inner().unwrap();
        let size = || rustix::termios::tcgetwinsize(&inner).map(|size| (size.ws_row, size.ws_col)).unwrap();
        assert_eq!(size(), (33, 101));
        terminal.resize_for(1, Window { rows: 0, columns: 80 });
        assert_eq!(size(), (33, 101));
        terminal.resize_for(9, Window { rows: 50, columns: 80 });
        assert_eq!(size(), (50, 80));
        rustix::io::write(&stream, b"word\n").unwrap();
        terminal.turn();
        let mut line = [0; 16];
        assert_eq!(rustix::io::read(&inner, &mut line).unwrap(), 5);
        assert_eq!(&line[..5], b"word\n");
        terminal.let_go();
        terminal.farewell();
    }
}
