//! One dataset of a file: what it claims to be, and its elements in runs.
//!
//! A file may claim any size. What is contiguous must lie within the file; what is compressed, or was never written,
//! may be larger than the file by no more than deflate can pack. No claim is believed before that.

use std::sync::{Mutex, OnceLock};

use hdf5_pure::{Layout, VlenStringReadOptions};
use num_complex::Complex;

use super::chunks::Chunks;
use super::file::File;
use super::value::{Kind, Numeric};
use crate::Error;

/// Deflate packs a run of equal bytes at most 1032 to 1 (RFC 1951: 258 bytes in two bits).
const PACKED_MAX: u64 = 1032;
/// What a tiny file may claim nevertheless: unwritten datasets of a few frames.
const CLAIM_BYTES_FREE: u64 = 1 << 20;
/// The largest dataset that is read as a whole: everything but the data of measurements and images is far below.
const WHOLE_ELEMENTS_MAX: u64 = 1 << 26;
/// Such a dataset has at most this many elements for each byte of the file, or [`CLAIM_BYTES_FREE`]: elements of one
/// byte become eight or sixteen in memory.
const WHOLE_PACKED_MAX: u64 = 16;
/// The largest part of a chunked dataset that is decoded at once. Chunks of a system matrix stay below.
const SLAB_BYTES_MAX: u64 = 1 << 30;
/// Texts of one dataset; the longest are descriptions and waveforms.
const TEXT_BYTES_MAX: usize = 16 << 20;
/// Elements of one dataset of texts.
const TEXTS_MAX: usize = 1 << 20;
/// Dimensions: HDF5 itself allows 32.
const RANK_MAX: usize = 32;

/// How the bytes of a dataset are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Storage {
    /// In the header.
    Compact,
    /// In one run, from this byte of the file; `None` if nothing was ever written.
    Contiguous(Option<u64>),
    /// In chunks of this shape.
    Chunked {
        /// Shape of a chunk.
        chunk: Vec<u64>,
        /// Numbers of the filters in the order of writing: 1 deflate, 2 shuffle, 3 checksum.
        filters: Vec<u16>,
    },
}

impl Storage {
    /// The name that reports use.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Compact => "compact".to_owned(),
            Self::Contiguous(_) => "contiguous".to_owned(),
            Self::Chunked { filters, .. } if filters.is_empty() => "chunked".to_owned(),
            Self::Chunked { .. } => "chunked and compressed".to_owned(),
        }
    }
}

/// A dataset whose claims are checked.
#[derive(Debug)]
pub struct Stored<'f> {
    file: &'f File,
    path: String,
    dataset: hdf5_pure::Dataset,
    shape: Vec<u64>,
    kind: Kind,
    storage: Storage,
    elements: u64,
    /// The last decoded part of a chunked dataset: its first row, and its bytes.
    slab: Mutex<Option<(u64, u64, Vec<u8>)>>,
    /// Set once every chunk is known to lie within the file: what decodes single ones, if it can.
    chunks: OnceLock<Option<Mutex<Chunks>>>,
}

impl<'f> Stored<'f> {
    pub(super) fn open(file: &'f File, path: &str, dataset: hdf5_pure::Dataset) -> Result<Self, Error> {
        let failed = |source| file.failed(path, source);
        let shape = dataset.shape().map_err(failed)?;
        let kind = Kind::of(&dataset.datatype().map_err(failed)?);
        let storage = match dataset.layout().map_err(failed)? {
            Layout::Compact { .. } => Storage::Compact,
            Layout::Contiguous { address, .. } => Storage::Contiguous(address),
            Layout::Chunked { chunk_shape, .. } => {
                Storage::Chunked { chunk: chunk_shape, filters: dataset.filters() }
            }
            _ => {
                return Err(file.unexpected(
                    path,
                    "a virtual dataset".to_owned(),
                    "stored in the file itself",
                ));
            }
        };
        let mut stored = Self {
            file,
            path: path.to_owned(),
            dataset,
            shape,
            kind,
            storage,
            elements: 0,
            slab: Mutex::default(),
            chunks: OnceLock::new(),
        };
        stored.elements = stored.believe()?;
        Ok(stored)
    }

