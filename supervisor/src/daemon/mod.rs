//! `hatchway daemon`: keeps the units of an instrument as they are wanted.
//!
//! The truth about a unit is its folder, written by its recorder. What is to be done follows from that, from the applied instrument and
//! from what people have said ([`decide`]); the daemon does it. So it may be killed at any moment: the next one sees what it would have
//! seen, and no unit has anything of the daemon's in hand.

pub mod api;
mod attach;
pub mod client;
mod core;
pub mod decide;
mod doors;
pub mod files;
mod given;
pub mod journal;
mod metrics;
mod notify;
pub mod openapi;
pub mod problem;
pub mod python;
pub mod report;
pub mod said_by;
pub mod source;
mod start;
pub mod view;
mod watch;

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::dirs::Dirs;
use crate::error::Error;
use crate::instrument;

use self::core::Core;
use files::Applied;
use journal::{Entry, Kind};
use notify::Systemd;

/// Held by the one daemon of a runtime folder.
const LOCK: &str = "daemon.lock";
/// How long the last answers may take.
const LAST_ANSWERS: Duration = Duration::from_millis(500);
/// How long somebody else may have it.
const LOCK_MAX: Duration = Duration::from_secs(1);
/// Threads for what waits: starts, accounts, logs.
const THREADS: usize = 16;

/// The instrument of this machine where none is named: the last of the configuration's folders that has one.
#[must_use]
pub fn default_instrument(dirs: &Dirs) -> Option<PathBuf> {
    let beside = dirs.config.iter().filter_map(|config| config.parent());
    beside.map(|folder| folder.join(instrument::FILE)).rfind(|path| path.is_file())
}

/// Stays until it is told to end; units go on. `file` is applied where nothing was applied yet, and at SIGHUP.
///
/// # Errors
/// Another daemon runs, or its folders cannot be written.
pub fn run(dirs: Dirs, file: Option<&Path>) -> Result<(), Error> {
    // Before anything else is opened: what systemd gives has numbers, not names.
    let given = given::take(&dirs.runtime.join(api::SOCKET))?;
    let _lock = lock(&dirs)?;
    start::own_program()?;
    let failed = || Error::io("begin", "/proc/self");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(THREADS)
        .build()
        .map_err(failed())?;
    let core = Arc::new(Core::open(dirs)?);
    runtime.block_on(serve(&core, file, given))?;
    // A start that is under way leaves a whole unit or none.
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(())
}

/// Held by the daemon, and by whoever writes its files while none runs.
///
/// # Errors
/// A daemon runs.
pub fn lock(dirs: &Dirs) -> Result<File, Error> {
    fs::create_dir_all(&dirs.runtime).map_err(Error::io("create", &dirs.runtime))?;
    let path = dirs.runtime.join(LOCK);
    let mut options = File::options();
    let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(Error::io("open", &path))?;
    // Whoever writes the files has it for a moment.
    let end = Instant::now() + LOCK_MAX;
    while !hatchway_sys::lock::try_lock_exclusive(&file).map_err(Error::io("lock", &path))? {
        if Instant::now() >= end {
            return Err(Error::Host {
                message: "another daemon runs already".to_owned(),
                hints: vec![
                    "`hatchway status` asks that one; `systemctl stop hatchway` ends it, and no unit"
                        .to_owned(),
                ],
            });
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(file)
}

async fn serve(core: &Arc<Core>, file: Option<&Path>, given: Option<UnixListener>) -> Result<(), Error> {
    let socket = core.dirs.runtime.join(api::SOCKET);
    let given = given.filter(|_| given::is_there(&socket));
    let is_given = given.is_some();
    let listener = match given {
        Some(given) => tokio::net::UnixListener::from_std(given),
        None => api::bind(&core.dirs.runtime),
    };
    let listener = listener.map_err(Error::io("listen at", &socket))?;
    let mut signals = Signals::new().map_err(Error::io("watch signals of", "/proc/self"))?;
    core.tell(Entry::new(
        Kind::DaemonBegan,
        format!("version {}, process {}", env!("CARGO_PKG_VERSION"), std::process::id()),
    ));
    core.load();
    if core.lock().machine.is_none() {
        apply(core, file);
    }
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let mut api = tokio::spawn(api::serve(Arc::clone(core), listener, stopped));
    let mut systemd = Systemd::new();
    let mut ready = false;
    let ended = loop {
        let pause = core.turn().begin(core).min(systemd.alive());
        if !ready {
            systemd.ready();
            ready = true;
        }
        tokio::select! {
            () = core.changed.notified() => {}
            () = tokio::time::sleep(pause) => {}
            _ = signals.hang_up.recv() => {
                systemd.reloading();
                apply(core, file);
                systemd.ready();
            }
            _ = signals.terminate.recv() => break "SIGTERM",
            _ = signals.interrupt.recv() => break "SIGINT",
        }
    };
    systemd.stopping();
    // Who is being answered gets the rest; who follows something does not come to an end by itself.
    // That it has ended already changes nothing.
    let _heard = stop.send(());
    drop(tokio::time::timeout(LAST_ANSWERS, &mut api).await);
    api.abort();
    core.tell(Entry::new(Kind::DaemonEnded, format!("{ended}; units go on")));
    // Whoever asks meanwhile waits for the next one where the socket is systemd's.
    if !is_given {
        drop(fs::remove_file(socket));
    }
    Ok(())
}

/// What cannot be applied changes nothing, and is told in the journal.
fn apply(core: &Core, file: Option<&Path>) {
    // What was applied is read anew from where it came.
    let origin = || Applied::load(&core.dirs).ok().flatten().map(|applied| applied.origin);
    let file = file.map(Path::to_owned).or_else(origin).or_else(|| default_instrument(&core.dirs));
    let Some(file) = file else {
        return core.tell(Entry::new(Kind::Failed, "there is no instrument: `hatchway up FILE` applies one"));
    };
    let applied = api::read_instrument(&core.dirs, &file)
        .and_then(|applied: Applied| core.apply(&applied, "the daemon"));
    if let Err(error) = applied {
        core.tell(Entry::new(Kind::Failed, format!("the instrument is not applied: {}", error.whole())));
    }
}

struct Signals {
    hang_up: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            hang_up: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}
