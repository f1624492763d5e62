//! What guests are made of and can be made anew: kernels and disks of trees, in a folder that several stores may share.
//!
//! Whoever uses one holds its lock, and leaves a mark with the time and the store's name. So nobody takes what is in use, or
//! what another store has used lately.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hatchway_envs::digest::Sha256;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::Serialize;

use crate::dirs::{Dirs, names_in};

/// What names begin with. A change of the numbers makes kernels or disks anew.
const KERNEL: &str = "kernel-";
const TREE: &str = "tree-";
const NEW: &str = ".new-";
pub(super) const KERNEL_FORMAT: u32 = 2;
const DISK_FORMAT: u32 = 1;
/// Where the marks are.
const MARKS: &str = "used";
/// How long it stays when nobody uses it: a minute of work at most.
pub(super) const KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// What is counted in is blocks of this size (stat(2)).
const BLOCK_BYTES: u64 = 512;

/// The folder, as one store sees it.
#[derive(Debug)]
pub(crate) struct Guests {
    folder: PathBuf,
    trees: PathBuf,
    /// What this store's marks end with.
    own: String,
}

/// Something that was removed, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Forgotten {
    /// Its name in the folder.
    pub(crate) name: String,
    /// Room on disk.
    pub(crate) bytes: u64,
}

impl Guests {
    pub(crate) fn of(dirs: &Dirs) -> Self {
        let data = std::path::absolute(&dirs.data).unwrap_or_else(|_| dirs.data.clone());
        let own = Sha256::of(data.as_os_str().as_encoded_bytes()).hex()[..16].to_owned();
        Self { folder: dirs.cache.join("guests"), trees: dirs.store().join("trees"), own }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn kernel(key: &str) -> String {
        format!("{KERNEL}{}", &Sha256::of(key.as_bytes()).hex()[..32])
    }

    pub(super) fn disk(tree: Sha256) -> String {
        format!("{TREE}{}-{DISK_FORMAT}.erofs", tree.hex())
    }

    /// Where something is made before it has its name.
    pub(super) fn unfinished(&self) -> PathBuf {
        self.folder.join(format!("{NEW}{}", std::process::id()))
    }

    /// Holds what is there, and notes its use; nothing where it is not there.
    pub(super) fn hold(&self, name: &str) -> io::Result<Option<File>> {
        let path = self.folder.join(name);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        flock(&file, FlockOperation::LockShared)?;
        let held = file.metadata()?;
        // Whoever had it locked may have removed it.
        let same = |there: fs::Metadata| (there.dev(), there.ino()) == (held.dev(), held.ino());
        if !fs::metadata(&path).is_ok_and(same) {
            return Ok(None);
        }
        self.note(name)?;
        Ok(Some(file))
    }

    fn note(&self, name: &str) -> io::Result<()> {
        let marks = self.folder.join(MARKS);
        fs::create_dir_all(&marks)?;
        File::create(marks.join(format!("{name}.{}", self.own)))?.set_modified(SystemTime::now())
    }

    /// Removes what this store has not used for so long, nor another one for [`KEPT`], and what makers that are gone have left.
    /// What cannot be removed is tried again next time.
    pub(crate) fn forget(&self, unused_for: Duration, dry_run: bool) -> Vec<Forgotten> {
        let marks = names_in(&self.folder.join(MARKS));
        let mut forgotten = Vec::new();
        for name in names_in(&self.folder) {
            let path = self.folder.join(&name);
            let left = match name.strip_prefix(NEW) {
                Some(pid) => !Path::new("/proc").join(pid).exists(),
                None => self.is_unused(&name, &marks, unused_for),
            };
            let bytes = bytes(&path);
            if left && take(&path, &self.unfinished(), dry_run).unwrap_or(false) {
                forgotten.push(Forgotten { name, bytes });
            }
        }
        for mark in marks.iter().filter(|_| !dry_run) {
            let of = mark.rsplit_once('.').map_or(mark.as_str(), |(name, _)| name);
            if !self.folder.join(of).exists() {
                drop(fs::remove_file(self.folder.join(MARKS).join(mark)));
            }
        }
        forgotten
    }

    fn is_unused(&self, name: &str, marks: &[String], unused_for: Duration) -> bool {
        let tree = name.strip_prefix(TREE).and_then(|rest| rest.split('-').next());
        if tree.is_none() && !name.starts_with(KERNEL) {
            return false;
        }
        let current = name.ends_with(&format!("-{DISK_FORMAT}.erofs"));
        let useless = tree.is_some_and(|tree| !current || !self.trees.join(tree).exists());
        let unused_for = if useless { Duration::ZERO } else { unused_for };
        let mut others = Vec::new();
        let mut own = None;
        for (mark, store) in marks.iter().filter_map(|mark| Some((mark, mark.strip_prefix(name)?))) {
            let age = age(&self.folder.join(MARKS).join(mark));
            if store.trim_start_matches('.') == self.own {
                own = Some(age);
            } else {
                others.push(age);
            }
        }
        if own.is_none() && others.is_empty() {
            // Made by a version that left no marks.
            others.push(age(&self.folder.join(name)));
        }
        own.is_none_or(|age| age >= unused_for) && others.into_iter().all(|age| age >= KEPT)
    }
}

/// Removes something unless somebody holds it; true where it is gone, or would be. Half of it is never seen under its name.
fn take(path: &Path, aside: &Path, dry_run: bool) -> io::Result<bool> {
    let file = File::open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => return Ok(false),
        other => other?,
    }
    if !dry_run {
        fs::rename(path, aside)?;
        remove(aside)?;
    }
    Ok(true)
}

