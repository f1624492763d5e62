//! Where Debian's archive is: from the environment, Hatchway's configuration, or the host's own apt sources.
//!
//! No mirror is built in. The order is the environment variable, then the configuration, then apt.

use std::path::{Path, PathBuf};

use super::deb822;

/// The environment variable that names a mirror.
pub const MIRROR_VARIABLE: &str = "HATCHWAY_DEBIAN_MIRROR";
/// The environment variable that names a mirror of the security archive.
pub const SECURITY_MIRROR_VARIABLE: &str = "HATCHWAY_DEBIAN_SECURITY_MIRROR";

/// Where the keys of Debian's archive are on Debian and its children, newest name first.
const KEYRINGS: [&str; 2] =
    ["usr/share/keyrings/debian-archive-keyring.pgp", "usr/share/keyrings/debian-archive-keyring.gpg"];

/// Suites and code names by which an apt source is taken for Debian's main archive. Children of Debian use other names;
/// whether it is one is proved by its signature.
const DEBIAN_SUITES: [&str; 13] = [
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "sid",
    "stable",
    "oldstable",
    "oldoldstable",
    "testing",
    "unstable",
    "experimental",
    "buster",
];

/// What lies on a mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holds {
    /// Debian's main archive: every suite but those of the security archive.
    Main,
    /// Debian's security archive: `bookworm-security`, `buster/updates`.
    Security,
    /// Somebody else's archive: whatever is asked of it.
    All,
}

impl Holds {
    fn suite(self, suite: &str) -> bool {
        match self {
            Self::Main => !is_security(suite),
            Self::Security => is_security(suite),
            Self::All => true,
        }
    }
}

/// A mirror of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// URL of the folder that holds `dists` and `pool`, without a slash at the end.
    pub url: String,
    /// What lies there.
    pub holds: Holds,
    /// The suites it is used for, each with its updates; empty for all.
    pub suites: Vec<String>,
    /// The suites by which the host's source lists or the configuration name it; one that it lacks is told.
    pub named: Vec<String>,
    /// Whether an expired index is refused.
    pub check_valid_until: bool,
    /// Where the knowledge comes from, for messages ("apt", "hatchway.toml").
    pub origin: String,
}

impl Mirror {
    /// A mirror for every suite.
    #[must_use]
    pub fn new(url: &str, holds: Holds, origin: &str) -> Self {
        let url = url.trim_end_matches('/').to_owned();
        let (suites, named) = (Vec::new(), Vec::new());
        Self { url, holds, suites, named, check_valid_until: true, origin: origin.to_owned() }
    }

    /// Whether it is to be asked for a suite.
    #[must_use]
    pub fn serves(&self, suite: &str) -> bool {
        let named = |s: &String| s == suite || s == release_of(suite);
        self.holds.suite(suite) && (self.suites.is_empty() || self.suites.iter().any(named))
    }
}

/// The endings by which suites belong to a release.
const ENDINGS: [&str; 5] = ["-updates", "-security", "/updates", "-backports", "-proposed-updates"];

fn release_of(suite: &str) -> &str {
    ENDINGS.iter().find_map(|ending| suite.strip_suffix(ending)).unwrap_or(suite)
}

fn is_security(suite: &str) -> bool {
    suite.ends_with("-security") || suite.ends_with("/updates")
}

/// The suites that belong to a base beside the one it is named by: what was changed since the last point release.
#[must_use]
pub fn companions(suite: &str) -> Vec<String> {
    let rolling = matches!(suite, "sid" | "unstable" | "experimental");
    if rolling || suite.contains(['-', '/']) {
        return Vec::new();
    }
    // Until buster the security archive named its suites otherwise.
    let security = if suite == "buster" { "/updates" } else { "-security" };
    vec![format!("{suite}-updates"), format!("{suite}{security}")]
}

/// The Debian mirrors that the apt configuration below `root` names, in order, without duplicates.
#[must_use]
pub fn from_apt(root: &Path) -> Vec<Mirror> {
    let mut found = Vec::new();
    let folder = root.join("etc/apt/sources.list.d");
    let mut files = vec![root.join("etc/apt/sources.list")];
    let mut listed: Vec<PathBuf> =
        std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    listed.sort();
    files.extend(listed);
    for file in files {
        // A file that cannot be read is one that apt of this user would not use either.
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        match file.extension().and_then(|e| e.to_str()) {
            Some("list") => one_line_style(&text, &mut found),
            Some("sources") => deb822_style(&text, &mut found),
            _ => {}
        }
    }
    let mut mirrors: Vec<Mirror> = Vec::new();
    for (url, holds, suite) in found {
        let new = Mirror::new(&url, holds, "apt");
        let there = mirrors.iter_mut().find(|there| there.url == new.url && there.holds == new.holds);
        match there {
            Some(there) => there.named.push(suite),
            None => mirrors.push(Mirror { named: vec![suite], ..new }),
        }
    }
    mirrors
}

/// One line of a source list: URL, which archive, suite.
type Listed = (String, Holds, String);

