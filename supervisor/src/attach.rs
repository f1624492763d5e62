//! A person at a unit's terminal: what they type goes there, and what is said there comes here.

mod keys;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use hatchway_wire::guest::Window;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};

use crate::daemon::client::Client;
use crate::launch::vm::Terminal;
use crate::units::Seat;
use keys::Keys;

/// The protocol's name in `Upgrade` of HTTP.
pub const PROTOCOL: &str = "hatchway-attach";
/// The header of the answer that names the run.
pub const RUN_HEADER: &str = "hatchway-run";

const READ: usize = 4096;
/// A terminal takes so much without waiting, and a pipe.
const WRITE_TERMINAL: usize = 256;
const WRITE_PIPE: usize = 4096;
/// Of what is typed, so much waits for a tool that does not read.
const KEYS_MAX: usize = 64 << 10;
/// Until one is sure that a moment is over.
const TICK: Duration = Duration::from_millis(2);
/// After the end of input that is no terminal: so long without output, and so long at all.
const QUIET: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(10);

/// How one comes there.
#[derive(Debug)]
pub enum Way {
    /// By the unit's folder.
    Folder(Seat),
    /// By a daemon.
    Daemon {
        /// It.
        client: Client,
        /// Where the terminal gets another size.
        resize: String,
        /// Raw bytes both ways.
        stream: OwnedFd,
        /// What came with the answer.
        said: Vec<u8>,
    },
}

impl Way {
    fn stream(&self) -> BorrowedFd<'_> {
        match self {
            Self::Folder(seat) => seat.stream(),
            Self::Daemon { stream, .. } => stream.as_fd(),
        }
    }

    /// A size that cannot be given is no reason to leave.
    fn resize(&self, window: Window) {
        match self {
            Self::Folder(seat) => seat.resize(window),
            Self::Daemon { client, resize, .. } => {
                let path = format!("{resize}?rows={}&cols={}", window.rows, window.columns);
                drop(client.post::<serde_json::Value>(&path, None::<&()>));
            }
        }
    }
}

/// Why it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// The person left.
    Detached,
    /// There is no more input.
    InputOver,
    /// The terminal is gone, and mostly the unit.
    Ended,
    /// A signal came.
    Signal(i32),
}

/// The size that a unit's terminal is to have: that of the caller's, where all of it is at one.
#[must_use]
pub(crate) fn window(terminal: &Terminal) -> Option<Window> {
    let [input, output, _] = terminal.streams();
    terminal.window().filter(|_| input && output)
}

/// Stays until one of the sides has enough. The caller's terminal is as it was afterwards.
///
/// # Errors
/// Signals cannot be watched, or something cannot be waited for.
pub(crate) fn serve(way: &Way, write: bool, terminal: &Terminal) -> io::Result<Left> {
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let signals = SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let [typed, shown, _] = terminal.streams();
    let mut session = Session {
        way,
        terminal,
        typed,
        piped: !typed && write,
        write,
        at_most: if shown { WRITE_TERMINAL } else { WRITE_PIPE },
        looked: Keys::new(!write),
        keys: Vec::new(),
        screen: Vec::new(),
        input: typed || write,
        over: None,
        ended: false,
    };
    if let Way::Daemon { said, .. } = way {
        session.screen.clone_from(said);
    }
    if typed {
        terminal.take();
    }
    let left = session.run(&signals);
    terminal.give_back();
    // Who still waits for the unit's end may be interrupted.
    before.thread_set_mask()?;
    left
}

struct Session<'a> {
    way: &'a Way,
    terminal: &'a Terminal,
    /// Keys come from a terminal.
    typed: bool,
    /// They come from a pipe or a file, with whose end we leave.
    piped: bool,
    write: bool,
    at_most: usize,
    looked: Keys,
    keys: Vec<u8>,
    screen: Vec<u8>,
    /// There may be more input.
    input: bool,
    /// Since when there is no more input, or no output after it.
    over: Option<(Instant, Instant)>,
    /// There is no more output.
    ended: bool,
}

