//! A tool that needs services beside it: systemd starts them in the tool's guest, and nowhere else.

use std::fs;
use std::process::Stdio;

use hatchway_tests::bench::{Bench, is_root};
use hatchway_tests::engine::Engine;
use hatchway_tests::keys::Key;
use hatchway_tests::mirror::Mirror;
use hatchway_tests::package::Package;
use hatchway_tests::server::Server;
use hatchway_tests::{host, kernel};

use super::rungs::{PTY, until};

const DAEMON: &str = r#"#!/bin/sh
echo "acmed is up"
id -u > /run/acmed/uid
trap 'echo "acmed stops"; sleep 0.5; exit 0' TERM
while :; do sleep 0.1; done
"#;
/// Up only once the daemon has answered.
const LICENCE: &str = r#"#!/bin/sh
until test -s /run/acmed/uid; do sleep 0.1; done
echo "served by $(cat /run/acmed/uid)" > /run/acmed/licence
"#;

/// A vendor's package with services, and the recipe that `hatchway new` writes for it.
fn acme() -> (Bench, Server) {
    let mut suite = host::suite("bookworm");
    for package in kernel::packages().into_iter().chain(host::systemd()) {
        suite = suite.with(package);
    }
    let bench = Bench::new().exact();
    // What another machine would find out: here a guest under KVM may not be heard.
    bench.configure("vm-accel = \"tcg\"\n");
    let (bench, server) = bench.with_mirror(&Mirror::new(vec![suite], Key::new(1)));
    let wanted = "[Install]\nWantedBy=multi-user.target\n";
    let unit = |text: &str| format!("{text}{wanted}");
    let package = Package::new("acme", "1.0")
        .field("Depends", "coreutils, dash, grep, sed")
        .program("usr/sbin/acmed", DAEMON)
        .program("usr/lib/acme/licence", LICENCE)
        .file(
            "lib/systemd/system/acmed.service",
            unit("[Unit]\nDescription=The daemon\n[Service]\nExecStart=/usr/sbin/acmed\nRuntimeDirectory=acmed\nRuntimeDirectoryMode=0755\nKillMode=mixed\n"),
        )
        .file(
            "lib/systemd/system/acme-licence.service",
            unit("[Unit]\nAfter=acmed.service\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/lib/acme/licence\n"),
        )
        .file("lib/systemd/system/acme-never.service", "[Service]\nType=oneshot\nExecStart=/usr/bin/dash -c 'echo never up; sleep 1000'\n")
        .file("lib/systemd/system/acme-bad.service", "[Service]\nType=oneshot\nExecStart=/usr/bin/dash -c 'echo no dongle; exit 3'\n");
    bench.put("acme.deb", package.deb());
    drop(bench.hatchway(&["new", "-q", "acme.deb"]).ok());
    (bench, server)
}

fn edit(bench: &Bench, from: &str, to: &str) {
    let path = bench.path("work/recipes/acme/recipe.toml");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(&path, text.replace(from, to)).unwrap();
}

#[test]
fn services_are_up_before_the_tool_and_stop_after_it() {
    let (bench, _server) = acme();
    let recipe = fs::read_to_string(bench.path("work/recipes/acme/recipe.toml")).unwrap();
    let drafted = "rung = \"vm\"\nservices = [\"acme-licence.service\", \"acmed.service\"]\n";
    assert!(recipe.contains(drafted) && recipe.contains("program = \"/usr/bin/sleep\""), "{recipe}");
    drop(bench.hatchway(&["lock", "-q", "acme"]).ok());
    let inside = "cat /run/acmed/licence; id -u | grep -c -x 0; cat /proc/1/comm; touch /run/systemd/x 2> /dev/null && echo written; exit 7";
    let outcome =
        bench.script(&format!("$HATCHWAY run -q acme --program /usr/bin/dash -- -c '{inside}' < /dev/null"));
    assert_eq!(outcome.code, Some(7), "{outcome}");
    assert_eq!(outcome.stdout, "served by 0\n0\nhatchway-shim\n", "{outcome}");
    // In this order, and nothing else of theirs.
    assert_eq!(outcome.stderr, "acmed is up\nacmed stops\n", "{outcome}");
}

