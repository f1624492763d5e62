//! What a tool keeps, as a disk.
//!
//! On the other rungs state is a folder. A guest has a disk (ext4), which is made from the folder at its first run, by
//! `mke2fs`; when the tool runs on another rung again, the folder is made from the disk, by `debugfs`. Both are of e2fsprogs,
//! and neither needs a mount or a privilege. At each moment one of the two is the state: the disk, where there is one.
//!
//! What is on the disk is a guest's, so whatever reads it on the host does so in a sandbox ([`Confined`]).

mod confined;

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::FdFlags;

use crate::error::Error;

pub use confined::{Confined, Job, Sandbox};

/// The disk in the folder of a tool's state.
pub const DISK: &str = "disk.ext4";
/// Below it, while a folder is made from the disk.
const TAKEN: &str = ".taken";
/// Where programs of the system are, which a user's `PATH` may lack.
const FOLDERS: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
/// How long somebody may have the lock who only looks.
const MOMENT: Duration = Duration::from_secs(1);
/// How long another run may take to make the folder from the disk.
const TAKING_MAX: Duration = Duration::from_secs(60);
/// In that folder: the disk under a second name, and what is made from it.
const LINK: &str = "disk";
const TREE: &str = "tree";
/// What every ext4 has at its top.
const LOST: &str = "lost+found";

/// A disk, held for one guest.
#[derive(Debug)]
pub struct Held {
    /// The disk.
    pub path: PathBuf,
    /// The lock.
    lock: File,
}

impl Held {
    /// The lock, for QEMU to inherit.
    #[must_use]
    pub fn lock(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }
}

/// The disk of the state in `folder`, made from what is there if there is none, of `size` bytes, for a QEMU of this user. It has all
/// of the folders with these `names`: where the tool has got one since it was made, it is made anew.
///
/// # Errors
/// [`Error::Busy`], [`Error::Shared`]; [`Error::Tool`]; what cannot be written.
pub fn disk(
    folder: &Path,
    names: &[String],
    size: u64,
    (owner, confined): (Option<(u32, u32)>, &dyn Confined),
) -> Result<Held, Error> {
    let path = folder.join(DISK);
    let lock = lock(folder)?;
    let known = beside(folder, "disk-folders");
    if path.exists() && !has_all(&known, names) {
        taken_back(folder, owner, confined)?;
    }
    if !path.exists() {
        make(folder, &path, size, owner)?;
        fs::write(&known, names.join("\n")).map_err(Error::io("write", &known))?;
    }
    Ok(Held { path, lock })
}

fn has_all(known: &Path, names: &[String]) -> bool {
    let text = fs::read_to_string(known).unwrap_or_default();
    names.iter().all(|name| text.lines().any(|known| known == name))
}

/// Something beside the folder, which is copied as it is.
fn beside(folder: &Path, what: &str) -> PathBuf {
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{what}"));
    folder.with_file_name(name)
}

