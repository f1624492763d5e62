//! The places glibc looks into for one name.

use std::collections::HashMap;

use super::path::{Layout, PATH_BYTES, Tokens, canonical, file_name, join, parent};
use super::{Edge, Loaded, Node, Object, PASSED, Passed, Refusal, Root, Rule, Search, TRIED, Tried};

/// Highest level of `x86-64-v2` and so on that glibc knows (`sysdeps/x86_64/dl-hwcaps_subdirs.c`).
const LEVEL: u8 = 4;

/// How the search for one name ended.
pub(super) enum Outcome {
    /// With a library.
    Found(Loaded),
    /// With a file that cannot be loaded.
    Refused(String, Refusal),
    /// With nothing.
    Absent,
}

/// Where a root's libraries may be.
pub(super) struct Places<'p> {
    pub(super) root: &'p dyn Root,
    pub(super) search: &'p Search,
    lookups: &'p mut u64,
    /// All that is loaded is of the program's class and machine.
    class: u8,
    machine: String,
    pub(super) platform: String,
    lib: String,
    defaults: Vec<String>,
    /// Sub-directories that are looked into before each directory, the preferred first.
    faster: Vec<String>,
    legacy: Vec<String>,
    /// Directories of search paths without links.
    directories: HashMap<String, Option<String>>,
}

impl<'p> Places<'p> {
    pub(super) fn new(
        root: &'p dyn Root,
        search: &'p Search,
        program: &Object,
        layout: Layout,
        lookups: &'p mut u64,
    ) -> Self {
        let (class, machine) = (program.class, program.machine.clone());
        let platform = search.platform.clone().unwrap_or_else(|| platform(class, &machine).to_owned());
        let level = if (class, machine.as_str()) == (64, "x86-64") { search.level.min(LEVEL) } else { 0 };
        let faster = (2..=level).rev().map(|level| format!("glibc-hwcaps/x86-64-v{level}")).collect();
        // Its NEWS of 2.37: "no longer loads shared objects from the "tls" subdirectories" and those of the platform.
        let is_older = || root.glibc(program).is_some_and(|version| version < 37);
        let legacy = if search.legacy || is_older() { legacy(&machine, &platform) } else { Vec::new() };
        Self {
            root,
            search,
            lookups,
            lib: layout.lib(class, &machine),
            defaults: layout.default_directories(class, &machine),
            class,
            machine,
            platform,
            faster,
            legacy,
            directories: HashMap::new(),
        }
    }

    /// Looks for a name that nothing has been loaded by.
    pub(super) fn find(&mut self, objects: &[Loaded], edge: &mut Edge, name: &str) -> Outcome {
        let Some(wanter) = objects.get(edge.wanted_by) else { return Outcome::Absent };
        if name.contains('/') {
            return self.open_path(edge, name).unwrap_or(Outcome::Absent);
        }
        let found = self
            .by_rpath(objects, edge, name)
            .or_else(|| self.by_library_path(edge, name))
            .or_else(|| self.by_runpath(wanter, edge, name))
            .or_else(|| self.by_configuration(wanter, edge, name))
            .or_else(|| self.by_default(wanter, edge, name));
        found.unwrap_or(Outcome::Absent)
    }

    /// A name with a slash.
    pub(super) fn open_path(&mut self, edge: &mut Edge, name: &str) -> Option<Outcome> {
        let path = self.absolute(name)?;
        self.open(edge, parent(&path), file_name(&path), &Rule::Path)
    }

    /// The `RPATH`s of the object and of all that led to it.
    fn by_rpath(&mut self, objects: &[Loaded], edge: &mut Edge, name: &str) -> Option<Outcome> {
        let wanter = objects.get(edge.wanted_by)?;
        if wanter.object.runpath.is_some() {
            return None;
        }
        let mut at = Some(edge.wanted_by);
        while let Some((index, ancestor)) = at.and_then(|index| Some((index, objects.get(index)?))) {
            if ancestor.object.runpath.is_none() {
                for entry in ancestor.object.rpath.iter().flatten() {
                    let of = (index != edge.wanted_by).then(|| ancestor.path.clone());
                    let rule = Rule::Rpath { entry: entry.clone(), of };
                    let Some(directory) = self.expand(entry, ancestor) else { continue };
                    if let Some(outcome) = self.in_directory(edge, &directory, name, &rule) {
                        return Some(outcome);
                    }
                }
            }
            // What loaded an object was entered before it: this ends.
            at = ancestor.loader.filter(|&loader| loader < index);
        }
        None
    }

