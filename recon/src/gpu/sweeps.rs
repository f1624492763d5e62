//! Kaczmarz's method on a card.
//!
//! For each block of rows three kernels follow each other: products of the rows with the images, cut into parts so that there
//! are groups enough; the solution of the triangular system (see `solve/block.rs` for why it gives the iterates of one row
//! after the other), by one group in the memory it shares; and the rows added to the images. A sweep is handed over whole.

use std::sync::{Arc, Mutex, PoisonError};

use num_complex::Complex32;
use rayon::prelude::*;

use super::buffers::{Buffer, STORAGE, words_to_bytes};
use super::frames::{Common, Frames, compiled_for};
use super::inverse::Inverse;
use super::kernels::Products;
use super::matrix::{Shards, Tables, encode};
use super::memory::{BLOCK_ROWS_MAX, ENTRY};
use super::script::{Kernel, Script, Step, narrow};
use crate::Error;
use crate::solve::{Job, LANES, Rows, Sweeps};

/// Dispatches of triangles that are handed over at once.
const STEPS_TOGETHER: usize = 512;

/// What is ready for sweeps over rows in an order.
#[derive(Debug)]
pub(super) struct CardSweeps {
    shards: Arc<Shards>,
    weights: Option<Vec<f32>>,
    block: u32,
    order: Vec<u32>,
    steps: Vec<Step>,
    tables: Tables,
    /// `order` in the card's memory, or the rows of a sweep that were drawn.
    rows: Buffer,
    triangles: Buffer,
    inverse: Inverse,
    /// For numbers of frames that have occurred.
    frames: Mutex<Vec<Frames>>,
}

fn bytes(count: usize, size: u64) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX).saturating_mul(size)
}

impl CardSweeps {
    /// Prepares lists of rows, and computes the triangles.
    ///
    /// # Errors
    /// [`Error::GpuMemory`], [`Error::GpuLost`], [`Error::Gpu`].
    pub(super) fn new(shards: &Arc<Shards>, rows: &Rows<'_, f32>) -> Result<Self, Error> {
        let device = &shards.device;
        let wanted = rows.block.unwrap_or_else(|| shards.block());
        // What a plan asks for may be more than fits; the iterates are the same.
        let most = BLOCK_ROWS_MAX.min(usize::try_from(device.adapter().shared_bytes_max / 128).unwrap_or(1));
        let block = u32::try_from(wanted.clamp(1, most.max(1))).unwrap_or(1);
        let order = narrow(rows.order);
        let weight = |k: u32| rows.weights.map_or(1.0, |weights| weights[k as usize]);
        let (script, triangle_steps) = Script::sweep(&shards.shape, &order, block, &weight);
        let tables = Tables::of(device, &script)?;
        let list = Buffer::new(device, "the order of rows", bytes(order.len(), 4), STORAGE)?;
        list.write(0, &words_to_bytes(&order));
        let columns = if block > 1 { order.len().next_multiple_of(block as usize) } else { 0 };
        let size = bytes(columns * block as usize, ENTRY);
        let triangles = Buffer::new(device, "triangles of blocks", size, STORAGE)?;
        let inverse = Inverse::new(device, &triangles, order.len(), block)?;
        let made = Self {
            shards: Arc::clone(shards),
            weights: rows.weights.map(<[f32]>::to_vec),
            block,
            order,
            steps: script.steps,
            tables,
            rows: list,
            triangles,
            inverse,
            frames: Mutex::new(Vec::new()),
        };
        made.compute_triangles(&triangle_steps)?;
        Ok(made)
    }

    fn compute_triangles(&self, steps: &[Step]) -> Result<(), Error> {
        let (device, shards) = (&self.shards.device, &self.shards.buffers);
        let kernels = Products::of(device, 1)?;
        let bind = |own: usize, other: usize| {
            let (params, items) = (&self.tables.params.raw, &self.tables.items.raw);
            let buffers = [params, &shards[own].raw, items, &shards[other].raw, &self.triangles.raw];
            kernels.bind(device, buffers)
        };
        let mut bound = std::collections::HashMap::new();
        for steps in steps.chunks(STEPS_TOGETHER) {
            for step in steps {
                if let Kernel::Triangle(own, other) = step.kernel {
                    bound.entry(step.kernel).or_insert_with(|| bind(own, other));
                }
            }
            let mut encoder = device.encoder();
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            encode(&mut pass, steps, |kernel| (&kernels.triangle, &bound[&kernel]));
            drop(pass);
            device.submit(encoder);
            device.wait()?;
        }
        Ok(())
    }

    fn weight(&self, row: u32) -> f32 {
        self.weights.as_ref().map_or(1.0, |weights| weights[row as usize])
    }

    /// Puts the rows of one sweep in place of the last's.
    fn redraw(&self, rows: &[usize], job: &Job<'_, f32>) -> Result<Vec<Step>, Error> {
        let order = narrow(rows);
        let (script, _) = Script::sweep(&self.shards.shape, &order, self.block, &|k| self.weight(k));
        // There are no more than at first, when there was room for all.
        self.tables.write(&self.shards.device, &script)?;
        self.rows.write(0, &words_to_bytes(&order));
        let inverses = rows.iter().map(|row| job.inverses[*row]);
        self.inverse.weigh(&self.shards.device, job.epsilon, inverses);
        Ok(script.steps)
    }

    /// All sweeps with frames that are in place.
    fn iterate(&self, frames: &Frames, mut job: Job<'_, f32>, x: &mut [Complex32]) -> Result<(), Error> {
        for iteration in 1..=job.iterations {
            let drawn = job.draw.as_mut().map(|draw| draw());
            match drawn {
                Some(rows) => {
                    let steps = self.redraw(&rows, &job)?;
                    frames.sweep(&self.shards, &steps, job.projections);
                }
                None => frames.sweep(&self.shards, &self.steps, job.projections),
            }
            if let Some(penalty) = job.penalty {
                frames.read(&self.shards, x)?;
                x.par_chunks_exact_mut(self.shards.columns()).for_each(penalty);
                frames.write(&self.shards, x);
            } else {
                self.shards.device.wait()?;
            }
            (job.done)(iteration)?;
        }
        frames.read(&self.shards, x)
    }
}

impl Sweeps<f32> for CardSweeps {
    fn run(&self, job: Job<'_, f32>, x: &mut [Complex32]) -> Result<(), Error> {
        self.shards.device.check()?;
        let count = compiled_for((x.len() / self.shards.columns()).clamp(1, LANES));
        let mut all = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        let at = match all.iter().position(|frames| frames.count == count) {
            Some(at) => at,
            None => {
                let common = Common {
                    shards: &self.shards,
                    tables: &self.tables,
                    order: &self.rows,
                    inverses: &self.inverse.inverses,
                    systems: &self.inverse.systems,
                    block: self.block as usize,
                };
                all.push(Frames::new(&common, count)?);
                all.len() - 1
            }
        };
        let frames = &all[at];
        frames.begin(&self.shards, job.data, x);
        let inverses = self.order.iter().map(|row| job.inverses[*row as usize]);
        self.inverse.weigh(&self.shards.device, job.epsilon, inverses);
        self.iterate(frames, job, x)
    }
}
