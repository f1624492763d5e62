//! The harness that boots a systemd for other tests: what it is made for works in it, and nothing of it is left.

use std::fs;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use hatchway_tests::systemd::Systemd;

use super::rungs::until;

/// A service that says when it is ready, and is then alive as often as it is told to be.
const NOTIFIES: &str = "#!/bin/sh\nsystemd-notify --ready --status=\"heard $1\"\nn=0\nwhile test $n -lt \"$1\"; do sleep 0.2; \
                        systemd-notify WATCHDOG=1; n=$((n + 1)); done\nexec sleep 600\n";

#[test]
fn services_are_started_watched_and_restarted() {
    let host = Systemd::start();
    restarts(&host);
    readiness_and_watchdog(&host);
    freezing(&host);
    reload(&host);
    bus(&host);
    limits(&host);
}

fn restarts(host: &Systemd) {
    let script = "echo began >> /run/began; test $(wc -l < /run/began) -ge 3";
    let transient = ["systemd-run", "--wait", "--quiet", "--property=Restart=on-failure"];
    let outcome = host.run(&[&transient[..], &["--property=RestartSec=50ms", "sh", "-c", script]].concat());
    assert_eq!(outcome.code, Some(0), "{outcome}");
    assert_eq!(host.says(&["cat", "/run/began"]).lines().count(), 3);
    // Without it, the code is handed on.
    assert_eq!(host.run(&["systemd-run", "--wait", "--quiet", "sh", "-c", "exit 7"]).code, Some(7));
}

fn readiness_and_watchdog(host: &Systemd) {
    host.write("/usr/local/bin/acmed", NOTIFIES, 0o755);
    let run = ["systemd-run", "--unit=acmed", "--property=Type=notify", "--property=NotifyAccess=all"];
    // Longer than a busy machine takes from one sign of life to the next.
    host.says(&[&run[..], &["--property=WatchdogSec=5", "/usr/local/bin/acmed", "4"]].concat());
    // `systemd-run` came back after it was ready.
    assert_eq!(host.property("acmed", "ActiveState"), "active");
    assert_eq!(host.property("acmed", "StatusText"), "heard 4");
    until("its watchdog does not bite", || host.property("acmed", "ActiveState") == "failed");
    assert_eq!(host.property("acmed", "Result"), "watchdog");
    host.says(&["systemctl", "reset-failed", "acmed"]);
}

fn freezing(host: &Systemd) {
    host.says(&[
        "systemd-run",
        "--unit=counter",
        "sh",
        "-c",
        "while :; do echo x >> /run/count; sleep 0.02; done",
    ]);
    let count = || host.run(&["cat", "/run/count"]).stdout.len();
    until("it does not count", || count() > 0);
    host.says(&["systemctl", "freeze", "counter"]);
    assert_eq!(host.property("counter", "FreezerState"), "frozen");
    let frozen = count();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(count(), frozen);
    host.says(&["systemctl", "thaw", "counter"]);
    until("it does not count again", || count() > frozen);
    host.says(&["systemctl", "stop", "counter"]);
}

fn reload(host: &Systemd) {
    let unit = |text: &str| {
        host.write(
            "/etc/systemd/system/acme.service",
            format!("[Service]\nExecStart=/bin/sleep 600\n{text}"),
            0o644,
        );
    };
    unit("");
    host.says(&["systemctl", "daemon-reload"]);
    host.says(&["systemctl", "start", "acme"]);
    let main = host.property("acme", "MainPID");
    unit("Nice=7\n");
    until("a change is not seen", || host.property("acme", "NeedDaemonReload") == "yes");
    host.says(&["systemctl", "daemon-reload"]);
    assert_eq!(host.property("acme", "Nice"), "7");
    assert_eq!(host.property("acme", "MainPID"), main);
}

