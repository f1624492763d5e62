//! Recipes beyond what `new` writes, and artifacts that another rung would have to run.

use std::fs;

use hatchway_tests::bench::{Bench, Outcome};
use hatchway_tests::compile;
use hatchway_tests::keys::Key;
use hatchway_tests::mirror::{LIBRARIES, Mirror, Suite, three_suites};
use hatchway_tests::package::{Package, sha256};
use hatchway_tests::server::Server;
use hatchway_tests::snapshot;

use super::{hinted, needing};

fn bookworm() -> Suite {
    three_suites().remove(0)
}

/// A bench with a recipe of these artifacts; `more` follows below.
fn with_recipe(suite: Suite, artifacts: &[&Package], more: &str) -> (Bench, Server) {
    let (bench, server) = Bench::ordinary().with_mirror(&Mirror::new(vec![suite], Key::new(1)));
    bench.configure("suites = [\"bookworm\"]\n");
    let folder = bench.path("work/recipes/acme");
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let mut recipe = String::from("schema = 1\n[package]\nname = \"acme\"\n");
    for package in artifacts {
        let (file, deb) = (format!("{}.deb", package.name), package.deb());
        recipe.push_str(&format!("[[artifact]]\nfile = \"{file}\"\nsha256 = \"{}\"\n", sha256(&deb)));
        fs::write(folder.join(file), deb).unwrap();
    }
    fs::write(folder.join("recipe.toml"), recipe + more).unwrap();
    (bench, server)
}

fn lock_and_build(bench: &Bench) -> Outcome {
    drop(bench.hatchway(&["lock", "acme"]).ok());
    bench.hatchway(&["build", "acme"])
}

#[test]
fn artifacts_satisfy_each_other_first() {
    let library = compile::library("libgauss.so.4", &["GAUSS_4"]);
    let tool = needing(&[("libgauss.so.4", &["GAUSS_4"])]).field("Depends", "libgauss (>= 4)");
    let gauss = Package::new("libgauss", "4.4").file(&format!("{LIBRARIES}/libgauss.so.4.4"), library);
    let (bench, _server) = with_recipe(bookworm(), &[&tool, &gauss], "");
    drop(lock_and_build(&bench).ok());
    let tree = bench.store().names("trees").remove(0);
    bench.store().check_tree(&tree);
    let link = bench.store().tree(&tree).join(LIBRARIES).join("libgauss.so.4");
    assert_eq!(
        fs::read_link(link).unwrap().to_str(),
        Some("libgauss.so.4.4"),
        "the link that ldconfig would make"
    );
}

#[test]
fn exclude_leaves_a_bogus_dependency_out() {
    let tool = needing(&[("libc.so.6", &["GLIBC_2.34"])]).field("Depends", "no-such-thing, libc6");
    let (bench, _server) =
        with_recipe(bookworm(), &[&tool], "[environment]\nexclude = [\"no-such-thing\"]\n");
    drop(lock_and_build(&bench).ok());
}

#[test]
fn a_pin_that_the_suite_does_not_have_is_told() {
    let tool = needing(&[("libc.so.6", &["GLIBC_2.34"])]);
    let (bench, _server) = with_recipe(bookworm(), &[&tool], "[environment]\npin = { sed = \"9.9\" }\n");
    let outcome = bench.hatchway(&["lock", "acme"]);
    hinted(&outcome, "error: no suite fits:\nbookworm: ");
    assert!(outcome.stderr.contains("9.9"), "the pin is not named\n{outcome}");
}

#[test]
fn links_of_the_recipe_are_in_the_tree() {
    let tool = Package::new("acme", "1").program("opt/acme/run", "#!/bin/sh\n");
    let links = "[environment.links]\n\"/usr/bin/acme\" = \"/opt/acme/run\"\n\"/bin/old\" = \"acme\"\n";
    let (bench, _server) = with_recipe(bookworm(), &[&tool], links);
    drop(lock_and_build(&bench).ok());
    let tree = bench.store().tree(&bench.store().names("trees")[0]);
    assert_eq!(fs::read_link(tree.join("usr/bin/acme")).unwrap().to_str(), Some("/opt/acme/run"));
    assert_eq!(fs::read_link(tree.join("usr/bin/old")).unwrap().to_str(), Some("acme"), "/bin is /usr/bin");
}

#[test]
fn packages_that_bring_one_path_with_different_content_collide() {
    let suite = bookworm()
        .with(Package::new("left", "1").file("usr/share/both", "left\n"))
        .with(Package::new("right", "1").file("usr/share/both", "right\n"));
    let tool =
        Package::new("acme", "1").field("Depends", "left, right").program("usr/bin/acme", "#!/bin/sh\n");
    let (bench, _server) = with_recipe(suite, &[&tool], "");
    snapshot!(
        lock_and_build(&bench),
        r#"
exit 2
--- stderr
  downloading ([n] MiB)
  unpacking ([n] MiB)
error: `left` and `right` both bring `/usr/share/both`, with different content
hint: leave one out: exclude = ["right"] in [environment]
"#
    );
    assert_eq!(bench.store().names("trees"), [""; 0]);
    assert_eq!(bench.store().names("tmp"), [""; 0]);
}

