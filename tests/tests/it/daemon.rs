//! The daemon: what it starts, what it leaves alone, and that nothing is lost with it.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hatchway_tests::bench::{Bench, Outcome};
use serde_json::Value;

use super::rungs::{Rungs, until};

/// A tool that goes on until it is asked to end.
pub(super) const STAYS: &str = "echo up; trap 'echo bye; exit 0' TERM; while :; do sleep 0.1; done";

/// An instrument whose units run the tool's shell.
pub(super) struct Instrument {
    rungs: Rungs,
    pub(super) daemon: Option<Child>,
}

impl Instrument {
    pub(super) fn new(units: &str) -> Self {
        Self::of(Bench::new(), units)
    }

    pub(super) fn of(bench: Bench, units: &str) -> Self {
        Self::on(Rungs::without_engine(bench.exact(), ""), units)
    }

    pub(super) fn on(rungs: Rungs, units: &str) -> Self {
        let recipe = rungs.bench.path("work/recipes/acme/recipe.toml");
        let text = fs::read_to_string(&recipe).unwrap();
        let text: Vec<&str> = text.lines().filter(|line| !line.starts_with("program =")).collect();
        let text = text.join("\n").replace("[run]", "[run]\nprogram = \"/usr/bin/dash\"");
        fs::write(&recipe, format!("{text}\n[service]\nrestart = \"on-failure\"\n")).unwrap();
        drop(rungs.bench.hatchway(&["lock", "-q", "acme"]).ok());
        drop(rungs.bench.hatchway(&["build", "-q", "acme"]).ok());
        let instrument = Self { rungs, daemon: None };
        instrument.write(units);
        instrument
    }

    pub(super) fn bench(&self) -> &Bench {
        &self.rungs.bench
    }

    pub(super) fn write(&self, units: &str) {
        let text = format!("schema = 1\n[instrument]\nname = \"bench\"\n{units}");
        self.bench().put("instrument.toml", text);
    }

    pub(super) fn begin(&mut self) {
        self.begin_with("");
    }

    /// After what a shell does first.
    pub(super) fn begin_with(&mut self, first: &str) {
        let line = format!("{first}exec $HATCHWAY daemon instrument.toml >> daemon.out 2>&1");
        let child = self.bench().shell(&line).stdin(Stdio::null()).spawn().unwrap();
        self.daemon = Some(child);
        let socket = self.bench().path("data/run/api.sock");
        until("the daemon does not answer", || UnixStream::connect(&socket).is_ok());
    }

    /// As by `kill -9`.
    pub(super) fn kill(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    pub(super) fn status(&self) -> Value {
        self.bench().hatchway(&["status", "--json"]).json()
    }

    pub(super) fn unit(&self, name: &str) -> Value {
        let all = self.status();
        let of_unit =
            all.as_array().unwrap().iter().rfind(|one| one["tool"] == name && !one["unit"].is_null());
        of_unit.cloned().unwrap_or(Value::Null)
    }

    pub(super) fn phase(&self, name: &str) -> String {
        self.unit(name)["unit"]["phase"].as_str().unwrap_or_default().to_owned()
    }

    pub(super) fn reaches(&self, name: &str, phase: &str) {
        let end = Instant::now() + Duration::from_secs(60);
        while self.phase(name) != phase {
            assert!(Instant::now() < end, "{name} is {}, not {phase}\n{:#}", self.phase(name), self.status());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(super) fn events(&self, more: &[&str]) -> Vec<Value> {
        let outcome = self.bench().hatchway(&[&["events", "--json"], more].concat()).ok();
        outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(super) fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        ask(&self.bench().path("data/run/api.sock"), method, path, body)
    }
}

impl Drop for Instrument {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            drop(daemon.kill());
            drop(daemon.wait());
        }
        // Units outlive their daemon.
        let all = self.bench().hatchway(&["status", "--json"]);
        let all: Vec<Value> = serde_json::from_str(&all.stdout).unwrap_or_default();
        for one in all.iter().filter(|one| one["state"] == "running") {
            drop(self.bench().hatchway(&["kill", "-q", one["tool"].as_str().unwrap_or_default()]));
        }
    }
}

/// A request by hand: the status, and the body as JSON.
pub(super) fn ask(socket: &std::path::Path, method: &str, path: &str, body: &str) -> (u16, Value) {
    ask_at(UnixStream::connect(socket).unwrap(), method, path, body)
}

pub(super) fn ask_at(stream: UnixStream, method: &str, path: &str, body: &str) -> (u16, Value) {
    let answer = exchange(
        stream,
        &format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ),
    );
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

pub(super) fn raw(socket: &std::path::Path, request: &str) -> String {
    exchange(UnixStream::connect(socket).unwrap(), request)
}

fn exchange(mut stream: UnixStream, request: &str) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // One that is refused in the middle may be reset.
    drop(stream.write_all(request.as_bytes()));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}