    /// Checks what is claimed against the file's size. Returns the number of elements.
    fn believe(&self) -> Result<u64, Error> {
        if self.shape.len() > RANK_MAX {
            return Err(self
                .too_large(format!("{} dimensions", self.shape.len()), format!("{RANK_MAX} are the most")));
        }
        let size = self.kind.size() as u64;
        let product = |shape: &[u64]| shape.iter().try_fold(1_u64, |all, length| all.checked_mul(*length));
        let claim = product(&self.shape).filter(|elements| elements.checked_mul(size).is_some());
        let shape = shape_name(&self.shape);
        let Some(elements) = claim else {
            return Err(self.too_large(format!("{shape} elements"), "no file holds 2^64 bytes".to_owned()));
        };
        let packed = self.file.size().saturating_mul(PACKED_MAX).max(CLAIM_BYTES_FREE);
        let limit = match &self.storage {
            Storage::Compact => self.file.size(),
            Storage::Contiguous(Some(address)) => self.file.size().saturating_sub(*address),
            Storage::Contiguous(None) => packed,
            Storage::Chunked { chunk, .. } => {
                let bytes = product(chunk).and_then(|elements| elements.checked_mul(size));
                if bytes.is_none_or(|bytes| bytes > packed) {
                    return Err(
                        self.too_large(format!("chunks of {}", shape_name(chunk)), self.packs(packed))
                    );
                }
                packed
            }
        };
        if elements * size > limit {
            let held = match &self.storage {
                Storage::Compact | Storage::Contiguous(Some(_)) => {
                    format!("the file holds {limit} bytes there")
                }
                _ => self.packs(limit),
            };
            return Err(self.too_large(format!("{} bytes ({shape})", elements * size), held));
        }
        Ok(elements)
    }

    fn packs(&self, limit: u64) -> String {
        format!("a file of {} bytes cannot pack more than {limit}", self.file.size())
    }

    fn too_large(&self, claimed: String, limit: String) -> Error {
        Error::TooLarge { path: self.file.path().to_owned(), dataset: self.path.clone(), claimed, limit }
    }

    pub(super) fn unexpected(&self, found: String, expected: impl Into<String>) -> Error {
        self.file.unexpected(&self.path, found, expected)
    }

    /// Its path in the file.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Lengths of its dimensions, slowest first; empty for a scalar.
    #[must_use]
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// What its elements are.
    #[must_use]
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// How it is stored.
    #[must_use]
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Number of elements.
    #[must_use]
    pub fn elements(&self) -> u64 {
        self.elements
    }

