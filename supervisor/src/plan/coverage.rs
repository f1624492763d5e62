//! How sure a plan is: what is proven, what is only suspected, and what was not read.

use std::collections::BTreeSet;

use hatchway_inspect::{Appended, EffectKind, Facts, TechnologyKind};
use schemars::JsonSchema;
use serde::Serialize;

use super::rules::Evidence;

/// What is known and what is only suspected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Coverage {
    /// In one word.
    pub sureness: Sureness,
    /// Why it is not higher: the end of a sentence.
    pub because: String,
    /// Libraries that are found inside the artifact.
    pub inside: usize,
    /// ELF libraries that the environment has to bring; `lock` proves them with their symbol versions.
    pub outside: usize,
    /// What only running it would prove.
    pub suspected: Vec<Suspicion>,
}

/// How far static reading goes with an artifact.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Sureness {
    /// Everything was read, and nothing in it hints at more than was found.
    #[default]
    High,
    /// Everything was read; some of it may load more at run time.
    Medium,
    /// Something was not read: it is packed, encrypted, too large or damaged.
    Low,
}

impl std::fmt::Display for Sureness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        })
    }
}

/// Something that static reading cannot settle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Suspicion {
    /// What kind of doubt.
    pub kind: SuspicionKind,
    /// What it is about.
    pub text: String,
}

/// Kinds of doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SuspicionKind {
    /// A part was not read.
    Unread,
    /// A library is there, but not where the loader looks.
    Unreached,
    /// A Windows library is neither inside nor part of Windows.
    Absent,
    /// A library is loaded by name at run time, as the program itself says.
    Declared,
    /// A constant looks like a library that is loaded by name.
    Named,
    /// A script asks for a kernel module that the host may have.
    Module,
}

pub(super) fn coverage(facts: &Facts, evidence: &Evidence<'_>) -> Coverage {
    let mut suspected = Vec::new();
    let (mut inside, mut outside) = (0, 0);
    for (prefix, facts) in facts.all() {
        let at = if prefix.is_empty() { String::new() } else { format!("{prefix}!") };
        unread(facts, &at, &mut suspected);
        let decides = evidence.deciding.iter().any(|(deciding, _)| *deciding == prefix);
        if decides {
            inside += facts.needs.iter().filter(|need| need.found.is_some()).count();
            outside += facts.needs.iter().filter(|need| need.found.is_none()).count();
            unreached(facts, &at, &mut suspected);
            absent(facts, &at, &mut suspected);
            loaded_by_name(facts, &at, &mut suspected);
            requested_modules(facts, &at, &mut suspected);
        }
    }
    suspected.sort_by_key(|one| one.kind);
    let (sureness, because) = sureness(&suspected);
    Coverage { sureness, because, inside, outside, suspected }
}

fn sureness(suspected: &[Suspicion]) -> (Sureness, String) {
    let count = |kind| suspected.iter().filter(|one| one.kind == kind).count();
    let parts =
        |number: usize, one: &str, many: &str| format!("{number} {}", if number == 1 { one } else { many });
    let unread = count(SuspicionKind::Unread);
    if unread > 0 {
        return (Sureness::Low, format!("{} not read", parts(unread, "part was", "parts were")));
    }
    let absent = count(SuspicionKind::Absent);
    if absent > 0 {
        let text = parts(absent, "Windows library is", "Windows libraries are");
        return (Sureness::Medium, format!("{text} neither inside nor part of Windows"));
    }
    let modules = count(SuspicionKind::Module);
    let doubts = suspected.len() - modules;
    if doubts == 0 && modules > 0 {
        let text = parts(modules, "kernel module is asked", "kernel modules are asked");
        return (Sureness::Medium, format!("{text} for, which the host has or has not"));
    }
    if doubts > 0 {
        let text = parts(doubts, "library may be loaded in ways", "libraries may be loaded in ways");
        return (Sureness::Medium, format!("{text} that only a run proves"));
    }
    (Sureness::High, "everything was read, and nothing hints at more".to_owned())
}

