//! What is known of an instrument's units: the applied instrument, what people have said, and what the unit folders tell.
//!
//! The daemon decides by it, and so does whoever asks while no daemon runs: both see the same.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hatchway_envs::digest::Sha256;
use hatchway_wire::ExitReason;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::Now;
use crate::dirs::Dirs;
use crate::error::Error;
use crate::instrument::{Instrument, UnitConfig};
use crate::launch::native;
use crate::recipe::{self, Located, Restart};
use crate::steps;
use crate::units::{self, Memory, Seen, State};

use super::decide::{Condition, Decision, End, Known, Run, Want, decide};
use super::files::{Applied, Said};

/// How a unit is, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// It runs, and is not ready yet.
    Starting,
    /// It runs, and is ready.
    Ready,
    /// It runs, and was not ready in time.
    Late,
    /// It is on its way to its end.
    Stopping,
    /// It starts once others are ready.
    Blocked,
    /// It has failed, and starts again soon.
    BackOff,
    /// It has failed again and again, and waits for a person.
    Degraded,
    /// It has failed, and nothing starts it again.
    Failed,
    /// It has ended, and nothing starts it again.
    Ended,
    /// It is not wanted.
    Stopped,
    /// It is about to be started.
    Due,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Late => "late",
            Self::Stopping => "stopping",
            Self::Blocked => "blocked",
            Self::BackOff => "back-off",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
            Self::Ended => "ended",
            Self::Stopped => "stopped",
            Self::Due => "due",
        })
    }
}

/// The instrument, and where it comes from.
#[derive(Debug, Clone)]
pub struct Machine {
    /// What is carried out.
    pub instrument: Instrument,
    /// Where recipes are, best first.
    pub recipes: Vec<PathBuf>,
    /// Restart policies by unit, as their recipes have them.
    restarts: BTreeMap<String, Restart>,
    /// See [`Applied::digests`].
    digests: BTreeMap<String, String>,
}

/// One unit.
#[derive(Debug)]
pub struct Unit {
    /// Its name.
    pub name: String,
    /// How it is.
    pub phase: Phase,
    /// Why it is so, in words.
    pub why: Option<String>,
    /// What is to be done.
    pub decision: Decision,
    /// Its last run.
    pub last: Option<Seen>,
    /// All runs, oldest first.
    pub runs: Vec<Run>,
}

impl Machine {
    /// The one that was applied, if one was.
    ///
    /// # Errors
    /// It cannot be read, or is wrong.
    pub fn load(dirs: &Dirs) -> Result<Option<Self>, Error> {
        let Some(applied) = Applied::load(dirs)? else { return Ok(None) };
        Ok(Some(Self::of(&applied, dirs)?))
    }

    /// The one of this file.
    ///
    /// # Errors
    /// It is wrong.
    pub fn of(applied: &Applied, dirs: &Dirs) -> Result<Self, Error> {
        let instrument = applied.instrument()?;
        let recipes: Vec<PathBuf> = std::iter::once(applied.recipes()).chain(dirs.recipes()).collect();
        let mut restarts = BTreeMap::new();
        for (name, config) in instrument.in_order() {
            // A recipe that cannot be read is said when its unit is started.
            let restart = match config.service {
                Some(_) => native::RESTART,
                None => located(config, &recipes).map_or(Restart::Never, |located| restart_of(&located)),
            };
            restarts.insert(name.to_owned(), restart);
        }
        Ok(Self { instrument, recipes, restarts, digests: applied.digests.clone() })
    }

