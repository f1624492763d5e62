//! Words in a line. No regular expressions: what a line is compared with is literal text with gaps, so that a hostile line costs no
//! more than its length.
//!
//! `*` is a gap, `{}` a gap whose text is wanted, and `~` at the edge of a literal the beginning or the end of a word. Letters of
//! both cases are the same.

use super::evidence::THING_MAX;

/// Looks for a pattern in a line; `lower` is the line in lower case. What is in the gap `{}`, or an empty text.
#[must_use]
pub fn find<'l>(pattern: &str, line: &'l str, lower: &str) -> Option<&'l str> {
    let mut at = 0;
    let mut gap: Option<(usize, bool)> = None;
    let mut wanted: Option<(usize, usize)> = None;
    let mut rest = pattern;
    loop {
        let end = rest.find(['*', '{']).unwrap_or(rest.len());
        let literal = &rest[..end];
        if !literal.is_empty() {
            let (from, to) = literal_in(literal, lower, at)?;
            if let Some((begin, true)) = gap {
                wanted.get_or_insert((begin, from));
            }
            (at, gap) = (to, None);
        }
        match rest[end..].chars().next() {
            None => break,
            Some('*') => {
                gap = Some((at, false));
                rest = &rest[end + 1..];
            }
            Some(_) => {
                gap = Some((at, true));
                rest = rest[end..].strip_prefix("{}").unwrap_or_default();
            }
        }
    }
    if let Some((begin, true)) = gap {
        wanted.get_or_insert((begin, line.len()));
    }
    match wanted {
        Some((begin, end)) => line.get(begin..end),
        None => Some(""),
    }
}

fn literal_in(literal: &str, lower: &str, from: usize) -> Option<(usize, usize)> {
    let bare = literal.trim_matches('~');
    let (starts, ends) = (literal.starts_with('~'), literal.ends_with('~'));
    let mut at = from;
    loop {
        let begin = at + lower.get(at..)?.find(bare)?;
        let end = begin + bare.len();
        let is_edge = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
        let fits = (!starts || is_edge(lower[..begin].chars().next_back()))
            && (!ends || is_edge(lower[end..].chars().next()));
        if fits {
            return Some((begin, end));
        }
        at = begin + bare.chars().next().map_or(1, char::len_utf8);
    }
}

/// What a sentence is to name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Nothing.
    Nothing,
    /// What is in the gap of the pattern, and nothing else.
    Gap,
    /// A file or a folder.
    Path,
    /// A number of a port.
    Port,
    /// An address with its port, or one of them.
    Server,
    /// A node below `/dev`, a port of Windows, a sound card.
    Device,
    /// A library.
    Library,
    /// What is in quotes.
    Quoted,
    /// Whatever of the above is there: a path, a word in quotes.
    Any,
}

/// What a line names of this kind.
#[must_use]
pub fn thing(want: Want, line: &str) -> Option<String> {
    let found = match want {
        Want::Nothing | Want::Gap => None,
        Want::Path => {
            path(line).or_else(|| quoted(line).filter(|text| looks_like_file(text))).or_else(|| file(line))
        }
        Want::Port => port(line).or_else(|| of_any_address(line)).map(|port| port.to_string()),
        Want::Server => server(line),
        Want::Device => device(line),
        Want::Library => library(line),
        Want::Quoted => quoted(line),
        Want::Any => path(line).or_else(|| quoted(line)).or_else(|| file(line)),
    };
    found.and_then(|text| clean(&text))
}

/// A name as a sentence may have it: without quotes and blanks around it, and within bounds.
#[must_use]
pub fn clean(text: &str) -> Option<String> {
    let edge = |c: char| c.is_whitespace() || "\"'`´‘’“”()<>,;".contains(c);
    let text = text.trim_matches(edge).trim_end_matches([':', '.', ' ', ',']);
    // `:0` is a display.
    let is_display =
        text.strip_prefix(':').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let text = if is_display { text } else { text.trim_start_matches([':', ' ']) };
    let text: String =
        text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(THING_MAX).collect();
    (!text.is_empty()).then_some(text)
}

fn tokens(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| c.is_whitespace() || "\"'`‘’“”()<>,;=|{}".contains(c))
        .filter(|token| !token.is_empty())
}

