//! What each fuzz target does with its bytes, and what must hold whatever they are.
//!
//! No input may make the library panic, overflow, allocate without bound or hang; names it hands out are clean, and a
//! file has exactly the bytes it was announced with. Panics, the allocator's bound and libFuzzer's time limit end the
//! process, which libFuzzer reports with the input that did it.

pub mod guests;
pub mod mutate;
mod repair;
pub mod units;

// The parsers of hatchway-vm as they are, and not that crate: it stands on hatchway-envs, and a hundred crates would be built with
// coverage for the sake of two files.
#[path = "../../../vm/src/virtualbox/machinereadable.rs"]
pub mod machinereadable;
#[path = "../../../vm/src/plain.rs"]
mod plain;
#[path = "../../../vm/src/qemu_image/qmp/message.rs"]
pub mod qmp;
#[path = "../../../vm/src/uuid.rs"]
pub mod uuid;

use std::alloc::System;
use std::io::Read;
use std::path::Path;
use std::sync::OnceLock;

use cap::Cap;
use hatchway_inspect::archive::{self, Compression, Entry, EntryKind, Format, Limits, Part, Source};
use hatchway_inspect::{Error, Facts, elf as elf_facts};

/// Bytes that one execution may have allocated at a time. Well above all of [`limits`] together.
const MEMORY: usize = 256 << 20;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, MEMORY);

/// Bounds small enough for thousands of executions a second, and large enough that no seed meets one.
fn limits() -> &'static Limits {
    static LIMITS: OnceLock<Limits> = OnceLock::new();
    LIMITS.get_or_init(|| {
        let mut limits = Limits::default();
        limits.entries = 10_000;
        limits.total_bytes = 16 << 20;
        limits.file_bytes = 8 << 20;
        limits.name_memory = 8 << 20;
        limits.control_bytes = 1 << 20;
        limits.object_bytes = 8 << 20;
        limits.facts_bytes = 16 << 20;
        limits.nested_bytes = 4 << 20;
        limits.containers_deep = 3;
        limits.decoder_memory = 16 << 20;
        limits
    })
}

/// The ELF reader alone.
pub fn elf(bytes: &[u8]) {
    if let Ok(facts) = elf_facts::read("fuzz", bytes) {
        assert!(facts.class == 32 || facts.class == 64);
    }
}

/// A kernel module and everything that is taken from an ELF file beside its links. One of odd length is read as if it
/// were too large to be held in memory.
pub fn module(bytes: &[u8]) {
    if bytes.starts_with(b"\x7fELF") {
        let mut limits = limits().clone();
        if bytes.len() % 2 == 1 {
            limits.object_bytes = 1024;
        }
        inspect_within("fuzz.ko", bytes, &limits);
    }
}

/// A Windows program, with what is appended to it.
pub fn pe(bytes: &[u8]) {
    if bytes.starts_with(b"MZ") {
        inspect("fuzz.exe", bytes);
    }
}

/// A script, with what is appended to it.
pub fn script(bytes: &[u8]) {
    if bytes.starts_with(b"#!") {
        inspect("fuzz.run", bytes);
    }
}

/// Anything, taken for what detection says it is.
pub fn any(bytes: &[u8]) {
    let Some(facts) = inspect("fuzz.bin", bytes) else { return };
    let text = serde_json::to_vec(&facts).expect("facts can be written");
    let again: Facts = serde_json::from_slice(&text).expect("facts can be read");
    assert!(again == facts, "facts differ after they were written and read");
}

/// A Debian package.
pub fn deb(bytes: &[u8]) {
    container("fuzz.deb", Format::Deb, bytes);
}

/// A tar archive, compressed or not.
pub fn tar(bytes: &[u8]) {
    container("fuzz.tar", Format::Tar(compression(bytes)), bytes);
}

/// An RPM package.
pub fn rpm(bytes: &[u8]) {
    container("fuzz.rpm", Format::Rpm, bytes);
}

/// A zip archive or wheel.
pub fn zip(bytes: &[u8]) {
    container("fuzz.whl", Format::Wheel, bytes);
}

/// A cpio archive, compressed or not.
pub fn cpio(bytes: &[u8]) {
    container("fuzz.cpio", Format::Cpio(compression(bytes)), bytes);
}

