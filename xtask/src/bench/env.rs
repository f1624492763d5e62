//! `cargo xtask bench env`: what an environment costs to start, to build and to keep, in pairs against the programs that do
//! the same: bubblewrap, docker, mmdebstrap.

mod builds;
mod disk;
pub(crate) mod docker;
mod launches;
mod place;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{machine, milliseconds};
use crate::{acme, build, sh};
use place::Place;

/// What the tables are made of.
type Rows = Vec<(String, String)>;

/// The programs that are measured.
struct Programs {
    hatchway: PathBuf,
    shim: PathBuf,
    /// The sandbox library's example.
    sandboxed: PathBuf,
}

pub(super) fn measure() -> Result<String> {
    let hatchway = build::build(true)?;
    let args = ["build", "--release", "--package", "hatchway-envs", "--example", "sandboxed"];
    sh::run(sh::cargo().args(args))?;
    let programs = Programs {
        shim: hatchway.with_file_name("hatchway-shim"),
        hatchway,
        sandboxed: sh::target_folder()?.join("release/examples/sandboxed"),
    };
    let place = Place::new()?;
    let vendor = acme::build(&place.folder("work")?)?;
    let mut text = String::from("| what | value |\n| --- | --- |\n");
    let mut row = |what: &str, value: &str| {
        // What was measured is seen at once: the rest takes minutes, and may fail.
        eprintln!("{what}: {value}");
        text.push_str(&format!("| {what} | {value} |\n"));
    };
    row("machine", &machine()?);
    row("file system", &place.kind);
    let recipes = Recipes::new(&programs, &place, &vendor)?;
    for (what, value) in launches::measure(&programs, &place, &recipes)? {
        row(&what, &value);
    }
    for (what, value) in builds::measure(&programs, &place, &recipes)? {
        row(&what, &value);
    }
    for (what, value) in disk::measure(&programs, &place, &recipes)? {
        row(&what, &value);
    }
    Ok(text)
}

/// A folder with recipes, and the downloads that their locks name.
struct Recipes {
    folder: PathBuf,
    /// Has the downloads only once the locks are made; what is measured works on copies of it.
    downloads: PathBuf,
}

impl Recipes {
    fn new(programs: &Programs, place: &Place, vendor: &Path) -> Result<Self> {
        let recipes = Self { folder: place.folder("work")?, downloads: place.folder("downloads")? };
        let file = vendor.to_str().context("the package's path is not UTF-8")?;
        let mut new = recipes.command(programs, &recipes.downloads, &["new", file, "--name", "base"]);
        sh::run(&mut new)?;
        Ok(recipes)
    }

    /// A recipe with these packages beside the vendor's file, locked, its packages downloaded; how many there are.
    fn add(&self, programs: &Programs, name: &str, packages: &[&str]) -> Result<Vec<Locked>> {
        let from = std::fs::read_to_string(self.folder.join("recipes/base/recipe.toml"))?;
        let folder = self.folder.join("recipes").join(name);
        std::fs::create_dir_all(&folder)?;
        std::fs::copy(self.folder.join(acme::FILE), folder.join(acme::FILE))?;
        let list: Vec<String> = packages.iter().map(|package| format!("\"{package}\"")).collect();
        let text = from.replace("name = \"base\"", &format!("name = \"{name}\"")).replace(
            "[environment]\n",
            &format!("[environment]\nbase = \"debian:bookworm\"\npackages = [{}]\n", list.join(", ")),
        );
        std::fs::write(folder.join("recipe.toml"), text)?;
        sh::run(&mut self.command(programs, &self.downloads, &["lock", name]))?;
        // Building once is what downloads; the tree goes with this folder.
        sh::run(&mut self.command(programs, &self.downloads, &["build", name]))?;
        self.packages(name)
    }

    /// The packages of a lock.
    fn packages(&self, name: &str) -> Result<Vec<Locked>> {
        let lock = std::fs::read_to_string(self.folder.join("recipes").join(name).join("recipe.lock"))?;
        lock.split("[[package]]").skip(1).map(Locked::read).collect()
    }

    /// `hatchway ARGS` with a data folder.
    fn command(&self, programs: &Programs, data: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(&programs.hatchway);
        command
            .args(args)
            .current_dir(&self.folder)
            .env("HATCHWAY_DATA_DIR", data)
            .env("XDG_CACHE_HOME", self.downloads.join("cache"))
            .stdin(std::process::Stdio::null());
        command
    }

    /// A new data folder that has the downloads and nothing that was made of them.
    fn fresh(&self, place: &Place, name: &str) -> Result<PathBuf> {
        let data = place.folder(name)?;
        std::fs::create_dir_all(data.join("store"))?;
        let from = self.downloads.join("store/artifacts");
        sh::run(Command::new("cp").args(["-al", "--"]).arg(from).arg(data.join("store/artifacts")))?;
        // What others wrote before is not part of what is measured next.
        sh::run(&mut Command::new("sync"))?;
        Ok(data)
    }
}

/// A package of a lock.
#[derive(PartialEq, Eq)]
struct Locked {
    name: String,
    path: String,
    sha256: String,
}

impl Locked {
    /// From the lines of its table, which `hatchway lock` writes one key a line.
    fn read(table: &str) -> Result<Self> {
        let text = |key: &str| {
            let line =
                table.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \"")?.split_once('"'));
            line.map(|(value, _)| value.to_owned()).with_context(|| format!("a package without `{key}`"))
        };
        Ok(Self { name: text("name")?, path: text("path")?, sha256: text("sha256")? })
    }
}

/// The middle, the 99th of a hundred and the least.
pub(super) fn spread(times: &[Duration]) -> Result<String> {
    let mut sorted = times.to_vec();
    sorted.sort();
    let at = |part: usize| sorted.get((sorted.len() * part / 100).min(sorted.len().saturating_sub(1)));
    let (least, middle, last) = sorted
        .first()
        .zip(at(50))
        .zip(at(99))
        .map(|((a, b), c)| (a, b, c))
        .context("nothing was measured")?;
    Ok(format!(
        "p50 {:.2} ms, p99 {:.2} ms, min {:.2} ms",
        milliseconds(*middle),
        milliseconds(*last),
        milliseconds(*least)
    ))
}
