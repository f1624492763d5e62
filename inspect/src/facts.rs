//! What inspection finds: plain data, versioned, in a stable order, with no path of the machine it was made on.
//!
//! Paths in facts begin with `/`, which is the root of the artifact: for a package the root of the file system it is
//! installed into.

use serde::{Deserialize, Serialize};

use crate::elf::ElfFacts;

/// The version of [`Facts`] this crate writes.
pub const SCHEMA: u32 = 1;

/// Everything inspection found in one artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// [`SCHEMA`].
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
    /// What these facts do not contain: files that were too large or too damaged to read, lists that were cut. Sorted.
    /// Empty means that everything was read.
    pub omitted: Vec<Omission>,
}

/// The artifact as a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

/// Which packaging system wrote [`PackageFacts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PackageKind {
    /// A Debian package.
    Deb,
    /// A Python wheel.
    Wheel,
}

/// A package's metadata. Fields of relations are the raw text of the control file, on one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageFacts {
    /// Which kind of package.
    pub kind: PackageKind,
    /// `Package` or `Name`.
    pub name: String,
    /// `Version`.
    pub version: String,
    /// `Architecture`; of a wheel, none.
    pub architecture: Option<String>,
    /// `Section`.
    pub section: Option<String>,
    /// `Vendor`.
    pub vendor: Option<String>,
    /// `Maintainer`; of a wheel the author.
    pub maintainer: Option<String>,
    /// `Homepage` or `Home-page`.
    pub homepage: Option<String>,
    /// `License` or `License-Expression`.
    pub license: Option<String>,
    /// The first line of `Description`, or `Summary`.
    pub description: Option<String>,
    /// `Depends`.
    pub depends: Option<String>,
    /// `Pre-Depends`.
    pub pre_depends: Option<String>,
    /// `Recommends`.
    pub recommends: Option<String>,
    /// `Provides`.
    pub provides: Option<String>,
    /// `Conflicts`.
    pub conflicts: Option<String>,
    /// `Breaks`.
    pub breaks: Option<String>,
    /// `Replaces`.
    pub replaces: Option<String>,
    /// A wheel's `Requires-Dist`, in order.
    pub requires_dist: Vec<String>,
    /// A wheel's `Requires-Python`.
    pub requires_python: Option<String>,
    /// A wheel's compatibility tags, as its `WHEEL` file lists them, sorted.
    pub tags: Vec<String>,
}

/// How much of what is in the artifact.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Files of the artifact that are this library by name, class and machine, but lie where the loader does not look.
    pub elsewhere: Vec<String>,
}

/// Where the loader finds a library.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// The path the loader opens.
    pub path: String,
    /// The rule that leads there: `RUNPATH $ORIGIN/../lib`, `RPATH /opt/acme`, `ld.so.conf`, `default directory`,
    /// `path`, `soname link made by us`.
    pub rule: String,
}

/// A link that an `ldconfig` trigger would have made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SonameLink {
    /// The link: `/usr/local/lib/acme/libgauss.so.2`.
    pub path: String,
    /// Its target, in the same directory: `libgauss.so.2.1.0`.
    pub target: String,
}

/// A maintainer script, or a package's `triggers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptFacts {
    /// `preinst`, `postinst`, `prerm`, `postrm`, `config` or `triggers`.
    pub name: String,
    /// The line after `#!`; `None` for `triggers` and for programs.
    pub interpreter: Option<String>,
    /// SHA-256 of the whole script.
    pub sha256: String,
    /// Lines.
    pub lines: usize,
    /// Commands of note it calls, as far as reading (not running) it tells, sorted.
    pub calls: Vec<String>,
    /// The script, cut after 64 KiB; empty if it is a program.
    pub text: String,
}

/// Something an unpacker drops.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
}

/// What an artifact wants from the system around it. Every list is sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SystemFacts {
    /// systemd units and drop-ins.
    pub systemd_units: Vec<String>,
    /// Scripts in `/etc/init.d`.
    pub init_scripts: Vec<String>,
    /// udev rules.
    pub udev_rules: Vec<String>,
    /// `/etc/ld.so.conf.d` files.
    pub ld_so_conf: Vec<LdSoConf>,
    /// Kernel modules, compressed or not.
    pub kernel_modules: Vec<String>,
    /// `dkms.conf` files: kernel modules that are built on the machine.
    pub dkms: Vec<String>,
    /// The package's configuration files, as it declares them.
    pub conffiles: Vec<String>,
    /// cron tables and scripts.
    pub cron: Vec<String>,
    /// D-Bus services and policies.
    pub dbus_services: Vec<String>,
    /// Windows driver descriptions (`.inf`).
    pub windows_drivers: Vec<String>,
}

/// One file below `/etc/ld.so.conf.d`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LdSoConf {
    /// The file.
    pub path: String,
    /// The directories it names, in order.
    pub directories: Vec<String>,
}

/// A Windows program, library or driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeFacts {
    /// Where it is.
    pub path: String,
    /// `x86-64`, `i386`, `aarch64`, or the number.
    pub machine: String,
    /// 32 or 64.
    pub bits: u8,
    /// `native`, `gui`, `console`, `efi-application`, …, or the number.
    pub subsystem: String,
    /// Whether it is a kernel driver: the native subsystem, or it imports the kernel or the hardware abstraction layer.
    pub driver: bool,
    /// Whether it is a library.
    pub library: bool,
    /// Whether it holds managed (.NET) code.
    pub dotnet: bool,
    /// The libraries it is linked with, in lower case, sorted.
    pub imports: Vec<String>,
}

/// An absolute path among the constants of a program.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HardCodedPath {
    /// The path as it stands there; may hold a format such as `%d`.
    pub path: String,
    /// The ELF file it was found in.
    pub file: String,
    /// Where in that file.
    pub offset: u64,
}

/// Something the facts lack.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Omission {
    /// The file concerned, or the name of the list that was cut.
    pub what: String,
    /// Why.
    pub reason: String,
}
