//! Guests from a disk image that somebody brings, from the recipe to the record of their end. The guest is `com1-guest`.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hatchway_tests::bench::{Bench, Outcome};
use hatchway_tests::package::sha256;

use super::hinted;

/// A guest starts within seconds; other tests run beside it.
pub(super) const LONG: Duration = Duration::from_secs(60);

/// A recipe `acme` with the guest's disk beside it, and these further words in its `vm`.
pub(super) fn with(bench: &Bench, more: &str) -> PathBuf {
    let folder = bench.path("work/recipes/acme");
    fs::create_dir_all(&folder).unwrap();
    let disk = folder.join("disk.raw");
    if !disk.exists() {
        let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/com1-guest/build.sh");
        let built = Command::new("sh").arg(build).arg(&disk).status().unwrap();
        assert!(built.success(), "is gcc missing? apt-get install --no-install-recommends gcc");
    }
    let text = format!(
        "schema = 1\n[package]\nname = \"acme\"\n[run]\nvm = {{ image = \"disk.raw\", memory = \"32M\", serial = [\"stdio\"], {more} }}\n"
    );
    fs::write(folder.join("recipe.toml"), text).unwrap();
    disk
}

/// Says these letters to the guest, each when its answer to the one before is there.
pub(super) fn talk(bench: &Bench, letters: &str, arguments: &[&str]) -> Outcome {
    let words = arguments.join(" ");
    let mut child = bench
        .shell(&format!("exec env --default-signal=INT \"$HATCHWAY\" run acme {words}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut into, mut from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut said = Vec::new();
    let mut byte = [0];
    let mut letters = letters.bytes();
    while from.read(&mut byte).unwrap() == 1 {
        said.push(byte[0]);
        if byte[0] != b'\n' {
            continue;
        }
        match letters.next() {
            // A person at the terminal: the signal is for this process alone, as `kill` sends it.
            Some(b'!') => signal("INT", child.id()),
            Some(letter) => into.write_all(&[letter]).unwrap(),
            None => {}
        }
    }
    let mut output = child.wait_with_output().unwrap();
    output.stdout = said;
    bench.shown(&output)
}

pub(super) fn signal(name: &str, pid: u32) {
    let done = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status().unwrap();
    assert!(done.success());
}

/// The reason in the newest record, and that nothing else is left of the run.
pub(super) fn reason(bench: &Bench) -> serde_json::Value {
    let units = bench.path("data/run/units/acme");
    let mut runs: Vec<PathBuf> = fs::read_dir(&units).unwrap().map(|entry| entry.unwrap().path()).collect();
    runs.sort();
    let newest = runs.last().unwrap();
    let left: Vec<_> = fs::read_dir(newest).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["exit.json"], "left of the run");
    let record: serde_json::Value =
        serde_json::from_slice(&fs::read(newest.join("exit.json")).unwrap()).unwrap();
    record["reason"].clone()
}

#[test]
fn a_guest_is_seen_on_its_line_and_nothing_of_it_stays() {
    for bench in [Bench::new(), Bench::ordinary()] {
        let disk = with(&bench, "serial-number = \"SN 7\", vnc = true");
        let image = fs::read(&disk).unwrap();
        for _ in 0..2 {
            let outcome = talk(&bench, "cio", &["--bind", "image=recipes/acme/disk.raw"]).ok();
            let lines: Vec<&str> = outcome.stdout.lines().collect();
            assert_eq!(
                (lines[0], lines[1], lines[3]),
                ("com1-guest: start 1", "count 1", "off"),
                "{outcome}"
            );
            assert!(lines[2].starts_with("identity QEMU|SN 7|"), "{outcome}");
            assert!(
                outcome.stderr.contains("COM1: here\n") && outcome.stderr.contains("screen (VNC): "),
                "{outcome}"
            );
            assert_eq!(reason(&bench), serde_json::json!({ "exit": { "code": 0 } }));
        }
        assert!(fs::read(&disk).unwrap() == image, "the image was written to");
        assert_eq!(fs::read_dir(bench.path("data/state/acme/guest")).unwrap().count(), 0, "a disk was left");
    }
}

#[test]
fn a_licences_identity_is_the_same_at_every_start_and_can_be_bound() {
    let bench = Bench::new();
    with(&bench, "");
    let identity =
        |arguments: &[&str]| talk(&bench, "io", arguments).ok().stdout.lines().nth(1).unwrap().to_owned();
    assert_eq!(identity(&[]), identity(&[]));
    let recipe = bench.path("work/recipes/acme/recipe.toml");
    let text = fs::read_to_string(&recipe).unwrap() + "[identity]\nneeds = [\"mac\", \"machine-id\"]\n";
    fs::write(&recipe, text).unwrap();
    let bound = identity(&[
        "--bind identity.machine-id=00112233445566778899aabbccddeeff --bind identity.mac=52:54:00:00:00:01",
    ]);
    assert_eq!(bound, "identity QEMU||00112233-4455-6677-8899-aabbccddeeff");
    let plan = bench.hatchway(&["run", "acme", "--explain", "--bind", "identity.mac=52:54:00:00:00:01"]).ok();
    assert!(plan.stdout.contains(",mac=52:54:00:00:00:01 "), "{plan}");
    assert!(plan.stderr.contains("bound to a machine-id, and none is bound"), "{plan}");
}

#[test]
fn a_kept_guest_goes_on_with_its_disk_over_its_own_image_only() {
    let bench = Bench::new();
    let disk = with(&bench, "keep = true");
    for start in 1..=2 {
        let outcome = talk(&bench, "o", &[]).ok();
        assert!(outcome.stdout.starts_with(&format!("com1-guest: start {start}\n")), "{outcome}");
    }
    let mut changed = fs::read(&disk).unwrap();
    changed.push(0);
    fs::write(&disk, changed).unwrap();
    let outcome = bench.hatchway(&["run", "acme"]);
    assert_eq!(outcome.code, Some(125), "{outcome}");
    assert!(
        outcome.stderr.contains(
            "is not the one that `[bench]/data/state/acme/guest/kept/disk0.qcow2` was written over"
        ),
        "{outcome}"
    );
    assert!(outcome.stderr.contains("hint: bring that image back"), "{outcome}");
}

#[test]
fn ctrl_c_is_the_power_button_and_a_second_one_the_plug() {
    let bench = Bench::new();
    with(&bench, "grace-seconds = 50");
    let outcome = talk(&bench, "!", &[]);
    assert_eq!(outcome.stdout, "com1-guest: start 1\npower button\n", "{outcome}");
    assert_eq!(outcome.code, Some(0), "{outcome}");
    let by_itself = serde_json::json!({ "requested": { "signal": 2, "forced": false, "outcome": { "exit": { "code": 0 } } } });
    assert_eq!(reason(&bench), by_itself);
    // Deaf to the first, whose answer is the guest's line; the second one comes after it.
    let outcome = talk(&bench, "d!!", &[]);
    assert_eq!(outcome.stdout, "com1-guest: start 1\ndeaf\npower button\n", "{outcome}");
    assert_eq!(outcome.code, Some(137), "{outcome}");
    assert_eq!(reason(&bench)["requested"]["forced"], true);
    // Without a second one, the time decides.
    with(&bench, "grace-seconds = 1");
    let outcome = talk(&bench, "d!", &[]);
    assert_eq!(outcome.code, Some(137), "{outcome}");
    assert!(outcome.stderr.contains("warning: the guest's time is over"), "{outcome}");
}

/// A guest that has said something, and QEMU's number.
fn runs(bench: &Bench) -> (Child, u32) {
    let mut child = bench.start(&["run", "acme"]);
    // Its first word: from then on it is the guest that is ended, not its start.
    let mut byte = [0];
    assert_eq!(child.stdout.as_mut().unwrap().read(&mut byte).unwrap(), 1);
    let until = Instant::now() + LONG;
    let path = format!("/proc/{0}/task/{0}/children", child.id());
    let qemu = loop {
        let children = fs::read_to_string(&path).unwrap_or_default();
        let running = |pid: &&str| {
            fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|name| name.starts_with("hatchway-acme"))
        };
        if let Some(pid) = children.split_whitespace().find(running) {
            break pid.parse::<u32>().unwrap();
        }
        assert!(Instant::now() < until, "no QEMU");
        std::thread::sleep(Duration::from_millis(20));
    };
    (child, qemu)
}

