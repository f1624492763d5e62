//! `cargo xtask dist`: the release and its Debian package, the same bytes each time. `--try` installs it in a Debian of
//! its own, started by systemd, upgrades and purges it.

mod check;
mod package;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{build, chroot, sh, test};

use package::Inputs;

/// Debian's part of the version: the package's own changes since the program's version.
const REVISION: &str = "1";
/// What a system needs beside its base to be started, and for the package's programs to be asked.
const TRIAL_PACKAGES: &str = "systemd,dbus,util-linux,mount,procps,curl,man-db,bash-completion";

pub(crate) fn verb(mut args: sh::Args) -> Result<()> {
    let try_it = args.flag("--try");
    let suite = args.value("--suite")?;
    args.finish()?;
    ensure!(try_it || suite.is_none(), "`--suite` is for `--try`");
    let folder = sh::target_folder()?.join("dist");
    let inputs = inputs(&folder)?;
    let made = package::make(&inputs, &folder)?;
    check::check(&made, &inputs)?;
    lint(&made)?;
    println!("{}", made.display());
    if try_it { trial(inputs, &made, suite.as_deref()) } else { Ok(()) }
}

/// Builds what goes into the package.
fn inputs(folder: &Path) -> Result<Inputs> {
    let [program, shim, recon] = build::for_package(&folder.join("build"))?;
    let pages = folder.join("pages");
    sh::remove_folder(&pages)?;
    fs::create_dir_all(&pages)?;
    let epoch = epoch()?;
    for (program, name) in [(&program, "hatchway"), (&recon, "hatchway-recon")] {
        let mut man = Command::new(program);
        sh::run(man.args(["generate", "man"]).arg(pages.join("man")).env("SOURCE_DATE_EPOCH", &epoch))?;
        for shell in ["bash", "zsh", "fish"] {
            let text = sh::capture(Command::new(program).args(["completions", shell]))?;
            fs::write(pages.join(format!("{name}.{shell}")), text)?;
        }
    }
    let version = format!("{}-{REVISION}", env!("CARGO_PKG_VERSION"));
    Ok(Inputs { program, shim, recon, pages, version, epoch, workspace: sh::workspace()? })
}

/// The time of the last commit, or what the caller's environment has.
fn epoch() -> Result<String> {
    if let Ok(epoch) = std::env::var("SOURCE_DATE_EPOCH") {
        return Ok(epoch);
    }
    let mut git = Command::new("git");
    git.current_dir(sh::workspace()?).args(["log", "-1", "--format=%ct"]);
    Ok(sh::capture(&mut git)?.trim().to_owned())
}

/// Debian's own critic, where it is installed. Nobody needs it for the package.
fn lint(made: &Path) -> Result<()> {
    if !sh::succeeds(Command::new("lintian").arg("--version")) {
        println!("not asked: lintian is not installed");
        return Ok(());
    }
    sh::run(Command::new("lintian").args(["--fail-on", "error,warning", "--allow-root", "--info"]).arg(made))
}

/// Makes a Debian and a higher version, and has a test do the rest, which has a systemd to start.
fn trial(mut inputs: Inputs, made: &Path, suite: Option<&str>) -> Result<()> {
    ensure!(sh::is_root()?, "a package is installed as root\nhint: run `cargo xtask dist --try` as root");
    let scratch = sh::Scratch::new("hatchway-dist")?;
    inputs.version += "+try1";
    let next = package::make(&inputs, &scratch.path)?;
    let root = debian(&scratch.path.join("root"), suite)?;
    // Side by side, as tests want them: they build a tool with what the package has.
    let programs = scratch.path.join("programs");
    fs::create_dir(&programs)?;
    for (from, name) in [(&inputs.program, "hatchway"), (&inputs.shim, "hatchway-shim")] {
        fs::copy(from, programs.join(name)).with_context(|| format!("cannot copy `{}`", from.display()))?;
    }
    let mut tests = test::tests_of_programs();
    tests
        .args(["--", "--ignored", "--nocapture"])
        .arg("dist::")
        .env("HATCHWAY_BIN", programs.join("hatchway"))
        .env("HATCHWAY_DIST_PACKAGE", made)
        .env("HATCHWAY_DIST_NEXT", next)
        .env("HATCHWAY_DIST_ROOT", root);
    sh::run(&mut tests)
}

/// A Debian with systemd from where this machine's packages come from: of its own suite, whose libraries the package depends on, or
/// of a named later one.
pub(crate) fn debian(root: &Path, wanted: Option<&str>) -> Result<PathBuf> {
    let release = fs::read_to_string("/etc/os-release").context("cannot read `/etc/os-release`")?;
    let own = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let own = own.context("`/etc/os-release` names no suite")?.trim_matches('"');
    let suite = wanted.unwrap_or(own);
    let suites = [own.to_owned(), format!("{own}-updates"), format!("{own}-security")];
    let sources = chroot::sources(&suites.each_ref().map(String::as_str))?;
    let mut mmdebstrap = Command::new("mmdebstrap");
    mmdebstrap.args(["--quiet", "--mode=root", "--variant=minbase"]);
    mmdebstrap.arg(format!("--include={TRIAL_PACKAGES}")).arg(suite).arg(root);
    mmdebstrap.args(sources.iter().map(|line| line.replace(&format!(" {own}"), &format!(" {suite}"))));
    sh::run(&mut mmdebstrap)?;
    Ok(root.to_owned())
}
