//! The same words mean different things beside others, on another path, or in another sandbox: the general becomes the specific.

use super::evidence::{Evidence, Host, Net, is_loopback};
use super::scan::{Finding, Lines};
use super::{forms, history, pattern};

/// Folders whose files a tree has of its own: that the machine has one as well says nothing.
const OWN: [&str; 11] = [
    "/usr/",
    "/lib",
    "/bin/",
    "/sbin/",
    "/proc/",
    "/sys/",
    "/dev/",
    "/tmp/",
    "/run/",
    "/var/run/",
    "/var/tmp/",
];
/// Words of a line that is about licences.
const OF_LICENCES: &[&str] = &[
    "licen",
    "lizenz",
    "flexlm",
    "flexnet",
    "lmgrd",
    "lm_",
    "rlm ",
    "27000",
    "sentinel",
    "hasp",
    "codemeter",
];

/// Words of who serves licences.
const OF_SERVERS: &[&str] = &[
    "license server",
    "licence server",
    "license manager",
    "flexnet",
    "flexlm",
    "lmgrd",
    "license daemon",
    "~rlm~",
    "27000@",
    "licensing server",
    "lizenzserver",
];
/// Words of displays.
const OF_DISPLAYS: &[&str] = &["x11", "display :", "display=:", "unable to init server", "open display"];
/// Words of lines and cables.
const OF_LINES: &[&str] =
    &["/dev/tty", "serial", "libusb", "usb device", "com port", "/dev/usb", "modbus rtu"];
/// Words of buses of a desktop; Modbus is none.
const OF_BUSES: &[&str] = &["d-bus", "/dbus", "~dbus", "system_bus_socket"];

/// Words of streams over USB: V4L, the kernel's URBs.
const OF_STREAMS: &[&str] = &[
    "streamon",
    "~vidioc_",
    "~urb~",
    "~urbs~",
    "submit_urb",
    "isochronous",
    "~isoc~",
    "bandwidth",
    "usbfs",
    "~altsetting",
    "alternate setting",
];
/// Nodes of what is mostly at USB.
const OF_USB: &[&str] =
    &["/dev/video", "/dev/bus/usb", "/dev/usb", "/dev/snd", "/dev/hidraw", "/dev/ttyUSB", "/dev/ttyACM"];

/// Makes a finding more exact by what is beside it.
pub(super) fn refine(finding: Finding, lines: &Lines<'_>, evidence: &Evidence, host: &dyn Host) -> Finding {
    let finding = by_subject(finding, lines, evidence);
    let finding = by_path(finding, lines, evidence, host);
    let finding = history::refine(finding, lines);
    by_network(finding, lines, evidence, host)
}

fn becomes(finding: Finding, code: &'static str, more: i32) -> Finding {
    Finding { code, weight: finding.weight + more, ..finding }
}

fn has(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| pattern::find(word, text, text).is_some())
}

/// What the lines around it are about.
fn by_subject(finding: Finding, lines: &Lines<'_>, evidence: &Evidence) -> Finding {
    let Some(index) = finding.line else { return finding };
    let finding = by_licence(finding, lines, index);
    let finding = by_peer(finding, lines, index, evidence);
    let finding = by_runtime(finding, lines, index);
    named(finding, lines, index)
}

fn by_licence(finding: Finding, lines: &Lines<'_>, index: usize) -> Finding {
    let line = lines.lower(index);
    match finding.code {
        "missing-file" | "permission-denied"
            if has(line, OF_LICENCES) && !has(line, &["write", "create"]) =>
        {
            becomes(finding, "licence-missing", 12)
        }
        "connection-refused"
        | "connection-timeout"
        | "host-unreachable"
        | "host-unknown"
        | "dependency-unreachable"
        | "connection-lost"
            if has(&lines.around(index), OF_SERVERS) && !has(line, &["telemetry", "update"]) =>
        {
            becomes(finding, "licence-server-unreachable", 8)
        }
        _ => finding,
    }
}

