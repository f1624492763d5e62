//! Finding libraries as glibc's loader does, over any tree that can say what is where.
//!
//! The rules (see `ld.so(8)`), in order, for a library wanted by an object:
//! 1. a name with a slash is a path;
//! 2. an object already loaded under that name satisfies it;
//! 3. unless the object has a `RUNPATH`: its `RPATH`, then the `RPATH` of what loaded it, and so on up to the program,
//!    skipping those that have a `RUNPATH` themselves;
//! 4. the object's own `RUNPATH`, which its dependencies do not inherit;
//! 5. the directories of `ld.so.conf`;
//! 6. the default directories, unless the object was linked with `-z nodeflib`.
//!
//! A file of the wrong word size or machine is passed over. `LD_LIBRARY_PATH` is not looked at, it belongs to a launch
//! and not to a tree; nor are the `glibc-hwcaps` sub-directories, which hold faster copies of what is found without them.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use crate::elf::ElfFacts;

/// Symbolic links followed for one path; the kernel gives up after as many.
const LINKS: usize = 40;
/// Objects one program may load.
const OBJECTS: usize = 4096;
/// Files looked for to resolve one program: thousands of libraries in dozens of directories each.
const LOOKUPS: u64 = 2_000_000;
/// Dependencies between the objects of one program.
const EDGES: usize = 100_000;
/// Bytes of a path; the kernel refuses longer ones.
const PATH_BYTES: usize = 4096;

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link with its target as it stands there.
    Symlink(String),
}

/// What the loader wants to know about an ELF file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// 32 or 64.
    pub class: u8,
    /// As in [`ElfFacts`].
    pub machine: String,
    /// `DT_SONAME`.
    pub soname: Option<String>,
    /// `DT_NEEDED`, in order.
    pub needed: Vec<String>,
    /// `DT_RPATH`.
    pub rpath: Vec<String>,
    /// `DT_RUNPATH`.
    pub runpath: Vec<String>,
    /// Linked with `-z nodeflib`.
    pub no_default_directories: bool,
}

impl From<&ElfFacts> for Object {
    fn from(facts: &ElfFacts) -> Self {
        Self {
            class: facts.class,
            machine: facts.machine.clone(),
            soname: facts.soname.clone(),
            needed: facts.needed.clone(),
            rpath: facts.rpath.clone(),
            runpath: facts.runpath.clone(),
            no_default_directories: facts.flags.iter().any(|flag| flag == "nodeflib"),
        }
    }
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
}

/// The rule by which a library was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// The name is a path.
    Path,
    /// An entry of an `RPATH`, as it stands there.
    Rpath(String),
    /// An entry of the `RUNPATH`, as it stands there.
    Runpath(String),
    /// A directory of `ld.so.conf`.
    Configured,
    /// A default directory.
    Default,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path => f.write_str("path"),
            Self::Rpath(entry) => write!(f, "RPATH {entry}"),
            Self::Runpath(entry) => write!(f, "RUNPATH {entry}"),
            Self::Configured => f.write_str("ld.so.conf"),
            Self::Default => f.write_str("default directory"),
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
}

/// One `DT_NEEDED` of one object of a closure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// The index of the object that wants it.
    pub wanted_by: usize,
    /// The name it wants.
    pub name: String,
    /// The index of the object it gets; `None` if the loader finds none.
    pub found: Option<usize>,
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
        let unfulfilled = self.edges.iter().filter(|edge| edge.found.is_none());
        unfulfilled.map(|edge| (edge.name.as_str(), self.objects[edge.wanted_by].file.as_str()))
    }
}

/// Follows every link in `path` inside the root, as the kernel would after `chroot`; `None` if nothing is there.
#[must_use]
pub fn canonical(root: &dyn Root, path: &str) -> Option<String> {
    let mut pending: Vec<String> = components_reversed(path);
    let mut resolved = String::new();
    let mut links = 0;
    while let Some(component) = pending.pop() {
        if component == ".." {
            let parent = resolved.rfind('/').unwrap_or(0);
            resolved.truncate(parent);
            continue;
        }
        let length = resolved.len();
        resolved.push('/');
        resolved.push_str(&component);
        if resolved.len() > PATH_BYTES {
            return None;
        }
        match root.node(&resolved)? {
            Node::Symlink(target) => {
                links += 1;
                if links > LINKS {
                    return None;
                }
                resolved.truncate(if target.starts_with('/') { 0 } else { length });
                pending.extend(components_reversed(&target));
            }
            Node::File if !pending.is_empty() => return None,
            Node::File | Node::Directory => {}
        }
    }
    if resolved.is_empty() {
        resolved.push('/');
    }
    Some(resolved)
}

