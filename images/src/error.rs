//! The error type of the crate.

use std::path::PathBuf;

/// What can go wrong with an image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The store lacks something, or cannot be read.
    #[error(transparent)]
    Envs(#[from] hatchway_envs::Error),
    /// A file of the store is not what the tree's manifest says.
    #[error("the store's content of `/{path}` has not {size} bytes")]
    Damaged {
        /// The file of the tree.
        path: String,
        /// Its size in bytes by the manifest.
        size: u64,
    },
    /// A file that layers cannot hold.
    #[error("`/{0}` cannot be in an image: names that begin with `.wh.` say there that a file is removed")]
    Whiteout(String),
    /// A folder that is something else than an OCI layout.
    #[error("`{}` is not empty, and no OCI layout", .0.display())]
    NoLayout(PathBuf),
    /// A layout that cannot be added to.
    #[error("the OCI layout `{}`: {reason}", path.display())]
    Layout {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A document of an image cannot be made.
    #[error("cannot write {what}: {reason}")]
    Document {
        /// Which one.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// `DOCKER_HOST` names something else than a socket of this machine.
    #[error("`DOCKER_HOST` is `{0}`, and Hatchway speaks to an engine over a unix socket only")]
    Host(String),
    /// There is no engine.
    #[error("no container engine answers at `{}`", socket.display())]
    NoEngine {
        /// Its socket.
        socket: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The engine's users are not the host's.
    #[error("the container engine gives its containers other users than the host's ({0})")]
    Remapped(String),
    /// The engine did not do what it was asked for.
    #[error("the container engine cannot {action}: {reason}")]
    Engine {
        /// What.
        action: &'static str,
        /// What it said.
        reason: String,
    },
}

impl Error {
    /// The next command or the setting that helps.
    #[must_use]
    pub fn hints(&self) -> Vec<String> {
        let hint = match self {
            Self::Envs(error) => return error.hints(),
            Self::Damaged { .. } => "check it with `hatchway store verify`, mend it with `hatchway store repair`".into(),
            Self::NoLayout(_) => "name a new folder, an OCI layout, or a file that ends with `.tar`".into(),
            Self::Layout { .. } => "name a new folder; `skopeo copy` brings images from one layout into another".into(),
            Self::Host(_) => {
                "write a file instead (`hatchway export oci NAME FILE.tar`), and give it to `docker load` over there".into()
            }
            Self::NoEngine { source, .. } => match source.kind() {
                std::io::ErrorKind::PermissionDenied => {
                    "run it as root or as a member of the socket's group (`docker`); or do without: `--rung fhs` for `run`, a file for `export oci`"
                        .into()
                }
                _ => "start it (`systemctl start docker`, or name another with `DOCKER_HOST=unix://…`); or do without: `--rung fhs` for `run`, a \
                      file for `export oci`"
                    .into(),
            },
            Self::Remapped(_) => {
                "state and licences on the host would be somebody else's in it: use an engine without that (`DOCKER_HOST`), or \
                 the fhs rung"
                    .into()
            }
            Self::Io { source, .. } if is_full(source) => {
                "make room, or name a place on another disk; nothing half-made is left".into()
            }
            Self::Engine { reason, .. } if reason.contains("no space left on device") => {
                "make room for the engine: `docker system df` says what takes it, `docker image prune` removes what no tag names"
                    .into()
            }
            Self::Engine { .. } => {
                "its log says more (`journalctl --unit docker`); the command can be given again, nothing has to be undone".into()
            }
            _ => return Vec::new(),
        };
        vec![hint]
    }

    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}
