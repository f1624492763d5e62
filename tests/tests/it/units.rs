//! Units that stay when whoever started them goes: their output, their end, and what is told of both.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hatchway_tests::bench::{Bench, Outcome};
use serde_json::Value;

use super::rungs::{Rungs, until};

fn detach(rungs: &Rungs, rung: &str, script: &str) -> Outcome {
    let line =
        format!("$HATCHWAY run -q acme --rung {rung} --program /usr/bin/dash --detach -- -c '{script}'");
    rungs.shell(rung, &line)
}

fn status(bench: &Bench) -> Value {
    let all: Value = bench.hatchway(&["status", "acme", "--json"]).json();
    all.as_array().unwrap().last().unwrap().clone()
}

fn ended(bench: &Bench) -> Value {
    until("it does not end", || status(bench)["state"] == "ended");
    status(bench)
}

/// A tool that has started has not come far yet.
fn says(bench: &Bench, word: &str) {
    until("it does not say so", || bench.hatchway(&["logs", "acme"]).stdout.contains(word));
}

/// The folder of the last run.
fn folder(bench: &Bench) -> PathBuf {
    let run = status(bench)["run"].as_str().unwrap().to_owned();
    bench.path("data/run/units/acme").join(run)
}

fn process(name: &str, folder: &Path) -> Option<i32> {
    let pattern = format!("{name}.*{}", folder.display());
    let output = Command::new("pgrep").args(["-f", &pattern]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).lines().next().and_then(|pid| pid.parse().ok())
}

#[test]
fn a_unit_stays_says_and_ends_on_each_rung() {
    let rungs = Rungs::new("");
    for rung in rungs.names() {
        let script = "echo one; echo two >&2; trap \"echo bye; exit 3\" TERM; while :; do sleep 0.1; done";
        let outcome = detach(&rungs, rung, script).ok();
        let run = outcome.stdout.trim().to_owned();
        let bench = &rungs.bench;
        let seen = status(bench);
        assert_eq!(
            (seen["state"].as_str(), seen["run"].as_str()),
            (Some("running"), Some(run.as_str())),
            "{rung}"
        );
        assert_eq!(bench.hatchway(&["status", "acme"]).code, Some(0), "{rung}");
        // The tool began before it was said to run; what it says comes a moment later.
        let said = || bench.hatchway(&["logs", "acme"]).ok().stdout;
        until("it says nothing", || said().lines().count() == 2);
        let mut lines: Vec<String> = said().lines().map(str::to_owned).collect();
        lines.sort();
        assert_eq!(lines, ["one", "two"], "{rung}");
        let errors = bench.hatchway(&["logs", "acme", "--stream", "err", "--timestamps"]).ok();
        assert!(
            errors.stdout.trim_end().ends_with(" err two") && errors.stdout.lines().count() == 1,
            "{errors}"
        );
        // Who comes to it finds it as one in the foreground.
        let beside = bench.script("$HATCHWAY exec acme -- dash -c 'echo beside' < /dev/null").ok();
        assert_eq!(beside.stdout, "beside\n", "{rung}\n{beside}");
        let stopped = bench.hatchway(&["stop", "acme"]).ok();
        assert!(stopped.stderr.contains("asked to end (SIGTERM) and did: code 3"), "{rung}\n{stopped}");
        assert_eq!(bench.hatchway(&["logs", "acme", "-n", "1"]).ok().stdout, "bye\n", "{rung}");
        let seen = ended(bench);
        assert_eq!(seen["record"]["code"], 3, "{rung}\n{seen}");
        assert_eq!(seen["record"]["logged"], serde_json::json!({"out": 8, "err": 4, "dropped": 0}), "{rung}");
        assert_eq!(bench.hatchway(&["status", "acme"]).code, Some(1), "{rung}");
        assert_eq!(bench.hatchway(&["stop", "acme"]).code, Some(1), "{rung}");
    }
    let history = rungs.bench.hatchway(&["history", "acme", "--json"]).json();
    assert_eq!(history.as_array().unwrap().len(), rungs.names().len());
}

