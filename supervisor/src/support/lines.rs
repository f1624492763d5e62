//! The log of a run as a support archive has it.

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use hatchway_wire::log::{DATA_MAX, Head, RECORD, Record, Stream};
use serde_json::{Map, Value};

use super::{Logs, Redactor};
use crate::units::{Line, Reader};

/// What a line takes beside its text, here and in the segment.
const OVERHEAD: usize = RECORD + 1 + size_of::<(Line, u64)>();
/// So far a time in a line may be from when it was said: ten years.
const FAR_NS: i128 = 10 * 365 * 86_400 * 1_000_000_000;
const TIMES: &[&str] = &["time", "ts", "timestamp", "@timestamp", "t"];
const LEVELS: &[&str] = &["level", "lvl", "severity", "priority", "loglevel"];
const CODES: &[&str] = &["code", "errno", "exit_code", "exitcode", "line"];
const LEVEL_WORDS: &[&str] = &[
    "trace",
    "debug",
    "verbose",
    "info",
    "information",
    "notice",
    "warn",
    "warning",
    "error",
    "err",
    "critical",
    "crit",
    "fatal",
    "alert",
    "emerg",
    "panic",
];

/// A run's last lines as one segment of a log, at most so many bytes of them; what is left out counts as missing, and is said.
pub(super) fn segment(
    folder: &Path,
    logs: Logs,
    most: usize,
    redactor: &mut Redactor,
) -> io::Result<(Vec<u8>, bool)> {
    let mut reader = Reader::new(folder);
    reader.hold()?;
    let mut kept: VecDeque<(Line, u64)> = VecDeque::new();
    let (mut size, mut before) = (0_usize, [0_u64; 3]);
    loop {
        let lines = reader.lines(true)?;
        if lines.is_empty() {
            break;
        }
        for mut line in lines {
            let said = length(&line);
            line.text = told(&line, logs, redactor);
            size = size.saturating_add(line.text.len() + OVERHEAD);
            kept.push_back((line, said));
            while size > most
                && let Some((line, said)) = kept.pop_front()
            {
                size = size.saturating_sub(line.text.len() + OVERHEAD);
                let count = &mut before[line.stream.index()];
                *count = count.saturating_add(line.missing).saturating_add(said);
            }
        }
    }
    let is_cut = before.iter().any(|count| *count > 0);
    Ok((written(kept.iter().map(|(line, _)| line), before), is_cut))
}

/// With its end.
fn length(line: &Line) -> u64 {
    u64::try_from(line.text.len()).unwrap_or(u64::MAX).saturating_add(1)
}

fn written<'a>(lines: impl Iterator<Item = &'a Line>, mut before: [u64; 3]) -> Vec<u8> {
    let mut bytes = Head { number: 1, before: [0; 3] }.bytes().to_vec();
    for line in lines {
        let index = line.stream.index();
        before[index] = before[index].saturating_add(line.missing);
        let text = format!("{}\n", line.text);
        // A line is shorter than what one record holds but for its end.
        for part in text.as_bytes().chunks(DATA_MAX) {
            let record = Record {
                length: part.len(),
                stream: line.stream,
                realtime_ns: line.realtime_ns,
                before: before[index],
            };
            bytes.extend(record.bytes());
            bytes.extend(part);
            before[index] = before[index].saturating_add(u64::try_from(part.len()).unwrap_or(u64::MAX));
        }
    }
    bytes
}

fn told(line: &Line, logs: Logs, redactor: &mut Redactor) -> String {
    match (logs, line.stream) {
        (Logs::Raw, _) => line.text.clone(),
        // Hatchway's own words.
        (_, Stream::Remark) => redactor.text(&line.text),
        _ => match serde_json::from_str::<Map<String, Value>>(&line.text) {
            Ok(fields) => chosen(&fields, line.realtime_ns),
            Err(_) => format!("[{} bytes]", line.text.len()),
        },
    }
}