impl Session<'_> {
    fn run(&mut self, signals: &SignalFd) -> io::Result<Left> {
        loop {
            if self.ended && self.screen.is_empty() {
                return Ok(Left::Ended);
            }
            if self.over.is_some() && self.rest().is_zero() {
                return Ok(Left::InputOver);
            }
            let [heard, input, screen] = self.wait(signals)?;
            while let Some(info) = signals.read_signal()? {
                if let Some(left) = self.signal(i32::try_from(info.ssi_signo).unwrap_or_default()) {
                    return Ok(left);
                }
            }
            if heard {
                self.hear();
            }
            if screen && !self.show() {
                return Ok(Left::Detached);
            }
            let late = self.looked.late(Instant::now());
            self.keep(&late);
            if input && self.read() {
                // What was typed before is the tool's, if it takes it at once.
                self.send();
                return Ok(Left::Detached);
            }
            self.send();
        }
    }

    /// How long what comes after the end of input is still waited for.
    fn rest(&self) -> Duration {
        let Some((over, last)) = self.over else { return Duration::MAX };
        let end = (last + QUIET).min(over + REST_MAX);
        end.saturating_duration_since(Instant::now())
    }

    /// Input is read: keys only while they are ours, and never more of a pipe than the tool takes.
    fn takes_input(&self) -> bool {
        self.input && if self.typed { self.terminal.is_taken() } else { self.keys.is_empty() }
    }

    /// Whether there is output, whether there is input, and whether output can be shown.
    fn wait(&self, signals: &SignalFd) -> io::Result<[bool; 3]> {
        let stream = self.way.stream();
        let mut wanted = PollFlags::empty();
        wanted.set(PollFlags::IN, self.screen.is_empty() && !self.ended);
        wanted.set(PollFlags::OUT, !self.keys.is_empty() && self.write);
        let mut fds = vec![PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
        let mut places = [None; 3];
        let mut add = |place: usize, fd, flags: PollFlags| {
            if !flags.is_empty() {
                places[place] = Some(fds.len());
                fds.push(PollFd::from_borrowed_fd(fd, flags));
            }
        };
        let flag = |on: bool, flags| if on { flags } else { PollFlags::empty() };
        add(0, stream, wanted);
        add(1, rustix::stdio::stdin(), flag(self.takes_input(), PollFlags::IN));
        add(2, rustix::stdio::stdout(), flag(!self.screen.is_empty(), PollFlags::OUT));
        let held = self.looked.due().map(|due| due.saturating_duration_since(Instant::now()) + TICK);
        let rest = self.over.map(|_| self.rest());
        let timeout = held.into_iter().chain(rest).min().and_then(|wait| Timespec::try_from(wait).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok([false; 3]),
            Err(errno) => return Err(errno.into()),
        }
        Ok(places.map(|place| place.is_some_and(|place| !fds[place].revents().is_empty())))
    }

    fn signal(&mut self, number: i32) -> Option<Left> {
        let is = |signal: Signal| signal as i32 == number;
        if is(Signal::SIGWINCH) {
            if let Some(window) = window(self.terminal).filter(|_| self.write) {
                self.way.resize(window);
            }
        } else if is(Signal::SIGCONT) && self.typed {
            // We may be in front again.
            self.terminal.take();
        }
        let ends = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT].into_iter().any(is);
        ends.then_some(Left::Signal(number))
    }

    fn hear(&mut self) {
        if !self.screen.is_empty() || self.ended {
            return;
        }
        self.screen.resize(READ, 0);
        let count = match rustix::io::read(self.way.stream(), &mut self.screen[..]) {
            Err(Errno::AGAIN | Errno::INTR) => Some(0),
            Ok(0) | Err(_) => None,
            Ok(count) => Some(count),
        };
        self.screen.truncate(count.unwrap_or_default());
        self.ended = count.is_none();
        if let Some((_, last)) = self.over.as_mut().filter(|_| !self.screen.is_empty()) {
            *last = Instant::now();
        }
    }

    /// False where nobody sees it any more.
    fn show(&mut self) -> bool {
        let most = self.at_most.min(self.screen.len());
        match rustix::io::write(rustix::stdio::stdout(), &self.screen[..most]) {
            Ok(count) => drop(self.screen.drain(..count)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => return false,
        }
        true
    }

    /// True where the person leaves.
    fn read(&mut self) -> bool {
        let mut buffer = [0; READ];
        let count = match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
            Err(Errno::AGAIN | Errno::INTR) => return false,
            Ok(count) => count,
            Err(_) => 0,
        };
        if count == 0 {
            self.input = false;
            // A terminal that is gone.
            return self.typed;
        }
        let bytes = &buffer[..count];
        if !self.typed {
            self.keep(bytes);
            return false;
        }
        let (passed, leaves) = self.looked.typed(bytes, Instant::now());
        self.keep(&passed);
        leaves
    }

    /// More than a tool that does not read will ever see is not kept.
    fn keep(&mut self, bytes: &[u8]) {
        if self.write && self.keys.len() < KEYS_MAX {
            self.keys.extend_from_slice(bytes);
        }
    }

    fn send(&mut self) {
        if self.write && !self.keys.is_empty() {
            match rustix::net::send(self.way.stream(), &self.keys, rustix::net::SendFlags::NOSIGNAL) {
                Ok(count) => drop(self.keys.drain(..count)),
                Err(Errno::AGAIN | Errno::INTR) => {}
                // Another has taken the terminal over, which is told in what is shown; or it is gone.
                Err(_) => {
                    self.write = false;
                    self.looked.read_only = true;
                }
            }
        }
        // One whose pipe was taken over has nothing more to say, either.
        let is_over = !self.write || !self.input && self.keys.is_empty();
        if self.piped && is_over && self.over.is_none() {
            shutdown(self.way.stream(), Shutdown::Write).ok();
            self.input = false;
            self.over = Some((Instant::now(), Instant::now()));
        }
    }
}