// It was said that the guest does not run.
#[test]
fn who_comes_to_a_guest_that_runs_hears_that_nothing_of_ours_is_in_it() {
    let bench = Bench::new();
    with(&bench, "vnc = true");
    let (mut child, qemu) = runs(&bench);
    let refused = bench.hatchway(&["exec", "acme", "--", "true"]);
    assert_eq!(refused.code, Some(125), "{refused}");
    assert!(refused.stderr.starts_with("error: `acme` is a guest from a disk image and runs ("), "{refused}");
    assert!(
        refused.stderr.contains("\nhint: its screen: `vncviewer [bench]/data/run/units/acme/"),
        "{refused}"
    );
    let said = bench.hatchway(&["stats", "acme"]);
    assert_eq!((said.code, said.stdout.as_str()), (Some(1), ""), "{said}");
    let hint = format!("hint: `ps --ppid {} -o pid,etime,time,rss,comm` shows", child.id());
    assert!(said.stderr.contains(&hint) && said.stderr.ends_with("nothing else runs\n"), "{said}");
    // What runs as the unit's user has none of the caller's variables.
    let variables = fs::read(format!("/proc/{qemu}/environ")).unwrap();
    let mut names: Vec<&[u8]> = variables
        .split(|byte| *byte == 0)
        .filter_map(|line| line.split(|byte| *byte == b'=').next())
        .collect();
    names.retain(|name| !name.is_empty());
    assert_eq!(names, [b"PATH".as_slice(), b"TMPDIR"]);
    signal("KILL", qemu);
    child.wait().unwrap();
    let gone = bench.hatchway(&["exec", "acme", "--", "true"]);
    assert!(gone.stderr.starts_with("error: `acme` does not run\n"), "{gone}");
}

