//! What a package would do to a system: scripts against bash's own parser, units and rules against plain searches.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod common;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{CONTROL, Tar};
use hatchway_inspect::archive::Limits;
use hatchway_inspect::{Facts, ScriptFacts, inspect_bytes};

/// The facts of a package with one maintainer script.
fn with_script(script: &[u8]) -> Facts {
    let control = Tar::new().file("./control", 0o644, CONTROL.as_bytes()).file("./postinst", 0o755, script);
    package(control, Tar::new())
}

fn package(control: Tar, data: Tar) -> Facts {
    let deb = common::ar(&[
        ("debian-binary", b"2.0\n"),
        ("control.tar", &control.bytes()),
        ("data.tar", &data.bytes()),
    ]);
    inspect_bytes(Path::new("acme.deb"), &deb, &Limits::default()).unwrap()
}

fn script(text: &[u8]) -> ScriptFacts {
    with_script(text).scripts.remove(0)
}

/// Maintainer scripts of this machine's packages.
fn real_scripts() -> Vec<(PathBuf, String)> {
    let directory =
        std::fs::read_dir("/var/lib/dpkg/info").expect("this test reads the scripts of a Debian system");
    let endings = ["preinst", "postinst", "prerm", "postrm"];
    let paths = directory.map(|entry| entry.unwrap().path());
    let scripts =
        paths.filter(|path| path.extension().is_some_and(|e| endings.iter().any(|ending| e == *ending)));
    let mut scripts: Vec<_> =
        scripts.filter_map(|path| Some((path.clone(), std::fs::read_to_string(path).ok()?))).collect();
    scripts.retain(|(_, text)| text.starts_with("#!/bin/sh") || text.starts_with("#!/bin/bash"));
    scripts.sort();
    scripts
}

