//! What each rung costs beside what a person would type without Hatchway: docker's client, a command line of QEMU's, plain Wine, a
//! connection to the server itself.

mod channels;
mod containers;
mod export;
mod vm;
mod wine;

use std::fs;

use anyhow::{Context, Result, bail};

use super::env::docker::Docker;
use super::{Bench, TOOL, machine};
use crate::{acme, build, sh};

type Rows = Vec<(String, String)>;

/// Where everything plays: one data folder, one engine.
struct Stage {
    // The engine ends before its folder goes.
    docker: Docker,
    bench: Bench,
}

/// A name that may be typed, what it is about, and how it is measured.
type Part = (&'static str, &'static str, fn(&Stage) -> Result<Rows>);

const PARTS: &[Part] = &[
    ("container", "the container rung", containers::measure),
    ("export", "exports of an image", export::measure),
    ("vm", "the vm rung", vm::measure),
    ("wine", "Wine", wine::measure),
    ("channels", "channels", channels::measure),
];

/// All parts, or those that are named.
pub(super) fn measure(wanted: &[&str]) -> Result<String> {
    anyhow::ensure!(sh::is_root()?, "only root starts an engine of its own: run it as root");
    if let Some(odd) = wanted.iter().find(|name| !PARTS.iter().any(|(part, ..)| part == *name)) {
        let known: Vec<&str> = PARTS.iter().map(|(part, ..)| *part).collect();
        bail!("`{odd}` is no part of it; there are {}", known.join(", "));
    }
    let stage = Stage::new()?;
    let mut text = String::from("| what | value |\n| --- | --- |\n");
    let mut row = |what: &str, value: &str| text.push_str(&format!("| {what} | {value} |\n"));
    row("machine", &machine()?);
    let mut failed = Vec::new();
    for (name, what, part) in PARTS {
        if !wanted.is_empty() && !wanted.contains(name) {
            continue;
        }
        eprintln!("measuring {what}");
        match part(&stage) {
            Ok(rows) => rows.iter().for_each(|(what, value)| row(what, value)),
            // What was measured before it, and what is measured after it, is not lost.
            Err(error) => {
                row(what, &format!("not measured: {}", format!("{error:#}").replace('\n', "; ")));
                failed.push(format!("{what}: {error:#}"));
            }
        }
    }
    conclude(text, &failed)
}

/// The table, which is shown also where a part of it failed.
fn conclude(table: String, failed: &[String]) -> Result<String> {
    if failed.is_empty() {
        return Ok(table);
    }
    print!("{table}");
    bail!("not measured:\n{}", failed.join("\n"))
}

impl Stage {
    fn new() -> Result<Self> {
        let bench = Bench { scratch: sh::Scratch::new("hatchway-bench")?, program: build::build(true)? };
        // A guest in software on each machine, so that both command lines of QEMU's say the same.
        let folder = bench.scratch.path.join("config/hatchway");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("hatchway.toml"), "vm-accel = \"tcg\"\n")?;
        let deb = acme::build(&bench.scratch.path)?;
        let file = deb.to_str().context("the package's path is not UTF-8")?;
        for step in [&["new", file, "--name", TOOL][..], &["lock", TOOL], &["build", TOOL]] {
            bench.run(step)?;
        }
        let folder = bench.scratch.path.join("engine");
        fs::create_dir_all(&folder)?;
        let docker = Docker::start(&folder)?;
        Ok(Self { docker, bench })
    }

    /// `hatchway ARGS` with the engine at hand.
    fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = self.bench.command(args);
        command.env("DOCKER_HOST", self.docker.host());
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_failed_fails_the_whole_after_its_table() {
        assert_eq!(conclude("| a | b |\n".to_owned(), &[]).unwrap(), "| a | b |\n");
        let failed = ["exports of an image: two exports of one lock differ".to_owned()];
        let error = conclude("| a | b |\n".to_owned(), &failed).unwrap_err().to_string();
        assert_eq!(error, "not measured:\nexports of an image: two exports of one lock differ");
    }
}
