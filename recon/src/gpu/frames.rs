//! The buffers of frames that are solved together, and the kernels that are compiled for their number.

use std::sync::Arc;

use num_complex::Complex32;

use super::buffers::{Buffer, ReadBack, UNIFORM, to_bytes, words_to_bytes};
use super::kernels::{LANES, PARAMS_STEP, Params, Products, Solve};
use super::matrix::{Shards, Tables, encode, projection};
use super::script::{Kernel, Step};
use crate::Error;
use crate::solve::Projection;

/// Numbers of frames that kernels are compiled for.
const COUNTS: [usize; 3] = [1, 4, 16];

/// Dispatches that are handed over at once: a driver gives up a card that works on one submission for seconds.
const STEPS_TOGETHER: usize = 2048;

/// The number of frames that kernels for at least so many have.
pub(super) fn compiled_for(frames: usize) -> usize {
    COUNTS.into_iter().find(|count| *count >= frames).unwrap_or(frames)
}

/// Buffers and kernels for a number of frames; those that there are not stay zero.
#[derive(Debug)]
pub(super) struct Frames {
    pub(super) count: usize,
    products: Arc<Products>,
    solve: Arc<Solve>,
    images: Buffer,
    data: Buffer,
    multipliers: Buffer,
    read_back: ReadBack,
    bound: Bound,
    groups: u32,
}

/// What kernels work on; for each shard where they differ.
#[derive(Debug)]
struct Bound {
    dots: Vec<wgpu::BindGroup>,
    axpys: Vec<wgpu::BindGroup>,
    solve: wgpu::BindGroup,
    project: wgpu::BindGroup,
}

/// Of a sweep, whatever the number of frames.
pub(super) struct Common<'a> {
    pub(super) shards: &'a Shards,
    pub(super) tables: &'a Tables,
    pub(super) order: &'a Buffer,
    /// √λ, and 1 / (‖a_k‖² + λ).
    pub(super) inverses: &'a Buffer,
    /// Inverses of the triangular systems.
    pub(super) systems: &'a Buffer,
    pub(super) block: usize,
}

impl Frames {
    pub(super) fn new(common: &Common<'_>, count: usize) -> Result<Self, Error> {
        let Common { shards, tables, block, .. } = *common;
        let (device, shape) = (&shards.device, &shards.shape);
        let (products, solve) = (Products::of(device, count)?, Solve::of(device, count, block)?);
        let images = Buffer::complex(device, "images", shards.columns() * count)?;
        let data = Buffer::complex(device, "data", shards.rows() * count)?;
        let multipliers = Buffer::complex(device, "multipliers", shards.rows() * count)?;
        let alphas = Buffer::complex(device, "steps of a block", block * count)?;
        let sums = Buffer::complex(device, "products of a block", block * count * shape.parts() as usize)?;
        let projections = Buffer::new(device, "projections", 2 * u64::from(PARAMS_STEP), UNIFORM)?;
        let params = [false, true].map(|is_positive| projection(shape, is_positive));
        let words: Vec<u32> = params.iter().flat_map(Params::words).collect();
        projections.write(0, &words_to_bytes(&words));
        let each = |from: &Buffer, to: &Buffer| -> Vec<wgpu::BindGroup> {
            let bind = |shard: &Buffer| {
                let buffers = [&tables.params.raw, &shard.raw, &tables.items.raw, &from.raw, &to.raw];
                products.bind(device, buffers)
            };
            shards.buffers.iter().map(bind).collect()
        };
        let (params, items, shard) = (&tables.params.raw, &tables.items.raw, &shards.buffers[0].raw);
        let bound = Bound {
            dots: each(&images, &sums),
            axpys: each(&alphas, &images),
            solve: solve.bind(
                device,
                [
                    params,
                    &sums.raw,
                    &common.order.raw,
                    &common.inverses.raw,
                    &common.systems.raw,
                    &data.raw,
                    &multipliers.raw,
                    &alphas.raw,
                ],
            ),
            project: products.bind(device, [&projections.raw, shard, items, &data.raw, &images.raw]),
        };
        let read_back = ReadBack::new(device, shards.columns() * count)?;
        let groups = shape.columns.div_ceil(LANES);
        Ok(Self { count, products, solve, images, data, multipliers, read_back, bound, groups })
    }

    /// Puts frames there, and multipliers of zero.
    pub(super) fn begin(&self, shards: &Shards, data: &[Complex32], x: &[Complex32]) {
        let padded = |values: &[Complex32], length: usize| {
            let mut bytes = to_bytes(values);
            bytes.resize(length * self.count * 8, 0);
            bytes
        };
        self.data.write(0, &padded(data, shards.rows()));
        self.write(shards, x);
        let mut encoder = shards.device.encoder();
        encoder.clear_buffer(&self.multipliers.raw, 0, None);
        shards.device.submit(encoder);
    }

    /// Puts images there.
    pub(super) fn write(&self, shards: &Shards, x: &[Complex32]) {
        let mut bytes = to_bytes(x);
        bytes.resize(shards.columns() * self.count * 8, 0);
        self.images.write(0, &bytes);
    }

    /// Hands a sweep over, then projections.
    pub(super) fn sweep(&self, shards: &Shards, steps: &[Step], projections: &[Projection]) {
        let device = &shards.device;
        for steps in steps.chunks(STEPS_TOGETHER) {
            let mut encoder = device.encoder();
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            encode(&mut pass, steps, |kernel| match kernel {
                Kernel::Dots(shard) => (&self.products.dots, &self.bound.dots[shard]),
                Kernel::Axpys(shard) => (&self.products.axpys, &self.bound.axpys[shard]),
                _ => (&self.solve.solve, &self.bound.solve),
            });
            drop(pass);
            device.submit(encoder);
        }
        if projections.is_empty() {
            return;
        }
        let mut encoder = device.encoder();
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&self.products.project);
        for projection in projections {
            let offset = if *projection == Projection::Positive { PARAMS_STEP } else { 0 };
            pass.set_bind_group(0, &self.bound.project, &[offset]);
            pass.dispatch_workgroups(self.groups, 1, 1);
        }
        drop(pass);
        device.submit(encoder);
    }

    /// Reads images; waits until all is done.
    pub(super) fn read(&self, shards: &Shards, x: &mut [Complex32]) -> Result<(), Error> {
        self.read_back.read(shards.device.encoder(), &self.images, 0, x)
    }
}
