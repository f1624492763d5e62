//! From requirements to wheels, solved with `resolvo`: versions and markers as PyPA defines them (PEP 440, PEP 508).
//!
//! A project is a name; each of its extras is a name of its own (`x[extra]`), whose versions require the same version of
//! the project. What a wheel requires is read when the solver asks for it: from the metadata beside the wheel where the
//! index has it, or else from the wheel itself.

use std::any::Any;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;

use hatchway_inspect::archive::{self, Limits};
use hatchway_inspect::control;
use pep440_rs::{Operator, Version, VersionSpecifiers};
use pep508_rs::{
    ExtraName, MarkerEnvironment, MarkerEnvironmentBuilder, Requirement, VerbatimUrl, VersionOrUrl,
};
use resolvo::utils::{Pool, VersionSet};
use resolvo::{
    Candidates, Condition, ConditionId, ConditionalRequirement, Dependencies, DependencyProvider, Interner,
    KnownDependencies, NameId, Problem, SolvableId, Solver, SolverCache, StringId, UnsolvableOrCancelled,
    VersionSetId, VersionSetUnionId,
};

use super::index::{File, Index};
use super::normal_name;
use super::tags::{Rank, Target, WheelName};
use crate::digest::Sha256;
use crate::error::Error;
use crate::fetch::Wanted;
use crate::lock::LockedWheel;
use crate::progress::Progress;
use crate::store::Store;

/// A `METADATA` file is read up to here; long descriptions have some hundred KiB.
const METADATA_BYTES_MAX: u64 = 16 << 20;

/// A wheel that is an artifact of its own: no other file of its project counts.
#[derive(Debug, Clone)]
pub struct Local {
    /// File name.
    pub file: String,
    /// Digest; the file is in the store.
    pub sha256: Sha256,
}

/// What is resolved.
#[derive(Debug)]
pub struct Request<'a> {
    /// Where wheels come from.
    pub index: &'a Index,
    /// Where they go.
    pub store: &'a Store,
    /// For which Python.
    pub target: &'a Target,
    /// What the recipe asks for, as it writes it.
    pub requirements: &'a [String],
    /// Wheels among the artifacts.
    pub local: &'a [Local],
    /// Those of the lock before that are taken before newer ones.
    pub kept: &'a [LockedWheel],
}

/// The wheels, which then are in the store; or why there are none.
pub type Outcome = Result<Vec<LockedWheel>, String>;

/// Chooses wheels and fetches them.
///
/// # Errors
/// Downloads, broken wheels. That nothing fits is no error but an [`Outcome`].
pub fn resolve(request: &Request<'_>, progress: &dyn Progress) -> Result<Outcome, Error> {
    let mut roots = Vec::new();
    for text in request.requirements {
        match requirement(text) {
            Ok(requirement) => roots.push(requirement),
            Err(reason) => return Ok(Err(format!("`{text}`: {reason}"))),
        }
    }
    let mut local = BTreeMap::new();
    for wheel in request.local {
        let Some(name) = WheelName::parse(&wheel.file) else {
            return Ok(Err(format!("`{}` is not named as a wheel is", wheel.file)));
        };
        if request.target.rank(&name).is_none() {
            return Ok(Err(format!("`{}` is not for {}", wheel.file, described(request.target))));
        }
        let text = metadata(&request.store.artifact(wheel.sha256), &wheel.file)?;
        let header = control::parse_header("METADATA", &text).ok();
        if let Some(wish) = header.as_ref().and_then(|header| header.get("Requires-Python"))
            && !allows(wish, request.target)
        {
            return Ok(Err(format!("`{}` requires Python {wish}", wheel.file)));
        }
        let project = normal_name(&name.name);
        if !roots.iter().any(|root| root.name.as_ref() == project)
            && let Ok(root) = requirement(&project)
        {
            roots.push(root);
        }
        local.insert(project, wheel);
    }
    let Ok(environment) = environment(request.target) else {
        return Ok(Err(format!("`{}` is no version of a Python", request.target.full)));
    };
    let solving = Solving {
        request,
        progress,
        roots: &roots,
        local,
        environment,
        pool: Pool::new(),
        projects: RefCell::default(),
        required: RefCell::default(),
        failure: RefCell::default(),
        remarks: RefCell::default(),
    };
    solving.solve()
}

