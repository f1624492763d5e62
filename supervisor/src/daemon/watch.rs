//! Hears of a unit's end, and of what its recorder says meanwhile: over one connection for each unit, which ends with it.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use hatchway_wire::unit::{self, UnitOrder, UnitReport};
use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::launch::packets::{Packets, Received};
use crate::units::{self, Seen};

use super::core::Core;

/// From one try to the next, where a recorder takes nobody.
const AGAIN: Duration = Duration::from_secs(1);
/// After the end of a connection: a recorder closes its door a little before it lets go of the lock.
const LAST: Duration = Duration::from_millis(10);

/// Until it has ended.
pub(super) async fn watch(core: &Core, seen: &Seen) {
    while units::is_kept(&seen.folder) {
        match connect(seen) {
            Ok(connection) => {
                hear(core, &connection).await;
                tokio::time::sleep(LAST).await;
            }
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

/// A connection, and the same socket as one that tokio waits for.
fn connect(seen: &Seen) -> io::Result<(Packets, UnixStream)> {
    let packets = Packets::connect(&seen.folder, unit::SOCKET)?;
    // What it says is only that something is otherwise: the folder says what.
    packets.offer(&UnitOrder::Watch, &[])?;
    let copy = packets.as_fd().try_clone_to_owned()?;
    Ok((packets, UnixStream::from_std(copy.into())?))
}

/// Until the connection has ended.
async fn hear(core: &Core, (packets, socket): &(Packets, UnixStream)) {
    while socket.ready(Interest::READABLE).await.is_ok() {
        match socket.try_io(Interest::READABLE, || take(packets)) {
            Ok(true) => core.changed.notify_one(),
            Ok(false) => return,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
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
