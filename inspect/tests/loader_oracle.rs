//! What `resolve::closure` finds is what the loader of this machine finds.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod common;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use hatchway_inspect::elf::{self, ElfKind};
use hatchway_inspect::resolve::{self, Node, Object, Root, Rule};

/// The file system of this machine, or a folder of it under its own paths.
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
                let directory = Path::new(pattern.trim()).parent().unwrap();
                let Ok(children) = std::fs::read_dir(directory) else { continue };
                let mut files: Vec<PathBuf> = children.flatten().map(|child| child.path()).collect();
                files.sort();
                files
                    .iter()
                    .filter(|file| file.extension().is_some_and(|e| e == "conf"))
                    .for_each(|file| self.configure(file));
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
        let mut objects = self.objects.lock().unwrap();
        let read =
            || elf::read(path, &std::fs::read(path).ok()?).ok().map(|facts| Arc::new(Object::from(&facts)));
        objects.entry(path.to_owned()).or_insert_with(read).clone()
    }

    fn configured(&self) -> &[String] {
        &self.configured
    }
}

/// Real paths of what the loader lists, and names it does not find.
fn listed(interpreter: &str, program: &Path) -> (BTreeSet<PathBuf>, BTreeSet<String>) {
    let run = Command::new(interpreter).arg("--list").arg(program).env_clear().output().unwrap();
    let text = String::from_utf8_lossy(&run.stdout).into_owned();
    let mut found = BTreeSet::new();
    let mut missing = BTreeSet::new();
    for line in text.lines() {
        let line = line.trim();
        if let Some(name) = line.strip_suffix(" => not found") {
            missing.insert(name.to_owned());
            continue;
        }
        let path = line.split(" => ").last().unwrap().split(" (").next().unwrap();
        if path.starts_with('/') {
            found.insert(std::fs::canonicalize(path).unwrap());
        }
    }
    // With a library missing the loader exits and may not list it; its message names the first.
    let message = String::from_utf8_lossy(&run.stderr).into_owned();
    if let Some(name) = message.split("shared libraries: ").nth(1).and_then(|rest| rest.split(':').next()) {
        missing.insert(name.to_owned());
    }
    (found, missing)
}

fn agree(disk: &Disk, program: &Path) -> resolve::Closure {
    let facts = elf::read("x", &std::fs::read(program).unwrap()).unwrap();
    let interpreter = facts.interpreter.expect("a dynamically linked program");
    let closure = resolve::closure(disk, program.to_str().unwrap()).unwrap();
    let (found, missing) = listed(&interpreter, program);
    let mut ours: BTreeSet<PathBuf> =
        closure.objects.iter().skip(1).map(|loaded| PathBuf::from(&loaded.file)).collect();
    let mut theirs = found;
    // The loader maps itself, whether anything is linked with it or not.
    let own = std::fs::canonicalize(&interpreter).unwrap();
    ours.remove(&own);
    theirs.remove(&own);
    let our_missing: BTreeSet<String> = closure.missing().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(
        our_missing.is_empty(),
        missing.is_empty(),
        "{}: {missing:?} {our_missing:?}",
        program.display()
    );
    assert!(missing.is_subset(&our_missing), "{}: {missing:?} {our_missing:?}", program.display());
    if missing.is_empty() {
        assert_eq!(ours, theirs, "{}", program.display());
    }
    closure
}

#[test]
fn programs_of_this_machine() {
    let disk = Disk::of_this_machine();
    let mut programs: Vec<PathBuf> =
        std::fs::read_dir("/usr/bin").unwrap().flatten().map(|child| child.path()).collect();
    programs.sort();
    let mut compared = 0;
    for program in programs {
        if std::fs::symlink_metadata(&program).is_ok_and(|metadata| !metadata.is_file()) {
            continue;
        }
        let Ok(bytes) = std::fs::read(&program) else { continue };
        let Ok(facts) = elf::read("x", &bytes) else { continue };
        let runnable =
            matches!(facts.kind, ElfKind::Executable | ElfKind::Pie) && facts.interpreter.is_some();
        if runnable && Path::new(facts.interpreter.as_deref().unwrap_or_default()).exists() {
            agree(&disk, &program);
            compared += 1;
        }
        if compared == 150 {
            break;
        }
    }
    assert!(compared >= 50, "only {compared} programs to compare");
}

