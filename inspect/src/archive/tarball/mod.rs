//! Reading tar: old, ustar, GNU and PAX.
//!
//! The `tar` crate decodes header fields; its own iterator is not used because it reads GNU long names and PAX headers
//! of any length into memory.

mod extensions;
mod sparse;

use std::borrow::Cow;
use std::io::{self, Read};
use std::path::Path;

use tar::Header;

use self::extensions::Extensions;
use super::guard::Guard;
use super::stream::{Walk, deliver};
use super::{Compression, Entry, EntryKind, MemberPath, Part, Source, Visit, decompress, printable};
use crate::Error;

const BLOCK: usize = 512;

/// Whether the two zero blocks at the end must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// An uncompressed file has no other sign of being complete.
    Required,
    /// A compressed stream or a package member says itself where it ends, and some tools leave the blocks out.
    Optional,
}

pub(super) fn walk_file<E: From<Error>>(
    state: &mut Walk<'_>,
    source: &mut Source<'_>,
    compression: Compression,
    visit: &mut Visit<'_, E>,
) -> Result<(), E> {
    source.go(0)?;
    let path = state.archive;
    let mut stream = decompress::reader(source, compression, state.limits).map_err(|e| Error::io(path, e))?;
    let end = if compression == Compression::None { End::Required } else { End::Optional };
    walk(state, &mut Guard::default(), Part::Data, &mut stream, end, visit)
}

/// Walks one tar stream.
pub(super) fn walk<E: From<Error>>(
    walk: &mut Walk<'_>,
    guard: &mut Guard,
    part: Part,
    stream: &mut dyn Read,
    end: End,
    visit: &mut Visit<'_, E>,
) -> Result<(), E> {
    let mut extensions = Extensions::default();
    loop {
        let Some(block) = next_block(walk, stream)? else {
            if end == End::Required || extensions.any() {
                return Err(
                    Error::truncated(walk.archive, "the end marker of the tar archive is missing").into()
                );
            }
            return Ok(());
        };
        if block.iter().all(|&byte| byte == 0) {
            return walk.drain(stream, "the end of the tar archive").map_err(E::from);
        }
        if !checksum_matches(&block) {
            return Err(Error::corrupt(walk.archive, "a tar header has a wrong checksum").into());
        }
        let header = Header::from_byte_slice(&block);
        if extensions.absorb(walk, header, stream)? {
            continue;
        }
        let extensions = std::mem::take(&mut extensions);
        member(walk, guard, part, (header, &extensions), stream, visit)?;
    }
}

/// One real member: checks it, hands it out, and moves to the next header.
fn member<E: From<Error>>(
    walk: &mut Walk<'_>,
    guard: &mut Guard,
    part: Part,
    (header, extensions): (&Header, &Extensions),
    stream: &mut dyn Read,
    visit: &mut Visit<'_, E>,
) -> Result<(), E> {
    let name = extensions.name(header);
    let mut holes = sparse::read(walk, (header, extensions), &name, stream)?;
    let entry = entry(walk, (header, extensions), &name, holes.as_ref().map(sparse::Map::size))?;
    walk.admit(guard, &entry)?;
    let stored = match (&entry.kind, &mut holes) {
        (EntryKind::File { .. }, Some(map)) => {
            deliver(walk.archive, part, &entry, &mut map.reader(stream), visit)?;
            map.stored()
        }
        (EntryKind::File { size }, None) => {
            deliver(walk.archive, part, &entry, stream, visit)?;
            *size
        }
        // Whatever size they claim, nothing but files has content in a tar.
        _ => {
            deliver(walk.archive, part, &entry, &mut io::empty(), visit)?;
            0
        }
    };
    walk.skip(stream, padding(stored)).map_err(E::from)
}

fn entry(
    walk: &Walk<'_>,
    (header, extensions): (&Header, &Extensions),
    name: &[u8],
    real_size: Option<u64>,
) -> Result<Entry, Error> {
    let path = MemberPath::parse(name, walk.limits)
        .map_err(|what| Error::hostile(walk.archive, printable(name), what))?;
    let old = header.as_old();
    let number = |field: &[u8], value: io::Result<u64>, what: &str| match value {
        Ok(value) => Ok(value),
        // Some writers leave the field blank.
        Err(_) if field.iter().all(|byte| matches!(byte, 0 | b' ')) => Ok(0),
        Err(_) => Err(corrupt_field(walk.archive, name, what)),
    };
    let mode = number(&old.mode, header.mode().map(u64::from), "mode")?;
    Ok(Entry {
        kind: kind(walk, (header, extensions), name, real_size)?,
        path,
        mode: u32::try_from(mode & 0o7777).unwrap_or_default(),
        uid: extensions.uid.map_or_else(|| number(&old.uid, header.uid(), "owner"), Ok)?,
        gid: extensions.gid.map_or_else(|| number(&old.gid, header.gid(), "group"), Ok)?,
        xattrs: !extensions.xattr_names.is_empty(),
        xattr_names: extensions.xattr_names.clone(),
        capabilities: extensions.capabilities.clone(),
    })
}

