//! `hatchway recipe`

use std::path::PathBuf;
use std::process::ExitCode;

use hatchway_envs::lock::why;

use crate::context::{Context, NetworkUse};
use crate::dirs::Dirs;
use crate::error::Error;
use crate::report::Printer;
use crate::{artifact, recipe, steps};

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
    /// Name the vendor's file that a shipped recipe leaves open: its name and digest are written into the recipe
    Adopt {
        /// The recipe's name or path
        recipe: String,
        /// The file
        file: PathBuf,
    },
    /// Say why a package is in a recipe's lock
    Why {
        /// The recipe's name or path
        recipe: String,
        /// The package: `libc6`, `libc6:i386` for one of a foreign architecture, or a Python package's name
        package: String,
        /// Print the answer as JSON
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn main(command: &Command) -> Result<ExitCode, Error> {
    match command {
        Command::Check { recipes, json } => check(recipes, *json),
        Command::Adopt { recipe, file } => adopt(recipe, file),
        Command::Why { recipe, package, json } => why(recipe, package, *json),
    }
}

/// Takes the file into the store, too: from then on the recipe is like any other.
fn adopt(recipe: &str, file: &std::path::Path) -> Result<ExitCode, Error> {
    let context = Context::open(false, NetworkUse::default())?;
    let located = recipe::find(recipe, &context.dirs.recipes())?;
    let name = &located.recipe.package.name;
    let open = located.recipe.artifacts.iter().position(|artifact| artifact.sha256.is_placeholder());
    let number =
        open.ok_or_else(|| Error::Usage(format!("each artifact of `{name}` has its digest already")))?;
    let acquired = artifact::acquire(&context, &file.display().to_string())?;
    // Until the recipe names it, nothing but this keeps the file.
    let _no_collector = context.store.no_collector()?;
    context.store.import(&acquired.path, Some(acquired.sha256))?;
    recipe::adopt(&located.path, number, &acquired.file, acquired.sha256)?;
    let printer = &context.printer;
    printer.say(format!(
        "wrote {}: `{}` is sha256 {}",
        located.path.display(),
        acquired.file,
        acquired.sha256
    ));
    printer.say("  whether that is the vendor's file only a comparison with the vendor's own checksum tells");
    printer.say(format!("next: hatchway lock {name}"));
    Ok(ExitCode::SUCCESS)
}

/// The chain from what is there for itself down to the package. Exit code 1 where it is not in the lock.
fn why(recipe: &str, package: &str, json: bool) -> Result<ExitCode, Error> {
    let printer = Printer::default();
    // Only looked at: a recipe of others may be.
    let located = recipe::read(&recipe::locate(recipe, &Dirs::discover().recipes())?)?;
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
        "recipe" if why.python => "is in the recipe's `requirements`".to_owned(),
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

/// Each for itself: one that cannot be read says nothing about the others. Exit code 1 where one is not right.
fn check(recipes: &[String], json: bool) -> Result<ExitCode, Error> {
    let printer = Printer::default();
    let folders = Dirs::discover().recipes();
    let places: Vec<(PathBuf, Result<PathBuf, Error>)> = if recipes.is_empty() {
        all_here()?.into_iter().map(|path| (path.clone(), Ok(path))).collect()
    } else {
        recipes.iter().map(|name| (name.into(), recipe::locate(name, &folders))).collect()
    };
    let mut wrong = false;
    let mut found = Vec::new();
    for (named, place) in places {
        // Only looked at: a recipe of others may be.
        match place.and_then(|path| recipe::read(&path)) {
            Ok(located) if json => {
                let path = located.path.display().to_string();
                let missing = located.recipe.unsupported();
                found.push(serde_json::json!({ "recipe": path, "ok": true, "not-carried-out": missing }));
            }
            Ok(located) => tell(&printer, &located),
            Err(error) => {
                wrong = true;
                if json {
                    let (named, error) = (named.display().to_string(), crate::report::one_line(&error));
                    found.push(serde_json::json!({ "recipe": named, "ok": false, "error": error }));
                } else {
                    printer.error(&error);
                }
            }
        }
    }
    if json {
        printer.data(super::json(&found)?);
    }
    Ok(if wrong { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// What a recipe that is right leaves open.
fn tell(printer: &Printer, located: &recipe::Located) {
    let path = located.path.display();
    for what in &located.recipe.unsupported() {
        printer.warn(format!("{path}: this version does not carry out {what}"));
    }
    for artifact in located.recipe.artifacts.iter().filter(|a| a.sha256.is_placeholder()) {
        printer.warn(format!("{path}: `{}` is left open: `hatchway recipe adopt`", artifact.file_name()));
    }
    printer.say(format!("{path}: ok"));
}

fn all_here() -> Result<Vec<PathBuf>, Error> {
    let folder = PathBuf::from("recipes");
    let entries = std::fs::read_dir(&folder).map_err(Error::io("read", &folder))?;
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path().join("recipe.toml"))
        .filter(|path| path.is_file())
        .collect();
    paths.sort();
    Ok(paths)
}
