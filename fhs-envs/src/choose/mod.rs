//! From evidence to a lock: the first suite whose libraries export every symbol version that the vendor's files need.

mod evidence;
mod explain;
mod keep;
mod kernel;
mod locked;
mod suite;
mod versions;

use std::collections::{BTreeSet, HashMap};

pub use keep::{Upgrade, check as check_upgrade, suites as suites_in_order};
pub use kernel::Kernel;
pub use suite::{Extra, index as suite_index, urls};

use crate::base::{BASE, BUILDERS_WORK};
use crate::debian::archive::Archive;
use crate::debian::contents::Provider;
use crate::debian::index::SuiteIndex;
use crate::debian::relation::{Alternatives, Qualifier, Relation};
use crate::digest::Sha256;
use crate::error::Error;
use crate::lock::{Lock, LockedArtifact, LockedPatch, LockedWheel};
use crate::progress::Progress;
use crate::resolve::{self, Group, Wanted};
use crate::store::Store;

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
    /// `amd64`, `i386`.
    pub architecture: String,
}

/// A relation of an artifact's own package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The artifact's name.
    pub whose: String,
    /// What it asks for.
    pub group: Group,
}

/// What a lock is made from.
#[derive(Debug)]
pub struct Request<'a> {
    /// The archive to choose from.
    pub archive: &'a Archive,
    /// Further sources, each with its own keys.
    pub sources: &'a [Extra],
    /// Where downloads go.
    pub store: &'a Store,
    /// Suites in order of preference.
    pub suites: Vec<String>,
    /// `main` …
    pub components: Vec<String>,
    /// `amd64`, and the foreign ones beside it.
    pub architectures: Vec<String>,
    /// Libraries that the artifacts need and do not bring.
    pub needs: Vec<Need>,
    /// What the artifacts' own packages ask for.
    pub depends: Vec<Asked>,
    /// What the recipe adds.
    pub packages: Vec<Alternatives>,
    /// What the recipe leaves out.
    pub exclude: BTreeSet<String>,
    /// Versions that the recipe pins.
    pub pins: HashMap<String, String>,
    /// The lock before, and what of it may move.
    pub before: Option<&'a Lock>,
    /// See [`Upgrade`].
    pub upgrade: Upgrade,
    /// The vendor's files.
    pub artifacts: Vec<LockedArtifact>,
    /// The recipe's patches.
    pub patches: Vec<LockedPatch>,
    /// See [`Lock::python`]. What wheels fit depends on the suite, so one suite is asked for at a time.
    pub python: String,
    /// The Python packages.
    pub wheels: Vec<LockedWheel>,
    /// Reasons against suites that are not among [`Self::suites`] any more.
    pub refused: Vec<String>,
    /// Digest of the recipe's relevant part.
    pub recipe: Sha256,
    /// The planned rung.
    pub rung: String,
    /// The kernel of a guest.
    pub kernel: Kernel,
    /// See [`Lock::runner`].
    pub runner: String,
}

impl Request<'_> {
    /// The architecture that needs no naming.
    fn native(&self) -> &str {
        self.architectures.first().map_or("", String::as_str)
    }
}

/// Tries the suites in order and locks the first that fits.
///
/// # Errors
/// [`Error::NoSuite`] with the reasons against each, those of [`Request::refused`] first; downloads and indices.
pub fn lock(request: &Request<'_>, progress: &dyn Progress) -> Result<Lock, Error> {
    keep::check(request)?;
    let mut refusals = request.refused.clone();
    let mut near: Vec<String> = Vec::new();
    for suite in keep::suites(request) {
        let reasons = match suite::index(request, &suite, progress) {
            // Another suite may do; which mirror was in the middle of an update stays among the reasons.
            Err(error @ Error::OutOfStep { .. }) => vec![error.to_string()],
            Err(other) => return Err(other),
            Ok(Some(mut index)) => {
                let kept = keep::prepare(request, &mut index, progress)?;
                let attempt = Attempt { request, index: &index, kept };
                match attempt.lock(progress, &mut near)? {
                    Ok(mut lock) => {
                        // When none fits, the error lists them.
                        for refusal in &refusals {
                            progress.note(&refusal.replacen(": ", " refused: ", 1));
                        }
                        lock.refused = refusals;
                        return Ok(keep::settled(request, lock, progress));
                    }
                    Err(reasons) => reasons,
                }
            }
            Ok(None) => vec!["no mirror has it".to_owned()],
        };
        refusals.extend(reasons.into_iter().map(|reason| format!("{suite}: {reason}")));
    }
    Err(Error::NoSuite { refusals, near: near.into_iter().take(REASONS_MAX).collect() })
}

