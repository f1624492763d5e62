//! The pair of sockets between the two halves: one message is one packet, its end is the other half's end.
use hatchway_wire::attend::Order;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recvmsg, sendmsg,
    socket_with, socketpair,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Longer than any message: the longest names two paths.
const LIMIT: usize = 32 * 1024;
/// Descriptors that come with one message: the standard streams, and the way of channels.
const DESCRIPTORS_MAX: usize = 4;

/// What to wait for at a descriptor.
pub(crate) fn interest(read: bool, write: bool) -> PollFlags {
    let mut flags = PollFlags::empty();
    flags.set(PollFlags::POLLIN, read);
    flags.set(PollFlags::POLLOUT, write);
    flags
}

/// One end.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.0
    }
}

/// What reading gives.
#[derive(Debug)]
pub(crate) enum Received<T, D = Option<OwnedFd>> {
    /// A message, and the descriptor that came with it.
    Message(T, D),
    /// Nothing now.
    Nothing,
    /// The other half is gone.
    End,
}

impl Channel {
    /// Two ends, neither of which survives `execve`.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (one, other) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(one), Self(other)))
    }

    /// Waits until the other half says to go on.
    pub(crate) fn await_go_on(&self) -> io::Result<()> {
        loop {
            poll(&mut [PollFd::new(self.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE)?;
            match self.receive::<Order>()? {
                Received::Message(Order::GoOn, _) => return Ok(()),
                Received::Message(..) | Received::Nothing => {}
                Received::End => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    /// Over a socket of packets that is there.
    pub(crate) fn of(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// To a socket that somebody listens at.
    pub(crate) fn connect(path: &str) -> io::Result<Self> {
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Self(socket))
    }

    /// Waits until there is a message, or the end.
    pub(crate) fn wait(&self, timeout: PollTimeout) -> io::Result<()> {
        match poll(&mut [PollFd::new(self.as_fd(), PollFlags::POLLIN)], timeout)? {
            0 => Err(io::ErrorKind::TimedOut.into()),
            _ => Ok(()),
        }
    }

    /// Sends a message, with a descriptor if there is one to hand over.
    pub(crate) fn send<T: serde::Serialize>(
        &self,
        message: &T,
        fd: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
        self.send_all(message, &fds)
    }

    /// The same, unless it would have to wait.
    pub(crate) fn offer<T: serde::Serialize>(
        &self,
        message: &T,
        fd: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
        self.send_with(message, &fds, SendFlags::DONTWAIT)
    }

    /// With several descriptors.
    pub(crate) fn send_all<T: serde::Serialize>(
        &self,
        message: &T,
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        self.send_with(message, fds, SendFlags::empty())
    }

    fn send_with<T: serde::Serialize>(
        &self,
        message: &T,
        fds: &[BorrowedFd<'_>],
        flags: SendFlags,
    ) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // NOSIGNAL: a lost peer is an error here, not a SIGPIPE.
        sendmsg(&self.0, &[IoSlice::new(&text)], &mut control, SendFlags::NOSIGNAL | flags)?;
        Ok(())
    }

    /// Takes the next message without waiting.
    pub(crate) fn receive<T: serde::de::DeserializeOwned>(&self) -> io::Result<Received<T>> {
        Ok(match self.receive_all()? {
            Received::Message(message, fds) => Received::Message(message, fds.into_iter().next()),
            Received::Nothing => Received::Nothing,
            Received::End => Received::End,
        })
    }

    /// The same with all descriptors that came with it.
    pub(crate) fn receive_all<T: serde::de::DeserializeOwned>(
        &self,
    ) -> io::Result<Received<T, Vec<OwnedFd>>> {
        let mut text = vec![0; LIMIT];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let mut received = recvmsg(&self.0, &mut [IoSliceMut::new(&mut text)], &mut control, flags);
        // Said once, and before what is still queued, where the other half has gone without reading all of ours.
        if matches!(received, Err(Errno::CONNRESET)) {
            received = recvmsg(&self.0, &mut [IoSliceMut::new(&mut text)], &mut control, flags);
        }
        let message = match received {
            Ok(message) if message.bytes == 0 => return Ok(Received::End),
            Ok(message) => message,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Received::Nothing),
            Err(Errno::CONNRESET) => return Ok(Received::End),
            Err(errno) => return Err(errno.into()),
        };
        if message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(io::Error::other("a message between the halves of the shim is too long"));
        }
        let fds = control.drain().filter_map(|part| match part {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        });
        let fds = fds.flatten().collect();
        Ok(Received::Message(serde_json::from_slice(&text[..message.bytes])?, fds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    #[test]
    fn what_was_said_before_the_end_is_heard_though_the_other_half_did_not_listen() {
        let pair =
            || socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let (one, other) = pair();
        let (one, other) = (Channel(one), Channel(other));
        one.send(&"order", None).unwrap();
        other.send(&"ended", None).unwrap();
        drop(other);
        assert!(matches!(one.receive::<String>().unwrap(), Received::Message(text, _) if text == "ended"));
        assert!(matches!(one.receive::<String>().unwrap(), Received::End));
    }
}
