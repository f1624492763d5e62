//! `hatchway build`

use std::process::ExitCode;

use super::NetworkArgs;
use crate::context::Context;
use crate::error::Error;
use crate::{recipe, steps};

/// Arguments of `build`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A recipe's name or path
    recipe: String,
    #[command(flatten)]
    network: NetworkArgs,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn main(args: &Args, quiet: bool) -> Result<ExitCode, Error> {
    let context = Context::open(quiet || args.json, args.network.into())?;
    let located = recipe::find(&args.recipe, &context.dirs.recipes())?;
    let lock = steps::read_lock(&located)?;
    let built = steps::build(&context, &located, &lock)?;
    if args.json {
        let tree = context.store.tree(built.tree);
        context.printer.data(super::json(&serde_json::json!({
            "tree": built.tree,
            "path": tree,
            "rung": lock.rung,
            "cached": built.cached,
            "notes": built.notes,
        }))?);
        return Ok(ExitCode::SUCCESS);
    }
    for note in &built.notes {
        context.printer.say(format!("note: {note}"));
    }
    let state = if built.cached { "was built before" } else { "built" };
    context.printer.say(format!("tree {} {state}", built.tree.short()));
    context.printer.say(format!("next: hatchway run {}", located.recipe.package.name));
    Ok(ExitCode::SUCCESS)
}
