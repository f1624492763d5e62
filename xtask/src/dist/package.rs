//! The package itself: a folder with what it installs, and `dpkg-deb`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::sh;

pub(super) const NAME: &str = "hatchway";

/// What a package is made of.
pub(super) struct Inputs {
    pub(super) program: PathBuf,
    pub(super) shim: PathBuf,
    pub(super) recon: PathBuf,
    /// `man/*.1`, and completions as `PROGRAM.SHELL`.
    pub(super) pages: PathBuf,
    pub(super) version: String,
    /// The time that everything in it has, in seconds.
    pub(super) epoch: String,
    /// Where `packaging/`, `recipes/` and the pages are.
    pub(super) workspace: PathBuf,
}

/// Files of `packaging/` and the workspace, where they go.
const FILES: &[(&str, &str)] = &[
    ("packaging/hatchway.service", "usr/lib/systemd/system/hatchway.service"),
    ("packaging/hatchway.socket", "usr/lib/systemd/system/hatchway.socket"),
    ("packaging/hatchway.tmpfiles", "usr/lib/tmpfiles.d/hatchway.conf"),
    ("packaging/hatchway.sysusers", "usr/lib/sysusers.d/hatchway.conf"),
    ("packaging/instrument.toml.example", "etc/hatchway/instrument.toml.example"),
    ("packaging/debian/lintian-overrides", "usr/share/lintian/overrides/hatchway"),
];
/// What dpkg asks about before it replaces what a person has changed.
const CONFFILES: &[&str] = &["/etc/hatchway/instrument.toml.example"];
const SCRIPTS: &[&str] = &["postinst", "prerm", "postrm"];
/// Folders of the workspace: which files of them, and where they go.
const TREES: &[(&str, &[&str], &str)] = &[
    ("recipes", &[".toml", ".patch"], "usr/share/hatchway/recipes"),
    ("docs", &[".md", ".json"], "usr/share/doc/hatchway/docs"),
    ("examples/recon", &[".toml"], "usr/share/doc/hatchway/examples/recon"),
];
/// Pages for those who change Hatchway.
const NOT_SHIPPED: &[&str] = &["docs/STYLE.md", "docs/how-to/add-a-subcommand.md"];

/// Makes `NAME_VERSION_amd64.deb` in a folder.
pub(super) fn make(inputs: &Inputs, folder: &Path) -> Result<PathBuf> {
    let root = folder.join("root");
    sh::remove_folder(&root)?;
    fs::create_dir_all(&root)?;
    programs(inputs, &root)?;
    pages(inputs, &root)?;
    texts(inputs, &root)?;
    control(inputs, &root)?;
    let made = folder.join(format!("{NAME}_{}_amd64.deb", inputs.version));
    // One time for all, whatever the clock says: the archive's own times come from the variable.
    let mut touch = Command::new("find");
    touch.arg(&root).args(["-exec", "touch", "--no-dereference"]);
    sh::run(touch.arg(format!("--date=@{}", inputs.epoch)).args(["{}", "+"]))?;
    let mut pack = Command::new("dpkg-deb");
    // The bytes that several threads write depend on how many there are.
    pack.args(["--root-owner-group", "-Zxz", "-z6", "--threads-max=1", "--build"]);
    pack.arg(&root).arg(&made).env("SOURCE_DATE_EPOCH", &inputs.epoch).stdout(std::process::Stdio::null());
    sh::run(&mut pack)?;
    sh::remove_folder(&root)?;
    Ok(made)
}

fn programs(inputs: &Inputs, root: &Path) -> Result<()> {
    put(root, "usr/bin/hatchway", &read(&inputs.program)?, 0o755)?;
    put(root, "usr/bin/hatchway-recon", &read(&inputs.recon)?, 0o755)?;
    // Beside the program it would be a command; it is looked for here, too.
    put(root, "usr/libexec/hatchway/hatchway-shim", &read(&inputs.shim)?, 0o755)
}

