//! The regularised solution by a decomposition of the normal equations.
//!
//! x = (AᴴA + λ I)⁻¹ Aᴴ b, or Aᴴ (A Aᴴ + λ I)⁻¹ b, whichever system is smaller; with λ > 0 they are equal, and with λ = 0
//! the second is the solution of least norm. The matrix is Hermitian and positive definite: Cholesky, row after row.

use num_complex::Complex;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::basis::in_voxels;
use super::kernels;
use super::matrix::Matrix;
use super::normalise::Normalisation;
use super::operator::Operator;
use super::prox::{Projection, check_lambda, project};
use super::real::{Real, count};
use super::vector::zeros;
use crate::Error;

/// Rows of one task.
const ROWS_PER_TASK: usize = 32;

/// Parameters of the direct solution. It minimises ‖A x − b‖² + λ ‖x‖² in a number of operations that grows with
/// min(M, N)² max(M, N), and in memory for min(M, N)² / 2 numbers and, when there are fewer voxels than rows, a second copy
/// of the matrix.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Direct {
    /// λ before normalisation, not negative; 0 unless stated, which needs a matrix of full rank.
    pub lambda: f64,
    /// What λ is multiplied with; by the system matrix unless stated.
    pub normalisation: Normalisation,
    /// Applied once, to the result, in order; none unless stated.
    pub projections: Vec<Projection>,
}

impl Direct {
    pub(super) fn check(&self) -> Result<(), Error> {
        check_lambda(self.lambda)
    }

    /// Solves one frame; `x` is overwritten.
    pub(super) fn run<T: Real>(
        &self,
        operator: &dyn Operator<T>,
        factor: &Factor<T>,
        b: &[Complex<T>],
        x: &mut [Complex<T>],
    ) {
        if factor.size() < operator.columns() {
            let mut y = b.to_vec();
            factor.solve(&mut y);
            operator.adjoint(&y, x);
        } else {
            operator.adjoint(b, x);
            factor.solve(x);
        }
        if !self.projections.is_empty() {
            in_voxels(operator.basis(), x, |x| project(&self.projections, x));
        }
    }
}

/// The lower factor L of the smaller normal equations, L Lᴴ = AᴴA + λ I or A Aᴴ + λ I.
#[derive(Debug)]
pub(super) struct Factor<T> {
    rows: Vec<Vec<Complex<T>>>,
}

impl<T: Real> Factor<T> {
    /// Decomposes.
    ///
    /// # Errors
    /// [`Error::Singular`] if what is left of a pivot is no more than rounding.
    pub(super) fn new(operator: &dyn Operator<T>, lambda: f64) -> Result<Self, Error> {
        let rows = if operator.rows() < operator.columns() {
            products(operator, lambda)
        } else {
            products(&adjoint_matrix(operator)?, lambda)
        };
        decompose(rows)
    }

    fn size(&self) -> usize {
        self.rows.len()
    }

    /// Replaces y by (L Lᴴ)⁻¹ y.
    fn solve(&self, y: &mut [Complex<T>]) {
        for (i, row) in self.rows.iter().enumerate() {
            let mut sum = [Complex::default()];
            kernels::dots(&[&row[..i]], &y[..i], &mut sum);
            y[i] = (y[i] - sum[0]).unscale(row[i].re);
        }
        for (i, row) in self.rows.iter().enumerate().rev() {
            y[i] = y[i].unscale(row[i].re);
            let (before, rest) = y.split_at_mut(i);
            kernels::axpys(&[&row[..i]], &[-rest[0]], before);
        }
    }
}

/// Aᴴ as a matrix.
fn adjoint_matrix<T: Real>(operator: &dyn Operator<T>) -> Result<Matrix<'static, T>, Error> {
    let (m, n) = (operator.rows(), operator.columns());
    let (mut entries, mut row) = (zeros(m * n), zeros(n));
    for k in 0..m {
        operator.copy_row(k, &mut row);
        row.iter().enumerate().for_each(|(column, value)| entries[column * m + k] = value.conj());
    }
    Matrix::new(n, m, entries)
}

/// The rows up to the diagonal of B Bᴴ + λ I.
fn products<T: Real>(operator: &dyn Operator<T>, lambda: f64) -> Vec<Vec<Complex<T>>> {
    let all: Vec<usize> = (0..operator.rows()).collect();
    let row = |i: usize| {
        // Row i of B Bᴴ is the conjugate of B conj(b_i).
        let mut conjugate = zeros(operator.columns());
        operator.copy_row(i, &mut conjugate);
        conjugate.iter_mut().for_each(|value| *value = value.conj());
        let mut out = zeros(i + 1);
        operator.rows_dot(&all[..=i], &conjugate, &mut out);
        out.iter_mut().for_each(|value| *value = value.conj());
        out[i] = Complex::new(T::of(out[i].re.wide() + lambda), T::zero());
        out
    };
    all.par_iter().map(|&i| row(i)).collect()
}

/// Cholesky's decomposition of rows up to the diagonal, column after column of the factor.
fn decompose<T: Real>(mut rows: Vec<Vec<Complex<T>>>) -> Result<Factor<T>, Error> {
    let size = rows.len();
    let largest = rows.iter().map(|row| row[row.len() - 1].re.wide()).fold(0.0, f64::max);
    let noise = largest * T::epsilon().wide() * count(size);
    for j in 0..size {
        let (above, below) = rows.split_at_mut(j + 1);
        let row = &mut above[j];
        let square: f64 = kernels::energy(&row[..j]);
        let pivot = row[j].re.wide() - square;
        if pivot.is_nan() || pivot <= noise {
            return Err(Error::Singular { index: j, size, value: pivot });
        }
        let diagonal = T::of(pivot.sqrt());
        row[j] = Complex::new(diagonal, T::zero());
        let conjugate: Vec<_> = row[..j].iter().map(Complex::conj).collect();
        below.par_chunks_mut(ROWS_PER_TASK).for_each(|rows| {
            let parts: Vec<_> = rows.iter().map(|row| &row[..j]).collect();
            let mut sums = zeros(parts.len());
            kernels::dots(&parts, &conjugate, &mut sums);
            rows.iter_mut().zip(&sums).for_each(|(row, sum)| row[j] = (row[j] - sum).unscale(diagonal));
        });
    }
    Ok(Factor { rows })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_without_full_rank_is_refused_with_its_pivot() {
        let entries = [(1.0, 0.0), (0.0, 1.0), (2.0, 0.0), (0.0, 2.0)];
        let entries = entries.map(|(re, im)| Complex::<f64>::new(re, im));
        let matrix = Matrix::borrowed(2, 2, &entries).unwrap();
        let said = Factor::new(&matrix, 0.0).unwrap_err().to_string();
        assert!(said.starts_with("pivot 1 of 2 of the normal equations is "), "{said}");
        assert!(Factor::new(&matrix, 1e-3).is_ok());
    }
}
