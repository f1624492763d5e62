//! Layers as blobs, on all cores. Each is written as it is made, so memory does not grow with the image.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Mutex;

use hatchway_envs::Progress;
use hatchway_envs::digest::{HashingWriter, Sha256};

use crate::Image;
use crate::error::Error;
use crate::gzip::Gzip;
use crate::layer::Layer;

/// Bytes that are written at once.
const BUFFER_BYTES: usize = 256 << 10;

/// A layer, as a file or before it is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blob {
    /// Its digest.
    pub sha256: Sha256,
    /// Its bytes.
    pub size: u64,
    /// The digest of its archive before it is compressed.
    pub diff_id: Sha256,
    /// The bytes of that archive.
    pub plain_size: u64,
}

impl Blob {
    /// Whether it is compressed.
    #[must_use]
    pub fn is_compressed(&self) -> bool {
        self.sha256 != self.diff_id
    }
}

/// Compresses all layers into files of `folder`, each named by its digest.
///
/// # Errors
/// A damaged store, a full disk.
pub fn pack(image: &Image, folder: &Path, progress: &dyn Progress) -> Result<Vec<Blob>, Error> {
    progress.begin("compressing", content_bytes(image));
    let packed = on_all_cores(image, |number, layer| {
        let path = folder.join(format!("layer-{number}"));
        let file = File::create_new(&path).map_err(Error::io("create", &path))?;
        let packed = HashingWriter::new(BufWriter::with_capacity(BUFFER_BYTES, file));
        let plain = HashingWriter::new(Told { to: Gzip::new(packed), progress });
        let plain = BufWriter::with_capacity(BUFFER_BYTES, plain);
        let failed = || Error::io("write", &path);
        let plain = layer.write(&image.store, plain, &path)?;
        let (told, diff_id, plain_size) = plain.into_inner().map_err(|e| failed()(e.into_error()))?.finish();
        let (buffer, sha256, size) = told.to.finish().map_err(failed())?.finish();
        buffer.into_inner().map_err(|e| failed()(e.into_error()))?;
        let named = folder.join(sha256.hex());
        std::fs::rename(&path, &named).map_err(Error::io("rename", &path))?;
        Ok(Blob { sha256, size, diff_id, plain_size })
    });
    progress.end();
    packed
}

/// Digests and sizes of all layers as they are before they are compressed; nothing is written.
///
/// # Errors
/// A damaged store.
pub fn measure(image: &Image, progress: &dyn Progress) -> Result<Vec<Blob>, Error> {
    progress.begin("computing digests", content_bytes(image));
    let measured = on_all_cores(image, |_, layer| {
        let plain = HashingWriter::new(Told { to: io::sink(), progress });
        let nowhere = Path::new("the digest");
        let plain = layer.write(&image.store, BufWriter::with_capacity(BUFFER_BYTES, plain), nowhere)?;
        let plain = plain.into_inner().map_err(|e| Error::io("compute", nowhere)(e.into_error()))?;
        let (_, sha256, size) = plain.finish();
        Ok(Blob { sha256, size, diff_id: sha256, plain_size: size })
    });
    progress.end();
    measured
}

fn content_bytes(image: &Image) -> u64 {
    image.layers.iter().map(Layer::content_bytes).sum()
}

/// Tells how far it is.
struct Told<'a, W> {
    to: W,
    progress: &'a dyn Progress,
}

impl<W: Write> Write for Told<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.progress.advance(written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Does the same with each layer; the results are in the layers' order.
fn on_all_cores<T: Send>(
    image: &Image,
    each: impl Fn(usize, &Layer) -> Result<T, Error> + Sync,
) -> Result<Vec<T>, Error> {
    let mut jobs: Vec<(usize, &Layer)> = image.layers.iter().enumerate().collect();
    // The largest first: one that came last would keep one core busy and leave the others idle.
    jobs.sort_by_key(|(_, layer)| layer.content_bytes());
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(jobs.len());
    let queue = Mutex::new(jobs);
    let done: Mutex<Vec<(usize, Result<T, Error>)>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((number, layer)) = queue.lock().ok().and_then(|mut queue| queue.pop()) {
                    let result = each(number, layer);
                    if result.is_err()
                        && let Ok(mut queue) = queue.lock()
                    {
                        queue.clear();
                    }
                    if let Ok(mut done) = done.lock() {
                        done.push((number, result));
                    }
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}
