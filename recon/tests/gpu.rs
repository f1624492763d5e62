//! Solvers with the matrix on a graphics card, beside the same on the processor in double precision. The card is Mesa's
//! software adapter (`apt-get install mesa-vulkan-drivers`) or whatever the machine has; without one, tests fail.
#![cfg(feature = "gpu")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hatchway_recon::Error;
use hatchway_recon::gpu::{Device, Options, ShardedMatrix, adapters};
use hatchway_recon::solve::{
    Control, Lanes, Matrix, Operator, Prepared, Problem, Progress, Real, Solution, Solver, SplitMix64, solve,
};
use num_complex::Complex;
use proptest::prelude::*;
use serde_json::{Value, json};

/// The largest relative difference from the processor's result in double precision.
const TOLERANCE: f64 = 1e-5;

fn open(shard_bytes_max: Option<u64>) -> Device {
    let options = Options { allow_software: true, shard_bytes_max, ..Options::default() };
    Device::open(&options)
        .expect("a graphics card or a software adapter: apt-get install mesa-vulkan-drivers")
}

/// A system as solvers' tests have it: some rows are zero, and neighbours resemble each other.
struct Case {
    rows: usize,
    columns: usize,
    matrix: Vec<Complex<f64>>,
    data: Vec<Complex<f64>>,
    weights: Option<Vec<f64>>,
    start: Option<Vec<Complex<f64>>>,
}

fn random(length: usize, seed: u64) -> Vec<Complex<f64>> {
    let mut source = SplitMix64::new(seed);
    let mut part = || f64::from(f32::of(source.unit() - 0.5));
    (0..length).map(|_| Complex::new(part(), part())).collect()
}

impl Case {
    fn new(rows: usize, columns: usize, frames: usize) -> Self {
        let mut matrix = random(rows * columns, 21);
        for (k, row) in matrix.chunks_exact_mut(columns).enumerate() {
            row.iter_mut().for_each(|value| value.re += 0.25);
            if k % 13 == 5 {
                row.fill(Complex::default());
            }
        }
        Self { rows, columns, matrix, data: random(rows * frames, 22), weights: None, start: None }
    }

    fn weighted(mut self) -> Self {
        self.weights = Some((0..self.rows).map(|k| [1.0, 0.5, 2.0, 0.0, 1.25][k % 5]).collect());
        self
    }

    fn started(mut self) -> Self {
        self.start = Some(random(self.columns, 23));
        self
    }

    fn upload(&self, device: &Device) -> ShardedMatrix {
        let entries = narrow(&self.matrix);
        ShardedMatrix::new(device, self.rows, self.columns, |k, row| {
            row.copy_from_slice(&entries[k * self.columns..][..self.columns]);
            Ok(())
        })
        .unwrap()
    }

    fn solve<T: Real>(&self, solver: &Solver, operator: &dyn Operator<T>) -> Solution<T> {
        let weights: Option<Vec<T>> =
            self.weights.as_ref().map(|all| all.iter().map(|weight| T::of(*weight)).collect());
        let (data, start) = (narrow(&self.data), self.start.as_deref().map(narrow));
        let problem = Problem { operator, weights: weights.as_deref(), data: &data, start: start.as_deref() };
        solve(solver, &problem, &Control::default()).unwrap()
    }

    /// The difference of the card's result from the processor's in double precision.
    fn difference(&self, solver: &Value, card: &ShardedMatrix) -> f64 {
        let solver: Solver = serde_json::from_value(solver.clone()).unwrap();
        let there = self.solve::<f32>(&solver, card);
        let matrix = Matrix::borrowed(self.rows, self.columns, &self.matrix).unwrap();
        let here = self.solve::<f64>(&solver, &matrix);
        assert!(there.image.iter().all(|value| value.re.is_finite() && value.im.is_finite()));
        assert_eq!(there.report.rows_used, here.report.rows_used);
        assert_eq!(there.report.iterations, here.report.iterations);
        for (there, here) in there.report.residuals.iter().zip(&here.report.residuals) {
            assert!((there - here).abs() <= 1e-4 * here, "residuals of {there} and {here}");
        }
        distance(&there.image, &here.image)
    }
}

fn narrow<T: Real>(values: &[Complex<f64>]) -> Vec<Complex<T>> {
    values.iter().map(|value| Complex::new(T::of(value.re), T::of(value.im))).collect()
}