    pub(super) fn by_library_path(&mut self, edge: &mut Edge, name: &str) -> Option<Outcome> {
        let search = self.search;
        search.library_path.iter().find_map(|entry| {
            let directory = self.absolute(entry)?;
            self.in_directory(edge, &directory, name, &Rule::LibraryPath(entry.clone()))
        })
    }

    fn by_runpath(&mut self, wanter: &Loaded, edge: &mut Edge, name: &str) -> Option<Outcome> {
        wanter.object.runpath.iter().flatten().find_map(|entry| {
            let directory = self.expand(entry, wanter)?;
            self.in_directory(edge, &directory, name, &Rule::Runpath(entry.clone()))
        })
    }

    /// What `ldconfig` finds: the best copy for the processor in all directories, then the first.
    fn by_configuration(&mut self, wanter: &Loaded, edge: &mut Edge, name: &str) -> Option<Outcome> {
        let root = self.root;
        let is_default = |places: &Self, directory: &str| places.defaults.iter().any(|d| d == directory);
        for sub in self.faster.clone() {
            for directory in root.configured().iter().chain(&self.defaults.clone()) {
                let rule = if is_default(self, directory) { Rule::Default } else { Rule::Configured };
                if let Some(outcome) = self.open(edge, &join(directory, &sub), name, &rule) {
                    let refused = wanter.object.no_default_directories && self.is_below_default(directory);
                    return (!refused).then_some(outcome);
                }
            }
        }
        for directory in root.configured() {
            let Some(outcome) = self.indexed(edge, directory, name) else { continue };
            // The cache has one file by that name; from below a default directory it is not taken (`dl-load.c`).
            let refused = wanter.object.no_default_directories && self.is_below_default(directory);
            return (!refused).then_some(outcome);
        }
        None
    }

    /// The cache leaves out what `ldconfig` does not take for a library, and knows a file by its `SONAME` only.
    fn indexed(&mut self, edge: &mut Edge, directory: &str, name: &str) -> Option<Outcome> {
        let outcome = self.open(edge, directory, name, &Rule::Configured)?;
        let (path, why) = match &outcome {
            Outcome::Found(loaded) => match not_indexed(loaded, name) {
                Some(why) => (loaded.path.clone(), why),
                None => return Some(outcome),
            },
            // Linker scripts and broken files are not put into the cache.
            Outcome::Refused(path, refusal) => (path.clone(), format!("it {refusal}")),
            Outcome::Absent => return None,
        };
        self.refuse(edge, path, Refusal::NotIndexed(why))
    }

    fn is_below_default(&self, directory: &str) -> bool {
        let path = format!("{directory}/");
        self.defaults.iter().any(|default| path.starts_with(&format!("{default}/")))
    }

    fn by_default(&mut self, wanter: &Loaded, edge: &mut Edge, name: &str) -> Option<Outcome> {
        if wanter.object.no_default_directories {
            return None;
        }
        let defaults = self.defaults.clone();
        defaults.iter().find_map(|directory| self.in_directory(edge, directory, name, &Rule::Default))
    }

    /// A directory of a search path and its sub-directories for the processor.
    pub(super) fn in_directory(
        &mut self,
        edge: &mut Edge,
        directory: &str,
        name: &str,
        rule: &Rule,
    ) -> Option<Outcome> {
        for index in 0..self.faster.len() + self.legacy.len() {
            let sub = self.faster.iter().chain(&self.legacy).nth(index)?;
            let sub = join(directory, sub);
            if let Some(outcome) = self.open(edge, &sub, name, rule) {
                return Some(outcome);
            }
        }
        self.open(edge, directory, name, rule)
    }

    /// Opens a file; `None` if the search goes on.
    pub(super) fn open(
        &mut self,
        edge: &mut Edge,
        directory: &str,
        name: &str,
        rule: &Rule,
    ) -> Option<Outcome> {
        *self.lookups = self.lookups.checked_sub(1)?;
        if self.search.trace && edge.tried.len() < TRIED {
            edge.tried.push(Tried { path: join(directory, name), rule: rule.to_string() });
        }
        let directory = self.without_links(directory)?;
        let path = join(&directory, name);
        let file = match self.root.node(&path)? {
            Node::File => path.clone(),
            Node::Directory => return Some(Outcome::Refused(path, Refusal::NotRegular)),
            Node::Symlink(_) => canonical(self.root, &path)?,
        };
        let object = match self.root.object(&file) {
            Some(object) => object,
            None if self.root.node(&file) == Some(Node::Directory) => {
                return Some(Outcome::Refused(path, Refusal::NotRegular));
            }
            None => return self.refuse(edge, path, self.root.refusal(&file)),
        };
        if object.class != self.class {
            return self.refuse(edge, path, Refusal::WrongClass(format!("{} bits", object.class)));
        }
        if object.machine != self.machine {
            return self.refuse(edge, path, Refusal::WrongMachine(object.machine.clone()));
        }
        if let Some(why) = &object.refused {
            return self.refuse(edge, path, Refusal::Invalid(why.clone()));
        }
        let faster = self.faster_copies(&directory, name);
        let loader = Some(edge.wanted_by);
        Some(Outcome::Found(Loaded { path, file, rule: rule.clone(), object, loader, faster }))
    }

