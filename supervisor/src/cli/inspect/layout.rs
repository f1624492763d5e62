//! Lines of at most eighty columns.

/// Columns of a terminal that nobody has widened.
const WIDTH: usize = 80;
/// Lines of one section; `--json` has all.
const LINES_MAX: usize = 14;
/// The widest a column may grow before its rows are wrapped instead.
const COLUMN_MAX: usize = 40;

/// A report in the making.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) text: String,
}

impl Page {
    /// One line as it is. Names and descriptions are the vendor's: nothing in them may steer the terminal.
    pub(super) fn line(&mut self, text: &str) {
        self.text.extend(text.trim_end().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }));
        self.text.push('\n');
    }

    /// A heading after an empty line.
    pub(super) fn heading(&mut self, heading: &str) {
        self.line("");
        self.wrapped(heading, 0);
    }

    /// Breaks at blanks, continuation lines indented by four more. A word that is too long stays whole, to be copied.
    pub(super) fn wrapped(&mut self, text: &str, indent: usize) {
        let mut line = " ".repeat(indent);
        let mut empty = true;
        for word in text.split(' ') {
            if !empty && columns(&line) + 1 + columns(word) > WIDTH {
                self.line(&line);
                line = " ".repeat(indent + 4);
                empty = true;
            }
            // An address that fits a line of its own is moved to the left.
            if empty {
                line.truncate(WIDTH.saturating_sub(columns(word)));
            }
            if !empty {
                line.push(' ');
            }
            line.push_str(word);
            empty = false;
        }
        self.line(&line);
    }

    /// A heading and its lines, cut where they would fill the screen.
    pub(super) fn section(&mut self, heading: &str, lines: &[String]) {
        self.rows(heading, lines.iter().map(|line| vec![line.clone()]).collect());
    }

    /// A heading and rows in columns; a row that is too wide is wrapped.
    pub(super) fn rows(&mut self, heading: &str, rows: Vec<Vec<String>>) {
        if rows.is_empty() {
            return;
        }
        self.heading(heading);
        let more = rows.len().saturating_sub(LINES_MAX);
        let shown: Vec<Vec<String>> = rows.into_iter().take(LINES_MAX).collect();
        let widths = widths(&shown);
        for row in &shown {
            self.row(row, &widths);
        }
        if more > 0 {
            self.line(&format!("  … and {more} more (--json has all)"));
        }
    }

    /// One line, or two where the last cell has no room beside the others.
    fn row(&mut self, row: &[String], widths: &[usize]) {
        let mut line = String::from(" ");
        let (last, others) = row.split_last().map_or(("", row), |(last, others)| (last.as_str(), others));
        for (cell, width) in others.iter().zip(widths) {
            let padding = width.saturating_sub(columns(cell));
            line.push_str(&format!(" {cell}{} ", " ".repeat(padding)));
        }
        if others.is_empty() {
            self.wrapped(last, 2);
        } else if columns(&line) + 1 + columns(last) <= WIDTH {
            self.line(&format!("{line} {last}"));
        } else {
            self.wrapped(&others.join("  "), 2);
            self.wrapped(last, 6);
        }
    }
}

/// The width of every column but the last, which needs no padding.
fn widths(rows: &[Vec<String>]) -> Vec<usize> {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    (0..count)
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| columns(cell));
            // One long path must not push every other row over the edge.
            let width = cells.filter(|&width| width <= COLUMN_MAX).max().unwrap_or(0);
            if column + 1 == count { 0 } else { width }
        })
        .collect()
}

/// Columns on a terminal, taking every character for one: names in packages are ASCII almost always.
fn columns(text: &str) -> usize {
    text.chars().count()
}

/// A number of bytes as people read it, in the units of disks.
#[allow(clippy::cast_precision_loss, reason = "shown with one decimal")]
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// `1 file`, `2 files`.
pub(super) fn counted(number: u64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_wider_than_a_terminal_but_what_cannot_be_broken() {
        let mut page = Page::default();
        page.wrapped(&"word ".repeat(50), 2);
        page.rows("Heading", vec![vec!["a".repeat(30), "b".repeat(30), "c ".repeat(30)]; 20]);
        page.section("Steer", &["\u{1b}[2Jx".to_owned()]);
        assert!(page.text.lines().all(|line| columns(line) <= WIDTH), "{}", page.text);
        assert!(page.text.contains("… and 6 more") && !page.text.contains('\u{1b}'));
        page.text.clear();
        page.wrapped(&format!("see {} there", "x".repeat(79)), 6);
        assert_eq!(page.text.lines().nth(1).map(columns), Some(80), "{}", page.text);
        let long = "x".repeat(100);
        page.wrapped(&format!("see {long} there"), 2);
        assert!(page.text.lines().any(|line| line.trim() == long), "{}", page.text);
    }

    #[test]
    fn columns_are_aligned() {
        let mut page = Page::default();
        page.rows("H", vec![vec!["a".into(), "1".into()], vec!["long".into(), "2".into()]]);
        assert_eq!(page.text, "\nH\n  a     1\n  long  2\n");
    }

    #[test]
    fn sizes() {
        assert_eq!(
            (size(999), size(1500), size(2_340_000)),
            ("999 bytes".into(), "1.5 kB".into(), "2.3 MB".into())
        );
    }
}
