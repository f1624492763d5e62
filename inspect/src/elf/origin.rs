//! Where a file comes from: its compilers, its C library, what packed it.

use std::collections::BTreeSet;

use goblin::elf::program_header::{PF_W, PF_X, PT_LOAD};

use super::ElfFacts;
use super::dynamic::Layout;
use super::image::Words;
use super::notes::Said;
use super::strings::Sign;

/// Bytes of `.comment` looked at: every object file leaves a line, and linkers merge equal ones.
const COMMENT_BYTES: u64 = 1 << 20;
/// Bytes of one line of it.
const LINE_BYTES: usize = 512;
/// Compilers kept per file.
const COMPILERS: usize = 32;
/// Bytes of a version of Go; those of development builds are the longest.
const GO_VERSION_BYTES: u64 = 256;
/// Where Go's linker puts its build information: near the beginning of the data (debug/buildinfo reads as much).
const GO_BUILDINFO_WITHIN: usize = 64 << 10;
/// Bytes read for it: what begins within those ends within a few hundred bytes more.
const GO_BUILDINFO_READ: u64 = GO_BUILDINFO_WITHIN as u64 + 1024;
/// The beginning of Go's build information, which is aligned to 16 bytes (debug/buildinfo).
const GO_BUILDINFO: &[u8] = b"\xff Go buildinf:";
const GO_BUILDINFO_ALIGN: usize = 16;
/// Its fixed part; behind it, or where its pointers lead, stands the version.
const GO_BUILDINFO_BYTES: usize = 32;
/// Bit of its second flag byte: big-endian pointers.
const GO_BIG_ENDIAN: u8 = 1;
/// Bit of its second flag byte: no pointers, the strings follow (Go 1.18 and later).
const GO_INLINE: u8 = 2;

/// What compilers write into `.comment`, and what they are called here. A version stands right behind.
const COMPILER_LINES: [(&str, &str); 7] = [
    ("clang version ", "clang"),
    ("rustc version ", "Rust"),
    ("ldc version ", "LDC"),
    ("Swift version ", "Swift"),
    ("GHC ", "GHC"),
    ("FPC ", "Free Pascal"),
    ("PGI Compilers and Tools ", "PGI"),
];

/// Compilers and languages that left a trace.
pub(super) fn made_with(layout: &Layout<'_, '_>, go: Option<String>, rust: Option<String>) -> Vec<String> {
    let mut found: BTreeSet<String> = BTreeSet::new();
    // Free Pascal has a section of its own.
    for section in [".comment", ".fpc"] {
        let bytes = layout.section(section, COMMENT_BYTES).unwrap_or_default();
        let lines = bytes.split(|&byte| byte == 0);
        for line in lines.filter(|line| !line.is_empty() && line.len() <= LINE_BYTES) {
            if found.len() >= COMPILERS {
                break;
            }
            found.extend(compiler(&String::from_utf8_lossy(line)));
        }
    }
    found.extend(go);
    if let Some(rust) = rust
        && !found.iter().any(|name| name.starts_with("Rust "))
    {
        found.insert(rust);
    }
    found.into_iter().collect()
}

fn compiler(line: &str) -> Option<String> {
    if let Some(rest) = line.strip_prefix("GCC: ") {
        return Some(named("GCC", behind_brackets(rest)));
    }
    if line.starts_with("Intel(R)") {
        let version =
            line.split_once("Version ").or_else(|| line.split_once("Compiler ")).map(|(_, rest)| rest);
        return Some(named("Intel compiler", version.unwrap_or_default()));
    }
    let (marker, name) = COMPILER_LINES.iter().find(|(marker, _)| line.contains(marker))?;
    let (_, rest) = line.split_once(marker)?;
    rest.starts_with(|c: char| c.is_ascii_digit()).then(|| named(name, rest))
}

/// The name with the number the text begins with, if it begins with one: `12.2.0`, of `5.4.0-6ubuntu1` only `5.4.0`.
fn named(name: &str, text: &str) -> String {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let version = text[..end].trim_end_matches('.');
    if version.is_empty() { name.to_owned() } else { format!("{name} {version}") }
}

/// `(Debian 12.2.0-14) 12.2.0`: what follows the vendor's name, which may hold brackets itself.
fn behind_brackets(text: &str) -> &str {
    let mut depth = 0_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b' ' => {}
            _ if depth == 0 => return &text[at..],
            _ => {}
        }
    }
    ""
}

/// `Go 1.21.4`, or `Go` where only the linker's note is left.
pub(super) fn go(layout: &Layout<'_, '_>, said: &Said) -> Option<String> {
    let blob = go_buildinfo(layout);
    let version = blob.and_then(|blob| go_version(layout, blob));
    match version {
        Some(version) => Some(go_name(&version)),
        None => (said.go || blob.is_some()).then(|| "Go".to_owned()),
    }
}

/// `go1.21.4`, `go1.22.1 X:boringcrypto`, `devel go1.20-5ec87ba Fri …`.
fn go_name(version: &str) -> String {
    let mut words = version.split_whitespace();
    let release = words.find_map(|word| word.strip_prefix("go")).unwrap_or_default();
    let plain: String =
        release.chars().take_while(|c| c.is_ascii_alphanumeric() || ".-_+".contains(*c)).collect();
    if plain.is_empty() { "Go".to_owned() } else { format!("Go {plain}") }
}

