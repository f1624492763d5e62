//! Several patches as one system: products, solvers, and the way from files to an image.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod desk;
mod same;

use std::fs;
use std::process::Command;
use std::sync::OnceLock;

use hatchway_recon::solve::{Matrix, Operator, Patch, Patches};
use num_complex::Complex;
use serde_json::{Value, json};

use desk::Desk;
use same::{Number, far, random, same_bits, same_products, same_solutions};

const ORACLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/oracles/operators.py");
const PLAN: &str = "reconstruct-patches-2d.toml";
const CALIBRATION: &str = "patches-calibration-2d.toml";
const LARGE: [usize; 3] = [40, 30, 1];

/// Where column n of a small grid is in the large one.
fn place(small: [usize; 3], shift: [i64; 3], n: usize) -> Option<usize> {
    let at = |value: usize, shift: i64, size: usize| {
        usize::try_from(i64::try_from(value).unwrap() + shift).ok().filter(|at| *at < size)
    };
    let x = at(n % small[0], shift[0], LARGE[0])?;
    let y = at(n / small[0] % small[1], shift[1], LARGE[1])?;
    Some(x + LARGE[0] * y)
}

/// Five patches with two matrices, some of them not wholly inside, and the last one with a map that is no shift; and the
/// dense matrix that this is.
fn system() -> (Patches<'static, f64>, Matrix<'static, f64>) {
    let grids = [[13, 11, 1], [20, 16, 1]];
    let rows = [9, 12];
    let entries = [random(9 * 143, 61), random(12 * 320, 62)];
    let shifts = [(0, [0, 0, 0]), (1, [12, 7, 0]), (0, [30, -3, 0]), (1, [-2, 20, 0])];
    let mut maps: Vec<(usize, Vec<Option<usize>>)> = Vec::new();
    for (matrix, shift) in shifts {
        let count = grids[matrix].iter().product();
        maps.push((matrix, (0..count).map(|n| place(grids[matrix], shift, n)).collect()));
    }
    // 77 has no divisor in common with 1200, so no voxel is met twice.
    maps.push((0, (0..143).map(|n| (n % 5 != 2).then_some(n * 77 % 1200)).collect()));
    let mut patches = Vec::new();
    for (index, (matrix, shift)) in shifts.into_iter().enumerate() {
        patches.push(Patch::shifted(matrix, grids[matrix], LARGE, shift).unwrap());
        assert_eq!(patches[index], Patch::new(matrix, &maps[index].1).unwrap());
    }
    patches.push(Patch::new(0, &maps[4].1).unwrap());
    let mut dense: Vec<Number> = Vec::new();
    for (matrix, map) in &maps {
        for row in entries[*matrix].chunks_exact(map.len()) {
            let mut large = vec![Complex::default(); 1200];
            map.iter().zip(row).for_each(|(to, value)| {
                if let Some(to) = to {
                    large[*to] = *value;
                }
            });
            dense.extend(large);
        }
    }
    let matrices = entries.into_iter().zip(rows).zip(grids);
    let matrices =
        matrices.map(|((entries, rows), grid)| Matrix::new(rows, grid.iter().product(), entries).unwrap());
    let patches = Patches::new(matrices.collect(), patches, 1200).unwrap();
    (patches, Matrix::new(51, 1200, dense).unwrap())
}

#[test]
fn products_are_those_of_the_assembled_matrix() {
    let (patches, dense) = system();
    same_products(&patches, &dense);
    assert_eq!(patches.matrices().len(), 2);
    assert_eq!(patches.entries(), dense.entries().iter().filter(|value| value.norm() > 0.0).count());
}

#[test]
fn solutions_are_those_of_the_assembled_matrix() {
    let (patches, dense) = system();
    same_solutions(&patches, &dense, LARGE);
    same_bits(&patches, LARGE);
}

/// A desk with the files of the scan of four patches, which are computed once.
fn simulated() -> Desk {
    static FILES: OnceLock<Vec<(&str, Vec<u8>)>> = OnceLock::new();
    let (scan, truth, calibration) = ("patches.mdf", "patches-truth.mdf", "patches-calibration.mdf");
    let desk = Desk::new();
    let files = FILES.get_or_init(|| {
        desk.ok(&["simulate", "patches-2d.toml", "--scan", scan, "--truth", truth]);
        desk.ok(&["simulate", CALIBRATION, "--calibration", calibration]);
        [scan, truth, calibration].map(|name| (name, fs::read(desk.path(name)).unwrap())).into()
    });
    files.iter().for_each(|(name, bytes)| fs::write(desk.path(name), bytes).unwrap());
    desk
}

