//! Reading cpio: "new ASCII" with and without checksums, old ASCII, and rpm's form for large files.
//!
//! Field layouts: cpio(5) of libarchive; the form that begins with `07070X` is rpm's own (rpm, lib/cpio.c).

mod fields;
mod links;

use std::io::{self, Read};

pub(super) use self::fields::Fields;
use self::links::{Links, Pending};
use super::guard::Guard;
use super::stream::{Walk, deliver};
use super::{Compression, Entry, EntryKind, MemberPath, Part, Source, Visit, decompress, printable};
use crate::Error;

/// The name of the entry that ends an archive.
const TRAILER: &[u8] = b"TRAILER!!!";

/// What an RPM package knows about the members of its payload.
pub(super) trait FileList {
    /// The member at this place of the list, for payloads that keep names and sizes in the list only.
    fn member(&self, index: u32) -> Option<Fields>;
    /// File capabilities by the name that stands in the payload, without what leads to the root.
    fn capabilities(&self, path: &str) -> Option<&str>;
}

pub(super) fn is_cpio(head: &[u8]) -> bool {
    let digits =
        |length: usize| head.get(6..length).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    match head.get(..6) {
        Some(b"070701" | b"070702") => digits(14),
        // Six digits are too little to tell it from a text; all of its header is octal.
        Some(b"070707") => digits(76),
        _ => false,
    }
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
    walk(state, &mut stream, None, visit)
}

/// Walks one cpio stream to its trailer and reads what follows.
pub(super) fn walk<E: From<Error>>(
    walk: &mut Walk<'_>,
    stream: &mut dyn Read,
    list: Option<&dyn FileList>,
    visit: &mut Visit<'_, E>,
) -> Result<(), E> {
    let mut state = State { guard: Guard::default(), links: Links::default(), list };
    // Every round reads a header, whose bytes are counted.
    loop {
        let fields = fields::read(walk, stream, list)?;
        if fields.name == TRAILER {
            break;
        }
        state.member(walk, &fields, stream, visit)?;
    }
    for group in state.links.rest() {
        state.empty_group(walk, group, visit)?;
    }
    walk.drain(stream, "the end of the cpio archive").map_err(E::from)
}

struct State<'l> {
    guard: Guard,
    links: Links,
    list: Option<&'l dyn FileList>,
}

impl State<'_> {
    fn member<E: From<Error>>(
        &mut self,
        walk: &mut Walk<'_>,
        fields: &Fields,
        stream: &mut dyn Read,
        visit: &mut Visit<'_, E>,
    ) -> Result<(), E> {
        let entry = self.entry(walk, fields, stream)?;
        let EntryKind::File { size } = entry.kind else {
            return self.hand_out(walk, &entry, &mut io::empty(), visit);
        };
        let group = fields.group();
        // All names of a file but the last come without its content: they wait for it.
        if let Some(group) = group
            && size == 0
        {
            return match self.links.file(group).cloned() {
                Some(target) => self.hardlink(walk, entry, &target, visit),
                None => self
                    .links
                    .wait(group, entry)
                    .map_err(|what| Error::limit(walk.archive, what, links::MEMORY).into()),
            };
        }
        let mut content = Summed { stream: &mut *stream, sum: 0 };
        self.hand_out(walk, &entry, &mut content, visit)?;
        fields.check_sum(walk.archive, content.sum)?;
        walk.skip(stream, fields.padding(size))?;
        if let Some(group) = group {
            let waiting = self.links.deliver(group, &entry.path);
            for link in waiting {
                self.hardlink(walk, link, &entry.path, visit)?;
            }
        }
        Ok(())
    }

    /// A group of names whose content never came is a file without content.
    fn empty_group<E: From<Error>>(
        &mut self,
        walk: &mut Walk<'_>,
        group: Pending,
        visit: &mut Visit<'_, E>,
    ) -> Result<(), E> {
        let mut names = group.into_iter();
        let Some(first) = names.next() else { return Ok(()) };
        self.hand_out(walk, &first, &mut io::empty(), visit)?;
        for link in names {
            self.hardlink(walk, link, &first.path, visit)?;
        }
        Ok(())
    }

    fn hardlink<E: From<Error>>(
        &mut self,
        walk: &mut Walk<'_>,
        mut entry: Entry,
        target: &MemberPath,
        visit: &mut Visit<'_, E>,
    ) -> Result<(), E> {
        entry.kind = EntryKind::Hardlink { target: target.clone() };
        self.hand_out(walk, &entry, &mut io::empty(), visit)
    }

    fn hand_out<E: From<Error>>(
        &mut self,
        walk: &mut Walk<'_>,
        entry: &Entry,
        content: &mut dyn Read,
        visit: &mut Visit<'_, E>,
    ) -> Result<(), E> {
        walk.admit(&mut self.guard, entry)?;
        deliver(walk.archive, Part::Data, entry, content, visit)
    }

    fn entry(&self, walk: &mut Walk<'_>, fields: &Fields, stream: &mut dyn Read) -> Result<Entry, Error> {
        let path = member_path(walk, &fields.name)?;
        let kind = match fields.mode & 0o170_000 {
            0o040_000 => EntryKind::Directory,
            0o120_000 => EntryKind::Symlink { target: target(walk, fields, stream)? },
            0o020_000 | 0o060_000 => EntryKind::Device {
                block: fields.mode & 0o170_000 == 0o060_000,
                major: fields.device.0,
                minor: fields.device.1,
            },
            0o010_000 => EntryKind::Fifo,
            0o140_000 => EntryKind::Socket,
            0 | 0o100_000 => EntryKind::File { size: fields.size },
            other => {
                let what = format!("member `{}` is of the unknown type {other:o}", printable(&fields.name));
                return Err(Error::corrupt(walk.archive, what));
            }
        };
        if !matches!(kind, EntryKind::File { .. } | EntryKind::Symlink { .. }) && fields.size != 0 {
            // Nothing but files and links has content; what claims to is passed over.
            walk.skip(stream, fields.size.saturating_add(fields.padding(fields.size)))?;
        }
        let capabilities = self.list.and_then(|list| list.capabilities(path.as_str()));
        Ok(Entry {
            path,
            kind,
            mode: fields.mode & 0o7777,
            uid: fields.uid,
            gid: fields.gid,
            xattrs: capabilities.is_some(),
            xattr_names: capabilities.map(|_| "security.capability".to_owned()).into_iter().collect(),
            capabilities: capabilities.map(str::to_owned),
        })
    }
}

