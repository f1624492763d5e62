//! What changed between two versions of a vendor's software, in the terms of the facts.
//!
//! Every area of the facts is a table of subjects and what is said of each; a change is a subject that came, went, or of
//! which something else is said. Where the package's version stands in a path, or the number in which the names of both
//! artifacts differ, it counts as the same on both sides.

mod names;
mod tables;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::names::Names;
use crate::elf::compare_versions;
use crate::{ArtifactFacts, Facts};

/// The version of [`Diff`] this crate writes.
pub const DIFF_SCHEMA: u32 = 1;

/// Lines of context-free script differences kept for one script.
const SCRIPT_LINES: usize = 400;

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Diff {
    /// [`DIFF_SCHEMA`].
    #[schemars(extend("const" = DIFF_SCHEMA))]
    pub schema: u32,
    /// The older artifact.
    pub old: ArtifactFacts,
    /// The newer artifact.
    pub new: ArtifactFacts,
    /// By area, in the order of [`Area`]; within one by subject.
    pub changes: Vec<Change>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Which part of the facts.
    pub area: Area,
    /// What happened.
    pub kind: ChangeKind,
    /// What it is about: a library, a path, a script; with the archive inside that it belongs to before it.
    pub subject: String,
    /// What was said of it before; `None` if it is new.
    pub old: Option<String>,
    /// What is said of it now; `None` if it is gone.
    pub new: Option<String>,
    /// Of a changed script, the lines that went (`-`) and came (`+`).
    pub lines: Vec<String>,
}

/// What happened to a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// Something else is said of it.
    Changed,
    /// A newer version is wanted than before: of symbols, of the kernel, of a package.
    Raised,
    /// An older version suffices.
    Lowered,
}

/// Parts of the facts, those that matter most to whoever runs the software first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Area {
    /// Name, version, architecture, licence.
    Package,
    /// Libraries it needs from outside.
    Libraries,
    /// The newest symbol version wanted from each library.
    SymbolVersions,
    /// What the package declares that it depends on.
    Declared,
    /// Programs a person could start.
    Programs,
    /// Search paths, flags and stacks of the programs and libraries that both have.
    Linking,
    /// Maintainer scripts and scriptlets.
    Scripts,
    /// Units, rules, accounts, cron and the like.
    System,
    /// setuid bits, capabilities, device nodes, files that give rights.
    Rights,
    /// Kernel modules and Windows drivers.
    Drivers,
    /// Licence managers, toolkits, device classes.
    Technologies,
    /// URLs, hosts and ports among constants.
    Endpoints,
    /// Absolute paths among constants.
    Paths,
    /// Libraries that may be loaded by name.
    LoadedByName,
    /// Libraries it brings for itself.
    Bundled,
    /// Windows programs and libraries.
    Windows,
    /// What could not be read.
    Unread,
    /// Archives inside.
    Archives,
}

/// Compares two artifacts.
#[must_use]
pub fn diff(old: &Facts, new: &Facts) -> Diff {
    let [old_names, new_names] = Names::of(old, new);
    let (before, after) = (tables::of(old, &old_names), tables::of(new, &new_names));
    let mut changes = Vec::new();
    for area in tables::AREAS {
        let empty = BTreeMap::new();
        let (before, after) = (before.get(&area).unwrap_or(&empty), after.get(&area).unwrap_or(&empty));
        changes.extend(compare(area, before, after));
    }
    for change in changes.iter_mut().filter(|change| change.area == Area::Scripts) {
        change.lines = script_lines((old, &old_names), (new, &new_names), &change.subject);
    }
    Diff { schema: DIFF_SCHEMA, old: old.artifact.clone(), new: new.artifact.clone(), changes }
}

type Table = BTreeMap<String, String>;

fn compare(area: Area, before: &Table, after: &Table) -> Vec<Change> {
    let mut subjects: Vec<&String> = before.keys().chain(after.keys()).collect();
    subjects.sort();
    subjects.dedup();
    let change = |subject: &String| {
        let (old, new) = (before.get(subject).cloned(), after.get(subject).cloned());
        let kind = match (&old, &new) {
            // What is new or gone is said elsewhere.
            (None, _) | (_, None) if area == Area::Linking => return None,
            (None, _) => ChangeKind::Added,
            (_, None) => ChangeKind::Removed,
            (Some(old), Some(new)) if old == new => return None,
            (Some(old), Some(new)) => change_of(area, old, new),
        };
        Some(Change { area, kind, subject: subject.clone(), old, new, lines: Vec::new() })
    };
    subjects.into_iter().filter_map(change).collect()
}

fn change_of(area: Area, old: &str, new: &str) -> ChangeKind {
    match (area, compare_versions(old, new)) {
        (Area::SymbolVersions, std::cmp::Ordering::Less) => ChangeKind::Raised,
        (Area::SymbolVersions, std::cmp::Ordering::Greater) => ChangeKind::Lowered,
        _ => ChangeKind::Changed,
    }
}