/// ‖found − expected‖ / ‖expected‖
fn distance<T: Real>(found: &[Complex<T>], expected: &[Complex<f64>]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let wide = |value: &Complex<T>| Complex::new(value.re.wide(), value.im.wide());
    let difference: f64 = found.iter().zip(expected).map(|(a, b)| (wide(a) - b).norm_sqr()).sum();
    let size: f64 = expected.iter().map(|value| value.norm_sqr()).sum();
    (difference / size).sqrt()
}

fn kaczmarz(more: &Value) -> Value {
    let mut all = json!({"method": "kaczmarz", "iterations": 4, "lambda": 0.01});
    for (key, value) in more.as_object().unwrap() {
        all[key] = value.clone();
    }
    all
}

#[test]
fn kaczmarz_has_the_iterates_of_the_processor() {
    let solvers = [
        kaczmarz(&json!({})),
        kaczmarz(&json!({"lambda": 0.0})),
        kaczmarz(&json!({"block": 1})),
        kaczmarz(&json!({"block": 7})),
        kaczmarz(&json!({"block": 1000})),
        kaczmarz(&json!({"projections": ["real"]})),
        kaczmarz(&json!({"projections": ["positive"]})),
        kaczmarz(&json!({"projections": ["positive"], "penalty": {"l1": {"lambda": 0.002}}})),
        kaczmarz(&json!({"penalty": {"tv": {"lambda": 0.002, "grid": [7, 11, 1]}}})),
        kaczmarz(&json!({"lambda": 0.3, "normalisation": "measurement"})),
        kaczmarz(&json!({"order": {"shuffled": {}}})),
        kaczmarz(&json!({"order": {"sampled": {"fraction": 0.4}}})),
        kaczmarz(&json!({"lambda": (1..=77).map(|n| 0.01 * f64::from(n)).collect::<Vec<_>>()})),
    ];
    // Shards of 150 rows, of 11, and of three.
    for (bytes, shards) in [(None, 1), (Some(77 * 8 * 11 + 7), 14), (Some(77 * 8 * 3), 50)] {
        let device = open(bytes);
        for case in [
            Case::new(150, 77, 1),
            Case::new(150, 77, 3).weighted().started(),
            Case::new(150, 77, 16).weighted(),
            Case::new(150, 77, 17),
        ] {
            let card = case.upload(&device);
            assert_eq!(card.shards(), shards);
            for solver in &solvers {
                let difference = case.difference(solver, &card);
                assert!(difference < TOLERANCE, "{difference:e} with shards of {bytes:?} bytes: {solver}");
            }
        }
    }
}

#[test]
fn the_other_methods_agree_with_the_processor() {
    let tv = json!({"tv": {"lambda": 0.01, "grid": [4, 3, 2]}});
    // As many iterations as rounding is not amplified by.
    let solvers = [
        json!({"method": "cgnr", "iterations": 5, "lambda": 0.02}),
        json!({"method": "cgnr", "iterations": 5, "lambda": 0.02, "projections": ["positive"]}),
        json!({"method": "fista", "iterations": 12, "step": 0.01, "penalty": {"l1": {"lambda": 0.004}}}),
        json!({"method": "fista", "iterations": 12, "step": 0.01, "penalty": tv, "projections": ["positive"]}),
        json!({"method": "admm", "penalty": {"l1": {"lambda": 0.02}}, "rho": 0.5, "inner-iterations": 4}),
        json!({"method": "admm", "penalty": tv, "rho": 0.5, "inner-iterations": 4}),
        json!({"method": "direct", "lambda": 0.02}),
    ];
    for bytes in [None, Some(24 * 8 * 7)] {
        let device = open(bytes);
        for case in [Case::new(40, 24, 1), Case::new(40, 24, 5).weighted().started(), Case::new(17, 24, 2)] {
            let card = case.upload(&device);
            for solver in &solvers {
                let difference = case.difference(solver, &card);
                assert!(difference < TOLERANCE, "{difference:e} with shards of {bytes:?} bytes: {solver}");
            }
        }
    }
}

