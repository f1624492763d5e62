//! Names of extended attributes (`squashfs_xattr_entry` and its tables).

use std::io;

use super::super::printable;
use super::image::{Cursor, Fields, Image, corrupt};

/// Names kept per file, as of every format.
const NAMES: u32 = 16;
/// The longest value Linux allows (`XATTR_SIZE_MAX`).
const VALUE: usize = 65536;
/// The table's entries in one metadata block: 16 bytes each.
const PER_BLOCK: u32 = 512;

/// The first names of the attributes with this index, sorted.
pub(super) fn names(image: &mut Image<'_, '_>, index: u32) -> io::Result<Vec<String>> {
    let table = image.superblock.xattr_table;
    if table == u64::MAX {
        return Err(corrupt("there is no table of attributes"));
    }
    let values = image.position_at(table)?;
    // The positions of the table's blocks follow a header of sixteen bytes.
    let at = table.saturating_add(16).saturating_add(u64::from(index / PER_BLOCK) * 8);
    let mut cursor = Cursor { block: image.position_at(at)?, offset: (index % PER_BLOCK) as usize * 16 };
    let entry = image.read(&mut cursor, 16)?;
    let mut fields = Fields(&entry);
    let (reference, count) = (fields.u64()?, fields.u32()?);
    let mut cursor = Cursor::of(values, reference);
    let mut names = Vec::new();
    for _ in 0..count.min(NAMES) {
        names.push(name(image, &mut cursor)?);
    }
    names.sort();
    names.dedup();
    Ok(names)
}

fn name(image: &mut Image<'_, '_>, cursor: &mut Cursor) -> io::Result<String> {
    let head = image.read(cursor, 4)?;
    let mut fields = Fields(&head);
    let (kind, length) = (fields.u16()?, fields.u16()?);
    // `SQUASHFS_XATTR_PREFIX_MASK`.
    let prefix = match kind & 0xff {
        0 => "user.",
        1 => "trusted.",
        2 => "security.",
        _ => return Err(corrupt("an attribute of unknown kind")),
    };
    // `XATTR_NAME_MAX`.
    if length > 255 {
        return Err(corrupt("an attribute with a name longer than 255 bytes"));
    }
    let rest = image.read(cursor, usize::from(length))?;
    let size = Fields(&image.read(cursor, 4)?).u32()? as usize;
    if size > VALUE {
        return Err(corrupt("an attribute longer than Linux allows"));
    }
    image.skip(cursor, size)?;
    Ok(format!("{prefix}{}", printable(&rest)))
}
