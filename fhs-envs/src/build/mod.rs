//! From a lock to a tree.
//!
//! Download what the store lacks, unpack what was never unpacked, merge, generate, link, commit. A lock that was built
//! before is answered from the store without reading an archive or writing a byte.

mod accounts;
mod capture;
mod captured;
mod certificates;
mod configure;
mod excerpt;
mod generate;
pub mod install;
mod layers;
mod ldcache;
pub mod locales;
mod merge;
pub mod owners;
pub mod patch;
mod rpm;
pub mod sandboxed;
pub mod scripts;
pub mod second_cache;
mod triggers;
mod unpack;
mod volatile;
pub mod watch;
mod wheel;
mod wine;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

pub use unpack::{How, Layout};
pub use wheel::{packages_folder, programs_of as wheel_programs};

use crate::digest::Sha256;
use crate::error::Error;
use crate::fetch::{Client, Wanted, parallel};
use crate::lock::Lock;
use crate::progress::Progress;
use crate::store::manifest::{Manifest, Node};
use crate::store::space;
use crate::store::{Mode, Store, Workspace};
use merge::Layer;
use sandboxed::Room;
use scripts::{Alternative, Class};

/// A change of this number makes every tree anew: it stands for what the builder generates.
const BUILDER: u32 = 4;

/// What is built.
#[allow(missing_debug_implementations, reason = "it holds a closure")]
pub struct Request<'a> {
    /// The inputs.
    pub lock: &'a Lock,
    /// How each of the lock's artifacts is laid out, in its order.
    pub layouts: Vec<Layout>,
    /// Links to add, path → target.
    pub links: &'a BTreeMap<String, String>,
    /// Locales to compile, as `/usr/share/i18n/SUPPORTED` names them.
    pub locales: &'a [String],
    /// Who does the work of maintainer scripts.
    pub configure: Configure,
    /// `hatchway-shim`, which makes the sandboxes of build steps; an error where one is needed and this is `None`.
    pub shim: Option<&'a Path>,
    /// URLs for a package of the lock, best first.
    pub urls: &'a dyn Fn(&crate::lock::LockedPackage) -> Vec<String>,
    /// URLs for a wheel of the lock.
    pub wheel_urls: &'a dyn Fn(&crate::lock::LockedWheel) -> Result<Vec<String>, Error>,
}

/// What a tree stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ground {
    /// Packages of Debian.
    Debian,
    /// An image, which has its own ways.
    Image,
    /// Nothing but the artifacts.
    Nothing,
}

impl Ground {
    fn of(lock: &Lock) -> Self {
        match (&lock.image, lock.suite()) {
            (Some(_), _) => Self::Image,
            (None, Some(_)) => Self::Debian,
            (None, None) => Self::Nothing,
        }
    }
}

/// Who does the work of maintainer scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Configure {
    /// The builder: it knows each script, or refuses the package.
    #[default]
    Builtin,
    /// The scripts, in a build sandbox, twice.
    Scripts,
}

/// A finished tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// Its digest.
    pub tree: Sha256,
    /// Whether it was there already.
    pub cached: bool,
    /// What is worth telling: what was dropped, what a vendor's file replaced, a vendor's scripts that
    /// nobody has read.
    pub notes: Vec<String>,
}

impl Request<'_> {
    /// Names the tree before it is built: the inputs, the layouts, the links and the builder's version.
    #[must_use]
    pub fn key(&self) -> Sha256 {
        let text = format!(
            "{BUILDER}\n{}\n{:?}\n{:?}\n{:?}\n{:?}\n",
            self.lock.inputs(),
            self.layouts,
            self.links,
            self.locales,
            self.configure
        );
        Sha256::of(text.as_bytes())
    }
}

