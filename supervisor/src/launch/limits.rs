//! What a tool may use at most, and what it may have beyond an ordinary program: real-time priority, locked memory,
//! capabilities. Nothing of it is promised where this host does not keep it.

use std::fs;
use std::path::{Path, PathBuf};

use hatchway_envs::sandbox::{Ceiling, HostPath, Resource, ResourceLimit, Spec};
use rustix::process::{Resource as HostResource, getrlimit};

use crate::context::Context;
use crate::dirs::is_root;
use crate::error::Error;
use crate::recipe::{Limits, Run};

/// Bits of `CapEff`, from linux/capability.h.
pub(crate) const CAP_SYS_NICE: u32 = 23;
pub(crate) const CAP_SYS_RESOURCE: u32 = 24;
/// Below the root of the control groups, for root's units that are no services of systemd's.
const PARENT: &str = "hatchway";
/// Parts of a unit's own service: what its limits are for, and what keeps it.
const TOOL: &str = "tool";
const KEEPER: &str = "keeper";

pub(super) fn add(context: &Context, run: &Run, explain: bool, spec: &mut Spec) -> Result<(), Error> {
    spec.capabilities.clone_from(&run.capabilities);
    if let Some(priority) = run.realtime {
        realtime(priority.get(), spec)?;
    }
    if let Some(size) = run.memlock {
        memlock(size.bytes(), spec)?;
    }
    match &run.limits {
        Some(limits) => limit(context, limits, explain, spec),
        None => Ok(()),
    }
}

/// What the tool may have where an engine gives it: the engine says what it cannot give.
pub(super) fn of_engine(run: &Run, spec: &mut Spec) {
    spec.capabilities.clone_from(&run.capabilities);
    if let Some(priority) = run.realtime {
        push(spec, Resource::RealtimePriority, priority.get().into());
    }
    if let Some(size) = run.memlock {
        push(spec, Resource::LockedMemory, size.bytes());
    }
}

/// The limits of the unit as a whole, for an engine to keep.
pub(super) fn ceiling(run: &Run) -> Ceiling {
    let Some(limits) = &run.limits else { return Ceiling::default() };
    Ceiling {
        memory: limits.memory.map(|size| size.bytes()),
        tasks: limits.tasks,
        cpu_us: limits.cpu.map(|cpu| cpu.quota_us()),
    }
}

fn push(spec: &mut Spec, resource: Resource, value: u64) {
    spec.limits.push(ResourceLimit { resource, soft: Some(value), hard: Some(value) });
}

/// Whether this process may raise a limit to this value for what it starts.
fn may_raise(resource: HostResource, to: u64) -> bool {
    has(CAP_SYS_RESOURCE) || getrlimit(resource).maximum.is_none_or(|hard| hard >= to)
}

/// Whether a capability is effective, in the initial user namespace if we are root.
pub(crate) fn has(capability: u32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0);
    bits >> capability & 1 == 1
}

fn realtime(priority: u8, spec: &mut Spec) -> Result<(), Error> {
    if let Some(group) = without_realtime() {
        return Err(Error::Host {
            message: format!(
                "this host gives no real-time processor time to the control group `{}`",
                group.display()
            ),
            hints: vec![format!("`echo 950000 > {}`", group.join("cpu.rt_runtime_us").display())],
        });
    }
    if may_raise(HostResource::Rtprio, priority.into()) {
        push(spec, Resource::RealtimePriority, priority.into());
        return Ok(());
    }
    if is_root() && has(CAP_SYS_NICE) {
        // A container's root may lack the right to raise a limit; this capability needs no limit. It reaches the
        // tool's own processes only: it sees no others.
        if !spec.capabilities.iter().any(|name| name == "CAP_SYS_NICE") {
            spec.capabilities.push("CAP_SYS_NICE".to_owned());
        }
        return Ok(());
    }
    Err(Error::Host {
        message: format!("the recipe asks for real-time priority {priority}, and this user may not give it"),
        hints: vec![
            "run it as root, who gives it to the tool's user".into(),
            format!(
                "or add `{} - rtprio {priority}` to /etc/security/limits.d/hatchway.conf and log in again",
                user_name()
            ),
        ],
    })
}

