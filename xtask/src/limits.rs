//! `cargo xtask limits`: what only control groups of version 2 enforce, tried in a QEMU guest with Debian's kernel: a tool
//! that forks, one that fills the memory, one that keeps the processor busy. Each has to be held, and the guest to go on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::crash::guest::{self, Machine};
use crate::{build, setup, sh};

const PROGRAM: &str = include_str!("limits/greedy.c");
const TOOL: &str = "greedy";
/// What the recipe says in each run. One task more than asked for is the sandbox's own first process.
const LIMITS: [(&str, &str); 3] =
    [("tasks", "tasks = 20"), ("memory", "memory = \"64M\""), ("cpu", "cpu = 0.25")];
/// Boot and three runs in software emulation take two minutes.
const PATIENCE: Duration = Duration::from_secs(900);

/// The first part, in memory: the sandbox wants a root that can be left, which an initramfs cannot.
const INIT: &str = r#"#!/bin/busybox sh
export PATH=/bin
busybox mount -t proc none /proc
busybox mount -t sysfs none /sys
busybox mount -t devtmpfs none /dev
for module in MODULES; do busybox insmod /modules/$module.ko; done
busybox mount -t ext4 /dev/vda /disk || echo "guest: no disk"
for folder in bin lib lib64 usr; do busybox test -e /$folder && busybox cp -a /$folder /disk/; done
busybox mkdir -p /disk/proc /disk/sys /disk/dev /disk/tmp /disk/run
for folder in proc sys dev; do busybox mount --move /$folder /disk/$folder; done
exec busybox switch_root /disk /bin/busybox sh /limits.sh
"#;

/// The second part, on the disk.
const SCRIPT: &str = r#"export PATH=/bin HATCHWAY_DATA_DIR=/data HOME=/home XDG_CACHE_HOME=/cache LC_ALL=C.UTF-8
busybox mount -t cgroup2 none /sys/fs/cgroup
busybox date -s 2025-01-01 > /dev/null
cd /work
busybox sleep 10000 & neighbour=$!
for what in tasks memory cpu; do
    busybox cp $what.toml recipes/greedy/recipe.toml
    hatchway run -q greedy --offline -- $what > /tmp/out 2> /tmp/err; echo "guest: $what ended $?"
    busybox tail -n 3 /tmp/out | busybox sed "s/^/guest: $what said /"
    busybox sed "s/^/guest: $what complained /" /tmp/err
    busybox kill -0 $neighbour && echo "guest: $what neighbour lives"
    echo "guest: $what left $(busybox find /sys/fs/cgroup/hatchway -mindepth 1 -type d | busybox wc -l) groups"
done
busybox dmesg | busybox grep -o 'Memory cgroup out of memory: Killed process.*(greedy)' | busybox sed 's/^/guest: kernel said /'
busybox sync
echo "guest: end"
busybox poweroff -f
"#;

pub(crate) fn verb(mut args: sh::Args) -> Result<()> {
    let yes = args.flag("--yes");
    args.finish()?;
    setup::setup(yes)?;
    guest::qemu()?;
    let program = build::build(false)?;
    let scratch = sh::Scratch::new("hatchway-limits")?;
    let machine = prepare(&program, &scratch.path)?;
    judge(&follow(&machine)?)
}

fn prepare(program: &Path, folder: &Path) -> Result<Machine> {
    let kernel = guest::kernel(program, folder)?;
    let busybox = guest::busybox(program, folder)?;
    make_disk(program, folder)?;
    guest::make_initramfs(program, folder, (&kernel, &busybox), INIT, &["overlay"])?;
    Ok(Machine {
        kernel: guest::image(&kernel)?,
        initramfs: folder.join("initramfs"),
        disk: folder.join("disk.img"),
    })
}

