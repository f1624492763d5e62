//! Buffers in a card's memory: counted, checked against what is free, and read back.

use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::time::Duration;

use num_complex::Complex32;

use super::device::Device;
use super::memory::ENTRY;
use crate::Error;

/// Bytes of a complex number, as an index.
const PAIR: usize = 8;

/// How long another thread, which waited for the same card, may take to pass an answer on.
const PATIENCE: Duration = Duration::from_secs(10);

/// What kernels read and write.
pub(super) const STORAGE: wgpu::BufferUsages =
    wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_DST).union(wgpu::BufferUsages::COPY_SRC);
/// Parameters.
pub(super) const UNIFORM: wgpu::BufferUsages =
    wgpu::BufferUsages::UNIFORM.union(wgpu::BufferUsages::COPY_DST);
const READ_BACK: wgpu::BufferUsages = wgpu::BufferUsages::MAP_READ.union(wgpu::BufferUsages::COPY_DST);

/// Memory of a card; it is given back with this.
#[derive(Debug)]
pub(super) struct Buffer {
    pub(super) raw: wgpu::Buffer,
    pub(super) bytes: u64,
    device: Device,
}

impl Buffer {
    /// Takes memory. It is zero.
    ///
    /// # Errors
    /// [`Error::GpuMemory`] if there is not as much, [`Error::GpuLost`].
    pub(super) fn new(
        device: &Device,
        what: &str,
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<Self, Error> {
        let bytes = bytes.next_multiple_of(16).max(16);
        let refused = |limit| {
            let (adapter, what) = (device.adapter().name.clone(), what.to_owned());
            Err(Error::GpuMemory { adapter, what, needed: bytes, limit })
        };
        let most = device.adapter().buffer_bytes_max.min(device.adapter().binding_bytes_max);
        if bytes > most {
            return refused(format!("a buffer may have {most}"));
        }
        if let Some(free) = device.free_bytes().filter(|free| bytes > *free) {
            return refused(format!("{free} are free"));
        }
        let descriptor =
            wgpu::BufferDescriptor { label: Some(what), size: bytes, usage, mapped_at_creation: false };
        let raw = device.watched(what, bytes, || device.inner.raw.create_buffer(&descriptor))?;
        device.inner.taken.fetch_add(bytes, Ordering::Relaxed);
        Ok(Self { raw, bytes, device: device.clone() })
    }

    /// Takes memory for complex numbers that kernels work on.
    pub(super) fn complex(device: &Device, what: &str, count: usize) -> Result<Self, Error> {
        Self::new(device, what, bytes_of_count(count), STORAGE)
    }

    /// Writes bytes to a place; the copy is done before what is submitted next.
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) {
        self.device.inner.queue.write_buffer(&self.raw, offset, bytes);
    }

    /// Writes complex numbers to the beginning.
    pub(super) fn write_complex(&self, values: &[Complex32]) {
        self.write(0, &to_bytes(values));
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.device.inner.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn bytes_of_count(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX).saturating_mul(ENTRY)
}

/// Complex numbers as a card has them.
pub(super) fn to_bytes(values: &[Complex32]) -> Vec<u8> {
    let mut bytes = vec![0; values.len() * PAIR];
    copy_to_bytes(values, &mut bytes);
    bytes
}

/// The same into a place of the right length.
pub(super) fn copy_to_bytes(values: &[Complex32], bytes: &mut [u8]) {
    for (bytes, value) in bytes.chunks_exact_mut(PAIR).zip(values) {
        bytes[..4].copy_from_slice(&value.re.to_ne_bytes());
        bytes[4..].copy_from_slice(&value.im.to_ne_bytes());
    }
}

/// Words as a card has them.
pub(super) fn words_to_bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// Memory of the host that a card writes to.
#[derive(Debug)]
pub(super) struct ReadBack {
    buffer: Buffer,
}

impl ReadBack {
    /// Takes memory for as many complex numbers at once.
    pub(super) fn new(device: &Device, count: usize) -> Result<Self, Error> {
        Ok(Self { buffer: Buffer::new(device, "what is read back", bytes_of_count(count), READ_BACK)? })
    }

    /// Does the commands of an encoder, waits for it, and reads complex numbers of `from`, from number `first` on.
    ///
    /// # Errors
    /// As [`Device::check`].
    pub(super) fn read(
        &self,
        mut encoder: wgpu::CommandEncoder,
        from: &Buffer,
        first: usize,
        out: &mut [Complex32],
    ) -> Result<(), Error> {
        let (device, bytes) = (&self.buffer.device, bytes_of_count(out.len()));
        encoder.copy_buffer_to_buffer(&from.raw, bytes_of_count(first), &self.buffer.raw, 0, bytes);
        device.submit(encoder);
        let (tell, answer) = channel();
        let part = self.buffer.raw.slice(..bytes);
        part.map_async(wgpu::MapMode::Read, move |said| {
            // Who asked may have gone because the card is lost.
            drop(tell.send(said));
        });
        device.wait()?;
        let lost = |reason: String| {
            device.lose(reason);
            device.check()
        };
        match answer.recv_timeout(PATIENCE) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return lost(format!("what it computed cannot be read: {error}")),
            Err(_) => return lost("it does not say when it has computed".to_owned()),
        }
        match part.get_mapped_range() {
            Ok(view) => from_bytes(&view, out),
            Err(error) => return lost(format!("what it computed cannot be read: {error}")),
        }
        self.buffer.raw.unmap();
        Ok(())
    }
}

fn from_bytes(bytes: &[u8], out: &mut [Complex32]) {
    for (value, pair) in out.iter_mut().zip(bytes.chunks_exact(PAIR)) {
        if let &[a, b, c, d, e, f, g, h] = pair {
            *value = Complex32::new(f32::from_ne_bytes([a, b, c, d]), f32::from_ne_bytes([e, f, g, h]));
        }
    }
}
