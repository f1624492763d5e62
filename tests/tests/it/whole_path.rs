//! From a vendor's file to a running tool, step by step and in one go.

use hatchway_tests::bench::Bench;
use hatchway_tests::compile;
use hatchway_tests::keys::Key;
use hatchway_tests::mirror::{Mirror, three_suites};
use hatchway_tests::package::Package;
use hatchway_tests::snapshot;
use hatchway_tests::tar::{Tar, xz};

use super::{acme, hinted, needing};

#[test]
fn inspect_says_what_a_file_needs_and_how_it_would_run() {
    let bench = Bench::new();
    let package =
        needing(&[("libc.so.6", &["GLIBC_2.2.5", "GLIBC_2.34"]), ("libssl.so.3", &["OPENSSL_3.0.0"])])
            .field("Depends", "libc6 (>= 2.34), libssl3")
            .script("postinst", "#!/bin/sh\nset -e\nldconfig\nuseradd acme\n")
            .link("usr/bin/acme-link", "acme");
    bench.put("acme.deb", package.deb());
    snapshot!(
        bench.hatchway(&["inspect", "acme.deb"]),
        r#"
exit 0
--- stdout
acme.deb
  deb, [n] kB, 1 file
  sha256 [sha256]
  acme 1.0 (amd64)
  by Acme <acme@example.invalid>

Programs
  /usr/bin/acme       x86-64
  /usr/bin/acme-link  ELF

Libraries it needs from outside
  libc.so.6    up to GLIBC_2.34  by acme
  libssl.so.3  OPENSSL_3.0.0     by acme

Packages it declares
  libc6 (>= 2.34), libssl3

Scripts of the package (read, never run)
  postinst  4 lines  calls ldconfig, useradd

For the system
  account  useradd acme

Verdict
  rung fhs
  because nothing in it asks for more than namespaces over a tree of pinned
      packages [default]
  would move up to container if it had several services that an init system
      starts, or a helper that changes its user id
  would move up to vm if it had kernel modules that are built on the machine, or
      a kernel module of its own, or a Windows driver
  sureness high: everything was read, and nothing hints at more
  0 libraries found inside, 2 to come from outside (`hatchway lock` proves them)

Hatchway will not
  run its postinst on the host (useradd)
"#
    );
    let json = bench.hatchway(&["inspect", "acme.deb", "--json"]).ok().json();
    assert_eq!(json["plan"]["rung"], "fhs");
    assert_eq!(json["facts"]["package"]["name"], "acme");
}

#[test]
fn every_step_works_offline_against_a_mirror_and_names_the_next() {
    let mirror = Mirror::runnable();
    let (bench, _server) = Bench::new().with_mirror(&mirror);
    bench.put("acme.deb", acme().deb());
    snapshot!(
        bench.hatchway(&["new", "acme.deb"]),
        r#"
exit 0
--- stderr
wrote recipes/acme/recipe.toml
next: hatchway lock acme
"#
    );
    snapshot!(
        bench.hatchway(&["lock", "acme"]),
        r#"
exit 0
--- stderr
  reading the indices of bookworm
  `main/binary-amd64/Packages.gz` of debian:bookworm/main ([n] MiB)
  `main/Contents-amd64.gz` of debian:bookworm/main ([n] MiB)
  reading the indices of bookworm-updates
  downloading ([n] MiB)
locked: debian:bookworm (Wed, 01 Jan 2025 00:00:00 UTC), 16 packages, [n] MB, rung fhs
wrote recipes/acme/recipe.lock
next: hatchway build acme
"#
    );
    snapshot!(
        bench.hatchway(&["build", "acme"]),
        r#"
exit 0
--- stderr
  downloading ([n] MiB)
  unpacking ([n] MiB)
tree [tree] built
next: hatchway run acme
"#
    );
    snapshot!(
        bench.hatchway(&["run", "acme", "--bind", "license=acme.deb", "--", "echo", "a b", "--x", ""]),
        r#"
exit 0
--- stdout
<a b><--x><>
"#
    );
}

