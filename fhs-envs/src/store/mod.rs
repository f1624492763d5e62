//! The store: vendor files, objects, unpacked packages and trees, all by digest.
//!
//! ```text
//! store/artifacts/<sha256>           files as they came; `.partial/` holds unfinished downloads
//! store/objects/ab/cdef…[x]          file contents, 0444 or (x) 0555, fixed mtime, no setid bits, no xattrs
//! store/packages/<key>               manifest of one unpacked archive, so that no archive is unpacked twice
//! store/results/<key>                manifest of what a tree's tool made of what it saw, so that no cache is made twice
//! store/manifests/<digest>           manifest of a tree; the digest is over this text
//! store/trees/<digest>/              the tree: folders with the same time, links, and hard links into objects
//! store/builds/<key>                 digest of the tree that a lock gave
//! store/captures/<key>               digest of what an installer wrote over a tree: an artifact
//! store/roots/<id>                   a recipe that was built here: what `gc` keeps, and whom damage concerns
//! store/locks/                       lock files: `store` (builders share, gc excludes), one a tree, one a build
//! store/tmp/                         work in progress, one folder a builder, locked while it lives
//! ```
//!
//! Nothing in the store is ever changed: new content is written below `tmp`, made durable by one `syncfs`, and
//! renamed to its place. A crash leaves a folder below `tmp`, which the next builder removes.

mod bundle;
pub mod du;
pub mod gc;
mod link;
pub mod manifest;
pub mod repair;
pub mod roots;
pub mod space;
pub mod verify;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use crate::digest::{HashingWriter, Sha256};
use crate::error::Error;
use crate::fetch::{self, Client, Wanted};
use crate::progress::{Progress, Quiet};
use manifest::{Manifest, Node};

/// The modification time of everything in the store: 1 s after the epoch, since some tools take 0 for "none".
const FIXED_MTIME: Duration = Duration::from_secs(1);

/// The folders of a store.
const FOLDERS: [&str; 10] = [
    "artifacts/.partial",
    "objects",
    "packages",
    "results",
    "manifests",
    "trees",
    "builds",
    "roots",
    "locks",
    "tmp",
];

/// A store on disk.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    /// Folders that are looked into before anything is downloaded.
    bundles: Vec<PathBuf>,
}

