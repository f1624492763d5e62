//! Debian archives as a source of packages: versions, relations, signed indices, contents.
//!
//! Nothing here knows what a recipe or a tree is.

pub mod archive;
mod cache;
pub mod contents;
pub mod deb822;
pub mod index;
pub mod packages;
pub mod relation;
pub mod release;
pub mod sources;
pub mod version;
