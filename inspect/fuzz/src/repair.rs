//! Checksums and sizes of mutated containers, set right as far as the containers can still be read.

use std::io::Read;

/// Bytes of a tar block.
pub(crate) const BLOCK: usize = 512;
/// Bytes of a zip member that are unpacked for its checksum.
const ZIP_MEMBER: u64 = 1 << 20;
/// Members and data blocks that are repaired in one file.
const PARTS: usize = 256;

/// Sets the checksum of every header of a tar archive (POSIX.1-1988, "ustar").
pub(crate) fn tar(bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(block) = bytes.get_mut(at..at + BLOCK) {
        at += BLOCK;
        if block.iter().all(|&byte| byte == 0) {
            continue;
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let size = octal(&block[124..136]).unwrap_or(0);
        // Maps of GNU's old sparse files continue in blocks without a checksum.
        let mut extended = block[156] == b'S' && block[482] != 0;
        while extended && let Some(map) = bytes.get(at..at + BLOCK) {
            extended = map[504] != 0;
            at += BLOCK;
        }
        let content = size.div_ceil(BLOCK).saturating_mul(BLOCK);
        if content <= bytes.len().saturating_sub(at) {
            at += content;
        }
    }
}

fn octal(field: &[u8]) -> Option<usize> {
    let digits = std::str::from_utf8(field).ok()?.trim_matches([' ', '\0']);
    usize::from_str_radix(digits, 8).ok()
}

/// Where the contents of an ar archive's members are: offset and length.
pub(crate) fn ar_members(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut members = Vec::new();
    let mut at = 8;
    while let Some(header) = bytes.get(at..at + 60) {
        let text = std::str::from_utf8(&header[48..58]).unwrap_or_default();
        let left = bytes.len() - (at + 60);
        let length = text.trim().parse::<usize>().unwrap_or(left).min(left);
        members.push((at + 60, length));
        at += 60 + length + length % 2;
        if members.len() == PARTS {
            break;
        }
    }
    members
}

/// Puts another content in the place of a member's, with its size in the header. `None` where there is no room.
pub(crate) fn replace_ar_content(
    data: &mut [u8],
    size: usize,
    (at, length): (usize, usize),
    content: &[u8],
) -> Option<usize> {
    let rest = data.get((at + length + length % 2).min(size)..size)?.to_vec();
    let end = at + content.len() + content.len() % 2;
    if end + rest.len() > data.len() {
        return None;
    }
    let digits = format!("{:<10}", content.len());
    data[at - 12..at - 2].copy_from_slice(digits.as_bytes().get(..10)?);
    data[at - 2..at].copy_from_slice(b"`\n");
    data[at..at + content.len()].copy_from_slice(content);
    data[at + content.len()..end].fill(b'\n');
    data[end..end + rest.len()].copy_from_slice(&rest);
    Some(end + rest.len())
}

/// Sets CRC-32 and unpacked size of every member in the directory of a zip (APPNOTE 4.3.7 and 4.3.12).
pub(crate) fn zip(bytes: &mut [u8]) {
    let mut from = 0;
    for _ in 0..PARTS {
        let found = bytes.get(from..).and_then(|rest| memchr::memmem::find(rest, b"PK\x01\x02"));
        let Some(at) = found.map(|found| from + found) else { return };
        from = at + 4;
        let _is_whole = repair_zip_member(bytes, at).is_some();
    }
}

fn repair_zip_member(bytes: &mut [u8], at: usize) -> Option<()> {
    let method = number(bytes, at + 10, 2)?;
    let packed = number(bytes, at + 20, 4)?;
    let local = number(bytes, at + 42, 4)?;
    let start = local + 30 + number(bytes, local + 26, 2)? + number(bytes, local + 28, 2)?;
    let content = bytes.get(start..start.checked_add(packed)?)?;
    let mut plain = Vec::new();
    match method {
        0 => plain.extend_from_slice(content),
        8 => {
            let decoder = flate2::read::DeflateDecoder::new(content);
            decoder.take(ZIP_MEMBER).read_to_end(&mut plain).ok()?;
        }
        _ => return None,
    }
    let crc = crc32fast::hash(&plain).to_le_bytes();
    let size = u32::try_from(plain.len()).ok()?.to_le_bytes();
    for (crc_at, size_at) in [(at + 16, at + 24), (local + 14, local + 22)] {
        bytes.get_mut(crc_at..crc_at + 4)?.copy_from_slice(&crc);
        bytes.get_mut(size_at..size_at + 4)?.copy_from_slice(&size);
    }
    Some(())
}

/// Switches off the checksum of every data block of a cabinet: zero means that there is none ([MS-CAB] 2.3, `CFDATA`).
pub(crate) fn cab(bytes: &mut [u8]) -> Option<()> {
    let folders = number(bytes, 26, 2)?.min(PARTS);
    let flags = number(bytes, 30, 2)?;
    // Reserved areas, as the flag 4 announces them, follow the fixed header.
    let (header, folder_reserve, data_reserve) = if flags & 4 == 0 {
        (36, 0, 0)
    } else {
        (40 + number(bytes, 36, 2)?, number(bytes, 38, 1)?, number(bytes, 39, 1)?)
    };
    for folder in 0..folders {
        let at = header + folder * (8 + folder_reserve);
        let mut block = number(bytes, at, 4)?;
        for _ in 0..number(bytes, at + 4, 2)?.min(PARTS) {
            bytes.get_mut(block..block + 4)?.fill(0);
            block += 8 + data_reserve + number(bytes, block + 4, 2)?;
        }
    }
    Some(())
}

/// A little-endian number of up to four bytes.
fn number(bytes: &[u8], at: usize, length: usize) -> Option<usize> {
    let raw = bytes.get(at..at.checked_add(length)?)?;
    Some(raw.iter().rev().fold(0, |number, &byte| number << 8 | usize::from(byte)))
}
