//! Files that are no archives: one entry each, compressed or not.

use std::io::{self, Read};

use super::guard::Guard;
use super::stream::{Walk, deliver};
use super::{
    Compression, Entry, EntryKind, Limits, MemberPath, Part, Source, Visit, decompress, detect, printable,
};
use crate::Error;

/// A program or script: one entry, named like the file.
pub(super) fn walk<E: From<Error>>(
    walk: &mut Walk<'_>,
    source: &mut Source<'_>,
    visit: &mut Visit<'_, E>,
) -> Result<(), E> {
    let entry = entry(
        walk,
        source.name().to_owned().file_name().unwrap_or_default().as_encoded_bytes(),
        source.len(),
    )?;
    walk.admit(&mut Guard::default(), &entry)?;
    source.go(0)?;
    deliver(walk.archive, Part::Data, &entry, source, visit)
}

/// A compressed file: one entry, named like the file without its ending.
///
/// It is unpacked twice, the first time to learn its size, which the formats do not say reliably.
pub(super) fn walk_compressed<E: From<Error>>(
    walk: &mut Walk<'_>,
    source: &mut Source<'_>,
    compression: Compression,
    visit: &mut Visit<'_, E>,
) -> Result<(), E> {
    let size = unpacked_size(walk, source, compression)?;
    let name = source.name().to_owned();
    let name = name.file_name().unwrap_or_default().as_encoded_bytes();
    let endings: [&[u8]; 7] = [b".gz", b".xz", b".zst", b".bz2", b".lz4", b".lzma", b".lz"];
    let stem = endings.iter().find_map(|ending| name.strip_suffix(*ending)).unwrap_or(name);
    let entry = entry(walk, stem, size)?;
    walk.admit(&mut Guard::default(), &entry)?;
    source.go(0)?;
    let path = walk.archive;
    let mut stream = decompress::reader(source, compression, walk.limits).map_err(|e| Error::io(path, e))?;
    deliver(path, Part::Data, &entry, &mut stream, visit)
}

fn unpacked_size(
    walk: &mut Walk<'_>,
    source: &mut Source<'_>,
    compression: Compression,
) -> Result<u64, Error> {
    source.go(0)?;
    let path = walk.archive;
    let mut stream = decompress::reader(source, compression, walk.limits).map_err(|e| Error::io(path, e))?;
    let mut buffer = vec![0_u8; 128 << 10];
    let mut size = 0;
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(size),
            Ok(got) => {
                size += got as u64;
                walk.check_room(size)?;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::decoding(path, "the compressed stream", e)),
        }
    }
}

fn entry(walk: &Walk<'_>, name: &[u8], size: u64) -> Result<Entry, Error> {
    let path = MemberPath::parse(name, walk.limits)
        .map_err(|what| Error::hostile(walk.archive, printable(name), what))?;
    Ok(Entry {
        path,
        kind: EntryKind::File { size },
        mode: 0o644,
        uid: 0,
        gid: 0,
        xattrs: false,
        xattr_names: Vec::new(),
        capabilities: None,
    })
}

/// The first bytes of a compressed file, as far as they can be unpacked: at most `length`, a small number.
pub(crate) fn unpacked_head(bytes: &[u8], length: usize) -> Vec<u8> {
    let mut head = Vec::new();
    if let Some(compression) = detect::compression_of(bytes)
        && let Ok(stream) = decompress::reader(bytes, compression, &Limits::default())
    {
        // What breaks later is noticed when the file is opened.
        let _whole = stream.take(length as u64).read_to_end(&mut head).is_ok();
    }
    head
}
