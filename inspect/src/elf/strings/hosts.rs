//! URLs, hosts and ports among constants.

use std::net::{Ipv4Addr, Ipv6Addr};

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
/// Bytes of the longest interface of [`VISA_INTERFACES`] and the number of a board behind it.
const INTERFACE_BYTES: usize = 12;
/// Interfaces and the classes behind them that a resource string of VISA names (VPP-4.3, table 4.3.1).
const VISA_INTERFACES: [&str; 8] = ["ASRL", "FIREWIRE", "GPIB", "GPIB-VXI", "PXI", "TCPIP", "USB", "VXI"];
const VISA_CLASSES: [&str; 7] =
    ["::INSTR", "::SOCKET", "::RAW", "::INTFC", "::SERVANT", "::BACKPLANE", "::MEMACC"];
/// Bytes of an IPv6 address with its zone in brackets.
const IPV6_BYTES: usize = 64;
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
    let has_port = host.len() > name.len();
    // A place for a host alone says nothing; one with a port, every host of this machine (`*`), or a short name do.
    let with_port = has_port && (matches!(name, "*" | "%s") || is_short(name));
    ((is_reachable(name) || with_port) && !is_boring(name)).then_some((start, text, is_packed))
}

/// A name of the own network: `licserver`.
fn is_short(name: &str) -> bool {
    name.len() >= 2
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// The resource string of VISA (VPP-4.3, section 4.3) whose first `::` is at `at`: `TCPIP0::10.0.0.5::inst0::INSTR`.
pub(super) fn visa(bytes: &[u8], at: usize) -> Option<(usize, &str)> {
    let from = at.saturating_sub(INTERFACE_BYTES);
    let run = bytes.get(from..at)?.iter().rev().take_while(|&&b| b.is_ascii_alphanumeric() || b == b'%');
    let start = at - run.count();
    let text = run_of(bytes.get(start..)?, |b| {
        b.is_ascii_alphanumeric() || matches!(b, b':' | b'.' | b'-' | b'_' | b'%' | b'?' | b'*')
    });
    let interface =
        text.split("::").next()?.trim_end_matches(|c: char| c.is_ascii_digit() || "%du".contains(c));
    let before = start.checked_sub(1).and_then(|before| bytes.get(before)).copied().unwrap_or(0);
    let known =
        VISA_INTERFACES.contains(&interface) && VISA_CLASSES.iter().any(|class| text.ends_with(class));
    (known && text.len() <= STRING_BYTES && begins_word(before)).then_some((start, text))
}

/// `27000@licserver` around the at sign at `at`: the form in which licence managers name a server.
pub(super) fn server(bytes: &[u8], at: usize) -> Option<(usize, &str)> {
    let digits = bytes.get(at.saturating_sub(6)..at)?.iter().rev().take_while(|b| b.is_ascii_digit()).count();
    let start = at - digits;
    let port: u32 = std::str::from_utf8(bytes.get(start..at)?).ok()?.parse().ok()?;
    let before = start.checked_sub(1).and_then(|before| bytes.get(before)).copied().unwrap_or(0);
    let host = run_of(bytes.get(at + 1..)?, |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
    let after = bytes.get(at + 1 + host.len()).copied().unwrap_or(0);
    let text = std::str::from_utf8(bytes.get(start..at + 1 + host.len())?).ok()?;
    let is_host = is_short(host) || is_reachable(host);
    ((1024..=65_535).contains(&port)
        && is_host
        && !is_boring(host)
        && (begins_word(before) || before == b':')
        && (ends_word(after) || after == b':'))
        .then_some((start, text))
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
    if at.checked_sub(1).and_then(|before| bytes.get(before)) == Some(&b']') {
        return bracketed(bytes, at, length);
    }
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

/// `[::1]:8080`, whose second colon of two is at `at`.
fn bracketed(bytes: &[u8], at: usize, length: usize) -> Option<(usize, &str)> {
    let from = at.saturating_sub(IPV6_BYTES);
    let open = memchr::memrchr(b'[', bytes.get(from..at)?)? + from;
    let address = std::str::from_utf8(bytes.get(open + 1..at - 1)?).ok()?;
    address.split('%').next()?.parse::<Ipv6Addr>().ok()?;
    let before = open.checked_sub(1).and_then(|before| bytes.get(before)).copied().unwrap_or(0);
    let text = std::str::from_utf8(bytes.get(open..at + length)?).ok()?;
    begins_word(before).then_some((open, text))
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
/// link-local, multicast or this machine itself (RFC 1918, 3927, 5771, 1122), which is where instruments and daemons are.
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
    let is_instrument = address.is_private()
        || address.is_link_local()
        || address.is_multicast()
        || address == Ipv4Addr::LOCALHOST;
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
        let cases: [(&str, Option<(&str, bool)>); 20] = [
            ("\0tcp://*:5555\0", Some(("tcp://*:5555", false))),
            ("\0opc.tcp://host:4840\0", Some(("opc.tcp://host:4840", false))),
            ("\0http://%s:%d/api\0", Some(("http://%s:%d/api", false))),
            ("\0http://host/api\0", None),
            ("\0tcp://*\0", None),
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
        let ports: [(&str, Option<&str>); 11] = [
            ("\0[::1]:8080\0", Some("[::1]:8080")),
            ("\0x[1]:8080\0", None),
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
        let addresses: [(&str, Option<&str>); 10] = [
            ("\u{0}127.0.0.1\0", Some("127.0.0.1")),
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

    #[test]
    fn instruments_and_licence_servers() {
        let resources: [(&str, Option<&str>); 5] = [
            ("\0TCPIP0::192.168.1.5::inst0::INSTR\0", Some("TCPIP0::192.168.1.5::inst0::INSTR")),
            ("\0GPIB%d::%d::INSTR\0", Some("GPIB%d::%d::INSTR")),
            ("open USB0::0x0957::0x1755::MY1::INSTR failed", Some("USB0::0x0957::0x1755::MY1::INSTR")),
            ("\0USB::Device::open\0", None),
            ("\0xUSB::1::INSTR\0", None),
        ];
        for (text, expected) in resources {
            let at = text.find("::").unwrap();
            assert_eq!(visa(text.as_bytes(), at).map(|(_, text)| text), expected, "{text:?}");
        }
        let servers: [(&str, Option<&str>); 6] = [
            ("\u{0}27000@licserver\0", Some("27000@licserver")),
            ("\u{0}27000@a.acme.test:27001@b\0", Some("27000@a.acme.test")),
            ("\u{0}27000@127.0.0.1\0", Some("27000@127.0.0.1")),
            ("\0me@acme.test\0", None),
            ("\u{0}12@acme\0", None),
            ("\u{0}27000@\0", None),
        ];
        for (text, expected) in servers {
            let at = text.find('@').unwrap();
            assert_eq!(server(text.as_bytes(), at).map(|(_, text)| text), expected, "{text:?}");
        }
    }
}
