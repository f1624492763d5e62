//! Artifacts that are installers: what they are run with, what they wrote, and what a lock says of it.

use std::io::Read;
use std::path::PathBuf;

use hatchway_envs::build::install::{Installed, Installer, differences_from_record, record};
use hatchway_envs::digest::Sha256;
use hatchway_envs::lock::{Lock, LockedArtifact, LockedCapture, write_atomically};
use hatchway_inspect::Facts;

use crate::context::Context;
use crate::error::Error;
use crate::recipe::Located;
use crate::{artifact, launch, licence, steps};

/// How often a lock is made anew because what an installer wrote changed what it needs, which changed what it wrote.
const ROUNDS: usize = 3;
/// As many paths as a person reads.
const PATHS_MAX: usize = 12;

/// Chooses a lock for artifacts, with the facts of what their installers wrote.
pub(crate) type Choose<'a> = dyn Fn(Vec<LockedArtifact>, Vec<Facts>) -> Result<Lock, Error> + 'a;

/// One installer's result over one tree.
#[derive(Debug, Clone)]
struct Run {
    /// Which artifact.
    number: usize,
    /// Over which tree.
    tree: Sha256,
    installed: Installed,
}

/// Makes the lock of a recipe whose artifacts may be installers: each is run over the tree of a lock without it, then the
/// lock is chosen again with what the programs need that it wrote, and it is run a second time over that lock's tree.
///
/// # Errors
/// Those of choosing and building; an installer that fails, or has a licence that the recipe does not accept.
pub(crate) fn lock(
    context: &Context,
    located: &Located,
    facts: &[Facts],
    artifacts: &[LockedArtifact],
    write: bool,
    choose: &Choose<'_>,
) -> Result<Lock, Error> {
    for (number, locked) in artifacts.iter().enumerate().filter(|(_, locked)| locked.is_installer()) {
        check(context, located, number, locked, &facts[number])?;
    }
    let mut lock = choose(artifacts.to_vec(), Vec::new())?;
    if !artifacts.iter().any(LockedArtifact::is_installer) {
        return Ok(lock);
    }
    let mut runs = run_all(context, located, &lock)?;
    for _ in 0..ROUNDS {
        let next = choose(with(artifacts, &runs), facts_of(context, artifacts, &runs)?)?;
        let same = next.base == lock.base && next.packages == lock.packages && next.wheels == lock.wheels;
        lock = next;
        if !same {
            let again = run_all(context, located, &lock)?;
            let equal = |(one, two): (&Run, &Run)| one.installed.sha256 == two.installed.sha256;
            let settled = runs.iter().zip(&again).all(equal);
            runs = again;
            if !settled {
                continue;
            }
            // That was the second run.
            remember(context, located, &lock, &runs)?;
        }
        verify(context, located, &lock, &runs)?;
        tell(context, &lock, &runs);
        if write {
            write_records(located, artifacts, &runs)?;
        }
        return Ok(lock);
    }
    Err(Error::Unsettled(located.recipe.package.name.to_string()))
}

/// What can be said before anything is run.
fn check(
    context: &Context,
    located: &Located,
    number: usize,
    locked: &LockedArtifact,
    facts: &Facts,
) -> Result<(), Error> {
    let format = facts.artifact.format.as_str();
    if matches!(format, "deb" | "rpm" | "wheel" | "jar") {
        let file = &locked.file;
        return Err(Error::Usage(format!(
            "`{file}` is a package ({format}), not an installer: take `install` out of the recipe"
        )));
    }
    let accepted =
        located.recipe.artifacts[number].install.as_ref().is_some_and(|install| install.accept_licence);
    let path = context.store.artifact(locked.sha256);
    match licence::evidence(facts, &path)?.filter(|_| !accepted) {
        Some(evidence) => {
            Err(Error::Licence { file: locked.file.clone(), evidence, recipe: located.path.clone() })
        }
        None => Ok(()),
    }
}

