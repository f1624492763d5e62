//! Orthonormal discrete cosine transforms over grids, which sparse system matrices are stored in.
//!
//! With n points and j, k from 0 to n-1 the matrices are (Strang, "The Discrete Cosine Transform", SIAM Review 41,
//! 1999; each scaled so that rows have norm 1):
//!
//! - DCT-I: sqrt(2/(n-1)) s(j) s(k) cos(pi j k/(n-1)), where s is sqrt(1/2) at both ends and 1 between
//! - DCT-II: sqrt(2/n) s(k) cos(pi k (2j+1)/(2n)), where s(0) is sqrt(1/2)
//! - DCT-III: the transpose of DCT-II
//! - DCT-IV: sqrt(2/n) cos(pi (2j+1) (2k+1)/(4n))
//!
//! The inverse of each is its transpose. Axes of calibration grids have at most some hundred points: a product with a
//! matrix per axis is quick enough, exact to rounding, and needs no library for fast transforms, of which none has all
//! four types for every length.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use num_complex::Complex;

/// Axes above this are no calibration grid: the matrix alone would take 128 MiB.
const AXIS_MAX: usize = 4096;

/// Which transform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transform {
    /// DCT-I.
    One,
    /// DCT-II.
    Two,
    /// DCT-III.
    Three,
    /// DCT-IV.
    Four,
}

impl Transform {
    /// The transform of a name as MDF has it: `DCT-I` to `DCT-IV`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "DCT-I" => Some(Self::One),
            "DCT-II" => Some(Self::Two),
            "DCT-III" => Some(Self::Three),
            "DCT-IV" => Some(Self::Four),
            _ => None,
        }
    }

    /// The factor from point `j` to coefficient `k` of `n`, for `n` of at least 2.
    fn factor(self, n: usize, j: usize, k: usize) -> f64 {
        let (points, at, of) = (real(n), real(j), real(k));
        let end = |place: usize, last: usize| if place == 0 || place == last { FRAC_1_SQRT_2 } else { 1.0 };
        match self {
            Self::One => {
                let scale = (2.0 / (points - 1.0)).sqrt() * end(j, n - 1) * end(k, n - 1);
                scale * (PI * at * of / (points - 1.0)).cos()
            }
            Self::Two => {
                (2.0 / points).sqrt() * end(k, n) * (PI * of * (2.0 * at + 1.0) / (2.0 * points)).cos()
            }
            Self::Three => Self::Two.factor(n, k, j),
            Self::Four => {
                (2.0 / points).sqrt() * (PI * (2.0 * at + 1.0) * (2.0 * of + 1.0) / (4.0 * points)).cos()
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "at most AXIS_MAX")]
fn real(number: usize) -> f64 {
    number as f64
}

/// The inverse transform over a grid. Axes of one point are left alone.
#[derive(Debug, Clone)]
pub struct Inverse {
    /// Per axis, slowest first: its length, and its matrix `[j][k]`; no matrix for one point.
    axes: Vec<(usize, Vec<f64>)>,
}

impl Inverse {
    /// The inverse over a grid of this shape, slowest axis first. `None` if an axis has no points or over 4096.
    #[must_use]
    pub fn new(transform: Transform, shape: &[usize]) -> Option<Self> {
        if shape.iter().any(|length| !(1..=AXIS_MAX).contains(length)) {
            return None;
        }
        let matrix = |n: usize| {
            let cell = |at: usize| transform.factor(n, at / n, at % n);
            if n == 1 { Vec::new() } else { (0..n * n).map(cell).collect() }
        };
        Some(Self { axes: shape.iter().map(|length| (*length, matrix(*length))).collect() })
    }

    /// Number of points of the grid.
    #[must_use]
    pub fn points(&self) -> usize {
        self.axes.iter().map(|(length, _)| length).product()
    }

    /// Turns coefficients into points in place. `grid` has [`Inverse::points`] elements, last axis fastest.
    pub fn apply(&self, grid: &mut [Complex<f64>]) {
        let mut stride = 1;
        for (length, matrix) in self.axes.iter().rev() {
            if !matrix.is_empty() {
                along(grid, *length, stride, matrix);
            }
            stride *= length;
        }
    }
}

/// Multiplies every line along one axis with its matrix.
fn along(grid: &mut [Complex<f64>], length: usize, stride: usize, matrix: &[f64]) {
    let mut line = vec![Complex::default(); length];
    for block in grid.chunks_exact_mut(length * stride) {
        for offset in 0..stride {
            for (value, at) in line.iter_mut().zip((offset..).step_by(stride)) {
                *value = block[at];
            }
            for (row, at) in matrix.chunks_exact(length).zip((offset..).step_by(stride)) {
                block[at] = row.iter().zip(&line).map(|(factor, value)| value * factor).sum();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Transform; 4] = [Transform::One, Transform::Two, Transform::Three, Transform::Four];

    #[test]
    fn matrices_are_orthonormal() {
        for transform in ALL {
            for n in [2, 3, 4, 7, 16] {
                for (one, other) in (0..n * n).map(|at| (at / n, at % n)) {
                    let product: f64 =
                        (0..n).map(|j| transform.factor(n, j, one) * transform.factor(n, j, other)).sum();
                    let expected = if one == other { 1.0 } else { 0.0 };
                    assert!((product - expected).abs() < 1e-13, "{transform:?} {n} {one} {other}: {product}");
                }
            }
        }
    }

    #[test]
    fn one_coefficient_is_one_cosine() {
        let mut grid = vec![Complex::default(); 4];
        grid[0] = Complex::new(2.0, 0.0);
        Inverse::new(Transform::Two, &[1, 4]).unwrap().apply(&mut grid);
        assert!(grid.iter().all(|value| (value - 1.0).norm() < 1e-15), "{grid:?}");
    }

    #[test]
    fn axes_are_bounded() {
        assert!(Inverse::new(Transform::Two, &[0]).is_none());
        assert!(Inverse::new(Transform::Two, &[AXIS_MAX + 1]).is_none());
    }
}
