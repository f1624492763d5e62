//! Reading ISO 9660 images, with the names and modes of Rock Ridge or the names of Joliet.
//!
//! ECMA-119 (ISO 9660), SUSP 1.12 and RRIP 1.12 (IEEE P1281 and P1282), Joliet Specification. El Torito and UDF are not
//! looked at; an image that has both ISO 9660 and UDF is read as the former.

mod records;
mod susp;

use std::collections::HashSet;
use std::io::{self, Read};

use self::records::{Extent, Names, Record, SECTOR};
use super::guard::Guard;
use super::stream::{Walk, deliver};
use super::{Entry, EntryKind, MemberPath, Part, Source, Visit, printable};
use crate::Error;

/// Volume descriptors begin here (ECMA-119 8.1).
const DESCRIPTORS: u64 = 16;
/// Volume descriptors that are looked at; images have three or four.
const DESCRIPTORS_MAX: u64 = 64;
/// Bytes of one directory: a hundred thousand names.
const DIRECTORY_BYTES: u64 = 32 << 20;
/// Bytes of all directories together.
const DIRECTORIES_BYTES: u64 = 1 << 30;
/// Extents of one file, each of which has less than 4 GiB.
const EXTENTS: usize = 64;

/// Whether a primary volume descriptor stands where ISO 9660 wants it.
pub(super) fn is_iso(source: &mut Source<'_>) -> Result<bool, Error> {
    Ok(source.read_at(16 * 2048, 6)? == b"\x01CD001")
}

pub(super) fn walk<E: From<Error>>(
    walk: &mut Walk<'_>,
    source: &mut Source<'_>,
    visit: &mut Visit<'_, E>,
) -> Result<(), E> {
    let (root, names) = volume(source)?;
    let mut tree = Tree { names, guard: Guard::default(), seen: HashSet::new(), read: 0 };
    // A stack instead of recursion; every directory is read once, so the walk ends.
    let mut stack = vec![(root, String::new())];
    while let Some((extent, path)) = stack.pop() {
        let records = tree.directory(walk, source, extent, &path)?;
        for record in records {
            tree.member(walk, source, record, &path, &mut stack, visit)?;
        }
    }
    Ok(())
}

/// The root directory and the sort of names: those of Rock Ridge before those of Joliet before the plain ones.
fn volume(source: &mut Source<'_>) -> Result<(Extent, Names), Error> {
    let mut primary = None;
    let mut joliet = None;
    for number in DESCRIPTORS..DESCRIPTORS + DESCRIPTORS_MAX {
        let descriptor = source.read_exact_at(number * SECTOR, 2048, "the volume descriptors")?;
        if descriptor.get(1..6) != Some(b"CD001") {
            break;
        }
        let root = descriptor.get(156..190).and_then(Record::parse).map(|record| record.extent);
        match descriptor.first() {
            Some(1) if primary.is_none() => primary = root,
            // A supplementary descriptor whose escape sequence is one of UCS-2 level 1 to 3.
            Some(2) if matches!(descriptor.get(88..91), Some(b"%/@" | b"%/C" | b"%/E")) => joliet = root,
            Some(255) => break,
            _ => {}
        }
    }
    let primary = primary.ok_or_else(|| {
        Error::corrupt(source.name(), "its primary volume descriptor has no root directory")
    })?;
    let first = source.read_at(primary.start(), 255)?;
    let itself = Record::parse(&first);
    if let Some(skip) = itself.and_then(|record| susp::announced(&record.system_use)) {
        return Ok((primary, Names::RockRidge { skip }));
    }
    Ok(joliet.map_or((primary, Names::Plain), |root| (root, Names::Joliet)))
}

struct Tree {
    names: Names,
    guard: Guard,
    /// Directories that were entered, by their sector.
    seen: HashSet<u32>,
    /// Bytes of directories.
    read: u64,
}

/// A record with what Rock Ridge says about it, and all extents of its file.
struct Member {
    record: Record,
    name: Vec<u8>,
    rock_ridge: susp::Fields,
    further: Vec<Extent>,
}

impl Tree {
    /// All members of one directory.
    fn directory(
        &mut self,
        walk: &mut Walk<'_>,
        source: &mut Source<'_>,
        extent: Extent,
        path: &str,
    ) -> Result<Vec<Member>, Error> {
        let shown = printable(path.as_bytes());
        if !self.seen.insert(extent.sector) {
            return Err(Error::corrupt(
                walk.archive,
                format!("directory `{shown}` is one of those before it"),
            ));
        }
        let length = u64::from(extent.length);
        self.read = self.read.saturating_add(length);
        if length > DIRECTORY_BYTES || self.read > DIRECTORIES_BYTES {
            return Err(Error::limit(
                walk.archive,
                format!("{length} bytes of directory `{shown}`"),
                DIRECTORY_BYTES,
            ));
        }
        let length = usize::try_from(length).unwrap_or(0);
        let bytes = source.read_exact_at(extent.start(), length, &format!("directory `{shown}`"))?;
        let mut members: Vec<Member> = Vec::new();
        for record in records::all(&bytes) {
            // The first two are the directory itself and the one above.
            if matches!(record.name.as_slice(), [0 | 1]) || record.is_associated() {
                continue;
            }
            let rock_ridge = match self.names {
                Names::RockRidge { skip } => susp::read(source, &record.system_use, skip)?,
                _ => susp::Fields::default(),
            };
            if rock_ridge.relocated {
                continue;
            }
            let name = self.names.of(&record, &rock_ridge);
            // A file in several extents has a record for each, all but the last of which say so.
            if let Some(last) = members.last_mut()
                && last.record.goes_on
                && last.record.name == record.name
            {
                if last.further.len() >= EXTENTS {
                    return Err(Error::limit(
                        walk.archive,
                        format!("extents of member `{}`", printable(&name)),
                        EXTENTS as u64,
                    ));
                }
                last.further.push(record.extent);
                last.record.goes_on = record.goes_on;
                continue;
            }
            members.push(Member { record, name, rock_ridge, further: Vec::new() });
        }
        Ok(members)
    }

