//! From a plan to an image through the command line, beside the same way in h5py and NumPy.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod desk;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use desk::Desk;

/// A desk with the files of the 2-D scan.
fn simulated() -> Desk {
    let desk = Desk::new();
    let outputs = ["--scan", "scan.mdf", "--calibration", "calibration.mdf", "--truth", "truth.mdf"];
    desk.ok(&[&["simulate", "lissajous-2d.toml"][..], &outputs].concat());
    desk
}

fn oracle(args: &[&str], folder: &Path) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracles/pipeline.py");
    let output =
        Command::new("/usr/bin/python3").arg(script).args(args).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_simulated_scan_becomes_the_image_of_its_object() {
    let desk = simulated();
    for file in ["scan.mdf", "calibration.mdf", "truth.mdf"] {
        let report = desk.ok(&["mdf", "check", file]);
        assert!(report.contains("0 violations, 0 warnings"), "{file}: {report}");
        assert!(desk.ok(&["mdf", "show", file]).contains("simulated"), "{file}");
    }
    let figures: Value =
        serde_json::from_str(&desk.ok(&["reconstruct", "reconstruct-2d.toml", "--json"])).unwrap();
    let expected = oracle(&["scan.mdf", "calibration.mdf", "80e3", "3", "20", "0.01"], desk.folder.path());
    assert_eq!(figures["rows"], expected["rows"]);
    let image = desk.image("image.mdf");
    let expected: Vec<f64> = serde_json::from_value(expected["image"].clone()).unwrap();
    let norm = expected.iter().map(|value| value * value).sum::<f64>().sqrt();
    let difference = expected.iter().zip(&image.data).map(|(a, b)| (a - f64::from(*b)).powi(2)).sum::<f64>();
    let difference = difference.sqrt() / norm;
    // Single precision, and sums in another order.
    assert!(difference < 1e-4, "{difference:e}");

    // Like its object, and in its unit.
    let likeness: Value =
        serde_json::from_str(&desk.ok(&["compare", "image.mdf", "truth.mdf", "--json"])).unwrap();
    assert!(likeness["nrmse"].as_f64().unwrap() < 0.1, "{likeness}");
    assert!((likeness["scale"].as_f64().unwrap() - 1.0).abs() < 0.15, "{likeness}");
    for file in ["image.nrrd", "image.png"] {
        assert!(desk.path(file).metadata().unwrap().len() > 1000, "{file}");
    }
    assert!(desk.ok(&["view", "image.mdf"]).starts_with("xy (28 by 28 voxels"));
}

#[test]
fn the_same_seed_gives_the_same_samples() {
    let (one, two) = (simulated(), simulated());
    let data = |desk: &Desk| {
        let file = hatchway_recon::mdf::File::open(&desk.path("scan.mdf")).unwrap();
        let (mdf, _) = hatchway_recon::mdf::Mdf::read(&file).unwrap();
        let data = hatchway_recon::mdf::MeasurementData::open(&file, &mdf).unwrap();
        data.read_frames::<f64>(0..data.frames()).unwrap()
    };
    assert_eq!(data(&one), data(&two));
    one.change("lissajous-2d.toml", "seed = 1", "seed = 2");
    one.ok(&["simulate", "lissajous-2d.toml", "--scan", "scan.mdf", "--force"]);
    assert_ne!(data(&one), data(&two));
}

#[test]
fn what_does_not_belong_together_is_refused_by_its_name() {
    let desk = simulated();
    desk.change("lissajous-2d.toml", "divider = 96", "divider = 99");
    desk.ok(&["simulate", "lissajous-2d.toml", "--scan", "scan.mdf", "--force"]);
    let text = desk.fails(&["reconstruct", "reconstruct-2d.toml"]);
    assert!(
        text.contains("`/acquisition/receiver/numSamplingPoints`") && text.contains("calibration.mdf"),
        "{text}"
    );

    let swapped = "scan = \"calibration.mdf\"\ncalibration = \"scan.mdf\"";
    desk.change("reconstruct-2d.toml", "scan = \"scan.mdf\"\ncalibration = \"calibration.mdf\"", swapped);
    let text = desk.fails(&["reconstruct", "reconstruct-2d.toml"]);
    assert!(text.contains("no dataset `/calibration`"), "{text}");
}

#[test]
fn a_drive_field_of_another_strength_is_a_warning() {
    let desk = simulated();
    desk.change("lissajous-2d.toml", "amplitude = 0.012", "amplitude = 0.010");
    desk.ok(&["simulate", "lissajous-2d.toml", "--scan", "scan.mdf", "--force"]);
    let output = desk.recon(&["reconstruct", "reconstruct-2d.toml"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && text.starts_with("warning: the drive field of the scan is"), "{text}");
}

#[test]
fn plans_that_cannot_be_are_told() {
    let desk = simulated();
    let text = desk.fails(&["simulate", "lissajous-2d.toml", "--scan", "scan.mdf"]);
    assert!(text.contains("`scan.mdf` exists") && text.contains("hint: "), "{text}");
    desk.change("reconstruct-2d.toml", "snr = 3.0", "snr = 1e9");
    let text = desk.fails(&["reconstruct", "reconstruct-2d.toml"]);
    assert!(text.contains("no row is left"), "{text}");
    desk.change("reconstruct-2d.toml", "snr = 1e9", "snr = 3.0\nlemon = 1");
    let text = desk.fails(&["reconstruct", "reconstruct-2d.toml"]);
    assert!(text.contains("reconstruct-2d.toml") && text.contains("lemon"), "{text}");
    let text = desk.fails(&["reconstruct", "none.toml"]);
    assert!(text.contains("cannot read `none.toml`"), "{text}");
    // Nothing that is measured is ever written over, and nothing is written twice.
    desk.change("reconstruct-2d.toml", "snr = 3.0\nlemon = 1", "snr = 3.0");
    let scan = fs::read(desk.path("scan.mdf")).unwrap();
    for (from, to) in [
        ("image = \"image.mdf\"", "image = \"./scan.mdf\""),
        ("nrrd = \"image.nrrd\"", "nrrd = \"image.png\""),
    ] {
        desk.change("reconstruct-2d.toml", from, to);
        let text = desk.fails(&["reconstruct", "reconstruct-2d.toml", "--force"]);
        assert!(text.contains("for more than one thing, and would write over it"), "{text}");
        desk.change("reconstruct-2d.toml", to, from);
    }
    assert_eq!(fs::read(desk.path("scan.mdf")).unwrap(), scan);
    desk.change("lissajous-2d.toml", "divider = 96", "divider = 0");
    let text = desk.fails(&["simulate", "lissajous-2d.toml", "--scan", "other.mdf"]);
    assert!(text.contains("dividers [102, 0]"), "{text}");
    // Nothing half made is left.
    let left: Vec<_> =
        fs::read_dir(desk.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with('.')), "{left:?}");
}
