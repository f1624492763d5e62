//! The lock: every input of a tree by digest. Written by `hatchway lock` only, read by `hatchway build`.

pub mod diff;
pub mod why;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::debian::index::Source;
use crate::digest::Sha256;
use crate::error::Error;

/// The version of the file's layout.
pub const SCHEMA: u32 = 1;

/// A lock file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Lock {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Digest over the parts of the recipe that the lock was made from.
    pub recipe: Sha256,
    /// The rung that was planned.
    pub rung: String,
    /// What executes the program: `wine`; empty where nothing is between it and the kernel.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub runner: String,
    /// `debian:bookworm`, `oci:sha256:<digest of the manifest>` or `none`.
    pub base: String,
    /// `amd64`, and the foreign ones beside it.
    pub architectures: Vec<String>,
    /// The packages every Debian base starts from.
    pub base_packages: Vec<String>,
    /// Suites that were tried before, and why they were refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
    /// The Python that wheels are installed for: `3.11`; empty where there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub python: String,
    /// The image that is the base, where one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<LockedImage>,
    /// The kernel of a guest, for the vm rung: no part of the tree. Its `why` is the package that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<LockedPackage>,
    /// The vendor's files.
    #[serde(rename = "artifact", default)]
    pub artifacts: Vec<LockedArtifact>,
    /// Patches, in the order in which they are applied.
    #[serde(rename = "patch", default, skip_serializing_if = "Vec::is_empty")]
    pub patches: Vec<LockedPatch>,
    /// Python packages, sorted by name.
    #[serde(rename = "wheel", default, skip_serializing_if = "Vec::is_empty")]
    pub wheels: Vec<LockedWheel>,
    /// The indices that were read.
    #[serde(rename = "source", default)]
    pub sources: Vec<LockedSource>,
    /// The closure, sorted by name.
    #[serde(rename = "package", default)]
    pub packages: Vec<LockedPackage>,
}

/// An OCI image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LockedImage {
    /// Digest of its manifest; of what `docker save` wrote without one, that of its configuration.
    pub manifest: Sha256,
    /// Its layers, the lowest first.
    #[serde(rename = "layer", default)]
    pub layers: Vec<LockedLayer>,
}

/// A layer of an image, as its blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LockedLayer {
    /// Digest.
    pub sha256: Sha256,
    /// Bytes.
    pub size: u64,
}

/// A patch of the recipe's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LockedPatch {
    /// The file of the tree, absolute.
    pub at: String,
    /// The patch's own name, beside the recipe.
    pub file: String,
    /// Digest of the patch.
    pub sha256: Sha256,
}

/// A vendor's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LockedArtifact {
    /// File name.
    pub file: String,
    /// Digest.
    pub sha256: Sha256,
    /// Bytes.
    pub size: u64,
    /// How it is installed, where that is not by unpacking its members: `carried` (what a self-unpacking file carries),
    /// `wheel`, or `captured` (an installer that was run).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub how: String,
    /// What the installer wrote; nothing yet while a lock is being made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub captured: Option<LockedCapture>,
}

/// `how` of an artifact that is an installer.
pub const CAPTURED: &str = "captured";

/// What an installer wrote, as a tar archive among the store's artifacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LockedCapture {
    /// Digest of the archive.
    pub sha256: Sha256,
    /// Its bytes.
    pub size: u64,
}

impl LockedArtifact {
    /// Whether it is an installer.
    #[must_use]
    pub fn is_installer(&self) -> bool {
        self.how == CAPTURED
    }
}

/// A Python package. Where it is, an index says when it is needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LockedWheel {
    /// The project, in normal form.
    pub name: String,
    /// Version.
    pub version: String,
    /// File name, which holds the tags.
    pub file: String,
    /// Bytes.
    pub size: u64,
    /// Digest.
    pub sha256: Sha256,
    /// Why it is there: `recipe`, or `Requires-Dist of x`.
    pub why: String,
}

