//! One sequence of what has happened: to units, by people, in the kernel; on the clock that people read.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;

use hatchway_wire::ready::Stage;
use serde::Serialize;

use crate::clock::{self, Now};
use crate::daemon::journal::{Event, Kind};
use crate::kernel_log::Message;
use crate::units::{self, Reader, Seen};

/// Lines of a log that are taken at most: the last of them.
const LINES_MAX: usize = 20_000;
/// A run begins at most so long before its start is told.
const NAMED_NS: i64 = 600_000_000_000;

/// One line of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Moment {
    /// `CLOCK_REALTIME`, in nanoseconds.
    pub realtime_ns: i64,
    /// A unit, `kernel`, `daemon`, or `safety`.
    pub source: String,
    /// In a word.
    pub kind: String,
    /// In words.
    pub text: String,
}

/// What an event of the daemon's tells, on the clock as it is set at `now`, so that the order is that in which things were.
pub(crate) fn of_event(event: &Event, now: Option<&Now>, begun: &Beginnings) -> Moment {
    let kind = serde_json::to_value(event.kind).ok();
    let kind = kind.as_ref().and_then(|kind| kind.as_str()).unwrap_or_default().to_owned();
    let by = event.by.as_ref().map(|by| format!(", asked by {by}")).unwrap_or_default();
    let source = event.unit.clone().unwrap_or_else(|| "daemon".to_owned());
    // The daemon tells a start once it is done; by then the tool may have said something.
    let run = event.run.as_deref().filter(|_| event.kind == Kind::Starting);
    let told = run.and_then(|run| began_before(event, run, begun)).unwrap_or(event.realtime_ns);
    let moved = now.map_or(0, |now| {
        let (realtime_ns, monotonic_ns) = (event.realtime_ns, event.monotonic_ns);
        now.as_set(&event.boot, (realtime_ns, monotonic_ns)).saturating_sub(realtime_ns)
    });
    Moment { realtime_ns: told.saturating_add(moved), source, kind, text: format!("{}{by}", event.text) }
}

/// When runs began, by name: the boot, and milliseconds of `CLOCK_MONOTONIC`.
pub(crate) type Beginnings = BTreeMap<String, (String, u64)>;

/// Of runs whose folders are still there.
pub(crate) fn beginnings(runs: &[Seen]) -> Beginnings {
    let begun = |seen: &Seen| {
        let begun = seen.told()?.begun.clone()?;
        Some((seen.run.clone(), (begun.boot, begun.monotonic_ms)))
    };
    runs.iter().filter_map(begun).collect()
}

/// When a run began, on the clock of the event that tells it. Its name is from a clock that may have been set since, so it counts only
/// where nothing else is known.
fn began_before(event: &Event, run: &str, begun: &Beginnings) -> Option<i64> {
    if let Some((_, ms)) = begun.get(run).filter(|(boot, _)| *boot == event.boot) {
        let since = event.monotonic_ns.saturating_sub(ms.saturating_mul(1_000_000));
        return Some(event.realtime_ns.saturating_sub(i64::try_from(since).unwrap_or(i64::MAX)));
    }
    began_ns(run).filter(|began| began.saturating_sub(event.realtime_ns).saturating_abs() < NAMED_NS)
}

/// What shows between two events that somebody has set the clock.
pub(crate) fn step(before: &Event, after: &Event) -> Option<String> {
    let moment = |event: &Event| (event.realtime_ns, event.monotonic_ns);
    let step = clock::step_between(moment(before), moment(after));
    step.filter(|_| before.boot == after.boot).map(clock::step_told)
}

/// The steps of the clock between events that come after each other.
pub(crate) fn steps(events: &[Event], now: Option<&Now>) -> Vec<Moment> {
    let pairs = events.iter().zip(events.iter().skip(1));
    let found = pairs.filter_map(|(before, after)| Some((after, step(before, after)?)));
    let moment = |(after, text): (&Event, String)| Moment {
        realtime_ns: of_event(after, now, &Beginnings::new()).realtime_ns.saturating_sub(1),
        source: "clock".to_owned(),
        kind: "set".to_owned(),
        text,
    };
    found.map(moment).collect()
}

