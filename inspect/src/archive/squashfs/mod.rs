//! Reading squashfs 4.0 images, as AppImages and snaps carry them.
//!
//! The layout is that of the kernel's `fs/squashfs/squashfs_fs.h`. The image is read where it lies: no table is taken
//! into memory by the size it claims, directories are walked with a stack, and every directory once.

mod codec;
mod content;
mod image;
mod inode;
mod listing;
mod xattrs;

use std::collections::{HashMap, HashSet};
use std::io;
use std::rc::Rc;

use self::content::Content;
use self::image::Image;
use self::inode::{Inode, Kind};
use self::listing::Listing;
use super::guard::Guard;
use super::stream::{Walk, deliver};
use super::{Entry, EntryKind, MemberPath, Part, Source, Visit, printable};
use crate::Error;

/// Memory per listed name beside the name itself.
const NAME_OVERHEAD: u64 = 64;

/// The bytes of the image, from its superblock, if `head` begins with one of version 4.
pub(crate) fn image_size(head: &[u8]) -> Option<u64> {
    image::Superblock::read(head).ok().map(|superblock| superblock.bytes_used)
}

/// A name still to visit.
struct Pending {
    /// The path of its directory, without a slash at the end; empty for the root.
    parent: Rc<[u8]>,
    name: Vec<u8>,
    /// Where its inode is.
    inode: u64,
}

impl Pending {
    fn path(&self) -> Vec<u8> {
        if self.parent.is_empty() { self.name.clone() } else { [&self.parent, &self.name[..]].join(&b'/') }
    }
}

/// The state of one walk over the tree.
#[derive(Default)]
struct Tree {
    guard: Guard,
    pending: Vec<Pending>,
    /// Inodes of directories that were listed: each has one place in an honest image.
    listed: HashSet<u64>,
    /// Names in all listings, and their memory.
    names: (u64, u64),
    /// The first names of files that have several, by inode.
    links: HashMap<u64, MemberPath>,
}

pub(super) fn walk<E: From<Error>>(
    walk: &mut Walk<'_>,
    source: &mut Source<'_>,
    visit: &mut Visit<'_, E>,
) -> Result<(), E> {
    let path = walk.archive;
    let mut image = Image::open(source, walk.limits)?;
    let mut tree = Tree::default();
    let root = image.superblock.root;
    let inode = Inode::read(&mut image, root, walk.limits)
        .map_err(|e| Error::decoding(path, "the root directory of the file system", e))?;
    if !matches!(inode.kind, Kind::Directory { .. }) {
        return Err(Error::corrupt(path, "the root of the file system is no directory").into());
    }
    tree.list(walk, &mut image, root, &inode, &Rc::from(&b""[..]))?;
    while let Some(pending) = tree.pending.pop() {
        visit_one(walk, &mut image, &mut tree, &pending, visit)?;
    }
    Ok(())
}

fn visit_one<E: From<Error>>(
    walk: &mut Walk<'_>,
    image: &mut Image<'_, '_>,
    tree: &mut Tree,
    pending: &Pending,
    visit: &mut Visit<'_, E>,
) -> Result<(), E> {
    let archive = walk.archive;
    let raw = pending.path();
    let inode = Inode::read(image, pending.inode, walk.limits)
        .map_err(|e| Error::decoding(archive, &format!("the inode of `{}`", printable(&raw)), e))?;
    let entry = entry(walk, image, tree, &raw, pending.inode, &inode)?;
    walk.admit(&mut tree.guard, &entry)?;
    match (&inode.kind, &entry.kind) {
        (Kind::File(file), EntryKind::File { .. }) => {
            let mut content = Content::new(image, file);
            deliver(archive, Part::Data, &entry, &mut content, visit)
        }
        (Kind::Directory { .. }, _) => {
            deliver(archive, Part::Data, &entry, &mut io::empty(), visit)?;
            tree.list(walk, image, pending.inode, &inode, &Rc::from(raw)).map_err(E::from)
        }
        _ => deliver(archive, Part::Data, &entry, &mut io::empty(), visit),
    }
}

impl Tree {
    /// Puts the names of a directory on the stack, the first one on top.
    fn list(
        &mut self,
        walk: &Walk<'_>,
        image: &mut Image<'_, '_>,
        reference: u64,
        inode: &Inode,
        path: &Rc<[u8]>,
    ) -> Result<(), Error> {
        let Kind::Directory { block, offset, size } = inode.kind else { return Ok(()) };
        let shown = || printable(path);
        if !self.listed.insert(reference) {
            let what = "is a directory that appears elsewhere in the image";
            return Err(Error::hostile(walk.archive, shown(), what));
        }
        let mut listing = Listing::new(image, block, offset, size);
        let mut names = Vec::new();
        while let Some((name, inode)) = listing
            .next(image)
            .map_err(|e| Error::decoding(walk.archive, &format!("the directory `{}`", shown()), e))?
        {
            self.names.0 += 1;
            self.names.1 += name.len() as u64 + NAME_OVERHEAD;
            if self.names.0 > walk.limits.entries {
                return Err(Error::limit(walk.archive, "number of entries", walk.limits.entries));
            }
            if self.names.1 > walk.limits.name_memory {
                let what = "memory for the names of its members";
                return Err(Error::limit(walk.archive, what, walk.limits.name_memory));
            }
            if name.is_empty() || name.contains(&b'/') || name == b"." || name == b".." {
                return Err(Error::hostile(walk.archive, printable(&name), "is no name of a file"));
            }
            names.push(Pending { parent: Rc::clone(path), name, inode });
        }
        names.sort_by(|a, b| b.name.cmp(&a.name));
        self.pending.extend(names);
        Ok(())
    }
}

fn entry(
    walk: &Walk<'_>,
    image: &mut Image<'_, '_>,
    tree: &mut Tree,
    raw: &[u8],
    reference: u64,
    inode: &Inode,
) -> Result<Entry, Error> {
    let path = MemberPath::parse(raw, walk.limits)
        .map_err(|what| Error::hostile(walk.archive, printable(raw), what))?;
    let kind = match &inode.kind {
        Kind::Directory { .. } => EntryKind::Directory,
        Kind::File(file) => match tree.links.get(&reference) {
            Some(target) => EntryKind::Hardlink { target: target.clone() },
            None => {
                if inode.links > 1 {
                    tree.links.insert(reference, path.clone());
                }
                EntryKind::File { size: file.size }
            }
        },
        Kind::Symlink(target) => EntryKind::Symlink { target: walk.symlink_target(raw, target)? },
        Kind::Device { block, major, minor } => {
            EntryKind::Device { block: *block, major: *major, minor: *minor }
        }
        Kind::Fifo => EntryKind::Fifo,
        Kind::Socket => EntryKind::Socket,
    };
    let xattr_names = match inode.xattrs {
        Some(index) => xattrs::names(image, index).map_err(|e| {
            Error::decoding(walk.archive, &format!("the attributes of `{}`", printable(raw)), e)
        })?,
        None => Vec::new(),
    };
    Ok(Entry {
        capabilities: None,
        path,
        kind,
        mode: u32::from(inode.mode & 0o7777),
        uid: u64::from(inode.uid),
        gid: u64::from(inode.gid),
        xattrs: inode.xattrs.is_some(),
        xattr_names,
    })
}
