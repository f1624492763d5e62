//! Scripts with an archive behind their text.

use super::{Payload, encoded, magic, makeself};
use crate::Error;
use crate::archive::{Compression, Format, Recognised, Source};

/// Bytes of a script in which the end of its text is looked for. The longest that vendors ship have some hundred KiB.
const SEARCH: usize = 4 << 20;
/// Places that look like the beginning of an archive and are examined.
const CANDIDATES: usize = 64;
/// The longest magic number less one: an archive that follows no line end begins so many bytes before the first byte
/// that is no text, or later.
const MAGIC: usize = 8;

pub(super) fn payloads(source: &mut Source<'_>) -> Result<Vec<Payload>, Error> {
    let text = source.read_at(0, SEARCH)?;
    if let Some(found) = makeself::payloads(source, &text)? {
        return Ok(found);
    }
    // Behind a marker line (`__ARCHIVE_BELOW__`), behind `exit 0`, or behind a number of lines that is given to `tail -n`:
    // the archive begins where a line does.
    let lines = memchr::memchr_iter(b'\n', &text).map(|end| end + 1);
    if let Some(payload) = first_archive(source, &text, lines) {
        return Ok(vec![payload]);
    }
    // Behind a number of bytes: it begins where text ends.
    if let Some(binary) = text.iter().position(|&byte| is_binary(byte)) {
        let places = binary.saturating_sub(MAGIC)..=binary;
        if let Some(payload) = first_archive(source, &text, places) {
            return Ok(vec![payload]);
        }
    }
    Ok(spelled(source.len(), &text).into_iter().collect())
}

fn is_binary(byte: u8) -> bool {
    matches!(byte, 0..=6 | 14..=26 | 28..=31)
}

fn first_archive(
    source: &mut Source<'_>,
    text: &[u8],
    places: impl Iterator<Item = usize>,
) -> Option<Payload> {
    let claims = places.filter_map(|at| {
        let head = text.get(at..)?;
        let claim = magic::claim(head.get(..magic::HEAD).unwrap_or(head))?;
        Some((at as u64, claim))
    });
    for (offset, claim) in claims.take(CANDIDATES) {
        let size = source.len().saturating_sub(offset);
        let format = magic::format_at(source, offset, size, claim);
        // Two to four bytes are little evidence: a stream must unpack as well.
        if matches!(claim, Format::Compressed(_)) && format == claim && !unpacks(source, offset, claim) {
            continue;
        }
        return Some(Payload { offset, size, format });
    }
    None
}

fn unpacks(source: &mut Source<'_>, offset: u64, claim: Format) -> bool {
    let head = source.read_at(offset, SEARCH).unwrap_or_default();
    // The magic of xz is long enough to be believed, even if the stream is damaged.
    claim == Format::Compressed(Compression::Xz) || !crate::archive::unpacked_head(&head, 1).is_empty()
}

/// An archive as base64 or uuencoded text.
fn spelled(length: u64, text: &[u8]) -> Option<Payload> {
    let uuencoded = encoded::uuencoded_in(text)
        .map(|(at, base64)| (at, if base64 { Recognised::Base64 } else { Recognised::Uuencode }));
    let (at, what) = uuencoded.or_else(|| Some((encoded::base64_in(text)?, Recognised::Base64)))?;
    let offset = at as u64;
    Some(Payload { offset, size: length.saturating_sub(offset), format: Format::Recognised(what) })
}
