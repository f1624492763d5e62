//! What `hatchway run` hands to the shim, as JSON in a sealed memfd.
use crate::op::{Endpoint, Op};
use crate::path::{HostPath, InsidePath};
use crate::ready::Ready;
use serde::{Deserialize, Serialize};

/// Everything the shim needs to know about one run of one unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bootstrap {
    /// [`crate::VERSION`].
    pub version: u32,
    /// Name of the unit, for messages and `exit.json`.
    pub unit: String,
    /// Names this run among all runs of the unit.
    pub incarnation: String,
    /// The sandbox, step by step.
    pub ops: Vec<Op>,
    /// The tool.
    pub process: Process,
    /// How the tool's standard streams are made.
    pub stdio: StdioMode,
    /// Where the exit record goes, if anywhere. The folder must exist.
    pub exit_file: Option<HostPath>,
    /// Nobody asks for the exit record after a power cut, so it is not waited for until it is on disk: a build step's.
    #[serde(default)]
    pub exit_is_scratch: bool,
    /// Descriptors the shim keeps open as long as it lives (the tree's lock); never seen by the tool.
    /// Filled in by the launcher.
    pub keep_fds: Vec<i32>,
    /// Inside a container: the way to whoever started the unit, which ends when that one is gone.
    #[serde(default)]
    pub lease: Option<Lease>,
    /// In a guest: a descriptor that is kept, too, and the way of the unit's channels ([`crate::mux`]). Elsewhere they lead
    /// where the shim itself can connect to, or come with the lease.
    #[serde(default)]
    pub channels_fd: Option<i32>,
    /// How others come to the unit while it runs.
    #[serde(default)]
    pub control: Option<Control>,
    /// Milliseconds between a polite and an impolite end.
    pub grace_ms: u64,
    /// The number of the signal that asks the tool to end, where it is another than the one that came.
    #[serde(default)]
    pub stop_signal: Option<i32>,
    /// Programs of the host that serve this run only. They were started by the process that becomes the shim, so
    /// that they are its children; it ends them with the tool.
    #[serde(default)]
    pub companions: Vec<Companion>,
    /// How the name of a process begins that the tool would wait for without end once it was killed: then the tool is killed, too.
    #[serde(default)]
    pub vital: Option<String>,
    /// What systemd starts before the tool and stops after it.
    #[serde(default)]
    pub services: Option<Services>,
    /// How to find out whether the tool is well.
    #[serde(default)]
    pub health: Option<Health>,
    /// When the tool counts as ready.
    #[serde(default)]
    pub ready: Option<Ready>,
    /// Where its notify socket is made; in its folder of `/run/user` otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify_folder: Option<InsidePath>,
    /// What starts the program and is not in the tree; known before the start, since the shim knows no packages.
    #[serde(default)]
    pub missing: Option<Missing>,
    /// What is known before the start to be otherwise than asked for; goes into the exit record.
    #[serde(default)]
    pub notes: Vec<String>,
}

impl Bootstrap {
    /// Milliseconds that services may take to stop, after the tool's own grace time.
    #[must_use]
    pub fn services_ms(&self) -> u64 {
        self.services.as_ref().map_or(0, |services| services.stop_ms)
    }

    /// The servers of the host's network that the unit's relay and channels lead to: these and no others.
    #[must_use]
    pub fn destinations(&self) -> Vec<Endpoint> {
        let mut all = Vec::new();
        for op in &self.ops {
            match op {
                Op::Relay { to } => all.extend(to.iter().copied()),
                Op::Channels { channels } => all.extend(channels.iter().map(|channel| channel.to)),
                _ => {}
            }
        }
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// How others come to a running unit: see [`crate::control`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Control {
    /// A socket that listens. Its name is removed at the end.
    Listener {
        /// A descriptor that is kept, too.
        fd: i32,
        /// Its name.
        path: HostPath,
    },
    /// In a guest: a socket over which connections come, as with a lease.
    Given {
        /// A descriptor that is kept, too.
        fd: i32,
    },
}

/// The way from inside a container to whoever started it: see [`crate::attend::LeaseOrder`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// The socket. It takes one connection.
    pub at: InsidePath,
    /// Who started it was in front of its terminal then. From inside a container nobody can tell.
    pub front: bool,
}

/// Services that the tool needs beside it. systemd of the tree starts them, as root, in namespaces of its own below the unit's:
/// only where that root is nobody outside, as in a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Services {
    /// Units of systemd, which have to be up before the tool starts.
    pub names: Vec<String>,
    /// The unit that wants them all, which the plan makes.
    pub target: String,
    /// A named pipe to make, into which the plan leads what they print.
    pub output: String,
    /// Milliseconds they may take to be up.
    pub patience_ms: u64,
    /// Milliseconds they may take to stop before they are killed.
    pub stop_ms: u64,
}

