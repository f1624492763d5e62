//! The main path as functions: facts, new, lock, build, program. `cli` calls them one by one, `run FILE` all at once.

use std::cell::LazyCell;
use std::collections::{BTreeSet, HashMap};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use hatchway_envs::build::owners::{self, Owners};
use hatchway_envs::build::{self, Built};
use hatchway_envs::choose::{self, Asked, Need, Upgrade};
use hatchway_envs::debian::relation::{self, Alternatives};
use hatchway_envs::digest::Sha256;
use hatchway_envs::lock::{Lock, LockedArtifact, write_atomically};
use hatchway_envs::python::Local;
use hatchway_envs::resolve::Group;
use hatchway_envs::store::roots::Root;
use hatchway_inspect::Facts;

use crate::artifact::{self, Acquired};
use crate::context::Context;
use crate::error::Error;
use crate::plan::{self, Host, Plan};
use crate::recipe::{self, Architecture, Base, Draft, Located, Name, Rung, Runner};
use crate::{base, install, installed, patches, python, rpm, scripts, sources, suggest, wine};

/// What an AppImage starts (AppImage specification, "The AppDir").
const APP_RUN: &str = "/AppRun";
/// The Python of a tree.
const PYTHON: &str = "/usr/bin/python3";

/// Writes a recipe for an artifact into `folder/<name>/recipe.toml`.
///
/// # Errors
/// When there is one already and `replace` is not set, or it cannot be written.
pub fn new(
    context: &Context,
    acquired: &Acquired,
    facts: &Facts,
    name: Option<&str>,
    folder: &Path,
    replace: bool,
) -> Result<Located, Error> {
    let name = match name {
        Some(name) => Name::try_from(name.to_owned()).map_err(Error::Usage)?,
        None => default_name(facts),
    };
    let path = folder.join(name.as_str()).join("recipe.toml");
    if path.exists() && !replace {
        return Err(Error::RecipeExists(path));
    }
    let names = member_names(&acquired.path, installed::carries(facts))?;
    // Until the recipe names it, nothing but this keeps the file.
    let _no_collector = context.store.no_collector()?;
    context.store.import(&acquired.path, Some(acquired.sha256))?;
    let inside = installed::facts_inside(facts);
    let python = installed::wants_python(&inside, &acquired.path)?;
    let chosen = if python { wheel_program(&name, &acquired.path)? } else { choose_program(&name, &inside) };
    let install = suggest::installer(facts, &acquired.path)?;
    let planned = plan::plan(&inside, None, &Host::default());
    let services = planned.services(&inside);
    let program = match chosen {
        _ if install.is_some() => None,
        // It would run twice.
        Choice::One(path) if services.as_ref().is_some_and(|services| services.start(&inside, &path)) => None,
        Choice::One(path) if python => Some(path),
        Choice::One(path) => Some(recipe::unpack_folder(&name, &inside, false).unwrap_or_default() + &path),
        _ => None,
    };
    let wine = planned.reasons.first().filter(|_| planned.runner == Runner::Wine);
    let text = recipe::draft(&Draft {
        name: &name,
        origin: &acquired.origin,
        facts: &inside,
        program: program.as_deref(),
        python,
        install: install.as_ref(),
        services: services.as_ref(),
        wine: wine.map(|reason| reason.text.as_str()),
        brings: &|path| names.contains(path.trim_start_matches('/')),
    });
    let parent = path.parent().unwrap_or(folder);
    // As root's file is: closed to others.
    let mode = if crate::dirs::is_root() { 0o755 } else { 0o777 };
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(builder.recursive(true), mode);
    builder.create(parent).map_err(Error::io("create", parent))?;
    write_atomically(&path, text.as_bytes())?;
    context.printer.say(format!("wrote {}", path.display()));
    recipe::read(&path)
}

/// The package's name, or the file's without its endings.
pub(crate) fn default_name(facts: &Facts) -> Name {
    match &facts.package {
        Some(package) => Name::from_any(&package.name),
        None => {
            let file = &facts.artifact.file;
            const ENDINGS: [&str; 14] = [
                ".tar.gz",
                ".tar.xz",
                ".tar.zst",
                ".tar.bz2",
                ".tgz",
                ".tar",
                ".zip",
                ".run",
                ".bin",
                ".sh",
                ".AppImage",
                ".appimage",
                ".exe",
                ".msi",
            ];
            let stem = ENDINGS.iter().find_map(|ending| file.strip_suffix(ending)).unwrap_or(file);
            Name::from_any(stem)
        }
    }
}

