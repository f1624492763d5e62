//! What the vendor's files and the recipe ask for, held against what a suite has.

use std::collections::BTreeSet;

use super::{Attempt, Provided, Refusal};
use crate::debian::contents::{self, Libraries, Provider};
use crate::debian::relation::{Alternatives, Relation};
use crate::error::one_line;
use crate::resolve;

/// The architecture's folder name of the loader.
fn multiarch(architecture: &str) -> &'static str {
    match architecture {
        "i386" => "i386-linux-gnu",
        _ => "x86_64-linux-gnu",
    }
}

impl Attempt<'_> {
    /// For each needed soname the packages that bring it, best first; and the sonames that nobody brings.
    pub(super) fn providers(&self, near: &mut Vec<String>) -> (Vec<Provided<'_>>, Refusal) {
        let asked: BTreeSet<&str> = self
            .request
            .depends
            .iter()
            .flat_map(|asked| &asked.group.alternatives)
            .map(|relation| relation.name.as_str())
            .collect();
        let none = Libraries::new();
        let mut found = Vec::new();
        let mut reasons = Vec::new();
        for need in &self.request.needs {
            let Some(libraries) = self.index.libraries.get(&need.architecture) else {
                reasons.push(format!(
                    "`{}` is for {}, of which nothing was read",
                    one_line(&need.wanted_by),
                    need.architecture
                ));
                continue;
            };
            let preferred = |name: &str| asked.contains(name);
            let folder = multiarch(&need.architecture);
            let providers: Vec<&Provider> = contents::providers(libraries, &need.soname, folder, &preferred)
                .into_iter()
                .filter(|provider| !self.request.exclude.contains(&provider.package))
                .collect();
            if providers.is_empty() {
                reasons.push(format!(
                    "`{}` (needed by {}) is in no package of {}{}",
                    one_line(&need.soname),
                    one_line(&need.wanted_by),
                    self.index.suite,
                    self.for_architecture(&need.architecture)
                ));
                let libraries = self.index.libraries.get(&need.architecture).unwrap_or(&none);
                for name in contents::near_misses(libraries, &need.soname) {
                    if !near.contains(&name) {
                        near.push(name);
                    }
                }
            } else {
                found.push((need, providers));
            }
        }
        (found, reasons)
    }

    fn for_architecture(&self, architecture: &str) -> String {
        if architecture == self.index.native { String::new() } else { format!(" for {architecture}") }
    }

    /// Relations of the artifacts' own packages that no package of the suite can satisfy.
    pub(super) fn missing_depends(&self) -> Refusal {
        let depends = self.request.depends.iter();
        let missing =
            depends.filter(|asked| !self.can_be_met(&asked.group.alternatives, &asked.group.architecture));
        missing
            .map(|asked| {
                let whose = format!("Depends of {}", asked.whose);
                self.missing(&asked.group.alternatives, &asked.group.architecture, &whose)
            })
            .collect()
    }

    /// Packages of the recipe that no package of the suite can satisfy, and those that it leaves out as well.
    pub(super) fn missing_packages(&self) -> Refusal {
        let mut reasons = Vec::new();
        for group in &self.request.packages {
            if let Some(both) = group.iter().find(|r| self.request.exclude.contains(&r.name)) {
                reasons.push(format!("`{}` is in `packages` and in `exclude` of the recipe", both.name));
            } else if !self.can_be_met(group, &self.index.native) {
                reasons.push(self.missing(group, &self.index.native, "in the recipe's `packages`"));
            }
        }
        reasons
    }

    fn can_be_met(&self, group: &Alternatives, architecture: &str) -> bool {
        let met = |relation: &Relation| {
            let direct = self.index.named(&relation.name).iter();
            let provided = self.index.providing(&relation.name).iter().map(|(number, _)| number);
            self.request.exclude.contains(&relation.name)
                || direct.chain(provided).any(|&number| {
                    resolve::meets(self.index, relation, architecture, &self.index.packages[number])
                })
        };
        group.iter().any(met)
    }

    fn missing(&self, group: &Alternatives, architecture: &str, whose: &str) -> String {
        let suite = &self.index.suite;
        let text: Vec<String> = group.iter().map(ToString::to_string).collect();
        let place = format!(
            "`{}` ({whose}) is not in {suite}{}",
            text.join(" | "),
            self.for_architecture(architecture)
        );
        let newest = group.iter().find_map(|r| self.index.newest_of(&r.name, architecture));
        match newest.map(|number| &self.index.packages[number]) {
            Some(package) => format!("{place}, which has {} {}", package.name, package.version),
            None => place,
        }
    }

    /// Pins that the suite cannot meet.
    pub(super) fn missing_pins(&self) -> Refusal {
        let suite = &self.index.suite;
        let mut reasons = Vec::new();
        for (name, pin) in &self.request.pins {
            let mut versions: Vec<&str> =
                self.index.named(name).iter().map(|&i| self.index.packages[i].version.as_str()).collect();
            versions.sort_unstable();
            versions.dedup();
            if versions.is_empty() {
                reasons.push(format!("`{name}` is pinned to {pin}, but {suite} has no package of that name"));
            } else if !versions.contains(&pin.as_str()) {
                reasons.push(format!("`{name}` is pinned to {pin}; {suite} has {}", versions.join(", ")));
            }
        }
        reasons.sort();
        reasons
    }
}
