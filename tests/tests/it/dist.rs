//! The Debian package on a Debian that systemd has started. It takes a release build and a mirror, so that `cargo xtask dist --try` runs
//! it, which names them in variables.
#![allow(clippy::print_stdout, reason = "what a trial of minutes does can be followed")]

use std::path::PathBuf;

use hatchway_tests::systemd::Systemd;

use super::rungs::until;
use super::systemd_machine::{COUNTS, Machine, SHIM, built};

const CONFIGURED: &str = "/etc/hatchway/instrument.toml";

fn variable(name: &str) -> PathBuf {
    let value = std::env::var_os(name);
    PathBuf::from(value.unwrap_or_else(|| panic!("{name} is not set: run `cargo xtask dist --try`")))
}

#[test]
#[ignore = "it takes a release build and a mirror; `cargo xtask dist --try` runs it"]
fn the_package_is_installed_upgraded_removed_and_purged() {
    let machine = Machine { host: Systemd::start_over(&variable("HATCHWAY_DIST_ROOT")) };
    for (variable_name, to) in
        [("HATCHWAY_DIST_PACKAGE", "/tmp/one.deb"), ("HATCHWAY_DIST_NEXT", "/tmp/next.deb")]
    {
        machine.host.copy(&variable(variable_name), to);
    }
    installed(&machine);
    judged(&machine);
    furnished(&machine);
    run_as_a_service(&machine);
    upgraded_and_downgraded(&machine);
    removed(&machine);
    purged(&machine);
}

/// Says what it does, so that a long trial can be followed, and hands on what the command printed.
fn step(machine: &Machine, words: &[&str]) -> String {
    let outcome = machine.host.run(words);
    println!("$ {}\n{outcome}", words.join(" "));
    assert_eq!(outcome.code, Some(0), "{words:?}: {outcome}");
    // dpkg warns of what it does not like there.
    assert!(!outcome.stderr.contains("warning"), "{words:?}: {outcome}");
    outcome.stdout.trim_end().to_owned()
}

fn installed(machine: &Machine) {
    step(machine, &["dpkg", "--install", "/tmp/one.deb"]);
    assert_eq!(step(machine, &["dpkg", "--verify", "hatchway"]), "");
    assert!(step(machine, &["hatchway", "--version"]).starts_with("hatchway "));
    assert!(step(machine, &["getent", "group", "hatchway"]).starts_with("hatchway:"));
    assert_eq!(step(machine, &["stat", "--format=%a %U %G", "/run/hatchway"]), "755 root root");
    // Recipes are found, and the shim is: the sandbox is tried with it.
    step(machine, &["hatchway", "recipe", "check", "/usr/share/hatchway/recipes/vnc/recipe.toml"]);
    machine.host.says(&[
        "sh",
        "-c",
        "hatchway doctor --json > /tmp/doctor.json 2> /tmp/doctor.err; test -s /tmp/doctor.json",
    ]);
    // It is enabled, and waits for an instrument without having failed.
    assert_eq!(step(machine, &["systemctl", "is-enabled", "hatchway"]), "enabled");
    assert_eq!(machine.host.property("hatchway", "ActiveState"), "inactive");
    assert_eq!(machine.host.property("hatchway", "ConditionResult"), "no");
    assert_eq!(machine.host.says(&["systemctl", "is-system-running"]), "running");
}

/// A tool that was built elsewhere by the same programs, with its recipe.
fn furnished(machine: &Machine) {
    let tool = built(&[]);
    machine.take(&tool.bench.path("data"), "/var/lib/hatchway");
    machine.take(&tool.bench.path("work/recipes"), "/etc/hatchway/recipes");
}

fn judged(machine: &Machine) {
    let said = machine.host.run(&["systemd-analyze", "verify", "--man=yes", "hatchway.service"]);
    assert!(said.code == Some(0) && said.stderr.is_empty(), "{said}");
    step(machine, &["systemd-analyze", "security", "--no-pager", "hatchway.service"]);
    for page in ["hatchway", "hatchway-run"] {
        assert!(
            step(machine, &["sh", "-c", &format!("MANPAGER=cat man {page} | head -n 12")]).contains("NAME")
        );
    }
    let script = "source /usr/share/bash-completion/completions/hatchway && complete -p hatchway";
    assert!(step(machine, &["bash", "-c", script]).contains("_hatchway"));
}

