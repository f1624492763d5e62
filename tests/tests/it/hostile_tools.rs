//! Vendor packages and tools that try to reach the host: each of these once did, or nearly.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hatchway_tests::bench::{Bench, is_root};
use hatchway_tests::compile;
use hatchway_tests::mirror::Mirror;
use hatchway_tests::package::Package;

use super::{ACME, acme};

/// A bench with a mirror whose base brings default files, and a folder of the host that a package aims at.
fn target(bench: Bench) -> (Bench, hatchway_tests::server::Server, PathBuf) {
    let (bench, server) = bench.with_mirror(&Mirror::runnable());
    let aim = bench.path("work/aim");
    fs::create_dir_all(aim.join("secrets")).unwrap();
    fs::write(aim.join("keep"), "mine").unwrap();
    // Nothing but the program itself stands in the way.
    fs::set_permissions(&aim, fs::Permissions::from_mode(0o777)).unwrap();
    (bench, server, aim)
}

fn names(folder: &Path) -> Vec<String> {
    let mut all: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    all.sort();
    all
}

#[test]
fn a_package_cannot_write_through_its_own_links_while_the_tree_is_built() {
    // The builder puts the base's `.bashrc` and `.profile` into `/root` after the vendor's package is there.
    let (bench, _server, aim) = target(Bench::ordinary());
    let package = acme()
        .link("root", aim.to_str().unwrap())
        .file("usr/share/base-files/dot.bashrc", "echo owned\n")
        .file("usr/share/base-files/dot.profile", "echo owned\n");
    bench.put("acme.deb", package.deb());
    // Whether it is refused or built: nothing appears outside of the store.
    drop(bench.hatchway(&["run", "-q", "./acme.deb", "--", "version"]));
    assert_eq!(names(&aim), ["keep", "secrets"]);
}

#[test]
fn a_package_cannot_turn_the_builders_links_elsewhere() {
    let (bench, _server, _) = target(Bench::ordinary());
    bench.put("acme.deb", acme().link("bin", "opt/evil").file("opt/evil/x", "").deb());
    let outcome = bench.hatchway(&["run", "-q", "./acme.deb", "--", "version"]);
    assert_eq!(outcome.code, Some(125), "{outcome}");
    assert!(outcome.stderr.contains("`/bin` is the builder's own link"), "{outcome}");
}

#[test]
fn state_is_never_copied_from_the_host() {
    // The program names /var/opt/acme, so that `new` proposes it as state; the package makes it lead out.
    let source = ACME.replace("/var/lib/acme/count", "/var/opt/secrets/count");
    for bench in [Bench::new(), Bench::ordinary()] {
        let (bench, _server, aim) = target(bench);
        bench.put("aim/secrets/id_rsa", "a secret of the host");
        let package = Package::new("acme", "1.0")
            .field("Depends", "libc6 (>= 2.14)")
            .program("usr/bin/acme", compile::program(&source))
            .link("var/opt", aim.to_str().unwrap());
        bench.put("acme.deb", package.deb());
        let show = ["run", "-q", "./acme.deb", "--", "show", "/var/opt/secrets/id_rsa"];
        let outcome = bench.hatchway(&show);
        assert!(!outcome.stdout.contains("a secret"), "{outcome}");
        // What is copied into the state belongs to the tool, whether this run shows it or not.
        let copies = found(&bench.path(""), "id_rsa");
        assert_eq!(copies, [aim.join("secrets/id_rsa")], "{outcome}");
        assert_eq!(fs::read_to_string(&copies[0]).unwrap(), "a secret of the host");
    }
}

/// Every file of a name below a folder.
fn found(folder: &Path, name: &str) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            all.extend(found(&path, name));
        } else if entry.file_name() == name {
            all.push(path);
        }
    }
    all
}

#[test]
fn state_folders_do_not_lie_in_each_other() {
    let (bench, _server, _) = target(Bench::ordinary());
    bench.put("acme.deb", acme().deb());
    drop(bench.hatchway(&["new", "acme.deb"]).ok());
    let recipe = bench.read("recipes/acme/recipe.toml");
    let nested =
        recipe.replace("state = [\"/var/lib/acme\"]", "state = [\"/var/lib/acme\", \"/var/lib/acme/x\"]");
    assert_ne!(recipe, nested);
    bench.put("recipes/acme/recipe.toml", nested);
    let outcome = bench.hatchway(&["lock", "acme"]);
    assert!(outcome.stderr.contains("lie in each other"), "{outcome}");
}

