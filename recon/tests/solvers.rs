//! The solvers against a reference in NumPy (`tests/oracles/solvers.py`), against each other, and by properties.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use hatchway_recon::solve::{
    Control, Kaczmarz, Matrix, Operator, Prepared, Problem, Real, Solution, Solver, SplitMix64, Weighted,
    solve,
};
use num_complex::Complex;
use proptest::prelude::*;
use serde_json::{Value, json};

const ORACLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/oracles/solvers.py");

/// A system and a solver. The numbers have 24 bits, so that both precisions solve the same.
#[derive(Clone)]
struct Case {
    rows: usize,
    columns: usize,
    matrix: Vec<Complex<f64>>,
    data: Vec<Complex<f64>>,
    weights: Option<Vec<f64>>,
    start: Option<Vec<Complex<f64>>>,
    solver: Value,
}

fn random(length: usize, seed: u64) -> Vec<Complex<f64>> {
    let mut source = SplitMix64::new(seed);
    let mut part = || f64::from(f32::of(source.unit() - 0.5));
    (0..length).map(|_| Complex::new(part(), part())).collect()
}

impl Case {
    /// Some rows are zero, and neighbours resemble each other, as those of a system matrix do.
    fn new(rows: usize, columns: usize, frames: usize, solver: Value) -> Self {
        let mut matrix = random(rows * columns, 11);
        for (k, row) in matrix.chunks_exact_mut(columns).enumerate() {
            row.iter_mut().for_each(|value| value.re += 0.25);
            if k % 13 == 5 {
                row.fill(Complex::default());
            }
        }
        let data = random(rows * frames, 12);
        Self { rows, columns, matrix, data, weights: None, start: None, solver }
    }

    fn weighted(mut self) -> Self {
        let weights = (0..self.rows).map(|k| [1.0, 0.5, 2.0, 0.0, 1.25][k % 5]);
        self.weights = Some(weights.collect());
        self
    }

    fn started(mut self) -> Self {
        self.start = Some(random(self.columns, 13));
        self
    }

    fn solver(&self) -> Solver {
        serde_json::from_value(self.solver.clone()).unwrap()
    }

    fn solve<T: Real>(&self) -> Solution<T> {
        let matrix = Matrix::new(self.rows, self.columns, narrow::<T>(&self.matrix)).unwrap();
        let weights: Option<Vec<T>> =
            self.weights.as_ref().map(|all| all.iter().map(|weight| T::of(*weight)).collect());
        let start = self.start.as_deref().map(narrow::<T>);
        let problem = Problem {
            operator: &matrix,
            weights: weights.as_deref(),
            data: &narrow::<T>(&self.data),
            start: start.as_deref(),
        };
        solve(&self.solver(), &problem, &Control::default()).unwrap()
    }

    fn json(&self) -> Value {
        json!({
            "rows": self.rows, "columns": self.columns, "matrix": flat(&self.matrix), "data": flat(&self.data),
            "weights": self.weights, "start": self.start.as_deref().map(flat), "solver": self.solver,
        })
    }
}

fn narrow<T: Real>(values: &[Complex<f64>]) -> Vec<Complex<T>> {
    values.iter().map(|value| Complex::new(T::of(value.re), T::of(value.im))).collect()
}

fn wide<T: Real>(values: &[Complex<T>]) -> Vec<Complex<f64>> {
    values.iter().map(|value| Complex::new(value.re.wide(), value.im.wide())).collect()
}

fn flat(values: &[Complex<f64>]) -> Vec<f64> {
    values.iter().flat_map(|value| [value.re, value.im]).collect()
}

/// ‖found − expected‖ / ‖expected‖
fn distance<T: Real>(found: &[Complex<T>], expected: &[Complex<f64>]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let size = |values: &[Complex<f64>]| values.iter().map(|value| value.norm_sqr()).sum::<f64>().sqrt();
    let difference: Vec<_> = wide(found).iter().zip(expected).map(|(a, b)| a - b).collect();
    // An image of zeros only is to be met exactly.
    size(&difference) / size(expected).max(f64::MIN_POSITIVE)
}