fn member_names(path: &Path, carried: bool) -> Result<BTreeSet<String>, Error> {
    let mut names = BTreeSet::new();
    installed::walk(path, carried, &mut |entry, _| {
        names.insert(entry.path.as_str().to_owned());
        Ok(())
    })?;
    Ok(names)
}

/// The program of a wheel: the one of its entry points that is named like it, or the only one, or else Python.
fn wheel_program(name: &Name, path: &Path) -> Result<Choice, Error> {
    let programs = installed::wheel_programs(path)?;
    let named = |path: &&String| path.rsplit('/').next() == Some(name.as_str());
    let one = programs.iter().find(named).or(match &programs[..] {
        [one] => Some(one),
        _ => None,
    });
    Ok(Choice::One(one.cloned().unwrap_or_else(|| PYTHON.to_owned())))
}

/// How a lock is made.
#[derive(Debug, Clone, Default)]
pub struct LockWish {
    /// Suites to try, in this order, instead of the recipe's or the configured ones.
    pub suites: Vec<String>,
    /// What of the lock before may move.
    pub upgrade: Upgrade,
    /// The lock is made, but not written.
    pub dry_run: bool,
}

/// A lock, and the one before it.
#[derive(Debug, Clone)]
pub struct Locked {
    /// The new one.
    pub lock: Lock,
    /// The one that it replaces; one that cannot be read counts as none.
    pub before: Option<Lock>,
}

/// Makes the lock of a recipe and writes it.
///
/// # Errors
/// No suite fits, downloads fail, the recipe asks for what is not there.
pub fn lock(context: &Context, located: &Located, wish: &LockWish) -> Result<Locked, Error> {
    let recipe = &located.recipe;
    let name = recipe.package.name.as_str();
    supported(located)?;
    let artifacts = artifact::gather(context, located)?;
    let all_facts = all_facts(context, &artifacts)?;
    admitted(located, &all_facts, &[])?;
    let artifacts = locked_artifacts(located, &all_facts, artifacts)?;
    let before = Lock::read(&located.lock_path()).ok();
    if matches!(wish.upgrade, Upgrade::Only(_)) && before.is_none() {
        return Err(Error::NoLock(name.to_owned()));
    }
    let choose = |artifacts: Vec<LockedArtifact>, captured: Vec<Facts>| {
        let chosen = admitted(located, &all_facts, &captured)?;
        let mut inside = Vec::new();
        for (facts, locked) in all_facts.iter().zip(&artifacts) {
            inside.extend(installed::facts_of(&locked.how, facts)?);
        }
        inside.extend(&captured);
        let runner = match chosen.runner {
            // An installer itself is a Windows program, too.
            Runner::Wine => wine::packages(located, &all_facts.iter().chain(&captured).collect::<Vec<_>>())?,
            Runner::None => Vec::new(),
        };
        choose(context, located, (wish, before.as_ref()), artifacts, &inside, (&chosen, runner))
    };
    let lock = install::lock(context, located, &all_facts, &artifacts, !wish.dry_run, &choose)?;
    if !wish.dry_run && before.as_ref() != Some(&lock) {
        lock.write(&located.lock_path())?;
    }
    Ok(Locked { lock, before })
}

/// The planned rung and runner, if this version has them.
fn admitted(located: &Located, facts: &[Facts], captured: &[Facts]) -> Result<Plan, Error> {
    let plan = merged_plan(facts.iter().chain(captured), located);
    // What asks for a container by itself (set-id helpers, an init) asks for more than the rung gives; a person may know
    // that it does without.
    let has_rung = plan.rung == Rung::Fhs || located.recipe.run.rung == plan.rung;
    if !has_rung {
        let rung = plan.rung.to_string();
        let name = located.recipe.package.name.to_string();
        let reasons = plan.reasons.iter().map(|r| format!("{} ({})", r.text, r.rule)).collect();
        let ways =
            plan.obstacles.iter().filter(|one| one.rule == "version").map(|one| one.text.clone()).collect();
        return Err(Error::Rung { name, rung, reasons, ways });
    }
    Ok(plan)
}

