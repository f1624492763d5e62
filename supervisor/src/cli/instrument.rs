//! `hatchway daemon`, `up`, `start`, `restart`, `events` and `explain`: the instrument as a whole.

use std::io::{BufRead, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::json;

use super::NetworkArgs;
use crate::context::Context;
use crate::daemon::api::InstrumentFile;
use crate::daemon::client::Client;
use crate::daemon::files::Said;
use crate::daemon::journal::Event;
use crate::daemon::problem::{Code, Meaning, meanings};
use crate::daemon::report::{self, Action, Step, UnitStatus};
use crate::daemon::source::Source;
use crate::daemon::view::{self, Carried, Machine, Phase};
use crate::daemon::{self, api};
use crate::dirs::Dirs;
use crate::error::Error;
use crate::report::Printer;
use crate::units::Memory;
use crate::{clock, steps, timeline};

/// From one look at a unit to the next.
const LOOK: Duration = Duration::from_millis(50);
/// A unit that is still not ready is left to itself after this.
const READY_MAX: Duration = Duration::from_secs(120);
/// Of a terminal.
pub(super) const COLUMNS: usize = 80;
/// Columns of a unit's name in a table, at least.
const NAME_WIDTH: usize = 16;

/// Arguments of `daemon`.
#[derive(Debug, clap::Args)]
pub(super) struct DaemonArgs {
    /// The instrument; `instrument.toml` in the folder of the configuration otherwise
    file: Option<PathBuf>,
}

/// Arguments of `up`.
#[derive(Debug, clap::Args)]
pub(super) struct UpArgs {
    /// The instrument; `instrument.toml` in the folder of the configuration otherwise
    file: Option<PathBuf>,
    /// Only say what would start, stop, restart and stay
    #[arg(long)]
    dry_run: bool,
    /// Do not ask before something stops
    #[arg(short, long)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    network: NetworkArgs,
}

/// Arguments of `start` and `restart`.
#[derive(Debug, clap::Args)]
pub(super) struct StartArgs {
    /// Names of units
    #[arg(required = true)]
    names: Vec<String>,
    /// Do not wait until they are ready
    #[arg(long)]
    no_wait: bool,
}

/// Arguments of `events`.
#[derive(Debug, clap::Args)]
pub(super) struct EventsArgs {
    /// Only those of this unit
    unit: Option<String>,
    /// Go on with what happens from now on
    #[arg(short, long, conflicts_with = "from")]
    follow: bool,
    /// Only those after the one with this number
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    since: u64,
    /// Only the last so many of what is there
    #[arg(short = 'n', long, value_name = "COUNT")]
    lines: Option<usize>,
    /// A JSON object for each line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    from: super::from::FromArgs,
}

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
pub(super) struct ExplainArgs {
    /// A code of the API's errors or of a cause that `why` names; all of them without one
    code: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn daemon(args: &DaemonArgs) -> Result<ExitCode, Error> {
    let file = args.file.as_ref().map(|file| absolute(file)).transpose()?;
    daemon::run(Dirs::discover(), file.as_deref())?;
    Ok(ExitCode::SUCCESS)
}

fn absolute(file: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(file).map_err(Error::io("find", file))
}

/// 0 where it is applied, 1 where a person has said no.
pub(super) fn up(args: &UpArgs, quiet: bool) -> Result<ExitCode, Error> {
    let context = Context::open(quiet, args.network.into())?;
    let file = match &args.file {
        Some(file) => absolute(file)?,
        None => daemon::default_instrument(&context.dirs).ok_or_else(|| no_instrument(&context.dirs))?,
    };
    let applied = api::read_instrument(&context.dirs, &file)?;
    let machine = Machine::of(&applied, &context.dirs)?;
    let client = Client::find(&context.dirs)?;
    if client.as_ref().is_some_and(Client::is_machines) {
        return Err(Error::Host {
            message: "the daemon that runs is the machine's, with a store of its own".to_owned(),
            hints: vec!["root applies its instrument: `sudo hatchway up`".to_owned()],
        });
    }
    let body = Some(InstrumentFile { file: file.clone() });
    let steps: Vec<Step> = match &client {
        Some(client) => client.post("/v1/plan", body.as_ref())?,
        None => {
            let said = Said::load(&context.dirs)?;
            let units = machine.units(&context.dirs, &said, &clock::Now::get(), &mut Memory::default())?;
            report::plan(&units, &report::strays(&context.dirs, &units))
        }
    };
    let text = if args.json { super::json(&steps)? } else { table_of(&steps) };
    context.printer.data(text);
    if args.dry_run {
        return Ok(ExitCode::SUCCESS);
    }
    if !args.yes && !agreed(&steps)? {
        return Ok(ExitCode::from(1));
    }
    build(&context, &machine)?;
    match &client {
        Some(client) => drop(client.post::<Vec<Step>>("/v1/instrument", body.as_ref())?),
        None => {
            // One that begins just now waits for this.
            let _alone = daemon::lock(&context.dirs)?;
            applied.store(&context.dirs)?;
            context.printer.say("no daemon runs: the next one carries it out (`systemctl start hatchway`, or `hatchway daemon`)");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn no_instrument(dirs: &Dirs) -> Error {
    let places: Vec<String> = dirs
        .config
        .iter()
        .filter_map(|config| config.parent())
        .map(|folder| format!("`{}`", folder.join(crate::instrument::FILE).display()))
        .collect();
    Error::Host {
        message: "there is no instrument".to_owned(),
        hints: vec![format!("write {}, or name a file", places.join(" or "))],
    }
}

/// A start waits for no network and for no build: what is missing is made now.
fn build(context: &Context, machine: &Machine) -> Result<(), Error> {
    for (name, config) in machine.instrument.in_order() {
        let Carried::Tool(located) = view::find(config, &machine.recipes)? else { continue };
        if located.recipe.image().is_some() {
            continue;
        }
        let lock = steps::read_lock(&located)?;
        let (built, _held) = steps::build_and_hold(context, &located, &lock)?;
        if !built.cached {
            context.printer.say(format!("{name}: tree {} built", built.tree.short()));
        }
    }
    Ok(())
}

/// What goes on is not stopped without a word.
fn agreed(steps: &[Step]) -> Result<bool, Error> {
    let stops = steps.iter().filter(|step| matches!(step.action, Action::Stop | Action::Restart)).count();
    if stops == 0 {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        return Err(Error::Host {
            message: format!("{} would stop or restart, and nobody can be asked", count(stops)),
            hints: vec!["`--yes` does it all the same; `--dry-run` only shows it".to_owned()],
        });
    }
    Printer::default().line(&format!("{} to stop or restart. Go on? [y/N]", count(stops)));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(Error::io("read", "standard input"))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn count(units: usize) -> String {
    if units == 1 { "1 unit".to_owned() } else { format!("{units} units") }
}

fn table_of(steps: &[Step]) -> String {
    let width = steps.iter().map(|step| step.unit.len()).max().unwrap_or_default().max(NAME_WIDTH);
    let line = |step: &Step| {
        let why = step.why.as_deref().unwrap_or_default();
        format!("{:<8} {:<width$} {why}", step.action, step.unit).trim_end().to_owned()
    };
    steps.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// 0 where all are ready.
pub(super) fn start(args: &StartArgs, quiet: bool) -> Result<ExitCode, Error> {
    begin(args, "start", quiet)
}

/// 0 where all are ready again.
pub(super) fn restart(args: &StartArgs, quiet: bool) -> Result<ExitCode, Error> {
    begin(args, "restart", quiet)
}

fn begin(args: &StartArgs, verb: &str, quiet: bool) -> Result<ExitCode, Error> {
    let printer = Printer::new(quiet);
    let dirs = Dirs::discover();
    let client = Client::find(&dirs)?.ok_or_else(|| Error::Host {
        message: "no daemon runs, which would start it".to_owned(),
        hints: vec!["`systemctl start hatchway`, or `hatchway daemon`; `hatchway run --detach` starts a tool without one".to_owned()],
    })?;
    let mut before = Vec::new();
    for name in &args.names {
        let old: UnitStatus = client.get(&format!("/v1/units/{}", segment(name)))?;
        drop(client.post::<UnitStatus>(&format!("/v1/units/{}/{verb}", segment(name)), None::<&()>)?);
        before.push((name, old.run.filter(|_| verb == "restart" || !runs(old.phase))));
    }
    if args.no_wait {
        return Ok(ExitCode::SUCCESS);
    }
    let mut all_ready = true;
    for (name, old) in before {
        let unit = settled(&client, name, old.as_deref())?;
        all_ready &= unit.phase == Phase::Ready;
        printer.say(row(&unit, 0));
    }
    Ok(ExitCode::from(u8::from(!all_ready)))
}

/// A name in a path: whatever a person has typed stays one part of it.
pub(super) fn segment(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    name.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// As it is once another run than `old` is ready, or will not be without help.
fn settled(client: &Client, name: &str, old: Option<&str>) -> Result<UnitStatus, Error> {
    let begin = Instant::now();
    loop {
        let unit: UnitStatus = client.get(&format!("/v1/units/{}", segment(name)))?;
        let is_new = old.is_none() || unit.run.as_deref() != old;
        let goes_on = match unit.phase {
            Phase::Starting | Phase::Due | Phase::Stopping => true,
            Phase::Ready | Phase::Late | Phase::Failed | Phase::Ended | Phase::BackOff | Phase::Degraded => {
                !is_new
            }
            Phase::Blocked | Phase::Stopped => false,
        };
        if !goes_on || begin.elapsed() >= READY_MAX {
            return Ok(unit);
        }
        std::thread::sleep(LOOK);
    }
}

/// Whether a unit is one of the instrument's: then it is stopped so that it stays stopped. The result is as it is afterwards.
pub(super) fn stop(name: &str, verb: &str, wait: bool) -> Result<Option<Stopped>, Error> {
    let dirs = Dirs::discover();
    let source = Source::find(&dirs)?;
    // A user's own tool comes before the machine's unit of that name.
    if source.is_machines() && crate::units::all(&dirs, Some(name)).iter().any(crate::units::Seen::runs) {
        return Ok(None);
    }
    let Some(unit) = source.unit(name)? else {
        // Who has no role at the machine's daemon hears that, and not that there is no such run.
        if let Source::Daemon(client) = &source
            && client.is_machines()
            && crate::units::all(&dirs, Some(name)).is_empty()
            && let Err(error @ Error::Problem { code: Code::NotPermitted, .. }) =
                client.get::<UnitStatus>(&format!("/v1/units/{}", segment(name)))
        {
            return Err(error);
        }
        return Ok(None);
    };
    match source {
        Source::Daemon(client) => {
            let ran = runs(unit.phase);
            let mut unit: UnitStatus =
                client.post(&format!("/v1/units/{}/{verb}", segment(name)), None::<&()>)?;
            while wait && unit.phase == Phase::Stopping {
                std::thread::sleep(LOOK);
                unit = client.get(&format!("/v1/units/{}", segment(name)))?;
            }
            Ok(Some(Stopped::Done { unit: Box::new(unit), ran }))
        }
        // Nobody stops what is in an archive.
        Source::Archive(_) => Ok(None),
        Source::Files(_) => {
            let _alone = daemon::lock(&dirs)?;
            // The next daemon leaves it so; the recorder is told by whoever asks.
            let mut said = Said::load(&dirs)?;
            said.say(name, daemon::decide::Want::Down, None, &clock::Now::get());
            said.store(&dirs)?;
            if unit.run.is_none() {
                return Ok(Some(Stopped::Done { unit: Box::new(unit), ran: false }));
            }
            Ok(Some(Stopped::ToTell))
        }
    }
}

/// What became of a unit that was to stop.
#[derive(Debug)]
pub(super) enum Stopped {
    /// The daemon has done it.
    Done {
        /// As it is now.
        unit: Box<UnitStatus>,
        /// It ran before.
        ran: bool,
    },
    /// It is wanted so, and its recorder is still to be told.
    ToTell,
}

/// Whether a unit in this phase has a run that goes on.
pub(super) fn runs(phase: Phase) -> bool {
    matches!(phase, Phase::Starting | Phase::Ready | Phase::Late | Phase::Stopping)
}

/// A line of a table: a unit, how it is, since when, and why.
pub(super) fn row(unit: &UnitStatus, width: usize) -> String {
    row_at(unit, width, clock::now_ns())
}

/// The same as it was at a moment.
pub(super) fn row_at(unit: &UnitStatus, width: usize, moment_ns: i64) -> String {
    let width = width.max(NAME_WIDTH);
    let age = unit.began_ns.map(|began| age(moment_ns.saturating_sub(began)));
    let age = age.filter(|_| runs(unit.phase)).unwrap_or_default();
    let why = unit.why.as_deref().unwrap_or_default();
    let phase = unit.phase.to_string();
    let line = format!("{:<width$} {phase:<9} {age:>5}  {why}", unit.name);
    super::units::plain(&cut(line.trim_end()))
}

/// To what a terminal of 80 columns shows; `hatchway why` says all of it.
pub(super) fn cut(line: &str) -> String {
    match line.char_indices().nth(COLUMNS) {
        None => line.to_owned(),
        Some(_) => line.chars().take(COLUMNS - 1).chain(['…']).collect(),
    }
}

/// In two parts at most: `3d4h`, `5m`.
fn age(ns: i64) -> String {
    let seconds = ns.max(0) / 1_000_000_000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m"),
        (0, _, _) => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}

pub(super) fn events(args: &EventsArgs, quiet: bool) -> Result<ExitCode, Error> {
    let printer = Printer::new(quiet);
    let source = args.from.place()?.source()?;
    let wanted = |event: &Event| args.unit.is_none() || event.unit == args.unit;
    let mut last = args.since;
    let mut kept = Vec::new();
    // A line of its own where the clock was set between two.
    let step = |before: &mut Option<Event>, event: &Event| {
        let told = before.as_ref().and_then(|before| timeline::step(before, event));
        *before = Some(event.clone());
        told.filter(|_| !args.json).into_iter().for_each(|told| printer.data(format_args!("-- {told} --")));
    };
    loop {
        let some = source.events(last)?;
        let Some(end) = some.last() else { break };
        last = end.seq;
        kept.extend(some.into_iter().filter(&wanted));
    }
    let skipped = args.lines.map_or(0, |lines| kept.len().saturating_sub(lines));
    let mut before = None;
    for event in kept.iter().skip(skipped) {
        step(&mut before, event);
        printer.data(line(event, args.json));
    }
    match source {
        Source::Daemon(client) if args.follow => {
            client.events(last, |event| {
                if wanted(&event) {
                    step(&mut before, &event);
                    printer.data(line(&event, args.json));
                }
                true
            })?;
            Err(Error::Host {
                message: "the daemon has ended".to_owned(),
                hints: vec![format!("`hatchway events --since {last}` shows what is known")],
            })
        }
        Source::Files(_) if args.follow => Err(Error::Host {
            message: "no daemon runs that could be followed".to_owned(),
            hints: vec!["`systemctl start hatchway`, or `hatchway daemon`".to_owned()],
        }),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn line(event: &Event, json: bool) -> String {
    if json {
        return super::escaped(&json!(event).to_string());
    }
    let kind = serde_json::to_value(event.kind).ok();
    let kind = kind.as_ref().and_then(|kind| kind.as_str()).unwrap_or_default();
    let who = event.unit.as_deref().unwrap_or("-");
    let by = event.by.as_ref().map(|by| format!(", asked by {by}")).unwrap_or_default();
    let time = clock::shown(event.realtime_ns);
    super::units::plain(&format!("{} {time} {who} {kind}: {}{by}", event.seq, event.text))
}

/// 0 where the code is known, 1 where it is not.
pub(super) fn explain(args: &ExplainArgs, quiet: bool) -> Result<ExitCode, Error> {
    let printer = Printer::new(quiet);
    let wanted: Vec<Meaning> =
        meanings().filter(|meaning| args.code.as_ref().is_none_or(|code| code == meaning.code)).collect();
    if args.json {
        printer.data(super::json(&wanted)?);
    } else if let (Some(code), []) = (&args.code, &wanted[..]) {
        printer.say(format!("`{code}` is no code that this version knows; `hatchway explain` shows all"));
    } else {
        let text = |meaning: &Meaning| {
            let Meaning { code, status, means, causes, next } = meaning;
            let status = status.map(|status| format!(" (HTTP {status})")).unwrap_or_default();
            let next = if next.is_empty() { String::new() } else { format!("\n  next: {next}") };
            format!("{code}{status}\n  {means}\n  mostly: {causes}{next}")
        };
        printer.data(wanted.iter().map(text).collect::<Vec<_>>().join("\n"));
    }
    Ok(ExitCode::from(u8::from(wanted.is_empty())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_typed_stays_one_part_of_a_path() {
        assert_eq!(segment("daq-2"), "daq-2");
        assert_eq!(segment("../x?y"), "%2E%2E%2Fx%3Fy");
    }

    #[test]
    fn ages_have_two_parts_at_most() {
        let of = |seconds: i64| age(seconds * 1_000_000_000);
        assert_eq!([of(-1), of(59), of(61), of(3_700), of(90_000)], ["0s", "59s", "1m", "1h1m", "1d1h"]);
    }
}
