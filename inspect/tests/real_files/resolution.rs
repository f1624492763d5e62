//! Where libraries are found, against `libtree` and `lddtree`.
//!
//! Neither of the two is the loader: each leaves out some of its rules, which the explanations name. The loader itself is
//! the oracle of `loader_oracle.rs`, for what may be started.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use hatchway_inspect::elf::{self, ElfKind};
use hatchway_inspect::resolve::{self, Closure, Node, Object, Root};

use crate::{Report, corpus, files, in_parallel, run};

/// Files taken of the corpus and of this machine each; `lddtree` needs seconds for a large program.
const TAKEN: usize = 150;
const AT_LEAST: usize = 300;

/// The file system of this machine.
#[derive(Default)]
struct Disk {
    configured: Vec<String>,
    objects: Mutex<HashMap<String, Option<Arc<Object>>>>,
}

impl Disk {
    fn of_this_machine() -> Self {
        let mut disk = Self::default();
        disk.configure(Path::new("/etc/ld.so.conf"));
        disk
    }

    fn configure(&mut self, file: &Path) {
        for line in std::fs::read_to_string(file).unwrap_or_default().lines() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if let Some(pattern) = line.strip_prefix("include ") {
                let Ok(children) = std::fs::read_dir(Path::new(pattern.trim()).parent().unwrap()) else {
                    continue;
                };
                let mut files: Vec<PathBuf> = children.flatten().map(|child| child.path()).collect();
                files.sort();
                let conf = files.iter().filter(|file| file.extension().is_some_and(|e| e == "conf"));
                conf.for_each(|file| self.configure(file));
            } else if line.starts_with('/') {
                self.configured.push(line.to_owned());
            }
        }
    }
}

impl Root for Disk {
    fn node(&self, path: &str) -> Option<Node> {
        let metadata = std::fs::symlink_metadata(path).ok()?;
        Some(if metadata.is_symlink() {
            Node::Symlink(std::fs::read_link(path).ok()?.to_string_lossy().into_owned())
        } else if metadata.is_dir() {
            Node::Directory
        } else {
            Node::File
        })
    }

    fn object(&self, path: &str) -> Option<Arc<Object>> {
        if let Some(known) = self.objects.lock().unwrap().get(path) {
            return known.clone();
        }
        let facts = std::fs::read(path).ok().and_then(|bytes| elf::read(path, &bytes).ok());
        let object = facts.map(|facts| Arc::new(Object::from(&facts)));
        self.objects.lock().unwrap().insert(path.to_owned(), object.clone());
        object
    }

    fn configured(&self) -> &[String] {
        &self.configured
    }
}

/// Real paths of what is found, and names of what is not.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Found {
    files: BTreeSet<String>,
    missing: BTreeSet<String>,
}

impl Found {
    fn enter(&mut self, path: &str) {
        if let Ok(real) = std::fs::canonicalize(path) {
            self.files.insert(real.to_string_lossy().into_owned());
        }
    }

    /// The loader itself: some list it, some do not.
    fn without_loader(mut self) -> Self {
        let is_loader = |name: &str| name.rsplit('/').next().is_some_and(|name| name.starts_with("ld-linux"));
        self.files.retain(|path| !is_loader(path));
        self.missing.retain(|name| !is_loader(name));
        self
    }
}

fn ours(closure: &Closure) -> Found {
    Found {
        files: closure.objects.iter().skip(1).map(|loaded| loaded.file.clone()).collect(),
        missing: closure.missing().map(|(name, _)| name.to_owned()).collect(),
    }
}

