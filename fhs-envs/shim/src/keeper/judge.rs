//! Whether the services are up, and what to tell if they are not.
use super::{CHUNK, REST_MAX, systemctl, writable};
use hatchway_wire::Services;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

/// Lines of a service's log that are shown.
const LINES: &str = "--lines=10";

/// What to say, and a hint.
pub(super) type Complaint = (String, Option<String>);

/// Looks at each service. systemd's own account of those that are not up goes to `errors`.
pub(super) fn look(services: &Services, errors: &OwnedFd) -> Result<(), Complaint> {
    let mut arguments = vec!["show", "--property=Id,LoadState,ActiveState,Result"];
    arguments.extend(services.names.iter().map(String::as_str));
    let said = systemctl(&arguments).map_err(|error| (format!("cannot ask systemd: {error}"), None))?;
    let said = String::from_utf8_lossy(&said);
    // A unit may have another name than the one it was asked by, but each is answered for.
    if said.lines().filter(|line| line.starts_with("Id=")).count() != services.names.len() {
        return Err(("systemd does not answer for each of them".to_owned(), None));
    }
    let wrong: Vec<Wrong> = read(&said).collect();
    let Some(first) = wrong.first() else {
        return Ok(());
    };
    wrong.iter().filter(|wrong| !wrong.is_unknown).for_each(|wrong| account(&wrong.name, errors));
    let hint = if first.is_unknown {
        "`services` names units of systemd that the artifacts or the packages bring: `hatchway inspect` lists the former"
    } else {
        "its own lines are above; `hatchway run --program /usr/bin/bash` without `services` shows the tree from inside"
    };
    let all: Vec<String> = wrong.iter().map(|wrong| format!("`{}` {}", wrong.name, wrong.what)).collect();
    Err((all.join(", "), Some(hint.to_owned())))
}

/// systemd has not said that it is done.
pub(super) fn late(services: &Services, errors: &OwnedFd) -> Complaint {
    let seconds = services.patience_ms / 1000;
    let waiting = systemctl(&["list-jobs", "--no-legend"]).unwrap_or_default();
    let waiting = String::from_utf8_lossy(&waiting);
    let names: Vec<&str> = waiting.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    services
        .names
        .iter()
        .filter(|name| names.contains(&name.as_str()))
        .for_each(|name| account(name, errors));
    let what = if names.is_empty() {
        "systemd does not answer".to_owned()
    } else {
        format!("still starting: {}", names.join(", "))
    };
    (format!("they are not up after {seconds} seconds ({what})"), None)
}

/// A closed stream takes nothing, nor one whose reader rests, and there is no other.
fn account(name: &str, errors: &OwnedFd) {
    let Ok(said) = systemctl(&["status", "--full", LINES, name]) else { return };
    for part in said.chunks(CHUNK) {
        if writable(errors, REST_MAX)
            && let Ok(errors) = errors.try_clone()
        {
            File::from(errors).write_all(part).ok();
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Wrong {
    name: String,
    what: String,
    /// There is no such unit, or it cannot be read.
    is_unknown: bool,
}

/// `systemctl show` prints a paragraph for each unit, with a line for each property.
fn read(text: &str) -> impl Iterator<Item = Wrong> {
    text.split("\n\n").filter_map(|paragraph| {
        let value = |key: &str| {
            let line = paragraph.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_default()
        };
        let (name, load) = (value("Id").to_owned(), value("LoadState"));
        match (load, value("ActiveState"), value("Result")) {
            ("", ..) => None,
            ("not-found", ..) => {
                Some(Wrong { name, what: "is not in the tree".to_owned(), is_unknown: true })
            }
            ("loaded", "failed", result) => {
                Some(Wrong { name, what: format!("has failed ({result})"), is_unknown: false })
            }
            // It is started again and again.
            ("loaded", "activating", result) if result != "success" => {
                Some(Wrong { name, what: format!("fails again and again ({result})"), is_unknown: false })
            }
            ("loaded", ..) => None,
            (load, ..) => Some(Wrong { name, what: format!("cannot be loaded ({load})"), is_unknown: true }),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_up_is_told_apart() {
        let text = "Id=a.service\nLoadState=loaded\nActiveState=active\nResult=success\n\n\
                    Id=b.service\nLoadState=loaded\nActiveState=failed\nResult=exit-code\n\n\
                    Id=c.service\nLoadState=not-found\nActiveState=inactive\nResult=success\n\n\
                    Id=d.service\nLoadState=loaded\nActiveState=inactive\nResult=success\n";
        let wrong: Vec<Wrong> = read(text).collect();
        let told: Vec<(&str, &str, bool)> =
            wrong.iter().map(|w| (w.name.as_str(), w.what.as_str(), w.is_unknown)).collect();
        assert_eq!(
            told,
            [("b.service", "has failed (exit-code)", false), ("c.service", "is not in the tree", true)]
        );
        assert_eq!(read("").count(), 0);
    }
}
