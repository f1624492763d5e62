//! What each rung costs and takes away, for a tool's artifacts: the general things, and by what they were recognised to want.

use hatchway_inspect::{Facts, TechnologyKind};
use serde::Serialize;

use super::rules::Evidence;
use crate::recipe::Rung;

/// One rung.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cost {
    /// Which.
    pub rung: Rung,
    /// How long a small tool takes to start there.
    pub start: &'static str,
    /// What a byte of I/O and an instruction cost there.
    pub latency: &'static str,
    /// What every tool does without there.
    pub loses: Vec<&'static str>,
    /// What this one would miss, by what its artifacts were recognised to want.
    pub misses: Vec<String>,
}

/// Measured on one machine (docs/numbers.md); on another one the order is the same.
const FHS_START: &str = "10 ms";
const CONTAINER_START: &str = "200 to 500 ms";
const VM_START: &str = "two to eight seconds in software; under KVM nobody has measured it";
const NATIVE_LATENCY: &str = "none";
const VM_LATENCY: &str = "streams pass QEMU; without KVM programs run at a tenth of the speed or less";

/// What docs/containers.md and docs/guests.md list.
const CONTAINER_LOSES: [&str; 4] = [
    "devices that come and go (USB)",
    "NVIDIA's driver for the GPU",
    "UDP in address lists (`network = { allow = [\"udp:…\"] }`); TCP is there",
    "changes of the host's `/etc/resolv.conf` while it runs",
];
const VM_LOSES: [&str; 8] = [
    "the GPU",
    "USB and every other device of this machine but serial lines",
    "displays, sound and D-Bus of this machine",
    "shared folders (`--share`)",
    "UDP in address lists (`network = { allow = [\"udp:…\"] }`); TCP is there",
    "servers of its own that others reach",
    "changes of a bound file (`[[file]]`) while it runs",
    "FIFOs, sockets, hard links and extended attributes in state that moves to another rung",
];

/// The costs, lowest rung first. A tool without artifacts misses nothing that is known.
#[must_use]
pub fn costs(artifacts: &[Facts]) -> Vec<Cost> {
    use TechnologyKind::{Audio, Device, Gpu, Gui};
    let evidence: Vec<Evidence<'_>> = artifacts.iter().map(Evidence::of).collect();
    let misses = |kinds: &[TechnologyKind]| -> Vec<String> {
        let mut all: Vec<String> = evidence
            .iter()
            .flat_map(Evidence::technologies)
            .filter(|technology| kinds.contains(&technology.kind))
            .map(|technology| technology.name.clone())
            .collect();
        all.sort();
        all.dedup();
        all
    };
    vec![
        Cost {
            rung: Rung::Fhs,
            start: FHS_START,
            latency: NATIVE_LATENCY,
            loses: Vec::new(),
            misses: Vec::new(),
        },
        Cost {
            rung: Rung::Container,
            start: CONTAINER_START,
            latency: NATIVE_LATENCY,
            loses: CONTAINER_LOSES.into(),
            misses: misses(&[Device, Gpu]),
        },
        Cost {
            rung: Rung::Vm,
            start: VM_START,
            latency: VM_LATENCY,
            loses: VM_LOSES.into(),
            misses: misses(&[Device, Gpu, Gui, Audio]),
        },
    ]
}
