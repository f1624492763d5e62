//! The operations that make a sandbox. The plan is a list of them, the shim applies it in one loop.
use crate::path::{HostPath, InsidePath};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// The namespaces a unit gets for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools, reason = "seven independent kernel flags, each its own bit")]
pub struct Namespaces {
    /// Users and capabilities: only when Hatchway runs without root.
    pub user: bool,
    /// Mounts.
    pub mount: bool,
    /// Process ids; the shim's inner half is PID 1 in it.
    pub pid: bool,
    /// System V IPC and POSIX message queues.
    pub ipc: bool,
    /// Host name.
    pub uts: bool,
    /// Network interfaces, abstract sockets.
    pub net: bool,
    /// The view of the cgroup tree.
    pub cgroup: bool,
}

/// Who owns a file or folder that the plan makes, in ids as the sandbox sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// What the source of a bind, or a mount point, must be, so that no socket is ever bound by accident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    /// A folder, with everything mounted below it.
    Directory,
    /// A regular file.
    File,
    /// A character or block device node.
    Device,
    /// A socket, asked for as one.
    Socket,
}

/// A device of the host under a fixed name inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    /// Which one.
    pub device: DeviceId,
    /// The kernel's name of its class: `tty`, `usb`, `hidraw`, `comedi`, `video4linux` …
    pub subsystem: String,
    /// Where the tool expects it, below `/dev`. Nodes of the class `usb` keep the path they have on the host, since
    /// that is where libraries look for them.
    pub at: InsidePath,
}

/// How a device is recognised after it was away. Never by a kernel's running number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum DeviceId {
    /// The name of a link in a `by-id` folder below `/dev`: the maker's serial number is in it.
    ById(String),
    /// The name of a link in a `by-path` folder below `/dev`: where it is plugged in.
    ByPath(String),
    /// A USB device by its numbers.
    Usb {
        /// Vendor.
        vendor: u16,
        /// Product.
        product: u16,
        /// The maker's serial number; any where there is none.
        serial: Option<String>,
    },
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ById(name) => write!(f, "by-id:{name}"),
            Self::ByPath(name) => write!(f, "by-path:{name}"),
            Self::Usb { vendor, product, serial: None } => write!(f, "usb:{vendor:04x}:{product:04x}"),
            Self::Usb { vendor, product, serial: Some(serial) } => {
                write!(f, "usb:{vendor:04x}:{product:04x}:{serial}")
            }
        }
    }
}

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

/// One server: `tcp:10.0.0.5:5025`, `udp:[fd00::5]:5025`. Without a transport it is TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint {
    /// How.
    pub transport: Transport,
    /// Where.
    pub address: SocketAddr,
}

impl Endpoint {
    /// A server that takes connections.
    #[must_use]
    pub fn tcp(address: SocketAddr) -> Self {
        Self { transport: Transport::Tcp, address }
    }

    /// A server that takes datagrams.
    #[must_use]
    pub fn udp(address: SocketAddr) -> Self {
        Self { transport: Transport::Udp, address }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = match self.transport {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        };
        write!(f, "{transport}:{}", self.address)
    }
}

impl FromStr for Endpoint {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let read = |address: &str| address.parse().map_err(drop);
        match (text.strip_prefix("tcp:"), text.strip_prefix("udp:")) {
            (Some(address), _) => Ok(Self::tcp(read(address)?)),
            (None, Some(address)) => Ok(Self::udp(read(address)?)),
            (None, None) => Ok(Self::tcp(read(text)?)),
        }
    }
}

impl TryFrom<String> for Endpoint {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map_err(|()| format!("`{text}` is not the address of a server"))
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.to_string()
    }
}

/// A channel: a door where the tool knocks, and what of the host it leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// Its name in the recipe.
    pub name: String,
    /// As the tool sees it.
    pub door: Door,
    /// The server that is spoken to.
    pub to: Endpoint,
}

/// What a channel is to the tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Door {
    /// A serial line: a pseudo terminal that carries bytes as they are.
    Line {
        /// Its name below `/dev`, a link to the terminal.
        at: InsidePath,
        /// Who may open it.
        owner: Owner,
    },
    /// A port that takes connections.
    Port {
        /// Where, in the unit's own network.
        at: SocketAddr,
    },
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.door {
            Door::Line { at, .. } => write!(f, "the serial line `{at}` to {}", self.to),
            Door::Port { at } => write!(f, "the port {at} to {}", self.to),
        }
    }
}

/// A hardware address as people write it.
struct Mac([u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: Vec<String> = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        f.write_str(&text.join(":"))
    }
}

/// The number of the interface that [`Op::Interface`] makes. Kernels number the tunnels that a new namespace begins with
/// from 2, a few of them.
pub const INTERFACE_INDEX: u32 = 64;

