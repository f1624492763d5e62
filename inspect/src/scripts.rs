//! Reading (never running) maintainer scripts.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use crate::ScriptFacts;

/// Bytes of a script kept in the facts.
const TEXT: usize = 64 << 10;

/// Control members that are scripts, and `triggers`, which is a list.
const NAMES: [&str; 6] = ["config", "postinst", "postrm", "preinst", "prerm", "triggers"];

/// Commands that change the system, or ask for it to be changed.
const COMMANDS: [&str; 62] = [
    "add-shell",
    "addgroup",
    "adduser",
    "apt-get",
    "apt-key",
    "chgrp",
    "chmod",
    "chown",
    "cp",
    "curl",
    "deb-systemd-helper",
    "deb-systemd-invoke",
    "debconf",
    "delgroup",
    "deluser",
    "depmod",
    "dkms",
    "dpkg",
    "dpkg-divert",
    "dpkg-statoverride",
    "dpkg-trigger",
    "fc-cache",
    "getent",
    "glib-compile-schemas",
    "groupadd",
    "groupdel",
    "gtk-update-icon-cache",
    "insmod",
    "install",
    "invoke-rc.d",
    "ldconfig",
    "ln",
    "locale-gen",
    "mkdir",
    "mknod",
    "modprobe",
    "mount",
    "mv",
    "passwd",
    "pip",
    "pip3",
    "rm",
    "rmdir",
    "rmmod",
    "sed",
    "service",
    "setcap",
    "start-stop-daemon",
    "sysctl",
    "systemctl",
    "systemd-sysusers",
    "systemd-tmpfiles",
    "tar",
    "touch",
    "udevadm",
    "update-alternatives",
    "update-desktop-database",
    "update-initramfs",
    "update-rc.d",
    "useradd",
    "usermod",
    "wget",
];

/// Words after which a command follows rather than an argument.
const LEADERS: [&str; 15] = [
    "if", "then", "else", "elif", "while", "until", "do", "!", "{", "exec", "sudo", "env", "nohup", "xargs",
    "eval",
];

/// Whether a control member of this name belongs into the facts.
pub(crate) fn is_script(name: &str) -> bool {
    NAMES.contains(&name)
}

/// The line after `#!`, if there is one.
pub(crate) fn interpreter(head: &[u8]) -> Option<String> {
    let line = head.strip_prefix(b"#!")?;
    let line = &line[..line.len().min(256)];
    let line = line.split(|&byte| byte == b'\n' || byte == 0).next()?;
    let text = String::from_utf8_lossy(line).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// Reads one script.
pub(crate) fn read(name: &str, bytes: &[u8]) -> ScriptFacts {
    let is_text = memchr::memchr(0, bytes).is_none();
    let text = if is_text { String::from_utf8_lossy(bytes) } else { std::borrow::Cow::Borrowed("") };
    ScriptFacts {
        name: name.to_owned(),
        interpreter: interpreter(bytes),
        sha256: hex(&Sha256::digest(bytes)),
        lines: text.lines().count(),
        calls: if name == "triggers" { Vec::new() } else { calls(&text) },
        text: cut(&text).to_owned(),
    }
}

/// The beginning of a text, cut between two characters.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

pub(crate) fn hex(digest: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    digest
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

/// Known commands at places where a shell would look for one.
///
/// Here documents and quoted text are not told apart from commands; a word too many is looked at by a person, a word too few is not.
fn calls(text: &str) -> Vec<String> {
    let mut found = BTreeSet::new();
    for line in text.lines() {
        let line = uncommented(line);
        for piece in line.split([';', '|', '&', '(', ')', '`']) {
            if let Some(command) = command_of(piece) {
                found.insert(command.to_owned());
            }
        }
    }
    found.into_iter().collect()
}

/// A `#` begins a comment at the start of a word.
fn uncommented(line: &str) -> &str {
    let comment = line
        .char_indices()
        .find(|&(at, c)| c == '#' && line[..at].chars().next_back().is_none_or(char::is_whitespace));
    comment.map_or(line, |(at, _)| &line[..at])
}

fn command_of(piece: &str) -> Option<&'static str> {
    let words = piece.split_whitespace().map(|word| word.trim_matches(['"', '\'', '$']));
    let mut words =
        words.skip_while(|word| LEADERS.contains(word) || is_assignment(word) || word.ends_with("/env"));
    let word = words.next()?;
    let name = word.rsplit('/').next().unwrap_or_default();
    COMMANDS.iter().copied().find(|command| *command == name)
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_where_a_shell_looks() {
        let script = "#!/bin/sh\nset -e\n# chown everything\nif [ \"$1\" = configure ]; then\n  LC_ALL=C /sbin/ldconfig\n  \
            getent passwd acme >/dev/null || useradd -r acme\n  x=$(udevadm info)\nfi\necho please run systemctl yourself\n";
        let facts = read("postinst", script.as_bytes());
        assert_eq!(facts.calls, ["getent", "ldconfig", "udevadm", "useradd"]);
        assert_eq!(facts.interpreter.as_deref(), Some("/bin/sh"));
        assert_eq!(facts.lines, 9);
    }

    #[test]
    fn a_compiled_script_has_no_text() {
        let facts = read("preinst", b"\x7fELF\0\0\0");
        assert_eq!((facts.text.as_str(), facts.lines, facts.interpreter), ("", 0, None));
    }

    #[test]
    fn long_scripts_are_cut_at_a_character() {
        let facts = read("postinst", "ä".repeat(TEXT).as_bytes());
        assert!(facts.text.len() <= TEXT && facts.text.chars().all(|c| c == 'ä'));
    }
}
