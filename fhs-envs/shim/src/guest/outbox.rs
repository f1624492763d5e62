//! The port for messages: lines in, lines out, neither waited for.
use super::ports;
use crate::error::Error;
use hatchway_wire::guest::{CONTROL, GuestReport, HostOrder, Lines};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};

const READ: usize = 4096;

/// The way to `hatchway run`.
#[derive(Debug)]
pub(super) struct Control {
    port: OwnedFd,
    lines: Lines,
    out: Vec<u8>,
    /// Nobody is at the other end any more.
    gone: bool,
}

impl Control {
    pub(super) fn open() -> Result<Self, Error> {
        Ok(Self { port: ports::open(CONTROL)?, lines: Lines::default(), out: Vec::new(), gone: false })
    }

    /// Queues a message, and writes as much as is taken now.
    pub(super) fn send(&mut self, report: &GuestReport) {
        if let Ok(mut line) = serde_json::to_vec(report) {
            line.push(b'\n');
            self.out.extend_from_slice(&line);
        }
        self.write();
    }

    pub(super) fn write(&mut self) {
        while !self.out.is_empty() && !self.gone {
            match rustix::io::write(&self.port, &self.out) {
                Ok(0) | Err(Errno::AGAIN | Errno::INTR) => return,
                Ok(count) => drop(self.out.drain(..count)),
                Err(_) => self.gone = true,
            }
        }
    }

    /// What to wait for; nothing once the other end is gone.
    pub(super) fn watch(&self) -> Option<PollFd<'_>> {
        let out = if self.out.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };
        (!self.gone).then(|| PollFd::new(self.port.as_fd(), PollFlags::POLLIN | out))
    }

    /// The orders that came; true where the other end is gone.
    pub(super) fn receive(&mut self) -> (Vec<HostOrder>, bool) {
        let mut orders = Vec::new();
        let mut buffer = [0; READ];
        while !self.gone {
            match rustix::io::read(&self.port, &mut buffer) {
                Ok(0) => self.gone = true,
                Ok(count) => {
                    let lines = self.lines.push(&buffer[..count]).unwrap_or_default();
                    // What is no order is of another release; the first message has said which one this is.
                    orders.extend(
                        lines.iter().filter_map(|line| serde_json::from_slice::<HostOrder>(line).ok()),
                    );
                }
                Err(Errno::AGAIN | Errno::INTR) => break,
                Err(_) => self.gone = true,
            }
        }
        (orders, self.gone)
    }

    /// Waits until all is written, and then until the other end is gone, which is how it says that it has everything.
    pub(super) fn flush_to_the_end(&mut self) {
        while !self.gone {
            let wanted = if self.out.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };
            let mut fds = [PollFd::new(self.port.as_fd(), wanted)];
            poll(&mut fds, PollTimeout::from(100_u16)).ok();
            self.write();
            self.gone |= ports::is_hung_up(&self.port);
        }
    }
}
