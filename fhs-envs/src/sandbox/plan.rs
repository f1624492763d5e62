//! From a spec to a list of operations. Pure: the same spec and facts give the same plan, and nothing is touched.
use super::spec::{Mode, Network, Spec, StdioMode};
use super::{Error, HostFacts, seccomp};
use hatchway_wire::bootstrap::{Resource, ResourceLimit};
use hatchway_wire::{Bootstrap, HostPath, InsidePath, Namespaces, Op, Owner, Process, SourceKind, VERSION};
use std::collections::{BTreeMap, BTreeSet};

/// Where programs and libraries are: never written, not even for a throw-away copy.
pub(super) const READ_ONLY: [&str; 8] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/libexec"];
/// Folders below which tools keep things they do not need to keep: the tool's own from the start.
pub(super) const SCRATCH: [&str; 4] = ["/var/log", "/var/cache", "/var/lib", "/var/opt"];
/// What of `/proc` says too much about the host.
pub(super) const PROC_MASKED: [&str; 9] = [
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/kmsg",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
];
/// What of `/proc` changes the host when written.
pub(super) const PROC_READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
/// What of `/sys` programs ask about processors and memory.
pub(super) const SYS_MINIMAL: [&str; 2] = ["/sys/devices/system/cpu", "/sys/devices/system/node"];
/// Host places that give away the host to whoever can talk to them.
///
/// `*` stands for one name.
const REFUSED: [(&str, &str); 24] = [
    ("/run/hatchway", "it holds Hatchway's own sockets"),
    ("/var/run/hatchway", "it holds Hatchway's own sockets"),
    ("/var/lib/hatchway/store", "it is Hatchway's store"),
    ("/var/lib/hatchway/generations", "it is Hatchway's record of what to run"),
    ("/run/docker.sock", "whoever can talk to docker is root"),
    ("/var/run/docker.sock", "whoever can talk to docker is root"),
    ("/run/docker", "whoever can talk to docker is root"),
    ("/run/containerd", "whoever can talk to containerd is root"),
    ("/run/podman", "whoever can talk to podman is root"),
    ("/run/crio", "whoever can talk to CRI-O is root"),
    ("/run/lxd", "whoever can talk to LXD is root"),
    ("/run/incus", "whoever can talk to Incus is root"),
    ("/run/libvirt", "whoever can talk to libvirt is root"),
    ("/run/snapd.socket", "whoever can talk to snapd is root"),
    ("/run/systemd", "whoever can talk to systemd is root"),
    ("/run/user/*/systemd", "it starts programs as the user"),
    ("/run/user/*/bus", "the session bus starts programs as the user"),
    ("/run/user/*/dbus-1", "the session bus starts programs as the user"),
    ("/run/user/*/podman", "it starts programs as the user"),
    ("/run/user/*/docker.sock", "it starts programs as the user"),
    ("/run/dbus", "the system bus reaches systemd"),
    ("/proc", "the sandbox has its own"),
    ("/sys", "the sandbox has its own"),
    ("/dev", "name the devices one by one"),
];

/// Turns a spec into what the shim does.
pub fn plan(spec: &Spec, host: &HostFacts) -> Result<Bootstrap, Error> {
    services::refuse(spec)?;
    plan_unit(spec, host)
}

/// The same for a unit that may have services.
pub(super) fn plan_unit(spec: &Spec, host: &HostFacts) -> Result<Bootstrap, Error> {
    check(spec, host)?;
    let mut ops = Vec::with_capacity(64);
    namespaces(spec, host, &mut ops);
    root(spec, host, &mut ops);
    static_files(spec, &mut ops)?;
    read_only(spec, &mut ops)?;
    memory(spec, &mut ops)?;
    devices(spec, &mut ops)?;
    kernel_views(spec, &mut ops)?;
    binds(spec, &mut ops)?;
    services::units(spec, &mut ops)?;
    ops.push(Op::LeaveHost);
    // Only now is `/` of the unit's mount namespace the sandbox's: before, the host's is stacked over it.
    if !spec.slots.is_empty() {
        ops.push(Op::Slots { slots: spec.slots.clone() });
    }
    Ok(Bootstrap {
        version: VERSION,
        unit: spec.unit.clone(),
        incarnation: spec.incarnation.clone(),
        ops,
        process: process(spec, host),
        stdio: spec.stdio,
        exit_file: spec.exit_file.clone(),
        exit_is_scratch: false,
        keep_fds: Vec::new(),
        vital: spec.vital.clone(),
        services: services::kept(spec),
        health: spec.health.clone(),
        ready: spec.ready.clone(),
        notify_folder: None,
        missing: None,
        lease: None,
        channels_fd: None,
        control: None,
        grace_ms: spec.grace_ms,
        stop_signal: spec.stop_signal,
        companions: spec.companions.clone(),
        notes: spec.notes.clone(),
    })
}