/// Who is at the other end: a display, a bus, a device, a machine.
fn by_peer(finding: Finding, lines: &Lines<'_>, index: usize, evidence: &Evidence) -> Finding {
    let line = lines.lower(index);
    let around = |words: &[&str]| has(&lines.around(index), words);
    match finding.code {
        "connection-refused" | "dependency-unreachable" if around(OF_DISPLAYS) => {
            becomes(finding, "display-missing", 4)
        }
        "connection-timeout" if around(OF_LINES) && !line.contains("connect") => {
            let thing = finding.thing.clone().filter(|thing| thing.contains("/dev/"));
            let thing = thing.or_else(|| near(lines, index, pattern::Want::Device));
            becomes(Finding { thing, ..finding }, "device-timeout", 4)
        }
        "connection-refused" | "connection-lost" if has(line, OF_BUSES) => becomes(finding, "bus-missing", 6),
        // What may not be sent is a matter of the sandbox, unlike what may not be listened to.
        "permission-denied" | "not-permitted"
            if has(line, &["connect", "socket", "send"])
                && !has(line, &["bind", "listen", ".sock", "accept"]) =>
        {
            match pattern::address(lines.text(index)) {
                Some((name, port)) if !evidence.words.network.leads_to(&name, port) => {
                    becomes(Finding { thing: Some(joined(&name, port)), ..finding }, "network-closed", 8)
                }
                _ => finding,
            }
        }
        // What has an address is on the network, whatever it is.
        "device-timeout" | "device-missing"
            if !has(line, &["/dev/", "serial", "usb"])
                && has(line, &["answer", "respon", "reply", "timeout", "timed out"])
                && pattern::address(lines.text(index))
                    .is_some_and(|(host, _)| host.parse::<std::net::IpAddr>().is_ok()) =>
        {
            let thing = pattern::thing(pattern::Want::Server, lines.text(index));
            becomes(Finding { thing, ..finding }, "connection-timeout", 2)
        }
        _ => finding,
    }
}

/// What runtimes and toolkits say of something else.
fn by_runtime(finding: Finding, lines: &Lines<'_>, index: usize) -> Finding {
    let line = lines.lower(index);
    match finding.code {
        // Python names a program that is not there as a file.
        "missing-file" if has(&lines.before(index, 6), &["_execute_child", "subprocess.py", "os.exec"]) => {
            becomes(finding, "program-missing", 12)
        }
        // Qt says that no plugin works, also where there was no display to work with.
        "qt-plugin-missing" if has(&lines.before(index, 4), &["connect to display", "open display"]) => {
            becomes(finding, "qt-plugin-missing", -20)
        }
        "out-of-memory" if has(line, &["fork", "pthread_create", "clone"]) => {
            becomes(finding, "too-many-tasks", 4)
        }
        "not-permitted" if has(line, &["sched_", "priority", "nice"]) => {
            becomes(finding, "realtime-refused", 8)
        }
        "not-permitted" if has(line, &["mlock"]) => becomes(finding, "memory-lock-refused", 8),
        "aborted" if line.contains("assert") => becomes(finding, "assertion-failed", 4),
        _ => finding,
    }
}

/// Things that have a form of their own.
fn named(finding: Finding, lines: &Lines<'_>, index: usize) -> Finding {
    let text = lines.text(index);
    let given = finding.thing;
    if finding.code == "interpreter-missing" && env_looks_for(given.as_deref(), text) {
        return becomes(Finding { thing: given, ..finding }, "program-missing", 0);
    }
    let thing = match finding.code {
        "read-only" | "permission-denied" | "file-size-limit" | "disk-full" | "quota-exceeded"
        | "file-exists" => pattern::target(text),
        // `bash: script: interpreter: bad interpreter`
        "interpreter-missing" => {
            given.as_ref().and_then(|thing| thing.rsplit(": ").next()).map(str::to_owned)
        }
        "locale-missing" => locale(text),
        "display-missing" if given.is_none() => {
            display(text).or_else(|| display(lines.text(index.saturating_sub(1))))
        }
        "licence-no-feature" => {
            (0..8).map(|step| lines.text((index + step).saturating_sub(2))).find_map(feature)
        }
        _ => None,
    };
    let thing = thing.and_then(|thing| pattern::clean(&thing)).or(given);
    Finding { thing, ..finding }
}

