//! Packages to closure to lock to tree; the store; the plan of the namespace sandbox.
#![forbid(unsafe_code)]

pub mod debian;
pub mod resolve;
pub mod base;
pub mod choose;
pub mod lock;
pub mod fetch;
pub mod build;
pub mod store;
pub mod sandbox;

pub mod digest;
mod error;
mod progress;

pub use error::Error;
pub use progress::{Progress, Quiet};
