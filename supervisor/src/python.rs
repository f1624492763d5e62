//! Locking a recipe with a Python: for each suite in order, its Python, the wheels that fit it, then its packages.

use hatchway_envs::choose::{self, Asked, Need};
use hatchway_envs::debian::index::SuiteIndex;
use hatchway_envs::debian::relation;
use hatchway_envs::debian::version;
use hatchway_envs::digest::Sha256;
use hatchway_envs::lock::{Lock, LockedWheel};
use hatchway_envs::python::{self, Index, Local, Target};
use hatchway_envs::resolve::Group;
use hatchway_inspect::Facts;

use crate::artifact;
use crate::context::Context;
use crate::error::Error;
use crate::recipe::Python;

/// A tree's Python is of its first architecture, and wheels are chosen for x86-64.
const ARCHITECTURE: &str = "amd64";

/// What all that is installed needs from outside, given the facts of the wheels.
pub(crate) type NeedsOf<'a> = &'a dyn Fn(&[Facts]) -> Result<Vec<Need>, Error>;

/// Makes the lock of a recipe that has a Python.
///
/// # Errors
/// As [`choose::lock`]; [`hatchway_envs::Error::NoSuite`] also where no suite has that Python or the wheels for it.
pub(crate) fn lock(
    context: &Context,
    wish: &Python,
    local: &[Local],
    mut request: choose::Request<'_>,
    needs_of: NeedsOf<'_>,
) -> Result<Lock, Error> {
    let minor = minor(&wish.version)?;
    let python = [format!("python3 (>= 3.{minor}~)"), format!("python3 (<< 3.{}~)", minor + 1)];
    let groups = python.iter().flat_map(|text| relation::parse(text, ARCHITECTURE).unwrap_or_default());
    request.depends.extend(groups.map(|alternatives| Asked {
        whose: format!("python {}", wish.version),
        group: Group { architecture: ARCHITECTURE.to_owned(), alternatives },
    }));
    choose::check_upgrade(&request)?;
    let kept = request.upgrade.kept_wheels(request.before);
    let mut near = Vec::new();
    for suite in choose::suites_in_order(&request) {
        let chosen = match attempt(context, wish, minor, local, &kept, &suite, &request)? {
            Ok(chosen) => chosen,
            Err(reason) => {
                request.refused.push(format!("{suite}: {reason}"));
                continue;
            }
        };
        request.needs = needs_of(&facts_of(context, &chosen.wheels)?)?;
        (request.python, request.wheels) = (chosen.target.python(), chosen.wheels);
        request.suites = vec![suite];
        match choose::lock(&request, &context.printer) {
            Ok(lock) => return Ok(lock),
            Err(hatchway_envs::Error::NoSuite { refusals, near: names }) => {
                request.refused = refusals;
                near.extend(names);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(hatchway_envs::Error::NoSuite { refusals: request.refused, near }.into())
}

/// The Python of a suite and the wheels for it.
struct Chosen {
    target: Target,
    wheels: Vec<LockedWheel>,
}

/// The minor version of a wish: 11 of `3.11`.
fn minor(version: &str) -> Result<u32, Error> {
    let minor = version.strip_prefix("3.").and_then(|minor| minor.parse().ok());
    minor.filter(|minor| (2..1000).contains(minor)).ok_or_else(|| {
        Error::Usage(format!(
            "python = {{ version = \"{version}\" }}: a version is two numbers, such as 3.11"
        ))
    })
}

/// Chooses the wheels for a suite's Python; or says what speaks against the suite.
fn attempt(
    context: &Context,
    wish: &Python,
    minor: u32,
    local: &[Local],
    kept: &[LockedWheel],
    suite: &str,
    request: &choose::Request<'_>,
) -> Result<Result<Chosen, String>, Error> {
    let index = match choose::suite_index(request, suite, &context.printer) {
        Ok(Some(index)) => index,
        Ok(None) => return Ok(Err("no mirror has it".to_owned())),
        Err(error @ hatchway_envs::Error::OutOfStep { .. }) => return Ok(Err(error.to_string())),
        Err(other) => return Err(other.into()),
    };
    let target = match target(&index, minor) {
        Ok(target) => target,
        Err(reason) => return Ok(Err(reason)),
    };
    let request = python::Request {
        index: &context.python_index(),
        store: &context.store,
        target: &target,
        requirements: &wish.requirements,
        local,
        kept,
    };
    let wheels = python::resolve(&request, &context.printer)?;
    Ok(wheels.map(|wheels| Chosen { target, wheels }))
}

/// The suite's Python and glibc.
fn target(index: &SuiteIndex, minor: u32) -> Result<Target, String> {
    let has = |name: &str| index.newest(name).map(|package| version::upstream(&package.version).to_owned());
    let full = has("python3").ok_or("it has no Python 3")?;
    if full.split('.').nth(1) != Some(minor.to_string().as_str()) {
        return Err(format!("its Python is {full}, not 3.{minor}"));
    }
    let glibc = has("libc6").ok_or("it has no glibc")?;
    let glibc_minor = glibc.split('.').nth(1).and_then(|minor| minor.parse().ok());
    let glibc_minor = glibc_minor.ok_or_else(|| format!("its glibc {glibc} is not understood"))?;
    // A version of Debian's may say more than Python's does: `3.13.5+really…`.
    let full = full.split(['+', '~']).next().unwrap_or(&full).to_owned();
    Ok(Target { minor, full, glibc_minor })
}

fn facts_of(context: &Context, wheels: &[LockedWheel]) -> Result<Vec<Facts>, Error> {
    let one = |wheel: &LockedWheel| {
        artifact::facts(context, &wheel.file, wheel.sha256, &context.store.artifact(wheel.sha256))
    };
    wheels.iter().map(one).collect()
}

/// Where a locked wheel is: the index says it by the file's name, the lock which file it must be.
///
/// # Errors
/// When no index can be asked, or has the file no more.
pub(crate) fn urls(index: &Index, wheel: &LockedWheel) -> Result<Vec<String>, hatchway_envs::Error> {
    let files = index.project(&wheel.name)?;
    let same = |sha256: Option<Sha256>| sha256.is_none_or(|sha256| sha256 == wheel.sha256);
    let found: Vec<String> = files
        .into_iter()
        .filter(|file| file.name == wheel.file && same(file.sha256))
        .map(|file| file.url)
        .collect();
    if found.is_empty() {
        let source_id = "the index of Python packages".to_owned();
        return Err(hatchway_envs::Error::NoPackage { name: wheel.file.clone(), source_id });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_two_numbers() {
        assert_eq!(minor("3.11").unwrap(), 11);
        for wrong in ["3", "2.7", "3.11.2", "3.x", "", "3.-1"] {
            assert!(minor(wrong).is_err(), "{wrong}");
        }
    }
}
