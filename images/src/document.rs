//! The documents of an image: configuration, manifest, index, and docker's list. Keys are sorted and there is one time, so the
//! same image has the same documents.

use std::collections::HashMap;
use std::str::FromStr;

use hatchway_envs::digest::Sha256;
use oci_spec::image::{
    Arch, ConfigBuilder, Descriptor, DescriptorBuilder, Digest, History, HistoryBuilder,
    ImageConfigurationBuilder, ImageIndexBuilder, ImageManifestBuilder, MediaType, Os, PlatformBuilder,
    RootFsBuilder,
};
use serde::Serialize;
use serde_json::Value;

use crate::blob::Blob;
use crate::error::Error;
use crate::layer::Layer;
use crate::{About, Image};

/// Where blobs are in a layout.
pub const BLOBS: &str = "blobs/sha256";
/// The file that says that a folder is a layout, and which version of one (OCI image specification, "oci-layout file").
pub const LAYOUT: (&str, &str) = ("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
/// The annotation that names an image in an index (OCI image specification, "Pre-Defined Annotation Keys").
pub const REFERENCE: &str = "org.opencontainers.image.ref.name";
/// The annotation by which engines on top of containerd name an image that they load.
const ENGINE_NAME: &str = "io.containerd.image.name";
/// The registry that an engine takes a name without one to be of.
const ENGINE_REGISTRY: &str = "docker.io";
/// [`crate::MTIME_S`] as RFC 3339 has it.
const CREATED: &str = "1970-01-01T00:00:01Z";
/// Names in the line that people see of a layer.
const NAMES_MAX: usize = 4;

/// Configuration and manifest of an image.
#[derive(Debug, Clone)]
pub struct Documents {
    /// The configuration.
    pub config: Vec<u8>,
    /// Its digest, which engines take for the image's.
    pub config_sha256: Sha256,
    /// The manifest.
    pub manifest: Vec<u8>,
    /// Its digest.
    pub manifest_sha256: Sha256,
}

impl Documents {
    /// Writes the documents of an image with these blobs, in the order of its layers.
    ///
    /// # Errors
    /// [`Error::Document`].
    pub fn new(image: &Image, blobs: &[Blob]) -> Result<Self, Error> {
        let config = canonical("the configuration", &configuration(image, blobs)?)?;
        let config_sha256 = Sha256::of(&config);
        let layer = |blob: &Blob| {
            let media = if blob.is_compressed() { MediaType::ImageLayerGzip } else { MediaType::ImageLayer };
            descriptor(media, blob.sha256, blob.size)
        };
        let manifest = ImageManifestBuilder::default()
            .schema_version(2_u32)
            .media_type(MediaType::ImageManifest)
            .config(descriptor(MediaType::ImageConfig, config_sha256, config.len() as u64)?)
            .layers(blobs.iter().map(layer).collect::<Result<Vec<Descriptor>, Error>>()?)
            .annotations(annotations(&image.about))
            .build()
            .map_err(bad("the manifest"))?;
        let manifest = canonical("the manifest", &manifest)?;
        let manifest_sha256 = Sha256::of(&manifest);
        Ok(Self { config, config_sha256, manifest, manifest_sha256 })
    }

    /// The entry of an index for this image. `for_engines` also names it as engines do.
    ///
    /// # Errors
    /// [`Error::Document`].
    pub fn entry(&self, about: &About, reference: &str, for_engines: bool) -> Result<Value, Error> {
        let mut annotations = HashMap::from([(REFERENCE.to_owned(), reference.to_owned())]);
        if for_engines {
            annotations.insert(ENGINE_NAME.to_owned(), format!("{ENGINE_REGISTRY}/{}", about.tagged()));
        }
        let platform = PlatformBuilder::default()
            .architecture(architecture(about))
            .os(Os::Linux)
            .build()
            .map_err(bad("the index"))?;
        let entry = DescriptorBuilder::default()
            .media_type(MediaType::ImageManifest)
            .digest(digest(self.manifest_sha256)?)
            .size(self.manifest.len() as u64)
            .platform(platform)
            .annotations(annotations)
            .build()
            .map_err(bad("the index"))?;
        serde_json::to_value(entry).map_err(bad("the index"))
    }

    /// Docker's list of the images in an archive: one.
    ///
    /// # Errors
    /// [`Error::Document`].
    pub fn docker_list(&self, about: &About, blobs: &[Blob]) -> Result<Vec<u8>, Error> {
        let path = |sha256: Sha256| format!("{BLOBS}/{sha256}");
        let layers: Vec<String> = blobs.iter().map(|blob| path(blob.sha256)).collect();
        let list = serde_json::json!([{
            "Config": path(self.config_sha256), "RepoTags": [about.tagged()], "Layers": layers,
        }]);
        canonical("the list for docker", &list)
    }
}

/// An index with these entries.
///
/// # Errors
/// [`Error::Document`].
pub fn index(entries: Vec<Value>) -> Result<Vec<u8>, Error> {
    let index = ImageIndexBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageIndex)
        .manifests(Vec::new())
        .build()
        .map_err(bad("the index"))?;
    let mut index = serde_json::to_value(index).map_err(bad("the index"))?;
    if let Some(fields) = index.as_object_mut() {
        fields.insert("manifests".into(), Value::Array(entries));
    }
    canonical("the index", &index)
}

