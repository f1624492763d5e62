//! PID 1 at work: reaps everything, passes signals to the tool, ends everything when the tool or the attendant ends.
use crate::channel::{Channel, Received};
use crate::health::Check;
use crate::keeper::Keeper;
use crate::ready::Look;
use crate::visits::Visits;
use hatchway_wire::attend::{Order, Report};
use hatchway_wire::ready::Watched;
use hatchway_wire::{Bootstrap, Outcome, Usage};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus as WaitState, waitid};
use nix::unistd::Pid;
use rustix::process::{WaitOptions, WaitStatus};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// Every process but this one, in this namespace.
const EVERYBODY: Pid = Pid::from_raw(-1);

#[derive(Debug)]
pub(crate) struct Reaper<'a> {
    tool: Pid,
    /// Its terminal, if it has one; then it leads a process group of its own. Held open here, so that the relay goes on
    /// for a tool that closes its streams and opens `/dev/tty` later.
    terminal: Option<OwnedFd>,
    grace: Duration,
    /// How the name of a process begins without which the tool cannot go on.
    vital: Option<String>,
    signals: SignalFd,
    ended: bool,
    forced: bool,
    deadline: Option<Instant>,
    visits: Visits<'a>,
    health: Option<Check<'a>>,
    ready: Look<'a>,
    /// What keeps the tool's services; they end after it.
    keeper: Option<Keeper>,
}

impl<'a> Reaper<'a> {
    pub(crate) fn new(
        (tool, terminal): (Pid, Option<OwnedFd>),
        bootstrap: &'a Bootstrap,
        signals: SignalFd,
        keeper: Option<Keeper>,
        ready: Look<'a>,
    ) -> Self {
        let grace = Duration::from_millis(bootstrap.grace_ms);
        let visits = Visits::new(&bootstrap.process);
        let health = bootstrap.health.as_ref().map(|health| Check::new(health, &bootstrap.process));
        let vital = bootstrap.vital.clone();
        let (ended, forced, deadline) = (false, false, None);
        Self { tool, terminal, grace, vital, signals, ended, forced, deadline, visits, health, ready, keeper }
    }

    /// Until nothing is left. When this process ends, the kernel kills whatever still is in the namespace.
    pub(crate) fn run(mut self, channel: &Channel) -> i32 {
        match self.serve(channel) {
            Ok(()) => 0,
            // The attendant is gone or we cannot go on: the end of this process is the end of all.
            Err(_) => 1,
        }
    }