/// The first absolute path: `/etc/acme.conf`, `C:\acme\acme.ini`. What stands before a colon at the line's beginning is mostly the
/// program that speaks, so that one comes last.
#[must_use]
pub fn path(line: &str) -> Option<String> {
    let is_path = |token: &str| {
        let bytes = token.as_bytes();
        let of_windows = bytes.len() > 3
            && bytes[0].is_ascii_alphabetic()
            && bytes[1] == b':'
            && matches!(bytes[2], b'\\' | b'/')
            && bytes[3] != b'/';
        (token.starts_with('/') && token.len() > 1 && !token.starts_with("//")) || of_windows
    };
    if let Some(text) = quoted(line).filter(|text| is_path(text)) {
        return Some(text);
    }
    let strip = |token: &str| {
        let token = token.trim_start_matches(['[', '@']).trim_end_matches([':', '.', ',', ']', '!', '?']);
        // `open:/etc/x`, `file:///etc/x`, and `/etc/x:12:3` of compilers and parsers.
        let token = token.strip_prefix("file://").unwrap_or(token);
        let token = match token.find(":/").filter(|at| *at > 1 && !token[*at..].starts_with("://")) {
            Some(at) => &token[at + 1..],
            None => token,
        };
        match token.split_once(':') {
            Some((before, _)) if before.len() > 1 && is_path(before) => before.to_owned(),
            _ => token.to_owned(),
        }
    };
    let speaker = line.split_whitespace().next().filter(|word| word.ends_with(':'));
    let all: Vec<String> = tokens(line).map(strip).filter(|token| is_path(token)).collect();
    let is_speaker = |token: &String| speaker.is_some_and(|word| word.trim_end_matches(':') == token);
    all.iter().find(|token| !is_speaker(token)).or(all.first()).cloned()
}

/// Where something was to go, of a line with two paths: `cannot move '/a' to '/b'`, `'/a' -> '/b'`. What cannot be written is there.
#[must_use]
pub fn target(line: &str) -> Option<String> {
    let lower = line.to_ascii_lowercase();
    // Of a link it is the name that comes first.
    if lower.contains("link ") {
        return None;
    }
    let begins = |rest: &str| rest.starts_with(['/', '\'', '"', '`', '‘', '“']);
    for between in [" -> ", " => ", " into ", " to "] {
        let mut all = lower.rmatch_indices(between).map(|(at, _)| at);
        let Some(at) = all.find(|at| begins(&lower[at + between.len()..])) else { continue };
        let (before, rest) = (&line[..at], &line[at + between.len()..]);
        if path(before).is_none() && quoted(before).is_none() {
            continue;
        }
        let found = if rest.starts_with('/') { path(rest) } else { quoted(rest) };
        return found.and_then(|text| clean(&text));
    }
    None
}

/// A bare name with an extension: `settings.xml`.
fn file(line: &str) -> Option<String> {
    let found = tokens(line)
        .map(|token| token.trim_end_matches([':', '.']))
        .find(|token| looks_like_file(token) && !is_source(token));
    found.map(str::to_owned)
}

/// A place in a program's source: `src/main.rs:4:5`.
fn is_source(text: &str) -> bool {
    let name = text.split(':').next().unwrap_or(text);
    [".rs", ".c", ".cc", ".cpp", ".cxx", ".h", ".hpp", ".py", ".java", ".cs", ".go", ".js", ".ts"]
        .iter()
        .any(|end| name.ends_with(end))
}

fn looks_like_file(text: &str) -> bool {
    if text.len() > THING_MAX || text.contains("://") {
        return false;
    }
    if text.contains('/') && !text.contains(' ') {
        return true;
    }
    let Some((stem, extension)) = text.rsplit_once('.') else { return false };
    let letters = extension.len() <= 8 && extension.chars().next().is_some_and(|c| c.is_ascii_alphabetic());
    let extension = extension.chars().all(|c| c.is_ascii_alphanumeric());
    // An exception's name has dots, too, and begins its last part with a capital.
    let capital = text
        .rsplit('.')
        .next()
        .is_some_and(|last| last.starts_with(|c: char| c.is_ascii_uppercase()) && last.len() > 4);
    letters
        && extension
        && !capital
        && stem.chars().any(char::is_alphanumeric)
        && !stem.ends_with(['/', '\\'])
}

