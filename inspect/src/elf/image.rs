//! The bytes of an ELF file, or those parts of a large one that were kept, or a file that is read where it is asked for.

use super::lazy::Lazy;

/// Bytes in which the ELF header is.
const HEAD: u64 = 64;

/// A file whose beginning, and perhaps some later stretches, are at hand.
#[derive(Debug, Clone)]
pub(crate) struct Image<'b> {
    /// Offset and bytes; the first begins at 0.
    parts: Vec<(u64, &'b [u8])>,
    /// In place of the parts.
    lazy: Option<&'b Lazy<'b>>,
    length: u64,
}

impl<'b> Image<'b> {
    /// A file that is at hand whole.
    pub(crate) fn whole(bytes: &'b [u8]) -> Self {
        Self { parts: vec![(0, bytes)], lazy: None, length: bytes.len() as u64 }
    }

    /// The beginning of a file of `length` bytes, and further stretches of it.
    pub(crate) fn sparse(
        head: &'b [u8],
        further: impl IntoIterator<Item = (u64, &'b [u8])>,
        length: u64,
    ) -> Self {
        Self { parts: std::iter::once((0, head)).chain(further).collect(), lazy: None, length }
    }

    /// A file of which is read what is asked for.
    pub(crate) fn lazy(lazy: &'b Lazy<'b>) -> Self {
        Self { parts: Vec::new(), lazy: Some(lazy), length: lazy.length() }
    }

    /// Whether something of the file is not at hand, or of one that is read on demand, was not when it was asked for.
    pub(crate) fn is_partial(&self) -> bool {
        if let Some(lazy) = self.lazy {
            return lazy.lacks_something();
        }
        self.parts.first().is_none_or(|(_, head)| (head.len() as u64) < self.length)
    }

    /// Bytes of the whole file.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// The ELF header, or as much of it as there is.
    pub(crate) fn header(&self) -> &'b [u8] {
        self.slice_up_to(0, HEAD)
    }

    /// `length` bytes at `offset`.
    pub(crate) fn slice(&self, offset: u64, length: u64) -> Option<&'b [u8]> {
        if let Some(lazy) = self.lazy {
            let inside = offset.checked_add(length).is_some_and(|end| end <= self.length);
            return inside.then(|| lazy.get(offset, length)).filter(|found| found.len() as u64 == length);
        }
        let rest = self.rest(offset)?;
        rest.get(..usize::try_from(length).ok()?)
    }

    /// As much of the `length` bytes at `offset` as is at hand.
    pub(crate) fn slice_up_to(&self, offset: u64, length: u64) -> &'b [u8] {
        if let Some(lazy) = self.lazy {
            return lazy.get(offset, length);
        }
        let Some(rest) = self.rest(offset) else { return &[] };
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(rest.len());
        &rest[..length]
    }

    /// How many bytes there are from `offset` on without a gap.
    pub(crate) fn at_hand(&self, offset: u64) -> u64 {
        if self.lazy.is_some() {
            return self.length.saturating_sub(offset);
        }
        self.rest(offset).map_or(0, |rest| rest.len() as u64)
    }

    /// How many of the bytes from `offset` on are zeros, as far as they are at hand; `bound` and more are one.
    pub(crate) fn zeros(&self, offset: u64, bound: u64) -> u64 {
        if let Some(lazy) = self.lazy {
            return lazy.zeros(offset, bound);
        }
        self.slice_up_to(offset, bound).iter().take_while(|&&byte| byte == 0).count() as u64
    }

    fn rest(&self, offset: u64) -> Option<&'b [u8]> {
        self.parts.iter().find_map(|&(start, bytes)| {
            let within = usize::try_from(offset.checked_sub(start)?).ok()?;
            bytes.get(within..)
        })
    }
}

/// Numbers in the byte order and word size of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words {
    pub(super) little: bool,
    pub(super) wide: bool,
}

impl Words {
    pub(super) fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let raw = bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if self.little { u16::from_le_bytes(raw) } else { u16::from_be_bytes(raw) })
    }

    pub(super) fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let raw = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if self.little { u32::from_le_bytes(raw) } else { u32::from_be_bytes(raw) })
    }

    /// An address or size: 32 or 64 bits.
    pub(super) fn word(self, bytes: &[u8], at: usize) -> Option<u64> {
        if !self.wide {
            return self.u32(bytes, at).map(u64::from);
        }
        let raw = bytes.get(at..at.checked_add(8)?)?.try_into().ok()?;
        Some(if self.little { u64::from_le_bytes(raw) } else { u64::from_be_bytes(raw) })
    }

    pub(super) fn size(self) -> usize {
        if self.wide { 8 } else { 4 }
    }
}
