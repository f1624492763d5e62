//! What changes from one lock to the next.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::Lock;
use crate::debian::version;
use crate::digest::Sha256;

/// What becomes of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// It was not there.
    Added,
    /// It is there no more.
    Removed,
    /// It is newer.
    Upgraded,
    /// It is older.
    Downgraded,
    /// The same version, but another file.
    Replaced,
}

/// One package's change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Change {
    /// The package's label.
    pub package: String,
    /// What becomes of it.
    pub kind: Kind,
    /// Its version before.
    pub before: Option<String>,
    /// Its version after.
    pub after: Option<String>,
    /// The size of its file before, in bytes.
    pub bytes_before: u64,
    /// The size of its file after, in bytes.
    pub bytes_after: u64,
}

/// A package or wheel, as far as it is compared.
struct Entry<'a> {
    version: &'a str,
    sha256: Sha256,
    size: u64,
    compare: fn(&str, &str) -> Ordering,
}

/// The changes of packages, by label; a Python package's label is `wheel NAME`.
#[must_use]
pub fn changes(before: &Lock, after: &Lock) -> Vec<Change> {
    let (old, new) = (entries(before), entries(after));
    let labels: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    labels.into_iter().filter_map(|label| change(label, old.get(label), new.get(label))).collect()
}

fn entries(lock: &Lock) -> BTreeMap<String, Entry<'_>> {
    let packages = lock.packages.iter().chain(&lock.kernel).map(|p| {
        let entry = Entry { version: &p.version, sha256: p.sha256, size: p.size, compare: version::compare };
        (p.label(lock.native()), entry)
    });
    let wheels = lock.wheels.iter().map(|w| {
        let entry = Entry { version: &w.version, sha256: w.sha256, size: w.size, compare: compare_wheels };
        (format!("wheel {}", w.name), entry)
    });
    packages.chain(wheels).collect()
}

/// Versions of Python packages (PEP 440). A wheel that was chosen has a version that can be read.
fn compare_wheels(one: &str, other: &str) -> Ordering {
    match (one.parse::<pep440_rs::Version>(), other.parse::<pep440_rs::Version>()) {
        (Ok(one), Ok(other)) => one.cmp(&other),
        _ => one.cmp(other),
    }
}

fn change(label: &str, before: Option<&Entry<'_>>, after: Option<&Entry<'_>>) -> Option<Change> {
    let kind = match (before, after) {
        (None, _) => Kind::Added,
        (_, None) => Kind::Removed,
        (Some(before), Some(after)) => match (before.compare)(before.version, after.version) {
            Ordering::Less => Kind::Upgraded,
            Ordering::Greater => Kind::Downgraded,
            Ordering::Equal if before.sha256 == after.sha256 => return None,
            Ordering::Equal => Kind::Replaced,
        },
    };
    let version = |entry: Option<&Entry<'_>>| entry.map(|entry| entry.version.to_owned());
    let bytes = |entry: Option<&Entry<'_>>| entry.map_or(0, |entry| entry.size);
    Some(Change {
        package: label.to_owned(),
        kind,
        before: version(before),
        after: version(after),
        bytes_before: bytes(before),
        bytes_after: bytes(after),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::tests::lock;

    #[test]
    fn every_kind_of_change_is_told() {
        let before =
            lock(&[("a", "1", &[]), ("b", "1", &[]), ("c", "2", &[]), ("d", "1", &[]), ("e", "1", &[])]);
        let mut after =
            lock(&[("a", "1", &[]), ("b", "2", &[]), ("c", "1", &[]), ("e", "1", &[]), ("f", "1", &[])]);
        after.packages[3].sha256 = crate::digest::Sha256::of(b"rebuilt");
        let kinds: Vec<_> =
            changes(&before, &after).into_iter().map(|change| (change.package, change.kind)).collect();
        let expected = [
            ("b", Kind::Upgraded),
            ("c", Kind::Downgraded),
            ("d", Kind::Removed),
            ("e", Kind::Replaced),
            ("f", Kind::Added),
        ];
        assert_eq!(kinds, expected.map(|(name, kind)| (name.to_owned(), kind)));
    }
}