/// For a run on another rung: makes the folders from the disk again, if there is one, and keeps guests away as long as what comes
/// back is held. Several such runs may be there at a time.
///
/// # Errors
/// As [`take_back`].
pub fn share(folder: &Path, owner: Option<(u32, u32)>, confined: &dyn Confined) -> Result<OwnedFd, Error> {
    let file = lock_file(folder)?;
    let disk = folder.join(DISK);
    // Whether the lock is had now. A change of its kind gives it up first.
    let locked = |how| match rustix::fs::flock(&file, how) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(Error::io("lock", folder)(errno.into())),
    };
    let begun = Instant::now();
    loop {
        if locked(FlockOperation::NonBlockingLockShared)? {
            if !disk.exists() {
                return Ok(file.into());
            }
            if locked(FlockOperation::NonBlockingLockExclusive)? {
                taken_back(folder, owner, confined)?;
                continue;
            }
        }
        // Another run that takes it back is done soon; a guest has it for long.
        let most = if folder.join(TAKEN).exists() { TAKING_MAX } else { MOMENT };
        if begun.elapsed() > most {
            return Err(Error::Busy(disk));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Makes the folders from the disk again, if there is one; true if there was. What is on the disk is a guest's, so as root
/// it is read as the user of its unit, `owner`.
///
/// # Errors
/// [`Error::Busy`] while a guest runs; [`Error::Tool`]; what cannot be written. The disk is the state then, as before.
pub fn take_back(folder: &Path, owner: Option<(u32, u32)>, confined: &dyn Confined) -> Result<bool, Error> {
    let disk = folder.join(DISK);
    if !disk.exists() {
        return Ok(false);
    }
    let _lock = lock(folder)?;
    taken_back(folder, owner, confined)
}

/// The same, by who has the lock.
fn taken_back(folder: &Path, owner: Option<(u32, u32)>, confined: &dyn Confined) -> Result<bool, Error> {
    let disk = folder.join(DISK);
    if !disk.exists() {
        return Ok(false);
    }
    let taken = folder.join(TAKEN);
    remove(&taken)?;
    for made in [&taken, &taken.join(TREE)] {
        fs::DirBuilder::new().mode(0o700).create(made).map_err(Error::io("create", made))?;
        hand_over(made, owner)?;
    }
    // The programs see this folder and nothing else that can be written, so the disk has a name in it.
    fs::hard_link(&disk, taken.join(LINK)).map_err(Error::io("link", &disk))?;
    let reader = Reader { folder: &taken, owner, confined };
    // A journal that was not written out is read first; `debugfs` alone would not. 1 is "errors were corrected" (e2fsck(8)): a
    // journal that was replayed is none even.
    let at = confined.at(&taken);
    let (link, tree) = (at.join(LINK), at.join(TREE));
    let (link, tree) = (link.to_string_lossy(), tree.to_string_lossy());
    reader.run("check the state's disk", "e2fsck", &["-f", "-p", &link], &[0, 1])?;
    reader.read_all(&format!("rdump / {tree}"), &link)?;
    swap(folder, &taken.join(TREE))?;
    fs::remove_file(&disk).map_err(Error::io("remove", &disk))?;
    remove(&taken)?;
    Ok(true)
}

/// What reads the disk in a folder.
struct Reader<'a> {
    folder: &'a Path,
    owner: Option<(u32, u32)>,
    confined: &'a dyn Confined,
}

impl Reader<'_> {
    /// What a program of e2fsprogs says as errors.
    fn run(
        &self,
        what: &'static str,
        program: &str,
        arguments: &[&str],
        good: &[i32],
    ) -> Result<String, Error> {
        let at = find(program).ok_or_else(|| missing(what, program))?;
        let (folder, owner) = (self.folder, self.owner);
        let output = self.confined.run(&Job { program: &at, arguments, folder, owner });
        said(what, program, good, output)
    }

    /// `debugfs` ends well whatever happened: what it says counts. Its first line is its version.
    fn read_all(&self, request: &str, disk: &str) -> Result<(), Error> {
        let said = self.run("read the state's disk", "debugfs", &["-R", request, disk], &[0])?;
        let bad = |line: &&str| {
            let harmless = line.trim().is_empty() || line.starts_with("debugfs ");
            // Only root can give files away; here everything is the unit's.
            !(harmless || line.contains("while changing ownership"))
        };
        match said.lines().find(bad) {
            Some(line) => Err(Error::Tool { what: "read the state's disk", reason: line.trim().to_owned() }),
            None => Ok(()),
        }
    }
}

/// Puts each folder of the disk at its place. What is interrupted is done again: the disk is removed last.
fn swap(folder: &Path, taken: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(taken).map_err(Error::io("list", taken))? {
        let entry = entry.map_err(Error::io("list", taken))?;
        // Only folders are state; everything else at the top is ours, or a hostile guest's.
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if !is_folder || [LOST, DISK, TAKEN].iter().any(|own| entry.file_name() == *own) {
            continue;
        }
        let to = folder.join(entry.file_name());
        remove(&to)?;
        fs::rename(entry.path(), &to).map_err(Error::io("rename", entry.path()))?;
    }
    let file = File::open(folder).map_err(Error::io("open", folder))?;
    rustix::fs::syncfs(&file).map_err(|errno| Error::io("sync", folder)(errno.into()))
}

fn lock_file(folder: &Path) -> Result<File, Error> {
    let path = beside(folder, "disk-lock");
    // The first run of the first tool.
    let parent = folder.parent().unwrap_or(folder);
    fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    let mut options = File::options();
    let file = options.write(true).create(true).truncate(false).mode(0o600).open(&path);
    file.map_err(Error::io("open", &path))
}

fn lock(folder: &Path) -> Result<File, Error> {
    let file = lock_file(folder)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) if folder.join(DISK).exists() => {
            Err(Error::Busy(folder.join(DISK)))
        }
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Shared(folder.to_owned())),
        Err(errno) => Err(Error::io("lock", folder)(errno.into())),
    }
}

