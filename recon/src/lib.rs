//! Magnetic particle imaging (MPI): from the signals of receive coils to images.
//!
//! An MPI scanner drives a field-free point or line through an object and records what the particles in it induce in coils. The
//! community's files are in the Magnetic Particle Imaging Data Format (MDF, arXiv:1602.06072), which [`mdf`] reads, checks and
//! writes. [`physics`] is the forward model: what a scanner would measure of an object. [`solve`] has the solvers for the linear system between a calibrated system matrix and a measurement.
#![forbid(unsafe_code)]

pub mod cli;
pub mod gpu;
pub mod image;
pub mod mdf;
pub mod online;
pub mod physics;
pub mod prepare;
pub mod run;
pub mod select;
pub mod solve;
pub mod xspace;

mod error;

pub use error::Error;
