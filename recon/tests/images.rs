//! Images as other programs read them: `unu`, NRRD's own tool, Pillow and NumPy.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
#![allow(clippy::cast_precision_loss, reason = "small numbers")]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use hatchway_recon::image::{ColourMap, Encoding, Image, View, compare, write_nrrd};
use hatchway_recon::physics::Grid;
use serde_json::{Value, json};

fn oracle(args: &[&str], question: &Value) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracles/images.py");
    let mut python = Command::new("/usr/bin/python3")
        .arg(script)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(python.stdin.take().unwrap().write_all(question.to_string().as_bytes()));
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

fn unu(args: &[&str]) -> String {
    let output = Command::new("teem-unu").args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn image(frames: usize) -> Image {
    let grid = Grid { size: [5, 4, 3], field_of_view: [0.010, 0.006, 0.0045], center: [0.001, 0.0, -0.002] };
    let data = (0..60 * frames).map(|index| (index as f32 * 0.37).sin() - 0.25).collect();
    Image::new(grid, data).unwrap()
}

#[test]
fn unu_reads_every_voxel_in_its_place() {
    let folder = tempfile::tempdir().unwrap();
    for (encoding, frames) in [(Encoding::Raw, 1), (Encoding::Gzip, 1), (Encoding::Gzip, 3)] {
        let (path, image) = (folder.path().join("image.nrrd"), image(frames));
        write_nrrd(&image, encoding, &mut std::fs::File::create(&path).unwrap()).unwrap();
        let path = path.to_str().unwrap();
        let head = unu(&["head", path]);
        let dimension = if frames == 1 { "dimension: 3" } else { "dimension: 4" };
        for line in [dimension, "type: float", "space: right-anterior-superior"] {
            assert!(head.lines().any(|found| found == line), "no `{line}` in\n{head}");
        }
        // The middle of the first voxel, and the voxels' edges, in millimetres.
        assert!(
            head.contains("space origin: (-3,-2.25,-3.5)") && head.contains("(2,0,0) (0,1.5,0) (0,0,1.5)"),
            "{head}"
        );
        let found = flat(path);
        assert_eq!(found.len(), image.data.len());
        for (index, (found, written)) in found.iter().zip(&image.data).enumerate() {
            assert!(
                (found - written).abs() <= 1e-5 * written.abs().max(0.1),
                "{index}: {found} for {written}"
            );
        }
    }
}

/// All voxels in the order of the file.
fn flat(path: &str) -> Vec<f32> {
    let folder = tempfile::tempdir().unwrap();
    let flat = folder.path().join("flat.nrrd");
    unu(&["reshape", "-s", &count(path).to_string(), "-i", path, "-o", flat.to_str().unwrap()]);
    let text = unu(&["save", "-f", "text", "-i", flat.to_str().unwrap(), "-o", "-"]);
    text.split_whitespace().filter(|word| !word.starts_with('#')).map(|word| word.parse().unwrap()).collect()
}

fn count(path: &str) -> usize {
    let head = unu(&["head", path]);
    let sizes = head.lines().find_map(|line| line.strip_prefix("sizes: ")).unwrap();
    sizes.split(' ').map(|size| size.parse::<usize>().unwrap()).product()
}

#[test]
fn pillow_sees_the_colours_of_the_voxels() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.png");
    let view =
        View { magnification: 3, colours: ColourMap::Gray, range: Some([-1.25, 0.75]), ..View::default() };
    view.png(&image(1), std::fs::File::create(&path).unwrap()).unwrap();
    let answer = oracle(&["png", path.to_str().unwrap()], &Value::Null);
    assert_eq!(answer["mode"], "RGB");
    let rows: Vec<Vec<[u8; 3]>> = serde_json::from_value(answer["rows"].clone()).unwrap();
    // Nine gray levels at least: the whole volume is in it, and each point of the picture is a triple.
    let mut levels: Vec<u8> =
        rows.iter().flatten().filter(|[r, g, b]| r == g && g == b).map(|[r, ..]| *r).collect();
    levels.sort_unstable();
    levels.dedup();
    assert!(levels.len() > 9, "{levels:?}");
}

#[test]
fn figures_are_numpys() {
    let truth = image(1);
    let noisy =
        truth.data.iter().enumerate().map(|(index, value)| value * 0.8 + (index as f32 * 1.7).cos() * 0.1);
    let other = Image::new(truth.grid.clone(), noisy.collect()).unwrap();
    let found = serde_json::to_value(compare(&other, &truth).unwrap()).unwrap();
    // NumPy's last axis is the fastest.
    let question = json!({ "image": other.data, "truth": truth.data, "shape": [3, 4, 5] });
    let expected = oracle(&["compare"], &question);
    for (name, value) in expected.as_object().unwrap() {
        let (found, expected) = (found[name].as_f64().unwrap(), value.as_f64().unwrap());
        assert!((found / expected - 1.0).abs() < 1e-6, "{name}: {found} for {expected}");
    }
}
