//! Unified diffs of the recipe, applied to files of the tree.
//!
//! Every hunk must fit exactly where its header says: what a patch is applied to is locked by digest, so a shifted line means
//! that the patch was written for something else. `--- /dev/null` makes a file, `+++ /dev/null` removes one that is empty
//! then. Only text is patched, and only files: a link is told with where it leads.

use diffy::{Hunk, Line, Patch};

use super::merge::Merge;
use crate::error::Error;
use crate::lock::LockedPatch;
use crate::store::Workspace;
use crate::store::manifest::Node;

/// Bytes of a patch, and of a file that is patched: text that a person can read is far below.
pub const PATCH_BYTES_MAX: u64 = 16 << 20;
/// Bytes of a line that an error shows.
const SHOWN_BYTES: usize = 100;
/// How the name of the side that does not exist is written.
const NOTHING: &[u8] = b"/dev/null";

/// Applies the patches of a lock, in its order.
///
/// # Errors
/// [`Error::Patch`] with the file, the hunk and what was found instead.
pub(super) fn apply_all(
    workspace: &Workspace<'_>,
    patches: &[LockedPatch],
    merge: &mut Merge,
) -> Result<(), Error> {
    for patch in patches {
        let bad = |reason| Error::Patch { at: patch.at.clone(), file: patch.file.clone(), reason };
        let artifact = workspace.artifact(patch.sha256);
        let text = std::fs::read(&artifact).map_err(Error::io("read", &artifact))?;
        let place = merge.resolve_parent(&patch.at).map_err(bad)?;
        let (old, executable) = current(workspace, merge, &place, &patch.at)?.map_err(bad)?;
        match patched(&text, old.as_deref()).map_err(bad)? {
            None => merge.remove(&place),
            Some(new) => {
                let label = format!("patch{}", patch.at.replace('/', "-"));
                let (sha256, size) = workspace.add(&mut &new[..], executable, &label)?;
                merge.put(&place, Node::File { sha256, size, executable }).map_err(bad)?;
            }
        }
    }
    Ok(())
}

type Current = (Option<Vec<u8>>, bool);

/// What is there now, if anything, and whether it is a program.
fn current(
    workspace: &Workspace<'_>,
    merge: &Merge,
    place: &str,
    at: &str,
) -> Result<Result<Current, String>, Error> {
    Ok(match merge.tree.nodes.get(place) {
        None => Ok((None, false)),
        Some(Node::Directory) => Err("it is a folder".into()),
        Some(Node::Link { target }) => {
            let leads = merge.resolve(at).map_or_else(|reason| reason, |path| format!("/{path}"));
            Err(format!("it is a link to `{target}`: patch `{leads}`, where it leads"))
        }
        Some(Node::File { size, .. }) if *size > PATCH_BYTES_MAX => {
            Err(format!("it has {size} bytes: up to {PATCH_BYTES_MAX} are patched"))
        }
        Some(Node::File { sha256, executable, .. }) => {
            Ok((Some(workspace.read(*sha256, *executable)?), *executable))
        }
    })
}

/// The new content; `None` where the file is removed.
///
/// # Errors
/// Why the patch does not fit.
pub fn patched(patch: &[u8], old: Option<&[u8]>) -> Result<Option<Vec<u8>>, String> {
    if patch.contains(&0) {
        return Err("the patch is not text".into());
    }
    if is_of_several_files(patch) {
        return Err("the patch is for several files: write one patch for each".into());
    }
    let parsed = Patch::from_bytes(patch).map_err(|error| format!("the patch cannot be read: {error}"))?;
    if parsed.hunks().is_empty() {
        return Err("the patch has no hunk (`@@ … @@`): it must be a unified diff of text (`diff -u`)".into());
    }
    let (makes, removes) = (parsed.original() == Some(NOTHING), parsed.modified() == Some(NOTHING));
    let old = match (old, makes) {
        (Some(_), true) => {
            return Err("the patch makes the file (`--- /dev/null`), which is there already".into());
        }
        (None, false) => return Err("there is no such file in the tree".into()),
        (None, true) => &[][..],
        (Some(old), false) => old,
    };
    if old.contains(&0) {
        return Err("it is not text: only text is patched".into());
    }
    let lines: Vec<&[u8]> = old.split_inclusive(|byte| *byte == b'\n').collect();
    let new = apply(&lines, parsed.hunks())?;
    match removes {
        true if !new.is_empty() => {
            let left = new.split_inclusive(|byte| *byte == b'\n').count();
            Err(format!("the patch removes the file (`+++ /dev/null`), but {left} lines of it would be left"))
        }
        true => Ok(None),
        false => Ok(Some(new)),
    }
}

