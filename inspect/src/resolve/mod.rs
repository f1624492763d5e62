//! Finding libraries as glibc's loader does, over any tree that can say what is where.
//!
//! The rules (`ld.so(8)`; `_dl_map_object` in glibc's `elf/dl-load.c`), in order, for a library wanted by an object:
//! 1. an object already loaded under that name satisfies it, the program's loader among them;
//! 2. a name with a slash is a path;
//! 3. unless the object has a `RUNPATH`: its `RPATH`, then the `RPATH` of what loaded it, and so on up to the program,
//!    skipping those that have a `RUNPATH` themselves;
//! 4. `LD_LIBRARY_PATH`, if the [`Search`] gives one;
//! 5. the object's own `RUNPATH`, which its dependencies do not inherit;
//! 6. the directories of `ld.so.conf`, as `ldconfig` would put them into the cache; for an object linked with
//!    `-z nodeflib` not those below a default directory;
//! 7. the default directories, unless the object was linked with `-z nodeflib`.
//!
//! A file of the wrong word size or machine, or one that cannot be opened, is passed over. Anything else that cannot be
//! loaded ends the search, as it ends the program: see [`Refusal`]. In the directories of 3 to 7 `glibc-hwcaps`
//! comes first as far as the [`Search`] says that the processor can use it; then, where the root's glibc is older than
//! 2.37 ([`Root::glibc`]), `tls` and the directories named after the platform. A program whose interpreter is musl's
//! follows musl's rules, see `musl.rs`.

mod conf;
mod directory;
mod layered;
mod listing;
mod load;
mod loader;
mod musl;
mod object;
mod path;
mod reader;
mod render;
mod search;
mod tree;
mod versions;

use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use directory::DirectoryRoot;
pub use layered::Layered;
pub use listing::Listing;
pub(crate) use load::closure_within;
pub use load::{closure, closure_with};
pub use object::{Filter, Object, Refusal, VersionNeeded, VersionsNeeded};
pub use path::{Layout, canonical, default_directories, multiarch};
pub use reader::read as read_object;
pub use render::{COLUMNS, render_tree, render_why};
pub use tree::{Provider, Tree, TreeLine, Wanter, Why, tree, why};

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A directory.
    Directory,
    /// A regular file, or anything else that is neither directory nor link.
    File,
    /// A symbolic link with its target as it stands there.
    Symlink(String),
}

/// A tree of files in which libraries are looked for.
///
/// Paths are absolute in the tree, without `.`, `..`, doubled or trailing slashes; `/` itself need not be known.
pub trait Root {
    /// What is at `path`, whose directories are no links. A link itself is not followed.
    fn node(&self, path: &str) -> Option<Node>;
    /// The ELF file at `path`, which is a regular file; `None` if it is none.
    fn object(&self, path: &str) -> Option<Arc<Object>>;
    /// The directories of `ld.so.conf`, in order.
    fn configured(&self) -> &[String];
    /// What the file at `path` is, if [`object`](Self::object) says that it is no ELF file.
    fn refusal(&self, path: &str) -> Refusal {
        let _ = path;
        Refusal::NotElf
    }
    /// The same text for every name of one file (hard links); the loader goes by device and inode.
    fn identity(&self, path: &str) -> String {
        path.to_owned()
    }
    /// How the root's glibc was configured, judged for one program.
    fn layout(&self, program: &Object) -> Layout {
        let _ = program;
        Layout::Debian
    }
    /// The second number of the glibc whose loader starts a program (36 of 2.36): where the loader is not there or
    /// not glibc's, `None`; where it does not say its version, as before 2.33, 32.
    fn glibc(&self, program: &Object) -> Option<u32> {
        let _ = program;
        None
    }
    /// The text of a small file, whose path may lead through links.
    fn text(&self, path: &str) -> Option<String> {
        let _ = path;
        None
    }
}

