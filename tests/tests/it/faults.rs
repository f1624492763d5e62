//! What goes wrong on an instrument, under the daemon: each fault is made for real, and nothing else is touched by it.

use std::fs;
use std::process::Stdio;

use hatchway_tests::bench::Bench;
use serde_json::Value;

use super::daemon::{Instrument, STAYS, unit};
use super::rungs::{Rungs, odd_seconds, sleeps, until};

fn reason(instrument: &Instrument, name: &str) -> Value {
    instrument.unit(name)["record"]["reason"].clone()
}

/// With a short time to end in.
fn with_grace(instrument: &Instrument, grace: &str) {
    let path = instrument.bench().path("work/recipes/acme/recipe.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}stop = {{ grace = {grace:?} }}\n")).unwrap();
}

#[test]
fn what_does_not_listen_and_what_escapes_ends_all_the_same() {
    let (child, grandchild) = (odd_seconds(), odd_seconds());
    let deaf = format!("trap '' TERM INT HUP; while :; do sleep {child}; done");
    // No parent, no streams, no signals.
    let escapes =
        format!("(trap '' TERM HUP; (sleep {grandchild} > /dev/null 2>&1 < /dev/null &) &); {STAYS}");
    let mut instrument = Instrument::new(
        &(unit("deaf", &deaf, "") + &unit("escapes", &escapes, "") + &unit("quiet", STAYS, "")),
    );
    // Enough for what listens on a busy machine.
    with_grace(&instrument, "5s");
    instrument.begin();
    ["deaf", "escapes", "quiet"].iter().for_each(|name| instrument.reaches(name, "ready"));
    until("they do not sleep", || sleeps(&child) && sleeps(&grandchild));
    let run = instrument.unit("quiet")["run"].clone();
    for name in ["deaf", "escapes"] {
        drop(instrument.bench().hatchway(&["stop", name]).ok());
    }
    assert!(!sleeps(&child) && !sleeps(&grandchild), "something is left");
    assert_eq!(reason(&instrument, "deaf")["requested"]["forced"], true, "{}", reason(&instrument, "deaf"));
    assert_eq!(
        reason(&instrument, "escapes")["requested"]["forced"],
        false,
        "{}",
        reason(&instrument, "escapes")
    );
    assert_eq!((instrument.phase("quiet"), &instrument.unit("quiet")["run"]), ("ready".to_owned(), &run));
}

#[test]
fn a_fork_bomb_and_a_storm_of_zombies_hold_up_nobody_else_and_are_ended() {
    let seconds = odd_seconds();
    // As many as it may have, and again whenever one is gone.
    let bomb = format!("b() {{ sleep {seconds} & b & b; }}; b 2> /dev/null & exec sleep {seconds}");
    // Orphans that end at once: somebody has to wait for each.
    let storm =
        "i=0; while [ $i -lt 500 ]; do dash -c '(exit 0) & (exit 0) &'; i=$((i + 1)); done; echo done; ";
    let counts = "trap 'exit 0' TERM; i=0; while :; do i=$((i + 1)); echo $i; sleep 0.02; done";
    let units = unit("bomb", &bomb, "user = \"nobody\"")
        + &unit("storm", &format!("{storm}{STAYS}"), "")
        + &unit("counts", counts, "");
    let rungs = Rungs::without_engine(Bench::new().exact(), "limits = { tasks = 60 }");
    let mut instrument = Instrument::on(rungs, &units);
    with_grace(&instrument, "500ms");
    instrument.begin();
    ["bomb", "storm", "counts"].iter().for_each(|name| instrument.reaches(name, "ready"));
    until("the storm does not end", || {
        instrument.bench().hatchway(&["logs", "storm"]).stdout.contains("done")
    });
    until("nothing sleeps", || sleeps(&seconds));
    // The last of them may not have been waited for yet.
    until("zombies are left", || {
        let stats = instrument.bench().hatchway(&["stats", "storm", "--json"]).ok().json();
        stats[0]["processes"].as_u64().unwrap() < 10
    });
    drop(instrument.bench().hatchway(&["kill", "bomb"]).ok());
    assert!(!sleeps(&seconds), "something of the bomb is left");
    drop(instrument.bench().hatchway(&["stop", "counts"]).ok());
    let said = instrument.bench().hatchway(&["logs", "counts"]).ok().stdout;
    let numbers: Vec<usize> = said.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len()).collect::<Vec<_>>());
    assert_eq!(instrument.phase("storm"), "ready");
}

