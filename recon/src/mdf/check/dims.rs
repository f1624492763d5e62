//! Lengths of dimensions over all fields: every letter of the specification has one value in a file.

use super::Finding;
use super::facts::{Facts, Seen, check_shape};
use crate::mdf::fields::{Dim, Field, Need};

/// One field that says how long a dimension is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Claim {
    dim: Dim,
    length: u64,
    path: &'static str,
}

/// Scalars that are lengths.
const COUNTS: [(&str, Dim); 5] = [
    ("/acquisition/numFrames", Dim::N),
    ("/acquisition/numPeriodsPerFrame", Dim::J),
    ("/acquisition/drivefield/numChannels", Dim::D),
    ("/acquisition/receiver/numChannels", Dim::C),
    ("/acquisition/receiver/numSamplingPoints", Dim::V),
];

pub(super) fn check(facts: &Facts<'_>, findings: &mut Vec<Finding>) {
    let mut claims = Vec::new();
    for (path, dim) in COUNTS {
        match facts.int(path).map(u64::try_from) {
            Some(Ok(length)) if length > 0 => claims.push(Claim { dim, length, path }),
            Some(_) => {
                findings.push(Finding::violation(path, "0 or less", format!("{}, at least 1", dim.symbol())));
            }
            None => {}
        }
    }
    frequencies(facts, &mut claims);
    frames(facts, &mut claims);
    grids(facts, &mut claims);
    for seen in facts.seen.iter().filter(|seen| seen.field.need != Need::Extension) {
        shape(facts, seen, &mut claims, findings);
    }
    compare(&claims, findings);
}

/// V/2+1, where it is known.
pub(super) fn all_frequencies(facts: &Facts<'_>) -> Option<u64> {
    let points = facts.int("/acquisition/receiver/numSamplingPoints")?;
    Some(u64::try_from(points).ok()? / 2 + 1)
}

/// K is V/2+1, unless frequencies are selected.
fn frequencies(facts: &Facts<'_>, claims: &mut Vec<Claim>) {
    if facts.flag("/measurement/isFourierTransformed") == Some(true)
        && facts.flag("/measurement/isFrequencySelection") == Some(false)
        && let Some(length) = all_frequencies(facts)
    {
        claims.push(Claim { dim: Dim::K, length, path: "/acquisition/receiver/numSamplingPoints" });
    }
}

/// Of a calibration, foreground frames are positions.
fn frames(facts: &Facts<'_>, claims: &mut Vec<Claim>) {
    let path = "/measurement/isBackgroundFrame";
    let (Some(flags), Some(_)) = (facts.ints(path), facts.stored("/calibration/method")) else { return };
    let frames = facts.int("/acquisition/numFrames").and_then(|frames| usize::try_from(frames).ok());
    if frames == Some(flags.len()) {
        let foreground = flags.iter().filter(|flag| **flag == 0).count() as u64;
        claims.push(Claim { dim: Dim::O, length: foreground, path });
    }
}

/// The product of a grid's size is its number of positions or voxels.
fn grids(facts: &Facts<'_>, claims: &mut Vec<Claim>) {
    for (path, dim) in [("/calibration/size", Dim::O), ("/reconstruction/size", Dim::P)] {
        let Some(size) = facts.ints(path) else { continue };
        let product =
            size.iter().try_fold(1_u64, |all, length| all.checked_mul(u64::try_from(*length).ok()?));
        if let Some(length) = product {
            claims.push(Claim { dim, length, path });
        }
    }
}

