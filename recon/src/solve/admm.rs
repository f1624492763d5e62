//! ADMM: the alternating direction method of multipliers; Boyd et al., Found. Trends Mach. Learn. 3 (2011), in the
//! scaled form of section 3.1.1, with x = z as its constraint.
//!
//! In every iteration (AᴴA + ρ I) x = Aᴴ b + ρ (z − u) is solved by conjugate gradients from the last x on, then the
//! projections are applied to x, z becomes the proximal map of x + u with λ / (2 ρ), and u grows by x − z. x is the
//! result.

use num_complex::Complex;
use serde::{Deserialize, Serialize};

use super::Step;
use super::basis::in_voxels;
use super::normalise::Normalisation;
use super::operator::Operator;
use super::prox::{Penalty, Projection, project};
use super::real::Real;
use super::vector::{add, grow, inner, norm, norm_squared, zeros};
use crate::Error;

/// Parameters of ADMM. It minimises ½ ‖A x − b‖² + ½ g(x) with a penalty g, so that λ is that of a problem in which
/// neither is halved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Admm {
    /// Iterations at most, at least 1; 10 unless stated.
    pub iterations: usize,
    /// g; none unless stated.
    pub penalty: Option<Penalty>,
    /// What the penalty's λ is multiplied with; by the system matrix unless stated.
    pub normalisation: Normalisation,
    /// Applied to x in every iteration, in order; none unless stated.
    pub projections: Vec<Projection>,
    /// ρ, positive; 0.1 unless stated. It is not normalised and stays as it is.
    pub rho: f64,
    /// Conjugate gradient steps of an iteration at most, at least 1; 10 unless stated.
    pub inner_iterations: usize,
    /// They end once their residual is this much of what it was at their begin; 1e-5 unless stated.
    pub inner_tolerance: f64,
    /// Ends once ‖x − z‖ ≤ tolerance max(‖x‖, ‖z‖) and ‖z − z'‖ ≤ tolerance ‖u‖, z' the z before; Boyd's section 3.3.1
    /// without absolute parts. The precision of the numbers unless stated.
    pub tolerance: Option<f64>,
}

impl Default for Admm {
    fn default() -> Self {
        Self {
            iterations: 10,
            penalty: None,
            normalisation: Normalisation::default(),
            projections: Vec::new(),
            rho: 0.1,
            inner_iterations: 10,
            inner_tolerance: 1e-5,
            tolerance: None,
        }
    }
}

impl Admm {
    pub(super) fn check(&self, columns: usize) -> Result<(), Error> {
        super::check_count("iterations", self.iterations)?;
        super::check_count("inner-iterations", self.inner_iterations)?;
        super::check_positive("rho", self.rho)?;
        super::check_tolerance("inner-tolerance", Some(self.inner_tolerance))?;
        super::check_tolerance("tolerance", self.tolerance)?;
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
        let lambda = step.factor * self.penalty.map_or(0.0, |penalty| penalty.lambda());
        let amount = T::of(lambda / (2.0 * self.rho));
        let tolerance = super::tolerance_of::<T>(self.tolerance);
        let mut back = zeros(x.len());
        operator.adjoint(b, &mut back);
        let (mut z, mut u) = (x.to_vec(), zeros(x.len()));
        for done in 1..=self.iterations {
            let mut right = back.clone();
            add(&mut right, self.rho, &z);
            add(&mut right, -self.rho, &u);
            self.inner_solve(operator, &right, x);
            if !self.projections.is_empty() {
                in_voxels(operator.basis(), x, |x| project(&self.projections, x));
            }
            let before = z;
            z = x.iter().zip(&u).map(|(x, u)| x + u).collect();
            if let Some(penalty) = &self.penalty {
                in_voxels(operator.basis(), &mut z, |z| penalty.apply(z, amount));
            }
            let gap: Vec<_> = x.iter().zip(&z).map(|(x, z)| x - z).collect();
            add(&mut u, 1.0, &gap);
            let change: Vec<_> = z.iter().zip(&before).map(|(z, before)| z - before).collect();
            (step.done)(done)?;
            let is_feasible = norm(&gap) <= tolerance * norm(x).max(norm(&z));
            if is_feasible && norm(&change) <= tolerance * norm(&u) {
                return Ok(done);
            }
        }
        Ok(self.iterations)
    }

    /// Conjugate gradients for (AᴴA + ρ I) x = right.
    fn inner_solve<T: Real>(&self, operator: &dyn Operator<T>, right: &[Complex<T>], x: &mut [Complex<T>]) {
        let (mut ax, mut q) = (zeros(operator.rows()), zeros(x.len()));
        let mut normal = |p: &[Complex<T>], q: &mut Vec<Complex<T>>| {
            operator.forward(p, &mut ax);
            operator.adjoint(&ax, q);
            add(q, self.rho, p);
        };
        normal(x, &mut q);
        let mut r: Vec<_> = right.iter().zip(&q).map(|(right, q)| right - q).collect();
        let mut p = r.clone();
        let limit = self.inner_tolerance * norm(&r);
        for _ in 0..self.inner_iterations {
            if norm(&r) <= limit {
                return;
            }
            normal(&p, &mut q);
            let before = norm_squared(&r);
            let alpha = before / inner(&p, &q);
            add(x, alpha, &p);
            add(&mut r, -alpha, &q);
            grow(&mut p, norm_squared(&r) / before, &r);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_out_of_range_are_refused() {
        let say = |method: Admm| method.check(4).unwrap_err().to_string();
        let base = Admm::default;
        assert_eq!(say(Admm { iterations: 0, ..base() }), "`iterations` is 0, and should be at least 1");
        assert_eq!(
            say(Admm { inner_iterations: 0, ..base() }),
            "`inner-iterations` is 0, and should be at least 1"
        );
        assert_eq!(say(Admm { rho: -1.0, ..base() }), "`rho` is -1, and should be finite and positive");
        assert_eq!(
            say(Admm { inner_tolerance: f64::NAN, ..base() }),
            "`inner-tolerance` is NaN, and should be finite and not negative"
        );
    }
}
