//! What a machine needs before a unit can run on it: file systems, modules, disks, networks.
use crate::error::{Error, Step};
use hatchway_sys::network;
use hatchway_wire::guest::{
    CONTROL_GROUP, EXIT, FILES, GuestOrder, MODULES, STATE, STATE_DISK, TREE, TREE_DISK,
};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_move, unmount};
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a disk or a device may take to appear after its module was loaded.
const APPEAR_MAX: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(5);
/// The addresses of QEMU's user-mode network ("Network emulation" in its manual), which need no asking for.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const MASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const RESOLVER: &str = "nameserver 10.0.2.3\n";
/// The file system that takes over from the first one. It holds the shim and the files of one run.
const ROOT: &str = "/root";
/// The shim in it.
pub(super) const SHIM: &str = "/hatchway/shim";

/// What the kernel tells about itself.
pub(super) fn first_mounts() -> Result<(), Error> {
    for (kind, at) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
        folder(at)?;
        let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
        mount(kind, at, kind, flags, None).step("mount what the kernel tells")?;
    }
    Ok(())
}

/// In this order; one that is there already, or is part of the kernel, is no failure.
pub(super) fn load_modules(names: &[String]) -> Result<(), Error> {
    for name in names {
        let path = Path::new(MODULES).join(name);
        let image = fs::read(&path).map_err(|source| module(name, source))?;
        match rustix::system::init_module(&image, c"") {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(module(name, errno.into())),
        }
    }
    Ok(())
}

fn module(name: &str, source: io::Error) -> Error {
    Error::Guest { step: format!("load the module `{name}`"), source }
}

/// Everything else.
pub(super) fn make_ready(order: &GuestOrder) -> Result<(), Error> {
    take_over()?;
    loopback_and_network(order)?;
    disk(TREE_DISK, TREE, "erofs", MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID)?;
    if !order.state.is_empty() {
        disk(STATE_DISK, STATE, "ext4", MountFlags::NODEV | MountFlags::NOSUID)?;
    }
    state_folders(order)?;
    control_group(order)?;
    for device in &order.devices {
        let there = || Path::new(device.as_str()).exists();
        if !appears(there) {
            let source = io::Error::from(io::ErrorKind::NotFound);
            let step = format!("find the device `{device}`, which a module was to make");
            return Err(Error::Guest { step, source });
        }
        // There is nobody else in the guest.
        fs::set_permissions(device.as_str(), fs::Permissions::from_mode(0o666))
            .step("open a device to the tool")?;
    }
    Ok(())
}

/// A disk may be older than a folder that the recipe has got since.
fn state_folders(order: &GuestOrder) -> Result<(), Error> {
    let process = &order.bootstrap.process;
    for name in &order.state {
        let path = Path::new(STATE).join(name);
        if !path.exists() {
            fs::create_dir(&path).step("make a folder for state")?;
            chown(&path, Some(process.uid), Some(process.gid)).step("make a folder for state")?;
        }
    }
    Ok(())
}

/// From the kernel's first file system, from which no root can be changed (`pivot_root(2)`), to one of our own.
fn take_over() -> Result<(), Error> {
    folder(ROOT)?;
    mount("root", ROOT, "tmpfs", MountFlags::NOSUID, None).step("mount the guest's root")?;
    for path in ["/proc", "/sys", "/dev", "/tmp", "/run", "/var", "/etc", TREE, STATE] {
        folder(&format!("{ROOT}{path}"))?;
    }
    folder(parent(&format!("{ROOT}{EXIT}")))?;
    folder(&format!("{ROOT}{FILES}"))?;
    for entry in fs::read_dir(FILES).into_iter().flatten().flatten() {
        let to = Path::new(ROOT).join(FILES.trim_start_matches('/')).join(entry.file_name());
        fs::copy(entry.path(), to).step("keep the files of the host")?;
    }
    fs::copy("/proc/self/exe", format!("{ROOT}{SHIM}")).step("keep the shim")?;
    for path in ["/proc", "/sys", "/dev"] {
        mount_move(path, format!("{ROOT}{path}")).step("move a mount to the guest's root")?;
    }
    rustix::process::chdir(ROOT).step("enter the guest's root")?;
    mount_move(".", "/").step("make the guest's root the root")?;
    rustix::process::chroot(".").step("make the guest's root the root")?;
    rustix::process::chdir("/").step("enter the guest's root")?;
    folder("/dev/pts")?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount("devpts", "/dev/pts", "devpts", flags, Some(c"ptmxmode=0666")).step("mount terminals")?;
    Ok(())
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("/", |(parent, _)| parent)
}

