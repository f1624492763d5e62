//! Receive coils and what follows them: filters, disturbances, noise and the converter.

use std::f64::consts::TAU;

use num_complex::Complex64;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use realfft::{ComplexToReal, RealFftPlanner};
use serde::{Deserialize, Serialize};

use super::{Period, Sequence, Spectra, Vector};
use crate::Error;

/// A receive coil with its chain up to the samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Coil {
    /// Flux density of a unit current in the coil, the same everywhere, in T/A.
    pub sensitivity: Vector,
    /// From the coil's voltage to the converter's.
    #[serde(default)]
    pub transfer: Transfer,
    /// White noise at the converter: standard deviation of a sample in volts.
    #[serde(default)]
    pub noise: f64,
    /// What of the drive field comes through without any particle, for each drive channel; fewer or none is no feed-through.
    #[serde(default)]
    pub feed_through: Vec<FeedThrough>,
    /// How far the feed-through walks from frame to frame: standard deviation of one step, relative.
    #[serde(default)]
    pub drift: f64,
    /// The converter; without one, samples are voltages.
    #[serde(default)]
    pub adc: Option<Adc>,
}

/// A band-pass of first order on each side: `gain · (i f/f_high)/(1 + i f/f_high) · 1/(1 + i f/f_low)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Transfer {
    /// In the middle of the band.
    pub gain: f64,
    /// Frequencies below this one in hertz are damped; 0 for none.
    pub high_pass: f64,
    /// Frequencies above this one in hertz are damped; 0 for none.
    pub low_pass: f64,
}

impl Default for Transfer {
    /// The coil's voltage as it is.
    fn default() -> Self {
        Self { gain: 1.0, high_pass: 0.0, low_pass: 0.0 }
    }
}

impl Transfer {
    /// The factor at a frequency in hertz.
    #[must_use]
    pub fn at(&self, frequency: f64) -> Complex64 {
        let mut factor = Complex64::new(self.gain, 0.0);
        if self.high_pass > 0.0 {
            let ratio = Complex64::new(0.0, frequency / self.high_pass);
            factor *= ratio / (1.0 + ratio);
        }
        if self.low_pass > 0.0 {
            factor /= Complex64::new(1.0, frequency / self.low_pass);
        }
        factor
    }
}

/// The drive field's own signal in a receive coil.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FeedThrough {
    /// Peak voltage at the converter at the channel's frequency, in volts.
    pub amplitude: f64,
    /// In radians, beside the channel's own.
    #[serde(default)]
    pub phase: f64,
    /// Distortion of the amplifier: amplitudes of the second, third, … harmonic as a share of the first.
    #[serde(default)]
    pub harmonics: Vec<f64>,
}

/// An analog-to-digital converter of two's complement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Adc {
    /// 2 to 16.
    pub bits: u32,
    /// The greatest voltage, above 0: codes go from −range to +range less one step.
    pub range: f64,
}

impl Adc {
    /// Volts of one step.
    #[must_use]
    pub fn step(&self) -> f64 {
        self.range / f64::from(1_u32 << (self.bits - 1))
    }

    /// The code of a voltage; beyond the range it is the last one, and `true`.
    fn convert(&self, voltage: f64) -> (i16, bool) {
        let most = f64::from((1_u32 << (self.bits - 1)) - 1);
        let code = (voltage / self.step()).round();
        let kept = code.clamp(-most - 1.0, most);
        #[expect(clippy::cast_possible_truncation, reason = "at most 16 bits, as just seen")]
        let value = kept as i16;
        (value, code != kept)
    }
}

impl Coil {
    pub(crate) fn check(&self) -> Result<(), Error> {
        let wrong = |text: String| Err(Error::model("coil", text));
        let Transfer { gain, high_pass, low_pass } = self.transfer;
        let numbers = [gain, high_pass, low_pass, self.noise, self.drift];
        if numbers.iter().chain(&self.sensitivity).any(|value| !value.is_finite()) {
            return wrong("a value is no number".to_owned());
        }
        if [high_pass, low_pass, self.noise, self.drift].iter().any(|value| *value < 0.0) {
            return wrong("a filter, the noise or the drift is below 0".to_owned());
        }
        match &self.adc {
            Some(adc) if !((2..=16).contains(&adc.bits) && adc.range.is_finite() && adc.range > 0.0) => {
                wrong(format!("the converter has {} bits over {} V", adc.bits, adc.range))
            }
            _ => Ok(()),
        }
    }
}

