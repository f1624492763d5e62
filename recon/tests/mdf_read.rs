//! Files that h5py wrote, read by us: every layout gives the numbers that the oracle has.
#![allow(
    clippy::unwrap_used,
    reason = "clippy.toml lets only functions marked as tests unwrap, not their helpers"
)]

mod common;

use common::{Made, made};
use hatchway_recon::Error;
use hatchway_recon::mdf::{File, Mdf, MeasurementData, Severity, Storage};
use num_complex::Complex;

fn open(made: &Made) -> (File, Mdf) {
    let file = File::open(&made.path).unwrap();
    let (mdf, _) = Mdf::read(&file).unwrap();
    (file, mdf)
}

/// Compares windows of frames, and every row, with the oracle's numbers.
fn compare(kind: &str, tolerance: f64) {
    let made = made(kind);
    let (file, mdf) = open(&made);
    let data = MeasurementData::open(&file, &mdf).unwrap();
    let [n, j, c, k] = made.numbers.shape[..] else { panic!("{:?}", made.numbers.shape) };
    assert_eq!([data.frames(), data.periods(), data.channels(), data.samples()], [n, j, c, k], "{kind}");
    let expected = made.numbers.complex();
    let near = |one: &[Complex<f64>], other: &[Complex<f64>]| {
        one.len() == other.len()
            && one.iter().zip(other).all(|(one, other)| (one - other).norm() <= tolerance)
    };
    for frames in [0..n, 0..1, n - 1..n, 1..3, 2..2] {
        let part = &expected[frames.start * j * c * k..frames.end * j * c * k];
        let read: Vec<Complex<f64>> = data.read_frames(frames.clone()).unwrap();
        assert!(near(&read, part), "{kind}: frames {frames:?}");
    }
    for (period, channel) in (0..j * c).map(|at| (at / c, at % c)) {
        for samples in [0..k, k - 1..k, 1..2] {
            let read: Vec<Complex<f64>> = data.read_rows(period, channel, samples.clone()).unwrap();
            let place = |at: usize| ((at % n * j + period) * c + channel) * k + samples.start + at / n;
            let part: Vec<_> = (0..samples.len() * n).map(|at| expected[place(at)]).collect();
            assert!(near(&read, &part), "{kind}: rows {period} {channel} {samples:?}");
        }
    }
}

#[test]
fn every_layout_has_one_order() {
    for kind in ["time", "time-fast", "frequency", "frequency-fast", "packed", "packed-fast"] {
        compare(kind, 0.0);
    }
}

#[test]
fn every_number_type_is_exact() {
    for kind in ["single", "int16", "int8", "unsigned", "big-endian", "system"] {
        compare(kind, 0.0);
    }
}

#[test]
fn deviations_that_are_no_harm_are_read() {
    for kind in [
        "old",
        "fixed",
        "one-element",
        "beyond",
        "soft-link",
        "userblock",
        "latest",
        "latest-packed",
        "unwritten",
    ] {
        compare(kind, 0.0);
    }
}

#[test]
fn sparse_rows_are_expanded() {
    for kind in ["dct-1", "dct-2", "dct-3", "dct-4", "dct-flat"] {
        compare(kind, 1e-13);
    }
}

#[test]
fn metadata_are_typed() {
    let (_, mdf) = open(&made("time"));
    assert_eq!(mdf.experiment.subject, "the subject \u{3b1}");
    assert_eq!(mdf.study.number, 3);
    assert!(!mdf.experiment.is_simulation);
    assert_eq!(mdf.scanner.bore_size, Some(0.12));
    assert_eq!(mdf.tracer.unwrap().volume.data, [1e-6, 2e-6]);
    let acquisition = mdf.acquisition;
    assert_eq!(acquisition.drive_field.divider.shape, [2, 1]);
    assert_eq!(acquisition.drive_field.divider.data, [102, 96]);
    assert_eq!(acquisition.sequence.gradient.unwrap().shape, [2, 1, 3, 3]);
    assert_eq!(acquisition.drive_field.waveform.data, ["sine", "sine"]);
    assert_eq!(acquisition.receiver.transfer_function, None);
    assert_eq!(mdf.calibration, None);
    let (_, mdf) = open(&made("fixed"));
    assert_eq!(mdf.experiment.subject, "the subject \u{3b1}");
    let (_, mdf) = open(&made("old"));
    assert_eq!(
        (mdf.root.version.as_str(), mdf.measurement.unwrap().is_sparsity_transformed),
        ("2.0.1", None)
    );
    let (_, mdf) = open(&made("system"));
    assert_eq!(mdf.acquisition.receiver.transfer_function.unwrap().data, vec![Complex::new(1.0, 2.0); 10]);
}

