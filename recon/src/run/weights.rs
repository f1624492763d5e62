//! What the rows of a system, and the data with them, are multiplied with.

use std::path::{Path, PathBuf};

use num_complex::Complex64;
use serde::{Deserialize, Serialize};

use super::opened::{Opened, open, unusable};
use super::scan::{Corrections, Reading, Spans, check_pair, scan_rows};
use crate::Error;
use crate::mdf::File;
use crate::select::Row;
use crate::solve::Operator;

/// Weights of rows; those that are given are multiplied with each other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct WeightPlan {
    /// The reciprocal of each row's norm: all rows count alike.
    pub row_norm: bool,
    /// One for each receive channel.
    pub channels: Vec<f64>,
    /// MDF of a scan with background frames, often the scan itself: the noise of each row, from the least of all over that of the row, so that the noise
    /// of all rows is alike. A row without any noise counts as much as the one with the least.
    pub whitening: Option<PathBuf>,
}

/// Weights, as far as they are known before the matrix.
#[derive(Debug, Default)]
pub(super) struct Weights {
    known: Option<Vec<f64>>,
    row_norm: bool,
}

impl Weights {
    /// By a plan, for rows of a calibration, whose periods a scan has once or several times. Noise is corrected as the scan
    /// is.
    pub(super) fn new(
        plan: &WeightPlan,
        folder: &Path,
        calibration: &Opened<'_>,
        (rows, spans): (&[(usize, Row)], Spans),
        corrections: Corrections,
    ) -> Result<Self, Error> {
        let mut known = None;
        if !plan.channels.is_empty() {
            known = Some(of_channels(&plan.channels, calibration.data.channels(), rows)?);
        }
        if let Some(path) = &plan.whitening {
            let whitening = whitening(&folder.join(path), calibration, (rows, spans), corrections)?;
            known = Some(match known {
                Some(known) => known.iter().zip(&whitening).map(|(a, b)| a * b).collect(),
                None => whitening,
            });
        }
        Ok(Self { known, row_norm: plan.row_norm })
    }

    /// Those of a matrix; none if there are none.
    #[expect(clippy::cast_possible_truncation, reason = "matrices are of single precision")]
    pub(super) fn of(&self, operator: &dyn Operator<f32>) -> Option<Vec<f32>> {
        if self.known.is_none() && !self.row_norm {
            return None;
        }
        let norm = |row| match f64::from(operator.row_norm_squared(row)).sqrt() {
            norm if self.row_norm && norm > 0.0 => norm.recip(),
            _ => 1.0,
        };
        let known = |row: usize| self.known.as_ref().map_or(1.0, |known| known[row]);
        Some((0..operator.rows()).map(|row| (known(row) * norm(row)) as f32).collect())
    }
}

fn of_channels(weights: &[f64], channels: usize, rows: &[(usize, Row)]) -> Result<Vec<f64>, Error> {
    if weights.len() != channels {
        return Err(Error::Dimension {
            what: "weights of channels",
            expected: channels,
            found: weights.len(),
        });
    }
    if let Some(index) = weights.iter().position(|weight| !(weight.is_finite() && *weight >= 0.0)) {
        return Err(Error::Weight { index, value: weights[index] });
    }
    Ok(rows.iter().map(|(_, row)| weights[row.channel]).collect())
}

fn whitening(
    path: &Path,
    calibration: &Opened<'_>,
    (rows, spans): (&[(usize, Row)], Spans),
    corrections: Corrections,
) -> Result<Vec<f64>, Error> {
    let file = File::open(path)?;
    let noise = open(path, &file, false)?;
    // It is only noise: a drive field of another strength makes no difference.
    check_pair(calibration, &noise, (spans, corrections.transfer_function), &mut Vec::new())?;
    if let Some((period, _)) = rows.last().filter(|(period, _)| *period >= noise.data.periods()) {
        let (dataset, found) = ("/acquisition/numPeriodsPerFrame", noise.data.periods().to_string());
        return Err(unusable(noise.path, dataset, found, format!("{}, as in the scan", period + 1)));
    }
    let reading = Reading::of(&noise, corrections, &mut Vec::new())?;
    let frames = scan_rows(&noise, rows, &reading)?;
    Ok(least_over(&frames.deviations(noise.data.background())?))
}

fn least_over(deviations: &[f64]) -> Vec<f64> {
    let least = deviations.iter().copied().filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
    deviations.iter().map(|value| if *value > 0.0 { least / value } else { 1.0 }).collect()
}

/// The norm of weighted data.
pub(super) fn norm(frame: &[Complex64], weights: Option<&[f32]>) -> f64 {
    let weight = |index: usize| weights.map_or(1.0, |weights| f64::from(weights[index]));
    frame.iter().enumerate().map(|(index, value)| (value * weight(index)).norm_sqr()).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_becomes_alike() {
        assert_eq!(least_over(&[2.0, 1.0, 4.0, 0.0]), [0.5, 1.0, 0.25, 1.0]);
    }

    #[test]
    fn channels_have_their_weights() {
        let rows = [0, 1, 1].map(|channel| (0, Row { channel, frequency: 5 }));
        assert_eq!(of_channels(&[2.0, 0.5], 2, &rows).unwrap(), [2.0, 0.5, 0.5]);
        assert!(of_channels(&[2.0], 2, &rows).is_err());
        assert!(of_channels(&[2.0, f64::NAN], 2, &rows).is_err());
    }
}
