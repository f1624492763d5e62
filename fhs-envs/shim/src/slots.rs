//! Devices that come and go: each is shown under its fixed name as long as it is there.
//!
//! A bind shows one node for ever, and after a replug that node is dead. So the attendant watches the host's `/dev`,
//! and when a device of a slot appears or vanishes, a short-lived copy of it enters the unit's mount namespace and
//! binds the new node there, or takes the old one away. A bind needs a mount of the host in hand and the rights of the
//! unit's namespaces at the same time: as root both are at hand, otherwise the copy enters the unit's user namespace
//! first, takes a copy of the host's mounts there, and then enters the unit's mount namespace.
use crate::apply::{attach, clone_tree, open_host};
use crate::channel::Channel;
use crate::follow;
use hatchway_sys::devices::{self, Node};
use hatchway_sys::mount::{Attributes, set_attributes};
use hatchway_sys::process::{Fork, end_at_once, fork};
use hatchway_wire::attend::{Handed, Report};
use hatchway_wire::{DeviceId, HostPath, InsidePath, Slot};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, inotify};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long a copy may take to show one device. It makes a dozen calls, none of which should wait.
const ENTER_MAX: Duration = Duration::from_secs(5);
/// How much of its reason is read.
const SAID_MAX: usize = 4096;
/// How often a place is cleared before we give up.
const PLACE_TRIES: usize = 16;

/// The inner half's side: hands out its namespaces and waits until what is there is shown.
pub(crate) fn hand_out(slots: &[Slot], channel: &Channel) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let namespace = |name: &str| rustix::fs::open(format!("/proc/self/ns/{name}"), flags, Mode::empty());
    channel.send(&Report::Handed(Handed::UserNamespace), Some(namespace("user")?.as_fd()))?;
    let handed = Handed::MountNamespace { slots: slots.to_vec() };
    channel.send(&Report::Handed(handed), Some(namespace("mnt")?.as_fd()))?;
    channel.await_go_on()
}

/// One slot and what is shown in it: the node, and where.
#[derive(Debug)]
struct Shown {
    slot: Slot,
    node: Option<(Node, InsidePath)>,
    /// The last thing that was said about it, so that it is said once.
    said: String,
}

/// The attendant's side.
#[derive(Debug)]
pub(crate) struct Shower {
    slots: Vec<Shown>,
    /// The unit's, if it is not ours.
    user_namespace: Option<OwnedFd>,
    mount_namespace: OwnedFd,
    watch: OwnedFd,
}

impl Shower {
    pub(crate) fn new(
        slots: Vec<Slot>,
        user_namespace: Option<OwnedFd>,
        mount_namespace: OwnedFd,
    ) -> io::Result<(Self, Vec<String>)> {
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        let user_namespace = user_namespace.map(foreign).transpose()?.flatten();
        let slots = slots.into_iter().map(|slot| Shown { slot, node: None, said: String::new() }).collect();
        let mut shower = Self { slots, user_namespace, mount_namespace, watch };
        let notes = shower.update();
        Ok((shower, notes))
    }

    pub(crate) fn watch(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }

    /// Something happened in `/dev`.
    pub(crate) fn changed(&mut self) -> Vec<String> {
        follow::drain(&self.watch);
        self.update()
    }

    fn update(&mut self) -> Vec<String> {
        // First the watch, then the look: what happens between the two is then seen again.
        for folder in devices::folders() {
            follow::add(&self.watch, &folder);
        }
        let (user, mount) = (self.user_namespace.as_ref(), &self.mount_namespace);
        let mut notes = Vec::new();
        for shown in &mut self.slots {
            let said = match shown.update(user, mount) {
                Ok(said) => said,
                Err(error) => format!("cannot show {}: {error}", shown.slot.device),
            };
            if said != shown.said {
                notes.push(said.clone());
                shown.said = said;
            }
        }
        notes
    }
}