pub(super) fn unit(name: &str, script: &str, more: &str) -> String {
    format!("[unit.{name}]\nrecipe = \"acme\"\nargs = [\"-c\", {script:?}]\n{more}\n")
}

pub(super) fn table(outcome: &Outcome) -> Vec<String> {
    outcome.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn units_start_in_their_order_and_a_change_touches_what_has_changed() {
    let three = |b: &str| {
        unit("c", STAYS, "") + &unit("b", b, "after = [\"c\"]") + &unit("a", STAYS, "after = [\"b\"]")
    };
    let mut instrument = Instrument::new(&three(STAYS));
    let plan = instrument.bench().hatchway(&["up", "--dry-run", "instrument.toml"]).ok();
    assert_eq!(table(&plan), ["start c", "start b after c", "start a after b"]);
    instrument.begin();
    ["a", "b", "c"].iter().for_each(|name| instrument.reaches(name, "ready"));
    let order = || -> Vec<String> {
        let starts = instrument.events(&[]).into_iter().filter(|event| event["kind"] == "starting");
        starts.map(|event| event["unit"].as_str().unwrap().to_owned()).collect()
    };
    // The daemon writes down what has happened in its next turn.
    until("not each start is told", || order().len() >= 3);
    assert_eq!(order(), ["c", "b", "a"]);
    let runs = |name: &str| instrument.unit(name)["run"].clone();
    let before = [runs("a"), runs("b"), runs("c")];

    // What runs is not stopped without a word.
    instrument.write(&(three(&STAYS.replace("up", "changed")) + &unit("d", STAYS, "")));
    let refused = instrument.bench().hatchway(&["up", "instrument.toml"]);
    assert_eq!(refused.code, Some(2), "{refused}");
    assert!(refused.stderr.contains("error: 1 unit would stop or restart, and"), "{refused}");
    assert_eq!([runs("a"), runs("b"), runs("c")], before);
    let plan = instrument.bench().hatchway(&["up", "--yes", "instrument.toml"]).ok();
    assert_eq!(table(&plan), ["stay c", "start d", "restart b it has another configuration", "stay a"]);
    instrument.reaches("d", "ready");
    until("b does not change", || runs("b") != before[1] && instrument.phase("b") == "ready");
    assert_eq!([runs("a"), runs("c")], [before[0].clone(), before[2].clone()]);
    // One that has begun has not spoken yet.
    let logs = || instrument.bench().hatchway(&["logs", "b"]).ok().stdout;
    until("b says nothing", || !logs().is_empty());
    assert_eq!(logs(), "changed\n");

    // What the instrument has no more is stopped, and nothing else.
    instrument.write(&(unit("c", STAYS, "") + &unit("a", STAYS, "")));
    let plan = instrument.bench().hatchway(&["up", "--yes", "instrument.toml"]).ok();
    let gone = "the instrument has it no more";
    assert_eq!(
        table(&plan),
        ["stay a".to_owned(), "stay c".to_owned(), format!("stop b {gone}"), format!("stop d {gone}")]
    );
    until("b and d go on", || {
        let all = instrument.status();
        let ends = |name: &str| {
            all.as_array().unwrap().iter().rfind(|one| one["tool"] == name).unwrap()["state"] == "ended"
        };
        ends("b") && ends("d")
    });
    assert_eq!([runs("a"), runs("c")], [before[0].clone(), before[2].clone()]);
}

#[test]
fn a_daemon_that_is_killed_at_any_moment_loses_nothing() {
    let counts = "trap 'exit 0' TERM; i=0; while :; do i=$((i + 1)); echo $i; sleep 0.01; done";
    let units =
        unit("counts", counts, "") + &unit("once", "until test -e /tmp/go; do sleep 0.05; done; exit 0", "");
    let mut instrument = Instrument::new(&units);
    instrument.begin();
    ["counts", "once"].iter().for_each(|name| instrument.reaches(name, "ready"));
    let run = instrument.unit("counts")["run"].clone();
    for round in 0..20_u64 {
        // Moments of the daemon's own beginning, too: it reads, binds, looks after units that it finds.
        std::thread::sleep(Duration::from_millis(round * 7 % 60));
        instrument.kill();
        if round == 10 {
            drop(instrument.bench().script("$HATCHWAY exec once -- touch /tmp/go < /dev/null").ok());
            until("it does not end", || instrument.phase("once") == "ended");
        }
        let line = "exec $HATCHWAY daemon instrument.toml >> daemon.out 2>&1";
        instrument.daemon = Some(instrument.bench().shell(line).stdin(Stdio::null()).spawn().unwrap());
    }
    until("no daemon answers", || instrument.ask_is_there());
    instrument.reaches("counts", "ready");
    assert_eq!(instrument.unit("counts")["run"], run);
    // Its end while no daemon ran is told once, and no run was begun beside it.
    let ends: Vec<Value> =
        instrument.events(&["once"]).into_iter().filter(|event| event["kind"] == "ended").collect();
    assert_eq!(ends.len(), 1, "{ends:?}");
    assert_eq!(ends[0]["text"], "it ended by itself, well");
    let runs = instrument.bench().hatchway(&["history", "once", "--json"]).json();
    assert_eq!(runs.as_array().unwrap().len(), 1, "{runs:#}");
    assert_eq!(instrument.phase("once"), "ended");
    // Each number is there.
    drop(instrument.bench().hatchway(&["stop", "counts"]).ok());
    let logs = instrument.bench().hatchway(&["logs", "counts"]).ok().stdout;
    let numbers: Vec<usize> = logs.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len()).collect::<Vec<_>>());
    // Numbers of events go on whatever happens.
    let seqs: Vec<u64> = instrument.events(&[]).iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
}

