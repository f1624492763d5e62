//! The host's end of the way into a container: see [`hatchway_wire::attend::LeaseOrder`].

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use hatchway_wire::attend::{LeaseOrder, LeaseReport};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, accept_with, bind, listen, recv, sendmsg, socket_with,
};

/// Longer than any report: the longest holds the notes of a run.
const REPORT_MAX: usize = 64 << 10;

/// A socket that waits for the shim of one container.
#[derive(Debug)]
pub(super) struct Listener(OwnedFd);

/// The way to that shim.
#[derive(Debug)]
pub(super) struct Lease(OwnedFd);

/// What came.
#[derive(Debug)]
pub(super) enum Received {
    Report(LeaseReport),
    Nothing,
    End,
}

impl Listener {
    /// Makes the socket in a folder. The name of a socket may have some hundred bytes only, and that of a folder more.
    pub(super) fn new(folder: &Path, name: &str) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(folder, flags, Mode::empty())?;
        let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()))?;
        let socket = socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        bind(&socket, &address)?;
        listen(&socket, 1)?;
        Ok(Self(socket))
    }

    /// The first that connects within so many seconds; `None` when nobody has.
    pub(super) fn accept(&self, seconds: i64) -> io::Result<Option<Lease>> {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        match poll(&mut fds, Some(&Timespec { tv_sec: seconds, tv_nsec: 0 })) {
            Ok(0) | Err(Errno::INTR) => return Ok(None),
            other => drop(other?),
        }
        Ok(Some(Lease(accept_with(&self.0, SocketFlags::CLOEXEC)?)))
    }
}

impl AsFd for Lease {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Lease {
    /// Hands this process's standard streams over, and the way of the unit's channels.
    pub(super) fn give_streams(&self, channels: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let mut streams = vec![rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
        streams.extend(channels);
        self.send(&LeaseOrder::Streams, &streams)
    }

    /// Passes a signal on. With nobody there any more the end of the way is noticed next.
    pub(super) fn signal(&self, signal: i32, key: bool) {
        drop(self.send(&LeaseOrder::Signal { signal, key }, &[]));
    }

    fn send(&self, order: &LeaseOrder, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let text = serde_json::to_vec(order)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        sendmsg(&self.0, &[IoSlice::new(&text)], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Takes the next report without waiting.
    pub(super) fn receive(&self) -> io::Result<Received> {
        let mut text = vec![0; REPORT_MAX];
        match recv(&self.0, &mut text[..], RecvFlags::DONTWAIT) {
            Ok((0, _)) | Err(Errno::CONNRESET) => Ok(Received::End),
            Ok((length, _)) => Ok(Received::Report(serde_json::from_slice(&text[..length])?)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(Received::Nothing),
            Err(errno) => Err(errno.into()),
        }
    }
}