fn described(target: &Target) -> String {
    format!("CPython {} on x86-64 with glibc 2.{}", target.python(), target.glibc_minor)
}

fn requirement(text: &str) -> Result<Requirement, String> {
    let requirement =
        Requirement::<VerbatimUrl>::from_str(text).map_err(|error| error.message.to_string())?;
    match requirement.version_or_url {
        Some(VersionOrUrl::Url(_)) => Err("only names and versions can be locked, no addresses".to_owned()),
        _ => Ok(requirement),
    }
}

/// The variables of markers (PEP 508). The kernel's release is the machine's and not the tree's.
fn environment(target: &Target) -> Result<MarkerEnvironment, pep440_rs::VersionParseError> {
    MarkerEnvironment::try_from(MarkerEnvironmentBuilder {
        implementation_name: "cpython",
        implementation_version: &target.full,
        os_name: "posix",
        platform_machine: "x86_64",
        platform_python_implementation: "CPython",
        platform_release: "",
        platform_system: "Linux",
        platform_version: "",
        python_full_version: &target.full,
        python_version: &target.python(),
        sys_platform: "linux",
    })
}

/// One version of a project.
#[derive(Debug, Clone)]
struct Release {
    version: Version,
    file: File,
    rank: Rank,
}

/// A solvable: a release, alone or with an extra.
#[derive(Debug, Clone)]
struct Candidate {
    project: String,
    extra: Option<ExtraName>,
    version: Version,
    label: String,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

/// Which versions are meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Versions {
    Fitting(VersionSpecifiers),
    Exactly(Version),
}

impl VersionSet for Versions {
    type V = Candidate;
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fitting(specifiers) if specifiers.is_empty() => f.write_str("(any)"),
            Self::Fitting(specifiers) => write!(f, "({specifiers})"),
            Self::Exactly(version) => write!(f, "(=={version})"),
        }
    }
}

struct Solving<'a> {
    request: &'a Request<'a>,
    progress: &'a dyn Progress,
    roots: &'a [Requirement],
    local: BTreeMap<String, &'a Local>,
    environment: MarkerEnvironment,
    pool: Pool<Versions>,
    projects: RefCell<HashMap<String, Vec<Release>>>,
    /// What each wheel requires, by its file.
    required: RefCell<HashMap<String, Vec<Requirement>>>,
    /// What ended the search: the solver knows no errors.
    failure: RefCell<Option<Error>>,
    /// Why projects have no candidates.
    remarks: RefCell<Vec<String>>,
}

