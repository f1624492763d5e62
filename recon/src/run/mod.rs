//! Whole jobs from plans in TOML: simulate a scan, reconstruct one, keep its images.

mod images;
mod plan;
mod reconstruct;
mod simulate;
mod system;
mod xspace;

pub use images::{read_image, write_image};
pub use plan::{
    CalibrationPlan, ImagePlan, LinePlan, Method, ReconstructPlan, SimulatePlan, XSpacePlan, read_plan,
};
pub use reconstruct::{Done, reconstruct};
pub use simulate::{simulate_calibration, simulate_scan, simulate_truth};
pub use system::System;
pub use xspace::{XSpaceDone, XSpaceSummary, reconstruct_x_space};
