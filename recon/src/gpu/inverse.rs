//! The inverses of the blocks' triangular systems, which depend on λ.
//!
//! Substitution takes as many steps one after the other as a block has rows, and a card is slow at steps. A product with
//! the inverse has one. `invert.wgsl` says why it is as exact.

use std::sync::{Arc, Mutex, PoisonError};

use super::buffers::{Buffer, STORAGE, UNIFORM, words_to_bytes};
use super::device::Device;
use super::kernels::{Invert, PARAMS_STEP};
use super::script::Shape;
use crate::Error;

/// What is inverted, and for which λ.
#[derive(Debug)]
pub(super) struct Inverse {
    block: u32,
    kernel: Arc<Invert>,
    /// √λ, and 1 / (‖a_k‖² + λ) in the order of the sweep.
    pub(super) inverses: Buffer,
    /// (D⁻¹ + L)⁻¹ of each block.
    pub(super) systems: Buffer,
    params: Buffer,
    bound: wgpu::BindGroup,
    /// `inverses` as they were written last.
    last: Mutex<Vec<u32>>,
}

impl Inverse {
    /// For sweeps over at most `rows` rows, whose triangles are there.
    pub(super) fn new(device: &Device, triangles: &Buffer, rows: usize, block: u32) -> Result<Self, Error> {
        let kernel = Invert::of(device, block as usize)?;
        let bytes = 4 * (rows as u64 + 1);
        let inverses = Buffer::new(device, "inverses of norms", bytes, STORAGE)?;
        let systems = rows.next_multiple_of(block as usize) * block as usize;
        let systems = Buffer::complex(device, "inverses of triangles", systems)?;
        let params = Buffer::new(device, "parameters", u64::from(PARAMS_STEP), UNIFORM)?;
        let bound = kernel.bind(device, [&params.raw, &triangles.raw, &inverses.raw, &systems.raw]);
        Ok(Self { block, kernel, inverses, systems, params, bound, last: Mutex::new(Vec::new()) })
    }

    /// Inverts for √λ and 1 / (‖a_k‖² + λ) of the rows in the order of the sweep, unless that is done.
    pub(super) fn weigh(&self, device: &Device, epsilon: f32, inverses: impl Iterator<Item = f32>) {
        let words: Vec<u32> = std::iter::once(epsilon).chain(inverses).map(f32::to_bits).collect();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if *last == words {
            return;
        }
        self.inverses.write(0, &words_to_bytes(&words));
        let rows = u32::try_from(words.len() - 1).unwrap_or(u32::MAX);
        let (params, groups) = Shape::inversion(rows, self.block);
        self.params.write(0, &words_to_bytes(&params.words()));
        let mut encoder = device.encoder();
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&self.kernel.invert);
        pass.set_bind_group(0, &self.bound, &[0]);
        pass.dispatch_workgroups(groups[0], groups[1], 1);
        drop(pass);
        device.submit(encoder);
        *last = words;
    }
}
