//! Who needs what is in the store: each recipe that was built here leaves a record, and its lock says the rest.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::manifest::Manifest;
use super::{Store, list, sync_folder};
use crate::digest::Sha256;
use crate::error::Error;
use crate::lock::Lock;

/// Bytes of a record that are read.
const RECORD_BYTES_MAX: u64 = 64 << 10;

/// A recipe that was built here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Root {
    /// The tool's name.
    pub tool: String,
    /// `recipe.toml`, absolute.
    pub recipe: PathBuf,
    /// The key of its last build.
    pub key: Sha256,
    /// What that gave.
    pub tree: Sha256,
}

/// A tool as the store knows it.
#[derive(Debug, Clone)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// `recipe.toml`.
    pub recipe: PathBuf,
    /// The record's own file, where there is one.
    pub record: Option<PathBuf>,
    /// The tree that was built last.
    pub tree: Option<Sha256>,
    /// The inputs, where there is a lock.
    pub lock: Option<Lock>,
    /// Why a lock that is there cannot be read: what it needs is not known.
    pub unread: Option<String>,
    /// Whether the recipe is still there. One that cannot be looked at counts as there.
    pub alive: bool,
}

impl Tool {
    /// Files of [`Store::artifact`] that the lock names.
    pub fn inputs(&self) -> impl Iterator<Item = Sha256> {
        let lock = self.lock.iter();
        lock.flat_map(|lock| {
            // Of an installer also what it wrote.
            let captured = lock.artifacts.iter().filter_map(|a| a.captured).map(|captured| captured.sha256);
            let artifacts = lock.artifacts.iter().map(|a| a.sha256).chain(captured);
            let wheels = lock.wheels.iter().map(|w| w.sha256);
            let layers = lock.image.iter().flat_map(|image| &image.layers).map(|layer| layer.sha256);
            let patches = lock.patches.iter().map(|patch| patch.sha256);
            let packages = lock.packages.iter().map(|p| p.sha256);
            let kernel = lock.kernel.iter().map(|kernel| kernel.sha256);
            artifacts.chain(wheels).chain(layers).chain(patches).chain(packages).chain(kernel)
        })
    }
}

impl Store {
    /// Remembers a built recipe. Writes nothing where the record says so already.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn record_root(&self, root: &Root) -> Result<(), Error> {
        let name = Sha256::of(root.recipe.as_os_str().as_encoded_bytes()).hex();
        let path = self.root.join("roots").join(&name[..32]);
        let text = serde_json::to_string_pretty(root)
            .map_err(|e| Error::Unsupported(format!("cannot write a record of `{}`: {e}", root.tool)))?;
        if fs::read_to_string(&path).is_ok_and(|there| there == text) {
            return Ok(());
        }
        // Below `tmp`, as everything: half a record of a builder that died is not found among the records.
        let workspace = self.workspace()?;
        let temporary = workspace.folder.join("record");
        let written = fs::write(&temporary, text).and_then(|()| fs::File::open(&temporary)?.sync_all());
        written.map_err(Error::io("write", &temporary))?;
        fs::rename(&temporary, &path).map_err(Error::io("rename", &temporary))?;
        sync_folder(&self.root.join("roots"))
    }

    /// The tools of all records, and those of `recipes` (each a `recipe.toml`) that have none.
    ///
    /// # Errors
    /// When the records cannot be listed.
    pub fn tools(&self, recipes: &[PathBuf]) -> Result<Vec<Tool>, Error> {
        let mut tools = Vec::new();
        for record in list(&self.root.join("roots"))?.into_iter().filter(|path| !is_half_written(path)) {
            // A damaged one is `verify`'s to tell; whoever it was of makes it anew with the next build.
            let Some(root) = read_record(&record) else { continue };
            let mut tool = tool_of(root.tool, root.recipe);
            (tool.tree, tool.record) = (Some(root.tree), Some(record));
            tools.push(tool);
        }
        let known: BTreeSet<PathBuf> = tools.iter().map(|tool: &Tool| tool.recipe.clone()).collect();
        for recipe in recipes.iter().filter(|recipe| !known.contains(*recipe)) {
            let name = recipe.parent().and_then(Path::file_name).unwrap_or_default();
            tools.push(tool_of(name.to_string_lossy().into_owned(), recipe.clone()));
        }
        tools.sort_by(|a, b| (&a.name, &a.recipe).cmp(&(&b.name, &b.recipe)));
        Ok(tools)
    }

    /// What a built tool's lock names and is not in the store: its tree could not be made again.
    #[must_use]
    pub fn lost_inputs(&self, tool: &Tool) -> Vec<Sha256> {
        let built = tool.alive && tool.tree.is_some();
        tool.inputs().filter(|input| built && !self.artifact(*input).exists()).collect()
    }

    /// The trees that have a manifest or a folder, by digest.
    pub(super) fn tree_digests(&self) -> Result<BTreeSet<Sha256>, Error> {
        let mut digests = BTreeSet::new();
        for folder in ["trees", "manifests"] {
            digests.extend(list(&self.root.join(folder))?.iter().filter_map(|path| digest_of(path)));
        }
        Ok(digests)
    }

    /// The manifest of an unpacked archive by its file, and the archive's digest.
    pub(super) fn package_record(path: &Path) -> Option<(Sha256, Manifest)> {
        let name = path.file_name()?.to_str()?;
        Some((name.get(..64)?.parse().ok()?, super::read_manifest(path).ok()?))
    }
}

