//! Whole systems: what `resolve` finds is what the loader finds, and what others that read without running find.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
#![allow(clippy::disallowed_methods, reason = "scratch folders, not the store")]

mod common;
#[path = "common/loader.rs"]
mod loader;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use hatchway_inspect::elf::{self, ElfKind};
use hatchway_inspect::resolve::{self, DirectoryRoot, Layered, Root, Rule, Search};

/// Dynamic programs in the directories of the system, by their interpreter.
fn programs() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for directory in ["/usr/bin", "/usr/sbin"] {
        for child in std::fs::read_dir(directory).unwrap().flatten() {
            let path = child.path();
            if !std::fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file()) {
                continue;
            }
            let Ok(bytes) = std::fs::read(&path) else { continue };
            let Ok(facts) = elf::read("x", &bytes) else { continue };
            let runnable = matches!(facts.kind, ElfKind::Executable | ElfKind::Pie);
            if let Some(interpreter) = facts.interpreter.filter(|path| runnable && Path::new(path).exists()) {
                found.push((path, interpreter));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn every_program_of_this_machine() {
    let root = DirectoryRoot::open(Path::new("/")).unwrap();
    let search = loader::of_this_processor();
    let mut compared = 0;
    for (program, interpreter) in programs() {
        let verdict = loader::judge(Command::new(&interpreter).arg("--list").arg(&program), &search);
        let closure = loader::agree(&root, program.to_str().unwrap(), &search, &verdict, Path::new("/"));
        let warned: Vec<_> = closure.edges.iter().flat_map(|edge| &edge.problems).collect();
        assert!(warned.iter().all(|problem| !problem.is_fatal()), "{}: {warned:?}", program.display());
        compared += 1;
    }
    assert!(compared >= 50, "only {compared} programs to compare");
}

/// A small root with the loader and the C library of this machine.
struct Chroot {
    scratch: tempfile::TempDir,
}

impl Chroot {
    fn new(conf: &[(&str, &str)]) -> Self {
        let chroot = Self { scratch: tempfile::tempdir().unwrap() };
        for file in ["lib64/ld-linux-x86-64.so.2", "lib/x86_64-linux-gnu/libc.so.6"] {
            let to = chroot.at(file);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(Path::new("/").join(file), to).unwrap();
        }
        for (file, text) in conf {
            common::write(chroot.scratch.path(), file, text.as_bytes());
        }
        chroot
    }

    fn at(&self, path: &str) -> PathBuf {
        self.scratch.path().join(path)
    }

    fn library(&self, path: &str, arguments: &[&str]) {
        let arguments = [&["-shared", "-fPIC", "-nostdlib"], arguments].concat();
        common::gcc(self.scratch.path(), path, "int x(void) { return 1; }", &arguments);
    }

    /// A program that is linked with libraries of these names.
    fn program(&self, names: &[&str], arguments: &[&str]) {
        let stubs = self.at("stubs");
        let mut link = vec!["-Wl,--no-as-needed".to_owned(), format!("-L{}", stubs.display())];
        for name in names {
            self.library(&format!("stubs/{name}"), &[&format!("-Wl,-soname,{name}")]);
            link.push(format!("-l:{name}"));
        }
        let link: Vec<&str> = link.iter().map(String::as_str).chain(arguments.iter().copied()).collect();
        common::gcc(self.scratch.path(), "bin/program", "int main(void) { return 0; }", &link);
        std::fs::remove_dir_all(stubs).unwrap();
    }

    fn ldconfig(&self) {
        let run = Command::new("/sbin/ldconfig").arg("-r").arg(self.scratch.path()).output();
        let run = run.expect("the cache is made by ldconfig (Debian: apt-get install libc-bin)");
        assert!(run.status.success(), "{run:?}");
    }

    fn agree(&self, search: &Search) -> BTreeMap<String, Option<(String, String)>> {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "/usr/sbin/chroot"]).arg(self.scratch.path());
        command.args([loader::LOADER, "--list", "/bin/program"]);
        let probe = Command::new("unshare").args(["--map-root-user", "true"]).output();
        let probe = probe.expect("a user namespace is made by unshare (Debian: apt-get install util-linux)");
        assert!(probe.status.success(), "user namespaces must be allowed for these tests: {probe:?}");
        let verdict = loader::judge(&mut command, search);
        assert!(
            !verdict.paths.is_empty() || !verdict.missing.is_empty(),
            "the loader did not run: {verdict:?}"
        );
        let root = DirectoryRoot::open(self.scratch.path()).unwrap();
        let closure = loader::agree(&root, "/bin/program", search, &verdict, self.scratch.path());
        let of =
            |index: usize| (closure.objects[index].path.clone(), closure.objects[index].rule.to_string());
        closure.edges.iter().map(|edge| (edge.name.clone(), edge.found.map(of))).collect()
    }
}

