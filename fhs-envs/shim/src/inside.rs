//! Paths below the new root. Every one is resolved by the kernel as if that root were `/`, magic links refused: a
//! symlink in a hostile tree leads somewhere in the tree, never to the host.
use hatchway_wire::{InsidePath, Owner, SourceKind};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

/// The root of the sandbox while it is being made.
#[derive(Debug)]
pub(crate) struct Inside {
    root: OwnedFd,
}

impl Inside {
    pub(crate) fn new(root: OwnedFd) -> Self {
        Self { root }
    }

    /// Opens what is there, following symlinks inside only.
    pub(crate) fn open(&self, at: &InsidePath, flags: OFlags) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        // AGAIN: something was renamed meanwhile, so the kernel could not be sure that we stayed inside.
        for _ in 0..16 {
            match rustix::fs::openat2(
                &self.root,
                at.relative(),
                flags | OFlags::CLOEXEC,
                Mode::empty(),
                resolve,
            ) {
                Err(Errno::AGAIN) => {}
                other => return Ok(other?),
            }
        }
        Err(Errno::AGAIN.into())
    }

    /// The place itself; the last component is not followed.
    pub(crate) fn place(&self, at: &InsidePath) -> io::Result<Option<OwnedFd>> {
        found(self.open(at, OFlags::PATH | OFlags::NOFOLLOW))
    }

    /// The folder, made with those above it where they are missing.
    pub(crate) fn folder(&self, at: &InsidePath) -> io::Result<OwnedFd> {
        if let Some(folder) = found(self.open(at, OFlags::PATH | OFlags::DIRECTORY))? {
            return Ok(folder);
        }
        let (parent, name) = self.parent(at)?;
        match rustix::fs::mkdirat(&parent, name, Mode::from(0o755)) {
            // EXIST: a symlink that leads nowhere; opening it below says so.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        self.open(at, OFlags::PATH | OFlags::DIRECTORY)
    }

    /// The folder with this mode and owner.
    pub(crate) fn owned_folder(&self, at: &InsidePath, mode: u32, owner: Owner) -> io::Result<()> {
        self.folder(at)?;
        let folder = self.open(at, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let is = rustix::fs::fstat(&folder)?;
        if (is.st_uid, is.st_gid) != (owner.uid, owner.gid) {
            rustix::fs::fchown(&folder, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))?;
        }
        if is.st_mode & 0o7777 != mode {
            rustix::fs::fchmod(&folder, Mode::from(mode))?;
        }
        Ok(())
    }

    /// Writes a new file in the place of whatever file or symlink is there.
    pub(crate) fn write(&self, at: &InsidePath, mode: u32, content: &[u8]) -> io::Result<()> {
        let (parent, name) = self.clear(at)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(&parent, name, flags, Mode::from(mode))?);
        file.write_all(content)
    }

    /// Writes a new file that only `owner` may read.
    pub(crate) fn write_for(&self, at: &InsidePath, owner: Owner, content: &[u8]) -> io::Result<()> {
        self.write(at, 0o400, content)?;
        let file = self.open(at, OFlags::RDONLY | OFlags::NOFOLLOW)?;
        Ok(rustix::fs::fchown(&file, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))?)
    }

    /// Makes a symlink in the place of whatever file or symlink is there.
    pub(crate) fn link(&self, at: &InsidePath, to: &str) -> io::Result<()> {
        let (parent, name) = self.clear(at)?;
        Ok(rustix::fs::symlinkat(to, &parent, name)?)
    }

    /// Something of the right kind to mount on: what is there, or something empty and new.
    pub(crate) fn mount_point(&self, at: &InsidePath, kind: SourceKind) -> io::Result<OwnedFd> {
        if kind == SourceKind::Directory {
            return self.folder(at);
        }
        if let Some(place) = found(self.open(at, OFlags::PATH))? {
            let is_folder =
                FileType::from_raw_mode(rustix::fs::fstat(&place)?.st_mode) == FileType::Directory;
            return if is_folder { Err(Errno::ISDIR.into()) } else { Ok(place) };
        }
        self.write(at, 0o444, b"")?;
        self.open(at, OFlags::PATH | OFlags::NOFOLLOW)
    }

    fn parent<'a>(&self, at: &'a InsidePath) -> io::Result<(OwnedFd, &'a str)> {
        let invalid = || io::Error::from(Errno::INVAL);
        let parent = at.parent().ok_or_else(invalid)?;
        Ok((self.folder(&parent)?, at.name().ok_or_else(invalid)?))
    }

    fn clear<'a>(&self, at: &'a InsidePath) -> io::Result<(OwnedFd, &'a str)> {
        let (parent, name) = self.parent(at)?;
        match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok((parent, name)),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// "Not there" is an answer.
fn found(result: io::Result<OwnedFd>) -> io::Result<Option<OwnedFd>> {
    match result {
        Ok(fd) => Ok(Some(fd)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn inside(folder: &std::path::Path) -> Inside {
        Inside::new(File::open(folder).unwrap().into())
    }

    fn at(path: &str) -> InsidePath {
        InsidePath::new(path).unwrap()
    }

    #[test]
    fn folders_through_symlinks_stay_inside() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        std::fs::create_dir(&root).unwrap();
        symlink("/usr/lib", root.join("lib")).unwrap();
        symlink("../../../..", root.join("up")).unwrap();
        let inside = inside(&root);
        inside.folder(&at("/usr/lib")).unwrap();
        inside.folder(&at("/lib/vendor")).unwrap();
        inside.write(&at("/up/escaped"), 0o644, b"x").unwrap();
        assert!(root.join("usr/lib/vendor").is_dir());
        assert!(root.join("escaped").is_file());
        assert!(!outer.path().join("escaped").exists());
    }

    #[test]
    fn files_replace_symlinks_and_do_not_follow_them() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(outer.path().join("victim"), "safe").unwrap();
        symlink(outer.path().join("victim"), root.join("etc/passwd")).unwrap();
        inside(&root).write(&at("/etc/passwd"), 0o644, b"new").unwrap();
        assert_eq!(std::fs::read_to_string(root.join("etc/passwd")).unwrap(), "new");
        assert_eq!(std::fs::read_to_string(outer.path().join("victim")).unwrap(), "safe");
    }

    #[test]
    fn a_dangling_symlink_is_no_folder() {
        let root = tempfile::tempdir().unwrap();
        symlink("/nowhere", root.path().join("dangling")).unwrap();
        assert!(inside(root.path()).folder(&at("/dangling/x")).is_err());
    }

    #[test]
    fn a_folder_is_no_mount_point_for_a_file() {
        let root = tempfile::tempdir().unwrap();
        let inside = inside(root.path());
        inside.folder(&at("/a/b")).unwrap();
        assert!(inside.mount_point(&at("/a/b"), SourceKind::File).is_err());
        inside.mount_point(&at("/a/c"), SourceKind::File).unwrap();
        assert!(root.path().join("a/c").is_file());
    }
}
