//! Makes room in HDF5 metadata: a dataset of one element becomes one of any shape whose bytes follow the metadata.
//!
//! `hdf5-pure` holds what it writes in memory. So it lays out a file whose large dataset has one element, and three
//! places are changed then: the dataset's lengths, where its bytes are, and where the file ends. Source of the places:
//! the HDF5 File Format Specification, version 3.0, sections II.A (superblock), IV.A.1.b (object headers), IV.A.2.b
//! (dataspace) and IV.A.2.i (data layout).

use std::ops::Range;

/// Data begin at a multiple of this, so that whoever maps the file gets whole pages.
const ALIGNMENT: u64 = 4096;
/// Message types.
const DATASPACE: u8 = 1;
const LAYOUT: u8 = 8;
/// The class of contiguous data in a layout message.
const CONTIGUOUS: u8 = 1;

/// Where in the bytes two messages of an object header are, and what its checksum covers.
struct Header {
    start: usize,
    end: usize,
    dataspace: usize,
    layout: usize,
}

/// The next place at which data may begin.
pub(super) fn aligned(place: u64) -> Option<u64> {
    place.checked_next_multiple_of(ALIGNMENT)
}

/// Gives the dataset whose bytes are at `address` another shape and the bytes of `place`, which end the file. `None` if
/// the image has no such dataset in the form that `hdf5-pure` writes.
pub(super) fn enlarge(image: &mut [u8], address: u64, shape: &[u64], place: Range<u64>) -> Option<()> {
    let header = headers(image).find(|header| at(image, header.layout + 2) == Some(address))?;
    let version = *image.get(header.dataspace)?;
    let rank = usize::from(*image.get(header.dataspace + 1)?);
    // Bit 0: largest lengths follow, which `hdf5-pure` writes for datasets that can grow.
    if rank != shape.len() || image.get(header.dataspace + 2)? & 1 != 0 {
        return None;
    }
    let lengths = header.dataspace + if version == 1 { 8 } else { 4 };
    for (index, length) in shape.iter().enumerate() {
        put(image, lengths + 8 * index, *length)?;
    }
    put(image, header.layout + 2, place.start)?;
    put(image, header.layout + 10, place.end - place.start)?;
    seal(image, header.start, header.end)?;
    superblock(image, place.end)
}

/// Writes where the file ends. Versions 2 and 3: signature 8, version 1, widths 2, flags 1, base 8, extension 8, end 8,
/// root 8, checksum 4.
fn superblock(image: &mut [u8], end: u64) -> Option<()> {
    let wide = image.get(9..11)? == [8, 8];
    if !image.starts_with(b"\x89HDF\r\n\x1a\n") || !matches!(image.get(8)?, 2 | 3) || !wide {
        return None;
    }
    put(image, 28, end)?;
    seal(image, 0, 44)
}

/// Every object header of version 2 that has a dataspace and a contiguous layout.
fn headers(image: &[u8]) -> impl Iterator<Item = Header> {
    let starts = image.windows(4).enumerate().filter(|(_, bytes)| *bytes == b"OHDR");
    starts.filter_map(|(start, _)| header(image, start))
}

fn header(image: &[u8], start: usize) -> Option<Header> {
    let flags = *image.get(start + 5)?;
    if *image.get(start + 4)? != 2 {
        return None;
    }
    let times = if flags & 0x20 != 0 { 16 } else { 0 };
    let phases = if flags & 0x10 != 0 { 4 } else { 0 };
    let width = 1_usize << (flags & 3);
    let size_at = start + 6 + times + phases;
    let size = image
        .get(size_at..size_at + width)?
        .iter()
        .rev()
        .fold(0_usize, |all, byte| (all << 8) | usize::from(*byte));
    let mut place = size_at + width;
    let end = place.checked_add(size)?;
    let head = if flags & 0x04 != 0 { 6 } else { 4 };
    let (mut dataspace, mut layout) = (None, None);
    while place + head <= end {
        let length = usize::from(u16::from_le_bytes(image.get(place + 1..place + 3)?.try_into().ok()?));
        let body = place + head;
        match *image.get(place)? {
            DATASPACE => dataspace = Some(body),
            LAYOUT if image.get(body + 1) == Some(&CONTIGUOUS) => layout = Some(body),
            _ => {}
        }
        place = body + length;
    }
    Some(Header { start, end, dataspace: dataspace?, layout: layout? })
}

fn at(image: &[u8], place: usize) -> Option<u64> {
    Some(u64::from_le_bytes(image.get(place..place + 8)?.try_into().ok()?))
}

fn put(image: &mut [u8], place: usize, value: u64) -> Option<()> {
    image.get_mut(place..place + 8)?.copy_from_slice(&value.to_le_bytes());
    Some(())
}

/// Writes the checksum of `start..end` behind it.
fn seal(image: &mut [u8], start: usize, end: usize) -> Option<()> {
    let sum = lookup3(image.get(start..end)?);
    image.get_mut(end..end + 4)?.copy_from_slice(&sum.to_le_bytes());
    Some(())
}

/// The checksum of HDF5 metadata: Bob Jenkins' lookup3 with initial value 0 (public domain, 2006).
fn lookup3(bytes: &[u8]) -> u32 {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let mut state = [0xdead_beef_u32.wrapping_add(length); 3];
    let mut rest = bytes;
    while rest.len() > 12 {
        let (block, behind) = rest.split_at(12);
        add(&mut state, block);
        mix(&mut state);
        rest = behind;
    }
    if !rest.is_empty() {
        add(&mut state, rest);
        finish(&mut state);
    }
    state[2]
}

/// Adds up to twelve bytes as three little-endian words; missing ones are 0.
fn add(state: &mut [u32; 3], bytes: &[u8]) {
    for (at, byte) in bytes.iter().enumerate() {
        let word = &mut state[at / 4];
        *word = word.wrapping_add(u32::from(*byte) << (8 * (at % 4)));
    }
}

fn mix([a, b, c]: &mut [u32; 3]) {
    for (rotation, turn) in [(4, 0), (6, 1), (8, 2), (16, 0), (19, 1), (4, 2)] {
        let (x, y, z) = match turn {
            0 => (&mut *a, &mut *c, &mut *b),
            1 => (&mut *b, &mut *a, &mut *c),
            _ => (&mut *c, &mut *b, &mut *a),
        };
        *x = x.wrapping_sub(*y) ^ y.rotate_left(rotation);
        *y = y.wrapping_add(*z);
    }
}

fn finish([a, b, c]: &mut [u32; 3]) {
    for (rotation, turn) in [(14, 0), (11, 1), (25, 2), (16, 0), (4, 1), (14, 2), (24, 0)] {
        let (x, y) = match turn {
            0 => (&mut *c, *b),
            1 => (&mut *a, *c),
            _ => (&mut *b, *a),
        };
        *x = (*x ^ y).wrapping_sub(y.rotate_left(rotation));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_reference() {
        // Values that lookup3.c's own driver prints for its initial value 0.
        assert_eq!(lookup3(b""), 0xdead_beef);
        assert_eq!(lookup3(b"Four score and seven years ago"), 0x1777_0551);
    }

    #[test]
    fn headers_and_superblocks_of_another_form_are_left() {
        let mut image = vec![0; 64];
        assert_eq!(enlarge(&mut image, 48, &[1], 64..72), None);
        assert!(superblock(&mut image, 64).is_none());
        assert!(image.iter().all(|byte| *byte == 0));
    }
}
