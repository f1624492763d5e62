//! The list of faults of docs/operations.md under a real systemd: what befalls the daemon's files, its API, its bus, and systemd itself.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::daemon::{raw, unit};
use super::systemd_machine::{COUNTS, Machine, SHIM};

/// Where the daemon keeps what it keeps.
const KEPT: &str = "/var/lib/hatchway/daemon";
/// More than the daemon lets in.
const HALF_OPEN: usize = 1000;

const BUSCTL: [&str; 6] = [
    "busctl",
    "--system",
    "call",
    "org.freedesktop.systemd1",
    "/org/freedesktop/systemd1",
    "org.freedesktop.systemd1.Manager",
];

/// A unit that nothing of all this is to touch.
struct Bystander<'a> {
    machine: &'a Machine,
    run: String,
    recorder: String,
}

impl<'a> Bystander<'a> {
    fn of(machine: &'a Machine) -> Self {
        machine.begin();
        Self { machine, run: machine.reaches("a", "ready"), recorder: machine.recorder("a") }
    }

    fn is_untouched(&self, fault: &str) {
        let machine = self.machine;
        machine.is_active();
        assert_eq!(machine.reaches("a", "ready"), self.run, "{fault}: it was started anew");
        assert_eq!(machine.recorder("a"), self.recorder, "{fault}: it has another recorder");
        machine.has_counted("a");
    }
}

#[test]
fn whatever_befalls_its_files_and_its_api_the_daemon_lives_and_units_go_on() {
    let machine = Machine::new(&(unit("a", COUNTS, "") + &unit("b", COUNTS, "start = \"manual\"")), &[]);
    let bystander = Bystander::of(&machine);
    two_daemons(&machine);
    bystander.is_untouched("two daemons");
    malformed(&machine);
    bystander.is_untouched("malformed input");
    many_others(&machine);
    half_open(&machine);
    bystander.is_untouched("half-open connections");
    stale_sockets(&machine);
    bystander.is_untouched("stale sockets");
    damaged(&machine);
    bystander.is_untouched("damaged files");
    small_disk(&machine);
    full_disk(&machine);
    bystander.is_untouched("a full disk");
    read_only_disk(&machine);
    bystander.is_untouched("a read-only disk");
}

fn two_daemons(machine: &Machine) {
    let before = machine.daemon();
    let second = machine.hatchway(&["daemon"]);
    assert!(second.code == Some(2) && second.stderr.contains("another daemon runs already"), "{second}");
    assert_eq!(machine.ask("GET", "/v1/units").0, 200, "the first one answers no more");
    assert_eq!(machine.daemon(), before);
}

