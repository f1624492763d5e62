//! Reading (never running) maintainer scripts.

mod commands;
mod destinations;
mod lexer;
mod names;
mod other;
mod word;

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use self::commands::Found;
use crate::ScriptFacts;

/// Bytes of a script kept in the facts.
const TEXT: usize = 64 << 10;
/// Bytes of a script that are read for commands; the longest of Debian has a tenth of that.
const READ: usize = 512 << 10;

/// Control members that are scripts, and `triggers`, which is a list.
const NAMES: [&str; 6] = ["config", "postinst", "postrm", "preinst", "prerm", "triggers"];

/// Whether a control member of this name belongs into the facts.
pub(crate) fn is_script(name: &str) -> bool {
    NAMES.contains(&name)
}

/// The line after `#!`, if there is one.
pub(crate) fn interpreter(head: &[u8]) -> Option<String> {
    let line = head.strip_prefix(b"#!")?;
    let line = line.get(..line.len().min(256))?;
    let line = line.split(|&byte| byte == b'\n' || byte == 0).next()?;
    let text = String::from_utf8_lossy(line).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// Reads one script that names its own interpreter.
pub(crate) fn read(name: &str, bytes: &[u8]) -> ScriptFacts {
    read_with(name, interpreter(bytes), bytes)
}

/// Reads one script whose interpreter the package names.
pub(crate) fn read_with(name: &str, interpreter: Option<String>, bytes: &[u8]) -> ScriptFacts {
    let text = text_of(bytes);
    let found = understand(name, interpreter.as_deref(), &text);
    ScriptFacts {
        name: name.to_owned(),
        interpreter,
        sha256: hex(&Sha256::digest(bytes)),
        lines: text.lines().count(),
        calls: found.calls.into_iter().collect(),
        actions: found.actions,
        writes: found.writes.into_iter().collect(),
        removes: found.removes.into_iter().collect(),
        text: cut(&text, TEXT).to_owned(),
    }
}

/// The commands of note in a script that was read, with their arguments: values where they are known, otherwise as they
/// stand there. Commands beyond the text kept in the facts are missing.
pub(crate) fn commands(script: &ScriptFacts) -> Vec<Vec<String>> {
    understand(&script.name, script.interpreter.as_deref(), &script.text).commands
}

fn text_of(bytes: &[u8]) -> Cow<'_, str> {
    if memchr::memchr(0, bytes).is_none() { String::from_utf8_lossy(bytes) } else { Cow::Borrowed("") }
}

fn understand(name: &str, interpreter: Option<&str>, text: &str) -> Found {
    let mut found = Found::default();
    let text = cut(text, READ);
    match language(name, interpreter) {
        Some(Language::Shell) => commands::shell(text, 1, &mut found),
        Some(Language::Other(language)) => other::read(language, text, &mut found),
        // `%postun -p /sbin/ldconfig`: what is named as the interpreter is itself the command.
        None if name != "triggers" => commands::shell(interpreter.unwrap_or_default(), 1, &mut found),
        None => {}
    }
    found
}

enum Language {
    Shell,
    Other(other::Language),
}

/// The language of a script, if it is understood. One without a first line is run by a shell, by dpkg as by rpm.
fn language(name: &str, interpreter: Option<&str>) -> Option<Language> {
    if name == "triggers" {
        return None;
    }
    let mut words = interpreter.unwrap_or("/bin/sh").split_whitespace();
    let base = |word: &str| word.rsplit('/').next().unwrap_or_default().to_owned();
    let first = words.next().map(base).unwrap_or_default();
    let program = if matches!(first.as_str(), "env" | "busybox") {
        words.find(|word| !word.starts_with('-') && !word.contains('=')).map(base).unwrap_or_default()
    } else {
        first
    };
    match program.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.') {
        "sh" | "bash" | "dash" | "ash" | "ksh" | "mksh" | "zsh" => Some(Language::Shell),
        "<lua>" | "lua" => Some(Language::Other(other::Language::Lua)),
        "perl" => Some(Language::Other(other::Language::Perl)),
        "python" => Some(Language::Other(other::Language::Python)),
        _ => None,
    }
}

/// The beginning of a text, cut between two characters.
fn cut(text: &str, bytes: usize) -> &str {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or_default()
}

pub(crate) fn hex(digest: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 * digest.len());
    for byte in digest {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
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
    fn an_interpreter_that_is_no_language_is_a_call() {
        let facts = read_with("postun", Some("/sbin/ldconfig".to_owned()), b"");
        assert_eq!((facts.calls, facts.lines), (vec!["ldconfig".to_owned()], 0));
        assert_eq!(facts.actions[0].text, "/sbin/ldconfig");
        assert!(read_with("postun", Some("/bin/sh".to_owned()), b"").calls.is_empty());
        assert!(read_with("triggers", None, b"interest ldconfig\n").calls.is_empty());
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
