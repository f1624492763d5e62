//! What is known of a unit before anybody asks why, and what is said of it then.

use hatchway_wire::ExitReason;
use hatchway_wire::exit::Short;
use serde::{Deserialize, Serialize};

/// Lines of the log that are looked at, from its end.
pub const LINES_MAX: usize = 400;
/// Bytes of a line that are looked at: a hostile tool has no longer say than others.
pub const LINE_BYTES_MAX: usize = 1024;
/// Bytes of all lines together.
pub const BYTES_MAX: usize = 96 << 10;
/// Characters of a name that a tool has given and that is repeated in a sentence.
pub const THING_MAX: usize = 120;

/// How sure a cause is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// Something fits, and other things may fit as well.
    Guess,
    /// The tool said so last, or said nothing else that fits.
    Likely,
    /// The kernel, the loader or Hatchway itself said so.
    Certain,
}

impl std::fmt::Display for Confidence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Guess => "guess",
            Self::Likely => "likely",
            Self::Certain => "certain",
        })
    }
}

/// Where a line of evidence is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The tool said it.
    Log,
    /// The record of its end.
    Exit,
    /// What was done otherwise than asked for.
    Note,
    /// Whether it is ready or well.
    Standing,
    /// Its recipe or the instrument.
    Recipe,
    /// This machine, as it is now.
    Host,
    /// Another unit.
    Unit,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Log => "log",
            Self::Exit => "exit",
            Self::Note => "note",
            Self::Standing => "standing",
            Self::Recipe => "recipe",
            Self::Host => "host",
            Self::Unit => "unit",
        })
    }
}

/// A line that shows that a cause is the cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Where it is from.
    pub source: Source,
    /// The line.
    pub text: String,
}

/// Why a unit is as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// A word that stays, for programs and for `hatchway explain`.
    pub code: &'static str,
    /// A sentence that names the thing.
    pub says: String,
    /// How sure that is.
    pub confidence: Confidence,
    /// What shows it.
    pub evidence: Vec<Shown>,
    /// What to do, a line each.
    pub next: Vec<String>,
}

/// How the unit is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Standing {
    /// It has ended.
    Ended(ExitReason),
    /// It is gone, and nobody has written down how.
    Gone,
    /// It runs.
    Running {
        /// That it was not ready in time, and what was looked for.
        late: Option<String>,
        /// Its check fails.
        unhealthy: bool,
    },
    /// Nothing is known.
    #[default]
    Unknown,
}

/// The network that a tool sees.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Net {
    /// Nobody knows.
    #[default]
    Unknown,
    /// None.
    None,
    /// Its own loopback interface.
    Loopback,
    /// The machine's.
    Host,
    /// These addresses, as `ADDRESS:PORT`.
    Allow(Vec<String>),
}

impl Net {
    /// Whether it leads to this address. An unknown one leads anywhere, so that nothing is made up.
    #[must_use]
    pub fn leads_to(&self, host: &str, port: Option<u16>) -> bool {
        match self {
            Self::Unknown | Self::Host => true,
            Self::None => false,
            Self::Loopback => is_loopback(host),
            Self::Allow(all) => {
                let there = |one: &String| match port {
                    Some(port) => *one == format!("{host}:{port}"),
                    None => one.rsplit_once(':').is_some_and(|(one, _)| one == host),
                };
                is_loopback(host) || all.iter().any(there)
            }
        }
    }

    /// As the recipe has it.
    #[must_use]
    pub fn told(&self) -> String {
        match self {
            Self::Unknown => "network".to_owned(),
            Self::None => "network = \"none\"".to_owned(),
            Self::Loopback => "network = \"loopback\"".to_owned(),
            Self::Host => "network = \"host\"".to_owned(),
            Self::Allow(all) => format!("network = {{ allow = {all:?} }}"),
        }
    }
}

/// Whether an address or a name is the machine itself.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host.eq_ignore_ascii_case("localhost") || host.starts_with("127.") || host == "::1" || host == "0.0.0.0"
}

/// A slot of the recipe: where the tool expects it, and what this machine has put there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// Where the tool looks.
    pub at: String,
    /// What is bound.
    pub bound: Option<String>,
}

