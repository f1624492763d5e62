//! From wanted packages to a closure, solved with `resolvo`.
//!
//! A package is a solvable of its own name. Each name in its `Provides` gets a second, virtual solvable that requires
//! the package itself, and that the package requires. `a | b` is a union of version sets; `Conflicts` and `Breaks` constrain a name to what they do
//! not match, the package itself excepted (a package may conflict with the virtual name it provides).

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use resolvo::utils::{Pool, VersionSet};
use resolvo::{
    Candidates, Condition, ConditionId, ConditionalRequirement, Dependencies, DependencyProvider, Interner,
    KnownDependencies, NameId, Problem, Requirement, SolvableId, Solver, SolverCache, StringId,
    UnsolvableOrCancelled, VersionSetId, VersionSetUnionId,
};

use crate::debian::index::SuiteIndex;
use crate::debian::packages::Package;
use crate::debian::relation::{self, Alternatives, Operator};
use crate::debian::version;

/// What the closure has to satisfy.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Each group needs one of its alternatives.
    pub groups: Vec<Alternatives>,
    /// Names that are left out wherever they are asked for.
    pub exclude: BTreeSet<String>,
    /// Exact versions, by name.
    pub pins: HashMap<String, String>,
}

/// Solves for a closure. Gives the positions of its packages in the index, sorted by name.
///
/// # Errors
/// The solver's explanation, as readable text.
pub fn closure(index: &SuiteIndex, wanted: &Wanted) -> Result<Vec<usize>, String> {
    let provider = Provider { index, wanted, pool: Pool::new() };
    let requirements: Vec<ConditionalRequirement> =
        wanted.groups.iter().filter_map(|group| provider.requirement(group)).map(Into::into).collect();
    let mut solver = Solver::new(provider);
    let solution = match solver.solve(Problem::new().requirements(requirements)) {
        Ok(solution) => solution,
        Err(UnsolvableOrCancelled::Unsolvable(conflict)) => {
            return Err(conflict.display_user_friendly(&solver).to_string().trim_end().to_owned());
        }
        Err(UnsolvableOrCancelled::Cancelled(_)) => return Err("the solver was stopped".into()),
    };
    let pool = &solver.provider().pool;
    let mut packages: Vec<usize> = solution
        .iter()
        .map(|&id| &pool.resolve_solvable(id).record)
        .filter(|c| c.real)
        .map(|c| c.package)
        .collect();
    packages.sort_by_key(|&i| (&index.packages[i].name, &index.packages[i].architecture));
    packages.dedup();
    Ok(packages)
}

/// A solvable: a package, or a name that it provides.
#[derive(Debug, Clone)]
struct Candidate {
    package: usize,
    /// Of the package, or the version it provides, if it says one.
    version: Option<String>,
    real: bool,
    /// As people know it.
    label: String,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

/// What versions of a name are meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Versions {
    constraint: Option<(Operator, String)>,
    scope: Scope,
}

/// Which candidates a set speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Scope {
    /// Those that meet the constraint.
    All,
    /// A conflict of this package: those that do not meet it, and the package's own.
    ConflictOf(usize),
    /// The name as this package provides it.
    ProvidedBy(usize),
}

impl Versions {
    fn contains(&self, candidate: &Candidate) -> bool {
        let inside = match (&self.constraint, &candidate.version) {
            (None, _) => true,
            // Policy 7.5: an unversioned Provides does not satisfy a versioned relation.
            (Some(_), None) => false,
            (Some((operator, wanted)), Some(version)) => operator.holds(version, wanted),
        };
        match self.scope {
            Scope::All => inside,
            Scope::ConflictOf(owner) => candidate.package == owner || !inside,
            Scope::ProvidedBy(owner) => candidate.package == owner && !candidate.real,
        }
    }
}

impl VersionSet for Versions {
    type V = Candidate;
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.constraint, self.scope) {
            (_, Scope::ProvidedBy(_)) => f.write_str("(provided)"),
            (Some((operator, version)), Scope::ConflictOf(_)) => write!(f, "not ({operator} {version})"),
            (None, Scope::ConflictOf(_)) => f.write_str("(conflict)"),
            (Some((operator, version)), Scope::All) => write!(f, "({operator} {version})"),
            (None, Scope::All) => f.write_str("(any)"),
        }
    }
}

