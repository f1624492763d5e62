//! An operator beside the dense matrix that it should be.
#![allow(dead_code, reason = "each test file uses its part")]

use hatchway_recon::solve::{
    Control, Lanes, Matrix, Operator, Problem, Projection, Real, Solution, Solver, SplitMix64, solve,
};
use num_complex::Complex;
use serde_json::json;

pub(crate) type Number = Complex<f64>;

/// Numbers of 24 bits, so that both precisions have the same.
pub(crate) fn random(length: usize, seed: u64) -> Vec<Number> {
    let mut source = SplitMix64::new(seed);
    let mut part = || f64::from(f32::of(source.unit() - 0.5));
    (0..length).map(|_| Complex::new(part(), part())).collect()
}

pub(crate) fn far(a: &[Number], b: &[Number]) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |x: f64, y: &Number| x + y.norm_sqr();
    let difference = a.iter().zip(b).map(|(a, b)| (a - b).norm_sqr()).sum::<f64>();
    (difference / b.iter().fold(f64::MIN_POSITIVE, norm)).sqrt()
}

/// The dense matrix that an operator says to be.
pub(crate) fn dense(operator: &dyn Operator<f64>) -> Matrix<'static, f64> {
    let mut entries = Vec::new();
    for row in 0..operator.rows() {
        let mut values = random(operator.columns(), 1);
        operator.copy_row(row, &mut values);
        entries.extend(values);
    }
    Matrix::new(operator.rows(), operator.columns(), entries).unwrap()
}

/// Every product of an operator beside that of a matrix.
pub(crate) fn same_products(operator: &dyn Operator<f64>, matrix: &Matrix<'_, f64>) {
    let (m, n) = (matrix.rows(), matrix.columns());
    assert_eq!((operator.rows(), operator.columns()), (m, n));
    let near = |what: &str, a: &[Number], b: &[Number]| assert!(far(a, b) < 1e-12, "{what}: {:e}", far(a, b));
    near("rows", dense(operator).entries(), matrix.entries());
    for row in 0..m {
        assert!((operator.row_norm_squared(row) - matrix.row_norm_squared(row)).abs() < 1e-12, "row {row}");
    }
    let (x, y) = (random(n, 2), random(m, 3));
    // Out of order, as in a shuffled sweep, and across patches.
    let rows: Vec<usize> = (0..m).rev().step_by(2).chain([0]).collect();
    let alpha = &y[..rows.len()];
    let (mut a, mut b) = (random(rows.len(), 4), random(rows.len(), 5));
    operator.rows_dot(&rows, &x, &mut a);
    matrix.rows_dot(&rows, &x, &mut b);
    near("rows_dot", &a, &b);
    let (mut a, mut b) = (x.clone(), x.clone());
    operator.rows_axpy(&rows, alpha, &mut a);
    matrix.rows_axpy(&rows, alpha, &mut b);
    near("rows_axpy", &a, &b);
    for (first, end) in [(0, n), (0, n / 3), (n / 3, n - 1), (n - 1, n)] {
        let part = &x[first..end];
        let (mut a, mut b) = (random(rows.len(), 4), random(rows.len(), 5));
        operator.part_dot(&rows, first, part, &mut a);
        matrix.part_dot(&rows, first, part, &mut b);
        near("part_dot", &a, &b);
        let (mut a, mut b) = (part.to_vec(), part.to_vec());
        operator.part_axpy(&rows, alpha, first, &mut a);
        matrix.part_axpy(&rows, alpha, first, &mut b);
        near("part_axpy", &a, &b);
        same_panels((operator, matrix), &rows, first, part);
    }
    let (mut a, mut b) = (random(m, 4), random(m, 5));
    operator.forward(&x, &mut a);
    matrix.forward(&x, &mut b);
    near("forward", &a, &b);
    let (mut a, mut b) = (random(n, 4), random(n, 5));
    operator.adjoint(&y, &mut a);
    matrix.adjoint(&y, &mut b);
    near("adjoint", &a, &b);
    near("gram", &operator.gram(&rows), &matrix.gram(&rows));
}

