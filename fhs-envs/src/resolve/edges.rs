//! Who in a closure needs whom: read from the relations again, so that a lock can say why a package is there.

use super::Wanted;
use crate::debian::index::SuiteIndex;
use crate::debian::packages::{MultiArch, Package};
use crate::debian::relation::{self, Operator, Qualifier, Relation};

/// For each package of a closure the places (in it) of those that it depends on, sorted.
#[must_use]
pub fn dependencies(index: &SuiteIndex, wanted: &Wanted, closure: &[usize]) -> Vec<Vec<usize>> {
    let packages: Vec<&Package> = closure.iter().map(|&i| &index.packages[i]).collect();
    packages.iter().map(|package| dependencies_of(index, wanted, &packages, package)).collect()
}

fn dependencies_of(
    index: &SuiteIndex,
    wanted: &Wanted,
    packages: &[&Package],
    package: &Package,
) -> Vec<usize> {
    let asking = index.architecture(package);
    let mut found = Vec::new();
    for field in [&package.pre_depends, &package.depends] {
        // The solver has read the field before.
        for group in relation::parse(field, &package.architecture).unwrap_or_default() {
            if group.iter().any(|relation| wanted.exclude.contains(&relation.name)) {
                continue;
            }
            let with = |relation: &Relation| {
                let fits = |named: bool| {
                    packages.iter().position(|other| {
                        (other.name == relation.name) == named && meets(index, relation, asking, other)
                    })
                };
                fits(true).or_else(|| fits(false))
            };
            found.extend(group.iter().find_map(with));
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// Whether a package meets a relation of one that is of the architecture `asking`.
#[must_use]
pub fn meets(index: &SuiteIndex, relation: &Relation, asking: &str, package: &Package) -> bool {
    let own = index.architecture(package);
    let architecture = match &relation.qualifier {
        Qualifier::Own => own == asking || package.multi_arch == MultiArch::Foreign,
        // With one architecture there is one reading, whatever the package calls itself.
        Qualifier::Any => own == index.native || package.multi_arch == MultiArch::Allowed,
        Qualifier::Of(named) => own == named || package.multi_arch == MultiArch::Foreign,
    };
    if !architecture {
        return false;
    }
    if package.name == relation.name {
        return relation.matches(&package.version);
    }
    if !package.provides.contains(relation.name.as_str()) {
        return false;
    }
    let provided = relation::parse(&package.provides, &package.architecture).unwrap_or_default();
    provided.iter().flatten().filter(|p| p.name == relation.name).any(|p| {
        match (&relation.constraint, &p.constraint) {
            (None, _) => true,
            // Policy 7.5: an unversioned Provides does not satisfy a versioned relation.
            (Some(_), Some((Operator::Equal, version))) => relation.matches(version),
            (Some(_), _) => false,
        }
    })
}
