//! What the rungs have in common, and in what they differ before the tool starts.
//!
//! Each takes a tree and a specification ([`super::Run`]) and becomes a process that stays beside the unit: the shim itself, or
//! this one. From then on a unit is the same everywhere: a folder with a socket, over which others come to it, and in the end a
//! record. Signals to that process are signals to the unit.

/// The rungs that this version has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// Namespaces over the tree.
    #[default]
    Fhs,
    /// A container of this machine's engine.
    Container,
    /// A guest of QEMU's.
    Vm,
}

/// What follows from a rung for what is prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Nature {
    /// State is folders of this machine's, and not a disk.
    pub(super) folders: bool,
    /// Whose devices the tool sees.
    pub(super) devices: Devices,
    /// Limits of the unit as a whole are kept by who makes the isolation.
    pub(super) keeps_limits: bool,
    /// It can give the unit users of its own, among them a root that is nobody outside.
    pub(super) users: bool,
}

/// Whose devices a tool sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Devices {
    /// This machine's, also those that come back.
    ComeAndGo,
    /// This machine's, as they are at the start.
    AtStart,
    /// The guest's own.
    Guests,
}

impl Isolation {
    pub(super) fn nature(self) -> Nature {
        let (folders, devices, keeps_limits, users) = match self {
            Self::Fhs => (true, Devices::ComeAndGo, false, false),
            Self::Container => (true, Devices::AtStart, true, true),
            Self::Vm => (false, Devices::Guests, true, false),
        };
        Nature { folders, devices, keeps_limits, users }
    }
}
