//! The one error type of this crate.

use std::io;
use std::path::{Path, PathBuf};

/// Why a vendor file could not be read.
///
/// Every variant names the artifact, and the member inside it where there is one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused to open or read the artifact.
    #[error("cannot read `{}`", archive.display())]
    Io {
        /// The artifact, or the file below an artifact that is a directory.
        archive: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The artifact ends before its own headers say it does.
    #[error("`{}` is truncated: {what}", archive.display())]
    Truncated {
        /// The artifact.
        archive: PathBuf,
        /// Where it ends.
        what: String,
    },
    /// The artifact contradicts itself or its checksums.
    #[error("`{}` is corrupt: {what}", archive.display())]
    Corrupt {
        /// The artifact.
        archive: PathBuf,
        /// What is wrong, and where.
        what: String,
    },
    /// A member whose name, link or position no honest package has.
    #[error("`{}` is refused: member `{member}` {what}", archive.display())]
    Hostile {
        /// The artifact.
        archive: PathBuf,
        /// The member as it is named in the artifact, made printable.
        member: String,
        /// What is wrong with it.
        what: String,
    },
    /// A bound of [`Limits`](crate::archive::Limits) was reached.
    #[error("`{}` exceeds a limit: {what} (the limit is {limit})", archive.display())]
    Limit {
        /// The artifact.
        archive: PathBuf,
        /// What there is too much of, with the member where one is to blame.
        what: String,
        /// The bound.
        limit: u64,
    },
    /// A format, or a feature of a format, that this crate does not read.
    #[error("`{}` cannot be read: {what}", archive.display())]
    Unsupported {
        /// The artifact.
        archive: PathBuf,
        /// The format or feature.
        what: String,
    },
    /// An ELF file that the loader would not accept either.
    #[error("`{member}` is not a well-formed ELF file: {what}")]
    Elf {
        /// The file's name inside the artifact.
        member: String,
        /// What is wrong.
        what: String,
    },
    /// A control file (`control`, `METADATA`, `WHEEL`) that cannot be parsed.
    #[error("{}`{member}`, line {line}: {what}", archive.as_ref().map(|a| format!("`{}`: ", a.display())).unwrap_or_default())]
    Control {
        /// The artifact, where the text came from one.
        archive: Option<PathBuf>,
        /// The control file.
        member: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
}

impl Error {
    /// Sorts an I/O error of a decoder into "truncated", "corrupt" and "the system refused".
    ///
    /// The decoders all report through [`io::Error`]; only an error with an OS code comes from the file system.
    pub(crate) fn decoding(archive: &Path, what: &str, source: io::Error) -> Self {
        let archive = archive.to_path_buf();
        if source.raw_os_error().is_some() {
            return Self::Io { archive, source };
        }
        match source.kind() {
            io::ErrorKind::UnexpectedEof => {
                Self::Truncated { archive, what: format!("it ends inside {what}") }
            }
            io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::PermissionDenied => {
                Self::Io { archive, source }
            }
            _ => Self::Corrupt { archive, what: format!("{what}: {source}") },
        }
    }

    /// Says which artifact a control file belongs to; other errors know it.
    pub(crate) fn in_archive(self, path: &Path) -> Self {
        match self {
            Self::Control { member, line, what, .. } => {
                Self::Control { archive: Some(path.to_path_buf()), member, line, what }
            }
            other => other,
        }
    }

    pub(crate) fn io(archive: &Path, source: io::Error) -> Self {
        Self::Io { archive: archive.to_path_buf(), source }
    }

    pub(crate) fn corrupt(archive: &Path, what: impl Into<String>) -> Self {
        Self::Corrupt { archive: archive.to_path_buf(), what: what.into() }
    }

    pub(crate) fn truncated(archive: &Path, what: impl Into<String>) -> Self {
        Self::Truncated { archive: archive.to_path_buf(), what: what.into() }
    }

    pub(crate) fn hostile(archive: &Path, member: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Hostile { archive: archive.to_path_buf(), member: member.into(), what: what.into() }
    }

    pub(crate) fn limit(archive: &Path, what: impl Into<String>, limit: u64) -> Self {
        Self::Limit { archive: archive.to_path_buf(), what: what.into(), limit }
    }

    pub(crate) fn unsupported(archive: &Path, what: impl Into<String>) -> Self {
        Self::Unsupported { archive: archive.to_path_buf(), what: what.into() }
    }
}
