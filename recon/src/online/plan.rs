//! The plan of the service.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Door, Policy};
use crate::run::DevicePlan;
use crate::select::Filter;
use crate::solve::Solver;

/// How the service works.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ServePlan {
    /// MDF with the system matrix.
    pub calibration: PathBuf,
    /// What becomes of frames that come while another is solved.
    #[serde(default)]
    pub policy: Policy,
    /// Whether the mean of the last background frames in a row is taken off; frames before the first of them are left out.
    #[serde(default = "yes")]
    pub background: bool,
    /// Which rows are used.
    #[serde(default)]
    pub rows: Filter,
    /// The solver.
    pub solver: Solver,
    /// On what it is solved.
    #[serde(default)]
    pub device: DevicePlan,
    /// Where it is reached.
    pub doors: Doors,
}

/// Addresses, `tcp:ADDRESS:PORT` or `unix:PATH`; paths are beside the plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Doors {
    /// Where frames come in, from one source at a time.
    pub frames: Door,
    /// Where images go out.
    pub images: Door,
    /// Where images go out as OpenIGTLink; 18944 is the port that viewers ask for by themselves.
    pub open_igt_link: Option<Door>,
    /// What the images are called there.
    #[serde(default = "device")]
    pub device: String,
    /// Where metrics are read, as `http://ADDRESS:PORT/metrics`.
    pub metrics: Option<Door>,
}

fn yes() -> bool {
    true
}

fn device() -> String {
    "hatchway-recon".to_owned()
}
