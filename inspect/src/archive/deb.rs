//! The outer container of a Debian package.
//!
//! The `ar` crate allocates a name table of whatever size the file claims; a `.deb` needs none of ar's extensions, so
//! the sixty-byte headers are read here.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::guard::Guard;
use super::stream::Walk;
use super::{Compression, Limits, Part, Visit, decompress, detect, printable, tarball};
use crate::Error;

const MAGIC: u64 = 8;
const HEADER: usize = 60;

/// Members a package may have: three, and a few signatures.
const MEMBERS: usize = 64;

struct Member {
    name: String,
    offset: u64,
    size: u64,
}

pub(super) fn walk<E: From<Error>>(path: &Path, limits: &Limits, visit: &mut Visit<'_, E>) -> Result<(), E> {
    let mut file = File::open(path).map_err(|e| Error::io(path, e))?;
    let members = members(path, &mut file)?;
    let (control, data) = parts(path, &mut file, &members)?;
    let mut walk = Walk::new(path, limits);
    for (part, member) in [(Part::Control, control), (Part::Data, data)] {
        let compression = member_compression(path, &mut file, member)?;
        file.seek(SeekFrom::Start(member.offset)).map_err(|e| Error::io(path, e))?;
        let source = (&mut file).take(member.size);
        let mut stream = decompress::reader(source, compression, limits).map_err(|e| Error::io(path, e))?;
        let mut guard = Guard::default();
        tarball::walk(&mut walk, &mut guard, part, &mut stream, tarball::End::Optional, visit)?;
    }
    Ok(())
}

/// Reads the member headers; contents are only skipped over.
fn members(path: &Path, file: &mut File) -> Result<Vec<Member>, Error> {
    let length = file.metadata().map_err(|e| Error::io(path, e))?.len();
    let mut members = Vec::new();
    let mut at = MAGIC;
    while at < length {
        if members.len() == MEMBERS {
            return Err(Error::limit(path, "members of the package", MEMBERS as u64));
        }
        let member = member(path, file, at, length)?;
        // Members begin on even offsets.
        at = member.offset.saturating_add(member.size);
        at = at.saturating_add(at % 2);
        members.push(member);
    }
    Ok(members)
}

fn member(path: &Path, file: &mut File, at: u64, length: u64) -> Result<Member, Error> {
    let mut header = [0_u8; HEADER];
    file.seek(SeekFrom::Start(at)).map_err(|e| Error::io(path, e))?;
    file.read_exact(&mut header).map_err(|e| Error::decoding(path, "the header of a package member", e))?;
    if header[58..] != *b"`\n" {
        return Err(Error::corrupt(path, format!("no package member begins at byte {at}")));
    }
    let name = std::str::from_utf8(&header[..16])
        .map_err(|_| Error::hostile(path, printable(&header[..16]), "has a name that is not UTF-8"))?;
    let name = name.trim_end().trim_end_matches('/').to_owned();
    let size = std::str::from_utf8(&header[48..58])
        .ok()
        .map(str::trim_end)
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|digits| digits.parse::<u64>().ok())
        .ok_or_else(|| {
            Error::corrupt(path, format!("package member `{}` has no size", printable(name.as_bytes())))
        })?;
    let offset = at + HEADER as u64;
    if offset.saturating_add(size) > length {
        let what = format!("package member `{}` should have {size} bytes", printable(name.as_bytes()));
        return Err(Error::truncated(path, format!("{what}, {} are there", length.saturating_sub(offset))));
    }
    Ok(Member { name, offset, size })
}

/// Finds the control and the data member, in the order dpkg wants them.
fn parts<'m>(path: &Path, file: &mut File, members: &'m [Member]) -> Result<(&'m Member, &'m Member), Error> {
    let mut members = members.iter();
    let version = members.next().filter(|member| member.name == "debian-binary");
    let version = version.ok_or_else(|| Error::corrupt(path, "its first member is not `debian-binary`"))?;
    check_version(path, file, version)?;
    // Members whose names begin with an underscore are for others (signatures); dpkg skips them too.
    let mut members = members.filter(|member| !member.name.starts_with('_'));
    let mut next = |stem: &str| match members.next() {
        Some(member) if is_tar_member(&member.name, stem) => Ok(member),
        Some(member) => {
            let name = printable(member.name.as_bytes());
            Err(Error::corrupt(path, format!("`{name}` stands where `{stem}.*` belongs")))
        }
        None => Err(Error::truncated(path, format!("it has no member `{stem}.*`"))),
    };
    Ok((next("control.tar")?, next("data.tar")?))
}

fn is_tar_member(name: &str, stem: &str) -> bool {
    name.strip_prefix(stem).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn check_version(path: &Path, file: &mut File, member: &Member) -> Result<(), Error> {
    let mut text = Vec::new();
    file.seek(SeekFrom::Start(member.offset)).map_err(|e| Error::io(path, e))?;
    file.take(member.size.min(64)).read_to_end(&mut text).map_err(|e| Error::io(path, e))?;
    if text.starts_with(b"2.") {
        return Ok(());
    }
    let found = printable(text.split(|&byte| byte == b'\n').next().unwrap_or_default());
    Err(Error::unsupported(path, format!("its package format is `{found}`, and only 2.x is known")))
}

fn member_compression(path: &Path, file: &mut File, member: &Member) -> Result<Compression, Error> {
    if member.name.ends_with(".lzma") {
        return Err(Error::unsupported(path, format!("`{}` uses the old lzma compression", member.name)));
    }
    let mut head = Vec::new();
    file.seek(SeekFrom::Start(member.offset)).map_err(|e| Error::io(path, e))?;
    file.take(member.size.min(8)).read_to_end(&mut head).map_err(|e| Error::io(path, e))?;
    Ok(detect::compression_of(&head).unwrap_or(Compression::None))
}
