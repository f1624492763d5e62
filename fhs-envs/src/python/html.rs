//! The links of a project's page, as far as "Simple repository API" (PEP 503, 592, 658) writes them.

/// One `<a>`: its attributes.
pub(super) type Attributes = Vec<(String, String)>;

/// As many files as a project may have; the largest have some ten thousand.
const LINKS_MAX: usize = 200_000;

/// The attributes of every link of a page. Whatever else is in the page does not matter.
pub(super) fn links(page: &str) -> Vec<Attributes> {
    let mut found = Vec::new();
    let mut rest = page;
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        let is_link = rest.get(..2).is_some_and(|start| {
            start.starts_with(['a', 'A']) && start.ends_with(|c: char| c.is_ascii_whitespace())
        });
        if is_link && found.len() < LINKS_MAX {
            let (attributes, after) = attributes(&rest[1..]);
            found.push(attributes);
            rest = after;
        }
    }
    found
}

fn attributes(text: &str) -> (Attributes, &str) {
    let mut found = Attributes::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        if rest.is_empty() || rest.starts_with('>') {
            return (found, rest);
        }
        let end =
            rest.find(|c: char| c.is_ascii_whitespace() || matches!(c, '=' | '>')).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let (value, after) = match after.trim_start().strip_prefix('=') {
            Some(after) => value(after.trim_start()),
            None => ("", after),
        };
        if name.is_empty() && after.len() == rest.len() {
            // A sign that no attribute begins with.
            rest = rest.get(1..).unwrap_or_default();
            continue;
        }
        found.push((name.to_ascii_lowercase(), unescape(value)));
        rest = after;
    }
}

fn value(text: &str) -> (&str, &str) {
    for quote in ['"', '\''] {
        if let Some(inside) = text.strip_prefix(quote) {
            return inside.split_once(quote).unwrap_or((inside, ""));
        }
    }
    let end = text.find(|c: char| c.is_ascii_whitespace() || c == '>').unwrap_or(text.len());
    text.split_at(end)
}

fn unescape(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        let known =
            rest.find(';').filter(|end| *end < 12).and_then(|end| Some((entity(&rest[1..end])?, end)));
        match known {
            Some((c, end)) => {
                plain.push(c);
                rest = &rest[end + 1..];
            }
            None => {
                plain.push('&');
                rest = &rest[1..];
            }
        }
    }
    plain.push_str(rest);
    plain
}

fn entity(name: &str) -> Option<char> {
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)?
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn links_of_every_style() {
        let page = "<!DOCTYPE html><html><abbr title=x>no</abbr><a href=\"x-1.whl#sha256=00\" \
                    data-requires-python=\"&gt;=3.9&#44;&#x3c;4\">x</a><br/><A\nHREF='y' data-yanked>y</A><a href=z>z";
        let found = links(page);
        assert_eq!(found.len(), 3);
        assert_eq!(found[0][1], ("data-requires-python".to_owned(), ">=3.9,<4".to_owned()));
        assert_eq!(found[1][1], ("data-yanked".to_owned(), String::new()));
        assert_eq!(found[2][0], ("href".to_owned(), "z".to_owned()));
    }

    proptest! {
        #[test]
        fn any_page_is_read_to_its_end(page in "(<a |[ =\"'>&;#x1]|\\PC){0,80}") {
            drop(links(&page));
        }
    }
}
