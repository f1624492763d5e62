//! One reader for every compression.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use liblzma::bufread::XzDecoder;
use liblzma::stream::{CONCATENATED, MtStreamBuilder, Stream};
use lz4_flex::frame::FrameDecoder;

use super::{Compression, Limits};

/// Reads in larger pieces than the default 8 KiB: the decoders are otherwise fed through hundreds of small reads.
const BUFFER: usize = 128 << 10;
/// The same for a stream that is not as long as that: most members of packages of packages, every `control.tar`.
const SHORT_BUFFER: usize = 8 << 10;

/// Unpacks `source`. Bytes after the compressed stream are ignored only where the format says so (several gzip or xz
/// streams one after the other are one file).
pub fn reader<'a, R: Read + 'a>(
    source: R,
    compression: Compression,
    limits: &Limits,
) -> io::Result<Box<dyn Read + 'a>> {
    let mut source = source;
    let mut head = Vec::new();
    source.by_ref().take(BUFFER as u64).read_to_end(&mut head)?;
    let is_short = head.len() < BUFFER;
    let buffer = if is_short { SHORT_BUFFER } else { BUFFER };
    let source = Cursor::new(head).chain(BufReader::with_capacity(buffer, source));
    Ok(match compression {
        Compression::None => Box::new(source),
        Compression::Gzip => {
            Box::new(BufReader::with_capacity(buffer, flate2::bufread::MultiGzDecoder::new(source)))
        }
        Compression::Bzip2 => {
            Box::new(BufReader::with_capacity(buffer, bzip2::bufread::MultiBzDecoder::new(source)))
        }
        Compression::Zstd => {
            Box::new(BufReader::with_capacity(buffer, zstd::stream::read::Decoder::with_buffer(source)?))
        }
        Compression::Lz4 => Box::new(BufReader::with_capacity(buffer, Lz4::new(source))),
        Compression::Lzma => Box::new(BufReader::with_capacity(
            buffer,
            XzDecoder::new_stream(source, Stream::new_lzma_decoder(limits.decoder_memory)?),
        )),
        Compression::Lzip => Box::new(BufReader::with_capacity(
            buffer,
            XzDecoder::new_stream(source, Stream::new_lzip_decoder(limits.decoder_memory, CONCATENATED)?),
        )),
        Compression::Xz => Box::new(BufReader::with_capacity(buffer, Xz::new(source, limits, is_short)?)),
    })
}

/// Reads LZ4 frames one after the other, which are one file (LZ4 Frame Format 1.6.4, "Frame Concatenation").
struct Lz4<R: Read>(FrameDecoder<Tail<R>>);

impl<R: BufRead> Lz4<R> {
    fn new(source: R) -> Self {
        Self(FrameDecoder::new(Tail { source, last: [u8::MAX; TAIL] }))
    }
}

impl<R: BufRead> Read for Lz4<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let got = self.0.read(buffer)?;
            if got > 0 || buffer.is_empty() {
                return Ok(got);
            }
            // At the end of each frame there is nothing for once; the next read takes at least a header, or fails.
            let tail = self.0.get_mut();
            if tail.source.fill_buf()?.is_empty() {
                return if tail.is_end() { Ok(0) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }
}

/// Bytes of the mark at the end of a frame and the checksum that may follow it.
const TAIL: usize = 8;

/// A stream and its last bytes: the decoder takes a stream that was cut between two blocks for a whole one.
struct Tail<R> {
    source: R,
    last: [u8; TAIL],
}

impl<R> Tail<R> {
    /// Whether the last bytes are the mark, four zeros, alone or with a checksum behind it.
    fn is_end(&self) -> bool {
        self.last.ends_with(&[0; 4]) || self.last.starts_with(&[0; 4])
    }
}

impl<R: Read> Read for Tail<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.source.read(buffer)?;
        let new = buffer.get(..got).unwrap_or_default();
        let kept = new.len().min(TAIL);
        self.last.rotate_left(kept);
        let to = self.last.iter_mut().skip(TAIL - kept);
        to.zip(new.iter().skip(new.len() - kept)).for_each(|(to, from)| *to = *from);
        Ok(got)
    }
}

/// Reads xz streams one after the other.
///
/// The first of a long file is unpacked on every core when it was written in blocks (dpkg and `xz -T` do). For a short
/// file the threads would take longer to start than it takes to unpack.
struct Xz<R> {
    /// `None` behind the last stream.
    decoder: Option<XzDecoder<R>>,
    /// The threaded decoder stops after one stream, the other does not.
    one_stream: bool,
    memory: u64,
}

