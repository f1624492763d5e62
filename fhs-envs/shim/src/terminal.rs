//! The tool's own terminal and its relay to the one the user sits at.
use hatchway_wire::StdioMode;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, Termios};
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A terminal that says it is writable takes at least this much without blocking.
const WRITE: usize = 256;
const READ: usize = 4096;

/// What the mode means for the streams this process has.
pub(crate) fn resolve(mode: StdioMode) -> StdioMode {
    if mode != StdioMode::Auto {
        return mode;
    }
    let terminals = [io::stdin().is_terminal(), io::stdout().is_terminal(), io::stderr().is_terminal()];
    match terminals {
        [true, true, true] => StdioMode::Terminal,
        [false, false, false] => StdioMode::Detached,
        _ => StdioMode::Shared,
    }
}

/// A new terminal of the sandbox, with the size and settings of the one on standard input.
pub(crate) fn open_inner() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags)?;
    rustix::pty::unlockpt(&master)?;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    // Standard input may be no terminal when the mode was asked for by name; the defaults do then.
    if let (Ok(size), Ok(settings)) =
        (rustix::termios::tcgetwinsize(io::stdin()), rustix::termios::tcgetattr(io::stdin()))
    {
        rustix::termios::tcsetwinsize(&master, size)?;
        rustix::termios::tcsetattr(&slave, OptionalActions::Now, &settings)?;
    }
    Ok((master, slave))
}

/// Between the outer terminal (standard input and output) and the inner one.
#[derive(Debug)]
pub(crate) struct Relay {
    master: OwnedFd,
    /// The outer terminal as it was, while it is raw.
    saved: Option<Termios>,
    keys: Vec<u8>,
    screen: Vec<u8>,
    /// Standard input still gives something.
    input: bool,
    /// The inner terminal still gives something.
    output: bool,
}

impl Relay {
    /// Takes the outer terminal if this process is in its foreground.
    pub(crate) fn new(master: OwnedFd) -> io::Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&master)?;
        rustix::fs::fcntl_setfl(&master, flags | OFlags::NONBLOCK)?;
        let mut relay =
            Self { master, saved: None, keys: Vec::new(), screen: Vec::new(), input: true, output: true };
        relay.resume();
        Ok(relay)
    }

    /// Raw, unless we are in the background: then the terminal is somebody else's.
    pub(crate) fn resume(&mut self) {
        self.resize();
        let front = rustix::termios::tcgetpgrp(io::stdin()).ok();
        if self.saved.is_some() || front != Some(rustix::process::getpgrp()) {
            return;
        }
        if let Ok(settings) = rustix::termios::tcgetattr(io::stdin()) {
            let mut raw = settings.clone();
            raw.make_raw();
            if rustix::termios::tcsetattr(io::stdin(), OptionalActions::Now, &raw).is_ok() {
                self.saved = Some(settings);
            }
        }
    }

    /// As it was.
    pub(crate) fn restore(&mut self) {
        if let Some(settings) = self.saved.take() {
            // A terminal that is gone needs no restoring.
            rustix::termios::tcsetattr(io::stdin(), OptionalActions::Drain, &settings).ok();
        }
    }

    /// The kernel tells the tool when the size has changed.
    pub(crate) fn resize(&self) {
        if let Ok(size) = rustix::termios::tcgetwinsize(io::stdin()) {
            rustix::termios::tcsetwinsize(&self.master, size).ok();
        }
    }

    /// What to wait for: input, output, inner terminal.
    pub(crate) fn interest(&self) -> [(BorrowedFd<'_>, PollFlags); 3] {
        let flag = |on, flag| if on { flag } else { PollFlags::empty() };
        let keys = flag(self.input && self.saved.is_some() && self.keys.is_empty(), PollFlags::POLLIN);
        let screen = flag(!self.screen.is_empty(), PollFlags::POLLOUT);
        let inner = flag(self.output && self.screen.is_empty(), PollFlags::POLLIN)
            | flag(!self.keys.is_empty(), PollFlags::POLLOUT);
        [(rustix::stdio::stdin(), keys), (rustix::stdio::stdout(), screen), (self.master.as_fd(), inner)]
    }

    /// Moves what can be moved.
    pub(crate) fn ready(&mut self, input: bool, output: bool, inner: bool) {
        if input && self.keys.is_empty() {
            self.input = take(rustix::stdio::stdin(), &mut self.keys);
        }
        if inner && self.screen.is_empty() {
            self.output = take(self.master.as_fd(), &mut self.screen);
        }
        if !self.keys.is_empty() {
            give(self.master.as_fd(), &mut self.keys, READ);
        }
        if output && !self.screen.is_empty() {
            give(rustix::stdio::stdout(), &mut self.screen, WRITE);
        }
    }

    /// Shows what is left after the tool's end. A terminal that takes nothing for a second (Ctrl-S) gets no more.
    pub(crate) fn drain(&mut self) {
        while self.output || !self.screen.is_empty() {
            if self.screen.is_empty() {
                self.output = take(self.master.as_fd(), &mut self.screen);
                if self.screen.is_empty() {
                    return;
                }
            }
            let out = rustix::stdio::stdout();
            let mut fds = [PollFd::new(out, PollFlags::POLLOUT)];
            if !matches!(poll(&mut fds, PollTimeout::from(1000_u16)), Ok(1)) {
                return;
            }
            give(out, &mut self.screen, WRITE);
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.restore();
    }
}

/// Reads into an empty buffer; false when there will be no more.
fn take(from: BorrowedFd<'_>, buffer: &mut Vec<u8>) -> bool {
    buffer.resize(READ, 0);
    let (count, more) = match rustix::io::read(from, &mut buffer[..]) {
        Ok(0) => (0, false),
        Ok(count) => (count, true),
        Err(Errno::AGAIN | Errno::INTR) => (0, true),
        Err(_) => (0, false),
    };
    buffer.truncate(count);
    more
}

/// Writes some of the buffer. What cannot be written any more is dropped.
fn give(to: BorrowedFd<'_>, buffer: &mut Vec<u8>, most: usize) {
    let most = most.min(buffer.len());
    match rustix::io::write(to, &buffer[..most]) {
        Ok(count) => drop(buffer.drain(..count)),
        Err(Errno::AGAIN | Errno::INTR) => {}
        Err(_) => buffer.clear(),
    }
}
