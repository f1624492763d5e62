//! One archive to one manifest, its file contents to objects of the store.

use std::io::Read;
use std::path::Path;

use hatchway_inspect::archive::{self, Entry, EntryKind, Format, Limits, Part};

use super::{captured, layers, rpm, wheel};
use crate::digest::Sha256;
use crate::error::Error;
use crate::store::Workspace;
use crate::store::manifest::{Manifest, Node};
use crate::store::space::readable;

/// Below this folder of a package's manifest are the members of its control archive and the list of what was dropped.
/// It is never part of a tree.
pub(crate) const CONTROL: &str = ".hatchway-control";

/// A change of this number unpacks every archive anew: it stands for what a package's manifest holds.
const UNPACKER: u32 = 2;

/// Where the content of an archive goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Folder of the tree, absolute; `/` for packages, which bring a layout of their own.
    pub at: String,
    /// How many leading folders of each path are cut off.
    pub strip: u32,
    /// The name that a lone file gets.
    pub file_name: String,
    /// What is unpacked, and how.
    pub how: How,
}

/// What is unpacked of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// Its members; of a lone file, the file.
    Members,
    /// What a self-unpacking file carries (an AppImage, a makeself script), without running it.
    Carried,
    /// A wheel, installed for a Python as pip would.
    Wheel {
        /// `3.11`
        python: String,
    },
    /// What an installer wrote: the members, and what it removed as whiteouts.
    Captured,
    /// A layer of an image: the members, and what it does to the layers below it.
    Layer,
}

impl Layout {
    /// The layout of a package, which brings paths of its own.
    #[must_use]
    pub fn of_package(file_name: &str) -> Self {
        Self { at: "/".into(), strip: 0, file_name: file_name.to_owned(), how: How::Members }
    }

    /// The layout of a wheel for a Python of the tree.
    #[must_use]
    pub fn of_wheel(file_name: &str, python: &str) -> Self {
        Self { how: How::Wheel { python: python.to_owned() }, ..Self::of_package(file_name) }
    }

    /// The layout of what the installer of that name wrote.
    #[must_use]
    pub fn of_capture(file_name: &str) -> Self {
        Self { how: How::Captured, ..Self::of_package(file_name) }
    }

    /// The layout of a layer of an image.
    #[must_use]
    pub fn of_layer() -> Self {
        Self { how: How::Layer, ..Self::of_package("a layer of the image") }
    }

    /// Identifies archive and layout, so that one archive is unpacked once for each layout.
    pub(crate) fn key(&self, sha256: Sha256) -> String {
        if self.at == "/" && self.strip == 0 && self.how == How::Members {
            return format!("{sha256}-{UNPACKER}");
        }
        let text = format!("{} {} {} {:?}", self.at, self.strip, self.file_name, self.how);
        format!("{sha256}-{UNPACKER}-{}", Sha256::of(text.as_bytes()).short())
    }

    fn place(&self, path: &str) -> Option<String> {
        let mut rest = path;
        for _ in 0..self.strip {
            rest = rest.split_once('/')?.1;
        }
        let at = self.at.trim_matches('/');
        Some(if at.is_empty() { rest.to_owned() } else { format!("{at}/{rest}") })
    }
}

/// Unpacks an archive.
///
/// # Errors
/// When the archive is broken or hostile, or the store cannot be written.
pub(crate) fn unpack(
    workspace: &Workspace<'_>,
    archive: &Path,
    sha256: Sha256,
    layout: &Layout,
) -> Result<Manifest, Error> {
    unpack_content(workspace, archive, sha256, layout).map_err(|error| match error {
        Error::RoomUsedUp { path, written, available, reserve, .. } => {
            let packed = std::fs::metadata(archive).map_or(0, |metadata| metadata.len());
            let what = format!("unpacking `{}` ({} packed)", layout.file_name, readable(packed));
            Error::RoomUsedUp { what, path, written, available, reserve }
        }
        other => other,
    })
}

