//! A unit that stays when whoever started it goes: what its *recorder* is told, and the messages to it.
//!
//! The recorder is a process of the shim's program, one for each unit. It starts what runs the tool on its rung, keeps what that
//! says ([`crate::log`]), and completes `exit.json`. As long as it lives it holds [`LOCK`] in the unit's folder exclusively.
use crate::log::Policy;
use crate::ready::{Standing, Wish};
use serde::{Deserialize, Serialize};

/// Name of the file that the recorder reads, a [`Unit`] as JSON.
pub const FILE: &str = "unit.json";
/// Name of the file that the recorder locks.
pub const LOCK: &str = "lock";
/// Name of the socket at which the recorder takes orders.
pub const SOCKET: &str = "unit";

/// What the recorder is told. Fields that it does not know are those of a newer `hatchway`, and no reason to start nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// [`crate::VERSION`].
    pub version: u32,
    /// Its name.
    pub unit: String,
    /// Which run of it.
    pub incarnation: String,
    /// What runs the tool on its rung: the program and its arguments.
    pub command: Vec<String>,
    /// What becomes of its output.
    #[serde(default)]
    pub logs: Policy,
    /// When it was told so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun: Option<Begun>,
    /// Names the configuration that the daemon has started it with; none where a person has started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// Milliseconds in which what is left of it may end by itself once what ran it is gone.
    #[serde(default)]
    pub linger_ms: u64,
    /// When it counts as ready; without it, when its tool has started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<Wish>,
}

/// A moment of one boot of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// Which boot, as `/proc/sys/kernel/random/boot_id` names it.
    pub boot: String,
    /// `CLOCK_MONOTONIC`, in milliseconds.
    pub monotonic_ms: u64,
}

/// To the recorder, over a `SOCK_SEQPACKET` connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnitOrder {
    /// Pass a signal to what runs the tool, which passes it on: TERM ends it within its grace time.
    Signal {
        /// The number.
        signal: i32,
    },
    /// End it at once. Nothing of it can object.
    Kill,
    /// Throw away what is in the log but for the segment that is written now.
    ClearLog,
    /// Say how far it is, and again at each change, until the connection ends. Who does not read is left.
    Watch,
}

/// From the recorder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnitReport {
    /// It was done.
    Done,
    /// How far it is.
    State(Standing),
    /// It was not.
    Failed {
        /// Why, for a person.
        message: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_older_version_has_written_is_read() {
        let text = r#"{"version":1,"unit":"acme","incarnation":"1","command":["x"]}"#;
        let unit: Unit = serde_json::from_str(text).unwrap();
        assert_eq!((unit.ready.as_ref(), unit.linger_ms), (None, 0));
        // And an older one reads this: it knows no such field where nothing is asked for.
        assert!(!serde_json::to_string(&unit).unwrap().contains("ready"));
    }
}
