//! `hatchway-recon reconstruct`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::outputs::Outputs;
use super::{folder_of, report};
use crate::Error;
use crate::run::{
    Done, ImagePlan, ReconstructPlan, XSpacePlan, XSpaceSummary, reconstruct, reconstruct_x_space,
};
use crate::solve::Control;

/// A plan to be carried out.
#[derive(Debug, Args)]
#[command(
    after_help = "A plan is a TOML file; docs/recon.md describes it, and examples/recon has some.\n\nExample:\n  hatchway-recon reconstruct plan.toml"
)]
pub(super) struct Reconstruct {
    /// The plan; paths in it are beside it.
    plan: PathBuf,
    /// Replace files that are there.
    #[arg(long)]
    force: bool,
    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Reconstruct) -> Result<ExitCode, Error> {
    let folder = folder_of(&args.plan);
    match ImagePlan::read(&args.plan)? {
        ImagePlan::SystemMatrix(plan) => by_matrix(&plan, folder, args)?,
        ImagePlan::XSpace(plan) => by_place(&plan, folder, args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn by_matrix(plan: &ReconstructPlan, folder: &Path, args: &Reconstruct) -> Result<(), Error> {
    let outputs = Outputs {
        folder,
        image: &plan.image,
        nrrd: plan.nrrd.as_deref(),
        nifti: plan.nifti.as_deref(),
        dicom: plan.dicom.as_deref(),
        png: plan.png.as_deref(),
        view: &plan.view,
    };
    let mut inputs = vec![plan.scan.as_path(), plan.calibration.as_path()];
    inputs.extend(plan.weights.whitening.as_deref());
    inputs.extend(plan.patches.iter().flat_map(|patches| &patches.calibrations).map(PathBuf::as_path));
    outputs.check(&inputs, args.force)?;
    let steps = report::Steps::new();
    let tell = |progress| steps.at(progress);
    let done = reconstruct(plan, folder, &Control { progress: Some(&tell), ..Control::default() });
    steps.end();
    let done = done?;
    for warning in &done.summary.warnings {
        report::say(format!("warning: {warning}"));
    }
    outputs.write(&done.image, &done.scan, done.summary.unit, args.force)?;
    if args.json {
        return report::json(&done.summary);
    }
    report::data(summary(&done) + &outputs.wrote(&done.image, done.summary.unit))
}

fn by_place(plan: &XSpacePlan, folder: &Path, args: &Reconstruct) -> Result<(), Error> {
    let outputs = Outputs {
        folder,
        image: &plan.image,
        nrrd: plan.nrrd.as_deref(),
        nifti: plan.nifti.as_deref(),
        dicom: plan.dicom.as_deref(),
        png: plan.png.as_deref(),
        view: &plan.view,
    };
    outputs.check(&[&plan.scan], args.force)?;
    let done = report::busy("reconstructing in x-space", || reconstruct_x_space(plan, folder))?;
    outputs.write(&done.image, &done.scan, done.summary.unit, args.force)?;
    if args.json {
        return report::json(&done.summary);
    }
    report::data(placed(&done.summary) + &outputs.wrote(&done.image, done.summary.unit))
}

/// What an image in x-space came of.
fn placed(of: &XSpaceSummary) -> String {
    let how = |is_found| if is_found { "found" } else { "as given" };
    let mut text = format!(
        "x-space   field-free {}, {} periods, {} voxels\nframes    {}\ndelay     {:.3} us, {}\n",
        of.topology,
        of.periods,
        of.voxels,
        of.frames,
        of.delay * 1e6,
        how(of.is_delay_found)
    );
    if of.unreached > 0 {
        text += &format!("unreached {} voxels, filled from their neighbours\n", of.unreached);
    }
    if of.relaxation > 0.0 {
        text += &format!("relaxed   {:.3} us, {}\n", of.relaxation * 1e6, how(of.is_relaxation_found));
    }
    if let Some(way) = of.deconvolution {
        let residual =
            of.residuals.first().map_or(String::new(), |of| format!(", residual {:.1} %", of * 100.0));
        text += &format!("sharpened {way}{residual}\n");
    }
    text
}

fn summary(done: &Done) -> String {
    let summary = &done.summary;
    let solver = &summary.solver;
    let mut text = format!(
        "system    {} rows ({} of them zero), {} voxels\nframes    {}\n",
        summary.rows, solver.rows_skipped, summary.voxels, summary.frames
    );
    if let Some(of) = &summary.compression {
        text += &format!(
            "kept      {} coefficients ({:.1} %), {:.2} MB, {:.1} % of the whole matrix\n",
            of.kept,
            of.kept_share * 100.0,
            of.megabytes,
            of.memory_share * 100.0
        );
    }
    if let Some(of) = &summary.patches {
        text += &format!("patches   {}, of {} system matrices\n", of.patches, of.matrices);
    }
    text += &format!("device    {}\n", summary.device);
    if let Some(Some(lambda)) = solver.lambdas.first() {
        text += &format!("lambda    {lambda:.3e} after normalisation\n");
    }
    if let (Some(iterations), Some(residual), Some(norm)) =
        (solver.iterations.first(), solver.residuals.first(), summary.norms.first())
    {
        text += &format!(
            "solved    {iterations} iterations, residual {:.1} % of the data\n",
            residual / norm * 100.0
        );
    }
    text
}
