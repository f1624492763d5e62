//! `hatchway.toml`: what this host's administrator or user sets.

use std::path::PathBuf;
use std::time::Duration;

use hatchway_envs::debian::sources::{self, Holds, MIRROR_VARIABLE, Mirror, SECURITY_MIRROR_VARIABLE};
use hatchway_envs::python::INDEX_VARIABLE;
use hatchway_vm::qemu::accel::Accel;
use serde::Deserialize;

use crate::dirs::Dirs;
use crate::error::Error;
use crate::recipe::Diagnostic;

/// The suites that are tried, the first that fits wins: the host generation of most instruments, the current stable,
/// and the oldest that still has security support.
const DEFAULT_SUITES: [&str; 3] = ["bookworm", "trixie", "bullseye"];
/// Indices younger than this are not fetched again.
const DEFAULT_INDEX_MAX_AGE_HOURS: u64 = 24;

/// The merged configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Suites in order of preference.
    pub suites: Vec<String>,
    /// `[[mirror]]`
    configured_mirrors: Vec<MirrorEntry>,
    /// `keyring`
    configured_keyring: Option<PathBuf>,
    /// Indices of Python packages, best first; none for those of the host's pip.
    pub python_index: Vec<String>,
    /// See [`DEFAULT_INDEX_MAX_AGE_HOURS`].
    pub index_max_age: Duration,
    /// Where the host's graphics driver is installed: `/`, or the root of a container that brings it, as with NVIDIA's GPU
    /// operator (`/run/nvidia/driver`).
    pub driver_root: PathBuf,
    /// Folders with packages and vendors' files by their digests, looked into before a mirror is.
    pub bundles: Vec<PathBuf>,
    /// What executes the instructions of guests; found out where none is named.
    vm_accel: Option<AccelName>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    suites: Option<Vec<String>>,
    #[serde(default)]
    keyring: Option<PathBuf>,
    #[serde(default)]
    python_index: Option<String>,
    #[serde(default)]
    index_max_age_hours: Option<u64>,
    #[serde(default)]
    driver_root: Option<PathBuf>,
    #[serde(default)]
    bundles: Vec<PathBuf>,
    #[serde(default)]
    vm_accel: Option<AccelName>,
    #[serde(default)]
    mirror: Vec<MirrorEntry>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct MirrorEntry {
    url: String,
    #[serde(default)]
    archive: ArchiveName,
    #[serde(default)]
    suites: Vec<String>,
    #[serde(default = "yes")]
    check_valid_until: bool,
}

/// What executes the instructions of guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum AccelName {
    Auto,
    Kvm,
    Tcg,
}

/// Which of Debian's archives a mirror has.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ArchiveName {
    #[default]
    Main,
    Security,
}

impl From<ArchiveName> for Holds {
    fn from(name: ArchiveName) -> Self {
        match name {
            ArchiveName::Main => Self::Main,
            ArchiveName::Security => Self::Security,
        }
    }
}

fn yes() -> bool {
    true
}

/// Reads the configuration files and the environment; a later file's values win, mirrors add up.
///
/// # Errors
/// When a file is there but wrong.
pub fn load(dirs: &Dirs) -> Result<Config, Error> {
    let mut suites = DEFAULT_SUITES.map(str::to_owned).to_vec();
    let mut hours = DEFAULT_INDEX_MAX_AGE_HOURS;
    let mut keyring = None;
    let mut python_index = None;
    let mut driver_root = None;
    let mut bundles = Vec::new();
    let mut vm_accel = None;
    let mut configured = Vec::new();
    for path in &dirs.config {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(Error::io("read", path)(e)),
        };
        let file: File = toml::from_str(&text).map_err(|e| {
            Error::Config(Diagnostic::new(e.message(), e.span().unwrap_or(0..0)).in_file(path, &text))
        })?;
        suites = file.suites.unwrap_or(suites);
        hours = file.index_max_age_hours.unwrap_or(hours);
        keyring = file.keyring.or(keyring);
        python_index = file.python_index.or(python_index);
        driver_root = file.driver_root.or(driver_root);
        bundles.extend(file.bundles);
        vm_accel = file.vm_accel.or(vm_accel);
        configured.extend(file.mirror);
    }
    Ok(Config {
        suites,
        configured_mirrors: configured,
        configured_keyring: keyring,
        python_index: python_indices(python_index),
        index_max_age: Duration::from_secs(hours * 3600),
        driver_root: driver_root.unwrap_or_else(|| PathBuf::from("/")),
        bundles,
        vm_accel,
    })
}

/// The environment's index, or the configured one.
fn python_indices(configured: Option<String>) -> Vec<String> {
    let variable = std::env::var(INDEX_VARIABLE).ok().filter(|url| !url.is_empty());
    let chosen = variable.or(configured).unwrap_or_default();
    chosen.split_whitespace().map(|url| url.trim_end_matches('/').to_owned()).collect()
}

impl Config {
    /// Mirrors, best first: the environment's, then the configured ones; apt's only where neither names any.
    #[must_use]
    pub fn mirrors(&self) -> Vec<Mirror> {
        let mut all = Vec::new();
        for (variable, holds) in [(MIRROR_VARIABLE, Holds::Main), (SECURITY_MIRROR_VARIABLE, Holds::Security)]
        {
            if let Ok(url) = std::env::var(variable)
                && !url.is_empty()
            {
                all.push(Mirror::new(&url, holds, variable));
            }
        }
        all.extend(self.configured_mirrors.iter().map(|entry| Mirror {
            named: entry.suites.clone(),
            suites: entry.suites.clone(),
            check_valid_until: entry.check_valid_until,
            ..Mirror::new(&entry.url, entry.archive.into(), "hatchway.toml")
        }));
        if all.is_empty() { sources::from_apt("/".as_ref()) } else { all }
    }

    /// What executes the instructions of guests, where the configuration says so.
    #[must_use]
    pub fn vm_accel(&self) -> Option<Accel> {
        match self.vm_accel? {
            AccelName::Auto => None,
            AccelName::Kvm => Some(Accel::Kvm),
            AccelName::Tcg => Some(Accel::Tcg),
        }
    }

    /// Key rings: the configured one, or the host's.
    #[must_use]
    pub fn keyrings(&self) -> Vec<PathBuf> {
        self.configured_keyring
            .as_ref()
            .map_or_else(|| sources::keyrings("/".as_ref()), |path| vec![path.clone()])
    }
}
