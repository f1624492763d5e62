//! The chosen rows of a scan, and whether it belongs to a calibration.

use num_complex::Complex64;

use super::opened::{Divisors, Opened, stored_sample, unusable};
use crate::Error;
use crate::prepare::{Frames, transform, without_leakage};
use crate::select::Row;

/// How the periods of a calibration are those of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spans {
    /// Each is one.
    Same,
    /// Its only one is every one: patches.
    Repeated,
}

/// What two files must have in common, or the system matrix is that of another scan. `is_divided`: what was measured is divided by the
/// receive chain here.
pub(super) fn check_pair(
    calibration: &Opened<'_>,
    scan: &Opened<'_>,
    (spans, is_divided): (Spans, bool),
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    let of = |opened: &Opened<'_>| {
        let acquisition = &opened.mdf.acquisition;
        [
            ("/acquisition/receiver/numSamplingPoints", acquisition.receiver.num_sampling_points.to_string()),
            ("/acquisition/receiver/numChannels", opened.data.channels().to_string()),
            ("/acquisition/receiver/bandwidth", acquisition.receiver.bandwidth.to_string()),
            (
                "/acquisition/numPeriodsPerFrame",
                match spans {
                    Spans::Same => opened.data.periods().to_string(),
                    Spans::Repeated => String::new(),
                },
            ),
            ("/acquisition/drivefield/baseFrequency", acquisition.drive_field.base_frequency.to_string()),
            ("/acquisition/drivefield/divider", format!("{:?}", acquisition.drive_field.divider.data)),
            ("/measurement/isTransferFunctionCorrected", {
                let measurement = opened.mdf.measurement.as_ref();
                let is_corrected = measurement.is_some_and(|of| of.is_transfer_function_corrected);
                (is_corrected || is_divided).to_string()
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
    let of_calibration = match spans {
        Spans::Same => strength(calibration),
        Spans::Repeated => strength(calibration).repeat(scan.data.periods()),
    };
    let alike = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-3 * a.abs().max(b.abs());
    let (theirs, ours) = (of_calibration, strength(scan));
    if theirs.len() != ours.len() || !theirs.iter().zip(&ours).all(alike) {
        warnings.push(format!(
            "the drive field of the scan is {ours:?} T, and {theirs:?} T in the calibration: places will be wrong"
        ));
    }
    let chain = |opened: &Opened<'_>| opened.mdf.acquisition.receiver.transfer_function.clone();
    if let (Some(theirs), Some(ours)) = (chain(calibration), chain(scan))
        && !is_divided
        && !nearly(&theirs.data, &ours.data)
    {
        warnings.push(
            "the scan's transfer function is not that of the calibration: `transfer-function = true` divides both out"
                .to_owned(),
        );
    }
    Ok(())
}

/// Alike in a thousandth of the greatest.
fn nearly(a: &[Complex64], b: &[Complex64]) -> bool {
    let most = a.iter().map(|value| value.norm()).fold(0.0, f64::max);
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).norm() <= 1e-3 * most)
}

/// What a plan wants of the data.
#[derive(Clone, Copy, Debug)]
pub(super) struct Corrections {
    pub(super) transfer_function: bool,
    pub(super) spectral_leakage: bool,
}

/// How the rows of a scan are read.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// What they are divided by.
    pub(super) divisors: Option<Divisors>,
    /// Whether what does not repeat itself is damped ([`without_leakage`]).
    pub(super) leakage: bool,
}

impl Reading {
    /// As wanted of a scan, which may have been corrected before.
    pub(super) fn of(
        scan: &Opened<'_>,
        corrections: Corrections,
        warnings: &mut Vec<String>,
    ) -> Result<Self, Error> {
        let measurement = scan.mdf.measurement.as_ref();
        let mut leakage = corrections.spectral_leakage;
        if leakage && measurement.is_some_and(|of| of.is_spectral_leakage_corrected) {
            warnings.push("the scan's spectral leakage was corrected before, and is not again".to_owned());
            leakage = false;
        }
        if leakage && scan.data.is_fourier() {
            let dataset = "/measurement/isFourierTransformed";
            return Err(unusable(scan.path, dataset, "1", "0: spectral leakage is corrected in samples"));
        }
        Ok(Self { divisors: Divisors::of(scan, corrections.transfer_function)?, leakage })
    }
}

/// The chosen rows of each frame of a scan, background frames with them. Three frames are in memory at a time.
pub(super) fn scan_rows(
    scan: &Opened<'_>,
    wanted: &[(usize, Row)],
    reading: &Reading,
) -> Result<Frames, Error> {
    let data = &scan.data;
    let width = if data.is_fourier() { data.samples() } else { data.samples() / 2 + 1 };
    let mut places = Vec::with_capacity(wanted.len());
    for (period, row) in wanted {
        let sample = if data.is_fourier() { stored_sample(scan, row.frequency)? } else { row.frequency };
        let factor = match &reading.divisors {
            Some(divisors) => divisors.at(scan, row.channel, row.frequency)?.inv(),
            None => Complex64::new(1.0, 0.0),
        };
        places.push(((period * data.channels() + row.channel) * width + sample, factor));
    }
    let mut values = Vec::with_capacity(places.len() * data.frames());
    for frame in 0..data.frames() {
        let spectra: Vec<Complex64> = if data.is_fourier() {
            data.read_frames(frame..frame + 1)?
        } else {
            transform(&samples(scan, frame, reading.leakage)?, data.samples())?
        };
        values.extend(places.iter().map(|(place, factor)| spectra[*place] * factor));
    }
    Frames::new(places.len(), values)
}

/// The samples of a frame; with `leakage`, windowed with those of its neighbours of the same kind.
fn samples(scan: &Opened<'_>, frame: usize, leakage: bool) -> Result<Vec<f64>, Error> {
    let data = &scan.data;
    if !leakage {
        return data.read_frames(frame..frame + 1);
    }
    let kinds = data.background();
    let alike = |other: &usize| kinds.get(*other) == Some(&kinds[frame]);
    let first = frame.checked_sub(1).filter(alike).unwrap_or(frame);
    let last = Some(frame + 1).filter(alike).unwrap_or(frame);
    let all: Vec<f64> = data.read_frames(first..last + 1)?;
    Ok(without_leakage(&all, last + 1 - first, [data.periods(), data.channels(), data.samples()]))
}
