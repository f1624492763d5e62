//! From the command line to a tool's first word out of a guest, beside a command line of QEMU's as a person would write it: the same
//! kernel and the same disk, those of the modules that are needed, a small init in C, the serial console.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::{Rows, Stage};
use crate::bench::env::spread;
use crate::bench::{TOOL, ratio};
use crate::sh;

/// Pairs; in software emulation each takes some ten seconds.
const ROUNDS: usize = 7;
/// What the tool says.
const WORD: &str = "first-word-of-the-tool";
const INIT: &str = include_str!("init.c");
/// Modules for what is not used there: ports, and what a tool writes to its tree.
const NOT_NEEDED: [&str; 2] = ["virtio_console.ko", "overlay.ko"];
/// As guests of ours have it; see `supervisor/src/launch/vm/prepare.rs`.
const PROCESSORS_MAX: usize = 4;

pub(super) fn measure(stage: &Stage) -> Result<Rows> {
    let ours = || stage.command(&["run", TOOL, "--rung", "vm", "--program", "/bin/echo", "--", WORD]);
    let made = first_word(&mut ours())?;
    let hand = Hand::new(stage)?;
    let (mut own, mut theirs) = (Vec::new(), Vec::new());
    // One round more than counts: the first one warms caches.
    for round in 0..=ROUNDS {
        let mut pair = [Duration::ZERO; 2];
        for step in 0..2 {
            let index = (round + step) % 2;
            let mut command = if index == 0 { ours() } else { hand.command()? };
            pair[index] = first_word(&mut command)?;
        }
        if round > 0 {
            own.push(pair[0]);
            theirs.push(pair[1]);
        }
    }
    Ok(vec![
        ("first run in a guest, its disk is made".to_owned(), format!("{:.2} s", made.as_secs_f64())),
        ("first word out of a guest, `hatchway run --rung vm`".to_owned(), spread(&own)?),
        ("first word out of a guest, a command line of QEMU's".to_owned(), spread(&theirs)?),
        (format!("`hatchway run --rung vm` / QEMU, {ROUNDS} pairs (wanted: 1.15)"), ratio(&own, &theirs)?),
    ])
}

/// Until the word is there. The end of whoever said it is waited for, and does not count.
fn first_word(command: &mut Command) -> Result<Duration> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let started = Instant::now();
    let mut child = command.spawn().with_context(|| format!("cannot start `{}`", sh::shown(command)))?;
    let mut stdout = child.stdout.take().context("the child has no stdout")?;
    let mut said = Vec::new();
    let mut chunk = [0; 4096];
    let mut took = None;
    loop {
        let count = stdout.read(&mut chunk)?;
        if count == 0 {
            break;
        }
        said.extend_from_slice(&chunk[..count]);
        if took.is_none() && String::from_utf8_lossy(&said).contains(WORD) {
            took = Some(started.elapsed());
        }
    }
    let output = child.wait_with_output()?;
    match took {
        Some(took) if output.status.success() => Ok(took),
        _ => {
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            bail!("`{}` {}: {errors}", sh::shown(command), sh::ended(output.status));
        }
    }
}

/// What a person has made by hand.
struct Hand {
    kernel: PathBuf,
    initramfs: PathBuf,
    disk: PathBuf,
}

impl Hand {
    /// Takes kernel, modules and disk from where the run before has put them.
    fn new(stage: &Stage) -> Result<Self> {
        let cache = stage.bench.scratch.path.join("cache/hatchway/guests");
        let find = |what: &dyn Fn(&str) -> bool| -> Result<PathBuf> {
            let mut found = Vec::new();
            for entry in fs::read_dir(&cache).with_context(|| format!("cannot list `{}`", cache.display()))? {
                let entry = entry?;
                found.extend(what(&entry.file_name().to_string_lossy()).then(|| entry.path()));
            }
            ensure!(found.len() == 1, "`{}` has {} of what is looked for", cache.display(), found.len());
            found.pop().context("nothing was made for a guest")
        };
        let boot = find(&|name| name.starts_with("kernel-"))?;
        let disk = find(&|name| name.starts_with("tree-") && name.ends_with(".erofs"))?;
        let work = stage.bench.scratch.path.join("by-hand");
        let initramfs = initramfs(&boot, &work)?;
        Ok(Self { kernel: boot.join("vmlinuz"), initramfs, disk })
    }

    fn command(&self) -> Result<Command> {
        let processors = std::thread::available_parallelism()?.get().min(PROCESSORS_MAX);
        let mut command = Command::new("qemu-system-x86_64");
        command.args([
            "-machine",
            "q35,accel=tcg",
            "-cpu",
            "max",
            "-m",
            "2048M",
            "-smp",
            &processors.to_string(),
        ]);
        command.args(["-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio"]);
        command.arg("-kernel").arg(&self.kernel).arg("-initrd").arg(&self.initramfs);
        command.args(["-append", "console=ttyS0 quiet loglevel=3 panic=-1"]).arg("-drive");
        command.arg(format!("file={},format=raw,if=virtio,readonly=on", self.disk.display()));
        Ok(command)
    }
}

/// The modules of the guest with an init that loads them, mounts the disk, and starts the tool.
fn initramfs(boot: &Path, work: &Path) -> Result<PathBuf> {
    let root = work.join("root");
    fs::create_dir_all(&root)?;
    let from = fs::File::open(boot.join("initramfs"))?;
    let unpack = ["--extract", "--make-directories", "--quiet", "hatchway/modules/*"];
    sh::run(Command::new("cpio").args(unpack).current_dir(&root).stdin(from))?;
    let mut names: Vec<String> = serde_json::from_slice(&fs::read(boot.join("modules.json"))?)?;
    names.retain(|name| !NOT_NEEDED.contains(&name.as_str()));
    fs::write(
        root.join("modules"),
        names.iter().map(|name| format!("/hatchway/modules/{name}\n")).collect::<String>(),
    )?;
    for folder in ["dev", "tree"] {
        fs::create_dir_all(root.join(folder))?;
    }
    let source = work.join("init.c");
    fs::write(&source, INIT)?;
    sh::run(
        Command::new("gcc")
            .args(["-O2", "-static", "-o"])
            .arg(root.join("init"))
            .arg(&source)
            .arg(format!("-DWORD=\"{WORD}\"")),
    )?;
    let file = work.join("initramfs");
    let pack = "find . | cpio --create --format=newc --quiet > \"$0\"";
    sh::run(Command::new("sh").args(["-euc", pack]).arg(&file).current_dir(&root))?;
    Ok(file)
}
