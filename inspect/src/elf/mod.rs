//! What an ELF file says about itself.
//!
//! Only what the loader looks at counts: everything about linking comes from the program headers and the dynamic
//! section, as it does for `ld.so`; section headers, which may be stripped or wrong, are used for constants only.

mod appended;
mod dynamic;
mod image;
mod lazy;
mod linking;
mod notes;
mod origin;
mod strings;
mod tls;
mod versions;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::archive::Limits;
use crate::{Appended, Error};

pub use linking::{Linking, linking};
pub use versions::{compare_versions, version_family};

pub(crate) use dynamic::machine;
pub(crate) use image::Image;
pub(crate) use lazy::Lazy;
pub(crate) use strings::Constant;

/// What an ELF file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ElfKind {
    /// A program at a fixed address.
    Executable,
    /// A position-independent program.
    Pie,
    /// A shared library or plug-in.
    Shared,
    /// An object file or kernel module.
    Relocatable,
    /// A core dump.
    Core,
    /// Anything else.
    Other,
}

/// One ELF file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ElfFacts {
    /// Where it is in the artifact.
    pub path: String,
    /// 32 or 64.
    pub class: u8,
    /// `x86-64`, `i386`, `aarch64`, `arm`, …, or `machine-<number>`.
    pub machine: String,
    /// What it is for.
    pub kind: ElfKind,
    /// The loader it names (`PT_INTERP`).
    pub interpreter: Option<String>,
    /// Its own name (`DT_SONAME`).
    pub soname: Option<String>,
    /// The libraries it is linked with (`DT_NEEDED`), in order.
    pub needed: Vec<String>,
    /// `DT_RPATH`, split at colons. The loader ignores it where there is a `DT_RUNPATH`.
    pub rpath: Vec<String>,
    /// `DT_RUNPATH`, split at colons.
    pub runpath: Vec<String>,
    /// Symbol versions wanted from each library, oldest first.
    pub versions_needed: BTreeMap<String, Vec<String>>,
    /// Symbol versions it offers, oldest first; its base version, which is its own name, left out.
    pub versions_defined: Vec<String>,
    /// Libraries it says it may load at run time (`.note.dlopen`).
    pub dlopen_notes: Vec<DlopenNote>,
    /// Strings among its constants that look like libraries it may load, and that it is not linked with. Sorted.
    pub dlopen_candidates: Vec<Candidate>,
    /// Bytes of thread-local storage each thread gets for it; with the flag `static-tls` they must be free when it is loaded.
    pub tls_bytes: Option<u64>,
    /// How it reaches thread-local variables, its own and those of others, as its relocations show: `descriptor`
    /// (TLSDESC), `general-dynamic`, `initial-exec`, `local-dynamic` (also general-dynamic on a hidden variable, which
    /// looks the same), and `local-exec` for a program with storage of its own and none of these. Sorted.
    pub tls_models: Vec<String>,
    /// The oldest kernel it runs on, as its ABI note says: `3.2.0`.
    pub minimum_kernel: Option<String>,
    /// `glibc`, `musl`, `bionic` or `uclibc`; `None` if it shows none.
    pub libc: Option<String>,
    /// Compilers and languages that left a trace, sorted: `GCC 12.2.0`, `Go 1.21.4`, `Rust 1.75.0`.
    pub made_with: Vec<String>,
    /// What packed it: `UPX`.
    pub packer: Option<String>,
    /// The linker's build id, in hexadecimal.
    pub build_id: Option<String>,
    /// Data behind everything its headers speak of.
    pub appended: Option<Appended>,
    /// The processor level it demands: `x86-64-v3`; `None` if every processor of its machine will do.
    pub isa_level: Option<String>,
    /// A program without interpreter and without needed libraries.
    pub static_linked: bool,
    /// Asks for an executable stack (or does not say that it needs none, which older loaders take for a yes).
    pub executable_stack: bool,
    /// Notable flags of the dynamic section: `initfirst`, `interpose`, `nodeflib`, `nodelete`, `noopen`, `now`, `origin`,
    /// `static-tls`, `symbolic`, `textrel`. Sorted.
    pub flags: Vec<String>,
    /// It was not read whole: it is too large, and constants beyond its first part were not looked at, or it ends before
    /// what the loader would map of it.
    pub partial: bool,
}

