//! `cargo xtask tidy`: the rules of docs/STYLE.md that no compiler checks.
//!
//! Every check is a pure function from a file's path and text to problems, so that its tests can show that it
//! fails on a broken sample.

mod manifest;
mod rust;
mod text;

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::sh;

/// Something to mend, with the place to look at.
#[derive(Debug, PartialEq, Eq)]
struct Problem {
    path: String,
    line: usize,
    what: String,
}

impl Problem {
    fn new(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// A text file of the workspace: its path from there, and what is in it.
struct Source {
    path: String,
    text: String,
}

pub(crate) fn verb(args: sh::Args) -> Result<()> {
    args.finish()?;
    tidy()
}

/// Runs all checks over the files that git knows or would add.
pub(crate) fn tidy() -> Result<()> {
    let workspace = sh::workspace()?;
    let sources = sources(&workspace)?;
    let mut problems = Vec::new();
    let mut functions = Vec::new();
    for source in &sources {
        problems.extend(text::forbidden_words(source));
        if source.path.ends_with(".rs") {
            let masked = rust::Masked::new(&source.text);
            functions.extend(rust::functions(source, &masked));
            problems.extend(rust::long_file(source, &masked));
            problems.extend(rust::reasonless_attributes(source, &masked));
            problems.extend(rust::misplaced_unsafe(source, &masked));
        }
        if source.path.ends_with("Cargo.toml") {
            problems.extend(manifest::check(source));
        }
        if source.path.ends_with(".md") {
            problems.extend(text::dead_links(source, |path| workspace.join(path).exists()));
        }
    }
    problems.extend(rust::long_functions(&functions, rust::EXEMPT));
    problems.extend(readme(&sources));
    problems.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    for problem in &problems {
        eprintln!("{problem}");
    }
    if !problems.is_empty() {
        bail!("{} of {} files' rules are broken (see above)", problems.len(), sources.len());
    }
    println!("tidy: {} files, {} functions, nothing to mend", sources.len(), functions.len());
    Ok(())
}

fn readme(sources: &[Source]) -> Vec<Problem> {
    let find = |path: &str| sources.iter().find(|source| source.path == path);
    let Some(readme) = find("README.md") else {
        return vec![Problem::new("README.md", 1, "there is none")];
    };
    let Some(reference) = find("docs/cli.md") else {
        return vec![Problem::new("docs/cli.md", 1, "there is none; run `cargo xtask gen`")];
    };
    let verbs: Vec<&str> = crate::VERBS.iter().map(|(name, ..)| *name).collect();
    text::unknown_commands(readme, &verbs, &reference.text)
}

fn sources(workspace: &Path) -> Result<Vec<Source>> {
    let mut git = std::process::Command::new("git");
    git.current_dir(workspace).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let names = sh::capture(&mut git)?;
    let mut sources = Vec::new();
    for path in names.split_terminator('\0') {
        let full = workspace.join(path);
        // A file that was removed and not yet staged is still listed; a folder is another repository.
        if !full.is_file() {
            continue;
        }
        let bytes = fs::read(&full).with_context(|| format!("cannot read `{path}`"))?;
        // Binary fixtures have no rules of style.
        if let Ok(text) = String::from_utf8(bytes) {
            sources.push(Source { path: path.to_owned(), text });
        }
    }
    if sources.is_empty() {
        bail!("git lists no files in `{}`", workspace.display());
    }
    Ok(sources)
}
