//! URLs, hosts and ports among constants.

use std::net::Ipv4Addr;

use super::{STRING_BYTES, boring, run_of};

/// Schemes by which a program reaches another one, longest first where one ends in the other.
const SCHEMES: [&str; 34] = [
    "amqps",
    "amqp",
    "coaps",
    "coap",
    "https",
    "http",
    "ftps",
    "sftp",
    "tftp",
    "ftp",
    "ldaps",
    "ldap",
    "mqtts",
    "mqtt",
    "mongodb",
    "mysql",
    "nats",
    "ntp",
    "opc.tcp",
    "net.tcp",
    "postgresql",
    "postgres",
    "redis",
    "rtmp",
    "rtsps",
    "rtsp",
    "smb",
    "ssh",
    "telnet",
    "tcp",
    "udp",
    "wss",
    "ws",
    "grpc",
];
/// Bytes of the longest of them, and one more.
const SCHEME_BYTES: usize = 11;
/// Bytes of a host's name (RFC 1035, section 2.3.4).
const HOST_BYTES: usize = 253;
/// Endings of file names before a colon and a number, besides those of source files: messages, not hosts.
const FILES: [&str; 12] =
    [".so", ".a", ".o", ".txt", ".log", ".xml", ".conf", ".cfg", ".json", ".proto", ".lua", ".sh"];

/// The URL whose scheme ends at the colon at `at`: where it begins, its text, and whether it follows another string
/// immediately.
pub(super) fn url(bytes: &[u8], at: usize) -> Option<(usize, &str, bool)> {
    let from = at.saturating_sub(SCHEME_BYTES);
    let letters = bytes.get(from..at)?;
    let run = letters.iter().rev().take_while(|&&b| is_scheme(b)).count();
    let run = letters.get(letters.len() - run..)?;
    let scheme = SCHEMES.iter().find(|scheme| run.ends_with(scheme.as_bytes()))?;
    let is_packed = run.len() > scheme.len();
    let start = at - scheme.len();
    let rest = bytes.get(start..)?;
    let whole = run_of(rest, is_url);
    if whole.len() > STRING_BYTES {
        return None;
    }
    // Packed strings: the next URL begins where its scheme does.
    let host_at = scheme.len() + 3;
    let next = whole.get(host_at..)?.find("://").map_or(whole.len(), |next| host_at + next);
    let mut text = whole.get(..next)?;
    if next < whole.len() {
        text = SCHEMES.iter().find_map(|scheme| text.strip_suffix(scheme)).unwrap_or(text);
    }
    let text = text.trim_end_matches(['.', ',', ';', ':', ')', '!', '?', '\'', '*', '&', '=']);
    let host = text.get(host_at..)?.split(['/', '?', '#']).next()?;
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    (is_reachable(name) && !is_boring(name)).then_some((start, text, is_packed))
}

fn is_scheme(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'+' | b'-')
}

fn is_url(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}')
}

/// A name with a dot, `localhost` or an address: more than a place for one (`%s`).
fn is_reachable(host: &str) -> bool {
    if host.starts_with('[') || host == "localhost" || host.parse::<Ipv4Addr>().is_ok() {
        return true;
    }
    let letters = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'%' | b'*'))
    };
    let mut labels = host.rsplit('.');
    let top = labels.next().is_some_and(|top| top.len() >= 2 && top.bytes().all(|b| b.is_ascii_alphabetic()));
    let below = labels
        .clone()
        .next()
        .is_some_and(|label| label.bytes().any(|b| b.is_ascii_alphabetic()) && label != "%s");
    host.len() <= HOST_BYTES && top && below && labels.all(letters)
}

fn is_boring(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    boring::HOSTS.iter().any(|boring| {
        host.strip_suffix(boring).is_some_and(|before| before.is_empty() || before.ends_with('.'))
    })
}