/// An index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LockedSource {
    /// `debian:bookworm/main`.
    pub id: String,
    /// `Origin`.
    pub origin: String,
    /// `Suite`.
    pub suite: String,
    /// Digest of `InRelease`.
    pub inrelease_sha256: Sha256,
    /// `Date` of `InRelease`.
    pub date: String,
}

impl From<&Source> for LockedSource {
    fn from(source: &Source) -> Self {
        Self {
            id: source.id.clone(),
            origin: source.origin.clone(),
            suite: source.suite.clone(),
            inrelease_sha256: source.inrelease_sha256,
            date: source.date.clone(),
        }
    }
}

/// A Debian package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LockedPackage {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// `amd64`, `i386` or `all`.
    pub architecture: String,
    /// Id of the source.
    pub source: String,
    /// Path below the source's root.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Digest.
    pub sha256: Sha256,
    /// Why it is there: `base`, `libz.so.1 of usr/bin/x`, `Depends of x`, `recipe`, or `dependency`.
    pub why: String,
    /// What it depends on, each by [`Self::label`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<String>,
    /// No index has it any more: it was kept from the lock before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dropped: bool,
    /// `Replaces`, which decides who may bring a path twice.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub replaces: String,
}

impl LockedPackage {
    /// How it is named in a lock and by people: `libc6`, or `libc6:i386` where it is of a foreign architecture.
    #[must_use]
    pub fn label(&self, native: &str) -> String {
        label(&self.name, &self.architecture, native)
    }
}

/// See [`LockedPackage::label`].
#[must_use]
pub fn label(name: &str, architecture: &str, native: &str) -> String {
    if architecture == native || architecture == "all" {
        name.to_owned()
    } else {
        format!("{name}:{architecture}")
    }
}

impl Lock {
    /// The architecture whose packages carry no name of one.
    #[must_use]
    pub fn native(&self) -> &str {
        self.architectures.first().map_or("", String::as_str)
    }

    /// The package of a label.
    #[must_use]
    pub fn package(&self, label: &str) -> Option<&LockedPackage> {
        self.packages.iter().find(|package| package.label(self.native()) == label)
    }

    /// This lock without what the installers from the artifact `number` on wrote: what the first of them is run over.
    #[must_use]
    pub fn before_installer(&self, number: usize) -> Self {
        let mut lock = self.clone();
        for artifact in lock.artifacts.iter_mut().skip(number) {
            artifact.captured = None;
        }
        lock
    }

    /// Whether an installer is still to be run over the tree of this lock.
    #[must_use]
    pub fn is_before_installer(&self) -> bool {
        self.artifacts.iter().any(|artifact| artifact.is_installer() && artifact.captured.is_none())
    }

    /// The suite of Debian that is the base, if it is one.
    #[must_use]
    pub fn suite(&self) -> Option<&str> {
        self.base.strip_prefix("debian:")
    }

