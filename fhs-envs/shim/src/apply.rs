//! The plan, applied: one function per operation, one loop over all of them.
use crate::channel::Channel;
use crate::inside::Inside;
use crate::{control_group, doors, follow, host, link, mapping, relay, root, slots};
use hatchway_sys::mount::{Attributes, set_attributes};
use hatchway_wire::attend::{Handed, Report};
use hatchway_wire::{HostPath, InsidePath, Op, Owner, SourceKind};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags,
};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// A failed operation, as the attendant reports it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) operation: String,
    pub(crate) path: Option<String>,
    pub(crate) source: io::Error,
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(operation: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self { operation: operation.into(), path: None, source: source.into(), hint: None }
    }

    pub(crate) fn report(self) -> Report {
        Report::Failed {
            operation: self.operation,
            path: self.path,
            errno: self.source.raw_os_error(),
            message: reason(&self.source),
            hint: self.hint,
        }
    }
}

/// An error in words, without the number that `Display` adds.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = words.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// What has been made so far.
#[derive(Debug)]
pub(crate) struct Sandbox<'a> {
    /// To the attendant, which serves what is handed out.
    channel: &'a Channel,
    /// `/` of the host, as long as it is there.
    host: Option<OwnedFd>,
    /// The new root, once it is there.
    inside: Option<Inside>,
    /// The attendant maps the ids, and this process becomes another user.
    is_mapped: bool,
    /// What was opened before that.
    opened: BTreeMap<HostPath, OwnedFd>,
    /// Operations of the list at work that were done ahead, by their place in it.
    done: BTreeSet<usize>,
    /// What was done otherwise than planned.
    pub(crate) notes: Vec<String>,
}

impl<'a> Sandbox<'a> {
    pub(crate) fn new(channel: &'a Channel, is_mapped: bool) -> Self {
        Self {
            channel,
            host: None,
            inside: None,
            is_mapped,
            opened: BTreeMap::new(),
            done: BTreeSet::new(),
            notes: Vec::new(),
        }
    }

    /// Applies the operations in order and stops at the first that fails.
    pub(crate) fn apply(&mut self, ops: &[Op]) -> Result<(), Failure> {
        for (index, op) in ops.iter().enumerate() {
            if self.done.remove(&index) {
                continue;
            }
            self.one(op, index, ops).map_err(|source| Failure {
                operation: op.to_string(),
                path: path(op),
                hint: hint(op, &source),
                source,
            })?;
        }
        Ok(())
    }

