//! The tables of an installer database.
//!
//! The layout is not published by its maker. This follows what Wine (dlls/msi) and msitools (libmsi) agree on.

use super::super::Source;
use super::compound::{Compound, StreamEntry, u16_at, u32_at};
use crate::Error;

/// Bytes of one table, of the string pool, or of the strings.
const TABLE_BYTES: u64 = 128 << 20;
/// Columns of one table; the format has 32.
const COLUMNS: usize = 64;

/// What stands before the name of a stream that is a table.
const TABLE_MARK: u16 = 0x4840;
/// Two characters of a stream's name in one, or one alone.
const PAIRS: std::ops::Range<u16> = 0x3800..0x4800;
const SINGLES: std::ops::Range<u16> = 0x4800..0x4840;

/// Bits of a column's type: text, and what is left of the type of a binary column without its bit for "may be empty".
const TEXT: u32 = 0x0800;
const NULLABLE: u32 = 0x1000;
const BINARY: u32 = 0x0900;

/// An open database.
#[derive(Debug)]
pub(super) struct Database {
    compound: Compound,
    strings: Vec<String>,
    /// References to strings have three bytes instead of two.
    long: bool,
    columns: Table,
}

/// One table.
#[derive(Debug, Default)]
pub(super) struct Table {
    columns: Vec<Column>,
    data: Vec<u8>,
    rows: usize,
}

#[derive(Debug, Clone)]
struct Column {
    name: String,
    width: usize,
    is_text: bool,
    /// Bytes of a row before it.
    before: usize,
}

/// One row of a table.
#[derive(Clone, Copy)]
pub(super) struct Row<'t> {
    database: &'t Database,
    table: &'t Table,
    number: usize,
}

impl Database {
    pub(super) fn read(source: &mut Source<'_>) -> Result<Self, Error> {
        let compound = Compound::read(source)?;
        let table = |name: &str| compound.streams.get(&stream_name(name, true)).copied();
        let (Some(pool), Some(data)) = (table("_StringPool"), table("_StringData")) else {
            return Err(Error::unsupported(
                source.name(),
                "it is a compound file, but no installer database",
            ));
        };
        let (pool, data) = (whole(&compound, source, pool)?, whole(&compound, source, data)?);
        let long = u16_at(&pool, 2) & 0x8000 != 0;
        let strings = strings(&pool, &data);
        let mut database = Self { compound, strings, long, columns: Table::default() };
        // The table of columns describes itself as well, but not before it is read.
        let own = [("Table", TEXT), ("Number", 2), ("Name", TEXT), ("Type", 2)];
        let own = own.map(|(name, kind)| (name.to_owned(), kind));
        database.columns = database.load(source, "_Columns", own.into())?;
        Ok(database)
    }

    /// Reads a table; without rows if there is none of this name.
    pub(super) fn table(&self, source: &mut Source<'_>, name: &str) -> Result<Table, Error> {
        let described = self.rows(&self.columns).filter(|row| row.text("Table") == name);
        let mut columns: Vec<(i64, String, u32)> = described
            .take(COLUMNS)
            .map(|row| {
                let kind = u32::try_from(row.number("Type") & 0xffff).unwrap_or(0);
                (row.number("Number"), row.text("Name").to_owned(), kind)
            })
            .collect();
        columns.sort_by_key(|(number, ..)| *number);
        self.load(source, name, columns.into_iter().map(|(_, name, kind)| (name, kind)).collect())
    }

    fn load(&self, source: &mut Source<'_>, name: &str, kinds: Vec<(String, u32)>) -> Result<Table, Error> {
        let Some(stream) = self.compound.streams.get(&stream_name(name, true)) else {
            return Ok(Table::default());
        };
        let data = whole(&self.compound, source, *stream)?;
        let mut before = 0;
        let mut columns = Vec::new();
        for (name, kind) in kinds {
            let is_binary = kind & !NULLABLE == BINARY;
            let is_text = kind & TEXT != 0 && !is_binary;
            let width = match () {
                () if is_text => 2 + usize::from(self.long),
                () if !is_binary && kind & 0xff == 4 => 4,
                () => 2,
            };
            columns.push(Column { name, width, is_text, before });
            before += width;
        }
        let rows = data.len().checked_div(before).unwrap_or(0);
        Ok(Table { columns, data, rows })
    }

    pub(super) fn rows<'t>(&'t self, table: &'t Table) -> impl Iterator<Item = Row<'t>> {
        (0..table.rows).map(move |number| Row { database: self, table, number })
    }

    /// A stream that is no table: a cabinet, an icon.
    pub(super) fn stream<'o>(
        &self,
        source: &'o mut Source<'_>,
        name: &str,
    ) -> Option<Result<Source<'o>, Error>> {
        let stream = *self.compound.streams.get(&stream_name(name, false))?;
        Some(self.compound.open(source, stream))
    }
}

impl<'t> Row<'t> {
    fn raw(&self, name: &str) -> Option<(&'t Column, u32)> {
        let column = self.table.columns.iter().find(|column| column.name == name)?;
        // Tables are stored column by column.
        let at = column
            .before
            .checked_mul(self.table.rows)?
            .checked_add(self.number.checked_mul(column.width)?)?;
        let bytes = self.table.data.get(at..at.checked_add(column.width)?)?;
        Some((column, bytes.iter().rev().fold(0, |number, &byte| number << 8 | u32::from(byte))))
    }

