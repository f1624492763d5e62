//! What a recipe says of channels and of things that stay up. Of channels, serial lines and TCP ports are carried; what gates
//! them is read and checked, and not carried out yet.

use std::net::SocketAddr;

use hatchway_wire::log::{self, Full, Policy};
use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

use super::{Diagnostic, Inside, Name, Port, Ready, Size};

/// One stream of I/O.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Channel {
    /// Its name.
    #[schemars(with = "String")]
    pub name: Spanned<Name>,
    /// What it is.
    pub kind: ChannelKind,
    /// Where the tool expects it. A serial line: `/dev/ttyUSB0`, or `/dev/` and the channel's name where it is missing. A TCP
    /// port: `127.0.0.1:5025`, an address of the unit's own network.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub at: Option<Spanned<String>>,
    /// Which port a serial line is to a Windows program: `COM3`. Where it is missing, the lowest that is free, after those of
    /// device slots.
    #[serde(default)]
    pub port: Option<Port>,
    /// How bytes become commands.
    #[serde(default)]
    pub framing: Option<Framing>,
    /// Passes only under a permit.
    #[serde(default)]
    pub gated: bool,
    /// Commands that always pass.
    #[serde(default)]
    pub allow: Vec<String>,
    /// Commands that are never held back.
    #[serde(default)]
    pub stop: Vec<String>,
    /// Sent when the gate closes.
    #[serde(default)]
    pub on_close: Option<String>,
    /// What the tool reads for a refused command.
    #[serde(default)]
    pub refuse: Option<Refuse>,
    /// What the tool sees while the device is away.
    #[serde(default)]
    pub unplugged: Unplugged,
}

/// What a channel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ChannelKind {
    /// A pty.
    Serial,
    /// A TCP port.
    Tcp,
    /// A Unix socket.
    Unix,
    /// Standard input and output.
    Stdio,
    /// Files that appear in a folder.
    FileDrop,
}

impl Channel {
    /// Where a serial line is.
    #[must_use]
    pub fn line(&self) -> Option<Inside> {
        let at = match &self.at {
            Some(at) => at.get_ref().clone(),
            None => format!("/dev/{}", self.name.get_ref().as_str()),
        };
        (self.kind == ChannelKind::Serial).then(|| Inside::try_from(at).ok()).flatten()
    }

    /// Where a TCP port is.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        let at = self.at.as_ref().filter(|_| self.kind == ChannelKind::Tcp)?;
        at.get_ref().parse().ok()
    }

    pub(super) fn check(&self) -> Result<(), Diagnostic> {
        let span = self.at.as_ref().map_or(self.name.span(), Spanned::span);
        let message = match self.kind {
            ChannelKind::Serial if self.line().is_none() => "a serial line is a path below `/dev`",
            ChannelKind::Tcp if self.address().is_none() => {
                "a TCP port has `at` with an address and a port, as in `127.0.0.1:5025`"
            }
            kind if self.port.is_some() && kind != ChannelKind::Serial => {
                "only a serial line is a port of Windows"
            }
            _ => return Ok(()),
        };
        Err(Diagnostic::new(message, span))
    }

    /// What of it this version does not carry out. A gate that is not there must not look as if it was.
    pub(super) fn unsupported(&self) -> impl Iterator<Item = String> {
        let kind = matches!(self.kind, ChannelKind::Serial | ChannelKind::Tcp);
        [
            (!kind, "kind"),
            (self.framing.is_some(), "framing"),
            (self.gated, "gated"),
            (!self.allow.is_empty(), "allow"),
            (!self.stop.is_empty(), "stop"),
            (self.on_close.is_some(), "on-close"),
            (self.refuse.is_some(), "refuse"),
            (self.unplugged != Unplugged::Block, "unplugged"),
        ]
        .into_iter()
        .filter(|(asked, _)| *asked)
        .map(|(_, what)| format!("{what} in [[channel]]"))
    }
}

/// How bytes become commands.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Framing {
    /// The end of a line.
    pub line: String,
    /// What separates commands in a line.
    #[serde(default)]
    pub separators: Vec<String>,
}

/// What the tool reads for a refused command.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Refuse {
    /// These bytes.
    pub reply: String,
}

/// What a tool sees while its device is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Unplugged {
    /// Reads and writes wait.
    #[default]
    Block,
    /// They fail.
    Error,
    /// The line hangs up.
    HangUp,
}

/// For what stays up.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Service {
    /// When it is started again.
    #[serde(default)]
    pub restart: Restart,
    /// When it counts as ready.
    #[serde(default)]
    #[schemars(with = "Option<Ready>")]
    pub ready: Option<Spanned<Ready>>,
    /// Whether it is well.
    #[serde(default)]
    pub health: Option<Health>,
    /// How it is stopped.
    #[serde(default)]
    pub stop: Option<Stop>,
    /// What becomes of its output, where a recorder keeps it (`hatchway run --detach`).
    #[serde(default)]
    pub logs: Option<Logs>,
    /// It has a terminal of its own, where a recorder keeps it: `hatchway attach` comes to it, and all that it says there is `out` in the
    /// log.
    #[serde(default = "Service::no_terminal")]
    #[schemars(with = "bool")]
    pub terminal: Spanned<bool>,
}

impl Service {
    fn no_terminal() -> Spanned<bool> {
        Spanned::new(0..0, false)
    }

