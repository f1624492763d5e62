//! Files and folders that a plan makes, put into the upper layer before the overlay is mounted over it. Made through the
//! overlay, each would be looked up in both layers, and each folder of the tree copied up before its owner is changed: a
//! twentieth of a launch.
//!
//! Only where that makes no difference: every folder on the way is a real folder of the tree or none, so that no symlink is
//! hidden by what is made, and nothing of the plan has been mounted over the place. The rest is left to the loop.
use hatchway_wire::{InsidePath, Op, Owner};
use rustix::fs::{FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Does what can be done ahead of `ops`, which follow the operation that makes the root, and says which of them that is.
pub(crate) fn fill(upper: &OwnedFd, lower: &OwnedFd, ops: &[Op]) -> BTreeSet<usize> {
    let mut layers = Layers { upper, lower, last: None };
    let mut covered: Vec<&InsidePath> = Vec::new();
    let mut done = BTreeSet::new();
    for (index, op) in ops.iter().enumerate() {
        let free = |at: &InsidePath| !covered.iter().any(|above| at.is_within(above));
        // What fails here is tried again in its turn, and fails there with its name if it must.
        let made = match op {
            Op::File { at, mode, content } if free(at) => layers.file(at, *mode, content.as_bytes()),
            Op::Directory { at, mode, owner } if free(at) => layers.folder(at, *mode, *owner),
            Op::File { .. } | Op::Directory { .. } | Op::MountPoint { .. } => Ok(false),
            Op::ReadOnly { at } => {
                covered.push(at);
                Ok(false)
            }
            _ => break,
        };
        if made.unwrap_or(false) {
            done.insert(index);
        }
    }
    done
}

struct Layers<'a> {
    upper: &'a OwnedFd,
    lower: &'a OwnedFd,
    /// The folder that was needed last: most of a plan's files are in one.
    last: Option<(InsidePath, Parent)>,
}

/// One folder in both layers.
struct Parent {
    upper: OwnedFd,
    /// Nothing where the tree has no such folder.
    lower: Option<OwnedFd>,
}

impl Layers<'_> {
    fn file(&mut self, at: &InsidePath, mode: u32, content: &[u8]) -> io::Result<bool> {
        let Some((parent, name)) = self.parent(at)? else { return Ok(false) };
        if let Some(lower) = &parent.lower
            && there(lower.as_fd(), name)?
                .is_some_and(|is| FileType::from_raw_mode(is.st_mode) == FileType::Directory)
        {
            return Ok(false);
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(&parent.upper, name, flags, Mode::from(mode))?);
        file.write_all(content)?;
        Ok(true)
    }

    fn folder(&mut self, at: &InsidePath, mode: u32, owner: Owner) -> io::Result<bool> {
        let Some((parent, name)) = self.parent(at)? else { return Ok(false) };
        if let Some(lower) = &parent.lower
            && there(lower.as_fd(), name)?
                .is_some_and(|is| FileType::from_raw_mode(is.st_mode) != FileType::Directory)
        {
            return Ok(false);
        }
        make(&parent.upper, name, Mode::from(mode))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(&parent.upper, name, flags, Mode::empty())?;
        rustix::fs::fchown(&folder, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))?;
        rustix::fs::fchmod(&folder, Mode::from(mode))?;
        Ok(true)
    }

    /// The folder something lies in, in both layers; nothing where the tree has something else on the way.
    fn parent<'p>(&mut self, at: &'p InsidePath) -> io::Result<Option<(&Parent, &'p str)>> {
        let (Some(path), Some(name)) = (at.parent(), at.name()) else { return Ok(None) };
        if self.last.as_ref().is_none_or(|(last, _)| *last != path) {
            self.last = self.walk(&path)?.map(|parent| (path, parent));
        }
        Ok(self.last.as_ref().map(|(_, parent)| (parent, name)))
    }

    fn walk(&self, path: &InsidePath) -> io::Result<Option<Parent>> {
        let open =
            |folder: BorrowedFd<'_>, name: &str| rustix::fs::openat(folder, name, FOLDER, Mode::empty());
        let mut upper = open(self.upper.as_fd(), ".")?;
        let mut lower = Some(open(self.lower.as_fd(), ".")?);
        let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        for name in path.relative().split('/').filter(|name| !name.is_empty() && *name != ".") {
            let is = match &lower {
                Some(folder) => there(folder.as_fd(), name)?,
                None => None,
            };
            let mode = match is {
                None => 0o755,
                // A folder of the upper layer is shown with its own owner, and what is made here is ours.
                Some(is)
                    if FileType::from_raw_mode(is.st_mode) == FileType::Directory
                        && (is.st_uid, is.st_gid) == own =>
                {
                    is.st_mode & 0o7777
                }
                Some(_) => return Ok(None),
            };
            make(&upper, name, Mode::from(mode))?;
            upper = open(upper.as_fd(), name)?;
            lower = match (lower, is) {
                (Some(folder), Some(_)) => Some(open(folder.as_fd(), name)?),
                _ => None,
            };
        }
        Ok(Some(Parent { upper, lower }))
    }
}

