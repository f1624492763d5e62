//! Whose the room on disk is: a tool's own, shared between tools, nobody's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::Serialize;

use super::gc::objects_of;
use super::roots::Tool;
use super::verify::ObjectName;
use super::{Mode, Store, list};
use crate::digest::Sha256;
use crate::error::Error;

/// What one tool takes, in bytes on disk.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Usage {
    /// Its name.
    pub tool: String,
    /// Its recipe.
    pub recipe: std::path::PathBuf,
    /// Its tree, where it was built.
    pub tree: Option<Sha256>,
    /// Whether it runs.
    pub in_use: bool,
    /// Files of its tree that no other tool's tree has, and the tree's folders.
    pub own_bytes: u64,
    /// Files of its tree that another tool's tree has too.
    pub shared_bytes: u64,
    /// Vendor files and downloads that only its lock names.
    pub downloads_bytes: u64,
    /// What removing its recipe and collecting would free: `own-bytes` and `downloads-bytes`.
    pub freed_bytes: u64,
}

/// What the store takes, in bytes on disk.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Disk {
    /// By tool.
    pub tools: Vec<Usage>,
    /// Everything in the store, each content counted once.
    pub total_bytes: u64,
    /// Of that: contents of files.
    pub objects_bytes: u64,
    /// Of that: vendor files and downloads.
    pub artifacts_bytes: u64,
    /// Of the contents: what no tool's tree has.
    pub unneeded_bytes: u64,
}

impl Store {
    /// Adds up.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn usage(&self, tools: &[Tool]) -> Result<Disk, Error> {
        let _no_collector = self.lock("store", Mode::Shared)?;
        let sizes = self.object_sizes()?;
        let alive: Vec<&Tool> = tools.iter().filter(|tool| tool.alive).collect();
        let trees: BTreeSet<Sha256> = alive.iter().filter_map(|tool| tool.tree).collect();
        let mut objects: BTreeMap<Sha256, BTreeSet<ObjectName>> = BTreeMap::new();
        for tree in trees {
            if self.tree(tree).is_dir() {
                objects.insert(tree, objects_of(&self.manifest(tree)?).collect());
            }
        }
        let mut usages = Vec::new();
        for (number, tool) in alive.iter().enumerate() {
            let others =
                || alive.iter().enumerate().filter(move |(other, _)| *other != number).map(|(_, tool)| tool);
            usages.push(self.usage_of(
                tool,
                &|| others().filter_map(|tool| tool.tree).collect(),
                &objects,
                &sizes,
            )?);
            let named: BTreeSet<Sha256> = others().flat_map(|tool| tool.inputs()).collect();
            let own: BTreeSet<Sha256> = tool.inputs().filter(|input| !named.contains(input)).collect();
            if let Some(usage) = usages.last_mut() {
                usage.downloads_bytes = own.iter().map(|sha256| blocks(&self.artifact(*sha256))).sum();
                usage.freed_bytes = usage.own_bytes + usage.downloads_bytes;
            }
        }
        let needed: BTreeSet<ObjectName> = objects.into_values().flatten().collect();
        let unneeded = sizes.iter().filter(|(name, _)| !needed.contains(name)).map(|(_, bytes)| bytes).sum();
        Ok(Disk {
            tools: usages,
            total_bytes: distinct_bytes(&self.root)?,
            objects_bytes: sizes.values().sum(),
            artifacts_bytes: distinct_bytes(&self.root.join("artifacts"))?,
            unneeded_bytes: unneeded,
        })
    }

    fn usage_of(
        &self,
        tool: &Tool,
        other_trees: &dyn Fn() -> BTreeSet<Sha256>,
        objects: &BTreeMap<Sha256, BTreeSet<ObjectName>>,
        sizes: &BTreeMap<ObjectName, u64>,
    ) -> Result<Usage, Error> {
        let mut usage = Usage {
            tool: tool.name.clone(),
            recipe: tool.recipe.clone(),
            tree: None,
            in_use: false,
            own_bytes: 0,
            shared_bytes: 0,
            downloads_bytes: 0,
            freed_bytes: 0,
        };
        let Some((tree, names)) = tool.tree.and_then(|tree| Some((tree, objects.get(&tree)?))) else {
            return Ok(usage);
        };
        let others = other_trees();
        let has = |name: &ObjectName| {
            others.iter().any(|other| objects.get(other).is_some_and(|o| o.contains(name)))
        };
        for name in names {
            let bytes = sizes.get(name).copied().unwrap_or(0);
            if has(name) {
                usage.shared_bytes += bytes;
            } else {
                usage.own_bytes += bytes;
            }
        }
        if !others.contains(&tree) {
            usage.own_bytes += distinct_bytes_but_links(&self.tree(tree))?;
        }
        usage.tree = Some(tree);
        let lock = self.root.join("locks").join(super::tree_lock(tree));
        usage.in_use = lock.exists() && self.try_lock(&super::tree_lock(tree))?.is_none();
        Ok(usage)
    }

    fn object_sizes(&self) -> Result<BTreeMap<ObjectName, u64>, Error> {
        let mut sizes = BTreeMap::new();
        for fanout in list(&self.root.join("objects"))? {
            for path in list(&fanout)? {
                if let Some(name) = super::verify::object_name(&path) {
                    sizes.insert(name, blocks(&path));
                }
            }
        }
        Ok(sizes)
    }
}

fn blocks(path: &Path) -> u64 {
    fs::symlink_metadata(path).map_or(0, |there| there.blocks() * 512)
}

/// Bytes on disk of everything below a path, each inode once.
fn distinct_bytes(path: &Path) -> Result<u64, Error> {
    sum(path, &mut BTreeSet::new(), &|_| true)
}

/// The same without files that have other names: those are objects.
fn distinct_bytes_but_links(path: &Path) -> Result<u64, Error> {
    sum(path, &mut BTreeSet::new(), &|there| there.is_dir() || there.nlink() == 1)
}

fn sum(
    path: &Path,
    seen: &mut BTreeSet<(u64, u64)>,
    counts: &dyn Fn(&fs::Metadata) -> bool,
) -> Result<u64, Error> {
    let mut bytes = 0;
    let mut pending = vec![path.to_owned()];
    while let Some(path) = pending.pop() {
        // What a builder removes meanwhile takes no room.
        let Ok(there) = fs::symlink_metadata(&path) else { continue };
        if there.is_dir() {
            pending.extend(list(&path)?);
        }
        if counts(&there) && seen.insert((there.dev(), there.ino())) {
            bytes += there.blocks() * 512;
        }
    }
    Ok(bytes)
}
