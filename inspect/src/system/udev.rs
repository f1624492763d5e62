//! udev rules, as udev(7) describes their text.

use crate::{UdevRule, UdevRules};

/// Rules kept of one file.
const RULES: usize = 512;
/// Bytes of one rule with its continuation lines: udev's own limit (`UDEV_LINE_SIZE`, 16 KiB).
const RULE: usize = 16 << 10;
/// Names in one list of a rule.
const LIST: usize = 64;

/// Reads a file of rules.
pub(crate) fn read(path: &str, text: &str) -> UdevRules {
    let mut rules = Vec::new();
    let mut pending = String::new();
    let mut began = 1;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_end_matches('\r');
        if pending.is_empty() {
            began = index.saturating_add(1);
        }
        // Comments are skipped even inside a continued rule.
        if line.trim_start().starts_with('#') {
            continue;
        }
        let (part, continues) = match line.strip_suffix('\\') {
            Some(part) => (part, true),
            None => (line, false),
        };
        if pending.len() < RULE {
            pending.push_str(part);
        }
        if continues {
            // A mark that the rule has begun.
            pending.push(' ');
            continue;
        }
        rules.extend(rule(&pending, began));
        pending.clear();
        if rules.len() >= RULES {
            break;
        }
    }
    rules.extend(rule(&pending, began));
    rules.truncate(RULES);
    UdevRules { path: path.to_owned(), rules }
}

/// One `KEY{attribute}operator"value"`.
struct Token<'t> {
    key: &'t str,
    attribute: Option<&'t str>,
    operator: &'t str,
    value: String,
}

/// Reads one rule; `None` if it does nothing but lead to others.
fn rule(text: &str, line: usize) -> Option<UdevRule> {
    let mut rule = UdevRule { line, ..UdevRule::default() };
    let mut rest = text;
    let mut of_note = false;
    // Every token shortens the rest.
    while let Some((token, after)) = token(rest) {
        rest = after;
        // What must not be true describes no device.
        if token.operator == "!=" {
            of_note = true;
            continue;
        }
        of_note |= !matches!(token.key, "GOTO" | "LABEL");
        enter(&mut rule, &token);
    }
    let leads = text.contains("GOTO") && !acts(&rule);
    (of_note && !leads).then_some(rule)
}

fn acts(rule: &UdevRule) -> bool {
    let said = [&rule.mode, &rule.group, &rule.owner].iter().any(|value| value.is_some());
    said || !(rule.symlinks.is_empty() && rule.tags.is_empty() && rule.runs.is_empty())
}

fn enter(rule: &mut UdevRule, token: &Token<'_>) {
    let matches = token.operator == "==";
    let value = token.value.as_str();
    let add = |list: &mut Vec<String>, values: &mut dyn Iterator<Item = &str>| {
        match token.operator {
            "=" | ":=" => list.clear(),
            "+=" => {}
            _ => return,
        }
        let room = LIST.saturating_sub(list.len());
        list.extend(values.take(room).map(str::to_owned));
    };
    match (token.key, token.attribute) {
        ("SUBSYSTEM" | "SUBSYSTEMS", None) if matches => first(&mut rule.subsystem, value),
        ("KERNEL" | "KERNELS", None) if matches => first(&mut rule.kernel, value),
        ("ATTRS" | "ATTR", Some("idVendor")) | ("ENV", Some("ID_VENDOR_ID")) if matches => {
            first(&mut rule.vendor_id, &value.to_ascii_lowercase());
        }
        ("ATTRS" | "ATTR", Some("idProduct")) | ("ENV", Some("ID_MODEL_ID")) if matches => {
            first(&mut rule.product_id, &value.to_ascii_lowercase());
        }
        ("MODE", None) if !matches => rule.mode = Some(value.to_owned()),
        ("GROUP", None) if !matches => rule.group = Some(value.to_owned()),
        ("OWNER", None) if !matches => rule.owner = Some(value.to_owned()),
        ("SYMLINK", None) => add(&mut rule.symlinks, &mut value.split_whitespace()),
        ("TAG", None) => add(&mut rule.tags, &mut std::iter::once(value)),
        ("RUN", None | Some("program")) => add(&mut rule.runs, &mut std::iter::once(value)),
        // `PROGRAM` runs at once, whatever its operator; so does `IMPORT{program}`.
        ("PROGRAM", None) | ("IMPORT", Some("program")) if rule.runs.len() < LIST => {
            rule.runs.push(value.to_owned());
        }
        _ => {}
    }
}

