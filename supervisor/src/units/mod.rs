//! Units as their folders tell them: what runs, what has ended and why, and orders to those that run. No daemon is asked.

mod attach;
mod collected;
mod detach;
mod log;
mod memory;
mod reason;
mod standing;
mod systemd;

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hatchway_wire::ExitRecord;
use hatchway_wire::ready::{self, ReadyRecord, Standing};
use hatchway_wire::unit::{self, Unit, UnitOrder, UnitReport};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use crate::dirs::{Dirs, names_in};
use crate::error::Error;
use crate::launch::packets::{Packets, Received};
use crate::launch::{self, run_folder};
use crate::visit;

pub use attach::Seat;
pub use collected::{Collected, FILE as COLLECTED};
pub(crate) use detach::LINGER;
pub use detach::{Detached, Kept, Terms, detach, keep};
pub use log::{Line, Reader};
pub use memory::Memory;
pub(crate) use reason::{name as signal_name, outcome_told};
pub use reason::{next, told};
pub use standing::{Watch, late_told, stage_told};

/// How long a recorder may take to an answer.
const ANSWER_MAX_S: i64 = 5;

/// How a unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It runs, kept by its recorder.
    Running,
    /// It runs, and ends with the terminal or the command that has started it.
    Foreground,
    /// What kept it was killed, and it is on its way to its end.
    Ending,
    /// It has ended, and its record says why.
    Ended,
    /// It is gone without a record: the machine went down, or what looked after it was killed.
    Lost,
}

/// One run of a tool.
#[derive(Debug, Clone, Serialize)]
pub struct Seen {
    /// Name of the tool.
    pub tool: String,
    /// Which run of it.
    pub run: String,
    /// How it is.
    pub state: State,
    /// How it ended.
    pub record: Option<ExitRecord>,
    /// Its folder.
    pub folder: PathBuf,
    #[serde(skip)]
    unit: Option<Unit>,
    /// That it was ready, or late.
    #[serde(skip)]
    ready: Option<ReadyRecord>,
    /// How far it was, where somebody has written that down.
    #[serde(skip)]
    standing: Option<Standing>,
    /// Somebody has found it ready.
    #[serde(skip)]
    was_ready: bool,
}

/// The units that have left a trace.
#[must_use]
pub fn names(dirs: &Dirs) -> Vec<String> {
    names_in(&dirs.runtime.join("units"))
}

/// All runs that have left a trace, oldest first.
#[must_use]
pub fn all(dirs: &Dirs, tool: Option<&str>) -> Vec<Seen> {
    let units = dirs.runtime.join("units");
    let mut found = Vec::new();
    for name in names_in(&units).into_iter().filter(|name| tool.is_none_or(|tool| tool == name)) {
        let folder = units.join(&name);
        found.extend(names_in(&folder).into_iter().map(|run| see(&name, &run, folder.join(&run))));
    }
    found
}

/// The same of one unit, for whoever acts on it: what cannot be read is an error, not a unit that is not there.
///
/// # Errors
/// A folder or a file that is there cannot be read.
pub fn all_of(dirs: &Dirs, unit: &str) -> io::Result<Vec<Seen>> {
    let folder = dirs.runtime.join("units").join(unit);
    let mut found = Vec::new();
    for entry in there(fs::read_dir(&folder))?.into_iter().flatten() {
        let run = entry?.file_name().to_string_lossy().into_owned();
        found.push(see_readable(unit, &run, folder.join(&run))?);
    }
    found.sort_by(|one, other| one.run.cmp(&other.run));
    Ok(found)
}

/// What of it cannot be read is an error, not a run that has ended.
fn see_readable(unit: &str, run: &str, folder: PathBuf) -> io::Result<Seen> {
    for name in [unit::LOCK, unit::FILE, run_folder::EXIT] {
        there(File::open(folder.join(name)))?;
    }
    Ok(see(unit, run, folder))
}

/// Nothing where it is not there.
fn there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The name of a run that begins now. Names are in the order of runs also where the clock is set back.
#[must_use]
pub fn new_run(dirs: &Dirs, unit: &str) -> String {
    let name = launch::incarnation();
    let number = |name: &str| name.split_once('-').and_then(|(ms, _)| ms.parse::<u64>().ok());
    let newest =
        names_in(&dirs.runtime.join("units").join(unit)).iter().filter_map(|name| number(name)).max();
    match (number(&name), newest) {
        (Some(now), Some(newest)) if now <= newest => {
            let rest = name.split_once('-').map_or("", |(_, rest)| rest);
            format!("{}-{rest}", newest + 1)
        }
        _ => name,
    }
}

fn see(tool: &str, run: &str, folder: PathBuf) -> Seen {
    if let Some(Collected { state, record, unit, ready, standing }) = Collected::read(&folder) {
        let (tool, run) = (tool.to_owned(), run.to_owned());
        return Seen { tool, run, state, record, folder, unit, ready, standing, was_ready: false };
    }
    let read = |name: &str| fs::read(folder.join(name)).ok();
    // Asked first: one that lets go has left its record before.
    let kept = is_kept(&folder);
    let record: Option<ExitRecord> = read("exit.json").and_then(|text| serde_json::from_slice(&text).ok());
    let unit: Option<Unit> = read(unit::FILE).and_then(|text| serde_json::from_slice(&text).ok());
    let ready: Option<ReadyRecord> = read(ready::FILE).and_then(|text| serde_json::from_slice(&text).ok());
    let state = match (&record, &unit) {
        // Its record is there a little before its recorder has let go.
        (_, Some(_)) if kept => State::Running,
        (Some(_), _) => State::Ended,
        (None, Some(_)) if visit::answers(&folder) => State::Ending,
        (None, None) if visit::answers(&folder) || run_folder::machine_of(&folder).is_some() => {
            State::Foreground
        }
        (None, _) => State::Lost,
    };
    let record = record.filter(|_| state == State::Ended);
    Seen {
        tool: tool.to_owned(),
        run: run.to_owned(),
        state,
        record,
        folder,
        unit,
        ready,
        standing: None,
        was_ready: false,
    }
}

