//! The inner half, PID 1: applies the plan, gives everything up, starts the tool, and stays to reap and to end.
use crate::apply::{Failure, Sandbox};
use crate::channel::{Channel, Received};
use crate::keeper::Keeper;
use crate::ready::Look;
use crate::reaper::Reaper;
use crate::spawn::{Spawned, Streams, spawn_with};
use crate::{privileges, terminal};
use hatchway_wire::attend::{Order, Report};
use hatchway_wire::{Bootstrap, Op, Outcome, StdioMode, Usage};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::fs::{Mode, OFlags};
use rustix::process::set_parent_process_death_signal;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// `is_mapped`: the attendant maps the ids. Runs to the end of the unit; the result is this process's exit code, which nobody looks at.
pub(crate) fn run(
    bootstrap: &Bootstrap,
    terminal: (StdioMode, bool),
    channel: &Channel,
    is_mapped: bool,
) -> i32 {
    match start(bootstrap, terminal, channel, is_mapped) {
        Ok(Some(reaper)) => reaper.run(channel),
        Ok(None) => 1,
        Err(failure) => {
            // If the attendant is gone there is nobody to tell.
            channel.send(&failure.report(), None).ok();
            1
        }
    }
}

fn start<'a>(
    bootstrap: &'a Bootstrap,
    (mode, front): (StdioMode, bool),
    channel: &Channel,
    is_mapped: bool,
) -> Result<Option<Reaper<'a>>, Failure> {
    // Second line only: the end of the channel is what counts, see the reaper.
    let die_with_attendant = || {
        set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
            .map_err(|errno| Failure::new("tie the sandbox to the shim", errno))
    };
    die_with_attendant()?;
    if !matches!(bootstrap.ops.first(), Some(Op::Unshare(namespaces)) if namespaces.pid) {
        // PID 1 is another: what the tool leaves behind comes to us all the same.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(|errno| Failure::new("adopt what is orphaned", errno))?;
    }
    rustix::process::umask(Mode::empty());
    hatchway_sys::descriptors::close_on_exec_from(3, &[])
        .map_err(|source| Failure::new("close inherited descriptors", source))?;
    let mut sandbox = Sandbox::new(channel, is_mapped);
    // Only a dumpable process owns its /proc entries, through which the ids are mapped; there is no tool yet.
    let mapped =
        bootstrap.ops.iter().position(|op| matches!(op, Op::IdMap { .. })).map_or(0, |index| index + 1);
    let (first, rest) = bootstrap.ops.split_at(mapped);
    sandbox.open_ahead(rest);
    sandbox.apply(first)?;
    if is_mapped {
        // A change of user takes the wish back.
        die_with_attendant()?;
    }
    privileges::hide().map_err(|source| Failure::new("hide the shim from the tool", source))?;
    sandbox.apply(rest)?;
    for message in sandbox.notes {
        channel.send(&Report::Note { message }, None).map_err(|source| Failure::new("report", source))?;
    }
    let keeper = bootstrap.services.as_ref().map(Keeper::fork).transpose()?;
    privileges::drop_all(&bootstrap.process)?;
    die_with_attendant()?;
    let streams = streams(mode, front, channel)
        .map_err(|source| Failure::new("make a terminal for the tool", source))?;
    let cwd = bootstrap.process.cwd.as_str();
    rustix::process::chdir(cwd).map_err(|errno| Failure {
        hint: Some("the working folder must be in the tree, in state, or a share".to_owned()),
        path: Some(cwd.to_owned()),
        ..Failure::new(format!("enter the working folder `{cwd}`"), errno)
    })?;
    let signals =
        SignalFd::with_flags(&SigSet::from(Signal::SIGCHLD), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map_err(|errno| Failure::new("watch for ended processes", io::Error::from(errno)))?;
    if let Some(keeper) = &keeper {
        let errors = errors(mode, streams.as_ref());
        let errors = errors.map_err(|source| Failure::new("find standard error", source))?;
        if let Some(asked) = keeper.begin(errors.as_fd(), channel)? {
            return asked.tell(channel).map(|()| None);
        }
    }
    begin(bootstrap, (streams, mode), signals, keeper, channel)
}

