//! Maintainer scripts: read, never run. What they would have done is done by the builder, or told.
//!
//! Only `preinst` and `postinst` matter: a tree is made once and never upgraded or removed. A script is brought to a
//! normal form (comments, blocks that debhelper wrote, and statements that do nothing are taken out) and then known by
//! its hash.

use std::collections::BTreeMap;

use crate::digest::Sha256;

/// What a script means for a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Class {
    /// It does nothing at a first installation.
    NoOp,
    /// The builder does the same; the reasons say how.
    Handled(Vec<&'static str>),
    /// Nobody has read it; the hash names its normal form.
    Unknown {
        /// The first 12 digits of the normal form's digest.
        hash: String,
    },
}

/// One alternative that a script registers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Alternative {
    pub(crate) link: String,
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) priority: i64,
}

/// debhelper's blocks by the tool that wrote them, and why they need no running.
const DEBHELPER: &[(&str, &str)] = &[
    ("dh_makeshlibs", "ld.so.cache is made by the builder"),
    ("dh_installdeb", "renamed or removed configuration files concern upgrades only"),
    ("dh_installdocs", "documentation links concern upgrades only"),
    ("dh_installsystemd", "units are not enabled in a tree"),
    ("dh_installsystemduser", "units are not enabled in a tree"),
    ("dh_installinit", "init scripts are not enabled in a tree"),
    ("dh_systemd_enable", "units are not enabled in a tree"),
    ("dh_systemd_start", "units are not started in a tree"),
    ("dh_python3", "byte code is not part of a tree"),
    ("dh_installdebconf", "questions are not asked"),
    ("dh_installmenu", "menus are not part of a tree"),
    ("dh_usrlocal", "/usr/local is there"),
    ("dh_installtmpfiles", "volatile files are made at launch"),
    ("dh_perl", "nothing is registered"),
];

/// Normal forms that somebody has read: hash, whose it is, why it needs no running. Found by `hatchway build`, which
/// names the hash of a script that is not here.
#[rustfmt::skip] // a table: one line each
const KNOWN: &[(&str, &str, &str)] = &[
    ("97ab8c7a8907", "base-files", "folders, links and default files are made by the builder"), // bookworm postinst
    ("cc71c437fa34", "base-files", "folders, links and default files are made by the builder"), // trixie preinst
    ("9396e6ac7fce", "base-files", "folders, links and default files are made by the builder"), // trixie postinst
    ("e74e60a5d5d8", "base-files", "folders, links and default files are made by the builder"), // bullseye postinst
    ("3a2312ad98f8", "bash", "/bin/sh is dash's; menus are not part of a tree"), // bookworm-trixie postinst
    ("ab85477eb485", "bash", "/bin/sh is dash's; menus are not part of a tree"), // bullseye preinst
    ("e52f382e63eb", "bash", "/bin/sh is dash's; menus are not part of a tree"), // bullseye postinst
    ("a185fea12d03", "ca-certificates", "the certificates are joined by the builder"), // all postinst
    ("6c15af81a0da", "coreutils", "/usr/bin/touch is there, /usr being merged"), // bookworm postinst
    ("3dade571f588", "coreutils", "/usr/bin/touch is there, /usr being merged"), // bullseye postinst
    ("c8a51d3c13fe", "dash", "/bin/sh is made by the builder"), // bookworm postinst
    ("d4cfe15757a7", "dash", "/bin/sh is made by the builder"), // trixie preinst
    ("f7de222703bf", "dash", "/bin/sh is made by the builder"), // trixie postinst
    ("01f3e638a056", "dash", "/bin/sh is made by the builder"), // bullseye postinst
    ("3d629fba5cd1", "debianutils", "/etc/shells is made by the builder, `which` by its alternative"), // bookworm postinst
    ("9cb2146c6548", "debianutils", "/etc/shells is made by the builder, `which` by its alternative"), // trixie postinst
    ("c6605c800f2a", "debianutils", "/etc/shells is made by the builder, `which` by its alternative"), // bullseye postinst
    ("4321593bd35f", "libc-bin", "nsswitch.conf and ld.so.cache are made by the builder"), // bookworm-trixie postinst
    ("dc91db72fd1a", "libc-bin", "nsswitch.conf and ld.so.cache are made by the builder"), // bullseye postinst
    ("9b48cee84fe0", "libc6", "services are not restarted, the kernel is not judged; ld.so.cache is made by the builder"), // bookworm preinst
    ("749819c6ff5e", "libc6", "services are not restarted, the kernel is not judged; ld.so.cache is made by the builder"), // bookworm postinst
    ("66df55e07624", "libc6", "services are not restarted, the kernel is not judged; ld.so.cache is made by the builder"), // trixie preinst
    ("ebfa67931c20", "libc6", "services are not restarted, the kernel is not judged; ld.so.cache is made by the builder"), // trixie postinst
    ("12f80805d2a7", "libc6", "services are not restarted, the kernel is not judged; ld.so.cache is made by the builder"), // bullseye preinst
    ("a278d93f53b0", "libc6", "services are not restarted, the kernel is not judged; ld.so.cache is made by the builder"), // bullseye postinst
    ("3f310ff51715", "libgcrypt20", "it cleans up after upgrades only"), // bookworm postinst
    ("01e2066ac2c4", "libselinux1", "SELinux's caches concern upgrades and running systems"), // trixie postinst
    ("50ee1110cd77", "libssl1.1", "services are not restarted"), // bullseye postinst
    ("a7b0272be77a", "netbase", "/etc/networks is made by the builder, /etc/hosts at launch"), // bookworm-bullseye postinst
    ("5c9061a96f3d", "netbase", "/etc/networks is made by the builder, /etc/hosts at launch"), // trixie postinst
    ("1af5590f565d", "procps", "kernel settings are the host's"), // bookworm-bullseye postinst
    ("3451a24e1b02", "procps", "kernel settings are the host's"), // trixie postinst
    ("3f48c493dbae", "procps", "kernel settings are the host's"), // bullseye preinst
    ("ace8fd5f5a44", "readline-common", "/etc/inputrc is made by the builder"), // bookworm postinst
    ("143680552150", "tzdata", "the time zone is UTC, set by the builder"), // bookworm postinst
    ("30aeb9445e46", "tzdata", "the time zone is UTC, set by the builder"), // trixie postinst
    ("12431b61ca0d", "tzdata", "the time zone is UTC, set by the builder"), // bullseye postinst
];

