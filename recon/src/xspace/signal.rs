//! From stored spectra to the signal in time that x-space wants: without the receive chain and the delay.

use std::f64::consts::TAU;

use num_complex::Complex64;
use realfft::RealFftPlanner;

use crate::Error;

/// The factors that a stored spectrum is multiplied by to be that of the coil: the inverse of the receive chain's transfer function where that
/// is above `floor` times its greatest size, and 0 elsewhere, where it would raise noise only.
///
/// 0 Hz is always 0, for what repeats itself induces none.
#[must_use]
pub fn inverse_chain(transfer: &[Complex64], floor: f64) -> Vec<Complex64> {
    let most = transfer.iter().map(|value| value.norm()).fold(0.0, f64::max);
    let inverse = |(k, value): (usize, &Complex64)| {
        if k > 0 && value.norm() > floor * most { value.inv() } else { Complex64::default() }
    };
    transfer.iter().enumerate().map(inverse).collect()
}

/// Moves a signal `delay` seconds earlier, by its spectrum of lines every `spacing` hertz: `S_k exp(2πi f_k delay)`.
pub fn advance(spectrum: &mut [Complex64], spacing: f64, delay: f64) {
    let mut frequency = 0.0;
    for value in spectrum {
        *value *= Complex64::from_polar(1.0, TAU * frequency * delay);
        frequency += spacing;
    }
}

/// The signal at `points` times spread evenly over a period, from the spectrum of `samples` of it (un-normalised, samples/2 + 1 values).
///
/// More points than samples lie on the only band-limited signal through the samples. Of an even number of samples the last line is left out,
/// for its phase is not known.
///
/// # Errors
/// The spectrum has not the length that goes with the samples, or there are fewer points than samples.
pub fn in_time(spectrum: &[Complex64], samples: usize, points: usize) -> Result<Vec<f64>, Error> {
    if samples < 2 || spectrum.len() != samples / 2 + 1 || points < samples {
        let text = format!(
            "a spectrum of {} values is not that of {samples} samples, to be seen at {points} points",
            spectrum.len()
        );
        return Err(Error::XSpace(text));
    }
    let plan = RealFftPlanner::new().plan_fft_inverse(points);
    let mut padded = plan.make_input_vec();
    let known = samples.div_ceil(2);
    padded[1..known].copy_from_slice(&spectrum[1..known]);
    padded[0] = Complex64::new(spectrum[0].re, 0.0);
    let mut signal = plan.make_output_vec();
    plan.process(&mut padded, &mut signal).map_err(|error| Error::XSpace(error.to_string()))?;
    #[expect(clippy::cast_precision_loss, reason = "at most 2^24 samples")]
    let scale = 1.0 / samples as f64;
    signal.iter_mut().for_each(|value| *value *= scale);
    Ok(signal)
}

/// Takes Debye relaxation of a time constant of so many seconds back, by a spectrum of lines every `spacing` hertz: `S_k (1 + 2πi f_k τ)` (Croft,
/// Goodwill and Conolly 2012). Noise grows with the frequency.
pub fn relax(spectrum: &mut [Complex64], spacing: f64, relaxation: f64) {
    let mut frequency = 0.0;
    for value in spectrum {
        *value *= Complex64::new(1.0, TAU * frequency * relaxation);
        frequency += spacing;
    }
}

/// Steps of the search for a lag on each side of 0, and of what narrows it down afterwards.
const STEPS: i32 = 64;

/// The delay in seconds, up to `most` either way, after which signals are most nearly odd about `mirror`: where the path turns and comes
/// back, the same places are passed at the opposite velocity, so the signal of a scanner without delay is the opposite too.
///
/// An odd signal's spectrum about that time has no real part: what is minimised is `Σ Re(S_k exp(2πi f_k (mirror + delay)))²` over all
/// spectra. Debye relaxation is no pure delay; what is found lies a little below its time constant.
#[must_use]
pub fn mirror_delay(spectra: &[(&[Complex64], f64)], spacing: f64, most: f64) -> f64 {
    least(-most, most, |delay| even(spectra, spacing, |omega| Complex64::from_polar(1.0, omega * delay)))
}

/// The time constant of Debye relaxation in seconds, up to `most`, without which signals are most nearly odd about `mirror`; as
/// [`mirror_delay`], with the phase of `1 + 2πi f_k τ` in place of that of a delay. Its size is left out, for noise would grow with it.
///
/// Source: Muslu, Utkur, Demirel and Saritas, "Calibration-free relaxation-based multi-color magnetic particle imaging", IEEE TMI 37 (2018),
/// which recovers the mirror symmetry of a line's two ways.
#[must_use]
pub fn mirror_relaxation(spectra: &[(&[Complex64], f64)], spacing: f64, most: f64) -> f64 {
    let turn = |omega: f64, relaxation: f64| {
        let factor = Complex64::new(1.0, omega * relaxation);
        factor / factor.norm()
    };
    least(0.0, most, |relaxation| even(spectra, spacing, |omega| turn(omega, relaxation)))
}