#[test]
fn images_are_read() {
    let made = made("reconstruction");
    let (_, mdf) = open(&made);
    let image = mdf.reconstruction.unwrap().data;
    assert_eq!(image.shape, made.numbers.shape);
    let expected: Vec<_> = made.numbers.complex().iter().map(|value| value.re).collect();
    assert_eq!(image.data, expected);
}

#[test]
fn one_element_for_a_scalar_is_a_warning() {
    let made = made("one-element");
    let (_, findings) = Mdf::read(&File::open(&made.path).unwrap()).unwrap();
    assert!(findings.iter().all(|finding| finding.severity == Severity::Warning));
    assert!(findings.iter().any(|finding| finding.path == "/study/number"), "{findings:?}");
}

#[test]
fn frames_come_in_measured_order_if_asked_for() {
    let made = made("system");
    let (file, mdf) = open(&made);
    let data = MeasurementData::open(&file, &mdf).unwrap().in_measured_order(&mdf).unwrap();
    let permutation = mdf.measurement.unwrap().frame_permutation.unwrap().data;
    assert!(!permutation.is_sorted());
    let per_frame = made.numbers.complex().len() / permutation.len();
    let stored = made.numbers.complex();
    let measured: Vec<Complex<f64>> = data.read_frames(0..data.frames()).unwrap();
    let row: Vec<Complex<f64>> = data.read_rows(0, 0, 0..1).unwrap();
    for (from, to) in permutation.iter().enumerate() {
        let to = usize::try_from(to - 1).unwrap();
        assert_eq!(measured[to * per_frame..][..per_frame], stored[from * per_frame..][..per_frame]);
        assert_eq!(row[to], stored[from * per_frame]);
        assert_eq!(data.background()[to], from >= 12);
    }
}

#[test]
fn numbers_are_converted_if_asked_for() {
    let made = made("int16");
    let (file, mdf) = open(&made);
    let data = MeasurementData::open(&file, &mdf).unwrap().converted(&mdf).unwrap();
    let read: Vec<f64> = data.read_frames(0..5).unwrap();
    for (at, (read, stored)) in read.iter().zip(made.numbers.complex()).enumerate() {
        let (factor, offset) = if at / 8 % 2 == 0 { (2.0, 0.5) } else { (0.25, -1.0) };
        assert_eq!(*read, stored.re * factor + offset);
    }
    let single: Vec<f32> = data.read_rows(1, 1, 3..4).unwrap();
    assert_eq!(single.len(), 5);
}

/// The offset of eight samples is in the sum at 0 Hz, and in no other frequency.
#[test]
fn spectra_are_converted_as_their_samples_would_be() {
    let made = made("frequency");
    let (file, mdf) = open(&made);
    let data = MeasurementData::open(&file, &mdf).unwrap().converted(&mdf).unwrap();
    let read: Vec<Complex<f64>> = data.read_frames(0..1).unwrap();
    let stored = made.numbers.complex();
    assert_eq!(read[0], stored[0] * 2.0 + 4.0);
    assert_eq!(read[1], stored[1] * 2.0);
    assert_eq!(read[5], stored[5] * 0.25 - 8.0);
}

#[test]
fn selected_frequencies_keep_their_numbers() {
    let (file, mdf) = open(&made("system"));
    let data = MeasurementData::open(&file, &mdf).unwrap();
    assert_eq!([0, 1, 2, 3].map(|sample| data.frequency(sample)), [Some(1), Some(2), Some(4), None]);
    assert!(data.is_fourier());
}

#[test]
fn what_is_not_there_cannot_be_asked_for() {
    let (file, mdf) = open(&made("frequency"));
    let data = MeasurementData::open(&file, &mdf).unwrap();
    assert!(matches!(data.read_frames::<Complex<f32>>(4..6), Err(Error::OutOfRange { .. })));
    assert!(matches!(data.read_rows::<Complex<f32>>(2, 0, 0..1), Err(Error::OutOfRange { .. })));
    assert!(matches!(data.read_rows::<Complex<f32>>(0, 0, 0..6), Err(Error::OutOfRange { .. })));
    let error = data.read_frames::<f32>(0..1).unwrap_err();
    assert!(error.to_string().contains("Complex128, not real"), "{error}");
}