/// Every product that a solver may ask for, on a matrix with more voxels than a part of a sum has.
#[test]
fn products_are_those_of_the_processor() {
    let case = Case::new(90, 2500, 1);
    let device = open(Some(2500 * 8 * 40));
    let card = case.upload(&device);
    assert_eq!(card.shards(), 3);
    let wide = Matrix::borrowed(90, 2500, &case.matrix).unwrap();
    let (x, y) = (random(2500, 31), random(90, 32));
    let mut expected = vec![Complex::default(); 90];
    let mut found = vec![Complex::<f32>::default(); 90];
    wide.forward(&x, &mut expected);
    card.forward(&narrow(&x), &mut found);
    assert!(distance(&found, &expected) < 1e-6);

    let (mut expected, mut found) = (x.clone(), narrow::<f32>(&x));
    wide.adjoint(&y, &mut expected);
    card.adjoint(&narrow(&y), &mut found);
    assert!(distance(&found, &expected) < 1e-6);

    // Rows of all shards, not in order, and a part of the voxels.
    let rows = [89, 3, 41, 40, 39, 7, 80];
    let (mut expected, mut found) = (vec![Complex::default(); 7], vec![Complex::<f32>::default(); 7]);
    wide.part_dot(&rows, 100, &x[..2000], &mut expected);
    card.part_dot(&rows, 100, &narrow(&x[..2000]), &mut found);
    assert!(distance(&found, &expected) < 1e-6);
    let (mut expected, mut found) = (x[..2000].to_vec(), narrow::<f32>(&x[..2000]));
    wide.part_axpy(&rows, &y[..7], 100, &mut expected);
    card.part_axpy(&rows, &narrow(&y[..7]), 100, &mut found);
    assert!(distance(&found, &expected) < 1e-6);

    let lane = |values: &[Complex<f64>], of: usize| {
        values.iter().map(|value| value * (1.0 + f64::from(u8::try_from(of).unwrap()))).collect::<Vec<_>>()
    };
    let mut many = vec![Lanes::<f32>::zero(); 2500];
    for of in 0..16 {
        let image = narrow::<f32>(&lane(&x, of));
        many.iter_mut().zip(image).for_each(|(to, value)| to.set(of, value));
    }
    let (mut expected, mut panel) = (vec![Complex::default(); 90], vec![Lanes::<f32>::zero(); 90]);
    wide.forward(&x, &mut expected);
    card.panel_forward(&many, &mut panel);
    for of in [0, 9, 15] {
        let found: Vec<_> = panel.iter().map(|value| value.get(of)).collect();
        assert!(distance(&found, &lane(&expected, of)) < 1e-6, "frame {of}");
    }
    let (mut expected, mut panel) = (vec![Complex::default(); 7], vec![Lanes::<f32>::zero(); 7]);
    wide.part_dot(&rows, 100, &x[100..2100], &mut expected);
    card.panel_dot(&rows, 100, &many[100..2100], &mut panel);
    let found: Vec<_> = panel.iter().map(|value| value.get(15)).collect();
    assert!(distance(&found, &lane(&expected, 15)) < 1e-6);
    let mut alpha = vec![Lanes::<f32>::zero(); 7];
    alpha.iter_mut().zip(narrow::<f32>(&y)).for_each(|(to, value)| to.set(3, value));
    let mut expected = lane(&x[100..2100], 3);
    wide.part_axpy(&rows, &y[..7], 100, &mut expected);
    card.panel_axpy(&rows, &alpha, 100, &mut many[100..2100]);
    let found: Vec<_> = many[100..2100].iter().map(|value| value.get(3)).collect();
    assert!(distance(&found, &expected) < 1e-6);

    let mut row = vec![Complex::<f32>::default(); 2500];
    card.copy_row(41, &mut row);
    assert_eq!(row, narrow::<f32>(&case.matrix[41 * 2500..42 * 2500]));
}