/// What is in the first pair of quotes.
#[must_use]
pub fn quoted(line: &str) -> Option<String> {
    for (index, open) in line.char_indices() {
        let close = match open {
            '"' => '"',
            '\'' => '\'',
            '`' => '\'',
            '‘' => '’',
            '“' => '”',
            _ => continue,
        };
        // `can't` is no quotation.
        let before = line[..index].chars().next_back();
        if before.is_some_and(char::is_alphanumeric) {
            continue;
        }
        let rest = &line[index + open.len_utf8()..];
        let end = rest.find(|c| c == close || (open == '`' && c == '`'))?;
        if end > 0 {
            return Some(rest[..end].to_owned());
        }
    }
    None
}

/// The number of a port: `port 5025`, `:5025`, `5025@server`, `('127.0.0.1', 5025)`.
#[must_use]
pub fn port(line: &str) -> Option<u16> {
    let lower = line.to_ascii_lowercase();
    for word in ["port"] {
        let mut from = 0;
        while let Some(at) = lower.get(from..).and_then(|rest| rest.find(word)) {
            let begin = from + at + word.len();
            let rest = lower[begin..].trim_start_matches(|c: char| " :=#'\"(no.".contains(c));
            if let Some(number) = number(rest) {
                return Some(number);
            }
            from = begin;
        }
    }
    of_protocol(&lower).or_else(|| address(line).and_then(|(_, port)| port))
}

/// `:8080` and `*:8080`, as Go and ss(8) write a port at all addresses. Where a server is meant this may be a display.
fn of_any_address(line: &str) -> Option<u16> {
    let mut all = line.split_whitespace().map(|word| word.trim_end_matches([':', ',', '.', ';']));
    all.find_map(|word| word.strip_prefix('*').unwrap_or(word).strip_prefix(':')?.parse().ok())
        .filter(|port| *port > 0)
}

/// `2055/tcp`, `udp/2055`, as services(5), nmap and container engines write it.
fn of_protocol(lower: &str) -> Option<u16> {
    let words = lower.split(|c: char| !(c.is_ascii_alphanumeric() || c == '/'));
    let port = |word: &str| {
        let (one, other) = word.split_once('/')?;
        let is_protocol = |part: &str| ["tcp", "udp", "tcp4", "tcp6", "udp4", "udp6", "sctp"].contains(&part);
        match (is_protocol(one), is_protocol(other)) {
            (true, false) => other.parse().ok(),
            (false, true) => one.parse().ok(),
            _ => None,
        }
    };
    { words }.filter_map(port).find(|port: &u16| *port > 0)
}

fn number(text: &str) -> Option<u16> {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok().filter(|port| *port > 0)
}

/// `HOST:PORT`, or what of it a line has.
fn server(line: &str) -> Option<String> {
    match (address(line), port(line)) {
        (Some((host, Some(port))), _) | (Some((host, None)), Some(port)) => Some(format!("{host}:{port}")),
        (Some((host, None)), None) => Some(host),
        (None, Some(port)) => Some(format!("port {port}")),
        (None, None) => None,
    }
}

/// The first address: `10.0.0.5:5025`, `licsrv:27000`, `27000@licsrv`, `http://host/x`, `('10.0.0.5', 5025)`, a word after `host`.
#[must_use]
pub fn address(line: &str) -> Option<(String, Option<u16>)> {
    if let Some((_, rest)) = line.split_once("://") {
        let authority: String = rest.chars().take_while(|c| !"/ ?#\"'`<>,;)".contains(*c)).collect();
        let authority = authority.rsplit('@').next().unwrap_or_default().to_owned();
        let (host, port) = split(authority.trim_end_matches(['.', ':']));
        if is_host(&host) {
            return Some((host, port));
        }
    }
    let mut named = None;
    for token in line.split(|c: char| c.is_whitespace() || "\"'`(),;=<>{}|".contains(c)) {
        let token = token.trim_start_matches('/').trim_end_matches([':', '.', ']']).trim_start_matches('[');
        if let Some((port, host)) = token.split_once('@')
            && let Ok(port) = port.parse::<u16>()
        {
            return Some((host.to_owned(), Some(port)));
        }
        let (host, port) = split(token);
        // GLib's `(program:PID): …` at the beginning of a line.
        if line.starts_with('(') && line[1..].starts_with(token) && !is_ip(&host) {
            continue;
        }
        if (is_ip(&host) || is_loopback_name(&host) || (port.is_some() && is_host(&host))) && named.is_none()
        {
            named = Some((host, port));
        }
        if let Some((_, Some(_))) = named {
            break;
        }
    }
    match named {
        Some((host, None)) => {
            // Of a tuple the port is the next word.
            let after = line.split_once(host.as_str()).map_or("", |(_, rest)| rest);
            let after = after.trim_start_matches(|c: char| "'\"`), (:/".contains(c));
            let port = number(after).filter(|_| after.starts_with(|c: char| c.is_ascii_digit()));
            Some((host, port))
        }
        Some(found) => Some(found),
        None => by_word(line),
    }
}