/// What a launch adds to what is in the tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Search {
    /// The directories of `LD_LIBRARY_PATH`; an empty one is the working directory.
    pub library_path: Vec<String>,
    /// The libraries of `LD_PRELOAD`.
    pub preload: Vec<String>,
    /// The level of the processor: 2, 3 or 4 for `x86-64-v2` and so on. Below 2, or for other machines, no sub-directory
    /// of `glibc-hwcaps` is searched; what is there is named in [`Loaded::faster`].
    pub level: u8,
    /// Search the sub-directories that glibc looked into before 2.37 (`tls`, and the name of the platform), even where
    /// [`Root::glibc`] does not say that the root has such a glibc.
    pub legacy: bool,
    /// What `$PLATFORM` stands for; by default the name of the machine.
    pub platform: Option<String>,
    /// Where relative paths and empty entries of a search path lead; without it they lead nowhere.
    pub working_directory: Option<String>,
    /// Keep every place that was tried, in [`Edge::tried`].
    pub trace: bool,
}

/// The rule by which a library was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// The name is a path.
    Path,
    /// An entry of an `RPATH`.
    Rpath {
        /// The entry as it stands there.
        entry: String,
        /// The file it stands in, if that is not the one with the wish but one of those that led to it.
        of: Option<String>,
    },
    /// An entry of the `RUNPATH`, as it stands there.
    Runpath(String),
    /// An entry of `LD_LIBRARY_PATH`, as it stands there.
    LibraryPath(String),
    /// A directory of `ld.so.conf`.
    Configured,
    /// A default directory.
    Default,
    /// It is the program's own loader.
    Interpreter,
    /// Another object had it loaded before.
    Loaded,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path => f.write_str("path"),
            Self::Rpath { entry, of: None } => write!(f, "RPATH {entry}"),
            Self::Rpath { entry, of: Some(of) } => write!(f, "RPATH {entry} of {of}"),
            Self::Runpath(entry) => write!(f, "RUNPATH {entry}"),
            Self::LibraryPath(entry) => write!(f, "LD_LIBRARY_PATH {entry}"),
            Self::Configured => f.write_str("ld.so.conf"),
            Self::Default => f.write_str("default directory"),
            Self::Interpreter => f.write_str("the program's loader"),
            Self::Loaded => f.write_str("already loaded"),
        }
    }
}

/// An object of a closure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The path the loader opens: the directory without links, the last component perhaps a link.
    pub path: String,
    /// The regular file behind it.
    pub file: String,
    /// How it was found; [`Rule::Path`] for the program itself.
    pub rule: Rule,
    /// What is in it.
    pub object: Arc<Object>,
    /// The index of the object that caused it to be loaded; `None` for the program itself.
    pub loader: Option<usize>,
    /// Copies for newer processors than the [`Search`] has, the best first.
    pub faster: Vec<String>,
}

/// Where a wish for a library comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wish {
    /// `DT_NEEDED`.
    Needed,
    /// `LD_PRELOAD`; that it is not found is no failure.
    Preload,
    /// `DT_FILTER`.
    Filter,
    /// `DT_AUXILIARY`; that it is not found is no failure.
    Auxiliary,
    /// Only `DT_VERNEED` names it: it must have been loaded for another reason.
    Versions,
}

/// One wish of one object of a closure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// The index of the object that wants it.
    pub wanted_by: usize,
    /// The name it wants, as it stands there.
    pub name: String,
    /// Where the wish stands.
    pub wish: Wish,
    /// The index of the object it gets; `None` if the loader finds none.
    pub found: Option<usize>,
    /// By which rule it gets it; `None` if the loader finds none.
    pub rule: Option<Rule>,
    /// What is wrong with the outcome.
    pub problems: Vec<Problem>,
    /// Files that were there and not taken, in order, at most [`PASSED`].
    pub passed: Vec<Passed>,
    /// Every path that was tried before the search ended, if [`Search::trace`] asks for it; at most [`TRIED`].
    pub tried: Vec<Tried>,
}

