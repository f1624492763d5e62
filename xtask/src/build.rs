//! `cargo xtask build`: the two programs a user gets, side by side in `target/hatchway`.
//!
//! The shim is a static binary with a profile of its own. It is built into a target folder of its own, so that
//! its compiler flags do not throw away what the rest has cached.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::sh;

pub(crate) fn verb(mut args: sh::Args) -> Result<()> {
    let release = args.flag("--release");
    args.finish()?;
    let program = build(release)?;
    println!("{}", program.display());
    Ok(())
}

/// Where `build` puts the program.
pub(crate) fn program() -> Result<PathBuf> {
    Ok(sh::target_folder()?.join("hatchway/hatchway"))
}

/// Builds both and returns the path of `hatchway`; the shim lies beside it.
pub(crate) fn build(release: bool) -> Result<PathBuf> {
    let target = sh::target_folder()?;
    let mut main = sh::cargo();
    main.args(["build", "--package", "hatchway"]).args(release.then_some("--release"));
    sh::run(&mut main)?;
    let built = target.join(if release { "release" } else { "debug" }).join("hatchway");
    let shim = build_shim(&target)?;

    let folder = target.join("hatchway");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
    install(&shim, &folder.join("hatchway-shim"))?;
    install(&built, &folder.join("hatchway"))?;
    Ok(folder.join("hatchway"))
}

fn build_shim(target: &Path) -> Result<PathBuf> {
    let triple = host_triple()?;
    let folder = target.join("shim-static");
    let mut flags = std::env::var_os("RUSTFLAGS").unwrap_or_default();
    flags.push(" -C target-feature=+crt-static");
    let mut cargo = sh::cargo();
    cargo
        .args(["build", "--package", "hatchway-shim", "--profile", "shim", "--target", &triple])
        .arg("--target-dir")
        .arg(&folder)
        .env("RUSTFLAGS", flags);
    sh::run(&mut cargo)?;
    let built = folder.join(triple).join("shim/hatchway-shim");
    let headers = sh::capture(Command::new("readelf").args(["--program-headers", "--wide"]).arg(&built))?;
    // A shim with a loader would look for that loader inside the tool's root, where another glibc lies.
    if headers.lines().any(|line| line.trim_start().starts_with("INTERP")) {
        bail!("`{}` is not static: it names a program interpreter", built.display());
    }
    Ok(built)
}

fn host_triple() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let text = sh::capture(Command::new(rustc).arg("-vV"))?;
    let triple = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(triple.context("`rustc -vV` names no host")?.to_owned())
}

/// Copies beside the goal and renames: a program that is running now stays as it is.
fn install(from: &Path, to: &Path) -> Result<()> {
    let bytes = fs::read(from).with_context(|| format!("cannot read `{}`", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let fresh = to.with_extension("new");
    fs::write(&fresh, bytes).with_context(|| format!("cannot write `{}`", fresh.display()))?;
    // Tests and the demo also start it as another user.
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))?;
    fs::rename(&fresh, to).with_context(|| format!("cannot rename to `{}`", to.display()))
}
