//! Conjugate gradients on the normal equations (AᴴA + λ I) x = Aᴴ b; Hestenes and Stiefel, J. Res. Natl. Bur. Stand. 49
//! (1952), section 10, with Tikhonov's term.

use num_complex::Complex;
use serde::{Deserialize, Serialize};

use super::Step;
use super::basis::in_voxels;
use super::normalise::Normalisation;
use super::operator::Operator;
use super::prox::{Projection, check_lambda, project};
use super::real::Real;
use super::vector::{add, grow, inner, norm, norm_squared, zeros};
use crate::Error;

/// Parameters of CGNR. It minimises ‖A x − b‖² + λ ‖x‖².
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Cgnr {
    /// Iterations at most, at least 1; 10 unless stated. There are never more than voxels.
    pub iterations: usize,
    /// λ before normalisation, not negative; 0 unless stated.
    pub lambda: f64,
    /// What λ is multiplied with; by the system matrix unless stated.
    pub normalisation: Normalisation,
    /// Applied once, to the result, in order; none unless stated.
    pub projections: Vec<Projection>,
    /// Ends once ‖r‖ ≤ tolerance ‖r₀‖ for the residual r of the normal equations. The precision of the numbers unless
    /// stated (2^-23 or 2^-52).
    pub tolerance: Option<f64>,
}

impl Default for Cgnr {
    fn default() -> Self {
        Self {
            iterations: 10,
            lambda: 0.0,
            normalisation: Normalisation::default(),
            projections: Vec::new(),
            tolerance: None,
        }
    }
}

impl Cgnr {
    pub(super) fn check(&self) -> Result<(), Error> {
        super::check_count("iterations", self.iterations)?;
        super::check_tolerance("tolerance", self.tolerance)?;
        check_lambda(self.lambda)
    }

    /// Solves one frame from `x` on; gives the number of iterations.
    pub(super) fn run<T: Real>(
        &self,
        operator: &dyn Operator<T>,
        b: &[Complex<T>],
        x: &mut [Complex<T>],
        step: &Step<'_>,
    ) -> Result<usize, Error> {
        let lambda = self.lambda * step.factor;
        let mut ax = zeros(b.len());
        operator.forward(x, &mut ax);
        let rest: Vec<_> = b.iter().zip(&ax).map(|(b, ax)| b - ax).collect();
        let mut r = zeros(x.len());
        operator.adjoint(&rest, &mut r);
        add(&mut r, -lambda, x);
        let (mut p, mut q) = (r.clone(), zeros(x.len()));
        let limit = super::tolerance_of::<T>(self.tolerance) * norm(&r);
        let mut done = 0;
        while done < self.iterations.min(x.len()) && norm(&r) > limit {
            operator.forward(&p, &mut ax);
            operator.adjoint(&ax, &mut q);
            add(&mut q, lambda, &p);
            let before = norm_squared(&r);
            let alpha = before / inner(&p, &q);
            add(x, alpha, &p);
            add(&mut r, -alpha, &q);
            grow(&mut p, norm_squared(&r) / before, &r);
            done += 1;
            (step.done)(done)?;
        }
        if !self.projections.is_empty() {
            in_voxels(operator.basis(), x, |x| project(&self.projections, x));
        }
        Ok(done)
    }
}
