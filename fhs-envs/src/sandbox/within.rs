//! The plan for a unit in an isolation that somebody else makes: the engine of containers, or a guest.
//!
//! The same [`Spec`] as for the fhs rung is taken apart: what the maker of the isolation has to give ([`Outside`]), and what
//! the shim, PID 1 in it, does itself ([`Bootstrap`]): accounts, folders, privileges, the filter of system calls. So a tool
//! finds the same on both rungs, and its filter is the same by construction.

use super::plan::{self, SCRATCH, invalid};
use super::spec::{Network, Spec};
use super::{Error, HostFacts, Mode};
use hatchway_wire::bootstrap::{Lease, Resource, ResourceLimit};
use hatchway_wire::{Bootstrap, Channel, Door, HostPath, InsidePath, Namespaces, Op, Transport, VERSION};

/// Both halves of the plan.
#[derive(Debug, Clone)]
pub struct Within {
    /// For the shim.
    pub bootstrap: Bootstrap,
    /// For whoever makes the isolation.
    pub outside: Outside,
}

/// What whoever makes the isolation gives. Everything that is not here it takes away: capabilities, devices, networks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outside {
    /// Host name inside.
    pub hostname: String,
    /// The host's network instead of one of its own, which has a loopback interface only.
    pub host_network: bool,
    /// Files, folders and sockets of the host, outer ones first.
    pub bound: Vec<Bound>,
    /// Device nodes: on the host, inside.
    pub devices: Vec<(HostPath, InsidePath)>,
    /// File systems in memory, from which programs can be started: where, mode, bytes. They are root's.
    pub memory: Vec<(InsidePath, u32, u64)>,
    /// Bytes in `/dev/shm`.
    pub shm_size: u64,
    /// The engine has to give it users of its own, and refuses otherwise; without, it must not.
    pub remapped: bool,
    /// What of `/proc` is hidden.
    pub masked: Vec<&'static str>,
    /// What of `/proc` is read-only.
    pub read_only: Vec<&'static str>,
    /// Capabilities that the shim begins with; it keeps those of the recipe for the tool.
    pub capabilities: Vec<String>,
    /// Limits of each process that only the maker may raise.
    pub limits: Vec<ResourceLimit>,
    /// For the unit as a whole.
    pub ceiling: Ceiling,
}

impl Outside {
    /// What is asked for, a line each.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("host name `{}`", self.hostname)];
        lines.push(if self.host_network { "the host's network" } else { "a network of its own" }.to_owned());
        lines.extend(self.memory.iter().map(|(at, _, size)| format!("{size} bytes of memory at `{at}`")));
        lines.push(format!("{} bytes of memory at `/dev/shm`", self.shm_size));
        lines.extend(self.bound.iter().map(|bound| {
            let how = if bound.read_only { " (read-only)" } else { "" };
            format!("`{}` at `{}`{how}", bound.host, bound.at)
        }));
        lines.extend(self.devices.iter().map(|(host, at)| format!("the device `{host}` at `{at}`")));
        if self.remapped {
            lines.push("users of its own".to_owned());
        }
        for (how, paths) in [("no", &self.masked), ("read-only", &self.read_only)] {
            if !paths.is_empty() {
                lines.push(format!("{how} `{}`", paths.join("` `")));
            }
        }
        lines.push(format!("for the shim {}", self.capabilities.join(" ")));
        let limits = self.limits.iter().filter_map(|limit| Some((limit.resource, limit.soft?)));
        lines.extend(limits.map(|(resource, soft)| format!("at most {soft} of {resource}")));
        let ceiling = [
            (self.ceiling.memory, "bytes of memory in all"),
            (self.ceiling.tasks, "processes and threads in all"),
            (self.ceiling.cpu_us, "microseconds of processor time in each tenth of a second"),
        ];
        lines.extend(ceiling.iter().filter_map(|(most, what)| Some(format!("at most {} {what}", (*most)?))));
        lines
    }
}

/// Something of the host that is shown inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// On the host.
    pub host: HostPath,
    /// Inside.
    pub at: InsidePath,
    /// Refuse writes.
    pub read_only: bool,
}

/// What a unit as a whole may use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ceiling {
    /// Bytes of memory, without swap.
    pub memory: Option<u64>,
    /// Processes and threads, the shim's not counted.
    pub tasks: Option<u64>,
    /// Microseconds of processor time in each tenth of a second.
    pub cpu_us: Option<u64>,
}

/// What the shim needs to become the tool's user with the tool's capabilities, to make folders for it, and to end it.
const SHIM_CAPABILITIES: [&str; 7] =
    ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID"];