/// `env` is asked for interpreters by scripts, and for any other program by whoever wants it in another environment.
fn env_looks_for(program: Option<&str>, line: &str) -> bool {
    let is_env = pattern::find("~env: ", line, &line.to_ascii_lowercase()).is_some();
    is_env && program.is_some_and(|program| !program.starts_with('/') && !forms::is_interpreter(program))
}

/// FlexNet has it in a line of its own.
fn feature(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let found = pattern::find("~feature: {}", text, &lower);
    found.or_else(|| pattern::find("~feature '{}'", text, &lower)).map(str::to_owned)
}

/// `de_DE.UTF-8` and the like.
fn locale(line: &str) -> Option<String> {
    let words = line.split(|c: char| !(c.is_ascii_alphanumeric() || "_.@-".contains(c)));
    let is_locale = |word: &&str| {
        let bytes = word.as_bytes();
        bytes.len() >= 5
            && bytes[2] == b'_'
            && bytes[..2].iter().all(u8::is_ascii_lowercase)
            && bytes[3..5].iter().all(u8::is_ascii_uppercase)
    };
    words.map(|word| word.trim_end_matches('.')).find(is_locale).map(str::to_owned)
}

/// `:0`, `localhost:10.0` as `DISPLAY` has them.
fn display(line: &str) -> Option<String> {
    let words = line.split(|c: char| c.is_whitespace() || "\"'(),=".contains(c));
    let is_display = |word: &&str| {
        let number = word.strip_prefix("localhost").unwrap_or(word).strip_prefix(':');
        number.is_some_and(|number| {
            number.starts_with(|c: char| c.is_ascii_digit())
                && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
        })
    };
    words.map(|word| word.trim_end_matches(['.', ':'])).find(is_display).map(str::to_owned)
}

fn near(lines: &Lines<'_>, index: usize, want: pattern::Want) -> Option<String> {
    let from = index.saturating_sub(2);
    (from..=index + 2).find_map(|index| pattern::thing(want, lines.text(index)))
}

/// `No space left on device` is also what the kernel says of USB that has no bandwidth left, and then no disk is full.
fn by_room(finding: Finding, lines: &Lines<'_>) -> Finding {
    let Some(index) = finding.line else { return finding };
    let line = lines.lower(index);
    let path = pattern::path(lines.text(index));
    let is_file = |path: &String| !path.starts_with("/dev/") || path.starts_with("/dev/huge");
    match finding.code {
        // A stick has a path like any other disk.
        "usb-bandwidth" if path.as_ref().is_some_and(is_file) && !has(line, OF_STREAMS) => {
            becomes(Finding { thing: path, ..finding }, "disk-full", 0)
        }
        "disk-full" => {
            let node = path
                .filter(|path| path.starts_with("/dev/"))
                .or_else(|| finding.thing.clone().filter(|thing| thing.starts_with("/dev/")));
            let of_usb = node.as_ref().is_some_and(|node| OF_USB.iter().any(|own| node.starts_with(own)));
            let alone = !finding.thing.as_ref().is_some_and(is_file);
            if alone && (of_usb || has(&lines.around(index), OF_STREAMS)) {
                let thing = node.or_else(|| near(lines, index, pattern::Want::Device));
                return becomes(Finding { thing, ..finding }, "usb-bandwidth", 0);
            }
            // A node is no disk that one could make room on; of shared memory the next look tells.
            let thing = finding.thing.clone().filter(|thing| is_file(thing) || thing.starts_with("/dev/shm"));
            Finding { thing, ..finding }
        }
        _ => finding,
    }
}

