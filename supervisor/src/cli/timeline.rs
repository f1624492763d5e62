//! `hatchway timeline`

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::process::ExitCode;

use crate::clock::{self, Now};
use crate::daemon::journal::Event;
use crate::daemon::source::Source;
use crate::error::Error;
use crate::kernel_log;
use crate::report::Printer;
use crate::service_events;
use crate::timeline::{self, Moment};
use crate::units::{self, Seen};

use super::from::{FromArgs, Place};

/// So long before and after the moment that somebody asks about.
const AROUND_NS: i64 = 60 * 1_000_000_000;
/// What the source has room for.
const SOURCE_MAX: usize = 20;

/// Arguments of `timeline`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only these units, and what is no unit's: the kernel, the daemon, safety
    units: Vec<String>,
    /// Only what happened since then (`30s`, `10m`, `2h`)
    #[arg(long, value_name = "AGE", conflicts_with = "around")]
    since: Option<String>,
    /// Only the minute before and after the last end of this unit
    #[arg(long, value_name = "UNIT")]
    around: Option<String>,
    /// What the units said, too
    #[arg(long)]
    logs: bool,
    /// All that the kernel said; otherwise warnings, devices, memory
    #[arg(long)]
    kernel: bool,
    /// Only the last so many
    #[arg(short = 'n', long, value_name = "COUNT")]
    lines: Option<usize>,
    /// A JSON object for each line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    from: FromArgs,
}

/// 0 where something has happened, 1 where nothing has.
pub(super) fn main(args: &Args, quiet: bool) -> Result<ExitCode, Error> {
    let printer = Printer::new(quiet);
    let place = args.from.place()?;
    let source = place.source()?;
    let runs = units::all(&place.dirs, None);
    let (begin, end) = span(args, &source, &runs)?;
    let span = begin..=end;
    // What somebody has collected elsewhere is on the clock of then.
    let now = place.archive.is_none().then(clock::Now::get);
    let mut all = of_units(args, &source, (&runs, &span, now.as_ref()), &printer)?;
    all.extend(of_services(args, &place, &printer));
    all.extend(of_kernel(args, &place, &printer)?);
    all.retain(|moment| span.contains(&moment.realtime_ns));
    all.sort();
    let skipped = args.lines.map_or(0, |lines| all.len().saturating_sub(lines));
    let all = &all[skipped..];
    match (args.json, all.is_empty()) {
        (true, _) => {
            for moment in all {
                printer.data(super::escaped(&serde_json::json!(moment).to_string()));
            }
        }
        (false, true) => printer.say("nothing is known to have happened then"),
        (false, false) => shown(all).iter().for_each(|line| printer.data(line)),
    }
    Ok(ExitCode::from(u8::from(all.is_empty())))
}

fn span(args: &Args, source: &Source, runs: &[Seen]) -> Result<(i64, i64), Error> {
    if let Some(age) = &args.since {
        return Ok((super::units::since(age, source.moment_ns())?, i64::MAX));
    }
    let Some(unit) = &args.around else { return Ok((i64::MIN, i64::MAX)) };
    let ends = runs.iter().filter(|seen| seen.tool == *unit).filter_map(|seen| seen.record.as_ref());
    let last = ends.map(|record| record.ended.realtime_ns).max().ok_or_else(|| Error::Host {
        message: format!("no end of `{unit}` is known"),
        hints: vec![format!("`hatchway history {unit}` shows its runs")],
    })?;
    Ok((last.saturating_sub(AROUND_NS), last.saturating_add(AROUND_NS)))
}

