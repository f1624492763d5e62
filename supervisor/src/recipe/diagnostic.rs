//! Errors in files that people write: file, line, column, the line itself, a caret.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Something wrong at a place of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    message: String,
    span: Range<usize>,
    place: Option<Place>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    file: PathBuf,
    line: usize,
    column: usize,
    text: String,
    width: usize,
}

impl Diagnostic {
    /// A message for a range of bytes.
    #[must_use]
    pub fn new(message: &str, span: Range<usize>) -> Self {
        Self { message: message.trim_end().replace('\n', ", "), span, place: None }
    }

    /// Turns the range of bytes into a line and a column of a file.
    #[must_use]
    pub fn in_file(mut self, file: &Path, text: &str) -> Self {
        let start = floor_char(text, self.span.start.min(text.len()));
        let line_start = text[..start].rfind('\n').map_or(0, |n| n + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |n| start + n);
        let end = floor_char(text, self.span.end.clamp(start, line_end));
        self.place = Some(Place {
            file: file.to_owned(),
            line: text[..start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            text: text[line_start..line_end].trim_end().to_owned(),
            width: text[start..end].chars().count().max(1),
        });
        self
    }

    /// The message alone.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

fn floor_char(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(place) = &self.place else { return f.write_str(&self.message) };
        let Place { file, line, column, text, width } = place;
        writeln!(f, "{}:{line}:{column}: {}", file.display(), self.message)?;
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        // Tabs are kept, so that the caret stands below its character whatever the terminal makes of them.
        let indent: String =
            text.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        writeln!(f, " {number} | {text}")?;
        write!(f, " {margin} | {indent}{}", "^".repeat(*width))
    }
}

impl std::error::Error for Diagnostic {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_below_the_value() {
        let text = "a = 1\nbé = \"x\"\n";
        let at = text.find("\"x\"").unwrap();
        let shown = Diagnostic::new("wrong", at..at + 3).in_file(Path::new("r.toml"), text).to_string();
        assert_eq!(shown, "r.toml:2:6: wrong\n 2 | bé = \"x\"\n   |      ^^^");
    }

    #[test]
    fn any_span_is_survived() {
        for (start, end) in [(0, 0), (3, 900), (900, 2), (4, 5)] {
            let span = std::ops::Range { start, end };
            drop(Diagnostic::new("m", span).in_file(Path::new("f"), "é\né").to_string());
        }
    }
}
