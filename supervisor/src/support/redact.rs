//! What may leave the machine in a support archive: words that are known to say nothing about anybody, and stand-ins for all others.
//!
//! It is an allow-list. A word passes when Hatchway's own messages use it ([`WORDS`]), when it names a unit of the instrument, or
//! when its form has room for no secret: a short number with its unit, a signal, a serial port, a place on the USB. Everything else
//! becomes a stand-in such as `[path-3]`, the same one for the same word, and what stands for what stays on the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

/// Words of Hatchway's messages, of the kernel's about devices and memory, and of the paths in them.
const WORDS: &str = include_str!("words.txt");
/// Digits in a word that passes: ports and exit codes have no more.
const DIGITS_MAX: usize = 5;
/// Punctuation around a word that says nothing by itself.
const AROUND: &[char] =
    &['(', ')', '[', ']', '{', '}', '<', '>', ',', ';', ':', '.', '!', '?', '`', '\'', '"', '…', '–', '×'];
/// What words are put together with.
const WITHIN: &[char] = &['/', '-', '_', '.', ':', '=', ',', '\'', '+'];
/// Units of measure after a number.
const UNITS: &[&str] = &[
    "ns", "us", "µs", "ms", "s", "m", "h", "d", "%", "B", "kB", "KiB", "MB", "MiB", "GB", "GiB", "G", "M",
    "K", "Hz",
];

/// Stand-ins that were given out, by what they stand for. Kept on the machine only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    given: BTreeMap<String, String>,
    counts: BTreeMap<String, u32>,
}

impl Names {
    /// What a stand-in stands for.
    #[must_use]
    pub fn stands_for(&self, name: &str) -> Option<&str> {
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        self.given
            .iter()
            .find(|(_, given)| given.trim_matches(['[', ']']) == bare)
            .map(|(text, _)| text.as_str())
    }

    fn of(&mut self, text: &str) -> String {
        if let Some(given) = self.given.get(text) {
            return given.clone();
        }
        let kind = kind(text);
        let count = self.counts.entry(kind.to_owned()).or_default();
        *count = count.saturating_add(1);
        let given = format!("[{kind}-{count}]");
        self.given.insert(text.to_owned(), given.clone());
        given
    }
}

/// Lets through what may leave the machine.
#[derive(Debug)]
pub struct Redactor {
    words: BTreeSet<&'static str>,
    known: BTreeSet<String>,
    /// What was given out.
    pub names: Names,
}

impl Redactor {
    /// One that lets these through beside its words: names of units, and what a person has looked at.
    #[must_use]
    pub fn new(known: impl IntoIterator<Item = String>, names: Names) -> Self {
        Self { words: WORDS.split_whitespace().collect(), known: known.into_iter().collect(), names }
    }

    /// A text of which only known words are left. Its lines stay lines.
    pub fn text(&mut self, text: &str) -> String {
        let lines: Vec<String> = text.lines().map(|line| self.line(line)).collect();
        lines.join("\n")
    }

    fn line(&mut self, line: &str) -> String {
        let words: Vec<String> = line.split_whitespace().map(|word| self.word(word)).collect();
        let indent = line.chars().take_while(|c| *c == ' ').take(8).count();
        format!("{}{}", " ".repeat(indent), words.join(" "))
    }

    /// One word with what is around it.
    fn word(&mut self, word: &str) -> String {
        let core = word.trim_matches(AROUND);
        if core.is_empty() || self.passes(core) {
            return word.to_owned();
        }
        let (before, after) = word.split_once(core).unwrap_or_default();
        let stand_in = self.names.of(core);
        format!("{before}{stand_in}{after}")
    }

    /// Whether a word may leave the machine as it is.
    fn passes(&self, word: &str) -> bool {
        if self.known.contains(word) || is_signal(word) || is_place(word) {
            return true;
        }
        let digits = word.chars().filter(char::is_ascii_digit).count();
        digits <= DIGITS_MAX && word.split(WITHIN).all(|part| self.is_plain(part))
    }

    fn is_plain(&self, part: &str) -> bool {
        // Of a word in capitals or with a capital only the spelling is different.
        let lower = part.to_ascii_lowercase();
        let spelt = part == lower || part == part.to_ascii_uppercase() || is_capitalised(part, &lower);
        part.is_empty()
            || is_number(part)
            || UNITS.contains(&part)
            || spelt && self.words.contains(lower.as_str())
    }
}

fn is_capitalised(part: &str, lower: &str) -> bool {
    part.get(1..).is_some_and(|rest| lower.get(1..) == Some(rest))
}

/// `17`, `-3`, `40%`, `12.5`, `250ms`: of few digits.
fn is_number(part: &str) -> bool {
    let part = part.trim_start_matches(['-', '+', '~']);
    let unit = part.trim_start_matches(|c: char| c.is_ascii_digit());
    unit.len() < part.len() && (unit.is_empty() || UNITS.contains(&unit))
}

fn is_signal(word: &str) -> bool {
    Signal::iterator().any(|signal| signal.as_str() == word)
}