impl Instrument {
    pub(super) fn kill_and_start_engine(&mut self) {
        self.rungs.kill_and_start_engine();
    }

    pub(super) fn ask_is_there(&self) -> bool {
        UnixStream::connect(self.bench().path("data/run/api.sock")).is_ok()
    }
}

#[test]
fn who_fails_again_and_again_waits_for_a_person_and_why_says_what_holds_the_others_up() {
    let fails = "test -e /var/tmp/none; echo no licence >&2; exit 9";
    let units = unit("bad", fails, "")
        + &unit("ui", STAYS, "after = [\"late\"]")
        + &unit("late", STAYS, "start = \"manual\"");
    let mut instrument = Instrument::new(&units);
    instrument.begin();
    instrument.reaches("bad", "degraded");
    let runs = instrument.bench().hatchway(&["history", "bad", "--json"]).json();
    assert_eq!(runs.as_array().unwrap().len(), 5, "{runs:#}");
    let why = instrument.bench().hatchway(&["why", "bad"]).ok().stdout;
    assert!(
        why.starts_with("bad is degraded: it ended by itself with code 9; 5 failures in a short time: it waits for a person\n    no licence\n"),
        "{why}"
    );
    assert!(why.contains("next: `hatchway start bad` tries it again"), "{why}");
    assert!(why.contains("cause: its licence is not there: no licence (licence-missing, "), "{why}");
    let why = instrument.bench().hatchway(&["why", "ui"]).ok().stdout;
    assert!(why.starts_with("ui is blocked: waits for late\n  late is stopped"), "{why}");
    assert!(why.contains("next: `hatchway start late` starts it"), "{why}");
    // Causes are those of the unit where it begins.
    let told = instrument.bench().hatchway(&["why", "ui", "--json"]).ok().json();
    let cause = &told["causes"][0];
    assert_eq!(
        (&cause["code"], &cause["confidence"]),
        (&"dependency-stopped".into(), &"certain".into()),
        "{told:#}"
    );
    assert!(cause["says"].as_str().unwrap().contains("`late`"), "{told:#}");
    let told = instrument.bench().hatchway(&["why", "bad", "--json"]).ok().json();
    assert_eq!(
        told["causes"][0]["evidence"][0],
        serde_json::json!({"source": "log", "text": "no licence"}),
        "{told:#}"
    );
    for code in ["dependency-stopped", "licence-missing", "no-such-unit"] {
        let known = instrument.bench().hatchway(&["explain", code]).ok().stdout;
        assert!(known.starts_with(code) && known.contains("  next: "), "{known}");
    }
    // Without a daemon the files say the same.
    instrument.kill();
    let files = instrument.bench().hatchway(&["why", "ui"]).ok().stdout;
    assert_eq!(files, why);
    let status = instrument.bench().hatchway(&["status"]);
    assert!(status.stderr.contains("no daemon runs") && status.stdout.contains("degraded"), "{status}");
    assert!(status.stdout.lines().all(|line| line.chars().count() <= 80), "{status}");
    // The next daemon does not begin anew what waits for a person.
    instrument.begin();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(instrument.phase("bad"), "degraded");
    drop(instrument.bench().hatchway(&["start", "late"]).ok());
    instrument.reaches("ui", "ready");
    drop(instrument.bench().hatchway(&["start", "bad", "--no-wait"]).ok());
    until("it is not tried again", || {
        let runs = instrument.bench().hatchway(&["history", "bad", "--json"]).json();
        runs.as_array().unwrap().len() > 5
    });
}

