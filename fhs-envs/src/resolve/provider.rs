//! The solver's view of an index.

use std::fmt;

use resolvo::utils::{Pool, VersionSet};
use resolvo::{
    Candidates, Condition, ConditionId, ConditionalRequirement, Dependencies, DependencyProvider, Interner,
    KnownDependencies, NameId, Requirement, SolvableId, SolverCache, StringId, VersionSetId,
    VersionSetUnionId,
};

use super::{Group, Wanted};
use crate::debian::index::SuiteIndex;
use crate::debian::packages::{MultiArch, Package};
use crate::debian::relation::{self, Operator, Qualifier, Relation};
use crate::debian::version;

/// The architecture in the names that stand for `:any`.
const ANY: &str = "any";

/// A solvable: a package, or a name that it provides.
#[derive(Debug, Clone)]
struct Candidate {
    package: usize,
    /// The package's name.
    name: String,
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
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Scope {
    /// Those that meet the constraint.
    All,
    /// A conflict of a package of this name: those that do not meet it, and the packages of that name.
    ConflictOf(String),
    /// The name as this package provides it.
    ProvidedBy(usize),
    /// This package.
    Only(usize),
    /// What may stand beside this package under the same name: whatever provides it.
    Beside(usize),
    /// What may stand beside a package under the same name in another architecture: this version, if any.
    Twin(Option<String>),
}

impl Versions {
    fn of(scope: Scope) -> Self {
        Self { constraint: None, scope }
    }

    fn contains(&self, candidate: &Candidate) -> bool {
        let inside = match (&self.constraint, &candidate.version) {
            (None, _) => true,
            // Policy 7.5: an unversioned Provides does not satisfy a versioned relation.
            (Some(_), None) => false,
            (Some((operator, wanted)), Some(version)) => operator.holds(version, wanted),
        };
        match &self.scope {
            Scope::All => inside,
            Scope::ConflictOf(owner) => candidate.name == *owner || !inside,
            Scope::ProvidedBy(owner) => candidate.package == *owner && !candidate.real,
            Scope::Only(owner) => candidate.package == *owner && candidate.real,
            Scope::Beside(owner) => candidate.package == *owner || !candidate.real,
            Scope::Twin(version) => !candidate.real || (version.is_some() && candidate.version == *version),
        }
    }
}

impl VersionSet for Versions {
    type V = Candidate;
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.constraint, &self.scope) {
            (_, Scope::ProvidedBy(_)) => f.write_str("(provided)"),
            (_, Scope::Only(_)) => f.write_str("(the package)"),
            (_, Scope::Beside(_)) => f.write_str("(another version)"),
            (_, Scope::Twin(_)) => f.write_str("(of another architecture, unless of the same version)"),
            (Some((operator, version)), Scope::ConflictOf(_)) => write!(f, "({operator} {version})"),
            (None, Scope::ConflictOf(_)) => f.write_str("(any)"),
            (Some((operator, version)), Scope::All) => write!(f, "({operator} {version})"),
            (None, Scope::All) => f.write_str("(any)"),
        }
    }
}

/// See the module.
pub(super) struct Provider<'a> {
    index: &'a SuiteIndex,
    wanted: &'a Wanted,
    pool: Pool<Versions>,
}

impl<'a> Provider<'a> {
    pub(super) fn new(index: &'a SuiteIndex, wanted: &'a Wanted) -> Self {
        Self { index, wanted, pool: Pool::new() }
    }

    /// The packages of a solution.
    pub(super) fn packages(&self, solution: &[SolvableId]) -> Vec<usize> {
        let all = solution.iter().map(|&id| &self.pool.resolve_solvable(id).record);
        all.filter(|candidate| candidate.real).map(|candidate| candidate.package).collect()
    }

