//! What the recorder knows of a unit's end beyond what was reported: what it said last, and what never came to report.
use hatchway_wire::{ExitReason, ExitRecord, Outcome};

/// Of each stream's end, so much is looked at.
pub(super) const TAIL: usize = 16 << 10;
/// Lines of an error that are kept.
const COMPLAINT_LINES: usize = 12;
/// ld.so's words, elf/dl-load.c and elf/dl-version.c of glibc.
const NO_LIBRARY: &str = "error while loading shared libraries: ";
const NO_FILE: &str = ": cannot open shared object file";
const NO_VERSION: (&str, &str) = (": version `", "' not found (required by ");

/// The last that was said on a stream.
#[derive(Debug, Default)]
pub(super) struct Tail(Vec<u8>);

impl Tail {
    pub(super) fn add(&mut self, data: &[u8]) {
        self.0.extend_from_slice(&data[data.len().saturating_sub(TAIL)..]);
        if self.0.len() > 2 * TAIL {
            self.0.drain(..self.0.len() - TAIL);
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0[self.0.len().saturating_sub(TAIL)..]).into_owned()
    }

    /// The last error of ours with its causes and hints.
    fn complaint(&self) -> Option<String> {
        let text = self.text();
        let lines: Vec<&str> = text.lines().collect();
        let begin = lines.iter().rposition(|line| line.starts_with("error: "))?;
        Some(lines[begin..].iter().take(COMPLAINT_LINES).copied().collect::<Vec<_>>().join("\n"))
    }

    /// The last lines, for somebody who wants to know why.
    fn last(&self, lines: usize) -> Vec<String> {
        let text = self.text();
        let all: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        all[all.len().saturating_sub(lines)..].iter().map(|line| (*line).to_owned()).collect()
    }
}

/// The reason where no record was left: what ran the tool failed before there was something to record, or was killed.
/// One that was asked to end before it could listen has done so.
pub(super) fn unrecorded(outcome: Outcome, asked: Option<i32>, errors: &Tail) -> ExitReason {
    if let (Outcome::Signal { signal, .. }, Some(asked)) = (outcome, asked)
        && signal == asked
    {
        return ExitReason::Requested { signal, forced: false, outcome };
    }
    let failed = hatchway_wire::exit::CODE_HATCHWAY_FAILED;
    match (outcome, errors.complaint()) {
        (Outcome::Exit { code }, Some(message)) if code == failed => ExitReason::NotStarted { message },
        // The tool ran, and there was no room for its record.
        (Outcome::Exit { code }, _) if code != failed => ExitReason::Exit { code },
        _ => ExitReason::Lost { outcome },
    }
}

/// Makes a reason more exact by what was said.
pub(super) fn refine(record: &mut ExitRecord, errors: &Tail) {
    match &record.reason {
        // The loader's own codes: 127 where it finds no library, 1 where a library is too old.
        ExitReason::Exit { code: 1 | 127 } => {
            if let Some((library, line)) = missing_library(&errors.text()) {
                record.reason = ExitReason::MissingLibrary { library };
                record.evidence.push(line);
            } else {
                record.evidence.extend(errors.last(3));
            }
        }
        ExitReason::Exit { code: 0 } => {}
        ExitReason::Exit { .. } | ExitReason::Unhealthy { .. } => record.evidence.extend(errors.last(3)),
        ExitReason::Signal { signal, .. } => {
            if *signal == hatchway_wire::exit::SIGSYS {
                record.reason = ExitReason::Seccomp;
            }
            record.evidence.extend(errors.last(3));
        }
        _ => {}
    }
}

/// The library, with the version that is missing, and the line that says so. The last such line counts: a tool may try.
fn missing_library(text: &str) -> Option<(String, String)> {
    let line = text.lines().next_back()?;
    if let Some((_, rest)) = line.split_once(NO_LIBRARY) {
        let (library, _) = rest.split_once(NO_FILE)?;
        return Some((library.to_owned(), line.to_owned()));
    }
    let (before, rest) = line.split_once(NO_VERSION.0)?;
    let (version, _) = rest.split_once(NO_VERSION.1)?;
    let library = before.rsplit(['/', ' ']).next()?;
    Some((format!("{library} ({version})"), line.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(text: &str) -> Tail {
        let mut tail = Tail::default();
        tail.add(text.as_bytes());
        tail
    }

    #[test]
    fn the_loader_s_words_name_what_is_missing() {
        let said = "hello\n/opt/a: error while loading shared libraries: libgclib.so.0: cannot open shared object file: No such file or directory\n";
        assert_eq!(missing_library(said).unwrap().0, "libgclib.so.0");
        let said =
            "/opt/a: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.38' not found (required by /opt/a)\n";
        assert_eq!(missing_library(said).unwrap().0, "libc.so.6 (GLIBC_2.38)");
        assert_eq!(missing_library("libc.so.6: not what you think\n"), None);
        // What it said before it went on and failed for another reason.
        let said = "x: error while loading shared libraries: liba.so: cannot open shared object file: No\nno licence\n";
        assert_eq!(missing_library(said), None);
    }

    #[test]
    fn who_was_killed_before_it_could_say_is_lost_and_who_failed_is_not_started() {
        let killed = Outcome::Signal { signal: 9, core: false };
        assert_eq!(unrecorded(killed, None, &tail("error: x\n")), ExitReason::Lost { outcome: killed });
        let asked = Outcome::Signal { signal: 15, core: false };
        let requested = ExitReason::Requested { signal: 15, forced: false, outcome: asked };
        assert_eq!(unrecorded(asked, Some(15), &tail("")), requested);
        assert_eq!(unrecorded(killed, Some(15), &tail("")), ExitReason::Lost { outcome: killed });
        let failed = Outcome::Exit { code: 125 };
        let said = "  downloading\nerror: no lock\n  because: a\n  because: b\nhint: make one\n";
        let message = said.trim_start_matches("  downloading\n").trim_end().to_owned();
        assert_eq!(unrecorded(failed, None, &tail(said)), ExitReason::NotStarted { message });
        let own = Outcome::Exit { code: 3 };
        assert_eq!(unrecorded(own, None, &tail("error: cannot write\n")), ExitReason::Exit { code: 3 });
        assert_eq!(unrecorded(failed, None, &tail("")), ExitReason::Lost { outcome: failed });
    }

    #[test]
    fn a_tail_is_bounded() {
        let mut tail = Tail::default();
        (0..100).for_each(|_| tail.add(&[b'a'; 10_000]));
        tail.add(b"end");
        assert!(tail.0.len() <= 2 * TAIL + 3 && tail.text().ends_with("end"));
    }
}
