//! Images: a reconstructed volume, how alike two are, and the files that others read.

mod canvas;
mod colour;
mod compare;
mod dicom;
mod font;
mod nifti;
mod nrrd;
mod view;

pub use colour::ColourMap;
pub use compare::{Comparison, compare};
pub use dicom::{Labels, write_dicom};
pub use nifti::write_nifti;
pub use nrrd::{Encoding, write_nrrd};
pub use view::{Projection, View};

use crate::Error;
use crate::physics::Grid;

/// A volume over a grid, for one or several frames.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// Where the voxels are.
    pub grid: Grid,
    /// Frames × voxels, x fastest; concentrations in the unit of the calibration.
    pub data: Vec<f32>,
}

impl Image {
    /// An image of whole frames.
    ///
    /// # Errors
    /// The grid makes no sense, or there are not as many values as voxels in every frame, of which one is needed at least.
    pub fn new(grid: Grid, data: Vec<f32>) -> Result<Self, Error> {
        grid.check()?;
        if data.is_empty() || !data.len().is_multiple_of(grid.voxels()) {
            let text = format!("{} values are no whole frames of {} voxels", data.len(), grid.voxels());
            return Err(Error::Image(text));
        }
        Ok(Self { grid, data })
    }

    /// How many frames.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.data.len() / self.grid.voxels()
    }

    /// The voxels of a frame.
    #[must_use]
    pub fn frame(&self, index: usize) -> &[f32] {
        let voxels = self.grid.voxels();
        &self.data[index * voxels..(index + 1) * voxels]
    }

    /// The mean of all frames, as an image of one.
    #[must_use]
    pub fn mean(&self) -> Self {
        let mut sum = vec![0.0_f64; self.grid.voxels()];
        for frame in self.data.chunks_exact(self.grid.voxels()) {
            sum.iter_mut().zip(frame).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        #[expect(clippy::cast_precision_loss, reason = "a count of frames")]
        let frames = self.frames() as f64;
        #[expect(clippy::cast_possible_truncation, reason = "images are of single precision")]
        let data = sum.iter().map(|sum| (sum / frames) as f32).collect();
        Self { grid: self.grid.clone(), data }
    }
}

/// Without the last digits of a product, which nobody has measured: to a picometre.
fn millimetres(metres: f64) -> f64 {
    (metres * 1e12).round() / 1e9
}