    /// A group with a name that is left out asks for nothing: leaving `debconf` out must not bring in the other
    /// implementation of `debconf | debconf-2.0`.
    pub(super) fn requirement(&self, group: &Group) -> Option<Requirement> {
        if group.alternatives.iter().any(|relation| self.wanted.exclude.contains(&relation.name)) {
            return None;
        }
        let mut sets = group.alternatives.iter().map(|relation| {
            let versions = Versions { constraint: relation.constraint.clone(), scope: Scope::All };
            self.set(&self.asked(relation, &group.architecture), versions)
        });
        let first = sets.next()?;
        let rest: Vec<VersionSetId> = sets.collect();
        if rest.is_empty() {
            return Some(first.into());
        }
        Some(self.pool.intern_version_set_union(first, rest.into_iter()).into())
    }

    fn set(&self, name: &str, versions: Versions) -> VersionSetId {
        self.pool.intern_version_set(self.pool.intern_package_name(name.to_owned()), versions)
    }

    /// The solver's name of a package in an architecture.
    fn name(&self, name: &str, architecture: &str) -> String {
        if architecture == self.index.native { name.to_owned() } else { format!("{name}:{architecture}") }
    }

    /// The solver's name of what a relation asks for.
    fn asked(&self, relation: &Relation, asking: &str) -> String {
        match &relation.qualifier {
            Qualifier::Own => self.name(&relation.name, asking),
            Qualifier::Any => self.name(&relation.name, ANY),
            Qualifier::Of(architecture) => self.name(&relation.name, architecture),
        }
    }

    fn package_dependencies(&self, number: usize) -> Result<KnownDependencies, String> {
        let package = &self.index.packages[number];
        let architecture = self.index.architecture(package);
        let parse = |field: &str| {
            relation::parse(field, &package.architecture).map_err(|e| format!("{}: {e}", package.name))
        };
        let mut known = KnownDependencies::default();
        for field in [&package.pre_depends, &package.depends] {
            let groups = parse(field)?.into_iter();
            let groups =
                groups.map(|alternatives| Group { architecture: architecture.to_owned(), alternatives });
            known.requirements.extend(
                groups.filter_map(|g| self.requirement(&g)).map(Into::<ConditionalRequirement>::into),
            );
        }
        for relation in parse(&package.conflicts)?.into_iter().flatten() {
            for name in self.conflicting(&relation) {
                let scope = Scope::ConflictOf(package.name.clone());
                known
                    .constrains
                    .push(self.set(&name, Versions { constraint: relation.constraint.clone(), scope }));
            }
        }
        // A package brings the names it provides with it, so that a conflict with such a name excludes the package.
        for relation in parse(&package.provides)?.into_iter().flatten() {
            let name = self.name(&relation.name, architecture);
            known.requirements.push(self.set(&name, Versions::of(Scope::ProvidedBy(number))).into());
        }
        self.one_of_a_name(number, &mut known);
        Ok(known)
    }

    /// The names that a conflict means: a package of any architecture, unless one is named.
    fn conflicting(&self, relation: &Relation) -> Vec<String> {
        match &relation.qualifier {
            Qualifier::Of(architecture) => vec![self.name(&relation.name, architecture)],
            Qualifier::Own | Qualifier::Any => {
                self.wanted.architectures.iter().map(|a| self.name(&relation.name, a)).collect()
            }
        }
    }

    /// One version of a package, and beside it the same version of another architecture if both are made for that.
    fn one_of_a_name(&self, number: usize, known: &mut KnownDependencies) {
        let package = &self.index.packages[number];
        if self.index.named(&package.name).len() < 2 {
            return;
        }
        let own = self.index.architecture(package);
        known.constrains.push(self.set(&self.name(&package.name, own), Versions::of(Scope::Beside(number))));
        let version = (package.multi_arch == MultiArch::Same).then(|| package.version.clone());
        for other in self.wanted.architectures.iter().filter(|other| *other != own) {
            let versions = Versions::of(Scope::Twin(version.clone()));
            known.constrains.push(self.set(&self.name(&package.name, other), versions));
        }
    }

