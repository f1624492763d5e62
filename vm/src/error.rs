//! The error type of the crate.

use std::path::PathBuf;

use crate::qemu_image::Fault;
use crate::virtualbox::Refusal;

/// What can go wrong with a guest.
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
    /// There is no QEMU.
    #[error("there is no `qemu-system-x86_64` on this host")]
    NoQemu,
    /// QEMU cannot be started.
    #[error("cannot start QEMU")]
    Start(#[source] std::io::Error),
    /// A program of e2fsprogs that is not there, or fails.
    #[error("cannot {what}: {reason}")]
    Tool {
        /// What was tried.
        what: &'static str,
        /// What it said.
        reason: String,
    },
    /// The state's disk is in use.
    #[error("`{}` is in use by a guest", .0.display())]
    Busy(PathBuf),
    /// The state is in use on another rung.
    #[error("the state in `{}` is in use by a run on another rung", .0.display())]
    Shared(PathBuf),
    /// The store lacks something.
    #[error(transparent)]
    Envs(#[from] hatchway_envs::Error),
    /// A package cannot be read.
    #[error(transparent)]
    Archive(#[from] hatchway_inspect::Error),
    /// A package without a kernel.
    #[error("`{}` holds no kernel", .0.display())]
    NoKernel(PathBuf),
    /// A module that the kernel's package has not.
    #[error("the kernel {release} has no module `{name}`{}", near_names(near))]
    NoModule {
        /// As it was asked for.
        name: String,
        /// The kernel.
        release: String,
        /// What is called like it.
        near: Vec<String>,
    },
    /// A module that cannot be read.
    #[error("the kernel's module `{name}` cannot be read: {reason}")]
    BadModule {
        /// Which.
        name: String,
        /// Why.
        reason: String,
    },
    /// A disk could not be written.
    #[error("cannot write a disk for the guest")]
    Disk(#[source] std::io::Error),
    /// A tree that no disk can hold.
    #[error("the tree is too large for a disk: 16 TiB is the most")]
    TooLarge,
    /// A content of the store is not what the manifest says.
    #[error("the store's content {} has not {size} bytes", sha256.short())]
    Damaged {
        /// Which.
        sha256: hatchway_envs::digest::Sha256,
        /// What it should have.
        size: u64,
    },
    /// A program that guests are run with is not installed.
    #[error("there is no `{}`", program.display())]
    NoProgram {
        /// The program.
        program: PathBuf,
        /// Debian's package of it.
        package: &'static str,
    },
    /// A machine asks for what its driver cannot give.
    #[error("{driver} cannot give {what}")]
    Driver {
        /// Which driver.
        driver: &'static str,
        /// What is asked for.
        what: String,
        /// What to write instead.
        hint: String,
    },
    /// A path that cannot be handed to a driver.
    #[error("`{}` is no path that a guest's driver takes", .0.display())]
    Path(PathBuf),
    /// A path of a socket that the kernel does not take.
    #[error("`{}` is too long for a socket", .0.display())]
    SocketPath(PathBuf),
    /// A name that no snapshot can have.
    #[error("`{0}` is no name of a snapshot")]
    SnapshotName(String),
    /// A snapshot of that name is there.
    #[error("there is a snapshot `{0}` already")]
    SnapshotThere(String),
    /// There is none.
    #[error("there is no snapshot `{name}`")]
    NoSnapshot {
        /// As it was asked for.
        name: String,
        /// Those that there are.
        there: Vec<String>,
    },
    /// A disk image that is not what it is said to be, or that leads to other files.
    #[error("the disk image `{}` {reason}", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// A VirtualBox that is too old.
    #[error("VirtualBox is {0}, and Hatchway drives 7.0 and later")]
    OldVirtualBox(String),
    /// VirtualBox refuses.
    #[error("{0}")]
    VirtualBox(Refusal),
    /// QEMU refuses, or has ended.
    #[error("{0}")]
    Qemu(Fault),
}

impl Error {
    /// For `map_err`: names the action and the path.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// The next command, where there is one.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Damaged { .. } => Some("`hatchway store repair` makes it anew".to_owned()),
            Self::NoModule { .. } => Some(
                "`kernel = \"linux-image-amd64\"` in [run.vm] of the recipe is the kernel with all modules; lock again".to_owned(),
            ),
            Self::NoQemu => Some("install Debian's `qemu-system-x86`, or run it on another rung: `--rung fhs`".to_owned()),
            Self::Tool { reason, .. } if reason.starts_with("there is no") => {
                Some("install Debian's `e2fsprogs`".to_owned())
            }
            Self::Tool { .. } => {
                Some("a larger disk is `vm = { state = \"16G\" }` in [run]; `df` shows whether this machine's is full".to_owned())
            }
            Self::Busy(_) => Some("end that run first: two guests cannot share state".to_owned()),
            Self::Shared(_) => {
                Some("end that run first (`hatchway stats`): a guest's disk would be a copy of this moment".to_owned())
            }
            Self::Io { .. }
            | Self::Envs(_)
            | Self::Start(_)
            | Self::Archive(_)
            | Self::NoKernel(_)
            | Self::BadModule { .. }
            | Self::Disk(_)
            | Self::TooLarge => None,
            Self::NoProgram { package, .. } => {
                Some(format!("install it: on Debian `apt-get install --no-install-recommends {package}`"))
            }
            Self::Driver { hint, .. } | Self::Image { hint, .. } => Some(hint.clone()),
            Self::Path(_) => Some("use an absolute path in UTF-8 without control characters".into()),
            Self::SocketPath(_) => Some("sockets have paths of at most 107 bytes: use a shorter one".into()),
            Self::SnapshotName(_) => Some(
                "use 1 to 64 letters, digits, `.`, `_` and `-`, and not digits alone: `before-update`".into(),
            ),
            Self::SnapshotThere(name) => Some(format!("choose another name, or delete `{name}` first")),
            Self::NoSnapshot { there, .. } if there.is_empty() => Some("there is none at all".into()),
            Self::NoSnapshot { there, .. } => Some(format!("there is {}", there.join(", "))),
            Self::OldVirtualBox(_) => Some("install VirtualBox 7, or use `driver = \"qemu\"`".into()),
            Self::VirtualBox(refusal) => refusal.reason.map(|reason| reason.hint().to_owned()),
            Self::Qemu(fault) => fault.hint(),
        }
    }
}

fn near_names(near: &[String]) -> String {
    if near.is_empty() { String::new() } else { format!("; it has {}", near.join(", ")) }
}
