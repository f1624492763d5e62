//! Debian packages made by hand: a vendor's, or those of a mirror.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::tar::{Tar, ar, gzip, xz};

/// How the files of a package are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Packing {
    /// With gzip.
    #[default]
    Gzip,
    /// With xz.
    Xz,
    /// Not at all: quick for what is large.
    None,
}

#[derive(Debug, Clone)]
enum Content {
    File { mode: u32, bytes: Arc<Vec<u8>> },
    Link(String),
}

/// A package.
#[derive(Debug, Clone)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// `amd64`, `i386`, `all`.
    pub architecture: String,
    packing: Packing,
    fields: Vec<(String, String)>,
    scripts: Vec<(String, String)>,
    content: Vec<(String, Content)>,
}

impl Package {
    /// A package without content.
    #[must_use]
    pub fn new(name: &str, version: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: "amd64".to_owned(),
            packing: Packing::default(),
            fields: Vec::new(),
            scripts: Vec::new(),
            content: Vec::new(),
        }
    }

    /// Another architecture.
    #[must_use]
    pub fn of(mut self, architecture: &str) -> Self {
        architecture.clone_into(&mut self.architecture);
        self
    }

    /// Another compression.
    #[must_use]
    pub fn packed(mut self, packing: Packing) -> Self {
        self.packing = packing;
        self
    }

    /// A field of its control file.
    #[must_use]
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A maintainer script.
    #[must_use]
    pub fn script(mut self, name: &str, text: &str) -> Self {
        self.scripts.push((name.to_owned(), text.to_owned()));
        self
    }

    /// A file, mode 0644.
    #[must_use]
    pub fn file(self, path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.with(path, Content::File { mode: 0o644, bytes: Arc::new(bytes.into()) })
    }

    /// A program, mode 0755.
    #[must_use]
    pub fn program(self, path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.with(path, Content::File { mode: 0o755, bytes: Arc::new(bytes.into()) })
    }

    /// A symbolic link.
    #[must_use]
    pub fn link(self, path: &str, target: &str) -> Self {
        self.with(path, Content::Link(target.to_owned()))
    }

    fn with(mut self, path: &str, content: Content) -> Self {
        self.content.push((path.to_owned(), content));
        self
    }

    /// Paths of its files and links, as `Contents` lists them.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.content.iter().map(|(path, _)| path.as_str())
    }

    /// The control file, which is also the head of its paragraph in `Packages`.
    #[must_use]
    pub fn control(&self) -> String {
        let mut text = format!(
            "Package: {}\nVersion: {}\nArchitecture: {}\nMaintainer: Acme <acme@example.invalid>\n",
            self.name, self.version, self.architecture
        );
        for (name, value) in &self.fields {
            text.push_str(&format!("{name}: {value}\n"));
        }
        text
    }

    /// Where it lies in a pool.
    #[must_use]
    pub fn filename(&self) -> String {
        format!("pool/{}_{}_{}.deb", self.name, self.version.replace(':', "%3a"), self.architecture)
    }

    /// The tar of its files, with the folders above each as dpkg-deb writes them.
    #[must_use]
    pub fn data(&self) -> Vec<u8> {
        let mut tar = Tar::new().folder("./");
        let mut folders = std::collections::BTreeSet::new();
        for (path, content) in &self.content {
            for (slash, _) in path.match_indices('/') {
                if folders.insert(path[..slash].to_owned()) {
                    tar = tar.folder(&format!("./{}/", &path[..slash]));
                }
            }
            let name = format!("./{path}");
            tar = match content {
                Content::File { mode, bytes } => tar.file(&name, *mode, bytes),
                Content::Link(target) => tar.symlink(&name, target),
            };
        }
        tar.finish()
    }

    /// The `.deb`.
    #[must_use]
    pub fn deb(&self) -> Vec<u8> {
        let mut control = Tar::new().folder("./").file("./control", 0o644, self.control().as_bytes());
        for (name, text) in &self.scripts {
            control = control.file(&format!("./{name}"), 0o755, text.as_bytes());
        }
        let (member, data) = match self.packing {
            Packing::Gzip => ("data.tar.gz", gzip(&self.data())),
            Packing::Xz => ("data.tar.xz", xz(&self.data())),
            Packing::None => ("data.tar", self.data()),
        };
        ar(&[("debian-binary", b"2.0\n"), ("control.tar.gz", &gzip(&control.finish())), (member, &data)])
    }
}

/// A sha256 in hexadecimal.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
