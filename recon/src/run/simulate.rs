//! Files of a simulated scanner.

use std::f64::consts::PI;
use std::ops::Range;
use std::path::Path;

use num_complex::{Complex32, Complex64};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal};

use super::images::write_image;
use super::plan::{CalibrationPlan, SimulatePlan};
use crate::Error;
use crate::image::Image;
use crate::mdf::model::{
    Acquisition, Array, Calibration, DriveField, Experiment, Mdf, Measurement, Receiver, Root, Scanner,
    Sequence as MdfSequence, Study, Tracer,
};
use crate::mdf::text::{new_uuid, now};
use crate::mdf::write::{DataShape, ElementType, Options, Writer};
use crate::physics::{Measured, Particle, Phantom, Samples, measure, spectra, system_matrix};
use crate::prepare::snr;
use crate::select::{Band, Filter};

/// Writes what the object of a plan would look like to a perfect scanner, in mol/m³ of iron, and gives it.
///
/// # Errors
/// The phantom or the grid makes no sense, or the file cannot be written.
pub fn simulate_truth(
    plan: &SimulatePlan,
    folder: &Path,
    out: &Path,
    options: Options,
) -> Result<Image, Error> {
    plan.grid.check()?;
    let values = Phantom::new(&plan.phantom, folder)?.image(&plan.grid, plan.finer.max(1) * 2);
    #[expect(clippy::cast_possible_truncation, reason = "images are of single precision")]
    let data = values.iter().map(|value| *value as f32).collect();
    let image = Image::new(plan.grid.clone(), data)?;
    write_image(out, &image, &description(plan, &plan.particle, 0.0)?, options)?;
    Ok(image)
}

/// Computes the scan of a plan and writes it; says how many samples were beyond the converters.
///
/// # Errors
/// The plan makes no sense, or the file cannot be written.
pub fn simulate_scan(plan: &SimulatePlan, folder: &Path, out: &Path, options: Options) -> Result<u64, Error> {
    plan.grid.check()?;
    if plan.frames == 0 {
        return Err(Error::model("scan", "it has no frame"));
    }
    let phantom = Phantom::new(&plan.phantom, folder)?;
    let cloud = phantom.cloud(&plan.grid.finer(plan.finer.max(1)), &plan.particle);
    let spectra = spectra(&plan.sequence, &plan.particle, &plan.coils, &cloud)?;
    let [before, after] = plan.background;
    let words: Vec<bool> = std::iter::repeat_n(true, before)
        .chain(std::iter::repeat_n(false, plan.frames))
        .chain(std::iter::repeat_n(true, after))
        .collect();
    let measured = measure(&spectra, &plan.sequence, &plan.coils, &words, plan.seed)?;
    write_scan(plan, &measured, out, options)?;
    Ok(measured.saturated)
}

fn write_scan(plan: &SimulatePlan, measured: &Measured, out: &Path, options: Options) -> Result<(), Error> {
    let samples = plan.sequence.samples()?;
    let mut mdf = description(plan, &plan.particle, 0.0)?;
    "simulated scan".clone_into(&mut mdf.experiment.name);
    mdf.acquisition.sequence.num_frames = integer(measured.is_background.len());
    mdf.measurement = Some(Measurement {
        is_background_frame: flags(&measured.is_background),
        is_sparsity_transformed: Some(false),
        ..Measurement::default()
    });
    if let Samples::Codes(_) = measured.samples {
        let step = |coil: &crate::physics::Coil| coil.adc.as_ref().map_or(1.0, crate::physics::Adc::step);
        let factors = plan.coils.iter().flat_map(|coil| [step(coil), 0.0]).collect();
        mdf.acquisition.receiver.data_conversion_factor = Some(Array::new(&[plan.coils.len(), 2], factors));
    }
    let shape = [measured.is_background.len(), plan.sequence.periods.len(), plan.coils.len(), samples];
    let shape = shape.map(|length| length as u64);
    let element = match measured.samples {
        Samples::Codes(_) => ElementType::Int16,
        Samples::Volts(_) => ElementType::Float64,
    };
    let mut writer = Writer::create(out, &mdf, Some(&DataShape { shape, element }), options)?;
    match &measured.samples {
        Samples::Codes(codes) => writer.append(codes)?,
        Samples::Volts(volts) => writer.append(volts)?,
    }
    writer.finish()
}

