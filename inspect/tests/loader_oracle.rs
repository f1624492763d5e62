//! Each rule of the loader, on a small program made for it: what `resolve` finds is what the loader finds.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
#![allow(clippy::disallowed_methods, reason = "scratch folders, not the store")]

mod common;
#[path = "common/loader.rs"]
mod loader;

use std::path::{Path, PathBuf};
use std::process::Command;

use hatchway_inspect::resolve::{self, Closure, DirectoryRoot, Problem, Refusal, Rule, Search, Wish};

const NEW: &str = "-Wl,--enable-new-dtags,-rpath,";
const OLD: &str = "-Wl,--disable-new-dtags,-rpath,";

/// A scratch folder with libraries and a program.
struct Bench {
    scratch: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { scratch: tempfile::tempdir().unwrap() }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.scratch.path().join(path)
    }

    fn text(&self, path: &str) -> String {
        self.at(path).to_str().unwrap().to_owned()
    }

    /// A library without a SONAME, so that it is wanted by the name it is linked by.
    fn library(&self, path: &str, source: &str, arguments: &[&str]) -> PathBuf {
        let arguments = [&["-shared", "-fPIC"], arguments].concat();
        common::gcc(self.scratch.path(), path, source, &arguments)
    }

    fn program(&self, source: &str, arguments: &[&str]) -> PathBuf {
        let link = ["-Wl,--allow-shlib-undefined", "-Wl,--unresolved-symbols=ignore-in-shared-libs"];
        common::gcc(self.scratch.path(), "bin/program", source, &[arguments, &link].concat())
    }

    /// The program needs `liba`, which needs `libb`; each lies in a folder of its own.
    fn chain(&self, program: &[&str], a: &[&str]) -> PathBuf {
        let (in_a, in_b) = (format!("-L{}", self.text("a")), format!("-L{}", self.text("b")));
        self.library("b/libb.so", "int b(void) { return 1; }", &["-Wl,-soname,libb.so"]);
        let arguments = [&["-Wl,-soname,liba.so", &in_b, "-lb"], a].concat();
        self.library("a/liba.so", "int b(void); int a(void) { return b(); }", &arguments);
        self.program("int a(void); int main(void) { return a(); }", &[&[&in_a, "-la"], program].concat())
    }

    fn agree(&self, search: &Search) -> Closure {
        agree(&self.at("bin/program"), search)
    }
}

fn agree(program: &Path, search: &Search) -> Closure {
    let root = DirectoryRoot::open(Path::new("/")).unwrap();
    let verdict = loader::judge(Command::new(loader::LOADER).arg("--list").arg(program), search);
    loader::agree(&root, program.to_str().unwrap(), search, &verdict, Path::new("/"))
}

/// The file and the rule by which a name was found first.
fn found(closure: &Closure, name: &str) -> Option<(String, Rule)> {
    let edge = closure.edges.iter().find(|edge| edge.name == name).unwrap();
    edge.found.map(|index| (closure.objects[index].file.clone(), closure.objects[index].rule.clone()))
}

fn rule(closure: &Closure, name: &str) -> Option<Rule> {
    found(closure, name).map(|(_, rule)| rule)
}

#[test]
fn search_paths() {
    let (a, b) = ("$ORIGIN/../a", "$ORIGIN/../b");
    let both = |tag: &str| format!("{tag}{a}:{b}");
    let of_program = |bench: &Bench, entry: &str| Rule::Rpath {
        entry: entry.to_owned(),
        of: Some(bench.at("bin/program").canonicalize().unwrap().to_str().unwrap().to_owned()),
    };
    type Expected<'e> = &'e dyn Fn(&Bench) -> Option<Rule>;
    let cases: [(&str, String, String, Expected); 8] = [
        // An RPATH of the program serves its libraries …
        ("rpath", both(OLD), String::new(), &|bench| Some(of_program(bench, b))),
        // … a RUNPATH does not.
        ("runpath", both(NEW), String::new(), &|_| None),
        ("own-runpath", format!("{NEW}{a}"), format!("{NEW}${{ORIGIN}}/../b"), &|_| {
            Some(Rule::Runpath("${ORIGIN}/../b".to_owned()))
        }),
        // A library with a RUNPATH of its own no longer looks into its ancestors' RPATH.
        ("shadowed", both(OLD), format!("{NEW}/nowhere"), &|_| None),
        ("library-rpath", format!("{NEW}{a}"), format!("{OLD}{b}"), &|_| {
            Some(Rule::Rpath { entry: b.to_owned(), of: None })
        }),
        ("nothing", format!("{NEW}{a}"), "-O0".to_owned(), &|_| None),
        ("slashes", format!("{OLD}{a}//:/./{b}///"), String::new(), &|bench| {
            Some(of_program(bench, "/./$ORIGIN/../b///"))
        }),
        ("slashes-at-ends", format!("{OLD}{a}//:{b}///"), String::new(), &|bench| {
            Some(of_program(bench, "$ORIGIN/../b///"))
        }),
    ];
    for (name, program, library, expected) in cases {
        let bench = Bench::new();
        let library: Vec<&str> = [library.as_str()].into_iter().filter(|text| !text.is_empty()).collect();
        bench.chain(&[&program], &library);
        let closure = bench.agree(&loader::of_this_processor());
        assert_eq!(rule(&closure, "libb.so"), expected(&bench), "{name}");
    }
}