fn unread(facts: &Facts, at: &str, suspected: &mut Vec<Suspicion>) {
    let mut add = |text| suspected.push(Suspicion { kind: SuspicionKind::Unread, text });
    for omission in &facts.omitted {
        add(format!("{at}{} was not read: {}", omission.what, omission.reason));
    }
    for contained in &facts.contains {
        if let Some(reason) = &contained.unopened {
            add(format!("{at}{} ({}) was not opened: {reason}", contained.path, contained.format));
        }
    }
    let elf = facts.elf.iter().map(|elf| (&elf.path, &elf.appended));
    let pe = facts.pe.iter().map(|pe| (&pe.path, &pe.appended));
    for (path, appended) in elf.chain(pe) {
        let opened = facts.contains.iter().any(|contained| contained.path == *path);
        if let Some(Appended { offset, size, what }) = appended
            && what == "data"
            && !opened
        {
            add(format!("{at}{path} has {size} bytes behind its end, at {offset:#x}, of no known form"));
        }
    }
    for packer in facts.technologies.iter().filter(|one| one.kind == TechnologyKind::Packer) {
        let file = packer.evidence.first().map_or("", |sign| sign.file.as_str());
        add(format!("{at}{file} is packed by {}: what it is linked with does not show", packer.name));
    }
}

/// A module that the artifact brings is a reason for a rung, not a suspicion.
fn requested_modules(facts: &Facts, at: &str, suspected: &mut Vec<Suspicion>) {
    let underlined = |name: &str| name.replace('-', "_");
    for effect in facts.system.effects.iter().filter(|effect| effect.kind == EffectKind::RequestsModule) {
        let name = underlined(&effect.what);
        if facts.kernel_modules.iter().all(|module| underlined(&module.name) != name) {
            let text = format!("{at}{} loads the kernel module `{}` of the host", effect.script, effect.what);
            suspected.push(Suspicion { kind: SuspicionKind::Module, text });
        }
    }
}

fn unreached(facts: &Facts, at: &str, suspected: &mut Vec<Suspicion>) {
    let mut add = |text| suspected.push(Suspicion { kind: SuspicionKind::Unreached, text });
    for need in &facts.needs {
        if let Some(elsewhere) = need.elsewhere.first() {
            let soname = &need.soname;
            add(format!("`{soname}` is there as {at}{elsewhere}, where the loader does not look by itself"));
        }
        if need.found.is_some() && !need.missed_by.is_empty() {
            add(format!("{at}{} does not find `{}` by itself", need.missed_by.join(", "), need.soname));
        }
    }
}

/// Windows libraries that somebody else has to bring. Debian's archive does not, so that `lock` says nothing of them.
fn absent(facts: &Facts, at: &str, suspected: &mut Vec<Suspicion>) {
    for need in &hatchway_inspect::windows_needs(facts) {
        let when = if need.delayed { " when it is first called" } else { "" };
        let more = need.wanted_by.len().saturating_sub(1);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let by = need.wanted_by.first().map_or("", String::as_str);
        let text = format!(
            "`{}` is wanted by {at}{by}{more}{when}, and is neither inside nor part of Windows",
            need.name
        );
        suspected.push(Suspicion { kind: SuspicionKind::Absent, text });
    }
}

fn loaded_by_name(facts: &Facts, at: &str, suspected: &mut Vec<Suspicion>) {
    let base = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let brought: BTreeSet<String> = facts.elf.iter().map(|elf| base(&elf.path)).collect();
    let brought_too = |name: &str| {
        if brought.contains(&base(name)) { ", which the artifact brings" } else { "" }
    };
    for elf in &facts.elf {
        let file = base(&elf.path);
        for note in &elf.dlopen_notes {
            let text = format!("{at}{file} says it may load {}", note.sonames.join(" or "));
            suspected.push(Suspicion { kind: SuspicionKind::Declared, text });
        }
        for candidate in &elf.dlopen_candidates {
            let name = &candidate.name;
            let text = format!("{at}{file} names `{name}`{}, perhaps to load it", brought_too(name));
            suspected.push(Suspicion { kind: SuspicionKind::Named, text });
        }
    }
    for (path, name, brought) in hatchway_inspect::windows_candidates(facts) {
        let too = if brought { ", which the artifact brings" } else { "" };
        let text = format!("{at}{} names `{name}`{too}, perhaps to load it", base(&path));
        suspected.push(Suspicion { kind: SuspicionKind::Named, text });
    }
}
