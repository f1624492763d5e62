//! Building the closure of `libgtk-3-0` from downloads that are there, against `mmdebstrap --variant=extract` on the same
//! package files, and a second environment that shares nine tenths of its packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Place, Programs, Recipes, Rows, spread};
use crate::bench::{ratio, timed};
use crate::sh;

const ROUNDS: usize = 5;
const FIRST: &str = "gtk";
const SECOND: &str = "gtk-and-more";

pub(super) fn measure(programs: &Programs, place: &Place, recipes: &Recipes) -> Result<Rows> {
    let first = recipes.add(programs, FIRST, &["libgtk-3-0"])?;
    let more = ["libgtk-3-0", "libgtkmm-3.0-1v5", "libxml2", "libcurl4"];
    let second = recipes.add(programs, SECOND, &more)?;
    let shared = second.iter().filter(|package| first.contains(package)).count();
    let repository = Repository::new(recipes, place)?;
    let mut times: [Vec<Duration>; 3] = Default::default();
    for round in 0..ROUNDS {
        let data = recipes.fresh(place, &format!("build-{round}"))?;
        times[0].push(timed(&mut recipes.command(programs, &data, &["build", FIRST]), Stdio::null())?);
        sh::run(&mut Command::new("sync"))?;
        times[1].push(timed(&mut recipes.command(programs, &data, &["build", SECOND]), Stdio::null())?);
        sh::run(&mut Command::new("sync"))?;
        let target = place.folder(&format!("extract-{round}"))?;
        times[2].push(timed(&mut repository.extract(&target), Stdio::null())?);
        sh::run(&mut Command::new("sync"))?;
    }
    let what = format!("`build` of {} packages, downloads here, store empty", first.len());
    let next = format!(
        "`build` of {} packages, {} % of them unpacked before",
        second.len(),
        shared * 100 / second.len().max(1)
    );
    Ok(vec![
        (what, spread(&times[0])?),
        ("`mmdebstrap --variant=extract` of the same files".into(), spread(&times[2])?),
        (format!("`mmdebstrap` / `build`, {ROUNDS} pairs"), ratio(&times[2], &times[0])?),
        (next, spread(&times[1])?),
    ])
}

/// The packages of the first lock as a repository that `apt` reads from this disk.
struct Repository {
    folder: PathBuf,
    names: Vec<String>,
}

impl Repository {
    fn new(recipes: &Recipes, place: &Place) -> Result<Self> {
        let folder = place.folder("repository")?;
        let packages = recipes.packages(FIRST)?;
        for package in &packages {
            let file = Path::new(&package.path).file_name().context("a package without a name")?;
            let stored = recipes.downloads.join("store/artifacts").join(&package.sha256);
            fs::hard_link(stored, folder.join(file))?;
        }
        let names = packages.into_iter().map(|package| package.name).collect();
        let index = sh::capture(Command::new("dpkg-scanpackages").arg(".").current_dir(&folder))?;
        // What a closed set of packages lacks is not apt's business here: exactly these are unpacked by both.
        let relations = [
            "Depends",
            "Pre-Depends",
            "Recommends",
            "Suggests",
            "Conflicts",
            "Breaks",
            "Replaces",
            "Provides",
            "Enhances",
            "Essential",
            "Important",
            "Protected",
        ];
        let kept = |line: &&str| line.split_once(':').is_none_or(|(field, _)| !relations.contains(&field));
        let index: Vec<&str> = index.lines().filter(kept).collect();
        fs::write(folder.join("Packages"), index.join("\n") + "\n\n")?;
        Ok(Self { folder, names })
    }

    /// apt inside the target reads the repository through a mount.
    fn extract(&self, target: &Path) -> Command {
        let repository = self.folder.display();
        let mut command = Command::new("mmdebstrap");
        command
            .args(["--quiet", "--mode=root", "--variant=extract"])
            .arg(format!("--include={}", self.names.join(",")))
            .arg(format!(
                "--setup-hook=mkdir -p \"$1{repository}\" && mount --bind {repository} \"$1{repository}\""
            ))
            .arg(format!("--customize-hook=umount \"$1{repository}\""))
            .args(["--skip=cleanup"])
            .arg("bookworm")
            .arg(target)
            .arg(format!("deb [trusted=yes] copy:{repository} ./"));
        command
    }
}
