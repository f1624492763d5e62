//! The list of faults of docs/operations.md under a real systemd, by the service of the package with its watchdog: here what befalls the
//! daemon while its units are at each step of their lives.

use std::time::Duration;

use super::daemon::unit;
use super::systemd_machine::{COUNTS, Machine, PROGRAM, SHIM};

/// Ends once somebody has made a file in it; says so when it listens.
const LINGERS: &str = "trap 'until test -e /tmp/end; do sleep 0.05; done; exit 0' TERM; echo lingers; while :; do sleep 0.05; done";
/// Failures of a unit at which somebody has to come, and those after which it waits long enough to be met waiting.
const FAILURES: usize = 5;
const WAITS_AFTER: usize = 4;

/// One unit at each step.
struct Steps<'a> {
    machine: &'a Machine,
    fault: &'static str,
    starting: String,
    ready: (String, String),
    stopping: String,
    ended: String,
    bus: String,
    /// Failures that were told before.
    failed: usize,
}

fn steps_of_a_life() -> Machine {
    let units = unit("idle", COUNTS, "start = \"manual\"")
        + &unit("unborn", COUNTS, "start = \"manual\"")
        + &unit("starting", COUNTS, "").replace("acme", "herald")
        + &unit("waiting", COUNTS, "after = [\"starting\"]")
        + &unit("ready", COUNTS, "")
        + &unit("stopping", LINGERS, "start = \"manual\"").replace("acme", "patient")
        + &unit("fails", "exit 9", "start = \"manual\"")
        + &unit("ended", "exit 0", "");
    let herald = "restart = \"on-failure\"\nready = { command = [\"dash\", \"-c\", \"test -e /tmp/go\"], within = \"1h\" }";
    let patient = "restart = \"on-failure\"\nstop = { grace = \"10m\" }\nready = { log = \"lingers\" }";
    let machine = Machine::new(&units, &[("herald", herald), ("patient", patient)]);
    machine.begin();
    machine
}

/// A unit that has failed and waits; the result is how many failures were told before.
fn waits_after_failures(machine: &Machine) -> usize {
    loop {
        let failed = machine.told("fails", "ended");
        drop(machine.hatchway(&["start", "--no-wait", "fails"]).ok());
        machine.until("it does not fail", || machine.told("fails", "ended") >= failed + WAITS_AFTER);
        // A busy machine may come too late to meet it waiting.
        if machine.phase("fails") == "back-off" {
            return failed;
        }
        machine.reaches("fails", "degraded");
        all_told(machine, failed);
    }
}

/// The daemon writes down what has happened in its next turn: waits until each failure since `before` is told.
fn all_told(machine: &Machine, before: usize) {
    machine.until("not each failure is told", || machine.told("fails", "ended") >= before + FAILURES);
}

impl<'a> Steps<'a> {
    /// Brings each unit to its step. What is ready and what has ended are so since the machine has begun.
    fn take(machine: &'a Machine, fault: &'static str) -> Self {
        let host = &machine.host;
        for name in ["waiting", "unborn"] {
            drop(machine.hatchway(&["stop", name]));
            machine.reaches(name, "stopped");
        }
        drop(machine.hatchway(&["restart", "--no-wait", "starting"]).ok());
        drop(machine.hatchway(&["start", "stopping"]).ok());
        drop(machine.hatchway(&["stop", "--no-wait", "stopping"]).ok());
        machine.reaches("starting", "starting");
        drop(machine.hatchway(&["start", "--no-wait", "waiting"]).ok());
        machine.reaches("waiting", "blocked");
        let steps = Steps {
            machine,
            fault,
            starting: machine.reaches("starting", "starting"),
            ready: (machine.reaches("ready", "ready"), machine.recorder("ready")),
            stopping: machine.reaches("stopping", "stopping"),
            ended: machine.reaches("ended", "ended"),
            bus: host.property("dbus", "MainPID"),
            failed: waits_after_failures(machine),
        };
        // The bus does not answer: its recorder is not there yet.
        machine.signal(&steps.bus, "STOP");
        drop(machine.hatchway(&["start", "--no-wait", "unborn"]).ok());
        machine.until("its start has not begun", || {
            host.run(&["sh", "-c", "ls /run/hatchway/units/unborn/*/lock"]).code == Some(0)
        });
        assert_eq!(machine.recorders("unborn").len(), 0, "{}: it has a recorder already", steps.fault);
        steps
    }