#[test]
fn a_persons_word_holds_whoever_keeps_the_units() {
    let mut instrument = Instrument::new(&(unit("a", STAYS, "") + &unit("b", STAYS, "")));
    instrument.begin();
    ["a", "b"].iter().for_each(|name| instrument.reaches(name, "ready"));
    let stopped = instrument.bench().hatchway(&["stop", "a"]).ok();
    assert!(stopped.stderr.contains("stopped"), "{stopped}");
    assert_eq!(instrument.bench().hatchway(&["stop", "a"]).code, Some(1));
    instrument.kill();
    // No daemon hears this one.
    drop(instrument.bench().hatchway(&["stop", "b"]).ok());
    let nobody = instrument.bench().hatchway(&["start", "b"]);
    assert!(nobody.code == Some(2) && nobody.stderr.contains("no daemon runs"), "{nobody}");
    instrument.begin();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!((instrument.phase("a"), instrument.phase("b")), ("stopped".to_owned(), "stopped".to_owned()));
    drop(instrument.bench().hatchway(&["start", "a", "b"]).ok());
    assert_eq!((instrument.phase("a"), instrument.phase("b")), ("ready".to_owned(), "ready".to_owned()));
    // Restarted is another run, also of what would not be started again by itself.
    let run = instrument.unit("a")["run"].clone();
    drop(instrument.bench().hatchway(&["restart", "a"]).ok());
    assert_ne!(instrument.unit("a")["run"], run);
    assert_eq!(instrument.phase("a"), "ready");
    drop(instrument.bench().hatchway(&["kill", "b"]).ok());
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(instrument.phase("b"), "stopped");
    let asked: Vec<String> = instrument
        .events(&[])
        .iter()
        .filter(|event| event["kind"] == "asked")
        .map(|event| format!("{} {} {}", event["unit"], event["text"], event["by"]))
        .collect();
    let by_root = |what: &str| format!("{what} \"uid 0 (root)\"");
    assert_eq!(
        asked,
        [
            "\"a\" \"stop\"",
            "\"a\" \"stop\"",
            "\"a\" \"start\"",
            "\"b\" \"start\"",
            "\"a\" \"restart\"",
            "\"b\" \"kill\""
        ]
        .map(by_root)
    );
    // In order: the units go on, the socket goes.
    let daemon = instrument.daemon.as_mut().unwrap();
    assert!(Command::new("kill").args(["-TERM", &daemon.id().to_string()]).status().unwrap().success());
    assert_eq!(daemon.wait().unwrap().code(), Some(0));
    assert!(!instrument.bench().path("data/run/api.sock").exists());
    assert_eq!(instrument.unit("a")["state"], "running");
}

