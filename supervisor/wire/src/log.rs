//! The log of a unit: segments in its folder, each a file of records, written by its recorder and read by anybody.
//!
//! A segment is [`HEAD`] bytes and then records, one after the other. A record is [`RECORD`] bytes and then what it holds. All
//! numbers are little-endian. A segment that is still written may end within a record; what is cut off there was never
//! promised to anybody.
//!
//! | segment | bytes | what |
//! | --- | --- | --- |
//! | 0 | 8 | [`MAGIC`] |
//! | 8 | 8 | number of the segment, from 1 on |
//! | 16 | 8 × 3 | for each stream, how many of its bytes came before this segment |
//!
//! | record | bytes | what |
//! | --- | --- | --- |
//! | 0 | 4 | length of what it holds, 1 to [`DATA_MAX`] |
//! | 4 | 1 | stream: 0 standard output, 1 standard error, 2 the recorder's own remarks |
//! | 5 | 3 | zero |
//! | 8 | 8 | `CLOCK_REALTIME` when it was read, nanoseconds |
//! | 16 | 8 | how many bytes of the stream came before it |
//!
//! So a reader counts to the byte what is missing, whatever was thrown away before or between.
use serde::{Deserialize, Serialize};

/// The folder of the segments in a unit's folder.
pub const FOLDER: &str = "log";
/// How a segment begins; the last byte is the version of the format.
pub const MAGIC: [u8; 8] = *b"HWLOG\0\0\x01";
/// Bytes before a segment's first record.
pub const HEAD: usize = 40;
/// Bytes before what a record holds.
pub const RECORD: usize = 24;
/// What a record holds at most.
pub const DATA_MAX: usize = 64 << 10;
/// The least that a log may be given.
pub const SIZE_MIN: u64 = 1 << 20;
/// What a log is given where nobody says.
pub const SIZE: u64 = 64 << 20;
/// A log is kept in so many segments, of which the oldest goes when there is no more room.
pub const SEGMENTS: u64 = 8;

/// Who said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
    /// The recorder.
    Remark,
}

impl Stream {
    /// In the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Out, Self::Err, Self::Remark];

    /// Its number in records.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Out => 0,
            Self::Err => 1,
            Self::Remark => 2,
        }
    }
}

/// What becomes of output that the log has no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Full {
    /// The oldest goes, and is counted.
    #[default]
    DropOldest,
    /// The tool waits until somebody clears the log.
    Block,
    /// The tool is ended.
    Stop,
}

/// How much is kept of what a unit says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Policy {
    /// Bytes of all segments together.
    pub size: u64,
    /// Where that is not enough.
    pub full: Full,
}

impl Default for Policy {
    fn default() -> Self {
        Self { size: SIZE, full: Full::default() }
    }
}

/// The front of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Which one.
    pub number: u64,
    /// Bytes of each stream before it.
    pub before: [u64; 3],
}

impl Head {
    /// As it is written.
    #[must_use]
    pub fn bytes(&self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&self.number.to_le_bytes());
        for (place, count) in bytes[16..].chunks_exact_mut(8).zip(self.before) {
            place.copy_from_slice(&count.to_le_bytes());
        }
        bytes
    }

    /// `None` where it is no segment of this version.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..HEAD).filter(|bytes| bytes[..8] == MAGIC)?;
        Some(Self {
            number: number(bytes, 8)?,
            before: [number(bytes, 16)?, number(bytes, 24)?, number(bytes, 32)?],
        })
    }
}

/// The front of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Of what it holds, in bytes.
    pub length: usize,
    /// Who said it.
    pub stream: Stream,
    /// `CLOCK_REALTIME`, nanoseconds.
    pub realtime_ns: i64,
    /// Bytes of the stream before it.
    pub before: u64,
}

impl Record {
    /// As it is written.
    #[must_use]
    pub fn bytes(&self) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        let length = u32::try_from(self.length).unwrap_or(u32::MAX);
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes[4] = u8::try_from(self.stream.index()).unwrap_or_default();
        bytes[8..16].copy_from_slice(&self.realtime_ns.to_le_bytes());
        bytes[16..].copy_from_slice(&self.before.to_le_bytes());
        bytes
    }

    /// `None` where it is cut off, or nothing that this version writes.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..RECORD)?;
        let length = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?);
        let length = usize::try_from(length).ok().filter(|length| (1..=DATA_MAX).contains(length))?;
        let stream = *Stream::ALL.get(usize::from(bytes[4]))?;
        let realtime_ns = i64::from_le_bytes(bytes[8..16].try_into().ok()?);
        Some(Self { length, stream, realtime_ns, before: number(bytes, 16)? })
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// The name of a segment's file: they sort as they were written.
#[must_use]
pub fn name(number: u64) -> String {
    format!("{number:012}.seg")
}

/// Which segment a file is.
#[must_use]
pub fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    // One more than any of these is a number, too.
    (digits.len() <= 18 && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| digits.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let head = Head { number: 7, before: [1, u64::MAX, 3] };
        assert_eq!(Head::read(&head.bytes()), Some(head));
        let record = Record { length: DATA_MAX, stream: Stream::Err, realtime_ns: -5, before: 1 << 40 };
        assert_eq!(Record::read(&record.bytes()), Some(record));
        assert_eq!(number_of(&name(12)), Some(12));
        assert!(name(9) < name(10));
    }

    #[test]
    fn what_is_cut_off_or_foreign_is_nothing() {
        let record = Record { length: 1, stream: Stream::Out, realtime_ns: 0, before: 0 };
        assert_eq!(Record::read(&record.bytes()[..RECORD - 1]), None);
        assert_eq!(Record::read(&[0; RECORD]), None);
        assert_eq!(Record::read(&[0xff; RECORD]), None);
        let mut newer = Head { number: 1, before: [0; 3] }.bytes();
        newer[7] = 2;
        assert_eq!(Head::read(&newer), None);
        assert_eq!(number_of("000000000001.seg~"), None);
        assert_eq!(number_of(".seg"), None);
        assert_eq!(number_of("18446744073709551615.seg"), None);
    }
}
