//! Reading zip archives and wheels.

use std::ffi::OsStr;
use std::io::{self, BufReader, Read};
use std::path::Path;

use zip::ZipArchive;
use zip::result::ZipError;

use super::guard::Guard;
use super::stream::{Walk, deliver};
use super::{Entry, EntryKind, Format, MemberPath, Part, Source, Visit, printable};
use crate::Error;

/// What every Java archive has ("JAR File Specification").
pub(crate) const JAR_MANIFEST: &str = "META-INF/MANIFEST.MF";
/// The record at the end and the longest comment.
const END_BYTES: u64 = 22 + (64 << 10);

type Archive<'a, 's> = ZipArchive<BufReader<&'a mut Source<'s>>>;
type Member<'m, 'a, 's> = zip::read::ZipFile<'m, BufReader<&'a mut Source<'s>>>;

pub(super) fn kind(source: &mut Source<'_>) -> Result<Format, Error> {
    if source.name().extension() == Some(OsStr::new("whl")) {
        return Ok(Format::Wheel);
    }
    let named_jar = source.name().extension() == Some(OsStr::new("jar"));
    let archive = open(source)?;
    let any = |test: &dyn Fn(&str) -> bool| {
        (0..archive.len())
            .any(|index| archive.name_for_index(index).is_some_and(|name| name.is_ok_and(|name| test(&name))))
    };
    let in_info = |top: &str| top.ends_with(".dist-info") && !top.contains('/');
    if any(&|name| name.strip_suffix("/WHEEL").is_some_and(in_info)) {
        return Ok(Format::Wheel);
    }
    let jar = named_jar || any(&|name| name == JAR_MANIFEST);
    Ok(if jar { Format::Jar } else { Format::Zip })
}

fn open<'a, 's>(source: &'a mut Source<'s>) -> Result<Archive<'a, 's>, Error> {
    let name = source.name().to_owned();
    // A zip that lacks the record at its end was cut, and deserves a clearer message than "invalid".
    let tail =
        source.read_at(source.len().saturating_sub(END_BYTES), usize::try_from(END_BYTES).unwrap_or(0))?;
    if memchr::memmem::rfind(&tail, b"PK\x05\x06").is_none() {
        return Err(Error::truncated(&name, "the zip directory at its end is missing"));
    }
    ZipArchive::new(BufReader::new(source)).map_err(|e| zip_error(&name, "the zip directory", e))
}

fn zip_error(path: &Path, what: &str, error: ZipError) -> Error {
    match error {
        ZipError::Io(source) => Error::decoding(path, what, source),
        ZipError::UnsupportedArchive(reason) => Error::unsupported(path, format!("{what}: {reason}")),
        other => Error::corrupt(path, format!("{what}: {other}")),
    }
}

pub(super) fn walk<E: From<Error>>(
    walk: &mut Walk<'_>,
    source: &mut Source<'_>,
    visit: &mut Visit<'_, E>,
) -> Result<(), E> {
    let path = walk.archive;
    let mut archive = open(source)?;
    let mut guard = Guard::default();
    if archive.len() as u64 > walk.limits.entries {
        return Err(Error::limit(path, "number of entries", walk.limits.entries).into());
    }
    for index in 0..archive.len() {
        let mut member = archive
            .by_index(index)
            .map_err(|e| zip_error(path, &format!("member number {index} of the zip directory"), e))?;
        let entry = entry(walk, &mut member)?;
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
fn check_end(path: &Path, entry: &Entry, member: &mut Member<'_, '_, '_>) -> Result<(), Error> {
    let name = printable(entry.path.as_str().as_bytes());
    match member.read(&mut [0_u8; 1]) {
        Ok(0) => Ok(()),
        Ok(_) => Err(Error::corrupt(path, format!("member `{name}` is longer than the zip directory says"))),
        Err(e) => Err(Error::decoding(path, &format!("member `{name}`"), e)),
    }
}

fn entry(walk: &Walk<'_>, member: &mut Member<'_, '_, '_>) -> Result<Entry, Error> {
    let mut raw = member.name_raw().to_vec();
    if std::str::from_utf8(&raw).is_err()
        && let Ok(name) = member.name()
    {
        // Without the mark for UTF-8 a name is in code page 437 (APPNOTE 6.3.10, appendix D).
        raw = name.as_bytes().to_vec();
    }
    let path = MemberPath::parse(&raw, walk.limits)
        .map_err(|what| Error::hostile(walk.archive, printable(&raw), what))?;
    let mode = member.unix_mode();
    let kind = kind_of(walk, member, &raw, mode.unwrap_or(0) & 0o170_000)?;
    let default = if kind == EntryKind::Directory { 0o755 } else { 0o644 };
    let mode = mode.map_or(default, |mode| mode & 0o7777);
    Ok(Entry { path, kind, mode, uid: 0, gid: 0, xattrs: false, xattr_names: Vec::new(), capabilities: None })
}

fn kind_of(
    walk: &Walk<'_>,
    member: &mut Member<'_, '_, '_>,
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
fn symlink_target(walk: &Walk<'_>, member: &mut Member<'_, '_, '_>, name: &[u8]) -> Result<String, Error> {
    let mut target = Vec::new();
    let bound = walk.limits.symlink_bytes as u64 + 1;
    io::copy(&mut member.take(bound), &mut target)
        .map_err(|e| Error::decoding(walk.archive, &format!("member `{}`", printable(name)), e))?;
    walk.symlink_target(name, &target)
}
