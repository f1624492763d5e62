//! The output of `VBoxManage … --machinereadable`.
//!
//! Lines of `key=value`, in what VirtualBox 7.2.22 was seen to print: values in quotes or bare numbers, keys in quotes where
//! they have a controller's name in them. `showvminfo` writes `\"` and `\\` in names; `snapshot … list` writes quotes and
//! line ends as they are. Debian's wrapper prints a warning to stdout before all of it. So: what is no such line is passed
//! over, a value ends where a line ends with a quote, and the first value of a key counts, since a name with a line end in
//! it could make up later ones.

use std::collections::BTreeMap;

use crate::uuid::Uuid;

/// Bytes that are read. A machine with all its ports and a hundred snapshots has 20 KB.
const TEXT_MAX: usize = 1 << 20;
/// Lines that one value may have.
const VALUE_LINES_MAX: usize = 100;
/// Characters of a key: the longest seen are those of a controller's ports, with its name of the user's choice.
const KEY_MAX: usize = 256;

/// Values by their keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Properties(BTreeMap<String, String>);

impl Properties {
    /// Reads them out of everything that was printed.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut end = text.len().min(TEXT_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let mut values = BTreeMap::new();
        let mut lines = text[..end].lines();
        while let Some(line) = lines.next() {
            let Some((key, start)) = split(line) else { continue };
            let value = match start.strip_prefix('"') {
                None => start.to_owned(),
                Some(start) => quoted(start, &mut lines),
            };
            values.entry(key).or_insert(value);
        }
        Self(values)
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Keys and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

/// The key of a line, and what is behind the `=`.
fn split(line: &str) -> Option<(String, &str)> {
    let (key, value) = match line.strip_prefix('"') {
        Some(rest) => {
            let (key, value) = rest.split_once("\"=")?;
            (unescaped(key), value)
        }
        None => {
            let (key, value) = line.split_once('=')?;
            (key.to_owned(), value)
        }
    };
    // A sentence with an equals sign in it is no value.
    let bare = line.starts_with('"') || !key.contains(|c: char| c.is_whitespace() || c == '"');
    let fits = !key.is_empty() && key.len() <= KEY_MAX && !key.contains(char::is_control);
    (bare && fits).then_some((key, value.trim_end_matches('\r')))
}

/// A value from behind its first quote to the quote at the end of a line. Where none comes, the first line is all of it.
fn quoted(start: &str, lines: &mut std::str::Lines<'_>) -> String {
    if let Some(value) = start.strip_suffix('"') {
        return unescaped(value);
    }
    let mut value = start.to_owned();
    let mut ahead = lines.clone();
    for line in ahead.by_ref().take(VALUE_LINES_MAX) {
        value.push('\n');
        match line.trim_end_matches('\r').strip_suffix('"') {
            Some(last) => {
                value.push_str(last);
                *lines = ahead;
                return unescaped(&value);
            }
            None => value.push_str(line),
        }
    }
    unescaped(start)
}

fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let escapes = c == '\\' && chars.peek().is_some_and(|next| matches!(next, '"' | '\\'));
        plain.push(if escapes { chars.next().unwrap_or(c) } else { c });
    }
    plain
}

/// A state that a machine was in, and what there is to go back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its name.
    pub name: String,
    /// Its own number.
    pub uuid: Uuid,
    /// How many were taken before it, on its way from the first.
    pub depth: usize,
    /// Whether the machine goes on from it.
    pub current: bool,
}

