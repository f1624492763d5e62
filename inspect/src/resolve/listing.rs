//! A root held in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{Node, Object, Refusal, Root};

/// A [`Root`] held in memory: a list of paths and of the ELF files among them.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    nodes: BTreeMap<String, Node>,
    objects: HashMap<String, Arc<Object>>,
    refused: HashMap<String, Refusal>,
    configured: Vec<String>,
}

impl Listing {
    /// Enters what is at an absolute path, and the directories above it where nothing is known about them.
    pub fn insert(&mut self, path: &str, node: Node) {
        for (end, _) in path.match_indices('/').skip(1) {
            if !self.nodes.contains_key(&path[..end]) {
                self.nodes.insert(path[..end].to_owned(), Node::Directory);
            }
        }
        self.nodes.insert(path.to_owned(), node);
        self.objects.remove(path);
        self.refused.remove(path);
    }

    /// Enters an ELF file.
    pub fn insert_object(&mut self, path: &str, object: Arc<Object>) {
        self.insert(path, Node::File);
        self.objects.insert(path.to_owned(), object);
    }

    /// Enters a file that is no ELF file, and what it is instead.
    pub fn insert_refused(&mut self, path: &str, refusal: Refusal) {
        self.insert(path, Node::File);
        self.refused.insert(path.to_owned(), refusal);
    }

    /// Appends a directory to those of `ld.so.conf`.
    pub fn configure(&mut self, directory: impl Into<String>) {
        let directory = directory.into();
        if !self.configured.contains(&directory) {
            self.configured.push(directory);
        }
    }

    /// Whether anything is at this path; links are not followed.
    #[must_use]
    pub fn contains(&self, path: &str) -> bool {
        self.nodes.contains_key(path)
    }

    /// All entries in order of their paths.
    pub fn nodes(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_str(), node))
    }
}

impl Root for Listing {
    fn node(&self, path: &str) -> Option<Node> {
        self.nodes.get(path).cloned()
    }

    fn object(&self, path: &str) -> Option<Arc<Object>> {
        self.objects.get(path).cloned()
    }

    fn configured(&self) -> &[String] {
        &self.configured
    }

    fn refusal(&self, path: &str) -> Refusal {
        self.refused.get(path).cloned().unwrap_or(Refusal::NotElf)
    }
}
