//! Files that we write, read by h5py and by `h5dump`: every field with its type, shape and values.
#![allow(
    clippy::unwrap_used,
    reason = "clippy.toml lets only functions marked as tests unwrap, not their helpers"
)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use common::{measurement, model, oracle};
use hatchway_recon::Error;
use hatchway_recon::mdf::sample::Sample;
use hatchway_recon::mdf::write::{DataShape, ElementType, Options, Version, write};
use hatchway_recon::mdf::{Array, File, Mdf, MeasurementData, Writer, check};
use num_complex::Complex;
use serde_json::{Value, json};

fn h5py(path: &Path) -> BTreeMap<String, Value> {
    serde_json::from_str(&oracle(&["read", path.to_str().unwrap()])).unwrap()
}

fn h5dump(arguments: &[&str], path: &Path) -> String {
    let out = Command::new("h5dump")
        .args(arguments)
        .arg(path)
        .output()
        .expect("no h5dump: apt-get install hdf5-tools");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// Type, shape, values of a field as h5py has them.
fn assert_field(all: &BTreeMap<String, Value>, path: &str, kind: &str, shape: &Value, values: &Value) {
    let field = all.get(path).unwrap_or_else(|| panic!("no {path}"));
    assert_eq!(field["type"], kind, "{path}");
    assert_eq!(&field["shape"], shape, "{path}");
    assert_eq!(field["scalar"], json!(*shape == json!([])), "{path}");
    assert_eq!(&field["values"], values, "{path}");
}

fn four_frames() -> DataShape {
    DataShape { shape: [4, 1, 2, 8], element: ElementType::Float32 }
}

#[test]
fn h5py_reads_every_field() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new.mdf");
    let mdf = model(4);
    let data: Vec<f32> = (0..64_u8).map(|at| f32::from(at) - 7.5).collect();
    let mut writer = Writer::create(&path, &mdf, Some(&four_frames()), Options::default()).unwrap();
    writer.append(&data[..10]).unwrap();
    writer.append(&data[10..]).unwrap();
    writer.finish().unwrap();
    let all = h5py(&path);
    assert_field(&all, "/version", "text", &json!([]), &json!([["2.1.0"]]));
    assert_field(&all, "/experiment/description", "text", &json!([]), &json!([["e \u{3b1}"]]));
    assert_field(&all, "/experiment/isSimulation", "|i1", &json!([]), &json!([[1]]));
    assert_field(&all, "/experiment/number", "<i8", &json!([]), &json!([[-7]]));
    assert_field(&all, "/tracer/name", "text", &json!([2]), &json!([["one name", "other name \u{3b1}"]]));
    assert_field(&all, "/scanner/boreSize", "<f8", &json!([]), &json!([[0.12]]));
    assert_field(&all, "/acquisition/drivefield/divider", "<i8", &json!([2, 1]), &json!([[102, 96]]));
    assert_field(
        &all,
        "/acquisition/drivefield/waveform",
        "text",
        &json!([2, 1]),
        &json!([["sine", "triangle"]]),
    );
    let function = json!([vec![1.0; 10], vec![-2.0; 10]]);
    assert_field(&all, "/acquisition/receiver/transferFunction", "<c16", &json!([2, 5]), &function);
    assert_field(&all, "/measurement/isBackgroundFrame", "|i1", &json!([4]), &json!([[0, 0, 0, 0]]));
    assert_field(&all, "/measurement/isSparsityTransformed", "|i1", &json!([]), &json!([[0]]));
    assert_field(&all, "/measurement/data", "<f4", &json!([4, 1, 2, 8]), &json!([data]));
    // No field more than the model has, and no attribute.
    assert_eq!(all.len(), 57, "{:?}", all.keys());
    assert!(all.values().all(|field| field["attributes"] == 0 && field["chunks"].is_null()));
    // What we wrote is what we read, and is right.
    let file = File::open(&path).unwrap();
    let (mut read, findings) = Mdf::read(&file).unwrap();
    assert_eq!((findings.len(), read.root.version.as_str()), (0, "2.1.0"));
    read.root.version.clear();
    assert_eq!(read, mdf);
    assert_eq!(check::check(&file, &mut |_, _| {}).findings, []);
}

