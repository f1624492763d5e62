//! What can go wrong in the outer half. What goes wrong in the inner one arrives as a report.
use std::io;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("usage: hatchway-shim --bootstrap-fd N | --bootstrap FILE | --guest")]
    Usage,
    #[error("cannot read the bootstrap")]
    ReadBootstrap(#[source] io::Error),
    #[error("cannot understand the bootstrap")]
    ParseBootstrap(#[source] serde_json::Error),
    #[error("the bootstrap has version {theirs}, this shim reads version {ours}")]
    Version { theirs: u32, ours: u32 },
    #[error("descriptor {0} is a standard stream and cannot be kept")]
    KeepFd(i32),
    #[error("cannot run from a sealed copy in memory: {step}")]
    Seal { step: &'static str, source: io::Error },
    #[error("{0} is a folder, a disk or a bare path, through which the tool could leave its sandbox")]
    Stream(&'static str),
    #[error("the plan does not begin with its namespaces")]
    Plan,
    #[error("cannot {operation}")]
    Namespaces { operation: String, source: io::Error },
    #[error("cannot {step}")]
    Guest { step: String, source: io::Error },
    #[error("cannot {step}")]
    Attend { step: &'static str, source: io::Error },
}

impl Error {
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Usage => Some("this program is started by `hatchway run`".to_owned()),
            Self::Version { .. } | Self::ParseBootstrap(_) => {
                Some("`hatchway` and `hatchway-shim` must come from the same release".to_owned())
            }
            Self::Stream(_) => {
                Some("give it a file or a pipe, or show the folder to the tool with `--share`".to_owned())
            }
            Self::Namespaces { .. } => Some(crate::host::namespace_hint()),
            _ => None,
        }
    }
}

/// Names the step of an attendant's system call.
pub(crate) trait Step<T> {
    fn step(self, step: &'static str) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, step: &'static str) -> Result<T, Error> {
        self.map_err(|source| Error::Attend { step, source: source.into() })
    }
}
