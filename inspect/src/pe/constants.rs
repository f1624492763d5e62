//! Constants of Windows programs: URLs and ports, device paths, libraries, words of technologies.
//!
//! Windows programs keep text in single bytes and in UTF-16. Managed programs keep UTF-16 without terminators, so a text
//! here is the longest run of its characters. Window by window, one pass looks for `:`, `\` and `.`, another for the words.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use super::image::Image;
use crate::elf::Constant;
use crate::technology;
use crate::words::Words;

/// Constants of each kind kept per file; beyond that it is a table, not a habit.
const KEPT: usize = 256;
/// Bytes searched for one thing before they are searched for the next: they stay in the fastest cache.
const WINDOW: usize = 32 << 10;
/// Characters of one constant.
const TEXT: usize = 255;
/// What a device path begins with ("Naming Files, Paths, and Namespaces" of the Windows API).
const DEVICE: &str = r"\\.\";

/// Schemes of URLs that are places in a network.
const SCHEMES: [&str; 20] = [
    "http", "https", "ftp", "ftps", "sftp", "ws", "wss", "tcp", "udp", "opc.tcp", "net.tcp", "mqtt", "mqtts",
    "amqp", "ldap", "ldaps", "rtsp", "ssh", "telnet", "grpc",
];
/// Hosts of XML namespaces and schemas, which are names and not places.
const NAMESPACES: [&str; 6] = [
    "schemas.microsoft.com",
    "www.w3.org",
    "schemas.xmlsoap.org",
    "schemas.openxmlformats.org",
    "ns.adobe.com",
    "purl.org",
];

/// What a scan found.
#[derive(Debug, Default)]
pub(crate) struct Constants {
    /// Device paths, as [`HardCodedPath`](crate::HardCodedPath)s.
    pub(crate) paths: Vec<Constant>,
    /// URLs, hosts with ports.
    pub(crate) endpoints: Vec<Constant>,
    /// Words of [`technology::MARKS`].
    pub(crate) marks: Vec<Constant>,
    /// Names of libraries.
    pub(super) libraries: BTreeMap<String, u64>,
}

/// Scans the sections of a file; what is appended to it is no constant.
pub(super) fn scan(image: &Image<'_>) -> Constants {
    let mut found = Found::default();
    let mut marks = vec![None; technology::MARKS.len()];
    for (start, end) in stretches(image) {
        let bytes = image.bytes.get(start..end).unwrap_or_default();
        for from in (0..bytes.len()).step_by(WINDOW) {
            let to = bytes.len().min(from + WINDOW);
            scan_window(bytes, start as u64, from, to, &mut found);
            scan_words(&WORDS, bytes, start as u64, from, to, &mut marks);
        }
    }
    let marks = technology::MARKS.iter().zip(marks);
    Constants {
        paths: sorted(found.paths),
        endpoints: sorted(found.endpoints),
        marks: marks
            .filter_map(|(text, offset)| Some(Constant { text: (*text).to_owned(), offset: offset? }))
            .collect(),
        libraries: found.libraries,
    }
}

/// Texts with their first offsets.
type Texts = BTreeMap<String, u64>;

#[derive(Debug, Default)]
struct Found {
    paths: Texts,
    endpoints: Texts,
    libraries: Texts,
}

fn sorted(texts: Texts) -> Vec<Constant> {
    texts.into_iter().map(|(text, offset)| Constant { text, offset }).collect()
}

/// The contents of all sections, each byte once: hostile sections overlap.
fn stretches(image: &Image<'_>) -> Vec<(usize, usize)> {
    let length = image.bytes.len();
    let bounds = image.sections.iter().filter_map(|section| {
        let start = usize::try_from(section.offset).ok()?.min(length);
        let end = start.saturating_add(usize::try_from(section.file_bytes).ok()?).min(length);
        (start < end).then_some((start, end))
    });
    let mut merged: Vec<(usize, usize)> = Vec::new();
    for (start, end) in bounds.collect::<BTreeSet<_>>() {
        match merged.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    merged
}

fn scan_window(bytes: &[u8], base: u64, from: usize, to: usize, found: &mut Found) {
    let window = bytes.get(from..to).unwrap_or_default();
    for at in memchr::memchr3_iter(b':', b'\\', b'.', window).map(|at| from + at) {
        // The next byte tells the encoding: in UTF-16 it is the upper half of an ASCII character.
        let stride = if bytes.get(at + 1) == Some(&0) { 2 } else { 1 };
        let text = Text { bytes, stride };
        match bytes.get(at) {
            Some(b':') => {
                keep(&mut found.endpoints, base, text.url(at).or_else(|| text.port(at)));
            }
            Some(b'\\') => keep(&mut found.paths, base, text.device(at)),
            _ => keep(&mut found.libraries, base, text.library(at)),
        }
    }
}

fn keep(texts: &mut Texts, base: u64, text: Option<(usize, String)>) {
    if let Some((at, text)) = text
        && texts.len() < KEPT
    {
        texts.entry(text).or_insert(base.saturating_add(at as u64));
    }
}

/// Bytes read as characters of one or two bytes.
#[derive(Debug, Clone, Copy)]
struct Text<'b> {
    bytes: &'b [u8],
    stride: usize,
}

