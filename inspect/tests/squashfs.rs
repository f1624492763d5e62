//! squashfs images made by `mksquashfs`, compared with what `unsquashfs` says about them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod common;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use common::{Seen, walk};
use hatchway_inspect::archive::{self, EntryKind, Format, Limits, Source, detect};
use proptest::prelude::*;

const PACKAGE: &str = "squashfs images are made by their own tools (Debian: apt-get install squashfs-tools)";

/// Makes an image of the directory, with device nodes that an ordinary user cannot make.
fn image(directory: &Path, output: &Path, arguments: &[&str]) {
    let run = Command::new("mksquashfs")
        .arg(directory)
        .arg(output)
        .args(["-noappend", "-quiet", "-no-progress", "-processors", "1"])
        .args(["-p", "null c 640 3 4 1 3", "-p", "disk b 660 0 6 259 200", "-p", "pipe i 600 1 1 f"])
        .args(arguments)
        .output()
        .expect(PACKAGE);
    assert!(run.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&run.stderr));
}

/// A tree with every kind of file.
fn tree(root: &Path) {
    let noise: Vec<u8> = (0..300_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    common::write(root, "usr/bin/large", &noise);
    common::write(root, "usr/bin/exactly-one-block", &noise[..131_072]);
    common::write(root, "usr/share/empty", b"");
    common::write(root, "usr/share/text", "the same line again\n".repeat(20_000).as_bytes());
    let mut holes = vec![0_u8; 700_000];
    holes[300_000..300_004].copy_from_slice(b"data");
    common::write(root, "var/holes", &holes);
    for index in 0..700 {
        common::write(root, &format!("etc/many/file-{index}"), format!("number {index}\n").as_bytes());
    }
    common::write(root, "a.b/x", b"1");
    common::write(root, "a/x", b"2");
    let deep = "deep/".repeat(40);
    common::write(root, &format!("{deep}end"), b"end");
    std::fs::hard_link(root.join("usr/bin/large"), root.join("var/again")).unwrap();
    std::os::unix::fs::symlink("../bin/large", root.join("usr/share/link")).unwrap();
    std::os::unix::fs::symlink("x".repeat(4000), root.join("usr/share/long-link")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.join("var/socket")).unwrap();
    std::fs::set_permissions(root.join("usr/bin/large"), PermissionsExt::from_mode(0o4755)).unwrap();
}

/// One line of `unsquashfs -lln`, without the time.
fn line(entry: &archive::Entry, sizes: &dyn Fn(&str) -> u64) -> String {
    let (letter, size) = match &entry.kind {
        EntryKind::Directory => ('d', None),
        EntryKind::File { size } => ('-', Some(*size)),
        EntryKind::Hardlink { target } => ('-', Some(sizes(target.as_str()))),
        EntryKind::Symlink { target } => ('l', Some(target.len() as u64)),
        EntryKind::Device { block, .. } => (if *block { 'b' } else { 'c' }, None),
        EntryKind::Fifo => ('p', Some(0)),
        EntryKind::Socket => ('s', Some(0)),
        other => panic!("{other:?}"),
    };
    let device = match entry.kind {
        EntryKind::Device { major, minor, .. } => format!("{major},{minor}"),
        _ => size.map(|size| size.to_string()).unwrap_or_default(),
    };
    let mut mode = String::new();
    for (shift, special, letters) in [(6, 0o4000, "sS"), (3, 0o2000, "sS"), (0, 0o1000, "tT")] {
        let bits = entry.mode >> shift & 7;
        mode.push(if bits & 4 != 0 { 'r' } else { '-' });
        mode.push(if bits & 2 != 0 { 'w' } else { '-' });
        let executable = bits & 1 != 0;
        mode.push(match entry.mode & special != 0 {
            true => letters.chars().nth(usize::from(!executable)).unwrap(),
            false => {
                if executable {
                    'x'
                } else {
                    '-'
                }
            }
        });
    }
    let target =
        if let EntryKind::Symlink { target } = &entry.kind { format!(" -> {target}") } else { String::new() };
    format!("{letter}{mode} {}/{} {device} {}{target}", entry.uid, entry.gid, entry.path)
}

fn lines(seen: &Seen) -> Vec<String> {
    let sizes = |name: &str| {
        let kind =
            seen.iter().find(|(_, entry, _)| entry.path.as_str() == name).map(|(_, entry, _)| &entry.kind);
        let Some(EntryKind::File { size }) = kind else { panic!("{name}: {kind:?}") };
        *size
    };
    let mut lines: Vec<_> = seen.iter().map(|(_, entry, _)| line(entry, &sizes)).collect();
    lines.sort();
    lines
}

/// The same from `unsquashfs`.
fn listed(image: &Path) -> Vec<String> {
    let run = Command::new("unsquashfs").arg("-lln").arg(image).output().expect(PACKAGE);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let text = String::from_utf8(run.stdout).unwrap();
    let mut lines = Vec::new();
    for line in text.lines() {
        let Some((head, path)) = line.split_once("squashfs-root/") else { continue };
        let words: Vec<_> = head.split_whitespace().collect();
        // Mode, owners, size or device numbers (`1,  3`), date, time.
        let size = if words[0].starts_with('d') { String::new() } else { words[2..words.len() - 2].concat() };
        lines.push(format!("{} {} {size} {path}", words[0], words[1]));
    }
    lines.sort();
    lines
}

fn check_contents(seen: &Seen, root: &Path) {
    let mut compared = 0;
    for (_, entry, bytes) in seen {
        if matches!(entry.kind, EntryKind::File { .. }) {
            assert!(*bytes == std::fs::read(root.join(entry.path.as_path())).unwrap(), "{}", entry.path);
            compared += 1;
        }
    }
    assert!(compared > 700, "{compared}");
}

#[test]
fn every_compression_and_every_kind_of_file() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("root");
    tree(&root);
    let cases: [&[&str]; 9] = [
        &["-comp", "gzip"],
        &["-comp", "xz", "-Xbcj", "x86"],
        &["-comp", "zstd"],
        &["-comp", "lzma"],
        &["-comp", "lz4", "-Xhc"],
        &["-comp", "zstd", "-b", "4096"],
        &["-comp", "zstd", "-b", "1M", "-always-use-fragments"],
        &["-comp", "gzip", "-no-fragments", "-no-duplicates"],
        &["-comp", "gzip", "-noI", "-noD", "-noF", "-noX", "-all-root"],
    ];
    for (index, arguments) in cases.iter().enumerate() {
        let path = scratch.path().join(format!("{index}.img"));
        image(&root, &path, arguments);
        assert_eq!(detect(&path).unwrap(), Format::Squashfs);
        let seen = walk(&path).unwrap_or_else(|e| panic!("{arguments:?}: {e}"));
        let (ours, theirs) = (lines(&seen), listed(&path));
        let different = ours.iter().zip(&theirs).find(|(ours, theirs)| ours != theirs);
        assert_eq!((different, ours.len()), (None, theirs.len()), "{arguments:?}");
        check_contents(&seen, &root);
        let links: Vec<_> = seen
            .iter()
            .filter_map(|(_, entry, _)| match &entry.kind {
                EntryKind::Hardlink { target } => Some((entry.path.as_str(), target.as_str())),
                _ => None,
            })
            .collect();
        assert_eq!(links, [("var/again", "usr/bin/large")]);
    }
}

