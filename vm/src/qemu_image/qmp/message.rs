//! What QEMU's machine protocol is made of: lines, and messages in them. Knows nothing of sockets, so that it is fuzzed as it is.

use std::collections::VecDeque;

use serde_json::Value;

use crate::plain::plain;

/// Bytes of a line. The longest answer asked for is that of `query-named-block-nodes`, of 2 KB for each disk and snapshot.
pub const LINE_MAX: usize = 1 << 20;

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// QEMU's name for it.
    pub name: String,
    /// What it says.
    pub data: Value,
}

/// A message of QEMU's.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// The first one.
    Greeting,
    /// To the command with this number.
    Answer(u64, Result<Value, String>),
    /// In between.
    Event(Event),
}

impl Message {
    /// Reads one line.
    ///
    /// # Errors
    /// When it is none of the protocol's messages.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        let wrong =
            || format!("`{}` is no message", plain(&String::from_utf8_lossy(&line[..line.len().min(80)])));
        let Ok(Value::Object(mut message)) = serde_json::from_slice(line) else { return Err(wrong()) };
        if message.contains_key("QMP") {
            return Ok(Self::Greeting);
        }
        if let Some(name) = message.get("event").and_then(Value::as_str).map(str::to_owned) {
            return Ok(Self::Event(Event { name, data: message.remove("data").unwrap_or(Value::Null) }));
        }
        let id = message.get("id").and_then(Value::as_u64).ok_or_else(wrong)?;
        if let Some(value) = message.remove("return") {
            return Ok(Self::Answer(id, Ok(value)));
        }
        let error = message.get("error").and_then(|error| error.get("desc")).and_then(Value::as_str);
        Ok(Self::Answer(id, Err(plain(error.ok_or_else(wrong)?))))
    }
}

/// Bytes in, lines out.
#[derive(Debug, Default)]
pub struct Lines {
    bytes: VecDeque<u8>,
    /// How many of them are known to hold no line's end.
    looked: usize,
}

impl Lines {
    /// Takes what came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// Whether a whole line may be there, or one that is too long.
    #[must_use]
    pub fn has_line(&self) -> bool {
        self.bytes.len() > LINE_MAX || self.bytes.range(self.looked..).any(|byte| *byte == b'\n')
    }

    /// The next whole line without its end.
    ///
    /// # Errors
    /// When it is longer than any message.
    pub fn next_line(&mut self) -> Result<Option<Vec<u8>>, String> {
        let end = self.bytes.range(self.looked..).position(|byte| *byte == b'\n').map(|at| at + self.looked);
        self.looked = self.bytes.len();
        match end {
            Some(end) if end <= LINE_MAX => {
                self.looked = 0;
                let mut line: Vec<u8> = self.bytes.drain(..=end).collect();
                line.pop();
                Ok(Some(line))
            }
            None if self.bytes.len() <= LINE_MAX => Ok(None),
            _ => Err("a line has no end".to_owned()),
        }
    }
}
