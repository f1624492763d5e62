//! Constants that mean something outside the program: libraries, paths, endpoints, and words that give a technology away.
//!
//! One walk over the constants, window by window while it is in the processor's cache. Libraries and paths are whole
//! NUL-terminated strings. Device nodes and URLs are also found inside messages; and where the compiler packs strings
//! without terminators (Go, Rust), right behind another string, with whatever letters follow them there.
//! What a program builds from immediates is not found; a trace at run time finds what it opens.

mod boring;
mod hosts;
mod paths;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use goblin::elf::SectionHeader;
use goblin::elf::program_header::PT_LOAD;
use goblin::elf::section_header::SHT_NOBITS;

use super::Candidate;
use super::dynamic::Layout;
use crate::technology::MARKS;
use crate::words::Words;

/// Libraries, paths and endpoints kept per file; beyond that it is a table, not a habit.
const LIBRARIES: usize = 256;
const PATHS: usize = 256;
const ENDPOINTS: usize = 256;
/// Bytes of one string worth looking at.
const STRING_BYTES: usize = 255;
/// Stretches of constants in one file.
const STRETCHES: usize = 256;
/// Bytes searched for one thing before they are searched for the next: they stay in the fastest cache.
const WINDOW: usize = 32 << 10;

/// A string among the constants, and where in the file it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Constant {
    pub(crate) text: String,
    pub(crate) offset: u64,
}

/// A text by which a compiler, a C library or a packer gives itself away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sign {
    Glibc,
    Musl,
    Rust,
    RustOfDistribution,
    Shc,
    Upx,
}

/// Each with its text: glibc's name for its tunables, musl's text for the error 0, where the standard library of Rust
/// was compiled (by the project, by a distribution), the message of the shell script compiler `shc`, and what UPX
/// leaves in its loader.
const SIGNS: [(Sign, &str); 6] = [
    (Sign::Glibc, "GLIBC_TUNABLES"),
    (Sign::Musl, "No error information"),
    (Sign::Rust, "/rustc/"),
    (Sign::RustOfDistribution, "/rustc-1."),
    (Sign::Shc, "neither argv[0] nor $_ works."),
    (Sign::Upx, "$Info: This file is packed with the UPX"),
];

/// What a scan found.
#[derive(Debug, Default)]
pub(super) struct Strings {
    pub(super) libraries: BTreeMap<String, u64>,
    pub(super) paths: Vec<Constant>,
    pub(super) endpoints: Vec<Constant>,
    pub(super) marks: Vec<Constant>,
    pub(super) signs: BTreeSet<Sign>,
    /// `Rust`, with its version where that is part of a path.
    pub(super) rust: Option<String>,
}

/// A set of constants, each with its first offset, and no more than a bound.
#[derive(Debug, Default)]
struct Found {
    texts: BTreeMap<String, u64>,
}

impl Found {
    fn enter(&mut self, text: &str, offset: u64, bound: usize) {
        if self.texts.len() < bound && !self.texts.contains_key(text) {
            self.texts.insert(text.to_owned(), offset);
        }
    }

    /// Adds what is not there yet.
    fn merge(mut self, other: &Self, bound: usize) -> Vec<Constant> {
        other.texts.iter().for_each(|(text, &offset)| self.enter(text, offset, bound));
        self.texts.into_iter().map(|(text, offset)| Constant { text, offset }).collect()
    }
}

/// A scan in the making. What follows another string immediately counts only if the compiler packs strings.
#[derive(Debug, Default)]
struct Scan {
    libraries: BTreeMap<String, u64>,
    paths: Found,
    packed_paths: Found,
    endpoints: Found,
    packed_endpoints: Found,
}

