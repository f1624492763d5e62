//! Self-extracting scripts made by `makeself`, and PyInstaller packages.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod common;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use hatchway_inspect::archive::{self, EntryKind, Format, Limits, Source};
use hatchway_inspect::{Error, inspect};
use proptest::prelude::*;

fn makeself(scratch: &Path, name: &str, arguments: &[&str]) -> PathBuf {
    let output = scratch.join(name);
    let run = Command::new("makeself")
        .args(arguments)
        .arg(scratch.join("tree"))
        .arg(&output)
        .args(["A label", "./usr/run"])
        .output()
        .expect("makeself must be installed (Debian: apt-get install makeself)");
    assert!(run.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&run.stderr));
    output
}

/// What the archive itself lists.
fn listed(archive: &Path) -> Vec<String> {
    let run = Command::new("sh").arg(archive).args(["--tar", "tf"]).output().unwrap();
    let text = String::from_utf8(run.stdout).unwrap();
    assert!(!text.is_empty(), "{}", String::from_utf8_lossy(&run.stderr));
    text.lines().map(|line| line.trim_start_matches("./").trim_end_matches('/').to_owned()).collect()
}

#[test]
fn makeself_archives() {
    let scratch = tempfile::tempdir().unwrap();
    common::write(scratch.path(), "tree/usr/run", b"#!/bin/sh\n");
    common::write(scratch.path(), "tree/usr/share/data", &vec![3; 70_000]);
    std::os::unix::fs::symlink("run", scratch.path().join("tree/usr/link")).unwrap();
    let cases: [(&str, &[&str]); 6] = [
        ("tar.gz", &["--gzip"]),
        ("tar.bz2", &["--bzip2"]),
        ("tar.xz", &["--xz"]),
        ("tar.zst", &["--zstd"]),
        ("tar", &["--nocomp"]),
        ("tar.gz", &["--sha256", "--license", "/dev/null"]),
    ];
    for (format, arguments) in cases {
        let path = makeself(scratch.path(), "x.run", arguments);
        let facts = inspect(&path).unwrap();
        assert_eq!(facts.artifact.format, "makeself");
        let [contained] = &facts.contains[..] else { panic!("{arguments:?}: {:?}", facts.contains) };
        assert_eq!((contained.format.as_str(), contained.files), (format, 2), "{:?}", contained.unopened);
        assert_eq!(contained.unopened, None);
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(contained.offset + contained.size, bytes.len() as u64, "{arguments:?}");
        let payload = &bytes[usize::try_from(contained.offset).unwrap()..];
        let seen = common::walk(&common::write(scratch.path(), "payload", payload)).unwrap();
        assert_eq!(common::names(&seen), listed(&path), "{arguments:?}");
    }
}