#[test]
fn one_that_never_stops_talking_costs_a_quiet_one_no_line() {
    // As fast as it can: half a gigabyte.
    let loud = "head -c 500000000 /dev/zero | tr '\\0' 'y'; echo; echo told; exit 0";
    let quiet = "trap 'exit 0' TERM; i=0; while :; do i=$((i + 1)); echo $i; sleep 0.01; done";
    let mut instrument =
        Instrument::new(&(unit("quiet", quiet, "") + &unit("loud", loud, "after = [\"quiet\"]")));
    instrument.begin();
    instrument.reaches("loud", "ended");
    drop(instrument.bench().hatchway(&["stop", "quiet"]).ok());
    let logged = instrument.unit("loud")["record"]["logged"].clone();
    assert_eq!(logged["out"], 500_000_006_u64, "{logged}");
    let dropped = logged["dropped"].as_u64().unwrap();
    assert!(dropped > 400_000_000, "{logged}");
    // What is kept and what is said to be missing is all there was.
    let lines: Vec<Value> = instrument
        .bench()
        .hatchway(&["logs", "loud", "--json"])
        .ok()
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let missing: u64 = lines.iter().filter_map(|line| line["missing"].as_u64()).sum();
    assert_eq!(missing, dropped);
    assert_eq!(lines.last().unwrap()["text"], "told");
    let said = instrument.bench().hatchway(&["logs", "quiet"]).ok().stdout;
    let numbers: Vec<usize> = said.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len()).collect::<Vec<_>>());
}

#[test]
fn whoever_has_the_number_of_a_recorder_that_is_gone_is_not_taken_for_it() {
    let instrument = Instrument::new("");
    // Numbers of processes are given out anew: in a namespace of our own the next one can be chosen (ns_last_pid, proc(5)).
    let script = r#"
set -e
$HATCHWAY run -q acme --detach -- -c 'while :; do sleep 0.1; done'
recorder=$(pgrep -f 'hatchway-shim --unit' | head -1)
kill -9 "$recorder"
# Its number is free once nothing of its session is left.
for try in $(seq 300); do $HATCHWAY status -q acme > status || break; sleep 0.1; done
i=0
while test "$i" -lt 100; do
    i=$((i + 1))
    echo $((recorder - 1)) > /proc/sys/kernel/ns_last_pid
    sleep 600 &
    test "$!" = "$recorder" && break
    kill "$!"; wait "$!" 2>/dev/null || true
done
test "$!" = "$recorder" || { echo "the number was not given out again"; exit 9; }
$HATCHWAY status acme > status || true
cat status
$HATCHWAY kill -q acme || true
$HATCHWAY stop -q acme || true
kill -0 "$recorder" && echo alive
kill "$recorder"
"#;
    instrument.bench().put("reuse.sh", script);
    let outcome = instrument
        .bench()
        .mounting_script("exec unshare --pid --fork --mount-proc sh -c 'sh reuse.sh; exit $?'");
    assert!(outcome.code == Some(0) && outcome.stdout.ends_with("alive\n"), "{outcome}");
    let told = outcome.stdout.lines().rev().nth(1).unwrap_or_default();
    assert!(
        told.contains("is gone without a record")
            || told.contains("what looked after it")
            || told.contains("asked to end"),
        "{outcome}"
    );
}

#[test]
fn on_a_disk_that_nobody_may_write_units_go_on_and_it_is_said() {
    let mut instrument = Instrument::new(&(unit("a", STAYS, "") + &unit("b", STAYS, "start = \"manual\"")));
    instrument.begin();
    instrument.reaches("a", "ready");
    instrument.kill();
    // As after an error of the file system: what is there can be read.
    let line = "mount --bind \"$HATCHWAY_DATA_DIR/daemon\" \"$HATCHWAY_DATA_DIR/daemon\"; \
                mount -o remount,bind,ro \"$HATCHWAY_DATA_DIR/daemon\"; exec $HATCHWAY daemon instrument.toml >> daemon.out 2>&1";
    let child = instrument
        .bench()
        .shell(&format!("exec unshare -m sh -c '{line}'"))
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    instrument.daemon = Some(child);
    until("it does not answer", || {
        instrument.ask_is_there() && instrument.ask("GET", "/v1/events", "").0 == 200
    });
    assert_eq!(instrument.phase("a"), "ready");
    // It is done, and said that nobody will know.
    let (status, problem) = instrument.ask("POST", "/v1/units/b/start", "");
    assert_eq!(status, 500, "{problem:#}");
    assert!(problem["detail"].as_str().unwrap().contains("it is done, and cannot be kept"), "{problem:#}");
    instrument.reaches("b", "ready");
    let (_, events) = instrument.ask("GET", "/v1/events", "");
    assert!(events.to_string().contains("Read-only file system"), "{events:#}");
    let (status, problem) = instrument.ask("POST", "/v1/units/b/stop", "");
    assert_eq!(status, 500, "{problem:#}");
    until("b goes on", || instrument.phase("b") == "stopped");
    assert_eq!(instrument.phase("a"), "ready");
}

