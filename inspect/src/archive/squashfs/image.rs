//! The superblock, metadata blocks and fragments of an image.

use std::collections::VecDeque;
use std::io::{self, Read, Seek, SeekFrom};
use std::rc::Rc;

use super::super::{Limits, Source};
use super::codec::Codec;
use crate::Error;

/// `squashfs_super_block`.
const SUPERBLOCK: usize = 96;
/// `SQUASHFS_METADATA_SIZE`.
const METADATA: usize = 8192;
/// Metadata blocks kept: inodes and directories of neighbours lie in the same ones.
const METADATA_KEPT: usize = 64;
/// Fragment blocks kept, of at most 1 MiB each: the ends of neighbouring files lie in the same ones.
const FRAGMENTS_KEPT: usize = 8;
/// Fragments in one metadata block: 16 bytes each.
const FRAGMENTS_PER_BLOCK: u32 = 512;
/// Owners in one metadata block: 4 bytes each.
const IDS_PER_BLOCK: u16 = 2048;
/// The bit of a data block's size that says it is stored (`SQUASHFS_COMPRESSED_BIT_BLOCK`).
const STORED: u32 = 1 << 24;

pub(super) fn corrupt(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Numbers in little-endian order, one after the other.
pub(super) struct Fields<'b>(pub(super) &'b [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk().ok_or(io::ErrorKind::UnexpectedEof)?;
        self.0 = rest;
        Ok(*first)
    }

    pub(super) fn u16(&mut self) -> io::Result<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> io::Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> io::Result<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

/// What of the superblock is used.
#[derive(Debug, Clone)]
pub(super) struct Superblock {
    pub(super) block_size: u32,
    fragments: u32,
    codec: u16,
    ids: u16,
    pub(super) root: u64,
    pub(super) bytes_used: u64,
    id_table: u64,
    /// All ones where there is none.
    pub(super) xattr_table: u64,
    pub(super) inode_table: u64,
    pub(super) directory_table: u64,
    fragment_table: u64,
}

impl Superblock {
    /// Reads the superblock at the beginning of `bytes`.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        Self::fields(bytes).map_err(|_| "it ends inside its superblock".to_owned())?
    }

    fn fields(bytes: &[u8]) -> io::Result<Result<Self, String>> {
        let mut fields = Fields(bytes);
        let magic = fields.u32()?;
        let (_inodes, _time) = (fields.u32()?, fields.u32()?);
        let (block_size, fragments) = (fields.u32()?, fields.u32()?);
        let (codec, block_log, _flags, ids) = (fields.u16()?, fields.u16()?, fields.u16()?, fields.u16()?);
        let (major, minor) = (fields.u16()?, fields.u16()?);
        let (root, bytes_used, id_table, xattr_table) =
            (fields.u64()?, fields.u64()?, fields.u64()?, fields.u64()?);
        let (inode_table, directory_table, fragment_table) = (fields.u64()?, fields.u64()?, fields.u64()?);
        if magic.to_le_bytes() != *b"hsqs" || (major, minor) != (4, 0) {
            return Ok(Err(format!("its file system is squashfs {major}.{minor}, and only 4.0 is known")));
        }
        // `SQUASHFS_FILE_MAX_LOG` is 20; 4 KiB is the least a kernel mounts.
        if !(12..=20).contains(&block_log) || block_size != 1 << block_log {
            return Ok(Err(format!("its block size is {block_size}")));
        }
        Ok(Ok(Self {
            block_size,
            fragments,
            codec,
            ids,
            root,
            bytes_used,
            id_table,
            xattr_table,
            inode_table,
            directory_table,
            fragment_table,
        }))
    }
}

/// A place in metadata: a block, by its position in the image, and an offset in what it unpacks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) block: u64,
    pub(super) offset: usize,
}

impl Cursor {
    /// A reference (block times 65536 plus offset) into the table at `table`.
    pub(super) fn of(table: u64, reference: u64) -> Self {
        let offset = usize::from(u16::try_from(reference & 0xffff).unwrap_or(0));
        Self { block: table.saturating_add(reference >> 16), offset }
    }
}

