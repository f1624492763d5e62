//! What a finished package must be, read back by dpkg's own programs.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use super::package::{Inputs, NAME};
use crate::sh;

/// What must be in it, with its mode as `tar` shows it.
const EXPECTED: &[(&str, &str)] = &[
    ("-rwxr-xr-x", "./usr/bin/hatchway"),
    ("-rwxr-xr-x", "./usr/bin/hatchway-recon"),
    ("-rwxr-xr-x", "./usr/libexec/hatchway/hatchway-shim"),
    ("-rw-r--r--", "./usr/lib/systemd/system/hatchway.service"),
    ("-rw-r--r--", "./usr/lib/systemd/system/hatchway.socket"),
    ("-rw-r--r--", "./usr/lib/tmpfiles.d/hatchway.conf"),
    ("-rw-r--r--", "./usr/lib/sysusers.d/hatchway.conf"),
    ("-rw-r--r--", "./etc/hatchway/instrument.toml.example"),
    ("-rw-r--r--", "./usr/share/hatchway/recipes/vnc/recipe.toml"),
    ("-rw-r--r--", "./usr/share/man/man1/hatchway.1.gz"),
    ("-rw-r--r--", "./usr/share/man/man1/hatchway-recon.1.gz"),
    ("-rw-r--r--", "./usr/share/bash-completion/completions/hatchway"),
    ("-rw-r--r--", "./usr/share/bash-completion/completions/hatchway-recon"),
    ("-rw-r--r--", "./usr/share/zsh/vendor-completions/_hatchway"),
    ("-rw-r--r--", "./usr/share/fish/vendor_completions.d/hatchway.fish"),
    ("-rw-r--r--", "./usr/share/doc/hatchway/copyright"),
    ("-rw-r--r--", "./usr/share/doc/hatchway/changelog.gz"),
    ("-rw-r--r--", "./usr/share/doc/hatchway/changelog.Debian.gz"),
];
/// What it may have anything in. The rest of a system is made by it when it runs.
const PLACES: &[&str] =
    &["./etc/hatchway/", "./usr/bin/", "./usr/lib/", "./usr/libexec/hatchway/", "./usr/share/"];

pub(super) fn check(deb: &Path, inputs: &Inputs) -> Result<()> {
    let mut problems = Vec::new();
    let listed = sh::capture(Command::new("dpkg-deb").arg("--contents").arg(deb).env("TZ", "UTC"))?;
    let mut date = Command::new("date");
    date.args(["--utc", &format!("--date=@{}", inputs.epoch), "+%Y-%m-%d %H:%M"]);
    problems.extend(contents(&listed, sh::capture(&mut date)?.trim()));
    for (field, expected) in [("Package", NAME), ("Version", &inputs.version), ("Architecture", "amd64")] {
        let said = sh::capture(Command::new("dpkg-deb").arg("--field").arg(deb).arg(field))?;
        if said.trim() != expected {
            problems.push(format!("{field} is `{}`, not `{expected}`", said.trim()));
        }
    }
    let depends = sh::capture(Command::new("dpkg-deb").arg("--field").arg(deb).arg("Depends"))?;
    if !depends.contains("libc6 (>=") {
        problems.push(format!("Depends has no version of libc6: `{}`", depends.trim()));
    }
    let control = sh::capture(Command::new("dpkg-deb").arg("--info").arg(deb))?;
    for part in ["conffiles", "md5sums", "postinst", "postrm", "prerm"] {
        if !control.lines().any(|line| line.split_whitespace().any(|word| word == part)) {
            problems.push(format!("there is no `{part}` in it"));
        }
    }
    if control.contains('@') && control.contains("@SHLIBS@") {
        problems.push("a place of `control.in` was not filled".to_owned());
    }
    if problems.is_empty() {
        return Ok(());
    }
    bail!("`{}` is not as it should be:\n{}", deb.display(), problems.join("\n"))
}