/// The even part's energy of signals about their mirrors, after each line has been turned.
fn even(spectra: &[(&[Complex64], f64)], spacing: f64, turn: impl Fn(f64) -> Complex64) -> f64 {
    let mut sum = 0.0;
    for (spectrum, mirror) in spectra {
        let mut omega = 0.0;
        for value in *spectrum {
            sum += (value * turn(omega) * Complex64::from_polar(1.0, omega * mirror)).re.powi(2);
            omega += TAU * spacing;
        }
    }
    sum
}

/// Where a function is least between two ends: on a grid first, then around the best of it.
fn least(from: f64, to: f64, of: impl Fn(f64) -> f64) -> f64 {
    let step = (to - from) / f64::from(2 * STEPS);
    let coarse = (0..=2 * STEPS).map(|index| from + f64::from(index) * step);
    let best = coarse.min_by(|a, b| of(*a).total_cmp(&of(*b))).unwrap_or(from);
    let (mut low, mut high) = (best - step, best + step);
    for _ in 0..STEPS / 2 {
        let (a, b) = (low + (high - low) / 3.0, high - (high - low) / 3.0);
        if of(a) < of(b) { high = b } else { low = a }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepare::transform;
    use proptest::prelude::*;

    const SPACING: f64 = 25e3;

    /// An odd signal about `mirror`, `delay` later.
    fn delayed(mirror: f64, delay: f64, points: u32) -> Vec<f64> {
        (0..points)
            .map(|n| {
                let t = f64::from(n) / f64::from(points) / SPACING - mirror - delay;
                (1..9).map(|k| (TAU * f64::from(k) * SPACING * t).sin() / f64::from(k * k)).sum()
            })
            .collect()
    }

    #[test]
    fn the_chain_is_divided_out_where_it_lets_something_through() {
        let transfer = [0.5, 0.001, 2.0, 0.5].map(|re| Complex64::new(re, re));
        let inverse = inverse_chain(&transfer, 0.01);
        assert_eq!(inverse[0], Complex64::default());
        assert_eq!(inverse[1], Complex64::default());
        assert!((inverse[2] * transfer[2] - 1.0).norm() < 1e-15);
        assert!((inverse[3] * transfer[3] - 1.0).norm() < 1e-15);
    }

    #[test]
    fn points_between_samples_lie_on_the_same_signal() {
        for samples in [40, 41] {
            let signal = delayed(3e-6, 0.0, samples);
            let spectrum = transform(&signal, samples as usize).unwrap();
            let fine = in_time(&spectrum, samples as usize, 4 * samples as usize).unwrap();
            let expected = delayed(3e-6, 0.0, 4 * samples);
            assert!(fine.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-12), "{samples}");
        }
        let none = [Complex64::default(); 5];
        assert!(in_time(&none, 10, 20).unwrap_err().to_string().contains("10 samples"));
        assert!(in_time(&none, 8, 7).is_err());
    }

    proptest! {
        /// Whatever the delay and the mirror, it is found, and taken back.
        #[test]
        fn a_delay_is_found_and_taken_back(delay in -2e-6..2e-6_f64, mirror in 0.0..4e-5_f64) {
            let mut spectrum = transform(&delayed(mirror, delay, 64), 64).unwrap();
            let found = mirror_delay(&[(&spectrum, mirror)], SPACING, 2.5e-6);
            prop_assert!((found - delay).abs() < 1e-10, "{found} for {delay}");
            advance(&mut spectrum, SPACING, found);
            let signal = in_time(&spectrum, 64, 64).unwrap();
            let expected = delayed(mirror, 0.0, 64);
            prop_assert!(signal.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-3));
        }

        /// And so is relaxation, by its own form.
        #[test]
        fn relaxation_is_found_and_taken_back(relaxation in 0.0..4e-6_f64, mirror in 0.0..4e-5_f64) {
            let odd = transform(&delayed(mirror, 0.0, 64), 64).unwrap();
            let mut late = odd.clone();
            for (k, value) in late.iter_mut().enumerate() {
                *value /= Complex64::new(1.0, TAU * SPACING * f64::from(u32::try_from(k).unwrap()) * relaxation);
            }
            let found = mirror_relaxation(&[(&late, mirror)], SPACING, 5e-6);
            prop_assert!((found - relaxation).abs() < 1e-10, "{found} for {relaxation}");
            relax(&mut late, SPACING, found);
            prop_assert!(late.iter().zip(&odd).all(|(a, b)| (a - b).norm() < 1e-2));
        }
    }
}
