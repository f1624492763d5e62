//! Directory records: ECMA-119 9.1.

use super::susp::Fields;

/// Bytes of a logical sector; blocks of another size are in the standard and on no image.
pub(super) const SECTOR: u64 = 2048;

/// Bits of a record's flags: directory, associated file, not the last extent.
const DIRECTORY: u8 = 1 << 1;
const ASSOCIATED: u8 = 1 << 2;
const GOES_ON: u8 = 1 << 7;

/// A stretch of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) sector: u32,
    pub(super) length: u32,
}

impl Extent {
    pub(super) fn start(self) -> u64 {
        u64::from(self.sector) * SECTOR
    }
}

#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) extent: Extent,
    pub(super) name: Vec<u8>,
    pub(super) system_use: Vec<u8>,
    pub(super) is_directory: bool,
    pub(super) goes_on: bool,
    flags: u8,
}

impl Record {
    /// The record at the beginning of `bytes`; `None` if none is there.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let length = usize::from(*bytes.first()?);
        let record = bytes.get(..length)?;
        let name_length = usize::from(*record.get(32)?);
        let name = record.get(33..33 + name_length)?.to_vec();
        // A pad byte makes the name's end even.
        let system_use = record.get(33 + name_length + usize::from(name_length % 2 == 0)..);
        let attribute_sectors = u32::from(*record.get(1)?);
        let flags = *record.get(25)?;
        Some(Self {
            extent: Extent {
                sector: u32_at(record, 2)?.checked_add(attribute_sectors)?,
                length: u32_at(record, 10)?,
            },
            name,
            system_use: system_use.unwrap_or_default().to_vec(),
            is_directory: flags & DIRECTORY != 0,
            goes_on: flags & GOES_ON != 0,
            flags,
        })
    }

    /// Whether it holds what another system keeps beside the file of the same name.
    pub(super) fn is_associated(&self) -> bool {
        self.flags & ASSOCIATED != 0
    }
}

/// Every record of a directory. None goes over the end of a sector; zeros fill its rest.
pub(super) fn all(directory: &[u8]) -> impl Iterator<Item = Record> {
    let sector = usize::try_from(SECTOR).unwrap_or(2048);
    directory.chunks(sector).flat_map(|sector| {
        let mut rest = sector;
        std::iter::from_fn(move || {
            let record = Record::parse(rest)?;
            rest = rest.get(usize::from(*rest.first()?)..)?;
            Some(record)
        })
    })
}

/// Which names are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// With the bytes to be skipped in each record before Rock Ridge's fields.
    RockRidge {
        skip: usize,
    },
    /// UCS-2, big-endian.
    Joliet,
    Plain,
}

impl Names {
    pub(super) fn of(self, record: &Record, rock_ridge: &Fields) -> Vec<u8> {
        match self {
            Self::RockRidge { .. } => {
                rock_ridge.name.clone().unwrap_or_else(|| plain(&record.name, record.is_directory))
            }
            Self::Joliet => {
                let units = record.name.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
                let text: String =
                    char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
                plain(text.as_bytes(), record.is_directory)
            }
            Self::Plain => plain(&record.name, record.is_directory),
        }
    }
}

/// A name without its version (`;1`) and without the dot of an extension that is not there.
fn plain(raw: &[u8], is_directory: bool) -> Vec<u8> {
    if is_directory {
        return raw.to_vec();
    }
    let end = memchr::memrchr(b';', raw)
        .filter(|&at| raw.get(at + 1..).is_some_and(|v| v.iter().all(u8::is_ascii_digit)));
    let name = raw.get(..end.unwrap_or(raw.len())).unwrap_or_default();
    let name = if end.is_some() { name.strip_suffix(b".").unwrap_or(name) } else { name };
    name.to_vec()
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_no_part_of_names() {
        for (raw, name) in
            [("README.;1", "README"), ("A.TXT;12", "A.TXT"), ("a;b", "a;b"), ("A.", "A."), (";1", "")]
        {
            assert_eq!(plain(raw.as_bytes(), false), name.as_bytes(), "{raw}");
        }
        assert_eq!(plain(b"D;1", true), b"D;1");
    }

    #[test]
    fn records_end_with_their_sector() {
        assert!(all(&[0_u8; 4096]).next().is_none());
        assert!(all(&[255_u8; 100]).next().is_none());
        assert!(Record::parse(&[34, 0, 0]).is_none());
    }
}
