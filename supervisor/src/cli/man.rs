//! The manual pages: one for `hatchway`, one for each of its commands, from the same definitions as `--help`.

use std::fs;
use std::path::Path;

use clap::CommandFactory;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::Cli;
use crate::error::Error;

/// What stands at the bottom in the middle of each page.
const MANUAL: &str = "Hatchway Manual";

type Row = (&'static str, &'static str);

/// What exit codes mean, for all commands.
const EXIT_STATUS: &[Row] = &[
    ("0", "Yes: it was done, or the answer is yes."),
    ("1", "The answer is no. Each command's page says to which question."),
    ("2", "Wrong usage, or a failure; the last lines on standard error say what to type next."),
    (
        "run, shell, exec, attach",
        "The program's own code, and 128+N where signal N has ended it. 125: Hatchway failed before it began; 126: it is there and cannot be executed; 127: there is no such program.",
    ),
];

/// The variables that are read.
const ENVIRONMENT: &[Row] = &[
    (
        "HATCHWAY_DATA_DIR",
        "The folder with the store, state and recipes, instead of the one under FILES. One user's tools in two such folders do not know of each other.",
    ),
    (
        "HATCHWAY_DEBIAN_MIRROR, HATCHWAY_DEBIAN_SECURITY_MIRROR",
        "URLs of mirrors of Debian's archive and of its security archive. Without them, `hatchway.toml` and then the apt sources of this machine name the mirrors.",
    ),
    (
        "HATCHWAY_PYPI_MIRROR",
        "URL of an index of Python packages. Without it, `hatchway.toml` and then the settings of this machine's pip name it.",
    ),
    (
        "DOCKER_HOST",
        "The socket of the container engine, as `unix:///path`. Without it, `/var/run/docker.sock`.",
    ),
    (
        "XDG_DATA_HOME, XDG_CACHE_HOME, XDG_CONFIG_HOME, XDG_RUNTIME_DIR",
        "Where the folders under FILES are. For root, the last one is not read.",
    ),
    ("SUDO_UID, SUDO_GID", "For root: who a tool runs as, where `--user` does not say so."),
    ("DISPLAY, WAYLAND_DISPLAY", "The display for tools whose recipe asks for one."),
    ("NO_COLOR", "Set to anything: no colours."),
    ("TMPDIR", "Where temporary folders are made."),
];

/// Where things are.
const FILES: &[Row] = &[
    (
        "/var/lib/hatchway, $XDG_DATA_HOME/hatchway, ~/.local/share/hatchway",
        "Root's and a user's data: `store/` (files and trees by content), `state/TOOL/` (what tools keep between runs), `recipes/` (those that `hatchway run FILE` wrote).",
    ),
    (
        "/var/cache/hatchway, $XDG_CACHE_HOME/hatchway, ~/.cache/hatchway",
        "What can be made anew. It may be deleted at any time.",
    ),
    (
        "/run/hatchway, $XDG_RUNTIME_DIR/hatchway",
        "`units/NAME/RUN/`: socket, logs and `exit.json` of each run, and the truth about it. For a user without the variable: `run/` beside the store.",
    ),
    (
        "recipes/NAME/recipe.toml, recipe.lock",
        "A recipe and its lock. They are looked for in the working folder's `recipes/`, in the data folder's, in `/etc/hatchway/recipes/` and in `/usr/share/hatchway/recipes/`, in this order.",
    ),
    (
        "/etc/hatchway/hatchway.toml, $XDG_CONFIG_HOME/hatchway/hatchway.toml, ~/.config/hatchway/hatchway.toml",
        "Mirrors and other settings of the machine and of the user.",
    ),
    (
        "/etc/hatchway/instrument.toml",
        "The units of this machine, for the service `hatchway.service`, which starts only where it is.",
    ),
];

/// Writes all pages into a folder. The date is that of `SOURCE_DATE_EPOCH`, so that pages of one commit are the same.
pub(super) fn write(folder: &Path) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    for (name, text) in pages(&date()?) {
        let path = folder.join(name);
        fs::write(&path, text).map_err(Error::io("write", &path))?;
    }
    Ok(())
}

/// A day as pages have it; without `SOURCE_DATE_EPOCH` there is none.
fn date() -> Result<String, Error> {
    let Ok(epoch) = std::env::var("SOURCE_DATE_EPOCH") else { return Ok(String::new()) };
    let instant = epoch.parse().ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    let wrong = || Error::Usage(format!("SOURCE_DATE_EPOCH is `{epoch}`, which is no number of seconds"));
    let instant = instant.ok_or_else(wrong)?;
    Ok(instant.to_string().chars().take("2026-01-01".len()).collect())
}

/// The names of the pages' files, and the pages.
fn pages(date: &str) -> Vec<(String, String)> {
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    let mut pages = Vec::new();
    collect(&root, date, None, &mut pages);
    pages
}

fn collect(command: &clap::Command, date: &str, parent: Option<&str>, pages: &mut Vec<(String, String)>) {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    pages.push((format!("{name}.1"), page(command, &name, date, parent)));
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        collect(sub, date, Some(&name), pages);
    }
}

