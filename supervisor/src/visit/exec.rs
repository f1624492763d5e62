//! Another program in the sandbox of a tool that runs. With a terminal it gets one of the sandbox's, which this process relays; its
//! other streams are this process's own, but for those that are a terminal: no descriptor of the caller's terminal goes inside.

use std::io::IsTerminal;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;

use hatchway_wire::Outcome;
use hatchway_wire::control::{ControlOrder, ControlReport, Exec, ORDER_MAX};
use hatchway_wire::exit::{CODE_NOT_EXECUTABLE, CODE_NOT_FOUND};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::Winsize;

use super::Running;
use crate::error::Error;
use crate::launch::packets::{Packets, Received};
use crate::launch::vm::Terminal;
use crate::report::Printer;

const READ: usize = 16 << 10;

/// Runs a program to its end; its exit code comes back.
///
/// # Errors
/// The unit is gone, or does not start it.
pub fn exec(
    printer: &Printer,
    at: &Running,
    wish: (String, Vec<String>, Vec<(String, String)>),
) -> Result<ExitCode, Error> {
    let (program, args, mut env) = wish;
    let terminal = Terminal::find();
    // As with `run`: a standard error that goes elsewhere goes there.
    let whole = terminal.is_whole();
    let window = terminal.window().filter(|_| whole);
    if whole
        && let Ok(term) = std::env::var("TERM")
        && !env.iter().any(|(name, _)| name == "TERM")
    {
        env.push(("TERM".to_owned(), term));
    }
    let packets = at.connect()?;
    let failed = || Error::io("speak to", at.tool.as_str());
    let mut visit = Visit { packets, terminal, lanes: Vec::new(), master: None, begun: false, ended: false };
    let streams = if window.is_some() { Vec::new() } else { visit.streams().map_err(failed())? };
    let streams: Vec<BorrowedFd<'_>> = streams.iter().map(Stream::as_fd).collect();
    let signals = signals()?;
    let order = ControlOrder::Exec(Exec { program, args, env, terminal: window });
    if serde_json::to_vec(&order).map_or(usize::MAX, |text| text.len()) > ORDER_MAX {
        return Err(Error::Usage(format!("the command is longer than {ORDER_MAX} bytes")));
    }
    visit.packets.send(&order, &streams).map_err(failed())?;
    let ended = visit.run(&signals);
    visit.terminal.give_back();
    let Some(report) = ended.map_err(failed())? else {
        return Err(Error::Host {
            message: format!("`{}` has ended, and the program with it", at.tool),
            hints: vec!["`exit.json` in its folder says how".to_owned()],
        });
    };
    Ok(told(printer, &report))
}

fn told(printer: &Printer, report: &ControlReport) -> ExitCode {
    let code = match report {
        ControlReport::Ended { outcome } => outcome.code(),
        ControlReport::Failed { found, message, hint } => {
            let hints = hint.iter().cloned().collect();
            printer.error(&Error::Host { message: message.clone(), hints });
            if *found { CODE_NOT_EXECUTABLE } else { CODE_NOT_FOUND }
        }
        _ => 0,
    };
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

fn signals() -> Result<SignalFd, Error> {
    let failed = |errno: nix::Error| Error::io("watch signals of", "this process")(errno.into());
    SigSet::all().thread_block().map_err(failed)?;
    SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(failed)
}

/// What the program gets as one of its streams.
enum Stream {
    Own(BorrowedFd<'static>),
    Pipe(OwnedFd),
}

impl Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Own(fd) => *fd,
            Self::Pipe(fd) => fd.as_fd(),
        }
    }
}

/// One direction between the caller and the program.
struct Lane {
    from: Option<OwnedFd>,
    to: Option<OwnedFd>,
    waiting: Vec<u8>,
    /// Out of the sandbox.
    outward: bool,
}

struct Visit {
    packets: Packets,
    terminal: Terminal,
    lanes: Vec<Lane>,
    master: Option<OwnedFd>,
    /// The unit has answered.
    begun: bool,
    /// It has nothing more to say.
    ended: bool,
}

impl Visit {
    /// The program's streams; for a terminal a pipe, which this process relays.
    fn streams(&mut self) -> std::io::Result<Vec<Stream>> {
        let own = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
        let mut streams = Vec::new();
        for (number, fd) in own.into_iter().enumerate() {
            if !fd.is_terminal() {
                streams.push(Stream::Own(fd));
                continue;
            }
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
            let copy = rustix::io::fcntl_dupfd_cloexec(fd, 3)?;
            let (lane, theirs) = match number {
                0 => (Lane { from: Some(copy), to: Some(write), waiting: Vec::new(), outward: false }, read),
                _ => (Lane { from: Some(read), to: Some(copy), waiting: Vec::new(), outward: true }, write),
            };
            self.lanes.push(lane);
            streams.push(Stream::Pipe(theirs));
        }
        Ok(streams)
    }

