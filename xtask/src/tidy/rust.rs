//! Checks of Rust sources. They count in a *masked* copy of the text, in which comments and the insides of
//! strings are blank, so a brace is a brace. The code is taken to be formatted by rustfmt.

use super::{Problem, Source};

/// Lines of code a function may have, from its signature to its closing brace; comments and blank lines are free.
const FUNCTION_LINES_MAX: usize = 70;

/// Lines a file may have before its tests.
const FILE_LINES_MAX: usize = 800;

/// Functions that may be longer: path, name, lines now, and why. A ratchet: the number only goes down.
pub(super) const EXEMPT: &[Exemption] = &[];

/// One entry of `EXEMPT`.
pub(super) struct Exemption {
    pub(super) path: &'static str,
    pub(super) name: &'static str,
    pub(super) lines: usize,
    pub(super) reason: &'static str,
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function {
    path: String,
    name: String,
    line: usize,
    lines: usize,
}

/// A text of the same length and lines as the source, without comments, string contents and characters.
pub(super) struct Masked {
    bytes: Vec<u8>,
    /// Byte ranges of modules under `#[cfg(test)]`.
    tests: Vec<(usize, usize)>,
}

impl Masked {
    pub(super) fn new(source: &str) -> Self {
        let mut masked = Self { bytes: mask(source.as_bytes()), tests: Vec::new() };
        let mut from = 0;
        while let Some(start) = masked.find("#[cfg(test)]", from) {
            let end = masked.item_end(start + "#[cfg(test)]".len());
            masked.tests.push((start, end));
            from = end;
        }
        masked
    }

    fn find(&self, needle: &str, from: usize) -> Option<usize> {
        let found = self.bytes.get(from..)?.windows(needle.len()).position(|part| part == needle.as_bytes());
        Some(from + found?)
    }

    fn line_of(&self, at: usize) -> usize {
        1 + self.bytes[..at].iter().filter(|&&byte| byte == b'\n').count()
    }

    fn is_test(&self, at: usize) -> bool {
        self.tests.iter().any(|&(start, end)| (start..end).contains(&at))
    }

    /// One past the `;` or the closing brace that ends the item at `at`.
    fn item_end(&self, at: usize) -> usize {
        let mut depth = 0_usize;
        let mut round = 0_usize;
        for (index, &byte) in self.bytes.iter().enumerate().skip(at) {
            match byte {
                b'(' | b'[' => round += 1,
                b')' | b']' => round = round.saturating_sub(1),
                b'{' => depth += 1,
                b'}' => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 && round == 0 {
                        return index + 1;
                    }
                }
                b';' if depth == 0 && round == 0 => return index + 1,
                _ => {}
            }
        }
        self.bytes.len()
    }

    /// Where `word` stands alone, not as a part of a longer name.
    fn words(&self, word: &str) -> Vec<usize> {
        let is_name = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
        let mut found = Vec::new();
        let mut from = 0;
        while let Some(at) = self.find(word, from) {
            from = at + word.len();
            let before = at.checked_sub(1).and_then(|index| self.bytes.get(index));
            if !is_name(before) && !is_name(self.bytes.get(from)) {
                found.push(at);
            }
        }
        found
    }
}

/// Every function with a body outside tests.
pub(super) fn functions(source: &Source, masked: &Masked) -> Vec<Function> {
    if is_test_file(&source.path) {
        return Vec::new();
    }
    let mut functions = Vec::new();
    for at in masked.words("fn") {
        let rest = &masked.bytes[at + 2..];
        let name: Vec<u8> = rest
            .iter()
            .skip_while(|byte| **byte == b' ')
            .take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_')
            .copied()
            .collect();
        // `fn(u8) -> u8` is a type, not a function.
        if name.is_empty() || masked.is_test(at) {
            continue;
        }
        let end = masked.item_end(at);
        let body = &masked.bytes[at..end];
        if body.last() != Some(&b'}') {
            continue;
        }
        let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).count();
        let name = String::from_utf8_lossy(&name).into_owned();
        functions.push(Function { path: source.path.clone(), name, line: masked.line_of(at), lines });
    }
    functions
}