#[test]
fn a_service_that_is_not_up_is_why_the_tool_does_not_start() {
    let (bench, _server) = acme();
    edit(&bench, "\"acmed.service\"]", "\"acmed.service\", \"acme-bad.service\", \"acme-none.service\"]");
    drop(bench.hatchway(&["lock", "-q", "acme"]).ok());
    let outcome = bench.script("$HATCHWAY run -q acme --program /usr/bin/echo -- started < /dev/null");
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(125), ""), "{outcome}");
    for said in [
        "no dongle\n",
        "acme-bad.service",
        "error: cannot start the services: `acme-bad.service` has failed (exit-code), `acme-none.service` is not in the tree\nhint: ",
    ] {
        assert!(outcome.stderr.contains(said), "{outcome}");
    }
}

#[test]
fn who_does_not_wait_for_services_is_obeyed() {
    let (bench, _server) = acme();
    edit(&bench, "\"acme-licence.service\", \"acmed.service\"", "\"acme-never.service\"");
    drop(bench.hatchway(&["lock", "-q", "acme"]).ok());
    // Of TERM the attendant hears, of a key the first process of the sandbox, whose terminal it is until there is a tool.
    let mut run = bench
        .shell("exec $HATCHWAY run -q acme > out 2> err < /dev/null")
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    until("it does not begin", || {
        fs::read_to_string(bench.path("work/err")).is_ok_and(|text| text == "never up\n")
    });
    let asked = std::process::Command::new("kill").args(["-TERM", &run.id().to_string()]).status().unwrap();
    assert!(asked.success());
    assert_eq!(run.wait().unwrap().code(), Some(143), "{}", bench.read("err"));
    let record = bench.script("cat \"$HATCHWAY_DATA_DIR\"/run/units/acme/*/exit.json").ok().stdout;
    assert!(record.contains("\"requested\""), "{record}");
    let script = format!(
        "{PTY}{}",
        r#"until(b"never up")
os.write(master, b"\x03")
_, status = os.waitpid(pid, 0)
print(os.waitstatus_to_exitcode(status), termios.tcgetattr(slave) == before)
"#
    );
    bench.put("keys.py", script);
    let line =
        "WORDS=\"$HATCHWAY run -q acme --program /usr/bin/dash --\" INSIDE='echo started' python3 keys.py";
    let outcome = bench.script(line).ok();
    assert_eq!(outcome.stdout, "130 True\n", "{outcome}");
}

#[test]
fn no_other_rung_has_services() {
    let (bench, _server) = acme();
    drop(bench.hatchway(&["lock", "-q", "acme"]).ok());
    let outcome = bench.script("$HATCHWAY run -q acme --rung fhs < /dev/null");
    let said = "error: service `acme-licence.service` is not usable: systemd is root where it runs";
    assert!(outcome.code == Some(125) && outcome.stderr.contains(said), "{outcome}");
    assert!(outcome.stderr.contains("rung = \"vm\""), "{outcome}");
    // Engines of this machine give their containers the host's users; one that does not is asked by `cargo xtask services`.
    if is_root() {
        let engine = Engine::start(&bench.path("engine"), None);
        let line =
            format!("DOCKER_HOST={} $HATCHWAY run -q acme --rung container < /dev/null", engine.host());
        let outcome = bench.script(&line);
        let said = "error: the container engine cannot give `services` an init system: ";
        assert!(outcome.code == Some(125) && outcome.stderr.contains(said), "{outcome}");
        assert!(outcome.stderr.contains("hint: `--rung vm` starts them in a guest\n"), "{outcome}");
    }
    // Without the draft's choice the evidence alone asks for a container, and no container is given an init system.
    edit(&bench, "rung = \"vm\"\nservices = [\"acme-licence.service\", \"acmed.service\"]\n", "");
    let outcome = bench.hatchway(&["lock", "acme"]);
    assert!(
        outcome.code == Some(2)
            && outcome
                .stderr
                .contains("hint: `services = […]` in [run] of the recipe has systemd start them"),
        "{outcome}"
    );
}
