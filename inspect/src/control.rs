//! Control files: paragraphs of `Field: value` lines, as Debian and Python packages use them.

use crate::Error;

/// Paragraphs of one file; a package index has more, a control file has one.
const PARAGRAPHS: usize = 1024;

/// One paragraph. Field names compare without regard to case; of a repeated field all values are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paragraph {
    fields: Vec<(String, String)>,
}

impl Paragraph {
    /// The first value of a field, without the spaces around it. Continuation lines are separated by newlines, each
    /// without its leading space.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Every value of a field, in order.
    pub fn all<'p>(&'p self, name: &'p str) -> impl Iterator<Item = &'p str> {
        self.fields
            .iter()
            .filter(move |(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// All fields in order.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(field, value)| (field.as_str(), value.as_str()))
    }
}

/// Parses a Debian control file.
///
/// # Errors
/// When a line is neither a field, a continuation, a comment nor empty, or when there are more than a thousand
/// paragraphs. `member` names the file in the error.
pub fn parse(member: &str, text: &str) -> Result<Vec<Paragraph>, Error> {
    let mut paragraphs = Vec::new();
    let mut current = Paragraph::default();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            if !current.fields.is_empty() {
                paragraphs.push(std::mem::take(&mut current));
            }
            continue;
        }
        if paragraphs.len() >= PARAGRAPHS {
            return Err(error(member, index, "there are more paragraphs than any control file has"));
        }
        line_into(&mut current, line).map_err(|what| error(member, index, what))?;
    }
    if !current.fields.is_empty() {
        paragraphs.push(current);
    }
    Ok(paragraphs)
}

/// Parses the header of a wheel's `METADATA` or `WHEEL`: fields up to the first empty line; a body may follow.
///
/// # Errors
/// When a line of the header is neither a field nor a continuation.
pub fn parse_header(member: &str, text: &str) -> Result<Paragraph, Error> {
    let mut header = Paragraph::default();
    for (index, line) in text.lines().enumerate() {
        if line.is_empty() {
            break;
        }
        line_into(&mut header, line).map_err(|what| error(member, index, what))?;
    }
    Ok(header)
}

fn line_into(paragraph: &mut Paragraph, line: &str) -> Result<(), &'static str> {
    if line.starts_with('#') {
        return Ok(());
    }
    if let Some(rest) = line.strip_prefix([' ', '\t']) {
        let Some((_, value)) = paragraph.fields.last_mut() else {
            return Err("a continuation line continues nothing");
        };
        value.push('\n');
        value.push_str(rest.trim_end());
        return Ok(());
    }
    let (name, value) = line.split_once(':').ok_or("a field without a colon")?;
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err("a field without a name");
    }
    paragraph.fields.push((name.to_owned(), value.trim().to_owned()));
    Ok(())
}

fn error(member: &str, index: usize, what: &str) -> Error {
    Error::Control { archive: None, member: member.to_owned(), line: index + 1, what: what.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_continue_and_repeat() {
        let text =
            "# made by hand\nPackage: acme\nDescription: a tool\n that does\n .\n things\n\nPackage: other\n";
        let parsed = parse("control", text).unwrap();
        assert_eq!(parsed.len(), 2);
        assert_eq!(parsed[0].get("package"), Some("acme"));
        assert_eq!(parsed[0].get("Description"), Some("a tool\nthat does\n.\nthings"));
    }

    #[test]
    fn a_wheel_header_ends_at_its_body() {
        let text = "Name: acme\nRequires-Dist: numpy\nRequires-Dist: scipy\n\nBody: no field, really\n";
        let parsed = parse_header("METADATA", text).unwrap();
        assert_eq!(parsed.all("requires-dist").collect::<Vec<_>>(), ["numpy", "scipy"]);
        assert_eq!(parsed.get("Body"), None);
    }

    #[test]
    fn nonsense_is_refused_with_its_line() {
        let error = parse("control", "Package: x\nnonsense\n").unwrap_err();
        assert_eq!(error.to_string(), "`control`, line 2: a field without a colon");
        assert!(parse("control", " begins with a continuation\n").is_err());
    }
}
