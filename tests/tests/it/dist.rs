//! The Debian package on a Debian that systemd has started. It takes a release build and a mirror, so that `cargo xtask dist --try` runs
//! it, which names them in variables.
#![allow(clippy::print_stdout, reason = "what a trial of minutes does can be followed")]

use std::path::PathBuf;

use hatchway_tests::systemd::Systemd;

use super::rungs::until;
use super::systemd_daemon::{STAYS, built, counts, daemon, into, ready, unit};

const CONFIGURED: &str = "/etc/hatchway/instrument.toml";
const SHIM: &str = "/usr/libexec/hatchway/hatchway-shim";

fn variable(name: &str) -> PathBuf {
    let value = std::env::var_os(name);
    PathBuf::from(value.unwrap_or_else(|| panic!("{name} is not set: run `cargo xtask dist --try`")))
}

#[test]
#[ignore = "it takes a release build and a mirror; `cargo xtask dist --try` runs it"]
fn the_package_is_installed_upgraded_removed_and_purged() {
    let host = Systemd::start_over(&variable("HATCHWAY_DIST_ROOT"));
    for (variable_name, to) in
        [("HATCHWAY_DIST_PACKAGE", "/tmp/one.deb"), ("HATCHWAY_DIST_NEXT", "/tmp/next.deb")]
    {
        host.copy(&variable(variable_name), to);
    }
    installed(&host);
    judged(&host);
    furnished(&host);
    run_as_a_service(&host);
    upgraded_and_downgraded(&host);
    removed(&host);
    purged(&host);
}

/// Says what it does, so that a long trial can be followed, and hands on what the command printed.
fn step(host: &Systemd, words: &[&str]) -> String {
    let outcome = host.run(words);
    println!("$ {}\n{outcome}", words.join(" "));
    assert_eq!(outcome.code, Some(0), "{words:?}: {outcome}");
    // dpkg warns of what it does not like there.
    assert!(!outcome.stderr.contains("warning"), "{words:?}: {outcome}");
    outcome.stdout.trim_end().to_owned()
}

fn installed(host: &Systemd) {
    step(host, &["dpkg", "--install", "/tmp/one.deb"]);
    assert_eq!(step(host, &["dpkg", "--verify", "hatchway"]), "");
    assert!(step(host, &["hatchway", "--version"]).starts_with("hatchway "));
    assert!(step(host, &["getent", "group", "hatchway"]).starts_with("hatchway:"));
    assert_eq!(step(host, &["stat", "--format=%a %U %G", "/run/hatchway"]), "755 root root");
    // Recipes are found, and the shim is: the sandbox is tried with it.
    step(host, &["hatchway", "recipe", "check", "/usr/share/hatchway/recipes/vnc/recipe.toml"]);
    host.says(&[
        "sh",
        "-c",
        "hatchway doctor --json > /tmp/doctor.json 2> /tmp/doctor.err; test -s /tmp/doctor.json",
    ]);
    // It is enabled, and waits for an instrument without having failed.
    assert_eq!(step(host, &["systemctl", "is-enabled", "hatchway"]), "enabled");
    assert_eq!(host.property("hatchway", "ActiveState"), "inactive");
    assert_eq!(host.property("hatchway", "ConditionResult"), "no");
    assert_eq!(host.says(&["systemctl", "is-system-running"]), "running");
}

/// A tool that was built elsewhere by the same programs, with its recipe.
fn furnished(host: &Systemd) {
    let tool = built("restart = \"on-failure\"");
    into(host, &tool.bench.path("data"), "/var/lib/hatchway");
    into(host, &tool.bench.path("work/recipes"), "/etc/hatchway/recipes");
}

fn judged(host: &Systemd) {
    let said = host.run(&["systemd-analyze", "verify", "--man=yes", "hatchway.service"]);
    assert!(said.code == Some(0) && said.stderr.is_empty(), "{said}");
    step(host, &["systemd-analyze", "security", "--no-pager", "hatchway.service"]);
    for page in ["hatchway", "hatchway-run"] {
        assert!(step(host, &["sh", "-c", &format!("MANPAGER=cat man {page} | head -n 12")]).contains("NAME"));
    }
    let script = "source /usr/share/bash-completion/completions/hatchway && complete -p hatchway";
    assert!(step(host, &["bash", "-c", script]).contains("_hatchway"));
}

