//! `hatchway-recon reconstruct`.

use std::fs;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::{folder_of, report};
use crate::Error;
use crate::image::{Encoding, write_nrrd};
use crate::mdf::write::Options;
use crate::run::{Done, ReconstructPlan, read_plan, reconstruct, write_image};
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
    let plan: ReconstructPlan = read_plan(&args.plan)?;
    let folder = folder_of(&args.plan);
    let outputs: Vec<PathBuf> = [Some(&plan.image), plan.nrrd.as_ref(), plan.png.as_ref()]
        .into_iter()
        .flatten()
        .map(|path| folder.join(path))
        .collect();
    // What cannot be written is told before anything is computed.
    for path in &outputs {
        if !args.force && path.symlink_metadata().is_ok() {
            return Err(Error::Exists(path.clone()));
        }
    }
    let steps = report::Steps::new();
    let tell = |progress| steps.at(progress);
    let done = reconstruct(&plan, folder, &Control { progress: Some(&tell), ..Control::default() });
    steps.end();
    let done = done?;
    for warning in &done.summary.warnings {
        report::say(format!("warning: {warning}"));
    }
    write(&plan, folder, &done, args.force)?;
    if args.json {
        report::json(&done.summary)?;
    } else {
        report::data(summary(&done, &outputs))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write(plan: &ReconstructPlan, folder: &Path, done: &Done, force: bool) -> Result<(), Error> {
    let options = Options { overwrite: force, ..Options::default() };
    write_image(&folder.join(&plan.image), &done.image, &done.scan, options)?;
    if let Some(path) = &plan.nrrd {
        whole(&folder.join(path), force, |out| {
            write_nrrd(&done.image, Encoding::Gzip, out).map_err(|source| Error::Io {
                action: "write",
                path: folder.join(path),
                source,
            })
        })?;
    }
    if let Some(path) = &plan.png {
        whole(&folder.join(path), force, |out| plan.view.png(&done.image, out))?;
    }
    Ok(())
}

/// Writes a file that has its name only once it is whole.
pub(super) fn whole(
    path: &Path,
    force: bool,
    write: impl FnOnce(&mut BufWriter<&fs::File>) -> Result<(), Error>,
) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    let io = |source| Error::Io { action: "write", path: path.into(), source };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = tempfile::Builder::new()
        .prefix(".image-")
        .permissions(fs::Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(io)?;
    let mut out = BufWriter::new(file.as_file());
    write(&mut out)?;
    out.into_inner().map_err(|error| io(error.into_error()))?.sync_all().map_err(io)?;
    let named = if force { file.persist(path) } else { file.persist_noclobber(path) };
    named.map(drop).map_err(|error| io(error.error))
}

fn summary(done: &Done, outputs: &[PathBuf]) -> String {
    let summary = &done.summary;
    let solver = &summary.solver;
    let mut text = format!(
        "system    {} rows ({} of them zero), {} voxels\nframes    {}\n",
        summary.rows, solver.rows_skipped, summary.voxels, summary.frames
    );
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
    let most = done.image.frame(0).iter().copied().fold(f32::NEG_INFINITY, f32::max);
    text += &format!("image     up to {most:.3} {}\n", summary.unit);
    for path in outputs {
        text += &format!("wrote     {}\n", path.display());
    }
    text
}
