//! `hatchway recipe`

use std::path::PathBuf;
use std::process::ExitCode;

use crate::dirs::Dirs;
use crate::error::Error;
use crate::recipe;
use crate::report::Printer;

/// Verbs about recipes.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Check recipes; with none named, all in `recipes/`
    Check {
        /// Names or paths
        recipes: Vec<String>,
    },
}

pub(super) fn main(command: &Command) -> Result<ExitCode, Error> {
    let Command::Check { recipes } = command;
    let printer = Printer::default();
    let names = if recipes.is_empty() { all_here()? } else { recipes.clone() };
    let mut wrong = false;
    for name in &names {
        match recipe::find(name, &Dirs::discover().recipes()) {
            Ok(located) => {
                let missing = located.recipe.unsupported();
                for what in &missing {
                    printer
                        .warn(format!("{}: this version does not carry out {what}", located.path.display()));
                }
                printer.say(format!("{}: ok", located.path.display()));
            }
            Err(error @ Error::Recipe(_)) => {
                printer.error(&error);
                wrong = true;
            }
            Err(other) => return Err(other),
        }
    }
    Ok(if wrong { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

fn all_here() -> Result<Vec<String>, Error> {
    let folder = PathBuf::from("recipes");
    let entries = std::fs::read_dir(&folder).map_err(Error::io("read", &folder))?;
    let mut paths: Vec<String> = entries
        .flatten()
        .map(|entry| entry.path().join("recipe.toml"))
        .filter(|path| path.is_file())
        .map(|path| path.display().to_string())
        .collect();
    paths.sort();
    Ok(paths)
}