/// Lines such as `-rw-r--r-- root/root 12 2026-01-01 00:00 ./usr/…`.
fn contents(listed: &str, time: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut seen = Vec::new();
    for line in listed.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [mode, owner, _, day, minute, path] = words[..] else {
            problems.push(format!("not understood, or a link: `{line}`"));
            continue;
        };
        if owner != "root/root" || format!("{day} {minute}") != time {
            problems.push(format!("owner or time: `{line}`"));
        }
        if !["drwxr-xr-x", "-rwxr-xr-x", "-rw-r--r--"].contains(&mode) {
            problems.push(format!("mode: `{line}`"));
        }
        if mode.starts_with('-') && !PLACES.iter().any(|place| path.starts_with(place)) {
            problems.push(format!("not a place of the package's: `{line}`"));
        }
        seen.push((mode, path));
    }
    problems.extend(
        EXPECTED
            .iter()
            .filter(|wanted| !seen.contains(wanted))
            .map(|(mode, path)| format!("missing: {mode} {path}")),
    );
    problems
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::package;
    use super::*;

    const TIME: &str = "2026-01-02 03:04";

    fn listing(replace: (&str, &str)) -> String {
        let lines = EXPECTED.iter().map(|(mode, path)| format!("{mode} root/root 12 {TIME} {path}\n"));
        lines.collect::<String>().replacen(replace.0, replace.1, 1)
    }

    #[test]
    fn a_package_with_something_wrong_is_refused() {
        assert_eq!(contents(&listing(("", "")), TIME), Vec::<String>::new());
        for (from, to) in [
            ("-rwxr-xr-x", "-rwsr-xr-x"),
            ("root/root", "me/me"),
            ("03:04", "03:05"),
            ("./usr/bin/hatchway", "./usr/bin/other"),
            ("./usr/bin/hatchway", "./opt/hatchway"),
            ("./usr/bin/hatchway", "./usr/bin/hatchway -> /tmp/x"),
        ] {
            assert!(!contents(&listing((from, to)), TIME).is_empty(), "{from} {to}");
        }
    }

    /// With other programs in the place of ours, which would have to be built as a release first.
    #[test]
    fn a_package_of_stand_ins_is_as_expected_and_the_same_twice() {
        let scratch = sh::Scratch::new("hatchway-dist-test").unwrap();
        let pages = scratch.path.join("pages");
        fs::create_dir_all(pages.join("man")).unwrap();
        for name in ["man/hatchway.1", "man/hatchway-run.1", "man/hatchway-recon.1"] {
            fs::write(pages.join(name), "text\n").unwrap();
        }
        for program in ["hatchway", "hatchway-recon"] {
            for shell in ["bash", "zsh", "fish"] {
                fs::write(pages.join(format!("{program}.{shell}")), "text\n").unwrap();
            }
        }
        let inputs = Inputs {
            program: "/usr/bin/env".into(),
            shim: "/usr/bin/true".into(),
            recon: "/usr/bin/true".into(),
            pages,
            version: "1.2.3-1".to_owned(),
            epoch: "1767323040".to_owned(),
            workspace: sh::workspace().unwrap(),
        };
        let folders = ["one", "other"].map(|name| scratch.path.join(name));
        let made = folders.each_ref().map(|folder| {
            fs::create_dir(folder).unwrap();
            package::make(&inputs, folder).unwrap()
        });
        check(&made[0], &inputs).unwrap();
        assert_eq!(fs::read(&made[0]).unwrap(), fs::read(&made[1]).unwrap());
        let wrong = Inputs { version: "1.2.4-1".to_owned(), ..inputs };
        assert!(check(&made[0], &wrong).unwrap_err().to_string().contains("Version"));
    }

    #[test]
    fn maintainer_scripts_are_shell() {
        let folder = sh::workspace().unwrap().join("packaging/debian");
        for name in ["postinst", "prerm", "postrm"] {
            sh::run(Command::new("sh").arg("-n").arg(folder.join(name))).unwrap();
        }
    }
}
