//! What an RPM package requires, as evidence.
//!
//! Names of libraries (`libz.so.1()(64bit)`) are the same in every distribution and decide. Paths of well-known programs
//! stand for Debian's packages of them. Names of packages are those of another distribution: a note, no more.

use std::collections::{BTreeMap, BTreeSet};

use hatchway_envs::choose::{Asked, Need};
use hatchway_envs::debian::relation::Relation;
use hatchway_envs::resolve::Group;
use hatchway_inspect::{Facts, PackageFacts, PackageKind};

use crate::recipe::Architecture;
use crate::steps::Library;

/// Programs that packages require by path, and Debian's packages of them.
const PROGRAMS: [(&str, &str); 12] = [
    ("/usr/bin/perl", "perl"),
    ("/usr/bin/python3", "python3"),
    ("/usr/bin/tclsh", "tcl"),
    ("/usr/bin/wish", "tk"),
    ("/usr/bin/ruby", "ruby"),
    ("/usr/bin/gawk", "gawk"),
    ("/bin/tcsh", "tcsh"),
    ("/usr/bin/tcsh", "tcsh"),
    ("/bin/csh", "csh"),
    ("/bin/ksh", "ksh93u+m"),
    ("/bin/zsh", "zsh"),
    ("/usr/bin/zsh", "zsh"),
];

/// Libraries that packages require by name though no program in them is linked with them; those in `known` are decided by
/// the programs themselves. Names of 32-bit libraries are left to the programs: they say which of them they need.
pub(crate) fn needs(
    all: &[&Facts],
    brought: &BTreeSet<Library<'_>>,
    known: &BTreeSet<Library<'_>>,
) -> Vec<Need> {
    let mut found: BTreeMap<String, Need> = BTreeMap::new();
    for package in packages(all) {
        for (soname, version) in package.requires.iter().filter_map(|text| library(text)) {
            if [brought, known].iter().any(|set| set.contains(&(soname, "x86-64"))) {
                continue;
            }
            let need = found.entry(soname.to_owned()).or_insert_with(|| Need {
                soname: soname.to_owned(),
                versions: Vec::new(),
                wanted_by: format!("the package {}", package.name),
                architecture: Architecture::Amd64.name().to_owned(),
            });
            if !version.is_empty() && !need.versions.iter().any(|there| there == version) {
                need.versions.push(version.to_owned());
            }
        }
    }
    found.into_values().collect()
}

/// Programs that packages require by path, as packages of Debian.
pub(crate) fn depends(all: &[&Facts]) -> Vec<Asked> {
    let mut found = Vec::new();
    for package in packages(all) {
        let named = PROGRAMS.iter().filter(|(path, _)| package.requires.iter().any(|text| text == path));
        found.extend(named.map(|(_, name)| Asked {
            whose: package.name.clone(),
            group: Group {
                architecture: Architecture::Amd64.name().to_owned(),
                alternatives: vec![Relation::any(name)],
            },
        }));
    }
    found
}

/// What a package requires by names that mean nothing to Debian.
pub(crate) fn foreign_names(package: &PackageFacts) -> Vec<&str> {
    // `config(…)` is the package itself.
    let is_own = |text: &str| {
        let of_rpm = ["/", "rtld(", "config("].iter().any(|start| text.starts_with(start));
        !of_rpm && !text.contains("(64bit)") && !text.contains(".so")
    };
    package.requires.iter().map(String::as_str).filter(|text| is_own(text)).collect()
}

fn packages<'f>(all: &[&'f Facts]) -> impl Iterator<Item = &'f PackageFacts> {
    let packages: Vec<&PackageFacts> = all.iter().filter_map(|facts| facts.package.as_ref()).collect();
    packages.into_iter().filter(|package| package.kind == PackageKind::Rpm)
}

/// `libc.so.6(GLIBC_2.34)(64bit)`: the library and the symbol version, of 64 bits only.
fn library(text: &str) -> Option<(&str, &str)> {
    let rest = text.strip_suffix("(64bit)")?;
    let (soname, version) = rest.strip_suffix(')')?.split_once('(')?;
    (soname.contains(".so") && !soname.contains('/')).then_some((soname, version))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(requires: &[&str]) -> PackageFacts {
        let requires = requires.iter().map(|text| (*text).to_owned()).collect();
        PackageFacts { requires, ..PackageFacts::new(PackageKind::Rpm, "acme".into(), "1".into()) }
    }

    #[test]
    fn libraries_are_told_from_names() {
        assert_eq!(library("libc.so.6(GLIBC_2.34)(64bit)"), Some(("libc.so.6", "GLIBC_2.34")));
        assert_eq!(library("libz.so.1()(64bit)"), Some(("libz.so.1", "")));
        for other in
            ["libz.so.1", "rtld(GNU_HASH)", "perl(File::Spec)", "config(acme) = 1", "pkgconfig(x)(64bit)"]
        {
            assert_eq!(library(other), None, "{other}");
        }
        let package = package(&[
            "libz.so.1()(64bit)",
            "/bin/sh",
            "rtld(GNU_HASH)",
            "shadow-utils",
            "glibc >= 2.3",
            "config(acme) = 1",
        ]);
        assert_eq!(foreign_names(&package), ["shadow-utils", "glibc >= 2.3"]);
    }
}
