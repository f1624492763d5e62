//! `hatchway-recon simulate`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgGroup, Args};

use super::{folder_of, report};
use crate::Error;
use crate::mdf::write::Options;
use crate::run::{SimulatePlan, read_plan, simulate_calibration, simulate_scan, simulate_truth};

/// What to compute of a plan.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("what").required(true).multiple(true).args(["scan", "calibration", "truth"]),
    after_help = "A plan is a TOML file; docs/recon.md describes it, and examples/recon has some.\n\nExample:\n  hatchway-recon simulate plan.toml --scan scan.mdf --calibration calibration.mdf"
)]
pub(super) struct Simulate {
    /// The plan.
    plan: PathBuf,
    /// Write the scan of the object here.
    #[arg(long, value_name = "FILE")]
    scan: Option<PathBuf>,
    /// Write the system matrix of the scanner here.
    #[arg(long, value_name = "FILE")]
    calibration: Option<PathBuf>,
    /// Write the image that a perfect scanner would show here.
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,
    /// Replace files that are there.
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: &Simulate) -> Result<ExitCode, Error> {
    let plan = read_plan::<SimulatePlan>(&args.plan)?.expanded()?;
    let folder = folder_of(&args.plan);
    let options = Options { overwrite: args.force, ..Options::default() };
    // What cannot be written is told before anything is computed.
    for path in [&args.scan, &args.calibration, &args.truth].into_iter().flatten() {
        if !args.force && path.symlink_metadata().is_ok() {
            return Err(Error::Exists(path.clone()));
        }
    }
    if let Some(path) = &args.scan {
        let saturated = report::busy("simulating the scan", || simulate_scan(&plan, folder, path, options))?;
        report::say(format!(
            "wrote {}: {} frames",
            path.display(),
            plan.frames + plan.background.iter().sum::<usize>()
        ));
        if saturated > 0 {
            report::say(format!(
                "warning: {saturated} samples were beyond the converters' range; widen `range`, or damp the feed-through"
            ));
        }
    }
    if let Some(path) = &args.calibration {
        report::busy("simulating the calibration", || simulate_calibration(&plan, path, options))?;
        let voxels = plan.calibration.as_ref().map_or(0, |of| of.grid.voxels());
        report::say(format!("wrote {}: {voxels} positions", path.display()));
    }
    if let Some(path) = &args.truth {
        let image = simulate_truth(&plan, folder, path, options)?;
        report::say(format!("wrote {}: {} voxels", path.display(), image.grid.voxels()));
    }
    Ok(ExitCode::SUCCESS)
}
