//! The sandbox of a build step: a tree as root without the tool's comforts, offline, as "root" of a namespace of its own.
//!
//! Always in a user namespace, for root as for anybody, without a capability, and with no other user in it. User 0 inside
//! is the caller outside; for root it is [`BUILD_ID`], since a file with the set-user-id bit that a step leaves would
//! otherwise be a way to root for whoever reaches it, and user 0 owns much of `/proc`. Nothing of the host is in it but the
//! folders that the builder binds.

use super::plan::{PROC_MASKED, PROC_READ_ONLY, SYS_MINIMAL};
use super::{Error, HostFacts, HostPath, InsidePath, seccomp};
use hatchway_wire::bootstrap::{Resource, ResourceLimit};
use hatchway_wire::{Bootstrap, Namespaces, Op, Owner, Process, SourceKind, StdioMode, VERSION};

/// Bytes in `/run` and `/dev/shm` of a build step. What is large goes to `/tmp`, which is on disk.
const MEMORY_BYTES_MAX: u64 = 256 << 20;
/// Bytes of memory of its own that each process of a build step may have: several times what compilers and installers take.
pub(crate) const DATA_BYTES_MAX: u64 = 8 << 30;
/// Bytes of one file that a build step may write. Images of installed disks are larger; no tool is one file of that size.
pub(crate) const FILE_BYTES_MAX: u64 = 64 << 30;
/// Processes and threads of a build step. The kernel counts them by user, so of root's builds, which all run as [`BUILD_ID`],
/// those of all together.
pub(crate) const TASKS_MAX: u64 = 4096;
/// Milliseconds between asking a build step to end and killing it.
const GRACE_MS: u64 = 2000;

/// Who root's build steps are on the host: a user and a group that own nothing, next to those of tools (see
/// `TOOL_UID_FIRST` in the supervisor; systemd's UIDS-GIDS page lists the range as unused).
pub const BUILD_ID: u32 = 0x7001_0000;

/// Who a build step is on the host, where Hatchway runs as `host`.
#[must_use]
pub fn build_user(host: &HostFacts) -> (u32, u32) {
    if host.uid == 0 { (BUILD_ID, BUILD_ID) } else { (host.uid, host.gid) }
}

/// One command over a tree.
#[derive(Debug, Clone)]
pub struct BuildSpec {
    /// Names the step in messages.
    pub name: String,
    /// Root folder of the tree.
    pub folder: HostPath,
    /// Keep what is written, in `folder` itself; otherwise it is read-only.
    pub writable: bool,
    /// A folder on disk for `/tmp` and `/var/tmp`.
    pub tmp: HostPath,
    /// More folders of the host: where from, where to, whether read-only.
    pub binds: Vec<(HostPath, InsidePath, bool)>,
    /// A path inside, or a bare name that is looked up in `PATH`.
    pub program: String,
    /// Arguments after the program's name.
    pub args: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Working folder inside.
    pub cwd: InsidePath,
    /// Where the shim writes how it ended.
    pub exit_file: HostPath,
    /// It runs 32-bit programs that speak to each other.
    pub i386: bool,
}

/// Turns a build step into what the shim does. Pure.
///
/// # Errors
/// A string with a NUL byte.
pub fn build_plan(spec: &BuildSpec, host: &HostFacts) -> Result<Bootstrap, Error> {
    for text in spec.args.iter().chain([&spec.program]).chain(spec.env.iter().map(|(_, value)| value)) {
        if text.contains('\0') {
            let value = text.escape_default().to_string();
            return Err(Error::Invalid { what: "argument", value, why: "it contains a NUL byte" });
        }
    }
    let (outside_uid, outside_gid) = build_user(host);
    let mut ops = vec![
        Op::Unshare(Namespaces {
            user: true,
            mount: true,
            pid: true,
            ipc: true,
            uts: true,
            net: true,
            cgroup: true,
        }),
        Op::IdMap { inside_uid: 0, outside_uid, inside_gid: 0, outside_gid },
        Op::HostName { name: "build".to_owned() },
        Op::Loopback,
        Op::MakeSlave,
        Op::FolderRoot { folder: spec.folder.clone(), read_only: !spec.writable },
    ];
    own_folders(spec, &mut ops)?;
    ops.push(Op::LeaveHost);
    Ok(Bootstrap {
        version: VERSION,
        unit: spec.name.clone(),
        incarnation: "build".to_owned(),
        ops,
        process: process(spec),
        stdio: StdioMode::Detached,
        exit_file: Some(spec.exit_file.clone()),
        exit_is_scratch: true,
        companions: Vec::new(),
        lease: None,
        channels_fd: None,
        control: None,
        notes: Vec::new(),
        keep_fds: Vec::new(),
        vital: None,
        services: None,
        health: None,
        ready: None,
        notify_folder: None,
        missing: None,
        grace_ms: GRACE_MS,
        stop_signal: None,
    })
}

fn own_folders(spec: &BuildSpec, ops: &mut Vec<Op>) -> Result<(), Error> {
    let at = |path: &str| InsidePath::new(path);
    let owner = Owner { uid: 0, gid: 0 };
    let bind = |source: &HostPath, at: InsidePath, read_only, optional| Op::Bind {
        source: source.clone(),
        at,
        kind: SourceKind::Directory,
        read_only,
        optional,
    };
    ops.push(Op::Tmpfs { at: at("/run")?, mode: 0o755, size: MEMORY_BYTES_MAX, owner });
    for path in ["/tmp", "/var/tmp"] {
        ops.push(bind(&spec.tmp, at(path)?, false, false));
    }
    ops.push(Op::Dev);
    ops.push(Op::DevPts { gid: None });
    ops.push(Op::Tmpfs { at: at("/dev/shm")?, mode: 0o1777, size: MEMORY_BYTES_MAX, owner });
    ops.push(Op::Proc);
    for path in PROC_MASKED {
        ops.push(Op::Mask { at: at(path)? });
    }
    for path in PROC_READ_ONLY {
        ops.push(Op::ReadOnly { at: at(path)? });
    }
    // Below a mount of its own: a read-only tree has the folder, but no place to make one in it.
    ops.push(Op::Tmpfs { at: at("/sys")?, mode: 0o755, size: 1 << 20, owner });
    for path in SYS_MINIMAL {
        ops.push(bind(&HostPath::new(path)?, at(path)?, true, true));
    }
    for (source, at, read_only) in &spec.binds {
        ops.push(bind(source, at.clone(), *read_only, false));
    }
    Ok(())
}

fn process(spec: &BuildSpec) -> Process {
    Process {
        program: spec.program.clone(),
        args: spec.args.clone(),
        env: spec.env.clone(),
        cwd: spec.cwd.as_str().to_owned(),
        uid: 0,
        gid: 0,
        groups: None,
        capabilities: Vec::new(),
        no_new_privs: true,
        seccomp: seccomp::build_filter(spec.i386),
        limits: [
            (Resource::Core, 0),
            (Resource::Data, DATA_BYTES_MAX),
            (Resource::FileSize, FILE_BYTES_MAX),
            (Resource::Tasks, TASKS_MAX),
        ]
        .map(|(resource, value)| ResourceLimit { resource, soft: Some(value), hard: Some(value) })
        .into(),
        fence: None,
        umask: 0o022,
    }
}
