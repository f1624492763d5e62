//! MDF files: reading, checking, writing.
//!
//! The Magnetic Particle Imaging Data Format (arXiv:1602.06072) keeps measurements, system matrices and images in HDF5.
//! [`fields`] is its table of fields. [`File`] opens a file of any size in parts, [`Mdf`] has its metadata as typed
//! sections, [`MeasurementData`] gives frames and rows of any storage in one order, [`Writer`] writes a new file, and
//! [`check`] tells everything in which a file differs from the specification.

pub mod check;
pub mod convert;
pub mod data;
pub mod dct;
pub mod fields;
pub mod model;
pub mod sample;
pub mod stored;
pub mod text;
pub mod tree;
pub mod value;
pub mod write;

mod chunks;
mod file;
mod layout;
mod leaf;
mod patch;
mod sparse;

pub use check::{Finding, Report, Severity, check_bytes};
pub use data::MeasurementData;
pub use file::File;
pub use model::{Array, Mdf};
pub use stored::{Storage, Stored};
pub use write::Writer;
