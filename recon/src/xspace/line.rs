//! Images along a line from partial fields of view that overlap.

use serde::{Deserialize, Serialize};

use super::cg::{Stop, conjugate_gradients};
use crate::Error;

/// One partial field of view: what a coil saw during a period, and where the field-free point was.
#[derive(Clone, Debug)]
pub struct PartialScan {
    /// Place of the field-free point at each sample, in metres.
    pub positions: Vec<f64>,
    /// Its velocity at each sample, in m/s.
    pub velocities: Vec<f64>,
    /// The signal at each sample, in volts.
    pub signal: Vec<f64>,
}

/// What is done about the constant that each partial field of view has lost with the drive frequency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dc {
    /// Nothing: for signals that have kept the drive frequency.
    None,
    /// The image and a constant for each partial field of view are sought together, in the sense of least squares; the image is 0 at both ends
    /// of the line, which must lie outside of the object.
    #[default]
    Joint,
}

/// How a line is reconstructed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct LineSettings {
    /// Samples at which the field-free point is slower than this share of its greatest speed are left out: where it turns, a signal over its
    /// speed is noise alone.
    pub least_speed: f64,
    /// Recovery of the lost constants.
    pub dc: Dc,
}

impl Default for LineSettings {
    fn default() -> Self {
        Self { least_speed: 0.1, dc: Dc::default() }
    }
}

/// A sample of the native image: in which bins it lies (the second is the next one), with what shares, its weight and its value.
struct Sample {
    scan: usize,
    bin: usize,
    share: f64,
    weight: f64,
    value: f64,
}

/// The native image at `bins` places from `from` to `to` in metres, both included, in V·s/m.
///
/// It is piecewise linear between the places. Each sample is `signal/velocity`, weighted by the square of the velocity, because the noise of
/// the signal does not grow with it: what is minimised is the error of the signal.
///
/// # Errors
/// There are fewer than two bins, a scan's lists differ in length, a value is no number, or a place is seen by no sample.
pub fn native_image(
    scans: &[PartialScan],
    [from, to]: [f64; 2],
    bins: usize,
    settings: &LineSettings,
) -> Result<Vec<f64>, Error> {
    if bins < 2 || from >= to {
        return Err(Error::XSpace(format!("{bins} places from {from} m to {to} m are no line")));
    }
    let samples = samples(scans, [from, to], bins, settings.least_speed)?;
    let constants = if settings.dc == Dc::Joint { scans.len() } else { 0 };
    let normal = Normal { samples: &samples, bins, constants };
    if let Some(unseen) = normal.unseen() {
        #[expect(clippy::cast_precision_loss, reason = "bins of a line")]
        let place = from + (to - from) * unseen as f64 / (bins - 1) as f64;
        return Err(Error::XSpace(format!("the field-free point never comes near {place} m")));
    }
    let mut image = normal.solve()?;
    image.truncate(bins);
    Ok(image)
}

fn samples(
    scans: &[PartialScan],
    [from, to]: [f64; 2],
    bins: usize,
    least_speed: f64,
) -> Result<Vec<Sample>, Error> {
    let mut samples = Vec::new();
    for (index, scan) in scans.iter().enumerate() {
        let n = scan.signal.len();
        if scan.positions.len() != n || scan.velocities.len() != n {
            let text = format!(
                "partial field of view {index} has {n} samples at {} places with {} velocities",
                scan.positions.len(),
                scan.velocities.len()
            );
            return Err(Error::XSpace(text));
        }
        if scan.positions.iter().chain(&scan.velocities).chain(&scan.signal).any(|v| !v.is_finite()) {
            return Err(Error::XSpace(format!(
                "partial field of view {index} has a value that is no number"
            )));
        }
        let fastest = scan.velocities.iter().fold(0.0, |most: f64, v| most.max(v.abs()));
        for ((position, velocity), signal) in scan.positions.iter().zip(&scan.velocities).zip(&scan.signal) {
            #[expect(clippy::cast_precision_loss, reason = "bins of a line")]
            let place = (position - from) / (to - from) * (bins - 1) as f64;
            #[expect(clippy::cast_precision_loss, reason = "bins of a line")]
            let inside = place >= 0.0 && place <= (bins - 1) as f64;
            if velocity.abs() > least_speed * fastest && inside {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "between 0 and the number of bins, as just seen"
                )]
                let bin = (place as usize).min(bins - 2);
                #[expect(clippy::cast_precision_loss, reason = "bins of a line")]
                let share = place - bin as f64;
                let weight = (velocity / fastest).powi(2);
                samples.push(Sample { scan: index, bin, share, weight, value: signal / velocity });
            }
        }
    }
    Ok(samples)
}

