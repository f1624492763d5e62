//! A scan whose periods are patches of one image: focus fields move the field of view from period to period.
//!
//! `B(x) = G x + offset` is zero at `x = −G⁻¹ offset`, the middle of a period's field of view. So what a calibration at an
//! offset of its own says of a place `x` is true in the period at `x − G⁻¹ (offset − own)`.

use std::path::{Path, PathBuf};

use num_complex::Complex32;
use serde::{Deserialize, Serialize};

use super::calibration::{calibration_grid, concentration, matrix_row};
use super::memory::foresee;
use super::opened::{Divisors, Opened, open, unusable};
use super::plan::ReconstructPlan;
use super::scan::{Spans, check_pair};
use super::xspace::fields::of_periods;
use crate::Error;
use crate::mdf::File;
use crate::physics::{Grid, Tensor, Vector, norm, times};
use crate::select::Row;
use crate::solve::{Matrix, Patch, Patches};
use crate::xspace::Path as Fields;

/// How far a shift may be from whole voxels, in voxels. A patch is moved by that much at most, a twentieth of a voxel, which
/// is less than what a calibration's sample is placed with.
const OFF_MAX: f64 = 0.05;

/// From how far on that is told.
const OFF_TOLD: f64 = 1e-3;

/// How far gradients and voxels of two files may differ, relative.
const SLACK: f64 = 1e-3;

/// The image of several patches: the table `[patches]` of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PatchPlan {
    /// MDFs of calibrations at other offsets, besides the plan's `calibration`. A period has the one whose offset is nearest.
    #[serde(default)]
    pub calibrations: Vec<PathBuf>,
    /// The voxels of the whole image; as large as those of the calibrations.
    pub grid: Grid,
}

/// Of what an image is put together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PatchFigures {
    /// Patches, one for each period.
    pub patches: usize,
    /// System matrices that they share.
    pub matrices: usize,
    /// By how many voxels along x, y and z each calibration's first voxel is away from the image's first.
    pub shifts: Vec<[i64; 3]>,
}

/// The system of a scan's patches.
pub(super) struct Patched {
    pub(super) operator: Patches<'static, f32>,
    pub(super) grid: Grid,
    pub(super) figures: PatchFigures,
}

/// A calibration, and where it was made.
struct Place<'a, 'f> {
    opened: &'a Opened<'f>,
    grid: Grid,
    offset: Vector,
}

/// Puts a scan's periods together, by the plan's calibration, which is open, and others.
pub(super) fn patched(
    (plan, patches): (&ReconstructPlan, &PatchPlan),
    folder: &Path,
    (first, scan): (&Opened<'_>, &Opened<'_>),
    rows: &[Row],
    warnings: &mut Vec<String>,
) -> Result<Patched, Error> {
    patches.grid.check()?;
    let (inverse, offsets) = scan_fields(scan)?;
    let paths: Vec<PathBuf> = patches.calibrations.iter().map(|path| folder.join(path)).collect();
    let files = paths.iter().map(|path| File::open(path)).collect::<Result<Vec<_>, _>>()?;
    let mut others = Vec::new();
    for (path, file) in paths.iter().zip(&files) {
        let other = open(path, file, true)?;
        check_pair(&other, scan, (Spans::Repeated, plan.transfer_function), warnings)?;
        others.push(other);
    }
    let mut places = Vec::new();
    for opened in std::iter::once(first).chain(&others) {
        places.push(place(opened, first, scan, &patches.grid)?);
    }
    let (mut used, mut maps, mut shifts) = (Vec::new(), Vec::new(), Vec::new());
    for (period, offset) in offsets.iter().enumerate() {
        let (index, moved) = nearest(&places, offset, &inverse);
        let of = &places[index];
        let shift = whole_shift(scan, period, (&of.grid, moved), &patches.grid, warnings)?;
        let matrix = used.iter().position(|of| *of == index).unwrap_or(used.len());
        if matrix == used.len() {
            used.push(index);
        }
        maps.push(Patch::shifted(matrix, of.grid.size, patches.grid.size, shift)?);
        shifts.push(shift);
    }
    tell_cover(&maps, patches.grid.voxels(), warnings);
    let mut matrices = Vec::new();
    for index in &used {
        matrices.push(matrix(&places[*index], plan.transfer_function, rows)?);
    }
    let figures = PatchFigures { patches: maps.len(), matrices: matrices.len(), shifts };
    let operator = Patches::new(matrices, maps, patches.grid.voxels())?;
    Ok(Patched { operator, grid: patches.grid.clone(), figures })
}

