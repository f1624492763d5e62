//! The layers of an OCI image, one over the other (OCI image specification, "Image Layer Filesystem Changeset").
//!
//! A layer is unpacked by itself, as a package is: [`change`] tells its whiteouts from its files. [`flatten`] then applies
//! the layers' manifests in order. Every path is resolved in the tree that is being put together, never on the host: a link
//! of a lower layer leads an upper one's file to another place of the tree, and nowhere else.

use std::collections::BTreeSet;
use std::path::Path;

use hatchway_inspect::archive::{Compression, Format, Limits, Source, detect_in};

use super::unpack::CONTROL;
use crate::error::Error;
use crate::store::Workspace;
use crate::store::manifest::{Manifest, Node};

/// The member of a layer's control folder with what it does to the layers below it.
pub(super) const CHANGES: &str = "changes";
/// What the name of a whiteout begins with.
const WHITEOUT: &str = ".wh.";
/// The whiteout of all that the layers below have in its folder.
const OPAQUE: &str = ".wh..wh..opq";
/// What the names of AUFS's own files begin with, which old layers hold.
const AUFS: &str = ".wh..wh.";
/// Entries of a whole image: many times those of the largest real ones.
const NODES_MAX: usize = 2_000_000;
/// Memory for the paths of a whole image. A few layers with links could ask for any amount.
const PATH_MEMORY_MAX: usize = 512 << 20;
/// Lines about what an image loses that a person reads.
const NOTES_MAX: usize = 60;
/// What a launch writes itself: another machine's would only be in the way.
const MACHINES: [&str; 4] = ["etc/hostname", "etc/hosts", "etc/machine-id", "etc/resolv.conf"];
/// Files whose whole content is secret; everything in a store can be read by everybody.
const SECRETS: [&str; 4] = ["etc/shadow", "etc/shadow-", "etc/gshadow", "etc/gshadow-"];

/// What a layer does to those below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change<'a> {
    /// A path is gone.
    Remove(&'a str),
    /// All that lower layers have in a folder is gone.
    Empty(&'a str),
    /// `path` is another name of `target`, a file of a lower layer.
    Link { path: &'a str, target: &'a str },
}

impl<'a> Change<'a> {
    /// Names in archives have no control characters.
    pub(super) fn line(&self) -> String {
        match self {
            Self::Remove(path) => format!("remove\t{path}\n"),
            Self::Empty(path) => format!("empty\t{path}\n"),
            Self::Link { path, target } => format!("link\t{path}\t{target}\n"),
        }
    }

    fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.split('\t');
        match (words.next()?, words.next()?, words.next()) {
            ("remove", path, None) => Some(Self::Remove(path)),
            ("empty", path, None) => Some(Self::Empty(path)),
            ("link", path, Some(target)) => Some(Self::Link { path, target }),
            _ => None,
        }
    }
}

/// Bounds on a layer.
pub(super) fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.links_outside = true;
    limits
}

/// A layer as what it is: a tar archive, however packed. An empty one holds nothing by which it could be recognised.
pub(super) fn open(blob: &Path) -> Result<(Source<'static>, Format), Error> {
    let mut source = Source::open(blob)?;
    let compression = match detect_in(&mut source)? {
        Format::Tar(compression) | Format::Compressed(compression) => compression,
        _ => Compression::None,
    };
    Ok((source, Format::Tar(compression)))
}

/// What a layer's member says about the layers below it: `None` for a file of its own, `Some(None)` for nothing at all.
pub(super) fn change(path: &str) -> Result<Option<Option<Change<'_>>>, String> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    if name == OPAQUE {
        return Ok(Some(Some(Change::Empty(folder))));
    }
    if name.starts_with(AUFS) || folder.split('/').any(|part| part.starts_with(AUFS)) {
        return Ok(Some(None));
    }
    let Some(hidden) = name.strip_prefix(WHITEOUT) else { return Ok(None) };
    if matches!(hidden, "" | "." | "..") {
        return Err(format!("the whiteout `{path}` names nothing"));
    }
    // The name with its folder: what follows the marker in one piece is not in the text, so it is found again when read.
    Ok(Some(Some(Change::Remove(path))))
}

/// Whether a path must not come into a store.
pub(super) fn is_secret(path: &str) -> bool {
    SECRETS.contains(&path)
}

