//! Reads all data once and counts what is no number.

use super::Finding;
use super::facts::{Facts, unreadable};
use crate::mdf::Stored;
use crate::mdf::leaf::Value;
use crate::mdf::value::Kind;

/// Elements that are read at once; 16 MiB of Complex128.
const ELEMENTS_AT_ONCE: u64 = 1 << 20;

pub(super) fn check(facts: &Facts<'_>, findings: &mut Vec<Finding>, progress: &mut dyn FnMut(u64, u64)) {
    for seen in &facts.seen {
        let wrong = match facts.value(seen.field.path) {
            Some(Value::Float(all)) => all.iter().filter(|value| !value.is_finite()).count() as u64,
            Some(Value::Complex(all)) => all.iter().filter(|value| !value.is_finite()).count() as u64,
            _ => 0,
        };
        report(seen.field.path, wrong, findings);
    }
    for path in ["/measurement/data", "/reconstruction/data"] {
        if let Some(stored) = facts.stored(path) {
            match count(stored, progress) {
                Ok(wrong) => report(path, wrong, findings),
                Err(error) => findings.push(unreadable(path, &error)),
            }
        }
    }
}

fn report(path: &str, wrong: u64, findings: &mut Vec<Finding>) {
    if wrong > 0 {
        let found = if wrong == 1 { "1 value is".to_owned() } else { format!("{wrong} values are") };
        findings.push(Finding::warning(path, format!("{found} NaN or infinite"), "finite numbers"));
    }
}

fn count(stored: &Stored<'_>, progress: &mut dyn FnMut(u64, u64)) -> Result<u64, crate::Error> {
    let Kind::Numeric(numeric) = *stored.kind() else { return Ok(0) };
    let size = numeric.size as u64;
    let total = stored.elements() * size;
    // Whole rows of the first dimension where they are short, so that nothing is decoded twice.
    let row = (stored.elements() / stored.shape().first().copied().unwrap_or(1).max(1)).max(1);
    let step = if row < ELEMENTS_AT_ONCE { ELEMENTS_AT_ONCE / row * row } else { ELEMENTS_AT_ONCE };
    let (mut start, mut wrong) = (0, 0);
    while start < stored.elements() {
        let elements = step.min(stored.elements() - start);
        let raw = stored.run(start, elements)?;
        if !numeric.number.is_integer() {
            wrong +=
                numeric.elements(&raw).filter(|element| !numeric.complex(element).is_finite()).count() as u64;
        }
        start += elements;
        progress(start * size, total);
    }
    Ok(wrong)
}
