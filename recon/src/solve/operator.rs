//! What a solver asks of a system matrix, and a matrix with weighted rows.

use num_complex::Complex;
use rayon::prelude::*;

use super::basis::Basis;
use super::kernels::Lanes;
use super::real::Real;
use super::sweeps::{Rows, Sweeps};
use crate::Error;

/// Rows of one task of [`Operator::forward`], and of one call in [`Operator::adjoint`].
const ROWS_PER_TASK: usize = 64;

/// Rows of a partial sum of [`Operator::adjoint`], at least.
const ROWS_PER_PART: usize = 256;

/// Partial sums of [`Operator::adjoint`], at most; each is an image.
const PARTS_MAX: usize = 32;

/// A linear operator A from an image of `columns()` voxels to `rows()` frequency components, known by its rows a_k.
///
/// All slices must be as long as stated, and rows below `rows()`; other calls panic. [`super::solve`] checks what
/// comes from outside. An implementation must give the same bits whatever the number of threads.
pub trait Operator<T: Real>: Sync {
    /// M.
    fn rows(&self) -> usize;

    /// N.
    fn columns(&self) -> usize;

    /// Entries that a pass over all rows reads; M N unless the matrix is sparse.
    fn entries(&self) -> usize {
        self.rows().saturating_mul(self.columns())
    }

    /// The basis whose coefficients the columns are; none where they are voxels.
    fn basis(&self) -> Option<&dyn Basis<T>> {
        None
    }

    /// ‖a_k‖², the sum of the squared magnitudes of a row.
    fn row_norm_squared(&self, row: usize) -> T;

    /// Writes a row out.
    fn copy_row(&self, row: usize, out: &mut [Complex<T>]);

    /// `out[i]` = Σ_n a_kn x_n for k = `rows[i]`, without conjugation.
    fn rows_dot(&self, rows: &[usize], x: &[Complex<T>], out: &mut [Complex<T>]);

    /// `x[n]` += Σ_i `alpha[i]` conj(a_kn) for k = `rows[i]`.
    fn rows_axpy(&self, rows: &[usize], alpha: &[Complex<T>], x: &mut [Complex<T>]);

    /// The part of [`Operator::rows_dot`] of the columns from `first` on, as many as `x` has. On this thread alone.
    fn part_dot(&self, rows: &[usize], first: usize, x: &[Complex<T>], out: &mut [Complex<T>]);

    /// [`Operator::rows_axpy`] for the columns from `first` on, as many as `x` has. On this thread alone.
    fn part_axpy(&self, rows: &[usize], alpha: &[Complex<T>], first: usize, x: &mut [Complex<T>]);

    /// [`Operator::part_dot`] for many frames.
    fn panel_dot(&self, rows: &[usize], first: usize, x: &[Lanes<T>], out: &mut [Lanes<T>]);

    /// [`Operator::part_axpy`] for many frames.
    fn panel_axpy(&self, rows: &[usize], alpha: &[Lanes<T>], first: usize, x: &mut [Lanes<T>]);

    /// Σ_n a_kn x_n.
    fn row_dot(&self, row: usize, x: &[Complex<T>]) -> Complex<T> {
        let mut out = [Complex::default()];
        self.rows_dot(&[row], x, &mut out);
        out[0]
    }

    /// x += alpha conj(a_k).
    fn row_axpy(&self, row: usize, alpha: Complex<T>, x: &mut [Complex<T>]) {
        self.rows_axpy(&[row], &[alpha], x);
    }

    /// y = A x.
    fn forward(&self, x: &[Complex<T>], y: &mut [Complex<T>]) {
        y.par_chunks_mut(ROWS_PER_TASK).enumerate().for_each(|(task, y)| {
            let rows: Vec<usize> = (task * ROWS_PER_TASK..).take(y.len()).collect();
            self.rows_dot(&rows, x, y);
        });
    }

    /// y = A x for many frames.
    fn panel_forward(&self, x: &[Lanes<T>], y: &mut [Lanes<T>]) {
        y.par_chunks_mut(ROWS_PER_TASK).enumerate().for_each(|(task, y)| {
            let rows: Vec<usize> = (task * ROWS_PER_TASK..).take(y.len()).collect();
            self.panel_dot(&rows, 0, x, y);
        });
    }

