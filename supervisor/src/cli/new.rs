//! `hatchway new`

use std::process::ExitCode;

use crate::context::{Context, NetworkUse};
use crate::error::Error;
use crate::{artifact, steps};

/// Arguments of `new`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A vendor's file, or a package of Debian's archive (`debian:trixie/non-free/rar`)
    #[arg(value_name = "FILE|SPEC")]
    file: String,
    /// The recipe's name; the package's or file's own otherwise
    #[arg(long)]
    name: Option<String>,
    /// Replace a recipe of that name
    #[arg(long)]
    force: bool,
    /// Print the recipe's name and path as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn main(args: &Args, quiet: bool) -> Result<ExitCode, Error> {
    let context = Context::open(quiet, NetworkUse::default())?;
    let acquired = artifact::acquire(&context, &args.file)?;
    let facts = artifact::facts(&context, &acquired.file, acquired.sha256, &acquired.path)?;
    let folder = steps::recipes_here();
    let located = steps::new(&context, &acquired, &facts, args.name.as_deref(), &folder, args.force)?;
    if args.json {
        let path = located.path.display().to_string();
        let answer = serde_json::json!({ "name": located.recipe.package.name.to_string(), "recipe": path });
        context.printer.data(super::json(&answer)?);
    }
    context.printer.say(format!("next: hatchway lock {}", located.recipe.package.name));
    Ok(ExitCode::SUCCESS)
}
