//! ISO 9660 images, with `genisoimage`, `isoinfo` and `xorriso` as oracles.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use hatchway_inspect::archive::{self, Entry, EntryKind, Format, Limits};
use hatchway_inspect::{Error, inspect};
use proptest::prelude::*;

fn run(package: &str, command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| {
        panic!("{command:?}: {error} (Debian: apt-get install {package})");
    });
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Directories deeper than the standard allows, names and targets longer than a record, modes, a fifo.
fn tree(folder: &Path) -> PathBuf {
    let tree = folder.join("tree");
    if tree.exists() {
        return tree;
    }
    common::write(&tree, "setup.sh", b"#!/bin/sh\necho\n");
    common::write(&tree, "Linux Driver/lib scope-with-a-rather-long-name.so.1.2.3", &vec![3; 70_000]);
    common::write(&tree, "Linux Driver/empty", b"");
    common::write(&tree, "a/b/c/d/e/f/g/h/i/j/deep.txt", b"deep");
    common::write(&tree, &format!("long/{}", "n".repeat(240)), b"long name");
    for number in 0..200 {
        common::write(&tree, &format!("many/file-number-{number}.dat"), number.to_string().as_bytes());
    }
    let target = format!("../{}/./x", "t".repeat(200));
    std::os::unix::fs::symlink(target, tree.join("long/link")).unwrap();
    std::os::unix::fs::symlink("/opt/acme/bin/tool", tree.join("absolute")).unwrap();
    std::os::unix::fs::symlink("../setup.sh", tree.join("a/up")).unwrap();
    run("coreutils", Command::new("mkfifo").arg(tree.join("pipe")));
    std::fs::set_permissions(tree.join("setup.sh"), PermissionsExt::from_mode(0o4750)).unwrap();
    tree
}

fn image(folder: &Path, name: &str, options: &[&str]) -> PathBuf {
    let path = folder.join(name);
    let tree = tree(folder);
    run("genisoimage", Command::new("genisoimage").args(["-quiet", "-o"]).arg(&path).args(options).arg(tree));
    path
}

fn xorriso(folder: &Path, name: &str, options: &[&str]) -> PathBuf {
    let path = folder.join(name);
    let tree = tree(folder);
    run(
        "xorriso",
        Command::new("xorriso").args(["-as", "mkisofs", "-quiet", "-o"]).arg(&path).args(options).arg(tree),
    );
    path
}

fn by_name(seen: common::Seen) -> BTreeMap<String, (Entry, Vec<u8>)> {
    let count = seen.len();
    let map: BTreeMap<_, _> =
        seen.into_iter().map(|(_, entry, content)| (entry.path.to_string(), (entry, content))).collect();
    assert_eq!(map.len(), count, "a name twice");
    map
}

/// Every file below a directory on disk, read by the same means as every other artifact.
fn on_disk(tree: &Path) -> BTreeMap<String, (Entry, Vec<u8>)> {
    by_name(common::walk(tree).unwrap())
}

#[test]
fn rock_ridge_keeps_everything() {
    let scratch = tempfile::tempdir().unwrap();
    let images = [
        image(scratch.path(), "r.iso", &["-R"]),
        image(scratch.path(), "rj.iso", &["-R", "-J", "-joliet-long"]),
        xorriso(scratch.path(), "x.iso", &["-R"]),
        xorriso(scratch.path(), "xj.iso", &["-R", "-J"]),
    ];
    for path in images {
        rock_ridge_agrees(&path, &tree(scratch.path()));
    }
    // genisoimage itself cuts targets that need more than two fields.
    let target = format!("../{}/./x/../{}", "t".repeat(200), "u".repeat(250));
    std::os::unix::fs::symlink(target, tree(scratch.path()).join("long/longer")).unwrap();
    let path = xorriso(scratch.path(), "longer.iso", &["-R"]);
    rock_ridge_agrees(&path, &tree(scratch.path()));
}

fn rock_ridge_agrees(path: &Path, tree: &Path) {
    let theirs = on_disk(tree);
    assert!(theirs.len() > 220);
    assert_eq!(archive::detect(path).unwrap(), Format::Iso);
    let mut ours = by_name(common::walk(path).unwrap());
    // Where genisoimage puts directories that are too deep.
    ours.remove("rr_moved");
    let names =
        |map: &BTreeMap<String, _>| map.keys().filter(|name| !name.is_empty()).cloned().collect::<Vec<_>>();
    assert_eq!(names(&ours), names(&theirs), "{}", path.display());
    for (name, (entry, content)) in &ours {
        let (expected, bytes) = &theirs[name];
        assert_eq!((&entry.kind, entry.mode, content), (&expected.kind, expected.mode, bytes), "{name}");
    }
}