/// What a scan has recorded: N × J × C × V samples, those of a period fastest.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Codes of the converter, or volts where a coil has none.
    pub samples: Samples,
    /// Frames without the object, of N.
    pub is_background: Vec<bool>,
    /// Samples beyond the converter's range: what is there is wrong.
    pub saturated: u64,
}

/// Samples as they are kept.
#[derive(Clone, Debug)]
pub enum Samples {
    /// Codes; a code times [`Adc::step`] is the voltage.
    Codes(Vec<i16>),
    /// Volts.
    Volts(Vec<f64>),
}

/// A frame as it is computed, before all are put together.
struct Frame {
    volts: Vec<f64>,
    codes: Vec<i16>,
    saturated: u64,
}

/// The frames of a scan of what has these spectra: `is_background` says which are taken without it. Each frame's noise has a sequence of its
/// own (`ChaCha8`, stream = frame), so the samples are the same on any number of threads.
///
/// # Errors
/// The coils or the sequence make no sense, or some coils have a converter and others have none.
pub fn measure(
    spectra: &Spectra,
    sequence: &Sequence,
    coils: &[Coil],
    is_background: &[bool],
    seed: u64,
) -> Result<Measured, Error> {
    for coil in coils {
        coil.check()?;
    }
    let digital = coils.iter().filter(|coil| coil.adc.is_some()).count();
    if digital != 0 && digital != coils.len() {
        return Err(Error::model("coil", format!("{digital} of {} coils have a converter", coils.len())));
    }
    let samples = sequence.samples()?;
    let inverse = RealFftPlanner::new().plan_fft_inverse(samples);
    let own: Vec<Vec<f64>> = spectra
        .data
        .chunks_exact(spectra.frequencies)
        .map(|spectrum| signal(inverse.as_ref(), spectrum))
        .collect::<Result<_, Error>>()?;
    let coupled: Vec<Vec<f64>> = sequence
        .periods
        .iter()
        .flat_map(|period| coils.iter().map(move |coil| coupled(coil, sequence, period, samples)))
        .collect();
    let walks = walks(coils, is_background.len(), seed);
    let frames: Vec<Frame> = is_background
        .par_iter()
        .enumerate()
        .map(|(index, background)| {
            let signals = (!background).then_some(own.as_slice());
            frame(spectra.periods, coils, signals, &coupled, &walks[index], noise(seed, index))
        })
        .collect();
    let saturated = frames.iter().map(|frame| frame.saturated).sum();
    let samples = if digital > 0 {
        Samples::Codes(frames.into_iter().flat_map(|frame| frame.codes).collect())
    } else {
        Samples::Volts(frames.into_iter().flat_map(|frame| frame.volts).collect())
    };
    Ok(Measured { samples, is_background: is_background.to_vec(), saturated })
}

/// The random numbers of a frame. Stream 0 is the drift's.
fn noise(seed: u64, frame: usize) -> ChaCha8Rng {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    generator.set_stream(frame as u64 + 1);
    generator
}

/// Each frame's factors of the coils' feed-through: a random walk from 1.
fn walks(coils: &[Coil], frames: usize, seed: u64) -> Vec<Vec<f64>> {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let mut factors = vec![1.0; coils.len()];
    let mut walks = Vec::with_capacity(frames);
    for _ in 0..frames {
        walks.push(factors.clone());
        for (factor, coil) in factors.iter_mut().zip(coils) {
            let step: f64 = StandardNormal.sample(&mut generator);
            *factor += coil.drift * step;
        }
    }
    walks
}