/// What the recipe and the instrument say that a rule can use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Words {
    /// Whether a recipe was found at all.
    pub known: bool,
    /// Network.
    pub network: Net,
    /// Folders that survive.
    pub state: Vec<String>,
    /// Memory that it may take, as it is written.
    pub memory: Option<String>,
    /// Tasks that it may have.
    pub tasks: Option<u64>,
    /// Size of shared memory, as it is written.
    pub shm: Option<String>,
    /// Whether it has a display.
    pub display: bool,
    /// Whether it has the GPU.
    pub gpu: bool,
    /// Whether it has sound.
    pub audio: bool,
    /// Whether it has a bus.
    pub dbus: bool,
    /// Device slots.
    pub devices: Vec<Slot>,
    /// File slots.
    pub files: Vec<Slot>,
    /// The port at which it is ready.
    pub ready_port: Option<u16>,
}

/// A line that the tool has said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Said {
    /// Whether Hatchway said it, and not the tool.
    pub ours: bool,
    /// The line.
    pub text: String,
}

/// All that a rule may look at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Evidence {
    /// Name of the unit.
    pub unit: String,
    /// How it is.
    pub standing: Standing,
    /// Its program.
    pub program: String,
    /// The last lines that it has said, oldest first.
    pub lines: Vec<Said>,
    /// What the record of its end shows.
    pub shown: Vec<String>,
    /// What was done otherwise than asked for.
    pub notes: Vec<String>,
    /// Whose memory was at its end, if the kernel has killed something of it for that.
    pub short: Option<Short>,
    /// What its recipe and the instrument say.
    pub words: Words,
}

/// This machine, as far as rules ask for it. Each answer may be that nobody knows.
pub trait Host {
    /// Who listens at this port.
    fn listener(&self, port: u16) -> Option<String>;
    /// Whether something is at this path.
    fn exists(&self, path: &str) -> Option<bool>;
    /// Who has opened this file.
    fn holder(&self, path: &str) -> Option<String>;
    /// Bytes that are free where the unit's state is.
    fn free_bytes(&self) -> Option<u64>;
    /// That the clock cannot be right, and why.
    fn clock(&self) -> Option<String>;
    /// Whether the processor has an extension, as `/proc/cpuinfo` names it.
    fn processor_has(&self, flag: &str) -> Option<bool>;
}

/// A machine that answers nothing: for archives, and where nobody may look.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nothing;

impl Host for Nothing {
    fn listener(&self, _: u16) -> Option<String> {
        None
    }
    fn exists(&self, _: &str) -> Option<bool> {
        None
    }
    fn holder(&self, _: &str) -> Option<String> {
        None
    }
    fn free_bytes(&self) -> Option<u64> {
        None
    }
    fn clock(&self) -> Option<String> {
        None
    }
    fn processor_has(&self, _: &str) -> Option<bool> {
        None
    }
}

/// The last lines within the bounds, without what would steer a terminal: colours go, other control characters are replaced.
#[must_use]
pub fn bounded(lines: &[Said]) -> Vec<Said> {
    let mut left = BYTES_MAX;
    let mut kept: Vec<Said> = Vec::new();
    for line in lines.iter().rev().take(LINES_MAX) {
        let text = plain(&line.text);
        if text.trim().is_empty() {
            continue;
        }
        left = match left.checked_sub(text.len()) {
            Some(left) => left,
            None => break,
        };
        kept.push(Said { ours: line.ours, text });
    }
    kept.reverse();
    kept
}

/// A line as it may be shown, and in which words are found: within bounds, colours left out.
#[must_use]
pub fn plain(text: &str) -> String {
    let mut shown = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if shown.len() >= LINE_BYTES_MAX {
            shown.push('…');
            break;
        }
        // ECMA-48: a control sequence is ESC [, parameters, and a letter or another final byte.
        if c == '\u{1b}' && chars.peek() == Some(&'[') {
            chars.next();
            for c in chars.by_ref().take(32) {
                if ('@'..='~').contains(&c) {
                    break;
                }
            }
            continue;
        }
        match c {
            '\t' => shown.push(' '),
            // A progress line that was written over.
            '\r' => shown.push(' '),
            c if c.is_control() || is_format(c) => shown.push('\u{fffd}'),
            c => shown.push(c),
        }
    }
    shown
}

/// Characters that are shown as nothing and turn round what is beside them.
fn is_format(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}