/// Computes the system matrix of a plan and writes it, with the frames axis fastest and the background frames last.
///
/// # Errors
/// The plan has no calibration or makes no sense, or the file cannot be written.
pub fn simulate_calibration(plan: &SimulatePlan, out: &Path, options: Options) -> Result<(), Error> {
    let Some(calibration) = &plan.calibration else {
        return Err(Error::model("calibration", "the plan has no `[calibration]`"));
    };
    let particle = calibration.particle.as_ref().unwrap_or(&plan.particle);
    let band = band(plan, calibration)?;
    let matrix = system_matrix(
        &plan.sequence,
        particle,
        &plan.coils,
        &calibration.grid,
        calibration.iron,
        calibration.finer.max(1),
        Some(band.clone()),
    )?;
    let positions = calibration.grid.voxels();
    let frames = positions + calibration.background;
    let rows = matrix.len() / positions;
    let (periods, frequencies) = (plan.sequence.periods.len(), band.len());
    let mut ratios = Vec::with_capacity(rows);
    let mut noise = ChaCha8Rng::seed_from_u64(plan.seed.wrapping_add(1));
    let mut data: Vec<Complex32> = Vec::with_capacity(rows * frames);
    for (row, values) in matrix.chunks_exact(positions).enumerate() {
        let coil = &plan.coils[row / frequencies % plan.coils.len()];
        let deviation = deviation(coil.noise, plan.sequence.samples()?, calibration.averages);
        let own =
            values.iter().copied().chain(std::iter::repeat_n(Complex64::default(), calibration.background));
        let noisy: Vec<Complex64> = own.map(|value| value + random(&mut noise) * deviation).collect();
        ratios.push(snr(&noisy[..positions], &noisy[positions..]));
        #[expect(clippy::cast_possible_truncation, reason = "system matrices are of single precision")]
        data.extend(noisy.iter().map(|value| Complex32::new(value.re as f32, value.im as f32)));
    }
    // Without noise the ratio has no value that a file can hold.
    let known = ratios.iter().all(|ratio| ratio.is_finite());
    let mut mdf = description(plan, particle, calibration.iron)?;
    describe_calibration(&mut mdf, calibration, frames);
    let is_part = band != all(plan.sequence.samples()?);
    if let Some(of) = mdf.measurement.as_mut().filter(|_| is_part) {
        of.is_frequency_selection = true;
        // MDF counts from 1.
        of.frequency_selection = Some(Array::new(&[band.len()], band.map(|k| integer(k + 1)).collect()));
    }
    if let Some(of) = mdf.calibration.as_mut().filter(|_| known && calibration.background > 1) {
        of.snr = Some(Array::new(&[periods, plan.coils.len(), frequencies], ratios));
    }
    let shape = [periods, plan.coils.len(), frequencies, frames].map(|length| length as u64);
    let shape = DataShape { shape, element: ElementType::Complex64 };
    let mut writer = Writer::create(out, &mdf, Some(&shape), options)?;
    writer.append(&data)?;
    writer.finish()
}

fn all(samples: usize) -> Range<usize> {
    0..samples / 2 + 1
}

/// The frequencies that a calibration keeps.
fn band(plan: &SimulatePlan, calibration: &CalibrationPlan) -> Result<Range<usize>, Error> {
    let samples = plan.sequence.samples()?;
    let band = Band {
        channels: plan.coils.len(),
        bandwidth: plan.sequence.base_frequency / 2.0,
        samples,
        drive: Vec::new(),
        snr: None,
        stored: None,
    };
    let (min_frequency, max_frequency) = (calibration.min_frequency, calibration.max_frequency);
    let rows = Filter { min_frequency, max_frequency, ..Filter::default() }.rows(&band)?;
    Ok(rows[0].frequency..rows[rows.len() - 1].frequency + 1)
}

fn describe_calibration(mdf: &mut Mdf, calibration: &CalibrationPlan, frames: usize) {
    let positions = calibration.grid.voxels();
    "simulated calibration".clone_into(&mut mdf.experiment.name);
    mdf.acquisition.sequence.num_frames = integer(frames);
    mdf.acquisition.sequence.num_averages = i64::from(calibration.averages);
    let words: Vec<bool> = (0..frames).map(|frame| frame >= positions).collect();
    mdf.measurement = Some(Measurement {
        is_background_corrected: true,
        is_background_frame: flags(&words),
        is_fast_frame_axis: true,
        is_fourier_transformed: true,
        is_sparsity_transformed: Some(false),
        ..Measurement::default()
    });
    mdf.calibration = Some(Calibration {
        delta_sample_size: Some(Array::new(&[3], calibration.grid.spacing().to_vec())),
        field_of_view: Some(Array::new(&[3], calibration.grid.field_of_view.to_vec())),
        field_of_view_center: Some(Array::new(&[3], calibration.grid.center.to_vec())),
        method: "simulation".to_owned(),
        order: Some("xyz".to_owned()),
        size: Some(Array::new(&[3], calibration.grid.size.iter().map(|n| integer(*n)).collect())),
        ..Calibration::default()
    });
}

/// White noise of a sample as that of a frequency: the sum over V samples has V times the variance, half of it real.
fn deviation(noise: f64, samples: usize, averages: u32) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "at most 2^24 samples")]
    let samples = samples as f64;
    noise * (samples / 2.0 / f64::from(averages.max(1))).sqrt()
}

fn random(noise: &mut ChaCha8Rng) -> Complex64 {
    Complex64::new(StandardNormal.sample(noise), StandardNormal.sample(noise))
}

