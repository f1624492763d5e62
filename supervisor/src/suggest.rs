//! Whether a new recipe runs an artifact as an installer, or unpacks it.
//!
//! Unpacking is the better way where all that matters is inside: nothing is run, and the tree is known before. An installer
//! is run where unpacking leaves out what counts: a script that unpacks what is appended to it, contents that only the file
//! itself can open, and scripts inside that write to fixed places.

use std::path::Path;

use hatchway_inspect::{Facts, ScriptFacts};

use crate::error::Error;
use crate::licence;

/// Places named as evidence.
const PLACES_MAX: usize = 4;

/// Why an artifact is run, and what speaks of a licence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suggestion {
    /// The evidence, for a comment.
    pub why: String,
    /// What is run.
    pub run: Vec<String>,
    /// See [`licence::evidence`].
    pub licence: Option<String>,
}

/// Whether it is to be run. `path` is where the artifact can be read.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn installer(facts: &Facts, path: &Path) -> Result<Option<Suggestion>, Error> {
    let file = &facts.artifact.file;
    let itself = |why: String| (why, vec![format!("./{file}")]);
    let found = match facts.artifact.format.as_str() {
        "makeself" => makeself(facts).map(itself),
        "script" => script(facts).map(itself),
        "msi" | "pe" => windows(facts),
        _ => None,
    };
    let Some((why, run)) = found else { return Ok(None) };
    Ok(Some(Suggestion { why, run, licence: licence::evidence(facts, path)? }))
}

/// What each maker's installers take for "ask nothing" (NSIS' "Command Line Usage", Inno Setup's "Setup Command Line
/// Parameters", the burn engine's of WiX).
const UNATTENDED: [(&str, &[&str]); 3] = [
    ("NSIS", &["/S"]),
    ("Inno Setup", &["/VERYSILENT", "/SUPPRESSMSGBOXES", "/NORESTART", "/SP-"]),
    ("WiX Burn", &["/quiet", "/norestart"]),
];

/// A Windows installer is run by Wine. One whose maker is not known is left to a person.
fn windows(facts: &Facts) -> Option<(String, Vec<String>)> {
    let file = facts.artifact.file.clone();
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    if facts.artifact.format == "msi" {
        let run = [words(&["wine", "msiexec", "/i"]), vec![file], words(&["/qn"])].concat();
        return Some(("a Windows installer database".to_owned(), run));
    }
    let maker = facts.pe.iter().find_map(|pe| pe.installer.as_deref())?;
    let (_, switches) = UNATTENDED.iter().find(|(known, _)| maker.starts_with(known))?;
    let run = [words(&["wine"]), vec![format!("./{file}")], words(switches)].concat();
    Some((format!("an installer made by {maker}"), run))
}

fn makeself(facts: &Facts) -> Option<String> {
    if let Some(reason) = facts.contains.iter().find_map(|contained| contained.unopened.as_ref()) {
        return Some(format!("what it carries can only be opened by running it: {reason}"));
    }
    let inside = facts.contains.iter().filter_map(|contained| contained.facts.as_deref());
    inside.flat_map(|facts| &facts.scripts).find_map(|script| {
        let places = places(script);
        (!places.is_empty()).then(|| format!("its {} writes {}", script.name, named(&places)))
    })
}

fn script(facts: &Facts) -> Option<String> {
    let payload = facts.contains.iter().find(|contained| contained.offset > 0)?;
    let places: Vec<&str> = facts.scripts.iter().flat_map(places).collect();
    let writes = if places.is_empty() { String::new() } else { format!(" and writes {}", named(&places)) };
    Some(format!(
        "the script unpacks what is appended to it at {:#x} ({}){writes}",
        payload.offset, payload.format
    ))
}

/// Fixed places that stay: not what is temporary, nor a place that only a variable knows.
fn places(script: &ScriptFacts) -> Vec<&str> {
    let stays = |path: &&str| {
        let temporary = ["/tmp", "/var/tmp", "/dev", "/proc", "/run", "/var/run"];
        let below = |folder: &str| {
            path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        path.starts_with('/') && !temporary.into_iter().any(below)
    };
    script.writes.iter().map(String::as_str).filter(stays).collect()
}

fn named(places: &[&str]) -> String {
    let more = places.len().saturating_sub(PLACES_MAX);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    places.iter().take(PLACES_MAX).copied().collect::<Vec<_>>().join(", ") + &rest
}
