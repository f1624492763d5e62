//! Whole jobs from plans in TOML: simulate a scan, reconstruct one, keep its images.

mod calibration;
#[cfg(feature = "gpu")]
mod card;
#[cfg(not(feature = "gpu"))]
#[path = "no_card.rs"]
mod card;
mod compress;
mod device;
mod images;
mod memory;
mod opened;
mod patches;
mod plan;
mod reconstruct;
mod scan;
mod simulate;
mod system;
mod weights;
mod xspace;

pub use compress::{CompressionFigures, CompressionPlan, Transform};
pub use device::{DevicePlan, Hardware, Use};
pub use images::{read_image, write_image};
pub use patches::{PatchFigures, PatchPlan};
pub use plan::{
    CalibrationPlan, ImagePlan, LinePlan, Method, ReconstructPlan, SimulatePlan, XSpacePlan, read_plan,
};
pub use reconstruct::{Done, reconstruct, reconstruct_on};
pub use simulate::{simulate_calibration, simulate_scan, simulate_truth};
pub use system::System;
pub use weights::WeightPlan;
pub use xspace::{XSpaceDone, XSpaceSummary, reconstruct_x_space};
