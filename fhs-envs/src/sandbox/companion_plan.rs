//! The sandbox of a program of the host that serves one tool: a display server, a sound server, a filter of messages.
//!
//! It parses what a hostile tool sends, so a hole in it must not be a way out. Its root is empty memory with the host's
//! programs, libraries and fonts in it, read-only, one folder that it may write, and the sockets it connects to. It runs
//! as the tool's user, without a capability, in namespaces of its own.

use std::fs;

use super::plan::{self, PROC_MASKED, PROC_READ_ONLY, READ_ONLY, SYS_MINIMAL, fence};
use super::spec::Mode;
use super::{Error, HostFacts, HostPath, InsidePath, User, seccomp};
use hatchway_wire::bootstrap::{Resource, ResourceLimit};
use hatchway_wire::{Bootstrap, Fence, Namespaces, Op, Owner, Process, SourceKind, StdioMode, VERSION};

/// Room for mount points and two short files.
const ROOT_BYTES_MAX: u64 = 1 << 20;
/// Bytes in its `/tmp`: a keyboard map, a lock.
const TMP_BYTES_MAX: u64 = 16 << 20;
/// Bytes of memory of its own: an X server keeps a tool's pictures, and a tool could ask it for all there is.
const DATA_BYTES_MAX: u64 = 2 << 30;
/// Milliseconds between asking it to end and killing it; less than the shim of the tool waits.
const GRACE_MS: u64 = 1000;
/// Where programs and libraries are on a host of today, and on one that builds its system from a store.
const PROGRAMS: [&str; 8] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store"];
/// Settings that such servers read and that say nothing about this host or its people.
const SETTINGS: [&str; 6] =
    ["/etc/ld.so.cache", "/etc/alternatives", "/etc/fonts", "/etc/X11", "/etc/pulse", "/etc/nsswitch.conf"];
/// What is read to find another machine by its name.
const RESOLVER: [&str; 2] = ["/etc/hosts", "/etc/resolv.conf"];

/// How far it reaches beyond its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Sockets that are shown to it, and nothing else.
    Sockets,
    /// The host's network: the server it is a client of is on another machine.
    Network,
    /// The host's network namespace, without Landlock: that server has a socket without a file, which can be reached in
    /// no other way.
    Abstract,
}

/// One program that serves a tool.
#[derive(Debug, Clone)]
pub struct CompanionSpec {
    /// Names it in messages.
    pub name: String,
    /// The program on the host.
    pub program: HostPath,
    /// Arguments after the program's name.
    pub args: Vec<String>,
    /// Added to a `PATH` and a home folder.
    pub env: Vec<(String, String)>,
    /// The only folder of the host that it may write, and where it sees it; it starts there.
    pub folder: (HostPath, InsidePath),
    /// Files of the host that it reads.
    pub files: Vec<(HostPath, InsidePath)>,
    /// Sockets of the host that it connects to.
    pub sockets: Vec<(HostPath, InsidePath)>,
    /// How far it reaches.
    pub reach: Reach,
    /// The tool's user.
    pub user: User,
    /// As the tool's.
    pub mode: Mode,
}

/// What of the host such a program sees: programs, libraries, fonts.
///
/// # Errors
/// When the host has a path that cannot be carried.
pub fn host_view(reach: Reach) -> Result<Vec<Op>, Error> {
    let mut ops = Vec::new();
    for path in PROGRAMS {
        // A host of today has links there, which say the same inside.
        match fs::read_link(path).ok().and_then(|to| to.into_os_string().into_string().ok()) {
            Some(to) => ops.push(Op::Symlink { at: InsidePath::new(path)?, to }),
            None => ops.extend(shown(path)?),
        }
    }
    let resolver = if reach == Reach::Sockets { &[][..] } else { &RESOLVER };
    for path in SETTINGS.iter().chain(resolver) {
        ops.extend(shown(path)?);
    }
    Ok(ops)
}

/// A folder or file of the host at its own path, if it is there.
fn shown(path: &str) -> Result<Option<Op>, Error> {
    let Ok(source) = super::host_path(path) else { return Ok(None) };
    let kind = match fs::metadata(source.as_str()) {
        Ok(is) if is.is_dir() => SourceKind::Directory,
        Ok(is) if is.is_file() => SourceKind::File,
        _ => return Ok(None),
    };
    Ok(Some(Op::Bind { source, at: InsidePath::new(path)?, kind, read_only: true, optional: true }))
}

