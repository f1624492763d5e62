//! One sequence of what has happened: to units, by people, in the kernel; on the clock that people read.

use std::collections::{BTreeSet, VecDeque};
use std::ops::RangeInclusive;

use hatchway_wire::ready::Stage;
use serde::Serialize;

use crate::daemon::journal::{Event, Kind};
use crate::kernel_log::Message;
use crate::units::{self, Reader, Seen};

/// Lines of a log that are taken at most: the last of them.
const LINES_MAX: usize = 20_000;

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

/// What an event of the daemon's tells.
pub(crate) fn of_event(event: &Event) -> Moment {
    let kind = serde_json::to_value(event.kind).ok();
    let kind = kind.as_ref().and_then(|kind| kind.as_str()).unwrap_or_default().to_owned();
    let by = event.by.as_ref().map(|by| format!(", asked by {by}")).unwrap_or_default();
    let source = event.unit.clone().unwrap_or_else(|| "daemon".to_owned());
    // The daemon tells a start once it is done; by then the tool may have said something.
    let began = event.run.as_deref().filter(|_| event.kind == Kind::Starting).and_then(began_ns);
    Moment {
        realtime_ns: began.unwrap_or(event.realtime_ns),
        source,
        kind,
        text: format!("{}{by}", event.text),
    }
}

/// What the kernel has said.
pub(crate) fn of_kernel(message: &Message) -> Moment {
    let (kind, text) = (format!("kernel-{}", message.priority), message.text.clone());
    Moment { realtime_ns: message.realtime_ns, source: "kernel".to_owned(), kind, text }
}

/// What the folder of a run tells that no daemon has told: one that a person has started.
pub(crate) fn of_run(seen: &Seen, told: &BTreeSet<String>) -> Vec<Moment> {
    if told.contains(&seen.run) {
        return Vec::new();
    }
    let moment = |realtime_ns, kind: &str, text: String| Moment {
        realtime_ns,
        source: seen.tool.clone(),
        kind: kind.to_owned(),
        text,
    };
    let began = began_ns(&seen.run);
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
        all.push(moment(record.ended.realtime_ns, "ended", units::told(&record.reason)));
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