/// Classifies a script by its name and text. `version` is the package's own, which scripts repeat and which therefore
/// is not part of the normal form.
#[must_use]
pub fn classify(name: &str, text: &str, version: &str) -> Class {
    if !matches!(name, "preinst" | "postinst") {
        return Class::NoOp;
    }
    let (mut reasons, rest) = normalise(text);
    if rest.is_empty() {
        return if reasons.is_empty() { Class::NoOp } else { Class::Handled(reasons) };
    }
    let mut form = rest.join("\n");
    if !version.is_empty() {
        form = form.replace(version, "VERSION");
    }
    let hash = Sha256::of(form.as_bytes()).short();
    match KNOWN.iter().find(|(known, _, _)| *known == hash) {
        Some((_, _, reason)) => {
            reasons.push(reason);
            Class::Handled(reasons)
        }
        None => Class::Unknown { hash },
    }
}

/// The reasons found on the way, and the statements that are left.
fn normalise(text: &str) -> (Vec<&'static str>, Vec<String>) {
    let mut reasons = Vec::new();
    let mut rest = Vec::new();
    let mut in_block = false;
    for line in joined_lines(text) {
        let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some(tool) = line.strip_prefix("# Automatically added by ") {
            let tool = tool.split('/').next().unwrap_or(tool);
            if let Some((_, reason)) = DEBHELPER.iter().find(|(known, _)| *known == tool) {
                in_block = true;
                reasons.push(*reason);
            }
        } else if line.starts_with("# End automatically added") {
            in_block = false;
        } else if !in_block && !line.starts_with('#') && !line.is_empty() {
            if alternatives_of(&line).is_some() {
                reasons.push("alternatives are made by the builder");
            } else {
                rest.push(line);
            }
        }
    }
    reasons.sort_unstable();
    reasons.dedup();
    if rest.iter().all(|line| is_idle(line)) {
        rest.clear();
    }
    (reasons, rest)
}

/// Statements that do nothing by themselves: the skeleton that is left when every command is gone.
fn is_idle(line: &str) -> bool {
    const IDLE: [&str; 16] = [
        "set -e",
        "set -eu",
        "exit 0",
        ":",
        ";;",
        "esac",
        "fi",
        "else",
        "then",
        "true",
        "case \"$1\" in",
        "case $1 in",
        "set -u",
        "case \"${1}\" in",
        "case \"$1\" in configure)",
        "exit 0;",
    ];
    let tests = line.replace("||", "").replace("&&", "");
    let condition =
        line.starts_with("if [") && line.ends_with("; then") && !tests.contains(['`', '(', '|', '&', '>']);
    let pattern =
        line.ends_with(')') && line.chars().all(|c| c.is_ascii_alphanumeric() || "-|*) \"'".contains(c));
    let message = line.starts_with("echo ") && !line.contains(['>', '|', '`', '$', ';', '&'])
        || line.starts_with("echo ")
            && line.ends_with(">&2")
            && line.matches('>').count() == 1
            && !line.contains(['|', '`', ';'])
            && !line.contains("$(");
    IDLE.contains(&line) || condition || pattern || message || line == "exit 1"
}