impl Text<'_> {
    /// The ASCII character at this offset.
    fn get(&self, at: usize) -> Option<u8> {
        let low = *self.bytes.get(at)?;
        (self.stride == 1 || self.bytes.get(at + 1) == Some(&0)).then_some(low)
    }

    /// The character this many characters behind.
    fn ahead(&self, at: usize, count: usize) -> Option<u8> {
        self.get(at + count * self.stride)
    }

    /// Where the run of such characters begins that ends before `at`.
    fn back(&self, at: usize, is: impl Fn(u8) -> bool) -> usize {
        let mut start = at;
        for _ in 0..TEXT {
            match start.checked_sub(self.stride) {
                Some(before) if self.get(before).is_some_and(&is) => start = before,
                _ => break,
            }
        }
        start
    }

    /// Where the run of such characters ends that begins at `at`.
    fn forth(&self, at: usize, is: impl Fn(u8) -> bool) -> usize {
        let mut end = at;
        for _ in 0..TEXT {
            if !self.get(end).is_some_and(&is) {
                break;
            }
            end += self.stride;
        }
        end
    }

    fn between(&self, start: usize, end: usize) -> String {
        let characters = self.bytes.get(start..end).unwrap_or_default().iter().step_by(self.stride);
        characters.map(|b| char::from(*b)).collect()
    }

    /// `scheme://authority…` around the colon at `at`.
    fn url(&self, at: usize) -> Option<(usize, String)> {
        if self.ahead(at, 1)? != b'/' || self.ahead(at, 2)? != b'/' {
            return None;
        }
        let before = self.between(self.back(at, |b| b.is_ascii_alphanumeric() || b == b'.'), at);
        // A length or another text may stand right before it.
        let lower = before.to_ascii_lowercase();
        let scheme = SCHEMES.iter().filter(|scheme| lower.ends_with(**scheme)).max_by_key(|s| s.len())?;
        let start = at - scheme.len() * self.stride;
        let first = self.ahead(at, 3)?;
        if !(first.is_ascii_alphanumeric() || matches!(first, b'[' | b'%' | b'{' | b'*' | b'+')) {
            return None;
        }
        let in_url = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\'' | b'<' | b'>' | b'\\' | b'`');
        let end = self.forth(at + 3 * self.stride, in_url);
        let text = self.between(start, end);
        let text = text.trim_end_matches(['.', ',', ';', ')', ':']);
        let host = text.split("://").nth(1)?.split(['/', ':', '?']).next()?;
        // Dictionaries of compressors hold the beginnings of URLs followed by other words.
        let named = host.contains('.') || host.eq_ignore_ascii_case("localhost") || has_port(text);
        let place = named && !NAMESPACES.iter().any(|known| host.eq_ignore_ascii_case(known));
        place.then(|| (start, text.to_owned()))
    }

    /// `localhost:5025`, `192.168.0.10:7000` around the colon at `at`.
    fn port(&self, at: usize) -> Option<(usize, String)> {
        if !self.ahead(at, 1)?.is_ascii_digit() {
            return None;
        }
        let start = self.back(at, |b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':'));
        let host = self.between(start, at);
        let numbers: Vec<&str> = host.split('.').collect();
        let address = numbers.len() == 4 && numbers.iter().all(|n| n.parse::<u8>().is_ok());
        if !(address || host.eq_ignore_ascii_case("localhost")) {
            return None;
        }
        let end = self.forth(at + self.stride, |b| b.is_ascii_digit());
        let port: u16 = self.between(at + self.stride, end).parse().ok()?;
        let ends = self.get(end).is_none_or(|b| !(b.is_ascii_alphanumeric() || b == b'.'));
        (port != 0 && ends).then(|| (start, self.between(start, end)))
    }

    /// `\\.\COM3` that begins at `at`.
    fn device(&self, at: usize) -> Option<(usize, String)> {
        let begins = DEVICE.bytes().enumerate().all(|(index, b)| self.ahead(at, index) == Some(b));
        if !begins || at.checked_sub(self.stride).and_then(|before| self.get(before)) == Some(b'\\') {
            return None;
        }
        let name = at + DEVICE.len() * self.stride;
        let in_name =
            |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\'' | b'<' | b'>' | b'|' | b',' | b';');
        let end = self.forth(name, in_name);
        let meaningful =
            self.get(name).is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'%' | b'{'));
        (meaningful && end > name + self.stride).then(|| (at, self.between(at, end)))
    }

    /// `name.dll` around the dot at `at`, in lower case.
    fn library(&self, at: usize) -> Option<(usize, String)> {
        let ending = (1..4).map(|index| self.ahead(at, index).map(|b| b.to_ascii_lowercase()));
        if !ending.eq(b"dll".iter().map(|b| Some(*b))) {
            return None;
        }
        let in_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'+' | b'.' | b'@');
        if self.ahead(at, 4).is_some_and(in_name) {
            return None;
        }
        let start = self.back(at, in_name);
        // `%d.dll` is a format, not a name.
        let format = start.checked_sub(self.stride).and_then(|before| self.get(before)) == Some(b'%');
        let starts = !format && self.get(start).is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
        let end = at + 4 * self.stride;
        (start < at && starts).then(|| (start, self.between(start, end).to_ascii_lowercase()))
    }
}