/// The inverse of a scan's gradient, the same in all periods, and the offset of each period.
fn scan_fields(scan: &Opened<'_>) -> Result<(Tensor, Vec<Vector>), Error> {
    let sequence = &scan.mdf.acquisition.sequence;
    let missing = |dataset: &str| Error::Missing { path: scan.path.into(), dataset: dataset.to_owned() };
    let (name, offset) = ("/acquisition/gradient", "/acquisition/offsetField");
    let gradients = of_periods(scan, name, sequence.gradient.as_ref().ok_or_else(|| missing(name))?, 9)?;
    let offsets =
        of_periods(scan, offset, sequence.offset_field.as_ref().ok_or_else(|| missing(offset))?, 3)?;
    if let Some(other) = gradients.iter().find(|other| !alike(other, &gradients[0])) {
        let expected = format!("{:?} T/m in all periods, for patches are alike", gradients[0]);
        return Err(unusable(scan.path, name, format!("{other:?} T/m"), expected));
    }
    let gradient = std::array::from_fn(|row| std::array::from_fn(|column| gradients[0][3 * row + column]));
    let fields = Fields { gradient, offset: [0.0; 3], drive: Vec::new() };
    let inverse = fields.inverse().ok_or_else(|| {
        unusable(scan.path, name, format!("{gradient:?} T/m"), "one that leaves a point free of field")
    })?;
    let vector = |offset: &Vec<f64>| std::array::from_fn(|axis| offset[axis]);
    Ok((inverse, offsets.iter().map(vector).collect()))
}

/// Alike relative to the greatest.
fn alike(a: &[f64], b: &[f64]) -> bool {
    let most = a.iter().chain(b).fold(0.0, |most: f64, value| most.max(value.abs()));
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= SLACK * most)
}

/// Where a calibration was made, if it fits the scan, the first one and the image. Without an offset it is none.
fn place<'a, 'f>(
    opened: &'a Opened<'f>,
    first: &Opened<'_>,
    scan: &Opened<'_>,
    image: &Grid,
) -> Result<Place<'a, 'f>, Error> {
    let grid = calibration_grid(opened)?;
    if opened.data.periods() != 1 {
        let found = opened.data.periods().to_string();
        return Err(unusable(
            opened.path,
            "/acquisition/numPeriodsPerFrame",
            found,
            "1, the same in each patch",
        ));
    }
    let (voxel, wanted) = (grid.spacing(), image.spacing());
    if (0..3).any(|axis| (voxel[axis] - wanted[axis]).abs() > SLACK * wanted[axis]) {
        let (found, expected) =
            (format!("of voxels of {voxel:?} m"), format!("{wanted:?} m, as in `[patches.grid]`"));
        return Err(unusable(opened.path, "/calibration/fieldOfView", found, expected));
    }
    let sequence = &opened.mdf.acquisition.sequence;
    let theirs = scan.mdf.acquisition.sequence.gradient.as_ref().and_then(|of| of.data.get(..9));
    if let (Some(own), Some(theirs)) = (&sequence.gradient, theirs)
        && !alike(&own.data, theirs)
    {
        let (found, expected) = (format!("{:?} T/m", own.data), format!("{theirs:?} T/m, as in the scan"));
        return Err(unusable(opened.path, "/acquisition/gradient", found, expected));
    }
    let (sample, other) = (concentration(&opened.mdf), concentration(&first.mdf));
    if !alike(&[f64::from(sample.0)], &[f64::from(other.0)]) || sample.1 != other.1 {
        let expected = format!("{} {}, as in `{}`", other.0, other.1, first.path.display());
        let found = format!("{} {}", sample.0, sample.1);
        return Err(unusable(opened.path, "/tracer/concentration", found, expected));
    }
    let offset = match &sequence.offset_field {
        Some(offset) => of_periods(opened, "/acquisition/offsetField", offset, 3)?,
        None => vec![vec![0.0; 3]],
    };
    Ok(Place { opened, grid, offset: std::array::from_fn(|axis| offset[0][axis]) })
}

