//! What a run of a tool is to look like, in the terms of a recipe and an instrument.
use super::Error;
use std::collections::BTreeMap;
use std::path::Path;

pub use hatchway_wire::{
    Channel, Companion, DeviceId, Door, Endpoint, Health, HostPath, InsidePath, Ready, ResourceLimit, Slot,
    StdioMode,
};

/// Resolves a path somebody typed into one without symlinks, which is the only kind the shim binds.
pub fn host_path(path: impl AsRef<Path>) -> Result<HostPath, Error> {
    let path = path.as_ref();
    let resolved = std::fs::canonicalize(path)
        .map_err(|source| Error::Resolve { path: path.display().to_string(), source })?;
    Ok(HostPath::try_from(resolved.as_path())?)
}

/// One run of one tool.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Name of the unit.
    pub unit: String,
    /// Names this run among all runs of the unit.
    pub incarnation: String,
    /// Root folder of the immutable tree.
    pub tree: HostPath,
    /// A path inside, or a bare name that is looked up in the `PATH` inside.
    pub program: String,
    /// Arguments after the program's name.
    pub args: Vec<String>,
    /// Added to the default environment, or replacing parts of it.
    pub env: BTreeMap<String, String>,
    /// Working folder inside; the home folder if none is given.
    pub cwd: Option<InsidePath>,
    /// Folders that survive.
    pub state: Vec<StateDir>,
    /// Licences and site files.
    pub files: Vec<BoundFile>,
    /// Folders shared with the host.
    pub shares: Vec<Share>,
    /// Device nodes.
    pub devices: Vec<Device>,
    /// Devices under fixed names that may come and go.
    pub slots: Vec<Slot>,
    /// Streams of I/O that are carried to servers of the host's network.
    pub channels: Vec<Channel>,
    /// Sockets of the host: a display, sound.
    pub sockets: Vec<BoundSocket>,
    /// Files that only the tool may read: cookies.
    pub secrets: Vec<Secret>,
    /// The host's graphics driver.
    pub driver: Driver,
    /// Programs of the host that serve this run only; already started.
    pub companions: Vec<Companion>,
    /// Units of systemd that start before the tool; only where root inside is nobody outside.
    pub services: Vec<String>,
    /// Whoever makes the isolation gives it users of its own: root inside is nobody outside.
    pub remapped: bool,
    /// How to find out whether the tool is well.
    pub health: Option<Health>,
    /// When the tool counts as ready.
    pub ready: Option<Ready>,
    /// How the name of a process begins that the tool would wait for without end once it was killed.
    pub vital: Option<String>,
    /// An interface with a name and a hardware address that a licence is bound to.
    pub interface: Option<Interface>,
    /// The control group the unit runs in; exists.
    pub control_group: Option<HostPath>,
    /// What network the tool sees.
    pub network: Network,
    /// Host name inside; needs no network of its own. The unit's name if none is given.
    pub hostname: Option<String>,
    /// Content of `/etc/machine-id`: 32 hexadecimal digits, the same for every run.
    pub machine_id: String,
    /// The user the tool believes to be.
    pub identity: User,
    /// The users that the tree has, as lines of passwd(5): shown beside that user where name and number are free.
    pub tree_users: String,
    /// The groups that the tree has, as lines of group(5).
    pub tree_groups: String,
    /// As root for units, or as an ordinary user.
    pub mode: Mode,
    /// Capabilities the tool keeps, by name; only in [`Mode::Root`].
    pub capabilities: Vec<String>,
    /// The tree has libraries for 32-bit programs of a PC.
    pub i386: bool,
    /// Bytes in each of `/tmp` and `/var/tmp`.
    pub tmp_size: u64,
    /// Bytes in `/dev/shm`.
    pub shm_size: u64,
    /// Bytes of writes anywhere else before they fail.
    pub scratch_size: u64,
    /// Resource limits; core dumps are off unless they are set here.
    pub limits: Vec<ResourceLimit>,
    /// What is known to be otherwise than asked for.
    pub notes: Vec<String>,
    /// How the standard streams are made.
    pub stdio: StdioMode,
    /// Where `exit.json` goes.
    pub exit_file: Option<HostPath>,
    /// Milliseconds between asking the tool to end and killing it.
    pub grace_ms: u64,
    /// The number of the signal that asks it to end, where it is another than the one that comes.
    pub stop_signal: Option<i32>,
}

