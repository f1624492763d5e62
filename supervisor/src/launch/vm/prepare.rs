//! What a guest is made of: its kernel with modules, the tree as a disk, state as a disk, the files of one run.
//!
//! Kernel and tree's disk are made once and kept in the cache, since every start of every tool would make the same again.
//! They are made beside their place and renamed, so two runs at once do no harm. What nobody uses goes ([`super::cache`]).

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hatchway_envs::digest::Sha256;
use hatchway_envs::lock::LockedPackage;
use hatchway_envs::sandbox::{Endpoint, Guest, Spec};
use hatchway_envs::store::manifest::{Manifest, Node};
use hatchway_vm::cpio::Cpio;
use hatchway_vm::erofs;
use hatchway_vm::kernel::{ALWAYS, Kernel};
use hatchway_vm::qemu::accel::Accel;
use hatchway_vm::qemu::{Command, NamedDisk};
use hatchway_vm::state::{self, Held};
use hatchway_wire::guest::{FILES, GuestOrder, MODULES, ORDER, STATE_DISK, TREE_DISK};

use super::super::{shim, state_parent};
use super::cache::{Guests, KEPT, KERNEL_FORMAT, remove};
use super::{INITRAMFS, Run, user_of};
use crate::error::Error;
use crate::recipe;
use crate::steps;

/// The kernel as its package has it, and out of that image.
const IMAGE: &str = "vmlinuz";
const UNPACKED: &str = "vmlinux";
/// Memory of a guest without a wish, and what its kernel and init take beside a tool that has a limit.
const MEMORY: u64 = 2 << 30;
const MEMORY_OF_ITS_OWN: u64 = 384 << 20;
/// Processors of a guest without a wish.
const PROCESSORS_MAX: u32 = 4;
/// Bytes of a state's disk without a wish. What is not written takes no room.
const STATE_BYTES: u64 = 8 << 30;
/// A file of the host that is copied into a guest is a licence or a site file.
const FILE_MAX: u64 = 64 << 20;
/// How large a step of progress is.
const STEP: u64 = 1 << 20;

/// Everything that is on disk before the start.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Where what can be made anew is.
    pub(super) cache: PathBuf,
    /// Who QEMU runs as, where it is another user.
    pub(super) user: Option<(u32, u32)>,
    boot: Kept,
    tree: Kept,
    state: Option<Held>,
    /// What a tool has to end in.
    pub(super) grace: Duration,
    /// Servers that its channels lead to.
    pub(super) destinations: Vec<Endpoint>,
}

/// Something of the cache, which stays there as long as this lives.
#[derive(Debug)]
struct Kept {
    path: PathBuf,
    _held: File,
}

impl Kept {
    /// Finds it, or makes it first. Whoever empties the cache may be quicker; the next turn makes it again.
    fn find(guests: &Guests, name: &str, make: impl Fn(&Path) -> Result<(), Error>) -> Result<Self, Error> {
        let path = guests.folder().join(name);
        loop {
            if let Some(held) = guests.hold(name).map_err(Error::io("hold", &path))? {
                return Ok(Self { path, _held: held });
            }
            make(&path)?;
            guests.forget(KEPT, false);
        }
    }
}

impl Prepared {
    pub(super) fn new(
        run: &Run<'_>,
        spec: &Spec,
        kernel: &LockedPackage,
        guest: &Guest,
        order: GuestOrder,
    ) -> Result<Self, Error> {
        let guests = Guests::of(&run.context.dirs);
        let cache = guests.folder().to_owned();
        fs::create_dir_all(&cache).map_err(Error::io("create", &cache))?;
        let user = user_of(spec);
        let boot = boot(run, kernel, &guest.modules, &guests)?;
        let tree = tree_disk(run, &guests)?;
        initramfs(run, guest, order, &boot.path, user)?;
        let state = if guest.state.is_empty() { None } else { Some(state_disk(run, &guest.state, user)?) };
        Ok(Self {
            cache,
            user,
            boot,
            tree,
            state,
            grace: Duration::from_millis(spec.grace_ms.saturating_add(guest.bootstrap.services_ms())),
            destinations: guest.bootstrap.destinations(),
        })
    }

