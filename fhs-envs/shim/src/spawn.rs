//! The tool: from the dropped inner half to a running program, and why it did not run.
use crate::apply::{Failure, reason};
use crate::fence;
use hatchway_sys::process::{Fork, fork};
use hatchway_sys::{descriptors, process as sys, seccomp};
use hatchway_wire::attend::Report;
use hatchway_wire::{Instruction, Process, StdioMode};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use nix::unistd::Pid;
use rustix::fs::{Access, AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// What came of it.
#[derive(Debug)]
pub(crate) enum Spawned {
    /// The tool runs.
    Running(Pid),
    /// It does not, and this is what to say.
    Failed(Report),
    /// This is the child, which could not become the tool. It has said why and must end.
    Child,
}

/// What a program's standard streams are.
#[derive(Debug)]
pub(crate) enum Streams {
    /// This process's, but for those that are to be its terminal.
    Own(Option<(OwnedFd, StdioMode)>),
    /// These, in a session of its own.
    Given([OwnedFd; 3]),
    /// A terminal, in a session of its own.
    Session(OwnedFd),
}

impl Streams {
    fn take(&self) -> io::Result<()> {
        let become_streams = |streams: [&OwnedFd; 3]| -> io::Result<()> {
            rustix::stdio::dup2_stdin(streams[0])?;
            rustix::stdio::dup2_stdout(streams[1])?;
            Ok(rustix::stdio::dup2_stderr(streams[2])?)
        };
        match self {
            Self::Own(None) => Ok(()),
            Self::Own(Some((terminal, mode))) => take(terminal, *mode),
            Self::Given(streams) => {
                rustix::process::setsid()?;
                become_streams([&streams[0], &streams[1], &streams[2]])
            }
            Self::Session(terminal) => {
                rustix::process::setsid()?;
                rustix::process::ioctl_tiocsctty(terminal)?;
                become_streams([terminal; 3])
            }
        }
    }
}

/// Starts a program.
pub(crate) fn spawn(process: &Process, streams: &Streams) -> Result<Spawned, Failure> {
    spawn_with(process, streams, None)
}

/// A descriptor that a program gets beside its streams, and the number that it knows.
pub(crate) type Given<'a> = (BorrowedFd<'a>, RawFd);

/// The same for one that gets a descriptor.
pub(crate) fn spawn_with(
    process: &Process,
    streams: &Streams,
    given: Option<Given<'_>>,
) -> Result<Spawned, Failure> {
    let program = match find(process) {
        Some(program) => program,
        None => return Ok(Spawned::Failed(not_found(process))),
    };
    let mut fence = fence::make(process.fence.as_ref())
        .map_err(|source| Failure::new("make the rules of Landlock", source))?;
    let image =
        Image::new(process, &program).map_err(|source| Failure::new("prepare the program", source))?;
    let (mut read, write) = pipe_with(PipeFlags::CLOEXEC)
        .map(|(read, write)| (File::from(read), write))
        .map_err(|errno| Failure::new("make a pipe", errno))?;
    match fork().map_err(|source| Failure::new("start a process", source))? {
        Fork::Child => {
            let (step, error) = match image.execute(process, streams, fence.take(), given) {
                Ok(never) => match never {},
                Err(failed) => failed,
            };
            let number = error.raw_os_error().unwrap_or_default();
            // Nobody is left to tell if the pipe is broken.
            File::from(write).write_all(format!("{number} {step}").as_bytes()).ok();
            Ok(Spawned::Child)
        }
        Fork::Parent(pid) => {
            drop(write);
            let said = match streams {
                Streams::Own(_) => {
                    let mut said = String::new();
                    read.read_to_string(&mut said).map(|_| said)
                }
                Streams::Given(_) | Streams::Session(_) => hear(&mut read, pid),
            };
            let said = said.map_err(|source| Failure::new("hear from the program", source))?;
            let Some((number, step)) = said.split_once(' ') else { return Ok(Spawned::Running(pid)) };
            let errno = number.parse().unwrap_or_default();
            let error = io::Error::from_raw_os_error(errno);
            if step == EXECUTE {
                Ok(Spawned::Failed(diagnose(&program, errno)))
            } else {
                Err(Failure::new(step, error))
            }
        }
    }
}

/// The tool is there already, and may stop what is about to become another program of the same user: that one is killed, since
/// PID 1 has others to look after.
fn hear(read: &mut File, pid: Pid) -> io::Result<String> {
    let end = Instant::now() + BEGIN_MAX;
    let mut said = Vec::new();
    loop {
        let left = end.saturating_duration_since(Instant::now()).as_millis();
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        if poll(&mut [PollFd::new(read.as_fd(), PollFlags::POLLIN)], timeout)? == 0 {
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).ok();
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it did not begin within ten seconds"));
        }
        let mut part = [0; 256];
        match read.read(&mut part)? {
            0 => return Ok(String::from_utf8_lossy(&said).into_owned()),
            count => said.extend(&part[..count]),
        }
    }
}

