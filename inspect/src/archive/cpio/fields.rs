//! Headers of members.

use std::io::Read;
use std::path::Path;

use super::super::stream::Walk;
use super::links::Group;
use super::{FileList, printable};
use crate::Error;

/// What a header says, whichever form it has.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Fields {
    pub(in super::super) name: Vec<u8>,
    pub(in super::super) mode: u32,
    pub(in super::super) uid: u64,
    pub(in super::super) gid: u64,
    pub(in super::super) size: u64,
    /// Inode and device.
    pub(in super::super) file: Group,
    pub(in super::super) links: u64,
    /// Major and minor number of a device node.
    pub(in super::super) device: (u32, u32),
    /// The sum of the content's bytes, where the form has one.
    pub(in super::super) sum: Option<u32>,
    pub(in super::super) form: Form,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in super::super) enum Form {
    /// Names and contents are padded to four bytes.
    #[default]
    New,
    /// Nothing is padded, and every name of a file comes with its content.
    Old,
}

impl Fields {
    /// Which file this is a name of, if it has several names and not all of them have the content.
    pub(super) fn group(&self) -> Option<Group> {
        (self.form == Form::New && self.links > 1).then_some(self.file)
    }

    /// Bytes after a content of this size.
    pub(super) fn padding(&self, size: u64) -> u64 {
        if self.form == Form::New { to_four(size) } else { 0 }
    }

    pub(super) fn check_sum(&self, archive: &Path, sum: u32) -> Result<(), Error> {
        if self.sum.is_none_or(|expected| expected == sum) {
            return Ok(());
        }
        Err(Error::corrupt(archive, format!("member `{}` has a wrong checksum", printable(&self.name))))
    }
}

fn to_four(size: u64) -> u64 {
    (4 - size % 4) % 4
}

/// Reads one header and the name behind it.
pub(super) fn read(
    walk: &mut Walk<'_>,
    stream: &mut dyn Read,
    list: Option<&dyn FileList>,
) -> Result<Fields, Error> {
    let magic = exactly(walk, stream, 6, "a cpio header")?;
    match (magic.as_slice(), list) {
        (b"070701", _) => new_ascii(walk, stream, false),
        (b"070702", _) => new_ascii(walk, stream, true),
        (b"070707", _) => old_ascii(walk, stream),
        (b"07070X", Some(list)) => listed(walk, stream, list),
        _ => Err(Error::corrupt(walk.archive, "a member of the cpio archive does not begin with a header")),
    }
}

/// Thirteen numbers of eight hexadecimal digits.
fn new_ascii(walk: &mut Walk<'_>, stream: &mut dyn Read, summed: bool) -> Result<Fields, Error> {
    let header = exactly(walk, stream, 13 * 8, "a cpio header")?;
    let mut numbers = [0_u32; 13];
    for (number, digits) in numbers.iter_mut().zip(header.chunks_exact(8)) {
        *number = u32::try_from(number_of(walk, digits, 16)?).unwrap_or_default();
    }
    let [inode, mode, uid, gid, links, _time, size, major, minor, node_major, node_minor, name_size, sum] =
        numbers;
    let name = name(walk, stream, u64::from(name_size))?;
    // Magic, numbers and name together are padded.
    walk.skip(stream, to_four(6 + 13 * 8 + u64::from(name_size)))?;
    Ok(Fields {
        name,
        mode,
        uid: u64::from(uid),
        gid: u64::from(gid),
        size: u64::from(size),
        file: (u64::from(inode), u64::from(major) << 32 | u64::from(minor)),
        links: u64::from(links),
        device: (node_major, node_minor),
        sum: (summed && mode & 0o170_000 == 0o100_000).then_some(sum),
        form: Form::New,
    })
}

/// Device, inode, mode, owner, group, links and node with six octal digits, time with eleven, name with six, size with eleven.
fn old_ascii(walk: &mut Walk<'_>, stream: &mut dyn Read) -> Result<Fields, Error> {
    let header = exactly(walk, stream, 70, "a cpio header")?;
    let octal = |from: usize, to: usize| number_of(walk, header.get(from..to).unwrap_or_default(), 8);
    let (device, inode, mode) = (octal(0, 6)?, octal(6, 12)?, octal(12, 18)?);
    let (uid, gid, links, node) = (octal(18, 24)?, octal(24, 30)?, octal(30, 36)?, octal(36, 42)?);
    let (name_size, size) = (octal(53, 59)?, octal(59, 70)?);
    let node = u32::try_from(node).unwrap_or_default();
    Ok(Fields {
        name: name(walk, stream, name_size)?,
        mode: u32::try_from(mode).unwrap_or_default(),
        uid,
        gid,
        size,
        file: (inode, device),
        links,
        device: (node >> 8, node & 0xff),
        sum: None,
        form: Form::Old,
    })
}

/// A place in the package's list of files, padded to four bytes with the magic.
fn listed(walk: &mut Walk<'_>, stream: &mut dyn Read, list: &dyn FileList) -> Result<Fields, Error> {
    let digits = exactly(walk, stream, 8 + 2, "a cpio header")?;
    let index = number_of(walk, digits.get(..8).unwrap_or_default(), 16)?;
    let member = u32::try_from(index).ok().and_then(|index| list.member(index));
    member.ok_or_else(|| {
        Error::corrupt(
            walk.archive,
            format!("its payload has a file number {index}, which the package does not list"),
        )
    })
}

fn name(walk: &mut Walk<'_>, stream: &mut dyn Read, size: u64) -> Result<Vec<u8>, Error> {
    if size > walk.limits.path_bytes as u64 + 3 {
        let what = format!("a member of the cpio archive has a name of {size} bytes");
        return Err(Error::limit(walk.archive, what, walk.limits.path_bytes as u64));
    }
    let mut name = exactly(walk, stream, size, "the name of a member")?;
    // The NUL at the end is counted.
    if name.pop() != Some(0) {
        return Err(Error::corrupt(walk.archive, "the name of a member does not end with NUL"));
    }
    Ok(name)
}

/// Exactly `size` bytes, where `size` is within a bound of the caller.
pub(super) fn exactly(
    walk: &mut Walk<'_>,
    stream: &mut dyn Read,
    size: u64,
    what: &str,
) -> Result<Vec<u8>, Error> {
    walk.count_bytes(size)?;
    let mut bytes = Vec::new();
    stream.take(size).read_to_end(&mut bytes).map_err(|e| Error::decoding(walk.archive, what, e))?;
    if bytes.len() as u64 != size {
        return Err(Error::truncated(walk.archive, format!("it ends inside {what}")));
    }
    Ok(bytes)
}

fn number_of(walk: &Walk<'_>, digits: &[u8], radix: u32) -> Result<u64, Error> {
    let text =
        std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
    text.and_then(|text| u64::from_str_radix(text, radix).ok()).ok_or_else(|| {
        Error::corrupt(walk.archive, format!("a cpio header has `{}` for a number", printable(digits)))
    })
}
