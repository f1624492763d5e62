//! The outer container of a Debian package.
//!
//! The `ar` crate allocates a name table of whatever size the file claims; a `.deb` needs none of ar's extensions, so
//! the sixty-byte headers are read here.

use super::guard::Guard;
use super::stream::Walk;
use super::{Compression, Part, Source, Visit, decompress, detect, printable, tarball};
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

pub(super) fn walk<E: From<Error>>(
    walk: &mut Walk<'_>,
    source: &mut Source<'_>,
    visit: &mut Visit<'_, E>,
) -> Result<(), E> {
    let path = walk.archive;
    let members = members(source)?;
    let (control, data) = parts(source, &members)?;
    for (part, member) in [(Part::Control, control), (Part::Data, data)] {
        let compression = member_compression(source, member)?;
        let content = source.window(member.offset, member.size);
        let mut stream =
            decompress::reader(content, compression, walk.limits).map_err(|e| Error::io(path, e))?;
        let mut guard = Guard::default();
        tarball::walk(walk, &mut guard, part, &mut stream, tarball::End::Optional, visit)?;
    }
    Ok(())
}

/// Reads the member headers; contents are only skipped over.
fn members(source: &mut Source<'_>) -> Result<Vec<Member>, Error> {
    let mut members = Vec::new();
    let mut at = MAGIC;
    while at < source.len() {
        if members.len() == MEMBERS {
            return Err(Error::limit(source.name(), "members of the package", MEMBERS as u64));
        }
        let member = member(source, at)?;
        // Members begin on even offsets.
        at = member.offset.saturating_add(member.size);
        at = at.saturating_add(at % 2);
        members.push(member);
    }
    Ok(members)
}

fn member(source: &mut Source<'_>, at: u64) -> Result<Member, Error> {
    let header = source.read_exact_at(at, HEADER, "the header of a package member")?;
    let path = source.name();
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
    if offset.saturating_add(size) > source.len() {
        let what = format!("package member `{}` should have {size} bytes", printable(name.as_bytes()));
        let there = source.len().saturating_sub(offset);
        return Err(Error::truncated(path, format!("{what}, {there} are there")));
    }
    Ok(Member { name, offset, size })
}

/// Finds the control and the data member, in the order dpkg wants them.
fn parts<'m>(source: &mut Source<'_>, members: &'m [Member]) -> Result<(&'m Member, &'m Member), Error> {
    let path = source.name().to_owned();
    let mut members = members.iter();
    let version = members.next().filter(|member| member.name == "debian-binary");
    let version = version.ok_or_else(|| Error::corrupt(&path, "its first member is not `debian-binary`"))?;
    check_version(source, version)?;
    // Members whose names begin with an underscore are for others (signatures); dpkg skips them too.
    let mut members = members.filter(|member| !member.name.starts_with('_'));
    let mut next = |stem: &str| match members.next() {
        Some(member) if is_tar_member(&member.name, stem) => Ok(member),
        Some(member) => {
            let name = printable(member.name.as_bytes());
            Err(Error::corrupt(&path, format!("`{name}` stands where `{stem}.*` belongs")))
        }
        None => Err(Error::truncated(&path, format!("it has no member `{stem}.*`"))),
    };
    Ok((next("control.tar")?, next("data.tar")?))
}

fn is_tar_member(name: &str, stem: &str) -> bool {
    name.strip_prefix(stem).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn check_version(source: &mut Source<'_>, member: &Member) -> Result<(), Error> {
    let text = source.window(member.offset, member.size).read_at(0, 64)?;
    if text.starts_with(b"2.") {
        return Ok(());
    }
    let found = printable(text.split(|&byte| byte == b'\n').next().unwrap_or_default());
    Err(Error::unsupported(source.name(), format!("its package format is `{found}`, and only 2.x is known")))
}

fn member_compression(source: &mut Source<'_>, member: &Member) -> Result<Compression, Error> {
    if member.name.ends_with(".lzma") {
        let what = format!("`{}` uses the old lzma compression", member.name);
        return Err(Error::unsupported(source.name(), what));
    }
    let head = source.window(member.offset, member.size).read_at(0, 8)?;
    Ok(detect::compression_of(&head).unwrap_or(Compression::None))
}
