//! Several roots, one over the other.

use std::sync::Arc;

use super::path::join;
use super::{Layout, Node, Object, Refusal, Root, canonical};

/// Roots of which the first that has something at a path decides what is there: an artifact over a tree.
///
/// Directories are united; a directory over a link to one stays a directory, and shows what is behind the link. The directories of `ld.so.conf` are those of the first root, then those of the next: as
/// `ldconfig` would order them only where the configuration of the artifact is included first.
#[derive(Clone)]
pub struct Layered<'r> {
    roots: Vec<&'r dyn Root>,
    configured: Vec<String>,
}

impl std::fmt::Debug for Layered<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Layered").field("roots", &self.roots.len()).finish_non_exhaustive()
    }
}

impl<'r> Layered<'r> {
    /// Puts roots over each other, the uppermost first.
    #[must_use]
    pub fn new(roots: Vec<&'r dyn Root>) -> Self {
        let mut configured: Vec<String> = Vec::new();
        for directory in roots.iter().flat_map(|root| root.configured()) {
            if !configured.contains(directory) {
                configured.push(directory.clone());
            }
        }
        Self { roots, configured }
    }

    /// The index of the root that a path comes from, what that root calls it, and what is there.
    ///
    /// A root below may have a link where one above has a directory (`/lib` in a package that does not know of
    /// `/usr/lib`): its own links lead to what it calls the path.
    fn owner(&self, path: &str) -> Option<(usize, String, Node)> {
        self.roots.iter().enumerate().find_map(|(index, root)| {
            if let Some(node) = root.node(path) {
                let directory_link = matches!(node, Node::Symlink(_)) && self.is_directory_above(index, path);
                return (!directory_link).then(|| (index, path.to_owned(), node));
            }
            let (directory, name) = path.rsplit_once('/')?;
            let own = join(&canonical(*root, directory)?, name);
            let node = root.node(&own)?;
            Some((index, own, node))
        })
    }

    fn is_directory_above(&self, index: usize, path: &str) -> bool {
        self.roots.iter().take(index).any(|root| root.node(path) == Some(Node::Directory))
    }

    fn file(&self, path: &str) -> Option<(usize, &'r dyn Root, String)> {
        let (index, own, node) = self.owner(path)?;
        let root = *self.roots.get(index)?;
        (node == Node::File).then_some((index, root, own))
    }
}

impl Root for Layered<'_> {
    fn node(&self, path: &str) -> Option<Node> {
        self.owner(path).map(|(_, _, node)| node)
    }

    fn object(&self, path: &str) -> Option<Arc<Object>> {
        self.file(path).and_then(|(_, root, own)| root.object(&own))
    }

    fn configured(&self) -> &[String] {
        &self.configured
    }

    fn refusal(&self, path: &str) -> Refusal {
        self.file(path).map_or(Refusal::NotRegular, |(_, root, own)| root.refusal(&own))
    }

    fn identity(&self, path: &str) -> String {
        self.file(path)
            .map_or_else(|| path.to_owned(), |(index, root, own)| format!("{index}:{}", root.identity(&own)))
    }

    fn layout(&self, program: &Object) -> Layout {
        self.roots.last().map_or(Layout::Debian, |root| root.layout(program))
    }

    fn glibc(&self, program: &Object) -> Option<u32> {
        self.roots.iter().find_map(|root| root.glibc(program))
    }

    fn text(&self, path: &str) -> Option<String> {
        self.file(path).and_then(|(_, root, own)| root.text(&own))
    }
}
