//! A system matrix in a card's memory.

use std::fmt;
use std::sync::{Arc, Mutex};

use num_complex::Complex32;

use super::buffers::{Buffer, ReadBack, STORAGE, UNIFORM, copy_to_bytes, words_to_bytes};
use super::device::Device;
use super::kernels::{LANES, PARAMS_STEP, Params};
use super::memory::{self, BLOCK_ROWS, ENTRY, PARTS_MAX};
use super::operator::Scratch;
use super::script::{Item, Kernel, Script, Shape, Step};
use crate::Error;
use crate::solve::{LANES as FRAMES_MAX, check_finite, energy};

/// Bytes that wait on the host for their transfer, about; with them no second matrix is ever there.
const CHUNK_BYTES: usize = 8 << 20;

/// Shards of a matrix; sweeps that are prepared hold on to them.
#[derive(Debug)]
pub(super) struct Shards {
    pub(super) device: Device,
    pub(super) shape: Shape,
    pub(super) buffers: Vec<Buffer>,
}

/// A system matrix of M rows and N columns in single precision, in a card's memory: once, in shards of whole rows which
/// are no larger than what the card's kernels can see at once. It is a [`crate::solve::Operator`], with
/// vectors in this process's memory.
pub struct ShardedMatrix {
    pub(super) shards: Arc<Shards>,
    /// ‖a_k‖², of the rows as they came.
    pub(super) energies: Vec<f32>,
    pub(super) scratch: Mutex<Scratch>,
}

impl fmt::Debug for ShardedMatrix {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shape { rows, columns, .. } = self.shards.shape;
        let mut out = out.debug_struct("ShardedMatrix");
        out.field("device", &self.shards.device).field("rows", &rows).field("columns", &columns);
        out.field("shards", &self.shards.buffers.len()).finish_non_exhaustive()
    }
}

impl ShardedMatrix {
    /// Puts a matrix into a card's memory. `fill` writes each row's N values, from the first to the last; only some
    /// megabytes wait on the host.
    ///
    /// # Errors
    /// [`Error::Empty`]; [`Error::GpuMemory`] before anything is transferred, if the matrix and what solvers need beside
    /// it (16 frames, blocks of 64 rows) do not fit; [`Error::NotFinite`] with the number of the entry;
    /// [`Error::GpuLost`], [`Error::Gpu`]; what `fill` gives.
    pub fn new(
        device: &Device,
        rows: usize,
        columns: usize,
        mut fill: impl FnMut(usize, &mut [Complex32]) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let shape = shape(device, rows, columns)?;
        let buffers = take(device, rows, shape)?;
        let mut energies = Vec::with_capacity(rows);
        let mut row = vec![Complex32::default(); columns];
        let mut upload = Upload::new(device, columns);
        for k in 0..rows {
            fill(k, &mut row)?;
            if let Err(Error::NotFinite { what, index }) = check_finite("entry of the matrix", &row) {
                return Err(Error::NotFinite { what, index: k * columns + index });
            }
            #[expect(clippy::cast_possible_truncation, reason = "norms are of the matrix's precision")]
            energies.push(energy(&row) as f32);
            let shard = k / shape.shard_rows as usize;
            upload.push(&buffers, shard, k - shard * shape.shard_rows as usize, &row)?;
        }
        upload.flush(&buffers)?;
        let shards = Shards { device: device.clone(), shape, buffers };
        let scratch = Mutex::new(Scratch::new(&shards)?);
        Ok(Self { shards: Arc::new(shards), energies, scratch })
    }

    /// The card.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.shards.device
    }

    /// How many shards the matrix is cut into.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.shards.buffers.len()
    }

    /// Bytes of the shards.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shards.buffers.iter().map(|buffer| buffer.bytes).sum()
    }
}

/// What the matrix is like for kernels, if it is not too large for the card.
fn shape(device: &Device, rows: usize, columns: usize) -> Result<Shape, Error> {
    if rows == 0 || columns == 0 {
        return Err(Error::Empty { rows, columns });
    }
    let refused = |needed, limit| {
        let what = format!("a matrix of {rows} rows and {columns} columns");
        Error::GpuMemory { adapter: device.adapter().name.clone(), what, needed, limit }
    };
    let cut = memory::cut(rows, columns, device.inner.shard_bytes_max, device.free_bytes())
        .map_err(|no| refused(no.needed, no.limit))?;
    // What kernels count with has 32 bits, and a dispatch 65535 groups.
    let voxels_max = u32::from(u16::MAX) * LANES;
    let narrow = |count: usize| u32::try_from(count).ok();
    match (narrow(rows), narrow(columns), narrow(cut.shard_rows)) {
        (Some(rows), Some(columns), Some(shard_rows)) if columns <= voxels_max => {
            Ok(Shape { rows, columns, shard_rows })
        }
        _ => {
            let limit = format!("kernels count rows up to {} and voxels up to {voxels_max}", u32::MAX);
            Err(refused(memory::matrix_bytes(rows, columns), limit))
        }
    }
}

fn take(device: &Device, rows: usize, shape: Shape) -> Result<Vec<Buffer>, Error> {
    let step = shape.shard_rows as usize;
    (0..rows)
        .step_by(step)
        .map(|first| {
            let bytes = memory::matrix_bytes(step.min(rows - first), shape.columns as usize);
            Buffer::new(device, "a shard of the matrix", bytes, STORAGE)
        })
        .collect()
}

