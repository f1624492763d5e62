//! `hatchway store`

use std::process::ExitCode;
use std::time::Duration;

use hatchway_envs::store::gc::{Collected, Item, Keep, Kind};
use hatchway_envs::store::roots::Tool;
use hatchway_envs::store::space::readable;
use hatchway_envs::store::verify::{Finding, Report, Severity};

use crate::context::{Context, NetworkUse};
use crate::error::Error;
use crate::launch::vm::cache::{Forgotten, Guests};
use crate::upkeep;

/// How long what nobody names is kept by default: a recipe that was moved or an old version may be wanted back.
const KEPT_DAYS: u32 = 14;

/// Verbs about the store.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Check everything in the store against its name; exit code 1 where something is damaged
    Verify {
        /// Do not read contents: names, sizes, modes and links only
        #[arg(long)]
        quick: bool,
        /// Print the findings as JSON
        #[arg(long)]
        json: bool,
    },
    /// Mend what `verify` finds; exit code 1 where something stays damaged
    Repair {
        /// Use only what is stored
        #[arg(long)]
        offline: bool,
        /// Print what was done as JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove what no recipe needs, no tool uses and nobody used lately
    Gc {
        /// Only say what would be removed
        #[arg(long)]
        dry_run: bool,
        /// Remove what has not been used for so many days
        #[arg(long, value_name = "DAYS", default_value_t = KEPT_DAYS)]
        older_than: u32,
        /// Keep this tool's tree, or the tree whose digest begins so, whatever its recipe says
        #[arg(long, value_name = "TOOL|TREE")]
        keep: Vec<String>,
        /// Print what was removed as JSON
        #[arg(long)]
        json: bool,
    },
    /// Say which tool takes how much room on disk
    Du {
        /// Print the sums as JSON
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn main(command: &Command, quiet: bool) -> Result<ExitCode, Error> {
    match command {
        Command::Verify { quick, json } => verify(quiet, *quick, *json),
        Command::Repair { offline, json } => repair(quiet, *offline, *json),
        Command::Gc { dry_run, older_than, keep, json } => gc(quiet, *dry_run, *older_than, keep, *json),
        Command::Du { json } => du(quiet, *json),
    }
}

fn open(quiet: bool, offline: bool) -> Result<(Context, Vec<Tool>), Error> {
    let context = Context::open(quiet, NetworkUse { offline, refresh: false })?;
    let tools = context.store.tools(&upkeep::recipes(&context.dirs)?)?;
    Ok((context, tools))
}

fn verify(quiet: bool, quick: bool, json: bool) -> Result<ExitCode, Error> {
    let (context, tools) = open(quiet || json, true)?;
    let report = context.store.verify(&tools, quick, &context.printer)?;
    if json {
        context.printer.data(super::json(&report)?);
    } else {
        show(&context, &report);
    }
    Ok(answer(&report))
}

/// 1 where something is damaged; what interrupted commands left is no damage, nor what a tree can be used without.
fn answer(report: &Report) -> ExitCode {
    ExitCode::from(u8::from(report.is_damaged()))
}

fn show(context: &Context, report: &Report) {
    for finding in &report.findings {
        context.printer.data(shown(finding));
    }
    let checked = &report.checked;
    let count = |severity| report.findings.iter().filter(|finding| finding.severity == severity).count();
    let missing = if count(Severity::Missing) == 0 { "" } else { ", but something is missing" };
    context.printer.say(format!(
        "checked {} objects, {} trees with {} entries, {} artifacts ({} read): {}{missing}",
        checked.objects,
        checked.trees,
        checked.entries,
        checked.artifacts,
        readable(checked.bytes_hashed),
        match count(Severity::Damage) {
            0 => "nothing is damaged".to_owned(),
            1 => "1 thing is damaged".to_owned(),
            many => format!("{many} things are damaged"),
        }
    ));
}

fn shown(finding: &Finding) -> String {
    let mark = match finding.severity {
        Severity::Damage => "damaged",
        Severity::Missing => "missing",
        Severity::Leftover => "left over",
    };
    let mut text = format!("{mark}: {} ({})\n  {}", finding.path.display(), finding.kind, finding.what);
    if !finding.affects.is_empty() {
        text.push_str(&format!("\n  affects: {}", finding.affects.join(", ")));
    }
    text + &format!("\n  next: {}", finding.next)
}

fn repair(quiet: bool, offline: bool, json: bool) -> Result<ExitCode, Error> {
    let (context, tools) = open(quiet || json, offline)?;
    let outcome = upkeep::repair(&context, &tools)?;
    let code = ExitCode::from(u8::from(!outcome.failed.is_empty() || outcome.left.is_damaged()));
    if json {
        context.printer.data(super::json(&outcome)?);
        return Ok(code);
    }
    for line in &outcome.done {
        context.printer.data(line);
    }
    for failure in &outcome.failed {
        context.printer.data(format!("not mended: {failure}"));
    }
    show(&context, &outcome.left);
    match outcome.failed.len() {
        0 => {}
        1 => context.printer.say("1 thing was not mended"),
        many => context.printer.say(format!("{many} things were not mended")),
    }
    Ok(code)
}

fn gc(quiet: bool, dry_run: bool, days: u32, wishes: &[String], json: bool) -> Result<ExitCode, Error> {
    let (context, tools) = open(quiet || json, true)?;
    let mut keep =
        Keep { younger_than: Duration::from_secs(u64::from(days) * 24 * 60 * 60), ..Keep::default() };
    let named = upkeep::named_artifacts(&tools);
    for unknown in &named.unknown {
        context.printer.warn(unknown);
    }
    if !named.unknown.is_empty() {
        context
            .printer
            .warn("what these name is not known: no vendor's file and no downloaded package is removed");
    }
    (keep.artifacts, keep.all_artifacts) = (named.artifacts, !named.unknown.is_empty());
    for wish in wishes {
        let named: Vec<&Tool> = tools.iter().filter(|tool| tool.name == *wish).collect();
        if named.is_empty() {
            keep.tree(&context.store, wish)?;
        }
        keep.trees.extend(named.iter().filter_map(|tool| tool.tree));
        keep.artifacts.extend(named.iter().flat_map(|tool| tool.inputs()));
    }
    let collected = context.store.collect(&tools, &keep, dry_run)?;
    // After the trees: disks of those that went are of no use.
    let guests = Guests::of(&context.dirs).forget(keep.younger_than, dry_run);
    if json {
        context.printer.data(super::json(&serde_json::json!({
            "dry-run": dry_run,
            "bytes": collected.bytes() + bytes_of(&guests),
            "items": collected.items,
            "guests": guests,
            "in-use": collected.in_use,
            "young": collected.young,
            "unknown": named.unknown,
        }))?);
        return Ok(ExitCode::SUCCESS);
    }
    show_collected(&context, (&collected, &guests), dry_run, days);
    Ok(ExitCode::SUCCESS)
}

fn bytes_of(guests: &[Forgotten]) -> u64 {
    guests.iter().map(|one| one.bytes).sum()
}

fn show_collected(
    context: &Context,
    (collected, guests): (&Collected, &[Forgotten]),
    dry_run: bool,
    days: u32,
) {
    const KINDS: [(Kind, &str); 7] = [
        (Kind::Tree, "trees"),
        (Kind::Object, "objects"),
        (Kind::Artifact, "artifacts"),
        (Kind::Package, "records of archives"),
        (Kind::Result, "records of caches"),
        (Kind::Partial, "interrupted downloads"),
        (Kind::Unfinished, "interrupted builds"),
    ];
    for (kind, name) in KINDS {
        let items: Vec<&Item> = collected.items.iter().filter(|item| item.kind == kind).collect();
        if !items.is_empty() {
            let bytes = items.iter().map(|item| item.bytes).sum();
            context.printer.data(format!("{:>10}  {} {name}", readable(bytes), items.len()));
        }
    }
    if !guests.is_empty() {
        let bytes = readable(bytes_of(guests));
        context.printer.data(format!("{bytes:>10}  {} kernels and disks of guests", guests.len()));
    }
    for digest in &collected.in_use {
        context.printer.say(format!("kept: tree {} is in use by a running tool", digest.short()));
    }
    for digest in &collected.young {
        context.printer.say(format!(
            "kept: tree {} was used within {days} days; `--older-than 0` takes it",
            digest.short()
        ));
    }
    let verb = if dry_run { "would free" } else { "freed" };
    context.printer.data(format!("{verb} {}", readable(collected.bytes() + bytes_of(guests))));
}

fn du(quiet: bool, json: bool) -> Result<ExitCode, Error> {
    let (context, tools) = open(quiet || json, true)?;
    let disk = context.store.usage(&tools)?;
    if json {
        context.printer.data(super::json(&disk)?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = vec![["tool", "own", "shared", "downloads", "removing it frees", ""].map(str::to_owned)];
    for usage in &disk.tools {
        rows.push([
            usage.tool.clone(),
            readable(usage.own_bytes),
            readable(usage.shared_bytes),
            readable(usage.downloads_bytes),
            readable(usage.freed_bytes),
            match (usage.tree, usage.in_use) {
                (None, _) => "not built".into(),
                (_, true) => "in use".into(),
                (_, false) => String::new(),
            },
        ]);
    }
    if rows.len() > 1 {
        context.printer.data(table(&rows));
    }
    context.printer.data(format!(
        "{} in all: {} contents, {} artifacts, {} trees and records\n{} of the contents are of no tool's tree",
        readable(disk.total_bytes),
        readable(disk.objects_bytes),
        readable(disk.artifacts_bytes),
        readable(disk.total_bytes.saturating_sub(disk.objects_bytes + disk.artifacts_bytes)),
        readable(disk.unneeded_bytes),
    ));
    context.printer.say("next: hatchway store gc --dry-run");
    Ok(ExitCode::SUCCESS)
}

/// The first column to the left, the others to the right.
fn table<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let line = |row: &[String; COLUMNS]| {
        let cell = |(column, text): (usize, &String)| {
            let width = width(column);
            if column == 0 { format!("{text:<width$}") } else { format!("{text:>width$}") }
        };
        row.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}
