//! Packages to closure to lock to tree; the store; the plan of the namespace sandbox.
#![forbid(unsafe_code)]

pub mod base;
pub mod build;
pub mod choose;
pub mod debian;
pub mod fetch;
pub mod lock;
pub mod oci;
pub mod python;
pub mod resolve;
pub mod sandbox;
pub mod store;
pub mod wine;

pub mod digest;
mod error;
mod progress;

pub use error::Error;
pub use progress::{Progress, Quiet};
