//! The fhs rung: a tool in namespaces over an immutable tree.
//!
//! A [`Spec`] says what is wanted, [`plan()`] turns it into a list of operations without touching anything,
//! [`exec_shim`] hands the list to the shim, which becomes the running unit. [`probe`] says what this host allows.
pub mod build_plan;
pub mod companion_plan;
pub mod explain;
pub mod guest;
pub mod launch;
pub mod native_plan;
pub mod plan;
pub mod probe;
pub mod seccomp;
pub mod spec;
pub mod within;

pub use build_plan::{BUILD_ID, BuildSpec, build_plan, build_user};
pub use companion_plan::{CompanionSpec, Reach, companion_plan, host_view};
pub use explain::{Explained, explained_json};
pub use guest::{Given, Guest, plan_guest};
pub use hatchway_wire::Owner;
pub use hatchway_wire::bootstrap::{Lease, Resource};
pub use launch::{exec_shim, spawn_shim};
pub use native_plan::{NativeSpec, native_plan};
pub use plan::{common_environment, plan};
pub use probe::{HostFacts, Problem, Report};
pub use spec::{
    BoundFile, BoundSocket, Channel, Companion, Device, DeviceId, Door, Driver, Endpoint, Health, HostPath,
    InsidePath, Interface, Mode, Network, Ready, ResourceLimit, Secret, Share, Slot, Spec, StateDir, User,
    host_path,
};

pub use within::{Bound, Ceiling, Outside, Within, plan_within};

/// What can go wrong between a wish and a running shim.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something in the spec is not acceptable.
    #[error("{what} `{value}` is not usable: {why}")]
    Invalid {
        /// Which field.
        what: &'static str,
        /// What it was.
        value: String,
        /// Why not.
        why: &'static str,
    },
    /// A host path that must never be visible to a tool.
    #[error("`{path}` must not be visible inside a sandbox: {why}")]
    Refused {
        /// The path asked for.
        path: HostPath,
        /// Why not.
        why: String,
    },
    /// A path of the caller could not be resolved.
    #[error("cannot resolve `{path}`")]
    Resolve {
        /// As it was given.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A path of the caller is not one we can carry.
    #[error("unusable path")]
    Path(#[from] hatchway_wire::PathError),
    /// The shim could not be started.
    #[error("cannot start the shim: {step}")]
    Launch {
        /// What was being done.
        step: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The bootstrap could not be written as JSON.
    #[error("cannot encode the plan")]
    Encode(#[from] serde_json::Error),
}

impl Error {
    /// What to do about it, if we know.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Invalid { what: "user id", .. } => {
                Some("give the unit a user of its own: `user = \"hw-NAME\"` in the instrument".to_owned())
            }
            Self::Invalid { what: "machine id", .. } => Some(
                "it is what `cat /etc/machine-id` prints on the machine that the licence names".to_owned(),
            ),
            Self::Invalid { why: within::ONLY_FHS | guest::ONLY_NAMESPACES, .. } => {
                Some("run it there: `--rung fhs`, or `rung = \"fhs\"` in [run] of the recipe".to_owned())
            }
            Self::Refused { .. } => {
                Some("copy what the tool needs into a folder of its own and share that".to_owned())
            }
            Self::Launch { .. } => Some("`hatchway doctor` checks the installation".to_owned()),
            _ => None,
        }
    }
}