/// Of a line that is a JSON object, when, how bad and which number: nothing else in it is known to be harmless.
fn chosen(fields: &Map<String, Value>, said_ns: i64) -> String {
    let keep = |key: &str, value: &Value| {
        let key = key.to_ascii_lowercase();
        TIMES.contains(&key.as_str()) && is_time(value, said_ns)
            || LEVELS.contains(&key.as_str()) && is_level(value)
            || CODES.contains(&key.as_str()) && value.as_i64().is_some_and(|code| code.abs() < 100_000)
    };
    let mut told: Map<String, Value> = fields
        .iter()
        .filter(|(key, value)| keep(key, value))
        .map(|(key, value)| (key.to_ascii_lowercase(), value.clone()))
        .collect();
    let left = fields.len().saturating_sub(told.len());
    if left > 0 {
        told.insert("left-out".to_owned(), left.into());
    }
    Value::Object(told).to_string()
}

fn is_level(value: &Value) -> bool {
    let word = value.as_str().is_some_and(|word| LEVEL_WORDS.contains(&word.to_ascii_lowercase().as_str()));
    word || value.as_u64().is_some_and(|number| number < 100)
}

/// A time that is one: near to when the line was said, so that no other number passes for it.
fn is_time(value: &Value, said_ns: i64) -> bool {
    let near = |ns: i128| (ns - i128::from(said_ns)).abs() < FAR_NS;
    match value {
        Value::String(text) => {
            text.len() <= 35 && text.parse::<jiff::Timestamp>().is_ok_and(|time| near(time.as_nanosecond()))
        }
        Value::Number(number) => {
            #[allow(clippy::cast_possible_truncation, reason = "what does not fit is far from any time")]
            let number = number.as_f64().unwrap_or_default() as i128;
            [1_000_000_000, 1_000_000, 1000, 1].into_iter().any(|scale| near(number.saturating_mul(scale)))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::redact::Names;
    use super::*;

    const SAID: i64 = 1_796_000_000_000_000_000;

    fn line(text: &str) -> Line {
        Line { realtime_ns: SAID, stream: Stream::Out, missing: 0, text: text.to_owned() }
    }

    fn structured(text: &str) -> String {
        let mut redactor = Redactor::new(Vec::new(), Names::default());
        told(&line(text), Logs::Structured, &mut redactor)
    }

    #[test]
    fn of_structured_lines_time_level_and_code_are_kept() {
        let text = r#"{"ts":1796000000.25,"level":"WARN","code":17,"msg":"for ada","password":"x"}"#;
        assert_eq!(structured(text), r#"{"code":17,"left-out":2,"level":"WARN","ts":1796000000.25}"#);
        let text =
            r#"{"time":"2026-11-30T10:00:00Z","level":"hunter2","code":88374627,"t":4111222233334444}"#;
        assert_eq!(structured(text), r#"{"left-out":3,"time":"2026-11-30T10:00:00Z"}"#);
        assert_eq!(structured("password is hunter2"), "[19 bytes]");
        assert_eq!(structured("[\"hunter2\"]"), "[11 bytes]");
    }

    #[test]
    fn what_is_left_out_of_a_log_counts_as_missing() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join(hatchway_wire::log::FOLDER);
        std::fs::create_dir(&log).unwrap();
        let lines: Vec<Line> = (0..50).map(|n| line(&format!("line {n:04}"))).collect();
        std::fs::write(log.join(hatchway_wire::log::name(1)), written(lines.iter(), [0; 3])).unwrap();
        let mut redactor = Redactor::new(Vec::new(), Names::default());
        let (bytes, is_cut) = segment(folder.path(), Logs::Raw, 10 * (9 + OVERHEAD), &mut redactor).unwrap();
        assert!(is_cut);
        std::fs::write(log.join(hatchway_wire::log::name(1)), bytes).unwrap();
        let mut reader = Reader::new(folder.path());
        let mut all = Vec::new();
        loop {
            match reader.lines(true).unwrap() {
                lines if lines.is_empty() => break,
                lines => all.extend(lines),
            }
        }
        // Ten bytes each with their ends.
        assert_eq!((all.len(), all[0].missing, all[0].text.as_str()), (10, 400, "line 0040"));
        assert!(all[1..].iter().all(|line| line.missing == 0));
    }
}
