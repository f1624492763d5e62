//! From a scan and a calibration to images.

use std::path::Path;

use num_complex::{Complex32, Complex64};
use serde::Serialize;

use super::device::{Hardware, Source};
use super::images::grid;
use super::plan::ReconstructPlan;
use crate::Error;
use crate::image::Image;
use crate::mdf::{File, Mdf, MeasurementData};
use crate::physics::Grid;
use crate::prepare::{Frames, transform};
use crate::select::{Band, Row};
use crate::solve::{Control, Report};

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
    /// Norm of each frame's data.
    pub norms: Vec<f64>,
    /// What the solver says.
    pub solver: Report,
    /// What solved, and why that.
    pub device: String,
    /// What may surprise.
    pub warnings: Vec<String>,
}

/// A file with a measurement.
pub(super) struct Opened<'f> {
    pub(super) path: &'f Path,
    pub(super) mdf: Mdf,
    pub(super) data: MeasurementData<'f>,
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
    check_pair(&calibration, &scan, &mut warnings)?;
    let grid = calibration_grid(&calibration)?;
    let rows = plan.rows.rows(&band(&calibration)?)?;
    let mut wanted = Vec::new();
    for period in 0..calibration.data.periods() {
        wanted.extend(rows.iter().map(|row| (period, *row)));
    }
    let frames = scan_rows(&scan, &wanted)?;
    let frames = frames.foreground(scan.data.background(), plan.background)?.averaged(plan.average)?;
    #[expect(clippy::cast_possible_truncation, reason = "matrices and data are of single precision")]
    let data: Vec<Complex32> =
        frames.data.iter().map(|value| Complex32::new(value.re as f32, value.im as f32)).collect();
    let mut read = |index: usize, out: &mut Vec<Complex32>| {
        let (period, row) = wanted[index];
        matrix_row(&calibration, period, row, &grid, out)
    };
    let source = Source { rows: wanted.len(), columns: grid.voxels(), read: &mut read };
    let solved = hardware.solve(&plan.solver, source, &data, control)?;
    warnings.extend(solved.warnings);
    let solution = solved.solution;
    let (factor, unit) = concentration(&calibration.mdf);
    let voxels = solution.image.iter().map(|value| value.re * factor).collect();
    let image = Image::new(grid, voxels)?;
    let norm = |frame: &[Complex64]| frame.iter().map(Complex64::norm_sqr).sum::<f64>().sqrt();
    let summary = Summary {
        rows: wanted.len(),
        voxels: image.grid.voxels(),
        frames: image.frames(),
        unit,
        norms: (0..frames.count()).map(|index| norm(frames.frame(index))).collect(),
        solver: solution.report,
        device: solved.device,
        warnings,
    };
    Ok(Done { image, scan: scan.mdf, summary })
}

pub(super) fn open<'f>(path: &'f Path, file: &'f File, is_calibration: bool) -> Result<Opened<'f>, Error> {
    let (mdf, _) = Mdf::read(file)?;
    let mut data = MeasurementData::open(file, &mdf)?.converted(&mdf)?;
    if is_calibration {
        if mdf.calibration.is_none() {
            return Err(Error::Missing { path: path.into(), dataset: "/calibration".to_owned() });
        }
        if !data.is_fourier() {
            return Err(unusable(
                path,
                "/measurement/isFourierTransformed",
                "0",
                "1: a system matrix is of spectra",
            ));
        }
    } else {
        data = data.in_measured_order(&mdf)?;
    }
    Ok(Opened { path, mdf, data })
}

pub(super) fn unusable(
    path: &Path,
    dataset: &str,
    found: impl Into<String>,
    expected: impl Into<String>,
) -> Error {
    let (found, expected) = (found.into(), expected.into());
    Error::Unexpected { path: path.into(), dataset: dataset.to_owned(), found, expected }
}

