//! Manifests: what a tree or an unpacked package holds, as canonical mtree(5) text.
//!
//! The text is the same for the same content on every machine, and the digest of a tree is the digest of its
//! manifest. Form: a first line `#mtree`, then one line an entry, sorted by path, with the keywords in the order
//! `type mode uid gid size sha256digest link`. Bytes outside of the printable ASCII range, blanks, `#` and
//! backslashes are written as three octal digits, as vis(3) does with `VIS_OCTAL`.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::digest::Sha256;

/// As many links as the kernel follows in one path.
const LINKS_MAX: usize = 40;
/// Bytes of a path that links lead to; Linux refuses longer ones. Without it few links lead to any depth.
const PATH_BYTES_MAX: usize = 4095;
/// The mode of every folder in a tree.
pub const DIRECTORY_MODE: u32 = 0o755;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A folder.
    Directory,
    /// A file: an object of the store.
    File {
        /// Its digest.
        sha256: Sha256,
        /// Its size in bytes.
        size: u64,
        /// Whether it may be executed: mode 0555 instead of 0444.
        executable: bool,
    },
    /// A symbolic link.
    Link {
        /// Where it points, as written.
        target: String,
    },
}

/// Entries by path, without a leading slash.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    /// The entries. A folder of an entry is itself an entry.
    pub nodes: BTreeMap<String, Node>,
}

impl Manifest {
    /// Adds a node and the folders above it that are missing.
    pub fn insert(&mut self, path: &str, node: Node) {
        for (slash, _) in path.match_indices('/') {
            self.nodes.entry(path[..slash].to_owned()).or_insert(Node::Directory);
        }
        self.nodes.insert(path.to_owned(), node);
    }

    /// Where a path leads, all links followed, inside the tree.
    ///
    /// # Errors
    /// When it leads through more links than the kernel would follow.
    pub fn resolve(&self, path: &str) -> Result<String, String> {
        self.follow(path, |_| {})
    }

    /// The links that a path leads through, and last where it leads.
    ///
    /// # Errors
    /// When it leads through more links than the kernel would follow.
    pub fn way(&self, path: &str) -> Result<Vec<String>, String> {
        let mut way = Vec::new();
        let end = self.follow(path, |link| way.push(link.to_owned()))?;
        way.push(end);
        Ok(way)
    }

    fn follow(&self, path: &str, mut passed: impl FnMut(&str)) -> Result<String, String> {
        let mut pending: Vec<String> = parts(path);
        let mut resolved: Vec<String> = Vec::new();
        let mut links = 0;
        while let Some(part) = pending.pop() {
            if part == ".." {
                resolved.pop();
                continue;
            }
            resolved.push(part);
            let place = resolved.join("/");
            if let Some(Node::Link { target }) = self.nodes.get(&place) {
                links += 1;
                if links > LINKS_MAX {
                    return Err(format!("`/{path}` leads through too many links"));
                }
                passed(&place);
                resolved.pop();
                if target.starts_with('/') {
                    resolved.clear();
                }
                pending.extend(parts(target));
            }
        }
        let resolved = resolved.join("/");
        if resolved.len() > PATH_BYTES_MAX {
            return Err(format!("`/{path}` leads to a path of more than {PATH_BYTES_MAX} bytes"));
        }
        Ok(resolved)
    }

    /// Where a path leads, with every folder on the way resolved but not its last part.
    ///
    /// # Errors
    /// When it leads through more links than the kernel would follow.
    pub fn resolve_parent(&self, path: &str) -> Result<String, String> {
        let path = path.trim_matches('/');
        match path.rsplit_once('/') {
            None => Ok(path.to_owned()),
            Some((folder, name)) => {
                let folder = self.resolve(folder)?;
                Ok(if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") })
            }
        }
    }

    /// The paths below a folder, itself not among them.
    #[must_use]
    pub fn below(&self, path: &str) -> Vec<String> {
        let prefix = format!("{path}/");
        let below = self.nodes.range(prefix.clone()..).map(|(path, _)| path);
        below.take_while(|path| path.starts_with(&prefix)).cloned().collect()
    }

    /// Removes what is at a path itself, no link followed, and all that is below it.
    pub fn remove(&mut self, path: &str) {
        for path in self.below(path).iter().map(String::as_str).chain([path]) {
            self.nodes.remove(path);
        }
    }

    /// Checks that every entry's folder is a folder of the manifest, and that its name is one. Only then may a tree be
    /// made of it by path: a link among the folders would lead out onto the host.
    ///
    /// # Errors
    /// The entry that is wrong.
    pub fn check(&self) -> Result<(), String> {
        for path in self.nodes.keys() {
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
            let named = !matches!(name, "" | "." | "..");
            let placed = folder.is_empty() && !path.starts_with('/')
                || matches!(self.nodes.get(folder), Some(Node::Directory));
            if !named || !placed {
                return Err(format!("`/{path}` does not lie in a folder of the tree"));
            }
        }
        Ok(())
    }

    /// The canonical text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::from("#mtree\n");
        for (path, node) in &self.nodes {
            text.push_str("./");
            encode(path, &mut text);
            let written = match node {
                Node::Directory => writeln!(text, " type=dir mode=0{DIRECTORY_MODE:o} uid=0 gid=0"),
                Node::File { sha256, size, executable } => {
                    let mode = if *executable { "0555" } else { "0444" };
                    writeln!(text, " type=file mode={mode} uid=0 gid=0 size={size} sha256digest={sha256}")
                }
                Node::Link { target } => {
                    text.push_str(" type=link mode=0777 uid=0 gid=0 link=");
                    encode(target, &mut text);
                    writeln!(text)
                }
            };
            debug_assert!(written.is_ok(), "a string takes everything");
        }
        text
    }