/// An ISO 9660 image.
pub fn iso(bytes: &[u8]) {
    container("fuzz.iso", Format::Iso, bytes);
}

/// A cabinet.
pub fn cab(bytes: &[u8]) {
    container("fuzz.cab", Format::Cabinet, bytes);
}

/// A Windows installer database.
pub fn msi(bytes: &[u8]) {
    container("fuzz.msi", Format::Msi, bytes);
}

/// A squashfs image.
pub fn squashfs(bytes: &[u8]) {
    container("fuzz.squashfs", Format::Squashfs, bytes);
}

/// What PyInstaller appends to its start program.
pub fn pyinstaller(bytes: &[u8]) {
    container("fuzz.pkg", Format::PyInstaller, bytes);
}

/// Walks, and takes the facts where that goes beyond the walk.
fn container(name: &str, format: Format, bytes: &[u8]) {
    let entries = walk(name, format, bytes);
    // These keep their description outside of their files.
    if entries > 0 || matches!(format, Format::Rpm | Format::Msi) {
        inspect(name, bytes);
    }
}

/// Left out is bzip2, whose decoder clears megabytes before it reads anything; the target `any` has it.
fn compression(bytes: &[u8]) -> Compression {
    match bytes {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0xfd, b'7', b'z', ..] => Compression::Xz,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        _ => Compression::None,
    }
}

/// Takes the facts; `None` if there are none to be had.
fn inspect(name: &str, bytes: &[u8]) -> Option<Facts> {
    inspect_within(name, bytes, limits())
}

fn inspect_within(name: &str, bytes: &[u8], limits: &Limits) -> Option<Facts> {
    let facts = hatchway_inspect::inspect_bytes(Path::new(name), bytes, limits).ok()?;
    assert!(facts.artifact.size == bytes.len() as u64);
    assert!(facts.files.bytes <= limits.total_bytes);
    let programs = facts.programs.iter().map(|program| &program.path);
    let objects = facts.elf.iter().map(|object| &object.path);
    for path in programs.chain(objects).chain(facts.contains.iter().map(|contained| &contained.path)) {
        check_name(path.strip_prefix('/').expect("paths in facts are absolute"));
    }
    Some(facts)
}

/// Walks an archive of this format, reads every content, and yields how many entries were handed out.
fn walk(name: &str, format: Format, bytes: &[u8]) -> u64 {
    let limits = limits();
    let (mut entries, mut total) = (0_u64, 0_u64);
    let mut source = Source::bytes(Path::new(name), bytes);
    let visited = archive::walk_in(&mut source, format, limits, &mut |_: Part, entry, content| {
        entries += 1;
        total += check_entry(entry, content)?;
        Ok::<(), Error>(())
    });
    assert!(entries <= limits.entries && total <= limits.total_bytes, "a walk went beyond its limits");
    if let Err(error) = visited {
        assert!(!error.to_string().is_empty());
    }
    entries
}

/// Checks one entry and reads its content; yields the bytes read.
fn check_entry(entry: &Entry, content: &mut dyn Read) -> Result<u64, Error> {
    check_name(entry.path.as_str());
    match &entry.kind {
        EntryKind::Hardlink { target } => check_name(target.as_str()),
        EntryKind::Symlink { target } => assert!(!target.is_empty() && !target.contains('\0')),
        _ => {}
    }
    let declared = if let EntryKind::File { size } = entry.kind { size } else { 0 };
    let mut read = 0;
    let mut buffer = [0_u8; 16 << 10];
    loop {
        match content.read(&mut buffer) {
            Ok(0) => break,
            Ok(got) => read += got as u64,
            Err(source) => return Err(Error::Io { archive: "content".into(), source }),
        }
    }
    assert!(read == declared, "{read} bytes of content where {declared} were declared");
    Ok(read)
}

/// A name that cannot lead an unpacker outside of its target.
fn check_name(name: &str) {
    assert!(!name.starts_with('/') && !name.ends_with('/') && !name.contains(char::is_control));
    // The root of an archive is the empty name.
    assert!(name.is_empty() || name.split('/').all(|part| !matches!(part, "" | "." | "..")));
}
