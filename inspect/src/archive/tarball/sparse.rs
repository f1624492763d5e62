//! Files with holes, in the four ways GNU tar has written them.

use std::io::{self, Read};

use tar::{GnuExtSparseHeader, GnuSparseHeader, Header};

use super::super::stream::Walk;
use super::extensions::Extensions;
use super::{BLOCK, corrupt_field, next_block, printable, stored_size};
use crate::Error;

/// Where the data of a sparse file belongs.
#[derive(Debug)]
pub(super) struct Map {
    size: u64,
    stored: u64,
    /// Offset and length of each stretch of data, in order, without overlap.
    stretches: Vec<(u64, u64)>,
}

impl Map {
    /// Bytes of the file, holes included.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of data in the archive.
    pub(super) fn stored(&self) -> u64 {
        self.stored
    }

    /// The file as it was: data in its places, zeros between.
    pub(super) fn reader<'r>(&'r self, stream: &'r mut dyn Read) -> Filled<'r> {
        Filled { map: self, stream, at: 0, next: 0 }
    }

    fn new(size: u64, stored: u64, stretches: Vec<(u64, u64)>) -> Option<Self> {
        let mut end = 0_u64;
        let mut data = 0_u64;
        for &(offset, length) in &stretches {
            if offset < end {
                return None;
            }
            end = offset.checked_add(length)?;
            data = data.checked_add(length)?;
        }
        (end <= size && data == stored).then_some(Self { size, stored, stretches })
    }
}

/// Reads the map of a member, and leaves the stream at the beginning of its data; `None` for a file without holes.
pub(super) fn read(
    walk: &mut Walk<'_>,
    (header, extensions): (&Header, &Extensions),
    name: &[u8],
    stream: &mut dyn Read,
) -> Result<Option<Map>, Error> {
    let old = header.entry_type().as_byte() == b'S';
    if !old && extensions.sparse.size.is_none() {
        return Ok(None);
    }
    let mut stored = stored_size(walk, header, extensions, name)?;
    let bad = |walk: &Walk<'_>| {
        Error::corrupt(walk.archive, format!("the map of sparse member `{}`", printable(name)))
    };
    let (size, numbers) = match extensions.sparse.size {
        Some(size) if extensions.sparse.map_in_content => {
            let (numbers, map_bytes) = map_in_content(walk, stream)?;
            stored = stored.checked_sub(map_bytes).ok_or_else(|| bad(walk))?;
            (size, numbers)
        }
        Some(size) => (size, extensions.sparse.map.clone()),
        None => old_map(walk, header, name, stream)?,
    };
    let stretches = numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
    Map::new(size, stored, stretches).map(Some).ok_or_else(|| bad(walk))
}

/// Numbers a map may have: two for each stretch, and a few bytes for each number in the archive.
fn check_length(walk: &Walk<'_>, numbers: usize) -> Result<(), Error> {
    if numbers as u64 > walk.limits.control_bytes / 8 {
        return Err(Error::limit(walk.archive, "map of a sparse file", walk.limits.control_bytes));
    }
    Ok(())
}

/// The GNU format before PAX: four stretches in the header, then blocks of twenty-one.
fn old_map(
    walk: &mut Walk<'_>,
    header: &Header,
    name: &[u8],
    stream: &mut dyn Read,
) -> Result<(u64, Vec<u64>), Error> {
    let unreadable = |walk: &Walk<'_>| corrupt_field(walk.archive, name, "map of its holes");
    let gnu = header.as_gnu().ok_or_else(|| unreadable(walk))?;
    let size = gnu.real_size().map_err(|_| unreadable(walk))?;
    let mut numbers = Vec::new();
    push(&gnu.sparse, &mut numbers).map_err(|_| unreadable(walk))?;
    let mut extended = gnu.is_extended();
    while extended {
        let block = next_block(walk, stream)?
            .ok_or_else(|| Error::truncated(walk.archive, "it ends inside the map of a sparse file"))?;
        let mut more = GnuExtSparseHeader::new();
        more.as_mut_bytes().copy_from_slice(&block);
        push(more.sparse(), &mut numbers).map_err(|_| unreadable(walk))?;
        check_length(walk, numbers.len())?;
        extended = more.is_extended();
    }
    Ok((size, numbers))
}

fn push(headers: &[GnuSparseHeader], numbers: &mut Vec<u64>) -> io::Result<()> {
    for header in headers.iter().filter(|header| !header.is_empty()) {
        numbers.extend([header.offset()?, header.length()?]);
    }
    Ok(())
}

/// Version 1.0: decimal numbers, one per line, the first their count; padded to whole blocks. Yields the map and the
/// bytes it took.
fn map_in_content(walk: &mut Walk<'_>, stream: &mut dyn Read) -> Result<(Vec<u64>, u64), Error> {
    let bad = |walk: &Walk<'_>| Error::corrupt(walk.archive, "the map of a sparse file");
    let mut numbers: Vec<u64> = Vec::new();
    let mut current = String::new();
    let mut bytes = 0;
    loop {
        let block = next_block(walk, stream)?
            .ok_or_else(|| Error::truncated(walk.archive, "it ends inside the map of a sparse file"))?;
        bytes += BLOCK as u64;
        for byte in block {
            match byte {
                b'0'..=b'9' if current.len() < 20 => current.push(char::from(byte)),
                b'\n' => numbers.push(std::mem::take(&mut current).parse().map_err(|_| bad(walk))?),
                _ => return Err(bad(walk)),
            }
            let expected = numbers.first().map(|count| count.saturating_mul(2).saturating_add(1));
            if expected == Some(numbers.len() as u64) {
                numbers.remove(0);
                return Ok((numbers, bytes));
            }
        }
        check_length(walk, numbers.len())?;
    }
}

/// Data and zeros.
pub(super) struct Filled<'r> {
    map: &'r Map,
    stream: &'r mut dyn Read,
    at: u64,
    next: usize,
}

impl Read for Filled<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.map.stretches.get(self.next).is_some_and(|&(offset, length)| self.at >= offset + length) {
            self.next += 1;
        }
        let (data, end) = match self.map.stretches.get(self.next) {
            Some(&(offset, length)) if self.at >= offset => (true, offset + length),
            Some(&(offset, _)) => (false, offset),
            None => (false, self.map.size),
        };
        let want = usize::try_from(end - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let got = if data {
            self.stream.read(&mut buffer[..want])?
        } else {
            buffer[..want].fill(0);
            want
        };
        self.at += got as u64;
        Ok(got)
    }
}
