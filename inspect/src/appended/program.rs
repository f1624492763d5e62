//! Archives behind the end of an ELF or PE program.

use memchr::memmem;

use super::{Payload, magic};
use crate::Error;
use crate::archive::{self, Format, Recognised, Source};

/// Payloads of one program: a bundle of WiX has a few cabinets, others have one.
const PAYLOADS: usize = 16;
/// Bytes behind the program, and behind each payload, in which the next one is looked for.
const SEARCH: u64 = 32 << 20;
/// Bytes searched at once.
const CHUNK: usize = 1 << 20;
/// Places that look like the beginning of an archive and are examined.
const CANDIDATES: usize = 256;
/// The record at the end of a zip archive, its longest comment, and the signature of a Windows program behind it.
const ZIP_END: u64 = 22 + (64 << 10) + (64 << 10);
/// Where an ISO 9660 image says that it is one (ECMA-119, 8.4): sector 16, behind the type.
const ISO_MAGIC: u64 = 16 * 2048 + 1;

/// Magic numbers that are searched for, each with where it stands in what it belongs to. Shorter ones occur by chance.
const SEARCHED: [(&[u8], usize); 9] = [
    (b"hsqs", 0),
    (b"7z\xbc\xaf\x27\x1c\0", 0),
    (b"MSCF\0\0\0\0", 0),
    (b"\xfd7zXZ\0", 0),
    (b"\x1f\x8b\x08", 0),
    (b"BZh91AY&SY", 0),
    (magic::NSIS, 4),
    (magic::INNO_DATA, 0),
    (magic::INSTALL_SHIELD, 0),
];

pub(super) fn payloads(source: &mut Source<'_>, offset: u64) -> Result<Vec<Payload>, Error> {
    let length = source.len();
    if offset < ISO_MAGIC && source.read_at(ISO_MAGIC, 5)? == b"CD001" {
        return Ok(vec![Payload { offset: 0, size: length, format: Format::Iso }]);
    }
    let first = next(source, offset, length, true)?;
    // What lies inside an archive that begins right behind the program, or that says how long it is, is a member of it.
    let inside = |begin: u64| {
        first.is_some_and(|first| {
            let whole = match first.format {
                Format::Squashfs | Format::Cabinet | Format::SevenZip | Format::Recognised(_) => true,
                Format::Zip | Format::Wheel | Format::Elf | Format::Pe => false,
                _ => first.offset == offset,
            };
            whole && begin > first.offset && begin < first.offset.saturating_add(first.size)
        })
    };
    if let Some(package) = archive::pyinstaller::find(source)?.filter(|package| !inside(package.offset)) {
        let (offset, size) = (package.offset, package.size);
        return Ok(vec![Payload { offset, size, format: Format::PyInstaller }]);
    }
    let zip = zip_at_end(source, offset)?.filter(|zip| !inside(zip.offset));
    // Nothing else is looked for in a zip archive, whose members may be archives.
    let end = zip.map_or(length, |zip| zip.offset.max(offset));
    let mut found = Vec::new();
    let mut at = offset;
    while at < end && found.len() < PAYLOADS {
        let Some(payload) = next(source, at, end, at == offset)? else { break };
        found.push(payload);
        at = payload.offset.saturating_add(payload.size.max(1));
        // What follows belongs to the installer.
        if matches!(payload.format, Format::Recognised(_)) {
            break;
        }
    }
    found.extend(zip);
    found.sort_by_key(|payload| payload.offset);
    Ok(found)
}

/// The first payload from `at` on. Right behind the program anything may begin that can be recognised at all.
fn next(source: &mut Source<'_>, at: u64, end: u64, first: bool) -> Result<Option<Payload>, Error> {
    if let Some(payload) = examine(source, at, end, first)? {
        return Ok(Some(payload));
    }
    let stop = end.min(at.saturating_add(SEARCH));
    let mut candidates = CANDIDATES;
    let mut begin = at;
    while begin < stop {
        let want = usize::try_from(stop - begin).unwrap_or(CHUNK).min(CHUNK);
        let chunk = source.read_at(begin, want)?;
        let mut places: Vec<usize> = SEARCHED
            .iter()
            .flat_map(|(magic, inside)| {
                memmem::find_iter(&chunk, magic)
                    .take(CANDIDATES)
                    .filter_map(move |at| at.checked_sub(*inside))
            })
            .collect();
        places.sort_unstable();
        for place in places {
            if candidates == 0 {
                return Ok(None);
            }
            candidates -= 1;
            if let Some(payload) = examine(source, begin.saturating_add(place as u64), end, false)? {
                return Ok(Some(payload));
            }
        }
        // A magic number may lie across two pieces.
        if chunk.len() < CHUNK {
            break;
        }
        begin = begin.saturating_add((CHUNK - 64) as u64);
    }
    Ok(None)
}