#[test]
fn an_ordinary_user_gets_the_same() {
    let mirror = Mirror::runnable();
    let (bench, _server) = Bench::ordinary().with_mirror(&mirror);
    bench.put("acme.deb", acme().deb());
    for step in [["new", "acme.deb"], ["lock", "acme"], ["build", "acme"]] {
        drop(bench.hatchway(&step).ok());
    }
    bench.put("license.dat", "licence of acme\n");
    snapshot!(
        bench.hatchway(&["run", "acme", "--bind", "license=license.dat", "--", "license"]),
        r#"
exit 0
--- stdout
licence of acme
"#
    );
}

#[test]
fn an_unknown_file_runs_in_one_go_and_each_step_is_explained() {
    let mirror = Mirror::runnable();
    let (bench, server) = Bench::new().with_mirror(&mirror);
    bench.put("acme.deb", acme().deb());
    snapshot!(
        bench.hatchway(&["run", "./acme.deb", "--", "version"]),
        r#"
exit 0
--- stdout
acme 1.0
--- stderr
inspected acme.deb: deb, 1 libraries from outside
wrote [bench]/data/recipes/acme/recipe.toml
  reading the indices of bookworm
  `main/binary-amd64/Packages.gz` of debian:bookworm/main ([n] MiB)
  `main/Contents-amd64.gz` of debian:bookworm/main ([n] MiB)
  reading the indices of bookworm-updates
  downloading ([n] MiB)
locked: debian:bookworm (Wed, 01 Jan 2025 00:00:00 UTC), 16 packages, [n] MB, rung fhs
  downloading ([n] MiB)
  unpacking ([n] MiB)
tree [tree] built
warning: the file slot `license` (/etc/acme/license.dat) is not bound; bind it with `--bind license=FILE`
"#
    );
    assert!(!bench.path("work/recipes").exists(), "the recipe stays in Hatchway's own folder");
    drop(server.requests());
    snapshot!(
        bench.hatchway(&["run", "./acme.deb", "--", "version"]),
        r#"
exit 0
--- stdout
acme 1.0
--- stderr
warning: the file slot `license` (/etc/acme/license.dat) is not bound; bind it with `--bind license=FILE`
"#
    );
    assert_eq!(server.requests(), [], "nothing is asked twice");
}

#[test]
fn keep_puts_the_recipe_of_a_file_into_recipes() {
    let mirror = Mirror::runnable();
    let (bench, _server) = Bench::ordinary().with_mirror(&mirror);
    bench.put("acme.deb", acme().deb());
    drop(bench.hatchway(&["run", "./acme.deb", "--keep", "--", "version"]).ok());
    assert!(bench.read("recipes/acme/recipe.toml").contains("program = \"/usr/bin/acme\""));
    assert!(bench.path("work/recipes/acme/recipe.lock").exists());
    // Another file of the same name must not take over a recipe that a person may have edited.
    bench.put("acme.deb", acme().file("usr/share/acme/more", "more").deb());
    let outcome = bench.hatchway(&["run", "./acme.deb", "--keep", "--", "version"]);
    assert_eq!(outcome.code, Some(125), "{outcome}");
    assert!(
        outcome
            .stderr
            .contains("error: `recipes/acme/recipe.toml` is there already, for another file\nhint: "),
        "{outcome}"
    );
    assert!(!outcome.stderr.contains("--force"), "`run` has no `--force`\n{outcome}");
}

