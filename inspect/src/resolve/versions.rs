//! Whether what is loaded has the versions that are wanted of it, as `_dl_check_map_versions` in glibc's
//! `elf/dl-version.c` asks.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Closure, Edge, Problem, Wish};

/// Problems listed for one wish.
const PROBLEMS: usize = 256;
/// Libraries looked at for all objects together.
const LIBRARIES: usize = 100_000;

/// Enters the problems into the edges. `by_name` has every name by which an object is known.
pub(super) fn check(closure: &mut Closure, by_name: &HashMap<String, usize>) {
    // A provider's list is made a set once.
    let mut defined: HashMap<usize, Option<HashSet<String>>> = HashMap::new();
    let mut edges: BTreeMap<(usize, String), usize> = BTreeMap::new();
    for (index, edge) in closure.edges.iter().enumerate() {
        edges.entry((edge.wanted_by, edge.name.clone())).or_insert(index);
    }
    let mut budget = LIBRARIES;
    let mut found: Vec<(usize, String, Option<usize>, Vec<Problem>)> = Vec::new();
    for (wanter, loaded) in closure.objects.iter().enumerate() {
        for needed in &loaded.object.versions_needed {
            if budget == 0 {
                break;
            }
            budget -= 1;
            let provider =
                by_name.get(&needed.library).and_then(|&index| Some((index, closure.objects.get(index)?)));
            let known = edges.contains_key(&(wanter, needed.library.clone()));
            let Some((index, provider)) = provider else {
                // What is linked and not found is a problem already.
                if !known && !closure.edges.iter().any(|edge| edge.name == needed.library) {
                    let library = needed.library.clone();
                    found.push((wanter, library.clone(), None, vec![Problem::NotLoaded { library }]));
                }
                continue;
            };
            let defined = defined.entry(index).or_insert_with(|| {
                provider.object.versions_defined.as_ref().map(|all| all.iter().cloned().collect())
            });
            let library = || needed.library.clone();
            let problems = match defined {
                // `check_match` of `elf/dl-lookup.c` asserts that what a wish for a version names has a table of
                // versions; where there is one, a symbol without a version will do.
                None => vec![Problem::NoVersions {
                    library: library(),
                    provider: provider.path.clone(),
                    asserts: !provider.object.version_table,
                }],
                Some(defined) => needed
                    .versions
                    .iter()
                    .filter(|version| !defined.contains(&version.name))
                    .take(PROBLEMS)
                    .map(|version| Problem::MissingVersion {
                        library: library(),
                        version: version.name.clone(),
                        provider: provider.path.clone(),
                        weak: version.weak,
                    })
                    .collect(),
            };
            if !problems.is_empty() {
                found.push((wanter, library(), Some(index), problems));
            }
        }
    }
    for (wanted_by, name, provider, problems) in found {
        match edges.get(&(wanted_by, name.clone())).and_then(|&index| closure.edges.get_mut(index)) {
            Some(edge) => edge.problems.extend(problems),
            None => closure.edges.push(Edge {
                wanted_by,
                name,
                wish: Wish::Versions,
                found: provider,
                rule: provider.map(|_| super::Rule::Loaded),
                problems,
                passed: Vec::new(),
                tried: Vec::new(),
            }),
        }
    }
}