/// Where the path that it names is.
fn by_path(finding: Finding, lines: &Lines<'_>, evidence: &Evidence, host: &dyn Host) -> Finding {
    let finding = by_room(finding, lines);
    let Some(path) = finding.thing.clone() else { return finding };
    let path = path.as_str();
    let is = |all: &[&str]| all.contains(&finding.code);
    if path.starts_with("/dev/shm")
        && is(&["missing-file", "permission-denied", "disk-full", "not-permitted"])
    {
        return becomes(finding, "shared-memory", 8);
    }
    if (path.starts_with("/tmp/.X11-unix") || path.ends_with(".Xauthority")) && is(&["missing-file"]) {
        return becomes(finding, "display-missing", 8);
    }
    if path.contains("dbus") && path.contains("socket") && is(&["missing-file"]) {
        return becomes(finding, "bus-missing", 8);
    }
    if path.starts_with("/dev/") && !path.starts_with("/dev/tty:") {
        let unbound = evidence.words.devices.iter().find(|slot| slot.at == path && slot.bound.is_none());
        if let (Some(slot), true) = (unbound, is(&["missing-file", "device-missing"])) {
            return becomes(Finding { thing: Some(slot.name.clone()), ..finding }, "slot-not-bound", 12);
        }
        return match finding.code {
            "missing-file" => becomes(finding, "device-missing", 12),
            "permission-denied" | "not-permitted" => becomes(finding, "device-permission", 8),
            "already-running" => becomes(finding, "device-busy", 4),
            "disk-error" | "connection-lost" => becomes(finding, "device-lost", 8),
            "connection-timeout" => becomes(finding, "device-timeout", 8),
            _ => finding,
        };
    }
    if is(&["missing-file"]) {
        let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
        if name.contains(".so.") || name.ends_with(".so") || name.ends_with(".dll") {
            return becomes(finding, "missing-library", 8);
        }
        if name.ends_with(".lic") || name.starts_with("license") || name.starts_with("licence") {
            return becomes(finding, "licence-missing", 12);
        }
        if path.starts_with('/')
            && !OWN.iter().any(|own| path.starts_with(own))
            && evidence.words.known
            && host.exists(path) == Some(true)
        {
            return becomes(finding, "path-hidden", 4);
        }
    }
    finding
}

/// Whether its sandbox lets it reach what it wants.
fn by_network(finding: Finding, lines: &Lines<'_>, evidence: &Evidence, host: &dyn Host) -> Finding {
    let of_network = [
        "connection-refused",
        "connection-timeout",
        "host-unreachable",
        "host-unknown",
        "dependency-unreachable",
    ];
    if !of_network.contains(&finding.code) && finding.code != "licence-server-unreachable" {
        return finding;
    }
    let network = &evidence.words.network;
    let named = finding.line.and_then(|index| {
        let from = index.saturating_sub(1);
        let all = [index, from, index + 1].into_iter();
        { all }.find_map(|index| pattern::address(lines.text(index)))
    });
    // A licence server that the sandbox hides is a licence server that is not reached: the next steps of that say so.
    if finding.code == "licence-server-unreachable" {
        let thing = finding.thing.clone().or_else(|| named.map(|(host, port)| joined(&host, port)));
        return Finding { thing, ..finding };
    }
    match (network, &named) {
        (Net::None | Net::Loopback, Some((name, port))) if !network.leads_to(name, *port) => {
            becomes(Finding { thing: Some(joined(name, *port)), ..finding }, "network-closed", 6)
        }
        (Net::Allow(_), Some((name, port)))
            if !network.leads_to(name, *port) && !is_name_in(evidence, name) =>
        {
            becomes(Finding { thing: Some(joined(name, *port)), ..finding }, "network-closed", 6)
        }
        // The machine has it, and the tool has a loopback interface of its own.
        (Net::Loopback | Net::None, Some((name, Some(port))))
            if is_loopback(name)
                && finding.code == "connection-refused"
                && host.listener(*port).is_some() =>
        {
            becomes(Finding { thing: Some(joined(name, Some(*port))), ..finding }, "network-closed", 6)
        }
        (Net::None | Net::Loopback, None) if matches!(finding.code, "host-unreachable" | "host-unknown") => {
            becomes(finding, "network-closed", 4)
        }
        _ => finding,
    }
}

/// Names of allowed addresses are not known here: one that might be allowed is not called closed.
fn is_name_in(evidence: &Evidence, name: &str) -> bool {
    matches!(evidence.words.network, Net::Allow(_))
        && name.parse::<std::net::IpAddr>().is_err()
        && !name.contains('.')
}

fn joined(host: &str, port: Option<u16>) -> String {
    port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