    fn one(&mut self, op: &Op, index: usize, all: &[Op]) -> io::Result<()> {
        match op {
            // The attendant did it: this process is inside.
            Op::Unshare(_) => Ok(()),
            Op::IdMap { inside_uid, inside_gid, .. } if self.is_mapped => {
                self.channel.await_go_on()?;
                mapping::become_mapped(*inside_uid, *inside_gid)
            }
            Op::IdMap { inside_uid, outside_uid, inside_gid, outside_gid } => {
                mapping::own((*inside_uid, *outside_uid), (*inside_gid, *outside_gid))
            }
            Op::MakeSlave => {
                let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
                Ok(rustix::mount::mount_change("/", slave)?)
            }
            Op::OverlayRoot { tree, size, user_xattr, open } => {
                let following = index + 1;
                let mut made =
                    root::overlay(tree, *size, *user_xattr, open, all.get(following..).unwrap_or_default())?;
                self.done.extend(std::mem::take(&mut made.done).into_iter().map(|done| following + done));
                self.enter(made)
            }
            Op::MirrorRoot { tree, size, open } => {
                let made = root::mirror(tree, *size, open)?;
                self.enter(made)
            }
            Op::MemoryRoot { size } => {
                let made = root::empty(*size)?;
                self.enter(made)
            }
            Op::FolderRoot { folder, read_only } => {
                let made = root::folder(|host| self.source(host, folder), *read_only)?;
                self.enter(made)
            }
            Op::GivenRoot => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                self.inside = Some(Inside::new(rustix::fs::open("/", flags, Mode::empty())?));
                Ok(())
            }
            Op::Directory { at, mode, owner } => self.inside()?.owned_folder(at, *mode, *owner),
            Op::File { at, mode, content } => self.inside()?.write(at, *mode, content.as_bytes()),
            Op::Symlink { at, to } => self.inside()?.link(at, to),
            Op::Secret { at, owner, content } => self.inside()?.write_for(at, *owner, content),
            Op::Follow { source, folder, at } => self.follow(source, folder, at),
            Op::Interface { name, mac } => link::make_interface(name, *mac),
            Op::Relay { to } => relay::listen(to, self.channel),
            Op::Channels { channels } => doors::make(channels, self.inside()?, self.channel),
            Op::ControlGroup { path } => control_group::enter(path),
            Op::Slots { slots } => slots::hand_out(slots, self.channel),
            Op::MountPoint { at, kind } => self.inside()?.mount_point(at, *kind).map(drop),
            Op::ReadOnly { at } => self.make_read_only(at),
            Op::Bind { source, at, kind, read_only, optional } => {
                match self.bind(source, at, *kind, *read_only) {
                    Err(error) if *optional && error.kind() == io::ErrorKind::NotFound => Ok(()),
                    done => done,
                }
            }
            Op::Tmpfs { at, mode, size, owner } => self.tmpfs(at, *mode, *size, *owner),
            Op::Dev => self.dev(),
            Op::DevPts { gid } => self.devpts(*gid),
            Op::Proc => self.proc(),
            Op::Mask { at } => self.mask(at),
            Op::Loopback => hatchway_sys::network::loopback_up(),
            Op::NoLoopback => hatchway_sys::network::loopback_down(),
            Op::HostName { name } => Ok(rustix::system::sethostname(name.as_bytes())?),
            Op::LeaveHost => self.leave_host(),
        }
    }

    fn inside(&self) -> io::Result<&Inside> {
        self.inside.as_ref().ok_or_else(|| io::Error::other("the plan has no root yet"))
    }

    fn host(&self) -> io::Result<&OwnedFd> {
        self.host
            .as_ref()
            .ok_or_else(|| io::Error::other("the host is not reachable at this point of the plan"))
    }

    /// Makes a mount `/` and keeps the old root under a descriptor only.
    fn enter(&mut self, made: root::Made) -> io::Result<()> {
        self.notes.extend(made.note);
        self.host = Some(made.host);
        self.inside = Some(Inside::new(made.root));
        Ok(())
    }

    fn leave_host(&mut self) -> io::Result<()> {
        let host = self.host.take().ok_or_else(|| io::Error::other("the plan leaves the host twice"))?;
        rustix::process::fchdir(&host)?;
        rustix::mount::unmount(".", UnmountFlags::DETACH)?;
        rustix::process::chdir("/")?;
        self.inside = None;
        self.opened.clear();
        Ok(())
    }

    /// Opens the folders of a build step while this process may: who it becomes has no way to a builder's folder.
    pub(crate) fn open_ahead(&mut self, ops: &[Op]) {
        let sources = ops.iter().filter_map(|op| match op {
            Op::Bind { source, .. } => Some(source),
            Op::FolderRoot { folder, .. } => Some(folder),
            _ => None,
        });
        let Ok(host) =
            rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        else {
            return;
        };
        for source in sources.filter(|_| self.is_mapped) {
            // What cannot be opened now is an error in its turn, with the operation's name.
            if let Ok(opened) = open_host(&host, source, OFlags::PATH) {
                self.opened.insert(source.clone(), opened);
            }
        }
    }

    /// What is to be shown of the host.
    fn source(&self, host: &OwnedFd, path: &HostPath) -> io::Result<OwnedFd> {
        match self.opened.get(path) {
            Some(opened) => Ok(opened.try_clone()?),
            None => open_host(host, path, OFlags::PATH),
        }
    }

    fn bind(&self, source: &HostPath, at: &InsidePath, kind: SourceKind, read_only: bool) -> io::Result<()> {
        let from = self.source(self.host()?, source)?;
        check_kind(&from, kind)?;
        let tree = clone_tree(&from, kind == SourceKind::Directory)?;
        let no_dev = kind != SourceKind::Device;
        let set = Attributes { read_only, no_suid: true, no_dev, no_exec: false };
        set_attributes(&tree, set, true)?;
        attach(&tree, &self.inside()?.mount_point(at, kind)?)
    }

    /// A folder in memory that only the attendant can write, and a symlink to the file in it.
    fn follow(&self, source: &HostPath, folder: &InsidePath, at: &InsidePath) -> io::Result<()> {
        let name = at.name().ok_or(Errno::INVAL)?;
        let inside = self.inside()?;
        let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        attach(&memory(1 << 20, 0o755, None, flags)?, &inside.folder(folder)?)?;
        // Opened before the read-only view is laid over it, it stays writable.
        let writable = inside.open(folder, OFlags::RDONLY | OFlags::DIRECTORY)?;
        follow::copy(self.host()?, source, &writable, name)?;
        self.make_read_only(folder)?;
        inside.link(at, folder.join(name).map_err(io::Error::other)?.as_str())?;
        let handed = Handed::Follow { source: source.clone() };
        self.channel.send(&Report::Handed(handed), Some(writable.as_fd()))
    }

    /// A folder or file mounted on itself, so that it has attributes of its own.
    fn make_read_only(&self, at: &InsidePath) -> io::Result<()> {
        let Some(place) = self.inside()?.place(at)? else { return Ok(()) };
        if file_type(&place)? == FileType::Symlink {
            return Ok(());
        }
        let tree = clone_tree(&place, true)?;
        set_attributes(&tree, Attributes { read_only: true, ..Attributes::default() }, true)?;
        attach(&tree, &place)
    }

    fn tmpfs(&self, at: &InsidePath, mode: u32, size: u64, owner: Owner) -> io::Result<()> {
        let place = self.inside()?.folder(at)?;
        let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        attach(&memory(size, mode, Some(owner), flags)?, &place)
    }

    fn dev(&self) -> io::Result<()> {
        let (dev, inside) = (inside("/dev")?, self.inside()?);
        let place = inside.folder(&dev)?;
        let flags = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        // New, empty and out of anybody's reach, so its names need none of the care that paths of a tree do.
        let folder = memory(1 << 20, 0o755, None, flags)?;
        attach(&folder, &place)?;
        for name in ["null", "zero", "full", "random", "urandom", "tty"] {
            let source = HostPath::new(format!("/dev/{name}")).map_err(io::Error::other)?;
            let from = open_host(self.host()?, &source, OFlags::PATH)?;
            check_kind(&from, SourceKind::Device)?;
            rustix::fs::mknodat(&folder, name, FileType::RegularFile, Mode::from(0o444), 0)?;
            let to = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
            rustix::mount::move_mount(clone_tree(&from, false)?, "", &folder, name, to)?;
        }
        let links = [
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
            ("ptmx", "pts/ptmx"),
        ];
        for (name, to) in links {
            rustix::fs::symlinkat(to, &folder, name)?;
        }
        Ok(())
    }

    fn devpts(&self, gid: Option<u32>) -> io::Result<()> {
        let place = self.inside()?.folder(&inside("/dev/pts")?)?;
        let context = rustix::mount::fsopen("devpts", FsOpenFlags::FSOPEN_CLOEXEC)?;
        rustix::mount::fsconfig_set_string(&context, "ptmxmode", "0666")?;
        rustix::mount::fsconfig_set_string(&context, "mode", "0620")?;
        if let Some(gid) = gid {
            rustix::mount::fsconfig_set_string(&context, "gid", gid.to_string())?;
        }
        let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        attach(&finish(&context, flags)?, &place)
    }

    fn proc(&self) -> io::Result<()> {
        let place = self.inside()?.folder(&inside("/proc")?)?;
        let context = rustix::mount::fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let flags = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        attach(&finish(&context, flags)?, &place)
    }

    fn mask(&self, at: &InsidePath) -> io::Result<()> {
        let Some(place) = self.inside()?.place(at)? else { return Ok(()) };
        if file_type(&place)? == FileType::Directory {
            let flags = MountAttrFlags::MOUNT_ATTR_NOSUID
                | MountAttrFlags::MOUNT_ATTR_NODEV
                | MountAttrFlags::MOUNT_ATTR_NOEXEC
                | MountAttrFlags::MOUNT_ATTR_RDONLY;
            return attach(&memory(4096, 0o555, None, flags)?, &place);
        }
        let null = self.inside()?.open(&inside("/dev/null")?, OFlags::PATH)?;
        let tree = clone_tree(&null, false)?;
        set_attributes(&tree, Attributes { read_only: true, ..Attributes::default() }, false)?;
        attach(&tree, &place)
    }
}

