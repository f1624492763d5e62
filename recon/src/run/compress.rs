//! A calibration's matrix as few coefficients of each row.

use num_complex::Complex32;
use serde::{Deserialize, Serialize};

use super::calibration::matrix_row;
use super::memory::foresee_rows;
use super::opened::{Divisors, Opened};
use crate::Error;
use crate::physics::Grid;
use crate::select::Row;
use crate::solve::{Compressor, Keep, SparseMatrix, entry_bytes};

/// Share of the coefficients that are kept unless a plan says otherwise; that of MPIReco.jl.
const RATIO: f64 = 0.1;

/// Rows after which the memory that a matrix will take is estimated again.
const ROWS_BETWEEN: usize = 256;

/// A transform along the axes of a grid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transform {
    /// The orthonormal cosine transform DCT-II ([`crate::solve::Cosine`]).
    #[default]
    Dct,
}

/// How a matrix is compressed: the table `[compression]` of a plan. Of ratio and threshold it has one at most.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct CompressionPlan {
    /// Share of the coefficients of each row that are kept, the greatest ones; above 0 and at most 1, 0.1 unless stated.
    pub ratio: Option<f64>,
    /// Share of a row's greatest coefficient from which on others are kept; above 0 and at most 1.
    pub threshold: Option<f64>,
    /// What the coefficients are of.
    pub transform: Transform,
}

impl CompressionPlan {
    /// Which coefficients are kept.
    ///
    /// # Errors
    /// [`Error::Together`] for a ratio and a threshold, [`Error::Parameter`] for one that is out of range.
    pub fn keep(&self) -> Result<Keep, Error> {
        let keep = match (self.ratio, self.threshold) {
            (Some(_), Some(_)) => {
                let why = "each says alone what is kept of a row";
                return Err(Error::Together { one: "`ratio`", other: "`threshold`", why });
            }
            (None, Some(threshold)) => Keep::Threshold(threshold),
            (ratio, None) => Keep::Ratio(ratio.unwrap_or(RATIO)),
        };
        keep.check()?;
        Ok(keep)
    }
}

/// What is left of a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CompressionFigures {
    /// Coefficients that are kept.
    pub kept: usize,
    /// Their share of all.
    pub kept_share: f64,
    /// Memory of the matrix, in 10⁶ bytes.
    pub megabytes: f64,
    /// Its share of the memory that the whole matrix would take.
    pub memory_share: f64,
}

impl CompressionFigures {
    #[expect(clippy::cast_precision_loss, reason = "bytes in memory are far below 2^53")]
    fn new(kept: usize, bytes: usize, rows: usize, columns: usize) -> Self {
        let all = rows as f64 * columns as f64;
        Self {
            kept,
            kept_share: kept as f64 / all,
            megabytes: bytes as f64 / 1e6,
            memory_share: bytes as f64 / (all * size_of::<Complex32>() as f64),
        }
    }
}

/// A compressed matrix.
pub(super) struct Compressed {
    pub(super) matrix: SparseMatrix<f32>,
    pub(super) figures: CompressionFigures,
}

/// Compresses the chosen rows of a calibration; one of them is in memory at a time. Rows that are stored as coefficients are
/// expanded and compressed again, for their background is taken off and other coefficients may be wanted.
pub(super) fn compressed(
    plan: &CompressionPlan,
    calibration: &Opened<'_>,
    wanted: &[(usize, Row)],
    divisors: Option<&Divisors>,
    grid: &Grid,
) -> Result<Compressed, Error> {
    let (keep, columns) = (plan.keep()?, grid.voxels());
    let mut compressor = Compressor::<f32>::new(grid.size, keep)?;
    let entry = entry_bytes::<f32>();
    foresee_rows(wanted.len(), columns, keep.most(columns).unwrap_or(1).saturating_mul(entry), 0)?;
    compressor.reserve(wanted.len());
    let mut row = Vec::with_capacity(columns);
    for (index, (period, of)) in wanted.iter().enumerate() {
        row.clear();
        matrix_row(calibration, *period, *of, divisors, &mut row)?;
        compressor.push(&row)?;
        if (index + 1) % ROWS_BETWEEN == 0 {
            let bytes = compressor.matrix().bytes();
            foresee_rows(wanted.len(), columns, bytes / (index + 1), bytes)?;
        }
    }
    let matrix = compressor.finish();
    let figures = CompressionFigures::new(matrix.kept(), matrix.bytes(), wanted.len(), columns);
    Ok(Compressed { matrix, figures })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_says_what_is_kept() {
        let keep = |text: &str| toml::from_str::<CompressionPlan>(text).unwrap().keep();
        assert_eq!(keep("").unwrap(), Keep::Ratio(0.1));
        assert_eq!(keep("transform = \"dct\"\nratio = 0.25").unwrap(), Keep::Ratio(0.25));
        assert_eq!(keep("threshold = 1e-2").unwrap(), Keep::Threshold(0.01));
        assert!(keep("ratio = 0.0").is_err() && keep("threshold = 1.5").is_err());
        let said = keep("ratio = 0.1\nthreshold = 0.1").unwrap_err().to_string();
        assert!(said.starts_with("`ratio` and `threshold` do not go together"), "{said}");
        assert!(toml::from_str::<CompressionPlan>("transform = \"fft\"").is_err());
    }

    #[test]
    fn figures_are_shares_of_the_whole_matrix() {
        let figures = CompressionFigures::new(20, 240, 4, 50);
        assert!((figures.kept_share - 0.1).abs() < 1e-15 && (figures.memory_share - 0.15).abs() < 1e-15);
        assert!((figures.megabytes - 240e-6).abs() < 1e-15);
    }
}
