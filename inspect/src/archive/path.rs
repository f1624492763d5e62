//! Names of members.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

use super::Limits;

/// The path of a member: relative, normalised and harmless.
///
/// UTF-8, components separated by single slashes, none of them empty, `.` or `..`, no NUL, no leading or trailing
/// slash. The root of the archive itself is the empty path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberPath {
    text: String,
    recoded: bool,
}

/// What Windows-1252 has at 0x80 to 0x9f (WHATWG Encoding, index windows-1252); the five it leaves out are shown as unknown.
const WINDOWS_1252: [char; 32] = [
    '€', '\u{fffd}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{fffd}', 'Ž', '\u{fffd}',
    '\u{fffd}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{fffd}', 'ž', 'Ÿ',
];

/// Text as an archive has it. What is not UTF-8 was most often packed on a system with a Western code page.
pub(crate) fn decoded(raw: &[u8]) -> Cow<'_, str> {
    let letter = |byte: &u8| match byte {
        0x80..=0x9f => WINDOWS_1252[usize::from(byte - 0x80)],
        other => char::from(*other),
    };
    std::str::from_utf8(raw).map_or_else(|_| raw.iter().map(letter).collect(), Cow::Borrowed)
}

impl MemberPath {
    /// The member's path as text, without a leading slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the archive spells it in other bytes: its name is not UTF-8 and was read as Windows-1252.
    #[must_use]
    pub fn is_recoded(&self) -> bool {
        self.recoded
    }

    /// The member's path for use below a directory.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(&self.text)
    }

    /// The path as it is seen from inside: with a leading slash.
    #[must_use]
    pub fn absolute(&self) -> String {
        format!("/{}", self.text)
    }

    /// Whether this is the root of the archive (`./` in a tar).
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.text.is_empty()
    }

    /// The last component; empty for the root.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.text.rsplit('/').next().unwrap_or_default()
    }

    /// The components in order; none for the root.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.text.split('/').filter(|component| !component.is_empty())
    }

    /// Reads a name as an archive spells it.
    ///
    /// The error is the end of a sentence that begins with the member's name.
    pub(crate) fn parse(raw: &[u8], limits: &Limits) -> Result<Self, String> {
        if raw.len() > limits.path_bytes.saturating_add(2) {
            return Err(format!(
                "has a name of {} bytes, more than the {} allowed",
                raw.len(),
                limits.path_bytes
            ));
        }
        let text = decoded(raw);
        let recoded = matches!(text, Cow::Owned(_));
        if text.is_empty() {
            return Err("has an empty name".to_owned());
        }
        if text.contains('\0') {
            return Err("has a NUL in its name".to_owned());
        }
        // They would steer the terminal of whoever reads about it, or forge lines of a report.
        if text.contains(char::is_control) {
            return Err("has a control character in its name".to_owned());
        }
        if text.starts_with('/') {
            return Err("has an absolute name".to_owned());
        }
        let mut clean = String::with_capacity(text.len());
        let mut depth = 0_usize;
        for component in text.split('/') {
            match component {
                "" | "." => continue,
                ".." => return Err("climbs out of the archive with `..`".to_owned()),
                _ => {}
            }
            depth += 1;
            if depth > limits.nesting {
                return Err(format!("lies more than {} directories deep", limits.nesting));
            }
            if !clean.is_empty() {
                clean.push('/');
            }
            clean.push_str(component);
        }
        if clean.len() > limits.path_bytes {
            return Err(format!(
                "has a name of {} bytes, more than the {} allowed",
                clean.len(),
                limits.path_bytes
            ));
        }
        Ok(Self { text: clean, recoded })
    }
}

impl fmt::Display for MemberPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl AsRef<Path> for MemberPath {
    fn as_ref(&self) -> &Path {
        self.as_path()
    }
}

/// A name for an error message: lossy, without control characters, at most 200 characters.
pub(crate) fn printable(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(&raw[..raw.len().min(800)]);
    let mut shown: String = text.chars().take(200).flat_map(char::escape_debug).collect();
    if raw.len() > 800 || text.chars().nth(200).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(raw: &[u8]) -> Result<String, String> {
        MemberPath::parse(raw, &Limits::default()).map(|path| path.as_str().to_owned())
    }

    #[test]
    fn names_are_normalised() {
        assert_eq!(parse(b"./usr//bin/./x"), Ok("usr/bin/x".to_owned()));
        assert_eq!(parse(b"usr/bin/"), Ok("usr/bin".to_owned()));
        assert_eq!(parse(b"./"), Ok(String::new()));
        assert_eq!(parse("Zähler".as_bytes()), Ok("Zähler".to_owned()));
        assert_eq!(parse(b"..."), Ok("...".to_owned()));
        // As a Western system of the last century wrote them.
        assert_eq!(parse(b"Z\xe4hler\x80"), Ok("Zähler€".to_owned()));
        let recoded = |raw| MemberPath::parse(raw, &Limits::default()).unwrap().is_recoded();
        assert!(recoded(b"Z\xe4hler") && !recoded("Zähler".as_bytes()));
    }

    #[test]
    fn dangerous_names_are_refused() {
        for name in [&b"/etc/passwd"[..], b"../x", b"a/../../x", b"a/..", b"", b"a\0b", b"\xff/../..", b"//x"]
        {
            assert!(parse(name).is_err(), "{}", printable(name));
        }
        assert!(parse(&vec![b'a'; 5000]).is_err());
        assert!(parse(&b"a/".repeat(200)).is_err());
    }

    #[test]
    fn error_names_are_printable() {
        assert_eq!(printable(b"a\x1b[2J\xff"), "a\\u{1b}[2J\u{fffd}");
        assert!(printable(&vec![b'a'; 5000]).chars().count() <= 201);
    }
}