pub(super) use machine::doors;

pub(super) fn invalid(what: &'static str, value: impl Into<String>, why: &'static str) -> Error {
    Error::Invalid { what, value: value.into(), why }
}

fn check(spec: &Spec, host: &HostFacts) -> Result<(), Error> {
    if spec.mode != Mode::User {
        if spec.identity.uid == 0 {
            return Err(invalid("user id", "0", "a unit never runs as root"));
        }
        if host.uid != 0 {
            return Err(invalid("mode", "root", "this process does not run as root"));
        }
    } else if !spec.capabilities.is_empty() {
        let why = "an ordinary user has no capabilities to give";
        return Err(invalid("capability", spec.capabilities.join(" "), why));
    }
    check_values(spec, host)
}

/// What must be right whoever makes the sandbox.
pub(super) fn check_values(spec: &Spec, host: &HostFacts) -> Result<(), Error> {
    let plain = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    if !plain(&spec.identity.name) {
        return Err(invalid(
            "user name",
            &spec.identity.name,
            "it may have letters, digits, `-`, `_` and `.`",
        ));
    }
    if let Some(name) = &spec.hostname
        && (!plain(name) || name.len() > 64)
    {
        return Err(invalid("host name", name, "it may have 64 letters, digits, `-`, `_` and `.`"));
    }
    if spec.machine_id.len() != 32 || !spec.machine_id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(invalid("machine id", &spec.machine_id, "it must be 32 hexadecimal digits"));
    }
    if spec.program.is_empty() {
        return Err(invalid("program", "", "it is empty"));
    }
    check_strings(spec)?;
    check_paths(spec, host)
}

/// NUL ends a string for the kernel, `=` ends a variable's name.
fn check_strings(spec: &Spec) -> Result<(), Error> {
    for text in spec.args.iter().chain([&spec.program]).chain(spec.env.values()) {
        if text.contains('\0') {
            return Err(invalid("argument", text.escape_default().to_string(), "it contains a NUL byte"));
        }
    }
    for name in spec.env.keys() {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(invalid("variable", name.escape_default().to_string(), "not the name of a variable"));
        }
    }
    Ok(())
}

fn check_paths(spec: &Spec, host: &HostFacts) -> Result<(), Error> {
    let shown = (spec.state.iter().map(|state| (&state.host, &state.at)))
        .chain(spec.files.iter().map(|file| (&file.host, &file.at)))
        .chain(spec.sockets.iter().map(|socket| (&socket.host, &socket.at)))
        .chain(spec.shares.iter().map(|share| (&share.host, &share.at)));
    let served = |source: &HostPath| spec.sockets.iter().any(|s| s.served && s.host == *source);
    for (source, at) in shown {
        if !served(source) {
            refuse(source, host)?;
        }
        for own in ["/proc", "/dev", "/sys"] {
            if at.is_within(&InsidePath::new(own)?) {
                return Err(invalid("path", at.as_str(), "the sandbox makes this folder itself"));
            }
        }
        if at.as_str() == "/" {
            return Err(invalid("path", "/", "the tree is there"));
        }
    }
    machine::check(spec)?;
    driver::check(spec)?;
    let (dev, inside_dev) = (HostPath::new("/dev")?, InsidePath::new("/dev")?);
    for device in &spec.devices {
        if !device.host.is_within(&dev) || device.host == dev {
            return Err(invalid("device", device.host.as_str(), "it is not below `/dev`"));
        }
        if !device.at.is_within(&inside_dev) || device.at == inside_dev {
            return Err(invalid("device path", device.at.as_str(), "it is not below `/dev`"));
        }
    }
    Ok(())
}

/// A path is refused if it lies in a refused place, and as well if such a place lies in it.
fn refuse(path: &HostPath, host: &HostFacts) -> Result<(), Error> {
    let touches = |place: &HostPath| path.is_within(place) || place.is_within(path);
    for (place, why) in REFUSED {
        // As far as the shorter one goes: one lies in the other then.
        let mut names = path.relative().split('/').zip(place.trim_start_matches('/').split('/'));
        if path.as_str() == "/" || names.all(|(name, pattern)| pattern == "*" || name == pattern) {
            return Err(Error::Refused { path: path.clone(), why: format!("`{place}`: {why}") });
        }
    }
    if let Some(place) = host.own.iter().find(|place| touches(place)) {
        return Err(Error::Refused { path: path.clone(), why: format!("`{place}` is Hatchway's own") });
    }
    Ok(())
}