/// The tool's package, built here, with a recipe for each run.
fn make_disk(program: &Path, folder: &Path) -> Result<()> {
    let deb = package(folder)?;
    let disk = folder.join("disk");
    let work = disk.join("work");
    fs::create_dir_all(&work)?;
    let hatchway = || {
        let mut command = Command::new(program);
        command.current_dir(&work).env("HATCHWAY_DATA_DIR", disk.join("data"));
        command
    };
    sh::run(hatchway().arg("new").arg(&deb).args(["--name", TOOL]))?;
    for verb in ["lock", "build"] {
        sh::run(hatchway().args([verb, TOOL]))?;
    }
    let recipe = fs::read_to_string(work.join("recipes").join(TOOL).join("recipe.toml"))?;
    ensure!(recipe.contains("[run]\n"), "the drafted recipe has no [run]:\n{recipe}");
    for (name, limit) in LIMITS {
        let limited = recipe.replace("[run]\n", &format!("[run]\nlimits = {{ {limit} }}\n"));
        fs::write(work.join(format!("{name}.toml")), limited)?;
    }
    fs::write(disk.join("limits.sh"), SCRIPT)?;
    for empty in ["home", "cache"] {
        fs::create_dir_all(disk.join(empty))?;
    }
    let image = folder.join("disk.img");
    sh::run(Command::new("truncate").args(["-s", "1200M"]).arg(&image))?;
    sh::run(Command::new("/sbin/mkfs.ext4").args(["-q", "-d"]).arg(&disk).arg(&image))
}

fn package(folder: &Path) -> Result<PathBuf> {
    let root = folder.join("package");
    for part in ["DEBIAN", "usr/bin"] {
        fs::create_dir_all(root.join(part))?;
    }
    let source = folder.join("greedy.c");
    fs::write(&source, PROGRAM)?;
    sh::run(Command::new("gcc").args(["-O1", "-o"]).arg(root.join("usr/bin").join(TOOL)).arg(&source))?;
    let control = format!(
        "Package: {TOOL}\nVersion: 1.0\nArchitecture: amd64\nMaintainer: Nobody <nobody@example.org>\nDepends: libc6\n\
         Description: takes what it can get\n"
    );
    fs::write(root.join("DEBIAN/control"), control)?;
    let deb = folder.join("greedy_1.0_amd64.deb");
    sh::capture(Command::new("dpkg-deb").args(["--build", "--root-owner-group"]).arg(&root).arg(&deb))?;
    Ok(deb)
}

/// Everything the guest said, up to its end.
fn follow(machine: &Machine) -> Result<Vec<String>> {
    let (mut child, lines) = machine.start()?;
    let end = Instant::now() + PATIENCE;
    let mut said = Vec::new();
    let ended = loop {
        match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) if line == "guest: end" => break true,
            Ok(line) => said.push(line),
            Err(_) => break false,
        }
    };
    child.kill().context("cannot end QEMU")?;
    child.wait().context("cannot wait for QEMU")?;
    let tail = said[said.len().saturating_sub(40)..].join("\n");
    ensure!(ended, "the guest fell silent; its last lines:\n{tail}");
    Ok(said.into_iter().filter_map(|line| line.strip_prefix("guest: ").map(str::to_owned)).collect())
}

fn judge(said: &[String]) -> Result<()> {
    said.iter().for_each(|line| println!("limits: {line}"));
    let has = |line: &str| said.iter().any(|other| other == line);
    let mut wrong = Vec::new();
    // Ended by KILL, from the kernel.
    for line in ["tasks ended 0", "tasks said processes 20 EAGAIN", "memory ended 137", "cpu ended 0"] {
        if !has(line) {
            wrong.push(format!("the guest did not say `{line}`"));
        }
    }
    for (name, _) in LIMITS {
        for line in [format!("{name} neighbour lives"), format!("{name} left 0 groups")] {
            if !has(&line) {
                wrong.push(format!("the guest did not say `{line}`"));
            }
        }
    }
    if !said.iter().any(|line| line.starts_with("kernel said Memory cgroup out of memory")) {
        wrong.push("the kernel does not say that it killed for a control group".to_owned());
    }
    let share = said.iter().find_map(|line| line.strip_prefix("cpu said share ")?.parse::<f64>().ok());
    if !share.is_some_and(|share| (0.05..=0.30).contains(&share)) {
        wrong.push(format!("a quarter of a processor was given as {share:?}"));
    }
    if wrong.is_empty() {
        println!("limits: held for the whole unit, and nothing else in the guest ended");
        return Ok(());
    }
    bail!("{}", wrong.join("\n"))
}
