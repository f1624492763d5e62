//! Images as bases: an OCI layout in a folder or a tar archive, or what `docker save` wrote.
//!
//! Read by the OCI image specification: `index.json` names manifests, a manifest names its configuration and its layers, each
//! by digest and size, which are checked as it is read. The layers become artifacts of the store. Nothing is fetched and nothing is run: a
//! tool such as `skopeo` brings images out of registries.

mod archive;
mod folder;

use std::collections::BTreeSet;
use std::path::Path;

use oci_spec::image::{Arch, Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType, Os};
use serde::Deserialize;

use crate::digest::Sha256;
use crate::error::Error;
use crate::lock::{LockedImage, LockedLayer};
use crate::store::Store;
use folder::Folder;

/// Layers of an image; docker allows 127.
const LAYERS_MAX: usize = 512;
/// Manifests in an index and in those that it names.
const MANIFESTS_MAX: usize = 1000;
/// Indices in indices.
const INDICES_DEEP: usize = 3;
/// The annotation that names an image of an index.
const REFERENCE: &str = "org.opencontainers.image.ref.name";
/// Names that an error lists.
const NAMES_MAX: usize = 20;

/// An image whose layers are in the store.
#[derive(Debug, Clone)]
pub struct Image {
    /// As the lock names it.
    pub locked: LockedImage,
    /// What a container of it would start: `Entrypoint` and `Cmd`. Told, never run.
    pub starts: Vec<String>,
}

/// Reads an image and takes its layers into the store. `reference` names one of several.
///
/// # Errors
/// [`Error::Image`] when there is no image for x86-64, several, or one that is damaged; a full disk.
pub fn read(store: &Store, place: &Path, reference: Option<&str>) -> Result<Image, Error> {
    if place.is_dir() {
        return Reader { store, folder: Folder::open(place, place)? }.image(reference);
    }
    let workspace = store.workspace()?;
    let unpacked = archive::unpack(store, &workspace, place)?;
    Reader { store, folder: Folder::open(&unpacked, place)? }.image(reference)
}

struct Reader<'a> {
    store: &'a Store,
    folder: Folder,
}