/// The figures of a reconstruction, its image, and its NRMSE beside the object.
fn reconstructed(desk: &Desk) -> (Value, Vec<Number>, f64) {
    let figures: Value = serde_json::from_str(&desk.ok(&["reconstruct", PLAN, "--json", "--force"])).unwrap();
    let image = desk.image("patches-image.mdf").data;
    let likeness = desk.ok(&["compare", "patches-image.mdf", "patches-truth.mdf", "--json"]);
    let likeness: Value = serde_json::from_str(&likeness).unwrap();
    let image = image.into_iter().map(|value| Complex::new(f64::from(value), 0.0)).collect();
    (figures, image, likeness["nrmse"].as_f64().unwrap())
}

fn oracle(desk: &Desk, args: &[&str]) -> Vec<u8> {
    let output =
        Command::new("/usr/bin/python3").arg(ORACLE).args(args).current_dir(desk.folder.path()).output();
    let output = output.expect("no /usr/bin/python3: apt-get install python3-h5py");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn an_object_wider_than_a_field_of_view_is_seen_whole() {
    let desk = simulated();
    let (figures, image, nrmse) = reconstructed(&desk);
    println!("four patches: nrmse {nrmse:.4}");
    assert!(nrmse < 0.05, "{nrmse}");
    assert_eq!(figures["warnings"], json!([]));
    let shifts = json!([[-11, -11, 0], [11, -11, 0], [-11, 11, 0], [11, 11, 0]]);
    assert_eq!(figures["patches"], json!({"patches": 4, "matrices": 1, "shifts": shifts}));
    // One patch alone cannot: most of the object is beside it.
    let dot = image[39 + 48 * 38].re;
    assert!(dot > 50.0, "the dot has {dot} mmol/L");
    desk.change(PLAN, "[solver]", "[weights]\nwhitening = \"patches.mdf\"\n[solver]");
    let (_, whitened, nrmse) = reconstructed(&desk);
    println!("four patches, whitened: nrmse {nrmse:.4}");
    assert!(nrmse < 0.06 && far(&whitened, &image) > 1e-3, "{nrmse}");
    desk.change(PLAN, "[weights]\nwhitening = \"patches.mdf\"\n", "");
    desk.change(PLAN, "background = \"interpolated\"", "background = \"mean\"");
    let (figures, image, _) = reconstructed(&desk);
    let args = ["patches", "patches.mdf", "patches-calibration.mdf", "80e3", "3", "20", "0.01"];
    let expected: Value = serde_json::from_slice(&oracle(&desk, &args)).unwrap();
    assert_eq!(figures["rows"], expected["rows"]);
    let expected: Vec<f64> = serde_json::from_value(expected["image"].clone()).unwrap();
    let expected: Vec<Number> = expected.into_iter().map(|value| Complex::new(value, 0.0)).collect();
    assert!(far(&image, &expected) < 1e-4, "{:e}", far(&image, &expected));
    assert!(desk.ok(&["reconstruct", PLAN, "--force"]).contains("\npatches   4, of 1 system matrices\n"));
}

#[test]
fn the_nearest_calibration_is_a_patchs_own() {
    let desk = simulated();
    let (_, alone, _) = reconstructed(&desk);
    // Made where the last period is, with noise of its own, on a grid that is moved as its field of view.
    desk.change(
        CALIBRATION,
        "[[coils]]\nsensitivity = [1e-3",
        "offset = [0.011, 0.011, 0.0]\n[[coils]]\nsensitivity = [1e-3",
    );
    desk.change(CALIBRATION, "[calibration.grid]\n", "[calibration.grid]\ncenter = [0.011, 0.011, 0.0]\n");
    desk.change(CALIBRATION, "seed = 4", "seed = 5");
    desk.ok(&["simulate", CALIBRATION, "--calibration", "other.mdf"]);
    desk.change(PLAN, "[patches.grid]", "[patches]\ncalibrations = [\"other.mdf\"]\n[patches.grid]");
    let (figures, image, nrmse) = reconstructed(&desk);
    println!("two calibrations: nrmse {nrmse:.4}, {:.2e} from one", far(&image, &alone));
    assert_eq!(figures["patches"]["matrices"], json!(2));
    assert_eq!(figures["patches"]["shifts"][3], json!([11, 11, 0]));
    assert!(nrmse < 0.05 && far(&image, &alone) > 1e-4 && far(&image, &alone) < 0.1, "{nrmse}");
    // Each other file must fit, too.
    desk.change(CALIBRATION, "iron = 100.0\naverages", "iron = 50.0\naverages");
    desk.ok(&["simulate", CALIBRATION, "--calibration", "other.mdf", "--force"]);
    let said = desk.fails(&["reconstruct", PLAN, "--force"]);
    assert!(
        said.contains("`/tracer/concentration` of `")
            && said.contains("other.mdf` is 50 mmol/L, not 100 mmol/L"),
        "{said}"
    );
}

#[test]
fn shifts_are_of_whole_voxels() {
    let desk = simulated();
    let grid = "[patches.grid]          # voxels";
    desk.change(PLAN, grid, "[patches.grid]\ncenter = [0.0003, 0.0, 0.0]\n# voxels");
    let said = desk.fails(&["reconstruct", PLAN]);
    assert!(said.contains("`/acquisition/offsetField`") && said.contains("at whole voxels"), "{said}");
    desk.change(PLAN, "center = [0.0003", "center = [0.00002");
    let (figures, ..) = reconstructed(&desk);
    let told = "the patch of period 0 (counted from 0) is moved by 0.020 voxels, to whole ones";
    assert_eq!(figures["warnings"][0], json!(told));
    assert_eq!(figures["warnings"].as_array().unwrap().len(), 4);
}

#[test]
fn what_is_not_covered_is_told() {
    let desk = simulated();
    desk.change(PLAN, "size = [48, 48, 1]", "size = [80, 48, 1]");
    desk.change(PLAN, "field-of-view = [0.048,", "field-of-view = [0.08,");
    let figures: Value = serde_json::from_str(&desk.ok(&["reconstruct", PLAN, "--json", "--force"])).unwrap();
    assert_eq!(figures["warnings"], json!(["480 of 3840 voxels of the image are in no patch"]));
    desk.change(PLAN, "field-of-view", "center = [0.065, 0.0, 0.0]\nfield-of-view");
    let figures: Value = serde_json::from_str(&desk.ok(&["reconstruct", PLAN, "--json", "--force"])).unwrap();
    let told = figures["warnings"][0].as_str().unwrap();
    assert_eq!(told, "the patch of period 0 (counted from 0) is outside of the image");
}

#[test]
fn files_that_do_not_fit_are_told() {
    let desk = simulated();
    desk.change(PLAN, "field-of-view = [0.048, 0.048", "field-of-view = [0.049, 0.048");
    let said = desk.fails(&["reconstruct", PLAN]);
    assert!(said.contains("`/calibration/fieldOfView`") && said.contains("of voxels of [0.001, "), "{said}");
    assert!(said.contains("as in `[patches.grid]`"), "{said}");
    desk.change(PLAN, "field-of-view = [0.049, 0.048", "field-of-view = [0.048, 0.048");
    desk.change(CALIBRATION, "[[coils]]\nsensitivity = [1e-3", "[[sequence.periods]]\ngradient = [[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 2.0]]\n[[coils]]\nsensitivity = [1e-3");
    let calibrate = ["simulate", CALIBRATION, "--calibration", "patches-calibration.mdf", "--force"];
    desk.ok(&calibrate);
    let said = desk.fails(&["reconstruct", PLAN]);
    assert!(said.contains("`/acquisition/numPeriodsPerFrame`") && said.contains("is 2, not 1"), "{said}");
    desk.change(
        CALIBRATION,
        "[[sequence.periods]]\ngradient = [[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 2.0]]\n[[coils]]",
        "[[coils]]",
    );
    desk.change(CALIBRATION, "gradient = [[-1.0", "gradient = [[-1.1");
    desk.ok(&calibrate);
    let said = desk.fails(&["reconstruct", PLAN]);
    assert!(said.contains("`/acquisition/gradient`") && said.contains("as in the scan"), "{said}");
    desk.ok(&["simulate", CALIBRATION, "--scan", "single.mdf"]);
    desk.change(PLAN, "[solver]", "[weights]\nwhitening = \"single.mdf\"\n[solver]");
    let said = desk.fails(&["reconstruct", PLAN]);
    assert!(said.contains("single.mdf` is 1, not 4, as in the scan"), "{said}");
    desk.change(PLAN, "whitening = \"single.mdf\"", "");
    oracle(&desk, &["without", "patches.mdf", "/acquisition/offsetField"]);
    let said = desk.fails(&["reconstruct", PLAN]);
    assert!(said.contains("has no dataset `/acquisition/offsetField`"), "{said}");
}
