//! Which input of a lock brings which part of a tree: for whoever takes a tree apart again, as an image of layers is.
//!
//! It is read from the records of the unpacked archives, merged as for the build. What the builder generated or changed
//! has no owner.

use super::{Ground, Request, artifacts, jobs, labels, layers, merge_all, merged, unpack_all};
use crate::error::Error;
use crate::fetch::Client;
use crate::progress::Progress;
use crate::store::manifest::Manifest;
use crate::store::{Mode, Store};

/// An input, by its number in the lock's list of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Input {
    /// The image that is the base, all its layers applied.
    Image,
    /// A Debian package.
    Package(usize),
    /// A Python package.
    Wheel(usize),
    /// A vendor's file; of an installer what it wrote.
    Artifact(usize),
}

/// What an input brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Which one.
    pub input: Input,
    /// All that it brings, at the places of the tree, whether or not another input's file has won there.
    pub brings: Manifest,
}

/// The parts of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owners {
    /// The folders and links that every tree of this kind of base has.
    pub skeleton: Manifest,
    /// What each input brings: the image, packages, wheels, artifacts, each in the lock's order.
    pub shares: Vec<Share>,
}

/// Whether the store has the record of each of a lock's unpacked archives. Without one, [`owners`] unpacks it again.
#[must_use]
pub fn is_unpacked(store: &Store, request: &Request<'_>) -> bool {
    jobs(request).iter().all(|(_, (sha256, layout, _))| store.is_unpacked(&layout.key(*sha256)))
}

/// Says what each input of a lock brings to its tree.
///
/// # Errors
/// As [`super::build`].
pub fn owners(
    store: &Store,
    client: &Client,
    request: &Request<'_>,
    progress: &dyn Progress,
) -> Result<Owners, Error> {
    let _builders = store.lock("store", Mode::Shared)?;
    let whole: Option<Vec<Manifest>> = jobs(request)
        .iter()
        .map(|(_, (sha256, layout, _))| store.package_manifest(&layout.key(*sha256)))
        .collect();
    let workspace = store.workspace()?;
    match whole {
        Some(manifests) => divide(request, &manifests, &workspace),
        None => {
            super::download(store, client, request, progress)?;
            let manifests = unpack_all(store, &workspace, request, progress)?;
            let owners = divide(request, &manifests, &workspace)?;
            workspace.commit()?;
            Ok(owners)
        }
    }
}

fn divide(
    request: &Request<'_>,
    manifests: &[Manifest],
    workspace: &crate::store::Workspace<'_>,
) -> Result<Owners, Error> {
    let lock = request.lock;
    let ground = Ground::of(lock);
    let stacked = lock.image.as_ref().map_or(0, |image| image.layers.len());
    let (manifests, stacked) = manifests.split_at(manifests.len().saturating_sub(stacked));
    let (image, _) = layers::flatten(workspace, stacked)?;
    let labels = labels(request);
    let merge = merge_all(ground, &merged(request, &labels, manifests, &image))?;
    let placed = |manifest: &Manifest, input| {
        let bad = |reason| Error::BadLayout { package: format!("{input:?} of the lock"), reason };
        merge.placed(manifest).map(|brings| Share { input, brings }).map_err(bad)
    };
    let mut shares = Vec::new();
    if ground == Ground::Image {
        shares.push(placed(&image, Input::Image)?);
    }
    let count = artifacts(request).count();
    let (of_artifacts, rest) = manifests.split_at(count.min(manifests.len()));
    let (of_wheels, of_packages) = rest.split_at(lock.wheels.len().min(rest.len()));
    for (number, manifest) in of_packages.iter().enumerate() {
        shares.push(placed(manifest, Input::Package(number))?);
    }
    for (number, manifest) in of_wheels.iter().enumerate() {
        shares.push(placed(manifest, Input::Wheel(number))?);
    }
    let numbered = lock.artifacts.iter().enumerate();
    let numbers = numbered.filter(|(_, artifact)| !artifact.is_installer() || artifact.captured.is_some());
    for ((number, artifact), manifest) in numbers.zip(of_artifacts) {
        let input = Input::Artifact(number);
        // What an installer wrote it wrote into the finished tree: its paths are places already.
        shares.push(if artifact.is_installer() {
            let mut brings = manifest.clone();
            brings.remove(super::unpack::CONTROL);
            Share { input, brings }
        } else {
            placed(manifest, input)?
        });
    }
    let skeleton = if ground == Ground::Image { Manifest::default() } else { merge_all(ground, &[])?.tree };
    Ok(Owners { skeleton, shares })
}
