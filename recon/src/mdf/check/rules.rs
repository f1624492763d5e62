//! Rules about single values: forms, ranges, and whether they make sense together.

use super::Finding;
use super::dims::all_frequencies;
use super::facts::Facts;
use crate::mdf::fields::{FIELDS, Type};
use crate::mdf::text::{is_time, is_uuid_v4};
use crate::mdf::value::Kind;

/// Versions that the table of fields describes.
const VERSIONS: [&str; 3] = ["2.0.0", "2.0.1", "2.1.0"];
/// Drive fields of scanners are some 10 mT; above this, a unit is likely wrong.
const DRIVE_FIELD_T_MAX: f64 = 1.0;
/// Gradients of scanners are some T/m.
const GRADIENT_T_PER_M_MAX: f64 = 100.0;
/// Bores are some 10 cm; above this, millimetres were likely written as metres.
const LENGTH_M_MAX: f64 = 2.0;

/// Texts that are one of a few words.
const WORDS: [(&str, &[&str]); 5] = [
    ("/version", &VERSIONS),
    ("/acquisition/drivefield/waveform", &["sine", "triangle", "custom"]),
    ("/calibration/method", &["robot", "hybrid", "simulation"]),
    ("/calibration/order", &["xyz", "xzy", "yxz", "yzx", "zxy", "zyx"]),
    ("/reconstruction/order", &["xyz", "xzy", "yxz", "yzx", "zxy", "zyx"]),
];

/// Magnitudes beyond which a unit is likely wrong.
const MAGNITUDES: [(&str, f64, &str); 7] = [
    ("/acquisition/drivefield/strength", DRIVE_FIELD_T_MAX, "T"),
    ("/acquisition/gradient", GRADIENT_T_PER_M_MAX, "T/m"),
    ("/scanner/boreSize", LENGTH_M_MAX, "m"),
    ("/calibration/fieldOfView", LENGTH_M_MAX, "m"),
    ("/calibration/positions", LENGTH_M_MAX, "m"),
    ("/calibration/deltaSampleSize", LENGTH_M_MAX, "m"),
    ("/reconstruction/fieldOfView", LENGTH_M_MAX, "m"),
];

pub(super) fn check(facts: &Facts<'_>, findings: &mut Vec<Finding>) {
    forms(facts, findings);
    words(facts, findings);
    magnitudes(facts, findings);
    positive(facts, findings);
    period(facts, findings);
    spectra(facts, findings);
    permutation(facts, findings);
    selection(facts, findings);
}

/// Flags, UUIDs and times.
fn forms(facts: &Facts<'_>, findings: &mut Vec<Finding>) {
    for field in FIELDS {
        let wrong = match field.kind {
            Type::Flag => facts
                .ints(field.path)
                .and_then(|all| all.iter().find(|flag| !matches!(flag, 0 | 1)))
                .map(i64::to_string),
            Type::Uuid => first_not(facts, field.path, is_uuid_v4),
            Type::Time => first_not(facts, field.path, is_time),
            _ => None,
        };
        if let Some(found) = wrong {
            findings.push(Finding::violation(field.path, found, field.kind.name()));
        }
    }
}

fn first_not(facts: &Facts<'_>, path: &str, is: impl Fn(&str) -> bool) -> Option<String> {
    facts.texts(path)?.iter().find(|text| !is(text)).map(|text| quoted(text))
}

/// A file's text for a message, shortened.
fn quoted(text: &str) -> String {
    let short: String = text.chars().take(40).collect();
    format!("`{short}{}`", if short.len() < text.len() { "…" } else { "" })
}

fn words(facts: &Facts<'_>, findings: &mut Vec<Finding>) {
    for (path, allowed) in WORDS {
        if let Some(found) = first_not(facts, path, |text| allowed.contains(&text)) {
            findings.push(Finding::violation(path, found, format!("one of {}", allowed.join(", "))));
        }
    }
}

fn magnitudes(facts: &Facts<'_>, findings: &mut Vec<Finding>) {
    for (path, limit, unit) in MAGNITUDES {
        let largest =
            facts.floats(path).map(|all| all.iter().fold(0.0_f64, |most, value| most.max(value.abs())));
        if let Some(largest) = largest.filter(|largest| *largest > limit) {
            findings.push(Finding::warning(
                path,
                format!("up to {largest} {unit}"),
                format!("at most {limit} {unit}"),
            ));
        }
    }
}

