//! `hatchway lock`

use std::process::ExitCode;

use hatchway_envs::choose::Upgrade;
use hatchway_envs::lock::Lock;
use hatchway_envs::lock::diff::{self, Change, Kind};

use super::NetworkArgs;
use crate::context::Context;
use crate::error::Error;
use crate::steps::{self, LockWish, Locked};
use crate::{recipe, report};

/// Arguments of `lock`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "hatchway lock <RECIPE> [OPTIONS]\n       hatchway lock <RECIPE> --upgrade [PACKAGE]..."
)]
pub(super) struct Args {
    /// A recipe's name or path; before `--upgrade`
    #[arg(required_unless_present = "upgrade")]
    recipe: Option<String>,
    /// Try these suites, in this order
    #[arg(long, value_name = "SUITE")]
    suite: Vec<String>,
    /// Move to the newest versions: these packages, or with none named everything and the suite too
    #[arg(long, value_name = "PACKAGE", num_args = 0..)]
    upgrade: Option<Vec<String>>,
    /// Say what would change, and write nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    network: NetworkArgs,
    /// Print the lock as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn main(args: &Args, quiet: bool) -> Result<ExitCode, Error> {
    let context = Context::open(quiet || args.json, args.network.into())?;
    let name = recipe_of(args, &context)?;
    let located = recipe::find(name, &context.dirs.recipes())?;
    let upgrade = match &args.upgrade {
        None => Upgrade::Nothing,
        Some(packages) if packages.is_empty() => Upgrade::Everything,
        Some(packages) => Upgrade::Only(packages.iter().cloned().collect()),
    };
    let wish = LockWish { suites: args.suite.clone(), upgrade, dry_run: args.dry_run };
    let locked = steps::lock(&context, &located, &wish)?;
    if args.json {
        context.printer.data(super::json(&view(&locked))?);
        return Ok(ExitCode::SUCCESS);
    }
    let printer = &context.printer;
    tell_changes(printer, &locked);
    printer.say(summary(&locked.lock));
    let path = located.lock_path();
    if args.dry_run {
        printer.say(format!("{} is as it was", path.display()));
    } else if locked.before.as_ref() == Some(&locked.lock) {
        printer.say(format!("{} fits and is as it was", path.display()));
    } else {
        printer.say(format!("wrote {}", path.display()));
        printer.say(format!("next: hatchway build {}", located.recipe.package.name));
    }
    Ok(ExitCode::SUCCESS)
}

/// The recipe. `--upgrade` takes every word behind it for a package, the recipe's name too.
fn recipe_of<'a>(args: &'a Args, context: &Context) -> Result<&'a str, Error> {
    if let Some(recipe) = &args.recipe {
        return Ok(recipe);
    }
    let words = args.upgrade.clone().unwrap_or_default();
    let is_recipe = |word: &&String| recipe::locate(word, &context.dirs.recipes()).is_ok();
    let recipe = words.iter().find(is_recipe).cloned();
    let packages = words.into_iter().filter(|word| Some(word) != recipe.as_ref()).collect();
    Err(Error::RecipeFirst { recipe, packages })
}

/// What changes from the lock before, a line each.
fn tell_changes(printer: &report::Printer, locked: &Locked) {
    let Some(before) = &locked.before else { return };
    if before.base != locked.lock.base {
        printer.say(format!("  base {} → {}", before.base, locked.lock.base));
    }
    let changes = diff::changes(before, &locked.lock);
    for change in &changes {
        printer.say(line(change));
    }
    if changes.is_empty() {
        return;
    }
    let all: u64 = changes.iter().map(|change| change.bytes_after).sum();
    let gone: u64 = changes.iter().map(|change| change.bytes_before).sum();
    printer.say(format!(
        "{} packages change: {:.1} MB instead of {:.1} MB",
        changes.len(),
        bytes_to_megabytes(all),
        bytes_to_megabytes(gone)
    ));
}

fn line(change: &Change) -> String {
    let version = |version: &Option<String>| version.clone().unwrap_or_default();
    let (before, after) = (version(&change.before), version(&change.after));
    let name = &change.package;
    match change.kind {
        Kind::Added => format!("  added {name} {after}"),
        Kind::Removed => format!("  removed {name} {before}"),
        Kind::Upgraded => format!("  upgraded {name} {before} → {after}"),
        Kind::Downgraded => format!("  downgraded {name} {before} → {after}"),
        Kind::Replaced => format!("  replaced {name} {after} by another file of the same version"),
    }
}

/// One line about a lock.
pub(super) fn summary(lock: &Lock) -> String {
    let wheels: u64 = lock.wheels.iter().map(|wheel| wheel.size).sum();
    let bytes = wheels + lock.packages.iter().map(|p| p.size).sum::<u64>();
    let wheels = match lock.wheels.len() {
        0 => String::new(),
        1 => format!(", Python {} with 1 wheel", lock.python),
        count => format!(", Python {} with {count} wheels", lock.python),
    };
    if lock.suite().is_none() {
        let what = match &lock.image {
            Some(image) => {
                let bytes = image.layers.iter().map(|layer| layer.size).sum();
                let megabytes = bytes_to_megabytes(bytes);
                format!("image {}, {} layers, {megabytes:.1} MB", image.manifest.short(), image.layers.len())
            }
            None => format!("no base, {} artifacts", lock.artifacts.len()),
        };
        return format!("locked: {what}, rung {}", lock.rung);
    }
    let date = lock.sources.first().map_or("no index", |s| s.date.as_str());
    let runner = if lock.runner.is_empty() { String::new() } else { format!(", runner {}", lock.runner) };
    format!(
        "locked: {} ({date}), {} packages{wheels}, {:.1} MB, rung {}{runner}",
        lock.base,
        lock.packages.len(),
        bytes_to_megabytes(bytes),
        lock.rung
    )
}

#[allow(clippy::cast_precision_loss, reason = "shown with one decimal")]
fn bytes_to_megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn view(locked: &Locked) -> serde_json::Value {
    let lock = &locked.lock;
    let changes = locked.before.as_ref().map_or_else(Vec::new, |before| diff::changes(before, lock));
    let suite = lock.base.strip_prefix("debian:").unwrap_or(&lock.base);
    serde_json::json!({
        "suite": suite,
        "base": lock.base,
        "rung": lock.rung,
        "runner": lock.runner,
        "image": lock.image,
        "patches": lock.patches,
        "refused": lock.refused,
        "sources": lock.sources,
        "artifacts": lock.artifacts,
        "python": lock.python,
        "wheels": lock.wheels,
        "packages": lock.packages,
        "changes": changes,
    })
}