/// A serial port, a place on the USB, a disk: names that the kernel has given by position.
fn is_place(word: &str) -> bool {
    let word = word.strip_prefix("/dev/").unwrap_or(word);
    let numbered = |prefix: &str, most: usize| {
        let number = word.strip_prefix(prefix);
        number.is_some_and(|number| {
            (1..=most).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit())
        })
    };
    let on_usb = || {
        let few = word.len() <= 12 && word.bytes().filter(u8::is_ascii_digit).count() <= DIGITS_MAX;
        few && word.contains('-')
            && word.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'.' | b':'))
    };
    ["ttyUSB", "ttyACM", "ttyS", "usb", "video", "hidraw", "comedi", "cpu", "nvme"]
        .iter()
        .any(|prefix| numbered(prefix, 3))
        || on_usb()
}

/// What a word looks like: what its stand-in is called.
fn kind(word: &str) -> &'static str {
    let hex = |c: char| c.is_ascii_hexdigit();
    let groups = |by: char, count: usize| {
        word.split(by).count() == count
            && word.split(by).all(|part| !part.is_empty() && part.chars().all(hex))
    };
    if word.contains("://") {
        "url"
    } else if word.contains('@') && word.contains('.') {
        "mail"
    } else if word.contains('/') {
        "path"
    } else if groups(':', 6) {
        "mac"
    } else if word.parse::<IpAddr>().is_ok()
        || word.rsplit_once(':').is_some_and(|(host, _)| host.parse::<IpAddr>().is_ok())
    {
        "ip"
    } else if word.starts_with("lib") && word.contains(".so") {
        "library"
    } else if groups('-', 5) {
        "id"
    } else if word.chars().all(|c| c.is_ascii_digit()) {
        "number"
    } else {
        "word"
    }
}

#[cfg(test)]
mod tests {
    use hatchway_wire::{ExitReason, Outcome};
    use proptest::prelude::*;

    use super::*;

    fn redactor() -> Redactor {
        Redactor::new(["motion-console".to_owned()], Names::default())
    }

    #[test]
    fn what_hatchway_says_itself_stays_readable() {
        let mut redactor = redactor();
        for text in [
            "it ended by itself with code 3; 5 failures in a short time: it waits for a person",
            "it was asked to end (SIGTERM) and did: code 0",
            "waits for motion-console",
            "not ready after 30 s: looked for `READY=1` at its notify socket",
            "it took more memory than it may, and the kernel killed it (2 processes)",
            "starts again in 0.8 s, after 3 failures",
            "usb 1-2.3: USB disconnect, device number 5",
            "Out of memory: Killed process",
            "`hatchway logs motion-console -n 50` shows what it said before",
            "cannot open `/dev/ttyUSB0`: permission denied",
        ] {
            assert_eq!(redactor.text(text), text);
        }
        for reason in [
            ExitReason::Exit { code: 0 },
            ExitReason::Signal { signal: 11, core: true },
            ExitReason::Requested { signal: 15, forced: true, outcome: Outcome::Exit { code: 1 } },
            ExitReason::Oom { kills: 1 },
            ExitReason::Seccomp,
            ExitReason::LogFull { outcome: None },
            ExitReason::Unhealthy {
                message:
                    "after 20 s the tool is not well: its check has failed 3 times in a row (exit code 1)"
                        .to_owned(),
                forced: true,
                outcome: Outcome::Signal { signal: 9, core: false },
            },
            ExitReason::Lost { outcome: Outcome::Signal { signal: 9, core: false } },
        ] {
            let text = crate::units::told(&reason);
            assert_eq!(redactor.text(&text), text);
        }
    }

    #[test]
    fn what_is_somebody_s_gets_a_name_of_its_kind() {
        let mut redactor = redactor();
        let told = redactor.text(
            "cannot open `/home/ada/scan_0042.mdf`: to 10.1.2.3:5025 and ada@example.org said libkey.so.2",
        );
        assert_eq!(told, "cannot open `[path-1]`: to [ip-1] and [mail-1] said [library-1]");
        assert_eq!(redactor.text("again /home/ada/scan_0042.mdf"), "again [path-1]");
        assert_eq!(redactor.names.stands_for("path-1"), Some("/home/ada/scan_0042.mdf"));
        assert_eq!(redactor.names.stands_for("[mail-1]"), Some("ada@example.org"));
        // A long number, and one in groups: of a licence, of a card.
        assert_eq!(redactor.text("code 123456 1234-5678"), "code [number-1] [word-1]");
        // Nobody hides in how a word is spelt.
        assert_eq!(redactor.text("cODe"), "[word-2]");
    }

    proptest! {
        #[test]
        fn nothing_that_is_unknown_passes(secret in "[A-Za-z0-9+/_-]{8,40}", text in "\\PC{0,40}") {
            let mut redactor = redactor();
            // By chance it may be put together from words that are known.
            prop_assume!(!redactor.passes(&secret) && !redactor.passes(secret.trim_matches(AROUND)));
            let told = redactor.text(&format!("{text} key={secret} {secret}, ({secret})"));
            prop_assert!(!told.contains(&secret), "{told}");
        }
    }
}