/// The packages that it takes to carry out what a recipe asks for beyond its packages.
#[must_use]
pub fn needed_packages(locales: &[String], scripts: bool, installers: bool) -> Vec<&'static str> {
    let mut packages = Vec::new();
    if locales::need_sources(locales) {
        packages.push(locales::PACKAGE);
    }
    if scripts {
        packages.extend(configure::PACKAGES);
    }
    if installers {
        packages.extend(install::PACKAGES);
    }
    packages
}

/// Builds the tree of a lock, or finds it.
///
/// # Errors
/// Downloads, broken archives, collisions, a full disk. The store is then as it was, except for finished downloads.
pub fn build(
    store: &Store,
    client: &Client,
    request: &Request<'_>,
    progress: &dyn Progress,
) -> Result<Built, Error> {
    let key = request.key();
    let cached = |tree| Built { tree, cached: true, notes: Vec::new() };
    if let Some(tree) = store.built(key) {
        return Ok(cached(tree));
    }
    let _builders = store.lock("store", Mode::Shared)?;
    let name = format!("build-{}", key.short());
    let _build = match store.try_lock(&name)? {
        Some(lock) => lock,
        None => {
            progress.note("waiting for another build of the same tree");
            store.lock(&name, Mode::Exclusive)?
        }
    };
    if let Some(tree) = store.built(key) {
        return Ok(cached(tree));
    }
    check_room(store, request, progress)?;
    download(store, client, request, progress)?;
    let workspace = store.workspace()?;
    let layers = unpack_all(store, &workspace, request, progress)?;
    let (tree, notes) = assemble(&workspace, request, key, &layers)?;
    workspace.commit()?;
    Ok(Built { tree, cached: false, notes })
}

/// Fetches what of a lock the store lacks.
///
/// # Errors
/// Downloads; [`Error::Gone`] where no mirror has a file any more.
pub fn download(
    store: &Store,
    client: &Client,
    request: &Request<'_>,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let mut wanted: Vec<Wanted> =
        request.lock.packages.iter().map(|package| wanted(package, request.urls)).collect();
    wanted.extend(wheels_wanted(store, request)?);
    store.fetch(client, &wanted, progress).map_err(|error| match error {
        Error::DownloadStatus { what, status: 404 | 410 } => Error::Gone { what },
        other => other,
    })
}

/// What a build will take at least is looked at before, and what it probably takes is told.
fn check_room(store: &Store, request: &Request<'_>, progress: &dyn Progress) -> Result<(), Error> {
    let lock = request.lock;
    let wheels = lock.wheels.iter().map(|w| (w.sha256, w.size));
    let packages = lock.packages.iter().map(|p| (p.sha256, p.size));
    let missing = wheels.chain(packages).filter(|(sha256, _)| !store.artifact(*sha256).exists());
    let download = missing.map(|(_, size)| size).sum();
    let jobs = jobs(request);
    let packed = jobs.iter().map(|(_, job)| job);
    let unpack = packed.filter(|(sha256, layout, _)| !store.is_unpacked(&layout.key(*sha256)));
    let unpack = unpack.map(|(_, _, size)| size).sum();
    let note = space::before_build(store.root(), download, unpack)?;
    note.iter().for_each(|line| progress.note(line));
    Ok(())
}

/// Unpacks an archive anew into a workspace, for objects that were lost; `false` where the archive is not here, or its
/// layout is not that of a package and only its recipe knows it.
pub(crate) fn unpack_again(
    store: &Store,
    workspace: &Workspace<'_>,
    archive: Sha256,
    record: &Path,
) -> Result<bool, Error> {
    let layout = Layout::of_package("");
    let plain = record.file_name().is_some_and(|name| name.to_str() == Some(layout.key(archive).as_str()));
    let file = store.artifact(archive);
    if !plain || !Sha256::of_file(&file).is_ok_and(|(found, _)| found == archive) {
        return Ok(false);
    }
    unpack::unpack(workspace, &file, archive, &layout).map(|_| true)
}

