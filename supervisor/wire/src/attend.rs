//! The messages between the two halves of the shim: the attendant outside and PID 1 inside.
//!
//! They travel as JSON over one `SOCK_SEQPACKET` pair. The end of the stream is a message too: an inner half
//! that reads it ends everything, an outer half that reads it collects the inner one.
use crate::control::{Condition, ControlOrder, ControlReport};
use crate::exit::{ExitRecord, Outcome, Usage};
use crate::op::{Endpoint, Slot};
use crate::path::HostPath;
use serde::{Deserialize, Serialize};

/// From the inner half.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Report {
    /// Something was done otherwise than planned.
    Note {
        /// What a person should read.
        message: String,
    },
    /// Something has gone wrong beside the tool, which goes on: a person is told at once.
    Caution {
        /// What a person should read.
        message: String,
    },
    /// An operation failed; nothing runs, the inner half ends.
    Failed {
        /// The operation.
        operation: String,
        /// The path it was about.
        path: Option<String>,
        /// The error number, if a system call failed.
        errno: Option<i32>,
        /// Why, for a person.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// The terminal's other end comes with this message as a descriptor.
    Terminal,
    /// Something the outer half serves from now on comes with this message as a descriptor.
    Handed(Handed),
    /// The tool runs.
    Started {
        /// Its process id inside.
        pid: i32,
    },
    /// The program could not be executed.
    ExecFailed {
        /// The error number.
        errno: i32,
        /// The program itself is there.
        found: bool,
        /// Why, for a person.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// The tool was stopped (Ctrl-Z).
    Stopped {
        /// The signal that stopped it.
        signal: i32,
    },
    /// The tool ended. Everything else is being ended.
    Ended {
        /// How.
        outcome: Outcome,
        /// Whether the inner half killed it after the grace period.
        forced: bool,
    },
    /// An answer to somebody who came to the unit; a descriptor may come with it.
    Control {
        /// Who.
        id: u32,
        /// What.
        report: ControlReport,
    },
    /// The tool is well again, or is not.
    Health {
        /// Which.
        condition: Condition,
        /// In words.
        message: String,
    },
    /// Nothing is left inside but the inner half.
    Empty {
        /// What all of it used.
        usage: Usage,
    },
}

/// What a descriptor that the inner half hands out is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Handed {
    /// A writable view of the folder in which a copy of this file of the host is kept.
    Follow {
        /// The file on the host.
        source: HostPath,
    },
    /// A socket in the unit's network; what comes there is passed on to this server.
    Listener {
        /// On the host's network.
        to: Endpoint,
    },
    /// The other end of a serial line; what is written there is passed on to this server.
    Line {
        /// On the host's network.
        to: Endpoint,
    },
    /// The unit's user namespace.
    UserNamespace,
    /// The unit's mount namespace, in which these devices are shown.
    MountNamespace {
        /// Which.
        slots: Vec<Slot>,
    },
}

/// From the outer half.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Order {
    /// Pass a signal to the tool.
    Signal {
        /// Its number.
        signal: i32,
    },
    /// Pass a signal to the tool, and kill everything if it is still there after the grace period.
    End {
        /// Its number.
        signal: i32,
    },
    /// Pass a signal to the tool's process group: what a key of the terminal does.
    Group {
        /// Its number.
        signal: i32,
    },
    /// Let a stopped tool go on.
    Continue,
    /// Let a stopped tool go on in the foreground of its terminal: from now on it may read keys.
    Foreground,
    /// What was handed out is served; making the sandbox can go on.
    GoOn,
    /// Somebody who came to the unit wants this; descriptors come with it.
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

/// From whoever started a container to the shim in it, over a socket of packets that is bound into it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum LeaseOrder {
    /// The first message, with three descriptors: what becomes standard input, output and error. So the engine carries
    /// nothing of what the tool says, and its end is not the tool's. A fourth is the way of the unit's channels
    /// ([`crate::mux`]), where it has some.
    Streams,
    /// A signal to pass on, as if it had been sent to the shim.
    Signal {
        /// Its number.
        signal: i32,
        /// The kernel sent it, for a key at the terminal.
        key: bool,
    },
    /// Somebody has come to the unit: their connection comes with this message as a descriptor.
    Control,
    /// A descriptor that comes with this message is kept as long as the unit lives: a lock.
    Keep,
}

/// From the shim in a container to whoever started it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum LeaseReport {
    /// The tool is stopped, as by Ctrl-Z. It goes on with SIGCONT.
    Stopped {
        /// The signal that stopped it.
        signal: i32,
    },
    /// The last message: how the unit ended.
    Ended {
        /// As in `exit.json`; who started it knows where that is.
        record: Box<ExitRecord>,
    },
}
