//! What systemd is told of the daemon (sd_notify(3)): that it is ready, and that it is alive. Without systemd nobody is told.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// How the daemon stands with systemd.
#[derive(Debug)]
pub(super) struct Systemd {
    /// Half of the time within which systemd wants a sign of life.
    every: Option<Duration>,
    due: Instant,
}

impl Systemd {
    pub(super) fn new() -> Self {
        let every = sd_notify::watchdog_enabled().map(|within| within / 2);
        Self { every, due: Instant::now() }
    }

    /// Tells that the daemon's own loop goes round, when it is time for it; the result is how long that is to the next time. It is called
    /// by that loop, so a daemon that hangs is found out.
    pub(super) fn alive(&mut self) -> Duration {
        let Some(every) = self.every else { return Duration::MAX };
        let now = Instant::now();
        if now >= self.due {
            tell(&[NotifyState::Watchdog]);
            self.due = now + every;
        }
        self.due.saturating_duration_since(now)
    }

    pub(super) fn ready(&self) {
        tell(&[NotifyState::Ready]);
    }

    pub(super) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(_) => tell(&[NotifyState::Reloading]),
        }
    }

    pub(super) fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }
}

/// That nobody hears it changes nothing.
fn tell(state: &[NotifyState<'_>]) {
    drop(sd_notify::notify(state));
}