/// A folder, which may be there from an operation before.
fn make(parent: &OwnedFd, name: &str, mode: Mode) -> io::Result<()> {
    match rustix::fs::mkdirat(parent, name, mode) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// What lies there, symlinks not followed.
fn there(folder: BorrowedFd<'_>, name: &str) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(folder, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
        Ok(is) => Ok(Some(is)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::Path;

    fn at(path: &str) -> InsidePath {
        InsidePath::new(path).unwrap()
    }

    fn file(path: &str) -> Op {
        Op::File { at: at(path), mode: 0o644, content: "x".to_owned() }
    }

    fn folder(path: &str) -> Op {
        let owner =
            Owner { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() };
        Op::Directory { at: at(path), mode: 0o700, owner }
    }

    fn filled(upper: &Path, lower: &Path, ops: &[Op]) -> Vec<usize> {
        let open = |path: &Path| OwnedFd::from(File::open(path).unwrap());
        fill(&open(upper), &open(lower), ops).into_iter().collect()
    }

    #[test]
    fn files_and_folders_take_the_modes_of_the_trees_folders() {
        let (upper, lower) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(lower.path().join("var/log")).unwrap();
        fs::set_permissions(lower.path().join("var"), fs::Permissions::from_mode(0o750)).unwrap();
        let ops = [file("/etc/hosts"), folder("/var/log"), folder("/home/tool")];
        assert_eq!(filled(upper.path(), lower.path(), &ops), [0, 1, 2]);
        let mode = |path: &str| fs::metadata(upper.path().join(path)).unwrap().mode() & 0o7777;
        assert_eq!((mode("var"), mode("var/log"), mode("home/tool")), (0o750, 0o700, 0o700));
        assert_eq!(fs::read_to_string(upper.path().join("etc/hosts")).unwrap(), "x");
    }

    #[test]
    fn symlinks_of_the_tree_are_left_to_the_overlay() {
        let (upper, lower) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(lower.path().join("data")).unwrap();
        symlink("data", lower.path().join("var")).unwrap();
        symlink("/nowhere", lower.path().join("data/log")).unwrap();
        fs::write(lower.path().join("etc"), "a file").unwrap();
        let ops = [folder("/var/log"), folder("/data/log"), file("/etc/hosts"), file("/data/log")];
        // A file takes the place of a symlink, as it does through the overlay.
        assert_eq!(filled(upper.path(), lower.path(), &ops), [3]);
        assert!(!upper.path().join("var").exists());
        assert!(!upper.path().join("etc").exists());
        assert_eq!(fs::read_to_string(upper.path().join("data/log")).unwrap(), "x");
    }

    #[test]
    fn a_folder_is_not_hidden_by_a_file() {
        let (upper, lower) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(lower.path().join("etc/hosts")).unwrap();
        assert!(filled(upper.path(), lower.path(), &[file("/etc/hosts")]).is_empty());
        assert!(!upper.path().join("etc/hosts").exists());
    }

    #[test]
    fn nothing_is_done_ahead_of_what_is_mounted_over_it() {
        let (upper, lower) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let ops = [Op::ReadOnly { at: at("/usr") }, folder("/usr/x"), Op::Dev, folder("/dev/x")];
        assert!(filled(upper.path(), lower.path(), &ops).is_empty());
        assert!(!upper.path().join("usr").exists());
        assert!(!upper.path().join("dev").exists());
    }
}
