//! The header structure of RPM packages: an index of typed entries into a store of data.
//!
//! RPM Package Format (rpm manual, "V4 Package format", Header Format); limits of counts as in rpm's lib/header.cc.

use super::super::Source;
use crate::Error;

const MAGIC: [u8; 4] = [0x8e, 0xad, 0xe8, 0x01];
/// Magic, four reserved bytes, the number of entries and the size of the store.
const PREAMBLE: u64 = 16;
const INDEX_ENTRY: usize = 16;

/// Entries of a header (`HEADER_TAGS_MAX`).
const ENTRIES: u32 = 0xffff;
/// Bytes of the store (`HEADER_DATA_MAX` is 256 MiB; the largest packages of Fedora have 40).
const STORE: u32 = 128 << 20;

/// Elements of one array: a million files. A store full of empty strings would otherwise become very many.
const ELEMENTS: usize = 1 << 20;

/// The type of an entry's data (`rpmTagType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Int16,
    Int32,
    Int64,
    String,
    StringArray,
    I18nString,
    Other,
}

impl Kind {
    fn of(number: u32) -> Self {
        match number {
            3 => Self::Int16,
            4 => Self::Int32,
            5 => Self::Int64,
            6 => Self::String,
            8 => Self::StringArray,
            9 => Self::I18nString,
            _ => Self::Other,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct IndexEntry {
    tag: u32,
    kind: Kind,
    offset: usize,
    count: usize,
}

/// One header, in memory.
#[derive(Debug)]
pub(super) struct Header {
    index: Vec<IndexEntry>,
    store: Vec<u8>,
    /// Where the file goes on behind it.
    pub(super) end: u64,
}

impl Header {
    /// Reads the header that begins at `at`.
    pub(super) fn read(source: &mut Source<'_>, at: u64, what: &str) -> Result<Self, Error> {
        let preamble = source.read_exact_at(at, 16, what)?;
        if !preamble.starts_with(&MAGIC) {
            return Err(Error::corrupt(
                source.name(),
                format!("{what} does not begin with its magic number"),
            ));
        }
        let (entries, bytes) = (word(&preamble, 8).unwrap_or(0), word(&preamble, 12).unwrap_or(0));
        if entries > ENTRIES {
            return Err(Error::limit(
                source.name(),
                format!("{entries} entries of {what}"),
                u64::from(ENTRIES),
            ));
        }
        if bytes > STORE {
            return Err(Error::limit(source.name(), format!("{bytes} bytes of {what}"), u64::from(STORE)));
        }
        let index_bytes = entries as usize * INDEX_ENTRY;
        let index_at = at.saturating_add(PREAMBLE);
        let index = source.read_exact_at(index_at, index_bytes, what)?;
        let store_at = index_at.saturating_add(index_bytes as u64);
        let store = source.read_exact_at(store_at, bytes as usize, what)?;
        let index = index.chunks_exact(INDEX_ENTRY).filter_map(|raw| {
            Some(IndexEntry {
                tag: word(raw, 0)?,
                kind: Kind::of(word(raw, 4)?),
                offset: usize::try_from(word(raw, 8)?).ok()?,
                count: usize::try_from(word(raw, 12)?).ok()?,
            })
        });
        Ok(Self { index: index.collect(), store, end: store_at.saturating_add(u64::from(bytes)) })
    }

    fn find(&self, tag: u32) -> Option<(&IndexEntry, &[u8])> {
        let entry = self.index.iter().find(|entry| entry.tag == tag)?;
        Some((entry, self.store.get(entry.offset..)?))
    }

    /// A string; of one in several languages the first, which is the untranslated one.
    pub(super) fn string(&self, tag: u32) -> Option<String> {
        self.raw_strings(tag).next().map(|raw| String::from_utf8_lossy(raw).into_owned())
    }

    /// An array of strings; a lone string is an array of one. Never more of them than the store has bytes.
    pub(super) fn strings(&self, tag: u32) -> Vec<String> {
        self.raw_strings(tag).map(|raw| String::from_utf8_lossy(raw).into_owned()).collect()
    }

    /// The same without making text of them.
    pub(super) fn raw_strings(&self, tag: u32) -> impl Iterator<Item = &[u8]> {
        let found = self.find(tag);
        let (count, mut rest) = match found {
            Some((entry, data)) => match entry.kind {
                Kind::String => (1, data),
                Kind::StringArray | Kind::I18nString => (entry.count.min(ELEMENTS), data),
                _ => (0, data),
            },
            None => (0, &[][..]),
        };
        (0..count).map_while(move |_| {
            let end = memchr::memchr(0, rest)?;
            let text = rest.get(..end)?;
            rest = rest.get(end + 1..)?;
            Some(text)
        })
    }

    /// An array of numbers of any width. An array that is longer than the store is cut there.
    pub(super) fn numbers(&self, tag: u32) -> Vec<u64> {
        let Some((entry, data)) = self.find(tag) else { return Vec::new() };
        let width = match entry.kind {
            Kind::Int16 => 2,
            Kind::Int32 => 4,
            Kind::Int64 => 8,
            _ => return Vec::new(),
        };
        let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |number, &byte| number << 8 | u64::from(byte));
        data.chunks_exact(width).take(entry.count.min(ELEMENTS)).map(number).collect()
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_be_bytes)
}
