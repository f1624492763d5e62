//! Whatever is written is read: data of any shape, in each layout and type, by any window.
#![allow(
    clippy::unwrap_used,
    reason = "clippy.toml lets only functions marked as tests unwrap, not their helpers"
)]

mod common;

use common::{measurement, model};
use hatchway_recon::mdf::sample::Sample;
use hatchway_recon::mdf::write::{DataShape, Element, Options};
use hatchway_recon::mdf::{File, Mdf, MeasurementData, Writer};
use num_complex::Complex;
use proptest::prelude::*;

/// N, J, C, K of the data, where frames are the fastest dimension, and where a window begins and ends.
#[derive(Debug, Clone)]
struct Case {
    lengths: [usize; 4],
    fast: bool,
    window: [usize; 2],
}

fn case() -> impl Strategy<Value = Case> {
    let lengths = [1..6_usize, 1..4, 1..4, 1..7];
    (lengths, any::<bool>(), any::<[prop::sample::Index; 2]>()).prop_map(|(lengths, fast, ends)| {
        let mut window = ends.map(|end| end.index(lengths[0] + 1));
        window.sort_unstable();
        Case { lengths, fast, window }
    })
}

/// The place of an element as it is stored.
fn place([n, j, c, k]: [usize; 4], fast: bool, [frame, period, channel, sample]: [usize; 4]) -> usize {
    if fast {
        ((period * c + channel) * k + sample) * n + frame
    } else {
        ((frame * j + period) * c + channel) * k + sample
    }
}

/// Numbers from 0 in the order of the file, which `of` turns into elements.
fn check<T: Element + Sample + PartialEq + std::fmt::Debug>(case: &Case, of: impl Fn(u16) -> T) {
    let (lengths, fast) = (case.lengths, case.fast);
    let [n, j, c, k] = lengths;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("case.mdf");
    let mut mdf = model(n);
    mdf.measurement = Some(measurement(n, fast, T::COMPLEX));
    let stored = if fast { [j, c, k, n] } else { lengths };
    let shape = DataShape { shape: stored.map(|length| length as u64), element: T::TYPE };
    let mut writer = Writer::create(&path, &mdf, Some(&shape), Options::default()).unwrap();
    let elements: Vec<T> = (0..u16::try_from(n * j * c * k).unwrap()).map(of).collect();
    writer.append(&elements).unwrap();
    writer.finish().unwrap();

    let file = File::open(&path).unwrap();
    let (mdf, _) = Mdf::read(&file).unwrap();
    let data = MeasurementData::open(&file, &mdf).unwrap();
    let at = |index| elements[place(lengths, fast, index)];
    let [from, to] = case.window;
    let frames: Vec<T> = data.read_frames(from..to).unwrap();
    let index =
        |number: usize| [from + number / (j * c * k), number / (c * k) % j, number / k % c, number % k];
    let expected: Vec<_> = (0..(to - from) * j * c * k).map(|number| at(index(number))).collect();
    assert_eq!(frames, expected);
    let rows: Vec<T> = data.read_rows(j - 1, c - 1, k / 2..k).unwrap();
    let expected: Vec<_> =
        (0..(k - k / 2) * n).map(|number| at([number % n, j - 1, c - 1, k / 2 + number / n])).collect();
    assert_eq!(rows, expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn samples(case in case()) {
        check::<f32>(&case, f32::from);
        check::<f64>(&case, |number| -f64::from(number) / 3.0);
    }

    #[test]
    fn spectra(case in case()) {
        check::<Complex<f32>>(&case, |number| Complex::new(number.into(), -1.5));
        check::<Complex<f64>>(&case, |number| Complex::new(0.1, f64::from(number) / 7.0));
    }
}
