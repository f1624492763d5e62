//! Checks of `Cargo.toml`: a dependency has a reason, and crates take it from the workspace.

use super::{Problem, Source};

pub(super) fn check(source: &Source) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut section = String::new();
    for (index, line) in source.text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            line.clone_into(&mut section);
            continue;
        }
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (value, comment) = split_comment(line);
        let name = value.split(['=', '.', ' ']).next().unwrap_or(value);
        let what = if section == "[workspace.dependencies]" {
            let is_ours = value.contains("path = ");
            (!is_ours && comment.trim().is_empty()).then(|| format!("`{name}` has no reason behind it"))
        } else if section.ends_with("dependencies]") {
            let is_shared = value.contains("workspace = true");
            (!is_shared).then(|| format!("`{name}` is not taken from the workspace"))
        } else {
            None
        };
        problems.extend(what.map(|what| Problem::new(&source.path, index + 1, what)));
    }
    let is_package = source.text.lines().any(|line| line.trim() == "[package]");
    let has_lints = source.text.contains("[lints]\nworkspace = true");
    if is_package && !has_lints {
        problems.push(Problem::new(&source.path, 1, "the workspace's lints are not taken over"));
    }
    problems
}

/// A line of TOML and the comment behind it.
fn split_comment(line: &str) -> (&str, &str) {
    let mut in_string = false;
    for (index, character) in line.char_indices() {
        match character {
            '"' => in_string = !in_string,
            '#' if !in_string => return (&line[..index], &line[index + 1..]),
            _ => {}
        }
    }
    (line, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let source = Source { path: "Cargo.toml".to_owned(), text: text.to_owned() };
        check(&source).into_iter().map(|problem| problem.to_string()).collect()
    }

    #[test]
    fn a_dependency_needs_a_reason() {
        let head = "[workspace.dependencies]\n";
        assert!(problems(&format!("{head}tar = \"0.4\" # reads tar\n")).is_empty());
        assert!(problems(&format!("{head}ours = {{ path = \"ours\" }}\n")).is_empty());
        assert_eq!(
            problems(&format!("{head}# Formats\ntar = \"0.4#5\"\n")),
            ["Cargo.toml:3: `tar` has no reason behind it"]
        );
        assert_eq!(problems(&format!("{head}tar = \"0.4\" #\n")).len(), 1);
    }

    #[test]
    fn a_crate_takes_dependencies_and_lints_from_the_workspace() {
        let good =
            "[package]\nname = \"a\"\n[dependencies]\ntar.workspace = true\n[lints]\nworkspace = true\n";
        assert!(problems(good).is_empty());
        assert_eq!(problems(&good.replace("tar.workspace = true", "tar = \"0.4\"")).len(), 1);
        assert_eq!(problems(&good.replace("[lints]\nworkspace = true\n", "")).len(), 1);
    }
}
