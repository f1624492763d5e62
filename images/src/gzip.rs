//! The one encoder of layers. Whoever exports the same tree gets the same bytes, so it may not be swapped lightly.
//!
//! What its output depends on, and how that is held:
//! - the version of the encoder: `zlib-rs` is pinned in the workspace's `Cargo.toml`, and a test below holds the digest of a
//!   fixed input;
//! - the level, and how the input is cut into pieces: both are constants here. zlib's family may end a block where a call
//!   ends;
//! - not the processor: zlib-rs uses wider instructions where there are some for comparing bytes, for moving its hash chains
//!   and for check sums, which all have one right answer. Its hash function, which decides what is found, is the same
//!   everywhere. An image was compared with one from a virtual machine that has none of them (docs/container-images.md);
//! - not the time and not the file's name: the header has neither (RFC 1952, section 2.3).
//!
//! Zstandard would be quicker and smaller, but older engines refuse it.

use std::io::{self, Write};

use flate2::{Compression, GzBuilder};

/// zlib's own default: above it time grows faster than what is saved.
const LEVEL: u32 = 6;
/// Bytes that the encoder is given at once.
const PIECE_BYTES: usize = 128 << 10;
/// "unknown", so that the header says nothing of this machine (RFC 1952, section 2.3.1).
const OPERATING_SYSTEM: u8 = 255;

/// Compresses what is written to it.
pub struct Gzip<W: Write> {
    encoder: flate2::write::GzEncoder<W>,
    piece: Vec<u8>,
}

impl<W: Write> std::fmt::Debug for Gzip<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gzip").finish_non_exhaustive()
    }
}

impl<W: Write> Gzip<W> {
    /// Begins a file.
    pub fn new(to: W) -> Self {
        let header = GzBuilder::new().mtime(0).operating_system(OPERATING_SYSTEM);
        Self { encoder: header.write(to, Compression::new(LEVEL)), piece: Vec::with_capacity(PIECE_BYTES) }
    }

    /// Ends the file.
    ///
    /// # Errors
    /// Those of what it is written to.
    pub fn finish(mut self) -> io::Result<W> {
        self.encoder.write_all(&self.piece)?;
        self.encoder.finish()
    }
}

impl<W: Write> Write for Gzip<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE_BYTES - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == PIECE_BYTES {
            self.encoder.write_all(&self.piece)?;
            self.piece.clear();
        }
        Ok(taken)
    }

    /// Does nothing: a flush would change the bytes.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hatchway_envs::digest::Sha256;
    use std::io::Read;

    /// 3 MB like those of a layer: text that repeats itself, numbers, noise, nothing.
    fn sample() -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut state = 1_u32;
        for line in 0..20_000_u32 {
            bytes.extend_from_slice(format!("usr/share/doc/package-{}/file {line}\n", line % 97).as_bytes());
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            bytes.extend_from_slice(&state.to_le_bytes());
            if line % 8 == 0 {
                bytes.extend((0..512).map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    state.to_be_bytes()[0]
                }));
            }
        }
        bytes.resize(bytes.len() + 300_000, 0);
        bytes
    }

    fn packed(cut: usize) -> Vec<u8> {
        let mut gzip = Gzip::new(Vec::new());
        for piece in sample().chunks(cut) {
            gzip.write_all(piece).unwrap();
            gzip.flush().unwrap();
        }
        gzip.finish().unwrap()
    }

    /// If this fails after an update, every exported image changes its digest: say so in the changelog.
    #[test]
    fn the_encoder_gives_the_bytes_that_it_always_gave() {
        let packed = packed(8000);
        assert_eq!(packed[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
        assert_eq!(Sha256::of(&packed).hex(), GOLDEN);
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut plain).unwrap();
        assert!(plain == sample());
    }

    const GOLDEN: &str = "a59a69057bd7de2aebebc2382338f284d8e3a3097c4aaa68b4105d13a53d0d96";

    #[test]
    fn how_the_input_comes_makes_no_difference() {
        let whole = packed(usize::MAX);
        assert!([1000, 4096, 70_001, PIECE_BYTES].iter().all(|cut| packed(*cut) == whole));
    }
}
