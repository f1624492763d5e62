//! The bytes of an ELF file, or those parts of a large one that were kept.

/// A file whose beginning, and perhaps some later stretches, are at hand.
#[derive(Debug, Clone)]
pub(crate) struct Image<'b> {
    /// Offset and bytes; the first begins at 0.
    parts: Vec<(u64, &'b [u8])>,
    length: u64,
}

impl<'b> Image<'b> {
    /// A file that is at hand whole.
    pub(crate) fn whole(bytes: &'b [u8]) -> Self {
        Self { parts: vec![(0, bytes)], length: bytes.len() as u64 }
    }

    /// The beginning of a file of `length` bytes, and further stretches of it.
    pub(crate) fn sparse(
        head: &'b [u8],
        further: impl IntoIterator<Item = (u64, &'b [u8])>,
        length: u64,
    ) -> Self {
        Self { parts: std::iter::once((0, head)).chain(further).collect(), length }
    }

    /// Whether something of the file is not at hand.
    pub(crate) fn is_partial(&self) -> bool {
        self.parts.first().is_none_or(|(_, head)| (head.len() as u64) < self.length)
    }

    /// The beginning, as far as it is at hand.
    pub(crate) fn head(&self) -> &'b [u8] {
        self.parts.first().map_or(&[], |&(_, bytes)| bytes)
    }

    /// `length` bytes at `offset`.
    pub(crate) fn slice(&self, offset: u64, length: u64) -> Option<&'b [u8]> {
        let rest = self.rest(offset)?;
        rest.get(..usize::try_from(length).ok()?)
    }

    /// As much of the `length` bytes at `offset` as is at hand.
    pub(crate) fn slice_up_to(&self, offset: u64, length: u64) -> &'b [u8] {
        let Some(rest) = self.rest(offset) else { return &[] };
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(rest.len());
        &rest[..length]
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
