//! `cargo xtask build`: the programs a user gets, side by side in `target/hatchway`.
//!
//! The shim is a static binary with a profile of its own. It is built into a target folder of its own, so that
//! its compiler flags do not throw away what the rest has cached.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::sh;

/// What a user gets, and what is tested.
pub(crate) const WITH: &str = "hatchway-recon/gpu";

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

/// Builds all and returns the path of `hatchway`; the shim and the native services lie beside it.
pub(crate) fn build(release: bool) -> Result<PathBuf> {
    let target = sh::target_folder()?;
    let mut main = sh::cargo();
    main.args(["build", "--package", "hatchway", "--package", "hatchway-recon", "--features", WITH])
        .args(release.then_some("--release"));
    sh::run(&mut main)?;
    let built = target.join(if release { "release" } else { "debug" });
    let shim = build_shim(&target.join("shim-static"), &std::env::var_os("RUSTFLAGS").unwrap_or_default())?;

    let folder = target.join("hatchway");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
    install(&shim, &folder.join("hatchway-shim"))?;
    install(&built.join("hatchway-recon"), &folder.join("hatchway-recon"))?;
    install(&built.join("hatchway"), &folder.join("hatchway"))?;
    Ok(folder.join("hatchway"))
}

/// The programs as a package has them, `hatchway`, the shim and `hatchway-recon`, and where they are: without symbols, and without a path of this machine in them. They have a
/// target folder of their own, as the shim has.
pub(crate) fn for_package(folder: &Path) -> Result<[PathBuf; 3]> {
    let cargo_home = match std::env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => {
            Path::new(&std::env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?).join(".cargo")
        }
    };
    let workspace = sh::workspace()?;
    let places = [(workspace.as_path(), "/usr/src/hatchway"), (cargo_home.as_path(), "/usr/src/cargo")];
    let flags = |option: &str| {
        let all = places.map(|(path, instead)| format!("{option}={}={instead}", path.display()));
        all.join(" ")
    };
    let rust = flags("--remap-path-prefix");
    let mut main = sh::cargo();
    main.args(["build", "--package", "hatchway", "--package", "hatchway-recon", "--features", WITH])
        .args(["--release", "--target-dir"])
        .arg(folder)
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
        .env("RUSTFLAGS", &rust)
        // Parts of dependencies are in C.
        .env("CFLAGS", flags("-ffile-prefix-map"));
    sh::run(&mut main)?;
    let shim = build_shim(&folder.join("shim-static"), rust.as_ref())?;
    Ok([folder.join("release/hatchway"), shim, folder.join("release/hatchway-recon")])
}

fn build_shim(folder: &Path, flags: &OsStr) -> Result<PathBuf> {
    let triple = shim_triple()?;
    let mut flags = flags.to_owned();
    flags.push(" -C target-feature=+crt-static");
    let mut cargo = sh::cargo();
    cargo
        .args(["build", "--package", "hatchway-shim", "--profile", "shim", "--target", &triple])
        .arg("--target-dir")
        .arg(folder)
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

/// The shim is linked with musl: half the size to copy into memory at each launch, and at its start none of the CPUID
/// instructions by which glibc chooses its string functions, which cost a virtual machine a tenth of a millisecond each.
/// Where Rust's musl target cannot be had, glibc does the same, slower.
fn shim_triple() -> Result<String> {
    let host = host_triple()?;
    let musl = host.replace("-gnu", "-musl");
    let is_there = || -> Result<bool> {
        let sysroot = sh::capture(rustc().args(["--print", "sysroot"]))?;
        Ok(Path::new(sysroot.trim()).join("lib/rustlib").join(&musl).join("lib").is_dir())
    };
    if !is_there()? {
        eprintln!("adding Rust's target {musl}, for the shim");
        // Its own message says why it failed; a Rust without rustup is one of the reasons.
        if let Err(error) = sh::run(Command::new("rustup").args(["target", "add", &musl])) {
            eprintln!(
                "note: {error:#}; the shim is linked with glibc, and launches take about a tenth longer"
            );
        }
    }
    Ok(if is_there()? { musl } else { host })
}

fn rustc() -> Command {
    Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
}

fn host_triple() -> Result<String> {
    let text = sh::capture(rustc().arg("-vV"))?;
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