#[test]
fn the_configuration_and_its_cache() {
    let chroot = Chroot::new(&[
        ("etc/ld.so.conf", "/opt/first # one\ninclude /etc/ld.so.conf.d/*.conf\n/opt/last/\n"),
        ("etc/ld.so.conf.d/b.conf", "/opt/b\n"),
        ("etc/ld.so.conf.d/a.conf", "\t/opt/a\nhwcap 0 nosegneg\n"),
        ("etc/ld.so.conf.d/c.conf.old", "/opt/no\n"),
    ]);
    for path in [
        "opt/first/libone.so",
        "opt/a/libone.so",
        "opt/b/libtwo.so",
        "opt/a/libtwo.so",
        "opt/last/libthree.so",
        "opt/no/libno.so",
        "usr/lib/libthree.so",
        "opt/a/plugin.so",
        "lib/plug2.so",
    ] {
        chroot.library(path, &[]);
    }
    // A file is in the cache under its SONAME, not under its own name; a link only if it is for the linker or right.
    chroot.library("opt/a/libnamed.so.1.2", &["-Wl,-soname,libnamed.so.1"]);
    symlink("libnamed.so.1.2", chroot.at("opt/a/libnamed.so")).unwrap();
    symlink("libnamed.so.1.2", chroot.at("opt/a/libnamed.so.1.1")).unwrap();
    common::write(chroot.scratch.path(), "opt/first/libtwo.so", &[b'x'; 100]);
    let names = [
        "libone.so",
        "libtwo.so",
        "libthree.so",
        "libno.so",
        "plugin.so",
        "plug2.so",
        "libnamed.so.1",
        "libnamed.so.1.2",
        "libnamed.so.1.1",
        "libnamed.so",
    ];
    chroot.ldconfig();
    let mut found = BTreeMap::new();
    // One by one: a loader that misses one may not go on to the others.
    for name in names {
        chroot.program(&[name], &[]);
        found.insert(name, chroot.agree(&loader::of_this_processor())[name].clone().map(|(path, _)| path));
    }
    let expected = [
        ("libnamed.so", Some("/opt/a/libnamed.so")),
        ("libnamed.so.1", Some("/opt/a/libnamed.so.1")),
        ("libnamed.so.1.1", None),
        ("libnamed.so.1.2", None),
        ("libno.so", None),
        ("libone.so", Some("/opt/first/libone.so")),
        ("libthree.so", Some("/opt/last/libthree.so")),
        ("libtwo.so", Some("/opt/a/libtwo.so")),
        ("plug2.so", Some("/lib/plug2.so")),
        ("plugin.so", None),
    ];
    let found: Vec<_> = found.iter().map(|(name, path)| (*name, path.as_deref())).collect();
    assert_eq!(found, expected);
}

#[test]
fn nodeflib_and_the_cache() {
    let chroot = Chroot::new(&[("etc/ld.so.conf", "/opt/lib\n/usr/lib/acme\n")]);
    chroot.library("opt/lib/libx.so", &[]);
    chroot.library("usr/lib/acme/liby.so", &[]);
    chroot.ldconfig();
    for (name, expected) in [("libx.so", true), ("liby.so", false)] {
        chroot.program(&[name], &["-Wl,-z,nodefaultlib", "-nostdlib", "-e", "main"]);
        assert_eq!(chroot.agree(&loader::of_this_processor())[name].is_some(), expected, "{name}");
    }
}

