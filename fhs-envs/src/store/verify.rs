//! The store against itself, as fsck looks at a file system: every object and artifact against its name, every tree
//! against its manifest, every record against what it names. It changes nothing.

mod records;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::Serialize;

use super::manifest::Node;
use super::roots::{Tool, digest_of};
use super::{Mode, Store, list};
use crate::digest::Sha256;
use crate::error::Error;
use crate::fetch::parallel;
use crate::progress::Progress;

/// What an object is named by: its content's digest, and whether it may be executed.
pub(super) type ObjectName = (Sha256, bool);

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Something is not what its name says.
    Damage,
    /// Something that a tool's tree was made of is not there: the tree is whole, but could not be made again.
    Missing,
    /// Something that nobody needs any more, as an interrupted command leaves it. The next build or `gc` removes it.
    Leftover,
}

/// What a finding is about; `repair` goes by it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    Object(ObjectName),
    /// An object that is right, but its mode is not.
    ObjectMode(ObjectName),
    Artifact(Sha256),
    ArtifactMode(Sha256),
    Tree(Sha256),
    Manifest(Sha256),
    /// A file that can be made anew from others: what a package holds, what a lock gave.
    Record(PathBuf),
    /// Nothing of ours, or nothing that is needed.
    Other,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, as a word: `object-changed`, `tree-entry-missing` …
    pub kind: &'static str,
    /// Where.
    pub path: PathBuf,
    /// What is wrong, for a person.
    pub what: String,
    /// The tools whose tree it is in.
    pub affects: Vec<String>,
    /// The next command.
    pub next: &'static str,
    #[serde(skip)]
    pub(super) subject: Subject,
}

/// What was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Checked {
    /// Objects.
    pub objects: u64,
    /// Bytes that were hashed.
    pub bytes_hashed: u64,
    /// Trees.
    pub trees: u64,
    /// Files and folders in them.
    pub entries: u64,
    /// Vendor files and downloads.
    pub artifacts: u64,
}

/// The answer.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// What is wrong, damage first.
    pub findings: Vec<Finding>,
    /// What was looked at.
    pub checked: Checked,
}

impl Report {
    /// Whether anything is not what its name says.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Damage)
    }
}

impl Store {
    /// Checks everything. With `quick`, contents are not read: names, sizes, modes and links only.
    ///
    /// # Errors
    /// When the store cannot be listed. What cannot be read in it is a finding.
    pub fn verify(&self, tools: &[Tool], quick: bool, progress: &dyn Progress) -> Result<Report, Error> {
        // A collector would take away what is being looked at; builders only add.
        let _no_collector = self.lock("store", Mode::Shared)?;
        let mut check = Check::new(self, quick, tools);
        // What a builder adds meanwhile is not looked at: trees are listed before the objects that they need.
        let trees = self.tree_digests()?;
        check.objects(progress)?;
        check.trees(&trees, progress)?;
        check.artifacts(progress)?;
        check.records()?;
        check.tools(tools);
        Ok(check.finish())
    }
}

/// An object as it was found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Object {
    size: u64,
    place: (u64, u64),
    good: bool,
}

struct Check<'a> {
    store: &'a Store,
    quick: bool,
    objects: BTreeMap<ObjectName, Object>,
    /// The tools of each tree.
    users: BTreeMap<Sha256, BTreeSet<String>>,
    /// The tools whose tree has an object that is not good.
    affected: BTreeMap<ObjectName, BTreeSet<String>>,
    report: Report,
}

impl<'a> Check<'a> {
    fn new(store: &'a Store, quick: bool, tools: &[Tool]) -> Self {
        let mut users: BTreeMap<Sha256, BTreeSet<String>> = BTreeMap::new();
        for tool in tools.iter().filter(|tool| tool.alive) {
            if let Some(tree) = tool.tree {
                users.entry(tree).or_default().insert(tool.name.clone());
            }
        }
        let (objects, affected) = Default::default();
        Self { store, quick, objects, users, affected, report: Report::default() }
    }