#[test]
fn tokens() {
    let bench = Bench::new();
    bench.chain(&[&format!("{OLD}$ORIGIN/../$LIB:$ORIGIN/../p/$PLATFORM:$ORIGIN/../$LIBX")], &[]);
    let search = loader::of_this_processor();
    let lib = bench.at("lib/x86_64-linux-gnu");
    let platform = bench.at("p").join(search.platform.as_deref().unwrap_or("x86_64"));
    std::fs::create_dir_all(&lib).unwrap();
    std::fs::create_dir_all(&platform).unwrap();
    std::fs::rename(bench.at("a/liba.so"), lib.join("liba.so")).unwrap();
    std::fs::rename(bench.at("b/libb.so"), platform.join("libb.so")).unwrap();
    assert_eq!(bench.agree(&search).missing().count(), 0);
}

#[test]
fn empty_entries_are_the_working_directory() {
    let bench = Bench::new();
    bench.chain(&[&format!("{OLD}$ORIGIN/../a::/nowhere")], &[]);
    assert_eq!(rule(&bench.agree(&loader::of_this_processor()), "libb.so"), None);
    let search = Search { working_directory: Some(bench.text("b")), ..loader::of_this_processor() };
    assert!(
        matches!(rule(&bench.agree(&search), "libb.so"), Some(Rule::Rpath { entry, .. }) if entry.is_empty())
    );
    // So is one of LD_LIBRARY_PATH, and a relative one starts there.
    let search =
        Search { library_path: vec!["../b".to_owned()], working_directory: Some(bench.text("a")), ..search };
    assert_eq!(rule(&bench.agree(&search), "libb.so"), Some(Rule::LibraryPath("../b".to_owned())));
}

#[test]
fn library_path_and_preload() {
    let base = loader::of_this_processor();
    for (tag, wins) in [(NEW, true), (OLD, false)] {
        let bench = Bench::new();
        bench.chain(&[&format!("{tag}$ORIGIN/../a")], &[&format!("{tag}$ORIGIN/../b")]);
        std::fs::create_dir(bench.at("other")).unwrap();
        std::fs::copy(bench.at("b/libb.so"), bench.at("other/libb.so")).unwrap();
        let search = Search { library_path: vec![bench.text("other")], ..base.clone() };
        let path = found(&bench.agree(&search), "libb.so").unwrap().0;
        assert_eq!(path.contains("/other/"), wins, "{tag}");
        // What is loaded under its SONAME satisfies the wish, wherever it came from.
        std::fs::rename(bench.at("other/libb.so"), bench.at("other/libnamed.so")).unwrap();
        let preload = vec![bench.text("other/libnamed.so"), "libnosuch.so".to_owned()];
        let search = Search { preload, ..base.clone() };
        let closure = bench.agree(&search);
        assert!(found(&closure, "libb.so").unwrap().0.ends_with("/other/libnamed.so"));
        let edge = closure.edges.iter().find(|edge| edge.name == "libb.so").unwrap();
        assert_eq!(edge.rule, Some(Rule::Loaded));
        assert_eq!(closure.failures().count(), 0, "a preload that is not found is no failure");
    }
}

