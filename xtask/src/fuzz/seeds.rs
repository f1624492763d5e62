//! Small files of every kind, made by the tools that make the real ones.
//!
//! What a tool that is not installed would make is left out and said so: a run without these seeds finds less, and is
//! still a run. Scripts get the folder for their files as `$OUT`, and lie in a folder with `tree` (what is packed) and
//! `bin` (programs).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{guests, handmade};
use crate::sh;

/// Seeds of one kind made by one tool.
struct Seeds {
    /// The folders they go to; each is a target.
    targets: &'static [&'static str],
    /// The program that must be there.
    tool: &'static str,
    script: &'static str,
}

/// Written beside the seeds when all are made, so that they are made once for each version of the scripts.
const STAMP: &str = "made";

/// Programs first: the others pack them.
const PREPARE: &str = include_str!("seeds/prepare.sh");

/// The files that the tests have of h5py.
const MDF: &str = concat!(
    "cat > mdf.py <<'S'\n",
    include_str!("../../../tests/oracles/mdf.py"),
    "\nS\n/usr/bin/python3 mdf.py write \"$OUT\" > numbers\n"
);

const KINDS: &[Seeds] = &[
    Seeds { targets: &["elf", "module", "any"], tool: "gcc", script: include_str!("seeds/elf.sh") },
    Seeds { targets: &["pe", "any"], tool: "x86_64-w64-mingw32-gcc", script: include_str!("seeds/pe.sh") },
    Seeds { targets: &["tar", "any"], tool: "tar", script: include_str!("seeds/tar.sh") },
    Seeds { targets: &["deb", "any"], tool: "dpkg-deb", script: include_str!("seeds/deb.sh") },
    Seeds { targets: &["rpm", "any"], tool: "rpmbuild", script: include_str!("seeds/rpm.sh") },
    Seeds { targets: &["zip", "any"], tool: "zip", script: include_str!("seeds/zip.sh") },
    Seeds { targets: &["cpio", "any"], tool: "cpio", script: include_str!("seeds/cpio.sh") },
    Seeds { targets: &["iso", "any"], tool: "xorriso", script: include_str!("seeds/iso.sh") },
    Seeds { targets: &["cab", "any"], tool: "gcab", script: include_str!("seeds/cab.sh") },
    Seeds { targets: &["msi", "any"], tool: "wixl", script: include_str!("seeds/msi.sh") },
    Seeds { targets: &["squashfs", "any"], tool: "mksquashfs", script: include_str!("seeds/squashfs.sh") },
    Seeds { targets: &["script", "any"], tool: "makeself", script: include_str!("seeds/makeself.sh") },
    Seeds { targets: &["script", "any"], tool: "tar", script: include_str!("seeds/script.sh") },
    Seeds { targets: &["stl", "frames"], tool: "python3", script: include_str!("seeds/stl.sh") },
    Seeds { targets: &["mdf"], tool: "h5dump", script: MDF },
];

/// Makes the seeds in `folder`, one folder for each target, unless they are there.
pub(super) fn make(folder: &Path) -> Result<()> {
    let stamp = folder.join(STAMP);
    if fs::read_to_string(&stamp).is_ok_and(|found| found == stamp_text()) {
        return Ok(());
    }
    sh::remove_folder(folder)?;
    let scratch = sh::Scratch::new("hatchway-seeds")?;
    run_script(PREPARE, &scratch.path, &scratch.path)?;
    for (number, kind) in KINDS.iter().enumerate() {
        if !is_installed(kind.tool) {
            println!("seeds: none of {} by `{}`, which is not installed", kind.targets[0], kind.tool);
            continue;
        }
        let out = scratch.path.join(format!("out{number}"));
        fs::create_dir(&out).with_context(|| format!("cannot make `{}`", out.display()))?;
        run_script(kind.script, &scratch.path, &out)
            .with_context(|| format!("the seeds of {}", kind.targets[0]))?;
        for target in kind.targets {
            keep(&out, &folder.join(target), target)?;
        }
    }
    for (target, name, bytes) in handmade::files() {
        write(&folder.join(target).join(name), &bytes)?;
        write(&folder.join("any").join(name), &bytes)?;
    }
    for (target, name, bytes) in guests::files() {
        write(&folder.join(target).join(name), &bytes)?;
    }
    write(&stamp, stamp_text().as_bytes())
}

/// All scripts, and what is installed: either may have changed since the seeds were made.
fn stamp_text() -> String {
    let kinds =
        KINDS.iter().map(|kind| format!("{} {}\n{}", kind.tool, is_installed(kind.tool), kind.script));
    let handmade = handmade::files().into_iter().chain(guests::files());
    let handmade = handmade.map(|(target, name, bytes)| format!("{target} {name} {}\n", bytes.len()));
    std::iter::once(PREPARE.to_owned()).chain(kinds).chain(handmade).collect()
}

fn is_installed(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(tool).is_file())
}

fn run_script(script: &str, folder: &Path, out: &Path) -> Result<()> {
    let mut command = Command::new("sh");
    command.args(["-euc", script]).current_dir(folder).env("OUT", out);
    // Fixed times and names: the same seeds come out again.
    command.env("SOURCE_DATE_EPOCH", "1700000000").env("LC_ALL", "C").env("TZ", "UTC");
    let finished = sh::run_limited(
        &mut command,
        std::time::Duration::from_secs(120),
        sh::Shown { stdout: false, stderr: false },
    )?;
    if !finished.status.success() {
        anyhow::bail!("a script {}:\n{}", sh::ended(finished.status), finished.stderr);
    }
    Ok(())
}

/// Copies those files that fit into an input of the target; libFuzzer would cut the others.
fn keep(from: &Path, to: &Path, target: &str) -> Result<()> {
    let bytes_max = super::TARGETS
        .iter()
        .find(|known| known.name == target)
        .map_or(0, |known| u64::from(known.bytes_max));
    for entry in fs::read_dir(from).with_context(|| format!("cannot list `{}`", from.display()))? {
        let entry = entry?;
        let size = entry.metadata()?.len();
        if size > bytes_max {
            println!("seeds: {target}: `{}` of {size} bytes is too large", entry.file_name().display());
            continue;
        }
        let bytes = fs::read(entry.path())?;
        write(&to.join(entry.file_name()), &bytes)?;
    }
    Ok(())
}

fn write(path: &PathBuf, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().context("a seed has a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    fs::write(path, bytes).with_context(|| format!("cannot write `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_go_to_targets_that_exist() {
        let known = |name: &str| super::super::TARGETS.iter().any(|target| target.name == name);
        assert!(KINDS.iter().flat_map(|kind| kind.targets).all(|target| known(target)));
        assert!(handmade::files().iter().chain(&guests::files()).all(|(target, ..)| known(target)));
    }

    #[test]
    fn a_script_that_fails_is_no_seed() {
        let scratch = sh::Scratch::new("xtask-test").unwrap();
        let error = run_script("echo broken >&2; false; true", &scratch.path, &scratch.path).unwrap_err();
        assert!(error.to_string().contains("broken"));
    }
}
