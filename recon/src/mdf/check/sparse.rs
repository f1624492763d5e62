//! Rules of sparse system matrices: what the flags ask for, and indices that exist.

use super::Finding;
use super::facts::{Facts, unreadable};
use crate::mdf::dct::Transform;

/// Indices that are read at once.
const INDICES_AT_ONCE: u64 = 1 << 20;

pub(super) fn check(facts: &Facts<'_>, findings: &mut Vec<Finding>) {
    if facts.flag("/measurement/isSparsityTransformed") != Some(true) {
        return;
    }
    for flag in ["/measurement/isFastFrameAxis", "/measurement/isFourierTransformed"] {
        if facts.flag(flag) == Some(false) {
            findings.push(Finding::violation(flag, "0", "1, as isSparsityTransformed is 1"));
        }
    }
    let path = "/measurement/sparsityTransformation";
    if let Some(name) = facts.text(path)
        && Transform::parse(name).is_none()
    {
        findings.push(Finding::violation(path, format!("`{name}`"), "DCT-I, DCT-II, DCT-III or DCT-IV"));
    }
    foreground_first(facts, findings);
    indices(facts, findings);
}

fn foreground_first(facts: &Facts<'_>, findings: &mut Vec<Finding>) {
    let path = "/measurement/isBackgroundFrame";
    if let Some(flags) = facts.ints(path)
        && !flags.is_sorted()
    {
        findings.push(Finding::violation(
            path,
            "background before foreground",
            "background frames last in a sparse file",
        ));
    }
}

/// Indices are positions of the grid.
fn indices(facts: &Facts<'_>, findings: &mut Vec<Finding>) {
    let path = "/measurement/subsamplingIndices";
    let (Some(stored), Some(size)) = (facts.stored(path), facts.ints("/calibration/size")) else { return };
    let Some(most) = size.iter().try_fold(1_i64, |all, length| all.checked_mul(*length)) else { return };
    let Ok(numeric) = stored.numeric() else { return };
    let mut wrong = 0_u64;
    let mut start = 0;
    while start < stored.elements() {
        let count = INDICES_AT_ONCE.min(stored.elements() - start);
        match stored.run(start, count) {
            Ok(raw) => {
                let outside =
                    |element: &&[u8]| !numeric.integer(element).is_some_and(|at| (1..=most).contains(&at));
                wrong += numeric.elements(&raw).filter(outside).count() as u64;
            }
            Err(error) => return findings.push(unreadable(path, &error)),
        }
        start += count;
    }
    if wrong > 0 {
        findings.push(Finding::violation(
            path,
            format!("{wrong} indices outside of the grid"),
            format!("1 to {most}"),
        ));
    }
}