#[test]
fn whoever_is_killed_nothing_runs_on() {
    let bench = Bench::new();
    with(&bench, "");
    let started = || runs(&bench);
    let (child, qemu) = started();
    signal("KILL", qemu);
    let outcome = bench.shown(&child.wait_with_output().unwrap());
    assert_eq!(outcome.code, Some(137), "{outcome}");
    assert!(
        outcome.stderr.contains("warning: the guest was ended: QEMU was killed by signal 9"),
        "{outcome}"
    );
    assert_eq!(reason(&bench)["engine"]["outcome"]["signal"]["signal"], 9);

    let (mut child, qemu) = started();
    child.kill().unwrap();
    child.wait().unwrap();
    let until = Instant::now() + LONG;
    while Path::new(&format!("/proc/{qemu}")).exists() {
        assert!(Instant::now() < until, "QEMU runs on");
        std::thread::sleep(Duration::from_millis(20));
    }
    // The next run clears away what that one could not.
    assert_eq!(talk(&bench, "o", &[]).code, Some(0));
    assert_eq!(fs::read_dir(bench.path("data/state/acme/guest")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(bench.path("data/run/units/acme")).unwrap().count(), 2);
}

#[test]
fn images_that_are_not_what_they_should_be_are_refused_before_anything_opens_them() {
    let bench = Bench::new();
    let disk = with(&bench, "");
    let run = || {
        let outcome = bench.hatchway(&["run", "acme"]);
        assert_eq!(outcome.code, Some(125), "{outcome}");
        outcome
    };
    let evil = bench.path("work/recipes/acme/evil.qcow2");
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-u", "-F", "raw", "-b", "/etc/shadow"])
        .arg(&evil)
        .arg("1M")
        .status();
    assert!(made.expect("qemu-img is missing: apt-get install --no-install-recommends qemu-utils").success());
    let recipe = bench.path("work/recipes/acme/recipe.toml");
    let text = fs::read_to_string(&recipe).unwrap();
    let edit = |from: &str, to: &str| fs::write(&recipe, text.replace(from, to)).unwrap();
    edit("disk.raw", "evil.qcow2");
    assert!(run().stderr.contains("evil.qcow2` is the difference to another file\nhint: "));
    edit("disk.raw", "disk.iso");
    assert!(run().stderr.contains("error: there is no disk image `recipes/acme/disk.iso`\nhint: "));
    fs::copy(&disk, bench.path("work/recipes/acme/disk")).unwrap();
    edit("disk.raw", "disk");
    assert!(
        run().stderr.contains("does not say which format it has\nhint: say it in the recipe: `format = ")
    );
    edit("memory", &format!("sha256 = \"{}\", memory", "1".repeat(64)));
    let outcome = run();
    assert!(outcome.stderr.contains("is not the recipe's: its sha256 is "), "{outcome}");
    // The right one is read once, and again when the file has changed.
    let digest = sha256(&fs::read(&disk).unwrap());
    edit("memory", &format!("sha256 = \"{digest}\", memory"));
    let compared = || talk(&bench, "o", &[]).ok().stderr.contains("comparing `");
    assert_eq!((compared(), compared()), (true, false));
    fs::write(&disk, fs::read(&disk).unwrap()).unwrap();
    assert!(compared());
}

#[test]
fn what_a_guest_does_not_take_is_refused() {
    let bench = Bench::new();
    with(&bench, "");
    hinted(
        &bench.hatchway(&["lock", "acme"]),
        "`acme` is a guest from a disk image: there is nothing to lock or to build",
    );
    let run = |arguments: &[&str], says: &str| {
        let outcome = bench.hatchway(&[&["run", "acme"], arguments].concat());
        assert_eq!(outcome.code, Some(125), "{outcome}");
        assert!(outcome.stderr.contains(says), "not said: {says}\n{outcome}");
    };
    run(&["--", "x"], "a guest from a disk image takes no arguments");
    run(&["--share", "."], "QEMU cannot give a shared folder\nhint: ");
    run(&["--bind", "x=y"], "there is no slot `x`; it has image");
    let recipe = bench.path("work/recipes/acme/recipe.toml");
    let text = fs::read_to_string(&recipe).unwrap();
    fs::write(&recipe, format!("{text}gpu = true\nlimits = {{ tasks = 5 }}\n")).unwrap();
    run(&[], "does not carry out: gpu, audio and dbus, limits (a guest has `memory` and `cpus`)");
    with(&bench, "cpus = 0");
    run(&[], "a guest has 1 to 64 `cpus`");
}

/// The guest's disk as VirtualBox has them, beside the other one.
pub(super) fn converted(folder: &Path) {
    let made = Command::new("qemu-img")
        .args(["convert", "-f", "raw", "-O", "vdi"])
        .args([folder.join("disk.raw"), folder.join("disk.vdi")])
        .status();
    assert!(made.expect("qemu-img is missing: apt-get install --no-install-recommends qemu-utils").success());
}

#[test]
fn virtualbox_takes_the_same_recipe_and_says_what_it_lacks() {
    let bench = Bench::ordinary();
    let more = "driver = \"virtualbox\", ports = [\"8080:80\"]";
    with(&bench, more);
    let run = |arguments: &[&str]| bench.hatchway(&[&["run", "acme"], arguments].concat());
    let outcome = run(&["--explain"]);
    assert!(outcome.stderr.contains("VirtualBox cannot give a disk of the format raw"), "{outcome}");
    assert!(
        outcome.stderr.contains("hint: `qemu-img convert -f raw -O vdi [bench]/work/recipes/acme/disk.raw"),
        "{outcome}"
    );
    let folder = bench.path("work/recipes/acme");
    converted(&folder);
    let recipe = folder.join("recipe.toml");
    let text =
        fs::read_to_string(&recipe).unwrap().replace("disk.raw", "disk.vdi").replace("stdio", "socket");
    fs::write(&recipe, &text).unwrap();
    assert!(
        run(&["--explain"])
            .stderr
            .contains("VirtualBox cannot give a network card that only answers\nhint: ")
    );
    fs::write(&recipe, text + "network = \"host\"\n").unwrap();
    let plan = run(&["--explain"]).ok();
    assert!(plan.stdout.starts_with("VBoxManage createvm --name acme --uuid "), "{plan}");
    assert!(plan.stdout.contains(" --nat-pf1 tcp0,tcp,127.0.0.1,8080,,80 "), "{plan}");
    assert!(plan.stdout.trim_end().ends_with("--type headless"), "{plan}");
    // Whether or not this machine has it.
    let outcome = bench.script("PATH=/nonexistent; exec \"$HATCHWAY\" run acme");
    assert_eq!(outcome.code, Some(125), "{outcome}");
    assert!(outcome.stderr.contains("error: there is no `VBoxManage`\nhint: install it"), "{outcome}");
}

/// Answers as `VBoxManage` would, for what comes after the driver: a machine's state is a file. Its folder says what it is.
const STAND_IN: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 1
echo "$*" >> calls
echo "WARNING: The character device /dev/vboxdrv does not exist."
state=$(cat state 2>/dev/null || echo none)
case "$1" in
--version) echo 7.2.22r175245;;
createvm) echo poweroff > state;;
unregistervm) rm state;;
startvm) echo running > state;;
showvminfo)
    test "$state" != none || { echo "VBoxManage: error: Could not find a registered machine named '$2'" >&2; exit 1; }
    printf 'name="stand-in"\nVMState="%s"\n' "$state";;