/// The script as bash understands it: one command a line, no comments, `;` after each. It is defined as a function and
/// printed, by a restricted shell without commands, and never called.
fn as_bash_reads(text: &str) -> Option<String> {
    let bash = |arguments: &[&str], input: &str| {
        let mut shell = Command::new("bash")
            .args(["--norc", "--noprofile", "-r"])
            .args(arguments)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("this test needs bash (Debian: apt-get install bash)");
        let mut stdin = shell.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        let output = shell.wait_with_output().unwrap();
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    // A function needs a body, and what is not balanced by itself would end it.
    bash(&["-n"], text)?;
    let printed =
        bash(&[], &format!("maintainer_script() {{\n:\n{text}\n}}\ndeclare -f maintainer_script\n"))?;
    // Without `maintainer_script ()`, `{` and `}`.
    let lines: Vec<&str> = printed.lines().skip(2).collect();
    let (_, body) = lines.split_last()?;
    Some(format!("#!/bin/bash\n{}\n", body.join("\n")))
}

#[test]
fn real_scripts_read_as_bash_prints_them() {
    let scripts = real_scripts();
    assert!(scripts.len() >= 20, "only {} maintainer scripts: too few to say anything", scripts.len());
    let (mut compared, mut differing) = (0, Vec::new());
    for (path, text) in &scripts {
        let Some(printed) = as_bash_reads(text) else { continue };
        compared += 1;
        let (ours, normal) = (script(text.as_bytes()), script(printed.as_bytes()));
        if ours.calls != normal.calls || ours.writes != normal.writes {
            differing.push(format!(
                "{}: {:?} and {:?}",
                path.display(),
                (ours.calls, ours.writes),
                (normal.calls, normal.writes)
            ));
        }
    }
    assert!(compared * 10 >= scripts.len() * 9, "bash understood {compared} of {} scripts", scripts.len());
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

/// Where bash begins a command: a plain search in what it prints.
fn searched(printed: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut delimiter: Option<String> = None;
    for line in printed.lines() {
        if let Some(end) = &delimiter {
            if line.trim() == end {
                delimiter = None;
            }
            continue;
        }
        if let Some((_, after)) = line.split_once("<<") {
            let word = after.trim_start_matches(['-', '<']).split_whitespace().next().unwrap_or_default();
            delimiter = Some(word.trim_matches(['"', '\'', '\\', ';']).to_owned());
        }
        let words = line.split_whitespace();
        let control = ["if", "then", "else", "elif", "while", "until", "do", "!", "{", "("];
        let mut words = words.skip_while(|word| control.contains(word) || word.contains('='));
        if let Some(word) = words.next() {
            found.insert(word.trim_end_matches(';').to_owned());
        }
    }
    found
}

#[test]
fn no_command_at_the_beginning_of_a_line_is_missed() {
    let known = [
        "chmod",
        "chown",
        "ldconfig",
        "update-alternatives",
        "dpkg-divert",
        "rm",
        "ln",
        "mkdir",
        "adduser",
        "systemctl",
    ];
    let mut seen = 0;
    for (path, text) in real_scripts() {
        let Some(printed) = as_bash_reads(&text) else { continue };
        let calls = script(text.as_bytes()).calls;
        for name in searched(&printed).iter().filter(|name| known.contains(&name.as_str())) {
            assert!(calls.contains(name), "{}: {name} is missing in {calls:?}", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 20, "only {seen} commands were compared");
}

/// Files of a directory of this machine, as a package that ships them.
fn shipping(directory: &str, endings: &[&str]) -> (Facts, Vec<(String, String)>) {
    let listed = std::fs::read_dir(directory)
        .unwrap_or_else(|e| panic!("{directory}: {e} (Debian: apt-get install systemd udev)"));
    let mut files = Vec::new();
    let mut data = Tar::new();
    for entry in listed {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_symlink() || !endings.iter().any(|ending| name.ends_with(ending)) || name.len() > 40 {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        data = data.file(&format!(".{directory}/{name}"), 0o644, text.as_bytes());
        files.push((format!("{directory}/{name}"), text));
    }
    files.sort();
    let control = Tar::new().file("./control", 0o644, CONTROL.as_bytes());
    (package(control, data), files)
}

#[test]
fn real_units_say_what_a_search_finds() {
    let (facts, files) = shipping("/lib/systemd/system", &[".service", ".socket", ".timer"]);
    assert!(files.len() >= 50, "only {} units: too few (Debian: apt-get install systemd)", files.len());
    let mut execs = 0;
    for ((path, text), unit) in files.iter().zip(&facts.system.systemd_units) {
        assert_eq!(*path, unit.path);
        let values = |keys: &[&str]| -> Vec<String> {
            let lines = text.lines().filter_map(|line| line.split_once('='));
            lines.filter(|(key, _)| keys.contains(key)).map(|(_, value)| value.to_owned()).collect()
        };
        let user = values(&["User"]).last().cloned();
        assert_eq!(user, unit.user, "{path}");
        if text.contains("\\\n") || text.contains("Exec=\n") {
            continue;
        }
        let others =
            ["ExecStartPre", "ExecStartPost", "ExecCondition", "ExecReload", "ExecStop", "ExecStopPost"];
        let squeezed = |text: &String| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let commands = [values(&["ExecStart"]), values(&others)].concat();
        assert_eq!(commands.iter().map(squeezed).collect::<Vec<_>>(), unit.exec, "{path}");
        let wanted = values(&["WantedBy", "RequiredBy"]).join(" ");
        assert_eq!(wanted.split_whitespace().collect::<Vec<_>>(), unit.wanted_by, "{path}");
        execs += unit.exec.len();
    }
    assert!(execs >= 30, "only {execs} commands were compared");
}

#[test]
fn real_rules_say_what_a_search_finds() {
    let (facts, files) = shipping("/lib/udev/rules.d", &[".rules"]);
    assert!(!files.is_empty(), "there are no udev rules (Debian: apt-get install udev)");
    for ((path, text), rules) in files.iter().zip(&facts.system.udev_rules) {
        assert_eq!(*path, rules.path);
        let lines = || text.lines().filter(|line| !line.trim_start().starts_with('#'));
        let count = |word: &str| -> usize {
            let begins = |line: &str, at: usize| {
                !line[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            };
            let in_line = |line: &str| line.match_indices(word).filter(|(at, _)| begins(line, *at)).count();
            lines().map(in_line).sum()
        };
        let has =
            |of: fn(&hatchway_inspect::UdevRule) -> bool| rules.rules.iter().filter(|rule| of(rule)).count();
        assert_eq!(count("MODE=\"") + count("MODE:=\""), has(|rule| rule.mode.is_some()), "{path}: MODE");
        assert_eq!(count("GROUP=\"") + count("GROUP:=\""), has(|rule| rule.group.is_some()), "{path}: GROUP");
        let tags: usize = rules.rules.iter().map(|rule| rule.tags.len()).sum();
        assert_eq!(count("TAG+=\""), tags, "{path}: TAG");
        for rule in &rules.rules {
            let line = text.lines().nth(rule.line - 1).unwrap();
            assert!(line.contains('='), "{path}:{}: {line}", rule.line);
        }
    }
}

#[test]
fn a_script_like_those_of_vendors() {
    let text = br#"#!/bin/sh
set -e
CONF=/etc/acme/acme.conf
install() { echo "no command"; }
case "$1" in
  configure|reconfigure)
    # systemctl stop everything
    cat > $CONF <<-EOF
	rm -rf /everything
	id = $(cat /etc/machine-id | sed 's/a/b/')
	EOF
    echo "run modprobe acme; then depmod" >> /var/log/acme.log 2>/dev/null
    if ! getent group acme >/dev/null; then groupadd --system acme || true; fi
    su acme -c "mkdir -p /opt/acme/run"
    echo 1 | sudo tee -a /etc/acme/key > /dev/null
    find /opt/acme -type f -exec chmod 644 {} \;
    command -v udevadm >/dev/null && \
      udevadm control --reload
    `which ldconfig` ; /sbin/ldconfig
    bash <<'END'
    chown root:root /opt/acme
END
    ;;
  remove) (cd / && ln -sf a b) ;;
esac
install
"#;
    let facts = script(text);
    let expected = ["chmod", "chown", "getent", "groupadd", "ldconfig", "ln", "mkdir", "sed", "udevadm"];
    assert_eq!(facts.calls, expected);
    assert_eq!(facts.writes, ["/etc/acme/acme.conf", "/etc/acme/key", "/opt/acme/run", "/var/log/acme.log"]);
    let action = |name: &str| facts.actions.iter().find(|action| action.command == name).unwrap();
    assert_eq!((action("udevadm").line, action("udevadm").text.as_str()), (18, "udevadm control --reload"));
    assert_eq!((action("chown").line, action("sed").line, action("groupadd").line), (21, 10, 13));
}

#[test]
fn scripts_in_other_languages() {
    let python = script(b"#!/usr/bin/python3\nimport os, subprocess\n# os.system('rm x')\nos.system('ldconfig && rm -f /x')\n\
        subprocess.check_call(['/sbin/modprobe', 'acme'])\n");
    assert_eq!(python.calls, ["ldconfig", "modprobe", "rm"]);
    assert_eq!(python.actions.iter().map(|action| action.line).collect::<Vec<_>>(), [4, 4, 5]);
    let perl = script(b"#!/usr/bin/perl -w\nsystem(\"update-alternatives\", \"--install\", \"/usr/bin/a\", \"a\", \"/opt/a\", \"1\");\n");
    assert_eq!(perl.calls, ["update-alternatives"]);
    assert_eq!(script(b"#!/opt/acme/interpreter\nrm -rf /\n").calls.len(), 0);
}

#[test]
fn no_script_makes_the_lexer_fail() {
    let text = br#"case $x in (a|b) cat <<E >/etc/a; "$(b `c` "${d:-$(e)}")" ;; esac; f() { [[ a < b ]]; }; x=(1 2) <(g) $((1+2)) $'\'' \"#;
    for end in 0..text.len() {
        script(&text[..end]);
    }
    for seed in [
        &b"$("[..],
        b"`",
        b"${",
        b"$((",
        b"<<A\n",
        b"((",
        b"case x in ",
        b"(",
        b"sh -c '",
        b"\"$(",
        b"<(",
        b"f()",
        b"\\",
        b"a=(",
    ] {
        let facts = script(&seed.repeat(20_000));
        assert!(facts.actions.len() <= 200 && facts.writes.len() <= 256);
    }
    let many = script(&b"rm -rf /opt/acme >/etc/x\n".repeat(5000));
    assert_eq!((many.actions.len(), many.writes.len()), (200, 1));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]
    #[test]
    fn any_text_is_read(bytes in proptest::collection::vec(
        proptest::sample::select(b"ab\xc3\xa9 \t\n\"'`$(){}[]<>|&;#\\=/-!*0".to_vec()), 0..400)) {
        let facts = script(&[b"#!/bin/sh\n".as_slice(), &bytes].concat());
        let data = Tar::new()
            .file("./lib/systemd/system/a.service", 0o644, &bytes)
            .file("./lib/udev/rules.d/a.rules", 0o644, &bytes);
        let control = Tar::new().file("./control", 0o644, CONTROL.as_bytes());
        proptest::prop_assert_eq!(package(control, data).system.systemd_units.len(), 1);
        proptest::prop_assert!(facts.actions.len() <= 200);
    }
}
