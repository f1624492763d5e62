//! When a tool that stays counts as ready.

use std::net::IpAddr;

use hatchway_wire::InsidePath;
use hatchway_wire::ready::{self, Wish};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Channel, Network, Span};

/// Numbers of descriptors that a tool may be given.
const DESCRIPTORS: std::ops::RangeInclusive<i64> = 3..=9;
/// Bytes of a part of a line.
const TEXT_MAX: usize = 256;
/// Bytes of a Unix socket's name (unix(7)).
const SOCKET_MAX: usize = 107;

/// When a tool counts as ready: by one of these, within a time.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Table")]
pub struct Ready {
    /// What shows it.
    pub what: ready::Ready,
    /// From its start on; then it is late.
    pub within: Span,
}

/// As it is written: one of these keys, and `within`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Table {
    /// `true`: it says `READY=1` at the socket in `NOTIFY_SOCKET` (sd_notify(3)).
    #[serde(default)]
    notify: Option<bool>,
    /// It writes a line to this descriptor, 3 to 9, which it is started with, as under s6.
    #[serde(default)]
    fd: Option<i64>,
    /// It takes connections at this port of its loopback interface.
    #[serde(default)]
    tcp: Option<i64>,
    /// It takes connections at this Unix socket.
    #[serde(default)]
    unix: Option<String>,
    /// This is part of a line that it says, letter for letter.
    #[serde(default)]
    log: Option<String>,
    /// This file is there, and was written since its start.
    #[serde(default)]
    file: Option<String>,
    /// This program of the tree, with its arguments, ends with 0.
    #[serde(default)]
    command: Option<Vec<String>>,
    /// After so long without it the tool is late: `1m` where it is missing.
    #[serde(default)]
    within: Option<Span>,
}

impl JsonSchema for Ready {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Ready".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Table::json_schema(generator)
    }
}

impl TryFrom<Table> for Ready {
    type Error = String;

    fn try_from(table: Table) -> Result<Self, String> {
        let Table { notify, fd, tcp, unix, log, file, command, within } = table;
        let found = [
            notify.map(self::notify),
            fd.map(descriptor),
            tcp.map(port),
            unix.map(socket),
            log.map(text),
            file.map(|path| Ok(ready::Ready::File { path: inside(path)? })),
            command.map(program),
        ];
        let mut found: Vec<_> = found.into_iter().flatten().collect();
        if found.len() != 1 {
            return Err(format!(
                "`ready` is one of `notify`, `fd`, `tcp`, `unix`, `log`, `file` and `command`, and here are {}",
                found.len()
            ));
        }
        let what = found.remove(0)?;
        Ok(Self { what, within: within.unwrap_or_else(Span::a_minute) })
    }
}

fn notify(wanted: bool) -> Result<ready::Ready, String> {
    let no = || "`notify = false` says nothing: leave it out".to_owned();
    wanted.then_some(ready::Ready::Notify).ok_or_else(no)
}

fn descriptor(number: i64) -> Result<ready::Ready, String> {
    let number = i32::try_from(number).ok().filter(|number| DESCRIPTORS.contains(&i64::from(*number)));
    let no = || "a descriptor that a tool is given is one of 3 to 9".to_owned();
    number.map(|number| ready::Ready::Fd { number }).ok_or_else(no)
}

fn port(number: i64) -> Result<ready::Ready, String> {
    let port = u16::try_from(number).ok().filter(|port| *port > 0);
    port.map(|port| ready::Ready::Tcp { port }).ok_or_else(|| format!("{number} is no port: 1 to 65535"))
}

fn socket(path: String) -> Result<ready::Ready, String> {
    if path.len() > SOCKET_MAX {
        return Err(format!("the name of a socket has at most {SOCKET_MAX} bytes"));
    }
    Ok(ready::Ready::Unix { path: inside(path)? })
}

fn text(text: String) -> Result<ready::Ready, String> {
    match text.len() {
        1..=TEXT_MAX if !text.chars().any(char::is_control) => Ok(ready::Ready::Log { text }),
        _ => Err(format!("`log` is a part of one line: 1 to {TEXT_MAX} bytes without control characters")),
    }
}

fn program(words: Vec<String>) -> Result<ready::Ready, String> {
    let mut words = words.into_iter();
    match words.next() {
        Some(program) if !program.is_empty() => Ok(ready::Ready::Command { program, args: words.collect() }),
        _ => Err("`command` names a program".to_owned()),
    }
}

fn inside(path: String) -> Result<InsidePath, String> {
    InsidePath::new(path).map_err(|error| error.to_string())
}

