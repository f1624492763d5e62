//! An MDF file that is read in parts: datasets by their paths, each checked before it is trusted.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hdf5_pure::{FileAccessProperties, FormatError, MetadataCacheConfig, Source};

use super::stored::Stored;
use crate::Error;

/// Parsed metadata that is kept; the headers of every dataset of an MDF file take a few hundred KiB.
const METADATA_CACHE_BYTES: usize = 8 << 20;
/// Larger than any header, index or heap block that MDF files have; hostile lengths end here.
const METADATA_READ_BYTES_MAX: usize = 64 << 20;

/// Where the bytes are.
#[derive(Debug)]
enum Backing {
    Disk { file: std::fs::File, size: u64 },
    Memory(Vec<u8>),
}

impl Backing {
    fn size(&self) -> u64 {
        match self {
            Self::Disk { size, .. } => *size,
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Disk { file, .. } => file.read_exact_at(buffer, offset),
            Self::Memory(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let part = start.checked_add(buffer.len()).and_then(|end| bytes.get(start..end));
                buffer.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }
}

/// What `hdf5-pure` reads through.
struct Shared(Arc<Backing>);

impl Shared {
    /// Bytes from an offset to the end.
    fn available(&self, offset: u64) -> usize {
        usize::try_from(self.0.size().saturating_sub(offset)).unwrap_or(usize::MAX)
    }
}

impl Source for Shared {
    fn len(&self) -> u64 {
        self.0.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), FormatError> {
        let available = self.available(offset);
        if buffer.len() > available {
            return Err(FormatError::UnexpectedEof { expected: buffer.len(), available });
        }
        self.0.read_at(offset, buffer).map_err(|error| FormatError::Source(error.to_string()))
    }

    fn read_exact_at(&self, offset: u64, len: usize) -> Result<Vec<u8>, FormatError> {
        let available = self.available(offset);
        if len > available {
            return Err(FormatError::UnexpectedEof { expected: len, available });
        }
        let mut buffer = vec![0; len];
        self.read_at(offset, &mut buffer)?;
        Ok(buffer)
    }
}

/// An open MDF file. Nothing but metadata is held in memory.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    backing: Arc<Backing>,
    hdf5: hdf5_pure::File,
}

impl File {
    /// Opens a file for reading in parts.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is not an HDF5 file.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io { action: "open", path: path.to_owned(), source };
        let file = std::fs::File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if metadata.is_dir() {
            return Err(io(io::ErrorKind::IsADirectory.into()));
        }
        Self::over(path.to_owned(), Backing::Disk { file, size: metadata.len() })
    }

    /// Opens a file that is in memory. `name` stands for its path in messages.
    ///
    /// # Errors
    ///
    /// The bytes are not an HDF5 file.
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<Self, Error> {
        Self::over(PathBuf::from(name), Backing::Memory(bytes))
    }

    fn over(path: PathBuf, backing: Backing) -> Result<Self, Error> {
        let backing = Arc::new(backing);
        let cache =
            MetadataCacheConfig::new(METADATA_CACHE_BYTES).with_max_entry_bytes(METADATA_READ_BYTES_MAX);
        let options = FileAccessProperties::new().with_metadata_cache(cache);
        match hdf5_pure::File::from_source_with_options(Shared(Arc::clone(&backing)), options) {
            Ok(hdf5) => Ok(Self { path, backing, hdf5 }),
            Err(source) => Err(Error::NotHdf5 { path, source }),
        }
    }

    /// The path that it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Size of the whole file in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.backing.size()
    }

    /// The dataset of a path, or nothing if there is none.
    ///
    /// # Errors
    ///
    /// There is something that is no readable dataset, or that claims more data than the file can hold.
    pub fn find(&self, dataset: &str) -> Result<Option<Stored<'_>>, Error> {
        match self.hdf5.dataset(dataset.trim_start_matches('/')) {
            Ok(found) => Stored::open(self, dataset, found).map(Some),
            Err(hdf5_pure::Error::Format(FormatError::PathNotFound(_))) => Ok(None),
            Err(source) => Err(self.failed(dataset, source)),
        }
    }

    /// The dataset of a path.
    ///
    /// # Errors
    ///
    /// As [`File::find`], and if there is none.
    pub fn get(&self, dataset: &str) -> Result<Stored<'_>, Error> {
        self.find(dataset)?
            .ok_or_else(|| Error::Missing { path: self.path.clone(), dataset: dataset.to_owned() })
    }

    /// Whether a group is there. The root, whose path is empty, always is.
    #[must_use]
    pub fn has_group(&self, group: &str) -> bool {
        group.is_empty() || self.hdf5.group(group.trim_start_matches('/')).is_ok()
    }

    /// The underlying HDF5 group, for listings.
    pub(super) fn group(&self, group: &str) -> Result<hdf5_pure::Group, Error> {
        if group.is_empty() {
            return Ok(self.hdf5.root());
        }
        self.hdf5.group(group.trim_start_matches('/')).map_err(|source| self.failed(group, source))
    }

    /// Fills a buffer from the file itself.
    pub(super) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let path = || self.path.clone();
        self.backing.read_at(offset, buffer).map_err(|source| Error::Io {
            action: "read",
            path: path(),
            source,
        })
    }

    pub(super) fn failed(&self, dataset: &str, source: hdf5_pure::Error) -> Error {
        Error::Dataset { path: self.path.clone(), dataset: dataset.to_owned(), source }
    }

    pub(super) fn unexpected(&self, dataset: &str, found: String, expected: impl Into<String>) -> Error {
        let path = self.path.clone();
        Error::Unexpected { path, dataset: dataset.to_owned(), found, expected: expected.into() }
    }
}