/// Chooses packages and wheels for what is `inside` the artifacts.
fn choose(
    context: &Context,
    located: &Located,
    (wish, before): (&LockWish, Option<&Lock>),
    artifacts: Vec<LockedArtifact>,
    inside: &[&Facts],
    (plan, runner): (&Plan, Vec<Alternatives>),
) -> Result<Lock, Error> {
    let recipe = &located.recipe;
    let environment = &recipe.environment;
    let (needs, depends) = evidence(located, inside)?;
    refuse_foreign(located, &needs, &depends)?;
    // As with a suite that the recipe names, `--suite` counts for more.
    let asked = wish.suites.is_empty();
    if matches!(environment.base(), Some(Base::Oci(_))) || asked && environment.base() == Some(&Base::None) {
        return base::lock(context, located, wish, artifacts, (&needs, &depends), plan.rung.to_string());
    }
    let sources = sources::of_recipe(context, located);
    let mut request = choose::Request {
        archive: context.archive(),
        store: &context.store,
        sources: &sources,
        suites: suites_for(context, located, &wish.suites),
        components: environment.components.clone(),
        architectures: environment.architectures.iter().map(|a| a.name().to_owned()).collect(),
        needs,
        depends,
        packages: wished_packages(recipe).into_iter().chain(runner).collect(),
        exclude: environment.exclude.iter().cloned().collect(),
        pins: environment.pin.clone().into_iter().collect::<HashMap<_, _>>(),
        before,
        upgrade: wish.upgrade.clone(),
        artifacts,
        patches: patches::gather(context, located)?,
        python: String::new(),
        wheels: Vec::new(),
        refused: Vec::new(),
        recipe: recipe.lock_inputs(),
        kernel: kernel(recipe, &plan.rung.to_string()),
        rung: plan.rung.to_string(),
        runner: wine::locked(plan.runner),
    };
    // What a person named stays in their order.
    if plan.runner == Runner::Wine && asked && environment.base().is_none() {
        request.suites = wine::by_newest(&request, &context.printer)?;
    }
    match &environment.python {
        None => Ok(choose::lock(&request, &context.printer)?),
        Some(python) => lock_with_python(context, located, python, inside, request),
    }
}

/// The kernel of the smallest image that Debian has for guests.
const GUEST_KERNEL: &str = "linux-image-cloud-amd64";

/// Every lock names the kernel that a guest would have; only that of a tool for the vm rung cannot be without.
fn kernel(recipe: &recipe::Recipe, rung: &str) -> choose::Kernel {
    let wish = recipe.run.vm.as_ref().and_then(|vm| vm.kernel.clone());
    let required = wish.is_some() || rung == "vm";
    choose::Kernel { package: wish.unwrap_or_else(|| GUEST_KERNEL.to_owned()), required }
}

/// Fetches the kernel of a lock, unless the store has it.
///
/// # Errors
/// Downloads.
pub(crate) fn fetch_kernel(
    context: &Context,
    located: &Located,
    kernel: &hatchway_envs::lock::LockedPackage,
) -> Result<(), Error> {
    let sources = sources::of_recipe(context, located);
    let urls =
        |package: &hatchway_envs::lock::LockedPackage| choose::urls(context.archive(), &sources, package);
    Ok(build::download_package(&context.store, &context.client, kernel, &urls, &context.printer)?)
}

fn lock_with_python(
    context: &Context,
    located: &Located,
    wish: &recipe::Python,
    inside: &[&Facts],
    request: choose::Request<'_>,
) -> Result<Lock, Error> {
    let wheels = request.artifacts.iter().filter(|artifact| installed::is_wheel(&artifact.how));
    let local: Vec<Local> =
        wheels.map(|wheel| Local { file: wheel.file.clone(), sha256: wheel.sha256 }).collect();
    // Wheels bring libraries to each other.
    let needs_of = |wheels: &[Facts]| {
        let all: Vec<&Facts> = inside.iter().copied().chain(wheels).collect();
        let (needs, depends) = evidence(located, &all)?;
        refuse_foreign(located, &needs, &depends)?;
        Ok(needs)
    };
    python::lock(context, wish, &local, request, &needs_of)
}

