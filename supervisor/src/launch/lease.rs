//! The host's end of the way into a container: see [`hatchway_wire::attend::LeaseOrder`].

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use hatchway_wire::attend::{LeaseOrder, LeaseReport};

use super::packets::{Packets, Received};

/// The way to the shim of one container.
#[derive(Debug)]
pub(super) struct Lease(Packets);

impl AsFd for Lease {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Packets> for Lease {
    fn from(packets: Packets) -> Self {
        Self(packets)
    }
}

impl Lease {
    /// Hands this process's standard streams over, and the way of the unit's channels.
    pub(super) fn give_streams(&self, channels: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let mut streams = vec![rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
        streams.extend(channels);
        self.0.send(&LeaseOrder::Streams, &streams)
    }

    /// Passes a signal on. With nobody there any more the end of the way is noticed next.
    pub(super) fn signal(&self, signal: i32, key: bool) {
        drop(self.0.send(&LeaseOrder::Signal { signal, key }, &[]));
    }

    /// Has the shim hold something, as long as the unit lives and this process may be gone.
    pub(super) fn keep(&self, held: BorrowedFd<'_>) {
        drop(self.0.send(&LeaseOrder::Keep, &[held]));
    }

    /// Hands over the connection of somebody who has come to the unit.
    pub(super) fn visit(&self, connection: &Packets) {
        drop(self.0.send(&LeaseOrder::Control, &[connection.as_fd()]));
    }

    /// Takes the next report without waiting.
    pub(super) fn receive(&self) -> io::Result<Received<LeaseReport>> {
        self.0.receive()
    }
}
