//! OCI layouts made by hand: the same bytes each time, and every trick that an honest tool refuses to write.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::package::sha256;
use crate::tar::{Tar, gzip};

/// An image in the making.
#[derive(Debug, Clone)]
pub struct Image {
    layers: Vec<(String, Vec<u8>, String)>,
    architecture: String,
    name: String,
    /// What a container of it starts.
    start: Vec<String>,
}

impl Image {
    /// An image of these layers, packed by gzip.
    #[must_use]
    pub fn new(layers: Vec<Tar>) -> Self {
        let packed = layers.into_iter().map(|layer| {
            let plain = layer.finish();
            (sha256(&plain), gzip(&plain), "application/vnd.oci.image.layer.v1.tar+gzip".to_owned())
        });
        Self {
            layers: packed.collect(),
            architecture: "amd64".into(),
            name: "acme".into(),
            start: Vec::new(),
        }
    }

    /// One more layer, as it is packed already.
    #[must_use]
    pub fn layer(mut self, plain: &[u8], packed: Vec<u8>, media: &str) -> Self {
        self.layers.push((sha256(plain), packed, format!("application/vnd.oci.image.layer.v1.{media}")));
        self
    }

    /// For another processor.
    #[must_use]
    pub fn architecture(mut self, name: &str) -> Self {
        self.architecture = name.to_owned();
        self
    }

    /// Its name in an index.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = name.to_owned();
        self
    }

    /// What a container of it starts.
    #[must_use]
    pub fn starts(mut self, words: &[&str]) -> Self {
        self.start = words.iter().map(|&word| word.to_owned()).collect();
        self
    }

    fn configuration(&self) -> Vec<u8> {
        let digests: Vec<String> =
            self.layers.iter().map(|(plain, _, _)| format!("sha256:{plain}")).collect();
        let value = json!({
            "architecture": self.architecture, "os": "linux", "config": { "Entrypoint": self.start },
            "rootfs": { "type": "layers", "diff_ids": digests },
        });
        value.to_string().into_bytes()
    }

    /// Writes its blobs below `folder` and gives its entry of an index.
    fn blobs(&self, folder: &Path) -> Value {
        let blobs = folder.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        let blob = |bytes: &[u8], media: &str| {
            let digest = sha256(bytes);
            fs::write(blobs.join(&digest), bytes).unwrap();
            json!({ "mediaType": media, "digest": format!("sha256:{digest}"), "size": bytes.len() })
        };
        let layers: Vec<Value> = self.layers.iter().map(|(_, packed, media)| blob(packed, media)).collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": blob(&self.configuration(), "application/vnd.oci.image.config.v1+json"), "layers": layers,
        });
        let mut entry = blob(manifest.to_string().as_bytes(), "application/vnd.oci.image.manifest.v1+json");
        entry["annotations"] = json!({ "org.opencontainers.image.ref.name": self.name });
        entry
    }

    /// What `docker save` wrote before it wrote layouts: one image, layers not packed.
    pub fn save_as_docker(&self, layers: &[Vec<u8>], folder: &Path) {
        fs::create_dir_all(folder).unwrap();
        let configuration = self.configuration();
        let name = format!("{}.json", sha256(&configuration));
        fs::write(folder.join(&name), configuration).unwrap();
        let mut paths = Vec::new();
        for plain in layers {
            let path = format!("{}/layer.tar", sha256(plain));
            fs::create_dir_all(folder.join(&path).parent().unwrap()).unwrap();
            fs::write(folder.join(&path), plain).unwrap();
            paths.push(path);
        }
        let list = json!([{ "Config": name, "RepoTags": ["acme:1"], "Layers": paths }]);
        fs::write(folder.join("manifest.json"), list.to_string()).unwrap();
    }
}

/// Writes a layout of these images.
pub fn layout(images: &[Image], folder: &Path) {
    let entries: Vec<Value> = images.iter().map(|image| image.blobs(folder)).collect();
    let index = json!({ "schemaVersion": 2, "manifests": entries });
    fs::write(folder.join("index.json"), index.to_string()).unwrap();
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

/// A folder as a tar archive.
#[must_use]
pub fn archive(folder: &Path) -> Vec<u8> {
    let mut tar = Tar::new();
    for (path, metadata) in crate::store::walk(folder) {
        if metadata.is_file() {
            let path = String::from_utf8(path).unwrap();
            tar = tar.file(&path, 0o644, &fs::read(folder.join(&path)).unwrap());
        }
    }
    tar.finish()
}
