//! A closure as the lock writes it: each package with its reason and what it depends on.

use super::{Attempt, Provided};
use crate::base::BASE;
use crate::debian::packages::Package;
use crate::debian::relation::Relation;
use crate::lock::{Lock, LockedPackage, LockedSource, SCHEMA, label};
use crate::resolve::{self, Wanted};

impl Attempt<'_> {
    pub(super) fn locked(
        &self,
        wanted: &Wanted,
        closure: &[usize],
        sonames: &[Provided<'_>],
    ) -> Vec<LockedPackage> {
        let edges = resolve::dependencies(self.index, wanted, closure);
        let name = |&place: &usize| {
            let package = &self.index.packages[closure[place]];
            label(&package.name, &package.architecture, &self.index.native)
        };
        let lock = |(&number, edges): (&usize, &Vec<usize>)| {
            let package = &self.index.packages[number];
            let mut dependencies: Vec<String> = edges.iter().map(name).collect();
            dependencies.sort();
            LockedPackage {
                dependencies,
                dropped: self.kept.dropped.contains(&package.sha256),
                replaces: package.replaces.clone(),
                ..self.entry(package, self.why(package, sonames))
            }
        };
        closure.iter().zip(&edges).map(lock).collect()
    }

    /// A package by itself.
    pub(super) fn entry(&self, package: &Package, why: String) -> LockedPackage {
        LockedPackage {
            name: package.name.clone(),
            version: package.version.clone(),
            architecture: package.architecture.clone(),
            source: self.index.sources[package.source].id.clone(),
            path: package.filename.clone(),
            size: package.size,
            sha256: package.sha256,
            why,
            dependencies: Vec::new(),
            dropped: false,
            replaces: String::new(),
        }
    }

    fn why(&self, package: &Package, sonames: &[Provided<'_>]) -> String {
        let architecture = self.index.architecture(package);
        let native = architecture == self.index.native;
        if native && BASE.iter().any(|base| base.name == package.name) {
            return "base".to_owned();
        }
        let brings = |(need, providers): &&Provided<'_>| {
            need.architecture == architecture && providers.iter().any(|p| p.package == package.name)
        };
        if let Some((need, _)) = sonames.iter().find(brings) {
            return format!("{} of {}", need.soname, need.wanted_by);
        }
        let named = |relations: &[Relation], asking: &str| {
            relations.iter().any(|r| r.name == package.name && resolve::meets(self.index, r, asking, package))
        };
        let asks = |asked: &&super::Asked| named(&asked.group.alternatives, &asked.group.architecture);
        if let Some(asked) = self.request.depends.iter().find(asks) {
            return format!("Depends of {}", asked.whose);
        }
        if self.request.packages.iter().any(|group| named(group, &self.index.native)) {
            return "recipe".to_owned();
        }
        if !native && package.name == "libc6" { "base".to_owned() } else { "dependency".to_owned() }
    }

    pub(super) fn finish(&self, packages: Vec<LockedPackage>, kernel: Option<LockedPackage>) -> Lock {
        Lock {
            schema: SCHEMA,
            recipe: self.request.recipe,
            rung: self.request.rung.clone(),
            runner: self.request.runner.clone(),
            base: format!("debian:{}", self.index.suite),
            architectures: self.request.architectures.clone(),
            base_packages: BASE.iter().map(|p| p.name.to_owned()).collect(),
            refused: Vec::new(),
            python: self.request.python.clone(),
            image: None,
            kernel,
            artifacts: self.request.artifacts.clone(),
            patches: self.request.patches.clone(),
            wheels: self.request.wheels.clone(),
            sources: self.index.sources.iter().map(LockedSource::from).collect(),
            packages,
        }
    }
}