/// Runs each installer over the tree of the lock with what those before it wrote.
fn run_all(context: &Context, located: &Located, lock: &Lock) -> Result<Vec<Run>, Error> {
    let mut lock = lock.before_installer(0);
    let mut runs = Vec::new();
    for number in 0..lock.artifacts.len() {
        if !lock.artifacts[number].is_installer() {
            continue;
        }
        let tree = steps::build(context, located, &lock.before_installer(number))?.tree;
        let installer = installer(located, number, &lock)?;
        let installed = match installer.remembered(&context.store, tree) {
            Some(installed) => installed,
            None => run(context, &installer, tree)?,
        };
        lock.artifacts[number].captured = Some(locked(&installed));
        runs.push(Run { number, tree, installed });
    }
    Ok(runs)
}

fn run(context: &Context, installer: &Installer<'_>, tree: Sha256) -> Result<Installed, Error> {
    context.printer.say(format!("running the installer `{}` in a build sandbox", installer.file));
    let shim = launch::shim()?;
    Ok(installer.run(&context.store, Some(&shim), tree)?)
}

/// Runs what was run only once over its tree again, tells what differs, and remembers the first result.
fn verify(context: &Context, located: &Located, lock: &Lock, runs: &[Run]) -> Result<(), Error> {
    for Run { number, tree, installed } in runs {
        let installer = installer(located, *number, lock)?;
        if installer.remembered(&context.store, *tree).is_some() {
            continue;
        }
        let again = run(context, &installer, *tree)?;
        let differences = installed.differences(&again);
        if !differences.is_empty() {
            context.printer.warn(format!(
                "the installer `{}` writes something else each time: {}",
                installer.file,
                shown(&differences)
            ));
            context.printer.say(format!(
                "  what it wrote first is locked, as store/artifacts/{}: another machine needs that file",
                installed.sha256
            ));
        }
        installer.remember(&context.store, *tree, installed)?;
    }
    Ok(())
}

/// What a tree cannot hold; and what lies in root's home, where the tool will not look, which runs as somebody else.
fn tell(context: &Context, lock: &Lock, runs: &[Run]) {
    for Run { number, installed, .. } in runs {
        let file = &lock.artifacts[*number].file;
        for what in &installed.dropped {
            context.printer.say(format!("note: `{file}`: dropped {what}"));
        }
        let nodes = installed.manifest.iter().flat_map(|manifest| manifest.nodes.keys());
        let home: Vec<String> =
            nodes.filter(|path| path.starts_with("root/")).map(|path| format!("/{path}")).collect();
        if !home.is_empty() {
            let home = shown(&home);
            let note =
                format!("note: `{file}` wrote to its home, which is not the tool's at run time: {home}");
            context.printer.say(note);
        }
    }
}

fn remember(context: &Context, located: &Located, lock: &Lock, runs: &[Run]) -> Result<(), Error> {
    for Run { number, tree, installed } in runs {
        installer(located, *number, lock)?.remember(&context.store, *tree, installed)?;
    }
    Ok(())
}

/// Sees that the store has what the installers of a lock wrote: from beside the recipe, or by running them again.
///
/// # Errors
/// An installer that fails or writes something else than was locked.
pub(crate) fn provide(context: &Context, located: &Located, lock: &Lock) -> Result<(), Error> {
    for (number, artifact) in lock.artifacts.iter().enumerate() {
        let Some(captured) = artifact.captured else { continue };
        if context.store.artifact(captured.sha256).exists() {
            continue;
        }
        let beside = located.folder().join(format!("{}.tar", captured.sha256.short()));
        if beside.is_file() {
            context.store.import(&beside, Some(captured.sha256))?;
            continue;
        }
        let tree = steps::build(context, located, &lock.before_installer(number))?.tree;
        let installer = installer(located, number, lock)?;
        let installed = run(context, &installer, tree)?;
        if installed.sha256 != captured.sha256 {
            let paths = differing(context, located, &installer, tree, &installed)?;
            let file = artifact.file.clone();
            return Err(hatchway_envs::Error::OtherCapture { file, paths, expected: captured.sha256 }.into());
        }
        installer.remember(&context.store, tree, &installed)?;
    }
    Ok(())
}

