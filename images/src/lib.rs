//! Trees as OCI images, byte for byte the same on every machine.
//!
//! ```text
//! layer    a tree and who brought what to it → a stack of layers, whose union is the tree
//! tar      a layer → the bytes of its archive, and nothing of the machine in them
//! gzip     the one encoder of layers
//! blob     all layers → blobs, on all cores
//! document configuration, manifest and index of an image
//! layout   an image into an OCI layout, in a folder that may hold others
//! archive  an image as one tar archive, for docker and for OCI tools alike
//! engine   an image into a container engine on this machine
//! container a container of that engine for one unit
//! staging  a folder for what is not finished
//! ```
//!
//! Sources: OCI image specification 1.1 ("Image Manifest", "Image Layer Filesystem Changeset", "Image Configuration",
//! "Image Layout", "Annotations"); docker's archive format as `docker load` reads it.
#![forbid(unsafe_code)]

pub mod archive;
pub mod blob;
pub mod container;
pub mod document;
pub mod engine;
pub mod gzip;
pub mod layer;
pub mod layout;
mod staging;
pub mod tar;

mod error;

pub use error::Error;

use hatchway_envs::digest::Sha256;
use hatchway_envs::store::Store;

/// The time of everything in an image, in seconds since the epoch: that of everything in the store.
pub const MTIME_S: u64 = 1;

/// What an image says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// The tool's name.
    pub name: String,
    /// Its version; empty where the recipe has none.
    pub version: String,
    /// What it stands on, as the lock has it: `debian:bookworm`.
    pub base: String,
    /// The architecture as Debian names it, which is also the name that images use: `amd64`.
    pub architecture: String,
    /// What a container starts: the program and its arguments.
    pub entrypoint: Vec<String>,
    /// The environment of what it starts, name and value.
    pub environment: Vec<(String, String)>,
    /// The tree's digest.
    pub tree: Sha256,
    /// The digest over the lock's inputs.
    pub lock: Sha256,
}

impl About {
    /// The tag of the image in an engine: the tree's digest, shortened.
    #[must_use]
    pub fn tag(&self) -> String {
        self.tree.short()
    }

    /// The repository of the image in an engine.
    #[must_use]
    pub fn repository(&self) -> String {
        format!("hatchway/{}", self.name)
    }

    /// The name of the image in an engine.
    #[must_use]
    pub fn tagged(&self) -> String {
        tagged(&self.name, self.tree)
    }
}

/// The name in an engine of the image of a tool's tree.
#[must_use]
pub fn tagged(name: &str, tree: Sha256) -> String {
    format!("hatchway/{name}:{}", tree.short())
}

/// An image that is to be written.
#[derive(Debug, Clone)]
pub struct Image {
    /// Where the contents of files are.
    pub store: Store,
    /// What it says about itself.
    pub about: About,
    /// Its layers, the lowest first.
    pub layers: Vec<layer::Layer>,
}
