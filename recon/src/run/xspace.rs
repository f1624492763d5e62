//! From a scan alone to images, in x-space.

pub(super) mod fields;

use std::path::Path as FilePath;

use num_complex::Complex64;
use serde::Serialize;

use super::opened::{Opened, open};
use super::plan::XSpacePlan;
use super::scan::{Reading, scan_rows};
use crate::Error;
use crate::image::Image;
use crate::mdf::{File, Mdf};
use crate::prepare::Frames;
use crate::select::Row;
use crate::xspace::{
    Deconvolution, DriveFrequency, Lag, Scan, agreeing_lag, back_project, native_points, projections,
    sharp_lines, sharp_points,
};

/// What has been reconstructed.
#[derive(Debug)]
pub struct XSpaceDone {
    /// The images, in the unit of the summary.
    pub image: Image,
    /// What the scan's file says of itself.
    pub scan: Mdf,
    /// How it came about.
    pub summary: XSpaceSummary,
}

/// Figures of a reconstruction in x-space.
#[derive(Clone, Debug, Serialize)]
pub struct XSpaceSummary {
    /// What is free of field: `line` or `point`.
    pub topology: &'static str,
    /// Periods of a frame.
    pub periods: usize,
    /// Voxels of an image.
    pub voxels: usize,
    /// Voxels that no sample has reached.
    pub unreached: usize,
    /// Images.
    pub frames: usize,
    /// Unit of the images.
    pub unit: &'static str,
    /// How much earlier the signal was taken, in seconds.
    pub delay: f64,
    /// Whether the delay was found in the signal, and not given.
    pub is_delay_found: bool,
    /// Time constant of the relaxation that was divided out, in seconds.
    pub relaxation: f64,
    /// Whether the relaxation was found in the signal, and not given.
    pub is_relaxation_found: bool,
    /// How the images were sharpened: `wiener` or `non-negative`.
    pub deconvolution: Option<&'static str>,
    /// What the objects leave of the native images, beside their size, for each frame; none without.
    pub residuals: Vec<f64>,
}

/// Reconstructs by a plan whose paths are beside `folder`.
///
/// # Errors
/// The scan cannot be read, does not say what fields it had, or cannot be put in its place.
pub fn reconstruct_x_space(plan: &XSpacePlan, folder: &FilePath) -> Result<XSpaceDone, Error> {
    check(plan)?;
    let path = folder.join(&plan.scan);
    placed(plan, &path).map_err(|error| match error {
        Error::XSpace(problem) => Error::Unplaced { path, problem },
        other => other,
    })
}

fn placed(plan: &XSpacePlan, scan_path: &FilePath) -> Result<XSpaceDone, Error> {
    let file = File::open(scan_path)?;
    let scan = open(scan_path, &file, false)?;
    let samples = fields::samples(&scan)?;
    let paths = fields::paths(&scan)?;
    let is_line = fields::is_line(&scan, &paths)?;
    if is_line && plan.grid.size[2] != 1 {
        let text = format!("a grid of {:?} voxels is no plane along x and y", plan.grid.size);
        return Err(Error::XSpace(text));
    }
    if !is_line {
        fields::check_point(&scan, &paths)?;
    }
    let chain = fields::chain(&scan, samples, plan.transfer_floor, plan.max_frequency)?;
    let all = all_rows(&scan, samples);
    let foreground =
        scan_rows(&scan, &all, &Reading::default())?.foreground(scan.data.background(), plan.background)?;
    let rate = 2.0 * scan.mdf.acquisition.receiver.bandwidth;
    let channels = scan.data.channels();
    let seen = |values: &[Complex64]| {
        let spectra = values.iter().zip(chain.iter().cycle()).map(|(value, factor)| value * factor).collect();
        let mut seen = Scan { samples, rate, channels, paths: paths.clone(), spectra };
        if plan.x_space.drive_frequency == DriveFrequency::Lost {
            seen.drop_drive();
        }
        seen
    };
    let late = Late::find(plan, is_line, || Ok(seen(foreground.averaged(0)?.frame(0))))?;
    let frames = foreground.averaged(plan.average)?;
    let mut made = Made::default();
    images(plan, &frames, is_line, |values| late.taken_off(seen(values)), &mut made)?;
    let (scale, unit) = unit(plan, is_line);
    made.data.iter_mut().for_each(|value| *value *= scale);
    let image = Image::new(plan.grid.clone(), made.data)?;
    let deconvolution = plan.x_space.deconvolution;
    let summary = XSpaceSummary {
        topology: if is_line { "line" } else { "point" },
        periods: paths.len(),
        voxels: image.grid.voxels(),
        unreached: made.unreached,
        frames: image.frames(),
        unit,
        delay: late.delay,
        is_delay_found: late.is_delay_found,
        relaxation: late.relaxation,
        is_relaxation_found: late.is_relaxation_found,
        deconvolution: deconvolution.map(|how| match how {
            Deconvolution::Wiener(_) => "wiener",
            Deconvolution::NonNegative(_) => "non-negative",
        }),
        residuals: made.residuals,
    };
    Ok(XSpaceDone { image, scan: scan.mdf, summary })
}

