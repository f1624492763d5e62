//! Files that are wrong in one way each: exactly that is found, and nothing in files that are right.
#![allow(
    clippy::unwrap_used,
    reason = "clippy.toml lets only functions marked as tests unwrap, not their helpers"
)]

mod common;

use common::made;
use hatchway_recon::mdf::{File, Finding, Severity, check, check_bytes};

fn findings(kind: &str) -> Vec<Finding> {
    let made = made(kind);
    let report = check::check(&File::open(&made.path).unwrap(), &mut |_, _| {});
    let from_bytes = check_bytes(&std::fs::read(&made.path).unwrap()).unwrap();
    let severities =
        |all: &[Finding]| all.iter().map(|at| (at.severity, at.path.clone())).collect::<Vec<_>>();
    let (one, other) = (severities(&report.findings), severities(&from_bytes.findings));
    assert_eq!(one, other, "{kind}: the file and its bytes differ");
    report.findings
}

#[test]
fn nothing_is_wrong_with_valid_files() {
    for kind in ["time", "frequency-fast", "system", "dct-2", "reconstruction", "old", "fixed", "int16"] {
        assert_eq!(findings(kind), [], "{kind}");
    }
}

/// Kind, path, what is found, what is expected.
const VIOLATIONS: [[&str; 4]; 33] = [
    ["no-uuid", "/study/uuid", "missing", "a UUID of version 4, in every `/study`"],
    ["no-periods", "/acquisition/numPeriodsPerFrame", "missing", "Int64, in every `/acquisition`"],
    ["bad-uuid", "/uuid", "`no UUID`", "a UUID of version 4"],
    ["bad-time", "/acquisition/startTime", "`yesterday`", "a time yyyy-mm-ddThh:mm:ss.ms"],
    ["bad-version", "/version", "`1.0.5`", "one of 2.0.0, 2.0.1, 2.1.0"],
    ["no-scanner", "/scanner", "missing", "this group in every file"],
    ["text-number", "/study/number", "text", "Int64"],
    ["gradient-shape", "/acquisition/gradient", "an array of 2 x 1 x 3 x 2", "J x Y x 3 x 3"],
    ["frames", "/acquisition/numFrames", "N = 6", "N = 5, as /measurement/data has"],
    ["periods", "/acquisition/drivefield/phase", "J = 1", "J = 2, as /acquisition/numPeriodsPerFrame has"],
    ["real-spectrum", "/measurement/data", "Float64", "complex, as isFourierTransformed is 1"],
    ["rank", "/measurement/data", "an array of 5 x 2 x 16", "N x J x C x W"],
    ["frequencies", "/measurement/data", "K = 3", "K = 5, as /acquisition/receiver/numSamplingPoints has"],
    [
        "permutation",
        "/measurement/framePermutation",
        "does not have 15 exactly once",
        "a permutation of 1 to 15",
    ],
    [
        "no-selection",
        "/measurement/frequencySelection",
        "missing",
        "Int64, as /measurement/isFrequencySelection is 1",
    ],
    ["selection-range", "/measurement/frequencySelection", "6", "1 to V/2+1 = 5"],
    ["selection-twice", "/measurement/frequencySelection", "3 twice", "every frequency once"],
    ["background", "/measurement/isBackgroundFrame", "2", "Int8, 0 or 1"],
    ["grid", "/calibration/size", "O = 18", "O = 12, as /measurement/isBackgroundFrame has"],
    ["indices", "/measurement/subsamplingIndices", "9 indices outside of the grid", "1 to 12"],
    ["transformation", "/measurement/sparsityTransformation", "`DCT-V`", "DCT-I, DCT-II, DCT-III or DCT-IV"],
    ["unknown", "/measurement/extra", "a field that MDF has not", "a name that begins with `_`"],
    ["waveform", "/acquisition/drivefield/waveform", "`saw`", "one of sine, triangle, custom"],
    ["samples", "/measurement/data", "9 samples", "at most V = 8"],
    ["tracers", "/tracer/volume", "A = 3", "A = 2, as /tracer/batch has"],
    ["divider", "/acquisition/drivefield/divider", "0", "at least 1"],
    ["no-channels", "/acquisition/drivefield/numChannels", "0 or less", "D, at least 1"],
    [
        "sparse-order",
        "/measurement/isBackgroundFrame",
        "background before foreground",
        "background frames last in a sparse file",
    ],
    ["sparse-slow", "/measurement/isFastFrameAxis", "0", "1, as isSparsityTransformed is 1"],
    ["sparse-short", "/measurement/subsamplingIndices", "B = 4", "B = 5, as /measurement/data has"],
    [
        "function",
        "/acquisition/receiver/transferFunction",
        "K = 4",
        "K = 5, as /acquisition/receiver/numSamplingPoints has",
    ],
    ["half-float", "/measurement/data", "Float16", "a number"],
    [
        "huge",
        "/measurement/data",
        "claims 1152921504606846976 bytes (144115188075855872 x 1 x 1 x 1)",
        "a file of 32232 bytes cannot pack more than 33263424",
    ],
];

