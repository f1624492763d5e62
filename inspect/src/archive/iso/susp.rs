//! The System Use Sharing Protocol, and Rock Ridge within it.

use super::super::Source;
use super::records::{SECTOR, u32_at};
use crate::Error;

/// Continuation areas followed for one record; a name and a link's target of full length need about forty.
const CONTINUATIONS: usize = 64;
/// Fields read of one record.
const FIELDS: usize = 1024;
/// Bytes of a name or of a link's target.
const TEXT: usize = 8192;

/// Flags of `NM` and of components of `SL`.
const CONTINUE: u8 = 1;
const CURRENT: u8 = 1 << 1;
const PARENT: u8 = 1 << 2;
const ROOT: u8 = 1 << 3;

/// What Rock Ridge says about a record.
#[derive(Debug, Default)]
pub(super) struct Fields {
    /// `NM`.
    pub(super) name: Option<Vec<u8>>,
    /// `SL`.
    pub(super) target: Option<Vec<u8>>,
    /// `PX`.
    pub(super) mode: Option<u32>,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// `PN`.
    pub(super) device: (u32, u32),
    /// `CL`: the sector of a directory that lies elsewhere.
    pub(super) child: Option<u32>,
    /// `RE`: a directory that belongs elsewhere.
    pub(super) relocated: bool,
    /// The last component of a target goes on.
    split: bool,
}

/// Whether the root's own record announces the protocol (`SP`), and how many bytes stand before its fields in others.
pub(super) fn announced(system_use: &[u8]) -> Option<usize> {
    match system_use {
        [b'S', b'P', 7, 1, 0xbe, 0xef, skip, ..] => Some(usize::from(*skip)),
        // CD-ROM XA has fourteen bytes of its own here.
        _ => match system_use.get(14..) {
            Some([b'S', b'P', 7, 1, 0xbe, 0xef, skip, ..]) => Some(usize::from(*skip)),
            _ => None,
        },
    }
}

/// Reads the fields of one record, with those that did not fit into it.
pub(super) fn read(source: &mut Source<'_>, system_use: &[u8], skip: usize) -> Result<Fields, Error> {
    let mut fields = Fields::default();
    let mut area = system_use.get(skip..).unwrap_or_default().to_vec();
    let mut count = 0;
    for _ in 0..CONTINUATIONS {
        let mut next = None;
        let mut rest = area.as_slice();
        // Signature, length, version.
        while let [a, b, length, _, ..] = *rest {
            let Some(body) = rest.get(4..usize::from(length)) else { break };
            count += 1;
            if count > FIELDS || [a, b] == *b"ST" {
                break;
            }
            if [a, b] == *b"CE" {
                next = continuation(body);
            } else {
                fields.absorb([a, b], body);
            }
            rest = rest.get(usize::from(length)..).unwrap_or_default();
        }
        let Some((at, length)) = next else { return Ok(fields) };
        area = source.read_at(at, length)?;
    }
    Err(Error::corrupt(source.name(), "a record of its directories goes on without end"))
}

/// Sector, offset and length of a continuation, each in both byte orders.
fn continuation(body: &[u8]) -> Option<(u64, usize)> {
    let (sector, offset, length) = (u32_at(body, 0)?, u32_at(body, 8)?, u32_at(body, 16)?);
    let start = u64::from(sector).checked_mul(SECTOR)?.checked_add(u64::from(offset))?;
    Some((start, usize::try_from(u64::from(length).min(SECTOR)).ok()?))
}

impl Fields {
    fn absorb(&mut self, signature: [u8; 2], body: &[u8]) {
        match &signature {
            b"NM" => self.name(body),
            b"SL" => self.link(body),
            b"PX" => {
                self.mode = u32_at(body, 0);
                self.uid = u32_at(body, 16).unwrap_or(0);
                self.gid = u32_at(body, 24).unwrap_or(0);
            }
            b"PN" => self.device = device(u32_at(body, 0).unwrap_or(0), u32_at(body, 8).unwrap_or(0)),
            b"CL" => self.child = u32_at(body, 0),
            b"RE" => self.relocated = true,
            _ => {}
        }
    }

    fn name(&mut self, body: &[u8]) {
        let [flags, text @ ..] = body else { return };
        let name = self.name.get_or_insert_default();
        if name.len() < TEXT && flags & (CURRENT | PARENT) == 0 {
            name.extend_from_slice(text);
        }
    }

    /// Components, each with flags and a length; a flag of the whole field says that there is another, which matters not.
    fn link(&mut self, body: &[u8]) {
        let target = self.target.get_or_insert_default();
        let mut rest = body.get(1..).unwrap_or_default();
        while let [flags, length, ..] = *rest {
            let Some(text) = rest.get(2..2 + usize::from(length)) else { return };
            if target.len() > TEXT {
                return;
            }
            if !self.split && !target.is_empty() && target.last() != Some(&b'/') {
                target.push(b'/');
            }
            match flags {
                flags if flags & CURRENT != 0 => target.push(b'.'),
                flags if flags & PARENT != 0 => target.extend_from_slice(b".."),
                flags if flags & ROOT != 0 => target.push(b'/'),
                _ => target.extend_from_slice(text),
            }
            self.split = flags & CONTINUE != 0;
            rest = rest.get(2 + usize::from(length)..).unwrap_or_default();
        }
    }
}

/// Some writers put the whole number into the low half, as Linux kept it.
fn device(high: u32, low: u32) -> (u32, u32) {
    if high == 0 && low > 0xff { (low >> 8 & 0xff, low & 0xff) } else { (high, low) }
}
