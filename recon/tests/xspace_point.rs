//! Field-free points in x-space, and sharpening, through the command line and beside NumPy.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod desk;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use hatchway_recon::physics::{Grid, Particle, Period};
use hatchway_recon::xspace::{
    Deconvolution, NonNegative, Path as Way, Projection, Settings, Wiener, sharp_lines,
};
use serde_json::{Value, json};

use desk::Desk;

/// What the oracle computes, given a text.
fn oracle(args: &[&str], input: &str, folder: &Path) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracles/xspace_point.py");
    let mut command = Command::new("/usr/bin/python3");
    command.arg(script).args(args).current_dir(folder);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("no /usr/bin/python3: apt-get install python3-h5py");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    serde_json::from_value(value.clone()).unwrap()
}

/// The size of the difference beside that of what is expected.
fn difference(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let rest: f64 = found.iter().zip(expected).map(|(a, b)| (a - b).powi(2)).sum();
    (rest / expected.iter().map(|value| value * value).sum::<f64>()).sqrt()
}

fn simulate(desk: &Desk, plan: &str, scan: &str) {
    desk.ok(&["simulate", plan, "--scan", scan, "--truth", "truth.mdf"]);
}

/// Reconstructs, and gives the figures and how the image is like the truth.
fn reconstruct(desk: &Desk, plan: &str, image: &str) -> (Value, Value) {
    let figures = serde_json::from_str(&desk.ok(&["reconstruct", plan, "--force", "--json"])).unwrap();
    let likeness = serde_json::from_str(&desk.ok(&["compare", image, "truth.mdf", "--json"])).unwrap();
    (figures, likeness)
}

const SEARCH: &str = "deconvolution = { non-negative = { iterations = 1000 } }\n";

/// All four images of a scan over a grid, beside those of NumPy.
fn beside_numpy(desk: &Desk, scan: &str, size: [usize; 3], field_of_view: [f64; 3]) {
    let with_commas = |of: String| of.replace(['[', ']', ' '], "");
    let (sizes, edges) = (with_commas(format!("{size:?}")), with_commas(format!("{field_of_view:?}")));
    let args = ["image", scan, &sizes, &edges, "22e-9", "500e3", "1.5e-6", "0.1", "1e-3"];
    let expected = oracle(&args, "", desk.folder.path());
    for (name, known, how, most) in [
        ("mean", "seen", "part = \"mean\"", 1e-6),
        ("native", "reached", "", 1e-6),
        ("wiener", "", "deconvolution = { wiener = { noise = 1e-3 } }", 3e-4),
        ("non-negative", "", "deconvolution = { non-negative = { iterations = 1000, lambda = 1e-3 } }", 3e-4),
    ] {
        let plan = format!(
            "method = \"x-space\"\nscan = \"{scan}\"\nbackground = \"interpolated\"\naverage = 20\nmax-frequency = 500e3\n\
             image = \"found.mdf\"\n[x-space]\ndelay = 0.0\n{how}\n[x-space.particle]\ndiameter = 22e-9\n\
             relaxation = 1.5e-6\n[grid]\nsize = {size:?}\nfield-of-view = {field_of_view:?}\n"
        );
        std::fs::write(desk.path("plan.toml"), plan).unwrap();
        desk.ok(&["reconstruct", "plan.toml", "--force"]);
        let image = desk.image("found.mdf");
        let wanted = numbers(&expected[name]);
        // Voxels that no sample reached are filled in the native images only.
        let known: Vec<bool> = match known {
            "" => vec![true; wanted.len()],
            known => serde_json::from_value(expected[known].clone()).unwrap(),
        };
        let pick: Vec<usize> = (0..wanted.len()).filter(|index| known[*index]).collect();
        assert!(3 * pick.len() > wanted.len(), "{} of {}", pick.len(), wanted.len());
        let found: Vec<f64> = pick.iter().map(|index| f64::from(image.data[*index])).collect();
        let wanted: Vec<f64> = pick.iter().map(|index| wanted[*index]).collect();
        let difference = difference(&found, &wanted);
        assert!(difference < most, "{name}: {difference:e}");
    }
}

#[test]
fn a_plane_is_that_of_numpy() {
    let desk = Desk::new();
    simulate(&desk, "lissajous-2d.toml", "scan.mdf");
    beside_numpy(&desk, "scan.mdf", [28, 28, 1], [0.028, 0.028, 0.001]);
}

/// With fewer voxels than the example's: the oracle's matrices are dense.
#[test]
fn a_volume_is_that_of_numpy() {
    let desk = Desk::new();
    simulate(&desk, "lissajous-3d.toml", "scan-3d.mdf");
    beside_numpy(&desk, "scan-3d.mdf", [10, 10, 7], [0.0264, 0.0264, 0.0133]);
}

