//! The unit's attendant in the guest: started, watched, told signals, and its end.
use super::machine::SHIM;
use super::outbox::Control;
use super::ports;
use super::streams::Streams;
use super::visitors::{REST_EVERY_MS, Visitors};
use crate::error::{Error, Step};
use hatchway_sys::process::{Fork, end_at_once, fork};
use hatchway_wire::guest::{CHANNELS, EXIT, GuestOrder, GuestReport, HostOrder};
use hatchway_wire::{Bootstrap, ExitRecord, bootstrap};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Where the attendant's bootstrap is.
const BOOTSTRAP: &str = "/hatchway/bootstrap.json";
/// How often the terminal is looked at until the tool reads keys, in milliseconds. No event tells.
const KEYS_EVERY_MS: u16 = 50;

/// A unit that runs.
#[derive(Debug)]
pub(super) struct Session {
    attendant: Pid,
    streams: Streams,
    visitors: Visitors,
    signals: SignalFd,
    code: Option<i32>,
    /// The unit was asked to end, since nobody is there any more who wants to know.
    abandoned: bool,
}

impl Session {
    pub(super) fn start(order: &GuestOrder, mut streams: Streams) -> Result<Self, Error> {
        let channels = order.bootstrap.channels_fd.map(|_| ports::open(CHANNELS)).transpose()?;
        let number = channels.as_ref().map(AsRawFd::as_raw_fd);
        let (visitors, theirs) = Visitors::open()?;
        let way = theirs.as_fd().as_raw_fd();
        let kept: Vec<i32> = number.into_iter().chain([way]).collect();
        let bootstrap = Bootstrap {
            channels_fd: number,
            control: Some(bootstrap::Control::Given { fd: way }),
            keep_fds: kept.clone(),
            ..order.bootstrap.clone()
        };
        let text = serde_json::to_vec(&bootstrap).map_err(Error::ParseBootstrap)?;
        fs::write(BOOTSTRAP, text).step("write the bootstrap")?;
        SigSet::all().thread_block().step("block signals")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&SigSet::all(), flags).step("watch signals")?;
        rustix::process::setsid().step("begin a session")?;
        if let Some(slave) = streams.slave() {
            rustix::process::ioctl_tiocsctty(slave).step("begin a session")?;
        }
        let attendant = match fork().step("start the attendant")? {
            Fork::Parent(pid) => pid,
            Fork::Child => become_attendant(&streams, &kept),
        };
        // Copies kept here would keep pipes open that the tool has closed.
        streams.ends.clear();
        Ok(Self { attendant, streams, visitors, signals, code: None, abandoned: false })
    }

    /// Runs to the end of the unit.
    pub(super) fn run(mut self, control: &mut Control) -> Result<GuestReport, Error> {
        loop {
            self.wait(control)?;
            let (orders, gone) = control.receive();
            for report in orders.into_iter().filter_map(|order| self.obey(order)).collect::<Vec<_>>() {
                control.send(&report);
            }
            if gone && !self.abandoned {
                self.abandoned = true;
                self.signal(Signal::SIGTERM as i32);
            }
            while self.signals.read_signal().step("read a signal")?.is_some() {}
            self.collect(control)?;
            for report in self.streams.turn().into_iter().chain(self.visitors.turn()) {
                control.send(&report);
            }
            if self.streams.wants_keys() {
                control.send(&GuestReport::Keys);
            }
            control.write();
            // A reader may take its time; what was said waits for it as long as there is somebody.
            if let Some(code) = self.code
                && (self.streams.is_over() || gone)
            {
                return Ok(GuestReport::Ended { code, record: record() });
            }
        }
    }

    fn wait(&self, control: &Control) -> Result<(), Error> {
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        fds.extend(control.watch());
        fds.extend(self.streams.watches());
        fds.extend(self.visitors.watches());
        let most = match (self.code, self.streams.may_want_keys()) {
            (None, _) if self.visitors.rests() => PollTimeout::from(REST_EVERY_MS),
            (Some(_), _) => PollTimeout::from(1000_u16),
            (None, true) => PollTimeout::from(KEYS_EVERY_MS),
            (None, false) => PollTimeout::NONE,
        };
        match poll(&mut fds, most) {
            Ok(_) | Err(nix::Error::EINTR) => Ok(()),
            Err(errno) => Err(errno).step("wait"),
        }
    }

    fn obey(&mut self, order: HostOrder) -> Option<GuestReport> {
        match order {
            HostOrder::Signal { signal, key: true } if self.streams.key(signal) => {}
            HostOrder::Signal { signal, .. } => self.signal(signal),
            HostOrder::Resize(window) => self.streams.resize(window),
            HostOrder::End { stream, bytes } => self.streams.end(stream, bytes),
            HostOrder::Unread { stream } => self.streams.unread(stream),
            HostOrder::Control { id, order } => return self.visitors.obey(id, order),
            HostOrder::Forget { id } => self.visitors.forget(id),
        }
        None
    }

    /// To the attendant; one that is gone needs none.
    fn signal(&self, number: i32) {
        if let (Ok(signal), None) = (Signal::try_from(number), self.code) {
            kill(self.attendant, signal).ok();
        }
    }

    /// Takes every process that has ended: all orphans of the machine come here.
    fn collect(&mut self, control: &mut Control) -> Result<(), Error> {
        loop {
            let status = match waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED)) {
                Ok(status) => status,
                Err(nix::Error::ECHILD) => return Ok(()),
                Err(errno) => return Err(errno).step("collect what has ended"),
            };
            match status {
                WaitStatus::StillAlive => return Ok(()),
                WaitStatus::Stopped(pid, signal) if pid == self.attendant => {
                    control.send(&GuestReport::Stopped { signal: signal as i32 });
                }
                WaitStatus::Exited(pid, code) if pid == self.attendant => self.over(code),
                WaitStatus::Signaled(pid, signal, _) if pid == self.attendant => {
                    self.over(128 + signal as i32);
                }
                _ => {}
            }
        }
    }

    fn over(&mut self, code: i32) {
        self.code = Some(code);
        self.streams.ended();
    }
}

/// In the child: a process group in front of the terminal, whose leader this process watches as a shell does.
fn become_attendant(streams: &Streams, kept: &[i32]) -> ! {
    let start = || -> std::io::Result<std::convert::Infallible> {
        rustix::process::setpgid(None, None)?;
        if let Some(slave) = streams.slave() {
            // Signals are blocked, so a process in the background may.
            rustix::termios::tcsetpgrp(slave, rustix::process::getpid())?;
        }
        let [input, output, error] = &streams.ends[..] else {
            return Err(std::io::ErrorKind::InvalidData.into());
        };
        rustix::stdio::dup2_stdin(input)?;
        rustix::stdio::dup2_stdout(output)?;
        rustix::stdio::dup2_stderr(error)?;
        kept.iter().try_for_each(|fd| hatchway_sys::descriptors::set_close_on_exec(*fd, false))?;
        Err(Command::new(SHIM).args(["--bootstrap", BOOTSTRAP]).env_clear().exec())
    };
    let Err(error) = start();
    crate::complain("cannot start the attendant", Some(&error), None);
    end_at_once(125)
}

fn record() -> Option<Box<ExitRecord>> {
    serde_json::from_slice(&fs::read(EXIT).ok()?).ok()
}
