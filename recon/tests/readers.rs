//! Images as other programs read them: nibabel, pynrrd, SimpleITK, pydicom and 3D Slicer's own core, dcmtk, dicom3tools and the NIfTI tools.
//!
//! The Python packages come from `cargo xtask readers`, which says where they are.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
#![allow(clippy::cast_precision_loss, reason = "small numbers")]

mod desk;
mod service;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hatchway_recon::image::{Encoding, Image, Labels, write_dicom, write_nifti, write_nrrd};
use hatchway_recon::online::{Door, Stop, Watcher};
use hatchway_recon::physics::Grid;
use serde::Deserialize;
use service::{Service, scanned};
use tempfile::TempDir;

/// The same number; JSON is read with the last digit rounded.
const EXACT: f64 = 1e-12;

#[derive(Deserialize)]
struct Read {
    size: Vec<usize>,
    affine: [[f64; 4]; 4],
    values: Vec<f64>,
}

fn python() -> Command {
    let folder = std::env::var_os("HATCHWAY_READERS")
        .expect("HATCHWAY_READERS is not set: `cargo xtask test proof` runs these tests, `cargo xtask readers` fetches what they need");
    let mut python = Command::new("/usr/bin/python3");
    python.env("PYTHONPATH", folder).env("PYTHONDONTWRITEBYTECODE", "1").args(["-W", "ignore"]);
    python
}

fn read(reader: &str, path: &Path) -> Read {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracles/readers.py");
    let output = python().arg(script).arg(reader).arg(path).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{reader} of {}: {said}", path.display());
    // 3D Slicer may say more before it.
    let text = String::from_utf8(output.stdout).unwrap();
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

fn image(size: [usize; 3], frames: usize) -> Image {
    let grid = Grid { size, field_of_view: [0.010, 0.006, 0.0045], center: [0.001, 0.0, -0.002] };
    let data = (0..grid.voxels() * frames).map(|index| (index as f32 * 0.37).sin() - 0.25).collect();
    Image::new(grid, data).unwrap()
}

/// A volume, a slice, and a volume of several frames.
fn images() -> [Image; 3] {
    [image([5, 4, 3], 1), image([5, 4, 1], 1), image([5, 4, 3], 2)]
}

/// What every reader must find. `tolerance` is of the values.
fn assert_read(reader: &str, path: &Path, image: &Image, tolerance: f64) {
    let found = read(reader, path);
    let mut size = image.grid.size.to_vec();
    if image.frames() > 1 {
        size.push(image.frames());
    }
    assert_eq!(found.size, size, "{reader} of {}", path.display());
    let spacing = image.grid.spacing();
    let first = image.grid.position(0);
    for row in 0..3 {
        for column in 0..3 {
            let expected = if row == column { spacing[row] * 1e3 } else { 0.0 };
            assert!((found.affine[row][column] - expected).abs() < 1e-6, "{reader}: {:?}", found.affine);
        }
        assert!((found.affine[row][3] - first[row] * 1e3).abs() < 1e-6, "{reader}: {:?}", found.affine);
    }
    assert_eq!(found.values.len(), image.data.len());
    for (index, (found, written)) in found.values.iter().zip(&image.data).enumerate() {
        assert!((found - f64::from(*written)).abs() <= tolerance, "{reader}: {index}: {found} for {written}");
    }
}

fn in_folder(name: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    (folder, path)
}

#[test]
#[ignore = "needs the readers of `cargo xtask readers`; `cargo xtask test proof` runs it"]
fn nrrd_is_read_alike() {
    for (image, encoding) in images().iter().zip([Encoding::Raw, Encoding::Gzip, Encoding::Gzip]) {
        let (_folder, path) = in_folder("image.nrrd");
        write_nrrd(image, encoding, &mut File::create(&path).unwrap()).unwrap();
        assert_read("pynrrd", &path, image, EXACT);
        if image.frames() == 1 {
            assert_read("SimpleITK", &path, image, EXACT);
            assert_read("slicer", &path, image, EXACT);
        }
    }
}

#[test]
#[ignore = "needs the readers of `cargo xtask readers`; `cargo xtask test proof` runs it"]
fn nifti_is_read_alike() {
    for (image, name) in images().iter().zip(["image.nii", "image.nii.gz", "image.nii.gz"]) {
        let (_folder, path) = in_folder(name);
        write_nifti(image, &path).unwrap();
        assert_read("nibabel", &path, image, EXACT);
        assert_read("SimpleITK", &path, image, EXACT);
        if image.frames() == 1 {
            assert_read("slicer", &path, image, EXACT);
        }
        let output = Command::new("nifti_tool").args(["-check_hdr", "-infiles"]).arg(&path).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && said.contains("GOOD"), "{said}");
    }
}