/// Who keeps the unit: its run, its recorder, and the service that this is.
#[derive(Debug, PartialEq, Eq)]
struct Keeper {
    run: String,
    service: String,
    recorder: String,
}

fn keeper(host: &Systemd) -> Keeper {
    let run = ready(host);
    let service = format!("hatchway-a-{run}.service");
    assert_eq!(host.property(&service, "ActiveState"), "active");
    let recorder = host.property(&service, "MainPID");
    Keeper { run, service, recorder }
}

/// The program of a process; one that was replaced since it began is said to be deleted.
fn program_of(host: &Systemd, process: &str) -> String {
    host.says(&["readlink", &format!("/proc/{process}/exe")])
}

fn run_as_a_service(host: &Systemd) {
    step(host, &["cp", "/etc/hatchway/instrument.toml.example", CONFIGURED]);
    let table = format!("\n[unit.a]\nrecipe = \"acme\"\nargs = [\"-c\", {STAYS:?}]\n");
    let text = host.says(&["cat", CONFIGURED]).replace("\n[roles]", &format!("{table}\n[roles]"));
    host.write(CONFIGURED, text, 0o644);
    // As somebody does who has read the file's first lines.
    assert_eq!(step(host, &["hatchway", "up"]), "start    a");
    step(host, &["systemctl", "start", "hatchway"]);
    as_its_users_ask(host);
    let before = keeper(host);
    assert_eq!(host.property(&before.service, "Slice"), "hatchway.slice");
    confined(host);

    step(host, &["systemctl", "reload", "hatchway"]);
    let reloaded = |host: &Systemd| host.says(&["hatchway", "events"]).matches(" applied: ").count();
    until("a reload is not heard", || reloaded(host) == 1);
    let old = daemon(host);
    step(host, &["systemctl", "restart", "hatchway"]);
    assert_ne!(daemon(host), old);
    assert_eq!(keeper(host), before, "a restart has ended a tool");

    let old = daemon(host);
    step(host, &["kill", "-STOP", &old]);
    until("its watchdog does not bite", || {
        !["0", old.as_str()].contains(&daemon(host).as_str())
            && host.property("hatchway", "ActiveState") == "active"
    });
    assert_eq!(host.property("hatchway", "NRestarts"), "1");
    assert_eq!(keeper(host), before, "the watchdog has ended a tool");
    // The folder of units is not the service's, and stays when that is stopped.
    step(host, &["systemctl", "stop", "hatchway"]);
    let said = host.run(&["hatchway", "status", "a"]);
    assert!(said.code == Some(0) && said.stderr.contains("no daemon runs"), "{said}");
    assert_eq!(host.property(&before.service, "MainPID"), before.recorder, "a stop has ended a tool");
    step(host, &["systemctl", "start", "hatchway"]);
    assert_eq!(keeper(host), before);
    counts(host);
}

/// Root, and somebody with an account whom the instrument calls an operator.
fn as_its_users_ask(host: &Systemd) {
    assert!(step(host, &["hatchway", "status"]).starts_with("a                ready"));
    assert!(step(host, &["hatchway", "why", "a"]).contains("a is ready"));
    let said = host.run(&["hatchway", "doctor"]);
    println!("$ hatchway doctor\n{said}");
    for line in ["✓ daemon: it answers", "✓ units: 1 of 1 are as they are wanted"] {
        assert!(said.stdout.contains(line), "{said}");
    }
    step(host, &["useradd", "--groups", "hatchway", "ada"]);
    let as_ada = |line: &str| step(host, &["su", "ada", "-c", line]);
    assert!(as_ada("hatchway status").starts_with("a                ready"));
    assert!(as_ada("hatchway logs a -n 3").lines().all(|line| line.parse::<u32>().is_ok()));
    as_ada("hatchway restart a");
    assert!(step(host, &["hatchway", "events", "a"]).contains("(ada)"));
    let before = keeper(host);
    for verb in ["restart", "stop"] {
        let refused = host.run(&["su", "nobody", "-s", "/bin/sh", "-c", &format!("hatchway {verb} a")]);
        println!("$ hatchway {verb} a # by nobody\n{refused}");
        assert!(refused.code == Some(2) && refused.stderr.contains("this takes the role"), "{refused}");
    }
    assert_eq!(keeper(host), before);
}

