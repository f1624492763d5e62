//! The header of makeself archives, versions 2.x (`makeself-header.sh`).
//!
//! It is a shell script with variables: `filesizes` holds the sizes of the archives behind it, and the lines of the script
//! are the value of `skip` (since 2.4.2) or the number in `head -n 532 "$0" | wc -c` before.

use memchr::memmem;

use super::{Payload, encoded, magic};
use crate::Error;
use crate::archive::{Format, Recognised, Source};

/// Archives in one file: makeself writes one, other tools that copy its header write a few.
const ARCHIVES: usize = 64;
/// Lines in which the variables are looked for.
const LINES: usize = 4096;

/// What the header says.
#[derive(Debug, PartialEq, Eq)]
struct Header {
    sizes: Vec<u64>,
    /// Lines of the script.
    lines: Option<u64>,
    encrypted: bool,
}

/// The archives of a makeself file that begins with `text`; `None` if it is none.
pub(super) fn payloads(source: &mut Source<'_>, text: &[u8]) -> Result<Option<Vec<Payload>>, Error> {
    let Some(header) = header(text) else { return Ok(None) };
    let in_all = header.sizes.iter().fold(0_u64, |sum, size| sum.saturating_add(*size));
    let begin = header.lines.and_then(|lines| after_lines(text, lines));
    let Some(mut offset) = begin.or_else(|| source.len().checked_sub(in_all)) else { return Ok(None) };
    let mut found = Vec::new();
    for size in header.sizes {
        let size = size.min(source.len().saturating_sub(offset));
        if size > 0 {
            let head = source.read_at(offset, magic::HEAD)?;
            let format = match magic::claim(&head) {
                Some(claim) => magic::format_at(source, offset, size, claim),
                None if header.encrypted => Format::Recognised(Recognised::Encrypted),
                None if encoded::is_base64(&head) => Format::Recognised(Recognised::Base64),
                None => Format::Unknown,
            };
            found.push(Payload { offset, size, format });
        }
        offset = offset.saturating_add(size);
    }
    Ok(Some(found))
}

fn header(text: &[u8]) -> Option<Header> {
    let (mut sizes, mut lines, mut encrypted) = (Vec::new(), None, false);
    for line in text.split(|&byte| byte == b'\n').take(LINES) {
        if let Some(value) = value(line, b"filesizes=") {
            sizes = numbers(value);
        } else if let Some(value) = value(line, b"skip=") {
            lines = lines.or_else(|| numbers(value).first().copied());
        } else if let Some(value) = value(line, b"decrypt_cmd=") {
            encrypted |= !value.is_empty();
        } else if let Some(rest) = line.strip_prefix(b"offset=`head -n ") {
            lines = lines.or_else(|| numbers(rest.split(|&byte| byte == b' ').next()?).first().copied());
        }
        // Before `decrypt_cmd` (2.4.0) the command stood where the archive is unpacked.
        encrypted |= [&b"openssl enc -d"[..], b"openssl aes-256-cbc -d", b"gpg -d |"]
            .iter()
            .any(|command| memmem::find(line, command).is_some());
        if lines.is_some_and(|lines| lines <= 1) {
            return None;
        }
    }
    (!sizes.is_empty()).then_some(Header { sizes, lines, encrypted })
}

/// The value of `script`, which the header runs in the folder it unpacks: `./setup.sh`. Its arguments are in another variable.
pub(super) fn startup(text: &[u8]) -> Option<String> {
    header(text)?;
    let line = text.split(|&byte| byte == b'\n').take(LINES).find_map(|line| value(line, b"script="))?;
    let path = std::str::from_utf8(line).ok()?.split(' ').next()?;
    let path = path.strip_prefix("./").unwrap_or(path);
    (!path.is_empty() && !path.starts_with('/')).then(|| format!("/{path}"))
}

/// The value of a variable, without the quotes around it.
fn value<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    let value = line.strip_prefix(name)?;
    Some(value.strip_prefix(b"\"").map_or(value, |value| value.strip_suffix(b"\"").unwrap_or(value)))
}

fn numbers(value: &[u8]) -> Vec<u64> {
    let words = value.split(|&byte| byte == b' ').take(ARCHIVES);
    words.filter_map(|word| std::str::from_utf8(word).ok()?.parse().ok()).collect()
}

/// The position behind so many lines.
fn after_lines(text: &[u8], lines: u64) -> Option<u64> {
    let last = usize::try_from(lines.checked_sub(1)?).ok()?;
    Some(memchr::memchr_iter(b'\n', text).nth(last)? as u64 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_several_versions() {
        let old = b"#!/bin/sh\nfilesizes=\"12 30\"\noffset=`head -n 402 \"$0\" | wc -c | tr -d \" \"`\n";
        assert_eq!(header(old), Some(Header { sizes: vec![12, 30], lines: Some(402), encrypted: false }));
        let new = b"#!/bin/sh\nfilesizes=\"7\"\ndecrypt_cmd=\"openssl x\"\nskip=\"715\"\noffset=`head -n \"$skip\" \"$1\"`\n";
        assert_eq!(header(new), Some(Header { sizes: vec![7], lines: Some(715), encrypted: true }));
        assert_eq!(header(b"#!/bin/sh\nskip=3\n"), None);
        let script = b"#!/bin/sh\nfilesizes=\"7\"\nscript=\"./bin/setup.sh\"\nskip=\"715\"\n";
        assert_eq!(startup(script).as_deref(), Some("/bin/setup.sh"));
        assert_eq!(startup(b"#!/bin/sh\nscript=\"./setup.sh\"\n"), None);
        assert_eq!(after_lines(b"a\nb\nc", 2), Some(4));
        assert_eq!(after_lines(b"a\nb\nc", 3), None);
        assert_eq!(after_lines(b"a\n", 0), None);
    }

    #[test]
    fn absurd_sizes_are_cut() {
        let text = format!("#!/bin/sh\nfilesizes=\"{0} {0}\"\nskip=3\nPK\x03\x04", u64::MAX);
        let source = &mut Source::bytes(std::path::Path::new("x"), text.as_bytes());
        let found = payloads(source, text.as_bytes()).unwrap().unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].size, found[0].format), (4, Format::Zip));
    }
}
