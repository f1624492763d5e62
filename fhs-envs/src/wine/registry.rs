//! The text form of Wine's registry (`system.reg`, `user.reg`): sections in brackets, a time behind each, values below.
//!
//! Only what Hatchway sets is understood. Every other line stays as it is.

/// Values that differ between two runs or two machines, and what stands for them in a tree; a value without one is left
/// out, since Wine writes it anew at each start.
const MACHINES: [(&str, Option<&str>); 11] = [
    // Of a program that was installed: the day, and where the file for taking it away is, which is not kept.
    ("InstallDate", Some("\"19700101\"")),
    ("LocalPackage", None),
    ("MachineGuid", Some("\"00000000-0000-4000-8000-000000000000\"")),
    // What Windows gives drivers that are older than itself.
    ("DriverDateData", Some("hex:00,80,8c,a3,c5,94,c6,01")),
    ("VideoID", Some("\"{00000000-0000-4000-8000-000000000000}\"")),
    ("ComputerName", None),
    ("NUMBER_OF_PROCESSORS", None),
    ("PROCESSOR_ARCHITECTURE", None),
    ("PROCESSOR_IDENTIFIER", None),
    ("PROCESSOR_LEVEL", None),
    ("PROCESSOR_REVISION", None),
];
/// The time of all keys: files in a tree have it, too.
const TIME: &str = "1";

/// Where ports get their names ([`ports`]).
const PORTS: &str = "Software\\\\Wine\\\\Ports";
/// Where a machine has its identity.
const CRYPTOGRAPHY: &str = "Software\\\\Microsoft\\\\Cryptography";

/// A registry as it is in a tree: without times, and without what is one machine's.
#[must_use]
pub fn normalised(text: &str) -> String {
    let mut all = String::with_capacity(text.len());
    for line in text.lines() {
        if line.starts_with("#time=") {
            all.push_str("#time=1\n");
            continue;
        }
        if let Some((section, _)) = heading(line) {
            all.push_str(&format!("[{section}] {TIME}\n"));
            continue;
        }
        let machines = value_name(line).and_then(|name| MACHINES.iter().find(|(known, _)| *known == name));
        match machines {
            // Windows has a number of the same name, which is Wine's.
            Some(("InstallDate", _)) if !line.ends_with('"') => {
                all.push_str(line);
                all.push('\n');
            }
            Some((name, Some(value))) => all.push_str(&format!("\"{name}\"={value}\n")),
            Some((_, None)) => {}
            None => {
                all.push_str(line);
                all.push('\n');
            }
        }
    }
    all
}

/// `[Software\\Wine] 1700000000`: the section and the rest.
fn heading(line: &str) -> Option<(&str, &str)> {
    let (section, rest) = line.strip_prefix('[')?.rsplit_once(']')?;
    Some((section, rest.trim()))
}

fn value_name(line: &str) -> Option<&str> {
    line.strip_prefix('"')?.split_once("\"=").map(|(name, _)| name)
}

/// Replaces the values of a section, or adds it. Values are given as they stand in the file: `"text"`, `dword:00000000`.
#[must_use]
pub fn with(text: &str, section: &str, values: &[(&str, &str)]) -> String {
    let same = |line: &str| heading(line).is_some_and(|(found, _)| found.eq_ignore_ascii_case(section));
    let lines: Vec<&str> = text.lines().collect();
    let ours: Vec<String> = values.iter().map(|(name, value)| format!("\"{name}\"={value}")).collect();
    let mut all: Vec<&str> = Vec::with_capacity(lines.len() + ours.len() + 3);
    let new = format!("[{section}] {TIME}");
    let Some(at) = lines.iter().position(|line| same(line)) else {
        let last = lines.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
        all.extend(&lines[..last]);
        all.extend(["", new.as_str(), "#time=1"]);
        all.extend(ours.iter().map(String::as_str));
        return all.join("\n") + "\n";
    };
    // Up to the next section; what is not a value (its time, a class) comes first.
    let end =
        lines[at + 1..].iter().position(|line| heading(line).is_some()).map_or(lines.len(), |n| at + 1 + n);
    let replaced = |line: &str| {
        value_name(line).is_some_and(|name| values.iter().any(|(ours, _)| ours.eq_ignore_ascii_case(name)))
    };
    all.extend(&lines[..=at]);
    let body: Vec<&str> = lines[at + 1..end].iter().copied().filter(|line| !replaced(line)).collect();
    let head = body.iter().take_while(|line| line.starts_with('#')).count();
    all.extend(&body[..head]);
    all.extend(ours.iter().map(String::as_str));
    all.extend(&body[head..]);
    all.extend(&lines[end..]);
    all.join("\n") + "\n"
}

/// Takes a section out.
fn without(text: &str, section: &str) -> String {
    let mut inside = false;
    let mut all = String::with_capacity(text.len());
    for line in text.lines() {
        if let Some((found, _)) = heading(line) {
            inside = found.eq_ignore_ascii_case(section);
        }
        if !inside {
            all.push_str(line);
            all.push('\n');
        }
    }
    all
}

