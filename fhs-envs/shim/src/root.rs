//! The new root: an overlay that takes all writes, or where the kernel has none, a mirror of the tree.
use crate::ahead;
use crate::apply::{attach, clone_tree, finish, memory, open_host, reason};
use hatchway_sys::mount::{Attributes, set_attributes};
use hatchway_wire::{HostPath, InsidePath, Op};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::mount::{FsOpenFlags, MountAttrFlags, UnmountFlags};
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Folders of the host to build below; whatever they hold is covered for a moment only.
const STAGING: [&str; 3] = ["/tmp", "/run", "/var"];
/// Files up to this size are copied into a mirror; a mount for each would cost more.
const COPIED: u64 = 256 * 1024;

/// A root that has become `/`.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) root: OwnedFd,
    /// The old root. It is stacked over the new one until it is detached; no path leads to it.
    pub(crate) host: OwnedFd,
    pub(crate) note: Option<String>,
    /// Which of the operations that follow are done already.
    pub(crate) done: BTreeSet<usize>,
}

fn folder_flags() -> OFlags {
    OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC
}

/// The tree below a tmpfs of `size` bytes, in which as much of the operations that follow is done as can be ahead.
pub(crate) fn overlay(
    tree: &HostPath,
    size: u64,
    user_xattr: bool,
    open: &[InsidePath],
    following: &[Op],
) -> io::Result<Made> {
    let host = rustix::fs::open("/", folder_flags(), Mode::empty())?;
    let lower = open_host(&host, tree, OFlags::PATH | OFlags::DIRECTORY)?;
    match overlay_mount(&lower, size, user_xattr, following) {
        Ok((root, done)) => Ok(Made { done, ..pivot(root, host, None)? }),
        Err(error) => {
            let note = format!(
                "no overlay ({}); what the tree has outside of its open folders is read-only",
                reason(&error)
            );
            Ok(Made { note: Some(note), ..mirror(tree, size, open)? })
        }
    }
}

fn overlay_mount(
    lower: &OwnedFd,
    size: u64,
    user_xattr: bool,
    following: &[Op],
) -> io::Result<(OwnedFd, BTreeSet<usize>)> {
    let flags = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
    let scratch = memory(size, 0o755, None, flags)?;
    let mut layers = Vec::new();
    for name in ["upper", "work"] {
        rustix::fs::mkdirat(&scratch, name, Mode::from(0o755))?;
        layers.push(rustix::fs::openat(&scratch, name, folder_flags(), Mode::empty())?);
    }
    let done = ahead::fill(&layers[0], lower, following);
    let made = || -> io::Result<OwnedFd> {
        let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        // By descriptor: a colon or a comma in a path would end the option.
        for (option, layer) in [("lowerdir", lower), ("upperdir", &layers[0]), ("workdir", &layers[1])] {
            let path = format!("/proc/self/fd/{}", layer.as_raw_fd());
            rustix::mount::fsconfig_set_string(&context, option, path)?;
        }
        if user_xattr {
            rustix::mount::fsconfig_set_flag(&context, "userxattr")?;
        }
        finish(&context, flags)
    };
    let root = made().or_else(|_| {
        // Kernels before 6.15 take layers from attached mounts only, so the scratch is attached for a moment. Taking it
        // away again makes the kernel wait for all its processors, which a launch can do without.
        let (name, place) = staging()?;
        attach(&scratch, &place)?;
        let made = made();
        rustix::mount::unmount(name, UnmountFlags::DETACH)?;
        made
    })?;
    Ok((root, done))
}

/// A folder of the host itself, which `open` opens.
pub(crate) fn folder(
    open: impl FnOnce(&OwnedFd) -> io::Result<OwnedFd>,
    read_only: bool,
) -> io::Result<Made> {
    let host = rustix::fs::open("/", folder_flags(), Mode::empty())?;
    let place = open(&host)?;
    let root = clone_tree(&place, false)?;
    set_attributes(&root, Attributes { read_only, no_suid: true, no_dev: true, no_exec: false }, false)?;
    pivot(root, host, None)
}

/// A tmpfs with nothing in it.
pub(crate) fn empty(size: u64) -> io::Result<Made> {
    let host = rustix::fs::open("/", folder_flags(), Mode::empty())?;
    in_memory(host, size)
}

