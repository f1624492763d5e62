//! The list of faults of docs/operations.md under a real systemd: what units do that they should not, and what befalls them. Afterwards
//! their services are gone, with all that was in their control groups.

use serde_json::Value;

use super::daemon::unit;
use super::rungs::{odd_seconds, sleeps};
use super::systemd_machine::{COUNTS, Machine};

/// What the recipes have beyond the shell. A busy machine still ends in that time what listens.
const HASTY: &str = "stop = { grace = \"5s\" }\n[run.limits]\ntasks = 60";
const ONCE: &str = "restart = \"never\"";

/// As fast as it can, and for ever.
const LOUD: &str = "while :; do head -c 500000000 /dev/zero | tr '\\0' 'y'; echo; done";
/// Orphans that end at once: somebody has to wait for each.
const STORM: &str =
    "i=0; while [ $i -lt 500 ]; do dash -c '(exit 0) & (exit 0) &'; i=$((i + 1)); done; echo done; ";

/// Something that a unit must not leave.
struct Sleepers([String; 5]);

impl Sleepers {
    fn new() -> Self {
        Self(std::array::from_fn(|_| odd_seconds()))
    }

    fn units(&self) -> String {
        let [deaf, daemon, session, talks, bomb] = &self.0;
        let deaf = format!("trap '' TERM INT HUP; while :; do sleep {deaf}; done");
        // No parent, no streams, no signals; a session of its own; and one that only has no parent, and holds the log open.
        let escapes = format!(
            "(trap '' TERM HUP; (sleep {daemon} > /dev/null 2>&1 < /dev/null &) &); \
             (setsid sleep {session} > /dev/null 2>&1 < /dev/null &); (sleep {talks} &); {COUNTS}"
        );
        // As many as it may have, and again whenever one is gone.
        let bomb = format!("b() {{ sleep {bomb} & b & b; }}; b 2> /dev/null & exec sleep {bomb}");
        let hasty = |name: &str, script: &str, more: &str| unit(name, script, more).replace("acme", "hasty");
        unit("quiet", COUNTS, "")
            + &unit("taken", COUNTS, "").replace("acme", "once")
            + &hasty("deaf", &deaf, "")
            + &hasty("escapes", &escapes, "")
            + &hasty("bomb", &bomb, "user = \"nobody\"\nstart = \"manual\"")
            + &hasty("storm", &format!("{STORM}{COUNTS}"), "start = \"manual\"")
            + &hasty("loud", LOUD, "start = \"manual\"")
    }

    fn sleep(&self, nth: &[usize]) -> bool {
        nth.iter().all(|nth| sleeps(&self.0[*nth]))
    }

    fn none(&self, fault: &str) {
        let left: Vec<_> = self.0.iter().filter(|seconds| sleeps(seconds)).collect();
        assert!(left.is_empty(), "{fault}: something is left: {left:?}");
    }
}

#[test]
fn whatever_a_unit_does_all_of_it_is_gone_with_its_service_and_others_do_not_notice() {
    let sleepers = Sleepers::new();
    let machine = Machine::new(&sleepers.units(), &[("hasty", HASTY), ("once", ONCE)]);
    machine.begin();
    let quiet = (machine.reaches("quiet", "ready"), machine.recorder("quiet"));
    let daemon = machine.daemon();
    deaf_and_escaped(&machine, &sleepers);
    bomb(&machine, &sleepers);
    zombies(&machine);
    loud(&machine);
    assert_eq!(machine.daemon(), daemon, "the daemon was not alive enough for its watchdog");
    somebody_elses_number(&machine);
    assert_eq!((machine.reaches("quiet", "ready"), machine.recorder("quiet")), quiet);
    machine.has_counted("quiet");
    drop(machine.hatchway(&["stop", "quiet"]).ok());
    machine.nothing_is_left("quiet");
}

fn deaf_and_escaped(machine: &Machine, sleepers: &Sleepers) {
    for (name, own, forced) in [("deaf", &[0][..], true), ("escapes", &[1, 2, 3], false)] {
        machine.reaches(name, "ready");
        machine.until("it does not sleep", || sleepers.sleep(own));
        drop(machine.hatchway(&["stop", name]).ok());
        let reason = machine.unit(name)["record"]["reason"].clone();
        assert_eq!(reason["requested"]["forced"], forced, "{name}: {reason}");
        machine.nothing_is_left(name);
    }
    sleepers.none("deaf and escaped");
}

fn bomb(machine: &Machine, sleepers: &Sleepers) {
    drop(machine.hatchway(&["start", "bomb"]).ok());
    machine.until("it does not sleep", || sleepers.sleep(&[4]));
    // While it goes off, others start and stop.
    drop(machine.hatchway(&["start", "storm"]).ok());
    drop(machine.hatchway(&["stop", "storm"]).ok());
    drop(machine.hatchway(&["kill", "bomb"]).ok());
    machine.nothing_is_left("bomb");
    sleepers.none("a fork bomb");
}

fn zombies(machine: &Machine) {
    drop(machine.hatchway(&["start", "storm"]).ok());
    machine.until("the storm does not end", || machine.hatchway(&["logs", "storm"]).stdout.contains("done"));
    // The last of them may not have been waited for yet.
    machine.until("zombies are left", || {
        let stats = machine.hatchway(&["stats", "storm", "--json"]).ok().json();
        stats[0]["processes"].as_u64().unwrap() < 10
    });
    drop(machine.hatchway(&["stop", "storm"]).ok());
    machine.nothing_is_left("storm");
}

