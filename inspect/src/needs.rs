//! Which libraries the artifact needs, which it brings, and the links that make the loader find them.

use std::collections::{BTreeMap, BTreeSet};

use crate::elf::{ElfFacts, ElfKind, compare_versions};
use crate::resolve::{self, Closure, Listing, Node, Problem, Root};
use crate::{Found, Need, Omission, SonameLink};

/// Files looked for in all. A desktop suite of a thousand programs with a hundred libraries each needs a million.
const LOOKUPS: u64 = 20_000_000;
/// Other places listed for one library.
const ELSEWHERE: usize = 16;

const LINK_RULE: &str = "soname link made by us";

/// Directories that Debian's own `ld.so.conf` names beside those of packages.
fn debian_configured(class: u8, machine: &str) -> Vec<String> {
    let mut directories = vec!["/usr/local/lib".to_owned()];
    directories.extend(resolve::multiarch(class, machine).map(|triplet| format!("/usr/local/lib/{triplet}")));
    directories
}

/// The links `ldconfig` would make. Enters them, and Debian's own loader directories, into the listing.
pub(crate) fn soname_links(elf: &[ElfFacts], listing: &mut Listing) -> Vec<SonameLink> {
    for facts in elf {
        debian_configured(facts.class, &facts.machine)
            .into_iter()
            .for_each(|directory| listing.configure(directory));
    }
    let wanted: BTreeSet<(&str, u8, &str)> = elf
        .iter()
        .flat_map(|facts| {
            facts.needed.iter().map(|name| (name.as_str(), facts.class, facts.machine.as_str()))
        })
        .collect();
    let mut links: BTreeMap<String, &str> = BTreeMap::new();
    for facts in elf {
        let Some((path, name)) = link_for(facts, listing, &wanted) else { continue };
        // Two versions side by side: the newer one, as ldconfig does.
        let target = links.entry(path).or_insert(name);
        if compare_versions(target, name).is_lt() {
            *target = name;
        }
    }
    let links: Vec<SonameLink> =
        links.into_iter().map(|(path, target)| SonameLink { path, target: target.to_owned() }).collect();
    for link in &links {
        listing.insert(&link.path, Node::Symlink(link.target.clone()));
    }
    links
}

/// The link a library should have, and the file name it leads to.
fn link_for<'e>(
    facts: &'e ElfFacts,
    listing: &Listing,
    wanted: &BTreeSet<(&str, u8, &str)>,
) -> Option<(String, &'e str)> {
    let soname = facts.soname.as_deref().filter(|soname| !soname.is_empty() && !soname.contains('/'))?;
    let (directory, name) = facts.path.rsplit_once('/')?;
    if facts.kind != ElfKind::Shared || soname == name || matches!(soname, "." | "..") {
        return None;
    }
    let searched = listing.configured().iter().any(|configured| configured == directory)
        || resolve::default_directories(facts.class, &facts.machine)
            .iter()
            .any(|default| default == directory);
    // ldconfig looks at nothing else in the directories it searches.
    let by_ldconfig =
        searched && (name.starts_with("lib") || name.starts_with("ld-")) && name.contains(".so");
    let by_wish = wanted.contains(&(soname, facts.class, facts.machine.as_str()));
    let path = format!("{directory}/{soname}");
    ((by_ldconfig || by_wish) && !listing.contains(&path)).then_some((path, name))
}

/// What is known about one library while needs are collected.
#[derive(Default)]
struct Wish {
    versions: BTreeSet<String>,
    missing: BTreeSet<String>,
    /// Every file that wants it, with what its loader finds.
    wanters: BTreeMap<String, Option<Found>>,
}

type Wishes = BTreeMap<(String, u8, String), Wish>;

/// Resolves every `DT_NEEDED` of the artifact inside the artifact.
pub(crate) fn needs(
    elf: &[ElfFacts],
    listing: &Listing,
    links: &[SonameLink],
    omitted: &mut Vec<Omission>,
) -> Vec<Need> {
    let links: BTreeSet<&str> = links.iter().map(|link| link.path.as_str()).collect();
    let mut wishes = all_wishes(elf);
    let mut seen = BTreeSet::new();
    let mut lookups = LOOKUPS;
    // Programs first: their libraries are then resolved in the company they keep at run time.
    let programs = elf.iter().filter(|facts| matches!(facts.kind, ElfKind::Executable | ElfKind::Pie));
    let others = elf.iter().filter(|facts| facts.kind == ElfKind::Shared);
    for facts in programs.chain(others) {
        if facts.needed.is_empty() || (facts.kind == ElfKind::Shared && seen.contains(&facts.path)) {
            continue;
        }
        let Some(closure) = resolve::closure_within(listing, &facts.path, &mut lookups) else { continue };
        enter(&mut wishes, &closure, &links);
        seen.extend(closure.objects.into_iter().map(|loaded| loaded.file));
        if lookups == 0 {
            let reason = format!("the search for libraries was ended after {LOOKUPS} lookups");
            omitted.push(Omission { what: "needs".to_owned(), reason });
            break;
        }
    }
    let by_name = files_by_name(elf);
    wishes.into_iter().map(|(key, wish)| need(key, wish, &by_name)).collect()
}

