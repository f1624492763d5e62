//! What inspection finds: plain data, versioned, in a stable order, with no path of the machine it was made on.
//!
//! Paths in facts begin with `/`, which is the root of the artifact: for a package the root of the file system it is
//! installed into.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod binary;
mod package;
mod system;

use crate::elf::ElfFacts;

pub use binary::{
    Appended, Endpoint, Evidence, HardCodedPath, KernelModuleFacts, PeFacts, Technology, TechnologyKind,
};
pub use package::{PackageFacts, PackageKind};
pub use system::{
    EffectKind, LdSoConf, ScriptAction, ScriptEffect, ScriptFacts, SystemFacts, SystemdUnit, UdevRule,
    UdevRules, WindowsDriver,
};

/// The version of [`Facts`] this crate writes.
pub const SCHEMA: u32 = 3;

/// Everything inspection found in one artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// [`SCHEMA`].
    #[schemars(extend("const" = SCHEMA))]
    pub schema: u32,
    /// The artifact itself.
    pub artifact: ArtifactFacts,
    /// What its package metadata says, if it is a package.
    pub package: Option<PackageFacts>,
    /// How many entries of which kind.
    pub files: FileCounts,
    /// Programs a person could start, sorted by path.
    pub programs: Vec<Program>,
    /// Every ELF file, sorted by path.
    pub elf: Vec<ElfFacts>,
    /// Every shared library something in the artifact is linked with, sorted by name, class and machine.
    pub needs: Vec<Need>,
    /// The links that `ldconfig` would have made at installation, sorted by path.
    pub soname_links: Vec<SonameLink>,
    /// Every kernel module, sorted by path.
    pub kernel_modules: Vec<KernelModuleFacts>,
    /// Maintainer scripts and triggers of a package, sorted by name.
    pub scripts: Vec<ScriptFacts>,
    /// What an unpacker drops, sorted by path.
    pub dropped: Vec<Dropped>,
    /// What the artifact wants from the system it is installed on.
    pub system: SystemFacts,
    /// Every Windows program, library and driver, sorted by path.
    pub pe: Vec<PeFacts>,
    /// Absolute paths found in the constants of ELF files, sorted by path and file.
    pub hard_coded_paths: Vec<HardCodedPath>,
    /// URLs, hosts and ports found in the constants of ELF files, sorted by text and file.
    pub endpoints: Vec<Endpoint>,
    /// Licence managers, toolkits, classes of devices and the like that were recognised, sorted.
    pub technologies: Vec<Technology>,
    /// Archives inside, sorted by path and offset.
    pub contains: Vec<Contained>,
    /// What these facts do not contain: files that were too large or too damaged to read, lists that were cut. Sorted.
    /// Empty means that everything was read.
    pub omitted: Vec<Omission>,
}

impl Facts {
    /// These facts, then those of every archive inside, depth first, each with the path that leads there: `""` for the
    /// artifact itself, `/setup.deb`, `/bundle.zip!/setup.deb`.
    #[must_use]
    pub fn all(&self) -> Vec<(String, &Facts)> {
        let mut all = vec![(String::new(), self)];
        for contained in &self.contains {
            let Some(facts) = &contained.facts else { continue };
            for (inner, facts) in facts.all() {
                let separator = if inner.is_empty() { "" } else { "!" };
                all.push((format!("{}{separator}{inner}", contained.path), facts));
            }
        }
        all
    }

    /// Whether there is anything in them that matters for running software, or that was not read and might.
    #[must_use]
    pub fn is_of_note(&self) -> bool {
        let lists = [
            self.programs.is_empty(),
            self.elf.is_empty(),
            self.pe.is_empty(),
            self.kernel_modules.is_empty(),
            self.scripts.is_empty(),
            self.dropped.is_empty(),
            self.technologies.is_empty(),
            self.contains.iter().all(|contained| contained.facts.is_none() && contained.unopened.is_none()),
            self.omitted.is_empty(),
        ];
        lists.contains(&false) || self.system != SystemFacts::default()
    }
}