fn in_memory(host: OwnedFd, size: u64) -> io::Result<Made> {
    let flags = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
    pivot(memory(size, 0o755, None, flags)?, host, None)
}

/// A tmpfs filled with what the tree has: binds of whole folders, except on the way to the open ones.
pub(crate) fn mirror(tree: &HostPath, size: u64, open: &[InsidePath]) -> io::Result<Made> {
    let host = rustix::fs::open("/", folder_flags(), Mode::empty())?;
    let tree = open_host(&host, tree, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let made = in_memory(host, size)?;
    let top = InsidePath::new("/").map_err(io::Error::other)?;
    fill(&tree, &made.root, &top, open)?;
    Ok(made)
}

fn fill(from: &OwnedFd, to: &OwnedFd, path: &InsidePath, open: &[InsidePath]) -> io::Result<()> {
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        // A name that is not UTF-8 cannot be in the plan, so nothing is opened below it.
        let below = name.to_str().ok().and_then(|name| path.join(name).ok());
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let source = rustix::fs::openat(from, name, flags, Mode::empty())?;
        let is = rustix::fs::fstat(&source)?;
        let mode = Mode::from(is.st_mode & 0o777);
        match FileType::from_raw_mode(is.st_mode) {
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(from, name, Vec::new())?;
                rustix::fs::symlinkat(target, to, name)?;
            }
            FileType::Directory => {
                rustix::fs::mkdirat(to, name, mode)?;
                let target = rustix::fs::openat(to, name, folder_flags() | OFlags::NOFOLLOW, Mode::empty())?;
                match below {
                    Some(below) if open.iter().any(|open| open.is_within(&below)) => {
                        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                        let source = rustix::fs::openat(from, name, flags, Mode::empty())?;
                        fill(&source, &target, &below, open)?;
                    }
                    _ => show(&source, &target)?,
                }
            }
            FileType::RegularFile if u64::try_from(is.st_size).is_ok_and(|size| size <= COPIED) => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mut source = File::from(rustix::fs::openat(from, name, flags, Mode::empty())?);
                io::copy(&mut source, &mut create(to, name, mode)?)?;
            }
            FileType::RegularFile => {
                drop(create(to, name, mode)?);
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                show(&source, &rustix::fs::openat(to, name, flags, Mode::empty())?)?;
            }
            // The store holds nothing else.
            _ => {}
        }
    }
    Ok(())
}

fn create(folder: &OwnedFd, name: &std::ffi::CStr, mode: Mode) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::openat(folder, name, flags, mode)?))
}

/// Binds a part of the tree, read-only.
fn show(source: &OwnedFd, target: &OwnedFd) -> io::Result<()> {
    let tree = clone_tree(source, true)?;
    set_attributes(&tree, Attributes { read_only: true, no_suid: true, no_dev: true, no_exec: false }, true)?;
    attach(&tree, target)
}

fn staging() -> io::Result<(&'static str, OwnedFd)> {
    let mut last = io::ErrorKind::NotFound.into();
    for name in STAGING {
        match rustix::fs::open(name, folder_flags() | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(place) => return Ok((name, place)),
            Err(errno) => last = errno.into(),
        }
    }
    Err(last)
}

/// Makes a detached mount the root. `pivot_root(".", ".")` stacks the old root over the new one, which needs no
/// folder to put it in; the old one stays reachable through `host` and by nothing else.
fn pivot(root: OwnedFd, host: OwnedFd, note: Option<String>) -> io::Result<Made> {
    let (_, place) = staging()?;
    attach(&root, &place)?;
    rustix::process::fchdir(&root)?;
    rustix::process::pivot_root(".", ".")?;
    // The working folder is the new root still; `/` too, since the kernel moved everybody's.
    let is = rustix::fs::statat(&root, ".", AtFlags::empty())?;
    let slash = rustix::fs::stat("/")?;
    if (is.st_dev, is.st_ino) != (slash.st_dev, slash.st_ino) {
        return Err(io::Error::other("the kernel did not change the root"));
    }
    Ok(Made { root, host, note, done: BTreeSet::new() })
}
