//! Rows of the suite for all rungs about `limits`: what a rung promises of them, it keeps.

use std::fs;
use std::path::Path;

use super::rungs::Rungs;
use super::rungs_ends::{ended, outer_half, signal, started};

#[test]
fn a_tool_that_takes_too_much_memory_is_told_apart() {
    too_much_memory(&Rungs::new("limits = { memory = \"64M\", tasks = 20 }"));
}

pub(super) fn too_much_memory(rungs: &Rungs) {
    // What becomes of it on the fhs rung is up to the host: a row of its own.
    for rung in rungs.names().into_iter().filter(|rung| *rung != "fhs") {
        let outcome = rungs.shell(rung, "$RUN -c 'exec tail /dev/zero'");
        assert_eq!(outcome.code, Some(137), "{outcome}");
        assert_eq!(rungs.record()["reason"]["oom"]["kills"], 1, "{}", rungs.record());
        // All of them are there at once, however long it takes to start them.
        let outcome = rungs.shell(rung, "$RUN -c 'for i in $(seq 30); do sleep 60 & done; exit 0'");
        assert!(outcome.stderr.contains("Cannot fork"), "{outcome}");
    }
    rungs.nothing_is_left();
}

#[test]
fn what_the_host_keeps_of_limits_is_kept_and_the_rest_is_said() {
    // Tasks are asked for elsewhere: without a control group those of other tests count, too.
    let rungs = Rungs::new("limits = { memory = \"64M\", cpu = 0.5 }");
    let explain = "$HATCHWAY run acme --rung fhs --program /usr/bin/dash --explain";
    let explained = rungs.bench.script(explain).ok();
    let outcome = rungs.shell("fhs", "$RUN -c 'exec tail /dev/zero'");
    let record = rungs.record();
    if explained.stdout.contains("enter the control group") {
        assert_eq!((outcome.code, &record["reason"]["oom"]["kills"]), (Some(137), &1.into()), "{record}");
        assert_eq!(record["notes"].to_string().matches("does not hold").count(), 0, "{record}");
    } else {
        // Each process has the limit, and is told that there is no more.
        assert_eq!(outcome.code, Some(1), "{outcome}");
        assert!(outcome.stderr.contains("tail: memory exhausted"), "{outcome}");
        assert_eq!(record["reason"].to_string(), r#"{"exit":{"code":1}}"#);
        let notes = record["notes"].to_string();
        for note in [
            "`limits.cpu` does not hold: only a control group of version 2 can keep it, and there is none (",
            "limits hold for each process or user, not for the unit: no control group of version 2 (",
        ] {
            assert!(notes.contains(note) && explained.stderr.contains(note), "{note}\n{record}\n{explained}");
        }
        // It is the sum that is not limited: two that take half of it each, and a bit.
        let two =
            "$RUN -c 'for i in 1 2; do (head -c 40000000 /dev/zero | tail -c 40000000 | wc -c) & done; wait'";
        assert_eq!(rungs.shell("fhs", two).ok().stdout, "40000000\n40000000\n");
    }
    rungs.nothing_is_left();
}

#[test]
fn a_share_of_a_processor_is_all_that_a_unit_gets() {
    share_of_a_processor(&Rungs::new("limits = { cpu = 0.5 }"));
}

pub(super) fn share_of_a_processor(rungs: &Rungs) {
    for rung in rungs.names().into_iter().filter(|rung| *rung != "fhs") {
        if rung == "container" {
            let mut child =
                started(rungs, rung, "trap \"exit 0\" TERM; echo ready; while :; do sleep 0.1; done");
            assert_eq!(quota(&outer_half(rungs, rung, &child)), "50000 100000", "{rung}");
            signal(&child, "-TERM");
            assert_eq!(ended(&mut child, rung), Some(0), "{rung}");
        }
        // Who is in a loop for ten seconds by the clock has about five of the processor; without a limit it has nearly ten.
        let inside = "read begin rest < /proc/uptime; until read now rest < /proc/uptime; test ${now%.*} -ge $((${begin%.*} + 10)); do :; done; times";
        let outcome = rungs.shell(rung, &format!("$RUN -c '{inside}'")).ok();
        let spent = seconds(outcome.stdout.lines().next().unwrap_or_default());
        assert!((0.1..7.5).contains(&spent), "{rung}: {spent} of 10 s\n{outcome}");
    }
    rungs.nothing_is_left();
}

/// What the kernel keeps for the group of a process, as `cpu.max` has it: microseconds in each so many.
fn quota(process: &str) -> String {
    let groups = fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap();
    let read = |path: &str| {
        fs::read_to_string(Path::new("/sys/fs/cgroup").join(path)).map(|text| text.trim().to_owned())
    };
    for line in groups.lines() {
        let [_, controllers, group] = line.splitn(3, ':').collect::<Vec<_>>()[..] else { panic!("{groups}") };
        if controllers.split(',').any(|name| name == "cpu") {
            let file = |name: &str| read(&format!("{controllers}{group}/{name}")).unwrap();
            return format!("{} {}", file("cpu.cfs_quota_us"), file("cpu.cfs_period_us"));
        }
        if let (true, Ok(max)) = (controllers.is_empty(), read(&format!("{}/cpu.max", &group[1..]))) {
            return max;
        }
    }
    panic!("no group of it has processor time: {groups}")
}

/// `times` of a shell: what it has used in user mode and in the kernel, `1m2.34s 0m5.67s`.
fn seconds(times: &str) -> f64 {
    let one = |word: &str| {
        let (minutes, seconds) = word.trim_end_matches('s').split_once('m')?;
        Some(minutes.parse::<f64>().ok()? * 60.0 + seconds.parse::<f64>().ok()?)
    };
    times.split(' ').map(|word| one(word).unwrap_or_else(|| panic!("no times: {times}"))).sum()
}
