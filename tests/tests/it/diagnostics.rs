//! What a service engineer asks an instrument, and an archive of it: `show`, `top`, `timeline`, `doctor`, `support`.

use hatchway_tests::bench::Outcome;
use serde_json::Value;

use super::daemon::{Instrument, STAYS, unit};

/// What nobody outside may read.
const SECRET: &str = "hunter2-9f3Kq";

/// One unit that goes on, one that fails again and again, one that waits for one that nobody has started.
fn broken() -> Instrument {
    let fails = format!("echo \"login {SECRET} refused\" >&2; exit 9");
    let units = unit("good", STAYS, "")
        + &unit("bad", &fails, "")
        + &unit("waits", STAYS, "after = [\"rests\"]")
        + &unit("rests", STAYS, "start = \"manual\"");
    let mut instrument = Instrument::new(&units);
    instrument.begin();
    instrument.reaches("bad", "degraded");
    instrument.reaches("good", "ready");
    instrument
}

fn asked(instrument: &Instrument, arguments: &[&str]) -> Outcome {
    instrument.bench().hatchway(arguments)
}

/// Without what tells the time since.
fn without_ages(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let words =
            line.split_whitespace().filter(|word| !word.ends_with('s') || word.parse::<u64>().is_ok());
        words
            .filter(|word| !word.trim_end_matches('s').bytes().all(|byte| byte.is_ascii_digit()))
            .collect::<Vec<_>>()
            .join(" ")
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn an_archive_answers_as_the_machine_did_and_tells_no_secret() {
    let mut instrument = broken();
    let on_machine = |instrument: &Instrument, arguments: &[&str]| asked(instrument, arguments).stdout;
    let status = on_machine(&instrument, &["status"]);
    let waits = on_machine(&instrument, &["why", "waits"]);
    let why = on_machine(&instrument, &["why", "bad"]);
    assert!(why.contains(SECRET), "{why}");
    let collected = asked(&instrument, &["support", "collect", "-o", "a.tar.zst"]).ok();
    assert!(collected.stdout.contains("status.json") && !collected.stdout.contains(SECRET), "{collected}");
    drop(asked(&instrument, &["support", "collect", "--logs", "raw", "-o", "raw.tar.zst"]).ok());
    // From here on nothing of the machine is left to be asked.
    instrument.kill();
    drop(asked(&instrument, &["kill", "good"]));
    let from = |arguments: &[&str]| asked(&instrument, &[arguments, &["--from", "a.tar.zst"]].concat());

    let told = from(&["status"]).ok().stdout;
    assert_eq!(without_ages(&told), without_ages(&status));
    // The sentence of a cause is that of its kind there.
    let chain = |text: &str| text.lines().take(2).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(chain(&from(&["why", "waits"]).ok().stdout), chain(&waits));
    assert!(waits.starts_with("waits is blocked: waits for rests\n  rests is stopped"), "{waits}");
    let told = from(&["why", "bad"]).ok().stdout;
    assert!(told.starts_with("bad is degraded: it ended by itself with code 9; 5 failures in a short time: it waits for a person\n"), "{told}");
    assert!(told.contains("[1 lines of what it said are not in this archive]"), "{told}");
    let told = from(&["history", "bad", "--json"]).json();
    assert_eq!(told.as_array().unwrap().len(), 5);
    assert_eq!(from(&["logs", "good"]).ok().stdout, "[2 bytes]\n");
    assert!(
        from(&["events", "bad", "-n", "1"]).ok().stdout.contains("bad degraded: "),
        "{}",
        from(&["events", "bad"])
    );
    let told = super::daemon::table(&from(&["timeline", "bad"]).ok()).join("\n");
    assert!(
        told.contains("bad starting: it is started")
            && told.contains("bad ended: it ended by itself with code 9"),
        "{told}"
    );
    let told = from(&["show", "bad"]).ok().stdout;
    assert!(told.contains("phase      degraded: it ended by itself with code 9"), "{told}");
    let told = from(&["doctor", "--json"]).json();
    assert_eq!(told["needs-somebody"], true, "{told:#}");

    // No file of it has the secret; where somebody asks for what the tools said, that has it.
    let manifest = asked(&instrument, &["support", "show", "a.tar.zst", "--json"]).ok().json();
    let names: Vec<&str> =
        manifest["files"].as_array().unwrap().iter().map(|file| file["name"].as_str().unwrap()).collect();
    for name in &names {
        let content = asked(&instrument, &["support", "show", "a.tar.zst", name]).ok().stdout;
        assert!(!content.contains("hunter2"), "{name}: {content}");
    }
    assert!(names.iter().filter(|name| name.starts_with("units/bad/")).count() >= 6, "{names:?}");
    let raw = asked(&instrument, &["logs", "bad", "--from", "raw.tar.zst"]).ok().stdout;
    assert_eq!(raw, format!("login {SECRET} refused\n"));
}

#[test]
fn what_is_no_archive_is_an_error_with_a_hint() {
    let instrument = Instrument::new(&unit("good", STAYS, ""));
    let bench = instrument.bench();
    bench.put("empty", "");
    bench.put("text", "hello");
    drop(asked(&instrument, &["support", "collect", "--logs", "none", "-o", "a"]).ok());
    let again = asked(&instrument, &["support", "collect", "-o", "a"]);
    assert!(
        again.code == Some(2) && again.stderr.contains("cannot write `a`\n  because: File exists"),
        "{again}"
    );
    let whole = std::fs::read(bench.path("work/a")).unwrap();
    bench.put("half", &whole[..whole.len() / 2]);
    for name in ["empty", "text", "half"] {
        let refused = asked(&instrument, &["status", "--from", name]);
        assert_eq!(refused.code, Some(2), "{name}: {refused}");
        assert!(refused.stderr.contains(&format!("`{name}` is no support archive")), "{name}: {refused}");
        assert!(refused.stderr.contains("hint: `hatchway support collect` makes one"), "{name}: {refused}");
    }
    let refused = asked(&instrument, &["support", "show", "a", "../a"]);
    assert!(refused.code == Some(2) && refused.stderr.contains("the archive has no `../a`"), "{refused}");
    // Nobody leaves a folder behind.
    drop(bench.script("mkdir tmp; TMPDIR=$PWD/tmp $HATCHWAY history good --from a; true").ok());
    assert_eq!(bench.script("ls tmp").ok().stdout, "");
}

#[test]
fn what_has_happened_is_one_sequence_on_one_clock() {
    let instrument = broken();
    let lines = |arguments: &[&str]| -> Vec<Value> {
        let outcome = asked(&instrument, &[&["timeline", "--json"], arguments].concat());
        outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let all = lines(&["--logs"]);
    let times: Vec<i64> = all.iter().map(|line| line["realtime_ns"].as_i64().unwrap()).collect();
    assert!(times.is_sorted() && !times.is_empty());
    let index = |kind: &str, text: &str| {
        // Of the last run: the logs of the first ones are kept no more.
        let found = all.iter().rposition(|line| {
            line["source"] == "bad" && line["kind"] == kind && line["text"].as_str().unwrap().contains(text)
        });
        found.unwrap_or_else(|| panic!("no {kind} {text} in {all:#?}"))
    };
    assert!(
        index("starting", "started") < index("said", "login")
            && index("said", "login") < index("ended", "code 9")
    );
    // A run of a person's own, of which no daemon tells.
    drop(instrument.bench().script("$HATCHWAY run acme --detach -- -c 'exit 3'"));
    super::rungs::until("its end is not told", || {
        lines(&["acme"]).iter().any(|line| line["source"] == "acme" && line["kind"] == "ended")
    });
    assert!(lines(&["acme"]).iter().all(|line| line["source"] != "bad"));
    let around = lines(&["--around", "acme"]);
    assert!(around.iter().any(|line| line["source"] == "acme"), "{around:#?}");
    assert!(lines(&["--since", "1h", "bad"]).iter().any(|line| line["source"] == "bad"));
    assert!(lines(&["--since", "0s", "bad"]).iter().all(|line| line["source"] != "bad"));
    let shown = asked(&instrument, &["timeline", "-n", "5"]).ok().stdout;
    assert!(shown.lines().count() <= 7 && shown.starts_with("-- 20"), "{shown}");
}

#[test]
fn what_runs_and_what_is_known_of_it_is_shown() {
    let instrument = broken();
    let top = asked(&instrument, &["top", "-d", "1", "--json"]).ok().json();
    let tools: Vec<&str> = top.as_array().unwrap().iter().map(|row| row["tool"].as_str().unwrap()).collect();
    assert_eq!(tools, ["good"]);
    let table = asked(&instrument, &["top", "-d", "1"]).ok().stdout;
    assert!(table.starts_with("UNIT") && table.contains("good"), "{table}");
    let shown = asked(&instrument, &["show", "waits"]).ok().stdout;
    for line in [
        "name       waits",
        "phase      blocked: waits for rests",
        "recipe     acme",
        "after      rests",
        "start      auto",
    ] {
        assert!(shown.lines().any(|one| one == line), "{line} is not in\n{shown}");
    }
    let shown = asked(&instrument, &["show", "good"]).ok().stdout;
    assert!(
        shown.contains("\nlog        64 MiB; full: drop-oldest\n") && shown.contains("\nevent      "),
        "{shown}"
    );
    let unknown = asked(&instrument, &["show", "nothing"]);
    assert!(
        unknown.code == Some(2) && unknown.stderr.contains("neither a unit nor a run of `nothing` is known"),
        "{unknown}"
    );
}

#[test]
fn the_doctor_says_what_an_instrument_needs_and_what_mends_it() {
    let more = "user = \"hw-nobody-has-it\"\nfiles.license = \"/nonexistent/licence.dat\"\n";
    let mut instrument = Instrument::new(&unit("good", STAYS, ""));
    let of_instrument = |instrument: &Instrument| -> Vec<(String, String, String)> {
        let all = asked(instrument, &["doctor", "--json"]).json();
        let checks = all["checks"].as_array().unwrap().iter().filter(|check| check["for"] == "instrument");
        let text = |check: &Value, key: &str| check[key].as_str().unwrap().to_owned();
        checks
            .map(|check| {
                (
                    text(check, "name"),
                    text(check, "state"),
                    text(check, "found") + " | " + &text(check, "fix"),
                )
            })
            .collect()
    };
    assert_eq!(of_instrument(&instrument), []);
    instrument.begin();
    instrument.reaches("good", "ready");
    let well = of_instrument(&instrument);
    assert!(well.iter().all(|(_, state, _)| state == "works") && well.len() >= 4, "{well:#?}");
    drop(asked(&instrument, &["doctor"]).ok());

    instrument.write(&(unit("good", STAYS, "") + &unit("bad", STAYS, more)));
    let changed = of_instrument(&instrument);
    let has = |all: &[(String, String, String)], name: &str, state: &str, text: &str| {
        assert!(
            all.iter().any(|one| one.0 == name && one.1 == state && one.2.contains(text)),
            "{name} {state} {text}: {all:#?}"
        );
    };
    has(&changed, "instrument's file", "less", "has changed since it was applied | `hatchway up --dry-run`");
    drop(asked(&instrument, &["up", "--yes", "instrument.toml"]).ok());
    instrument.kill();
    let all = of_instrument(&instrument);
    has(&all, "daemon", "missing", "none runs | `systemctl start hatchway`");
    has(&all, "bad", "missing", "there is no user `hw-nobody-has-it` | `adduser --system hw-nobody-has-it`");
    has(&all, "bad", "missing", "its file `license` is `/nonexistent/licence.dat`: No such file");
    let told = asked(&instrument, &["doctor"]);
    assert!(
        told.code == Some(1)
            && told.stdout.ends_with(
                "fit, but the instrument needs somebody: see the lines with ✗ below `instrument`\n"
            ),
        "{told}"
    );
    assert!(told.stdout.lines().all(|line| line.chars().count() <= 80 || !line.contains(' ')), "{told}");
}

#[test]
fn what_a_unit_says_is_asked_over_the_api_and_followed_to_its_end() {
    let script = "echo one; echo two >&2; trap 'echo bye; exit 0' TERM; while :; do sleep 0.05; done";
    let mut instrument = Instrument::new(&unit("talks", script, ""));
    instrument.begin();
    instrument.reaches("talks", "ready");
    let lines = |query: &str| -> Vec<(String, String)> {
        let (status, body) = instrument.ask("GET", &format!("/v1/units/talks/logs{query}"), "");
        assert_eq!(status, 200, "{body:#}");
        let text = |line: &Value, key: &str| line[key].as_str().unwrap().to_owned();
        body.as_array().unwrap().iter().map(|line| (text(line, "stream"), text(line, "text"))).collect()
    };
    let pair = |stream: &str, text: &str| (stream.to_owned(), text.to_owned());
    super::rungs::until("it has not said both", || lines("").len() == 2);
    assert_eq!(lines("?stream=err"), [pair("err", "two")]);
    assert_eq!(lines("?lines=0"), []);
    assert_eq!(lines("?since_ns=9000000000000000000"), []);
    let (status, problem) = instrument.ask("GET", "/v1/units/talks/logs?run=1-1", "");
    assert_eq!((status, problem["code"].as_str()), (404, Some("no-such-run")), "{problem:#}");
    let (status, problem) = instrument.ask("GET", "/v1/units/talks/logs?colour=red", "");
    assert_eq!((status, problem["code"].as_str()), (400, Some("bad-request")), "{problem:#}");

    let socket = instrument.bench().path("data/run/api.sock");
    let request = "GET /v1/units/talks/logs?lines=1 HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\nconnection: close\r\n\r\n";
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    let mut told = String::new();
    let mut stream = std::io::BufReader::new(stream);
    while !told.contains("data: ") {
        assert!(std::io::BufRead::read_line(&mut stream, &mut told).unwrap() > 0, "{told}");
    }
    drop(instrument.bench().hatchway(&["stop", "talks"]).ok());
    std::io::Read::read_to_string(&mut stream, &mut told).unwrap();
    let data: Vec<&str> = told.lines().filter(|line| line.starts_with("data: ")).collect();
    assert_eq!(data.len(), 2, "the last of what was there, and what came: {told}");
    assert!(data[1].contains("\"stream\":\"out\",\"text\":\"bye\""), "{told}");
}

#[test]
fn the_client_for_python_asks_follows_and_is_told_what_was_not_done() {
    let mut instrument = Instrument::new(&unit("talks", STAYS, ""));
    instrument.begin();
    instrument.reaches("talks", "ready");
    // One that has begun has not spoken yet.
    let said = || instrument.bench().hatchway(&["logs", "talks"]).ok().stdout;
    super::rungs::until("it says nothing", || said() == "up\n");
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/python");
    let socket = instrument.bench().path("data/run/api.sock");
    let script = r#"
import sys
sys.path.insert(0, sys.argv[1])
from hatchway_client import Client, Phase, ProblemError
client = Client(sys.argv[2])
print([(unit.name, unit.phase == Phase.READY) for unit in client.list_units()])
print([said.text for said in client.list_logs("talks", stream="out")])
try:
    client.start_unit("a/b ü")
except ProblemError as problem:
    print(problem.code, problem.status, problem)
events = client.follow_events(0)
seen = []
run = client.get_unit("talks").run
client.restart_unit("talks")
for event in events:
    seen.append(event.kind)
    if event.kind == "ready" and event.run != run:
        break
print(seen[0], "ended" in seen, client.get_unit("talks").run != run)
print("hatchway_" in client.get_metrics(), "paths" in client.get_openapi())
"#;
    let outcome = std::process::Command::new("python3")
        .args(["-c", script])
        .args([folder, socket])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&outcome.stdout).into_owned();
    let lines: Vec<&str> = told.lines().collect();
    let expected = [
        "[('talks', True)]",
        "['up']",
        "no-such-unit 404 the instrument has no unit `a/b ü`",
        "daemon-began True True",
        "True True",
    ];
    assert_eq!(lines, expected, "{}", String::from_utf8_lossy(&outcome.stderr));
}