/// Which of Debian's archives a source is, judged by the suite's name.
fn debian_archive(url: &str, suite: &str) -> Option<Holds> {
    let fetchable = url.starts_with("http://") || url.starts_with("https://");
    let known = fetchable && DEBIAN_SUITES.contains(&release_of(suite));
    known.then_some(if is_security(suite) { Holds::Security } else { Holds::Main })
}

fn one_line_style(text: &str, found: &mut Vec<Listed>) {
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let Some(rest) = line.strip_prefix("deb ").or_else(|| line.strip_prefix("deb\t")) else { continue };
        let rest = match rest.trim_start().strip_prefix('[') {
            Some(options) => options.split_once(']').map_or("", |(_, rest)| rest),
            None => rest,
        };
        let mut words = rest.split_whitespace();
        if let (Some(url), Some(suite)) = (words.next(), words.next())
            && let Some(holds) = debian_archive(url, suite)
            && words.any(|component| component == "main")
        {
            found.push((url.to_owned(), holds, suite.to_owned()));
        }
    }
}

fn deb822_style(text: &str, found: &mut Vec<Listed>) {
    for paragraph in deb822::paragraphs(text) {
        let words = |field: &str| paragraph.text(field).split_whitespace();
        if !words("Types").any(|t| t == "deb") || paragraph.text("Enabled").eq_ignore_ascii_case("no") {
            continue;
        }
        // Other archives use Debian's code names, but they call their components otherwise.
        if !words("Components").any(|component| component == "main") {
            continue;
        }
        for url in words("URIs") {
            let archives = words("Suites").filter_map(|suite| Some((debian_archive(url, suite)?, suite)));
            found.extend(archives.map(|(holds, suite)| (url.to_owned(), holds, suite.to_owned())));
        }
    }
}

/// The key rings of Debian's archive below `root`: the first that exists.
#[must_use]
pub fn keyrings(root: &Path) -> Vec<PathBuf> {
    KEYRINGS.iter().map(|path| root.join(path)).find(|path| path.exists()).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_styles_are_read_and_other_archives_left_out() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("etc/apt/sources.list.d");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(
            root.path().join("etc/apt/sources.list"),
            "# deb http://no.example/debian bookworm main\n\
             deb [arch=amd64 signed-by=/k] http://one.example/debian/ bookworm main # c\n\
             deb-src http://src.example/debian bookworm main\n\
             deb http://sec.example/debian-security bookworm-security main\n\
             deb cdrom:[x] bookworm main\n",
        )
        .unwrap();
        std::fs::write(
            folder.join("debian.sources"),
            "Types: deb deb-src\nURIs: https://two.example/debian http://one.example/debian\nSuites: trixie trixie-updates\nComponents: main\n\n\
             Types: deb\nEnabled: no\nURIs: http://off.example/debian\nSuites: trixie\nComponents: main\n\n\
             Types: deb\nURIs: http://docker.example/linux\nSuites: bookworm\nComponents: stable\n\n\
             Types: deb\nURIs: http://vendor.example/node\nSuites: nodistro\n",
        )
        .unwrap();
        std::fs::write(folder.join("x.list.bak"), "deb http://bak.example/debian sid main").unwrap();
        let mirrors = from_apt(root.path());
        let two = mirrors.iter().find(|mirror| mirror.url.contains("two.example")).unwrap();
        assert_eq!(two.named, ["trixie", "trixie-updates"]);
        let found: Vec<_> = mirrors.into_iter().map(|m| (m.url, m.holds)).collect();
        let expected = [
            ("http://one.example/debian", Holds::Main),
            ("http://sec.example/debian-security", Holds::Security),
            ("https://two.example/debian", Holds::Main),
        ];
        assert_eq!(found, expected.map(|(url, holds)| (url.to_owned(), holds)));
    }

    #[test]
    fn a_mirror_serves_what_lies_on_it_and_the_updates_of_its_suites() {
        let main =
            Mirror { suites: vec!["bookworm".into()], ..Mirror::new("http://a/", Holds::Main, "test") };
        let security = Mirror { holds: Holds::Security, ..main.clone() };
        let all = Mirror { holds: Holds::All, suites: Vec::new(), ..main.clone() };
        for (suite, expected) in [
            ("bookworm", [true, false, true]),
            ("bookworm-updates", [true, false, true]),
            ("bookworm-security", [false, true, true]),
            ("trixie", [false, false, true]),
            ("trixie-security", [false, false, true]),
            ("stable", [false, false, true]),
        ] {
            assert_eq!([&main, &security, &all].map(|mirror| mirror.serves(suite)), expected, "{suite}");
        }
        assert_eq!(companions("bookworm"), ["bookworm-updates", "bookworm-security"]);
        assert_eq!(companions("buster")[1], "buster/updates");
        assert_eq!(companions("sid"), [""; 0]);
        assert_eq!(companions("bookworm-backports"), [""; 0]);
    }

    #[test]
    fn no_apt_is_no_mirror() {
        assert!(from_apt(Path::new("/nonexistent")).is_empty());
        assert!(keyrings(Path::new("/nonexistent")).is_empty());
    }
}