#[test]
fn why_a_unit_has_ended_is_told_with_what_it_said() {
    let rungs = Rungs::new("");
    let bench = &rungs.bench;
    let cases = [
        ("exit 0", "it ended by itself, well", None),
        ("echo no licence >&2; exit 9", "it ended by itself with code 9", Some("no licence")),
        ("echo wrong option >&2; exit 1", "it ended by itself with code 1", Some("wrong option")),
        ("kill -SEGV $$", "SIGSEGV ended it, which Hatchway did not send", None),
        ("kill -SYS $$", "it made a system call that its filter forbids", None),
        (
            "echo \"/opt/a: error while loading shared libraries: libgclib.so.0: cannot open shared object file: No such file\" >&2; exit 127",
            "the library libgclib.so.0 is not there",
            Some("error while loading shared libraries"),
        ),
    ];
    for (script, why, evidence) in cases {
        drop(detach(&rungs, "fhs", script));
        let seen = ended(bench);
        assert_eq!(seen["why"], why, "{script}\n{seen}");
        let told = bench.hatchway(&["status", "acme"]).stdout;
        assert!(evidence.is_none_or(|line| told.contains(line)), "{script}\n{told}");
    }
    let why = bench.hatchway(&["why", "acme"]).ok().stdout;
    assert!(why.contains("next: `apt-file search libgclib.so.0`"), "{why}");
    // What cannot start says so, and its exit code is that of `run`.
    let outcome = bench.hatchway(&["run", "-q", "acme", "--detach", "--program", "/usr/bin/none"]);
    assert_eq!(outcome.code, Some(127), "{outcome}");
    assert!(ended(bench)["why"].as_str().unwrap().contains("could not be started"));
    let outcome = bench.hatchway(&["run", "-q", "acme", "--detach", "--share", "/nowhere"]);
    assert_eq!(outcome.code, Some(125), "{outcome}");
    let seen = ended(bench);
    assert!(seen["why"].as_str().unwrap().starts_with("it was not started: error: "), "{seen}");
}

#[test]
fn the_oldest_output_goes_and_each_byte_of_it_is_counted() {
    let rungs = Rungs::new("");
    let bench = &rungs.bench;
    let recipe = bench.path("work/recipes/acme/recipe.toml");
    let text = fs::read_to_string(&recipe).unwrap();
    fs::write(&recipe, format!("{text}\n[service]\nlogs = {{ size = \"1M\" }}\n")).unwrap();
    drop(detach(&rungs, "fhs", "seq 1000000; echo quiet >&2"));
    let seen = ended(bench);
    let logged = &seen["record"]["logged"];
    // What `seq` prints of these numbers, with their ends.
    assert_eq!((logged["out"].as_u64(), logged["err"].as_u64()), (Some(6_888_896), Some(6)), "{seen}");
    let dropped = logged["dropped"].as_u64().unwrap();
    let kept = bench.hatchway(&["logs", "acme", "--stream", "out"]).ok().stdout;
    let (first, rest) = kept.split_once('\n').unwrap();
    assert_eq!(first, format!("[{dropped} bytes of out are not kept]"));
    assert_eq!(rest.len() as u64 + dropped, 6_888_896);
    assert!(rest.ends_with("\n999999\n1000000\n") && rest.len() <= 1 << 20);
    let disk: u64 =
        fs::read_dir(folder(bench).join("log")).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
    assert!(disk <= 1 << 20, "{disk} bytes");
}

#[test]
fn a_full_log_holds_the_tool_up_or_ends_it_where_the_recipe_says_so() {
    let rungs = Rungs::new("");
    let bench = &rungs.bench;
    let recipe = bench.path("work/recipes/acme/recipe.toml");
    let text = fs::read_to_string(&recipe).unwrap();
    let with = |full: &str| {
        fs::write(&recipe, format!("{text}\n[service]\nlogs = {{ size = \"1M\", full = \"{full}\" }}\n"))
            .unwrap();
    };
    with("block");
    let counts = "i=0; while test $i -lt 300000; do i=$((i + 1)); echo $i; echo $i > /tmp/at; done";
    drop(detach(&rungs, "fhs", counts).ok());
    // It waits for ever, whatever else happens, and nothing is lost.
    let size = || {
        bench.script("$HATCHWAY exec acme -- dash -c 'cat /tmp/at 2> /dev/null; :' < /dev/null").ok().stdout
    };
    until("it is not held up", || {
        let before = size();
        std::thread::sleep(Duration::from_millis(500));
        !before.is_empty() && before == size()
    });
    assert_eq!(status(bench)["state"], "running");
    let first = bench.hatchway(&["logs", "acme", "--stream", "out"]).ok().stdout;
    assert!(first.starts_with("1\n2\n") && first.len() < 1 << 20);
    // As often as somebody clears it, it goes on.
    until("it does not go on", || {
        drop(bench.hatchway(&["logs", "acme", "--clear"]));
        status(bench)["state"] == "ended"
    });
    let seen = ended(bench);
    assert_eq!(seen["record"]["logged"]["out"], 1_988_895, "{seen}");
    with("stop");
    drop(detach(&rungs, "fhs", "seq 300000; sleep 1000"));
    let seen = ended(bench);
    assert_eq!(seen["why"], "its log was full, and its recipe ends it then", "{seen}");
    // What it said while it was ended is counted, if not kept.
    let kept = bench.hatchway(&["logs", "acme", "--stream", "out"]).ok().stdout;
    let logged = &seen["record"]["logged"];
    let (out, dropped) = (logged["out"].as_u64().unwrap(), logged["dropped"].as_u64().unwrap());
    // A line that was cut off has an end here. The log has heads of records, too, so less than its size fills it.
    let all = kept.len() as u64 + dropped;
    assert!(out > 1_000_000 && all.abs_diff(out) <= 1, "{} kept, {seen}", kept.len());
    assert!(seen["record"]["evidence"].to_string().contains("the log has 1048576 bytes"), "{seen}");
    // One that has ended by itself has ended for its own reason, however full it is.
    drop(detach(&rungs, "fhs", "seq 150000; echo last >&2; exit 3"));
    let seen = ended(bench);
    assert_eq!(seen["record"]["code"], 3, "{seen}");
}