/// The first one counts: `KERNEL` stands before `KERNELS`, which is about its parents.
fn first(slot: &mut Option<String>, value: &str) {
    if slot.is_none() {
        *slot = Some(value.to_owned());
    }
}

fn token(text: &str) -> Option<(Token<'_>, &str)> {
    let text = text.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
    let end = text.find(|c: char| !(c.is_ascii_uppercase() || c == '_'))?;
    let (key, rest) = text.split_at_checked(end).filter(|(key, _)| !key.is_empty())?;
    let (attribute, rest) = match rest.strip_prefix('{') {
        Some(inside) => {
            let (attribute, rest) = inside.split_once('}')?;
            (Some(attribute), rest)
        }
        None => (None, rest),
    };
    let rest = rest.trim_start();
    let operator =
        ["==", "!=", "+=", "-=", ":=", "="].into_iter().find(|operator| rest.starts_with(operator))?;
    let rest = rest.strip_prefix(operator)?.trim_start();
    let (value, rest) = value(rest)?;
    Some((Token { key, attribute, operator, value }, rest))
}

/// `"…"`, in which only a quote can be escaped, or `e"…"` with the escapes of C; `i"…"` does not look at case.
fn value(text: &str) -> Option<(String, &str)> {
    let (escapes, text) = match text.strip_prefix('e') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('i').unwrap_or(text)),
    };
    let inside = text.strip_prefix('"')?;
    let mut value = String::new();
    let mut escaped = false;
    for (at, c) in inside.char_indices() {
        match c {
            'n' if escaped && escapes => value.push('\n'),
            't' if escaped && escapes => value.push('\t'),
            '"' if escaped => value.push('"'),
            _ if escaped && escapes => value.push(c),
            _ if escaped => value.extend(['\\', c]),
            '\\' => {
                escaped = true;
                continue;
            }
            '"' => return Some((value, inside.get(at.checked_add(1)?..)?)),
            _ => value.push(c),
        }
        escaped = false;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_for_an_instrument() {
        let text = "# Acme\nSUBSYSTEM!=\"usb\", GOTO=\"end\"\nSUBSYSTEM==\"usb\", ATTRS{idVendor}==\"1AB1\" ATTRS{idProduct}==\"0588\", \\\n\
            # inside\n  MODE:=\"0666\",GROUP=\"plugdev\", SYMLINK+=\"acme acme%n\", TAG+=\"uaccess\", RUN+=\"/opt/acme/run \\\"a\\\"\"\n\
            LABEL=\"end\"\n";
        let rules = read("/lib/udev/rules.d/60-acme.rules", text).rules;
        let [rule] = rules.as_slice() else { panic!("{rules:?}") };
        assert_eq!(rule.line, 3);
        assert_eq!((rule.vendor_id.as_deref(), rule.product_id.as_deref()), (Some("1ab1"), Some("0588")));
        assert_eq!((rule.mode.as_deref(), rule.group.as_deref()), (Some("0666"), Some("plugdev")));
        assert_eq!(rule.symlinks, ["acme", "acme%n"]);
        assert_eq!(
            (rule.tags.as_slice(), rule.runs.as_slice()),
            (&["uaccess".to_owned()][..], &["/opt/acme/run \"a\"".to_owned()][..])
        );
    }

    #[test]
    fn assignments_replace_and_add() {
        let text = "KERNEL==\"ttyACM*\", SYMLINK+=\"a\", SYMLINK=\"b\", SYMLINK+=\"c\", TAG-=\"x\", RUN{builtin}+=\"kmod load x\", OWNER=e\"a\\tb\"";
        let rules = read("/a.rules", text).rules;
        assert_eq!(rules[0].symlinks, ["b", "c"]);
        assert_eq!(
            (rules[0].tags.len(), rules[0].runs.len(), rules[0].owner.as_deref()),
            (0, 0, Some("a\tb"))
        );
    }

    #[test]
    fn damaged_rules_end_where_they_are_damaged() {
        for text in
            ["MODE=\"0666", "MODE=", "MODE", "ATTR{", "{}==\"\"", "\\\n\\\n", "KERNEL==\"a\\", "é=\"1\""]
        {
            assert!(read("/a.rules", text).rules.iter().all(|rule| rule.mode.is_none()), "{text}");
        }
        assert_eq!(read("/a.rules", &"MODE=\"1\"\n".repeat(RULES + 9)).rules.len(), RULES);
    }
}
