//! QEMU as the machine of a guest that is made from a tree.
//!
//! Its command line is made here ([`Command::arguments`]), and every way into the guest and every file is a descriptor that it
//! inherits: no socket has a name that others could connect to, and a file may lie where the unit's user gets to by no path. Source: QEMU's manual, "Invocation" and "Security"; block devices
//! are given as JSON, in which a path needs no escaping.
//!
//! QEMU runs as the unit's user, with its own filter of system calls on: it starts nothing, and gains nothing.

pub mod accel;

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use rustix::io::FdFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::error::Error;
use accel::Accel;

/// The program.
pub const PROGRAM: &str = "qemu-system-x86_64";
/// What its filter of system calls refuses beyond the default: nothing of it is needed by a guest of ours.
const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";
/// What the kernel is told: no messages but errors, an end at a panic, and the argument of its init. Two words are for a quick start
/// (Documentation/admin-guide/kernel-parameters.txt): whoever loads modules and makes namespaces is not made to wait for quiet
/// moments of all processors (`rcu_expedited`), and the kernel does not test its ciphers anew at each start (`notests`).
const KERNEL_LINE: &str =
    "console=ttyS0 quiet loglevel=3 panic=-1 rcupdate.rcu_expedited=1 cryptomgr.notests -- --guest";
const MEBIBYTE: u64 = 1 << 20;

/// A disk with the serial number by which the guest knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedDisk {
    /// The serial number, at most 20 characters (virtio specification 1.2, 5.2.6.1).
    pub serial: &'static str,
    /// The file, sector by sector.
    pub path: PathBuf,
    /// Writes are refused.
    pub read_only: bool,
}

/// What a guest made from a tree is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Name of the unit, shown in lists of processes.
    pub name: String,
    /// What executes the guest's instructions.
    pub accel: Accel,
    /// Processors.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// The kernel's image.
    pub kernel: PathBuf,
    /// Its first file system.
    pub initramfs: PathBuf,
    /// Disks.
    pub disks: Vec<NamedDisk>,
    /// Names of the virtio ports, in the order of the descriptors.
    pub ports: Vec<&'static str>,
    /// A card on QEMU's user-mode network, which reaches what this user's programs reach.
    pub network: bool,
    /// Serial lines of the host that the guest has as its own, as `/dev/ttyS1` and so on.
    pub lines: Vec<PathBuf>,
    /// Windows programs: QEMU 7.2 in software ends them at their first instruction on a processor with SMAP.
    pub wine: bool,
}

/// Descriptors that QEMU inherits, by their numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inherited {
    /// For what the guest's kernel says.
    pub console: i32,
    /// Of the ports, in their order.
    pub ports: Vec<i32>,
    /// Of the kernel's image.
    pub kernel: i32,
    /// Of its first file system.
    pub initramfs: i32,
    /// Of the disks, in their order.
    pub disks: Vec<i32>,
}

/// A machine that runs.
#[derive(Debug)]
pub struct Running {
    /// QEMU.
    pub child: Child,
    /// Our ends of the ports, in their order.
    pub ports: Vec<OwnedFd>,
    /// What the guest's kernel says.
    pub console: OwnedFd,
}

