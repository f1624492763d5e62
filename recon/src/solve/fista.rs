//! FISTA: proximal gradient steps with momentum; Beck and Teboulle, SIAM J. Imaging Sci. 2 (2009). Momentum starts
//! again when it points uphill; O'Donoghue and Candès, Found. Comput. Math. 15 (2015).
//!
//! With y_k = x_k + (θ_{k−1} − 1) / θ_k (x_k − x_{k−1}) and g = Aᴴ(A y_k − b), the next image is the proximal map of
//! y_k − ρ g with ρ λ, then the projections in order. θ goes from 1 by (1 + √(1 + 4 θ²)) / 2, and starts again at 1
//! when Re gᴴ(x_{k+1} − x_k) > 0.

use num_complex::Complex;
use serde::{Deserialize, Serialize};

use super::Step;
use super::basis::in_voxels;
use super::normalise::Normalisation;
use super::operator::Operator;
use super::order::SplitMix64;
use super::prox::{Penalty, Projection, project};
use super::real::Real;
use super::vector::{add, inner, norm, zeros};
use crate::Error;

/// The step is this much of 1 / λ_max; the estimate of λ_max is from below.
const STEP_SAFETY: f64 = 0.95;
/// Power iterations at most.
const POWER_ITERATIONS: usize = 30;
/// They end when the estimate changes by less than this, relatively.
const POWER_TOLERANCE: f64 = 1e-3;
/// Of the image that they begin with.
const POWER_SEED: u64 = 1234;

/// Parameters of FISTA. It minimises ½ ‖A x − b‖² + g(x) with a penalty g: mind the half, with which [`Penalty::L2`] needs
/// half of the λ that other methods have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Fista {
    /// Iterations at most, at least 1; 50 unless stated.
    pub iterations: usize,
    /// g; none unless stated.
    pub penalty: Option<Penalty>,
    /// What the penalty's λ is multiplied with; by the system matrix unless stated.
    pub normalisation: Normalisation,
    /// Applied in every iteration, in order; none unless stated.
    pub projections: Vec<Projection>,
    /// ρ, positive; 0.95 / λ_max(AᴴA) unless stated, by at most 30 power iterations.
    pub step: Option<f64>,
    /// Whether momentum starts again; true unless stated.
    pub restart: bool,
    /// Ends once ‖Aᴴ(A y − b)‖ < tolerance ‖Aᴴ b‖. The precision of the numbers unless stated.
    pub tolerance: Option<f64>,
}

impl Default for Fista {
    fn default() -> Self {
        Self {
            iterations: 50,
            penalty: None,
            normalisation: Normalisation::default(),
            projections: Vec::new(),
            step: None,
            restart: true,
            tolerance: None,
        }
    }
}

impl Fista {
    pub(super) fn check(&self, columns: usize) -> Result<(), Error> {
        super::check_count("iterations", self.iterations)?;
        super::check_tolerance("tolerance", self.tolerance)?;
        super::check_positive("step", self.step.unwrap_or(1.0))?;
        self.penalty.map_or(Ok(()), |penalty| penalty.check(columns))
    }

    /// Solves one frame from `x` on; gives the number of iterations.
    pub(super) fn run<T: Real>(
        &self,
        operator: &dyn Operator<T>,
        b: &[Complex<T>],
        x: &mut [Complex<T>],
        step: &Step<'_>,
    ) -> Result<usize, Error> {
        let rho = self.step.unwrap_or_else(|| STEP_SAFETY / largest_eigenvalue(operator));
        let amount = T::of(rho * step.factor * self.penalty.map_or(0.0, |penalty| penalty.lambda()));
        let (mut ax, mut gradient) = (zeros(b.len()), zeros(x.len()));
        operator.adjoint(b, &mut gradient);
        let limit = super::tolerance_of::<T>(self.tolerance) * norm(&gradient);
        let (mut theta, mut theta_before) = (1.0_f64, 1.0);
        let mut before = x.to_vec();
        for done in 1..=self.iterations {
            let momentum = T::of((theta_before - 1.0) / theta);
            for (x, before) in x.iter_mut().zip(&mut before) {
                let now = *x;
                *x += (now - *before).scale(momentum);
                *before = now;
            }
            operator.forward(x, &mut ax);
            ax.iter_mut().zip(b).for_each(|(ax, b)| *ax -= b);
            operator.adjoint(&ax, &mut gradient);
            add(x, -rho, &gradient);
            if self.penalty.is_some() || !self.projections.is_empty() {
                in_voxels(operator.basis(), x, |x| {
                    if let Some(penalty) = &self.penalty {
                        penalty.apply(x, amount);
                    }
                    project(&self.projections, x);
                });
            }
            let change: Vec<_> = x.iter().zip(&before).map(|(x, before)| x - before).collect();
            if self.restart && inner(&gradient, &change) > 0.0 {
                theta = 1.0;
            }
            (theta, theta_before) = (f64::midpoint(1.0, (1.0 + 4.0 * theta * theta).sqrt()), theta);
            (step.done)(done)?;
            if norm(&gradient) < limit {
                return Ok(done);
            }
        }
        Ok(self.iterations)
    }
}

/// λ_max(AᴴA) from below, by power iterations on an image of random numbers.
fn largest_eigenvalue<T: Real>(operator: &dyn Operator<T>) -> f64 {
    let mut random = SplitMix64::new(POWER_SEED);
    let mut part = || T::of(random.unit() - 0.5);
    let mut x: Vec<_> = (0..operator.columns()).map(|_| Complex::new(part(), part())).collect();
    let (mut ax, mut next) = (zeros(operator.rows()), zeros(x.len()));
    let mut estimate = 0.0;
    for _ in 0..POWER_ITERATIONS {
        let scale = T::of(norm(&x).recip());
        x.iter_mut().for_each(|value| *value = value.scale(scale));
        operator.forward(&x, &mut ax);
        operator.adjoint(&ax, &mut next);
        let before = estimate;
        estimate = norm(&next);
        if (estimate - before).abs() <= POWER_TOLERANCE * estimate {
            break;
        }
        std::mem::swap(&mut x, &mut next);
    }
    estimate
}

#[cfg(test)]
mod tests {
    use super::super::matrix::Matrix;
    use super::*;

    #[test]
    fn the_largest_eigenvalue_of_a_diagonal_matrix_is_found() {
        let mut entries = zeros::<f64>(16);
        for (n, value) in [1.0, -3.0, 0.5, 2.0].into_iter().enumerate() {
            entries[n * 4 + n] = Complex::new(0.0, value);
        }
        let found = largest_eigenvalue(&Matrix::new(4, 4, entries).unwrap());
        assert!(found <= 9.0 + 1e-12 && found > 9.0 * 0.995, "{found}");
    }

    #[test]
    fn parameters_out_of_range_are_refused() {
        let say = |method: Fista| method.check(4).unwrap_err().to_string();
        assert_eq!(
            say(Fista { iterations: 0, ..Fista::default() }),
            "`iterations` is 0, and should be at least 1"
        );
        let step = Fista { step: Some(0.0), ..Fista::default() };
        assert_eq!(say(step), "`step` is 0, and should be finite and positive");
        let tolerance = Fista { tolerance: Some(-1.0), ..Fista::default() };
        assert_eq!(say(tolerance), "`tolerance` is -1, and should be finite and not negative");
        let penalty = Fista { penalty: Some(Penalty::L1 { lambda: f64::INFINITY }), ..Fista::default() };
        assert_eq!(say(penalty), "`lambda` is inf, and should be finite and not negative");
    }
}