/// Who keeps the unit: its run, its recorder, and the service that this is.
#[derive(Debug, PartialEq, Eq)]
struct Keeper {
    run: String,
    service: String,
    recorder: String,
}

fn keeper(machine: &Machine) -> Keeper {
    let run = machine.reaches("a", "ready");
    let service = machine.service("a");
    assert_eq!(machine.host.property(&service, "ActiveState"), "active");
    Keeper { run, service, recorder: machine.recorder("a") }
}

/// How far it has counted, without a gap.
fn counted(machine: &Machine) -> usize {
    machine.has_counted("a");
    machine.hatchway(&["logs", "a"]).ok().stdout.lines().count()
}

/// The program of a process; one that was replaced since it began is said to be deleted.
fn program_of(machine: &Machine, process: &str) -> String {
    machine.host.says(&["readlink", &format!("/proc/{process}/exe")])
}

fn run_as_a_service(machine: &Machine) {
    step(machine, &["cp", "/etc/hatchway/instrument.toml.example", CONFIGURED]);
    let table = format!("\n[unit.a]\nrecipe = \"acme\"\nargs = [\"-c\", {COUNTS:?}]\n");
    let text = machine.host.says(&["cat", CONFIGURED]).replace("\n[roles]", &format!("{table}\n[roles]"));
    machine.host.write(CONFIGURED, text, 0o644);
    // As somebody does who has read the file's first lines.
    assert_eq!(step(machine, &["hatchway", "up"]), "start    a");
    step(machine, &["systemctl", "start", "hatchway"]);
    as_its_users_ask(machine);
    let before = keeper(machine);
    assert_eq!(machine.host.property(&before.service, "Slice"), "hatchway.slice");
    confined(machine);

    step(machine, &["systemctl", "reload", "hatchway"]);
    let reloaded =
        |machine: &Machine| machine.host.says(&["hatchway", "events"]).matches(" applied: ").count();
    until("a reload is not heard", || reloaded(machine) == 1);
    let old = machine.daemon();
    step(machine, &["systemctl", "restart", "hatchway"]);
    assert_ne!(machine.daemon(), old);
    assert_eq!(keeper(machine), before, "a restart has ended a tool");

    let old = machine.daemon();
    step(machine, &["kill", "-STOP", &old]);
    until("its watchdog does not bite", || {
        !["0", old.as_str()].contains(&machine.daemon().as_str())
            && machine.host.property("hatchway", "ActiveState") == "active"
    });
    assert_eq!(machine.host.property("hatchway", "NRestarts"), "1");
    assert_eq!(keeper(machine), before, "the watchdog has ended a tool");
    // The folder of units is not the service's, and stays when that is stopped.
    step(machine, &["systemctl", "stop", "hatchway"]);
    let said = machine.host.run(&["hatchway", "status", "a"]);
    assert!(said.code == Some(0) && said.stderr.contains("no daemon runs"), "{said}");
    assert_eq!(machine.host.property(&before.service, "MainPID"), before.recorder, "a stop has ended a tool");
    step(machine, &["systemctl", "start", "hatchway"]);
    assert_eq!(keeper(machine), before);
    counted(machine);
}

/// Root, and somebody with an account whom the instrument calls an operator.
fn as_its_users_ask(machine: &Machine) {
    assert!(step(machine, &["hatchway", "status"]).starts_with("a                ready"));
    assert!(step(machine, &["hatchway", "why", "a"]).contains("a is ready"));
    let said = machine.host.run(&["hatchway", "doctor"]);
    println!("$ hatchway doctor\n{said}");
    for line in ["✓ daemon: it answers", "✓ units: 1 of 1 are as they are wanted"] {
        assert!(said.stdout.contains(line), "{said}");
    }
    step(machine, &["useradd", "--groups", "hatchway", "ada"]);
    let as_ada = |line: &str| step(machine, &["su", "ada", "-c", line]);
    assert!(as_ada("hatchway status").starts_with("a                ready"));
    assert!(as_ada("hatchway logs a -n 3").lines().all(|line| line.parse::<u32>().is_ok()));
    as_ada("hatchway restart a");
    assert!(step(machine, &["hatchway", "events", "a"]).contains("(ada)"));
    let before = keeper(machine);
    for verb in ["restart", "stop"] {
        let refused =
            machine.host.run(&["su", "nobody", "-s", "/bin/sh", "-c", &format!("hatchway {verb} a")]);
        println!("$ hatchway {verb} a # by nobody\n{refused}");
        assert!(refused.code == Some(2) && refused.stderr.contains("this takes the role"), "{refused}");
    }
    assert_eq!(keeper(machine), before);
}

