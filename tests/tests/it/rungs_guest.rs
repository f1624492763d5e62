//! Rows of the suite for all rungs that a guest alone has: QEMU, its user, its ends, what executes it, its kernel.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use hatchway_tests::bench::{Bench, is_root};
use hatchway_tests::host;
use hatchway_tests::keys::Key;
use hatchway_tests::mirror::Mirror;
use hatchway_tests::package::Package;

use super::rungs::{Rungs, until};
use super::rungs_ends::{children, ended, signal, started};

/// QEMU's processes of this bench, by the files that they have open.
pub(super) fn guests(rungs: &Rungs) -> Vec<String> {
    let folder = rungs.bench.path("");
    let output = Command::new("pgrep")
        .args(["-f", "^[^ ]*qemu-system-x86_64 .*process=hatchway-vm"])
        .output()
        .unwrap();
    let of_bench = |pid: &&str| {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        open.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|file| file.starts_with(&folder))
    };
    String::from_utf8_lossy(&output.stdout).lines().filter(of_bench).map(str::to_owned).collect()
}

#[test]
fn a_guest_that_hangs_ends_some_time_after_its_caller() {
    let rungs = Rungs::new("");
    let mut child = started(&rungs, "vm", "trap \"\" TERM; echo ready; while :; do sleep 0.1; done");
    let qemu = guests(&rungs);
    assert_eq!(qemu.len(), 1, "{qemu:?}");
    signal(&child, "-KILL");
    child.wait().unwrap();
    // In its grace time it stops hearing anything, as with a kernel that has stopped. Before that, the end of its parent would wake it.
    assert!(Command::new("kill").args(["-STOP", &qemu[0]]).status().unwrap().success());
    std::thread::sleep(Duration::from_secs(10));
    assert_eq!(guests(&rungs), qemu, "it had no time");
    until("the guest outlives its caller", || guests(&rungs).is_empty());
}

#[test]
fn a_guest_and_a_run_on_another_rung_never_have_the_state_at_once() {
    let rungs = Rungs::new("state = [\"/var/lib/acme\"]");
    for (first, second, why) in
        [("fhs", "vm", "is in use by a run on another rung"), ("vm", "fhs", "is in use by a guest")]
    {
        let mut child = started(
            &rungs,
            first,
            "trap \"exit 0\" TERM; echo first > /var/lib/acme/who; echo ready; while :; do sleep 0.1; done",
        );
        let refused = rungs.shell(second, "$RUN -c true");
        assert_eq!(refused.code, Some(125), "{refused}");
        assert!(
            refused.stderr.contains(why) && refused.stderr.contains("hint: end that run first"),
            "{refused}"
        );
        signal(&child, "-TERM");
        ended(&mut child, first);
        let outcome = rungs.shell(second, "$RUN -c 'cat /var/lib/acme/who'").ok();
        assert_eq!(outcome.stdout, "first\n", "{second}\n{outcome}");
    }
    rungs.nothing_is_left();
}

#[test]
fn a_guest_that_is_gone_is_told_so() {
    let rungs = Rungs::new("");
    let mut child = started(&rungs, "vm", "echo ready; while :; do sleep 0.1; done");
    let qemu = guests(&rungs);
    assert_eq!(qemu.len(), 1, "{qemu:?}");
    assert!(Command::new("kill").args(["-KILL", &qemu[0]]).status().unwrap().success());
    let code = ended(&mut child, "vm").map(i64::from);
    let record = rungs.record();
    assert_eq!(code, record["code"].as_i64());
    let message = record["reason"]["engine"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("the guest is gone: QEMU ended (signal: 9"), "{record}");
    assert!(rungs.bench.read("err").contains("warning: the tool was ended: "), "{}", rungs.bench.read("err"));
}

#[test]
fn without_its_watcher_a_guest_goes_on_and_ends_as_ever() {
    let rungs = Rungs::new("");
    let inside = "trap \"echo usr1\" USR1; trap \"exit 9\" TERM; echo ready; while :; do sleep 0.1; done";
    for name in ["-TERM", "-KILL"] {
        let mut child = started(&rungs, "vm", inside);
        let watcher = children(&child.id().to_string(), "hatchway-shim");
        assert_eq!(watcher.len(), 1, "{watcher:?}");
        let line = fs::read_to_string(format!("/proc/{}/cmdline", watcher[0])).unwrap();
        assert!(line.contains("\0--watch\0"), "{line:?}");
        assert!(Command::new("kill").args(["-KILL", &watcher[0]]).status().unwrap().success());
        signal(&child, "-USR1");
        until("the tool is not there any more", || rungs.bench.read("out").contains("usr1"));
        signal(&child, name);
        let code = ended(&mut child, "vm");
        if name == "-TERM" {
            assert_eq!(code, Some(9));
            assert_eq!(rungs.record()["reason"]["requested"]["forced"], false, "{}", rungs.record());
        }
        // Of a guest that does not hang its own init is enough.
        until("the guest outlives its caller", || guests(&rungs).is_empty());
    }
    drop(rungs.shell("vm", "$RUN -c true").ok());
    rungs.nothing_is_left();
}