impl Command {
    /// The command line, without the program.
    #[must_use]
    pub fn arguments(&self, given: &Inherited) -> Vec<OsString> {
        let (console, ports) = (given.console, &given.ports);
        let mut all: Vec<OsString> = Vec::new();
        let mut add = |words: &[&str]| all.extend(words.iter().map(OsString::from));
        let name = self.name.replace(',', "");
        add(&["-name", &format!("{name},process=hatchway-vm")]);
        add(&["-nodefaults", "-no-user-config", "-sandbox", SANDBOX]);
        let less = if self.wine && self.accel == Accel::Tcg { ",smap=off" } else { "" };
        let processor = format!("{}{less}", self.accel.processor());
        add(&["-machine", &format!("q35,accel={}", self.accel), "-cpu", &processor]);
        add(&["-smp", &self.cpus.to_string(), "-m", &format!("{}M", self.memory.div_ceil(MEBIBYTE))]);
        add(&["-display", "none", "-vga", "none", "-no-reboot", "-rtc", "base=utc"]);
        add(&["-append", KERNEL_LINE]);
        add(&["-chardev", &format!("socket,id=console,fd={console}"), "-serial", "chardev:console"]);
        add(&["-device", &format!("virtio-serial-pci,id=ports,max_ports={}", self.ports.len() + 1)]);
        for (number, (name, fd)) in self.ports.iter().zip(ports).enumerate() {
            add(&["-chardev", &format!("socket,id=port{number},fd={fd}")]);
            add(&["-device", &format!("virtserialport,bus=ports.0,chardev=port{number},name={name}")]);
        }
        if self.network {
            add(&["-netdev", "user,id=net,ipv6=off", "-device", "virtio-net-pci,netdev=net,romfile="]);
        }
        for (option, fd) in [("-kernel", given.kernel), ("-initrd", given.initramfs)] {
            all.extend([option.into(), opened(fd).into()]);
        }
        for (disk, fd) in self.disks.iter().zip(&given.disks) {
            let serial = disk.serial;
            all.extend(["-blockdev".into(), block_device(disk, *fd).into()]);
            // An error is the guest's: QEMU would stop it, and there is nobody who goes on with it.
            let device = format!("virtio-blk-pci,drive={serial},serial={serial},werror=report,rerror=report");
            all.extend(["-device".into(), device.into()]);
        }
        for (number, line) in self.lines.iter().enumerate() {
            let mut device = OsString::from(format!("serial,id=line{number},path="));
            device.push(escaped(line));
            all.extend(["-chardev".into(), device]);
            all.extend(["-serial".into(), format!("chardev:line{number}").into()]);
        }
        all
    }

    /// Starts QEMU as `user` (this process's own without one). What it says itself goes to `log`. `lock` is held as long as it
    /// lives, also where this process is gone before.
    ///
    /// # Errors
    /// [`Error::NoQemu`]; what the kernel refuses.
    pub fn start(
        &self,
        program: &Path,
        user: Option<(u32, u32)>,
        log: File,
        lock: Option<BorrowedFd<'_>>,
    ) -> Result<Running, Error> {
        let failed = |error: rustix::io::Errno| Error::Start(error.into());
        let pair = || {
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).map_err(failed)
        };
        let (console, console_theirs) = pair()?;
        let mut ours = Vec::new();
        let mut theirs = Vec::new();
        for _ in &self.ports {
            let (one, other) = pair()?;
            ours.push(one);
            theirs.push(other);
        }
        let kernel = open(&self.kernel, true)?;
        let initramfs = open(&self.initramfs, true)?;
        let disks: Vec<OwnedFd> =
            self.disks.iter().map(|disk| open(&disk.path, disk.read_only)).collect::<Result<_, _>>()?;
        let inherited = theirs.iter().chain(&disks).chain([&console_theirs, &kernel, &initramfs]);
        // No other thread of this process starts anything meanwhile, and it ends before it starts something else.
        inherited.clone().try_for_each(|fd| rustix::io::fcntl_setfd(fd, FdFlags::empty())).map_err(failed)?;
        lock.into_iter().try_for_each(|fd| rustix::io::fcntl_setfd(fd, FdFlags::empty())).map_err(failed)?;
        let number = |fd: &OwnedFd| fd.as_raw_fd();
        let mut command = std::process::Command::new(program);
        command.args(self.arguments(&Inherited {
            console: number(&console_theirs),
            ports: theirs.iter().map(number).collect(),
            kernel: number(&kernel),
            initramfs: number(&initramfs),
            disks: disks.iter().map(number).collect(),
        }));
        crate::command::bare(&mut command);
        // Keys of the terminal are for the tool.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        hatchway_sys::process::start_unblocked(&mut command);
        if let Some((uid, gid)) = user {
            command.uid(uid).gid(gid);
        }
        let started = command.spawn();
        // It is QEMU's from now on, and no other's that this process starts.
        lock.into_iter().try_for_each(|fd| rustix::io::fcntl_setfd(fd, FdFlags::CLOEXEC)).map_err(failed)?;
        let child = started.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::NoQemu,
            _ => Error::Start(error),
        })?;
        Ok(Running { child, ports: ours, console })
    }
}

