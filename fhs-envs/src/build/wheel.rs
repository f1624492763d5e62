//! One wheel to one manifest, installed as pip would on Debian: below `/usr/local`, in `dist-packages`.
//!
//! Sources: "Binary distribution format" (PEP 427), "Recording installed projects" (PEP 376, PEP 627), "Entry points" of
//! the PyPA specifications. No byte code is made: a tree is read-only, and byte code names the time of its source.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use hatchway_inspect::archive::{self, Entry, EntryKind, Limits, Part};

use super::unpack::Layout;
use crate::digest::Sha256;
use crate::error::Error;
use crate::store::Workspace;
use crate::store::manifest::{Manifest, Node};

/// Where everything of a wheel goes.
const PREFIX: &str = "usr/local";
/// The tree's Python, as scripts name it.
const INTERPRETER: &str = "/usr/bin/python3";
/// What is read whole: lists of entry points, and scripts that name no interpreter of their own. The largest lists have
/// some KiB.
const TEXT_BYTES_MAX: u64 = 16 << 20;
/// Programs of one wheel: those that make hundreds are not Python's.
const PROGRAMS_MAX: usize = 4096;

/// Installs a wheel.
pub(super) fn unpack(
    workspace: &Workspace<'_>,
    archive: &Path,
    key: &str,
    layout: &Layout,
    python: &str,
) -> Result<Manifest, Error> {
    let mut wheel = Installing {
        workspace,
        key,
        name: &layout.file_name,
        python,
        manifest: Manifest::default(),
        info: None,
        entry_points: String::new(),
        files: 0,
    };
    archive::walk(archive, &Limits::default(), &mut |part, entry, content| {
        wheel.entry(part, entry, content)
    })?;
    wheel.programs()?;
    wheel.record()?;
    workspace.add_package(key, &wheel.manifest)?;
    Ok(wheel.manifest)
}

/// The folder of the tree that packages are installed to, as Debian's Python of that version searches it; without a
/// slash at its beginning.
#[must_use]
pub fn packages_folder(python: &str) -> String {
    format!("{PREFIX}/lib/python{python}/dist-packages")
}

struct Installing<'a> {
    workspace: &'a Workspace<'a>,
    key: &'a str,
    name: &'a str,
    python: &'a str,
    manifest: Manifest,
    /// The wheel's own `.dist-info` folder.
    info: Option<String>,
    entry_points: String,
    files: u64,
}

