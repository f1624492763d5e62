//! Checks of any text: words that must not be in the tree, links between pages, commands in the README.

use super::{Problem, Source};

/// Host names of registries and mirrors. A source comes from the machine's configuration, never from us.
/// Each is put together here, so that this file does not contain what it looks for.
const HOSTS: &[&str] = &[
    concat!("deb.", "debi", "an.org"),
    concat!("ftp.", "debi", "an.org"),
    concat!("security.", "debi", "an.org"),
    concat!("archive.", "debi", "an.org"),
    concat!("snapshot.", "debi", "an.org"),
    concat!("archive.", "ubuntu.com"),
    concat!("pypi", ".org"),
    concat!("files.", "python", "hosted.org"),
    concat!("crates", ".io/"),
    concat!("static.", "crates.io"),
    concat!("index.", "crates.io"),
    concat!("registry.", "npm", "js.org"),
    concat!("proxy.", "golang.org"),
    concat!("registry-1.", "docker.io"),
    concat!("index.", "docker.io"),
];

/// The folders of the machine somebody works on: where the checkout lies, where their own files are.
fn machine_paths() -> Vec<String> {
    let checkout = crate::sh::workspace().ok().map(|path| path.display().to_string());
    // The home folder itself may be a word of ours (`/root`); what lies hidden in it is not.
    let home = std::env::var("HOME").ok().map(|home| format!("{home}/."));
    // One folder alone, such as `/hatchway`, is also the end of paths that we do name.
    checkout.into_iter().chain(home).filter(|path| path.matches('/').count() > 1).collect()
}

/// Written by cargo, with the address of the registry in it.
const WRITTEN_BY_TOOLS: &[&str] = &["Cargo.lock"];

pub(super) fn forbidden_words(source: &Source) -> Vec<Problem> {
    if WRITTEN_BY_TOOLS.contains(&source.path.as_str()) {
        return Vec::new();
    }
    let machine_paths = machine_paths();
    let mut problems = Vec::new();
    for (index, line) in source.text.lines().enumerate() {
        for host in HOSTS.iter().filter(|host| line.contains(**host)) {
            problems.push(Problem::new(&source.path, index + 1, format!("names the host `{host}`")));
        }
        for path in machine_paths.iter().filter(|path| line.contains(path.as_str())) {
            problems.push(Problem::new(&source.path, index + 1, format!("names this machine's `{path}`")));
        }
    }
    problems
}

/// Links of a page to files that do not exist. `exists` gets paths from the workspace's folder.
pub(super) fn dead_links(source: &Source, exists: impl Fn(&str) -> bool) -> Vec<Problem> {
    let folder = source.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut problems = Vec::new();
    for (number, line) in prose(&source.text) {
        for target in targets(&line) {
            let file = target.split(['#', ' ']).next().unwrap_or_default();
            let is_elsewhere = file.contains("://") || file.starts_with("mailto:");
            if file.is_empty() || is_elsewhere {
                continue;
            }
            match joined(folder, file) {
                Some(path) if exists(&path) => {}
                Some(_) => problems.push(Problem::new(&source.path, number, format!("dead link `{target}`"))),
                None => problems.push(Problem::new(
                    &source.path,
                    number,
                    format!("`{target}` leads out of the tree"),
                )),
            }
        }
    }
    problems
}

/// Commands in the README that neither xtask nor the reference of the command line knows.
pub(super) fn unknown_commands(readme: &Source, xtask_verbs: &[&str], reference: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (number, command) in commands(&readme.text) {
        let words: Vec<&str> = command.split_whitespace().collect();
        let what = match words.as_slice() {
            ["cargo", "xtask", verb, ..] if !xtask_verbs.contains(verb) => {
                format!("no verb of xtask: `{verb}`")
            }
            ["hatchway", verb, ..] if is_verb(verb) && !reference.contains(&format!("hatchway {verb}")) => {
                format!("not in docs/cli.md: `hatchway {verb}`")
            }
            _ => continue,
        };
        problems.push(Problem::new(&readme.path, number, what));
    }
    problems
}

fn is_verb(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-')
}

/// Lines of code blocks (without a prompt) and `code` in the text, with their line numbers.
fn commands(page: &str) -> Vec<(usize, String)> {
    let mut commands = Vec::new();
    let mut in_block = false;
    for (index, line) in page.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if in_block {
            commands.push((index + 1, line.trim_start().trim_start_matches("$ ").to_owned()));
        } else {
            commands.extend(line.split('`').skip(1).step_by(2).map(|code| (index + 1, code.to_owned())));
        }
    }
    commands
}

/// The lines outside of code blocks, with `code` cut out.
fn prose(page: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut in_block = false;
    for (index, line) in page.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            lines.push((index + 1, line.split('`').step_by(2).collect()));
        }
    }
    lines
}

/// What stands in the parentheses of `[text](target)`, and behind `[name]: `.
fn targets(line: &str) -> Vec<String> {
    let mut targets: Vec<String> = line
        .match_indices("](")
        .filter_map(|(at, _)| Some(line[at + 2..].split_once(')')?.0.trim().to_owned()))
        .collect();
    let is_definition = line.starts_with('[') && !line.starts_with("[^");
    if let Some((_, target)) = line.split_once("]: ").filter(|_| is_definition) {
        targets.push(target.trim().to_owned());
    }
    targets
}

/// `folder/link` without dots; `None` when it leads above the workspace.
fn joined(folder: &str, link: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn every_forbidden_word_is_found() {
        let machine_paths = machine_paths();
        for word in HOSTS.iter().copied().chain(machine_paths.iter().map(String::as_str)) {
            let page = source("docs/a.md", &format!("fine\nsee {word}x\n"));
            let problems = forbidden_words(&page);
            assert!(problems.iter().any(|problem| problem.line == 2), "{word}");
        }
        assert!(
            forbidden_words(&source("docs/a.md", "a network/workers page, /root, docker.io\n")).is_empty()
        );
    }

    #[test]
    fn this_checker_does_not_contain_what_it_looks_for() {
        assert!(forbidden_words(&source("xtask/src/tidy/text.rs", include_str!("text.rs"))).is_empty());
    }

    #[test]
    fn a_dead_link_is_found() {
        let exists = |path: &str| ["docs/STYLE.md", "README.md"].contains(&path);
        let cases = [
            ("[a](STYLE.md) and [b](../README.md#use)\n", 0),
            ("[a](#here), [b](https://example.org/x.md)\n", 0),
            ("[a](GONE.md)\n", 1),
            ("[a](../../out.md)\n", 1),
            ("[name]: GONE.md\n", 1),
            ("```\n[a](GONE.md)\n```\n`[a](GONE.md)`\n", 0),
        ];
        for (text, count) in cases {
            assert_eq!(dead_links(&source("docs/page.md", text), exists).len(), count, "{text}");
        }
    }

    #[test]
    fn an_unknown_command_is_found() {
        let reference = "## `hatchway run`\n";
        let cases = [
            ("```\n$ hatchway run a\ncargo xtask test\n```\n", 0),
            ("`hatchway` and `hatchway run NAME` and `hatchway --help`\n", 0),
            ("```\nhatchway fly a\n```\n", 1),
            ("`cargo xtask fly`\n", 1),
        ];
        for (text, count) in cases {
            let problems = unknown_commands(&source("README.md", text), &["test"], reference);
            assert_eq!(problems.len(), count, "{text}: {problems:?}");
        }
    }
}