fn pages(inputs: &Inputs, root: &Path) -> Result<()> {
    for page in sorted(&inputs.pages.join("man"))? {
        let name = page.file_name().context("a page has a name")?.to_string_lossy().into_owned();
        put(root, &format!("usr/share/man/man1/{name}.gz"), &gzip(&read(&page)?)?, 0o644)?;
    }
    for program in ["hatchway", "hatchway-recon"] {
        for (shell, to) in [
            ("bash", format!("usr/share/bash-completion/completions/{program}")),
            ("zsh", format!("usr/share/zsh/vendor-completions/_{program}")),
            ("fish", format!("usr/share/fish/vendor_completions.d/{program}.fish")),
        ] {
            put(root, &to, &read(&inputs.pages.join(format!("{program}.{shell}")))?, 0o644)?;
        }
    }
    Ok(())
}

fn texts(inputs: &Inputs, root: &Path) -> Result<()> {
    for (from, to) in FILES {
        put(root, to, &read(&inputs.workspace.join(from))?, 0o644)?;
    }
    for (from, endings, to) in TREES {
        for path in tracked(&inputs.workspace, from)? {
            if endings.iter().any(|ending| path.ends_with(ending)) && !NOT_SHIPPED.contains(&path.as_str()) {
                let below = path.strip_prefix(from).context("git lists another folder")?;
                put(root, &format!("{to}{below}"), &read(&inputs.workspace.join(&path))?, 0o644)?;
            }
        }
    }
    let copyright = text(&inputs.workspace.join("packaging/debian/copyright"))?;
    let licence = text(&inputs.workspace.join("LICENSE-MIT"))?;
    put(
        root,
        "usr/share/doc/hatchway/copyright",
        copyright.replace("@MIT@", &quoted(&licence)).as_bytes(),
        0o644,
    )?;
    let changes = read(&inputs.workspace.join("CHANGELOG.md"))?;
    put(root, "usr/share/doc/hatchway/changelog.gz", &gzip(&changes)?, 0o644)?;
    let changes = gzip(changelog(inputs)?.as_bytes())?;
    put(root, "usr/share/doc/hatchway/changelog.Debian.gz", &changes, 0o644)
}

/// What git has, so that nothing that lies about is shipped.
fn tracked(workspace: &Path, folder: &str) -> Result<Vec<String>> {
    let mut git = Command::new("git");
    git.current_dir(workspace).args(["ls-files", "-z", "--", folder]);
    let mut names: Vec<String> = sh::capture(&mut git)?.split_terminator('\0').map(str::to_owned).collect();
    names.sort();
    Ok(names)
}

/// A licence's text as a field of the copyright file: without its title and the line that names whose it is.
fn quoted(licence: &str) -> String {
    let lines = licence.lines().skip_while(|line| !line.starts_with("Permission"));
    let lines = lines.map(|line| if line.is_empty() { " .".to_owned() } else { format!(" {line}") });
    lines.collect::<Vec<_>>().join("\n")
}

fn changelog(inputs: &Inputs) -> Result<String> {
    let mut date = Command::new("date");
    date.args(["--utc", "--rfc-email", &format!("--date=@{}", inputs.epoch)]).env("LC_ALL", "C");
    Ok(format!(
        "{NAME} ({}) unstable; urgency=medium\n\n  * What has changed is in changelog.gz.\n\n -- {}  {}",
        inputs.version,
        maintainer(inputs)?,
        sh::capture(&mut date)?
    ))
}

fn maintainer(inputs: &Inputs) -> Result<String> {
    let control = text(&inputs.workspace.join("packaging/debian/control.in"))?;
    let line = control.lines().find_map(|line| line.strip_prefix("Maintainer: "));
    Ok(line.context("`control.in` names no maintainer")?.to_owned())
}