    /// The lock of the state's disk, which lives as long as QEMU does.
    pub(super) fn lock(&self) -> Option<BorrowedFd<'_>> {
        self.state.as_ref().map(Held::lock)
    }

    /// What the machine begins with: in software the kernel itself, where there is one, since its image takes more than a second to
    /// unpack it. Under KVM that is no time, and the image draws the kernel's place in memory by lot.
    pub(super) fn kernel(&self, accel: Accel) -> PathBuf {
        let unpacked = self.boot.path.join(UNPACKED);
        if accel == Accel::Tcg && unpacked.is_file() { unpacked } else { self.image() }
    }

    /// The kernel's image, with which any QEMU can begin.
    pub(super) fn image(&self) -> PathBuf {
        self.boot.path.join(IMAGE)
    }

    /// Gives the machine what was made.
    pub(super) fn fill(&self, command: &mut Command) {
        command.kernel = self.kernel(command.accel);
        let disk = |serial, path: &Path, read_only| NamedDisk { serial, path: path.to_owned(), read_only };
        command.disks = vec![disk(TREE_DISK, &self.tree.path, true)];
        let state = self.state.as_ref().map(|held| disk(STATE_DISK, &held.path, false));
        command.disks.extend(state);
    }
}

/// Processors of a guest without a wish: this machine's, but a few.
pub(super) fn processors() -> u32 {
    let own = std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(1));
    own.min(PROCESSORS_MAX)
}

/// Memory of a guest.
pub(super) fn memory(run: &recipe::Run) -> u64 {
    let wish = run.vm.as_ref().and_then(|vm| vm.memory).map(|size| size.bytes());
    let limit = run.limits.as_ref().and_then(|limits| limits.memory).map(|size| size.bytes());
    wish.unwrap_or_else(|| limit.map_or(MEMORY, |limit| limit.saturating_add(MEMORY_OF_ITS_OWN)))
}