/// Names in packages and in RAM disks may begin at the root.
fn member_path(walk: &Walk<'_>, raw: &[u8]) -> Result<MemberPath, Error> {
    let name = raw.strip_prefix(b".").filter(|rest| rest.starts_with(b"/")).unwrap_or(raw);
    let relative = match name.strip_prefix(b"/") {
        Some(b"") => b".",
        Some(relative) => relative,
        None => name,
    };
    MemberPath::parse(relative, walk.limits)
        .map_err(|what| Error::hostile(walk.archive, printable(raw), what))
}

/// A link's target is its content.
fn target(walk: &mut Walk<'_>, fields: &Fields, stream: &mut dyn Read) -> Result<String, Error> {
    let what = format!("member `{}`", printable(&fields.name));
    if fields.size > walk.limits.symlink_bytes as u64 {
        return Err(Error::hostile(
            walk.archive,
            printable(&fields.name),
            "is a symbolic link with a target longer than Linux allows",
        ));
    }
    let mut raw = fields::exactly(walk, stream, fields.size, &what)?;
    walk.skip(stream, fields.padding(fields.size))?;
    // Some writers count the NUL that ends the target in memory.
    if raw.last() == Some(&0) {
        raw.pop();
    }
    walk.symlink_target(&fields.name, &raw)
}

/// A reader that adds up the bytes that pass.
struct Summed<'s> {
    stream: &'s mut dyn Read,
    sum: u32,
}

impl Read for Summed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.stream.read(buffer)?;
        let bytes = buffer.get(..got).unwrap_or_default();
        self.sum = bytes.iter().fold(self.sum, |sum, &byte| sum.wrapping_add(u32::from(byte)));
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Limits;
    use super::*;

    /// A list of a file with two names and a directory, as a package with a file above 4 GiB has it.
    struct List;

    impl FileList for List {
        fn member(&self, index: u32) -> Option<Fields> {
            let (name, mode, size, links) = match index {
                0 => ("/a", 0o100_644, 0, 2),
                1 => ("/b", 0o100_644, 5, 2),
                2 => ("/d", 0o040_755, 0, 1),
                _ => return None,
            };
            Some(Fields { name: name.into(), mode, size, links, file: (1, 1), ..Fields::default() })
        }

        fn capabilities(&self, path: &str) -> Option<&str> {
            (path == "b").then_some("cap_net_raw=ep")
        }
    }

    fn walked(archive: &[u8]) -> Result<Vec<(String, EntryKind, Option<String>)>, Error> {
        let limits = Limits::default();
        let mut state = Walk::new(Path::new("x"), Some(archive.len() as u64), &limits);
        let mut seen = Vec::new();
        walk(&mut state, &mut &*archive, Some(&List), &mut |_, entry, _| {
            seen.push((entry.path.to_string(), entry.kind.clone(), entry.capabilities.clone()));
            Ok::<(), Error>(())
        })?;
        Ok(seen)
    }

    fn trailer() -> Vec<u8> {
        let mut trailer =
            format!("070701{}{:08x}{:08x}TRAILER!!!\0", "00000000".repeat(11), 11, 0).into_bytes();
        trailer.resize(trailer.len().next_multiple_of(4), 0);
        trailer
    }

    #[test]
    fn members_by_number() {
        let archive =
            [&b"07070X00000000\0\0"[..], b"07070X00000002\0\0", b"07070X00000001\0\0hello\0\0\0", &trailer()]
                .concat();
        let target = MemberPath::parse(b"b", &Limits::default()).unwrap();
        assert_eq!(
            walked(&archive).unwrap(),
            [
                ("d".to_owned(), EntryKind::Directory, None),
                ("b".to_owned(), EntryKind::File { size: 5 }, Some("cap_net_raw=ep".to_owned())),
                ("a".to_owned(), EntryKind::Hardlink { target }, None),
            ]
        );
        let unlisted = [&b"07070X00000009\0\0"[..], &trailer()].concat();
        assert!(matches!(walked(&unlisted), Err(Error::Corrupt { .. })));
        for length in 0..archive.len() {
            assert!(walked(&archive[..length]).is_err(), "{length}");
        }
    }
}
