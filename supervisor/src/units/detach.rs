//! `hatchway run --detach`: the recorder takes over, and this process only waits until the tool has started, or is ready.

use std::fs;
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hatchway_wire::VERSION;
use hatchway_wire::log::Policy;
use hatchway_wire::ready::{Stage, Standing, Wish};
use hatchway_wire::unit::{self, Begun, Unit};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::systemd::{self, Service};
use super::{Seen, Watch, is_kept, see};
use crate::clock::Now;
use crate::error::Error;
use crate::launch::packets::Packets;
use crate::launch::{machine, run_folder};
use crate::recipe::{self, Logs};
use crate::{launch, visit};

/// From one look to the next.
const LOOK: Duration = Duration::from_millis(5);
/// Beyond what a tool has to end in, what is left of a guest may take that to be gone.
pub(crate) const LINGER: Duration = Duration::from_secs(30);
/// How long systemd may take to begin what it has accepted. A machine that starts everything at once takes seconds.
const JOB_MAX: Duration = Duration::from_secs(30);
/// What of a recorder's complaint is shown.
const COMPLAINT_MAX: u64 = 4096;

/// What came of it.
#[derive(Debug)]
pub enum Detached {
    /// The tool runs, and is so far, where that is known.
    Runs(Seen, Option<Standing>),
    /// It has ended already.
    Ended(Seen),
}

/// How a unit is kept.
#[derive(Debug)]
pub struct Terms {
    /// What becomes of its output.
    pub logs: Policy,
    /// How long what is left of it may take to end by itself.
    pub linger: Duration,
    /// When it counts as ready.
    pub ready: Option<Wish>,
    /// It has a terminal of its own.
    pub terminal: bool,
}

impl Terms {
    /// As a recipe has them.
    #[must_use]
    pub fn of(recipe: &recipe::Recipe) -> Self {
        let service = recipe.service.as_ref();
        let logs = service.and_then(|service| service.logs.as_ref());
        let stop = service.and_then(|service| service.stop).unwrap_or_default();
        let ready = service.and_then(|service| service.ready.as_ref());
        Self {
            logs: logs.map_or_else(Policy::default, Logs::policy),
            // Until then systemd leaves all of it alone.
            linger: machine::grace(recipe).unwrap_or(Duration::from_millis(stop.grace.ms())) + LINGER,
            ready: ready.map(|ready| ready.get_ref().wish()),
            terminal: service.is_some_and(|service| *service.terminal.get_ref()),
        }
    }
}

/// Starts the recorder of a unit in its folder, which is there, with this command line as what runs the tool. With `wait` it is waited for
/// until the unit is ready, or late.
///
/// # Errors
/// The folder cannot be written, or the recorder does not start.
pub fn detach(
    which: (&str, &str, &Path),
    command: Vec<String>,
    terms: Terms,
    wait: bool,
) -> Result<Detached, Error> {
    drop(keep(which, command, terms, None)?);
    let (tool, run, folder) = which;
    let standing = if wait { awaited(folder) } else { None };
    let folder = folder.to_owned();
    loop {
        let kept = is_kept(&folder);
        let runs = || standing.is_some() || visit::answers(&folder) && visit::has_started(&folder);
        if kept && runs() {
            return Ok(Detached::Runs(see(tool, run, folder), standing));
        }
        if !kept {
            return Ok(Detached::Ended(see(tool, run, folder)));
        }
        std::thread::sleep(LOOK);
    }
}

/// Waits until it is ready, or late; nothing where its recorder says neither, since it has ended.
fn awaited(folder: &Path) -> Option<Standing> {
    let watch = Watch::begin(folder)?;
    loop {
        let standing = watch.next(None)?;
        if standing.ready != Stage::Starting {
            return Some(standing);
        }
    }
}

/// The same without waiting for the tool; `config` names the configuration that the daemon starts it with.
///
/// # Errors
/// As [`detach`].
pub fn keep(
    (tool, run, folder): (&str, &str, &Path),
    command: Vec<String>,
    Terms { logs, linger, ready, terminal }: Terms,
    config: Option<String>,
) -> Result<Kept, Error> {
    let linger_ms = u64::try_from(linger.as_millis()).unwrap_or(u64::MAX);
    let (unit, incarnation) = (tool.to_owned(), run.to_owned());
    let Now { boot, monotonic } = Now::get();
    let monotonic_ms = u64::try_from(monotonic.as_millis()).unwrap_or(u64::MAX);
    let begun = Some(Begun { boot, monotonic_ms });
    let (version, hears_kept) = (VERSION, true);
    let told = Unit {
        version,
        unit,
        incarnation,
        command,
        logs,
        begun,
        config,
        linger_ms,
        ready,
        terminal,
        hears_kept,
    };
    // From the first moment on nobody takes the folder for one that is left: the lock goes on to the recorder.
    let lock = new_lock(&folder.join(unit::LOCK))?;
    let started =
        write(&folder.join(unit::FILE), &told).and_then(|()| start((tool, run, folder), &lock, linger));
    // From here on it is the recorder's.
    drop(lock);
    let silent = started.is_ok() && !is_kept(folder) && !folder.join(run_folder::EXIT).exists();
    let started = match silent {
        true => Err(Error::Host {
            message: "what was to keep the unit ended without a word".to_owned(),
            hints: vec!["was it killed for want of memory? `dmesg | tail`".to_owned()],
        }),
        false => started,
    };
    if started.is_err() && Packets::connect(folder, unit::SOCKET).is_err() {
        // Nothing ran, so there is nothing to know of it.
        run_folder::remove(folder);
    }
    started
}