fn inside(path: &str) -> io::Result<InsidePath> {
    InsidePath::new(path).map_err(io::Error::other)
}

/// Opens a path of the host; a symlink anywhere in it is an error.
pub(crate) fn open_host(host: &OwnedFd, path: &HostPath, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = flags | OFlags::CLOEXEC;
    Ok(rustix::fs::openat2(host, path.relative(), flags, Mode::empty(), resolve)?)
}

/// A detached copy of the mount at `place`, with what is mounted below if `recursive`.
pub(crate) fn clone_tree(place: impl AsFd, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(rustix::mount::open_tree(place, "", flags)?)
}

/// Mounts what is detached on what is open.
pub(crate) fn attach(mount: impl AsFd, place: impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, "", place, "", flags)?)
}

/// A detached tmpfs.
pub(crate) fn memory(
    size: u64,
    mode: u32,
    owner: Option<Owner>,
    flags: MountAttrFlags,
) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&context, "size", size.to_string())?;
    rustix::mount::fsconfig_set_string(&context, "mode", format!("{mode:o}"))?;
    if let Some(owner) = owner {
        rustix::mount::fsconfig_set_string(&context, "uid", owner.uid.to_string())?;
        rustix::mount::fsconfig_set_string(&context, "gid", owner.gid.to_string())?;
    }
    finish(&context, flags)
}

