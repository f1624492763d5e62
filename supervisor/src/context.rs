//! What every command works with: folders, configuration, store, archive, printer.

use std::time::Duration;

use hatchway_envs::debian::archive::Archive;
use hatchway_envs::fetch::Client;
use hatchway_envs::python::{self, Index};
use hatchway_envs::store::Store;

use crate::config::{self, Config};
use crate::dirs::Dirs;
use crate::error::Error;
use crate::report::Printer;

/// See the module.
#[derive(Debug)]
pub struct Context {
    /// Folders.
    pub dirs: Dirs,
    /// Configuration.
    pub config: Config,
    /// Messages.
    pub printer: Printer,
    /// The store.
    pub store: Store,
    /// Debian's archive.
    pub archive: Archive,
}

/// How the network may be used.
#[derive(Debug, Clone, Copy, Default)]
pub struct NetworkUse {
    /// Never.
    pub offline: bool,
    /// Even for what is cached.
    pub refresh: bool,
}

impl Context {
    /// Opens everything.
    ///
    /// # Errors
    /// A wrong configuration file, a store that cannot be made.
    pub fn open(quiet: bool, network: NetworkUse) -> Result<Self, Error> {
        let dirs = Dirs::discover();
        let config = config::load(&dirs)?;
        let store = Store::open(&dirs.store())?;
        let max_age = match network {
            NetworkUse { refresh: true, .. } => Duration::ZERO,
            NetworkUse { offline: true, .. } => Duration::MAX,
            NetworkUse { .. } => config.index_max_age,
        };
        let archive = Archive {
            id: "debian".into(),
            mirrors: config.mirrors.clone(),
            keyrings: config.keyrings.clone(),
            cache: dirs.cache.join("indices"),
            client: Client::new(network.offline),
            max_age,
        };
        Ok(Self { dirs, config, printer: Printer::new(quiet), store, archive })
    }

    /// The indices of Python packages: as the environment or the configuration names them, or else the host's pip.
    #[must_use]
    pub fn python_index(&self) -> Index {
        let configured = self.config.python_index.clone();
        // The host's pip is asked only when it is needed.
        let urls = if configured.is_empty() { python::from_pip() } else { configured };
        Index { urls, client: self.archive.client.clone() }
    }
}