/// What the service's directives leave to the daemon, tried by others under the same: it can do what sandboxes need, and not write
/// where it has nothing to write.
fn confined(machine: &Machine) {
    let script = "hatchway doctor --json > /run/hatchway/doctor.json; \
                  unshare --user --map-root-user --pid --fork --mount-proc true && echo proc >> /run/hatchway/noted; \
                  touch /usr/hatchway-was-here || echo read-only >> /run/hatchway/noted";
    let drop_in = format!(
        "[Service]\nType=oneshot\nWatchdogSec=0\nRestart=no\nExecStart=\nExecStart=/bin/sh -c '{script}'\n"
    );
    step(machine, &["cp", "/usr/lib/systemd/system/hatchway.service", "/run/systemd/system/look.service"]);
    machine.host.write("/run/systemd/system/look.service.d/look.conf", drop_in, 0o644);
    machine.host.says(&["sh", "-c", "hatchway doctor --json > /tmp/doctor.json || test -s /tmp/doctor.json"]);
    step(machine, &["systemctl", "daemon-reload"]);
    step(machine, &["systemctl", "start", "look"]);
    assert_eq!(machine.host.says(&["cat", "/run/hatchway/noted"]), "proc\nread-only");
    let [confined, free] =
        ["/run/hatchway/doctor.json", "/tmp/doctor.json"].map(|path| states(machine, path));
    assert_eq!(confined, free, "what the confined daemon can do differs");
    step(machine, &["rm", "-r", "/run/systemd/system/look.service", "/run/systemd/system/look.service.d"]);
    step(machine, &["rm", "/run/hatchway/doctor.json", "/run/hatchway/noted"]);
    step(machine, &["systemctl", "daemon-reload"]);
}

/// What `doctor` found. From a filter of system calls it guesses that user namespaces are forbidden; the daemon has made one.
fn states(machine: &Machine, path: &str) -> Vec<String> {
    let report: serde_json::Value = serde_json::from_str(&machine.host.says(&["cat", path])).unwrap();
    let checks = report["checks"].as_array().or(report.as_array()).unwrap();
    let checks = checks.iter().filter(|check| check["name"] != "user namespaces");
    checks.map(|check| format!("{} {} {}", check["for"], check["name"], check["state"])).collect()
}

/// There and back, with the unit running: it and its recorder go on, and only what starts later has the new program.
fn upgraded_and_downgraded(machine: &Machine) {
    machine.host.write("/var/lib/hatchway/state/acme/kept", "x", 0o600);
    machine.host.write("/etc/hatchway/licences/acme.dat", "x", 0o600);
    for (package, ending) in [("/tmp/next.deb", "+try1"), ("/tmp/one.deb", "-1")] {
        let (old, before, said) = (machine.daemon(), keeper(machine), counted(machine));
        assert_eq!(program_of(machine, &before.recorder), SHIM);
        let outcome = machine.host.run(&["dpkg", "--install", package]);
        println!("$ dpkg --install {package}\n{outcome}");
        // It warns where the version is an older one, and of nothing else.
        let warnings: Vec<&str> = outcome.stderr.lines().filter(|line| line.contains("warning")).collect();
        let downgraded = warnings.iter().all(|line| line.contains("downgrading"));
        assert!(outcome.code == Some(0) && downgraded, "{outcome}");
        assert!(step(machine, &["dpkg-query", "--show", "hatchway"]).ends_with(ending));
        assert_eq!(machine.host.property("hatchway", "ActiveState"), "active");
        assert_ne!(machine.daemon(), old, "the old daemon runs on");
        assert_eq!(program_of(machine, &machine.daemon()), "/usr/bin/hatchway");
        assert_eq!(keeper(machine), before, "an upgrade has ended a tool");
        assert_eq!(program_of(machine, &before.recorder), format!("{SHIM} (deleted)"));
        until("nothing more is said", || counted(machine) > said);
        // What starts from now on is the new one's.
        assert_eq!(step(machine, &["hatchway", "restart", "a"]), "");
        let after = keeper(machine);
        assert_ne!(after.run, before.run);
        assert_eq!(program_of(machine, &after.recorder), SHIM);
        assert!(machine.host.says(&["hatchway", "history", "a"]).contains(&before.run));
    }
    // Who has disabled it keeps that.
    step(machine, &["systemctl", "disable", "--quiet", "hatchway"]);
    step(machine, &["dpkg", "--install", "/tmp/next.deb"]);
    assert_eq!(machine.host.run(&["systemctl", "is-enabled", "hatchway"]).stdout.trim(), "disabled");
    step(machine, &["systemctl", "enable", "--quiet", "hatchway"]);
}

