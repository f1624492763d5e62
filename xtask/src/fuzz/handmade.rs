//! Seeds for which no tool is at hand everywhere: a Windows program without a compiler, and the archive that
//! PyInstaller appends, without PyInstaller.

/// Target, file name, content.
pub(super) fn files() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let archive = pyinstaller();
    let appended = [pe(), archive.clone()].concat();
    vec![
        ("pe", "handmade.exe", pe()),
        ("pe", "pyinstaller.exe", appended),
        ("pyinstaller", "handmade.pkg", archive),
    ]
}

/// Puts a little-endian field of as many bytes as the number has.
macro_rules! put {
    ($bytes:expr, $at:expr, $value:expr) => {{
        let value = $value.to_le_bytes();
        $bytes[$at..$at + value.len()].copy_from_slice(&value);
    }};
}

/// A PE32+ program of one section with one import ("Microsoft PE and COFF Specification", sections 2 to 4).
fn pe() -> Vec<u8> {
    const OPTIONAL: usize = 0x98;
    const TABLE: usize = OPTIONAL + 240;
    let mut bytes = vec![0_u8; 0x400];
    bytes[..2].copy_from_slice(b"MZ");
    put!(bytes, 0x3c, 0x80_u32);
    bytes[0x80..0x84].copy_from_slice(b"PE\0\0");
    put!(bytes, 0x84, 0x8664_u16); // machine
    put!(bytes, 0x86, 1_u16); // sections
    put!(bytes, 0x94, 240_u16); // size of the optional header
    put!(bytes, 0x96, 0x22_u16); // characteristics
    put!(bytes, OPTIONAL, 0x20b_u16);
    put!(bytes, OPTIONAL + 24, 0x1_4000_0000_u64); // image base
    put!(bytes, OPTIONAL + 32, 0x1000_u32); // section alignment
    put!(bytes, OPTIONAL + 36, 0x200_u32); // file alignment
    put!(bytes, OPTIONAL + 56, 0x2000_u32); // size of the image
    put!(bytes, OPTIONAL + 60, 0x200_u32); // size of the headers
    put!(bytes, OPTIONAL + 68, 3_u16); // subsystem
    put!(bytes, OPTIONAL + 108, 16_u32); // data directories
    put!(bytes, OPTIONAL + 120, 0x1000_u32); // imports
    put!(bytes, OPTIONAL + 124, 40_u32);
    bytes[TABLE..TABLE + 8].copy_from_slice(b".rdata\0\0");
    put!(bytes, TABLE + 8, 0x200_u32);
    put!(bytes, TABLE + 12, 0x1000_u32);
    put!(bytes, TABLE + 16, 0x200_u32);
    put!(bytes, TABLE + 20, 0x200_u32);
    put!(bytes, TABLE + 36, 0x4000_0040_u32);
    // One descriptor (lookup table, time, forwarder, name, address table), an empty one, an empty table, the name.
    put!(bytes, 0x200, 0x1028_u32);
    put!(bytes, 0x20c, 0x1040_u32);
    put!(bytes, 0x210, 0x1028_u32);
    bytes[0x240..0x24d].copy_from_slice(b"KERNEL32.dll\0");
    bytes
}

/// A CArchive as PyInstaller 2.1 and later write it: contents, table of contents, cookie. All numbers are big-endian.
fn pyinstaller() -> Vec<u8> {
    const MAGIC: &[u8] = b"MEI\x0c\x0b\x0a\x0b\x0e";
    let mut bytes = Vec::new();
    let mut table = Vec::new();
    // Kinds: `s` script, `b` library, `z` PYZ archive, `x` data, `o` run-time option.
    let contents: [(&[u8], u8, &[u8]); 5] = [
        (b"main", b's', b"print('hello')\n"),
        (b"libfoo.so.1", b'b', b"\x7fELF\x02\x01\x01"),
        (b"PYZ-00.pyz", b'z', b"PYZ\0\xa7\r\r\n\0\0\0\x10\0\0\0\0"),
        (b"data/readme.txt", b'x', b"read me"),
        (b"pyi-runtime-tmpdir /tmp", b'o', b""),
    ];
    for (name, kind, content) in contents {
        let entry = (18 + name.len() + 1).next_multiple_of(16);
        let number = |value: usize| u32::try_from(value).unwrap_or(0).to_be_bytes();
        table.extend(number(entry));
        table.extend(number(bytes.len()));
        table.extend(number(content.len()));
        table.extend(number(content.len()));
        table.extend([0, kind]); // not compressed
        table.extend(name);
        table.resize(table.len() + entry - 18 - name.len(), 0);
        bytes.extend(content);
    }
    let number = |value: usize| u32::try_from(value).unwrap_or(0).to_be_bytes();
    let (start, length) = (bytes.len(), table.len());
    bytes.extend(table);
    let whole = bytes.len() + 88;
    bytes.extend(MAGIC);
    bytes.extend([number(whole), number(start), number(length), number(311)].concat());
    let mut library = b"libpython3.11.so.1.0".to_vec();
    library.resize(64, 0);
    bytes.extend(library);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_ends_the_archive_and_says_its_length() {
        let bytes = pyinstaller();
        let cookie = &bytes[bytes.len() - 88..];
        assert!(cookie.starts_with(b"MEI"));
        assert_eq!(cookie[8..12], u32::try_from(bytes.len()).unwrap().to_be_bytes());
    }
}
