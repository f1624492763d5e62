//! Archives that mean harm, and archives that were damaged on the way.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod common;

use std::io::Write;

use common::{CONTROL, Tar, gzip, walk, walk_within};
use hatchway_inspect::archive::{EntryKind, Limits};
use hatchway_inspect::{DroppedWhat, Error, inspect};

fn tar_error(tar: Tar) -> Error {
    let scratch = tempfile::tempdir().unwrap();
    let path = common::write(scratch.path(), "evil.tar", &tar.bytes());
    let error = walk(&path).unwrap_err();
    assert!(error.to_string().contains("evil.tar"), "{error}");
    error
}

fn refused(tar: Tar, member: &str, what: &str) {
    match tar_error(tar) {
        Error::Hostile { member: found, what: reason, .. } => {
            assert_eq!(found, member);
            assert!(reason.contains(what), "{reason}");
        }
        other => panic!("not refused as hostile: {other}"),
    }
}

#[test]
fn names_that_lead_outside() {
    refused(Tar::new().file("../x", 0o644, b"x"), "../x", "climbs");
    refused(Tar::new().file("a/../../x", 0o644, b"x"), "a/../../x", "climbs");
    refused(Tar::new().file("/etc/passwd", 0o644, b"x"), "/etc/passwd", "absolute");
    refused(Tar::new().raw(b'0', b"a\xff/../../b", b"", 0o644, b"x"), "a\u{fffd}/../../b", "climbs");
    refused(Tar::new().raw(b'0', b"", b"", 0o644, b"x"), "", "empty");
    refused(Tar::new().file(".", 0o644, b"x"), ".", "replaces the root");
}

#[test]
fn writing_through_a_link() {
    let tar = Tar::new().symlink("a", "/etc").file("a/passwd", 0o644, b"x");
    refused(tar, "a/passwd", "lies below `a`, which is a symbolic link");
    let tar = Tar::new().file("a", 0o644, b"x").file("a/b", 0o644, b"x");
    refused(tar, "a/b", "lies below `a`, which is a file");
    // The directory is only implied, and the link comes later.
    refused(Tar::new().file("a/b", 0o644, b"x").symlink("a", "/etc"), "a", "was a directory");
    refused(Tar::new().symlink("a", "/etc/passwd").file("a", 0o644, b"x"), "a", "was a symbolic link");
    refused(Tar::new().dir("a").file("a", 0o644, b"x"), "a", "was a directory");
    refused(Tar::new().symlink("a", "b").dir("a/"), "a", "was a symbolic link");
}

#[test]
fn hard_links_to_elsewhere() {
    refused(Tar::new().hardlink("a", "/etc/shadow"), "a", "absolute");
    refused(Tar::new().hardlink("a", "../x"), "a", "climbs");
    refused(Tar::new().hardlink("a", "later").file("later", 0o644, b"x"), "a", "does not appear earlier");
    refused(Tar::new().symlink("s", "/etc/shadow").hardlink("a", "s"), "a", "a symbolic link, not a file");
    refused(Tar::new().dir("d").hardlink("a", "d"), "a", "a directory, not a file");
    refused(Tar::new().hardlink("a", "a"), "a", "itself");
    // The link makes `b` a file, which must not become a link afterwards.
    refused(Tar::new().file("a", 0o644, b"").hardlink("b", "a").symlink("b", "/etc"), "b", "was a file");
}

#[test]
fn symlinks_without_sense() {
    refused(Tar::new().symlink("a", ""), "a", "to nothing");
}

#[test]
fn zip_names_are_checked_too() {
    for (name, link) in [("../x", false), ("/x", false), ("a/x", true)] {
        let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default();
        if link {
            writer.add_symlink("a", "/etc", options).unwrap();
        }
        // The writer cleans names, so a harmless one of the same length is patched afterwards.
        let placeholder = "Q".repeat(name.len());
        writer.start_file(placeholder.as_str(), options).unwrap();
        writer.write_all(b"x").unwrap();
        let mut bytes = writer.finish().unwrap().into_inner();
        let places: Vec<usize> = memchr::memmem::find_iter(&bytes, placeholder.as_bytes()).collect();
        for at in places {
            bytes[at..at + name.len()].copy_from_slice(name.as_bytes());
        }
        let scratch = tempfile::tempdir().unwrap();
        let path = common::write(scratch.path(), "evil.zip", &bytes);
        let error = walk(&path).unwrap_err();
        assert!(matches!(&error, Error::Hostile { member, .. } if member == name), "{error}");
    }
}

