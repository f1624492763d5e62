//! The compound file around an installer database: [MS-CFB].

use std::collections::HashMap;
use std::io::{self, Read, Seek, SeekFrom};

use super::super::Source;
use crate::Error;

/// The header, whatever the size of a sector.
const HEADER: usize = 512;
/// Sectors of the allocation table that the header itself lists, and where.
const HEADER_TABLE: std::ops::Range<usize> = 76..512;
/// Directory entries (2.6.1) and how many of them are read.
const ENTRY: usize = 128;
const ENTRIES: usize = 65_536;
/// Bytes of the small sectors' table: a gigabyte of small streams.
const MINI_TABLE: usize = 64 << 20;
/// From here on sector numbers mean something else (`MAXREGSECT`).
const REGULAR: u32 = 0xffff_fffa;
/// Streams smaller than this are in the mini stream.
const CUTOFF: u64 = 4096;
const MINI_SHIFT: u32 = 6;

/// Object types: stream and root.
const STREAM: u8 = 2;
const ROOT: u8 = 5;

/// A stream of the root storage.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamEntry {
    start: u32,
    pub(super) size: u64,
}

/// The allocation tables and the streams of the root storage.
#[derive(Debug)]
pub(super) struct Compound {
    shift: u32,
    table: Vec<u32>,
    mini_table: Vec<u32>,
    /// The sectors of the mini stream.
    mini: Vec<u32>,
    /// By their raw UTF-16 names.
    pub(super) streams: HashMap<Vec<u16>, StreamEntry>,
}

impl Compound {
    pub(super) fn read(source: &mut Source<'_>) -> Result<Self, Error> {
        let header = source.read_exact_at(0, HEADER, "the header of the compound file")?;
        let word = |at| u32_at(&header, at).unwrap_or(REGULAR);
        let shift = word(30) & 0xffff;
        if !matches!(shift, 9 | 12) {
            return Err(corrupt(source, "its sectors are neither of 512 nor of 4096 bytes"));
        }
        let mut file = Self {
            shift,
            table: Vec::new(),
            mini_table: Vec::new(),
            mini: Vec::new(),
            streams: HashMap::new(),
        };
        file.allocation_table(source, &header)?;
        let mini_table = file.chain(source, word(60))?;
        let bound = MINI_TABLE >> shift;
        let mini_table = mini_table.get(..bound.min(mini_table.len())).unwrap_or_default();
        file.mini_table = words(&file.sectors(source, mini_table)?);
        let directory = file.chain(source, word(48))?;
        let bound = (ENTRIES * ENTRY) >> shift;
        let directory =
            file.sectors(source, directory.get(..bound.min(directory.len())).unwrap_or_default())?;
        file.directory(source, &directory)?;
        Ok(file)
    }

    /// Reads the table of which sector follows which. It has a word for each sector of the file, and is cut there.
    fn allocation_table(&mut self, source: &mut Source<'_>, header: &[u8]) -> Result<(), Error> {
        let sectors = source.len() >> self.shift;
        let words_in_sector = 1_u64 << (self.shift - 2);
        let needed = usize::try_from(sectors / words_in_sector + 1).unwrap_or(usize::MAX);
        let mut listed = words(header.get(HEADER_TABLE).unwrap_or_default());
        let mut next = u32_at(header, 68).unwrap_or(REGULAR);
        // More lists than sectors of the table would be a circle.
        for _ in 0..needed {
            if next >= REGULAR || listed.len() > needed.saturating_mul(2) {
                break;
            }
            let mut list = words(&self.sectors(source, &[next])?);
            next = list.pop().unwrap_or(REGULAR);
            listed.extend(list);
        }
        listed.retain(|&sector| sector < REGULAR);
        listed.truncate(needed);
        self.table = words(&self.sectors(source, &listed)?);
        Ok(())
    }

    /// The sectors of a stream. No more than the file has, so a circle ends.
    fn chain(&self, source: &Source<'_>, start: u32) -> Result<Vec<u32>, Error> {
        follow(&self.table, start).ok_or_else(|| corrupt(source, "its sectors follow each other in a circle"))
    }

