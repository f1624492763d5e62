//! Where an archive's bytes come from: a file, memory, or a window of either.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::Error;
use crate::scripts::hex;

/// Bytes hashed at a time; most archives inside of others are shorter.
const HASH_BUFFER: usize = 256 << 10;

/// A reader that can seek.
pub trait ReadSeek: Read + Seek {}
impl<T: Read + Seek> ReadSeek for T {}

/// The bytes of one archive, whole and seekable, with the name it has in messages.
///
/// Positions are relative to its beginning: a [`window`](Source::window) of a file behaves like a file of its own.
pub struct Source<'s> {
    reader: Box<dyn ReadSeek + 's>,
    name: PathBuf,
    start: u64,
    length: u64,
    position: u64,
    /// The reader stands elsewhere: a window has used it, or will.
    displaced: bool,
}

impl std::fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("name", &self.name)
            .field("start", &self.start)
            .field("length", &self.length)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl<'s> Source<'s> {
    /// Opens the regular file at `path`.
    ///
    /// # Errors
    /// When it cannot be opened, or is no regular file.
    pub fn open(path: &Path) -> Result<Source<'static>, Error> {
        // Opening a pipe waits for somebody who writes to it.
        let metadata = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
        let refused = || Error::unsupported(path, "it is neither a regular file nor a directory");
        if !metadata.is_file() {
            return Err(refused());
        }
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let metadata = file.metadata().map_err(|e| Error::io(path, e))?;
        if !metadata.is_file() {
            return Err(refused());
        }
        let length = metadata.len();
        Ok(Source {
            reader: Box::new(file),
            name: path.into(),
            start: 0,
            length,
            position: 0,
            displaced: false,
        })
    }

    /// The same under another name, by which messages and lone files know it.
    #[must_use]
    pub fn named(mut self, name: &Path) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Bytes in memory.
    #[must_use]
    pub fn bytes(name: &Path, bytes: &'s [u8]) -> Self {
        let length = bytes.len() as u64;
        let reader = Box::new(io::Cursor::new(bytes));
        Self { reader, name: name.into(), start: 0, length, position: 0, displaced: false }
    }

    /// An open file, whose own position stays where it is.
    pub(crate) fn of_file(name: &Path, file: &'s File, length: u64) -> Self {
        Self::scattered(name, Positioned { file, at: 0 }, length)
    }

    /// The bytes of a file inside another that are not in one piece there.
    pub(super) fn scattered(name: &Path, reader: impl ReadSeek + 's, length: u64) -> Self {
        Self { reader: Box::new(reader), name: name.into(), start: 0, length, position: 0, displaced: true }
    }

    /// `length` bytes from `start`, cut where this source ends.
    #[must_use]
    pub fn window(&mut self, start: u64, length: u64) -> Source<'_> {
        let start = start.min(self.length);
        let length = length.min(self.length - start);
        self.displaced = true;
        Source {
            reader: Box::new(&mut *self.reader),
            name: self.name.clone(),
            start: self.start + start,
            length,
            position: 0,
            displaced: true,
        }
    }

    /// The name it has in messages.
    #[must_use]
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// Bytes in all.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Moves to `position`.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn go(&mut self, position: u64) -> Result<(), Error> {
        self.seek(SeekFrom::Start(position)).map(drop).map_err(|e| Error::io(&self.name, e))
    }

    /// The SHA-256 of all its bytes, in lower-case hexadecimal.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn sha256(&mut self) -> Result<String, Error> {
        self.go(0)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0_u8; usize::try_from(self.length).unwrap_or(HASH_BUFFER).min(HASH_BUFFER)];
        loop {
            match self.read(&mut buffer) {
                Ok(0) => return Ok(hex(&hasher.finalize())),
                Ok(got) => hasher.update(&buffer[..got]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io(&self.name, e)),
            }
        }
    }

    /// At most `length` bytes from `position`; fewer only where the source ends. `length` is the caller's own bound.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn read_at(&mut self, position: u64, length: usize) -> Result<Vec<u8>, Error> {
        self.go(position)?;
        let mut bytes = Vec::new();
        self.by_ref().take(length as u64).read_to_end(&mut bytes).map_err(|e| Error::io(&self.name, e))?;
        Ok(bytes)
    }

    /// Exactly `length` bytes from `position`. `length` is the caller's own bound; `what` is named when they are missing.
    ///
    /// # Errors
    /// [`Error::Truncated`] when the source ends before, or when the operating system refuses.
    pub fn read_exact_at(&mut self, position: u64, length: usize, what: &str) -> Result<Vec<u8>, Error> {
        let bytes = self.read_at(position, length)?;
        if bytes.len() < length {
            return Err(Error::truncated(&self.name, format!("it ends inside {what}")));
        }
        Ok(bytes)
    }
}

/// A reader with a position of its own. It is always sent somewhere from the beginning.
struct Positioned<'f> {
    file: &'f File,
    at: u64,
}

impl Read for Positioned<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.file.read_at(buffer, self.at)?;
        self.at = self.at.saturating_add(got as u64);
        Ok(got)
    }
}

impl Seek for Positioned<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.file.metadata()?.len().checked_add_signed(by),
        };
        self.at = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.length.saturating_sub(self.position);
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        if want == 0 {
            return Ok(0);
        }
        if self.displaced {
            self.seek(SeekFrom::Start(self.position))?;
        }
        let got = self.reader.read(&mut buffer[..want])?;
        self.position += got as u64;
        Ok(got)
    }
}

impl Seek for Source<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        let outside = || io::Error::new(io::ErrorKind::InvalidInput, "a position outside the file");
        let target = target.ok_or_else(outside)?;
        // Beyond the end there is nothing to read, so the reader below need not go there.
        let real = self.start.checked_add(target.min(self.length)).ok_or_else(outside)?;
        self.reader.seek(SeekFrom::Start(real))?;
        self.position = target;
        self.displaced = false;
        Ok(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_keeps_its_own_position() {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, b"0123456789").unwrap();
        file.rewind().unwrap();
        let mut source = Source::of_file(Path::new("x"), &file, 10);
        assert_eq!(source.read_at(3, 4).unwrap(), b"3456");
        assert_eq!(source.window(5, 3).read_at(1, 9).unwrap(), b"67");
        let mut own = &file;
        assert_eq!(own.stream_position().unwrap(), 0);
    }

    #[test]
    fn windows_are_files_of_their_own() {
        let bytes: Vec<u8> = (0..100).collect();
        let mut whole = Source::bytes(Path::new("x"), &bytes);
        let mut window = whole.window(10, 20);
        let mut inner = window.window(5, 1000);
        assert_eq!((inner.len(), inner.read_at(0, 3).unwrap()), (15, vec![15, 16, 17]));
        assert_eq!(inner.read_at(14, 9).unwrap(), [29]);
        assert!(inner.read_at(500, 9).unwrap().is_empty());
        assert_eq!(inner.seek(SeekFrom::End(-1)).unwrap(), 14);
        assert!(inner.seek(SeekFrom::Current(-15)).is_err());
        assert!(inner.read_exact_at(10, 6, "a test").is_err());
        drop(inner);
        assert_eq!(window.read_at(0, 2).unwrap(), [10, 11]);
        assert_eq!(window.window(7, 1).read_at(0, 2).unwrap(), [17]);
        let mut rest = Vec::new();
        window.read_to_end(&mut rest).unwrap();
        assert_eq!(rest.len(), 18);
    }
}