/// What systemd needs to be the init of a machine, over the users, mounts and networks of the container's own namespaces. Devices,
/// modules, clocks and the host's log are not among it, nor CAP_SYS_PTRACE: the shim's processes stay closed to it, whose descriptors are
/// the caller's.
const SYSTEMD_CAPABILITIES: [&str; 18] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_IPC_OWNER",
    "CAP_KILL",
    "CAP_NET_ADMIN",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_ADMIN",
    "CAP_SYS_CHROOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
];
/// To take an interface up or down, or to make one.
const NETWORK_CAPABILITY: &str = "CAP_NET_ADMIN";

/// Why something is refused here.
pub(super) const ONLY_FHS: &str = "only the fhs rung gives it";

/// Takes a spec apart. `lease` is the way to whoever starts the unit.
///
/// # Errors
/// What is not acceptable on any rung, and what only the fhs rung can give.
pub fn plan_within(spec: &Spec, host: &HostFacts, lease: Lease) -> Result<Within, Error> {
    plan::check_values(spec, host)?;
    only_fhs(spec)?;
    if !spec.remapped {
        plan::services::refuse(spec)?;
    }
    let spec = &Spec { mode: groups(spec), ..spec.clone() };
    let mut ops = vec![Op::Unshare(Namespaces::default())];
    network(spec, &mut ops);
    ops.push(Op::GivenRoot);
    plan::accounts(spec, &mut ops)?;
    plan::machine_id(spec, &mut ops)?;
    folders(spec, &mut ops)?;
    plan::services::units(spec, &mut ops)?;
    let own = plan::owner(spec);
    ops.extend(spec.secrets.iter().map(|secret| Op::Secret {
        at: secret.at.clone(),
        owner: own,
        content: secret.content.clone(),
    }));
    plan::doors(spec, &mut ops);
    let bootstrap = Bootstrap {
        version: VERSION,
        unit: spec.unit.clone(),
        incarnation: spec.incarnation.clone(),
        ops,
        process: plan::process(spec, host),
        stdio: spec.stdio,
        exit_file: None,
        exit_is_scratch: false,
        keep_fds: Vec::new(),
        vital: spec.vital.clone(),
        services: plan::services::kept(spec),
        health: spec.health.clone(),
        ready: spec.ready.clone(),
        notify_folder: None,
        missing: None,
        lease: Some(lease),
        channels_fd: None,
        control: None,
        grace_ms: spec.grace_ms,
        stop_signal: spec.stop_signal,
        companions: Vec::new(),
        notes: spec.notes.clone(),
    };
    Ok(Within { bootstrap, outside: outside(spec)? })
}

/// What this rung cannot give is refused, not left out.
fn only_fhs(spec: &Spec) -> Result<(), Error> {
    let why = ONLY_FHS;
    if let Network::Allow(to) = &spec.network
        && let Some(to) = to.iter().find(|to| to.transport == Transport::Udp)
    {
        return Err(invalid("network", format!("allow {to}"), why));
    }
    if let Some(slot) = spec.slots.first() {
        return Err(invalid("device", slot.device.to_string(), why));
    }
    if let Some(file) = spec.driver.files.first() {
        return Err(invalid("the host's graphics driver", file.host.as_str(), why));
    }
    Ok(())
}

/// There is no user namespace of ours: the tool's ids are the host's.
fn groups(spec: &Spec) -> Mode {
    let own = match &spec.mode {
        Mode::Root { groups } => groups.clone(),
        Mode::User => Vec::new(),
    };
    Mode::Root { groups: own.into_iter().chain(plan::services::groups(spec)).collect() }
}

fn network(spec: &Spec, ops: &mut Vec<Op>) {
    if spec.network == Network::None {
        ops.push(Op::NoLoopback);
    }
    if let Some(interface) = &spec.interface {
        ops.push(Op::Interface { name: interface.name.clone(), mac: interface.mac });
    }
    if let Network::Allow(to) = &spec.network {
        ops.push(Op::Relay { to: to.clone() });
    }
}

/// Addresses of servers become the loopback interface's own.
fn has_doors(spec: &Spec) -> bool {
    let port = |channel: &Channel| matches!(channel.door, Door::Port { .. });
    matches!(spec.network, Network::Allow(_)) || spec.channels.iter().any(port)
}

/// What is the tool's own from the start.
fn folders(spec: &Spec, ops: &mut Vec<Op>) -> Result<(), Error> {
    let own = plan::owner(spec);
    // What is bound is somebody's of the host, with a mode of its own.
    let bound = bound(spec);
    let mut folder = |at: &str, mode: u32| -> Result<(), Error> {
        let at = InsidePath::new(at)?;
        if !bound.iter().any(|bound| bound.at == at) {
            ops.push(Op::Directory { at, mode, owner: own });
        }
        Ok(())
    };
    if spec.services.is_empty() {
        folder("/run", 0o755)?;
    }
    SCRATCH.iter().try_for_each(|path| folder(path, 0o755))?;
    folder(spec.identity.home.as_str(), 0o700)?;
    folder("/run/lock", 0o1777)?;
    folder(&format!("/run/user/{}", own.uid), 0o700)
}

