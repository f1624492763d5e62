//! Removing what nobody needs. Needed is what the recipes that were built here name, what a running tool holds, what was
//! used lately, and what the caller says.
//!
//! The order is such that a crash leaves nothing that names what is not there: records first, then trees and manifests,
//! then what they were made of.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::manifest::{Manifest, Node};
use super::roots::{Tool, digest_of, is_half_written};
use super::verify::{ObjectName, object_name};
use super::{Mode, Store, list, missing_is_fine, read_manifest, remove_tree, sync_folder, tree_lock};
use crate::digest::Sha256;
use crate::error::Error;

/// What is kept beyond what the tools need.
#[derive(Debug, Clone, Default)]
pub struct Keep {
    /// Trees.
    pub trees: BTreeSet<Sha256>,
    /// Vendor files, such as those of recipes that have no lock yet.
    pub artifacts: BTreeSet<Sha256>,
    /// Every vendor file and downloaded package: there are recipes of which nobody knows what they name.
    pub all_artifacts: bool,
    /// Trees that were used and files that came within this time.
    pub younger_than: Duration,
}

/// What kind of thing is removed. The order is that of removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The record of a recipe that is gone.
    Tool,
    /// The record of what a lock gave.
    Build,
    /// The record of what an installer wrote.
    Capture,
    /// A tree.
    Tree,
    /// A tree's manifest.
    Manifest,
    /// What an archive held.
    Package,
    /// What a tool of a tree made.
    Result,
    /// A file's content.
    Object,
    /// A vendor's file or a downloaded package.
    Artifact,
    /// A download that was interrupted.
    Partial,
    /// Work that was interrupted.
    Unfinished,
    /// A lock file that nobody holds.
    Lock,
}

/// One thing to remove.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Item {
    /// What it is.
    pub kind: Kind,
    /// Where it is.
    pub path: PathBuf,
    /// Bytes on disk that its removal frees.
    pub bytes: u64,
}

/// What was removed, or would be.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Collected {
    /// Each thing.
    pub items: Vec<Item>,
    /// Trees that no recipe needs, but a running tool does.
    pub in_use: Vec<Sha256>,
    /// Trees that no recipe needs, but that were used lately.
    pub young: Vec<Sha256>,
}

impl Collected {
    /// Bytes on disk that were freed, or would be.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.items.iter().map(|item| item.bytes).sum()
    }
}

/// What stays.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) trees: BTreeSet<Sha256>,
    pub(super) artifacts: BTreeSet<Sha256>,
    pub(super) objects: BTreeSet<ObjectName>,
}

impl Store {
    /// Removes what nobody needs; with `dry_run` only says what that is.
    ///
    /// # Errors
    /// [`Error::StoreBusy`] while something is built; what cannot be read or removed.
    pub fn collect(&self, tools: &[Tool], keep: &Keep, dry_run: bool) -> Result<Collected, Error> {
        let Some(_alone) = self.try_lock("store")? else {
            return Err(Error::StoreBusy(self.root.clone()));
        };
        let mut collected = Collected::default();
        let mut live = wanted(tools, keep);
        let held = self.dead_trees(&mut live, keep, &mut collected)?;
        self.young_artifacts(&mut live, keep)?;
        self.live_objects(&mut live)?;
        self.find(&mut collected, &live, tools, keep)?;
        collected.items.sort_by(|a, b| (a.kind, &a.path).cmp(&(b.kind, &b.path)));
        if !dry_run {
            self.remove(&collected)?;
        }
        drop(held);
        Ok(collected)
    }

    /// The trees that go. Each one's lock is held until it is gone, so that nobody begins to use it.
    fn dead_trees(
        &self,
        live: &mut Live,
        keep: &Keep,
        collected: &mut Collected,
    ) -> Result<Vec<OwnedFd>, Error> {
        let mut held = Vec::new();
        for digest in self.tree_digests()? {
            if live.trees.contains(&digest) {
                continue;
            }
            let lock_file = self.root.join("locks").join(tree_lock(digest));
            let age = age(&lock_file, false).into_iter().chain(age(&self.tree(digest), true)).min();
            let Some(lock) = self.try_lock(&tree_lock(digest))? else {
                live.trees.insert(digest);
                collected.in_use.push(digest);
                continue;
            };
            if age.is_some_and(|age| age < keep.younger_than) {
                live.trees.insert(digest);
                collected.young.push(digest);
                continue;
            }
            held.push(lock);
        }
        Ok(held)
    }

    /// Files that came lately stay, and with them what they held.
    fn young_artifacts(&self, live: &mut Live, keep: &Keep) -> Result<(), Error> {
        for path in list(&self.root.join("artifacts"))? {
            let young = keep.all_artifacts || age(&path, true).is_some_and(|age| age < keep.younger_than);
            live.artifacts.extend(digest_of(&path).filter(|_| young));
        }
        Ok(())
    }