    fn damage(&mut self, kind: &'static str, path: &Path, what: impl Into<String>, subject: Subject) {
        self.report.findings.push(Finding {
            severity: Severity::Damage,
            kind,
            path: path.to_owned(),
            what: what.into(),
            affects: Vec::new(),
            next: "hatchway store repair",
            subject,
        });
    }

    fn leftover(&mut self, kind: &'static str, path: &Path, what: &str) {
        self.report.findings.push(Finding {
            severity: Severity::Leftover,
            kind,
            path: path.to_owned(),
            what: what.to_owned(),
            affects: Vec::new(),
            next: "hatchway store gc",
            subject: Subject::Other,
        });
    }

    fn users_of(&self, tree: Sha256) -> BTreeSet<String> {
        self.users.get(&tree).cloned().unwrap_or_default()
    }

    fn objects(&mut self, progress: &dyn Progress) -> Result<(), Error> {
        let mut found: Vec<(ObjectName, PathBuf, Metadata)> = Vec::new();
        for fanout in list(&self.store.root.join("objects"))? {
            if !fs::symlink_metadata(&fanout).is_ok_and(|m| m.is_dir()) {
                self.leftover("unknown-file", &fanout, "this is not the store's");
                continue;
            }
            for path in list(&fanout)? {
                match (object_name(&path), fs::symlink_metadata(&path)) {
                    (Some(name), Ok(there)) if there.is_file() => found.push((name, path, there)),
                    _ => self.leftover("unknown-file", &path, "this is not an object of the store"),
                }
            }
        }
        let files: Vec<(PathBuf, Sha256, u64)> =
            found.iter().map(|((sha256, _), path, there)| (path.clone(), *sha256, there.len())).collect();
        let bad = self.hash(&files, "checking objects", progress)?;
        self.report.checked.objects = found.len() as u64;
        for (name, path, there) in found {
            let object = Object { size: there.len(), place: place(&there), good: !bad.contains_key(&path) };
            self.objects.insert(name, object);
            if let Some(what) = bad.get(&path) {
                self.damage("object-changed", &path, what.clone(), Subject::Object(name));
            } else if let Some(what) = wrong_mode(&there, name.1) {
                self.damage("object-mode", &path, what, Subject::ObjectMode(name));
            }
        }
        Ok(())
    }

    /// Hashes files on all cores; gives those whose content is not what was expected, and what was found.
    fn hash(
        &mut self,
        files: &[(PathBuf, Sha256, u64)],
        phase: &str,
        progress: &dyn Progress,
    ) -> Result<BTreeMap<PathBuf, String>, Error> {
        if self.quick {
            return Ok(BTreeMap::new());
        }
        let total = files.iter().map(|(_, _, size)| size).sum();
        let bad = Mutex::new(BTreeMap::new());
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        progress.begin(phase, total);
        let outcome = parallel(files, threads, |(path, expected, size)| {
            let what = match Sha256::of_file(path) {
                Ok((found, _)) if found == *expected => None,
                Ok((found, size)) => Some(format!("its content ({size} bytes) has the sha256 {found}")),
                Err(error) => Some(format!("it cannot be read: {error}")),
            };
            if let (Some(what), Ok(mut bad)) = (what, bad.lock()) {
                bad.insert(path.clone(), what);
            }
            progress.advance(*size);
            Ok(())
        });
        progress.end();
        outcome?;
        self.report.checked.bytes_hashed += total;
        Ok(bad.into_inner().unwrap_or_default())
    }

