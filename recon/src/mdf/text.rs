//! The two kinds of text that MDF gives a form: UUIDs and times.

use std::io::{self, Read};

/// Whether a text is a UUID of version 4 in its canonical form (RFC 9562, sections 4 and 5.4). Capitals are accepted:
/// the RFC has readers take both.
#[must_use]
pub fn is_uuid_v4(text: &str) -> bool {
    let bytes = text.as_bytes();
    let dash = |at: usize| matches!(at, 8 | 13 | 18 | 23);
    bytes.len() == 36
        && bytes
            .iter()
            .enumerate()
            .all(|(at, byte)| if dash(at) { *byte == b'-' } else { byte.is_ascii_hexdigit() })
        && bytes.get(14) == Some(&b'4')
        && bytes.get(19).is_some_and(|byte| b"89abAB".contains(byte))
}

/// A new UUID of version 4 from the system's random numbers.
///
/// # Errors
///
/// The system gives none.
pub fn new_uuid() -> io::Result<String> {
    let mut bytes = [0_u8; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    // Version and variant have their bits in bytes 6 and 8.
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    Ok(text)
}

/// The time in UTC as MDF writes it.
#[must_use]
pub fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%3f").to_string()
}

/// Whether a text is a time as MDF has it: `yyyy-mm-ddThh:mm:ss`, with or without decimals of a second, and a day that
/// exists. A leap second is one.
#[must_use]
pub fn is_time(text: &str) -> bool {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return false;
    }
    let pattern = b"dddd-dd-ddTdd:dd:dd";
    let fits = |(byte, kind): (u8, &u8)| if *kind == b'd' { byte.is_ascii_digit() } else { byte == *kind };
    if whole.len() != pattern.len() || !whole.bytes().zip(pattern).all(fits) {
        return false;
    }
    let number = |from: usize, to: usize| {
        whole.get(from..to).and_then(|part| part.parse::<u32>().ok()).unwrap_or(u32::MAX)
    };
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    (1..=days(year, month)).contains(&day)
        && number(11, 13) < 24
        && number(14, 16) < 60
        && number(17, 19) <= 60
}

/// Days of a month in the Gregorian calendar; 0 for a month that is none.
fn days(year: u32, month: u32) -> u32 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids() {
        assert!(is_uuid_v4("4b0ffb84-29f5-4388-92f3-64a7f8d0a2ba"));
        for wrong in [
            "",
            "4b0ffb84-29f5-1388-92f3-64a7f8d0a2ba",
            "4b0ffb84-29f5-4388-72f3-64a7f8d0a2ba",
            "4b0ffb8429f5438892f364a7f8d0a2ba",
            "{4b0ffb84-29f5-4388-92f3-64a7f8d0a2b}",
            "4b0ffb84-29f5-4388-92f3-64a7f8d0a2bg",
        ] {
            assert!(!is_uuid_v4(wrong), "{wrong}");
        }
        let (one, other) = (new_uuid().unwrap(), new_uuid().unwrap());
        assert!(is_uuid_v4(&one) && is_uuid_v4(&other) && one != other);
    }

    #[test]
    fn times() {
        for right in ["2016-02-08T14:28:34.673", "2024-02-29T00:00:00", "2016-12-31T23:59:60.0"] {
            assert!(is_time(right), "{right}");
        }
        for wrong in [
            "",
            "2016-02-08 14:28:34.673",
            "2023-02-29T00:00:00.0",
            "2016-13-01T00:00:00.0",
            "2016-01-00T00:00:00.0",
            "2016-01-01T24:00:00.0",
            "2016-01-01T00:00:00.",
            "2016-01-01T00:00:00.0Z",
            "16-01-01T00:00:00.0",
        ] {
            assert!(!is_time(wrong), "{wrong}");
        }
    }
}
