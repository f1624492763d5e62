//! Images in x-space, through the command line and beside NumPy.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod desk;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use hatchway_recon::image::{Comparison, Image, compare};
use hatchway_recon::physics::Grid;
use hatchway_recon::xspace::{Projection, Window, back_project};
use serde_json::{Value, json};

use desk::Desk;

/// What the oracle computes, given a text.
fn oracle(args: &[&str], input: &str, folder: &Path) -> Vec<f64> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracles/xspace.py");
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

/// How an image is like what the oracle says it is.
#[expect(clippy::cast_possible_truncation, reason = "images are of single precision")]
fn likeness(image: &Image, expected: &[f64]) -> Comparison {
    let expected = expected.iter().map(|value| *value as f32).collect();
    compare(image, &Image::new(image.grid.clone(), expected).unwrap()).unwrap()
}

#[test]
fn back_projection_is_that_of_numpy() {
    let grid = Grid { size: [17, 12, 1], field_of_view: [0.017, 0.015, 0.001], center: [0.0; 3] };
    let projections: Vec<Projection> = [0.1_f64, 0.9, 4.0, 2.4, 2.5]
        .iter()
        .map(|angle| Projection {
            normal: [angle.cos(), angle.sin()],
            first: -0.006,
            spacing: 3e-4,
            values: (0..40).map(|n| (f64::from(n) * angle).sin() + 0.3).collect(),
        })
        .collect();
    let of = |of: &Projection| json!({ "normal": of.normal, "first": of.first, "spacing": of.spacing, "values": of.values });
    let along = |axis: usize, step: usize| -> Vec<f64> {
        (0..grid.size[axis]).map(|n| grid.position(n * step)[axis]).collect()
    };
    for window in [Window::None, Window::Hann] {
        let asked = json!({
            "projections": projections.iter().map(of).collect::<Vec<_>>(),
            "x": along(0, 1),
            "y": along(1, 17),
            "hann": window == Window::Hann,
        });
        let expected = oracle(&["backproject"], &asked.to_string(), Path::new("."));
        let image = back_project(&projections, &grid, window).unwrap();
        let most = expected.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
        assert_eq!(image.len(), expected.len());
        for (index, (found, expected)) in image.iter().zip(&expected).enumerate() {
            assert!((found - expected).abs() < 1e-9 * most, "{window:?}, {index}: {found} for {expected}");
        }
    }
}

#[test]
fn a_field_free_line_shows_its_object_without_a_calibration() {
    let desk = Desk::new();
    desk.ok(&["simulate", "line-2d.toml", "--scan", "line-scan.mdf", "--truth", "truth.mdf"]);
    let figures: Value =
        serde_json::from_str(&desk.ok(&["reconstruct", "x-space-line.toml", "--json"])).unwrap();
    assert_eq!((&figures["topology"], &figures["periods"]), (&json!("line"), &json!(30)));
    // The particles follow 1.5 us late, higher harmonics less.
    let delay = figures["delay"].as_f64().unwrap();
    assert!((1.0e-6..1.5e-6).contains(&delay), "{delay}");
    assert!(desk.ok(&["mdf", "check", "line-x-space.mdf"]).contains("0 violations"));
    for file in ["line-x-space.nrrd", "line-x-space.png"] {
        assert!(desk.path(file).metadata().unwrap().len() > 1000, "{file}");
    }
    let blurred = oracle(&["line", "truth.mdf", "30", "1.5", "22e-9"], "", desk.folder.path());
    let right = likeness(&desk.image("line-x-space.mdf"), &blurred);
    println!("beside the blurred truth: {right:?}");
    println!("beside the truth: {}", desk.ok(&["compare", "line-x-space.mdf", "truth.mdf", "--json"]));
    assert!(right.nrmse_scaled < 0.1, "{right:?}");

    // Without the delay every sweep is off in its own direction.
    desk.change("x-space-line.toml", "[x-space]", "[x-space]\ndelay = 0.0");
    let text = desk.ok(&["reconstruct", "x-space-line.toml", "--force"]);
    assert!(text.contains("delay     0.000 us, as given"), "{text}");
    let late = likeness(&desk.image("line-x-space.mdf"), &blurred);
    println!("without delay: {late:?}");
    assert!(late.nrmse_scaled > right.nrmse_scaled, "{late:?}");
}

#[test]
fn plans_of_both_methods_are_told_apart() {
    let desk = Desk::new();
    desk.change("x-space-line.toml", "method = \"x-space\"", "method = \"x-ray\"");
    let text = desk.fails(&["reconstruct", "x-space-line.toml"]);
    assert!(text.contains("x-ray") && text.contains("system-matrix"), "{text}");
    desk.change("x-space-line.toml", "method = \"x-ray\"", "method = \"system-matrix\"");
    let text = desk.fails(&["reconstruct", "x-space-line.toml"]);
    assert!(text.contains("unknown field `grid`"), "{text}");
    desk.change("x-space-line.toml", "method = \"system-matrix\"", "method = \"x-space\"");
    let text = desk.fails(&["reconstruct", "x-space-line.toml"]);
    assert!(text.contains("line-scan.mdf"), "{text}");
    // A field-free line has no volume; a point has.
    desk.ok(&["simulate", "line-2d.toml", "--scan", "line-scan.mdf"]);
    desk.change("x-space-line.toml", "size = [25, 25, 1]", "size = [25, 25, 2]");
    let text = desk.fails(&["reconstruct", "x-space-line.toml"]);
    assert!(text.contains("[25, 25, 2]"), "{text}");
    desk.change(
        "reconstruct-2d.toml",
        "scan = \"scan.mdf\"",
        "method = \"system-matrix\"\nscan = \"scan.mdf\"",
    );
    assert!(desk.fails(&["reconstruct", "reconstruct-2d.toml"]).contains("calibration.mdf"));
}
