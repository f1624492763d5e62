//! `hatchway status`, `logs`, `stop`, `kill` and `history`: units that stay, by their folders.

use std::process::ExitCode;
use std::time::Duration;

use hatchway_wire::log::Stream;
use hatchway_wire::unit::UnitOrder;
use nix::sys::signal::Signal;
use serde_json::json;

use super::from::FromArgs;
use super::instrument::{self, Stopped};
use crate::causes::Cause;
use crate::daemon::client::Client;
use crate::daemon::report::{self, UnitStatus};
use crate::daemon::said_by::Said;
use crate::daemon::source::Source;
use crate::dirs::Dirs;
use crate::error::Error;
use crate::report::Printer;
use crate::units::{self, Line, Reader, Seen, State};
use crate::{clock, recipe, why as reasons};

/// From one look at a log to the next.
const LOOK: Duration = Duration::from_millis(100);

/// Which tool, and which run of it.
#[derive(Debug, clap::Args)]
pub(super) struct Which {
    /// Name of the tool
    pub(super) name: String,
    /// Which run of it; the last one otherwise (`hatchway history` shows them)
    #[arg(long)]
    pub(super) run: Option<String>,
}

impl Which {
    pub(super) fn find(&self) -> Result<Seen, Error> {
        self.find_in(&Dirs::discover())
    }

    fn find_in(&self, dirs: &Dirs) -> Result<Seen, Error> {
        units::last(dirs, &self.name, self.run.as_deref())
    }
}

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
pub(super) struct StatusArgs {
    /// Name of a tool; all of them without one
    name: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    from: FromArgs,
}

/// Arguments of `history`.
#[derive(Debug, clap::Args)]
pub(super) struct HistoryArgs {
    /// Name of the tool
    name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    from: FromArgs,
}

/// Arguments of `why`.
#[derive(Debug, clap::Args)]
pub(super) struct WhyArgs {
    #[command(flatten)]
    which: Which,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    from: FromArgs,
}

/// Arguments of `stop`.
#[derive(Debug, clap::Args)]
pub(super) struct StopArgs {
    #[command(flatten)]
    which: Which,
    /// Do not wait until it has ended
    #[arg(long)]
    no_wait: bool,
}

/// Arguments of `logs`.
#[derive(Debug, clap::Args)]
pub(super) struct LogsArgs {
    #[command(flatten)]
    which: Which,
    /// Go on until the tool has ended
    #[arg(short, long, conflicts_with = "from")]
    follow: bool,
    /// Only the last so many lines of what is there
    #[arg(short = 'n', long, value_name = "COUNT")]
    lines: Option<usize>,
    /// Only what was said since then (`30s`, `10m`, `2h`)
    #[arg(long, value_name = "AGE")]
    since: Option<String>,
    /// Only one of the streams
    #[arg(long, value_enum)]
    stream: Option<StreamWish>,
    /// When each line was said, and on which stream, before it
    #[arg(short, long)]
    timestamps: bool,
    /// A JSON object for each line
    #[arg(long, conflicts_with = "timestamps")]
    json: bool,
    /// Throw away what is there, but for the part that is written now
    #[arg(long, conflicts_with_all = ["follow", "lines", "since", "stream", "json", "from"])]
    clear: bool,
    #[command(flatten)]
    from: FromArgs,
}

/// Whose lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum StreamWish {
    /// Standard output
    Out,
    /// Standard error
    Err,
}

/// 0 where something runs, 1 where nothing does.
pub(super) fn status(args: &StatusArgs, quiet: bool) -> Result<ExitCode, Error> {
    let printer = Printer::new(quiet);
    let place = args.from.place()?;
    let (dirs, source) = (&place.dirs, place.source()?);
    let mut units = source.units()?;
    units.retain(|unit| args.name.as_ref().is_none_or(|name| *name == unit.name));
    let is_own = !source.is_machines();
    let all = latest(dirs, args.name.as_deref());
    let runs = all.iter().any(Seen::runs) || units.iter().any(|unit| instrument::runs(unit.phase));
    if args.json {
        let told: Vec<_> = all.iter().map(told).collect();
        printer.data(super::json(&with_phases(told, &units, is_own))?);
        return Ok(ExitCode::from(u8::from(!runs)));
    }
    if !units.is_empty() && matches!(source, Source::Files(_)) {
        printer.say("no daemon runs: this is what its files say");
    }
    let width = units.iter().map(|unit| unit.name.len()).max().unwrap_or_default();
    let of_instrument = units.iter().map(|unit| instrument::row_at(unit, width, source.moment_ns()));
    let others = all.iter().filter(|seen| !is_own || !units.iter().any(|unit| unit.name == seen.tool));
    let lines: Vec<String> = of_instrument.chain(others.map(row)).collect();
    match lines.is_empty() {
        true => printer.say("nothing is known to have run"),
        false => printer.data(lines.join("\n")),
    }
    Ok(ExitCode::from(u8::from(!runs)))
}

