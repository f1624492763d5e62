//! What x-space is told: paths, spectra, and how to go about it.

use num_complex::Complex64;
use serde::{Deserialize, Serialize};

use super::{Deconvolution, Path, Window, advance, mirror_delay, mirror_relaxation, relax};
use crate::Error;
use crate::physics::Particle;

/// Whether the signal has its part at the drive frequencies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DriveFrequency {
    /// The scanner has filtered it out, or it is the drive field's own: it is left out and recovered.
    #[default]
    Lost,
    /// It is as good as the others.
    Kept,
}

/// How particles are late, where a plan does not say by how much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lag {
    /// All frequencies by the same time: the delay is sought.
    #[default]
    Delay,
    /// By Debye relaxation: its time constant is sought, and divided out.
    Relaxation,
}

/// Which part of a field-free point's signal makes the native image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// That along the field's change, sample by sample.
    #[default]
    Along,
    /// The mean over all axes: the same answer everywhere, whatever the directions of the path.
    Mean,
}

/// How an image is made in x-space.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Settings {
    /// What is done about the drive frequencies.
    pub drive_frequency: DriveFrequency,
    /// How late the signal is beside the path, in seconds, by relaxation and by what the transfer function leaves out; what `lag` says is
    /// sought if not given.
    pub delay: Option<f64>,
    /// What is sought where no delay is given: by the symmetry of a path that comes back as it has gone, or by the agreement of a field-free
    /// point's samples ([`super::agreeing_lag`]).
    pub lag: Lag,
    /// Samples at which the field-free point or line is slower than this share of its greatest speed are left out; from 0 to below 1.
    pub least_speed: f64,
    /// For field-free points.
    pub part: Part,
    /// Metres between the places of a projection; half of the smallest edge of a voxel if not given. For field-free lines.
    pub spacing: Option<f64>,
    /// Of the ramp filter, for field-free lines.
    pub window: Window,
    /// What the object is filled with: its relaxation is divided out of the signal if it has one, and deconvolution is by its answer.
    pub particle: Particle,
    /// How the image is sharpened, if at all.
    pub deconvolution: Option<Deconvolution>,
    /// Sensitivity of the coils in T/A, before the receive chain's transfer function; with it a sharpened image is a concentration.
    pub sensitivity: Option<f64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            drive_frequency: DriveFrequency::default(),
            delay: None,
            lag: Lag::default(),
            least_speed: 0.1,
            part: Part::default(),
            spacing: None,
            window: Window::default(),
            particle: Particle::default(),
            deconvolution: None,
            sensitivity: None,
        }
    }
}

impl Settings {
    pub(super) fn check(&self) -> Result<(), Error> {
        self.particle.check()?;
        if let Some(deconvolution) = &self.deconvolution {
            deconvolution.check()?;
        }
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let parameter = |name, value, range| Err(Error::Parameter { name, value, range });
        if !(0.0..1.0).contains(&self.least_speed) {
            return parameter("least-speed", self.least_speed, "from 0 to below 1");
        }
        if let Some(spacing) = self.spacing.filter(|spacing| !positive(*spacing)) {
            return parameter("spacing", spacing, "above 0");
        }
        if let Some(sensitivity) = self.sensitivity.filter(|sensitivity| !positive(*sensitivity)) {
            return parameter("sensitivity", sensitivity, "above 0");
        }
        match self.delay.filter(|delay| !delay.is_finite()) {
            Some(delay) => parameter("delay", delay, "finite"),
            None => Ok(()),
        }
    }
}

/// One frame as coils have seen it: spectra without the receive chain's transfer function, and the paths that belong to them.
#[derive(Clone, Debug, PartialEq)]
pub struct Scan {
    /// Samples of a period, V.
    pub samples: usize,
    /// Samples per second.
    pub rate: f64,
    /// Receive channels, C: along x, y (and z).
    pub channels: usize,
    /// The fields of each period, J.
    pub paths: Vec<Path>,
    /// J × C × K values in volts, un-normalised as of a discrete Fourier transform of V samples, K = V/2 + 1, frequency fastest.
    pub spectra: Vec<Complex64>,
}

impl Scan {
    /// What does not fit together is refused.
    pub(super) fn check(&self) -> Result<(), Error> {
        let expected = self.paths.len() * self.channels * self.frequencies();
        let what = if self.spectra.len() != expected {
            format!("{} values are not {expected} of all periods and channels", self.spectra.len())
        } else if self.channels < 2 || self.samples < 2 || self.paths.is_empty() {
            let (channels, periods) = (self.channels, self.paths.len());
            format!("{channels} receive channels, {periods} periods of {} samples are no plane", self.samples)
        } else if !(self.rate.is_finite() && self.rate > 0.0) {
            format!("{} samples a second are no rate", self.rate)
        } else if self.spectra.iter().any(|value| !(value.re.is_finite() && value.im.is_finite())) {
            "a value of the spectra is no number".to_owned()
        } else {
            return Ok(());
        };
        Err(Error::XSpace(what))
    }

