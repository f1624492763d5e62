//! Giving up everything, in the order in which each step still allows the next; then a look whether it is gone.
use crate::apply::Failure;
use caps::Capability;
use hatchway_wire::bootstrap::Resource as Limited;
use hatchway_wire::{Process, ResourceLimit};
use rustix::process::{DumpableBehavior, Gid, Resource, Rlimit, Uid};
use rustix::thread::{CapabilitiesSecureBits, CapabilitySet, CapabilitySets};
use std::io;
use std::str::FromStr;

/// Nothing may attach to this process or look at it through `/proc`, whoever owns it.
pub(crate) fn hide() -> io::Result<()> {
    Ok(rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Becomes the tool's user with no more than the tool may have. The system call filter comes last, in the tool.
pub(crate) fn drop_all(process: &Process) -> Result<(), Failure> {
    for limit in &process.limits {
        set_limit(limit).map_err(|source| Failure {
            hint: Some("only root may raise a limit, and not in every container".to_owned()),
            ..Failure::new(format!("limit {} to {}", limit.resource, shown(limit.soft)), source)
        })?;
    }
    let keep = kept(&process.capabilities)?;
    hatchway_sys::process::drop_bounding_set(keep.bits())
        .map_err(|source| Failure::new("empty the bounding set", source))?;
    let mut bits = CapabilitiesSecureBits::NO_ROOT | CapabilitiesSecureBits::NO_ROOT_LOCKED;
    if !keep.is_empty() {
        bits |= CapabilitiesSecureBits::KEEP_CAPS;
    }
    rustix::thread::set_capabilities_secure_bits(bits)
        .map_err(|errno| Failure::new("take the meaning out of user 0", errno))?;
    become_user(process)?;
    confine(keep).map_err(|source| Failure::new("drop capabilities", source))?;
    if process.no_new_privs {
        rustix::thread::set_no_new_privs(true)
            .map_err(|errno| Failure::new("forbid new privileges", errno))?;
    }
    // Changing the user has set it back.
    hide().map_err(|source| Failure::new("hide the shim from the tool", source))
}

fn shown(limit: Option<u64>) -> String {
    limit.map_or_else(|| "nothing".to_owned(), |limit| limit.to_string())
}

fn kept(names: &[String]) -> Result<CapabilitySet, Failure> {
    let mut keep = 0;
    for name in names {
        let capability = Capability::from_str(name).map_err(|_| {
            let source = io::Error::other("this is not the name of a capability");
            Failure::new(format!("keep the capability `{name}`"), source)
        })?;
        keep |= capability.bitmask();
    }
    Ok(CapabilitySet::from_bits_retain(keep))
}

fn become_user(process: &Process) -> Result<(), Failure> {
    if let Some(groups) = &process.groups {
        let groups: Vec<_> = groups.iter().map(|gid| nix::unistd::Gid::from_raw(*gid)).collect();
        nix::unistd::setgroups(&groups)
            .map_err(|errno| Failure::new("set the supplementary groups", io::Error::from(errno)))?;
    }
    let (gid, uid) = (nix::unistd::Gid::from_raw(process.gid), nix::unistd::Uid::from_raw(process.uid));
    nix::unistd::setresgid(gid, gid, gid)
        .map_err(|errno| Failure::new(format!("become group {gid}"), io::Error::from(errno)))?;
    nix::unistd::setresuid(uid, uid, uid)
        .map_err(|errno| Failure::new(format!("become user {uid}"), io::Error::from(errno)))?;
    let really = rustix::process::getuid() == Uid::from_raw(process.uid)
        && rustix::process::getegid() == Gid::from_raw(process.gid);
    if really {
        Ok(())
    } else {
        Err(Failure::new("become the tool's user", io::Error::other("nothing changed")))
    }
}

fn confine(keep: CapabilitySet) -> io::Result<()> {
    let sets = CapabilitySets { effective: keep, permitted: keep, inheritable: keep };
    rustix::thread::clear_ambient_capability_set()?;
    rustix::thread::set_capabilities(None, sets)?;
    for capability in keep {
        rustix::thread::configure_capability_in_ambient_set(capability, true)?;
    }
    let left = rustix::thread::capabilities(None)?;
    if left == sets { Ok(()) } else { Err(io::Error::other("some are left")) }
}

fn set_limit(limit: &ResourceLimit) -> io::Result<()> {
    let resource = match limit.resource {
        Limited::Core => Resource::Core,
        Limited::OpenFiles => Resource::Nofile,
        Limited::LockedMemory => Resource::Memlock,
        Limited::RealtimePriority => Resource::Rtprio,
        Limited::AddressSpace => Resource::As,
        Limited::Data => Resource::Data,
        Limited::Stack => Resource::Stack,
        Limited::FileSize => Resource::Fsize,
        Limited::Tasks => Resource::Nproc,
    };
    Ok(rustix::process::setrlimit(resource, Rlimit { current: limit.soft, maximum: limit.hard })?)
}
