//! Between who reads frames and who solves them.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::Frame;

/// Frames that may wait with [`Policy::Every`].
const WAITING_MAX: usize = 4;

/// What becomes of frames that come while another is solved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// The newest is solved next, the others are left out and counted.
    #[default]
    Newest,
    /// Their mean is solved next.
    Average,
    /// All are solved, and the source waits.
    Every,
}

/// A place for frames.
#[derive(Debug)]
pub struct Mailbox {
    policy: Policy,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Frame>,
    closed: bool,
}

impl Mailbox {
    /// An empty one.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self { policy, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Puts a frame in; gives how many were left out for it. With [`Policy::Every`] it waits for room.
    pub fn put(&self, frame: Frame) -> u64 {
        let mut state = self.state();
        if state.closed {
            return frame.count;
        }
        let mut skipped = 0;
        match (self.policy, state.waiting.back_mut()) {
            (Policy::Newest, Some(waiting)) => {
                skipped = waiting.count;
                *waiting = frame;
            }
            (Policy::Average, Some(waiting)) if waiting.samples.len() == frame.samples.len() => {
                waiting.samples.iter_mut().zip(&frame.samples).for_each(|(sum, sample)| *sum += sample);
                *waiting = Frame {
                    samples: std::mem::take(&mut waiting.samples),
                    count: waiting.count + frame.count,
                    ..frame
                };
            }
            (Policy::Every, _) => {
                while state.waiting.len() >= WAITING_MAX && !state.closed {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                if state.closed {
                    return frame.count;
                }
                state.waiting.push_back(frame);
            }
            (Policy::Newest | Policy::Average, _) => {
                skipped = state.waiting.drain(..).map(|frame| frame.count).sum();
                state.waiting.push_back(frame);
            }
        }
        drop(state);
        self.changed.notify_all();
        skipped
    }

    /// The next frame, waited for; none once the mailbox is closed.
    pub fn take(&self) -> Option<Frame> {
        let mut state = self.state();
        loop {
            if state.closed {
                return None;
            }
            if let Some(frame) = state.waiting.pop_front() {
                drop(state);
                self.changed.notify_all();
                return Some(frame);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Wakes whoever waits, for ever; gives how many frames were left in it.
    pub fn close(&self) -> u64 {
        let mut state = self.state();
        state.closed = true;
        let left = state.waiting.drain(..).map(|frame| frame.count).sum();
        drop(state);
        self.changed.notify_all();
        left
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use hatchway_wire::frames::{Head, Kind};

    use super::*;

    fn frame(number: u64) -> Frame {
        let head = Head { number, ..Head::description(Kind::Frame, 0) };
        #[allow(clippy::cast_precision_loss, reason = "small numbers")]
        Frame { head, samples: vec![number as f64; 3], count: 1, received: Instant::now() }
    }

    #[test]
    fn the_newest_is_left_and_the_others_are_counted() {
        let mailbox = Mailbox::new(Policy::Newest);
        let skipped: u64 = (0..5).map(|number| mailbox.put(frame(number))).sum();
        let taken = mailbox.take().unwrap();
        assert_eq!((taken.head.number, taken.count, skipped), (4, 1, 4));
    }

    #[test]
    fn all_are_in_the_mean() {
        let mailbox = Mailbox::new(Policy::Average);
        assert_eq!((0..5).map(|number| mailbox.put(frame(number))).sum::<u64>(), 0);
        let taken = mailbox.take().unwrap();
        assert_eq!((taken.head.number, taken.count, taken.samples[0]), (4, 5, 10.0));
    }

    #[test]
    fn a_source_waits_for_room() {
        let mailbox = Mailbox::new(Policy::Every);
        std::thread::scope(|scope| {
            scope.spawn(|| (0..100).for_each(|number| assert_eq!(mailbox.put(frame(number)), 0)));
            for number in 0..100 {
                assert_eq!(mailbox.take().unwrap().head.number, number);
            }
        });
        (0..4).for_each(|number| assert_eq!(mailbox.put(frame(number)), 0));
        std::thread::scope(|scope| {
            // It waits, or comes too late; it is counted in either case.
            let waits = scope.spawn(|| mailbox.put(frame(4)));
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert_eq!(mailbox.close(), 4);
            assert_eq!(waits.join().unwrap(), 1);
        });
        assert!(mailbox.take().is_none());
    }
}