/// The snapshots in what `snapshot … list` or `showvminfo` printed, in the order of their keys: each behind those it was
/// taken from.
#[must_use]
pub fn snapshots(properties: &Properties) -> Vec<Snapshot> {
    let current = properties.get("CurrentSnapshotUUID");
    let mut found = Vec::new();
    for (key, uuid_text) in properties.iter() {
        let Some(place) = key.strip_prefix("SnapshotUUID") else { continue };
        // `-1-2`: the second one that was taken from the first.
        let (Ok(uuid), Some(name)) = (uuid_text.parse(), properties.get(&format!("SnapshotName{place}")))
        else {
            continue;
        };
        let numbers: Vec<u32> = place.split('-').skip(1).filter_map(|part| part.parse().ok()).collect();
        let snapshot = Snapshot {
            name: name.to_owned(),
            uuid,
            depth: place.matches('-').count(),
            current: current == Some(uuid_text),
        };
        found.push((numbers, snapshot));
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    found.into_iter().map(|(_, snapshot)| snapshot).collect()
}

/// Names and numbers in what `list vms` and `list runningvms` print: `"NAME" {UUID}`, the name as it is.
#[must_use]
pub fn machines(text: &str) -> Vec<(String, Uuid)> {
    let entry = |line: &str| {
        let (name, uuid) = line.trim_end().strip_suffix('}')?.rsplit_once(" {")?;
        let name = name.strip_prefix('"')?.strip_suffix('"')?;
        Some((name.to_owned(), uuid.parse().ok()?))
    };
    text.lines().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Printed by `VBoxManage` 7.2.22 of Debian, shortened; the warning is of its wrapper, on stdout.
    const INFO: &str = r#"WARNING: The character device /dev/vboxdrv does not exist.
	 Please install the virtualbox-dkms package and the appropriate
	 headers, most likely linux-headers-amd64.

	 You will not be able to start VMs until this problem is fixed.
name="gue\"st \\ one"
ostype="Windows 10 (64-bit)"
UUID="11111111-2222-3333-4444-555555555556"
memory=512
VMState="poweroff"
storagecontrollername0="SATA"
"SATA-0-0"="/vm/Snapshots/{6767b042-27ea-47a8-bfc0-7fe593170f12}.vdi"
"SATA-1-0"="none"
Forwarding(0)="web,tcp,127.0.0.1,8080,,80"
uart1="0x03f8,4"
uartmode1="server,/vm/com1.sock"
USBFilterSerialNumber1=""
 rec_screen0
rec_screen_opts="ac_profile=med"
GuestMemoryBalloon=0
"#;

    const SNAPSHOTS: &str = "SnapshotName=\"before \"update\"\"\n\
        SnapshotUUID=\"a726c681-821b-4ce6-903b-28df9ba828b3\"\n\
        SnapshotDescription=\"two\nlines\"\n\
        SnapshotName-1=\"second\"\n\
        SnapshotUUID-1=\"e22b3b30-a70a-4ed5-bd37-d09fe9e65b31\"\n\
        CurrentSnapshotName=\"second\"\n\
        CurrentSnapshotUUID=\"e22b3b30-a70a-4ed5-bd37-d09fe9e65b31\"\n\
        CurrentSnapshotNode=\"SnapshotName-1\"\n";

    #[test]
    fn what_virtualbox_printed_is_read() {
        let info = Properties::parse(INFO);
        let cases = [
            ("name", "gue\"st \\ one"),
            ("VMState", "poweroff"),
            ("memory", "512"),
            ("SATA-0-0", "/vm/Snapshots/{6767b042-27ea-47a8-bfc0-7fe593170f12}.vdi"),
            ("Forwarding(0)", "web,tcp,127.0.0.1,8080,,80"),
            ("USBFilterSerialNumber1", ""),
            ("rec_screen_opts", "ac_profile=med"),
        ];
        for (key, value) in cases {
            assert_eq!(info.get(key), Some(value), "{key}");
        }
        assert_eq!(info.iter().count(), 14);
    }

    #[test]
    fn snapshots_are_found_with_quotes_and_line_ends_in_them() {
        let found = snapshots(&Properties::parse(SNAPSHOTS));
        let short: Vec<_> = found.iter().map(|s| (s.name.as_str(), s.depth, s.current)).collect();
        assert_eq!(short, [("before \"update\"", 0, false), ("second", 1, true)]);
    }

    #[test]
    fn a_text_with_lines_of_its_own_makes_nothing_up() {
        // Seen first is the truth: what a description says comes later, and within its value.
        let text =
            "VMState=\"poweroff\"\nSnapshotDescription=\"a\nVMState=\"running\"\nx\"\nVMState=\"running\"\n";
        let read = Properties::parse(text);
        assert_eq!(read.get("VMState"), Some("poweroff"));
        // Without an end, the rest is not swallowed.
        let open = Properties::parse("a=\"one\nb=\"two\nc=3\n");
        assert_eq!((open.get("a"), open.get("c")), (Some("one"), Some("3")));
    }

    #[test]
    fn machines_are_listed_with_any_name() {
        let text = "WARNING: The {x}\n\"gue\"st \\ one\" {11111111-2222-3333-4444-555555555555}\n\"a {b} \" {nonsense}\n";
        let uuid = "11111111-2222-3333-4444-555555555555".parse().unwrap();
        assert_eq!(machines(text), [("gue\"st \\ one".to_owned(), uuid)]);
    }

    /// As `showvminfo` writes a value.
    fn escaped(text: &str) -> String {
        text.replace('\\', "\\\\").replace('"', "\\\"")
    }

    proptest! {
        #[test]
        fn a_value_that_is_written_is_read(name in "[^\r\n]{0,40}", noise in "[^=]{0,40}") {
            let text = format!("{}\nname=\"{}\"\nVMState=\"running\"\n", noise, escaped(&name));
            let read = Properties::parse(&text);
            prop_assert_eq!(read.get("name"), Some(name.as_str()));
            prop_assert_eq!(read.get("VMState"), Some("running"));
        }

        #[test]
        fn anything_is_survived(text in "(([a-zA-Z]{1,5}|\"[^=]{0,5}\")=\"?[^\0]{0,10}\"?\n|\\PC{0,20}\n|SnapshotUUID(-[0-9]){0,3}=\"x){0,20}") {
            let read = Properties::parse(&text);
            let _ = (snapshots(&read), machines(&text));
            let total: usize = read.iter().map(|(key, value)| key.len() + value.len()).sum();
            prop_assert!(total <= text.len());
        }
    }
}