fn exists(machine: &Machine, path: &str) -> bool {
    machine.host.run(&["test", "-e", path]).code == Some(0)
}

/// The unit goes on without the programs, and one who installs them again finds it.
fn removed(machine: &Machine) {
    let (before, said) = (keeper(machine), counted(machine));
    let warned = machine.host.run(&["dpkg", "--remove", "hatchway"]);
    println!("$ dpkg --remove hatchway\n{warned}");
    assert!(warned.code == Some(0) && warned.stderr.contains("tools still run"), "{warned}");
    assert_eq!(machine.host.property("hatchway", "ActiveState"), "inactive");
    assert_eq!(
        machine.host.property(&before.service, "MainPID"),
        before.recorder,
        "a removal has ended a tool"
    );
    for path in ["/usr/bin/hatchway", "/usr/lib/systemd/system/hatchway.service", "/usr/libexec/hatchway"] {
        assert!(!exists(machine, path), "{path}");
    }
    for path in [CONFIGURED, "/etc/hatchway/instrument.toml.example", "/var/lib/hatchway/state/acme/kept"] {
        assert!(exists(machine, path), "{path}");
    }
    step(machine, &["dpkg", "--install", "/tmp/next.deb"]);
    assert_eq!(keeper(machine), before);
    until("nothing more is said", || counted(machine) > said);
    step(machine, &["hatchway", "stop", "a"]);
    assert_eq!(machine.unit("a")["why"], "it was asked to end (SIGTERM) and did: code 0");
    step(machine, &["dpkg", "--remove", "hatchway"]);
}

fn purged(machine: &Machine) {
    let said = machine.host.run(&["dpkg", "--purge", "hatchway"]);
    assert!(said.code == Some(0) && said.stderr.contains("/etc/hatchway is left"), "{said}");
    for path in
        [CONFIGURED, "/etc/hatchway/instrument.toml.example", "/var/cache/hatchway", "/usr/share/hatchway"]
    {
        assert!(!exists(machine, path), "{path}");
    }
    for path in ["/var/lib/hatchway/state/acme/kept", "/etc/hatchway/licences/acme.dat"] {
        assert!(exists(machine, path), "{path}");
    }
    assert_eq!(machine.host.says(&["sh", "-c", "find /etc/systemd /var/lib/systemd -name '*hatchway*'"]), "");
    // Who asks for it gets all of it away.
    step(machine, &["dpkg", "--install", "/tmp/one.deb"]);
    machine.host.write("/usr/share/hatchway/recipes/vnc/recipe.lock", "x", 0o644);
    step(machine, &["sh", "-c", "HATCHWAY_PURGE=everything dpkg --purge hatchway 2>&1"]);
    let left = "find / -xdev -name '*hatchway*' ! -path '/proc/*' ! -path '/sys/*' ! -path '/tmp/*' ! -path '/run/*' \
                ! -path '/var/lib/dpkg/*' ! -path '/var/log/*' ! -path '/var/cache/man/*'";
    assert_eq!(machine.host.says(&["sh", "-c", left]), "");
    assert!(!exists(machine, "/var/lib/hatchway") && !exists(machine, "/etc/hatchway"));
}

#[test]
#[ignore = "it takes a release build and a mirror; `cargo xtask dist --try` runs it"]
fn a_system_that_does_not_run_takes_the_package() {
    // As when an image is made: dpkg in a chroot, without systemd.
    let machine = Machine { host: Systemd::start_over(&variable("HATCHWAY_DIST_ROOT")) };
    machine.host.copy(&variable("HATCHWAY_DIST_PACKAGE"), "/tmp/one.deb");
    let script = "mkdir /tmp/image && tar --one-file-system --exclude=./tmp --exclude=./proc --exclude=./sys -C / -c . | \
                  tar -C /tmp/image -x && mkdir -p /tmp/image/tmp /tmp/image/proc /tmp/image/sys && cp /tmp/one.deb \
                  /tmp/image/tmp && chroot /tmp/image dpkg --install /tmp/one.deb && chroot /tmp/image dpkg --purge hatchway";
    step(&machine, &["sh", "-c", script]);
}