fn malformed(machine: &Machine) {
    let before = machine.daemon();
    let posts = |length: usize, body: &str| {
        format!(
            "POST /v1/plan HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )
    };
    let giant = "y".repeat(1 << 20);
    for (what, request, answer) in [
        ("no HTTP", "\0\u{1}\u{2}\u{7f}\r\n\r\n".to_owned(), "HTTP/1.1 400"),
        ("a giant path", format!("GET /{giant} HTTP/1.1\r\n\r\n"), "HTTP/1.1 4"),
        ("a giant header", format!("GET /v1/units HTTP/1.1\r\nhost: x\r\nx: {giant}\r\n\r\n"), "HTTP/1.1 4"),
        ("many headers", format!("GET /v1/units HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(1000)), "HTTP/1.1 4"),
        ("a version of no HTTP", "GET /v1/units HTTP/9.9\r\n\r\n".to_owned(), "HTTP/1.1 4"),
        ("no JSON", posts(1, "{"), "HTTP/1.1 400"),
        ("JSON of another kind", posts(2, "[]"), "HTTP/1.1 4"),
        ("deep JSON", posts(100_000, &"[".repeat(100_000)), "HTTP/1.1 4"),
        ("a giant body", posts(1 << 40, &giant.repeat(3)), "HTTP/1.1 4"),
        ("a unit outside", "POST /v1/units/..%2f..%2fa/stop HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".to_owned(), "HTTP/1.1 404"),
    ] {
        let said = raw(&machine.socket(), &request);
        // One that is refused in the middle may be reset before it reads why.
        assert!(said.is_empty() || said.starts_with(answer), "{what}: {said}");
    }
    // Cut off in the middle: nobody waits for the rest.
    for request in ["GET /v1/un", "GET /v1/units HTTP/1.1\r\nhost", &posts(100, "{\"file\"")] {
        machine.connect().write_all(request.as_bytes()).unwrap();
    }
    assert_eq!(machine.ask("GET", "/v1/units").0, 200);
    assert_eq!(machine.daemon(), before, "it was not alive enough for its watchdog");
}

/// Of so many users that they take all places but root's, each as many as it gets.
const OTHERS: &str = "
import os, socket, sys
held = []
for uid in range(60000, 60010):
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setgroups([]); os.setgid(uid); os.setuid(uid)
        for _ in range(40):
            s = socket.socket(socket.AF_UNIX)
            try:
                s.connect('/run/hatchway/api.sock')
                s.send(b'GET /v1/units HTTP/1.1\\r\\n')
            except OSError:
                pass
            held.append(s)
        os.close(writer)
        sys.stdin.read()
        os._exit(0)
    os.close(writer)
    os.read(reader, 1)
print('there', flush=True)
sys.stdin.read()
";

// Before, whoever came to the end of no request kept all others out, root too, as long as they stayed.
/// Root comes in beside all others.
fn many_others(machine: &Machine) {
    let mut others = machine.host.command(&["python3", "-c", OTHERS]);
    let mut others = others.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(others.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "there\n");
    assert_eq!(machine.ask("GET", "/v1/units").0, 200, "others take all places");
    drop(others.stdin.take());
    assert!(others.wait().unwrap().success());
}

/// More than there is room for, and none ever ends its request.
fn half_open(machine: &Machine) {
    let before = machine.daemon();
    let held: Vec<_> = (0..HALF_OPEN)
        .map(|_| {
            let mut stream = machine.connect();
            // Who finds no room is let go at once.
            drop(stream.write_all(b"POST /v1/plan HTTP/1.1\r\ncontent-length: 9\r\n"));
            stream
        })
        .collect();
    // Longer than its watchdog waits.
    std::thread::sleep(Duration::from_secs(9));
    assert_eq!(machine.daemon(), before, "it was not alive enough for its watchdog");
    // They are let go one after the other, and then there is room again.
    machine.until("nobody comes in any more", || machine.ask("GET", "/v1/units").0 == 200);
    drop(held);
    machine.until("it does not answer", || machine.ask("GET", "/v1/units").0 == 200);
    assert_eq!(machine.daemon(), before);
}

fn stale_sockets(machine: &Machine) {
    // Of a daemon that was killed, and of somebody who is gone.
    let before = machine.daemon();
    machine.signal(&before, "KILL");
    machine.follows(&before);
    machine.host.says(&["systemctl", "stop", "hatchway"]);
    let left = "import socket; socket.socket(socket.AF_UNIX).bind('/run/hatchway/api.sock')";
    machine.host.says(&["python3", "-c", left]);
    let status = machine.hatchway(&["status", "a"]);
    assert!(status.code == Some(0) && status.stderr.contains("no daemon runs"), "{status}");
    machine.begin();
    assert_eq!(machine.ask("GET", "/v1/units").0, 200);
    // Of a unit whose recorder and all below it were killed at once.
    drop(machine.hatchway(&["start", "b"]).ok());
    let (run, service) = (machine.run("b"), machine.service("b"));
    machine.host.says(&["systemctl", "kill", "--signal=KILL", "--kill-whom=all", &service]);
    machine.until("it does not start anew", || machine.run("b") != run && machine.phase("b") == "ready");
    let stale = format!("/run/hatchway/units/b/{run}/unit");
    assert_eq!(machine.host.run(&["test", "-S", &stale]).code, Some(0), "it has left no socket");
    assert_eq!(machine.recorders("b").len(), 1);
    let ends: Vec<_> = machine.events("b").into_iter().filter(|event| event["kind"] == "ended").collect();
    assert_eq!(ends.len(), 1, "{ends:?}");
    assert_eq!(ends[0]["text"], "it is gone without a record");
    drop(machine.hatchway(&["stop", "b"]).ok());
    machine.nothing_is_left("b");
}

/// Each of the files that it keeps, damaged as crashes and people do it.
fn damaged(machine: &Machine) {
    let failed = || {
        let events = machine.hatchway(&["events", "--json"]).ok().stdout;
        events.lines().filter(|line| line.contains("was damaged")).count()
    };
    for (nth, content) in ["", "{\"version\": 1, \"uni", "\0\0\0\0\0\0\0\0", "7"].iter().enumerate() {
        machine.host.says(&["systemctl", "stop", "hatchway"]);
        for name in ["applied.json", "said.json"] {
            machine.host.write(&format!("{KEPT}/{name}"), content, 0o600);
        }
        machine.begin();
        assert_eq!(failed(), 2 * (nth + 1), "{content:?} is not told to be damaged");
        machine.until("the instrument is not applied anew", || machine.phase("a") == "ready");
        // Its words are gone, and it takes new ones.
        drop(machine.hatchway(&["stop", "b"]));
    }
    machine.host.says(&["systemctl", "stop", "hatchway"]);
    let last = "f=$(ls \"$1\"/events/*.jsonl | tail -n 1); printf '\\0\\0\\n{\"seq\": 9}\\n{\"seq\": 99999, \"half' >> \"$f\"";
    machine.host.says(&["sh", "-c", last, "last", KEPT]);
    machine.begin();
    numbered(machine, "a damaged journal");
}

/// Events have one number after the other.
fn numbered(machine: &Machine, fault: &str) {
    let events = machine.hatchway(&["events", "--json"]).ok().stdout;
    let seqs: Vec<u64> = events
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "{fault}: events are missing");
}

/// What it keeps comes onto a disk of its own, of 256 KiB.
fn small_disk(machine: &Machine) {
    machine.host.says(&["systemctl", "stop", "hatchway"]);
    let mount = "mount -t tmpfs -o size=256k small /mnt && cp -a \"$1/.\" /mnt && mount --move /mnt \"$1\"";
    machine.host.says(&["sh", "-c", mount, "mount", KEPT]);
    machine.begin();
}

fn full_disk(machine: &Machine) {
    let fill = format!("cat /dev/zero > {KEPT}/full; ! echo x > {KEPT}/more");
    machine.host.says(&["sh", "-c", &fill]);
    cannot_be_kept(machine, "No space left on device");
    // With room again all that has waited in memory is written.
    machine.host.says(&["sh", "-c", &format!("rm {KEPT}/full {KEPT}/more")]);
    drop(machine.hatchway(&["start", "b"]).ok());
    drop(machine.hatchway(&["stop", "b"]).ok());
    machine.host.says(&["systemctl", "restart", "hatchway"]);
    numbered(machine, "a full disk");
}

fn read_only_disk(machine: &Machine) {
    machine.host.says(&["systemctl", "stop", "hatchway"]);
    machine.host.says(&["mount", "-o", "remount,ro", KEPT]);
    machine.begin();
    cannot_be_kept(machine, "Read-only file system");
    // Its service has the mount as it was when it was started.
    machine.host.says(&["systemctl", "stop", "hatchway"]);
    machine.host.says(&["mount", "-o", "remount,rw", KEPT]);
    machine.begin();
    drop(machine.hatchway(&["start", "b"]).ok());
    drop(machine.hatchway(&["stop", "b"]).ok());
    numbered(machine, "a read-only disk");
}

/// It is done, and said that nobody will know. A full disk takes what has room in a block that is begun: some events, but no file.
fn cannot_be_kept(machine: &Machine, why: &str) {
    let text = format!("events cannot be written, and wait in memory: {why}");
    let is_told = || machine.hatchway(&["events"]).ok().stdout.contains(&text);
    for _ in 0..10 {
        for (verb, phase) in [("start", "ready"), ("stop", "stopped")] {
            let (status, problem) = machine.ask("POST", &format!("/v1/units/b/{verb}"));
            assert_eq!(status, 500, "{why}: {verb}: {problem:#}");
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains("it is done, and cannot be kept") && detail.contains(why), "{detail}");
            machine.reaches("b", phase);
        }
        if is_told() {
            break;
        }
    }
    assert!(is_told(), "it is not told that events cannot be written: {}", machine.hatchway(&["events"]));
    machine.nothing_is_left("b");
}

// Before, the thread that starts a unit waited for ever for a bus that took its connection and said nothing, and with four of them no unit
// started any more. What systemd had in its queue held the unit's lock and would have started it a second time.
#[test]
fn a_bus_or_a_systemd_that_hangs_holds_up_a_start_for_seconds_and_nothing_else() {
    let manual = |name: &str| unit(name, COUNTS, "start = \"manual\"");
    let units = unit("a", COUNTS, "") + &manual("b") + &manual("c") + &unit("d", COUNTS, "");
    let machine = Machine::new(&units, &[]);
    let bystander = Bystander::of(&machine);
    silent_bus(&machine);
    bystander.is_untouched("a bus that hangs");
    silent_systemd(&machine);
    bystander.is_untouched("a systemd that hangs");
}

fn silent_bus(machine: &Machine) {
    let (before, bus) = (machine.daemon(), machine.host.property("dbus", "MainPID"));
    machine.signal(&bus, "STOP");
    drop(machine.hatchway(&["start", "--no-wait", "b"]).ok());
    let run = machine.reaches("b", "ready");
    assert_eq!(machine.daemon(), before, "it was not alive enough for its watchdog");
    no_answer(machine, "b");
    machine.signal(&bus, "CONT");
    // It goes on where it is, and the next one is a service again.
    assert_eq!((machine.reaches("b", "ready"), machine.recorders("b").len()), (run, 1));
    drop(machine.hatchway(&["restart", "b"]).ok());
    assert_eq!(machine.host.property(&machine.service("b"), "ActiveState"), "active");
    drop(machine.hatchway(&["stop", "b"]).ok());
    machine.nothing_is_left("b");
}

fn no_answer(machine: &Machine, name: &str) {
    let text = "systemd does not take it, so it is a process of the daemon's own: no answer within 5 s";
    let events = machine.events(name);
    assert!(events.iter().any(|event| event["text"] == text), "{events:#?}");
}

/// It has what it was asked for in its queue, and does it when nobody wants it any more.
fn silent_systemd(machine: &Machine) {
    let first = |signal: &str| {
        let pid = machine.host.pid().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    };
    machine.reaches("d", "ready");
    first("-STOP");
    // Of what it has started itself it has a copy of the lock.
    drop(machine.hatchway(&["stop", "--no-wait", "d"]).ok());
    machine.reaches("d", "stopped");
    for name in ["b", "c"] {
        drop(machine.hatchway(&["start", "--no-wait", name]).ok());
    }
    let run = machine.reaches("b", "ready");
    // What is in the queue of systemd's does not hold the lock of one whose recorder is killed.
    let other = machine.reaches("c", "ready");
    machine.recorders("c").iter().for_each(|pid| machine.signal(pid, "KILL"));
    machine.until("its end is not seen", || {
        let events = machine.events("c");
        events.iter().any(|event| event["kind"] == "ended" && event["run"] == other.as_str())
    });
    drop(machine.hatchway(&["stop", "c"]));
    first("-CONT");
    ["b", "c"].iter().for_each(|name| no_answer(machine, name));
    // What it is asked by now comes after all that was in its queue.
    machine.host.says(&[&BUSCTL[..], &["ListJobs"]].concat());
    machine.host.says(&["systemctl", "is-active", "hatchway"]);
    assert_eq!(
        (machine.reaches("b", "ready"), machine.recorders("b").len()),
        (run, 1),
        "it was started twice"
    );
    machine.has_counted("b");
    drop(machine.hatchway(&["stop", "b"]).ok());
    ["b", "c", "d"].iter().for_each(|name| machine.nothing_is_left(name));
    too_late(machine, "d");
    for name in ["c", "d"] {
        assert_eq!(machine.phase(name), "stopped", "it was started when nobody wanted it any more");
    }
    machine.is_active();
}

/// A service that systemd starts when its run is over, and little of that is left.
fn too_late(machine: &Machine, name: &str) {
    let folder = format!("/run/hatchway/units/{name}/{}", machine.run(name));
    machine.host.says(&["rm", "-rf", &format!("{folder}/log"), &format!("{folder}/unit")]);
    let late = machine.host.run(&[SHIM, "--unit", &folder]);
    assert!(late.code != Some(0) && late.stderr.contains("begin a run that has ended"), "{late}");
}
