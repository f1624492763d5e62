//! The forward model: what an MPI scanner would measure of an object, from first principles.
//!
//! A static *selection field* `G x` leaves the particles free at one point or line only. The *drive field* moves it. Particles follow the
//! field by the Langevin function, and the change of their magnetisation induces voltages in *receive coils*, which a *receive chain*
//! filters, disturbs and digitises. Everything is in SI units; magnetic fields are flux densities `µ0 H` in tesla, and gradients in tesla per
//! metre, as MDF has them.
//!
//! What is simulated is marked as such in every file (`/experiment/isSimulation`), and the model is meant to be finer than what reconstructs:
//! a grid of points inside of each voxel, relaxation, filters, noise, feed-through, drift and quantisation, so that a reconstruction is not
//! judged by its own assumptions.

mod field;
mod grid;
mod langevin;
mod particle;
mod phantom;
mod receive;
mod signal;
mod stl;

pub use field::{DriveChannel, Period, Sequence};
pub use grid::Grid;
pub use langevin::{langevin, langevin_derivative, langevin_over};
pub use particle::{BOLTZMANN, MU0, Particle};
pub use phantom::{Cloud, Phantom, Shape, Solid};
pub use receive::{Adc, Coil, FeedThrough, Measured, Samples, Transfer, measure};
pub use signal::{Spectra, spectra, system_matrix};
pub use stl::Mesh;

/// A vector in space: x, y, z.
pub type Vector = [f64; 3];
/// A matrix over [`Vector`], row by row.
pub type Tensor = [[f64; 3]; 3];

pub(crate) fn dot(a: &Vector, b: &Vector) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

pub(crate) fn norm(a: &Vector) -> f64 {
    dot(a, a).sqrt()
}

/// `a x`.
pub(crate) fn times(a: &Tensor, x: &Vector) -> Vector {
    [dot(&a[0], x), dot(&a[1], x), dot(&a[2], x)]
}
