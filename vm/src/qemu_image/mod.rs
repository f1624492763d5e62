//! A guest from a disk image that somebody brings, on QEMU.
//!
//! ```text
//! overlay    what is written instead of the image
//! argv       a machine as a command line
//! qmp        the conversation with QEMU
//! guest      one that runs: power button, snapshots, USB devices that come and go
//! snapshots  of the disk of one that is off
//! ```

pub mod argv;
mod guest;
pub mod overlay;
pub mod qmp;
pub mod snapshots;

use std::fmt;

pub use crate::qemu::accel::Accel;
pub use guest::{Ended, Guest, PRESS_AGAIN, Start, Why};

/// QEMU refuses, or does not do as it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It ended before its guest began.
    Start(String),
    /// It refuses a command.
    Refused {
        /// Which one.
        command: &'static str,
        /// Why, in its words.
        said: String,
    },
    /// It says what its protocol has not.
    Protocol(String),
    /// It does not say or hear something in time.
    Silent(&'static str),
    /// It has ended.
    Gone,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(said) if said.is_empty() => {
                f.write_str("QEMU ends at its start and does not say why")
            }
            Self::Start(said) => write!(f, "QEMU ends at its start; it says: {said}"),
            Self::Refused { command, said } => write!(f, "QEMU refuses `{command}`: {said}"),
            Self::Protocol(what) => write!(f, "QEMU does not speak its protocol: {what}"),
            Self::Silent(what) => write!(f, "QEMU hangs: {what} takes too long"),
            Self::Gone => f.write_str("QEMU has ended"),
        }
    }
}

/// What QEMU says at its start, and what to do about it.
const SIGNS: &[(&str, &str)] = &[
    (
        "Permission denied",
        "QEMU runs as the tool's own user: let that one read the image and its folders, or choose one with `--user`",
    ),
    ("Failed to get \"write\" lock", "the guest runs already, or another program has its disk open"),
    ("Failed to get shared \"write\" lock", "another program writes to the image: end it, or make a copy"),
    (
        "Could not set up host forwarding rule",
        "another program listens there: choose another port in `ports`",
    ),
    (
        "Could not access KVM kernel module",
        "`ls -l /dev/kvm` says who may use it; without it, QEMU runs in software",
    ),
    ("failed to initialize kvm", "`ls -l /dev/kvm` says who may use it; without it, QEMU runs in software"),
    ("cannot set up guest memory", "give the guest less `memory`, or close something"),
    ("does not have the requested snapshot", "`qemu-img snapshot -l` lists those of a disk"),
    ("seccomp support is disabled", "this QEMU was built without its sandbox: use the distribution's own"),
];

impl Fault {
    /// The next command, where there is one.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Start(said) => {
                SIGNS.iter().find(|(sign, _)| said.contains(sign)).map(|(_, hint)| (*hint).to_owned())
            }
            _ => None,
        }
    }
}
