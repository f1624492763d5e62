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
    /// An image cannot be written as NIfTI.
    #[error("cannot write `{}` as NIfTI", path.display())]
    Nifti {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<nifti::NiftiError>,
    },
    /// An image cannot be written as DICOM.
    #[error("cannot write the image as DICOM")]
    Dicom(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A matrix that will not fit into memory.
    #[error(
        "a matrix of {rows} rows and {columns} columns takes {:.1} MB, and {:.1} MB are left: {rows_fit} rows would fit",
        *needed as f64 / 1e6,
        *available as f64 / 1e6
    )]
    Memory {
        /// How many rows.
        rows: usize,
        /// How many columns.
        columns: usize,
        /// Bytes that it takes.
        needed: u64,
        /// Bytes that are left.
        available: u64,
        /// Rows that would fit.
        rows_fit: u64,
    },
    /// A socket cannot be used.
    #[error("cannot {action} at `{door}`")]
    Door {
        /// What was tried.
        action: &'static str,
        /// Where.
        door: String,
        /// Why.
        source: std::io::Error,
    },
    /// What came over a socket is not what it should be.
    #[error("the stream cannot be used: {0}")]
    Stream(String),
    /// The other end of a socket is gone.
    #[error("the stream broke off")]
    StreamLost(#[source] std::io::Error),
    /// A service does not take the frames of a source.
    #[error("the service does not take the frames: {0}")]
    Refused(String),
    /// A scan cannot be made ready for reconstruction.
    #[error("the frames cannot be prepared: {0}")]
    Preparation(String),
    /// A signal cannot be put in its place.
    #[error("x-space cannot make an image of it: {0}")]
    XSpace(String),
    /// A file's signal cannot be put in its place.
    #[error("x-space cannot make an image of `{}`: {problem}", path.display())]
    Unplaced {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A plan cannot be read.
    #[error("`{}` is no plan", path.display())]
    Plan {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line.
        source: Box<toml::de::Error>,
    },
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
    /// A file that is no HDF5 file, or a damaged one.
    #[error("cannot open `{}` as an HDF5 file", path.display())]
    NotHdf5 {
        /// The file.
        path: PathBuf,
        /// Why.
        source: hdf5_pure::Error,
    },
    /// A dataset that cannot be read.
    #[error("cannot read the dataset `{dataset}` of `{}`", path.display())]
    Dataset {
        /// The file.
        path: PathBuf,
        /// The dataset's path in it.
        dataset: String,
        /// Why.
        source: hdf5_pure::Error,
    },
    /// A mandatory dataset is not there.
    #[error("`{}` has no dataset `{dataset}`", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The dataset's path in it.
        dataset: String,
    },
    /// A dataset, or what is said of it, is not what MDF or the reader asks for.
    #[error("`{dataset}` of `{}` is {found}, not {expected}", path.display())]
    Unexpected {
        /// The file.
        path: PathBuf,
        /// The dataset's path in it.
        dataset: String,
        /// What is there.
        found: String,
        /// What should be there.
        expected: String,
    },
    /// A dataset claims more than the file can hold, or than one read may take.
    #[error("`{dataset}` of `{}` claims {claimed}, where {limit}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The dataset's path in it.
        dataset: String,
        /// What it claims.
        claimed: String,
        /// What the limit is, and why.
        limit: String,
    },
    /// A part of a chunked dataset that would have to be decoded at once.
    #[error("a part of `{dataset}` of `{}` has {bytes} bytes, where {limit} are decoded at once", path.display())]
    PartTooLarge {
        /// The file.
        path: PathBuf,
        /// The dataset's path in it.
        dataset: String,
        /// Size of the part.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// Frames, rows or elements outside of the data were asked for.
    #[error("{what} were asked for, where there are {limit}")]
    OutOfRange {
        /// What was asked for.
        what: String,
        /// What there is.
        limit: String,
    },
    /// A model that cannot be written as an MDF file.
    #[error("cannot write `{dataset}`: it is {found}, not {expected}")]
    Unwritable {
        /// The dataset's path.
        dataset: String,
        /// What was given.
        found: String,
        /// What MDF asks for.
        expected: String,
    },
    /// HDF5 metadata that cannot be laid out.
    #[error("cannot lay out `{}`", path.display())]
    Build {
        /// The file.
        path: PathBuf,
        /// Why.
        source: hdf5_pure::Error,
    },
    /// Standard output takes no more.
    #[error("cannot write to standard output")]
    Output(#[source] std::io::Error),
    /// A file that a plan names for two things.
    #[error("the plan names `{}` for more than one thing, and would write over it", .0.display())]
    Twice(PathBuf),
    /// A file that is there already.
    #[error("`{}` exists", .0.display())]
    Exists(PathBuf),
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
    /// A grid that cannot be transformed along its axes.
    #[error("a grid of {}x{}x{} voxels has an axis that is not of 1 to 4096 voxels", grid[0], grid[1], grid[2])]
    Axes {
        /// Voxels along x, y and z.
        grid: [usize; 3],
    },
    /// Two things that exclude each other.
    #[error("{one} and {other} do not go together: {why}")]
    Together {
        /// One of them.
        one: &'static str,
        /// The other one.
        other: &'static str,
        /// Why not.
        why: &'static str,
    },
    /// A patch that is no part of an image.
    #[error("the patch cannot be used: {problem}")]
    Patch {
        /// What is wrong.
        problem: String,
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
    /// No graphics card can be used.
    #[error("no graphics card can be used: {0}")]
    NoGpu(String),
    /// A graphics card cannot do what it was asked to.
    #[error("the graphics card `{adapter}` cannot {action}: {reason}")]
    Gpu {
        /// Its name.
        adapter: String,
        /// What was tried.
        action: String,
        /// What its driver says.
        reason: String,
    },
    /// Something is too large for a graphics card; found out before it was given memory.
    #[error("the graphics card `{adapter}` has no room for {what}: {needed} bytes, where {limit}")]
    GpuMemory {
        /// Its name.
        adapter: String,
        /// What was to be put there.
        what: String,
        /// How many bytes it takes.
        needed: u64,
        /// What the limit is, in bytes, and what would fit.
        limit: String,
    },
    /// A graphics card went away in the middle of its work, or failed at it.
    #[error("the graphics card `{adapter}` was lost: {reason}")]
    GpuLost {
        /// Its name.
        adapter: String,
        /// What its driver says.
        reason: String,
    },
    /// It was called off.
    #[error("called off after iteration {iteration}")]
    Cancelled {
        /// The last one that was done.
        iteration: usize,
    },
}

impl Error {
    pub(crate) fn model(part: &'static str, problem: impl Into<String>) -> Self {
        Self::Model { part, problem: problem.into() }
    }
}

impl Error {
    /// What to type next, if something helps.
    #[must_use]
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::NotHdf5 { .. } => vec!["`h5dump -H FILE` tells whether another reader opens it".to_owned()],
            Self::Dataset { path, source, .. } if is_new_layout(source) => {
                let file = path.display();
                vec![format!(
                    "HDF5 2.0 wrote it in its own format; its `h5repack --high=2 {file} NEW.mdf` rewrites it"
                )]
            }
            Self::Dataset { path, dataset, .. } => {
                let file = path.display();
                vec![format!("soft links are not followed; `h5dump -H -d {dataset} {file}` tells what it is")]
            }
            Self::Missing { path, .. } | Self::Unexpected { path, .. } => {
                vec![format!("`hatchway-recon mdf check {}` lists everything that is wrong", path.display())]
            }
            Self::PartTooLarge { path, .. } => {
                let file = path.display();
                vec![format!("`h5repack -l CONTI {file} NEW.mdf` stores it so that it can be read in parts")]
            }
            Self::NoGpu(_) => {
                vec!["`hatchway-recon devices` lists what there is; `use = \"cpu\"` in `[device]` does without".to_owned()]
            }
            Self::Gpu { .. } | Self::GpuLost { .. } => {
                vec!["`fall-back = true` in `[device]` lets the processor take over".to_owned()]
            }
            Self::GpuMemory { .. } => {
                vec!["fewer rows (`snr` or `most` in `[rows]`) take less; `fall-back = true` in `[device]` lets the processor take over".to_owned()]
            }
            Self::StreamLost(_) => {
                vec!["what `hatchway-recon serve` says tells whether it sent the other end away".to_owned()]
            }
            Self::Memory { .. } => {
                vec![
                    "choose fewer rows in `[rows]`: a greater `snr`, or the best ones with `most`".to_owned(),
                ]
            }
            Self::Exists(_) => vec!["choose another name, or replace the file with `--force`".to_owned()],
            _ => Vec::new(),
        }
    }
}

/// Whether the reader met a version of the data layout that it does not know.
fn is_new_layout(error: &hdf5_pure::Error) -> bool {
    matches!(error, hdf5_pure::Error::Format(hdf5_pure::FormatError::InvalidLayoutVersion(_)))
}
