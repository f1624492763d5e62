//! The folder a driver is installed in: `/`, or that of a container which brings the driver.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::error::Error;

/// Names of one folder that are looked at: `/usr/lib/x86_64-linux-gnu` of a full desktop has some five thousand.
const NAMES_MAX: usize = 1 << 16;

/// See the module. Links in it are followed as if it were `/`.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
    folder: OwnedFd,
}

impl Root {
    /// The folder at `path`.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn at(path: &Path) -> Result<Self, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| Error::io("open the driver's root", path)(errno.into()))?;
        Ok(Self { path: path.to_owned(), folder })
    }

    /// Whether it is the host's own.
    #[must_use]
    pub fn is_hosts(&self) -> bool {
        self.path == Path::new("/")
    }

    fn open(&self, path: &str, flags: OFlags) -> Option<OwnedFd> {
        let relative = path.trim_start_matches('/');
        let relative = if relative.is_empty() { "." } else { relative };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&self.folder, relative, flags | OFlags::CLOEXEC, Mode::empty(), resolve).ok()
    }

    /// The path on the host that a path in this root leads to; none where nothing is.
    pub(super) fn real(&self, path: &str) -> Option<PathBuf> {
        let file = self.open(path, OFlags::PATH)?;
        std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()
    }

    /// A path on the host as seen from this root.
    pub(super) fn inside(&self, real: &Path) -> Option<String> {
        let root = std::fs::canonicalize(&self.path).ok()?;
        real.strip_prefix(root).ok().map(|path| format!("/{}", path.display()))
    }

    /// The names in a folder, sorted; none where it cannot be read.
    pub(super) fn names(&self, folder: &str) -> Vec<String> {
        let Some(real) = self.real(folder) else { return Vec::new() };
        let entries = std::fs::read_dir(real).into_iter().flatten().flatten().take(NAMES_MAX);
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// A file's bytes, at most `bound`; none where there is no regular file.
    pub(super) fn bytes(&self, path: &str, bound: u64) -> Option<Vec<u8>> {
        let file = File::from(self.open(path, OFlags::RDONLY | OFlags::NONBLOCK)?);
        if !file.metadata().ok()?.is_file() {
            return None;
        }
        let mut bytes = Vec::new();
        file.take(bound).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// A file's text.
    pub(super) fn text(&self, path: &str, bound: u64) -> Option<String> {
        self.bytes(path, bound).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }
}