#[test]
fn two_daemons_stale_sockets_and_damaged_files_stop_no_unit() {
    let mut instrument = Instrument::new(&unit("a", STAYS, ""));
    instrument.begin();
    instrument.reaches("a", "ready");
    let run = instrument.unit("a")["run"].clone();
    let second = instrument.bench().hatchway(&["daemon", "instrument.toml"]);
    assert!(second.code == Some(2) && second.stderr.contains("another daemon runs already"), "{second}");
    assert!(instrument.ask_is_there());
    instrument.kill();
    assert!(instrument.bench().path("data/run/api.sock").exists(), "a killed daemon leaves its socket");
    for name in ["applied.json", "said.json"] {
        let path = instrument.bench().path("data/daemon").join(name);
        fs::write(path, "{\"version\": 1, \"uni").unwrap();
    }
    let mut options = fs::File::options();
    let events = instrument.bench().path(&format!("data/daemon/events/{:020}.jsonl", 1));
    options.append(true).open(events).unwrap().write_all(b"{\"seq\": 99, \"half").unwrap();
    instrument.begin();
    instrument.reaches("a", "ready");
    assert_eq!(instrument.unit("a")["run"], run);
    let failed: Vec<Value> =
        instrument.events(&[]).into_iter().filter(|event| event["kind"] == "failed").collect();
    assert_eq!(failed.len(), 2, "{failed:?}");
    assert!(failed.iter().all(|event| event["text"].as_str().unwrap().contains("was damaged")));
    // SIGSTOP: nobody is answered, and the unit does not notice.
    let pid = instrument.daemon.as_ref().unwrap().id().to_string();
    assert!(Command::new("kill").args(["-STOP", &pid]).status().unwrap().success());
    let beside = instrument.bench().script("$HATCHWAY exec a -- dash -c 'echo beside' < /dev/null").ok();
    assert_eq!(beside.stdout, "beside\n");
    assert!(Command::new("kill").args(["-CONT", &pid]).status().unwrap().success());
    instrument.reaches("a", "ready");
    // A wrong instrument changes nothing.
    instrument.write("[unit.a]\nrecipe = 7\n");
    let wrong = instrument.bench().hatchway(&["up", "instrument.toml"]);
    assert!(wrong.code == Some(2) && wrong.stderr.contains("instrument.toml:5:10"), "{wrong}");
    assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    until("nobody says so", || {
        instrument
            .events(&[])
            .iter()
            .any(|event| event["text"].as_str().unwrap().contains("the instrument is not applied"))
    });
    assert_eq!(instrument.unit("a")["run"], run);
}

