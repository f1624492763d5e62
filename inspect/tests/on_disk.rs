//! A file of which only a part is read has the same facts as the whole.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod common;

use std::path::{Path, PathBuf};

use hatchway_inspect::archive::Limits;
use hatchway_inspect::elf::{self, ElfFacts};
use hatchway_inspect::{Error, inspect, inspect_bytes, inspect_within};
use proptest::prelude::*;

/// Files of the machine that are compared at least: those of a system with a compiler.
const AT_LEAST: usize = 100;

fn libraries() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64"] {
        let children = std::fs::read_dir(folder).into_iter().flatten().flatten();
        found.extend(children.filter(|child| child.file_type().unwrap().is_file()).map(|child| child.path()));
    }
    found.sort();
    found
}

/// Both readings, with the same name in the facts and in the error.
fn both(path: &Path, bytes: &[u8]) -> [Result<ElfFacts, String>; 2] {
    let partly = elf::read_file(path);
    let whole = elf::read(&path.to_string_lossy(), bytes);
    [partly, whole].map(|read| read.map_err(|error| error.to_string()))
}

#[test]
fn libraries_of_this_machine_read_partly_and_whole() {
    let mut compared = 0;
    for path in libraries() {
        let bytes = std::fs::read(&path).unwrap();
        if !bytes.starts_with(b"\x7fELF") {
            continue;
        }
        let [partly, whole] = both(&path, &bytes);
        assert_eq!(partly, whole, "{}", path.display());
        assert!(partly.is_ok_and(|facts| !facts.partial), "{}", path.display());
        compared += 1;
    }
    assert!(compared >= AT_LEAST, "only {compared} ELF files below /usr/lib");
}

/// A program with a few of everything that is read: dynamic tables, versions, notes, constants, something appended.
fn sample() -> Vec<u8> {
    let scratch = tempfile::tempdir().unwrap();
    let source = "#include <stdio.h>\nstatic char zeros[9000] = {1};\n\
        int main(int c, char **v) { puts(\"libplugin.so.3\"); puts(\"/etc/acme/x\"); return zeros[c]; }";
    let options = ["-Wl,-rpath,$ORIGIN/../lib", "-Wl,-z,x86-64-v2", "-Wl,--build-id"];
    let program = common::gcc(scratch.path(), "x", source, &options);
    [std::fs::read(program).unwrap(), vec![0; 5000], b"#!/bin/sh\nappended, and a few words more\n".to_vec()]
        .concat()
}

#[test]
fn every_truncation_reads_the_same() {
    let whole = sample();
    let scratch = tempfile::tempdir().unwrap();
    for length in (0..whole.len()).step_by(41).chain(0..200) {
        let path = common::write(scratch.path(), "x", &whole[..length]);
        let [partly, complete] = both(&path, &whole[..length]);
        assert_eq!(partly, complete, "the first {length} bytes");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damage_reads_the_same(
        early in any::<bool>(),
        damages in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        static SAMPLE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let mut bytes = SAMPLE.get_or_init(sample).clone();
        let span = if early { 1200 } else { bytes.len() };
        damages.iter().for_each(|(at, value)| bytes[at.index(span)] = *value);
        let scratch = tempfile::tempdir().unwrap();
        let path = common::write(scratch.path(), "x", &bytes);
        let [partly, whole] = both(&path, &bytes);
        // Sections that overlap many times are not read as often; a partial reading says so.
        if !partly.as_ref().is_ok_and(|facts| facts.partial) {
            prop_assert_eq!(partly, whole);
        }
    }
}

#[test]
fn what_is_no_regular_file_is_refused() {
    assert!(matches!(elf::read_file(Path::new("/usr")), Err(Error::Unsupported { .. })));
    assert!(matches!(elf::read_file(Path::new("/nowhere")), Err(Error::Io { .. })));
    assert!(matches!(elf::read_file(Path::new("/dev/null")), Err(Error::Unsupported { .. })));
}

#[test]
fn a_small_bound_leaves_constants_out_and_says_so() {
    let scratch = tempfile::tempdir().unwrap();
    let path = common::write(scratch.path(), "x", &sample());
    let mut limits = Limits::default();
    limits.object_bytes = 9000;
    let facts = inspect_within(&path, &limits).unwrap();
    assert!(facts.elf[0].partial && facts.omitted.iter().any(|omission| omission.what == "/x"));
    assert!(!inspect(&path).unwrap().elf[0].partial);
}

#[test]
fn lone_files_and_directories_are_hashed_as_they_are_read() {
    let scratch = tempfile::tempdir().unwrap();
    let large = [b"MZ not a program ".to_vec(), vec![7; 300_000]].concat();
    let script = b"#!/bin/sh\nexit 0\n".to_vec();
    for (name, bytes) in [("program", sample()), ("large.exe", large), ("script", script)] {
        let path = common::write(scratch.path(), name, &bytes);
        let expected = inspect_bytes(&path, &bytes, &Limits::default()).unwrap().artifact;
        assert_eq!(inspect(&path).unwrap().artifact, expected);
        let output = std::process::Command::new("sha256sum").arg(&path).output();
        let output = output.expect("sha256sum must be installed (Debian: apt-get install coreutils)");
        assert!(output.stdout.starts_with(expected.sha256.as_bytes()), "{name}");
    }
    let whole = inspect(scratch.path()).unwrap().artifact.sha256;
    common::write(scratch.path(), "large.exe", b"MZ");
    assert_ne!(inspect(scratch.path()).unwrap().artifact.sha256, whole);
}