#[test]
fn several_programs_are_a_question_and_the_flag_answers_it() {
    let mirror = Mirror::runnable();
    let (bench, _server) = Bench::new().with_mirror(&mirror);
    let tool = compile::program(super::ACME);
    let package = Package::new("suite", "2")
        .program("usr/bin/first", tool.clone())
        .program("usr/bin/second", tool.clone())
        .program("opt/suite/third", tool);
    bench.put("suite.deb", package.deb());
    drop(bench.hatchway(&["new", "suite.deb"]).ok());
    drop(bench.hatchway(&["lock", "suite"]).ok());
    snapshot!(
        bench.hatchway(&["run", "-q", "suite"]),
        r#"
exit 125
--- stderr
error: `suite` has several programs: /usr/bin/first, /usr/bin/second
hint: choose one: `--program /usr/bin/first`
"#
    );
    for program in ["first", "/usr/bin/first", "usr/bin/first", "opt/suite/third"] {
        let outcome =
            bench.hatchway(&["run", "-q", "suite", "--bind", "license=suite.deb", "--program", program]);
        assert_eq!(outcome.ok().stdout, "acme 1.0\n", "{program}");
    }
    snapshot!(
        bench.hatchway(&["run", "-q", "suite", "--bind", "license=suite.deb", "--program", "fourth"]),
        r#"
exit 127
--- stderr
error: `fourth` is in no folder of PATH in the tree
hint: name the program with its whole path, `program = "/opt/…"` in the recipe
"#
    );
}

#[test]
fn an_archive_without_a_layout_runs_from_a_folder_of_its_own() {
    let mirror = Mirror::runnable();
    let (bench, _server) = Bench::ordinary().with_mirror(&mirror);
    let tar = Tar::new().folder("acme-1.0/").file("acme-1.0/acme", 0o755, &compile::program(super::ACME));
    bench.put("acme.tar.xz", xz(&tar.finish()));
    let outcome = bench.hatchway(&["run", "-q", "./acme.tar.xz", "--keep", "--bind", "license=acme.tar.xz"]);
    assert_eq!(outcome.ok().stdout, "acme 1.0\n");
    assert!(bench.read("recipes/acme/recipe.toml").contains("unpack = \"/opt/acme\""));
    let relative = ["run", "-q", "acme", "--bind", "license=acme.tar.xz", "--program", "acme-1.0/acme"];
    assert_eq!(bench.hatchway(&relative).ok().stdout, "acme 1.0\n");
}

#[test]
fn a_second_lock_reads_no_network_and_a_second_build_writes_nothing() {
    let mirror = Mirror::new(three_suites(), Key::new(1));
    let (bench, server) = Bench::new().with_mirror(&mirror);
    bench.put("acme.deb", needing(&[("libc.so.6", &["GLIBC_2.34"])]).deb());
    drop(bench.hatchway(&["new", "acme.deb"]).ok());
    drop(bench.hatchway(&["lock", "acme"]).ok());
    let lock = bench.read("recipes/acme/recipe.lock");
    drop(server.requests());
    drop(bench.hatchway(&["lock", "acme"]).ok());
    assert_eq!(server.requests(), [], "a second lock");
    assert_eq!(bench.read("recipes/acme/recipe.lock"), lock);

    drop(bench.hatchway(&["build", "acme"]).ok());
    let before = bench.store().listing();
    drop(server.requests());
    snapshot!(
        bench.hatchway(&["build", "acme"]),
        r#"
exit 0
--- stderr
tree [tree] was built before
next: hatchway run acme
"#
    );
    assert_eq!(server.requests(), [], "a second build");
    assert_eq!(bench.store().listing(), before, "a second build writes");
    drop(bench.hatchway(&["build", "acme", "--offline"]).ok());
}

