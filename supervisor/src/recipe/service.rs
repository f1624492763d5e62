//! What a recipe says of channels and of things that stay up. Of channels, serial lines and TCP ports are carried; what gates
//! them, and everything of things that stay up, is read and checked, and not carried out yet.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

use super::{Diagnostic, Inside, Name, Port};

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
    #[schemars(with = "Option<serde_json::Value>")]
    pub ready: Option<toml::Value>,
    /// Whether it is well.
    #[serde(default)]
    #[schemars(with = "Option<serde_json::Value>")]
    pub health: Option<toml::Value>,
    /// How it is stopped.
    #[serde(default)]
    #[schemars(with = "Option<serde_json::Value>")]
    pub stop: Option<toml::Value>,
    /// What becomes of its output.
    #[serde(default)]
    #[schemars(with = "Option<serde_json::Value>")]
    pub logs: Option<toml::Value>,
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
