//! Rows of a system matrix as few coefficients of a cosine transform.
//!
//! The rows of a calibration resemble products of Chebyshev polynomials, so that few coefficients hold most of their energy
//! (Lampe et al., Phys. Med. Biol. 57, 2012; Knopp and Weber, IEEE Trans. Med. Imaging 32, 2013).

use std::cmp::Ordering;

use num_complex::Complex;

use super::basis::{Basis, Cosine};
use super::operator::Operator;
use super::real::Real;
use super::sparse::SparseMatrix;
use crate::Error;

/// Which coefficients of a row are kept. Those that are zero never are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Keep {
    /// max(1, floor(ratio N)) of the greatest magnitude, the first ones of equals; above 0 and at most 1.
    Ratio(f64),
    /// Those of at least this share of the row's greatest magnitude; above 0 and at most 1.
    Threshold(f64),
}

impl Keep {
    /// Refuses what is out of range.
    ///
    /// # Errors
    /// [`Error::Parameter`].
    pub fn check(self) -> Result<(), Error> {
        let (name, value) = match self {
            Self::Ratio(value) => ("ratio", value),
            Self::Threshold(value) => ("threshold", value),
        };
        if value > 0.0 && value <= 1.0 {
            return Ok(());
        }
        Err(Error::Parameter { name, value, range: "above 0 and at most 1" })
    }

    /// How many coefficients of N a row keeps at most, where that is known before.
    #[must_use]
    pub fn most(self, columns: usize) -> Option<usize> {
        match self {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 0 and the number of columns"
            )]
            Self::Ratio(ratio) => {
                Some(((ratio * super::real::count(columns)).floor() as usize).clamp(1, columns))
            }
            Self::Threshold(_) => None,
        }
    }
}

/// Compresses rows, one after the other: one row of voxels is in memory at a time.
#[derive(Debug)]
pub struct Compressor<T: Real> {
    cosine: Cosine,
    keep: Keep,
    matrix: SparseMatrix<T>,
}

impl<T: Real> Compressor<T> {
    /// For rows over a grid of voxels along x, y and z, x fastest.
    ///
    /// # Errors
    /// [`Error::Parameter`] for what is to be kept, [`Error::Axes`] for the grid.
    pub fn new(grid: [usize; 3], keep: Keep) -> Result<Self, Error> {
        keep.check()?;
        let cosine = Cosine::new(grid)?;
        Ok(Self { matrix: SparseMatrix::of_coefficients(cosine.clone())?, cosine, keep })
    }

    /// Takes memory for so many rows, where it is known how much they take.
    pub fn reserve(&mut self, rows: usize) {
        if let Some(most) = self.keep.most(self.matrix.columns()) {
            self.matrix.reserve(rows, rows.saturating_mul(most));
        }
    }

    /// Appends a row, given by its voxels. A row of zeros keeps nothing.
    ///
    /// # Errors
    /// [`Error::Dimension`] unless there are N voxels, [`Error::NotFinite`] with the voxel.
    pub fn push(&mut self, row: &[Complex<T>]) -> Result<(), Error> {
        let columns = self.matrix.columns();
        if row.len() != columns {
            return Err(Error::Dimension {
                what: "entries of a row of the matrix",
                expected: columns,
                found: row.len(),
            });
        }
        super::matrix::check_finite("voxel of the row", row)?;
        let mut coefficients = row.to_vec();
        self.cosine.coefficients(&mut coefficients);
        self.matrix.push(&select(&coefficients, self.keep))
    }

    /// What has been compressed so far.
    #[must_use]
    pub fn matrix(&self) -> &SparseMatrix<T> {
        &self.matrix
    }

    /// The matrix of coefficients.
    #[must_use]
    pub fn finish(mut self) -> SparseMatrix<T> {
        self.matrix.shrink();
        self.matrix
    }
}

fn size<T: Real>(value: &Complex<T>) -> f64 {
    value.re.wide().hypot(value.im.wide())
}

