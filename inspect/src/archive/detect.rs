//! What a file is, by what is in it.

use std::fmt;
use std::io::Read;
use std::path::Path;

use super::{Limits, Source, cpio, decompress, iso, zipfile};
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
    /// LZ4 frames.
    Lz4,
    /// LZMA as `lzma` wrote it before xz.
    Lzma,
    /// lzip.
    Lzip,
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
    /// A Java archive: a zip with a `META-INF/MANIFEST.MF`, or named `.jar`.
    Jar,
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
    /// An RPM package.
    Rpm,
    /// A cpio archive in the "new ASCII" form, as in RPM packages and initial RAM disks.
    Cpio(Compression),
    /// A Windows installer database (an OLE compound file).
    Msi,
    /// A 7z archive. Recognised, not unpacked.
    SevenZip,
    /// A Windows cabinet.
    Cabinet,
    /// An ISO 9660 image, with Rock Ridge or Joliet names where it has them.
    Iso,
    /// A squashfs image (version 4), as AppImages and snaps carry it.
    Squashfs,
    /// The description of a Windows driver (`.inf`), known by its name.
    DriverDescription,
    /// What PyInstaller appends to its start program.
    PyInstaller,
    /// A compressed file that holds no archive.
    Compressed(Compression),
    /// Something that is not unpacked.
    Recognised(Recognised),
    /// None of these.
    Unknown,
}

/// What is found behind programs and scripts, and not unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Recognised {
    /// An installer made by the Nullsoft Scriptable Install System.
    Nsis,
    /// An installer made by Inno Setup.
    InnoSetup,
    /// An installer made by InstallShield.
    InstallShield,
    /// Encrypted data.
    Encrypted,
    /// An archive as base64 text.
    Base64,
    /// An archive as uuencoded text.
    Uuencode,
    /// A file compressed with LZO.
    Lzop,
    /// A file compressed with `compress`.
    Compress,
}

impl Recognised {
    /// As [`Format`] displays it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Nsis => "nsis",
            Self::InnoSetup => "inno-setup",
            Self::InstallShield => "installshield",
            Self::Encrypted => "encrypted",
            Self::Base64 => "base64",
            Self::Uuencode => "uuencode",
            Self::Lzop => "lzo",
            Self::Compress => "Z",
        }
    }
}

impl Format {
    /// Whether it is one file rather than an archive of files: a program, a script, an installer. What may be appended to
    /// such a file is an archive of its own.
    #[must_use]
    pub fn is_lone(self) -> bool {
        matches!(
            self,
            Self::Elf | Self::AppImage | Self::Pe | Self::Script | Self::Makeself | Self::DriverDescription
        )
    }
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
            Self::Tar(Compression::Lz4) => "tar.lz4",
            Self::Tar(Compression::Lzma) => "tar.lzma",
            Self::Tar(Compression::Lzip) => "tar.lz",
            Self::Zip => "zip",
            Self::Wheel => "wheel",
            Self::Jar => "jar",
            Self::Directory => "directory",
            Self::Elf => "elf",
            Self::AppImage => "appimage",
            Self::Pe => "pe",
            Self::Script => "script",
            Self::Makeself => "makeself",
            Self::Rpm => "rpm",
            Self::Msi => "msi",
            Self::Cpio(Compression::None) => "cpio",
            Self::Cpio(Compression::Gzip) => "cpio.gz",
            Self::Cpio(Compression::Xz) => "cpio.xz",
            Self::Cpio(Compression::Zstd) => "cpio.zst",
            Self::Cpio(Compression::Bzip2) => "cpio.bz2",
            Self::Cpio(Compression::Lz4) => "cpio.lz4",
            Self::Cpio(Compression::Lzma) => "cpio.lzma",
            Self::Cpio(Compression::Lzip) => "cpio.lz",
            Self::SevenZip => "7z",
            Self::Cabinet => "cab",
            Self::Iso => "iso",
            Self::Squashfs => "squashfs",
            Self::PyInstaller => "pyinstaller",
            Self::DriverDescription => "inf",
            Self::Compressed(Compression::Gzip) => "gz",
            Self::Compressed(Compression::Xz) => "xz",
            Self::Compressed(Compression::Zstd) => "zst",
            Self::Compressed(Compression::Bzip2) => "bz2",
            Self::Compressed(Compression::Lz4) => "lz4",
            Self::Compressed(Compression::Lzma) => "lzma",
            Self::Compressed(Compression::Lzip) => "lz",
            Self::Recognised(what) => what.name(),
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
    if metadata.is_dir() { Ok(Format::Directory) } else { detect_artifact(&mut Source::open(path)?) }
}