    /// x = A^H y: rows are added to partial sums, whose number depends on M alone, and these are added in pairs.
    fn adjoint(&self, y: &[Complex<T>], x: &mut [Complex<T>]) {
        let parts = self.rows().div_ceil(ROWS_PER_PART).clamp(1, PARTS_MAX);
        let size = self.rows().div_ceil(parts);
        let mut sums: Vec<Vec<Complex<T>>> =
            y.par_chunks(size).enumerate().map(|(part, y)| self.partial_adjoint(part * size, y)).collect();
        while sums.len() > 1 {
            let half = sums.len().div_ceil(2);
            let upper = sums.split_off(half);
            for (sum, other) in sums.iter_mut().zip(&upper) {
                sum.iter_mut().zip(other).for_each(|(sum, other)| *sum += other);
            }
        }
        x.copy_from_slice(&sums[0]);
    }

    /// The part of A^H y of the rows from `first` on.
    #[doc(hidden)]
    fn partial_adjoint(&self, first: usize, y: &[Complex<T>]) -> Vec<Complex<T>> {
        let mut sum = vec![Complex::default(); self.columns()];
        for (start, y) in (first..).step_by(ROWS_PER_TASK).zip(y.chunks(ROWS_PER_TASK)) {
            let rows: Vec<usize> = (start..).take(y.len()).collect();
            self.rows_axpy(&rows, y, &mut sum);
        }
        sum
    }

    /// The inner products a_i · conj(a_j) of some rows, for j < i only: row i of the triangle begins at i (i - 1) / 2.
    fn gram(&self, rows: &[usize]) -> Vec<Complex<T>> {
        let mut triangle = vec![Complex::default(); rows.len() * rows.len().saturating_sub(1) / 2];
        let mut conjugate = vec![Complex::default(); self.columns()];
        let mut column = vec![Complex::default(); rows.len()];
        for j in 0..rows.len().saturating_sub(1) {
            self.copy_row(rows[j], &mut conjugate);
            conjugate.iter_mut().for_each(|value| *value = value.conj());
            let below = &mut column[j + 1..];
            self.rows_dot(&rows[j + 1..], &conjugate, below);
            for (i, product) in (j + 1..).zip(below) {
                triangle[i * (i - 1) / 2 + j] = *product;
            }
        }
        triangle
    }

    /// Kaczmarz's method where the matrix is, if that is not in this process's memory.
    fn sweeps(&self, _: &Rows<'_, T>) -> Option<Result<Box<dyn Sweeps<T>>, Error>> {
        None
    }

    /// Whether everything that was computed until now can be relied on. Of a matrix in this process's memory it can.
    ///
    /// # Errors
    /// [`Error::GpuLost`]: since then, results are zeros.
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// ‖a_k‖² of all rows.
pub(super) fn energies<T: Real>(operator: &dyn Operator<T>) -> Vec<T> {
    (0..operator.rows()).into_par_iter().map(|row| operator.row_norm_squared(row)).collect()
}

/// An operator whose row k is multiplied with a weight w_k. The data must be, too: [`super::solve`] does it.
pub struct Weighted<'a, T: Real> {
    inner: &'a dyn Operator<T>,
    weights: &'a [T],
}

impl<T: Real> std::fmt::Debug for Weighted<'_, T> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Weighted").field("weights", &self.weights).finish_non_exhaustive()
    }
}

impl<'a, T: Real> Weighted<'a, T> {
    /// Weighs rows. A weight of zero leaves a row out.
    ///
    /// # Errors
    /// [`Error::Dimension`] unless there are M weights, [`Error::Weight`] for one that is negative or not finite.
    pub fn new(inner: &'a dyn Operator<T>, weights: &'a [T]) -> Result<Self, Error> {
        if weights.len() != inner.rows() {
            return Err(Error::Dimension { what: "weights", expected: inner.rows(), found: weights.len() });
        }
        match weights.iter().position(|weight| !(weight.is_finite() && *weight >= T::zero())) {
            Some(index) => Err(Error::Weight { index, value: weights[index].wide() }),
            None => Ok(Self { inner, weights }),
        }
    }

    fn scaled<V: Copy>(&self, rows: &[usize], values: &[V], scale: impl Fn(&mut V, T)) -> Vec<V> {
        let mut out = values.to_vec();
        self.scale(rows, &mut out, scale);
        out
    }

    fn scale<V>(&self, rows: &[usize], values: &mut [V], scale: impl Fn(&mut V, T)) {
        rows.iter().zip(values).for_each(|(&row, value)| scale(value, self.weights[row]));
    }
}

