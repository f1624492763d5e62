//! From wanted packages to a closure, solved with `resolvo`; and who in a closure needs whom.
//!
//! A package is a solvable of its own name, `name:i386` where it is of a foreign architecture. Each name in its
//! `Provides` gets a second, virtual solvable that requires the package itself, and that the package requires; so does
//! its own name in the other architectures where it is `Multi-Arch: foreign`, and `name:any` where it is `allowed`.
//! `a | b` is a union of version sets; `Conflicts` and `Breaks` constrain a name to what they do not match, the package
//! itself excepted (a package may conflict with the virtual name it provides). Two packages of one name and different
//! architectures go together in the same version and `Multi-Arch: same` only.

mod edges;
mod provider;

use std::collections::{BTreeSet, HashMap};

use resolvo::{ConditionalRequirement, Problem, Solver, UnsolvableOrCancelled};

pub use edges::{dependencies, meets};

use crate::debian::index::SuiteIndex;
use crate::debian::relation::Alternatives;
use crate::digest::Sha256;
use provider::Provider;

/// Alternatives, and the architecture of whoever asks for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What a relation without a qualifier means.
    pub architecture: String,
    /// One of these.
    pub alternatives: Alternatives,
}

/// What the closure has to satisfy.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Each group needs one of its alternatives.
    pub groups: Vec<Group>,
    /// Names that are left out wherever they are asked for.
    pub exclude: BTreeSet<String>,
    /// Exact versions, by name.
    pub pins: HashMap<String, String>,
    /// The architectures that packages may be of.
    pub architectures: Vec<String>,
    /// Files that are taken before newer ones: those of the lock before.
    pub preferred: BTreeSet<Sha256>,
}

/// Solves for a closure. Gives the positions of its packages in the index, sorted by name.
///
/// # Errors
/// The solver's explanation, as readable text.
pub fn closure(index: &SuiteIndex, wanted: &Wanted) -> Result<Vec<usize>, String> {
    let provider = Provider::new(index, wanted);
    let requirements: Vec<ConditionalRequirement> =
        wanted.groups.iter().filter_map(|group| provider.requirement(group)).map(Into::into).collect();
    let mut solver = Solver::new(provider);
    let solution = match solver.solve(Problem::new().requirements(requirements)) {
        Ok(solution) => solution,
        Err(UnsolvableOrCancelled::Unsolvable(conflict)) => {
            return Err(readable(&conflict.display_user_friendly(&solver).to_string()));
        }
        Err(UnsolvableOrCancelled::Cancelled(_)) => return Err("the solver was stopped".into()),
    };
    let mut packages = solver.provider().packages(&solution);
    packages.sort_by_key(|&i| (&index.packages[i].name, &index.packages[i].architecture));
    packages.dedup();
    Ok(packages)
}

