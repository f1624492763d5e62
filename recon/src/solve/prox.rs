//! Projections onto constraints, and proximal maps of penalties.
//!
//! The proximal map of a penalty g with an amount t takes b to the x that minimises ½‖x − b‖² + t g(x).

use num_complex::Complex;
use serde::{Deserialize, Serialize};

use super::real::Real;
use super::tv;
use crate::Error;

/// A constraint that an image is projected onto.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Projection {
    /// Imaginary parts are set to zero.
    Real,
    /// Imaginary parts are set to zero, then negative real parts: it implies [`Projection::Real`].
    Positive,
}

impl Projection {
    fn apply<T: Real>(self, x: &mut [Complex<T>]) {
        for value in x {
            value.im = T::zero();
            if self == Self::Positive && value.re < T::zero() {
                value.re = T::zero();
            }
        }
    }
}

/// Applies projections in order.
pub(super) fn project<T: Real>(projections: &[Projection], x: &mut [Complex<T>]) {
    projections.iter().for_each(|projection| projection.apply(x));
}

/// Which differences of a voxel are taken together by total variation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variation {
    /// The root of the sum of the squared differences along all axes.
    #[default]
    Isotropic,
    /// The sum of the magnitudes of the differences.
    Anisotropic,
}

/// A penalty with its parameter. The solver says what `lambda` is multiplied with.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Penalty {
    /// λ Σ |x_n|, whose map is x max(|x| − t, 0) / |x|, and 0 at 0.
    L1 {
        /// λ ≥ 0.
        lambda: f64,
    },
    /// λ Σ |x_n|², whose map is x / (1 + 2 t).
    L2 {
        /// λ ≥ 0.
        lambda: f64,
    },
    /// λ times the total variation: forward differences, none at the far edge, by ten steps of fast gradient
    /// projection (Beck and Teboulle 2009).
    Tv {
        /// λ ≥ 0.
        lambda: f64,
        /// Voxels along x, y and z; their product is N. The voxel (i, j, k) is number i + nx (j + ny k).
        grid: [usize; 3],
        /// Which differences are taken together.
        #[serde(default)]
        kind: Variation,
    },
}

impl Penalty {
    /// λ as it is in the plan.
    #[must_use]
    pub fn lambda(&self) -> f64 {
        match *self {
            Self::L1 { lambda } | Self::L2 { lambda } | Self::Tv { lambda, .. } => lambda,
        }
    }

    /// Checks the parameters against an image of `columns` voxels.
    ///
    /// # Errors
    /// [`Error::Parameter`] for λ, [`Error::Grid`] for the grid.
    pub(super) fn check(&self, columns: usize) -> Result<(), Error> {
        check_lambda(self.lambda())?;
        match *self {
            Self::Tv { grid, .. }
                if grid.iter().try_fold(1_usize, |n, &size| n.checked_mul(size)) != Some(columns) =>
            {
                Err(Error::Grid { grid, columns })
            }
            _ => Ok(()),
        }
    }

    /// Applies the proximal map with an amount t ≥ 0, which replaces λ.
    pub(super) fn apply<T: Real>(&self, x: &mut [Complex<T>], amount: T) {
        match *self {
            Self::L1 { .. } => x.iter_mut().for_each(|value| *value = soft(*value, amount)),
            Self::L2 { .. } => {
                let factor = (T::one() + (amount + amount)).recip();
                x.iter_mut().for_each(|value| *value = value.scale(factor));
            }
            Self::Tv { grid, kind, .. } => tv::apply(x, amount, grid, kind),
        }
    }
}

fn soft<T: Real>(value: Complex<T>, amount: T) -> Complex<T> {
    let size = value.norm();
    if size <= amount {
        return Complex::default();
    }
    // Elsewhere a precision is added to x and |x|, against 0 / 0. In single precision that shifts an image by some 1e-5
    // within ten iterations.
    value.scale((size - amount) / size)
}

/// λ is finite and not negative.
pub(super) fn check_lambda(lambda: f64) -> Result<(), Error> {
    if lambda.is_finite() && lambda >= 0.0 {
        return Ok(());
    }
    Err(Error::Parameter { name: "lambda", value: lambda, range: "finite and not negative" })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn positive_implies_real() {
        let mut x = [Complex::new(1.0, 2.0), Complex::new(-1.0, 2.0)];
        project(&[Projection::Positive], &mut x);
        assert_eq!(x, [Complex::new(1.0, 0.0), Complex::new(0.0, 0.0)]);
        let mut x = [Complex::new(-1.0, 2.0)];
        project(&[Projection::Real], &mut x);
        assert_eq!(x, [Complex::new(-1.0, 0.0)]);
    }

    #[test]
    fn parameters_out_of_range_are_refused() {
        let say = |penalty: Penalty| penalty.check(24).unwrap_err().to_string();
        assert_eq!(
            say(Penalty::L1 { lambda: -1.0 }),
            "`lambda` is -1, and should be finite and not negative"
        );
        assert!(say(Penalty::L2 { lambda: f64::NAN }).starts_with("`lambda` is NaN"));
        let tv = |grid| Penalty::Tv { lambda: 1.0, grid, kind: Variation::Isotropic };
        assert_eq!(say(tv([2, 3, 5])), "a grid of 2x3x5 voxels does not fit an image of 24");
        assert!(say(tv([usize::MAX, 3, 5])).contains("does not fit"));
        assert!(tv([2, 3, 4]).check(24).is_ok());
    }

    proptest! {
        /// No point near the result has a smaller ½‖x − b‖² + t g(x), which is what the map is defined by.
        #[test]
        fn maps_minimise_what_they_are_defined_by(
            b in (-2.0..2.0, -2.0..2.0), t in 0.0..1.5, step in (-0.1..0.1, -0.1..0.1), quadratic: bool,
        ) {
            let b = Complex::new(b.0, b.1);
            let cost = |x: Complex<f64>| {
                let g = if quadratic { x.norm_sqr() } else { x.norm() };
                (x - b).norm_sqr() / 2.0 + t * g
            };
            let mut x = [b];
            let penalty = if quadratic { Penalty::L2 { lambda: 0.0 } } else { Penalty::L1 { lambda: 0.0 } };
            penalty.apply(&mut x, t);
            prop_assert!(cost(x[0]) <= cost(x[0] + Complex::new(step.0, step.1)) + 1e-12);
        }
    }
}