/// Triangular systems whose rows differ in size by eight orders, and nearly equal rows: blocks are as exact as single rows.
#[test]
fn rows_of_very_different_sizes_and_nearly_equal_rows_agree() {
    let mut case = Case::new(140, 60, 4);
    for k in 0..140 {
        let scale = 10_f64.powi(i32::try_from(k * 5 % 9).unwrap() - 4);
        if k % 4 == 3 {
            let (before, rest) = case.matrix.split_at_mut(k * 60);
            let near = before[(k - 1) * 60..].iter().zip(&mut rest[..60]);
            let last = 10_f64.powi(i32::try_from((k - 1) * 5 % 9).unwrap() - 4);
            near.for_each(|(before, value)| *value = before / last + *value * 1e-3);
        }
        case.matrix[k * 60..][..60].iter_mut().for_each(|value| *value *= scale);
        (0..4).for_each(|frame| case.data[frame * 140 + k] *= scale);
    }
    let round = |value: &mut Complex<f64>| {
        *value = Complex::new(f64::from(f32::of(value.re)), f64::from(f32::of(value.im)));
    };
    case.matrix.iter_mut().chain(&mut case.data).for_each(round);
    let card = case.upload(&open(Some(60 * 8 * 50)));
    for (lambda, block) in [(0.0, 64), (1e-9, 64), (1e-3, 64), (0.0, 128), (0.0, 1)] {
        let solver = kaczmarz(&json!({"lambda": lambda, "block": block, "iterations": 3}));
        let difference = case.difference(&solver, &card);
        println!("{lambda} {block}: {difference:e}");
        assert!(difference < TOLERANCE, "{difference:e}: {solver}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn sizes_of_all_kinds_agree(
        rows in 1_usize..200, columns in 1_usize..200, frames in 1_usize..18, shard in 1_u64..60, block in 1_usize..70,
        shuffled: bool,
    ) {
        let case = Case::new(rows, columns, frames);
        let card = case.upload(&open(Some(shard * 8 * u64::try_from(columns).unwrap())));
        let mut solver = kaczmarz(&json!({"block": block, "lambda": 0.1}));
        if shuffled {
            solver["order"] = json!({"shuffled": {}});
        }
        let difference = case.difference(&solver, &card);
        prop_assert!(difference < TOLERANCE, "{difference:e}");
    }
}

#[test]
fn a_solve_tells_of_its_progress_and_can_be_called_off() {
    let case = Case::new(50, 20, 2);
    let card = case.upload(&open(None));
    let solver: Solver = serde_json::from_value(kaczmarz(&json!({}))).unwrap();
    let prepared = Prepared::new(&solver, &card, None).unwrap();
    let (told, cancel) = (AtomicUsize::new(0), AtomicBool::new(false));
    let tell = |progress: Progress| {
        assert_eq!((progress.frames_together, progress.iterations_max), (2, 4));
        assert_eq!(told.fetch_add(1, Ordering::Relaxed) + 1, progress.iteration);
        cancel.store(progress.iteration == 3, Ordering::Relaxed);
    };
    let control = Control { progress: Some(&tell), cancel: Some(&cancel), ..Control::default() };
    let error = prepared.run(&narrow(&case.data), None, &control).unwrap_err();
    assert!(matches!(error, Error::Cancelled { iteration: 3 }), "{error}");
    // And then goes on as if nothing had been.
    let again = prepared.run(&narrow(&case.data), None, &Control::default()).unwrap();
    let matrix = Matrix::borrowed(50, 20, &case.matrix).unwrap();
    assert!(distance(&again.image, &case.solve::<f64>(&solver, &matrix).image) < TOLERANCE);
}

/// Answers are passed on by whoever waits for the card, which may be another thread.
#[test]
fn threads_may_share_a_card() {
    let device = open(Some(77 * 8 * 40));
    let case = Case::new(150, 77, 2);
    let card = case.upload(&device);
    let solver: Solver = serde_json::from_value(kaczmarz(&json!({}))).unwrap();
    let prepared = Prepared::new(&solver, &card, None).unwrap();
    let data = narrow(&case.data);
    let x = narrow::<f32>(&random(77, 41));
    let run = || prepared.run(&data, None, &Control::default()).unwrap().image;
    let forward = || {
        let mut y = vec![Complex::default(); 150];
        card.forward(&x, &mut y);
        y
    };
    let (image, y) = (run(), forward());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (0..40).for_each(|_| assert_eq!(run(), image)));
            scope.spawn(|| (0..80).for_each(|_| assert_eq!(forward(), y)));
        }
        scope.spawn(|| (0..10).for_each(|_| drop(case.upload(&device))));
    });
    device.check().unwrap();
}

/// The card goes away in the middle of a solve that would otherwise take very long.
#[test]
fn a_card_that_is_lost_ends_a_solve_with_its_name() {
    let case = Case::new(200, 100, 1);
    for (method, wait_ms) in
        [("kaczmarz", 0), ("kaczmarz", 30), ("kaczmarz", 31), ("cgnr", 0), ("fista", 3), ("admm", 30)]
    {
        let device = open(None);
        let card = case.upload(&device);
        let mut solver = json!({"method": method, "iterations": 1_000_000_000_u64});
        // These end by themselves.
        let is_short = method == "cgnr" || method == "fista";
        if is_short {
            solver["tolerance"] = json!(0.0);
        }
        let solver: Solver = serde_json::from_value(solver).unwrap();
        let prepared = Prepared::new(&solver, &card, None).unwrap();
        let (begun, thief) = (AtomicBool::new(false), device.clone());
        let tell = |_: Progress| {
            begun.store(true, Ordering::Release);
            if is_short {
                std::thread::sleep(Duration::from_millis(2));
            }
        };
        let data = narrow(&case.data);
        let error = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !begun.load(Ordering::Acquire) {
                    std::thread::yield_now();
                }
                std::thread::sleep(Duration::from_millis(wait_ms));
                thief.destroy();
            });
            prepared.run(&data, None, &Control { progress: Some(&tell), ..Control::default() }).unwrap_err()
        });
        assert!(matches!(error, Error::GpuLost { .. }), "{method}: {error}");
        assert!(error.to_string().contains(&device.adapter().name), "{error}");
        // It stays lost, for everything.
        assert!(matches!(card.check(), Err(Error::GpuLost { .. })));
        assert!(matches!(Prepared::new(&solver, &card, None), Err(Error::GpuLost { .. })));
        let mut y = vec![Complex::new(1.0, 0.0); 200];
        card.forward(&vec![Complex::default(); 100], &mut y);
        assert!(y.iter().all(|value| *value == Complex::default()), "what was there before is no result");
        let again = ShardedMatrix::new(&device, 2, 2, |_, _| Ok(()));
        assert!(matches!(again, Err(Error::GpuLost { .. })), "{again:?}");
    }
}

