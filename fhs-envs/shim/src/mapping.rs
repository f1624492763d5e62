//! Which user of the host the sandbox's user is. An ordinary user maps itself, from inside. Root maps another one, which
//! only somebody outside may write.
use hatchway_wire::{Bootstrap, Op};
use nix::unistd::{Gid, Pid, Uid};
use std::io;

/// Ids that the attendant writes, since they are not its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mapping {
    user: (u32, u32),
    group: (u32, u32),
}

impl Mapping {
    /// What the plan maps, where that is somebody else.
    pub(crate) fn of(bootstrap: &Bootstrap) -> Option<Self> {
        let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        bootstrap.ops.iter().find_map(|op| match op {
            Op::IdMap { inside_uid, outside_uid, inside_gid, outside_gid }
                if (*outside_uid, *outside_gid) != own =>
            {
                Some(Self { user: (*inside_uid, *outside_uid), group: (*inside_gid, *outside_gid) })
            }
            _ => None,
        })
    }

    /// From outside.
    pub(crate) fn write(self, inner: Pid) -> io::Result<()> {
        std::fs::write(format!("/proc/{inner}/uid_map"), format!("{} {} 1\n", self.user.0, self.user.1))?;
        std::fs::write(format!("/proc/{inner}/gid_map"), format!("{} {} 1\n", self.group.0, self.group.1))
    }
}

/// One user and one group, from inside. Giving up `setgroups` first is what allows an ordinary user to map a group at all.
pub(crate) fn own(user: (u32, u32), group: (u32, u32)) -> io::Result<()> {
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("{} {} 1\n", user.0, user.1))?;
    std::fs::write("/proc/self/gid_map", format!("{} {} 1\n", group.0, group.1))
}

/// Becomes the mapped user. Until then this process is still the host's root, though it has lost root's capabilities.
pub(crate) fn become_mapped(uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    nix::unistd::setgroups(&[])?;
    nix::unistd::setresgid(gid, gid, gid)?;
    Ok(nix::unistd::setresuid(uid, uid, uid)?)
}
