//! A unit that stays when whoever started it goes: what its *recorder* is told, and the messages to it.
//!
//! The recorder is a process of the shim's program, one for each unit. It starts what runs the tool on its rung, keeps what that
//! says ([`crate::log`]), and completes `exit.json`. As long as it lives it holds [`LOCK`] in the unit's folder exclusively.
use crate::guest::Window;
use crate::log::Policy;
use crate::ready::{Standing, Wish};
use serde::{Deserialize, Serialize};

/// Name of the file that the recorder reads, a [`Unit`] as JSON.
pub const FILE: &str = "unit.json";
/// Name of the file that the recorder locks.
pub const LOCK: &str = "lock";
/// What a recorder writes to its standard error before it lets go of that, once it keeps the unit. What comes in its stead is a complaint.
/// Whoever has started it for somebody, as systemd does, may hold the other ends of its streams until it ends.
pub const KEPT: u8 = b'\n';
/// Name of the socket at which the recorder takes orders.
pub const SOCKET: &str = "unit";
/// The size of a unit's terminal until somebody who comes to it has another.
pub const WINDOW: Window = Window { rows: 24, columns: 80 };
/// What a unit's terminal is, where its recipe does not say `TERM`: what nearly all emulate who may come to it.
pub const TERM: &str = "xterm-256color";
/// Of a terminal's output, so many bytes are shown to who comes to it.
pub const RECENT_MAX: usize = 8 << 10;
/// Characters of the name of who comes to a terminal.
pub const WHO_MAX: usize = 80;

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
    /// It has a terminal of its own in place of pipes.
    #[serde(default, skip_serializing_if = "is_false")]
    pub terminal: bool,
    /// Who has started the recorder waits for [`KEPT`]. To an earlier daemon, whose programs are replaced just now, that is a complaint:
    /// it would forget a unit that runs.
    #[serde(default, skip_serializing_if = "is_false")]
    pub hears_kept: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(value: &bool) -> bool {
    !*value
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
    /// Come to its terminal. The answer is [`UnitReport::Attached`] with a stream socket for raw bytes both ways, on which what was said
    /// last comes first. The terminal is left with either connection. Who does not read misses output, which is counted in the stream.
    Attach(Attach),
    /// Give the terminal this size: by who writes to it, or over a connection that has not come to it.
    Resize(Window),
}

/// How somebody comes to a unit's terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// What they send is typed. One at a time may.
    pub write: bool,
    /// Also where somebody else writes, who from then on only reads.
    #[serde(default)]
    pub take: bool,
    /// What was said last comes first.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub recent: bool,
    /// Who they are, for others who want to write.
    #[serde(default)]
    pub who: String,
    /// Their size, which the terminal has from then on, if they write.
    #[serde(default)]
    pub window: Option<Window>,
}

fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_true(value: &bool) -> bool {
    *value
}

/// From the recorder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnitReport {
    /// It was done.
    Done,
    /// How far it is.
    State(Standing),
    /// The terminal's stream comes with it.
    Attached,
    /// Somebody else writes to the terminal.
    Occupied {
        /// Who.
        by: String,
    },
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
        assert_eq!((unit.ready.as_ref(), unit.linger_ms, unit.hears_kept), (None, 0, false));
        // And an older one reads this: it knows no such field where nothing is asked for.
        let text = serde_json::to_string(&unit).unwrap();
        assert!(!text.contains("ready") && !text.contains("terminal"), "{text}");
    }

    #[test]
    fn orders_are_on_the_wire_as_they_were() {
        let attach = Attach {
            write: true,
            take: false,
            recent: true,
            who: "uid 0 (root)".to_owned(),
            window: Some(WINDOW),
        };
        for (order, text) in [
            (UnitOrder::Kill, r#""kill""#),
            (UnitOrder::Watch, r#""watch""#),
            (
                UnitOrder::Attach(attach),
                r#"{"attach":{"write":true,"take":false,"who":"uid 0 (root)","window":{"rows":24,"columns":80}}}"#,
            ),
            (UnitOrder::Resize(WINDOW), r#"{"resize":{"rows":24,"columns":80}}"#),
        ] {
            assert_eq!(serde_json::to_string(&order).unwrap(), text);
            assert_eq!(serde_json::from_str::<UnitOrder>(text).unwrap(), order);
        }
        // The least that is asked for.
        let least: UnitOrder = serde_json::from_str(r#"{"attach":{"write":false}}"#).unwrap();
        let who = String::new();
        assert_eq!(
            least,
            UnitOrder::Attach(Attach { write: false, take: false, recent: true, who, window: None })
        );
    }
}
