//! Bytes of a vendor file in, facts out.
//!
//! This crate reads what vendors ship (`.deb`, tar, zip, wheel, ELF, PE, scripts) and says what is in it. It knows no
//! network, no store and no host, has no opinions, and never runs anything. Whatever it is given is taken to be
//! hostile: every loop is bounded, nothing is allocated by a size a file claims, and no input may make it panic.
#![forbid(unsafe_code)]

pub mod archive;
pub mod control;
pub mod elf;
pub mod resolve;

mod collect;
mod error;
mod facts;
mod needs;
mod package;
mod pe;
mod scripts;
mod system;

use std::path::Path;

pub use elf::{DlopenNote, ElfFacts, ElfKind};
pub use error::Error;
pub use facts::{
    ArtifactFacts, Dropped, DroppedWhat, Facts, FileCounts, Found, HardCodedPath, LdSoConf, Need, Omission,
    PackageFacts, PackageKind, PeFacts, Program, ProgramKind, SCHEMA, ScriptFacts, SonameLink, SystemFacts,
};

/// Inspects the file or directory at `path` within the default [`Limits`](archive::Limits).
///
/// # Errors
/// When the artifact cannot be read, is damaged, hostile, beyond the limits, or of a format that cannot be unpacked.
/// A damaged program *inside* an intact artifact is no error but an [`Omission`].
pub fn inspect(path: &Path) -> Result<Facts, Error> {
    inspect_within(path, &archive::Limits::default())
}

/// Inspects within bounds of one's own.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_within(path: &Path, limits: &archive::Limits) -> Result<Facts, Error> {
    collect::inspect(path, limits).map_err(|error| error.in_archive(path))
}
