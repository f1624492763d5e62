//! `cargo xtask gen`: the pages that the program writes about itself. `--check` compares instead of writing.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{build, sh};

/// What `PROGRAM generate SUBJECT` prints, and where it is kept.
const PAGES: &[(&str, &str, &str)] = &[
    ("hatchway", "cli", "docs/cli.md"),
    ("hatchway", "recipe-schema", "docs/schemas/recipe.schema.json"),
    ("hatchway", "instrument-schema", "docs/schemas/instrument.schema.json"),
    ("hatchway", "openapi", "docs/schemas/openapi.json"),
    ("hatchway", "python-client", "examples/python/hatchway_client.py"),
    ("hatchway", "inspect-schema", "docs/schemas/inspect.schema.json"),
    ("hatchway", "diff-schema", "docs/schemas/inspect-diff.schema.json"),
    ("hatchway", "tree-schema", "docs/schemas/inspect-tree.schema.json"),
    ("hatchway", "why-schema", "docs/schemas/inspect-why.schema.json"),
    ("hatchway", "export-schema", "docs/schemas/export.schema.json"),
    ("hatchway-recon", "cli", "docs/cli-recon.md"),
];

pub(crate) fn verb(mut args: sh::Args) -> Result<()> {
    let check = args.flag("--check");
    args.finish()?;
    let program = build::build(false)?;
    if check { self::check(&program) } else { write(&program) }
}

/// Fails when a page is not what the built program prints.
pub(crate) fn check(program: &Path) -> Result<()> {
    let workspace = sh::workspace()?;
    let mut stale = Vec::new();
    for (name, subject, page) in PAGES {
        let text = print_page(&program.with_file_name(name), subject)?;
        if fs::read_to_string(workspace.join(page)).ok().as_deref() != Some(text.as_str()) {
            stale.push(*page);
        }
    }
    if stale.is_empty() {
        println!("{} generated pages are in sync", PAGES.len());
        return Ok(());
    }
    bail!(
        "not what the program prints: {}\nhint: run `cargo xtask gen` and commit the result",
        stale.join(", ")
    )
}

fn write(program: &Path) -> Result<()> {
    let workspace = sh::workspace()?;
    for (name, subject, page) in PAGES {
        let text = print_page(&program.with_file_name(name), subject)?;
        let path = workspace.join(page);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
        }
        fs::write(&path, text).with_context(|| format!("cannot write `{page}`"))?;
        println!("wrote {page}");
    }
    Ok(())
}

fn print_page(program: &Path, subject: &str) -> Result<String> {
    // A fixed width: the help text wraps by the terminal's.
    let mut text = sh::capture(
        Command::new(program).args(["generate", subject]).env("COLUMNS", "100").env("NO_COLOR", "1"),
    )?;
    if text.trim().is_empty() {
        bail!("`{} generate {subject}` printed nothing", program.display());
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}
