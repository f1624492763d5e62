//! Inputs that fuzzing found to break something, each read again.
//!
//! The files lie in `regressions`, named `<fuzz target>-<what>.bin`, minimised. A file that breaks something again
//! panics, hangs, or fails one of the checks here; whether it is refused or read is not what these tests are about.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use hatchway_inspect::archive::{self, Compression, EntryKind, Format, Limits, Source};
use hatchway_inspect::{Error, inspect_bytes};

/// Bytes of one file: what is larger has not been minimised.
const BYTES_MAX: usize = 4096;

/// File and what it once did.
const FOUND: &[(&str, &str)] = &[(
    "module-sections-beyond-the-end.bin",
    "a length below zero, when an ELF file too large for memory has its section headers beyond its end",
)];

/// Formats whose walk a file is put through whatever it is: detection would keep most of them away from it.
const FORMATS: &[Format] = &[
    Format::Deb,
    Format::Rpm,
    Format::Tar(Compression::None),
    Format::Tar(Compression::Gzip),
    Format::Tar(Compression::Xz),
    Format::Tar(Compression::Zstd),
    Format::Tar(Compression::Bzip2),
    Format::Cpio(Compression::None),
    Format::Zip,
    Format::Wheel,
    Format::Msi,
    Format::Cabinet,
    Format::Iso,
    Format::Squashfs,
    Format::PyInstaller,
    Format::Pe,
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/regressions")
}

/// The file as the beginning of one that is too large to be held in memory: longer than the first piece that is read.
fn inspect_as_large(bytes: &[u8], name: &str) {
    let mut limits = limits();
    limits.object_bytes = 1024;
    let large = [bytes, &[0; 4097]].concat();
    if let Ok(facts) = inspect_bytes(Path::new("regression.ko"), &large, &limits) {
        assert!(facts.elf.iter().all(|elf| elf.partial), "{name}");
    }
}

/// The bounds of the fuzz targets: a file that asks for gigabytes must not get them.
fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.entries = 10_000;
    limits.total_bytes = 16 << 20;
    limits.file_bytes = 8 << 20;
    limits.nested_bytes = 4 << 20;
    limits.decoder_memory = 16 << 20;
    limits
}

fn walk(bytes: &[u8], format: Format) {
    let limits = limits();
    let mut total = 0;
    let mut source = Source::bytes(Path::new("regression"), bytes);
    let walked = archive::walk_in(&mut source, format, &limits, &mut |_, entry, content| {
        assert!(entry.path.components().all(|part| !matches!(part, "." | "..")), "{}", entry.path);
        let read = std::io::copy(content, &mut std::io::sink())
            .map_err(|source| Error::Io { archive: "content".into(), source })?;
        let declared = if let EntryKind::File { size } = entry.kind { size } else { 0 };
        assert_eq!(read, declared, "{}", entry.path);
        total += read;
        Ok::<(), Error>(())
    });
    assert!(total <= limits.total_bytes);
    if let Err(error) = walked {
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn every_finding_stays_mended() {
    for (name, what) in FOUND {
        let bytes = std::fs::read(folder().join(name)).unwrap_or_else(|e| panic!("{name} ({what}): {e}"));
        for extension in ["bin", "ko", "whl", "run"] {
            let facts = inspect_bytes(&Path::new("regression").with_extension(extension), &bytes, &limits());
            if let Ok(facts) = facts {
                assert_eq!(facts.artifact.size, bytes.len() as u64, "{name}: {what}");
            }
        }
        inspect_as_large(&bytes, name);
        for format in FORMATS {
            walk(&bytes, *format);
        }
    }
}

#[test]
fn every_file_is_described_and_small() {
    let described: BTreeSet<&str> = FOUND.iter().map(|(name, _)| *name).collect();
    assert_eq!(described.len(), FOUND.len(), "a file is described twice");
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder()).into_iter().flatten() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        assert!(entry.metadata().unwrap().len() <= BYTES_MAX as u64, "{name} has not been minimised");
        found.insert(name);
    }
    assert_eq!(found.iter().map(String::as_str).collect::<BTreeSet<_>>(), described);
}

#[test]
fn the_checks_see_a_whole_archive() {
    // What the walk above does with a file that is in order, so that it cannot pass by refusing everything.
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(3);
    header.set_mode(0o644);
    builder.append_data(&mut header, "a", &b"abc"[..]).unwrap();
    let bytes = builder.into_inner().unwrap();
    walk(&bytes, Format::Tar(Compression::None));
    assert_eq!(inspect_bytes(Path::new("a.tar"), &bytes, &limits()).unwrap().files.files, 1);
}
