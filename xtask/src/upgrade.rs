//! `cargo xtask upgrade [REV...]`: units go on while an earlier build is replaced by this one and this one by it, at each step of a unit's
//! life. The earlier one is built from what git has, below the target folder, and kept there for the next time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::{build, setup, sh, test};

/// Earlier ones, each with why it is tried.
const EARLIER: [&str; 2] = [
    // The last that kept people's words to the millisecond, and whose daemon found no program once that was replaced.
    "f43a842",
    // The last whose recorders said that they keep a unit by closing a stream, and whose units had their limits beside their service.
    "35d51e7",
];

pub(crate) fn verb(mut args: sh::Args) -> Result<()> {
    let yes = args.flag("--yes");
    let words = args.positional();
    args.finish()?;
    let revisions: Vec<&str> =
        if words.is_empty() { EARLIER.to_vec() } else { words.iter().map(String::as_str).collect() };
    ensure!(sh::is_root()?, "systemd is started as root\nhint: run `cargo xtask upgrade` as root");
    setup::setup(yes)?;
    let this = build::build(false)?;
    for revision in revisions {
        let earlier = earlier(revision)?;
        println!("upgrade: from {revision} to this, and from this to it");
        let mut tests = test::tests_of_programs();
        tests
            .args(["--", "--ignored", "--nocapture"])
            // Each has a daemon and a dozen units.
            .args(["--test-threads=1", "upgrades::"])
            .env("HATCHWAY_BIN", &this)
            .env("HATCHWAY_UPGRADE_FROM", earlier);
        sh::run(&mut tests)?;
    }
    Ok(())
}

/// Builds the programs of a revision; gives where the larger one is. What is built already is not built again.
fn earlier(revision: &str) -> Result<PathBuf> {
    let mut git = Command::new("git");
    git.current_dir(sh::workspace()?).args(["rev-parse", "--verify", "--short=12"]);
    let named = sh::capture(git.arg(format!("{revision}^{{commit}}")));
    let commit = named.with_context(|| format!("git has no `{revision}`; a clone may be a shallow one"))?;
    let folder = sh::target_folder()?.join("upgrade").join(commit.trim());
    let program = folder.join("build/hatchway/hatchway");
    if program.is_file() {
        return Ok(program);
    }
    let sources = folder.join("sources");
    unpack(commit.trim(), &sources)?;
    // Its own verb, so that the programs are as it made them then.
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&sources).args(["xtask", "build"]).env("CARGO_TARGET_DIR", folder.join("build"));
    sh::run(&mut cargo)?;
    ensure!(program.is_file(), "`{revision}` has made no `{}`", program.display());
    Ok(program)
}

/// What git has of a commit, with its time: cargo sees no change in what is the same.
fn unpack(commit: &str, folder: &Path) -> Result<()> {
    sh::remove_folder(folder)?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    let mut git = Command::new("git");
    git.current_dir(sh::workspace()?).args(["archive", commit]).stdout(Stdio::piped());
    let mut archive = git.spawn().context("cannot start git")?;
    let stdout = archive.stdout.take().context("git has no output")?;
    sh::run(Command::new("tar").arg("-x").arg("-C").arg(folder).stdin(stdout))?;
    ensure!(archive.wait()?.success(), "`{}` failed", sh::shown(&git));
    Ok(())
}