/// Rows on their way.
struct Upload<'d> {
    device: &'d Device,
    row_bytes: usize,
    bytes: Vec<u8>,
    /// Where the first of them belongs.
    shard: usize,
    row: usize,
}

impl<'d> Upload<'d> {
    fn new(device: &'d Device, columns: usize) -> Self {
        Self { device, row_bytes: columns * 8, bytes: Vec::new(), shard: 0, row: 0 }
    }

    fn push(
        &mut self,
        buffers: &[Buffer],
        shard: usize,
        row: usize,
        values: &[Complex32],
    ) -> Result<(), Error> {
        if shard != self.shard || self.bytes.len() + self.row_bytes > CHUNK_BYTES {
            self.flush(buffers)?;
            (self.shard, self.row) = (shard, row);
        }
        let end = self.bytes.len();
        self.bytes.resize(end + self.row_bytes, 0);
        copy_to_bytes(values, &mut self.bytes[end..]);
        Ok(())
    }

    /// Transfers what waits, and waits for it: so the driver holds no more than one chunk either.
    fn flush(&mut self, buffers: &[Buffer]) -> Result<(), Error> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let offset = memory::matrix_bytes(self.row, self.row_bytes / 8);
        buffers[self.shard].write(offset, &self.bytes);
        self.bytes.clear();
        self.device.submit(self.device.encoder());
        self.device.wait()
    }
}

/// Items and parameters of scripts in a card's memory.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) items: Buffer,
    pub(super) params: Buffer,
}

impl Tables {
    /// With room for a script of so many items and dispatches.
    pub(super) fn new(device: &Device, items: usize, params: usize) -> Result<Self, Error> {
        let bytes = |count: usize, size: usize| u64::try_from(count.saturating_mul(size)).unwrap_or(u64::MAX);
        Ok(Self {
            items: Buffer::new(device, "a list of rows", bytes(items, size_of::<Item>()), STORAGE)?,
            params: Buffer::new(device, "parameters", bytes(params, PARAMS_STEP as usize), UNIFORM)?,
        })
    }

    /// Writes a script's.
    ///
    /// # Errors
    /// [`Error::GpuMemory`] if there is no room.
    pub(super) fn write(&self, device: &Device, script: &Script) -> Result<(), Error> {
        let items = words_to_bytes(&script.item_words());
        let params = words_to_bytes(&script.param_words());
        for (bytes, buffer) in [(&items, &self.items), (&params, &self.params)] {
            let needed = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            if needed > buffer.bytes {
                let (adapter, what) = (device.adapter().name.clone(), "a list of rows".to_owned());
                let limit = format!("{} are taken for it", buffer.bytes);
                return Err(Error::GpuMemory { adapter, what, needed, limit });
            }
        }
        self.items.write(0, &items);
        self.params.write(0, &params);
        Ok(())
    }

    /// For a script, with exactly its room.
    pub(super) fn of(device: &Device, script: &Script) -> Result<Self, Error> {
        let tables = Self::new(device, script.items.len(), script.params.len())?;
        tables.write(device, script)?;
        Ok(tables)
    }
}

/// Encodes steps of products. `bound` gives the buffers of a kernel.
pub(super) fn encode<'b>(
    pass: &mut wgpu::ComputePass<'_>,
    steps: &[Step],
    bound: impl Fn(Kernel) -> (&'b wgpu::ComputePipeline, &'b wgpu::BindGroup),
) {
    let mut last = None;
    for step in steps {
        let (pipeline, group) = bound(step.kernel);
        if last != Some(pipeline) {
            pass.set_pipeline(pipeline);
            last = Some(pipeline);
        }
        pass.set_bind_group(0, group, &[step.offset]);
        pass.dispatch_workgroups(step.groups[0], step.groups[1], 1);
    }
}

/// Parameters and kernels that products of one frame and of many have in common.
impl Shards {
    pub(super) fn rows(&self) -> usize {
        self.shape.rows as usize
    }

    pub(super) fn columns(&self) -> usize {
        self.shape.columns as usize
    }

    /// The edge of triangles unless a plan says otherwise.
    pub(super) fn block(&self) -> usize {
        let shared = u64::from(self.device.adapter().shared_bytes_max);
        let most = usize::try_from(shared / ENTRY).unwrap_or(usize::MAX) / FRAMES_MAX;
        BLOCK_ROWS.min(most.max(1))
    }

    /// Parts of the sums of an adjoint.
    pub(super) fn parts(&self) -> usize {
        Script::parts_of_sum(u32::try_from(PARTS_MAX).unwrap_or(u32::MAX), self.buffers.len())
    }

    /// Room to read images or data back.
    pub(super) fn read_back(&self, frames: usize) -> Result<ReadBack, Error> {
        ReadBack::new(&self.device, self.rows().max(self.columns()) * frames)
    }
}

/// Parameters of a projection.
pub(super) fn projection(shape: &Shape, is_positive: bool) -> Params {
    Params { columns: shape.columns, is_positive: u32::from(is_positive), ..Params::default() }
}
