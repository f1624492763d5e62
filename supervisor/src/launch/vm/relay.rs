//! Between the caller and a guest that runs: bytes, signals, messages, until its end.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use hatchway_vm::qemu::Running;
use hatchway_wire::ExitRecord;
use hatchway_wire::guest::{GuestReport, HostOrder, Lines, Stream};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::super::broker::Broker;
use super::streams::{Inward, Outward, flags, nonblocking, of};
use super::terminal::Terminal;
use super::visits::Visits;
use super::watcher::{self, Watched};
use crate::error::Error;
use crate::report::{Printer, one_line};

/// Sent by the kernel, for a key at the terminal, rather than by a process: `SI_KERNEL`, sigaction(2).
const FROM_KERNEL: i32 = 0x80;
/// Bytes of the guest's console that are kept.
const CONSOLE_MAX: usize = 64 << 10;
const READ: usize = 16 << 10;
/// How long a guest has to end beyond the grace time of its tool, before it is switched off.
const END_MAX: Duration = Duration::from_secs(20);
/// Signals that ask for the end.
const END: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];
/// The port for messages is the first.
const CONTROL: usize = 0;

/// How it ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The guest said so.
    Ended { code: i32, record: Option<Box<ExitRecord>> },
    /// It is gone without a word.
    Lost { why: String, console: Vec<u8> },
    /// This process could not go on with it.
    Broken { why: String },
    /// It was never heard.
    Unheard { why: String },
    /// A signal asked for its end before it was heard: nothing of the tool has run.
    Asked { signal: i32 },
}

/// What comes and goes beside the tool's own streams.
pub(super) struct Served {
    pub(super) broker: Option<Broker>,
    pub(super) visits: Visits,
}

impl Served {
    /// The last ports: those of channels, where there are some, and before it that of who comes.
    fn ports<'a>(&self, running: &'a Running) -> (BorrowedFd<'a>, BorrowedFd<'a>) {
        let last = running.ports.len() - 1;
        (running.port(last), running.port(last - usize::from(self.broker.is_some())))
    }
}

