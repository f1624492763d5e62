//! Trees and stories as text, 80 columns wide and without colour.

use super::{Passed, Problem, Tree, TreeLine, Tried, Wanter, Why};

/// Columns of a page.
pub const COLUMNS: usize = 80;
/// Levels that are indented; deeper ones stand below each other.
const INDENTED: usize = 20;

/// The tree as text: a line for each library with the rule, more where the line is full or something is wrong.
#[must_use]
pub fn render_tree(tree: &Tree) -> String {
    let mut page = Page::default();
    for line in &tree.lines {
        let indent = "  ".repeat(line.depth.min(INDENTED));
        page.wrapped(&indent, &heading(line));
        let below = format!("{indent}    ");
        details(&mut page, &below, &line.problems, &line.passed);
        // Said once: below the line that shows what the library needs.
        if !line.faster.is_empty() && line.met_by.is_none() {
            page.wrapped(&below, &format!("also as a faster copy at {}", line.faster.join(", ")));
        }
    }
    page.text
}

fn heading(line: &TreeLine) -> String {
    let Some(path) = &line.path else { return format!("{}  NOT FOUND", line.name) };
    if line.depth == 0 {
        return path.clone();
    }
    let what = match line.wish.as_str() {
        "needed" => String::new(),
        other => format!("{other}: "),
    };
    let place = if *path == line.name { String::new() } else { format!(" => {path}") };
    let repeated = if line.repeated { ", above" } else { "" };
    format!("{what}{}{place} ({}{repeated})", line.name, line.rule)
}

fn details(page: &mut Page, indent: &str, problems: &[Problem], passed: &[Passed]) {
    for passed in passed {
        page.wrapped(indent, &format!("passed over: {} {}", passed.path, passed.refusal));
    }
    for problem in problems.iter().filter(|problem| !matches!(problem, Problem::NotFound)) {
        let severity = if problem.is_fatal() { "error" } else { "warning" };
        page.wrapped(indent, &format!("{severity}: {problem}"));
    }
}

/// The story of one library as text.
#[must_use]
pub fn render_why(why: &Why) -> String {
    let mut page = Page::default();
    page.wrapped("", &why.name);
    if why.wanted_by.is_empty() {
        page.wrapped("  ", "nothing wants it");
    }
    for provider in &why.provided_by {
        page.wrapped("  ", &format!("found: {}", provider.path));
        if provider.file != provider.path {
            page.wrapped("    ", &format!("which is {}", provider.file));
        }
        match provider.versions.as_deref() {
            None => page.wrapped("    ", "offers no versions"),
            Some(versions) => page.wrapped("    ", &format!("offers {}", versions.join(" "))),
        }
        if !provider.faster.is_empty() {
            page.wrapped("    ", &format!("also as a faster copy at {}", provider.faster.join(", ")));
        }
    }
    for wanter in &why.wanted_by {
        self::wanter(&mut page, wanter);
    }
    page.text
}

fn wanter(page: &mut Page, wanter: &Wanter) {
    page.wrapped("  ", &format!("wanted by {}", wanter.chain.last().map_or("", String::as_str)));
    let through = wanter.chain.len().saturating_sub(1);
    if through > 0 {
        let way = wanter.chain.get(..through).unwrap_or_default().join(" → ");
        page.wrapped("    ", &format!("which is loaded for {way}"));
    }
    if !wanter.versions.is_empty() {
        page.wrapped("    ", &format!("versions {}", wanter.versions.join(" ")));
    }
    let failed = wanter.found.is_none();
    let before = wanter.tried.len().saturating_sub(usize::from(!failed));
    // Each directory has one for every level of the processor; that none of them has the library is one fact.
    let (faster, plain): (Vec<&Tried>, Vec<&Tried>) =
        wanter.tried.iter().take(before).partition(|tried| tried.path.contains("/glibc-hwcaps/"));
    for tried in plain {
        page.wrapped("    ", &format!("not at {} ({})", tried.path, tried.rule));
    }
    if !faster.is_empty() {
        page.wrapped("    ", &format!("not in {} folders for newer processors", faster.len()));
    }
    details(page, "    ", &wanter.problems, &wanter.passed);
    match (&wanter.found, &wanter.rule) {
        (Some(path), Some(rule)) => page.wrapped("    ", &format!("gets {path} ({rule})")),
        _ => page.wrapped("    ", "gets nothing: NOT FOUND"),
    }
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    /// Breaks at blanks so that no line is wider than the page; a path that is wider stays whole, to be copied.
    fn wrapped(&mut self, indent: &str, text: &str) {
        let mut line = String::new();
        for word in text.split(' ') {
            let width = indent.chars().count() + line.chars().count() + 1 + word.chars().count();
            if line.trim().is_empty() || width <= COLUMNS {
                if !line.is_empty() {
                    line.push(' ');
                }
                line.push_str(word);
            } else {
                self.line(indent, &line);
                line = format!("    {word}");
            }
        }
        self.line(indent, &line);
    }

    /// Names are the vendor's: nothing in them may steer the terminal.
    fn line(&mut self, indent: &str, text: &str) {
        self.text.push_str(indent);
        self.text.extend(text.trim_end().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }));
        self.text.push('\n');
    }
}
