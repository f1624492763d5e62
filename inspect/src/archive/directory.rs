//! Directories on disk, and single files.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::guard::Guard;
use super::stream::{Walk, deliver};
use super::{Entry, EntryKind, Limits, MemberPath, Part, VisitFile, printable};
use crate::Error;

/// Walks a directory in the order of its names, parents first. Links are reported, never followed.
pub(super) fn walk<E: From<Error>>(
    path: &Path,
    limits: &Limits,
    visit: &mut VisitFile<'_, E>,
) -> Result<(), E> {
    let mut walk = Walk::new(path, None, limits);
    let mut guard = Guard::default();
    // A stack of names still to visit, in reverse order; depth is bounded by the check of every name.
    let mut pending = children(&walk, path, Path::new(""))?;
    while let Some(relative) = pending.pop() {
        let full = path.join(&relative);
        let metadata = fs::symlink_metadata(&full).map_err(|e| Error::io(&full, e))?;
        let entry = entry(&walk, &full, &relative, &metadata)?;
        walk.admit(&mut guard, &entry)?;
        match entry.kind {
            EntryKind::File { .. } => {
                let file = open_unchanged(&full, &metadata)?;
                deliver_file(path, &entry, &file, visit)?;
            }
            EntryKind::Directory => {
                visit(Part::Data, &entry, None, &mut io::empty())?;
                pending.extend(children(&walk, path, &relative)?);
            }
            _ => visit(Part::Data, &entry, None, &mut io::empty())?,
        }
    }
    Ok(())
}

/// A file that is no archive: one entry, called `name` without its folder.
pub(super) fn walk_lone<E: From<Error>>(
    path: &Path,
    name: &Path,
    limits: &Limits,
    visit: &mut VisitFile<'_, E>,
) -> Result<(), E> {
    let metadata = fs::metadata(path).map_err(|e| Error::io(path, e))?;
    let mut walk = Walk::new(path, Some(metadata.len()), limits);
    let name = name.file_name().ok_or_else(|| Error::unsupported(path, "it has no name"))?;
    let mut entry = entry(&walk, path, Path::new(name), &metadata)?;
    // Whoever downloaded the file owns it; the vendor said nothing about owners.
    (entry.uid, entry.gid) = (0, 0);
    walk.admit(&mut Guard::default(), &entry)?;
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    deliver_file(path, &entry, &file, visit)
}

fn deliver_file<E: From<Error>>(
    path: &Path,
    entry: &Entry,
    file: &File,
    visit: &mut VisitFile<'_, E>,
) -> Result<(), E> {
    // Reading at a position does not move the position at which `content` reads.
    let mut content = file;
    deliver(path, Part::Data, entry, &mut content, &mut |part, entry, content| {
        visit(part, entry, Some(file), content)
    })
}

fn children(walk: &Walk<'_>, root: &Path, relative: &Path) -> Result<Vec<PathBuf>, Error> {
    let directory = root.join(relative);
    let mut names = Vec::new();
    for child in fs::read_dir(&directory).map_err(|e| Error::io(&directory, e))? {
        names.push(relative.join(child.map_err(|e| Error::io(&directory, e))?.file_name()));
        if names.len() as u64 > walk.limits.entries {
            return Err(Error::limit(walk.archive, "number of entries", walk.limits.entries));
        }
    }
    names.sort_unstable_by(|a, b| b.as_os_str().cmp(a.as_os_str()));
    Ok(names)
}

/// Opens a file and makes sure that it still is the one that was looked at: somebody may exchange it for a link.
fn open_unchanged(full: &Path, seen: &Metadata) -> Result<File, Error> {
    let file = File::open(full).map_err(|e| Error::io(full, e))?;
    let opened = file.metadata().map_err(|e| Error::io(full, e))?;
    if (opened.dev(), opened.ino()) == (seen.dev(), seen.ino()) {
        return Ok(file);
    }
    Err(Error::io(full, io::Error::other("it was exchanged while it was being read")))
}

fn entry(walk: &Walk<'_>, full: &Path, relative: &Path, metadata: &Metadata) -> Result<Entry, Error> {
    let raw = relative.as_os_str().as_bytes();
    let path = MemberPath::parse(raw, walk.limits)
        .map_err(|what| Error::hostile(walk.archive, printable(raw), what))?;
    Ok(Entry {
        path,
        kind: kind(walk, full, raw, metadata)?,
        mode: metadata.mode() & 0o7777,
        uid: u64::from(metadata.uid()),
        gid: u64::from(metadata.gid()),
        xattrs: false,
        xattr_names: Vec::new(),
        capabilities: None,
    })
}

fn kind(walk: &Walk<'_>, full: &Path, raw: &[u8], metadata: &Metadata) -> Result<EntryKind, Error> {
    let file_type = metadata.file_type();
    if file_type.is_dir() {
        return Ok(EntryKind::Directory);
    }
    if file_type.is_file() {
        return Ok(EntryKind::File { size: metadata.len() });
    }
    if file_type.is_symlink() {
        let target = fs::read_link(full).map_err(|e| Error::io(full, e))?;
        return Ok(EntryKind::Symlink { target: walk.symlink_target(raw, target.as_os_str().as_bytes())? });
    }
    if file_type.is_fifo() {
        return Ok(EntryKind::Fifo);
    }
    if file_type.is_block_device() || file_type.is_char_device() {
        let (major, minor) = device_numbers(metadata.rdev());
        return Ok(EntryKind::Device { block: file_type.is_block_device(), major, minor });
    }
    Ok(EntryKind::Socket)
}

/// Splits a device number as glibc's `gnu_dev_major` and `gnu_dev_minor` do.
fn device_numbers(rdev: u64) -> (u32, u32) {
    let major = ((rdev >> 8) & 0xfff) | ((rdev >> 32) & 0xffff_f000);
    let minor = (rdev & 0xff) | ((rdev >> 12) & 0xffff_ff00);
    (u32::try_from(major).unwrap_or(u32::MAX), u32::try_from(minor & 0xffff_ffff).unwrap_or(u32::MAX))
}
