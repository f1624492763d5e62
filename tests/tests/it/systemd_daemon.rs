//! The daemon under a real systemd, by the service of the package: readiness, the watchdog, units as transient services, and that
//! whatever becomes of the daemon or of the bus, units go on.

use super::daemon::unit;
use super::systemd_machine::{COUNTS, Machine};

#[test]
fn units_are_services_of_systemds_and_go_on_whatever_becomes_of_the_daemon() {
    let machine = Machine::new(&unit("a", COUNTS, ""), &[]);
    let host = &machine.host;
    machine.begin();
    let run = machine.reaches("a", "ready");
    let service = machine.service("a");
    assert_eq!(host.property(&service, "ActiveState"), "active");
    assert_eq!(host.property(&service, "Slice"), "hatchway.slice");
    let recorder = machine.recorder("a");
    assert_eq!(host.says(&["cat", &format!("/proc/{recorder}/comm")]), "hatchway-unit");
    let variables = host.says(&["cat", &format!("/proc/{recorder}/environ")]);
    assert!(!variables.contains("NOTIFY_SOCKET"), "{variables:?}");
    // Nothing of the unit is in the daemon's group.
    let group = host.property("hatchway", "ControlGroup");
    assert_eq!(host.says(&["cat", &format!("/sys/fs/cgroup{group}/cgroup.procs")]), machine.daemon());

    // Stopped, started, reloaded. What becomes of units when it is killed, or hangs: `systemd_faults`.
    host.says(&["systemctl", "stop", "hatchway"]);
    assert_eq!(host.property(&service, "ActiveState"), "active");
    machine.begin();
    assert_eq!(machine.reaches("a", "ready"), run);
    host.says(&["systemctl", "reload", "hatchway"]);
    host.says(&["systemctl", "daemon-reload"]);
    assert_eq!((machine.reaches("a", "ready"), machine.recorder("a")), (run, recorder));
    // All that it has said is there.
    machine.has_counted("a");

    frozen(&machine, &service);
    ended_by_systemd(&machine, &service);
    without_a_bus(&machine);
}

/// What is frozen answers nobody, and is no failure of the daemon's.
fn frozen(machine: &Machine, service: &str) {
    machine.host.says(&["systemctl", "freeze", service]);
    let before = machine.daemon();
    assert_eq!(machine.unit("a")["state"], "running");
    machine.host.says(&["systemctl", "thaw", service]);
    assert_eq!(machine.daemon(), before);
    machine.reaches("a", "ready");
}

/// Somebody ends the service: the unit's record says that it was asked to.
fn ended_by_systemd(machine: &Machine, service: &str) {
    machine.host.says(&["systemctl", "stop", service]);
    machine.reaches("a", "ended");
    let unit = machine.unit("a");
    assert_eq!(unit["record"]["reason"]["requested"]["forced"], false, "{unit:#}");
    assert_eq!(unit["why"], "it was asked to end (SIGTERM) and did: code 0");
    machine.nothing_is_left("a");
}

// Before, a start was over only when its unit ended: systemd holds the other end of the pipe on which the recorder let that be heard.
// With four units that ran no other one started, and `run --detach` stayed.
#[test]
fn a_start_is_over_when_the_unit_is_kept_however_many_run() {
    let names = ["a", "b", "c", "d", "e", "f"];
    let units: String = names.iter().map(|name| unit(name, COUNTS, "")).collect();
    let machine = Machine::new(&units, &[]);
    machine.begin();
    for name in names {
        machine.reaches(name, "ready");
        machine.until("its start is not told", || machine.told(name, "starting") == 1);
        assert_eq!(machine.host.property(&machine.service(name), "ActiveState"), "active");
    }
    let recipe = "/etc/hatchway/recipes/acme";
    drop(machine.hatchway(&["run", "-q", "--detach", recipe, "--", "-c", COUNTS]).ok());
    assert_eq!(machine.recorders("acme").len(), 1);
    drop(machine.hatchway(&["stop", "acme"]).ok());
    machine.nothing_is_left("acme");
}

fn without_a_bus(machine: &Machine) {
    machine.host.says(&["systemctl", "stop", "dbus.socket", "dbus.service"]);
    drop(machine.hatchway(&["start", "a"]).ok());
    let run = machine.reaches("a", "ready");
    let events = machine.host.says(&["hatchway", "events", "a"]);
    assert!(events.contains("systemd does not take it"), "{events}");
    // It is in the daemon's group now, and stays all the same.
    machine.host.says(&["systemctl", "restart", "hatchway"]);
    assert_eq!(machine.reaches("a", "ready"), run);
    drop(machine.hatchway(&["stop", "a"]).ok());
}