pub(super) fn owner(spec: &Spec) -> Owner {
    Owner { uid: spec.identity.uid, gid: spec.identity.gid }
}

/// What belongs to root in mode root; in a user namespace only one user exists.
fn system_owner(spec: &Spec) -> Owner {
    match spec.mode {
        Mode::Root { .. } => Owner { uid: 0, gid: 0 },
        Mode::User => owner(spec),
    }
}

pub(super) fn hostname(spec: &Spec) -> String {
    spec.hostname.clone().unwrap_or_else(|| {
        let name: String =
            spec.unit.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(63).collect();
        if name.is_empty() { "hatchway".to_owned() } else { name }
    })
}

fn namespaces(spec: &Spec, host: &HostFacts, ops: &mut Vec<Op>) {
    let user = spec.mode == Mode::User;
    let net = spec.network != Network::Host;
    ops.push(Op::Unshare(Namespaces {
        user,
        mount: true,
        pid: true,
        ipc: true,
        uts: true,
        net,
        // The view begins at the group the process is in, so it is made after the unit's own is entered.
        cgroup: spec.control_group.is_none(),
    }));
    if user {
        ops.push(own_ids(&spec.identity, host));
    }
    if let Some(path) = &spec.control_group {
        ops.push(Op::ControlGroup { path: path.clone() });
    }
    ops.push(Op::HostName { name: hostname(spec) });
    machine::network(spec, ops);
    ops.push(Op::MakeSlave);
}

/// Every folder in which something is made, mounted or written: what a mirrored root has to have as real folders.
fn open_folders(spec: &Spec) -> Vec<InsidePath> {
    let fixed = ["/", "/etc", "/var", "/home", "/opt", "/srv"].iter().chain(&SCRATCH).copied();
    let mut open: BTreeSet<InsidePath> = fixed.filter_map(|path| InsidePath::new(path).ok()).collect();
    let targets = (spec.state.iter().map(|state| &state.at))
        .chain(spec.files.iter().map(|file| &file.at))
        .chain(spec.shares.iter().map(|share| &share.at));
    open.extend(targets.filter_map(InsidePath::parent));
    open.extend(driver::folders(spec));
    open.extend(spec.identity.home.parent());
    open.into_iter().collect()
}

fn root(spec: &Spec, host: &HostFacts, ops: &mut Vec<Op>) {
    let (tree, size, open) = (spec.tree.clone(), spec.scratch_size, open_folders(spec));
    ops.push(if host.overlay {
        Op::OverlayRoot { tree, size, user_xattr: spec.mode == Mode::User, open }
    } else {
        Op::MirrorRoot { tree, size, open }
    });
}

fn static_files(spec: &Spec, ops: &mut Vec<Op>) -> Result<(), Error> {
    accounts(spec, ops)?;
    let host_name = hostname(spec);
    let hosts =
        format!("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.1.1 {host_name}\n");
    file(ops, "/etc/hosts", hosts)?;
    file(ops, "/etc/hostname", format!("{host_name}\n"))?;
    machine_id(spec, ops)?;
    if spec.network != Network::Host {
        file(ops, "/etc/resolv.conf", "# no network\n".to_owned())?;
    }
    Ok(())
}

fn file(ops: &mut Vec<Op>, at: &str, content: String) -> Result<(), Error> {
    ops.push(Op::File { at: InsidePath::new(at)?, mode: 0o644, content });
    Ok(())
}

/// Who there is inside.
pub(super) fn accounts(spec: &Spec, ops: &mut Vec<Op>) -> Result<(), Error> {
    let user = &spec.identity;
    let (name, uid, gid, home) = (&user.name, user.uid, user.gid, &user.home);
    let mut passwd = String::new();
    let mut group = String::new();
    if uid != 0 {
        passwd.push_str("root:x:0:0:root:/root:/usr/sbin/nologin\n");
    }
    if gid != 0 {
        group.push_str("root:x:0:\n");
    }
    passwd.push_str(&format!("{name}:x:{uid}:{gid}:{name}:{home}:/bin/sh\n"));
    group.push_str(&format!("{name}:x:{gid}:\n"));
    if gid != 5 {
        group.push_str("tty:x:5:\n");
    }
    passwd.push_str(&free_lines(&passwd, &spec.tree_users, 7));
    group.push_str(&free_lines(&group, &spec.tree_groups, 4));
    if uid != 65534 && !passwd.contains("\nnobody:") {
        passwd.push_str("nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n");
    }
    if gid != 65534 && !group.contains("\nnogroup:") {
        group.push_str("nogroup:x:65534:\n");
    }
    file(ops, "/etc/passwd", passwd)?;
    file(ops, "/etc/group", group)
}