#[test]
fn units_in_containers_come_back_with_their_engine() {
    let mut rungs = Rungs::new("");
    if rungs.engine_host().is_none() {
        return;
    }
    rungs.replace_engine();
    let host = rungs.engine_host().unwrap();
    let mut instrument = Instrument::on(rungs, &unit("inside", STAYS, "rung = \"container\""));
    instrument.begin_with(&format!("export DOCKER_HOST={host}; "));
    instrument.reaches("inside", "ready");
    let first = instrument.unit("inside")["run"].clone();
    instrument.kill_and_start_engine();
    until("no other run begins", || {
        // An engine that is slow to come back has each try fail meanwhile, until the unit waits for a person.
        if instrument.phase("inside") == "degraded" {
            drop(instrument.bench().hatchway(&["start", "--no-wait", "inside"]));
        }
        instrument.unit("inside")["run"] != first && instrument.phase("inside") == "ready"
    });
    let ends: Vec<Value> =
        instrument.events(&["inside"]).into_iter().filter(|event| event["kind"] == "ended").collect();
    assert!(!ends.is_empty(), "its end was not told");
    let text = ends[0]["text"].as_str().unwrap();
    assert!(text.starts_with("the engine ended it") || text.contains("SIGKILL"), "{text}");
}

/// What the processes are that were started as the programs in the folder `bin`.
fn programs(instrument: &Instrument) -> String {
    let line = "pgrep -f \"^$PWD/bin/hatchway\" | while read pid; do readlink /proc/$pid/exe; done";
    instrument.bench().script(line).stdout
}

#[test]
fn another_program_in_the_place_of_the_daemons_runs_units_from_then_on_and_leaves_those_that_run_alone() {
    let counts = "trap 'exit 0' TERM; i=0; while :; do i=$((i + 1)); echo $i; sleep 0.01; done";
    let units = unit("counts", counts, "") + &unit("later", STAYS, "start = \"manual\"");
    let mut instrument = Instrument::new(&units);
    let put = "mkdir -p bin; for name in hatchway hatchway-shim; do cp \"$(dirname \"$HATCHWAY\")/$name\" bin/new; mv bin/new bin/$name; done";
    drop(instrument.bench().script(put).ok());
    let own = "HATCHWAY=\"$PWD/bin/hatchway\"; ";
    instrument.begin_with(own);
    instrument.reaches("counts", "ready");
    let run = instrument.unit("counts")["run"].clone();
    assert!(!programs(&instrument).contains("(deleted)"), "{}", programs(&instrument));
    drop(instrument.bench().script(put).ok());
    assert!(programs(&instrument).contains("bin/hatchway (deleted)"), "{}", programs(&instrument));
    // The daemon is the old one still, and what it starts is new.
    drop(instrument.bench().hatchway(&["start", "later"]).ok());
    assert!(
        programs(&instrument).lines().any(|line| line.ends_with("bin/hatchway-shim")),
        "{}",
        programs(&instrument)
    );
    drop(instrument.bench().hatchway(&["stop", "later"]).ok());
    instrument.kill();
    instrument.begin_with(own);
    assert!(
        programs(&instrument).lines().any(|line| line.ends_with("bin/hatchway")),
        "{}",
        programs(&instrument)
    );
    instrument.reaches("counts", "ready");
    assert_eq!(instrument.unit("counts")["run"], run);
    drop(instrument.bench().hatchway(&["stop", "counts"]).ok());
    let said = instrument.bench().hatchway(&["logs", "counts"]).ok().stdout;
    let numbers: Vec<usize> = said.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len()).collect::<Vec<_>>());
}
