//! What others are told of units: the same over the API and from the files.

use hatchway_wire::ExitRecord;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::Now;
use crate::units::{self, Seen, State};

use super::decide::Decision;
use super::view::{Phase, Unit};

/// How a unit is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnitStatus {
    /// Its name.
    pub name: String,
    /// How it is, in a word.
    pub phase: Phase,
    /// Why it is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Its last run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// When that began, in nanoseconds of `CLOCK_REALTIME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began_ns: Option<i64>,
    /// How that ended, as `exit.json` has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Value>")]
    pub record: Option<ExitRecord>,
    /// It has a terminal of its own, to which one can come.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub terminal: bool,
    /// The units that have to be ready before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits_for: Vec<String>,
}

/// A step of what an instrument would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// Which unit.
    pub unit: String,
    /// What becomes of it.
    pub action: Action,
    /// Why, or after what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What becomes of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It starts.
    Start,
    /// It ends, and starts again.
    Restart,
    /// It ends.
    Stop,
    /// It is as it was.
    Stay,
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Start => "start",
            Self::Restart => "restart",
            Self::Stop => "stop",
            Self::Stay => "stay",
        })
    }
}

impl From<&Unit> for UnitStatus {
    fn from(unit: &Unit) -> Self {
        let last = unit.last.as_ref();
        // A run's name begins with the millisecond of its start.
        let named =
            |seen: &Seen| Some(seen.run.split('-').next()?.parse::<i64>().ok()?.saturating_mul(1_000_000));
        // By the clock as it is set now, or nobody could say how long ago that was.
        let began = last.and_then(|seen| {
            let named = named(seen)?;
            let begun = seen.told().and_then(|told| told.begun.as_ref());
            Some(begun.map_or(named, |begun| {
                Now::get().as_set(&begun.boot, (named, begun.monotonic_ms.saturating_mul(1_000_000)))
            }))
        });
        let waits_for = match &unit.decision {
            Decision::Blocked { on } => on.clone(),
            _ => Vec::new(),
        };
        Self {
            name: unit.name.clone(),
            phase: unit.phase,
            why: unit.why.clone(),
            run: last.map(|seen| seen.run.clone()),
            began_ns: began,
            record: last.and_then(|seen| seen.record.clone()),
            terminal: last.is_some_and(|seen| seen.runs() && seen.has_terminal()),
            waits_for,
        }
    }
}

/// What would become of each unit. `strays` are those that run and that the instrument has no more.
#[must_use]
pub fn plan(units: &[Unit], strays: &[String]) -> Vec<Step> {
    let step = |unit: &Unit| {
        let (action, why) = match &unit.decision {
            Decision::Start => (Action::Start, None),
            Decision::Blocked { on } => (Action::Start, Some(format!("after {}", on.join(", ")))),
            Decision::BackOff { .. } => (Action::Start, unit.why.clone()),
            Decision::Stop { again: true, .. } => (Action::Restart, unit.why.clone()),
            Decision::Stop { again: false, .. } => (Action::Stop, None),
            Decision::Keep | Decision::Ending => (Action::Stay, None),
            Decision::Rest | Decision::Degraded { .. } => (Action::Stay, Some(unit.phase.to_string())),
        };
        Step { unit: unit.name.clone(), action, why }
    };
    let gone = strays.iter().map(|name| Step {
        unit: name.clone(),
        action: Action::Stop,
        why: Some("the instrument has it no more".to_owned()),
    });
    units.iter().map(step).chain(gone).collect()
}

