//! Symbol versions: reading the tables, and ordering the names.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::dynamic::string_at;
use super::image::Words;

/// Versions of one file, all libraries together; glibc itself defines fewer than fifty.
const VERSIONS: usize = 16_384;

const OUTSIDE: &str = "its symbol versions lie outside the file";

/// Walks `DT_VERNEED`: per library the versions wanted from it. A library listed twice is listed once.
pub(super) fn needed(
    words: Words,
    table: &[u8],
    count: u64,
    strings: &[u8],
) -> Result<BTreeMap<String, BTreeSet<String>>, String> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut budget = VERSIONS;
    let mut at = 0_usize;
    for _ in 0..count.min(VERSIONS as u64) {
        let aux_count = words.u16(table, at + 2).ok_or(OUTSIDE)?;
        let file = u64::from(words.u32(table, at + 4).ok_or(OUTSIDE)?);
        let file = string_at(strings, file).ok_or(OUTSIDE)?;
        let versions = found.entry(file).or_default();
        let mut aux = step(at, words.u32(table, at + 8))?;
        for _ in 0..aux_count {
            budget = budget.checked_sub(1).ok_or("it wants too many symbol versions")?;
            let name = u64::from(words.u32(table, aux + 8).ok_or(OUTSIDE)?);
            versions.insert(string_at(strings, name).ok_or(OUTSIDE)?);
            let next = words.u32(table, aux + 12);
            if next == Some(0) {
                break;
            }
            aux = step(aux, next)?;
        }
        let next = words.u32(table, at + 12);
        if next == Some(0) {
            break;
        }
        at = step(at, next)?;
    }
    Ok(found)
}

/// Walks `DT_VERDEF`: the versions offered, without the base version that repeats the file's name.
pub(super) fn defined(
    words: Words,
    table: &[u8],
    count: u64,
    strings: &[u8],
) -> Result<BTreeSet<String>, String> {
    let mut found = BTreeSet::new();
    let mut at = 0_usize;
    for _ in 0..count.min(VERSIONS as u64) {
        let flags = words.u16(table, at + 2).ok_or(OUTSIDE)?;
        if flags & 1 == 0 {
            let aux = step(at, words.u32(table, at + 12))?;
            let name = u64::from(words.u32(table, aux).ok_or(OUTSIDE)?);
            found.insert(string_at(strings, name).ok_or(OUTSIDE)?);
        }
        let next = words.u32(table, at + 16);
        if next == Some(0) {
            break;
        }
        at = step(at, next)?;
    }
    Ok(found)
}

fn step(at: usize, by: Option<u32>) -> Result<usize, String> {
    let by = usize::try_from(by.ok_or(OUTSIDE)?).map_err(|_| OUTSIDE)?;
    // Tables larger than this do not exist, and the sums above must not overflow.
    at.checked_add(by).filter(|&at| at < usize::MAX / 2).ok_or_else(|| OUTSIDE.to_owned())
}

/// Oldest first.
pub(super) fn in_order(versions: BTreeSet<String>) -> Vec<String> {
    let mut versions: Vec<String> = versions.into_iter().collect();
    versions.sort_by(|a, b| compare_versions(a, b));
    versions
}

/// What stands before the number of a symbol version: `GLIBC` of `GLIBC_2.34`. One without a number
/// (`GLIBC_ABI_DT_RELR`, `GLIBC_PRIVATE`) is a family of its own, older or newer than nothing.
#[must_use]
pub fn version_family(version: &str) -> &str {
    let numbered = version.match_indices('_').map(|(at, _)| at);
    let mut numbered = numbered.filter(|at| version[at + 1..].starts_with(|c: char| c.is_ascii_digit()));
    numbered.next().map_or(version, |at| &version[..at])
}

/// Orders symbol versions and library file names as people read them: runs of digits by value, the rest by bytes.
///
/// `GLIBC_2.4` comes before `GLIBC_2.38`, `libx.so.2` before `libx.so.10`. A total order: only equal texts are equal.
#[must_use]
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a.as_bytes(), b.as_bytes());
    while !left.is_empty() && !right.is_empty() {
        let (left_digits, right_digits) = (digits(left), digits(right));
        if left_digits > 0 && right_digits > 0 {
            let order = by_value(&left[..left_digits], &right[..right_digits]);
            if order != Ordering::Equal {
                return order;
            }
            (left, right) = (&left[left_digits..], &right[right_digits..]);
            continue;
        }
        if left[0] != right[0] {
            return left[0].cmp(&right[0]);
        }
        (left, right) = (&left[1..], &right[1..]);
    }
    left.len().cmp(&right.len()).then_with(|| a.cmp(b))
}

fn digits(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// Compares numbers of any length: the longer one is larger once leading zeros are gone.
fn by_value(a: &[u8], b: &[u8]) -> Ordering {
    let strip = |text: &[u8]| text.iter().position(|&byte| byte != b'0').unwrap_or(text.len());
    let (a, b) = (&a[strip(a)..], &b[strip(b)..]);
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}
