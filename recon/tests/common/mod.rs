//! What the tests of MDF files share: files by h5py, and what h5py reads.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use hatchway_recon::mdf::model::{
    Acquisition, Calibration, DriveField, Experiment, Measurement, Receiver, Root, Scanner, Sequence, Study,
    Tracer,
};
use hatchway_recon::mdf::{Array, Mdf};
use num_complex::Complex;
use serde::Deserialize;

/// Canonical numbers of a file that h5py wrote, `[frame][period][channel][sample]`, as bits of Float64.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Numbers {
    pub(crate) shape: Vec<usize>,
    re: Vec<u64>,
    im: Vec<u64>,
}

impl Numbers {
    pub(crate) fn complex(&self) -> Vec<Complex<f64>> {
        let number = |(re, im): (&u64, &u64)| Complex::new(f64::from_bits(*re), f64::from_bits(*im));
        self.re.iter().zip(&self.im).map(number).collect()
    }
}

/// Runs the oracle. There is no test without it.
pub(crate) fn oracle(arguments: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracles/mdf.py");
    let out = Command::new("/usr/bin/python3").arg(script).args(arguments).output();
    let out = out.expect("no /usr/bin/python3: apt-get install python3-h5py");
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{errors}\nif a module is missing: apt-get install python3-h5py");
    String::from_utf8(out.stdout).unwrap()
}

/// A file of a kind, and its numbers.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) path: PathBuf,
    pub(crate) numbers: Numbers,
}

/// The file of a kind. The oracle writes all of them once per test program.
pub(crate) fn made(kind: &str) -> Made {
    static ALL: OnceLock<HashMap<String, Numbers>> = OnceLock::new();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("mdf-{}", env!("CARGO_CRATE_NAME")));
    let all = ALL.get_or_init(|| {
        std::fs::create_dir_all(&folder).unwrap();
        serde_json::from_str(&oracle(&["write", folder.to_str().unwrap()])).unwrap()
    });
    Made { path: folder.join(format!("{kind}.mdf")), numbers: all[kind].clone() }
}

/// All fields of a measurement that are not of its data, by their flags.
pub(crate) fn measurement(frames: usize, fast: bool, fourier: bool) -> Measurement {
    Measurement {
        is_background_frame: Array::new(&[frames], vec![0; frames]),
        is_fast_frame_axis: fast,
        is_fourier_transformed: fourier,
        is_sparsity_transformed: Some(false),
        ..Measurement::default()
    }
}

/// A model of `frames` frames of one period, two channels and eight samples, with every section but images.
pub(crate) fn model(frames: usize) -> Mdf {
    let text = |name: &str| name.to_owned();
    let pair = |name: &str| Array::new(&[2], vec![format!("one {name}"), format!("other {name} \u{3b1}")]);
    let (uuid, time) = (text("4b0ffb84-29f5-4388-92f3-64a7f8d0a2ba"), text("2024-02-29T14:28:34.673"));
    let three = |values: [f64; 3]| Some(Array::new(&[3], values.to_vec()));
    Mdf {
        root: Root { time: time.clone(), uuid: uuid.clone(), version: text("") },
        study: Study {
            description: text("d"),
            name: text("s"),
            number: 3,
            time: Some(time.clone()),
            uuid: uuid.clone(),
        },
        experiment: Experiment {
            description: text("e \u{3b1}"),
            is_simulation: true,
            name: text("n"),
            number: -7,
            subject: text("p"),
            uuid,
        },
        tracer: Some(Tracer {
            batch: pair("batch"),
            concentration: Array::new(&[2], vec![0.5, 0.25]),
            injection_time: None,
            name: pair("name"),
            solute: pair("solute"),
            vendor: pair("vendor"),
            volume: Array::new(&[2], vec![1e-6, 2e-6]),
        }),
        scanner: Scanner { bore_size: Some(0.12), topology: text("FFL"), ..Scanner::default() },
        acquisition: Acquisition {
            sequence: Sequence {
                gradient: Some(Array::new(
                    &[1, 1, 3, 3],
                    vec![-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 2.0],
                )),
                num_averages: 4,
                num_frames: i64::try_from(frames).unwrap(),
                num_periods_per_frame: 1,
                offset_field: None,
                start_time: time,
            },
            drive_field: DriveField {
                base_frequency: 2.5e6,
                cycle: 652.8e-6,
                divider: Array::new(&[2, 1], vec![102, 96]),
                num_channels: 2,
                phase: Array::new(&[1, 2, 1], vec![0.0, 1.5]),
                strength: Array::new(&[1, 2, 1], vec![0.014, 0.012]),
                waveform: Array::new(&[2, 1], vec![text("sine"), text("triangle")]),
            },
            receiver: Receiver {
                bandwidth: 4.0 / 652.8e-6,
                data_conversion_factor: Some(Array::new(&[2, 2], vec![2.0, 0.5, 0.25, -1.0])),
                induction_factor: None,
                num_channels: 2,
                num_sampling_points: 8,
                transfer_function: Some(Array::new(&[2, 5], vec![Complex::new(1.0, -2.0); 10])),
                unit: text("V"),
            },
        },
        measurement: Some(measurement(frames, false, false)),
        calibration: Some(Calibration {
            field_of_view: three([0.03, 0.02, 0.01]),
            method: text("robot"),
            order: Some(text("xyz")),
            ..Calibration::default()
        }),
        reconstruction: None,
    }
}

/// The program itself takes some 10 MB, parts of the data and the cache of chunks some 10 to 60.
pub(crate) const PEAK_KIB_MAX: u64 = 96 << 10;

/// Peak resident memory of this process in KiB.
pub(crate) fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
