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
    /// See [`licence::evidence`].
    pub licence: Option<String>,
}

/// Whether it is to be run. `path` is where the artifact can be read.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn installer(facts: &Facts, path: &Path) -> Result<Option<Suggestion>, Error> {
    let why = match facts.artifact.format.as_str() {
        "makeself" => makeself(facts),
        "script" => script(facts),
        _ => None,
    };
    let Some(why) = why else { return Ok(None) };
    Ok(Some(Suggestion { why, licence: licence::evidence(facts, path)? }))
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
