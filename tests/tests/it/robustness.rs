//! Full disks, killed builders, two at once, hosts that forbid.

use std::fs;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use hatchway_tests::bench::{Bench, Outcome};
use hatchway_tests::keys::Key;
use hatchway_tests::mirror::{Libc, Mirror, Suite};
use hatchway_tests::package::{Package, Packing};
use hatchway_tests::server::Server;
use hatchway_tests::snapshot;

use super::acme;

/// How often a build is killed, and how often interrupted.
const KILLS: u32 = 20;

/// A locked recipe of a package with many files, its `.deb` beside it.
fn locked(package: &Package) -> (Bench, Server) {
    let suite = Suite::new("bookworm", Libc::Exports("2.36"));
    let (bench, server) = Bench::in_memory().with_mirror(&Mirror::new(vec![suite], Key::new(1)));
    bench.put("acme.deb", package.deb());
    drop(bench.hatchway(&["new", "acme.deb"]).ok());
    drop(bench.hatchway(&["lock", "acme"]).ok());
    fs::copy(bench.path("work/acme.deb"), bench.path("work/recipes/acme/acme.deb")).unwrap();
    (bench, server)
}

fn many_files() -> Package {
    let package = Package::new("acme", "1.0").program("usr/bin/acme", "#!/bin/sh\n");
    (0..800).fold(package, |package, number| {
        package
            .file(&format!("usr/share/acme/{}/{number}", number % 7), format!("file {number}\n").repeat(20))
    })
}

/// The next build works, and nothing is left of those before.
fn check_recovered(bench: &Bench, reference: &str) {
    let outcome = bench.hatchway(&["build", "acme"]).ok();
    let store = bench.store();
    assert_eq!(store.names("trees"), [reference], "another tree");
    // One that died after its last rename left a tree and an empty folder; only a builder with work to do cleans up.
    if !outcome.stderr.contains("was built before") {
        assert_eq!(store.names("tmp"), [""; 0], "work in progress of the dead");
    }
    // Copies of vendor files have a test of their own.
    let downloads = store.partial().into_iter().filter(|name| !name.starts_with("import-"));
    assert_eq!(downloads.collect::<Vec<_>>(), [""; 0], "downloads of the dead");
    store.check_tree(reference);
    store.check_artifacts();
}

fn signal(child: &Child, name: &str) {
    let script = format!("kill -{name} {}", child.id());
    // A build that was quicker is no failure.
    drop(Command::new("sh").args(["-c", &script]).output().unwrap());
}

fn ended_at_any_moment(name: &str) {
    let (bench, _server) = locked(&many_files());
    // A build of an empty store, for the time it takes.
    fs::rename(bench.path("data"), bench.path("data-first")).unwrap();
    let started = Instant::now();
    drop(bench.hatchway(&["build", "acme"]).ok());
    let mut takes = started.elapsed();
    let reference = bench.store().names("trees").remove(0);
    let (mut ended, mut finished) = (0, 0);
    fs::rename(bench.path("data"), bench.path("data-reference")).unwrap();
    for number in 0..KILLS {
        let mut child = bench.start(&["build", "acme"]);
        std::thread::sleep(takes * number / KILLS + Duration::from_millis(u64::from(number % 3)));
        signal(&child, name);
        if child.wait().unwrap().success() {
            finished += 1;
            // The first one had the machine less to itself than those after it.
            takes = takes * 3 / 4;
        } else {
            ended += 1;
        }
        for tree in bench.store().names("trees") {
            bench.store().check_tree(&tree);
        }
        // From an empty store every third time; else on what the dead one left.
        if number % 3 == 2 || bench.store().names("builds").len() == 1 {
            check_recovered(&bench, &reference);
            fs::rename(bench.path("data"), bench.path(&format!("data-{number}"))).unwrap();
        }
    }
    assert!(ended >= KILLS / 6, "{ended} ended, {finished} finished: the moments are badly chosen");
    check_recovered(&bench, &reference);
}

#[test]
fn a_build_killed_at_any_moment_leaves_a_good_store() {
    ended_at_any_moment("KILL");
}

#[test]
fn a_build_interrupted_at_any_moment_leaves_a_good_store() {
    ended_at_any_moment("INT");
}

