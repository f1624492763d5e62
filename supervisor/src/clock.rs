//! Moments for people.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Now, in nanoseconds of `CLOCK_REALTIME`.
#[must_use]
pub(crate) fn now_ns() -> i64 {
    i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// In this machine's time zone, to the millisecond, with the zone's distance from UTC (RFC 3339).
#[must_use]
pub(crate) fn shown(realtime_ns: i64) -> String {
    match Timestamp::from_nanosecond(realtime_ns.into()) {
        Ok(moment) => moment.to_zoned(TimeZone::system()).strftime("%Y-%m-%dT%H:%M:%S.%3f%:z").to_string(),
        Err(_) => format!("{realtime_ns} ns"),
    }
}

/// A clock that differs by more from what it was has been set; less is drift, and how exactly two clocks are read.
const STEP_NS: i64 = 1_000_000_000;

/// By how much the clock was set between two moments of a boot, each on `CLOCK_REALTIME` and `CLOCK_MONOTONIC`.
pub(crate) fn step_between(before: (i64, u64), after: (i64, u64)) -> Option<i64> {
    let step = zero(after).saturating_sub(zero(before));
    (step.saturating_abs() > STEP_NS).then_some(step)
}

/// What `CLOCK_REALTIME` said when `CLOCK_MONOTONIC` was at zero, or would have, as it was set later.
fn zero((realtime_ns, monotonic_ns): (i64, u64)) -> i64 {
    realtime_ns.saturating_sub(i64::try_from(monotonic_ns).unwrap_or(i64::MAX))
}

/// A step, for a person.
pub(crate) fn step_told(step: i64) -> String {
    let whole = Duration::from_secs(step.unsigned_abs().saturating_add(STEP_NS as u64 / 2) / STEP_NS as u64);
    let way = if step < 0 { "back" } else { "forward" };
    format!("the clock was set {way} by {} s", whole.as_secs())
}

/// A moment of this boot.
#[derive(Debug, Clone)]
pub struct Now {
    /// Which boot.
    pub boot: String,
    /// `CLOCK_MONOTONIC`.
    pub monotonic: Duration,
}

impl Now {
    /// Now.
    #[must_use]
    pub fn get() -> Self {
        Self { boot: boot(), monotonic: monotonic() }
    }

    /// What the clock would have said at a moment if it had been set then as it is now. Where nobody has set it, that is what it said.
    #[must_use]
    pub(crate) fn as_set(&self, boot: &str, (realtime_ns, monotonic_ns): (i64, u64)) -> i64 {
        // Both read at once: what has passed since this moment was taken is no step.
        let own = u64::try_from(monotonic().as_nanos()).unwrap_or(u64::MAX);
        let step = step_between((realtime_ns, monotonic_ns), (now_ns(), own));
        realtime_ns.saturating_add(step.filter(|_| boot == self.boot).unwrap_or_default())
    }
}

/// `CLOCK_MONOTONIC`.
fn monotonic() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or_default());
    seconds + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or_default())
}

/// Names this boot of the machine (random(4)).
#[must_use]
fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_is_noticed_and_moments_before_are_moved() {
        let (second, hour) = (1_000_000_000, 3_600_000_000_000);
        assert_eq!(step_between((5 * second, 1_000), (6 * second, 1_000_000_900)), None);
        let back = step_between((2 * hour, 0), (hour + second, 1_000_000_000)).unwrap();
        assert_eq!(back, -hour);
        assert_eq!(step_told(back), "the clock was set back by 3600 s");
        assert_eq!(step_told(hour), "the clock was set forward by 3600 s");
        let now = Now::get();
        let monotonic = u64::try_from(now.monotonic.as_nanos()).unwrap();
        let then = now_ns() - 10 * hour;
        // It said something else ten hours ago, which was just now.
        assert!((now.as_set(&now.boot, (then, monotonic)) - now_ns()).abs() < second);
        // However long ago somebody has looked.
        let long_ago = Now { monotonic: Duration::ZERO, ..now.clone() };
        assert_eq!(long_ago.as_set(&now.boot, (now_ns(), monotonic)) / hour, now_ns() / hour);
        assert_eq!(now.as_set("another", (then, monotonic)), then);
        assert_eq!(now.as_set(&now.boot, (now_ns() + 5, monotonic)) / hour, now_ns() / hour);
    }

    #[test]
    fn a_moment_has_milliseconds_and_its_zone() {
        let text = super::shown(1_700_000_000_123_456_789);
        assert!(text.starts_with("2023-11-1") && text.contains(".123"), "{text}");
        assert!(text.len() == "2023-11-14T22:13:20.123+00:00".len(), "{text}");
    }
}