#[derive(Debug, Clone)]
struct Metadata {
    at: u64,
    next: u64,
    bytes: Rc<[u8]>,
}

/// An image that is being read.
pub(super) struct Image<'i, 's> {
    source: &'i mut Source<'s>,
    pub(super) superblock: Superblock,
    codec: Codec,
    decoder_memory: u64,
    ids: Vec<u32>,
    metadata: VecDeque<Metadata>,
    fragments: VecDeque<(u32, Rc<[u8]>)>,
    /// Bytes of metadata and fragments that may still be unpacked: an image could make us unpack the same ones for ever.
    unpack_left: u64,
}

impl<'i, 's> Image<'i, 's> {
    pub(super) fn open(source: &'i mut Source<'s>, limits: &Limits) -> Result<Self, Error> {
        let name = source.name().to_owned();
        let head = source.read_exact_at(0, SUPERBLOCK, "the superblock of the file system")?;
        let superblock = Superblock::read(&head).map_err(|what| Error::unsupported(&name, what))?;
        let codec = Codec::of(superblock.codec).map_err(|codec| {
            Error::unsupported(
                &name,
                format!("its file system is compressed with {codec}, which is not read"),
            )
        })?;
        if superblock.bytes_used > source.len() {
            let (size, there) = (superblock.bytes_used, source.len());
            return Err(Error::truncated(
                &name,
                format!("the file system should have {size} bytes, {there} are there"),
            ));
        }
        let unpack_left = limits.total_for(source.len());
        let mut image = Self {
            source,
            superblock,
            codec,
            decoder_memory: limits.decoder_memory,
            ids: Vec::new(),
            metadata: VecDeque::new(),
            fragments: VecDeque::new(),
            unpack_left,
        };
        image.ids = image.read_ids().map_err(|e| Error::decoding(&name, "the table of owners", e))?;
        Ok(image)
    }

    /// At most 65535 owners, as their count has sixteen bits.
    fn read_ids(&mut self) -> io::Result<Vec<u32>> {
        let mut ids = Vec::new();
        for block in 0..self.superblock.ids.div_ceil(IDS_PER_BLOCK) {
            let at = self.superblock.id_table.saturating_add(u64::from(block) * 8);
            let mut cursor = Cursor { block: self.position_at(at)?, offset: 0 };
            let left = self.superblock.ids - block * IDS_PER_BLOCK;
            for _ in 0..left.min(IDS_PER_BLOCK) {
                ids.push(Fields(&self.read(&mut cursor, 4)?).u32()?);
            }
        }
        Ok(ids)
    }

    pub(super) fn id(&self, index: u16) -> io::Result<u32> {
        self.ids.get(usize::from(index)).copied().ok_or_else(|| corrupt("an owner that is not in the table"))
    }

    /// `length` bytes of the image itself; `length` is bounded by the caller.
    fn bytes_at(&mut self, at: u64, length: usize) -> io::Result<Vec<u8>> {
        self.source.seek(SeekFrom::Start(at))?;
        let mut bytes = Vec::new();
        self.source.by_ref().take(length as u64).read_to_end(&mut bytes)?;
        if bytes.len() < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(bytes)
    }

    /// An entry of the tables that say where metadata blocks are.
    pub(super) fn position_at(&mut self, at: u64) -> io::Result<u64> {
        Fields(&self.bytes_at(at, 8)?).u64()
    }

    /// `length` bytes of metadata, moving the cursor; `length` is bounded by the caller.
    pub(super) fn read(&mut self, cursor: &mut Cursor, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while bytes.len() < length {
            let block = self.metadata(cursor.block)?;
            let there = block.bytes.get(cursor.offset..).unwrap_or_default();
            if there.is_empty() {
                // An offset behind the end of its block is damage, unless it is the end of a block read before.
                if cursor.offset != block.bytes.len() || block.bytes.is_empty() {
                    return Err(corrupt("an offset outside its metadata block"));
                }
                *cursor = Cursor { block: block.next, offset: 0 };
                continue;
            }
            let taken = there.len().min(length - bytes.len());
            bytes.extend_from_slice(&there[..taken]);
            cursor.offset += taken;
        }
        Ok(bytes)
    }