/// The digest that a file of the store is named by.
pub(super) fn digest_of(path: &Path) -> Option<Sha256> {
    path.file_name()?.to_str()?.parse().ok()
}

/// What an interrupted command left instead of a record: a file that never got its name.
pub(super) fn is_half_written(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// A record; `None` where it is damaged.
pub(super) fn read_record(path: &Path) -> Option<Root> {
    let size = fs::symlink_metadata(path).ok()?.len();
    let text = (size <= RECORD_BYTES_MAX).then(|| fs::read(path).ok())??;
    serde_json::from_slice(&text).ok()
}

fn tool_of(name: String, recipe: PathBuf) -> Tool {
    let gone = |path: &Path| {
        fs::metadata(path).is_err_and(|error| {
            matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
        })
    };
    let alive = !gone(&recipe);
    let lock_path = recipe.with_file_name("recipe.lock");
    // The lock may outlive the recipe, and says what to keep of it if somebody asks for that.
    let (lock, unread) = match () {
        () if gone(&lock_path) => (None, None),
        // Whoever may write there could put something that is never read to its end.
        () if fs::metadata(&lock_path).is_ok_and(|there| !there.is_file()) => {
            (None, Some(format!("`{}` is not a file", lock_path.display())))
        }
        () => match Lock::read(&lock_path) {
            Ok(lock) => (Some(lock), None),
            Err(error) => (None, Some(error.to_string())),
        },
    };
    Tool { name, recipe, record: None, tree: None, lock, unread, alive }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_its_tool_ends_with_its_recipe() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let recipe = folder.path().join("acme/recipe.toml");
        let (key, tree) = (Sha256::of(b"key"), Sha256::of(b"tree"));
        let root = Root { tool: "acme".into(), recipe: recipe.clone(), key, tree };
        store.record_root(&root).unwrap();
        let tools = store.tools(std::slice::from_ref(&recipe)).unwrap();
        assert_eq!((tools.len(), tools[0].alive, tools[0].tree), (1, false, Some(tree)));
        assert_eq!(read_record(tools[0].record.as_ref().unwrap()), Some(root));
        fs::create_dir(recipe.parent().unwrap()).unwrap();
        fs::write(&recipe, "").unwrap();
        assert!(store.tools(&[]).unwrap()[0].alive);
        // What a lock that cannot be read needs is not known.
        let lock = recipe.with_file_name("recipe.lock");
        assert_eq!(store.tools(&[]).unwrap()[0].unread, None);
        fs::write(&lock, "odd").unwrap();
        let unread = |tools: &[Tool]| tools[0].unread.clone().unwrap();
        assert!(unread(&store.tools(&[]).unwrap()).contains("is not a usable lock"));
        fs::remove_file(&lock).unwrap();
        fs::create_dir(&lock).unwrap();
        assert!(unread(&store.tools(&[]).unwrap()).contains("is not a file"));
    }
}