/// What the service's directives leave to the daemon, tried by others under the same: it can do what sandboxes need, and not write
/// where it has nothing to write.
fn confined(host: &Systemd) {
    let script = "hatchway doctor --json > /run/hatchway/doctor.json; \
                  unshare --user --map-root-user --pid --fork --mount-proc true && echo proc >> /run/hatchway/noted; \
                  touch /usr/hatchway-was-here || echo read-only >> /run/hatchway/noted";
    let drop_in = format!(
        "[Service]\nType=oneshot\nWatchdogSec=0\nRestart=no\nExecStart=\nExecStart=/bin/sh -c '{script}'\n"
    );
    step(host, &["cp", "/usr/lib/systemd/system/hatchway.service", "/run/systemd/system/look.service"]);
    host.write("/run/systemd/system/look.service.d/look.conf", drop_in, 0o644);
    host.says(&["sh", "-c", "hatchway doctor --json > /tmp/doctor.json || test -s /tmp/doctor.json"]);
    step(host, &["systemctl", "daemon-reload"]);
    step(host, &["systemctl", "start", "look"]);
    assert_eq!(host.says(&["cat", "/run/hatchway/noted"]), "proc\nread-only");
    let [confined, free] = ["/run/hatchway/doctor.json", "/tmp/doctor.json"].map(|path| states(host, path));
    assert_eq!(confined, free, "what the confined daemon can do differs");
    step(host, &["rm", "-r", "/run/systemd/system/look.service", "/run/systemd/system/look.service.d"]);
    step(host, &["rm", "/run/hatchway/doctor.json", "/run/hatchway/noted"]);
    step(host, &["systemctl", "daemon-reload"]);
}

/// What `doctor` found. From a filter of system calls it guesses that user namespaces are forbidden; the daemon has made one.
fn states(host: &Systemd, path: &str) -> Vec<String> {
    let report: serde_json::Value = serde_json::from_str(&host.says(&["cat", path])).unwrap();
    let checks = report["checks"].as_array().or(report.as_array()).unwrap();
    let checks = checks.iter().filter(|check| check["name"] != "user namespaces");
    checks.map(|check| format!("{} {} {}", check["for"], check["name"], check["state"])).collect()
}

/// There and back, with the unit running: it and its recorder go on, and only what starts later has the new program.
fn upgraded_and_downgraded(host: &Systemd) {
    host.write("/var/lib/hatchway/state/acme/kept", "x", 0o600);
    host.write("/etc/hatchway/licences/acme.dat", "x", 0o600);
    for (package, ending) in [("/tmp/next.deb", "+try1"), ("/tmp/one.deb", "-1")] {
        let (old, before, said) = (daemon(host), keeper(host), counts(host));
        assert_eq!(program_of(host, &before.recorder), SHIM);
        let outcome = host.run(&["dpkg", "--install", package]);
        println!("$ dpkg --install {package}\n{outcome}");
        // It warns where the version is an older one, and of nothing else.
        let warnings: Vec<&str> = outcome.stderr.lines().filter(|line| line.contains("warning")).collect();
        let downgraded = warnings.iter().all(|line| line.contains("downgrading"));
        assert!(outcome.code == Some(0) && downgraded, "{outcome}");
        assert!(step(host, &["dpkg-query", "--show", "hatchway"]).ends_with(ending));
        assert_eq!(host.property("hatchway", "ActiveState"), "active");
        assert_ne!(daemon(host), old, "the old daemon runs on");
        assert_eq!(program_of(host, &daemon(host)), "/usr/bin/hatchway");
        assert_eq!(keeper(host), before, "an upgrade has ended a tool");
        assert_eq!(program_of(host, &before.recorder), format!("{SHIM} (deleted)"));
        until("nothing more is said", || counts(host) > said);
        // What starts from now on is the new one's.
        assert_eq!(step(host, &["hatchway", "restart", "a"]), "");
        let after = keeper(host);
        assert_ne!(after.run, before.run);
        assert_eq!(program_of(host, &after.recorder), SHIM);
        assert!(host.says(&["hatchway", "history", "a"]).contains(&before.run));
    }
    // Who has disabled it keeps that.
    step(host, &["systemctl", "disable", "--quiet", "hatchway"]);
    step(host, &["dpkg", "--install", "/tmp/next.deb"]);
    assert_eq!(host.run(&["systemctl", "is-enabled", "hatchway"]).stdout.trim(), "disabled");
    step(host, &["systemctl", "enable", "--quiet", "hatchway"]);
}