/// How long a program beside the tool may take to begin.
const BEGIN_MAX: Duration = Duration::from_secs(10);
const EXECUTE: &str = "execute the program";

/// Everything `execve` needs, allocated before the fork.
struct Image {
    program: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    filter: Vec<(u16, u8, u8, u32)>,
}

impl Image {
    fn new(process: &Process, program: &str) -> io::Result<Self> {
        let text = |text: &str| CString::new(text).map_err(|_| io::Error::from(Errno::INVAL));
        let arguments = [process.program.as_str()].into_iter().chain(process.args.iter().map(String::as_str));
        let environment = process.env.iter().map(|(name, value)| text(&format!("{name}={value}")));
        Ok(Self {
            program: text(program)?,
            arguments: arguments.map(text).collect::<io::Result<_>>()?,
            environment: environment.collect::<io::Result<_>>()?,
            filter: process.seccomp.iter().map(|&Instruction(code, jt, jf, k)| (code, jt, jf, k)).collect(),
        })
    }

    /// In the child. Signals are blocked until the actions are the defaults again.
    fn execute(
        &self,
        process: &Process,
        streams: &Streams,
        fence: Option<landlock::RulesetCreated>,
        given: Option<Given<'_>>,
    ) -> Result<Infallible, (&'static str, io::Error)> {
        fn at<T, E: Into<io::Error>>(
            step: &'static str,
            done: Result<T, E>,
        ) -> Result<T, (&'static str, io::Error)> {
            done.map_err(|error| (step, error.into()))
        }
        at("take the standard streams", streams.take())?;
        sys::reset_signal_actions();
        rustix::process::umask(Mode::from(process.umask));
        at("close inherited descriptors", descriptors::close_on_exec_from(3, &[]))?;
        at("unblock signals", SigSet::empty().thread_set_mask())?;
        if let Some(fence) = fence {
            at("enter the rules of Landlock", fence::enter(fence))?;
        }
        if !self.filter.is_empty() {
            at("install the system call filter", seccomp::install(&self.filter))?;
        }
        let (program, arguments, environment) = (&self.program, &self.arguments, &self.environment);
        match given {
            None => at(EXECUTE, nix::unistd::execve(program, arguments, environment)),
            Some(given) => at(EXECUTE, sys::execve_with(program, arguments, environment, given)),
        }
    }
}

/// A process group of its own. The parent stays in the session: a group whose parent is elsewhere counts as orphaned,
/// and the kernel would not stop it at Ctrl-Z.
///
/// Where only some streams are terminals the group begins in the background: a first attempt to read keys stops it,
/// which is how the attendant learns that they are wanted here and not by another program of the same pipeline.
fn take(terminal: &OwnedFd, mode: StdioMode) -> io::Result<()> {
    rustix::process::setpgid(None, None)?;
    let all = mode == StdioMode::Terminal;
    if all {
        rustix::termios::tcsetpgrp(terminal, rustix::process::getpid())?;
    }
    // No descriptor of the caller's terminal goes inside.
    if all || io::stdin().is_terminal() {
        rustix::stdio::dup2_stdin(terminal)?;
    }
    if all || io::stdout().is_terminal() {
        rustix::stdio::dup2_stdout(terminal)?;
    }
    if all || io::stderr().is_terminal() {
        rustix::stdio::dup2_stderr(terminal)?;
    }
    Ok(())
}

/// The file to execute: a path as it is; a bare name from `PATH`, the first executable one or else the first.
fn find(process: &Process) -> Option<String> {
    if process.program.contains('/') {
        return Some(process.program.clone());
    }
    let path = process.env.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_str())?;
    let mut found =
        path.split(':').filter(|folder| folder.starts_with('/')).map(|f| format!("{f}/{}", process.program));
    let can = |path: &String, access| {
        rustix::fs::accessat(rustix::fs::CWD, path.as_str(), access, AtFlags::empty()).is_ok()
    };
    let mut there = found.clone().filter(|path| can(path, Access::EXISTS));
    found
        .find(|path| can(path, Access::EXEC_OK) && !std::path::Path::new(path).is_dir())
        .or_else(|| there.next())
}

fn not_found(process: &Process) -> Report {
    Report::ExecFailed {
        errno: Errno::NOENT.raw_os_error(),
        found: false,
        message: format!("`{}` is in no folder of PATH in the tree", process.program),
        hint: Some("name the program with its whole path, `program = \"/opt/…\"` in the recipe".to_owned()),
    }
}

