//! What begins at a place, by its first bytes.

use crate::archive::{self, Compression, Format, Recognised, Source};

/// Bytes that [`claim`] looks at: a tar header.
pub(super) const HEAD: usize = 512;

/// `firstheader` of NSIS (`Source/exehead/fileform.h`): flags, then this.
pub(super) const NSIS: &[u8; 16] = b"\xef\xbe\xad\xdeNullsoftInst";
/// `SetupID` of Inno Setup (`Projects/Src/Shared.Struct.pas`): this, a version and a parenthesis.
pub(super) const INNO_DATA: &[u8] = b"Inno Setup Setup Data (";
/// The compressed Setup program of Inno Setup, then its compressed data (`idska32` since 1.3, `zlb` of data slices).
const INNO_HEADS: [&[u8]; 2] = [b"idska32\x1a", b"zlb\x1a"];
/// The first bytes of the streams that InstallShield appends.
pub(super) const INSTALL_SHIELD: &[u8] = b"ISSetupStream";
/// What `openssl enc` writes first.
const OPENSSL: &[u8] = b"Salted__";

/// What the first bytes at a place claim to be. Most claims are checked by [`format_at`].
pub(super) fn claim(head: &[u8]) -> Option<Format> {
    let begins = |magic: &[u8]| head.starts_with(magic);
    let compression = archive::compression_of(head).filter(|compression| match compression {
        // The method is always deflate, three flags are reserved (RFC 1952, 2.3.1).
        Compression::Gzip => head.get(2) == Some(&8) && head.get(3).is_some_and(|flags| flags & 0xe0 == 0),
        // A block begins with the digits of pi.
        Compression::Bzip2 => head.get(4..10) == Some(b"1AY&SY"),
        // It has no magic: among the bytes of a program too much looks like it.
        Compression::Lzma => false,
        _ => true,
    });
    Some(match head.first()? {
        _ if compression.is_some() => Format::Compressed(compression?),
        b'P' if begins(b"PK\x03\x04") || begins(b"PK\x05\x06") => Format::Zip,
        b'h' if archive::squashfs_size(head).is_some() => Format::Squashfs,
        b'7' if begins(b"7z\xbc\xaf\x27\x1c\0") => Format::SevenZip,
        // Four reserved bytes follow the signature.
        b'M' if begins(b"MSCF\0\0\0\0") => Format::Cabinet,
        b'M' if begins(b"MZ") && is_pe(head) => Format::Pe,
        0x7f if begins(b"\x7fELF") => Format::Elf,
        0xd0 if begins(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1") => Format::Msi,
        0xed if begins(b"\xed\xab\xee\xdb") => Format::Rpm,
        b'!' if begins(b"!<arch>\ndebian-binary") => Format::Deb,
        b'0' if is_new_cpio(head) => Format::Cpio(Compression::None),
        b'I' if begins(INNO_DATA) => Format::Recognised(Recognised::InnoSetup),
        b'I' if begins(INSTALL_SHIELD) => Format::Recognised(Recognised::InstallShield),
        b'S' if begins(OPENSSL) => Format::Recognised(Recognised::Encrypted),
        0x89 if begins(b"\x89LZO\0\r\n\x1a\n") => Format::Recognised(Recognised::Lzop),
        0x1f if begins(b"\x1f\x9d") => Format::Recognised(Recognised::Compress),
        _ if head.get(4..20) == Some(NSIS) => Format::Recognised(Recognised::Nsis),
        _ if INNO_HEADS.iter().any(|magic| begins(magic)) => Format::Recognised(Recognised::InnoSetup),
        _ if head.get(257..262) == Some(b"ustar") && archive::is_tar(head) => Format::Tar(Compression::None),
        _ => return None,
    })
}

/// The name of what begins with `head`, for a list: `data` if it is none of what is known.
pub(crate) fn name_of(head: &[u8]) -> &'static str {
    claim(head).map_or("data", |format| match format {
        Format::Zip => "zip",
        Format::Squashfs => "squashfs",
        Format::SevenZip => "7z",
        Format::Cabinet => "cab",
        Format::Pe => "pe",
        Format::Elf => "elf",
        Format::Msi => "msi",
        Format::Rpm => "rpm",
        Format::Deb => "deb",
        Format::Cpio(_) => "cpio",
        Format::Tar(_) => "tar",
        Format::Compressed(Compression::Gzip) => "gz",
        Format::Compressed(Compression::Xz) => "xz",
        Format::Compressed(Compression::Zstd) => "zst",
        Format::Compressed(Compression::Bzip2) => "bz2",
        Format::Compressed(Compression::Lz4) => "lz4",
        Format::Compressed(Compression::Lzip) => "lz",
        Format::Recognised(what) => what.name(),
        _ => "data",
    })
}

/// What is in `size` bytes at `offset`: the claim of its first bytes, looked at more closely.
///
/// What is damaged keeps the name it claims, so that opening it says what is wrong with it.
pub(super) fn format_at(source: &mut Source<'_>, offset: u64, size: u64, claim: Format) -> Format {
    if matches!(claim, Format::Recognised(_)) {
        return claim;
    }
    match archive::detect_in(&mut source.window(offset, size)) {
        Ok(Format::Unknown) | Err(_) => claim,
        Ok(format) => format,
    }
}

/// Whether the header of a DOS program points to that of a Windows program, which may lie behind `head`.
fn is_pe(head: &[u8]) -> bool {
    let Some(at) = head.get(0x3c..0x40).and_then(|bytes| bytes.try_into().ok()) else { return false };
    let at = u32::from_le_bytes(at) as usize;
    match head.get(at..) {
        Some(rest) if rest.len() >= 4 => rest.starts_with(b"PE\0\0"),
        _ => (0x40..0x1000).contains(&at),
    }
}

/// Whether a "new ASCII" cpio header is one: thirteen numbers of eight hexadecimal digits follow its magic.
fn is_new_cpio(head: &[u8]) -> bool {
    (head.starts_with(b"070701") || head.starts_with(b"070702"))
        && head.get(6..110).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_have_names() {
        for (head, name) in [
            (&b""[..], "data"),
            (b"hsqs", "data"),
            (b"PK\x03\x04", "zip"),
            (b"\x1f\x8b\x08\0", "gz"),
            (b"\x1f\x8b\x08\xff", "data"),
            (b"BZh91AY&SYxx", "bz2"),
            (b"BZh9 is how bzip2 begins", "data"),
            (b"7z\xbc\xaf\x27\x1c\0\x04", "7z"),
            (b"MZ and nothing", "data"),
            (b"0707010", "data"),
            (b"\0\0\0\0\xef\xbe\xad\xdeNullsoftInst", "nsis"),
            (b"zlb\x1a", "inno-setup"),
            (b"Salted__", "encrypted"),
        ] {
            assert_eq!(name_of(head), name, "{head:?}");
        }
    }
}
