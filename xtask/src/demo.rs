//! `cargo xtask demo`: four vendor files, each from file to running tool with a fresh recipe and a fresh lock.
//!
//! Downloads stay in a cache folder of this user outside the tree, so a second demo needs little network. As root
//! the demo shows the way in without a user namespace; `--user` shows the other one, as an ordinary user.

mod artifacts;
mod rungs;
mod stage;
mod windows;

use anyhow::{Result, bail};

use crate::{build, setup, sh};
use stage::Stage;

/// What the demo is asked for.
#[derive(Default, Clone, Copy)]
pub(crate) struct Options {
    /// Become an ordinary user where we are root.
    user: bool,
    /// Leave the work folder behind.
    keep: bool,
    /// Programs for Windows instead.
    windows: bool,
    /// The same tools on every rung instead.
    rungs: bool,
}

/// One line of the closing table.
struct Row {
    artifact: &'static str,
    suite: String,
    packages: String,
    tree: String,
    rung: String,
    seconds: f64,
    printed: String,
}

pub(crate) fn verb(mut args: sh::Args) -> Result<()> {
    let yes = args.flag("--yes");
    let user = args.flag("--user");
    let root = args.flag("--root");
    let keep = args.flag("--keep");
    let windows = args.flag("--windows");
    let rungs = args.flag("--rungs");
    args.finish()?;
    if user && root {
        bail!("`--root` and `--user` exclude each other");
    }
    if root && !sh::is_root()? {
        bail!("`--root` needs root\nhint: run it from a root shell, or without `--root`");
    }
    setup::setup(yes)?;
    build::build(false)?;
    demo(&Options { user, keep, windows, rungs })
}

/// As this user; as root also as an ordinary user, since the two ways into the sandbox differ.
pub(crate) fn both_ways() -> Result<()> {
    demo(&Options::default())?;
    if sh::is_root()? { demo(&Options { user: true, ..Options::default() }) } else { Ok(()) }
}

/// Shows all; fails if any of them did.
pub(crate) fn demo(options: &Options) -> Result<()> {
    let mut stage = Stage::new(options.user)?;
    if options.keep {
        stage.keep();
    }
    println!("demo {}", stage.describe());
    let stories: &[(&'static str, artifacts::Story)] = if options.rungs {
        &[("ptxas-on-rungs", rungs::assembler), ("comedi", rungs::card)]
    } else if options.windows {
        &[("ffmpeg-exe", windows::ffmpeg), ("ptxas-exe", windows::ptxas_exe)]
    } else {
        &[
            ("rar", artifacts::rar),
            ("ptxas", artifacts::ptxas),
            ("openssl", artifacts::openssl),
            ("acme-gauss", artifacts::acme_gauss),
        ]
    };
    let mut rows = vec![heading()];
    let mut failed = Vec::new();
    for &(artifact, story) in stories {
        println!("\n=== {artifact} ===");
        match story(&stage, artifact) {
            Ok(row) => rows.push(cells(&row)),
            Err(error) => {
                eprintln!("error: {artifact}: {error:#}");
                let reason = format!("{error:#}");
                let mut row = vec!["-".to_owned(); 7];
                artifact.clone_into(&mut row[0]);
                row[6] = format!("FAILED: {}", reason.lines().next().unwrap_or_default());
                rows.push(row);
                failed.push(artifact);
            }
        }
    }
    print!("\n{}", sh::table(&rows));
    if !failed.is_empty() {
        bail!("{} of {} artifacts failed: {}", failed.len(), stories.len(), failed.join(", "));
    }
    Ok(())
}

fn heading() -> Vec<String> {
    ["artifact", "suite", "packages", "tree", "rung", "seconds", "printed"].map(str::to_owned).to_vec()
}

fn cells(row: &Row) -> Vec<String> {
    vec![
        row.artifact.to_owned(),
        row.suite.clone(),
        row.packages.clone(),
        row.tree.clone(),
        row.rung.clone(),
        format!("{:.1}", row.seconds),
        row.printed.clone(),
    ]
}