/// `hdf5-pure` gives no numbers and no error for half floats.
#[test]
fn half_floats_are_named() {
    let made = made("half");
    let (file, mdf) = open(&made);
    let error = MeasurementData::open(&file, &mdf).unwrap_err();
    assert!(
        error.to_string().contains("`/measurement/data`") && error.to_string().contains("Float16"),
        "{error}"
    );
}

#[test]
fn a_claim_beyond_the_file_is_refused_before_memory_is() {
    let made = made("huge");
    let (file, mdf) = open(&made);
    let error = MeasurementData::open(&file, &mdf).unwrap_err();
    assert!(matches!(&error, Error::TooLarge { dataset, .. } if dataset == "/measurement/data"), "{error}");
}

/// HDF5 2.0 writes data layouts of version 5, which `hdf5-pure` does not know. The version of a layout is the byte
/// before its class, 1, and the address of the data.
#[test]
fn a_layout_that_is_too_new_is_named_with_what_to_do() {
    let made = made("time");
    let file = File::open(&made.path).unwrap();
    let data = file.get("/measurement/data").unwrap();
    let Storage::Contiguous(Some(address)) = data.storage() else { panic!("{:?}", data.storage()) };
    let layout = [&[3, 1][..], &address.to_le_bytes()].concat();
    let mut bytes = std::fs::read(&made.path).unwrap();
    let at = bytes.windows(layout.len()).position(|window| window == layout).unwrap();
    bytes[at] = 5;
    let error = File::from_bytes("new.mdf", bytes).unwrap().get("/measurement/data").unwrap_err();
    assert_eq!(error.to_string(), "cannot read the dataset `/measurement/data` of `new.mdf`");
    let hint = "HDF5 2.0 wrote it in its own format; its `h5repack --high=2 new.mdf NEW.mdf` rewrites it";
    assert_eq!(error.hints(), [hint]);
}

#[test]
fn a_contiguous_claim_beyond_the_file_is_refused() {
    let made = made("time");
    let mut bytes = std::fs::read(&made.path).unwrap();
    let lengths = [5_u64, 2, 2, 8].map(u64::to_le_bytes).concat();
    let at = bytes.windows(lengths.len()).position(|window| window == lengths).unwrap();
    for frames in [6, 1 << 57, u64::MAX] {
        bytes[at..at + 8].copy_from_slice(&u64::to_le_bytes(frames));
        let error =
            File::from_bytes("more.mdf", bytes.clone()).unwrap().get("/measurement/data").unwrap_err();
        assert!(matches!(&error, Error::TooLarge { .. }), "{frames}: {error}");
    }
}

/// Numbers out of damaged chunks would be worse than none.
#[test]
fn damaged_chunks_are_told() {
    for kind in ["packed", "packed-fast"] {
        let mut bytes = std::fs::read(made(kind).path).unwrap();
        let parsed = hdf5_pure::File::from_bytes(bytes.clone()).unwrap();
        let chunk = &parsed.dataset("measurement/data").unwrap().chunks().unwrap()[0];
        let middle = usize::try_from(chunk.address + chunk.storage_size / 2).unwrap();
        bytes[middle] ^= 0x10;
        let file = File::from_bytes("damaged.mdf", bytes).unwrap();
        let (mdf, _) = Mdf::read(&file).unwrap();
        let error =
            MeasurementData::open(&file, &mdf).unwrap().read_frames::<Complex<f64>>(0..5).unwrap_err();
        assert!(error.to_string().contains("`/measurement/data` of `damaged.mdf`"), "{error}");
    }
}

#[test]
fn what_only_describes_may_be_missing() {
    let made = made("no-names");
    let (mdf, findings) = Mdf::read(&File::open(&made.path).unwrap()).unwrap();
    let missing: Vec<_> = findings.iter().map(|finding| (finding.severity, finding.path.as_str())).collect();
    let paths = ["/uuid", "/study/number", "/experiment/isSimulation", "/tracer/batch", "/scanner/operator"];
    assert_eq!(missing, paths.map(|path| (Severity::Violation, path)));
    assert_eq!((mdf.root.uuid.as_str(), mdf.study.number, mdf.experiment.is_simulation), ("", 0, false));
    assert_eq!(mdf.tracer.unwrap().batch.shape, [0; 0]);
    let error = Mdf::read(&File::open(&self::made("no-periods").path).unwrap()).unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error}");
}