#[test]
fn names_of_old_systems_are_read() {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    writer.start_file("Qber.txt", zip::write::SimpleFileOptions::default()).unwrap();
    let mut bytes = writer.finish().unwrap().into_inner();
    let places: Vec<usize> = memchr::memmem::find_iter(&bytes, b"Qber").collect();
    // The letter of code page 437, as Windows' own packer writes it.
    places.iter().for_each(|at| bytes[*at] = 0x81);
    let scratch = tempfile::tempdir().unwrap();
    let path = common::write(scratch.path(), "old.zip", &bytes);
    assert_eq!(walk(&path).unwrap()[0].1.path.as_str(), "über.txt");

    let tar =
        Tar::new().raw(b'0', b"\xfcber.txt", b"", 0o644, b"x").raw(b'2', b"link", b"\xfcber.txt", 0o777, b"");
    let path = common::write(scratch.path(), "old.tar", &tar.bytes());
    let facts = hatchway_inspect::inspect(&path).unwrap();
    let dropped: Vec<_> = facts.dropped.iter().map(|one| (one.path.as_str(), one.what)).collect();
    assert_eq!(dropped, [("/über.txt", DroppedWhat::NameEncoding)]);
}

#[test]
fn devices_and_privileges_are_reported() {
    let scratch = tempfile::tempdir().unwrap();
    let data = Tar::new()
        .file("./usr/bin/helper", 0o4755, b"x")
        .file("./usr/bin/group", 0o2755, b"x")
        .raw(b'3', b"./dev/acme", b"", 0o666, b"")
        .raw(b'6', b"./run/pipe", b"", 0o600, b"");
    let control = Tar::new().file("./control", 0o644, CONTROL.as_bytes());
    let path = common::write(scratch.path(), "x.deb", &common::deb(control, data));
    let seen = walk(&path).unwrap();
    assert!(seen.iter().any(|(_, entry, _)| matches!(entry.kind, EntryKind::Device { block: false, .. })));
    let facts = inspect(&path).unwrap();
    let dropped: Vec<_> = facts.dropped.iter().map(|dropped| (dropped.path.as_str(), dropped.what)).collect();
    let expected = [
        ("/dev/acme", DroppedWhat::CharacterDevice),
        ("/run/pipe", DroppedWhat::Fifo),
        ("/usr/bin/group", DroppedWhat::Setgid),
        ("/usr/bin/helper", DroppedWhat::Setuid),
    ];
    assert_eq!(dropped, expected);
    assert_eq!(facts.dropped[3].detail, "4755");
}

#[test]
fn bombs_hit_the_limits() {
    let scratch = tempfile::tempdir().unwrap();
    let zeros = vec![0_u8; 8 << 20];
    let mut limits = Limits::default();
    limits.total_bytes = 1 << 20;
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    writer.start_file("zeros", zip::write::SimpleFileOptions::default()).unwrap();
    writer.write_all(&zeros).unwrap();
    let zipped = writer.finish().unwrap().into_inner();
    assert!(zipped.len() < 64 << 10);
    let tarred = gzip(&Tar::new().file("zeros", 0o644, &zeros).bytes());
    // Padding after the end marker is a bomb as well.
    let mut trailing = Tar::new().file("small", 0o644, b"x").bytes();
    trailing.extend_from_slice(&zeros);
    for (name, bytes) in [("a.zip", zipped), ("a.tar.gz", tarred), ("b.tar.gz", gzip(&trailing))] {
        let path = common::write(scratch.path(), name, &bytes);
        let error = walk_within(&path, &limits).unwrap_err();
        assert!(matches!(error, Error::Limit { limit: 1_048_576, .. }), "{error}");
    }
}

#[test]
fn a_small_archive_may_not_become_a_large_one() {
    let scratch = tempfile::tempdir().unwrap();
    let zeros = vec![0_u8; 8 << 20];
    let path =
        common::write(scratch.path(), "a.tar.gz", &gzip(&Tar::new().file("zeros", 0o644, &zeros).bytes()));
    let packed = std::fs::metadata(&path).unwrap().len();
    let mut limits = Limits::default();
    limits.unproportioned_bytes = 1 << 20;
    limits.proportion = 10;
    let error = walk_within(&path, &limits).unwrap_err();
    let allowed = (packed * limits.proportion).max(1 << 20);
    assert!(matches!(error, Error::Limit { limit, .. } if limit == allowed), "{error}");
    limits.unproportioned_bytes = 16 << 20;
    walk_within(&path, &limits).unwrap();
}

#[test]
fn every_limit_holds() {
    type Change = fn(&mut Limits);
    let many = || Tar::new().file("a", 0o644, b"x").file("b", 0o644, b"x").file("c/d/e", 0o644, b"xy");
    let changes: [Change; 6] = [
        |limits| limits.entries = 2,
        |limits| limits.file_bytes = 1,
        |limits| limits.path_bytes = 4,
        |limits| limits.nesting = 2,
        |limits| limits.name_memory = 100,
        |limits| limits.total_bytes = 1024,
    ];
    let scratch = tempfile::tempdir().unwrap();
    let path = common::write(scratch.path(), "x.tar", &many().bytes());
    walk(&path).unwrap();
    for (index, change) in changes.iter().enumerate() {
        let mut limits = Limits::default();
        change(&mut limits);
        assert!(walk_within(&path, &limits).is_err(), "limit number {index}");
    }
    // A name of a gigabyte is never read into memory.
    let mut limits = Limits::default();
    limits.control_bytes = 100;
    let long = Tar::new().raw(b'L', b"././@LongLink", b"", 0o644, &[b'a'; 200]).file("x", 0o644, b"");
    let path = common::write(scratch.path(), "y.tar", &long.bytes());
    assert!(matches!(walk_within(&path, &limits), Err(Error::Limit { .. })));
}

