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
    /// A file that is there already.
    #[error("`{}` exists", .0.display())]
    Exists(PathBuf),
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
            Self::Exists(_) => vec!["choose another name, or replace the file with `--force`".to_owned()],
            _ => Vec::new(),
        }
    }
}

/// Whether the reader met a version of the data layout that it does not know.
fn is_new_layout(error: &hdf5_pure::Error) -> bool {
    matches!(error, hdf5_pure::Error::Format(hdf5_pure::FormatError::InvalidLayoutVersion(_)))
}
