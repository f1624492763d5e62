//! Why a package is in a lock.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use super::{Lock, LockedPackage, LockedWheel};
use crate::python::normal_name;

/// What the reason of a Python package that others ask for begins with.
const REQUIRES: &str = "Requires-Dist of ";

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
    /// All that depend on it directly. Of Python packages the lock knows the first one only.
    pub needed_by: Vec<String>,
    /// Whether it is a Python package.
    pub python: bool,
}

/// Says why a package is in the lock, or nothing where it is not.
#[must_use]
pub fn why(lock: &Lock, label: &str) -> Option<Why> {
    let Some(package) = lock.package(label) else { return of_wheel(lock, label) };
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
                python: false,
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

/// What asks for a Python package, up to what nobody asks for.
fn of_wheel(lock: &Lock, name: &str) -> Option<Why> {
    let find = |name: &str| lock.wheels.iter().find(|wheel| wheel.name == normal_name(name));
    let asks = |wheel: &LockedWheel| wheel.why.strip_prefix(REQUIRES).map(str::to_owned);
    let wheel = find(name)?;
    let (mut chain, mut last) = (vec![wheel.name.clone()], wheel);
    while let Some(next) = asks(last).and_then(|name| find(&name)).filter(|next| !chain.contains(&next.name))
    {
        chain.insert(0, next.name.clone());
        last = next;
    }
    Some(Why {
        package: wheel.name.clone(),
        version: wheel.version.clone(),
        source: wheel.file.clone(),
        reason: last.why.clone(),
        chain,
        needed_by: asks(wheel).into_iter().collect(),
        python: true,
    })
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
    fn python_packages_are_told_by_what_asks_for_them() {
        let mut lock = lock(&[("python3", "1", &[])]);
        for (name, why) in [("a-b", "recipe"), ("c", "Requires-Dist of a-b"), ("d", "Requires-Dist of c")] {
            lock.wheels.push(crate::lock::LockedWheel {
                name: name.into(),
                version: "2".into(),
                file: format!("{name}-2-py3-none-any.whl"),
                size: 1,
                sha256: crate::digest::Sha256::of(name.as_bytes()),
                why: why.into(),
            });
        }
        let why = super::why(&lock, "D").unwrap();
        assert_eq!(
            (why.reason.as_str(), &why.chain[..]),
            ("recipe", &["a-b".into(), "c".into(), "d".to_owned()][..])
        );
        assert_eq!(super::why(&lock, "A_b").unwrap().chain, ["a-b"]);
        // One that an artifact asks for, which is no package of the lock.
        lock.wheels[0].why = "Requires-Dist of vendors".into();
        let why = super::why(&lock, "a-b").unwrap();
        assert_eq!((why.chain.len(), &why.needed_by[..]), (1, &["vendors".to_owned()][..]));
        assert_eq!(super::why(&lock, "e"), None);
    }

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
