//! `hatchway native`: what a recorder starts for a native service. People say `service = "hatchway-…"` in the instrument.

use std::path::PathBuf;
use std::process::ExitCode;

use super::run::{name_of_run, name_of_unit};
use crate::context::{Context, NetworkUse};
use crate::error::Error;
use crate::launch::native;

/// Arguments of `native`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The name of this run
    #[arg(long, value_parser = name_of_run)]
    incarnation: String,
    /// The name of the unit
    #[arg(long, value_parser = name_of_unit)]
    unit: String,
    /// Where it starts
    #[arg(long)]
    folder: PathBuf,
    /// Run it as this user
    #[arg(long)]
    user: Option<String>,
    /// The program
    program: PathBuf,
    /// Its arguments
    #[arg(last = true)]
    args: Vec<String>,
}

pub(super) fn main(args: &Args, quiet: bool) -> Result<ExitCode, Error> {
    let mut context = Context::open(quiet, NetworkUse { offline: true, refresh: false })?;
    context.printer.failing_with(super::RUN_FAILURE);
    native::run(
        &context,
        &native::Request {
            unit: &args.unit,
            incarnation: &args.incarnation,
            program: &args.program,
            args: &args.args,
            folder: &args.folder,
            user: args.user.as_deref(),
        },
    )
}
