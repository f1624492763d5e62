//! Which libraries Windows programs want from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use super::imports::is_runtime;
use crate::Facts;

/// Names that stand for parts of Windows ("Windows API sets").
const API_SETS: [&str; 2] = ["api-ms-", "ext-ms-"];

/// A library that Windows files of an artifact are linked with, and that is neither among its files, nor Windows' own,
/// nor one of Microsoft's runtimes for C and C++.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowsNeed {
    /// Its name, in lower case.
    pub name: String,
    /// The files that are linked with it, sorted.
    pub wanted_by: Vec<String>,
    /// All of them load it at the first call: they start without it.
    pub delayed: bool,
}

/// What the Windows files of an artifact (not of the archives inside) want from outside, sorted by name.
#[must_use]
pub fn windows_needs(facts: &Facts) -> Vec<WindowsNeed> {
    let brought = brought(facts);
    let mut needs: BTreeMap<&str, WindowsNeed> = BTreeMap::new();
    for pe in facts.pe.iter().filter(|pe| !pe.driver) {
        let linked = pe.imports.iter().map(|name| (name, false));
        for (name, delayed) in linked.chain(pe.delay_imports.iter().map(|name| (name, true))) {
            if brought.contains(name) || is_own(name) || is_runtime(name) {
                continue;
            }
            let need = needs.entry(name).or_insert_with(|| WindowsNeed {
                name: name.clone(),
                wanted_by: Vec::new(),
                delayed: true,
            });
            need.delayed &= delayed;
            need.wanted_by.push(pe.path.clone());
        }
    }
    needs.into_values().collect()
}

/// What Windows files may load by name: the file, the name, and whether the artifact brings it.
#[must_use]
pub fn windows_candidates(facts: &Facts) -> Vec<(String, String, bool)> {
    let brought = brought(facts);
    let mut found = BTreeSet::new();
    for pe in facts.pe.iter().filter(|pe| !pe.driver) {
        for candidate in &pe.load_candidates {
            let name = candidate.name.to_ascii_lowercase();
            let base = name.rsplit(['/', '\\']).next().unwrap_or_default();
            if !is_own(base) && !is_runtime(base) {
                found.insert((pe.path.clone(), candidate.name.clone(), brought.contains(base)));
            }
        }
    }
    found.into_iter().collect()
}

/// The names of the files that it brings, in lower case.
pub(crate) fn brought(facts: &Facts) -> BTreeSet<String> {
    facts.pe.iter().map(|pe| pe.path.rsplit('/').next().unwrap_or_default().to_ascii_lowercase()).collect()
}

/// Whether Windows has a library (its name in lower case) by itself, and Wine brings it.
pub(crate) fn is_own(name: &str) -> bool {
    static OWN: OnceLock<BTreeSet<&'static str>> = OnceLock::new();
    let own = OWN
        .get_or_init(|| include_str!("windows.txt").lines().filter(|line| !line.starts_with('#')).collect());
    let with_ending = || format!("{name}.dll");
    API_SETS.iter().any(|set| name.starts_with(set))
        || own.contains(name)
        || (!name.contains('.') && own.contains(with_ending().as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_of_windows_itself() {
        for name in
            ["kernel32.dll", "kernel32", "ws2_32.dll", "winspool.drv", "api-ms-win-core-io-l1-1-0.dll"]
        {
            assert!(is_own(name), "{name}");
        }
        for name in ["acme.dll", "kernel32.dll.dll", "msvcp140.dll", "python3.dll", ""] {
            assert!(!is_own(name), "{name}");
        }
    }
}
