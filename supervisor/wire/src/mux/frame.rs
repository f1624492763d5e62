//! Frames: a kind, the number of a stream, a length, and so many bytes; numbers are little-endian.
//!
//! | byte | what |
//! | --- | --- |
//! | 0 | kind: 1 open, 2 opened, 3 data, 4 credit, 5 end, 6 reset |
//! | 1 to 4 | number of the stream |
//! | 5 to 8 | length of what follows |
//!
//! After an open comes the target's name, after data the bytes, after a credit its number of bytes (four bytes), after the
//! others nothing.

use super::{DATA_MAX, WINDOW};

const HEAD: usize = 9;
/// Bytes of a target's name at most.
pub const TARGET_MAX: usize = 256;

/// What goes over the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The sender wants a stream.
    Open {
        /// Its number from now on.
        id: u32,
        /// Where it leads.
        target: String,
    },
    /// The sender has taken it.
    Opened {
        /// Which.
        id: u32,
    },
    /// Bytes.
    Data {
        /// Of which.
        id: u32,
        /// At most [`DATA_MAX`].
        bytes: Vec<u8>,
    },
    /// So many bytes were passed on, and as many may come.
    Credit {
        /// Of which.
        id: u32,
        /// Bytes, at most [`WINDOW`].
        count: u32,
    },
    /// The sender has no more to say.
    End {
        /// On which.
        id: u32,
    },
    /// The stream is refused or broken off.
    Reset {
        /// Which.
        id: u32,
    },
}

/// The other side does not keep to the rules; nothing that comes after it means anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// A kind that there is none of.
    Kind(u8),
    /// A length that its kind cannot have.
    Length(u32),
    /// A name that is no text.
    Target,
    /// A frame that is not allowed where it comes.
    Order,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kind(kind) => write!(f, "a frame of the unknown kind {kind}"),
            Self::Length(length) => write!(f, "a frame that is {length} bytes long"),
            Self::Target => f.write_str("a stream to what has no name"),
            Self::Order => f.write_str("a frame that has no place there"),
        }
    }
}

impl std::error::Error for Broken {}

impl Frame {
    /// As it goes over the way.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (kind, id, rest): (u8, u32, &[u8]) = match self {
            Self::Open { id, target } => (1, *id, target.as_bytes()),
            Self::Opened { id } => (2, *id, &[]),
            Self::Data { id, bytes } => (3, *id, bytes),
            Self::Credit { id, count } => (4, *id, &count.to_le_bytes()),
            Self::End { id } => (5, *id, &[]),
            Self::Reset { id } => (6, *id, &[]),
        };
        let mut all = Vec::with_capacity(HEAD + rest.len());
        all.push(kind);
        all.extend(id.to_le_bytes());
        all.extend(u32::try_from(rest.len()).unwrap_or(u32::MAX).to_le_bytes());
        all.extend(rest);
        all
    }

    fn decode(kind: u8, id: u32, rest: &[u8]) -> Result<Self, Broken> {
        Ok(match kind {
            1 => {
                let target = String::from_utf8(rest.to_vec()).map_err(|_| Broken::Target)?;
                Self::Open { id, target }
            }
            2 => Self::Opened { id },
            3 => Self::Data { id, bytes: rest.to_vec() },
            4 => {
                let count = rest.try_into().map(u32::from_le_bytes).map_err(|_| Broken::Length(0))?;
                if count == 0 || count > WINDOW {
                    return Err(Broken::Order);
                }
                Self::Credit { id, count }
            }
            5 => Self::End { id },
            6 => Self::Reset { id },
            other => return Err(Broken::Kind(other)),
        })
    }
}

/// Cuts what comes over a way into frames.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    /// Where the next frame begins.
    at: usize,
}

impl Decoder {
    /// Takes what came.
    pub fn push(&mut self, bytes: &[u8]) {
        drop(self.bytes.drain(..self.at));
        self.at = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next frame that is there as a whole.
    ///
    /// # Errors
    /// [`Broken`], as soon as its first bytes show it: a frame that would be too long is not waited for.
    #[allow(clippy::should_implement_trait, reason = "an iterator would have to go on after what is broken")]
    pub fn next(&mut self) -> Result<Option<Frame>, Broken> {
        let left = &self.bytes[self.at..];
        let Some((head, rest)) = left.split_at_checked(HEAD) else { return Ok(None) };
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (kind, id, length) = (head[0], number(1), number(5));
        let fits = match kind {
            1 => (1..=TARGET_MAX).contains(&(length as usize)),
            3 => (1..=DATA_MAX).contains(&(length as usize)),
            4 => length == 4,
            2 | 5 | 6 => length == 0,
            other => return Err(Broken::Kind(other)),
        };
        if !fits {
            return Err(Broken::Length(length));
        }
        let Some(rest) = rest.get(..length as usize) else { return Ok(None) };
        let frame = Frame::decode(kind, id, rest)?;
        self.at += HEAD + rest.len();
        Ok(Some(frame))
    }
}
