//! Programs of the host that serve one run, each in a sandbox of its own (`sandbox::companion_plan`), started before this
//! process becomes the shim, which then is their parent and ends them.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use hatchway_envs::sandbox::{self, Companion, CompanionSpec, HostFacts, HostPath, InsidePath, Reach, Spec};
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

/// What a program sees of the host beside programs, libraries and fonts.
#[derive(Debug)]
pub(super) struct Sight {
    /// The only folder that it writes, on the host and where it sees it.
    pub(super) folder: (PathBuf, &'static str),
    /// Files that it reads.
    pub(super) files: Vec<(PathBuf, &'static str)>,
    /// Sockets that it connects to.
    pub(super) sockets: Vec<(HostPath, InsidePath)>,
    /// How far it reaches beyond them.
    pub(super) reach: Reach,
}

impl Sight {
    /// Its folder and nothing else.
    pub(super) fn of(folder: &Path, at: &'static str) -> Self {
        Self {
            folder: (folder.to_owned(), at),
            files: Vec::new(),
            sockets: Vec::new(),
            reach: Reach::Sockets,
        }
    }
}

/// A program to be started for a tool.
#[derive(Debug)]
pub(super) struct Wish<'a> {
    /// Program, arguments, and the variables that it gets beside the fewest.
    pub(super) command: Command,
    /// What it is called to people.
    pub(super) role: &'static str,
    /// What it sees.
    pub(super) sight: Sight,
    /// The run's folder.
    pub(super) run: &'a Path,
}

/// How a program says that it is ready.
#[derive(Debug)]
enum Ready {
    /// By a line on its standard output.
    Line,
    /// By the byte `x` there; it ends when nobody holds the other end.
    Held,
    /// By this socket in its folder.
    Socket(&'static str),
}

/// Starts a program and waits for the line on its standard output that says it is ready; the result is the line.
///
/// # Errors
/// When it cannot be started, ends, or does not get ready in time.
pub(super) fn start(wish: &Wish<'_>, spec: &mut Spec, running: &mut Running) -> Result<String, Error> {
    begin(wish, &Ready::Line, spec, running).map(|(said, _)| said)
}

/// As [`start`], for a program that is ready when somebody listens at this socket in its folder.
///
/// # Errors
/// As [`start`].
pub(super) fn start_listening(
    wish: &Wish<'_>,
    socket: &'static str,
    spec: &mut Spec,
    running: &mut Running,
) -> Result<(), Error> {
    begin(wish, &Ready::Socket(socket), spec, running).map(drop)
}

/// As [`start`], for a program that says so by the byte `x` and ends when the other end of its standard output is closed.
///
/// # Errors
/// As [`start`].
pub(super) fn start_held(wish: &Wish<'_>, spec: &mut Spec, running: &mut Running) -> Result<(), Error> {
    let (_, end) = begin(wish, &Ready::Held, spec, running)?;
    running.held.extend(end.map(OwnedFd::from));
    Ok(())
}

fn begin(
    wish: &Wish<'_>,
    when: &Ready,
    spec: &mut Spec,
    running: &mut Running,
) -> Result<(String, Option<ChildStdout>), Error> {
    let log = wish.run.join(LOG);
    let stderr = fs::File::options().create(true).append(true).open(&log).map_err(Error::io("open", &log))?;
    let view = sandbox::host_view(wish.sight.reach)?;
    let plan = sandbox::companion_plan(&confined(wish, spec)?, view, &HostFacts::detect(Vec::new()))?;
    // It listens to a hostile tool: a shim of its own keeps it in a sandbox, and is the child that is ended.
    let mut child = sandbox::spawn_shim(&super::shim()?, &plan, &[], |command| {
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        // A group of its own: Ctrl-C is for the tool.
        command.process_group(0);
        hatchway_sys::process::end_with_parent(command);
    })?;
    let said = match when {
        Ready::Line => ready(&mut child, b'\n'),
        Ready::Held => ready(&mut child, b'x'),
        Ready::Socket(name) => {
            connected(&mut child, &wish.sight.folder.0, name).then(|| (String::new(), None))
        }
    };
    let pid = i32::try_from(child.id()).unwrap_or_default();
    running.children.push(child);
    let Some(said) = said else {
        let name = wish.command.get_program().to_string_lossy();
        let text = fs::read_to_string(&log).unwrap_or_default();
        let cut = text.char_indices().rev().nth(TAIL).map_or(0, |(at, _)| at);
        return Err(Error::Host {
            message: format!("{} `{name}` did not get ready", wish.role),
            hints: text[cut..]
                .lines()
                .map(str::trim)
                .filter(|line| !line.is_empty())
                .map(Into::into)
                .collect(),
        });
    };
    spec.companions.push(Companion { pid, role: wish.role.to_owned(), command: shown(&wish.command) });
    Ok(said)
}

/// The program with the tool's user and what it sees.
fn confined(wish: &Wish<'_>, spec: &Spec) -> Result<CompanionSpec, Error> {
    let text = |word: &OsStr| word.to_string_lossy().into_owned();
    let pair = |(host, at): &(PathBuf, &str)| -> Result<_, Error> {
        Ok((sandbox::host_path(host)?, super::inside(at)?))
    };
    let env = wish.command.get_envs().filter_map(|(name, value)| Some((text(name), text(value?))));
    Ok(CompanionSpec {
        name: spec.unit.clone(),
        program: sandbox::host_path(wish.command.get_program())?,
        args: wish.command.get_args().map(text).collect(),
        env: env.collect(),
        folder: pair(&wish.sight.folder)?,
        files: wish.sight.files.iter().map(pair).collect::<Result<_, _>>()?,
        sockets: wish.sight.sockets.clone(),
        reach: wish.sight.reach,
        user: spec.identity.clone(),
        mode: spec.mode.clone(),
    })
}

/// A folder in the run's folder in which only a companion and nobody else makes anything.
///
/// # Errors
/// When it cannot be made.
pub(super) fn make_folder(folder: &Path, spec: &Spec) -> Result<(), Error> {
    fs::DirBuilder::new().mode(0o700).create(folder).map_err(Error::io("create", folder))?;
    give(folder, spec)
}

/// Hands a file or folder to the tool's user.
///
/// # Errors
/// When its owner cannot be changed.
pub(super) fn give(path: &Path, spec: &Spec) -> Result<(), Error> {
    if !is_root() {
        return Ok(());
    }
    std::os::unix::fs::lchown(path, Some(spec.identity.uid), Some(spec.identity.gid))
        .map_err(Error::io("change the owner of", path))
}

/// A command line for people.
pub(super) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Whether somebody listens at the socket before the program ends or takes too long. By the folder's descriptor, since a
/// path of ours may be longer than a socket's may be.
fn connected(child: &mut Child, folder: &Path, name: &str) -> bool {
    let Ok(folder) = fs::File::open(folder) else { return false };
    let socket = format!("/proc/self/fd/{}/{name}", folder.as_raw_fd());
    let end = Instant::now() + Duration::from_secs(READY_MAX_S.unsigned_abs());
    while Instant::now() < end && matches!(child.try_wait(), Ok(None)) {
        if UnixStream::connect(&socket).is_ok() {
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