/// Whether a port follows the host of a URL, or a format in its place.
fn has_port(url: &str) -> bool {
    let authority = url.split("://").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or_default();
    let port = authority.rsplit_once(':').map_or("", |(_, port)| port);
    port.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '%' | '{'))
}

/// The words of [`technology::MARKS`] in single bytes, and behind those all of them in UTF-16.
static WORDS: LazyLock<Words> = LazyLock::new(|| both(technology::MARKS));

fn both(marks: &[&str]) -> Words {
    let narrow = marks.iter().map(|mark| mark.as_bytes().to_vec());
    let wide = marks.iter().map(|mark| mark.encode_utf16().flat_map(u16::to_le_bytes).collect());
    Words::new(narrow.chain(wide))
}

/// Enters the first offset of each word that is not known yet.
fn scan_words(words: &Words, bytes: &[u8], base: u64, from: usize, to: usize, marks: &mut [Option<u64>]) {
    words.find(bytes, from, to, &mut |word, at| {
        let mark = if word < marks.len() { word } else { word - marks.len() };
        if let Some(offset @ None) = marks.get_mut(mark) {
            *offset = Some(base.saturating_add(at as u64));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> [Found; 2] {
        let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        [text.as_bytes().to_vec(), wide].map(|bytes| {
            let mut found = Found::default();
            scan_window(&bytes, 0, 0, bytes.len(), &mut found);
            found
        })
    }

    #[test]
    fn constants_in_both_encodings() {
        let text = "\u{1}\0see https://licence.example.com/v1?a=%s.\0localhost:5025\0x 192.168.0.10:7000 \0main.cpp:120\0\
            1.2.3.4.5:6\0\\\\.\\COM%d\0\\\\.\\pipe\\acme\0C:\\a\\\\.\\b\0lib\\Acme_USB-2.dll\0.dll\0x.dlls\0%d.dll\0http://dictionary\0http://www.w3.org/2000\0://x";
        for found in found(text) {
            let keys = |texts: &Texts| texts.keys().cloned().collect::<Vec<_>>();
            assert_eq!(
                keys(&found.endpoints),
                ["192.168.0.10:7000", "https://licence.example.com/v1?a=%s", "localhost:5025"]
            );
            assert_eq!(keys(&found.paths), [r"\\.\COM%d", r"\\.\pipe\acme"]);
            assert_eq!(keys(&found.libraries), ["acme_usb-2.dll"]);
        }
    }

    #[test]
    fn words_are_found_wherever_they_are() {
        let words = both(&["FlexLM", "LM_LICENSE_FILE", "haspx"]);
        for before in 0..32 {
            for text in ["FlexLM", "LM_LICENSE_FILE", "haspx"] {
                let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
                for word in [text.as_bytes().to_vec(), wide] {
                    let mut bytes = vec![b'x'; before];
                    bytes.extend_from_slice(&word);
                    let mut found = [None; 3];
                    scan_words(&words, &bytes, 7, 0, bytes.len(), &mut found);
                    let hits: Vec<u64> = found.iter().flatten().copied().collect();
                    assert_eq!(hits, [7 + before as u64], "{text}");
                }
            }
        }
        let mut none = [None; 3];
        scan_words(&words, b"hasFlexL", 0, 0, 8, &mut none);
        scan_words(&both(&[]), b"abc", 0, 0, 3, &mut none);
        assert_eq!(none, [None; 3]);
    }
}
