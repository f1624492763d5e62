//! Bytes of a vendor file in, facts out.
//!
//! This crate reads what vendors ship (packages, archives, installers, ELF, PE, scripts) and says what is in it. It knows no
//! network, no store and no host, has no opinions, and never runs anything. Whatever it is given is taken to be
//! hostile: every loop is bounded, nothing is allocated by a size a file claims, and no input may make it panic.
#![forbid(unsafe_code)]

pub mod archive;
pub mod control;
pub mod diff;
pub mod elf;
pub mod resolve;

mod appended;
mod collect;
mod error;
mod facts;
mod inf;
mod kernel;
mod needs;
mod package;
mod pe;
mod scripts;
mod system;
mod technology;
mod words;

use std::path::Path;

pub use appended::{carries_archive, walk_carried};
pub use elf::{Candidate, DlopenNote, ElfFacts, ElfKind};
pub use error::Error;
pub use facts::{
    Appended, ArtifactFacts, Contained, Dropped, DroppedWhat, EffectKind, Endpoint, Evidence, Facts,
    FileCounts, Found, HardCodedPath, KernelModuleFacts, LdSoConf, Need, Omission, PackageFacts, PackageKind,
    PeFacts, Program, ProgramKind, SCHEMA, ScriptAction, ScriptEffect, ScriptFacts, SonameLink, SystemFacts,
    SystemdUnit, Technology, TechnologyKind, UdevRule, UdevRules, WindowsDriver,
};
pub use kernel::read as kernel_module;
pub use pe::linkage::{WindowsFunction, WindowsImport, WindowsLinkage, windows_api_sets};
pub use pe::windows::{WindowsNeed, windows_candidates, windows_needs};

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
    inspect_listed(path, limits).map(|(facts, _)| facts)
}

/// Inspects, and also gives the artifact's own files as a [`Root`](resolve::Root) in which libraries can be looked for.
/// The links that `ldconfig` would make are in it.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_listed(path: &Path, limits: &archive::Limits) -> Result<(Facts, resolve::Listing), Error> {
    collect::inspect(path, path, limits).map_err(|error| error.in_archive(path))
}

/// Inspects the file at `path` as if it were called `name`: a copy under a name of our own says the same as the original.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_as(path: &Path, name: &Path, limits: &archive::Limits) -> Result<Facts, Error> {
    let inspected = collect::inspect(path, name, limits);
    inspected.map(|(facts, _)| facts).map_err(|error| error.in_archive(path))
}

/// The scriptlets and triggers of an RPM package, which are no members of its archive.
///
/// # Errors
/// When it cannot be read, or is no RPM package.
pub fn rpm_scriptlets(path: &Path) -> Result<Vec<ScriptFacts>, Error> {
    Ok(archive::rpm::describe(&mut archive::Source::open(path)?)?.scripts)
}

/// Inspects bytes in memory, as if they were a file called `name`.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_bytes(name: &Path, bytes: &[u8], limits: &archive::Limits) -> Result<Facts, Error> {
    let mut source = archive::Source::bytes(name, bytes);
    let format = archive::detect_artifact(&mut source)?;
    let place = collect::Place { path: None, depth: 0 };
    let inspected = collect::inspect_in(&mut source, format, limits, place);
    inspected.map(|(facts, _)| facts).map_err(|error| error.in_archive(name))
}