/// One tree of all layers, and what is worth telling.
///
/// # Errors
/// A link that leads nowhere, a hard link to no file, more than an image may hold.
pub(crate) fn flatten(
    workspace: &Workspace<'_>,
    layers: &[Manifest],
) -> Result<(Manifest, Vec<String>), Error> {
    let text = |layer: &Manifest, name: &str| -> Result<String, Error> {
        match layer.nodes.get(&format!("{CONTROL}/{name}")) {
            Some(Node::File { sha256, executable, .. }) => {
                Ok(String::from_utf8_lossy(&workspace.read(*sha256, *executable)?).into_owned())
            }
            _ => Ok(String::new()),
        }
    };
    let mut image = Image::default();
    let mut dropped = BTreeSet::new();
    for (number, layer) in layers.iter().enumerate() {
        let bad = |reason| Error::BadLayout { package: format!("layer {} of the image", number + 1), reason };
        image.apply(layer, &text(layer, CHANGES)?).map_err(bad)?;
        dropped.extend(text(layer, "dropped")?.lines().map(|line| format!("the image: dropped {line}")));
    }
    for path in MACHINES {
        image.tree.remove(path);
    }
    let mut notes: Vec<String> = dropped.into_iter().collect();
    let more = notes.len().saturating_sub(NOTES_MAX);
    notes.truncate(NOTES_MAX);
    if more > 0 {
        notes.push(format!("the image: {more} more of that kind"));
    }
    Ok((image.tree, notes))
}

#[derive(Default)]
struct Image {
    tree: Manifest,
    /// Bytes of all paths that were ever put in.
    path_memory: usize,
}

impl Image {
    fn apply(&mut self, layer: &Manifest, changes: &str) -> Result<(), String> {
        let changes: Vec<Change<'_>> = changes.lines().filter_map(Change::parse).collect();
        // Whiteouts concern the layers below only, wherever in the layer they stand.
        for change in &changes {
            self.remove(*change)?;
        }
        let own =
            |path: &str| path == CONTROL || path.strip_prefix(CONTROL).is_some_and(|r| r.starts_with('/'));
        for (path, node) in layer.nodes.iter().filter(|(path, _)| !own(path)) {
            self.put(path, node)?;
        }
        for change in &changes {
            self.link(*change)?;
        }
        Ok(())
    }

    fn remove(&mut self, change: Change<'_>) -> Result<(), String> {
        match change {
            Change::Remove(path) => {
                let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
                let name = name.strip_prefix(WHITEOUT).unwrap_or(name);
                let folder = self.tree.resolve(folder)?;
                let separator = if folder.is_empty() { "" } else { "/" };
                self.tree.remove(&format!("{folder}{separator}{name}"));
            }
            Change::Empty("") => self.tree.nodes.clear(),
            Change::Empty(folder) => {
                let folder = self.tree.resolve(folder)?;
                for path in self.tree.below(&folder) {
                    self.tree.nodes.remove(&path);
                }
            }
            Change::Link { .. } => {}
        }
        Ok(())
    }

    fn link(&mut self, change: Change<'_>) -> Result<(), String> {
        let Change::Link { path, target } = change else { return Ok(()) };
        let place = self.tree.resolve_parent(target)?;
        match self.tree.nodes.get(&place).cloned() {
            Some(node @ (Node::File { .. } | Node::Link { .. })) => self.put(path, &node),
            _ => Err(format!("the hard link `{path}` names `{target}`, which is no file of a lower layer")),
        }
    }

    /// As `tar` unpacks over what is there. A folder over a link that leads to a folder leaves the link.
    fn put(&mut self, path: &str, node: &Node) -> Result<(), String> {
        let place = self.tree.resolve_parent(path)?;
        match (self.tree.nodes.get(&place), node) {
            (Some(Node::Directory), Node::Directory) => return Ok(()),
            (Some(Node::Link { .. }), Node::Directory) if self.leads_to_folder(&place) => return Ok(()),
            (Some(Node::Directory), _) => self.tree.remove(&place),
            _ => {}
        }
        let missing = place.match_indices('/').map(|(slash, _)| slash);
        let missing = missing.filter(|&slash| !self.tree.nodes.contains_key(&place[..slash]));
        self.path_memory += missing.sum::<usize>() + place.len();
        self.tree.insert(&place, node.clone());
        if self.path_memory > PATH_MEMORY_MAX || self.tree.nodes.len() > NODES_MAX {
            return Err(format!(
                "it has more than {NODES_MAX} entries, or more than {PATH_MEMORY_MAX} bytes of names"
            ));
        }
        Ok(())
    }

