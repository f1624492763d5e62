//! Moments for people.

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

#[cfg(test)]
mod tests {
    #[test]
    fn a_moment_has_milliseconds_and_its_zone() {
        let text = super::shown(1_700_000_000_123_456_789);
        assert!(text.starts_with("2023-11-1") && text.contains(".123"), "{text}");
        assert!(text.len() == "2023-11-14T22:13:20.123+00:00".len(), "{text}");
    }
}
