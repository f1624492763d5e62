//! The daemon under a real systemd, by the service of the package: readiness, the watchdog, units as transient services, and that
//! whatever becomes of the daemon or of the bus, units go on.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hatchway_tests::bench::{Bench, program};
use hatchway_tests::systemd::Systemd;
use serde_json::Value;

use super::rungs::{Rungs, until};

const PATIENCE: Duration = Duration::from_secs(20);
/// Counts, so that a gap in its log shows.
pub(super) const STAYS: &str =
    "trap 'echo bye; exit 0' TERM; i=0; while :; do i=$((i + 1)); echo $i; sleep 0.05; done";

/// A bench with a built tool that is a shell, and a recipe with this in its `[service]`.
pub(super) fn built(service: &str) -> Rungs {
    let rungs = Rungs::without_engine(Bench::new().exact(), "");
    let bench = &rungs.bench;
    let recipe = bench.path("work/recipes/acme/recipe.toml");
    let text = fs::read_to_string(&recipe).unwrap();
    let text: Vec<&str> = text.lines().filter(|line| !line.starts_with("program =")).collect();
    let text = text.join("\n").replace("[run]", "[run]\nprogram = \"/usr/bin/dash\"");
    fs::write(&recipe, format!("{text}\n[service]\n{service}\n")).unwrap();
    drop(bench.hatchway(&["lock", "-q", "acme"]).ok());
    drop(bench.hatchway(&["build", "-q", "acme"]).ok());
    rungs
}

/// A machine with the programs, a built tool, and an instrument with one unit of it.
fn machine() -> Systemd {
    let rungs = built("restart = \"on-failure\"");
    let bench = &rungs.bench;
    let host = Systemd::start();
    let packaging = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("packaging");
    host.copy(program(), "/usr/bin/hatchway");
    host.copy(&program().with_file_name("hatchway-shim"), "/usr/libexec/hatchway/hatchway-shim");
    host.copy(&packaging.join("hatchway.service"), "/etc/systemd/system/hatchway.service");
    // So that the watchdog bites within a test.
    host.write("/etc/systemd/system/hatchway.service.d/test.conf", "[Service]\nWatchdogSec=2\n", 0o644);
    into(&host, &bench.path("data"), "/var/lib/hatchway");
    into(&host, &bench.path("work/recipes"), "/etc/hatchway/recipes");
    let instrument = format!(
        "schema = 1\n[instrument]\nname = \"x\"\n[unit.a]\nrecipe = \"acme\"\nargs = [\"-c\", {STAYS:?}]\n"
    );
    host.write("/etc/hatchway/instrument.toml", instrument, 0o644);
    host.says(&["systemctl", "daemon-reload"]);
    host
}

/// A folder with all in it.
pub(super) fn into(host: &Systemd, from: &std::path::Path, to: &str) {
    host.says(&["mkdir", "-p", to]);
    let mut pack =
        Command::new("tar").args(["-c", "-C"]).arg(from).arg(".").stdout(Stdio::piped()).spawn().unwrap();
    let unpacked =
        host.command(&["tar", "-x", "-C", to]).stdin(pack.stdout.take().unwrap()).status().unwrap();
    assert!(unpacked.success() && pack.wait().unwrap().success());
}

pub(super) fn unit(host: &Systemd) -> Value {
    let outcome = host.run(&["hatchway", "status", "a", "--json"]);
    let all: Value =
        serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {outcome}"));
    all.as_array().unwrap().last().unwrap().clone()
}

