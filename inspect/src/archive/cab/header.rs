//! The tables at the beginning of a cabinet: [MS-CAB] 2.1 to 2.5.

use super::super::{Source, printable};
use super::folder::Method;
use crate::Error;

/// `CFHEADER` without its optional fields.
const HEADER: usize = 36;
const FOLDER: usize = 8;
const FILE: usize = 16;

/// `cfhdrPREV_CABINET`, `cfhdrNEXT_CABINET`, `cfhdrRESERVE_PRESENT`.
const PREVIOUS: u16 = 1;
const RESERVE: u16 = 4;

/// `szName` has at most 256 bytes and its NUL, and so have the names of other cabinets.
const NAME: usize = 257;
/// `_A_NAME_IS_UTF`.
const UTF8: u16 = 0x80;
/// From here on `iFolder` says that the file began in the cabinet before or ends in the next.
const CONTINUED: u16 = 0xfffd;

#[derive(Debug)]
pub(super) struct Cabinet {
    pub(super) folders: Vec<Description>,
    pub(super) members: Vec<Member>,
    /// Bytes of each data block for the application's own use.
    pub(super) block_reserve: u8,
}

/// Where a folder's data blocks are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Description {
    pub(super) start: u32,
    pub(super) blocks: u16,
    pub(super) method: Method,
}

/// A file as the cabinet lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Member {
    /// As it stands there, with backslashes.
    pub(in super::super) name: String,
    pub(in super::super) size: u32,
    /// In the folder's unpacked data.
    pub(super) offset: u32,
    pub(super) folder: u16,
}

impl Cabinet {
    pub(super) fn read(source: &mut Source<'_>, entries_max: u64) -> Result<Self, Error> {
        let header = source.read_exact_at(0, HEADER, "the header of the cabinet")?;
        let (files_at, folders, files, flags) =
            (u32_at(&header, 16), u16_at(&header, 26), u16_at(&header, 28), u16_at(&header, 30));
        if !header.starts_with(b"MSCF") {
            return Err(Error::corrupt(source.name(), "it does not begin like a cabinet"));
        }
        if u64::from(files) > entries_max {
            return Err(Error::limit(source.name(), "number of entries", entries_max));
        }
        let mut at = HEADER as u64;
        let (mut folder_reserve, mut block_reserve) = (0_u8, 0_u8);
        if flags & RESERVE != 0 {
            let sizes = source.read_exact_at(at, 4, "the header of the cabinet")?;
            folder_reserve = sizes.get(2).copied().unwrap_or(0);
            block_reserve = sizes.get(3).copied().unwrap_or(0);
            at += 4 + u64::from(u16_at(&sizes, 0));
        }
        // The cabinet before and the next one, each with the name of its disk.
        for flag in [PREVIOUS, PREVIOUS << 1] {
            for _ in 0..if flags & flag == 0 { 0 } else { 2 } {
                let (_, length) = name(source, at)?;
                at += length;
            }
        }
        let mut descriptions = Vec::new();
        for _ in 0..folders {
            let raw = source.read_exact_at(at, FOLDER, "the list of folders")?;
            let (start, blocks) = (u32_at(&raw, 0), u16_at(&raw, 4));
            descriptions.push(Description { start, blocks, method: Method::of(u16_at(&raw, 6)) });
            at += FOLDER as u64 + u64::from(folder_reserve);
        }
        let members = members(source, u64::from(files_at), files)?;
        Ok(Self { folders: descriptions, members, block_reserve })
    }
}

fn members(source: &mut Source<'_>, mut at: u64, count: u16) -> Result<Vec<Member>, Error> {
    let mut members = Vec::new();
    for _ in 0..count {
        let raw = source.read_exact_at(at, FILE, "the list of files")?;
        let (size, offset, folder, attributes) =
            (u32_at(&raw, 0), u32_at(&raw, 4), u16_at(&raw, 8), u16_at(&raw, 14));
        at += FILE as u64;
        let (raw_name, length) = name(source, at)?;
        at += length;
        if folder >= CONTINUED {
            let name = printable(&raw_name);
            let what = format!("member `{name}` is spread over several cabinets, of which this is one");
            return Err(Error::unsupported(source.name(), what));
        }
        members.push(Member { name: text(&raw_name, attributes), size, offset, folder });
    }
    Ok(members)
}

/// A text that ends with NUL, and its length with it.
fn name(source: &mut Source<'_>, at: u64) -> Result<(Vec<u8>, u64), Error> {
    let mut raw = source.read_at(at, NAME)?;
    let Some(end) = memchr::memchr(0, &raw) else {
        return Err(Error::corrupt(source.name(), "a name in the cabinet has no end"));
    };
    raw.truncate(end);
    Ok((raw, end as u64 + 1))
}

/// Names are UTF-8 where they say so, and in the code page of whoever packed them otherwise: Latin-1 is the guess that
/// never fails.
fn text(raw: &[u8], attributes: u16) -> String {
    match std::str::from_utf8(raw) {
        Ok(text) => text.to_owned(),
        Err(_) if attributes & UTF8 != 0 => String::from_utf8_lossy(raw).into_owned(),
        Err(_) => raw.iter().copied().map(char::from).collect(),
    }
}

/// Little-endian numbers of headers that were read whole.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|raw| raw.try_into().ok()).map_or(0, u16::from_le_bytes)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|raw| raw.try_into().ok()).map_or(0, u32::from_le_bytes)
}