    fn member<E: From<Error>>(
        &mut self,
        walk: &mut Walk<'_>,
        source: &mut Source<'_>,
        member: Member,
        parent: &str,
        stack: &mut Vec<(Extent, String)>,
        visit: &mut Visit<'_, E>,
    ) -> Result<(), E> {
        let entry = entry(walk, &member, parent)?;
        walk.admit(&mut self.guard, &entry)?;
        match entry.kind {
            EntryKind::Directory => {
                deliver(walk.archive, Part::Data, &entry, &mut io::empty(), visit)?;
                let extent = match member.rock_ridge.child {
                    Some(sector) => moved(walk, source, sector)?,
                    None => member.record.extent,
                };
                stack.push((extent, entry.path.as_str().to_owned()));
                Ok(())
            }
            EntryKind::File { .. } => {
                let mut extents = vec![member.record.extent];
                extents.extend(member.further);
                let mut content = Content { source, extents: extents.into_iter(), left: 0 };
                deliver(walk.archive, Part::Data, &entry, &mut content, visit)
            }
            _ => deliver(walk.archive, Part::Data, &entry, &mut io::empty(), visit),
        }
    }
}

/// The extent of a directory that lies elsewhere because it would be too deep where it belongs.
fn moved(walk: &Walk<'_>, source: &mut Source<'_>, sector: u32) -> Result<Extent, Error> {
    let head = source.read_at(u64::from(sector) * SECTOR, 255)?;
    let itself = Record::parse(&head).filter(|record| record.name == [0]);
    let itself = itself
        .ok_or_else(|| Error::corrupt(walk.archive, format!("there is no directory at sector {sector}")))?;
    Ok(Extent { sector, length: itself.extent.length })
}

fn entry(walk: &Walk<'_>, member: &Member, parent: &str) -> Result<Entry, Error> {
    let Member { record, name, rock_ridge, further } = member;
    let refuse = |what: &str| Error::hostile(walk.archive, printable(name), what);
    if name.contains(&b'/') {
        return Err(refuse("has a slash in its name"));
    }
    if matches!(name.as_slice(), b"" | b"." | b"..") {
        return Err(refuse("is called like the directory itself or the one above"));
    }
    let full = if parent.is_empty() { name.clone() } else { [parent.as_bytes(), b"/", name].concat() };
    let path = MemberPath::parse(&full, walk.limits)
        .map_err(|what| Error::hostile(walk.archive, printable(&full), what))?;
    let is_directory = record.is_directory || rock_ridge.child.is_some();
    let default = if is_directory { 0o40_755 } else { 0o100_644 };
    let mode = rock_ridge.mode.unwrap_or(default);
    let kind = if is_directory {
        EntryKind::Directory
    } else if let Some(target) = &rock_ridge.target {
        EntryKind::Symlink { target: walk.symlink_target(&full, target)? }
    } else {
        let extents = further.iter().chain([&record.extent]);
        let size = extents.map(|extent| u64::from(extent.length)).sum();
        kind_by_mode(mode, rock_ridge.device, size)
    };
    Ok(Entry {
        path,
        kind,
        mode: mode & 0o7777,
        uid: u64::from(rock_ridge.uid),
        gid: u64::from(rock_ridge.gid),
        xattrs: false,
        xattr_names: Vec::new(),
        capabilities: None,
    })
}

fn kind_by_mode(mode: u32, (major, minor): (u32, u32), size: u64) -> EntryKind {
    match mode & 0o170_000 {
        kind @ (0o020_000 | 0o060_000) => EntryKind::Device { block: kind == 0o060_000, major, minor },
        0o010_000 => EntryKind::Fifo,
        0o140_000 => EntryKind::Socket,
        _ => EntryKind::File { size },
    }
}

/// A file's extents one after the other.
struct Content<'c, 's> {
    source: &'c mut Source<'s>,
    extents: std::vec::IntoIter<Extent>,
    left: u64,
}

impl Read for Content<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.left == 0 {
            let Some(extent) = self.extents.next() else { return Ok(0) };
            self.source.go(extent.start()).map_err(io::Error::other)?;
            self.left = u64::from(extent.length);
        }
        let got = self.source.by_ref().take(self.left).read(buffer)?;
        self.left = self.left.saturating_sub(got as u64);
        Ok(got)
    }
}
