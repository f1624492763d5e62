//! A copy, inside, of a file of the host that others replace at any time: the resolver's configuration.
//!
//! A bind would show the file that was there at the launch for ever, since a new one is put in its place by renaming;
//! a bind of its folder would show the whole folder. So the attendant watches the folders on the way to the file and
//! copies it when something happens there. The copy is replaced by renaming too: readers never see half of one.
use hatchway_wire::HostPath;
use rustix::fs::{Mode, OFlags, ResolveFlags, inotify};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// No resolver configuration is longer; glibc reads three servers.
const SIZE_MAX: u64 = 64 * 1024;
/// As many symlinks as the kernel follows.
const LINKS_MAX: usize = 40;
/// What the tool reads while the host has no such file.
const MISSING: &[u8] = b"# the host has none\n";

/// The first copy, by the inner half, before it leaves the host.
pub(crate) fn copy(host: &OwnedFd, source: &HostPath, folder: &OwnedFd, name: &str) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    // Links on the host are the host's own affair; they are followed as the host would.
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let content = match rustix::fs::openat2(host, source.relative(), flags, Mode::empty(), resolve) {
        Ok(fd) => read(File::from(fd))?,
        Err(Errno::NOENT) => MISSING.to_vec(),
        Err(errno) => return Err(errno.into()),
    };
    replace(folder, name, &content)
}

fn read(file: File) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.take(SIZE_MAX).read_to_end(&mut content)?;
    Ok(content)
}

fn replace(folder: &OwnedFd, name: &str, content: &[u8]) -> io::Result<()> {
    let fresh = format!(".{name}.new");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, &fresh, flags, Mode::from(0o644))?;
    // The mask of whoever started us must not hide it from the tool.
    rustix::fs::fchmod(&file, Mode::from(0o644))?;
    File::from(file).write_all(content)?;
    Ok(rustix::fs::renameat(folder, &fresh, folder, name)?)
}

/// The attendant's side.
#[derive(Debug)]
pub(crate) struct Follower {
    source: PathBuf,
    name: String,
    folder: OwnedFd,
    watch: OwnedFd,
    last: Option<Vec<u8>>,
}

impl Follower {
    /// Watches the file, and copies it at once in case it has changed since the first copy.
    pub(crate) fn new(source: &HostPath, folder: OwnedFd) -> io::Result<Self> {
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        let name = source.name().ok_or(Errno::INVAL)?.to_owned();
        let mut follower = Self { source: PathBuf::from(source.as_str()), name, folder, watch, last: None };
        follower.update()?;
        Ok(follower)
    }

    pub(crate) fn watch(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }

    /// Something happened in one of the folders.
    pub(crate) fn changed(&mut self) -> io::Result<()> {
        drain(&self.watch);
        self.update()
    }

    fn update(&mut self) -> io::Result<()> {
        // First the watch, then the look: what happens between the two is then seen again.
        for folder in folders(&self.source) {
            add(&self.watch, &folder);
        }
        let content = match File::open(&self.source) {
            Ok(file) => read(file)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => MISSING.to_vec(),
            Err(error) => return Err(error),
        };
        if self.last.as_ref() != Some(&content) {
            replace(&self.folder, &self.name, &content)?;
            self.last = Some(content);
        }
        Ok(())
    }
}

/// Watches a folder for entries that come, go and change. One that is not there cannot be watched, and the one above
/// it tells when it comes.
pub(crate) fn add(watch: &OwnedFd, folder: &Path) {
    use inotify::WatchFlags as Flags;
    let what = Flags::CREATE | Flags::DELETE | Flags::MOVED_TO | Flags::MOVED_FROM | Flags::CLOSE_WRITE;
    inotify::add_watch(watch, folder, what | Flags::ONLYDIR).ok();
}

/// Reads away what a watch has to say: that it speaks is enough.
pub(crate) fn drain(watch: &OwnedFd) {
    let mut events = [0; 4096];
    while rustix::io::read(watch, &mut events).is_ok_and(|read| read > 0) {}
}

/// The folders that decide what a path leads to: its own, those of each link on the way, and those above a missing one.
fn folders(source: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut path = source.to_owned();
    for _ in 0..LINKS_MAX {
        let Some(parent) = path.parent() else { break };
        found.extend(parent.ancestors().find(|folder| folder.is_dir()).map(Path::to_owned));
        match std::fs::read_link(&path) {
            Ok(target) => path = parent.join(target),
            Err(_) => break,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_folder_on_the_way_is_watched() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        for folder in ["etc", "run", "run/a"] {
            std::fs::create_dir(at(folder)).unwrap();
        }
        std::os::unix::fs::symlink("../run/a/b/stub", at("etc/resolv.conf")).unwrap();
        let found = folders(&at("etc/resolv.conf"));
        assert_eq!(found, BTreeSet::from([at("etc"), at("etc/../run/a")]));
    }
}