/// One step towards the sandbox. `Display` gives it as the end of a sentence: "cannot …".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Op {
    /// Start the inner half in namespaces of its own. Must be the first operation, and only the first.
    Unshare(Namespaces),
    /// Map one user and one group of the host into the user namespace and give up `setgroups`.
    IdMap {
        /// User id inside.
        inside_uid: u32,
        /// User id on the host: the caller's own.
        outside_uid: u32,
        /// Group id inside.
        inside_gid: u32,
        /// Group id on the host.
        outside_gid: u32,
    },
    /// Receive the host's mounts and unmounts, pass on none.
    MakeSlave,
    /// The tree as root, below a tmpfs that takes all writes and is thrown away. Where the kernel refuses the
    /// overlay, falls back to what `MirrorRoot` does and says so in the exit record.
    OverlayRoot {
        /// Root folder of the tree.
        tree: HostPath,
        /// Bytes the writes may take.
        size: u64,
        /// Store overlay's marks in `user.` attributes, as a user namespace needs it.
        user_xattr: bool,
        /// For the fall-back: the folders in which something is made, mounted or written.
        open: Vec<InsidePath>,
    },
    /// A tmpfs as root, with the tree's folders bound read-only; the folders in `open` and those above them are
    /// real folders of the tmpfs, filled with the tree's entries.
    MirrorRoot {
        /// Root folder of the tree.
        tree: HostPath,
        /// Bytes the writes may take.
        size: u64,
        /// The folders in which something is made, mounted or written.
        open: Vec<InsidePath>,
    },
    /// An empty file system in memory as `/`.
    MemoryRoot {
        /// Bytes it may take.
        size: u64,
    },
    /// A folder of the host as root, as it is: for build sandboxes, whose writes are kept, or which write nothing.
    FolderRoot {
        /// Root folder of the tree.
        folder: HostPath,
        /// Refuse writes.
        read_only: bool,
    },
    /// Take `/` as it is: the engine of a container, or a guest's own init, has made it.
    GivenRoot,
    /// Make a folder and the folders above it; an existing one gets the mode and the owner.
    Directory {
        /// Where.
        at: InsidePath,
        /// Permission bits.
        mode: u32,
        /// Owner of the last folder.
        owner: Owner,
    },
    /// Write a file, replacing what the tree has there.
    File {
        /// Where.
        at: InsidePath,
        /// Permission bits.
        mode: u32,
        /// What is in it.
        content: String,
    },
    /// Write a file that only the tool may read: a cookie. Its content is not part of what is printed.
    Secret {
        /// Where.
        at: InsidePath,
        /// Who may read it.
        owner: Owner,
        /// What is in it.
        content: Vec<u8>,
    },
    /// Show what a file of the host says at any time, whatever replaces it there: the shim copies it on each change.
    Follow {
        /// The file on the host, as programs there name it; it may be a symlink, and may be missing.
        source: HostPath,
        /// The folder inside that holds the copy; the tool cannot write it.
        folder: InsidePath,
        /// Where the tool expects it: a symlink to the copy.
        at: InsidePath,
    },
    /// An interface in the new network namespace that leads nowhere and bears this name and address.
    Interface {
        /// Its name.
        name: String,
        /// Its hardware address.
        mac: [u8; 6],
    },
    /// Answer for these addresses in the new network namespace, and pass what is sent there on to the host's network.
    Relay {
        /// Which.
        to: Vec<Endpoint>,
    },
    /// Make the doors of channels, and carry what comes there to what they lead to, and back.
    Channels {
        /// Which.
        channels: Vec<Channel>,
    },
    /// Move the unit into a control group that is there.
    ControlGroup {
        /// Its folder.
        path: HostPath,
    },
    /// Show devices under fixed names, and show them again when they come back.
    Slots {
        /// Which.
        slots: Vec<Slot>,
    },
    /// Make a symlink, replacing a file or symlink the tree has there.
    Symlink {
        /// Where.
        at: InsidePath,
        /// What it says.
        to: String,
    },
    /// Make sure something can be mounted here: an empty file or folder if the tree has none.
    MountPoint {
        /// Where.
        at: InsidePath,
        /// What will be mounted.
        kind: SourceKind,
    },
    /// Make a folder or file read-only with all mounts below it. Nothing happens to a symlink or where nothing is.
    ReadOnly {
        /// Where.
        at: InsidePath,
    },
    /// Show a file, folder or device of the host inside, without set-id bits; device nodes work only for `Device`.
    Bind {
        /// What, on the host; no part of it may be a symlink.
        source: HostPath,
        /// Where.
        at: InsidePath,
        /// What it must be.
        kind: SourceKind,
        /// Refuse writes, recursively.
        read_only: bool,
        /// Skip it where the host has no such path.
        optional: bool,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// Where.
        at: InsidePath,
        /// Permission bits of its root.
        mode: u32,
        /// Bytes it may take.
        size: u64,
        /// Owner of its root.
        owner: Owner,
    },
    /// `/dev` with null, zero, full, random, urandom, tty, and the usual symlinks.
    Dev,
    /// A private instance of pseudo terminals at `/dev/pts`, and `/dev/ptmx`.
    DevPts {
        /// Group of new terminals; `None` where the group is not mapped.
        gid: Option<u32>,
    },
    /// `/proc` of the new process namespace.
    Proc,
    /// Hide a file behind `/dev/null` or a folder behind an empty one. Nothing happens where nothing is.
    Mask {
        /// Where.
        at: InsidePath,
    },
    /// Bring `lo` up in the new network namespace.
    Loopback,
    /// Take `lo` down, which the engine of a container has brought up.
    NoLoopback,
    /// Set the host name.
    HostName {
        /// The name.
        name: String,
    },
    /// Detach the host's file systems for good. Nothing of the host can be opened by path after it.
    LeaveHost,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unshare(namespaces) if *namespaces == Namespaces::default() => {
                f.write_str("stay in the namespaces that are there")
            }
            Self::Unshare(namespaces) => write!(f, "create namespaces ({namespaces})"),
            Self::IdMap { inside_uid, outside_uid, inside_gid, outside_gid } => write!(
                f,
                "map user {outside_uid} to {inside_uid} and group {outside_gid} to {inside_gid} in the user namespace"
            ),
            Self::MakeSlave => f.write_str("cut mount propagation towards the host"),
            Self::OverlayRoot { tree, size, .. } => {
                write!(f, "overlay `{tree}` with {size} bytes of memory at `/`")
            }
            Self::MirrorRoot { tree, .. } => write!(f, "mirror `{tree}` at `/`"),
            Self::MemoryRoot { size } => write!(f, "use {size} bytes of memory as `/`"),
            Self::FolderRoot { folder, read_only } => {
                write!(f, "use `{folder}` as `/`{}", if *read_only { " (read-only)" } else { "" })
            }
            Self::GivenRoot => f.write_str("use the container's own `/`"),
            Self::Directory { at, mode, owner } => {
                write!(f, "make folder `{at}` (mode {mode:04o}, owner {}:{})", owner.uid, owner.gid)
            }
            Self::File { at, mode, .. } => write!(f, "write file `{at}` (mode {mode:04o})"),
            Self::Secret { at, .. } => write!(f, "write file `{at}` for the tool's eyes only"),
            Self::Follow { source, at, .. } => write!(f, "keep `{at}` as `{source}` is on the host"),
            Self::Interface { name, mac } => {
                write!(f, "make the interface `{name}` with the address {}", Mac(*mac))
            }
            Self::Relay { to } => {
                f.write_str("relay to")?;
                to.iter().try_for_each(|address| write!(f, " {address}"))
            }
            Self::Channels { channels } => {
                f.write_str("carry")?;
                for (number, channel) in channels.iter().enumerate() {
                    write!(f, "{} {channel}", if number == 0 { "" } else { "," })?;
                }
                Ok(())
            }
            Self::ControlGroup { path } => write!(f, "enter the control group `{path}`"),
            Self::Slots { slots } => {
                f.write_str("show")?;
                for (number, slot) in slots.iter().enumerate() {
                    let comma = if number == 0 { "" } else { "," };
                    write!(f, "{comma} {} at `{}`", slot.device, slot.at)?;
                }
                f.write_str(" whenever they are there")
            }
            Self::Symlink { at, to } => write!(f, "link `{at}` to `{to}`"),
            Self::MountPoint { at, .. } => write!(f, "make mount point `{at}`"),
            Self::ReadOnly { at } => write!(f, "make `{at}` read-only"),
            Self::Bind { source, at, read_only, .. } => {
                write!(f, "bind `{source}` at `{at}`{}", if *read_only { " (read-only)" } else { "" })
            }
            Self::Tmpfs { at, size, .. } => write!(f, "mount {size} bytes of memory at `{at}`"),
            Self::Dev => f.write_str("make `/dev`"),
            Self::DevPts { .. } => f.write_str("mount pseudo terminals at `/dev/pts`"),
            Self::Proc => f.write_str("mount `/proc`"),
            Self::Mask { at } => write!(f, "hide `{at}`"),
            Self::Loopback => f.write_str("bring up the loopback interface"),
            Self::NoLoopback => f.write_str("take down the loopback interface"),
            Self::HostName { name } => write!(f, "set the host name to `{name}`"),
            Self::LeaveHost => f.write_str("detach the host's file systems"),
        }
    }
}

impl fmt::Display for Namespaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            (self.user, "user"),
            (self.mount, "mount"),
            (self.pid, "pid"),
            (self.ipc, "ipc"),
            (self.uts, "uts"),
            (self.net, "net"),
            (self.cgroup, "cgroup"),
        ];
        let mut first = true;
        for (_, name) in all.iter().filter(|(on, _)| *on) {
            write!(f, "{}{name}", if first { "" } else { " " })?;
            first = false;
        }
        Ok(())
    }
}