fn all_wishes(elf: &[ElfFacts]) -> Wishes {
    let mut wishes = Wishes::new();
    let linked =
        |facts: &&ElfFacts| matches!(facts.kind, ElfKind::Executable | ElfKind::Pie | ElfKind::Shared);
    for facts in elf.iter().filter(linked) {
        for name in &facts.needed {
            let wish = wishes.entry((name.clone(), facts.class, facts.machine.clone())).or_default();
            wish.wanters.entry(facts.path.clone()).or_default();
            wish.versions.extend(facts.versions_needed.get(name).into_iter().flatten().cloned());
        }
    }
    wishes
}

/// Enters the outcomes of one program; what was found once stays found.
fn enter(wishes: &mut Wishes, closure: &Closure, links: &BTreeSet<&str>) {
    for edge in &closure.edges {
        let Some(found) = edge.found.map(|index| &closure.objects[index]) else { continue };
        let wanter = &closure.objects[edge.wanted_by];
        let key = (edge.name.clone(), wanter.object.class, wanter.object.machine.clone());
        let Some(wish) = wishes.get_mut(&key) else { continue };
        for problem in &edge.problems {
            match problem {
                Problem::MissingVersion { version, weak: false, .. } => {
                    wish.missing.insert(version.clone());
                }
                // It has none of them.
                Problem::NoVersions { asserts: true, .. } => wish.missing.extend(wish.versions.clone()),
                _ => {}
            }
        }
        let Some(outcome) = wish.wanters.get_mut(&wanter.file) else { continue };
        if outcome.is_none() {
            let by_link = links.contains(found.path.as_str());
            let rule = if by_link { LINK_RULE.to_owned() } else { found.rule.to_string() };
            *outcome = Some(Found { path: found.path.clone(), rule });
        }
    }
}

/// Libraries of the artifact by file name and by soname.
fn files_by_name(elf: &[ElfFacts]) -> BTreeMap<&str, Vec<&ElfFacts>> {
    let mut by_name: BTreeMap<&str, Vec<&ElfFacts>> = BTreeMap::new();
    for facts in elf.iter().filter(|facts| facts.kind == ElfKind::Shared) {
        let name = facts.path.rsplit('/').next().unwrap_or_default();
        by_name.entry(name).or_default().push(facts);
        if let Some(soname) = facts.soname.as_deref().filter(|soname| *soname != name) {
            by_name.entry(soname).or_default().push(facts);
        }
    }
    by_name
}

fn need(
    (soname, class, machine): (String, u8, String),
    wish: Wish,
    files: &BTreeMap<&str, Vec<&ElfFacts>>,
) -> Need {
    let found = wish.wanters.values().flatten().next().cloned();
    let missed: Vec<String> =
        wish.wanters.iter().filter(|(_, outcome)| outcome.is_none()).map(|(path, _)| path.clone()).collect();
    let fits = |facts: &&&ElfFacts| facts.class == class && facts.machine == machine;
    let elsewhere = match (&found, files.get(soname.as_str())) {
        (None, Some(files)) => {
            files.iter().filter(fits).take(ELSEWHERE).map(|facts| facts.path.clone()).collect()
        }
        _ => Vec::new(),
    };
    let versions = in_order(wish.versions);
    Need {
        soname,
        class,
        machine,
        versions,
        wanted_by: wish.wanters.into_keys().collect(),
        missed_by: if found.is_some() { missed } else { Vec::new() },
        missing_versions: in_order(wish.missing),
        found,
        elsewhere,
    }
}

/// Oldest first.
fn in_order(versions: BTreeSet<String>) -> Vec<String> {
    let mut versions: Vec<String> = versions.into_iter().collect();
    versions.sort_by(|a, b| compare_versions(a, b));
    versions
}