impl Solving<'_> {
    fn solve(self) -> Result<Outcome, Error> {
        let mut requirements: Vec<ConditionalRequirement> = Vec::new();
        for root in self.roots.iter().filter(|root| root.evaluate_markers(&self.environment, &[])) {
            requirements.extend(self.version_sets(root).into_iter().map(ConditionalRequirement::from));
        }
        let mut solver = Solver::new(self);
        let solution = match solver.solve(Problem::new().requirements(requirements)) {
            Ok(solution) => solution,
            Err(UnsolvableOrCancelled::Unsolvable(conflict)) => {
                let mut why = conflict.display_user_friendly(&solver).to_string().trim_end().to_owned();
                for remark in solver.provider().remarks.borrow().iter() {
                    why.push_str(&format!("\n{remark}"));
                }
                return Ok(Err(format!("the Python packages cannot be installed together:\n{why}")));
            }
            Err(UnsolvableOrCancelled::Cancelled(_)) => {
                let failure = solver.provider().failure.take();
                return Err(failure.unwrap_or_else(|| Error::Unsupported("the solver was stopped".into())));
            }
        };
        solver.provider().finish(&solution).map(Ok)
    }

    /// The wheels of a solution, fetched, sorted by name.
    fn finish(&self, solution: &[SolvableId]) -> Result<Vec<LockedWheel>, Error> {
        let chosen: BTreeMap<String, Release> = solution
            .iter()
            .map(|&id| &self.pool.resolve_solvable(id).record)
            .filter(|candidate| candidate.extra.is_none())
            .filter_map(|candidate| Some((candidate.project.clone(), self.release(candidate)?)))
            .collect();
        let wanted: Vec<Wanted> = chosen.values().filter_map(|release| wanted(&release.file)).collect();
        self.request.store.fetch(&self.request.index.client, &wanted, self.progress)?;
        let mut locked = Vec::new();
        for (project, release) in &chosen {
            if self.local.contains_key(project) {
                continue;
            }
            let Some(sha256) = release.file.sha256 else { continue };
            let path = self.request.store.artifact(sha256);
            let size = std::fs::metadata(&path).map_err(Error::io("read", path))?.len();
            locked.push(LockedWheel {
                name: project.clone(),
                version: release.version.to_string(),
                file: release.file.name.clone(),
                size,
                sha256,
                why: self.why(project, &chosen),
            });
        }
        Ok(locked)
    }

    fn why(&self, project: &str, chosen: &BTreeMap<String, Release>) -> String {
        if self.roots.iter().any(|root| root.name.as_ref() == project) {
            return "recipe".to_owned();
        }
        let required = self.required.borrow();
        let asks = |release: &Release| {
            let all = required.get(&release.file.name);
            all.is_some_and(|all| all.iter().any(|requirement| requirement.name.as_ref() == project))
        };
        let who =
            chosen.iter().find(|(_, release)| asks(release)).map_or("another", |(name, _)| name.as_str());
        format!("Requires-Dist of {who}")
    }

    fn release(&self, candidate: &Candidate) -> Option<Release> {
        let projects = self.projects.borrow();
        projects.get(&candidate.project)?.iter().find(|release| release.version == candidate.version).cloned()
    }

    /// The project, and each extra that is asked for.
    fn version_sets(&self, requirement: &Requirement) -> Vec<VersionSetId> {
        let specifiers = match &requirement.version_or_url {
            Some(VersionOrUrl::VersionSpecifier(specifiers)) => specifiers.clone(),
            _ => VersionSpecifiers::empty(),
        };
        let project = requirement.name.to_string();
        let names = requirement.extras.iter().map(|extra| format!("{project}[{extra}]"));
        std::iter::once(project.clone())
            .chain(names)
            .map(|name| {
                let name = self.pool.intern_package_name(name);
                self.pool.intern_version_set(name, Versions::Fitting(specifiers.clone()))
            })
            .collect()
    }

    fn fail(&self, error: Error) {
        self.failure.borrow_mut().get_or_insert(error);
    }

    /// The releases of a project that fit the target.
    fn releases(&self, project: &str) -> Result<Vec<Release>, Error> {
        if let Some(known) = self.projects.borrow().get(project) {
            return Ok(known.clone());
        }
        let found = match self.local.get(project) {
            Some(local) => vec![local_release(local)?],
            None => self.fitting(project, self.request.index.project(project)?),
        };
        self.projects.borrow_mut().insert(project.to_owned(), found.clone());
        Ok(found)
    }

    fn fitting(&self, project: &str, files: Vec<File>) -> Vec<Release> {
        let target = self.request.target;
        let mut best: BTreeMap<Version, Release> = BTreeMap::new();
        let (mut sources, mut others) = (0, None);
        let kept = self.request.kept.iter().find(|wheel| wheel.name == project);
        let is_kept = |file: &File| kept.is_some_and(|kept| file.sha256 == Some(kept.sha256));
        let stored = kept.and_then(|kept| self.stored(kept, &files));
        for file in files.into_iter().chain(stored) {
            let Some(name) = WheelName::parse(&file.name).filter(|name| normal_name(&name.name) == project)
            else {
                sources += usize::from([".tar.gz", ".zip"].iter().any(|ending| file.name.ends_with(ending)));
                continue;
            };
            let allowed = file.requires_python.as_ref().is_none_or(|wish| allows(wish, target));
            let fits =
                allowed && file.sha256.is_some() && (is_kept(&file) || self.is_wanted(project, &file, &name));
            let Some(rank) = target.rank(&name).filter(|_| fits) else {
                others = Some(file.name);
                continue;
            };
            let Ok(version) = Version::from_str(&name.version) else { continue };
            let release = Release { version: version.clone(), file, rank };
            let better = best.get(&version).is_none_or(|known| {
                !is_kept(&known.file) && (is_kept(&release.file) || release.rank < known.rank)
            });
            if better {
                best.insert(version, release);
            }
        }
        if best.is_empty() {
            let target = described(target);
            self.remarks.borrow_mut().push(match (others, sources) {
                (Some(other), _) => format!("no wheel of `{project}` is for {target}; there is for example `{other}`"),
                (None, 0) => format!("the index has no files of `{project}`"),
                (None, _) => format!(
                    "of `{project}` there are only source distributions: building one would run its code, so a wheel \
                     must be made of it elsewhere and be given as an [[artifact]]"
                ),
            });
        }
        // Versions before a release count only where there is nothing else, or somebody names one (PEP 440).
        let named = self.roots.iter().any(|root| root.name.as_ref() == project && names_prerelease(root));
        let final_ones = best.keys().any(|version| !version.any_prerelease());
        let counts =
            |one: &Release| named || !final_ones || is_kept(&one.file) || !one.version.any_prerelease();
        best.into_values().filter(counts).collect()
    }

    /// A wheel of the lock before that the index has no more, if the store has it.
    fn stored(&self, kept: &LockedWheel, files: &[File]) -> Option<File> {
        if files.iter().any(|file| file.name == kept.file && file.sha256 == Some(kept.sha256)) {
            return None;
        }
        let there = self.request.store.artifact(kept.sha256).exists();
        self.progress.note(&if there {
            format!("only the store still has `{}`: the index has it no more", kept.file)
        } else {
            format!("the index has `{}` no more, and the store has it not either", kept.file)
        });
        there.then(|| File { size: Some(kept.size), ..stored_file(&kept.file, kept.sha256) })
    }

    /// A withdrawn file only where the recipe names its very version (PEP 592).
    fn is_wanted(&self, project: &str, file: &File, name: &WheelName) -> bool {
        let pinned = || {
            let Ok(version) = Version::from_str(&name.version) else { return false };
            let mine = self.roots.iter().filter(|root| root.name.as_ref() == project);
            mine.filter_map(specifiers).flat_map(|all| all.iter()).any(|one| {
                matches!(one.operator(), Operator::Equal | Operator::ExactEqual) && *one.version() == version
            })
        };
        !file.yanked || pinned()
    }

    /// What a release requires, markers not yet looked at.
    fn requirements(&self, release: &Release) -> Result<Vec<Requirement>, Error> {
        if let Some(known) = self.required.borrow().get(&release.file.name) {
            return Ok(known.clone());
        }
        let text = match self.request.index.metadata(&release.file)? {
            Some(text) => text,
            None => self.metadata_of_wheel(&release.file)?,
        };
        let bad = |reason: String| Error::BadLayout { package: release.file.name.clone(), reason };
        let header = control::parse_header("METADATA", &text).map_err(|e| bad(e.to_string()))?;
        let mut all = Vec::new();
        for line in header.all("Requires-Dist") {
            let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
            all.push(
                requirement(&line).map_err(|reason| bad(format!("its `Requires-Dist: {line}`: {reason}")))?,
            );
        }
        self.required.borrow_mut().insert(release.file.name.clone(), all.clone());
        Ok(all)
    }

    fn metadata_of_wheel(&self, file: &File) -> Result<String, Error> {
        let wanted: Vec<Wanted> = wanted(file).into_iter().collect();
        self.request.store.fetch(&self.request.index.client, &wanted, self.progress)?;
        let sha256 = file.sha256.unwrap_or_else(|| Sha256::of(b""));
        metadata(&self.request.store.artifact(sha256), &file.name)
    }

    fn dependencies(&self, candidate: &Candidate) -> Result<KnownDependencies, Error> {
        let mut known = KnownDependencies::default();
        let Some(release) = self.release(candidate) else { return Ok(known) };
        let extras: Vec<ExtraName> = candidate.extra.iter().cloned().collect();
        for requirement in self.requirements(&release)? {
            if requirement.evaluate_markers(&self.environment, &extras) {
                known
                    .requirements
                    .extend(self.version_sets(&requirement).into_iter().map(ConditionalRequirement::from));
            }
        }
        if candidate.extra.is_some() {
            let name = self.pool.intern_package_name(candidate.project.clone());
            let exactly = self.pool.intern_version_set(name, Versions::Exactly(candidate.version.clone()));
            known.requirements.push(exactly.into());
        }
        Ok(known)
    }
}

