//! Messages between somebody who comes to a running unit (`hatchway exec`, `hatchway stats`) and its shim.
//!
//! They travel as JSON over a `SOCK_SEQPACKET` connection of its own for each who comes, whose end is the end of what was begun
//! over it. On the fhs rung the shim listens, in a container it is handed the connection ([`crate::attend::LeaseOrder::Control`]), and
//! in a guest `hatchway run` and the guest's init carry the messages ([`crate::guest`]).
use crate::exit::Outcome;
use crate::guest::Window;
use crate::ready::Watched;
use serde::{Deserialize, Serialize};

/// Name of the socket in a run's folder.
pub const SOCKET: &str = "control";

/// Bytes of an order at most: half of what a message between the halves of the shim may have.
pub const ORDER_MAX: usize = 16 << 10;

/// To the shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ControlOrder {
    /// Start another program beside the tool, once for a connection. With three descriptors, its standard streams, unless it gets a
    /// terminal.
    Exec(Exec),
    /// Pass a signal to its process group.
    Signal {
        /// The number.
        signal: i32,
    },
    /// Its terminal has another size. For whoever has no descriptor of it, in a guest.
    Resize(Window),
    /// Say what the unit uses.
    Stats,
    /// Say how the tool is, and again at each change, until the connection ends. From the first such order on it is looked whether the
    /// tool is ready. A shim that is older than this order ends the connection.
    Watch,
}

/// Another program in a unit's sandbox: with the tool's user, rights, filters, limits and folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exec {
    /// A path inside, or a bare name that is looked up in `PATH` inside.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// In place of what the tool has, or beside it.
    pub env: Vec<(String, String)>,
    /// It gets a terminal of the sandbox's, of this size.
    pub terminal: Option<Window>,
}

/// From the shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ControlReport {
    /// The other end of the terminal comes with this message as a descriptor.
    Terminal,
    /// The program runs.
    Started {
        /// Its process id inside.
        pid: i32,
    },
    /// It ended.
    Ended {
        /// How.
        outcome: Outcome,
    },
    /// It did not start.
    Failed {
        /// The program is there, and cannot be executed.
        found: bool,
        /// Why, for a person.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// What was asked for.
    Stats(Stats),
    /// How the tool is now.
    Watched(Watched),
}

/// What everything in a unit's sandbox uses, the shim's own share too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stats {
    /// Processes.
    pub processes: u64,
    /// Threads of all of them.
    pub threads: u64,
    /// Processor time, of those that have ended too, in microseconds. The kernel counts in ticks, a hundredth of a second mostly.
    pub cpu_us: u64,
    /// Bytes of memory, the sum of resident sets: what several share is counted for each.
    pub resident_bytes: u64,
    /// Since the shim's start, in milliseconds.
    pub uptime_ms: u64,
    /// How the tool is, where its recipe says how to find out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Condition>,
}

/// How a tool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// No check has succeeded yet, and not so many have failed that it is unhealthy.
    Starting,
    /// The last check succeeded, or fewer than are allowed have failed since.
    Healthy,
    /// As many checks in a row have failed as are allowed, and none has succeeded since.
    Unhealthy,
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        })
    }
}
