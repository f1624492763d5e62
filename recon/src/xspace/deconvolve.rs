//! Sharpening: which object gives this image, if a point of it gives the particles' answer?

use serde::{Deserialize, Serialize};

use super::cg::{Stop, conjugate_gradients, dot};
use crate::Error;

/// How an image is sharpened.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deconvolution {
    /// The linear estimate with the least mean error; values may be below 0.
    Wiener(Wiener),
    /// The object without negative values that explains the samples best.
    NonNegative(NonNegative),
}

/// Settings of the linear estimate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Wiener {
    /// Power of the noise beside that of the object, of the greatest eigenvalue of the blur's normal equations; above 0. More is smoother.
    pub noise: f64,
}

impl Default for Wiener {
    fn default() -> Self {
        Self { noise: 1e-4 }
    }
}

/// Settings of the search without negative values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct NonNegative {
    /// Steps; fewer are smoother.
    pub iterations: usize,
    /// Weight of the object's squares, of the greatest eigenvalue of the blur's normal equations; 0 or more. More is smoother.
    pub lambda: f64,
}

impl Default for NonNegative {
    fn default() -> Self {
        Self { iterations: 500, lambda: 0.0 }
    }
}

impl Deconvolution {
    pub(super) fn check(&self) -> Result<(), Error> {
        let parameter = |name, value, range| Err(Error::Parameter { name, value, range });
        match self {
            Self::Wiener(of) if !(of.noise.is_finite() && of.noise > 0.0) => {
                parameter("noise", of.noise, "above 0")
            }
            Self::NonNegative(of) if of.iterations == 0 => parameter("iterations", 0.0, "1 or more"),
            Self::NonNegative(of) if !(of.lambda.is_finite() && of.lambda >= 0.0) => {
                parameter("lambda", of.lambda, "0 or more")
            }
            _ => Ok(()),
        }
    }
}

/// What turns an object into samples, and its adjoint.
pub(super) trait Blur {
    /// Voxels of an object.
    fn voxels(&self) -> usize;
    /// The samples that an object gives.
    fn blur(&self, object: &[f64]) -> Vec<f64>;
    /// The adjoint.
    fn adjoint(&self, samples: &[f64]) -> Vec<f64>;
}

/// An object that explains samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Sharp {
    /// The object over the voxels of the grid.
    pub image: Vec<f64>,
    /// What it leaves of the samples, beside their size, in the norm that is minimised.
    pub residual: f64,
}

impl Deconvolution {
    /// The object over the voxels of the grid that gives these samples.
    pub(super) fn object(&self, a: &impl Blur, b: &[f64]) -> Result<Sharp, Error> {
        match self {
            Self::Wiener(settings) => linear(a, b, settings),
            Self::NonNegative(settings) => Ok(non_negative(a, b, settings)),
        }
    }
}

const STOP: Stop = Stop { tolerance: 1e-6, steps: 10_000 };

/// The Wiener filter for white noise and an object whose voxels have nothing to do with each other, `(AᵀA + noise·l)⁻¹ Aᵀ b`, where `l` is the
/// greatest eigenvalue of `AᵀA`: the general form (Wiener 1949), for on a bounded grid with unknown constants it is no filter of frequencies.
fn linear(a: &impl Blur, b: &[f64], settings: &Wiener) -> Result<Sharp, Error> {
    let ridge = settings.noise * greatest_eigenvalue(a);
    let apply = |x: &[f64]| -> Result<Vec<f64>, Error> {
        Ok(a.adjoint(&a.blur(x)).iter().zip(x).map(|(of, x)| of + ridge * x).collect())
    };
    let own = vec![1.0; a.voxels()];
    let x = conjugate_gradients(apply, &a.adjoint(b), &own, STOP, "is `noise` very small?")?;
    Ok(sharp(a, b, x))
}

/// Steps of the power iteration for the greatest eigenvalue; it comes near from below, which [`SAFETY`] makes up for.
const POWER_STEPS: usize = 50;
const SAFETY: f64 = 1.05;

/// The least `½|A x − b|² + ½ λ l |x|²` with `x ≥ 0`, where `l` is the greatest eigenvalue of `AᵀA`: projected gradients with momentum, which
/// begins anew where it leads uphill.
///
/// Sources: Beck and Teboulle, "A fast iterative shrinkage-thresholding algorithm" (FISTA), SIAM J. Imaging Sciences 2 (2009); O'Donoghue and
/// Candès, "Adaptive restart for accelerated gradient schemes", Foundations of Computational Mathematics 15 (2015).
fn non_negative(a: &impl Blur, b: &[f64], settings: &NonNegative) -> Sharp {
    let greatest = greatest_eigenvalue(a);
    let ridge = settings.lambda * greatest;
    let step = if greatest > 0.0 { 1.0 / (SAFETY * greatest + ridge) } else { 0.0 };
    let mut x = vec![0.0; a.voxels()];
    let mut ahead = x.clone();
    let mut momentum = 1.0_f64;
    for _ in 0..settings.iterations {
        let rest: Vec<f64> = a.blur(&ahead).iter().zip(b).map(|(a, b)| a - b).collect();
        let slope = a.adjoint(&rest);
        let stepped = |(at, slope): (&f64, &f64)| (at - step * (slope + ridge * at)).max(0.0);
        let next: Vec<f64> = ahead.iter().zip(&slope).map(stepped).collect();
        let uphill: f64 =
            ahead.iter().zip(&next).zip(&x).map(|((ahead, next), x)| (ahead - next) * (next - x)).sum();
        if uphill > 0.0 {
            momentum = 1.0;
        }
        let more = f64::midpoint(1.0, (1.0 + 4.0 * momentum * momentum).sqrt());
        let share = (momentum - 1.0) / more;
        ahead = next.iter().zip(&x).map(|(next, x)| next + share * (next - x)).collect();
        (x, momentum) = (next, more);
    }
    sharp(a, b, x)
}

