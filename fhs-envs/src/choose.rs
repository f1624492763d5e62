//! From evidence to a lock: the first suite whose libraries export every symbol version that the vendor's files need.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use hatchway_inspect::archive::{self, EntryKind, Limits, Part};
use hatchway_inspect::elf;

use crate::base::{BASE, BUILDERS_WORK};
use crate::build;
use crate::debian::contents::{self, Provider};
use crate::debian::index::{Archive, SuiteIndex};
use crate::debian::relation::{Alternatives, Relation};
use crate::debian::{packages::Package, version};
use crate::digest::Sha256;
use crate::error::Error;
use crate::lock::{Lock, LockedArtifact, LockedPackage, LockedSource, SCHEMA};
use crate::progress::Progress;
use crate::resolve::{self, Wanted};
use crate::store::Store;

/// The architecture's folder name of the loader.
const MULTIARCH: &str = "x86_64-linux-gnu";
/// A library larger than this is not read for its symbol versions.
const LIBRARY_BYTES_MAX: u64 = 512 << 20;
/// As many reasons against one suite as a person reads.
const REASONS_MAX: usize = 8;

/// A library that vendor files need from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// `libssl.so.1.1`
    pub soname: String,
    /// `OPENSSL_1_1_0` …
    pub versions: Vec<String>,
    /// One of the files that need it.
    pub wanted_by: String,
}

/// What a lock is made from.
#[derive(Debug)]
pub struct Request<'a> {
    /// The archive to choose from.
    pub archive: &'a Archive,
    /// Where downloads go.
    pub store: &'a Store,
    /// Suites in order of preference.
    pub suites: Vec<String>,
    /// `main` …
    pub components: Vec<String>,
    /// Libraries that the artifacts need and do not bring.
    pub needs: Vec<Need>,
    /// What the artifacts' own packages ask for, with the artifact's name.
    pub depends: Vec<(String, Alternatives)>,
    /// What the recipe adds.
    pub packages: Vec<Alternatives>,
    /// What the recipe leaves out.
    pub exclude: BTreeSet<String>,
    /// Versions that the recipe pins.
    pub pins: HashMap<String, String>,
    /// The vendor's files.
    pub artifacts: Vec<LockedArtifact>,
    /// Digest of the recipe's relevant part.
    pub recipe: Sha256,
    /// The planned rung.
    pub rung: String,
}

/// Tries the suites in order and locks the first that fits.
///
/// # Errors
/// [`Error::NoSuite`] with the reasons against each; downloads and indices.
pub fn lock(request: &Request<'_>, progress: &dyn Progress) -> Result<Lock, Error> {
    let mut refusals: Vec<String> = Vec::new();
    let mut near: Vec<String> = Vec::new();
    for suite in &request.suites {
        let reasons = match request.archive.suite(suite, &request.components, progress) {
            Ok(index) => {
                let attempt = Attempt { request, index: &index };
                match attempt.lock(progress, &mut near)? {
                    Ok(mut lock) => {
                        // When none fits, the error lists them.
                        for refusal in &refusals {
                            progress.note(&refusal.replacen(": ", " refused: ", 1));
                        }
                        lock.refused = refusals;
                        return Ok(lock);
                    }
                    Err(reasons) => reasons,
                }
            }
            Err(Error::DownloadStatus { status: 404, .. }) => vec!["no mirror has it".to_owned()],
            Err(other) => return Err(other),
        };
        refusals.extend(reasons.into_iter().map(|reason| format!("{suite}: {reason}")));
    }
    Err(Error::NoSuite { refusals, near: near.into_iter().take(REASONS_MAX).collect() })
}

/// URLs of a locked package at the mirrors.
#[must_use]
pub fn urls(archive: &Archive, package: &LockedPackage) -> Vec<String> {
    let suite =
        package.source.strip_prefix("debian:").and_then(|id| id.split('/').next()).unwrap_or_default();
    archive.urls(suite, &package.path)
}

struct Attempt<'a> {
    request: &'a Request<'a>,
    index: &'a SuiteIndex,
}

/// What speaks against a suite.
type Refusal = Vec<String>;