/// What the artifacts ask of an architecture that the recipe does not name cannot be had.
fn refuse_foreign(located: &Located, needs: &[Need], depends: &[Asked]) -> Result<(), Error> {
    let known = |name: &str| located.recipe.environment.architectures.iter().any(|a| a.name() == name);
    let need = needs.iter().find(|need| !known(&need.architecture));
    let asked = depends.iter().find(|asked| !known(&asked.group.architecture));
    let (who, architecture) = match (need, asked) {
        (Some(need), _) => (&need.wanted_by, &need.architecture),
        (None, Some(asked)) => (&asked.whose, &asked.group.architecture),
        (None, None) => return Ok(()),
    };
    Err(Error::Architecture { program: who.clone(), architecture: architecture.clone() })
}

/// What the recipe adds, and what carrying it out takes.
fn wished_packages(recipe: &recipe::Recipe) -> Vec<Alternatives> {
    let environment = &recipe.environment;
    let scripts = environment.configure == recipe::Configure::Scripts;
    let installers = recipe.artifacts.iter().any(|artifact| artifact.install.is_some());
    let own = build::needed_packages(&environment.locales, scripts, installers);
    // Whoever is not root asks systemd over D-Bus.
    let systemd: &[&'static str] = if recipe.run.services.is_empty() { &[] } else { &["systemd", "dbus"] };
    let own = own.into_iter().chain(systemd.iter().copied()).map(|name| vec![relation::Relation::any(name)]);
    environment.packages.iter().map(recipe::PackageWish::alternatives).chain(own).collect()
}

/// The artifacts as the lock has them. A wheel wants a Python.
fn locked_artifacts(
    located: &Located,
    facts: &[Facts],
    artifacts: Vec<(String, Sha256, u64)>,
) -> Result<Vec<LockedArtifact>, Error> {
    let recipe = &located.recipe;
    let mut locked = Vec::new();
    for ((artifact, facts), (file, sha256, size)) in recipe.artifacts.iter().zip(facts).zip(artifacts) {
        let how = installed::how(artifact, facts).to_owned();
        if installed::is_wheel(&how) && recipe.environment.python.is_none() {
            return Err(Error::WheelWithoutPython(file));
        }
        locked.push(LockedArtifact { file, sha256, size, how, captured: None });
    }
    Ok(locked)
}

fn suites_for(context: &Context, located: &Located, suites: &[String]) -> Vec<String> {
    match located.recipe.environment.base() {
        _ if !suites.is_empty() => suites.to_vec(),
        Some(Base::Debian(suite)) => vec![suite.clone()],
        _ => context.config.suites.clone(),
    }
}

fn all_facts(context: &Context, artifacts: &[(String, Sha256, u64)]) -> Result<Vec<Facts>, Error> {
    artifacts
        .iter()
        .map(|(file, sha256, _)| artifact::facts(context, file, *sha256, &context.store.artifact(*sha256)))
        .collect()
}

/// How a recipe would be run on this host, and the facts that say so: those that its lock was, or would be, made from. Installers are
/// not run for it.
///
/// # Errors
/// An artifact that is not there, or cannot be inspected.
pub fn planned(context: &Context, located: &Located) -> Result<(Plan, Vec<Facts>), Error> {
    let artifacts = artifact::gather(context, located)?;
    let mut facts = all_facts(context, &artifacts)?;
    let locked = Lock::read(&located.lock_path()).map(|lock| lock.artifacts).unwrap_or_default();
    for (artifact, (_, sha256, _)) in locked.iter().zip(&artifacts) {
        let there = |sha256| context.store.artifact(sha256).exists();
        let captured = artifact.captured.filter(|one| artifact.sha256 == *sha256 && there(one.sha256));
        if let Some(captured) = captured {
            facts.push(install::captured_facts(context, &artifact.file, captured.sha256)?);
        }
    }
    let host = Host::detect();
    let mut plan = merged_plan_on(facts.iter(), located, &host);
    // Each artifact has its own; what one is refused, the tool is.
    for other in facts.iter().map(|facts| plan::plan(facts, Some(&located.recipe), &host)) {
        plan.join(other);
    }
    Ok((plan, facts))
}

/// The plan of the artifact that demands the most, whatever this host can do.
fn merged_plan<'f>(all: impl Iterator<Item = &'f Facts>, located: &Located) -> Plan {
    merged_plan_on(all, located, &Host::default())
}