fn page(command: &clap::Command, name: &str, date: &str, parent: Option<&str>) -> String {
    let shown = command.clone().subcommand_value_name("COMMAND").subcommand_help_heading("COMMANDS");
    let man = Man::new(shown)
        .title(name.to_uppercase())
        .date(date)
        .source(format!("hatchway {}", env!("CARGO_PKG_VERSION")))
        .manual(MANUAL);
    let mut bytes = Vec::new();
    let parts = [
        Man::render_title,
        Man::render_name_section,
        Man::render_synopsis_section,
        Man::render_description_section,
        Man::render_options_section,
    ];
    for part in parts {
        // Memory takes everything.
        drop(part(&man, &mut bytes));
    }
    if command.get_subcommands().any(|sub| !sub.is_hide_set()) {
        drop(man.render_subcommands_section(&mut bytes));
    }
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    text += &own_sections(command, parent);
    set_code(&text)
}

/// What stands below the help in the command line, and what only a page has.
fn own_sections(command: &clap::Command, parent: Option<&str>) -> String {
    let mut text = String::new();
    if let Some(help) = command.get_after_long_help().or_else(|| command.get_after_help()) {
        let mut roff = Roff::new();
        roff.control("SH", ["NOTES"]);
        for (number, line) in help.to_string().lines().enumerate() {
            // Its lines are meant as they are, such as examples.
            match (number, line) {
                (0, _) => {}
                (_, "") => {
                    roff.control("PP", []);
                    continue;
                }
                _ => {
                    roff.control("br", []);
                }
            }
            roff.text([roman(line)]);
        }
        text += &roff.to_roff();
    }
    if parent.is_none() {
        text += &section("EXIT STATUS", EXIT_STATUS);
        text += &section("ENVIRONMENT", ENVIRONMENT);
        text += &section("FILES", FILES);
    }
    text += &see_also(command, parent);
    text
}

fn section(title: &str, rows: &[Row]) -> String {
    let mut roff = Roff::new();
    roff.control("SH", [title]);
    for (term, what) in rows {
        roff.control("TP", []);
        roff.text([bold(*term)]);
        roff.text([roman(*what)]);
    }
    roff.to_roff()
}

fn see_also(command: &clap::Command, parent: Option<&str>) -> String {
    let own = command.get_display_name().unwrap_or_else(|| command.get_name());
    let subs = command.get_subcommands().filter(|sub| !sub.is_hide_set());
    let mut names: Vec<String> = parent.map(str::to_owned).into_iter().collect();
    // From the first page all others are listed under COMMANDS already.
    if parent.is_some() {
        names.extend(subs.map(|sub| format!("{own}-{}", sub.get_name())));
    }
    let mut roff = Roff::new();
    let mut line = Vec::new();
    for name in &names {
        line.extend([bold(name.as_str()), roman("(1), ")]);
    }
    line.push(roman("the pages in "));
    line.push(bold("/usr/share/doc/hatchway"));
    roff.control("SH", ["SEE ALSO"]);
    roff.text(line);
    roff.to_roff()
}

/// What stands between backticks becomes bold: a backtick alone is a quotation mark to `man`.
fn set_code(text: &str) -> String {
    let mut set = String::with_capacity(text.len());
    for line in text.lines() {
        let parts: Vec<&str> = line.split('`').collect();
        let pairs = parts.len() % 2 == 1;
        for (index, part) in parts.iter().enumerate() {
            let mark = match (index, pairs, index % 2) {
                (0, ..) => "",
                (_, false, _) => "\\(ga",
                (_, true, 1) => "\\fB",
                (_, true, _) => "\\fR",
            };
            set += mark;
            set += part;
        }
        set.push('\n');
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let pages = pages("2026-01-02");
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        for name in ["hatchway.1", "hatchway-run.1", "hatchway-store-gc.1", "hatchway-completions.1"] {
            assert!(names.contains(&name), "{name} is not in {names:?}");
        }
        assert!(!names.iter().any(|name| name.contains("generate") || name.contains("help")), "{names:?}");
        for (name, text) in &pages {
            assert!(text.contains("2026-01-02") && text.contains(".SH \"SEE ALSO\""), "{name}:\n{text}");
            assert!(!text.contains('`'), "{name}:\n{text}");
        }
    }

    #[test]
    fn the_first_page_has_the_facts_that_help_has_not() {
        let (_, text) = &pages("")[0];
        for heading in ["EXIT STATUS", "ENVIRONMENT", "FILES"] {
            assert!(text.contains(heading), "{heading}");
        }
        // What the folders' rules say, the page says.
        for folder in ["/var/lib/hatchway", "/run/hatchway", "/var/cache/hatchway"] {
            assert!(text.contains(folder), "{folder}");
        }
        for recipes in crate::dirs::Dirs::discover().recipes().iter().skip(1) {
            assert!(text.contains(recipes.to_str().unwrap()), "{recipes:?}");
        }
    }

    #[test]
    fn code_is_bold() {
        assert_eq!(set_code("run `a b`, then `c`"), "run \\fBa b\\fR, then \\fBc\\fR\n");
        assert_eq!(set_code("one ` alone"), "one \\(ga alone\n");
    }
}
