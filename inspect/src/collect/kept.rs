//! What is kept of a member while its facts are taken.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

use crate::elf::{self, Image};

/// Bytes at the beginning of a file too large to be held: program headers, dynamic symbols and most constants are there.
const LARGE_HEAD: u64 = 64 << 20;
/// Bytes of one later stretch kept of such a file.
const LARGE_STRETCH: u64 = 16 << 20;

/// A reader that hashes what passes, if it is asked to.
pub(super) struct Hashed<'c> {
    pub(super) content: &'c mut dyn Read,
    pub(super) hasher: Option<Sha256>,
}

impl Read for Hashed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.content.read(buffer)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..got]);
        }
        Ok(got)
    }
}

/// Bytes that a buffer grows by at first.
const FIRST: usize = 64 << 10;
/// Bytes read at once of what is only hashed: they stay in the cache of a processor.
const DRAINED: usize = 128 << 10;

/// Memory for the contents of one member after the other. What was mapped and zeroed for one is not again for the next.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    filled: usize,
}

impl Buffer {
    /// Forgets the content, not the memory.
    pub(super) fn clear(&mut self) {
        self.filled = 0;
    }

    pub(super) fn content(&self) -> &[u8] {
        self.bytes.get(..self.filled).unwrap_or_default()
    }

    /// Reads on until there are `total` bytes or no more. What a file says of its size only keeps the memory from
    /// growing beyond it.
    pub(super) fn read_up_to(&mut self, content: &mut dyn Read, total: u64) -> io::Result<()> {
        let total = usize::try_from(total).unwrap_or(usize::MAX);
        while self.filled < total {
            if self.filled == self.bytes.len() {
                // New memory is zero without being touched; most members are moved once or never.
                let mut larger = vec![0; self.filled.saturating_mul(8).max(FIRST).min(total)];
                if let Some(beginning) = larger.get_mut(..self.filled) {
                    beginning.copy_from_slice(&self.bytes);
                }
                self.bytes = larger;
            }
            let end = self.bytes.len().min(total);
            let room = self.bytes.get_mut(self.filled..end).unwrap_or_default();
            match content.read(room) {
                Ok(0) => break,
                Ok(got) => self.filled += got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads to the end and keeps nothing.
    pub(super) fn drain(&mut self, content: &mut dyn Read) -> io::Result<()> {
        self.clear();
        if self.bytes.len() < DRAINED {
            self.bytes.resize(DRAINED, 0);
        }
        loop {
            match content.read(self.bytes.get_mut(..DRAINED).unwrap_or_default()) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The bytes of an ELF file, or of a large one those that matter to the loader.
pub(super) struct Kept<'b> {
    pub(super) head: &'b [u8],
    further: Vec<(u64, Vec<u8>)>,
}

impl<'b> Kept<'b> {
    /// `buffer` holds the first bytes already.
    pub(super) fn read(
        buffer: &'b mut Buffer,
        content: &mut dyn Read,
        size: u64,
        bound: u64,
    ) -> io::Result<Self> {
        if size <= bound {
            buffer.read_up_to(content, size)?;
            return Ok(Self { head: buffer.content(), further: Vec::new() });
        }
        buffer.read_up_to(content, LARGE_HEAD.min(bound).max(buffer.content().len() as u64))?;
        let head = buffer.content();
        let mut further = Vec::new();
        let mut at = head.len() as u64;
        for (start, length) in elf::wanted_stretches(head) {
            let end = start.saturating_add(length.min(LARGE_STRETCH).min(bound)).min(size);
            // One that was read already, or that begins beyond the end of the file.
            if end <= at.max(start) {
                continue;
            }
            io::copy(&mut content.take(start.saturating_sub(at)), &mut io::sink())?;
            at = at.max(start);
            let mut bytes = Vec::new();
            content.take(end - at).read_to_end(&mut bytes)?;
            further.push((at, bytes));
            at = end;
        }
        Ok(Self { head, further })
    }

    pub(super) fn image(&self, size: u64) -> Image<'_> {
        Image::sparse(self.head, self.further.iter().map(|(at, bytes)| (*at, bytes.as_slice())), size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_as_large_as_the_largest_content() {
        let content: Vec<u8> = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
        let mut buffer = Buffer::default();
        for (length, total) in [(300_000, 300_000), (10, 10), (300_000, 100), (5000, 1 << 40)] {
            buffer.clear();
            let mut reader = &content[..length];
            buffer.read_up_to(&mut reader, 4).unwrap();
            buffer.read_up_to(&mut reader, total).unwrap();
            assert_eq!(buffer.content(), &content[..length.min(usize::try_from(total).unwrap())]);
            assert_eq!(buffer.bytes.capacity(), 300_000);
        }
        let mut hashed = Hashed { content: &mut content.as_slice(), hasher: Some(Sha256::new()) };
        buffer.drain(&mut hashed).unwrap();
        assert_eq!(hashed.hasher.unwrap().finalize(), Sha256::digest(&content));
    }
}