impl ElfFacts {
    /// Roughly the memory these facts take, and what is derived from them: a dependency names both its ends.
    pub(crate) fn weight(&self) -> u64 {
        const ITEM: usize = 64;
        let texts = |texts: &[String]| texts.iter().map(|text| text.len() + ITEM).sum::<usize>();
        let versions: usize = self.versions_needed.values().map(|versions| texts(versions) + ITEM).sum();
        let notes: usize = self.dlopen_notes.iter().map(|note| texts(&note.sonames) + 4 * ITEM).sum();
        let lists = [
            &self.needed,
            &self.rpath,
            &self.runpath,
            &self.versions_defined,
            &self.made_with,
            &self.tls_models,
        ];
        let candidates: usize = self.dlopen_candidates.iter().map(|one| one.name.len() + ITEM).sum();
        let lists: usize = candidates + lists.iter().map(|list| texts(list)).sum::<usize>();
        let ends = (self.needed.len() + 1) * (self.path.len() + ITEM);
        (lists * 2 + versions * 2 + notes + ends * 2) as u64
    }
}

/// A constant that looks like a library.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// The constant: `libfoo.so.1`, `./plugins/probe.so`.
    pub name: String,
    /// Where in the file it stands.
    pub offset: u64,
}

/// An entry of `.note.dlopen`, as the ELF packaging metadata of systemd and others define it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DlopenNote {
    /// What the library is for.
    pub feature: Option<String>,
    /// The same in words.
    pub description: Option<String>,
    /// `required`, `recommended` or `suggested`.
    pub priority: Option<String>,
    /// Alternatives, the preferred first.
    pub sonames: Vec<String>,
}

/// Reads the ELF file in `bytes`; `path_name` is what it is called in the facts and in errors.
///
/// # Errors
/// When it is not an ELF file, or when what the loader would read of it lies outside the file.
pub fn read(path_name: &str, bytes: &[u8]) -> Result<ElfFacts, Error> {
    let image = Image::whole(bytes);
    read_image(path_name, &image).map(|reading| reading.facts)
}

/// Reads the ELF file at `path`, and of its bytes only those that facts are taken from: headers, tables of the loader,
/// notes and constants. The facts are those of [`read`].
///
/// # Errors
/// As [`read`], and when the operating system refuses.
pub fn read_file(path: &Path) -> Result<ElfFacts, Error> {
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let metadata = file.metadata().map_err(|e| Error::io(path, e))?;
    if !metadata.is_file() {
        return Err(Error::unsupported(path, "it is no regular file"));
    }
    let lazy = Lazy::new(&file, metadata.len(), Limits::default().object_bytes);
    let reading = read_image(&path.to_string_lossy(), &Image::lazy(&lazy));
    match lazy.take_failure() {
        Some(failure) => Err(Error::io(path, failure)),
        None => reading.map(|reading| reading.facts),
    }
}

/// What was read of an ELF file.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) facts: ElfFacts,
    /// The file ends before what is loaded of it.
    pub(crate) ends_early: bool,
    /// Absolute paths among its constants.
    pub(crate) paths: Vec<Constant>,
    /// URLs, hosts and ports among its constants.
    pub(crate) endpoints: Vec<Constant>,
    /// Words among its constants by which [`technology`](crate::technology) recognises something.
    pub(crate) marks: Vec<Constant>,
}

/// Reads what was kept of an ELF file.
pub(crate) fn read_image(path_name: &str, image: &Image<'_>) -> Result<Reading, Error> {
    dynamic::read(path_name, image).map_err(|what| Error::Elf { member: path_name.to_owned(), what })
}

/// The content of a section by its name, of a file whose section headers can be trusted: an object file.
///
/// Also says for which machine it is.
pub(crate) fn section_of_object<'b>(
    bytes: &'b [u8],
    name: &str,
) -> Result<(String, Option<&'b [u8]>), String> {
    dynamic::section_of_object(bytes, name)
}

/// Which stretches beyond its beginning a large file should be kept of.
pub(crate) fn wanted_stretches(head: &[u8]) -> Vec<(u64, u64)> {
    dynamic::wanted_stretches(head)
}
