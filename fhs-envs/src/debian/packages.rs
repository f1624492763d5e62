//! The `Packages` index of one component: what can be installed.

use serde::{Deserialize, Serialize};

use super::deb822;
use crate::digest::Sha256;

/// `Multi-Arch`: what a package is to packages of another architecture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MultiArch {
    /// Nothing, and it is installed for one architecture at a time.
    #[default]
    No,
    /// Nothing, but it can be installed for several architectures, in the same version.
    Same,
    /// As good as one of their own: a program, or data.
    Foreign,
    /// As good as one of their own where they ask for `:any`.
    Allowed,
}

impl MultiArch {
    fn of(value: &str) -> Self {
        match value {
            "same" => Self::Same,
            "foreign" => Self::Foreign,
            "allowed" => Self::Allowed,
            _ => Self::No,
        }
    }
}

/// One binary package of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// `amd64`, `all` …
    pub architecture: String,
    /// `Multi-Arch`.
    pub multi_arch: MultiArch,
    /// `Depends`, as written.
    pub depends: String,
    /// `Pre-Depends`, as written.
    pub pre_depends: String,
    /// `Provides`, as written.
    pub provides: String,
    /// `Conflicts` and `Breaks`, as written, joined.
    pub conflicts: String,
    /// `Replaces`, as written.
    pub replaces: String,
    /// Path of the file below the mirror's root.
    pub filename: String,
    /// Size of the file in bytes.
    pub size: u64,
    /// Digest of the file.
    pub sha256: Sha256,
    /// Size once unpacked, in KiB, as the archive estimates it.
    pub installed_kib: u64,
    /// Index into the sources of the suite it was read from.
    pub source: usize,
}

/// Parses a `Packages` file. Paragraphs without name, version, file, size or digest are passed over, as apt does.
#[must_use]
pub fn parse(text: &str, source: usize) -> Vec<Package> {
    deb822::paragraphs(text).filter_map(|paragraph| package(&paragraph, source)).collect()
}

fn package(paragraph: &deb822::Paragraph<'_>, source: usize) -> Option<Package> {
    let text = |name| paragraph.text(name).to_owned();
    let join = |a: String, b: String| match (a.is_empty(), b.is_empty()) {
        (false, false) => format!("{a}, {b}"),
        _ => a + &b,
    };
    Some(Package {
        name: paragraph.get("Package")?.to_owned(),
        version: paragraph.get("Version")?.to_owned(),
        architecture: text("Architecture"),
        multi_arch: MultiArch::of(paragraph.text("Multi-Arch")),
        depends: text("Depends"),
        pre_depends: text("Pre-Depends"),
        provides: text("Provides"),
        conflicts: join(text("Conflicts"), text("Breaks")),
        replaces: text("Replaces"),
        filename: paragraph.get("Filename")?.to_owned(),
        size: paragraph.get("Size")?.parse().ok()?,
        sha256: paragraph.get("SHA256")?.parse().ok()?,
        installed_kib: paragraph.text("Installed-Size").parse().unwrap_or(0),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paragraph_becomes_a_package_and_a_broken_one_nothing() {
        let digest = Sha256::of(b"x");
        let text = format!(
            "Package: a\nVersion: 1\nArchitecture: amd64\nDepends: b (>= 2),\n c\nConflicts: d\nBreaks: e\n\
             Filename: pool/a.deb\nSize: 7\nSHA256: {digest}\n\nPackage: broken\nVersion: 1\n"
        );
        let all = parse(&text, 3);
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].depends.as_str(), all[0].conflicts.as_str()), ("b (>= 2),\n c", "d, e"));
        assert_eq!((all[0].size, all[0].source), (7, 3));
    }
}