#[test]
fn data_are_contiguous_on_a_page_and_end_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new.mdf");
    let mut mdf = model(3);
    mdf.measurement = Some(measurement(3, true, true));
    let data: Vec<_> = (0..30_u8).map(|at| Complex::new(f64::from(at), -0.5)).collect();
    for element in [ElementType::Complex128, ElementType::Complex64] {
        let shape = DataShape { shape: [1, 2, 5, 3], element };
        let overwrite = Options { overwrite: true, ..Options::default() };
        let mut writer = Writer::create(&path, &mdf, Some(&shape), overwrite).unwrap();
        match element {
            ElementType::Complex128 => writer.append(&data).unwrap(),
            _ => {
                let single: Vec<_> = data.iter().map(|z| Complex::new(f32::from_complex(*z), -0.5)).collect();
                writer.append(&single).unwrap();
            }
        }
        writer.finish().unwrap();
        let all = h5py(&path);
        let field = &all["/measurement/data"];
        let size = element.size();
        assert_eq!(field["type"], format!("<c{size}"));
        let re: Vec<_> = data.iter().map(|z| z.re).collect();
        assert_eq!(field["values"], json!([re, vec![-0.5; 30]]));
        let offset = field["offset"].as_u64().unwrap();
        assert_eq!((offset % 4096, path.metadata().unwrap().len() - offset), (0, 30 * size));
        let header = h5dump(&["-H", "-p", "-d", "/measurement/data"], &path);
        assert!(
            header.contains("CONTIGUOUS") && header.contains("SIMPLE { ( 1, 2, 5, 3 ) / ( 1, 2, 5, 3 ) }"),
            "{header}"
        );
        let file = File::open(&path).unwrap();
        let (read, _) = Mdf::read(&file).unwrap();
        let measured = MeasurementData::open(&file, &read).unwrap();
        let row: Vec<Complex<f64>> = measured.read_rows(0, 1, 4..5).unwrap();
        assert_eq!(row, data[27..]);
    }
    let text = h5dump(&["-d", "/experiment/subject"], &path);
    assert!(text.contains("SCALAR") && text.contains("\"p\""), "{text}");
}

#[test]
fn version_2_0_1_lacks_what_came_later() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new.mdf");
    let options = Options { version: Version::V2_0_1, ..Options::default() };
    let mut writer = Writer::create(&path, &model(4), Some(&four_frames()), options).unwrap();
    writer.append(&[0.0_f32; 64]).unwrap();
    writer.finish().unwrap();
    let all = h5py(&path);
    assert_field(&all, "/version", "text", &json!([]), &json!([["2.0.1"]]));
    assert!(!all.contains_key("/measurement/isSparsityTransformed"));
    assert_eq!(check::check(&File::open(&path).unwrap(), &mut |_, _| {}).findings, []);
}

#[test]
fn images_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.mdf");
    let mut mdf = model(4);
    (mdf.measurement, mdf.calibration) = (None, None);
    mdf.reconstruction = Some(hatchway_recon::mdf::model::Reconstruction {
        data: Array::new(&[1, 6, 1], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.5]),
        size: Some(Array::new(&[3], vec![3, 2, 1])),
        is_overscan_region: Some(Array::new(&[6], vec![0, 0, 1, 0, 0, 1])),
        ..Default::default()
    });
    write(&path, &mdf, Options::default()).unwrap();
    let all = h5py(&path);
    assert_field(
        &all,
        "/reconstruction/data",
        "<f8",
        &json!([1, 6, 1]),
        &json!([[0.0, 1.0, 2.0, 3.0, 4.0, 5.5]]),
    );
    assert_field(&all, "/reconstruction/isOverscanRegion", "|i1", &json!([6]), &json!([[0, 0, 1, 0, 0, 1]]));
    assert_eq!(check::check(&File::open(&path).unwrap(), &mut |_, _| {}).findings, []);
}

#[test]
fn nothing_is_left_of_a_file_that_is_not_finished() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new.mdf");
    let names = || std::fs::read_dir(folder.path()).unwrap().count();
    let create = || Writer::create(&path, &model(4), Some(&four_frames()), Options::default());
    let mut writer = create().unwrap();
    writer.append(&[1.0_f32; 63]).unwrap();
    assert_eq!((path.exists(), names()), (false, 1), "it has no name before it is whole");
    assert!(matches!(writer.append(&[1.0_f32; 2]), Err(Error::Unwritable { .. })), "too many");
    assert!(matches!(writer.append(&[1.0_f64]), Err(Error::Unwritable { .. })), "another type");
    let error = writer.finish().unwrap_err();
    assert!(error.to_string().contains("1 elements short"), "{error}");
    assert_eq!(names(), 0);
    drop(create().unwrap());
    assert_eq!(names(), 0);
}

