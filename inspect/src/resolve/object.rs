//! What the loader wants to know about an ELF file, and why it may refuse one.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::elf::{ElfFacts, ElfKind};

/// What the loader wants to know about an ELF file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Object {
    /// 32 or 64.
    pub class: u8,
    /// As in [`ElfFacts`].
    pub machine: String,
    /// `PT_INTERP`.
    pub interpreter: Option<String>,
    /// `DT_SONAME`.
    pub soname: Option<String>,
    /// `DT_NEEDED`, in order.
    pub needed: Vec<String>,
    /// `DT_FILTER` and `DT_AUXILIARY`, in order: libraries asked first for what this one offers.
    pub filters: Vec<Filter>,
    /// `DT_RPATH`; `None` where there is none, which is not the same as an empty one. An empty entry is the working
    /// directory.
    pub rpath: Option<Vec<String>>,
    /// `DT_RUNPATH`, likewise.
    pub runpath: Option<Vec<String>>,
    /// Linked with `-z nodeflib`.
    pub no_default_directories: bool,
    /// Versions wanted (`DT_VERNEED`), in the order of the file.
    pub versions_needed: Vec<VersionsNeeded>,
    /// Versions offered (`DT_VERDEF`), the base version among them; `None` if the file says nothing about versions.
    pub versions_defined: Option<Vec<String>>,
    /// Whether it says of each symbol which version it is (`DT_VERSYM`): linkers write that table for files that want
    /// or offer versions, and only for those.
    pub version_table: bool,
    /// Why glibc's loader refuses the file though it is an ELF file of the right class and machine.
    pub refused: Option<String>,
}

/// An entry of `DT_FILTER` or `DT_AUXILIARY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// The library.
    pub name: String,
    /// `DT_AUXILIARY`: it may be absent.
    pub optional: bool,
}

/// The versions a file wants of one library (`Elf64_Verneed`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionsNeeded {
    /// `vn_file`: the name the library was linked by.
    pub library: String,
    /// `vna_name`, in order.
    pub versions: Vec<VersionNeeded>,
}

/// One version a file wants (`Elf64_Vernaux`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionNeeded {
    /// Its name: `GLIBC_2.34`.
    pub name: String,
    /// `VER_FLG_WEAK`: the loader warns only, if it is absent.
    pub weak: bool,
}

impl From<&ElfFacts> for Object {
    /// Facts leave out which versions are weak, the base version and empty search paths: every version is taken to be
    /// a must, and a file that offers none to have no version information.
    fn from(facts: &ElfFacts) -> Self {
        let path = |entries: &[String]| (!entries.is_empty()).then(|| entries.to_vec());
        let must = |name: &String| VersionNeeded { name: name.clone(), weak: false };
        let loadable = matches!(facts.kind, ElfKind::Executable | ElfKind::Pie | ElfKind::Shared);
        Self {
            class: facts.class,
            machine: facts.machine.clone(),
            interpreter: facts.interpreter.clone(),
            soname: facts.soname.clone(),
            needed: facts.needed.clone(),
            filters: Vec::new(),
            rpath: path(&facts.rpath),
            runpath: path(&facts.runpath),
            no_default_directories: facts.flags.iter().any(|flag| flag == "nodeflib"),
            versions_needed: facts
                .versions_needed
                .iter()
                .map(|(library, versions)| VersionsNeeded {
                    library: library.clone(),
                    versions: versions.iter().map(must).collect(),
                })
                .collect(),
            versions_defined: (!facts.versions_defined.is_empty()).then(|| facts.versions_defined.clone()),
            // Of a file that was not read whole, the doubt is in its favour.
            version_table: facts.partial
                || !facts.versions_needed.is_empty()
                || !facts.versions_defined.is_empty(),
            refused: (!loadable).then(|| ONLY_DYN_AND_EXEC.to_owned()),
        }
    }
}

/// The words of glibc (`elf/dl-load.c`).
pub(super) const ONLY_DYN_AND_EXEC: &str = "only ET_DYN and ET_EXEC can be loaded";

/// What a regular file is that the loader cannot load.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "what", content = "why")]
pub enum Refusal {
    /// A text for the linker (`INPUT(…)`, `GROUP(…)`), which the loader cannot load.
    LinkerScript,
    /// Not an ELF file.
    NotElf,
    /// Shorter than the header of an ELF file.
    TooShort,
    /// A directory, a device or the like.
    NotRegular,
    /// The file cannot be opened.
    Unreadable(String),
    /// A damaged ELF file, or one whose header the loader does not accept.
    Invalid(String),
    /// Of another word size. The loader passes over it.
    WrongClass(String),
    /// For another machine. The loader passes over it.
    WrongMachine(String),
    /// In a directory of `ld.so.conf`, and left out of the cache by `ldconfig`: the reason. The loader does not see it.
    NotIndexed(String),
}

impl Refusal {
    /// Whether the loader goes on to the next directory. At everything else it gives up.
    #[must_use]
    pub fn is_passed_over(&self) -> bool {
        matches!(
            self,
            Self::WrongClass(_) | Self::WrongMachine(_) | Self::Unreadable(_) | Self::NotIndexed(_)
        )
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LinkerScript => f.write_str("is a linker script, which the loader cannot load"),
            Self::NotElf => f.write_str("is no ELF file"),
            Self::TooShort => f.write_str("is too short for an ELF file"),
            Self::NotRegular => f.write_str("is no regular file"),
            Self::Unreadable(why) => write!(f, "cannot be read: {why}"),
            Self::Invalid(why) => write!(f, "is refused: {why}"),
            Self::WrongClass(class) => write!(f, "has the wrong word size: {class}"),
            Self::WrongMachine(machine) => write!(f, "is for another machine: {machine}"),
            Self::NotIndexed(why) => write!(f, "is not in the cache of ldconfig: {why}"),
        }
    }
}