#[test]
fn the_best_copy_of_the_cache() {
    let search = loader::of_this_processor();
    let chroot = Chroot::new(&[("etc/ld.so.conf", "/opt/lib\n")]);
    chroot.library("opt/lib/libx.so", &[]);
    chroot.library("usr/lib/x86_64-linux-gnu/glibc-hwcaps/x86-64-v2/libx.so", &[]);
    chroot.library("usr/lib/x86_64-linux-gnu/libx.so", &[]);
    chroot.program(&["libx.so"], &[]);
    chroot.ldconfig();
    let found = chroot.agree(&search)["libx.so"].clone().unwrap().0;
    assert_eq!(found.contains("x86-64-v2"), search.level >= 2, "{found}");
}

#[test]
fn musl() {
    let scratch = tempfile::tempdir().unwrap();
    let gcc = |output: &str, source: &str, arguments: &[&str]| {
        let path = scratch.path().join(output);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let input = common::write(scratch.path(), "x.c", source.as_bytes());
        let run = Command::new("musl-gcc").arg("-o").arg(&path).arg(input).args(arguments).output();
        let run = run.expect("programs for musl are made by musl-gcc (Debian: apt-get install musl-tools)");
        assert!(run.status.success(), "{run:?}");
        path
    };
    let l = format!("-L{}", scratch.path().join("l").display());
    let shared = ["-shared", "-fPIC", "-nostdlib"];
    gcc("l/libb.so", "int b(void) { return 1; }", &[&shared[..], &["-Wl,-soname,libb.so"]].concat());
    let a =
        [&shared[..], &["-Wl,-soname,liba.so", &l, "-lb", "-Wl,--enable-new-dtags,-rpath,/nowhere"]].concat();
    gcc("l/liba.so", "int b(void); int a(void) { return b(); }", &a);
    // A RUNPATH is inherited, unlike in glibc.
    let main = "int a(void); int main(void) { return a(); }";
    let link = [&l, "-la", "-Wl,--enable-new-dtags,-rpath,$ORIGIN/../l", "-Wl,--allow-shlib-undefined"];
    let program = gcc("bin/program", main, &link);
    let agree = || {
        // A root is read once: what is removed would stay.
        let root = DirectoryRoot::open(Path::new("/")).unwrap();
        let interpreter = "/lib/ld-musl-x86_64.so.1";
        let run = Command::new(interpreter).arg("--list").arg(&program).env_clear().output();
        let run = run.expect("its loader is asked (Debian: apt-get install musl)");
        let text = String::from_utf8_lossy(&run.stdout).into_owned();
        let theirs: BTreeSet<PathBuf> = text
            .lines()
            .filter_map(|line| line.rsplit_once(" (0x")?.0.split_once(" => "))
            .map(|(_, path)| std::fs::canonicalize(path).unwrap())
            // It lists itself by each name of the C library.
            .filter(|path| *path != std::fs::canonicalize(interpreter).unwrap())
            .collect();
        let closure = resolve::closure(&root, program.to_str().unwrap()).unwrap();
        let ours: BTreeSet<PathBuf> = closure
            .objects
            .iter()
            .skip(1)
            .filter(|loaded| loaded.rule != Rule::Interpreter)
            .map(|loaded| PathBuf::from(&loaded.file))
            .collect();
        assert_eq!(ours, theirs, "{text}{closure:#?}");
        assert_eq!(closure.missing().count() == 0, run.status.success(), "{run:?}");
        ours.len()
    };
    assert_eq!(agree(), 2);
    std::fs::remove_file(scratch.path().join("l/libb.so")).unwrap();
    assert_eq!(agree(), 1);
}