#[test]
fn a_file_is_replaced_only_if_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new.mdf");
    let mut mdf = model(4);
    mdf.measurement = None;
    // One that appears while another is written is not lost either.
    let writer = Writer::create(&path, &mdf, None, Options::default()).unwrap();
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(writer.finish(), Err(Error::Exists(_))));
    assert!(matches!(write(&path, &mdf, Options::default()), Err(Error::Exists(_))));
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    write(&path, &mdf, Options { overwrite: true, ..Options::default() }).unwrap();
    assert!(File::open(&path).is_ok());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_model_that_contradicts_itself_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new.mdf");
    let mut mdf = model(4);
    mdf.measurement = None;
    mdf.acquisition.drive_field.divider.shape = vec![3, 1];
    let error = write(&path, &mdf, Options::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot write `/acquisition/drivefield/divider`: it is 2 elements of shape [3, 1], not D x F"
    );
    assert!(matches!(
        Writer::create(&path, &model(4), None, Options::default()),
        Err(Error::Unwritable { .. })
    ));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// Six positions, of which two coefficients are kept, and one background frame.
fn sparse() -> (Mdf, DataShape) {
    let mut mdf = model(7);
    let mut measurement = measurement(7, true, true);
    measurement.is_background_frame.data[6] = 1;
    measurement.is_sparsity_transformed = Some(true);
    measurement.sparsity_transformation = Some("DCT-II".to_owned());
    mdf.measurement = Some(measurement);
    if let Some(calibration) = &mut mdf.calibration {
        calibration.size = Some(Array::new(&[3], vec![3, 2, 1]));
    }
    (mdf, DataShape { shape: [1, 2, 5, 3], element: ElementType::Complex64 })
}

#[test]
fn sparse_rows_are_written_with_their_indices() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sparse.mdf");
    let (mdf, shape) = sparse();
    let mut writer = Writer::create(&path, &mdf, Some(&shape), Options::default()).unwrap();
    // The first coefficient of DCT-II is the mean times the root of their number.
    let row = [Complex::new(6.0_f32.sqrt(), 0.0), Complex::new(0.0, 0.0), Complex::new(0.5, -4.0)];
    for _ in 0..10 {
        writer.append(&row).unwrap();
    }
    for row in 0..10 {
        writer.append_indices(&[1, 2 + row % 5]).unwrap();
    }
    writer.finish().unwrap();
    let all = h5py(&path);
    let indices: Vec<_> = (0..10).flat_map(|row| [1, 2 + row % 5]).collect();
    assert_field(&all, "/measurement/subsamplingIndices", "<i8", &json!([1, 2, 5, 2]), &json!([indices]));
    assert_eq!(all["/measurement/data"]["shape"], json!([1, 2, 5, 3]));
    assert!(all.values().all(|field| field["chunks"].is_null()));
    let file = File::open(&path).unwrap();
    assert_eq!(check::check(&file, &mut |_, _| {}).findings, []);
    let (mdf, _) = Mdf::read(&file).unwrap();
    let read: Vec<Complex<f64>> = MeasurementData::open(&file, &mdf).unwrap().read_rows(0, 1, 4..5).unwrap();
    assert!(read[..6].iter().all(|value| (value - 1.0).norm() < 1e-6), "{read:?}");
    assert_eq!(read[6], Complex::new(0.5, -4.0));
}

#[test]
fn indices_come_after_the_data_and_are_as_many_as_they_should_be() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sparse.mdf");
    let (mdf, shape) = sparse();
    let mut writer = Writer::create(&path, &mdf, Some(&shape), Options::default()).unwrap();
    writer.append(&[Complex::<f32>::default(); 29]).unwrap();
    assert!(matches!(writer.append_indices(&[1]), Err(Error::Unwritable { .. })), "data are missing");
    writer.append(&[Complex::<f32>::default()]).unwrap();
    writer.append_indices(&[1; 19]).unwrap();
    assert!(matches!(writer.append_indices(&[1; 2]), Err(Error::Unwritable { .. })), "too many");
    let error = writer.finish().unwrap_err();
    assert!(error.to_string().contains("`/measurement/subsamplingIndices`"), "{error}");
    let old = Options { version: Version::V2_0_1, ..Options::default() };
    assert!(
        matches!(Writer::create(&path, &mdf, Some(&shape), old), Err(Error::Unwritable { .. })),
        "2.0 has none"
    );
    let whole = DataShape { shape: [1, 2, 5, 0], ..shape };
    assert!(matches!(
        Writer::create(&path, &mdf, Some(&whole), Options::default()),
        Err(Error::Unwritable { .. })
    ));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
