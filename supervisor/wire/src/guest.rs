//! The messages between `hatchway run` and the shim that is the init of a guest.
//!
//! They are JSON, a line each, over a virtio port of its own ([`CONTROL`]); standard streams have ports of their own with
//! nothing but bytes. A port has no end that both sides see at the same place, so the end of a stream is a message that
//! says after how many bytes it is. What comes from a guest is hostile: lines are bounded ([`LINE_MAX`]), and what is no
//! message ends the guest.
use crate::bootstrap::Bootstrap;
use crate::control::{ControlOrder, ControlReport};
use crate::exit::ExitRecord;
use crate::path::InsidePath;
use serde::{Deserialize, Serialize};

/// Name of the virtio port for messages.
pub const CONTROL: &str = "hatchway.control";
/// Names of the virtio ports for bytes: standard input, output, error, and the terminal.
pub const STREAMS: [&str; 4] = ["hatchway.stdin", "hatchway.stdout", "hatchway.stderr", "hatchway.terminal"];
/// Name of the virtio port for channels ([`crate::mux`]); it is there where the unit has some.
pub const CHANNELS: &str = "hatchway.channels";
/// Name of the virtio port for the streams of programs that are started beside the tool ([`crate::mux`]).
pub const EXEC: &str = "hatchway.exec";
/// Where the order is in the guest's first file system.
pub const ORDER: &str = "/hatchway/order.json";
/// The folder of kernel modules in it.
pub const MODULES: &str = "/hatchway/modules";
/// The folder of files of the host in it, each under its number.
pub const FILES: &str = "/hatchway/files";
/// Where the tree is mounted in the guest.
pub const TREE: &str = "/hatchway/tree";
/// Where state is mounted in the guest.
pub const STATE: &str = "/hatchway/state";
/// Where the guest's shim writes its record.
pub const EXIT: &str = "/hatchway/run/exit.json";
/// The control group of the unit in the guest.
pub const CONTROL_GROUP: &str = "/sys/fs/cgroup/unit";
/// Serial numbers of the guest's disks, by which it knows them.
pub const TREE_DISK: &str = "hatchway-tree";
/// See [`TREE_DISK`].
pub const STATE_DISK: &str = "hatchway-state";
/// Bytes of a line at most. The longest is a record with the notes of a run.
pub const LINE_MAX: usize = 256 << 10;

/// What the guest's init finds and does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestOrder {
    /// [`crate::VERSION`].
    pub version: u32,
    /// The unit, planned as for the fhs rung with the paths of the guest.
    pub bootstrap: Bootstrap,
    /// Files in [`MODULES`], in the order of loading.
    pub modules: Vec<String>,
    /// Folders of the disk for state, made where they are not there yet; without one there is no disk.
    pub state: Vec<String>,
    /// There is a network of QEMU's to bring up.
    pub network: bool,
    /// Files of the unit's control group and what is written to them; none without limits.
    pub limits: Vec<(String, String)>,
    /// Devices that must be there before the tool starts, since modules make them.
    pub devices: Vec<InsidePath>,
    /// Which of the three standard streams are the caller's terminal.
    pub terminals: [bool; 3],
    /// Size of that terminal.
    pub window: Option<Window>,
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// A standard stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stream {
    /// Standard input.
    Input,
    /// Standard output.
    Output,
    /// Standard error.
    Error,
    /// The terminal, both ways.
    Terminal,
}

impl Stream {
    /// The name of its port.
    #[must_use]
    pub fn port(self) -> &'static str {
        match self {
            Self::Input => STREAMS[0],
            Self::Output => STREAMS[1],
            Self::Error => STREAMS[2],
            Self::Terminal => STREAMS[3],
        }
    }
}

