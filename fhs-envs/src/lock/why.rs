//! Why a package is in a lock.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use super::{Lock, LockedPackage};

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Why {
    /// The package's label.
    pub package: String,
    /// Its version.
    pub version: String,
    /// Where it comes from.
    pub source: String,
    /// The reason at the root of the chain: `base`, `libz.so.1 of usr/bin/x`, `Depends of x`, `recipe`.
    pub reason: String,
    /// The shortest way from a package that is there for itself to this one, both included.
    pub chain: Vec<String>,
    /// All that depend on it directly.
    pub needed_by: Vec<String>,
}

/// Says why a package is in the lock, or nothing where it is not.
#[must_use]
pub fn why(lock: &Lock, label: &str) -> Option<Why> {
    let package = lock.package(label)?;
    let dependents = dependents(lock);
    let needed_by = |label: &str| dependents.get(label).cloned().unwrap_or_default();
    // Breadth first, from the package up: the first that is there for itself ends the shortest chain.
    let mut queue = VecDeque::from([vec![label.to_owned()]]);
    let mut seen = vec![label.to_owned()];
    while let Some(way) = queue.pop_front() {
        let last = way.last().map_or("", String::as_str);
        let Some(there) = lock.package(last) else { continue };
        if is_root(there) {
            return Some(Why {
                package: label.to_owned(),
                version: package.version.clone(),
                source: package.source.clone(),
                reason: there.why.clone(),
                chain: way.into_iter().rev().collect(),
                needed_by: needed_by(label),
            });
        }
        for next in needed_by(last) {
            if !seen.contains(&next) {
                seen.push(next.clone());
                queue.push_back([&way[..], &[next]].concat());
            }
        }
    }
    None
}

fn is_root(package: &LockedPackage) -> bool {
    package.why != "dependency"
}

fn dependents(lock: &Lock) -> BTreeMap<&str, Vec<String>> {
    let mut dependents: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for package in &lock.packages {
        for dependency in &package.dependencies {
            dependents.entry(dependency).or_default().push(package.label(lock.native()));
        }
    }
    dependents
}

#[cfg(test)]
mod tests {
    use crate::lock::tests::lock;

    #[test]
    fn the_shortest_chain_is_told_and_everybody_who_depends_on_it() {
        let mut lock = lock(&[
            ("deep", "1", &[]),
            ("far", "1", &["deep"]),
            ("farther", "1", &["far"]),
            ("near", "1", &["deep"]),
            ("root", "1", &["near", "farther"]),
        ]);
        lock.packages[4].why = "recipe".into();
        let why = super::why(&lock, "deep").unwrap();
        assert_eq!(why.chain, ["root", "near", "deep"]);
        assert_eq!(
            (why.reason.as_str(), &why.needed_by[..]),
            ("recipe", &["far".to_owned(), "near".into()][..])
        );
        assert_eq!(super::why(&lock, "root").unwrap().chain, ["root"]);
        assert_eq!(super::why(&lock, "nobody"), None);
    }
}