    pub(super) fn check(&self) -> Result<(), Diagnostic> {
        self.health.as_ref().map_or(Ok(()), Health::check)?;
        // Whoever sits there would see nothing more, and what the tool says last would be lost.
        if *self.terminal.get_ref() && self.logs.is_some_and(|logs| logs.full == Full::Block) {
            let message =
                "a tool with a terminal waits for nobody: `logs.full` is `drop-oldest` or `stop` with it";
            return Err(Diagnostic::new(message, self.terminal.span()));
        }
        Ok(())
    }
}

/// How a tool is asked to end, and how long it has for it.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Stop {
    /// What it hears in place of TERM and HUP.
    #[serde(default)]
    pub signal: StopSignal,
    /// After so long it is killed.
    #[serde(default = "Stop::grace")]
    pub grace: Span,
}

impl Default for Stop {
    fn default() -> Self {
        Self { signal: StopSignal::default(), grace: Self::grace() }
    }
}

impl Stop {
    fn grace() -> Span {
        Span(5_000)
    }
}

/// A signal that asks a program to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum StopSignal {
    /// What init systems send.
    #[default]
    Term,
    /// As by Ctrl-C.
    Int,
    /// As by Ctrl-\.
    Quit,
    /// As by a terminal that is gone.
    Hup,
    /// What the program makes of it.
    Usr1,
    /// What the program makes of it.
    Usr2,
}

impl StopSignal {
    /// Its number.
    #[must_use]
    pub fn number(self) -> i32 {
        use nix::sys::signal::Signal;
        let signal = match self {
            Self::Term => Signal::SIGTERM,
            Self::Int => Signal::SIGINT,
            Self::Quit => Signal::SIGQUIT,
            Self::Hup => Signal::SIGHUP,
            Self::Usr1 => Signal::SIGUSR1,
            Self::Usr2 => Signal::SIGUSR2,
        };
        signal as i32
    }
}

/// How much is kept of what a tool says.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Logs {
    /// Bytes in all: `1M` to `16G`.
    #[serde(default = "Logs::size")]
    #[schemars(with = "Option<String>")]
    pub size: LogSize,
    /// What becomes of more than that: the oldest goes (`drop-oldest`), the tool waits until somebody clears the log (`block`), or
    /// it is ended (`stop`).
    #[serde(default)]
    #[schemars(with = "LogsFull")]
    pub full: Full,
}

/// The words of [`Full`].
#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
#[allow(dead_code, reason = "only its schema is used")]
enum LogsFull {
    /// The oldest goes, and is counted.
    DropOldest,
    /// The tool waits.
    Block,
    /// The tool is ended.
    Stop,
}

impl Logs {
    fn size() -> LogSize {
        LogSize(log::SIZE)
    }

    /// As its recorder gets it.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy { size: self.size.0, full: self.full }
    }
}

/// A size that a log may have.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "Size")]
pub struct LogSize(u64);

impl TryFrom<Size> for LogSize {
    type Error = String;
    fn try_from(size: Size) -> Result<Self, String> {
        let bytes = size.bytes();
        let wrong = || format!("a log has 1M to 16G, and this is {bytes} bytes");
        (log::SIZE_MIN..=16 << 30).contains(&bytes).then_some(Self(bytes)).ok_or_else(wrong)
    }
}

/// How to find out whether a tool is well: a program of the tree, whose exit code says so.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Health {
    /// The program and its arguments.
    #[schemars(with = "Vec<String>")]
    pub command: Spanned<Vec<String>>,
    /// How often.
    #[serde(default = "Health::every")]
    pub every: Span,
    /// After how long one has failed.
    #[serde(default = "Health::timeout")]
    pub timeout: Span,
    /// How many in a row have to fail: 1 to 100.
    #[serde(default = "Health::failures")]
    #[schemars(with = "u32")]
    pub failures: Spanned<u32>,
    /// How long from the tool's start a failure does not count as long as none has succeeded.
    #[serde(default = "Span::a_minute")]
    pub start: Span,
    /// What then becomes of the tool.
    #[serde(default)]
    pub then: Then,
}

/// What becomes of a tool whose check of health fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// It is said, and the tool goes on.
    #[default]
    Warn,
    /// It is asked to end, as by `hatchway stop`. For `restart` that is a failure, so it starts again where the recipe says so.
    End,
}

impl Health {
    fn every() -> Span {
        Span(10_000)
    }

    fn timeout() -> Span {
        Span(10_000)
    }

    fn failures() -> Spanned<u32> {
        Spanned::new(0..0, 3)
    }

    pub(super) fn check(&self) -> Result<(), Diagnostic> {
        if self.command.get_ref().iter().all(String::is_empty) {
            return Err(Diagnostic::new("a check names a program", self.command.span()));
        }
        match self.failures.get_ref() {
            1..=100 => Ok(()),
            _ => Err(Diagnostic::new("a check may fail 1 to 100 times in a row", self.failures.span())),
        }
    }
}

/// A length of time: `500ms`, `10s`, `2m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct Span(u64);

impl Span {
    pub(super) fn a_minute() -> Self {
        Self(60_000)
    }

    /// In milliseconds.
    #[must_use]
    pub fn ms(self) -> u64 {
        self.0
    }
}

impl TryFrom<String> for Span {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        const DAY_MS: u64 = 86_400_000;
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let factor = match &text[digits..] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => 0,
        };
        let ms = text[..digits].parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
        ms.filter(|ms| (100..=DAY_MS).contains(ms)).map(Self).ok_or_else(|| {
            format!("`{text}` is no length of time from `100ms` to `24h`, as `500ms`, `10s` or `2m`")
        })
    }
}

/// When a unit is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Never.
    #[default]
    Never,
    /// After a failure.
    OnFailure,
    /// Always.
    Always,
}