    /// What was done to the daemon is over: each unit is as it was, and goes on to its next step.
    fn go_on(self) {
        let Steps { machine, fault, .. } = &self;
        machine.signal(&self.bus, "CONT");
        assert_eq!(machine.phase("idle"), "stopped", "{fault}: before its start");
        assert_eq!(machine.recorders("idle").len(), 0, "{fault}: it was started though nobody wanted it to");
        machine.reaches("unborn", "ready");
        assert_eq!(machine.recorders("unborn").len(), 1, "{fault}: while its recorder was not there yet");
        assert_eq!(machine.phase("waiting"), "blocked", "{fault}: before what it waits for was ready");
        self.starts();
        self.ends();
        assert_eq!(machine.reaches("ready", "ready"), self.ready.0, "{fault}: ready, and started anew");
        assert_eq!(machine.recorder("ready"), self.ready.1, "{fault}: ready, and has another recorder");
        machine.has_counted("ready");
        assert_eq!(machine.reaches("ended", "ended"), self.ended, "{fault}: ended, and started anew");
        assert_eq!(machine.told("ended", "ended"), 1, "{fault}: its end was told again");
        machine.reaches("fails", "degraded");
        all_told(machine, self.failed);
        let failed = machine.told("fails", "ended") - self.failed;
        assert_eq!(failed, FAILURES, "{fault}: in its back-off, and failures were forgotten");
        machine.nothing_is_left("fails");
    }

    fn starts(&self) {
        let Steps { machine, fault, .. } = self;
        assert_eq!(machine.reaches("starting", "starting"), self.starting, "{fault}: while it was starting");
        drop(machine.hatchway(&["exec", "starting", "--", "touch", "/tmp/go"]).ok());
        assert_eq!(
            machine.reaches("starting", "ready"),
            self.starting,
            "{fault}: starting, and started anew"
        );
        machine.reaches("waiting", "ready");
        for name in ["starting", "waiting"] {
            assert_eq!(machine.recorders(name).len(), 1, "{fault}: {name} has not one recorder");
        }
    }

    fn ends(&self) {
        let Steps { machine, fault, .. } = self;
        assert_eq!(machine.reaches("stopping", "stopping"), self.stopping, "{fault}: while it was stopped");
        drop(machine.hatchway(&["exec", "stopping", "--", "touch", "/tmp/end"]).ok());
        assert_eq!(
            machine.reaches("stopping", "stopped"),
            self.stopping,
            "{fault}: stopped, and started anew"
        );
        let reason = machine.unit("stopping")["record"]["reason"].clone();
        assert_eq!(reason["requested"]["forced"], false, "{fault}: while it was stopped: {reason}");
        machine.nothing_is_left("stopping");
    }
}

#[test]
fn a_daemon_that_is_killed_or_hangs_at_each_step_of_a_units_life_changes_nothing() {
    let machine = steps_of_a_life();
    let killed = Steps::take(&machine, "killed");
    let before = machine.daemon();
    machine.signal(&before, "KILL");
    machine.follows(&before);
    killed.go_on();

    let hangs = Steps::take(&machine, "hung until the watchdog bit");
    let before = machine.daemon();
    machine.signal(&before, "STOP");
    machine.follows(&before);
    hangs.go_on();

    let rests = Steps::take(&machine, "stopped for a moment");
    let before = machine.daemon();
    machine.signal(&before, "STOP");
    std::thread::sleep(Duration::from_millis(300));
    machine.signal(&before, "CONT");
    rests.go_on();
    assert_eq!(machine.daemon(), before, "a moment is not a hang");
}

#[test]
fn a_daemon_that_is_upgraded_or_downgraded_at_each_step_of_a_units_life_changes_nothing() {
    let machine = steps_of_a_life();
    for fault in ["upgraded", "downgraded"] {
        let steps = Steps::take(&machine, fault);
        let before = machine.daemon();
        // As a package manager does it.
        for path in [PROGRAM, SHIM] {
            let other = format!("{path}.other");
            machine.host.says(&["cp", "-p", path, &other]);
            machine.host.says(&["mv", "-T", &other, path]);
        }
        machine.host.says(&["systemctl", "restart", "hatchway"]);
        machine.follows(&before);
        steps.go_on();
        for (pid, is_new) in [(machine.recorder("ready"), false), (machine.daemon(), true)] {
            let program = machine.host.says(&["readlink", &format!("/proc/{pid}/exe")]);
            assert_eq!(!program.ends_with(" (deleted)"), is_new, "{fault}: {program}");
        }
        drop(machine.hatchway(&["start", "idle"]).ok());
        let program = machine.host.says(&["readlink", &format!("/proc/{}/exe", machine.recorder("idle"))]);
        assert!(!program.ends_with(" (deleted)"), "{fault}: a later start is by the old program: {program}");
        drop(machine.hatchway(&["stop", "idle"]).ok());
    }
}
