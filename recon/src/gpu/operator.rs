//! Products of a matrix in a card's memory with vectors of this process.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use num_complex::{Complex, Complex32};

use super::buffers::{Buffer, ReadBack};
use super::kernels::Products;
use super::matrix::{ShardedMatrix, Shards, Tables, encode};
use super::memory::PARTS_MAX;
use super::script::{Kernel, Script, narrow};
use super::sweeps::CardSweeps;
use crate::Error;
use crate::solve::{LANES, Lanes, Operator, Rows, Sweeps};

/// Kernels for one or [`LANES`] frames, and the buffers they work on. One product is computed at a time.
#[derive(Debug)]
pub(super) struct Scratch {
    one: Arc<Products>,
    many: Arc<Products>,
    images: Buffer,
    values: Buffer,
    sums: Buffer,
    read_back: ReadBack,
    /// Of all rows in their order, and of rows that are asked for.
    forward: Ready,
    adjoint: Ready,
    other: Tables,
}

/// A script whose tables are in the card's memory.
#[derive(Debug)]
struct Ready {
    script: Script,
    tables: Tables,
}

/// The most dispatches of a product with chosen rows, beside those for each shard.
const OTHER_STEPS: usize = 64;

fn parts_max() -> u32 {
    u32::try_from(PARTS_MAX).unwrap_or(u32::MAX)
}

impl Scratch {
    pub(super) fn new(shards: &Shards) -> Result<Self, Error> {
        let device = &shards.device;
        let all: Vec<u32> = (0..shards.shape.rows).collect();
        let prepared = |script: Script| {
            let tables = Tables::of(device, &script)?;
            Ok::<_, Error>(Ready { script, tables })
        };
        let (rows, columns) = (shards.rows(), shards.columns());
        Ok(Self {
            one: Products::of(device, 1)?,
            many: Products::of(device, LANES)?,
            images: Buffer::complex(device, "images", columns * LANES)?,
            values: Buffer::complex(device, "data", rows * LANES)?,
            sums: Buffer::complex(device, "parts of sums", columns * shards.parts())?,
            read_back: shards.read_back(LANES)?,
            forward: prepared(Script::dots(&shards.shape, &all))?,
            adjoint: prepared(Script::sum(&shards.shape, &all, parts_max()))?,
            other: Tables::new(device, rows, rows.div_ceil(65_535) + 2 * shards.buffers.len() + OTHER_STEPS)?,
        })
    }

    /// Products of rows with images of `frames`, frame after frame; results are row after row.
    fn dots(
        &self,
        shards: &Shards,
        (script, tables): (&Script, &Tables),
        x: &[Complex32],
        out: &mut [Complex32],
    ) -> Result<(), Error> {
        let device = &shards.device;
        let kernels = if x.len() == shards.columns() { &self.one } else { &self.many };
        self.images.write_complex(x);
        let bound: HashMap<Kernel, wgpu::BindGroup> = script
            .steps
            .iter()
            .filter_map(|step| match step.kernel {
                Kernel::Dots(shard) => {
                    let (shard, images) = (&shards.buffers[shard].raw, &self.images.raw);
                    let buffers = [&tables.params.raw, shard, &tables.items.raw, images, &self.values.raw];
                    Some((step.kernel, kernels.bind(device, buffers)))
                }
                _ => None,
            })
            .collect();
        let mut encoder = device.encoder();
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        encode(&mut pass, &script.steps, |kernel| (&kernels.dots, &bound[&kernel]));
        drop(pass);
        self.read_back.read(encoder, &self.values, 0, out)
    }

    /// The sum of rows times the conjugates' factors `y`.
    fn sum(
        &self,
        shards: &Shards,
        (script, tables): (&Script, &Tables),
        y: &[Complex32],
        out: &mut [Complex32],
    ) -> Result<(), Error> {
        let device = &shards.device;
        self.values.write_complex(y);
        let bind = |kernel: Kernel| {
            let (params, items) = (&tables.params.raw, &tables.items.raw);
            let (shard, from, to) = match kernel {
                Kernel::Partial(shard) => (shard, &self.values.raw, &self.sums.raw),
                _ => (0, &self.sums.raw, &self.images.raw),
            };
            self.one.bind(device, [params, &shards.buffers[shard].raw, items, from, to])
        };
        let bound: HashMap<Kernel, wgpu::BindGroup> =
            script.steps.iter().map(|step| (step.kernel, bind(step.kernel))).collect();
        let mut encoder = device.encoder();
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        encode(&mut pass, &script.steps, |kernel| {
            let pipeline = match kernel {
                Kernel::Partial(_) => &self.one.partial,
                _ => &self.one.gather,
            };
            (pipeline, &bound[&kernel])
        });
        drop(pass);
        self.read_back.read(encoder, &self.images, 0, out)
    }
}

impl ShardedMatrix {
    /// Does something with the scratch; fills `out` with zeros if the card is lost, which [`Operator::check`] tells.
    fn with_scratch(
        &self,
        out: &mut [Complex32],
        compute: impl FnOnce(&Scratch, &mut [Complex32]) -> Result<(), Error>,
    ) {
        let scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.device().check().and_then(|()| compute(&scratch, out)) {
            out.fill(Complex32::default());
            // Whatever it was, results are wrong from here on.
            if self.device().check().is_ok() {
                self.device().lose(error.to_string());
            }
        }
    }