fn positive(facts: &Facts<'_>, findings: &mut Vec<Finding>) {
    for path in ["baseFrequency", "cycle"].map(|name| format!("/acquisition/drivefield/{name}")) {
        if let Some(value) = facts.float(&path).filter(|value| *value <= 0.0) {
            findings.push(Finding::warning(&path, value.to_string(), "above 0"));
        }
    }
    let path = "/acquisition/receiver/bandwidth";
    if let Some(value) = facts.float(path).filter(|value| *value <= 0.0) {
        findings.push(Finding::warning(path, value.to_string(), "above 0"));
    }
    for path in [
        "/acquisition/drivefield/divider",
        "/acquisition/numAverages",
        "/calibration/size",
        "/reconstruction/size",
    ] {
        if let Some(value) = facts.ints(path).and_then(|all| all.iter().find(|value| **value < 1)) {
            findings.push(Finding::violation(path, value.to_string(), "at least 1"));
        }
    }
}

/// A period has as many samples as the sampling rate of twice the bandwidth gives.
fn period(facts: &Facts<'_>, findings: &mut Vec<Finding>) {
    let bandwidth = facts.float("/acquisition/receiver/bandwidth");
    let cycle = facts.float("/acquisition/drivefield/cycle");
    let path = "/acquisition/receiver/numSamplingPoints";
    let (Some(bandwidth), Some(cycle), Some(points)) = (bandwidth, cycle, facts.float(path)) else { return };
    let expected = 2.0 * bandwidth * cycle;
    if bandwidth > 0.0 && cycle > 0.0 && (expected - points).abs() > 0.5 {
        findings.push(Finding::warning(
            path,
            points.to_string(),
            format!("2 x bandwidth x cycle = {expected:.1}"),
        ));
    }
}

/// Spectra are complex, and samples are real.
fn spectra(facts: &Facts<'_>, findings: &mut Vec<Finding>) {
    let Some(stored) = facts.stored("/measurement/data") else { return };
    super::facts::check_storage(stored, findings);
    let (Some(spectra), Kind::Numeric(numeric)) =
        (facts.flag("/measurement/isFourierTransformed"), stored.kind())
    else {
        return;
    };
    if spectra != numeric.is_complex() {
        let expected = if spectra {
            "complex, as isFourierTransformed is 1"
        } else {
            "real, as isFourierTransformed is 0"
        };
        findings.push(Finding::violation(stored.path(), numeric.name(), expected));
    }
}

/// Every frame once.
fn permutation(facts: &Facts<'_>, findings: &mut Vec<Finding>) {
    let path = "/measurement/framePermutation";
    let Some(order) = facts.ints(path) else { return };
    if facts.flag("/measurement/isFramePermutation") == Some(false) {
        findings.push(Finding::note(path, "present", "not needed, as isFramePermutation is 0"));
    }
    let mut sorted = order.to_vec();
    sorted.sort_unstable();
    let wrong = sorted.iter().zip(1_i64..).find(|(value, place)| *value != place);
    if let Some((_, place)) = wrong {
        let found = format!("does not have {place} exactly once");
        findings.push(Finding::violation(path, found, format!("a permutation of 1 to {}", order.len())));
    }
}

/// Frequencies that exist, each once, rising.
fn selection(facts: &Facts<'_>, findings: &mut Vec<Finding>) {
    let path = "/measurement/frequencySelection";
    let Some(chosen) = facts.ints(path) else { return };
    let most = all_frequencies(facts).and_then(|most| i64::try_from(most).ok()).unwrap_or(i64::MAX);
    if let Some(outside) = chosen.iter().find(|frequency| !(1..=most).contains(*frequency)) {
        findings.push(Finding::violation(path, outside.to_string(), format!("1 to V/2+1 = {most}")));
    }
    if chosen.is_sorted_by(|one, next| one < next) {
        return;
    }
    let mut sorted = chosen.to_vec();
    sorted.sort_unstable();
    match sorted.iter().zip(sorted.iter().skip(1)).find(|(one, next)| one == next) {
        Some((twice, _)) => {
            findings.push(Finding::violation(path, format!("{twice} twice"), "every frequency once"));
        }
        None => findings.push(Finding::warning(path, "not sorted", "rising frequencies")),
    }
}
