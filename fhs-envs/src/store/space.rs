//! Room on the store's file system, looked at before it is used up.

use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Error;

/// How much larger packages are unpacked: 72 MB of `.deb` for the closure of `libgtk-3-0` hold 282 MB.
const UNPACKED_TIMES: u64 = 4;

/// Room on a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Space {
    /// Bytes that this user may still write.
    pub available_bytes: u64,
    /// Files that may still be made; 0 where the file system does not count them.
    pub available_files: u64,
    /// All bytes.
    pub total_bytes: u64,
}

/// What builds leave free for others: a full disk ends programs that have nothing to do with a build.
const RESERVE_BYTES_MAX: u64 = 512 << 20;
/// Of a small file system it is this part.
const RESERVE_PART: u64 = 20;
/// Bytes of a file that are read before they are written.
const COPIED_AT_ONCE: usize = 64 << 10;
/// Bytes that are written between two looks. A look takes a microsecond.
const LOOK_BYTES: u64 = 1 << 20;

impl Space {
    /// Bytes that builds leave free.
    #[must_use]
    pub fn reserve(&self) -> u64 {
        RESERVE_BYTES_MAX.min(self.total_bytes / RESERVE_PART)
    }

    /// Bytes that a build may take.
    fn for_builds(&self) -> u64 {
        self.available_bytes.saturating_sub(self.reserve())
    }

    /// Refuses what cannot fit at a path on it.
    fn holds(&self, needed: u64, path: &Path) -> Result<(), Error> {
        if needed <= self.for_builds() {
            return Ok(());
        }
        let (available, reserve) = (self.available_bytes, self.reserve());
        Err(Error::NoRoom { path: path.to_owned(), needed, available, reserve })
    }
}

/// Counts what a build writes, by all its threads, and ends it before the disk is full.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    written: AtomicU64,
}

impl Meter {
    /// Copies into a file at `path`, and ends before the disk is full.
    ///
    /// # Errors
    /// [`Error::RoomUsedUp`]; reading or writing that fails.
    pub(crate) fn copy(&self, from: &mut dyn Read, to: &mut dyn Write, path: &Path) -> Result<(), Error> {
        let folder = path.parent().unwrap_or(path);
        let mut buffer = vec![0; COPIED_AT_ONCE];
        loop {
            let read = match from.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other.map_err(Error::io("write", path))?,
            };
            if read == 0 {
                return Ok(());
            }
            to.write_all(&buffer[..read]).map_err(Error::io("write", path))?;
            self.spend(folder, u64::try_from(read).unwrap_or(u64::MAX))?;
        }
    }

    /// Counts bytes that are being written below a path.
    ///
    /// # Errors
    /// [`Error::RoomUsedUp`].
    pub(crate) fn spend(&self, path: &Path, bytes: u64) -> Result<(), Error> {
        let before = self.written.fetch_add(bytes, Ordering::Relaxed);
        let written = before.saturating_add(bytes);
        if before / LOOK_BYTES == written / LOOK_BYTES {
            return Ok(());
        }
        let space = of(path)?;
        if space.available_bytes >= space.reserve() {
            return Ok(());
        }
        let (available, reserve) = (space.available_bytes, space.reserve());
        Err(Error::RoomUsedUp {
            what: "the build".into(),
            path: path.to_owned(),
            written,
            available,
            reserve,
        })
    }
}

/// Looks at the file system of a path.
///
/// # Errors
/// When the path is not there.
pub fn of(path: &Path) -> Result<Space, Error> {
    let there = rustix::fs::statvfs(path).map_err(|e| Error::io("look at", path)(e.into()))?;
    let bytes = |blocks: u64| blocks.saturating_mul(there.f_frsize);
    Ok(Space {
        available_bytes: bytes(there.f_bavail),
        available_files: there.f_favail,
        total_bytes: bytes(there.f_blocks),
    })
}

/// Refuses what cannot fit.
///
/// # Errors
/// [`Error::NoRoom`].
pub fn ensure(path: &Path, needed: u64) -> Result<(), Error> {
    // Nothing to write takes no room, even on a disk that is full.
    if needed == 0 { Ok(()) } else { of(path)?.holds(needed, path) }
}

/// Before a build: `download` bytes to fetch, `unpack` packed bytes to unpack. What unpacks to its own size or more cannot
/// fit where that is not free; of what probably will not fit the caller gets a line to show.
///
/// # Errors
/// [`Error::NoRoom`].
pub fn before_build(path: &Path, download: u64, unpack: u64) -> Result<Option<String>, Error> {
    ensure(path, download)?;
    Ok(warning(&of(path)?, download, unpack))
}

fn warning(space: &Space, download: u64, unpack: u64) -> Option<String> {
    let likely = download.saturating_add(unpack.saturating_mul(UNPACKED_TIMES));
    (likely > space.for_builds()).then(|| {
        format!(
            "this build takes about {}; {} are free, of which {} stay free for others; `hatchway store gc --dry-run` \
             says what can go",
            readable(likely),
            readable(space.available_bytes),
            readable(space.reserve())
        )
    })
}

/// Bytes for a person: three digits and a binary unit.
#[must_use]
pub fn readable(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut whole = bytes;
    let mut rest = 0;
    while whole >= 1024 && unit + 1 < UNITS.len() {
        rest = whole % 1024;
        whole /= 1024;
        unit += 1;
    }
    if unit > 0 && whole < 100 {
        return format!("{whole}.{} {}", rest * 10 / 1024, UNITS[unit]);
    }
    format!("{whole} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_readable() {
        let table =
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (150 << 20, "150 MiB"), (3 << 40, "3.0 TiB")];
        for (bytes, text) in table {
            assert_eq!(readable(bytes), text);
        }
    }

    #[test]
    fn what_cannot_fit_is_refused_and_what_may_not_is_told() {
        let here = Path::new("/");
        assert!(matches!(ensure(here, u64::MAX), Err(Error::NoRoom { .. })));
        ensure(here, 0).unwrap();
        // A twentieth of it, 100 bytes, stays free.
        let space = Space { available_bytes: 200, available_files: 0, total_bytes: 2000 };
        assert_eq!(space.holds(100, here).map_err(|error| error.to_string()), Ok(()));
        assert_eq!(
            space.holds(101, here).map_err(|error| error.to_string()),
            Err("101 B are needed; on the device of `/` 200 B are free, of which 100 B stay free for others"
                .to_owned())
        );
        assert_eq!(warning(&space, 20, 20), None);
        let said = warning(&space, 21, 20).unwrap();
        assert!(
            said.starts_with("this build takes about 101 B; 200 B are free, of which 100 B stay"),
            "{said}"
        );
        let full = Space { available_bytes: 99, ..space };
        assert!(full.holds(1, here).is_err());
    }
}