/// A name behind `host`, `server`: only one that looks like a name of a machine.
fn by_word(line: &str) -> Option<(String, Option<u16>)> {
    let mut tokens = tokens(line).map(|token| token.trim_matches(['[', ']', ':', '.'])).peekable();
    while let Some(token) = tokens.next() {
        let word = token.to_ascii_lowercase();
        let words =
            ["host", "server", "hostname", "resolve", "to", "reach", "contact", "lookup", "ping", "broker"];
        if words.contains(&word.as_str()) {
            let next = tokens.peek().copied().unwrap_or_default();
            let like_name = next.contains('.') && next.parse::<f64>().is_err()
                || next.contains('-')
                || next.chars().any(|c| c.is_ascii_digit());
            if is_host(next)
                && like_name
                && !looks_like_path(next)
                && next.chars().any(|c| c.is_ascii_alphabetic())
            {
                return Some((next.to_owned(), None));
            }
        }
    }
    None
}

fn looks_like_path(text: &str) -> bool {
    text.contains('/') || text.contains('\\')
}

fn split(token: &str) -> (String, Option<u16>) {
    if let Some((host, port)) = token.rsplit_once(':')
        && let Ok(port) = port.trim_end_matches(|c: char| !c.is_ascii_digit()).parse::<u16>()
        && port > 0
        && (!host.contains(':') || host.contains("::") || host.ends_with(']'))
    {
        return (host.trim_matches(['[', ']']).to_owned(), Some(port));
    }
    (token.to_owned(), None)
}

fn is_ip(text: &str) -> bool {
    text.parse::<std::net::Ipv4Addr>().is_ok()
        || (text.matches(':').count() >= 2 && text.parse::<std::net::Ipv6Addr>().is_ok())
}

fn is_loopback_name(text: &str) -> bool {
    text.eq_ignore_ascii_case("localhost")
}

/// A name of a machine: what RFC 1123 allows, with a letter in it, and no place in a source file (`main.c:12`).
fn is_host(text: &str) -> bool {
    let source = [
        ".c", ".cc", ".cpp", ".cxx", ".h", ".hpp", ".py", ".java", ".cs", ".rs", ".go", ".js", ".conf",
        ".cfg", ".ini", ".xml", ".json", ".toml", ".yaml", ".yml", ".sh", ".log",
    ];
    let lower = text.to_ascii_lowercase();
    is_ip(text)
        || (!text.is_empty()
            && text.len() <= 253
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
            && text.chars().any(|c| c.is_ascii_alphabetic())
            && !source.iter().any(|end| lower.ends_with(end)))
}

/// `/dev/ttyUSB0`, `COM3`, `hw:0,0`, `04b4:8613`.
fn device(line: &str) -> Option<String> {
    let all = || tokens(line).map(|token| token.trim_matches(['[', ']', ':', '.', '!']));
    let node = all().find(|token| token.starts_with("/dev/") && token.len() > 5);
    let node = node.map(|token| token.split(':').next().unwrap_or(token));
    let port = || {
        all().map(|token| token.trim_start_matches("\\\\.\\")).find(|token| {
            token.strip_prefix("COM").is_some_and(|number| {
                !number.is_empty() && number.len() < 4 && number.bytes().all(|byte| byte.is_ascii_digit())
            })
        })
    };
    let short = || {
        all().find(|token| {
            ["tty", "hidraw", "video", "comedi", "ttyUSB", "ttyACM", "ttyS"].iter().any(|begin| {
                token.strip_prefix(begin).is_some_and(|rest| {
                    rest.ends_with(|c: char| c.is_ascii_digit()) && rest.chars().all(char::is_alphanumeric)
                })
            })
        })
    };
    let usb = || {
        all().find(|token| {
            let hex = |part: &str| {
                let part = part.trim_start_matches("0x");
                part.len() == 4 && part.bytes().all(|byte| byte.is_ascii_hexdigit())
            };
            token.split_once(':').is_some_and(|(vendor, product)| hex(vendor) && hex(product))
        })
    };
    node.or_else(port).or_else(short).or_else(usb).map(str::to_owned)
}