#[test]
fn a_plane_shows_its_object_without_a_calibration() {
    let desk = Desk::new();
    simulate(&desk, "lissajous-2d.toml", "scan.mdf");
    let (figures, likeness) = reconstruct(&desk, "x-space-2d.toml", "x-space-2d.mdf");
    assert_eq!((&figures["topology"], &figures["unit"]), (&json!("point"), &json!("mmol/L")));
    // That of the simulation, found by the path's way back.
    let relaxation = figures["relaxation"].as_f64().unwrap();
    assert!((relaxation - 1.5e-6).abs() < 2e-8 && figures["is_relaxation_found"] == true, "{figures}");
    assert!(likeness["nrmse"].as_f64().unwrap() < 0.06, "{likeness}");
    assert!((likeness["scale"].as_f64().unwrap() - 1.0).abs() < 0.15, "{likeness}");
    assert!(desk.ok(&["mdf", "check", "x-space-2d.mdf"]).contains("0 violations"));
    let text = desk.ok(&["reconstruct", "x-space-2d.toml", "--force"]);
    assert!(
        text.contains("field-free point, 1 periods") && text.contains("sharpened non-negative"),
        "{text}"
    );

    // A wrong delay, a filter that is only linear, and none.
    desk.change("x-space-2d.toml", "lag = \"relaxation\"", "delay = 0.0");
    let (_, late) = reconstruct(&desk, "x-space-2d.toml", "x-space-2d.mdf");
    assert!(scaled(&late) > 1.5 * scaled(&likeness), "{late}");
    desk.change("x-space-2d.toml", "delay = 0.0", "lag = \"relaxation\"");
    desk.change("x-space-2d.toml", SEARCH, "deconvolution = { wiener = { noise = 1e-4 } }\n");
    let (_, linear) = reconstruct(&desk, "x-space-2d.toml", "x-space-2d.mdf");
    desk.change("x-space-2d.toml", "deconvolution = { wiener = { noise = 1e-4 } }\n", "");
    let (_, native) = reconstruct(&desk, "x-space-2d.toml", "x-space-2d.mdf");
    assert!(scaled(&likeness) < 0.6 * scaled(&linear) && scaled(&linear) < 0.8 * scaled(&native));
}

fn scaled(likeness: &Value) -> f64 {
    likeness["nrmse_scaled"].as_f64().unwrap()
}

#[test]
fn a_volume_shows_its_object_without_a_calibration() {
    let desk = Desk::new();
    simulate(&desk, "lissajous-3d.toml", "scan-3d.mdf");
    let (figures, likeness) = reconstruct(&desk, "x-space-3d.toml", "x-space-3d.mdf");
    assert_eq!((&figures["topology"], &figures["voxels"]), (&json!("point"), &json!(19 * 19 * 11)));
    // The outermost layers lie at the ends of the path or beyond.
    assert!(figures["unreached"].as_u64().unwrap() < 1600, "{figures}");
    assert!(likeness["nrmse"].as_f64().unwrap() < 0.065, "{likeness}");
    assert!(likeness["ssim"].as_f64().unwrap() > 0.85, "{likeness}");
    // Its path never comes back as it has gone: the samples must agree with each other.
    let relaxation = figures["relaxation"].as_f64().unwrap();
    assert!((relaxation - 1.5e-6).abs() < 3e-8 && figures["is_relaxation_found"] == true, "{figures}");
}

/// The plane in two patches, by a shift of the field: each sees a part of the object, and no image of one patch would show it.
#[test]
fn patches_show_an_object_that_none_has_whole() {
    let desk = Desk::new();
    let gradient = "gradient = [[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 2.0]]\n";
    let two = format!(
        "{gradient}offset = [0.004, 0.0, 0.0]\n[[sequence.periods]]\n{gradient}offset = [-0.004, 0.0, 0.0]\n"
    );
    desk.change("lissajous-2d.toml", gradient, &two);
    desk.change(
        "lissajous-2d.toml",
        "direction = [1.0, 0.0, 0.0]\namplitude = 0.012",
        "direction = [1.0, 0.0, 0.0]\namplitude = 0.009",
    );
    simulate(&desk, "lissajous-2d.toml", "scan.mdf");
    let (figures, likeness) = reconstruct(&desk, "x-space-2d.toml", "x-space-2d.mdf");
    assert_eq!(figures["periods"], json!(2));
    assert!(likeness["nrmse"].as_f64().unwrap() < 0.06, "{likeness}");
}

#[test]
fn a_line_is_sharpened() {
    let desk = Desk::new();
    simulate(&desk, "line-2d.toml", "line-scan.mdf");
    let (figures, likeness) = reconstruct(&desk, "x-space-line-sharp.toml", "line-x-space-sharp.mdf");
    assert_eq!((&figures["topology"], &figures["deconvolution"]), (&json!("line"), &json!("non-negative")));
    assert!(likeness["nrmse"].as_f64().unwrap() < 0.06, "{likeness}");
    assert!((likeness["scale"].as_f64().unwrap() - 1.0).abs() < 0.15, "{likeness}");
}