#[expect(clippy::disallowed_methods, reason = "what can be made anew, which is no part of the store")]
pub(super) fn remove(path: &Path) -> io::Result<()> {
    if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

/// How long ago it was changed; what cannot be told, or is to come, is now.
fn age(path: &Path) -> Duration {
    let changed = fs::metadata(path).and_then(|metadata| metadata.modified());
    changed.ok().and_then(|time| time.elapsed().ok()).unwrap_or_default()
}

fn bytes(path: &Path) -> u64 {
    let own = fs::symlink_metadata(path).map_or(0, |metadata| metadata.blocks() * BLOCK_BYTES);
    if !path.is_dir() {
        return own;
    }
    own + names_in(path).iter().map(|name| bytes(&path.join(name))).sum::<u64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    /// A folder that two stores share, and how each sees it.
    fn shared() -> (tempfile::TempDir, Guests, Guests) {
        let folder = tempfile::tempdir().unwrap();
        let store = |name: &str| {
            let dirs = Dirs {
                data: folder.path().join(name),
                cache: folder.path().join("cache"),
                runtime: folder.path().join("run"),
                config: Vec::new(),
            };
            fs::create_dir_all(dirs.store().join("trees")).unwrap();
            Guests::of(&dirs)
        };
        let (one, two) = (store("one"), store("two"));
        fs::create_dir_all(one.folder().join("kernel-1")).unwrap();
        fs::write(one.folder().join("kernel-1/vmlinuz"), "kernel").unwrap();
        (folder, one, two)
    }

    /// As if the last use had been so many days ago.
    fn aged(path: &Path, days: u32) {
        File::open(path).unwrap().set_modified(SystemTime::now() - DAY * days).unwrap();
    }

    fn mark(guests: &Guests, name: &str) -> PathBuf {
        guests.folder.join(MARKS).join(format!("{name}.{}", guests.own))
    }

    fn taken(guests: &Guests, unused_for: Duration) -> Vec<String> {
        guests.forget(unused_for, false).into_iter().map(|one| one.name).collect()
    }

    #[test]
    fn a_kernel_goes_when_nobody_has_used_it_for_long() {
        let (_folder, one, two) = shared();
        // Held, and then used just now.
        let held = one.hold("kernel-1").unwrap().unwrap();
        assert!(taken(&one, Duration::ZERO).is_empty());
        drop(held);
        assert!(taken(&one, DAY).is_empty() && taken(&two, Duration::ZERO).is_empty());
        // Another store has used it within the month.
        drop(two.hold("kernel-1").unwrap().unwrap());
        aged(&mark(&one, "kernel-1"), 40);
        aged(&mark(&two, "kernel-1"), 20);
        assert!(taken(&one, DAY).is_empty());
        aged(&mark(&two, "kernel-1"), 40);
        let said = one.forget(DAY, true);
        assert!(said.len() == 1 && said[0].bytes > 0 && one.folder().join("kernel-1").is_dir(), "{said:?}");
        assert_eq!(taken(&one, DAY), ["kernel-1"]);
        assert!(!one.folder().join("kernel-1").exists() && names_in(&one.folder().join(MARKS)).is_empty());
        assert!(one.hold("kernel-1").unwrap().is_none());
    }

    #[test]
    fn disks_of_trees_that_are_gone_go_at_once_unless_another_store_has_them() {
        let (_folder, one, two) = shared();
        let (gone, old) = (Guests::disk(Sha256::of(b"gone")), format!("tree-{}-0.erofs", Sha256::of(b"x")));
        let there = Guests::disk(Sha256::of(b"there"));
        fs::create_dir(one.trees.join(Sha256::of(b"there").hex())).unwrap();
        for name in [&gone, &old, &there] {
            fs::write(one.folder().join(name), "disk").unwrap();
            drop(one.hold(name).unwrap());
        }
        drop(two.hold(&gone).unwrap());
        assert_eq!(taken(&one, KEPT), std::slice::from_ref(&old));
        aged(&mark(&two, &gone), 31);
        assert_eq!(taken(&one, KEPT), [gone]);
        assert!(one.folder().join(there).exists());
    }

    #[test]
    fn what_other_versions_and_dead_makers_left_goes_and_what_is_none_of_ours_stays() {
        let (_folder, one, _) = shared();
        for name in [".new-4999999", "kvm-does-not-work"] {
            fs::write(one.folder().join(name), "").unwrap();
        }
        assert_eq!(taken(&one, KEPT), [".new-4999999"]);
        // Without a mark its own time counts.
        aged(&one.folder().join("kernel-1"), 31);
        assert_eq!(taken(&one, KEPT), ["kernel-1"]);
        assert!(one.folder().join("kvm-does-not-work").exists());
    }
}
