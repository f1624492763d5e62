//! systemd units, as systemd.syntax(7) describes their text.

use crate::SystemdUnit;

/// Commands and sockets kept of one unit.
const LIST: usize = 32;
/// Bytes of one value, its continuation lines joined: systemd's own limit of a line (`LONG_LINE_MAX`) is 1 MiB, nobody needs it.
const VALUE: usize = 64 << 10;

/// Reads a unit or a drop-in.
pub(crate) fn read(path: &str, text: &str) -> SystemdUnit {
    let mut unit = SystemdUnit { path: path.to_owned(), ..SystemdUnit::default() };
    let mut starts = Vec::new();
    let mut section = String::new();
    let mut pending = String::new();
    for line in text.lines() {
        let line = line.trim_end_matches('\r');
        let start = line.trim_start();
        // A comment between continuation lines does not end them; an empty line does.
        if start.starts_with(['#', ';']) {
            continue;
        }
        let (part, continues) = match line.strip_suffix('\\') {
            Some(part) => (part, true),
            None => (line, false),
        };
        if pending.len() < VALUE {
            pending.push_str(if pending.is_empty() { part.trim_start() } else { part });
        }
        if continues {
            pending.push(' ');
            continue;
        }
        entry(&mut unit, &mut starts, &mut section, pending.trim());
        pending.clear();
    }
    entry(&mut unit, &mut starts, &mut section, pending.trim());
    starts.append(&mut unit.exec);
    starts.truncate(LIST);
    SystemdUnit { exec: starts, ..unit }
}

/// `starts` takes what `ExecStart` says: it comes first, whatever the file has before it.
fn entry(unit: &mut SystemdUnit, starts: &mut Vec<String>, section: &mut String, line: &str) {
    if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        name.clone_into(section);
        return;
    }
    let Some((key, value)) = line.split_once('=') else { return };
    let (key, value) = (key.trim_end(), value.trim_start());
    match (section.as_str(), key) {
        ("Install", "WantedBy" | "RequiredBy") => words(&mut unit.wanted_by, value),
        // A timer or socket has no such keys; mount and swap units have `Type` for the file system.
        ("Service", "Type") => unit.service_type = said(value),
        ("Service" | "Socket" | "Mount" | "Swap", "User") => unit.user = said(value),
        ("Service", "ExecStart") => list(starts, value),
        ("Service" | "Socket", key) if is_exec(key) => list(&mut unit.exec, value),
        ("Socket", key) if key.starts_with("Listen") => list(&mut unit.listens, value),
        _ => {}
    }
}

/// systemd.service(5) and systemd.socket(5).
fn is_exec(key: &str) -> bool {
    key.strip_prefix("Exec").is_some_and(|rest| {
        matches!(
            rest,
            "StartPre"
                | "StartPost"
                | "Condition"
                | "Reload"
                | "ReloadPost"
                | "Stop"
                | "StopPre"
                | "StopPost"
        )
    })
}

fn said(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

/// An empty value takes back what was said before.
fn list(list: &mut Vec<String>, value: &str) {
    if value.is_empty() {
        list.clear();
    } else if list.len() < LIST {
        list.push(value.split_whitespace().collect::<Vec<_>>().join(" "));
    }
}

fn words(list: &mut Vec<String>, value: &str) {
    if value.is_empty() {
        list.clear();
    }
    let room = LIST.saturating_sub(list.len());
    list.extend(value.split_whitespace().take(room).map(str::to_owned));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service() {
        let text = "; old\n[Unit]\nDescription=User=nobody\n[Service]\nType = notify\nUser=acme\nExecStartPre=/bin/true\nExecStart=/opt/acme/daemon \\\n# why\n  \
            --port 5025 \\\n  -v\nExecStop=/bin/false\nUser=\n[Install]\nWantedBy=multi-user.target acme.target\n";
        let unit = read("/lib/systemd/system/acme.service", text);
        assert_eq!(unit.exec, ["/opt/acme/daemon --port 5025 -v", "/bin/true", "/bin/false"]);
        assert_eq!((unit.service_type.as_deref(), unit.user), (Some("notify"), None));
        assert_eq!(unit.wanted_by, ["multi-user.target", "acme.target"]);
    }

    #[test]
    fn an_empty_assignment_resets_a_list() {
        let text = "[Service]\nExecStart=/bin/a\nExecStart=\nExecStart=/bin/b\n[Socket]\nListenStream=5025\nListenDatagram=/run/acme\n";
        let unit = read("/etc/systemd/system/acme.service.d/a.conf", text);
        assert_eq!(
            (unit.exec, unit.listens),
            (vec!["/bin/b".to_owned()], vec!["5025".to_owned(), "/run/acme".to_owned()])
        );
    }

    #[test]
    fn lists_are_bounded() {
        let text = format!("[Service]\n{}", "ExecStart=/bin/a\n".repeat(LIST * 2));
        assert_eq!(read("/a", &text).exec.len(), LIST);
        assert!(read("/a", &"x\\\n".repeat(100_000)).exec.is_empty());
    }
}
