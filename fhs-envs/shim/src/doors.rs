//! The doors of channels: what the tool opens or connects to, made by the inner half, whose other ends the attendant gets.
use crate::channel::Channel;
use crate::inside::Inside;
use crate::link;
use hatchway_wire::attend::{Handed, Report};
use hatchway_wire::{Channel as Wanted, Door, InsidePath, Owner};
use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::OptionalActions;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};

/// Who may use a serial line.
const LINE_MODE: u32 = 0o600;
/// The multiplexer of the unit's own pseudo terminals.
const MULTIPLEXER: &str = "/dev/pts/ptmx";

pub(crate) fn make(wanted: &[Wanted], inside: &Inside, channel: &Channel) -> io::Result<()> {
    for one in wanted {
        let (handed, fd) = match &one.door {
            Door::Line { at, owner } => (Handed::Line { to: one.to }, line(at, *owner, inside)?),
            Door::Port { at } => (Handed::Listener { to: one.to }, port(*at)?),
        };
        channel.send(&Report::Handed(handed), Some(fd.as_fd()))?;
    }
    Ok(())
}

/// A pseudo terminal that changes no byte, under the name that the tool knows. The kernel's number of it stays in the link.
fn line(at: &InsidePath, owner: Owner, inside: &Inside) -> io::Result<OwnedFd> {
    let multiplexer = InsidePath::new(MULTIPLEXER).map_err(io::Error::other)?;
    let master = inside.open(&multiplexer, OFlags::RDWR | OFlags::NOCTTY)?;
    rustix::pty::unlockpt(&master)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    let mut settings = rustix::termios::tcgetattr(&slave)?;
    // As a line is before its program sets it: nothing is echoed back to the device.
    settings.make_raw();
    rustix::termios::tcsetattr(&slave, OptionalActions::Now, &settings)?;
    let (uid, gid) = (rustix::fs::Uid::from_raw(owner.uid), rustix::fs::Gid::from_raw(owner.gid));
    rustix::fs::fchown(&slave, Some(uid), Some(gid))?;
    rustix::fs::fchmod(&slave, Mode::from(LINE_MODE))?;
    let name = rustix::pty::ptsname(&master, Vec::new())?;
    inside.link(at, &name.to_string_lossy())?;
    Ok(master)
}

fn port(at: SocketAddr) -> io::Result<OwnedFd> {
    if !at.ip().is_loopback() {
        match link::add_loopback_address(at.ip()) {
            // Another door is at the same address.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            done => done?,
        }
    }
    Ok(TcpListener::bind(at)?.into())
}