    fn artifacts(&mut self, progress: &dyn Progress) -> Result<(), Error> {
        let mut files = Vec::new();
        let mut modes = Vec::new();
        for path in list(&self.store.root.join("artifacts"))? {
            let there = fs::symlink_metadata(&path);
            match (digest_of(&path), there) {
                (Some(sha256), Ok(there)) if there.is_file() => {
                    if let Some(what) = wrong_mode(&there, false) {
                        modes.push((path.clone(), sha256, what));
                    }
                    files.push((path, sha256, there.len()));
                }
                _ if path.ends_with(".partial") => {}
                _ => self.leftover("unknown-file", &path, "this is not an artifact of the store"),
            }
        }
        self.report.checked.artifacts = files.len() as u64;
        let bad = self.hash(&files, "checking artifacts", progress)?;
        for (path, sha256, _) in &files {
            if let Some(what) = bad.get(path) {
                self.damage("artifact-changed", path, what.clone(), Subject::Artifact(*sha256));
            }
        }
        for (path, sha256, what) in modes.into_iter().filter(|(path, ..)| !bad.contains_key(path)) {
            self.damage("artifact-mode", &path, what, Subject::ArtifactMode(sha256));
        }
        Ok(())
    }

    /// Whether an object is as a manifest has it. One that is not is noted with the tools that have it.
    fn object_fits(&mut self, node: &Node, users: &BTreeSet<String>) -> bool {
        let Node::File { sha256, executable, size } = node else { return true };
        let name = (*sha256, *executable);
        let fits = self.objects.get(&name).is_some_and(|object| object.good && object.size == *size);
        if !fits {
            self.affected.entry(name).or_default().extend(users.iter().cloned());
        }
        fits
    }

    fn finish(mut self) -> Report {
        for finding in &mut self.report.findings {
            let users = match &finding.subject {
                Subject::Object(name) => self.affected.get(name),
                Subject::Tree(tree) | Subject::Manifest(tree) => self.users.get(tree),
                _ => None,
            };
            if let (true, Some(users)) = (finding.affects.is_empty(), users) {
                finding.affects = users.iter().cloned().collect();
            }
        }
        self.report
            .findings
            .sort_by(|a, b| (a.severity, a.kind, &a.path).cmp(&(b.severity, b.kind, &b.path)));
        self.report
    }
}

fn place(there: &Metadata) -> (u64, u64) {
    (there.dev(), there.ino())
}

/// The name of an object by its path.
pub(super) fn object_name(path: &Path) -> Option<ObjectName> {
    let fanout = path.parent()?.file_name()?.to_str()?;
    let rest = path.file_name()?.to_str()?;
    let (rest, executable) = rest.strip_suffix('x').map_or((rest, false), |rest| (rest, true));
    let name = format!("{fanout}{rest}");
    let lower = fanout.len() == 2 && !name.bytes().any(|byte| byte.is_ascii_uppercase());
    lower.then(|| name.parse().ok()).flatten().map(|sha256| (sha256, executable))
}

/// Mode, owner and time as everything in the store has them.
fn wrong_mode(there: &Metadata, executable: bool) -> Option<String> {
    let mode = if executable { 0o555 } else { 0o444 };
    if there.mode() & 0o7777 != mode {
        return Some(format!("its mode is {:04o} instead of {mode:04o}", there.mode() & 0o7777));
    }
    let time = i64::try_from(super::FIXED_MTIME.as_secs()).unwrap_or_default();
    (there.mtime() != time).then(|| format!("its time of change is {} instead of {time}", there.mtime()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_known_by_their_paths() {
        let hex = Sha256::of(b"x").hex();
        let path = |rest: &str| PathBuf::from(format!("/s/objects/{}/{rest}", &hex[..2]));
        assert_eq!(object_name(&path(&hex[2..])), Some((Sha256::of(b"x"), false)));
        assert_eq!(object_name(&path(&format!("{}x", &hex[2..]))), Some((Sha256::of(b"x"), true)));
        for odd in [&hex[3..], "xx", &hex, &hex[2..].to_uppercase()] {
            assert_eq!(object_name(&path(odd)), None, "{odd}");
        }
    }
}