fn merged_plan_on<'f>(all: impl Iterator<Item = &'f Facts>, located: &Located, host: &Host) -> Plan {
    let plans: Vec<Plan> = all.map(|facts| plan::plan(facts, Some(&located.recipe), host)).collect();
    let wine = plans.iter().any(|plan| plan.runner == Runner::Wine);
    let highest = plans.into_iter().max_by_key(|plan| plan.rung);
    highest.map_or_else(
        || empty_plan(located),
        |plan| Plan {
            runner: if wine && plan.rung != Rung::Vm { Runner::Wine } else { plan.runner },
            ..plan
        },
    )
}

/// A recipe without artifacts runs a program of the environment itself.
fn empty_plan(located: &Located) -> Plan {
    Plan {
        rung: if located.recipe.run.rung == Rung::Auto { Rung::Fhs } else { located.recipe.run.rung },
        runner: located.recipe.run.runner,
        reasons: Vec::new(),
        obstacles: Vec::new(),
        moves: Vec::new(),
        wants: Vec::new(),
        refused: Vec::new(),
        coverage: plan::Coverage::default(),
    }
}

/// Libraries that no artifact brings, and relations to packages that no artifact is, each with whose it is.
type Evidence = (Vec<Need>, Vec<Asked>);

/// What belongs to one architecture: a library's name, and the machine as ELF files name it.
pub(crate) type Library<'a> = (&'a str, &'a str);

/// What the artifacts need from outside.
fn evidence(located: &Located, all: &[&Facts]) -> Result<Evidence, Error> {
    let brought: BTreeSet<Library<'_>> = all
        .iter()
        .flat_map(|facts| &facts.elf)
        .filter_map(|elf| Some((elf.soname.as_deref()?, elf.machine.as_str())))
        .collect();
    let several = all.len() > 1;
    let mut needs = Vec::new();
    for need in all.iter().flat_map(|facts| &facts.needs) {
        let sibling = several && brought.contains(&(need.soname.as_str(), need.machine.as_str()));
        if need.found.is_some() || sibling || !need.elsewhere.is_empty() {
            continue;
        }
        let wanted_by =
            need.wanted_by.first().map(|p| p.trim_start_matches('/').to_owned()).unwrap_or_default();
        let architecture = architecture_of(&wanted_by, &need.machine)?;
        needs.push(Need {
            soname: need.soname.clone(),
            versions: need.versions.clone(),
            wanted_by,
            architecture,
        });
    }
    needs.extend(required_at_run_time(all, &brought, &needs)?);
    let needed = all.iter().flat_map(|facts| &facts.needs);
    let known: BTreeSet<Library<'_>> =
        needed.map(|need| (need.soname.as_str(), need.machine.as_str())).collect();
    needs.extend(rpm::needs(all, &brought, &known));
    needs.retain(|need| !located.recipe.environment.exclude.contains(&need.soname));
    let own: BTreeSet<&str> =
        all.iter().filter_map(|f| f.package.as_ref()).map(|p| p.name.as_str()).collect();
    let mut depends = rpm::depends(all);
    depends.extend(scripts::depends(all));
    for package in all.iter().filter_map(|facts| facts.package.as_ref()) {
        // A package for every architecture counts as a native one.
        let own_architecture = package.architecture.as_deref().filter(|a| *a == "i386").unwrap_or("amd64");
        for (field, text) in [("Pre-Depends", &package.pre_depends), ("Depends", &package.depends)] {
            let groups =
                relation::parse(text.as_deref().unwrap_or_default(), own_architecture).map_err(|source| {
                    hatchway_envs::Error::BadField { field, package: package.name.clone(), source }
                })?;
            let outside =
                groups.into_iter().filter(|group| !group.iter().any(|r| own.contains(r.name.as_str())));
            depends.extend(outside.map(|alternatives| Asked {
                whose: package.name.clone(),
                group: Group { architecture: own_architecture.to_owned(), alternatives },
            }));
        }
    }
    Ok((needs, depends))
}

