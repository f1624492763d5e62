//! `hatchway machine`: snapshots of what is kept of a guest from a disk image, on QEMU, and on a stand-in for VirtualBox, whose real
//! `VBoxManage` does the same in `vm/tests/virtualbox.rs`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use hatchway_tests::bench::{Bench, Outcome};

use super::hinted;
use super::machines::{converted, signal, talk, with};

fn verb(bench: &Bench, words: &[&str]) -> Outcome {
    bench.hatchway(&[&["machine"], words].concat())
}

/// How often its disk was started from.
fn starts(bench: &Bench) -> String {
    let outcome = talk(bench, "o", &[]).ok();
    outcome.stdout.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn a_kept_disk_goes_back_to_what_it_was() {
    for bench in [Bench::new(), Bench::ordinary()] {
        with(&bench, "keep = true");
        hinted(&verb(&bench, &["list", "acme"]), "`acme` has not run yet, so there is nothing to keep");
        assert_eq!(starts(&bench), "com1-guest: start 1");
        let none = verb(&bench, &["list", "acme"]).ok();
        assert_eq!((none.stdout.as_str(), none.stderr.as_str()), ("", "there is no snapshot\n"));
        assert_eq!(verb(&bench, &["snapshot", "acme", "clean"]).ok().stderr, "snapshot `clean` made\n");
        assert_eq!(starts(&bench), "com1-guest: start 2");
        hinted(&verb(&bench, &["snapshot", "acme", "clean"]), "there is a snapshot `clean` already");
        let made = verb(&bench, &["snapshot", "acme", "later", "--json"]).ok().json();
        assert_eq!(made, serde_json::json!({ "name": "acme", "snapshot": "later", "done": "made" }));
        let listed = verb(&bench, &["list", "acme"]).ok().stdout;
        let names: Vec<_> = listed.lines().filter_map(|line| line.split_once("  ")).collect();
        assert_eq!(names.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["clean", "later"], "{listed}");
        assert!(names.iter().all(|(_, made)| made.ends_with(" GMT")), "{listed}");
        let json = verb(&bench, &["list", "acme", "--json"]).ok().json();
        assert_eq!((&json[0]["name"], &json[1]["memory"]), (&"clean".into(), &false.into()), "{json}");
        assert!(json[0]["made"].as_i64() > Some(1_700_000_000), "{json}");
        drop(verb(&bench, &["restore", "acme", "clean"]).ok());
        assert_eq!(starts(&bench), "com1-guest: start 2");
        assert_eq!(starts(&bench), "com1-guest: start 3");
        drop(verb(&bench, &["delete", "acme", "clean"]).ok());
        let gone = verb(&bench, &["restore", "acme", "clean"]);
        hinted(&gone, "there is no snapshot `clean`");
        assert!(gone.stderr.ends_with("hint: there is later\n"), "{gone}");
        drop(verb(&bench, &["restore", "acme", "later"]).ok());
        assert_eq!(starts(&bench), "com1-guest: start 3");
    }
}

#[test]
fn a_guest_that_runs_is_left_alone() {
    let bench = Bench::new();
    with(&bench, "keep = true");
    assert_eq!(starts(&bench), "com1-guest: start 1");
    drop(verb(&bench, &["snapshot", "acme", "clean"]).ok());
    let mut child = bench.start(&["run", "acme"]);
    let mut byte = [0];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut byte).unwrap();
    for words in [["snapshot", "acme", "other"], ["restore", "acme", "clean"], ["delete", "acme", "clean"]] {
        hinted(
            &verb(&bench, &words),
            "`acme` runs, and a snapshot of its disk would be one of a disk in use",
        );
    }
    // Looking is no change.
    assert!(verb(&bench, &["list", "acme"]).ok().stdout.starts_with("clean  "));
    signal("TERM", child.id());
    assert!(child.wait().unwrap().success());
    drop(verb(&bench, &["delete", "acme", "clean"]).ok());
}