pub(super) fn machine_id(spec: &Spec, ops: &mut Vec<Op>) -> Result<(), Error> {
    file(ops, "/etc/machine-id", format!("{}\n", spec.machine_id.to_ascii_lowercase()))
}

/// Lines of a tree's passwd or group file whose name and number nobody has in `own`. The file is a package's, perhaps a
/// vendor's: nothing in it becomes a second root, or the tool's user under another name.
fn free_lines(own: &str, tree: &str, fields: usize) -> String {
    let key = |line: &str| {
        let mut parts = line.split(':');
        Some((parts.next()?.to_owned(), parts.nth(1)?.to_owned()))
    };
    let mut taken: Vec<(String, String)> = own.lines().filter_map(key).collect();
    let mut lines = String::new();
    for line in tree.lines().filter(|line| line.split(':').count() == fields) {
        let Some((name, number)) = key(line) else { continue };
        let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
        let free = !taken.iter().any(|(other, id)| *other == name || *id == number);
        if plain && free && number.parse::<u32>().is_ok_and(|id| id != 0) {
            lines.push_str(line);
            lines.push('\n');
            taken.push((name, number));
        }
    }
    lines
}

/// Programs and libraries read-only, after the mount points below them are made.
fn read_only(spec: &Spec, ops: &mut Vec<Op>) -> Result<(), Error> {
    let places = READ_ONLY.iter().map(InsidePath::new).collect::<Result<Vec<_>, _>>()?;
    let targets = (spec.state.iter().map(|state| (&state.at, SourceKind::Directory)))
        .chain(spec.shares.iter().map(|share| (&share.at, SourceKind::Directory)))
        .chain(spec.files.iter().map(|file| (&file.at, SourceKind::File)));
    for (at, kind) in targets {
        if places.iter().any(|place| at.is_within(place)) {
            ops.push(Op::MountPoint { at: at.clone(), kind });
        }
    }
    driver::names(spec, ops);
    ops.extend(places.into_iter().map(|at| Op::ReadOnly { at }));
    Ok(())
}

/// Where a tool may write what nobody keeps.
fn memory(spec: &Spec, ops: &mut Vec<Op>) -> Result<(), Error> {
    let (own, system) = (owner(spec), system_owner(spec));
    let at = |path: &str| InsidePath::new(path);
    for path in SCRATCH {
        ops.push(Op::Directory { at: at(path)?, mode: 0o755, owner: own });
    }
    ops.push(Op::Directory { at: spec.identity.home.clone(), mode: 0o700, owner: own });
    for path in ["/tmp", "/var/tmp"] {
        ops.push(Op::Tmpfs { at: at(path)?, mode: 0o1777, size: spec.tmp_size, owner: system });
    }
    // systemd's sockets and units are there.
    let of_run = if spec.services.is_empty() { own } else { system };
    ops.push(Op::Tmpfs { at: at("/run")?, mode: 0o755, size: spec.tmp_size, owner: of_run });
    ops.push(Op::Directory { at: at("/run/lock")?, mode: 0o1777, owner: own });
    ops.push(Op::Directory { at: at(&format!("/run/user/{}", own.uid))?, mode: 0o700, owner: own });
    Ok(())
}

fn devices(spec: &Spec, ops: &mut Vec<Op>) -> Result<(), Error> {
    ops.push(Op::Dev);
    // 5 is `tty` in every Debian; a user namespace with one group has no such group to give.
    ops.push(Op::DevPts { gid: (spec.mode != Mode::User).then_some(5) });
    let at = InsidePath::new("/dev/shm")?;
    ops.push(Op::Tmpfs { at, mode: 0o1777, size: spec.shm_size, owner: system_owner(spec) });
    for device in &spec.devices {
        ops.push(Op::Bind {
            source: device.host.clone(),
            at: device.at.clone(),
            kind: SourceKind::Device,
            read_only: false,
            optional: false,
        });
    }
    Ok(())
}