/// Scans the constants of a file, which may be known to hold strings without terminators.
pub(super) fn scan(layout: &Layout<'_, '_>, is_packed: bool) -> Strings {
    let words = searched_words();
    let mut offsets: Vec<Option<u64>> = vec![None; words.len()];
    let mut scan = Scan::default();
    for (base, size) in stretches(layout) {
        let bytes = layout.image.slice_up_to(base, size);
        for from in (0..bytes.len()).step_by(WINDOW) {
            let to = bytes.len().min(from + WINDOW);
            scan.window(bytes, base, from, to);
            scan.servers(bytes, base, from, to);
            words.find(bytes, from, to, &mut |word, at| {
                if let Some(offset @ None) = offsets.get_mut(word) {
                    *offset = Some(base.saturating_add(at as u64));
                }
            });
        }
    }
    // Functions that it calls by these names: `lc_checkout`, `gethostid`.
    if let Some((base, size)) = symbol_names(layout) {
        let bytes = layout.image.slice_up_to(base, size);
        words.find(bytes, 0, bytes.len(), &mut |word, at| {
            if let Some(offset @ None) = offsets.get_mut(word) {
                *offset = Some(base.saturating_add(at as u64));
            }
        });
    }
    let mut strings = Strings { libraries: scan.libraries, ..Strings::default() };
    let signs = SIGNS.iter().zip(&offsets).filter(|(_, offset)| offset.is_some());
    strings.signs = signs.map(|((sign, _), _)| *sign).collect();
    let rust_at = |sign: Sign| {
        let index = SIGNS.iter().position(|(one, _)| *one == sign)?;
        offsets.get(index).copied().flatten()
    };
    strings.rust = rust_at(Sign::RustOfDistribution)
        .and_then(|at| rust_version(layout.image.slice_up_to(at, 32)))
        .or_else(|| {
            rust_at(Sign::Rust)
                .filter(|&at| is_commit(layout.image.slice_up_to(at, 47)))
                .map(|_| "Rust".to_owned())
        });
    let marks = MARKS.iter().zip(offsets.iter().skip(SIGNS.len()));
    let marks =
        marks.filter_map(|(text, offset)| Some(Constant { text: (*text).to_owned(), offset: (*offset)? }));
    strings.marks = marks.collect();
    strings.marks.sort();
    let (mut packed_paths, mut packed_endpoints) = (scan.packed_paths, scan.packed_endpoints);
    if !is_packed && strings.rust.is_none() {
        (packed_paths, packed_endpoints) = (Found::default(), Found::default());
    }
    strings.paths = scan.paths.merge(&packed_paths, PATHS);
    strings.endpoints = scan.endpoints.merge(&packed_endpoints, ENDPOINTS);
    strings
}

fn searched_words() -> &'static Words {
    static WORDS: OnceLock<Words> = OnceLock::new();
    let words = || SIGNS.iter().map(|(_, text)| *text).chain(MARKS.iter().copied());
    WORDS.get_or_init(|| Words::new(words().map(|word| word.as_bytes().to_vec())))
}

/// `/rustc/` and the 40 digits of a commit.
fn is_commit(text: &[u8]) -> bool {
    text.len() == 47 && text.iter().skip(7).all(u8::is_ascii_hexdigit)
}

/// The version in `/rustc-1.63.0/`.
fn rust_version(text: &[u8]) -> Option<String> {
    let rest = text.strip_prefix(b"/rustc-")?;
    let end = rest.iter().position(|b| !b.is_ascii_digit() && *b != b'.')?;
    let version = std::str::from_utf8(rest.get(..end)?).ok()?;
    Some(format!("Rust {}", version.trim_end_matches('.')))
}

/// Sections of constants by name; where there are no usable section headers, everything that is loaded.
fn stretches(layout: &Layout<'_, '_>) -> Vec<(u64, u64)> {
    // Go keeps the names of its functions, but not its strings, in `.gopclntab`.
    let constants =
        |name: &str| name.starts_with(".rodata") || name.starts_with(".data") || name == ".lrodata";
    let sections: Vec<(u64, u64)> = layout
        .sections
        .iter()
        .filter(|section| section.sh_type != SHT_NOBITS)
        .filter(|section| layout.section_name(section).is_some_and(|name| constants(&name)))
        .map(|section| (section.sh_offset, section.sh_size))
        .take(STRETCHES)
        .collect();
    if !sections.is_empty() {
        return sections;
    }
    let loaded = layout.segments.iter().filter(|segment| segment.p_type == PT_LOAD);
    loaded.map(|segment| (segment.p_offset, segment.p_filesz)).take(STRETCHES).collect()
}

/// The names of the symbols that the loader binds.
fn symbol_names(layout: &Layout<'_, '_>) -> Option<(u64, u64)> {
    let named = |section: &&SectionHeader| layout.section_name(section).is_some_and(|name| name == ".dynstr");
    let section = layout.sections.iter().find(named)?;
    Some((section.sh_offset, section.sh_size))
}

impl Scan {
    /// Everything that hangs on one of three characters: paths on a slash, URLs and ports on a colon, addresses and
    /// libraries on a dot.
    fn window(&mut self, bytes: &[u8], base: u64, from: usize, to: usize) {
        let Some(window) = bytes.get(from..to) else { return };
        for within in memchr::memchr3_iter(b'/', b':', b'.', window) {
            let at = from + within;
            match bytes.get(at..).unwrap_or_default() {
                [b'/', ..] => self.slash(bytes, base, at),
                [b':', b'/', b'/', ..] => self.url(bytes, base, at),
                [b':', b'1'..=b'9', ..] => self.port(bytes, base, at),
                [b':', b':', ..] => self.endpoint(base, hosts::visa(bytes, at)),
                [b'.', b's', b'o', ..] => self.library(bytes, base, at),
                [b'.', b'0'..=b'9', ..] => self.address(bytes, base, at),
                _ => {}
            }
        }
    }