/// What the instrument has to say of its units beside what their folders tell.
fn with_phases(
    mut told: Vec<serde_json::Value>,
    units: &[UnitStatus],
    is_own: bool,
) -> Vec<serde_json::Value> {
    for unit in units {
        let of_unit = told.iter_mut().rfind(|one| is_own && one["tool"] == unit.name.as_str());
        let phase = json!({ "phase": unit.phase, "why": unit.why, "waits-for": unit.waits_for });
        match of_unit {
            Some(one) => one["unit"] = phase,
            None => told.push(json!({ "tool": unit.name, "run": unit.run, "state": null, "unit": phase })),
        }
    }
    told
}

/// All that runs, and of those that have ended the last of each tool.
fn latest(dirs: &Dirs, name: Option<&str>) -> Vec<Seen> {
    let mut shown: Vec<Seen> = Vec::new();
    for seen in units::all(dirs, name) {
        // Of those that have ended only the last of each tool is its status.
        let before = shown.last().is_some_and(|other| other.tool == seen.tool && !other.runs());
        if before {
            shown.pop();
        }
        shown.push(seen);
    }
    shown
}

/// 0 where there are runs, 1 where there are none.
pub(super) fn history(args: &HistoryArgs, quiet: bool) -> Result<ExitCode, Error> {
    let printer = Printer::new(quiet);
    let all = units::all(&args.from.place()?.dirs, Some(&args.name));
    if args.json {
        printer.data(super::json(&all.iter().map(told).collect::<Vec<_>>())?);
    } else if all.is_empty() {
        printer.say(format!("no run of `{}` is known", args.name));
    } else {
        printer.data(all.iter().map(row).collect::<Vec<_>>().join("\n"));
    }
    Ok(ExitCode::from(u8::from(all.is_empty())))
}