/// `/proc`, and as much of `/sys` as is needed.
fn kernel_views(spec: &Spec, ops: &mut Vec<Op>) -> Result<(), Error> {
    ops.push(Op::Proc);
    for path in PROC_MASKED {
        ops.push(Op::Mask { at: InsidePath::new(path)? });
    }
    for path in PROC_READ_ONLY {
        ops.push(Op::ReadOnly { at: InsidePath::new(path)? });
    }
    // A tool with a device reads about it in /sys, everywhere in it; others only count processors.
    let no_device = spec.devices.is_empty() && spec.slots.is_empty();
    let shown: &[&str] = if no_device { &SYS_MINIMAL } else { &["/sys"] };
    for path in shown {
        ops.push(Op::Bind {
            source: HostPath::new(path)?,
            at: InsidePath::new(path)?,
            kind: SourceKind::Directory,
            read_only: true,
            optional: true,
        });
    }
    machine::interfaces_in_sys(spec, system_owner(spec), ops)
}

fn binds(spec: &Spec, ops: &mut Vec<Op>) -> Result<(), Error> {
    let mut bind = |source: &HostPath, at: &InsidePath, kind, read_only| {
        ops.push(Op::Bind { source: source.clone(), at: at.clone(), kind, read_only, optional: false });
    };
    // Outer folders first, so that none hides another one's mount point.
    let mut folders: Vec<_> = (spec.state.iter().map(|state| (&state.at, &state.host, false)))
        .chain(spec.shares.iter().map(|share| (&share.at, &share.host, share.read_only)))
        .collect();
    folders.sort();
    for (at, source, read_only) in folders {
        bind(source, at, SourceKind::Directory, read_only);
    }
    for file in &spec.files {
        bind(&file.host, &file.at, SourceKind::File, true);
    }
    for socket in &spec.sockets {
        bind(&socket.host, &socket.at, SourceKind::Socket, false);
    }
    machine::late(spec, owner(spec), ops)
}

/// The part of a tool's environment that is the same on every machine; `own` is what its recipe says.
#[must_use]
pub fn common_environment(own: &BTreeMap<String, String>) -> BTreeMap<&str, String> {
    let mut env = BTreeMap::from([
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
        ("SHELL", "/bin/sh".to_owned()),
        ("LANG", "C.UTF-8".to_owned()),
    ]);
    // LC_ALL overrides every other choice, so it is only ours to set where the recipe chose nothing.
    if !own.keys().any(|name| name == "LANG" || name.starts_with("LC_")) {
        env.insert("LC_ALL", "C.UTF-8".to_owned());
    }
    env.extend(own.iter().map(|(name, value)| (name.as_str(), value.clone())));
    env
}

fn environment(spec: &Spec, host: &HostFacts) -> Vec<(String, String)> {
    let user = &spec.identity;
    let mut env = BTreeMap::from([
        ("HOME", user.home.as_str().to_owned()),
        ("USER", user.name.clone()),
        ("LOGNAME", user.name.clone()),
        ("XDG_RUNTIME_DIR", format!("/run/user/{}", user.uid)),
    ]);
    if let Some(term) = &host.term
        && spec.stdio != StdioMode::Detached
    {
        env.insert("TERM", term.clone());
    }
    env.extend(common_environment(&spec.env));
    env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// In a user namespace: the caller, under the unit's ids.
pub(super) fn own_ids(user: &super::User, host: &HostFacts) -> Op {
    Op::IdMap { inside_uid: user.uid, outside_uid: host.uid, inside_gid: user.gid, outside_gid: host.gid }
}

pub(super) fn process(spec: &Spec, host: &HostFacts) -> Process {
    let mut limits = spec.limits.clone();
    if !limits.iter().any(|limit| limit.resource == Resource::Core) {
        // The kernel hands dumps to a program of the host, which then parses what a hostile tool wrote.
        limits.push(ResourceLimit { resource: Resource::Core, soft: Some(0), hard: Some(0) });
    }
    Process {
        program: spec.program.clone(),
        args: spec.args.clone(),
        env: environment(spec, host),
        cwd: spec.cwd.as_ref().unwrap_or(&spec.identity.home).as_str().to_owned(),
        uid: spec.identity.uid,
        gid: spec.identity.gid,
        groups: match &spec.mode {
            Mode::Root { groups } => Some(groups.clone()),
            Mode::User => None,
        },
        capabilities: spec.capabilities.clone(),
        no_new_privs: true,
        fence: fence::fence(spec, host),
        seccomp: seccomp::filter(spec.i386),
        limits,
        umask: 0o022,
    }
}

mod driver;
pub(super) mod fence;
mod machine;
pub(super) mod services;
#[cfg(test)]
mod tests;
