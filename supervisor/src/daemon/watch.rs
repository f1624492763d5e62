//! Hears of a unit's end, and of what its recorder says meanwhile: over one connection for each unit, which ends with it.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use hatchway_wire::control::Condition;
use hatchway_wire::ready::Standing;
use hatchway_wire::unit::{self, UnitOrder, UnitReport};
use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::launch::packets::{Packets, Received};
use crate::units::{self, Seen};

use super::core::Core;
use super::journal::{Entry, Kind};

/// From one try to the next, where a recorder takes nobody.
const AGAIN: Duration = Duration::from_secs(1);
/// After the end of a connection: a recorder closes its door a little before it lets go of the lock.
const LAST: Duration = Duration::from_millis(10);

/// Until it has ended.
pub(super) async fn watch(core: &Core, seen: &Seen) {
    let mut was = None;
    while units::is_kept(&seen.folder) {
        match connect(seen) {
            Ok(connection) => {
                hear(core, (seen, &mut was), &connection).await;
                tokio::time::sleep(LAST).await;
            }
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

/// A connection, and the same socket as one that tokio waits for.
fn connect(seen: &Seen) -> io::Result<(Packets, UnixStream)> {
    let packets = Packets::connect(&seen.folder, unit::SOCKET)?;
    // Of whether it is ready that only says that something is otherwise: the folder says what.
    packets.offer(&UnitOrder::Watch, &[])?;
    let copy = packets.as_fd().try_clone_to_owned()?;
    Ok((packets, UnixStream::from_std(copy.into())?))
}

/// Until the connection has ended.
async fn hear(
    core: &Core,
    (seen, was): (&Seen, &mut Option<Condition>),
    (packets, socket): &(Packets, UnixStream),
) {
    while socket.ready(Interest::READABLE).await.is_ok() {
        match socket.try_io(Interest::READABLE, || take(packets)) {
            Ok(Some(standing)) => {
                if let Some(standing) = standing {
                    health(core, seen, was, &standing);
                }
                core.changed.notify_one();
            }
            Ok(None) => return,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

/// That it is not well, or is well again.
fn health(core: &Core, seen: &Seen, was: &mut Option<Condition>, standing: &Standing) {
    let before = std::mem::replace(was, standing.health);
    let text = match (before, standing.health) {
        (before, Some(Condition::Unhealthy)) if before != Some(Condition::Unhealthy) => {
            "it is not well: its check of health has failed as often as it may"
        }
        (Some(Condition::Unhealthy), Some(Condition::Healthy)) => "it is well again",
        _ => return,
    };
    core.tell(Entry::of(Kind::Health, &seen.tool, text).run(&seen.run));
}

/// A message, with how far the unit is if it says so; nothing at the end, and an error where there is nothing now, as tokio wants to hear it.
fn take(packets: &Packets) -> io::Result<Option<Option<Standing>>> {
    match packets.receive::<UnitReport>()? {
        Received::Message(UnitReport::State(standing), _) => Ok(Some(Some(standing))),
        Received::Message(..) => Ok(Some(None)),
        Received::Nothing => Err(io::ErrorKind::WouldBlock.into()),
        Received::End => Ok(None),
    }
}
