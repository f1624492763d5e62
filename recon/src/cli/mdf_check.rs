//! `hatchway-recon mdf check`.

use std::path::Path;
use std::process::ExitCode;

use super::report::{self, Progress};
use crate::Error;
use crate::mdf::{File, Report, Severity, check};

pub(super) fn run(path: &Path, json: bool, strict: bool) -> Result<ExitCode, Error> {
    let file = File::open(path)?;
    let mut progress = Progress::new();
    let report = check::check(&file, &mut |done, total| progress.at(done, total));
    progress.end();
    if json {
        report::json(&report)?;
    } else {
        report::data(table(&report))?;
    }
    let lowest = if strict { Severity::Warning } else { Severity::Violation };
    let failed = report.findings.iter().any(|finding| finding.severity >= lowest);
    Ok(ExitCode::from(u8::from(failed)))
}

/// Findings by severity, within 80 columns.
fn table(report: &Report) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        let path = if finding.path.is_empty() { "/" } else { &finding.path };
        text.push_str(&format!("{:<10} {path}\n", finding.severity));
        text.push_str(&report::wrapped(&format!("found:    {}", finding.found), 11));
        text.push_str(&report::wrapped(&format!("expected: {}", finding.expected), 11));
    }
    let version = report.version.as_deref().unwrap_or("of no version");
    let count = |severity, name: &str| match report.count(severity) {
        1 => format!("1 {name}"),
        many => format!("{many} {name}s"),
    };
    let counts =
        [(Severity::Violation, "violation"), (Severity::Warning, "warning"), (Severity::Note, "note")];
    let counts = counts.map(|(severity, name)| count(severity, name)).join(", ");
    text.push_str(&format!("MDF {version}: {counts}"));
    text
}