    /// Reads a lock.
    ///
    /// # Errors
    /// When it is missing, unreadable, broken or of another schema.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bad = |reason: String| Error::BadLock { path: path.to_owned(), reason };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(bad("it does not exist".into()));
            }
            Err(e) => return Err(Error::io("read", path)(e)),
        };
        let lock: Self = toml::from_str(&text).map_err(|e| bad(e.message().to_owned()))?;
        if lock.schema != SCHEMA {
            return Err(bad(format!("its schema is {}, this version reads {SCHEMA}", lock.schema)));
        }
        Ok(lock)
    }

    /// The lock as text, the same for the same lock.
    ///
    /// # Errors
    /// Never for a lock made by this crate; the encoder's otherwise.
    pub fn to_text(&self) -> Result<String, Error> {
        let body =
            toml::to_string(self).map_err(|e| Error::Unsupported(format!("cannot write the lock: {e}")))?;
        Ok(format!("# Every input of the tree by digest. Written by `hatchway lock`; do not edit.\n{body}"))
    }

    /// Writes the lock through a temporary file, so that a crash leaves the old one or the new one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        write_atomically(path, self.to_text()?.as_bytes())
    }

    /// Names the inputs of the tree: the digest over what the builder reads from the lock.
    #[must_use]
    pub fn inputs(&self) -> Sha256 {
        let mut text = format!("{} {}\n", self.base, self.architectures.join(" "));
        for artifact in &self.artifacts {
            let content = match (artifact.is_installer(), artifact.captured) {
                // Before it is run, an installer adds nothing.
                (true, None) => continue,
                (true, Some(captured)) => captured.sha256,
                (false, _) => artifact.sha256,
            };
            text.push_str(&format!("artifact {content} {}\n", artifact.how));
        }
        for layer in self.image.iter().flat_map(|image| &image.layers) {
            text.push_str(&format!("layer {}\n", layer.sha256));
        }
        // An installer is run over the tree before it is patched.
        if !self.is_before_installer() {
            for patch in &self.patches {
                text.push_str(&format!("patch {} {:?}\n", patch.sha256, patch.at));
            }
        }
        // The tree then has a prefix.
        if !self.runner.is_empty() {
            text.push_str(&format!("runner {} {}\n", self.runner, crate::wine::PREFIX_VERSION));
        }
        if !self.python.is_empty() {
            text.push_str(&format!("python {}\n", self.python));
        }
        for wheel in &self.wheels {
            text.push_str(&format!("wheel {} {}\n", wheel.sha256, wheel.file));
        }
        for package in &self.packages {
            text.push_str(&format!("package {}\n", package.sha256));
        }
        Sha256::of(text.as_bytes())
    }
}

/// Replaces a file as a whole.
///
/// # Errors
/// When it cannot be written.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Process ids repeat where containers share a folder.
    let nanos =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.subsec_nanos());
    let temporary = path.with_file_name(format!(".{name}.{}-{nanos}", std::process::id()));
    // What root writes, root trusts later: whatever the mask says, others have no way into it.
    let mode = if rustix::process::geteuid().is_root() { 0o644 } else { 0o666 };
    let mut options = std::fs::OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::mode(options.write(true).create_new(true), mode);
    let written = options.open(&temporary).and_then(|mut file| {
        std::io::Write::write_all(&mut file, bytes)?;
        file.sync_all()
    });
    written.and_then(|()| std::fs::rename(&temporary, path)).map_err(|error| {
        // The first error is what matters; a left-over temporary file does no harm.
        drop(std::fs::remove_file(&temporary));
        Error::io("write", path)(error)
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A lock of packages: name, version, what they depend on.
    pub(crate) fn lock(packages: &[(&str, &str, &[&str])]) -> Lock {
        let package = |(name, version, dependencies): &(&str, &str, &[&str])| LockedPackage {
            name: (*name).to_owned(),
            version: (*version).to_owned(),
            architecture: "amd64".into(),
            source: "debian:test/main".into(),
            path: format!("pool/{name}"),
            size: 1,
            sha256: Sha256::of(format!("{name} {version}").as_bytes()),
            why: "dependency".into(),
            dependencies: dependencies.iter().map(|d| (*d).to_owned()).collect(),
            dropped: false,
            replaces: String::new(),
        };
        Lock {
            schema: SCHEMA,
            recipe: Sha256::of(b""),
            rung: "fhs".into(),
            runner: String::new(),
            base: "debian:test".into(),
            architectures: vec!["amd64".into()],
            base_packages: Vec::new(),
            refused: Vec::new(),
            python: String::new(),
            image: None,
            kernel: None,
            artifacts: Vec::new(),
            patches: Vec::new(),
            wheels: Vec::new(),
            sources: Vec::new(),
            packages: packages.iter().map(package).collect(),
        }
    }

    #[test]
    fn a_lock_is_read_as_it_was_written() {
        let lock = lock(&[("a", "1", &["b"]), ("b", "2", &[])]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recipe.lock");
        lock.write(&path).unwrap();
        assert_eq!(Lock::read(&path).unwrap(), lock);
    }
}