/// An entry of the list that `docker save` writes.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Reader<'_> {
    fn image(&self, reference: Option<&str>) -> Result<Image, Error> {
        if let Some(index) = self.folder.text("index.json")? {
            let index: ImageIndex = self.parse("index.json", &index)?;
            return self.of_index(&index, reference);
        }
        match self.folder.text("manifest.json")? {
            Some(list) => self.saved(&self.parse::<Vec<Saved>>("manifest.json", &list)?, reference),
            None => Err(self.bad("it holds neither `index.json` nor `manifest.json`".into())),
        }
    }

    fn bad(&self, reason: String) -> Error {
        Error::Image { image: self.folder.shown.clone(), reason }
    }

    fn parse<T: serde::de::DeserializeOwned>(&self, name: &str, text: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(text).map_err(|error| self.bad(format!("`{name}` cannot be read: {error}")))
    }

    fn of_index(&self, index: &ImageIndex, reference: Option<&str>) -> Result<Image, Error> {
        let named = |d: &&Descriptor| reference.is_none_or(|wanted| name_of(d) == Some(wanted));
        let wanted: Vec<&Descriptor> = index.manifests().iter().filter(named).collect();
        if let Some(reference) = reference.filter(|_| wanted.is_empty()) {
            let names = names(index.manifests().iter().filter_map(name_of));
            return Err(self.bad(format!("it holds no image `{reference}`{names}")));
        }
        let mut found = Vec::new();
        let mut others = BTreeSet::new();
        for descriptor in wanted {
            self.collect(descriptor, 0, &mut found, &mut others)?;
        }
        let mut seen = BTreeSet::new();
        found.retain(|(digest, _, _)| seen.insert(*digest));
        match found.len() {
            0 => Err(self.bad(format!(
                "it holds no image for linux/amd64{}",
                names(others.iter().map(String::as_str))
            ))),
            1 => {
                let (digest, manifest, configuration) = found.remove(0);
                self.of_manifest(digest, &manifest, &configuration)
            }
            several => {
                let names = names(index.manifests().iter().filter_map(name_of));
                Err(self.bad(format!("it holds {several} images{names}; name one: `oci:FILE:NAME`")))
            }
        }
    }

    /// The images for this processor that a descriptor leads to.
    fn collect(
        &self,
        descriptor: &Descriptor,
        depth: usize,
        found: &mut Vec<(Sha256, ImageManifest, ImageConfiguration)>,
        others: &mut BTreeSet<String>,
    ) -> Result<(), Error> {
        if found.len() + others.len() > MANIFESTS_MAX || depth > INDICES_DEEP {
            return Err(self.bad("it holds more images than anybody can choose from".into()));
        }
        if let Some(platform) = descriptor.platform()
            && (*platform.os() != Os::Linux || *platform.architecture() != Arch::Amd64)
        {
            others.insert(format!("{}/{}", platform.os(), platform.architecture()));
            return Ok(());
        }
        match descriptor.media_type() {
            media if is_index(media) => {
                let (_, text) = self.document(descriptor)?;
                let index: ImageIndex = self.parse("an index in it", &text)?;
                index.manifests().iter().try_for_each(|below| self.collect(below, depth + 1, found, others))
            }
            media if is_manifest(media) => {
                let (digest, text) = self.document(descriptor)?;
                let manifest: ImageManifest = self.parse("a manifest in it", &text)?;
                // Signatures and the like have the form of images, and a configuration of another kind.
                if !is_configuration(manifest.config().media_type()) {
                    return Ok(());
                }
                let (_, text) = self.document(manifest.config())?;
                let configuration: ImageConfiguration = self.parse("a configuration in it", &text)?;
                if *configuration.os() == Os::Linux && *configuration.architecture() == Arch::Amd64 {
                    found.push((digest, manifest, configuration));
                } else {
                    others.insert(format!("{}/{}", configuration.os(), configuration.architecture()));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn of_manifest(
        &self,
        digest: Sha256,
        manifest: &ImageManifest,
        configuration: &ImageConfiguration,
    ) -> Result<Image, Error> {
        let listed = configuration.rootfs().diff_ids().len();
        if manifest.layers().len() > LAYERS_MAX || listed != manifest.layers().len() {
            let count = manifest.layers().len();
            return Err(self.bad(format!("it has {count} layers, its configuration lists {listed}")));
        }
        let mut layers = Vec::new();
        for layer in manifest.layers() {
            let media = layer.media_type().to_string();
            if media.ends_with("+encrypted") {
                return Err(self.bad("its layers are encrypted".into()));
            }
            let sha256 = self.digest(layer)?;
            let (found, size) = self.folder.import(self.store, &blob(sha256), sha256)?;
            if size != layer.size() {
                return Err(
                    self.bad(format!("the layer {found} has {size} bytes instead of {}", layer.size()))
                );
            }
            layers.push(LockedLayer { sha256, size });
        }
        Ok(Image { locked: LockedImage { manifest: digest, layers }, starts: starts(configuration) })
    }

    /// What `docker save` wrote before it wrote OCI layouts: layers by path, their digests in the configuration.
    fn saved(&self, list: &[Saved], reference: Option<&str>) -> Result<Image, Error> {
        let tags = |saved: &Saved| saved.repo_tags.clone().unwrap_or_default();
        let named =
            |saved: &&Saved| reference.is_none_or(|wanted| tags(saved).iter().any(|tag| tag == wanted));
        let wanted: Vec<&Saved> = list.iter().filter(named).collect();
        let [saved] = wanted[..] else {
            let all: Vec<String> = list.iter().flat_map(tags).collect();
            let names = names(all.iter().map(String::as_str));
            return Err(
                self.bad(format!("it holds {} such images{names}; name one: `oci:FILE:NAME`", wanted.len()))
            );
        };
        let missing = |name: &str| self.bad(format!("`{name}` is missing, or a link"));
        let text = self.folder.text(&saved.config)?.ok_or_else(|| missing(&saved.config))?;
        let configuration: ImageConfiguration = self.parse(&saved.config, &text)?;
        if *configuration.os() != Os::Linux || *configuration.architecture() != Arch::Amd64 {
            let (os, architecture) = (configuration.os(), configuration.architecture());
            return Err(self.bad(format!("it is for {os}/{architecture}")));
        }
        let digests = configuration.rootfs().diff_ids();
        if digests.len() != saved.layers.len() || digests.len() > LAYERS_MAX {
            let reason =
                format!("it has {} layers, its configuration lists {}", saved.layers.len(), digests.len());
            return Err(self.bad(reason));
        }
        let mut layers = Vec::new();
        for (path, digest) in saved.layers.iter().zip(digests) {
            let sha256 = self.sha256(digest.as_ref())?;
            let (_, size) = self.folder.import(self.store, path, sha256)?;
            layers.push(LockedLayer { sha256, size });
        }
        Ok(Image {
            locked: LockedImage { manifest: Sha256::of(&text), layers },
            starts: starts(&configuration),
        })
    }

    /// A small blob, checked against its descriptor.
    fn document(&self, descriptor: &Descriptor) -> Result<(Sha256, Vec<u8>), Error> {
        let sha256 = self.digest(descriptor)?;
        let name = blob(sha256);
        let text = self.folder.text(&name)?.ok_or_else(|| self.bad(format!("`{name}` is missing")))?;
        let found = Sha256::of(&text);
        if found != sha256 {
            let what = format!("`{name}` of {}", self.folder.shown);
            return Err(Error::WrongHash { what, expected: sha256, found });
        }
        if text.len() as u64 != descriptor.size() {
            return Err(self.bad(format!(
                "`{name}` has {} bytes instead of {}",
                text.len(),
                descriptor.size()
            )));
        }
        Ok((sha256, text))
    }

    fn digest(&self, descriptor: &Descriptor) -> Result<Sha256, Error> {
        self.sha256(descriptor.digest().as_ref())
    }

    fn sha256(&self, text: &str) -> Result<Sha256, Error> {
        let hex = text.strip_prefix("sha256:").and_then(|hex| hex.parse().ok());
        hex.ok_or_else(|| self.bad(format!("`{}` is no digest of SHA-256", text.escape_debug())))
    }
}

fn blob(sha256: Sha256) -> String {
    format!("blobs/sha256/{sha256}")
}

fn name_of(descriptor: &Descriptor) -> Option<&str> {
    descriptor.annotations().as_ref()?.get(REFERENCE).map(String::as_str)
}

fn names<'n>(all: impl Iterator<Item = &'n str>) -> String {
    let mut all: Vec<String> = all.map(|name| format!("`{}`", name.escape_debug())).collect();
    all.sort();
    all.dedup();
    let more = if all.len() > NAMES_MAX { " …" } else { "" };
    all.truncate(NAMES_MAX);
    if all.is_empty() { String::new() } else { format!(": {}{more}", all.join(", ")) }
}

// Docker's own names for the same documents (distribution, "Image Manifest Version 2, Schema 2").
fn is_index(media: &MediaType) -> bool {
    *media == MediaType::ImageIndex
        || media.to_string() == "application/vnd.docker.distribution.manifest.list.v2+json"
}

fn is_manifest(media: &MediaType) -> bool {
    *media == MediaType::ImageManifest
        || media.to_string() == "application/vnd.docker.distribution.manifest.v2+json"
}

fn is_configuration(media: &MediaType) -> bool {
    *media == MediaType::ImageConfig || media.to_string() == "application/vnd.docker.container.image.v1+json"
}

fn starts(configuration: &ImageConfiguration) -> Vec<String> {
    let Some(config) = configuration.config() else { return Vec::new() };
    let words = |words: &Option<Vec<String>>| words.clone().unwrap_or_default();
    words(config.entrypoint()).into_iter().chain(words(config.cmd())).collect()
}
