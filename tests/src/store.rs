//! The store seen from outside: listings to compare, and trees checked against their manifests. Nothing here is shared
//! with the program, so that an error in its reading of manifests is not made twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::package::sha256;

/// A store on disk.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// The store at a path.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Where a tree is.
    #[must_use]
    pub fn tree(&self, digest: &str) -> PathBuf {
        self.root.join("trees").join(digest)
    }

    /// The names in one of its folders, sorted.
    #[must_use]
    pub fn names(&self, folder: &str) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.root.join(folder))
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with('.'))
            .collect();
        names.sort();
        names
    }

    /// What unfinished downloads there are.
    #[must_use]
    pub fn partial(&self) -> Vec<String> {
        self.names("artifacts/.partial")
    }

    /// Everything in the store, with times and digests; lock files left out, since they say nothing.
    #[must_use]
    pub fn listing(&self) -> String {
        listing(&self.root, &|path| path.starts_with("locks/"))
    }

    /// Fails the test unless every artifact is what its name says.
    ///
    /// # Panics
    /// Then.
    pub fn check_artifacts(&self) {
        for name in self.names("artifacts") {
            let bytes = fs::read(self.root.join("artifacts").join(&name)).unwrap();
            assert_eq!(sha256(&bytes), name, "an artifact that is not what its name says");
        }
    }

    /// Fails the test unless a tree on disk is what its manifest says, and the manifest what its name says.
    ///
    /// # Panics
    /// Then.
    pub fn check_tree(&self, digest: &str) {
        let text = fs::read_to_string(self.root.join("manifests").join(digest)).unwrap();
        let body = text.rsplit_once("# sha256 ").expect("a manifest ends with its digest").0;
        assert_eq!(sha256(body.as_bytes()), digest, "the manifest is not what its name says");
        let mut named = BTreeSet::new();
        for line in body.lines().filter(|line| !line.starts_with('#')) {
            let (path, keywords) = entry(line);
            self.check_entry(digest, &path, &keywords);
            named.insert(path);
        }
        let found: BTreeSet<Vec<u8>> = walk(&self.tree(digest)).into_keys().collect();
        assert_eq!(named, found, "manifest and tree name different files");
    }

    fn check_entry(&self, digest: &str, path: &[u8], keywords: &BTreeMap<&str, &str>) {
        let full = self.tree(digest).join(std::ffi::OsStr::from_bytes(path));
        let shown = full.display();
        let metadata = fs::symlink_metadata(&full).unwrap_or_else(|error| panic!("{shown}: {error}"));
        let mode = u32::from_str_radix(keywords["mode"], 8).unwrap();
        match keywords["type"] {
            "dir" => {
                assert!(metadata.is_dir(), "{shown}");
                assert_eq!(metadata.mode() & 0o7777, mode, "{shown}");
            }
            "link" => {
                let target = fs::read_link(&full).unwrap();
                assert_eq!(target.as_os_str().as_bytes(), unvis(keywords["link"]), "{shown}");
            }
            "file" => {
                assert!(metadata.is_file(), "{shown}");
                assert_eq!(metadata.mode() & 0o7777, mode, "{shown}");
                assert_eq!(metadata.len().to_string(), keywords["size"], "{shown}");
                assert_eq!(metadata.mtime(), 1, "{shown}");
                assert_eq!(sha256(&fs::read(&full).unwrap()), keywords["sha256digest"], "{shown}");
            }
            other => panic!("{shown}: type {other}"),
        }
    }
}

/// Path and keywords of a line of mtree(5).
fn entry(line: &str) -> (Vec<u8>, BTreeMap<&str, &str>) {
    let mut words = line.split(' ');
    let path = unvis(words.next().unwrap().strip_prefix("./").expect("paths begin with `./`"));
    (path, words.map(|word| word.split_once('=').expect("a keyword has a value")).collect())
}

/// Undoes vis(3) with `VIS_OCTAL`.
fn unvis(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        if let (b'\\', [a, b, c, after @ ..]) = (first, after) {
            bytes.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
            rest = after;
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    bytes
}

/// Every path below a folder, with what `lstat` says.
#[must_use]
pub fn walk(root: &Path) -> BTreeMap<Vec<u8>, fs::Metadata> {
    let mut all = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            if metadata.is_dir() {
                folders.push(path.clone());
            }
            all.insert(path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec(), metadata);
        }
    }
    all
}

/// A folder as text: kind, mode, times and digest of everything in it.
#[must_use]
pub fn listing(root: &Path, left_out: &dyn Fn(&str) -> bool) -> String {
    let mut text = String::new();
    for (path, metadata) in walk(root) {
        let path = String::from_utf8_lossy(&path).into_owned();
        if left_out(&path) {
            continue;
        }
        let full = root.join(&path);
        let what = if metadata.is_file() {
            sha256(&fs::read(&full).unwrap())
        } else if metadata.is_symlink() {
            fs::read_link(&full).unwrap().display().to_string()
        } else {
            String::from("/")
        };
        let (mode, time, nano) = (metadata.mode(), metadata.mtime(), metadata.mtime_nsec());
        writeln!(text, "{path} {mode:o} {time}.{nano} {what}").unwrap();
    }
    text
}