    fn leads_to_folder(&self, place: &str) -> bool {
        let resolved = self.tree.resolve(place);
        resolved.is_ok_and(|at| at.is_empty() || self.tree.nodes.get(&at) == Some(&Node::Directory))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Sha256;

    fn file(content: &str) -> Node {
        Node::File { sha256: Sha256::of(content.as_bytes()), size: content.len() as u64, executable: false }
    }

    fn link(target: &str) -> Node {
        Node::Link { target: target.into() }
    }

    fn layer(nodes: &[(&str, Node)]) -> Manifest {
        let mut manifest = Manifest::default();
        nodes.iter().for_each(|(path, node)| manifest.insert(path, node.clone()));
        manifest
    }

    fn image(layers: &[(Manifest, &str)]) -> Result<Vec<String>, String> {
        let mut image = Image::default();
        for (layer, changes) in layers {
            image.apply(layer, changes)?;
        }
        image.tree.check()?;
        Ok(image.tree.nodes.into_keys().collect())
    }

    #[test]
    fn names_of_members_say_what_they_change() {
        assert_eq!(change("etc/passwd"), Ok(None));
        assert_eq!(change("etc/.wh.passwd"), Ok(Some(Some(Change::Remove("etc/.wh.passwd")))));
        assert_eq!(change("etc/.wh..wh..opq"), Ok(Some(Some(Change::Empty("etc")))));
        assert_eq!(change(".wh..wh..opq"), Ok(Some(Some(Change::Empty("")))));
        assert_eq!(change(".wh..wh.plnk/1.2"), Ok(Some(None)));
        // What is left of these would be a folder itself, or the one above it.
        for name in ["etc/.wh.", "etc/.wh..", "etc/.wh..."] {
            assert!(change(name).is_err(), "{name}");
        }
    }

    #[test]
    fn upper_layers_remove_and_replace() {
        let below = layer(&[("a/x", file("1")), ("a/y", file("2")), ("b", file("3")), ("c/d", file("4"))]);
        let above = layer(&[("a/z", file("5")), ("c", file("6"))]);
        let all = image(&[(below.clone(), ""), (above, "remove\ta/.wh.x\nremove\t.wh.b\n")]).unwrap();
        assert_eq!(all, ["a", "a/y", "a/z", "c"]);
        // An opaque folder keeps what its own layer brings.
        let opaque = layer(&[("a/z", file("5"))]);
        assert_eq!(image(&[(below, ""), (opaque, "empty\ta\n")]).unwrap(), ["a", "a/z", "b", "c", "c/d"]);
    }

    #[test]
    fn links_of_lower_layers_lead_about_in_the_tree_only() {
        let below = layer(&[
            ("lib", link("usr/lib")),
            ("usr/lib/x", file("1")),
            ("out", link("/../../etc")),
            ("etc", Node::Directory),
        ]);
        let above = layer(&[("lib/y", file("2")), ("out/passwd", file("3"))]);
        let all = image(&[(below.clone(), ""), (above, "")]).unwrap();
        assert_eq!(all, ["etc", "etc/passwd", "lib", "out", "usr", "usr/lib", "usr/lib/x", "usr/lib/y"]);
        let all = image(&[(below, ""), (Manifest::default(), "remove\tlib/.wh.x\nempty\tout\n")]).unwrap();
        assert_eq!(all, ["etc", "lib", "out", "usr", "usr/lib"]);
    }

    #[test]
    fn a_folder_replaces_a_link_that_leads_to_none() {
        let below = layer(&[("a", link("nowhere")), ("b", link("f")), ("f", file("1"))]);
        let above = layer(&[("a/x", file("2")), ("b", Node::Directory)]);
        assert_eq!(image(&[(below, ""), (above, "")]).unwrap(), ["a", "a/x", "b", "f"]);
    }

    #[test]
    fn hard_links_reach_into_lower_layers() {
        let below = layer(&[("a", file("1")), ("l", link("a")), ("d", Node::Directory)]);
        let own = (Manifest::default(), "link\td/b\ta\n");
        assert_eq!(image(&[(below.clone(), ""), own]).unwrap(), ["a", "d", "d/b", "l"]);
        for hostile in ["link\tb\tnowhere\n", "link\tb\td\n", "link\tb\t../../etc/passwd\n"] {
            assert!(image(&[(below.clone(), ""), (Manifest::default(), hostile)]).is_err(), "{hostile}");
        }
    }

    #[test]
    fn links_cannot_make_paths_without_end() {
        let deep = "d/".repeat(2000);
        let mut nodes = vec![("l0".to_owned(), link(&deep))];
        nodes.extend((1..10).map(|n| (format!("l{n}"), link(&format!("l{}/{deep}", n - 1)))));
        let nodes: Vec<(&str, Node)> =
            nodes.iter().map(|(path, node)| (path.as_str(), node.clone())).collect();
        assert!(image(&[(layer(&nodes), ""), (Manifest::default(), "remove\tl9/.wh.x\n")]).is_err());
        // A folder of the upper layer's own takes the place of such a link.
        assert!(image(&[(layer(&nodes), ""), (layer(&[("l9/x", file("1"))]), "")]).is_ok());
    }
}