/// 0 where something is known.
pub(super) fn why(args: &WhyArgs, quiet: bool) -> Result<ExitCode, Error> {
    let printer = Printer::new(quiet);
    let place = args.from.place()?;
    let source = place.source()?;
    let units = source.units()?;
    let own = || source.is_machines() && args.which.find().is_ok();
    if args.which.run.is_none()
        && !own()
        && let Some(unit) = units.iter().find(|unit| unit.name == args.which.name)
    {
        let causes = match &place.archive {
            Some(archive) => archive.causes(&unit.name)?,
            None => reasons::of_unit(&source.dirs(&place.dirs), &units, unit),
        };
        return why_unit(&printer, &causes, (&units, unit), args.json);
    }
    let seen = args.which.find_in(&place.dirs)?;
    let reason = seen.record.as_ref().map(|record| &record.reason);
    let next = match (reason, seen.state) {
        (Some(reason), _) => units::next(&seen.tool, reason),
        (None, State::Lost) => vec![format!("`hatchway run --detach {}` starts it again", seen.tool)],
        (None, _) => Vec::new(),
    };
    let causes = match &place.archive {
        Some(archive) => archive.causes(&format!("{}/{}", seen.tool, seen.run))?,
        None => reasons::of_run(&place.dirs, &seen),
    };
    let next = reasons::next(&causes, next);
    if args.json {
        let mut all = told(&seen);
        all["next"] = next.into();
        all["causes"] = json!(causes);
        printer.data(super::json(&all)?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = row(&seen);
    let notes = seen.record.iter().flat_map(|record| &record.notes);
    notes.for_each(|note| text.push_str(&format!("\n  note: {}", plain(note))));
    reasons::lines(&causes).iter().for_each(|line| text.push_str(&format!("\n{}", plain(line))));
    next.iter().for_each(|line| text.push_str(&format!("\nnext: {}", plain(line))));
    printer.data(text);
    Ok(ExitCode::SUCCESS)
}

fn why_unit(
    printer: &Printer,
    causes: &[Cause],
    (units, unit): (&[UnitStatus], &UnitStatus),
    json: bool,
) -> Result<ExitCode, Error> {
    let chain = report::chain(units, &unit.name);
    let next = reasons::next(causes, report::next(units, unit));
    if json {
        let told = json!({ "unit": unit, "chain": chain, "causes": causes, "next": next });
        printer.data(super::json(&told)?);
        return Ok(ExitCode::SUCCESS);
    }
    let next = next.iter().map(|line| format!("next: {line}"));
    let text = chain.into_iter().chain(reasons::lines(causes)).chain(next).collect::<Vec<_>>().join("\n");
    printer.data(plain(&text));
    Ok(ExitCode::SUCCESS)
}

/// Names in it may be the tool's: nothing in them steers the terminal.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

pub(super) fn stop(args: &StopArgs, quiet: bool) -> Result<ExitCode, Error> {
    end(args, &UnitOrder::Signal { signal: Signal::SIGTERM as i32 }, quiet)
}

pub(super) fn kill(args: &StopArgs, quiet: bool) -> Result<ExitCode, Error> {
    end(args, &UnitOrder::Kill, quiet)
}

/// 0 where it has ended for it, 1 where it did not run.
fn end(args: &StopArgs, order: &UnitOrder, quiet: bool) -> Result<ExitCode, Error> {
    let printer = Printer::new(quiet);
    if args.which.run.is_none() {
        let verb = if *order == UnitOrder::Kill { "kill" } else { "stop" };
        if let Some(Stopped::Done { unit, ran }) = instrument::stop(&args.which.name, verb, !args.no_wait)? {
            printer.say(instrument::row(&unit, 0));
            return Ok(ExitCode::from(u8::from(!ran)));
        }
    }
    let seen = args.which.find()?;
    if !seen.runs() {
        printer.say(format!("`{}` does not run", seen.tool));
        return Ok(ExitCode::from(1));
    }
    seen.order(order)?;
    if !args.no_wait
        && let Some(ended) = seen.ended(None)
    {
        printer.say(row(&ended));
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn logs(args: &LogsArgs, quiet: bool) -> Result<ExitCode, Error> {
    let printer = Printer::new(quiet);
    let place = args.from.place()?;
    let moment = place.archive.as_ref().map_or_else(clock::now_ns, |archive| archive.manifest.made_ns);
    let since = args.since.as_ref().map(|age| since(age, moment)).transpose()?;
    let found = args.which.find_in(&place.dirs);
    if found.is_err()
        && place.archive.is_none()
        && let Some(client) = Client::find(&place.dirs)?.filter(Client::is_machines)
    {
        return logs_of_machine(&printer, args, &client, since);
    }
    let seen = found?;
    if !seen.is_recorded() {
        return Err(Error::Host {
            message: format!("what `{}` said is not kept: it ran in the foreground", seen.tool),
            hints: vec!["`hatchway run --detach` keeps it".to_owned()],
        });
    }
    if args.clear {
        seen.order(&UnitOrder::ClearLog)?;
        return Ok(ExitCode::SUCCESS);
    }
    show(&printer, args, &seen, since)?;
    Ok(ExitCode::SUCCESS)
}

/// What a unit of the machine's daemon has said, for who may not read its folder.
fn logs_of_machine(
    printer: &Printer,
    args: &LogsArgs,
    client: &Client,
    since: Option<i64>,
) -> Result<ExitCode, Error> {
    if args.clear {
        return Err(Error::Usage("`--clear`: the log is the machine's; root may clear it".to_owned()));
    }
    let mut words = Vec::new();
    words.extend(args.which.run.as_ref().map(|run| format!("run={}", instrument::segment(run))));
    words.extend(since.map(|since| format!("since_ns={since}")));
    words.extend(args.lines.map(|lines| format!("lines={lines}")));
    words.extend(args.stream.map(|stream| match stream {
        StreamWish::Out => "stream=out".to_owned(),
        StreamWish::Err => "stream=err".to_owned(),
    }));
    let path = format!("/v1/units/{}/logs?{}", instrument::segment(&args.which.name), words.join("&"));
    let print = |said: Said| printer.data(shown(args, &Line::from(said)));
    match args.follow {
        true => client.follow(&path, |said| {
            print(said);
            true
        })?,
        false => client.get::<Vec<Said>>(&path)?.into_iter().for_each(print),
    }
    Ok(ExitCode::SUCCESS)
}

/// The moment so long before another one.
pub(super) fn since(age: &str, moment_ns: i64) -> Result<i64, Error> {
    let span =
        recipe::Span::try_from(age.to_owned()).map_err(|why| Error::Usage(format!("`--since`: {why}")))?;
    let back = i64::try_from(span.ms()).unwrap_or(i64::MAX).saturating_mul(1_000_000);
    Ok(moment_ns.saturating_sub(back))
}

fn show(printer: &Printer, args: &LogsArgs, seen: &Seen, since: Option<i64>) -> Result<(), Error> {
    let mut reader = Reader::new(&seen.folder);
    let failed = || Error::io("read the log in", &seen.folder);
    let wanted = |line: &Line| {
        since.is_none_or(|since| line.realtime_ns >= since)
            && match (args.stream, line.stream) {
                (None, _) | (Some(StreamWish::Out), Stream::Out) | (Some(StreamWish::Err), Stream::Err) => {
                    true
                }
                (Some(_), _) => false,
            }
    };
    let mut kept = std::collections::VecDeque::new();
    // A tool that never rests must not keep one from the end who did not ask to follow it.
    if !args.follow {
        reader.hold().map_err(failed())?;
    }
    let mut most = args.lines;
    loop {
        // Asked first: what is read after it has ended is all there is.
        let goes_on = args.follow && units::is_kept(&seen.folder);
        loop {
            let lines = reader.lines(!goes_on).map_err(failed())?;
            if lines.is_empty() {
                break;
            }
            for line in lines.into_iter().filter(&wanted) {
                kept.push_back(line);
                match most {
                    Some(most) if kept.len() > most => drop(kept.pop_front()),
                    Some(_) => {}
                    None => kept.drain(..).for_each(|line| printer.data(shown(args, &line))),
                }
            }
        }
        kept.drain(..).for_each(|line| printer.data(shown(args, &line)));
        // Of what comes from now on each line counts.
        most = None;
        if !goes_on {
            return Ok(());
        }
        std::thread::sleep(LOOK);
    }
}

fn shown(args: &LogsArgs, line: &Line) -> String {
    let stream = match line.stream {
        Stream::Out => "out",
        Stream::Err => "err",
        Stream::Remark => "hatchway",
    };
    if args.json {
        let time = clock::shown(line.realtime_ns);
        let missing = (line.missing > 0).then_some(line.missing);
        let line = json!({ "time": time, "stream": stream, "missing": missing, "text": line.text });
        return super::escaped(&line.to_string());
    }
    let gap = match line.missing {
        0 => String::new(),
        bytes => format!("[{bytes} bytes of {stream} are not kept]\n"),
    };
    // A tool's own colours and tabs are for a terminal, and may do no more than that.
    let text: String =
        line.text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect();
    if args.timestamps {
        return format!("{gap}{} {stream} {text}", clock::shown(line.realtime_ns));
    }
    gap + &text
}

/// For programs.
fn told(seen: &Seen) -> serde_json::Value {
    let why = seen.record.as_ref().map(|record| units::told(&record.reason));
    let standing = seen.standing();
    let standing = standing.as_ref();
    json!({
        "tool": seen.tool, "run": seen.run, "state": seen.state, "why": why, "record": seen.record,
        "kept": seen.is_recorded(),
        "terminal": seen.has_terminal(),
        "ready": standing.map(|standing| standing.ready),
        "ready_how": standing.and_then(|standing| standing.how.as_deref()),
        "ready_after_ms": standing.and_then(|standing| standing.after_ms),
        "health": standing.and_then(|standing| standing.health),
        "status": standing.and_then(|standing| standing.status.as_deref()),
    })
}

/// A tool and a run; below it how it is, and why.
pub(super) fn row(seen: &Seen) -> String {
    let Seen { tool, run, .. } = seen;
    let how = match (seen.state, &seen.record) {
        (State::Running, _) => {
            let told = seen.standing().map(|standing| units::stage_told(&standing, seen.has_wish()));
            let mut text = told.unwrap_or_else(|| "runs".to_owned()).replace('\n', "\n    ");
            if seen.has_terminal() {
                text.push_str(&format!("\n  has a terminal: `hatchway attach {tool}`"));
            }
            text
        }
        (State::Foreground, _) => "runs in the foreground of another command".to_owned(),
        (State::Ending, _) => "ends, since what kept it was killed".to_owned(),
        (State::Ended, Some(record)) => {
            let mut text =
                format!("{}: {}", clock::shown(record.ended.realtime_ns), units::told(&record.reason));
            record.evidence.iter().for_each(|line| text.push_str(&format!("\n    {line}")));
            if let Some(logged) = record.logged.filter(|logged| logged.dropped > 0) {
                text.push_str(&format!("\n  {} bytes of its output are not kept", logged.dropped));
            }
            text
        }
        (State::Ended | State::Lost, _) => {
            "is gone without a record: the machine went down, or what looked after it was killed".to_owned()
        }
    };
    format!("{tool} {run}\n  {}", plain(&how))
}
