//! A folder for what is not finished, beside what it will be part of. Whoever dies leaves one; the next export there removes
//! it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hatchway_envs::store::remove_tree;
use rustix::fs::FlockOperation;

use crate::error::Error;

/// What the name of such a folder begins with.
const PREFIX: &str = ".hatchway-export-";
/// The file in it that its maker holds locked.
const LOCK: &str = "lock";

/// The folder; it goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Staging {
    folder: PathBuf,
    _lock: File,
}

impl Staging {
    /// Makes one in `parent`, and removes those that nobody holds any more.
    pub(crate) fn new(parent: &Path) -> Result<Self, Error> {
        // Between the folder and its lock file it would look abandoned to another export: one at a time.
        let alone = File::open(parent).map_err(Error::io("open", parent))?;
        rustix::fs::flock(&alone, FlockOperation::LockExclusive)
            .map_err(|errno| Error::io("lock", parent)(errno.into()))?;
        remove_abandoned(parent)?;
        let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.subsec_nanos());
        let folder = parent.join(format!("{PREFIX}{}-{nanos}", std::process::id()));
        fs::create_dir(&folder).map_err(Error::io("create", &folder))?;
        let lock_path = folder.join(LOCK);
        let lock = File::create_new(&lock_path).map_err(Error::io("create", &lock_path))?;
        hatchway_sys::lock::lock_exclusive(&lock).map_err(Error::io("lock", &lock_path))?;
        Ok(Self { folder, _lock: lock })
    }

    /// A path in it.
    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.folder.join(below)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What cannot be removed now the next export removes.
        drop(remove_tree(&self.folder));
    }
}

/// One that cannot be removed (another user's in a shared folder) is none of our business.
fn remove_abandoned(parent: &Path) -> Result<(), Error> {
    let entries = fs::read_dir(parent).map_err(Error::io("read", parent))?;
    for entry in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX)) {
        match File::options().write(true).open(entry.path().join(LOCK)) {
            Ok(lock) if hatchway_sys::lock::try_lock_exclusive(&lock).unwrap_or(false) => {
                drop(remove_tree(&entry.path()));
            }
            Ok(_) => {}
            // Whoever makes one holds the parent until its lock is there; so it is being removed, or was when its maker died.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => drop(remove_tree(&entry.path())),
            Err(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_export_left_is_removed_and_a_living_ones_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let dead = parent.path().join(format!("{PREFIX}1-1"));
        fs::create_dir_all(dead.join("blobs")).unwrap();
        fs::write(dead.join(LOCK), "").unwrap();
        fs::write(dead.join("blobs/x"), "half").unwrap();
        let dying = parent.path().join(format!("{PREFIX}2-2"));
        fs::create_dir_all(dying.join("blobs")).unwrap();
        let one = Staging::new(parent.path()).unwrap();
        assert!(!dead.exists() && !dying.exists());
        // Locks of one process do not exclude each other by process but by open file.
        let two = Staging::new(parent.path()).unwrap();
        assert!(one.path(LOCK).exists() && two.path(LOCK).exists());
        drop((one, two));
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}