#[test]
fn order_is_by_name_parents_first() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("root");
    for name in ["b/z", "b/a/x", "a", "b.c", "B"] {
        common::write(&root, name, b"");
    }
    let path = scratch.path().join("x.img");
    image(&root, &path, &[]);
    let names = common::names(&walk(&path).unwrap());
    assert_eq!(names, ["B", "a", "b", "b/a", "b/a/x", "b/z", "b.c", "disk", "null", "pipe"]);
}

#[test]
fn lzo_is_named() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("root");
    common::write(&root, "x", b"x");
    let path = scratch.path().join("x.img");
    image(&root, &path, &["-comp", "lzo"]);
    assert!(walk(&path).unwrap_err().to_string().contains("compressed with LZO, which is not read"));
}

#[test]
fn attributes_are_named() {
    let scratch = tempfile::tempdir().unwrap();
    let mut tar = common::Tar::new();
    // Short values stand with their names, long ones that occur twice elsewhere.
    let long = vec![b'v'; 300];
    for name in ["one", "two"] {
        tar.0
            .append_pax_extensions([
                ("SCHILY.xattr.user.origin", &long[..]),
                ("SCHILY.xattr.security.capability", &b"\x01\0\0\x02"[..]),
            ])
            .unwrap();
        tar = tar.file(name, 0o755, b"x");
    }
    let path = scratch.path().join("x.img");
    let mut run = Command::new("sqfstar")
        .args(["-quiet", "-no-progress"])
        .arg(&path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect(PACKAGE);
    run.stdin.take().unwrap().write_all(&tar.file("three", 0o644, b"y").bytes()).unwrap();
    assert!(run.wait().unwrap().success());
    let seen = walk(&path).unwrap();
    let names: Vec<_> = seen
        .iter()
        .map(|(_, entry, _)| (entry.path.as_str(), entry.xattrs, entry.xattr_names.clone()))
        .collect();
    let both = vec!["security.capability".to_owned(), "user.origin".to_owned()];
    assert_eq!(names, [("one", true, both.clone()), ("three", false, vec![]), ("two", true, both)]);
}

#[test]
fn directories_in_two_places_are_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("root");
    std::fs::create_dir_all(root.join("a")).unwrap();
    std::fs::create_dir_all(root.join("b")).unwrap();
    let path = scratch.path().join("x.img");
    image(&root, &path, &["-noI", "-noD"]);
    let bytes = std::fs::read(&path).unwrap();
    // The superblock holds the root's inode at 32 and the position of the directory table at 72. The root's listing is
    // the first there: the size of the block (2), a header (12), then the entries, each with an inode's offset first.
    let table = usize::try_from(u64::from_le_bytes(bytes[72..80].try_into().unwrap())).unwrap();
    let first = table + 14;
    assert_eq!(bytes[first + 8], b'a');
    let second = first + 9;
    for aim in [first, 32] {
        let mut bytes = bytes.clone();
        let (one, two) = (bytes[aim], bytes[aim + 1]);
        bytes[second..second + 2].copy_from_slice(&[one, two]);
        let error = walk(&common::write(scratch.path(), "y.img", &bytes)).unwrap_err().to_string();
        assert!(
            error.contains("is a directory that appears elsewhere") || error.contains("directories deep"),
            "{error}"
        );
    }
}