/// The normal equations of `Σ w (value + constant − image)²`, with the image at the bins first and the constants after it.
struct Normal<'a> {
    samples: &'a [Sample],
    bins: usize,
    constants: usize,
}

/// Steps of the conjugate gradients for each unknown. In exact arithmetic one would do.
const STEPS: usize = 40;
/// The residual at which they end, beside the first one.
const TOLERANCE: f64 = 1e-13;

impl Normal<'_> {
    /// A bin that no sample touches.
    fn unseen(&self) -> Option<usize> {
        let mut seen = vec![false; self.bins];
        for sample in self.samples {
            seen[sample.bin] |= sample.share < 1.0;
            seen[sample.bin + 1] |= sample.share > 0.0;
        }
        seen.iter().position(|seen| !seen)
    }

    /// What a sample is by the unknowns: image less constant.
    fn model(&self, sample: &Sample, of: &[f64]) -> f64 {
        let image = (1.0 - sample.share) * of[sample.bin] + sample.share * of[sample.bin + 1];
        if self.constants > 0 { image - of[self.bins + sample.scan] } else { image }
    }

    fn scatter(&self, sample: &Sample, value: f64, into: &mut [f64]) {
        into[sample.bin] += (1.0 - sample.share) * value;
        into[sample.bin + 1] += sample.share * value;
        if self.constants > 0 {
            into[self.bins + sample.scan] -= value;
        }
    }

    /// With the constants the ends are known to be 0: they are no unknowns, and what falls on them is dropped.
    fn hold_ends(&self, values: &mut [f64]) {
        if self.constants > 0 {
            values[0] = 0.0;
            values[self.bins - 1] = 0.0;
        }
    }

    fn apply(&self, x: &[f64]) -> Vec<f64> {
        let mut result = vec![0.0; x.len()];
        for sample in self.samples {
            self.scatter(sample, sample.weight * self.model(sample, x), &mut result);
        }
        self.hold_ends(&mut result);
        result
    }

    fn solve(&self) -> Result<Vec<f64>, Error> {
        let n = self.bins + self.constants;
        let (mut b, mut own) = (vec![0.0; n], vec![0.0; n]);
        for sample in self.samples {
            self.scatter(sample, sample.weight * sample.value, &mut b);
            own[sample.bin] += sample.weight * (1.0 - sample.share).powi(2);
            own[sample.bin + 1] += sample.weight * sample.share.powi(2);
            if self.constants > 0 {
                own[self.bins + sample.scan] += sample.weight;
            }
        }
        self.hold_ends(&mut b);
        let stop = Stop { tolerance: TOLERANCE, steps: STEPS * n };
        conjugate_gradients(|x| Ok(self.apply(x)), &b, &own, stop, "do the partial fields of view overlap?")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::physics::{
        Cloud, Coil, DriveChannel, Particle, Period, Sequence, langevin_derivative, measure, spectra,
    };

    const GRADIENT: f64 = 5.7;
    const AMPLITUDE: f64 = 0.02;
    const SENSITIVITY: f64 = 1e-3;
    const SPAN: [f64; 2] = [-0.014, 0.014];
    const BINS: usize = 281;

    /// 45 kHz, 20 mT, partial fields of view of 7 mm that overlap by three quarters.
    fn sequence() -> Sequence {
        let channel =
            DriveChannel { direction: [1.0, 0.0, 0.0], amplitude: AMPLITUDE, divider: 256, phase: 0.0 };
        let period = |index: i32| Period {
            gradient: [[GRADIENT, 0.0, 0.0], [0.0, -GRADIENT / 2.0, 0.0], [0.0, 0.0, -GRADIENT / 2.0]],
            offset: [f64::from(index) * AMPLITUDE / 2.0, 0.0, 0.0],
            drive: vec![],
        };
        Sequence {
            base_frequency: 45e3 * 256.0,
            channels: vec![channel],
            periods: (-6..=6).map(period).collect(),
        }
    }

    /// Two bars and a point along x: places and particles.
    fn object() -> Cloud {
        let bar = |from: i32, to: i32, particles: f64| {
            (from..to).map(move |step| ([(f64::from(step) + 0.5) * 2e-5, 0.0, 0.0], particles))
        };
        Cloud { points: bar(-300, -150, 1e10).chain(bar(50, 100, 2e10)).chain(bar(250, 252, 3e11)).collect() }
    }

    /// The object blurred by the particles' answer, in the unit of the native image: `p m β g Σ n L'(βg(x − x_n))`.
    fn truth(particle: &Particle) -> Vec<f64> {
        let (beta, object) = (particle.beta(), object());
        (0..BINS)
            .map(|bin| {
                #[expect(clippy::cast_precision_loss, reason = "small")]
                let x = SPAN[0] + (SPAN[1] - SPAN[0]) * bin as f64 / (BINS - 1) as f64;
                let blurred = object.points.iter().map(|(place, particles)| {
                    particles * langevin_derivative(beta * GRADIENT * (x - place[0]))
                });
                SENSITIVITY * particle.moment() * beta * GRADIENT * blurred.sum::<f64>()
            })
            .collect()
    }

    fn scans(particle: &Particle, without_drive_frequency: bool) -> Vec<PartialScan> {
        let sequence = sequence();
        let coil: Coil =
            serde_json::from_value(serde_json::json!({ "sensitivity": [SENSITIVITY, 0.0, 0.0] })).unwrap();
        let mut spectra = spectra(&sequence, particle, std::slice::from_ref(&coil), &object()).unwrap();
        if without_drive_frequency {
            for spectrum in spectra.data.chunks_exact_mut(spectra.frequencies) {
                spectrum[1] = num_complex::Complex64::default();
            }
        }
        let measured = measure(&spectra, &sequence, &[coil], &[false], 1).unwrap();
        let crate::physics::Samples::Volts(volts) = measured.samples else { panic!("codes") };
        let samples = sequence.samples().unwrap();
        let omega = std::f64::consts::TAU * 45e3;
        volts
            .chunks_exact(samples)
            .zip(&sequence.periods)
            .map(|(signal, period)| {
                let times: Vec<f64> = (0..samples)
                    .map(|n| f64::from(u32::try_from(n).unwrap()) / sequence.base_frequency)
                    .collect();
                let field = |t: f64| period.offset[0] + AMPLITUDE * (omega * t).sin();
                PartialScan {
                    positions: times.iter().map(|t| -field(*t) / GRADIENT).collect(),
                    velocities: times
                        .iter()
                        .map(|t| -AMPLITUDE * omega * (omega * t).cos() / GRADIENT)
                        .collect(),
                    signal: signal.to_vec(),
                }
            })
            .collect()
    }

    fn error(found: &[f64], truth: &[f64]) -> f64 {
        let most = truth.iter().copied().fold(0.0, f64::max);
        let sum: f64 = found.iter().zip(truth).map(|(a, b)| (a - b).powi(2)).sum();
        #[expect(clippy::cast_precision_loss, reason = "small")]
        let mean = sum / truth.len() as f64;
        mean.sqrt() / most
    }

    /// The case of the literature: with the drive frequency the native image is right, without it far off, and recovery brings it back.
    #[test]
    fn dc_recovery_cuts_the_error_tenfold() {
        let particle = Particle::default();
        let truth = truth(&particle);
        let image = |scans: &[PartialScan], dc| {
            native_image(scans, SPAN, BINS, &LineSettings { dc, ..LineSettings::default() }).unwrap()
        };
        let kept = error(&image(&scans(&particle, false), Dc::None), &truth);
        let filtered = scans(&particle, true);
        let lost = error(&image(&filtered, Dc::None), &truth);
        let recovered = error(&image(&filtered, Dc::Joint), &truth);
        println!("kept {kept:.4}, lost {lost:.4}, recovered {recovered:.4}");
        assert!(kept < 0.005, "{kept}");
        assert!(lost > 0.05, "{lost}");
        assert!(recovered < lost / 10.0, "{recovered} of {lost}");
    }

    #[test]
    fn what_cannot_be_a_line_is_told() {
        let mut scans = scans(&Particle::default(), false);
        let message = |scans: &[PartialScan], span, bins| {
            native_image(scans, span, bins, &LineSettings::default()).unwrap_err().to_string()
        };
        assert!(message(&scans, SPAN, 1).contains("no line"));
        assert!(message(&scans, [-0.03, 0.03], 281).contains("never comes near -0.03 m"));
        scans[2].signal[5] = f64::NAN;
        assert!(message(&scans, SPAN, BINS).contains("partial field of view 2 has a value"));
        scans[1].signal.pop();
        assert!(message(&scans, SPAN, BINS).contains("partial field of view 1 has 255 samples"));
    }
}
