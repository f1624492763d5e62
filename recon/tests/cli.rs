//! The command line: exit code, stdout and stderr of each verb, to the letter.
#![allow(
    clippy::unwrap_used,
    reason = "clippy.toml lets only functions marked as tests unwrap, not their helpers"
)]

mod common;

use std::path::Path;
use std::process::Command;

use common::made;
use hatchway_recon::mdf::{File, Mdf, MeasurementData};
use num_complex::Complex;
use serde_json::{Value, json};

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hatchway-recon"));
    // Names are then as short as they are written here.
    command.args(arguments).current_dir(made("time").path.parent().unwrap());
    command
}

/// Exit code, stdout, stderr.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let out = command(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (out.status.code().unwrap(), text(out.stdout), text(out.stderr))
}

fn assert_run(arguments: &[&str], code: i32, stdout: &str, stderr: &str) {
    assert_eq!(run(arguments), (code, stdout.to_owned(), stderr.to_owned()), "{arguments:?}");
}

#[test]
fn check_says_yes() {
    assert_run(&["mdf", "check", "time.mdf"], 0, "MDF 2.1.0: 0 violations, 0 warnings, 0 notes\n", "");
    assert_run(
        &["mdf", "check", "--strict", "old.mdf"],
        0,
        "MDF 2.0.1: 0 violations, 0 warnings, 0 notes\n",
        "",
    );
}

#[test]
fn check_says_no() {
    let expected = "\
violation  /acquisition/numFrames
           found: N = 6
           expected: N = 5, as /measurement/data has
MDF 2.1.0: 1 violation, 0 warnings, 0 notes
";
    assert_run(&["mdf", "check", "frames.mdf"], 1, expected, "");
}

#[test]
fn warnings_count_if_strict() {
    let expected = "\
warning    /measurement/data
           found: chunked and compressed
           expected: contiguous; MPIFiles.jl opens nothing else
MDF 2.1.0: 0 violations, 1 warning, 0 notes
";
    assert_run(&["mdf", "check", "packed.mdf"], 0, expected, "");
    assert_run(&["mdf", "check", "packed.mdf", "--strict"], 1, expected, "");
}

#[test]
fn check_writes_json() {
    let (code, stdout, stderr) = run(&["mdf", "check", "--json", "bad-uuid.mdf"]);
    let report: Value = serde_json::from_str(&stdout).unwrap();
    let finding = json!({
        "severity": "violation", "path": "/uuid", "found": "`no UUID`", "expected": "a UUID of version 4"
    });
    assert_eq!(report, json!({ "file": "bad-uuid.mdf", "version": "2.1.0", "findings": [finding] }));
    assert_eq!((code, stderr.as_str()), (1, ""));
}

#[test]
fn reports_fit_80_columns() {
    for kind in ["packed", "big-endian", "one-element", "soft-link", "system"] {
        for verb in [&["check"][..], &["show"], &["show", "--fields"]] {
            let (_, stdout, _) = run(&[&["mdf"], verb, &[&format!("{kind}.mdf")]].concat());
            assert!(!stdout.is_empty());
            let long = stdout.lines().find(|line| line.chars().count() > 80);
            assert_eq!(long, None, "{kind} {verb:?}");
        }
    }
    let (_, stdout, _) = run(&["mdf", "check", "huge.mdf"]);
    assert!(stdout.lines().count() > 4 && stdout.lines().all(|line| line.chars().count() <= 80), "{stdout}");
}

#[test]
fn show_summarises() {
    let expected = "\
file           system.mdf, 36.6 KiB, MDF 2.1.0
what           system matrix (robot)
made           2024-02-29T14:28:34.673
study          the name (number 3)
experiment     the name \u{3b1} (number 7) of the subject \u{3b1}
scanner        a name, FFP, by a manufacturer in a facility
tracer         one name, other name
drive field    24.51 kHz sine of 14 mT, 26.04 kHz sine of 14 mT
receiver       2 channels, 8 samples a period, bandwidth 6.127 kHz
frames         15 frames, 3 of them background, each of 2 periods, 1 average
grid           3 x 2 x 2 positions, 30 x 20 x 20 mm
data           2 x 2 x 3 x 15 of Complex64, contiguous, 1.4 KiB
";
    assert_run(&["mdf", "show", "system.mdf"], 0, expected, "");
    let (code, stdout, _) = run(&["mdf", "show", "--json", "system.mdf"]);
    let summary: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &summary["what"]), (0, &json!("system matrix (robot)")));
}