/// `DEBIAN/`, when everything else is there.
fn control(inputs: &Inputs, root: &Path) -> Result<()> {
    let packaging = inputs.workspace.join("packaging/debian");
    let sums = sums(root)?;
    let control = text(&packaging.join("control.in"))?
        .replace("@VERSION@", &inputs.version)
        .replace("@SIZE@", &size_kib(root)?.to_string())
        .replace("@SHLIBS@", &libraries(&[&inputs.program, &inputs.recon])?);
    put(root, "DEBIAN/control", control.as_bytes(), 0o644)?;
    put(root, "DEBIAN/md5sums", sums.as_bytes(), 0o644)?;
    put(root, "DEBIAN/conffiles", (CONFFILES.join("\n") + "\n").as_bytes(), 0o644)?;
    for script in SCRIPTS {
        put(root, &format!("DEBIAN/{script}"), &read(&packaging.join(script))?, 0o755)?;
    }
    Ok(())
}

/// The packages whose libraries the programs are linked with, in the versions that have their symbols, as dpkg knows them.
fn libraries(programs: &[&PathBuf]) -> Result<String> {
    let scratch = sh::Scratch::new("hatchway-shlibs")?;
    // It wants to be where sources are, and the programs where a package is laid out.
    let control = format!("Source: {NAME}\n\nPackage: {NAME}\nArchitecture: any\n");
    put(&scratch.path, "debian/control", control.as_bytes(), 0o644)?;
    put(&scratch.path, &format!("debian/{NAME}/DEBIAN/control"), b"", 0o644)?;
    let mut ask = Command::new("dpkg-shlibdeps");
    ask.current_dir(&scratch.path).arg("-O");
    for (number, program) in programs.iter().enumerate() {
        let below = format!("debian/{NAME}/usr/bin/{number}");
        put(&scratch.path, &below, &read(program)?, 0o755)?;
        ask.arg(below);
    }
    let said = sh::capture(&mut ask)?;
    let depends = said.lines().find_map(|line| line.strip_prefix("shlibs:Depends="));
    Ok(depends.context("dpkg-shlibdeps names no package")?.to_owned())
}

/// As `dpkg-gencontrol` counts: files in whole KiB, and one for all else.
fn size_kib(root: &Path) -> Result<u64> {
    let mut sum = 0;
    for path in all(root)? {
        let there = fs::symlink_metadata(&path)?;
        sum += if there.is_file() { there.len().div_ceil(1024) } else { 1 };
    }
    Ok(sum)
}

fn sums(root: &Path) -> Result<String> {
    let mut md5sum = Command::new("md5sum");
    md5sum.current_dir(root).arg("--");
    for path in all(root)? {
        let below = path.strip_prefix(root)?.to_owned();
        let is_conffile =
            CONFFILES.iter().any(|name| name.trim_start_matches('/') == below.to_string_lossy());
        if path.is_file() && !is_conffile {
            md5sum.arg(below);
        }
    }
    sh::capture(&mut md5sum)
}

/// Everything below a folder, in the order of its names.
fn all(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in sorted(folder)? {
        if path.is_dir() && !path.is_symlink() {
            let below = all(&path)?;
            found.push(path);
            found.extend(below);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

fn sorted(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read `{}`", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
    paths.sort();
    Ok(paths)
}

/// Writes a file and the folders above it, whatever the umask is.
fn put(root: &Path, to: &str, content: &[u8], mode: u32) -> Result<()> {
    let path = root.join(to);
    let mut above: Vec<&Path> = path.ancestors().skip(1).take_while(|folder| *folder != root).collect();
    above.push(root);
    for folder in above.iter().rev() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    }
    fs::write(&path, content).with_context(|| format!("cannot write `{}`", path.display()))?;
    Ok(fs::set_permissions(&path, fs::Permissions::from_mode(mode))?)
}

/// Compressed without a name and a time.
fn gzip(content: &[u8]) -> Result<Vec<u8>> {
    let scratch = sh::Scratch::new("hatchway-gzip")?;
    let path = scratch.path.join("page");
    fs::write(&path, content)?;
    let output = Command::new("gzip").args(["-n", "-9", "--stdout"]).arg(&path).output()?;
    ensure!(output.status.success(), "gzip: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))
}

fn text(path: &Path) -> Result<String> {
    String::from_utf8(read(path)?).with_context(|| format!("`{}` is no text", path.display()))
}