/// One frame: J × C × V samples.
fn frame(
    periods: usize,
    coils: &[Coil],
    own: Option<&[Vec<f64>]>,
    coupled: &[Vec<f64>],
    walk: &[f64],
    mut noise: ChaCha8Rng,
) -> Frame {
    let mut frame = Frame { volts: Vec::new(), codes: Vec::new(), saturated: 0 };
    for period in 0..periods {
        for (index, coil) in coils.iter().enumerate() {
            let own = own.map(|signals| &signals[period * coils.len() + index]);
            for (sample, through) in coupled[period * coils.len() + index].iter().enumerate() {
                let random: f64 = StandardNormal.sample(&mut noise);
                let voltage =
                    own.map_or(0.0, |own| own[sample]) + through * walk[index] + random * coil.noise;
                match &coil.adc {
                    Some(adc) => {
                        let (code, beyond) = adc.convert(voltage);
                        frame.codes.push(code);
                        frame.saturated += u64::from(beyond);
                    }
                    None => frame.volts.push(voltage),
                }
            }
        }
    }
    frame
}

/// The samples of a spectrum.
fn signal(inverse: &dyn ComplexToReal<f64>, spectrum: &[Complex64]) -> Result<Vec<f64>, Error> {
    let mut spectrum = spectrum.to_vec();
    let mut samples = inverse.make_output_vec();
    // A real signal has no imaginary part at 0 Hz, nor at half of the sampling frequency.
    spectrum[0].im = 0.0;
    if samples.len().is_multiple_of(2)
        && let Some(last) = spectrum.last_mut()
    {
        last.im = 0.0;
    }
    inverse
        .process(&mut spectrum, &mut samples)
        .map_err(|error| Error::model("signal", error.to_string()))?;
    #[expect(clippy::cast_precision_loss, reason = "at most 2^24 samples")]
    let length = samples.len() as f64;
    samples.iter_mut().for_each(|sample| *sample /= length);
    Ok(samples)
}

