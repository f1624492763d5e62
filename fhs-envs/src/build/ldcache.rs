//! `/etc/ld.so.cache` and the SONAME links, made at build time instead of by `ldconfig` at every launch.
//!
//! The format is glibc's own (`sysdeps/generic/dl-cache.h`, since 2.2 as the only one read since 2.32, and read alone
//! by older ones too): a header, entries sorted by name in descending order of `_dl_cache_libcmp`, strings. Entries of
//! `glibc-hwcaps` folders are left out on purpose: the same tree then loads the same code on every CPU.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use hatchway_inspect::resolve::read_object;

use super::merge::Merge;
use crate::error::Error;
use crate::store::Workspace;
use crate::store::manifest::Node;

/// `CACHEMAGIC_NEW` and `CACHE_VERSION`.
pub(super) const MAGIC: &[u8; 20] = b"glibc-ld.so.cache1.1";
/// Bytes of the header and of one entry.
pub(super) const HEADER_BYTES: usize = 48;
pub(super) const ENTRY_BYTES: usize = 24;
/// `cache_file_new_flags_endian_little`.
const LITTLE_ENDIAN: u8 = 2;
/// `FLAG_ELF_LIBC6 | FLAG_X8664_LIB64`, and `FLAG_ELF_LIBC6` alone for i386.
pub(super) const FLAGS_X86_64: u32 = 0x0303;
pub(super) const FLAGS_I386: u32 = 0x0003;
/// Longer configuration files are not read: a loader configuration has a few lines.
const INCLUDE_DEPTH_MAX: usize = 4;

/// One line of the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CacheEntry {
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) flags: u32,
}

/// Makes the SONAME links that are missing in the loader's folders, and the cache; none where there is no library.
pub(crate) fn make(merge: &mut Merge, workspace: &Workspace<'_>) -> Result<Option<Vec<u8>>, Error> {
    let mut entries: BTreeMap<(String, u32), String> = BTreeMap::new();
    for (shown, folder) in directories(merge, workspace)? {
        for library in libraries(merge, workspace, &folder)? {
            if library.link_missing {
                let link = Node::Link { target: library.file.clone() };
                merge.tree.insert(&format!("{folder}/{}", library.name), link);
            }
            entries
                .entry((library.name.clone(), library.flags))
                .or_insert_with(|| format!("{shown}/{}", library.name));
        }
    }
    let entries: Vec<CacheEntry> =
        entries.into_iter().map(|((name, flags), path)| CacheEntry { name, path, flags }).collect();
    Ok((!entries.is_empty()).then(|| encode(entries)))
}

struct Library {
    name: String,
    file: String,
    flags: u32,
    link_missing: bool,
}

fn libraries(merge: &Merge, workspace: &Workspace<'_>, folder: &str) -> Result<Vec<Library>, Error> {
    let mut found = Vec::new();
    for file in merge.names(folder).into_iter().filter(|name| is_library_name(name)) {
        let path = format!("{folder}/{file}");
        let is_link = matches!(merge.tree.nodes.get(&path), Some(Node::Link { .. }));
        let Some(Node::File { sha256, executable, .. }) = merge.node(&path) else { continue };
        // Linker scripts and broken files are not libraries; ldconfig passes over them too.
        let Ok(object) = read_object(&workspace.open(*sha256, *executable)?) else { continue };
        let flags = match object.machine.as_str() {
            "x86-64" => FLAGS_X86_64,
            "i386" => FLAGS_I386,
            _ => continue,
        };
        // libc.so.6 can be started as a program, but it has a name to be linked by.
        if (object.refused.is_some() || object.interpreter.is_some()) && object.soname.is_none() {
            continue;
        }
        let soname = object.soname.unwrap_or_else(|| file.clone());
        if soname == file || (is_link && is_for_linker(&file, &soname)) {
            found.push(Library { name: file.clone(), file, flags, link_missing: false });
        } else if is_plain_name(&soname) {
            let link_missing = merge.node(&format!("{folder}/{soname}")).is_none();
            found.push(Library { name: soname, file, flags, link_missing });
        }
    }
    Ok(found)
}

/// Whether a link is the one for the linker, which has a name of its own in the cache. Any other link whose name is not the
/// SONAME stands for the SONAME (`search_dir` in glibc's `elf/ldconfig.c`).
fn is_for_linker(link: &str, soname: &str) -> bool {
    link.ends_with(".so") && soname.starts_with(link)
}

fn is_plain_name(soname: &str) -> bool {
    !soname.is_empty() && !soname.contains('/') && soname != "." && soname != ".."
}

fn is_library_name(name: &str) -> bool {
    (name.starts_with("lib") || name.starts_with("ld-")) && name.contains(".so")
}

/// The loader's folders in order: as the configuration names them, and where they are in the tree.
pub(super) fn directories(merge: &Merge, workspace: &Workspace<'_>) -> Result<Vec<(String, String)>, Error> {
    let mut named = Vec::new();
    read_configuration(merge, workspace, "etc/ld.so.conf", 0, &mut named)?;
    // Debian's ldconfig knows these by itself.
    named.extend(
        ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib", "/usr/lib"].map(str::to_owned),
    );
    let mut seen: Vec<(String, String)> = Vec::new();
    for shown in named {
        let Ok(folder) = merge.resolve(&shown) else { continue };
        let is_folder = matches!(merge.tree.nodes.get(&folder), Some(Node::Directory));
        if is_folder && !seen.iter().any(|(_, known)| *known == folder) {
            seen.push((shown, folder));
        }
    }
    Ok(seen)
}

