//! The forward model beside a second one in NumPy, which differentiates in the time domain.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use hatchway_recon::physics::{Cloud, Coil, DriveChannel, Particle, Period, Sequence, Transfer, spectra};
use num_complex::Complex64;
use serde_json::{Value, json};

/// What the script answers to this question.
fn oracle(script: &str, question: &Value) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracles").join(script);
    let mut python = Command::new("/usr/bin/python3")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(question.to_string().as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

fn channel(axis: usize, divider: u32, phase: f64) -> DriveChannel {
    let mut direction = [0.0; 3];
    direction[axis] = 1.0;
    DriveChannel { direction, amplitude: 0.012, divider, phase }
}

fn coil(sensitivity: [f64; 3]) -> Coil {
    Coil {
        sensitivity,
        transfer: Transfer { gain: 50.0, high_pass: 20e3, low_pass: 600e3 },
        noise: 0.0,
        feed_through: vec![],
        drift: 0.0,
        adc: None,
    }
}

/// The greatest difference of two spectra as a share of the greatest value.
fn difference(sequence: &Sequence, particle: &Particle, points: &[([f64; 3], f64)]) -> f64 {
    let coils = [coil([1e-3, 0.0, 0.0]), coil([0.0, 1e-3, 2e-4])];
    let found = spectra(sequence, particle, &coils, &Cloud { points: points.to_vec() }).unwrap();
    let question = json!({ "sequence": sequence, "particle": particle, "coils": coils, "points": points });
    let answer = oracle("physics.py", &question);
    let numbers = |value: &Value| -> Vec<f64> { serde_json::from_value(value.clone()).unwrap() };
    let expected: Vec<Complex64> = answer
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|spectrum| {
            numbers(&spectrum[0])
                .into_iter()
                .zip(numbers(&spectrum[1]))
                .map(|(re, im)| Complex64::new(re, im))
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(expected.len(), found.data.len());
    let scale = expected.iter().map(|value| value.norm()).fold(0.0, f64::max);
    assert!(scale > 0.0);
    expected.iter().zip(&found.data).map(|(a, b)| (a - b).norm()).fold(0.0, f64::max) / scale
}

fn lissajous() -> Sequence {
    Sequence {
        base_frequency: 2.5e6,
        channels: vec![channel(0, 102, std::f64::consts::FRAC_PI_2), channel(1, 96, 0.4)],
        periods: vec![
            Period {
                gradient: [[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 2.0]],
                offset: [0.0; 3],
                drive: vec![],
            },
            Period { drive: vec![0.5, -1.2], ..Period::line(2.0, 0.7) },
        ],
    }
}

#[test]
fn a_lissajous_scan_is_what_the_time_domain_says() {
    let points = [([0.002, -0.004, 0.0005], 1e12), ([-0.011, 0.003, 0.001], 3e12), ([0.0, 0.0, 0.002], 2e12)];
    let error = difference(&lissajous(), &Particle::default(), &points);
    // Particles of 25 nm answer up to the edge of the band; what both models cut off there folds a little.
    assert!(error < 1e-9, "{error:e}");
}

#[test]
fn relaxation_is_the_differential_equation() {
    let particle = Particle { relaxation: 3e-6, ..Particle::default() };
    let mut sequence = lissajous();
    sequence.channels = vec![channel(0, 100, 0.0)];
    sequence.periods[1].drive = vec![1.1];
    let points = [([0.002, -0.004, 0.0005], 1e12)];
    let error = difference(&sequence, &particle, &points);
    assert!(error < 1e-5, "{error:e}");
    // It would be seen: without relaxation the spectra are others.
    let found = |particle: &Particle| {
        spectra(&sequence, particle, &[coil([1e-3, 0.0, 0.0])], &Cloud { points: points.to_vec() }).unwrap()
    };
    let (with, without) = (found(&particle), found(&Particle::default()));
    assert!(with.data[3].norm() < 0.7 * without.data[3].norm());
}