/// What two files must have in common, or the system matrix is that of another scan.
fn check_pair(calibration: &Opened<'_>, scan: &Opened<'_>, warnings: &mut Vec<String>) -> Result<(), Error> {
    let of = |opened: &Opened<'_>| {
        let acquisition = &opened.mdf.acquisition;
        [
            ("/acquisition/receiver/numSamplingPoints", acquisition.receiver.num_sampling_points.to_string()),
            ("/acquisition/receiver/numChannels", opened.data.channels().to_string()),
            ("/acquisition/receiver/bandwidth", acquisition.receiver.bandwidth.to_string()),
            ("/acquisition/numPeriodsPerFrame", opened.data.periods().to_string()),
            ("/acquisition/drivefield/baseFrequency", acquisition.drive_field.base_frequency.to_string()),
            ("/acquisition/drivefield/divider", format!("{:?}", acquisition.drive_field.divider.data)),
            ("/measurement/isTransferFunctionCorrected", {
                let measurement = opened.mdf.measurement.as_ref();
                measurement.is_some_and(|of| of.is_transfer_function_corrected).to_string()
            }),
        ]
    };
    for ((dataset, expected), (_, found)) in of(calibration).into_iter().zip(of(scan)) {
        if found != expected {
            let expected = format!("{expected}, as in the calibration `{}`", calibration.path.display());
            return Err(unusable(scan.path, dataset, found, expected));
        }
    }
    let strength = |opened: &Opened<'_>| opened.mdf.acquisition.drive_field.strength.data.clone();
    let alike = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-3 * a.abs().max(b.abs());
    let (theirs, ours) = (strength(calibration), strength(scan));
    if theirs.len() != ours.len() || !theirs.iter().zip(&ours).all(alike) {
        warnings.push(format!(
            "the drive field of the scan is {ours:?} T, and {theirs:?} T in the calibration: places will be wrong"
        ));
    }
    Ok(())
}

pub(super) fn calibration_grid(calibration: &Opened<'_>) -> Result<Grid, Error> {
    let missing = || Error::Missing { path: calibration.path.into(), dataset: "/calibration".to_owned() };
    let of = calibration.mdf.calibration.as_ref().ok_or_else(missing)?;
    let grid = grid(
        calibration.path,
        "/calibration",
        of.size.as_ref(),
        of.field_of_view.as_ref(),
        of.field_of_view_center.as_ref(),
        of.order.as_deref(),
    )?;
    let positions = calibration.data.background().iter().filter(|background| !**background).count();
    if positions != grid.voxels() {
        let expected = format!("{positions} positions, as there are frames with the sample");
        return Err(unusable(calibration.path, "/calibration/size", format!("{:?}", grid.size), expected));
    }
    Ok(grid)
}

/// The frequencies of a calibration, with its SNR as the mean over the periods.
pub(super) fn band(calibration: &Opened<'_>) -> Result<Band, Error> {
    let acquisition = &calibration.mdf.acquisition;
    let points = acquisition.receiver.num_sampling_points;
    let samples = usize::try_from(points).unwrap_or(0);
    if samples < 2 {
        let dataset = "/acquisition/receiver/numSamplingPoints";
        return Err(unusable(calibration.path, dataset, points.to_string(), "2 or more"));
    }
    let mut drive = Vec::new();
    for divider in &acquisition.drive_field.divider.data {
        match usize::try_from(*divider) {
            Ok(divider) if divider > 0 => drive.push(samples / divider),
            _ => {
                let dataset = "/acquisition/drivefield/divider";
                return Err(unusable(calibration.path, dataset, divider.to_string(), "above 0"));
            }
        }
    }
    let channels = calibration.data.channels();
    let stored = calibration.data.samples();
    let frequencies = samples / 2 + 1;
    let snr = calibration.mdf.calibration.as_ref().and_then(|of| of.snr.as_ref()).map(|snr| {
        let mut mean = vec![0.0; channels * frequencies];
        #[expect(clippy::cast_precision_loss, reason = "a count of periods")]
        let share = 1.0 / calibration.data.periods() as f64;
        for (index, value) in snr.data.iter().enumerate() {
            let (channel, sample) = (index / stored % channels, index % stored);
            if let Some(frequency) = calibration.data.frequency(sample).filter(|k| *k < frequencies) {
                mean[channel * frequencies + frequency] += value * share;
            }
        }
        mean
    });
    let mut has = vec![false; frequencies];
    for frequency in (0..stored).filter_map(|sample| calibration.data.frequency(sample)) {
        if let Some(has) = has.get_mut(frequency) {
            *has = true;
        }
    }
    let bandwidth = acquisition.receiver.bandwidth;
    Ok(Band { channels, bandwidth, samples, drive, snr, stored: Some(has) })
}