#[test]
fn what_has_no_snapshots_is_told_so() {
    let bench = Bench::new();
    with(&bench, "");
    let refused = verb(&bench, &["snapshot", "acme", "clean"]);
    hinted(&refused, "nothing of `acme` is kept: every start is the first");
    assert!(refused.stderr.contains("`keep = true`"), "{refused}");
    with(&bench, "keep = true");
    assert_eq!(starts(&bench), "com1-guest: start 1");
    for name in ["a b", "12", ".hidden"] {
        hinted(&verb(&bench, &["snapshot", "acme", name]), &format!("`{name}` is no name of a snapshot"));
    }
    bench.put("recipes/acme/recipe.toml", "schema = 1\n[package]\nname = \"acme\"\n");
    hinted(&verb(&bench, &["list", "acme"]), "`acme` is no guest from a disk image");
}

/// Answers as `VBoxManage` would: a machine's state and its snapshots are files.
const STAND_IN: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 1
echo "$*" >> calls
echo "WARNING: The character device /dev/vboxdrv does not exist."
state=$(cat state 2>/dev/null || echo none)
case "$1" in
--version) echo 7.2.22r175245;;
createvm) echo poweroff > state;;
startvm) echo running > state;;
controlvm) echo poweroff > state;;
showvminfo)
    test "$state" != none || { echo "VBoxManage: error: Could not find a registered machine named '$2'" >&2; exit 1; }
    printf 'name="stand-in"\nVMState="%s"\n' "$state"
    place=
    for name in $(cat snapshots 2>/dev/null); do
        printf 'SnapshotName%s="%s"\nSnapshotUUID%s="11111111-2222-3333-4444-5555555555%02d"\n' "$place" "$name" "$place" "${#place}"
        place=$place-1
    done;;
snapshot)
    case "$3" in
    take) echo "$4" >> snapshots;;
    delete) grep -v -x "$4" snapshots > left; mv left snapshots;;
    esac;;
esac
"#;

#[test]
fn with_a_stand_in_for_virtualbox_the_verbs_are_its_own() {
    let bench = Bench::ordinary();
    with(&bench, "driver = \"virtualbox\", keep = true");
    converted(&bench.path("work/recipes/acme"));
    let recipe =
        bench.read("recipes/acme/recipe.toml").replace("stdio", "socket").replace("disk.raw", "disk.vdi");
    bench.put("recipes/acme/recipe.toml", recipe + "network = \"none\"\n");
    let folder = bench.path("work/vboxmanage-stand-in");
    fs::create_dir(&folder).unwrap();
    bench.allow("work/vboxmanage-stand-in");
    let program = bench.put("vboxmanage-stand-in/VBoxManage", STAND_IN);
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let verb = |words: &str| {
        bench.script(&format!("PATH=$PWD/vboxmanage-stand-in:$PATH exec \"$HATCHWAY\" machine {words}"))
    };
    hinted(&verb("list acme"), "`acme` has not run yet, so there is nothing to keep");
    fs::write(folder.join("state"), "poweroff\n").unwrap();
    bench.allow("work/vboxmanage-stand-in/state");
    drop(verb("snapshot acme clean").ok());
    drop(verb("snapshot acme later").ok());
    assert_eq!(verb("list acme").ok().stdout, "clean\nlater\n");
    assert_eq!(verb("list acme --json").ok().json()[1]["made"], serde_json::Value::Null);
    hinted(&verb("snapshot acme clean"), "there is a snapshot `clean` already");
    drop(verb("restore acme clean").ok());
    drop(verb("delete acme later").ok());
    hinted(&verb("restore acme later"), "there is no snapshot `later`");
    fs::write(folder.join("state"), "running\n").unwrap();
    hinted(&verb("restore acme clean"), "`acme` runs, and a snapshot of its disk");
    let calls = fs::read_to_string(folder.join("calls")).unwrap();
    let asked: Vec<Vec<&str>> = calls
        .lines()
        .filter(|line| line.starts_with("snapshot "))
        .map(|line| line.split(' ').skip(2).collect())
        .collect();
    assert_eq!(asked, [["take", "clean"], ["take", "later"], ["restore", "clean"], ["delete", "later"]]);
}