impl Attempt<'_> {
    fn lock(&self, progress: &dyn Progress, near: &mut Vec<String>) -> Result<Result<Lock, Refusal>, Error> {
        let (sonames, mut reasons) = self.providers(near);
        reasons.extend(self.missing_depends());
        reasons.extend(self.missing_pins());
        if !reasons.is_empty() {
            reasons.truncate(REASONS_MAX);
            return Ok(Err(reasons));
        }
        let closure = match resolve::closure(self.index, &self.wanted(&sonames)) {
            Ok(closure) => self.with_base_content(closure),
            Err(why) => return Ok(Err(vec![format!("the packages cannot be installed together:\n{why}")])),
        };
        let locked = self.locked(&closure, &sonames);
        let reasons = self.check_versions(&sonames, &locked, progress)?;
        if !reasons.is_empty() {
            return Ok(Err(reasons));
        }
        Ok(Ok(self.finish(locked)))
    }

    /// For each needed soname the packages that bring it, best first; and the sonames that nobody brings.
    fn providers(&self, near: &mut Vec<String>) -> (Vec<(&Need, Vec<&Provider>)>, Refusal) {
        let asked: BTreeSet<&str> =
            self.request.depends.iter().flat_map(|(_, group)| group).map(|r| r.name.as_str()).collect();
        let mut found = Vec::new();
        let mut reasons = Vec::new();
        for need in &self.request.needs {
            let providers: Vec<&Provider> =
                contents::providers(&self.index.libraries, &need.soname, MULTIARCH, &|name| {
                    asked.contains(name)
                })
                .into_iter()
                .filter(|provider| !self.request.exclude.contains(&provider.package))
                .collect();
            if providers.is_empty() {
                let suite = &self.index.suite;
                reasons.push(format!(
                    "`{}` (needed by {}) is in no package of {suite}",
                    need.soname, need.wanted_by
                ));
                for name in contents::near_misses(&self.index.libraries, &need.soname) {
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

    /// Relations of the artifacts' own packages that no package of the suite can satisfy.
    fn missing_depends(&self) -> Refusal {
        let suite = &self.index.suite;
        let satisfiable = |relation: &Relation| {
            self.request.exclude.contains(&relation.name)
                || self
                    .index
                    .named(&relation.name)
                    .iter()
                    .any(|&i| relation.matches(&self.index.packages[i].version))
                || self.index.providing(&relation.name).iter().any(|(_, version)| {
                    match (&relation.constraint, version) {
                        (None, _) => true,
                        (Some(_), Some(version)) => relation.matches(version),
                        (Some(_), None) => false,
                    }
                })
        };
        let describe = |(who, group): &(String, Alternatives)| {
            let text: Vec<String> = group.iter().map(ToString::to_string).collect();
            let newest = group.iter().find_map(|r| self.index.newest(&r.name));
            match newest {
                Some(package) => format!(
                    "`{}` (Depends of {who}) is not in {suite}, which has {} {}",
                    text.join(" | "),
                    package.name,
                    package.version
                ),
                None => format!("`{}` (Depends of {who}) is not in {suite}", text.join(" | ")),
            }
        };
        self.request
            .depends
            .iter()
            .filter(|(_, group)| !group.iter().any(satisfiable))
            .map(describe)
            .collect()
    }

    /// Pins that the suite cannot meet.
    fn missing_pins(&self) -> Refusal {
        let suite = &self.index.suite;
        let mut reasons = Vec::new();
        for (name, pin) in &self.request.pins {
            let versions: Vec<&str> =
                self.index.named(name).iter().map(|&i| self.index.packages[i].version.as_str()).collect();
            if !versions.is_empty() && !versions.contains(&pin.as_str()) {
                reasons.push(format!("`{name}` is pinned to {pin}; {suite} has {}", versions.join(", ")));
            }
        }
        reasons.sort();
        reasons
    }

    fn wanted(&self, sonames: &[(&Need, Vec<&Provider>)]) -> Wanted {
        let base = BASE.iter().filter(|p| p.with_dependencies).map(|p| vec![Relation::any(p.name)]);
        let depends = self.request.depends.iter().map(|(_, group)| group.clone());
        let libraries = sonames
            .iter()
            .map(|(_, providers)| providers.iter().map(|p| Relation::any(&p.package)).collect());
        Wanted {
            groups: base
                .chain(depends)
                .chain(self.request.packages.iter().cloned())
                .chain(libraries)
                .collect(),
            exclude: self.excluded(),
            pins: self.request.pins.clone(),
        }
    }

    /// What the recipe leaves out, and what is the builder's work unless somebody asks for it by name.
    fn excluded(&self) -> BTreeSet<String> {
        let depends = self.request.depends.iter().map(|(_, group)| group);
        let asked: BTreeSet<&str> =
            depends.chain(&self.request.packages).flatten().map(|relation| relation.name.as_str()).collect();
        let own = BUILDERS_WORK.iter().map(|(name, _)| *name).filter(|name| !asked.contains(name));
        self.request.exclude.iter().cloned().chain(own.map(str::to_owned)).collect()
    }

    /// Adds the base packages that come without what they depend on.
    fn with_base_content(&self, mut closure: Vec<usize>) -> Vec<usize> {
        for package in BASE.iter().filter(|p| !p.with_dependencies && !self.request.exclude.contains(p.name))
        {
            let newest = self.index.named(package.name).iter().max_by(|&&a, &&b| {
                version::compare(&self.index.packages[a].version, &self.index.packages[b].version)
            });
            if let Some(&newest) = newest
                && !closure.contains(&newest)
            {
                closure.push(newest);
            }
        }
        closure.sort_by_key(|&i| (&self.index.packages[i].name, &self.index.packages[i].architecture));
        closure
    }

    fn locked(&self, closure: &[usize], sonames: &[(&Need, Vec<&Provider>)]) -> Vec<LockedPackage> {
        let why = |package: &Package| {
            if BASE.iter().any(|base| base.name == package.name) {
                return "base".to_owned();
            }
            let soname = sonames.iter().find(|(_, ps)| ps.iter().any(|p| p.package == package.name));
            if let Some((need, _)) = soname {
                return format!("{} of {}", need.soname, need.wanted_by);
            }
            let named = |group: &Alternatives| group.iter().any(|r| r.name == package.name);
            if let Some((who, _)) = self.request.depends.iter().find(|(_, group)| named(group)) {
                return format!("Depends of {who}");
            }
            if self.request.packages.iter().any(named) {
                "recipe".to_owned()
            } else {
                "dependency".to_owned()
            }
        };
        let lock = |&i: &usize| {
            let package = &self.index.packages[i];
            LockedPackage {
                name: package.name.clone(),
                version: package.version.clone(),
                architecture: package.architecture.clone(),
                source: self.index.sources[package.source].id.clone(),
                path: package.filename.clone(),
                size: package.size,
                sha256: package.sha256,
                why: why(package),
                replaces: package.replaces.clone(),
            }
        };
        closure.iter().map(lock).collect()
    }

    /// Reads the provider of each soname and compares its symbol versions with the needed ones.
    fn check_versions(
        &self,
        sonames: &[(&Need, Vec<&Provider>)],
        locked: &[LockedPackage],
        progress: &dyn Progress,
    ) -> Result<Refusal, Error> {
        let with_versions = sonames.iter().filter(|(need, _)| !need.versions.is_empty());
        let checks: Vec<(&Need, &LockedPackage)> = with_versions
            .filter_map(|(need, providers)| {
                let package = locked.iter().find(|l| providers.iter().any(|p| p.package == l.name))?;
                Some((*need, package))
            })
            .collect();
        let mut wanted: Vec<_> = checks
            .iter()
            .map(|(_, package)| build::wanted(package, &|p| urls(self.request.archive, p)))
            .collect();
        wanted.sort_by_key(|w| w.sha256);
        wanted.dedup_by_key(|w| w.sha256);
        self.request.store.fetch(&self.request.archive.client, &wanted, progress)?;
        let mut reasons = Vec::new();
        for (need, package) in checks {
            let exports = self.exports(package.sha256)?;
            let defined = exports.get(&need.soname).cloned().unwrap_or_default();
            let missing: Vec<&String> = need.versions.iter().filter(|v| !defined.contains(v)).collect();
            if let Some(newest) = missing.last() {
                reasons.push(format!(
                    "`{newest}` is not in {}'s {} {} (needed by {})",
                    self.index.suite,
                    package.name,
                    version::upstream(&package.version),
                    need.wanted_by
                ));
            }
        }
        Ok(reasons)
    }

    /// Soname → symbol versions, for every library of a package; cached by the package's digest.
    fn exports(&self, sha256: Sha256) -> Result<BTreeMap<String, Vec<String>>, Error> {
        let folder = self.request.archive.cache.join("exports");
        let path = folder.join(sha256.hex());
        if let Ok(text) = std::fs::read_to_string(&path)
            && let Ok(exports) = serde_json::from_str(&text)
        {
            return Ok(exports);
        }
        let exports = read_exports(&self.request.store.artifact(sha256))?;
        std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        if let Ok(text) = serde_json::to_vec(&exports) {
            crate::lock::write_atomically(&path, &text)?;
        }
        Ok(exports)
    }

    fn finish(&self, packages: Vec<LockedPackage>) -> Lock {
        Lock {
            schema: SCHEMA,
            recipe: self.request.recipe,
            rung: self.request.rung.clone(),
            base: format!("debian:{}", self.index.suite),
            architecture: self.request.archive.architecture.clone(),
            base_packages: BASE.iter().map(|p| p.name.to_owned()).collect(),
            refused: Vec::new(),
            artifacts: self.request.artifacts.clone(),
            python: String::new(),
            wheels: Vec::new(),
            sources: self.index.sources.iter().map(LockedSource::from).collect(),
            packages,
        }
    }
}

fn read_exports(deb: &std::path::Path) -> Result<BTreeMap<String, Vec<String>>, Error> {
    let mut exports = BTreeMap::new();
    archive::walk::<Error>(deb, &Limits::default(), &mut |part, entry, content| {
        let path = entry.path.as_str();
        let name = path.rsplit('/').next().unwrap_or(path);
        let library = name.contains(".so") && (name.starts_with("lib") || name.starts_with("ld"));
        let readable = matches!(entry.kind, EntryKind::File { size } if size <= LIBRARY_BYTES_MAX);
        if part != Part::Data || !library || !readable || path.contains("/gconv/") {
            return Ok(());
        }
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes).map_err(Error::io("read", deb))?;
        // A linker script is no library; what cannot be read exports nothing.
        if let Ok(facts) = elf::read(path, &bytes) {
            exports.insert(facts.soname.unwrap_or_else(|| name.to_owned()), facts.versions_defined);
        }
        Ok(())
    })?;
    Ok(exports)
}
