//! The lock before: its versions are kept as long as they are to be had and nobody asks for newer ones.

use std::collections::BTreeSet;

use hatchway_inspect::archive::{self, EntryKind, Limits, Part};

use super::Request;
use crate::debian::index::SuiteIndex;
use crate::debian::packages;
use crate::digest::Sha256;
use crate::error::Error;
use crate::lock::{Lock, LockedPackage, LockedWheel};
use crate::progress::Progress;
use crate::python::normal_name;
use crate::store::Store;

/// A control file is a page; a larger one is none.
const CONTROL_BYTES_MAX: u64 = 1 << 20;

/// What of the lock before may move.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Upgrade {
    /// Only what must.
    #[default]
    Nothing,
    /// These packages, by label or name, and what must move with them.
    Only(BTreeSet<String>),
    /// Everything, the suite too.
    Everything,
}

impl Upgrade {
    fn moves(&self, package: &LockedPackage, native: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Only(names) => names.contains(&package.name) || names.contains(&package.label(native)),
            Self::Everything => true,
        }
    }

    /// The Python packages of the lock before that stay.
    #[must_use]
    pub fn kept_wheels(&self, before: Option<&Lock>) -> Vec<LockedWheel> {
        let moves = |wheel: &LockedWheel| match self {
            Self::Nothing => false,
            Self::Only(names) => names.iter().any(|name| normal_name(name) == wheel.name),
            Self::Everything => true,
        };
        before.iter().flat_map(|lock| &lock.wheels).filter(|wheel| !moves(wheel)).cloned().collect()
    }
}

/// Files of the lock before.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Those that are taken before newer ones.
    pub(super) preferred: BTreeSet<Sha256>,
    /// Those that only the store has.
    pub(super) dropped: BTreeSet<Sha256>,
}

/// The names to upgrade must be in the lock.
///
/// # Errors
/// [`Error::NotLocked`] for one that is not.
pub fn check(request: &Request<'_>) -> Result<(), Error> {
    let (Upgrade::Only(names), Some(before)) = (&request.upgrade, request.before) else { return Ok(()) };
    let known = |name: &str| {
        before.packages.iter().any(|package| package.name == name || package.label(before.native()) == name)
            || before.kernel.iter().any(|kernel| kernel.name == name || kernel.why == name)
            || before.wheels.iter().any(|wheel| wheel.name == normal_name(name))
    };
    match names.iter().find(|name| !known(name)) {
        Some(name) => Err(Error::NotLocked { package: name.clone() }),
        None => Ok(()),
    }
}

/// The suites in the order to try: that of the lock before first.
#[must_use]
pub fn suites(request: &Request<'_>) -> Vec<String> {
    let mut suites = request.suites.clone();
    if let Some(suite) = lock_before(request).and_then(Lock::suite)
        && let Some(at) = suites.iter().position(|s| s == suite)
    {
        let first = suites.remove(at);
        suites.insert(0, first);
    }
    suites
}

pub(super) fn lock_before<'a>(request: &Request<'a>) -> Option<&'a Lock> {
    request.before.filter(|_| request.upgrade != Upgrade::Everything)
}

/// Says which files the solver shall prefer, and adds to the index those that only the store has.
pub(super) fn prepare(
    request: &Request<'_>,
    index: &mut SuiteIndex,
    progress: &dyn Progress,
) -> Result<Kept, Error> {
    let mut kept = Kept::default();
    let Some(before) = lock_before(request).filter(|lock| lock.suite() == Some(&index.suite)) else {
        return Ok(kept);
    };
    for package in &before.packages {
        if request.upgrade.moves(package, before.native()) {
            continue;
        }
        let listed = |&i: &usize| index.packages[i].sha256 == package.sha256;
        if index.named(&package.name).iter().any(listed) {
            kept.preferred.insert(package.sha256);
        } else if add_stored(request.store, index, package)? {
            kept.preferred.insert(package.sha256);
            kept.dropped.insert(package.sha256);
        } else {
            let (label, version) = (package.label(before.native()), &package.version);
            progress.note(&format!(
                "no mirror has `{label}` {version} any more, and the store has it not either"
            ));
        }
    }
    Ok(kept)
}

/// Adds a package to the index from its file in the store. Nothing, where the file or its source is gone.
fn add_stored(store: &Store, index: &mut SuiteIndex, package: &LockedPackage) -> Result<bool, Error> {
    let path = store.artifact(package.sha256);
    let Some(source) = index.sources.iter().position(|source| source.id == package.source) else {
        return Ok(false);
    };
    if !store.bring(package.sha256, package.size, &package.name)? {
        return Ok(false);
    }
    let mut control = String::new();
    archive::walk::<Error>(&path, &Limits::default(), &mut |part, entry, content| {
        let named = part == Part::Control && entry.path.as_str().trim_start_matches("./") == "control";
        let readable = matches!(entry.kind, EntryKind::File { size } if size <= CONTROL_BYTES_MAX);
        if named && readable {
            content.read_to_string(&mut control).map_err(Error::io("read", &path))?;
        }
        Ok(())
    })?;
    // What the index would say beside the control file, the lock says.
    let text = format!(
        "{}\nFilename: {}\nSize: {}\nSHA256: {}\n",
        control.trim_end(),
        package.path,
        package.size,
        package.sha256
    );
    let Some(found) = packages::parse(&text, source).into_iter().next() else { return Ok(false) };
    if found.name != package.name || found.version != package.version {
        return Ok(false);
    }
    index.add(found);
    Ok(true)
}

/// The lock before, where nothing but the date of an index differs: a lock that still fits is not touched.
pub(super) fn settled(request: &Request<'_>, mut lock: Lock, progress: &dyn Progress) -> Lock {
    for package in lock.packages.iter().filter(|package| package.dropped) {
        let (label, version) = (package.label(lock.native()), &package.version);
        progress.note(&format!("only the store still has `{label}` {version}: no mirror has it any more"));
    }
    let Some(before) = lock_before(request) else { return lock };
    if lock.base == before.base && lock.refused.is_empty() {
        lock.refused.clone_from(&before.refused);
    }
    let unchanged = Lock { sources: before.sources.clone(), ..lock.clone() };
    if unchanged == *before { unchanged } else { lock }
}
