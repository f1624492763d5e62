//! Rows of the suite for all rungs about how a run ends: by a signal, by the end of whoever started it, by the engine, and by the
//! end of each process of ours that stands beside a tool.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::rungs::{Rungs, odd_seconds, sleeps, until};
use super::rungs_channels::{self, answer, server};
use super::rungs_guest::guests;

/// A tool's grace time, where the recipe names none.
const GRACE: Duration = Duration::from_secs(5);
/// What an end may take beyond the grace time. Only what hangs takes so long.
const END_MAX: Duration = Duration::from_secs(20);
/// The same in a guest, which `hatchway run` itself switches off after [`END_MAX`].
const GUEST_END_MAX: Duration = Duration::from_secs(60);

/// A run in the background, with its process id.
pub(super) fn started(rungs: &Rungs, rung: &str, inside: &str) -> Child {
    let line = format!("{}; exec $RUN -c '{inside}' > out 2> err < /dev/null", rungs.prefix(rung));
    begun(rungs, &line)
}

/// The line is a run that says `ready` in the file `out`.
fn begun(rungs: &Rungs, line: &str) -> Child {
    drop(fs::remove_file(rungs.bench.path("work/out")));
    let child = rungs.bench.shell(line).stdin(Stdio::null()).spawn().unwrap();
    until("it does not begin", || {
        fs::read_to_string(rungs.bench.path("work/out")).is_ok_and(|text| text.contains("ready"))
    });
    child
}

pub(super) fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