/// The solver's tree in the words of packages.
fn readable(text: &str) -> String {
    const WORDS: [(&str, &str); 6] = [
        (" (any)", ""),
        ("would constrain", "conflicts with"),
        ("would require", "depends on"),
        (" can be installed with any of the following options:", " could be one of:"),
        (", which could be one of:", ", of which there is:"),
        (" cannot be installed because there are no viable options:", " cannot be installed:"),
    ];
    let mut text = text.trim_end().to_owned();
    for (theirs, ours) in WORDS {
        text = text.replace(theirs, ours);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debian::{packages, relation};
    use crate::digest::Sha256;

    /// `name[:architecture] version; Field: value; …`
    fn index(lines: &[&str]) -> SuiteIndex {
        let mut text = String::new();
        for line in lines {
            let (head, fields) = line.split_once(';').unwrap_or((line, ""));
            let (name, version) = head.split_once(' ').unwrap();
            let (name, architecture) = name.split_once(':').unwrap_or((name, "amd64"));
            let digest = Sha256::of(line.as_bytes());
            text += &format!(
                "Package: {name}\nVersion: {version}\nArchitecture: {architecture}\nFilename: {name}.deb\nSize: 1\n\
                 SHA256: {digest}\n{}\n\n",
                fields.replace(';', "\n").replace("\n ", "\n").trim()
            );
        }
        SuiteIndex::of(packages::parse(&text, 0))
    }

    fn names(index: &SuiteIndex, wanted: &[&str]) -> Result<Vec<String>, String> {
        solve(index, wanted, &[])
    }

    fn solve(index: &SuiteIndex, wanted: &[&str], exclude: &[&str]) -> Result<Vec<String>, String> {
        let exclude = exclude.iter().map(|name| (*name).to_owned()).collect();
        let wanted = Wanted { exclude, ..asking(wanted) };
        Ok(closure(index, &wanted)?.into_iter().map(|i| index.packages[i].name.clone()).collect())
    }

    fn asking(wanted: &[&str]) -> Wanted {
        let groups = wanted.iter().flat_map(|text| relation::parse(text, "amd64").unwrap());
        let groups =
            groups.map(|alternatives| Group { architecture: "amd64".into(), alternatives }).collect();
        let architectures = ["amd64", "i386"].map(str::to_owned).to_vec();
        Wanted { groups, architectures, ..Wanted::default() }
    }

    /// `name:architecture` of each package in the closure, `Architecture: all` as it is.
    fn both(index: &SuiteIndex, wanted: &[&str]) -> Result<Vec<String>, String> {
        let shown = |i: usize| format!("{}:{}", index.packages[i].name, index.packages[i].architecture);
        Ok(closure(index, &asking(wanted))?.into_iter().map(shown).collect())
    }

    #[test]
    fn the_closure_follows_depends_and_pre_depends_and_takes_the_first_alternative() {
        let index =
            index(&["a 1; Depends: b | c, d (>= 2); Pre-Depends: e", "b 1", "c 1", "d 2", "e 1", "f 1"]);
        assert_eq!(names(&index, &["a"]).unwrap(), ["a", "b", "d", "e"]);
    }

    #[test]
    fn a_virtual_name_is_satisfied_by_a_provider_that_is_wanted_anyway() {
        let index = index(&["a 1; Depends: awk", "gawk 5; Provides: awk", "mawk 1; Provides: awk"]);
        assert_eq!(names(&index, &["a", "mawk"]).unwrap(), ["a", "mawk"]);
        assert_eq!(names(&index, &["a"]).unwrap(), ["a", "gawk"]);
    }

    #[test]
    fn an_unversioned_provides_does_not_satisfy_a_versioned_relation() {
        let plain = index(&["a 1; Depends: v (>= 1)", "p 1; Provides: v"]);
        assert!(names(&plain, &["a"]).is_err());
        let versioned = index(&["a 1; Depends: v (>= 1)", "p 1; Provides: v (= 1.5)"]);
        assert_eq!(names(&versioned, &["a"]).unwrap(), ["a", "p"]);
    }

    #[test]
    fn conflicts_exclude_each_other_but_not_a_package_and_its_own_name() {
        let mta = &["x 1; Provides: mta; Conflicts: mta", "y 1; Provides: mta; Conflicts: mta"];
        assert_eq!(names(&index(mta), &["x"]).unwrap(), ["x"]);
        let why = names(&index(mta), &["x", "y"]).unwrap_err();
        assert!(why.contains('x') && why.contains('y'), "{why}");
        let breaks = index(&["a 1; Breaks: b (<< 2)", "b 1", "c 1; Depends: b"]);
        assert!(names(&breaks, &["a", "c"]).is_err());
        assert_eq!(names(&breaks, &["a"]).unwrap(), ["a"]);
    }

    #[test]
    fn what_is_left_out_asks_for_nothing() {
        let index = index(&[
            "a 1; Depends: debconf | debconf-2.0, b",
            "debconf 1; Depends: perl",
            "cdebconf 1; Provides: debconf-2.0",
            "perl 5",
            "b 1",
        ]);
        assert_eq!(solve(&index, &["a"], &["debconf"]).unwrap(), ["a", "b"]);
    }

    #[test]
    fn an_unsatisfiable_closure_says_why() {
        let index = index(&["a 1; Depends: b (>= 2)", "b 1"]);
        let why = names(&index, &["a"]).unwrap_err();
        assert!(why.contains("a 1 depends on") && why.contains("b (>= 2)"), "{why}");
    }

    #[test]
    fn an_i386_package_gets_i386_libraries_and_any_program() {
        let index = index(&[
            "a:i386 1; Depends: lib, tool, plain:any",
            "lib 1; Multi-Arch: same; Depends: data",
            "lib:i386 1; Multi-Arch: same; Depends: data",
            "tool 1; Multi-Arch: foreign; Depends: lib",
            "plain 1; Multi-Arch: allowed",
            "data:all 1; Multi-Arch: foreign",
        ]);
        let expected = ["a:i386", "data:all", "lib:amd64", "lib:i386", "plain:amd64", "tool:amd64"];
        assert_eq!(both(&index, &["a:i386"]).unwrap(), expected);
    }

    #[test]
    fn a_package_for_all_is_a_native_one() {
        let index = index(&["a:i386 1; Depends: data", "data:all 1"]);
        let why = both(&index, &["a:i386"]).unwrap_err();
        assert!(why.contains("a:i386 1 depends on") && why.contains("data:i386"), "{why}");
    }

    #[test]
    fn two_architectures_go_together_in_the_same_version_only() {
        let same = ["lib 1; Multi-Arch: same", "lib:i386 1; Multi-Arch: same"];
        assert_eq!(both(&index(&same), &["lib", "lib:i386"]).unwrap(), ["lib:amd64", "lib:i386"]);
        let other = ["lib 1; Multi-Arch: same", "lib:i386 2; Multi-Arch: same"];
        assert!(both(&index(&other), &["lib", "lib:i386"]).is_err());
        let mixed = ["lib 1; Multi-Arch: same", "lib 2; Multi-Arch: same", "lib:i386 1; Multi-Arch: same"];
        let mixed = index(&mixed);
        let versions: Vec<_> = closure(&mixed, &asking(&["lib", "lib:i386"])).unwrap();
        assert!(versions.iter().all(|&i| mixed.packages[i].version == "1"), "the newest that both have");
        let not_same = ["tool 1", "tool:i386 1"];
        assert!(both(&index(&not_same), &["tool", "tool:i386"]).is_err());
    }

    #[test]
    fn a_conflict_means_every_architecture_but_not_the_package_of_the_same_name() {
        let index = index(&[
            "a 1; Conflicts: b",
            "b:i386 1; Multi-Arch: same",
            "l 1; Multi-Arch: same; Provides: v; Conflicts: v, l",
            "l:i386 1; Multi-Arch: same; Provides: v; Conflicts: v, l",
        ]);
        assert!(both(&index, &["a", "b:i386"]).is_err());
        assert_eq!(both(&index, &["l", "l:i386"]).unwrap(), ["l:amd64", "l:i386"]);
    }

    #[test]
    fn of_several_versions_the_newest_is_taken_unless_pinned_or_preferred() {
        let index = index(&["a 1", "a 3", "a 2", "b 1; Depends: a (>= 3)"]);
        let version = |wanted: &Wanted| {
            closure(&index, wanted).map(|all| {
                let found = all.iter().map(|&i| &index.packages[i]).find(|p| p.name == "a");
                found.unwrap().version.clone()
            })
        };
        assert_eq!(version(&asking(&["a"])).unwrap(), "3");
        let pins: HashMap<_, _> = [("a".to_owned(), "2".to_owned())].into();
        assert_eq!(version(&Wanted { pins: pins.clone(), ..asking(&["a"]) }).unwrap(), "2");
        let why = version(&Wanted { pins, ..asking(&["b"]) }).unwrap_err();
        assert!(why.contains("a 3 is excluded because the recipe pins `a` to 2"), "{why}");
        let preferred = [Sha256::of(b"a 1")].into();
        assert_eq!(version(&Wanted { preferred, ..asking(&["a"]) }).unwrap(), "1");
        let preferred = [Sha256::of(b"a 1")].into();
        assert_eq!(version(&Wanted { preferred, ..asking(&["b"]) }).unwrap(), "3");
    }

    #[test]
    fn dependencies_are_those_that_the_closure_meets_them_with() {
        let index = index(&[
            "a 1; Depends: v, gone | c, left (>= 1)",
            "p 1; Provides: v",
            "c 1",
            "left 1",
            "a:i386 1",
        ]);
        let wanted = Wanted { exclude: ["left".to_owned()].into(), ..asking(&["a"]) };
        let all = closure(&index, &wanted).unwrap();
        let of = dependencies(&index, &wanted, &all);
        let names =
            |list: &[usize]| list.iter().map(|&i| index.packages[all[i]].name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&of[0]), ["c", "p"]);
        assert_eq!(of[1], [0_usize; 0]);
    }
}