#[test]
fn an_xz_that_wants_all_memory() {
    let scratch = tempfile::tempdir().unwrap();
    let path =
        common::write(scratch.path(), "x.tar.xz", &common::xz(&Tar::new().file("a", 0o644, b"x").bytes()));
    let mut limits = Limits::default();
    limits.decoder_memory = 1 << 16;
    assert!(walk_within(&path, &limits).is_err());
}

#[test]
fn truncation_is_called_truncation() {
    let scratch = tempfile::tempdir().unwrap();
    let noise: Vec<u8> =
        (0..200_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
    let tar = || Tar::new().file("a", 0o644, &noise).file("b", 0o644, b"x");
    let control = || Tar::new().file("./control", 0o644, CONTROL.as_bytes());
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    writer.start_file("a", zip::write::SimpleFileOptions::default()).unwrap();
    writer.write_all(&noise).unwrap();
    let whole = [
        ("x.tar", tar().bytes()),
        ("x.tar.gz", gzip(&tar().bytes())),
        ("x.tar.xz", common::xz(&tar().bytes())),
        ("x.tar.zst", common::zstd(&tar().bytes())),
        ("x.tar.bz2", common::bzip2(&tar().bytes())),
        ("x.deb", common::deb(control(), tar())),
        ("x.zip", writer.finish().unwrap().into_inner()),
    ];
    for (name, bytes) in whole {
        walk(&common::write(scratch.path(), name, &bytes)).unwrap();
        for kept in [bytes.len() / 3, bytes.len() / 2, bytes.len() - bytes.len() / 50] {
            let path = common::write(scratch.path(), name, &bytes[..kept]);
            let error = walk(&path).unwrap_err();
            assert!(matches!(error, Error::Truncated { .. }), "{name} cut to {kept}: {error}");
            assert!(error.to_string().contains("is truncated: "), "{error}");
        }
    }
    // Cut between two members: only the missing end marker tells.
    let cut = Tar::new().file("a", 0o644, b"x").bytes();
    let path = common::write(scratch.path(), "y.tar", &cut[..1024]);
    assert!(matches!(walk(&path), Err(Error::Truncated { .. })));
}

#[test]
fn corruption_is_noticed() {
    let scratch = tempfile::tempdir().unwrap();
    let noise: Vec<u8> =
        (0..50_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
    let plain = Tar::new().file("a", 0o644, &noise).bytes();
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    writer.start_file("a", zip::write::SimpleFileOptions::default()).unwrap();
    writer.write_all(&noise).unwrap();
    let cases = [
        ("gz", gzip(&plain)),
        ("xz", common::xz(&plain)),
        ("bz2", common::bzip2(&plain)),
        ("zip", writer.finish().unwrap().into_inner()),
    ];
    for (name, mut bytes) in cases {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x55;
        let path = common::write(scratch.path(), name, &bytes);
        // Even a visitor that reads nothing learns of it.
        let result =
            hatchway_inspect::archive::walk(&path, &Limits::default(), &mut |_, _, _| Ok::<(), Error>(()));
        assert!(matches!(result, Err(Error::Corrupt { .. } | Error::Truncated { .. })), "{name}: {result:?}");
    }
    let mut header = plain;
    header[10] ^= 1;
    header.splice(0..0, Tar::new().file("first", 0o644, b"").bytes()[..512].to_vec());
    let path = common::write(scratch.path(), "header", &header);
    assert!(walk(&path).unwrap_err().to_string().contains("checksum"));
}

#[test]
fn facts_are_bounded_too() {
    let scratch = tempfile::tempdir().unwrap();
    let path = common::write(
        scratch.path(),
        "x.tar",
        &Tar::new().file("a", 0o644, b"").file("b", 0o644, b"").bytes(),
    );
    let mut limits = Limits::default();
    limits.facts_bytes = 200;
    assert!(matches!(hatchway_inspect::inspect_within(&path, &limits), Err(Error::Limit { limit: 200, .. })));
}

#[test]
fn errors_do_not_repeat_their_source() {
    let error = inspect(std::path::Path::new("/nonexistent/acme.deb")).unwrap_err();
    assert_eq!(error.to_string(), "cannot read `/nonexistent/acme.deb`");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(!error.to_string().contains(&source));
}
