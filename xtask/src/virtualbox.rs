//! `cargo xtask virtualbox`: the real `VBoxManage` of Debian's unstable suite, in an environment that `recipes/virtualbox` describes,
//! driven by `hatchway-vm` up to the kernel driver, which no environment has.
//!
//! It needs the network (100 MB), 400 MB and an index of unstable that has not expired. The version is today's: unstable keeps no
//! other.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{build, setup, sh};

const TOOL: &str = "virtualbox";
const PACKAGE: &str = "debian:sid/contrib/virtualbox";

pub(crate) fn verb(mut args: sh::Args) -> Result<()> {
    let yes = args.flag("--yes");
    args.finish()?;
    setup::setup(yes)?;
    let program = build::build(false)?;
    let scratch = sh::Scratch::new("hatchway-virtualbox")?;
    environment(&program, &scratch.path)?;
    // The tool's own user, which root's tools have, makes its machine here.
    let share = scratch.path.join("share");
    fs::create_dir(&share)?;
    fs::set_permissions(&scratch.path, fs::Permissions::from_mode(0o755))?;
    fs::set_permissions(&share, fs::Permissions::from_mode(0o777))?;
    let words = |inside: &[&str]| -> Result<String> {
        let (program, share) =
            (program.to_str().context("a path in UTF-8")?, share.to_str().context("a path in UTF-8")?);
        let recipe = scratch.path.join("recipes").join(TOOL).join("recipe.toml");
        let recipe = recipe.to_str().context("a path in UTF-8")?;
        Ok([&[program, "run", recipe, "--share", share], inside, &["--"]].concat().join("\n"))
    };
    sh::run(
        sh::cargo()
            .args([
                "test",
                "--package",
                "hatchway-vm",
                "--test",
                "virtualbox",
                "--",
                "--include-ignored",
                "--nocapture",
            ])
            .env("HATCHWAY_DATA_DIR", scratch.path.join("data"))
            .env("HATCHWAY_VIRTUALBOX_FOLDER", &share)
            .env("HATCHWAY_VIRTUALBOX_MANAGE", words(&[])?)
            .env("HATCHWAY_VIRTUALBOX_HEADLESS", words(&["--program", "/usr/bin/VBoxHeadless"])?),
    )
}

/// The shipped recipe, with the digest of the package that unstable has today.
fn environment(program: &Path, folder: &Path) -> Result<()> {
    let shipped = fs::read_to_string(sh::workspace()?.join("recipes").join(TOOL).join("recipe.toml"))?;
    let hatchway = |words: &[&str]| {
        let mut command = Command::new(program);
        command.args(words).current_dir(folder).env("HATCHWAY_DATA_DIR", folder.join("data"));
        command
    };
    sh::run(&mut hatchway(&["new", PACKAGE, "--name", TOOL]))?;
    let path = folder.join("recipes").join(TOOL).join("recipe.toml");
    let drafted = fs::read_to_string(&path)?;
    let mut recipe = shipped.clone();
    for key in ["version", "sha256"] {
        let line =
            |text: &str| text.lines().find(|line| line.starts_with(&format!("{key} = "))).map(str::to_owned);
        let (Some(now), Some(then)) = (line(&drafted), line(&shipped)) else {
            bail!("a recipe has no {key}")
        };
        if now != then {
            println!("unstable has another one than the shipped recipe: {now}");
        }
        recipe = recipe.replace(&then, &now);
    }
    fs::write(&path, recipe)?;
    for verb in ["lock", "build"] {
        sh::run(&mut hatchway(&[verb, TOOL]))?;
    }
    Ok(())
}
