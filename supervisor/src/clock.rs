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
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let seconds = Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or_default());
        let rest = Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or_default());
        Self { boot: boot(), monotonic: seconds + rest }
    }
}

/// Names this boot of the machine (random(4)).
#[must_use]
fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_moment_has_milliseconds_and_its_zone() {
        let text = super::shown(1_700_000_000_123_456_789);
        assert!(text.starts_with("2023-11-1") && text.contains(".123"), "{text}");
        assert!(text.len() == "2023-11-14T22:13:20.123+00:00".len(), "{text}");
    }
}