/// Turns it into what a shim of its own does. Pure; `view` is what [`host_view`] found.
///
/// # Errors
/// A string with a NUL byte, or a path that cannot be carried.
pub fn companion_plan(spec: &CompanionSpec, view: Vec<Op>, host: &HostFacts) -> Result<Bootstrap, Error> {
    for text in spec.args.iter().chain(spec.env.iter().map(|(_, value)| value)) {
        if text.contains('\0') {
            let value = text.escape_default().to_string();
            return Err(Error::Invalid { what: "argument", value, why: "it contains a NUL byte" });
        }
    }
    let mut ops = namespaces(spec, host);
    ops.push(Op::MemoryRoot { size: ROOT_BYTES_MAX });
    ops.extend(view);
    own_files(spec, &mut ops)?;
    kernel_views(&mut ops)?;
    binds(spec, &mut ops)?;
    ops.push(Op::LeaveHost);
    Ok(Bootstrap {
        version: VERSION,
        unit: spec.name.clone(),
        incarnation: "companion".to_owned(),
        ops,
        process: process(spec, host)?,
        stdio: StdioMode::Detached,
        exit_file: None,
        exit_is_scratch: true,
        companions: Vec::new(),
        lease: None,
        channels_fd: None,
        control: None,
        notes: Vec::new(),
        keep_fds: Vec::new(),
        grace_ms: GRACE_MS,
        stop_signal: None,
        vital: None,
        services: None,
        health: None,
        ready: None,
        notify_folder: None,
        missing: None,
    })
}

/// A display's cookies go by the host's name, so the new UTS namespace keeps it.
fn namespaces(spec: &CompanionSpec, host: &HostFacts) -> Vec<Op> {
    let user = spec.mode == Mode::User;
    let net = spec.reach == Reach::Sockets;
    let all = Namespaces { user, mount: true, pid: true, ipc: true, uts: true, net, cgroup: true };
    let mut ops = vec![Op::Unshare(all)];
    if user {
        ops.push(plan::own_ids(&spec.user, host));
    }
    ops.push(Op::MakeSlave);
    ops
}

/// Its user and a place for scratch.
fn own_files(spec: &CompanionSpec, ops: &mut Vec<Op>) -> Result<(), Error> {
    let User { name, uid, gid, .. } = &spec.user;
    for (at, content) in [
        ("/etc/passwd", format!("{name}:x:{uid}:{gid}:{name}:/tmp:/usr/sbin/nologin\n")),
        ("/etc/group", format!("{name}:x:{gid}:\n")),
    ] {
        ops.push(Op::File { at: InsidePath::new(at)?, mode: 0o644, content });
    }
    let owner = Owner { uid: *uid, gid: *gid };
    ops.push(Op::Tmpfs { at: InsidePath::new("/tmp")?, mode: 0o1777, size: TMP_BYTES_MAX, owner });
    Ok(())
}

fn kernel_views(ops: &mut Vec<Op>) -> Result<(), Error> {
    ops.extend([Op::Dev, Op::Proc]);
    for path in PROC_MASKED {
        ops.push(Op::Mask { at: InsidePath::new(path)? });
    }
    for path in PROC_READ_ONLY {
        ops.push(Op::ReadOnly { at: InsidePath::new(path)? });
    }
    for path in SYS_MINIMAL {
        ops.push(Op::Bind {
            source: HostPath::new(path)?,
            at: InsidePath::new(path)?,
            kind: SourceKind::Directory,
            read_only: true,
            optional: true,
        });
    }
    Ok(())
}

/// What is its own. A socket may be shown in the folder that it writes, so that comes first.
fn binds(spec: &CompanionSpec, ops: &mut Vec<Op>) -> Result<(), Error> {
    let mut bind = |(source, at): &(HostPath, InsidePath), kind, read_only| {
        ops.push(Op::Bind { source: source.clone(), at: at.clone(), kind, read_only, optional: false });
    };
    bind(&spec.folder, SourceKind::Directory, false);
    spec.files.iter().for_each(|file| bind(file, SourceKind::File, true));
    spec.sockets.iter().for_each(|socket| bind(socket, SourceKind::Socket, false));
    let program = InsidePath::new(spec.program.as_str())?;
    let mut is_shown = false;
    for place in PROGRAMS {
        is_shown |= program.is_within(&InsidePath::new(place)?);
    }
    if !is_shown {
        bind(&(spec.program.clone(), program), SourceKind::File, true);
    }
    Ok(())
}

