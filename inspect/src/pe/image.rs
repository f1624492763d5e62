//! Headers of a Windows program, and which of its bytes the loader puts at an address.
//!
//! Offsets and limits: Microsoft, "PE Format" (`docs/…/win32/debug/pe-format`), by section name.

/// Sections looked at. The loader of Windows XP took 96, later ones take more, no linker makes as many.
const SECTIONS: usize = 1024;
/// Data directories the format knows ("Optional Header Data Directories").
const DIRECTORIES: usize = 16;
/// File offsets of sections are rounded down to this ("`PointerToRawData`": a multiple of `FileAlignment`, at least 512).
const SECTOR: u32 = 512;
/// Entries of the debug directory looked at; linkers write up to five.
const DEBUG_ENTRIES: usize = 32;

/// `Optional Header Data Directories`: where in the list each stands.
pub(super) mod directory {
    pub(in crate::pe) const EXPORTS: usize = 0;
    pub(in crate::pe) const IMPORTS: usize = 1;
    pub(in crate::pe) const RESOURCES: usize = 2;
    pub(in crate::pe) const CERTIFICATES: usize = 4;
    pub(in crate::pe) const DEBUG: usize = 6;
    pub(in crate::pe) const DELAY_IMPORTS: usize = 13;
    pub(in crate::pe) const CLR: usize = 14;
}

/// The headers of a file and as much of its content as is at hand.
#[derive(Debug)]
pub(super) struct Image<'b> {
    /// The file, or the beginning of one that is larger.
    pub(super) bytes: &'b [u8],
    /// Bytes of the whole file.
    pub(super) size: u64,
    pub(super) machine: u16,
    pub(super) characteristics: u16,
    /// 64-bit (PE32+).
    pub(super) wide: bool,
    pub(super) image_base: u64,
    pub(super) subsystem: u16,
    /// Major and minor.
    pub(super) subsystem_version: (u16, u16),
    pub(super) sections: Vec<Section<'b>>,
    header_bytes: u32,
    /// Address and size.
    directories: Vec<(u32, u32)>,
    /// Offset and number of COFF symbols.
    symbols: (u32, u32),
    /// The debug directory is read through this.
    file_alignment: u32,
}

/// One entry of the section table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Section<'b> {
    /// Its name without the padding.
    pub(super) name: &'b [u8],
    address: u32,
    virtual_bytes: u32,
    pub(super) offset: u32,
    pub(super) file_bytes: u32,
}

impl<'b> Image<'b> {
    /// Reads the headers of a file of `size` bytes. The error says why Windows would not load it.
    pub(super) fn read(bytes: &'b [u8], size: u64) -> Result<Self, String> {
        let cut = || "its headers are cut off".to_owned();
        // "MS-DOS Stub": the offset of the signature.
        let new = usize_of(u32_at(bytes, 0x3c).ok_or_else(cut)?);
        let signature = bytes.get(new..).and_then(|rest| rest.get(..4)).ok_or_else(cut)?;
        match signature {
            b"PE\0\0" => {}
            [b'N', b'E', ..] => return Err("it is a 16-bit program".to_owned()),
            [b'L', b'E' | b'X', ..] => return Err("it is a 32-bit DOS or OS/2 program".to_owned()),
            _ => return Err("it is a DOS program, or damaged".to_owned()),
        }
        // "COFF File Header", then "Optional Header".
        let coff = bytes.get(new..).and_then(|rest| rest.get(4..)).ok_or_else(cut)?;
        let optional_bytes = usize::from(u16_at(coff, 16).ok_or_else(cut)?);
        let behind = coff.get(20..).ok_or_else(cut)?;
        let optional = behind.get(..optional_bytes.min(behind.len())).unwrap_or_default();
        let wide = match u16_at(optional, 0) {
            Some(0x10b) => false,
            Some(0x20b) => true,
            _ => return Err("it has no optional header".to_owned()),
        };
        let count = usize::from(u16_at(coff, 2).ok_or_else(cut)?);
        let mut image = Self {
            bytes,
            size: size.max(bytes.len() as u64),
            machine: u16_at(coff, 0).ok_or_else(cut)?,
            characteristics: u16_at(coff, 18).ok_or_else(cut)?,
            wide,
            image_base: if wide { u64_at(optional, 24) } else { u32_at(optional, 28).map(u64::from) }
                .ok_or_else(cut)?,
            subsystem: u16_at(optional, 68).ok_or_else(cut)?,
            subsystem_version: (u16_at(optional, 48).ok_or_else(cut)?, u16_at(optional, 50).ok_or_else(cut)?),
            sections: Vec::new(),
            header_bytes: u32_at(optional, 60).ok_or_else(cut)?,
            directories: directories(optional, wide),
            symbols: (u32_at(coff, 8).ok_or_else(cut)?, u32_at(coff, 12).ok_or_else(cut)?),
            file_alignment: u32_at(optional, 36).ok_or_else(cut)?,
        };
        let table = behind.get(optional_bytes..).unwrap_or_default();
        image.sections = table.chunks_exact(40).take(count.min(SECTIONS)).filter_map(Section::read).collect();
        Ok(image)
    }