#[test]
fn the_wrong_word_size_is_passed_over() {
    let bench = Bench::new();
    bench.chain(&[&format!("{OLD}$ORIGIN/../a:$ORIGIN/../narrow:$ORIGIN/../b")], &[]);
    let narrow = Command::new("gcc")
        .args(["-m32", "-shared", "-fPIC", "-nostdlib", "-x", "c", "/dev/null", "-o"])
        .arg(bench.at("narrow.so"))
        .output()
        .unwrap();
    assert!(narrow.status.success(), "32-bit libraries: apt-get install gcc-multilib\n{narrow:?}");
    std::fs::create_dir(bench.at("narrow")).unwrap();
    std::fs::rename(bench.at("narrow.so"), bench.at("narrow/libb.so")).unwrap();
    let closure = bench.agree(&loader::of_this_processor());
    let edge = closure.edges.iter().find(|edge| edge.name == "libb.so").unwrap();
    assert!(edge.found.is_some());
    assert!(matches!(edge.passed[0].refusal, Refusal::WrongClass(_)), "{edge:?}");
    std::fs::remove_file(bench.at("b/libb.so")).unwrap();
    assert_eq!(rule(&bench.agree(&loader::of_this_processor()), "libb.so"), None);
}

#[test]
fn what_cannot_be_loaded_ends_the_search() {
    type Make = fn(&Path);
    let cases: [(&str, Make, Option<Refusal>); 6] = [
        (
            "script",
            |path| std::fs::write(path, format!("GROUP ( libb.so.1 ) {}", " ".repeat(64))).unwrap(),
            Some(Refusal::LinkerScript),
        ),
        ("short", |path| std::fs::write(path, "INPUT").unwrap(), Some(Refusal::TooShort)),
        ("text", |path| std::fs::write(path, "x".repeat(100)).unwrap(), Some(Refusal::NotElf)),
        ("directory", |path| std::fs::create_dir(path).unwrap(), Some(Refusal::NotRegular)),
        ("dangling link", |path| std::os::unix::fs::symlink("nowhere", path).unwrap(), None),
        (
            "another ABI",
            |path| {
                let mut bytes = std::fs::read(path.with_file_name("../b/libb.so")).unwrap();
                bytes[7] = 9;
                std::fs::write(path, bytes).unwrap();
            },
            Some(Refusal::Invalid("ELF file OS ABI invalid".to_owned())),
        ),
    ];
    for (name, make, expected) in cases {
        let bench = Bench::new();
        bench.chain(&[&format!("{OLD}$ORIGIN/../a:$ORIGIN/../first:$ORIGIN/../b")], &[]);
        std::fs::create_dir(bench.at("first")).unwrap();
        make(&bench.at("first/libb.so"));
        let closure = bench.agree(&loader::of_this_processor());
        let edge = closure.edges.iter().find(|edge| edge.name == "libb.so").unwrap();
        let refusal = edge.problems.iter().find_map(|problem| match problem {
            Problem::Refused { refusal, .. } => Some(refusal.clone()),
            _ => None,
        });
        assert_eq!(refusal, expected, "{name}");
    }
}

#[test]
fn default_directories_may_be_refused() {
    let bench = Bench::new();
    bench.chain(&[&format!("{OLD}$ORIGIN/../a:$ORIGIN/../b"), "-Wl,-z,nodefaultlib"], &[]);
    let closure = bench.agree(&loader::of_this_processor());
    assert!(rule(&closure, "libb.so").is_some());
    let missing: Vec<_> = closure.missing().map(|(name, _)| name).collect();
    // The libraries are not linked that way: one that wants libc finds it, but the program looks first.
    assert!(missing.contains(&"libc.so.6"), "{missing:?}");
}

#[test]
fn copies_for_newer_processors() {
    let bench = Bench::new();
    bench.chain(&[&format!("{OLD}$ORIGIN/../a:$ORIGIN/../b")], &[]);
    let search = loader::of_this_processor();
    let faster = bench.at("b/glibc-hwcaps/x86-64-v2");
    std::fs::create_dir_all(&faster).unwrap();
    std::fs::copy(bench.at("b/libb.so"), faster.join("libb.so")).unwrap();
    let closure = bench.agree(&search);
    let path = found(&closure, "libb.so").unwrap().0;
    assert_eq!(path.contains("x86-64-v2"), search.level >= 2, "{path}");
    // Without the processor's level the copy is named.
    let program = bench.text("bin/program");
    let root = DirectoryRoot::open(Path::new("/")).unwrap();
    let closure = resolve::closure(&root, &program).unwrap();
    let loaded = closure.objects.iter().find(|loaded| loaded.path.ends_with("/libb.so")).unwrap();
    assert_eq!(loaded.faster.len(), 1);
    if search.legacy {
        let legacy = bench.at("b/tls");
        std::fs::create_dir_all(&legacy).unwrap();
        std::fs::copy(bench.at("b/libb.so"), legacy.join("libb.so")).unwrap();
        std::fs::remove_dir_all(bench.at("b/glibc-hwcaps")).unwrap();
        let path = found(&bench.agree(&search), "libb.so").unwrap().0;
        assert!(path.ends_with("/b/tls/libb.so"), "{path}");
    }
}

