//! Kaczmarz's method for a matrix that is not in this process's memory: whole sweeps are done where it is.

use std::fmt::Debug;

use num_complex::Complex;

use super::prox::Projection;
use super::real::Real;
use crate::Error;

/// For which rows [`Sweeps`] are made ready.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a, T> {
    /// The rows, in the order of a sweep; each at most once.
    pub order: &'a [usize],
    /// What rows are multiplied with, for all rows of the matrix.
    pub weights: Option<&'a [T]>,
    /// Rows that are taken together; the implementation's choice unless stated. 1 where every sweep has other rows.
    pub block: Option<usize>,
}

/// A map of images of N voxels.
pub type Map<'a, T> = dyn Fn(&mut [Complex<T>]) + Sync + 'a;

/// Frames to be solved together.
pub struct Job<'a, T: Real> {
    /// Sweeps.
    pub iterations: usize,
    /// √λ.
    pub epsilon: T,
    /// 1 / (‖a_k‖² + λ) of all rows.
    pub inverses: &'a [T],
    /// Frames of M weighted values, one after the other; at most [`super::LANES`].
    pub data: &'a [Complex<T>],
    /// Applied after every sweep, in order.
    pub projections: &'a [Projection],
    /// Applied to every frame of N voxels after the projections.
    pub penalty: Option<&'a Map<'a, T>>,
    /// The rows of the next sweep, where they are not always the same.
    pub draw: Option<&'a mut dyn FnMut() -> Vec<usize>>,
    /// To be called after every iteration with its number, from 1.
    pub done: &'a dyn Fn(usize) -> Result<(), Error>,
}

impl<T: Real> Debug for Job<'_, T> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = out.debug_struct("Job");
        out.field("iterations", &self.iterations).field("values", &self.data.len()).finish_non_exhaustive()
    }
}

/// Sweeps over the rows of one matrix, with the iterates of [`super::Kaczmarz`].
pub trait Sweeps<T: Real>: Send + Sync + Debug {
    /// Does all iterations, from the images `x` on: as many frames of N voxels as there are of data.
    ///
    /// # Errors
    /// What `done` gives, and what goes wrong where the matrix is.
    fn run(&self, job: Job<'_, T>, x: &mut [Complex<T>]) -> Result<(), Error>;
}
