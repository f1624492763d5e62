//! `hatchway inspect`: facts and plan, as a report for a terminal or as JSON.

mod changes;
mod layout;
mod loader;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use hatchway_inspect::Facts;
use schemars::JsonSchema;
use serde::Serialize;

use super::NetworkArgs;
use crate::artifact;
use crate::context::Context;
use crate::error::Error;
use crate::plan::{self, Host, Plan};

pub(super) use changes::DiffReport;
pub(super) use loader::{TreeReport, WhyReport};
pub(super) use report::planned;

/// The version of what `inspect --json` prints; that of the facts is counted by itself.
const SCHEMA: u32 = 1;

/// Arguments of `inspect`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 it can be run as planned, 1 it cannot (or, with --diff, something changed), \
    2 it could not be read.\nNothing of the file is ever executed."
)]
pub(super) struct Args {
    /// A vendor's file or folder, or a package of Debian's archive (`debian:trixie/non-free/rar`)
    #[arg(value_name = "FILE|DIR|SPEC")]
    file: String,
    /// Show who needs which library, where the loader finds it and by which rule
    #[arg(long, value_name = "PROGRAM", num_args = 0..=1, require_equals = true, conflicts_with_all = ["why", "diff"])]
    tree: Option<Option<String>>,
    /// Explain one library: who wants it, what was tried, what is found, in which versions
    #[arg(long, value_name = "SONAME", conflicts_with = "diff")]
    why: Option<String>,
    /// Look for libraries in this tree too, as if the file were unpacked over it (`/` is this host)
    #[arg(long, value_name = "DIR", conflicts_with = "diff")]
    root: Option<PathBuf>,
    /// Say what changed since an older version of the same software
    #[arg(long, value_name = "OLD")]
    diff: Option<String>,
    /// Say what each rung would cost, and what would be lost there
    #[arg(long, conflicts_with_all = ["tree", "why", "diff", "root"])]
    rungs: bool,
    /// Print JSON, as docs/schemas/ describes it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    network: NetworkArgs,
}

/// What `inspect --json` prints.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(extend("$id" = "urn:hatchway:inspect:1"))]
pub(super) struct Report<'r> {
    /// The version of this form.
    #[schemars(extend("const" = SCHEMA))]
    schema: u32,
    /// What is in the file.
    facts: &'r Facts,
    /// How it would be run, and why.
    plan: &'r Plan,
    /// With `--root`: what would not load over that tree, each with the file that wants it.
    #[serde(skip_serializing_if = "Option::is_none")]
    fails_over_root: Option<Vec<String>>,
}

pub(super) fn main(args: &Args, quiet: bool) -> Result<ExitCode, Error> {
    let context = Context::open(quiet || args.json, args.network.into())?;
    if args.tree.is_some() || args.why.is_some() {
        return loader::main(&context, args);
    }
    let facts = facts(&context, &args.file)?;
    if let Some(old) = &args.diff {
        return changes::main(&context, &self::facts(&context, old)?, &facts, args.json);
    }
    let plan = plan::plan(&facts, None, &Host::detect());
    if args.rungs {
        let costs = plan::costs(std::slice::from_ref(&facts));
        if args.json {
            context.printer.data(super::json(&costs)?);
        } else {
            context.printer.raw(&report::rungs(&costs, plan.rung));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let fails = args.root.as_ref().map(|_| loader::failures(&context, args)).transpose()?;
    let loads = fails.as_ref().is_none_or(Vec::is_empty);
    if args.json {
        let report = Report { schema: SCHEMA, facts: &facts, plan: &plan, fails_over_root: fails };
        context.printer.data(super::json(&report)?);
    } else {
        context.printer.raw(&report::text(&facts, &plan, args.root.as_deref().zip(fails.as_deref())));
    }
    Ok(if plan.can_run() && loads { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// The facts of a vendor's file or folder, or of a package of Debian's archive.
pub(super) fn facts(context: &Context, file: &str) -> Result<Facts, Error> {
    if Path::new(file).is_dir() {
        return Ok(hatchway_inspect::inspect(Path::new(file))?);
    }
    let acquired = artifact::acquire(context, file)?;
    artifact::facts(context, &acquired.file, acquired.sha256, &acquired.path)
}
