//! Walking archives as if every one of them were hostile.
//!
//! [`walk`] hands out the entries of a `.deb`, a tar, a zip, a wheel, a directory or a lone file in their own order,
//! with contents as a stream. Nothing it hands out can lead a careful unpacker outside its target: names are
//! relative and clean, nothing lies below a link, hard links point backwards to files of the same archive. Symbolic
//! link *targets* are not restricted (packages link to `/etc/alternatives` legitimately); whoever opens paths
//! afterwards must resolve them inside the root.

mod cab;
mod capabilities;
mod cpio;
mod deb;
mod decompress;
mod detect;
mod directory;
mod guard;
mod iso;
mod limits;
mod lone;
pub(crate) mod msi;
mod path;
pub(crate) mod pyinstaller;
pub(crate) mod rpm;
mod source;
mod squashfs;
mod stream;
mod tarball;
mod zipfile;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use self::stream::Walk;

use crate::{Error, PackageFacts, ScriptFacts};

pub use decompress::reader as decompressed;
pub use detect::{Compression, Format, Recognised, detect, detect_in};
pub use limits::Limits;
pub use path::MemberPath;
pub use source::{ReadSeek, Source};

pub(crate) use detect::{compression_of, detect_artifact, is_tar};
pub(crate) use lone::unpacked_head;
pub(crate) use path::printable;
pub(crate) use squashfs::image_size as squashfs_size;
pub(crate) use zipfile::JAR_MANIFEST;

/// Which member of a `.deb` an entry comes from. Every other format has data only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// `control.tar`: the package's description and maintainer scripts.
    Control,
    /// What is unpacked into the file system.
    Data,
}

/// One member of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it belongs, relative to the archive's root.
    pub path: MemberPath,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits including setuid, setgid and sticky, as found. A zip without Unix modes says 0644 for files
    /// and 0755 for directories.
    pub mode: u32,
    /// The owner, as found; 0 where the format has none.
    pub uid: u64,
    /// The group, as found; 0 where the format has none.
    pub gid: u64,
    /// Whether it had extended attributes (file capabilities among them). Their values are dropped. Those of a file in
    /// a directory on disk are not looked at.
    pub xattrs: bool,
    /// The names of the extended attributes, sorted, at most sixteen.
    pub xattr_names: Vec<String>,
    /// Its file capabilities in the text form of `getcap`: `cap_net_raw=ep`. `None` if it has none, and where they
    /// cannot be read.
    pub capabilities: Option<String>,
}

impl Entry {
    /// A file of an archive that keeps neither modes nor owners.
    fn plain(path: MemberPath, size: u64) -> Self {
        Self {
            path,
            kind: EntryKind::File { size },
            mode: 0o644,
            uid: 0,
            gid: 0,
            xattrs: false,
            xattr_names: Vec::new(),
            capabilities: None,
        }
    }
}