fn components_reversed(path: &str) -> Vec<String> {
    path.split('/').rev().filter(|component| !matches!(*component, "" | ".")).map(str::to_owned).collect()
}

/// The directories a Debian glibc searches by itself, in its order.
#[must_use]
pub fn default_directories(class: u8, machine: &str) -> Vec<String> {
    let mut directories = Vec::new();
    if let Some(triplet) = multiarch(class, machine) {
        directories.push(format!("/lib/{triplet}"));
        directories.push(format!("/usr/lib/{triplet}"));
    }
    directories.extend(["/lib".to_owned(), "/usr/lib".to_owned()]);
    directories
}

/// Debian's name for an architecture's libraries.
#[must_use]
pub fn multiarch(class: u8, machine: &str) -> Option<&'static str> {
    Some(match (class, machine) {
        (64, "x86-64") => "x86_64-linux-gnu",
        (32, "x86-64") => "x86_64-linux-gnux32",
        (32, "i386") => "i386-linux-gnu",
        (64, "aarch64") => "aarch64-linux-gnu",
        (32, "arm") => "arm-linux-gnueabihf",
        (64, "riscv") => "riscv64-linux-gnu",
        (64, "ppc64") => "powerpc64le-linux-gnu",
        (64, "s390") => "s390x-linux-gnu",
        _ => return None,
    })
}

/// Loads `program` and all it is linked with; `None` if it is no ELF file of the root.
///
/// The search is bounded: beyond four thousand objects or two million lookups, which no program needs, what is left
/// counts as not found; dependencies beyond a hundred thousand are left out.
#[must_use]
pub fn closure(root: &dyn Root, program: &str) -> Option<Closure> {
    let mut lookups = LOOKUPS;
    closure_within(root, program, &mut lookups)
}

/// The same, with a number of lookups that several programs share.
pub(crate) fn closure_within(root: &dyn Root, program: &str, lookups: &mut u64) -> Option<Closure> {
    let file = canonical(root, program)?;
    let object = root.object(&file)?;
    let mut closure = Closure::default();
    // By name asked for and by soname: what is loaded once satisfies every later wish of that name.
    let mut by_name: HashMap<String, usize> = HashMap::new();
    by_name.extend(object.soname.clone().map(|soname| (soname, 0)));
    // The kernel resolves the program's own path before the loader sees it.
    closure.objects.push(Loaded { path: file.clone(), file, rule: Rule::Path, object, loader: None });
    let mut current = 0;
    while current < closure.objects.len() {
        let object = Arc::clone(&closure.objects[current].object);
        for name in object.needed.iter().take(EDGES.saturating_sub(closure.edges.len())) {
            let found = by_name.get(name).copied().or_else(|| {
                let search = Search { root, objects: &closure.objects, wanted_by: current, name, lookups };
                let loaded = search.run()?;
                enter(&mut closure, loaded)
            });
            if let Some(index) = found {
                by_name.insert(name.clone(), index);
                if let Some(soname) = &closure.objects[index].object.soname {
                    by_name.entry(soname.clone()).or_insert(index);
                }
            }
            closure.edges.push(Edge { wanted_by: current, name: name.clone(), found });
        }
        current += 1;
    }
    Some(closure)
}

/// Enters one library; the same file under another name is not entered twice.
fn enter(closure: &mut Closure, loaded: Loaded) -> Option<usize> {
    if let Some(index) = closure.objects.iter().position(|earlier| earlier.file == loaded.file) {
        return Some(index);
    }
    if closure.objects.len() >= OBJECTS {
        return None;
    }
    closure.objects.push(loaded);
    Some(closure.objects.len() - 1)
}

/// The loader's search for one name.
struct Search<'s> {
    root: &'s dyn Root,
    objects: &'s [Loaded],
    wanted_by: usize,
    name: &'s str,
    lookups: &'s mut u64,
}