struct Attempt<'a> {
    request: &'a Request<'a>,
    index: &'a SuiteIndex,
    kept: keep::Kept,
}

/// What speaks against a suite.
type Refusal = Vec<String>;

/// A needed library with the packages that bring it, best first.
type Provided<'a> = (&'a Need, Vec<&'a Provider>);

impl Attempt<'_> {
    fn lock(&self, progress: &dyn Progress, near: &mut Vec<String>) -> Result<Result<Lock, Refusal>, Error> {
        let (sonames, mut reasons) = self.providers(near);
        reasons.extend(self.missing_depends());
        reasons.extend(self.missing_packages());
        reasons.extend(self.missing_pins());
        if !reasons.is_empty() {
            reasons.truncate(REASONS_MAX);
            return Ok(Err(reasons));
        }
        let wanted = self.wanted(&sonames);
        let closure = match resolve::closure(self.index, &wanted) {
            Ok(closure) => self.with_base_content(closure),
            Err(why) => return Ok(Err(vec![self.explained(&why)])),
        };
        let locked = self.locked(&wanted, &closure, &sonames);
        let reasons = self.check_versions(&sonames, &locked, progress)?;
        if !reasons.is_empty() {
            return Ok(Err(reasons));
        }
        let kernel = match self.kernel() {
            Ok(kernel) => kernel,
            Err(reason) => return Ok(Err(vec![reason])),
        };
        self.tell(&locked, progress);
        Ok(Ok(self.finish(locked, kernel)))
    }

    fn wanted(&self, sonames: &[Provided<'_>]) -> Wanted {
        let native = |alternatives: Alternatives| Group {
            architecture: self.request.native().to_owned(),
            alternatives,
        };
        let base = BASE.iter().filter(|p| p.with_dependencies).map(|p| vec![Relation::any(p.name)]);
        // A program of a foreign architecture needs its loader, whatever else it is linked with.
        let loaders = self.request.architectures.iter().skip(1).map(|a| vec![of(Relation::any("libc6"), a)]);
        let libraries = sonames.iter().map(|(need, providers)| {
            providers.iter().map(|p| of(Relation::any(&p.package), &need.architecture)).collect()
        });
        let packages = self.request.packages.iter().cloned();
        let groups = base.chain(loaders).chain(packages).chain(libraries).map(native);
        let depends = self.request.depends.iter().map(|asked| asked.group.clone());
        Wanted {
            groups: groups.chain(depends).collect(),
            exclude: self.excluded(),
            pins: self.request.pins.clone(),
            architectures: self.request.architectures.clone(),
            preferred: self.kept.preferred.clone(),
        }
    }

    /// What the recipe leaves out, and what is the builder's work unless somebody asks for it by name.
    fn excluded(&self) -> BTreeSet<String> {
        let depends = self.request.depends.iter().map(|asked| &asked.group.alternatives);
        let asked: BTreeSet<&str> =
            depends.chain(&self.request.packages).flatten().map(|relation| relation.name.as_str()).collect();
        let own = BUILDERS_WORK.iter().map(|(name, _)| *name).filter(|name| !asked.contains(name));
        self.request.exclude.iter().cloned().chain(own.map(str::to_owned)).collect()
    }

    /// Adds the base packages that come without what they depend on.
    fn with_base_content(&self, mut closure: Vec<usize>) -> Vec<usize> {
        for package in BASE.iter().filter(|p| !p.with_dependencies && !self.request.exclude.contains(p.name))
        {
            let chosen = self.chosen(package.name);
            if let Some(chosen) = chosen
                && !closure.contains(&chosen)
            {
                closure.push(chosen);
            }
        }
        closure.sort_by_key(|&i| (&self.index.packages[i].name, &self.index.packages[i].architecture));
        closure
    }

    /// The version of a package that is taken without the solver: pinned, kept, or the newest.
    fn chosen(&self, name: &str) -> Option<usize> {
        let find = |fits: &dyn Fn(usize) -> bool| {
            self.index.named(name).iter().copied().find(|&number| fits(number))
        };
        if let Some(pin) = self.request.pins.get(name) {
            return find(&|number| self.index.packages[number].version == *pin);
        }
        find(&|number| self.kept.preferred.contains(&self.index.packages[number].sha256))
            .or_else(|| self.index.newest_of(name, &self.index.native))
    }
}

/// A relation that means one architecture.
fn of(relation: Relation, architecture: &str) -> Relation {
    Relation { qualifier: Qualifier::Of(architecture.to_owned()), ..relation }
}