/// Libraries that a program says it cannot do without (`.note.dlopen`, priority `required`), though it is not linked
/// with them. Of several names the first counts.
fn required_at_run_time(
    all: &[&Facts],
    brought: &BTreeSet<Library<'_>>,
    known: &[Need],
) -> Result<Vec<Need>, Error> {
    let mut required: Vec<Need> = Vec::new();
    for elf in all.iter().flat_map(|facts| &facts.elf) {
        for note in elf.dlopen_notes.iter().filter(|note| note.priority.as_deref() == Some("required")) {
            let Some(soname) = note.sonames.first() else { continue };
            let there = note.sonames.iter().any(|name| brought.contains(&(name, &elf.machine)));
            let wanted_by = elf.path.trim_start_matches('/').to_owned();
            let architecture = architecture_of(&wanted_by, &elf.machine)?;
            let same = |need: &Need| need.soname == *soname && need.architecture == architecture;
            if !there && !known.iter().chain(&required).any(same) {
                required.push(Need { soname: soname.clone(), versions: Vec::new(), wanted_by, architecture });
            }
        }
    }
    Ok(required)
}

/// Debian's name of the architecture of a program.
fn architecture_of(program: &str, machine: &str) -> Result<String, Error> {
    match Architecture::of_machine(machine) {
        Some(architecture) => Ok(architecture.name().to_owned()),
        None => Err(Error::Machine { program: program.to_owned(), machine: machine.to_owned() }),
    }
}

/// Refuses what a recipe asks for and this version does not carry out: at every step, since a recipe may be edited after
/// it was locked.
fn supported(located: &Located) -> Result<(), Error> {
    if located.recipe.image().is_some() {
        let name = &located.recipe.package.name;
        return Err(Error::Host {
            message: format!("`{name}` is a guest from a disk image: there is nothing to lock or to build"),
            hints: vec![format!("run `hatchway run {name}`")],
        });
    }
    let what = located.recipe.unsupported();
    if what.is_empty() {
        return Ok(());
    }
    Err(Error::Unsupported { name: located.recipe.package.name.to_string(), what })
}

/// Reads the lock of a recipe and checks that it still fits.
///
/// # Errors
/// When there is none, the recipe has changed since, or asks for what this version does not carry out.
pub fn read_lock(located: &Located) -> Result<Lock, Error> {
    supported(located)?;
    let name = located.recipe.package.name.as_str();
    if !located.lock_path().exists() {
        return Err(Error::NoLock(name.to_owned()));
    }
    let lock = Lock::read(&located.lock_path())?;
    let wished = located.recipe.run.rung;
    let other_rung = wished != Rung::Auto && wished.to_string() != lock.rung;
    let other_runner = located.recipe.run.runner == Runner::Wine && lock.runner.is_empty();
    if lock.recipe != located.recipe.lock_inputs()
        || other_rung
        || other_runner
        || patches::differ(located, &lock)?
    {
        return Err(Error::StaleLock(name.to_owned()));
    }
    Ok(lock)
}

/// Builds the tree of a locked recipe, or finds it.
///
/// # Errors
/// See [`build::build`].
pub fn build(context: &Context, located: &Located, lock: &Lock) -> Result<Built, Error> {
    let built = with_request(context, located, lock, |request| {
        if context.store.built(request.key()).is_none() {
            artifact::gather(context, located)?;
            base::provide(context, located, lock)?;
            patches::provide(context, located, lock)?;
            install::provide(context, located, lock)?;
        }
        let built = build::build(&context.store, &context.client, request, &context.printer)?;
        if let Some(kernel) = lock.kernel.as_ref().filter(|_| lock.rung == "vm") {
            // A run needs no network.
            fetch_kernel(context, located, kernel)?;
        }
        Ok((built, request.key()))
    });
    let (built, key) = built?;
    let recipe = std::path::absolute(&located.path).map_err(Error::io("find", &located.path))?;
    let tool = located.recipe.package.name.to_string();
    context.store.record_root(&Root { tool, recipe, key, tree: built.tree })?;
    Ok(built)
}