/// Whether a recorder holds the lock of this folder.
pub(crate) fn is_kept(folder: &Path) -> bool {
    match File::open(folder.join(unit::LOCK)) {
        Ok(file) => matches!(hatchway_sys::lock::try_lock_shared(&file), Ok(false)),
        // Whoever cannot tell leaves it alone.
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}

/// The run that is meant: the one with this name, or the last.
///
/// # Errors
/// There is none.
pub fn last(dirs: &Dirs, tool: &str, run: Option<&str>) -> Result<Seen, Error> {
    let mut all = all(dirs, Some(tool));
    if let Some(run) = run {
        all.retain(|seen| seen.run == run);
    }
    let running = all.iter().rposition(|seen| matches!(seen.state, State::Running | State::Foreground));
    let found = running.or(all.len().checked_sub(1)).map(|index| all.swap_remove(index));
    found.ok_or_else(|| Error::Host {
        message: match run {
            Some(run) => format!("no run `{run}` of `{tool}` is known"),
            None => format!("no run of `{tool}` is known"),
        },
        hints: vec![
            "`hatchway status` shows what is known; a run is forgotten after ten later ones, or when the machine starts anew"
                .to_owned(),
        ],
    })
}

impl Seen {
    /// Whether it runs.
    #[must_use]
    pub fn runs(&self) -> bool {
        matches!(self.state, State::Running | State::Foreground | State::Ending)
    }

    /// Whether its output is kept.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.unit.is_some()
    }

    /// What is known of it, to be read elsewhere.
    #[must_use]
    pub fn collected(&self) -> Collected {
        let Self { state, record, unit, ready, .. } = self.clone();
        Collected { state, record, unit, ready, standing: self.standing() }
    }

    /// What its recorder was told.
    #[must_use]
    pub fn told(&self) -> Option<&Unit> {
        self.unit.as_ref()
    }

    /// Gives its recorder an order.
    ///
    /// # Errors
    /// It has no recorder, or that does not answer or refuses.
    pub fn order(&self, order: &UnitOrder) -> Result<(), Error> {
        if self.state == State::Foreground {
            return Err(Error::Host {
                message: format!("`{}` runs in the foreground of another command", self.tool),
                hints: vec![
                    "end it there (Ctrl-C), or start it with `hatchway run --detach` the next time"
                        .to_owned(),
                ],
            });
        }
        let Some(packets) = self.connect()? else { return Ok(()) };
        match self.ask(&packets, order)? {
            None | Some((UnitReport::Done, _)) => Ok(()),
            Some((report, _)) => Err(self.refused(&report)),
        }
    }

    /// To its recorder; nothing where it has ended meanwhile, or does so by itself.
    fn connect(&self) -> Result<Option<Packets>, Error> {
        match Packets::connect(&self.folder, unit::SOCKET) {
            Err(_) if !is_kept(&self.folder) => Ok(None),
            other => other.map(Some).map_err(self.failed()),
        }
    }

    fn failed(&self) -> impl FnOnce(io::Error) -> Error {
        Error::io("tell the recorder at", self.folder.join(unit::SOCKET))
    }

    /// The answer to an order, and what comes with it; nothing where it has ended meanwhile.
    fn ask(&self, packets: &Packets, order: &UnitOrder) -> Result<Option<(UnitReport, Vec<OwnedFd>)>, Error> {
        packets.send(order, &[]).map_err(self.failed())?;
        let mut fds = [PollFd::new(packets, PollFlags::IN)];
        let timeout = Timespec { tv_sec: ANSWER_MAX_S, tv_nsec: 0 };
        poll(&mut fds, Some(&timeout)).map_err(|errno| self.failed()(errno.into()))?;
        match packets.receive().map_err(self.failed())? {
            Received::Message(report, descriptors) => Ok(Some((report, descriptors))),
            Received::End if !is_kept(&self.folder) => Ok(None),
            Received::Nothing | Received::End => Err(self.speechless()),
        }
    }

    fn refused(&self, report: &UnitReport) -> Error {
        match report {
            UnitReport::Failed { message } => Error::Host {
                message: format!("the recorder of `{}` cannot do it: {message}", self.tool),
                hints: Vec::new(),
            },
            _ => self.speechless(),
        }
    }

    fn speechless(&self) -> Error {
        Error::Host {
            message: format!("the recorder of `{}` gives no answer", self.tool),
            hints: vec!["is it stopped? `ps -o pid,stat,args -C hatchway-unit` shows it".to_owned()],
        }
    }

    /// Gives its recorder an order, and does not wait for what comes of it. One that has just ended needs none.
    ///
    /// # Errors
    /// The recorder takes nobody.
    pub fn offer(&self, order: &UnitOrder) -> Result<(), Error> {
        let sent = Packets::connect(&self.folder, unit::SOCKET).and_then(|packets| packets.offer(order, &[]));
        match sent {
            Err(_) if !is_kept(&self.folder) => Ok(()),
            other => other.map_err(Error::io("tell the recorder at", self.folder.join(unit::SOCKET))),
        }
    }

    /// Waits until it has ended; as it is then, or `None` when that takes longer.
    #[must_use]
    pub fn ended(&self, within: Option<Duration>) -> Option<Self> {
        let begun = Instant::now();
        while is_kept(&self.folder) {
            if within.is_some_and(|within| begun.elapsed() >= within) {
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(see(&self.tool, &self.run, self.folder.clone()))
    }
}