/// The calibration that is moved least to be that of an offset, and by how many metres.
fn nearest(places: &[Place<'_, '_>], offset: &Vector, inverse: &Tensor) -> (usize, Vector) {
    let moved = |place: &Place<'_, '_>| {
        let by: Vector = std::array::from_fn(|axis| offset[axis] - place.offset[axis]);
        times(inverse, &by).map(|value| -value)
    };
    let all = places.iter().map(moved).enumerate();
    let least = all.min_by(|one, other| norm(&one.1).total_cmp(&norm(&other.1)));
    least.unwrap_or((0, [0.0; 3]))
}

/// By how many voxels a moved grid's first voxel is away from the image's first.
fn whole_shift(
    scan: &Opened<'_>,
    period: usize,
    (grid, moved): (&Grid, Vector),
    image: &Grid,
    warnings: &mut Vec<String>,
) -> Result<[i64; 3], Error> {
    let (from, to, spacing) = (image.position(0), grid.position(0), image.spacing());
    let steps: Vector = std::array::from_fn(|axis| (to[axis] + moved[axis] - from[axis]) / spacing[axis]);
    let off = steps.iter().map(|steps| (steps - steps.round()).abs()).fold(0.0, f64::max);
    // Beyond, no voxel of a grid in memory could be met.
    let far = steps.iter().any(|steps| steps.abs() > 1e9);
    if !off.is_finite() || off > OFF_MAX || far {
        let found = format!("at {steps:?} voxels of the image in period {period} (counted from 0)");
        let expected = format!("at whole voxels, or at most {OFF_MAX} away from them");
        return Err(unusable(scan.path, "/acquisition/offsetField", found, expected));
    }
    if off > OFF_TOLD {
        warnings.push(format!(
            "the patch of period {period} (counted from 0) is moved by {off:.3} voxels, to whole ones"
        ));
    }
    #[expect(clippy::cast_possible_truncation, reason = "a whole number, which is below 10^9")]
    Ok(steps.map(|steps| steps.round() as i64))
}

/// Tells of patches without voxels, and of voxels without patches.
fn tell_cover(patches: &[Patch], voxels: usize, warnings: &mut Vec<String>) {
    let mut covered = vec![false; voxels];
    for (index, patch) in patches.iter().enumerate() {
        let mut count = 0_usize;
        for voxel in patch.voxels() {
            covered[voxel] = true;
            count += 1;
        }
        if count == 0 {
            warnings.push(format!("the patch of period {index} (counted from 0) is outside of the image"));
        }
    }
    let left = covered.iter().filter(|covered| !**covered).count();
    if left > 0 {
        warnings.push(format!("{left} of {voxels} voxels of the image are in no patch"));
    }
}

/// The chosen rows of a calibration.
fn matrix(place: &Place<'_, '_>, is_divided: bool, rows: &[Row]) -> Result<Matrix<'static, f32>, Error> {
    let columns = place.grid.voxels();
    foresee(rows.len(), columns)?;
    let divisors = Divisors::of(place.opened, is_divided)?;
    let mut entries = Vec::<Complex32>::with_capacity(rows.len() * columns);
    for row in rows {
        matrix_row(place.opened, 0, *row, divisors.as_ref(), &mut entries)?;
    }
    Matrix::new(rows.len(), columns, entries)
}
