//! Plans: TOML files that say what is to be done. Paths in them are beside the plan.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::compress::CompressionPlan;
use super::device::DevicePlan;
use super::patches::PatchPlan;
use super::weights::WeightPlan;
use crate::Error;
use crate::image::View;
use crate::physics::{Coil, Grid, Particle, Period, Sequence, Solid};
use crate::prepare::Background;
use crate::select::Filter;
use crate::solve::Solver;
use crate::xspace::Settings;

/// A scan of an object that is computed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SimulatePlan {
    /// Of all random numbers.
    #[serde(default)]
    pub seed: u64,
    /// Frames of the object.
    pub frames: usize,
    /// Frames without it, before and after.
    #[serde(default)]
    pub background: [usize; 2],
    /// Points along each edge of a voxel at which the object is computed.
    #[serde(default = "three")]
    pub finer: usize,
    /// What the object is filled with.
    #[serde(default)]
    pub particle: Particle,
    /// The fields.
    pub sequence: Sequence,
    /// The receive coils.
    pub coils: Vec<Coil>,
    /// The object.
    pub phantom: Vec<Solid>,
    /// Where the object is, and what its image would be over.
    pub grid: Grid,
    /// How the scanner is calibrated.
    pub calibration: Option<CalibrationPlan>,
    /// A field-free line in place of the sequence's periods.
    pub line: Option<LinePlan>,
}

/// A field-free line that turns about z. The sequence has two drive channels of one divider, along x and along y, which move it across
/// itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LinePlan {
    /// Gradient across the line in T/m.
    pub gradient: f64,
    /// How many directions, evenly over half a turn; one period each.
    pub angles: u32,
}

impl SimulatePlan {
    /// The plan with the periods of its field-free line, if it has one.
    ///
    /// # Errors
    /// The drive channels cannot move a line, or there are periods besides.
    pub fn expanded(mut self) -> Result<Self, Error> {
        let Some(line) = self.line.take() else {
            return Ok(self);
        };
        let wrong = |text: &str| Err(Error::model("field-free line", text));
        if line.angles == 0 || !self.sequence.periods.is_empty() {
            return wrong("it needs one angle at least, and a sequence without periods of its own");
        }
        match self.sequence.channels.as_slice() {
            [x, y]
                if x.direction == [1.0, 0.0, 0.0]
                    && y.direction == [0.0, 1.0, 0.0]
                    && x.divider == y.divider
                    && x.phase == y.phase => {}
            _ => {
                return wrong(
                    "it needs two drive channels of the same divider and phase, along x and along y",
                );
            }
        }
        self.sequence.periods = (0..line.angles)
            .map(|step| {
                let angle = std::f64::consts::PI * f64::from(step) / f64::from(line.angles);
                Period { drive: vec![-angle.sin(), angle.cos()], ..Period::line(line.gradient, angle) }
            })
            .collect();
        Ok(self)
    }
}

/// A system matrix that is computed: a delta sample in each voxel of a grid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CalibrationPlan {
    /// Where the sample is moved; one voxel is as large as the sample.
    pub grid: Grid,
    /// Concentration of iron in the sample, in mol/m³.
    pub iron: f64,
    /// Particles of the sample; those of the object if not given.
    pub particle: Option<Particle>,
    /// Frames of the same position that are averaged: noise is less by their root.
    #[serde(default = "one")]
    pub averages: u32,
    /// Frames without the sample.
    #[serde(default = "twenty")]
    pub background: usize,
    /// Points along each edge of the sample at which it is computed.
    #[serde(default = "one_point")]
    pub finer: usize,
    /// Frequencies from the first one not below it are kept; in hertz.
    #[serde(default)]
    pub min_frequency: f64,
    /// Frequencies up to the last one not above it are kept; in hertz, 0 for no limit.
    #[serde(default)]
    pub max_frequency: f64,
}

fn three() -> usize {
    3
}

fn one_point() -> usize {
    1
}

fn one() -> u32 {
    1
}

fn twenty() -> usize {
    20
}

/// How images are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// From the system matrix of a calibration.
    #[default]
    SystemMatrix,
    /// From the place of the field-free point or line, without a calibration.
    XSpace,
}