/// Whether a `Requires-Python` allows a Python. One that cannot be read allows all, as with pip.
fn allows(wish: &str, target: &Target) -> bool {
    match (VersionSpecifiers::from_str(wish), Version::from_str(&target.full)) {
        (Ok(wish), Ok(full)) => wish.contains(&full),
        _ => true,
    }
}

fn specifiers(requirement: &Requirement) -> Option<&VersionSpecifiers> {
    match &requirement.version_or_url {
        Some(VersionOrUrl::VersionSpecifier(specifiers)) => Some(specifiers),
        _ => None,
    }
}

fn names_prerelease(requirement: &Requirement) -> bool {
    specifiers(requirement).is_some_and(|all| all.iter().any(|one| one.version().any_prerelease()))
}

fn wanted(file: &File) -> Option<Wanted> {
    let sha256 = file.sha256?;
    (!file.url.is_empty()).then(|| Wanted {
        urls: vec![file.url.clone()],
        what: format!("`{}`", file.name),
        sha256,
        size: file.size,
    })
}

fn local_release(local: &Local) -> Result<Release, Error> {
    let bad = |reason: &str| Error::BadLayout { package: local.file.clone(), reason: reason.to_owned() };
    let name = WheelName::parse(&local.file).ok_or_else(|| bad("it is not named as a wheel is"))?;
    let version = Version::from_str(&name.version).map_err(|_| bad("its version cannot be read"))?;
    let file = stored_file(&local.file, local.sha256);
    Ok(Release { version, file, rank: (0, 0, 0, std::cmp::Reverse((0, String::new()))) })
}

