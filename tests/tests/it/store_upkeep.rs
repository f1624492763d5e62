//! `hatchway store`: damage is found and mended, rubbish goes, what is needed stays.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use hatchway_tests::bench::{Bench, is_root};
use hatchway_tests::keys::Key;
use hatchway_tests::mirror::{Libc, Mirror, Suite};
use hatchway_tests::package::Package;
use hatchway_tests::server::Server;

use super::acme;

/// A tool with a closure of two packages, built.
fn built() -> (Bench, Server) {
    let suite = Suite::new("bookworm", Libc::Exports("2.36"));
    let (bench, server) = Bench::new().exact().with_mirror(&Mirror::new(vec![suite], Key::new(1)));
    bench.put("acme.deb", package("acme", 8).deb());
    make(&bench, "acme");
    (bench, server)
}

fn package(name: &str, files: u32) -> Package {
    let package = Package::new(name, "1.0").program(&format!("usr/bin/{name}"), "#!/bin/sh\n");
    let package =
        package.link("usr/share/doc-link", "doc").file("usr/share/own", format!("{name}\n").repeat(3000));
    (0..files).fold(package, |package, n| {
        package.file(&format!("usr/share/common/{n}"), format!("{n}\n").repeat(2000))
    })
}

/// From `NAME.deb` to a tree.
fn make(bench: &Bench, name: &str) {
    drop(bench.hatchway(&["new", &format!("{name}.deb"), "--name", name]).ok());
    drop(bench.hatchway(&["lock", name]).ok());
    drop(bench.hatchway(&["build", name]).ok());
}

fn tree(bench: &Bench) -> String {
    bench.store().names("trees").remove(0)
}

/// The kinds of damage that `verify` names, each once.
fn damage(bench: &Bench) -> Vec<String> {
    let outcome = bench.hatchway(&["store", "verify", "--json"]);
    let json = outcome.json();
    let findings = json["findings"].as_array().unwrap();
    let mut kinds: Vec<String> = findings
        .iter()
        .filter(|finding| finding["severity"] == "damage")
        .map(|finding| finding["kind"].as_str().unwrap().to_owned())
        .collect();
    kinds.dedup();
    assert_eq!(outcome.code, Some(i32::from(!kinds.is_empty())), "{outcome}");
    kinds
}

/// The object behind a file of the tree, by its inode.
fn object_of(bench: &Bench, below: &str) -> PathBuf {
    let store = bench.path("data/store");
    let wanted = fs::metadata(store.join("trees").join(tree(bench)).join(below)).unwrap().ino();
    let fanouts = fs::read_dir(store.join("objects")).unwrap().map(|entry| entry.unwrap().path());
    let mut objects =
        fanouts.flat_map(|fanout| fs::read_dir(fanout).unwrap().map(|entry| entry.unwrap().path()));
    objects.find(|path| fs::metadata(path).unwrap().ino() == wanted).expect("a tree's file has an object")
}