/// A small image with its tables as they are, and one with everything compressed.
fn samples() -> &'static [Vec<u8>; 2] {
    static SAMPLES: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("root");
        for index in 0..20 {
            common::write(&root, &format!("etc/file-{index}"), format!("number {index}\n").as_bytes());
        }
        common::write(&root, "usr/lib/large", &b"0123456789abcdef".repeat(1000));
        std::fs::hard_link(root.join("usr/lib/large"), root.join("usr/lib/large2")).unwrap();
        std::os::unix::fs::symlink("large", root.join("usr/lib/link")).unwrap();
        let make = |arguments: &[&str]| {
            let path: PathBuf = scratch.path().join("x.img");
            image(&root, &path, arguments);
            std::fs::read(path).unwrap()
        };
        [make(&["-noI", "-noF", "-noX", "-b", "4096"]), make(&["-comp", "zstd"])]
    })
}

fn walk_bytes(bytes: &[u8]) -> Result<u64, hatchway_inspect::Error> {
    let mut limits = Limits::default();
    limits.entries = 5000;
    limits.unproportioned_bytes = 64 << 20;
    let mut count = 0;
    let mut source = Source::bytes(Path::new("x.img"), bytes);
    archive::walk_in(&mut source, Format::Squashfs, &limits, &mut |_, _, _| {
        count += 1;
        Ok::<(), hatchway_inspect::Error>(())
    })?;
    Ok(count)
}

#[test]
fn every_truncation_is_noticed() {
    for bytes in samples() {
        let size = usize::try_from(u64::from_le_bytes(bytes[40..48].try_into().unwrap())).unwrap();
        assert!(walk_bytes(&bytes[..size]).is_ok());
        for length in (0..size).step_by(7).chain([size - 1]) {
            assert!(walk_bytes(&bytes[..length]).is_err(), "{length}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_images_never_panic(
        sample in 0_usize..2,
        in_tables in any::<bool>(),
        damages in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(vec![0_u8, 1, 0x7f, 0x80, 0xff, 8, 64]), any::<bool>()), 1..6),
    ) {
        let mut bytes = samples()[sample].clone();
        // The superblock, or what follows the inode table.
        let tables = usize::try_from(u64::from_le_bytes(bytes[64..72].try_into().unwrap())).unwrap();
        for (at, value, flip) in damages {
            let at = if in_tables { tables + at.index(bytes.len() - tables) } else { at.index(96) };
            if flip { bytes[at] ^= value } else { bytes[at] = value }
        }
        if let Err(error) = walk_bytes(&bytes) {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
