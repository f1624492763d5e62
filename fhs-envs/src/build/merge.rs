//! Many manifests to one tree, as dpkg would have unpacked them on a system with a merged `/usr`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::unpack::CONTROL;
use crate::debian::relation;
use crate::error::Error;
use crate::store::manifest::{Manifest, Node};

/// The folders of the root that are links into `/usr`.
const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];
/// Folders that programs and mounts expect.
const EXPECTED: [&str; 14] = [
    "dev",
    "etc",
    "home",
    "mnt",
    "opt",
    "proc",
    "run",
    "srv",
    "sys",
    "tmp",
    "usr/local/bin",
    "var/cache",
    "var/lib",
    "var/tmp",
];

/// What one package or artifact brings.
#[derive(Debug)]
pub(crate) struct Layer<'a> {
    /// Name for messages.
    pub(crate) name: &'a str,
    /// Version; empty for a vendor's file.
    pub(crate) version: &'a str,
    /// Content.
    pub(crate) manifest: &'a Manifest,
    /// `Replaces`, as written.
    pub(crate) replaces: &'a str,
    /// A vendor's file: it wins over the environment's.
    pub(crate) vendor: bool,
}

/// A tree being put together.
#[derive(Debug, Default)]
pub(crate) struct Merge {
    pub(crate) tree: Manifest,
    owners: BTreeMap<String, usize>,
    /// Which layers are vendors' files.
    vendors: Vec<bool>,
    /// What of a package a vendor's file replaced.
    pub(crate) replaced: BTreeSet<String>,
    /// What is worth telling.
    pub(crate) notes: Vec<String>,
}