/// The artifact as a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArtifactFacts {
    /// Its base name.
    pub file: String,
    /// SHA-256 in lower-case hexadecimal. For a directory: SHA-256 over one line per entry in the order of the walk
    /// (parents first, names by bytes), each line being kind, permission bits, path and, for a file its SHA-256, for
    /// a link its target, separated by NUL.
    pub sha256: String,
    /// Bytes; for a directory the sum over its files.
    pub size: u64,
    /// The format, as [`Format`](crate::archive::Format) displays it: `deb`, `tar.xz`, `wheel`, …
    pub format: String,
}

/// How much of what is in the artifact.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileCounts {
    /// Regular files.
    pub files: u64,
    /// Directories that are named.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Hard links.
    pub hardlinks: u64,
    /// Device nodes, pipes and sockets.
    pub special: u64,
    /// Bytes in all regular files.
    pub bytes: u64,
}

/// A program a person could start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Where it is.
    pub path: String,
    /// What it is.
    pub kind: ProgramKind,
    /// Whether its directory is one of `/bin`, `/sbin`, `/usr/bin`, `/usr/sbin`, `/usr/local/bin`, `/usr/local/sbin`, `/usr/games`.
    pub on_path: bool,
}

/// What kind of program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProgramKind {
    /// An ELF executable, linked dynamically or statically.
    Elf,
    /// A script.
    Script {
        /// The line after `#!`, with its argument.
        interpreter: String,
    },
    /// A Windows program.
    Pe,
}

/// One shared library that is needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Need {
    /// The name as it stands in `DT_NEEDED`.
    pub soname: String,
    /// 32 or 64.
    pub class: u8,
    /// As in [`ElfFacts`].
    pub machine: String,
    /// The symbol versions wanted from it, oldest first.
    pub versions: Vec<String>,
    /// The files that are linked with it, sorted.
    pub wanted_by: Vec<String>,
    /// Where the loader finds it inside the artifact; `None` if it must come from the environment.
    pub found: Option<Found>,
    /// Those of `wanted_by` whose own search does not reach `found`: they work only when something else has loaded
    /// the library before, or with `LD_LIBRARY_PATH`. Empty when nothing is found at all.
    pub missed_by: Vec<String>,
    /// Versions wanted of it that the file found does not define, oldest first: what is linked with it does not start.
    pub missing_versions: Vec<String>,
    /// Files of the artifact that are this library by name, class and machine, but lie where the loader does not look.
    pub elsewhere: Vec<String>,
}

/// Where the loader finds a library.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// The path the loader opens.
    pub path: String,
    /// The rule that leads there: `RUNPATH $ORIGIN/../lib`, `RPATH /opt/acme`, `ld.so.conf`, `default directory`,
    /// `path`, `soname link made by us`.
    pub rule: String,
}

/// A link that an `ldconfig` trigger would have made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SonameLink {
    /// The link: `/usr/local/lib/acme/libgauss.so.2`.
    pub path: String,
    /// Its target, in the same directory: `libgauss.so.2.1.0`.
    pub target: String,
}

/// Something an unpacker drops.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dropped {
    /// Where it is.
    pub path: String,
    /// What is dropped.
    pub what: DroppedWhat,
    /// More about it: the mode (`4755`), the names of the attributes, the device numbers (`1:3`).
    pub detail: String,
}

/// What is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DroppedWhat {
    /// The setuid bit of a file.
    Setuid,
    /// The setgid bit of a file or directory.
    Setgid,
    /// Extended attributes, file capabilities among them.
    Xattrs,
    /// A character device node.
    CharacterDevice,
    /// A block device node.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// The bytes of a name that is not UTF-8. It is read as Windows-1252 and written as UTF-8.
    NameEncoding,
}

/// An archive inside the artifact: a member, or what is appended to a program or a script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Contained {
    /// The file it is, or is appended to.
    pub path: String,
    /// Where in that file it begins; 0 if it is the file.
    pub offset: u64,
    /// Its bytes.
    pub size: u64,
    /// The format, as in [`ArtifactFacts::format`].
    pub format: String,
    /// How many files it has; 0 if it was not opened.
    pub files: u64,
    /// What is in it; `None` if nothing of note is, or if it was not opened.
    pub facts: Option<Box<Facts>>,
    /// Why it was not opened.
    pub unopened: Option<String>,
}

/// Something the facts lack.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Omission {
    /// The file concerned, or the name of the list that was cut.
    pub what: String,
    /// Why.
    pub reason: String,
}