/// Who this is, as limits.conf(5) names a user: `@` before it would be a group.
pub(crate) fn user_name() -> String {
    let uid = rustix::process::getuid().as_raw();
    nix::unistd::User::from_uid(uid.into()).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

/// This process's group of the first version's `cpu` controller, if it has no real-time budget: then even root's
/// `sched_setscheduler` fails with "operation not permitted".
pub(crate) fn without_realtime() -> Option<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let controllers = fields.next()?;
        let path = fields.next()?;
        controllers.split(',').any(|name| name == "cpu").then_some(path)
    })?;
    let group = Path::new("/sys/fs/cgroup/cpu").join(path.trim_start_matches('/'));
    let budget = fs::read_to_string(group.join("cpu.rt_runtime_us")).ok()?;
    (budget.trim() == "0").then_some(group)
}

fn memlock(bytes: u64, spec: &mut Spec) -> Result<(), Error> {
    if may_raise(HostResource::Memlock, bytes) {
        push(spec, Resource::LockedMemory, bytes);
        return Ok(());
    }
    let hard = getrlimit(HostResource::Memlock).maximum.unwrap_or(u64::MAX) / 1024;
    // In the unit of that file.
    let wish = bytes.div_ceil(1024);
    Err(Error::Host {
        message: format!("the recipe asks for {wish} KiB of locked memory, and this host allows {hard} KiB"),
        hints: vec![format!(
            "add `{} - memlock {wish}` to /etc/security/limits.d/hatchway.conf and log in again",
            user_name()
        )],
    })
}

/// By a control group, which counts the whole unit, where there is one to be had; else by limits of each process.
fn limit(context: &Context, limits: &Limits, explain: bool, spec: &mut Spec) -> Result<(), Error> {
    let mut files = Vec::new();
    files.extend(limits.memory.map(|size| ("memory", "memory.max", size.bytes().to_string())));
    // Swap would let it go on slowly, at the expense of everything else on the machine.
    files.extend(limits.memory.map(|_| ("memory", "memory.swap.max", "0".to_owned())));
    files.extend(limits.tasks.map(|tasks| ("pids", "pids.max", tasks.saturating_add(1).to_string())));
    files.extend(limits.cpu.map(|cpu| ("cpu", "cpu.max", format!("{} 100000", cpu.quota_us()))));
    let needed: Vec<&str> = files.iter().map(|(controller, ..)| *controller).collect();
    let place = match own_service(spec.unit.as_str(), spec.incarnation.as_str(), &needed) {
        Some(service) => Ok((service.join(TOOL), service)),
        None => {
            parent(&needed).map(|parent| (parent.join(format!("{}-{}", spec.unit, spec.incarnation)), parent))
        }
    };
    let why = match place {
        Ok((group, parent)) => {
            if explain {
                spec.control_group =
                    Some(HostPath::try_from(group.as_path()).map_err(hatchway_envs::sandbox::Error::from)?);
                return Ok(());
            }
            let made = if group.ends_with(TOOL) {
                divide(&parent, &group, &files)
            } else {
                make(&parent, &group, &files)
            };
            match made {
                Ok(()) => {
                    let path =
                        HostPath::try_from(group.as_path()).map_err(hatchway_envs::sandbox::Error::from)?;
                    spec.control_group = Some(path);
                    return Ok(());
                }
                Err(error) => format!("`{}`: {error}", group.display()),
            }
        }
        Err(why) => why,
    };
    if limits.cpu.is_some() {
        let note = format!(
            "`limits.cpu` does not hold: only a control group of version 2 can keep it, and there is none ({why})"
        );
        context.printer.say(&note);
        spec.notes.push(note);
    }
    if limits.memory.is_none() && limits.tasks.is_none() {
        return Ok(());
    }
    let note = format!(
        "limits hold for each process or user, not for the unit: no control group of version 2 ({why})"
    );
    context.printer.say(&note);
    spec.notes.push(note);
    if let Some(size) = limits.memory {
        push(spec, Resource::Data, size.bytes());
    }
    if let Some(tasks) = limits.tasks {
        push(spec, Resource::Tasks, tasks.saturating_add(1));
    }
    Ok(())
}

