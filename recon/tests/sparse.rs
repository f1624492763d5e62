//! Compressed system matrices: products, solvers, and the way from a file to an image.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod desk;
mod same;

use std::io::Write;
use std::process::{Command, Stdio};

use hatchway_recon::solve::{
    Compressor, Control, Keep, Matrix, Operator, Problem, Projection, Real, Solver, SparseMatrix, Weighted,
    solve,
};
use num_complex::Complex;
use serde_json::{Value, json};

use desk::Desk;
use same::{Number, far, is_within, random, same_bits, same_products, same_solutions, solved, solvers};

const ORACLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/oracles/operators.py");

/// Entries at every fifth place or so, in some rows none.
fn sparse(rows: usize, columns: usize) -> SparseMatrix<f64> {
    let mut matrix = SparseMatrix::new(columns).unwrap();
    for row in 0..rows {
        let values = random(columns, 100 + row as u64);
        let kept = values.into_iter().enumerate().filter(|(_, value)| row % 7 != 4 && value.re > 0.3);
        matrix.push(&kept.collect::<Vec<_>>()).unwrap();
    }
    matrix
}

fn compressed<T: Real>(grid: [usize; 3], keep: Keep, rows: &[Complex<T>]) -> SparseMatrix<T> {
    let mut compressor = Compressor::new(grid, keep).unwrap();
    rows.chunks_exact(grid.iter().product()).for_each(|row| compressor.push(row).unwrap());
    compressor.finish()
}

#[test]
fn products_are_those_of_the_dense_matrix() {
    let matrix = sparse(45, 1100);
    assert!(matrix.kept() < 45 * 1100 / 3);
    let dense = same::dense(&matrix);
    same_products(&matrix, &dense);
    let weights: Vec<f64> = (0..45).map(|row| [1.0, 0.5, 0.0, 2.0][row % 4]).collect();
    let weighted = Weighted::new(&matrix, &weights).unwrap();
    assert_eq!(weighted.entries(), matrix.kept());
    let scaled = same::dense(&Weighted::new(&dense, &weights).unwrap());
    same_products(&weighted, &scaled);
}

#[test]
fn solutions_are_those_of_the_dense_matrix() {
    // More voxels than one part of a sweep has.
    let matrix = sparse(45, 1100);
    same_solutions(&matrix, &same::dense(&matrix), [11, 100, 1]);
    same_bits(&matrix, [11, 100, 1]);
}

#[test]
fn all_coefficients_give_the_image_of_all_voxels() {
    for grid in [[9, 8, 1], [4, 1, 18], [4, 3, 6]] {
        let mut rows = random(50 * 72, 31);
        rows[72 * 3..72 * 4].fill(Complex::default());
        let matrix = compressed(grid, Keep::Ratio(1.0), &rows);
        assert_eq!((matrix.kept(), matrix.basis().is_some()), (49 * 72, true));
        same_solutions(&matrix, &Matrix::borrowed(50, 72, &rows).unwrap(), grid);
    }
}

#[test]
fn constraints_hold_in_voxels_exactly() {
    let grid = [9, 8, 1];
    let (rows, data) = (random(50 * 72, 31), random(50, 32));
    let matrix = compressed(grid, Keep::Ratio(0.2), &rows);
    same_bits(&matrix, grid);
    for solver in solvers(grid).into_iter().skip(5).chain(solvers(grid).into_iter().skip(1).take(2)) {
        let image = solved(&matrix, &solver, &data).image;
        assert!(is_within(&image, Projection::Positive), "{solver:?}");
        assert!(image.iter().any(|value| value.re > 0.0), "{solver:?}");
    }
}

/// The row e_0 of four voxels has the coefficients (1/2, sqrt(1/2) cos(π/8), 1/2, sqrt(1/2) sin(π/8)); the second is
/// the greatest, so the image is a multiple of cos(π (2j + 1) / 8).
#[test]
fn a_known_example() {
    let row = [1.0, 0.0, 0.0, 0.0].map(|value| Complex::new(value, 0.0));
    let matrix = compressed([4, 1, 1], Keep::Ratio(0.25), &row);
    let solver: Solver = serde_json::from_value(json!({"method": "direct"})).unwrap();
    let problem = Problem { operator: &matrix, weights: None, data: &[Complex::new(1.0, 0.0)], start: None };
    let image = solve(&solver, &problem, &Control::default()).unwrap().image;
    let tan = (std::f64::consts::PI / 8.0).tan();
    let expected = [1.0, tan, -tan, -1.0].map(|value| Complex::new(value, 0.0));
    assert!(far(&image, &expected) < 1e-14, "{image:?}");
}