/// A file that is in the store already.
fn stored_file(name: &str, sha256: Sha256) -> File {
    File {
        name: name.to_owned(),
        url: String::new(),
        sha256: Some(sha256),
        size: None,
        requires_python: None,
        yanked: false,
        metadata_sha256: None,
    }
}

/// The `METADATA` of a wheel.
fn metadata(wheel: &Path, name: &str) -> Result<String, Error> {
    let mut found = None;
    archive::walk::<Error>(wheel, &Limits::default(), &mut |_, entry, content| {
        let is_metadata = entry
            .path
            .as_str()
            .split_once('/')
            .is_some_and(|(folder, file)| folder.ends_with(".dist-info") && file == "METADATA");
        if is_metadata {
            let mut text = Vec::new();
            content.take(METADATA_BYTES_MAX).read_to_end(&mut text).map_err(Error::io("read", wheel))?;
            found = Some(String::from_utf8_lossy(&text).into_owned());
        }
        Ok(())
    })?;
    found.ok_or_else(|| Error::BadLayout {
        package: name.to_owned(),
        reason: "it has no `METADATA`".to_owned(),
    })
}

impl Interner for Solving<'_> {
    type NameId = NameId;
    type SolvableId = SolvableId;

    fn display_solvable(&self, solvable: SolvableId) -> impl fmt::Display + '_ {
        &self.pool.resolve_solvable(solvable).record
    }

    fn display_merged_solvables(&self, solvables: &[SolvableId]) -> impl fmt::Display + '_ {
        let labels = solvables.iter().map(|&id| self.pool.resolve_solvable(id).record.label.as_str());
        labels.collect::<Vec<_>>().join(" | ")
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