fn outside(spec: &Spec) -> Result<Outside, Error> {
    let at = |path: &str| InsidePath::new(path);
    let memory = vec![
        (at("/tmp")?, 0o1777, spec.tmp_size),
        (at("/var/tmp")?, 0o1777, spec.tmp_size),
        // The shim makes it the tool's: Podman knows no owners of what it mounts.
        (at("/run")?, 0o755, spec.tmp_size),
    ];
    let mut capabilities: Vec<String> = SHIM_CAPABILITIES.map(str::to_owned).into();
    if spec.network == Network::None || spec.interface.is_some() || has_doors(spec) {
        capabilities.push(NETWORK_CAPABILITY.to_owned());
    }
    if !spec.services.is_empty() {
        capabilities.extend(SYSTEMD_CAPABILITIES.map(str::to_owned));
    }
    capabilities.extend(spec.capabilities.iter().cloned());
    capabilities.sort();
    capabilities.dedup();
    let raised = [Resource::RealtimePriority, Resource::LockedMemory];
    Ok(Outside {
        hostname: plan::hostname(spec),
        host_network: spec.network == Network::Host,
        bound: bound(spec),
        devices: spec.devices.iter().map(|device| (device.host.clone(), device.at.clone())).collect(),
        memory,
        shm_size: spec.shm_size,
        // The kernel mounts no second `/proc` in a user namespace whose first one is not all to be seen
        // (`mount_too_revealing`, fs/namespace.c); what is in it is the host's root's.
        masked: if spec.services.is_empty() { plan::PROC_MASKED.into() } else { Vec::new() },
        read_only: if spec.services.is_empty() { plan::PROC_READ_ONLY.into() } else { Vec::new() },
        remapped: spec.remapped,
        capabilities,
        limits: spec.limits.iter().filter(|limit| raised.contains(&limit.resource)).cloned().collect(),
        ceiling: Ceiling::default(),
    })
}

fn bound(spec: &Spec) -> Vec<Bound> {
    let folders = (spec.state.iter().map(|state| (&state.at, &state.host, false)))
        .chain(spec.shares.iter().map(|share| (&share.at, &share.host, share.read_only)));
    let files = (spec.files.iter().map(|file| (&file.at, &file.host, true)))
        .chain(spec.sockets.iter().map(|socket| (&socket.at, &socket.host, false)));
    let mut all: Vec<Bound> = folders
        .chain(files)
        .map(|(at, host, read_only)| Bound { host: host.clone(), at: at.clone(), read_only })
        .collect();
    // Outer folders first, so that none hides another one's mount point.
    all.sort_by(|one, other| one.at.cmp(&other.at));
    all
}

#[cfg(test)]
mod tests {
    use super::super::spec::{Interface, Secret, Share, StateDir, User};
    use super::*;

    fn inside(path: &str) -> InsidePath {
        InsidePath::new(path).unwrap()
    }

    fn host(path: &str) -> HostPath {
        HostPath::new(path).unwrap()
    }

    /// An ordinary user's, as who may speak to an engine is one, too.
    fn spec() -> Spec {
        let user = User::new("tool", 1000, 1000).unwrap();
        Spec::new("acme", host("/store/tree"), "/usr/bin/acme", user, Mode::User)
    }

    fn planned(spec: &Spec) -> Result<Within, Error> {
        let facts = HostFacts { uid: 1000, gid: 1000, ..HostFacts::detect(Vec::new()) };
        plan_within(spec, &facts, Lease { at: inside("/.hatchway/lease"), front: true })
    }

    #[test]
    fn what_the_maker_gives_the_shim_does_not_do() {
        let within = planned(&spec()).unwrap();
        let made = |op: &Op| {
            matches!(
                op,
                Op::Bind { .. }
                    | Op::Tmpfs { .. }
                    | Op::Proc
                    | Op::Dev
                    | Op::DevPts { .. }
                    | Op::HostName { .. }
                    | Op::LeaveHost
            )
        };
        assert!(!within.bootstrap.ops.iter().any(made), "{:?}", within.bootstrap.ops);
        assert_eq!(within.bootstrap.ops[0], Op::Unshare(Namespaces::default()));
        // The ids are the host's, so no group of whoever started it is left.
        assert_eq!(within.bootstrap.process.groups, Some(Vec::new()));
        assert!(within.bootstrap.process.no_new_privs && !within.bootstrap.process.seccomp.is_empty());
        let memory: Vec<&str> = within.outside.memory.iter().map(|(at, ..)| at.as_str()).collect();
        assert_eq!(memory, ["/tmp", "/var/tmp", "/run"]);
        assert_eq!(within.outside.hostname, "acme");
    }