/// JSON without blanks, the keys of every object sorted: the types of `oci-spec` keep annotations in a table of random order.
///
/// # Errors
/// [`Error::Document`].
pub(crate) fn canonical(what: &'static str, value: &impl Serialize) -> Result<Vec<u8>, Error> {
    let value = serde_json::to_value(value).map_err(bad(what))?;
    serde_json::to_vec(&sorted(value)).map_err(bad(what))
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            // A `Map` is sorted or keeps the order in which it is filled: by what other crates ask of `serde_json`.
            let fields: std::collections::BTreeMap<String, Value> = fields.into_iter().collect();
            Value::Object(fields.into_iter().map(|(key, value)| (key, sorted(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

fn configuration(image: &Image, blobs: &[Blob]) -> Result<impl Serialize + use<>, Error> {
    let about = &image.about;
    let environment = about.environment.iter().map(|(name, value)| format!("{name}={value}"));
    let config = ConfigBuilder::default()
        .env(environment.collect::<Vec<String>>())
        .entrypoint(about.entrypoint.clone())
        .working_dir("/")
        .labels(labels(about))
        .build()
        .map_err(bad("the configuration"))?;
    let rootfs = RootFsBuilder::default()
        .typ("layers")
        .diff_ids(blobs.iter().map(|blob| format!("sha256:{}", blob.diff_id)).collect::<Vec<String>>())
        .build()
        .map_err(bad("the configuration"))?;
    ImageConfigurationBuilder::default()
        .created(CREATED)
        .architecture(architecture(about))
        .os(Os::Linux)
        .config(config)
        .rootfs(rootfs)
        .history(image.layers.iter().map(history).collect::<Result<Vec<History>, Error>>()?)
        .build()
        .map_err(bad("the configuration"))
}

fn history(layer: &Layer) -> Result<History, Error> {
    let few: Vec<&str> = layer.contents.iter().take(NAMES_MAX).map(String::as_str).collect();
    let more = layer.contents.len().saturating_sub(NAMES_MAX);
    let mut line = format!("hatchway: {}", layer.title);
    if layer.contents.len() > 1 || layer.contents.first().is_some_and(|only| *only != layer.title) {
        line.push_str(&format!(" ({}", few.join(", ")));
        if more > 0 {
            line.push_str(&format!(" and {more} more"));
        }
        line.push(')');
    }
    let all = layer.contents.join(", ");
    let history = HistoryBuilder::default().created(CREATED).created_by(line).comment(all);
    history.build().map_err(bad("the configuration"))
}

/// What a registry and its tools show (OCI image specification, "Pre-Defined Annotation Keys").
fn annotations(about: &About) -> HashMap<String, String> {
    let mut all = labels(about);
    all.insert(REFERENCE.into(), about.tag());
    all.insert("org.hatchway.lock.digest".into(), format!("sha256:{}", about.lock));
    all
}

/// What engines show of a loaded image, which has no annotations any more.
fn labels(about: &About) -> HashMap<String, String> {
    let mut all = HashMap::from([
        ("org.opencontainers.image.title".to_owned(), about.name.clone()),
        ("org.opencontainers.image.base.name".to_owned(), about.base.clone()),
        ("org.hatchway.tree.digest".to_owned(), format!("sha256:{}", about.tree)),
    ]);
    if !about.version.is_empty() {
        all.insert("org.opencontainers.image.version".into(), about.version.clone());
    }
    all
}

fn architecture(about: &About) -> Arch {
    Arch::from(about.architecture.as_str())
}

fn descriptor(media: MediaType, sha256: Sha256, size: u64) -> Result<Descriptor, Error> {
    Ok(Descriptor::new(media, size, digest(sha256)?))
}

fn digest(sha256: Sha256) -> Result<Digest, Error> {
    Digest::from_str(&format!("sha256:{sha256}")).map_err(bad("a digest"))
}

fn bad<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> Error {
    move |error| Error::Document { what, reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hatchway_envs::store::Store;

    fn image(folder: &std::path::Path) -> Image {
        let about = About {
            name: "acme".into(),
            version: "1.0".into(),
            base: "debian:bookworm".into(),
            architecture: "amd64".into(),
            entrypoint: vec!["/usr/bin/acme".into(), "--x".into()],
            environment: vec![("PATH".into(), "/usr/bin".into())],
            tree: Sha256::of(b"tree"),
            lock: Sha256::of(b"lock"),
        };
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let layer = |title: &str, contents| Layer { title: title.into(), contents, ..Layer::default() };
        let layers =
            vec![layer("base", names(&["a 1", "b 2", "c", "d", "e"])), layer("zlib 1", names(&["zlib 1"]))];
        Image { store: Store::open(folder).unwrap(), about, layers }
    }

    #[test]
    fn documents_are_the_same_each_time_and_say_what_is_in_the_image() {
        let folder = tempfile::tempdir().unwrap();
        let image = image(folder.path());
        let blob = |text: &str| {
            let (sha256, diff_id) = (Sha256::of(text.as_bytes()), Sha256::of(b"plain"));
            Blob { sha256, size: 3, diff_id, plain_size: 9 }
        };
        let blobs = [blob("1"), blob("2")];
        let one = Documents::new(&image, &blobs).unwrap();
        let all: Vec<Documents> = (0..8).map(|_| Documents::new(&image, &blobs).unwrap()).collect();
        assert!(all.iter().all(|other| other.manifest == one.manifest && other.config == one.config));
        let config: Value = serde_json::from_slice(&one.config).unwrap();
        assert_eq!(config["created"], "1970-01-01T00:00:01Z");
        assert_eq!(config["config"]["Entrypoint"], serde_json::json!(["/usr/bin/acme", "--x"]));
        assert_eq!(config["history"][0]["created_by"], "hatchway: base (a 1, b 2, c, d and 1 more)");
        assert_eq!(config["history"][0]["comment"], "a 1, b 2, c, d, e");
        assert_eq!(config["history"][1]["created_by"], "hatchway: zlib 1");
        let manifest: Value = serde_json::from_slice(&one.manifest).unwrap();
        assert_eq!(manifest["layers"][1]["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
        assert_eq!(manifest["annotations"]["org.opencontainers.image.version"], "1.0");
        let text = String::from_utf8(one.manifest).unwrap();
        let at = |word: &str| text.find(word).unwrap();
        assert!(
            at("org.hatchway.lock") < at("org.hatchway.tree")
                && at("org.hatchway.tree") < at("org.opencontainers")
        );
    }
}