impl Store {
    /// Opens the store at `root`, making its folders.
    ///
    /// # Errors
    /// When a folder cannot be made.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let mut made = false;
        for folder in FOLDERS {
            let path = root.join(folder);
            if !path.is_dir() {
                fs::create_dir_all(&path).map_err(Error::io("create", path))?;
                made = true;
            }
        }
        if made {
            // Later a folder is synced by itself, which says nothing about the names above it.
            let folder = File::open(root).map_err(Error::io("open", root))?;
            rustix::fs::syncfs(&folder).map_err(|e| Error::io("sync", root)(e.into()))?;
        }
        Ok(Self { root: root.to_owned(), bundles: Vec::new() })
    }

    /// Looks into these folders before anything is downloaded: they have files by their digests, as a store's `artifacts`.
    #[must_use]
    pub fn with_bundles(self, bundles: Vec<PathBuf>) -> Self {
        Self { bundles, ..self }
    }

    /// Where the store is.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where an artifact is, or would be.
    #[must_use]
    pub fn artifact(&self, sha256: Sha256) -> PathBuf {
        self.root.join("artifacts").join(sha256.hex())
    }

    /// Where a tree is, or would be.
    #[must_use]
    pub fn tree(&self, digest: Sha256) -> PathBuf {
        self.root.join("trees").join(digest.hex())
    }

    /// The manifest of a tree.
    ///
    /// # Errors
    /// When there is none or it is damaged.
    pub fn manifest(&self, digest: Sha256) -> Result<Manifest, Error> {
        read_manifest(&self.root.join("manifests").join(digest.hex()))
    }

    /// Copies a file into the store under its digest, unless it is there.
    ///
    /// # Errors
    /// When it cannot be read or written; [`Error::WrongHash`] when it is not the expected one.
    pub fn import(&self, file: &Path, expected: Option<Sha256>) -> Result<(Sha256, u64), Error> {
        if let Some(expected) = expected
            && let Ok(there) = fs::metadata(self.artifact(expected))
        {
            return Ok((expected, there.len()));
        }
        self.import_open(File::open(file).map_err(Error::io("open", file))?, file, expected)
    }

    /// The same of a file that is open; `file` is its name in messages.
    ///
    /// # Errors
    /// As [`Self::import`].
    pub(crate) fn import_open(
        &self,
        mut source: File,
        file: &Path,
        expected: Option<Sha256>,
    ) -> Result<(Sha256, u64), Error> {
        // `gc` must not take it before anything names it.
        let _builders = self.lock("store", Mode::Shared)?;
        // A folder of our own below `tmp`: what a killed import leaves there is removed by the next one.
        let workspace = self.workspace()?;
        let temporary = workspace.folder.join("import");
        let target = File::create_new(&temporary).map_err(Error::io("create", &temporary))?;
        let (target, found, size) = if rustix::fs::ioctl_ficlone(&target, &source).is_ok() {
            // One content on disk for both. What counts is what we have now, so that is what is hashed.
            let (found, size) = Sha256::of_file(&temporary).map_err(Error::io("read", &temporary))?;
            (target, found, size)
        } else {
            let mut writer = HashingWriter::new(target);
            io::copy(&mut source, &mut writer).map_err(Error::io("copy", file))?;
            writer.finish()
        };
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            return Err(Error::WrongArtifact { path: file.to_owned(), expected, found });
        }
        seal(&target, false).map_err(Error::io("write", &temporary))?;
        target.sync_all().map_err(Error::io("sync", &temporary))?;
        fs::rename(&temporary, self.artifact(found)).map_err(Error::io("rename", &temporary))?;
        sync_folder(&self.root.join("artifacts"))?;
        Ok((found, size))
    }

    /// Downloads what the store does not hold, several files at once.
    ///
    /// # Errors
    /// The first download that fails; what was finished stays.
    pub fn fetch(&self, client: &Client, wanted: &[Wanted], progress: &dyn Progress) -> Result<(), Error> {
        let missing: Vec<&Wanted> = wanted.iter().filter(|w| !self.artifact(w.sha256).exists()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let bytes = missing.iter().filter_map(|w| w.size).sum();
        space::ensure(&self.root, self.still_to_write(&missing))?;
        let _builders = self.lock("store", Mode::Shared)?;
        progress.begin("downloading", bytes);
        let outcome = fetch::parallel_downloads(&missing, |wanted| {
            let partial = self.root.join("artifacts/.partial").join(wanted.sha256.hex());
            // Two builders may want the same file: the second waits and finds it there.
            let _lock = self.lock(&format!("fetch-{}", wanted.sha256.short()), Mode::Exclusive)?;
            let target = self.artifact(wanted.sha256);
            if target.exists() {
                return Ok(());
            }
            if bundle::take(&self.bundles, wanted, &partial, &target, progress)? {
                return Ok(());
            }
            client.fetch(wanted, &partial, &target, progress)
        });
        progress.end();
        outcome?;
        sync_folder(&self.root.join("artifacts"))
    }

    /// Whether a file is in the store, or comes from a bundle now.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub(crate) fn bring(&self, sha256: Sha256, size: u64, what: &str) -> Result<bool, Error> {
        let target = self.artifact(sha256);
        if target.exists() || self.bundles.is_empty() {
            return Ok(target.exists());
        }
        let _builders = self.lock("store", Mode::Shared)?;
        let _lock = self.lock(&format!("fetch-{}", sha256.short()), Mode::Exclusive)?;
        let partial = self.root.join("artifacts/.partial").join(sha256.hex());
        let wanted = Wanted { urls: Vec::new(), what: what.to_owned(), sha256, size: Some(size) };
        bundle::take(&self.bundles, &wanted, &partial, &target, &Quiet)
    }

    /// Bytes that downloads will take, without those of interrupted ones that are here.
    fn still_to_write(&self, wanted: &[&Wanted]) -> u64 {
        let partial = |w: &Wanted| self.root.join("artifacts/.partial").join(w.sha256.hex());
        let here = |w: &Wanted| fs::metadata(partial(w)).map_or(0, |m| m.len());
        wanted.iter().map(|w| w.size.unwrap_or(0).saturating_sub(here(w))).sum()
    }

    /// The manifest of an unpacked archive, if all its objects are here.
    pub(crate) fn package_manifest(&self, key: &str) -> Option<Manifest> {
        self.whole(&self.root.join("packages").join(key))
    }

    /// A manifest whose objects are all here. A damaged one, or one whose objects somebody has removed, is made anew.
    fn whole(&self, record: &Path) -> Option<Manifest> {
        let manifest = read_manifest(record).ok()?;
        let here = |node: &Node| match node {
            Node::File { sha256, executable, .. } => self.object(*sha256, *executable).exists(),
            Node::Directory | Node::Link { .. } => true,
        };
        manifest.nodes.values().all(here).then_some(manifest)
    }

    /// Whether an archive was unpacked before; its objects are not looked at.
    pub(crate) fn is_unpacked(&self, key: &str) -> bool {
        self.root.join("packages").join(key).exists()
    }

    /// The tree that a build key gave, if it is still there.
    pub fn built(&self, key: Sha256) -> Option<Sha256> {
        let text = fs::read_to_string(self.root.join("builds").join(key.hex())).ok()?;
        let digest: Sha256 = text.trim().parse().ok()?;
        self.tree(digest).is_dir().then_some(digest)
    }

    /// Takes a lock by name and holds it until the descriptor is closed.
    ///
    /// # Errors
    /// When the lock file cannot be made or locked.
    pub fn lock(&self, name: &str, mode: Mode) -> Result<OwnedFd, Error> {
        let path = self.root.join("locks").join(name);
        loop {
            let file = open_lock(&path)?;
            match mode {
                Mode::Shared => hatchway_sys::lock::lock_shared(&file),
                Mode::Exclusive => hatchway_sys::lock::lock_exclusive(&file),
            }
            .map_err(Error::io("lock", &path))?;
            if is_still(&file, &path) {
                return Ok(file.into());
            }
        }
    }

    /// Takes a lock by name if nobody else holds it.
    ///
    /// # Errors
    /// When the lock file cannot be made.
    pub fn try_lock(&self, name: &str) -> Result<Option<OwnedFd>, Error> {
        let path = self.root.join("locks").join(name);
        loop {
            let file = open_lock(&path)?;
            if !hatchway_sys::lock::try_lock_exclusive(&file).map_err(Error::io("lock", &path))? {
                return Ok(None);
            }
            if is_still(&file, &path) {
                return Ok(Some(file.into()));
            }
        }
    }

    /// Holds a tree: as long as the descriptor is open, the tree is not collected. `None` where it is not there (any
    /// more). The lock file's time says when the tree was last used.
    ///
    /// # Errors
    /// When the lock file cannot be made or locked.
    pub fn hold_tree(&self, digest: Sha256) -> Result<Option<OwnedFd>, Error> {
        let held = File::from(self.lock(&tree_lock(digest), Mode::Shared)?);
        // A time that cannot be written makes the tree look older than it is, no more.
        drop(held.set_modified(SystemTime::now()));
        Ok(self.tree(digest).is_dir().then(|| held.into()))
    }

    /// A folder to work in, on the store's file system.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn workspace(&self) -> Result<Workspace<'_>, Error> {
        self.remove_abandoned()?;
        let pid = std::process::id();
        let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.subsec_nanos());
        let folder = self.root.join("tmp").join(format!("{pid}-{nanos}"));
        let lock_path = folder.with_extension("lock");
        let lock = loop {
            let lock = open_lock(&lock_path)?;
            hatchway_sys::lock::lock_exclusive(&lock).map_err(Error::io("lock", &lock_path))?;
            // Between the two calls it may have looked abandoned to another builder.
            if is_still(&lock, &lock_path) {
                break lock;
            }
        };
        // Nobody else comes near what a build step writes: not to a program with the set-user-id bit, not to a socket.
        fs::DirBuilder::new().mode(0o700).create(&folder).map_err(Error::io("create", &folder))?;
        Ok(Workspace {
            store: self,
            folder,
            lock_path,
            here: Mutex::default(),
            meter: space::Meter::default(),
            _lock: lock,
        })
    }

    /// Removes what builders left that died: their folders' locks are free.
    fn remove_abandoned(&self) -> Result<(), Error> {
        for folder in self.abandoned()? {
            let lock_path = folder.with_extension("lock");
            let lock = match lock_path.exists() {
                true => Some(open_lock(&lock_path)?),
                false => None,
            };
            let free = |lock| hatchway_sys::lock::try_lock_exclusive(lock).unwrap_or(false);
            if lock.as_ref().is_none_or(free) {
                remove_tree(&folder)?;
                fs::remove_file(&lock_path)
                    .or_else(missing_is_fine)
                    .map_err(Error::io("remove", &lock_path))?;
            }
        }
        Ok(())
    }

    /// Folders below `tmp` that no builder holds; of some only the lock file is left. A living builder's lock file is
    /// there before its folder, so a folder without one is a dead one's.
    fn abandoned(&self) -> Result<Vec<PathBuf>, Error> {
        let mut folders: Vec<PathBuf> =
            list(&self.root.join("tmp"))?.into_iter().map(|path| path.with_extension("")).collect();
        folders.sort();
        folders.dedup();
        folders.retain(|folder| match File::options().write(true).open(folder.with_extension("lock")) {
            Ok(lock) => hatchway_sys::lock::try_lock_exclusive(&lock).unwrap_or(false),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        });
        Ok(folders)
    }

    fn object(&self, sha256: Sha256, executable: bool) -> PathBuf {
        self.root.join("objects").join(object_path(sha256, executable))
    }

    /// Opens the content of a file of a manifest.
    ///
    /// # Errors
    /// When the object is missing.
    pub fn open_object(&self, sha256: Sha256, executable: bool) -> Result<File, Error> {
        let path = self.object(sha256, executable);
        File::open(&path).map_err(Error::io("open", path))
    }
}