/// The kept coefficients with their places, ascending.
fn select<T: Real>(coefficients: &[Complex<T>], keep: Keep) -> Vec<(usize, Complex<T>)> {
    let mut all: Vec<(usize, f64)> = coefficients.iter().map(size).enumerate().collect();
    match keep {
        Keep::Ratio(_) => {
            let most = keep.most(all.len()).unwrap_or(all.len());
            // Equal magnitudes would otherwise be kept as the sorting pleases.
            let order =
                |a: &(usize, f64), b: &(usize, f64)| -> Ordering { b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)) };
            if most < all.len() {
                all.select_nth_unstable_by(most, order);
                all.truncate(most);
            }
        }
        Keep::Threshold(share) => {
            let least = share * all.iter().map(|value| value.1).fold(0.0, f64::max);
            all.retain(|value| value.1 >= least);
        }
    }
    all.sort_unstable_by_key(|value| value.0);
    let values = all.into_iter().map(|(place, _)| (place, coefficients[place]));
    values.filter(|(_, value)| *value != Complex::default()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values(parts: &[(f64, f64)]) -> Vec<Complex<f64>> {
        parts.iter().map(|&(re, im)| Complex::new(re, im)).collect()
    }

    fn places(coefficients: &[Complex<f64>], keep: Keep) -> Vec<usize> {
        select(coefficients, keep).into_iter().map(|(place, _)| place).collect()
    }

    #[test]
    fn the_greatest_magnitudes_are_kept() {
        let row = values(&[(1.0, 0.0), (0.0, -3.0), (0.5, 0.0), (2.0, 2.0), (0.0, 0.0)]);
        assert_eq!(places(&row, Keep::Ratio(0.4)), [1, 3]);
        // At least one, and never a zero.
        assert_eq!(places(&row, Keep::Ratio(0.01)), [1]);
        assert_eq!(places(&row, Keep::Ratio(1.0)), [0, 1, 2, 3]);
        assert_eq!(places(&row, Keep::Threshold(0.9)), [1, 3]);
        assert_eq!(places(&row, Keep::Threshold(1.0)), [1]);
        assert_eq!(places(&values(&[(0.0, 0.0); 3]), Keep::Threshold(0.5)), [0_usize; 0]);
        assert_eq!(places(&values(&[(1.0, 0.0); 4]), Keep::Ratio(0.5)), [0, 1]);
    }

    proptest! {
        /// As many as asked for, and none that is greater is left out.
        #[test]
        fn what_is_left_out_is_not_greater(
            row in proptest::collection::vec((-2_i8..3, -2_i8..3), 1..40), share in 0.01_f64..1.0, is_ratio: bool,
        ) {
            let row: Vec<Complex<f64>> =
                row.iter().map(|(re, im)| Complex::new(f64::from(*re), f64::from(*im))).collect();
            let keep = if is_ratio { Keep::Ratio(share) } else { Keep::Threshold(share) };
            let kept = select(&row, keep);
            prop_assert!(kept.windows(2).all(|pair| pair[0].0 < pair[1].0));
            prop_assert!(kept.iter().all(|(place, value)| row[*place] == *value));
            let least = kept.iter().map(|(_, value)| value.norm()).fold(f64::INFINITY, f64::min);
            let left = (0..row.len()).filter(|place| kept.iter().all(|(other, _)| other != place));
            let most_left = left.map(|place| row[place].norm()).fold(0.0, f64::max);
            prop_assert!(most_left <= least);
            let greatest = row.iter().map(|value| value.norm()).fold(0.0, f64::max);
            let nonzero = row.iter().filter(|value| value.norm() > 0.0).count();
            match keep.most(row.len()) {
                Some(most) => prop_assert_eq!(kept.len(), most.min(nonzero)),
                None => prop_assert!(nonzero == 0 || least >= share * greatest && (most_left < share * greatest)),
            }
        }
    }

    #[test]
    fn what_is_out_of_range_is_refused() {
        for (keep, text) in [
            (Keep::Ratio(0.0), "`ratio` is 0, and should be above 0 and at most 1"),
            (Keep::Ratio(1.5), "`ratio` is 1.5, and should be above 0 and at most 1"),
            (Keep::Ratio(f64::NAN), "`ratio` is NaN, and should be above 0 and at most 1"),
            (Keep::Threshold(-0.5), "`threshold` is -0.5, and should be above 0 and at most 1"),
        ] {
            assert_eq!(Compressor::<f32>::new([2, 2, 1], keep).unwrap_err().to_string(), text);
        }
        let mut compressor = Compressor::<f64>::new([3, 1, 1], Keep::Ratio(1.0)).unwrap();
        let said = compressor.push(&values(&[(1.0, 0.0)])).unwrap_err().to_string();
        assert_eq!(said, "there are 1 entries of a row of the matrix, where there should be 3");
        let said =
            compressor.push(&values(&[(1.0, 0.0), (f64::NAN, 0.0), (0.0, 0.0)])).unwrap_err().to_string();
        assert_eq!(said, "voxel of the row number 1 (counted from 0) is not finite");
    }

    #[test]
    fn a_constant_row_is_one_coefficient() {
        let mut compressor = Compressor::<f64>::new([4, 4, 1], Keep::Threshold(1e-9)).unwrap();
        compressor.push(&values(&[(0.5, 0.25); 16])).unwrap();
        compressor.push(&values(&[(0.0, 0.0); 16])).unwrap();
        let matrix = compressor.finish();
        assert_eq!((matrix.rows(), matrix.kept()), (2, 1));
        let mut row = vec![Complex::default(); 16];
        matrix.copy_row(0, &mut row);
        assert!((row[0] - Complex::new(2.0, 1.0)).norm() < 1e-14);
    }
}