/// What a program is served with from the start: no debugger and no dialog when it crashes, no entries in menus, no offer
/// to download what stands for .NET and for a browser, and windows in memory where there is no display. Gives
/// `system.reg` and `user.reg`.
#[must_use]
pub fn settled(system: &str, user: &str) -> (String, String) {
    let mut system = system.to_owned();
    for software in ["Software", "Software\\\\Wow6432Node"] {
        let section = format!("{software}\\\\Microsoft\\\\Windows NT\\\\CurrentVersion\\\\AeDebug");
        // The second is there where the prefix has 32-bit programs.
        if software == "Software" || system.contains(&format!("[{section}]")) {
            system = with(&system, &section, &[("Auto", "\"1\""), ("Debugger", "\"\"")]);
        }
    }
    let user = with(user, "Software\\\\Wine\\\\WineDbg", &[("ShowCrashDialog", "dword:00000000")]);
    let off = ["mscoree", "mshtml", "winedbg.exe", "winemenubuilder.exe"].map(|name| (name, "\"\""));
    let user = with(&user, "Software\\\\Wine\\\\DllOverrides", &off);
    (system, with(&user, "Software\\\\Wine\\\\Drivers", &[("Graphics", "\"x11,null\"")]))
}

/// Says which device of `/dev` is which port, each with its number. No others are there.
#[must_use]
pub fn ports(system: &str, devices: &[(u8, String)]) -> String {
    let cleared = without(system, PORTS);
    if devices.is_empty() {
        return cleared;
    }
    let values: Vec<(String, String)> = devices
        .iter()
        .map(|(number, device)| (format!("COM{number}"), format!("\"{}\"", escaped(device))))
        .collect();
    let values: Vec<(&str, &str)> =
        values.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    with(&cleared, PORTS, &values)
}

/// Gives a prefix the identity of the tool on this machine: 32 hexadecimal digits.
#[must_use]
pub fn identified(system: &str, machine_id: &str) -> String {
    let part = |from: usize, to: usize| machine_id.get(from..to).unwrap_or("0");
    let guid =
        format!("\"{}-{}-{}-{}-{}\"", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32));
    with(system, CRYPTOGRAPHY, &[("MachineGuid", &guid)])
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "WINE REGISTRY Version 2\n\n#arch=win64\n\n[Software\\\\Wine] 1795986480\n#time=1dd8045bb0671be\n\
                        \"a\"=\"b\"\n\n[System\\\\X] 17\n\"ComputerName\"=\"VM\"\n\"VideoID\"=\"{c}\"\n@=\"d\"\n";

    #[test]
    fn nothing_of_a_moment_or_a_machine_stays() {
        let expected = "WINE REGISTRY Version 2\n\n#arch=win64\n\n[Software\\\\Wine] 1\n#time=1\n\"a\"=\"b\"\n\n\
                        [System\\\\X] 1\n\"VideoID\"=\"{00000000-0000-4000-8000-000000000000}\"\n@=\"d\"\n";
        assert_eq!(normalised(TEXT), expected);
        assert_eq!(normalised(expected), expected);
    }

    #[test]
    fn values_replace_those_of_their_name() {
        let text = with(TEXT, "software\\\\wine", &[("A", "\"c\""), ("n", "dword:00000001")]);
        assert!(
            text.contains("#time=1dd8045bb0671be\n\"A\"=\"c\"\n\"n\"=dword:00000001\n\n[System"),
            "{text}"
        );
        assert!(!text.contains("\"a\"=\"b\""), "{text}");
        let text = with(&text, "New\\\\Key", &[("x", "\"y\"")]);
        assert!(text.ends_with("\n\n[New\\\\Key] 1\n#time=1\n\"x\"=\"y\"\n"), "{text}");
    }

    #[test]
    fn ports_are_those_of_the_slots_and_no_others() {
        let (pump, gauge) = ((1, "/dev/pump".to_owned()), (3, "/dev/gauge".to_owned()));
        let two = ports(TEXT, &[pump, gauge.clone()]);
        let values = "\"COM1\"=\"/dev/pump\"\n\"COM3\"=\"/dev/gauge\"\n";
        assert!(two.contains(&format!("[Software\\\\Wine\\\\Ports] 1\n#time=1\n{values}")), "{two}");
        let one = ports(&two, std::slice::from_ref(&gauge));
        assert!(one.contains("\"COM3\"=\"/dev/gauge\"\n") && !one.contains("COM1"), "{one}");
        assert!(!ports(&one, &[]).contains("Ports"));
        assert_eq!(ports(&one, &[gauge]), one);
    }

    #[test]
    fn a_machine_has_one_identity() {
        let id = "0123456789abcdef0123456789abcdef";
        let text = identified(TEXT, id);
        assert!(text.contains("\"MachineGuid\"=\"01234567-89ab-cdef-0123-456789abcdef\""), "{text}");
    }

    #[test]
    fn crashes_open_no_window() {
        let (system, user) = settled(TEXT, TEXT);
        assert!(system.contains("AeDebug] 1\n#time=1\n\"Auto\"=\"1\"\n\"Debugger\"=\"\"\n"), "{system}");
        assert!(!system.contains("Wow6432Node"), "{system}");
        for line in
            ["\"ShowCrashDialog\"=dword:00000000", "\"winedbg.exe\"=\"\"", "\"Graphics\"=\"x11,null\""]
        {
            assert!(user.contains(line), "{user}");
        }
    }
}