#[test]
fn the_same_lock_gives_the_same_tree_everywhere() {
    let mirror = Mirror::new(three_suites(), Key::new(1));
    let (root, server) = Bench::new().with_mirror(&mirror);
    let user = Bench::ordinary().with_server(&mirror, &server);
    let deb = needing(&[("libc.so.6", &["GLIBC_2.34"])]).deb();
    let mut digests = Vec::new();
    root.put("acme.deb", &deb);
    drop(root.hatchway(&["new", "acme.deb"]).ok());
    drop(root.hatchway(&["lock", "acme"]).ok());
    for bench in [&root, &user] {
        let folder = bench.path("work/recipes/acme");
        std::fs::create_dir_all(&folder).unwrap();
        for file in ["recipe.toml", "recipe.lock"] {
            std::fs::write(folder.join(file), root.read(&format!("recipes/acme/{file}"))).unwrap();
        }
        std::fs::write(folder.join("acme.deb"), &deb).unwrap();
        let built = bench.hatchway(&["build", "acme", "--json"]).ok();
        drop(built);
        digests.push(bench.store().names("trees").remove(0));
    }
    assert_eq!(digests[0], digests[1]);
    for (bench, digest) in [&root, &user].into_iter().zip(&digests) {
        bench.store().check_tree(digest);
    }
}

#[test]
fn fetch_brings_a_package_of_the_archive() {
    let mirror = Mirror::new(three_suites(), Key::new(1));
    let (bench, _server) = Bench::ordinary().with_mirror(&mirror);
    snapshot!(
        bench.hatchway(&["fetch", "debian:trixie/main/sed"]),
        r#"
exit 0
--- stdout
./sed_1.0-1_amd64.deb
--- stderr
  reading the indices of trixie
  `main/binary-amd64/Packages.gz` of debian:trixie/main ([n] MiB)
  `main/Contents-amd64.gz` of debian:trixie/main ([n] MiB)
  downloading ([n] MiB)
"#
    );
    let package = Package::new("sed", "1.0-1").file("usr/share/doc/sed/copyright", "Free.\n");
    assert_eq!(std::fs::read(bench.path("work/sed_1.0-1_amd64.deb")).unwrap(), package.deb());
    snapshot!(
        bench.hatchway(&["fetch", "debian:trixie/main/no-such"]),
        r#"
exit 2
--- stderr
error: there is no package `no-such` in debian:trixie/main
hint: check the spelling of `no-such`, or name another suite or component
"#
    );
    let outcome = bench.hatchway(&["fetch", "debian:trixie/contrib/sed"]);
    hinted(
        &outcome,
        "error: the index `debian:trixie/contrib` is not usable: it has no `contrib/binary-amd64/Packages`",
    );
    snapshot!(
        bench.hatchway(&["fetch", "debian:trixie/sed"]),
        r#"
exit 2
--- stderr
error: `debian:trixie/sed` does not name a package of Debian's archive: `debian:<suite>/<component>/<package>[:i386]`
hint: for example `debian:trixie/non-free/rar`
"#
    );
}

#[test]
fn a_recipe_without_lock_or_of_another_name_says_the_next_command() {
    let bench = Bench::new();
    bench.put("acme.deb", needing(&[]).deb());
    drop(bench.hatchway(&["new", "acme.deb"]).ok());
    snapshot!(
        bench.hatchway(&["build", "acme"]),
        r#"
exit 2
--- stderr
error: `acme` has no lock
hint: run `hatchway lock acme`
"#
    );
    snapshot!(
        bench.hatchway(&["lock", "acne"]),
        r#"
exit 2
--- stderr
error: there is no recipe `acne`
hint: looked in: recipes, [bench]/data/recipes, /etc/hatchway/recipes, /usr/share/hatchway/recipes
hint: make one with `hatchway new FILE --name acne`
"#
    );
    snapshot!(
        bench.hatchway(&["run", "./no-such.deb"]),
        r#"
exit 125
--- stderr
error: `./no-such.deb` is neither a file nor a recipe
hint: give a vendor's file, or the name of a recipe in `recipes/`
"#
    );
    snapshot!(
        bench.hatchway(&["new", "acme.deb"]),
        r#"
exit 2
--- stderr
error: `recipes/acme/recipe.toml` is there already
hint: give the new one another name with `--name NAME`, or `--force` to replace it
"#
    );
    snapshot!(
        bench.hatchway(&["new", "recipes"]),
        r#"
exit 2
--- stderr
error: `recipes` is a folder: pack it, for example with `tar`, to make it an artifact
"#
    );
}
