//! Everything in which a file differs from the MDF specification.

mod dims;
mod facts;
mod rules;
mod scan;
mod sparse;

use std::fmt;

use serde::Serialize;

use self::facts::Facts;
use super::File;
use super::fields::Need;
use super::tree::Tree;
use crate::Error;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Allowed, but likely a mistake, or something that other readers cannot cope with.
    Warning,
    /// Against the specification.
    Violation,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Violation => "violation",
        })
    }
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// Path of the dataset or group; empty for the root.
    pub path: String,
    /// What is there.
    pub found: String,
    /// What the specification, or a reader, asks for.
    pub expected: String,
}

impl Finding {
    fn new(severity: Severity, path: &str, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { severity, path: path.to_owned(), found: found.into(), expected: expected.into() }
    }

    pub(super) fn note(path: &str, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::new(Severity::Note, path, found, expected)
    }

    pub(super) fn warning(path: &str, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::new(Severity::Warning, path, found, expected)
    }

    pub(super) fn violation(path: &str, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::new(Severity::Violation, path, found, expected)
    }
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The file, as it was named.
    pub file: String,
    /// The version that it says it has.
    pub version: Option<String>,
    /// What was found, most severe first, then in the order of the specification.
    pub findings: Vec<Finding>,
}

impl Report {
    /// How many findings have a severity.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }
}

/// Checks a file. The data are read once, in parts; `progress` is told how many of how many bytes are done.
#[must_use]
pub fn check(file: &File, progress: &mut dyn FnMut(u64, u64)) -> Report {
    let mut findings = Vec::new();
    let facts = Facts::load(file, &mut findings);
    dims::check(&facts, &mut findings);
    rules::check(&facts, &mut findings);
    sparse::check(&facts, &mut findings);
    scan::check(&facts, &mut findings, progress);
    beyond(&Tree::of(file), &mut findings);
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let version = facts.text("/version").map(str::to_owned);
    Report { file: file.path().display().to_string(), version, findings }
}

/// Checks a file that is in memory.
///
/// # Errors
///
/// It is not an HDF5 file.
pub fn check_bytes(bytes: &[u8]) -> Result<Report, Error> {
    let file = File::from_bytes("(bytes)", bytes.to_vec())?;
    Ok(check(&file, &mut |_, _| {}))
}

/// What is there besides the fields of the specification.
fn beyond(tree: &Tree, findings: &mut Vec<Finding>) {
    for entry in &tree.entries {
        let path = entry.path.as_str();
        if entry.attributes > 0 {
            let found = match entry.attributes {
                1 => "has an attribute".to_owned(),
                many => format!("has {many} attributes"),
            };
            findings.push(Finding::warning(path, found, "MDF keeps everything in datasets"));
        }
        let custom = path.split('/').any(|name| name.starts_with('_'));
        let known = match super::fields::find(path) {
            Some(field) if field.need == Need::Extension => {
                findings.push(Finding::note(path, "a field that is not in MDF", "in use by MPIFiles.jl"));
                true
            }
            Some(_) => true,
            None => !entry.is_dataset,
        };
        if !known && !custom {
            findings.push(Finding::violation(
                path,
                "a field that MDF has not",
                "a name that begins with `_`",
            ));
        }
    }
    for (path, reason) in &tree.unlisted {
        findings.push(Finding::note(
            path,
            format!("cannot be listed: {reason}"),
            "fields are read by their names",
        ));
    }
}