fn kind(
    walk: &Walk<'_>,
    (header, extensions): (&Header, &Extensions),
    name: &[u8],
    real_size: Option<u64>,
) -> Result<EntryKind, Error> {
    let link = || {
        extensions.link.clone().or_else(|| header.link_name_bytes().map(Cow::into_owned)).unwrap_or_default()
    };
    let size = || real_size.map_or_else(|| stored_size(walk, header, extensions, name), Ok);
    match header.entry_type().as_byte() {
        // A file called `x/` is how the oldest tars spell a directory.
        b'0' | 0 | b'7' if name.ends_with(b"/") => Ok(EntryKind::Directory),
        b'0' | 0 | b'7' | b'S' => Ok(EntryKind::File { size: size()? }),
        b'5' => Ok(EntryKind::Directory),
        b'1' => hardlink(walk, name, &link()),
        b'2' => Ok(EntryKind::Symlink { target: walk.symlink_target(name, &link())? }),
        byte @ (b'3' | b'4') => Ok(EntryKind::Device {
            block: byte == b'4',
            major: header.device_major().ok().flatten().unwrap_or(0),
            minor: header.device_minor().ok().flatten().unwrap_or(0),
        }),
        b'6' => Ok(EntryKind::Fifo),
        other => {
            let what =
                format!("member `{}` is of tar type `{}`", printable(name), char::from(other).escape_debug());
            Err(Error::unsupported(walk.archive, what))
        }
    }
}

fn hardlink(walk: &Walk<'_>, name: &[u8], raw: &[u8]) -> Result<EntryKind, Error> {
    let target = MemberPath::parse(raw, walk.limits).map_err(|what| {
        let target = printable(raw);
        Error::hostile(walk.archive, printable(name), format!("is a hard link to `{target}`, which {what}"))
    })?;
    Ok(EntryKind::Hardlink { target })
}

fn corrupt_field(archive: &Path, name: &[u8], field: &str) -> Error {
    Error::corrupt(archive, format!("member `{}` has an unreadable {field}", printable(name)))
}

/// Bytes of a member's content as it stands in the archive.
fn stored_size(walk: &Walk<'_>, header: &Header, extensions: &Extensions, name: &[u8]) -> Result<u64, Error> {
    if let Some(size) = extensions.size {
        return Ok(size);
    }
    header.entry_size().map_err(|_| corrupt_field(walk.archive, name, "size"))
}

fn padding(size: u64) -> u64 {
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}

fn next_block(walk: &mut Walk<'_>, stream: &mut dyn Read) -> Result<Option<[u8; BLOCK]>, Error> {
    let mut block = [0_u8; BLOCK];
    let mut filled = 0;
    while filled < BLOCK {
        match stream.read(&mut block[filled..]) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(Error::truncated(walk.archive, "it ends inside a tar header")),
            Ok(got) => filled += got,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::decoding(walk.archive, "a tar header", e)),
        }
    }
    walk.count_bytes(BLOCK as u64)?;
    Ok(Some(block))
}

/// The sum of all bytes of a header, its own field counted as spaces. Some old tars summed signed bytes.
pub(super) fn checksum_matches(block: &[u8]) -> bool {
    let (Some(before), Some(field), Some(after)) = (block.get(..148), block.get(148..156), block.get(156..))
    else {
        return false;
    };
    let digits: Vec<u8> =
        field.iter().copied().skip_while(|&b| b == b' ').take_while(u8::is_ascii_digit).collect();
    let Some(stored) = std::str::from_utf8(&digits).ok().and_then(|text| i64::from_str_radix(text, 8).ok())
    else {
        return false;
    };
    let sum = |bytes: &[u8]| bytes.iter().map(|&byte| i64::from(byte)).sum::<i64>();
    let unsigned = sum(before) + 8 * i64::from(b' ') + sum(after);
    if stored == unsigned {
        return true;
    }
    let negative = |bytes: &[u8]| bytes.iter().map(|&byte| i64::from(byte >> 7)).sum::<i64>();
    stored == unsigned - 256 * (negative(before) + negative(after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sums_of_a_header_count() {
        let mut block = [0_u8; BLOCK];
        block[..4].copy_from_slice(b"a\xff\x80b");
        let unsigned = 97 + 255 + 128 + 98 + 8 * 32;
        for (sum, is_right) in [(unsigned, true), (unsigned - 512, true), (unsigned - 256, false), (0, false)]
        {
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            assert_eq!(checksum_matches(&block), is_right, "{sum}");
        }
        block[148..156].copy_from_slice(b" 9\0     ");
        assert!(!checksum_matches(&block));
        assert!(!checksum_matches(&block[..155]));
    }
}
