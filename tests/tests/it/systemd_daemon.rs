//! The daemon under a real systemd, by the service of the package: readiness, the watchdog, units as transient services, and that
//! whatever becomes of the daemon or of the bus, units go on.

use super::daemon::{ask_at, unit};
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

#[test]
fn who_asks_waits_for_the_daemon_where_systemd_holds_its_socket() {
    let machine = Machine::new(&unit("a", COUNTS, ""), &[]);
    let host = &machine.host;
    // As the page says it, on a machine whose daemon runs.
    machine.begin();
    let before = machine.reaches("a", "ready");
    machine.install_socket();
    host.says(&["systemctl", "enable", "--quiet", "hatchway.socket"]);
    host.says(&["systemctl", "stop", "hatchway"]);
    host.says(&["systemctl", "start", "hatchway.socket", "hatchway"]);
    assert_eq!(machine.reaches("a", "ready"), before);
    assert_eq!(host.property("hatchway.socket", "SubState"), "running");
    host.says(&["systemctl", "stop", "hatchway"]);
    assert_eq!(host.property("hatchway", "ActiveState"), "inactive");
    // Asking starts it.
    let asked = machine.hatchway(&["status"]).ok();
    assert!(!asked.stderr.contains("no daemon runs"), "{asked}");
    let run = machine.reaches("a", "ready");
    assert_eq!((host.property("hatchway", "ActiveState").as_str(), &run), ("active", &before));
    // Of connections while it is restarted none is refused, and all that come in between are answered by the next one.
    let mut restart = host.command(&["systemctl", "restart", "hatchway"]).spawn().unwrap();
    let (mut answered, mut connected) = (0, 0);
    while restart.try_wait().unwrap().is_none() || connected < 20 {
        let stream = machine.connect();
        connected += 1;
        answered += usize::from(ask_at(stream, "GET", "/v1/units/a", "").0 == 200);
    }
    // The one that was just being answered may be cut off.
    assert!(restart.wait().unwrap().success() && answered + 1 >= connected, "{answered} of {connected}");
    assert_eq!(machine.reaches("a", "ready"), run);
    // As the unit's file says: stopping it alone lasts until somebody asks.
    host.says(&["systemctl", "stop", "hatchway"]);
    drop(machine.hatchway(&["status"]).ok());
    machine.is_active();
    host.says(&["systemctl", "stop", "hatchway.socket", "hatchway"]);
    let asked = machine.hatchway(&["status"]).ok();
    assert!(asked.stderr.contains("no daemon runs"), "{asked}");
    machine.has_counted("a");
    without_its_name(&machine);
    elsewhere(&machine);
}

/// A daemon that knows nothing of it has taken the socket's name away: the next one makes one that is found.
fn without_its_name(machine: &Machine) {
    let host = &machine.host;
    host.says(&["systemctl", "start", "hatchway.socket"]);
    host.says(&["rm", "/run/hatchway/api.sock"]);
    machine.begin();
    assert_eq!(machine.ask("GET", "/v1/units/a").0, 200);
    host.says(&["systemctl", "stop", "hatchway.socket", "hatchway"]);
}

/// A socket of systemd's at which nobody would look for it is no reason to go on without one.
fn elsewhere(machine: &Machine) {
    let host = &machine.host;
    let other = "[Socket]\nListenStream=\nListenStream=/run/hatchway/other.sock\n";
    host.write("/etc/systemd/system/hatchway.socket.d/other.conf", other, 0o644);
    host.says(&["systemctl", "daemon-reload"]);
    host.says(&["systemctl", "start", "hatchway.socket"]);
    assert_ne!(host.run(&["systemctl", "start", "hatchway"]).code, Some(0));
    let said = host.says(&["journalctl", "--no-pager", "--unit=hatchway", "--lines=20"]);
    assert!(said.contains("the socket that systemd gives is not `/run/hatchway/api.sock`"), "{said}");
    host.says(&["rm", "-r", "/etc/systemd/system/hatchway.socket.d"]);
    host.says(&["systemctl", "daemon-reload"]);
    host.says(&["systemctl", "stop", "hatchway.socket", "hatchway"]);
    machine.begin();
    machine.reaches("a", "ready");
}
