//! Directory listings (`squashfs_dir_header` and `squashfs_dir_entry`).

use std::io;

use super::image::{Cursor, Fields, Image, corrupt};

/// Entries behind one header (`SQUASHFS_DIR_COUNT`).
const GROUP: u32 = 256;

/// The names of one directory, read one after the other.
#[derive(Debug)]
pub(super) struct Listing {
    cursor: Cursor,
    /// Bytes left.
    left: u32,
    /// Entries left behind the last header, and the metadata block of their inodes.
    group: (u32, u32),
}

impl Listing {
    pub(super) fn new(image: &Image<'_, '_>, block: u32, offset: u16, size: u32) -> Self {
        let table = image.superblock.directory_table;
        let cursor = Cursor { block: table.saturating_add(u64::from(block)), offset: usize::from(offset) };
        // The size counts three bytes for `.` and `..`, which are not stored.
        Self { cursor, left: size.saturating_sub(3), group: (0, 0) }
    }

    /// The next name and the reference of its inode.
    pub(super) fn next(&mut self, image: &mut Image<'_, '_>) -> io::Result<Option<(Vec<u8>, u64)>> {
        if self.group.0 == 0 {
            if self.left == 0 {
                return Ok(None);
            }
            let header = self.take(image, 12)?;
            let mut fields = Fields(&header);
            let (count, block) = (fields.u32()?.saturating_add(1), fields.u32()?);
            if count > GROUP {
                return Err(corrupt("a group of too many names"));
            }
            self.group = (count, block);
        }
        let entry = self.take(image, 8)?;
        let mut fields = Fields(&entry);
        let offset = fields.u16()?;
        let (_number, _type) = (fields.u16()?, fields.u16()?);
        let length = u32::from(fields.u16()?).saturating_add(1);
        // `SQUASHFS_NAME_LEN`.
        if length > 256 {
            return Err(corrupt("a name longer than 256 bytes"));
        }
        let name = self.take(image, length)?;
        self.group.0 -= 1;
        Ok(Some((name, u64::from(self.group.1) << 16 | u64::from(offset))))
    }

    fn take(&mut self, image: &mut Image<'_, '_>, length: u32) -> io::Result<Vec<u8>> {
        self.left =
            self.left.checked_sub(length).ok_or_else(|| corrupt("a listing that ends inside an entry"))?;
        image.read(&mut self.cursor, length as usize)
    }
}
