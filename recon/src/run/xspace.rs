//! From a scan alone to images, in x-space.

use std::path::Path as FilePath;

use num_complex::Complex64;
use serde::Serialize;

use super::opened::{Opened, open, unusable};
use super::plan::XSpacePlan;
use super::scan::{Reading, scan_rows};
use crate::Error;
use crate::image::Image;
use crate::mdf::model::Array;
use crate::mdf::{File, Mdf};
use crate::prepare::Frames;
use crate::select::Row;
use crate::xspace::{Drive, DriveFrequency, Path, Scan, inverse_chain, line_image};

/// What has been reconstructed.
#[derive(Debug)]
pub struct XSpaceDone {
    /// The images, in the unit of the summary.
    pub image: Image,
    /// What the scan's file says of itself.
    pub scan: Mdf,
    /// How it came about.
    pub summary: XSpaceSummary,
}

/// Figures of a reconstruction in x-space.
#[derive(Clone, Debug, Serialize)]
pub struct XSpaceSummary {
    /// What is free of field: `line` or `point`.
    pub topology: &'static str,
    /// Periods of a frame.
    pub periods: usize,
    /// Voxels of an image.
    pub voxels: usize,
    /// Images.
    pub frames: usize,
    /// Unit of the images.
    pub unit: &'static str,
    /// How much earlier the signal was taken, in seconds.
    pub delay: f64,
    /// Whether the delay was found in the signal, and not given.
    pub is_delay_found: bool,
}

/// Reconstructs by a plan whose paths are beside `folder`.
///
/// # Errors
/// The scan cannot be read, does not say what fields it had, or cannot be put in its place.
pub fn reconstruct_x_space(plan: &XSpacePlan, folder: &FilePath) -> Result<XSpaceDone, Error> {
    if !(0.0..1.0).contains(&plan.transfer_floor) {
        let (name, range) = ("transfer-floor", "from 0 to below 1");
        return Err(Error::Parameter { name, value: plan.transfer_floor, range });
    }
    if plan.grid.size[2] != 1 {
        let text = format!("a grid of {:?} voxels is no plane along x and y", plan.grid.size);
        return Err(Error::XSpace(text));
    }
    let scan_path = folder.join(&plan.scan);
    let file = File::open(&scan_path)?;
    let scan = open(&scan_path, &file, false)?;
    let samples = samples(&scan)?;
    let paths = paths(&scan)?;
    let chain = chain(&scan, samples, plan.transfer_floor)?;
    let all = all_rows(&scan, samples);
    let foreground =
        scan_rows(&scan, &all, &Reading::default())?.foreground(scan.data.background(), plan.background)?;
    let rate = 2.0 * scan.mdf.acquisition.receiver.bandwidth;
    let channels = scan.data.channels();
    let seen = |values: &[Complex64]| {
        let spectra = values.iter().zip(chain.iter().cycle()).map(|(value, factor)| value * factor).collect();
        let mut seen = Scan { samples, rate, channels, paths: paths.clone(), spectra };
        if plan.x_space.drive_frequency == DriveFrequency::Lost {
            seen.drop_drive();
        }
        seen
    };
    let delay = match plan.x_space.delay {
        Some(delay) => delay,
        None => seen(foreground.averaged(0)?.frame(0)).delay()?,
    };
    let frames = foreground.averaged(plan.average)?;
    let data = images(plan, &frames, |values| {
        let mut frame = seen(values);
        frame.advance(delay);
        frame
    })?;
    let image = Image::new(plan.grid.clone(), data)?;
    let summary = XSpaceSummary {
        topology: "line",
        periods: paths.len(),
        voxels: image.grid.voxels(),
        frames: image.frames(),
        unit: "V·s/m²",
        delay,
        is_delay_found: plan.x_space.delay.is_none(),
    };
    Ok(XSpaceDone { image, scan: scan.mdf, summary })
}

fn images(
    plan: &XSpacePlan,
    frames: &Frames,
    seen: impl Fn(&[Complex64]) -> Scan,
) -> Result<Vec<f32>, Error> {
    let mut data = Vec::new();
    for index in 0..frames.count() {
        let image = line_image(&seen(frames.frame(index)), &plan.grid, &plan.x_space)?;
        #[expect(clippy::cast_possible_truncation, reason = "images are of single precision")]
        data.extend(image.iter().map(|value| *value as f32));
    }
    Ok(data)
}

/// Samples of a period.
fn samples(scan: &Opened<'_>) -> Result<usize, Error> {
    let points = scan.mdf.acquisition.receiver.num_sampling_points;
    usize::try_from(points).ok().filter(|samples| *samples > 1).ok_or_else(|| {
        unusable(scan.path, "/acquisition/receiver/numSamplingPoints", points.to_string(), "2 or more")
    })
}

/// Every frequency of every channel and period, in the order of a frame.
fn all_rows(scan: &Opened<'_>, samples: usize) -> Vec<(usize, Row)> {
    let mut rows = Vec::new();
    for period in 0..scan.data.periods() {
        for channel in 0..scan.data.channels() {
            rows.extend((0..samples / 2 + 1).map(|frequency| (period, Row { channel, frequency })));
        }
    }
    rows
}

