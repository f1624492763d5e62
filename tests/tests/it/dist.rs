//! The Debian package on a Debian that systemd has started. It takes a release build and a mirror, so that `cargo xtask dist --try` runs
//! it, which names them in variables.
#![allow(clippy::print_stdout, reason = "what a trial of minutes does can be followed")]

use std::path::PathBuf;

use hatchway_tests::systemd::Systemd;

use super::rungs::until;

/// In the daemon's place, which this version does not have: it says that it is ready, is alive, notes reloads and who it is, starts a tool
/// as a unit of its own, and another process that stays with it.
const STAND_IN: &str = r#"#!/bin/sh
trap 'echo reloaded >> /run/hatchway/noted' HUP
hatchway doctor --json > /run/hatchway/doctor.json 2> /run/hatchway/doctor.err
unshare --user --map-root-user --pid --fork --mount-proc true && echo proc >> /run/hatchway/noted
touch /usr/hatchway-was-here 2> /dev/null || echo read-only >> /run/hatchway/noted
systemctl is-active --quiet acme-tool || systemd-run --quiet --unit=acme-tool --property=Type=exec sleep 4242
pgrep -f 'sleep 4243' > /dev/null || setsid sleep 4243 &
systemd-notify --ready
while test ! -e /run/hatchway/silent; do systemd-notify WATCHDOG=1; sleep 0.5 & wait $!; done
rm /run/hatchway/silent
while :; do sleep 1; done
"#;
const DROP_IN: &str =
    "[Service]\nExecStart=\nExecStart=/usr/local/bin/stand-in\nNotifyAccess=all\nWatchdogSec=3\n";
const CONFIGURED: &str = "/etc/hatchway/instrument.toml";

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
    run_as_a_service(&host);
    upgraded(&host);
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

fn main_pid(host: &Systemd) -> String {
    host.property("hatchway", "MainPID")
}

fn noted(host: &Systemd) -> String {
    host.run(&["cat", "/run/hatchway/noted"]).stdout
}

/// Who runs beside the daemon, by process.
fn others(host: &Systemd) -> [String; 2] {
    ["(/usr/bin/)?sleep 4242", "(/usr/bin/)?sleep 4243"]
        .map(|line| host.says(&["pgrep", "--full", "--exact", line]))
}

fn run_as_a_service(host: &Systemd) {
    host.write("/usr/local/bin/stand-in", STAND_IN, 0o755);
    host.write("/etc/systemd/system/hatchway.service.d/try.conf", DROP_IN, 0o644);
    step(host, &["cp", "/etc/hatchway/instrument.toml.example", CONFIGURED]);
    step(host, &["systemctl", "daemon-reload"]);
    step(host, &["systemctl", "start", "hatchway"]);
    assert_eq!(host.property("hatchway", "ActiveState"), "active");
    // Confined, it can do what sandboxes need, and not write where it has nothing to write.
    assert_eq!(noted(host), "proc\nread-only\n");
    let [confined, free] = ["/run/hatchway/doctor.json", "/tmp/doctor.json"].map(|path| states(host, path));
    assert_eq!(confined, free, "what the confined daemon can do differs");
    until("the other process does not begin", || {
        host.run(&["pgrep", "--full", "--exact", "(/usr/bin/)?sleep 4243"]).code == Some(0)
    });
    let before = others(host);

    step(host, &["systemctl", "reload", "hatchway"]);
    until("a reload is not heard", || noted(host).ends_with("reloaded\n"));
    let old = main_pid(host);
    step(host, &["systemctl", "restart", "hatchway"]);
    assert_ne!(main_pid(host), old);
    assert_eq!(others(host), before, "a restart has ended a tool");

    let old = main_pid(host);
    host.write("/run/hatchway/silent", "", 0o644);
    until("its watchdog does not bite", || {
        main_pid(host) != old && host.property("hatchway", "ActiveState") == "active"
    });
    assert_eq!(host.property("hatchway", "NRestarts"), "1");
    assert_eq!(others(host), before, "the watchdog has ended a tool");
    // The folder of units is not the service's, and stays when that is stopped.
    step(host, &["systemctl", "stop", "hatchway"]);
    step(host, &["test", "-s", "/run/hatchway/noted"]);
    assert_eq!(others(host), before, "a stop has ended a tool");
    step(host, &["systemctl", "start", "hatchway"]);
}

/// What `doctor` found. From a filter of system calls it guesses that user namespaces are forbidden; the daemon has made one.
fn states(host: &Systemd, path: &str) -> Vec<String> {
    let report: serde_json::Value = serde_json::from_str(&host.says(&["cat", path])).unwrap();
    let checks = report["checks"].as_array().or(report.as_array()).unwrap();
    let checks = checks.iter().filter(|check| check["name"] != "user namespaces");
    checks.map(|check| format!("{} {} {}", check["for"], check["name"], check["state"])).collect()
}

fn upgraded(host: &Systemd) {
    let (old, before) = (main_pid(host), others(host));
    host.write("/var/lib/hatchway/state/acme/kept", "x", 0o600);
    host.write("/etc/hatchway/licences/acme.dat", "x", 0o600);
    step(host, &["dpkg", "--install", "/tmp/next.deb"]);
    assert!(step(host, &["dpkg-query", "--show", "hatchway"]).ends_with("+try1"));
    assert_eq!(host.property("hatchway", "ActiveState"), "active");
    assert_ne!(main_pid(host), old, "the old daemon runs on");
    assert_eq!(others(host), before, "an upgrade has ended a tool");
    // Who has disabled it keeps that.
    step(host, &["systemctl", "disable", "--quiet", "hatchway"]);
    step(host, &["dpkg", "--install", "/tmp/next.deb"]);
    assert_eq!(host.run(&["systemctl", "is-enabled", "hatchway"]).stdout.trim(), "disabled");
    step(host, &["systemctl", "enable", "--quiet", "hatchway"]);
}

fn exists(host: &Systemd, path: &str) -> bool {
    host.run(&["test", "-e", path]).code == Some(0)
}

fn removed(host: &Systemd) {
    let before = others(host);
    step(host, &["dpkg", "--remove", "hatchway"]);
    assert_eq!(host.property("hatchway", "ActiveState"), "inactive");
    assert_eq!(others(host), before, "a removal has ended a tool");
    for path in ["/usr/bin/hatchway", "/usr/lib/systemd/system/hatchway.service", "/usr/libexec/hatchway"] {
        assert!(!exists(host, path), "{path}");
    }
    for path in [CONFIGURED, "/etc/hatchway/instrument.toml.example", "/var/lib/hatchway/state/acme/kept"] {
        assert!(exists(host, path), "{path}");
    }
}

fn purged(host: &Systemd) {
    step(host, &["rm", "-r", "/etc/systemd/system/hatchway.service.d"]);
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