/// How a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// With others who share it.
    Shared,
    /// Alone.
    Exclusive,
}

fn open_lock(path: &Path) -> Result<File, Error> {
    File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)
        .map_err(Error::io("open", path))
}

/// Whether a lock file is still the one of that name: a collector removes those that nobody holds, and whoever waited for
/// one then holds nothing.
fn is_still(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let same =
        |here: fs::Metadata, there: fs::Metadata| (here.dev(), here.ino()) == (there.dev(), there.ino());
    file.metadata().is_ok_and(|here| fs::metadata(path).is_ok_and(|there| same(here, there)))
}

/// Where an object is below the folder of objects.
fn object_path(sha256: Sha256, executable: bool) -> PathBuf {
    let hex = sha256.hex();
    let suffix = if executable { "x" } else { "" };
    Path::new(&hex[..2]).join(format!("{}{suffix}", &hex[2..]))
}

fn tree_lock(digest: Sha256) -> String {
    format!("tree-{digest}")
}

/// Makes the names in a folder durable.
fn sync_folder(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(Error::io("sync", path))
}

fn missing_is_fine(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Removes a folder of our own with all that is in it; one that is not there is no error.
///
/// # Errors
/// When something in it cannot be removed.
pub fn remove_tree(path: &Path) -> Result<(), Error> {
    #[allow(clippy::disallowed_methods, reason = "this is the one place that the ban points to")]
    fs::remove_dir_all(path).or_else(missing_is_fine).map_err(Error::io("remove", path))
}

/// Gives a file the mode and the time that everything in the store has.
pub(crate) fn seal(file: &File, executable: bool) -> io::Result<()> {
    let mode = if executable { 0o555 } else { 0o444 };
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.set_modified(SystemTime::UNIX_EPOCH + FIXED_MTIME)
}

fn read_manifest(path: &Path) -> Result<Manifest, Error> {
    let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
    let bad = |reason: String| Error::BadManifest { path: path.to_owned(), reason };
    let (body, footer) =
        text.rsplit_once("# sha256 ").ok_or_else(|| bad("its last line is missing".into()))?;
    if footer.trim() != Sha256::of(body.as_bytes()).hex() {
        return Err(bad("its content does not match its digest".into()));
    }
    Manifest::parse(body).map_err(bad)
}

/// Files below this size are written when their digest is known, larger ones while it is computed.
const IN_MEMORY: usize = 1 << 20;

/// Files of this size and above are sent to the disk as soon as they are complete, so that the disk works while the next
/// ones are unpacked. Smaller ones are many, and cheaper together.
const WRITTEN_EARLY: usize = 128 << 10;

/// Sends a file to the disk without waiting for it: a matter of speed alone, since what is durable only the one `syncfs`
/// says, which also reports what the disk refused.
fn begin_to_write(file: &File) {
    hatchway_sys::write_back::begin(file).ok();
}

/// New content on its way into the store. Dropped without [`Workspace::commit`], it leaves nothing.
#[derive(Debug)]
pub(crate) struct Workspace<'a> {
    store: &'a Store,
    folder: PathBuf,
    lock_path: PathBuf,
    /// The objects that are here and not in the store yet.
    here: Mutex<HashSet<(Sha256, bool)>>,
    /// What was written.
    meter: space::Meter,
    _lock: File,
}