    fn refuse(&self, edge: &mut Edge, path: String, refusal: Refusal) -> Option<Outcome> {
        if !refusal.is_passed_over() {
            return Some(Outcome::Refused(path, refusal));
        }
        if edge.passed.len() < PASSED {
            edge.passed.push(Passed { path, refusal });
        }
        None
    }

    /// Copies for processors beyond the search's level.
    fn faster_copies(&self, directory: &str, name: &str) -> Vec<String> {
        let hwcaps = join(directory, "glibc-hwcaps");
        if (self.class, self.machine.as_str()) != (64, "x86-64")
            || self.root.node(&hwcaps) != Some(Node::Directory)
        {
            return Vec::new();
        }
        let first = self.search.level.max(1) + 1;
        let paths = (first..=LEVEL).rev().map(|level| format!("{hwcaps}/x86-64-v{level}/{name}"));
        paths.filter(|path| canonical(self.root, path).is_some()).collect()
    }

    fn without_links(&mut self, directory: &str) -> Option<String> {
        if let Some(known) = self.directories.get(directory) {
            return known.clone();
        }
        let found = canonical(self.root, directory);
        self.directories.insert(directory.to_owned(), found.clone());
        found
    }

    fn expand(&self, entry: &str, owner: &Loaded) -> Option<String> {
        let tokens = Tokens { origin: parent(&owner.path), lib: &self.lib, platform: &self.platform };
        self.absolute(&tokens.expand(entry)?)
    }

    /// A relative path starts at the working directory; where that is not known it leads nowhere.
    pub(super) fn absolute(&self, path: &str) -> Option<String> {
        if path.starts_with('/') {
            return Some(path.to_owned()).filter(|path| path.len() <= PATH_BYTES);
        }
        let start = self.search.working_directory.as_deref()?;
        Some(join(start, path)).filter(|path| path.len() <= PATH_BYTES)
    }
}

/// Why `ldconfig` does not enter a library under this name (`search_dir` in glibc's `elf/ldconfig.c`).
fn not_indexed(loaded: &Loaded, name: &str) -> Option<String> {
    if !(name.starts_with("lib") || name.starts_with("ld-")) || !name.contains(".so") {
        return Some("its name is not that of a library".to_owned());
    }
    let soname = loaded.object.soname.as_deref()?;
    let is_link = loaded.path != loaded.file;
    let for_linker = is_link && name.ends_with(".so") && soname.starts_with(name);
    (soname != name && !for_linker).then(|| format!("its SONAME is {soname}"))
}

/// `AT_PLATFORM` of the kernel.
fn platform(class: u8, machine: &str) -> &str {
    match (class, machine) {
        (_, "x86-64") => "x86_64",
        (_, "i386") => "i686",
        (_, "arm") => "v7l",
        (_, other) => other,
    }
}

/// Sub-directories glibc looked into before 2.37 on a processor without AVX-512 (`elf/dl-hwcaps.c`): `tls`, the platform,
/// the capabilities that count, in every combination.
fn legacy(machine: &str, platform: &str) -> Vec<String> {
    let capability = match machine {
        "x86-64" => "x86_64",
        "i386" => "sse2",
        _ => return vec![format!("tls/{platform}"), "tls".to_owned(), platform.to_owned()],
    };
    let mut found: Vec<String> = Vec::new();
    for tls in ["tls/", ""] {
        for rest in
            [format!("{platform}/{capability}"), platform.to_owned(), capability.to_owned(), String::new()]
        {
            let sub = format!("{tls}{rest}");
            let sub = sub.trim_end_matches('/').to_owned();
            if !sub.is_empty() && !found.contains(&sub) {
                found.push(sub);
            }
        }
    }
    found
}