/// What an artifact is. Beside its content, its name tells the description of a driver, which is text like any other.
///
/// # Errors
/// As [`detect`].
pub(crate) fn detect_artifact(source: &mut Source<'_>) -> Result<Format, Error> {
    let format = detect_in(source)?;
    let is_inf = || source.name().extension().is_some_and(|ending| ending.eq_ignore_ascii_case("inf"));
    Ok(if format == Format::Unknown && is_inf() { Format::DriverDescription } else { format })
}

/// The same for bytes from anywhere.
///
/// # Errors
/// As [`detect`].
pub fn detect_in(source: &mut Source<'_>) -> Result<Format, Error> {
    let head = source.read_at(0, HEAD)?;
    if let Some(compression) = compression_of(&head) {
        return compressed(source, compression);
    }
    if is_zip(&head) {
        return zipfile::kind(source);
    }
    let format = plain(&head);
    // An ISO 9660 image begins with sixteen sectors of anything, often a boot program.
    if matches!(format, Format::Unknown | Format::Pe) && iso::is_iso(source)? {
        return Ok(Format::Iso);
    }
    Ok(format)
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
        [b'h', b's', b'q', b's', ..] => Format::Squashfs,
        [0x1f, 0x9d, ..] => Format::Recognised(Recognised::Compress),
        [0x89, b'L', b'Z', b'O', 0, b'\r', b'\n', ..] => Format::Recognised(Recognised::Lzop),
        _ if cpio::is_cpio(head) => Format::Cpio(Compression::None),
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
        [0x04, 0x22, 0x4d, 0x18, ..] => Some(Compression::Lz4),
        [b'L', b'Z', b'I', b'P', 0 | 1, ..] => Some(Compression::Lzip),
        _ if is_lzma(head) => Some(Compression::Lzma),
        _ => None,
    }
}

/// The format has no magic: the properties `lzma` always writes, a window that is a power of two, and a length that is
/// unknown or below 256 GiB, which is how `xz` tells it.
fn is_lzma(head: &[u8]) -> bool {
    let (Some(0x5d), Some(window), Some(length)) = (
        head.first(),
        head.get(1..5).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes),
        head.get(5..13).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes),
    ) else {
        return false;
    };
    // The first byte behind the header, which the range coder begins with, is always zero.
    window.is_power_of_two()
        && window >= 1 << 12
        && (length == u64::MAX || length < 1 << 38)
        && head.get(13).is_none_or(|&byte| byte == 0)
}

fn compressed(source: &mut Source<'_>, compression: Compression) -> Result<Format, Error> {
    source.go(0)?;
    let name = source.name().to_owned();
    let stream =
        decompress::reader(source, compression, &Limits::default()).map_err(|e| Error::io(&name, e))?;
    let mut head = Vec::new();
    stream
        .take(512)
        .read_to_end(&mut head)
        .map_err(|e| Error::decoding(&name, "the beginning of the compressed stream", e))?;
    Ok(match () {
        () if is_tar(&head) => Format::Tar(compression),
        () if cpio::is_cpio(&head) => Format::Cpio(compression),
        () => Format::Compressed(compression),
    })
}
