//! Whether an image has the same bytes when everything it is made of is made anew.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use super::{Rows, Stage};
use crate::bench::TOOL;
use crate::sh;

pub(super) fn measure(stage: &Stage) -> Result<Rows> {
    let bench = &stage.bench;
    let mut digests = Vec::new();
    let mut times = Vec::new();
    for name in ["first-export", "second-export"] {
        let folder = bench.scratch.path.join(name);
        let to = folder.to_string_lossy().into_owned();
        times.push(bench.run(&["export", "oci", TOOL, &to])?);
        digests.push(digest(&folder)?);
        // The packages are unpacked and the tree is built once more.
        bench.forget_trees()?;
        bench.run(&["build", TOOL])?;
        sh::remove_folder(&folder)?;
    }
    ensure!(digests[0] == digests[1], "two exports of one lock differ: {digests:?}");
    let seconds: Vec<String> = times.iter().map(|time| format!("{:.2} s", time.as_secs_f64())).collect();
    Ok(vec![
        ("`export oci` into a folder, twice, the tree built anew in between".to_owned(), seconds.join(", ")),
        (
            "digest of all files of both exports".to_owned(),
            format!("the same: {}", &digests[0][..12.min(digests[0].len())]),
        ),
    ])
}

/// Of the names and contents of all files in a folder.
fn digest(folder: &Path) -> Result<String> {
    let line = "find . -type f | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum | cut -d ' ' -f 1";
    let text = sh::capture(Command::new("sh").args(["-euc", line]).current_dir(folder))?;
    Ok(text.trim().to_owned())
}