/// Changes a byte in place: size, mode and time stay.
fn rot(path: &Path) {
    let before = fs::metadata(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    let mut bytes = fs::read(path).unwrap();
    bytes[0] ^= 1;
    fs::write(path, bytes).unwrap();
    fs::File::options().write(true).open(path).unwrap().set_modified(before.modified().unwrap()).unwrap();
    fs::set_permissions(path, before.permissions()).unwrap();
}

fn first(bench: &Bench, folder: &str) -> PathBuf {
    bench.path("data/store").join(folder).join(bench.store().names(folder).remove(0))
}

/// Each kind of damage: what is done to the store, and how `verify` calls it.
type Harm = (&'static str, fn(&Bench), &'static [&'static str]);

const HARMS: &[Harm] = &[
    (
        "an object's content",
        |b| rot(&object_of(b, "usr/share/own")),
        &["object-changed", "tree-entry-changed"],
    ),
    (
        "an object that is gone",
        |b| fs::remove_file(object_of(b, "usr/share/own")).unwrap(),
        &["object-missing"],
    ),
    (
        "an object cut to nothing, as a power cut leaves it",
        |b| {
            let object = object_of(b, "usr/share/own");
            fs::set_permissions(&object, fs::Permissions::from_mode(0o644)).unwrap();
            fs::write(object, "").unwrap();
        },
        &["object-changed", "tree-entry-changed"],
    ),
    (
        "an object that may be written",
        |b| fs::set_permissions(object_of(b, "usr/share/own"), fs::Permissions::from_mode(0o644)).unwrap(),
        &["object-mode"],
    ),
    (
        "a tree's file",
        |b| fs::remove_file(in_tree(b, "usr/share/common/1")).unwrap(),
        &["tree-entry-missing"],
    ),
    ("a file too many", |b| fs::write(in_tree(b, "usr/share/extra"), "x").unwrap(), &["tree-entry-unknown"]),
    (
        "a link to elsewhere",
        |b| {
            let link = in_tree(b, "usr/share/doc-link");
            fs::remove_file(&link).unwrap();
            std::os::unix::fs::symlink("/etc", link).unwrap();
        },
        &["tree-entry-changed"],
    ),
    (
        "a folder's mode",
        |b| fs::set_permissions(in_tree(b, "usr/share"), fs::Permissions::from_mode(0o777)).unwrap(),
        &["tree-entry-changed"],
    ),
    (
        "a copy in the place of a link to the object, changed",
        |b| {
            let file = in_tree(b, "usr/share/own");
            let bytes = fs::read(&file).unwrap();
            fs::remove_file(&file).unwrap();
            fs::write(&file, bytes).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).unwrap();
            fs::File::open(&file)
                .unwrap()
                .set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1))
                .unwrap();
            rot(&file);
        },
        &["tree-entry-changed"],
    ),
    ("a tree that is gone", |b| fs::rename(in_tree(b, ""), b.path("tmp/gone")).unwrap(), &["tree-missing"]),
    ("a manifest", |b| fs::write(first(b, "manifests"), "#mtree\n").unwrap(), &["manifest-changed"]),
    ("a manifest that is gone", |b| fs::remove_file(first(b, "manifests")).unwrap(), &["manifest-missing"]),
    ("a download", |b| rot(&first(b, "artifacts")), &["artifact-changed"]),
    ("the record of a build", |b| fs::write(first(b, "builds"), "odd").unwrap(), &["build-record-changed"]),
    (
        "the record of an archive",
        |b| fs::write(first(b, "packages"), "odd").unwrap(),
        &["package-record-changed"],
    ),
    (
        "the record of a cache",
        |b| fs::write(b.path("data/store/results").join("a".repeat(64)), "odd").unwrap(),
        &["result-record-changed"],
    ),
    ("the record of a tool", |b| fs::write(first(b, "roots"), "odd").unwrap(), &["tool-record-changed"]),
];

fn in_tree(bench: &Bench, below: &str) -> PathBuf {
    bench.path("data/store/trees").join(tree(bench)).join(below)
}

#[test]
fn every_kind_of_damage_is_named_and_mended() {
    let (bench, _server) = built();
    // Beside the recipe, as its owner keeps it: a lost vendor file comes from there.
    fs::copy(bench.path("work/acme.deb"), bench.path("work/recipes/acme/acme.deb")).unwrap();
    let reference = tree(&bench);
    assert_eq!(damage(&bench), [""; 0]);
    for (what, harm, kinds) in HARMS {
        harm(&bench);
        assert_eq!(damage(&bench), *kinds, "{what}");
        let repaired = bench.hatchway(&["store", "repair"]);
        assert_eq!(repaired.code, Some(0), "{what}\n{repaired}");
        assert_eq!(damage(&bench), [""; 0], "{what}\n{repaired}");
        drop(bench.hatchway(&["build", "acme"]).ok());
        assert_eq!(bench.store().names("trees"), [reference.as_str()], "{what}");
        bench.store().check_tree(&reference);
        bench.store().check_artifacts();
        assert_eq!(bench.store().names("tmp"), [""; 0], "{what}");
    }
}