#[test]
fn whatever_is_killed_of_a_unit_is_told_and_nothing_of_it_stays() {
    let rungs = Rungs::new("");
    let bench = &rungs.bench;
    let forever = "sleep 71935 & echo up; wait";
    let gone = || {
        until("the tool stays", || {
            !Command::new("pgrep").args(["-f", "^sleep 71935$"]).output().unwrap().status.success()
        });
    };
    // The command that runs the tool.
    drop(detach(&rungs, "fhs", forever).ok());
    drop(bench.hatchway(&["kill", "acme"]).ok());
    gone();
    let seen = ended(bench);
    assert!(seen["why"].as_str().unwrap().contains("gone without a word: SIGKILL"), "{seen}");
    // The recorder: the tool is asked to end, since nobody would hear it, and no record can be there.
    drop(detach(&rungs, "fhs", forever).ok());
    let unit = folder(bench);
    let recorder = process("hatchway-shim --unit", &unit).expect("a recorder");
    nix_kill(recorder);
    gone();
    until("it is not told", || matches!(status(bench)["state"].as_str(), Some("lost" | "ended")));
    // What is left of both goes with the runs that come after.
    for _ in 0..12 {
        drop(detach(&rungs, "fhs", "exit 0"));
        ended(bench);
    }
    assert!(!unit.exists());
    let kept = bench.hatchway(&["history", "acme", "--json"]).json();
    assert!(kept.as_array().unwrap().len() <= 11);
}

fn nix_kill(pid: i32) {
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
}

#[test]
fn nothing_of_who_starts_a_unit_stays_open_and_several_start_at_once() {
    let rungs = Rungs::new("");
    // The end of the pipe that `cat` reads is a descriptor of the shell's, which every program it starts inherits.
    let outcome = rungs.bench.script(
        "exec 9>&1; { $HATCHWAY run -q acme --detach --program /usr/bin/sleep -- 600 9>&9 > /dev/null; echo on; } 9>&1 | timeout 300 cat; \
         $HATCHWAY stop -q acme",
    );
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), "on\n"), "{outcome}");
    let none_runs = |name: &str| {
        format!("for i in $(seq 600); do $HATCHWAY status -q {name} > /dev/null || break; sleep 0.1; done")
    };
    // A vendor's file by a name of its own: what chose its lock is not said again to what runs it.
    let file = rungs.bench.script(&format!(
        "$HATCHWAY run -q ./acme.deb --name other --suite bookworm --detach --program /usr/bin/sleep -- 0.1; {}; $HATCHWAY why other",
        none_runs("other")
    ));
    assert!(file.stdout.contains("it ended by itself, well"), "{file}");
    let line = format!(
        "for i in 1 2 3 4 5 6; do $HATCHWAY run -q acme --detach --program /usr/bin/sleep -- 0.1 & done; wait; \
         {}; $HATCHWAY history acme --json",
        none_runs("acme")
    );
    let outcome = rungs.bench.script(&line);
    let all: Value = serde_json::from_str(&outcome.stdout[outcome.stdout.find('[').unwrap()..]).unwrap();
    let ended = all.as_array().unwrap().iter().filter(|run| run["state"] == "ended").count();
    assert_eq!(ended, 7, "{outcome}");
}

#[test]
fn a_recipe_says_how_its_tool_is_asked_to_end() {
    let rungs = Rungs::new("");
    let recipe = rungs.bench.path("work/recipes/acme/recipe.toml");
    let text = fs::read_to_string(&recipe).unwrap();
    let with = |grace: &str| {
        let stop = format!("\n[service]\nstop = {{ signal = \"INT\", grace = {grace:?} }}\n");
        fs::write(&recipe, format!("{text}{stop}")).unwrap();
    };
    for rung in rungs.names() {
        // Time enough for one that listens, on any machine.
        with("50s");
        let ends = "trap \"echo bye; exit 5\" INT; trap \"\" TERM; echo up; while :; do sleep 0.1; done";
        drop(detach(&rungs, rung, ends).ok());
        says(&rungs.bench, "up");
        drop(rungs.bench.hatchway(&["stop", "acme"]).ok());
        assert_eq!(ended(&rungs.bench)["record"]["code"], 5, "{rung}");
        // One that does not listen has a second.
        with("1s");
        drop(detach(&rungs, rung, "trap \"\" INT TERM; echo up; while :; do sleep 0.1; done").ok());
        says(&rungs.bench, "up");
        drop(rungs.bench.hatchway(&["stop", "acme"]).ok());
        let seen = ended(&rungs.bench);
        assert_eq!(seen["record"]["reason"]["requested"]["forced"], true, "{rung}\n{seen}");
    }
}

