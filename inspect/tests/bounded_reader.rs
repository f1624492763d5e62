//! The reader that looks at a few pages of foreign ELF files: it agrees with the reader of facts, and survives damage.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::OnceLock;

use hatchway_inspect::elf::{self, ElfFacts};
use hatchway_inspect::resolve::{DirectoryRoot, Object, Root};
use proptest::prelude::*;

/// Files of the machine that are compared at least: those of a system with a compiler.
const AT_LEAST: usize = 100;
/// Texts that one object may hold: the reader's bounds of needed libraries, filters, directories and versions together.
const TEXTS_MAX: usize = 2 * 4096 + 2 * 512 + 2 * 16_384 + 4;

/// What both readers say, in the same form.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    class: u8,
    machine: String,
    interpreter: Option<String>,
    soname: Option<String>,
    needed: Vec<String>,
    rpath: Vec<String>,
    runpath: Vec<String>,
    versions_needed: BTreeMap<String, BTreeSet<String>>,
    versions_defined: BTreeSet<String>,
}

fn of_object(object: &Object) -> Said {
    let mut versions_needed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for wanted in &object.versions_needed {
        let names = wanted.versions.iter().map(|version| version.name.clone());
        versions_needed.entry(wanted.library.clone()).or_default().extend(names);
    }
    // Facts leave out empty entries, which the loader takes for the working directory.
    let path = |path: &Option<Vec<String>>| {
        path.iter().flatten().filter(|entry| !entry.is_empty()).cloned().collect::<Vec<_>>()
    };
    // The first is the base version, which repeats the file's name; facts leave it out.
    let defined = object.versions_defined.iter().flatten().skip(1);
    Said {
        class: object.class,
        machine: object.machine.clone(),
        interpreter: object.interpreter.clone(),
        soname: object.soname.clone(),
        needed: object.needed.clone(),
        rpath: path(&object.rpath),
        runpath: path(&object.runpath),
        versions_needed,
        versions_defined: defined.cloned().collect(),
    }
}

fn of_facts(facts: &ElfFacts) -> Said {
    let versions = facts.versions_needed.iter();
    Said {
        class: facts.class,
        machine: facts.machine.clone(),
        interpreter: facts.interpreter.clone(),
        soname: facts.soname.clone(),
        needed: facts.needed.clone(),
        rpath: facts.rpath.clone(),
        runpath: facts.runpath.clone(),
        versions_needed: versions.map(|(file, set)| (file.clone(), set.iter().cloned().collect())).collect(),
        versions_defined: facts.versions_defined.iter().cloned().collect(),
    }
}

#[test]
fn libraries_of_this_machine_are_what_facts_say() {
    let mut compared = 0;
    for folder in ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"] {
        let Ok(root) = DirectoryRoot::open(Path::new(folder)) else { continue };
        for child in std::fs::read_dir(folder).unwrap().flatten() {
            if !child.file_type().unwrap().is_file() {
                continue;
            }
            let inside = format!("/{}", child.file_name().to_string_lossy());
            let object = root.object(&inside);
            match elf::read_file(&child.path()) {
                Ok(facts) => {
                    let object = object.unwrap_or_else(|| panic!("{inside} has facts and was not read"));
                    assert_eq!(of_object(&object), of_facts(&facts), "{inside}");
                    compared += 1;
                }
                Err(error) => assert!(object.is_none(), "{inside} was read, and has no facts: {error}"),
            }
        }
    }
    assert!(compared >= AT_LEAST, "only {compared} ELF files below /usr/lib");
}