#[test]
fn a_quick_look_sees_all_but_contents() {
    let (bench, _server) = built();
    let object = object_of(&bench, "usr/share/own");
    rot(&object);
    let quick = ["store", "verify", "--quick"];
    drop(bench.hatchway(&quick).ok());
    fs::set_permissions(&object, fs::Permissions::from_mode(0o600)).unwrap();
    fs::OpenOptions::new().append(true).open(&object).unwrap().set_len(5).unwrap();
    let outcome = bench.hatchway(&quick);
    assert_eq!(outcome.code, Some(1), "{outcome}");
    for kind in ["(object-mode)", "(object-size)", "(tree-entry-changed)"] {
        assert!(outcome.stdout.contains(kind), "{kind}\n{outcome}");
    }
    assert!(
        outcome.stdout.contains("affects: acme") && outcome.stdout.contains("next: hatchway store repair")
    );
}

#[test]
fn what_cannot_be_mended_is_said_with_the_next_command() {
    let (bench, server) = built();
    rot(&object_of(&bench, "usr/share/own"));
    // The vendor's file is nowhere, and the mirror has gone.
    let acme = fs::read(bench.path("work/acme.deb")).unwrap();
    rot(&bench.path("data/store/artifacts").join(hatchway_tests::package::sha256(&acme)));
    drop(server);
    let outcome = bench.hatchway(&["store", "repair", "--offline"]);
    assert_eq!(outcome.code, Some(1), "{outcome}");
    assert!(
        outcome.stdout.contains("not mended: acme: the artifact `acme.deb` is not in the store"),
        "{outcome}"
    );
    assert!(outcome.stdout.contains("hint: put `acme.deb` into "), "{outcome}");
    fs::copy(bench.path("work/acme.deb"), bench.path("work/recipes/acme/acme.deb")).unwrap();
    drop(bench.hatchway(&["store", "repair", "--offline"]).ok());
    bench.store().check_tree(&tree(&bench));
}

/// It ended with 0 and "nothing is damaged", after it had said what was not mended: the damaged file had been taken away.
#[test]
fn a_vendors_file_that_nobody_has_any_more_stays_not_mended() {
    let (bench, _server) = built();
    let acme = fs::read(bench.path("work/acme.deb")).unwrap();
    rot(&bench.path("data/store/artifacts").join(hatchway_tests::package::sha256(&acme)));
    for arguments in [&["store", "repair"][..], &["store", "repair", "--json"], &["store", "repair"]] {
        let outcome = bench.hatchway(arguments);
        assert_eq!(outcome.code, Some(1), "{outcome}");
        assert!(outcome.stdout.contains("acme: the artifact `acme.deb` is not in the store"), "{outcome}");
        let counted = outcome.stderr.contains("nothing is damaged, but something is missing")
            && outcome.stderr.ends_with("1 thing was not mended\n");
        assert_eq!(counted, arguments.len() == 2, "{outcome}");
    }
    // The tree itself is whole.
    let outcome = bench.hatchway(&["store", "verify"]).ok();
    for part in ["missing: ", "(input-missing)", "`acme.deb`, which its lock names, is not", "affects: acme"]
    {
        assert!(outcome.stdout.contains(part), "{part}\n{outcome}");
    }
    fs::copy(bench.path("work/acme.deb"), bench.path("work/recipes/acme/acme.deb")).unwrap();
    drop(bench.hatchway(&["store", "repair"]).ok());
    assert_eq!(bench.hatchway(&["store", "verify"]).ok().stdout, "");
}

