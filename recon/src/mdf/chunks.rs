//! Chunked data by single chunks. `hdf5-pure` decodes whole rows of the first dimension, and of data with the frame axis
//! fastest, one such row is often everything.

use std::collections::{HashMap, VecDeque};
use std::io::Read;

use flate2::read::ZlibDecoder;

use super::File;
use crate::Error;

/// Decoded chunks that are kept: the rows that are read next lie in the same ones.
const CACHE_BYTES: usize = 32 << 20;
/// The filters that are undone here, by their numbers in HDF5.
const DEFLATE: u16 = 1;
const SHUFFLE: u16 = 2;

/// Where a chunk is in the file.
#[derive(Debug, Clone, Copy)]
struct Place {
    address: u64,
    bytes: u64,
    /// Filters that this chunk has not, by bits.
    skipped: u32,
}

/// The chunks of a dataset.
#[derive(Debug)]
pub(super) struct Chunks {
    path: String,
    shape: Vec<u64>,
    chunk: Vec<u64>,
    size: usize,
    filters: Vec<u16>,
    places: HashMap<u64, Place>,
    /// Decoded chunks by their numbers, the last one used last.
    cache: VecDeque<(u64, Vec<u8>)>,
    cached: usize,
}

impl Chunks {
    /// The chunks of a dataset of `size` bytes an element, whose places are known to lie within the file. `None` if they
    /// have filters that are not undone here, if some were never written, or if those along the last dimension do not fit
    /// into the cache together: each would be decoded again and again.
    pub(super) fn new(
        path: &str,
        shape: &[u64],
        chunk: &[u64],
        size: usize,
        filters: &[u16],
        all: &[hdf5_pure::Chunk],
    ) -> Option<Self> {
        let known = filters.iter().all(|filter| matches!(*filter, DEFLATE | SHUFFLE));
        if !known || chunk.len() != shape.len() || shape.is_empty() || chunk.contains(&0) {
            return None;
        }
        let mut chunks = Self {
            path: path.to_owned(),
            shape: shape.to_vec(),
            chunk: chunk.to_vec(),
            size,
            filters: filters.to_vec(),
            places: HashMap::new(),
            cache: VecDeque::new(),
            cached: 0,
        };
        for one in all {
            let place = Place { address: one.address, bytes: one.storage_size, skipped: one.filter_mask };
            let number =
                chunks.number(one.offset.iter().zip(chunk).map(|(offset, length)| offset / length))?;
            chunks.places.insert(number, place);
        }
        let grid = chunks.grid().try_fold(1_u64, u64::checked_mul)?;
        let bytes = chunk.iter().try_fold(size as u64, |all, length| all.checked_mul(*length))?;
        let line = bytes.checked_mul(chunks.grid().last()?)?;
        (chunks.places.len() as u64 == grid && line <= CACHE_BYTES as u64).then_some(chunks)
    }

    /// Numbers of chunks along each dimension.
    fn grid(&self) -> impl Iterator<Item = u64> {
        self.shape.iter().zip(&self.chunk).map(|(length, chunk)| length.div_ceil(*chunk))
    }

    /// The number of a chunk from its coordinates in the grid.
    fn number(&self, coordinates: impl Iterator<Item = u64>) -> Option<u64> {
        let mut all = coordinates.zip(self.grid());
        all.try_fold(0_u64, |number, (at, length)| number.checked_mul(length)?.checked_add(at))
    }