struct Provider<'a> {
    index: &'a SuiteIndex,
    wanted: &'a Wanted,
    pool: Pool<Versions>,
}

impl Provider<'_> {
    /// A group with a name that is left out asks for nothing: leaving `debconf` out must not bring in the other
    /// implementation of `debconf | debconf-2.0`.
    fn requirement(&self, group: &Alternatives) -> Option<Requirement> {
        if group.iter().any(|relation| self.wanted.exclude.contains(&relation.name)) {
            return None;
        }
        let mut sets = group.iter().map(|relation| {
            let name = self.pool.intern_package_name(relation.name.clone());
            let versions = Versions { constraint: relation.constraint.clone(), scope: Scope::All };
            self.pool.intern_version_set(name, versions)
        });
        let first = sets.next()?;
        let rest: Vec<VersionSetId> = sets.collect();
        if rest.is_empty() {
            return Some(first.into());
        }
        Some(self.pool.intern_version_set_union(first, rest.into_iter()).into())
    }

    fn package_dependencies(&self, number: usize) -> Result<KnownDependencies, String> {
        let package = &self.index.packages[number];
        let parse = |field: &str| {
            relation::parse(field, &package.architecture).map_err(|e| format!("{}: {e}", package.name))
        };
        let mut known = KnownDependencies::default();
        for field in [&package.pre_depends, &package.depends] {
            let groups = parse(field)?;
            known.requirements.extend(
                groups.iter().filter_map(|g| self.requirement(g)).map(Into::<ConditionalRequirement>::into),
            );
        }
        for relation in parse(&package.conflicts)?.into_iter().flatten() {
            let name = self.pool.intern_package_name(relation.name);
            let versions = Versions { constraint: relation.constraint, scope: Scope::ConflictOf(number) };
            known.constrains.push(self.pool.intern_version_set(name, versions));
        }
        // A package brings the names it provides with it, so that a conflict with such a name excludes the package.
        for relation in parse(&package.provides)?.into_iter().flatten() {
            let name = self.pool.intern_package_name(relation.name);
            let versions = Versions { constraint: None, scope: Scope::ProvidedBy(number) };
            known.requirements.push(self.pool.intern_version_set(name, versions).into());
        }
        Ok(known)
    }

    fn pinned(&self, package: &Package) -> bool {
        self.wanted.pins.get(&package.name).is_none_or(|pin| *pin == package.version)
    }
}

impl Interner for Provider<'_> {
    type NameId = NameId;
    type SolvableId = SolvableId;

    fn display_solvable(&self, solvable: SolvableId) -> impl fmt::Display + '_ {
        &self.pool.resolve_solvable(solvable).record
    }

    fn display_merged_solvables(&self, solvables: &[SolvableId]) -> impl fmt::Display + '_ {
        let mut labels: Vec<&str> =
            solvables.iter().map(|&id| self.pool.resolve_solvable(id).record.label.as_str()).collect();
        labels.sort_unstable();
        labels.dedup();
        labels.join(" | ")
    }

    fn display_name(&self, name: NameId) -> impl fmt::Display + '_ {
        self.pool.resolve_package_name(name)
    }

    fn display_version_set(&self, version_set: VersionSetId) -> impl fmt::Display + '_ {
        self.pool.resolve_version_set(version_set)
    }

    fn display_string(&self, string_id: StringId) -> impl fmt::Display + '_ {
        self.pool.resolve_string(string_id)
    }

    fn version_set_name(&self, version_set: VersionSetId) -> NameId {
        self.pool.resolve_version_set_package_name(version_set)
    }

    fn solvable_name(&self, solvable: SolvableId) -> NameId {
        self.pool.resolve_solvable(solvable).name
    }

    fn version_sets_in_union(&self, union: VersionSetUnionId) -> impl Iterator<Item = VersionSetId> {
        self.pool.resolve_version_set_union(union)
    }

    fn resolve_condition(&self, condition: ConditionId) -> Condition {
        self.pool.resolve_condition(condition).clone()
    }
}

