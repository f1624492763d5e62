//! Making whole again what `verify` has found, as far as the store's own contents go: an object from a tree that still has
//! it or from its archive, a tree from its objects. What has to be fetched or built is the caller's.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::gc::objects_of;
use super::manifest::{Manifest, Node};
use super::verify::{ObjectName, Report, Subject};
use super::{Store, Workspace, list, seal, sync_folder, tree_lock};
use crate::build;
use crate::digest::Sha256;
use crate::error::Error;

/// What came of it.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Repaired {
    /// Each step, for a person.
    pub done: Vec<String>,
    /// Damaged trees that a running tool holds: they are as they were.
    pub in_use: Vec<Sha256>,
    /// Trees that are not there and could not be linked from what is: they have to be built.
    pub to_build: Vec<Sha256>,
    /// Damaged artifacts that were taken away: they have to be fetched.
    pub to_fetch: Vec<Sha256>,
}

impl Store {
    /// Mends what can be mended from the store itself. Damaged things leave their places first, so that what follows
    /// makes them anew.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn repair(&self, report: &Report) -> Result<Repaired, Error> {
        // Nobody else: a builder relies on what is there to stay.
        let Some(_alone) = self.try_lock("store")? else {
            return Err(Error::StoreBusy(self.root.clone()));
        };
        let workspace = self.workspace()?;
        let mut repaired = Repaired::default();
        let trees = self.set_aside(report, &workspace, &mut repaired)?;
        self.restore_objects(&workspace, &mut repaired)?;
        let mut linked = Vec::new();
        for digest in trees {
            match self.relink(digest, &workspace)? {
                true => linked.push(digest),
                false => repaired.to_build.push(digest),
            }
        }
        // The workspace becomes durable and is moved to its place as a build's would be.
        workspace.commit()?;
        repaired.done.extend(
            linked.iter().map(|digest| format!("linked tree {} again from its objects", digest.short())),
        );
        Ok(repaired)
    }

    /// Takes damaged things out of the store, into a folder that goes away; gives the trees that are to be linked again.
    fn set_aside(
        &self,
        report: &Report,
        workspace: &Workspace<'_>,
        repaired: &mut Repaired,
    ) -> Result<BTreeSet<Sha256>, Error> {
        let aside = Aside { folder: workspace.scratch("damaged")? };
        let mut trees = BTreeSet::new();
        let subjects: BTreeSet<&Subject> = report.findings.iter().map(|finding| &finding.subject).collect();
        for subject in subjects {
            match subject {
                Subject::Other => {}
                Subject::Object(name) => {
                    if aside.take(&self.object(name.0, name.1))? {
                        repaired.done.push(format!("took the damaged object {} away", name.0.short()));
                    }
                }
                Subject::ObjectMode((sha256, executable)) => {
                    self.seal_again(&self.object(*sha256, *executable), *executable, repaired)?;
                }
                Subject::ArtifactMode(sha256) => self.seal_again(&self.artifact(*sha256), false, repaired)?,
                Subject::Artifact(sha256) => {
                    if aside.take(&self.artifact(*sha256))? {
                        repaired.done.push(format!("took the damaged artifact {} away", sha256.short()));
                        repaired.to_fetch.push(*sha256);
                    }
                }
                Subject::Record(path) => {
                    if aside.take(path)? {
                        repaired.done.push(format!("took the damaged record `{}` away", path.display()));
                    }
                }
                Subject::Manifest(digest) | Subject::Tree(digest) => {
                    trees.insert(*digest);
                    if matches!(subject, Subject::Manifest(_)) {
                        aside.take(&self.root.join("manifests").join(digest.hex()))?;
                    }
                }
            }
        }
        let mut free = BTreeSet::new();
        for digest in trees {
            // Held for a moment only: who takes it next finds no tree, and builds.
            let Some(_lock) = self.try_lock(&tree_lock(digest))? else {
                repaired.in_use.push(digest);
                continue;
            };
            if aside.take(&self.tree(digest))? {
                repaired.done.push(format!("took the damaged tree {} away", digest.short()));
            }
            free.insert(digest);
        }
        for folder in ["objects", "artifacts", "trees", "manifests", "packages", "results", "builds", "roots"]
        {
            sync_folder(&self.root.join(folder))?;
        }
        Ok(free)
    }

    fn seal_again(&self, path: &Path, executable: bool, repaired: &mut Repaired) -> Result<(), Error> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        seal(&file, executable).and_then(|()| file.sync_all()).map_err(Error::io("write", path))?;
        repaired.done.push(format!("gave `{}` its mode again", path.display()));
        Ok(())
    }

    /// Objects that manifests name and the store has not: from a tree that has the content as a file of its own, or
    /// from the archive that brought it.
    fn restore_objects(&self, workspace: &Workspace<'_>, repaired: &mut Repaired) -> Result<(), Error> {
        let mut missing: BTreeSet<ObjectName> = BTreeSet::new();
        for digest in self.tree_digests()? {
            if let Ok(manifest) = self.manifest(digest) {
                missing.extend(objects_of(&manifest).filter(|name| !self.object(name.0, name.1).exists()));
                self.take_from_tree(digest, &manifest, &mut missing, workspace, repaired)?;
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        for record in list(&self.root.join("packages"))? {
            let Some((archive, manifest)) = Self::package_record(&record) else { continue };
            let brings = objects_of(&manifest).filter(|name| missing.contains(name)).count();
            if brings == 0 {
                continue;
            }
            if build::unpack_again(self, workspace, archive, &record)? {
                missing.retain(|name| !objects_of(&manifest).any(|other| other == *name));
                repaired.done.push(format!("unpacked {} again for {brings} objects", archive.short()));
            }
        }
        Ok(())
    }

    fn take_from_tree(
        &self,
        digest: Sha256,
        manifest: &Manifest,
        missing: &mut BTreeSet<ObjectName>,
        workspace: &Workspace<'_>,
        repaired: &mut Repaired,
    ) -> Result<(), Error> {
        for (path, node) in &manifest.nodes {
            let Node::File { sha256, executable, .. } = node else { continue };
            let full = self.tree(digest).join(path);
            let plain = fs::symlink_metadata(&full).is_ok_and(|there| there.is_file());
            if !plain || !missing.contains(&(*sha256, *executable)) {
                continue;
            }
            if workspace.adopt(&full, *sha256, *executable)? {
                missing.remove(&(*sha256, *executable));
                repaired.done.push(format!(
                    "took the object {} from tree {}",
                    sha256.short(),
                    digest.short()
                ));
            }
        }
        Ok(())
    }

    /// Links a tree from its manifest where all its objects are there.
    fn relink(&self, digest: Sha256, workspace: &Workspace<'_>) -> Result<bool, Error> {
        let Ok(manifest) = self.manifest(digest) else { return Ok(false) };
        let there = objects_of(&manifest).all(|(sha256, executable)| workspace.has(sha256, executable));
        if there {
            workspace.link_finished(digest, &manifest)?;
        }
        Ok(there)
    }
}

/// Where damaged things go until the end.
struct Aside {
    folder: PathBuf,
}

impl Aside {
    /// Whether there was anything to take.
    fn take(&self, path: &Path) -> Result<bool, Error> {
        let name = format!(
            "{}-{}",
            path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy(),
            path.file_name().unwrap_or_default().to_string_lossy()
        );
        match fs::rename(path, self.folder.join(name)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("rename", path)(error)),
        }
    }
}