#[test]
fn an_artifact_over_this_machine() {
    let scratch = tempfile::tempdir().unwrap();
    let shared = ["-shared", "-fPIC", "-Wl,-soname,libacme.so"];
    common::gcc(scratch.path(), "opt/acme/lib/libacme.so", "int a(void) { return 1; }", &shared);
    let link = format!("-L{}", scratch.path().join("opt/acme/lib").display());
    let arguments = [&link, "-lacme", "-Wl,--enable-new-dtags,-rpath,/opt/acme/lib"];
    common::gcc(
        scratch.path(),
        "opt/acme/bin/run",
        "int a(void); int main(void) { return a(); }",
        &arguments,
    );
    let artifact = DirectoryRoot::open(scratch.path()).unwrap();
    let machine = DirectoryRoot::open(Path::new("/")).unwrap();
    let alone = resolve::closure(&artifact, "/opt/acme/bin/run").unwrap();
    assert_eq!(alone.missing().map(|(name, _)| name).collect::<Vec<_>>(), ["libc.so.6"]);
    let both = Layered::new(vec![&artifact as &dyn Root, &machine]);
    let closure = resolve::closure(&both, "/opt/acme/bin/run").unwrap();
    assert_eq!(closure.failures().count(), 0, "{closure:#?}");
    assert_eq!(closure.objects[1].path, "/opt/acme/lib/libacme.so");
}

/// What a list has beside the libraries: the program and its loader.
fn with_interpreter(libraries: &BTreeSet<PathBuf>, program: &Path) -> BTreeSet<PathBuf> {
    let more = [program, Path::new(loader::LOADER)].map(|path| std::fs::canonicalize(path).unwrap());
    libraries.iter().cloned().chain(more).collect()
}

/// Real paths in the lines of another program.
fn listed(text: &str, path: impl Fn(&str) -> Option<&str>) -> BTreeSet<PathBuf> {
    let paths = text.lines().filter_map(|line| path(line.trim()));
    paths.filter(|path| path.starts_with('/')).map(|path| std::fs::canonicalize(path).unwrap()).collect()
}

#[test]
fn others_that_read_without_running() {
    let root = DirectoryRoot::open(Path::new("/")).unwrap();
    let mut compared = 0;
    let sample: Vec<_> =
        programs().into_iter().filter(|(_, loader)| loader == loader::LOADER).step_by(17).collect();
    for (program, _) in sample {
        let closure = resolve::closure(&root, program.to_str().unwrap()).unwrap();
        let ours: BTreeSet<PathBuf> =
            closure.objects.iter().skip(1).map(|loaded| PathBuf::from(&loaded.file)).collect();
        // libtree leaves out the libraries of glibc and gcc without `-v`, and what they need without `-vv`.
        let run = Command::new("libtree").args(["-p", "-vv"]).arg(&program).env_clear().output();
        let run = run.expect("libtree is compared with (Debian: apt-get install libtree)");
        let text = String::from_utf8_lossy(&run.stdout).into_owned();
        let theirs = listed(&text, |line| line.find('/').and_then(|at| line[at..].split(' ').next()));
        let own = BTreeSet::from([program.canonicalize().unwrap()]);
        let theirs: BTreeSet<_> = theirs.difference(&own).cloned().collect();
        assert_eq!(ours, theirs, "libtree {}\n{text}", program.display());
        // lddtree lists the loader as the interpreter only, and is of no use where libraries differ by directory of
        // the wanter: it keeps one library a name. Programs of the system have no such pair.
        let run = Command::new("/usr/bin/python3")
            .args(["/usr/bin/lddtree", "-l"])
            .arg(&program)
            .env_clear()
            .output();
        let run = run.unwrap();
        assert!(
            run.status.success(),
            "lddtree is compared with (Debian: apt-get install pax-utils python3-pyelftools): {run:?}"
        );
        let text = String::from_utf8_lossy(&run.stdout).into_owned();
        let theirs = listed(&text, |line| Some(line));
        // It does not look into /usr/lib itself, where the loader does, and says the bare name of what it has not found there.
        if text.lines().any(|line| !line.is_empty() && !line.starts_with('/')) {
            assert!(
                theirs.is_subset(&with_interpreter(&ours, &program)),
                "lddtree {}\n{text}",
                program.display()
            );
            continue;
        }
        let interpreter = std::fs::canonicalize(loader::LOADER).unwrap();
        let own = BTreeSet::from([program.canonicalize().unwrap(), interpreter.clone()]);
        let theirs: BTreeSet<_> = theirs.difference(&own).cloned().collect();
        let ours: BTreeSet<_> = ours.into_iter().filter(|path| *path != interpreter).collect();
        assert_eq!(ours, theirs, "lddtree {}\n{text}", program.display());
        compared += 1;
    }
    assert!(compared >= 10, "only {compared} programs to compare");
}