/// From `hatchway run` to the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum HostOrder {
    /// A signal to pass on.
    Signal {
        /// Its number.
        signal: i32,
        /// The kernel sent it, for a key at the terminal.
        key: bool,
    },
    /// The terminal has another size.
    Resize(Window),
    /// The stream into the guest ends after so many bytes.
    End {
        /// Which.
        stream: Stream,
        /// Bytes from its beginning.
        bytes: u64,
    },
    /// Nobody reads the stream out of the guest any more.
    Unread {
        /// Which.
        stream: Stream,
    },
    /// Somebody who came to the unit wants this. The guest asks for the streams of a program at the port [`EXEC`], by the names of
    /// [`stream_of`].
    Control {
        /// Who.
        id: u32,
        /// What.
        order: ControlOrder,
    },
    /// Who came is gone, and with them what they began.
    Forget {
        /// Who.
        id: u32,
    },
}

/// From the guest to `hatchway run`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum GuestReport {
    /// The first message: the guest's kernel runs, and its init.
    Ready {
        /// The kernel's release.
        kernel: String,
        /// Since the kernel's start.
        uptime_ms: u64,
    },
    /// The tool reads keys of the terminal.
    Keys,
    /// The tool is stopped, as by Ctrl-Z. It goes on with SIGCONT.
    Stopped {
        /// The signal that stopped it.
        signal: i32,
    },
    /// The stream out of the guest ends after so many bytes.
    End {
        /// Which.
        stream: Stream,
        /// Bytes from its beginning.
        bytes: u64,
    },
    /// The tool did not start, for a reason that is the guest's.
    Failed {
        /// Why, for a person.
        message: String,
    },
    /// An answer to somebody who came to the unit. What the program has said is in its streams, which end for themselves.
    Control {
        /// Who.
        id: u32,
        /// What.
        report: ControlReport,
    },
    /// The last message: state is on its disk, and the guest can be switched off.
    Ended {
        /// The shim's exit code.
        code: i32,
        /// What it wrote; nothing where it failed before.
        record: Option<Box<ExitRecord>>,
    },
}

/// The name by which a guest asks for a stream of a program: 0 to 2, or 3 for its terminal.
#[must_use]
pub fn stream_of(id: u32, number: usize) -> String {
    format!("{id}/{number}")
}

/// What such a name says.
#[must_use]
pub fn read_stream(name: &str) -> Option<(u32, usize)> {
    let (id, number) = name.split_once('/')?;
    Some((id.parse().ok()?, number.parse().ok()?))
}

/// Cuts what comes over a port into lines.
#[derive(Debug, Default)]
pub struct Lines {
    bytes: Vec<u8>,
}

/// A line that is longer than [`LINE_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

impl std::fmt::Display for TooLong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a message of more than {LINE_MAX} bytes")
    }
}

impl std::error::Error for TooLong {}

impl Lines {
    /// Takes bytes; the complete lines among them come out, without their ends.
    ///
    /// # Errors
    /// [`TooLong`]; what comes then is not looked at.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, TooLong> {
        let mut lines = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.bytes.extend_from_slice(part);
            if self.bytes.len() > LINE_MAX {
                return Err(TooLong);
            }
            if self.bytes.last() == Some(&b'\n') {
                self.bytes.pop();
                lines.push(std::mem::take(&mut self.bytes));
            }
        }
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_however_they_are_cut() {
        let text = b"{\"a\":1}\n\nlast\n";
        for size in 1..text.len() {
            let mut lines = Lines::default();
            let found: Vec<Vec<u8>> =
                text.chunks(size).flat_map(|chunk| lines.push(chunk).unwrap()).collect();
            assert_eq!(found, [b"{\"a\":1}".to_vec(), Vec::new(), b"last".to_vec()], "{size}");
        }
    }

    #[test]
    fn a_line_without_an_end_is_bounded() {
        let mut lines = Lines::default();
        assert_eq!(lines.push(&vec![b'x'; LINE_MAX]), Ok(Vec::new()));
        assert_eq!(lines.push(b"x"), Err(TooLong));
    }

    #[test]
    fn a_message_is_one_line() {
        let message = "of two\nlines".to_owned();
        let text = serde_json::to_string(&GuestReport::Failed { message }).unwrap();
        assert_eq!(text, r#"{"failed":{"message":"of two\nlines"}}"#);
        assert!(!text.contains('\n'));
    }
}
