//! A vendor's file, from wherever it is, into the store; and its facts.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use hatchway_envs::debian::archive::Scope;
use hatchway_envs::digest::Sha256;
use hatchway_envs::fetch::Wanted;
use hatchway_inspect::Facts;
use hatchway_inspect::archive::Limits;

use crate::context::Context;
use crate::error::Error;
use crate::recipe::{self, Located, Origin};

/// A package of Debian's archive, as people name it: `debian:trixie/non-free/rar`, `debian:trixie/non-free/rar:i386`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveSpec {
    /// Suite.
    pub suite: String,
    /// Component.
    pub component: String,
    /// Package.
    pub package: String,
    /// Architecture, as Debian calls it; that of programs for x86-64 where nothing is said.
    pub architecture: String,
}

/// What an archive name without an architecture means.
const ARCHITECTURE: &str = "amd64";

impl std::fmt::Display for ArchiveSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { suite, component, package, architecture } = self;
        write!(f, "debian:{suite}/{component}/{package}")?;
        if architecture == ARCHITECTURE { Ok(()) } else { write!(f, ":{architecture}") }
    }
}

impl FromStr for ArchiveSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::BadSpec(text.to_owned());
        let name = text.strip_prefix("debian:").ok_or_else(bad)?;
        let (name, architecture) = name.split_once(':').unwrap_or((name, ARCHITECTURE));
        let parts: Vec<&str> = name.split('/').collect();
        let known = matches!(architecture, ARCHITECTURE | "i386");
        let clean = |part: &&str| {
            !part.is_empty()
                && part.chars().all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c))
                && !part.starts_with('.')
        };
        match parts[..] {
            [suite, component, package] if known && parts.iter().all(clean) => Ok(Self {
                suite: suite.into(),
                component: component.into(),
                package: package.into(),
                architecture: architecture.into(),
            }),
            _ => Err(bad()),
        }
    }
}

/// An artifact within reach: a person's file, or one of the archive's in the store.
#[derive(Debug, Clone)]
pub struct Acquired {
    /// How it was named.
    pub origin: Origin,
    /// Its file name.
    pub file: String,
    /// Its digest.
    pub sha256: Sha256,
    /// Where it is.
    pub path: PathBuf,
}

/// Finds a file, or fetches a package of the archive. A person's file is not copied into the store yet.
///
/// # Errors
/// When it is not there or cannot be fetched.
pub fn acquire(context: &Context, name: &str) -> Result<Acquired, Error> {
    if name.starts_with("debian:") {
        return fetch(context, &name.parse()?, name, None);
    }
    let path = Path::new(name);
    let metadata = std::fs::metadata(path).map_err(Error::io("read", path))?;
    if metadata.is_dir() {
        let message =
            format!("`{name}` is a folder: pack it, for example with `tar`, to make it an artifact");
        return Err(Error::Usage(message));
    }
    // A device never ends, and a pipe waits.
    if !metadata.is_file() {
        return Err(Error::Usage(format!("`{name}` is neither a file nor a folder")));
    }
    let most = Limits::default().artifact_bytes;
    if metadata.len() > most {
        let size = metadata.len();
        return Err(Error::Usage(format!("`{name}` has {size} bytes: an artifact may have {most}")));
    }
    let real = path.canonicalize().map_err(Error::io("read", path))?;
    let file = real.file_name().map_or_else(|| name.to_owned(), |n| n.to_string_lossy().into_owned());
    let (sha256, _) = Sha256::of_file(path).map_err(Error::io("read", path))?;
    Ok(Acquired { origin: Origin::File(file.clone()), file, sha256, path: path.to_owned() })
}

/// Fetches a package of Debian's archive through its verified index. With `expected`, that very file.
fn fetch(
    context: &Context,
    spec: &ArchiveSpec,
    name: &str,
    expected: Option<Sha256>,
) -> Result<Acquired, Error> {
    let archive = context.archive();
    let scope = Scope {
        suite: &spec.suite,
        components: std::slice::from_ref(&spec.component),
        architectures: std::slice::from_ref(&spec.architecture),
        required: true,
    };
    let index = archive.suite(scope, &context.printer)?;
    let package = match expected {
        None => index.newest(&spec.package),
        Some(sha256) => {
            index.named(&spec.package).iter().map(|&i| &index.packages[i]).find(|p| p.sha256 == sha256)
        }
    };
    let source_id = format!("debian:{}/{}", spec.suite, spec.component);
    let package =
        package.ok_or_else(|| hatchway_envs::Error::NoPackage { name: spec.package.clone(), source_id })?;
    let wanted = Wanted {
        urls: archive.urls(&spec.suite, &package.filename),
        what: format!("`{}` of debian:{}/{}", package.filename, spec.suite, spec.component),
        sha256: package.sha256,
        size: Some(package.size),
    };
    context.store.fetch(&archive.client, &[wanted], &context.printer)?;
    Ok(Acquired {
        origin: Origin::Archive(name.to_owned()),
        file: package.filename.rsplit('/').next().unwrap_or(&package.filename).to_owned(),
        sha256: package.sha256,
        path: context.store.artifact(package.sha256),
    })
}