#[test]
fn what_runs_in_the_foreground_is_shown_and_left_to_its_command() {
    let rungs = Rungs::new("");
    let bench = &rungs.bench;
    let outcome = bench.script(
        "$HATCHWAY run -q acme --program /usr/bin/sleep -- 600 & run=$!; \
         until $HATCHWAY stats -q acme > /dev/null 2>&1; do sleep 0.1; done; \
         $HATCHWAY status acme | tail -n 1; $HATCHWAY stop acme; echo $?; $HATCHWAY logs acme; echo $?; kill $run; wait $run; echo $?",
    );
    assert_eq!(outcome.stdout, "  runs in the foreground of another command\n2\n2\n143\n", "{outcome}");
    assert!(outcome.stderr.contains("end it there (Ctrl-C)"), "{outcome}");
    assert!(outcome.stderr.contains("`hatchway run --detach` keeps it"), "{outcome}");
    // Of a tool that never ran nothing is known.
    let unknown = bench.hatchway(&["logs", "other"]);
    assert!(unknown.code == Some(2) && unknown.stderr.contains("no run of `other` is known"), "{unknown}");
    assert_eq!(bench.hatchway(&["status", "other"]).code, Some(1));
}

// After the clock was set back, `logs` and `why` showed nothing of before: they read until a line was later than the clock.
#[test]
fn what_was_said_before_the_clock_was_set_back_is_shown() {
    let rungs = Rungs::without_engine(Bench::new().exact(), "");
    let bench = &rungs.bench;
    drop(detach(&rungs, "fhs", "echo one; sleep 0.2; echo licence expired; exit 7").ok());
    ended(bench);
    let segments = folder(bench).join("log");
    for entry in fs::read_dir(&segments).unwrap() {
        later_by_an_hour(&entry.unwrap().path());
    }
    assert_eq!(bench.hatchway(&["logs", "acme"]).ok().stdout, "one\nlicence expired\n");
    assert_eq!(bench.hatchway(&["logs", "acme", "-n", "1"]).ok().stdout, "licence expired\n");
    let why = bench.hatchway(&["why", "acme"]).ok().stdout;
    assert!(why.contains("cause: its licence has expired: licence expired"), "{why}");
    let timeline = bench.hatchway(&["timeline", "--logs"]).ok().stdout;
    assert!(timeline.contains("licence expired"), "{timeline}");
}

/// Moves each time of the clock in a segment, wherever the format has it.
fn later_by_an_hour(segment: &Path) {
    let mut bytes = fs::read(segment).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    let now = i64::try_from(now).unwrap();
    let (minute, mut at, mut found) = (60_000_000_000, 0, 0);
    while let Some(word) = bytes.get(at..at + 8) {
        let time = i64::from_le_bytes(word.try_into().unwrap());
        if (now - minute..now + minute).contains(&time) {
            bytes[at..at + 8].copy_from_slice(&(time + 60 * minute).to_le_bytes());
            found += 1;
            at += 7;
        }
        at += 1;
    }
    assert!(found > 0, "no time is in `{}`", segment.display());
    fs::write(segment, bytes).unwrap();
}

// An upgrade puts its recorder in the place of the one that the daemon knows, a moment before that is replaced, too: what it said to show that
// it keeps the unit was a complaint to the older daemon, which forgot a unit that ran.
#[test]
fn a_recorder_says_that_it_keeps_a_unit_to_who_waits_for_that() {
    let bench = Bench::new();
    let shim = hatchway_tests::bench::program().with_file_name("hatchway-shim");
    for (run, wish, said) in [("1-1", "", ""), ("1-2", r#","hears_kept":true"#, "\n")] {
        let folder = bench.path("data/run/units/acme").join(run);
        fs::create_dir_all(&folder).unwrap();
        // As an older version has written it, but for the wish.
        let told = format!(
            r#"{{"version":1,"unit":"acme","incarnation":"{run}","command":["/bin/sh","-c","exit 3"]{wish}}}"#
        );
        fs::write(folder.join("unit.json"), told).unwrap();
        let output = Command::new(&shim).arg("--unit").arg(&folder).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), said);
        let record = fs::read_to_string(folder.join("exit.json")).unwrap();
        assert!(record.contains("\"code\": 3"), "{record}");
    }
}
