//! A tree as a stack of layers.
//!
//! A layer of packages holds all of their files, and nothing that depends on the rest of the tree: two images with the same
//! packages have the same layer, byte for byte. Where a tree differs from the packages' own files (something was generated,
//! changed, replaced or removed), a layer above says so.
//!
//! Engines share a layer on disk only where all layers below it are the same, so what most images have is lowest: the base
//! list, then large packages by how much they need themselves, which puts a library below those that are built on it and does
//! not depend on what else is in the image.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::Write;

use hatchway_envs::base::BASE;
use hatchway_envs::build::owners::{Input, Owners};
use hatchway_envs::lock::{Lock, LockedPackage};
use hatchway_envs::store::Store;
use hatchway_envs::store::manifest::{DIRECTORY_MODE, Manifest, Node};

use crate::error::Error;
use crate::tar::{Kind, Tar};

/// What the name of a file that says that another is removed begins with (OCI image specification, "Whiteouts").
const WHITEOUT: &str = ".wh.";
/// A package whose files have this many bytes gets a layer of its own: smaller ones gain less by sharing than a layer costs.
const LARGE_BYTES: u64 = 1 << 20;
/// Layers for large packages. Engines allow about 127 in all, and whoever builds upon an image wants some of them.
const LARGE_MAX: usize = 40;
/// Folders in which everybody may write, and remove only what is theirs (FHS 3.0, "/tmp", "/var/tmp"). A tree in a store has
/// other folders mounted there.
const OPEN_FOLDERS: [&str; 2] = ["tmp", "var/tmp"];
const OPEN_MODE: u32 = 0o1777;

/// A layer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Layer {
    /// What it is, for people.
    pub title: String,
    /// The packages, wheels or artifacts in it, with their versions.
    pub contents: Vec<String>,
    /// What it adds or replaces.
    pub brings: Manifest,
    /// What of the layers below it removes.
    pub removes: BTreeSet<String>,
}

/// What becomes one layer.
#[derive(Debug, Clone)]
struct Group<'a> {
    title: String,
    contents: Vec<String>,
    shares: Vec<&'a Manifest>,
}

/// The stack of layers whose union is the tree.
///
/// # Errors
/// [`Error::Whiteout`].
pub fn layers(lock: &Lock, tree: &Manifest, owners: &Owners) -> Result<Vec<Layer>, Error> {
    let whiteout = |path: &&String| path.split('/').any(|part| part.starts_with(WHITEOUT));
    if let Some(path) = tree.nodes.keys().find(whiteout) {
        return Err(Error::Whiteout(path.clone()));
    }
    let (packed, vendors) = groups(lock, owners);
    let layers = stack(tree, &packed, &vendors);
    // A package of the archive with such a name has it in its own layer, even where the tree has not.
    let all = layers.iter().flat_map(|layer| layer.brings.nodes.keys());
    match { all }.find(whiteout) {
        Some(path) => Err(Error::Whiteout(path.clone())),
        None => Ok(layers),
    }
}

/// The groups of the archives' packages, the lowest first, and those of vendors' files.
fn groups<'a>(lock: &Lock, owners: &'a Owners) -> (Vec<Group<'a>>, Vec<Group<'a>>) {
    let base = base_packages(lock);
    let weights = weights(lock);
    let mut lowest =
        Group { title: format!("{}: base", lock.base), contents: Vec::new(), shares: vec![&owners.skeleton] };
    let (mut packages, mut wheels) = (Vec::new(), Vec::new());
    let mut vendor = Group { title: "vendor".into(), contents: Vec::new(), shares: Vec::new() };
    for share in &owners.shares {
        match share.input {
            Input::Image => {
                lowest.contents.push(lock.base.clone());
                lowest.shares.push(&share.brings);
            }
            Input::Package(number) => {
                let Some(package) = lock.packages.get(number) else { continue };
                let label = package.label(lock.native());
                let name = format!("{label} {}", package.version);
                if base.contains(&label) {
                    lowest.contents.push(name);
                    lowest.shares.push(&share.brings);
                } else {
                    let rank = (weights.get(&label).copied().unwrap_or_default(), label);
                    packages.push((rank, name, &share.brings));
                }
            }
            Input::Wheel(number) => {
                let Some(wheel) = lock.wheels.get(number) else { continue };
                let name = format!("{} {}", wheel.name, wheel.version);
                wheels.push(((0, wheel.name.clone()), name, &share.brings));
            }
            Input::Artifact(number) => {
                let Some(artifact) = lock.artifacts.get(number) else { continue };
                vendor.contents.push(artifact.file.clone());
                vendor.shares.push(&share.brings);
            }
        }
    }
    let mut groups = vec![lowest];
    let (mut large, rest) = split(packages, LARGE_MAX);
    groups.append(&mut large);
    groups.extend(rest.map(|rest| Group { title: "more packages".into(), ..rest }));
    let (mut large, rest) = split(wheels, LARGE_MAX.saturating_sub(groups.len()));
    groups.append(&mut large);
    groups.extend(rest.map(|rest| Group { title: "more Python packages".into(), ..rest }));
    groups.retain(|group| !group.contents.is_empty());
    (groups, if vendor.shares.is_empty() { Vec::new() } else { vec![vendor] })
}