    /// How many attributes it has.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    pub fn attributes(&self) -> Result<usize, Error> {
        self.dataset.attrs().map(|all| all.len()).map_err(|source| self.file.failed(&self.path, source))
    }

    /// The number type.
    ///
    /// # Errors
    ///
    /// Its elements are not numbers.
    pub fn numeric(&self) -> Result<Numeric, Error> {
        match self.kind {
            Kind::Numeric(numeric) => Ok(numeric),
            _ => Err(self.unexpected(self.kind.name(), "a number")),
        }
    }

    /// The raw bytes of elements `start..start + count`, in the order of the file.
    ///
    /// # Errors
    ///
    /// They are outside of the dataset, cannot be read or decoded, or lie in a chunked part of over 1 GiB.
    pub fn run(&self, start: u64, count: u64) -> Result<Vec<u8>, Error> {
        let end = start.checked_add(count).filter(|end| *end <= self.elements);
        let Some(end) = end else {
            let what = format!("elements {start} to {} of `{}`", start.saturating_add(count), self.path);
            return Err(Error::OutOfRange { what, limit: format!("{} elements", self.elements) });
        };
        if count == 0 {
            return Ok(Vec::new());
        }
        let size = self.kind.size() as u64;
        match self.storage {
            Storage::Contiguous(Some(address)) => {
                let mut bytes = vec![0; self.length(count * size)?];
                self.file.read_at(address + start * size, &mut bytes)?;
                Ok(bytes)
            }
            _ => self.decoded(start, end),
        }
    }

    /// A length in memory; no platform that we build for has less than 64 bits.
    fn length(&self, bytes: u64) -> Result<usize, Error> {
        usize::try_from(bytes)
            .map_err(|_| self.too_large(format!("{bytes} bytes"), "memory has fewer addresses".to_owned()))
    }

    /// A run out of single chunks, or out of rows that are decoded as a whole. The last are kept: runs come in their order.
    fn decoded(&self, start: u64, end: u64) -> Result<Vec<u8>, Error> {
        if let Some(chunks) = self.chunks()? {
            let mut chunks = chunks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            return chunks.run(self.file, start, end);
        }
        let size = self.kind.size() as u64;
        let row = self.elements / self.shape.first().copied().unwrap_or(1).max(1);
        let (first, last) = (start / row, end.div_ceil(row));
        let mut slab = self.slab.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let held = slab.as_ref().is_some_and(|(from, to, _)| *from <= first && last <= *to);
        if !held {
            *slab = None;
            let bytes = self.rows(first, last, row * size)?;
            *slab = Some((first, last, bytes));
        }
        let (from, bytes) = slab.as_ref().map_or((0, &[][..]), |(from, _, bytes)| (*from, bytes.as_slice()));
        let at = self.length((start - from * row) * size)?;
        let length = self.length((end - start) * size)?;
        let part = bytes.get(at..at + length);
        part.map(<[u8]>::to_vec).ok_or_else(|| self.short(bytes.len()))
    }

    fn rows(&self, first: u64, last: u64, row_bytes: u64) -> Result<Vec<u8>, Error> {
        let bytes = (last - first) * row_bytes;
        if bytes > SLAB_BYTES_MAX {
            let path = self.file.path().to_owned();
            return Err(Error::PartTooLarge {
                path,
                dataset: self.path.clone(),
                bytes,
                limit: SLAB_BYTES_MAX,
            });
        }
        let raw = self.dataset.read_raw_rows(first, last - first);
        let raw = raw.map_err(|source| self.file.failed(&self.path, source))?;
        if raw.len() as u64 == bytes { Ok(raw) } else { Err(self.short(raw.len())) }
    }

    /// What decodes single chunks; `None` if the dataset has none, or only `hdf5-pure` can. That takes memory for a chunk
    /// before it reads it, up to 4 GiB where an index says so: hence all of them are compared with the file first.
    fn chunks(&self) -> Result<Option<&Mutex<Chunks>>, Error> {
        let Storage::Chunked { chunk, filters } = &self.storage else { return Ok(None) };
        if let Some(chunks) = self.chunks.get() {
            return Ok(chunks.as_ref());
        }
        let all = self.dataset.chunks().map_err(|source| self.file.failed(&self.path, source))?;
        let size = self.file.size();
        for one in &all {
            if one.address.checked_add(one.storage_size).is_none_or(|end| end > size) {
                let claimed = format!("a chunk of {} bytes at {}", one.storage_size, one.address);
                return Err(self.too_large(claimed, format!("the file ends at {size}")));
            }
        }
        let chunks = Chunks::new(&self.path, &self.shape, chunk, self.kind.size(), filters, &all);
        Ok(self.chunks.get_or_init(|| chunks.map(Mutex::new)).as_ref())
    }

    /// `hdf5-pure` gives fewer bytes than the shape says for some types, and says nothing.
    fn short(&self, found: usize) -> Error {
        let expected = self.elements * self.kind.size() as u64;
        self.unexpected(format!("{found} bytes long"), format!("the {expected} bytes that its shape says"))
    }

    fn whole(&self) -> Result<Vec<u8>, Error> {
        let packed = self.file.size().saturating_mul(WHOLE_PACKED_MAX).max(CLAIM_BYTES_FREE);
        let most = packed.min(WHOLE_ELEMENTS_MAX);
        if self.elements > most {
            let limit = format!("{most} is the most that is read as a whole from a file of this size");
            return Err(self.too_large(format!("{} elements", self.elements), limit));
        }
        self.run(0, self.elements)
    }

    /// All elements as complex numbers; the imaginary part of real ones is 0.
    ///
    /// # Errors
    ///
    /// They are not numbers, more than 2^26, more than the file can plausibly hold, or cannot be read.
    pub fn complexes(&self) -> Result<Vec<Complex<f64>>, Error> {
        let numeric = self.numeric()?;
        let raw = self.whole()?;
        Ok(numeric.elements(&raw).map(|element| numeric.complex(element)).collect())
    }

    /// All elements as `f64`.
    ///
    /// # Errors
    ///
    /// As [`Stored::complexes`], and if they are complex.
    pub fn floats(&self) -> Result<Vec<f64>, Error> {
        let numeric = self.numeric()?;
        if numeric.is_complex() {
            return Err(self.unexpected(self.kind.name(), "a real number"));
        }
        let raw = self.whole()?;
        Ok(numeric.elements(&raw).map(|element| numeric.complex(element).re).collect())
    }

    /// All elements as exact integers.
    ///
    /// # Errors
    ///
    /// As [`Stored::complexes`], and if they are no integers of the range of `i64`.
    pub fn integers(&self) -> Result<Vec<i64>, Error> {
        let numeric = self.numeric()?;
        if numeric.is_complex() || !numeric.number.is_integer() {
            return Err(self.unexpected(self.kind.name(), "an integer"));
        }
        let raw = self.whole()?;
        let integers: Option<Vec<_>> =
            numeric.elements(&raw).map(|element| numeric.integer(element)).collect();
        integers.ok_or_else(|| self.unexpected("an integer above 2^63".to_owned(), "in the range of Int64"))
    }

    /// All elements as text. Fixed ones end at their first NUL byte or at the padding.
    ///
    /// # Errors
    ///
    /// They are no text, not UTF-8, more than a million or 16 MiB, or cannot be read.
    pub fn texts(&self) -> Result<Vec<String>, Error> {
        let failed = |source| self.file.failed(&self.path, source);
        let texts = match self.kind {
            Kind::Text { fixed: None } => {
                let options = VlenStringReadOptions::new();
                let options = options.with_max_elements(TEXTS_MAX).with_max_payload_bytes(TEXT_BYTES_MAX);
                self.dataset.read_vlen_strings(options).map_err(failed)?
            }
            Kind::Text { fixed: Some(size) } => self.fixed_texts(size)?,
            _ => return Err(self.unexpected(self.kind.name(), "text")),
        };
        if texts.len() as u64 == self.elements {
            Ok(texts)
        } else {
            Err(self.unexpected(format!("{} texts", texts.len()), format!("{} texts", self.elements)))
        }
    }

    fn fixed_texts(&self, size: usize) -> Result<Vec<String>, Error> {
        if self.elements * size as u64 > TEXT_BYTES_MAX as u64 || size == 0 {
            let limit = format!("texts of 1 to {TEXT_BYTES_MAX} bytes in all are read");
            return Err(self.too_large(format!("{} texts of {size} bytes", self.elements), limit));
        }
        let raw = self.run(0, self.elements)?;
        let text = |element: &[u8]| {
            let end = element.iter().position(|byte| *byte == 0).unwrap_or(element.len());
            let text = std::str::from_utf8(element.get(..end).unwrap_or_default());
            text.map(|text| text.trim_end_matches(' ').to_owned())
                .map_err(|error| self.unexpected(format!("text with a broken character ({error})"), "UTF-8"))
        };
        raw.chunks_exact(size).map(text).collect()
    }
}

/// A shape in numbers, such as `4 x 1 x 3`.
#[must_use]
pub fn shape_name(shape: &[u64]) -> String {
    if shape.is_empty() {
        return "a scalar".to_owned();
    }
    shape.iter().map(u64::to_string).collect::<Vec<_>>().join(" x ")
}
