//! Streams of measured frames to a reconstructor, and of its images to whoever watches.
//!
//! A stream is messages, one after the other, over a Unix or TCP socket. Each is [`HEAD`] bytes and then what it holds. All numbers are
//! little-endian. The first message of a stream describes the rest; there is no other description.
//!
//! | message | bytes | what |
//! | --- | --- | --- |
//! | 0 | 8 | [`MAGIC`] |
//! | 8 | 2 | kind: 1 [`Kind::Frames`], 2 [`Kind::Frame`], 3 [`Kind::Images`], 4 [`Kind::Image`], 5 [`Kind::Word`] |
//! | 10 | 2 | bit 0: a frame without an object ([`Head::background`]); bit 1: an image of which something is computed ([`Head::simulated`]); the others are zero |
//! | 12 | 4 | length of what it holds, at most [`LENGTH_MAX`] |
//! | 16 | 8 | number of the frame, from 0 on; of an image the newest of its frames |
//! | 24 | 8 | how many frames are in it; 1 for a frame |
//! | 32 | 8 | `CLOCK_MONOTONIC` of the source at the end of the (newest) frame, nanoseconds; 0 if unknown |
//! | 40 | 8 | `CLOCK_TAI` or, where the source does not know the offset, `CLOCK_REALTIME` at the same time, nanoseconds; 0 if unknown |
//!
//! The other way the reconstructor sends nothing, unless a source asks for it ([`Frames::words`]): then messages that say what becomes of
//! its frames, each JSON, a [`Word`]. A source that is sent away may be told why in any case.
//!
//! A description is JSON: [`Frames`] or [`Images`]. A frame is J × C × V samples of the described type, an image X × Y × Z voxels of
//! 32-bit floating point, x fastest.
use serde::{Deserialize, Serialize};

/// How a message begins; the last byte is the version of the format.
pub const MAGIC: [u8; 8] = *b"HWFRM\0\0\x01";
/// Bytes before what a message holds.
pub const HEAD: usize = 48;
/// What a message holds at most.
pub const LENGTH_MAX: u32 = 1 << 30;
/// What a description holds at most.
pub const DESCRIPTION_MAX: u32 = 64 << 10;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A description of the frames that follow, [`Frames`].
    Frames,
    /// A frame.
    Frame,
    /// A description of the images that follow, [`Images`].
    Images,
    /// An image.
    Image,
    /// What becomes of a source's frames, [`Word`].
    Word,
}

impl Kind {
    const ALL: [(Self, u16); 5] =
        [(Self::Frames, 1), (Self::Frame, 2), (Self::Images, 3), (Self::Image, 4), (Self::Word, 5)];

    fn number(self) -> u16 {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or(0, |(_, number)| *number)
    }
}

/// The front of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// What it is.
    pub kind: Kind,
    /// Whether it is a frame that was measured without an object.
    pub background: bool,
    /// Whether it is an image from frames, or by a calibration, that were computed and not measured.
    pub simulated: bool,
    /// Bytes that it holds.
    pub length: u32,
    /// Number of the frame; of an image the newest of its frames.
    pub number: u64,
    /// Frames that are in it.
    pub count: u64,
    /// `CLOCK_MONOTONIC` at the end of the frame in nanoseconds; 0 if unknown.
    pub monotonic_ns: u64,
    /// `CLOCK_TAI` at the end of the frame in nanoseconds; 0 if unknown.
    pub tai_ns: u64,
}

impl Head {
    /// The front of a description of so many bytes.
    #[must_use]
    pub fn description(kind: Kind, length: u32) -> Self {
        Self {
            kind,
            background: false,
            simulated: false,
            length,
            number: 0,
            count: 0,
            monotonic_ns: 0,
            tai_ns: 0,
        }
    }

