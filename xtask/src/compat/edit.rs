//! Edits of a drafted recipe, as an integrator would make them by hand.

use std::fmt;

/// One key of one section, and what is written behind it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edit {
    pub(super) section: &'static str,
    pub(super) key: &'static str,
    /// As TOML.
    pub(super) value: &'static str,
}

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {} = {}", self.section, self.key, self.value)
    }
}

/// The recipe with the edit: in the place of the key's line, or as the section's first line.
pub(super) fn apply(recipe: &str, edit: &Edit) -> String {
    let line = format!("{} = {}\n", edit.key, edit.value);
    let header = format!("[{}]\n", edit.section);
    let Some((before, section)) = recipe.split_once(&header) else {
        return format!("{recipe}\n{header}{line}");
    };
    let end = section.find("\n[").map_or(section.len(), |at| at + 1);
    let (section, after) = section.split_at(end);
    let is_key = |line: &&str| line.split_once('=').is_some_and(|(key, _)| key.trim() == edit.key);
    let kept: String = section.split_inclusive('\n').filter(|line| !is_key(line)).collect();
    format!("{before}{header}{line}{kept}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_replaced_or_added_in_its_section() {
        let edit = Edit { section: "run", key: "program", value: "\"/b\"" };
        let recipe =
            "[environment]\nprogram = 1\n\n[run]\nprogram = \"/a\"\nargs = []\n\n[identity]\nx = 1\n";
        let expected =
            "[environment]\nprogram = 1\n\n[run]\nprogram = \"/b\"\nargs = []\n\n[identity]\nx = 1\n";
        assert_eq!(apply(recipe, &edit), expected);
        assert_eq!(apply("a = 1\n", &edit), "a = 1\n\n[run]\nprogram = \"/b\"\n");
        let last = "[run]\n# why\n";
        assert_eq!(apply(last, &edit), "[run]\nprogram = \"/b\"\n# why\n");
    }
}