#[test]
fn what_interrupted_commands_left_is_no_damage_and_goes() {
    let (bench, _server) = built();
    let tmp = bench.path("data/store/tmp");
    fs::create_dir(tmp.join("1-2")).unwrap();
    fs::write(tmp.join("1-2.lock"), "").unwrap();
    // A power cut may lose one name of two.
    fs::create_dir_all(tmp.join("3-4/objects")).unwrap();
    let partial = bench.path("data/store/artifacts/.partial").join("ab".repeat(32));
    fs::write(&partial, "half").unwrap();
    let outcome = bench.hatchway(&["store", "verify"]).ok();
    assert_eq!(outcome.stdout.matches("(unfinished-work)").count(), 2, "{outcome}");
    assert!(outcome.stdout.contains("(unfinished-download)"), "{outcome}");
    drop(bench.hatchway(&["store", "gc"]).ok());
    assert!(partial.exists(), "a download that began lately is continued");
    drop(bench.hatchway(&["store", "gc", "--older-than", "0"]).ok());
    assert!(!partial.exists());
    assert_eq!(bench.store().names("tmp"), [""; 0]);
    assert_eq!(bench.hatchway(&["store", "verify"]).ok().stdout, "");
}

/// Two tools that share files, the vendor's files of both known to their recipes only.
fn two_tools() -> (Bench, Server) {
    let (bench, server) = built();
    bench.put("other.deb", package("other", 8).deb());
    make(&bench, "other");
    (bench, server)
}

#[test]
fn rubbish_is_what_no_recipe_names() {
    let (bench, _server) = two_tools();
    let everything = contents(&bench);
    let gc =
        |arguments: &[&str]| bench.hatchway(&[&["store", "gc", "--json"], arguments].concat()).ok().json();
    let first = gc(&["--older-than", "0"]);
    assert!(first["items"].as_array().unwrap().iter().all(|item| item["kind"] == "lock"), "{first}");
    assert!(contents(&bench) == everything, "nothing that is needed goes");
    let before = disk(&bench);
    let said =
        before["tools"].as_array().unwrap().iter().find(|tool| tool["tool"] == "other").unwrap().clone();
    assert!(said["shared-bytes"].as_u64().unwrap() > 8 * 4096, "{said}");
    fs::remove_file(bench.path("work/recipes/other/recipe.toml")).unwrap();
    // Young: kept, and said.
    let young = gc(&["--dry-run"]);
    assert_eq!((young["bytes"].as_u64(), young["young"].as_array().unwrap().len()), (Some(0), 1), "{young}");
    let planned = gc(&["--dry-run", "--older-than", "0"]);
    assert!(contents(&bench) == everything, "a dry run changes nothing");
    // By name it stays, although its recipe has gone.
    let kept = gc(&["--older-than", "0", "--keep", "other"]);
    assert_eq!(kept["bytes"], 0, "{kept}");
    let done = gc(&["--older-than", "0"]);
    assert_eq!((&planned["items"], &planned["bytes"]), (&done["items"], &done["bytes"]));
    let freed = done["bytes"].as_u64().unwrap();
    assert!(freed >= said["freed-bytes"].as_u64().unwrap(), "{said}\n{done}");
    let after = disk(&bench);
    assert_eq!(before["total-bytes"].as_u64().unwrap() - after["total-bytes"].as_u64().unwrap(), freed);
    assert_eq!(bench.store().names("trees").len(), 1);
    assert_eq!(damage(&bench), [""; 0]);
    bench.store().check_tree(&tree(&bench));
    // The other one is as it was, without the mirror.
    drop(bench.hatchway(&["build", "acme", "--offline"]).ok());
}

/// What the store holds, without the times of its folders: work in progress changes those.
fn contents(bench: &Bench) -> String {
    let listing = bench.store().listing();
    listing.lines().filter(|line| !line.ends_with(" /")).collect::<Vec<_>>().join("\n")
}

fn disk(bench: &Bench) -> serde_json::Value {
    bench.hatchway(&["store", "du", "--json"]).ok().json()
}