    /// The candidates for a name of the solver's.
    fn candidates(&self, asked: &str) -> Vec<Candidate> {
        let (name, architecture) = asked.split_once(':').unwrap_or((asked, &self.index.native));
        let stands_for = |package: &Package| {
            let own = self.index.architecture(package);
            let foreign = match architecture {
                ANY => own == self.index.native || package.multi_arch == MultiArch::Allowed,
                _ => package.multi_arch == MultiArch::Foreign,
            };
            (own == architecture, foreign)
        };
        let named = self.index.named(name).iter().filter_map(|&number| {
            let package = &self.index.packages[number];
            let (own, foreign) = stands_for(package);
            let label = format!("{} {}", self.name(name, self.index.architecture(package)), package.version);
            (own || foreign).then(|| Candidate {
                package: number,
                name: package.name.clone(),
                version: Some(package.version.clone()),
                real: own,
                label,
            })
        });
        let provided = self.index.providing(name).iter().filter_map(|(number, version)| {
            let package = &self.index.packages[*number];
            let (own, foreign) = stands_for(package);
            let by = self.name(&package.name, self.index.architecture(package));
            (own || foreign).then(|| Candidate {
                package: *number,
                name: package.name.clone(),
                version: version.clone(),
                real: false,
                label: format!("{asked} (from {by})"),
            })
        });
        named.chain(provided).collect()
    }

    fn known_architecture(&self, package: &Package) -> bool {
        let own = self.index.architecture(package);
        own == self.index.native || self.wanted.architectures.iter().any(|a| a == own)
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
        let mut found = Candidates::default();
        for candidate in self.candidates(self.pool.resolve_package_name(name)) {
            let package = &self.index.packages[candidate.package];
            if self.wanted.exclude.contains(&package.name) || !self.known_architecture(package) {
                continue;
            }
            let pin = self.wanted.pins.get(&package.name).filter(|pin| **pin != package.version);
            found.allow_multiple |= !candidate.real;
            let solvable = self.pool.intern_solvable(name, candidate);
            found.candidates.push(solvable);
            if let Some(pin) = pin {
                let reason = format!("the recipe pins `{}` to {pin}", package.name);
                found.excluded.push((solvable, self.pool.intern_string(reason)));
            }
        }
        (!found.candidates.is_empty()).then_some(found)
    }

    async fn sort_candidates(&self, _: &SolverCache<Self>, solvables: &mut [SolvableId]) {
        // apt's choice: a real package before one that provides the name; of those, one that is asked for anyway
        // (so that `awk` is the base's mawk); then by name, the native one, the newest. What the lock has had goes first.
        let asked = |package: &Package| {
            self.wanted.groups.iter().flat_map(|g| &g.alternatives).any(|r| r.name == package.name)
        };
        let kept = |package: &Package| self.wanted.preferred.contains(&package.sha256);
        let native = |package: &Package| self.index.architecture(package) == self.index.native;
        solvables.sort_by(|&a, &b| {
            let (a, b) = (&self.pool.resolve_solvable(a).record, &self.pool.resolve_solvable(b).record);
            let (a_package, b_package) = (&self.index.packages[a.package], &self.index.packages[b.package]);
            kept(b_package)
                .cmp(&kept(a_package))
                .then_with(|| b.real.cmp(&a.real))
                .then_with(|| asked(b_package).cmp(&asked(a_package)))
                .then_with(|| a_package.name.cmp(&b_package.name))
                .then_with(|| native(b_package).cmp(&native(a_package)))
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
        let name = self.name(&package.name, self.index.architecture(package));
        let requirement = self.set(&name, Versions::of(Scope::Only(candidate.package))).into();
        Dependencies::Known(KnownDependencies { requirements: vec![requirement], constrains: Vec::new() })
    }
}