impl Installing<'_> {
    fn bad(&self, reason: impl Into<String>) -> Error {
        Error::BadLayout { package: self.name.to_owned(), reason: reason.into() }
    }

    fn entry(&mut self, part: Part, entry: &Entry, content: &mut dyn Read) -> Result<(), Error> {
        if part != Part::Data {
            return Ok(());
        }
        let path = entry.path.as_str();
        let (top, below) = path.split_once('/').unwrap_or((path, ""));
        if top.ends_with(".dist-info") && !below.is_empty() {
            if self.info.as_deref().is_some_and(|info| info != top) {
                return Err(self.bad("it has two `.dist-info` folders"));
            }
            self.info = Some(top.to_owned());
        }
        let is_script = top.ends_with(".data") && below.starts_with("scripts/");
        let Some(place) = self.place(top, below, path)? else { return Ok(()) };
        match &entry.kind {
            EntryKind::File { .. } => self.member(&place, is_script, entry, content),
            EntryKind::Directory => Ok(()),
            // Python's own reader of zip archives, and so pip, knows none of these.
            _ => Err(self.bad(format!("`{path}` is neither a file nor a folder"))),
        }
    }

    /// Where a member goes; none for what is made anew.
    fn place(&self, top: &str, below: &str, path: &str) -> Result<Option<String>, Error> {
        if top.ends_with(".dist-info")
            && matches!(below, "RECORD" | "RECORD.jws" | "RECORD.p7s" | "INSTALLER")
        {
            return Ok(None);
        }
        let Some(distribution) = top.strip_suffix(".data").filter(|_| !below.is_empty()) else {
            return Ok(Some(format!("{}/{path}", packages_folder(self.python))));
        };
        let Some((scheme, rest)) = below.split_once('/').filter(|(_, rest)| !rest.is_empty()) else {
            return Ok(None);
        };
        let name = distribution.split('-').next().unwrap_or(distribution);
        match scheme {
            "purelib" | "platlib" => Ok(Some(format!("{}/{rest}", packages_folder(self.python)))),
            "scripts" => Ok(Some(format!("{PREFIX}/bin/{rest}"))),
            "data" => Ok(Some(format!("{PREFIX}/{rest}"))),
            "headers" => Ok(Some(format!("{PREFIX}/include/python{}/{name}/{rest}", self.python))),
            other => Err(self.bad(format!("`{path}` belongs to `{other}`, which is no place of a wheel's"))),
        }
    }

    fn member(
        &mut self,
        place: &str,
        is_script: bool,
        entry: &Entry,
        content: &mut dyn Read,
    ) -> Result<(), Error> {
        let read = |from: &mut dyn Read, into: &mut Vec<u8>, bound: u64| {
            from.take(bound).read_to_end(into).map_err(Error::io("read", place))
        };
        let mut head = Vec::new();
        read(content, &mut head, 8)?;
        let executable = is_script || entry.mode & 0o111 != 0 || head.starts_with(b"\x7fELF");
        let is_list = place.ends_with(".dist-info/entry_points.txt");
        if is_list || (is_script && head == b"#!python") {
            read(content, &mut head, TEXT_BYTES_MAX)?;
        }
        if is_list {
            self.entry_points = String::from_utf8_lossy(&head).into_owned();
        } else if is_script && head.starts_with(b"#!python") {
            let end = head.iter().position(|byte| *byte == b'\n').unwrap_or(head.len());
            head = [format!("#!{INTERPRETER}").as_bytes(), &head[end..]].concat();
        }
        self.file(place, executable, &mut head.as_slice().chain(content))
    }

    fn file(&mut self, place: &str, executable: bool, content: &mut dyn Read) -> Result<(), Error> {
        self.files += 1;
        let number = format!("{}-{}", &self.key[self.key.len().saturating_sub(12)..], self.files);
        let unique = format!("{}-{number}", &self.key[..16]);
        let (sha256, size) = self.workspace.add(content, executable, &unique)?;
        if matches!(self.manifest.nodes.get(place), Some(Node::Directory)) {
            return Err(self.bad(format!("`/{place}` is a folder and a file")));
        }
        self.manifest.insert(place, Node::File { sha256, size, executable });
        Ok(())
    }

    /// Makes the programs that the list of entry points asks for.
    fn programs(&mut self) -> Result<(), Error> {
        for (name, module, attribute) in self.entry_point_programs()? {
            let function = attribute.split('.').next().unwrap_or(&attribute);
            let text = format!(
                "#!{INTERPRETER}\nimport sys\nfrom {module} import {function}\nif __name__ == \"__main__\":\n    \
                 sys.exit({attribute}())\n"
            );
            self.file(&format!("{PREFIX}/bin/{name}"), true, &mut text.as_bytes())?;
        }
        Ok(())
    }

    fn entry_point_programs(&self) -> Result<Vec<(String, String, String)>, Error> {
        let mut found: BTreeMap<String, (String, String)> = BTreeMap::new();
        for (name, target) in programs_of(&self.entry_points) {
            let wrong = || self.bad(format!("its entry point `{name}` is not understood"));
            let target = target.split('[').next().unwrap_or(&target).trim();
            let (module, attribute) = target.split_once(':').ok_or_else(wrong)?;
            let identifiers = |text: &str| text.split('.').all(is_identifier);
            let (module, attribute) = (module.trim(), attribute.trim());
            if !is_file_name(&name) || !identifiers(module) || !identifiers(attribute) {
                return Err(wrong());
            }
            found.insert(name, (module.to_owned(), attribute.to_owned()));
        }
        if found.len() > PROGRAMS_MAX {
            return Err(self.bad(format!("it has more than {PROGRAMS_MAX} entry points")));
        }
        Ok(found.into_iter().map(|(name, (module, attribute))| (name, module, attribute)).collect())
    }

    /// Writes `INSTALLER` and `RECORD`, by which Python's tools know what is installed.
    fn record(&mut self) -> Result<(), Error> {
        let Some(info) = self.info.clone() else { return Err(self.bad("it has no `.dist-info` folder")) };
        let folder = packages_folder(self.python);
        self.file(&format!("{folder}/{info}/INSTALLER"), false, &mut &b"hatchway\n"[..])?;
        let mut rows: Vec<String> = Vec::new();
        for (path, node) in &self.manifest.nodes {
            if let Node::File { sha256, size, .. } = node {
                let path = relative_to_packages(path, &folder);
                rows.push(format!("{},sha256={},{size}\n", quoted(&path), base64(*sha256)));
            }
        }
        rows.push(format!("{},,\n", quoted(&format!("{info}/RECORD"))));
        rows.sort();
        self.file(&format!("{folder}/{info}/RECORD"), false, &mut rows.concat().as_bytes())
    }
}

