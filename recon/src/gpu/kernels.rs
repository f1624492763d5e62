//! The kernels: compiled for a number of frames and rows of a block.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::device::Device;
use crate::Error;

/// Invocations of a group.
pub(super) const LANES: u32 = 64;
/// Rows along each edge of a tile of a triangle.
pub(super) const TILE: u32 = 4;
/// Bytes from one dispatch's parameters to the next; no card asks for more.
pub(super) const PARAMS_STEP: u32 = 256;
/// Bytes of a dispatch's parameters.
const PARAMS_BYTES: u64 = 48;

const PARAMS: &str = include_str!("params.wgsl");
const PRODUCTS: &str = include_str!("products.wgsl");
const SOLVE: &str = include_str!("solve.wgsl");
const INVERT: &str = include_str!("invert.wgsl");

/// Kernels with the parameters, a shard, items and values to read, and results to write.
#[derive(Debug)]
pub(super) struct Products {
    layout: wgpu::BindGroupLayout,
    pub(super) dots: wgpu::ComputePipeline,
    pub(super) axpys: wgpu::ComputePipeline,
    pub(super) project: wgpu::ComputePipeline,
    /// These are of one frame whatever the number of frames.
    pub(super) partial: wgpu::ComputePipeline,
    pub(super) gather: wgpu::ComputePipeline,
    pub(super) triangle: wgpu::ComputePipeline,
}

/// The kernel of the triangular system.
#[derive(Debug)]
pub(super) struct Solve {
    layout: wgpu::BindGroupLayout,
    pub(super) solve: wgpu::ComputePipeline,
}

/// The kernel of its inverse.
#[derive(Debug)]
pub(super) struct Invert {
    layout: wgpu::BindGroupLayout,
    pub(super) invert: wgpu::ComputePipeline,
}

/// Kernels that are compiled already: drivers take some ten milliseconds for each.
#[derive(Debug, Default)]
pub(super) struct Compiled {
    products: Mutex<HashMap<usize, Arc<Products>>>,
    solve: Mutex<HashMap<(usize, usize), Arc<Solve>>>,
    invert: Mutex<HashMap<usize, Arc<Invert>>>,
}

fn source(frames: usize, block: usize, text: &str) -> String {
    format!("const FRAMES = {frames}u;\nconst BLOCK = {block}u;\nconst LANES = {LANES}u;\n{PARAMS}\n{text}")
}

/// A layout with parameters first, then buffers of which the last `written` are written to.
fn layout(device: &Device, read: u32, written: u32) -> wgpu::BindGroupLayout {
    let entry = |binding: u32| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty: match binding {
                0 => wgpu::BufferBindingType::Uniform,
                _ => wgpu::BufferBindingType::Storage { read_only: binding <= read },
            },
            has_dynamic_offset: binding == 0,
            min_binding_size: None,
        },
        count: None,
    };
    let entries: Vec<_> = (0..=read + written).map(entry).collect();
    let descriptor = wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries };
    device.inner.raw.create_bind_group_layout(&descriptor)
}

fn pipelines<const N: usize>(
    device: &Device,
    source: String,
    bindings: &wgpu::BindGroupLayout,
    names: [&str; N],
) -> [wgpu::ComputePipeline; N] {
    let raw = &device.inner.raw;
    let module = raw.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: None,
        source: wgpu::ShaderSource::Wgsl(source.into()),
    });
    let layout = raw.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: None,
        bind_group_layouts: &[Some(bindings)],
        immediate_size: 0,
    });
    names.map(|name| {
        raw.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(name),
            layout: Some(&layout),
            module: &module,
            entry_point: Some(name),
            // All kernels write what they share before they read it.
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: false,
                ..wgpu::PipelineCompilationOptions::default()
            },
            cache: None,
        })
    })
}