/// Lines with their continuations.
fn joined_lines(text: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut open = false;
    for line in text.lines() {
        let (body, continues) = match line.strip_suffix('\\') {
            Some(body) => (body, true),
            None => (line, false),
        };
        match all.last_mut().filter(|_| open) {
            Some(last) => {
                last.push(' ');
                last.push_str(body);
            }
            None => all.push(body.to_owned()),
        }
        open = continues;
    }
    all
}

/// All alternatives that a script registers with literal words.
pub(crate) fn alternatives(text: &str) -> Vec<Alternative> {
    joined_lines(text).iter().filter_map(|line| alternatives_of(line)).flatten().collect()
}

fn alternatives_of(line: &str) -> Option<Vec<Alternative>> {
    let words: Vec<&str> = line.split_whitespace().collect();
    if !words.first()?.ends_with("update-alternatives") || line.contains(['$', '`', ';', '|']) {
        return None;
    }
    let words: Vec<&str> = words.into_iter().filter(|word| *word != "--quiet").collect();
    let at = words.iter().position(|word| *word == "--install")?;
    let [link, name, path, priority] = words.get(at + 1..at + 5)? else { return None };
    let priority = priority.parse().ok()?;
    let new = |link: &str, name: &str, path: &str| Alternative {
        link: link.to_owned(),
        name: name.to_owned(),
        path: path.to_owned(),
        priority,
    };
    let mut all = vec![new(link, name, path)];
    let mut rest = &words[at + 5..];
    while let [first, link, name, path, after @ ..] = rest {
        if *first != "--slave" {
            return None;
        }
        all.push(new(link, name, path));
        rest = after;
    }
    rest.is_empty().then_some(all)
}

/// Of all alternatives, the one of each name that counts: the highest priority, then the first path.
pub(crate) fn chosen(mut all: Vec<Alternative>, exists: &dyn Fn(&str) -> bool) -> Vec<Alternative> {
    all.retain(|alternative| exists(&alternative.path));
    all.sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| a.path.cmp(&b.path)));
    let mut by_name: BTreeMap<String, Alternative> = BTreeMap::new();
    for alternative in all {
        by_name.entry(alternative.name.clone()).or_insert(alternative);
    }
    by_name.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debhelper_blocks_and_skeletons_are_no_work() {
        let text = "#!/bin/sh\nset -e\n# Automatically added by dh_makeshlibs/13.11\nif [ x ]; then\n  ldconfig\nfi\n# End automatically added section\nexit 0\n";
        assert_eq!(
            classify("postinst", text, ""),
            Class::Handled(vec!["ld.so.cache is made by the builder"])
        );
        assert_eq!(
            classify("postinst", "#!/bin/sh\nset -e\ncase \"$1\" in\n configure)\n ;;\nesac\n", ""),
            Class::NoOp
        );
        assert_eq!(classify("postrm", "rm -rf /", ""), Class::NoOp);
    }

    #[test]
    fn an_unknown_command_is_never_a_no_op() {
        for command in [
            "rm -rf /etc/x",
            "echo x > /etc/y",
            "if test -e x; then rm y; fi",
            "ldconfig",
            "useradd acme",
            "echo `id`",
        ] {
            assert!(
                matches!(
                    classify("postinst", &format!("#!/bin/sh\nset -e\n{command}\n"), ""),
                    Class::Unknown { .. }
                ),
                "{command}"
            );
        }
        let block = "# Automatically added by dh_unheard_of\nrm -rf /etc\n# End automatically added section";
        assert!(matches!(classify("postinst", block, ""), Class::Unknown { .. }));
    }

    #[test]
    fn the_hash_does_not_see_comments_and_blanks() {
        let one = classify("postinst", "#!/bin/sh\n\nuseradd   acme # no\n", "");
        let two = classify("postinst", "#!/bin/sh\n# a comment\n  useradd acme # no", "");
        assert_eq!(one, two);
    }

    #[test]
    fn alternatives_with_slaves_are_read() {
        let text = "  update-alternatives --quiet --install /usr/bin/awk awk /usr/bin/mawk 5 \\\n   --slave /usr/bin/nawk nawk /usr/bin/mawk\nupdate-alternatives --install $X";
        let all = alternatives(text);
        assert_eq!(all.len(), 2);
        assert_eq!(all[1].link, "/usr/bin/nawk");
        let gawk = Alternative {
            link: "/usr/bin/awk".into(),
            name: "awk".into(),
            path: "/usr/bin/gawk".into(),
            priority: 10,
        };
        let chosen = chosen([all, vec![gawk.clone()]].concat(), &|path| path.ends_with("awk"));
        assert_eq!(chosen[0], gawk);
    }
}
