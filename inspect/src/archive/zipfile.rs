//! Reading zip archives and wheels.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use zip::ZipArchive;
use zip::result::ZipError;

use super::guard::Guard;
use super::stream::{Walk, deliver};
use super::{Entry, EntryKind, Format, Limits, MemberPath, Part, Visit, printable};
use crate::Error;

/// The record at the end and the longest comment.
const END_BYTES: u64 = 22 + (64 << 10);

type Archive = ZipArchive<BufReader<File>>;
type Member<'a> = zip::read::ZipFile<'a, BufReader<File>>;

pub(super) fn kind(path: &Path, file: File) -> Result<Format, Error> {
    if path.extension() == Some(OsStr::new("whl")) {
        return Ok(Format::Wheel);
    }
    let archive = open(path, file)?;
    let wheel = (0..archive.len()).any(|index| {
        let Some(Ok(name)) = archive.name_for_index(index) else { return false };
        name.strip_suffix("/WHEEL").is_some_and(|top| top.ends_with(".dist-info") && !top.contains('/'))
    });
    Ok(if wheel { Format::Wheel } else { Format::Zip })
}

fn open(path: &Path, mut file: File) -> Result<Archive, Error> {
    let end = end_is_there(&mut file).map_err(|e| Error::io(path, e))?;
    if !end {
        return Err(Error::truncated(path, "the zip directory at its end is missing"));
    }
    ZipArchive::new(BufReader::new(file)).map_err(|e| zip_error(path, "the zip directory", e))
}

/// Looks for the record that ends every zip archive, which is followed by a comment of at most 64 KiB: a zip that lacks
/// it was cut, and deserves a clearer message than "invalid".
fn end_is_there(file: &mut File) -> io::Result<bool> {
    let mut tail = Vec::new();
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(END_BYTES)))?;
    file.take(END_BYTES).read_to_end(&mut tail)?;
    Ok(memchr::memmem::rfind(&tail, b"PK\x05\x06").is_some())
}

fn zip_error(path: &Path, what: &str, error: ZipError) -> Error {
    match error {
        ZipError::Io(source) => Error::decoding(path, what, source),
        ZipError::UnsupportedArchive(reason) => Error::unsupported(path, format!("{what}: {reason}")),
        other => Error::corrupt(path, format!("{what}: {other}")),
    }
}

pub(super) fn walk<E: From<Error>>(path: &Path, limits: &Limits, visit: &mut Visit<'_, E>) -> Result<(), E> {
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let mut archive = open(path, file)?;
    let mut walk = Walk::new(path, limits);
    let mut guard = Guard::default();
    if archive.len() as u64 > limits.entries {
        return Err(Error::limit(path, "number of entries", limits.entries).into());
    }
    for index in 0..archive.len() {
        let mut member = archive
            .by_index(index)
            .map_err(|e| zip_error(path, &format!("member number {index} of the zip directory"), e))?;
        let entry = entry(&walk, &mut member)?;
        walk.admit(&mut guard, &entry)?;
        let is_file = matches!(entry.kind, EntryKind::File { .. });
        deliver(path, Part::Data, &entry, &mut member, visit)?;
        if is_file {
            check_end(path, &entry, &mut member)?;
        }
    }
    Ok(())
}

/// Reads one byte more than declared: it must not be there, and the checksum is only looked at by this read.
fn check_end(path: &Path, entry: &Entry, member: &mut Member<'_>) -> Result<(), Error> {
    let name = printable(entry.path.as_str().as_bytes());
    match member.read(&mut [0_u8; 1]) {
        Ok(0) => Ok(()),
        Ok(_) => Err(Error::corrupt(path, format!("member `{name}` is longer than the zip directory says"))),
        Err(e) => Err(Error::decoding(path, &format!("member `{name}`"), e)),
    }
}

fn entry(walk: &Walk<'_>, member: &mut Member<'_>) -> Result<Entry, Error> {
    let raw = member.name_raw().to_vec();
    let path = MemberPath::parse(&raw, walk.limits)
        .map_err(|what| Error::hostile(walk.archive, printable(&raw), what))?;
    let mode = member.unix_mode();
    let kind = kind_of(walk, member, &raw, mode.unwrap_or(0) & 0o170_000)?;
    let default = if kind == EntryKind::Directory { 0o755 } else { 0o644 };
    let mode = mode.map_or(default, |mode| mode & 0o7777);
    Ok(Entry { path, kind, mode, uid: 0, gid: 0, xattrs: false, xattr_names: Vec::new() })
}

fn kind_of(
    walk: &Walk<'_>,
    member: &mut Member<'_>,
    name: &[u8],
    file_type: u32,
) -> Result<EntryKind, Error> {
    match file_type {
        0o120_000 => Ok(EntryKind::Symlink { target: symlink_target(walk, member, name)? }),
        0o020_000 | 0o060_000 => Ok(EntryKind::Device { block: file_type == 0o060_000, major: 0, minor: 0 }),
        0o010_000 => Ok(EntryKind::Fifo),
        0o140_000 => Ok(EntryKind::Socket),
        0o040_000 => Ok(EntryKind::Directory),
        _ if name.ends_with(b"/") => Ok(EntryKind::Directory),
        _ => Ok(EntryKind::File { size: member.size() }),
    }
}

/// A zip keeps a link's target as its content.
fn symlink_target(walk: &Walk<'_>, member: &mut Member<'_>, name: &[u8]) -> Result<String, Error> {
    let mut target = Vec::new();
    let bound = walk.limits.symlink_bytes as u64 + 1;
    io::copy(&mut member.take(bound), &mut target)
        .map_err(|e| Error::decoding(walk.archive, &format!("member `{}`", printable(name)), e))?;
    walk.symlink_target(name, &target)
}