/// Fetches one package, unless the store has it.
///
/// # Errors
/// As [`download`].
pub fn download_package(
    store: &Store,
    client: &Client,
    package: &crate::lock::LockedPackage,
    urls: &dyn Fn(&crate::lock::LockedPackage) -> Vec<String>,
    progress: &dyn Progress,
) -> Result<(), Error> {
    store.fetch(client, &[wanted(package, urls)], progress).map_err(|error| match error {
        Error::DownloadStatus { what, status: 404 | 410 } => Error::Gone { what },
        other => other,
    })
}

/// The wheels that the store lacks. Where they are, the index says; it is not asked when none is missing.
fn wheels_wanted(store: &Store, request: &Request<'_>) -> Result<Vec<Wanted>, Error> {
    let missing = request.lock.wheels.iter().filter(|wheel| !store.artifact(wheel.sha256).exists());
    let wanted = missing.map(|wheel| {
        Ok(Wanted {
            urls: (request.wheel_urls)(wheel)?,
            what: format!("`{}`", wheel.file),
            sha256: wheel.sha256,
            size: Some(wheel.size),
        })
    });
    wanted.collect()
}

/// A package of a lock as a download.
pub(crate) fn wanted(
    package: &crate::lock::LockedPackage,
    urls: &dyn Fn(&crate::lock::LockedPackage) -> Vec<String>,
) -> Wanted {
    Wanted {
        urls: urls(package),
        what: format!("`{}` of {}", package.path, package.source),
        sha256: package.sha256,
        size: Some(package.size),
    }
}

/// The artifacts that bring something: of an installer what it wrote, once it was run.
fn artifacts<'a>(
    request: &'a Request<'_>,
) -> impl Iterator<Item = (&'a crate::lock::LockedArtifact, &'a Layout)> {
    let all = request.lock.artifacts.iter().zip(&request.layouts);
    all.filter(|(artifact, _)| !artifact.is_installer() || artifact.captured.is_some())
}

/// Everything that is unpacked, in the lock's order, numbered.
fn jobs(request: &Request<'_>) -> Vec<(usize, (Sha256, Layout, u64))> {
    let lock = request.lock;
    let artifacts = artifacts(request).map(|(artifact, layout)| {
        let own = (artifact.sha256, layout.clone(), artifact.size);
        artifact.captured.map_or(own, |c| (c.sha256, Layout::of_capture(&artifact.file), c.size))
    });
    let wheels = lock.wheels.iter().map(|w| (w.sha256, Layout::of_wheel(&w.file, &lock.python), w.size));
    let packages = lock.packages.iter().map(|p| (p.sha256, Layout::of_package(&p.name), p.size));
    let layers = lock.image.iter().flat_map(|image| &image.layers);
    let layers = layers.map(|layer| (layer.sha256, Layout::of_layer(), layer.size));
    artifacts.chain(wheels).chain(packages).chain(layers).enumerate().collect()
}

