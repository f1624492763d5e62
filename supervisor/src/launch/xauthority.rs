//! The file of X cookies (the format of `libXau`, `Xau(3)`): records of a family, an address, a display number, a name
//! and data, each but the first with a length of two bytes, most significant first.

use std::path::Path;

use crate::error::Error;

/// The only kind of cookie that everybody has.
const COOKIE: &str = "MIT-MAGIC-COOKIE-1";
/// Any host, whatever it is called inside.
const ANY_HOST: u16 = 0xffff;
/// A host by its name, over a local socket.
const LOCAL: u16 = 256;
/// No honest file is larger.
const SIZE_MAX: u64 = 1 << 20;

/// A file with one cookie that holds for a display number on a host of any name.
pub(super) fn file(number: u32, cookie: &[u8]) -> Vec<u8> {
    let mut file = ANY_HOST.to_be_bytes().to_vec();
    for field in [&b""[..], number.to_string().as_bytes(), COOKIE.as_bytes(), cookie] {
        file.extend(u16::try_from(field.len()).unwrap_or_default().to_be_bytes());
        file.extend(field);
    }
    file
}

/// The cookie for a display of this host, if the file has one.
///
/// # Errors
/// When the file is there and cannot be read.
pub(super) fn cookie(path: &Path, number: u32) -> Result<Option<Vec<u8>>, Error> {
    use std::io::Read;
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::io("read", path)(source)),
    };
    let mut bytes = Vec::new();
    file.take(SIZE_MAX).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    let host = rustix::system::uname().nodename().to_bytes().to_vec();
    Ok(choose(&bytes, number, &host))
}

fn choose(mut bytes: &[u8], number: u32, host: &[u8]) -> Option<Vec<u8>> {
    let mut second = None;
    while let Some((record, rest)) = record(bytes) {
        bytes = rest;
        let (family, [address, display, name, data]) = record;
        let this = display.is_empty() || display == number.to_string().as_bytes();
        if name != COOKIE.as_bytes() || !this {
            continue;
        }
        match family {
            LOCAL if address == host => return Some(data.to_vec()),
            // The host has been renamed since, or the record is for every host.
            LOCAL | ANY_HOST => second = second.or_else(|| Some(data.to_vec())),
            _ => {}
        }
    }
    second
}

type Record<'a> = (u16, [&'a [u8]; 4]);

fn record(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let (family, mut rest) = number(bytes)?;
    let mut fields = [&bytes[..0]; 4];
    for field in &mut fields {
        let (length, after) = number(rest)?;
        *field = after.get(..usize::from(length))?;
        rest = &after[usize::from(length)..];
    }
    Some(((family, fields), rest))
}

fn number(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (two, rest) = bytes.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*two), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(family: u16, address: &str, display: &str, name: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = family.to_be_bytes().to_vec();
        for field in [address.as_bytes(), display.as_bytes(), name.as_bytes(), data] {
            bytes.extend(u16::try_from(field.len()).unwrap().to_be_bytes());
            bytes.extend(field);
        }
        bytes
    }

    #[test]
    fn what_is_written_is_read_again() {
        assert_eq!(
            choose(&file(7, b"0123456789abcdef"), 7, b"any").as_deref(),
            Some(&b"0123456789abcdef"[..])
        );
        assert_eq!(choose(&file(7, b"x"), 8, b"any"), None);
    }

    #[test]
    fn this_hosts_own_record_is_taken_before_others() {
        let bytes = [
            entry(0, "\u{7f}\0\0\u{1}", "1", COOKIE, b"internet"),
            entry(LOCAL, "other", "1", COOKIE, b"other"),
            entry(LOCAL, "this", "1", "XDM-AUTHORIZATION-1", b"wrong kind"),
            entry(LOCAL, "this", "1", COOKIE, b"right"),
        ]
        .concat();
        assert_eq!(choose(&bytes, 1, b"this").as_deref(), Some(&b"right"[..]));
        assert_eq!(choose(&bytes, 1, b"renamed").as_deref(), Some(&b"other"[..]));
        assert_eq!(choose(&bytes, 2, b"this"), None);
    }

    #[test]
    fn a_cut_file_ends_where_it_is_cut() {
        let whole = [entry(LOCAL, "a", "0", COOKIE, b"one"), entry(LOCAL, "b", "0", COOKIE, b"two")].concat();
        for length in 0..whole.len() {
            assert_ne!(choose(&whole[..length], 0, b"b").as_deref(), Some(&b"two"[..]), "{length}");
        }
    }
}