#[test]
fn a_file_that_calls_itself_like_another_tool_does_not_become_it() {
    let (bench, _server, _) = target(Bench::ordinary());
    bench.put("good.deb", acme().deb());
    bench.put("bad.deb", acme().file("usr/share/acme/more", "more").deb());
    drop(bench.hatchway(&["run", "-q", "./good.deb", "--", "count"]).ok());
    let outcome = bench.hatchway(&["run", "-q", "./bad.deb", "--", "show", "/var/lib/acme/count"]);
    assert_eq!(outcome.code, Some(125), "{outcome}");
    assert!(
        outcome.stderr.contains("for another file\nhint: give this file's recipe another name"),
        "{outcome}"
    );
    let other = ["run", "-q", "./bad.deb", "--name", "other", "--", "show", "/var/lib/acme/count"];
    let outcome = bench.hatchway(&other);
    assert!(outcome.stdout.contains("No such file"), "{outcome}");
}

#[test]
fn a_key_added_after_the_lock_is_refused_not_ignored() {
    let (bench, _server, _) = target(Bench::ordinary());
    bench.put("acme.deb", acme().deb());
    for step in [["new", "acme.deb"], ["lock", "acme"], ["build", "acme"]] {
        drop(bench.hatchway(&step).ok());
    }
    let recipe = bench.read("recipes/acme/recipe.toml");
    for key in ["rung = \"native\"", "modules = [\"comedi_test\"]"] {
        bench.put("recipes/acme/recipe.toml", recipe.replace("[run]", &format!("[run]\n{key}")));
        for verb in ["build", "run", "shell"] {
            let outcome = bench.hatchway(&[verb, "acme"]);
            assert!(outcome.stderr.contains("does not carry out"), "{verb} with {key}\n{outcome}");
        }
    }
}

#[test]
fn a_folder_as_standard_input_is_refused() {
    let (bench, _server, _) = target(Bench::ordinary());
    bench.put("acme.deb", acme().deb());
    drop(bench.hatchway(&["run", "-q", "./acme.deb", "--", "version"]).ok());
    let outcome = bench.script("exec \"$HATCHWAY\" run -q acme -- version < /");
    assert_eq!(outcome.code, Some(125), "{outcome}");
    assert!(outcome.stderr.contains("standard input is a folder"), "{outcome}");
}

#[test]
fn a_parent_that_ignores_its_children_still_gets_the_exit_code() {
    let (bench, _server, _) = target(Bench::ordinary());
    bench.put("acme.deb", acme().deb());
    drop(bench.hatchway(&["run", "-q", "./acme.deb", "--", "version"]).ok());
    let python = "import os,signal,sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])";
    let outcome = bench.script(&format!("exec python3 -c '{python}' \"$HATCHWAY\" run -q acme -- exit 7"));
    assert_eq!(outcome.code, Some(7), "{outcome}");
}

#[test]
fn control_characters_in_names_do_not_reach_the_terminal() {
    let bench = Bench::ordinary();
    bench.put("acme.deb", acme().file("opt/\u{1b}[2Jx", "x").deb());
    let outcome = bench.hatchway(&["inspect", "acme.deb"]);
    assert_eq!(outcome.code, Some(2), "{outcome}");
    assert!(outcome.stderr.contains("control character"), "{outcome}");
    assert!(!outcome.stderr.contains('\u{1b}'), "{outcome}");
    bench.put("other.deb", acme().field("Homepage", "\u{1b}[2J").field("Section", "\u{1b}]0;x\u{7}").deb());
    let outcome = bench.hatchway(&["inspect", "other.deb"]);
    assert!(!outcome.stdout.contains('\u{1b}'), "{outcome}");
}

#[test]
fn root_does_not_run_a_recipe_that_others_may_change() {
    let (bench, _server) = Bench::new().with_mirror(&Mirror::runnable());
    bench.put("acme.deb", acme().deb());
    drop(bench.hatchway(&["new", "acme.deb"]).ok());
    let recipe = bench.path("work/recipes/acme/recipe.toml");
    fs::set_permissions(&recipe, fs::Permissions::from_mode(0o666)).unwrap();
    let outcome = bench.hatchway(&["lock", "acme"]);
    // An ordinary user answers for their own files.
    let refused = outcome.stderr.contains("may be changed by others than root");
    assert_eq!(refused, is_root(), "{outcome}");
}