/// One file at a time: what it has listed for one it does not list again for the next.
fn libtree(path: &Path) -> Found {
    let output = run(Command::new("libtree").arg("-pvv").arg(path).env_remove("LD_LIBRARY_PATH"), "libtree");
    let mut found = Found::default();
    for line in String::from_utf8_lossy(&output.stdout).lines().skip(1) {
        let text = line.trim_start_matches(|c: char| "│├└─ \u{a0}".contains(c)).trim_end();
        if let Some((name, _)) = text.split_once(" not found") {
            found.missing.insert(name.to_owned());
        } else if let Some((path, _)) = text.rsplit_once(" [")
            && path.starts_with('/')
        {
            found.enter(path);
        }
    }
    found
}

/// A script of Debian's Python, which need not be the first in the path.
fn lddtree(paths: &[PathBuf]) -> BTreeMap<PathBuf, Found> {
    let mut command = Command::new("/usr/bin/python3");
    command.arg("/usr/bin/lddtree").args(paths).env_remove("LD_LIBRARY_PATH");
    let output = run(&mut command, "pax-utils");
    let mut all: BTreeMap<PathBuf, Found> = BTreeMap::new();
    let mut current = PathBuf::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if let Some((path, _)) = line.split_once(" (interpreter => ") {
            current = PathBuf::from(path);
            all.entry(current.clone()).or_default();
        } else if let Some((name, path)) = line.trim().split_once(" => ") {
            let found = all.entry(current.clone()).or_default();
            if path == "None" {
                found.missing.insert(name.to_owned());
            } else {
                found.enter(path);
            }
        }
    }
    all
}

/// Why another program may say something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Explanation {
    /// They search again for a name that an object loaded earlier, for somebody else, already satisfies.
    LoadedEarlier,
    /// They go on below such a library, or stop at one: what differs is needed only by what differs.
    OnlyBelowADifference,
    /// They pass `RPATH` or `RUNPATH` on to dependencies otherwise than the loader does: the directory where they find
    /// it is named by some object of the program.
    SearchPathOfAnother,
    /// `lddtree` does not look into `/lib` and `/usr/lib` themselves on a system with directories for each architecture: it misses what
    /// is there, and what only that needs.
    DefaultDirectory,
}

fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// Whether a name is found in a directory that `lddtree` leaves out, or was loaded for what is.
fn beyond_lddtree(closure: &Closure, name: &str) -> bool {
    let left_out = |index: usize| {
        std::iter::successors(Some(index), |index| closure.objects[*index].loader).any(|index| {
            let directory = closure.objects[index].path.rsplit_once('/').map(|(directory, _)| directory);
            matches!(directory, Some("/lib" | "/usr/lib"))
        })
    };
    let found: Vec<_> =
        closure.edges.iter().filter(|edge| edge.name == name).map(|edge| edge.found).collect();
    !found.is_empty() && found.into_iter().all(|found| found.is_some_and(left_out))
}

/// Explains one library that only one side has, by its name.
fn explain(
    oracle: &str,
    closure: &Closure,
    disk: &Disk,
    name: &str,
    file: Option<&str>,
    below: bool,
) -> Option<Explanation> {
    if oracle == "lddtree" && beyond_lddtree(closure, name) {
        return Some(Explanation::DefaultDirectory);
    }
    let edges = closure.edges.iter().filter(|edge| edge.name == name);
    let mut wanted = false;
    for edge in edges {
        wanted = true;
        let earlier = edge.found.is_some_and(|index| closure.objects[index].loader != Some(edge.wanted_by));
        if earlier {
            return Some(Explanation::LoadedEarlier);
        }
    }
    if below && !wanted {
        return Some(Explanation::OnlyBelowADifference);
    }
    let directory = file.and_then(|file| file.rsplit_once('/')).map(|(directory, _)| directory)?;
    let named = closure.objects.iter().any(|loaded| {
        let origin = loaded.path.rsplit_once('/').map_or("", |(directory, _)| directory);
        let facts = std::fs::read(&loaded.file).ok().and_then(|bytes| elf::read("x", &bytes).ok());
        facts.is_some_and(|facts| {
            facts.rpath.iter().chain(&facts.runpath).any(|entry| {
                let entry = entry.replace("${ORIGIN}", origin).replace("$ORIGIN", origin);
                resolve::canonical(disk, &entry).is_some_and(|entry| entry == directory)
            })
        })
    });
    named.then_some(Explanation::SearchPathOfAnother)
}

