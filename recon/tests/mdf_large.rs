//! A file of 300 MB is written, checked and read in parts. This test is a program of its own, so that its peak memory
//! is that of nothing else.
#![allow(
    clippy::unwrap_used,
    reason = "clippy.toml lets only functions marked as tests unwrap, not their helpers"
)]

mod common;

use common::{PEAK_KIB_MAX, measurement, model, peak_kib};
use hatchway_recon::mdf::write::{DataShape, ElementType, Options};
use hatchway_recon::mdf::{Array, File, Mdf, MeasurementData, Writer, check};
use num_complex::Complex;

/// 1 x 2 x 2501 rows of 7500 positions: 300 MB of Complex64, as a system matrix has.
const CHANNELS: usize = 2;
const FREQUENCIES: usize = 2501;
const FRAMES: usize = 7500;

/// Exact in Float32.
fn value(row: usize, frame: usize) -> Complex<f32> {
    Complex::new(f32::from(u16::try_from(row).unwrap()), -f32::from(u16::try_from(frame).unwrap()))
}

fn matrix() -> Mdf {
    let mut mdf = model(FRAMES);
    mdf.acquisition.receiver.num_sampling_points = 5000;
    mdf.acquisition.receiver.bandwidth = 2500.0 / 652.8e-6;
    mdf.acquisition.receiver.transfer_function = None;
    mdf.measurement = Some(measurement(FRAMES, true, true));
    if let Some(calibration) = &mut mdf.calibration {
        calibration.size = Some(Array::new(&[3], vec![25, 20, 15]));
    }
    mdf
}

#[test]
fn a_large_file_takes_little_memory() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path().join("large.mdf");
    let shape = [1, CHANNELS as u64, FREQUENCIES as u64, FRAMES as u64];
    let shape = DataShape { shape, element: ElementType::Complex64 };
    let mut writer = Writer::create(&path, &matrix(), Some(&shape), Options::default()).unwrap();
    for row in 0..CHANNELS * FREQUENCIES {
        let values: Vec<_> = (0..FRAMES).map(|frame| value(row, frame)).collect();
        writer.append(&values).unwrap();
    }
    writer.finish().unwrap();
    assert!(path.metadata().unwrap().len() > 300_000_000);

    let file = File::open(&path).unwrap();
    let mut parts = 0;
    let report = check::check(&file, &mut |_, _| parts += 1);
    assert_eq!(report.findings, []);
    assert!(parts > 30, "read in {parts} parts");
    let (mdf, _) = Mdf::read(&file).unwrap();
    let data = MeasurementData::open(&file, &mdf).unwrap();
    let rows: Vec<Complex<f32>> = data.read_rows(0, 1, 2499..2501).unwrap();
    let expected: Vec<_> =
        [5000, 5001].iter().flat_map(|row| (0..FRAMES).map(|frame| value(*row, frame))).collect();
    assert!(rows == expected);
    let frames: Vec<Complex<f32>> = data.read_frames(7498..7500).unwrap();
    let expected: Vec<_> = [7498, 7499]
        .iter()
        .flat_map(|frame| (0..CHANNELS * FREQUENCIES).map(|row| value(row, *frame)))
        .collect();
    assert!(frames == expected);
    assert!(peak_kib() < PEAK_KIB_MAX, "{} KiB at the peak", peak_kib());
}