    /// The last report; nothing where the unit ended without one.
    fn run(&mut self, signals: &SignalFd) -> std::io::Result<Option<ControlReport>> {
        let mut last = None;
        loop {
            // What the program has said is passed on, whoever else still could say something.
            if last.is_some() && !self.lanes.iter().any(|lane| lane.outward && lane.has_more()) {
                return Ok(last);
            }
            self.wait(signals)?;
            while let Some(info) = signals.read_signal()? {
                let number = i32::try_from(info.ssi_signo).unwrap_or_default();
                let ends =
                    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].iter().any(|one| *one as i32 == number);
                // One who waits for a unit that does not answer, or for what others say after the program's end, has had enough.
                if ends && (!self.begun || self.ended) {
                    let outcome = Outcome::Signal { signal: number, core: false };
                    return Ok(last.or(Some(ControlReport::Ended { outcome })));
                }
                self.signal(number)?;
            }
            self.lanes.iter_mut().for_each(Lane::turn);
            if self.master.is_some() && self.lanes.iter().any(|lane| lane.outward && lane.is_over()) {
                // Nobody inside has the terminal open any more. Where it comes from a guest, this is heard there.
                self.master = None;
                self.lanes.clear();
            }
            loop {
                match self.packets.receive::<ControlReport>()? {
                    Received::Message(ControlReport::Terminal, fds) => self.relay(fds.into_iter().next())?,
                    Received::Message(
                        ControlReport::Started { .. } | ControlReport::Stats(_) | ControlReport::Watched(_),
                        _,
                    ) => {
                        self.begun = true;
                    }
                    Received::Message(report, _) => {
                        last = Some(report);
                        self.ended = true;
                    }
                    Received::Nothing => break,
                    Received::End if last.is_some() => break,
                    Received::End => return Ok(None),
                }
            }
        }
    }

    fn relay(&mut self, master: Option<OwnedFd>) -> std::io::Result<()> {
        let Some(master) = master else { return Ok(()) };
        let copy = |fd: BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, 3);
        if let (Some(keys), Some(screen)) = (self.terminal.keys(), self.terminal.screen()) {
            let lane =
                |from, to, outward| Lane { from: Some(from), to: Some(to), waiting: Vec::new(), outward };
            self.lanes.push(lane(copy(keys)?, copy(master.as_fd())?, false));
            self.lanes.push(lane(copy(master.as_fd())?, copy(screen)?, true));
        }
        self.terminal.take();
        self.master = Some(master);
        Ok(())
    }

    fn wait(&self, signals: &SignalFd) -> std::io::Result<()> {
        let mut fds = vec![PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
        if !self.ended {
            fds.push(PollFd::new(&self.packets, PollFlags::IN));
        }
        fds.extend(self.lanes.iter().filter_map(Lane::wish));
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn signal(&mut self, number: i32) -> std::io::Result<()> {
        let passed = [
            Signal::SIGINT,
            Signal::SIGQUIT,
            Signal::SIGTERM,
            Signal::SIGHUP,
            Signal::SIGUSR1,
            Signal::SIGUSR2,
        ];
        if number == Signal::SIGWINCH as i32 {
            if let (Some(window), Some(master)) = (self.terminal.window(), &self.master) {
                let size =
                    Winsize { ws_row: window.rows, ws_col: window.columns, ws_xpixel: 0, ws_ypixel: 0 };
                if rustix::termios::tcsetwinsize(master, size).is_err() {
                    self.packets.send(&ControlOrder::Resize(window), &[])?;
                }
            }
        } else if passed.iter().any(|signal| *signal as i32 == number) {
            self.packets.send(&ControlOrder::Signal { signal: number }, &[])?;
        }
        Ok(())
    }
}

impl Lane {
    fn wish(&self) -> Option<PollFd<'_>> {
        let (fd, flags) = match (&self.from, &self.to) {
            (_, Some(to)) if !self.waiting.is_empty() => (to, PollFlags::OUT),
            (Some(from), Some(_)) => (from, PollFlags::IN),
            _ => return None,
        };
        Some(PollFd::new(fd, flags))
    }

    fn is_ready(fd: &OwnedFd, flags: PollFlags) -> bool {
        let mut fds = [PollFd::new(fd, flags)];
        matches!(poll(&mut fds, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1..))
    }

    fn is_over(&self) -> bool {
        self.from.is_none() && self.waiting.is_empty()
    }

    /// There is something to pass on now.
    fn has_more(&self) -> bool {
        !self.waiting.is_empty()
            || self.to.is_some() && self.from.as_ref().is_some_and(|from| Self::is_ready(from, PollFlags::IN))
    }

    /// Moves what can be moved. The caller's descriptors may block, so nothing is done that is not ready.
    fn turn(&mut self) {
        if let (Some(from), true) = (&self.from, self.waiting.is_empty())
            && Self::is_ready(from, PollFlags::IN)
        {
            self.waiting.resize(READ, 0);
            let count = match rustix::io::read(from, &mut self.waiting[..]) {
                Ok(count) => count,
                Err(Errno::AGAIN | Errno::INTR) => {
                    self.waiting.clear();
                    return;
                }
                // A terminal that nobody has open any more.
                Err(_) => 0,
            };
            self.waiting.truncate(count);
            if count == 0 {
                self.from = None;
            }
        }
        if let (Some(to), false) = (&self.to, self.waiting.is_empty())
            && Self::is_ready(to, PollFlags::OUT)
        {
            // A terminal takes so much without waiting.
            let most = self.waiting.len().min(256);
            match rustix::io::write(to, &self.waiting[..most]) {
                Ok(count) => drop(self.waiting.drain(..count)),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => {
                    (self.from, self.to) = (None, None);
                    self.waiting.clear();
                }
            }
        }
        if self.is_over() {
            self.to = None;
        }
    }
}