#[test]
fn one_file_by_two_names() {
    let bench = Bench::new();
    bench.library("l/libx.so", "int x(void) { return 1; }", &[]);
    std::fs::hard_link(bench.at("l/libx.so"), bench.at("l/liby.so")).unwrap();
    let link = format!("-L{}", bench.text("l"));
    let arguments = ["-Wl,--no-as-needed", &link, "-lx", "-ly", &format!("{NEW}$ORIGIN/../l")];
    bench.program("int main(void) { return 0; }", &arguments);
    let closure = bench.agree(&loader::of_this_processor());
    let indices: Vec<_> = closure
        .edges
        .iter()
        .filter(|edge| ["libx.so", "liby.so"].contains(&edge.name.as_str()))
        .map(|e| e.found)
        .collect();
    assert_eq!(indices.len(), 2);
    assert_eq!(indices[0], indices[1]);
}

#[test]
fn names_that_are_paths() {
    let bench = Bench::new();
    let library = bench.library("l/libx.so", "int x(void) { return 1; }", &[]);
    let arguments = ["-Wl,--no-as-needed", library.to_str().unwrap()];
    bench.program("int main(void) { return 0; }", &arguments);
    let closure = bench.agree(&loader::of_this_processor());
    assert_eq!(rule(&closure, library.to_str().unwrap()), Some(Rule::Path));
    std::fs::remove_file(&library).unwrap();
    assert_eq!(bench.agree(&loader::of_this_processor()).missing().count(), 1);
}

#[test]
fn filters() {
    for (option, present, failures) in [("-f", true, 0), ("-f", false, 0), ("-F", true, 0), ("-F", false, 1)]
    {
        let bench = Bench::new();
        let filter = format!("-Wl,{option},libfiltee.so");
        bench.chain(&[&format!("{OLD}$ORIGIN/../a:$ORIGIN/../b")], &[&filter]);
        if present {
            bench.library("b/libfiltee.so", "int f(void) { return 1; }", &[]);
        }
        let closure = bench.agree(&loader::of_this_processor());
        let edge = closure.edges.iter().find(|edge| edge.name == "libfiltee.so").unwrap();
        assert_eq!(edge.wish, if option == "-f" { Wish::Auxiliary } else { Wish::Filter });
        assert_eq!(edge.found.is_some(), present);
        assert_eq!(closure.failures().count(), failures, "{option} {present}");
    }
}

#[test]
fn symbol_versions() {
    let source =
        |second: &str| format!("int one(void) {{ return 1; }}\nint two(void) {{ return 2; }}\n{second}");
    let scripts = [
        ("both.map", "X_1 { global: one; local: *; };\nX_2 { global: two; } X_1;\n"),
        ("first.map", "X_1 { global: one; two; local: *; };\n"),
    ];
    let bench = Bench::new();
    for (name, script) in scripts {
        std::fs::write(bench.at(name), script).unwrap();
    }
    let build = |map: Option<&str>| {
        let mut arguments = vec!["-Wl,-soname,libx.so".to_owned()];
        arguments.extend(map.map(|map| format!("-Wl,--version-script={}", bench.text(map))));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        // That it calls something of the C library gives it a table of versions.
        let source = source("int getpid(void); int three(void) { return getpid(); }\n");
        bench.library("l/libx.so", &source, &arguments);
    };
    build(Some("both.map"));
    let link = format!("-L{}", bench.text("l"));
    let main = "int one(void); int two(void); int main(void) { return one() + two(); }";
    bench.program(main, &[&link, "-lx", &format!("{NEW}$ORIGIN/../l")]);
    assert_eq!(bench.agree(&loader::of_this_processor()).failures().count(), 0);
    build(Some("first.map"));
    let closure = bench.agree(&loader::of_this_processor());
    let problems: Vec<&Problem> = closure.failures().map(|(problem, _)| problem).collect();
    assert!(
        matches!(problems[..], [Problem::MissingVersion { library, version, weak: false, .. }]
            if library == "libx.so" && version == "X_2"),
        "{problems:?}"
    );
    // A library that offers no versions is accepted with a warning.
    build(None);
    let closure = bench.agree(&loader::of_this_processor());
    assert_eq!(closure.failures().count(), 0);
    let edge = closure.edges.iter().find(|edge| edge.name == "libx.so").unwrap();
    assert!(matches!(edge.problems[..], [Problem::NoVersions { .. }]), "{edge:?}");
}

