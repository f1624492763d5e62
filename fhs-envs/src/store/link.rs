//! Putting a tree together from objects: folders, symbolic links, and hard links into the objects.
//!
//! A tree has thousands of entries in a few folders, so each folder is opened once and its entries are made relative to it:
//! the kernel then does not walk the same long paths for every one of them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, linkat, openat, symlinkat};

use super::manifest::{DIRECTORY_MODE, Manifest, Node};
use super::{FIXED_MTIME, Workspace, object_path, seal};
use crate::digest::Sha256;
use crate::error::Error;
use crate::fetch::parallel;

/// Entries of a tree that one thread makes before it asks for more.
const MADE_AT_ONCE: usize = 512;

/// Folders that one thread makes before it asks for more.
const FOLDERS_AT_ONCE: usize = 32;

/// One file or link of a tree: its folder, its name there, and what it is.
type Entry<'a> = (&'a str, &'a str, &'a Node);

/// Makes the tree in a folder that is not there yet, on all cores: folders first, those of one depth after those above them,
/// then what lies in them. A thread takes entries that follow each other, so that seldom two work in one folder.
pub(super) fn tree(workspace: &Workspace<'_>, root: &Path, manifest: &Manifest) -> Result<(), Error> {
    directory(root)?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut folders: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
    let mut entries: Vec<Entry<'_>> = Vec::new();
    for (path, node) in &manifest.nodes {
        if matches!(node, Node::Directory) {
            folders.entry(path.matches('/').count()).or_default().push(path);
        } else {
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
            entries.push((folder, name, node));
        }
    }
    for folders in folders.values() {
        let chunks: Vec<&[&str]> = folders.chunks(FOLDERS_AT_ONCE).collect();
        parallel(&chunks, threads, |chunk| chunk.iter().try_for_each(|path| directory(&root.join(path))))?;
    }
    entries.sort_by_key(|(folder, name, _)| (*folder, *name));
    let objects = Objects::open(workspace)?;
    let chunks: Vec<&[Entry<'_>]> = entries.chunks(MADE_AT_ONCE).collect();
    parallel(&chunks, threads, |chunk| {
        chunk
            .chunk_by(|(one, ..), (other, ..)| one == other)
            .try_for_each(|entries| in_one_folder(root, entries, &objects))
    })?;
    let all: Vec<&str> = folders.into_values().flatten().chain([""]).collect();
    let chunks: Vec<&[&str]> = all.chunks(FOLDERS_AT_ONCE).collect();
    parallel(&chunks, threads, |chunk| chunk.iter().try_for_each(|path| fix_time(&root.join(path))))
}

/// Gives a folder that is complete the time that files have: caches of icons and fonts are compared with it.
fn fix_time(folder: &Path) -> Result<(), Error> {
    let fixed = Timespec { tv_sec: i64::try_from(FIXED_MTIME.as_secs()).unwrap_or_default(), tv_nsec: 0 };
    let times =
        Timestamps { last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }, last_modification: fixed };
    rustix::fs::utimensat(CWD, folder, &times, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|errno| Error::io("set the time of", folder)(errno.into()))
}

/// The mode is set, not left to the builder's umask or to a setgid folder above.
pub(super) fn directory(path: &Path) -> Result<(), Error> {
    fs::create_dir(path).map_err(Error::io("create", path))?;
    let mode = fs::Permissions::from_mode(DIRECTORY_MODE);
    fs::set_permissions(path, mode).map_err(Error::io("change the mode of", path))
}

fn in_one_folder(root: &Path, entries: &[Entry<'_>], objects: &Objects<'_>) -> Result<(), Error> {
    let Some((folder, ..)) = entries.first() else { return Ok(()) };
    let path = root.join(folder);
    let open = open_folder(&path)?;
    for (_, name, node) in entries {
        match node {
            Node::Directory => {}
            Node::Link { target } => {
                symlinkat(target, &open, *name).map_err(|e| Error::io("link", path.join(name))(e.into()))?;
            }
            Node::File { sha256, executable, .. } => {
                objects.link(*sha256, *executable, &open, &path, name)?;
            }
        }
    }
    Ok(())
}

fn open_folder(path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).map_err(|e| Error::io("open", path)(e.into()))
}

/// Where objects are: in the store, or in the workspace until the commit.
struct Objects<'a> {
    workspace: &'a Workspace<'a>,
    stored: OwnedFd,
    here: OwnedFd,
}

impl<'a> Objects<'a> {
    fn open(workspace: &'a Workspace<'a>) -> Result<Self, Error> {
        let here = workspace.folder.join("objects");
        fs::create_dir_all(&here).map_err(Error::io("create", &here))?;
        let stored = open_folder(&workspace.store.root.join("objects"))?;
        Ok(Self { workspace, stored, here: open_folder(&here)? })
    }

    fn link(
        &self,
        sha256: Sha256,
        executable: bool,
        folder: &OwnedFd,
        path: &Path,
        name: &str,
    ) -> Result<(), Error> {
        let objects = if self.workspace.is_here(sha256, executable) { &self.here } else { &self.stored };
        let object: PathBuf = object_path(sha256, executable);
        let linked = linkat(objects.as_fd(), &object, folder, name, AtFlags::empty());
        linked.or_else(|errno| {
            let target = path.join(name);
            match io::Error::from(errno) {
                error if shares_no_inode(&error) => {
                    copy(&self.workspace.locate(sha256, executable), &target, executable)
                }
                other => Err(Error::io("link", target)(other)),
            }
        })
    }
}

/// Gives a file another name, or copies it where that cannot be.
pub(super) fn link_or_copy(from: &Path, path: &Path, executable: bool) -> Result<(), Error> {
    match fs::hard_link(from, path) {
        Err(error) if shares_no_inode(&error) => copy(from, path, executable),
        other => other.map_err(Error::io("link", path)),
    }
}

/// ext4 allows 65000 links to one file; an empty `__init__.py` gets there. Trees on another file system than the objects
/// share what that can share: `copy` clones where both lie on one that clones.
fn shares_no_inode(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TooManyLinks | io::ErrorKind::CrossesDevices)
}

fn copy(from: &Path, path: &Path, executable: bool) -> Result<(), Error> {
    fs::copy(from, path).map_err(Error::io("copy", path))?;
    let file = File::open(path).map_err(Error::io("open", path))?;
    seal(&file, executable).map_err(Error::io("write", path))
}