/// An image from a scan and a calibration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ReconstructPlan {
    /// [`Method::SystemMatrix`].
    #[serde(default)]
    pub method: Method,
    /// MDF of the scan.
    pub scan: PathBuf,
    /// MDF of the calibration.
    pub calibration: PathBuf,
    /// What is taken off the scan.
    #[serde(default)]
    pub background: Background,
    /// Frames that are averaged into one; 0 for all.
    #[serde(default = "one_point")]
    pub average: usize,
    /// Whether both files are divided by their receive chains, `transferFunction · inductionFactor`, unless they have been: for a scan
    /// whose receiver is not that of the calibration.
    #[serde(default)]
    pub transfer_function: bool,
    /// Whether what does not repeat itself from frame to frame is damped in the scan ([`crate::prepare::without_leakage`]).
    #[serde(default)]
    pub spectral_leakage: bool,
    /// Which rows take part.
    #[serde(default)]
    pub rows: Filter,
    /// What the rows are multiplied with.
    #[serde(default)]
    pub weights: WeightPlan,
    /// How the matrix is compressed, if it is.
    pub compression: Option<CompressionPlan>,
    /// The image of which the scan's periods are patches, if they are.
    pub patches: Option<PatchPlan>,
    /// How the system is solved.
    pub solver: Solver,
    /// On what it is solved.
    #[serde(default)]
    pub device: DevicePlan,
    /// MDF of the images.
    pub image: PathBuf,
    /// NRRD of the images, if wanted.
    pub nrrd: Option<PathBuf>,
    /// NIfTI-1 of the images, if wanted; gzipped if it ends in `.gz`.
    pub nifti: Option<PathBuf>,
    /// DICOM of the images, if wanted.
    pub dicom: Option<PathBuf>,
    /// Picture of an image, if wanted.
    pub png: Option<PathBuf>,
    /// How the picture is drawn.
    #[serde(default)]
    pub view: View,
}

/// An image in x-space, from a scan alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct XSpacePlan {
    /// [`Method::XSpace`].
    pub method: Method,
    /// MDF of the scan.
    pub scan: PathBuf,
    /// What is taken off the scan.
    #[serde(default)]
    pub background: Background,
    /// Frames that are averaged into one; 0 for all.
    #[serde(default = "one_point")]
    pub average: usize,
    /// Frequencies at which the transfer function is not above this share of its greatest size are left out, for each channel.
    #[serde(default = "twentieth")]
    pub transfer_floor: f64,
    /// Frequencies above it are left out; in hertz, 0 for no limit.
    #[serde(default)]
    pub max_frequency: f64,
    /// The voxels of the image: one layer, along x and y, for field-free lines.
    pub grid: Grid,
    /// How it is made.
    #[serde(default)]
    pub x_space: Settings,
    /// MDF of the images.
    pub image: PathBuf,
    /// NRRD of the images, if wanted.
    pub nrrd: Option<PathBuf>,
    /// NIfTI-1 of the images, if wanted; gzipped if it ends in `.gz`.
    pub nifti: Option<PathBuf>,
    /// DICOM of the images, if wanted.
    pub dicom: Option<PathBuf>,
    /// Picture of an image, if wanted.
    pub png: Option<PathBuf>,
    /// How the picture is drawn.
    #[serde(default)]
    pub view: View,
}

fn twentieth() -> f64 {
    0.05
}

/// A plan of either method.
#[derive(Clone, Debug, PartialEq)]
pub enum ImagePlan {
    /// By a system matrix.
    SystemMatrix(Box<ReconstructPlan>),
    /// In x-space.
    XSpace(Box<XSpacePlan>),
}

impl ImagePlan {
    /// Reads a plan of the method that it names, of a system matrix if it names none.
    ///
    /// # Errors
    /// As [`read_plan`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Named {
            #[serde(default)]
            method: Method,
        }
        Ok(match read_plan::<Named>(path)?.method {
            Method::SystemMatrix => Self::SystemMatrix(Box::new(read_plan(path)?)),
            Method::XSpace => Self::XSpace(Box::new(read_plan(path)?)),
        })
    }
}

/// Reads a plan.
///
/// # Errors
/// The file cannot be read, or is no plan; the message has the line.
pub fn read_plan<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Io {
        action: "read",
        path: path.into(),
        source,
    })?;
    toml::from_str(&text).map_err(|source| Error::Plan { path: path.into(), source: Box::new(source) })
}