/// Three lines in a row that only the head of a file's part has.
fn is_of_several_files(patch: &[u8]) -> bool {
    let lines: Vec<&[u8]> = patch.split(|byte| *byte == b'\n').collect();
    let heads = lines.windows(3).filter(|three| {
        three[0].starts_with(b"--- ") && three[1].starts_with(b"+++ ") && three[2].starts_with(b"@@ ")
    });
    heads.count() > 1
}

fn apply(lines: &[&[u8]], hunks: &[Hunk<'_, [u8]>]) -> Result<Vec<u8>, String> {
    let mut new = Vec::new();
    let mut at = 0;
    for (number, hunk) in hunks.iter().enumerate() {
        let range = hunk.old_range();
        // An empty range names the line before it.
        let start = if range.is_empty() { range.start() } else { range.start().saturating_sub(1) };
        let place = format!("hunk {} (line {})", number + 1, range.start());
        if start < at {
            return Err(format!("{place} begins before the end of the one above it"));
        }
        let Some(between) = lines.get(at..start) else {
            return Err(format!(
                "{place} begins behind the end of the file, which has {} lines",
                lines.len()
            ));
        };
        between.iter().for_each(|line| new.extend_from_slice(line));
        at = start;
        for line in hunk.lines() {
            match line {
                Line::Insert(text) => new.extend_from_slice(text),
                Line::Context(text) | Line::Delete(text) => {
                    let found = lines.get(at).copied();
                    if found != Some(*text) {
                        return Err(misfit(&place, at, text, found) + &elsewhere(lines, hunk));
                    }
                    if matches!(line, Line::Context(_)) {
                        new.extend_from_slice(text);
                    }
                    at += 1;
                }
            }
        }
    }
    lines[at..].iter().for_each(|line| new.extend_from_slice(line));
    Ok(new)
}

fn misfit(place: &str, at: usize, expected: &[u8], found: Option<&[u8]>) -> String {
    let found = found.map_or_else(|| "the end of the file".to_owned(), shown);
    format!("{place} does not fit: line {} should be {} and is {found}", at + 1, shown(expected))
}

fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(&line[..line.len().min(SHOWN_BYTES)]);
    let end = if line.ends_with(b"\n") { "" } else { " without a line end" };
    let more = if line.len() > SHOWN_BYTES { "…" } else { "" };
    format!("`{}{more}`{end}", text.trim_end_matches('\n').escape_debug())
}