fn unpack_content(
    workspace: &Workspace<'_>,
    archive: &Path,
    sha256: Sha256,
    layout: &Layout,
) -> Result<Manifest, Error> {
    let key = layout.key(sha256);
    let mut unpacking = Unpacking {
        workspace,
        layout,
        manifest: Manifest::default(),
        dropped: String::new(),
        removed: String::new(),
        changes: String::new(),
        key: &key,
        number: 0,
        lone: false,
    };
    let limits = &Limits::default();
    match &layout.how {
        How::Wheel { python } => return wheel::unpack(workspace, archive, &key, layout, python),
        How::Carried => hatchway_inspect::walk_carried(archive, limits, &mut |part, entry, content| {
            unpacking.entry(part, entry, content)
        })?,
        How::Captured => {
            archive::walk(archive, limits, &mut |part, entry, content| {
                unpacking.entry(part, entry, content)
            })?;
        }
        How::Layer => {
            let limits = &layers::limits();
            let (source, format) = &mut layers::open(archive)?;
            archive::walk_in(source, *format, limits, &mut |part, entry, content| {
                unpacking.entry(part, entry, content)
            })?;
        }
        How::Members => {
            let format = archive::detect(archive)?;
            unpacking.lone = format.is_lone() || matches!(format, Format::Compressed(_));
            archive::walk(archive, limits, &mut |part, entry, content| {
                unpacking.entry(part, entry, content)
            })?;
            if format == Format::Rpm {
                unpacking.scriptlets(archive)?;
            }
        }
    }
    unpacking.finish()
}

struct Unpacking<'a> {
    workspace: &'a Workspace<'a>,
    layout: &'a Layout,
    manifest: Manifest,
    dropped: String,
    /// Whiteouts of what an installer wrote, a path a line.
    removed: String,
    /// What a layer of an image does to those below it, a change a line.
    changes: String,
    key: &'a str,
    number: u64,
    /// A file that is no archive: the store knows it by its digest, the tree by its name.
    lone: bool,
}

