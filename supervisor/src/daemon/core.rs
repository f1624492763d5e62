//! The daemon at work: looks at all units, does what is to be done, and says what has happened.
//!
//! Nothing here waits: starts have threads of their own, and whoever keeps a unit is told what to do and not heard.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hatchway_wire::unit::UnitOrder;
use nix::sys::signal::Signal;
use tokio::sync::{Notify, Semaphore, watch};

use crate::clock::Now;
use crate::dirs::Dirs;
use crate::error::Error;
use crate::units::{self, Kept, Memory, Seen};

use super::decide::{Decision, Want};
use super::files::{Applied, Said};
use super::journal::{Entry, Event, Journal, Kind};
use super::start::{self, Failed, Order};
use super::view::{Machine, Phase, Unit};

/// A unit whose start failed so that not even a record of it could be written is tried again after this.
const HOPELESS: Duration = Duration::from_secs(10);
/// From one look to the next while nothing can be seen.
const BLIND: Duration = Duration::from_secs(1);
/// From one look to the next at a unit whose recorder is gone.
const ENDING: Duration = Duration::from_millis(200);
/// Units that start at a time: others who ask the daemon for something are not to wait for them.
const STARTERS: usize = 4;
/// Names of runs beyond those that are there, before they are forgotten.
const KEPT: usize = 256;
/// As often what no message comes of is looked at.
const LOOK: Duration = Duration::from_secs(30);

/// What all parts of the daemon share.
#[derive(Debug)]
pub(super) struct Core {
    /// Folders.
    pub(super) dirs: Dirs,
    state: Mutex<State>,
    /// Held by who writes what people have said.
    keeping: Mutex<()>,
    /// One for each unit that is started at a time.
    starters: Semaphore,
    /// Something may have changed.
    pub(super) changed: Notify,
    /// The number of the last event.
    pub(super) events: watch::Sender<u64>,
}

/// What is known, and what is under way.
#[derive(Debug)]
pub(super) struct State {
    /// The instrument, if one was applied.
    pub(super) machine: Option<Machine>,
    said: Said,
    journal: Journal,
    /// What of the units' folders need not be read again.
    memory: Memory,
    /// How each unit was when it was looked at last, and which run it had.
    before: BTreeMap<String, (Phase, Option<String>)>,
    /// Runs whose end was told.
    told: BTreeSet<String>,
    /// Units that a thread is starting.
    starting: BTreeSet<String>,
    /// Runs that were asked to end by this daemon.
    asked: BTreeSet<String>,
    /// Runs that somebody watches.
    watched: BTreeSet<String>,
    /// What the folders have could not be read, and that was said.
    blind: bool,
    /// When those failed that left no record.
    hopeless: BTreeMap<String, Duration>,
    /// The recorders that this daemon has started, to collect them when they end.
    children: Vec<Child>,
}

/// What is to be done outside of the lock.
#[derive(Debug, Default)]
pub(super) struct Errands {
    /// Starts.
    starts: Vec<Order>,
    /// Runs to watch.
    watches: Vec<Seen>,
    /// When to look again.
    next: Duration,
}

impl Core {
    /// Reads what is there.
    ///
    /// # Errors
    /// The journal cannot be opened.
    pub(super) fn open(dirs: Dirs) -> Result<Self, Error> {
        let journal = Journal::open(&dirs)?;
        let told = journal.since(0, usize::MAX).into_iter();
        let told = told.filter(|event| event.kind == Kind::Ended);
        let told = told.filter_map(|event| Some(key(&event.unit?, &event.run?))).collect();
        let (events, _) = watch::channel(journal.last());
        let state = State {
            machine: None,
            said: Said::default(),
            journal,
            memory: Memory::default(),
            before: BTreeMap::new(),
            told,
            starting: BTreeSet::new(),
            asked: BTreeSet::new(),
            watched: BTreeSet::new(),
            blind: false,
            hopeless: BTreeMap::new(),
            children: Vec::new(),
        };
        Ok(Self {
            dirs,
            state: Mutex::new(state),
            keeping: Mutex::new(()),
            starters: Semaphore::new(STARTERS),
            changed: Notify::new(),
            events,
        })
    }

