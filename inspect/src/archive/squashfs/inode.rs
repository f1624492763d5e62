//! Inodes (`squashfs_inode` and its variants in `squashfs_fs.h`).

use std::io;

use super::super::Limits;
use super::image::{Cursor, Fields, Image, corrupt};

/// The value of indices that point nowhere (`SQUASHFS_INVALID_FRAG`, `SQUASHFS_INVALID_XATTR`).
const NONE: u32 = u32::MAX;

/// What is used of an inode.
#[derive(Debug)]
pub(super) struct Inode {
    pub(super) kind: Kind,
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Names; 1 where the inode does not say.
    pub(super) links: u32,
    /// Its entry in the table of attributes.
    pub(super) xattrs: Option<u32>,
}

#[derive(Debug)]
pub(super) enum Kind {
    Directory { block: u32, offset: u16, size: u32 },
    File(FileInode),
    Symlink(Vec<u8>),
    Device { block: bool, major: u32, minor: u32 },
    Fifo,
    Socket,
}

/// Where the content of a file is.
#[derive(Debug)]
pub(super) struct FileInode {
    pub(super) size: u64,
    /// The first data block.
    pub(super) start: u64,
    /// The block with its end and the offset there.
    pub(super) fragment: Option<(u32, u32)>,
    /// The sizes of its blocks.
    pub(super) blocks: Cursor,
}

impl Inode {
    /// Reads the inode at `reference`.
    pub(super) fn read(image: &mut Image<'_, '_>, reference: u64, limits: &Limits) -> io::Result<Self> {
        let mut cursor = Cursor::of(image.superblock.inode_table, reference);
        let header = image.read(&mut cursor, 16)?;
        let mut fields = Fields(&header);
        let (number, mode) = (fields.u16()?, fields.u16()?);
        let (uid, gid) = (image.id(fields.u16()?)?, image.id(fields.u16()?)?);
        let mut inode = Self { kind: Kind::Socket, mode, uid, gid, links: 1, xattrs: None };
        // Types 8 to 14 are the extended forms of 1 to 7.
        inode.kind = match number {
            1 => inode.directory(image, &mut cursor)?,
            2 => inode.file(image, cursor)?,
            3 | 10 => inode.symlink(image, cursor, number == 10, limits)?,
            4 | 5 | 11 | 12 => inode.device(image, cursor, number)?,
            6 | 7 | 13 | 14 => inode.pipe(image, cursor, number)?,
            8 => inode.extended_directory(image, &mut cursor)?,
            9 => inode.extended_file(image, cursor)?,
            _ => return Err(corrupt("an inode of unknown type")),
        };
        Ok(inode)
    }

    fn xattrs(&mut self, index: u32) {
        self.xattrs = (index != NONE).then_some(index);
    }

    fn directory(&mut self, image: &mut Image<'_, '_>, cursor: &mut Cursor) -> io::Result<Kind> {
        let bytes = image.read(cursor, 16)?;
        let mut fields = Fields(&bytes);
        let block = fields.u32()?;
        self.links = fields.u32()?;
        let (size, offset) = (fields.u16()?, fields.u16()?);
        Ok(Kind::Directory { block, offset, size: size.into() })
    }

    fn extended_directory(&mut self, image: &mut Image<'_, '_>, cursor: &mut Cursor) -> io::Result<Kind> {
        let bytes = image.read(cursor, 24)?;
        let mut fields = Fields(&bytes);
        self.links = fields.u32()?;
        let (size, block, _parent) = (fields.u32()?, fields.u32()?, fields.u32()?);
        let (_index, offset) = (fields.u16()?, fields.u16()?);
        self.xattrs(fields.u32()?);
        Ok(Kind::Directory { block, offset, size })
    }

    fn file(&mut self, image: &mut Image<'_, '_>, mut cursor: Cursor) -> io::Result<Kind> {
        let bytes = image.read(&mut cursor, 16)?;
        let mut fields = Fields(&bytes);
        let (start, fragment, offset, size) = (fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?);
        let fragment = (fragment != NONE).then_some((fragment, offset));
        Ok(Kind::File(FileInode { size: size.into(), start: start.into(), fragment, blocks: cursor }))
    }

    fn extended_file(&mut self, image: &mut Image<'_, '_>, mut cursor: Cursor) -> io::Result<Kind> {
        let bytes = image.read(&mut cursor, 40)?;
        let mut fields = Fields(&bytes);
        let (start, size, _sparse) = (fields.u64()?, fields.u64()?, fields.u64()?);
        self.links = fields.u32()?;
        let (fragment, offset) = (fields.u32()?, fields.u32()?);
        self.xattrs(fields.u32()?);
        let fragment = (fragment != NONE).then_some((fragment, offset));
        Ok(Kind::File(FileInode { size, start, fragment, blocks: cursor }))
    }

    fn symlink(
        &mut self,
        image: &mut Image<'_, '_>,
        mut cursor: Cursor,
        extended: bool,
        limits: &Limits,
    ) -> io::Result<Kind> {
        let bytes = image.read(&mut cursor, 8)?;
        let mut fields = Fields(&bytes);
        self.links = fields.u32()?;
        let size = fields.u32()? as usize;
        // One byte more than is allowed is enough to be refused.
        let target = image.read(&mut cursor, size.min(limits.symlink_bytes.saturating_add(1)))?;
        if extended && size == target.len() {
            self.xattrs(Fields(&image.read(&mut cursor, 4)?).u32()?);
        }
        Ok(Kind::Symlink(target))
    }

    fn device(&mut self, image: &mut Image<'_, '_>, mut cursor: Cursor, number: u16) -> io::Result<Kind> {
        let bytes = image.read(&mut cursor, 8)?;
        let mut fields = Fields(&bytes);
        self.links = fields.u32()?;
        let device = fields.u32()?;
        if number > 7 {
            self.xattrs(Fields(&image.read(&mut cursor, 4)?).u32()?);
        }
        // The kernel's `new_decode_dev`.
        let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xf_ff00));
        Ok(Kind::Device { block: matches!(number, 4 | 11), major, minor })
    }

    fn pipe(&mut self, image: &mut Image<'_, '_>, mut cursor: Cursor, number: u16) -> io::Result<Kind> {
        self.links = Fields(&image.read(&mut cursor, 4)?).u32()?;
        if number > 7 {
            self.xattrs(Fields(&image.read(&mut cursor, 4)?).u32()?);
        }
        Ok(if matches!(number, 6 | 13) { Kind::Fifo } else { Kind::Socket })
    }
}