#[test]
fn a_provider_without_a_table_of_versions() {
    let bench = Bench::new();
    std::fs::write(bench.at("x.map"), "X_1 { global: one; };\n").unwrap();
    let source = "int one(void) { return 1; }";
    let script = format!("-Wl,--version-script={}", bench.text("x.map"));
    bench.library("l/libx.so", source, &["-Wl,-soname,libx.so", &script]);
    let link = format!("-L{}", bench.text("l"));
    let main = "int one(void); int main(void) { return one() - 1; }";
    let program = bench.program(main, &[&link, "-lx", &format!("{NEW}$ORIGIN/../l")]);
    // Linked with nothing that has versions, it has no table of them; linked with the C library it has one.
    for (also, runs) in [("", false), ("int getpid(void); int two(void) { return getpid(); }", true)] {
        bench.library("l/libx.so", &format!("{source}\n{also}"), &["-Wl,-soname,libx.so"]);
        let run = Command::new(&program).output().unwrap();
        let said = String::from_utf8_lossy(&run.stderr);
        assert!(said.contains("no version information available"), "{said}");
        assert_eq!(run.status.success(), runs, "{said}");
        assert_eq!(said.contains("check_match: Assertion"), !runs, "{said}");
        let closure = bench.agree(&loader::of_this_processor());
        let problems: Vec<&Problem> = closure.failures().map(|(problem, _)| problem).collect();
        assert_eq!(problems.is_empty(), runs, "{problems:?}");
        // The same from the facts alone.
        let facts = hatchway_inspect::inspect(bench.scratch.path()).unwrap();
        let need = facts.needs.iter().find(|need| need.soname == "libx.so").unwrap();
        let missing: &[&str] = if runs { &[] } else { &["X_1"] };
        assert_eq!(need.missing_versions, missing);
    }
}

#[test]
fn folders_of_the_platform() {
    let bench = Bench::new();
    bench.chain(&[&format!("{OLD}$ORIGIN/../lib:$ORIGIN/../b")], &[]);
    let library = bench.at("lib/x86_64/liba.so");
    std::fs::create_dir_all(library.parent().unwrap()).unwrap();
    std::fs::rename(bench.at("a/liba.so"), library).unwrap();
    // This machine's loader judges; that it is older than 2.37 or not, its root says by itself.
    let search = Search { legacy: false, ..loader::of_this_processor() };
    let here = bench.agree(&search);
    assert_eq!(found(&here, "liba.so").is_some(), loader::of_this_processor().legacy);
    // The same under a loader that says that it is of another version.
    let loader = std::fs::read(loader::LOADER).unwrap();
    let mark = b" release version 2.";
    let at = loader.windows(mark.len()).position(|window| window == mark).unwrap() + mark.len();
    for (version, searched) in [("36", true), ("37", false), ("41", false)] {
        let mut changed = loader.clone();
        changed[at..at + 2].copy_from_slice(version.as_bytes());
        common::write(bench.scratch.path(), "lib64/ld-linux-x86-64.so.2", &changed);
        let root = DirectoryRoot::open(bench.scratch.path()).unwrap();
        let closure = resolve::closure(&root, "/bin/program").unwrap();
        assert_eq!(found(&closure, "liba.so").is_some(), searched, "2.{version}");
    }
}

#[test]
fn origin_of_a_program_started_through_a_link() {
    let bench = Bench::new();
    let program = bench.chain(&[&format!("{OLD}$ORIGIN/../a:$ORIGIN/../b")], &[]);
    std::fs::create_dir(bench.at("elsewhere")).unwrap();
    let link = bench.at("elsewhere/start");
    std::os::unix::fs::symlink(&program, &link).unwrap();
    // The kernel resolves the link of a program it starts; `--list` is given the real path to see the same.
    let root = DirectoryRoot::open(Path::new("/")).unwrap();
    let closure = resolve::closure(&root, link.to_str().unwrap()).unwrap();
    assert_eq!(closure.missing().count(), 0);
    assert_eq!(closure.objects[0].file, program.canonicalize().unwrap().to_str().unwrap());
    // A library found through a link: its own directory is that of the link.
    std::fs::rename(bench.at("a/liba.so"), bench.at("elsewhere/liba.so")).unwrap();
    std::os::unix::fs::symlink(bench.at("elsewhere/liba.so"), bench.at("a/liba.so")).unwrap();
    assert_eq!(bench.agree(&loader::of_this_processor()).missing().count(), 0);
}