/// Unpacks what was never unpacked, on all cores, and gives every layer's manifest in the lock's order.
fn unpack_all(
    store: &Store,
    workspace: &Workspace<'_>,
    request: &Request<'_>,
    progress: &dyn Progress,
) -> Result<Vec<Manifest>, Error> {
    let mut jobs = jobs(request);
    // The largest first: one that came last would keep one core busy and leave the others idle.
    jobs.sort_by_key(|(_, (_, _, size))| std::cmp::Reverse(*size));
    let done: Mutex<BTreeMap<usize, Manifest>> = Mutex::new(BTreeMap::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    progress.begin("unpacking", jobs.iter().map(|(_, (_, _, size))| size).sum());
    let outcome = parallel(&jobs, threads, |(number, (sha256, layout, size))| {
        let manifest = match store.package_manifest(&layout.key(*sha256)) {
            Some(manifest) => manifest,
            None => unpack::unpack(workspace, &store.artifact(*sha256), *sha256, layout)?,
        };
        if let Ok(mut done) = done.lock() {
            done.insert(*number, manifest);
        }
        progress.advance(*size);
        Ok(())
    });
    progress.end();
    outcome?;
    Ok(done.into_inner().map_or_else(|_| Vec::new(), |done| done.into_values().collect()))
}

/// Merges, generates and links the tree together in the workspace.
fn assemble(
    workspace: &Workspace<'_>,
    request: &Request<'_>,
    key: Sha256,
    manifests: &[Manifest],
) -> Result<(Sha256, Vec<String>), Error> {
    let all = || artifacts(request).map(|(artifact, _)| artifact);
    let ground = Ground::of(request.lock);
    // An image's layers come last among the manifests.
    let stacked = request.lock.image.as_ref().map_or(0, |image| image.layers.len());
    let (manifests, stacked) = manifests.split_at(manifests.len().saturating_sub(stacked));
    let (image, image_notes) = layers::flatten(workspace, stacked)?;
    // What installers wrote comes last, over the finished tree: so they found it.
    let captures = all().zip(manifests).filter(|(artifact, _)| artifact.is_installer());
    let captures: Vec<&Manifest> = captures.map(|(_, manifest)| manifest).collect();
    let labels = labels(request);
    let layers = merged(request, &labels, manifests, &image);
    let mut merge = merge_all(ground, &layers)?;
    let mut notes = std::mem::take(&mut merge.notes);
    notes.extend(image_notes);
    let mut alternatives = Vec::new();
    let mut unknown = Vec::new();
    for layer in &layers {
        read_control(workspace, layer, &mut alternatives, &mut unknown, &mut notes)?;
        rpm::read_scriptlets(workspace, layer, &mut alternatives, &mut notes)?;
    }
    judge(unknown, request.configure, &mut notes)?;
    add_links(&mut merge, request.links)?;
    wine::packages(&mut merge, workspace)?;
    generate::generate(&mut merge, workspace, alternatives, ground)?;
    if request.configure == Configure::Scripts {
        notes.extend(configure::run(&room(workspace, request.shim)?, workspace, &layers, &mut merge)?);
    }
    wine::prefix(&|| room(workspace, request.shim), workspace, request.lock, &mut merge)?;
    for captured in &captures {
        captured::apply(workspace, captured, &mut merge)?;
    }
    let patched = !request.lock.patches.is_empty() && !request.lock.is_before_installer();
    if patched {
        patch::apply_all(workspace, &request.lock.patches, &mut merge)?;
    }
    if request.configure == Configure::Scripts || !captures.is_empty() || patched {
        add_links(&mut merge, request.links)?;
        generate::loader_cache(&mut merge, workspace)?;
    }
    run_triggers(workspace, request, &mut merge, &mut notes)?;
    wine::seal(&mut merge, workspace, request.lock)?;
    Ok((workspace.add_tree(key, &merge.tree)?, notes))
}

/// How the lock's packages are named.
fn labels(request: &Request<'_>) -> Vec<String> {
    request.lock.packages.iter().map(|package| package.label(request.lock.native())).collect()
}

/// What is merged, in the lock's order: artifacts, without what installers wrote, then wheels, packages, the image.
fn merged<'a>(
    request: &'a Request<'_>,
    labels: &'a [String],
    manifests: &'a [Manifest],
    image: &'a Manifest,
) -> Vec<Layer<'a>> {
    let artifacts = artifacts(request)
        .map(|(artifact, _)| (!artifact.is_installer()).then_some((artifact.file.as_str(), "", "", true)));
    let wheels = request.lock.wheels.iter().map(|wheel| Some((wheel.file.as_str(), "", "", true)));
    let packages = request.lock.packages.iter().zip(labels);
    let packages =
        packages.map(|(p, label)| Some((label.as_str(), p.version.as_str(), p.replaces.as_str(), false)));
    let all = artifacts.chain(wheels).chain(packages).zip(manifests);
    let mut layers: Vec<Layer<'a>> = all
        .filter_map(|(about, manifest)| {
            let (name, version, replaces, vendor) = about?;
            Some(Layer { name, version, manifest, replaces, vendor })
        })
        .collect();
    if Ground::of(request.lock) == Ground::Image {
        layers.push(Layer { name: "the image", version: "", manifest: image, replaces: "", vendor: false });
    }
    layers
}

