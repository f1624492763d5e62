//! Sees through strace that a second build changes nothing: the claim is about system calls, not about time.

use std::fs;

use anyhow::{Context, Result, bail};

use super::{Bench, TOOL, traced};
use crate::sh;

/// Calls that can change a folder or a file, or open one.
const CALLS: &str = "open,openat,openat2,creat,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,\
                     link,linkat,symlink,symlinkat,truncate,ftruncate,chmod,fchmod,fchmodat,utimensat";

/// What a traced run did, as lines of strace.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Calls that changed something in the data folder, other than lock files.
    pub(super) changes: Vec<String>,
    /// Package files that were opened, which is the only way to decompress one.
    pub(super) packages: Vec<String>,
}

pub(super) fn second_build(bench: &Bench) -> Result<Seen> {
    let log = bench.scratch.path.join("strace.log");
    let mut command = traced(bench, &log, CALLS, &["build", TOOL]);
    let output = command.output().with_context(|| format!("cannot start `{}`", sh::shown(&command)))?;
    if !output.status.success() {
        bail!("`{}` {}", sh::shown(&command), String::from_utf8_lossy(&output.stderr));
    }
    let log = fs::read_to_string(&log).context("strace left no log")?;
    let data = bench.data();
    let data = data.to_str().context("the data folder's path is not UTF-8")?;
    // A log without the lock's or the store's files would mean that the filter no longer fits.
    if !log.lines().any(|line| line.contains(data)) {
        bail!("the trace names nothing below `{data}`");
    }
    Ok(read(&log, data))
}

/// Sorts the lines of a log by what they mean for the folder `data`.
fn read(log: &str, data: &str) -> Seen {
    let mut seen = Seen::default();
    for line in log.lines() {
        // A failed call changed nothing; an interrupted one shows its result on its second line.
        let Some((call, result)) = line.rsplit_once(" = ") else { continue };
        if result.starts_with('-') || !line.contains(data) || is_lock_file(call) {
            continue;
        }
        let is_open = call.contains("open(") || call.contains("openat(") || call.contains("openat2(");
        let flags = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC"];
        if !is_open || flags.iter().any(|flag| call.contains(flag)) {
            seen.changes.push(line.to_owned());
        } else if is_package(call) {
            seen.packages.push(line.to_owned());
        }
    }
    seen
}

/// Lock files are opened for writing, and nothing is written to them.
fn is_lock_file(call: &str) -> bool {
    let name = call.split('"').nth(1).unwrap_or_default();
    name.ends_with(".lock") || name.ends_with("/lock") || name == "lock" || name.contains("/locks/")
}

fn is_package(call: &str) -> bool {
    let name = call.split('"').nth(1).unwrap_or_default();
    name.ends_with(".deb") || name.contains("/artifacts/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_and_packages_are_told_from_harmless_calls() {
        let log = "\
1 openat(AT_FDCWD</w>, \"/d/hatchway/store/manifests/ab\", O_RDONLY|O_CLOEXEC) = 3</d/hatchway/store/manifests/ab>\n\
1 openat(AT_FDCWD</w>, \"/d/hatchway/store/gc.lock\", O_RDWR|O_CREAT|O_CLOEXEC, 0666) = 4</d/hatchway/store/gc.lock>\n\
1 mkdir(\"/d/hatchway/store\", 0777) = -1 EEXIST (File exists)\n\
1 openat(AT_FDCWD</w>, \"/etc/passwd\", O_RDWR) = 5</etc/passwd>\n\
1 renameat(3</d/hatchway/store>, \"a\", 3</d/hatchway/store>, \"b\") = 0\n\
1 openat(3</d/hatchway/store>, \"new\", O_WRONLY|O_CREAT, 0600) = 6</d/hatchway/store/new>\n\
1 openat(AT_FDCWD</w>, \"/d/hatchway/store/artifacts/cd\", O_RDONLY) = 7</d/hatchway/store/artifacts/cd>\n\
1 unlink(\"/d/hatchway/tmp/x\") = 0\n";
        let seen = read(log, "/d/hatchway");
        assert_eq!(seen.changes.len(), 3, "{:?}", seen.changes);
        assert_eq!(seen.packages.len(), 1, "{:?}", seen.packages);
    }
}
