//! Where Debian's archive is: from the environment, Hatchway's configuration, or the host's own apt sources.
//!
//! No mirror is built in. The order is the environment variable, then the configuration, then apt.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::deb822;

/// The environment variable that names a mirror.
pub const MIRROR_VARIABLE: &str = "HATCHWAY_DEBIAN_MIRROR";

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

/// A mirror of Debian's archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// URL of the folder that holds `dists` and `pool`, without a slash at the end.
    pub url: String,
    /// The suites it is used for; empty for all.
    pub suites: Vec<String>,
    /// Whether an expired index is refused.
    pub check_valid_until: bool,
    /// Where the knowledge comes from, for messages ("apt", "hatchway.toml").
    pub origin: String,
}

impl Mirror {
    /// A mirror for every suite.
    #[must_use]
    pub fn new(url: &str, origin: &str) -> Self {
        let url = url.trim_end_matches('/').to_owned();
        Self { url, suites: Vec::new(), check_valid_until: true, origin: origin.to_owned() }
    }

    /// Whether it is to be asked for a suite.
    #[must_use]
    pub fn serves(&self, suite: &str) -> bool {
        self.suites.is_empty() || self.suites.iter().any(|s| s == suite)
    }
}

/// The Debian mirrors that the apt configuration below `root` names, in order, without duplicates.
#[must_use]
pub fn from_apt(root: &Path) -> Vec<Mirror> {
    let mut urls = Vec::new();
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
            Some("list") => one_line_style(&text, &mut urls),
            Some("sources") => deb822_style(&text, &mut urls),
            _ => {}
        }
    }
    let mut seen = BTreeSet::new();
    urls.iter().map(|url| Mirror::new(url, "apt")).filter(|mirror| seen.insert(mirror.url.clone())).collect()
}

fn is_main_archive(url: &str, suite: &str) -> bool {
    let fetchable = url.starts_with("http://") || url.starts_with("https://");
    fetchable && DEBIAN_SUITES.contains(&suite.split("-updates").next().unwrap_or(suite))
}

fn one_line_style(text: &str, urls: &mut Vec<String>) {
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let Some(rest) = line.strip_prefix("deb ").or_else(|| line.strip_prefix("deb\t")) else { continue };
        let rest = match rest.trim_start().strip_prefix('[') {
            Some(options) => options.split_once(']').map_or("", |(_, rest)| rest),
            None => rest,
        };
        let mut words = rest.split_whitespace();
        if let (Some(url), Some(suite)) = (words.next(), words.next())
            && is_main_archive(url, suite)
            && words.any(|component| component == "main")
        {
            urls.push(url.to_owned());
        }
    }
}

fn deb822_style(text: &str, urls: &mut Vec<String>) {
    for paragraph in deb822::paragraphs(text) {
        let binary = paragraph.text("Types").split_whitespace().any(|t| t == "deb");
        if !binary || paragraph.text("Enabled").eq_ignore_ascii_case("no") {
            continue;
        }
        // Other archives use Debian's code names, but they call their components otherwise.
        if !paragraph.text("Components").split_whitespace().any(|component| component == "main") {
            continue;
        }
        let main =
            |url: &str| paragraph.text("Suites").split_whitespace().any(|suite| is_main_archive(url, suite));
        urls.extend(paragraph.text("URIs").split_whitespace().filter(|url| main(url)).map(str::to_owned));
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
        let urls: Vec<_> = from_apt(root.path()).into_iter().map(|m| m.url).collect();
        assert_eq!(urls, ["http://one.example/debian", "https://two.example/debian"]);
    }

    #[test]
    fn no_apt_is_no_mirror() {
        assert!(from_apt(Path::new("/nonexistent")).is_empty());
        assert!(keyrings(Path::new("/nonexistent")).is_empty());
    }
}
