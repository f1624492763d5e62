//! What scripts register: alternatives, diversions, accounts, and files they put where the system looks for them.

use super::{Role, effects};
use crate::{LdSoConf, ScriptFacts, SystemFacts, SystemdUnit, UdevRules, scripts};

/// Entries of each list that scripts give.
const ENTRIES: usize = 256;

/// Enters what scripts would register.
pub(crate) fn from_scripts(facts: &mut SystemFacts, scripts: &[ScriptFacts]) {
    for script in scripts {
        let commands = scripts::commands(script);
        if !effects::is_removal(&script.name) {
            effects::enter(facts, &script.name, &commands);
            script.writes.iter().for_each(|path| placed(facts, path));
        }
        for command in commands {
            let Some((name, arguments)) = command.split_first() else { continue };
            match name.as_str() {
                "update-alternatives" | "alternatives" => {
                    extend(&mut facts.alternatives, alternatives(arguments));
                }
                "dpkg-divert" => extend(&mut facts.diversions, diversion(arguments)),
                "useradd" | "adduser" | "groupadd" | "addgroup" => {
                    extend(&mut facts.accounts, Some(command.join(" ")));
                }
                _ => {}
            }
        }
    }
}

/// A file that a script puts into a place of the system's. What is in it is not known; where the package brings the same
/// file, it is.
fn placed(facts: &mut SystemFacts, path: &str) {
    // A link that enables a unit is no unit.
    if path.contains(".wants/") || path.contains(".requires/") || path.ends_with('/') {
        return;
    }
    let Some(role) = super::role(path.trim_start_matches('/')) else { return };
    let path = path.to_owned();
    match role {
        Role::SystemdUnit if facts.systemd_units.iter().all(|unit| unit.path != path) => {
            facts.systemd_units.push(SystemdUnit { path, ..SystemdUnit::default() });
        }
        Role::UdevRule if facts.udev_rules.iter().all(|rules| rules.path != path) => {
            facts.udev_rules.push(UdevRules { path, rules: Vec::new() });
        }
        Role::LdSoConf if facts.ld_so_conf.iter().all(|conf| conf.path != path) => {
            facts.ld_so_conf.push(LdSoConf { path, directories: Vec::new() });
        }
        Role::SystemdUnit | Role::UdevRule | Role::LdSoConf | Role::Accounts | Role::WindowsDriver => {}
        named => super::enter(facts, named, &path, None),
    }
}

fn extend(list: &mut Vec<String>, entries: impl IntoIterator<Item = String>) {
    for entry in entries {
        if list.len() < ENTRIES && !list.contains(&entry) {
            list.push(entry);
        }
    }
}

/// `--install link name path priority`, then any number of `--slave link name path` (update-alternatives(1)); rpm's
/// `alternatives` calls the latter `--follower` as well.
fn alternatives(arguments: &[String]) -> Vec<String> {
    if !arguments.iter().any(|argument| argument == "--install") {
        return Vec::new();
    }
    let begins = |argument: &String| matches!(argument.as_str(), "--install" | "--slave" | "--follower");
    let places = arguments.iter().enumerate().filter(|(_, argument)| begins(argument)).map(|(at, _)| at);
    let three = |at: usize| arguments.get(at.checked_add(1)?..at.checked_add(4)?);
    places.filter_map(three).map(|words| words.join(" ")).collect()
}

/// The file in `dpkg-divert [options] [--add] file`; what is taken away or listed is no diversion.
fn diversion(arguments: &[String]) -> Option<String> {
    let mut file = None;
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--remove" | "--list" | "--listpackage" | "--truename" | "--help" | "--version" => return None,
            "--package" | "--divert" | "--admindir" | "--instdir" | "--root" => {
                words.next();
            }
            option if option.starts_with("--") => {}
            path => file = Some(path.to_owned()),
        }
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_script_puts_into_place_counts_as_if_it_were_brought() {
        let script = "#!/bin/sh\ncp /opt/acme/60-acme.rules /etc/udev/rules.d\n\
            install -m 644 acme.service /etc/systemd/system/\nln -s ../acme.service /etc/systemd/system/a.target.wants/acme.service\n\
            echo '* * * * * root x' >/etc/cron.d/acme\nrm -f /etc/cron.d/old\n";
        let mut facts = SystemFacts::default();
        from_scripts(&mut facts, &[scripts::read("postinst", script.as_bytes())]);
        assert_eq!(facts.udev_rules[0].path, "/etc/udev/rules.d/60-acme.rules");
        let units: Vec<&str> = facts.systemd_units.iter().map(|unit| unit.path.as_str()).collect();
        assert_eq!(
            (units, facts.cron),
            (vec!["/etc/systemd/system/acme.service"], vec!["/etc/cron.d/acme".into()])
        );
        let mut removed = SystemFacts::default();
        from_scripts(&mut removed, &[scripts::read("postrm", script.as_bytes())]);
        assert_eq!(removed, SystemFacts::default());
    }

    #[test]
    fn scripts_register() {
        let script = "#!/bin/sh\nset -e\nBIN=/opt/acme/bin\nupdate-alternatives --install /usr/bin/scope scope $BIN/scope 50 \\\n  \
            --slave /usr/share/man/man1/scope.1.gz scope.1.gz \"$BIN\"/scope.1.gz\nupdate-alternatives --remove x /y\n\
            dpkg-divert --package acme --divert /usr/bin/x.real --rename --add /usr/bin/x\ndpkg-divert --remove /usr/bin/z\n\
            useradd -r acme\n";
        let mut facts = SystemFacts::default();
        from_scripts(&mut facts, &[scripts::read("postinst", script.as_bytes())]);
        let expected = [
            "/usr/bin/scope scope /opt/acme/bin/scope",
            "/usr/share/man/man1/scope.1.gz scope.1.gz /opt/acme/bin/scope.1.gz",
        ];
        assert_eq!(facts.alternatives, expected);
        assert_eq!(
            (facts.diversions, facts.accounts),
            (vec!["/usr/bin/x".to_owned()], vec!["useradd -r acme".to_owned()])
        );
    }
}
