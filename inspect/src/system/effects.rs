//! Rights that scripts give, and kernel modules that they load or build.

use std::collections::BTreeSet;

use crate::{EffectKind, ScriptEffect, SystemFacts};

/// Effects kept of one artifact.
const EFFECTS: usize = 256;
/// The bits of a mode.
const SETUID: u32 = 0o4000;
const SETGID: u32 = 0o2000;

/// Whether a script runs when the package goes, as dpkg and rpm call them.
pub(super) fn is_removal(script: &str) -> bool {
    matches!(script, "prerm" | "postrm" | "preun" | "postun" | "preuntrans" | "postuntrans")
}

/// Enters the effects of one script's commands.
pub(super) fn enter(facts: &mut SystemFacts, script: &str, commands: &[Vec<String>]) {
    let mut found: Vec<(EffectKind, String, String)> = Vec::new();
    for command in commands {
        let Some((name, arguments)) = command.split_first() else { continue };
        match name.as_str() {
            "chmod" => found.extend(chmod(arguments)),
            "install" => found.extend(install(arguments)),
            "dpkg-statoverride" => found.extend(override_of(arguments)),
            "setcap" => found.extend(setcap(arguments)),
            "insmod" => {
                found.extend(first(arguments).map(|file| (EffectKind::LoadsModule, file, String::new())));
            }
            "modprobe" => found.extend(modprobe(arguments)),
            "dkms" => found.extend(dkms(arguments)),
            _ => {}
        }
    }
    // `setcap … || chmod u+s …`: what is done where capabilities are not to be had.
    let mut capable = BTreeSet::new();
    found.retain(|(kind, what, _)| match kind {
        EffectKind::Capabilities => {
            capable.insert(what.clone());
            true
        }
        EffectKind::Setuid => !capable.contains(what),
        _ => true,
    });
    let room = EFFECTS.saturating_sub(facts.effects.len());
    let effects = found.into_iter().take(room);
    facts.effects.extend(effects.map(|(kind, what, detail)| ScriptEffect {
        kind,
        script: script.to_owned(),
        what,
        detail,
    }));
}

fn first(arguments: &[String]) -> Option<String> {
    arguments.iter().find(|word| !word.starts_with('-')).cloned()
}

/// `chmod [options] mode file…`. A symbolic mode may begin with a hyphen, but then it takes rights away.
fn chmod(arguments: &[String]) -> Vec<(EffectKind, String, String)> {
    let mut words = arguments.iter().filter(|word| !word.starts_with('-'));
    let Some((mode, kind)) = words.next().and_then(|mode| Some((mode, kind_of(mode)?))) else {
        return Vec::new();
    };
    words.map(|file| (kind, file.clone(), mode.clone())).collect()
}

/// `install -m mode source destination`.
fn install(arguments: &[String]) -> Option<(EffectKind, String, String)> {
    let at = arguments.iter().position(|word| word == "-m" || word == "--mode");
    let mode = match at {
        Some(at) => arguments.get(at.checked_add(1)?)?.as_str(),
        None => arguments.iter().find_map(|word| word.strip_prefix("--mode=").or(word.strip_prefix("-m")))?,
    };
    Some((kind_of(mode)?, arguments.last()?.clone(), mode.to_owned()))
}

/// `dpkg-statoverride [options] --add user group mode file`.
fn override_of(arguments: &[String]) -> Option<(EffectKind, String, String)> {
    let at = arguments.iter().position(|word| word == "--add")?;
    let mut words = arguments.get(at.checked_add(1)?..)?.iter().filter(|word| !word.starts_with("--"));
    let mode = words.nth(2)?;
    Some((kind_of(mode)?, words.next()?.clone(), mode.clone()))
}

/// What a mode, in digits or in letters, makes of a file.
fn kind_of(mode: &str) -> Option<EffectKind> {
    let bits = match u32::from_str_radix(mode, 8) {
        Ok(bits) => bits,
        Err(_) => mode.split(',').map(bits_of_clause).fold(0, |all, bits| all | bits),
    };
    match (bits & SETUID != 0, bits & SETGID != 0) {
        (true, _) => Some(EffectKind::Setuid),
        (_, true) => Some(EffectKind::Setgid),
        _ => None,
    }
}

/// `ug+s`, `u=rwxs`, `+s`.
fn bits_of_clause(clause: &str) -> u32 {
    let Some((who, what)) = clause.split_once(['+', '=']) else { return 0 };
    if !what.contains('s') || who.chars().any(|c| !"ugoa".contains(c)) {
        return 0;
    }
    let everybody = who.is_empty() || who.contains('a');
    let bit = |letter, bit| if everybody || who.contains(letter) { bit } else { 0 };
    bit('u', SETUID) | bit('g', SETGID)
}