    /// The bytes of elements `start..end`, which are in the dataset.
    pub(super) fn run(&mut self, file: &File, start: u64, end: u64) -> Result<Vec<u8>, Error> {
        let size = self.size as u64;
        let mut out = Vec::with_capacity(usize::try_from((end - start) * size).unwrap_or(0));
        let mut at = start;
        let mut coordinates = vec![0; self.shape.len()];
        while at < end {
            let mut rest = at;
            for (coordinate, length) in coordinates.iter_mut().zip(&self.shape).rev() {
                *coordinate = rest % length;
                rest /= length;
            }
            // As far as the chunk, the last dimension and the run go.
            let (last, length) = (coordinates.last().copied(), self.shape.last().copied());
            let (last, width) = (last.unwrap_or(0), self.chunk.last().copied().unwrap_or(1));
            let count = (width - last % width).min(length.unwrap_or(1) - last).min(end - at);
            let within = coordinates.iter().zip(&self.chunk);
            let within = within.fold(0_u64, |place, (at, length)| place * length + at % length);
            let number = self.number(coordinates.iter().zip(&self.chunk).map(|(at, length)| at / length));
            let chunk = self.decoded(file, number.unwrap_or(u64::MAX))?;
            let range =
                usize::try_from(within * size).ok().zip(usize::try_from((within + count) * size).ok());
            let Some(part) = range.and_then(|(from, to)| chunk.get(from..to)) else {
                return Err(self.broken(file, "shorter than its shape says"));
            };
            out.extend_from_slice(part);
            at += count;
        }
        Ok(out)
    }

    fn broken(&self, file: &File, found: &str) -> Error {
        file.unexpected(&self.path, format!("in chunks of which one is {found}"), "whole")
    }

    /// A chunk, decoded now or before.
    fn decoded(&mut self, file: &File, number: u64) -> Result<&[u8], Error> {
        if let Some(at) = self.cache.iter().position(|(held, _)| *held == number) {
            if let Some(chunk) = self.cache.remove(at) {
                self.cache.push_back(chunk);
            }
        } else {
            let bytes = self.decode(file, number)?;
            self.cached += bytes.len();
            self.cache.push_back((number, bytes));
            while self.cached > CACHE_BYTES && self.cache.len() > 1 {
                self.cached -= self.cache.pop_front().map_or(0, |(_, bytes)| bytes.len());
            }
        }
        Ok(self.cache.back().map_or(&[], |(_, bytes)| bytes))
    }

    fn decode(&self, file: &File, number: u64) -> Result<Vec<u8>, Error> {
        let place = self.places.get(&number).ok_or_else(|| self.broken(file, "missing"))?;
        let length = self.chunk.iter().product::<u64>() * self.size as u64;
        let mut bytes = vec![0; usize::try_from(place.bytes).unwrap_or(0)];
        file.read_at(place.address, &mut bytes)?;
        for (bit, filter) in self.filters.iter().enumerate().rev() {
            if place.skipped & (1_u32.checked_shl(u32::try_from(bit).unwrap_or(32)).unwrap_or(0)) != 0 {
                continue;
            }
            bytes = match *filter {
                DEFLATE => {
                    let mut out = Vec::with_capacity(usize::try_from(length + 1).unwrap_or(0));
                    // One byte more than a chunk has shows that there are too many.
                    let read = ZlibDecoder::new(bytes.as_slice()).take(length + 1).read_to_end(&mut out);
                    read.map_err(|error| self.broken(file, &format!("damaged: {error}")))?;
                    out
                }
                _ => unshuffled(&bytes, self.size),
            };
        }
        if bytes.len() as u64 == length {
            Ok(bytes)
        } else {
            Err(self.broken(file, "of another length than its shape says"))
        }
    }
}

/// First all first bytes of the elements, then all second ones: back to elements. What is over at the end stays there.
fn unshuffled(bytes: &[u8], size: usize) -> Vec<u8> {
    let count = bytes.len() / size.max(1);
    let mut out = bytes.to_vec();
    for (at, element) in out.chunks_exact_mut(size.max(1)).enumerate() {
        for (byte, plane) in element.iter_mut().zip(bytes.chunks_exact(count.max(1))) {
            *byte = plane[at];
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::unshuffled;

    #[test]
    fn bytes_of_elements_come_together() {
        assert_eq!(unshuffled(b"ace\x01bdf\x02", 2), b"abcdef\x01\x02");
        assert_eq!(unshuffled(b"abcd", 1), b"abcd");
        assert_eq!(unshuffled(b"acbdX", 2), b"abcdX");
        assert_eq!(unshuffled(b"a", 4), b"a");
    }
}
