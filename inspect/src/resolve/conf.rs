//! The directories of `ld.so.conf`, as `ldconfig` of glibc reads them (`elf/ldconfig.c`, `parse_conf`).

/// Depth of `include`, files read and directories kept: a configuration has a few lines.
const INCLUDES: usize = 8;
const FILES: usize = 512;
const DIRECTORIES: usize = 1024;

/// What the parser asks of a root: the text of a file, and the names in a directory.
pub(super) trait Texts {
    /// The text of a file, whose path may lead through links.
    fn text(&self, path: &str) -> Option<String>;
    /// The names in a directory, in any order.
    fn names(&self, directory: &str) -> Vec<String>;
}

/// The directories of `/etc/ld.so.conf` and of what it includes, in order, each once.
pub(super) fn directories(texts: &dyn Texts) -> Vec<String> {
    let mut found = Vec::new();
    let mut files = FILES;
    read(texts, "/etc/ld.so.conf", 0, &mut files, &mut found);
    found
}

fn read(texts: &dyn Texts, file: &str, depth: usize, files: &mut usize, found: &mut Vec<String>) {
    if depth > INCLUDES || *files == 0 {
        return;
    }
    *files -= 1;
    for line in texts.text(file).unwrap_or_default().lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(patterns) = line.strip_prefix("include").filter(|rest| rest.starts_with([' ', '\t'])) {
            for pattern in patterns.split_whitespace() {
                let directory = file.rsplit_once('/').map_or("", |(directory, _)| directory);
                let pattern = if pattern.starts_with('/') {
                    pattern.to_owned()
                } else {
                    format!("{directory}/{pattern}")
                };
                for included in matching(texts, &pattern) {
                    read(texts, &included, depth + 1, files, found);
                }
            }
        } else if let Some(directory) = directory(line)
            && !found.contains(&directory)
            && found.len() < DIRECTORIES
        {
            found.push(directory);
        }
    }
}

/// A line that names a directory. `hwcap` lines are ignored by glibc since 2.33; `=libc5` and the like, behind a
/// directory, are dropped.
fn directory(line: &str) -> Option<String> {
    let path = line.split('=').next().unwrap_or_default().trim();
    let trimmed = path.trim_end_matches('/');
    match (path.starts_with('/'), trimmed.is_empty()) {
        (false, _) => None,
        (true, true) => Some("/".to_owned()),
        (true, false) => Some(trimmed.to_owned()),
    }
}

/// The files a pattern means, sorted, as `glob(3)` does; only the last component may hold wildcards.
fn matching(texts: &dyn Texts, pattern: &str) -> Vec<String> {
    let Some((directory, last)) = pattern.rsplit_once('/') else { return Vec::new() };
    if !last.contains(['*', '?', '[']) {
        return vec![pattern.to_owned()];
    }
    let wanted: Vec<char> = last.chars().collect();
    let mut names: Vec<String> = texts
        .names(if directory.is_empty() { "/" } else { directory })
        .into_iter()
        .filter(|name| !name.starts_with('.') || last.starts_with('.'))
        .filter(|name| glob(&wanted, &name.chars().collect::<Vec<_>>()))
        .collect();
    names.sort();
    names.into_iter().map(|name| format!("{directory}/{name}")).collect()
}

/// `fnmatch(3)` with `*`, `?` and sets: a star is tried shortest first, and only the last star is ever widened.
fn glob(pattern: &[char], name: &[char]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        let step = match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
                continue;
            }
            Some('?') => Some(p + 1),
            Some('[') => set(pattern, p, name[n]),
            Some(&literal) if literal == name[n] => Some(p + 1),
            _ => None,
        };
        match (step, star) {
            (Some(next), _) => (p, n) = (next, n + 1),
            (None, Some((at, from))) => {
                star = Some((at, from + 1));
                (p, n) = (at + 1, from + 1);
            }
            (None, None) => return false,
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|&c| c == '*')
}

/// The position behind a set that holds `c`.
fn set(pattern: &[char], at: usize, c: char) -> Option<usize> {
    let negated = matches!(pattern.get(at + 1), Some('!' | '^'));
    let first = at + 1 + usize::from(negated);
    let length = pattern.get(first + 1..)?.iter().position(|&end| end == ']')? + 1;
    let members = pattern.get(first..first + length)?;
    let mut inside = false;
    let mut i = 0;
    while let Some(&low) = members.get(i) {
        match (members.get(i + 1), members.get(i + 2)) {
            (Some('-'), Some(&high)) => {
                inside |= (low..=high).contains(&c);
                i += 3;
            }
            _ => {
                inside |= low == c;
                i += 1;
            }
        }
    }
    (inside != negated).then_some(first + length + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    struct Etc(BTreeMap<&'static str, &'static str>);

    impl Texts for Etc {
        fn text(&self, path: &str) -> Option<String> {
            self.0.get(path).map(|text| (*text).to_owned())
        }

        fn names(&self, directory: &str) -> Vec<String> {
            let prefix = format!("{directory}/");
            self.0.keys().rev().filter_map(|path| path.strip_prefix(&prefix)).map(str::to_owned).collect()
        }
    }

    #[test]
    fn includes_in_order() {
        let etc = Etc(BTreeMap::from([
            (
                "/etc/ld.so.conf",
                "/first/ # one\ninclude ld.so.conf.d/*.conf\nhwcap 0 x\nrelative\n/last\n/first\n",
            ),
            ("/etc/ld.so.conf.d/b.conf", "/b=libc6\ninclude /etc/ld.so.conf"),
            ("/etc/ld.so.conf.d/a.conf", "/a"),
            ("/etc/ld.so.conf.d/a.conf.old", "/no"),
            ("/etc/ld.so.conf.d/.hidden.conf", "/no"),
        ]));
        assert_eq!(directories(&etc), ["/first", "/a", "/b", "/last"]);
    }

    #[test]
    fn wildcards() {
        let matches = |pattern: &str, name: &str| {
            glob(&pattern.chars().collect::<Vec<_>>(), &name.chars().collect::<Vec<_>>())
        };
        for (pattern, name, expected) in [
            ("*.conf", "a.conf", true),
            ("*.conf", ".conf", true),
            ("*.conf", "a.conf.bak", false),
            ("a?c*", "abc", true),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]]x", "]x", true),
            ("[ab", "a", false),
            ("*a*b*c", "xxaxxbxxc", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
