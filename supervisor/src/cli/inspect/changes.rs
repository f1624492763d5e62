//! `hatchway inspect --diff OLD NEW`: what changed between two versions of a vendor's package.

use std::process::ExitCode;

use hatchway_inspect::Facts;
use hatchway_inspect::diff::{self, Area, Change, ChangeKind, Diff};
use schemars::JsonSchema;
use serde::Serialize;

use super::layout::{Page, size};
use crate::context::Context;
use crate::error::Error;
use crate::plan::{self, Host, Plan};
use crate::recipe::{Rung, Runner};

/// Lines of one changed script that are shown.
const SCRIPT_LINES: usize = 20;

/// What `inspect --diff --json` prints.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(extend("$id" = "urn:hatchway:inspect-diff:1"))]
pub(in crate::cli) struct DiffReport<'r> {
    /// What changed.
    diff: &'r Diff,
    /// How the older one would be run.
    old_plan: &'r Plan,
    /// How the newer one would be run.
    new_plan: &'r Plan,
}

/// Exit 0 when nothing of note changed, 1 when something did.
pub(super) fn main(context: &Context, old: &Facts, new: &Facts, json: bool) -> Result<ExitCode, Error> {
    let diff = diff::diff(old, new);
    let host = Host::detect();
    let (old_plan, new_plan) = (plan::plan(old, None, &host), plan::plan(new, None, &host));
    if json {
        let report = DiffReport { diff: &diff, old_plan: &old_plan, new_plan: &new_plan };
        context.printer.data(crate::cli::json(&report)?);
    } else {
        context.printer.raw(&text(&diff, &old_plan, &new_plan));
    }
    Ok(if diff.changes.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn text(diff: &Diff, old_plan: &Plan, new_plan: &Plan) -> String {
    let mut page = Page::default();
    for (sign, artifact) in [("-", &diff.old), ("+", &diff.new)] {
        let digest: String = artifact.sha256.chars().take(12).collect();
        page.line(&format!("{sign} {}  {}, sha256 {digest}…", artifact.file, size(artifact.size)));
    }
    if diff.changes.is_empty() {
        let text = if diff.old.sha256 == diff.new.sha256 {
            "The same file."
        } else {
            "Nothing that matters to running it changed: other bytes, the same facts."
        };
        page.heading(text);
    }
    let mut rest = diff.changes.as_slice();
    while let Some(first) = rest.first() {
        let end = rest.iter().position(|change| change.area != first.area).unwrap_or(rest.len());
        let (group, others) = rest.split_at(end);
        page.rows(heading(first.area), group.iter().map(row).collect());
        for change in group.iter().filter(|change| !change.lines.is_empty()) {
            script(change, &mut page);
        }
        rest = others;
    }
    page.heading("Verdict");
    let before = (old_plan.rung, old_plan.runner);
    let after = (new_plan.rung, new_plan.runner);
    if before == after {
        page.wrapped(&format!("still rung {}", named(after)), 2);
    } else {
        page.wrapped(&format!("rung {} becomes rung {}", named(before), named(after)), 2);
        for reason in &new_plan.reasons {
            page.wrapped(&format!("because {} [{}]", reason.text, reason.rule), 2);
        }
    }
    page.text
}

fn named((rung, runner): (Rung, Runner)) -> String {
    if runner == Runner::None { rung.to_string() } else { format!("{rung} with {runner}") }
}

fn row(change: &Change) -> Vec<String> {
    // The digest behind what a script calls is for programs; the person gets its lines.
    let shown = |text: &str| match change.area {
        Area::Scripts => text.rsplit_once(" (").map_or(text, |(calls, _)| calls).to_owned(),
        _ => text.to_owned(),
    };
    let said = |text: &Option<String>| text.as_deref().map(shown).filter(|text| !text.is_empty());
    let (sign, text) = match change.kind {
        ChangeKind::Added => ("+", said(&change.new).unwrap_or_default()),
        ChangeKind::Removed => ("-", said(&change.old).unwrap_or_default()),
        ChangeKind::Changed | ChangeKind::Raised | ChangeKind::Lowered => {
            let before = said(&change.old).unwrap_or_else(|| "any".to_owned());
            let after = said(&change.new).unwrap_or_else(|| "any".to_owned());
            let word = match change.kind {
                ChangeKind::Raised => "raised: ",
                ChangeKind::Lowered => "lowered: ",
                _ => "",
            };
            ("~", format!("{word}{before} -> {after}"))
        }
    };
    vec![format!("{sign} {}", change.subject), text]
}

fn script(change: &Change, page: &mut Page) {
    for line in change.lines.iter().take(SCRIPT_LINES) {
        page.line(&format!("      {line}"));
    }
    if change.lines.len() > SCRIPT_LINES {
        page.line(&format!("      … and {} more lines (--json has all)", change.lines.len() - SCRIPT_LINES));
    }
}

fn heading(area: Area) -> &'static str {
    match area {
        Area::Package => "Package",
        Area::Libraries => "Libraries it needs from outside",
        Area::SymbolVersions => "Symbol versions it wants",
        Area::Declared => "Packages it declares",
        Area::Programs => "Programs",
        Area::Linking => "How its programs and libraries are linked",
        Area::Scripts => "Scripts of the package",
        Area::System => "For the system",
        Area::Rights => "Rights",
        Area::Drivers => "Drivers",
        Area::Technologies => "Recognised",
        Area::Endpoints => "Addresses in its programs",
        Area::Paths => "Paths in its programs",
        Area::LoadedByName => "Libraries it may load by name",
        Area::Bundled => "Libraries it brings for itself",
        Area::Windows => "Windows files",
        Area::Unread => "Not read",
        Area::Archives => "Archives inside",
    }
}
