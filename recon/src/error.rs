//! The one error type of the crate. `Display` never repeats its source; [`crate::cli`] prints the chain and the hint.

use std::path::PathBuf;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A part of the forward model makes no sense.
    #[error("the {part} cannot be simulated: {problem}")]
    Model {
        /// Which part.
        part: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// An image cannot be made, compared or shown.
    #[error("the image cannot be used: {0}")]
    Image(String),
    /// A scan cannot be made ready for reconstruction.
    #[error("the frames cannot be prepared: {0}")]
    Preparation(String),
    /// A signal cannot be put in its place.
    #[error("x-space cannot make an image of it: {0}")]
    XSpace(String),
    /// A filter of frequencies leaves nothing, or cannot be applied.
    #[error("the selection of frequencies cannot be used: {problem}")]
    Selection {
        /// What is wrong.
        problem: String,
        /// What was asked for.
        filter: Box<crate::select::Filter>,
    },
    /// A surface cannot be used.
    #[error("`{}` is no closed surface of triangles: {problem}", path.display())]
    Stl {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl Error {
    pub(crate) fn model(part: &'static str, problem: impl Into<String>) -> Self {
        Self::Model { part, problem: problem.into() }
    }
}