/// `setcap [-q] [-n rootid] capabilities file [capabilities file…]` (setcap(8)); `-r` takes them away.
fn setcap(arguments: &[String]) -> Vec<(EffectKind, String, String)> {
    let mut words = Vec::new();
    let mut rest = arguments.iter();
    while let Some(word) = rest.next() {
        match word.as_str() {
            "-n" => {
                rest.next();
            }
            "-r" => return Vec::new(),
            option if option.starts_with('-') => {}
            word => words.push(word),
        }
    }
    let pairs = words.chunks_exact(2).filter_map(|pair| Some((*pair.first()?, *pair.get(1)?)));
    pairs.map(|(what, file)| (EffectKind::Capabilities, file.to_owned(), what.to_owned())).collect()
}

/// `modprobe [options] module [parameters]`; with `-a` every word is a module.
fn modprobe(arguments: &[String]) -> Vec<(EffectKind, String, String)> {
    let has = |options: &[&str]| arguments.iter().any(|word| options.contains(&word.as_str()));
    if has(&["-r", "--remove", "-c", "--showconfig", "-n", "--dry-run"]) {
        return Vec::new();
    }
    let modules = arguments.iter().filter(|word| !word.starts_with('-'));
    let count = if has(&["-a", "--all"]) { usize::MAX } else { 1 };
    modules.take(count).map(|module| (EffectKind::RequestsModule, module.clone(), String::new())).collect()
}

/// `dkms add|build|install|autoinstall …`, the module behind `-m` or as an operand (dkms(8)).
fn dkms(arguments: &[String]) -> Option<(EffectKind, String, String)> {
    let (action, rest) = arguments.split_first()?;
    if !matches!(action.as_str(), "add" | "build" | "install" | "autoinstall" | "ldtarball") {
        return None;
    }
    let at = rest.iter().position(|word| word == "-m");
    let named = at.and_then(|at| rest.get(at.checked_add(1)?).cloned()).or_else(|| first(rest));
    Some((EffectKind::BuildsModule, named.unwrap_or_default(), action.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effects(commands: &[&str]) -> Vec<(EffectKind, String, String)> {
        let commands: Vec<Vec<String>> =
            commands.iter().map(|line| line.split(' ').map(str::to_owned).collect()).collect();
        let mut facts = SystemFacts::default();
        enter(&mut facts, "postinst", &commands);
        facts.effects.into_iter().map(|one| (one.kind, one.what, one.detail)).collect()
    }

    #[test]
    fn rights() {
        for (line, kind, what, detail) in [
            ("chmod 4755 /opt/a", EffectKind::Setuid, "/opt/a", "4755"),
            ("chmod -R u+s /opt/a", EffectKind::Setuid, "/opt/a", "u+s"),
            ("chmod go-w,u=rwxs /opt/a", EffectKind::Setuid, "/opt/a", "go-w,u=rwxs"),
            ("chmod g+s /opt/a", EffectKind::Setgid, "/opt/a", "g+s"),
            ("install -m 4755 a /opt/a", EffectKind::Setuid, "/opt/a", "4755"),
            ("install -m2755 a /opt/a", EffectKind::Setgid, "/opt/a", "2755"),
            ("dpkg-statoverride --update --add root acme 4750 /opt/a", EffectKind::Setuid, "/opt/a", "4750"),
            ("setcap -q cap_net_raw+ep /opt/a", EffectKind::Capabilities, "/opt/a", "cap_net_raw+ep"),
            ("insmod /lib/acme.ko debug=1", EffectKind::LoadsModule, "/lib/acme.ko", ""),
            ("modprobe -q acme debug=1", EffectKind::RequestsModule, "acme", ""),
            ("dkms install -m acme -v 1.0", EffectKind::BuildsModule, "acme", "install"),
            ("dkms add /usr/src/acme-1", EffectKind::BuildsModule, "/usr/src/acme-1", "add"),
        ] {
            assert_eq!(effects(&[line]), [(kind, what.to_owned(), detail.to_owned())], "{line}");
        }
        for line in
            ["chmod 755 /a", "chmod u-s /a", "chmod o=rws /a", "setcap -r /a", "modprobe -r x", "dkms status"]
        {
            assert_eq!(effects(&[line]), [], "{line}");
        }
    }

    #[test]
    fn a_fallback_for_capabilities_is_none_of_its_own() {
        let both =
            effects(&["setcap cap_net_raw+ep /bin/ping", "chmod u+s /bin/ping", "chmod u+s /bin/other"]);
        assert_eq!(both.iter().map(|one| one.1.as_str()).collect::<Vec<_>>(), ["/bin/ping", "/bin/other"]);
        assert_eq!(both[0].0, EffectKind::Capabilities);
        assert_eq!(effects(&["chmod 4755 /bin/ping", "setcap cap_net_raw+ep /bin/ping"]).len(), 2);
    }
}