    fn serve(&mut self, channel: &Channel) -> io::Result<()> {
        loop {
            if self.reap(channel)? {
                let usage = usage();
                return channel.send(&Report::Empty { usage }, None);
            }
            // What was reaped may have said how the tool is.
            if !self.ended {
                self.look(channel)?;
            }
            self.wait(channel)?;
            // SIGCHLD may come from anybody inside; it only means "look". All others stay blocked for ever.
            while self.signals.read_signal()?.is_some() {}
            self.without_services(channel)?;
            loop {
                match channel.receive_all::<Order>()? {
                    // Nothing begins any more once the tool has ended.
                    Received::Message(Order::Control { .. }, _) if self.ended => {}
                    Received::Message(Order::Control { id, order }, fds) => {
                        self.visits.condition = self.health.as_ref().map(Check::condition);
                        self.visits.obey(id, order, fds, channel)?;
                    }
                    Received::Message(order, _) => self.obey(&order),
                    Received::Nothing => break,
                    Received::End => return Err(io::ErrorKind::UnexpectedEof.into()),
                }
            }
            if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                self.deadline = None;
                self.forced |= !self.ended;
                send(EVERYBODY, Signal::SIGKILL);
            }
        }
    }

    /// How the tool is, for who wants to know.
    fn look(&mut self, channel: &Channel) -> io::Result<()> {
        if let Some(health) = &mut self.health {
            health.turn(channel)?;
        }
        self.ready.turn(self.visits.is_watched());
        if !self.visits.is_watched() {
            return Ok(());
        }
        let health = self.health.as_ref().map(Check::condition);
        let (ready, status) = self.ready.seen();
        self.visits.tell(&Watched { ready, health, status }, channel)
    }

    fn wait(&self, channel: &Channel) -> io::Result<()> {
        let check = self.health.as_ref().filter(|_| !self.ended).and_then(Check::due);
        let look = Some(&self.ready).filter(|_| !self.ended);
        let next = [self.deadline, check, look.and_then(Look::due)].into_iter().flatten().min();
        let timeout = match next {
            None => PollTimeout::NONE,
            Some(deadline) => {
                // One more millisecond, or rounding down would spin.
                let left = deadline.saturating_duration_since(Instant::now()).as_millis().saturating_add(1);
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            }
        };
        let others = [channel.as_fd(), self.signals.as_fd()].into_iter();
        let heard = others.chain(self.keeper.as_ref().map(AsFd::as_fd));
        let mut fds: Vec<PollFd<'_>> = heard.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        fds.extend(look.into_iter().flat_map(Look::watches));
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::Error::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// A tool without its services may go on; a person is told.
    fn without_services(&mut self, channel: &Channel) -> io::Result<()> {
        let Some(message) = self.keeper.as_ref().map(Keeper::lost).transpose()?.flatten() else {
            return Ok(());
        };
        self.keeper = None;
        channel.send(&Report::Caution { message }, None)
    }

    /// Collects whatever changed; true when no process is left.
    fn reap(&mut self, channel: &Channel) -> io::Result<bool> {
        loop {
            self.without_vital(channel)?;
            match rustix::process::wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
                Ok(None) => return Ok(false),
                Ok(Some((pid, status))) if pid.as_raw_pid() == self.tool.as_raw() => {
                    if let Some(signal) = status.stopping_signal() {
                        channel.send(&Report::Stopped { signal }, None)?;
                    } else if let Some(outcome) = outcome(status) {
                        self.tool_ended(outcome, channel)?;
                    }
                }
                Ok(Some((pid, status))) => self.collected(pid.as_raw_pid(), status, channel)?,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::CHILD) => return Ok(true),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Another than the tool.
    fn collected(&mut self, pid: i32, status: WaitStatus, channel: &Channel) -> io::Result<()> {
        // Once the tool has ended, nothing is said of how it was.
        if let Some(health) = self.health.as_mut().filter(|_| !self.ended)
            && health.collected(pid, status, channel)?
        {
            return Ok(());
        }
        if !self.ended && self.ready.collected(pid, status) {
            return Ok(());
        }
        self.visits.collected(pid, status, channel)
    }

    /// Kills the tool when what it cannot go on without was killed: its name is there until it is reaped.
    fn without_vital(&mut self, channel: &Channel) -> io::Result<()> {
        let Some(vital) = self.vital.as_ref().filter(|_| !self.ended) else { return Ok(()) };
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let Ok(WaitState::Signaled(pid, signal, _)) = waitid(Id::All, look) else { return Ok(()) };
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if pid == self.tool || !name.starts_with(vital) {
            return Ok(());
        }
        let message = format!(
            "`{vital}` was ended by {signal}, and the tool, which would wait for it for ever, was killed"
        );
        self.vital = None;
        send(self.tool, Signal::SIGKILL);
        channel.send(&Report::Note { message }, None)
    }

    fn tool_ended(&mut self, outcome: Outcome, channel: &Channel) -> io::Result<()> {
        self.ended = true;
        channel.send(&Report::Ended { outcome, forced: self.forced }, None)?;
        // What it left behind is asked to end as well. A stopped process hears nothing but SIGCONT.
        send(EVERYBODY, Signal::SIGTERM);
        send(EVERYBODY, Signal::SIGCONT);
        self.deadline = Some(Instant::now() + self.grace);
        self.keeper = None;
        Ok(())
    }

    fn obey(&mut self, order: &Order) {
        match *order {
            Order::Signal { signal } => self.signal(signal),
            Order::End { signal } => {
                self.signal(signal);
                // A stopped tool could not act on it.
                self.go_on();
                if self.deadline.is_none() {
                    self.deadline = Some(Instant::now() + self.grace);
                }
            }
            Order::Group { signal } => {
                if let Ok(signal) = Signal::try_from(signal)
                    && !self.ended
                {
                    // It fails once the group is empty.
                    killpg(self.tool, signal).ok();
                }
            }
            Order::Continue => self.go_on(),
            Order::Foreground => {
                if let (Some(terminal), Some(tool)) =
                    (&self.terminal, rustix::process::Pid::from_raw(self.tool.as_raw()))
                {
                    // It fails once the group is empty, and then nobody reads.
                    rustix::termios::tcsetpgrp(terminal, tool).ok();
                }
                self.go_on();
            }
            Order::Forget { id } => self.visits.forget(id),
            // The sandbox was made long ago; who came was heard before.
            Order::GoOn | Order::Control { .. } => {}
        }
    }

    fn signal(&self, number: i32) {
        if let Ok(signal) = Signal::try_from(number)
            && !self.ended
        {
            send(self.tool, signal);
        }
    }

    fn go_on(&self) {
        if self.ended {
            return;
        }
        if self.terminal.is_some() {
            // It fails once the group is empty, and then nothing is stopped.
            killpg(self.tool, Signal::SIGCONT).ok();
        }
        send(self.tool, Signal::SIGCONT);
    }
}

/// The only failure is that nobody is there any more, which the next reaping finds out.
fn send(to: Pid, signal: Signal) {
    kill(to, signal).ok();
}

/// How a process ended; `None` if it did not.
pub(crate) fn outcome(status: WaitStatus) -> Option<Outcome> {
    if let Some(code) = status.exit_status() {
        return Some(Outcome::Exit { code });
    }
    let signal = status.terminating_signal()?;
    Some(Outcome::Signal { signal, core: status.as_raw() & 0x80 != 0 })
}

fn usage() -> Usage {
    let Ok(used) = getrusage(UsageWho::RUSAGE_CHILDREN) else { return Usage::default() };
    let micros = |time: nix::sys::time::TimeVal| {
        time.tv_sec().saturating_mul(1_000_000).saturating_add(time.tv_usec())
    };
    Usage {
        user_us: micros(used.user_time()),
        system_us: micros(used.system_time()),
        max_rss_kib: used.max_rss(),
        major_faults: used.major_page_faults(),
    }
}