#[test]
fn on_a_full_disk_units_are_kept_and_it_is_said_what_cannot_be_kept() {
    let mut instrument = Instrument::new(&unit("a", STAYS, ""));
    instrument.begin();
    instrument.reaches("a", "ready");
    instrument.kill();
    // The daemon's own files on a disk without room.
    let line = "mount -t tmpfs -o size=64k none \"$HATCHWAY_DATA_DIR/daemon\"; mkdir \"$HATCHWAY_DATA_DIR/daemon/events\"; \
                cat /dev/zero > \"$HATCHWAY_DATA_DIR/daemon/full\" 2> /dev/null; exec $HATCHWAY daemon instrument.toml >> daemon.out 2>&1";
    let child = instrument
        .bench()
        .shell(&format!("exec unshare -m sh -c '{line}'"))
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    instrument.daemon = Some(child);
    let socket = instrument.bench().path("data/run/api.sock");
    until("it does not answer", || {
        UnixStream::connect(&socket).is_ok() && instrument.ask("GET", "/v1/events", "").0 == 200
    });
    let (status, events) = instrument.ask("GET", "/v1/events", "");
    assert_eq!(status, 200);
    let text = events.to_string();
    assert!(text.contains("daemon-began") && text.contains("No space left on device"), "{text}");
    let (status, problem) = instrument.ask(
        "POST",
        "/v1/instrument",
        &format!("{{\"file\": {:?}}}", instrument.bench().path("work/instrument.toml")),
    );
    assert_eq!((status, problem["code"].as_str()), (500, Some("failed")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("No space left on device"), "{problem}");
    let beside = instrument.bench().script("$HATCHWAY exec a -- dash -c 'echo beside' < /dev/null").ok();
    assert_eq!(beside.stdout, "beside\n");
}

#[test]
fn who_asks_is_known_and_what_is_asked_is_checked() {
    let roles = "[roles]\nviewer = [\"user:nobody\"]\n";
    let mut instrument = Instrument::new(&(unit("a", STAYS, "") + roles));
    instrument.begin();
    instrument.reaches("a", "ready");
    let socket = instrument.bench().path("data/run/api.sock");
    let as_other = |uid: u32, method: &str, path: &str| {
        let script = format!(
            "import os, socket, sys\nos.setgroups([]); os.setgid({uid}); os.setuid({uid})\ns = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n\
             s.sendall(b'{method} {path} HTTP/1.1\\r\\nhost: x\\r\\nconnection: close\\r\\ncontent-length: 0\\r\\n\\r\\n')\n\
             print(s.makefile().readline().split()[1])"
        );
        let output = Command::new("python3").args(["-c", &script]).arg(&socket).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    if hatchway_tests::bench::is_root() {
        assert_eq!(as_other(65_534, "GET", "/v1/units"), "200");
        assert_eq!(as_other(65_534, "POST", "/v1/units/a/stop"), "403");
        assert_eq!(as_other(65_534, "POST", "/v1/instrument"), "403");
        assert_eq!(as_other(12_345, "GET", "/v1/units"), "403");
        assert_eq!(as_other(12_345, "GET", "/metrics"), "403");
    }
    assert_eq!(instrument.phase("a"), "ready");
    for (method, path, body, status, code) in [
        ("GET", "/v1/nothing", "", 404, "no-such-path"),
        ("DELETE", "/v1/units", "", 405, "no-such-method"),
        ("GET", "/v1/units/..%2f..%2fetc", "", 404, "no-such-unit"),
        ("POST", "/v1/units/b/start", "", 404, "no-such-unit"),
        ("GET", "/v1/events?since=-1", "", 400, "bad-request"),
        ("GET", "/v1/events?sinc=1", "", 400, "bad-request"),
        ("POST", "/v1/plan", "{", 400, "bad-request"),
        ("POST", "/v1/plan", "{\"file\": 7}", 400, "bad-request"),
        ("POST", "/v1/plan", "{\"file\": \"relative\"}", 400, "bad-request"),
        ("POST", "/v1/plan", "{\"file\": \"/nowhere\"}", 422, "wrong-file"),
    ] {
        let (got, problem) = instrument.ask(method, path, body);
        assert_eq!((got, problem["code"].as_str()), (status, Some(code)), "{method} {path}: {problem}");
        assert_eq!(problem["status"], got);
    }
    let explained = instrument.bench().hatchway(&["explain", "no-such-unit"]).ok().stdout;
    assert!(explained.contains("HTTP 404"), "{explained}");
    assert_eq!(instrument.bench().hatchway(&["explain", "none"]).code, Some(1));
    // Bytes that are no HTTP, a head without an end, and a body that is longer than anything: nobody is held up.
    for request in
        ["\0\u{1}\u{2}\r\n\r\n".to_owned(), format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(1 << 20))]
    {
        drop(raw(&socket, &request));
    }
    let held: Vec<UnixStream> = (0..200)
        .map(|_| {
            let mut stream = UnixStream::connect(&socket).unwrap();
            stream.write_all(b"POST /v1/plan HTTP/1.1\r\ncontent-length: 9\r\n").unwrap();
            stream
        })
        .collect();
    assert_eq!(instrument.ask("GET", "/v1/units", "").0, 200);
    drop(held);
    let (status, document) = instrument.ask("GET", "/v1/openapi.json", "");
    assert_eq!(status, 200);
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            let path = path.replace("{unit}", "none");
            let (status, problem) = instrument.ask(&method.to_uppercase(), &path, "");
            assert!(
                !["no-such-path", "no-such-method"].contains(&problem["code"].as_str().unwrap_or_default()),
                "{method} {path}: {status} {problem}"
            );
        }
    }
}

#[test]
fn events_are_followed_from_where_a_reader_was() {
    let mut instrument = Instrument::new(&unit("a", STAYS, ""));
    instrument.begin();
    instrument.reaches("a", "ready");
    // The daemon writes down what has happened in its next turn: the reader begins after all of that.
    until("its beginning is not told", || {
        let told = instrument.events(&["a"]);
        ["starting", "ready"].iter().all(|kind| told.iter().any(|event| event["kind"] == *kind))
    });
    let last = instrument.events(&[]).last().unwrap()["seq"].as_u64().unwrap();
    let line = format!("exec $HATCHWAY events a -f --json --since {last} > followed");
    let mut follower = instrument.bench().shell(&line).stdin(Stdio::null()).spawn().unwrap();
    drop(instrument.bench().hatchway(&["restart", "a"]).ok());
    let kinds = || -> Vec<String> {
        let text = fs::read_to_string(instrument.bench().path("work/followed")).unwrap_or_default();
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.map(|event| event["kind"].as_str().unwrap().to_owned()).collect()
    };
    until("nothing comes", || kinds().contains(&"ready".to_owned()));
    assert_eq!(kinds(), ["asked", "stopping", "ended", "starting", "ready"]);
    instrument.kill();
    assert_eq!(follower.wait().unwrap().code(), Some(2));
}