impl Unpacking<'_> {
    fn entry(&mut self, part: Part, entry: &Entry, content: &mut dyn Read) -> Result<(), Error> {
        let path = match part {
            Part::Control => Some(format!("{CONTROL}/{}", entry.path.as_str())),
            Part::Data if self.lone => self.layout.place(&self.lone_name()),
            Part::Data => self.layout.place(entry.path.as_str()),
        };
        let Some(path) = path.filter(|path| !path.is_empty()) else { return Ok(()) };
        if part == Part::Data && path.split('/').next() == Some(CONTROL) {
            let reason = format!("`{path}` has a name that the builder keeps for itself");
            return Err(Error::BadLayout { package: self.layout.file_name.clone(), reason });
        }
        if self.layout.how == How::Captured
            && let Some(removed) = captured::whiteout(&path)
        {
            self.removed += &format!("{removed}\n");
            return Ok(());
        }
        if self.layout.how == How::Layer && self.is_change(&path, entry)? {
            return Ok(());
        }
        if entry.mode & 0o6000 != 0 {
            self.dropped.push_str(&format!("setid bits of {path}\n"));
        }
        if let Some(capabilities) = &entry.capabilities {
            self.dropped.push_str(&format!("file capabilities {capabilities} of {path}\n"));
        } else if entry.xattrs {
            self.dropped.push_str(&format!("extended attributes of {path}\n"));
        }
        if entry.path.is_recoded() {
            self.dropped.push_str(&format!("the encoding of the name of {path}\n"));
        }
        match &entry.kind {
            EntryKind::Directory => self.manifest.insert(&path, Node::Directory),
            EntryKind::Symlink { target } => {
                self.manifest.insert(&path, Node::Link { target: target.clone() });
            }
            EntryKind::File { .. } => {
                let node = self.program_or_file(entry.mode & 0o111 != 0, content)?;
                self.manifest.insert(&path, node);
            }
            EntryKind::Hardlink { target } => self.hardlink(&path, target.as_str())?,
            _ => self.dropped += &format!("device, pipe or socket {path}\n"),
        }
        Ok(())
    }

    /// What a layer says about those below it, and what of an image a tree must not hold.
    fn is_change(&mut self, path: &str, entry: &Entry) -> Result<bool, Error> {
        let bad = |reason| Error::BadLayout { package: self.layout.file_name.clone(), reason };
        if let Some(change) = layers::change(path).map_err(bad)? {
            self.changes += &change.map_or_else(String::new, |change| change.line());
            return Ok(true);
        }
        if layers::is_secret(path) {
            self.dropped += &format!("the password hashes in {path}\n");
            return Ok(true);
        }
        if matches!(entry.kind, EntryKind::File { size } if size > 0) && entry.mode & 0o004 == 0 {
            self.dropped +=
                &format!("the mode {:04o} of {path}: in a tree everybody can read it\n", entry.mode & 0o777);
        }
        Ok(false)
    }

    /// Wheels and zips seldom carry modes: there, an ELF file is taken for a program whatever its mode says.
    fn program_or_file(&mut self, executable: bool, content: &mut dyn Read) -> Result<Node, Error> {
        if executable || self.layout.at == "/" {
            return self.file(executable, content);
        }
        let mut magic = Vec::with_capacity(4);
        let source = Error::io("read", &self.layout.file_name);
        content.take(4).read_to_end(&mut magic).map_err(source)?;
        let program = magic == b"\x7fELF" || (self.lone && magic.starts_with(b"#!"));
        self.file(program, &mut magic.as_slice().chain(content))
    }

    fn lone_name(&self) -> String {
        let name = self.layout.file_name.rsplit('/').next().unwrap_or_default();
        let packed = [".gz", ".xz", ".zst", ".bz2"].iter().find_map(|ending| name.strip_suffix(ending));
        packed.unwrap_or(name).to_owned()
    }

    /// The scriptlets of an RPM package stand in its header; they are kept as those of other packages are.
    fn scriptlets(&mut self, archive: &Path) -> Result<(), Error> {
        for script in hatchway_inspect::rpm_scriptlets(archive)? {
            if let Some(name) = rpm::kept_as(&script.name) {
                let node = self.file(false, &mut rpm::kept(&script).as_bytes())?;
                self.manifest.insert(&format!("{CONTROL}/{name}"), node);
            }
        }
        Ok(())
    }

    fn file(&mut self, executable: bool, content: &mut dyn Read) -> Result<Node, Error> {
        self.number += 1;
        let (sha256, size) =
            self.workspace.add(content, executable, &format!("{}-{}", &self.key[..16], self.number))?;
        Ok(Node::File { sha256, size, executable })
    }

    fn hardlink(&mut self, path: &str, target: &str) -> Result<(), Error> {
        let first = self.layout.place(target).and_then(|target| self.manifest.nodes.get(&target).cloned());
        if first.is_none() && self.layout.how == How::Layer {
            self.changes += &layers::Change::Link { path, target }.line();
            return Ok(());
        }
        let Some(node @ Node::File { .. }) = first else {
            let reason = format!("the hard link `{path}` names `{target}`, which is no earlier file");
            return Err(Error::BadLayout { package: self.layout.file_name.clone(), reason });
        };
        self.manifest.insert(path, node);
        Ok(())
    }

    fn finish(mut self) -> Result<Manifest, Error> {
        for (name, text) in [
            ("dropped", std::mem::take(&mut self.dropped)),
            ("removed", std::mem::take(&mut self.removed)),
            (layers::CHANGES, std::mem::take(&mut self.changes)),
        ] {
            if !text.is_empty() {
                let node = self.file(false, &mut text.as_bytes())?;
                self.manifest.insert(&format!("{CONTROL}/{name}"), node);
            }
        }
        self.workspace.add_package(self.key, &self.manifest)?;
        Ok(self.manifest)
    }
}
