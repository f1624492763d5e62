//! Trees on disk against their manifests, and manifests against the objects that they name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Check, Subject, place, wrong_mode};
use crate::digest::Sha256;
use crate::error::Error;
use crate::progress::Progress;
use crate::store::list;
use crate::store::manifest::{DIRECTORY_MODE, Manifest, Node};

/// Of one tree at most so many entries are named; a tree that was emptied has as many as it had files.
const ENTRIES_NAMED_MAX: usize = 20;

impl Check<'_> {
    pub(super) fn trees(&mut self, digests: &BTreeSet<Sha256>, progress: &dyn Progress) -> Result<(), Error> {
        for &digest in digests {
            let before = self.report.findings.len();
            self.tree(digest, progress)?;
            let named = self.report.findings.len() - before;
            if named > ENTRIES_NAMED_MAX {
                self.report.findings.truncate(before + ENTRIES_NAMED_MAX);
                let what =
                    format!("{} more of its entries are not as its manifest says", named - ENTRIES_NAMED_MAX);
                self.damage("tree-changed", &self.store.tree(digest), what, Subject::Tree(digest));
            }
        }
        Ok(())
    }

    fn tree(&mut self, digest: Sha256, progress: &dyn Progress) -> Result<(), Error> {
        let path = self.store.root.join("manifests").join(digest.hex());
        let folder = self.store.tree(digest);
        let manifest = match (path.exists(), self.store.manifest(digest)) {
            (false, _) if !folder.exists() => return Ok(()), // collected since it was listed
            (false, _) => {
                self.damage(
                    "manifest-missing",
                    &path,
                    "the tree of this digest has no manifest",
                    Subject::Manifest(digest),
                );
                return Ok(());
            }
            (true, Ok(manifest)) if manifest.digest() == digest && manifest.check().is_ok() => manifest,
            (true, _) => {
                self.damage(
                    "manifest-changed",
                    &path,
                    "it is not the manifest of its name",
                    Subject::Manifest(digest),
                );
                return Ok(());
            }
        };
        self.named_objects(digest, &manifest);
        if !fs::symlink_metadata(&folder).is_ok_and(|there| there.is_dir()) {
            // A builder that was stopped between the two: whoever needs the tree builds it.
            if self.users.contains_key(&digest) {
                self.damage(
                    "tree-missing",
                    &folder,
                    "a recipe was built to this tree",
                    Subject::Tree(digest),
                );
            } else {
                self.leftover("manifest-alone", &path, "there is no tree to this manifest");
            }
            return Ok(());
        }
        self.report.checked.trees += 1;
        self.entries(digest, &folder, &manifest, progress)
    }

    /// Objects that the manifest names and the store has not, or not so.
    fn named_objects(&mut self, digest: Sha256, manifest: &Manifest) {
        let users = self.users_of(digest);
        let mut seen = BTreeSet::new();
        for node in manifest.nodes.values() {
            let Node::File { sha256, executable, size } = node else { continue };
            let name = (*sha256, *executable);
            if self.object_fits(node, &users) || !seen.insert(name) {
                continue;
            }
            let path = self.store.object(*sha256, *executable);
            let there = self.objects.get(&name).copied();
            let subject = Subject::Object(name);
            if self.report.findings.iter().any(|finding| finding.subject == subject) {
                continue;
            }
            match there {
                None => self.damage("object-missing", &path, "a tree's manifest names it", subject),
                Some(object) => {
                    let what = format!("it has {} bytes instead of {size}", object.size);
                    self.damage("object-size", &path, what, subject);
                }
            }
        }
    }

    fn entries(
        &mut self,
        digest: Sha256,
        folder: &Path,
        manifest: &Manifest,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        let there = walk(folder)?;
        self.report.checked.entries += there.len() as u64;
        let mut copies = Vec::new();
        for (path, node) in &manifest.nodes {
            let full = folder.join(path);
            let Some(metadata) = there.get(Path::new(path)) else {
                self.damage("tree-entry-missing", &full, "its manifest names it", Subject::Tree(digest));
                continue;
            };
            if let Some(what) = self.differs(&full, node, metadata, &mut copies) {
                self.damage("tree-entry-changed", &full, what, Subject::Tree(digest));
            }
        }
        for path in there.keys().filter(|path| !path.to_str().is_some_and(|p| manifest.nodes.contains_key(p)))
        {
            let full = folder.join(path);
            self.damage("tree-entry-unknown", &full, "its manifest does not name it", Subject::Tree(digest));
        }
        for (path, what) in self.hash(&copies, "checking copies", progress)? {
            self.damage("tree-entry-changed", &path, what, Subject::Tree(digest));
        }
        Ok(())
    }

    /// What of an entry is not as the manifest has it. A file that is no link to its object is put on the list of
    /// `copies`, whose content has to be read.
    fn differs(
        &self,
        path: &Path,
        node: &Node,
        there: &Metadata,
        copies: &mut Vec<(PathBuf, Sha256, u64)>,
    ) -> Option<String> {
        match node {
            Node::Directory if !there.is_dir() => Some("it is no folder".into()),
            Node::Directory => {
                let mode = there.mode() & 0o7777;
                (mode != DIRECTORY_MODE)
                    .then(|| format!("its mode is {mode:04o} instead of {DIRECTORY_MODE:04o}"))
            }
            Node::Link { .. } if !there.is_symlink() => Some("it is no symbolic link".into()),
            Node::Link { target } => {
                let found = fs::read_link(path).ok();
                let same = found.as_ref().is_some_and(|found| found.as_os_str() == target.as_str());
                (!same).then(|| format!("it does not point to `{target}`"))
            }
            Node::File { .. } if !there.is_file() => Some("it is no file".into()),
            Node::File { size, .. } if there.len() != *size => {
                Some(format!("it has {} bytes instead of {size}", there.len()))
            }
            Node::File { sha256, executable, size } => {
                if let Some(object) = self.objects.get(&(*sha256, *executable))
                    && object.place == place(there)
                {
                    return (!object.good).then(|| "its content has changed with its object's".into());
                }
                copies.push((path.to_owned(), *sha256, *size));
                wrong_mode(there, *executable)
            }
        }
    }
}

/// Everything below a folder as `lstat` sees it. No link is followed.
fn walk(root: &Path) -> Result<BTreeMap<PathBuf, Metadata>, Error> {
    let mut all = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in list(&folder)? {
            // One that goes away meanwhile is missing.
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            if metadata.is_dir() {
                folders.push(path.clone());
            }
            if let Ok(below) = path.strip_prefix(root) {
                all.insert(below.to_owned(), metadata);
            }
        }
    }
    Ok(all)
}
