//! Windows cabinets, with `gcab` and `cabextract` as oracles.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use hatchway_inspect::archive::{self, Format, Limits};
use hatchway_inspect::{Error, inspect};
use proptest::prelude::*;

/// Several blocks, a part of them of noise, so that blocks refer to the ones before them and some cannot be packed.
fn tree(folder: &Path) -> Vec<&'static str> {
    let numbers: String = (0..40_000).map(|number| format!("{number}\n")).collect();
    let mut state = 1_u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    })
    .take(100_000)
    .collect();
    common::write(folder, "driver/scope.inf", b"[Version]\r\nClass=USB\r\n");
    common::write(folder, "driver/numbers", numbers.as_bytes());
    common::write(folder, "driver/empty", b"");
    common::write(folder, "noise.bin", &noise);
    common::write(folder, "Zähler.txt", b"utf-8");
    vec!["driver/scope.inf", "driver/numbers", "driver/empty", "noise.bin", "Zähler.txt"]
}

fn pack(folder: &Path, name: &str, options: &[&str]) -> PathBuf {
    let files = tree(folder);
    let path = folder.join(name);
    let run = Command::new("gcab").current_dir(folder).args(options).arg(&path).args(files).output();
    let run = run.expect("gcab must be installed (Debian: apt-get install gcab)");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    path
}

#[test]
fn as_cabextract_unpacks_them() {
    let scratch = tempfile::tempdir().unwrap();
    for (name, options) in [("stored.cab", &["-c"][..]), ("zip.cab", &["-c", "-z"])] {
        let path = pack(scratch.path(), name, options);
        assert_eq!(archive::detect(&path).unwrap(), Format::Cabinet);
        let ours: BTreeMap<String, Vec<u8>> = common::walk(&path)
            .unwrap()
            .into_iter()
            .map(|(_, entry, content)| (entry.path.to_string(), content))
            .collect();
        let unpacked = scratch.path().join(format!("{name}-unpacked"));
        let run = Command::new("cabextract").arg("-q").arg("-d").arg(&unpacked).arg(&path).output();
        let run = run.expect("cabextract must be installed (Debian: apt-get install cabextract)");
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        for file in tree(scratch.path()) {
            assert_eq!(ours[file], std::fs::read(unpacked.join(file)).unwrap(), "{name}: {file}");
        }
        assert_eq!(ours.len(), 5, "{name}");
        assert_eq!(inspect(&path).unwrap().files.files, 5);
    }
}

fn refused(folder: &Path, bytes: &[u8], from: &str, to: &str) -> Error {
    assert_eq!(from.len(), to.len());
    let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
    let mut bytes = bytes.to_vec();
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    common::walk(&common::write(folder, "patched.cab", &bytes)).unwrap_err()
}

#[test]
fn names_that_lead_outside() {
    let scratch = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(pack(scratch.path(), "stored.cab", &["-c"])).unwrap();
    for (from, to) in [
        ("driver\\scope", "..\\..\\ascope"),
        ("driver\\scope", "\\river\\scope"),
        ("driver\\scope", "c:\\ver\\scope"),
        ("driver\\scope", "driver\\..\\pe"),
        ("driver\\scope", "driver\n\n\n\n\n\n"),
    ] {
        let error = refused(scratch.path(), &bytes, from, to);
        assert!(matches!(error, Error::Hostile { .. }), "{to}: {error}");
    }
}

#[test]
fn damage_is_noticed() {
    let scratch = tempfile::tempdir().unwrap();
    for options in [&["-c"][..], &["-c", "-z"]] {
        let path = pack(scratch.path(), "whole.cab", options);
        let whole = std::fs::read(&path).unwrap();
        // Every block has a checksum.
        for at in (whole.len() / 4..whole.len()).step_by(whole.len() / 50) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            let path = common::write(scratch.path(), "flipped.cab", &bytes);
            assert!(common::walk(&path).is_err(), "{options:?}: byte {at}");
        }
        for length in (5..whole.len()).step_by(whole.len() / 200) {
            let path = common::write(scratch.path(), "cut.cab", &whole[..length]);
            assert!(common::walk(&path).is_err(), "{options:?}: cut at {length}");
        }
    }
}

#[test]
fn what_is_not_read_is_said() {
    let scratch = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(pack(scratch.path(), "zip.cab", &["-c", "-z"])).unwrap();
    // gcab writes no reserves: the one folder stands behind the header, its method at its end.
    let with = |method: u16| {
        let mut bytes = bytes.clone();
        bytes[42..44].copy_from_slice(&method.to_le_bytes());
        common::walk(&common::write(scratch.path(), "method.cab", &bytes)).unwrap_err()
    };
    assert!(matches!(with(0x1472), Error::Unsupported { what, .. } if what.contains("Quantum")));
    assert!(matches!(with(0x1f03), Error::Unsupported { what, .. } if what.contains("LZX")));
    assert!(matches!(with(7), Error::Unsupported { .. }));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_cabinets_never_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        zip in any::<bool>(),
    ) {
        static SAMPLES: std::sync::OnceLock<[Vec<u8>; 2]> = std::sync::OnceLock::new();
        let samples = SAMPLES.get_or_init(|| {
            let scratch = tempfile::tempdir().unwrap();
            [&["-c"][..], &["-c", "-z"]].map(|options| std::fs::read(pack(scratch.path(), "x.cab", options)).unwrap())
        });
        let mut bytes = samples[usize::from(zip)].clone();
        for (at, value) in flips {
            let at = at.index(400);
            bytes[at] = value;
        }
        let _facts = hatchway_inspect::inspect_bytes(Path::new("x"), &bytes, &Limits::default());
    }
}