/// The programs that a list of entry points (`entry_points.txt`) names: name and target.
#[must_use]
pub fn programs_of(entry_points: &str) -> Vec<(String, String)> {
    let mut section = "";
    let mut found = Vec::new();
    for line in entry_points.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.trim();
        } else if matches!(section, "console_scripts" | "gui_scripts")
            && !line.starts_with(['#', ';'])
            && let Some((name, target)) = line.split_once('=')
        {
            found.push((name.trim().to_owned(), target.trim().to_owned()));
        }
    }
    found
}

fn is_identifier(text: &str) -> bool {
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    starts && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn is_file_name(text: &str) -> bool {
    !matches!(text, "" | "." | "..") && text.chars().all(|c| c.is_ascii_graphic() && c != '/')
}

/// A path as `RECORD` writes it: below the folder of packages by itself, others by `..`.
fn relative_to_packages(path: &str, folder: &str) -> String {
    if let Some(rest) = path.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/')) {
        return rest.to_owned();
    }
    let rest = path.strip_prefix(PREFIX).unwrap_or(path).trim_start_matches('/');
    format!("../../../{rest}")
}

/// A field of a line of comma-separated values.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// A digest in the alphabet of URLs without padding (RFC 4648, section 5), as `RECORD` has it.
fn base64(digest: Sha256) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let hex = digest.hex();
    let nibble = |at: usize| hex.as_bytes().get(at).map_or(0, |c| char::from(*c).to_digit(16).unwrap_or(0));
    // Three digits of four bits are two of six.
    let sixes = (0..hex.len().div_ceil(3)).flat_map(|group| {
        let bits = nibble(group * 3) << 8 | nibble(group * 3 + 1) << 4 | nibble(group * 3 + 2);
        [bits >> 6, bits & 63]
    });
    sixes.take((hex.len() * 4).div_ceil(6)).map(|six| char::from(ALPHABET[six as usize])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_written_as_in_record() {
        // From `pip`'s RECORD of an empty `__init__.py`.
        assert_eq!(base64(Sha256::of(b"")), "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU");
    }

    #[test]
    fn paths_are_written_as_in_record() {
        let folder = packages_folder("3.11");
        assert_eq!(folder, "usr/local/lib/python3.11/dist-packages");
        assert_eq!(relative_to_packages(&format!("{folder}/x/y.py"), &folder), "x/y.py");
        assert_eq!(relative_to_packages("usr/local/bin/x", &folder), "../../../bin/x");
        assert_eq!(quoted("a,\"b"), "\"a,\"\"b\"");
    }

    #[test]
    fn programs_are_read_from_their_sections_only() {
        let text = "[console_scripts]\nf2py = numpy.f2py.f2py2e:main\n# x = y:z\n\n[other]\na = b:c\n[gui_scripts]\ng=h : i [x]\n";
        let found = programs_of(text);
        assert_eq!(
            found,
            [
                ("f2py".to_owned(), "numpy.f2py.f2py2e:main".to_owned()),
                ("g".to_owned(), "h : i [x]".to_owned())
            ]
        );
    }
}
