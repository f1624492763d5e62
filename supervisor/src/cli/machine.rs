//! `hatchway machine`

use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use crate::context::{Context, NetworkUse};
use crate::error::Error;
use crate::launch::machine::snapshots::{self, Wish};
use crate::recipe;

/// The year 9999 of the form of dates; a later one is nobody's.
const TIME_MAX: u64 = 253_402_300_800;

/// Verbs about guests from disk images.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Keep what a guest's disk is now under a name; the guest has to be off
    Snapshot(One),
    /// Make a guest's disk what it was; what was written since is gone
    Restore(One),
    /// Say which snapshots a guest has
    List {
        /// A recipe's name or path
        name: String,
        /// Print them as JSON
        #[arg(long)]
        json: bool,
    },
    /// Forget a snapshot; the disk stays as it is
    Delete(One),
}

/// A guest and one of its snapshots.
#[derive(Debug, clap::Args)]
pub(super) struct One {
    /// A recipe's name or path
    name: String,
    /// The snapshot: letters, digits, `.`, `_` and `-`, and not digits alone
    snapshot: String,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn main(command: &Command, quiet: bool) -> Result<ExitCode, Error> {
    match command {
        Command::Snapshot(one) => carry_out(one, Wish::Take(&one.snapshot), "made", quiet),
        Command::Restore(one) => carry_out(one, Wish::Restore(&one.snapshot), "restored", quiet),
        Command::Delete(one) => carry_out(one, Wish::Delete(&one.snapshot), "deleted", quiet),
        Command::List { name, json } => list(name, *json, quiet),
    }
}

fn open(name: &str, quiet: bool) -> Result<(Context, recipe::Located), Error> {
    let context = Context::open(quiet, NetworkUse { offline: true, refresh: false })?;
    let located = recipe::find(name, &context.dirs.recipes())?;
    Ok((context, located))
}

fn carry_out(one: &One, wish: Wish<'_>, done: &str, quiet: bool) -> Result<ExitCode, Error> {
    let (context, located) = open(&one.name, quiet || one.json)?;
    snapshots::carry_out(&context, &located, wish)?;
    if one.json {
        let said = serde_json::json!({ "name": located.recipe.package.name, "snapshot": one.snapshot, "done": done });
        context.printer.data(super::json(&said)?);
    } else {
        context.printer.say(format!("snapshot `{}` {done}", one.snapshot));
    }
    Ok(ExitCode::SUCCESS)
}

fn list(name: &str, json: bool, quiet: bool) -> Result<ExitCode, Error> {
    let (context, located) = open(name, quiet || json)?;
    let all = snapshots::list(&context, &located)?;
    if json {
        context.printer.data(super::json(&all)?);
        return Ok(ExitCode::SUCCESS);
    }
    if all.is_empty() {
        context.printer.say("there is no snapshot");
    }
    for snapshot in &all {
        let seconds =
            snapshot.made.and_then(|seconds| u64::try_from(seconds).ok()).filter(|at| *at < TIME_MAX);
        let time = seconds.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
        let made = time.map(|time| format!("  {}", httpdate::fmt_http_date(time))).unwrap_or_default();
        let memory = if snapshot.memory == Some(true) { "  with memory" } else { "" };
        context.printer.data(format!("{}{made}{memory}", snapshot.name));
    }
    Ok(ExitCode::SUCCESS)
}