/// Its exit code. A run that hangs fails here, and does not hold the suite up for ever.
pub(super) fn ended(child: &mut Child, rung: &str) -> Option<i32> {
    let patience = GRACE + if rung == "vm" { GUEST_END_MAX } else { END_MAX };
    let end = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if Instant::now() >= end {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{rung}: it has not ended within {} seconds", patience.as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The children of a process that have this name.
pub(super) fn children(parent: &str, name: &str) -> Vec<String> {
    let found = Command::new("pgrep").args(["--parent", parent, "--exact", name]).output().unwrap();
    String::from_utf8_lossy(&found.stdout).lines().map(str::to_owned).collect()
}

/// The one child of a process that has this name is killed.
fn kill_child(parent: &str, name: &str) {
    let found = children(parent, name);
    assert_eq!(found.len(), 1, "{name} below {parent}: {found:?}");
    assert!(Command::new("kill").args(["-KILL", &found[0]]).status().unwrap().success());
}

/// The outer half of the shim of a run that has just begun, as the host counts processes.
pub(super) fn outer_half(rungs: &Rungs, rung: &str, child: &Child) -> String {
    if rung == "fhs" {
        return child.id().to_string();
    }
    let id = rungs.engine_says(&["ps", "--quiet"]).unwrap_or_default();
    rungs.engine_says(&["inspect", "--format", "{{.State.Pid}}", &id]).unwrap_or_default()
}

#[test]
fn signals_arrive_and_a_deaf_tool_is_killed_after_the_grace_time() {
    signals(&Rungs::new(""));
}

pub(super) fn signals(rungs: &Rungs) {
    for rung in rungs.names() {
        let mut child = started(
            rungs,
            rung,
            "trap \"echo usr1\" USR1; trap \"echo term; exit 9\" TERM; echo ready; while :; do sleep 0.1; done",
        );
        signal(&child, "-USR1");
        until("USR1", || rungs.bench.read("out").contains("usr1"));
        signal(&child, "-TERM");
        assert_eq!(ended(&mut child, rung), Some(9), "{rung}");
        assert_eq!(rungs.record()["reason"]["requested"]["forced"], false, "{rung}");
        let mut child = started(rungs, rung, "trap \"\" TERM; echo ready; while :; do sleep 0.1; done");
        let begin = Instant::now();
        signal(&child, "-TERM");
        assert_eq!(ended(&mut child, rung), Some(137), "{rung}");
        assert!(begin.elapsed() >= GRACE - Duration::from_secs(1), "{rung}: it had no time");
        assert_eq!(rungs.record()["reason"]["requested"]["forced"], true, "{rung}: {}", rungs.record());
    }
    rungs.nothing_is_left();
}

#[test]
fn nothing_outlives_a_killed_caller() {
    killed_caller(&Rungs::new(""));
}

pub(super) fn killed_caller(rungs: &Rungs) {
    for rung in rungs.names() {
        let seconds = odd_seconds();
        let mut child = started(
            rungs,
            rung,
            &format!("sleep {seconds} & trap \"\" TERM; echo ready; while :; do sleep 0.1; done"),
        );
        signal(&child, "-KILL");
        child.wait().unwrap();
        until("the tool outlives its caller", || !sleeps(&seconds));
        // Of what is in a guest the host sees QEMU.
        until("the guest outlives its caller", || guests(rungs).is_empty());
    }
    // What is left of the container, the next run of any tool removes.
    for rung in rungs.names() {
        drop(rungs.shell(rung, "$RUN -c true").ok());
    }
    rungs.nothing_is_left();
}

#[test]
fn what_the_engine_ends_is_told_so() {
    ended_by_the_engine(&Rungs::new(""));
}

pub(super) fn ended_by_the_engine(rungs: &Rungs) {
    let Some(says) = rungs.engine_says(&["ps", "--quiet"]) else { return };
    assert_eq!(says, "");
    let id = || rungs.engine_says(&["ps", "--quiet"]).unwrap_or_default();
    // As `docker stop` does it, and as the end of an engine without live-restore does.
    let mut child =
        started(rungs, "container", "trap \"exit 4\" TERM; echo ready; while :; do sleep 0.1; done");
    rungs.engine_says(&["stop", &id()]);
    assert_eq!(ended(&mut child, "container"), Some(4));
    assert_eq!(rungs.record()["reason"]["engine"]["message"], "the container's engine asked it to end");
    // Killed, with all in it and without a word.
    let mut child = started(rungs, "container", "echo ready; while :; do sleep 0.1; done");
    rungs.engine_says(&["kill", &id()]);
    let code = ended(&mut child, "container").map(i64::from);
    assert_eq!(code, rungs.record()["code"].as_i64());
    assert!(rungs.record()["reason"]["engine"]["message"].is_string(), "{}", rungs.record());
    assert!(rungs.bench.read("err").contains("warning: the tool was ended: "), "{}", rungs.bench.read("err"));
    rungs.nothing_is_left();
}

#[test]
fn without_the_inner_half_of_the_shim_the_unit_is_lost() {
    killed_inner_half(&Rungs::new(""));
}

pub(super) fn killed_inner_half(rungs: &Rungs) {
    // Nobody outside of a guest can tell its processes apart.
    for rung in rungs.names().into_iter().filter(|rung| *rung != "vm") {
        let seconds = odd_seconds();
        let inside = format!("trap \"\" TERM HUP; sleep {seconds} & echo ready; while :; do sleep 0.1; done");
        let mut child = started(rungs, rung, &inside);
        until("the tool does not run", || sleeps(&seconds));
        kill_child(&outer_half(rungs, rung, &child), "hatchway-shim");
        assert_eq!(ended(&mut child, rung), Some(125), "{rung}");
        let record = rungs.record();
        let lost = r#"{"lost":{"outcome":{"signal":{"core":false,"signal":9}}}}"#;
        assert_eq!((record["reason"].to_string().as_str(), &record["code"]), (lost, &125.into()), "{rung}");
        let said = rungs.bench.read("err");
        assert!(said.contains("error: the inner half of the shim ended without a word"), "{rung}: {said}");
        until("the tool outlives the shim", || !sleeps(&seconds));
    }
    rungs.nothing_is_left();
}

#[test]
fn without_what_relays_its_channels_the_tool_goes_on_and_reaches_nobody() {
    let rungs = Rungs::new("");
    killed_relay(&rungs);
}

pub(super) fn killed_relay(rungs: &Rungs) {
    rungs_channels::add(rungs, "kind = \"tcp\"\nat = \"10.9.8.7:5025\"");
    let ask = "echo there | /usr/bin/client tcp 10.9.8.7 5025";
    let inside =
        format!("{ask}; echo ready; until test -e /tmp/go; do sleep 0.1; done; {ask} 2>&1; echo $?; exit 4");
    // In a guest it is a process of the guest's.
    for rung in rungs.names().into_iter().filter(|rung| *rung != "vm") {
        let line = format!(
            "{}; exec $HATCHWAY run -q acme --rung {rung} --bind motion=tcp:{} --program /usr/bin/dash -- -c '{inside}' > out 2> err < /dev/null",
            rungs.prefix(rung),
            server(answer)
        );
        let mut child = begun(rungs, &line);
        kill_child(&outer_half(rungs, rung, &child), "hatchway-relay");
        drop(rungs.bench.script("$HATCHWAY exec acme -- touch /tmp/go < /dev/null").ok());
        assert_eq!(ended(&mut child, rung), Some(4), "{rung}: {}", rungs.bench.read("err"));
        assert_eq!(
            rungs.bench.read("out"),
            "there\nready\nconnect: Connection refused\n6\n",
            "{rung}: {}",
            rungs.bench.read("err")
        );
        assert_eq!(rungs.record()["reason"].to_string(), r#"{"exit":{"code":4}}"#, "{rung}");
        let told = "what relays the channels and addresses of the unit was ended";
        assert!(
            rungs.bench.read("err").contains(&format!("warning: {told}")),
            "{rung}: {}",
            rungs.bench.read("err")
        );
        assert!(rungs.record()["notes"].to_string().contains(told), "{rung}: {}", rungs.record());
    }
    rungs.nothing_is_left();
}