fn write(path: &PathBuf, told: &Unit) -> Result<(), Error> {
    let text =
        serde_json::to_vec_pretty(told).map_err(|e| Error::Usage(format!("cannot write JSON: {e}")))?;
    let mut options = fs::File::options();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(&text));
    written.map_err(Error::io("write", path))
}

/// Who keeps a unit from now on.
#[derive(Debug)]
pub struct Kept {
    /// Which run it is.
    pub run: String,
    /// The recorder, where it is a child of this process.
    pub child: Option<Child>,
    /// What was done otherwise than it should be.
    pub note: Option<String>,
}

/// As a service of systemd's where it is there, else as a child.
fn start(which: (&str, &str, &Path), lock: &fs::File, stop: Duration) -> Result<Kept, Error> {
    let shim = launch::shim()?;
    // What this process was started with (the other end of somebody's pipe) would stay open as long as the unit lives.
    hatchway_sys::descriptors::close_on_exec_from(3, &[]).map_err(Error::io("keep to", "this process"))?;
    let (name, run, folder) = which;
    let words =
        [shim.to_string_lossy().into_owned(), "--unit".to_owned(), folder.to_string_lossy().into_owned()];
    if !systemd::is_there() {
        return as_child(which, &words, lock, None);
    }
    let kept = Kept { run: run.to_owned(), child: None, note: None };
    match as_service(&Service { unit: name, run, words: &words, stop }, lock) {
        Ok(said) => said.map_or(Ok(kept), |said| Err(not_kept(&said))),
        // An answer may be lost, and the service be there.
        Err(_) if Packets::connect(folder, unit::SOCKET).is_ok() => Ok(kept),
        Err(error) => {
            let note = format!("systemd does not take it, so it is a process of the daemon's own: {error}");
            as_child(which, &words, &renew(folder)?, Some(note))
        }
    }
}

/// What it complains of, if anything; an error where nobody says whether it runs.
fn as_service(service: &Service<'_>, lock: &fs::File) -> io::Result<Option<String>> {
    let (reader, writer) = io::pipe()?;
    systemd::start(service, lock.as_fd(), writer.as_fd())?;
    drop(writer);
    complaint(reader, Some(JOB_MAX))
}

fn as_child(
    (_, run, folder): (&str, &str, &Path),
    words: &[String],
    lock: &fs::File,
    note: Option<String>,
) -> Result<Kept, Error> {
    let (program, arguments) = words.split_first().ok_or_else(|| Error::Usage("no words".to_owned()))?;
    let (reader, writer) = io::pipe().map_err(Error::io("hear from", program))?;
    let lock = lock.try_clone().map_err(Error::io("hand over", folder))?;
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(systemd::environment())
        .stdin(lock)
        .stdout(Stdio::null())
        .stderr(writer)
        .spawn()
        .map_err(Error::io("execute", program))?;
    match complaint(reader, None).map_err(Error::io("hear from", program))? {
        None => Ok(Kept { run: run.to_owned(), child: Some(child), note }),
        Some(said) => {
            drop(child.wait());
            Err(not_kept(&said))
        }
    }
}

/// What the recorder says on its standard error in place of that it keeps the unit.
fn complaint(reader: PipeReader, within: Option<Duration>) -> io::Result<Option<String>> {
    let end = within.map(|within| Instant::now() + within);
    let mut reader = reader.take(COMPLAINT_MAX);
    let (mut said, mut buffer) = (Vec::new(), [0; 512]);
    loop {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        let mut fds = [PollFd::new(reader.get_ref(), PollFlags::IN)];
        match poll(&mut fds, left.as_ref()) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::TimedOut, "it is accepted, and not begun")),
            Ok(_) => match reader.read(&mut buffer)? {
                0 => break,
                _ if said.is_empty() && buffer[0] == unit::KEPT => return Ok(None),
                count => said.extend_from_slice(&buffer[..count]),
            },
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    Ok((!said.is_empty()).then_some(said))
}

fn not_kept(said: &str) -> Error {
    let said = said.strip_prefix("error: ").unwrap_or(said);
    Error::Host { message: format!("nothing keeps the unit: {said}"), hints: Vec::new() }
}

/// Puts another lock, which is held, into the place of the one that systemd was given. Should it start the service later, that one does not
/// get what it needs, and while the old one is still in a queue somewhere nobody takes the unit for one that runs.
fn renew(folder: &Path) -> Result<fs::File, Error> {
    let (beside, path) = (folder.join(run_folder::NEW_LOCK), folder.join(unit::LOCK));
    let lock = new_lock(&beside)?;
    fs::rename(&beside, &path).map_err(Error::io("replace", &path))?;
    Ok(lock)
}

fn new_lock(path: &Path) -> Result<fs::File, Error> {
    let mut options = fs::File::options();
    let lock =
        options.write(true).create_new(true).mode(0o600).open(path).map_err(Error::io("create", path))?;
    hatchway_sys::lock::lock_exclusive(&lock).map_err(Error::io("lock", path))?;
    Ok(lock)
}