    /// All units, each after those that it waits for.
    ///
    /// # Errors
    /// What a unit's folder has cannot be read: then nobody knows what is to be done.
    pub fn units(
        &self,
        dirs: &Dirs,
        said: &Said,
        now: &Now,
        memory: &mut Memory,
    ) -> Result<Vec<Unit>, Error> {
        let mut done: Vec<Unit> = Vec::new();
        for (name, config) in self.instrument.in_order() {
            let is_ready =
                |other: &str| done.iter().any(|unit| unit.name == other && unit.phase == Phase::Ready);
            let waits_for = config.after.iter().map(|name| name.as_str()).filter(|name| !is_ready(name));
            let waits_for = waits_for.map(str::to_owned).collect();
            let unit = self.unit(dirs, (name, config), waits_for, (said, now), memory);
            done.push(unit.map_err(Error::io("read", dirs.runtime.join("units").join(name)))?);
        }
        Ok(done)
    }

    /// Names what a unit is carried out with.
    #[must_use]
    pub fn digest(&self, unit: &str) -> &str {
        self.digests.get(unit).map_or("", String::as_str)
    }

    fn unit(
        &self,
        dirs: &Dirs,
        (name, config): (&str, &UnitConfig),
        waits_for: Vec<String>,
        (said, now): (&Said, &Now),
        memory: &mut Memory,
    ) -> std::io::Result<Unit> {
        let mut seen = memory.all_of(dirs, name)?;
        seen.retain(Seen::is_recorded);
        // Of another boot first, and what runs last: by the clock that nobody sets.
        seen.sort_by_key(|seen| {
            let begun =
                seen.told().and_then(|told| told.begun.as_ref()).filter(|begun| begun.boot == now.boot);
            (seen.runs(), begun.map(|begun| begun.monotonic_ms))
        });
        let runs: Vec<Run> = seen.iter().filter_map(|seen| run(seen, now)).collect();
        let (want, when) = said.of(name, config.start, now);
        let restart = self.restarts.get(name).copied().unwrap_or_default();
        let (renew, config) = (said.renew(name, now), self.digest(name));
        let known = Known { want, said: when, renew, restart, config, waits_for, runs: &runs };
        let decision = decide(&known, now.monotonic);
        let last = seen.pop();
        let is_ready = last.as_ref().is_some_and(|seen| decision == Decision::Keep && memory.is_ready(seen));
        let phase = phase(&decision, (last.as_ref(), is_ready), &runs, want);
        let why = why(&decision, last.as_ref(), &known, now);
        Ok(Unit { name: name.to_owned(), phase, why, decision, last, runs })
    }
}

/// What a unit is made of.
#[derive(Debug)]
pub enum Carried {
    /// A vendor's tool, by its recipe.
    Tool(Box<Located>),
    /// A native service: its program.
    Native(PathBuf),
}

/// Its recipe, or its program.
///
/// # Errors
/// There is none, or it is wrong.
pub fn find(config: &UnitConfig, recipes: &[PathBuf]) -> Result<Carried, Error> {
    match &config.service {
        Some(service) => native::find(service).map(Carried::Native),
        None => located(config, recipes).map(|located| Carried::Tool(Box::new(located))),
    }
}

fn restart_of(located: &Located) -> Restart {
    located.recipe.service.as_ref().map_or(Restart::Never, |service| service.restart)
}

fn located(config: &UnitConfig, recipes: &[PathBuf]) -> Result<Located, Error> {
    let name = config.recipe.as_deref().unwrap_or_default();
    if !name.contains('/') {
        return recipe::read_trusted(&recipe::locate_in(name, recipes)?);
    }
    // From the instrument's folder on.
    let base = recipes.first().and_then(|folder| folder.parent()).unwrap_or(Path::new("/"));
    let given = base.join(name);
    recipe::read_trusted(&if given.is_dir() { given.join("recipe.toml") } else { given })
}

