//! `--from ARCHIVE`: a support archive in place of this machine.

use std::path::PathBuf;
use std::sync::Arc;

use crate::daemon::source::Source;
use crate::dirs::Dirs;
use crate::error::Error;
use crate::support::Archive;

/// What is asked.
#[derive(Debug, clap::Args)]
pub(super) struct FromArgs {
    /// Ask an archive of `support collect` in place of this machine
    #[arg(long, value_name = "ARCHIVE")]
    pub from: Option<PathBuf>,
}

/// A machine, or what was collected of one.
#[derive(Debug)]
pub(super) struct Place {
    /// Where its units' runs are.
    pub dirs: Dirs,
    /// It is this archive.
    pub archive: Option<Arc<Archive>>,
}

impl FromArgs {
    /// Opens it.
    pub(super) fn place(&self) -> Result<Place, Error> {
        let archive = self.from.as_deref().map(Archive::open).transpose()?.map(Arc::new);
        let dirs = archive.as_ref().map_or_else(Dirs::discover, |archive| archive.dirs());
        Ok(Place { dirs, archive })
    }
}

impl Place {
    /// Who answers for it.
    pub(super) fn source(&self) -> Result<Source, Error> {
        match &self.archive {
            Some(archive) => Ok(Source::Archive(Arc::clone(archive))),
            None => Source::find(&self.dirs),
        }
    }
}