/// Whether an archive begins at a place.
fn examine(source: &mut Source<'_>, at: u64, end: u64, anything: bool) -> Result<Option<Payload>, Error> {
    let head = source.read_at(at, magic::HEAD)?;
    let Some(claim) = magic::claim(&head) else { return Ok(None) };
    let rest = end.saturating_sub(at);
    let size = declared_size(claim, &head).filter(|&size| size > 0 && size <= rest);
    if size.is_none() && matches!(claim, Format::Squashfs | Format::Cabinet | Format::SevenZip) && !anything {
        return Ok(None);
    }
    let size = size.unwrap_or(rest);
    let format = magic::format_at(source, at, size, claim);
    // Compressed data occurs in programs; found by searching, it is a payload only if it is an archive.
    if matches!(format, Format::Compressed(_)) && !anything {
        return Ok(None);
    }
    Ok(Some(Payload { offset: at, size, format }))
}

/// The size of an archive, where its head says it.
fn declared_size(claim: Format, head: &[u8]) -> Option<u64> {
    let number = |at: usize| Some(u32::from_le_bytes(head.get(at..at.checked_add(4)?)?.try_into().ok()?));
    let long = |at: usize| Some(u64::from_le_bytes(head.get(at..at.checked_add(8)?)?.try_into().ok()?));
    match claim {
        Format::Squashfs => archive::squashfs_size(head),
        // `cbCabinet` ([MS-CAB] 2.1).
        Format::Cabinet => number(8).map(u64::from),
        // The end header lies `NextHeaderOffset` behind the signature header (7zFormat.txt).
        Format::SevenZip => 32_u64.checked_add(long(12)?)?.checked_add(long(20)?),
        // `length_of_all_following_data` counts from `flags` on.
        Format::Recognised(Recognised::Nsis) => number(24).map(u64::from),
        _ => None,
    }
}

/// A zip archive whose end record lies at the end of the file (APPNOTE.TXT, 4.3.16). Its offsets count from its own
/// beginning, or from that of the program.
fn zip_at_end(source: &mut Source<'_>, offset: u64) -> Result<Option<Payload>, Error> {
    let begin = source.len().saturating_sub(ZIP_END).max(offset);
    let tail = source.read_at(begin, usize::try_from(ZIP_END).unwrap_or(0))?;
    // Searching backwards is several times slower than forwards.
    let places: Vec<usize> = memmem::find_iter(&tail, b"PK\x05\x06").collect();
    for at in places.into_iter().rev().take(CANDIDATES) {
        let Some(record) = tail.get(at..at.saturating_add(22)) else { continue };
        let number = |at: usize| record.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        let (Some(size), Some(start)) = (number(12), number(16)) else { continue };
        let (size, start) = (u64::from(u32::from_le_bytes(size)), u64::from(u32::from_le_bytes(start)));
        let position = begin.saturating_add(at as u64);
        let comment =
            record.get(20..22).and_then(|bytes| bytes.try_into().ok()).map_or(0, u16::from_le_bytes);
        let end = position.saturating_add(22 + u64::from(comment)).min(source.len());
        // What precedes the archive is the difference between where its directory is and where it says it is.
        let Some(directory) = position.checked_sub(size) else { continue };
        let Some(prefix) = directory.checked_sub(start) else { continue };
        if size > 0 && source.read_at(directory, 4)? != b"PK\x01\x02" {
            continue;
        }
        let size = end.saturating_sub(prefix);
        let format = magic::format_at(source, prefix, size, Format::Zip);
        let format = if matches!(format, Format::Zip | Format::Wheel) { format } else { Format::Zip };
        return Ok(Some(Payload { offset: prefix, size, format }));
    }
    Ok(None)
}