fn of_units(
    args: &Args,
    source: &Source,
    (runs, span, now): (&[Seen], &RangeInclusive<i64>, Option<&Now>),
    printer: &Printer,
) -> Result<Vec<Moment>, Error> {
    let wanted = |unit: &str| args.units.is_empty() || args.units.iter().any(|name| name == unit);
    let mut events: Vec<Event> = Vec::new();
    loop {
        let some = source.events(events.last().map_or(0, |event| event.seq))?;
        if some.is_empty() {
            break;
        }
        events.extend(some);
    }
    let told: BTreeSet<String> = events.iter().filter_map(|event| event.run.clone()).collect();
    let mut all = timeline::steps(&events, now);
    events.retain(|event| event.unit.as_deref().is_none_or(&wanted));
    let begun = timeline::beginnings(runs);
    all.extend(events.iter().map(|event| timeline::of_event(event, now, &begun)));
    for seen in runs.iter().filter(|seen| wanted(&seen.tool)) {
        all.extend(timeline::of_run(seen, &told, now));
        if args.logs && seen.is_recorded() {
            let said = timeline::of_log(seen, span);
            let (said, left_out) = said.map_err(Error::io("read the log in", &seen.folder))?;
            if left_out > 0 {
                printer.say(format!("{left_out} earlier lines of {} are not shown", seen.tool));
            }
            all.extend(said);
        }
    }
    Ok(all)
}

/// What native services and the safety daemon tell themselves. It is theirs, in words of their own, and in no archive.
fn of_services(args: &Args, place: &Place, printer: &Printer) -> Vec<Moment> {
    if place.archive.is_some() {
        return Vec::new();
    }
    let (mut told, unread) = service_events::all(&place.dirs);
    for (name, error) in unread {
        printer.say(format!("what `{name}` tells of itself cannot be read: {error}"));
    }
    let wanted = |name: &str| {
        name == service_events::SAFETY || args.units.is_empty() || args.units.iter().any(|unit| unit == name)
    };
    told.retain(|moment| wanted(&moment.source));
    told
}

/// Whoever may not read what the kernel said sees the rest, and is told so.
fn of_kernel(args: &Args, place: &Place, printer: &Printer) -> Result<Vec<Moment>, Error> {
    let messages = match &place.archive {
        Some(archive) => archive.kernel().or_else(|error| {
            printer.say(format!("what the kernel said is not in the archive: {error}"));
            Ok::<_, Error>(Vec::new())
        })?,
        None => kernel_log::read().unwrap_or_else(|error| {
            printer.say(format!("what the kernel said cannot be read: {error} (root may)"));
            Vec::new()
        }),
    };
    let wanted = messages.iter().filter(|message| args.kernel || message.is_notable());
    Ok(wanted.map(timeline::of_kernel).collect())
}

/// A line each; a line with the day before the first of each day.
fn shown(all: &[Moment]) -> Vec<String> {
    let width =
        all.iter().map(|moment| moment.source.chars().count()).max().unwrap_or_default().min(SOURCE_MAX);
    let mut lines = Vec::new();
    let mut day = String::new();
    for moment in all {
        let time = clock::shown(moment.realtime_ns);
        let (date, rest) = time.split_once('T').unwrap_or(("", &time));
        if date != day {
            lines.push(format!("-- {date} --"));
            day = date.to_owned();
        }
        let time: String = rest.chars().take("00:00:00.000".len()).collect();
        let what = match moment.kind.as_str() {
            kind if kind == moment.text || kind == "said" || kind.starts_with("kernel") => {
                moment.text.clone()
            }
            kind => format!("{kind}: {}", moment.text),
        };
        let line = format!("{time} {:<width$} {what}", moment.source);
        lines.push(super::units::plain(&super::instrument::cut(line.replace('\n', " ").trim_end())));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::instrument::COLUMNS;
    use super::*;

    #[test]
    fn lines_fit_and_each_day_has_one() {
        let moment = |seconds: i64, text: &str| Moment {
            realtime_ns: seconds * 1_000_000_000,
            source: "daq".to_owned(),
            kind: "ended".to_owned(),
            text: text.to_owned(),
        };
        let lines = shown(&[moment(0, "a\u{1b}[2J"), moment(1, &"x".repeat(100)), moment(200_000, "b")]);
        assert_eq!(lines.iter().filter(|line| line.starts_with("-- ")).count(), 2);
        assert!(
            lines.iter().all(|line| line.chars().count() <= COLUMNS && !line.contains('\u{1b}')),
            "{lines:?}"
        );
    }
}