    /// Values of a spectrum, K.
    #[must_use]
    pub fn frequencies(&self) -> usize {
        self.samples / 2 + 1
    }

    /// Hertz from one line of the spectra to the next.
    #[must_use]
    pub fn resolution(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "at most 2^24 samples")]
        let samples = self.samples as f64;
        self.rate / samples
    }

    /// Seconds of a period.
    #[must_use]
    pub fn cycle(&self) -> f64 {
        1.0 / self.resolution()
    }

    /// The spectrum of a channel in a period.
    #[must_use]
    pub fn spectrum(&self, period: usize, channel: usize) -> &[Complex64] {
        let start = (period * self.channels + channel) * self.frequencies();
        &self.spectra[start..start + self.frequencies()]
    }

    /// The lines of the spectrum on which the drive frequencies fall, in order.
    #[must_use]
    pub fn drive_lines(&self) -> Vec<usize> {
        let drives = self.paths.iter().flat_map(|path| &path.drive);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturating")]
        let line = |frequency: f64| (frequency / self.resolution()).round() as usize;
        let mut lines: Vec<usize> =
            drives.map(|drive| line(drive.frequency)).filter(|k| *k < self.frequencies()).collect();
        lines.sort_unstable();
        lines.dedup();
        lines
    }

    /// Leaves the drive frequencies out.
    pub fn drop_drive(&mut self) {
        let (lines, frequencies) = (self.drive_lines(), self.frequencies());
        for spectrum in self.spectra.chunks_exact_mut(frequencies) {
            for line in &lines {
                spectrum[*line] = Complex64::default();
            }
        }
    }

    /// How late the signal is, in seconds, up to an eighth of the period of the fastest drive field: see [`mirror_delay`].
    ///
    /// # Errors
    /// A path is not its own mirror at any time.
    pub fn delay(&self) -> Result<f64, Error> {
        Ok(mirror_delay(&self.mirrored()?, self.resolution(), self.greatest_lag(Lag::Delay)))
    }

    /// The time constant of the particles' relaxation, in seconds, up to half of the period of the fastest drive field: see
    /// [`mirror_relaxation`].
    ///
    /// # Errors
    /// A path is not its own mirror at any time.
    pub fn relaxation(&self) -> Result<f64, Error> {
        Ok(mirror_relaxation(&self.mirrored()?, self.resolution(), self.greatest_lag(Lag::Relaxation)))
    }

    /// Whether each period's path comes back as it has gone.
    #[must_use]
    pub fn is_mirrored(&self) -> bool {
        self.paths.iter().all(|path| path.mirror(self.cycle()).is_some())
    }

    /// How late a signal may be, in seconds, for it to be found.
    pub(super) fn greatest_lag(&self, lag: Lag) -> f64 {
        let drives = self.paths.iter().flat_map(|path| &path.drive);
        let fastest = drives.fold(0.0, |most: f64, of| most.max(of.frequency));
        match lag {
            Lag::Delay => 0.125 / fastest,
            Lag::Relaxation => 0.5 / fastest,
        }
    }

    /// All spectra with the times about which their paths are mirrors.
    fn mirrored(&self) -> Result<Vec<(&[Complex64], f64)>, Error> {
        let mut spectra = Vec::new();
        for (period, path) in self.paths.iter().enumerate() {
            let Some(mirror) = path.mirror(self.cycle()) else {
                let text = format!(
                    "the path of period {period} does not come back as it has gone, so a delay cannot be found by its symmetry; give `delay`, and `relaxation` in `[x-space.particle]` if it is known"
                );
                return Err(Error::XSpace(text));
            };
            spectra.extend((0..self.channels).map(|channel| (self.spectrum(period, channel), mirror)));
        }
        Ok(spectra)
    }

    /// Divides Debye relaxation of a time constant in seconds out of all signals.
    pub fn relax(&mut self, relaxation: f64) {
        let (spacing, frequencies) = (self.resolution(), self.frequencies());
        for spectrum in self.spectra.chunks_exact_mut(frequencies) {
            relax(spectrum, spacing, relaxation);
        }
    }

    /// Moves all signals so much earlier, in seconds.
    pub fn advance(&mut self, delay: f64) {
        let (spacing, frequencies) = (self.resolution(), self.frequencies());
        for spectrum in self.spectra.chunks_exact_mut(frequencies) {
            advance(spectrum, spacing, delay);
        }
    }
}

/// So many times evenly over a period, in seconds.
pub(super) fn times(points: usize, cycle: f64) -> impl Iterator<Item = f64> {
    #[expect(clippy::cast_precision_loss, reason = "at most 2^24 points")]
    (0..points).map(move |point| point as f64 * cycle / points as f64)
}

/// A whole multiple of the samples that is not below a number of points, within reason.
pub(super) fn at_least(points: f64, samples: usize) -> usize {
    #[expect(clippy::cast_precision_loss, reason = "at most 2^24 samples")]
    let factor = (points / samples as f64).ceil().clamp(1.0, 1024.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 1024, as just seen")]
    let factor = factor as usize;
    samples * factor
}
