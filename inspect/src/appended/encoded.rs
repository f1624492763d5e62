//! Archives spelled as text at the end of a script.

use super::magic;

/// Lines of equal length that are taken for an encoded archive rather than for text.
const LINES: usize = 4;

/// Whether `text`, which is known to be an archive's beginning, is spelled in base64.
pub(super) fn is_base64(text: &[u8]) -> bool {
    text.len() >= 4 && text.split(|&byte| byte == b'\n').all(is_digits)
}

/// Where a base64 text begins that unpacks to something known: many lines of the same length.
pub(super) fn base64_in(text: &[u8]) -> Option<usize> {
    let (mut at, mut begin, mut width, mut run) = (0, 0, 0, 0);
    for line in text.split(|&byte| byte == b'\n') {
        if (60..=76).contains(&line.len()) && line.len() % 4 == 0 && is_digits(line) {
            if run == 0 || line.len() != width {
                (begin, width, run) = (at, line.len(), 0);
            }
            run += 1;
            // Certificates have such lines, too; they unpack to nothing that is known.
            if run == LINES && magic::claim(&decoded(text.get(begin..)?)).is_some() {
                return Some(begin);
            }
        } else {
            run = 0;
        }
        at += line.len() + 1;
    }
    None
}

/// Where a uuencoded text begins, and whether its digits are those of base64: `begin 644 name` or `begin-base64 644 name`.
pub(super) fn uuencoded_in(text: &[u8]) -> Option<(usize, bool)> {
    let mut at = 0;
    for line in text.split(|&byte| byte == b'\n') {
        for (magic, base64) in [(&b"begin "[..], false), (b"begin-base64 ", true)] {
            if let Some(mode) = line.strip_prefix(magic)
                && mode.get(3) == Some(&b' ')
                && mode.len() > 4
                && mode.iter().take(3).all(|digit| (b'0'..=b'7').contains(digit))
            {
                return Some((at, base64));
            }
        }
        at += line.len() + 1;
    }
    None
}

fn is_digits(line: &[u8]) -> bool {
    line.iter().all(|&byte| digit(byte).is_some() || byte == b'=')
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

/// The first bytes that `text` spells.
fn decoded(text: &[u8]) -> Vec<u8> {
    let digits = text.iter().filter(|&&byte| byte != b'\n').map_while(|&byte| digit(byte));
    let digits: Vec<u8> = digits.take(magic::HEAD.div_ceil(3) * 4).collect();
    let mut bytes = Vec::new();
    for four in digits.chunks_exact(4) {
        let group = four.iter().fold(0_u32, |group, &digit| group << 6 | u32::from(digit));
        bytes.extend_from_slice(&group.to_be_bytes()[1..]);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_and_certificates() {
        assert_eq!(decoded(b"aGVsbG8h"), b"hello!");
        let gzip = format!("H4sI{}", "A".repeat(72));
        let lines = format!("{gzip}\n").repeat(6);
        let script = format!("#!/bin/sh\nexit\n{lines}");
        assert_eq!(base64_in(script.as_bytes()), Some(15));
        assert!(is_base64(lines.as_bytes()));
        let certificate = script.replace("H4sI", "MIIB");
        assert_eq!(base64_in(certificate.as_bytes()), None);
        assert_eq!(uuencoded_in(b"x\nbegin 644 a.tar\nM"), Some((2, false)));
        assert_eq!(uuencoded_in(b"begin-base64 755 x\n"), Some((0, true)));
        assert_eq!(uuencoded_in(b"begin 6 things\nbegin 999 x\n"), None);
    }
}
