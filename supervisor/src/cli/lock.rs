//! `hatchway lock`

use std::process::ExitCode;

use hatchway_envs::lock::Lock;

use super::NetworkArgs;
use crate::context::Context;
use crate::error::Error;
use crate::{recipe, steps};

/// Arguments of `lock`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A recipe's name or path
    recipe: String,
    /// Try these suites, in this order
    #[arg(long, value_name = "SUITE")]
    suite: Vec<String>,
    #[command(flatten)]
    network: NetworkArgs,
    /// Print the lock as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn main(args: &Args, quiet: bool) -> Result<ExitCode, Error> {
    let context = Context::open(quiet || args.json, args.network.into())?;
    let located = recipe::find(&args.recipe, &context.dirs.recipes())?;
    let lock = steps::lock(&context, &located, &args.suite)?;
    if args.json {
        context.printer.data(super::json(&view(&lock))?);
    } else {
        context.printer.say(summary(&lock));
        context.printer.say(format!("wrote {}", located.lock_path().display()));
        context.printer.say(format!("next: hatchway build {}", located.recipe.package.name));
    }
    Ok(ExitCode::SUCCESS)
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
    let date = lock.sources.first().map_or("", |s| s.date.as_str());
    format!(
        "locked: {} ({date}), {} packages{wheels}, {:.1} MB, rung {}",
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

fn view(lock: &Lock) -> serde_json::Value {
    let suite = lock.base.strip_prefix("debian:").unwrap_or(&lock.base);
    serde_json::json!({
        "suite": suite,
        "base": lock.base,
        "rung": lock.rung,
        "refused": lock.refused,
        "sources": lock.sources,
        "artifacts": lock.artifacts,
        "python": lock.python,
        "wheels": lock.wheels,
        "packages": lock.packages,
    })
}
