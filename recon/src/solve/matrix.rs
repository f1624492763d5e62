//! A dense matrix of complex numbers, row after row.

use std::borrow::Cow;

use num_complex::Complex;
use rayon::prelude::*;

use super::kernels::{self, Lanes};
use super::operator::Operator;
use super::real::Real;
use crate::Error;

/// Products of fewer entries than this stay on the thread they are asked for on: about 50 µs of work, where handing
/// out takes 10 µs.
const ENTRIES_PER_TASK: usize = 1 << 17;

/// Rows of one task; a multiple of what a kernel takes at once.
const ROWS_PER_TASK: usize = 8;

/// Voxels of one task; a multiple of what a kernel takes at once.
const VOXELS_PER_TASK: usize = 1024;

/// A matrix of M rows (frequency components) and N columns (voxels), row after row. All entries are finite.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix<'a, T: Real> {
    entries: Cow<'a, [Complex<T>]>,
    columns: usize,
}

impl<'a, T: Real> Matrix<'a, T> {
    /// Takes over entries.
    ///
    /// # Errors
    /// [`Error::Empty`] without rows or columns, [`Error::Dimension`] for a wrong number of entries,
    /// [`Error::NotFinite`] for an entry that is NaN or infinite.
    pub fn new(rows: usize, columns: usize, entries: Vec<Complex<T>>) -> Result<Self, Error> {
        Self::checked(rows, columns, Cow::Owned(entries))
    }

    /// Borrows entries, such as those of a file in memory; there is no second copy.
    ///
    /// # Errors
    /// As [`Matrix::new`].
    pub fn borrowed(rows: usize, columns: usize, entries: &'a [Complex<T>]) -> Result<Self, Error> {
        Self::checked(rows, columns, Cow::Borrowed(entries))
    }

    fn checked(rows: usize, columns: usize, entries: Cow<'a, [Complex<T>]>) -> Result<Self, Error> {
        if rows == 0 || columns == 0 {
            return Err(Error::Empty { rows, columns });
        }
        if rows.checked_mul(columns) != Some(entries.len()) {
            let expected = rows.saturating_mul(columns);
            return Err(Error::Dimension { what: "entries of the matrix", expected, found: entries.len() });
        }
        check_finite("entry of the matrix", &entries)?;
        Ok(Self { entries, columns })
    }

    /// One row. Panics behind the last.
    #[must_use]
    pub fn row(&self, row: usize) -> &[Complex<T>] {
        &self.entries[row * self.columns..][..self.columns]
    }

    /// All entries, row after row.
    #[must_use]
    pub fn entries(&self) -> &[Complex<T>] {
        &self.entries
    }

    fn slices(&self, rows: &[usize]) -> Vec<&[Complex<T>]> {
        self.cut(rows, 0, self.columns)
    }

    /// The same columns of several rows.
    fn cut(&self, rows: &[usize], first: usize, length: usize) -> Vec<&[Complex<T>]> {
        rows.iter().map(|&row| &self.row(row)[first..][..length]).collect()
    }

    fn entries_of(&self, rows: &[usize]) -> usize {
        rows.len() * self.columns
    }
}

/// Refuses NaN and infinity.
///
/// # Errors
/// [`Error::NotFinite`] with the first place.
pub(crate) fn check_finite<T: Real>(what: &'static str, values: &[Complex<T>]) -> Result<(), Error> {
    match values.par_iter().position_first(|value| !(value.re.is_finite() && value.im.is_finite())) {
        Some(index) => Err(Error::NotFinite { what, index }),
        None => Ok(()),
    }
}

