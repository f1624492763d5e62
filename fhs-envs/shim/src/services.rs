//! What the attendant does for a running unit beside its terminal: keeps files as the host's are, shows devices when
//! they come back, relays connections. All of it begins with a descriptor that the inner half hands out.
use crate::follow::Follower;
use crate::relay::{self, Doors};
use crate::slots::Shower;
use hatchway_wire::Process;
use hatchway_wire::attend::Handed;
use nix::unistd::Pid;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

#[derive(Debug, Default)]
pub(crate) struct Services {
    followers: Vec<Follower>,
    user_namespace: Option<OwnedFd>,
    shower: Option<Shower>,
    doors: Doors,
    /// Where what comes to the doors goes, unless this process's own network has it.
    way: Option<OwnedFd>,
    relay: Option<Pid>,
}

impl Services {
    /// `way`: of the unit's channels, where they do not lead to this process's own network.
    pub(crate) fn new(way: Option<OwnedFd>) -> Self {
        Self { way, ..Self::default() }
    }

    /// Takes over what was handed out; the result is what a person should know.
    pub(crate) fn take(&mut self, handed: Handed, fd: OwnedFd) -> io::Result<Vec<String>> {
        match handed {
            Handed::Follow { source } => self.followers.push(Follower::new(&source, fd)?),
            Handed::Listener { to } => self.doors.add(to, fd),
            Handed::Line { to } => self.doors.add_line(to, fd)?,
            Handed::UserNamespace => self.user_namespace = Some(fd),
            Handed::MountNamespace { slots } => {
                let (shower, notes) = Shower::new(slots, self.user_namespace.take(), fd)?;
                self.shower = Some(shower);
                return Ok(notes);
            }
        }
        Ok(Vec::new())
    }

    /// The tool runs: from now on somebody may connect.
    pub(crate) fn start(&mut self, process: &Process) -> io::Result<()> {
        if !self.doors.is_empty() {
            let doors = std::mem::take(&mut self.doors);
            self.relay = Some(relay::start(doors, process, self.way.take())?);
        }
        Ok(())
    }

    /// Descriptors to wait for, in a fixed order.
    pub(crate) fn watches(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.followers.iter().map(Follower::watch).chain(self.shower.iter().map(Shower::watch))
    }

    /// Deals with those that have something to say. A failure is told and does not end the tool: it goes on with
    /// what it has.
    pub(crate) fn changed(&mut self, ready: &[bool]) -> Vec<String> {
        let mut notes = Vec::new();
        let mut ready = ready.iter().copied();
        for follower in &mut self.followers {
            if ready.next() == Some(true)
                && let Err(error) = follower.changed()
            {
                notes.push(format!("cannot follow a file of the host: {error}"));
            }
        }
        if let Some(shower) = &mut self.shower
            && ready.next() == Some(true)
        {
            notes.extend(shower.changed());
        }
        notes
    }

    /// What a person should know where the relay has ended before its time: the tool goes on, and reaches nobody through it.
    pub(crate) fn lost(&mut self) -> Option<String> {
        use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
        let gone = waitpid(self.relay?, Some(WaitPidFlag::WNOHANG)).ok()?;
        if gone == WaitStatus::StillAlive {
            return None;
        }
        self.relay = None;
        Some(
            "what relays the channels and addresses of the unit was ended: nothing gets through any more"
                .to_owned(),
        )
    }

    /// The unit is gone.
    pub(crate) fn end(&mut self) {
        if let Some(pid) = self.relay.take() {
            // Our own child, not waited for yet.
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).ok();
            nix::sys::wait::waitpid(pid, None).ok();
        }
    }
}
