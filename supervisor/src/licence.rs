//! Whether an installer has a licence that somebody has to accept.
//!
//! There is one where the head of a makeself script carries its text, where a file near the top of what is unpacked is named
//! like one, or where a script that installs speaks of one. That is wider than it must be: what it costs is a line in a recipe.

use std::path::Path;

use hatchway_inspect::archive::EntryKind;
use hatchway_inspect::{Facts, ScriptFacts};

use crate::error::Error;
use crate::{install, installed};

/// Bytes of a script in which the variables of its head are.
const HEAD_BYTES: u64 = 64 << 10;
/// Folders above a licence that is the installer's, and not that of some library in it.
const FOLDERS_MAX: usize = 1;
/// What scripts say that show a licence. Compared in lower case.
const PHRASES: [&str; 8] = [
    "license agreement",
    "licence agreement",
    "end user licen",
    "end-user licen",
    "eula",
    "accept the licen",
    "accept this licen",
    "agree to the terms",
];

/// The first sign of a licence to accept, in words.
///
/// # Errors
/// When the artifact cannot be read.
pub(crate) fn evidence(facts: &Facts, path: &Path) -> Result<Option<String>, Error> {
    let makeself = facts.artifact.format == "makeself";
    if makeself && shows_licence(&install::head(path, HEAD_BYTES)?) {
        return Ok(Some("its makeself header carries a licence and asks for it".to_owned()));
    }
    if let Some(name) = named(facts, path)? {
        return Ok(Some(format!("it brings `{name}`")));
    }
    let scripts = facts.all().into_iter().flat_map(|(_, facts)| &facts.scripts);
    Ok(scripts.filter_map(said).next())
}

/// makeself writes `licensetxt="…"`, empty where there is none (`makeself-header.sh`).
fn shows_licence(head: &[u8]) -> bool {
    let lines = head.split(|&byte| byte == b'\n');
    let mut values = lines.filter_map(|line| line.strip_prefix(b"licensetxt="));
    values.any(|value| !matches!(value, b"" | b"\"\"" | b"''"))
}

/// A file whose name says that it is a licence.
fn named(facts: &Facts, path: &Path) -> Result<Option<String>, Error> {
    let carried = installed::carries(facts);
    let archive = !matches!(facts.artifact.format.as_str(), "script" | "elf" | "pe" | "unknown");
    // What cannot be unpacked without running it says nothing here.
    if !archive || carried && facts.contains.iter().any(|contained| contained.unopened.is_some()) {
        return Ok(None);
    }
    let mut found = None;
    installed::walk(path, carried, &mut |entry, _| {
        let name = entry.path.as_str();
        if found.is_none() && matches!(entry.kind, EntryKind::File { .. }) && is_name(name) {
            found = Some(name.escape_debug().to_string());
        }
        Ok(())
    })?;
    Ok(found)
}

fn is_name(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    let deep = path.matches('/').count() > FOLDERS_MAX;
    let first = name.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    !deep && matches!(first, "eula" | "license" | "licence" | "licenseagreement" | "licenceagreement")
}

fn said(script: &ScriptFacts) -> Option<String> {
    let text = script.text.to_ascii_lowercase();
    let (number, _) =
        text.lines().enumerate().find(|(_, line)| PHRASES.iter().any(|phrase| line.contains(phrase)))?;
    Some(format!("line {} of its {} speaks of a licence", number + 1, script.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_with_a_licence_is_told_from_one_without() {
        assert!(shows_licence(b"#!/bin/sh\nlicensetxt=\"You must\nagree\"\n"));
        assert!(!shows_licence(b"#!/bin/sh\nlicensetxt=\"\"\nhelpheader=\"\"\n"));
        assert!(!shows_licence(b"#!/bin/sh\necho licensetxt=x\n"));
    }

    #[test]
    fn names_of_licences() {
        for name in ["EULA.txt", "license", "docs/LICENCE-AGREEMENT.pdf"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["share/licenses/zlib/LICENSE", "licensing-server", "bin/licensed", "COPYING"] {
            assert!(!is_name(name), "{name}");
        }
    }
}