controlvm) echo poweroff > state;;
esac
"#;

#[test]
fn with_a_stand_in_for_virtualbox_a_guest_runs_in_the_foreground_to_its_end() {
    let bench = Bench::ordinary();
    with(&bench, "driver = \"virtualbox\"");
    converted(&bench.path("work/recipes/acme"));
    let recipe = bench.path("work/recipes/acme/recipe.toml");
    let text =
        fs::read_to_string(&recipe).unwrap().replace("stdio", "socket").replace("disk.raw", "disk.vdi");
    let text = text + "network = \"none\"\n";
    fs::write(&recipe, text).unwrap();
    let folder = bench.path("work/vboxmanage-stand-in");
    fs::create_dir(&folder).unwrap();
    bench.allow("work/vboxmanage-stand-in");
    let program = bench.put("vboxmanage-stand-in/VBoxManage", STAND_IN);
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let run = |word: Option<&str>| {
        let text = "PATH=$PWD/vboxmanage-stand-in:$PATH exec env --default-signal=INT \"$HATCHWAY\" run acme";
        let child = bench.shell(text).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let until = Instant::now() + LONG;
        while fs::read_to_string(folder.join("state")).unwrap_or_default() != "running\n" {
            assert!(Instant::now() < until, "it is not started");
            std::thread::sleep(Duration::from_millis(20));
        }
        match word {
            Some(word) => fs::write(folder.join("state"), word).unwrap(),
            None => signal("INT", child.id()),
        }
        let outcome = bench.shown(&child.wait_with_output().unwrap());
        assert!(!folder.join("state").exists(), "its machine is still there: {outcome}");
        outcome
    };
    let asked = run(None);
    assert_eq!(asked.code, Some(0), "{asked}");
    assert!(asked.stderr.contains("pressing the guest's power button"), "{asked}");
    assert_eq!(reason(&bench)["requested"]["signal"], 2);
    let calls = fs::read_to_string(folder.join("calls")).unwrap();
    let order = [
        "--version",
        "createvm ",
        "modifyvm ",
        "createmedium ",
        "storageattach ",
        "startvm ",
        "controlvm ",
        "unregistervm ",
    ];
    let places: Vec<_> =
        order.iter().map(|call| calls.lines().position(|line| line.starts_with(call))).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}\n{calls}");
    assert_eq!(run(Some("poweroff\n")).code, Some(0));
    assert_eq!(reason(&bench), serde_json::json!({ "exit": { "code": 0 } }));
    let aborted = run(Some("aborted\n"));
    assert_eq!(aborted.code, Some(125), "{aborted}");
    assert!(
        aborted.stderr.contains("warning: the guest was ended: VirtualBox's process of it has ended"),
        "{aborted}"
    );
}
