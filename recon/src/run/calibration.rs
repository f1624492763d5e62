//! A system matrix and its grid, from a calibration's file.

use num_complex::{Complex32, Complex64};

use super::images::grid;
use super::opened::{Divisors, Opened, stored_sample, unusable};
use crate::Error;
use crate::mdf::Mdf;
use crate::physics::Grid;
use crate::select::{Band, Row};

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

/// Appends a row of the system matrix: its value at each position, less the mean background where that has not been taken off before, over
/// the divisor of the row.
pub(super) fn matrix_row(
    calibration: &Opened<'_>,
    period: usize,
    row: Row,
    divisors: Option<&Divisors>,
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
    let divisor = match divisors {
        Some(divisors) => divisors.at(calibration, row.channel, row.frequency)?,
        None => Complex64::new(1.0, 0.0),
    };
    #[expect(clippy::cast_possible_truncation, reason = "matrices are of single precision")]
    let narrow = |value: Complex64| Complex32::new(value.re as f32, value.im as f32);
    let positions = values.iter().zip(words).filter(|(_, background)| !**background);
    matrix.extend(positions.map(|(value, _)| narrow((value - offset) / divisor)));
    Ok(())
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