    /// Moves a cursor over `length` bytes.
    pub(super) fn skip(&mut self, cursor: &mut Cursor, length: usize) -> io::Result<()> {
        let mut left = length;
        while left > 0 {
            left -= self.read(cursor, left.min(METADATA))?.len();
        }
        Ok(())
    }

    fn metadata(&mut self, at: u64) -> io::Result<Metadata> {
        if let Some(index) = self.metadata.iter().position(|block| block.at == at) {
            if index > 0
                && let Some(block) = self.metadata.remove(index)
            {
                self.metadata.push_front(block);
            }
            if let Some(block) = self.metadata.front() {
                return Ok(block.clone());
            }
        }
        let header = Fields(&self.bytes_at(at, 2)?).u16()?;
        // `SQUASHFS_COMPRESSED_BIT`: the highest bit says that it is stored.
        let (stored, size) = (header & 0x8000 != 0, usize::from(header & 0x7fff));
        if size > METADATA || size == 0 {
            return Err(corrupt("a metadata block of impossible size"));
        }
        let begin = at.saturating_add(2);
        let packed = self.bytes_at(begin, size)?;
        let bytes: Rc<[u8]> =
            if stored { packed.into() } else { self.unpack(&packed, METADATA, true)?.into() };
        let block = Metadata { at, next: begin.saturating_add(size as u64), bytes };
        self.metadata.truncate(METADATA_KEPT - 1);
        self.metadata.push_front(block.clone());
        Ok(block)
    }

    fn unpack(&mut self, packed: &[u8], most: usize, counted: bool) -> io::Result<Vec<u8>> {
        let bytes = self.codec.unpack(packed, most, self.decoder_memory)?;
        if counted {
            self.unpack_left = self
                .unpack_left
                .checked_sub(bytes.len() as u64)
                .ok_or_else(|| corrupt("the same blocks are used over and over"))?;
        }
        Ok(bytes)
    }

    /// A data block, as its size in the block list describes it.
    pub(super) fn data_block(&mut self, at: u64, size: u32) -> io::Result<Vec<u8>> {
        self.block(at, size, false)
    }

    /// The bytes a data block has in the image.
    pub(super) fn packed_size(size: u32) -> u32 {
        size & (STORED - 1)
    }

    fn block(&mut self, at: u64, size: u32, counted: bool) -> io::Result<Vec<u8>> {
        let (packed_size, most) = (Self::packed_size(size), self.superblock.block_size);
        if packed_size > most || size > STORED | most {
            return Err(corrupt("a data block larger than the blocks of this image"));
        }
        let packed = self.bytes_at(at, packed_size as usize)?;
        if size & STORED != 0 { Ok(packed) } else { self.unpack(&packed, most as usize, counted) }
    }

    /// A block that holds the ends of several files.
    pub(super) fn fragment(&mut self, index: u32) -> io::Result<Rc<[u8]>> {
        if let Some((_, bytes)) = self.fragments.iter().find(|(known, _)| *known == index) {
            return Ok(Rc::clone(bytes));
        }
        if index >= self.superblock.fragments {
            return Err(corrupt("a fragment that is not in the table"));
        }
        let at = u64::from(index / FRAGMENTS_PER_BLOCK) * 8;
        let block = self.position_at(self.superblock.fragment_table.saturating_add(at))?;
        let mut cursor = Cursor { block, offset: (index % FRAGMENTS_PER_BLOCK) as usize * 16 };
        let entry = self.read(&mut cursor, 16)?;
        let mut fields = Fields(&entry);
        let (at, size) = (fields.u64()?, fields.u32()?);
        let bytes: Rc<[u8]> = self.block(at, size, true)?.into();
        self.fragments.truncate(FRAGMENTS_KEPT - 1);
        self.fragments.push_front((index, Rc::clone(&bytes)));
        Ok(bytes)
    }
}