#[test]
fn makeself_archives_that_are_not_opened() {
    let scratch = tempfile::tempdir().unwrap();
    common::write(scratch.path(), "tree/usr/run", b"#!/bin/sh\n");
    let cases: [(&str, &[&str]); 2] =
        [("encrypted", &["--ssl-encrypt", "--ssl-passwd", "secret"]), ("base64", &["--base64"])];
    for (format, arguments) in cases {
        let facts = inspect(&makeself(scratch.path(), "x.run", arguments)).unwrap();
        let [contained] = &facts.contains[..] else { panic!("{arguments:?}: {:?}", facts.contains) };
        assert_eq!((contained.format.as_str(), contained.files), (format, 0));
        assert!(contained.unopened.as_ref().unwrap().contains("recognised, not unpacked"));
    }
    // The archive is cut: its name stays, and what is wrong is said.
    let bytes = std::fs::read(makeself(scratch.path(), "x.run", &["--xz"])).unwrap();
    let facts = inspect(&common::write(scratch.path(), "y.run", &bytes[..bytes.len() - 40])).unwrap();
    assert!(facts.contains[0].unopened.as_ref().unwrap().contains("truncated"), "{:?}", facts.contains);
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A package in the format of `CArchiveWriter`.
fn package(old: bool) -> Vec<u8> {
    let members: [(&str, u8, bool, &[u8]); 7] = [
        ("pyi-contents-directory _internal", b'o', false, b""),
        ("struct", b'm', true, b"\xe3code"),
        ("tool", b's', true, b"\xe3code of the script"),
        ("lib\\native.so", b'b', true, &[0x7f; 9000]),
        ("lib/link.so", b'n', true, b"native.so\0"),
        ("data.bin", b'x', false, b"as it is"),
        ("PYZ.pyz", b'z', false, b"PYZ\0..."),
    ];
    let (mut data, mut table) = (Vec::new(), Vec::new());
    for (name, kind, compressed, content) in members {
        let packed = if compressed { zlib(content) } else { content.to_vec() };
        let length = (18 + name.len() + 1).next_multiple_of(16);
        let numbers = [length, data.len(), packed.len(), content.len()];
        for number in numbers {
            table.extend(u32::try_from(number).unwrap().to_be_bytes());
        }
        table.extend([u8::from(compressed), kind]);
        table.extend(name.as_bytes());
        table.resize(table.len().next_multiple_of(16), 0);
        data.extend(packed);
    }
    let size = data.len() + table.len() + if old { 24 } else { 88 };
    let (at, length) = (data.len(), table.len());
    data.extend(table);
    data.extend(b"MEI\x0c\x0b\x0a\x0b\x0e");
    for number in [size, at, length, if old { 27 } else { 311 }] {
        data.extend(u32::try_from(number).unwrap().to_be_bytes());
    }
    if !old {
        let mut library = b"libpython3.11.so.1.0".to_vec();
        library.resize(64, 0);
        data.extend(library);
    }
    data
}

fn walk_package(bytes: &[u8]) -> Result<Vec<(String, EntryKind, Vec<u8>)>, Error> {
    let mut seen = Vec::new();
    let mut source = Source::bytes(Path::new("x"), bytes);
    let mut limits = Limits::default();
    limits.unproportioned_bytes = 64 << 20;
    archive::walk_in(&mut source, Format::PyInstaller, &limits, &mut |_, entry, content| {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes).map_err(|source| Error::Io { archive: "reader".into(), source })?;
        seen.push((entry.path.to_string(), entry.kind.clone(), bytes));
        Ok::<(), Error>(())
    })?;
    Ok(seen)
}

#[test]
fn pyinstaller_packages() {
    for old in [false, true] {
        // A program before it, section headers behind it.
        for bytes in [package(old), [&[0x7f; 3000][..], &package(old), &[0; 700]].concat()] {
            let seen = walk_package(&bytes).unwrap();
            let names: Vec<_> = seen.iter().map(|(name, ..)| name.as_str()).collect();
            let expected = ["struct.pyc", "tool.pyc", "lib/native.so", "lib/link.so", "data.bin", "PYZ.pyz"];
            assert_eq!(names, expected);
            assert_eq!(seen[2].2, [0x7f; 9000]);
            assert_eq!(seen[3].1, EntryKind::Symlink { target: "native.so".to_owned() });
            assert_eq!(seen[4].2, b"as it is");
        }
    }
    let bytes = package(false);
    for length in 0..bytes.len() - 64 {
        assert!(walk_package(&bytes[..length]).is_err(), "{length}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_packages_never_panic(
        old in any::<bool>(),
        damages in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..6),
    ) {
        let mut bytes = package(old);
        for (at, value, flip) in damages {
            let at = at.index(bytes.len());
            if flip { bytes[at] ^= 1 << (value % 8) } else { bytes[at] = value }
        }
        if let Err(error) = walk_package(&bytes) {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn damaged_scripts_never_panic(
        text in "(filesizes=\"[0-9 ]{0,24}\"\n|skip=\"[0-9]{0,21}\"\n|offset=`head -n [0-9]{1,21} \n|begin 644 x\n|[ -~]{0,40}\n){0,8}",
        bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let scratch = tempfile::tempdir().unwrap();
        let script = [b"#!/bin/sh\n", text.as_bytes(), &bytes].concat();
        let _facts = inspect(&common::write(scratch.path(), "x.run", &script));
    }
}
