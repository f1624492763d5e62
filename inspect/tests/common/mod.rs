//! Archives and programs made on the spot.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
#![allow(unreachable_pub, reason = "a module of test binaries, which have no public interface")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use hatchway_inspect::Error;
use hatchway_inspect::archive::{self, Entry, EntryKind, Limits, Part};

/// What a walk saw.
pub type Seen = Vec<(Part, Entry, Vec<u8>)>;

pub fn walk(path: &Path) -> Result<Seen, Error> {
    walk_within(path, &Limits::default())
}

pub fn walk_within(path: &Path, limits: &Limits) -> Result<Seen, Error> {
    let mut seen = Seen::new();
    archive::walk(path, limits, &mut |part, entry, content| {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes).map_err(|source| Error::Io { archive: "reader".into(), source })?;
        if let EntryKind::File { size } = entry.kind {
            assert_eq!(bytes.len() as u64, size, "{}", entry.path);
        }
        seen.push((part, entry.clone(), bytes));
        Ok::<(), Error>(())
    })?;
    Ok(seen)
}

pub fn names(seen: &Seen) -> Vec<String> {
    seen.iter().map(|(_, entry, _)| entry.path.to_string()).collect()
}

/// A tar in the making, through the writer of the `tar` crate but with headers as wrong as one likes.
pub struct Tar(pub tar::Builder<Vec<u8>>);

impl Tar {
    pub fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    pub fn raw(mut self, kind: u8, name: &[u8], link: &[u8], mode: u32, content: &[u8]) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(content.len() as u64);
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name);
        old.linkname[..link.len()].copy_from_slice(link);
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    pub fn file(self, name: &str, mode: u32, content: &[u8]) -> Self {
        self.raw(b'0', name.as_bytes(), b"", mode, content)
    }

    pub fn dir(self, name: &str) -> Self {
        self.raw(b'5', name.as_bytes(), b"", 0o755, b"")
    }

    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.raw(b'2', name.as_bytes(), target.as_bytes(), 0o777, b"")
    }

    pub fn hardlink(self, name: &str, target: &str) -> Self {
        self.raw(b'1', name.as_bytes(), target.as_bytes(), 0o644, b"")
    }

    pub fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 1).unwrap()
}

pub fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An ar archive of the given members.
pub fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = ar::Builder::new(Vec::new());
    for (name, content) in members {
        let header = ar::Header::new(name.as_bytes().to_vec(), content.len() as u64);
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

pub const CONTROL: &str = "Package: acme-scope\nVersion: 1.2-3\nArchitecture: amd64\nMaintainer: Acme <a@example.org>\n\
    Depends: libc6 (>= 2.14),\n libusb-1.0-0\nSection: misc\nDescription: scope driver\n for scopes\n";

pub fn deb(control: Tar, data: Tar) -> Vec<u8> {
    ar(&[
        ("debian-binary", b"2.0\n"),
        ("control.tar.xz", &xz(&control.bytes())),
        ("data.tar.zst", &zstd(&data.bytes())),
    ])
}

pub fn write(directory: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = directory.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Compiles a C source with gcc and returns the path of the result.
pub fn gcc(directory: &Path, output: &str, source: &str, arguments: &[&str]) -> PathBuf {
    let path = directory.join(output);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let input = directory.join(format!("{}.c", output.replace('/', "_")));
    std::fs::write(&input, source).unwrap();
    let run = Command::new("gcc").arg("-o").arg(&path).arg(&input).args(arguments).output();
    let run = run.expect(
        "these tests compile small programs: gcc must be installed (Debian: apt-get install gcc libc6-dev)",
    );
    assert!(run.status.success(), "gcc {output}: {}", String::from_utf8_lossy(&run.stderr));
    path
}

/// A Windows program of one section with nothing in it but an import table.
pub fn pe(subsystem: u16, library: bool, imports: &[&str]) -> Vec<u8> {
    const HEADERS: usize = 0x400;
    const ADDRESS: u32 = 0x1000;
    let mut section = vec![0_u8; 20 * (imports.len() + 1) + 16];
    let lookup = u32::try_from(section.len() - 16).unwrap();
    for (index, name) in imports.iter().enumerate() {
        let at = u32::try_from(section.len()).unwrap();
        section.extend_from_slice(name.as_bytes());
        section.push(0);
        let entry = &mut section[index * 20..index * 20 + 20];
        // Lookup table, time stamp, forwarder chain, name, address table: both tables are empty.
        let fields = [ADDRESS + lookup, 0, 0, ADDRESS + at, ADDRESS + lookup];
        for (slot, field) in entry.chunks_exact_mut(4).zip(fields) {
            slot.copy_from_slice(&field.to_le_bytes());
        }
    }
    section.resize(0x400, 0);
    let mut bytes = vec![0_u8; HEADERS];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, b"MZ");
    put(0x3c, &0x80_u32.to_le_bytes());
    put(0x80, b"PE\0\0");
    put(0x84, &0x8664_u16.to_le_bytes());
    put(0x86, &1_u16.to_le_bytes()); // sections
    put(0x94, &240_u16.to_le_bytes()); // size of the optional header
    put(0x96, &(0x22_u16 | if library { 0x2000 } else { 0 }).to_le_bytes());
    put(0x98, &0x20b_u16.to_le_bytes()); // PE32+
    put(0x98 + 24, &0x1_4000_0000_u64.to_le_bytes()); // image base
    put(0x98 + 32, &0x1000_u32.to_le_bytes()); // section alignment
    put(0x98 + 36, &0x200_u32.to_le_bytes()); // file alignment
    put(0x98 + 56, &0x2000_u32.to_le_bytes()); // size of the image
    put(0x98 + 60, &0x400_u32.to_le_bytes()); // size of the headers
    put(0x98 + 68, &subsystem.to_le_bytes());
    put(0x98 + 108, &16_u32.to_le_bytes()); // data directories
    put(0x98 + 120, &ADDRESS.to_le_bytes()); // the second: imports
    put(0x98 + 124, &lookup.to_le_bytes());
    let table = 0x98 + 240;
    put(table, b".rdata\0\0");
    put(table + 8, &0x400_u32.to_le_bytes());
    put(table + 12, &ADDRESS.to_le_bytes());
    put(table + 16, &0x400_u32.to_le_bytes());
    put(table + 20, &0x400_u32.to_le_bytes());
    put(table + 36, &0x4000_0040_u32.to_le_bytes());
    bytes.extend_from_slice(&section);
    bytes
}
