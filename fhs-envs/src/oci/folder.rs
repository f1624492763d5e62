//! A folder that holds an image: files of known names, no link followed, each read once and up to a bound.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::digest::Sha256;
use crate::error::Error;
use crate::store::Store;

/// Bytes of an index, a manifest or a configuration; registries accept 4 MiB.
pub(super) const DOCUMENT_BYTES_MAX: u64 = 4 << 20;

pub(super) struct Folder {
    folder: OwnedFd,
    /// The name it has in messages.
    pub(super) shown: String,
}

impl Folder {
    pub(super) fn open(path: &Path, shown: &Path) -> Result<Self, Error> {
        let folder = File::open(path).map_err(Error::io("open", path))?;
        Ok(Self { folder: folder.into(), shown: shown.display().to_string() })
    }

    fn bad(&self, reason: String) -> Error {
        Error::Image { image: self.shown.clone(), reason }
    }

    /// A regular file in the folder; `None` where there is none of that name.
    fn file(&self, name: &str) -> Result<Option<File>, Error> {
        // Nobody vouches for what is in there: a link would lead out onto the host, opening a pipe would wait for ever.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let shown = || Path::new(&self.shown).join(name);
        let file = match rustix::fs::openat2(&self.folder, name, flags, Mode::empty(), resolve) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(rustix::io::Errno::LOOP | rustix::io::Errno::XDEV) => {
                return Err(self.bad(format!("`{}` leads through a link", name.escape_debug())));
            }
            Err(errno) => return Err(Error::io("open", shown())(errno.into())),
        };
        match file.metadata().map_err(Error::io("read", shown()))?.is_file() {
            true => Ok(Some(file)),
            false => Err(self.bad(format!("`{}` is no file", name.escape_debug()))),
        }
    }

    /// A small file whole.
    pub(super) fn text(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some(file) = self.file(name)? else { return Ok(None) };
        let mut text = Vec::new();
        let read = file.take(DOCUMENT_BYTES_MAX + 1).read_to_end(&mut text);
        read.map_err(Error::io("read", Path::new(&self.shown).join(name)))?;
        if text.len() as u64 > DOCUMENT_BYTES_MAX {
            return Err(self.bad(format!("`{name}` has more than {DOCUMENT_BYTES_MAX} bytes")));
        }
        Ok(Some(text))
    }

    /// Takes a file into the store; gives its digest and size.
    pub(super) fn import(&self, store: &Store, name: &str, expected: Sha256) -> Result<(Sha256, u64), Error> {
        if let Ok(there) = std::fs::metadata(store.artifact(expected)) {
            return Ok((expected, there.len()));
        }
        let missing = || self.bad(format!("`{}` is missing", name.escape_debug()));
        let file = self.file(name)?.ok_or_else(missing)?;
        store.import_open(file, &Path::new(&self.shown).join(name), Some(expected))
    }
}
