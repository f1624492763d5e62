//! `hatchway-recon reconstruct`.

use std::fs;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::{folder_of, report};
use crate::Error;
use crate::image::{Encoding, Image, View, write_nrrd};
use crate::mdf::Mdf;
use crate::mdf::write::Options;
use crate::run::{
    Done, ImagePlan, ReconstructPlan, XSpacePlan, XSpaceSummary, reconstruct, reconstruct_x_space,
    write_image,
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

/// The files of an image.
struct Outputs<'p> {
    folder: &'p Path,
    image: &'p Path,
    nrrd: Option<&'p Path>,
    png: Option<&'p Path>,
    view: &'p View,
}

impl Outputs<'_> {
    fn paths(&self) -> Vec<PathBuf> {
        let all = [Some(self.image), self.nrrd, self.png];
        all.into_iter().flatten().map(|path| self.folder.join(path)).collect()
    }

    /// What cannot be written is told before anything is computed.
    fn check(&self, force: bool) -> Result<(), Error> {
        match self.paths().into_iter().find(|path| !force && path.symlink_metadata().is_ok()) {
            Some(path) => Err(Error::Exists(path)),
            None => Ok(()),
        }
    }

    fn write(&self, image: &Image, scan: &Mdf, force: bool) -> Result<(), Error> {
        let options = Options { overwrite: force, ..Options::default() };
        write_image(&self.folder.join(self.image), image, scan, options)?;
        if let Some(path) = self.nrrd {
            let path = self.folder.join(path);
            whole(&path, force, |out| {
                write_nrrd(image, Encoding::Gzip, out).map_err(|source| Error::Io {
                    action: "write",
                    path: path.clone(),
                    source,
                })
            })?;
        }
        if let Some(path) = self.png {
            whole(&self.folder.join(path), force, |out| self.view.png(image, out))?;
        }
        Ok(())
    }

    /// The last lines of a summary.
    fn wrote(&self, image: &Image, unit: &str) -> String {
        let most = image.frame(0).iter().copied().fold(f32::NEG_INFINITY, f32::max);
        // Units of x-space have small numbers.
        let most = if most.abs() < 1e-3 { format!("{most:.3e}") } else { format!("{most:.3}") };
        let mut text = format!("image     up to {most} {unit}\n");
        for path in self.paths() {
            text += &format!("wrote     {}\n", path.display());
        }
        text
    }
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
        png: plan.png.as_deref(),
        view: &plan.view,
    };
    outputs.check(args.force)?;
    let steps = report::Steps::new();
    let tell = |progress| steps.at(progress);
    let done = reconstruct(plan, folder, &Control { progress: Some(&tell), ..Control::default() });
    steps.end();
    let done = done?;
    for warning in &done.summary.warnings {
        report::say(format!("warning: {warning}"));
    }
    outputs.write(&done.image, &done.scan, args.force)?;
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
        png: plan.png.as_deref(),
        view: &plan.view,
    };
    outputs.check(args.force)?;
    let done = reconstruct_x_space(plan, folder)?;
    outputs.write(&done.image, &done.scan, args.force)?;
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

fn summary(done: &Done) -> String {
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
    text
}
