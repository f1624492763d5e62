//! Outcomes as text, compared with what stands in the test.
//!
//! `HATCHWAY_SNAPSHOTS=write cargo test -p hatchway-tests` writes what it finds into the tests' source; the difference
//! is then read in git.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Compares the text of a value with a raw string in the test (`r#"…"#`, at the margin).
#[macro_export]
macro_rules! snapshot {
    ($actual:expr, $expected:expr $(,)?) => {
        $crate::snapshot::check(&$actual.to_string(), $expected, file!(), line!())
    };
}

/// Does the work of [`snapshot!`](crate::snapshot!).
///
/// # Panics
/// When they differ, with the difference.
pub fn check(actual: &str, expected: &str, file: &str, line: u32) {
    let (actual, expected) = (actual.trim_end(), expected.trim());
    if actual.trim() == expected {
        return;
    }
    if std::env::var_os("HATCHWAY_SNAPSHOTS").is_some_and(|value| value == "write") {
        rewrite(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file), line as usize, actual);
        return;
    }
    panic!(
        "{file}:{line}: the outcome is another one (- expected, + found)\n{}",
        difference(expected, actual)
    );
}

/// All lines, those that are only on one side with a sign.
#[must_use]
pub fn difference(expected: &str, actual: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), actual.lines().collect());
    // The longest common run of lines, by the textbook's table; outcomes have some dozen lines.
    let mut common = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] = if old[i] == new[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut text) = (0, 0, String::new());
    while i < old.len() || j < new.len() {
        let (sign, line) = if i < old.len() && j < new.len() && old[i] == new[j] {
            (i, j) = (i + 1, j + 1);
            (' ', old[i - 1])
        } else if j == new.len() || (i < old.len() && common[i + 1][j] >= common[i][j + 1]) {
            i += 1;
            ('-', old[i - 1])
        } else {
            j += 1;
            ('+', new[j - 1])
        };
        writeln!(text, "{sign} {line}").unwrap();
    }
    text
}

/// Puts the text into the raw string that follows a line of a source file.
fn rewrite(file: &Path, line: usize, actual: &str) {
    // Earlier rewritings of this run have moved the lines below them.
    static MOVED: Mutex<BTreeMap<PathBuf, Vec<(usize, isize)>>> = Mutex::new(BTreeMap::new());
    let mut moved = MOVED.lock().unwrap();
    let moved = moved.entry(file.to_owned()).or_default();
    let shift: isize = moved.iter().filter(|(at, _)| *at < line).map(|(_, by)| by).sum();
    let text = std::fs::read_to_string(file).unwrap();
    let now = line.checked_add_signed(shift).unwrap();
    let from = text.split_inclusive('\n').take(now - 1).map(str::len).sum::<usize>();
    let start = from + text[from..].find("r#\"").expect("a snapshot is a raw string `r#\"…\"#`") + 3;
    let end = start + text[start..].find("\"#").unwrap();
    let fresh = format!("\n{}\n", actual.trim());
    let lines = |text: &str| isize::try_from(text.matches('\n').count()).unwrap();
    moved.push((line, lines(&fresh) - lines(&text[start..end])));
    std::fs::write(file, format!("{}{fresh}{}", &text[..start], &text[end..])).unwrap();
}

/// Replaces what differs from run to run: digests, sizes.
#[must_use]
pub fn steady(text: &str) -> String {
    let mut steady = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphanumeric()) {
        let word = &rest[start..];
        let end = word.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(word.len());
        let hex = word[..end].chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c));
        steady.push_str(&rest[..start]);
        steady.push_str(match end {
            64 if hex => "[sha256]",
            12 if hex && steady.ends_with("tree ") => "[tree]",
            12 if hex && steady.ends_with("sha256 ") => "[sha256]",
            _ => &word[..end],
        });
        rest = &word[end..];
    }
    steady.push_str(rest);
    let sized = |line: &str| {
        ["MiB", "MB", "kB", "bytes"].iter().fold(line.to_owned(), |line, unit| without_size(&line, unit))
    };
    steady.lines().map(|line| sized(line) + "\n").collect()
}

/// `12.3 MB` → `[n] MB`.
fn without_size(line: &str, unit: &str) -> String {
    let Some(at) = line.find(&format!(" {unit}")) else { return line.to_owned() };
    let digits = |c: char| c.is_ascii_digit() || c == '.';
    let start = line[..at].trim_end_matches(digits).len();
    if start == at { line.to_owned() } else { format!("{}[n]{}", &line[..start], &line[at..]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_run_to_run_is_replaced() {
        let digest = "ab".repeat(32);
        let text = format!("tree 0123456789ab built\nsha256 {digest} (1 MiB)\n12.3 MB of abcdef");
        assert_eq!(steady(&text), "tree [tree] built\nsha256 [sha256] ([n] MiB)\n[n] MB of abcdef\n");
    }

    #[test]
    fn the_difference_shows_both_sides() {
        assert_eq!(difference("a\nb\nc", "a\nx\nc"), "  a\n- b\n+ x\n  c\n");
    }

    #[test]
    #[should_panic(expected = "the outcome is another one")]
    fn another_text_is_a_failure() {
        check("a", "b", "nowhere.rs", 1);
    }
}
