//! Who comes to the running unit (`hatchway exec`, `hatchway stats`): the attendant takes their connections, and passes what they
//! want on to the inner half and its answers back ([`hatchway_wire::control`]).
use crate::attendant::leads_out;
use crate::channel::{Channel, Received};
use hatchway_wire::attend::{LeaseOrder, Order};
use hatchway_wire::bootstrap::Control;
use hatchway_wire::control::{ControlOrder, ControlReport, ORDER_MAX};
use rustix::net::SocketFlags;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Who may be there at a time.
const CLIENTS_MAX: usize = 64;

/// Those who are there.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    door: Option<Door>,
    open: BTreeMap<u32, Channel>,
    next: u32,
}

#[derive(Debug)]
enum Door {
    /// Its name goes with it.
    Listener { socket: OwnedFd, path: String },
    /// Connections come as descriptors.
    Given(Channel),
}

impl Clients {
    pub(crate) fn new(control: Option<&Control>) -> io::Result<Self> {
        let copy = hatchway_sys::descriptors::copy_of;
        let door = match control {
            None => None,
            Some(Control::Listener { fd, path }) => {
                Some(Door::Listener { socket: copy(*fd)?, path: path.to_string() })
            }
            Some(Control::Given { fd }) => Some(Door::Given(Channel::of(copy(*fd)?))),
        };
        Ok(Self { door, ..Self::default() })
    }

    /// Descriptors to wait for.
    pub(crate) fn watches(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let door = self.door.iter().map(|door| match door {
            Door::Listener { socket, .. } => socket.as_fd(),
            Door::Given(channel) => channel.as_fd(),
        });
        door.chain(self.open.values().map(AsFd::as_fd))
    }

    /// Takes a connection.
    pub(crate) fn add(&mut self, connection: OwnedFd) {
        if self.open.len() < CLIENTS_MAX {
            self.next = self.next.wrapping_add(1);
            self.open.insert(self.next, Channel::of(connection));
        }
    }

    /// What they want, without waiting.
    pub(crate) fn turn(&mut self) -> Vec<(Order, Vec<OwnedFd>)> {
        self.knock();
        let mut orders = Vec::new();
        // One of each: the inner half's answers have to be taken before it is given more, or both would wait for each other.
        self.open.retain(|id, channel| match channel.receive_all::<ControlOrder>() {
            Ok(Received::Message(order, fds)) => {
                match refused(&order, &fds) {
                    Some(message) => {
                        let report = ControlReport::Failed { found: false, message, hint: None };
                        channel.offer(&report, None).ok();
                    }
                    None => orders.push((Order::Control { id: *id, order }, fds)),
                }
                true
            }
            Ok(Received::Nothing) => true,
            Ok(Received::End) | Err(_) => {
                orders.push((Order::Forget { id: *id }, Vec::new()));
                false
            }
        });
        orders
    }

    fn knock(&mut self) {
        loop {
            let come = match &self.door {
                None => return,
                Some(Door::Listener { socket, .. }) => {
                    rustix::net::accept_with(socket, SocketFlags::CLOEXEC).ok()
                }
                Some(Door::Given(channel)) => match channel.receive::<LeaseOrder>() {
                    Ok(Received::Message(LeaseOrder::Control, Some(connection))) => Some(connection),
                    Ok(Received::Message(..) | Received::Nothing) => None,
                    Ok(Received::End) | Err(_) => {
                        self.door = None;
                        None
                    }
                },
            };
            let Some(connection) = come else { return };
            self.add(connection);
        }
    }

    /// An answer for one of them; false where they are gone, and nobody wants what they began.
    pub(crate) fn answer(&mut self, id: u32, report: &ControlReport, fd: Option<&OwnedFd>) -> bool {
        // One who does not read is not waited for, and is gone.
        let taken =
            self.open.get(&id).is_some_and(|channel| channel.offer(report, fd.map(AsFd::as_fd)).is_ok());
        if !taken {
            self.open.remove(&id);
        }
        taken
    }

    /// The unit has ended: nobody comes any more.
    pub(crate) fn end(&mut self) {
        if let Some(Door::Listener { path, .. }) = self.door.take() {
            // Who cleans up the folder removes it otherwise.
            std::fs::remove_file(path).ok();
        }
        self.open.clear();
    }
}

/// Why something is not passed on: a message that would be too long for the halves of the shim, or a stream that is a way out.
fn refused(order: &ControlOrder, fds: &[OwnedFd]) -> Option<String> {
    let length = serde_json::to_vec(order).map_or(usize::MAX, |text| text.len());
    if length > ORDER_MAX {
        return Some(format!("the command is longer than {ORDER_MAX} bytes"));
    }
    let out = fds.iter().any(|fd| leads_out(fd.as_fd()));
    out.then(|| "a folder or a disk as a standard stream would be a way out of the sandbox".to_owned())
}