#[test]
fn one_mistake_is_one_violation() {
    for [kind, path, found, expected] in VIOLATIONS {
        let findings = findings(kind);
        let [finding] = &findings[..] else { panic!("{kind}: {findings:#?}") };
        assert_eq!(finding.severity, Severity::Violation, "{kind}");
        assert_eq!(
            [finding.path.as_str(), &finding.found, &finding.expected],
            [path, found, expected],
            "{kind}"
        );
    }
}

/// Kind, severity, path, what is found.
const OTHERS: [(&str, Severity, &str, &str); 7] = [
    ("attribute", Severity::Warning, "/uuid", "has an attribute"),
    ("nan", Severity::Warning, "/measurement/data", "1 value is NaN or infinite"),
    ("strong", Severity::Warning, "/acquisition/drivefield/strength", "up to 14 T"),
    ("no-base", Severity::Warning, "/acquisition/drivefield/baseFrequency", "0"),
    ("packed", Severity::Warning, "/measurement/data", "chunked and compressed"),
    ("unsigned", Severity::Warning, "/measurement/data", "UInt16"),
    ("beyond", Severity::Note, "/calibration/isMeanderingGrid", "a field that is not in MDF"),
];

#[test]
fn what_is_allowed_but_odd_is_told() {
    for (kind, severity, path, found) in OTHERS {
        let findings = findings(kind);
        let [finding] = &findings[..] else { panic!("{kind}: {findings:#?}") };
        assert_eq!(
            (finding.severity, finding.path.as_str(), finding.found.as_str()),
            (severity, path, found),
            "{kind}"
        );
    }
}

#[test]
fn groups_that_cannot_be_listed_are_read_by_name() {
    let findings = findings("soft-link");
    let [finding] = &findings[..] else { panic!("{findings:#?}") };
    assert_eq!((finding.severity, finding.path.as_str()), (Severity::Note, "/acquisition"));
}

/// `hdf5-pure` does not follow soft links, and says that bytes are missing.
#[test]
fn a_field_that_is_a_link_is_told() {
    let findings = findings("linked");
    let [finding, note] = &findings[..] else { panic!("{findings:#?}") };
    assert_eq!((finding.severity, note.severity), (Severity::Violation, Severity::Note));
    assert_eq!(finding.path, "/study/uuid");
    assert!(finding.expected.starts_with("soft links are not followed; `h5dump"), "{finding:?}");
}

#[test]
fn every_big_endian_number_is_told() {
    let findings = findings("big-endian");
    assert!(findings.iter().all(|finding| finding.severity == Severity::Warning));
    assert!(findings.iter().all(|finding| finding.found.contains("(big-endian)")), "{findings:#?}");
    assert_eq!(findings.len(), 21);
}