fn bus(host: &Systemd) {
    let call = ["busctl", "--system", "call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1"];
    let method = ["org.freedesktop.systemd1.Manager", "GetUnit", "s", "dbus.service"];
    let said = host.says(&[&call[..], &method].concat());
    assert!(said.contains("/org/freedesktop/systemd1/unit/dbus_2eservice"), "{said}");
    assert!(host.says(&["ip", "-brief", "address"]).starts_with("lo "), "its network is not its own");
}

/// Limits hold where the controllers are there, and the harness says where they are not.
fn limits(host: &Systemd) {
    let controllers = host.controllers();
    let outcome = host.run(&[
        "systemd-run",
        "--wait",
        "--quiet",
        "--property=TasksMax=3",
        "sh",
        "-c",
        "sleep 1 & sleep 1 & sleep 1 & sleep 1 & wait",
    ]);
    let holds = controllers.iter().any(|name| name == "pids");
    assert_eq!(outcome.code != Some(0), holds, "with the controllers {controllers:?}: {outcome}");
}

/// What could be left of one.
struct Traces {
    pid: u32,
    folder: PathBuf,
    group: String,
}

impl Traces {
    fn of(host: &Systemd) -> Self {
        // The argument tells it from all others on this machine. With `exec` it is itself when this comes back.
        let argument = host.group().replace("hatchway-systemd-", "98765.");
        host.says(&["systemd-run", "--unit=stays", "--property=Type=exec", "sleep", &argument]);
        let traces = Self { pid: host.pid(), folder: host.folder().to_owned(), group: host.group() };
        assert!(traces.sleeps() && traces.groups().is_none_or(|path| path.is_dir()));
        traces
    }

    fn sleeps(&self) -> bool {
        let wanted = self.group.replace("hatchway-systemd-", "sleep\098765.") + "\0";
        let processes = fs::read_dir("/proc").unwrap().flatten();
        processes
            .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
            .any(|line| line.ends_with(wanted.as_bytes()))
    }

    /// Its control group, where this machine has those of version 2 mounted.
    fn groups(&self) -> Option<PathBuf> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let at = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let at = at.filter(|words| words[2] == "cgroup2").map(|words| Path::new(words[1]).join(&self.group));
        at.into_iter().next()
    }

    fn are_gone(&self) {
        assert!(!Path::new(&format!("/proc/{}", self.pid)).exists(), "systemd is left");
        assert!(!self.sleeps(), "a service is left");
        assert!(self.groups().is_none_or(|path| !path.exists()), "its control group is left");
        assert!(!self.folder.exists(), "its folder is left");
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!mounts.contains(&self.folder.display().to_string()), "a mount is left");
    }
}

#[test]
fn nothing_is_left_of_a_systemd() {
    let before = fs::metadata("/etc/machine-id").ok().and_then(|there| there.modified().ok());
    let host = Systemd::start();
    host.write("/etc/hatchway-was-here", "x", 0o644);
    let mut visitor = host.command(&["sleep", "600"]).spawn().unwrap();
    let traces = Traces::of(&host);
    drop(host);
    assert!(!visitor.wait().unwrap().success());
    traces.are_gone();
    assert!(!Path::new("/etc/hatchway-was-here").exists());
    assert_eq!(fs::metadata("/etc/machine-id").ok().and_then(|there| there.modified().ok()), before);
}

#[test]
fn nothing_is_left_when_a_test_panics() {
    let mut traces = None;
    let panicked = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let host = Systemd::start();
        traces = Some(Traces::of(&host));
        assert!(host.says(&["echo", "no"]).is_empty(), "as a test that fails");
    }));
    assert!(panicked.is_err());
    traces.unwrap().are_gone();
}

#[test]
fn two_do_not_see_each_other() {
    let (one, other) = (Systemd::start(), Systemd::start());
    one.says(&["systemd-run", "--unit=acme", "sleep", "600"]);
    assert_eq!(one.property("acme", "ActiveState"), "active");
    assert_eq!(other.property("acme", "LoadState"), "not-found");
    other.write("/run/mine", "x", 0o644);
    assert_eq!(one.run(&["test", "-e", "/run/mine"]).code, Some(1));
}