/// Names what each unit would be carried out with now.
///
/// # Errors
/// A recipe or its lock is not there, or is wrong: then no unit is to be stopped for it.
pub fn digests(instrument: &Instrument, recipes: &[PathBuf]) -> Result<BTreeMap<String, String>, Error> {
    let digest = |config: &UnitConfig| -> Result<String, Error> {
        let mut text = config.digest();
        let files = match find(config, recipes)? {
            Carried::Tool(located) => {
                // A guest from a disk image has none: the recipe says which image it is.
                if located.recipe.image().is_none() {
                    steps::read_lock(&located)?;
                    vec![located.path.clone(), located.lock_path()]
                } else {
                    vec![located.path.clone()]
                }
            }
            Carried::Native(program) => vec![program],
        };
        for path in files {
            let content = std::fs::read(&path).map_err(Error::io("read", &path))?;
            text.push_str(&Sha256::of(&content).to_string());
        }
        Ok(Sha256::of(text.as_bytes()).to_string())
    };
    let units = instrument.in_order().into_iter();
    units.map(|(name, config)| Ok((name.to_owned(), digest(config)?))).collect()
}

/// A run of this boot.
fn run(seen: &Seen, now: &Now) -> Option<Run> {
    let told = seen.told();
    let begun = told.and_then(|told| told.begun.as_ref());
    let config = told.and_then(|told| told.config.clone());
    let condition = match seen.state {
        State::Running | State::Foreground => Condition::Running { config },
        State::Ending => Condition::Ending,
        State::Ended | State::Lost => {
            let begun = begun.filter(|begun| begun.boot == now.boot)?;
            let at = seen
                .record
                .as_ref()
                .map(|record| record.ended.monotonic_ns)
                .and_then(|at| u64::try_from(at).ok());
            // What is gone without a record was gone at some time after its beginning.
            let at = at.map_or(Duration::from_millis(begun.monotonic_ms), Duration::from_nanos);
            Condition::Ended { at, end: end(seen), config }
        }
    };
    let began = begun.map_or(Duration::ZERO, |begun| Duration::from_millis(begun.monotonic_ms));
    Some(Run { name: seen.run.clone(), began, condition })
}

fn end(seen: &Seen) -> End {
    match seen.record.as_ref().map(|record| &record.reason) {
        Some(ExitReason::Exit { code: 0 }) => End::Well,
        Some(ExitReason::Requested { .. }) => End::Asked,
        Some(_) | None => End::Failed,
    }
}

fn phase(decision: &Decision, (last, is_ready): (Option<&Seen>, bool), runs: &[Run], want: Want) -> Phase {
    match decision {
        Decision::Keep => match last {
            Some(_) if is_ready => Phase::Ready,
            Some(seen) if seen.late().is_some() => Phase::Late,
            _ => Phase::Starting,
        },
        Decision::Start => Phase::Due,
        Decision::Stop { .. } | Decision::Ending => Phase::Stopping,
        Decision::Blocked { .. } => Phase::Blocked,
        Decision::BackOff { .. } => Phase::BackOff,
        Decision::Degraded { .. } => Phase::Degraded,
        Decision::Rest if want == Want::Down => Phase::Stopped,
        Decision::Rest => match runs.last().map(|run| &run.condition) {
            Some(Condition::Ended { end: End::Failed, .. }) => Phase::Failed,
            _ => Phase::Ended,
        },
    }
}

fn why(decision: &Decision, last: Option<&Seen>, known: &Known<'_>, now: &Now) -> Option<String> {
    let ended = last.and_then(|seen| seen.record.as_ref()).map(|record| units::told(&record.reason));
    let ended = ended.unwrap_or_else(|| "it was gone without a record".to_owned());
    match decision {
        Decision::Keep => last.and_then(Seen::late),
        Decision::Blocked { on } => Some(format!("waits for {}", on.join(", "))),
        Decision::BackOff { until, failures } => {
            let left = until.saturating_sub(now.monotonic).as_secs_f64();
            Some(format!("{ended}; starts again in {left:.1} s, after {failures} failures"))
        }
        Decision::Degraded { failures } => {
            Some(format!("{ended}; {failures} failures in a short time: it waits for a person"))
        }
        Decision::Rest => last.map(|_| ended),
        Decision::Stop { run, again: true } if known.renew.as_ref() == Some(run) => {
            Some("somebody restarts it".to_owned())
        }
        Decision::Stop { again: true, .. } => Some("it has another configuration".to_owned()),
        _ => None,
    }
}
