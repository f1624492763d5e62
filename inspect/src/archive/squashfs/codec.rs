//! The compressions of squashfs: every block is a stream of its own.

use std::io::{self, Read};

use super::image::corrupt;

/// `compression` of the superblock (`squashfs_fs.h`: `ZLIB_COMPRESSION` and so on).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    Zlib,
    Lzma,
    Xz,
    Lz4,
    Zstd,
}

impl Codec {
    /// The error is the name of a compression that is not read, or the number.
    pub(super) fn of(id: u16) -> Result<Self, String> {
        match id {
            1 => Ok(Self::Zlib),
            2 => Ok(Self::Lzma),
            3 => Err("LZO".to_owned()),
            4 => Ok(Self::Xz),
            5 => Ok(Self::Lz4),
            6 => Ok(Self::Zstd),
            other => Err(format!("number {other}")),
        }
    }

    /// Unpacks one block of at most `most` bytes, a number of the caller's own. `memory` bounds the decoder.
    pub(super) fn unpack(self, packed: &[u8], most: usize, memory: u64) -> io::Result<Vec<u8>> {
        match self {
            Self::Zlib => bounded(flate2::read::ZlibDecoder::new(packed), most),
            Self::Xz => {
                let stream = liblzma::stream::Stream::new_stream_decoder(memory, 0)?;
                bounded(liblzma::bufread::XzDecoder::new_stream(packed, stream), most)
            }
            Self::Lzma => {
                let stream = liblzma::stream::Stream::new_lzma_decoder(memory)?;
                bounded(liblzma::bufread::XzDecoder::new_stream(packed, stream), most)
            }
            // Blocks in memory: the window a frame claims is not allocated.
            Self::Zstd => zstd::bulk::decompress(packed, most),
            Self::Lz4 => {
                let mut unpacked = vec![0; most];
                let length = lz4_flex::block::decompress_into(packed, &mut unpacked)
                    .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))?;
                unpacked.truncate(length);
                Ok(unpacked)
            }
        }
    }
}

fn bounded(stream: impl Read, most: usize) -> io::Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    stream.take(most as u64 + 1).read_to_end(&mut unpacked)?;
    if unpacked.len() > most {
        return Err(corrupt("a block unpacks to more than a block has"));
    }
    Ok(unpacked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_block_is_larger_than_asked_for() {
        let zeros = vec![0_u8; 9000];
        let mut zlib = Vec::new();
        flate2::read::ZlibEncoder::new(&zeros[..], flate2::Compression::fast())
            .read_to_end(&mut zlib)
            .unwrap();
        let mut xz = Vec::new();
        liblzma::read::XzEncoder::new(&zeros[..], 1).read_to_end(&mut xz).unwrap();
        let zstd = zstd::bulk::compress(&zeros, 1).unwrap();
        // A run of zeros in the LZ4 block format: one literal, then a match of 8994 bytes, then five literals.
        let mut lz4 = vec![0x1f, 0, 1, 0];
        lz4.extend(std::iter::repeat_n(255, 35));
        lz4.push(u8::try_from(8994 - 19 - 35 * 255).unwrap());
        lz4.extend([0x50, 0, 0, 0, 0, 0]);
        for (codec, packed) in [(Codec::Zlib, zlib), (Codec::Xz, xz), (Codec::Zstd, zstd), (Codec::Lz4, lz4)]
        {
            assert_eq!(codec.unpack(&packed, 9000, 1 << 26).unwrap(), zeros, "{codec:?}");
            assert!(codec.unpack(&packed, 8999, 1 << 26).is_err(), "{codec:?}");
            assert!(codec.unpack(&packed[..packed.len() / 2], 9000, 1 << 26).is_err(), "{codec:?}");
        }
        assert_eq!(Codec::of(3).unwrap_err(), "LZO");
        assert_eq!(Codec::of(9).unwrap_err(), "number 9");
    }
}