/// Only a recipe found by its name was looked at; a path to one, and the one that a kept file has, were not.
#[test]
fn root_takes_no_recipe_of_others_by_another_way() {
    let (bench, _server, _) = target(Bench::new());
    bench.put("acme.deb", acme().deb());
    let kept = ["run", "-q", "--keep", "./acme.deb", "--", "version"];
    drop(bench.hatchway(&kept).ok());
    let folder = bench.path("work/recipes/acme");
    let foreign = |outcome: &hatchway_tests::bench::Outcome| {
        assert_eq!(outcome.code == Some(125), is_root(), "{outcome}");
        assert_eq!(outcome.stderr.contains("may be changed by others than root"), is_root(), "{outcome}");
    };
    for part in
        [folder.join("recipe.lock"), folder.join("recipe.toml"), folder.clone(), bench.path("work/recipes")]
    {
        let before = fs::metadata(&part).unwrap().permissions();
        fs::set_permissions(&part, fs::Permissions::from_mode(before.mode() | 0o022)).unwrap();
        foreign(&bench.hatchway(&kept));
        for path in ["acme", "recipes/acme", "./recipes/acme/recipe.toml"] {
            foreign(&bench.hatchway(&["run", "-q", path, "--", "version"]));
        }
        // It may be looked at.
        drop(bench.hatchway(&["recipe", "check", "acme"]).ok());
        fs::set_permissions(&part, before).unwrap();
    }
    for path in ["recipes/acme", "./recipes/acme/recipe.toml"] {
        drop(bench.hatchway(&["run", "-q", path, "--", "version"]).ok());
    }
    drop(bench.hatchway(&kept).ok());
}

#[test]
fn a_tool_never_runs_with_gid_0() {
    let (bench, _server, _) = target(Bench::new());
    bench.put("acme.deb", acme().deb());
    let outcome = bench.hatchway(&["run", "-q", "./acme.deb", "--user", "12345:0", "--", "version"]);
    let says = if is_root() { "uid 0 or gid 0" } else { "only root can choose another user" };
    assert!(outcome.stderr.contains(says), "{outcome}");
}

/// A disk with a folder in which a link and a file have the same name, which no ext4 of an honest kernel has: whoever makes both in
/// turn writes through the link.
fn hostile_disk(at: &Path, aim: &Path) {
    let debugfs = |script: &str| {
        let mut child = Command::new("/sbin/debugfs")
            .args(["-w", "-f", "/dev/stdin"])
            .arg(at)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    };
    fs::write(at, "").unwrap();
    fs::File::options().write(true).open(at).unwrap().set_len(16 << 20).unwrap();
    // Without checksums, so that one letter can be changed below.
    let made = Command::new("/sbin/mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-O", "^metadata_csum,^dir_index"])
        .arg(at)
        .status();
    assert!(made.unwrap().success());
    let content = at.with_extension("content");
    fs::write(&content, "written by a guest").unwrap();
    let name = "x".repeat(200);
    let mut script = format!("mkdir var-lib-acme\ncd var-lib-acme\nsymlink link-{name} {}\n", aim.display());
    // So many that the two names are in blocks of their own: in one block e2fsck sees them.
    (0..30).for_each(|number| script.push_str(&format!("mkdir {number}-{name}\n")));
    script.push_str(&format!("write {} LINK-{name}\n", content.display()));
    debugfs(&script);
    let mut bytes = fs::read(at).unwrap();
    let wrong = format!("LINK-{name}").into_bytes();
    let place = bytes.windows(wrong.len()).position(|window| window == wrong).unwrap();
    bytes[place..place + 4].copy_from_slice(b"link");
    fs::write(at, bytes).unwrap();
}

#[test]
fn a_guests_disk_writes_nothing_outside_of_the_state() {
    for bench in [Bench::new(), Bench::ordinary()] {
        let (bench, _server, aim) = target(bench);
        bench.put("acme.deb", acme().deb());
        drop(bench.hatchway(&["run", "-q", "./acme.deb", "--", "version"]).ok());
        let keep = aim.join("keep");
        fs::set_permissions(&keep, fs::Permissions::from_mode(0o666)).unwrap();
        let disk = bench.path("work/hostile.ext4");
        hostile_disk(&disk, &keep);
        // What it is without a sandbox: the check is content, and the link is followed.
        let taken = bench.path("work/taken");
        fs::create_dir_all(&taken).unwrap();
        let checked = Command::new("/sbin/e2fsck").args(["-f", "-p"]).arg(&disk).output().unwrap();
        assert!(matches!(checked.status.code(), Some(0 | 1)), "{checked:?}");
        let request = format!("rdump / {}", taken.display());
        drop(Command::new("/sbin/debugfs").args(["-R", &request]).arg(&disk).output().unwrap());
        assert_eq!(
            fs::read_to_string(&keep).unwrap(),
            "written by a guest",
            "the disk is not as hostile as it has to be"
        );
        fs::write(&keep, "mine").unwrap();

        let kept = bench.path("data/state/acme/disk.ext4");
        fs::copy(&disk, &kept).unwrap();
        // The unit's user, whoever that is here, had it for its guest.
        fs::set_permissions(&kept, fs::Permissions::from_mode(0o666)).unwrap();
        bench.allow("data/state/acme/disk.ext4");
        let outcome = bench.hatchway(&["run", "-q", "./acme.deb", "--", "version"]);
        assert_eq!(fs::read_to_string(&keep).unwrap(), "mine", "{outcome}");
        assert_eq!(outcome.code, Some(125), "{outcome}");
        assert!(outcome.stderr.contains("cannot read the state's disk"), "{outcome}");
    }
}
