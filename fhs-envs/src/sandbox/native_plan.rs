//! The plan of a native service: a program of Hatchway's own, on this machine as it is, as an ordinary user without a capability.
//!
//! It sees the host's files and network and its own processes only. The filter of system calls is the tools'; where the kernel has
//! Landlock it writes nowhere but in its two folders, in `/tmp`, and to devices that its user and groups may open.

use super::plan::{self, fence};
use super::spec::Mode;
use super::{Error, HostFacts, HostPath, InsidePath, User, seccomp};
use hatchway_wire::bootstrap::{Resource, ResourceLimit};
use hatchway_wire::ready::Ready;
use hatchway_wire::{Bootstrap, Fence, Namespaces, Op, Process, StdioMode, VERSION};

/// The one entry of `/` that is everybody's.
const EVERYBODYS: &str = "tmp";
/// Where devices are.
const DEVICES: &str = "dev";

/// One native service.
#[derive(Debug, Clone)]
pub struct NativeSpec {
    /// Name of the unit.
    pub unit: String,
    /// Which run of it.
    pub incarnation: String,
    /// The program on the host.
    pub program: HostPath,
    /// Arguments after the program's name.
    pub args: Vec<String>,
    /// Where it starts: where relative names among its arguments lead.
    pub cwd: HostPath,
    /// Its own folder, which survives; `STATE_DIRECTORY`.
    pub state: HostPath,
    /// Its own folder for sockets; `RUNTIME_DIRECTORY`.
    pub runtime: HostPath,
    /// Where the record of its end goes.
    pub exit_file: HostPath,
    /// Who it is.
    pub user: User,
    /// As a tool's.
    pub mode: Mode,
    /// Milliseconds between asking it to end and killing it.
    pub grace_ms: u64,
    /// What shows that it is ready.
    pub ready: Ready,
}

/// Turns it into what the shim does. Pure; `entries` are the names in `/`.
///
/// # Errors
/// A string with a NUL byte, or a path that cannot be carried.
pub fn native_plan(spec: &NativeSpec, entries: &[String], host: &HostFacts) -> Result<Bootstrap, Error> {
    if let Some(text) = spec.args.iter().find(|text| text.contains('\0')) {
        let value = text.escape_default().to_string();
        return Err(Error::Invalid { what: "argument", value, why: "it contains a NUL byte" });
    }
    let user = spec.mode == Mode::User;
    let own = Namespaces { user, mount: true, pid: true, ipc: true, uts: false, net: false, cgroup: false };
    let mut ops = vec![Op::Unshare(own)];
    if user {
        ops.push(plan::own_ids(&spec.user, host));
    }
    ops.extend([Op::MakeSlave, Op::GivenRoot, Op::Proc]);
    Ok(Bootstrap {
        version: VERSION,
        unit: spec.unit.clone(),
        incarnation: spec.incarnation.clone(),
        ops,
        process: process(spec, entries, host)?,
        stdio: StdioMode::Detached,
        exit_file: Some(spec.exit_file.clone()),
        exit_is_scratch: false,
        companions: Vec::new(),
        lease: None,
        channels_fd: None,
        control: None,
        notes: Vec::new(),
        keep_fds: Vec::new(),
        grace_ms: spec.grace_ms,
        stop_signal: None,
        vital: None,
        services: None,
        health: None,
        ready: Some(spec.ready.clone()),
        notify_folder: Some(InsidePath::new(spec.runtime.as_str())?),
        missing: None,
    })
}

