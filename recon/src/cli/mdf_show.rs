//! `hatchway-recon mdf show`.

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use super::report;
use crate::Error;
use crate::mdf::model::{DriveField, Mdf};
use crate::mdf::stored::shape_name;
use crate::mdf::tree::Tree;
use crate::mdf::{File, Stored};

/// What a person wants to know of a file, line by line.
#[derive(Debug, Serialize)]
struct Summary {
    lines: Vec<(&'static str, String)>,
}

pub(super) fn summary(path: &Path, json: bool) -> Result<ExitCode, Error> {
    let file = File::open(path)?;
    let (mdf, findings) = Mdf::read(&file)?;
    let data = file.find("/measurement/data")?;
    let summary = Summary { lines: lines(&file, &mdf, data.as_ref()) };
    if json {
        let object: serde_json::Map<String, serde_json::Value> =
            summary.lines.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        report::json(&object)?;
    } else {
        let line = |(name, value): &(&str, String)| {
            let text = report::wrapped(value, 15);
            format!("{name:<15}{}", text.trim_start())
        };
        report::data(summary.lines.iter().map(line).collect::<String>())?;
    }
    if !findings.is_empty() {
        report::note(format!("the file is not quite MDF: `hatchway-recon mdf check {}`", path.display()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Every dataset with its shape, type and storage.
pub(super) fn fields(path: &Path, json: bool) -> Result<ExitCode, Error> {
    let tree = Tree::of(&File::open(path)?);
    if json {
        report::json(&tree)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = String::new();
    for entry in tree.entries.iter().filter(|entry| entry.is_dataset) {
        let storage = if entry.storage.is_empty() { String::new() } else { format!(", {}", entry.storage) };
        text.push_str(&format!("{}\n", entry.path));
        text.push_str(&report::wrapped(&format!("{}{storage}", entry.what), 4));
    }
    for (group, reason) in &tree.unlisted {
        text.push_str(&format!("{group}/\n{}", report::wrapped(&format!("cannot be listed: {reason}"), 4)));
    }
    report::data(text)?;
    Ok(ExitCode::SUCCESS)
}

fn lines(file: &File, mdf: &Mdf, data: Option<&Stored<'_>>) -> Vec<(&'static str, String)> {
    let sequence = &mdf.acquisition.sequence;
    let receiver = &mdf.acquisition.receiver;
    let mut lines = vec![
        ("file", format!("{}, {}, MDF {}", file.path().display(), bytes(file.size()), mdf.root.version)),
        ("what", what(mdf)),
        ("made", mdf.root.time.clone()),
        ("study", format!("{} (number {})", mdf.study.name, mdf.study.number)),
        (
            "experiment",
            format!(
                "{} (number {}) of {}",
                mdf.experiment.name, mdf.experiment.number, mdf.experiment.subject
            ),
        ),
        (
            "scanner",
            format!(
                "{}, {}, by {} in {}",
                mdf.scanner.name, mdf.scanner.topology, mdf.scanner.manufacturer, mdf.scanner.facility
            ),
        ),
    ];
    if let Some(tracer) = &mdf.tracer {
        lines.push(("tracer", tracer.name.data.join(", ")));
    }
    lines.push(("drive field", drive_field(&mdf.acquisition.drive_field)));
    let points = receiver.num_sampling_points;
    let channels = count(receiver.num_channels, "channel");
    lines.push((
        "receiver",
        format!("{channels}, {points} samples a period, bandwidth {}Hz", scaled(receiver.bandwidth)),
    ));
    let background = mdf
        .measurement
        .as_ref()
        .map_or(0, |all| all.is_background_frame.data.iter().filter(|flag| **flag != 0).count());
    let periods = count(sequence.num_periods_per_frame, "period");
    let averages = count(sequence.num_averages, "average");
    let frames = count(sequence.num_frames, "frame");
    lines.push((
        "frames",
        format!("{frames}, {background} of them background, each of {periods}, {averages}"),
    ));
    lines.extend(grids(mdf).map(|text| ("grid", text)));
    if let Some(data) = data {
        let size = bytes(data.elements().saturating_mul(data.kind().size() as u64));
        let shape = shape_name(data.shape());
        lines.push(("data", format!("{shape} of {}, {}, {size}", data.kind().name(), data.storage().name())));
    }
    lines
}

fn what(mdf: &Mdf) -> String {
    let simulated = if mdf.experiment.is_simulation { "simulated " } else { "" };
    let mut parts = Vec::new();
    match (&mdf.calibration, &mdf.measurement) {
        (Some(calibration), _) => parts.push(format!("{simulated}system matrix ({})", calibration.method)),
        (None, Some(_)) => parts.push(format!("{simulated}measurement")),
        (None, None) => {}
    }
    if mdf.reconstruction.is_some() {
        // Of both it is said once.
        let simulated = if parts.is_empty() { simulated } else { "" };
        parts.push(format!("{simulated}reconstruction"));
    }
    if parts.is_empty() { "metadata only".to_owned() } else { parts.join(" and ") }
}

/// Frequencies and amplitudes of the first period.
#[expect(clippy::cast_precision_loss, reason = "dividers are far below 2^53")]
fn drive_field(field: &DriveField) -> String {
    let mut channels = Vec::new();
    let per_channel = field.divider.shape.get(1).copied().unwrap_or(1).max(1);
    for (at, divider) in field.divider.data.iter().enumerate() {
        let strength = field.strength.data.get(at).copied().unwrap_or(f64::NAN);
        let waveform = field.waveform.data.get(at).map_or("", String::as_str);
        let frequency = scaled(field.base_frequency / (*divider as f64));
        let separator = if at % per_channel == 0 { "" } else { "+ " };
        channels.push(format!("{separator}{frequency}Hz {waveform} of {}T", scaled(strength)));
    }
    channels.join(", ")
}

fn grids(mdf: &Mdf) -> impl Iterator<Item = String> {
    let calibration = mdf.calibration.as_ref().map(|all| (&all.size, &all.field_of_view));
    let image = mdf.reconstruction.as_ref().map(|all| (&all.size, &all.field_of_view));
    [calibration, image].into_iter().flatten().filter_map(|(size, view)| {
        let size = size.as_ref()?.data.iter().map(i64::to_string).collect::<Vec<_>>().join(" x ");
        let extent = view.as_ref().map(|view| {
            let lengths: Vec<_> =
                view.data.iter().map(|length| format!("{}", rounded(length * 1e3))).collect();
            format!(", {} mm", lengths.join(" x "))
        });
        Some(format!("{size} positions{}", extent.unwrap_or_default()))
    })
}

/// Four digits are enough for a person.
fn rounded(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

/// A value with a prefix of the SI.
fn scaled(value: f64) -> String {
    let prefixes = [(1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "u")];
    let fitting = prefixes.iter().find(|(factor, _)| value.abs() >= *factor * 0.999_95);
    let (factor, prefix) = fitting.copied().unwrap_or((1.0, ""));
    format!("{} {prefix}", rounded(value / factor))
}

fn count(number: i64, name: &str) -> String {
    if number == 1 { format!("1 {name}") } else { format!("{number} {name}s") }
}

#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
fn bytes(size: u64) -> String {
    let units = [(1_u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(unit, _)| size >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", size as f64 / *unit as f64),
        None => format!("{size} bytes"),
    }
}