impl Shown {
    fn update(&mut self, user: Option<&OwnedFd>, mount: &OwnedFd) -> io::Result<String> {
        let there = find(&self.slot)?;
        if self.node.as_ref().map(|(node, _)| (node.number, node.inode))
            != there.as_ref().map(|node| (node.number, node.inode))
        {
            let old = self.node.take().map(|(_, at)| at);
            let new = there.map(|node| place(&self.slot, &node).map(|at| (node, at))).transpose()?;
            let source =
                new.as_ref().map(|(node, at)| Ok::<_, io::Error>((host_path(node)?, at))).transpose()?;
            enter(user, mount, old.as_ref(), source)?;
            self.node = new;
        }
        Ok(match &self.node {
            Some((node, at)) => format!("{} is `{}`, shown at `{at}`", self.slot.device, node.path.display()),
            None => format!("{} is not there", self.slot.device),
        })
    }
}

fn find(slot: &Slot) -> io::Result<Option<Node>> {
    match &slot.device {
        DeviceId::ById(name) => devices::by_link("by-id", name, &slot.subsystem),
        DeviceId::ByPath(name) => devices::by_link("by-path", name, &slot.subsystem),
        DeviceId::Usb { vendor, product, serial } => {
            devices::by_usb(*vendor, *product, serial.as_deref(), &slot.subsystem)
        }
    }
}

fn host_path(node: &Node) -> io::Result<HostPath> {
    HostPath::try_from(node.path.as_path()).map_err(io::Error::other)
}

/// Where a node is shown: libraries look for USB devices by bus and number, everything else has its fixed name.
fn place(slot: &Slot, node: &Node) -> io::Result<InsidePath> {
    if slot.subsystem != "usb" {
        return Ok(slot.at.clone());
    }
    InsidePath::new(host_path(node)?.as_str()).map_err(io::Error::other)
}

/// A namespace, unless it is the one we are in.
fn foreign(namespace: OwnedFd) -> io::Result<Option<OwnedFd>> {
    let own = rustix::fs::stat("/proc/self/ns/user")?;
    let its = rustix::fs::fstat(&namespace)?;
    Ok(((own.st_dev, own.st_ino) != (its.st_dev, its.st_ino)).then_some(namespace))
}

/// Takes the old node away and shows the new one, in a process that can do nothing else afterwards than end.
fn enter(
    user: Option<&OwnedFd>,
    mount: &OwnedFd,
    old: Option<&InsidePath>,
    new: Option<(HostPath, &InsidePath)>,
) -> io::Result<()> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    match fork()? {
        Fork::Child => {
            let done = die_with_attendant().and_then(|()| exchange(user, mount, old, new));
            if let Err(error) = &done {
                // Nobody is left to tell if the pipe is broken.
                File::from(write).write_all(error.to_string().as_bytes()).ok();
            }
            end_at_once(u8::from(done.is_err()))
        }
        Fork::Parent(pid) => {
            drop(write);
            let Some(said) = hear(File::from(read))? else {
                // Our own child, not waited for yet. If even this does not end it, it is left to the end of the shim.
                nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).ok();
                nix::sys::wait::waitpid(pid, Some(nix::sys::wait::WaitPidFlag::WNOHANG)).ok();
                return Err(io::Error::from(io::ErrorKind::TimedOut));
            };
            let status = nix::sys::wait::waitpid(pid, None)?;
            match status {
                nix::sys::wait::WaitStatus::Exited(_, 0) => Ok(()),
                _ if said.is_empty() => Err(io::Error::other(format!("{status:?}"))),
                _ => Err(io::Error::other(said)),
            }
        }
    }
}

/// What the copy says until its end; nothing if that does not come in time. The places it works in are the tool's, and
/// whatever the tool does there must not stop the attendant for good.
fn hear(mut from: File) -> io::Result<Option<String>> {
    let end = Instant::now() + ENTER_MAX;
    let mut said = Vec::new();
    while said.len() < SAID_MAX {
        let left = end.saturating_duration_since(Instant::now()).as_millis();
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(from.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(nix::Error::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        let mut buffer = [0; 256];
        match from.read(&mut buffer)? {
            0 => break,
            count => said.extend_from_slice(&buffer[..count]),
        }
    }
    Ok(Some(String::from_utf8_lossy(&said).into_owned()))
}

/// A change of the user namespace takes the wish back, so it is made again then.
fn die_with_attendant() -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?)
}