/// Functions over the limit that are not exempt, and exemptions that have had their day.
pub(super) fn long_functions(functions: &[Function], exempt: &[Exemption]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for function in functions.iter().filter(|function| function.lines > FUNCTION_LINES_MAX) {
        let known = exempt.iter().any(|entry| entry.path == function.path && entry.name == function.name);
        if !known {
            let Function { path, name, line, lines } = function;
            let what = format!("`{name}` has {lines} lines of code; {FUNCTION_LINES_MAX} are allowed");
            problems.push(Problem::new(path, *line, what));
        }
    }
    for entry in exempt {
        let found = functions
            .iter()
            .filter(|function| function.path == entry.path && function.name == entry.name)
            .max_by_key(|function| function.lines);
        let what = match found {
            _ if entry.reason.is_empty() => format!("the exemption of `{}` has no reason", entry.name),
            None => format!("the exemption of `{}` is for a function that is gone", entry.name),
            Some(function) if function.lines <= FUNCTION_LINES_MAX => {
                format!("`{}` is short enough now: remove its exemption", entry.name)
            }
            Some(function) if function.lines != entry.lines => {
                format!("`{}` has {} lines, its exemption says {}", entry.name, function.lines, entry.lines)
            }
            Some(_) => continue,
        };
        problems.push(Problem::new(entry.path, found.map_or(1, |function| function.line), what));
    }
    problems
}

/// Too many lines outside of tests.
pub(super) fn long_file(source: &Source, masked: &Masked) -> Option<Problem> {
    if is_test_file(&source.path) {
        return None;
    }
    let in_tests: usize = masked
        .tests
        .iter()
        .map(|&(start, end)| masked.bytes[start..end].iter().filter(|&&byte| byte == b'\n').count())
        .sum();
    let lines = source.text.lines().count() - in_tests;
    (lines > FILE_LINES_MAX).then(|| {
        Problem::new(&source.path, 1, format!("{lines} lines without tests; {FILE_LINES_MAX} are allowed"))
    })
}

/// `allow` and `expect` attributes that do not say why.
pub(super) fn reasonless_attributes(source: &Source, masked: &Masked) -> Vec<Problem> {
    let mut problems = Vec::new();
    for start in ["#[", "#!["] {
        let mut from = 0;
        while let Some(at) = masked.find(start, from) {
            from = at + start.len();
            let end = attribute_end(&masked.bytes, from);
            let attribute = String::from_utf8_lossy(&masked.bytes[at..end]);
            let is_lint = ["allow(", "expect("].iter().any(|word| {
                attribute
                    .match_indices(word)
                    .any(|(index, _)| attribute[..index].ends_with(['[', ' ', ',', '(']))
            });
            if is_lint && !attribute.contains("reason = ") {
                problems.push(Problem::new(
                    &source.path,
                    masked.line_of(at),
                    "lint switched off without a reason",
                ));
            }
        }
    }
    problems
}

fn attribute_end(bytes: &[u8], from: usize) -> usize {
    let mut depth = 1_usize;
    for (index, &byte) in bytes.iter().enumerate().skip(from) {
        match byte {
            b'[' => depth += 1,
            b']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return index + 1;
        }
    }
    bytes.len()
}

/// `unsafe` anywhere but in the one crate that is for it.
pub(super) fn misplaced_unsafe(source: &Source, masked: &Masked) -> Vec<Problem> {
    if source.path.starts_with("fhs-envs/sys/") {
        return Vec::new();
    }
    let what = "`unsafe` belongs into fhs-envs/sys only";
    masked
        .words("unsafe")
        .into_iter()
        .map(|at| Problem::new(&source.path, masked.line_of(at), what))
        .collect()
}

/// Files that hold nothing but tests.
fn is_test_file(path: &str) -> bool {
    path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs")
}

