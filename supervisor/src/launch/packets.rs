//! Sockets of packets with names in a run's folder: one message is one packet of JSON, and descriptors come with it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect,
    listen, recvmsg, sendmsg, socket_with,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longer than any message: the longest holds the notes of a run.
const MESSAGE_MAX: usize = 64 << 10;
/// Descriptors that come with one message.
const DESCRIPTORS_MAX: usize = 4;
/// Who may wait to be taken.
const BACKLOG: i32 = 16;

/// What to wait for at a descriptor.
pub(crate) fn interest(read: bool, write: bool) -> PollFlags {
    let mut flags = PollFlags::empty();
    flags.set(PollFlags::IN, read);
    flags.set(PollFlags::OUT, write);
    flags
}

/// A socket that waits for others.
#[derive(Debug)]
pub(crate) struct Listener(OwnedFd);

/// One connection.
#[derive(Debug)]
pub(crate) struct Packets(OwnedFd);

/// What came.
#[derive(Debug)]
pub(crate) enum Received<T> {
    /// A message, with its descriptors.
    Message(T, Vec<OwnedFd>),
    Nothing,
    End,
}

/// The name of a socket may have some hundred bytes only, and that of a folder more: so it is named below a descriptor.
fn below(folder: &Path, name: &str) -> io::Result<(OwnedFd, SocketAddrUnix)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(folder, flags, Mode::empty())?;
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()))?;
    Ok((folder, address))
}

fn socket(flags: SocketFlags) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | flags;
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

impl Listener {
    /// Makes the socket in a folder. Who may connect is who may enter the folder and write to the socket: its owner.
    pub(crate) fn new(folder: &Path, name: &str) -> io::Result<Self> {
        let (_folder, address) = below(folder, name)?;
        let socket = socket(SocketFlags::NONBLOCK)?;
        bind(&socket, &address)?;
        std::fs::set_permissions(folder.join(name), std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        listen(&socket, BACKLOG)?;
        Ok(Self(socket))
    }

    /// The first that connects within so many seconds; `None` when nobody has.
    pub(crate) fn accept(&self, seconds: i64) -> io::Result<Option<Packets>> {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        match poll(&mut fds, Some(&Timespec { tv_sec: seconds, tv_nsec: 0 })) {
            Ok(0) | Err(Errno::INTR) => return Ok(None),
            other => drop(other?),
        }
        self.next()
    }

    /// The next that has connected.
    pub(crate) fn next(&self) -> io::Result<Option<Packets>> {
        match accept_with(&self.0, SocketFlags::CLOEXEC) {
            Ok(connection) => Ok(Some(Packets(connection))),
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    pub(crate) fn into_descriptor(self) -> OwnedFd {
        self.0
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for Packets {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Packets {
    /// To the socket of this name in a folder.
    pub(crate) fn connect(folder: &Path, name: &str) -> io::Result<Self> {
        let (_folder, address) = below(folder, name)?;
        // One who does not take anybody does not hold up who asks.
        let socket = socket(SocketFlags::NONBLOCK)?;
        connect(&socket, &address)?;
        Ok(Self(socket))
    }

    pub(crate) fn send(&self, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send_with(message, descriptors, SendFlags::empty())
    }

    /// The same, unless it would have to wait for a reader.
    pub(crate) fn offer(&self, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send_with(message, descriptors, SendFlags::DONTWAIT)
    }

    fn send_with(
        &self,
        message: &impl Serialize,
        descriptors: &[BorrowedFd<'_>],
        flags: SendFlags,
    ) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        sendmsg(&self.0, &[IoSlice::new(&text)], &mut control, SendFlags::NOSIGNAL | flags)?;
        Ok(())
    }

    /// Takes the next message without waiting.
    pub(crate) fn receive<T: DeserializeOwned>(&self) -> io::Result<Received<T>> {
        let mut text = vec![0; MESSAGE_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let mut received = recvmsg(&self.0, &mut [IoSliceMut::new(&mut text)], &mut control, flags);
        // Said once, and before what is still queued, where the other side has gone without reading all of ours.
        if matches!(received, Err(Errno::CONNRESET)) {
            received = recvmsg(&self.0, &mut [IoSliceMut::new(&mut text)], &mut control, flags);
        }
        let length = match received {
            Ok(message) if message.bytes == 0 => return Ok(Received::End),
            Ok(message) => message.bytes,
            Err(Errno::CONNRESET) => return Ok(Received::End),
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Received::Nothing),
            Err(errno) => return Err(errno.into()),
        };
        let fds = control.drain().filter_map(|part| match part {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        });
        let fds = fds.flatten().collect();
        Ok(Received::Message(serde_json::from_slice(&text[..length])?, fds))
    }
}
