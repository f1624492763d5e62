//! Systems whose unknowns are the coefficients of an image, not its voxels.
//!
//! With a real orthonormal matrix C an image x has the coefficients z = C x, and x = Cᵀ z. A row a of a system matrix then
//! has the coefficients C a, for Σ a_n x_n = Σ (C a)_k z_k. ‖x‖ = ‖z‖, so Tikhonov's term is the same; constraints and other
//! penalties are of voxels, and are applied there: Cᵀ, the map, C.

use num_complex::Complex;

use super::real::Real;
use crate::Error;
use crate::mdf::dct::{Inverse, Transform};

/// A real orthonormal transform of images.
pub trait Basis<T: Real>: Sync {
    /// Turns N voxels into N coefficients in place: z = C x.
    fn coefficients(&self, x: &mut [Complex<T>]);

    /// Turns N coefficients into N voxels in place: x = Cᵀ z.
    fn voxels(&self, z: &mut [Complex<T>]);
}

/// The cosine transform DCT-II along every axis of a grid that has more than one voxel, in double precision.
///
/// C_kj = sqrt(2/n) s_k cos(π k (2j + 1) / (2n)) with s_0 = sqrt(1/2) and s_k = 1 otherwise (Strang, SIAM Review 41, 1999).
#[derive(Debug, Clone)]
pub struct Cosine {
    forward: Inverse,
    back: Inverse,
}

impl Cosine {
    /// The transform of a grid of voxels along x, y and z, x fastest.
    ///
    /// # Errors
    /// [`Error::Axes`] for an axis without a voxel, or with more than 4096.
    pub fn new(grid: [usize; 3]) -> Result<Self, Error> {
        let [x, y, z] = grid;
        // The inverse of DCT-III is DCT-II.
        let of = |transform| Inverse::new(transform, &[z, y, x]).ok_or(Error::Axes { grid });
        Ok(Self { forward: of(Transform::Three)?, back: of(Transform::Two)? })
    }

    /// N.
    #[must_use]
    pub fn points(&self) -> usize {
        self.back.points()
    }
}

impl<T: Real> Basis<T> for Cosine {
    fn coefficients(&self, x: &mut [Complex<T>]) {
        apply(&self.forward, x);
    }

    fn voxels(&self, z: &mut [Complex<T>]) {
        apply(&self.back, z);
    }
}

fn apply<T: Real>(transform: &Inverse, values: &mut [Complex<T>]) {
    let mut wide: Vec<_> =
        values.iter().map(|value| Complex::new(value.re.wide(), value.im.wide())).collect();
    transform.apply(&mut wide);
    for (value, wide) in values.iter_mut().zip(wide) {
        *value = Complex::new(T::of(wide.re), T::of(wide.im));
    }
}

/// Applies a map of voxels to what a solver works on: voxels, or coefficients if there is a basis.
pub(super) fn in_voxels<T: Real>(
    basis: Option<&dyn Basis<T>>,
    x: &mut [Complex<T>],
    map: impl FnOnce(&mut [Complex<T>]),
) {
    let Some(basis) = basis else {
        return map(x);
    };
    basis.voxels(x);
    map(x);
    basis.coefficients(x);
}

#[cfg(test)]
mod tests {
    use super::super::order::SplitMix64;
    use super::*;

    #[test]
    fn one_cosine_is_one_coefficient() {
        let cosine = Cosine::new([4, 1, 1]).unwrap();
        let wave = |j: u32| (std::f64::consts::PI * 2.0 * (2.0 * f64::from(j) + 1.0) / 8.0).cos();
        let mut x: Vec<Complex<f64>> = (0..4).map(|j| Complex::new(wave(j), 0.0)).collect();
        cosine.coefficients(&mut x);
        let expected = [0.0, 0.0, 2.0_f64.sqrt(), 0.0];
        assert!(x.iter().zip(expected).all(|(x, e)| (x - e).norm() < 1e-14), "{x:?}");
    }

    #[test]
    fn the_transform_is_orthonormal_over_a_grid() {
        let cosine = Cosine::new([5, 1, 7]).unwrap();
        let mut source = SplitMix64::new(2);
        let x: Vec<Complex<f64>> = (0..35).map(|_| Complex::new(source.unit(), source.unit())).collect();
        let mut z = x.clone();
        cosine.coefficients(&mut z);
        let energy = |x: &[Complex<f64>]| x.iter().map(Complex::norm_sqr).sum::<f64>();
        assert!((energy(&x) - energy(&z)).abs() < 1e-12);
        assert!(x.iter().zip(&z).any(|(x, z)| (x - z).norm() > 0.1));
        cosine.voxels(&mut z);
        assert!(x.iter().zip(&z).all(|(x, z)| (x - z).norm() < 1e-13));
    }

    #[test]
    fn axes_are_bounded() {
        let said = Cosine::new([0, 3, 1]).unwrap_err().to_string();
        assert_eq!(said, "a grid of 0x3x1 voxels has an axis that is not of 1 to 4096 voxels");
        assert!(Cosine::new([4097, 1, 1]).is_err());
    }
}