/// Why a unit is as it is: one line after the other, each caused by the next.
#[must_use]
pub fn chain(units: &[UnitStatus], name: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut next = vec![(name.to_owned(), 0_usize)];
    let mut seen: Vec<String> = Vec::new();
    while let Some((name, depth)) = next.pop() {
        let Some(unit) = units.iter().find(|unit| unit.name == name) else { continue };
        if seen.contains(&name) {
            continue;
        }
        seen.push(name);
        let indent = "  ".repeat(depth);
        let why = unit.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        lines.push(format!("{indent}{} is {}{why}", unit.name, unit.phase));
        if let Some(record) = &unit.record {
            lines.extend(record.evidence.iter().map(|line| format!("{indent}    {line}")));
            lines.extend(record.notes.iter().map(|note| format!("{indent}  note: {note}")));
        }
        next.extend(unit.waits_for.iter().rev().map(|other| (other.clone(), depth + 1)));
    }
    lines
}

/// What a person may do about a unit, a line each: of one that waits, about what it waits for.
#[must_use]
pub fn next(units: &[UnitStatus], unit: &UnitStatus) -> Vec<String> {
    let mut lines = Vec::new();
    let mut todo = vec![unit];
    let mut seen: Vec<&str> = Vec::new();
    while let Some(unit) = todo.pop() {
        if seen.contains(&unit.name.as_str()) {
            continue;
        }
        seen.push(&unit.name);
        lines.extend(next_of(unit));
        todo.extend(
            unit.waits_for.iter().rev().filter_map(|name| units.iter().find(|unit| unit.name == *name)),
        );
    }
    lines
}

fn next_of(unit: &UnitStatus) -> Vec<String> {
    let name = &unit.name;
    let of_record = || unit.record.as_ref().map_or_else(Vec::new, |record| units::next(name, &record.reason));
    match unit.phase {
        Phase::Starting | Phase::Ready | Phase::Stopping | Phase::Due | Phase::Blocked => Vec::new(),
        Phase::Late => vec![
            format!("`hatchway logs {name} -n 50` shows what it says"),
            "`ready = { …, within = \"…\" }` in [service] of the recipe gives it more time".to_owned(),
        ],
        Phase::BackOff => of_record(),
        Phase::Degraded | Phase::Failed => {
            let mut lines = of_record();
            lines.push(format!("`hatchway start {name}` tries it again once the cause is mended"));
            lines
        }
        Phase::Ended | Phase::Stopped => vec![format!("`hatchway start {name}` starts it")],
    }
}

/// Units that a daemon has started, that run, and that are not among these.
#[must_use]
pub fn strays(dirs: &crate::dirs::Dirs, units: &[Unit]) -> Vec<String> {
    stray_runs(dirs, units).into_iter().map(|seen| seen.tool).collect()
}

/// Their runs.
pub(super) fn stray_runs(dirs: &crate::dirs::Dirs, units: &[Unit]) -> Vec<Seen> {
    let others = units::names(dirs).into_iter().filter(|name| !units.iter().any(|unit| unit.name == *name));
    let runs = others.flat_map(|name| units::all(dirs, Some(&name)));
    let is_ours = |seen: &Seen| seen.told().is_some_and(|told| told.config.is_some());
    runs.filter(|seen| is_ours(seen) && seen.state == State::Running).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(name: &str, phase: Phase, why: &str, waits_for: &[&str]) -> UnitStatus {
        UnitStatus {
            name: name.to_owned(),
            phase,
            why: (!why.is_empty()).then(|| why.to_owned()),
            run: None,
            began_ns: None,
            record: None,
            terminal: false,
            waits_for: waits_for.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn what_blocks_a_unit_is_told_to_its_root() {
        let units = [
            status("daq", Phase::Degraded, "it ended by itself with code 3", &[]),
            status("motion", Phase::Blocked, "waits for daq", &["daq"]),
            status("ui", Phase::Blocked, "waits for motion, daq", &["motion", "daq"]),
        ];
        assert_eq!(
            chain(&units, "ui"),
            [
                "ui is blocked: waits for motion, daq",
                "  motion is blocked: waits for daq",
                "    daq is degraded: it ended by itself with code 3"
            ]
        );
        assert_eq!(next(&units, &units[2]), ["`hatchway start daq` tries it again once the cause is mended"]);
    }
}
