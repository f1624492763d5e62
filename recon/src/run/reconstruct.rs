//! From a scan and a calibration to images.

use std::path::Path;

use num_complex::Complex32;
use serde::Serialize;

use super::calibration::{band, calibration_grid, concentration, matrix_row};
use super::compress::{CompressionFigures, compressed};
use super::device::{Hardware, Solved, Source};
use super::opened::{Divisors, Opened, open};
use super::patches::{PatchFigures, patched};
use super::plan::ReconstructPlan;
use super::scan::{Corrections, Reading, Spans, check_pair, scan_rows};
use super::weights::{Weights, norm};
use crate::Error;
use crate::image::Image;
use crate::mdf::{File, Mdf};
use crate::select::Row;
use crate::solve::{Control, Operator, Report};

/// What has been reconstructed.
#[derive(Debug)]
pub struct Done {
    /// The images in mmol/L of the calibration's solute, or in units of its sample where that has no concentration.
    pub image: Image,
    /// What the scan's file says of itself.
    pub scan: Mdf,
    /// How it came about.
    pub summary: Summary,
}

/// Figures of a reconstruction.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Rows of the system matrix.
    pub rows: usize,
    /// Its columns.
    pub voxels: usize,
    /// Images.
    pub frames: usize,
    /// Unit of the images.
    pub unit: &'static str,
    /// Norm of each frame's data, weighted as the solver has them.
    pub norms: Vec<f64>,
    /// What the solver says.
    pub solver: Report,
    /// What is left of the matrix, if it is compressed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression: Option<CompressionFigures>,
    /// Of what patches the image is, if it is of any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patches: Option<PatchFigures>,
    /// What solved, and why that.
    pub device: String,
    /// What may surprise.
    pub warnings: Vec<String>,
}

/// Reconstructs by a plan whose paths are beside `folder`.
///
/// # Errors
/// A file cannot be read, the two do not belong together, no row is left, the solver cannot work with what there is, or
/// there is no graphics card where there must be one.
pub fn reconstruct(plan: &ReconstructPlan, folder: &Path, control: &Control<'_>) -> Result<Done, Error> {
    reconstruct_on(&Hardware::open(&plan.device)?, plan, folder, control)
}

/// The same on hardware that is open already; the plan's is not looked at.
///
/// # Errors
/// As [`reconstruct`].
pub fn reconstruct_on(
    hardware: &Hardware,
    plan: &ReconstructPlan,
    folder: &Path,
    control: &Control<'_>,
) -> Result<Done, Error> {
    let (calibration_path, scan_path) = (folder.join(&plan.calibration), folder.join(&plan.scan));
    let (calibration_file, scan_file) = (File::open(&calibration_path)?, File::open(&scan_path)?);
    let calibration = open(&calibration_path, &calibration_file, true)?;
    let scan = open(&scan_path, &scan_file, false)?;
    let mut warnings = Vec::new();
    let spans = if plan.patches.is_some() { Spans::Repeated } else { Spans::Same };
    check_pair(&calibration, &scan, (spans, plan.transfer_function), &mut warnings)?;
    let rows = plan.rows.rows(&band(&calibration)?)?;
    let mut wanted = Vec::new();
    for period in 0..scan.data.periods() {
        wanted.extend(rows.iter().map(|row| (period, *row)));
    }
    let ReconstructPlan { transfer_function, spectral_leakage, .. } = *plan;
    let corrections = Corrections { transfer_function, spectral_leakage };
    let reading = Reading::of(&scan, corrections, &mut warnings)?;
    let frames = scan_rows(&scan, &wanted, &reading)?;
    let frames = frames.foreground(scan.data.background(), plan.background)?.averaged(plan.average)?;
    #[expect(clippy::cast_possible_truncation, reason = "matrices and data are of single precision")]
    let data: Vec<Complex32> =
        frames.data.iter().map(|value| Complex32::new(value.re as f32, value.im as f32)).collect();
    let weights = Weights::new(&plan.weights, folder, &calibration, (&wanted, spans), corrections)?;
    let job = Job { hardware, plan, weights: &weights, data: &data, control };
    let (grid, solved, compression, patches) = match (&plan.patches, &plan.compression) {
        (Some(_), Some(_)) => return Err(NOT_BOTH),
        (Some(patches), None) => {
            let of = patched((plan, patches), folder, (&calibration, &scan), &rows, &mut warnings)?;
            let solved = job.solve_here("patches", &of.operator)?;
            (of.grid, solved, None, Some(of.figures))
        }
        (None, Some(compression)) => {
            let grid = calibration_grid(&calibration)?;
            let divisors = Divisors::of(&calibration, plan.transfer_function)?;
            let of = compressed(compression, &calibration, &wanted, divisors.as_ref(), &grid)?;
            let solved = job.solve_here("compressed matrices", &of.matrix)?;
            (grid, solved, Some(of.figures), None)
        }
        (None, None) => {
            let grid = calibration_grid(&calibration)?;
            let solved = job.solve(&calibration, &wanted, grid.voxels())?;
            (grid, solved, None, None)
        }
    };
    warnings.extend(solved.warnings);
    let solution = solved.solution;
    let (factor, unit) = concentration(&calibration.mdf);
    let voxels = solution.image.iter().map(|value| value.re * factor).collect();
    let image = Image::new(grid, voxels)?;
    let summary = Summary {
        rows: wanted.len(),
        voxels: image.grid.voxels(),
        frames: image.frames(),
        unit,
        norms: (0..frames.count())
            .map(|index| norm(frames.frame(index), solved.weights.as_deref()))
            .collect(),
        solver: solution.report,
        compression,
        patches,
        device: solved.device,
        warnings,
    };
    Ok(Done { image, scan: scan.mdf, summary })
}

const NOT_BOTH: Error =
    Error::Together { one: "`[patches]`", other: "`[compression]`", why: "patches have matrices of voxels" };

/// What is solved, and how.
struct Job<'a> {
    hardware: &'a Hardware,
    plan: &'a ReconstructPlan,
    weights: &'a Weights,
    data: &'a [Complex32],
    control: &'a Control<'a>,
}

impl Job<'_> {
    /// With the whole matrix of a calibration.
    fn solve(
        &self,
        calibration: &Opened<'_>,
        wanted: &[(usize, Row)],
        columns: usize,
    ) -> Result<Solved, Error> {
        let divisors = Divisors::of(calibration, self.plan.transfer_function)?;
        let mut read = |index: usize, out: &mut Vec<Complex32>| {
            let (period, row) = wanted[index];
            matrix_row(calibration, period, row, divisors.as_ref(), out)
        };
        let source = Source { rows: wanted.len(), columns, read: &mut read };
        self.hardware.solve(&self.plan.solver, self.weights, source, self.data, self.control)
    }

    /// With an operator that only the processor has.
    fn solve_here(&self, what: &str, operator: &dyn Operator<f32>) -> Result<Solved, Error> {
        let Self { hardware, plan, weights, data, control } = self;
        hardware.solve_here(what, &plan.solver, weights, operator, data, control)
    }
}