#[test]
fn a_killed_copy_of_a_vendor_file_is_removed_by_the_next_command() {
    let bench = Bench::new();
    let package =
        Package::new("acme", "1.0").packed(Packing::None).file("usr/share/acme/big", vec![7; 100 << 20]);
    bench.put("acme.deb", package.deb());
    let mut child = bench.start(&["new", "acme.deb"]);
    let patience = Instant::now();
    // A builder's folder and its lock file.
    while bench.store().names("tmp").len() < 2 {
        assert!(child.try_wait().unwrap().is_none(), "it was too quick to be killed");
        assert!(patience.elapsed() < Duration::from_secs(60), "it never began to copy");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_ne!(bench.store().names("tmp"), [""; 0], "it was too quick to be killed");
    drop(bench.hatchway(&["new", "acme.deb"]).ok());
    assert_eq!(bench.store().names("tmp"), [""; 0], "a copy of the dead stays for ever");
    bench.store().check_artifacts();
}

#[test]
fn a_lock_killed_at_any_moment_harms_nothing() {
    let (bench, _server) = locked(&many_files());
    let reference = bench.read("recipes/acme/recipe.lock");
    let started = Instant::now();
    drop(bench.hatchway(&["lock", "acme", "--refresh"]).ok());
    let takes = started.elapsed();
    for number in 0..KILLS {
        let mut child = bench.start(&["lock", "acme", "--refresh"]);
        std::thread::sleep(takes * number / KILLS);
        signal(&child, if number % 2 == 0 { "KILL" } else { "INT" });
        child.wait().unwrap();
        assert_eq!(bench.read("recipes/acme/recipe.lock"), reference, "a lock is the old one or the new one");
    }
    drop(bench.hatchway(&["lock", "acme"]).ok());
    assert_eq!(bench.read("recipes/acme/recipe.lock"), reference);
}

#[test]
fn a_run_in_one_go_may_be_interrupted_at_any_moment() {
    let (bench, _server) = Bench::ordinary().with_mirror(&Mirror::runnable());
    bench.put("acme.deb", acme().deb());
    let run = ["run", "-q", "./acme.deb", "--", "count"];
    for number in 0..KILLS {
        let mut child = bench.start(&run);
        // Ever later, so that each step is met with what the ones before have left.
        std::thread::sleep(Duration::from_millis(u64::from(number) * 8));
        signal(&child, if number % 4 == 0 { "KILL" } else { "INT" });
        child.wait().unwrap();
    }
    assert!(bench.hatchway(&run).ok().stdout.starts_with("/var/lib/acme/count has "));
    bench.store().check_tree(&bench.store().names("trees").remove(0));
    bench.store().check_artifacts();
}

#[test]
fn a_damaged_record_of_an_unpacked_package_is_made_anew() {
    let (bench, _server) = locked(&many_files());
    drop(bench.hatchway(&["build", "acme"]).ok());
    let tree = bench.store().names("trees").remove(0);
    let store = bench.path("data/store");
    for name in bench.store().names("builds") {
        fs::remove_file(store.join("builds").join(name)).unwrap();
    }
    for name in bench.store().names("packages") {
        let path = store.join("packages").join(name);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, text.replacen("type=", "tipe=", 1)).unwrap();
    }
    check_recovered(&bench, &tree);
}

#[test]
fn an_object_that_is_gone_is_told_or_made_anew() {
    let (bench, _server) = locked(&many_files());
    drop(bench.hatchway(&["build", "acme"]).ok());
    let tree = bench.store().names("trees").remove(0);
    let store = bench.path("data/store");
    for name in bench.store().names("builds") {
        fs::remove_file(store.join("builds").join(name)).unwrap();
    }
    fs::rename(store.join("trees").join(&tree), bench.path("tmp/tree")).unwrap();
    for fanout in bench.store().names("objects").iter().take(10) {
        fs::rename(store.join("objects").join(fanout), bench.path("tmp").join(fanout)).unwrap();
    }
    let outcome = bench.hatchway(&["build", "acme"]);
    if outcome.code == Some(0) {
        bench.store().check_tree(&tree);
    } else {
        super::hinted(&outcome, "error: ");
        assert_eq!(bench.store().names("trees"), [""; 0]);
    }
}

#[test]
fn builds_of_different_trees_at_once_share_the_store() {
    let (bench, _server) = locked(&many_files());
    for number in 0..3 {
        let name = format!("other-{number}");
        let package = many_files().file("usr/share/acme/own", name.clone());
        bench.put(&format!("{name}.deb"), package.deb());
        drop(bench.hatchway(&["new", &format!("{name}.deb"), "--name", &name]).ok());
        drop(bench.hatchway(&["lock", &name]).ok());
    }
    let names = ["other-0", "other-1", "other-2", "acme"];
    let children: Vec<Child> = names.iter().map(|name| bench.start(&["build", name])).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", bench.shown(&output));
    }
    let trees = bench.store().names("trees");
    assert_eq!(trees.len(), names.len());
    for tree in trees {
        bench.store().check_tree(&tree);
    }
    assert_eq!(bench.store().names("tmp"), [""; 0]);
}

#[test]
fn two_builds_of_one_tree_at_once_both_succeed() {
    let (bench, _server) = locked(&many_files());
    let children: Vec<Child> = (0..3).map(|_| bench.start(&["build", "acme", "--json"])).collect();
    let mut digests = Vec::new();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", bench.shown(&output));
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        digests.push(json["tree"].as_str().unwrap().to_owned());
    }
    digests.dedup();
    assert_eq!(digests, bench.store().names("trees"));
    check_recovered(&bench, &digests[0]);
}

#[test]
fn data_that_cannot_be_written_is_an_error() {
    let bench = Bench::new();
    bench.put("acme.deb", acme().deb());
    let outcome = bench.script("$HATCHWAY inspect --json ./acme.deb > /dev/full");
    assert_eq!(outcome.code, Some(2), "{outcome}");
    assert!(outcome.stderr.contains("error: cannot write to standard output"), "{outcome}");
}

