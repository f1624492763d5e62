//! The inner half, PID 1: applies the plan, gives everything up, starts the tool, and stays to reap and to end.
use crate::apply::{Failure, Sandbox};
use crate::channel::Channel;
use crate::reaper::Reaper;
use crate::spawn::{Spawned, spawn};
use crate::{privileges, terminal};
use hatchway_wire::attend::Report;
use hatchway_wire::{Bootstrap, Op, StdioMode};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::fs::{Mode, OFlags};
use rustix::process::set_parent_process_death_signal;
use std::io;
use std::os::fd::AsFd;

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

fn start(
    bootstrap: &Bootstrap,
    (mode, front): (StdioMode, bool),
    channel: &Channel,
    is_mapped: bool,
) -> Result<Option<Reaper>, Failure> {
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
    match spawn(&bootstrap.process, streams.as_ref().map(|terminal| (terminal, mode)))? {
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
            Ok(Some(Reaper::new(tool, streams, bootstrap, signals)))
        }
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
