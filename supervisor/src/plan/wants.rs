//! What a recipe will have to give the tool, by what was recognised in it.

use std::collections::BTreeSet;

use hatchway_inspect::{DroppedWhat, EffectKind, Technology, TechnologyKind};
use schemars::JsonSchema;
use serde::Serialize;

use super::rules::Evidence;
use crate::recipe::is_licence;

/// A key of the recipe that the tool seems to want.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct Want {
    /// The key, as a recipe spells it: `[run] display = "nested"`, `[[device]]`, `[identity]`.
    pub key: String,
    /// What was recognised: `Qt 5`, `FlexLM`.
    pub because: String,
    /// The name of the file by which it was recognised, and how.
    pub evidence: String,
}

/// One want for each key and technology, sorted by key.
pub(super) fn wants(evidence: &Evidence<'_>) -> Vec<Want> {
    let mut wants: Vec<Want> = evidence.technologies().filter_map(want).collect();
    wants.extend(licence_files(evidence));
    wants.extend(capabilities(evidence));
    wants.sort();
    wants.dedup_by(|a, b| (&a.key, &a.because) == (&b.key, &b.because));
    wants
}

fn want(technology: &Technology) -> Option<Want> {
    let key = match technology.kind {
        TechnologyKind::Gui => "[run] display = \"nested\"".to_owned(),
        TechnologyKind::Gpu => "[run] gpu = true".to_owned(),
        TechnologyKind::Audio => "[run] audio = true".to_owned(),
        TechnologyKind::Licence => "[[file]] or [[device]] for its licence".to_owned(),
        TechnologyKind::HostIdentity => "[identity]".to_owned(),
        TechnologyKind::Device => "[[device]]".to_owned(),
        TechnologyKind::Runtime | TechnologyKind::Installer | TechnologyKind::Packer => return None,
    };
    let first = technology.evidence.first();
    let evidence = first.map(|sign| format!("{} {}", base(&sign.file), sign.what)).unwrap_or_default();
    Some(Want { key, because: technology.name.clone(), evidence })
}

/// What its files may do beyond the user's rights: as the package keeps it, or as its scripts set it.
fn capabilities(evidence: &Evidence<'_>) -> Vec<Want> {
    let kept = evidence.each(|facts| &facts.dropped, |dropped| &dropped.path);
    let kept = kept.into_iter().filter(|(_, dropped)| dropped.what == DroppedWhat::Xattrs);
    let kept = kept.map(|(path, dropped)| (base(&path).to_owned(), dropped.detail.clone(), "has".to_owned()));
    let set = evidence.effects(EffectKind::Capabilities);
    let set = set.map(|(script, effect)| {
        (base(&effect.what).to_owned(), effect.detail.clone(), format!("is given by {script}"))
    });
    let want = |(file, text, how): (String, String, String)| {
        let names = names_of(&text);
        let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
        (!names.is_empty()).then(|| Want {
            key: format!("[run] capabilities = [{}]", quoted.join(", ")),
            because: file,
            evidence: format!("{how} {text}"),
        })
    };
    kept.chain(set).filter_map(want).collect()
}

/// The names in the text form of capabilities: `cap_net_raw,cap_sys_rawio+ep`.
fn names_of(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("cap_")).map(str::to_owned).collect()
}

/// Files of licences that programs name and the artifact does not bring.
fn licence_files(evidence: &Evidence<'_>) -> Vec<Want> {
    let constants = evidence.each(|facts| &facts.hard_coded_paths, |constant| &constant.path);
    let named = constants.into_iter().filter(|(_, constant)| is_licence(&constant.path));
    named
        .map(|(_, constant)| Want {
            key: "[[file]]".to_owned(),
            because: format!("licence {}", constant.path),
            evidence: format!("{} names it at {:#x}", base(&constant.file), constant.offset),
        })
        .collect()
}

fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