#[test]
fn show_lists_fields() {
    let (code, stdout, stderr) = run(&["mdf", "show", "--fields", "packed.mdf"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let data = "/measurement/data\n    5 x 2 x 2 x 5, Complex128, chunked and compressed\n";
    assert!(stdout.contains(data), "{stdout}");
    assert!(stdout.starts_with("/time\n    a scalar, text, contiguous\n"), "{stdout}");
    assert_eq!(stdout.lines().filter(|line| line.starts_with('/')).count(), 54);
}

#[test]
fn what_cannot_be_read_is_told_with_its_reason() {
    let missing = "\
error: cannot open `none.mdf`
  because: No such file or directory (os error 2)
";
    assert_run(&["mdf", "check", "none.mdf"], 2, "", missing);
    std::fs::write(made("time").path.with_file_name("text.mdf"), "no HDF5").unwrap();
    let text = "\
error: cannot open `text.mdf` as an HDF5 file
  because: HDF5 format error: HDF5 signature not found at any valid offset
hint: `h5dump -H FILE` tells whether another reader opens it
";
    assert_run(&["mdf", "check", "text.mdf"], 2, "", text);
    let field = "\
error: `no-periods.mdf` has no dataset `/acquisition/numPeriodsPerFrame`
hint: `hatchway-recon mdf check no-periods.mdf` lists everything that is wrong
";
    assert_run(&["mdf", "show", "no-periods.mdf"], 2, "", field);
    let kind = "\
error: `/study/number` of `text-number.mdf` is text, not a number
hint: `hatchway-recon mdf check text-number.mdf` lists everything that is wrong
";
    assert_run(&["mdf", "show", "text-number.mdf"], 2, "", kind);
}

#[test]
fn help_has_examples() {
    for (arguments, example) in [
        (["mdf", "check", "--help"], "  hatchway-recon mdf check scan.mdf\n"),
        (["mdf", "show", "--help"], "  hatchway-recon mdf show --fields scan.mdf\n"),
    ] {
        let (code, stdout, _) = run(&arguments);
        assert!(code == 0 && stdout.contains(example), "{stdout}");
    }
    assert_eq!(run(&["mdf", "mend", "time.mdf"]).0, 2);
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let out = command(&["mdf", "check", "time.mdf"]).stdout(writer).output().unwrap();
    assert_eq!((out.status.code(), out.stderr), (Some(141), Vec::new()));
}

/// Numbers of a file, `[frame][period][channel][sample]`, and what is said of their storage.
fn numbers(path: &Path) -> (Vec<Complex<f64>>, String) {
    let file = File::open(path).unwrap();
    let (mdf, _) = Mdf::read(&file).unwrap();
    let data = MeasurementData::open(&file, &mdf).unwrap();
    let stored = file.get("/measurement/data").unwrap();
    let said = format!("{} {:?} {}", stored.kind().name(), stored.shape(), stored.storage().name());
    (data.read_frames(0..data.frames()).unwrap(), said)
}

#[test]
fn convert_changes_what_is_asked_for_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    for (kind, options, said) in [
        ("packed", &[][..], "Complex128 [5, 2, 2, 5] contiguous"),
        ("packed", &["--fast-frame-axis"], "Complex128 [2, 2, 5, 5] contiguous"),
        ("time-fast", &["--frames-first"], "Float64 [5, 2, 2, 8] contiguous"),
        ("system", &["--double", "--frames-first"], "Complex128 [15, 2, 2, 3] contiguous"),
        ("int16", &["--version", "2.0.1"], "Int16 [5, 2, 2, 8] contiguous"),
        ("unsigned", &["--single"], "Float32 [5, 2, 2, 8] contiguous"),
        ("big-endian", &[], "Complex128 [5, 2, 2, 5] contiguous"),
        ("dct-2", &[], "Complex128 [2, 2, 5, 14] contiguous"),
    ] {
        let out = folder.path().join(format!("{kind}{}.mdf", options.concat()));
        let name = out.to_str().unwrap();
        let input = format!("{kind}.mdf");
        assert_run(&[&["mdf", "convert", &input, name], options].concat(), 0, "", "");
        let (read, is) = numbers(&out);
        assert_eq!(is, said, "{kind} {options:?}");
        assert!(read == numbers(&made(kind).path).0, "{kind} {options:?}");
        let version = if options.contains(&"2.0.1") { "2.0.1" } else { "2.1.0" };
        let right = format!("MDF {version}: 0 violations, 0 warnings, 0 notes\n");
        assert_run(&["mdf", "check", "--strict", name], 0, &right, "");
    }
}

#[test]
fn convert_names_what_it_leaves_out() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("new.mdf");
    let out = out.to_str().unwrap();
    let notes = "\
note: `/_custom/field` is left out: MDF has no such field
note: `/calibration/isMeanderingGrid` is left out: MDF has no such field
note: `/measurement/_monitoring/temperature/observed` is left out: MDF has no such field
";
    assert_run(&["mdf", "convert", "beyond.mdf", out], 0, "", notes);
    let exists =
        format!("error: `{out}` exists\nhint: choose another name, or replace the file with `--force`\n");
    assert_run(&["mdf", "convert", "time.mdf", out], 2, "", &exists);
    assert_run(&["mdf", "convert", "--force", "time.mdf", out], 0, "", "");
    assert_eq!(run(&["mdf", "convert", "--single", "--double", "time.mdf", out]).0, 2);
    // A file may be converted onto itself.
    assert_run(&["mdf", "convert", "--force", "--single", out, out], 0, "", "");
    assert_eq!(numbers(Path::new(out)).1, "Float32 [5, 2, 2, 8] contiguous");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_missing_name_is_no_reason_not_to_show() {
    let (code, stdout, stderr) = run(&["mdf", "show", "no-uuid.mdf"]);
    assert_eq!((code, stdout.lines().count()), (0, 11));
    assert_eq!(stderr, "note: the file is not quite MDF: `hatchway-recon mdf check no-uuid.mdf`\n");
}
