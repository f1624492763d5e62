//! The `Contents` index of one component, cut down to shared libraries: which package brings which soname.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A library file in a package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Provider {
    /// Package name.
    pub package: String,
    /// Absolute path of the file or link.
    pub path: String,
}

/// File name (`libssl.so.3`) → the packages that have it.
pub type Libraries = BTreeMap<String, Vec<Provider>>;

/// Adds the libraries of one `Contents` file to `libraries`.
pub fn parse(text: &str, libraries: &mut Libraries) {
    let bytes = text.as_bytes();
    // ".so" is rare: searching for it and then finding the line's ends reads the 150 MB once.
    let mut from = 0;
    for hit in memchr::memmem::find_iter(bytes, b".so") {
        if hit < from {
            continue;
        }
        let start = memchr::memrchr(b'\n', &bytes[..hit]).map_or(0, |n| n + 1);
        let end = memchr::memchr(b'\n', &bytes[hit..]).map_or(bytes.len(), |n| hit + n);
        from = end;
        if let Some(line) = text.get(start..end) {
            parse_line(line, libraries);
        }
    }
}

fn parse_line(line: &str, libraries: &mut Libraries) {
    // The path may hold blanks, the list of packages may not.
    let Some((path, packages)) = line.trim_end().rsplit_once([' ', '\t']) else { return };
    let path = path.trim_end();
    let Some(name) = path.rsplit('/').next().filter(|name| is_library(name)) else { return };
    for package in packages.split(',') {
        let package = package.rsplit('/').next().unwrap_or(package);
        let provider = Provider { package: package.to_owned(), path: format!("/{path}") };
        libraries.entry(name.to_owned()).or_default().push(provider);
    }
}

/// `libx.so`, `libx.so.1`, `libx.so.1.2`, `ld-linux-x86-64.so.2`, not `x.so.py` or `x.sources`.
fn is_library(name: &str) -> bool {
    let Some(at) = name.rfind(".so") else { return false };
    let rest = &name[at + 3..];
    at > 0
        && (rest.is_empty()
            || rest.strip_prefix('.').is_some_and(|v| v.starts_with(|c: char| c.is_ascii_digit())))
}

/// The folders in which the loader of `multiarch` looks by itself (glibc on Debian), merged `/usr` included.
#[must_use]
pub fn default_directories(multiarch: &str) -> Vec<String> {
    let mut all = Vec::new();
    for prefix in ["", "/usr"] {
        all.extend([format!("{prefix}/lib/{multiarch}"), format!("{prefix}/lib"), format!("{prefix}/lib64")]);
    }
    all.push(format!("/usr/local/lib/{multiarch}"));
    all.push("/usr/local/lib".into());
    all
}

/// The packages that bring `soname` where the loader finds it, best first: those in `preferred`, then short names.
#[must_use]
pub fn providers<'a>(
    libraries: &'a Libraries,
    soname: &str,
    multiarch: &str,
    preferred: &dyn Fn(&str) -> bool,
) -> Vec<&'a Provider> {
    let directories = default_directories(multiarch);
    let mut found: Vec<&Provider> = libraries
        .get(soname)
        .into_iter()
        .flatten()
        .filter(|p| {
            p.path.rsplit_once('/').is_some_and(|(directory, _)| directories.iter().any(|d| d == directory))
        })
        .collect();
    found.sort_by_key(|p| (!preferred(&p.package), p.package.len(), &p.package, &p.path));
    found.dedup_by(|a, b| a.package == b.package);
    found
}

/// Names in the index that are close to a soname that nobody provides: other versions of the same library
/// first, then small spelling differences; at most five.
#[must_use]
pub fn near_misses(libraries: &Libraries, soname: &str) -> Vec<String> {
    let stem = stem(soname);
    let mut scored: Vec<(usize, usize, &String)> = libraries
        .keys()
        .filter(|name| name.as_str() != soname)
        .filter_map(|name| {
            let other = self::stem(name);
            // A name without a version is for the linker, not for the loader: it helps least.
            let unversioned = usize::from(name.ends_with(".so"));
            let distance = if other == stem { 0 } else { edit_distance(other, stem, 2)? + 1 };
            Some((distance, unversioned, name))
        })
        .collect();
    scored.sort();
    scored.into_iter().take(5).map(|(_, _, name)| name.clone()).collect()
}

fn stem(soname: &str) -> &str {
    soname.split(".so").next().unwrap_or(soname)
}

/// Levenshtein distance, or `None` where it is over `limit`.
fn edit_distance(a: &str, b: &str, limit: usize) -> Option<usize> {
    if a.len().abs_diff(b.len()) > limit || a.is_empty() || b.is_empty() {
        return None;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    let distance = row[b.len()];
    (distance <= limit).then_some(distance)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTENTS: &str = "\
usr/lib/x86_64-linux-gnu/libssl.so.3          libs/libssl3
usr/lib/x86_64-linux-gnu/libz.so.1            libs/zlib1g,devel/other
usr/lib/i386-linux-gnu/libz.so.1              libs/foreign
usr/share/a name/x.so.py                      python/no
etc/x.sources                                 admin/no
usr/lib/vendor/libz.so.1                      libs/private
";

    fn libraries() -> Libraries {
        let mut libraries = Libraries::new();
        parse(CONTENTS, &mut libraries);
        libraries
    }

    #[test]
    fn only_libraries_are_kept_and_only_default_folders_provide() {
        let libraries = libraries();
        assert_eq!(libraries.keys().collect::<Vec<_>>(), ["libssl.so.3", "libz.so.1"]);
        let names = |preferred: &dyn Fn(&str) -> bool| {
            providers(&libraries, "libz.so.1", "x86_64-linux-gnu", preferred)
                .iter()
                .map(|p| p.package.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&|_| false), ["other", "zlib1g"]);
        assert_eq!(names(&|name| name == "zlib1g"), ["zlib1g", "other"]);
    }

    #[test]
    fn near_misses_name_other_versions_first() {
        assert_eq!(near_misses(&libraries(), "libssl.so.1.1"), ["libssl.so.3"]);
        assert_eq!(near_misses(&libraries(), "libsl.so.3"), ["libssl.so.3", "libz.so.1"]);
        assert!(near_misses(&libraries(), "libvendor.so.9").is_empty());
    }
}
