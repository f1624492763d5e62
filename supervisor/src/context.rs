//! What every command works with: folders, configuration, store, archive, printer.

use std::cell::OnceCell;
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
    /// What downloads.
    pub client: Client,
    network: NetworkUse,
    /// Made when it is asked for: a launch of what is built reads nothing of apt's.
    archive: OnceCell<Archive>,
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
        let store = Store::open(&dirs.store())?.with_bundles(config.bundles.clone());
        let client = Client::new(network.offline);
        let printer = Printer::new(quiet);
        Ok(Self { dirs, config, printer, store, client, network, archive: OnceCell::new() })
    }

    /// Debian's archive.
    pub fn archive(&self) -> &Archive {
        self.archive.get_or_init(|| Archive {
            id: "debian".into(),
            mirrors: self.config.mirrors(),
            keyrings: self.config.keyrings(),
            cache: self.dirs.cache.join("indices"),
            client: self.client.clone(),
            max_age: match self.network {
                NetworkUse { refresh: true, .. } => Duration::ZERO,
                NetworkUse { offline: true, .. } => Duration::MAX,
                NetworkUse { .. } => self.config.index_max_age,
            },
        })
    }

    /// The indices of Python packages: as the environment or the configuration names them, or else the host's pip.
    #[must_use]
    pub fn python_index(&self) -> Index {
        let configured = self.config.python_index.clone();
        // The host's pip is asked only when it is needed.
        let urls = if configured.is_empty() { python::from_pip() } else { configured };
        Index { urls, client: self.client.clone() }
    }
}
