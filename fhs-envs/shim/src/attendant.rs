//! The outer half: stays on the host beside the unit.
//!
//! Which signals reach the tool, and how:
//!
//! | signal | all streams at a terminal | some at a terminal | detached |
//! | --- | --- | --- | --- |
//! | keys (Ctrl-C, Ctrl-\, Ctrl-Z) | from its own terminal | passed on to its group; from its own terminal once it reads keys | passed on |
//! | INT, QUIT sent to the shim | passed on | passed on | passed on |
//! | TERM, HUP | passed on, then the grace period, then KILL | same | same |
//! | USR1, USR2, ALRM, … | passed on | passed on | passed on |
//! | TSTP sent to the shim | passed on | passed on | as STOP: its process group is an orphan |
//! | CONT | passed on | passed on | passed on |
//!
//! When the tool is stopped and a shell waits for us, we stop as well, with the terminal as we found it.
//!
//! With some streams at a terminal (`tool | less`, `tool < file`) the keys may be meant for another program of the
//! pipeline. So nobody reads them until the tool does: it is in the background of its terminal then, the kernel stops
//! it, and we take the keys for it if we are in the foreground of ours, or stop like any job that wants to read.
use crate::channel::{Channel, Received};
use crate::clients::Clients;
use crate::error::{Error, Step};
use crate::lease::Lease;
use crate::mapping::Mapping;
use crate::reaper::outcome;
use crate::record;
use crate::services::Services;
use crate::terminal::{self, Relay};
use crate::{apply, companions, complain, control_group, init, oom, privileges, warn};
use hatchway_sys::process::{Fork, fork_into};
use hatchway_wire::attend::{Handed, Order, Report};
use hatchway_wire::control::Condition;
use hatchway_wire::exit::MemoryKills;
use hatchway_wire::{
    Bootstrap, ExitReason, ExitRecord, Namespaces, Op, Outcome, Stamp, StdioMode, Usage, VERSION,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use rustix::fs::{Mode, OFlags};
use rustix::process::PidfdFlags;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// How long a killed process may take to be gone.
const KILL_MAX: Duration = Duration::from_secs(10);

/// Signals after which a tool ends, by itself or killed.
const ENDING: [i32; 2] = [Signal::SIGTERM as i32, Signal::SIGHUP as i32];

/// Sent by the kernel, for a key at the terminal, rather than by a process.
const FROM_KERNEL: i32 = 0x80;

/// A folder or a disk as a standard stream would be a way out: the tool could open what lies below it.
fn refuse_folders() -> Result<(), Error> {
    for (fd, name) in [
        (rustix::stdio::stdin(), "standard input"),
        (rustix::stdio::stdout(), "standard output"),
        (rustix::stdio::stderr(), "standard error"),
    ] {
        if leads_out(fd) {
            return Err(Error::Stream(name));
        }
    }
    Ok(())
}

/// Whether a descriptor is a way to what lies below it, or behind it.
pub(crate) fn leads_out(fd: BorrowedFd<'_>) -> bool {
    // A stream that is closed is nothing to come out by.
    let Ok(stat) = rustix::fs::fstat(fd) else { return false };
    let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
    let only_a_path = rustix::fs::fcntl_getfl(fd).is_ok_and(|flags| flags.contains(OFlags::PATH));
    matches!(kind, rustix::fs::FileType::Directory | rustix::fs::FileType::BlockDevice) || only_a_path
}

/// Starts the inner half and stays until it is gone; the result is the exit code. In the inner half it returns the
/// inner half's.
pub(crate) fn attend(bootstrap: &Bootstrap, bootstrap_fd: RawFd) -> Result<i32, Error> {
    let started = record::now();
    // A parent that ignores SIGCHLD would leave us without the exit code of what we start.
    hatchway_sys::process::reset_signal_action(Signal::SIGCHLD as i32);
    let lease = bootstrap.lease.as_ref().map(Lease::take).transpose();
    let mut lease = lease.step("reach who started the container")?;
    let given = bootstrap.channels_fd.map(hatchway_sys::descriptors::copy_of).transpose();
    let way = given.step("take the way of the channels")?;
    let way = way.or_else(|| lease.as_mut().and_then(|lease| lease.channels.take()));
    let clients = Clients::new(bootstrap.control.as_ref()).step("take who comes to the unit")?;
    refuse_folders()?;
    // Now a copy inherits nothing but what the sandbox may hold; the lock lives on in both halves.
    let mut ours = bootstrap.keep_fds.clone();
    ours.push(bootstrap_fd);
    for fd in ours {
        hatchway_sys::descriptors::set_close_on_exec(fd, true).step("keep the descriptors handed over")?;
    }
    rustix::thread::set_name(c"hatchway-shim").step("name the process")?;
    SigSet::all().thread_block().step("block signals")?;
    let mode = terminal::resolve(bootstrap.stdio);
    // Asked here: in a namespace of its own, the inner half does not know our process group.
    let told = lease.as_ref().map(|lease| lease.front);
    let front = told.unwrap_or_else(|| terminal::in_front(terminal::outer_keys().as_ref()));
    let Some(first @ Op::Unshare(namespaces)) = bootstrap.ops.first() else { return Err(Error::Plan) };
    let (outer, inner) = Channel::pair().step("make a channel to the sandbox")?;
    let mapping = Mapping::of(bootstrap);
    let forked = fork_into(flags(*namespaces))
        .map_err(|source| Error::Namespaces { operation: first.to_string(), source })?;
    match forked {
        Fork::Child => {
            drop((outer, lease, way, clients));
            Ok(init::run(bootstrap, (mode, front), &inner, mapping.is_some()))
        }
        Fork::Parent(pid) => {
            drop(inner);
            if let Some(mapping) = mapping {
                mapping.write(pid).step("map the ids of the sandbox")?;
                outer.send(&Order::GoOn, None).step("tell the sandbox to go on")?;
            }
            let memory = oom::Watch::begin(bootstrap);
            let seen = Seen { started, notes: bootstrap.notes.clone(), ..Seen::default() };
            Attendant {
                bootstrap,
                mode,
                channel: outer,
                lease,
                init: pid,
                relay: None,
                services: Services::new(way),
                clients,
                memory,
                give_up: None,
                asked: None,
                by_engine: false,
                stop: false,
                unwell: None,
                seen,
            }
            .run()
        }
    }
}

fn flags(namespaces: Namespaces) -> CloneFlags {
    [
        (namespaces.user, CloneFlags::CLONE_NEWUSER),
        (namespaces.mount, CloneFlags::CLONE_NEWNS),
        (namespaces.pid, CloneFlags::CLONE_NEWPID),
        (namespaces.ipc, CloneFlags::CLONE_NEWIPC),
        (namespaces.uts, CloneFlags::CLONE_NEWUTS),
        (namespaces.net, CloneFlags::CLONE_NEWNET),
        (namespaces.cgroup, CloneFlags::CLONE_NEWCGROUP),
    ]
    .into_iter()
    .filter(|(on, _)| *on)
    .fold(CloneFlags::empty(), |all, (_, flag)| all | flag)
}

/// Until then, with one millisecond more, or rounding down would spin.
pub(crate) fn timeout(end: Option<Instant>) -> PollTimeout {
    end.map_or(PollTimeout::NONE, |end| {
        let left = end.saturating_duration_since(Instant::now()).as_millis().saturating_add(1);
        PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
    })
}

struct Attendant<'a> {
    bootstrap: &'a Bootstrap,
    mode: StdioMode,
    channel: Channel,
    /// To whoever started the container we are PID 1 of.
    lease: Option<Lease>,
    init: Pid,
    relay: Option<Relay>,
    services: Services,
    clients: Clients,
    memory: oom::Watch,
    /// When to stop waiting for an inner half that cannot end.
    give_up: Option<Instant>,
    /// The last signal that asks for the tool's end.
    asked: Option<i32>,
    /// The container's engine asked for it.
    by_engine: bool,
    /// A stop was asked for through this process.
    stop: bool,
    /// The tool is ended because it is not well: in what way.
    unwell: Option<String>,
    seen: Seen,
}

