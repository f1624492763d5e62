//! The way from inside a container to whoever started it: a socket that is bound into the container. The standard streams come
//! over it, so the tool has the caller's own, and the engine carries nothing. While the other end is open the unit may run.
use crate::channel::{Channel, Received};
use crate::complain;
use hatchway_wire::ExitRecord;
use hatchway_wire::attend::{LeaseOrder, LeaseReport};
use hatchway_wire::bootstrap::Lease as Way;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::signal::Signal;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Milliseconds that whoever started the container has to hand over the streams.
const STREAMS_MAX_MS: u16 = 30_000;

#[derive(Debug)]
pub(crate) struct Lease {
    channel: Channel,
    pub(crate) front: bool,
    /// The way of the unit's channels, where it has some.
    pub(crate) channels: Option<OwnedFd>,
    /// Connections of those who have come to the unit.
    pub(crate) come: Vec<OwnedFd>,
    /// Locks.
    kept: Vec<OwnedFd>,
    ended: bool,
}

impl Lease {
    /// Connects, and makes what comes the standard streams of this process. There is no tool yet that could be first.
    pub(crate) fn take(way: &Way) -> io::Result<Self> {
        let channel = Channel::connect(way.at.as_str())?;
        channel.wait(PollTimeout::from(STREAMS_MAX_MS))?;
        let channels = match channel.receive_all::<LeaseOrder>()? {
            Received::Message(LeaseOrder::Streams, streams) => become_streams(streams)?,
            Received::Message(..) | Received::Nothing | Received::End => {
                return Err(io::Error::other("it did not hand over the standard streams"));
            }
        };
        Ok(Self { channel, front: way.front, channels, come: Vec::new(), kept: Vec::new(), ended: false })
    }

    /// What is to be waited for, as long as there is somebody.
    pub(crate) fn watch(&self) -> Option<PollFd<'_>> {
        (!self.ended).then(|| PollFd::new(self.channel.as_fd(), PollFlags::POLLIN))
    }

    /// The numbers of the signals that came, and whether each was for a key. At the end, the one that asks to end: whoever started it is gone, and nobody
    /// hears what the tool says.
    pub(crate) fn signals(&mut self) -> Vec<(i32, bool)> {
        let mut signals = Vec::new();
        loop {
            match self.channel.receive::<LeaseOrder>() {
                Ok(Received::Message(LeaseOrder::Signal { signal, key }, _)) => signals.push((signal, key)),
                Ok(Received::Message(LeaseOrder::Control, connection)) => self.come.extend(connection),
                Ok(Received::Message(LeaseOrder::Keep, held)) => self.kept.extend(held),
                Ok(Received::Message(LeaseOrder::Streams, _)) => {}
                Ok(Received::Nothing) => return signals,
                Ok(Received::End) | Err(_) => {
                    self.ended = true;
                    signals.push((Signal::SIGTERM as i32, false));
                    return signals;
                }
            }
        }
    }

    /// The tool is stopped, and so should be whoever started it.
    pub(crate) fn stopped(&self, signal: i32) {
        // If nobody is there any more, that is noticed next.
        self.channel.send(&LeaseReport::Stopped { signal }, None).ok();
    }

    /// Says how the unit ended.
    pub(crate) fn give_back(&self, record: &ExitRecord) {
        let report = LeaseReport::Ended { record: Box::new(record.clone()) };
        if let Err(error) = self.channel.send(&report, None)
            && !self.ended
        {
            complain("cannot say how the unit ended", Some(&error), None);
        }
    }
}

/// What comes after the standard streams is given back.
fn become_streams(mut streams: Vec<OwnedFd>) -> io::Result<Option<OwnedFd>> {
    let channels = if streams.len() > 3 { streams.pop() } else { None };
    let [input, output, error] = &streams[..] else {
        return Err(io::Error::other("it did not hand over three standard streams"));
    };
    rustix::stdio::dup2_stdin(input)?;
    rustix::stdio::dup2_stdout(output)?;
    rustix::stdio::dup2_stderr(error)?;
    Ok(channels)
}
