//! Names that change with every release and mean the same: `acme-1.0.run` and `acme-2.0.run`, `acme-1.0/` and `acme-2.0/`.

use std::collections::{BTreeMap, BTreeSet};

use crate::Facts;

/// What stands in a subject where the version stood.
const VERSION: &str = "{version}";
/// What stands for a lone file whose names have nothing in common.
const FILE: &str = "{file}";
/// A version of fewer characters stands in too many names by chance; it is replaced in whole names only.
const VERSION_BYTES: usize = 3;

/// How the names of one of two artifacts are written so that both are called the same.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Whole components of paths, and what they are called.
    components: BTreeMap<String, String>,
    /// Versions wherever they stand.
    versions: BTreeSet<String>,
}

impl Names {
    /// Of the older and of the newer artifact: their own names, those of the archives inside, and the one folder in which
    /// all of an archive lies, compared in pairs.
    pub(super) fn of(old: &Facts, new: &Facts) -> [Self; 2] {
        let mut both = [Self::default(), Self::default()];
        for ((_, old), (_, new)) in old.all().into_iter().zip(new.all()) {
            let (before, after) = (&old.artifact.file, &new.artifact.file);
            if !pair(&mut both, before, after) && before != after && is_lone(old) && is_lone(new) {
                for (names, file) in both.iter_mut().zip([before, after]) {
                    names.components.insert(file.clone(), FILE.to_owned());
                }
            }
            if let (Some(before), Some(after)) = (top(old), top(new)) {
                pair(&mut both, before, after);
            }
        }
        both
    }

    /// A path or a name with everything replaced.
    pub(super) fn normal(&self, text: &str) -> String {
        let mut text = text.to_owned();
        if !self.components.is_empty() {
            let known = |part: &str| self.components.get(part).map_or_else(|| part.to_owned(), Clone::clone);
            text = text.split('/').map(known).collect::<Vec<_>>().join("/");
        }
        for version in &self.versions {
            text = without(&text, version);
        }
        text
    }
}

/// Replaces a version wherever it is a whole one: `1.0` stands in `acme-1.0-linux`, not in `1.0.2` and not in `11.0`.
pub(super) fn without(text: &str, version: &str) -> String {
    if version.len() < VERSION_BYTES {
        return text.to_owned();
    }
    let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    let mut done = String::new();
    let mut from = 0;
    for (at, found) in text.match_indices(version) {
        let (before, behind) = (&text[..at], &text[at + found.len()..]);
        let goes_on = digit(behind.chars().next())
            || behind.strip_prefix('.').is_some_and(|rest| digit(rest.chars().next()));
        let began = digit(before.chars().next_back())
            || before.strip_suffix('.').is_some_and(|rest| digit(rest.chars().next_back()));
        if !goes_on && !began {
            done.push_str(&text[from..at]);
            done.push_str(VERSION);
            from = at + found.len();
        }
    }
    done.push_str(&text[from..]);
    done
}

/// Enters two names that differ in numbers only; whether they do.
fn pair(both: &mut [Names; 2], before: &str, after: &str) -> bool {
    let (old, new) = (parts(before), parts(after));
    let same_texts = old.len() == new.len() && old.iter().zip(&new).all(|(old, new)| old.0 == new.0);
    if !same_texts || before == after {
        return false;
    }
    let template: String = old
        .iter()
        .zip(&new)
        .map(|(old, new)| format!("{}{}", old.0, if old.1 == new.1 { old.1 } else { VERSION }))
        .collect();
    for (names, (name, own, other)) in both.iter_mut().zip([(before, &old, &new), (after, &new, &old)]) {
        names.components.insert(name.to_owned(), template.clone());
        let differing = own.iter().zip(other).filter(|(own, other)| own.1 != other.1);
        names.versions.extend(differing.map(|(own, _)| own.1.to_owned()));
    }
    true
}

/// A name as texts, each with the number behind it: digits, and dots between digits.
fn parts(name: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let mut rest = name;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (text, number) = rest.split_at(start);
        let end = number
            .char_indices()
            .find(|&(at, c)| {
                let next = number.get(at + 1..).and_then(|rest| rest.chars().next());
                !(c.is_ascii_digit() || (c == '.' && next.is_some_and(|c| c.is_ascii_digit())))
            })
            .map_or(number.len(), |(at, _)| at);
        found.push((text, &number[..end]));
        rest = &number[end..];
    }
    found.push((rest, ""));
    found
}

fn is_lone(facts: &Facts) -> bool {
    ["elf", "appimage", "pe", "script", "makeself"].contains(&facts.artifact.format.as_str())
}

/// The one folder in which all of it lies.
fn top(facts: &Facts) -> Option<&str> {
    let paths = facts
        .elf
        .iter()
        .map(|elf| elf.path.as_str())
        .chain(facts.pe.iter().map(|pe| pe.path.as_str()))
        .chain(facts.programs.iter().map(|program| program.path.as_str()))
        .chain(facts.contains.iter().map(|contained| contained.path.as_str()));
    let mut tops =
        paths.map(|path| path.strip_prefix('/').unwrap_or(path).split_once('/').map(|(top, _)| top));
    let first = tops.next()??;
    tops.all(|top| top == Some(first)).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(before: &str, after: &str, text: [&str; 2]) -> [String; 2] {
        let mut both = [Names::default(), Names::default()];
        pair(&mut both, before, after);
        [both[0].normal(text[0]), both[1].normal(text[1])]
    }

    #[test]
    fn what_differs_in_numbers_is_called_the_same() {
        let cases = [
            ("acme-1.0.run", "acme-2.0.run", ["/acme-1.0.run", "/acme-2.0.run"], "/acme-{version}.run"),
            ("acme-1.run", "acme-2.run", ["/acme-1.run", "/acme-2.run"], "/acme-{version}.run"),
            ("a-9.2-x86_64", "a-10.1-x86_64", ["/opt/9.2/x", "/opt/10.1/x"], "/opt/{version}/x"),
            ("a_1.0.zip", "a_1.0.1.zip", ["/acme-1.0/x", "/acme-1.0.1/x"], "/acme-{version}/x"),
        ];
        for (before, after, text, expected) in cases {
            assert_eq!(normal(before, after, text), [expected, expected], "{before} {after}");
        }
        for (before, after) in [("a.run", "b.run"), ("a-1.0", "a-1.0rc2"), ("a", "a")] {
            assert_eq!(normal(before, after, ["/x1.0", "/x1.0"]), ["/x1.0", "/x1.0"], "{before} {after}");
        }
    }

    #[test]
    fn only_whole_versions_are_replaced() {
        for (text, expected) in [
            ("/opt/acme-1.2/lib", "/opt/acme-{version}/lib"),
            ("/lib/libz.so.1.2.13", "/lib/libz.so.1.2.13"),
            ("11.2", "11.2"),
            ("3.1.2", "3.1.2"),
            ("x1.2.y", "x{version}.y"),
        ] {
            assert_eq!(without(text, "1.2"), expected);
        }
    }
}
