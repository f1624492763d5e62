//! One word to all threads that it is time to end, which also wakes those that wait for a socket.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

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

    /// Says it when a thread panics: half a service looks like a whole one.
    pub(super) fn guard(&self) -> Guard<'_> {
        Guard(self)
    }

    /// What a solver looks at.
    #[must_use]
    pub fn flag(&self) -> &AtomicBool {
        &self.0.said
    }

    /// Waits for a time, or until it is said.
    pub fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        while !self.is_said() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let mut event = [PollFd::new(self.0.event.as_fd(), PollFlags::POLLIN)];
            // A signal may wake it before; then it looks again.
            poll(&mut event, timeout(Some(left))).ok();
        }
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
        self.wait_within(descriptor, None)
    }

    /// The same, and fails with [`io::ErrorKind::TimedOut`] if nothing can be read within a time.
    ///
    /// # Errors
    /// Besides, the descriptor cannot be waited for.
    pub fn wait_within(&self, descriptor: &impl AsFd, within: Option<Duration>) -> io::Result<bool> {
        let until = within.map(|within| Instant::now() + within);
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let mut all = [
                PollFd::new(self.0.event.as_fd(), PollFlags::POLLIN),
                PollFd::new(descriptor.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut all, timeout(left)) {
                Ok(_) if self.is_said() => return Ok(false),
                Ok(_) if all[1].any().unwrap_or(true) => return Ok(true),
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// See [`Stop::guard`].
pub(super) struct Guard<'a>(&'a Stop);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.say();
        }
    }
}

/// In whole milliseconds, and one more so that it is over when it is over.
fn timeout(left: Option<Duration>) -> PollTimeout {
    match left {
        None => PollTimeout::NONE,
        Some(left) => PollTimeout::try_from(left.as_millis().saturating_add(1)).unwrap_or(PollTimeout::MAX),
    }
}

/// Reads what comes, until it is time to end: then reading fails with [`io::ErrorKind::ConnectionAborted`].
#[derive(Debug)]
pub(super) struct Until<'s, S> {
    pub(super) stream: S,
    pub(super) stop: &'s Stop,
    /// How long a read may wait, if not for ever; then it fails with [`io::ErrorKind::TimedOut`].
    pub(super) patience: Option<Duration>,
}

impl<S: AsFd + Read> Read for Until<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.wait_within(&self.stream, self.patience)? {
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
        let mut reader = Until { stream: near, stop: &stop, patience: None };
        let mut byte = [0];
        far.write_all(b"a").unwrap();
        reader.read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"a");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(20));
                stop.say();
            });
            let error = reader.read_exact(&mut byte).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        });
        assert!(stop.is_said());
        stop.pause(Duration::from_secs(1000));
    }

    #[test]
    fn a_read_has_so_much_patience() {
        let (near, _far) = UnixStream::pair().unwrap();
        let stop = Stop::new().unwrap();
        let patience = Some(Duration::from_millis(10));
        let error = Until { stream: near, stop: &stop, patience }.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