fn merge_all(ground: Ground, layers: &[Layer<'_>]) -> Result<merge::Merge, Error> {
    if ground == Ground::Image { merge::merge_over_image(layers) } else { merge::merge(layers) }
}

fn add_links(merge: &mut merge::Merge, links: &BTreeMap<String, String>) -> Result<(), Error> {
    for (path, target) in links {
        let bad = |reason| Error::BadLayout { package: format!("the recipe's link `{path}`"), reason };
        merge.put(path.trim_start_matches('/'), Node::Link { target: target.clone() }).map_err(bad)?;
    }
    Ok(())
}

fn room<'a>(workspace: &Workspace<'_>, shim: Option<&'a Path>) -> Result<Room<'a>, Error> {
    let missing = || Error::BuildSandbox {
        step: "the steps of a build".into(),
        reason: "`hatchway-shim` was not found beside `hatchway`".into(),
        hint: None,
    };
    Room::new(shim.ok_or_else(missing)?, workspace)
}

/// Lets the tree's own tools add what they make of it.
fn run_triggers(
    workspace: &Workspace<'_>,
    request: &Request<'_>,
    merge: &mut merge::Merge,
    notes: &mut Vec<String>,
) -> Result<(), Error> {
    let wanted = triggers::wanted(merge, workspace, request.locales, notes)?;
    notes.extend(triggers::run(&|| room(workspace, request.shim), workspace, &wanted, merge)?);
    Ok(())
}

/// Scripts that nobody has read: a vendor's are told, the archive's are an error.
fn judge(unknown: Vec<Unread>, configure: Configure, notes: &mut Vec<String>) -> Result<(), Error> {
    let (vendors, packages): (Vec<Unread>, Vec<Unread>) =
        unknown.into_iter().partition(|script| script.vendor);
    notes.extend(vendors.into_iter().map(|script| {
        format!(
            "`{}`: the vendor's {} was read but not run (normal form {})",
            script.package, script.name, script.hash
        )
    }));
    if packages.is_empty() || configure == Configure::Scripts {
        return Ok(());
    }
    let scripts = packages.into_iter();
    let scripts = scripts.map(|script| format!("{} of `{}` ({})", script.name, script.package, script.hash));
    Err(Error::UnreadScripts { scripts: scripts.collect() })
}

/// A maintainer script that nobody has read.
struct Unread {
    package: String,
    name: &'static str,
    hash: String,
    vendor: bool,
}

/// Reads a layer's maintainer scripts and the list of what was dropped from it.
fn read_control(
    workspace: &Workspace<'_>,
    layer: &Layer<'_>,
    alternatives: &mut Vec<Alternative>,
    unknown: &mut Vec<Unread>,
    notes: &mut Vec<String>,
) -> Result<(), Error> {
    let text = |name: &str| -> Result<Option<String>, Error> {
        match layer.manifest.nodes.get(&format!("{}/{name}", unpack::CONTROL)) {
            Some(Node::File { sha256, executable, .. }) => {
                Ok(Some(String::from_utf8_lossy(&workspace.read(*sha256, *executable)?).into_owned()))
            }
            _ => Ok(None),
        }
    };
    if let Some(dropped) = text("dropped")? {
        notes.extend(dropped.lines().map(|line| format!("`{}`: dropped {line}", layer.name)));
    }
    for name in ["preinst", "postinst"] {
        let Some(script) = text(name)? else { continue };
        alternatives.extend(scripts::alternatives(&script));
        if let Class::Unknown { hash } = scripts::classify(name, &script, layer.version) {
            unknown.push(Unread { package: layer.name.to_owned(), name, hash, vendor: layer.vendor });
        }
    }
    Ok(())
}