fn compare(
    report: &Report,
    disk: &Disk,
    oracle: &str,
    path: &Path,
    closure: &Closure,
    theirs: Option<&Found>,
) {
    let Some(theirs) = theirs.cloned() else {
        return report.difference(None::<Explanation>, format!("{}: {oracle} says nothing", path.display()));
    };
    let (ours, theirs) = (ours(closure).without_loader(), theirs.without_loader());
    report.count(format!("compared with {oracle}"));
    if ours == theirs {
        return report.count(format!("same as {oracle}"));
    }
    let mut differing: Vec<(String, Option<String>, &str)> = Vec::new();
    let sides = [(&ours, &theirs, "only we find"), (&theirs, &ours, "only they find")];
    for (one, other, what) in sides {
        let files = one.files.difference(&other.files);
        differing.extend(files.map(|file| (name_of(file).to_owned(), Some(file.clone()), what)));
    }
    let sides = [(&ours, &theirs, "only we miss"), (&theirs, &ours, "only they miss")];
    for (one, other, what) in sides {
        differing.extend(one.missing.difference(&other.missing).map(|name| (name.clone(), None, what)));
    }
    for (name, file, what) in &differing {
        let soname = file.as_deref().and_then(|file| disk.object(file)).and_then(|o| o.soname.clone());
        let wished = soname.as_deref().unwrap_or(name);
        let rule = explain(oracle, closure, disk, wished, file.as_deref(), differing.len() > 1);
        report.difference(
            rule.map(|rule| format!("{rule:?} ({oracle})")),
            format!(
                "{}: {what} `{}`, compared with {oracle}",
                path.display(),
                file.as_deref().unwrap_or(name)
            ),
        );
    }
}

/// Programs and libraries that are linked with something, spread over the list and the same every time.
fn linked(root: PathBuf) -> Vec<PathBuf> {
    let mut all = files(&[root], b"\x7fELF");
    all.sort_by_key(|path| {
        let bytes = path.as_os_str().as_encoded_bytes();
        bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        })
    });
    let is_linked = |path: &PathBuf| {
        let facts = std::fs::read(path).ok().and_then(|bytes| elf::read("x", &bytes).ok());
        facts.is_some_and(|facts| {
            let loadable = matches!(facts.kind, ElfKind::Executable | ElfKind::Pie | ElfKind::Shared);
            loadable && facts.class == 64 && facts.machine == "x86-64" && !facts.needed.is_empty()
        })
    };
    all.into_iter().filter(is_linked).take(TAKEN).collect()
}

#[test]
#[ignore = "needs the corpus: cargo xtask test proof"]
fn libraries_are_found_where_libtree_and_lddtree_find_them() {
    let report = Report::default();
    let disk = Disk::of_this_machine();
    let mut all = linked(corpus().join("files"));
    all.extend(linked("/usr/bin".into()));
    all.extend(linked("/usr/lib".into()));
    in_parallel(&all, 12, |paths| {
        let lists = lddtree(paths);
        for path in paths {
            let closure = resolve::closure(&disk, path.to_str().unwrap()).unwrap();
            compare(&report, &disk, "libtree", path, &closure, Some(&libtree(path)));
            compare(&report, &disk, "lddtree", path, &closure, lists.get(path));
        }
    });
    report.finish("Resolution against libtree and lddtree");
    for oracle in ["libtree", "lddtree"] {
        let compared = report.counted(&format!("compared with {oracle}"));
        let same = report.counted(&format!("same as {oracle}"));
        assert!(compared >= AT_LEAST, "only {compared} compared with {oracle}");
        assert!(same * 10 >= compared * 8, "only {same} of {compared} are the same as {oracle}");
    }
}