/// Turns a configured file system into a detached mount.
pub(crate) fn finish(context: &OwnedFd, flags: MountAttrFlags) -> io::Result<OwnedFd> {
    rustix::mount::fsconfig_create(context)?;
    Ok(rustix::mount::fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, flags)?)
}

fn file_type(fd: impl AsFd) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode))
}

fn check_kind(fd: &OwnedFd, kind: SourceKind) -> io::Result<()> {
    match (kind, file_type(fd)?) {
        (SourceKind::Directory, FileType::Directory)
        | (SourceKind::File, FileType::RegularFile)
        | (SourceKind::Device, FileType::CharacterDevice | FileType::BlockDevice)
        | (SourceKind::Socket, FileType::Socket) => Ok(()),
        (SourceKind::Directory, _) => Err(Errno::NOTDIR.into()),
        (SourceKind::File, _) => Err(io::Error::other("it is not a regular file")),
        (SourceKind::Device, _) => Err(Errno::NODEV.into()),
        (SourceKind::Socket, _) => Err(Errno::NOTSOCK.into()),
    }
}

/// The path a person has to look at.
fn path(op: &Op) -> Option<String> {
    match op {
        Op::Bind { source, .. } => Some(source.to_string()),
        Op::OverlayRoot { tree, .. } | Op::MirrorRoot { tree, .. } => Some(tree.to_string()),
        Op::FolderRoot { folder, .. } => Some(folder.to_string()),
        Op::Directory { at, .. }
        | Op::File { at, .. }
        | Op::Symlink { at, .. }
        | Op::Secret { at, .. }
        | Op::Follow { at, .. }
        | Op::MountPoint { at, .. }
        | Op::ReadOnly { at }
        | Op::Tmpfs { at, .. }
        | Op::Mask { at } => Some(at.to_string()),
        _ => None,
    }
}

fn hint(op: &Op, error: &io::Error) -> Option<String> {
    let denied = error.kind() == io::ErrorKind::PermissionDenied;
    match (op, Errno::from_io_error(error)) {
        (Op::IdMap { .. } | Op::MakeSlave, _) if denied => Some(host::namespace_hint()),
        (
            Op::OverlayRoot { .. } | Op::MirrorRoot { .. } | Op::FolderRoot { .. } | Op::Bind { .. },
            Some(Errno::LOOP),
        ) => Some("a part of this path is a symlink; give the path it leads to".to_owned()),
        (Op::OverlayRoot { .. } | Op::MirrorRoot { .. }, Some(Errno::NOENT)) => {
            Some("the tree is not in the store; `hatchway build` makes it".to_owned())
        }
        (Op::Interface { .. }, Some(Errno::OPNOTSUPP)) => Some(
            "this kernel has no kind of interface that leads nowhere: `modprobe dummy`, or one with bridges"
                .to_owned(),
        ),
        (Op::Relay { .. } | Op::Channels { .. }, Some(Errno::ADDRINUSE | Errno::ADDRNOTAVAIL)) => Some(
            "each address may be named once, and IPv6 must be switched on for an IPv6 address".to_owned(),
        ),
        (Op::Proc, _) if denied => Some(
            "in a container whose /proc is masked the kernel refuses a second one; \
             start it with `--security-opt systempaths=unconfined`"
                .to_owned(),
        ),
        (_, Some(Errno::NOSYS)) => Some(
            "this needs Linux 5.12 or later; under systemd, `RestrictSUIDSGID=yes` hides openat2 as well"
                .to_owned(),
        ),
        (Op::Bind { source, .. }, _) if denied => {
            Some(format!("`ls -ld {source}` shows who may open it; the folders above it count too"))
        }
        _ => None,
    }
}
