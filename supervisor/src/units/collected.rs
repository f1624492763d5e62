//! A run in a support archive: what a live folder tells by its lock, its sockets and its files, written down.

use std::fs;
use std::path::Path;

use hatchway_wire::ExitRecord;
use hatchway_wire::ready::{ReadyRecord, Standing};
use hatchway_wire::unit::Unit;
use serde::{Deserialize, Serialize};

use super::State;

/// Its file in the run's folder.
pub const FILE: &str = "collected.json";

/// What was known of a run when it was collected.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Collected {
    /// How it was.
    pub state: State,
    /// How it had ended.
    pub record: Option<ExitRecord>,
    /// What its recorder was told.
    pub unit: Option<Unit>,
    /// That it was ready, or late.
    pub ready: Option<ReadyRecord>,
    /// How far it was.
    pub standing: Option<Standing>,
}

impl Collected {
    /// Nothing in the folder of a run of this machine.
    pub(super) fn read(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(folder.join(FILE)).ok()?).ok()
    }
}
