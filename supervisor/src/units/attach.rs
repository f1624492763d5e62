//! A place at a unit's terminal.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hatchway_wire::guest::Window;
use hatchway_wire::unit::{Attach, UnitOrder, UnitReport};

use super::{Seen, State};
use crate::error::Error;
use crate::launch::packets::{Packets, Received};

/// Whoever drops it leaves.
#[derive(Debug)]
pub struct Seat {
    /// Over this one came, and gives orders.
    packets: Packets,
    stream: OwnedFd,
}

impl Seat {
    /// Raw bytes both ways.
    #[must_use]
    pub fn stream(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Gives the terminal another size, if one writes there.
    pub fn resize(&self, window: Window) {
        // Answers to earlier ones, which nobody waits for.
        while let Ok(Received::Message(..)) = self.packets.receive::<UnitReport>() {}
        drop(self.packets.offer(&UnitOrder::Resize(window), &[]));
    }
}

impl Seen {
    /// Whether it has a terminal of its own.
    #[must_use]
    pub fn has_terminal(&self) -> bool {
        self.told().is_some_and(|unit| unit.terminal)
    }

    /// Comes to its terminal.
    ///
    /// # Errors
    /// It does not run, has no terminal, or another writes there.
    pub fn attach(&self, attach: &Attach) -> Result<Seat, Error> {
        let unit = || self.tool.clone();
        match self.state {
            State::Running => {}
            State::Foreground => {
                return Err(Error::Host {
                    message: format!("`{}` runs in the foreground of another command", self.tool),
                    hints: vec![
                        "what it says is shown there; with `terminal = true` in [service] of its recipe `hatchway run --detach` gives it a terminal of its own"
                            .to_owned(),
                    ],
                });
            }
            State::Ending | State::Ended | State::Lost => return Err(Error::NotRunning { unit: unit() }),
        }
        if !self.has_terminal() {
            return Err(Error::NoTerminal { unit: unit() });
        }
        let Some(packets) = self.connect()? else { return Err(Error::NotRunning { unit: unit() }) };
        match self.ask(&packets, &UnitOrder::Attach(attach.clone()))? {
            Some((UnitReport::Attached, streams)) => match streams.into_iter().next() {
                Some(stream) => Ok(Seat { packets, stream }),
                None => Err(self.speechless()),
            },
            Some((UnitReport::Occupied { by }, _)) => Err(Error::Occupied { unit: unit(), by }),
            Some((report, _)) => Err(self.refused(&report)),
            None => Err(Error::NotRunning { unit: unit() }),
        }
    }
}