/// A program that is started beside the tool again and again, and says by its exit code whether the tool is well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// A path inside, or a bare name that is looked up in `PATH` inside.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Milliseconds from start to start, and to the first; where one takes longer, the next comes at once.
    pub every_ms: u64,
    /// Milliseconds after which one is killed, and has failed.
    pub timeout_ms: u64,
    /// How many in a row have to fail.
    pub failures: u32,
    /// Then the tool is ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ends: bool,
    /// Milliseconds from the tool's start in which a failure does not count as long as none has succeeded: it may not be so far.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_ms: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// The interpreter or loader of a program, where the tree has not got it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Missing {
    /// As the program names it.
    pub name: String,
    /// What to do about it.
    pub hint: String,
}

/// A program of the host that serves one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Companion {
    /// Its process id; 0 in a plan that is only explained.
    pub pid: i32,
    /// What it is for: "the display server".
    pub role: String,
    /// Its command line, for people.
    pub command: String,
}

/// How the tool's standard streams are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StdioMode {
    /// `Terminal` if all three streams are terminals, `Shared` if some are, `Detached` if none is.
    Auto,
    /// A terminal of the tool's own, from the sandbox's devpts, relayed by the shim.
    Terminal,
    /// The caller's streams but for those that are terminals: these are a terminal of the tool's own, as with
    /// `Terminal`. The tool begins in the background of it, and gets the keys when it asks for them.
    Shared,
    /// The caller's streams, in a session of the tool's own.
    Detached,
}

/// The tool and everything it starts with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// A path inside, or a bare name that is looked up in `PATH` inside.
    pub program: String,
    /// Arguments after the program's name.
    pub args: Vec<String>,
    /// The whole environment, `NAME`, `value`.
    pub env: Vec<(String, String)>,
    /// Working folder inside.
    pub cwd: String,
    /// User id inside.
    pub uid: u32,
    /// Group id inside.
    pub gid: u32,
    /// Supplementary groups; `None` leaves them as they are (a user namespace cannot change them).
    pub groups: Option<Vec<u32>>,
    /// Capabilities the tool keeps, by name (`CAP_SYS_NICE`); almost always none.
    pub capabilities: Vec<String>,
    /// No gain of privilege through set-id programs.
    pub no_new_privs: bool,
    /// What the tool may open, by Landlock; nothing where the kernel has none.
    #[serde(default)]
    pub fence: Option<Fence>,
    /// The system call filter; empty for none.
    pub seccomp: Vec<Instruction>,
    /// Resource limits.
    pub limits: Vec<ResourceLimit>,
    /// File mode creation mask.
    pub umask: u32,
}

/// What a tool may open, by Landlock (landlock(7)). Everything below `/` can be read and executed; what is an entry of `/`
/// and not listed as read-only can be written; nothing that is not below `/` can be opened at all. Abstract sockets and
/// processes of others are out of reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fence {
    /// Entries of `/` below which nothing is written.
    pub read_only: Vec<InsidePath>,
    /// Folders and files below those that can be written all the same.
    pub write: Vec<InsidePath>,
    /// Where devices are, which can be used as such.
    pub devices: Vec<InsidePath>,
    /// TCP connections are allowed, as far as the network namespace lets them.
    pub connect: bool,
}

impl std::fmt::Display for Fence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |paths: &[InsidePath]| {
            let paths: Vec<String> = paths.iter().map(|path| format!("`{path}`")).collect();
            paths.join(" ")
        };
        write!(f, "read and execute below `/`, write outside of {}", list(&self.read_only))?;
        if !self.write.is_empty() {
            write!(f, " and in {}", list(&self.write))?;
        }
        write!(f, ", use devices in {}", list(&self.devices))?;
        f.write_str(if self.connect { "" } else { ", no TCP connections" })
    }
}

/// One instruction of classic BPF: code, jump if true, jump if false, constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instruction(pub u16, pub u8, pub u8, pub u32);

/// One resource limit, soft and hard; `None` is "no limit".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceLimit {
    /// Which resource.
    pub resource: Resource,
    /// What the tool may use now.
    pub soft: Option<u64>,
    /// What it may raise its limit to.
    pub hard: Option<u64>,
}

/// The resources that can be limited per process. Memory and tasks of a whole unit are the cgroup's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resource {
    /// Bytes of a core dump.
    Core,
    /// Open descriptors.
    OpenFiles,
    /// Bytes of locked memory.
    LockedMemory,
    /// Highest real-time priority.
    RealtimePriority,
    /// Bytes of address space.
    AddressSpace,
    /// Bytes of memory of its own: heap, and private mappings that can be written.
    Data,
    /// Bytes of stack.
    Stack,
    /// Bytes of one file.
    FileSize,
    /// Processes and threads of the user, in its user namespace.
    Tasks,
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Core => "core dumps (bytes)",
            Self::OpenFiles => "open files",
            Self::LockedMemory => "locked memory (bytes)",
            Self::RealtimePriority => "real-time priority",
            Self::AddressSpace => "address space of each process (bytes)",
            Self::Data => "memory of each process (bytes)",
            Self::Stack => "stack (bytes)",
            Self::FileSize => "size of each file (bytes)",
            Self::Tasks => "processes and threads of the user",
        })
    }
}
