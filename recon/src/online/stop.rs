//! One word to all threads that it is time to end, which also wakes those that wait for a socket.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// Said once, heard by all; copies are of the same word.
#[derive(Clone, Debug)]
pub struct Stop(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    said: AtomicBool,
    event: EventFd,
}

impl Stop {
    /// Not said yet.
    ///
    /// # Errors
    /// There are no more descriptors.
    pub fn new() -> io::Result<Self> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self(Arc::new(Shared { said: AtomicBool::new(false), event })))
    }

    /// Says it.
    pub fn say(&self) {
        self.0.said.store(true, Ordering::SeqCst);
        // A counter that is full is readable as well.
        self.0.event.write(1).ok();
    }

    /// Whether it has been said.
    #[must_use]
    pub fn is_said(&self) -> bool {
        self.0.said.load(Ordering::SeqCst)
    }

    /// What a solver looks at.
    #[must_use]
    pub fn flag(&self) -> &AtomicBool {
        &self.0.said
    }

    /// Waits for it.
    pub fn wait_for(&self) {
        while !self.is_said() {
            let mut event = [PollFd::new(self.0.event.as_fd(), PollFlags::POLLIN)];
            // A signal may wake it before; then it looks again.
            poll(&mut event, PollTimeout::NONE).ok();
        }
    }

    /// Waits until a descriptor can be read, or has hung up; false if it is time to end.
    ///
    /// # Errors
    /// The descriptor cannot be waited for.
    pub fn wait(&self, descriptor: &impl AsFd) -> io::Result<bool> {
        loop {
            let mut all = [
                PollFd::new(self.0.event.as_fd(), PollFlags::POLLIN),
                PollFd::new(descriptor.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut all, PollTimeout::NONE) {
                Ok(_) if self.is_said() => return Ok(false),
                Ok(_) if all[1].any().unwrap_or(true) => return Ok(true),
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Reads what comes, until it is time to end: then reading fails with [`io::ErrorKind::ConnectionAborted`].
#[derive(Debug)]
pub(super) struct Until<'s, S> {
    pub(super) stream: S,
    pub(super) stop: &'s Stop,
}

impl<S: AsFd + Read> Read for Until<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.wait(&self.stream)? {
            self.stream.read(buffer)
        } else {
            Err(io::ErrorKind::ConnectionAborted.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_word_ends_a_read_that_waits() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let stop = Stop::new().unwrap();
        let mut reader = Until { stream: near, stop: &stop };
        let mut byte = [0];
        far.write_all(b"a").unwrap();
        reader.read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"a");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(std::time::Duration::from_millis(20));
                stop.say();
            });
            let error = reader.read_exact(&mut byte).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        });
        assert!(stop.is_said());
    }
}
