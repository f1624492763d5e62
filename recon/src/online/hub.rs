//! Images for whoever wants them: each subscriber has a place for one, and gets the newest when it is ready for it.

use std::io::{self, Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Listener, Metrics, Stop, Stream};

/// Subscribers at one door.
const SUBSCRIBERS_MAX: usize = 64;
/// How long a subscriber may take nothing before it is sent away.
const PATIENCE: Duration = Duration::from_secs(10);

/// A message that is ready to be sent.
type Message = Arc<Vec<u8>>;

/// The subscribers of one door.
#[derive(Debug)]
pub struct Hub {
    /// What each subscriber is sent first.
    greeting: Option<Message>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    latest: Option<Message>,
    subscribers: Vec<Arc<Subscriber>>,
}

#[derive(Debug)]
struct Subscriber {
    place: Mutex<Place>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Place {
    next: Option<Message>,
    gone: bool,
}

impl Hub {
    /// Without subscribers yet.
    #[must_use]
    pub fn new(greeting: Option<Vec<u8>>) -> Self {
        Self { greeting: greeting.map(Arc::new), state: Mutex::default() }
    }

    /// How many there are.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        lock(&self.state).subscribers.len()
    }

    /// Hands an image to all; gives how many missed the one before.
    pub fn publish(&self, message: Vec<u8>) -> u64 {
        let message = Arc::new(message);
        let mut state = lock(&self.state);
        state.latest = Some(Arc::clone(&message));
        let missed = |subscriber: &Arc<Subscriber>| {
            let before = lock(&subscriber.place).next.replace(Arc::clone(&message));
            subscriber.changed.notify_all();
            u64::from(before.is_some())
        };
        state.subscribers.iter().map(missed).sum()
    }

    /// Lets subscribers in until it is time to end.
    ///
    /// # Errors
    /// The door cannot be waited at any more.
    pub fn run(&self, listener: &Listener, stop: &Stop, metrics: &Metrics) -> io::Result<()> {
        std::thread::scope(|scope| {
            let ended = loop {
                let mut stream = match listener.accept(stop) {
                    Ok(Some(stream)) => stream,
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                };
                let Some(subscriber) = self.enter() else {
                    metrics.change(|counts| counts.refused += 1);
                    continue;
                };
                let Ok(ear) = stream.try_clone() else {
                    self.leave(&subscriber);
                    continue;
                };
                let of = Arc::clone(&subscriber);
                scope.spawn(move || {
                    listen(ear, stop);
                    of.end();
                });
                scope.spawn(move || {
                    if self.serve(&subscriber, &mut stream).is_err() && !stop.is_said() {
                        metrics.change(|counts| counts.sent_away += 1);
                    }
                    stream.hang_up();
                    self.leave(&subscriber);
                });
            };
            lock(&self.state).subscribers.iter().for_each(|subscriber| subscriber.end());
            if ended.is_err() {
                // Nobody is let in any more: those that listen have to end, too.
                stop.say();
            }
            ended
        })
    }

    /// A place for a new subscriber, with the newest image in it.
    fn enter(&self) -> Option<Arc<Subscriber>> {
        let mut state = lock(&self.state);
        if state.subscribers.len() >= SUBSCRIBERS_MAX {
            return None;
        }
        let place = Place { next: state.latest.clone(), gone: false };
        let subscriber = Arc::new(Subscriber { place: Mutex::new(place), changed: Condvar::new() });
        state.subscribers.push(Arc::clone(&subscriber));
        Some(subscriber)
    }

    fn leave(&self, subscriber: &Arc<Subscriber>) {
        lock(&self.state).subscribers.retain(|other| !Arc::ptr_eq(other, subscriber));
    }

    fn serve(&self, subscriber: &Subscriber, stream: &mut Stream) -> io::Result<()> {
        stream.set_patience(PATIENCE)?;
        if let Some(greeting) = &self.greeting {
            stream.write_all(greeting)?;
        }
        while let Some(message) = subscriber.next() {
            match stream.write_all(&message) {
                // Who has hung up is not sent away.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) =>
                {
                    break;
                }
                done => done?,
            }
        }
        Ok(())
    }
}

impl Subscriber {
    /// The next image, waited for; none once either end has enough.
    fn next(&self) -> Option<Message> {
        let mut place = lock(&self.place);
        loop {
            if place.gone {
                return None;
            }
            if let Some(message) = place.next.take() {
                return Some(message);
            }
            place = self.changed.wait(place).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn end(&self) {
        lock(&self.place).gone = true;
        self.changed.notify_all();
    }
}

/// Viewers may ask for what they get anyway; what they say is read and left, until they hang up.
fn listen(mut ear: Stream, stop: &Stop) {
    let mut words = [0; 4096];
    while stop.wait(&ear).unwrap_or(false) {
        match ear.read(&mut words) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    // A write that waits for the other end hears of it.
    ear.hang_up();
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_image_waits_and_the_others_are_counted() {
        let hub = Hub::new(None);
        assert_eq!(hub.publish(vec![0]), 0);
        let subscriber = hub.enter().unwrap();
        // Who comes gets the newest at once.
        assert_eq!(*subscriber.next().unwrap(), [0]);
        assert_eq!((hub.publish(vec![1]), hub.publish(vec![2]), hub.publish(vec![3])), (0, 1, 1));
        assert_eq!(*subscriber.next().unwrap(), [3]);
        subscriber.end();
        assert!(subscriber.next().is_none());
        hub.leave(&subscriber);
        assert_eq!(hub.subscribers(), 0);
    }

    #[test]
    fn there_is_room_for_so_many() {
        let hub = Hub::new(None);
        let all: Vec<_> = (0..SUBSCRIBERS_MAX).map(|_| hub.enter().unwrap()).collect();
        assert!(hub.enter().is_none());
        hub.leave(&all[7]);
        assert!(hub.enter().is_some());
    }
}