    /// The objects of the trees that stay, and of the archives whose file stays.
    fn live_objects(&self, live: &mut Live) -> Result<(), Error> {
        let trees = live.trees.clone();
        for digest in trees {
            let path = self.root.join("manifests").join(digest.hex());
            if path.exists() {
                live.objects.extend(objects_of(&self.manifest(digest)?));
            }
        }
        for path in list(&self.root.join("packages"))? {
            if let Some((archive, manifest)) = Self::package_record(&path)
                && live.artifacts.contains(&archive)
            {
                live.objects.extend(objects_of(&manifest));
            }
        }
        Ok(())
    }

    fn find(&self, collected: &mut Collected, live: &Live, tools: &[Tool], keep: &Keep) -> Result<(), Error> {
        let mut add = |kind, path: PathBuf, bytes| collected.items.push(Item { kind, path, bytes });
        for tool in tools.iter().filter(|tool| !tool.alive) {
            // The tree of a recipe that is gone may be young: its record goes with it, not before it.
            let gone = tool.tree.is_none_or(|tree| !live.trees.contains(&tree));
            if let (true, Some(record)) = (gone, &tool.record) {
                add(Kind::Tool, record.clone(), blocks(record));
            }
        }
        for (kind, folder) in [(Kind::Tool, "roots"), (Kind::Capture, "captures")] {
            let left = list(&self.root.join(folder))?.into_iter().filter(|path| is_half_written(path));
            // Whoever writes one now is not disturbed.
            for path in left.filter(|path| age(path, true).is_none_or(|age| age >= keep.younger_than)) {
                add(kind, path.clone(), blocks(&path));
            }
        }
        for path in list(&self.root.join("builds"))? {
            let tree = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
            if tree.is_none_or(|tree| !live.trees.contains(&tree)) {
                add(Kind::Build, path.clone(), blocks(&path));
            }
        }
        for path in list(&self.root.join("captures"))?.into_iter().filter(|path| !is_half_written(path)) {
            let content = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
            if content.is_none_or(|content| !live.artifacts.contains(&content)) {
                add(Kind::Capture, path.clone(), blocks(&path));
            }
        }
        for (kind, folder) in [(Kind::Tree, "trees"), (Kind::Manifest, "manifests")] {
            for path in list(&self.root.join(folder))? {
                let Some(digest) = digest_of(&path) else { continue };
                if !live.trees.contains(&digest) {
                    let bytes = if kind == Kind::Tree { own_bytes(&path)? } else { blocks(&path) };
                    add(kind, path, bytes);
                }
            }
        }
        self.idle_records(live, &mut add)?;
        for fanout in list(&self.root.join("objects"))? {
            for path in list(&fanout)? {
                if object_name(&path).is_some_and(|name| !live.objects.contains(&name)) {
                    add(Kind::Object, path.clone(), blocks(&path));
                }
            }
        }
        for path in list(&self.root.join("artifacts"))? {
            let Some(digest) = digest_of(&path) else { continue };
            if !live.artifacts.contains(&digest) {
                add(Kind::Artifact, path.clone(), blocks(&path));
            }
        }
        for path in list(&self.root.join("artifacts/.partial"))? {
            if age(&path, true).is_none_or(|age| age >= keep.younger_than) {
                add(Kind::Partial, path.clone(), blocks(&path));
            }
        }
        for path in self.abandoned()? {
            let bytes = if path.is_dir() { own_bytes(&path)? } else { 0 };
            add(Kind::Unfinished, path, bytes);
        }
        self.free_locks(live, &mut add)
    }

    /// Records of archives that go, and of caches that no tree has any more.
    fn idle_records(&self, live: &Live, add: &mut impl FnMut(Kind, PathBuf, u64)) -> Result<(), Error> {
        for path in list(&self.root.join("packages"))? {
            if Self::package_record(&path).is_none_or(|(archive, _)| !live.artifacts.contains(&archive)) {
                add(Kind::Package, path.clone(), blocks(&path));
            }
        }
        // A result keeps nothing: it goes with the last tree that has its files. One without files says nothing.
        for path in list(&self.root.join("results"))? {
            let kept = read_manifest(&path).is_ok_and(|made| {
                let mut files = objects_of(&made).peekable();
                files.peek().is_some() && files.all(|object| live.objects.contains(&object))
            });
            if !kept {
                add(Kind::Result, path.clone(), blocks(&path));
            }
        }
        Ok(())
    }

    /// Lock files of things that are not there. The store's own stays: it is what is held now.
    fn free_locks(&self, live: &Live, add: &mut impl FnMut(Kind, PathBuf, u64)) -> Result<(), Error> {
        for path in list(&self.root.join("locks"))? {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let of_a_tree = name.strip_prefix("tree-").map(|hex| hex.parse::<Sha256>());
            let needed = match of_a_tree {
                Some(digest) => digest.is_ok_and(|digest| live.trees.contains(&digest)),
                None => !(name.starts_with("fetch-") || name.starts_with("build-")),
            };
            if !needed {
                add(Kind::Lock, path, 0);
            }
        }
        Ok(())
    }