/// The folder with the kernel, and the first file system with init and modules but without what is of one run.
fn boot(
    run: &Run<'_>,
    kernel: &LockedPackage,
    modules: &[&'static str],
    guests: &Guests,
) -> Result<Kept, Error> {
    let shim = fs::read(shim()?).map_err(Error::io("read", "hatchway-shim"))?;
    let mut wanted: Vec<&str> = ALWAYS.to_vec();
    wanted.extend(modules);
    wanted.extend(run.located.recipe.run.modules.iter().map(String::as_str));
    let key = format!("{KERNEL_FORMAT} {} {} {wanted:?}", kernel.sha256, Sha256::of(&shim));
    Kept::find(guests, &Guests::kernel(&key), |folder| {
        make_boot(run, kernel, (&wanted, &shim), guests, folder)
    })
}

fn make_boot(
    run: &Run<'_>,
    kernel: &LockedPackage,
    (wanted, shim): (&[&str], &[u8]),
    guests: &Guests,
    folder: &Path,
) -> Result<(), Error> {
    steps::fetch_kernel(run.context, run.located, kernel)?;
    let kernel = Kernel::read(&run.context.store.artifact(kernel.sha256), wanted)?;
    let mut cpio = Cpio::default();
    cpio.folder("/dev");
    // What the kernel gives its init as standard streams.
    cpio.device("/dev/console", 5, 1);
    cpio.file("/init", 0o755, shim);
    cpio.folder("/hatchway");
    cpio.folder(MODULES);
    for (name, content) in &kernel.modules {
        cpio.file(&format!("{MODULES}/{name}"), 0o644, content);
    }
    let names: Vec<&String> = kernel.modules.iter().map(|(name, _)| name).collect();
    let names = serde_json::to_vec(&names).map_err(hatchway_envs::sandbox::Error::from)?;
    in_place(guests, folder, |made| {
        fs::create_dir(made)?;
        fs::write(made.join(IMAGE), &kernel.image)?;
        kernel.unpacked.as_ref().map_or(Ok(()), |unpacked| fs::write(made.join(UNPACKED), unpacked))?;
        fs::write(made.join(INITRAMFS), cpio.end())?;
        fs::write(made.join("modules.json"), names)
    })
}

/// Makes something beside its place. Another run may have been quicker, and made the same.
fn in_place(
    guests: &Guests,
    place: &Path,
    make: impl FnOnce(&Path) -> std::io::Result<()>,
) -> Result<(), Error> {
    let made = guests.unfinished();
    drop(remove(&made));
    let done = make(&made).and_then(|()| open_to_all(&made)).and_then(|()| match fs::rename(&made, place) {
        Err(_) if place.exists() => remove(&made),
        other => other,
    });
    done.map_err(|error| {
        drop(remove(&made));
        Error::io("write", place)(error)
    })
}

/// QEMU reads it as the unit's user, whatever this process's mask is.
fn open_to_all(made: &Path) -> std::io::Result<()> {
    let files = if made.is_dir() {
        fs::read_dir(made)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?
    } else {
        vec![made.to_owned()]
    };
    // On disk before it has its name: half of it would be taken for the whole after a power cut.
    files.iter().try_for_each(|file| {
        fs::set_permissions(file, fs::Permissions::from_mode(0o644))?;
        File::open(file)?.sync_all()
    })
}

fn tree_disk(run: &Run<'_>, guests: &Guests) -> Result<Kept, Error> {
    Kept::find(guests, &Guests::disk(run.tree), |place| make_tree_disk(run, guests, place))
}

fn make_tree_disk(run: &Run<'_>, guests: &Guests, place: &Path) -> Result<(), Error> {
    let store = &run.context.store;
    let manifest = store.manifest(run.tree)?;
    let progress: &dyn hatchway_envs::Progress = &run.context.printer;
    progress.begin("making a disk", size(&manifest) / STEP);
    let open = |sha256: Sha256, executable: bool| -> Result<Box<dyn Read>, hatchway_vm::Error> {
        Ok(Box::new(store.open_object(sha256, executable)?))
    };
    let mut written = Ok(());
    in_place(guests, place, |made| {
        let mut counted =
            Counted { to: BufWriter::with_capacity(1 << 20, File::create(made)?), progress, bytes: 0 };
        written = erofs::write(&manifest, &open, &mut counted);
        counted.to.flush()?;
        match &written {
            Ok(()) => Ok(()),
            // The cause is told below.
            Err(_) => Err(std::io::ErrorKind::Other.into()),
        }
    })
    .map_err(|error| written.map_or_else(Error::from, |()| error))?;
    progress.end();
    Ok(())
}

fn size(manifest: &Manifest) -> u64 {
    let size = |node: &Node| if let Node::File { size, .. } = node { *size } else { 0 };
    manifest.nodes.values().map(size).sum()
}

/// Counts what is written.
struct Counted<'a> {
    to: BufWriter<File>,
    progress: &'a dyn hatchway_envs::Progress,
    bytes: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.to.write(bytes)?;
        let before = self.bytes / STEP;
        self.bytes += count as u64;
        self.progress.advance(self.bytes / STEP - before);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

/// The kernel's archives, one behind the other: what is the same for all runs, and what is of this one.
fn initramfs(
    run: &Run<'_>,
    guest: &Guest,
    mut order: GuestOrder,
    boot: &Path,
    user: Option<(u32, u32)>,
) -> Result<(), Error> {
    let names = boot.join("modules.json");
    let text = fs::read(&names).map_err(Error::io("read", &names))?;
    order.modules = serde_json::from_slice(&text).map_err(hatchway_envs::sandbox::Error::from)?;
    let mut own = Cpio::default();
    let text = serde_json::to_vec(&order).map_err(hatchway_envs::sandbox::Error::from)?;
    own.file(ORDER, 0o600, &text);
    own.folder(FILES);
    for (number, file) in guest.files.iter().enumerate() {
        let path = Path::new(file.as_str());
        let length = fs::metadata(path).map_err(Error::io("look at", path))?.len();
        if length > FILE_MAX {
            return Err(Error::Usage(format!(
                "`{file}` is too large to be copied into a guest: {length} bytes"
            )));
        }
        own.file(&format!("{FILES}/{number}"), 0o644, &fs::read(path).map_err(Error::io("read", path))?);
    }
    let common = boot.join(INITRAMFS);
    let mut bytes = fs::read(&common).map_err(Error::io("read", &common))?;
    bytes.extend(own.end());
    let path = run.folder.join(INITRAMFS);
    let mut options = File::options();
    let file = options.write(true).create_new(true).mode(0o600).open(&path);
    let mut file = file.map_err(Error::io("create", &path))?;
    file.write_all(&bytes).map_err(Error::io("write", &path))?;
    if let Some((uid, gid)) = user {
        chown(&path, Some(uid), Some(gid)).map_err(Error::io("change the owner of", &path))?;
    }
    Ok(())
}

fn state_disk(run: &Run<'_>, names: &[String], user: Option<(u32, u32)>) -> Result<Held, Error> {
    let recipe = &run.located.recipe;
    let folder = state_parent(run.context, recipe.package.name.as_str())?;
    let size = recipe.run.vm.as_ref().and_then(|vm| vm.state).map_or(STATE_BYTES, |size| size.bytes());
    Ok(state::disk(&folder, names, size, (user, &super::super::reader()?))?)
}