    /// A text; empty where there is none.
    pub(super) fn text(&self, name: &str) -> &'t str {
        let index = self
            .raw(name)
            .filter(|(column, _)| column.is_text)
            .and_then(|(_, raw)| usize::try_from(raw).ok());
        index.and_then(|index| self.database.strings.get(index)).map_or("", String::as_str)
    }

    /// A number; 0 where there is none.
    pub(super) fn number(&self, name: &str) -> i64 {
        match self.raw(name) {
            Some((column, raw)) if raw != 0 && !column.is_text => {
                i64::from(raw) - if column.width == 4 { 0x8000_0000 } else { 0x8000 }
            }
            _ => 0,
        }
    }
}

fn whole(compound: &Compound, source: &mut Source<'_>, stream: StreamEntry) -> Result<Vec<u8>, Error> {
    if stream.size > TABLE_BYTES {
        return Err(Error::limit(source.name(), format!("{} bytes of a table", stream.size), TABLE_BYTES));
    }
    let mut stream = compound.open(source, stream)?;
    let length = usize::try_from(stream.len()).unwrap_or(0);
    stream.read_at(0, length)
}

/// Every string by its number; the first has none. Each entry of the pool is a length and a count of references.
fn strings(pool: &[u8], data: &[u8]) -> Vec<String> {
    let mut strings = vec![String::new()];
    let mut rest = data;
    let mut entries = pool.chunks_exact(4).skip(1);
    while let Some(entry) = entries.next() {
        let (length, references) = (u16_at(entry, 0), u16_at(entry, 2));
        let length = if length == 0 && references != 0 {
            // A long string: its length takes the place of a whole entry.
            let length = entries.next().and_then(|next| u32_at(next, 0));
            length.and_then(|length| usize::try_from(length).ok()).unwrap_or(0)
        } else {
            usize::from(length)
        };
        let (text, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        rest = after;
        strings.push(decode(text));
    }
    strings
}

/// UTF-8, or else one byte a character: the code pages of the world are not told apart.
fn decode(raw: &[u8]) -> String {
    match std::str::from_utf8(raw) {
        Ok(text) => text.to_owned(),
        Err(_) => raw.iter().copied().map(char::from).collect(),
    }
}

/// A stream's name as it is stored: two characters of `0-9A-Za-z._` in one.
fn stream_name(name: &str, is_table: bool) -> Vec<u16> {
    let mut stored: Vec<u16> = if is_table { vec![TABLE_MARK] } else { Vec::new() };
    let mut units = name.encode_utf16().peekable();
    while let Some(unit) = units.next() {
        let Some(first) = digit(unit) else {
            stored.push(unit);
            continue;
        };
        match units.peek().and_then(|&next| digit(next)) {
            Some(second) => {
                units.next();
                stored.push(PAIRS.start + first + (second << 6));
            }
            None => stored.push(SINGLES.start + first),
        }
    }
    stored
}

fn digit(unit: u16) -> Option<u16> {
    const ALPHABET: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz._";
    let byte = u8::try_from(unit).ok()?;
    u16::try_from(ALPHABET.iter().position(|&letter| letter == byte)?).ok()
}

/// The `Template` of the summary, which begins with the processor: `x64;1033` ([MS-OLEPS]).
pub(super) fn template(database: &Database, source: &mut Source<'_>) -> Option<String> {
    let stream =
        *database.compound.streams.get(&"\u{5}SummaryInformation".encode_utf16().collect::<Vec<_>>())?;
    let bytes = whole(&database.compound, source, stream).ok()?;
    let section = bytes.get(usize::try_from(u32_at(&bytes, 44)?).ok()?..)?;
    let properties = section.get(8..)?.chunks_exact(8).take(64);
    let at = properties
        .filter(|property| u32_at(property, 0) == Some(7))
        .find_map(|property| u32_at(property, 4))?;
    let value = section.get(usize::try_from(at).ok()?..)?;
    let length = usize::try_from(u32_at(value, 4)?).ok()?;
    let text = value.get(8..8_usize.checked_add(length)?)?;
    let text = String::from_utf8_lossy(text);
    let processor = text.split([';', '\0']).next().unwrap_or_default().trim();
    (!processor.is_empty()).then(|| processor.chars().filter(|c| !c.is_control()).take(100).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_streams() {
        assert_eq!(stream_name("File", true), [0x4840, 0x430f, 0x422f]);
        assert_eq!(stream_name("a-b", false), [0x4824, 0x2d, 0x4825]);
    }

    #[test]
    fn long_strings_have_two_entries() {
        let pool = [0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 2, 0, 1, 0, 2, 0, 1, 0, 0, 0, 0, 0];
        let data = [b"a".to_vec(), vec![b'b'; 0x1_0002], b"cc".to_vec()].concat();
        let strings = strings(&pool, &data);
        assert_eq!(strings.iter().map(String::len).collect::<Vec<_>>(), [0, 1, 0x1_0002, 2, 0]);
    }
}