fn process(spec: &CompanionSpec, host: &HostFacts) -> Result<Process, Error> {
    let mut env = vec![
        ("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned()),
        ("HOME".to_owned(), "/tmp".to_owned()),
    ];
    env.extend(spec.env.iter().cloned());
    let limit = |(resource, value)| ResourceLimit { resource, soft: Some(value), hard: Some(value) };
    Ok(Process {
        program: spec.program.as_str().to_owned(),
        args: spec.args.clone(),
        env,
        cwd: spec.folder.1.as_str().to_owned(),
        uid: spec.user.uid,
        gid: spec.user.gid,
        groups: matches!(spec.mode, Mode::Root { .. }).then(Vec::new),
        capabilities: Vec::new(),
        no_new_privs: true,
        fence: wall(spec, host)?,
        seccomp: seccomp::companion_filter(spec.reach != Reach::Sockets),
        limits: [(Resource::Core, 0), (Resource::Data, DATA_BYTES_MAX)].map(limit).into(),
        umask: 0o022,
    })
}

/// Landlock, where the kernel has it: only the folder of its own and its scratch are written.
fn wall(spec: &CompanionSpec, host: &HostFacts) -> Result<Option<Fence>, Error> {
    if host.landlock < fence::VERSION_MIN || spec.reach == Reach::Abstract {
        return Ok(None);
    }
    let places = READ_ONLY.iter().chain(&["/etc", "/nix", "/proc", "/sys"]);
    Ok(Some(Fence {
        read_only: places.map(InsidePath::new).collect::<Result<_, _>>()?,
        write: Vec::new(),
        devices: vec![InsidePath::new("/dev")?],
        connect: spec.reach != Reach::Sockets,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(mode: Mode, reach: Reach) -> CompanionSpec {
        let at = |path: &str| (HostPath::new(path).unwrap(), InsidePath::new(path).unwrap());
        CompanionSpec {
            name: "display".to_owned(),
            program: HostPath::new("/usr/bin/Xvfb").unwrap(),
            args: vec![":1".to_owned()],
            env: Vec::new(),
            folder: at("/run/hatchway/units/acme/1/display"),
            files: Vec::new(),
            sockets: Vec::new(),
            reach,
            user: User::new("tool", 990, 991).unwrap(),
            mode,
        }
    }

    fn facts() -> HostFacts {
        let (uid, gid) = (1000, 1000);
        HostFacts { uid, gid, overlay: true, term: None, own: Vec::new(), landlock: 7 }
    }

    #[test]
    fn only_one_folder_of_the_host_is_writable_and_no_network_is_there() {
        for mode in [Mode::User, Mode::Root { groups: vec![20] }] {
            let wish = spec(mode, Reach::Sockets);
            let plan = companion_plan(&wish, host_view(Reach::Sockets).unwrap(), &facts()).unwrap();
            let writable: Vec<_> = plan
                .ops
                .iter()
                .filter_map(|op| match op {
                    Op::Bind { source, read_only: false, .. } => Some(source),
                    _ => None,
                })
                .collect();
            assert_eq!(writable, [&wish.folder.0]);
            assert!(matches!(plan.ops[0], Op::Unshare(Namespaces { net: true, mount: true, .. })));
            let process = &plan.process;
            assert!(process.no_new_privs && process.capabilities.is_empty() && !process.seccomp.is_empty());
            assert!(process.groups.as_ref().is_none_or(Vec::is_empty));
            assert!(process.fence.as_ref().is_some_and(|fence| !fence.connect));
        }
    }

    #[test]
    fn a_server_without_a_file_is_reached_without_a_fence() {
        let plan = |reach| companion_plan(&spec(Mode::User, reach), Vec::new(), &facts()).unwrap();
        assert!(plan(Reach::Network).process.fence.is_some_and(|fence| fence.connect));
        let plan = plan(Reach::Abstract);
        assert!(plan.process.fence.is_none());
        assert!(matches!(plan.ops[0], Op::Unshare(Namespaces { net: false, .. })));
    }

    #[test]
    fn a_program_of_another_place_is_shown_by_itself() {
        let mut wish = spec(Mode::User, Reach::Sockets);
        let count = |wish: &CompanionSpec| companion_plan(wish, Vec::new(), &facts()).unwrap().ops.len();
        let before = count(&wish);
        wish.program = HostPath::new("/opt/xorg/bin/Xvfb").unwrap();
        assert_eq!(count(&wish), before + 1);
    }
}