    /// As it is sent.
    #[must_use]
    pub fn bytes(&self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&self.kind.number().to_le_bytes());
        let flags = u16::from(self.background) | u16::from(self.simulated) << 1;
        bytes[10..12].copy_from_slice(&flags.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.length.to_le_bytes());
        let numbers = [self.number, self.count, self.monotonic_ns, self.tai_ns];
        for (place, number) in bytes[16..].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// `None` where it is no message of this version, of no known kind, or longer than one may be.
    #[must_use]
    pub fn parse(bytes: &[u8; HEAD]) -> Option<Self> {
        let short = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let number = |at: usize| {
            let mut eight = [0; 8];
            eight.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(eight)
        };
        let (kind, _) = Kind::ALL.into_iter().find(|(_, number)| *number == short(8))?;
        let length = u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]);
        let most = match kind {
            Kind::Frames | Kind::Images | Kind::Word => DESCRIPTION_MAX,
            Kind::Frame | Kind::Image => LENGTH_MAX,
        };
        if bytes[..8] != MAGIC || short(10) > 3 || length > most {
            return None;
        }
        Some(Self {
            kind,
            background: short(10) & 1 == 1,
            simulated: short(10) & 2 == 2,
            length,
            number: number(16),
            count: number(24),
            monotonic_ns: number(32),
            tai_ns: number(40),
        })
    }
}

/// How a sample is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sample {
    /// Signed, 16 bits.
    Int16,
    /// Signed, 32 bits.
    Int32,
    /// IEEE 754, 32 bits.
    Float32,
    /// IEEE 754, 64 bits.
    Float64,
}

impl Sample {
    /// Bytes of one.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::Int16 => 2,
            Self::Int32 | Self::Float32 => 4,
            Self::Float64 => 8,
        }
    }
}

/// What frames are: J periods × C channels × V samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Frames {
    /// J.
    pub periods: usize,
    /// C.
    pub channels: usize,
    /// V.
    pub samples: usize,
    /// How a sample is stored.
    pub sample: Sample,
    /// Factor and offset of each channel: volts = factor × stored + offset. Empty if volts are stored.
    #[serde(default)]
    pub conversion: Vec<[f64; 2]>,
    /// Half of the sampling rate, in hertz.
    pub bandwidth: f64,
    /// What the drive frequencies are divided from, in hertz.
    pub base_frequency: f64,
    /// Dividers of the drive fields, channel by channel.
    pub dividers: Vec<i64>,
    /// Amplitudes of the drive fields in tesla, in MDF's order.
    pub strengths: Vec<f64>,
    /// Whether the frames are computed.
    #[serde(default)]
    pub simulated: bool,
    /// Whether the source reads what it is told. One that does not must not be sent anything: a connection that is closed with something
    /// unread in it is reset, and what was on its way to the other end is lost.
    #[serde(default)]
    pub words: bool,
}

/// What a source is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Word {
    /// What becomes of its frames.
    pub becomes: Becomes,
    /// For a person, one line.
    pub text: String,
}

/// What becomes of a source's frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Becomes {
    /// They wait for another source's end.
    Waiting,
    /// They are taken from now on.
    Taken,
    /// The stream has ended, and all of them were taken. The last word.
    Ended,
    /// They are not taken, or no longer. The last word.
    Refused,
}

/// What images are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Images {
    /// Voxels along x, y and z.
    pub size: [usize; 3],
    /// Edges of the whole in metres.
    pub field_of_view: [f64; 3],
    /// Its middle in metres.
    pub center: [f64; 3],
    /// Unit of the voxels.
    pub unit: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        Head {
            kind: Kind::Frame,
            background: true,
            simulated: false,
            length: 6528,
            number: 1 << 40,
            count: 1,
            monotonic_ns: 3,
            tai_ns: u64::MAX,
        }
    }

    #[test]
    fn heads_come_back() {
        let bytes = head().bytes();
        assert_eq!(Head::parse(&bytes), Some(head()));
        assert_eq!(&bytes[..16], b"HWFRM\0\0\x01\x02\0\x01\0\x80\x19\0\0");
        for kind in [Kind::Frames, Kind::Images, Kind::Image, Kind::Word] {
            let head = Head::description(kind, 5);
            assert_eq!(Head::parse(&head.bytes()), Some(head));
        }
    }

    #[test]
    fn other_heads_are_refused() {
        for (at, value) in [(0, 0), (7, 2), (8, 0), (8, 6), (10, 4), (15, 0x41)] {
            let mut bytes = head().bytes();
            bytes[at] = value;
            assert_eq!(Head::parse(&bytes), None, "{at} is {value}");
        }
        let long = Head::description(Kind::Frames, DESCRIPTION_MAX + 1);
        assert_eq!(Head::parse(&long.bytes()), None);
    }
}