fn go_buildinfo<'b>(layout: &Layout<'_, 'b>) -> Option<&'b [u8]> {
    let section = layout.section(".go.buildinfo", GO_BUILDINFO_READ);
    let data = || {
        let mut loaded = layout.segments.iter().filter(|segment| segment.p_type == PT_LOAD);
        let data = loaded.find(|segment| segment.p_flags & (PF_X | PF_W) == PF_W && segment.p_filesz > 0)?;
        Some(layout.image.slice_up_to(data.p_offset, data.p_filesz.min(GO_BUILDINFO_READ)))
    };
    let bytes = section.or_else(data)?;
    let window = &bytes[..bytes.len().min(GO_BUILDINFO_WITHIN)];
    let mut found = memchr::memmem::find_iter(window, GO_BUILDINFO);
    let at = found.find(|at| at % GO_BUILDINFO_ALIGN == 0)?;
    Some(&bytes[at..]).filter(|blob| blob.len() >= GO_BUILDINFO_BYTES)
}

fn go_version(layout: &Layout<'_, '_>, blob: &[u8]) -> Option<String> {
    let (size, flags) = (*blob.get(GO_BUILDINFO.len())?, *blob.get(GO_BUILDINFO.len() + 1)?);
    let text = if flags & GO_INLINE != 0 {
        let (length, rest) = varint(blob.get(GO_BUILDINFO_BYTES..)?)?;
        rest.get(..usize::try_from(length.min(GO_VERSION_BYTES)).ok()?)?
    } else {
        let words = Words { little: flags & GO_BIG_ENDIAN == 0, wide: size == 8 };
        let header = layout.at_address(words.word(blob, GO_BUILDINFO_ALIGN)?, 2 * words.size() as u64)?;
        let (address, length) = (words.word(header, 0)?, words.word(header, words.size())?);
        let length = usize::try_from(length.min(GO_VERSION_BYTES)).ok()?;
        layout.at_address(address, GO_VERSION_BYTES)?.get(..length)?
    };
    let text = std::str::from_utf8(text).ok()?;
    (!text.is_empty()).then(|| text.to_owned())
}

/// An unsigned LEB128 number and what follows it.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (index, &byte) in bytes.iter().enumerate().take(9) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(index + 1..)?));
        }
    }
    None
}

/// What loaders of each C library are called, or a part of it.
const LOADERS: [(&str, &str); 8] = [
    ("/ld-musl-", "musl"),
    ("/ld-uClibc", "uclibc"),
    ("/ld64-uClibc", "uclibc"),
    ("/bin/linker", "bionic"),
    ("/ld-linux", "glibc"),
    ("/ld64.so", "glibc"),
    ("/ld-2.", "glibc"),
    ("/ld.so", "glibc"),
];

/// The C library a file was made for: by its loader, by symbol versions, by what it is linked with, and where all of
/// that was linked into it, by texts only one of them has.
pub(super) fn libc(facts: &ElfFacts, android: bool, signs: &BTreeSet<Sign>) -> Option<String> {
    let loader = facts.interpreter.as_deref().unwrap_or_default();
    let by_loader = LOADERS.iter().find(|(part, _)| loader.contains(part)).map(|&(_, name)| name);
    let by_version = || {
        let mut wanted = facts.versions_needed.values().flatten().chain(&facts.versions_defined);
        wanted.any(|version| version.starts_with("GLIBC_")).then_some("glibc")
    };
    let by_name = || {
        let mut names = facts.needed.iter().chain(&facts.soname).map(String::as_str);
        names.find_map(libc_of_library)
    };
    let by_text = || {
        let dynamic = facts.interpreter.is_some() || !facts.needed.is_empty();
        let texts = [(Sign::Glibc, "glibc"), (Sign::Musl, "musl")];
        texts.into_iter().find(|(sign, _)| !dynamic && signs.contains(sign)).map(|(_, name)| name)
    };
    let bionic = (android
        || facts.versions_needed.get("libc.so").is_some_and(|found| found.iter().any(|v| v == "LIBC")))
    .then_some("bionic");
    let found = by_loader.or(bionic).or_else(by_version).or_else(by_name).or_else(by_text);
    found.map(str::to_owned)
}

fn libc_of_library(name: &str) -> Option<&'static str> {
    match name {
        "libc.so.6" | "libc.so.6.1" => Some("glibc"),
        "libc.so.0" | "libc.so.1" => Some("uclibc"),
        // bionic's has the same name and symbol versions, musl's has none.
        "libc.so" => Some("musl"),
        name if name.starts_with("libc.musl-") => Some("musl"),
        _ => None,
    }
}

/// Bytes behind the program headers in which UPX puts its loader's information: a checksum, then its magic.
const UPX_INFO: u64 = 12;
/// `l_info.l_magic` (UPX, `src/stub/src/include/linux.h`).
const UPX_MAGIC: &[u8] = b"UPX!";

/// What packed a program.
pub(super) fn packer(layout: &Layout<'_, '_>, signs: &BTreeSet<Sign>) -> Option<String> {
    let header = &layout.header;
    let size = u64::from(header.e_phentsize) * u64::from(header.e_phnum);
    let info = layout.image.slice_up_to(header.e_phoff.saturating_add(size), UPX_INFO);
    if info.get(4..8) == Some(UPX_MAGIC) || (layout.sections.is_empty() && signs.contains(&Sign::Upx)) {
        return Some("UPX".to_owned());
    }
    let is_vmp = |name: String| name.strip_prefix(".vmp").is_some_and(|rest| rest.parse::<u8>().is_ok());
    if layout.sections.iter().filter_map(|section| layout.section_name(section)).any(is_vmp) {
        return Some("VMProtect".to_owned());
    }
    signs.contains(&Sign::Shc).then(|| "shc".to_owned())
}
/// Libraries that glibc's own code names in every program it is linked into: its `dlopen` has a loader of its own.
pub(super) fn is_of_static_glibc(name: &str) -> bool {
    name == "libc.so.6" || name.starts_with("ld-linux") || name.starts_with("ld64.so.")
}