/// Its run, once it is ready.
pub(super) fn ready(host: &Systemd) -> String {
    let end = Instant::now() + PATIENCE;
    loop {
        let unit = unit(host);
        if unit["unit"]["phase"] == "ready" {
            return unit["run"].as_str().unwrap().to_owned();
        }
        let said = || host.run(&["journalctl", "--no-pager", "--lines=20"]).stdout;
        assert!(
            Instant::now() < end,
            "it is not ready: {unit:#}\n{}\n{}",
            host.run(&["hatchway", "events"]).stdout,
            said()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub(super) fn daemon(host: &Systemd) -> String {
    host.property("hatchway", "MainPID")
}

#[test]
fn units_are_services_of_systemds_and_go_on_whatever_becomes_of_the_daemon() {
    let host = machine();
    host.says(&["systemctl", "start", "hatchway"]);
    let run = ready(&host);
    let service = format!("hatchway-a-{run}.service");
    assert_eq!(host.property(&service, "ActiveState"), "active");
    assert_eq!(host.property(&service, "Slice"), "hatchway.slice");
    let recorder = host.property(&service, "MainPID");
    assert_eq!(host.says(&["cat", &format!("/proc/{recorder}/comm")]), "hatchway-unit");
    let variables = host.says(&["cat", &format!("/proc/{recorder}/environ")]);
    assert!(!variables.contains("NOTIFY_SOCKET"), "{variables:?}");
    // Nothing of the unit is in the daemon's group.
    let group = host.property("hatchway", "ControlGroup");
    assert_eq!(host.says(&["cat", &format!("/sys/fs/cgroup{group}/cgroup.procs")]), daemon(&host));

    // Stopped, started, reloaded.
    host.says(&["systemctl", "stop", "hatchway"]);
    assert_eq!(host.property(&service, "ActiveState"), "active");
    host.says(&["systemctl", "start", "hatchway"]);
    assert_eq!(ready(&host), run);
    host.says(&["systemctl", "reload", "hatchway"]);
    host.says(&["systemctl", "daemon-reload"]);
    assert_eq!((ready(&host), host.property(&service, "MainPID")), (run.clone(), recorder.clone()));
    // Killed: systemd starts another.
    let first = daemon(&host);
    host.says(&["kill", "-KILL", &first]);
    until("no other daemon comes", || !["0", first.as_str()].contains(&daemon(&host).as_str()));
    assert_eq!(ready(&host), run);
    // Stopped in the middle of its work: the watchdog sees that.
    let second = daemon(&host);
    host.says(&["kill", "-STOP", &second]);
    until("the watchdog does not bite", || !["0", second.as_str()].contains(&daemon(&host).as_str()));
    until("the next one is not ready", || host.property("hatchway", "ActiveState") == "active");
    assert_eq!(ready(&host), run);
    assert_eq!(host.property(&service, "MainPID"), recorder);
    counts(&host);

    frozen(&host, &service);
    ended_by_systemd(&host, &service);
    without_a_bus(&host);
}

/// All that it has said is there; gives how far it has counted.
pub(super) fn counts(host: &Systemd) -> usize {
    let logs = host.says(&["hatchway", "logs", "a"]);
    let numbers: Vec<usize> = logs.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len()).collect::<Vec<_>>());
    numbers.len()
}

/// What is frozen answers nobody, and is no failure of the daemon's.
fn frozen(host: &Systemd, service: &str) {
    host.says(&["systemctl", "freeze", service]);
    let before = daemon(host);
    assert_eq!(unit(host)["state"], "running");
    host.says(&["systemctl", "thaw", service]);
    assert_eq!(daemon(host), before);
    ready(host);
}

/// Somebody ends the service: the unit's record says that it was asked to.
fn ended_by_systemd(host: &Systemd, service: &str) {
    host.says(&["systemctl", "stop", service]);
    until("it does not end", || unit(host)["unit"]["phase"] == "ended");
    assert_eq!(unit(host)["record"]["reason"]["requested"]["forced"], false, "{}", unit(host));
    assert_eq!(unit(host)["why"], "it was asked to end (SIGTERM) and did: code 0");
    until("the service is still there", || host.property(service, "LoadState") == "not-found");
}

fn without_a_bus(host: &Systemd) {
    host.says(&["systemctl", "stop", "dbus.socket", "dbus.service"]);
    host.says(&["hatchway", "start", "a"]);
    ready(host);
    let events = host.says(&["hatchway", "events", "a"]);
    assert!(events.contains("systemd does not take it"), "{events}");
    // It is in the daemon's group now, and stays all the same.
    let run = ready(host);
    host.says(&["systemctl", "restart", "hatchway"]);
    assert_eq!(ready(host), run);
    host.says(&["hatchway", "stop", "a"]);
}
