//! `cargo xtask supervise`: units under the daemon where control groups of version 2 count and the clock may be set, in a QEMU guest
//! with Debian's kernel and Debian's systemd: whose memory was at its end, what a frozen unit is, and what steps of the clock do.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::sh;
use crate::trial::{Answers, Bench, First, Trial};

const TOOL: &str = "acme";
/// Boot, some twenty runs of units and steps of the clock in software emulation take ten minutes.
const PATIENCE: Duration = Duration::from_secs(2400);

const COUNTS: &str = "trap 'exit 0' TERM; i=0; while :; do i=$((i + 1)); echo $i; sleep 0.5; done";
const STAYS: &str = "trap 'exit 0' TERM; while :; do sleep 0.2; done";
const FILLS: &str = "exec tail /dev/zero";
/// Recipes: what is limited, and what becomes of who has failed.
const RECIPES: [(&str, &str, &str); 5] = [
    ("plain", "", "never"),
    ("loops", "", "on-failure"),
    ("narrow", "64M", "never"),
    ("repeats", "64M", "on-failure"),
    ("broad", "400M", "never"),
];
/// Units: recipe, script, and whether it starts by itself.
const UNITS: [(&str, &str, &str, bool); 14] = [
    ("neighbour", "plain", COUNTS, true),
    ("limited", "narrow", COUNTS, true),
    // What `tail` waits with is memory of its own.
    (
        "holds",
        "plain",
        "trap 'exit 0' TERM; { head -c 40000000 /dev/zero; exec sleep 100000; } | tail -c 40000000 & wait",
        true,
    ),
    ("tick", "plain", STAYS, true),
    ("small", "narrow", FILLS, false),
    (
        "child",
        "narrow",
        "tail /dev/zero; echo child ended $?; trap 'exit 0' TERM; while :; do sleep 0.2; done",
        false,
    ),
    ("exits137", "narrow", "exit 137", false),
    ("killed9", "narrow", "kill -9 $$", false),
    (
        "again",
        "repeats",
        "test -e /var/lib/acme/x && kill -9 $$; touch /var/lib/acme/x; exec tail /dev/zero",
        false,
    ),
    ("free", "plain", FILLS, false),
    ("wide", "broad", FILLS, false),
    ("free9", "plain", "kill -9 $$", false),
    (
        "large",
        "plain",
        "mkfifo /tmp/f; { head -c 120000000 /dev/zero; exec sleep 100000; } > /tmp/f & exec tail -c 120000000 < /tmp/f",
        false,
    ),
    ("fails", "loops", "exit 3", false),
];

const TRIAL: Trial = Trial {
    name: "supervise",
    script: include_str!("supervise/guest.sh"),
    patience: PATIENCE,
    size: "3G",
    first: First::Systemd,
};

pub(crate) fn verb(mut args: sh::Args) -> Result<()> {
    let yes = args.flag("--yes");
    args.finish()?;
    judge(TRIAL.run(yes, furnish)?)
}

fn furnish(bench: &Bench<'_>) -> Result<()> {
    let path = bench.recipe(TOOL, "dash, coreutils", &[("usr/bin/acme", b"#!/bin/sh\nexit 0\n", 0o755)])?;
    let drafted = fs::read_to_string(&path)?;
    let (name, program) = ("name = \"acme\"\n", "program = \"/usr/bin/acme\"\n");
    ensure!(drafted.contains(name) && drafted.contains(program), "the drafted recipe is another:\n{drafted}");
    for (recipe, memory, restart) in RECIPES {
        let limits =
            if memory.is_empty() { String::new() } else { format!("limits = {{ memory = {memory:?} }}\n") };
        let run = format!("program = \"/usr/bin/dash\"\nstate = [\"/var/lib/acme\"]\n{limits}");
        let text = drafted.replace(name, &format!("name = {recipe:?}\n")).replace(program, &run);
        let folder = bench.disk.join("work/recipes").join(recipe);
        fs::create_dir(&folder)?;
        fs::write(folder.join("recipe.toml"), format!("{text}\n[service]\nrestart = {restart:?}\n"))?;
        bench.build(recipe)?;
    }
    let mut instrument = "schema = 1\n[instrument]\nname = \"guest\"\n".to_owned();
    for (unit, recipe, script, starts) in UNITS {
        let start = if starts { "auto" } else { "manual" };
        instrument.push_str(&format!(
            "[unit.{unit}]\nrecipe = {recipe:?}\nstart = {start:?}\nargs = [\"-c\", {script:?}]\n"
        ));
    }
    fs::create_dir_all(bench.disk.join("etc/hatchway"))?;
    Ok(fs::write(bench.disk.join("etc/hatchway/instrument.toml"), instrument)?)
}

fn judge(mut answers: Answers) -> Result<()> {
    answers.want("systemd is running, control groups cgroup2fs");
    memory(&mut answers);
    frozen(&mut answers);
    ends(&mut answers);
    clock(&mut answers)?;
    answers.end("supervise: ends for want of memory were told by whose it was, and steps of the clock changed nothing")
}