/// What both files say of the scanner.
fn description(plan: &SimulatePlan, particle: &Particle, iron: f64) -> Result<Mdf, Error> {
    let new_uuid =
        || new_uuid().map_err(|source| Error::Io { action: "read", path: "/dev/urandom".into(), source });
    let own = || "simulated by hatchway-recon".to_owned();
    let topology =
        if plan.sequence.periods.iter().all(|period| is_line(&period.gradient)) { "FFL" } else { "FFP" };
    let tracer = |text: String| Array::new(&[1], vec![text]);
    Ok(Mdf {
        root: Root { time: now(), uuid: new_uuid()?, version: String::new() },
        study: Study {
            description: own(),
            name: "simulation".to_owned(),
            number: 1,
            time: None,
            uuid: new_uuid()?,
        },
        experiment: Experiment {
            description: own(),
            is_simulation: true,
            name: String::new(),
            number: 1,
            subject: "phantom".to_owned(),
            uuid: new_uuid()?,
        },
        tracer: Some(Tracer {
            batch: tracer("none".to_owned()),
            // MDF has mol/L.
            concentration: Array::new(&[1], vec![iron / 1000.0]),
            injection_time: None,
            name: tracer(format!("magnetite of {:.1} nm", particle.diameter * 1e9)),
            solute: tracer("Fe".to_owned()),
            vendor: tracer("none".to_owned()),
            volume: Array::new(&[1], vec![0.0]),
        }),
        scanner: Scanner {
            bore_size: None,
            facility: "none".to_owned(),
            manufacturer: "hatchway-recon".to_owned(),
            name: "simulator".to_owned(),
            operator: "none".to_owned(),
            topology: topology.to_owned(),
        },
        acquisition: acquisition(plan)?,
        ..Mdf::default()
    })
}

fn acquisition(plan: &SimulatePlan) -> Result<Acquisition, Error> {
    let sequence = &plan.sequence;
    let (periods, channels) = (sequence.periods.len(), sequence.channels.len());
    let each = |of: fn(f64, &crate::physics::DriveChannel) -> f64| -> Vec<f64> {
        let of_period = |period: &crate::physics::Period| -> Vec<f64> {
            let channels = sequence.channels.iter().enumerate();
            channels.map(|(index, channel)| of(period.share(index), channel)).collect()
        };
        sequence.periods.iter().flat_map(of_period).collect()
    };
    let gradients = sequence.periods.iter().flat_map(|period| period.gradient.as_flattened().to_vec());
    let offsets = sequence.periods.iter().flat_map(|period| period.offset);
    let samples = sequence.samples()?;
    let frequencies = samples / 2 + 1;
    #[expect(clippy::cast_precision_loss, reason = "at most 2^24 samples")]
    let hertz = |k: usize| k as f64 * sequence.base_frequency / samples as f64;
    let factors =
        plan.coils.iter().flat_map(|coil| (0..frequencies).map(move |k| coil.transfer.at(hertz(k))));
    Ok(Acquisition {
        sequence: MdfSequence {
            gradient: Some(Array::new(&[periods, 1, 3, 3], gradients.collect())),
            num_averages: 1,
            num_frames: 1,
            num_periods_per_frame: integer(periods),
            offset_field: Some(Array::new(&[periods, 1, 3], offsets.collect())),
            start_time: now(),
        },
        drive_field: DriveField {
            base_frequency: sequence.base_frequency,
            cycle: sequence.cycle()?,
            divider: Array::new(
                &[channels, 1],
                sequence.channels.iter().map(|c| i64::from(c.divider)).collect(),
            ),
            num_channels: integer(channels),
            phase: Array::new(
                &[periods, channels, 1],
                each(|share, channel| if share < 0.0 { channel.phase + PI } else { channel.phase }),
            ),
            strength: Array::new(
                &[periods, channels, 1],
                each(|share, channel| channel.amplitude * share.abs()),
            ),
            waveform: Array::new(&[channels, 1], vec!["sine".to_owned(); channels]),
        },
        receiver: Receiver {
            bandwidth: sequence.base_frequency / 2.0,
            data_conversion_factor: None,
            induction_factor: None,
            num_channels: integer(plan.coils.len()),
            num_sampling_points: integer(samples),
            transfer_function: Some(Array::new(&[plan.coils.len(), frequencies], factors.collect())),
            unit: "V".to_owned(),
        },
    })
}

/// Whether a selection field leaves a line free: its tensor has no inverse.
fn is_line(gradient: &crate::physics::Tensor) -> bool {
    let [a, b, c] = gradient;
    let determinant = a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0])
        + a[2] * (b[0] * c[1] - b[1] * c[0]);
    let scale = gradient.as_flattened().iter().fold(0.0, |most: f64, value| most.max(value.abs()));
    determinant.abs() < 1e-9 * scale.powi(3)
}

fn flags(words: &[bool]) -> Array<i64> {
    Array::new(&[words.len()], words.iter().map(|word| i64::from(*word)).collect())
}

/// Counts are far below 2^63.
fn integer(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
