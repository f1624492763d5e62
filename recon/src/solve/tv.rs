//! The proximal map of total variation: the fast gradient projection (FGP) of Beck and Teboulle, "Fast gradient-based
//! algorithms for constrained total variation image denoising and deblurring problems", IEEE Trans. Image Process. 18
//! (2009), section IV, for complex images on grids of up to three axes.
//!
//! Differences are taken forward along every axis of more than one voxel, between each voxel and the next; at the far
//! edge there is none (the image goes on as it ends). With D the differences, the map of b is b − t Dᴴ p, where p
//! minimises ‖b − t Dᴴ p‖² over all p of at most 1 per voxel (isotropic) or per difference (anisotropic). FGP steps by
//! 1 / (4 d t), since ‖D‖² ≤ 4 d on d axes; it does [`ITERATIONS`] of them from p = 0.

use num_complex::Complex;

use super::prox::Variation;
use super::real::{Real, count};

/// Steps of FGP.
const ITERATIONS: usize = 10;

/// An axis of more than one voxel: how many, and how far apart in memory.
#[derive(Debug, Clone, Copy)]
struct Axis {
    size: usize,
    stride: usize,
}

impl Axis {
    /// Whether a voxel has a next one along this axis.
    fn has_next(self, voxel: usize) -> bool {
        voxel / self.stride % self.size + 1 < self.size
    }
}

/// Replaces an image by its proximal map with the amount t.
pub(super) fn apply<T: Real>(image: &mut [Complex<T>], amount: T, grid: [usize; 3], kind: Variation) {
    let strides = [1, grid[0], grid[0] * grid[1]];
    let axes: Vec<Axis> = grid
        .into_iter()
        .zip(strides)
        .filter(|(size, _)| *size > 1)
        .map(|(size, stride)| Axis { size, stride })
        .collect();
    if axes.is_empty() || amount <= T::zero() {
        return;
    }
    let step = (T::of(4.0 * count(axes.len())) * amount).recip();
    let zero = vec![vec![Complex::default(); image.len()]; axes.len()];
    let (mut p, mut r, mut t) = (zero.clone(), zero, T::one());
    let mut primal = image.to_vec();
    for _ in 0..ITERATIONS {
        primal_of(image, amount, &axes, &r, &mut primal);
        ascend(&mut r, &primal, step, &axes);
        limit(&mut r, kind);
        let next = (T::one() + (T::one() + T::of(4.0) * t * t).sqrt()) / T::of(2.0);
        let momentum = (t - T::one()) / next;
        for (r, p) in r.iter_mut().flatten().zip(p.iter_mut().flatten()) {
            let projected = *r;
            *r = projected + (projected - *p).scale(momentum);
            *p = projected;
        }
        t = next;
    }
    primal_of(image, amount, &axes, &p, &mut primal);
    image.copy_from_slice(&primal);
}

/// out = b − t Dᴴ p
fn primal_of<T: Real>(b: &[Complex<T>], t: T, axes: &[Axis], p: &[Vec<Complex<T>>], out: &mut [Complex<T>]) {
    out.copy_from_slice(b);
    for (axis, p) in axes.iter().zip(p) {
        for (n, p) in p.iter().enumerate() {
            if axis.has_next(n) {
                let part = p.scale(t);
                out[n] += part;
                out[n + axis.stride] -= part;
            }
        }
    }
}

/// r += step D x
fn ascend<T: Real>(r: &mut [Vec<Complex<T>>], x: &[Complex<T>], step: T, axes: &[Axis]) {
    for (axis, r) in axes.iter().zip(r) {
        for (n, r) in r.iter_mut().enumerate() {
            if axis.has_next(n) {
                *r += (x[n + axis.stride] - x[n]).scale(step);
            }
        }
    }
}

/// Divides what is longer than 1 by its length.
fn limit<T: Real>(fields: &mut [Vec<Complex<T>>], kind: Variation) {
    match kind {
        Variation::Anisotropic => fields.iter_mut().flatten().for_each(|value| {
            *value = value.unscale(value.norm().max(T::one()));
        }),
        Variation::Isotropic => {
            for n in 0..fields[0].len() {
                let square = fields.iter().fold(T::zero(), |sum, field| sum + field[n].norm_sqr());
                let length = square.sqrt().max(T::one());
                fields.iter_mut().for_each(|field| field[n] = field[n].unscale(length));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(values: &[f64]) -> Vec<Complex<f64>> {
        values.iter().map(|&value| Complex::new(value, 0.0)).collect()
    }

    #[test]
    fn two_voxels_move_towards_each_other_by_the_amount() {
        // The exact map of (0, 1) is (t, 1 - t) up to t = ½, and then their mean, which ten
        // steps miss by a thousandth.
        for kind in [Variation::Isotropic, Variation::Anisotropic] {
            for grid in [[2, 1, 1], [1, 2, 1], [1, 1, 2]] {
                for (t, expected) in [(0.2, [0.2, 0.8]), (0.9, [0.5, 0.5])] {
                    let mut x = image(&[0.0, 1.0]);
                    apply(&mut x, t, grid, kind);
                    let far = x.iter().zip(&expected).any(|(x, e)| (x.re - e).abs() > 2e-3);
                    assert!(!far, "{grid:?} {t}: {x:?}");
                }
            }
        }
    }

    #[test]
    fn constants_and_sums_stay() {
        let mut flat = image(&[3.0; 24]);
        apply(&mut flat, 0.7, [2, 3, 4], Variation::Isotropic);
        assert_eq!(flat, image(&[3.0; 24]));
        let mut x: Vec<_> = (0..24).map(|n| Complex::new(f64::from(n * 7 % 5), f64::from(n % 3))).collect();
        let before: Complex<f64> = x.iter().sum();
        apply(&mut x, 0.7, [2, 3, 4], Variation::Isotropic);
        assert!((x.iter().sum::<Complex<f64>>() - before).norm() < 1e-12);
    }
}
