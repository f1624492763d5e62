//! Wine as the runner: what the lock of a Windows program has to hold.

use hatchway_envs::choose;
use hatchway_envs::debian::relation::Alternatives;
use hatchway_envs::debian::version;
use hatchway_envs::wine;
use hatchway_inspect::{Facts, PeFacts};

use crate::error::Error;
use crate::recipe::{Architecture, Base, Located, Runner};

/// What a lock says of the runner.
#[must_use]
pub(crate) fn locked(runner: Runner) -> String {
    match runner {
        Runner::Wine => wine::RUNNER.to_owned(),
        Runner::None => String::new(),
    }
}

/// What of Windows programs decides which packages they take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Programs<'f> {
    /// The first for 32 bit.
    bits_32: Option<&'f str>,
    /// Whether one opens windows.
    windows: bool,
}

fn programs<'f>(all: &[&'f Facts]) -> Programs<'f> {
    let is_program = |pe: &&PeFacts| !pe.driver && !pe.subsystem.starts_with("efi-");
    let pe = || all.iter().flat_map(|facts| &facts.pe).filter(is_program);
    // A library of a program that is not there may be of the other kind, so that programs count where there are some.
    let own: Vec<&PeFacts> = pe().filter(|pe| !pe.library).collect();
    let counted = if own.is_empty() { pe().collect() } else { own };
    // Managed code says 32 and means either, unless it is marked; both loaders take it.
    let bits_32 = counted.iter().find(|pe| pe.bits == 32 && !pe.dotnet);
    Programs {
        bits_32: bits_32.map(|pe| pe.path.as_str()),
        windows: counted.iter().any(|pe| pe.subsystem == "gui"),
    }
}

/// Why a new recipe has i386, if it is for a 32-bit program.
#[must_use]
pub(crate) fn of_i386(facts: &Facts) -> Option<String> {
    programs(&[facts])
        .bits_32
        .map(|path| format!("{} is a 32-bit Windows program", path.trim_start_matches('/')))
}

/// The packages of the runner. `all` are the facts of the artifacts, and of what their installers wrote.
///
/// # Errors
/// [`Error::Architecture`] where there is a 32-bit program and the recipe has no i386.
pub(crate) fn packages(located: &Located, all: &[&Facts]) -> Result<Vec<Alternatives>, Error> {
    let programs = programs(all);
    let environment = &located.recipe.environment;
    if matches!(environment.base(), Some(Base::Oci(_) | Base::None)) {
        let name = &located.recipe.package.name;
        return Err(Error::Host {
            message: format!(
                "the runner of `{name}` is Wine, which is a package of Debian; its base has none"
            ),
            hints: vec![
                "take `base` out of [environment] of the recipe, or name a suite of Debian there".into(),
            ],
        });
    }
    let has_i386 = environment.architectures.contains(&Architecture::I386);
    if let (Some(program), false) = (programs.bits_32, has_i386) {
        return Err(Error::Architecture {
            program: program.trim_start_matches('/').to_owned(),
            architecture: "i386".into(),
        });
    }
    let windows = programs.windows || located.recipe.run.display != crate::recipe::Display::None;
    Ok(wine::packages(has_i386, windows))
}

/// The suites with Wine, the newest first: what a program lacks in one, it has in a newer one rather than in an older.
///
/// # Errors
/// Those of reading the indices.
pub(crate) fn by_newest(
    request: &choose::Request<'_>,
    progress: &dyn hatchway_envs::Progress,
) -> Result<Vec<String>, Error> {
    let mut found: Vec<(String, Option<String>)> = Vec::new();
    for suite in &request.suites {
        let index = match choose::suite_index(request, suite, progress) {
            // What is wrong with the mirror is among the reasons when the suite is tried, which is last then.
            Err(hatchway_envs::Error::OutOfStep { .. }) => None,
            other => other?,
        };
        let version = index.and_then(|index| {
            let newest = index.newest_of(wine::PACKAGE, &index.native)?;
            Some(index.packages[newest].version.clone())
        });
        found.push((suite.clone(), version));
    }
    Ok(ordered(found))
}

/// Of the same Wine the suite that was named first; those without any come last, and say so when they are tried.
fn ordered(mut found: Vec<(String, Option<String>)>) -> Vec<String> {
    found.sort_by(|(_, one), (_, other)| match (one, other) {
        (Some(one), Some(other)) => version::compare(other, one),
        (one, other) => other.is_some().cmp(&one.is_some()),
    });
    found.into_iter().map(|(suite, _)| suite).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_wine_comes_first() {
        let suite = |name: &str, version: Option<&str>| (name.to_owned(), version.map(str::to_owned));
        let found = vec![
            suite("bookworm", Some("8.0~repack-4")),
            suite("none", None),
            suite("trixie", Some("10.0~repack-6")),
            suite("sid", Some("10.0~repack-6")),
        ];
        assert_eq!(ordered(found), ["trixie", "sid", "bookworm", "none"]);
    }
}
