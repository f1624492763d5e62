//! What graphics this host has: which driver, of which version, and what of it a tool gets to see.
//!
//! Only files that NVIDIA built come from the host. Their libraries talk to the kernel module by a private protocol, so
//! they must be of exactly its version (the module answers others with "API mismatch"). Everything else of the way to
//! the GPU (Mesa, GLVND, the Vulkan and OpenCL loaders) is the environment's own: the host's would want the host's glibc.

mod manifests;
mod nodes;
mod nvidia;
mod root;

pub use manifests::Manifest;
pub use nodes::{Node, nodes};
pub use nvidia::{Library, module_version};
pub use root::Root;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The graphics of a host.
#[derive(Debug, Clone, Default)]
pub struct Graphics {
    /// Version of NVIDIA's kernel module, if it is loaded: `550.54.14`.
    pub module: Option<String>,
    /// Versions of NVIDIA's libraries that are installed.
    pub installed: BTreeSet<String>,
    /// The libraries of the module's version, and those beside them that have a version of their own.
    pub libraries: Vec<Library>,
    /// By which the loaders of the environment find them.
    pub manifests: Vec<Manifest>,
    /// Other files that the libraries open: path on the host, path inside.
    pub data: BTreeMap<PathBuf, String>,
    /// NVIDIA's GBM back end is installed: a link to this soname.
    pub gbm: Option<String>,
    /// What a person should know.
    pub notes: Vec<String>,
}

impl Graphics {
    /// Looks at a host; with libraries for i386 if they are wanted.
    #[must_use]
    pub fn of(root: &Root, i386: bool) -> Self {
        let mut found = Self { module: module_version(root), ..Self::default() };
        nvidia::libraries(root, i386, &mut found);
        if found.module.is_some() && !found.libraries.is_empty() {
            manifests::collect(root, &mut found);
            nvidia::data(root, &mut found);
        }
        found
    }

    /// The module is loaded, and its libraries are there.
    #[must_use]
    pub fn matches(&self) -> bool {
        self.module.is_some() && !self.libraries.is_empty()
    }

    /// All names of the libraries.
    #[must_use]
    pub fn names(&self) -> BTreeSet<&str> {
        self.libraries.iter().flat_map(Library::names).collect()
    }

    /// Versions in words: `535.1, 550.54.14`, or `none`.
    #[must_use]
    pub fn installed(&self) -> String {
        if self.installed.is_empty() {
            return "none".to_owned();
        }
        self.installed.iter().cloned().collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests;
