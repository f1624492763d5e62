//! The tool's own terminal and its relay to the one the user sits at.
use hatchway_wire::StdioMode;
use hatchway_wire::guest::Window;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, Winsize};
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

/// The caller's terminal: where keys come from and where output goes. Standard streams first; a stream that is a pipe or
/// a file has no part in it.
fn outer(streams: [BorrowedFd<'_>; 3], access: OFlags) -> Option<OwnedFd> {
    let fits = |fd: &BorrowedFd<'_>| {
        let mode = rustix::fs::fcntl_getfl(fd).map(|flags| flags & OFlags::RWMODE);
        fd.is_terminal() && mode.is_ok_and(|mode| mode == access || mode == OFlags::RDWR)
    };
    streams.into_iter().find(fits).and_then(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 3).ok()).or_else(|| {
        let flags = access | OFlags::CLOEXEC | OFlags::NOCTTY;
        rustix::fs::open("/dev/tty", flags, rustix::fs::Mode::empty()).ok()
    })
}

pub(crate) fn outer_keys() -> Option<OwnedFd> {
    let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    outer(streams, OFlags::RDONLY)
}

fn outer_screen() -> Option<OwnedFd> {
    let streams = [rustix::stdio::stdout(), rustix::stdio::stderr(), rustix::stdio::stdin()];
    outer(streams, OFlags::WRONLY)
}

/// This process is in front of the terminal, whose keys are then its to read.
pub(crate) fn in_front(outer: Option<&OwnedFd>) -> bool {
    let front = outer.and_then(|outer| rustix::termios::tcgetpgrp(outer).ok());
    front.is_some_and(is_own_group)
}

/// One that was started from another process namespace has no group: 0, of which rustix's own function makes a panic.
fn is_own_group(group: rustix::process::Pid) -> bool {
    group.as_raw_pid() == nix::unistd::getpgrp().as_raw()
}

/// A new terminal of the sandbox of this size, for a program beside the tool.
pub(crate) fn open_for(window: Window) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags)?;
    rustix::pty::unlockpt(&master)?;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    let size = Winsize { ws_row: window.rows, ws_col: window.columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&master, size)?;
    Ok((master, slave))
}

/// A new terminal of the sandbox, with the size of the caller's, and its settings if we are in `front` of it: otherwise
/// they are those of whoever is, a shell's line editor for example.
pub(crate) fn open_inner(mode: StdioMode, front: bool) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags)?;
    rustix::pty::unlockpt(&master)?;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    // There may be no terminal when the mode was asked for by name; the defaults do then. `/dev/tty` is out of reach
    // here, the streams are not.
    let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    for outer in streams.into_iter().filter(IsTerminal::is_terminal) {
        if let (Ok(size), Ok(mut settings)) =
            (rustix::termios::tcgetwinsize(outer), rustix::termios::tcgetattr(outer))
        {
            if mode != StdioMode::Terminal {
                // The tool begins in the background, and is not to be stopped for what it shows.
                settings.local_modes.remove(LocalModes::TOSTOP);
            }
            rustix::termios::tcsetwinsize(&master, size)?;
            if front {
                rustix::termios::tcsetattr(&slave, OptionalActions::Now, &settings)?;
            }
            break;
        }
    }
    Ok((master, slave))
}

/// Between the outer terminal and the inner one.
#[derive(Debug)]
pub(crate) struct Relay {
    master: OwnedFd,
    /// The outer terminal, to read from.
    outer_keys: Option<OwnedFd>,
    /// The outer terminal, to write to.
    outer_screen: Option<OwnedFd>,
    /// The tool has not asked for keys yet, and they may be another's.
    waits: bool,
    /// Whether this process is in front, where it cannot ask: the terminal belongs to a session outside of the container.
    told: Option<bool>,
    /// The outer terminal as it was, while it is raw.
    saved: Option<Termios>,
    keys: Vec<u8>,
    screen: Vec<u8>,
    /// The outer terminal still gives something.
    input: bool,
    /// The inner terminal still gives something.
    output: bool,
}