/// As a whole or not at all.
fn make(folder: &Path, path: &Path, size: u64, owner: Option<(u32, u32)>) -> Result<(), Error> {
    let beside = beside(folder, "disk-in-the-making");
    let mut options = File::options();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&beside);
    let file = file.map_err(Error::io("create", &beside))?;
    file.set_len(size).map_err(Error::io("write", &beside))?;
    hand_over(&beside, owner)?;
    if owner.is_some() {
        // Whatever root's mask was when it was made.
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
            .map_err(Error::io("change the mode of", folder))?;
    }
    // As the unit's user, who may write below the folder meanwhile: with its rights alone nothing else is copied.
    let opened = File::open(folder).map_err(Error::io("open", folder))?;
    inherited(&[&file, &opened], folder)?;
    let (from, to) = (by_descriptor(&opened), by_descriptor(&file));
    // Without room for root alone, and without a pause at the first mount for tables that are still to be written.
    let features = "lazy_itable_init=0,lazy_journal_init=0";
    // What it reads is no disk of a guest's, but the unit's own files.
    let made = plainly(
        "make the state's disk",
        "mke2fs",
        &["-q", "-F", "-t", "ext4", "-m", "0", "-E", features, "-d", &from, &to],
        owner,
    );
    let placed = made.and_then(|()| {
        file.sync_all().map_err(Error::io("write", &beside))?;
        fs::rename(&beside, path).map_err(Error::io("rename", &beside))
    });
    if placed.is_err() {
        drop(fs::remove_file(&beside));
    }
    placed
}

/// No other thread of this process starts anything meanwhile.
fn inherited(files: &[&File], what: &Path) -> Result<(), Error> {
    let keep = |file: &&File| rustix::io::fcntl_setfd(file, FdFlags::empty());
    files.iter().try_for_each(keep).map_err(|errno| Error::io("open", what)(errno.into()))
}

/// A descriptor as a path, for a program that inherits it.
fn by_descriptor(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn hand_over(path: &Path, owner: Option<(u32, u32)>) -> Result<(), Error> {
    let Some((uid, gid)) = owner else { return Ok(()) };
    chown(path, Some(uid), Some(gid)).map_err(Error::io("change the owner of", path))
}

/// Where a program of e2fsprogs is.
fn find(program: &str) -> Option<PathBuf> {
    FOLDERS.iter().map(|folder| Path::new(folder).join(program)).find(|path| path.is_file())
}

fn missing(what: &'static str, program: &str) -> Error {
    Error::Tool { what, reason: format!("there is no `{program}` on this host") }
}

/// Runs one as the unit's user, where this is root.
fn plainly(
    what: &'static str,
    program: &str,
    arguments: &[&str],
    user: Option<(u32, u32)>,
) -> Result<(), Error> {
    let at = find(program).ok_or_else(|| missing(what, program))?;
    let mut command = Command::new(at);
    // Nothing of the caller's: `MKE2FS_CONFIG` would change what is made.
    command.args(arguments).env_clear().env("LC_ALL", "C").current_dir("/");
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    said(what, program, &[0], command.output().map_err(|error| error.to_string())).map(drop)
}

/// What it said as errors, if it ended well.
fn said(
    what: &'static str,
    program: &str,
    good: &[i32],
    output: Result<Output, String>,
) -> Result<String, Error> {
    let failed = |reason: String| Error::Tool { what, reason };
    let output = output.map_err(|error| failed(format!("`{program}`: {error}")))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.code().is_some_and(|code| good.contains(&code)) {
        return Ok(said);
    }
    let said = said.lines().filter(|line| !line.trim().is_empty()).collect::<Vec<_>>().join("; ");
    Err(failed(format!("`{program}` says: {said}")))
}

/// A folder of a tool's may have folders in it that even their owner may not list.
fn remove(path: &Path) -> Result<(), Error> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        // Root gets in everywhere, and by paths that others may change it does nothing.
        Ok(is) if is.is_dir() && rustix::process::geteuid().is_root() => {}
        Ok(is) if is.is_dir() => open_up(path),
        Ok(_) => return fs::remove_file(path).map_err(Error::io("remove", path)),
        Err(error) => return Err(Error::io("look at", path)(error)),
    }
    #[expect(clippy::disallowed_methods, reason = "a tool's state, which is no part of the store")]
    fs::remove_dir_all(path).map_err(Error::io("remove", path))
}

