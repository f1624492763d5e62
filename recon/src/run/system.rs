//! A calibration as a linear system for a stream of frames.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use num_complex::Complex32;

use super::calibration::{band, calibration_grid, concentration, matrix_row};
use super::device::{Hardware, Loaded, Source, in_memory};
use super::opened::{open, unusable};
use crate::Error;
use crate::mdf::{File, Mdf};
use crate::physics::Grid;
use crate::select::{Filter, Row};
use crate::solve::Solver;

/// The chosen rows of a system matrix, and what the images that it gives are.
#[derive(Debug)]
pub struct System {
    path: PathBuf,
    /// What the calibration's file says of itself.
    pub calibration: Mdf,
    /// Where the voxels are.
    pub grid: Grid,
    /// Period, channel and frequency of each row.
    pub rows: Vec<(usize, Row)>,
    /// Periods, receive channels and samples of a frame that belongs to it.
    pub shape: [usize; 3],
    /// What a solution is multiplied by to be in the unit.
    pub factor: f32,
    /// The unit of the images.
    pub unit: &'static str,
}

impl System {
    /// Reads what a calibration says of itself, and chooses rows.
    ///
    /// # Errors
    /// The file cannot be read, is no calibration, or has none of the rows.
    pub fn read(path: &Path, filter: &Filter) -> Result<Self, Error> {
        let file = File::open(path)?;
        let calibration = open(path, &file, true)?;
        if calibration.mdf.measurement.as_ref().is_some_and(|of| of.is_transfer_function_corrected) {
            let dataset = "/measurement/isTransferFunctionCorrected";
            return Err(unusable(path, dataset, "1", "0: frames come as they are measured"));
        }
        let grid = calibration_grid(&calibration)?;
        let band = band(&calibration)?;
        let chosen = filter.rows(&band)?;
        let periods = calibration.data.periods();
        let rows: Vec<(usize, Row)> =
            (0..periods).flat_map(|period| chosen.iter().map(move |row| (period, *row))).collect();
        let (factor, unit) = concentration(&calibration.mdf);
        let shape = [periods, band.channels, band.samples];
        Ok(Self { path: path.into(), calibration: calibration.mdf, grid, rows, shape, factor, unit })
    }

    /// Reads the rows to where they will be solved, and gives warnings. Called off once `cancel` is true: [`Error::Cancelled`].
    pub(crate) fn load(
        &self,
        hardware: &Hardware,
        solver: &Solver,
        cancel: &AtomicBool,
    ) -> Result<(Loaded, Vec<String>), Error> {
        self.with_source(cancel, |source| hardware.load(solver, source))
    }

    /// Reads the rows into memory. `why` it is not a card that solves.
    pub(crate) fn load_in_memory(&self, why: String, cancel: &AtomicBool) -> Result<Loaded, Error> {
        self.with_source(cancel, |source| in_memory(source, why))
    }

    fn with_source<R>(
        &self,
        cancel: &AtomicBool,
        then: impl FnOnce(&mut Source<'_>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let file = File::open(&self.path)?;
        let calibration = open(&self.path, &file, true)?;
        let mut read = |index: usize, out: &mut Vec<Complex32>| {
            if cancel.load(Ordering::Relaxed) {
                return Err(Error::Cancelled { iteration: 0 });
            }
            let (period, row) = self.rows[index];
            matrix_row(&calibration, period, row, None, out)
        };
        then(&mut Source { rows: self.rows.len(), columns: self.grid.voxels(), read: &mut read })
    }
}