fn exchange(
    user: Option<&OwnedFd>,
    mount: &OwnedFd,
    old: Option<&InsidePath>,
    new: Option<(HostPath, &InsidePath)>,
) -> io::Result<()> {
    if let Some(user) = user {
        setns(user, CloneFlags::CLONE_NEWUSER)?;
        die_with_attendant()?;
        unshare(CloneFlags::CLONE_NEWNS)?;
    }
    let node = new.as_ref().map(|(source, _)| detached(source)).transpose()?;
    let host = rustix::fs::stat("/")?;
    setns(mount, CloneFlags::CLONE_NEWNS)?;
    let now = rustix::fs::stat("/")?;
    if (host.st_dev, host.st_ino) == (now.st_dev, now.st_ino) {
        return Err(io::Error::other("the unit's root is still the host's"));
    }
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    if let Some(at) = old {
        hide(&root, at)?;
    }
    if let (Some(node), Some((_, at))) = (node, new) {
        show(&root, at, &node)?;
    }
    Ok(())
}

/// A mount of the node alone, attached nowhere.
fn detached(source: &HostPath) -> io::Result<OwnedFd> {
    let host = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let tree = clone_tree(&open_host(&host, source, OFlags::PATH)?, false)?;
    set_attributes(&tree, Attributes { no_suid: true, no_exec: true, ..Attributes::default() }, false)?;
    Ok(tree)
}

/// The folder of a node inside. The tool may own `/dev` there; a symlink it has put on the way is not followed.
fn folder(root: &OwnedFd, at: &InsidePath) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = at.parent().ok_or(Errno::INVAL)?;
    let mut built = String::new();
    let mut folder = rustix::fs::openat2(root, ".", flags, Mode::empty(), resolve)?;
    for part in parent.components() {
        match rustix::fs::mkdirat(&folder, part, Mode::from(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        built = if built.is_empty() { part.to_owned() } else { format!("{built}/{part}") };
        folder = rustix::fs::openat2(root, &built, flags, Mode::empty(), resolve)?;
    }
    Ok(folder)
}

fn show(root: &OwnedFd, at: &InsidePath, node: &OwnedFd) -> io::Result<()> {
    let (folder, name) = (folder(root, at)?, at.name().ok_or(Errno::INVAL)?);
    attach(node, place_in(&folder, name)?)
}

/// An empty file to mount on. Whatever the tool has put there instead goes; nothing of it is ever opened, since
/// opening a FIFO waits for its other end.
fn place_in(folder: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // The tool may put something there between two of our calls; it does not win for ever.
    for _ in 0..PLACE_TRIES {
        match rustix::fs::openat(folder, name, flags, Mode::empty()) {
            Ok(place) => match FileType::from_raw_mode(rustix::fs::fstat(&place)?.st_mode) {
                FileType::RegularFile => return Ok(place),
                FileType::Directory => match rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR) {
                    Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => {}
                    Err(errno) => return Err(errno.into()),
                },
                _ => match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT | Errno::ISDIR) => {}
                    Err(errno) => return Err(errno.into()),
                },
            },
            Err(Errno::NOENT) => {
                match rustix::fs::mknodat(folder, name, FileType::RegularFile, Mode::from(0o444), 0) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(io::Error::other("the tool puts something in its place again and again"))
}

/// "No such device" is what the tool should see, so nothing is left in its place.
fn hide(root: &OwnedFd, at: &InsidePath) -> io::Result<()> {
    let (folder, name) = (folder(root, at)?, at.name().ok_or(Errno::INVAL)?);
    rustix::process::fchdir(&folder)?;
    match rustix::mount::unmount(name, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