/// The variables are those that a service of systemd's has (systemd.exec(5)).
fn process(spec: &NativeSpec, entries: &[String], host: &HostFacts) -> Result<Process, Error> {
    let env = [
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ("LANG", "C.UTF-8"),
        ("HOME", spec.state.as_str()),
        ("USER", &spec.user.name),
        ("STATE_DIRECTORY", spec.state.as_str()),
        ("RUNTIME_DIRECTORY", spec.runtime.as_str()),
    ];
    Ok(Process {
        program: spec.program.as_str().to_owned(),
        args: spec.args.clone(),
        env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        cwd: spec.cwd.as_str().to_owned(),
        uid: spec.user.uid,
        gid: spec.user.gid,
        groups: match &spec.mode {
            Mode::Root { groups } => Some(groups.clone()),
            Mode::User => None,
        },
        capabilities: Vec::new(),
        no_new_privs: true,
        fence: wall(spec, entries, host)?,
        seccomp: seccomp::filter(false),
        limits: vec![ResourceLimit { resource: Resource::Core, soft: Some(0), hard: Some(0) }],
        umask: 0o022,
    })
}

/// Nothing where the kernel's Landlock is too old, or off: then only its user keeps it from writing.
fn wall(spec: &NativeSpec, entries: &[String], host: &HostFacts) -> Result<Option<Fence>, Error> {
    if host.landlock < fence::VERSION_MIN {
        return Ok(None);
    }
    let read_only = entries.iter().filter(|name| ![EVERYBODYS, DEVICES].contains(&name.as_str()));
    let inside = |path: &HostPath| InsidePath::new(path.as_str());
    Ok(Some(Fence {
        read_only: read_only.map(|name| InsidePath::new(format!("/{name}"))).collect::<Result<_, _>>()?,
        write: vec![inside(&spec.state)?, inside(&spec.runtime)?],
        devices: vec![InsidePath::new("/dev")?],
        connect: true,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(mode: Mode) -> NativeSpec {
        let at = |path: &str| HostPath::new(path).unwrap();
        NativeSpec {
            unit: "daq".to_owned(),
            incarnation: "1-2".to_owned(),
            program: at("/usr/libexec/hatchway/hatchway-daq"),
            args: vec!["--config".to_owned(), "daq.toml".to_owned()],
            cwd: at("/etc/hatchway"),
            state: at("/var/lib/hatchway/state/daq/native"),
            runtime: at("/run/hatchway/services/daq"),
            exit_file: at("/run/hatchway/units/daq/1-2/exit.json"),
            user: User::new("daq", 990, 991).unwrap(),
            mode,
            grace_ms: 5000,
            ready: Ready::Notify,
        }
    }

    fn facts(landlock: u32) -> HostFacts {
        HostFacts { uid: 1000, gid: 1000, overlay: true, term: None, own: Vec::new(), landlock }
    }

    #[test]
    fn it_is_an_ordinary_user_who_writes_in_two_folders() {
        let entries = ["etc", "usr", "var", "run", "tmp", "dev", "home"].map(str::to_owned);
        for mode in [Mode::User, Mode::Root { groups: vec![20] }] {
            let plan = native_plan(&spec(mode.clone()), &entries, &facts(7)).unwrap();
            let process = &plan.process;
            assert!(process.no_new_privs && process.capabilities.is_empty() && !process.seccomp.is_empty());
            assert_eq!(process.groups.is_none(), mode == Mode::User);
            let fence = process.fence.as_ref().unwrap();
            let read_only: Vec<&str> = fence.read_only.iter().map(InsidePath::as_str).collect();
            assert_eq!(read_only, ["/etc", "/usr", "/var", "/run", "/home"]);
            assert_eq!(fence.write.len(), 2);
            // The host's root: nothing is mounted over it but its own processes.
            assert!(plan.ops.ends_with(&[Op::MakeSlave, Op::GivenRoot, Op::Proc]));
            let Op::Unshare(own) = plan.ops[0] else { panic!("no namespaces") };
            assert!(own.pid && own.mount && !own.net && own.user == (mode == Mode::User));
        }
        let plan = native_plan(&spec(Mode::User), &entries, &facts(0)).unwrap();
        assert_eq!(plan.process.fence, None);
        let mut wrong = spec(Mode::User);
        wrong.args.push("a\0b".to_owned());
        assert!(native_plan(&wrong, &entries, &facts(7)).is_err());
    }
}
