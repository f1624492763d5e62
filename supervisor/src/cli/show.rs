//! `hatchway show UNIT`

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::clock;
use crate::daemon::files::Applied;
use crate::daemon::report::UnitStatus;
use crate::daemon::source::Source;
use crate::error::Error;
use crate::instrument::UnitConfig;
use crate::report::Printer;
use crate::timeline::{self, Moment};
use crate::units::{self, Seen};

use super::from::{FromArgs, Place};

/// Events that are shown: the last of them.
const EVENTS: usize = 5;
/// What a fact's name has room for.
const WIDTH: usize = 10;

/// Arguments of `show`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of a unit, or of a tool
    name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    from: FromArgs,
}

/// 0 where something is known of it.
pub(super) fn main(args: &Args, quiet: bool) -> Result<ExitCode, Error> {
    let printer = Printer::new(quiet);
    let place = args.from.place()?;
    let source = place.source()?;
    let unit = source.unit(&args.name)?;
    let seen = units::last(&place.dirs, &args.name, None);
    if unit.is_none() {
        // Nothing is known of it at all.
        seen.as_ref().map_err(|_| unknown(&args.name))?;
    }
    let (seen, config) = (seen.ok(), config(&place, &args.name));
    let events = last_events(&source, &args.name)?;
    let facts = facts(&args.name, unit.as_ref(), seen.as_ref(), config.as_ref());
    if args.json {
        let all: serde_json::Map<String, Value> =
            facts.into_iter().map(|(name, fact)| (name.to_owned(), json!(fact))).collect();
        printer
            .data(super::json(&json!({ "facts": all, "unit": unit, "config": config, "events": events }))?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut lines: Vec<String> = facts
        .iter()
        .map(|(name, fact)| format!("{name:<WIDTH$} {}", fact.replace('\n', &format!("\n{:WIDTH$} ", ""))))
        .collect();
    lines.extend(events.iter().map(|event| {
        format!("{:<WIDTH$} {} {}: {}", "event", clock::shown(event.realtime_ns), event.kind, event.text)
    }));
    printer.data(super::units::plain(&lines.join("\n")));
    Ok(ExitCode::SUCCESS)
}

fn unknown(name: &str) -> Error {
    Error::Host {
        message: format!("neither a unit nor a run of `{name}` is known"),
        hints: vec!["`hatchway status` shows what is known".to_owned()],
    }
}

/// As the instrument that is carried out has it; an archive has what of it may leave the machine in a file of its own.
fn config(place: &Place, name: &str) -> Option<UnitConfig> {
    let applied = Applied::load(&place.dirs).ok().flatten()?;
    applied.instrument().ok()?.unit(name).cloned()
}

fn last_events(source: &Source, name: &str) -> Result<Vec<Moment>, Error> {
    let mut kept = std::collections::VecDeque::new();
    let mut last = 0;
    loop {
        let some = source.events(last)?;
        let Some(end) = some.last() else { break };
        last = end.seq;
        for event in some.iter().filter(|event| event.unit.as_deref() == Some(name)) {
            kept.push_back(timeline::of_event(event, None, &timeline::Beginnings::new()));
            if kept.len() > EVENTS {
                kept.pop_front();
            }
        }
    }
    Ok(kept.into())
}

type Facts = Vec<(&'static str, String)>;

fn facts(name: &str, unit: Option<&UnitStatus>, seen: Option<&Seen>, config: Option<&UnitConfig>) -> Facts {
    let mut facts: Facts = vec![("name", name.to_owned())];
    if let Some(unit) = unit {
        let why = unit.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        facts.push(("phase", format!("{}{why}", unit.phase)));
    }
    if let Some(config) = config {
        facts.extend(of_config(config));
    }
    if let Some(seen) = seen {
        facts.extend(of_run(seen));
    }
    facts
}

fn of_config(config: &UnitConfig) -> Facts {
    let mut facts: Facts = Vec::new();
    let mut add = |name: &'static str, fact: Option<String>| {
        facts.extend(fact.filter(|fact| !fact.is_empty()).map(|fact| (name, fact)));
    };
    add("recipe", config.recipe.clone());
    add("service", config.service.clone());
    add("rung", config.rung.and_then(|rung| json!(rung).as_str().map(str::to_owned)));
    add("user", config.user.clone());
    add("arguments", Some(config.args.join(" ")));
    add("after", Some(config.after.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ")));
    add("start", json!(config.start).as_str().map(str::to_owned));
    let lines = |all: Vec<String>| Some(all.join("\n"));
    add(
        "channels",
        lines(config.channels.iter().map(|(name, channel)| format!("{name} = {}", channel.to)).collect()),
    );
    add("devices", lines(config.devices.iter().map(|(name, device)| format!("{name} = {device}")).collect()));
    add(
        "files",
        lines(config.files.iter().map(|(name, path)| format!("{name} = {}", path.display())).collect()),
    );
    add("identity", lines(config.identity.iter().map(|(name, value)| format!("{name} = {value}")).collect()));
    facts
}

fn of_run(seen: &Seen) -> Facts {
    let mut facts: Facts = vec![("run", seen.run.clone())];
    facts.extend(timeline::began_ns(&seen.run).map(|began| ("began", clock::shown(began))));
    if let Some(standing) = seen.standing().filter(|_| seen.runs()) {
        facts.push(("stage", units::stage_told(&standing, seen.has_wish())));
    }
    if let Some(record) = &seen.record {
        facts.push((
            "ended",
            format!("{}\n{}", clock::shown(record.ended.realtime_ns), units::told(&record.reason)),
        ));
        facts.push(("program", record.program.clone()));
        facts.extend(record.logged.map(|logged| {
            let bytes = logged.out.saturating_add(logged.err);
            ("said", format!("{bytes} bytes, of which {} were thrown away", logged.dropped))
        }));
        facts.extend(record.notes.iter().map(|note| ("note", note.clone())));
    }
    if let Some(told) = seen.told() {
        let logs = told.logs;
        let full = json!(logs.full);
        facts.push(("log", format!("{} MiB; full: {}", logs.size >> 20, full.as_str().unwrap_or_default())));
        facts.extend(
            told.ready
                .as_ref()
                .map(|wish| ("ready", format!("{} within {} s", wish.what, wish.within_ms / 1000))),
        );
    }
    facts.push(("folder", seen.folder.display().to_string()));
    facts
}