/// The paths in which a result differs from what was locked: by the record beside the lock, or as far as a second run tells.
fn differing(
    context: &Context,
    located: &Located,
    installer: &Installer<'_>,
    tree: Sha256,
    installed: &Installed,
) -> Result<Vec<String>, Error> {
    let path = record_path(located, installer.file);
    let recorded = std::fs::read_to_string(&path).ok();
    let mut paths = match recorded.map(|text| differences_from_record(&text, installed)) {
        Some(Ok(paths)) => paths,
        Some(Err(_)) | None => installed.differences(&run(context, installer, tree)?),
    };
    let all = paths.len();
    paths.truncate(PATHS_MAX);
    if all > PATHS_MAX {
        paths.push(format!("{} more", all - PATHS_MAX));
    }
    if paths.is_empty() {
        paths.push(format!("which files cannot be told without `{}`", path.display()));
    }
    Ok(paths)
}

fn record_path(located: &Located, file: &str) -> PathBuf {
    located.folder().join(format!("{}.captured", file.replace('/', "-")))
}

/// A record beside the lock of what each installer wrote: people read it, and another machine names by it what differs.
fn write_records(located: &Located, artifacts: &[LockedArtifact], runs: &[Run]) -> Result<(), Error> {
    for run in runs {
        if let Some(text) = record(&run.installed) {
            write_atomically(&record_path(located, &artifacts[run.number].file), text.as_bytes())?;
        }
    }
    Ok(())
}

fn installer<'a>(located: &'a Located, number: usize, lock: &'a Lock) -> Result<Installer<'a>, Error> {
    let stale = || Error::StaleLock(located.recipe.package.name.to_string());
    let locked = lock.artifacts.get(number).ok_or_else(stale)?;
    let artifact = located.recipe.artifacts.get(number).ok_or_else(stale)?;
    let install = artifact.install.as_ref().ok_or_else(stale)?;
    Ok(Installer {
        file: &locked.file,
        sha256: artifact.sha256.digest(),
        strip: artifact.strip,
        run: &install.run,
        accept: install.accept_licence,
        wine: lock.runner == hatchway_envs::wine::RUNNER,
    })
}

fn locked(installed: &Installed) -> LockedCapture {
    LockedCapture { sha256: installed.sha256, size: installed.size }
}

fn with(artifacts: &[LockedArtifact], runs: &[Run]) -> Vec<LockedArtifact> {
    let mut artifacts = artifacts.to_vec();
    for run in runs {
        artifacts[run.number].captured = Some(locked(&run.installed));
    }
    artifacts
}

fn facts_of(context: &Context, artifacts: &[LockedArtifact], runs: &[Run]) -> Result<Vec<Facts>, Error> {
    runs.iter()
        .map(|run| captured_facts(context, &artifacts[run.number].file, run.installed.sha256))
        .collect()
}

/// The facts of what an installer wrote.
///
/// # Errors
/// When it cannot be inspected.
pub(crate) fn captured_facts(context: &Context, file: &str, captured: Sha256) -> Result<Facts, Error> {
    artifact::facts(context, &format!("{file}.captured.tar"), captured, &context.store.artifact(captured))
}

fn shown(paths: &[String]) -> String {
    let more = paths.len().saturating_sub(PATHS_MAX);
    let first: Vec<String> =
        paths.iter().take(PATHS_MAX).map(|path| path.escape_debug().to_string()).collect();
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    first.join(", ") + &rest
}

/// Reads the beginning of a file.
pub(crate) fn head(path: &std::path::Path, bytes: u64) -> Result<Vec<u8>, Error> {
    let mut head = Vec::new();
    let file = std::fs::File::open(path).map_err(Error::io("open", path))?;
    file.take(bytes).read_to_end(&mut head).map_err(Error::io("read", path))?;
    Ok(head)
}