/// Where the hunk would fit, if there is one such place: for whoever mends the patch.
fn elsewhere(lines: &[&[u8]], hunk: &Hunk<'_, [u8]>) -> String {
    let old: Vec<&[u8]> = hunk
        .lines()
        .iter()
        .filter_map(|line| match line {
            Line::Context(text) | Line::Delete(text) => Some(*text),
            Line::Insert(_) => None,
        })
        .collect();
    let mut places = lines.windows(old.len().max(1)).enumerate().filter(|(_, window)| **window == old[..]);
    match (places.next(), places.next()) {
        (Some((at, _)), None) => format!("; the lines of the hunk are at line {}", at + 1),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::{Command, Stdio};

    const OLD: &[u8] = b"one\ntwo\nthree\nfour\nfive\n";

    fn fails(patch: &str, old: Option<&[u8]>) -> String {
        patched(patch.as_bytes(), old).unwrap_err()
    }

    #[test]
    fn a_patch_changes_makes_and_removes() {
        let patch = b"--- a/x\t2024-01-01\n+++ b/x\n@@ -1,3 +1,3 @@\n one\n-two\n+TWO\n three\n";
        assert_eq!(patched(patch, Some(OLD)).unwrap().unwrap(), b"one\nTWO\nthree\nfour\nfive\n");
        let makes = b"--- /dev/null\n+++ b/x\n@@ -0,0 +1,2 @@\n+a\n+b\n\\ No newline at end of file\n";
        assert_eq!(patched(makes, None).unwrap().unwrap(), b"a\nb");
        let removes = b"--- a/x\n+++ /dev/null\n@@ -1 +0,0 @@\n-one\n";
        assert_eq!(patched(removes, Some(b"one\n")).unwrap(), None);
        // `Latin-1` is text too.
        let latin = b"--- x\n+++ x\n@@ -1 +1 @@\n-\xe4\n+\xf6\n";
        assert_eq!(patched(latin, Some(b"\xe4\n")).unwrap().unwrap(), b"\xf6\n");
    }

    #[test]
    fn what_does_not_fit_is_told_with_place_and_content() {
        let other = "--- x\n+++ x\n@@ -1,2 +1,2 @@\n one\n-tow\n+TWO\n";
        assert_eq!(
            fails(other, Some(OLD)),
            "hunk 1 (line 1) does not fit: line 2 should be `tow` and is `two`"
        );
        // A line further down: GNU patch would put up with it.
        let shifted = "--- x\n+++ x\n@@ -1,2 +1,2 @@\n two\n-three\n+THREE\n";
        assert_eq!(
            fails(shifted, Some(OLD)),
            "hunk 1 (line 1) does not fit: line 1 should be `two` and is `one`; the lines of the hunk are at line 2"
        );
        let long = "--- x\n+++ x\n@@ -5,2 +5,1 @@\n five\n-six\n";
        assert!(fails(long, Some(OLD)).ends_with("line 6 should be `six` and is the end of the file"));
        let behind = "--- x\n+++ x\n@@ -50,1 +50,1 @@\n-five\n+six\n";
        assert!(fails(behind, Some(OLD)).contains("behind the end of the file, which has 5 lines"));
        let last = "--- x\n+++ x\n@@ -1 +1 @@\n-one\n\\ No newline at end of file\n+1\n";
        assert!(fails(last, Some(b"one\n")).contains("should be `one` without a line end and is `one`"));
    }

    #[test]
    fn what_is_no_patch_of_this_file_is_refused() {
        assert!(fails("Binary files a and b differ\n", Some(OLD)).contains("no hunk"));
        assert!(fails("--- x\n+++ x\n@@ -1 +1 @@\n-one\n+\0\n", Some(OLD)).contains("not text"));
        assert!(fails("--- x\n+++ x\n@@ -1 +1 @@\n-a\n+b\n", Some(b"a\n\0")).contains("not text"));
        assert!(fails("--- x\n+++ x\n@@ -1 +1 @@\n-a\n+b\n", None).contains("no such file"));
        assert!(fails("--- /dev/null\n+++ x\n@@ -0,0 +1 @@\n+b\n", Some(OLD)).contains("there already"));
        let left = fails("--- x\n+++ /dev/null\n@@ -1 +0,0 @@\n-one\n", Some(OLD));
        assert!(left.contains("4 lines of it would be left"), "{left}");
        let two = "--- x\n+++ x\n@@ -1 +1 @@\n-one\n+1\n--- y\n+++ y\n@@ -1 +1 @@\n-one\n+1\n";
        let two = fails(two, Some(OLD));
        assert!(two.contains("several files"), "{two}");
        assert!(fails("--- x\n+++ x\n@@ -1,9 +1 @@\n-one\n", Some(OLD)).contains("cannot be read"));
    }

    /// `diff -u` of the two, and what GNU patch makes of the first by it.
    fn by_gnu(old: &str, new: &str) -> (Vec<u8>, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("old"), old).unwrap();
        std::fs::write(path("new"), new).unwrap();
        let diff = Command::new("diff").args(["-u", "old", "new"]).current_dir(folder.path()).output();
        let diff = diff.expect("install the package `diffutils`").stdout;
        std::fs::write(path("patch"), &diff).unwrap();
        let patch = Command::new("patch")
            .args(["--quiet", "--force", "--fuzz=0", "-o", "made", "old", "patch"])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .status()
            .expect("install the package `patch`");
        assert!(patch.success());
        (diff, std::fs::read(path("made")).unwrap())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

        #[test]
        fn the_result_is_that_of_gnu_patch(
            old in prop::collection::vec("[ab]{0,2}", 1..30),
            edits in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..3, "[abc]{0,2}"), 1..6),
            end in any::<bool>(),
            new_end in any::<bool>(),
        ) {
            let mut new = old.clone();
            for (index, kind, text) in edits {
                let at = index.index(new.len().max(1)).min(new.len());
                match kind {
                    0 => new.insert(at, text),
                    1 if at < new.len() => drop(new.remove(at)),
                    _ if at < new.len() => new[at] = text,
                    _ => {}
                }
            }
            let whole = |lines: &[String], end: bool| {
                lines.join("\n") + if end && !lines.is_empty() { "\n" } else { "" }
            };
            let (old, new) = (whole(&old, end), whole(&new, new_end));
            prop_assume!(old != new);
            let (diff, made) = by_gnu(&old, &new);
            let ours = patched(&diff, Some(old.as_bytes())).unwrap().unwrap();
            prop_assert_eq!(&ours, &made);
            prop_assert_eq!(ours, new.into_bytes());
        }

        #[test]
        fn no_patch_makes_it_panic(patch in "(--- a\n)?(\\+\\+\\+ b\n)?(@@ -[0-9]{1,2},[0-9] \\+[0-9]{1,20},[0-9] @@\n)?([-+ \\\\@][ab]?\n){0,6}") {
            drop(patched(patch.as_bytes(), Some(OLD)));
            drop(patched(patch.as_bytes(), None));
        }
    }
}