/// A guest that runs, and what is between it and the caller.
pub(super) struct Relay<'a> {
    running: Running,
    exited: OwnedFd,
    _watched: Watched,
    signals: SignalFd,
    terminal: &'a Terminal,
    served: Served,
    printer: &'a Printer,
    lines: Lines,
    orders: Vec<u8>,
    inward: Vec<(usize, Inward<'static>)>,
    outward: Vec<(usize, Outward<'static>)>,
    console: Vec<u8>,
    console_ended: bool,
    control_ended: bool,
    heard: bool,
    ended: Option<(i32, Option<Box<ExitRecord>>)>,
    /// What the guest sends is no message: it is not listened to any more.
    broken: Option<String>,
    asked: Option<i32>,
    /// QEMU is gone.
    gone: bool,
    /// The signal that asked for the end, and when a guest that does not end is switched off.
    give_up: Option<(i32, Instant)>,
    grace: Duration,
    /// Keys are the tool's when this process is in front of its terminal.
    wants_keys: bool,
}

impl<'a> Relay<'a> {
    pub(super) fn new(
        running: Running,
        (terminal, served): (&'a Terminal, Served),
        printer: &'a Printer,
        grace: Duration,
    ) -> Result<Self, Error> {
        let failed = |errno: Errno| Error::io("watch", "QEMU")(errno.into());
        let all = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&SigSet::all(), all)
            .map_err(|errno| Error::io("watch signals of", "this process")(errno.into()))?;
        let pid = i32::try_from(running.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .ok_or_else(|| failed(Errno::SRCH))?;
        let exited = pidfd_open(pid, PidfdFlags::empty()).map_err(failed)?;
        let watched = watcher::start(exited.as_fd(), grace + END_MAX)?;
        running.ports.iter().chain([&running.console]).try_for_each(nonblocking).map_err(failed)?;
        let (mut inward, mut outward) = (Vec::new(), Vec::new());
        for (number, stream) in of(terminal.streams()).into_iter().enumerate().map(|(n, s)| (n + 1, s)) {
            match stream {
                Stream::Input => inward.push((number, Inward::new(stream, rustix::stdio::stdin()))),
                Stream::Output => outward.push((number, Outward::new(stream, rustix::stdio::stdout()))),
                Stream::Error => outward.push((number, Outward::new(stream, rustix::stdio::stderr()))),
                Stream::Terminal => {
                    inward.extend(terminal.keys().map(|keys| (number, Inward::new(stream, keys))));
                    outward.extend(terminal.screen().map(|screen| (number, Outward::new(stream, screen))));
                }
            }
        }
        Ok(Self {
            running,
            exited,
            _watched: watched,
            signals,
            terminal,
            served,
            printer,
            lines: Lines::default(),
            orders: Vec::new(),
            inward,
            outward,
            console: Vec::new(),
            console_ended: false,
            control_ended: false,
            heard: false,
            ended: None,
            broken: None,
            asked: None,
            gone: false,
            give_up: None,
            grace,
            wants_keys: false,
        })
    }

    /// Carries everything until the guest has ended. `patience` is for its first message. An error means that nothing has run.
    pub(super) fn run(mut self, patience: Duration) -> Result<Outcome, Error> {
        let begun = Instant::now();
        let outcome = loop {
            match self.turn() {
                Ok(()) => {}
                // The tool may have done something, which its record must not deny.
                Err(error) if self.heard => break Outcome::Broken { why: one_line(&error) },
                Err(error) => return Err(error),
            }
            // What has come is passed on, however long its reader takes.
            if self.is_over() {
                if let Some((code, record)) = self.ended.take() {
                    break Outcome::Ended { code, record };
                }
                if let Some(why) = self.broken.take() {
                    break Outcome::Lost { why, console: std::mem::take(&mut self.console) };
                }
                if self.gone {
                    break self.gone();
                }
            }
            if let Some(signal) = self.asked {
                break Outcome::Asked { signal };
            }
            if let Some((signal, end)) = self.give_up
                && Instant::now() > end
            {
                break Outcome::Asked { signal };
            }
            if !self.heard && begun.elapsed() > patience {
                let last = self.last_words();
                break Outcome::Unheard { why: format!("not within {} seconds{last}", patience.as_secs()) };
            }
        };
        self.terminal.give_back();
        // State is on its disk, or the guest is beyond asking. With what is dropped now QEMU ends.
        Ok(outcome)
    }

    /// Nothing more comes: the guest has said so, or there is nobody who could say anything.
    fn is_over(&self) -> bool {
        let silent = self.gone || self.broken.is_some();
        (silent || self.ended.is_some())
            && self.outward.iter().all(|(_, out)| out.is_over() || self.gone && out.is_drained())
            // Of one that is no guest any more nothing is waited for.
            || self.broken.is_some()
    }

    /// The last line of what the guest's kernel has said.
    fn last_words(&self) -> String {
        let text = String::from_utf8_lossy(&self.console);
        let last = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
        last.map(|line| format!("; its console ends with: {}", plain(line))).unwrap_or_default()
    }

    fn gone(&mut self) -> Outcome {
        let status = self.running.child.wait().map(|status| status.to_string()).unwrap_or_default();
        let panic = String::from_utf8_lossy(&self.console)
            .lines()
            .find(|line| line.contains("Kernel panic"))
            .map(|line| line.trim().to_owned());
        let why = match panic {
            Some(line) => format!("its kernel says: {line}"),
            None => format!("QEMU ended ({status})"),
        };
        if !self.heard {
            let why = format!("{why}{}", self.last_words());
            return Outcome::Unheard { why };
        }
        Outcome::Lost { why, console: std::mem::take(&mut self.console) }
    }

    /// Waits for something and deals with all that is there.
    fn turn(&mut self) -> Result<(), Error> {
        let ready = self.wait()?;
        let is = |source: Source| ready.contains(&source);
        if is(Source::Signals) {
            self.pass_signals()?;
        }
        if is(Source::Control) {
            self.hear();
        }
        if is(Source::Console) {
            self.listen_to_console();
        }
        for source in ready.iter().copied() {
            self.carry(source);
        }
        self.say();
        self.serve();
        self.gone |= is(Source::Exited);
        Ok(())
    }

    /// What is ready. Of the caller's descriptors nothing is read or written that is not: they may block.
    fn wait(&self) -> Result<Vec<Source>, Error> {
        let mut all = vec![
            (Source::Exited, self.exited.as_fd(), flags(!self.gone, PollFlags::IN)),
            (Source::Signals, self.signals.as_fd(), PollFlags::IN),
            (Source::Console, self.running.console.as_fd(), flags(!self.console_ended, PollFlags::IN)),
        ];
        let control =
            flags(!self.control_ended, PollFlags::IN | flags(!self.orders.is_empty(), PollFlags::OUT));
        all.push((Source::Control, self.running.port(CONTROL), control));
        for (index, (port, inward)) in self.inward.iter().enumerate() {
            let (reads, writes) = inward.wants();
            let ours = self.heard && (inward.stream != Stream::Terminal || self.terminal.is_taken());
            all.push((Source::Caller(index), inward.from(), flags(reads && ours, PollFlags::IN)));
            all.push((Source::IntoPort(index), self.running.port(*port), flags(writes, PollFlags::OUT)));
        }
        for (index, (port, out)) in self.outward.iter().enumerate() {
            let (reads, writes) = out.wants();
            all.push((Source::OutOfPort(index), self.running.port(*port), flags(reads, PollFlags::IN)));
            let to = out.to().map(|to| (Source::ToCaller(index), to, flags(writes, PollFlags::OUT)));
            all.extend(to);
        }
        // One of which nothing is wanted is left out: errors are reported whether asked for or not.
        all.retain(|(_, _, wanted)| !wanted.is_empty());
        let mut fds: Vec<PollFd<'_>> =
            all.iter().map(|(_, fd, wanted)| PollFd::from_borrowed_fd(*fd, *wanted)).collect();
        let (channels, exec) = self.served.ports(&self.running);
        fds.extend(self.served.broker.iter().flat_map(|broker| broker.watches(channels)));
        if self.heard && self.ended.is_none() {
            fds.extend(self.served.visits.watches(exec));
        }
        match poll(&mut fds, Some(&Timespec { tv_sec: 1, tv_nsec: 0 })) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::io("wait for", "the guest")(errno.into())),
        }
        let ready = all.iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty());
        Ok(ready.map(|((source, ..), _)| *source).collect())
    }

    fn carry(&mut self, source: Source) {
        let order = match source {
            Source::Caller(index) => self.inward[index].1.read(),
            Source::IntoPort(index) => {
                let (port, inward) = &mut self.inward[index];
                inward.write(self.running.port(*port));
                None
            }
            Source::OutOfPort(index) => {
                let (port, out) = &mut self.outward[index];
                let cooked = out.stream == Stream::Terminal && !self.terminal.is_taken();
                out.read(self.running.port(*port), cooked);
                None
            }
            Source::ToCaller(index) => self.outward[index].1.write(),
            Source::Exited | Source::Signals | Source::Control | Source::Console => return,
        };
        order.into_iter().for_each(|order| self.order(&order));
    }

    fn serve(&mut self) {
        let (channels, exec) = self.served.ports(&self.running);
        match self.served.broker.as_mut().map(|broker| broker.turn(channels)) {
            Some(Ok(words)) => words.into_iter().for_each(|words| self.printer.warn(words)),
            Some(Err(broken)) => self.broken = Some(format!("it sent {broken}")),
            None => {}
        }
        if !self.heard || self.ended.is_some() {
            return;
        }
        match self.served.visits.turn(exec) {
            Ok(orders) => orders.into_iter().for_each(|order| self.order(&order)),
            Err(broken) => self.broken = Some(format!("it sent {broken}")),
        }
    }

    fn order(&mut self, order: &HostOrder) {
        if let Ok(line) = serde_json::to_vec(order) {
            self.orders.extend(line);
            self.orders.push(b'\n');
        }
    }

    /// Writes what the guest takes of its orders now.
    fn say(&mut self) {
        if self.orders.is_empty() {
            return;
        }
        match rustix::io::write(self.running.port(CONTROL), &self.orders) {
            Ok(count) => drop(self.orders.drain(..count)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            // QEMU is gone, which is noticed next.
            Err(_) => self.orders.clear(),
        }
    }

    fn pass_signals(&mut self) -> Result<(), Error> {
        let failed = |errno: nix::Error| Error::io("watch signals of", "this process")(errno.into());
        while let Some(info) = self.signals.read_signal().map_err(failed)? {
            let number = i32::try_from(info.ssi_signo).unwrap_or_default();
            let ours = [Signal::SIGCHLD, Signal::SIGPIPE, Signal::SIGURG, Signal::SIGTTIN, Signal::SIGTTOU];
            if number == Signal::SIGWINCH as i32 {
                self.terminal.window().into_iter().for_each(|window| self.order(&HostOrder::Resize(window)));
            } else if !self.heard && END.iter().any(|signal| *signal as i32 == number) {
                self.asked = Some(number);
            } else if !ours.iter().any(|signal| *signal as i32 == number) {
                let ends = [Signal::SIGTERM, Signal::SIGHUP].iter().any(|signal| *signal as i32 == number);
                if ends && self.give_up.is_none() {
                    self.give_up = Some((number, Instant::now() + self.grace + END_MAX));
                }
                if number == Signal::SIGCONT as i32 && self.wants_keys {
                    self.terminal.take();
                }
                self.order(&HostOrder::Signal { signal: number, key: info.ssi_code == FROM_KERNEL });
            }
        }
        Ok(())
    }

    /// Takes what the guest says. It is hostile: what is no message ends it.
    fn hear(&mut self) {
        let mut buffer = vec![0; READ];
        let count = match rustix::io::read(self.running.port(CONTROL), &mut buffer[..]) {
            Ok(0) => 0,
            Ok(count) => count,
            Err(Errno::AGAIN | Errno::INTR) => return,
            Err(_) => 0,
        };
        if count == 0 {
            self.control_ended = true;
            return;
        }
        let lines = match self.lines.push(&buffer[..count]) {
            Ok(lines) => lines,
            Err(error) => {
                self.broken = Some(format!("it sent {error}"));
                return;
            }
        };
        for line in lines {
            match serde_json::from_slice(&line) {
                Ok(report) => self.report(report),
                Err(error) => self.broken = Some(format!("it sent what is no message: {error}")),
            }
        }
    }

    fn report(&mut self, report: GuestReport) {
        match report {
            GuestReport::Ready { .. } => {
                self.heard = true;
                if self.terminal.is_whole() {
                    self.wants_keys = true;
                    self.terminal.take();
                }
            }
            GuestReport::Failed { message } => {
                self.printer.warn(format!("in the guest: {}", plain(&message)));
            }
            GuestReport::Keys => {
                self.wants_keys = true;
                self.terminal.take();
            }
            GuestReport::Stopped { .. } => {
                let taken = self.terminal.is_taken();
                self.terminal.give_back();
                // As the tool is, until the shell goes on with it.
                raise(Signal::SIGSTOP).ok();
                if taken {
                    self.terminal.take();
                }
            }
            GuestReport::End { stream, bytes } => {
                let found = self.outward.iter_mut().find(|(_, out)| out.stream == stream);
                found.into_iter().for_each(|(_, out)| out.end(bytes));
            }
            GuestReport::Control { id, report } => self.served.visits.report(id, report),
            GuestReport::Ended { code, record } => self.ended = Some((code, record)),
        }
    }

    fn listen_to_console(&mut self) {
        let mut buffer = vec![0; READ];
        match rustix::io::read(&self.running.console, &mut buffer[..]) {
            Ok(0) => self.console_ended = true,
            Ok(count) => self.console.extend(&buffer[..count]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.console_ended = true,
        }
        let surplus = self.console.len().saturating_sub(CONSOLE_MAX);
        drop(self.console.drain(..surplus));
    }
}

/// Nothing in a guest's words may steer the terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Something to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Exited,
    Signals,
    Control,
    Console,
    /// The caller's end of a stream into the guest.
    Caller(usize),
    IntoPort(usize),
    OutOfPort(usize),
    /// The caller's end of a stream out of the guest.
    ToCaller(usize),
}