/// The group below which the unit's can be made with these controllers: for root one of Hatchway's own at the top; for a
/// user the one our own lies in, where it is delegated.
pub(crate) fn parent(needed: &[&str]) -> Result<PathBuf, String> {
    let roots = [Path::new("/sys/fs/cgroup"), Path::new("/sys/fs/cgroup/unified")];
    let root =
        roots.iter().find(|root| root.join("cgroup.controllers").is_file()).ok_or("it is not mounted")?;
    let above = if is_root() {
        root.to_path_buf()
    } else {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).ok_or("this process is in none")?;
        let own = root.join(own);
        own.parent()
            .filter(|above| above.starts_with(root))
            .ok_or("it is not delegated to this user")?
            .to_owned()
    };
    let read = |name: &str| fs::read_to_string(above.join(name)).unwrap_or_default();
    let controllers = read("cgroup.controllers");
    let enabled = read("cgroup.subtree_control");
    for controller in needed {
        let is_in = |list: &str| list.split_whitespace().any(|name| name == *controller);
        if !is_in(&controllers) {
            return Err(format!("the controller `{controller}` is not in it"));
        }
        if !is_root() && !is_in(&enabled) {
            return Err(format!("the controller `{controller}` is not delegated to this user"));
        }
    }
    Ok(if is_root() { above.join(PARENT) } else { above })
}

/// The service that systemd keeps for this run alone, whose group it has delegated, if it gives what is needed. What is limited in
/// there stays below the limits of slices, is frozen with the service, and ends with it.
fn own_service(unit: &str, run: &str, needed: &[&str]) -> Option<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let name = format!("hatchway-{unit}-{run}.service");
    let service = Path::new("/sys/fs/cgroup").join(own);
    let controllers = fs::read_to_string(service.join("cgroup.controllers")).ok()?;
    let gives = |name: &&str| controllers.split_whitespace().any(|given| given == *name);
    (is_root() && service.ends_with(name) && needed.iter().all(gives)).then_some(service)
}

/// Makes the group of the tool in the service's, in which then nobody may be any more: cgroup-v2.rst, "No Internal Process Constraint".
fn divide(service: &Path, group: &Path, files: &[(&str, &str, String)]) -> std::io::Result<()> {
    let keeper = service.join(KEEPER);
    fs::create_dir(&keeper)?;
    let inside = fs::read_to_string(service.join("cgroup.procs"))?;
    for process in inside.lines() {
        // One that has just ended is in none.
        match fs::write(keeper.join("cgroup.procs"), process) {
            Err(error) if error.raw_os_error() != Some(nix::libc::ESRCH) => return Err(error),
            _ => {}
        }
    }
    for (controller, ..) in files {
        fs::write(service.join("cgroup.subtree_control"), format!("+{controller}"))?;
    }
    filled(group, files)
}

fn make(parent: &Path, group: &Path, files: &[(&str, &str, String)]) -> std::io::Result<()> {
    if is_root() {
        fs::create_dir_all(parent)?;
        for (controller, ..) in files {
            for above in parent.parent().into_iter().chain([parent]) {
                fs::write(above.join("cgroup.subtree_control"), format!("+{controller}"))?;
            }
        }
    }
    filled(group, files)
}

/// Makes a group with its limits.
fn filled(group: &Path, files: &[(&str, &str, String)]) -> std::io::Result<()> {
    fs::create_dir(group)?;
    let written =
        // A kernel without swap has no file for it, and nothing to limit.
        files
            .iter()
            .map(|(_, file, value)| (group.join(file), value))
            .filter(|(path, _)| !path.ends_with("memory.swap.max") || path.exists())
            .try_for_each(|(path, value)| fs::write(path, value));
    if written.is_err() {
        // It is empty and ours; the first error is what counts.
        drop(fs::remove_dir(group));
    }
    written
}