/// What the spectra of all channels are multiplied by, C × K.
fn chain(scan: &Opened<'_>, samples: usize, floor: f64) -> Result<Vec<Complex64>, Error> {
    let (channels, frequencies) = (scan.data.channels(), samples / 2 + 1);
    let is_corrected = scan.mdf.measurement.as_ref().is_some_and(|of| of.is_transfer_function_corrected);
    let one = Complex64::new(1.0, 0.0);
    let transfer = match &scan.mdf.acquisition.receiver.transfer_function {
        Some(transfer) if !is_corrected => &transfer.data,
        // Without one the samples are taken for what the coils saw.
        _ => &vec![one; channels * frequencies],
    };
    if transfer.len() != channels * frequencies {
        let expected = format!("{channels} channels of {frequencies} frequencies");
        let found = format!("{} values", transfer.len());
        return Err(unusable(scan.path, "/acquisition/receiver/transferFunction", found, expected));
    }
    Ok(transfer.chunks_exact(frequencies).flat_map(|of| inverse_chain(of, floor)).collect())
}

/// The fields of each period.
fn paths(scan: &Opened<'_>) -> Result<Vec<Path>, Error> {
    let periods = scan.data.periods();
    let sequence = &scan.mdf.acquisition.sequence;
    let missing = |dataset: &str| Error::Missing { path: scan.path.into(), dataset: dataset.to_owned() };
    let name = "/acquisition/gradient";
    let gradient = sequence.gradient.as_ref().ok_or_else(|| missing(name))?;
    let gradients = of_periods(scan, name, gradient, 9)?;
    let offsets = match &sequence.offset_field {
        Some(offset) => of_periods(scan, "/acquisition/offsetField", offset, 3)?,
        None => vec![[0.0; 3].to_vec(); periods],
    };
    let drives = drives(scan)?;
    let path = |((gradient, offset), drive): ((Vec<f64>, Vec<f64>), Vec<Drive>)| Path {
        gradient: std::array::from_fn(|row| std::array::from_fn(|column| gradient[3 * row + column])),
        offset: std::array::from_fn(|axis| offset[axis]),
        drive,
    };
    Ok(gradients.into_iter().zip(offsets).zip(drives).map(path).collect())
}

/// So many numbers for each period: J × one step × numbers in the file, or one for all periods.
fn of_periods(
    scan: &Opened<'_>,
    dataset: &str,
    array: &Array<f64>,
    numbers: usize,
) -> Result<Vec<Vec<f64>>, Error> {
    let periods = scan.data.periods();
    let is_number = array.data.iter().all(|value| value.is_finite());
    if is_number && array.data.len() == numbers * periods {
        Ok(array.data.chunks_exact(numbers).map(<[f64]>::to_vec).collect())
    } else if is_number && array.data.len() == numbers {
        Ok(vec![array.data.clone(); periods])
    } else {
        let found = format!("{:?} values", array.shape);
        let expected = format!("{numbers} numbers for each of {periods} periods, the same all through it");
        Err(unusable(scan.path, dataset, found, expected))
    }
}

/// The drive fields of each period: channel D is along axis D.
fn drives(scan: &Opened<'_>) -> Result<Vec<Vec<Drive>>, Error> {
    let of = &scan.mdf.acquisition.drive_field;
    let channels = usize::try_from(of.num_channels).unwrap_or(0);
    let fields = of.divider.data.len();
    if !(1..=3).contains(&channels) || fields == 0 || !fields.is_multiple_of(channels) {
        let found = format!("{channels} channels with {fields} dividers");
        return Err(unusable(
            scan.path,
            "/acquisition/drivefield/divider",
            found,
            "for one to three channels",
        ));
    }
    if let Some(other) = of.waveform.data.iter().find(|waveform| *waveform != "sine") {
        let dataset = "/acquisition/drivefield/waveform";
        return Err(unusable(scan.path, dataset, format!("`{other}`"), "`sine`, whose path is known"));
    }
    if let Some(divider) = of.divider.data.iter().find(|divider| **divider < 1) {
        let dataset = "/acquisition/drivefield/divider";
        return Err(unusable(scan.path, dataset, divider.to_string(), "above 0"));
    }
    let strengths = of_periods(scan, "/acquisition/drivefield/strength", &of.strength, fields)?;
    let phases = of_periods(scan, "/acquisition/drivefield/phase", &of.phase, fields)?;
    #[expect(clippy::cast_precision_loss, reason = "dividers are small")]
    let drive = |(index, (strength, phase)): (usize, (&f64, &f64))| Drive {
        axis: index / (fields / channels),
        strength: *strength,
        frequency: of.base_frequency / of.divider.data[index] as f64,
        phase: *phase,
    };
    let period = |(strengths, phases): (&Vec<f64>, &Vec<f64>)| {
        strengths.iter().zip(phases).enumerate().map(drive).collect()
    };
    Ok(strengths.iter().zip(&phases).map(period).collect())
}
