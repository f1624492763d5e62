//! What a recipe says of channels and of things that stay up: read and checked; not carried out yet.

use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

use super::Name;

/// One stream of I/O.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Channel {
    /// Its name.
    #[schemars(with = "String")]
    pub name: Spanned<Name>,
    /// What it is.
    pub kind: ChannelKind,
    /// Where the tool expects it.
    #[serde(default)]
    pub at: Option<String>,
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