/// The last step: the tool itself.
fn begin<'a>(
    bootstrap: &'a Bootstrap,
    (streams, mode): (Option<OwnedFd>, StdioMode),
    signals: SignalFd,
    keeper: Option<Keeper>,
    channel: &Channel,
) -> Result<Option<Reaper<'a>>, Failure> {
    let own = streams.as_ref().map(|terminal| terminal.try_clone().map(|terminal| (terminal, mode)));
    let own = own.transpose().map_err(|source| Failure::new("make a terminal for the tool", source))?;
    let (look, given) = Look::new(bootstrap)?;
    let process = look.process_of_tool();
    let number = given.as_ref().map(|(fd, number)| (fd.as_fd(), *number));
    match spawn_with(&process, &Streams::Own(own), number)? {
        Spawned::Child => Ok(None),
        Spawned::Failed(report) => {
            channel.send(&report, None).map_err(|source| Failure::new("report", source))?;
            Ok(None)
        }
        Spawned::Running(tool) => {
            channel
                .send(&Report::Started { pid: tool.as_raw() }, None)
                .map_err(|source| Failure::new("report", source))?;
            release_streams().map_err(|source| Failure::new("release the standard streams", source))?;
            Ok(Some(Reaper::new((tool, streams), bootstrap, signals, keeper, look)))
        }
    }
}

/// The tool's end was asked for before there was a tool.
#[derive(Debug)]
pub(crate) struct Asked {
    signal: i32,
}

impl Asked {
    /// By this signal.
    pub(crate) fn new(signal: i32) -> Self {
        Self { signal }
    }

    fn tell(&self, channel: &Channel) -> Result<(), Failure> {
        let outcome = Outcome::Signal { signal: self.signal, core: false };
        let failed = |source| Failure::new("report", source);
        channel.send(&Report::Ended { outcome, forced: false }, None).map_err(failed)?;
        channel.send(&Report::Empty { usage: Usage::default() }, None).map_err(failed)
    }
}

/// Whether the attendant has asked for the end of a tool that is not there yet. Nothing else it says is about one.
pub(crate) fn asked(channel: &Channel) -> io::Result<Option<Asked>> {
    let ends = [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGHUP].map(|signal| signal as i32);
    loop {
        match channel.receive::<Order>()? {
            Received::Message(
                Order::End { signal } | Order::Signal { signal } | Order::Group { signal },
                _,
            ) if ends.contains(&signal) => return Ok(Some(Asked { signal })),
            Received::Message(..) => {}
            Received::Nothing => return Ok(None),
            Received::End => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// The tool's standard error as it is going to be.
fn errors(mode: StdioMode, terminal: Option<&OwnedFd>) -> io::Result<OwnedFd> {
    let own: BorrowedFd<'_> = rustix::stdio::stderr();
    let is_terminal = mode == StdioMode::Terminal || io::stderr().is_terminal();
    match terminal.filter(|_| is_terminal) {
        Some(terminal) => terminal.try_clone(),
        None => own.try_clone_to_owned(),
    }
}

/// A terminal and a session as the mode wants them.
fn streams(mode: StdioMode, front: bool, channel: &Channel) -> io::Result<Option<std::os::fd::OwnedFd>> {
    match mode {
        // With only some streams at a terminal as well: whoever holds a descriptor of the caller's terminal, or has it
        // as its controlling one, can read the keys that are meant for others.
        StdioMode::Terminal | StdioMode::Shared | StdioMode::Auto => {
            let (master, slave) = terminal::open_inner(mode, front)?;
            rustix::process::setsid()?;
            rustix::process::ioctl_tiocsctty(&slave)?;
            channel.send(&Report::Terminal, Some(master.as_fd()))?;
            Ok(Some(slave))
        }
        StdioMode::Detached => {
            rustix::process::setsid()?;
            Ok(None)
        }
    }
}

/// The tool has its streams. A copy kept here would keep a pipe open that the tool has closed.
fn release_streams() -> io::Result<()> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(rustix::stdio::dup2_stderr(&null)?)
}