#[test]
fn a_full_disk_is_told_and_leaves_no_half_tree() {
    let zeros = vec![0; 1 << 20];
    let package = (0..8).fold(Package::new("acme", "1.0"), |package, number| {
        let mut bytes = zeros.clone();
        bytes[0] = number;
        package.file(&format!("usr/share/acme/{number}"), bytes)
    });
    let (bench, _server) = locked(&package.program("usr/bin/acme", "#!/bin/sh\n"));
    let script = "set -e; cd \"$HATCHWAY_DATA_DIR/..\"; mount -t tmpfs -o size=5m none data; cd work
        code=0; \"$HATCHWAY\" build acme || code=$?; echo \"first: $code\"
        find ../data/store/tmp ../data/store/trees ../data/store/builds -mindepth 1
        mount -o remount,size=100m none ../data
        \"$HATCHWAY\" build acme; find ../data/store/trees -mindepth 1 -maxdepth 1 | wc -l";
    let outcome = bench.mounting_script(script);
    // Which of the files found no room is open.
    let path = outcome.stderr.split("device of `").nth(1).and_then(|rest| rest.split('`').next());
    let shown = outcome.to_string().replace(path.unwrap_or("no path"), "[file]");
    snapshot!(
        shown,
        r#"
exit 0
--- stdout
first: 2
1
--- stderr
  downloading ([n] MiB)
  unpacking ([n] MiB)
error: no space left on the device of `[file]`
hint: free some space (`hatchway store gc` removes what no recipe needs) and run the same command again; finished downloads are kept
  unpacking ([n] MiB)
tree [tree] built
next: hatchway run acme
"#
    );
}

#[test]
fn a_lock_of_an_older_recipe_is_refused() {
    let (bench, _server) = locked(&many_files());
    let recipe = bench.read("recipes/acme/recipe.toml");
    bench.put("recipes/acme/recipe.toml", format!("{recipe}\n[environment]\npackages = [\"sed\"]\n"));
    snapshot!(
        bench.hatchway(&["build", "acme"]),
        r#"
exit 2
--- stderr
error: the lock of `acme` does not fit its recipe any more
hint: run `hatchway lock acme`
"#
    );
    // What is not an input of the tree may change freely.
    bench.put("recipes/acme/recipe.toml", format!("{recipe}args = [\"--fast\"]\n"));
    drop(bench.hatchway(&["build", "acme"]).ok());
}

#[test]
fn a_damaged_lock_is_told() {
    let (bench, _server) = locked(&many_files());
    let lock = bench.read("recipes/acme/recipe.lock");
    bench.put("recipes/acme/recipe.lock", &lock[..lock.len() - 40]);
    snapshot!(
        bench.hatchway(&["build", "acme"]),
        r#"
exit 2
--- stderr
error: `recipes/acme/recipe.lock` is not a usable lock: invalid basic string, expected `"`
hint: run `hatchway lock` to write it anew
"#
    );
    bench.put("recipes/acme/recipe.lock", lock.replacen("schema = 1", "schema = 7", 1));
    snapshot!(
        bench.hatchway(&["build", "acme"]),
        r#"
exit 2
--- stderr
error: `recipes/acme/recipe.lock` is not a usable lock: its schema is 7, this version reads 1
hint: run `hatchway lock` to write it anew
"#
    );
}

#[test]
fn a_host_without_user_namespaces_names_the_setting() {
    let (bench, _server) = Bench::ordinary().with_mirror(&Mirror::runnable());
    bench.put("acme.deb", acme().deb());
    drop(bench.hatchway(&["run", "./acme.deb", "-q"]).ok());
    // The setting counts for each user namespace by itself: in a new one it may be 0 without harm to the host.
    let inner = "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --ambient-caps=-all --inh-caps=-all \
                 \"$HATCHWAY\" run -q ./acme.deb --bind license=acme.deb";
    let outcome: Outcome =
        bench.script(&format!("unshare -U --map-user=1000 --map-group=1000 --keep-caps sh -c '{inner}'"));
    snapshot!(
        outcome,
        r#"
exit 125
--- stderr
error: cannot create namespaces (user mount pid ipc uts net cgroup): No space left on device (os error 28)
hint: `user.max_user_namespaces` is 0, so this host allows no user namespace at all; to change it: `sudo sysctl user.max_user_namespaces=15000`, and the same line in /etc/sysctl.d/90-hatchway.conf to keep it
"#
    );
}

#[test]
fn a_store_in_a_place_that_cannot_be_written_is_told() {
    let bench = Bench::ordinary();
    bench.put("acme.deb", acme().deb());
    let outcome = bench.script("HATCHWAY_DATA_DIR=/proc/nowhere exec \"$HATCHWAY\" new acme.deb");
    snapshot!(
        outcome,
        r#"
exit 2
--- stderr
error: cannot create `/proc/nowhere/store/artifacts/.partial`
  because: No such file or directory (os error 2)
"#
    );
}