/// What orders packages, their name with their version, and their files.
type Ranked<'a> = ((usize, String), String, &'a Manifest);

/// The large ones, each a group, in their order; and all others as one.
fn split(mut all: Vec<Ranked<'_>>, large_max: usize) -> (Vec<Group<'_>>, Option<Group<'_>>) {
    let mut large: Vec<(u64, (usize, String))> =
        all.iter().map(|(rank, _, files)| (bytes(files), rank.clone())).collect();
    large.retain(|(bytes, _)| *bytes >= LARGE_BYTES);
    large.sort_by(|one, other| other.cmp(one));
    large.truncate(large_max);
    let large: BTreeSet<(usize, String)> = large.into_iter().map(|(_, rank)| rank).collect();
    all.sort_by(|(one, ..), (other, ..)| one.cmp(other));
    let (own, mut rest): (Vec<Ranked<'_>>, Vec<Ranked<'_>>) =
        all.into_iter().partition(|(rank, ..)| large.contains(rank));
    let own = own.into_iter().map(|(_, name, files)| Group {
        title: name.clone(),
        contents: vec![name],
        shares: vec![files],
    });
    rest.sort_by(|(one, ..), (other, ..)| one.1.cmp(&other.1));
    let (contents, shares): (Vec<String>, Vec<&Manifest>) =
        rest.into_iter().map(|(_, name, files)| (name, files)).unzip();
    let rest = (!contents.is_empty()).then_some(Group { title: String::new(), contents, shares });
    (own.collect(), rest)
}

fn bytes(files: &Manifest) -> u64 {
    let size = |node: &Node| if let Node::File { size, .. } = node { *size } else { 0 };
    files.nodes.values().map(size).sum()
}

/// The packages of the base list with all that they pull in: the same in every lock of a suite with the same versions,
/// whatever else it has.
fn base_packages(lock: &Lock) -> BTreeSet<String> {
    let in_list = |package: &&LockedPackage| lock.base_packages.contains(&package.name);
    let own = lock
        .packages
        .iter()
        .filter(in_list)
        .filter(|p| p.architecture == lock.native() || p.architecture == "all");
    let alone = |name: &str| BASE.iter().any(|entry| entry.name == name && !entry.with_dependencies);
    let mut all: BTreeSet<String> = own.clone().map(|package| package.label(lock.native())).collect();
    let mut pending: VecDeque<String> =
        own.filter(|package| !alone(&package.name)).map(|package| package.label(lock.native())).collect();
    while let Some(label) = pending.pop_front() {
        for dependency in lock.package(&label).map_or(&[][..], |package| &package.dependencies) {
            if all.insert(dependency.clone()) {
                pending.push_back(dependency.clone());
            }
        }
    }
    all
}

/// Of each package, how many it needs in all, itself among them.
fn weights(lock: &Lock) -> BTreeMap<String, usize> {
    let by_label: BTreeMap<String, &LockedPackage> =
        lock.packages.iter().map(|package| (package.label(lock.native()), package)).collect();
    let weight = |label: &str| {
        let (mut seen, mut pending) = (BTreeSet::from([label]), vec![label]);
        while let Some(next) = pending.pop() {
            let needs = by_label.get(next).map_or(&[][..], |package| &package.dependencies);
            pending.extend(needs.iter().map(String::as_str).filter(|need| seen.insert(need)));
        }
        seen.len()
    };
    by_label.keys().map(|label| (label.clone(), weight(label))).collect()
}

/// Groups into layers, with one between the archive's and the vendors' that makes up for every difference.
fn stack(tree: &Manifest, packed: &[Group<'_>], vendors: &[Group<'_>]) -> Vec<Layer> {
    let mut below = Manifest::default();
    let mut layers: Vec<Layer> = Vec::new();
    for group in packed {
        let layer = whole(tree, group);
        apply(&layer, &mut below);
        layers.push(layer);
    }
    let mut own: Vec<Layer> = Vec::new();
    let mut taken: BTreeSet<&String> = BTreeSet::new();
    for group in vendors {
        let mut layer = Layer::of(group);
        for (path, node) in group.shares.iter().flat_map(|share| &share.nodes) {
            if tree.nodes.get(path) == Some(node) && below.nodes.get(path) != Some(node) && taken.insert(path)
            {
                layer.brings.insert(path, node.clone());
            }
        }
        own.push(layer);
    }
    layers.push(difference(tree, &below, &taken));
    layers.extend(own);
    layers.retain(|layer| !layer.brings.nodes.is_empty() || !layer.removes.is_empty());
    layers
}

