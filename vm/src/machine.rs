//! What a guest is given, whoever makes it: one type, two drivers (QEMU, VirtualBox).

use std::path::PathBuf;

/// A guest's machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Its name, for people and process lists.
    pub name: String,
    /// Processors.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// Disks, in the order in which the guest sees them.
    pub disks: Vec<Disk>,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The file.
    pub path: PathBuf,
    /// Its format, as QEMU names it: `raw`, `qcow2`, `vdi`, `vmdk`. Never guessed from its content, which is the guest's.
    pub format: String,
    /// Writes are refused.
    pub read_only: bool,
}