/// `libacme.so.2`, `acme.dll`.
fn library(line: &str) -> Option<String> {
    let found = tokens(line).map(|token| token.trim_matches([':', '.', '[', ']'])).find(|token| {
        let lower = token.to_ascii_lowercase();
        lower.contains(".so.") || lower.ends_with(".so") || lower.ends_with(".dll") || lower.ends_with(".sys")
    });
    let found = found?;
    let found = found
        .split(':')
        .find(|part| part.contains(".so") || part.to_ascii_lowercase().contains(".dll"))
        .unwrap_or(found);
    // Of a path the name is what a package is looked for by.
    Some(found.rsplit(['/', '\\']).next().unwrap_or(found).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found<'l>(pattern: &str, line: &'l str) -> Option<&'l str> {
        find(pattern, line, &line.to_ascii_lowercase())
    }

    #[test]
    fn gaps_and_words() {
        assert_eq!(found("cannot open {}: no such", "Cannot open /x/y: No such file"), Some("/x/y"));
        assert_eq!(found("cannot*busy", "cannot open: busy"), Some(""));
        assert_eq!(found("~lock~", "clock"), None);
        assert_eq!(found("~lock~", "a clock and a lock."), Some(""));
        assert_eq!(found("missing {}", "missing Ünïcode"), Some("Ünïcode"));
        assert_eq!(found("b*a", "a b"), None);
    }

    #[test]
    fn things_are_found_where_people_write_them() {
        let cases = [
            (Want::Path, "acme: cannot open '/etc/acme/a b.conf': No such file", "/etc/acme/a b.conf"),
            (Want::Path, "/opt/acme/run: /var/x: Permission denied", "/var/x"),
            (Want::Path, "failed to open file settings.xml (2)", "settings.xml"),
            (Want::Path, "error in /etc/a.conf:12: oops", "/etc/a.conf"),
            (Want::Path, "cannot load C:\\acme\\a.ini", "C:\\acme\\a.ini"),
            (Want::Port, "bind 0.0.0.0:5025: Address already in use", "5025"),
            (Want::Port, "cannot listen on port 80", "80"),
            (Want::Port, "listen tcp :8080: bind: address already in use", "8080"),
            (Want::Port, "collector: 2055/udp is taken by another", "2055"),
            (Want::Port, "listen tcp/2055: in use", "2055"),
            (Want::Server, "connect to 10.0.0.5:5025 failed", "10.0.0.5:5025"),
            (Want::Server, "license server 27000@licsrv", "licsrv:27000"),
            (Want::Server, "cannot connect ('10.1.2.3', 9000)", "10.1.2.3:9000"),
            (Want::Server, "Failed to connect to localhost port 8080: refused", "localhost:8080"),
            (Want::Server, "GET https://lic.acme.com/v1: no", "lic.acme.com"),
            (Want::Server, "could not resolve host db-1.lab", "db-1.lab"),
            (Want::Device, "open \"/dev/ttyUSB0\": busy", "/dev/ttyUSB0"),
            (Want::Device, "cannot open COM3", "COM3"),
            (Want::Device, "usb device 04b4:8613 gone", "04b4:8613"),
            (Want::Library, "dlopen(/opt/x/libfoo.so.2): no", "libfoo.so.2"),
            (Want::Quoted, "can't find 'core' here", "core"),
        ];
        for (want, line, expected) in cases {
            assert_eq!(thing(want, line).as_deref(), Some(expected), "{line}");
        }
        assert_eq!(thing(Want::Server, "main.c:12 oops at 10:20"), None);
        for (line, expected) in [
            ("mv: cannot move '/tmp/a' to '/usr/b': Read-only file system", Some("/usr/b")),
            (
                "mv: failed: '/tmp/a' to '/usr/b'; unable to remove target: Read-only file system",
                Some("/usr/b"),
            ),
            ("OSError: [Errno 30] Read-only file system: '/tmp/a' -> '/usr/b'", Some("/usr/b")),
            ("rename /tmp/a to /usr/b: Permission denied", Some("/usr/b")),
            ("ln: failed to create symbolic link '/usr/b' -> '/tmp/a': Read-only file system", None),
            ("failed to write to '/usr/b': Read-only file system", None),
        ] {
            assert_eq!(target(line).as_deref(), expected, "{line}");
        }
    }
}