/// Appends a row of the system matrix: its value at each position, less the mean background where that has not been taken off before.
pub(super) fn matrix_row(
    calibration: &Opened<'_>,
    period: usize,
    row: Row,
    grid: &Grid,
    matrix: &mut Vec<Complex32>,
) -> Result<(), Error> {
    let sample = stored_sample(calibration, row.frequency)?;
    let values: Vec<Complex64> = calibration.data.read_rows(period, row.channel, sample..sample + 1)?;
    let is_corrected = calibration.mdf.measurement.as_ref().is_some_and(|of| of.is_background_corrected);
    let words = calibration.data.background();
    let background: Vec<&Complex64> =
        values.iter().zip(words).filter(|(_, background)| **background).map(|(value, _)| value).collect();
    let mut offset = Complex64::default();
    if !is_corrected && !background.is_empty() {
        #[expect(clippy::cast_precision_loss, reason = "a count of frames")]
        let count = background.len() as f64;
        offset = background.into_iter().sum::<Complex64>() / count;
    }
    matrix.reserve(grid.voxels());
    #[expect(clippy::cast_possible_truncation, reason = "matrices are of single precision")]
    let narrow = |value: Complex64| Complex32::new(value.re as f32, value.im as f32);
    let positions = values.iter().zip(words).filter(|(_, background)| !**background);
    matrix.extend(positions.map(|(value, _)| narrow(value - offset)));
    Ok(())
}

/// Where a frequency is in a file that may have only some.
fn stored_sample(opened: &Opened<'_>, frequency: usize) -> Result<usize, Error> {
    // Files with all of them have each in its place.
    if opened.data.frequency(frequency) == Some(frequency) {
        return Ok(frequency);
    }
    let found = (0..opened.data.samples()).find(|sample| opened.data.frequency(*sample) == Some(frequency));
    found.ok_or_else(|| {
        let found = format!("without frequency {frequency} (counted from 0)");
        unusable(opened.path, "/measurement/frequencySelection", found, "with all of the chosen rows")
    })
}

/// The chosen rows of each frame of a scan, background frames with them. One frame is in memory at a time.
pub(super) fn scan_rows(scan: &Opened<'_>, wanted: &[(usize, Row)]) -> Result<Frames, Error> {
    let data = &scan.data;
    let width = if data.is_fourier() { data.samples() } else { data.samples() / 2 + 1 };
    let mut places = Vec::with_capacity(wanted.len());
    for (period, row) in wanted {
        let sample = if data.is_fourier() { stored_sample(scan, row.frequency)? } else { row.frequency };
        places.push((period * data.channels() + row.channel) * width + sample);
    }
    let mut values = Vec::with_capacity(places.len() * data.frames());
    for frame in 0..data.frames() {
        let spectra: Vec<Complex64> = if data.is_fourier() {
            data.read_frames(frame..frame + 1)?
        } else {
            transform(&data.read_frames::<f64>(frame..frame + 1)?, data.samples())?
        };
        values.extend(places.iter().map(|place| spectra[*place]));
    }
    Frames::new(places.len(), values)
}

/// What an image is multiplied by to be a concentration, and its unit.
pub(super) fn concentration(calibration: &Mdf) -> (f32, &'static str) {
    let sample = calibration.tracer.as_ref().and_then(|tracer| tracer.concentration.data.first().copied());
    match sample {
        // MDF has mol/L.
        #[expect(clippy::cast_possible_truncation, reason = "images are of single precision")]
        Some(sample) if sample.is_finite() && sample > 0.0 => ((sample * 1000.0) as f32, "mmol/L"),
        _ => (1.0, "of the calibration's sample"),
    }
}
