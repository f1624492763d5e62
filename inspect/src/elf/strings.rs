//! Constants that look like libraries and paths.
//!
//! Only whole NUL-terminated strings count. Strings that a compiler packs without terminators (Go, Rust) or builds from
//! immediates are not found; a trace at run time finds what they open.

use std::collections::BTreeSet;

use goblin::elf::program_header::PT_LOAD;

use super::dynamic::{Layout, string_at};

/// Libraries and paths kept per file; beyond that it is a table, not a habit.
const LIBRARIES: usize = 256;
const PATHS: usize = 256;
/// Bytes of one string worth looking at.
const STRING_BYTES: usize = 255;
/// Stretches of constants in one file.
const STRETCHES: usize = 256;

/// Directories whose files a program expects to find on the machine.
const PREFIXES: [&[u8]; 7] = [b"/etc/", b"/var/", b"/opt/", b"/usr/local/", b"/dev/", b"/srv/", b"/run/"];

/// Devices that every system has and that say nothing about a program.
const EVERYWHERE: [&[u8]; 9] = [
    b"/dev/null",
    b"/dev/zero",
    b"/dev/full",
    b"/dev/random",
    b"/dev/urandom",
    b"/dev/stdin",
    b"/dev/stdout",
    b"/dev/stderr",
    b"/dev/fd",
];

/// Endings of source files: traces of the build machine (assertions, panics), not paths the program opens.
const SOURCES: [&[u8]; 14] = [
    b".c", b".cc", b".cpp", b".cxx", b".h", b".hh", b".hpp", b".hxx", b".inl", b".ipp", b".tcc", b".rs",
    b".go", b".s",
];

/// A string among the constants, and where in the file it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Constant {
    pub(crate) text: String,
    pub(crate) offset: u64,
}

/// What a scan found.
#[derive(Debug, Default)]
pub(super) struct Strings {
    pub(super) libraries: BTreeSet<String>,
    pub(super) paths: Vec<Constant>,
}

/// Scans the constants of a file.
pub(super) fn scan(layout: &Layout<'_, '_>) -> Strings {
    let mut found = Strings::default();
    let mut known_paths = BTreeSet::new();
    for (offset, size) in stretches(layout) {
        let bytes = layout.image.slice_up_to(offset, size);
        scan_libraries(bytes, &mut found.libraries);
        scan_paths(bytes, offset, &mut known_paths, &mut found.paths);
    }
    found.paths.sort();
    found
}

/// Sections of constants by name; where there are no usable section headers, everything that is loaded.
fn stretches(layout: &Layout<'_, '_>) -> Vec<(u64, u64)> {
    let names = layout
        .sections
        .get(usize::from(layout.header.e_shstrndx))
        .map_or(&[][..], |section| layout.image.slice_up_to(section.sh_offset, section.sh_size));
    let constants =
        |name: &str| name.starts_with(".rodata") || name.starts_with(".data") || name == ".lrodata";
    let sections: Vec<(u64, u64)> = layout
        .sections
        .iter()
        .filter(|section| string_at(names, section.sh_name as u64).is_some_and(|name| constants(&name)))
        .map(|section| (section.sh_offset, section.sh_size))
        .take(STRETCHES)
        .collect();
    if !sections.is_empty() {
        return sections;
    }
    let loaded = layout.segments.iter().filter(|segment| segment.p_type == PT_LOAD);
    loaded.map(|segment| (segment.p_offset, segment.p_filesz)).take(STRETCHES).collect()
}

fn scan_libraries(bytes: &[u8], found: &mut BTreeSet<String>) {
    for at in memchr::memmem::find_iter(bytes, b".so") {
        if found.len() >= LIBRARIES {
            return;
        }
        if let Some(text) = string_around(bytes, at)
            && is_library(text)
        {
            found.insert(text.to_owned());
        }
    }
}

fn scan_paths(bytes: &[u8], base: u64, known: &mut BTreeSet<String>, found: &mut Vec<Constant>) {
    for at in memchr::memchr_iter(b'/', bytes) {
        if found.len() >= PATHS {
            return;
        }
        let starts_string = at == 0 || bytes[at - 1] == 0;
        if !starts_string || !PREFIXES.iter().any(|prefix| bytes[at..].starts_with(prefix)) {
            continue;
        }
        if let Some(text) = string_around(bytes, at)
            && is_path(text)
            && known.insert(text.to_owned())
        {
            found.push(Constant { text: text.to_owned(), offset: base + at as u64 });
        }
    }
}

/// The whole NUL-terminated string that contains the byte at `at`, if it is short, printable ASCII without spaces.
fn string_around(bytes: &[u8], at: usize) -> Option<&str> {
    let from = at.saturating_sub(STRING_BYTES);
    let start = memchr::memrchr(0, &bytes[from..at]).map_or(from, |nul| from + nul + 1);
    if start == from && from != 0 {
        return None;
    }
    let window = &bytes[start..bytes.len().min(start + STRING_BYTES + 1)];
    let text = &window[..memchr::memchr(0, window)?];
    if text.iter().all(u8::is_ascii_graphic) { std::str::from_utf8(text).ok() } else { None }
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

fn is_path(text: &str) -> bool {
    let bytes = text.as_bytes();
    let plain = |b: u8| {
        b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'-' | b'+' | b'.' | b'@' | b'%' | b':' | b'*')
    };
    let after_prefix =
        PREFIXES.iter().find(|prefix| bytes.starts_with(prefix)).map_or(0, |prefix| prefix.len());
    bytes.len() > after_prefix
        && bytes.iter().all(|&b| plain(b))
        && !EVERYWHERE.contains(&bytes)
        && !SOURCES.iter().any(|ending| bytes.ends_with(ending))
}

/// Leaves out what the file is linked with anyway, its own name and its loader.
pub(super) fn libraries(
    found: BTreeSet<String>,
    needed: &[String],
    own: [&Option<String>; 2],
) -> Vec<String> {
    let is_own = |name: &String| own.iter().any(|own| own.as_ref() == Some(name));
    found.into_iter().filter(|name| !needed.contains(name) && !is_own(name)).collect()
}
