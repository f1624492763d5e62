//! What maintainer scripts register: alternatives, diversions, accounts.

use crate::{ScriptFacts, SystemFacts, scripts};

/// Entries of each list that scripts give.
const ENTRIES: usize = 256;

/// Enters what scripts would register.
pub(crate) fn from_scripts(facts: &mut SystemFacts, scripts: &[ScriptFacts]) {
    for script in scripts {
        for command in scripts::commands(script) {
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
