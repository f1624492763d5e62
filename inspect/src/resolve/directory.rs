//! A directory of this machine as a root.

use std::collections::{HashMap, HashSet};
use std::fs::{File, FileType};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::conf::{self, Texts};
use super::path::{Layout, parent};
use super::{Node, Object, Refusal, Root, canonical, loader, reader};

/// Bytes of a configuration file.
const TEXT_BYTES: u64 = 1 << 20;
/// Names of a directory of configuration files.
const NAMES: usize = 65_536;

/// A directory whose content is a root: `/`, a tree of the store, an unpacked artifact.
///
/// Links are followed inside the directory only, one component after the other; what is at a path is asked once, and a
/// file is read once, whatever names it has. Nothing is promised for a directory that changes meanwhile.
#[derive(Debug)]
pub struct DirectoryRoot {
    /// Without a slash at its end; empty for `/`.
    base: String,
    configured: Vec<String>,
    cache: Mutex<Cache>,
}

#[derive(Debug, Default)]
struct Cache {
    entries: HashMap<String, Option<Entry>>,
    /// By interpreter.
    glibc: HashMap<String, Option<u32>>,
    /// By device and inode.
    objects: HashMap<(u64, u64), Result<Arc<Object>, Refusal>>,
}

#[derive(Debug, Clone)]
struct Entry {
    node: Node,
    id: (u64, u64),
    is_regular: bool,
}

impl DirectoryRoot {
    /// A directory, given by a path in UTF-8, as a root.
    ///
    /// # Errors
    /// If it is no directory or cannot be looked into.
    pub fn open(directory: &Path) -> Result<Self, crate::Error> {
        let failed = |source| crate::Error::Io { archive: directory.to_path_buf(), source };
        let real = std::fs::canonicalize(directory).map_err(failed)?;
        if !real.is_dir() {
            return Err(failed(std::io::ErrorKind::NotADirectory.into()));
        }
        let base = real.to_str().ok_or_else(|| failed(std::io::ErrorKind::InvalidFilename.into()))?;
        let base = base.trim_end_matches('/').to_owned();
        let mut root = Self { base, configured: Vec::new(), cache: Mutex::default() };
        root.configured = conf::directories(&root);
        Ok(root)
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is at a path, none of whose directories is a link.
    fn entry(&self, path: &str) -> Option<Entry> {
        let mut cache = self.cache();
        if let Some(known) = cache.entries.get(path) {
            return known.clone();
        }
        // The system would follow a link among the directories out of the root.
        let mut unknown: Vec<&str> = vec![path];
        let mut at = path;
        while at != "/" && unknown.len() < 2048 {
            at = parent(at);
            match cache.entries.get(at) {
                Some(Some(Entry { node: Node::Directory, .. })) => break,
                Some(_) => {
                    cache.entries.insert(path.to_owned(), None);
                    return None;
                }
                None => unknown.push(at),
            }
        }
        let mut found = None;
        for path in unknown.into_iter().rev() {
            found = self.look(path);
            cache.entries.insert(path.to_owned(), found.clone());
            if !matches!(found, Some(Entry { node: Node::Directory, .. })) {
                break;
            }
        }
        match cache.entries.get(path) {
            Some(known) => known.clone(),
            None => {
                drop(found);
                cache.entries.insert(path.to_owned(), None);
                None
            }
        }
    }

    fn look(&self, path: &str) -> Option<Entry> {
        let own = format!("{}{path}", self.base);
        let metadata = std::fs::symlink_metadata(&own).ok()?;
        let kind: FileType = metadata.file_type();
        let node = if kind.is_symlink() {
            Node::Symlink(std::fs::read_link(&own).ok()?.to_str()?.to_owned())
        } else if kind.is_dir() {
            Node::Directory
        } else {
            Node::File
        };
        Some(Entry { node, id: (metadata.dev(), metadata.ino()), is_regular: kind.is_file() })
    }

    fn read(&self, path: &str) -> Result<Arc<Object>, Refusal> {
        // Nothing else is opened: a pipe would block, a device do who knows what.
        let entry = self.entry(path).filter(|entry| entry.is_regular).ok_or(Refusal::NotRegular)?;
        if let Some(known) = self.cache().objects.get(&entry.id) {
            return known.clone();
        }
        let read = File::open(format!("{}{path}", self.base))
            .map_err(|error| Refusal::Unreadable(error.to_string()))
            .and_then(|file| reader::read(&file).map(Arc::new));
        self.cache().objects.insert(entry.id, read.clone());
        read
    }

    /// The path of something in the root, given its path on this machine; `None` if it lies outside.
    #[must_use]
    pub fn inside(&self, path: &Path) -> Option<String> {
        let real = std::fs::canonicalize(path).ok()?;
        let inside = real.to_str()?.strip_prefix(&self.base)?;
        inside.starts_with('/').then(|| inside.to_owned())
    }
}

impl Texts for DirectoryRoot {
    fn text(&self, path: &str) -> Option<String> {
        Root::text(self, path)
    }