impl<T: Real> Operator<T> for Weighted<'_, T> {
    fn rows(&self) -> usize {
        self.inner.rows()
    }

    fn columns(&self) -> usize {
        self.inner.columns()
    }

    fn entries(&self) -> usize {
        self.inner.entries()
    }

    fn basis(&self) -> Option<&dyn Basis<T>> {
        self.inner.basis()
    }

    fn row_norm_squared(&self, row: usize) -> T {
        self.weights[row] * self.weights[row] * self.inner.row_norm_squared(row)
    }

    fn copy_row(&self, row: usize, out: &mut [Complex<T>]) {
        self.inner.copy_row(row, out);
        out.iter_mut().for_each(|value| *value = value.scale(self.weights[row]));
    }

    fn rows_dot(&self, rows: &[usize], x: &[Complex<T>], out: &mut [Complex<T>]) {
        self.inner.rows_dot(rows, x, out);
        self.scale(rows, out, |value, weight| *value = value.scale(weight));
    }

    fn rows_axpy(&self, rows: &[usize], alpha: &[Complex<T>], x: &mut [Complex<T>]) {
        let alpha = self.scaled(rows, alpha, |value, weight| *value = value.scale(weight));
        self.inner.rows_axpy(rows, &alpha, x);
    }

    fn forward(&self, x: &[Complex<T>], y: &mut [Complex<T>]) {
        self.inner.forward(x, y);
        y.iter_mut().zip(self.weights).for_each(|(value, weight)| *value = value.scale(*weight));
    }

    fn adjoint(&self, y: &[Complex<T>], x: &mut [Complex<T>]) {
        let y: Vec<_> = y.iter().zip(self.weights).map(|(value, weight)| value.scale(*weight)).collect();
        self.inner.adjoint(&y, x);
    }

    fn panel_forward(&self, x: &[Lanes<T>], y: &mut [Lanes<T>]) {
        self.inner.panel_forward(x, y);
        y.iter_mut().zip(self.weights).for_each(|(value, weight)| value.scale(*weight));
    }

    fn sweeps(&self, rows: &Rows<'_, T>) -> Option<Result<Box<dyn Sweeps<T>>, Error>> {
        let weights: Vec<T> = match rows.weights {
            Some(outer) => outer.iter().zip(self.weights).map(|(outer, inner)| *outer * *inner).collect(),
            None => self.weights.to_vec(),
        };
        self.inner.sweeps(&Rows { weights: Some(&weights), ..*rows })
    }

    fn check(&self) -> Result<(), Error> {
        self.inner.check()
    }

    fn part_dot(&self, rows: &[usize], first: usize, x: &[Complex<T>], out: &mut [Complex<T>]) {
        self.inner.part_dot(rows, first, x, out);
        self.scale(rows, out, |value, weight| *value = value.scale(weight));
    }

    fn part_axpy(&self, rows: &[usize], alpha: &[Complex<T>], first: usize, x: &mut [Complex<T>]) {
        let alpha = self.scaled(rows, alpha, |value, weight| *value = value.scale(weight));
        self.inner.part_axpy(rows, &alpha, first, x);
    }

    fn panel_dot(&self, rows: &[usize], first: usize, x: &[Lanes<T>], out: &mut [Lanes<T>]) {
        self.inner.panel_dot(rows, first, x, out);
        self.scale(rows, out, Lanes::scale);
    }

    fn panel_axpy(&self, rows: &[usize], alpha: &[Lanes<T>], first: usize, x: &mut [Lanes<T>]) {
        let alpha = self.scaled(rows, alpha, Lanes::scale);
        self.inner.panel_axpy(rows, &alpha, first, x);
    }
}

#[cfg(test)]
mod tests {
    use super::super::matrix::Matrix;
    use super::*;

    #[test]
    fn weights_out_of_range_are_refused() {
        let entries = [Complex::new(1.0, 0.0); 2];
        let matrix = Matrix::<f64>::borrowed(2, 1, &entries).unwrap();
        let say = |weights: &[f64]| Weighted::new(&matrix, weights).map(|_| ()).unwrap_err().to_string();
        assert_eq!(say(&[1.0]), "there are 1 weights, where there should be 2");
        let range = "and should be finite and not negative";
        assert_eq!(say(&[1.0, -2.0]), format!("weight number 1 (counted from 0) is -2, {range}"));
        assert_eq!(say(&[f64::NAN, 1.0]), format!("weight number 0 (counted from 0) is NaN, {range}"));
    }
}
