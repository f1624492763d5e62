//! `hatchway why`: evidence of a unit, its causes, and how they are told. What decides between causes is [`crate::causes`].

mod gather;
mod machine;

use machine::Machine;

use crate::causes::subjects::kind_of;
use crate::causes::{CAUSES_MAX, Cause, Confidence, Shown, Source, diagnose};
use crate::daemon::report::UnitStatus;
use crate::daemon::view::Phase;
use crate::dirs::Dirs;
use crate::units::{self, Seen};

/// Columns before a line of evidence.
const INDENT: &str = "    ";

/// Why a run is as it is.
#[must_use]
pub(crate) fn of_run(dirs: &Dirs, seen: &Seen) -> Vec<Cause> {
    diagnose(&gather::of_run(dirs, seen), &Machine::new(&dirs.data))
}

/// Why a unit of the instrument is as it is: of one that waits, why the units at the root of that are.
#[must_use]
pub(crate) fn of_unit(dirs: &Dirs, units: &[UnitStatus], unit: &UnitStatus) -> Vec<Cause> {
    if unit.phase != Phase::Blocked {
        return of_one(dirs, unit);
    }
    let mut all: Vec<Cause> = Vec::new();
    for root in roots(units, unit) {
        let waits = Shown { source: Source::Unit, text: format!("{} waits for {}", unit.name, root.name) };
        match root.phase {
            Phase::Stopped => all.push(of_code("dependency-stopped", root, waits)),
            Phase::Starting | Phase::Due | Phase::Stopping | Phase::Ready => {
                all.push(of_code("dependency-not-ready", root, waits));
            }
            _ => all.extend(of_one(dirs, root).into_iter().take(1).map(|cause| {
                let mut evidence = cause.evidence;
                evidence.push(waits.clone());
                Cause { says: format!("{}: {}", root.name, cause.says), evidence, ..cause }
            })),
        }
    }
    all.sort_by_key(|cause| std::cmp::Reverse(cause.confidence));
    all.truncate(CAUSES_MAX);
    all
}

/// The units that others wait for, and that wait for none.
fn roots<'u>(units: &'u [UnitStatus], unit: &'u UnitStatus) -> Vec<&'u UnitStatus> {
    let mut roots = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    let mut todo = vec![unit];
    while let Some(unit) = todo.pop() {
        if seen.contains(&unit.name.as_str()) {
            continue;
        }
        seen.push(&unit.name);
        let others = unit.waits_for.iter().filter_map(|name| units.iter().find(|unit| unit.name == *name));
        let before = todo.len();
        todo.extend(others);
        if todo.len() == before {
            roots.push(unit);
        }
    }
    roots
}

fn of_code(code: &'static str, root: &UnitStatus, shown: Shown) -> Cause {
    let kind = kind_of(code);
    let says = kind.map_or(code, |kind| kind.says).replace("{}", &root.name);
    let next =
        kind.map_or(&[][..], |kind| kind.next).iter().map(|line| line.replace("{}", &root.name)).collect();
    Cause { code, says, confidence: Confidence::Certain, evidence: vec![shown], next }
}

fn of_one(dirs: &Dirs, unit: &UnitStatus) -> Vec<Cause> {
    let seen = unit.run.as_deref().and_then(|run| units::last(dirs, &unit.name, Some(run)).ok());
    // A folder of the machine's that this user may not read has neither a record nor a log for them.
    let seen = seen.filter(|seen| seen.record.is_some() || unit.record.is_none());
    match (seen, unit.phase) {
        (_, Phase::Starting | Phase::Ready) if unit.record.is_none() && unit.phase == Phase::Starting => {
            Vec::new()
        }
        (Some(seen), _) => of_run(dirs, &seen),
        (None, _) if unit.run.is_none() => Vec::new(),
        (None, phase) => {
            let late = unit.why.as_deref().filter(|_| phase == Phase::Late);
            diagnose(&gather::of_record(&unit.name, unit.record.as_ref(), late), &Machine::new(&dirs.data))
        }
    }
}

/// A cause and what shows it, in lines.
#[must_use]
pub(crate) fn lines(causes: &[Cause]) -> Vec<String> {
    let mut lines = Vec::new();
    for cause in causes {
        lines.push(format!("cause: {} ({}, {})", cause.says, cause.code, cause.confidence));
        lines.extend(cause.evidence.iter().map(|shown| format!("{INDENT}{}: {}", shown.source, shown.text)));
    }
    lines
}

/// What to do: what the first cause asks for, then what holds for any. Those of further causes are in JSON.
#[must_use]
pub(crate) fn next(causes: &[Cause], others: Vec<String>) -> Vec<String> {
    let mut lines: Vec<String> = causes.first().map_or_else(Vec::new, |cause| cause.next.clone());
    // That the log has more is said once.
    let of_log = |line: &str| line.starts_with("`hatchway logs ");
    let has_log = lines.iter().any(|line| of_log(line));
    for line in others {
        let twice = lines.contains(&line) || (has_log && of_log(&line));
        if !twice {
            lines.push(line);
        }
    }
    lines
}