fn memory(answers: &mut Answers) {
    // Forty megabytes, and what the programs of the unit have beside that.
    for who in ["stats ", "top ", "metric ", "systemd counts "] {
        let said = answers.all().iter().find_map(|line| line.strip_prefix(who)).map(str::to_owned);
        let bytes = said.as_deref().and_then(|said| said.parse::<u64>().ok());
        if !bytes.is_some_and(|bytes| (38_000_000..80_000_000).contains(&bytes)) {
            answers.blame(format!("{who}says {said:?} of 40 MB"));
        }
    }
    answers.want("limited has 67108864 of its own, keeper beside it 2");
    answers.want("left at the top .");
}

fn frozen(answers: &mut Answers) {
    for unit in ["neighbour", "limited"] {
        answers.want(&format!("{unit} frozen holds still and is ready"));
        answers.want(&format!("{unit} thawed goes on"));
    }
}

/// Each unit with its reason, and what is known of whose memory it was.
fn ends(answers: &mut Answers) {
    let own = "{\"kills\":1,\"short\":\"unit\"}";
    let slice = "{\"kills\":1,\"short\":{\"group\":{\"path\":\"/hatchway.slice\"}}}";
    let signal = "{\"signal\":{\"signal\":9,\"core\":false}}";
    for (unit, reason, memory) in [
        ("small", "{\"oom\":{\"kills\":1}}", own),
        (
            "child",
            "{\"requested\":{\"signal\":15,\"forced\":false,\"outcome\":{\"exit\":{\"code\":0}}}}",
            own,
        ),
        ("exits137", "{\"exit\":{\"code\":137}}", ""),
        ("killed9", signal, ""),
        ("free", "{\"oom\":{\"kills\":1}}", slice),
        ("wide", "{\"oom\":{\"kills\":1}}", slice),
        ("free9", signal, ""),
        ("large", "{\"oom\":{\"kills\":1}}", "{\"kills\":1,\"short\":\"machine\"}"),
    ] {
        answers.want(&format!("{unit} reason {reason}"));
        answers.want(format!("{unit} memory {memory}").trim_end());
    }
    answers.want("again first oom");
    answers.want("again second signal 0");
    answers.want("child said child ended 137 and is ready");
    answers.want(
        "small why the kernel killed 1 process of the unit for want of memory: the unit reached its own limit",
    );
    // It is told twice: the second time below a limit of all, which is not the one that it reaches.
    let told = answers.all().iter().filter(|line| **line == format!("small memory {own}")).count();
    if told != 2 {
        answers.blame(format!("small reached its own limit {told} times, not twice"));
    }
    for unit in ["neighbour", "limited"] {
        answers.want(&format!("{unit} is ready"));
        answers.want(&format!("{unit} run the same"));
        answers.want(&format!("{unit} counted without a gap"));
    }
}

fn clock(answers: &mut Answers) -> Result<()> {
    let steps = ["an hour forward", "an hour back", "ten years forward", "ten years back"];
    for step in steps {
        for line in ["tick ready", "logs to the end yes", "since some"] {
            answers.want(&format!("{step}: {line}"));
        }
        answers.want(&format!("{step}: timeline ends with tick ready"));
        let way = step.rsplit(' ').next().context("a step has a way")?;
        let said =
            answers.all().iter().find(|line| line.starts_with(&format!("{step}: events say"))).cloned();
        if !said.as_ref().is_some_and(|said| said.contains(&format!("the clock was set {way} by "))) {
            answers.blame(format!("the step is not told: {said:?}"));
        }
        let age = answers.all().iter().find(|line| line.starts_with(&format!("{step}: neighbour "))).cloned();
        if !age
            .as_ref()
            .is_some_and(|age| ["ready, age m", "ready, age s"].iter().any(|end| age.ends_with(end)))
        {
            answers.blame(format!("how long it runs is wrong: {age:?}"));
        }
    }
    answers.want("fails is degraded after 5 runs");
    // 0.2 s at first, twice as long each time, shortened by a half at most; the guest is slow.
    let runs: Vec<(f64, f64)> = answers.all().iter().filter_map(|line| ran(line)).collect();
    let pairs = runs.iter().zip(runs.iter().skip(1));
    let waits: Vec<f64> = pairs.map(|((_, ended), (began, _))| (began - ended) / 1e3).collect();
    let fits = |(index, wait): (usize, &f64)| (0.1 * f64::from(1 << index)..30.0).contains(wait);
    if waits.len() != 4 || !waits.iter().enumerate().all(fits) {
        answers.blame(format!("the waits are {waits:?}: {runs:?}"));
    }
    answers.want(&format!("order {}", "startingended".repeat(5)));
    for line in [
        "neighbour run the same after steps",
        "neighbour starts 1",
        "daemon restarts 0",
        "followed without a gap",
    ] {
        answers.want(line);
    }
    Ok(())
}

/// `fails ran from BEGAN to ENDED ms`
fn ran(line: &str) -> Option<(f64, f64)> {
    let (began, ended) = line.strip_prefix("fails ran from ")?.strip_suffix(" ms")?.split_once(" to ")?;
    Some((began.parse().ok()?, ended.parse().ok()?))
}