    /// `port@host` hangs on a fourth character.
    fn servers(&mut self, bytes: &[u8], base: u64, from: usize, to: usize) {
        let window = bytes.get(from..to).unwrap_or_default();
        for within in memchr::memchr_iter(b'@', window) {
            self.endpoint(base, hosts::server(bytes, from + within));
        }
    }

    fn endpoint(&mut self, base: u64, found: Option<(usize, &str)>) {
        if let Some((start, text)) = found {
            self.endpoints.enter(text, base.saturating_add(start as u64), ENDPOINTS);
        }
    }

    fn slash(&mut self, bytes: &[u8], base: u64, at: usize) {
        let Some((path, place)) = paths::at(bytes, at) else { return };
        let found = match place {
            paths::Place::Whole | paths::Place::Inside => &mut self.paths,
            paths::Place::Packed => &mut self.packed_paths,
        };
        found.enter(path, base.saturating_add(at as u64), PATHS);
    }

    fn url(&mut self, bytes: &[u8], base: u64, at: usize) {
        let Some((start, url, is_packed)) = hosts::url(bytes, at) else { return };
        let found = if is_packed { &mut self.packed_endpoints } else { &mut self.endpoints };
        found.enter(url, base.saturating_add(start as u64), ENDPOINTS);
    }

    fn port(&mut self, bytes: &[u8], base: u64, at: usize) {
        self.endpoint(base, hosts::port(bytes, at));
    }

    fn address(&mut self, bytes: &[u8], base: u64, at: usize) {
        self.endpoint(base, hosts::address(bytes, at));
    }

    fn library(&mut self, bytes: &[u8], base: u64, at: usize) {
        if self.libraries.len() >= LIBRARIES {
            return;
        }
        if let Some((start, text)) = string_around(bytes, at)
            && is_library(text)
        {
            self.libraries.entry(text.to_owned()).or_insert(base.saturating_add(start as u64));
        }
    }
}

/// The whole NUL-terminated string that contains the byte at `at`, and where it begins, if it is short, printable
/// ASCII without spaces.
fn string_around(bytes: &[u8], at: usize) -> Option<(usize, &str)> {
    let from = at.saturating_sub(STRING_BYTES);
    let start = memchr::memrchr(0, bytes.get(from..at)?).map_or(from, |nul| from + nul + 1);
    if start == from && from != 0 {
        return None;
    }
    let window = bytes.get(start..bytes.len().min(start + STRING_BYTES + 1))?;
    let text = window.get(..memchr::memchr(0, window)?)?;
    if !text.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    Some((start, std::str::from_utf8(text).ok()?))
}

/// The longest text at the beginning of the bytes that consists of accepted characters, at most [`STRING_BYTES`] long
/// and one more, which says that it is too long.
fn run_of(bytes: &[u8], accepted: impl Fn(u8) -> bool) -> &str {
    let run =
        bytes.iter().take(STRING_BYTES + 1).take_while(|&&byte| byte.is_ascii() && accepted(byte)).count();
    std::str::from_utf8(&bytes[..run]).unwrap_or_default()
}

/// `libfoo.so`, `foo.so.1.2`, `./plugins/libfoo.so`: a file name with `.so` at its end or before numbers only.
fn is_library(text: &str) -> bool {
    let name = text.rsplit('/').next().unwrap_or_default();
    let Some(at) = name.find(".so") else { return false };
    let (stem, ending) = (&name[..at], &name[at + 3..]);
    let numbers = ending.split('.').skip(1);
    let versioned = ending.is_empty()
        || (ending.starts_with('.')
            && numbers
                .clone()
                .all(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())));
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'+' | b'.' | b'@');
    let directory = &text[..text.len() - name.len()];
    versioned
        && stem.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
        && stem.bytes().all(plain)
        && directory.bytes().all(|b| plain(b) || matches!(b, b'/' | b'~' | b'$' | b'{' | b'}'))
}

/// Leaves out what the file is linked with anyway, its own name and its loader.
pub(super) fn libraries(
    found: BTreeMap<String, u64>,
    needed: &[String],
    own: [&Option<String>; 2],
) -> Vec<Candidate> {
    let is_own = |name: &String| own.iter().any(|own| own.as_ref() == Some(name));
    let candidates = found.into_iter().filter(|(name, _)| !needed.contains(name) && !is_own(name));
    candidates.map(|(name, offset)| Candidate { name, offset }).collect()
}
