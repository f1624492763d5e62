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
    /// A matrix without entries.
    #[error("a matrix of {rows} rows and {columns} columns has no solution")]
    Empty {
        /// How many rows.
        rows: usize,
        /// How many columns.
        columns: usize,
    },
    /// A number of values that does not fit.
    #[error("there are {found} {what}, where there should be {expected}")]
    Dimension {
        /// Which values.
        what: &'static str,
        /// How many there should be.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// A value that is NaN or infinite.
    #[error("{what} number {index} (counted from 0) is not finite")]
    NotFinite {
        /// What it is.
        what: &'static str,
        /// Where it is.
        index: usize,
    },
    /// A weight that no row can have.
    #[error("weight number {index} (counted from 0) is {value}, and should be finite and not negative")]
    Weight {
        /// Where it is.
        index: usize,
        /// What it is.
        value: f64,
    },
    /// A parameter of a solver that is out of its range.
    #[error("`{name}` is {value}, and should be {range}")]
    Parameter {
        /// Its name in a plan.
        name: &'static str,
        /// What it is.
        value: f64,
        /// What it may be.
        range: &'static str,
    },
    /// A grid that has not the voxels of the image.
    #[error("a grid of {}x{}x{} voxels does not fit an image of {columns}", grid[0], grid[1], grid[2])]
    Grid {
        /// Voxels along x, y and z.
        grid: [usize; 3],
        /// Voxels of the image.
        columns: usize,
    },
    /// Rows in blocks, where every sweep takes other rows.
    #[error("rows that are drawn anew in every sweep cannot be taken in blocks of {block}")]
    SampledBlocks {
        /// How many rows a block has.
        block: usize,
    },
    /// A matrix of zeros only.
    #[error("all {rows} rows of the matrix are zero")]
    AllZero {
        /// How many there are.
        rows: usize,
    },
    /// The normal equations have no unique solution in this precision.
    #[error(
        "pivot {index} of {size} of the normal equations is {value:e}: the matrix has no full rank, and lambda is too small"
    )]
    Singular {
        /// Where the decomposition ended.
        index: usize,
        /// How many equations there are.
        size: usize,
        /// What was left of the diagonal.
        value: f64,
    },
    /// The image grew beyond all numbers.
    #[error("the image of frame {frame} (counted from 0) is not finite after iteration {iteration}")]
    Diverged {
        /// Which frame.
        frame: usize,
        /// The last one.
        iteration: usize,
    },
    /// It was called off.
    #[error("called off after iteration {iteration}")]
    Cancelled {
        /// The last one that was done.
        iteration: usize,
    },
}