#[test]
#[ignore = "needs the readers of `cargo xtask readers`; `cargo xtask test proof` runs it"]
fn dicom_is_read_alike() {
    let labels = Labels {
        subject: "phantom α".to_owned(),
        study: ("a study".to_owned(), "f81d4fae-7dec-41d0-a765-00a0c91e6bf6".to_owned()),
        unit: Some("mmol/L".to_owned()),
        ..Labels::default()
    };
    for image in images() {
        let (_folder, path) = in_folder("image.dcm");
        write_dicom(&image, &labels, &mut File::create(&path).unwrap()).unwrap();
        assert_valid(&path);
        if image.frames() > 1 {
            assert_frames(&path, &image);
            continue;
        }
        // Half of one of 65535 steps.
        assert_read("pydicom", &path, &image, 2.0 / 65535.0 / 2.0 * 1.001);
        assert_places(&path, &image);
    }
}

/// Two programs' opinion of the form.
fn assert_valid(path: &Path) {
    let output = Command::new("dciodvfy").arg(path).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("MultiframeGrayscaleWordSCImage"), "{said}");
    assert!(!said.contains("Error"), "{said}");
    let output = Command::new("dcmftest").arg(path).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("yes:"));
    let output =
        Command::new("dcmdump").args(["+P", "PatientID", "+P", "StudyInstanceUID"]).arg(path).output();
    let said = String::from_utf8(output.unwrap().stdout).unwrap();
    assert!(
        said.contains("[phantom α]") && said.contains("[2.25.329800735698586855969233156254476430326]"),
        "{said}"
    );
}

/// ITK and 3D Slicer show what is stored, in its place.
fn assert_places(path: &Path, image: &Image) {
    for reader in ["SimpleITK", "slicer"] {
        // ITK takes the place of a slice from the distance to the next one, which a single one has not.
        if image.grid.size[2] == 1 {
            continue;
        }
        let found = read(reader, path);
        let (least, most) = (-1.25, 0.75);
        let stored = |value: f32| (f64::from(value) - least) / (most - least) * 65535.0;
        let range = image
            .data
            .iter()
            .map(|value| stored(*value))
            .fold((f64::MAX, f64::MIN), |(low, high), at| (low.min(at), high.max(at)));
        let spread = (range.1 - range.0) / 65535.0;
        for (index, (found, written)) in found.values.iter().zip(&image.data).enumerate() {
            let expected = (stored(*written) - range.0) / spread;
            assert!((found - expected).abs() < 0.6, "{reader}: {index}: {found} for {expected}");
        }
        for row in 0..3 {
            let expected = image.grid.position(0)[row] * 1e3;
            assert!((found.affine[row][3] - expected).abs() < 1e-6, "{reader}: {:?}", found.affine);
            let expected = image.grid.spacing()[row] * 1e3;
            assert!((found.affine[row][row] - expected).abs() < 1e-6, "{reader}: {:?}", found.affine);
        }
    }
}

/// Several images are one after the other.
fn assert_frames(path: &Path, image: &Image) {
    let found = read("pydicom", path);
    let [nx, ny, nz] = image.grid.size;
    assert_eq!(found.size, [nx, ny, nz * image.frames()]);
    for (found, written) in found.values.iter().zip(&image.data) {
        assert!((found - f64::from(*written)).abs() <= 2.0 / 65535.0 / 2.0 * 1.001);
    }
}

#[test]
#[ignore = "needs the readers of `cargo xtask readers`; `cargo xtask test proof` runs it"]
fn a_viewer_gets_the_image_over_openigtlink() {
    let desk = scanned();
    let service = Service::new(&desk);
    let Door::Tcp(address) = service.door("viewers") else { panic!("not TCP") };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracles/igtl.py");
    let mut viewer = python();
    viewer.arg(script).args([&address.port().to_string(), "hatchway-recon"]).stdout(Stdio::piped());
    let viewer = viewer.spawn().unwrap();
    let stop = Stop::new().unwrap();
    let mut watcher = Watcher::connect(service.door("images"), &stop).unwrap();
    desk.ok(&["feed", "scan.mdf", &service.door("frames").to_string(), "--fast"]);
    let mut seen = watcher.image().unwrap().unwrap();
    while seen.head.number != 29 {
        seen = watcher.image().unwrap().unwrap();
    }
    let output = viewer.wait_with_output().unwrap();
    assert!(output.status.success());
    let found: Read = serde_json::from_slice(&output.stdout).unwrap();
    let grid = &seen.image.grid;
    assert_eq!(found.size, grid.size);
    for row in 0..3 {
        let expected = grid.position(0)[row] * 1e3;
        assert!((found.affine[row][3] - expected).abs() < 1e-4, "{:?}", found.affine);
        assert!((found.affine[row][row] - grid.spacing()[row] * 1e3).abs() < 1e-4, "{:?}", found.affine);
    }
    // It may have got an earlier image; all are of the same object.
    let most = found.values.iter().copied().fold(0.0, f64::max);
    let close = found
        .values
        .iter()
        .zip(&seen.image.data)
        .filter(|(found, last)| (*found - f64::from(**last)).abs() < 0.1 * most);
    assert!(close.count() > 700, "another image came");
    service.end();
}