/// What NumPy says.
fn oracle(cases: &[Case]) -> Vec<Vec<Complex<f64>>> {
    let mut child = Command::new("/usr/bin/python3")
        .args(["-B", ORACLE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python runs the reference: apt-get install python3-numpy");
    let problems = Value::Array(cases.iter().map(Case::json).collect());
    child.stdin.take().unwrap().write_all(problems.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the reference fails; it needs python3-numpy");
    let images: Vec<Vec<f64>> = serde_json::from_slice(&output.stdout).unwrap();
    images
        .iter()
        .map(|image| image.chunks_exact(2).map(|pair| Complex::new(pair[0], pair[1])).collect())
        .collect()
}

fn compare(cases: &[Case]) {
    for (case, expected) in cases.iter().zip(oracle(cases)) {
        let (double, single) = (case.solve::<f64>().image, case.solve::<f32>().image);
        let (far, near) = (distance(&double, &expected), distance(&single, &expected));
        assert!(far < 1e-10, "{far:e} in double precision: {}", case.solver);
        assert!(near < 1e-5, "{near:e} in single precision: {}", case.solver);
    }
}

#[test]
fn kaczmarz_agrees_with_the_reference() {
    let iterations = 4;
    let solvers = [
        json!({"method": "kaczmarz", "iterations": iterations}),
        json!({"method": "kaczmarz", "iterations": iterations, "lambda": 0.01}),
        json!({"method": "kaczmarz", "iterations": iterations, "lambda": 0.3, "normalisation": "none"}),
        json!({"method": "kaczmarz", "iterations": iterations, "lambda": 0.3, "normalisation": "measurement"}),
        json!({"method": "kaczmarz", "iterations": iterations, "lambda": 0.01, "projections": ["real"]}),
        json!({"method": "kaczmarz", "iterations": iterations, "lambda": 0.01, "projections": ["positive"]}),
        json!({"method": "kaczmarz", "iterations": iterations, "lambda": 0.01,
               "projections": ["real", "positive"], "penalty": {"l1": {"lambda": 0.002}}}),
        json!({"method": "kaczmarz", "iterations": iterations, "penalty": {"l2": {"lambda": 0.002}}}),
        json!({"method": "kaczmarz", "iterations": iterations, "lambda": 0.01,
               "penalty": {"tv": {"lambda": 0.002, "grid": [2, 3, 4]}}}),
        json!({"method": "kaczmarz", "iterations": iterations, "lambda": 0.01,
               "penalty": {"tv": {"lambda": 0.002, "grid": [6, 1, 4], "kind": "anisotropic"}}}),
        json!({"method": "kaczmarz", "iterations": iterations, "lambda": 0.01, "order": {"shuffled": {}}}),
        json!({"method": "kaczmarz", "iterations": iterations, "lambda": 0.01,
               "order": {"shuffled": {"seed": 7}}, "block": 1}),
        json!({"method": "kaczmarz", "iterations": iterations, "lambda": 0.01,
               "order": {"sampled": {"fraction": 0.4}}}),
        json!({"method": "kaczmarz", "iterations": iterations,
               "lambda": (1..=24).map(|n| 0.01 * f64::from(n)).collect::<Vec<_>>()}),
    ];
    let mut cases = Vec::new();
    for solver in solvers {
        cases.push(Case::new(40, 24, 1, solver.clone()));
        cases.push(Case::new(40, 24, 5, solver.clone()).weighted().started());
        cases.push(Case::new(17, 24, 2, solver).started());
    }
    compare(&cases);
}

#[test]
fn the_other_methods_agree_with_the_reference() {
    // Conjugate gradients amplify rounding from step to step, until they converge: the comparison takes few of them.
    let tv = json!({"tv": {"lambda": 0.01, "grid": [4, 3, 2]}});
    let solvers = [
        json!({"method": "cgnr", "iterations": 5, "lambda": 0.02}),
        json!({"method": "cgnr", "iterations": 5, "lambda": 0.02, "projections": ["positive"]}),
        json!({"method": "fista", "iterations": 12, "step": 0.01, "penalty": {"l1": {"lambda": 0.004}}}),
        json!({"method": "fista", "iterations": 12, "step": 0.01, "penalty": tv, "projections": ["positive"]}),
        json!({"method": "fista", "iterations": 12, "step": 0.01, "penalty": {"l2": {"lambda": 0.02}},
               "normalisation": "measurement", "restart": false}),
        json!({"method": "admm", "penalty": {"l1": {"lambda": 0.02}}, "rho": 0.5, "inner-iterations": 4}),
        json!({"method": "admm", "penalty": tv, "rho": 0.5, "inner-iterations": 4}),
        json!({"method": "admm", "penalty": {"l2": {"lambda": 0.02}}, "rho": 0.5, "inner-iterations": 4,
               "projections": ["real"], "normalisation": "none"}),
        json!({"method": "direct", "lambda": 0.02}),
        json!({"method": "direct", "lambda": 0.5, "normalisation": "measurement", "projections": ["positive"]}),
    ];
    let mut cases = Vec::new();
    for solver in solvers {
        cases.push(Case::new(40, 24, 1, solver.clone()));
        cases.push(Case::new(40, 24, 2, solver.clone()).weighted().started());
        cases.push(Case::new(17, 24, 1, solver));
    }
    compare(&cases);
}

#[test]
fn blocks_give_the_iterates_of_one_row_after_the_other() {
    for (lambda, positive, weighted, frames) in
        [(0.0, false, false, 1), (0.01, false, true, 1), (0.0, true, true, 6), (0.01, true, false, 17)]
    {
        let case = |block: usize| {
            let projections: &[&str] = if positive { &["positive"] } else { &[] };
            let solver = json!({"method": "kaczmarz", "iterations": 3, "lambda": lambda, "block": block,
                                "projections": projections, "order": {"shuffled": {}}});
            let case = Case::new(150, 60, frames, solver);
            if weighted { case.weighted() } else { case }
        };
        let (double, single) = (case(1).solve::<f64>().image, wide(&case(1).solve::<f32>().image));
        for block in [16, 64, 120, 1000] {
            let (far, near) = (
                distance(&case(block).solve::<f64>().image, &double),
                distance(&case(block).solve::<f32>().image, &single),
            );
            assert!(far < 1e-12, "{far:e} in double precision, blocks of {block}");
            assert!(near < 1e-5, "{near:e} in single precision, blocks of {block}");
        }
    }
}

#[test]
fn kaczmarz_converges_to_the_regularised_solution() {
    let lambda = 0.3;
    let kaczmarz = json!({"method": "kaczmarz", "iterations": 3000, "lambda": lambda});
    let direct = json!({"method": "direct", "lambda": lambda});
    for (rows, columns) in [(30, 12), (12, 20)] {
        let found = Case::new(rows, columns, 1, kaczmarz.clone()).weighted().solve::<f64>();
        let expected = Case::new(rows, columns, 1, direct.clone()).weighted().solve::<f64>();
        let far = distance(&found.image, &expected.image);
        assert!(far < 1e-12, "{far:e} for {rows} rows of {columns}");
        assert!((found.report.residuals[0] / expected.report.residuals[0] - 1.0).abs() < 1e-12);
    }
}

/// The numbers are those of the documentation of RegularizedLeastSquares.jl, the only ones that it states.
#[test]
fn admm_gives_the_published_numbers() {
    let real = |values: &[f64]| values.iter().map(|value| Complex::new(*value, 0.0)).collect::<Vec<_>>();
    let matrix = real(&[0.831658, 0.96717, 0.383056, 0.39043, 0.820692, 0.08118]);
    let x = [0.593_223_452_339_998_5, 0.269_753_434_534_001_5];
    let data = matrix.chunks_exact(2).map(|row| row[0] * x[0] + row[1] * x[1]).collect();
    let solver = json!({"method": "admm", "penalty": {"l1": {"lambda": 1e-4}}, "normalisation": "none"});
    let case = Case { rows: 3, columns: 2, matrix, data, weights: None, start: None, solver };
    let found = case.solve::<f64>().image;
    for (found, expected) in found.iter().zip([0.593_217_150_922_210_5, 0.269_713_705_660_798_66]) {
        assert!((found - expected).norm() < 1e-12, "{found}");
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    // A block of 64 rows of 2100 voxels is above the size from which work is handed out.
    let big = |method: Value, frames| Case::new(700, 2100, frames, method);
    let block = json!({"method": "kaczmarz", "iterations": 2, "lambda": 0.01, "block": 64});
    let cases = [
        big(block.clone(), 1),
        big(block, 20).weighted(),
        big(json!({"method": "cgnr", "iterations": 3, "lambda": 0.01}), 1),
        big(json!({"method": "fista", "iterations": 3, "penalty": {"l1": {"lambda": 0.01}}}), 1),
        Case::new(200, 300, 1, json!({"method": "direct", "lambda": 0.01})),
        Case::new(300, 200, 1, json!({"method": "direct", "lambda": 0.01})),
    ];
    for case in cases {
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| case.solve::<f32>())
        };
        let (one, two, five) = (with(1), with(2), with(5));
        assert!(one == two && one == five, "{}", case.solver);
    }
}

#[test]
fn frames_together_are_frames_alone() {
    let solvers = [
        json!({"method": "kaczmarz", "iterations": 3, "lambda": 0.01, "projections": ["positive"]}),
        json!({"method": "kaczmarz", "iterations": 3, "lambda": 0.01, "block": 1}),
        json!({"method": "kaczmarz", "iterations": 3, "lambda": 0.01, "order": {"sampled": {}}}),
        json!({"method": "kaczmarz", "iterations": 3, "lambda": 0.01, "normalisation": "measurement"}),
        json!({"method": "cgnr", "iterations": 3, "lambda": 0.01}),
    ];
    for solver in solvers {
        for frames in [2, 4, 16, 21] {
            let all = Case::new(50, 33, frames, solver.clone()).weighted().started();
            let together = all.solve::<f64>();
            for frame in 0..frames {
                let data = all.data[frame * 50..][..50].to_vec();
                let alone = Case { data, ..all.clone() }.solve::<f64>();
                let far = distance(&together.image[frame * 33..][..33], &alone.image);
                assert!(far < 1e-12, "{far:e}, frame {frame} of {frames}: {solver}");
                assert!((together.report.residuals[frame] - alone.report.residuals[0]).abs() < 1e-12);
                assert_eq!(together.report.lambdas[frame], alone.report.lambdas[0]);
            }
        }
    }
}

#[test]
fn the_report_says_what_was_done() {
    let case = Case::new(40, 24, 2, json!({"method": "kaczmarz", "iterations": 3, "lambda": 0.5})).weighted();
    let solution = case.solve::<f64>();
    let weights = case.weights.clone().unwrap();
    let row = |k: usize| &case.matrix[k * 24..][..24];
    let energy = |k: usize| weights[k] * weights[k] * row(k).iter().map(|a| a.norm_sqr()).sum::<f64>();
    assert_eq!(solution.report.iterations, [3, 3]);
    // Rows 5, 18 and 31 are zero; of the weights, every fifth from 3 on, 18 among them.
    assert_eq!((solution.report.rows_used, solution.report.rows_skipped), (30, 10));
    let lambda = 0.5 * (0..40).map(energy).sum::<f64>() / 24.0;
    for frame in 0..2 {
        assert!((solution.report.lambdas[frame].unwrap() / lambda - 1.0).abs() < 1e-12);
        let x = &solution.image[frame * 24..][..24];
        let rest = |k: usize| {
            let ax: Complex<f64> = row(k).iter().zip(x).map(|(a, x)| a * x).sum();
            weights[k].powi(2) * (case.data[frame * 40 + k] - ax).norm_sqr()
        };
        let expected = (0..40).map(rest).sum::<f64>().sqrt();
        assert!((solution.report.residuals[frame] / expected - 1.0).abs() < 1e-12);
    }
}

#[test]
fn what_cannot_be_solved_is_refused_with_numbers() {
    let solver = Solver::Kaczmarz(Kaczmarz::default());
    let one = Complex::new(1.0_f64, 0.0);
    let matrix = Matrix::new(3, 2, vec![one; 6]).unwrap();
    let say = |data: &[Complex<f64>], start: Option<&[Complex<f64>]>, weights: Option<&[f64]>| {
        let problem = Problem { operator: &matrix, weights, data, start };
        solve(&solver, &problem, &Control::default()).map(|_| ()).unwrap_err().to_string()
    };
    assert_eq!(say(&[], None, None), "there are 0 values of data, where there should be 3");
    assert_eq!(say(&[one; 4], None, None), "there are 4 values of data, where there should be 6");
    let nan = Complex::new(0.0, f64::NAN);
    assert_eq!(
        say(&[one, one, nan], None, None),
        "value of the data number 2 (counted from 0) is not finite"
    );
    assert_eq!(
        say(&[one; 3], Some(&[one]), None),
        "there are 1 voxels to start with, where there should be 2"
    );
    assert_eq!(
        say(&[one; 3], Some(&[one, nan]), None),
        "voxel to start with number 1 (counted from 0) is not finite"
    );
    assert_eq!(say(&[one; 3], None, Some(&[1.0])), "there are 1 weights, where there should be 3");
    assert_eq!(say(&[one; 3], None, Some(&[0.0; 3])), "all 3 rows of the matrix are zero");
    let large = Matrix::new(2, 1, vec![Complex::new(1.0_f32, 0.0), Complex::new(1e30, 0.0)]).unwrap();
    let said = Prepared::new(&solver, &large, None).map(|_| ()).unwrap_err().to_string();
    assert_eq!(said, "squared norm of row number 1 (counted from 0) is not finite");
    let per_voxel = json!({"method": "kaczmarz", "lambda": [1.0, 2.0], "normalisation": "measurement"});
    let per_voxel: Solver = serde_json::from_value(per_voxel).unwrap();
    let problem = Problem { operator: &matrix, weights: None, data: &[Complex::default(); 3], start: None };
    let said = solve(&per_voxel, &problem, &Control::default()).map(|_| ()).unwrap_err().to_string();
    assert_eq!(said, "`lambda` is 0, and should be a positive number after normalisation");
    let huge = Complex::new(1e300, 0.0);
    let step: Solver = serde_json::from_value(json!({"method": "fista", "step": 1e10})).unwrap();
    let problem = Problem { operator: &matrix, weights: None, data: &[huge; 3], start: None };
    let said = solve(&step, &problem, &Control::default()).map(|_| ()).unwrap_err().to_string();
    assert_eq!(said, "the image of frame 0 (counted from 0) is not finite after iteration 50");
}

/// A frame without signal has an image without signal, whatever the method and the unit of λ.
#[test]
fn zeros_give_zeros() {
    for method in ["kaczmarz", "cgnr", "fista", "admm", "direct"] {
        for normalisation in ["none", "system-matrix", "measurement"] {
            let mut solver = json!({"method": method, "normalisation": normalisation});
            match method {
                "fista" | "admm" => solver["penalty"] = json!({"tv": {"lambda": 0.1, "grid": [4, 3, 2]}}),
                _ => solver["lambda"] = json!(0.1),
            }
            // Without a row of zeros, so that the direct solution needs no λ.
            let mut case = Case::new(30, 24, 2, solver);
            case.matrix = random(30 * 24, 21);
            case.data.fill(Complex::default());
            let solution = case.solve::<f64>();
            assert!(solution.image.iter().all(|value| value.norm() == 0.0), "{}", case.solver);
            assert_eq!(solution.report.residuals, [0.0, 0.0]);
        }
    }
}

#[test]
fn tolerances_end_a_method() {
    let solve = |solver: Value| Case::new(40, 24, 1, solver).solve::<f64>();
    let cgnr =
        |tolerance: f64| json!({"method": "cgnr", "iterations": 24, "lambda": 1.0, "tolerance": tolerance});
    let (loose, tight) = (solve(cgnr(1e-2)), solve(cgnr(1e-9)));
    assert!(loose.report.iterations[0] < tight.report.iterations[0] && tight.report.iterations[0] < 24);
    // Never more than voxels, in which it would be exact but for rounding.
    let endless = solve(json!({"method": "cgnr", "iterations": 1000, "tolerance": 0.0}));
    assert_eq!(endless.report.iterations, [24]);
    for method in ["fista", "admm"] {
        let penalty = json!({"l1": {"lambda": 0.001}});
        let with = |tolerance: f64| {
            let mut solver = json!({"method": method, "iterations": 5000, "tolerance": tolerance});
            if method == "admm" {
                solver["penalty"] = penalty.clone();
            }
            solve(solver).report.iterations[0]
        };
        let (loose, tight) = (with(1e-2), with(1e-4));
        assert!(0 < loose && loose < tight && tight < 5000, "{method}: {loose} and {tight}");
    }
}

#[test]
fn a_plan_in_toml_holds_a_solver() {
    let text = "method = \"kaczmarz\"\niterations = 3\nlambda = 0\nprojections = [\"positive\"]\n\
                order = { shuffled = { seed = 5 } }\npenalty = { tv = { lambda = 0.1, grid = [2, 3, 4] } }\n";
    let solver: Solver = toml::from_str(text).unwrap();
    assert!(solver.check(24).is_ok());
    let again: Solver = toml::from_str(&toml::to_string(&solver).unwrap()).unwrap();
    assert_eq!(solver, again);
    assert_eq!(
        toml::from_str::<Solver>("method = \"kaczmarz\"").unwrap(),
        Solver::Kaczmarz(Kaczmarz::default())
    );
    for method in ["kaczmarz", "cgnr", "fista", "admm", "direct"] {
        assert!(toml::from_str::<Solver>(&format!("method = \"{method}\"")).unwrap().check(1).is_ok());
        let said = toml::from_str::<Solver>(&format!("method = \"{method}\"\nlamda = 1")).unwrap_err();
        assert!(said.to_string().contains("unknown field `lamda`"), "{said}");
    }
}

#[test]
fn a_caller_hears_of_iterations_and_calls_it_off() {
    for method in ["kaczmarz", "cgnr", "fista", "admm"] {
        let case = Case::new(40, 24, 1, json!({"method": method, "iterations": 5}));
        let matrix = Matrix::borrowed(40, 24, &case.matrix).unwrap();
        let solver = case.solver();
        let prepared = Prepared::new(&solver, &matrix, None).unwrap();
        let (heard, cancel) = (Mutex::new(Vec::new()), AtomicBool::new(false));
        let tell = |progress: hatchway_recon::solve::Progress| {
            heard.lock().unwrap().push((progress.iteration, progress.iterations_max));
            cancel.store(progress.iteration == 2, Ordering::Relaxed);
        };
        let control = Control { progress: Some(&tell), ..Control::default() };
        prepared.run(&case.data, None, &control).unwrap();
        assert_eq!(
            std::mem::take(&mut *heard.lock().unwrap()),
            [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)],
            "{method}"
        );
        let control = Control { cancel: Some(&cancel), ..control };
        let said = prepared.run(&case.data, None, &control).unwrap_err().to_string();
        assert_eq!(said, "called off after iteration 2", "{method}");
        assert_eq!(std::mem::take(&mut *heard.lock().unwrap()).len(), 2, "{method}");
    }
}

/// Σ conj(x_n) y_n
fn inner(x: &[Complex<f64>], y: &[Complex<f64>]) -> Complex<f64> {
    x.iter().zip(y).map(|(x, y)| x.conj() * y).sum()
}

fn method() -> impl Strategy<Value = Value> {
    let kaczmarz = |extra: Value| {
        let mut solver = json!({"method": "kaczmarz", "iterations": 3, "lambda": 0.01});
        solver.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        solver
    };
    prop::sample::select(vec![
        kaczmarz(json!({})),
        kaczmarz(json!({"projections": ["positive"]})),
        kaczmarz(json!({"order": {"shuffled": {}}, "block": 5})),
        json!({"method": "cgnr", "iterations": 3, "lambda": 0.01}),
        json!({"method": "direct", "lambda": 0.01}),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// ⟨A x, y⟩ = ⟨x, Aᴴ y⟩, with weights and without.
    #[test]
    fn forward_and_adjoint_belong_together(rows in 1_usize..600, columns in 1_usize..40, seed: u64) {
        let matrix = Matrix::new(rows, columns, random(rows * columns, seed)).unwrap();
        let weights: Vec<f64> = random(rows, seed ^ 1).iter().map(|value| value.re + 0.5).collect();
        let weighted = Weighted::new(&matrix, &weights).unwrap();
        let (x, y) = (random(columns, seed ^ 2), random(rows, seed ^ 3));
        for operator in [&matrix as &dyn Operator<f64>, &weighted] {
            let (mut ax, mut back) = (y.clone(), x.clone());
            operator.forward(&x, &mut ax);
            operator.adjoint(&y, &mut back);
            let (left, right) = (inner(&ax, &y), inner(&x, &back));
            prop_assert!((left - right).norm() < 1e-10, "{left} {right}");
        }
    }

    /// With λ normalised by the system matrix, an image is divided by what the matrix is multiplied with, and multiplied
    /// with what the data is.
    #[test]
    fn scales_of_matrix_and_data_go_into_the_image(
        rows in 14_usize..60, columns in 1_usize..30, a in 1e-3..1e3, b in 1e-3..1e3, solver in method(),
    ) {
        let case = Case::new(rows, columns, 1, solver);
        let expected: Vec<_> = case.solve::<f64>().image.iter().map(|value| value * (b / a)).collect();
        let mut scaled = case;
        scaled.matrix.iter_mut().for_each(|value| *value *= a);
        scaled.data.iter_mut().for_each(|value| *value *= b);
        let far = distance(&scaled.solve::<f64>().image, &expected);
        prop_assert!(far < 1e-9, "{far:e}");
    }

    /// Voxels have no order: other columns, the same values elsewhere.
    #[test]
    fn permuted_columns_permute_the_image(
        rows in 14_usize..60, columns in 1_usize..30, by in 0_usize..30, solver in method(),
    ) {
        let case = Case::new(rows, columns, 1, solver);
        let by = by % columns;
        let mut expected = case.solve::<f64>().image;
        expected.rotate_left(by);
        let mut permuted = case;
        permuted.matrix.chunks_exact_mut(columns).for_each(|row| row.rotate_left(by));
        let far = distance(&permuted.solve::<f64>().image, &expected);
        prop_assert!(far < 1e-9, "{far:e}");
    }
}

/// Times of sweeps at the size of a large 3-D system matrix after the selection of rows. Prints; asserts nothing about
/// time.
#[test]
#[ignore = "measures; run it in the release profile with --nocapture"]
fn times_of_a_sweep() {
    let (rows, columns, rounds) = (2000, 6859, 15);
    let matrix = Matrix::new(rows, columns, narrow::<f32>(&random(rows * columns, 1))).unwrap();
    for frames in [1, 2, 4, 8, 16] {
        let data = narrow::<f32>(&random(rows * frames, 2));
        for block in [1, 8, 16, 32, 64, 128] {
            let solver: Solver = serde_json::from_value(
                json!({"method": "kaczmarz", "iterations": 1, "lambda": 0.01, "block": block}),
            )
            .unwrap();
            let started = std::time::Instant::now();
            let prepared = Prepared::new(&solver, &matrix, None).unwrap();
            let preparation = started.elapsed();
            for threads in [1, 2] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let control = Control { skip_residuals: true, ..Control::default() };
                let time = |_| {
                    let started = std::time::Instant::now();
                    pool.install(|| prepared.run(&data, None, &control)).unwrap();
                    started.elapsed()
                };
                let best = (0..rounds).map(time).min().unwrap();
                println!(
                    "{frames} frames, blocks of {block}, {threads} threads: {best:.1?}, prepared in {preparation:.0?}"
                );
            }
        }
    }
}