/// The shapes that a field may have here: the flags choose one for the data.
fn shapes(facts: &Facts<'_>, field: &'static Field) -> Vec<&'static [Dim]> {
    if field.path != "/measurement/data" {
        return field.shapes.to_vec();
    }
    let fast = facts.flag("/measurement/isFastFrameAxis");
    let spectra = facts.flag("/measurement/isFourierTransformed");
    // Files before version 2.1 have no flag for sparse rows.
    let sparse = facts.flag("/measurement/isSparsityTransformed").unwrap_or(false);
    let (Some(fast), Some(spectra)) = (fast, spectra) else { return Vec::new() };
    let wanted: &[Dim] = match (sparse, fast, spectra) {
        (true, _, _) => &[Dim::J, Dim::C, Dim::K, Dim::Sparse],
        (_, true, true) => &[Dim::J, Dim::C, Dim::K, Dim::N],
        (_, true, false) => &[Dim::J, Dim::C, Dim::W, Dim::N],
        (_, false, true) => &[Dim::N, Dim::J, Dim::C, Dim::K],
        (_, false, false) => &[Dim::N, Dim::J, Dim::C, Dim::W],
    };
    field.shapes.iter().filter(|shape| **shape == wanted).copied().collect()
}

fn shape(facts: &Facts<'_>, seen: &Seen<'_>, claims: &mut Vec<Claim>, findings: &mut Vec<Finding>) {
    let shapes = shapes(facts, seen.field);
    if shapes.is_empty() {
        return; // the flags are missing, which is reported
    }
    let Some(dims) = check_shape(seen, &shapes, findings) else { return };
    for (dim, length) in dims.iter().zip(seen.stored.shape()) {
        let (dim, length) = (*dim, *length);
        match dim {
            Dim::Two | Dim::Three => {}
            // A transfer function may be of all frequencies although only some are stored.
            Dim::K if seen.field.shapes.len() == 2 && Some(length) == all_frequencies(facts) => {}
            Dim::Sparse => sparse_row(facts, length, claims),
            Dim::W => samples(facts, length, findings),
            _ => claims.push(Claim { dim, length, path: seen.field.path }),
        }
    }
}

/// A sparse row has B coefficients, then E background frames.
fn sparse_row(facts: &Facts<'_>, length: u64, claims: &mut Vec<Claim>) {
    let Some(flags) = facts.ints("/measurement/isBackgroundFrame") else { return };
    let background = flags.iter().filter(|flag| **flag != 0).count() as u64;
    if let Some(kept) = length.checked_sub(background) {
        claims.push(Claim { dim: Dim::B, length: kept, path: "/measurement/data" });
    }
}

/// No more samples are stored than a period has.
fn samples(facts: &Facts<'_>, length: u64, findings: &mut Vec<Finding>) {
    let points =
        facts.int("/acquisition/receiver/numSamplingPoints").and_then(|points| u64::try_from(points).ok());
    if let Some(points) = points.filter(|points| length > *points) {
        let found = format!("{length} samples");
        findings.push(Finding::violation("/measurement/data", found, format!("at most V = {points}")));
    }
}

/// Every claim that differs from what most fields say; of as many on both sides, the earlier counts.
fn compare(claims: &[Claim], findings: &mut Vec<Finding>) {
    for claim in claims {
        let of_dim = || claims.iter().filter(|other| other.dim == claim.dim);
        let votes = |length: u64| of_dim().filter(|other| other.length == length).count();
        let Some(most) = of_dim().map(|other| votes(other.length)).max() else { continue };
        let Some(reference) = of_dim().find(|other| votes(other.length) == most) else { continue };
        if claim.length != reference.length {
            let symbol = claim.dim.symbol();
            let found = format!("{symbol} = {}", claim.length);
            let expected = format!("{symbol} = {}, as {} has", reference.length, reference.path);
            findings.push(Finding::violation(claim.path, found, expected));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_differs_is_named_with_one_that_does_not() {
        let claim = |dim, length, path| Claim { dim, length, path };
        let claims = [
            claim(Dim::N, 5, "/a"),
            claim(Dim::N, 4, "/b"),
            claim(Dim::J, 1, "/c"),
            claim(Dim::N, 4, "/d"),
            claim(Dim::J, 2, "/e"),
        ];
        let mut findings = Vec::new();
        compare(&claims, &mut findings);
        let expected = [
            Finding::violation("/a", "N = 5", "N = 4, as /b has"),
            Finding::violation("/e", "J = 2", "J = 1, as /c has"),
        ];
        assert_eq!(findings, expected);
    }
}
