//! Debian archives as a source of packages: versions, relations, signed indices, contents.
//!
//! Nothing here knows what a recipe or a tree is.

pub mod version;
pub mod relation;
pub mod deb822;
pub mod release;
pub mod packages;
pub mod contents;
pub mod sources;
pub mod index;
