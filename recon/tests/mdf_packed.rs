//! A compressed file of 300 MB is read in parts. This test is a program of its own, so that its peak memory is that of
//! nothing else.
#![allow(
    clippy::unwrap_used,
    reason = "clippy.toml lets only functions marked as tests unwrap, not their helpers"
)]

mod common;

use common::{PEAK_KIB_MAX, oracle, peak_kib};
use hatchway_recon::mdf::{File, Mdf, MeasurementData, Severity, check};
use num_complex::Complex;

const FRAMES: usize = 7500;
/// Of two channels, 2501 each.
const ROWS: usize = 5002;

/// `hdf5-pure` would decode all of it for one row: the first dimension has one period.
#[test]
fn a_compressed_file_takes_little_memory() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path().join("packed.mdf");
    oracle(&["large", path.to_str().unwrap()]);
    assert!(path.metadata().unwrap().len() < 20_000_000);
    let file = File::open(&path).unwrap();
    let report = check::check(&file, &mut |_, _| {});
    assert_eq!(report.count(Severity::Violation), 0, "{:?}", report.findings);
    let (mdf, _) = Mdf::read(&file).unwrap();
    let data = MeasurementData::open(&file, &mdf).unwrap();
    let rows: Vec<Complex<f32>> = data.read_rows(0, 1, 2499..2501).unwrap();
    assert_eq!(rows.len(), 2 * FRAMES);
    let is = |(at, value): (usize, &Complex<f32>)| {
        let number = if at < FRAMES { 5000.0 } else { 5001.0 };
        *value == Complex::new(number, -number)
    };
    assert!(rows.iter().enumerate().all(is));
    let frames: Vec<Complex<f32>> = data.read_frames(7499..7500).unwrap();
    assert!(
        frames.iter().zip(0_u16..).all(|(value, row)| value.re == f32::from(row) && value.im == -value.re)
    );
    assert_eq!(frames.len(), ROWS);
    assert!(peak_kib() < PEAK_KIB_MAX, "{} KiB at the peak", peak_kib());
}
