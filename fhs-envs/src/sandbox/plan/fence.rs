//! The second wall: what the mounts show, said once more to Landlock.
use super::READ_ONLY;
use crate::sandbox::HostFacts;
use crate::sandbox::spec::{Network, Spec};
use hatchway_wire::{Fence, InsidePath};

/// The first version that lets files be moved between folders; under the one before, every such move would fail.
pub(in crate::sandbox) const VERSION_MIN: u32 = 2;
/// What is written nowhere in it, beside programs and libraries. `/proc` has a rule of its own.
const ALSO_READ_ONLY: [&str; 2] = ["/proc", "/sys"];

/// Nothing where the kernel's Landlock is too old, or off.
pub(super) fn fence(spec: &Spec, host: &HostFacts) -> Option<Fence> {
    if host.landlock < VERSION_MIN {
        return None;
    }
    let read_only: Vec<InsidePath> =
        READ_ONLY.iter().chain(&ALSO_READ_ONLY).filter_map(|path| InsidePath::new(path).ok()).collect();
    let write = (spec.state.iter().map(|state| &state.at))
        .chain(spec.shares.iter().filter(|share| !share.read_only).map(|share| &share.at))
        .filter(|at| read_only.iter().any(|place| at.is_within(place)))
        .cloned()
        .collect();
    Some(Fence {
        read_only,
        write,
        devices: InsidePath::new("/dev").into_iter().collect(),
        connect: spec.network != Network::None,
    })
}