/// `host:port` around the colon at `at`: where it begins, and its text.
pub(super) fn port(bytes: &[u8], at: usize) -> Option<(usize, &str)> {
    let length = port_length(bytes, at)?;
    let from = at.saturating_sub(HOST_BYTES + 1);
    let run = bytes
        .get(from..at)?
        .iter()
        .rev()
        .take_while(|&&b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    let start = at - run.count();
    let before = start.checked_sub(1).and_then(|before| bytes.get(before)).copied().unwrap_or(0);
    let host = std::str::from_utf8(bytes.get(start..at)?).ok()?;
    let is_name = host.starts_with(|c: char| c.is_ascii_alphanumeric()) && !is_address(host);
    let is_file = || boring::SOURCES.iter().chain(&FILES).any(|ending| host.ends_with(ending));
    let text = std::str::from_utf8(bytes.get(start..at + length)?).ok()?;
    (begins_word(before) && is_name && is_lower(host) && is_reachable(host) && !is_file() && !is_boring(host))
        .then_some((start, text))
}

/// Host names are written in small letters; `Foo.bar:1` is a thing of some language.
fn is_lower(host: &str) -> bool {
    !host.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_address(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

/// Bytes of `:1234`, if that is a port with an end.
fn port_length(bytes: &[u8], colon: usize) -> Option<usize> {
    let digits =
        run_of(bytes.get(colon + 1..)?.get(..6).or_else(|| bytes.get(colon + 1..))?, |b| b.is_ascii_digit());
    let number: u32 = digits.parse().ok()?;
    let after = bytes.get(colon + 1 + digits.len()).copied().unwrap_or(0);
    ((1..=65_535).contains(&number) && !digits.starts_with('0') && ends_word(after)).then(|| digits.len() + 1)
}

/// The address whose first dot is at `at`: where it begins, and its text with the port behind it.
///
/// Versions and object identifiers look the same. With a port it is an address; without one only if it is private,
/// link-local or multicast (RFC 1918, 3927, 5771), which is where instruments are.
pub(super) fn address(bytes: &[u8], at: usize) -> Option<(usize, &str)> {
    let digits = bytes.get(at.saturating_sub(3)..at)?.iter().rev().take_while(|b| b.is_ascii_digit()).count();
    if digits == 0 {
        return None;
    }
    let start = at - digits;
    let before = start.checked_sub(1).and_then(|before| bytes.get(before)).copied().unwrap_or(0);
    if !begins_word(before) {
        return None;
    }
    let text = run_of(bytes.get(start..)?.get(..16).or_else(|| bytes.get(start..))?, |b| {
        b.is_ascii_digit() || b == b'.'
    });
    let address: Ipv4Addr = text.parse().ok()?;
    let end = start + text.len();
    let after = bytes.get(end).copied().unwrap_or(0);
    let port = if after == b':' { port_length(bytes, end) } else { None };
    let is_instrument = address.is_private() || address.is_link_local() || address.is_multicast();
    let wanted = port.is_some() || (is_instrument && ends_word(after));
    let text = std::str::from_utf8(bytes.get(start..end + port.unwrap_or(0))?).ok()?;
    wanted.then_some((start, text))
}

fn begins_word(before: u8) -> bool {
    matches!(
        before,
        0 | b' ' | b'"' | b'\'' | b'=' | b'(' | b'[' | b',' | b';' | b'\t' | b'\n' | b'@' | b'<' | b'`'
    )
}

fn ends_word(after: u8) -> bool {
    matches!(
        after,
        0 | b' ' | b'"' | b'\'' | b'/' | b')' | b']' | b',' | b';' | b'\t' | b'\n' | b'\r' | b'>' | b'`'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_url(text: &str) -> Option<(&str, bool)> {
        let at = text.find("://").unwrap();
        url(text.as_bytes(), at).map(|(_, text, packed)| (text, packed))
    }

    #[test]
    fn urls_of_interest() {
        let cases: [(&str, Option<(&str, bool)>); 15] = [
            ("\0https://licence.acme.test/v1\0", Some(("https://licence.acme.test/v1", false))),
            ("See http://acme.test/help.\0", Some(("http://acme.test/help", false))),
            ("xhttps://acme.test", Some(("https://acme.test", true))),
            ("xhttps://acme.testhttp://b.test", Some(("https://acme.test", true))),
            ("\0opc.tcp://localhost:4840\0", Some(("opc.tcp://localhost:4840", false))),
            ("\0tcp://192.168.0.2:5025\0", Some(("tcp://192.168.0.2:5025", false))),
            ("\0rtsp://%s/stream\0", None),
            ("\0https://%s.acme.test/\0", Some(("https://%s.acme.test/", false))),
            ("\0http://\0", None),
            ("\0file:///etc/x\0", None),
            ("\0http://www.w3.org/2001/XMLSchema\0", None),
            ("\0https://user:pw@acme.test/x\0", Some(("https://user:pw@acme.test/x", false))),
            ("\0https://notgnu.org/\0", Some(("https://notgnu.org/", false))),
            ("\0http://schemas.xmlsoap.org/soap/\0", None),
            ("\0https://[fe80::1]:80/\0", Some(("https://[fe80::1]:80/", false))),
        ];
        for (text, expected) in cases {
            assert_eq!(first_url(text), expected, "{text:?}");
        }
        assert_eq!(first_url(&format!("http://acme.test/{}", "x".repeat(300))), None);
    }

    #[test]
    fn hosts_and_addresses() {
        let ports: [(&str, Option<&str>); 9] = [
            ("\0localhost:5025\0", Some("localhost:5025")),
            ("\0licence.acme.test:27000\0", Some("licence.acme.test:27000")),
            ("at main.cpp:12\0", None),
            ("\u{0}12:34:56\0", None),
            ("\0acme.test:99999\0", None),
            ("\0acme.test:80x\0", None),
            ("\0Foo.bar:1\0", None),
            ("\0std::x:1\0", None),
            ("\0acme:80\0", None),
        ];
        for (text, expected) in ports {
            let at = text.rfind(':').unwrap();
            assert_eq!(port(text.as_bytes(), at).map(|(_, text)| text), expected, "{text:?}");
        }
        let addresses: [(&str, Option<&str>); 9] = [
            ("\u{0}192.168.0.10\0", Some("192.168.0.10")),
            ("\u{0}8.8.8.8:53\0", Some("8.8.8.8:53")),
            ("\u{0}127.0.0.1:5025\0", Some("127.0.0.1:5025")),
            ("\u{0}239.255.0.1 is\0", Some("239.255.0.1")),
            ("\u{0}1.2.3.4\0", None),
            ("\u{0}10.0.0.1.5\0", None),
            ("\u{0}10.0.300.1\0", None),
            ("v10.0.0.1\0", None),
            ("\u{0}10.0.0.1-rc1\0", None),
        ];
        for (text, expected) in addresses {
            let at = text.find('.').unwrap();
            assert_eq!(address(text.as_bytes(), at).map(|(_, text)| text), expected, "{text:?}");
        }
    }
}