impl<R: BufRead> Xz<R> {
    fn new(source: R, limits: &Limits, is_short: bool) -> io::Result<Self> {
        let memory = limits.decoder_memory;
        let stream =
            if is_short { Stream::new_stream_decoder(memory, CONCATENATED)? } else { threaded(memory)? };
        Ok(Self { decoder: Some(XzDecoder::new_stream(source, stream)), one_stream: !is_short, memory })
    }

    /// Goes on behind the first stream; `false` if it was the last one.
    fn next_stream(&mut self) -> io::Result<bool> {
        let Some(mut source) = self.decoder.take().map(XzDecoder::into_inner) else { return Ok(false) };
        // Zeros may stand between streams (The .xz File Format 1.2.1, section 2.2).
        loop {
            let bytes = source.fill_buf()?;
            if bytes.is_empty() {
                return Ok(false);
            }
            let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
            let is_padding = zeros == bytes.len();
            source.consume(zeros);
            if !is_padding {
                break;
            }
        }
        let stream = Stream::new_stream_decoder(self.memory, CONCATENATED)?;
        self.decoder = Some(XzDecoder::new_stream(source, stream));
        self.one_stream = false;
        Ok(true)
    }
}

impl<R: BufRead> Read for Xz<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(decoder) = &mut self.decoder else { return Ok(0) };
        let got = decoder.read(buffer)?;
        if got > 0 || buffer.is_empty() || !self.one_stream || !self.next_stream()? {
            return Ok(got);
        }
        self.decoder.as_mut().map_or(Ok(0), |decoder| decoder.read(buffer))
    }
}

/// liblzma falls back to one thread by itself above `memlimit_threading`, and gives up above `memlimit_stop`.
fn threaded(memory: u64) -> io::Result<Stream> {
    let threads =
        std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1)).min(8);
    Ok(MtStreamBuilder::new().threads(threads).memlimit_threading(memory).memlimit_stop(memory).decoder()?)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn packed(compression: Compression, plain: &[u8]) -> Vec<u8> {
        match compression {
            Compression::None => plain.to_vec(),
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Xz => {
                let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Zstd => zstd::stream::encode_all(plain, 1).unwrap(),
            Compression::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Lzma => {
                let options = liblzma::stream::LzmaOptions::new_preset(1).unwrap();
                let stream = Stream::new_lzma_encoder(&options).unwrap();
                let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Lzip => unreachable!("it is made by lzip itself, in tests/archives.rs"),
            Compression::Bzip2 => {
                let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap()
            }
        }
    }

    const ALL: [Compression; 5] =
        [Compression::Gzip, Compression::Xz, Compression::Zstd, Compression::Bzip2, Compression::Lz4];

    fn unpacked(compression: Compression, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        reader(bytes, compression, &Limits::default())?.read_to_end(&mut plain)?;
        Ok(plain)
    }

    /// Text that does not shrink below the length that counts as short.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn short_and_long_streams_are_unpacked() {
        for compression in ALL.into_iter().chain([Compression::None, Compression::Lzma]) {
            for length in [0, 1, SHORT_BUFFER, BUFFER - 1, BUFFER, 3 * BUFFER] {
                let plain = noise(length);
                let found = unpacked(compression, &packed(compression, &plain)).unwrap();
                assert!(found == plain, "{compression:?} {length}");
            }
        }
    }

    #[test]
    fn streams_one_after_the_other_are_one_file() {
        for compression in ALL {
            for length in [10, 2 * BUFFER] {
                let plain = noise(length);
                let one = packed(compression, &plain);
                let padding: &[u8] = if compression == Compression::Xz { &[0; 4] } else { &[] };
                for between in [&[], padding] {
                    let found = unpacked(compression, &[&one, between, &one].concat()).unwrap();
                    assert!(found == plain.repeat(2), "{compression:?} {length}");
                }
            }
        }
    }

    #[test]
    fn a_stream_that_was_cut_is_no_whole_one() {
        for compression in ALL {
            for length in [1000, 2 * BUFFER] {
                let bytes = packed(compression, &noise(length));
                for left in [1, bytes.len() / 2, bytes.len() - 1] {
                    assert!(
                        unpacked(compression, &bytes[..left]).is_err(),
                        "{compression:?} {length} {left}"
                    );
                }
            }
        }
    }
}
