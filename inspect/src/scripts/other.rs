//! Scripts in other languages: commands they hand to the system as plain strings, and nothing beyond.

use super::commands::{Found, enter_words, shell};

/// Calls looked at in one script, and arguments of one call.
const CALLS: usize = 1024;
const ARGUMENTS: usize = 64;
/// Bytes of one call's arguments.
const CALL_BYTES: usize = 4096;

/// Functions of Lua that run something: its own `os.execute` and `io.popen`, and those of rpm's `posix` and `rpm` tables
/// (rpm documentation, "Embedded Lua").
const LUA: [&str; 5] = ["os.execute", "io.popen", "posix.exec", "rpm.execute", "rpm.spawn"];
/// Perl's own (perlfunc).
const PERL: [&str; 3] = ["system", "exec", "qx"];
/// Python's `os` and `subprocess`.
const PYTHON: [&str; 10] = [
    "os.system",
    "os.popen",
    "subprocess.run",
    "subprocess.call",
    "subprocess.check_call",
    "subprocess.check_output",
    "subprocess.Popen",
    "check_call",
    "check_output",
    "Popen",
];

/// A language of which something is understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    Lua,
    Perl,
    Python,
}

/// Finds strings, or lists of strings, behind the functions that run something. One string is a shell's command line, several
/// are words.
pub(super) fn read(language: Language, text: &str, found: &mut Found) {
    let functions: &[&str] = match language {
        Language::Lua => &LUA,
        Language::Perl => &PERL,
        Language::Python => &PYTHON,
    };
    let mut places: Vec<(usize, usize)> = Vec::new();
    for function in functions {
        places.extend(
            text.match_indices(function).take(CALLS).map(|(at, _)| (at, at.saturating_add(function.len()))),
        );
    }
    places.sort_unstable();
    let (mut line, mut counted) = (1_usize, 0_usize);
    for (start, end) in places.into_iter().take(CALLS) {
        let before = text.get(..start).unwrap_or_default();
        // `check_call` is a part of `subprocess.check_call`, and of `my_check_call`.
        let inside = before
            .chars()
            .next_back()
            .is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | ':' | '$'));
        let last_line = before.rsplit('\n').next().unwrap_or_default().trim_start();
        if inside || last_line.starts_with(['#', '*']) || last_line.starts_with("--") {
            continue;
        }
        let passed = text.get(counted..start).unwrap_or_default();
        line = line.saturating_add(memchr::memchr_iter(b'\n', passed.as_bytes()).count());
        counted = start;
        let arguments = strings(text.get(end..).unwrap_or_default());
        match arguments.as_slice() {
            [] => {}
            [one] => shell(one, line, found),
            several => enter_words(several, line, found),
        }
    }
}

/// The string literals that follow, separated by commas.
fn strings(text: &str) -> Vec<String> {
    let mut rest = text.trim_start_matches([' ', '\t', '(', '[', '{']);
    let mut found = Vec::new();
    let mut left = CALL_BYTES;
    while let Some(quote) = rest.chars().next().filter(|c| matches!(c, '"' | '\'')) {
        let Some((value, length)) = literal(rest, quote, left) else { break };
        left = left.saturating_sub(length);
        found.push(value);
        rest = rest.get(length..).unwrap_or_default().trim_start();
        match rest.strip_prefix(',') {
            Some(after) if found.len() < ARGUMENTS => rest = after.trim_start(),
            _ => break,
        }
    }
    found
}

/// A quoted string, escapes removed, and its length with both quotes.
fn literal(text: &str, quote: char, most: usize) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if at >= most {
            return None;
        }
        match c {
            'n' if escaped => value.push('\n'),
            _ if escaped => value.push(c),
            '\\' => {
                escaped = true;
                continue;
            }
            _ if c == quote => return Some((value, at.checked_add(1)?)),
            _ => value.push(c),
        }
        escaped = false;
    }
    None
}