impl DependencyProvider for Provider<'_> {
    async fn filter_candidates(
        &self,
        candidates: &[SolvableId],
        version_set: VersionSetId,
        inverse: bool,
    ) -> Vec<SolvableId> {
        let versions = self.pool.resolve_version_set(version_set);
        let keep = |id: &SolvableId| versions.contains(&self.pool.resolve_solvable(*id).record) != inverse;
        candidates.iter().copied().filter(keep).collect()
    }

    async fn get_candidates(&self, name: NameId) -> Option<Candidates> {
        let text = self.pool.resolve_package_name(name);
        let real = self.index.named(text).iter().map(|&package| {
            let version = self.index.packages[package].version.clone();
            let label = format!("{text} {version}");
            Candidate { package, version: Some(version), real: true, label }
        });
        let provided = self.index.providing(text).iter().map(|(package, version)| {
            let label = format!("{text} (from {})", self.index.packages[*package].name);
            Candidate { package: *package, version: version.clone(), real: false, label }
        });
        let mut found: Vec<SolvableId> = Vec::new();
        let mut virtual_name = false;
        for candidate in real.chain(provided) {
            let package = &self.index.packages[candidate.package];
            if self.wanted.exclude.contains(&package.name) || !self.pinned(package) {
                continue;
            }
            virtual_name |= !candidate.real;
            found.push(self.pool.intern_solvable(name, candidate));
        }
        (!found.is_empty()).then(|| Candidates {
            candidates: found,
            allow_multiple: virtual_name,
            ..Candidates::default()
        })
    }

    async fn sort_candidates(&self, _: &SolverCache<Self>, solvables: &mut [SolvableId]) {
        // apt's choice: a real package before one that provides the name; of those, one that is asked for anyway
        // (so that `awk` is the base's mawk); then by name, then the newest.
        let asked = |package: &Package| self.wanted.groups.iter().flatten().any(|r| r.name == package.name);
        solvables.sort_by(|&a, &b| {
            let (a, b) = (&self.pool.resolve_solvable(a).record, &self.pool.resolve_solvable(b).record);
            let (a_package, b_package) = (&self.index.packages[a.package], &self.index.packages[b.package]);
            b.real
                .cmp(&a.real)
                .then_with(|| asked(b_package).cmp(&asked(a_package)))
                .then_with(|| a_package.name.cmp(&b_package.name))
                .then_with(|| version::compare(&b_package.version, &a_package.version))
        });
    }

    async fn get_dependencies(&self, solvable: SolvableId) -> Dependencies {
        let candidate = self.pool.resolve_solvable(solvable).record.clone();
        if candidate.real {
            return match self.package_dependencies(candidate.package) {
                Ok(known) => Dependencies::Known(known),
                Err(reason) => Dependencies::Unknown(self.pool.intern_string(reason)),
            };
        }
        let package = &self.index.packages[candidate.package];
        let name = self.pool.intern_package_name(package.name.clone());
        let exactly =
            Versions { constraint: Some((Operator::Equal, package.version.clone())), scope: Scope::All };
        let requirement: ConditionalRequirement = self.pool.intern_version_set(name, exactly).into();
        Dependencies::Known(KnownDependencies { requirements: vec![requirement], constrains: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debian::packages;
    use crate::digest::Sha256;

    /// `name version; Field: value; …`
    fn index(lines: &[&str]) -> SuiteIndex {
        let mut text = String::new();
        for line in lines {
            let (head, fields) = line.split_once(';').unwrap_or((line, ""));
            let (name, version) = head.split_once(' ').unwrap();
            let digest = Sha256::of(line.as_bytes());
            text += &format!(
                "Package: {name}\nVersion: {version}\nArchitecture: amd64\nFilename: {name}.deb\nSize: 1\n\
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
        let groups = wanted.iter().flat_map(|text| relation::parse(text, "amd64").unwrap()).collect();
        let exclude = exclude.iter().map(|name| (*name).to_owned()).collect();
        let wanted = Wanted { groups, exclude, pins: HashMap::new() };
        Ok(closure(index, &wanted)?.into_iter().map(|i| index.packages[i].name.clone()).collect())
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
        assert!(why.contains("a 1 would require") && why.contains("b (>= 2)"), "{why}");
    }
}