/// Merges the layers over a merged `/usr`; their order does not matter.
///
/// # Errors
/// When two layers bring different things to one path and neither may replace the other.
pub(crate) fn merge(layers: &[Layer<'_>]) -> Result<Merge, Error> {
    let mut merge = Merge { vendors: layers.iter().map(|layer| layer.vendor).collect(), ..Merge::default() };
    for name in MERGED {
        merge.tree.insert(&format!("usr/{name}"), Node::Directory);
        merge.tree.insert(name, Node::Link { target: format!("usr/{name}") });
    }
    for path in EXPECTED {
        merge.tree.insert(path, Node::Directory);
    }
    add_all(merge, layers)
}

/// Merges the layers over an image, which decides itself where `/bin` is: one of `layers`.
///
/// # Errors
/// As [`merge`].
pub(crate) fn merge_over_image(layers: &[Layer<'_>]) -> Result<Merge, Error> {
    let mut merge = add_all(Merge::default(), layers)?;
    for path in EXPECTED {
        let bad = |reason| Error::BadLayout { package: "the image".into(), reason };
        merge.put_if_missing(path, Node::Directory).map_err(bad)?;
    }
    Ok(merge)
}

fn add_all(mut merge: Merge, layers: &[Layer<'_>]) -> Result<Merge, Error> {
    // Links first: a path of another package may lead through them.
    let kinds: [fn(&Node) -> bool; 3] = [
        |node| matches!(node, Node::Link { .. }),
        |node| matches!(node, Node::Directory),
        |node| matches!(node, Node::File { .. }),
    ];
    for kind in kinds {
        let all = layers.iter().enumerate();
        let mut entries: Vec<(usize, &String, &Node)> = all
            .flat_map(|(number, layer)| {
                layer.manifest.nodes.iter().map(move |(path, node)| (number, path, node))
            })
            .filter(|(_, path, node)| kind(node) && !is_control(path))
            .collect();
        // What is nearer to the root first: a link may lie in a folder that another layer's link leads to.
        entries.sort_by_cached_key(|(number, path, _)| (path.matches('/').count(), *path, *number));
        let mut folders = Folders::default();
        for (number, path, node) in entries {
            // Of links each may change where the next one's folder is.
            if matches!(node, Node::Link { .. }) {
                folders.known.clear();
            }
            merge.add(layers, number, path, node, &mut folders)?;
        }
    }
    Ok(merge)
}

/// Where folders lead, each looked up once: thousands of files lie in a few hundred.
#[derive(Default)]
struct Folders<'a> {
    known: HashMap<&'a str, String>,
}

impl<'a> Folders<'a> {
    /// As [`Manifest::resolve_parent`].
    fn place(&mut self, tree: &Manifest, path: &'a str) -> Result<String, String> {
        let path = path.trim_matches('/');
        let Some((folder, name)) = path.rsplit_once('/') else { return Ok(path.to_owned()) };
        let resolved = match self.known.get(folder) {
            Some(resolved) => resolved,
            None => self.known.entry(folder).or_insert(tree.resolve(folder)?),
        };
        Ok(if resolved.is_empty() { name.to_owned() } else { format!("{resolved}/{name}") })
    }
}

fn is_control(path: &str) -> bool {
    path.strip_prefix(CONTROL).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Merge {
    fn add<'a>(
        &mut self,
        layers: &[Layer<'_>],
        number: usize,
        path: &'a str,
        node: &Node,
        folders: &mut Folders<'a>,
    ) -> Result<(), Error> {
        let layer = &layers[number];
        let bad = |reason: String| Error::BadLayout { package: layer.name.to_owned(), reason };
        let place = folders.place(&self.tree, path).map_err(bad)?;
        let Some(there) = self.tree.nodes.get(&place) else {
            self.tree.insert(&place, node.clone());
            self.owners.insert(place, number);
            return Ok(());
        };
        // dpkg leaves a link to a folder where a package brings the folder.
        if there == node || (matches!(node, Node::Directory) && matches!(there, Node::Link { .. })) {
            return Ok(());
        }
        if matches!(there, Node::Directory) != matches!(node, Node::Directory) {
            if matches!(node, Node::Link { .. }) && self.is_link_to_itself(&place, node) {
                return Ok(());
            }
            return Err(bad(format!("`/{place}` is a folder in one package and a file or link in another")));
        }
        let owner = self.owners.get(&place).copied();
        if owner.is_none() {
            return Err(bad(format!(
                "`/{place}` is the builder's own link; a package must not turn it elsewhere"
            )));
        }
        match owner.map(|owner| winner(&layers[owner], layer)) {
            Some(Winner::Second) | None => {
                if let Some(owner) = owner.filter(|owner| layer.vendor && !layers[*owner].vendor) {
                    self.replace(&place, layer.name, layers[owner].name);
                }
                // It may have been a link that folders lead through.
                folders.known.clear();
                self.tree.insert(&place, node.clone());
                self.owners.insert(place, number);
                Ok(())
            }
            Some(Winner::First) => {
                if let Some(owner) = owner.filter(|owner| !layer.vendor && layers[*owner].vendor) {
                    self.replace(&place, layers[owner].name, layer.name);
                }
                Ok(())
            }
            Some(Winner::Nobody) => Err(Error::Collision {
                path: format!("/{place}"),
                first: owner.map_or_else(String::new, |owner| layers[owner].name.to_owned()),
                second: layer.name.to_owned(),
            }),
        }
    }

    fn replace(&mut self, place: &str, vendor: &str, package: &str) {
        self.notes.push(format!("`{vendor}` replaces `/{place}` of `{package}`"));
        self.replaced.insert(place.to_owned());
    }

    /// Whether what lies at a path, links followed, is a vendor's.
    pub(crate) fn is_vendors(&self, path: &str) -> bool {
        let owner = self.resolve(path).ok().and_then(|place| self.owners.get(&place).copied());
        owner.is_some_and(|owner| self.vendors.get(owner).copied().unwrap_or(true))
    }

    /// Whether a vendor's file brought what lies at a path itself, no link followed.
    pub(crate) fn is_of_vendor(&self, place: &str) -> bool {
        self.owners.get(place).is_some_and(|owner| self.vendors.get(*owner).copied().unwrap_or(true))
    }

    /// `lib64 -> usr/lib64` of a package, where `lib64` is already that folder.
    fn is_link_to_itself(&self, place: &str, node: &Node) -> bool {
        let Node::Link { target } = node else { return false };
        let folder = place.rsplit_once('/').map_or("", |(folder, _)| folder);
        let start = if target.starts_with('/') { target.clone() } else { format!("{folder}/{target}") };
        self.resolve(&start).is_ok_and(|resolved| resolved == place)
    }

    /// Where a path leads, with every folder on the way resolved but not its last part.
    pub(crate) fn resolve_parent(&self, path: &str) -> Result<String, String> {
        self.tree.resolve_parent(path)
    }

    /// Where a path leads, all links followed, inside the tree.
    pub(crate) fn resolve(&self, path: &str) -> Result<String, String> {
        self.tree.resolve(path)
    }

    /// The node that a path leads to.
    pub(crate) fn node(&self, path: &str) -> Option<&Node> {
        self.tree.nodes.get(&self.resolve(path).ok()?)
    }

    /// Adds something of the builder's or the recipe's own, wherever the links lead.
    pub(crate) fn put(&mut self, path: &str, node: Node) -> Result<(), String> {
        let place = self.resolve_parent(path)?;
        if matches!(self.tree.nodes.get(&place), Some(Node::Directory)) {
            return Err(format!("`/{place}` is a folder"));
        }
        self.tree.insert(&place, node);
        Ok(())
    }

    /// Whether all of a result has its place in the tree: [`Self::put`] and [`Self::put_if_missing`] then take each entry.
    pub(crate) fn fits(&self, result: &Manifest) -> Result<(), String> {
        for (path, node) in &result.nodes {
            let folder = matches!(node, Node::Directory);
            let place = if folder { self.resolve(path)? } else { self.resolve_parent(path)? };
            match (self.tree.nodes.get(&place), folder) {
                (Some(Node::Directory), false) => return Err(format!("`/{place}` is a folder")),
                (Some(Node::File { .. } | Node::Link { .. }), true) => {
                    return Err(format!("`/{place}` is no folder"));
                }
                _ => {}
            }
            let above = place.match_indices('/').map(|(slash, _)| &place[..slash]);
            let mut there = above.filter_map(|above| Some((above, self.tree.nodes.get(above)?)));
            if let Some((above, _)) = there.find(|(_, node)| !matches!(node, Node::Directory)) {
                return Err(format!("`/{above}` is no folder"));
            }
        }
        Ok(())
    }

    /// Puts a link where a package left an empty folder, or nothing.
    pub(crate) fn link_instead_of_folder(&mut self, path: &str, target: &str) -> Result<(), String> {
        let place = self.resolve_parent(path)?;
        let empty = self.names(&place).is_empty();
        if empty && matches!(self.tree.nodes.get(&place), None | Some(Node::Directory)) {
            self.tree.insert(&place, Node::Link { target: target.to_owned() });
        }
        Ok(())
    }

    /// What one of the merged layers brings, each entry at its place in the tree. What cannot be there, since the tree has a
    /// folder where the layer has none or the other way round, is left out.
    pub(crate) fn placed(&self, layer: &Manifest) -> Result<Manifest, String> {
        let mut folders = Folders::default();
        let mut placed = Manifest::default();
        for (path, node) in layer.nodes.iter().filter(|(path, _)| !is_control(path)) {
            let place = folders.place(&self.tree, path)?;
            let there = self.tree.nodes.get(&place);
            let folder = matches!(node, Node::Directory);
            if there.is_some_and(|there| matches!(there, Node::Directory) == folder) {
                placed.insert(&place, node.clone());
            }
        }
        Ok(placed)
    }

    /// Removes what is at a path itself, no link followed, and all that is below it.
    pub(crate) fn remove(&mut self, path: &str) {
        self.tree.remove(path);
    }

    /// Puts something where nothing is, wherever the links lead.
    pub(crate) fn put_if_missing(&mut self, path: &str, node: Node) -> Result<(), String> {
        let place = self.resolve(path)?;
        if !place.is_empty() && !self.tree.nodes.contains_key(&place) {
            self.tree.insert(&place, node);
        }
        Ok(())
    }

    /// The names in a folder.
    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        let prefix = format!("{folder}/");
        self.tree
            .nodes
            .range(prefix.clone()..)
            .take_while(|(path, _)| path.starts_with(&prefix))
            .filter_map(|(path, _)| path.strip_prefix(&prefix))
            .filter(|name| !name.contains('/'))
            .map(str::to_owned)
            .collect()
    }
}

enum Winner {
    First,
    Second,
    Nobody,
}

fn winner(first: &Layer<'_>, second: &Layer<'_>) -> Winner {
    if second.vendor != first.vendor {
        return if second.vendor { Winner::Second } else { Winner::First };
    }
    let replaces = |layer: &Layer<'_>, other: &str| {
        // `Replaces` means every architecture of a package.
        let other = other.split(':').next().unwrap_or(other);
        relation::parse(layer.replaces, "amd64").unwrap_or_default().iter().flatten().any(|r| r.name == other)
    };
    if replaces(second, first.name) {
        Winner::Second
    } else if replaces(first, second.name) {
        Winner::First
    } else {
        Winner::Nobody
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Sha256;

    fn file(content: &str) -> Node {
        Node::File { sha256: Sha256::of(content.as_bytes()), size: content.len() as u64, executable: false }
    }

    fn manifest(nodes: &[(&str, Node)]) -> Manifest {
        let mut manifest = Manifest::default();
        for (path, node) in nodes {
            manifest.insert(path, node.clone());
        }
        manifest
    }

    fn layer<'a>(name: &'a str, manifest: &'a Manifest) -> Layer<'a> {
        Layer { name, version: "", manifest, replaces: "", vendor: false }
    }

    #[test]
    fn usr_is_merged_and_links_to_folders_are_followed() {
        let a = manifest(&[
            ("lib/x86_64-linux-gnu/libc.so.6", file("c")),
            ("usr/share/doc/b", Node::Link { target: "a".into() }),
        ]);
        let b = manifest(&[
            ("usr/share/doc/a/copyright", file("1")),
            ("usr/share/doc/b/changes", file("2")),
            (".hatchway-control/postinst", file("x")),
        ]);
        let merged = merge(&[layer("a", &a), layer("b", &b)]).unwrap();
        let paths: Vec<_> = merged.tree.nodes.keys().map(String::as_str).collect();
        assert!(paths.contains(&"usr/lib/x86_64-linux-gnu/libc.so.6"));
        assert!(paths.contains(&"usr/share/doc/a/changes"));
        assert!(!paths.iter().any(|p| p.starts_with(CONTROL)));
        assert_eq!(merged.tree.nodes["lib"], Node::Link { target: "usr/lib".into() });
        assert_eq!(merged.node("/lib/x86_64-linux-gnu/libc.so.6"), Some(&file("c")));
    }

    #[test]
    fn order_of_layers_does_not_matter() {
        let a = manifest(&[("bin/x", file("1")), ("usr/l", Node::Link { target: "share".into() })]);
        let b = manifest(&[("usr/share/y", file("2")), ("usr/l/z", file("3"))]);
        let one = merge(&[layer("a", &a), layer("b", &b)]).unwrap().tree;
        let two = merge(&[layer("b", &b), layer("a", &a)]).unwrap().tree;
        assert_eq!(one.digest(), two.digest());
    }

    #[test]
    fn collisions_are_errors_unless_replaced_or_the_vendors() {
        let a = manifest(&[("etc/x", file("1"))]);
        let b = manifest(&[("etc/x", file("2"))]);
        let clash = merge(&[layer("a", &a), layer("b", &b)]).unwrap_err();
        assert_eq!(clash.to_string(), "`a` and `b` both bring `/etc/x`, with different content");
        let replacing = Layer { replaces: "b (<< 3)", ..layer("a", &a) };
        assert_eq!(merge(&[replacing, layer("b", &b)]).unwrap().tree.nodes["etc/x"], file("1"));
        let vendor = Layer { vendor: true, ..layer("b", &b) };
        let merged = merge(&[vendor, layer("a", &a)]).unwrap();
        assert_eq!(merged.tree.nodes["etc/x"], file("2"));
    }

    #[test]
    fn link_loops_end() {
        let a =
            manifest(&[("a", Node::Link { target: "b".into() }), ("b", Node::Link { target: "a".into() })]);
        let b = manifest(&[("a/x", file("1"))]);
        let error = merge(&[layer("a", &a), layer("b", &b)]).unwrap_err().to_string();
        assert!(error.contains("too many links"), "{error}");
    }
}