    fn remove(&self, collected: &Collected) -> Result<(), Error> {
        let of = |kind| collected.items.iter().filter(move |item| item.kind == kind).map(|item| &item.path);
        // What dead builders left goes here too.
        let trash = self.workspace()?;
        let remove_all = |kind: Kind, folder: &str| -> Result<(), Error> {
            for path in of(kind) {
                fs::remove_file(path).or_else(missing_is_fine).map_err(Error::io("remove", path))?;
            }
            sync_folder(&self.root.join(folder))
        };
        remove_all(Kind::Tool, "roots")?;
        remove_all(Kind::Build, "builds")?;
        if of(Kind::Capture).next().is_some() {
            remove_all(Kind::Capture, "captures")?;
        }
        let folder = trash.scratch("trees")?;
        for path in of(Kind::Tree) {
            let target = folder.join(path.file_name().unwrap_or_default());
            fs::rename(path, &target).map_err(Error::io("rename", path))?;
        }
        sync_folder(&self.root.join("trees"))?;
        remove_all(Kind::Manifest, "manifests")?;
        remove_all(Kind::Package, "packages")?;
        remove_all(Kind::Result, "results")?;
        remove_all(Kind::Object, "objects")?;
        remove_all(Kind::Artifact, "artifacts")?;
        remove_all(Kind::Partial, "artifacts/.partial")?;
        remove_tree(&folder)?;
        for path in of(Kind::Lock) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let ours = collected.items.iter().any(|item| {
                item.kind == Kind::Tree
                    && item.path.file_name().is_some_and(|tree| name.ends_with(&*tree.to_string_lossy()))
            });
            // Those of trees that went are held here; of the others only a free one goes.
            if ours || self.try_lock(name)?.is_some() {
                fs::remove_file(path).or_else(missing_is_fine).map_err(Error::io("remove", path))?;
            }
        }
        Ok(())
    }
}

/// What the tools that are there need, and what the caller keeps.
pub(super) fn wanted(tools: &[Tool], keep: &Keep) -> Live {
    let mut live =
        Live { trees: keep.trees.clone(), artifacts: keep.artifacts.clone(), objects: BTreeSet::new() };
    for tool in tools.iter().filter(|tool| tool.alive) {
        live.trees.extend(tool.tree);
        live.artifacts.extend(tool.inputs());
    }
    live
}

/// The objects that a manifest names.
pub(super) fn objects_of(manifest: &Manifest) -> impl Iterator<Item = ObjectName> {
    manifest.nodes.values().filter_map(|node| match node {
        Node::File { sha256, executable, .. } => Some((*sha256, *executable)),
        Node::Directory | Node::Link { .. } => None,
    })
}

/// Time since a file was written, or, for those whose time of change is fixed, since it came to its place.
fn age(path: &Path, placed: bool) -> Option<Duration> {
    let there = fs::symlink_metadata(path).ok()?;
    let seconds = if placed { there.ctime() } else { there.mtime() };
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).ok()?);
    // A time in the future is a clock that was set back: as young as can be.
    Some(SystemTime::now().duration_since(then).unwrap_or_default())
}

/// Bytes on disk of a file.
fn blocks(path: &Path) -> u64 {
    fs::symlink_metadata(path).map_or(0, |there| there.blocks() * 512)
}

/// Bytes on disk of a folder that nothing else shares: folders, links, copies.
fn own_bytes(path: &Path) -> Result<u64, Error> {
    let mut bytes = 0;
    let mut pending = vec![path.to_owned()];
    while let Some(path) = pending.pop() {
        let there = fs::symlink_metadata(&path).map_err(Error::io("read", &path))?;
        if there.is_dir() {
            pending.extend(list(&path)?);
        }
        if there.is_dir() || there.nlink() == 1 {
            bytes += there.blocks() * 512;
        }
    }
    Ok(bytes)
}

impl Keep {
    /// Adds a tree by the beginning of its digest.
    ///
    /// # Errors
    /// When none or several begin so.
    pub fn tree(&mut self, store: &Store, text: &str) -> Result<(), Error> {
        let digests = store.tree_digests()?;
        let mut fitting = digests.iter().filter(|digest| digest.hex().starts_with(text));
        match (fitting.next(), fitting.next()) {
            (Some(one), None) => {
                self.trees.insert(*one);
                Ok(())
            }
            (None, _) => Err(Error::Unsupported(format!("there is no tree `{text}`"))),
            (Some(_), Some(_)) => Err(Error::Unsupported(format!("several trees begin with `{text}`"))),
        }
    }
}

impl Store {
    /// Keeps collectors away as long as the descriptor is open: while a vendor's file is stored and its recipe written,
    /// a collector in between would take the file.
    ///
    /// # Errors
    /// When the lock file cannot be made or locked.
    pub fn no_collector(&self) -> Result<OwnedFd, Error> {
        self.lock("store", Mode::Shared)
    }
}