    /// Reads the applied instrument and what people have said; what is damaged is said, and done without.
    pub(super) fn load(&self) {
        let mut state = self.lock();
        match Said::load(&self.dirs) {
            Ok(said) => state.said = said,
            Err(error) => self.say(&mut state, Entry::new(Kind::Failed, error.whole())),
        }
        match Machine::load(&self.dirs) {
            Ok(machine) => state.machine = machine,
            Err(error) => self.say(&mut state, Entry::new(Kind::Failed, error.whole())),
        }
    }

    /// The state. A thread that has failed while it had it has changed nothing that the next look would not see.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event.
    pub(super) fn tell(&self, entry: Entry) {
        self.say(&mut self.lock(), entry);
    }

    fn say(&self, state: &mut State, entry: Entry) {
        let event = state.journal.add(entry, &Now::get());
        self.events.send_replace(event.seq);
    }

    /// Carries this instrument out from now on.
    ///
    /// # Errors
    /// It cannot be kept, or is wrong.
    pub(super) fn apply(&self, applied: &Applied, by: &str) -> Result<(), Error> {
        let machine = Machine::of(applied, &self.dirs)?;
        applied.store(&self.dirs)?;
        let mut state = self.lock();
        let text = format!("`{}` with {} units", applied.origin.display(), machine.instrument.units.len());
        state.machine = Some(machine);
        self.say(&mut state, Entry::new(Kind::Applied, text).by(by));
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Somebody wants a unit so. To renew one is to end its run and to begin another. It is kept by [`Core::keep_said`].
    pub(super) fn want(&self, unit: &str, (want, renew): (Want, bool), (verb, by): (&str, &str)) {
        let mut state = self.lock();
        let runs = |seen: &Seen| seen.is_recorded() && seen.runs();
        let running = units::all(&self.dirs, Some(unit)).into_iter().rev().find(runs).map(|seen| seen.run);
        let now = Now::get();
        // One that is on its way to its end comes back after it.
        let ends = |run: &String| {
            state.asked.contains(&key(unit, run)) || state.said.renew(unit, &now).as_ref() == Some(run)
        };
        let again = running.filter(|run| renew || (want == Want::Up && ends(run)));
        state.said.say(unit, want, again, &now);
        state.hopeless.remove(unit);
        self.say(&mut state, Entry::of(Kind::Asked, unit, verb).by(by));
        drop(state);
        self.changed.notify_one();
    }

    /// Writes what people have said so far; of two at a time none writes what is older than what the other has written.
    ///
    /// # Errors
    /// It cannot be kept on disk. It is done all the same.
    pub(super) fn keep_said(&self) -> Result<(), Error> {
        let _alone = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        let said = self.lock().said.clone();
        said.store(&self.dirs).map_err(|error| Error::Host {
            message: format!(
                "it is done, and cannot be kept for a daemon that begins anew: {}",
                error.whole()
            ),
            hints: error.hints(),
        })
    }

    /// Looks at everything, and says what is to be done outside of the lock.
    pub(super) fn turn(&self) -> Errands {
        let mut state = self.lock();
        let now = Now::get();
        state.children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        let mut errands = Errands { next: LOOK, ..Errands::default() };
        let units = match state.units(&self.dirs, &now) {
            Ok(units) => units,
            // Who cannot see does nothing.
            Err(error) => {
                if !std::mem::replace(&mut state.blind, true) {
                    self.say(&mut state, Entry::new(Kind::Failed, error.whole()));
                }
                errands.next = BLIND;
                return errands;
            }
        };
        state.blind = false;
        for unit in &units {
            self.note(&mut state, unit);
            self.act(&mut state, unit, &now, &mut errands);
        }
        state.forget(&units);
        // Without an instrument nobody knows what is not to run.
        if state.machine.is_some() {
            self.strays(&mut state, &units);
        }
        errands
    }

    fn act(&self, state: &mut State, unit: &Unit, now: &Now, errands: &mut Errands) {
        if let Some(seen) = unit.last.as_ref().filter(|seen| seen.state == units::State::Running)
            && state.watched.insert(key(&unit.name, &seen.run))
        {
            errands.watches.push(seen.clone());
        }
        match &unit.decision {
            Decision::Start if !state.starting.contains(&unit.name) => {
                let since = state.hopeless.get(&unit.name).map(|at| now.monotonic.saturating_sub(*at));
                match since.and_then(|since| HOPELESS.checked_sub(since)) {
                    Some(left) if !left.is_zero() => errands.next = errands.next.min(left),
                    _ => errands.starts.extend(state.order(unit)),
                }
            }
            Decision::Stop { run, .. } if state.asked.insert(key(&unit.name, run)) => {
                if let Some(seen) = &unit.last {
                    self.end(state, seen, &UnitOrder::Signal { signal: Signal::SIGTERM as i32 });
                }
            }
            // It was asked to end for what is not so any more: another begins after it.
            Decision::Keep => {
                let run = unit.last.as_ref().map(|seen| seen.run.clone());
                if let Some(run) = run.filter(|run| state.asked.contains(&key(&unit.name, run))) {
                    state.said.say(&unit.name, Want::Up, Some(run), now);
                }
            }
            // Nobody tells when it has.
            Decision::Ending => errands.next = errands.next.min(ENDING),
            Decision::BackOff { until, .. } => {
                let left = until.saturating_sub(now.monotonic) + Duration::from_millis(1);
                errands.next = errands.next.min(left);
            }
            _ => {}
        }
    }

    /// Units that a daemon has started and that the instrument has no more.
    fn strays(&self, state: &mut State, units: &[Unit]) {
        for seen in super::report::stray_runs(&self.dirs, units) {
            if state.asked.insert(key(&seen.tool, &seen.run)) {
                self.end(state, &seen, &UnitOrder::Signal { signal: Signal::SIGTERM as i32 });
            }
        }
    }

    /// Tells a recorder, and does not wait for what it says.
    fn end(&self, state: &mut State, seen: &Seen, order: &UnitOrder) {
        self.say(state, Entry::of(Kind::Stopping, &seen.tool, "it is asked to end").run(&seen.run));
        if let Err(error) = seen.offer(order) {
            state.asked.remove(&key(&seen.tool, &seen.run));
            let text = format!("it cannot be asked to end: {}", error.whole());
            self.say(state, Entry::of(Kind::Failed, &seen.tool, text).run(&seen.run));
        }
    }

    /// Says how a unit has changed since it was looked at last.
    fn note(&self, state: &mut State, unit: &Unit) {
        let run = unit.last.as_ref().map(|seen| seen.run.clone());
        let ended =
            unit.last.as_ref().filter(|seen| !seen.runs() && unit.runs.iter().any(|r| r.name == seen.run));
        if let Some(seen) = ended
            && state.told.insert(key(&unit.name, &seen.run))
        {
            let why = seen.record.as_ref().map(|record| units::told(&record.reason));
            let why = why.unwrap_or_else(|| "it is gone without a record".to_owned());
            self.say(state, Entry::of(Kind::Ended, &unit.name, why).run(&seen.run));
        }
        let is = (unit.phase, run.clone());
        let was = state.before.insert(unit.name.clone(), is.clone());
        if was.as_ref() == Some(&is) {
            return;
        }
        let new_run = was.as_ref().is_none_or(|(_, before)| *before != run);
        let kind = match unit.phase {
            Phase::Starting if was.is_none() => Kind::Found,
            Phase::Ready if was.is_none() && new_run => Kind::Found,
            Phase::Ready => Kind::Ready,
            Phase::Late => Kind::Late,
            Phase::Blocked => Kind::Blocked,
            Phase::BackOff => Kind::BackOff,
            Phase::Degraded => Kind::Degraded,
            _ => return,
        };
        let mut entry =
            Entry::of(kind, &unit.name, unit.why.clone().unwrap_or_else(|| unit.phase.to_string()));
        if let Some(run) = run.filter(|_| kind != Kind::Blocked) {
            entry = entry.run(&run);
        }
        self.say(state, entry);
    }

    /// A start has come to its end.
    pub(super) fn started(&self, name: &str, result: Result<Kept, Failed>) {
        let mut state = self.lock();
        state.starting.remove(name);
        match result {
            Ok(Kept { run, child, note }) => {
                state.hopeless.remove(name);
                state.children.extend(child);
                let text = note.unwrap_or_else(|| "it is started".to_owned());
                self.say(&mut state, Entry::of(Kind::Starting, name, text).run(&run));
            }
            Err(Failed { error, is_recorded }) => {
                if !is_recorded {
                    state.hopeless.insert(name.to_owned(), Now::get().monotonic);
                }
                let text = format!("it cannot be started: {}", error.whole());
                self.say(&mut state, Entry::of(Kind::Failed, name, text));
            }
        }
        drop(state);
        self.changed.notify_one();
    }
}

impl State {
    /// All units as they are.
    ///
    /// # Errors
    /// What their folders have cannot be read.
    pub(super) fn units(&mut self, dirs: &Dirs, now: &Now) -> Result<Vec<Unit>, Error> {
        match &self.machine {
            Some(machine) => machine.units(dirs, &self.said, now, &mut self.memory),
            None => Ok(Vec::new()),
        }
    }