#[test]
fn replaces_decides_who_brings_a_path() {
    let suite = bookworm()
        .with(Package::new("left", "1").file("usr/share/both", "left\n").field("Replaces", "right (<< 2)"))
        .with(Package::new("right", "1").file("usr/share/both", "right\n"));
    let tool =
        Package::new("acme", "1").field("Depends", "left, right").program("usr/bin/acme", "#!/bin/sh\n");
    let (bench, _server) = with_recipe(suite, &[&tool], "");
    drop(lock_and_build(&bench).ok());
    let tree = bench.store().tree(&bench.store().names("trees")[0]);
    assert_eq!(fs::read_to_string(tree.join("usr/share/both")).unwrap(), "left\n");
}

#[test]
fn what_the_vendor_replaces_and_what_is_not_run_is_told() {
    let tool = Package::new("acme", "1")
        .program("usr/bin/acme", "#!/bin/sh\n")
        .file("usr/share/doc/sed/copyright", "ours now\n")
        .script("postinst", "#!/bin/sh\nset -e\nuseradd acme\n");
    let (bench, _server) = with_recipe(bookworm(), &[&tool], "");
    let outcome = lock_and_build(&bench).ok();
    let tree = bench.store().tree(&bench.store().names("trees")[0]);
    assert_eq!(fs::read_to_string(tree.join("usr/share/doc/sed/copyright")).unwrap(), "ours now\n");
    for note in [
        "note: `acme.deb`: the vendor's postinst was read but not run (normal form ",
        "note: `acme.deb` replaces `/usr/share/doc/sed/copyright` of `sed`\n",
    ] {
        assert!(outcome.stderr.contains(note), "no {note}\n{outcome}");
    }
}

#[test]
fn what_needs_another_rung_is_refused_with_its_reason() {
    let module = Package::new("acme", "1").file("lib/modules/6.1/acme.ko", compile::library("acme.ko", &[]));
    let (bench, _server) = with_recipe(bookworm(), &[&module], "");
    snapshot!(
        bench.hatchway(&["lock", "acme"]),
        r#"
exit 2
--- stderr
error: `acme` needs the vm rung, and its recipe does not ask for it
hint: `/lib/modules/6.1/acme.ko` is a kernel module: it needs a kernel of its own (kernel-module)
hint: this version of Hatchway builds no module and starts no Windows; `rung = "vm"` in [run] of the recipe runs it in a guest with Debian's kernel, whose modules `modules = […]` loads
hint: `rung = "fhs"` in [run] of the recipe runs it all the same, where this machine's kernel has what it needs
"#
    );
    let services = Package::new("acme", "1")
        .file("lib/systemd/system/one.service", "[Service]\nExecStart=/usr/bin/one\n")
        // A mould for more copies of `one` is no third.
        .file("lib/systemd/system/one@.service", "[Service]\nExecStart=/usr/bin/one %i\n")
        .file("lib/systemd/system/two.service", "[Service]\nExecStart=/usr/bin/two\n");
    let (bench, _server) = with_recipe(bookworm(), &[&services], "");
    snapshot!(
        bench.hatchway(&["lock", "acme"]),
        r#"
exit 2
--- stderr
error: `acme` needs the container rung, and its recipe does not ask for it
hint: it brings 2 services that want an init system, `/lib/systemd/system/one.service` among them (several-daemons)
hint: `services = […]` in [run] of the recipe has systemd start them: with `rung = "vm"` in a guest, as `hatchway new` writes it; with `rung = "container"` only where the engine has control groups of version 2 and users of its own
hint: `rung = "fhs"` in [run] of the recipe runs it all the same, without what that rung would add
"#
    );
}

#[test]
fn a_program_for_an_architecture_that_the_recipe_does_not_name_is_refused() {
    let (bench, _server) = Bench::new().with_mirror(&Mirror::new(three_suites(), Key::new(1)));
    let package = Package::new("acme", "1.0").program("usr/bin/acme", compile::program_for_i386());
    bench.put("acme.deb", package.deb());
    drop(bench.hatchway(&["new", "acme.deb"]).ok());
    let recipe = bench.read("recipes/acme/recipe.toml");
    assert!(
        recipe.contains("architectures = [\"amd64\", \"i386\"]  # /usr/bin/acme is a program"),
        "{recipe}"
    );
    let line = recipe.lines().find(|line| line.starts_with("architectures")).unwrap();
    bench.put("recipes/acme/recipe.toml", recipe.replace(line, ""));
    let outcome = bench.hatchway(&["lock", "acme"]);
    assert_eq!(outcome.code, Some(2), "{outcome}");
    assert!(
        outcome.stderr.contains("`usr/bin/acme` is for i386") && outcome.stderr.contains("i386"),
        "{outcome}"
    );
    assert!(
        !outcome.stderr.contains("the recipe `/usr/bin/acme`"),
        "a program is called a recipe\n{outcome}"
    );
}

#[test]
fn a_wrong_configuration_has_line_column_and_caret() {
    let bench = Bench::ordinary();
    bench.configure("suites = [\"bookworm\"]\nmirrors = \"none\"\n");
    bench.put("acme.deb", needing(&[]).deb());
    snapshot!(
        bench.hatchway(&["new", "acme.deb"]),
        r#"
exit 2
--- stderr
error: [bench]/config/hatchway/hatchway.toml:3:1: unknown field `mirrors`, expected one of `suites`, `keyring`, `python-index`, `index-max-age-hours`, `driver-root`, `bundles`, `vm-accel`, `mirror`
 3 | mirrors = "none"
   | ^^^^^^^
"#
    );
}
