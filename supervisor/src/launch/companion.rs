//! Programs of the host that serve one run, started before this process becomes the shim, which then is their parent
//! and ends them.

use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use hatchway_envs::sandbox::{Companion, Spec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::dirs::is_root;
use crate::error::Error;

/// What they say goes there, in the run's folder.
pub(super) const LOG: &str = "companions.log";
/// A copy of the cookies of the display that a nested one is a window of.
pub(super) const OUTER_AUTHORITY: &str = "outer-xauthority";
/// How long one may take to be ready.
const READY_MAX_S: i64 = 30;
/// How much of the log an error shows.
const TAIL: usize = 600;

/// Those that run; ended when this is dropped, which does not happen when the shim takes over.
#[derive(Debug, Default)]
pub(super) struct Running {
    children: Vec<Child>,
    /// Each is the end of a pipe to one of them, which ends when nobody holds it: the shim does.
    pub(super) held: Vec<OwnedFd>,
}

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.children {
            // It may have ended by itself.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// A program of the host, or nothing.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// How a program says that it is ready.
#[derive(Debug)]
enum Ready {
    /// By a line on its standard output.
    Line,
    /// By the byte `x` there; it ends when nobody holds the other end.
    Held,
    /// By this socket.
    Socket(PathBuf),
}

/// Starts a program and waits for the line on its standard output that says it is ready; the result is the line.
///
/// # Errors
/// When it cannot be started, ends, or does not get ready in time.
pub(super) fn start(
    command: Command,
    role: &str,
    folder: &Path,
    spec: &mut Spec,
    running: &mut Running,
) -> Result<String, Error> {
    begin(command, role, folder, &Ready::Line, spec, running).map(|(said, _)| said)
}

/// As [`start`], for a program that is ready when somebody listens at this socket.
///
/// # Errors
/// As [`start`].
pub(super) fn start_listening(
    command: Command,
    role: &str,
    folder: &Path,
    socket: PathBuf,
    spec: &mut Spec,
    running: &mut Running,
) -> Result<(), Error> {
    begin(command, role, folder, &Ready::Socket(socket), spec, running).map(drop)
}

/// As [`start`], for a program that says so by the byte `x` and ends when the other end of its standard output is closed.
///
/// # Errors
/// As [`start`].
pub(super) fn start_held(
    command: Command,
    role: &str,
    folder: &Path,
    spec: &mut Spec,
    running: &mut Running,
) -> Result<(), Error> {
    let (_, end) = begin(command, role, folder, &Ready::Held, spec, running)?;
    running.held.extend(end.map(OwnedFd::from));
    Ok(())
}

fn begin(
    mut command: Command,
    role: &str,
    folder: &Path,
    when: &Ready,
    spec: &mut Spec,
    running: &mut Running,
) -> Result<(String, Option<ChildStdout>), Error> {
    let log = folder.join(LOG);
    let name = command.get_program().to_string_lossy().into_owned();
    let stderr = fs::File::options().create(true).append(true).open(&log).map_err(Error::io("open", &log))?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
    // A group of its own: Ctrl-C is for the tool.
    command.process_group(0);
    if is_root() {
        // It listens to a hostile tool: as root it would be a way out.
        command.uid(spec.identity.uid).gid(spec.identity.gid);
    }
    hatchway_sys::process::end_with_parent(&mut command);
    let mut child = command.spawn().map_err(Error::io("start", &name))?;
    let said = match when {
        Ready::Line => ready(&mut child, b'\n'),
        Ready::Held => ready(&mut child, b'x'),
        Ready::Socket(path) => connected(&mut child, path).then(|| (String::new(), None)),
    };
    let pid = i32::try_from(child.id()).unwrap_or_default();
    running.children.push(child);
    let Some(said) = said else {
        let text = fs::read_to_string(&log).unwrap_or_default();
        let cut = text.char_indices().rev().nth(TAIL).map_or(0, |(at, _)| at);
        return Err(Error::Host {
            message: format!("{role} `{name}` did not get ready"),
            hints: text[cut..]
                .lines()
                .map(str::trim)
                .filter(|line| !line.is_empty())
                .map(Into::into)
                .collect(),
        });
    };
    spec.companions.push(Companion { pid, role: role.to_owned(), command: shown(&command) });
    Ok(said)
}

/// A command line for people.
pub(super) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Whether somebody listens at the socket before the program ends or takes too long.
fn connected(child: &mut Child, path: &Path) -> bool {
    let end = Instant::now() + Duration::from_secs(READY_MAX_S.unsigned_abs());
    while Instant::now() < end && matches!(child.try_wait(), Ok(None)) {
        if UnixStream::connect(path).is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

/// What it says up to a last byte, and its end of the pipe; nothing if it ends or is silent for too long.
fn ready(child: &mut Child, last: u8) -> Option<(String, Option<ChildStdout>)> {
    let mut stdout = child.stdout.take()?;
    let mut said = Vec::new();
    while !said.ends_with(&[last]) && said.len() < 64 {
        let timeout = Timespec { tv_sec: READY_MAX_S, tv_nsec: 0 };
        match poll(&mut [PollFd::new(&stdout, PollFlags::IN)], Some(&timeout)) {
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
        let mut byte = [0];
        match stdout.read(&mut byte) {
            Ok(1) => said.push(byte[0]),
            _ => return None,
        }
    }
    Some((String::from_utf8_lossy(&said).trim().to_owned(), Some(stdout)))
}