fn folder(path: &str) -> Result<(), Error> {
    fs::create_dir_all(path)
        .map_err(|source| Error::Guest { step: format!("make the folder `{path}`"), source })
}

fn loopback_and_network(order: &GuestOrder) -> Result<(), Error> {
    network::loopback_up().step("bring the loopback interface up")?;
    if !order.network {
        return Ok(());
    }
    let name = appearing(interface).ok_or_else(|| missing("find the guest's network card"))?;
    network::address(&name, ADDRESS, MASK, GATEWAY)
        .map_err(|source| Error::Guest { step: format!("bring `{name}` up"), source })?;
    fs::write("/etc/resolv.conf", RESOLVER).step("write the guest's resolv.conf")
}

/// The one interface that is not the loopback's.
fn interface() -> Option<String> {
    let entries = fs::read_dir("/sys/class/net").ok()?.flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).find(|name| name != "lo")
}

/// Mounts the disk of a serial number.
fn disk(serial: &str, at: &str, kind: &str, flags: MountFlags) -> Result<(), Error> {
    let step = || format!("find the disk `{serial}`");
    let device = appearing(|| disk_of(serial)).ok_or_else(|| missing(&step()))?;
    mount(&device, at, kind, flags, None)
        .map_err(|errno| Error::Guest { step: format!("mount the disk `{serial}`"), source: errno.into() })
}

/// Kernel names of disks follow no order that anybody promises; serial numbers are ours.
fn disk_of(serial: &str) -> Option<PathBuf> {
    let entries = fs::read_dir("/sys/block").ok()?.flatten();
    let named = |path: &Path| fs::read_to_string(path.join("serial")).is_ok_and(|own| own.trim() == serial);
    let found = entries.map(|entry| entry.path()).find(|path| named(path))?;
    let device = Path::new("/dev").join(found.file_name()?);
    device.exists().then_some(device)
}

fn control_group(order: &GuestOrder) -> Result<(), Error> {
    if order.limits.is_empty() {
        return Ok(());
    }
    let root = parent(CONTROL_GROUP);
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    mount("cgroup2", root, "cgroup2", flags, None).step("mount control groups")?;
    fs::write(format!("{root}/cgroup.subtree_control"), "+memory +pids +cpu").step("limit the unit")?;
    rustix::fs::mkdir(CONTROL_GROUP, Mode::from(0o755)).step("limit the unit")?;
    for (file, value) in &order.limits {
        let path = Path::new(CONTROL_GROUP).join(file);
        // A kernel without swap has no file for it, and nothing to limit.
        if path.exists() {
            fs::write(&path, value)
                .map_err(|source| Error::Guest { step: format!("limit `{file}` to {value}"), source })?;
        }
    }
    Ok(())
}

/// Nothing of the state is only in memory after this. What cannot be taken away is at least written.
pub(super) fn put_away(order: &GuestOrder) {
    rustix::fs::sync();
    if !order.state.is_empty() {
        unmount(STATE, UnmountFlags::empty()).ok();
    }
}

/// The kernel's release.
pub(super) fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Since the kernel's start.
pub(super) fn uptime_ms() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    u64::try_from(time.tv_sec * 1000 + time.tv_nsec / 1_000_000).unwrap_or(0)
}

pub(super) fn missing(step: &str) -> Error {
    Error::Guest { step: step.to_owned(), source: io::ErrorKind::NotFound.into() }
}

fn appears(there: impl Fn() -> bool) -> bool {
    appearing(|| there().then_some(())).is_some()
}

/// Modules find their devices a moment after they are loaded.
pub(super) fn appearing<T>(look: impl Fn() -> Option<T>) -> Option<T> {
    let end = Instant::now() + APPEAR_MAX;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() > end {
            return None;
        }
        std::thread::sleep(LOOK);
    }
}
