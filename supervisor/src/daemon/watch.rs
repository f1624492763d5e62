//! Hears of a unit's end, and of what its recorder says meanwhile: over one connection for each unit, which ends with it.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use hatchway_wire::unit::{self, UnitReport};
use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::launch::packets::{Packets, Received};
use crate::units::{self, Seen};

use super::core::Core;

/// From one try to the next, where a recorder takes nobody.
const AGAIN: Duration = Duration::from_secs(1);
/// From one look to the next at a unit that is not ready yet.
const LOOK: Duration = Duration::from_millis(20);
/// A unit that is not ready after so many looks is looked at less often.
const LOOKS: u32 = 500;
/// A recorder closes its door so long before it lets go of the lock, about.
const LAST: Duration = Duration::from_millis(2);

/// Until it has ended.
pub(super) async fn watch(core: &Core, seen: &Seen) {
    let mut looks = 0;
    while units::is_kept(&seen.folder) {
        match connect(seen) {
            Ok(connection) => {
                hear(core, seen, &connection, &mut looks).await;
                tokio::time::sleep(LAST).await;
            }
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

/// A connection, and the same socket as one that tokio waits for.
fn connect(seen: &Seen) -> io::Result<(Packets, UnixStream)> {
    let packets = Packets::connect(&seen.folder, unit::SOCKET)?;
    let copy = packets.as_fd().try_clone_to_owned()?;
    Ok((packets, UnixStream::from_std(copy.into())?))
}

/// Until the connection has ended.
async fn hear(core: &Core, seen: &Seen, (packets, socket): &(Packets, UnixStream), looks: &mut u32) {
    let mut ready = false;
    loop {
        if !ready && crate::visit::answers(&seen.folder) {
            ready = true;
            core.changed.notify_one();
        }
        let pause = match (ready, *looks) {
            (true, _) => Duration::MAX,
            (false, 0..LOOKS) => LOOK,
            (false, _) => AGAIN,
        };
        *looks = looks.saturating_add(1);
        match tokio::time::timeout(pause, socket.ready(Interest::READABLE)).await {
            Err(_) => {}
            Ok(Err(_)) => return,
            Ok(Ok(_)) => match socket.try_io(Interest::READABLE, || take(packets)) {
                Ok(true) => core.changed.notify_one(),
                Ok(false) => return,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            },
        }
    }
}

/// Whether there was a message; an error where there is nothing now, as tokio wants to hear it.
fn take(packets: &Packets) -> io::Result<bool> {
    match packets.receive::<UnitReport>()? {
        Received::Message(..) => Ok(true),
        Received::Nothing => Err(io::ErrorKind::WouldBlock.into()),
        Received::End => Ok(false),
    }
}