/// Lines that only one side of a script has, in the order of a line-by-line comparison.
fn script_lines(old: (&Facts, &Names), new: (&Facts, &Names), subject: &str) -> Vec<String> {
    let text = |(facts, names): (&Facts, &Names)| {
        let scripts = tables::scripts(facts, names);
        scripts.into_iter().find(|(name, _)| name == subject).map(|(_, script)| script.text.clone())
    };
    let (old, new) = (text(old).unwrap_or_default(), text(new).unwrap_or_default());
    let difference = similar::TextDiff::from_lines(old.as_str(), new.as_str());
    let changed = difference.iter_all_changes().filter(|change| change.tag() != similar::ChangeTag::Equal);
    changed
        .take(SCRIPT_LINES)
        .map(|change| format!("{}{}", change.tag(), change.value().trim_end()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Need, PackageFacts, PackageKind, ScriptFacts, archive::Limits};

    fn facts(version: &str) -> Facts {
        let bytes = b"#!/bin/sh\n".as_slice();
        let mut facts = crate::inspect_bytes(std::path::Path::new("x"), bytes, &Limits::default()).unwrap();
        facts.programs[0].path = format!("/opt/acme-{version}/run");
        facts.package = Some(PackageFacts::new(PackageKind::Deb, "acme".into(), format!("{version}-1")));
        facts
    }

    fn need(soname: &str, version: &str) -> Need {
        Need {
            soname: soname.into(),
            class: 64,
            machine: "x86-64".into(),
            versions: vec![version.into()],
            wanted_by: vec!["/opt/run".into()],
            found: None,
            missed_by: Vec::new(),
            missing_versions: Vec::new(),
            elsewhere: Vec::new(),
        }
    }

    fn script(text: &str, calls: &[&str]) -> ScriptFacts {
        ScriptFacts {
            name: "postinst".into(),
            interpreter: Some("/bin/sh".into()),
            sha256: text.into(),
            lines: text.lines().count(),
            calls: calls.iter().map(|&call| call.to_owned()).collect(),
            actions: Vec::new(),
            writes: Vec::new(),
            removes: Vec::new(),
            text: text.into(),
        }
    }

    #[test]
    fn the_same_is_no_change_and_a_version_in_a_path_is_none_either() {
        assert_eq!(diff(&facts("1.2"), &facts("1.2")).changes, []);
        let changes = diff(&facts("1.2"), &facts("1.3")).changes;
        assert_eq!(changes.iter().map(|c| c.area).collect::<Vec<_>>(), [Area::Package]);
        assert_eq!(changes[0].new.as_deref(), Some("1.3-1"));
    }

    #[test]
    fn raised_symbol_versions_are_told_from_new_libraries() {
        let (mut old, mut new) = (facts("1"), facts("1"));
        old.needs = vec![need("libc.so.6", "GLIBC_2.9"), need("libgone.so.1", "")];
        new.needs = vec![need("libc.so.6", "GLIBC_2.34"), need("libusb-1.0.so.0", "")];
        let changes = diff(&old, &new).changes;
        let told: Vec<(Area, ChangeKind, &str)> =
            changes.iter().map(|c| (c.area, c.kind, c.subject.as_str())).collect();
        assert_eq!(
            told,
            [
                (Area::Libraries, ChangeKind::Removed, "libgone.so.1"),
                (Area::Libraries, ChangeKind::Added, "libusb-1.0.so.0"),
                (Area::SymbolVersions, ChangeKind::Raised, "libc.so.6 GLIBC"),
            ]
        );
        assert_eq!(diff(&new, &old).changes[2].kind, ChangeKind::Lowered);
    }

    #[test]
    fn versions_without_a_number_are_no_newer_ones() {
        let (mut old, mut new) = (facts("1"), facts("1"));
        old.needs = vec![need("libc.so.6", "GLIBC_2.34")];
        new.needs = vec![need("libc.so.6", "GLIBC_2.34")];
        new.needs[0].versions.push("GLIBC_ABI_DT_RELR".into());
        let changes = diff(&old, &new).changes;
        assert_eq!((changes.len(), changes[0].kind), (1, ChangeKind::Added));
        assert_eq!(changes[0].subject, "libc.so.6 GLIBC_ABI_DT_RELR");
    }

    #[test]
    fn what_is_appended_is_compared_by_what_it_is_for() {
        let (mut old, mut new) = (facts("1"), facts("1"));
        for (facts, name, version) in
            [(&mut old, "x-1.0.run", "GLIBC_2.9"), (&mut new, "x-2.0.run", "GLIBC_2.34")]
        {
            facts.package = None;
            facts.artifact.file = name.to_owned();
            facts.programs[0].path = format!("/{name}");
            let mut inner = facts.clone();
            inner.programs.clear();
            inner.needs = vec![need("libc.so.6", version)];
            facts.contains = vec![crate::Contained {
                path: format!("/{name}"),
                offset: 17,
                size: 1,
                format: "tar.gz".into(),
                files: 1,
                facts: Some(Box::new(inner)),
                unopened: None,
            }];
        }
        let changes = diff(&old, &new).changes;
        let told: Vec<(Area, ChangeKind, &str)> =
            changes.iter().map(|c| (c.area, c.kind, c.subject.as_str())).collect();
        let subject = "/x-{version}.run!libc.so.6 GLIBC";
        assert_eq!(told, [(Area::SymbolVersions, ChangeKind::Raised, subject)]);
    }

    #[test]
    fn changed_scripts_show_their_lines() {
        let (mut old, mut new) = (facts("1"), facts("1"));
        old.scripts = vec![script("#!/bin/sh\nldconfig\n", &["ldconfig"])];
        new.scripts = vec![script("#!/bin/sh\nldconfig\nuseradd acme\n", &["ldconfig", "useradd"])];
        let changes = diff(&old, &new).changes;
        assert_eq!(
            (changes.len(), changes[0].area, changes[0].kind),
            (1, Area::Scripts, ChangeKind::Changed)
        );
        assert_eq!(changes[0].lines, ["+useradd acme"]);
    }
}