/// Blanks comments, string contents and character literals; newlines and quotes stay.
fn mask(source: &[u8]) -> Vec<u8> {
    let mut out = source.to_vec();
    let mut at = 0;
    while at < source.len() {
        let end = token_end(source, at);
        let is_code = end == at + 1;
        if !is_code {
            for byte in out.iter_mut().take(end).skip(at).filter(|byte| **byte != b'\n') {
                *byte = b' ';
            }
            // A string stays visible as one, and a line that only continues it still counts as code.
            if source[at] != b'/' {
                out[at] = b'"';
                out[end - 1] = b'"';
                keep_lines_visible(&mut out, at, end);
            }
        }
        at = end;
    }
    out
}

fn keep_lines_visible(out: &mut [u8], start: usize, end: usize) {
    for index in start..end {
        let follows_newline = index.checked_sub(1).is_some_and(|before| out[before] == b'\n');
        if follows_newline && out[index] != b'\n' {
            out[index] = b'"';
        }
    }
}

/// One past the comment, string or character that starts at `at`; `at + 1` for anything else.
fn token_end(source: &[u8], at: usize) -> usize {
    let rest = &source[at..];
    let after_name = at > 0 && (source[at - 1].is_ascii_alphanumeric() || source[at - 1] == b'_');
    match rest {
        [b'/', b'/', ..] => at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => at + block_comment(rest),
        [b'"', ..] => at + quoted(rest, 1),
        [b'b' | b'c', b'"', ..] if !after_name => at + quoted(rest, 2),
        [b'b', b'\'', ..] if !after_name => at + character(&rest[1..]).map_or(1, |length| length + 1),
        [b'r', b'"' | b'#', ..] if !after_name => at + raw(rest, 1).unwrap_or(1),
        [b'b' | b'c', b'r', b'"' | b'#', ..] if !after_name => at + raw(rest, 2).unwrap_or(1),
        [b'\'', ..] => at + character(rest).unwrap_or(1),
        _ => at + 1,
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        match rest.get(at..at + 2) {
            Some(b"/*") => depth += 1,
            Some(b"*/") => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

fn quoted(rest: &[u8], from: usize) -> usize {
    let mut at = from;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// The length of a raw string whose `#` or quote stands at `from`; `None` for a raw identifier.
fn raw(rest: &[u8], from: usize) -> Option<usize> {
    let hashes = rest[from..].iter().take_while(|byte| **byte == b'#').count();
    if rest.get(from + hashes) != Some(&b'"') {
        return None;
    }
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let body = from + hashes + 1;
    let found = rest[body..].windows(close.len()).position(|part| part == close.as_slice());
    Some(found.map_or(rest.len(), |index| body + index + close.len()))
}

/// The length of a character literal; `None` for a lifetime.
fn character(rest: &[u8]) -> Option<usize> {
    if rest.get(1) == Some(&b'\\') {
        let close = rest.iter().skip(3).position(|byte| *byte == b'\'')?;
        return Some(close + 4);
    }
    let text = String::from_utf8_lossy(rest.get(1..rest.len().min(8))?).into_owned();
    let length = text.chars().next()?.len_utf8();
    (rest.get(1 + length) == Some(&b'\'')).then_some(length + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> (Source, Masked) {
        let source = Source { path: path.to_owned(), text: text.to_owned() };
        let masked = Masked::new(text);
        (source, masked)
    }

    fn function_of(lines: usize) -> String {
        format!("fn long() {{\n{}}}\n", "    step();\n".repeat(lines - 2))
    }

    fn names(text: &str) -> Vec<(String, usize)> {
        let (source, masked) = source("inspect/src/lib.rs", text);
        functions(&source, &masked).into_iter().map(|function| (function.name, function.lines)).collect()
    }

    #[test]
    fn comments_strings_and_characters_hide_their_braces() {
        let cases = [
            ("fn a() {\n    // }\n    b();\n}\n", 3),
            ("fn a() {\n    /* } /* } */ } */\n    b('}', '\\'', b'}');\n}\n", 3),
            ("fn a<'x>(b: &'x str) {\n    c(\"}\\\"}\", r#\"}\"}\"#, b\"}\");\n}\n", 3),
            ("fn a(b: [u8; 3]) -> u8\nwhere\n    C: D,\n{\n    1\n}\n", 6),
            ("fn a() {\n\n    let s = \"one\n  two\n\";\n}\n", 5),
        ];
        for (text, lines) in cases {
            assert_eq!(names(text), [("a".to_owned(), lines)], "{text}");
        }
    }

    #[test]
    fn types_declarations_and_tests_are_no_functions() {
        assert!(names("type A = fn(u8) -> u8;\ntrait B { }\n").is_empty());
        assert_eq!(names("trait B {\n    fn c(&self);\n    fn d() {}\n}\n"), [("d".to_owned(), 1)]);
        assert!(names("#[cfg(test)]\nmod tests {\n    fn a() {}\n}\n").is_empty());
    }

    #[test]
    fn a_long_function_is_found_and_a_shorter_one_is_not() {
        let check = |lines: usize| {
            let (source, masked) = source("inspect/src/lib.rs", &function_of(lines));
            long_functions(&functions(&source, &masked), &[])
        };
        assert!(check(FUNCTION_LINES_MAX).is_empty());
        assert_eq!(check(FUNCTION_LINES_MAX + 1).len(), 1);
    }

    #[test]
    fn the_ratchet_only_goes_down() {
        let check = |now: usize, lines: usize, reason: &'static str| {
            let (source, masked) = source("inspect/src/lib.rs", &function_of(now));
            let entry = Exemption { path: "inspect/src/lib.rs", name: "long", lines, reason };
            let problems = long_functions(&functions(&source, &masked), &[entry]);
            problems.into_iter().map(|problem| problem.what).collect::<Vec<_>>()
        };
        assert!(check(90, 90, "a table").is_empty());
        assert!(check(91, 90, "a table")[0].contains("has 91 lines"));
        assert!(check(80, 90, "a table")[0].contains("has 80 lines"));
        assert!(check(20, 90, "a table")[0].contains("short enough"));
        assert!(check(90, 90, "")[0].contains("no reason"));
    }

    #[test]
    fn a_long_file_is_found_and_its_tests_do_not_count() {
        let long = "const A: u8 = 1;\n".repeat(FILE_LINES_MAX + 1);
        let (file, masked) = source("inspect/src/lib.rs", &long);
        assert!(long_file(&file, &masked).is_some());
        let tests = format!("#[cfg(test)]\nmod tests {{\n{long}}}\n");
        let (file, masked) = source("inspect/src/lib.rs", &tests);
        assert!(long_file(&file, &masked).is_none());
    }

    #[test]
    fn an_attribute_without_reason_is_found() {
        let cases = [
            ("#[allow(dead_code)]\nfn a() {}\n", 1),
            ("#![expect(unused)]\n", 1),
            ("#[cfg_attr(test, allow(unused))]\nfn a() {}\n", 1),
            ("#[allow(\n    dead_code,\n    reason = \"shown in the debugger\"\n)]\nfn a() {}\n", 0),
            ("// #[allow(dead_code)]\nfn a() { b.expect(\"c\"); }\n", 0),
            ("#[derive(Debug)]\nstruct A;\n", 0),
        ];
        for (text, count) in cases {
            let (source, masked) = source("inspect/src/lib.rs", text);
            assert_eq!(reasonless_attributes(&source, &masked).len(), count, "{text}");
        }
    }

    #[test]
    fn unsafe_is_found_outside_its_crate() {
        let text = "#![forbid(unsafe_code)]\n// unsafe\nfn a() { unsafe { b() } }\n";
        let (file, masked) = source("fhs-envs/src/lib.rs", text);
        assert_eq!(misplaced_unsafe(&file, &masked).len(), 1);
        let (file, masked) = source("fhs-envs/sys/src/lib.rs", text);
        assert!(misplaced_unsafe(&file, &masked).is_empty());
    }
}
