//! Landlock: a second wall behind the mounts. What is not below the sandbox's own root cannot be opened, however the tool
//! came by a descriptor that leads there, and programs stay read-only whatever becomes of the mounts.
//!
//! The rules are made while nothing runs yet, and the tool takes them on itself between its fork and its start: PID 1
//! stays outside, so that it can still signal and trace what is in.
use hatchway_wire::Fence;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};
use rustix::fs::{FileType, Mode, OFlags};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

/// The newest version whose meaning is known here; kernels with less keep what they can. 5 has `ioctl` on devices, 6 has
/// abstract sockets and signals.
const KNOWN: ABI = ABI::V6;
/// The root of a tree has some twenty entries; each costs two system calls.
const ENTRIES_MAX: usize = 256;

/// Makes the rules, after the mounts and with the tool's rights. Nothing where the plan has none.
pub(crate) fn make(fence: Option<&Fence>) -> io::Result<Option<RulesetCreated>> {
    let Some(fence) = fence else { return Ok(None) };
    let mut rules = Rules::new(fence.connect).map_err(|error| told(&error))?;
    let read = AccessFs::from_read(KNOWN);
    rules.path("/", read)?;
    let write = read | AccessFs::from_write(KNOWN) & !BitFlags::from(AccessFs::IoctlDev);
    for name in top()? {
        let path = format!("/{name}");
        if !fence.read_only.iter().any(|place| place.as_str() == path) {
            rules.path(&path, write)?;
        }
    }
    for place in &fence.write {
        rules.path(place.as_str(), write)?;
    }
    for place in &fence.devices {
        rules.path(place.as_str(), write | AccessFs::IoctlDev)?;
    }
    // A process names itself and its threads there; what changes the host is mounted read-only.
    rules.path("/proc", read | AccessFs::WriteFile | AccessFs::Truncate)?;
    let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    streams.into_iter().try_for_each(|stream| rules.stream(stream))?;
    Ok(Some(rules.0))
}

/// From here on for this process and all it starts.
pub(crate) fn enter(rules: RulesetCreated) -> io::Result<()> {
    rules.restrict_self().map(drop).map_err(|error| told(&error))
}

struct Rules(RulesetCreated);

impl Rules {
    fn new(connect: bool) -> Result<Self, RulesetError> {
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(KNOWN))?
            .scope(Scope::from_all(KNOWN))?;
        if !connect {
            ruleset = ruleset.handle_access(AccessNet::ConnectTcp)?;
        }
        Ok(Self(ruleset.create()?))
    }

    /// Allows something below a path. What the tool cannot reach needs no rule.
    fn path(&mut self, path: &str, access: BitFlags<AccessFs>) -> io::Result<()> {
        match rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
            Ok(place) => self.place(&place, access),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::ACCESS | rustix::io::Errno::NOTDIR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn place(&mut self, place: &OwnedFd, access: BitFlags<AccessFs>) -> io::Result<()> {
        let is = rustix::fs::fstat(place)?;
        match FileType::from_raw_mode(is.st_mode) {
            // What it leads to has a rule of its own.
            FileType::Symlink => Ok(()),
            FileType::Directory => self.add(place, access),
            _ => self.add(place, access & AccessFs::from_file(KNOWN)),
        }
    }

    /// `/dev/stdout` is the stream's file opened anew, wherever on the host it is: as it was opened, and not otherwise.
    fn stream(&mut self, stream: BorrowedFd<'_>) -> io::Result<()> {
        let (Ok(is), Ok(flags)) = (rustix::fs::fstat(stream), rustix::fs::fcntl_getfl(stream)) else {
            return Ok(());
        };
        let mut access = BitFlags::<AccessFs>::empty();
        let mode = flags & OFlags::RWMODE;
        if mode != OFlags::WRONLY {
            access |= AccessFs::ReadFile;
        }
        if mode != OFlags::RDONLY {
            access |= AccessFs::WriteFile | AccessFs::Truncate;
        }
        match FileType::from_raw_mode(is.st_mode) {
            FileType::RegularFile | FileType::Fifo => {}
            FileType::CharacterDevice => access |= AccessFs::IoctlDev,
            // Sockets are not opened by a path, folders and disks are refused before.
            _ => return Ok(()),
        }
        match self.add(stream, access) {
            // A pipe or a file in memory lies in no folder, and needs no rule.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::BADFD.raw_os_error()) => Ok(()),
            done => done,
        }
    }

    fn add(&mut self, place: impl std::os::fd::AsFd, access: BitFlags<AccessFs>) -> io::Result<()> {
        (&mut self.0).add_rule(PathBeneath::new(place, access)).map(drop).map_err(|error| told(&error))
    }
}

/// The entries of `/`.
fn top() -> io::Result<Vec<String>> {
    let entries = std::fs::read_dir("/")?.take(ENTRIES_MAX);
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// The error number is what the kernel said; the crate's words are about its own types.
fn told(error: &RulesetError) -> io::Error {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = source {
        if let Some(number) = inner.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return io::Error::from_raw_os_error(number);
        }
        source = inner.source();
    }
    io::Error::other(error.to_string())
}