#[test]
fn the_sum_is_that_of_du() {
    let (bench, _server) = two_tools();
    let text = bench.hatchway(&["store", "du"]).ok();
    assert!(text.stdout.lines().all(|line| line.chars().count() <= 80), "{text}");
    // Lock files are made while adding up.
    let json = disk(&bench);
    let output = Command::new("du").args(["-s", "-B1"]).arg(bench.path("data/store")).output().unwrap();
    let du = String::from_utf8(output.stdout).unwrap();
    assert_eq!(json["total-bytes"].to_string(), du.split('\t').next().unwrap());
}

/// A recipe of which nobody knows what it names stopped the collector, and whoever could write one had it stop for ever.
#[test]
fn what_a_recipe_names_that_cannot_be_read_is_kept() {
    let (bench, _server) = two_tools();
    let (recipe, lock) = (bench.read("recipes/acme/recipe.toml"), bench.read("recipes/acme/recipe.lock"));
    let stored = || (bench.store().names("trees"), bench.store().names("artifacts"));
    let before = stored();
    for (file, text, sound, says) in [
        ("recipe.lock", "odd", &lock, "is not a usable lock"),
        ("recipe.toml", "odd", &recipe, "recipe.toml:1:4"),
    ] {
        bench.put(&format!("recipes/acme/{file}"), text);
        let outcome = bench.hatchway(&["store", "gc", "-q", "--older-than", "0"]).ok();
        assert!(outcome.stderr.contains("warning: acme: ") && outcome.stderr.contains(says), "{outcome}");
        assert!(
            outcome.stderr.contains("no vendor's file and no downloaded package is removed"),
            "{outcome}"
        );
        assert_eq!(stored(), before, "{file}");
        let json = bench.hatchway(&["store", "gc", "--json"]).ok().json();
        assert_eq!(json["unknown"].as_array().unwrap().len(), 1, "{json}");
        bench.put(&format!("recipes/acme/{file}"), sound);
    }
    assert_eq!(bench.hatchway(&["store", "gc", "-q", "--older-than", "0"]).ok().stderr, "");
    // The others' trees still go.
    bench.put("recipes/acme/recipe.toml", "odd");
    fs::remove_file(bench.path("work/recipes/other/recipe.toml")).unwrap();
    drop(bench.hatchway(&["store", "gc", "--older-than", "0"]).ok());
    assert_eq!((bench.store().names("trees").len(), bench.store().names("artifacts")), (1, before.1));
}

#[test]
fn roots_collector_and_repair_do_not_trust_a_recipe_of_others() {
    let (bench, _server) = built();
    fs::copy(bench.path("work/acme.deb"), bench.path("work/recipes/acme/acme.deb")).unwrap();
    let recipe = bench.path("work/recipes/acme/recipe.toml");
    fs::set_permissions(&recipe, fs::Permissions::from_mode(0o666)).unwrap();
    let artifacts = bench.store().names("artifacts");
    let outcome = bench.hatchway(&["store", "gc", "--older-than", "0"]).ok();
    // An ordinary user answers for their own files.
    assert_eq!(outcome.stderr.contains("may be changed by others than root"), is_root(), "{outcome}");
    assert_eq!(bench.store().names("artifacts"), artifacts);
    rot(&object_of(&bench, "usr/share/own"));
    rot(&bench.path("data/store/artifacts").join(&artifacts[0]));
    let outcome = bench.hatchway(&["store", "repair"]);
    assert_eq!(outcome.code == Some(1), is_root(), "{outcome}");
    assert_eq!(outcome.stdout.contains("not mended: acme: "), is_root(), "{outcome}");
    assert_eq!(outcome.stdout.contains("may be changed by others than root"), is_root(), "{outcome}");
}

/// A tool that waits, and the bench it runs on. Its recipe is gone.
fn running(bench: Bench) -> (Bench, Server, Child) {
    let (bench, server) = bench.exact().with_mirror(&Mirror::runnable());
    bench.put("acme.deb", acme().deb());
    drop(bench.hatchway(&["run", "-q", "./acme.deb", "--name", "acme", "--", "version"]).ok());
    let child = bench.start(&["run", "-q", "./acme.deb", "--name", "acme", "--", "wait"]);
    (bench, server, child)
}

