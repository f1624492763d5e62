//! Mutations that keep a container parseable, so that executions do not end at its first checksum.
//!
//! They work on the input itself: whatever is found is a file as it could be on disk. One in four mutants is left as
//! libFuzzer made it.

use libfuzzer_sys::fuzzer_mutate;

use crate::repair;

/// Bytes before the first volume descriptor of an ISO 9660 image, which nothing reads.
const ISO_HEAD: usize = 32 << 10;

/// Mutates bytes or whole blocks of a tar archive.
#[must_use]
pub fn tar(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let size = match seed % 8 {
        1 => move_blocks(data, size, max_size, seed),
        _ => fuzzer_mutate(data, size, max_size),
    };
    repaired(data, size, seed, repair::tar)
}

/// Mutates one member of a Debian package, and makes the container fit.
#[must_use]
pub fn deb(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let members = repair::ar_members(&data[..size]);
    if members.is_empty() || seed.is_multiple_of(4) {
        return fuzzer_mutate(data, size, max_size);
    }
    let (at, length) = members[seed as usize / 4 % members.len()];
    let room = max_size.saturating_sub(size - length + 1);
    let mut content = data[at..at + length].to_vec();
    content.resize(room.max(length), 0);
    let new = tar(&mut content, length, room, seed / 64).min(room);
    repair::replace_ar_content(data, size, (at, length), &content[..new]).unwrap_or(size)
}

/// Mutates a zip archive and sets its checksums.
#[must_use]
pub fn zip(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let size = fuzzer_mutate(data, size, max_size);
    repaired(data, size, seed, repair::zip)
}

/// Mutates a cabinet and switches its checksums off.
#[must_use]
pub fn cab(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let size = fuzzer_mutate(data, size, max_size);
    repaired(data, size, seed, |bytes| _ = repair::cab(bytes))
}

/// Mutates what counts of an ISO 9660 image.
#[must_use]
pub fn iso(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    if seed.is_multiple_of(16) || size <= ISO_HEAD || max_size <= ISO_HEAD {
        return fuzzer_mutate(data, size, max_size);
    }
    ISO_HEAD + fuzzer_mutate(&mut data[ISO_HEAD..], size - ISO_HEAD, max_size - ISO_HEAD)
}

fn repaired(data: &mut [u8], size: usize, seed: u32, repair: impl Fn(&mut [u8])) -> usize {
    if !seed.is_multiple_of(4) {
        repair(&mut data[..size]);
    }
    size
}

/// Removes, repeats or exchanges 512-byte blocks.
fn move_blocks(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let blocks = size / repair::BLOCK;
    if blocks < 2 {
        return fuzzer_mutate(data, size, max_size);
    }
    let at = |number: u32| number as usize % blocks * repair::BLOCK;
    let (from, to) = (at(seed / 32), at(seed / 8192));
    match seed / 8 % 4 {
        0 => {
            data.copy_within(from + repair::BLOCK..size, from);
            size - repair::BLOCK
        }
        1 if size + repair::BLOCK <= max_size => {
            data.copy_within(to..size, to + repair::BLOCK);
            size + repair::BLOCK
        }
        _ => {
            data.copy_within(from..from + repair::BLOCK, to);
            size
        }
    }
}