    /// Address and size of a data directory that is there. The certificates' "address" is a file offset.
    pub(super) fn directory(&self, index: usize) -> Option<(u32, u32)> {
        self.directories.get(index).copied().filter(|(address, _)| *address != 0)
    }

    /// What is in the file from the address on, up to the end of the section it is in.
    pub(super) fn at(&self, address: u32) -> Option<&'b [u8]> {
        for section in &self.sections {
            let Some(within) = address.checked_sub(section.address) else { continue };
            if within >= section.virtual_bytes.max(section.file_bytes) {
                continue;
            }
            let start = u64::from(self.aligned(section.offset));
            let end = usize::try_from(start + u64::from(section.file_bytes)).ok()?.min(self.bytes.len());
            return self.bytes.get(usize::try_from(start + u64::from(within)).ok()?..end);
        }
        let header = usize_of(self.header_bytes).min(self.bytes.len());
        self.bytes.get(usize_of(address)..header)
    }

    /// As much of the `size` bytes at the address as the file has.
    pub(super) fn slice(&self, address: u32, size: u32) -> Option<&'b [u8]> {
        let rest = self.at(address)?;
        rest.get(..usize_of(size).min(rest.len()))
    }

    /// The NUL-terminated name at the address, of at most `bound` bytes.
    pub(super) fn name(&self, address: u32, bound: usize) -> Option<&'b [u8]> {
        let rest = self.at(address)?;
        let window = rest.get(..rest.len().min(bound.saturating_add(1)))?;
        window.get(..memchr::memchr(0, window)?)
    }

    /// Where the file ends as far as its headers know: sections, COFF symbols, debug data. Certificates come behind that.
    pub(super) fn end(&self) -> u64 {
        let sections = self.sections.iter().filter(|section| section.file_bytes != 0);
        let ends = sections.map(|s| u64::from(self.aligned(s.offset)) + u64::from(s.file_bytes));
        let end = ends.chain([u64::from(self.header_bytes)]).filter(|end| *end <= self.size).max();
        let cut = self.sections.iter().any(|s| u64::from(s.offset) + u64::from(s.file_bytes) > self.size);
        if cut {
            return self.size;
        }
        let end = self.debug_end().into_iter().fold(end.unwrap_or(0), u64::max);
        self.symbols_end(end).unwrap_or(end)
    }

    /// The end of the COFF symbols and their strings ("COFF Symbol Table", "COFF String Table"), if they begin at
    /// `end`, as GNU ld writes them.
    fn symbols_end(&self, end: u64) -> Option<u64> {
        let (offset, count) = self.symbols;
        if offset == 0 || u64::from(offset) < end || u64::from(offset) > end + u64::from(SECTOR) {
            return None;
        }
        let strings = u64::from(offset) + u64::from(count) * 18;
        let size = u32_at(self.bytes, usize::try_from(strings).ok()?)?;
        Some(strings + u64::from(size.max(4))).filter(|end| *end <= self.size)
    }

    /// The end of debug data that is in no section ("Debug Directory (Image Only)").
    fn debug_end(&self) -> Option<u64> {
        let (address, size) = self.directory(directory::DEBUG)?;
        let entries = self.slice(address, size)?.chunks_exact(28).take(DEBUG_ENTRIES);
        let ends = entries.filter_map(|entry| Some((u32_at(entry, 24)?, u32_at(entry, 16)?)));
        let ends =
            ends.filter(|(offset, _)| *offset != 0).map(|(offset, n)| u64::from(offset) + u64::from(n));
        ends.filter(|end| *end <= self.size).max()
    }

    fn aligned(&self, offset: u32) -> u32 {
        if self.file_alignment < SECTOR { offset } else { offset & !(SECTOR - 1) }
    }
}

impl<'b> Section<'b> {
    /// "Section Table (Section Headers)".
    fn read(entry: &'b [u8]) -> Option<Self> {
        let name = entry.get(..8)?;
        Some(Self {
            name: name.get(..memchr::memchr(0, name).unwrap_or(8))?,
            virtual_bytes: u32_at(entry, 8)?,
            address: u32_at(entry, 12)?,
            file_bytes: u32_at(entry, 16)?,
            offset: u32_at(entry, 20)?,
        })
    }
}

fn directories(optional: &[u8], wide: bool) -> Vec<(u32, u32)> {
    let at = if wide { 108 } else { 92 };
    let count = u32_at(optional, at).map_or(0, usize_of).min(DIRECTORIES);
    let entries = optional.get(at + 4..).unwrap_or_default().chunks_exact(8).take(count);
    entries.filter_map(|entry| Some((u32_at(entry, 0)?, u32_at(entry, 4)?))).collect()
}

/// A little-endian number, if it lies within.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

/// A little-endian number, if it lies within.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// A little-endian number, if it lies within.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// A number of the file as an index; one that does not fit is beyond every slice.
pub(super) fn usize_of(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// UTF-16LE text up to a NUL or the end, at most `bound` characters, with what is no text replaced.
pub(super) fn utf16(bytes: &[u8], bound: usize) -> String {
    let units = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let units = units.take_while(|unit| *unit != 0).take(bound);
    char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}
