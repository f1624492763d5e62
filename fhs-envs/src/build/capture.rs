//! What a program changed in a staged tree, as nodes of a manifest.
//!
//! Nothing runs any more in the folder when this reads it, so a folder that was looked at stays a folder. Every entry is
//! looked at without following it; every file is hashed, since times can be forged.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::digest::Sha256;
use crate::error::Error;
use crate::store::Workspace;
use crate::store::manifest::{Manifest, Node};

/// Entries in one staged tree: many times those of the largest real ones.
const ENTRIES_MAX: usize = 2_000_000;
/// Folders that are mounted over while a step runs, or hold what only a running system has.
const NOT_CAPTURED: [&str; 6] = ["dev", "proc", "run", "sys", "tmp", "var/tmp"];

/// What a step changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Captured {
    /// New or changed, by path without a leading slash.
    pub written: BTreeMap<String, Node>,
    /// Gone. What was below a folder that is gone is listed, too.
    pub removed: BTreeSet<String>,
    /// What a tree cannot hold: set-id bits, devices, pipes, sockets.
    pub dropped: Vec<String>,
}

impl Captured {
    /// Names the result: the same changes have the same digest.
    #[must_use]
    pub fn digest(&self) -> Sha256 {
        let written = Manifest { nodes: self.written.clone() };
        let removed: Vec<&str> = self.removed.iter().map(String::as_str).collect();
        Sha256::of(format!("{}removed\n{}\n", written.to_text(), removed.join("\n")).as_bytes())
    }

    /// The paths in which two results differ.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let paths: BTreeSet<&String> = self
            .written
            .keys()
            .chain(other.written.keys())
            .chain(&self.removed)
            .chain(&other.removed)
            .collect();
        let differs = |path: &&&String| {
            self.written.get(**path) != other.written.get(**path)
                || self.removed.contains(**path) != other.removed.contains(**path)
        };
        paths.iter().filter(differs).map(|path| format!("/{path}")).collect()
    }

    /// Leaves out what `unwanted` says.
    pub fn forget(&mut self, unwanted: &dyn Fn(&str) -> bool) {
        self.written.retain(|path, _| !unwanted(path));
        self.removed.retain(|path| !unwanted(path));
    }
}

/// Compares a folder with what was put there.
///
/// # Errors
/// See [`super::sandboxed::Staged::capture`].
pub(crate) fn capture(workspace: &Workspace<'_>, root: &Path, before: &Manifest) -> Result<Captured, Error> {
    open_up(root)?;
    let mut walk = Walk { workspace, before, found: BTreeSet::new(), captured: Captured::default() };
    walk.folder(root, "")?;
    let Walk { found, mut captured, .. } = walk;
    let gone = before.nodes.keys().filter(|path| !found.contains(*path) && !is_left_out(path));
    captured.removed = gone.cloned().collect();
    Ok(captured)
}

fn is_left_out(path: &str) -> bool {
    NOT_CAPTURED.iter().any(|folder| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')))
}

struct Walk<'a> {
    workspace: &'a Workspace<'a>,
    before: &'a Manifest,
    found: BTreeSet<String>,
    captured: Captured,
}

impl Walk<'_> {
    fn folder(&mut self, folder: &Path, path: &str) -> Result<(), Error> {
        let mut entries: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
            entries.push(entry.map_err(Error::io("read", folder))?.path());
        }
        entries.sort();
        for entry in entries {
            let bad = |reason: String| Error::BadLayout { package: "what the step wrote".into(), reason };
            let name = entry.file_name().and_then(|name| name.to_str());
            let Some(name) = name.filter(|name| !name.is_empty()) else {
                return Err(bad(format!("a name in `/{path}` is not UTF-8")));
            };
            let inside = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            if is_left_out(&inside) {
                continue;
            }
            if self.found.len() >= ENTRIES_MAX {
                return Err(bad(format!("it has more than {ENTRIES_MAX} files")));
            }
            let metadata = fs::symlink_metadata(&entry).map_err(Error::io("read", &entry))?;
            self.found.insert(inside.clone());
            if let Some(node) = self.node(&entry, &inside, &metadata)? {
                if self.before.nodes.get(&inside) != Some(&node) {
                    self.captured.written.insert(inside.clone(), node);
                }
                if metadata.is_dir() {
                    self.folder(&entry, &inside)?;
                }
            }
        }
        Ok(())
    }

    fn node(&mut self, entry: &Path, inside: &str, metadata: &Metadata) -> Result<Option<Node>, Error> {
        let kind = metadata.file_type();
        if kind.is_dir() {
            return Ok(Some(Node::Directory));
        }
        if kind.is_symlink() {
            let target = fs::read_link(entry).map_err(Error::io("read", entry))?;
            let bad = || Error::BadLayout {
                package: "what the step wrote".into(),
                reason: format!("the target of the link `/{inside}` is not UTF-8"),
            };
            return Ok(Some(Node::Link { target: target.to_str().ok_or_else(bad)?.to_owned() }));
        }
        if !kind.is_file() {
            self.captured.dropped.push(format!("device, pipe or socket {inside}"));
            return Ok(None);
        }
        if metadata.mode() & 0o6000 != 0 {
            self.captured.dropped.push(format!("setid bits of {inside}"));
        }
        let executable = metadata.mode() & 0o111 != 0;
        if let Some(same @ Node::File { sha256, size, executable: was }) = self.before.nodes.get(inside)
            && (*size, *was) == (metadata.len(), executable)
            && Sha256::of_file(entry).map_err(Error::io("read", entry))?.0 == *sha256
        {
            return Ok(Some(same.clone()));
        }
        let mut file = fs::File::open(entry).map_err(Error::io("open", entry))?;
        let number = format!("captured-{}", self.found.len());
        let (sha256, size) = self.workspace.add(&mut file, executable, &number)?;
        Ok(Some(Node::File { sha256, size, executable }))
    }
}

/// Gives the owner back what a program may have taken: reading files, entering and changing folders.
pub(crate) fn open_up(path: &Path) -> Result<(), Error> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(Error::io("read", path))?,
    };
    let wanted = if metadata.is_dir() { 0o700 } else { 0o400 };
    if (metadata.is_dir() || metadata.is_file()) && metadata.mode() & wanted != wanted {
        let mode = fs::Permissions::from_mode(metadata.mode() & 0o7777 | wanted);
        fs::set_permissions(path, mode).map_err(Error::io("change the mode of", path))?;
    }
    if metadata.is_dir() {
        for entry in fs::read_dir(path).map_err(Error::io("read", path))? {
            open_up(&entry.map_err(Error::io("read", path))?.path())?;
        }
    }
    Ok(())
}