    /// The digest of the canonical text.
    #[must_use]
    pub fn digest(&self) -> Sha256 {
        Sha256::of(self.to_text().as_bytes())
    }

    /// Reads what [`Self::to_text`] wrote.
    ///
    /// # Errors
    /// The line that cannot be read.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let entries =
            lines.map(|line| parse_line(line).ok_or_else(|| format!("cannot read the line `{line}`")));
        Ok(Self { nodes: entries.collect::<Result<_, _>>()? })
    }
}

/// The parts of a path, last first.
fn parts(path: &str) -> Vec<String> {
    path.split('/').rev().filter(|part| !part.is_empty() && *part != ".").map(str::to_owned).collect()
}

fn parse_line(line: &str) -> Option<(String, Node)> {
    let mut words = line.split(' ');
    let path = decode(words.next()?.strip_prefix("./")?)?;
    let [mut kind, mut mode, mut size, mut sha256, mut link] = [None; 5];
    for (keyword, value) in words.filter_map(|word| word.split_once('=')) {
        let place = match keyword {
            "type" => &mut kind,
            "mode" => &mut mode,
            "size" => &mut size,
            "sha256digest" => &mut sha256,
            "link" => &mut link,
            _ => continue,
        };
        *place = Some(value);
    }
    let node = match kind? {
        "dir" => Node::Directory,
        "link" => Node::Link { target: decode(link?)? },
        "file" => Node::File {
            sha256: sha256?.parse().ok()?,
            size: size?.parse().ok()?,
            executable: mode? == "0555",
        },
        _ => return None,
    };
    Some((path, node))
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'#')
}

fn encode(text: &str, encoded: &mut String) {
    if text.bytes().all(is_plain) {
        encoded.push_str(text);
        return;
    }
    for byte in text.bytes() {
        if is_plain(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("\\{byte:03o}"));
        }
    }
}

fn decode(text: &str) -> Option<String> {
    if !text.contains('\\') {
        return Some(text.to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first == b'\\' {
            let digits = std::str::from_utf8(after.get(..3)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 8).ok()?);
            rest = &after[3..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_text_is_canonical() {
        let mut manifest = Manifest::default();
        manifest.insert("usr/lib/a b", Node::Link { target: "ü".into() });
        manifest.insert("usr/bin/x", Node::File { sha256: Sha256::of(b""), size: 0, executable: true });
        let text = manifest.to_text();
        assert_eq!(
            text,
            format!(
                "#mtree\n./usr type=dir mode=0755 uid=0 gid=0\n./usr/bin type=dir mode=0755 uid=0 gid=0\n\
                 ./usr/bin/x type=file mode=0555 uid=0 gid=0 size=0 sha256digest={}\n\
                 ./usr/lib type=dir mode=0755 uid=0 gid=0\n\
                 ./usr/lib/a\\040b type=link mode=0777 uid=0 gid=0 link=\\303\\274\n",
                Sha256::of(b"")
            )
        );
        assert_eq!(Manifest::parse(&text).unwrap(), manifest);
    }

    #[test]
    fn an_entry_below_a_link_is_no_tree() {
        let mut manifest = Manifest::default();
        manifest.insert("root", Node::Link { target: "/home".into() });
        manifest.check().unwrap();
        manifest.nodes.insert("root/x".into(), Node::Directory);
        assert!(manifest.check().is_err());
        for path in ["/x", "a/..", "a//b", "", "a/"] {
            let mut manifest = Manifest::default();
            manifest.nodes.insert(path.into(), Node::Directory);
            assert!(manifest.check().is_err(), "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_name_survives(path in "[^/\\x00]{1,20}", target in "[^\\x00]{1,20}") {
            let mut manifest = Manifest::default();
            manifest.insert(&path, Node::Link { target });
            prop_assert_eq!(Manifest::parse(&manifest.to_text()).unwrap(), manifest);
        }

        #[test]
        fn parsing_never_panics(text in "\\PC{0,100}") {
            drop(Manifest::parse(&text));
        }
    }
}
