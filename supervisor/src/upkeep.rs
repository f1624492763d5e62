//! Looking after the store with what recipes know: which there are, what they name, how a tree is made again.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use hatchway_envs::digest::Sha256;
use hatchway_envs::store::roots::Tool;
use hatchway_envs::store::verify::Report;
use serde::Serialize;

use crate::context::Context;
use crate::dirs::Dirs;
use crate::error::Error;
use crate::{artifact, recipe, steps};

/// The recipes in the folders where they are looked for, `recipes/` of the working folder among them. Those elsewhere
/// are known once they were built: the store has a record of each.
///
/// # Errors
/// When such a folder cannot be read.
pub fn recipes(dirs: &Dirs) -> Result<Vec<PathBuf>, Error> {
    let mut found = BTreeSet::new();
    for folder in std::iter::once(steps::recipes_here()).chain(dirs.recipes()) {
        let folder = std::path::absolute(&folder).map_err(Error::io("find", &folder))?;
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::io("read", folder)(error)),
        };
        let recipes = entries.flatten().map(|entry| entry.path().join("recipe.toml"));
        found.extend(recipes.filter(|path| path.is_file()));
    }
    Ok(found.into_iter().collect())
}

/// The vendor files that recipes name, whether they are locked or not.
#[derive(Debug, Default)]
pub struct Named {
    /// By digest.
    pub artifacts: BTreeSet<Sha256>,
    /// Recipes and locks that are there and cannot be read or are not to be trusted, each with the reason: what they name
    /// is not known.
    pub unknown: Vec<String>,
}

/// Reads all recipes for what they name.
#[must_use]
pub fn named_artifacts(tools: &[Tool]) -> Named {
    let mut named = Named::default();
    for tool in tools.iter().filter(|tool| tool.alive) {
        match recipe::read_trusted(&tool.recipe) {
            Ok(located) => {
                let artifacts = located.recipe.artifacts.iter();
                named.artifacts.extend(artifacts.map(|artifact| artifact.sha256.digest()));
            }
            Err(error) => named.unknown.push(told(&tool.name, &error)),
        }
        named.unknown.extend(tool.unread.iter().map(|reason| format!("{}: {reason}", tool.name)));
    }
    named
}

/// What became of a damaged store.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Outcome {
    /// What was done.
    pub done: Vec<String>,
    /// What could not be done, with the reason and the next command.
    pub failed: Vec<String>,
    /// What a last check still finds.
    pub left: Report,
}

/// Checks, mends from the store, fetches and builds what that leaves open, and checks again.
///
/// # Errors
/// When the store cannot be read or written.
pub fn repair(context: &Context, tools: &[Tool]) -> Result<Outcome, Error> {
    let store = &context.store;
    let report = store.verify(tools, false, &context.printer)?;
    if !report.is_damaged() && tools.iter().all(|tool| store.lost_inputs(tool).is_empty()) {
        return Ok(Outcome { done: Vec::new(), failed: Vec::new(), left: report });
    }
    let repaired = store.repair(&report)?;
    let (mut done, mut failed) = (repaired.done, Vec::new());
    for digest in &repaired.in_use {
        failed.push(format!(
            "tree {} is in use: stop the tool, then `hatchway store repair` again",
            digest.short()
        ));
    }
    for tool in tools.iter().filter(|tool| tool.alive) {
        // What was taken away just now, and what was gone before.
        let lost = tool.inputs().any(|input| repaired.to_fetch.contains(&input))
            || !store.lost_inputs(tool).is_empty();
        let unbuilt = tool.tree.filter(|tree| repaired.to_build.contains(tree));
        if lost || unbuilt.is_some() {
            let outcome = again(context, &tool.recipe, unbuilt);
            match outcome {
                Ok(line) => done.push(format!("{}: {line}", tool.name)),
                Err(error) => failed.push(told(&tool.name, &error)),
            }
        }
    }
    for digest in repaired.to_build.iter().filter(|digest| !store.tree(**digest).is_dir()) {
        if !tools.iter().any(|tool| tool.alive && tool.tree == Some(*digest)) {
            done.push(format!("tree {} is no recipe's: it was not built again", digest.short()));
        }
    }
    Ok(Outcome { done, failed, left: store.verify(tools, false, &context.printer)? })
}

/// Brings a tool's files and, where it is gone, its tree back.
fn again(context: &Context, path: &Path, tree: Option<Sha256>) -> Result<String, Error> {
    let located = recipe::read_trusted(path)?;
    let lock = steps::read_lock(&located)?;
    artifact::gather(context, &located)?;
    steps::fetch_inputs(context, &located, &lock)?;
    let Some(tree) = tree else { return Ok("fetched its files again".into()) };
    let built = steps::build(context, &located, &lock)?;
    if built.tree == tree {
        return Ok(format!("built tree {} again", tree.short()));
    }
    Ok(format!(
        "built tree {} in the place of {}: this version of Hatchway builds otherwise",
        built.tree.short(),
        tree.short()
    ))
}

fn told(name: &str, error: &Error) -> String {
    let text = format!("{name}: {}", crate::report::one_line(error));
    error.hints().iter().fold(text, |text, hint| format!("{text}\n  hint: {hint}"))
}