fn same_panels(
    (operator, matrix): (&dyn Operator<f64>, &Matrix<'_, f64>),
    rows: &[usize],
    first: usize,
    x: &[Number],
) {
    let panel = |values: &[Number]| -> Vec<Lanes<f64>> {
        let lanes = |value: &Number| {
            let mut lanes = Lanes::zero();
            (0_u8..16).for_each(|lane| lanes.set(usize::from(lane), value * (f64::from(lane) - 3.5)));
            lanes
        };
        values.iter().map(lanes).collect()
    };
    let flat = |panel: &[Lanes<f64>]| -> Vec<Number> {
        panel.iter().flat_map(|lanes| (0..16).map(|lane| lanes.get(lane))).collect()
    };
    let (mut a, mut b) = (panel(&random(rows.len(), 6)), panel(&random(rows.len(), 7)));
    operator.panel_dot(rows, first, &panel(x), &mut a);
    matrix.panel_dot(rows, first, &panel(x), &mut b);
    assert!(far(&flat(&a), &flat(&b)) < 1e-12, "panel_dot");
    let (mut c, mut d) = (panel(x), panel(x));
    operator.panel_axpy(rows, &b, first, &mut c);
    matrix.panel_axpy(rows, &b, first, &mut d);
    assert!(far(&flat(&c), &flat(&d)) < 1e-12, "panel_axpy");
}

/// Every solver with constraints and penalties, for a grid.
pub(crate) fn solvers(grid: [usize; 3]) -> Vec<Solver> {
    let tv = json!({"tv": {"lambda": 1e-3, "grid": grid}});
    let positive = json!(["real", "positive"]);
    let all = [
        json!({"method": "kaczmarz", "iterations": 4, "lambda": 0.01}),
        json!({"method": "kaczmarz", "iterations": 4, "lambda": 0.01, "projections": positive, "block": 1}),
        json!({"method": "kaczmarz", "iterations": 3, "lambda": 0.01, "projections": positive, "block": 5,
            "order": {"shuffled": {"seed": 7}}}),
        json!({"method": "kaczmarz", "iterations": 3, "lambda": 0.01, "projections": ["real"], "penalty": tv}),
        json!({"method": "kaczmarz", "iterations": 3, "penalty": {"l1": {"lambda": 1e-3}}}),
        json!({"method": "cgnr", "iterations": 6, "lambda": 0.01, "projections": positive}),
        // The step that is found depends on the image that the search begins with.
        json!({"method": "fista", "iterations": 8, "step": 1e-3, "penalty": {"l1": {"lambda": 1e-2}},
            "projections": positive}),
        json!({"method": "admm", "iterations": 4, "rho": 2.0, "penalty": tv, "projections": positive}),
        json!({"method": "direct", "lambda": 0.01, "projections": positive}),
    ];
    all.into_iter().map(|solver| serde_json::from_value(solver).unwrap()).collect()
}

pub(crate) fn solved(operator: &dyn Operator<f64>, solver: &Solver, data: &[Number]) -> Solution<f64> {
    let start = random(operator.columns(), 20);
    let start = (!matches!(solver, Solver::Direct(_))).then_some(&start[..]);
    let problem = Problem { operator, weights: None, data, start };
    solve(solver, &problem, &Control::default()).unwrap()
}

/// Solutions with an operator beside those with a matrix, for one frame and for many.
pub(crate) fn same_solutions(operator: &dyn Operator<f64>, matrix: &Matrix<'_, f64>, grid: [usize; 3]) {
    for solver in solvers(grid) {
        for frames in [1, 18] {
            let data = random(matrix.rows() * frames, 21);
            let (a, b) = (solved(operator, &solver, &data), solved(matrix, &solver, &data));
            let difference = far(&a.image, &b.image);
            // Conjugate gradients from nearly the solution on amplify roundings.
            let limit = if matches!(solver, Solver::Admm(_)) { 1e-6 } else { 1e-9 };
            assert!(difference < limit, "{solver:?}: {difference:e}");
            assert!(b.image.iter().any(|value| value.norm() > 1e-3), "{solver:?} does nothing");
            for (a, b) in a.report.residuals.iter().zip(&b.report.residuals) {
                assert!((a - b).abs() < limit * b, "{solver:?}: residuals {a} and {b}");
            }
        }
    }
}

/// The bits of an image do not depend on the number of threads.
pub(crate) fn same_bits(operator: &dyn Operator<f64>, grid: [usize; 3]) {
    for solver in solvers(grid) {
        let data = random(operator.rows(), 22);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| solved(operator, &solver, &data)).image
        };
        let alone = run(1);
        assert!(alone == run(2) && alone == run(3), "{solver:?}");
    }
}

/// Whether constraints hold exactly.
pub(crate) fn is_within(image: &[Number], projection: Projection) -> bool {
    image.iter().all(|value| value.im == 0.0 && (projection == Projection::Real || value.re >= 0.0))
}
