//! What a start costs under a real systemd, and what a neighbour that never stops talking costs a quiet unit. It measures, and judges nothing.
#![allow(clippy::print_stdout, reason = "its output is the figures")]

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::daemon::unit;
use super::systemd_machine::Machine;

/// Starts by the daemon, in turns with `hatchway run`.
const PAIRS: usize = 51;
/// How long lines are looked at.
const LISTENS: Duration = Duration::from_secs(10);
/// When the tool has come so far that it says the time.
const TELLS: &str = "date +%s%N";
const TELLS_ON: &str = "trap 'exit 0' TERM; while :; do date +%s%N; sleep 0.02; done";
/// Lines of a hundred bytes, as fast as they are taken.
const LOUD: &str = "exec yes 0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789";

/// Runs the tool inside whenever a line comes, without a shell or a change of namespaces in between.
const RUNS: &str = "
import os, sys, time
words = ['hatchway', 'run', '-q', '--offline', '/etc/hatchway/recipes/acme', '--', '-c', 'date +%s%N']
for line in sys.stdin:
    reader, writer = os.pipe()
    begun = time.time_ns()
    pid = os.posix_spawn('/usr/bin/hatchway', words, os.environ,
                         file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1), (os.POSIX_SPAWN_CLOSE, reader)])
    os.close(writer)
    said = open(reader).read()
    os.waitpid(pid, 0)
    print(int(said) - begun, flush=True)
";

#[test]
#[ignore = "it takes a release build and a quiet machine; `cargo xtask bench systemd` runs it"]
fn what_systemd_and_a_loud_neighbour_cost() {
    let manual = |name: &str, script: &str| unit(name, script, "start = \"manual\"");
    let units = manual("tells", TELLS) + &manual("quiet", TELLS_ON) + &manual("loud", LOUD);
    let machine = Machine::new(&units, &[]);
    machine.begin();
    let (ours, theirs) = starts(&machine);
    row("`hatchway run`, until the tool's first word", &theirs);
    row("a start by the API, as a transient unit of systemd's", &ours);
    let more: Vec<f64> = ours.iter().zip(&theirs).map(|(ours, theirs)| ours - theirs).collect();
    row("**the difference**, in pairs (wanted: 40 ms)", &more);
    drop(machine.hatchway(&["start", "quiet"]).ok());
    row("a line of a quiet unit, until its recorder has it", &lines(&machine));
    drop(machine.hatchway(&["start", "loud"]).ok());
    row("**the same beside one that never stops talking**", &lines(&machine));
    ["quiet", "loud"].iter().for_each(|name| drop(machine.hatchway(&["stop", name]).ok()));
    let record = machine.unit("loud")["record"].clone();
    let ns = |moment: &str| record[moment]["monotonic_ns"].as_f64().unwrap();
    let rate = record["logged"]["out"].as_f64().unwrap() / (ns("ended") - ns("started"));
    println!("| what that one says meanwhile | {rate:.2} GB/s |");
}

fn row(what: &str, times: &[f64]) {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |share: usize| sorted[(sorted.len() - 1) * share / 100];
    println!(
        "| {what} | median {:.2} ms, p99 {:.2} ms, max {:.2} ms of {} |",
        at(50),
        at(99),
        at(100),
        sorted.len()
    );
}

/// In milliseconds, from the wish to the tool's first word.
fn starts(machine: &Machine) -> (Vec<f64>, Vec<f64>) {
    let mut runs = machine.host.command(&["python3", "-c", RUNS]);
    let mut runs = runs.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut wishes = runs.stdin.take().unwrap();
    let mut answers = BufReader::new(runs.stdout.take().unwrap()).lines();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        let begun = now();
        assert_eq!(machine.ask("POST", "/v1/units/tells/restart").0, 200);
        // Whoever looks takes time from whom is looked at.
        std::thread::sleep(Duration::from_millis(200));
        machine.until("it does not tell", || told(machine) > begun);
        ours.push((told(machine) - begun) as f64 / 1e6);
        wishes.write_all(b"\n").unwrap();
        let nanos: f64 = answers.next().unwrap().unwrap().parse().unwrap();
        theirs.push(nanos / 1e6);
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(wishes);
    assert!(runs.wait().unwrap().success());
    (ours, theirs)
}

fn told(machine: &Machine) -> i64 {
    let said = machine.hatchway(&["logs", "tells"]).stdout;
    said.lines().last().and_then(|line| line.parse().ok()).unwrap_or_default()
}

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

/// In milliseconds, what lies between the time that each line is and the time at which it was read.
fn lines(machine: &Machine) -> Vec<f64> {
    let since = now();
    std::thread::sleep(LISTENS);
    let (status, said) = machine.ask("GET", &format!("/v1/units/quiet/logs?since_ns={since}"));
    assert_eq!(status, 200, "{said:#}");
    let times = said.as_array().unwrap().iter().filter_map(|line| {
        let told: i64 = line["text"].as_str()?.parse().ok()?;
        (told > since).then(|| (line["realtime_ns"].as_i64().unwrap() - told) as f64 / 1e6)
    });
    let times: Vec<f64> = times.collect();
    assert!(!times.is_empty(), "the quiet one says nothing");
    times
}