    #[test]
    fn the_process_is_that_of_the_fhs_rung() {
        let facts = HostFacts { uid: 0, gid: 0, ..HostFacts::detect(Vec::new()) };
        let mut spec = Spec { mode: Mode::Root { groups: vec![20] }, ..spec() };
        spec.env.insert("ACME".into(), "1".into());
        let lease = Lease { at: inside("/.hatchway/lease"), front: true };
        let within = plan_within(&spec, &facts, lease).unwrap();
        assert_eq!(within.bootstrap.process, plan::plan(&spec, &facts).unwrap().process);
    }

    #[test]
    fn capabilities_are_the_shims_and_the_recipes() {
        let mut spec = spec();
        spec.capabilities = vec!["CAP_SYS_NICE".into(), "CAP_KILL".into()];
        assert!(matches!(planned(&spec), Err(Error::Invalid { what: "capability", .. })));
        spec.capabilities.pop();
        let within = planned(&spec).unwrap();
        assert_eq!(within.bootstrap.process.capabilities, ["CAP_SYS_NICE"]);
        assert!(within.outside.capabilities.iter().any(|name| name == "CAP_SYS_NICE"));
        assert!(!within.outside.capabilities.iter().any(|name| name == NETWORK_CAPABILITY));
        spec.network = Network::None;
        let within = planned(&spec).unwrap();
        assert!(within.outside.capabilities.iter().any(|name| name == NETWORK_CAPABILITY));
        assert!(within.bootstrap.ops.contains(&Op::NoLoopback));
    }

    #[test]
    fn outer_folders_come_first_and_what_is_bound_keeps_its_mode() {
        let mut spec = spec();
        spec.state.push(StateDir { host: host("/state/a"), at: inside("/var/lib/acme/deep") });
        spec.state.push(StateDir { host: host("/state/b"), at: inside("/var/lib") });
        spec.shares.push(Share { host: host("/data"), at: inside("/data"), read_only: true });
        let within = planned(&spec).unwrap();
        let bound: Vec<(&str, bool)> =
            within.outside.bound.iter().map(|bound| (bound.at.as_str(), bound.read_only)).collect();
        assert_eq!(bound, [("/data", true), ("/var/lib", false), ("/var/lib/acme/deep", false)]);
        let makes = |at: &str| {
            within
                .bootstrap
                .ops
                .iter()
                .any(|op| matches!(op, Op::Directory { at: made, .. } if made.as_str() == at))
        };
        assert!(makes("/var/log") && !makes("/var/lib"));
    }

    #[test]
    fn what_is_the_hosts_own_is_refused_here_too() {
        let mut spec = spec();
        spec.shares.push(Share { host: host("/run/docker.sock"), at: inside("/data"), read_only: true });
        assert!(matches!(planned(&spec), Err(Error::Refused { .. })));
        spec.shares.clear();
        spec.network = Network::Allow(vec!["udp:127.0.0.1:1".parse().unwrap()]);
        let error = planned(&spec).unwrap_err();
        assert!(error.to_string().contains("only the fhs rung") && error.hint().is_some(), "{error}");
    }

    #[test]
    fn services_take_users_of_the_containers_own() {
        let mut spec = spec();
        spec.services.push("acmed.service".into());
        assert!(planned(&spec).unwrap_err().to_string().contains("acmed.service"));
        spec.remapped = true;
        let within = planned(&spec).unwrap();
        assert!(within.bootstrap.services.is_some() && within.outside.remapped);
        assert!(within.outside.masked.is_empty() && within.outside.read_only.is_empty());
        assert!(within.outside.capabilities.iter().any(|name| name == "CAP_SYS_ADMIN"));
        assert!(!within.outside.capabilities.iter().any(|name| name == "CAP_SYS_PTRACE"));
        // The tool gets none of it.
        assert!(within.bootstrap.process.capabilities.is_empty());
        assert!(!within.bootstrap.process.seccomp.is_empty() && within.bootstrap.process.no_new_privs);
    }

    #[test]
    fn an_identity_and_secrets_are_the_shims_work() {
        let mut spec = spec();
        spec.interface = Some(Interface { name: "eth0".into(), mac: [2, 0, 0, 0, 0, 1] });
        spec.secrets.push(Secret { at: inside("/run/cookie"), content: b"secret".to_vec() });
        let within = planned(&spec).unwrap();
        assert!(within.bootstrap.ops.iter().any(|op| matches!(op, Op::Interface { .. })));
        let secret = within.bootstrap.ops.iter().position(|op| matches!(op, Op::Secret { .. }));
        let root = within.bootstrap.ops.iter().position(|op| *op == Op::GivenRoot);
        assert!(root < secret, "{:?}", within.bootstrap.ops);
    }
}