fn loud(machine: &Machine) {
    drop(machine.hatchway(&["start", "loud"]).ok());
    let logged = || machine.hatchway(&["logs", "quiet"]).ok().stdout.lines().count();
    let before = logged();
    machine.until("a quiet unit is not heard beside a loud one", || logged() > before + 40);
    drop(machine.hatchway(&["stop", "loud"]).ok());
    let record = machine.unit("loud")["record"]["logged"].clone();
    let (out, dropped) = (record["out"].as_u64().unwrap(), record["dropped"].as_u64().unwrap());
    assert!(out > 100_000_000 && dropped > 0 && dropped < out, "{record}");
    machine.nothing_is_left("loud");
}

/// Numbers of processes are given out anew; in the namespace of this systemd the next one can be chosen (ns_last_pid, proc(5)).
fn somebody_elses_number(machine: &Machine) {
    let (run, recorder) = (machine.reaches("taken", "ready"), machine.recorder("taken"));
    machine.signal(&recorder, "KILL");
    machine.reaches("taken", "failed");
    machine.nothing_is_left("taken");
    let take = "for try in $(seq 200); do\n\
                    echo $(($1 - 1)) > /proc/sys/kernel/ns_last_pid\n\
                    sleep 600 > /dev/null 2>&1 &\n\
                    test $! = $1 && exit 0\n\
                    kill $!\n\
                done\nexit 9";
    let took = machine.host.run(&["sh", "-c", take, "take", &recorder]);
    assert_eq!(took.code, Some(0), "the number {recorder} was not given out again: {took}");
    // Neither people nor daemons take it for what had its number.
    for verb in ["kill", "stop"] {
        drop(machine.hatchway(&[verb, "taken"]));
    }
    machine.host.says(&["systemctl", "restart", "hatchway"]);
    machine.is_active();
    assert_eq!(machine.phase("taken"), "stopped");
    assert_eq!(machine.unit("taken")["state"], "lost", "{:#}", machine.unit("taken"));
    drop(machine.hatchway(&["start", "taken"]).ok());
    assert_ne!(machine.run("taken"), run);
    drop(machine.hatchway(&["stop", "taken"]).ok());
    let name = machine.host.says(&["cat", &format!("/proc/{recorder}/comm")]);
    assert_eq!(name, "sleep", "who has the number now was ended in its stead");
}

/// Docker's engine and what runs its containers, as Debian's packages start them.
const CONTAINERD: &str =
    "[Service]\nExecStart=/usr/bin/containerd --config /etc/engine.toml\nDelegate=yes\nKillMode=process\n";
const ENGINE: &str = "[Unit]\nRequires=runs.service\nAfter=runs.service\n[Service]\nType=notify\nDelegate=yes\nKillMode=process\nRestart=on-failure\nRestartSec=100ms\n\
     ExecStart=/usr/sbin/dockerd --containerd=/run/engine/containerd.sock --host=unix:///run/docker.sock --data-root=/var/lib/engine \
     --bridge=none --iptables=false --storage-driver=vfs\n";
const SETTINGS: &str = "version = 2\nroot = \"/var/lib/engine-runs\"\nstate = \"/run/engine\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
     [grpc]\naddress = \"/run/engine/containerd.sock\"\n";

#[test]
fn a_unit_in_a_container_comes_back_with_its_engine() {
    let machine = Machine::new(&unit("inside", COUNTS, "rung = \"container\""), &[]);
    let host = &machine.host;
    host.write("/etc/engine.toml", SETTINGS, 0o644);
    host.write("/etc/systemd/system/runs.service", CONTAINERD, 0o644);
    host.write("/etc/systemd/system/engine.service", ENGINE, 0o644);
    host.says(&["systemctl", "daemon-reload"]);
    host.says(&["systemctl", "start", "engine"]);
    machine.begin();
    let first = machine.reaches("inside", "ready");
    let service = machine.service("inside");
    assert_eq!(host.property(&service, "ActiveState"), "active");
    for (what, words) in [
        ("restarted", &["systemctl", "restart", "engine"][..]),
        ("killed", &["systemctl", "kill", "--signal=KILL", "--kill-whom=main", "engine"]),
    ] {
        let before = machine.run("inside");
        host.says(words);
        machine.until(&format!("no other run begins after its engine was {what}"), || {
            // An engine that is slow to come back has each try fail meanwhile, until the unit waits for a person.
            if machine.phase("inside") == "degraded" {
                drop(machine.hatchway(&["start", "--no-wait", "inside"]));
            }
            machine.run("inside") != before && machine.phase("inside") == "ready"
        });
        // Tries that failed are runs of their own, with ends of their own.
        let events = machine.events("inside");
        let of_before = |event: &&Value| event["kind"] == "ended" && event["run"] == before.as_str();
        let ends: Vec<_> = events.iter().filter(of_before).collect();
        assert_eq!(ends.len(), 1, "{what}: its end was not told once: {ends:#?}");
        let text = ends[0]["text"].as_str().unwrap();
        assert!(text.starts_with("the engine ended it") || text.contains("SIGKILL"), "{what}: {text}");
        assert_eq!(machine.recorders("inside").len(), 1, "{what}");
        // What a person asks for forgets the failures: the next round begins with none.
        drop(machine.hatchway(&["restart", "inside"]).ok());
    }
    assert_ne!(machine.run("inside"), first);
    drop(machine.hatchway(&["stop", "inside"]).ok());
    machine.nothing_is_left("inside");
}