#[test]
fn qemu_of_a_tree_is_the_units_user_behind_its_sandbox() {
    let rungs = Rungs::new("");
    let inside = "trap \"exit 0\" TERM; id -u; id -g; echo ready; while :; do sleep 0.1; done";
    let mut child = started(&rungs, "vm", inside);
    let said = rungs.bench.read("out");
    let [uid, gid, _] = said.lines().collect::<Vec<_>>()[..] else { panic!("{said}") };
    let qemu = guests(&rungs);
    assert_eq!(qemu.len(), 1, "{qemu:?}");
    let status = fs::read_to_string(format!("/proc/{}/status", qemu[0])).unwrap();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
    if is_root() {
        assert_ne!(uid, "0");
        assert_eq!(field("Uid:"), [uid; 4].join("\t"));
        assert_eq!(field("Gid:"), [gid; 4].join("\t"));
        assert_eq!(field("Groups:"), "");
    }
    // prctl(2), `PR_GET_SECCOMP`: 2 is a filter.
    assert_eq!((field("Seccomp:"), field("CapEff:")), ("2", "0000000000000000"));
    let line = fs::read_to_string(format!("/proc/{}/cmdline", qemu[0])).unwrap();
    let sandbox = "\0-sandbox\0on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny\0";
    assert!(line.contains(sandbox), "{}", line.replace('\0', " "));
    signal(&child, "-TERM");
    assert_eq!(ended(&mut child, "vm"), Some(0));
    rungs.nothing_is_left();
}

/// A stand-in for QEMU: under KVM it does as it is told, otherwise it is QEMU. What it is started with it writes down, beside the
/// folder that it is in: of the caller's variables it has none.
const STAND_IN: &str = r#"#!/bin/sh
case " $* " in
*accel=kvm*) echo kvm >> "${0%/*}/../asked"; UNDER_KVM ;;
*) echo tcg >> "${0%/*}/../asked"; exec QEMU "$@" ;;
esac
"#;

/// The machine as one of which KVM can be expected: a processor that shows `vmx`, and a device that everybody may open. All of
/// it in a mount namespace of the line's own.
const MACHINE_WITH_KVM: &str = r#"sed 's/^flags\t*: /&vmx /' /proc/cpuinfo > cpuinfo
mkdir -p dev && mount -t tmpfs -o mode=755 dev dev
for name in null zero full random urandom tty; do touch dev/$name; mount --bind /dev/$name dev/$name; done
for name in pts shm; do mkdir dev/$name; mount --rbind /dev/$name dev/$name; done
ln -s pts/ptmx dev/ptmx; ln -s /proc/self/fd dev/fd
touch dev/kvm; chmod 666 dev/kvm
mount --bind cpuinfo /proc/cpuinfo; mount --rbind dev /dev
"#;