// Each sum and each voxel is computed whole by one task, in an order that does not depend on how the work is cut: the
// bits are the same for every number of threads.
impl<T: Real> Operator<T> for Matrix<'_, T> {
    fn rows(&self) -> usize {
        self.entries.len() / self.columns
    }

    fn columns(&self) -> usize {
        self.columns
    }

    fn row_norm_squared(&self, row: usize) -> T {
        T::of(kernels::energy(self.row(row)))
    }

    fn copy_row(&self, row: usize, out: &mut [Complex<T>]) {
        out.copy_from_slice(self.row(row));
    }

    fn rows_dot(&self, rows: &[usize], x: &[Complex<T>], out: &mut [Complex<T>]) {
        if let &[row] = rows {
            return kernels::dots(&[self.row(row)], x, out);
        }
        if self.entries_of(rows) < ENTRIES_PER_TASK {
            return kernels::dots(&self.slices(rows), x, out);
        }
        rows.par_chunks(ROWS_PER_TASK)
            .zip(out.par_chunks_mut(ROWS_PER_TASK))
            .for_each(|(rows, out)| kernels::dots(&self.slices(rows), x, out));
    }

    fn rows_axpy(&self, rows: &[usize], alpha: &[Complex<T>], x: &mut [Complex<T>]) {
        if let &[row] = rows {
            return kernels::axpys(&[self.row(row)], alpha, x);
        }
        if self.entries_of(rows) < ENTRIES_PER_TASK {
            return kernels::axpys(&self.slices(rows), alpha, x);
        }
        x.par_chunks_mut(VOXELS_PER_TASK).enumerate().for_each(|(task, x)| {
            kernels::axpys(&self.cut(rows, task * VOXELS_PER_TASK, x.len()), alpha, x);
        });
    }

    fn part_dot(&self, rows: &[usize], first: usize, x: &[Complex<T>], out: &mut [Complex<T>]) {
        kernels::dots(&self.cut(rows, first, x.len()), x, out);
    }

    fn part_axpy(&self, rows: &[usize], alpha: &[Complex<T>], first: usize, x: &mut [Complex<T>]) {
        kernels::axpys(&self.cut(rows, first, x.len()), alpha, x);
    }

    fn panel_dot(&self, rows: &[usize], first: usize, x: &[Lanes<T>], out: &mut [Lanes<T>]) {
        kernels::panel_dots(&self.cut(rows, first, x.len()), x, out);
    }

    fn panel_axpy(&self, rows: &[usize], alpha: &[Lanes<T>], first: usize, x: &mut [Lanes<T>]) {
        kernels::panel_axpys(&self.cut(rows, first, x.len()), alpha, x);
    }
}

#[cfg(test)]
mod tests {
    use super::super::order::SplitMix64;
    use super::*;

    #[test]
    fn work_that_is_handed_out_gives_the_same_bits() {
        let (m, n) = (70, 2100);
        let mut source = SplitMix64::new(3);
        let mut random = |length: usize| -> Vec<Complex<f64>> {
            (0..length).map(|_| Complex::new(source.unit(), source.unit())).collect()
        };
        let matrix = Matrix::new(m, n, random(m * n)).unwrap();
        // Not in order, as in a shuffled sweep.
        let rows: Vec<usize> = (0..m).rev().collect();
        assert!(matrix.entries_of(&rows) > ENTRIES_PER_TASK);
        let (slices, x) = (matrix.slices(&rows), random(n));
        let (mut here, mut there) = (random(m), random(m));
        kernels::dots(&slices, &x, &mut here);
        matrix.rows_dot(&rows, &x, &mut there);
        assert_eq!(here, there);
        let (mut here_x, mut there_x) = (x.clone(), x.clone());
        kernels::axpys(&slices, &here, &mut here_x);
        matrix.rows_axpy(&rows, &here, &mut there_x);
        assert_eq!(here_x, there_x);
    }

    fn one() -> Complex<f64> {
        Complex::new(1.0, 0.0)
    }

    #[test]
    fn wrong_dimensions_are_refused_with_numbers() {
        let say = |rows, columns, count| {
            Matrix::new(rows, columns, vec![one(); count]).map(|_| ()).unwrap_err().to_string()
        };
        assert_eq!(say(0, 3, 0), "a matrix of 0 rows and 3 columns has no solution");
        assert_eq!(say(2, 0, 0), "a matrix of 2 rows and 0 columns has no solution");
        assert_eq!(say(2, 3, 5), "there are 5 entries of the matrix, where there should be 6");
        assert!(say(usize::MAX, 2, 5).starts_with("there are 5 entries of the matrix"));
    }

    #[test]
    fn entries_that_are_no_numbers_are_refused_with_their_place() {
        for bad in [Complex::new(f64::NAN, 0.0), Complex::new(0.0, f64::INFINITY)] {
            let said = Matrix::borrowed(2, 2, &[one(), one(), one(), bad]).unwrap_err().to_string();
            assert_eq!(said, "entry of the matrix number 3 (counted from 0) is not finite");
        }
    }
}
