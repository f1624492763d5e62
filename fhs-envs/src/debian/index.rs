//! All that is known of a base's suites and the sources beside it, joined.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::contents::Libraries;
use super::packages::Package;
use super::{relation, version};
use crate::digest::Sha256;

/// The layout of the cache files; another number means they are made anew.
pub(super) const CACHE_FORMAT: u32 = 2;

/// Where an index came from: what the lock records of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// `debian:bookworm/main`, `source:acme/main`.
    pub id: String,
    /// `Origin` of the archive.
    pub origin: String,
    /// `Suite` of the archive.
    pub suite: String,
    /// `Codename` of the archive.
    pub codename: String,
    /// Digest of the `InRelease` file.
    pub inrelease_sha256: Sha256,
    /// `Date` of the `InRelease` file.
    pub date: String,
    /// `Valid-Until` of the `InRelease` file.
    pub valid_until: Option<String>,
}

/// One component of one suite for one architecture, parsed: what is cached.
#[derive(Debug, Serialize, Deserialize)]
pub struct Part {
    pub(super) format: u32,
    pub(super) fetched_unix_s: u64,
    pub(super) source: Source,
    pub(super) architecture: String,
    pub(super) packages: Vec<Package>,
    pub(super) libraries: Libraries,
}

/// The parts of a base, joined.
#[derive(Debug)]
pub struct SuiteIndex {
    /// As it was asked for ("bookworm").
    pub suite: String,
    /// The architecture of the programs that serve all others; that of packages for every architecture.
    pub native: String,
    /// One for each component.
    pub sources: Vec<Source>,
    /// Every package.
    pub packages: Vec<Package>,
    /// Every shared library, by architecture.
    pub libraries: BTreeMap<String, Libraries>,
    by_name: HashMap<String, Vec<usize>>,
    provided: HashMap<String, Vec<(usize, Option<String>)>>,
}

impl SuiteIndex {
    /// Joins parts. Where two have the same version of a package, the earlier part's counts.
    #[must_use]
    pub fn join(suite: &str, native: &str, parts: Vec<Part>) -> Self {
        let mut index = Self {
            suite: suite.to_owned(),
            native: native.to_owned(),
            sources: Vec::new(),
            packages: Vec::new(),
            libraries: BTreeMap::new(),
            by_name: HashMap::new(),
            provided: HashMap::new(),
        };
        for part in parts {
            let number = index.source(part.source);
            for package in part.packages {
                index.add(Package { source: number, ..package });
            }
            let libraries = index.libraries.entry(part.architecture).or_default();
            if libraries.is_empty() {
                *libraries = part.libraries;
                continue;
            }
            for (name, providers) in part.libraries {
                libraries.entry(name).or_default().extend(providers);
            }
        }
        index
    }

    #[cfg(test)]
    pub(crate) fn of(packages: Vec<Package>) -> Self {
        let source = Source {
            id: "debian:test/main".into(),
            origin: "Debian".into(),
            suite: "test".into(),
            codename: "test".into(),
            inrelease_sha256: Sha256::of(b""),
            date: String::new(),
            valid_until: None,
        };
        let part = Part {
            format: CACHE_FORMAT,
            fetched_unix_s: 0,
            source,
            architecture: "amd64".into(),
            packages,
            libraries: Libraries::new(),
        };
        Self::join("test", "amd64", vec![part])
    }

    fn source(&mut self, source: Source) -> usize {
        let known = self.sources.iter().position(|known| known.id == source.id);
        known.unwrap_or_else(|| {
            self.sources.push(source);
            self.sources.len() - 1
        })
    }

    pub(crate) fn add(&mut self, package: Package) {
        let number = self.packages.len();
        let same = self.by_name.entry(package.name.clone()).or_default();
        // Packages for every architecture stand in the index of each.
        let twin = |&i: &usize| {
            let there: &Package = &self.packages[i];
            there.version == package.version && there.architecture == package.architecture
        };
        if same.iter().any(twin) {
            return;
        }
        same.push(number);
        // A Provides that cannot be read provides nothing; apt does the same.
        for group in relation::parse(&package.provides, &package.architecture).unwrap_or_default() {
            for relation in group {
                let version = relation.constraint.map(|(_, version)| version);
                self.provided.entry(relation.name).or_default().push((number, version));
            }
        }
        self.packages.push(package);
    }

    /// The packages of a name.
    #[must_use]
    pub fn named(&self, name: &str) -> &[usize] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// The packages that provide a name, with the version they provide.
    #[must_use]
    pub fn providing(&self, name: &str) -> &[(usize, Option<String>)] {
        self.provided.get(name).map_or(&[], Vec::as_slice)
    }

    /// The architecture that a package counts for: the native one where it is for all.
    #[must_use]
    pub fn architecture<'a>(&'a self, package: &'a Package) -> &'a str {
        if package.architecture == "all" { &self.native } else { &package.architecture }
    }

    /// The newest package of a name, of the native architecture.
    #[must_use]
    pub fn newest(&self, name: &str) -> Option<&Package> {
        self.newest_of(name, &self.native).map(|number| &self.packages[number])
    }

    /// The newest package of a name that counts for an architecture.
    #[must_use]
    pub fn newest_of(&self, name: &str, architecture: &str) -> Option<usize> {
        let fitting =
            self.named(name).iter().filter(|&&i| self.architecture(&self.packages[i]) == architecture);
        fitting
            .max_by(|&&a, &&b| version::compare(&self.packages[a].version, &self.packages[b].version))
            .copied()
    }
}
