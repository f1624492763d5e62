//! `hatchway recipe`

use std::path::PathBuf;
use std::process::ExitCode;

use hatchway_envs::lock::why;

use crate::dirs::Dirs;
use crate::error::Error;
use crate::report::Printer;
use crate::{recipe, steps};

/// Verbs about recipes.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Check recipes; with none named, all in `recipes/`
    Check {
        /// Names or paths
        recipes: Vec<String>,
        /// Print what was found as JSON
        #[arg(long)]
        json: bool,
    },
    /// Say why a package is in a recipe's lock
    Why {
        /// The recipe's name or path
        recipe: String,
        /// The package: `libc6`, or `libc6:i386` for one of a foreign architecture
        package: String,
        /// Print the answer as JSON
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn main(command: &Command) -> Result<ExitCode, Error> {
    match command {
        Command::Check { recipes, json } => check(recipes, *json),
        Command::Why { recipe, package, json } => why(recipe, package, *json),
    }
}

/// The chain from what is there for itself down to the package. Exit code 1 where it is not in the lock.
fn why(recipe: &str, package: &str, json: bool) -> Result<ExitCode, Error> {
    let printer = Printer::default();
    let located = recipe::find(recipe, &Dirs::discover().recipes())?;
    let lock = steps::read_lock(&located)?;
    let Some(why) = why::why(&lock, package) else {
        if json {
            // No answer is an answer: a program that reads this must not find nothing.
            printer.data("null");
        }
        printer.warn(format!("`{package}` is not in the lock of `{}`", located.recipe.package.name));
        return Ok(ExitCode::from(1));
    };
    if json {
        printer.data(super::json(&why)?);
        return Ok(ExitCode::SUCCESS);
    }
    let reason = match why.reason.as_str() {
        "base" => "belongs to every Debian base".to_owned(),
        "recipe" => "is in the recipe's `packages`".to_owned(),
        other => format!("is there for {other}"),
    };
    printer.data(format!("{package} {} of {}", why.version, why.source));
    for (depth, name) in why.chain.iter().enumerate() {
        match depth {
            0 => printer.data(format!("{name} {reason}")),
            _ => printer.data(format!("{}└─ depends on {name}", "   ".repeat(depth - 1))),
        }
    }
    if why.needed_by.len() > 1 || (why.needed_by.len() == 1 && why.chain.len() == 1) {
        printer.data(format!("{package} is needed by {}", why.needed_by.join(", ")));
    }
    Ok(ExitCode::SUCCESS)
}

fn check(recipes: &[String], json: bool) -> Result<ExitCode, Error> {
    let printer = Printer::default();
    let names = if recipes.is_empty() { all_here()? } else { recipes.to_vec() };
    let mut wrong = false;
    let mut found = Vec::new();
    for name in &names {
        match recipe::find(name, &Dirs::discover().recipes()) {
            Ok(located) => {
                let missing = located.recipe.unsupported();
                if json {
                    let path = located.path.display().to_string();
                    found.push(serde_json::json!({ "recipe": path, "ok": true, "not-carried-out": missing }));
                    continue;
                }
                for what in &missing {
                    printer
                        .warn(format!("{}: this version does not carry out {what}", located.path.display()));
                }
                printer.say(format!("{}: ok", located.path.display()));
            }
            Err(error @ Error::Recipe(_)) => {
                wrong = true;
                if json {
                    found
                        .push(serde_json::json!({ "recipe": name, "ok": false, "error": error.to_string() }));
                    continue;
                }
                printer.error(&error);
            }
            Err(other) => return Err(other),
        }
    }
    if json {
        printer.data(super::json(&found)?);
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