    fn sectors(&self, source: &mut Source<'_>, sectors: &[u32]) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        for &sector in sectors {
            // The last sector may be cut.
            bytes.extend(source.read_at(place(sector, self.shift), 1 << self.shift)?);
        }
        Ok(bytes)
    }

    /// Finds the streams that lie directly in the root storage; those of transforms inside have the same names.
    fn directory(&mut self, source: &Source<'_>, directory: &[u8]) -> Result<(), Error> {
        let entry = |index: u32| directory.chunks_exact(ENTRY).nth(usize::try_from(index).ok()?);
        let root = entry(0).filter(|root| root.get(66) == Some(&ROOT));
        let root = root.ok_or_else(|| corrupt(source, "its directory has no root"))?;
        self.mini = self.chain(source, u32_at(root, 116).unwrap_or(REGULAR))?;
        let entries: Vec<&[u8]> = directory.chunks_exact(ENTRY).collect();
        let mut seen = vec![false; entries.len()];
        let mut stack = vec![u32_at(root, 76).unwrap_or(u32::MAX)];
        while let Some(index) = stack.pop() {
            let Ok(index) = usize::try_from(index) else { continue };
            let (Some(raw), Some(seen)) = (entries.get(index), seen.get_mut(index)) else { continue };
            if std::mem::replace(seen, true) {
                continue;
            }
            stack.extend([u32_at(raw, 68), u32_at(raw, 72)].into_iter().flatten());
            if raw.get(66) == Some(&STREAM) {
                let length = usize::from(u16_at(raw, 64)).saturating_sub(2).min(62);
                let name = raw.get(..length).unwrap_or_default();
                let name = name.chunks_exact(2).map(|pair| u16_at(pair, 0)).collect();
                let size = u64::from(u32_at(raw, 120).unwrap_or(0));
                self.streams.insert(name, StreamEntry { start: u32_at(raw, 116).unwrap_or(REGULAR), size });
            }
        }
        Ok(())
    }

    /// A stream as a file of its own.
    pub(super) fn open<'o>(
        &self,
        source: &'o mut Source<'_>,
        stream: StreamEntry,
    ) -> Result<Source<'o>, Error> {
        let name = source.name().to_owned();
        let (sectors, shift) = if stream.size < CUTOFF {
            let mini = follow(&self.mini_table, stream.start);
            let mini =
                mini.ok_or_else(|| corrupt(source, "its small sectors follow each other in a circle"))?;
            // A sector of the mini stream as one of the file, in units of 64 bytes.
            let per_sector = 1_u32 << (self.shift - MINI_SHIFT);
            let real = mini.iter().map_while(|sector| {
                let whole = self.mini.get(usize::try_from(sector / per_sector).ok()?)?;
                Some(place(*whole, self.shift) + (u64::from(sector % per_sector) << MINI_SHIFT))
            });
            (real.collect(), MINI_SHIFT)
        } else {
            let sectors = self.chain(source, stream.start)?;
            (sectors.into_iter().map(|sector| place(sector, self.shift)).collect::<Vec<_>>(), self.shift)
        };
        let length = stream.size.min((sectors.len() as u64) << shift);
        let size = 1 << shift;
        let reader = Scattered { source, sectors, size, length, position: 0 };
        Ok(Source::scattered(&name, reader, length))
    }
}

/// Follows a table from one sector to the next; `None` in a circle.
fn follow(table: &[u32], start: u32) -> Option<Vec<u32>> {
    let mut sectors = Vec::new();
    let mut next = start;
    while next < REGULAR {
        if sectors.len() > table.len() {
            return None;
        }
        sectors.push(next);
        next = usize::try_from(next).ok().and_then(|at| table.get(at)).copied().unwrap_or(REGULAR);
    }
    Some(sectors)
}

/// Where a sector begins; the header takes the place of the first.
fn place(sector: u32, shift: u32) -> u64 {
    (u64::from(sector) + 1) << shift
}

/// A stream whose sectors lie anywhere.
struct Scattered<'r, 's> {
    source: &'r mut Source<'s>,
    /// Where each begins in the file.
    sectors: Vec<u64>,
    size: u64,
    length: u64,
    position: u64,
}

impl Read for Scattered<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.length.saturating_sub(self.position);
        let (number, inside) = (self.position / self.size, self.position % self.size);
        let Some((&first, rest)) =
            usize::try_from(number).ok().and_then(|at| self.sectors.get(at..)?.split_first())
        else {
            return Ok(0);
        };
        // Neighbours are read together.
        let mut run = self.size;
        for next in rest {
            if *next != first.saturating_add(run) || run >= buffer.len() as u64 {
                break;
            }
            run += self.size;
        }
        self.source.go(first.saturating_add(inside)).map_err(io::Error::other)?;
        let got = self.source.by_ref().take((run - inside).min(left)).read(buffer)?;
        self.position += got as u64;
        Ok(got)
    }
}

impl Seek for Scattered<'_, '_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

fn corrupt(source: &Source<'_>, what: &str) -> Error {
    Error::corrupt(source.name(), what)
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).filter_map(|word| u32_at(word, 0)).collect()
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at.saturating_add(2)).and_then(|raw| raw.try_into().ok()).map_or(0, u16::from_le_bytes)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}
