//! Properties that hold for any input: no panic, and orders that are orders.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod common;

use std::cmp::Ordering;
use std::io::Write;
use std::sync::OnceLock;

use common::{CONTROL, Tar};
use hatchway_inspect::elf::{self, compare_versions};
use hatchway_inspect::{archive, inspect};
use proptest::prelude::*;

/// One of each format, with a real program inside.
fn samples() -> &'static Vec<Vec<u8>> {
    static SAMPLES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        let scratch = tempfile::tempdir().unwrap();
        let source = "#include <stdio.h>\nint main(void) { puts(\"libplugin.so.3\"); puts(\"/etc/acme/x\"); return 0; }";
        let program = common::gcc(scratch.path(), "x", source, &["-s", "-Wl,-rpath,$ORIGIN/../lib", "-Wl,-z,x86-64-v2"]);
        let program = std::fs::read(program).unwrap();
        let data = || {
            Tar::new()
                .dir("./usr/")
                .file("./usr/bin/x", 0o755, &program)
                .symlink("./usr/bin/y", "x")
                .hardlink("./usr/bin/z", "usr/bin/x")
                .file("./etc/ld.so.conf.d/x.conf", 0o644, b"/opt/x\n")
        };
        let control = Tar::new().file("./control", 0o644, CONTROL.as_bytes()).file("./postinst", 0o755, b"#!/bin/sh\nldconfig\n");
        let stored = common::ar(&[
            ("debian-binary", b"2.0\n"),
            ("control.tar", &control.bytes()),
            ("data.tar", &data().bytes()),
        ]);
        let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default();
        writer.start_file("acme-1.dist-info/WHEEL", options).unwrap();
        writer.write_all(b"Wheel-Version: 1.0\nTag: py3-none-any\n").unwrap();
        writer.start_file("acme-1.dist-info/METADATA", options).unwrap();
        writer.write_all(b"Name: acme\nVersion: 1\n").unwrap();
        writer.start_file("acme/x.so", options.compression_method(zip::CompressionMethod::Stored)).unwrap();
        writer.write_all(&program).unwrap();
        let wheel = writer.finish().unwrap().into_inner();
        let tar = data().bytes();
        let pe = common::pe(1, false, &["ntoskrnl.exe", "HAL.dll"]);
        vec![stored, tar.clone(), common::gzip(&tar), common::xz(&tar), common::zstd(&tar), wheel, program, pe]
    })
}

#[derive(Debug, Clone)]
enum Damage {
    Flip(prop::sample::Index, u8),
    Set(prop::sample::Index, u8),
    Word(prop::sample::Index, u32),
    Cut(prop::sample::Index),
    Remove(prop::sample::Index, u8),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<prop::sample::Index>;
    let words = prop::sample::select(vec![0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0xffff_fff0, 4096]);
    prop_oneof![
        4 => (at(), 0_u8..8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        4 => (at(), any::<u8>()).prop_map(|(at, value)| Damage::Set(at, value)),
        4 => (at(), words).prop_map(|(at, word)| Damage::Word(at, word)),
        1 => at().prop_map(Damage::Cut),
        1 => (at(), any::<u8>()).prop_map(|(at, count)| Damage::Remove(at, count)),
    ]
}

fn apply(bytes: &mut Vec<u8>, damages: &[Damage], header_only: bool) {
    for damage in damages {
        if bytes.len() < 8 {
            return;
        }
        // Most of a file is content; most of what can go wrong is in the headers.
        let span = if header_only { bytes.len().min(1024) } else { bytes.len() } - 4;
        match damage {
            Damage::Flip(at, bit) => bytes[at.index(span)] ^= 1 << bit,
            Damage::Set(at, value) => bytes[at.index(span)] = *value,
            Damage::Word(at, word) => {
                let at = at.index(span);
                bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
            }
            Damage::Cut(at) => {
                let kept = at.index(bytes.len());
                bytes.truncate(kept);
            }
            Damage::Remove(at, count) => {
                let at = at.index(span);
                let end = bytes.len().min(at + usize::from(*count));
                bytes.drain(at..end);
            }
        }
    }
}

/// Corrects the checksum of every tar header, so that damage gets past it.
fn repair_checksums(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512) {
        if block[257..262] == *b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_artifacts_never_panic(
        sample in 0_usize..8,
        header_only in any::<bool>(),
        repair in any::<bool>(),
        damages in prop::collection::vec(damage(), 1..6),
    ) {
        let mut bytes = samples()[sample].clone();
        apply(&mut bytes, &damages, header_only);
        if repair {
            repair_checksums(&mut bytes);
        }
        let scratch = tempfile::tempdir().unwrap();
        let path = common::write(scratch.path(), "x", &bytes);
        if let Err(error) = inspect(&path) {
            // Never the sort of message that explains nothing.
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn damaged_programs_never_panic(header_only in any::<bool>(), damages in prop::collection::vec(damage(), 1..8)) {
        let mut bytes = samples()[6].clone();
        apply(&mut bytes, &damages, header_only);
        let _facts = elf::read("x", &bytes);
    }

    #[test]
    fn anything_may_be_detected(bytes in prop::collection::vec(any::<u8>(), 0..2000), magic in 0_usize..8) {
        let magics: [&[u8]; 8] =
            [b"", b"\x7fELF\x02\x01", b"MZ", b"PK\x03\x04", b"!<arch>\ndebian-binary", b"\x1f\x8b", b"\xfd7zXZ\0", b"(\xb5/\xfd"];
        let scratch = tempfile::tempdir().unwrap();
        let path = common::write(scratch.path(), "x", &[magics[magic], &bytes].concat());
        let _format = archive::detect(&path);
        let _facts = inspect(&path);
    }

    #[test]
    fn version_order_is_an_order(
        a in "[A-Z]{0,3}_?[0-9]{0,3}(\\.[0-9]{0,3}){0,2}[a-z]?",
        b in "[A-Z]{0,3}_?[0-9]{0,3}(\\.[0-9]{0,3}){0,2}[a-z]?",
        c in "[A-Z]{0,3}_?[0-9]{0,3}(\\.[0-9]{0,3}){0,2}[a-z]?",
    ) {
        prop_assert_eq!(compare_versions(&a, &b), compare_versions(&b, &a).reverse());
        prop_assert_eq!(compare_versions(&a, &b) == Ordering::Equal, a == b);
        if compare_versions(&a, &b).is_le() && compare_versions(&b, &c).is_le() {
            prop_assert!(compare_versions(&a, &c).is_le(), "{} {} {}", a, b, c);
        }
    }

    #[test]
    fn glibc_versions_are_ordered_by_number(left in 0_u32..100, right in 0_u32..100, patch in 0_u32..20) {
        let (older, newer) = (format!("GLIBC_2.{left}"), format!("GLIBC_2.{right}"));
        prop_assert_eq!(compare_versions(&older, &newer), left.cmp(&right));
        let patched = format!("{older}.{patch}");
        prop_assert!(compare_versions(&older, &patched).is_lt());
    }
}