/// Makes sure that every artifact of a recipe is in the store: from beside the recipe, its URL, or the archive.
///
/// # Errors
/// When one is missing or has another digest.
pub fn gather(context: &Context, located: &Located) -> Result<Vec<(String, Sha256, u64)>, Error> {
    located.recipe.artifacts.iter().map(|artifact| gather_one(context, located, artifact)).collect()
}

fn gather_one(
    context: &Context,
    located: &Located,
    artifact: &recipe::Artifact,
) -> Result<(String, Sha256, u64), Error> {
    let sha256 = artifact.sha256.digest();
    let stored = context.store.artifact(sha256);
    let file = artifact.file_name();
    if artifact.sha256.is_placeholder() {
        return Err(Error::Placeholder { file, name: located.recipe.package.name.to_string() });
    }
    if !stored.exists() {
        if let Some(spec) = &artifact.archive {
            fetch(context, &spec.parse()?, spec, Some(sha256))?;
        } else if let Some(url) = &artifact.url {
            let wanted = Wanted { urls: vec![url.clone()], what: format!("`{file}`"), sha256, size: None };
            context.store.fetch(&context.client, &[wanted], &context.printer)?;
        } else {
            let beside = located.folder().join(artifact.file.as_deref().unwrap_or(&file));
            if !beside.is_file() {
                return Err(Error::NoArtifact { file, folder: located.folder().to_owned() });
            }
            context.store.import(&beside, Some(sha256))?;
        }
    }
    let size = std::fs::metadata(&stored).map_err(Error::io("read", &stored))?.len();
    Ok((file, sha256, size))
}

/// The facts of an artifact, cached by its digest and its name, by which a wheel, the paths of a lone program and some kinds
/// of files are known. `path` is where it can be read.
///
/// # Errors
/// When it cannot be inspected.
pub fn facts(context: &Context, file: &str, sha256: Sha256, path: &Path) -> Result<Facts, Error> {
    let folder = context.dirs.cache.join("facts");
    let name = Sha256::of(file.as_bytes()).hex();
    let cached = folder.join(format!(
        "{sha256}.{}.{}.json",
        name.get(..16).unwrap_or_default(),
        hatchway_inspect::SCHEMA
    ));
    if let Ok(text) = std::fs::read(&cached)
        && let Ok(facts) = serde_json::from_slice::<Facts>(&text)
        && facts.artifact.file == file
    {
        return Ok(facts);
    }
    let mut facts = hatchway_inspect::inspect_as(path, Path::new(file), &Limits::default())?;
    // Facts of one file must not be kept under the digest of another.
    if facts.artifact.sha256 != sha256.hex() {
        return Err(Error::Usage(format!("`{file}` changed while it was read: is it still being copied?")));
    }
    file.clone_into(&mut facts.artifact.file);
    std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    if let Ok(text) = serde_json::to_vec(&facts) {
        hatchway_envs::lock::write_atomically(&cached, &text)?;
    }
    Ok(facts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archive_names() {
        let spec: ArchiveSpec = "debian:trixie/non-free/rar".parse().unwrap();
        assert_eq!(
            (spec.suite.as_str(), spec.component.as_str(), spec.package.as_str()),
            ("trixie", "non-free", "rar")
        );
        assert_eq!(
            (spec.architecture.as_str(), spec.to_string().as_str()),
            ("amd64", "debian:trixie/non-free/rar")
        );
        let spec: ArchiveSpec = "debian:trixie/non-free/rar:i386".parse().unwrap();
        assert_eq!((spec.architecture.as_str(), spec.package.as_str()), ("i386", "rar"));
        assert_eq!(spec.to_string(), "debian:trixie/non-free/rar:i386");
        for bad in [
            "debian:trixie/rar",
            "trixie/main/x",
            "debian:a/b/../c",
            "debian:a//c",
            "debian:a/b/..",
            "debian:a/b/c d",
            "debian:a/b/c:",
            "debian:a/b/c:mips",
            "debian:a/b/c:i386:i386",
        ] {
            assert!(bad.parse::<ArchiveSpec>().is_err(), "{bad}");
        }
    }
}
