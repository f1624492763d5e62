//! Paragraphs of `Field: value` lines, as Debian Policy 5.1 defines them, without copying.

/// One paragraph: its fields in order, continuation lines included in the value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paragraph<'a> {
    fields: Vec<(&'a str, &'a str)>,
}

impl<'a> Paragraph<'a> {
    /// The value of a field; names are compared without case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }

    /// The value of a field, empty where it is missing.
    #[must_use]
    pub fn text(&self, name: &str) -> &'a str {
        self.get(name).unwrap_or_default()
    }

    fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
}

/// Iterates over the paragraphs of a file. Lines that are neither fields nor continuations are passed over, as
/// apt does; comments (`#`) too.
#[must_use]
pub fn paragraphs(text: &str) -> Paragraphs<'_> {
    Paragraphs { rest: text }
}

/// See [`paragraphs`].
#[derive(Debug, Clone)]
pub struct Paragraphs<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Paragraphs<'a> {
    type Item = Paragraph<'a>;

    fn next(&mut self) -> Option<Paragraph<'a>> {
        let mut paragraph = Paragraph::default();
        while !self.rest.is_empty() {
            let (line, rest) = split_line(self.rest);
            let blank = line.trim().is_empty();
            if blank && !paragraph.is_empty() {
                self.rest = rest;
                break;
            }
            if blank || line.starts_with('#') {
                self.rest = rest;
                continue;
            }
            let value_end = continuation_end(self.rest, line.len());
            if let Some((name, _)) = line.split_once(':')
                && !line.starts_with([' ', '\t'])
            {
                let value = &self.rest[name.len() + 1..value_end];
                paragraph.fields.push((name.trim(), value.trim()));
            }
            self.rest = self.rest.get(value_end + 1..).unwrap_or_default();
        }
        (!paragraph.is_empty()).then_some(paragraph)
    }
}

fn split_line(text: &str) -> (&str, &str) {
    match memchr::memchr(b'\n', text.as_bytes()) {
        Some(end) => (&text[..end], &text[end + 1..]),
        None => (text, ""),
    }
}

/// Where the value that starts in the first line ends: before the first line that is not indented.
fn continuation_end(text: &str, first_line: usize) -> usize {
    let bytes = text.as_bytes();
    let mut end = first_line;
    while matches!(bytes.get(end + 1), Some(b' ' | b'\t')) {
        let next = end + 1;
        let line_end = memchr::memchr(b'\n', &bytes[next..]).map_or(bytes.len(), |n| next + n);
        // A line of blanks ends a paragraph, it does not continue a field.
        if text[next..line_end].trim().is_empty() {
            break;
        }
        end = line_end;
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paragraphs_fields_and_continuations() {
        let text = "# comment\nA: 1\nB: x\n y\n .\n z\n\n\nC:2\nD:\n \t\nE: 3";
        let all: Vec<_> = paragraphs(text).collect();
        assert_eq!(all.len(), 3);
        assert_eq!(all[0].get("a"), Some("1"));
        assert_eq!(all[0].get("B"), Some("x\n y\n .\n z"));
        assert_eq!(all[1].get("C"), Some("2"));
        assert_eq!(all[1].get("D"), Some(""));
        assert_eq!(all[2].get("E"), Some("3"));
        assert_eq!(all[0].get("C"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_to_its_end(text in "\\PC{0,80}|([a-zA-Z:# \\n\\t]{0,60})") {
            prop_assert!(paragraphs(&text).count() <= text.len() + 1);
        }
    }
}