    fn dots_of(&self, rows: &[usize], x: &[Complex32], out: &mut [Complex32]) {
        self.with_scratch(out, |scratch, out| {
            let script = Script::dots(&self.shards.shape, &narrow(rows));
            scratch.other.write(self.device(), &script)?;
            scratch.dots(&self.shards, (&script, &scratch.other), x, out)
        });
    }

    /// Images of [`LANES`] frames, frame after frame.
    fn frames(&self, first: usize, x: &[Lanes<f32>]) -> Vec<Complex32> {
        let columns = self.columns();
        let mut frames = vec![Complex32::default(); columns * LANES];
        for (lane, frame) in frames.chunks_exact_mut(columns).enumerate() {
            frame[first..].iter_mut().zip(x).for_each(|(to, from)| *to = from.get(lane));
        }
        frames
    }
}

/// What rows' products are for all lanes.
fn to_lanes(values: &[Complex32], out: &mut [Lanes<f32>]) {
    for (out, values) in out.iter_mut().zip(values.chunks_exact(LANES)) {
        values.iter().enumerate().for_each(|(lane, value)| out.set(lane, *value));
    }
}

impl Operator<f32> for ShardedMatrix {
    fn rows(&self) -> usize {
        self.shards.rows()
    }

    fn columns(&self) -> usize {
        self.shards.columns()
    }

    fn row_norm_squared(&self, row: usize) -> f32 {
        self.energies[row]
    }

    fn copy_row(&self, row: usize, out: &mut [Complex<f32>]) {
        let shard_rows = self.shards.shape.shard_rows as usize;
        let (shard, row) = (row / shard_rows, row % shard_rows);
        self.with_scratch(out, |scratch, out| {
            let encoder = self.device().encoder();
            scratch.read_back.read(encoder, &self.shards.buffers[shard], row * self.columns(), out)
        });
    }

    fn rows_dot(&self, rows: &[usize], x: &[Complex<f32>], out: &mut [Complex<f32>]) {
        self.dots_of(rows, x, out);
    }

    fn rows_axpy(&self, rows: &[usize], alpha: &[Complex<f32>], x: &mut [Complex<f32>]) {
        self.part_axpy(rows, alpha, 0, x);
    }

    fn part_dot(&self, rows: &[usize], first: usize, x: &[Complex<f32>], out: &mut [Complex<f32>]) {
        let mut whole = vec![Complex32::default(); self.columns()];
        whole[first..][..x.len()].copy_from_slice(x);
        self.dots_of(rows, &whole, out);
    }

    fn part_axpy(&self, rows: &[usize], alpha: &[Complex<f32>], first: usize, x: &mut [Complex<f32>]) {
        let mut sum = vec![Complex32::default(); self.columns()];
        self.with_scratch(&mut sum, |scratch, sum| {
            let script = Script::sum(&self.shards.shape, &narrow(rows), parts_max());
            scratch.other.write(self.device(), &script)?;
            scratch.sum(&self.shards, (&script, &scratch.other), alpha, sum)
        });
        x.iter_mut().zip(&sum[first..]).for_each(|(x, sum)| *x += sum);
    }

    fn panel_dot(&self, rows: &[usize], first: usize, x: &[Lanes<f32>], out: &mut [Lanes<f32>]) {
        let mut values = vec![Complex32::default(); rows.len() * LANES];
        self.dots_of(rows, &self.frames(first, x), &mut values);
        to_lanes(&values, out);
    }

    fn panel_axpy(&self, rows: &[usize], alpha: &[Lanes<f32>], first: usize, x: &mut [Lanes<f32>]) {
        for lane in 0..LANES {
            let one: Vec<Complex32> = alpha.iter().map(|alpha| alpha.get(lane)).collect();
            let mut frame: Vec<Complex32> = x.iter().map(|x| x.get(lane)).collect();
            self.part_axpy(rows, &one, first, &mut frame);
            x.iter_mut().zip(&frame).for_each(|(x, value)| x.set(lane, *value));
        }
    }

    fn forward(&self, x: &[Complex<f32>], y: &mut [Complex<f32>]) {
        self.with_scratch(y, |scratch, y| {
            let of = &scratch.forward;
            scratch.dots(&self.shards, (&of.script, &of.tables), x, y)
        });
    }

    fn adjoint(&self, y: &[Complex<f32>], x: &mut [Complex<f32>]) {
        self.with_scratch(x, |scratch, x| {
            let of = &scratch.adjoint;
            scratch.sum(&self.shards, (&of.script, &of.tables), y, x)
        });
    }

    fn panel_forward(&self, x: &[Lanes<f32>], y: &mut [Lanes<f32>]) {
        let (frames, mut values) = (self.frames(0, x), vec![Complex32::default(); y.len() * LANES]);
        self.with_scratch(&mut values, |scratch, values| {
            let of = &scratch.forward;
            scratch.dots(&self.shards, (&of.script, &of.tables), &frames, values)
        });
        to_lanes(&values, y);
    }

    fn sweeps(&self, rows: &Rows<'_, f32>) -> Option<Result<Box<dyn Sweeps<f32>>, Error>> {
        Some(CardSweeps::new(&self.shards, rows).map(|sweeps| Box::new(sweeps) as Box<dyn Sweeps<f32>>))
    }

    fn check(&self) -> Result<(), Error> {
        self.device().check()
    }
}
