//! The unpacked data of a folder, block by block: [MS-CAB] 2.6.

use std::io::{self, Read};

use flate2::{Decompress, FlushDecompress, Status};

use super::super::{Source, printable};
use super::header::{Description, u16_at, u32_at};
use crate::Error;

/// `CFDATA` without its reserve.
const BLOCK: u64 = 8;
/// Unpacked bytes of a block.
const UNPACKED: usize = 32 << 10;
/// Packed bytes of a block: what is packed may grow, MSZIP by 12 bytes and LZX by 6144.
const PACKED: usize = UNPACKED + 6144;

/// How a folder is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Stored,
    MsZip,
    Quantum,
    /// With the logarithm of its window.
    Lzx(u8),
    Unknown(u16),
}

impl Method {
    /// `typeCompress`.
    pub(super) fn of(number: u16) -> Self {
        let window = u8::try_from(number >> 8 & 0x1f).unwrap_or(0);
        match number & 0xf {
            0 => Self::Stored,
            1 => Self::MsZip,
            2 => Self::Quantum,
            3 => Self::Lzx(window),
            _ => Self::Unknown(number),
        }
    }
}

enum Decoder {
    Stored,
    /// The window of the block before is the dictionary of the next.
    MsZip,
}

/// A folder as a stream.
pub(super) struct Folder<'f, 's> {
    source: &'f mut Source<'s>,
    decoder: Decoder,
    /// Where the next block begins.
    at: u64,
    blocks: u16,
    reserve: u8,
    /// The block that is being read, and how much of it has been.
    block: Vec<u8>,
    used: usize,
    /// Bytes that have been read or skipped.
    position: u64,
}

impl<'f, 's> Folder<'f, 's> {
    pub(super) fn open(
        source: &'f mut Source<'s>,
        description: &Description,
        reserve: u8,
    ) -> Result<Self, Error> {
        let refuse = |what: String| Err(Error::unsupported(source.name(), what));
        let decoder = match description.method {
            Method::Stored => Decoder::Stored,
            Method::MsZip => Decoder::MsZip,
            Method::Lzx(window) => {
                return refuse(format!("it is packed with LZX (a window of 2^{window} bytes)"));
            }
            Method::Quantum => return refuse("it is packed with Quantum".to_owned()),
            Method::Unknown(number) => {
                return refuse(format!("it is packed in an unknown way ({number:#x})"));
            }
        };
        Ok(Self {
            source,
            decoder,
            at: u64::from(description.start),
            blocks: description.blocks,
            reserve,
            block: Vec::new(),
            used: 0,
            position: 0,
        })
    }

    /// Bytes before a member's first. Members that share bytes are not of this format's tools.
    pub(super) fn gap(&self, offset: u32, name: &str) -> Result<u64, Error> {
        u64::from(offset).checked_sub(self.position).ok_or_else(|| {
            let shown = printable(name.as_bytes());
            Error::corrupt(self.source.name(), format!("member `{shown}` overlaps the one before it"))
        })
    }

    /// Moves forward. A folder has at most 65535 blocks, so this ends.
    pub(super) fn skip(&mut self, gap: u64, name: &str) -> Result<(), Error> {
        let what = format!("the data before member `{}`", printable(name.as_bytes()));
        let skipped = io::copy(&mut self.by_ref().take(gap), &mut io::sink())
            .map_err(|e| Error::decoding(self.source.name(), &what, e))?;
        if skipped == gap {
            return Ok(());
        }
        Err(Error::truncated(self.source.name(), format!("it ends inside {what}")))
    }

    fn next_block(&mut self) -> io::Result<()> {
        let broken = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let header = exact(self.source, self.at, 8)?;
        let (sum, packed, unpacked) = (u32_at(&header, 0), u16_at(&header, 4), u16_at(&header, 6));
        let (packed, unpacked) = (usize::from(packed), usize::from(unpacked));
        if unpacked > UNPACKED || packed > PACKED {
            return Err(broken("a block is larger than blocks may be"));
        }
        if unpacked == 0 {
            return Err(broken("a block goes on in the next cabinet"));
        }
        let reserve = exact(self.source, self.at + BLOCK, usize::from(self.reserve))?;
        let data = exact(self.source, self.at + BLOCK + u64::from(self.reserve), packed)?;
        // Zero says that there is no checksum.
        if sum != 0
            && sum != checksum(&[header.get(4..).unwrap_or_default(), &reserve].concat(), checksum(&data, 0))
        {
            return Err(broken("a block has a wrong checksum"));
        }
        self.at += BLOCK + u64::from(self.reserve) + packed as u64;
        self.blocks = self.blocks.saturating_sub(1);
        let block = match &mut self.decoder {
            Decoder::Stored => data,
            Decoder::MsZip => inflate(&data, &self.block)?,
        };
        if block.len() != unpacked {
            return Err(broken("a block does not have the size it claims"));
        }
        self.block = block;
        self.used = 0;
        Ok(())
    }
}

impl Read for Folder<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.used >= self.block.len() {
            if self.blocks == 0 {
                return Ok(0);
            }
            self.next_block()?;
        }
        let mut rest = self.block.get(self.used..).unwrap_or_default();
        let got = rest.read(buffer)?;
        self.used += got;
        self.position = self.position.saturating_add(got as u64);
        Ok(got)
    }
}

/// Unpacks an MSZIP block: `CK`, then a whole deflate stream that may refer to the block before.
fn inflate(data: &[u8], dictionary: &[u8]) -> io::Result<Vec<u8>> {
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "a block is not MSZIP");
    let packed = data.strip_prefix(b"CK").ok_or_else(broken)?;
    let mut decoder = Decompress::new(false);
    if !dictionary.is_empty() {
        decoder.set_dictionary(dictionary).map_err(|_| broken())?;
    }
    let mut block = Vec::with_capacity(UNPACKED);
    match decoder.decompress_vec(packed, &mut block, FlushDecompress::Finish) {
        Ok(Status::StreamEnd) => Ok(block),
        _ => Err(broken()),
    }
}

/// The checksum of [MS-CAB] 3.1: little-endian words, the last bytes in the opposite order.
fn checksum(bytes: &[u8], seed: u32) -> u32 {
    let words = bytes.chunks_exact(4);
    let rest = words.remainder().iter().fold(0_u32, |rest, &byte| rest << 8 | u32::from(byte));
    words.fold(seed, |sum, word| sum ^ u32_at(word, 0)) ^ rest
}

/// `length` is at most a block.
fn exact(source: &mut Source<'_>, at: u64, length: usize) -> io::Result<Vec<u8>> {
    let bytes = source.read_at(at, length).map_err(io::Error::other)?;
    if bytes.len() == length { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}