/// What the kernel has said.
pub(crate) fn of_kernel(message: &Message) -> Moment {
    let (kind, text) = (format!("kernel-{}", message.priority), message.text.clone());
    Moment { realtime_ns: message.realtime_ns, source: "kernel".to_owned(), kind, text }
}

/// What the folder of a run tells that no daemon has told: one that a person has started.
pub(crate) fn of_run(seen: &Seen, told: &BTreeSet<String>, now: Option<&Now>) -> Vec<Moment> {
    if told.contains(&seen.run) {
        return Vec::new();
    }
    let moment = |realtime_ns, kind: &str, text: String| Moment {
        realtime_ns,
        source: seen.tool.clone(),
        kind: kind.to_owned(),
        text,
    };
    let boot =
        seen.told().and_then(|told| told.begun.as_ref()).map(|begun| (&begun.boot, begun.monotonic_ms));
    let as_set = |realtime_ns: i64, monotonic_ns: u64| match (now, boot) {
        (Some(now), Some((boot, _))) => now.as_set(boot, (realtime_ns, monotonic_ns)),
        _ => realtime_ns,
    };
    let began = began_ns(&seen.run).map(|began| match boot {
        Some((_, ms)) => as_set(began, ms.saturating_mul(1_000_000)),
        None => began,
    });
    let mut all: Vec<Moment> =
        began.iter().map(|began| moment(*began, "starting", "it is started".to_owned())).collect();
    if let (Some(began), Some(standing)) = (began, seen.standing().filter(|_| seen.has_wish()))
        && let Some(after) = standing.after_ms.and_then(|ms| i64::try_from(ms).ok())
    {
        let at = began.saturating_add(after.saturating_mul(1_000_000));
        match standing.ready {
            Stage::Ready => all.push(moment(at, "ready", "ready".to_owned())),
            Stage::Late => all.push(moment(at, "late", units::late_told(&standing))),
            Stage::Starting => {}
        }
    }
    if let Some(record) = &seen.record {
        let ended = &record.ended;
        let at = as_set(ended.realtime_ns, u64::try_from(ended.monotonic_ns).unwrap_or_default());
        all.push(moment(at, "ended", units::told(&record.reason)));
    }
    all
}

/// When a run began: its name says the millisecond.
pub(crate) fn began_ns(run: &str) -> Option<i64> {
    let ms: i64 = run.split('-').next()?.parse().ok()?;
    ms.checked_mul(1_000_000)
}

/// What a run has said in this time, and how many lines of it before those there were, too.
pub(crate) fn of_log(seen: &Seen, span: &RangeInclusive<i64>) -> std::io::Result<(Vec<Moment>, usize)> {
    let mut reader = Reader::new(&seen.folder);
    reader.hold()?;
    let (mut all, mut left_out) = (VecDeque::new(), 0_usize);
    loop {
        let lines = reader.lines(true)?;
        if lines.is_empty() {
            return Ok((all.into(), left_out));
        }
        for line in lines.into_iter().filter(|line| span.contains(&line.realtime_ns)) {
            let (realtime_ns, source) = (line.realtime_ns, seen.tool.clone());
            all.push_back(Moment { realtime_ns, source, kind: "said".to_owned(), text: line.text });
            if all.len() > LINES_MAX {
                all.pop_front();
                left_out = left_out.saturating_add(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // After the clock was set back, a run's name is the one before and a bit: its start was shown before the end of that.
    #[test]
    fn a_run_begins_when_it_did_whatever_its_name_says() {
        let event = Event {
            seq: 1,
            realtime_ns: 1_700_000_010_000_000_000,
            monotonic_ns: 90_000_000_000,
            boot: "b".to_owned(),
            kind: Kind::Starting,
            unit: Some("daq".to_owned()),
            run: Some("1700000005001-7".to_owned()),
            text: String::new(),
            by: None,
        };
        let at = |begun: &Beginnings| of_event(&event, None, begun).realtime_ns / 1_000_000;
        assert_eq!(at(&Beginnings::new()), 1_700_000_005_001);
        let begun =
            |boot: &str| Beginnings::from([("1700000005001-7".to_owned(), (boot.to_owned(), 89_500))]);
        assert_eq!(at(&begun("b")), 1_700_000_009_500);
        assert_eq!(at(&begun("another")), 1_700_000_005_001);
    }
}