    fn names(&self, directory: &str) -> Vec<String> {
        let Some(directory) = canonical(self, directory) else { return Vec::new() };
        let Ok(children) = std::fs::read_dir(format!("{}{directory}", self.base)) else { return Vec::new() };
        let names = children.flatten().take(NAMES).filter_map(|child| child.file_name().into_string().ok());
        names.collect::<HashSet<String>>().into_iter().collect()
    }
}

impl Root for DirectoryRoot {
    fn node(&self, path: &str) -> Option<Node> {
        self.entry(path).map(|entry| entry.node)
    }

    fn object(&self, path: &str) -> Option<Arc<Object>> {
        self.read(path).ok()
    }

    fn configured(&self) -> &[String] {
        &self.configured
    }

    fn refusal(&self, path: &str) -> Refusal {
        self.read(path).err().unwrap_or(Refusal::NotElf)
    }

    fn identity(&self, path: &str) -> String {
        match self.entry(path) {
            Some(Entry { id: (device, inode), .. }) => format!("{device}:{inode}"),
            None => path.to_owned(),
        }
    }

    fn layout(&self, program: &Object) -> Layout {
        Layout::detect(self, program)
    }

    fn glibc(&self, program: &Object) -> Option<u32> {
        let path = loader::path(program)?;
        if let Some(known) = self.cache().glibc.get(path) {
            return *known;
        }
        let found = canonical(self, path).and_then(|file| {
            self.entry(&file).filter(|entry| entry.is_regular)?;
            loader::glibc(&File::open(format!("{}{file}", self.base)).ok()?)
        });
        self.cache().glibc.insert(path.to_owned(), found);
        found
    }

    fn text(&self, path: &str) -> Option<String> {
        let file = canonical(self, path)?;
        if !self.entry(&file)?.is_regular {
            return None;
        }
        let mut bytes = Vec::new();
        let open = File::open(format!("{}{file}", self.base)).ok()?;
        open.take(TEXT_BYTES).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_never_lead_outside() {
        let scratch = tempfile::tempdir().unwrap();
        let inside = scratch.path().join("root");
        std::fs::create_dir_all(inside.join("etc")).unwrap();
        std::fs::write(scratch.path().join("secret"), "x").unwrap();
        symlink("..", inside.join("up")).unwrap();
        symlink("/etc", inside.join("absolute")).unwrap();
        symlink("../../secret", inside.join("etc/secret")).unwrap();
        let root = DirectoryRoot::open(&inside).unwrap();
        assert_eq!(canonical(&root, "/up/secret"), None);
        assert_eq!(canonical(&root, "/etc/secret"), None);
        assert_eq!(canonical(&root, "/absolute").as_deref(), Some("/etc"));
        // Even for a caller that did not resolve the directories.
        assert_eq!(root.node("/up/secret"), None);
        assert_eq!(root.node("/up/root/etc"), None);
        assert_eq!(root.node("/etc"), Some(Node::Directory));
    }

    #[test]
    fn pipes_are_not_opened_and_scripts_are_told() {
        let scratch = tempfile::tempdir().unwrap();
        let pipe = scratch.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        std::fs::write(scratch.path().join("libc.so"), "/* GNU ld script\n*/\nGROUP ( /lib/libc.so.6 )")
            .unwrap();
        std::fs::write(scratch.path().join("short"), "\x7fELF").unwrap();
        std::fs::write(scratch.path().join("text"), "x".repeat(100)).unwrap();
        let root = DirectoryRoot::open(scratch.path()).unwrap();
        assert_eq!(root.refusal("/pipe"), Refusal::NotRegular);
        assert_eq!(root.refusal("/libc.so"), Refusal::LinkerScript);
        assert_eq!(root.refusal("/short"), Refusal::TooShort);
        assert_eq!(root.refusal("/text"), Refusal::NotElf);
        assert_eq!(root.node("/text/x"), None);
    }
}
