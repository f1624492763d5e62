//! What PyInstaller appends to its start program (`PyInstaller/archive/writers.py`, `bootloader/src/pyi_archive.h`).
//!
//! A package is the data of all members, a table of contents and a cookie of 24 bytes, or 88 since version 2.1, with the
//! name of the Python library. Numbers are in network order. On Linux the package may be a section of the program, with the
//! section headers behind it.

use std::io::{self, Read};

use memchr::memmem;

use super::guard::Guard;
use super::stream::{Walk, deliver};
use super::{Entry, EntryKind, MemberPath, Part, Source, Visit, printable};
use crate::Error;

const MAGIC: &[u8] = b"MEI\x0c\x0b\x0a\x0b\x0e";
/// Bytes at the end of a file in which the cookie is looked for: section headers or a signature may follow it.
const SEARCH: u64 = 1 << 20;
/// Cookies with and without the name of the Python library.
const COOKIES: [u64; 2] = [88, 24];
/// Places that look like a cookie and are examined.
const CANDIDATES: usize = 16;
/// Bytes of the table of contents: members of some 40 bytes each.
const CONTENTS: u32 = 64 << 20;
/// An entry of the table without its name.
const ENTRY: usize = 18;

/// What the cookie says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Package {
    /// Where the package begins in the file.
    pub(crate) offset: u64,
    /// Its bytes.
    pub(crate) size: u64,
    contents: u32,
    contents_size: u32,
    /// `3.11`.
    pub(crate) python: String,
    /// `libpython3.11.so.1.0`; the old cookie has none.
    pub(crate) library: Option<String>,
}

/// Finds the package in a file that may hold one.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn find(source: &mut Source<'_>) -> Result<Option<Package>, Error> {
    let begin = source.len().saturating_sub(SEARCH);
    let tail = source.read_at(begin, usize::try_from(SEARCH).unwrap_or(0))?;
    // Searching backwards is several times slower than forwards.
    let places: Vec<usize> = memmem::find_iter(&tail, MAGIC).collect();
    let mut last = places.into_iter().rev().take(CANDIDATES);
    Ok(last.find_map(|at| cookie(tail.get(at..)?, begin.checked_add(at as u64)?)))
}

/// The version of Python, and its library, of the program that is a PyInstaller package or carries one.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn python_version(source: &mut Source<'_>) -> Result<Option<(String, Option<String>)>, Error> {
    Ok(find(source)?.map(|package| (package.python, package.library)))
}

fn cookie(bytes: &[u8], at: u64) -> Option<Package> {
    let number = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let (size, contents, contents_size, python) = (number(8)?, number(12)?, number(16)?, number(20)?);
    // The table ends where the cookie begins, which also tells its length.
    let end = u64::from(contents).checked_add(contents_size.into())?;
    let length = COOKIES.into_iter().find(|length| end.checked_add(*length) == Some(size.into()))?;
    let library = bytes.get(24..88).filter(|_| length == 88);
    let library = library.map(|name| printable(name.split(|&byte| byte == 0).next().unwrap_or_default()));
    // 27 or 39 before there was 3.10, then 310.
    let base = if python >= 100 { 100 } else { 10 };
    Some(Package {
        offset: at.checked_sub(end)?,
        size: size.into(),
        contents,
        contents_size,
        python: format!("{}.{}", python / base, python % base),
        library: library.filter(|name| !name.is_empty()),
    })
}

/// One line of the table of contents.
struct Member<'t> {
    offset: u64,
    packed: u64,
    size: u64,
    compressed: bool,
    kind: u8,
    name: &'t [u8],
}