fn read_configuration(
    merge: &Merge,
    workspace: &Workspace<'_>,
    path: &str,
    depth: usize,
    named: &mut Vec<String>,
) -> Result<(), Error> {
    let Some(Node::File { sha256, executable, .. }) = merge.node(path) else { return Ok(()) };
    let bytes = workspace.read(*sha256, *executable)?;
    for line in String::from_utf8_lossy(&bytes).lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(pattern) = line.strip_prefix("include ").filter(|_| depth < INCLUDE_DEPTH_MAX) {
            for file in matching(merge, pattern.trim()) {
                read_configuration(merge, workspace, &file, depth + 1, named)?;
            }
        } else if line.starts_with('/') {
            named.push(line.trim_end_matches('/').to_owned());
        }
    }
    Ok(())
}

/// Files that match `folder/*suffix`, sorted, as glob(3) gives them.
fn matching(merge: &Merge, pattern: &str) -> Vec<String> {
    let Some((folder, last)) = pattern.rsplit_once('/') else { return Vec::new() };
    let Ok(folder) = merge.resolve(folder) else { return Vec::new() };
    let (prefix, suffix) = last.split_once('*').unwrap_or((last, ""));
    let fits = |name: &String| name.starts_with(prefix) && name.ends_with(suffix) && !name.starts_with('.');
    merge.names(&folder).into_iter().filter(fits).map(|name| format!("{folder}/{name}")).collect()
}

/// The order that the loader's binary search expects (`_dl_cache_libcmp`): runs of digits compare as numbers.
pub(crate) fn libcmp(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let (mut i, mut j) = (0, 0);
    while i < a.len() {
        if a[i].is_ascii_digit() {
            if j < b.len() && b[j].is_ascii_digit() {
                let (x, after_x) = digits(a, i);
                let (y, after_y) = digits(b, j);
                let order = x.len().cmp(&y.len()).then_with(|| x.cmp(y));
                if order != Ordering::Equal {
                    return order;
                }
                (i, j) = (after_x, after_y);
                continue;
            }
            return Ordering::Greater;
        }
        if j < b.len() && b[j].is_ascii_digit() {
            return Ordering::Less;
        }
        match a[i].cmp(b.get(j).unwrap_or(&0)) {
            Ordering::Equal => (i, j) = (i + 1, j + 1),
            other => return other,
        }
    }
    if j < b.len() { Ordering::Less } else { Ordering::Equal }
}

fn digits(text: &[u8], from: usize) -> (&[u8], usize) {
    let end = text[from..].iter().position(|c| !c.is_ascii_digit()).map_or(text.len(), |n| from + n);
    let start = text[from..end].iter().position(|c| *c != b'0').map_or(end, |n| from + n);
    (&text[start..end], end)
}

/// Writes the cache file.
pub(crate) fn encode(mut entries: Vec<CacheEntry>) -> Vec<u8> {
    entries.sort_by(|a, b| libcmp(&b.name, &a.name).then_with(|| b.flags.cmp(&a.flags)));
    let strings_at = HEADER_BYTES + entries.len() * ENTRY_BYTES;
    let mut strings: Vec<u8> = Vec::new();
    let mut table: Vec<u8> = Vec::new();
    let mut string = |text: &str| {
        let offset = number(strings_at + strings.len());
        strings.extend_from_slice(text.as_bytes());
        strings.push(0);
        offset
    };
    for entry in &entries {
        let key = string(&entry.name);
        let value = string(&entry.path);
        for word in [entry.flags, key, value, 0, 0, 0] {
            table.extend_from_slice(&word.to_le_bytes());
        }
    }
    let mut file = MAGIC.to_vec();
    file.extend_from_slice(&number(entries.len()).to_le_bytes());
    file.extend_from_slice(&number(strings.len()).to_le_bytes());
    file.extend_from_slice(&[LITTLE_ENDIAN, 0, 0, 0]);
    file.resize(HEADER_BYTES, 0);
    file.extend(table);
    file.extend(strings);
    file
}

/// The format has 32 bits; a tree with 4 GiB of library names does not exist.
fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_the_loaders() {
        for (a, b) in [
            ("libz.so.1", "libz.so.2"),
            ("libz.so.2", "libz.so.10"),
            ("liba.so.1", "libb.so.1"),
            ("libx.so", "libx.so.1"),
        ] {
            assert_eq!(libcmp(a, b), Ordering::Less, "{a} {b}");
            assert_eq!(libcmp(b, a), Ordering::Greater, "{b} {a}");
        }
        assert_eq!(libcmp("lib1.so", "liba.so"), Ordering::Greater, "digits sort after letters");
    }

    #[test]
    fn the_file_has_the_layout_of_glibc() {
        let entry =
            |name: &str| CacheEntry { name: name.into(), path: format!("/lib/{name}"), flags: FLAGS_X86_64 };
        let file = encode(vec![entry("liba.so.1"), entry("libb.so.1")]);
        assert!(file.starts_with(MAGIC));
        let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
        assert_eq!(word(20), 2);
        assert_eq!(HEADER_BYTES + 2 * ENTRY_BYTES + word(24), file.len());
        let text = |at: usize| file[at..].split(|b| *b == 0).next().unwrap();
        assert_eq!(text(word(HEADER_BYTES + 4)), b"libb.so.1", "descending order");
        assert_eq!(text(word(HEADER_BYTES + ENTRY_BYTES + 8)), b"/lib/liba.so.1");
    }
}