impl DependencyProvider for Solving<'_> {
    async fn filter_candidates(
        &self,
        candidates: &[SolvableId],
        version_set: VersionSetId,
        inverse: bool,
    ) -> Vec<SolvableId> {
        let versions = self.pool.resolve_version_set(version_set);
        let contains = |version: &Version| match versions {
            Versions::Fitting(specifiers) => specifiers.contains(version),
            Versions::Exactly(exact) => exact == version,
        };
        let keep = |id: &SolvableId| contains(&self.pool.resolve_solvable(*id).record.version) != inverse;
        candidates.iter().copied().filter(keep).collect()
    }

    async fn get_candidates(&self, name: NameId) -> Option<Candidates> {
        let text = self.pool.resolve_package_name(name).clone();
        let (project, extra) = match text.strip_suffix(']').and_then(|rest| rest.split_once('[')) {
            Some((project, extra)) => (project.to_owned(), ExtraName::from_str(extra).ok()),
            None => (text.clone(), None),
        };
        let releases = match self.releases(&project) {
            Ok(releases) => releases,
            Err(error) => {
                self.fail(error);
                return None;
            }
        };
        let candidates: Vec<SolvableId> = releases
            .iter()
            .map(|release| {
                let label = format!("{text} {}", release.version);
                let version = release.version.clone();
                let candidate = Candidate { project: project.clone(), extra: extra.clone(), version, label };
                self.pool.intern_solvable(name, candidate)
            })
            .collect();
        let is_kept = |release: &Release| {
            let mut kept = self.request.kept.iter().filter(|wheel| wheel.name == project);
            kept.any(|wheel| release.file.sha256 == Some(wheel.sha256))
        };
        let favored = releases.iter().position(is_kept).map(|place| candidates[place]);
        (!candidates.is_empty()).then(|| Candidates { candidates, favored, ..Candidates::default() })
    }

    async fn sort_candidates(&self, _: &SolverCache<Self>, solvables: &mut [SolvableId]) {
        let version = |id: &SolvableId| &self.pool.resolve_solvable(*id).record.version;
        solvables.sort_by(|a, b| version(b).cmp(version(a)));
    }

    async fn get_dependencies(&self, solvable: SolvableId) -> Dependencies {
        let candidate = self.pool.resolve_solvable(solvable).record.clone();
        match self.dependencies(&candidate) {
            Ok(known) => Dependencies::Known(known),
            // A wheel that cannot be read is no candidate; what else went wrong ends the search.
            Err(Error::BadLayout { reason, .. }) => Dependencies::Unknown(self.pool.intern_string(reason)),
            Err(error) => {
                self.fail(error);
                Dependencies::Unknown(self.pool.intern_string("it cannot be read"))
            }
        }
    }

    fn should_cancel_with_value(&self) -> Option<Box<dyn Any>> {
        self.failure.borrow().is_some().then(|| Box::new(()) as Box<dyn Any>)
    }
}
