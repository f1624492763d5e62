//! Scriptlets of RPM packages: read, never run. What the builder does by itself is taken out; the rest is told.
//!
//! Only those that run when a package is installed for the first time matter (rpm manual, "Scriptlets").

use hatchway_inspect::ScriptFacts;

use super::merge::Layer;
use super::scripts::{self, Alternative, Class};
use super::unpack::CONTROL;
use crate::digest::Sha256;
use crate::error::Error;
use crate::store::Workspace;
use crate::store::manifest::Node;

/// Scriptlets of a first installation, in their order.
const AT_INSTALLATION: [&str; 4] = ["pretrans", "pre", "post", "posttrans"];
/// What a scriptlet is run with.
const SHELLS: [&str; 4] = ["sh", "bash", "dash", "ksh"];

/// Commands that need no running in a tree, and why.
const HANDLED: [(&str, &str); 8] = [
    ("ldconfig", "ld.so.cache is made by the builder"),
    ("systemctl", "units are neither enabled nor started in a tree"),
    ("systemd-update-helper", "units are neither enabled nor started in a tree"),
    ("udevadm", "the host's devices are the host's"),
    ("restorecon", "a tree has no SELinux labels"),
    ("chcon", "a tree has no SELinux labels"),
    ("semodule", "a tree has no SELinux labels"),
    ("semanage", "a tree has no SELinux labels"),
];

/// The name by which the unpacked package keeps a scriptlet; none for what never runs at a first installation.
pub(super) fn kept_as(name: &str) -> Option<String> {
    let matters = AT_INSTALLATION.contains(&name) || name.starts_with("triggerin ");
    // A trigger names its conditions, which are no name of a file.
    matters.then(|| format!("rpm-{}", name.split(' ').next().unwrap_or(name)))
}

/// A scriptlet as it is kept: its interpreter on the first line.
pub(super) fn kept(script: &ScriptFacts) -> String {
    let interpreter = script.interpreter.as_deref().unwrap_or("/bin/sh");
    format!("#!{}\n{}", interpreter.replace('\n', " "), script.text)
}

/// Adds what a layer's scriptlets register, and what nobody has read.
pub(super) fn read_scriptlets(
    workspace: &Workspace<'_>,
    layer: &Layer<'_>,
    alternatives: &mut Vec<Alternative>,
    notes: &mut Vec<String>,
) -> Result<(), Error> {
    for name in AT_INSTALLATION.iter().chain(&["triggerin"]) {
        let path = format!("{CONTROL}/rpm-{name}");
        let Some(Node::File { sha256, executable, .. }) = layer.manifest.nodes.get(&path) else { continue };
        let text = String::from_utf8_lossy(&workspace.read(*sha256, *executable)?).into_owned();
        let (_, body) = split(&text);
        alternatives.extend(scripts::alternatives(&with_debians_names(body)));
        if let Class::Unknown { hash } = classify(&text, layer.version) {
            notes.push(format!(
                "`{}`: the vendor's %{name} was read but not run (normal form {hash})",
                layer.name
            ));
        }
    }
    Ok(())
}

/// The interpreter without its folder, and the script.
fn split(text: &str) -> (&str, &str) {
    let (first, body) = text.split_once('\n').unwrap_or((text, ""));
    let command = first.trim_start_matches("#!").split_whitespace().next().unwrap_or_default();
    (command.rsplit('/').next().unwrap_or(command), body)
}

fn classify(text: &str, version: &str) -> Class {
    let (interpreter, body) = split(text);
    if !SHELLS.contains(&interpreter) {
        // `%post -p /sbin/ldconfig` has no script.
        return match reason(interpreter) {
            Some(reason) if body.trim().is_empty() => Class::Handled(vec![reason]),
            _ => Class::Unknown { hash: Sha256::of(text.as_bytes()).short() },
        };
    }
    let mut reasons = Vec::new();
    let mut rest = String::new();
    for line in with_debians_names(body).lines() {
        match handled(line) {
            Some(reason) => reasons.push(reason),
            None => {
                rest.push_str(line);
                rest.push('\n');
            }
        }
    }
    match scripts::classify("postinst", &rest, version) {
        Class::NoOp if reasons.is_empty() => Class::NoOp,
        Class::NoOp => Class::Handled(reasons),
        Class::Handled(more) => Class::Handled([reasons, more].concat()),
        unknown @ Class::Unknown { .. } => unknown,
    }
}

/// Fedora and SUSE also call `update-alternatives` by its other name.
fn with_debians_names(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let command = line.split_whitespace().next().unwrap_or_default();
        if command.rsplit('/').next() == Some("alternatives") {
            line.replacen(command, "update-alternatives", 1)
        } else {
            line.to_owned()
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn reason(command: &str) -> Option<&'static str> {
    HANDLED.iter().find(|(known, _)| *known == command).map(|(_, reason)| *reason)
}

/// The reason why a line that is one command needs no running.
fn handled(line: &str) -> Option<&'static str> {
    let mut line = line.trim();
    // What is done about its failure and with its output.
    for ending in
        ["|| :", "|| true", "2>&1", "&>/dev/null", "&> /dev/null", "2>/dev/null", ">/dev/null", "> /dev/null"]
            .iter()
            .cycle()
            .take(24)
    {
        line = line.strip_suffix(ending).unwrap_or(line).trim_end();
    }
    if line.contains([';', '|', '&', '`', '<', '>', '(']) {
        return None;
    }
    let command = line.split_whitespace().next()?;
    reason(command.rsplit('/').next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_builder_does_is_taken_out() {
        for text in [
            "#!/sbin/ldconfig\n",
            "#!/bin/sh\n/sbin/ldconfig\n",
            "#!/bin/sh\nldconfig > /dev/null 2>&1 || :\n",
            "#!/bin/sh\nif [ $1 -eq 1 ]; then\n  systemctl daemon-reload &>/dev/null || :\nfi\nexit 0\n",
            "#!/bin/bash\nalternatives --install /usr/bin/x x /opt/x/bin/x 10\n",
        ] {
            assert!(matches!(classify(text, ""), Class::Handled(_)), "{text}");
        }
        assert_eq!(classify("#!/bin/sh\n# nothing\n", ""), Class::NoOp);
    }

    #[test]
    fn everything_else_is_told() {
        for text in [
            "#!/bin/sh\nuseradd acme\n",
            "#!/bin/sh\nldconfig; rm -rf /etc/x\n",
            "#!/bin/sh\nldconfig $(rm x)\n",
            "#!<lua>\nos.remove('/etc/x')\n",
            "#!/usr/bin/python3\nimport os\n",
            "#!/usr/sbin/useradd\n",
        ] {
            assert!(matches!(classify(text, ""), Class::Unknown { .. }), "{text}");
        }
    }

    #[test]
    fn only_a_first_installation_counts() {
        assert_eq!(kept_as("post").as_deref(), Some("rpm-post"));
        assert_eq!(kept_as("triggerin bash, zsh >= 1").as_deref(), Some("rpm-triggerin"));
        assert_eq!((kept_as("postun"), kept_as("triggerun bash")), (None, None));
    }
}