/// What cannot be opened up is noticed when it is removed.
fn open_up(folder: &Path) {
    drop(fs::set_permissions(folder, fs::Permissions::from_mode(0o700)));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 64 << 20;

    /// Where the shim is not built. What confines is tried with it, from the outside.
    #[derive(Debug)]
    struct Plainly;

    impl Confined for Plainly {
        fn at(&self, folder: &Path) -> PathBuf {
            folder.to_owned()
        }

        fn run(&self, job: &Job<'_>) -> Result<Output, String> {
            Command::new(job.program).args(job.arguments).output().map_err(|error| error.to_string())
        }
    }

    /// What other tests start holds the lock for a moment, between its start and its program.
    fn free<T>(mut take: impl FnMut() -> Result<T, Error>) -> T {
        for _ in 0..100 {
            match take() {
                Err(Error::Busy(_) | Error::Shared(_)) => {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
                done => return done.unwrap(),
            }
        }
        take().unwrap()
    }

    #[test]
    fn state_goes_to_a_disk_and_comes_back() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("acme");
        let own = folder.join("var-lib-acme-1234");
        fs::create_dir_all(own.join("deep/empty")).unwrap();
        fs::write(own.join("deep/file"), "content").unwrap();
        fs::set_permissions(own.join("deep/file"), fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("deep/file", own.join("link")).unwrap();
        let held = free(|| disk(&folder, &[], SIZE, (None, &Plainly)));
        assert!(matches!(disk(&folder, &[], SIZE, (None, &Plainly)), Err(Error::Busy(_))));
        assert!(matches!(share(&folder, None, &Plainly), Err(Error::Busy(_))));
        assert!(matches!(take_back(&folder, None, &Plainly), Err(Error::Busy(_))));
        drop(held);
        // What is changed in the folder meanwhile does not count.
        fs::write(own.join("deep/file"), "another").unwrap();
        assert!(free(|| take_back(&folder, None, &Plainly)));
        assert_eq!(fs::read_to_string(own.join("link")).unwrap(), "content");
        assert!(own.join("deep/empty").is_dir());
        let mode = fs::metadata(own.join("deep/file")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        assert!(!folder.join(DISK).exists() && !folder.join(TAKEN).exists() && !folder.join(LOST).exists());
        assert!(!free(|| take_back(&folder, None, &Plainly)));
    }

    #[test]
    fn runs_on_other_rungs_share_it_and_keep_guests_away() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("acme-1.0");
        fs::create_dir_all(folder.join("a")).unwrap();
        drop(free(|| disk(&folder, &["a".into()], SIZE, (None, &Plainly))));
        let one = free(|| share(&folder, None, &Plainly));
        assert!(!folder.join(DISK).exists());
        let two = free(|| share(&folder, None, &Plainly));
        drop(one);
        assert!(matches!(disk(&folder, &[], SIZE, (None, &Plainly)), Err(Error::Shared(_))));
        drop(two);
        drop(free(|| disk(&folder, &[], SIZE, (None, &Plainly))));
        // Another tool's is its own.
        drop(free(|| share(&scratch.path().join("acme-1.1"), None, &Plainly)));
    }

    #[test]
    fn many_runs_begin_at_once_whoever_takes_it_back() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("acme");
        fs::create_dir_all(folder.join("a")).unwrap();
        fs::write(folder.join("a/file"), "kept").unwrap();
        drop(free(|| disk(&folder, &["a".into()], SIZE, (None, &Plainly))));
        let all: Vec<_> = (0..8)
            .map(|_| {
                let folder = folder.clone();
                std::thread::spawn(move || {
                    let held = share(&folder, None, &Plainly).unwrap();
                    (held, fs::read_to_string(folder.join("a/file")).unwrap())
                })
            })
            .collect();
        let held: Vec<_> = all.into_iter().map(|one| one.join().unwrap()).collect();
        assert!(held.iter().all(|(_, text)| text == "kept"));
    }

    #[test]
    fn a_folder_that_is_new_is_on_the_disk_too() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("acme");
        fs::create_dir_all(folder.join("a")).unwrap();
        fs::write(folder.join("a/file"), "kept").unwrap();
        drop(free(|| disk(&folder, &["a".into()], SIZE, (None, &Plainly))));
        fs::create_dir_all(folder.join("b")).unwrap();
        fs::write(folder.join("b/file"), "new").unwrap();
        fs::write(folder.join("a/file"), "does not count").unwrap();
        drop(free(|| disk(&folder, &["a".into(), "b".into()], SIZE, (None, &Plainly))));
        assert!(free(|| take_back(&folder, None, &Plainly)));
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        assert_eq!((read("a/file"), read("b/file")), ("kept".into(), "new".into()));
    }

    #[test]
    fn an_interrupted_way_back_is_done_again() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("acme");
        fs::create_dir_all(folder.join("a")).unwrap();
        fs::write(folder.join("a/file"), "kept").unwrap();
        drop(free(|| disk(&folder, &[], SIZE, (None, &Plainly))));
        // As after a crash: half of it taken, the rest gone.
        fs::create_dir_all(folder.join(TAKEN).join("a")).unwrap();
        remove(&folder.join("a")).unwrap();
        assert!(free(|| take_back(&folder, None, &Plainly)));
        assert_eq!(fs::read_to_string(folder.join("a/file")).unwrap(), "kept");
    }
}
