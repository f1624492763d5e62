//! Whether the tool is well: a program of the tree that is started beside it again and again, with all that holds for the tool.
use crate::channel::Channel;
use crate::reaper::outcome;
use crate::spawn::{Spawned, Streams, spawn};
use hatchway_wire::attend::Report;
use hatchway_wire::control::Condition;
use hatchway_wire::{Health, Outcome, Process};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rustix::fs::{Mode, OFlags};
use rustix::process::WaitStatus;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Changes that are told; a tool that goes up and down for years fills no record.
const TOLD_MAX: u32 = 32;

#[derive(Debug)]
pub(crate) struct Check<'a> {
    wanted: &'a Health,
    process: Process,
    began: Instant,
    next: Instant,
    /// The one that runs, and when it has run for too long.
    running: Option<(Pid, Instant)>,
    late: bool,
    failures: u32,
    condition: Condition,
    told: u32,
}

impl<'a> Check<'a> {
    pub(crate) fn new(wanted: &'a Health, process: &Process) -> Self {
        let (program, args) = (wanted.program.clone(), wanted.args.clone());
        let now = Instant::now();
        Self {
            wanted,
            process: Process { program, args, ..process.clone() },
            began: now,
            next: now + Duration::from_millis(wanted.every_ms),
            running: None,
            late: false,
            failures: 0,
            condition: Condition::Starting,
            told: 0,
        }
    }

    pub(crate) fn condition(&self) -> Condition {
        self.condition
    }

    /// When there is something to do.
    pub(crate) fn due(&self) -> Option<Instant> {
        match self.running {
            Some((_, late)) => (!self.late).then_some(late),
            None => Some(self.next),
        }
    }

    /// Starts the program when it is time, and kills it when it takes too long.
    pub(crate) fn turn(&mut self, channel: &Channel) -> io::Result<()> {
        let now = Instant::now();
        match self.running {
            Some((pid, late)) if now >= late && !self.late => {
                self.late = true;
                // The only failure is that nobody is there any more.
                killpg(pid, Signal::SIGKILL).ok();
            }
            None if now >= self.next => self.start(now, channel)?,
            Some(_) | None => {}
        }
        Ok(())
    }

    fn start(&mut self, now: Instant, channel: &Channel) -> io::Result<()> {
        self.late = false;
        self.next = now + Duration::from_millis(self.wanted.every_ms);
        match spawn(&self.process, &Streams::Given(nothing()?)) {
            // It could not become the program, and has said why.
            Ok(Spawned::Child) => hatchway_sys::process::end_at_once(1),
            Ok(Spawned::Running(pid)) => {
                self.running = Some((pid, now + Duration::from_millis(self.wanted.timeout_ms)));
                Ok(())
            }
            Ok(Spawned::Failed(Report::ExecFailed { message, .. })) => self.failed(&message, channel),
            Ok(Spawned::Failed(_)) => self.failed("it did not start", channel),
            Err(failure) => {
                self.failed(&format!("cannot {}: {}", failure.operation, failure.source), channel)
            }
        }
    }

    /// Takes note of a process that has changed; false where it is another's.
    pub(crate) fn collected(&mut self, pid: i32, status: WaitStatus, channel: &Channel) -> io::Result<bool> {
        if self.running.is_none_or(|(own, _)| own.as_raw() != pid) {
            return Ok(false);
        }
        let Some(outcome) = outcome(status) else { return Ok(true) };
        self.running = None;
        let why = match outcome {
            _ if self.late => format!("it took more than {} ms", self.wanted.timeout_ms),
            Outcome::Exit { code: 0 } => return self.succeeded(channel).map(|()| true),
            Outcome::Exit { code } => format!("exit code {code}"),
            Outcome::Signal { signal, .. } => format!("signal {signal}"),
        };
        self.failed(&why, channel).map(|()| true)
    }

    fn succeeded(&mut self, channel: &Channel) -> io::Result<()> {
        self.failures = 0;
        let was = std::mem::replace(&mut self.condition, Condition::Healthy);
        match was {
            Condition::Unhealthy => self.tell("the tool is well again", channel),
            Condition::Starting | Condition::Healthy => Ok(()),
        }
    }

    fn failed(&mut self, why: &str, channel: &Channel) -> io::Result<()> {
        let is_early = self.began.elapsed() < Duration::from_millis(self.wanted.start_ms);
        if is_early && self.condition == Condition::Starting {
            return Ok(());
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures < self.wanted.failures || self.condition == Condition::Unhealthy {
            return Ok(());
        }
        self.condition = Condition::Unhealthy;
        let times =
            if self.failures == 1 { String::new() } else { format!(" {} times in a row", self.failures) };
        let message = format!("the tool is not well: its check has failed{times} ({why})");
        self.tell(&message, channel)
    }

    fn tell(&mut self, what: &str, channel: &Channel) -> io::Result<()> {
        self.told += 1;
        let after = self.began.elapsed().as_secs();
        let message = match self.told {
            0..TOLD_MAX => format!("after {after} s {what}"),
            TOLD_MAX => format!("after {after} s {what}; further changes are not told"),
            _ => return Ok(()),
        };
        channel.send(&Report::Health { condition: self.condition, message }, None)
    }
}

/// What it reads and writes is nobody's.
pub(crate) fn nothing() -> io::Result<[OwnedFd; 3]> {
    let null = || rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    Ok([null()?, null()?, null()?])
}