fn a_running_tools_tree_stays(bench: Bench) {
    let (bench, _server, mut child) = running(bench);
    let mut line = [0; 8];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
    assert_eq!(&line, b"waiting\n");
    let tree = tree(&bench);
    fs::rename(bench.path("data/recipes"), bench.path("tmp/recipes")).unwrap();
    let gc = || bench.hatchway(&["store", "gc", "--older-than", "0", "--json"]).ok().json();
    let said = gc();
    assert_eq!(said["in-use"], serde_json::json!([tree]), "{said}");
    bench.store().check_tree(&tree);
    // Its objects and its manifest stay too.
    assert_eq!(damage(&bench), [""; 0]);
    // The half that the shell knows is killed; what it leaves behind still has the tree, or has ended.
    child.kill().unwrap();
    child.wait().unwrap();
    let mut ended = false;
    for _ in 0..600 {
        let inside = processes_of(&tree);
        let said = gc();
        if bench.store().names("trees").is_empty() {
            ended = true;
            break;
        }
        assert_eq!(said["in-use"], serde_json::json!([tree]), "{said}\nprocesses: {inside:?}");
        bench.store().check_tree(&tree);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(ended, "the tree of a tool that was killed stays for ever");
    assert_eq!(processes_of(&tree), [""; 0], "something still runs in a tree that is gone");
    assert_eq!(damage(&bench), [""; 0]);
}

/// Processes whose root lies in a tree, by their mounts.
fn processes_of(tree: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let inside =
        |path: &PathBuf| fs::read_to_string(path.join("mountinfo")).is_ok_and(|mounts| mounts.contains(tree));
    processes.filter(inside).map(|path| path.display().to_string()).collect()
}

#[test]
fn a_running_tools_tree_stays_for_an_ordinary_user() {
    a_running_tools_tree_stays(Bench::ordinary());
}

#[test]
fn a_running_tools_tree_stays_for_whoever_runs_the_tests() {
    a_running_tools_tree_stays(Bench::new());
}

#[test]
fn a_damaged_tree_in_use_is_left_alone() {
    let (bench, _server, mut child) = running(Bench::new());
    let mut line = [0; 8];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
    let greeting = in_tree(&bench, "usr/share/acme/greeting");
    rot(&greeting);
    let outcome = bench.hatchway(&["store", "repair"]);
    assert_eq!(outcome.code, Some(1), "{outcome}");
    assert!(
        outcome.stdout.contains("is in use: stop the tool, then `hatchway store repair` again"),
        "{outcome}"
    );
    assert_eq!(fs::read_to_string(&greeting).unwrap(), "iello from acme\n");
    child.kill().unwrap();
    child.wait().unwrap();
    let mended = (0..1200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        bench.hatchway(&["store", "repair"]).code == Some(0)
    });
    assert!(mended);
    assert_eq!(fs::read_to_string(&greeting).unwrap(), "hello from acme\n");
}

#[test]
fn a_store_on_several_file_systems_is_the_same_store() {
    let (bench, _server) = built();
    let reference = tree(&bench);
    // The store on a file system of its own, away from cache and state; then the trees on another one than the objects,
    // where a file of a tree is a copy.
    let script = "set -e; mount -t tmpfs none ../data; \"$HATCHWAY\" build -q acme; ls ../data/store/trees
        \"$HATCHWAY\" store verify -q
        \"$HATCHWAY\" store gc -q --older-than 0
        umount ../data; mount -t tmpfs none ../data; mkdir -p ../data/store/objects; mount -t tmpfs none ../data/store/objects
        \"$HATCHWAY\" build -q acme";
    fs::copy(bench.path("work/acme.deb"), bench.path("work/recipes/acme/acme.deb")).unwrap();
    let outcome = bench.mounting_script(script);
    assert!(outcome.stdout.starts_with(&format!("{reference}\n")), "{outcome}");
    // `tmp` and the objects have to be on one file system: that is said, not half done.
    super::hinted(&outcome, "cannot rename");
}

