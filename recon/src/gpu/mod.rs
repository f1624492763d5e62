//! Graphics cards: a system matrix in their memory, and the solvers' products with it.
//!
//! A [`Device`] is opened by a [`Choice`], a [`ShardedMatrix`] is put into its memory row by row, and is then an
//! [`crate::solve::Operator`] like any other: all methods run with it unchanged, and only vectors move. Kaczmarz's method
//! does its whole sweeps there: blocks of rows with a triangular system, which gives the iterates of one row after the
//! other. Cards compute in single precision; results are within 1e-5 (relative, in the Euclidean norm) of those of the processor in
//! double precision for well-conditioned systems, which `tests/gpu.rs` holds.
//!
//! A card may go away at any time. Then results are zeros, [`crate::solve::Operator::check`] says so, and the solvers end
//! with [`crate::Error::GpuLost`].
//!
//! Only in programs that are built with the feature `gpu`. Others have the choice of adapters alone, and find none.

mod adapter;
#[cfg(feature = "gpu")]
mod buffers;
#[cfg(feature = "gpu")]
mod device;
#[cfg(feature = "gpu")]
mod frames;
#[cfg(feature = "gpu")]
mod inverse;
#[cfg(feature = "gpu")]
mod kernels;
#[cfg(feature = "gpu")]
mod matrix;
#[cfg(feature = "gpu")]
mod memory;
#[cfg(feature = "gpu")]
mod operator;
#[cfg(feature = "gpu")]
mod script;
#[cfg(feature = "gpu")]
mod sweeps;

pub use adapter::{Adapter, Choice, Chosen, Kind, choose};
#[cfg(feature = "gpu")]
pub use device::{Device, Options, adapters};
#[cfg(feature = "gpu")]
pub use matrix::ShardedMatrix;

/// Why there is none.
#[cfg(not(feature = "gpu"))]
pub(crate) const WITHOUT: &str = "this program was built without the feature `gpu`";

/// All adapters of this machine.
///
/// # Errors
/// [`crate::Error::NoGpu`]: this program was built without them.
#[cfg(not(feature = "gpu"))]
pub fn adapters() -> Result<Vec<Adapter>, crate::Error> {
    Err(crate::Error::NoGpu(WITHOUT.to_owned()))
}