pub(super) fn walk<E: From<Error>>(
    walk: &mut Walk<'_>,
    source: &mut Source<'_>,
    visit: &mut Visit<'_, E>,
) -> Result<(), E> {
    let path = walk.archive;
    let package = find(source)?;
    let package =
        package.ok_or_else(|| Error::truncated(path, "the end of the PyInstaller package is missing"))?;
    if package.contents_size > CONTENTS {
        return Err(Error::limit(path, "bytes of the table of contents", CONTENTS.into()).into());
    }
    let (at, size) = (package.offset.saturating_add(package.contents.into()), package.contents_size as usize);
    let table = source.read_exact_at(at, size, "the table of contents")?;
    let mut guard = Guard::default();
    let mut rest = &table[..];
    while !rest.is_empty() {
        let (member, behind) =
            split(rest).ok_or_else(|| Error::corrupt(path, "the table of contents has a malformed entry"))?;
        rest = behind;
        one(walk, &mut guard, source, &package, &member, visit)?;
    }
    Ok(())
}

/// Takes the first entry off the table.
fn split(table: &[u8]) -> Option<(Member<'_>, &[u8])> {
    let number = |at: usize| Some(u32::from_be_bytes(table.get(at..at + 4)?.try_into().ok()?));
    let length = number(0)? as usize;
    let name = table.get(ENTRY..length)?;
    let member = Member {
        offset: number(4)?.into(),
        packed: number(8)?.into(),
        size: number(12)?.into(),
        compressed: *table.get(16)? != 0,
        kind: *table.get(17)?,
        name: name.split(|&byte| byte == 0).next()?,
    };
    Some((member, table.get(length..)?))
}

fn one<E: From<Error>>(
    walk: &mut Walk<'_>,
    guard: &mut Guard,
    source: &mut Source<'_>,
    package: &Package,
    member: &Member<'_>,
    visit: &mut Visit<'_, E>,
) -> Result<(), E> {
    // Options of the start program, and references to members of another package, are no files.
    if matches!(member.kind, b'o' | b'd') {
        return Ok(());
    }
    if member.offset.saturating_add(member.packed) > package.contents.into() {
        let what = format!("member `{}` lies outside of the package", printable(member.name));
        return Err(Error::corrupt(walk.archive, what).into());
    }
    let window = source.window(package.offset.saturating_add(member.offset), member.packed);
    let mut content: Box<dyn Read> =
        if member.compressed { Box::new(flate2::read::ZlibDecoder::new(window)) } else { Box::new(window) };
    let entry = entry(walk, member, &mut content)?;
    walk.admit(guard, &entry)?;
    deliver(walk.archive, Part::Data, &entry, &mut content, visit)
}

fn entry(walk: &Walk<'_>, member: &Member<'_>, content: &mut dyn Read) -> Result<Entry, Error> {
    // Packages for Windows have its separators.
    let mut name: Vec<u8> = member.name.iter().map(|&byte| if byte == b'\\' { b'/' } else { byte }).collect();
    // Scripts and modules are compiled code under the name of the module.
    if matches!(member.kind, b's' | b'm' | b'M') {
        name.extend_from_slice(b".pyc");
    }
    let path = MemberPath::parse(&name, walk.limits)
        .map_err(|what| Error::hostile(walk.archive, printable(&name), what))?;
    let kind = if member.kind == b'n' {
        EntryKind::Symlink { target: symlink_target(walk, &name, content)? }
    } else {
        EntryKind::File { size: member.size }
    };
    let mode = if member.kind == b'b' { 0o755 } else { 0o644 };
    Ok(Entry { path, kind, mode, uid: 0, gid: 0, xattrs: false, xattr_names: Vec::new(), capabilities: None })
}

/// A link's target is its content, with a NUL at its end.
fn symlink_target(walk: &Walk<'_>, name: &[u8], content: &mut dyn Read) -> Result<String, Error> {
    let mut target = Vec::new();
    let bound = walk.limits.symlink_bytes as u64 + 2;
    io::copy(&mut content.take(bound), &mut target)
        .map_err(|e| Error::decoding(walk.archive, &format!("member `{}`", printable(name)), e))?;
    walk.symlink_target(name, target.strip_suffix(b"\0").unwrap_or(&target))
}