/// The kernel says "no such file" for a program that is there when what it names as its interpreter is not.
fn diagnose(program: &str, errno: i32) -> Report {
    let found = std::fs::symlink_metadata(program).is_ok();
    let error = io::Error::from_raw_os_error(errno);
    let report = |message: String, hint: &str| Report::ExecFailed {
        errno,
        found,
        message,
        hint: Some(hint.to_owned()),
    };
    match Errno::from_raw_os_error(errno) {
        Errno::NOENT if !found => report(
            format!("`{program}` is not in the tree"),
            "name the program with its whole path, `program = \"/opt/…\"` in the recipe",
        ),
        Errno::NOENT => match interpreter(program) {
            Some(Interpreter::Loader(loader)) => report(
                format!("`{program}` is there, but its dynamic loader `{loader}` is not"),
                "the tree lacks the C library for this architecture: see `base` and `architectures` in the recipe",
            ),
            Some(Interpreter::Script(name)) if name.ends_with('\r') => report(
                format!(
                    "`{program}` is there, but the interpreter `{}` in its first line is not: the line ends in a carriage return",
                    name.escape_debug()
                ),
                "lines that end as those of DOS are mended by a `patch` of the recipe",
            ),
            Some(Interpreter::Script(name)) => report(
                format!("`{program}` is there, but the interpreter `{name}` in its first line is not"),
                "add the package with that interpreter to `packages` in the recipe",
            ),
            None => report(
                format!("`{program}` leads to something that is not there"),
                "it may be a dangling symlink",
            ),
        },
        Errno::ACCESS if std::path::Path::new(program).is_dir() => {
            report(format!("`{program}` is a folder"), "name a program in it")
        }
        Errno::ACCESS => report(
            format!("`{program}` is not executable"),
            "`hatchway inspect` shows the modes of the files in an artifact",
        ),
        Errno::NOEXEC => report(
            format!("`{program}` is not a program for this machine"),
            "it may be for another architecture, or a script without `#!` in its first line",
        ),
        _ => report(
            format!("cannot execute `{program}`: {}", reason(&error)),
            "`hatchway doctor` checks this host",
        ),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Interpreter {
    Loader(String),
    Script(String),
}

/// What a program names as its interpreter. The program is hostile: every offset is checked.
fn interpreter(program: &str) -> Option<Interpreter> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(program, flags, Mode::empty()).ok()?);
    let mut head = Vec::new();
    file.take(64 * 1024).read_to_end(&mut head).ok()?;
    read_interpreter(&head)
}

fn read_interpreter(head: &[u8]) -> Option<Interpreter> {
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|byte| *byte == b'\n').next()?;
        // As the kernel does: a carriage return belongs to the name.
        let mut words = line.split(|byte| matches!(byte, b' ' | b'\t' | 0)).filter(|word| !word.is_empty());
        let name = String::from_utf8_lossy(words.next()?).into_owned();
        return Some(Interpreter::Script(name));
    }
    if !head.starts_with(b"\x7fELF") {
        return None;
    }
    let wide = *head.get(4)? == 2;
    // Offsets of e_phoff, e_phentsize, e_phnum, and of p_offset and p_filesz in a program header.
    let (table, size, count, offset, length) = if wide { (32, 54, 56, 8, 32) } else { (28, 42, 44, 4, 16) };
    let number = |at: usize, bytes: usize| -> Option<usize> {
        let raw = head.get(at..at.checked_add(bytes)?)?;
        raw.iter().rev().try_fold(0_usize, |sum, byte| sum.checked_mul(256)?.checked_add(usize::from(*byte)))
    };
    let word = if wide { 8 } else { 4 };
    let table = number(table, word)?;
    for index in 0..number(count, 2)? {
        let entry = table.checked_add(index.checked_mul(number(size, 2)?)?)?;
        if number(entry, 4)? == 3 {
            let start = number(entry.checked_add(offset)?, word)?;
            let end = start.checked_add(number(entry.checked_add(length)?, word)?)?;
            let name = head.get(start..end)?.split(|byte| *byte == 0).next()?;
            return Some(Interpreter::Loader(String::from_utf8_lossy(name).into_owned()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_of_a_real_program_is_found() {
        let shell = std::fs::read("/bin/sh").unwrap();
        let Some(Interpreter::Loader(loader)) = read_interpreter(&shell) else { panic!("no loader") };
        assert!(loader.contains("ld-"), "{loader}");
    }

    #[test]
    fn scripts_name_their_interpreter() {
        let script = |name: &str| Some(Interpreter::Script(name.to_owned()));
        assert_eq!(read_interpreter(b"#!/usr/bin/perl -w\nprint"), script("/usr/bin/perl"));
        assert_eq!(read_interpreter(b"#! /bin/ksh"), script("/bin/ksh"));
        assert_eq!(read_interpreter(b"#!/bin/sh\r\necho\r\n"), script("/bin/sh\r"));
        assert_eq!(read_interpreter(b"#! \n"), None);
        assert_eq!(read_interpreter(b"plain text"), None);
    }

    #[test]
    fn broken_programs_have_none() {
        let shell = std::fs::read("/bin/sh").unwrap();
        for cut in [0, 4, 5, 40, 63, 64, 100, 200] {
            read_interpreter(&shell[..cut]);
        }
        let mut wild = shell[..1024].to_vec();
        wild[32..40].fill(0xff);
        assert_eq!(read_interpreter(&wild), None);
    }
}