/// A program, a library with versions of its own, one with old tags, and the second without section headers.
fn samples() -> &'static [Vec<u8>] {
    static SAMPLES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        let scratch = tempfile::tempdir().unwrap();
        let script = common::write(
            scratch.path(),
            "map",
            b"ACME_1 { global: acme; };\nACME_2 { global: more; } ACME_1;\n",
        );
        let map = format!("-Wl,--version-script={}", script.display());
        let main = "#include <stdio.h>\nint main(void) { return puts(\"x\") < 0; }";
        let library =
            "#include <stdio.h>\nint acme(void) { return puts(\"x\"); } int more(void) { return 1; }";
        let shared = ["-shared", "-fPIC", "-Wl,-soname,libacme.so.1", &map, "-Wl,-rpath,$ORIGIN:/opt/acme"];
        let old = ["-Wl,--disable-new-dtags", "-Wl,-rpath,/opt/acme/lib", "-Wl,--auxiliary=libfast.so"];
        let built = [
            common::gcc(scratch.path(), "program", main, &["-Wl,-rpath,$ORIGIN/../lib"]),
            common::gcc(scratch.path(), "libacme.so", library, &shared),
            common::gcc(scratch.path(), "libold.so", library, &[&old[..], &["-shared", "-fPIC"]].concat()),
        ];
        let mut samples: Vec<Vec<u8>> = built.iter().map(|path| std::fs::read(path).unwrap()).collect();
        let mut bare = samples[1].clone();
        // `e_shoff`, `e_shnum` and `e_shstrndx` of a file of 64 bits.
        bare[40..48].fill(0);
        bare[60..64].fill(0);
        samples.push(bare);
        samples
    })
}

/// Reads bytes as a file of a root.
fn read(bytes: &[u8]) -> Option<Said> {
    let scratch = tempfile::tempdir().unwrap();
    common::write(scratch.path(), "x", bytes);
    let root = DirectoryRoot::open(scratch.path()).unwrap();
    let object = root.object("/x")?;
    let versions = object.versions_needed.iter().map(|wanted| 1 + wanted.versions.len()).sum::<usize>();
    let defined = object.versions_defined.iter().flatten().count();
    let paths = object.rpath.iter().chain(&object.runpath).flatten().count();
    let texts = object.needed.len() + object.filters.len() + paths + versions + defined;
    assert!(texts <= TEXTS_MAX, "{texts} texts of a file of {} bytes", bytes.len());
    Some(of_object(&object))
}

#[test]
fn samples_are_read() {
    for sample in samples() {
        assert_eq!(read(sample), elf::read("x", sample).ok().as_ref().map(of_facts));
    }
    assert_eq!(read(&samples()[1]).unwrap().versions_defined.len(), 2);
    assert_eq!(read(&samples()[2]).unwrap().rpath, ["/opt/acme/lib"]);
}

#[test]
fn every_truncation_is_survived() {
    for sample in samples() {
        for length in (0..sample.len()).step_by(37).chain(0..900) {
            let _said = read(&sample[..length.min(sample.len())]);
        }
    }
}

#[test]
fn loops_and_absurd_counts_end() {
    let sample = &samples()[1];
    let wanted = elf::read("x", sample).unwrap().versions_needed.len();
    assert!(wanted > 0);
    // Every word that is a small step to a next entry, and every count, once as a loop and once as large as it can be.
    for at in (0..sample.len() - 4).step_by(4) {
        let word = u32::from_le_bytes(sample[at..at + 4].try_into().unwrap());
        if (8..=0x40).contains(&word) {
            for absurd in [0_u32, 1, 0xffff_fff0, 0xffff_ffff] {
                let mut bytes = sample.clone();
                bytes[at..at + 4].copy_from_slice(&absurd.to_le_bytes());
                let _said = read(&bytes);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn flipped_bits_are_survived(
        sample in 0_usize..4,
        early in any::<bool>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..8), 1..12),
        cut in proptest::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut bytes = samples()[sample].clone();
        // The headers and the tables of the loader stand in the first pages.
        let span = if early { 4096 } else { bytes.len() };
        flips.iter().for_each(|(at, bit)| bytes[at.index(span)] ^= 1 << bit);
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let _said = read(&bytes);
    }
}
