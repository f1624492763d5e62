//! A calibration as a linear system, to be used for one scan or for a stream of frames.

use std::path::Path;

use num_complex::Complex32;

use super::calibration::{band, calibration_grid, concentration, matrix_row};
use super::memory::foresee;
use super::opened::open;
use crate::Error;
use crate::mdf::{File, Mdf};
use crate::physics::Grid;
use crate::select::{Filter, Row};
use crate::solve::Matrix;

/// The chosen rows of a system matrix, and what the images that it gives are.
#[derive(Debug)]
pub struct System {
    /// What the calibration's file says of itself.
    pub calibration: Mdf,
    /// Where the voxels are.
    pub grid: Grid,
    /// Period, channel and frequency of each row.
    pub rows: Vec<(usize, Row)>,
    /// The rows, in single precision.
    pub matrix: Matrix<'static, f32>,
    /// Periods, receive channels and samples of a frame that belongs to it.
    pub shape: [usize; 3],
    /// What a solution is multiplied by to be in the unit.
    pub factor: f32,
    /// The unit of the images.
    pub unit: &'static str,
}

impl System {
    /// Reads a calibration.
    ///
    /// # Errors
    /// The file cannot be read, is no calibration, or has none of the rows.
    pub fn read(path: &Path, filter: &Filter) -> Result<Self, Error> {
        let file = File::open(path)?;
        let calibration = open(path, &file, true)?;
        let grid = calibration_grid(&calibration)?;
        let band = band(&calibration)?;
        let chosen = filter.rows(&band)?;
        let periods = calibration.data.periods();
        let rows: Vec<(usize, Row)> =
            (0..periods).flat_map(|period| chosen.iter().map(move |row| (period, *row))).collect();
        foresee(rows.len(), grid.voxels())?;
        let mut entries = Vec::<Complex32>::with_capacity(rows.len() * grid.voxels());
        for (period, row) in &rows {
            matrix_row(&calibration, *period, *row, None, &mut entries)?;
        }
        let matrix = Matrix::new(rows.len(), grid.voxels(), entries)?;
        let (factor, unit) = concentration(&calibration.mdf);
        let shape = [periods, band.channels, band.samples];
        Ok(Self { calibration: calibration.mdf, grid, rows, matrix, shape, factor, unit })
    }
}
