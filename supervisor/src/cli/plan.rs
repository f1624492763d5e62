//! `hatchway plan`

use std::path::Path;
use std::process::ExitCode;

use hatchway_inspect::Facts;
use serde::Serialize;

use super::{NetworkArgs, inspect, run};
use crate::context::Context;
use crate::error::Error;
use crate::plan::{self, Cost, Host, Plan, Reason};
use crate::recipe::Rung;
use crate::steps;

/// Arguments of `plan`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 it can be run as planned, 1 it cannot, 2 it could not be read.\nNothing is locked, built or run."
)]
pub(super) struct Args {
    /// A recipe's name or path, a vendor's file or folder, or a package of Debian's archive
    #[arg(value_name = "NAME|FILE|DIR|SPEC")]
    target: String,
    /// Print the plan as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    network: NetworkArgs,
}

/// What `plan --json` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Planned {
    /// The recipe or the file.
    what: String,
    /// The rung in the recipe; a file has no recipe yet.
    wish: Option<Rung>,
    plan: Plan,
    costs: Vec<Cost>,
}

pub(super) fn main(args: &Args, quiet: bool) -> Result<ExitCode, Error> {
    let context = Context::open(quiet || args.json, args.network.into())?;
    let planned = if is_vendors(&context, &args.target) {
        of_file(inspect::facts(&context, &args.target)?)
    } else {
        of_recipe(&context, &args.target)?
    };
    if args.json {
        context.printer.data(super::json(&planned)?);
    } else {
        context.printer.raw(&inspect::planned(&planned.what, planned.wish, &planned.plan, &planned.costs));
    }
    Ok(if planned.plan.can_run() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// As `run` tells a file from a recipe; a folder without a recipe is a vendor's, as for `inspect`.
fn is_vendors(context: &Context, target: &str) -> bool {
    let folder = target.contains('/') && Path::new(target).is_dir();
    run::is_file(context, target) || (folder && !Path::new(target).join("recipe.toml").is_file())
}

fn of_file(facts: Facts) -> Planned {
    let plan = plan::plan(&facts, None, &Host::detect());
    let what = facts.artifact.file.clone();
    Planned { what, wish: None, plan, costs: plan::costs(&[facts]) }
}

fn of_recipe(context: &Context, name: &str) -> Result<Planned, Error> {
    let located = run::find(context, name)?;
    let (mut plan, facts) = steps::planned(context, &located)?;
    if located.recipe.image().is_some() {
        plan.rung = Rung::Vm;
        plan.reasons
            .push(Reason { rule: "recipe", text: "the recipe names a guest's disk image".to_owned() });
    }
    let missing = located.recipe.unsupported().into_iter();
    plan.obstacles.extend(missing.map(|what| Reason {
        rule: "version",
        text: format!("this version of Hatchway does not carry out {what}"),
    }));
    let what = located.recipe.package.name.to_string();
    Ok(Planned { what, wish: Some(located.recipe.run.rung), plan, costs: plan::costs(&facts) })
}