fn exists(host: &Systemd, path: &str) -> bool {
    host.run(&["test", "-e", path]).code == Some(0)
}

/// The unit goes on without the programs, and one who installs them again finds it.
fn removed(host: &Systemd) {
    let (before, said) = (keeper(host), counts(host));
    let warned = host.run(&["dpkg", "--remove", "hatchway"]);
    println!("$ dpkg --remove hatchway\n{warned}");
    assert!(warned.code == Some(0) && warned.stderr.contains("tools still run"), "{warned}");
    assert_eq!(host.property("hatchway", "ActiveState"), "inactive");
    assert_eq!(host.property(&before.service, "MainPID"), before.recorder, "a removal has ended a tool");
    for path in ["/usr/bin/hatchway", "/usr/lib/systemd/system/hatchway.service", "/usr/libexec/hatchway"] {
        assert!(!exists(host, path), "{path}");
    }
    for path in [CONFIGURED, "/etc/hatchway/instrument.toml.example", "/var/lib/hatchway/state/acme/kept"] {
        assert!(exists(host, path), "{path}");
    }
    step(host, &["dpkg", "--install", "/tmp/next.deb"]);
    assert_eq!(keeper(host), before);
    until("nothing more is said", || counts(host) > said);
    step(host, &["hatchway", "stop", "a"]);
    assert_eq!(unit(host)["why"], "it was asked to end (SIGTERM) and did: code 0");
    step(host, &["dpkg", "--remove", "hatchway"]);
}

fn purged(host: &Systemd) {
    let said = host.run(&["dpkg", "--purge", "hatchway"]);
    assert!(said.code == Some(0) && said.stderr.contains("/etc/hatchway is left"), "{said}");
    for path in
        [CONFIGURED, "/etc/hatchway/instrument.toml.example", "/var/cache/hatchway", "/usr/share/hatchway"]
    {
        assert!(!exists(host, path), "{path}");
    }
    for path in ["/var/lib/hatchway/state/acme/kept", "/etc/hatchway/licences/acme.dat"] {
        assert!(exists(host, path), "{path}");
    }
    assert_eq!(host.says(&["sh", "-c", "find /etc/systemd /var/lib/systemd -name '*hatchway*'"]), "");
    // Who asks for it gets all of it away.
    step(host, &["dpkg", "--install", "/tmp/one.deb"]);
    host.write("/usr/share/hatchway/recipes/vnc/recipe.lock", "x", 0o644);
    step(host, &["sh", "-c", "HATCHWAY_PURGE=everything dpkg --purge hatchway 2>&1"]);
    let left = "find / -xdev -name '*hatchway*' ! -path '/proc/*' ! -path '/sys/*' ! -path '/tmp/*' ! -path '/run/*' \
                ! -path '/var/lib/dpkg/*' ! -path '/var/log/*' ! -path '/var/cache/man/*'";
    assert_eq!(host.says(&["sh", "-c", left]), "");
    assert!(!exists(host, "/var/lib/hatchway") && !exists(host, "/etc/hatchway"));
}

#[test]
#[ignore = "it takes a release build and a mirror; `cargo xtask dist --try` runs it"]
fn a_system_that_does_not_run_takes_the_package() {
    // As when an image is made: dpkg in a chroot, without systemd.
    let host = Systemd::start_over(&variable("HATCHWAY_DIST_ROOT"));
    host.copy(&variable("HATCHWAY_DIST_PACKAGE"), "/tmp/one.deb");
    let script = "mkdir /tmp/image && tar --one-file-system --exclude=./tmp --exclude=./proc --exclude=./sys -C / -c . | \
                  tar -C /tmp/image -x && mkdir -p /tmp/image/tmp /tmp/image/proc /tmp/image/sys && cp /tmp/one.deb \
                  /tmp/image/tmp && chroot /tmp/image dpkg --install /tmp/one.deb && chroot /tmp/image dpkg --purge hatchway";
    step(&host, &["sh", "-c", script]);
}