impl Ready {
    /// As a recorder gets it.
    #[must_use]
    pub fn wish(&self) -> Wish {
        Wish { what: self.what.clone(), within_ms: self.within.ms() }
    }

    /// Why it would never show, or always.
    pub(super) fn contradiction(&self, network: &Network, channels: &[Channel]) -> Option<&'static str> {
        let ready::Ready::Tcp { port } = &self.what else { return None };
        if *network == Network::None {
            return Some("with `network = \"none\"` nobody can connect to a port of the tool's");
        }
        let own = |ip: IpAddr| ip.is_loopback();
        let doors = channels.iter().filter_map(Channel::address);
        let taken = doors.into_iter().any(|at| own(at.ip()) && at.port() == *port);
        taken.then_some(
            "that port is a channel's, where the tool connects to: it takes connections from the start",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn parsed(more: &str, ready: &str) -> Result<Ready, String> {
        let text =
            format!("schema = 1\n[package]\nname = \"acme\"\n{more}\n[service]\nready = {{ {ready} }}\n");
        let recipe = parse(&text).map_err(|error| error.to_string())?;
        assert!(recipe.unsupported().is_empty(), "{:?}", recipe.unsupported());
        Ok(recipe.service.unwrap().ready.unwrap().into_inner())
    }

    #[test]
    fn each_way_is_read() {
        let path = |path: &str| InsidePath::new(path).unwrap();
        let program = "dash".to_owned();
        for (text, what) in [
            ("notify = true", ready::Ready::Notify),
            ("fd = 3", ready::Ready::Fd { number: 3 }),
            ("tcp = 5025", ready::Ready::Tcp { port: 5025 }),
            ("unix = \"/run//x.sock\"", ready::Ready::Unix { path: path("/run/x.sock") }),
            ("log = \"listening on 5025\"", ready::Ready::Log { text: "listening on 5025".to_owned() }),
            ("file = \"/run/x.pid\"", ready::Ready::File { path: path("/run/x.pid") }),
            ("command = [\"dash\"]", ready::Ready::Command { program, args: Vec::new() }),
        ] {
            let found = parsed("", text).unwrap();
            assert_eq!((&found.what, found.within.ms()), (&what, 60_000), "{text}");
            assert_eq!(parsed("", &format!("{text}, within = \"30s\"")).unwrap().wish().within_ms, 30_000);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, says) in [
            ("", "is one of `notify`, `fd`, `tcp`, `unix`, `log`, `file` and `command`, and here are 0"),
            ("within = \"1s\"", "and here are 0"),
            ("tcp = 1, fd = 3", "and here are 2"),
            ("port = 1", "unknown field `port`"),
            ("notify = false", "`notify = false` says nothing"),
            ("fd = 2", "one of 3 to 9"),
            ("fd = 10", "one of 3 to 9"),
            ("fd = -4294967293", "one of 3 to 9"),
            ("tcp = 0", "0 is no port"),
            ("tcp = 65536", "65536 is no port"),
            ("tcp = \"5025\"", "invalid type"),
            ("unix = \"x.sock\"", "`x.sock` is not an absolute path"),
            ("file = \"/a/../b\"", "`/a/../b` contains `..`"),
            ("log = \"\"", "`log` is a part of one line"),
            ("log = \"a\\nb\"", "`log` is a part of one line"),
            ("command = []", "`command` names a program"),
            ("command = [\"\"]", "`command` names a program"),
            ("tcp = 1, within = \"1\"", "`1` is no length of time"),
        ] {
            let error = parsed("", text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
        let long = "x".repeat(TEXT_MAX + 1);
        assert!(parsed("", &format!("log = \"{long}\"")).is_err());
        assert!(parsed("", &format!("unix = \"/{long}\"")).unwrap_err().contains("at most 107 bytes"));
    }

    #[test]
    fn what_would_never_show_or_always_is_refused() {
        let error = parsed("[run]\nnetwork = \"none\"", "tcp = 5025").unwrap_err();
        assert!(error.contains("nobody can connect"), "{error}");
        let channel = |at: &str| format!("[[channel]]\nname = \"scope\"\nkind = \"tcp\"\nat = \"{at}\"");
        let error = parsed(&channel("127.0.0.1:5025"), "tcp = 5025").unwrap_err();
        assert!(error.contains("that port is a channel's"), "{error}");
        assert!(parsed(&channel("127.0.0.1:5025"), "tcp = 5026").is_ok());
        assert!(parsed(&channel("10.0.0.5:5025"), "tcp = 5025").is_ok());
        assert!(parsed("[run]\nnetwork = \"none\"", "unix = \"/run/x\"").is_ok());
    }
}
