//! The version resource (`VS_VERSIONINFO` of the Windows API).

use std::collections::BTreeMap;

use super::image::{u16_at, u32_at, utf16};

/// Structures side by side: string tables have one per language, strings about a dozen.
const SIBLINGS: usize = 256;
/// Characters of a key, and of a text.
const KEY: usize = 64;
const TEXT: usize = 1024;
/// `VS_FIXEDFILEINFO`: `dwSignature`.
const FIXED: u32 = 0xfeef_04bd;

/// What a version resource says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Version {
    /// Texts by key, of the first language that has each.
    texts: BTreeMap<String, String>,
    /// `dwFileVersion`.
    numbers: Option<String>,
}

impl Version {
    /// The text of this key.
    pub(super) fn text(&self, key: &str) -> Option<String> {
        self.texts.get(key).cloned()
    }

    /// The version in words, or in the numbers of the fixed part.
    pub(super) fn file_version(&self) -> Option<String> {
        self.text("FileVersion").or_else(|| self.numbers.clone())
    }

    /// Every text.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.texts.values().map(String::as_str)
    }

    /// Reads one resource; `None` if it is no version resource.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let root = Node::read(bytes)?;
        if root.key != "VS_VERSION_INFO" {
            return None;
        }
        let mut version = Self { texts: BTreeMap::new(), numbers: fixed(root.value) };
        let tables = root.children().filter(|node| node.key == "StringFileInfo");
        for text in tables.flat_map(|node| node.children()).flat_map(|table| table.children()) {
            let value = utf16(text.rest, TEXT).trim().to_owned();
            if text.value_length != 0 && !value.is_empty() {
                version.texts.entry(text.key).or_insert(value);
            }
        }
        Some(version)
    }
}

/// `VS_FIXEDFILEINFO`.
fn fixed(value: &[u8]) -> Option<String> {
    let (high, low) = (u32_at(value, 8)?, u32_at(value, 12)?);
    let known = u32_at(value, 0)? == FIXED && (high, low) != (0, 0);
    known.then(|| format!("{}.{}.{}.{}", high >> 16, high & 0xffff, low >> 16, low & 0xffff))
}

/// Length, length of the value, type, key, value, children; each part begins at a multiple of four bytes.
#[derive(Debug)]
struct Node<'b> {
    key: String,
    value: &'b [u8],
    value_length: u16,
    /// Value and everything behind it.
    rest: &'b [u8],
}

impl<'b> Node<'b> {
    /// The structure that `bytes` begins with; they begin at a multiple of four.
    fn read(bytes: &'b [u8]) -> Option<Self> {
        let length = usize::from(u16_at(bytes, 0)?);
        let value_length = u16_at(bytes, 2)?;
        // The length of the outermost may be wrong (some tools count without the padding); the slice ends it then.
        let bytes = bytes.get(..length.min(bytes.len()))?;
        let key = utf16(bytes.get(6..)?, KEY);
        let behind = 6 + (key.encode_utf16().count() + 1) * 2;
        let rest = bytes.get(align(behind)..).unwrap_or_default();
        let value = rest.get(..usize::from(value_length).min(rest.len()))?;
        Some(Self { key, value, value_length, rest })
    }

    /// Structures behind the value. Those that hold others hold no value, except the outermost.
    fn children(&self) -> impl Iterator<Item = Node<'b>> + use<'b> {
        let mut rest = self.rest.get(align(self.value.len())..).unwrap_or_default();
        let next = move || {
            let node = Node::read(rest)?;
            let length = usize::from(u16_at(rest, 0)?).max(6);
            rest = rest.get(align(length)..).unwrap_or_default();
            Some(node)
        };
        std::iter::from_fn(next).take(SIBLINGS)
    }
}

fn align(at: usize) -> usize {
    at.saturating_add(3) & !3
}
