//! How a person leaves a terminal: as with systemd's `machinectl` and `virsh`, by a key that hardly any tool wants.

use std::time::{Duration, Instant};

/// Ctrl-].
const KEY: u8 = 0x1d;
/// As by Ctrl-C.
const INTERRUPT: u8 = 0x03;
/// So often in a row.
const TIMES: usize = 3;
/// From the first to the last.
const WITHIN: Duration = Duration::from_secs(1);

/// Looks for the keys that leave. They are held back until it is clear that they do not: a tool that is left is told nothing.
#[derive(Debug, Default)]
pub(super) struct Keys {
    held: usize,
    /// When the first of them came.
    first: Option<Instant>,
    /// What is typed goes nowhere, so Ctrl-C is meant for us.
    pub(super) read_only: bool,
}

impl Keys {
    pub(super) fn new(read_only: bool) -> Self {
        Self { read_only, ..Self::default() }
    }

    /// What is for the tool now; true where the person leaves. One or two of the keys are the tool's: telnet has the same.
    pub(super) fn typed(&mut self, bytes: &[u8], now: Instant) -> (Vec<u8>, bool) {
        let mut passed = self.late(now);
        for byte in bytes {
            if self.read_only && *byte == INTERRUPT {
                return (passed, true);
            }
            if *byte == KEY {
                self.first.get_or_insert(now);
                self.held += 1;
                if self.held >= TIMES {
                    return (passed, true);
                }
            } else {
                passed.extend(self.release());
                passed.push(*byte);
            }
        }
        (passed, false)
    }

    /// Those that were held back, once no more can come in time.
    pub(super) fn late(&mut self, now: Instant) -> Vec<u8> {
        if self.due().is_some_and(|due| now > due) { self.release() } else { Vec::new() }
    }

    /// Until when more may come.
    pub(super) fn due(&self) -> Option<Instant> {
        self.first.map(|first| first + WITHIN)
    }

    fn release(&mut self) -> Vec<u8> {
        self.first = None;
        vec![KEY; std::mem::take(&mut self.held)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_in_a_second_leave_and_nothing_else_does() {
        let begin = Instant::now();
        let cases: [(&[(u64, &str)], bool); 7] = [
            (&[(0, "\x1d\x1d\x1d")], true),
            (&[(0, "\x1d"), (400, "\x1d"), (999, "\x1d")], true),
            (&[(0, "\x1d"), (400, "\x1d"), (1001, "\x1d")], false),
            (&[(0, "\x1d\x1dx\x1d")], false),
            (&[(0, "\x1d"), (2000, "\x1d"), (2100, "\x1d"), (2200, "\x1d")], true),
            (&[(0, "\x1d\x1d"), (500, "quit\r")], false),
            (&[(0, "\x03\x04\x1c")], false),
        ];
        for (typed, leaves) in cases {
            let mut keys = Keys::default();
            let left = typed
                .iter()
                .any(|(ms, text)| keys.typed(text.as_bytes(), begin + Duration::from_millis(*ms)).1);
            assert_eq!(left, leaves, "{typed:?}");
        }
    }

    #[test]
    fn what_is_typed_before_is_the_tools_and_nothing_is_held_for_long() {
        let now = Instant::now();
        let typed = |text: &[u8]| Keys::default().typed(text, now);
        assert_eq!(typed(b"ab\x1d\x1d\x1dcd"), (b"ab".to_vec(), true));
        assert_eq!(typed(b"\x1d]\x03"), (b"\x1d]\x03".to_vec(), false));
        assert_eq!(Keys::new(true).typed(b"ab\x03", now), (b"ab".to_vec(), true));
        let mut keys = Keys::default();
        assert_eq!(keys.typed(b"a\x1d\x1d", now), (b"a".to_vec(), false));
        let due = keys.due().unwrap();
        assert_eq!(keys.late(due), b"");
        assert_eq!(keys.late(due + Duration::from_millis(1)), b"\x1d\x1d");
        assert_eq!((keys.due(), keys.late(due + WITHIN)), (None, Vec::new()));
    }
}