#[test]
fn sharp_lines_are_those_of_numpy() {
    let (gradient, diameter) = (1.5, 22e-9);
    let grid = Grid { size: [13, 11, 1], field_of_view: [0.026, 0.022, 0.001], center: [0.0; 3] };
    let angles = [0.1_f64, 0.5, 0.9, 1.4, 1.9, 2.3, 2.8];
    let paths: Vec<Way> = angles
        .iter()
        .map(|angle| Way {
            gradient: Period::line(gradient, *angle).gradient,
            offset: [0.0; 3],
            drive: vec![],
        })
        .collect();
    let projections: Vec<Projection> = paths
        .iter()
        .zip(angles)
        .map(|(path, angle)| Projection {
            normal: path.across().unwrap().normal,
            first: -0.0105,
            spacing: 7e-4,
            values: (0..31).map(|n| 2.0 + (f64::from(n) / 9.0 - angle).sin()).collect(),
        })
        .collect();
    let of = |of: &Projection| json!({ "normal": of.normal, "first": of.first, "spacing": of.spacing, "values": of.values });
    let along = |axis: usize, step: usize| -> Vec<f64> {
        (0..grid.size[axis]).map(|n| grid.position(n * step)[axis]).collect()
    };
    let asked = json!({
        "projections": projections.iter().map(of).collect::<Vec<_>>(), "gradient": gradient, "diameter": diameter,
        "x": along(0, 1), "y": along(1, grid.size[0]),
    });
    let expected = oracle(&["lines", "1e-3"], &asked.to_string(), Path::new("."));
    let settings = Settings { particle: Particle { diameter, ..Particle::default() }, ..Settings::default() };
    let search = NonNegative { iterations: 5000, lambda: 1e-3 };
    for (name, how) in [
        ("wiener", Deconvolution::Wiener(Wiener { noise: 1e-3 })),
        ("non-negative", Deconvolution::NonNegative(search)),
    ] {
        let sharp = sharp_lines(&projections, &paths, &grid, &settings, &how).unwrap();
        let difference = difference(&sharp.image, &numbers(&expected[name]));
        // Between places of a projection a voxel lies on a straight line here, and where it is there.
        assert!(difference < 5e-3, "{name}: {difference:e}");
    }
}

#[test]
fn plans_that_cannot_be_are_told() {
    let desk = Desk::new();
    simulate(&desk, "lissajous-2d.toml", "scan.mdf");
    let told = |from: &str, to: &str, what: &[&str]| {
        desk.change("x-space-2d.toml", from, to);
        let text = desk.fails(&["reconstruct", "x-space-2d.toml"]);
        assert!(what.iter().all(|what| text.contains(what)), "{text}");
        desk.change("x-space-2d.toml", to, from);
    };
    told("iterations = 1000", "iterations = 0", &["`iterations` is 0", "1 or more"]);
    told("iterations = 1000", "lemons = 1000", &["x-space-2d.toml", "lemons"]);
    told("non-negative = {", "positive = {", &["x-space-2d.toml", "positive"]);
    told("sensitivity = 1e-3", "sensitivity = -1.0", &["`sensitivity` is -1"]);
    told("diameter = 22e-9", "diameter = 0.0", &["particle", "`diameter` is 0"]);
    told("max-frequency = 500e3", "max-frequency = -5.0", &["`max-frequency` is -5"]);
    told(
        "max-frequency = 500e3",
        "max-frequency = 1e3",
        &["nothing is left of the spectrum of receive channel 0"],
    );
    told("[grid]\n", "[grid]\ncenter = [0.5, 0.0, 0.0]\n", &["scan.mdf", "no sample is within the grid"]);
}

/// What a scan lacks is told with its file and dataset.
#[test]
fn scans_that_have_no_place_are_told() {
    let told = |from: &str, to: &str, what: &[&str]| {
        let desk = Desk::new();
        desk.change("lissajous-2d.toml", from, to);
        simulate(&desk, "lissajous-2d.toml", "scan.mdf");
        let text = desk.fails(&["reconstruct", "x-space-2d.toml"]);
        assert!(text.contains("scan.mdf") && what.iter().all(|what| text.contains(what)), "{text}");
    };
    let gradient = "gradient = [[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 2.0]]\n";
    let flat = "gradient = [[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]\n";
    told(gradient, flat, &["`/acquisition/gradient`", "in period 0", "leaves a point"]);
    let other = "gradient = [[-2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]\n";
    let both = format!("{gradient}[[sequence.periods]]\n{other}");
    told(gradient, &both, &["`/acquisition/gradient`", "in period 1", "that of period 0"]);
    let line = "gradient = [[0.0, 0.0, 0.0], [0.0, -2.0, 0.0], [0.0, 0.0, 2.0]]\n";
    let mixed = format!("{gradient}[[sequence.periods]]\n{line}");
    told(gradient, &mixed, &["`/acquisition/gradient`", "a field-free line in 1 of 2 periods"]);
    let third = "[[sequence.channels]]\ndirection = [0.0, 0.0, 1.0]\namplitude = 0.001\ndivider = 102\n[[sequence.periods]]";
    told("[[sequence.periods]]", third, &["`/acquisition/receiver/numChannels` of", "is 2, not 3 or more"]);
}