impl Search<'_> {
    fn run(mut self) -> Option<Loaded> {
        let wanter = &self.objects[self.wanted_by];
        if self.name.contains('/') {
            let path = expand(self.name, wanter)?;
            return self.open(&path, Rule::Path);
        }
        if wanter.object.runpath.is_empty()
            && let Some(loaded) = self.by_rpath()
        {
            return Some(loaded);
        }
        for entry in &wanter.object.runpath {
            if let Some(loaded) = self.in_entry(entry, wanter, Rule::Runpath) {
                return Some(loaded);
            }
        }
        let root = self.root;
        for directory in root.configured() {
            if let Some(loaded) = self.in_directory(directory, Rule::Configured) {
                return Some(loaded);
            }
        }
        if wanter.object.no_default_directories {
            return None;
        }
        let defaults = default_directories(wanter.object.class, &wanter.object.machine);
        defaults.iter().find_map(|directory| self.in_directory(directory, Rule::Default))
    }

    /// The `RPATH`s of the object and of all that led to it.
    fn by_rpath(&mut self) -> Option<Loaded> {
        let mut at = Some(self.wanted_by);
        while let Some(ancestor) = at.map(|index| &self.objects[index]) {
            let entries =
                if ancestor.object.runpath.is_empty() { ancestor.object.rpath.as_slice() } else { &[] };
            for entry in entries {
                if let Some(loaded) = self.in_entry(entry, ancestor, Rule::Rpath) {
                    return Some(loaded);
                }
            }
            at = ancestor.loader;
        }
        None
    }

    fn in_entry(&mut self, entry: &str, owner: &Loaded, rule: fn(String) -> Rule) -> Option<Loaded> {
        let directory = expand(entry, owner)?;
        self.in_directory(&directory, rule(entry.to_owned()))
    }

    fn in_directory(&mut self, directory: &str, rule: Rule) -> Option<Loaded> {
        self.open(&format!("{directory}/{}", self.name), rule)
    }

    /// Opens a path if a suitable ELF file is behind it.
    fn open(&mut self, path: &str, rule: Rule) -> Option<Loaded> {
        *self.lookups = self.lookups.checked_sub(1)?;
        let (directory, name) = path.rsplit_once('/')?;
        let directory = canonical(self.root, directory)?;
        let path = format!("{}/{name}", directory.trim_end_matches('/'));
        let file = canonical(self.root, &path)?;
        let object = self.root.object(&file)?;
        let like = &self.objects[self.wanted_by].object;
        let fits = object.class == like.class && object.machine == like.machine;
        fits.then_some(Loaded { path, file, rule, object, loader: Some(self.wanted_by) })
    }
}

/// Replaces `$ORIGIN`, `$LIB` and `$PLATFORM`. A path relative to the working directory leads nowhere in a tree.
fn expand(entry: &str, owner: &Loaded) -> Option<String> {
    let mut path = entry.to_owned();
    if entry.contains('$') {
        let origin = owner.path.rsplit_once('/').map_or("", |(directory, _)| directory);
        let triplet = multiarch(owner.object.class, &owner.object.machine);
        let lib = triplet.map_or_else(|| "lib".to_owned(), |triplet| format!("lib/{triplet}"));
        let platform = match owner.object.machine.as_str() {
            "x86-64" => "x86_64",
            "i386" => "i686",
            other => other,
        };
        for (token, value) in [("ORIGIN", origin), ("LIB", lib.as_str()), ("PLATFORM", platform)] {
            path = path.replace(&format!("${{{token}}}"), value).replace(&format!("${token}"), value);
            if path.len() > PATH_BYTES {
                return None;
            }
        }
    }
    path.starts_with('/').then_some(path)
}

/// A [`Root`] held in memory: a list of paths and of the ELF files among them.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    nodes: BTreeMap<String, Node>,
    objects: HashMap<String, Arc<Object>>,
    configured: Vec<String>,
}

impl Listing {
    /// Enters what is at an absolute path, and the directories above it where nothing is known about them.
    pub fn insert(&mut self, path: &str, node: Node) {
        for (end, _) in path.match_indices('/').skip(1) {
            if !self.nodes.contains_key(&path[..end]) {
                self.nodes.insert(path[..end].to_owned(), Node::Directory);
            }
        }
        self.nodes.insert(path.to_owned(), node);
        self.objects.remove(path);
    }

    /// Enters an ELF file.
    pub fn insert_object(&mut self, path: &str, object: Arc<Object>) {
        self.insert(path, Node::File);
        self.objects.insert(path.to_owned(), object);
    }

    /// Appends a directory to those of `ld.so.conf`.
    pub fn configure(&mut self, directory: impl Into<String>) {
        let directory = directory.into();
        if !self.configured.contains(&directory) {
            self.configured.push(directory);
        }
    }

    /// Whether anything is at this path; links are not followed.
    #[must_use]
    pub fn contains(&self, path: &str) -> bool {
        self.nodes.contains_key(path)
    }

    /// All entries in order of their paths.
    pub fn nodes(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_str(), node))
    }
}

impl Root for Listing {
    fn node(&self, path: &str) -> Option<Node> {
        self.nodes.get(path).cloned()
    }