#[test]
fn where_kvm_does_not_run_a_guest_it_is_run_in_software_and_this_is_remembered() {
    assert!(is_root(), "run this test as root: it shows the program another machine");
    let qemu = Command::new("sh").args(["-c", "command -v qemu-system-x86_64"]).output().unwrap();
    let qemu = String::from_utf8(qemu.stdout).unwrap().trim().to_owned();
    assert!(!qemu.is_empty(), "install the package `qemu-system-x86`");
    for (under_kvm, says) in [
        // As on a machine whose `/dev/kvm` is there and runs no guest.
        ("exec sleep 1000", "not within 10 seconds"),
        (
            "echo 'failed to initialize kvm: Permission denied' >&2; exit 1",
            "QEMU ended (exit status: 1); QEMU says: failed to initialize kvm: Permission denied",
        ),
    ] {
        let rungs = Rungs::without_engine(Bench::new().exact(), "");
        rungs.bench.configure("");
        let put = |name: &str, text: &str, mode: u32| {
            let path = rungs.bench.put(name, text);
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        fs::create_dir(rungs.bench.path("work/bin")).unwrap();
        let stand_in = STAND_IN.replace("UNDER_KVM", under_kvm).replace("QEMU", &qemu);
        put("bin/qemu-system-x86_64", &stand_in, 0o755);
        put("asked", "", 0o666);
        let line = format!(
            "{MACHINE_WITH_KVM}export PATH=$PWD/bin:$PATH\n\
             $HATCHWAY run acme --rung vm --program /usr/bin/dash -- -c 'echo there'"
        );
        let outcome = rungs.bench.mounting_script(&line).ok();
        let told = format!(
            "the guest is not heard ({says}): KVM does not run it on this machine: software emulation instead\n"
        );
        assert!(outcome.stderr.contains(&told), "{outcome}");
        assert_eq!((outcome.stdout.as_str(), rungs.bench.read("asked").as_str()), ("there\n", "kvm\ntcg\n"));
        // The next one does not wait again.
        let outcome = rungs.bench.mounting_script(&line).ok();
        assert!(outcome.stdout == "there\n" && !outcome.stderr.contains("not heard"), "{outcome}");
        assert_eq!(rungs.bench.read("asked"), "kvm\ntcg\ntcg\n");
        rungs.nothing_is_left();
    }
}

#[test]
fn a_guests_kernel_loads_what_the_recipe_names() {
    let rungs = Rungs::new(
        "rung = \"vm\"\nmodules = [\"comedi_test\", \"softdog\"]\nvm = { cpus = 1, memory = \"512M\" }",
    );
    let recipe = rungs.bench.path("work/recipes/acme/recipe.toml");
    let text = fs::read_to_string(&recipe).unwrap();
    fs::write(
        &recipe,
        format!("{text}\n[[device]]\nname = \"daq\"\nclass = \"comedi\"\nat = \"/dev/comedi0\"\n"),
    )
    .unwrap();
    let run = "$HATCHWAY run -q acme --program /usr/bin/dash --";
    let line =
        format!("{run} -c 'cat /sys/class/comedi/comedi0/uevent; test -w /dev/comedi0 && echo open; nproc'");
    let outcome = rungs.bench.script(&line.replace("nproc", "grep -c ^processor /proc/cpuinfo")).ok();
    assert!(outcome.stdout.contains("DEVNAME=comedi0\nopen\n1\n"), "{outcome}");
    // In software it has begun with the kernel itself, which its image would have given five levels of pages.
    let outcome = rungs.bench.script(&format!("{run} -c 'grep -c la57 /proc/cpuinfo; true'")).ok();
    assert_eq!(outcome.stdout.trim(), "0", "{outcome}");
    // One that the kernel has not, and a device that no module makes.
    fs::write(&recipe, text.replace("softdog", "sofdog")).unwrap();
    let outcome = rungs.bench.script(&format!("{run} -c true"));
    assert_eq!(outcome.code, Some(125), "{outcome}");
    assert!(
        outcome.stderr.contains("has no module `sofdog`") && outcome.stderr.contains("hint: "),
        "{outcome}"
    );
}

#[test]
fn a_lock_without_a_kernel_has_no_guest() {
    let mirror = Mirror::new(vec![host::suite("bookworm")], Key::new(1));
    let (bench, _server) = Bench::new().exact().with_mirror(&mirror);
    bench.put("acme.deb", Package::new("acme", "1.0").program("usr/bin/acme", "#!/bin/sh\n").deb());
    drop(bench.hatchway(&["new", "-q", "acme.deb"]).ok());
    drop(bench.hatchway(&["lock", "-q", "acme"]).ok());
    let refused = bench.hatchway(&["run", "-q", "acme", "--rung", "vm"]);
    assert_eq!(refused.code, Some(125), "{refused}");
    assert_eq!(
        refused.stderr,
        "error: the lock of `acme` has no kernel for a guest\n\
         hint: run `hatchway lock acme`: locks name a kernel since this version, where the suite has one\n"
    );
    // Whoever asks for the rung in the recipe gets no lock without.
    let recipe = bench.path("work/recipes/acme/recipe.toml");
    let text = fs::read_to_string(&recipe).unwrap();
    assert!(text.contains("\n[run]\n"), "{text}");
    fs::write(&recipe, text.replace("\n[run]\n", "\n[run]\nrung = \"vm\"\n")).unwrap();
    let refused = bench.hatchway(&["lock", "-q", "acme"]);
    assert!(
        refused.stderr.contains("it has no kernel for a guest: no package `linux-image-cloud-amd64`"),
        "{refused}"
    );
}