#[test]
fn a_card_that_is_lost_during_the_transfer_is_told() {
    let device = open(None);
    let error = ShardedMatrix::new(&device, 100, 1000, |k, row| {
        row.fill(Complex::new(1.0, 0.0));
        if k == 50 {
            device.destroy();
        }
        Ok(())
    });
    assert!(matches!(error, Err(Error::GpuLost { .. })), "{error:?}");
    assert_eq!(device.taken_bytes(), 0);
}

#[test]
fn what_does_not_fit_is_refused_before_it_is_tried() {
    let refuse = |options: Options, rows, columns| {
        let device = Device::open(&Options { allow_software: true, ..options }).unwrap();
        let fill = |_: usize, _: &mut [Complex<f32>]| -> Result<(), Error> { panic!("a row was asked for") };
        let error = ShardedMatrix::new(&device, rows, columns, fill).unwrap_err();
        assert_eq!(device.taken_bytes(), 0);
        assert!(matches!(error, Error::GpuMemory { .. }), "{error}");
        error.to_string()
    };
    let budget = Options { memory_bytes_max: Some(100 << 20), ..Options::default() };
    let said = refuse(budget, 3000, 6859);
    assert!(
        said.contains("a matrix of 3000 rows and 6859 columns") && said.contains("104857600 are free"),
        "{said}"
    );
    assert!(said.contains("enough for 1767 of the 3000 rows"), "{said}");
    let shard = Options { shard_bytes_max: Some(1000), ..Options::default() };
    let said = refuse(shard, 3, 126);
    assert!(said.contains("1008 bytes, where a buffer, which has a row, may have 1000"), "{said}");
    // More than any machine has, from what the host has free.
    refuse(Options::default(), 10_000_000, 4_000_000);
    refuse(Options { memory_bytes_max: Some(u64::MAX), ..Options::default() }, 1, 5_000_000);
}

#[test]
fn there_is_one_copy_of_the_matrix_and_it_is_given_back() {
    let device = open(None);
    let case = Case::new(300, 64, 1);
    let card = case.upload(&device);
    assert_eq!(card.bytes(), 300 * 64 * 8);
    assert!(device.taken_bytes() > card.bytes());
    let solver: Solver = serde_json::from_value(kaczmarz(&json!({}))).unwrap();
    case.solve::<f32>(&solver, &card);
    drop(card);
    assert_eq!(device.taken_bytes(), 0);
}

#[test]
fn entries_that_are_no_numbers_are_refused_with_their_place() {
    let device = open(None);
    let error = ShardedMatrix::new(&device, 3, 4, |k, row| {
        row.fill(Complex::new(1.0, 0.0));
        if k == 1 {
            row[2].im = f32::NAN;
        }
        Ok(())
    });
    assert_eq!(error.unwrap_err().to_string(), "entry of the matrix number 6 (counted from 0) is not finite");
}

#[test]
fn adapters_are_listed_with_what_they_can() {
    let all = adapters().unwrap();
    assert!(!all.is_empty(), "apt-get install mesa-vulkan-drivers");
    for adapter in &all {
        assert!(!adapter.name.is_empty() && adapter.binding_bytes_max >= 1 << 27, "{adapter:?}");
    }
    let named = Options { choice: all[0].name.parse().unwrap(), ..Options::default() };
    assert_eq!(Device::open(&named).unwrap().adapter(), &all[0]);
    let wrong = Options { choice: "no such card".parse().unwrap(), ..Options::default() };
    let said = Device::open(&wrong).unwrap_err().to_string();
    assert!(said.contains("none has `no such card` in its name") && said.contains(&all[0].name), "{said}");
}