impl Workspace<'_> {
    /// Writes one file's content; gives its digest and size.
    pub(crate) fn add(
        &self,
        content: &mut dyn Read,
        executable: bool,
        number: &str,
    ) -> Result<(Sha256, u64), Error> {
        let mut start = Vec::new();
        let limit = u64::try_from(IN_MEMORY).unwrap_or(u64::MAX);
        (&mut *content).take(limit).read_to_end(&mut start).map_err(Error::io("read", number))?;
        if start.len() < IN_MEMORY {
            return self.add_small(&start, executable);
        }
        let content = &mut start.as_slice().chain(content);
        let temporary = self.folder.join(format!("new-{number}"));
        let file = File::create(&temporary).map_err(Error::io("create", &temporary))?;
        let mut writer = HashingWriter::new(file);
        self.meter.copy(content, &mut writer, &temporary)?;
        let (file, sha256, size) = writer.finish();
        seal(&file, executable).map_err(Error::io("write", &temporary))?;
        begin_to_write(&file);
        self.place(&temporary, sha256, executable)?;
        Ok((sha256, size))
    }

    /// A file whose name is known before it is written: nothing is written for content that is there, and nothing renamed.
    fn add_small(&self, content: &[u8], executable: bool) -> Result<(Sha256, u64), Error> {
        let sha256 = Sha256::of(content);
        let size = u64::try_from(content.len()).unwrap_or(u64::MAX);
        // Of two threads with the same content, one writes it; whoever reads it does so when all have ended.
        if self.store.object(sha256, executable).exists() || !self.claim(sha256, executable) {
            return Ok((sha256, size));
        }
        self.meter.spend(&self.folder, size)?;
        let target = self.object(sha256, executable);
        let create = || File::create_new(&target);
        let file = create().or_else(|error| match (error.kind(), target.parent()) {
            (io::ErrorKind::NotFound, Some(folder)) => fs::create_dir_all(folder).and_then(|()| create()),
            _ => Err(error),
        });
        let mut file = file.map_err(Error::io("create", &target))?;
        file.write_all(content)
            .and_then(|()| seal(&file, executable))
            .map_err(Error::io("write", &target))?;
        if content.len() >= WRITTEN_EARLY {
            begin_to_write(&file);
        }
        Ok((sha256, size))
    }

    /// Whether an object is new to this workspace; from now on it is not.
    fn claim(&self, sha256: Sha256, executable: bool) -> bool {
        let mut here = self.here.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        here.insert((sha256, executable))
    }

    /// Within the workspace objects already have their names, so that a tree can be linked from them.
    fn place(&self, temporary: &Path, sha256: Sha256, executable: bool) -> Result<(), Error> {
        if self.store.object(sha256, executable).exists() {
            return fs::remove_file(temporary).map_err(Error::io("remove", temporary));
        }
        self.claim(sha256, executable);
        let target = self.object(sha256, executable);
        let folder = target.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        fs::rename(temporary, &target).map_err(Error::io("rename", temporary))
    }

    fn object(&self, sha256: Sha256, executable: bool) -> PathBuf {
        self.folder.join("objects").join(object_path(sha256, executable))
    }

    /// Where an object's content is: in the store, or here until the commit.
    pub(crate) fn locate(&self, sha256: Sha256, executable: bool) -> PathBuf {
        if self.is_here(sha256, executable) {
            self.object(sha256, executable)
        } else {
            self.store.object(sha256, executable)
        }
    }

    fn is_here(&self, sha256: Sha256, executable: bool) -> bool {
        let here = self.here.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        here.contains(&(sha256, executable))
    }

    /// A folder of this name to work in, removed with the workspace; an existing one is used again.
    pub(crate) fn scratch(&self, name: &str) -> Result<PathBuf, Error> {
        let folder = self.folder.join("scratch").join(name);
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        Ok(folder)
    }

    /// Copies a tree: nothing in it is shared with the store, and its owner may write everything.
    pub(crate) fn copy_tree(&self, folder: &Path, manifest: &Manifest) -> Result<(), Error> {
        link::directory(folder)?;
        for (path, node) in &manifest.nodes {
            let target = folder.join(path);
            let (sha256, executable, size) = match node {
                Node::File { sha256, executable, size } => (sha256, executable, size),
                Node::Directory => {
                    link::directory(&target)?;
                    continue;
                }
                Node::Link { target: to } => {
                    std::os::unix::fs::symlink(to, &target).map_err(Error::io("link", &target))?;
                    continue;
                }
            };
            self.meter.spend(&self.folder, *size)?;
            fs::copy(self.locate(*sha256, *executable), &target).map_err(Error::io("copy", &target))?;
            let file = File::open(&target).map_err(Error::io("open", &target))?;
            let mode = fs::Permissions::from_mode(if *executable { 0o755 } else { 0o644 });
            file.set_permissions(mode)
                .and_then(|()| file.set_modified(SystemTime::UNIX_EPOCH + FIXED_MTIME))
                .map_err(Error::io("write", &target))?;
        }
        Ok(())
    }

    /// Where an artifact of the store is.
    pub(crate) fn artifact(&self, sha256: Sha256) -> PathBuf {
        self.store.artifact(sha256)
    }

    /// Reads an object's content.
    pub(crate) fn read(&self, sha256: Sha256, executable: bool) -> Result<Vec<u8>, Error> {
        let path = self.locate(sha256, executable);
        fs::read(&path).map_err(Error::io("read", path))
    }

    /// Opens an object's content.
    pub(crate) fn open(&self, sha256: Sha256, executable: bool) -> Result<File, Error> {
        let path = self.locate(sha256, executable);
        File::open(&path).map_err(Error::io("open", path))
    }

    /// Writes the manifest of an unpacked archive.
    pub(crate) fn add_package(&self, key: &str, manifest: &Manifest) -> Result<(), Error> {
        self.write("packages", key, &with_digest(&manifest.to_text()))
    }

    /// What a tool of a tree made before, if all its objects are in the store.
    pub(crate) fn result(&self, key: Sha256) -> Option<Manifest> {
        self.store.whole(&self.store.root.join("results").join(key.hex()))
    }

    /// Keeps what a tool of a tree made.
    pub(crate) fn add_result(&self, key: Sha256, manifest: &Manifest) -> Result<(), Error> {
        self.write("results", &key.hex(), &with_digest(&manifest.to_text()))
    }

    /// Links a tree together in a folder that is not there yet.
    pub(crate) fn link_tree(&self, folder: &Path, manifest: &Manifest) -> Result<(), Error> {
        let bad = |reason| Error::BadLayout { package: "the merged tree".into(), reason };
        manifest.check().map_err(bad)?;
        link::tree(self, folder, manifest)
    }

    /// Links a tree together, and writes its manifest and its build key.
    pub(crate) fn add_tree(&self, key: Sha256, manifest: &Manifest) -> Result<Sha256, Error> {
        let text = manifest.to_text();
        let digest = Sha256::of(text.as_bytes());
        self.write("manifests", &digest.hex(), &with_digest(&text))?;
        self.write("builds", &key.hex(), &format!("{digest}\n"))?;
        if !self.store.tree(digest).is_dir() {
            self.link_finished(digest, manifest)?;
        }
        Ok(digest)
    }

    /// Makes an object of a tree's file, as another name of it, where its content is the right one.
    fn adopt(&self, path: &Path, sha256: Sha256, executable: bool) -> Result<bool, Error> {
        let (found, _) = Sha256::of_file(path).map_err(Error::io("read", path))?;
        if found != sha256 {
            return Ok(false);
        }
        let file = File::open(path).map_err(Error::io("open", path))?;
        seal(&file, executable).map_err(Error::io("write", path))?;
        let target = self.object(sha256, executable);
        let folder = target.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        link::link_or_copy(path, &target, executable)?;
        self.claim(sha256, executable);
        Ok(true)
    }

    /// Whether an object is in the store, or here until the commit.
    fn has(&self, sha256: Sha256, executable: bool) -> bool {
        self.locate(sha256, executable).exists()
    }

    /// Links a tree whose manifest is written.
    fn link_finished(&self, digest: Sha256, manifest: &Manifest) -> Result<(), Error> {
        let trees = self.folder.join("trees");
        fs::create_dir_all(&trees).map_err(Error::io("create", &trees))?;
        self.link_tree(&trees.join(digest.hex()), manifest)
    }

    fn write(&self, folder: &str, name: &str, text: &str) -> Result<(), Error> {
        let folder = self.folder.join(folder);
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        let path = folder.join(name);
        fs::write(&path, text).map_err(Error::io("write", path))
    }

    /// Makes everything durable and moves it to its place: objects before the manifests that name them,
    /// manifests before their trees, trees before the build key that names them.
    pub(crate) fn commit(self) -> Result<(), Error> {
        self.sync()?;
        let mut moved = false;
        for fanout in list(&self.folder.join("objects"))? {
            moved = true;
            let name = Path::new("objects").join(fanout.file_name().unwrap_or_default());
            // At once where the store has none of these objects yet; one by one where it has.
            if fs::rename(&fanout, self.store.root.join(&name)).is_err() {
                self.move_all(&fanout, &name)?;
            }
        }
        if moved {
            // Objects of one build lie in all the folders: what they hold is on disk by now, so that syncing all at once
            // writes no more than their names, and that once instead of 257 times.
            self.sync()?;
        }
        // A manifest without its tree is of no use and does no harm; a tree without its manifest cannot be checked.
        for kind in ["packages", "results", "manifests", "trees", "builds"] {
            if self.move_all(&self.folder.join(kind), Path::new(kind))? {
                sync_folder(&self.store.root.join(kind))?;
            }
        }
        Ok(())
    }

    /// Waits until all that was written to the store's file system is on disk.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        let folder = File::open(&self.folder).map_err(Error::io("open", &self.folder))?;
        rustix::fs::syncfs(&folder).map_err(|e| Error::io("sync", &self.folder)(e.into()))
    }

    /// Moves what is in a folder of the workspace; the new names are not durable yet. Whether there was anything.
    fn move_all(&self, from: &Path, to: &Path) -> Result<bool, Error> {
        let items = list(from)?;
        if items.is_empty() {
            return Ok(false);
        }
        let target = self.store.root.join(to);
        fs::create_dir_all(&target).map_err(Error::io("create", &target))?;
        for item in items {
            let destination = target.join(item.file_name().unwrap_or_default());
            match fs::rename(&item, &destination) {
                // Another builder was quicker with the same tree: names are digests, so it is the same content.
                Err(_) if destination.is_dir() => {}
                other => other.map_err(Error::io("rename", &item))?,
            }
        }
        Ok(true)
    }
}

impl Drop for Workspace<'_> {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next builder.
        drop(remove_tree(&self.folder));
        drop(fs::remove_file(&self.lock_path));
    }
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    match fs::read_dir(folder) {
        Ok(entries) => Ok(entries.flatten().map(|entry| entry.path()).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::io("read", folder)(error)),
    }
}

fn with_digest(body: &str) -> String {
    format!("{body}# sha256 {}\n", Sha256::of(body.as_bytes()))
}
