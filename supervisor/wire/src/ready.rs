//! When a tool that stays counts as ready, and what is told of it.
use crate::control::Condition;
use crate::exit::Stamp;
use crate::path::InsidePath;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Name of the file in a run's folder that says that the tool is ready, or late: a [`ReadyRecord`] as JSON.
pub const FILE: &str = "ready.json";
/// Bytes of a text that a tool says of itself, or that says why it is not ready: a line for a person.
pub const TEXT_MAX: usize = 256;

/// What shows that a tool is ready. As text it is what is looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ready {
    /// It says so by `sd_notify` (sd_notify(3)).
    Notify,
    /// It writes a line to a descriptor that it is started with, as under s6.
    Fd {
        /// The descriptor.
        number: i32,
    },
    /// It takes connections at a port of its loopback interface.
    Tcp {
        /// The port.
        port: u16,
    },
    /// It takes connections at a Unix socket.
    Unix {
        /// Where inside.
        path: InsidePath,
    },
    /// It says so on its standard output or error.
    Log {
        /// A part of the line.
        text: String,
    },
    /// A file is there that was written since its start.
    File {
        /// Where inside.
        path: InsidePath,
    },
    /// A program of the tree that is started beside it ends with 0.
    Command {
        /// A path inside, or a bare name that is looked up in `PATH` inside.
        program: String,
        /// Its arguments.
        args: Vec<String>,
    },
}

impl fmt::Display for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Notify => f.write_str("`READY=1` at its notify socket"),
            Self::Fd { number } => write!(f, "a line at its descriptor {number}"),
            Self::Tcp { port } => write!(f, "a connection to its port {port}"),
            Self::Unix { path } => write!(f, "a connection to its socket `{path}`"),
            Self::Log { text } => write!(f, "`{text}` in what it says"),
            Self::File { path } => write!(f, "the file `{path}`, written since its start"),
            Self::Command { program, args } => {
                write!(f, "code 0 of `{program}")?;
                args.iter().try_for_each(|word| write!(f, " {word}"))?;
                f.write_str("`")
            }
        }
    }
}

/// What a recorder is told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// What shows it.
    pub what: Ready,
    /// Milliseconds from the tool's start after which it is late.
    pub within_ms: u64,
}

/// How far a tool is, as its shim sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Readiness {
    /// It has not been seen to be ready. Of what it says on its streams the shim knows nothing.
    Starting {
        /// Why the last look did not find it ready.
        last: Option<String>,
    },
    /// It is, or nobody wants to know more than that it has started.
    Ready,
    /// It cannot be seen to be ready any more.
    Failed {
        /// Why.
        why: String,
    },
}

/// What is told to who watches a unit, at once and at each change. Fields that a reader does not know are a newer version's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// Whether the tool is ready.
    pub ready: Readiness,
    /// How it is, where its recipe says how to find out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Condition>,
    /// What it says of itself by `sd_notify`, at most [`TEXT_MAX`] bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
}

/// How far a unit is, as its recorder sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// It is not ready, and has time.
    Starting,
    /// It is ready, or its tool has started where no more is asked for.
    Ready,
    /// It is not ready, and should be.
    Late,
}

/// What a recorder tells, at once and at each change. Fields that a reader does not know are a newer version's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// How far it is.
    pub ready: Stage,
    /// What has shown that it is ready; or what was looked for, and what came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub how: Option<String>,
    /// Milliseconds from the tool's start until it was ready, or late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<u64>,
    /// How the tool is, where its recipe says how to find out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Condition>,
    /// What it says of itself by `sd_notify`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
}

/// The content of `ready.json`. Fields that a reader does not know are a newer version's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyRecord {
    /// [`crate::VERSION`].
    pub version: u32,
    /// When it was ready, or late.
    pub stamp: Stamp,
    /// Milliseconds from the tool's start until then.
    #[serde(default)]
    pub after_ms: u64,
    /// What has shown that it is ready; or what was looked for, and what came of it.
    pub how: String,
    /// It is not ready, and should be. Once it is, the file says that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub late: bool,
}

impl From<ReadyRecord> for Standing {
    fn from(record: ReadyRecord) -> Self {
        let ready = if record.late { Stage::Late } else { Stage::Ready };
        let (how, after_ms) = (Some(record.how), Some(record.after_ms));
        Self { ready, how, after_ms, health: None, status: None }
    }
}

/// A text of somebody hostile as one line of at most [`TEXT_MAX`] bytes, without what could steer a terminal.
#[must_use]
pub fn line_of(text: &str) -> String {
    let mut line = String::new();
    for letter in text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }) {
        if line.len() + letter.len_utf8() > TEXT_MAX {
            break;
        }
        line.push(letter);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_text_is_one_short_line() {
        assert_eq!(line_of("loading 40 %"), "loading 40 %");
        assert_eq!(line_of("a\x1b[2Jb\nc"), "a\u{fffd}[2Jb\u{fffd}c");
        // No letter is cut in two.
        assert_eq!(line_of(&"ä".repeat(1000)), "ä".repeat(TEXT_MAX / 2));
        assert!(line_of(&"\0".repeat(1000)).len() <= TEXT_MAX);
    }

    #[test]
    fn a_record_of_an_older_version_is_read() {
        let text = r#"{"version":1,"stamp":{"realtime_ns":1,"tai_ns":2,"monotonic_ns":3},"how":"x","new":1}"#;
        let record: ReadyRecord = serde_json::from_str(text).unwrap();
        assert!(!record.late);
        assert_eq!(Standing::from(record).ready, Stage::Ready);
        let bare: Watched = serde_json::from_str(r#"{"ready":"ready"}"#).unwrap();
        assert_eq!((bare.health, bare.status), (None, None));
    }
}