impl Relay {
    /// Takes the outer terminal if this process is in its foreground, at once or when the tool asks for it.
    pub(crate) fn new(master: OwnedFd, waits: bool, told: Option<bool>) -> io::Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&master)?;
        rustix::fs::fcntl_setfl(&master, flags | OFlags::NONBLOCK)?;
        let mut relay = Self {
            master,
            outer_keys: outer_keys(),
            outer_screen: outer_screen(),
            waits,
            told,
            saved: None,
            keys: Vec::new(),
            screen: Vec::new(),
            input: true,
            output: true,
        };
        relay.resume();
        Ok(relay)
    }

    /// The tool has not asked for keys yet.
    pub(crate) fn waits(&self) -> bool {
        self.waits
    }

    /// The tool asks for keys. False if they are not ours now: then the outer terminal stays as it is.
    pub(crate) fn take_keys(&mut self) -> bool {
        self.waits = false;
        self.resume();
        self.waits = self.saved.is_none();
        !self.waits
    }

    /// There will never be keys: what the tool reads is an end.
    pub(crate) fn give_up_keys(&mut self) {
        self.waits = false;
        self.input = false;
        // What the terminal takes for the end of a file when it reads lines.
        if let Ok(mut settings) = rustix::termios::tcgetattr(&self.master) {
            settings.local_modes.insert(LocalModes::ICANON);
            self.keys = vec![settings.special_codes[SpecialCodeIndex::VEOF]];
            rustix::termios::tcsetattr(&self.master, OptionalActions::Now, &settings).ok();
        }
    }

    fn in_front(&self) -> bool {
        self.told.unwrap_or_else(|| in_front(self.outer_keys.as_ref()))
    }

    /// Raw, unless we are in the background: then the terminal is somebody else's.
    pub(crate) fn resume(&mut self) {
        self.resize();
        if !self.in_front() {
            // Moved there while we were stopped by a signal that cannot be caught.
            self.saved = None;
            return;
        }
        if self.saved.is_some() || self.waits {
            return;
        }
        let Some(outer) = &self.outer_keys else { return };
        if let Ok(settings) = rustix::termios::tcgetattr(outer) {
            let mut raw = settings.clone();
            raw.make_raw();
            if rustix::termios::tcsetattr(outer, OptionalActions::Now, &raw).is_ok() {
                self.saved = Some(settings);
            }
        }
    }

    /// As it was.
    pub(crate) fn restore(&mut self) {
        if let (Some(settings), Some(outer)) = (self.saved.take(), &self.outer_keys) {
            // A terminal that is gone needs no restoring.
            rustix::termios::tcsetattr(outer, OptionalActions::Drain, &settings).ok();
        }
    }

    /// The kernel tells the tool when the size has changed.
    pub(crate) fn resize(&self) {
        if let Some(outer) = self.outer_screen.as_ref().or(self.outer_keys.as_ref())
            && let Ok(size) = rustix::termios::tcgetwinsize(outer)
        {
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
        let master = self.master.as_fd();
        // One that is not there is never waited for.
        let outer = |fd: &'_ Option<OwnedFd>, flags| match fd {
            Some(_) => flags,
            None => PollFlags::empty(),
        };
        [
            (self.outer_keys.as_ref().map_or(master, AsFd::as_fd), outer(&self.outer_keys, keys)),
            (self.outer_screen.as_ref().map_or(master, AsFd::as_fd), outer(&self.outer_screen, screen)),
            (master, inner),
        ]
    }

    /// Moves what can be moved.
    pub(crate) fn ready(&mut self, input: bool, output: bool, inner: bool) {
        if input && self.keys.is_empty() {
            self.read_keys();
        }
        if inner && self.screen.is_empty() {
            self.read_screen();
        }
        if !self.keys.is_empty() {
            give(self.master.as_fd(), &mut self.keys, READ);
        }
        if output {
            self.show();
        }
    }

    fn read_keys(&mut self) {
        if !self.in_front() {
            self.saved = None;
        } else if let Some(outer) = &self.outer_keys {
            self.input = take(outer.as_fd(), &mut self.keys);
        }
    }

    fn read_screen(&mut self) {
        self.output = take(self.master.as_fd(), &mut self.screen);
        if self.outer_screen.is_none() {
            self.screen.clear();
        }
        if self.saved.is_none() {
            // The inner terminal has made a carriage return and a new line of it, and so will the outer one.
            single_returns(&mut self.screen);
        }
    }

    fn show(&mut self) {
        if let Some(outer) = &self.outer_screen
            && !self.screen.is_empty()
        {
            give(outer.as_fd(), &mut self.screen, WRITE);
        }
    }

    /// Shows what is left after the tool's end. A terminal that takes nothing for a second (Ctrl-S) gets no more.
    pub(crate) fn drain(&mut self) {
        while self.output || !self.screen.is_empty() {
            if self.screen.is_empty() {
                self.read_screen();
                if self.screen.is_empty() {
                    return;
                }
            }
            let Some(outer) = &self.outer_screen else { return };
            let mut fds = [PollFd::new(outer.as_fd(), PollFlags::POLLOUT)];
            if !matches!(poll(&mut fds, PollTimeout::from(1000_u16)), Ok(1)) {
                return;
            }
            self.show();
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.restore();
    }
}

/// Takes one carriage return from before each new line.
fn single_returns(screen: &mut Vec<u8>) {
    let mut kept = Vec::with_capacity(screen.len());
    for (index, byte) in screen.iter().enumerate() {
        if *byte != b'\r' || screen.get(index + 1) != Some(&b'\n') {
            kept.push(*byte);
        }
    }
    *screen = kept;
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