impl Drop for Running {
    /// Nothing of a guest is left, whatever happened to whoever started it. One that has ended is only taken note of.
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Running {
    /// The end of a port.
    #[must_use]
    pub fn port(&self, number: usize) -> BorrowedFd<'_> {
        self.ports[number].as_fd()
    }
}

/// Finds the program where this process's would be started from.
///
/// # Errors
/// [`Error::NoQemu`].
pub fn program() -> Result<PathBuf, Error> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(PROGRAM)).find(|path| path.is_file());
    found.ok_or(Error::NoQemu)
}

fn open(path: &Path, read_only: bool) -> Result<OwnedFd, Error> {
    let file = File::options().read(true).write(!read_only).open(path);
    Ok(file.map_err(Error::io("open", path))?.into())
}

/// A descriptor as a path. QEMU opens it anew, for which its user needs the right to the file alone.
fn opened(fd: i32) -> String {
    format!("/proc/self/fd/{fd}")
}

fn block_device(disk: &NamedDisk, fd: i32) -> String {
    serde_json::json!({
        "driver": "raw",
        "node-name": disk.serial,
        "read-only": disk.read_only,
        "file": { "driver": "file", "filename": opened(fd), "read-only": disk.read_only },
    })
    .to_string()
}

/// In an option, a comma ends a value unless it is doubled.
fn escaped(path: &Path) -> OsString {
    path.to_string_lossy().replace(',', ",,").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> Command {
        Command {
            name: "acme,gauss".into(),
            accel: Accel::Tcg,
            cpus: 2,
            memory: (512 << 20) + 1,
            kernel: "/boot/vmlinuz".into(),
            initramfs: "/run/initramfs".into(),
            disks: vec![NamedDisk {
                serial: "hatchway-tree",
                path: "/store/a,b \"c\".erofs".into(),
                read_only: true,
            }],
            ports: vec!["hatchway.control", "hatchway.stdin"],
            network: false,
            lines: vec!["/dev/serial/by-id/a,b".into()],
            wine: false,
        }
    }

    fn line(command: &Command) -> String {
        let arguments = command.arguments(&Inherited {
            console: 9,
            ports: vec![10, 11],
            kernel: 12,
            initramfs: 13,
            disks: vec![14],
        });
        arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn paths_reach_qemu_as_they_are() {
        let line = line(&command());
        assert!(line.contains(r#""filename":"/proc/self/fd/14""#) && !line.contains("/store"), "{line}");
        assert!(line.contains("serial,id=line0,path=/dev/serial/by-id/a,,b"), "{line}");
        assert!(line.contains("-name acmegauss,process="), "{line}");
        assert!(line.contains("-m 513M"), "{line}");
    }

    #[test]
    fn windows_programs_have_a_processor_on_which_they_run() {
        assert!(line(&command()).contains(" -cpu max -smp"));
        assert!(line(&Command { wine: true, ..command() }).contains(" -cpu max,smap=off -smp"));
        let kvm = Command { wine: true, accel: Accel::Kvm, ..command() };
        assert!(line(&kvm).contains(" -cpu host -smp"));
    }

    #[test]
    fn nothing_is_there_that_nobody_asked_for() {
        let without = line(&command());
        for wanted in
            ["-nodefaults", "-no-user-config", "spawn=deny", "elevateprivileges=deny", "-display none"]
        {
            assert!(without.contains(wanted), "{without}");
        }
        assert!(!without.contains("netdev"), "{without}");
        assert!(line(&Command { network: true, ..command() }).contains("-netdev user,id=net"));
    }
}