#[test]
fn an_ordinary_user_has_a_daemon_of_their_own() {
    let mut instrument = Instrument::of(Bench::ordinary(), &unit("a", STAYS, ""));
    instrument.begin();
    instrument.reaches("a", "ready");
    drop(instrument.bench().hatchway(&["stop", "a"]).ok());
    assert_eq!(instrument.phase("a"), "stopped");
}

#[test]
fn a_unit_waits_until_the_one_before_it_is_ready_as_its_recipe_says() {
    let mut instrument = Instrument::new(&(unit("a", STAYS, "") + &unit("b", STAYS, "after = [\"a\"]")));
    let recipe = instrument.bench().path("work/recipes/acme/recipe.toml");
    let text = fs::read_to_string(&recipe).unwrap();
    let ready = "ready = { command = [\"dash\", \"-c\", \"test -e /tmp/go\"], within = \"200ms\" }";
    fs::write(&recipe, format!("{text}{ready}\n")).unwrap();
    instrument.begin();
    let go = |name: &str| {
        drop(instrument.bench().script(&format!("$HATCHWAY exec {name} -- touch /tmp/go < /dev/null")).ok());
    };
    instrument.reaches("a", "late");
    // It runs, and answers who comes to it: that is not enough.
    assert_eq!(instrument.phase("b"), "blocked");
    go("a");
    instrument.reaches("a", "ready");
    instrument.reaches("b", "late");
    go("b");
    instrument.reaches("b", "ready");
}

#[test]
fn a_unit_that_is_not_well_ends_and_starts_again_where_its_recipe_says_so() {
    let mut instrument = Instrument::new(&unit("a", STAYS, ""));
    let recipe = instrument.bench().path("work/recipes/acme/recipe.toml");
    let text = fs::read_to_string(&recipe).unwrap();
    let check = "command = [\"dash\", \"-c\", \"test ! -e /tmp/sick\"], every = \"100ms\", failures = 2, start = \"100ms\"";
    fs::write(&recipe, format!("{text}health = {{ {check}, then = \"end\" }}\n")).unwrap();
    let ails = |instrument: &Instrument| {
        instrument.reaches("a", "ready");
        let run = instrument.unit("a")["run"].as_str().unwrap().to_owned();
        drop(instrument.bench().script("$HATCHWAY exec a -- touch /tmp/sick < /dev/null").ok());
        run
    };
    let record = |instrument: &Instrument, run: &str| {
        let all = instrument.bench().hatchway(&["history", "a", "--json"]).ok().json();
        all.as_array().unwrap().iter().find(|one| one["run"] == run).unwrap()["record"].clone()
    };
    instrument.begin();
    let first = ails(&instrument);
    until("it is not started again", || instrument.unit("a")["run"] != first.as_str());
    let reason = &record(&instrument, &first)["reason"]["unhealthy"];
    assert_eq!((&reason["forced"], &reason["outcome"]["exit"]["code"]), (&false.into(), &0.into()));
    let message = reason["message"].as_str().unwrap();
    assert!(message.ends_with("its check has failed 2 times in a row (exit code 1)"), "{message}");
    // The daemon writes down what has happened in its next turn, and a busy one may have waited long enough before it says that it waits.
    let kinds = || -> Vec<String> {
        let of_run = instrument.events(&[]).into_iter().filter(|event| event["run"] == first.as_str());
        let kinds = of_run.map(|event| event["kind"].as_str().unwrap().to_owned());
        kinds.filter(|kind| kind != "back-off").collect()
    };
    until("its end is not told", || kinds().contains(&"ended".to_owned()));
    assert_eq!(kinds(), ["starting", "ready", "health", "ended"]);
    // Also while no daemon is there.
    let second = ails(&instrument);
    instrument.kill();
    until("it does not end", || instrument.unit("a")["state"] == "ended");
    assert_eq!(instrument.unit("a")["run"], second.as_str());
    let why = instrument.bench().hatchway(&["why", "a"]);
    assert!(why.stdout.contains("it was not well, and its recipe ends it then: its check"), "{why}");
    instrument.begin();
    until("it is not started again", || instrument.unit("a")["run"] != second.as_str());
    instrument.reaches("a", "ready");
}