#[test]
fn state_is_filled_from_a_store_on_another_file_system() {
    let bench = Bench::ordinary();
    let package = acme().file("var/lib/acme/seed", "from the package\n");
    let (bench, _server) = bench.with_mirror(&Mirror::runnable());
    let elsewhere = tempfile::Builder::new().prefix("hatchway-test-").tempdir_in("/dev/shm").unwrap();
    let id = fs::metadata(bench.path("data")).unwrap();
    std::os::unix::fs::chown(elsewhere.path(), Some(id.uid()), Some(id.gid())).unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), bench.path("data/store")).unwrap();
    assert_ne!(
        fs::metadata(elsewhere.path()).unwrap().dev(),
        id.dev(),
        "the two have to be on different file systems"
    );
    bench.put("acme.deb", package.deb());
    let run = ["run", "-q", "./acme.deb", "--", "show", "/var/lib/acme/seed"];
    assert_eq!(bench.hatchway(&run).ok().stdout, "from the package\n");
    assert!(bench.state("/var/lib/acme").join("seed").is_file());
    assert_eq!(bench.hatchway(&["store", "verify"]).ok().stdout, "");
}

#[test]
fn roots_store_and_a_users_lie_side_by_side() {
    let suite = || Suite::new("bookworm", Libc::Exports("2.36"));
    let mirror = Mirror::new(vec![suite()], Key::new(1));
    let (root, server) = Bench::new().exact().with_mirror(&mirror);
    let user = Bench::ordinary().exact().with_server(&mirror, &server);
    for bench in [&root, &user] {
        bench.put("acme.deb", package("acme", 3).deb());
        make(bench, "acme");
    }
    assert_eq!(tree(&root), tree(&user), "one lock, one tree");
    // Neither needs the other's rights: with one store's tree damaged, the other is sound.
    rot(&object_of(&root, "usr/share/own"));
    assert_eq!(damage(&user), [""; 0]);
    if is_root() {
        let script = format!(
            "HATCHWAY_DATA_DIR={} exec \"$HATCHWAY\" store gc --older-than 0",
            root.path("data").display()
        );
        let outcome = user.script(&script);
        assert_eq!(outcome.code, Some(2), "a user must not collect in root's store\n{outcome}");
        assert!(outcome.stderr.contains("Permission denied"), "{outcome}");
    }
    drop(root.hatchway(&["store", "repair"]).ok());
    root.store().check_tree(&tree(&root));
}

#[test]
fn what_cannot_fit_is_refused_before_it_is_fetched() {
    // What no packing makes smaller.
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56).try_into().unwrap()
    })
    .take(3 << 20)
    .collect();
    let suite = Suite::new("bookworm", Libc::Exports("2.36"))
        .with(Package::new("large", "1.0").file("usr/share/large", noise));
    let (bench, server) = Bench::new().with_mirror(&Mirror::new(vec![suite], Key::new(1)));
    bench.put("acme.deb", package("acme", 1).field("Depends", "large").deb());
    drop(bench.hatchway(&["new", "acme.deb"]).ok());
    drop(bench.hatchway(&["lock", "acme"]).ok());
    fs::copy(bench.path("work/acme.deb"), bench.path("work/recipes/acme/acme.deb")).unwrap();
    let asked = server.requests().iter().filter(|request| request.path.contains("large")).count();
    let script = "mount -t tmpfs -o size=2m none ../data && exec \"$HATCHWAY\" build acme";
    let outcome = bench.mounting_script(script);
    super::hinted(&outcome, "are needed; on the device of");
    assert!(
        outcome.stderr.contains("hint: free some space: `hatchway store du` says what takes it"),
        "{outcome}"
    );
    let now = server.requests().iter().filter(|request| request.path.contains("large")).count();
    assert_eq!(now, asked, "it was fetched all the same");
}
