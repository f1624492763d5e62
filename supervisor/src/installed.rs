//! How an artifact is installed into a tree, and which of its facts count then.

use std::borrow::Cow;
use std::io::Read;
use std::path::Path;

use hatchway_envs::build::{How, Layout, packages_folder};
use hatchway_envs::lock::{CAPTURED, Lock, LockedArtifact};
use hatchway_envs::python::{self, WheelName};
use hatchway_inspect::archive::{self, EntryKind, Limits};
use hatchway_inspect::{Facts, ProgramKind, walk_carried};

use crate::error::Error;
use crate::recipe::Artifact;

/// `how` of a lock for what a self-unpacking file carries.
const CARRIED: &str = "carried";
/// `how` of a lock for a wheel.
const WHEEL: &str = "wheel";
/// A list of entry points is read up to here; the largest have some KiB.
const ENTRY_POINTS_BYTES_MAX: u64 = 1 << 20;

/// How the recipe wants an artifact to be installed, as the lock says it.
#[must_use]
pub(crate) fn how(artifact: &Artifact, facts: &Facts) -> &'static str {
    if artifact.install.is_some() {
        return CAPTURED;
    }
    match (facts.artifact.format.as_str(), &artifact.unpack) {
        ("wheel", None) => WHEEL,
        ("appimage" | "makeself", Some(_)) => CARRIED,
        _ => "",
    }
}

/// Whether it is a wheel for the tree's Python.
#[must_use]
pub(crate) fn is_wheel(how: &str) -> bool {
    how == WHEEL
}

/// Whether a new recipe gives a wheel its Python. One that only carries programs needs none: ELF programs in it, no entry
/// points, no modules in machine code. Such wheels bring a compiler or a server through pip.
///
/// # Errors
/// When the wheel cannot be read.
pub(crate) fn wants_python(facts: &Facts, path: &Path) -> Result<bool, Error> {
    if facts.artifact.format != "wheel" {
        return Ok(false);
    }
    let programs =
        facts.programs.iter().any(|program| matches!(program.kind, ProgramKind::Elf | ProgramKind::Pe));
    let modules = WheelName::parse(&facts.artifact.file).is_some_and(|name| name.has_abi());
    Ok(!programs || modules || !WheelPrograms::read(path)?.entry_points.is_empty())
}

/// Whether a file of this format is unpacked by what it carries.
#[must_use]
pub(crate) fn carries(facts: &Facts) -> bool {
    matches!(facts.artifact.format.as_str(), "appimage" | "makeself")
}

/// The facts of what is installed: of what a self-unpacking file carries, not of the file.
///
/// # Errors
/// When what it carries could not be opened.
pub(crate) fn facts_of<'f>(how: &str, facts: &'f Facts) -> Result<Vec<&'f Facts>, Error> {
    if how == CAPTURED {
        // What it writes is known when it was run.
        return Ok(Vec::new());
    }
    if how != CARRIED {
        return Ok(vec![facts]);
    }
    if let Some(reason) = facts.contains.iter().find_map(|contained| contained.unopened.as_ref()) {
        let file = &facts.artifact.file;
        return Err(Error::Usage(format!("what `{file}` carries cannot be unpacked: {reason}")));
    }
    Ok(facts.contains.iter().filter_map(|contained| contained.facts.as_deref()).collect())
}

/// The facts that a new recipe is written by.
#[must_use]
pub(crate) fn facts_inside(facts: &Facts) -> Cow<'_, Facts> {
    let inside = facts.contains.iter().find_map(|contained| contained.facts.as_deref());
    match inside.filter(|_| carries(facts)) {
        Some(inside) => Cow::Owned(Facts { artifact: facts.artifact.clone(), ..inside.clone() }),
        None => Cow::Borrowed(facts),
    }
}

/// The layout of an artifact in the tree.
#[must_use]
pub(crate) fn layout(artifact: &Artifact, locked: &LockedArtifact, lock: &Lock) -> Layout {
    let file_name = artifact.file_name();
    if is_wheel(&locked.how) {
        return Layout::of_wheel(&file_name, &lock.python);
    }
    Layout {
        at: artifact.unpack.as_ref().map_or("/", |path| path.as_str()).to_owned(),
        strip: artifact.strip,
        file_name,
        how: if locked.how == CARRIED { How::Carried } else { How::Members },
    }
}

/// The folder of the tree that an artifact's own paths begin in, without a slash at its end.
#[must_use]
pub(crate) fn folder(artifact: &Artifact, locked: Option<&LockedArtifact>, lock: Option<&Lock>) -> String {
    match (locked, lock) {
        (Some(locked), Some(lock)) if is_wheel(&locked.how) => format!("/{}", packages_folder(&lock.python)),
        _ => {
            artifact.unpack.as_ref().map_or(String::new(), |at| at.as_str().trim_end_matches('/').to_owned())
        }
    }
}

/// The names of an artifact's members: of a self-unpacking file those of what it carries.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn walk(
    path: &Path,
    carried: bool,
    visit: &mut dyn FnMut(&archive::Entry, &mut dyn Read) -> Result<(), hatchway_envs::Error>,
) -> Result<(), Error> {
    let limits = &Limits::default();
    let visit = &mut |_, entry: &archive::Entry, content: &mut dyn Read| visit(entry, content);
    Ok(if carried { walk_carried(path, limits, visit) } else { archive::walk(path, limits, visit) }?)
}

/// The programs that a wheel installs, its own and those that its entry points ask for, as their paths in the tree.
///
/// # Errors
/// When the wheel cannot be read.
pub(crate) fn wheel_programs(path: &Path) -> Result<Vec<String>, Error> {
    let programs = WheelPrograms::read(path)?;
    let all = programs.scripts.into_iter().chain(programs.entry_points);
    Ok(all.map(|name| format!("/usr/local/bin/{name}")).collect())
}

#[derive(Default)]
struct WheelPrograms {
    /// Files of its own for `bin`.
    scripts: Vec<String>,
    /// Programs to be made, which call into its modules.
    entry_points: Vec<String>,
}

impl WheelPrograms {
    fn read(wheel: &Path) -> Result<Self, Error> {
        let mut programs = Self::default();
        walk(wheel, false, &mut |entry, content| {
            let path = entry.path.as_str();
            let script = path.split_once(".data/scripts/").filter(|(top, _)| !top.contains('/'));
            if let (Some((_, name)), EntryKind::File { .. }) = (script, &entry.kind) {
                programs.scripts.push(name.to_owned());
            }
            if path.ends_with(".dist-info/entry_points.txt") {
                let mut text = String::new();
                let read = content.take(ENTRY_POINTS_BYTES_MAX).read_to_string(&mut text);
                // Text that is none has no entry points; installing the wheel says more.
                if read.is_ok() {
                    programs
                        .entry_points
                        .extend(python::programs_of(&text).into_iter().map(|(name, _)| name));
                }
            }
            Ok::<(), hatchway_envs::Error>(())
        })?;
        Ok(programs)
    }
}
