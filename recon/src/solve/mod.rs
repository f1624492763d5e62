//! Solvers of the regularised least-squares problem: from a system matrix A and frames b to images x with A x ≈ b.
//!
//! A has a row for every frequency component and a column for every voxel, all complex. It is an [`Operator`]: a dense
//! [`Matrix`], a [`SparseMatrix`] of the coefficients that a [`Compressor`] keeps, or several [`Patches`]. A [`Solver`] says which method
//! with which parameters, a [`Problem`] on what; [`solve`] does it, and [`Prepared`] does it again and again. Several
//! frames go through the matrix together where the method allows it: memory is what the methods wait for.
//!
//! The bits of a result do not depend on the number of threads. They do depend on whether the processor has fused
//! multiplication and addition, and on how many frames go together.

mod admm;
mod basis;
mod block;
mod cgnr;
mod compress;
mod control;
mod direct;
mod fista;
mod frames;
mod kaczmarz;
mod kernels;
mod matrix;
mod normalise;
mod operator;
mod order;
mod patches;
mod plan;
mod prox;
mod real;
mod simd;
mod sparse;
mod sweeps;
mod team;
mod tv;
mod vector;

pub use admm::Admm;
pub use basis::{Basis, Cosine};
pub use cgnr::Cgnr;
pub use compress::{Compressor, Keep};
pub use control::{Control, Progress};
pub use direct::Direct;
pub use fista::Fista;
pub use kaczmarz::{BLOCK_ROWS, Kaczmarz, Lambda};
pub use kernels::{LANES, Lanes};
pub use matrix::Matrix;
pub use normalise::Normalisation;
pub use operator::{Operator, Weighted};
pub use order::{Order, SplitMix64};
pub use patches::{Patch, Patches};
pub use plan::{Prepared, Problem, Report, Solution, Solver, solve};
pub use prox::{Penalty, Projection, Variation};
pub use real::Real;
pub use sparse::SparseMatrix;
pub use sweeps::{Job, Map, Rows, Sweeps};

#[cfg(feature = "gpu")]
pub(crate) use kernels::energy;
#[cfg(feature = "gpu")]
pub(crate) use matrix::check_finite;
pub(crate) use sparse::entry_bytes;

use crate::Error;

/// What a method is told beside its parameters and the data of a frame.
struct Step<'a> {
    /// What λ is multiplied with.
    factor: f64,
    /// To be called after every iteration with its number, from 1.
    done: &'a dyn Fn(usize) -> Result<(), Error>,
}

/// A number of iterations or rows.
fn check_count(name: &'static str, value: usize) -> Result<(), Error> {
    if value > 0 {
        return Ok(());
    }
    Err(Error::Parameter { name, value: 0.0, range: "at least 1" })
}

fn check_positive(name: &'static str, value: f64) -> Result<(), Error> {
    if value.is_finite() && value > 0.0 {
        return Ok(());
    }
    Err(Error::Parameter { name, value, range: "finite and positive" })
}

fn check_tolerance(name: &'static str, value: Option<f64>) -> Result<(), Error> {
    match value {
        Some(value) if !(value.is_finite() && value >= 0.0) => {
            Err(Error::Parameter { name, value, range: "finite and not negative" })
        }
        _ => Ok(()),
    }
}

/// The tolerance of a plan, or the precision of the numbers.
fn tolerance_of<T: Real>(tolerance: Option<f64>) -> f64 {
    tolerance.unwrap_or_else(|| T::epsilon().wide())
}
