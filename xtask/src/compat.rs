//! `cargo xtask compat`: real programs, each from artifact to proof, and the table of them.
//!
//! Each is taken from the archive or the package index as an integrator would, drafted by `hatchway new`, edited where that
//! is not enough (the edits are part of the table), locked, built and run. A console program has to print what it is known
//! for, a graphical one has to draw a picture, which is kept to be looked at, a service has to answer on its port.

mod bench;
mod edit;
mod programs;
mod proof;
mod screen;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use self::bench::Bench;
use self::programs::{PROGRAMS, Program};
use self::screen::Screen;
use crate::{build, sh};

/// The page that `--write` writes.
const PAGE: &str = "docs/compatibility.md";

/// What became of one program.
struct Row {
    program: &'static Program,
    /// The suite that `lock` chose, or what it said instead.
    base: String,
    rung: String,
    packages: usize,
    result: Result<String, String>,
}

pub(crate) fn verb(mut args: sh::Args) -> Result<()> {
    let (list, write) = (args.flag("--list"), args.flag("--write"));
    let wanted = args.positional();
    args.finish()?;
    if list {
        PROGRAMS.iter().for_each(|program| println!("{:<14} {}", program.name, program.source));
        return Ok(());
    }
    if write && !wanted.is_empty() {
        bail!("the page is about all programs\nhint: `--write` without names");
    }
    let chosen = choose(&wanted)?;
    screen::check()?;
    build::build(false)?;
    let bench = Bench::new()?;
    let screen = Screen::start()?;
    let rows: Vec<Row> = chosen.into_iter().map(|program| one(&bench, &screen, program)).collect();
    print!("\n{}", sh::table(&cells(&rows)));
    println!("\npictures and logs: {}", bench.folder().display());
    if write {
        let page = sh::workspace()?.join(PAGE);
        let text = fs::read_to_string(&page).with_context(|| format!("cannot read `{PAGE}`"))?;
        fs::write(&page, with_table(&text, &rows)?).with_context(|| format!("cannot write `{PAGE}`"))?;
        println!("wrote {PAGE}");
    }
    let failed: Vec<&str> =
        rows.iter().filter(|row| row.result.is_err()).map(|row| row.program.name).collect();
    if failed.is_empty() {
        return Ok(());
    }
    bail!("{} of {} failed: {}", failed.len(), rows.len(), failed.join(", "))
}

fn choose(wanted: &[String]) -> Result<Vec<&'static Program>> {
    if wanted.is_empty() {
        return Ok(PROGRAMS.iter().collect());
    }
    let find = |name: &String| {
        let found = PROGRAMS.iter().find(|program| program.name == name);
        found.with_context(|| format!("there is no program `{name}`\nhint: `cargo xtask compat --list`"))
    };
    wanted.iter().map(find).collect()
}

fn one(bench: &Bench, screen: &Screen, program: &'static Program) -> Row {
    println!("\n=== {} ({}) ===", program.name, program.source);
    let result = bench.prepare(program).and_then(|()| proof::prove(bench, screen, program));
    let result = result.map_err(|error| format!("{error:#}"));
    match &result {
        Ok(said) => println!("{}: {said}", program.name),
        Err(error) => eprintln!("error: {}: {error}", program.name),
    }
    let lock = bench.locked(program);
    Row { program, base: lock.base, rung: lock.rung, packages: lock.packages, result }
}

/// The table for people at a terminal.
fn cells(rows: &[Row]) -> Vec<Vec<String>> {
    let mut cells =
        vec![["program", "kind", "base", "rung", "packages", "edits", "result"].map(str::to_owned).to_vec()];
    cells.extend(rows.iter().map(|row| {
        let result = match &row.result {
            Ok(said) => said.clone(),
            Err(error) => format!("FAILED: {}", error.lines().next().unwrap_or_default()),
        };
        vec![
            row.program.name.to_owned(),
            row.program.kind().to_owned(),
            row.base.clone(),
            row.rung.clone(),
            row.packages.to_string(),
            row.program.edits.len().to_string(),
            result,
        ]
    }));
    cells
}

const BEGIN: &str = "<!-- begin: cargo xtask compat --write -->\n";
const END: &str = "<!-- end -->";

/// The page with a new table in the place of the old one.
fn with_table(page: &str, rows: &[Row]) -> Result<String> {
    let (before, rest) = page.split_once(BEGIN).with_context(|| format!("`{PAGE}` has lost its marks"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("`{PAGE}` has lost its marks"))?;
    let mut table = String::from(
        "| program | kind | artifact | base | rung | packages | edits to the draft | result |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for row in rows {
        let edits: Vec<String> = row.program.edits.iter().map(|edit| format!("`{edit}`")).collect();
        let edits = if edits.is_empty() { "none".to_owned() } else { edits.join("<br>") };
        let result = match &row.result {
            Ok(said) => said.replace('|', "\\|"),
            Err(error) => {
                format!("**fails**: {}", error.lines().next().unwrap_or_default().replace('|', "\\|"))
            }
        };
        table.push_str(&format!(
            "| {} | {} | `{}` | {} | {} | {} | {edits} | {result} |\n",
            row.program.name,
            row.program.kind(),
            row.program.source,
            row.base,
            row.rung,
            row.packages
        ));
    }
    Ok(format!("{before}{BEGIN}{table}{END}{after}"))
}

/// A folder of this run's in the target folder.
fn folder() -> Result<PathBuf> {
    Ok(sh::target_folder()?.join("compat"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_put_between_the_marks() {
        let rows = [Row {
            program: &PROGRAMS[0],
            base: "debian:trixie".into(),
            rung: "fhs".into(),
            packages: 3,
            result: Err("a | b\nc".into()),
        }];
        let page = format!("head\n{BEGIN}old\n{END}\ntail\n");
        let text = with_table(&page, &rows).unwrap();
        assert!(text.starts_with("head\n") && text.ends_with(&format!("{END}\ntail\n")));
        assert!(text.contains("**fails**: a \\| b |") && !text.contains("old"));
        assert!(with_table("nothing", &rows).is_err());
    }
}