/// One period of the drive field as it comes through.
fn coupled(coil: &Coil, sequence: &Sequence, period: &Period, samples: usize) -> Vec<f64> {
    let mut signal = vec![0.0; samples];
    for (number, (through, channel)) in coil.feed_through.iter().zip(&sequence.channels).enumerate() {
        let shares = std::iter::once(1.0).chain(through.harmonics.iter().copied());
        for (harmonic, share) in (1_u32..).zip(shares) {
            for (index, value) in signal.iter_mut().enumerate() {
                // By whole numbers: the phase stays exact over a long period.
                let turn = (index as u64 * u64::from(harmonic)) % u64::from(channel.divider);
                #[expect(clippy::cast_precision_loss, reason = "less than a divider of 32 bits")]
                let turns = turn as f64 / f64::from(channel.divider);
                let phase = (channel.phase + through.phase) * f64::from(harmonic);
                *value += through.amplitude * period.share(number) * share * (TAU * turns + phase).sin();
            }
        }
    }
    signal
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::physics::{Cloud, DriveChannel, Particle, spectra};

    fn sequence() -> Sequence {
        let channel = DriveChannel { direction: [1.0, 0.0, 0.0], amplitude: 0.02, divider: 64, phase: 0.3 };
        let period = Period {
            gradient: [[5.7, 0.0, 0.0], [0.0, -2.85, 0.0], [0.0, 0.0, -2.85]],
            offset: [0.0; 3],
            drive: vec![],
        };
        Sequence { base_frequency: 2.5e6, channels: vec![channel], periods: vec![period.clone(), period] }
    }

    fn coil() -> Coil {
        Coil {
            sensitivity: [1e-3, 0.0, 0.0],
            transfer: Transfer::default(),
            noise: 0.0,
            feed_through: vec![],
            drift: 0.0,
            adc: None,
        }
    }

    fn scan(coil: &Coil, frames: &[bool]) -> Measured {
        let cloud = Cloud { points: vec![([0.001, 0.0, 0.0], 1e12)] };
        let coils = [coil.clone()];
        let spectra = spectra(&sequence(), &Particle::default(), &coils, &cloud).unwrap();
        measure(&spectra, &sequence(), &coils, frames, 7).unwrap()
    }

    fn volts(measured: &Measured) -> &[f64] {
        match &measured.samples {
            Samples::Volts(volts) => volts,
            Samples::Codes(_) => panic!("codes"),
        }
    }

    #[test]
    fn a_background_frame_has_the_coupling_alone() {
        let mut coil = coil();
        coil.feed_through = vec![FeedThrough { amplitude: 0.5, phase: 0.1, harmonics: vec![0.0, 0.01] }];
        let measured = scan(&coil, &[true, false]);
        let (background, foreground) = volts(&measured).split_at(128);
        for (index, value) in background.iter().enumerate() {
            #[expect(clippy::cast_precision_loss, reason = "small")]
            let phase = TAU * index as f64 / 64.0 + 0.4;
            let expected = 0.5 * (phase.sin() + 0.01 * (3.0 * phase).sin());
            assert!((value - expected).abs() < 1e-12, "{index}");
        }
        assert!(foreground.iter().zip(background).any(|(a, b)| (a - b).abs() > 1e-6));
    }

    #[test]
    fn noise_has_its_strength_and_its_seed() {
        let mut coil = coil();
        coil.noise = 1e-3;
        let frames = vec![true; 400];
        let measured = scan(&coil, &frames);
        let values = volts(&measured);
        #[expect(clippy::cast_precision_loss, reason = "small")]
        let deviation = (values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64).sqrt();
        // 51,200 values: the deviation of the deviation is 0.3 %.
        assert!((deviation / 1e-3 - 1.0).abs() < 0.015, "{deviation}");
        assert_eq!(values, volts(&scan(&coil, &frames)));
        assert_ne!(values[..128], values[128..256]);
    }

    #[test]
    fn the_converter_rounds_and_tells_what_is_beyond_it() {
        let adc = Adc { bits: 12, range: 1.0 };
        assert_eq!(adc.convert(0.5), (1024, false));
        assert_eq!(adc.convert(-1.0), (-2048, false));
        assert_eq!(adc.convert(1.0), (2047, true));
        assert_eq!(adc.convert(-7.0), (-2048, true));
        let mut coil = coil();
        coil.feed_through = vec![FeedThrough { amplitude: 1.2, phase: 0.0, harmonics: vec![] }];
        coil.adc = Some(adc);
        let measured = scan(&coil, &[true]);
        assert!(
            measured.saturated > 10
                && matches!(measured.samples, Samples::Codes(codes) if codes.len() == 128)
        );
    }

    #[test]
    fn drift_walks_from_the_first_frame() {
        let mut coil = coil();
        coil.feed_through = vec![FeedThrough { amplitude: 1.0, phase: 0.0, harmonics: vec![] }];
        coil.drift = 1e-3;
        let measured = scan(&coil, &[true; 50]);
        let peaks: Vec<f64> = volts(&measured)
            .chunks(128)
            .map(|frame| frame.iter().fold(0.0, |a: f64, b| a.max(b.abs())))
            .collect();
        assert!(
            (peaks[0] - volts(&measured)[..128].iter().fold(0.0, |a: f64, b| a.max(b.abs()))).abs() < 1e-15
        );
        let steps: Vec<f64> = peaks.windows(2).map(|pair| pair[1] / pair[0] - 1.0).collect();
        assert!(steps.iter().all(|step| step.abs() < 6e-3) && steps.iter().any(|step| step.abs() > 1e-4));
    }

    #[test]
    fn the_filter_has_its_edges_at_3_db() {
        let transfer = Transfer { gain: 100.0, high_pass: 80e3, low_pass: 1e6 };
        assert!((transfer.at(80e3).norm() / 100.0 - (0.5_f64).sqrt()).abs() < 0.005);
        assert!((transfer.at(1e6).norm() / 100.0 - (0.5_f64).sqrt()).abs() < 0.005);
        assert_eq!(transfer.at(0.0).norm(), 0.0);
        assert!(transfer.at(280e3).norm() > 92.0);
    }
}