fn sharp(a: &impl Blur, b: &[f64], image: Vec<f64>) -> Sharp {
    let rest: Vec<f64> = a.blur(&image).iter().zip(b).map(|(a, b)| a - b).collect();
    let size = dot(b, b);
    let residual = if size > 0.0 { (dot(&rest, &rest) / size).sqrt() } else { 0.0 };
    Sharp { image, residual }
}

fn greatest_eigenvalue(a: &impl Blur) -> f64 {
    // Without any symmetry: a start across the strongest image would never come to it.
    let golden = 0.5 * (5.0_f64.sqrt() - 1.0);
    let mut at = 0.0;
    let start = |_| {
        at = (at + golden) % 1.0;
        at
    };
    let mut x: Vec<f64> = (0..a.voxels()).map(start).collect();
    let mut size = 0.0;
    for _ in 0..POWER_STEPS {
        let norm = dot(&x, &x).sqrt();
        if norm == 0.0 {
            return 0.0;
        }
        x.iter_mut().for_each(|x| *x /= norm);
        x = a.adjoint(&a.blur(&x));
        size = dot(&x, &x).sqrt();
    }
    size
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A matrix, row by row.
    struct Matrix {
        columns: usize,
        values: Vec<f64>,
    }

    impl Blur for Matrix {
        fn voxels(&self) -> usize {
            self.columns
        }

        fn blur(&self, object: &[f64]) -> Vec<f64> {
            self.values.chunks_exact(self.columns).map(|row| dot(row, object)).collect()
        }

        fn adjoint(&self, samples: &[f64]) -> Vec<f64> {
            let mut sum = vec![0.0; self.columns];
            for (row, sample) in self.values.chunks_exact(self.columns).zip(samples) {
                sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value * sample);
            }
            sum
        }
    }

    proptest! {
        /// What is found fulfils the conditions of Karush, Kuhn and Tucker: nothing below 0, no slope where the object is, and none downhill
        /// where it is not.
        #[test]
        fn what_is_found_is_the_least(values in prop::collection::vec(-1.0..1.0_f64, 60), b in prop::collection::vec(-1.0..1.0_f64, 10)) {
            let a = Matrix { columns: 6, values };
            let sharp = non_negative(&a, &b, &NonNegative { iterations: 3000, lambda: 1e-4 });
            let ridge = 1e-4 * greatest_eigenvalue(&a);
            let rest: Vec<f64> = a.blur(&sharp.image).iter().zip(&b).map(|(a, b)| a - b).collect();
            for (x, slope) in sharp.image.iter().zip(a.adjoint(&rest)) {
                let slope = slope + ridge * x;
                prop_assert!(*x >= 0.0 && slope > -1e-6 && (x * slope).abs() < 1e-6, "{x}, {slope}");
            }
            let residual = (dot(&rest, &rest) / dot(&b, &b)).sqrt();
            prop_assert!((sharp.residual - residual).abs() < 1e-12);
        }
    }

    proptest! {
        /// The slope of what the linear estimate minimises is 0.
        #[test]
        fn the_linear_estimate_is_the_least(values in prop::collection::vec(-1.0..1.0_f64, 60), b in prop::collection::vec(-1.0..1.0_f64, 10)) {
            let a = Matrix { columns: 6, values };
            let image = linear(&a, &b, &Wiener { noise: 1e-3 }).unwrap().image;
            let ridge = 1e-3 * greatest_eigenvalue(&a);
            let rest: Vec<f64> = a.blur(&image).iter().zip(&b).map(|(a, b)| a - b).collect();
            for (x, slope) in image.iter().zip(a.adjoint(&rest)) {
                prop_assert!((slope + ridge * x).abs() < 1e-4, "{x}, {slope}");
            }
        }
    }

    #[test]
    fn parameters_out_of_their_range_are_told() {
        let message = |of: Deconvolution| of.check().unwrap_err().to_string();
        assert!(message(Deconvolution::Wiener(Wiener { noise: 0.0 })).contains("`noise` is 0"));
        let of = NonNegative::default();
        assert!(
            message(Deconvolution::NonNegative(NonNegative { iterations: 0, ..of })).contains("`iterations`")
        );
        assert!(
            message(Deconvolution::NonNegative(NonNegative { lambda: -1.0, ..of }))
                .contains("`lambda` is -1")
        );
        Deconvolution::NonNegative(of).check().unwrap();
    }
}