fn oracle(cases: &Value) -> Vec<Value> {
    let mut child = Command::new("/usr/bin/python3")
        .args([ORACLE, "solve"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("no /usr/bin/python3: apt-get install python3-h5py");
    child.stdin.take().unwrap().write_all(cases.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn images_are_those_of_numpy() {
    let (grid, keeps) = ([7, 6, 3], [Keep::Ratio(0.1), Keep::Ratio(0.35), Keep::Threshold(0.4)]);
    let mut rows = random(60 * 126, 41);
    rows[126 * 7..126 * 8].fill(Complex::default());
    let data = random(60, 42);
    let pairs = |values: &[Number]| values.iter().map(|value| [value.re, value.im]).collect::<Vec<_>>();
    let cases = keeps.map(|keep| {
        let keep = match keep {
            Keep::Ratio(ratio) => json!({"ratio": ratio}),
            Keep::Threshold(threshold) => json!({"threshold": threshold}),
        };
        json!({"grid": grid, "matrix": pairs(&rows), "data": pairs(&data), "keep": keep,
            "iterations": 12, "lambda": 0.02})
    });
    for (keep, expected) in keeps.into_iter().zip(oracle(&json!(cases))) {
        let image: Vec<f64> = serde_json::from_value(expected["image"].clone()).unwrap();
        let image: Vec<Number> = image.into_iter().map(|value| Complex::new(value, 0.0)).collect();
        let (wide, kept) = by_kaczmarz::<f64>(grid, keep, &rows, &data);
        assert_eq!(json!(kept), expected["kept"], "{keep:?}");
        assert!(far(&wide, &image) < 1e-10, "{keep:?}: {:e}", far(&wide, &image));
        let (narrow, _) = by_kaczmarz::<f32>(grid, keep, &rows, &data);
        assert!(far(&narrow, &image) < 1e-5, "{keep:?}: {:e}", far(&narrow, &image));
    }
}

fn by_kaczmarz<T: Real>(
    grid: [usize; 3],
    keep: Keep,
    rows: &[Number],
    data: &[Number],
) -> (Vec<Number>, usize) {
    let cast = |values: &[Number]| -> Vec<Complex<T>> {
        values.iter().map(|value| Complex::new(T::of(value.re), T::of(value.im))).collect()
    };
    let matrix = compressed(grid, keep, &cast(rows));
    let solver: Solver = serde_json::from_value(
        json!({"method": "kaczmarz", "iterations": 12, "lambda": 0.02, "projections": ["positive"]}),
    )
    .unwrap();
    let problem = Problem { operator: &matrix, weights: None, data: &cast(data), start: None };
    let image = solve(&solver, &problem, &Control::default()).unwrap().image;
    (image.iter().map(|value| Complex::new(value.re.wide(), value.im.wide())).collect(), matrix.kept())
}

#[test]
fn a_lambda_for_every_voxel_is_refused() {
    let matrix = compressed([2, 2, 1], Keep::Ratio(1.0), &random(8, 51));
    let solver: Solver =
        serde_json::from_value(json!({"method": "kaczmarz", "lambda": [1.0, 1.0, 1.0, 1.0]})).unwrap();
    let problem = Problem { operator: &matrix, weights: None, data: &random(2, 52), start: None };
    let said = solve(&solver, &problem, &Control::default()).unwrap_err().to_string();
    assert_eq!(
        said,
        "a `lambda` for every voxel and a compressed matrix do not go together: its columns are coefficients, not voxels"
    );
}

/// A desk with the files of the 2-D scan.
fn simulated() -> Desk {
    let desk = Desk::new();
    let outputs = ["--scan", "scan.mdf", "--calibration", "calibration.mdf", "--truth", "truth.mdf"];
    desk.ok(&[&["simulate", "lissajous-2d.toml"][..], &outputs].concat());
    desk
}

const PLAN: &str = "reconstruct-2d-compressed.toml";

fn figures(desk: &Desk, plan: &str) -> Value {
    serde_json::from_str(&desk.ok(&["reconstruct", plan, "--json", "--force"])).unwrap()
}

/// The image, and its NRMSE beside the object.
fn image(desk: &Desk, name: &str) -> (Vec<Number>, f64) {
    let likeness: Value = serde_json::from_str(&desk.ok(&["compare", name, "truth.mdf", "--json"])).unwrap();
    let voxels = desk.image(name).data.iter().map(|value| Complex::new(f64::from(*value), 0.0)).collect();
    (voxels, likeness["nrmse"].as_f64().unwrap())
}

#[test]
fn a_compressed_calibration_gives_nearly_the_same_image() {
    let desk = simulated();
    let whole = figures(&desk, "reconstruct-2d.toml");
    assert!(whole.get("compression").is_none() && whole.get("patches").is_none());
    let (dense, dense_nrmse) = image(&desk, "image.mdf");
    let rows = whole["rows"].as_u64().unwrap();
    let mut before = "ratio = 0.2".to_owned();
    for (ratio, most, away) in [(0.2, 1e-3, 0.03), (0.1, 1e-3, 0.03), (1.0, 1e-5, 1e-4)] {
        let now = format!("ratio = {ratio:?}");
        desk.change(PLAN, &before, &now);
        before = now;
        let of = figures(&desk, PLAN);
        assert_eq!(of["rows"].as_u64(), Some(rows));
        let (compressed, nrmse) = image(&desk, "compressed.mdf");
        let difference = far(&compressed, &dense);
        println!(
            "ratio {ratio}: nrmse {nrmse:.4} (dense {dense_nrmse:.4}), {difference:.2e} from the dense one, {}",
            of["compression"]
        );
        assert!(nrmse < dense_nrmse + most, "ratio {ratio}: {nrmse} beside {dense_nrmse}");
        assert!(difference < away, "ratio {ratio}: {difference:e}");
        let kept = rows * [156, 78, 784][[0.2, 0.1, 1.0].iter().position(|of| *of == ratio).unwrap()];
        assert_eq!(of["compression"]["kept"].as_u64(), Some(kept));
        // 12 bytes a coefficient, and the starts of the rows.
        let bytes = u32::try_from(kept * 12 + (rows + 1) * 8).unwrap();
        assert!((of["compression"]["megabytes"].as_f64().unwrap() - f64::from(bytes) / 1e6).abs() < 1e-9);
    }
    desk.change(PLAN, &before, "threshold = 1e-2");
    let of = figures(&desk, PLAN);
    let (compressed, nrmse) = image(&desk, "compressed.mdf");
    println!("threshold 0.01: nrmse {nrmse:.4}, {:.2e}, {}", far(&compressed, &dense), of["compression"]);
    let share = of["compression"]["kept_share"].as_f64().unwrap();
    assert!(share > 0.0 && share < 1.0 && nrmse < dense_nrmse + 1e-3, "{share} {nrmse}");
    let text = desk.ok(&["reconstruct", PLAN, "--force"]);
    assert!(text.contains("\nkept      ") && text.contains("% of the whole matrix"), "{text}");
}

#[test]
fn a_calibration_that_is_stored_as_coefficients_gives_the_same_image() {
    let desk = simulated();
    let output = Command::new("/usr/bin/python3")
        .args([ORACLE, "pack", "calibration.mdf", "packed.mdf", "0.2"])
        .current_dir(desk.folder.path())
        .output()
        .expect("no /usr/bin/python3: apt-get install python3-h5py");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let whole = figures(&desk, PLAN);
    let (expected, _) = image(&desk, "compressed.mdf");
    desk.change(PLAN, "calibration.mdf", "packed.mdf");
    let packed = figures(&desk, PLAN);
    let (found, _) = image(&desk, "compressed.mdf");
    assert_eq!(whole["compression"]["kept"], packed["compression"]["kept"]);
    assert!(far(&found, &expected) < 1e-4, "{:e}", far(&found, &expected));
}

#[test]
fn plans_that_cannot_be_are_told() {
    let desk = simulated();
    let mut before = "ratio = 0.2".to_owned();
    for (now, text) in [
        ("ratio = 0.0", "`ratio` is 0, and should be above 0 and at most 1"),
        ("ratio = 1.5", "`ratio` is 1.5, and should be above 0 and at most 1"),
        ("threshold = 2.0", "`threshold` is 2, and should be above 0 and at most 1"),
        ("ratio = 0.1\nthreshold = 0.1", "`ratio` and `threshold` do not go together"),
        ("ratio = 0.1\nlemon = 1", "lemon"),
        (
            "ratio = 0.1\n[patches.grid]\nsize = [28, 28, 1]\nfield-of-view = [0.028, 0.028, 0.001]",
            "`[patches]` and `[compression]` do not go together: patches have matrices of voxels",
        ),
    ] {
        desk.change(PLAN, &before, now);
        now.clone_into(&mut before);
        let said = desk.fails(&["reconstruct", PLAN]);
        assert!(said.contains(text), "{said}");
    }
}