impl Spec {
    /// A spec with the defaults of an interactive run.
    #[must_use]
    pub fn new(unit: &str, tree: HostPath, program: &str, identity: User, mode: Mode) -> Self {
        Self {
            unit: unit.to_owned(),
            incarnation: "0".to_owned(),
            tree,
            program: program.to_owned(),
            args: Vec::new(),
            env: BTreeMap::new(),
            cwd: None,
            state: Vec::new(),
            files: Vec::new(),
            shares: Vec::new(),
            devices: Vec::new(),
            slots: Vec::new(),
            channels: Vec::new(),
            sockets: Vec::new(),
            secrets: Vec::new(),
            driver: Driver::default(),
            companions: Vec::new(),
            services: Vec::new(),
            remapped: false,
            health: None,
            ready: None,
            vital: None,
            interface: None,
            control_group: None,
            network: Network::Loopback,
            hostname: None,
            machine_id: "0".repeat(32),
            identity,
            tree_users: String::new(),
            tree_groups: String::new(),
            mode,
            capabilities: Vec::new(),
            i386: false,
            tmp_size: 1 << 30,
            shm_size: 64 << 20,
            scratch_size: 1 << 30,
            limits: Vec::new(),
            notes: Vec::new(),
            stdio: StdioMode::Auto,
            exit_file: None,
            grace_ms: 5000,
            stop_signal: None,
        }
    }
}

/// A folder of the host that is the tool's own and survives.
#[derive(Debug, Clone)]
pub struct StateDir {
    /// The folder on the host; exists, owned by the tool's user.
    pub host: HostPath,
    /// Where the tool expects it.
    pub at: InsidePath,
}

/// A file of the host, shown read-only.
#[derive(Debug, Clone)]
pub struct BoundFile {
    /// The file on the host.
    pub host: HostPath,
    /// Where the tool expects it.
    pub at: InsidePath,
}

/// What of the host's graphics driver the tool sees.
#[derive(Debug, Clone, Default)]
pub struct Driver {
    /// Libraries, files that they open, and an `ld.so.cache` that has them; where one is gone, nothing is shown.
    pub files: Vec<BoundFile>,
    /// Further names of libraries: where, and what the link says.
    pub links: Vec<(InsidePath, String)>,
    /// Files by which the environment's loaders find the libraries, and what is in them.
    pub manifests: Vec<(InsidePath, String)>,
}

/// A folder of the host, shown to the tool because a person asked for it.
#[derive(Debug, Clone)]
pub struct Share {
    /// The folder on the host.
    pub host: HostPath,
    /// Where the tool sees it.
    pub at: InsidePath,
    /// Refuse writes.
    pub read_only: bool,
}

/// A device node of the host.
#[derive(Debug, Clone)]
pub struct Device {
    /// The node on the host, not a symlink to it.
    pub host: HostPath,
    /// Where the tool expects it, below `/dev`.
    pub at: InsidePath,
}

/// A socket of the host.
#[derive(Debug, Clone)]
pub struct BoundSocket {
    /// The socket on the host.
    pub host: HostPath,
    /// Where the tool expects it.
    pub at: InsidePath,
    /// A companion of this run made it, so that it lies in a folder of Hatchway's own.
    pub served: bool,
}

/// A file that is made for the tool alone.
#[derive(Debug, Clone)]
pub struct Secret {
    /// Where.
    pub at: InsidePath,
    /// What is in it.
    pub content: Vec<u8>,
}

/// An interface that leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name, at most 15 bytes.
    pub name: String,
    /// Its hardware address.
    pub mac: [u8; 6],
}

/// What network the tool sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// No interface is up.
    None,
    /// Its own loopback interface only.
    Loopback,
    /// The host's interfaces.
    Host,
    /// Its own loopback, and these servers of the host's network by way of the shim.
    Allow(Vec<Endpoint>),
}

/// The user the tool believes to be.
#[derive(Debug, Clone)]
pub struct User {
    /// Login name.
    pub name: String,
    /// User id inside; in [`Mode::Root`] also outside.
    pub uid: u32,
    /// Group id inside; in [`Mode::Root`] also outside.
    pub gid: u32,
    /// Home folder, empty at the start unless it is in the tree or bound.
    pub home: InsidePath,
}

impl User {
    /// A user with the usual home folder.
    pub fn new(name: &str, uid: u32, gid: u32) -> Result<Self, Error> {
        let home = InsidePath::new(format!("/home/{name}"))?;
        Ok(Self { name: name.to_owned(), uid, gid, home })
    }
}

/// The two ways into the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Hatchway runs as root: no user namespace; the tool runs with the identity's ids and these groups.
    Root {
        /// Supplementary groups (`dialout`, …) by number.
        groups: Vec<u32>,
    },
    /// Hatchway runs as an ordinary user: a user namespace in which only that user exists.
    User,
}