    fn object(&self, path: &str) -> Option<Arc<Object>> {
        self.objects.get(path).cloned()
    }

    fn configured(&self) -> &[String] {
        &self.configured
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(class: u8, needed: &[&str]) -> Object {
        Object {
            class,
            machine: if class == 64 { "x86-64" } else { "i386" }.to_owned(),
            soname: None,
            needed: needed.iter().map(|name| (*name).to_owned()).collect(),
            rpath: Vec::new(),
            runpath: Vec::new(),
            no_default_directories: false,
        }
    }

    fn listing(objects: &[(&str, Object)], links: &[(&str, &str)]) -> Listing {
        let mut listing = Listing::default();
        for (path, object) in objects {
            listing.insert_object(path, Arc::new(object.clone()));
        }
        for (path, target) in links {
            listing.insert(path, Node::Symlink((*target).to_owned()));
        }
        listing
    }

    fn first(listing: &Listing) -> Option<(String, String)> {
        let closure = closure(listing, "/bin/run").unwrap();
        let index = closure.edges[0].found?;
        Some((closure.objects[index].path.clone(), closure.objects[index].rule.to_string()))
    }

    #[test]
    fn the_wrong_word_size_is_passed_over() {
        let objects = [
            ("/bin/run", object(32, &["libx.so"])),
            ("/lib/libx.so", object(64, &[])),
            ("/usr/lib/libx.so", object(32, &[])),
        ];
        let found = first(&listing(&objects, &[]));
        assert_eq!(found, Some(("/usr/lib/libx.so".to_owned(), "default directory".to_owned())));
    }

    #[test]
    fn default_directories_may_be_refused() {
        let mut run = object(64, &["libx.so"]);
        run.no_default_directories = true;
        let mut listing = listing(&[("/bin/run", run), ("/usr/lib/libx.so", object(64, &[]))], &[]);
        assert_eq!(first(&listing), None);
        listing.configure("/usr/lib");
        assert_eq!(first(&listing).unwrap().1, "ld.so.conf");
    }

    #[test]
    fn tokens_are_expanded() {
        for (entry, place) in [
            ("$ORIGIN/../lib", "/opt/lib/libx.so"),
            ("${ORIGIN}/x", "/opt/bin/x/libx.so"),
            ("/opt/$LIB", "/opt/lib/x86_64-linux-gnu/libx.so"),
            ("/opt/$PLATFORM", "/opt/x86_64/libx.so"),
        ] {
            let mut run = object(64, &["libx.so"]);
            run.runpath = vec!["relative".to_owned(), entry.to_owned()];
            let listing = listing(
                &[("/opt/bin/run", run), (place, object(64, &[]))],
                &[("/bin/run", "../opt/bin/run")],
            );
            assert_eq!(first(&listing), Some((place.to_owned(), format!("RUNPATH {entry}"))));
        }
    }

    #[test]
    fn links_stay_inside_and_end() {
        let links = [
            ("/a", "b"),
            ("/b", "a"),
            ("/up", "../../../etc"),
            ("/lib", "usr/lib"),
            ("/over", "/lib/libx.so/y"),
        ];
        let listing = listing(&[("/usr/lib/libx.so", object(64, &[]))], &links);
        assert_eq!(canonical(&listing, "/a"), None);
        assert_eq!(canonical(&listing, "/up"), None);
        assert_eq!(canonical(&listing, "/over"), None);
        assert_eq!(canonical(&listing, "/lib/../lib/./libx.so").as_deref(), Some("/usr/lib/libx.so"));
        assert_eq!(canonical(&listing, "/../../").as_deref(), Some("/"));
    }

    #[test]
    fn a_loaded_name_satisfies_later_wishes() {
        let mut plugin = object(64, &["libx.so.1"]);
        plugin.runpath = vec!["/nowhere".to_owned()];
        let mut run = object(64, &["libx.so.1", "plugin.so"]);
        run.runpath = vec!["/opt".to_owned()];
        let objects = [("/bin/run", run), ("/opt/libx.so.1", object(64, &[])), ("/opt/plugin.so", plugin)];
        let closure = closure(&listing(&objects, &[]), "/bin/run").unwrap();
        assert_eq!((closure.objects.len(), closure.missing().count()), (3, 0));
    }

    #[test]
    fn lookups_are_bounded() {
        let listing =
            listing(&[("/bin/run", object(64, &["libx.so"])), ("/lib/libx.so", object(64, &[]))], &[]);
        assert_eq!(closure_within(&listing, "/bin/run", &mut 0).unwrap().missing().count(), 1);
    }
}