    /// Events after this number.
    #[must_use]
    pub(super) fn events(&self, since: u64, most: usize) -> Vec<Event> {
        self.journal.since(since, most)
    }

    /// How many events are nowhere.
    #[must_use]
    pub(super) fn lost(&self) -> u64 {
        self.journal.lost()
    }

    /// What people have said.
    #[must_use]
    pub(super) fn said(&self) -> &Said {
        &self.said
    }

    /// Runs whose folders are gone do not come back. Of a unit that the instrument has not got nobody knows that.
    fn forget(&mut self, units: &[Unit]) {
        let runs: usize = units.iter().map(|unit| unit.runs.len()).sum();
        if self.told.len() + self.asked.len() <= 2 * runs + KEPT {
            return;
        }
        let known: BTreeMap<&str, &Unit> = units.iter().map(|unit| (unit.name.as_str(), unit)).collect();
        let is_there = |key: &String| {
            let Some((unit, run)) = key.split_once('/') else { return false };
            known.get(unit).is_none_or(|unit| unit.runs.iter().any(|other| other.name == run))
        };
        self.told.retain(is_there);
        self.asked.retain(is_there);
    }

    fn order(&mut self, unit: &Unit) -> Option<Order> {
        let machine = self.machine.as_ref()?;
        let order = Order {
            name: unit.name.clone(),
            config: machine.instrument.unit(&unit.name)?.clone(),
            digest: machine.digest(&unit.name).to_owned(),
            recipes: machine.recipes.clone(),
        };
        self.starting.insert(unit.name.clone());
        Some(order)
    }
}

/// Names a run among those of all units.
fn key(unit: &str, run: &str) -> String {
    format!("{unit}/{run}")
}

impl Errands {
    /// Begins them; the result is when to look again.
    pub(super) fn begin(self, core: &Arc<Core>) -> Duration {
        for order in self.starts {
            let core = Arc::clone(core);
            tokio::spawn(async move {
                let permit = core.starters.acquire().await;
                let own = Arc::clone(&core);
                let start = move || {
                    let result = start::start(&own.dirs, &order);
                    own.started(&order.name, result);
                };
                // It leaves a whole unit or none, also where nobody waits for it any more.
                drop(tokio::task::spawn_blocking(start).await);
                drop(permit);
            });
        }
        for seen in self.watches {
            let core = Arc::clone(core);
            tokio::spawn(async move {
                super::watch::watch(&core, &seen).await;
                core.lock().watched.remove(&key(&seen.tool, &seen.run));
                core.changed.notify_one();
            });
        }
        self.next
    }
}
