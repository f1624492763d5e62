//! `cargo xtask limits`: what only control groups of version 2 enforce, tried in a QEMU guest with Debian's kernel: a tool
//! that forks, one that fills the memory, one that keeps the processor busy. Each has to be held, and the guest to go on.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::sh;
use crate::trial::{Answers, Bench, First, Trial};

const PROGRAM: &str = include_str!("limits/greedy.c");
const TOOL: &str = "greedy";
/// What the recipe says in each run. One task more than asked for is the sandbox's own first process.
const LIMITS: [(&str, &str); 3] =
    [("tasks", "tasks = 20"), ("memory", "memory = \"64M\""), ("cpu", "cpu = 0.25")];
/// Boot and three runs in software emulation take two minutes.
const PATIENCE: Duration = Duration::from_secs(900);

const SCRIPT: &str = r#"busybox sleep 10000 & neighbour=$!
for what in tasks memory cpu; do
    busybox cp $what.toml recipes/greedy/recipe.toml
    hatchway run -q greedy --offline -- $what > /tmp/out 2> /tmp/err; echo "guest: $what ended $?"
    busybox tail -n 3 /tmp/out | busybox sed "s/^/guest: $what said /"
    busybox sed "s/^/guest: $what complained /" /tmp/err
    busybox kill -0 $neighbour && echo "guest: $what neighbour lives"
    echo "guest: $what left $(busybox find /sys/fs/cgroup/hatchway -mindepth 1 -type d | busybox wc -l) groups"
done
busybox dmesg | busybox grep -o 'Memory cgroup out of memory: Killed process.*(greedy)' | busybox sed 's/^/guest: kernel said /'
"#;

const TRIAL: Trial =
    Trial { name: "limits", script: SCRIPT, patience: PATIENCE, size: "1200M", first: First::Script };

pub(crate) fn verb(mut args: sh::Args) -> Result<()> {
    let yes = args.flag("--yes");
    args.finish()?;
    judge(TRIAL.run(yes, furnish)?)
}

/// The tool, with a recipe for each run.
fn furnish(bench: &Bench<'_>) -> Result<()> {
    let (source, program) = (bench.folder.join("greedy.c"), bench.folder.join(TOOL));
    fs::write(&source, PROGRAM)?;
    sh::run(Command::new("gcc").args(["-O1", "-o"]).arg(&program).arg(&source))?;
    let path = bench.recipe(TOOL, "libc6", &[("usr/bin/greedy", &fs::read(&program)?, 0o755)])?;
    bench.build(TOOL)?;
    let recipe = fs::read_to_string(path)?;
    ensure!(recipe.contains("[run]\n"), "the drafted recipe has no [run]:\n{recipe}");
    for (name, limit) in LIMITS {
        let limited = recipe.replace("[run]\n", &format!("[run]\nlimits = {{ {limit} }}\n"));
        fs::write(bench.disk.join("work").join(format!("{name}.toml")), limited)?;
    }
    Ok(())
}

fn judge(mut answers: Answers) -> Result<()> {
    // Ended by KILL, from the kernel.
    for line in ["tasks ended 0", "tasks said processes 20 EAGAIN", "memory ended 137", "cpu ended 0"] {
        answers.want(line);
    }
    for (name, _) in LIMITS {
        answers.want(&format!("{name} neighbour lives"));
        answers.want(&format!("{name} left 0 groups"));
    }
    if !answers.all().iter().any(|line| line.starts_with("kernel said Memory cgroup out of memory")) {
        answers.blame("the kernel does not say that it killed for a control group".to_owned());
    }
    let share =
        answers.all().iter().find_map(|line| line.strip_prefix("cpu said share ")?.parse::<f64>().ok());
    if !share.is_some_and(|share| (0.05..=0.30).contains(&share)) {
        answers.blame(format!("a quarter of a processor was given as {share:?}"));
    }
    answers.end("limits: held for the whole unit, and nothing else in the guest ended")
}