/// What a package keeps outside of its files.
#[derive(Debug, Default)]
pub(crate) struct Description {
    pub(crate) package: Option<PackageFacts>,
    pub(crate) scripts: Vec<ScriptFacts>,
    /// Absolute paths.
    pub(crate) conffiles: Vec<String>,
}

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EntryKind {
    /// A directory. It may appear again, to change its mode.
    Directory,
    /// A regular file; `content` yields exactly `size` bytes.
    File {
        /// Bytes.
        size: u64,
    },
    /// A symbolic link.
    Symlink {
        /// As found: UTF-8, not empty, without NUL. May be absolute, may contain `..`.
        target: String,
    },
    /// A second name for a regular file that appeared earlier in the same archive.
    Hardlink {
        /// That file.
        target: MemberPath,
    },
    /// A device node.
    Device {
        /// A block device rather than a character device.
        block: bool,
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// A socket; only in a directory on disk.
    Socket,
}

/// The callback of [`walk`].
pub type Visit<'v, E> = dyn FnMut(Part, &Entry, &mut dyn Read) -> Result<(), E> + 'v;

/// The same with the file on disk, where the entry is one. It may be read at positions; moving its own is forbidden.
pub(crate) type VisitFile<'v, E> =
    dyn FnMut(Part, &Entry, Option<&File>, &mut dyn Read) -> Result<(), E> + 'v;

/// Walks every entry of the artifact at `path` in order.
///
/// `content` is empty for all but regular files, for which it yields exactly [`EntryKind::File`]'s `size` bytes,
/// decoded as they are read. What the visitor leaves unread is read and checked all the same, so that a walk without
/// an error has seen the whole artifact. If the stream broke while the visitor was reading, the walker's own error
/// wins over the visitor's, because it knows which archive broke and where.
///
/// # Errors
/// [`Error`] for an artifact that cannot be read, is truncated, corrupt, hostile or above `limits`; and whatever
/// `visit` returns, which ends the walk.
pub fn walk<E: From<Error>>(path: &Path, limits: &Limits, visit: &mut Visit<'_, E>) -> Result<(), E> {
    walk_files(path, path, limits, &mut |part, entry, _, content| visit(part, entry, content))
}

/// As [`walk`], with the files on disk; a file is taken to be called `name`.
pub(crate) fn walk_files<E: From<Error>>(
    path: &Path,
    name: &Path,
    limits: &Limits,
    visit: &mut VisitFile<'_, E>,
) -> Result<(), E> {
    if std::fs::metadata(path).map_err(|e| Error::io(path, e))?.is_dir() {
        return directory::walk(path, limits, visit);
    }
    let source = &mut Source::open(path)?.named(name);
    let format = detect_artifact(source)?;
    if format.is_lone() {
        return directory::walk_lone(path, name, limits, visit);
    }
    walk_in(source, format, limits, &mut |part, entry, content| visit(part, entry, None, content))
}

/// Walks an archive of a known format from anywhere: a file, memory, or a window of either.
///
/// # Errors
/// As [`walk`]; a format that is no archive is [`Error::Unsupported`].
pub fn walk_in<E: From<Error>>(
    source: &mut Source<'_>,
    format: Format,
    limits: &Limits,
    visit: &mut Visit<'_, E>,
) -> Result<(), E> {
    let name = source.name().to_owned();
    let mut state = Walk::new(&name, Some(source.len()), limits);
    let state = &mut state;
    match format {
        Format::Deb => deb::walk(state, source, visit),
        Format::Rpm => rpm::walk(state, source, visit),
        Format::Tar(compression) => tarball::walk_file(state, source, compression, visit),
        Format::Cpio(compression) => cpio::walk_file(state, source, compression, visit),
        Format::Zip | Format::Wheel | Format::Jar => zipfile::walk(state, source, visit),
        Format::Msi => msi::walk(state, source, visit),
        Format::Cabinet => cab::walk(state, source, visit),
        Format::Iso => iso::walk(state, source, visit),
        Format::Squashfs => squashfs::walk(state, source, visit),
        Format::PyInstaller => pyinstaller::walk(state, source, visit),
        Format::Compressed(compression) => lone::walk_compressed(state, source, compression, visit),
        Format::SevenZip => {
            Err(Error::unsupported(&name, format!("{format} is not an archive this version unpacks")).into())
        }
        Format::Recognised(_) => {
            let what = format!("its format is {format}, which is recognised, not unpacked");
            Err(Error::unsupported(&name, what).into())
        }
        Format::Unknown => {
            Err(Error::unsupported(&name, "it is neither an archive nor a program of a known format").into())
        }
        Format::Elf
        | Format::AppImage
        | Format::Pe
        | Format::Script
        | Format::Makeself
        | Format::DriverDescription => lone::walk(state, source, visit),
        Format::Directory => Err(Error::unsupported(&name, "a directory is no archive").into()),
    }
}