/// All that a group brings. Of two files at one path the tree's is taken, if it is one of them.
fn whole(tree: &Manifest, group: &Group<'_>) -> Layer {
    let mut layer = Layer::of(group);
    let all = || group.shares.iter().flat_map(|share| &share.nodes);
    let folder = |node: &Node| *node == Node::Directory;
    // A folder in one package and a file in another: only one of them can be in an archive with what is below it.
    for (path, node) in all().filter(|(_, node)| folder(node)) {
        layer.brings.insert(path, node.clone());
    }
    for (path, node) in all().filter(|(_, node)| !folder(node)) {
        match layer.brings.nodes.get(path) {
            Some(there) if folder(there) || tree.nodes.get(path) == Some(there) => {}
            _ => layer.brings.insert(path, node.clone()),
        }
    }
    layer
}

/// What makes the tree of what is below, apart from what is `taken` by layers above.
fn difference(tree: &Manifest, below: &Manifest, taken: &BTreeSet<&String>) -> Layer {
    let mut layer = Layer { title: "generated".into(), ..Layer::default() };
    for (path, node) in &tree.nodes {
        if below.nodes.get(path) != Some(node) && !taken.contains(path) {
            layer.brings.insert(path, node.clone());
        }
    }
    for path in below.nodes.keys().filter(|path| !tree.nodes.contains_key(*path)) {
        // What is below a folder that goes, or that becomes something else, goes with it.
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        if folder.is_empty() || tree.nodes.get(folder) == Some(&Node::Directory) {
            layer.removes.insert(path.clone());
        }
    }
    layer
}

/// Puts a layer over what is below, as engines do.
fn apply(layer: &Layer, below: &mut Manifest) {
    for path in &layer.removes {
        below.remove(path);
    }
    for (path, node) in &layer.brings.nodes {
        if *node != Node::Directory && below.nodes.get(path) == Some(&Node::Directory) {
            below.remove(path);
        }
        below.nodes.insert(path.clone(), node.clone());
    }
}

impl Layer {
    fn of(group: &Group<'_>) -> Self {
        let (title, contents) = (group.title.clone(), group.contents.clone());
        Self { title, contents, ..Self::default() }
    }

    /// The bytes of its files, without those of their names.
    #[must_use]
    pub fn content_bytes(&self) -> u64 {
        bytes(&self.brings)
    }

    /// Writes its archive.
    ///
    /// # Errors
    /// [`Error::Damaged`] where the store is; those of writing, under the name of `to_name`.
    pub fn write<W: Write>(&self, store: &Store, to: W, to_name: &std::path::Path) -> Result<W, Error> {
        let mut tar = Tar::new(to);
        let mut removes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let mut folders: BTreeSet<&str> = BTreeSet::new();
        for path in &self.removes {
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
            removes.entry(folder).or_default().push(name);
            folders.extend(path.match_indices('/').map(|(slash, _)| &path[..slash]));
        }
        let folders = folders.into_iter().map(|path| (path, &Node::Directory));
        let mut all: BTreeMap<&str, &Node> = folders.collect();
        all.extend(self.brings.nodes.iter().map(|(path, node)| (path.as_str(), node)));
        // Whiteouts stand before what else is in their folder (OCI image specification, "Whiteouts").
        let mut add_removes = |tar: &mut Tar<W>, folder: &str| {
            for name in removes.remove(folder).unwrap_or_default() {
                let separator = if folder.is_empty() { "" } else { "/" };
                let path = format!("{folder}{separator}{WHITEOUT}{name}");
                tar.add(&path, 0o644, Kind::File { size: 0 }, &mut std::io::empty())
                    .map_err(Error::io("write", to_name))?;
            }
            Ok::<(), Error>(())
        };
        add_removes(&mut tar, "")?;
        for (path, node) in all {
            add(&mut tar, store, path, node, to_name)?;
            if *node == Node::Directory {
                add_removes(&mut tar, path)?;
            }
        }
        tar.finish().map_err(Error::io("write", to_name))
    }
}

fn add<W: Write>(
    tar: &mut Tar<W>,
    store: &Store,
    path: &str,
    node: &Node,
    to_name: &std::path::Path,
) -> Result<(), Error> {
    let failed = || Error::io("write", to_name);
    match node {
        Node::Directory => {
            let mode = if OPEN_FOLDERS.contains(&path) { OPEN_MODE } else { DIRECTORY_MODE };
            tar.add(path, mode, Kind::Directory, &mut std::io::empty()).map_err(failed())
        }
        Node::Link { target } => {
            tar.add(path, 0o777, Kind::Link { target }, &mut std::io::empty()).map_err(failed())
        }
        Node::File { sha256, size, executable } => {
            let mode = if *executable { 0o755 } else { 0o644 };
            let mut content = store.open_object(*sha256, *executable)?;
            tar.add(path, mode, Kind::File { size: *size }, &mut content).map_err(|error| {
                match error.kind() {
                    std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::InvalidData => {
                        Error::Damaged { path: path.to_owned(), size: *size }
                    }
                    _ => failed()(error),
                }
            })
        }
    }
}

#[cfg(test)]
mod tests;
