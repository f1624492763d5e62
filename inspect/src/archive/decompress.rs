//! One reader for every compression.

use std::io::{self, BufReader, Read};

use super::{Compression, Limits};

/// Reads in larger pieces than the default 8 KiB: the decoders are otherwise fed through hundreds of small reads.
const BUFFER: usize = 128 << 10;

/// Unpacks `source`. Bytes after the compressed stream are ignored only where the format says so (several gzip or xz
/// streams one after the other are one file).
pub(crate) fn reader<'a, R: Read + 'a>(
    source: R,
    compression: Compression,
    limits: &Limits,
) -> io::Result<Box<dyn Read + 'a>> {
    let source = BufReader::with_capacity(BUFFER, source);
    Ok(match compression {
        Compression::None => Box::new(source),
        Compression::Gzip => {
            Box::new(BufReader::with_capacity(BUFFER, flate2::bufread::MultiGzDecoder::new(source)))
        }
        Compression::Bzip2 => {
            Box::new(BufReader::with_capacity(BUFFER, bzip2::bufread::MultiBzDecoder::new(source)))
        }
        Compression::Zstd => {
            Box::new(BufReader::with_capacity(BUFFER, zstd::stream::read::Decoder::with_buffer(source)?))
        }
        Compression::Xz => {
            let decoder = xz_stream(limits)?;
            Box::new(BufReader::with_capacity(
                BUFFER,
                liblzma::bufread::XzDecoder::new_stream(source, decoder),
            ))
        }
    })
}

/// A decoder that uses every core when the file was written in blocks (dpkg and `xz -T` do).
///
/// liblzma falls back to one thread by itself above `memlimit_threading`, and gives up above `memlimit_stop`.
fn xz_stream(limits: &Limits) -> io::Result<liblzma::stream::Stream> {
    let threads =
        std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1)).min(8);
    let stream = liblzma::stream::MtStreamBuilder::new()
        .threads(threads)
        .memlimit_threading(limits.decoder_memory)
        .memlimit_stop(limits.decoder_memory)
        .decoder()?;
    Ok(stream)
}