/// Files that are listed for one wish although they were not taken.
pub const PASSED: usize = 16;
/// Places that are listed for one wish.
pub const TRIED: usize = 512;

/// A file that was there and not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Passed {
    /// The file.
    pub path: String,
    /// Why.
    pub refusal: Refusal,
}

/// A place that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tried {
    /// The path that was tried, tokens replaced.
    pub path: String,
    /// The rule, as [`Rule`] is displayed.
    pub rule: String,
}

/// What is wrong with the outcome of a wish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", tag = "problem")]
pub enum Problem {
    /// Nothing of that name was found.
    NotFound,
    /// A file was found that the loader cannot load: the search ends there.
    Refused {
        /// The file.
        path: String,
        /// Why.
        refusal: Refusal,
    },
    /// The library that was loaded lacks a version: `version 'X' not found (required by Y)`.
    MissingVersion {
        /// The name the library was linked by.
        library: String,
        /// The version.
        version: String,
        /// The file that lacks it.
        provider: String,
        /// The wish is weak: the loader warns and goes on.
        weak: bool,
    },
    /// The library that was loaded offers no versions: the loader warns and goes on.
    NoVersions {
        /// The name the library was linked by.
        library: String,
        /// The file.
        provider: String,
        /// It has not even a table of versions: the loader ends with a failed assertion at the first symbol it takes
        /// from there (when the program starts, or at the first call).
        asserts: bool,
    },
    /// Versions are wanted of a library that nothing loads: the loader ends with a failed assertion.
    NotLoaded {
        /// The name of the library.
        library: String,
    },
}

impl Problem {
    /// Whether the program does not start because of it. For an optional wish nothing is.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::NotFound | Self::Refused { .. } | Self::NotLoaded { .. } => true,
            Self::MissingVersion { weak, .. } => !weak,
            Self::NoVersions { asserts, .. } => *asserts,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("not found"),
            Self::Refused { path, refusal } => write!(f, "{path} {refusal}"),
            Self::MissingVersion { version, provider, weak, .. } => {
                let weak = if *weak { "weak " } else { "" };
                write!(f, "{weak}version {version} not found in {provider}")
            }
            Self::NoVersions { provider, asserts: false, .. } => {
                write!(f, "no version information in {provider}")
            }
            Self::NoVersions { provider, .. } => {
                write!(f, "no version information at all in {provider}, where versions are wanted")
            }
            Self::NotLoaded { library } => write!(f, "versions are wanted of {library}, which nothing loads"),
        }
    }
}

impl Edge {
    /// The problems because of which the program does not start.
    pub fn failures(&self) -> impl Iterator<Item = &Problem> {
        let optional = matches!(self.wish, Wish::Preload | Wish::Auxiliary) && self.found.is_none();
        self.problems.iter().filter(move |problem| !optional && problem.is_fatal())
    }
}

/// What the loader maps when a program starts, in its order (breadth first), and what it misses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Closure {
    /// The program, then its libraries.
    pub objects: Vec<Loaded>,
    /// Every wish and its outcome.
    pub edges: Vec<Edge>,
}

impl Closure {
    /// The wishes that nothing fulfils, each with the file that has it.
    pub fn missing(&self) -> impl Iterator<Item = (&str, &str)> {
        let unfulfilled = self
            .edges
            .iter()
            .filter(|edge| edge.found.is_none() && matches!(edge.wish, Wish::Needed | Wish::Filter));
        unfulfilled.map(|edge| (edge.name.as_str(), self.file(edge.wanted_by)))
    }

    /// All because of which the program does not start, each with the file that has the wish.
    pub fn failures(&self) -> impl Iterator<Item = (&Problem, &str)> {
        self.edges.iter().flat_map(|edge| edge.failures().map(|problem| (problem, self.file(edge.wanted_by))))
    }

    fn file(&self, index: usize) -> &str {
        self.objects.get(index).map_or("", |loaded| loaded.file.as_str())
    }
}

#[cfg(test)]
mod tests;
