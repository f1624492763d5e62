//! Where the command line has it from: the daemon, the files that it would read while none runs, or a support archive.

use std::sync::Arc;

use crate::clock::{self, Now};
use crate::dirs::Dirs;
use crate::error::Error;
use crate::support::Archive;
use crate::units::Memory;

use super::client::Client;
use super::files::Said;
use super::journal::{self, Event};
use super::problem::Code;
use super::report::UnitStatus;
use super::view::Machine;

/// Who answers.
#[derive(Debug)]
pub enum Source {
    /// A daemon.
    Daemon(Client),
    /// Nobody: the files do.
    Files(Dirs),
    /// What somebody has collected, on whatever machine.
    Archive(Arc<Archive>),
}

impl Source {
    /// The daemon, if one runs.
    ///
    /// # Errors
    /// One runs, and this process may not connect.
    pub fn find(dirs: &Dirs) -> Result<Self, Error> {
        Ok(Client::find(dirs)?.map_or_else(|| Self::Files(dirs.clone()), Self::Daemon))
    }

    /// The moment of which it tells, in nanoseconds of `CLOCK_REALTIME`: now, but for an archive.
    #[must_use]
    pub fn moment_ns(&self) -> i64 {
        match self {
            Self::Archive(archive) => archive.manifest.made_ns,
            Self::Daemon(_) | Self::Files(_) => clock::now_ns(),
        }
    }

    /// The machine's daemon answers, and this user has folders of their own beside it.
    #[must_use]
    pub fn is_machines(&self) -> bool {
        matches!(self, Self::Daemon(client) if client.is_machines())
    }

    /// Where the folders of its units are: those of this user, or the machine's.
    #[must_use]
    pub fn dirs(&self, own: &Dirs) -> Dirs {
        match self {
            Self::Daemon(client) if client.is_machines() => Dirs {
                data: "/var/lib/hatchway".into(),
                runtime: super::client::SYSTEM.into(),
                ..own.clone()
            },
            _ => own.clone(),
        }
    }

    /// All units of the instrument; none where no instrument is carried out.
    ///
    /// # Errors
    /// The daemon says no, or the files cannot be read.
    pub fn units(&self) -> Result<Vec<UnitStatus>, Error> {
        match self {
            // Whoever has no role at the machine's daemon has tools of their own all the same.
            Self::Daemon(client) if client.is_machines() => match client.get("/v1/units") {
                Err(Error::Problem { code: Code::NotPermitted, .. }) => Ok(Vec::new()),
                other => other,
            },
            Self::Daemon(client) => client.get("/v1/units"),
            Self::Files(dirs) => {
                let Some(machine) = Machine::load(dirs)? else { return Ok(Vec::new()) };
                let units = machine.units(dirs, &Said::load(dirs)?, &Now::get(), &mut Memory::default())?;
                Ok(units.iter().map(UnitStatus::from).collect())
            }
            Self::Archive(archive) => archive.units(),
        }
    }

    /// One of them.
    ///
    /// # Errors
    /// As [`Source::units`].
    pub fn unit(&self, name: &str) -> Result<Option<UnitStatus>, Error> {
        Ok(self.units()?.into_iter().find(|unit| unit.name == name))
    }

    /// Events after this number, as many as come at a time.
    ///
    /// # Errors
    /// The daemon says no.
    pub fn events(&self, since: u64) -> Result<Vec<Event>, Error> {
        match self {
            Self::Daemon(client) => client.get(&format!("/v1/events?since={since}")),
            Self::Files(dirs) => Ok(journal::since(&journal::folder(dirs), since, usize::MAX)),
            Self::Archive(archive) => {
                Ok(archive.events()?.into_iter().filter(|event| event.seq > since).collect())
            }
        }
    }
}
