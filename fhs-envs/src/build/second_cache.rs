//! A tree's `ld.so.cache` with libraries beside it that only this machine has: those of its graphics driver.
//!
//! It is written once for each tree and set of libraries and bound over the tree's own, so that nothing is searched or
//! written at a launch.

use std::collections::BTreeSet;

use super::ldcache::{CacheEntry, ENTRY_BYTES, FLAGS_I386, FLAGS_X86_64, HEADER_BYTES, MAGIC, encode};

/// Where `ld.so` looks inside.
pub const PATH: &str = "/etc/ld.so.cache";
/// More entries than that has no cache: a full desktop has some three thousand.
const ENTRIES_MAX: usize = 1 << 17;

/// One name under which a library is found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// `libcuda.so.1`
    pub name: String,
    /// Where it is inside.
    pub path: String,
    /// `x86-64` or `i386`; names of other machines are left out.
    pub machine: String,
}

/// The names a cache has, for any machine.
///
/// Empty where the bytes are no cache of the form that glibc 2.2 and later read.
#[must_use]
pub fn names(cache: &[u8]) -> BTreeSet<String> {
    decode(cache).into_iter().map(|entry| entry.name).collect()
}

/// The names a cache has, and the paths they lead to; also of a host's own cache.
#[must_use]
pub fn paths(cache: &[u8]) -> Vec<(String, String)> {
    decode(cache).into_iter().map(|entry| (entry.name, entry.path)).collect()
}

/// The tree's cache with these names first: where both have one, the tree's is left out.
#[must_use]
pub fn with(cache: &[u8], names: &[Name]) -> Vec<u8> {
    let mut entries: Vec<CacheEntry> = names
        .iter()
        .filter_map(|found| {
            let flags = match found.machine.as_str() {
                "x86-64" => FLAGS_X86_64,
                "i386" => FLAGS_I386,
                _ => return None,
            };
            Some(CacheEntry { name: found.name.clone(), path: found.path.clone(), flags })
        })
        .collect();
    let own: BTreeSet<(String, u32)> =
        entries.iter().map(|entry| (entry.name.clone(), entry.flags)).collect();
    let rest = decode(cache).into_iter().filter(|entry| !own.contains(&(entry.name.clone(), entry.flags)));
    entries.extend(rest);
    encode(entries)
}

/// The entries for every processor. What is malformed is left out: the tree may be a vendor's.
fn decode(cache: &[u8]) -> Vec<CacheEntry> {
    // A host's `ldconfig` may write the old form in front of the new one, which then begins at a multiple of four.
    let magic = |at: usize| cache.get(at..at + MAGIC.len()).is_some_and(|bytes| bytes == MAGIC);
    let Some(start) = (0..cache.len()).step_by(4).find(|at| magic(*at)) else { return Vec::new() };
    let cache = &cache[start..];
    let word = |at: usize| -> Option<u32> {
        Some(u32::from_le_bytes(cache.get(at..at.checked_add(4)?)?.try_into().ok()?))
    };
    let text = |at: u32| -> Option<String> {
        let rest = cache.get(usize::try_from(at).ok()?..)?;
        let end = memchr::memchr(0, rest)?;
        String::from_utf8(rest[..end].to_vec()).ok()
    };
    let count = word(20).and_then(|count| usize::try_from(count).ok()).unwrap_or(0).min(ENTRIES_MAX);
    let entry = |number: usize| {
        let at = HEADER_BYTES + number * ENTRY_BYTES;
        // Entries of `glibc-hwcaps` folders count for some processors only.
        let for_all = word(at + 16)? == 0 && word(at + 20)? == 0;
        let (name, path) = (text(word(at + 4)?)?, text(word(at + 8)?)?);
        for_all.then_some(CacheEntry { name, path, flags: word(at)? })
    };
    (0..count).filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str, folder: &str, machine: &str) -> Name {
        Name { name: name.into(), path: format!("{folder}/{name}"), machine: machine.into() }
    }

    #[test]
    fn the_drivers_come_first_and_the_rest_stays() {
        let tree =
            with(&[], &[name("libcuda.so.1", "/usr/lib", "x86-64"), name("libz.so.1", "/usr/lib", "x86-64")]);
        let driver = [name("libcuda.so.1", "/driver", "x86-64"), name("libcuda.so.1", "/driver32", "i386")];
        let both = paths(&with(&tree, &driver));
        let expected = [
            ("libz.so.1", "/usr/lib/libz.so.1"),
            ("libcuda.so.1", "/driver/libcuda.so.1"),
            ("libcuda.so.1", "/driver32/libcuda.so.1"),
        ];
        assert_eq!(both, expected.map(|(name, path)| (name.to_owned(), path.to_owned())));
        assert_eq!(with(&with(&tree, &driver), &driver), with(&tree, &driver));
        assert!(names(&tree).contains("libz.so.1"));
    }

    #[test]
    fn broken_caches_have_no_names_and_do_no_harm() {
        let tree = with(&[], &[name("libz.so.1", "/usr/lib", "x86-64")]);
        for cut in 0..tree.len() {
            assert!(names(&tree[..cut]).len() <= 1);
        }
        for at in 0..tree.len() {
            let mut wild = tree.clone();
            wild[at] = 0xff;
            assert!(names(&wild).len() <= 1);
        }
        assert!(names(b"ld.so-1.7.0").is_empty());
    }

    #[test]
    fn a_hosts_own_cache_is_read_as_ldconfig_prints_it() {
        let cache = std::fs::read("/etc/ld.so.cache").unwrap();
        let printed = std::process::Command::new("/sbin/ldconfig").arg("-p").output().unwrap();
        let printed = String::from_utf8(printed.stdout).unwrap();
        let theirs: BTreeSet<&str> = printed
            .lines()
            .skip(1)
            .filter_map(|line| line.rsplit_once("=> "))
            .map(|(_, path)| path)
            .collect();
        let found = paths(&cache);
        assert!(found.len() > 10 && found.iter().all(|(_, path)| theirs.contains(path.as_str())));
    }
}
