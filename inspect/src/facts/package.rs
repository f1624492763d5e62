//! What a package says about itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which packaging system wrote [`PackageFacts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PackageKind {
    /// A Debian package.
    Deb,
    /// A Python wheel.
    Wheel,
    /// An RPM package.
    Rpm,
    /// A Windows installer database.
    Msi,
    /// A Java archive whose manifest names it.
    Jar,
}

/// A package's metadata. Fields of relations are the raw text of the control file, on one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PackageFacts {
    /// Which kind of package.
    pub kind: PackageKind,
    /// `Package` or `Name`.
    pub name: String,
    /// `Version`; of an RPM package `epoch:version-release`, without an epoch of zero.
    pub version: String,
    /// `Architecture`; of a wheel, none.
    pub architecture: Option<String>,
    /// `Section`.
    pub section: Option<String>,
    /// `Vendor`.
    pub vendor: Option<String>,
    /// `Maintainer`; of a wheel the author.
    pub maintainer: Option<String>,
    /// `Homepage` or `Home-page`.
    pub homepage: Option<String>,
    /// `License` or `License-Expression`.
    pub license: Option<String>,
    /// The first line of `Description`, or `Summary`.
    pub description: Option<String>,
    /// `Depends`.
    pub depends: Option<String>,
    /// `Pre-Depends`.
    pub pre_depends: Option<String>,
    /// `Recommends`.
    pub recommends: Option<String>,
    /// `Provides`.
    pub provides: Option<String>,
    /// `Conflicts`.
    pub conflicts: Option<String>,
    /// `Breaks`.
    pub breaks: Option<String>,
    /// `Replaces`.
    pub replaces: Option<String>,
    /// What an RPM package requires, as `name`, `name(part)(64bit)` or `name >= version`, sorted; what only speaks to rpm
    /// itself (`rpmlib(…)`) left out.
    pub requires: Vec<String>,
    /// A wheel's `Requires-Dist`, in order.
    pub requires_dist: Vec<String>,
    /// A wheel's `Requires-Python`.
    pub requires_python: Option<String>,
    /// `Main-Class` of a Java archive: what `java -jar` starts.
    pub main_class: Option<String>,
    /// A wheel's compatibility tags, as its `WHEEL` file lists them, sorted.
    pub tags: Vec<String>,
}

impl PackageFacts {
    /// A package of this kind and name, everything else unknown.
    #[must_use]
    pub fn new(kind: PackageKind, name: String, version: String) -> Self {
        Self {
            kind,
            name,
            version,
            architecture: None,
            section: None,
            vendor: None,
            maintainer: None,
            homepage: None,
            license: None,
            description: None,
            depends: None,
            pre_depends: None,
            recommends: None,
            provides: None,
            conflicts: None,
            breaks: None,
            replaces: None,
            requires: Vec::new(),
            requires_dist: Vec::new(),
            requires_python: None,
            main_class: None,
            tags: Vec::new(),
        }
    }
}