/// Whether the tree of a locked recipe is in the store.
///
/// # Errors
/// The recipe cannot be made a request for a tree.
pub fn is_built(context: &Context, located: &Located, lock: &Lock) -> Result<bool, Error> {
    with_request(context, located, lock, |request| Ok(context.store.built(request.key()).is_some()))
}

/// Says which input of a lock brings which part of its tree, which was built.
///
/// # Errors
/// When the records of unpacked archives are gone and cannot be made again.
pub fn owners(context: &Context, located: &Located, lock: &Lock) -> Result<Owners, Error> {
    with_request(context, located, lock, |request| {
        if !owners::is_unpacked(&context.store, request) {
            artifact::gather(context, located)?;
            base::provide(context, located, lock)?;
            install::provide(context, located, lock)?;
        }
        Ok(owners::owners(&context.store, &context.client, request, &context.printer)?)
    })
}

/// Fetches what of a lock's packages and wheels the store lacks.
///
/// # Errors
/// Downloads.
pub fn fetch_inputs(context: &Context, located: &Located, lock: &Lock) -> Result<(), Error> {
    if let Some(kernel) = lock.kernel.as_ref().filter(|_| lock.rung == "vm") {
        fetch_kernel(context, located, kernel)?;
    }
    with_request(context, located, lock, |request| {
        Ok(build::download(&context.store, &context.client, request, &context.printer)?)
    })
}

fn with_request<T>(
    context: &Context,
    located: &Located,
    lock: &Lock,
    then: impl FnOnce(&build::Request<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let environment = &located.recipe.environment;
    let artifacts = located.recipe.artifacts.iter().zip(&lock.artifacts);
    let layouts = artifacts.map(|(artifact, locked)| installed::layout(artifact, locked, lock));
    let sources = sources::of_recipe(context, located);
    let urls =
        |package: &hatchway_envs::lock::LockedPackage| choose::urls(context.archive(), &sources, package);
    let index = std::cell::OnceCell::new();
    let wheel_urls = |wheel: &hatchway_envs::lock::LockedWheel| {
        python::urls(index.get_or_init(|| context.python_index()), wheel)
    };
    // Missing only matters where a build step needs it, which then says so.
    let shim = crate::launch::shim().ok();
    let request = build::Request {
        lock,
        layouts: layouts.collect(),
        links: &environment.links,
        locales: &environment.locales,
        configure: match environment.configure {
            recipe::Configure::Builtin => build::Configure::Builtin,
            recipe::Configure::Scripts => build::Configure::Scripts,
        },
        shim: shim.as_deref(),
        urls: &urls,
        wheel_urls: &wheel_urls,
    };
    then(&request)
}

/// Builds the tree of a locked recipe and holds it, so that no collector takes it.
///
/// # Errors
/// See [`build::build`].
pub fn build_and_hold(context: &Context, located: &Located, lock: &Lock) -> Result<(Built, OwnedFd), Error> {
    loop {
        let built = build(context, located, lock)?;
        // A collector may have been quicker; the next turn builds the tree again.
        if let Some(held) = context.store.hold_tree(built.tree)? {
            return Ok((built, held));
        }
    }
}

/// What `--program` and the recipe leave open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// No doubt.
    One(String),
    /// Several.
    Several(Vec<String>),
    /// None at all.
    Nothing,
}