/// A program that needs `liba`, which needs `libb`; each lies in a folder of its own.
fn chain(folder: &Path, program: &[&str], a: &[&str]) -> PathBuf {
    let run = |name: &str, source: &str, arguments: &[&str]| common::gcc(folder, name, source, arguments);
    let (in_a, in_b) = (format!("-L{}/a", folder.display()), format!("-L{}/b", folder.display()));
    run("b/libb.so", "int b(void) { return 1; }", &["-shared", "-fPIC", "-Wl,-soname,libb.so"]);
    let arguments = [&["-shared", "-fPIC", "-Wl,-soname,liba.so", &in_b, "-lb"], a].concat();
    run("a/liba.so", "int b(void); int a(void) { return b(); }", &arguments);
    let link =
        ["-Wl,--allow-shlib-undefined", "-Wl,--unresolved-symbols=ignore-in-shared-libs", &in_a, "-la"];
    run("bin/program", "int a(void); int main(void) { return a(); }", &[&link, program].concat())
}

/// A name, how the program and `liba` are linked, and how `libb` is found.
type Case<'c> = (&'c str, &'c [&'c str], &'c [&'c str], Option<Rule>);

#[test]
fn search_paths_are_followed_as_the_loader_does() {
    let cases: [Case; 6] = [
        // An RPATH of the program serves its libraries …
        (
            "rpath",
            &["-Wl,--disable-new-dtags,-rpath,$ORIGIN/../a:$ORIGIN/../b"],
            &[],
            Some(Rule::Rpath("$ORIGIN/../b".to_owned())),
        ),
        // … a RUNPATH does not.
        ("runpath", &["-Wl,--enable-new-dtags,-rpath,$ORIGIN/../a:$ORIGIN/../b"], &[], None),
        (
            "own-runpath",
            &["-Wl,--enable-new-dtags,-rpath,$ORIGIN/../a"],
            &["-Wl,--enable-new-dtags,-rpath,${ORIGIN}/../b"],
            Some(Rule::Runpath("${ORIGIN}/../b".to_owned())),
        ),
        // A library with a RUNPATH of its own no longer looks into its ancestors' RPATH.
        (
            "shadowed",
            &["-Wl,--disable-new-dtags,-rpath,$ORIGIN/../a:$ORIGIN/../b"],
            &["-Wl,--enable-new-dtags,-rpath,/nowhere"],
            None,
        ),
        (
            "library-rpath",
            &["-Wl,--enable-new-dtags,-rpath,$ORIGIN/../a"],
            &["-Wl,--disable-new-dtags,-rpath,$ORIGIN/../b"],
            Some(Rule::Rpath("$ORIGIN/../b".to_owned())),
        ),
        ("nothing", &["-Wl,--enable-new-dtags,-rpath,$ORIGIN/../a"], &[], None),
    ];
    let scratch = tempfile::tempdir().unwrap();
    let disk = Disk::of_this_machine();
    for (name, program, library, expected) in cases {
        let program = chain(&scratch.path().join(name), program, library);
        let closure = agree(&disk, &program);
        let edge = closure.edges.iter().find(|edge| edge.name == "libb.so").unwrap();
        assert_eq!(edge.found.map(|index| closure.objects[index].rule.clone()), expected, "{name}");
    }
}

#[test]
fn origin_of_a_program_started_through_a_link() {
    let scratch = tempfile::tempdir().unwrap();
    let program = chain(scratch.path(), &["-Wl,--disable-new-dtags,-rpath,$ORIGIN/../a:$ORIGIN/../b"], &[]);
    let other = scratch.path().join("elsewhere");
    std::fs::create_dir(&other).unwrap();
    let link = other.join("start");
    std::os::unix::fs::symlink(&program, &link).unwrap();
    // The kernel resolves the link of a program it starts; `--list` is given the real path to see the same.
    let closure = resolve::closure(&Disk::of_this_machine(), link.to_str().unwrap()).unwrap();
    assert_eq!(closure.missing().count(), 0);
    assert_eq!(closure.objects[0].file, program.canonicalize().unwrap().to_str().unwrap());
}
