//! The content of files.

use std::io::{self, Read};

use super::image::{Cursor, Fields, Image, corrupt};
use super::inode::FileInode;

/// A file being read, block by block.
pub(super) struct Content<'c, 'i, 's> {
    image: &'c mut Image<'i, 's>,
    /// The next entry of the block list.
    blocks: Cursor,
    /// The next block.
    at: u64,
    fragment: Option<(u32, u32)>,
    /// Bytes behind the block in memory.
    left: u64,
    block: Vec<u8>,
    used: usize,
}

impl<'c, 'i, 's> Content<'c, 'i, 's> {
    pub(super) fn new(image: &'c mut Image<'i, 's>, file: &FileInode) -> Self {
        let FileInode { size, start, fragment, blocks } = *file;
        Self { image, blocks, at: start, fragment, left: size, block: Vec::new(), used: 0 }
    }

    fn next_block(&mut self) -> io::Result<()> {
        let block_size = u64::from(self.image.superblock.block_size);
        let expected = usize::try_from(self.left.min(block_size)).unwrap_or(0);
        self.block = match self.fragment {
            Some((index, offset)) if self.left < block_size => {
                let fragment = self.image.fragment(index)?;
                let end = fragment.get(offset as usize..).and_then(|rest| rest.get(..expected));
                end.ok_or_else(|| corrupt("a file that ends outside of its fragment"))?.to_vec()
            }
            _ => self.data(expected)?,
        };
        if self.block.len() != expected {
            return Err(corrupt("a data block that unpacks to another size"));
        }
        self.used = 0;
        self.left -= expected as u64;
        Ok(())
    }

    fn data(&mut self, expected: usize) -> io::Result<Vec<u8>> {
        let size = Fields(&self.image.read(&mut self.blocks, 4)?).u32()?;
        // A hole.
        if size == 0 {
            return Ok(vec![0; expected]);
        }
        let block = self.image.data_block(self.at, size)?;
        self.at = self.at.saturating_add(Image::packed_size(size).into());
        Ok(block)
    }
}

impl Read for Content<'_, '_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.used == self.block.len() {
            if self.left == 0 || buffer.is_empty() {
                return Ok(0);
            }
            self.next_block()?;
        }
        let got = self.block.get(self.used..).unwrap_or_default().read(buffer)?;
        self.used += got;
        Ok(got)
    }
}
