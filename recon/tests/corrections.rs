//! Corrections and weights of a plan, beside the same in h5py and NumPy.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod desk;

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use desk::Desk;

/// A desk whose scan was taken with another receiver than its calibration.
fn simulated() -> Desk {
    let desk = Desk::new();
    desk.ok(&["simulate", "lissajous-2d.toml", "--calibration", "calibration.mdf", "--truth", "truth.mdf"]);
    desk.change("lissajous-2d.toml", "gain = 100.0, high-pass = 60e3", "gain = 180.0, high-pass = 90e3");
    desk.ok(&["simulate", "lissajous-2d.toml", "--scan", "scan.mdf"]);
    desk.change("reconstruct-2d.toml", "background = \"interpolated\"", "background = \"mean\"");
    desk
}

fn python(args: &[&str], folder: &Path) -> Vec<u8> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracles/corrections.py");
    let output =
        Command::new("/usr/bin/python3").arg(script).args(args).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// How far the image of a plan with some more lines is from NumPy's, over its norm.
fn difference(desk: &Desk, top: &str, tables: &str, options: &Value) -> f64 {
    let plan = std::fs::read_to_string(desk.path("reconstruct-2d.toml")).unwrap();
    std::fs::write(desk.path("plan.toml"), format!("{top}\n{plan}\n{tables}")).unwrap();
    desk.ok(&["reconstruct", "plan.toml", "--force"]);
    let answer = python(&["scan.mdf", "calibration.mdf", &options.to_string()], desk.folder.path());
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    let expected: Vec<f64> = serde_json::from_value(answer["image"].clone()).unwrap();
    let found = desk.image("image.mdf");
    let norm = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>().sqrt();
    let rest: Vec<f64> = expected.iter().zip(&found.data).map(|(a, b)| a - f64::from(*b)).collect();
    norm(&rest) / norm(&expected)
}

#[test]
fn corrections_and_weights_are_numpys() {
    let desk = simulated();
    let plain =
        json!({ "transfer": false, "leakage": false, "row_norm": false, "channels": [], "whitening": false });
    let with = |changes: Value| {
        let mut options = plain.clone();
        options.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        options
    };
    let cases = [
        ("", "", with(json!({}))),
        ("transfer-function = true", "", with(json!({ "transfer": true }))),
        ("spectral-leakage = true", "", with(json!({ "leakage": true }))),
        ("", "[weights]\nrow-norm = true", with(json!({ "row_norm": true }))),
        ("", "[weights]\nchannels = [1.0, 0.25]", with(json!({ "channels": [1.0, 0.25] }))),
        ("", "[weights]\nwhitening = \"scan.mdf\"", with(json!({ "whitening": true }))),
        (
            "transfer-function = true\nspectral-leakage = true",
            "[weights]\nwhitening = \"scan.mdf\"\nrow-norm = true\nchannels = [0.5, 1.0]",
            with(
                json!({ "transfer": true, "leakage": true, "whitening": true, "row_norm": true, "channels": [0.5, 1.0] }),
            ),
        ),
    ];
    for (top, tables, options) in cases {
        let found = difference(&desk, top, tables, &options);
        // Single precision, and sums in another order.
        assert!(found < 1e-4, "{options}: {found:e}");
    }
}

#[test]
fn another_receiver_is_told_and_divided_out() {
    let desk = simulated();
    let output = desk.recon(&["reconstruct", "reconstruct-2d.toml"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && text.contains("warning: the scan's transfer function is not that"),
        "{text}"
    );
    let likeness = |image: &str| -> f64 {
        let text = desk.ok(&["compare", image, "truth.mdf", "--json"]);
        serde_json::from_str::<Value>(&text).unwrap()["nrmse"].as_f64().unwrap()
    };
    let without = likeness("image.mdf");
    let plan = std::fs::read_to_string(desk.path("reconstruct-2d.toml")).unwrap();
    std::fs::write(desk.path("plan.toml"), format!("transfer-function = true\n{plan}")).unwrap();
    desk.ok(&["reconstruct", "plan.toml", "--force"]);
    let with = likeness("image.mdf");
    assert!(with < 0.1 && with < 0.8 * without, "{with} and {without}");

    // A factor may be in one field or in the other.
    let before = desk.image("image.mdf");
    python(&["split", "scan.mdf", "2.5", "0.5"], desk.folder.path());
    python(&["split", "calibration.mdf", "3.0", "4.0"], desk.folder.path());
    assert!(desk.ok(&["mdf", "check", "scan.mdf"]).contains("0 violations"));
    desk.ok(&["reconstruct", "plan.toml", "--force"]);
    let after = desk.image("image.mdf");
    let most = before.data.iter().copied().fold(0.0, f32::max);
    assert!(before.data.iter().zip(&after.data).all(|(a, b)| (a - b).abs() < 1e-4 * most));
}

#[test]
fn corrections_that_cannot_be_are_told() {
    let desk = simulated();
    let plan = std::fs::read_to_string(desk.path("reconstruct-2d.toml")).unwrap();
    let say = |top: &str, tables: &str| {
        std::fs::write(desk.path("plan.toml"), format!("{top}\n{plan}\n{tables}")).unwrap();
        desk.fails(&["reconstruct", "plan.toml"])
    };
    let text = say("", "[weights]\nchannels = [1.0]");
    assert!(text.contains("there are 1 weights of channels, where there should be 2"), "{text}");
    let text = say("", "[weights]\nwhitening = \"truth.mdf\"");
    assert!(text.contains("/measurement"), "{text}");
    let text = say("", "[weights]\nlemon = 1");
    assert!(text.contains("lemon"), "{text}");
}

#[test]
fn x_space_divides_by_both_factors_of_the_receive_chain() {
    let desk = Desk::new();
    desk.ok(&["simulate", "line-2d.toml", "--scan", "line-scan.mdf"]);
    desk.ok(&["reconstruct", "x-space-line.toml"]);
    let before = desk.image("line-x-space.mdf");
    python(&["split", "line-scan.mdf", "2.0", "5.0"], desk.folder.path());
    desk.ok(&["reconstruct", "x-space-line.toml", "--force"]);
    let after = desk.image("line-x-space.mdf");
    let most = before.data.iter().copied().fold(0.0, f32::max);
    assert!(before.data.iter().zip(&after.data).all(|(a, b)| (a - b).abs() < 1e-5 * most));
}
