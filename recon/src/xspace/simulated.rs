//! Scans for tests: what ideal coils along the axes see of a cloud of particles.

use super::{Drive, Path, Scan};
use crate::physics::{Cloud, Coil, DriveChannel, Particle, Period, Sequence, Tensor, Vector, spectra};

/// Sensitivity of all coils in T/A.
pub(super) const SENSITIVITY: f64 = 1e-3;

/// A sequence with a drive channel along each of the first axes, and a period for each offset.
pub(super) fn sequence(gradient: &Tensor, drives: &[(f64, u32, f64)], offsets: &[Vector]) -> Sequence {
    let channel = |(axis, (amplitude, divider, phase)): (usize, &(f64, u32, f64))| DriveChannel {
        direction: std::array::from_fn(|of| if of == axis { 1.0 } else { 0.0 }),
        amplitude: *amplitude,
        divider: *divider,
        phase: *phase,
    };
    let period = |offset: &Vector| Period { gradient: *gradient, offset: *offset, drive: vec![] };
    Sequence {
        base_frequency: 2.5e6,
        channels: drives.iter().enumerate().map(channel).collect(),
        periods: offsets.iter().map(period).collect(),
    }
}

/// What as many coils as there are drive channels see.
pub(super) fn scan(sequence: &Sequence, particle: &Particle, points: &[(Vector, f64)]) -> Scan {
    let channels = sequence.channels.len();
    let coil = |axis: usize| -> Coil {
        let direction: Vector = std::array::from_fn(|of| if of == axis { SENSITIVITY } else { 0.0 });
        serde_json::from_value(serde_json::json!({ "sensitivity": direction })).unwrap()
    };
    let coils: Vec<Coil> = (0..channels).map(coil).collect();
    let drive = |(axis, channel): (usize, &DriveChannel)| Drive {
        axis,
        strength: channel.amplitude,
        frequency: sequence.base_frequency / f64::from(channel.divider),
        phase: channel.phase,
    };
    let path = |period: &Period| Path {
        gradient: period.gradient,
        offset: period.offset,
        drive: sequence.channels.iter().enumerate().map(drive).collect(),
    };
    Scan {
        samples: sequence.samples().unwrap(),
        rate: sequence.base_frequency,
        channels,
        paths: sequence.periods.iter().map(path).collect(),
        spectra: spectra(sequence, particle, &coils, &Cloud { points: points.to_vec() }).unwrap().data,
    }
}

/// Root of the mean square of differences, beside the greatest size of what is expected.
pub(super) fn off(found: &[f64], expected: &[f64]) -> f64 {
    let most = expected.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
    let sum: f64 = found.iter().zip(expected).map(|(a, b)| (a - b).powi(2)).sum();
    #[expect(clippy::cast_precision_loss, reason = "small")]
    let mean = sum / expected.len() as f64;
    mean.sqrt() / most
}