impl Products {
    /// Those for so many frames.
    pub(super) fn of(device: &Device, frames: usize) -> Result<Arc<Self>, Error> {
        let mut all = device.inner.compiled.products.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = all.get(&frames) {
            return Ok(Arc::clone(found));
        }
        let made = device.watched("kernels of products", 0, || {
            let layout = layout(device, 3, 1);
            let names = ["dots", "axpys", "project", "partial", "gather", "triangle"];
            let [dots, axpys, project, partial, gather, triangle] =
                pipelines(device, source(frames, 1, PRODUCTS), &layout, names);
            Self { layout, dots, axpys, project, partial, gather, triangle }
        })?;
        Ok(Arc::clone(all.entry(frames).or_insert(Arc::new(made))))
    }

    /// Which buffers a dispatch works on: parameters, shard, items, values, results.
    pub(super) fn bind(&self, device: &Device, buffers: [&wgpu::Buffer; 5]) -> wgpu::BindGroup {
        bind(device, &self.layout, &buffers)
    }
}

impl Solve {
    /// The one for so many frames and rows of a block.
    pub(super) fn of(device: &Device, frames: usize, block: usize) -> Result<Arc<Self>, Error> {
        let mut all = device.inner.compiled.solve.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = all.get(&(frames, block)) {
            return Ok(Arc::clone(found));
        }
        let made = device.watched("the kernel of triangular systems", 0, || {
            let layout = layout(device, 5, 2);
            let [solve] = pipelines(device, source(frames, block, SOLVE), &layout, ["solve"]);
            Self { layout, solve }
        })?;
        Ok(Arc::clone(all.entry((frames, block)).or_insert(Arc::new(made))))
    }

    /// Which buffers: parameters, products, order, inverses, systems, data, multipliers, alphas.
    pub(super) fn bind(&self, device: &Device, buffers: [&wgpu::Buffer; 8]) -> wgpu::BindGroup {
        bind(device, &self.layout, &buffers)
    }
}

impl Invert {
    /// The one for so many rows of a block.
    pub(super) fn of(device: &Device, block: usize) -> Result<Arc<Self>, Error> {
        let mut all = device.inner.compiled.invert.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = all.get(&block) {
            return Ok(Arc::clone(found));
        }
        let made = device.watched("the kernel of inverses", 0, || {
            let layout = layout(device, 2, 1);
            let [invert] = pipelines(device, source(1, block, INVERT), &layout, ["invert"]);
            Self { layout, invert }
        })?;
        Ok(Arc::clone(all.entry(block).or_insert(Arc::new(made))))
    }

    /// Which buffers: parameters, triangles, inverses, systems.
    pub(super) fn bind(&self, device: &Device, buffers: [&wgpu::Buffer; 4]) -> wgpu::BindGroup {
        bind(device, &self.layout, &buffers)
    }
}

fn bind(device: &Device, layout: &wgpu::BindGroupLayout, buffers: &[&wgpu::Buffer]) -> wgpu::BindGroup {
    let mut entries = Vec::with_capacity(buffers.len());
    for (binding, buffer) in (0..).zip(buffers) {
        let resource = match binding {
            0 => wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer,
                offset: 0,
                size: wgpu::BufferSize::new(PARAMS_BYTES),
            }),
            _ => buffer.as_entire_binding(),
        };
        entries.push(wgpu::BindGroupEntry { binding, resource });
    }
    device.inner.raw.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries: &entries })
}

/// A dispatch's parameters; `params.wgsl` says what each is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Params {
    pub(super) first: u32,
    pub(super) count: u32,
    pub(super) columns: u32,
    pub(super) part: u32,
    pub(super) positions: u32,
    pub(super) base: u32,
    pub(super) other_first: u32,
    pub(super) other_count: u32,
    pub(super) rows: u32,
    pub(super) parts: u32,
    pub(super) start: u32,
    pub(super) is_positive: u32,
}

impl Params {
    /// As the kernels have them, with the gap to the next.
    pub(super) fn words(&self) -> [u32; PARAMS_STEP as usize / 4] {
        let mut words = [0; PARAMS_STEP as usize / 4];
        words[..12].copy_from_slice(&[
            self.first,
            self.count,
            self.columns,
            self.part,
            self.positions,
            self.base,
            self.other_first,
            self.other_count,
            self.rows,
            self.parts,
            self.start,
            self.is_positive,
        ]);
        words
    }
}
