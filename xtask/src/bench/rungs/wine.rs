//! A program for Windows that ends at once, by `hatchway run`, and by the same Wine without Hatchway: in a prefix of its own, over the
//! tree's files as a chroot would show them. Both start Wine's server. A tool's ends with the tool, and that counts; the other's is ended
//! after the time was taken.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{Rows, Stage};
use crate::bench::env::spread;
use crate::bench::{Bench, ratio, timed};
use crate::sh;

/// Pairs; each takes a second.
const ROUNDS: usize = 21;
const NAME: &str = "hello-win";
const SOURCE: &str = "int main(void) { return 0; }\n";
/// Where a tree has the prefix that state begins as.
const PREFIX: &str = "/var/lib/wine";
const SERVER: &str = "/usr/lib/wine/wineserver64";

pub(super) fn measure(stage: &Stage) -> Result<Rows> {
    let bench = &stage.bench;
    let (source, program) = (bench.scratch.path.join("hello.c"), bench.scratch.path.join("hello.exe"));
    fs::write(&source, SOURCE)?;
    let compiled =
        Command::new("x86_64-w64-mingw32-gcc").args(["-O1", "-s", "-o"]).arg(&program).arg(&source).status();
    if !compiled.is_ok_and(|status| status.success()) {
        bail!("a program for Windows needs `x86_64-w64-mingw32-gcc` (gcc-mingw-w64-x86-64-win32)");
    }
    bench.run(&["new", "hello.exe", "--name", NAME])?;
    bench.run(&["lock", NAME, "--suite", "bookworm"])?;
    let built = bench.run(&["build", NAME])?;
    let first = bench.run(&["run", NAME])?;
    let plain = Plain::new(bench)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    // One round more than counts: the first one warms caches.
    for round in 0..=ROUNDS {
        let mut pair = [Duration::ZERO; 2];
        for step in 0..2 {
            let index = (round + step) % 2;
            pair[index] = if index == 0 {
                timed(&mut bench.command(&["run", NAME]), Stdio::null())?
            } else {
                plain.run()?
            };
        }
        plain.end()?;
        if round > 0 {
            ours.push(pair[0]);
            theirs.push(pair[1]);
        }
    }
    Ok(vec![
        (
            "Wine: `build` of the tree and its prefix, packages fetched by `lock`".to_owned(),
            format!("{:.1} s", built.as_secs_f64()),
        ),
        ("Wine: first `hatchway run`, its state is made".to_owned(), format!("{:.2} s", first.as_secs_f64())),
        ("a Windows program by `hatchway run`".to_owned(), spread(&ours)?),
        ("a Windows program by plain `wine`, its server is started".to_owned(), spread(&theirs)?),
        (format!("`hatchway run` / plain `wine`, {ROUNDS} pairs (wanted: 1.2)"), ratio(&ours, &theirs)?),
    ])
}

/// Wine without Hatchway. Mounts are all that is used of bubblewrap.
struct Plain {
    tree: PathBuf,
    prefix: PathBuf,
    scratch: PathBuf,
    program: String,
}

impl Plain {
    fn new(bench: &Bench) -> Result<Self> {
        let trees = bench.data().join("store/trees");
        let mut tree = None;
        for entry in fs::read_dir(&trees)? {
            let path = entry?.path();
            if path.join("usr/lib/wine").is_dir() {
                tree = Some(path);
            }
        }
        let tree = tree.context("no tree has Wine in it")?;
        let work = bench.scratch.path.join("plain-wine");
        let (prefix, scratch) = (work.join("prefix"), work.join("tmp"));
        fs::create_dir_all(&scratch)?;
        let from = tree.join(PREFIX.trim_start_matches('/'));
        sh::run(Command::new("cp").args(["-a", "--"]).arg(from).arg(&prefix))?;
        sh::run(Command::new("chown").args(["-R", "--no-dereference", "0:0", "--"]).arg(&prefix))?;
        let recipe = fs::read_to_string(bench.scratch.path.join("recipes").join(NAME).join("recipe.toml"))?;
        let program = recipe.lines().find_map(|line| line.strip_prefix("program = \"")?.split('"').next());
        let program = program.context("the recipe names no program")?.to_owned();
        let plain = Self { tree, prefix, scratch, program };
        plain.end()?;
        Ok(plain)
    }

    fn run(&self) -> Result<Duration> {
        let loader = ["/usr/lib/wine/wine", "/usr/lib/wine/wine64"];
        let is_there = |path: &&str| self.tree.join(path.trim_start_matches('/')).exists();
        let loader = loader.into_iter().find(is_there).context("the tree has no loader of Wine's")?;
        let mut command = self.command(&[loader, &self.program]);
        // Not a pipe: Wine's server keeps what it inherits open, and a reader would wait for that server's end.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let started = Instant::now();
        sh::run(&mut command)?;
        Ok(started.elapsed())
    }

    /// Ends the server, if one runs, and waits for its end.
    fn end(&self) -> Result<()> {
        // It fails where none runs.
        sh::succeeds(&mut self.command(&[SERVER, "--kill"]));
        timed(&mut self.command(&[SERVER, "--wait"]), Stdio::null()).map(drop)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("bwrap");
        command.args(["--tmpfs", "/"]);
        let show = |command: &mut Command, from: &Path, to: &str, option: &str| {
            command.arg(option).arg(from).arg(to);
        };
        for name in ["usr", "etc", "var", "opt"] {
            let from = self.tree.join(name);
            if from.is_dir() {
                show(&mut command, &from, &format!("/{name}"), "--ro-bind");
            }
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            command.args(["--symlink", &format!("usr/{name}"), &format!("/{name}")]);
        }
        show(&mut command, &self.prefix, PREFIX, "--bind");
        show(&mut command, &self.scratch, "/tmp", "--bind");
        command.args(["--dev-bind", "/dev", "/dev", "--proc", "/proc", "--clearenv"]);
        for (name, value) in [
            ("PATH", "/usr/bin"),
            ("HOME", "/tmp"),
            ("USER", "tool"),
            ("WINEPREFIX", PREFIX),
            ("WINEDEBUG", "-all"),
        ] {
            command.args(["--setenv", name, value]);
        }
        command.args(words);
        command
    }
}