#[test]
fn joliet_and_plain_names_as_isoinfo_lists_them() {
    let scratch = tempfile::tempdir().unwrap();
    for (name, options, flag) in
        [("j.iso", &["-J", "-joliet-long", "-f"][..], Some("-J")), ("p.iso", &["-f"], None)]
    {
        // Links of the tree lead nowhere.
        let tree = tree(scratch.path());
        for link in ["long/link", "absolute", "a/up", "pipe"] {
            let _gone = std::fs::remove_file(tree.join(link)).is_ok();
        }
        let path = image(scratch.path(), name, &[options, &["-D"]].concat());
        let mut isoinfo = Command::new("isoinfo");
        isoinfo.args(["-f", "-i"]).arg(&path).args(flag);
        let theirs: BTreeSet<String> = run("genisoimage", &mut isoinfo)
            .lines()
            .filter_map(|line| line.strip_prefix('/'))
            .map(|line| line.strip_suffix(";1").unwrap_or(line))
            .map(|line| if flag.is_none() { line.strip_suffix('.').unwrap_or(line) } else { line }.to_owned())
            .collect();
        let ours = by_name(common::walk(&path).unwrap());
        assert_eq!(ours.keys().cloned().collect::<BTreeSet<_>>(), theirs, "{name}");
        let deep = ours.iter().find(|(name, _)| name.to_lowercase().ends_with("deep.txt")).unwrap();
        assert_eq!(deep.1.1, b"deep");
        assert!(ours.len() > 210);
    }
}

#[test]
fn a_file_in_several_extents() {
    let scratch = tempfile::tempdir().unwrap();
    let path = image(scratch.path(), "r.iso", &["-R"]);
    let mut bytes = std::fs::read(&path).unwrap();
    // Makes one file of two neighbours: the first record says that it goes on, and the second has its name.
    let at = bytes.windows(13).position(|window| window == b"FILE_000.DAT;").unwrap();
    let next = bytes.windows(13).position(|window| window == b"FILE_001.DAT;").unwrap();
    bytes[at - 33 + 25] |= 0x80;
    bytes[next + 7] = b'0';
    let path = common::write(scratch.path(), "extents.iso", &bytes);
    let before = by_name(common::walk(&image(scratch.path(), "r2.iso", &["-R"])).unwrap());
    let after = by_name(common::walk(&path).unwrap());
    let longer = after.iter().find(|(name, (_, content))| before[*name].1.len() < content.len()).unwrap();
    assert!(longer.1.1.starts_with(&before[longer.0].1) && after.len() == before.len() - 1, "{}", longer.0);
}

#[test]
fn facts_of_an_image() {
    let scratch = tempfile::tempdir().unwrap();
    let facts = inspect(&image(scratch.path(), "r.iso", &["-R"])).unwrap();
    assert_eq!(facts.artifact.format, "iso");
    assert!(facts.programs.iter().any(|program| program.path == "/setup.sh"));
    assert!(facts.dropped.iter().any(|dropped| dropped.path == "/setup.sh" && dropped.detail == "4750"));
}

#[test]
fn directories_in_a_circle() {
    let scratch = tempfile::tempdir().unwrap();
    let mut bytes = std::fs::read(image(scratch.path(), "p.iso", &["-R"])).unwrap();
    let root: [u8; 8] = bytes[16 * 2048 + 158..16 * 2048 + 166].try_into().unwrap();
    // A directory leads back to the root. Its name stands in the path tables as well, before the directories.
    let at = bytes.windows(6).rposition(|window| window == b"LINUX_").unwrap();
    bytes[at - 33 + 2..at - 33 + 10].copy_from_slice(&root);
    let path = common::write(scratch.path(), "circle.iso", &bytes);
    assert!(
        matches!(common::walk(&path), Err(Error::Corrupt { what, .. }) if what.contains("one of those before"))
    );
}

#[test]
fn truncation_is_noticed() {
    let scratch = tempfile::tempdir().unwrap();
    let path = image(scratch.path(), "r.iso", &["-R", "-no-pad"]);
    let whole = std::fs::read(&path).unwrap();
    for length in (17 * 2048..whole.len() - 4096).step_by(whole.len() / 60) {
        let path = common::write(scratch.path(), "cut.iso", &whole[..length]);
        assert!(common::walk(&path).is_err(), "{length} of {}", whole.len());
    }
}

#[test]
fn names_that_lead_outside() {
    let scratch = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(image(scratch.path(), "r.iso", &["-R"])).unwrap();
    for to in ["../x.sh\0", "a/../../", "..//////"] {
        let mut bytes = bytes.clone();
        // The name in the Rock Ridge field.
        let at = bytes.windows(8).position(|window| window == b"setup.sh").unwrap();
        bytes[at..at + 8].copy_from_slice(to.as_bytes());
        let path = common::write(scratch.path(), "hostile.iso", &bytes);
        assert!(matches!(common::walk(&path), Err(Error::Hostile { .. })), "{to}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_images_never_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        which in 0_usize..3,
    ) {
        static SAMPLES: std::sync::OnceLock<[Vec<u8>; 3]> = std::sync::OnceLock::new();
        let samples = SAMPLES.get_or_init(|| {
            let scratch = tempfile::tempdir().unwrap();
            [&["-R"][..], &["-J", "-joliet-long"], &["-D"]]
                .map(|options| std::fs::read(image(scratch.path(), "x.iso", options)).unwrap())
        });
        let mut bytes = samples[which].clone();
        // Descriptors, path tables and directories stand before the contents.
        let span = 60 * 2048 - 16 * 2048;
        for (at, value) in flips {
            let at = 16 * 2048 + at.index(span);
            bytes[at] = value;
        }
        let _facts = hatchway_inspect::inspect_bytes(Path::new("x"), &bytes, &Limits::default());
        let _walked = archive::walk_in(
            &mut archive::Source::bytes(Path::new("x"), &bytes),
            Format::Iso,
            &Limits::default(),
            &mut |_, entry, _| {
                if let EntryKind::File { size } = entry.kind { assert!(size < 1 << 40); }
                Ok::<(), Error>(())
            },
        );
    }
}