/// What the inner half has reported.
#[derive(Debug, Default)]
struct Seen {
    started: Stamp,
    ended: Option<Stamp>,
    tool: Option<i32>,
    reason: Option<ExitReason>,
    usage: Usage,
    notes: Vec<String>,
}

impl Attendant<'_> {
    fn run(mut self) -> Result<i32, Error> {
        privileges::hide().step("hide the shim")?;
        let signals = SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .step("watch signals")?;
        while self.turn(&signals)? {}
        let inner = self.collect()?;
        self.services.end();
        self.clients.end();
        if let Some(mut relay) = self.relay.take() {
            relay.drain();
        }
        Ok(self.finish(inner))
    }

    /// Waits for something and deals with it; false when the inner half is gone.
    fn turn(&mut self, signals: &SignalFd) -> Result<bool, Error> {
        let ready = |fd: &PollFd<'_>| fd.any().unwrap_or(true);
        let mut fds = vec![
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.channel.as_fd(), PollFlags::POLLIN),
        ];
        // A descriptor we want nothing of is left out: poll reports its errors whether asked or not.
        let interest: Vec<_> = self.relay.iter().flat_map(Relay::interest).enumerate().collect();
        let wanted = interest.iter().filter(|(_, (_, flags))| !flags.is_empty());
        let order: Vec<usize> = wanted.clone().map(|(index, _)| *index).collect();
        fds.extend(wanted.map(|(_, (fd, flags))| PollFd::new(*fd, *flags)));
        let relayed = fds.len();
        fds.extend(self.services.watches().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        let served = fds.len();
        fds.extend(self.lease.iter().filter_map(Lease::watch));
        let come = fds.len();
        // Until there is a tool they wait.
        let clients = self.clients.watches().filter(|_| self.seen.tool.is_some());
        fds.extend(clients.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        match poll(&mut fds, timeout(self.give_up)) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(errno) => return Err(errno).step("wait"),
        }
        let mut moved = [false; 3];
        for (slot, fd) in order.iter().zip(&fds[2..]) {
            moved[*slot] = ready(fd);
        }
        let changed: Vec<bool> = fds[relayed..served].iter().map(ready).collect();
        let leased = fds[served..come].iter().any(ready);
        let come = fds[come..].iter().any(ready);
        drop(fds);
        drop(interest);
        if let Some(relay) = &mut self.relay {
            relay.ready(moved[0], moved[1], moved[2]);
        }
        self.seen.notes.extend(self.services.changed(&changed));
        if let Some(lost) = self.services.lost() {
            self.caution(&lost);
            self.seen.notes.push(lost);
        }
        if self.give_up.is_some_and(|end| Instant::now() >= end) {
            return Ok(false);
        }
        while let Some(info) = signals.read_signal().step("read a signal")? {
            let number = i32::try_from(info.ssi_signo).unwrap_or_default();
            // Who started the container uses the lease.
            self.by_engine |= self.lease.is_some() && number == Signal::SIGTERM as i32;
            self.signal(number, info.ssi_code == FROM_KERNEL);
        }
        let passed = self.lease.as_mut().filter(|_| leased).map(Lease::signals).unwrap_or_default();
        passed.into_iter().for_each(|(number, key)| self.signal(number, key));
        self.serve_clients(come);
        loop {
            match self.channel.receive::<Report>().step("hear from the sandbox")? {
                Received::Message(report, fd) => self.report(report, fd)?,
                Received::Nothing => return Ok(true),
                Received::End => return Ok(false),
            }
        }
    }

    fn serve_clients(&mut self, come: bool) {
        let through = self.lease.as_mut().map(|lease| std::mem::take(&mut lease.come)).unwrap_or_default();
        let come = come || !through.is_empty();
        through.into_iter().for_each(|connection| self.clients.add(connection));
        if come && self.seen.tool.is_some() {
            for (order, fds) in self.clients.turn() {
                let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
                // Where nobody hears it, the end of the channel is noticed next.
                self.channel.send_all(&order, &fds).ok();
            }
        }
    }

    /// `key`: the kernel sent it, for a key at the terminal.
    fn signal(&mut self, number: i32, key: bool) {
        let Ok(signal) = Signal::try_from(number) else { return };
        match signal {
            Signal::SIGCHLD => {}
            Signal::SIGWINCH => {
                self.relay.iter().for_each(Relay::resize);
                // The kernel tells the group in front of the terminal only.
                if self.waiting() {
                    self.order(&Order::Group { signal: number });
                }
            }
            Signal::SIGCONT => {
                self.relay.iter_mut().for_each(Relay::resume);
                self.order(&Order::Continue);
            }
            Signal::SIGTSTP | Signal::SIGINT | Signal::SIGQUIT if key && self.waiting() => {
                if signal != Signal::SIGTSTP {
                    self.asked = Some(number);
                }
                self.order(&Order::Group { signal: number });
            }
            // Not about the tool, which has a terminal of its own. If that stops, we hear of it.
            Signal::SIGTSTP if key && self.mode != StdioMode::Detached => {}
            Signal::SIGTSTP => {
                self.stop = true;
                let detached = self.mode == StdioMode::Detached;
                let signal = if detached { Signal::SIGSTOP } else { Signal::SIGTSTP };
                self.order(&Order::Signal { signal: signal as i32 });
            }
            Signal::SIGTTIN | Signal::SIGTTOU | Signal::SIGURG | Signal::SIGPIPE => {}
            Signal::SIGINT | Signal::SIGQUIT => {
                self.asked = Some(number);
                self.order(&Order::Signal { signal: number });
            }
            Signal::SIGTERM | Signal::SIGHUP => {
                self.asked = Some(number);
                let signal = self.bootstrap.stop_signal.unwrap_or(number);
                self.order(&Order::End { signal });
                self.expect_end(self.bootstrap.grace_ms.saturating_mul(2));
            }
            _ => self.order(&Order::Signal { signal: number }),
        }
    }

    /// An order that cannot be delivered finds nobody; the end of the channel is noticed next.
    fn order(&self, order: &Order) {
        self.channel.send(order, None).ok();
    }

    fn report(&mut self, report: Report, fd: Option<OwnedFd>) -> Result<(), Error> {
        match report {
            Report::Note { message } => self.seen.notes.push(message),
            Report::Caution { message } => {
                self.caution(&message);
                self.seen.notes.push(message);
            }
            Report::Terminal => {
                if let Some(master) = fd {
                    let waits = self.mode != StdioMode::Terminal;
                    let told = self.lease.as_ref().map(|lease| lease.front);
                    self.relay = Some(Relay::new(master, waits, told).step("relay the terminal")?);
                }
            }
            Report::Handed(handed) => {
                if let Some(fd) = fd {
                    let awaited = matches!(handed, Handed::MountNamespace { .. });
                    let notes = self.services.take(handed, fd).step("serve the sandbox")?;
                    self.seen.notes.extend(notes);
                    if awaited {
                        self.order(&Order::GoOn);
                    }
                }
            }
            Report::Started { pid } => {
                self.services.start(&self.bootstrap.process).step("start what serves the sandbox")?;
                self.seen.tool = Some(pid);
                // The relay has its own copies of those that are terminals.
                release_streams().step("release the standard streams")?;
            }
            Report::Stopped { signal } => self.stopped(signal),
            Report::Ended { outcome, forced } => {
                self.tell_missing(outcome);
                self.seen.ended = Some(record::now());
                self.seen.reason = Some(self.reason(outcome, forced));
                self.expect_end(self.bootstrap.grace_ms);
            }
            Report::Health { condition, message } => {
                if condition == Condition::Unhealthy {
                    let ends = self.end_unwell(&message);
                    self.caution(&if ends {
                        format!("{message}; it is asked to end")
                    } else {
                        message.clone()
                    });
                }
                self.seen.notes.push(message);
            }
            Report::Empty { usage } => self.seen.usage = usage,
            Report::Control { id, report } => {
                if !self.clients.answer(id, &report, fd.as_ref()) {
                    self.order(&Order::Forget { id });
                }
            }
            Report::ExecFailed { errno, found, message, hint } => {
                let known = self.bootstrap.missing.as_ref().map(|missing| missing.hint.clone());
                let hint =
                    known.filter(|_| found && errno == rustix::io::Errno::NOENT.raw_os_error()).or(hint);
                self.say(&message, hint.as_deref());
                let program = self.bootstrap.process.program.clone();
                self.seen.reason = Some(ExitReason::ExecFailed { program, errno, found, message });
            }
            Report::Failed { operation, path, errno, message, hint } => {
                self.say(&format!("cannot {operation}: {message}"), hint.as_deref());
                self.seen.reason = Some(ExitReason::SandboxFailed { operation, path, errno, message });
            }
        }
        Ok(())
    }

    /// As if it was asked to end, where its recipe says so; who was asked already is on the way.
    fn end_unwell(&mut self, message: &str) -> bool {
        // A tool may survive INT and QUIT.
        let ends = self.asked.is_some_and(|signal| ENDING.contains(&signal));
        if ends || !self.bootstrap.health.as_ref().is_some_and(|health| health.ends) {
            return false;
        }
        self.unwell = Some(message.to_owned());
        self.order(&Order::End { signal: self.bootstrap.stop_signal.unwrap_or(Signal::SIGTERM as i32) });
        self.expect_end(self.bootstrap.grace_ms.saturating_mul(2));
        true
    }

    /// `env` was started, and has not found what it was to start.
    fn tell_missing(&mut self, outcome: Outcome) {
        let code = Outcome::Exit { code: hatchway_wire::exit::CODE_NOT_FOUND };
        if outcome == code
            && let Some(missing) = self.bootstrap.missing.clone()
        {
            self.say(
                &format!("`{}`, which starts the program, is not in the tree", missing.name),
                Some(&missing.hint),
            );
        }
    }

    fn reason(&self, outcome: Outcome, forced: bool) -> ExitReason {
        if let Some(message) = self.unwell.clone() {
            return ExitReason::Unhealthy { message, forced, outcome };
        }
        let asked = self.asked.filter(|signal| {
            // A tool may survive Ctrl-C and end by itself hours later; after TERM and HUP it had no such choice.
            ENDING.contains(signal) || outcome.code() == hatchway_wire::exit::CODE_SIGNAL_BASE + signal
        });
        match (asked, outcome) {
            (Some(_), outcome) if self.by_engine => ExitReason::Engine {
                message: "the container's engine asked it to end".to_owned(),
                outcome: Some(outcome),
            },
            (Some(signal), outcome) => ExitReason::Requested { signal, forced, outcome },
            (None, Outcome::Exit { code }) => ExitReason::Exit { code },
            (None, Outcome::Signal { signal, core }) => match self.memory.kills() {
                Some(MemoryKills { kills, .. }) if signal == Signal::SIGKILL as i32 => {
                    ExitReason::Oom { kills }
                }
                _ => ExitReason::Signal { signal, core },
            },
        }
    }

    /// Part of the streams are at a terminal, and the tool has not asked for keys.
    fn waiting(&self) -> bool {
        self.relay.as_ref().is_some_and(Relay::waits)
    }

    /// The tool is stopped. With a shell above us we stop too; somebody who stopped a detached tool did so on purpose.
    fn stopped(&mut self, signal: i32) {
        if self.mode == StdioMode::Detached && !self.stop {
            return;
        }
        self.stop = false;
        let keys = self.waiting() && [Signal::SIGTTIN as i32, Signal::SIGTTOU as i32].contains(&signal);
        if keys && self.take_keys() {
            return;
        }
        self.relay.iter_mut().for_each(Relay::restore);
        if let Some(lease) = &self.lease {
            // PID 1 cannot be stopped. Who can tells us when to go on.
            return lease.stopped(signal);
        }
        let continued = stop(if keys { Signal::SIGTTIN } else { Signal::SIGTSTP });
        self.relay.iter_mut().for_each(Relay::resume);
        if keys && self.take_keys() {
            return;
        }
        if keys && !continued {
            // Nobody could ever bring us to the front: the keys are at their end.
            self.relay.iter_mut().for_each(Relay::give_up_keys);
            return self.order(&Order::Foreground);
        }
        self.order(&Order::Continue);
    }

    /// The tool wants keys: it gets them if we are in front of the outer terminal.
    fn take_keys(&mut self) -> bool {
        let taken = self.relay.as_mut().is_some_and(Relay::take_keys);
        if taken {
            self.order(&Order::Foreground);
        }
        taken
    }

    /// About a unit that goes on.
    fn caution(&mut self, message: &str) {
        self.relay.iter_mut().for_each(Relay::restore);
        warn(message);
        self.relay.iter_mut().for_each(Relay::resume);
    }

    fn say(&mut self, message: &str, hint: Option<&str>) {
        self.relay.iter_mut().for_each(Relay::restore);
        complain(message, None, hint);
    }

    /// A process in an uninterruptible call, or in a frozen control group, does not even hear KILL; PID 1 and the
    /// kernel wait for it for ever. We do not: from now on there is an end to it.
    fn expect_end(&mut self, grace_ms: u64) {
        let services = self.bootstrap.services_ms();
        let end = Instant::now() + Duration::from_millis(grace_ms.saturating_add(services)) + KILL_MAX;
        self.give_up = Some(self.give_up.map_or(end, |earlier| earlier.min(end)));
    }

    /// Waits for the inner half, whose end of the channel is closed, or which has not ended in time.
    fn collect(&mut self) -> Result<Option<Outcome>, Error> {
        let pid = rustix::process::Pid::from_raw(self.init.as_raw());
        if self.give_up.is_none() {
            // It failed before there was a tool, or was killed from outside.
            self.expect_end(0);
        }
        if let Some(pid) = pid
            && self.give_up.is_some_and(|end| Instant::now() >= end)
        {
            // It is our child and not waited for yet, so the number is its own. What it leaves is killed with it.
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
            self.seen.notes.extend(self.bootstrap.ops.iter().filter_map(control_group::kill));
            self.give_up = Some(Instant::now() + KILL_MAX);
        }
        let watch =
            pid.map(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).step("watch the sandbox"));
        let watch = watch.transpose()?;
        loop {
            if let Some(watch) = &watch {
                poll(&mut [PollFd::new(watch.as_fd(), PollFlags::POLLIN)], timeout(self.give_up)).ok();
            }
            match rustix::process::waitpid(pid, rustix::process::WaitOptions::NOHANG) {
                Ok(Some((_, status))) => return Ok(outcome(status)),
                Ok(None) if self.give_up.is_some_and(|end| Instant::now() < end) => {}
                Ok(None) => {
                    let left = "processes of the unit cannot be killed (in an uninterruptible call, or frozen) and remain";
                    self.seen.notes.push(left.to_owned());
                    return Ok(None);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno).step("wait for the sandbox"),
            }
        }
    }

    fn finish(mut self, inner: Option<Outcome>) -> i32 {
        self.seen.notes.extend(companions::end(&self.bootstrap.companions));
        // Asked before the group goes, and after everything in it has gone.
        let memory = self.memory.kills();
        let evidence = memory.iter().map(oom::told).collect();
        self.seen.notes.extend(self.bootstrap.ops.iter().filter_map(control_group::leave));
        let outcome = inner.unwrap_or(Outcome::Exit { code: 0 });
        let lost = self.seen.reason.is_none();
        let reason = self.seen.reason.unwrap_or(ExitReason::Lost { outcome });
        if lost {
            complain("the inner half of the shim ended without a word", None, None);
        }
        let code = reason.code();
        let record = ExitRecord {
            version: VERSION,
            unit: self.bootstrap.unit.clone(),
            incarnation: self.bootstrap.incarnation.clone(),
            program: self.bootstrap.process.program.clone(),
            started: self.seen.started,
            ended: self.seen.ended.unwrap_or_else(record::now),
            reason,
            code,
            shim_pid: i32::try_from(std::process::id()).unwrap_or_default(),
            tool_pid: self.seen.tool,
            usage: self.seen.usage,
            notes: self.seen.notes,
            evidence,
            memory,
            logged: None,
            exit_file: self.bootstrap.exit_file.clone(),
        };
        if let Some(path) = &self.bootstrap.exit_file
            && let Err(error) = record::write(&record, path, !self.bootstrap.exit_is_scratch)
        {
            // The tool's exit code is still the truth; only its record is missing.
            complain(&format!("cannot write `{path}`: {}", apply::reason(&error)), None, None);
        }
        if let Some(lease) = &self.lease {
            lease.give_back(&record);
        }
        code
    }
}

/// Stops this process as a signal of the terminal does. With nobody to continue us (a process group that no shell looks
/// after) the kernel ignores the signal, and the result is false.
fn stop(signal: Signal) -> bool {
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let continued = SignalFd::with_flags(&SigSet::from(Signal::SIGCONT), flags);
    let own = SigSet::from(signal);
    if raise(signal).is_ok() && own.thread_unblock().is_ok() {
        own.thread_block().ok();
    }
    continued.is_ok_and(|fd| matches!(fd.read_signal(), Ok(Some(_))))
}

/// The tool has these streams. A copy kept here would keep a pipe open that the tool has closed. Standard error
/// stays, for what we have to say.
fn release_streams() -> io::Result<()> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(rustix::stdio::dup2_stdout(&null)?)
}
