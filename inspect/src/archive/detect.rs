//! What a file is, by what is in it.

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::{Limits, decompress, zipfile};
use crate::Error;

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// xz.
    Xz,
    /// Zstandard.
    Zstd,
    /// bzip2.
    Bzip2,
}

/// The formats [`detect`] knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// A Debian binary package.
    Deb,
    /// A tar archive.
    Tar(Compression),
    /// A zip archive.
    Zip,
    /// A Python wheel: a zip with a `.dist-info/WHEEL`, or named `.whl`.
    Wheel,
    /// A directory.
    Directory,
    /// A lone ELF file.
    Elf,
    /// An ELF file with a file system appended, marked as an AppImage.
    AppImage,
    /// A Windows program or driver.
    Pe,
    /// A file that begins with `#!`.
    Script,
    /// A self-extracting shell archive made by makeself.
    Makeself,
    /// An RPM package. Recognised, not unpacked.
    Rpm,
    /// A Windows installer database (OLE compound file). Recognised, not unpacked.
    Msi,
    /// A 7z archive. Recognised, not unpacked.
    SevenZip,
    /// A Windows cabinet. Recognised, not unpacked.
    Cabinet,
    /// A compressed file that holds no tar archive. Recognised, not unpacked.
    Compressed(Compression),
    /// None of these.
    Unknown,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deb => "deb",
            Self::Tar(Compression::None) => "tar",
            Self::Tar(Compression::Gzip) => "tar.gz",
            Self::Tar(Compression::Xz) => "tar.xz",
            Self::Tar(Compression::Zstd) => "tar.zst",
            Self::Tar(Compression::Bzip2) => "tar.bz2",
            Self::Zip => "zip",
            Self::Wheel => "wheel",
            Self::Directory => "directory",
            Self::Elf => "elf",
            Self::AppImage => "appimage",
            Self::Pe => "pe",
            Self::Script => "script",
            Self::Makeself => "makeself",
            Self::Rpm => "rpm",
            Self::Msi => "msi",
            Self::SevenZip => "7z",
            Self::Cabinet => "cab",
            Self::Compressed(Compression::Gzip) => "gz",
            Self::Compressed(Compression::Xz) => "xz",
            Self::Compressed(Compression::Zstd) => "zst",
            Self::Compressed(Compression::Bzip2) => "bz2",
            Self::Compressed(Compression::None) | Self::Unknown => "unknown",
        })
    }
}

/// Enough for a tar header and for the comment by which makeself scripts name themselves.
const HEAD: usize = 1024;

/// Finds out what the file or directory at `path` is, by content; only a wheel may also be known by its name.
///
/// # Errors
/// When it cannot be read, or when it is compressed and ends within the first block.
pub fn detect(path: &Path) -> Result<Format, Error> {
    let metadata = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
    if metadata.is_dir() {
        return Ok(Format::Directory);
    }
    if !metadata.is_file() {
        return Err(Error::unsupported(path, "it is neither a regular file nor a directory"));
    }
    let mut file = File::open(path).map_err(|e| Error::io(path, e))?;
    let head = read_head(&mut file).map_err(|e| Error::io(path, e))?;
    if let Some(compression) = compression_of(&head) {
        return compressed(path, file, compression);
    }
    if is_zip(&head) {
        return zipfile::kind(path, file);
    }
    Ok(plain(&head))
}

fn plain(head: &[u8]) -> Format {
    match head {
        [b'!', b'<', b'a', b'r', b'c', b'h', b'>', b'\n', rest @ ..]
            if rest.starts_with(b"debian-binary") =>
        {
            Format::Deb
        }
        [0x7f, b'E', b'L', b'F', ..] => elf_kind(head),
        [b'M', b'Z', ..] => Format::Pe,
        [b'#', b'!', ..] => script_kind(head),
        [0xed, 0xab, 0xee, 0xdb, ..] => Format::Rpm,
        [0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1, ..] => Format::Msi,
        [b'7', b'z', 0xbc, 0xaf, 0x27, 0x1c, ..] => Format::SevenZip,
        [b'M', b'S', b'C', b'F', ..] => Format::Cabinet,
        _ if is_tar(head) => Format::Tar(Compression::None),
        _ => Format::Unknown,
    }
}

fn elf_kind(head: &[u8]) -> Format {
    // Bytes 8 to 10 of e_ident are padding in ELF and "AI" plus the type in an AppImage.
    if head.get(8..10) == Some(b"AI") { Format::AppImage } else { Format::Elf }
}

fn script_kind(head: &[u8]) -> Format {
    if memchr::memmem::find(head, b"Makeself").is_some() { Format::Makeself } else { Format::Script }
}

fn is_zip(head: &[u8]) -> bool {
    head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06")
}

/// Whether a block is a tar header: its checksum is right, which random bytes do not achieve.
pub(crate) fn is_tar(head: &[u8]) -> bool {
    let Some(block) = head.get(..512) else { return false };
    if block.iter().all(|&byte| byte == 0) {
        return false;
    }
    super::tarball::checksum_matches(block)
}

pub(crate) fn compression_of(head: &[u8]) -> Option<Compression> {
    match head {
        [0x1f, 0x8b, ..] => Some(Compression::Gzip),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Compression::Xz),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Compression::Zstd),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Some(Compression::Bzip2),
        _ => None,
    }
}

fn compressed(path: &Path, mut file: File, compression: Compression) -> Result<Format, Error> {
    file.seek(SeekFrom::Start(0)).map_err(|e| Error::io(path, e))?;
    let stream = decompress::reader(file, compression, &Limits::default()).map_err(|e| Error::io(path, e))?;
    let mut head = Vec::new();
    stream
        .take(512)
        .read_to_end(&mut head)
        .map_err(|e| Error::decoding(path, "the beginning of the compressed stream", e))?;
    Ok(if is_tar(&head) { Format::Tar(compression) } else { Format::Compressed(compression) })
}

fn read_head(file: &mut File) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD);
    file.take(HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}