fn check(plan: &XSpacePlan) -> Result<(), Error> {
    let parameter = |name, value, range| Err(Error::Parameter { name, value, range });
    if !(0.0..1.0).contains(&plan.transfer_floor) {
        return parameter("transfer-floor", plan.transfer_floor, "from 0 to below 1");
    }
    if !(plan.max_frequency.is_finite() && plan.max_frequency >= 0.0) {
        return parameter("max-frequency", plan.max_frequency, "0 or more");
    }
    Ok(())
}

/// What images are multiplied by, and their unit then: a concentration of iron if the coils' sensitivity is known.
///
/// A sharpened image is the particles' density times `p m β` of a field-free point. That of a field-free line is `2 p m` times the density in
/// the plane, which is as thick as the grid's layer.
fn unit(plan: &XSpacePlan, is_line: bool) -> (f32, &'static str) {
    let particle = &plan.x_space.particle;
    match (is_line, plan.x_space.deconvolution.is_some(), plan.x_space.sensitivity) {
        (_, true, Some(sensitivity)) => {
            let one = if is_line { 2.0 * plan.grid.spacing()[2] } else { particle.beta() };
            let scale = 1.0 / (sensitivity * particle.moment() * particle.density(1.0) * one);
            #[expect(clippy::cast_possible_truncation, reason = "images are of single precision")]
            let scale = scale as f32;
            (scale, "mmol/L")
        }
        (true, _, _) => (1.0, "V·s/m²"),
        (false, false, _) => (1.0, "V·s/T"),
        (false, true, _) => (1.0, "V·s/(T·m³)"),
    }
}

/// How late the signal is, by relaxation and besides.
struct Late {
    delay: f64,
    is_delay_found: bool,
    relaxation: f64,
    is_relaxation_found: bool,
}

impl Late {
    /// What the plan gives, and what it leaves to be sought in the mean of all frames: by the symmetry of a path that comes back as it has gone,
    /// or by the agreement of a field-free point's samples.
    fn find(plan: &XSpacePlan, is_line: bool, mean: impl Fn() -> Result<Scan, Error>) -> Result<Self, Error> {
        let of = &plan.x_space;
        let known = of.particle.relaxation;
        let is_relaxation_found = of.lag == Lag::Relaxation && of.delay.is_none() && known == 0.0;
        let is_delay_found = of.lag == Lag::Delay && of.delay.is_none();
        let mut late =
            Self { delay: of.delay.unwrap_or(0.0), is_delay_found, relaxation: known, is_relaxation_found };
        if is_relaxation_found || is_delay_found {
            let mut mean = mean()?;
            mean.relax(known);
            let found = match of.lag {
                lag if !is_line && !mean.is_mirrored() => agreeing_lag(&mean, &plan.grid, of, lag)?,
                Lag::Delay => mean.delay()?,
                Lag::Relaxation => mean.relaxation()?,
            };
            if is_delay_found { late.delay = found } else { late.relaxation = found }
        }
        Ok(late)
    }

    fn taken_off(&self, mut scan: Scan) -> Scan {
        scan.relax(self.relaxation);
        scan.advance(self.delay);
        scan
    }
}

/// The images of all frames.
#[derive(Default)]
struct Made {
    data: Vec<f32>,
    unreached: usize,
    residuals: Vec<f64>,
}

impl Made {
    fn add(&mut self, image: &[f64], residual: Option<f64>) {
        #[expect(clippy::cast_possible_truncation, reason = "images are of single precision")]
        self.data.extend(image.iter().map(|value| *value as f32));
        self.residuals.extend(residual);
    }
}

fn images(
    plan: &XSpacePlan,
    frames: &Frames,
    is_line: bool,
    seen: impl Fn(&[Complex64]) -> Scan,
    made: &mut Made,
) -> Result<(), Error> {
    for index in 0..frames.count() {
        let scan = seen(frames.frame(index));
        if is_line { of_lines(plan, &scan, made)? } else { of_points(plan, &scan, made)? }
    }
    Ok(())
}

fn of_lines(plan: &XSpacePlan, scan: &Scan, made: &mut Made) -> Result<(), Error> {
    let native = projections(scan, &plan.grid, &plan.x_space)?;
    if let Some(how) = &plan.x_space.deconvolution {
        let sharp = sharp_lines(&native, &scan.paths, &plan.grid, &plan.x_space, how)?;
        made.add(&sharp.image, Some(sharp.residual));
    } else {
        made.add(&back_project(&native, &plan.grid, plan.x_space.window)?, None);
    }
    Ok(())
}

fn of_points(plan: &XSpacePlan, scan: &Scan, made: &mut Made) -> Result<(), Error> {
    let native = native_points(scan, &plan.grid, &plan.x_space)?;
    made.unreached = native.unreached();
    if let Some(how) = &plan.x_space.deconvolution {
        let sharp = sharp_points(&native, &plan.grid, &plan.x_space, how)?;
        made.add(&sharp.image, Some(sharp.residual));
    } else {
        made.add(&native.image, None);
    }
    Ok(())
}

/// Every frequency of every channel and period, in the order of a frame.
fn all_rows(scan: &Opened<'_>, samples: usize) -> Vec<(usize, Row)> {
    let mut rows = Vec::new();
    for period in 0..scan.data.periods() {
        for channel in 0..scan.data.channels() {
            rows.extend((0..samples / 2 + 1).map(|frequency| (period, Row { channel, frequency })));
        }
    }
    rows
}