/// The program that is named like the tool or the package, or the only one, or the one that its service starts.
#[must_use]
pub fn choose_program(name: &Name, facts: &Facts) -> Choice {
    let package = facts.package.as_ref().map(|p| p.name.as_str());
    if facts.programs.iter().any(|program| program.path == APP_RUN) {
        return Choice::One(APP_RUN.to_owned());
    }
    let base = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    let named = |path: &str| base(path) == name.as_str() || Some(base(path).as_str()) == package;
    // What a package puts below /etc is started by others: init scripts, hooks.
    let own = |path: &str| package.is_none() || !path.starts_with("/etc/");
    let programs = || facts.programs.iter().filter(|program| own(&program.path));
    let on_path: Vec<&str> = programs().filter(|p| p.on_path).map(|p| p.path.as_str()).collect();
    let all: Vec<&str> = programs().map(|p| p.path.as_str()).collect();
    for group in [&on_path, &all] {
        let fitting: Vec<&&str> = group.iter().filter(|path| named(path)).collect();
        if let [one] = fitting[..] {
            return Choice::One((*one).to_owned());
        }
        if let [one] = group[..] {
            return Choice::One(one.to_owned());
        }
    }
    let several = if on_path.is_empty() { all } else { on_path };
    match service_program(facts) {
        Some(program) if several.is_empty() || several.contains(&program.as_str()) => Choice::One(program),
        _ if several.is_empty() => Choice::Nothing,
        _ => Choice::Several(several.into_iter().map(str::to_owned).collect()),
    }
}

/// What the first service of a package starts: its program may be in another package.
fn service_program(facts: &Facts) -> Option<String> {
    let mut services = facts.system.systemd_units.iter().filter(|unit| unit.path.ends_with(".service"));
    let command = services.find_map(|unit| unit.exec.first())?;
    // systemd.service(5), "Special executable prefixes".
    let path = command.split_whitespace().next()?.trim_start_matches(['@', '-', ':', '+', '!', '|']);
    path.starts_with('/').then(|| path.to_owned())
}

/// The program to start: `--program`, the recipe's, or the one without doubt.
///
/// # Errors
/// When there are several or none.
pub fn program(context: &Context, located: &Located, wish: Option<&str>) -> Result<String, Error> {
    let recipe = &located.recipe;
    // Read only where it is asked: most recipes name their program with its whole path.
    let lock = LazyCell::new(|| Lock::read(&located.lock_path()).ok());
    let locked = |number: usize| (*lock).as_ref().and_then(|lock| lock.artifacts.get(number));
    let folder = |number: usize, artifact| installed::folder(artifact, locked(number), (*lock).as_ref());
    if let Some(wish) = wish {
        let inside = wish.contains('/') && !wish.starts_with('/');
        let prefix = recipe.artifacts.first().filter(|_| inside).map(|artifact| folder(0, artifact));
        return Ok(prefix.map_or_else(|| wish.to_owned(), |prefix| format!("{prefix}/{wish}")));
    }
    if let Some(program) = &recipe.run.program {
        return Ok(program.as_str().to_owned());
    }
    let name = &recipe.package.name;
    let mut several = Vec::new();
    for (number, artifact) in recipe.artifacts.iter().enumerate() {
        let sha256 = artifact.sha256.digest();
        let stored = context.store.artifact(sha256);
        let how = locked(number).map_or("", |locked| locked.how.as_str());
        let facts = artifact::facts(context, &artifact.file_name(), sha256, &stored)?;
        let place = |path: String| folder(number, artifact) + &path;
        if let Some(captured) = locked(number).and_then(|locked| locked.captured) {
            let facts = install::captured_facts(context, &artifact.file_name(), captured.sha256)?;
            match choose_program(name, &facts) {
                Choice::One(path) => several.push(path),
                Choice::Several(paths) => several.extend(paths),
                Choice::Nothing => {}
            }
            continue;
        }
        if installed::is_wheel(how) {
            several.extend(installed::wheel_programs(&stored)?);
            continue;
        }
        for facts in installed::facts_of(how, &facts)? {
            match choose_program(name, facts) {
                Choice::One(path) => several.push(place(path)),
                Choice::Several(paths) => several.extend(paths.into_iter().map(place)),
                Choice::Nothing => {}
            }
        }
    }
    if several.is_empty() && recipe.environment.python.is_some() {
        return Ok(PYTHON.to_owned());
    }
    match several.len() {
        0 => Err(Error::NoProgram(name.to_string())),
        1 => Ok(several.remove(0)),
        _ => Err(Error::WhichProgram { name: name.to_string(), programs: several }),
    }
}

/// The folder where `hatchway new` writes recipes.
#[must_use]
pub fn recipes_here() -> PathBuf {
    PathBuf::from("recipes")
}
