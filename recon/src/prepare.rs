//! From the samples of a scan to the values that are reconstructed: spectra, background, averages, signal-to-noise ratio.

use num_complex::Complex64;
use rayon::prelude::*;
use realfft::RealFftPlanner;
use serde::{Deserialize, Serialize};

use crate::Error;

/// How frames without an object are taken off those with one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Background {
    /// Not at all.
    None,
    /// The mean of all background frames.
    #[default]
    Mean,
    /// Between two runs of background frames, what lies on the straight line between their means, by the number of the frame; before the
    /// first and after the last run its mean. It follows a drift.
    Interpolated,
}

/// Values of N frames, one after the other, each of the same number of values in whatever order.
#[derive(Clone, Debug)]
pub struct Frames {
    /// Values of a frame.
    pub width: usize,
    /// N × width values.
    pub data: Vec<Complex64>,
}

impl Frames {
    /// Frames of a width that is above 0.
    ///
    /// # Errors
    /// The values are no whole number of frames, or there are none.
    pub fn new(width: usize, data: Vec<Complex64>) -> Result<Self, Error> {
        if width == 0 || data.is_empty() || !data.len().is_multiple_of(width) {
            let text = format!("{} values are no whole frames of {width}", data.len());
            return Err(Error::Preparation(text));
        }
        Ok(Self { width, data })
    }

    /// How many frames, N.
    #[must_use]
    pub fn count(&self) -> usize {
        self.data.len() / self.width
    }

    /// The values of a frame.
    #[must_use]
    pub fn frame(&self, index: usize) -> &[Complex64] {
        &self.data[index * self.width..(index + 1) * self.width]
    }

    /// The frames with an object, less the background.
    ///
    /// # Errors
    /// There is no word for each frame, all are background, or none is where one is needed.
    pub fn foreground(&self, is_background: &[bool], how: Background) -> Result<Self, Error> {
        if is_background.len() != self.count() {
            let text =
                format!("{} frames, and {} words on which are background", self.count(), is_background.len());
            return Err(Error::Preparation(text));
        }
        let runs = self.background_runs(is_background);
        if how != Background::None && runs.is_empty() {
            let text =
                "there is no background frame to take off; with `background = \"none\"` nothing is taken off";
            return Err(Error::Preparation(text.to_owned()));
        }
        let mean = weighted(&runs, |run| run.frames);
        let mut data = Vec::new();
        for index in (0..self.count()).filter(|index| !is_background[*index]) {
            let values = self.frame(index);
            match how {
                Background::None => data.extend_from_slice(values),
                Background::Mean => data.extend(values.iter().zip(&mean).map(|(value, mean)| value - mean)),
                Background::Interpolated => {
                    let between = interpolated(&runs, index);
                    data.extend(values.iter().zip(between).map(|(value, background)| value - background));
                }
            }
        }
        if data.is_empty() {
            return Err(Error::Preparation("all frames are background".to_owned()));
        }
        Self::new(self.width, data)
    }

    /// Means of `every` frames in a row; a rest is left out. 0 averages all.
    ///
    /// # Errors
    /// There are fewer frames.
    pub fn averaged(&self, every: usize) -> Result<Self, Error> {
        let every = if every == 0 { self.count() } else { every };
        if every > self.count() {
            let text = format!("{every} frames are to be averaged, and there are {}", self.count());
            return Err(Error::Preparation(text));
        }
        let mut data = Vec::with_capacity(self.count() / every * self.width);
        for block in self.data.chunks_exact(every * self.width) {
            #[expect(clippy::cast_precision_loss, reason = "a count of frames")]
            data.extend(sum(block, self.width).iter().map(|sum| sum / every as f64));
        }
        Self::new(self.width, data)
    }

    /// How far the values of background frames are from their mean: the root of the mean square, for each value.
    ///
    /// # Errors
    /// There is no word for each frame, or there are fewer than two background frames.
    pub fn deviations(&self, is_background: &[bool]) -> Result<Vec<f64>, Error> {
        let chosen: Vec<usize> =
            (0..self.count()).filter(|index| is_background.get(*index) == Some(&true)).collect();
        if is_background.len() != self.count() || chosen.len() < 2 {
            let text =
                format!("noise is told from two background frames or more, and there are {}", chosen.len());
            return Err(Error::Preparation(text));
        }
        #[expect(clippy::cast_precision_loss, reason = "a count of frames")]
        let count = chosen.len() as f64;
        Ok((0..self.width)
            .map(|value| {
                let of = |index: &usize| self.frame(*index)[value];
                let mean = chosen.iter().map(of).sum::<Complex64>() / count;
                (chosen.iter().map(|index| (of(index) - mean).norm_sqr()).sum::<f64>() / count).sqrt()
            })
            .collect())
    }

    fn background_runs(&self, is_background: &[bool]) -> Vec<Run> {
        let mut runs = Vec::new();
        let mut first = 0;
        for run in is_background.chunk_by(|a, b| a == b) {
            if run[0] {
                let values = &self.data[first * self.width..(first + run.len()) * self.width];
                #[expect(clippy::cast_precision_loss, reason = "a count of frames")]
                let (first, frames) = (first as f64, run.len() as f64);
                runs.push(Run { middle: first + (frames - 1.0) / 2.0, frames, sum: sum(values, self.width) });
            }
            first += run.len();
        }
        runs
    }
}

/// Background frames in a row.
struct Run {
    /// The number of the frame in their middle.
    middle: f64,
    frames: f64,
    sum: Vec<Complex64>,
}

fn sum(frames: &[Complex64], width: usize) -> Vec<Complex64> {
    let mut sum = vec![Complex64::default(); width];
    for frame in frames.chunks_exact(width) {
        sum.iter_mut().zip(frame).for_each(|(sum, value)| *sum += value);
    }
    sum
}

/// The mean of runs, each of a weight.
fn weighted(runs: &[Run], weight: impl Fn(&Run) -> f64) -> Vec<Complex64> {
    let total: f64 = runs.iter().map(&weight).sum();
    let mut mean = vec![Complex64::default(); runs.first().map_or(0, |run| run.sum.len())];
    for run in runs {
        let share = weight(run) / total / run.frames;
        mean.iter_mut().zip(&run.sum).for_each(|(mean, sum)| *mean += sum * share);
    }
    mean
}

/// The background at a frame, from the runs on both sides of it.
fn interpolated(runs: &[Run], frame: usize) -> Vec<Complex64> {
    #[expect(clippy::cast_precision_loss, reason = "a number of a frame")]
    let frame = frame as f64;
    let after = runs.iter().position(|run| run.middle > frame).unwrap_or(runs.len());
    if after == 0 || after == runs.len() {
        let one = &runs[after.saturating_sub(1)..after.max(1)];
        return weighted(one, |_| 1.0);
    }
    let pair = &runs[after - 1..=after];
    let share = (frame - pair[0].middle) / (pair[1].middle - pair[0].middle);
    weighted(pair, |run| if run.middle > frame { share } else { 1.0 - share })
}

/// Spectra of periods of V samples each: V/2 + 1 values a period, un-normalised.
///
/// # Errors
/// The samples are no whole number of periods.
pub fn transform(samples: &[f64], period: usize) -> Result<Vec<Complex64>, Error> {
    if period < 2 || !samples.len().is_multiple_of(period) {
        let text = format!("{} samples are no whole periods of {period}", samples.len());
        return Err(Error::Preparation(text));
    }
    let plan = RealFftPlanner::new().plan_fft_forward(period);
    let width = period / 2 + 1;
    let mut spectra = vec![Complex64::default(); samples.len() / period * width];
    spectra.par_chunks_exact_mut(width).zip(samples.par_chunks_exact(period)).try_for_each(
        |(spectrum, samples)| {
            plan.process(&mut samples.to_vec(), spectrum)
                .map_err(|error| Error::Preparation(error.to_string()))
        },
    )?;
    Ok(spectra)
}

/// A frame without what does not repeat itself from frame to frame.
///
/// `samples` are two or three frames in a row, or one, of J × C × V samples each; the frame is the middle one of three, and the one that
/// has no second neighbour of two. All of them are multiplied by one Hann window, and the frames added: of the spectrum of the windowed whole, which has
/// lines between those of a frame, every second or third line is left, and those are the frame's own. What repeats itself keeps its value, for
/// the shifted windows have a constant sum (Harris, Proc. IEEE 66, 1978).
///
/// `frames` is how many there are, `shape` J, C and V.
///
/// # Panics
/// There are not so many samples.
#[must_use]
pub fn without_leakage(samples: &[f64], frames: usize, shape: [usize; 3]) -> Vec<f64> {
    let [periods, channels, points] = shape;
    assert_eq!(
        samples.len(),
        frames * periods * channels * points,
        "samples of {frames} frames of {shape:?}"
    );
    if frames < 2 {
        return samples.to_vec();
    }
    let size = periods * channels * points;
    let mut sum = vec![0.0; size];
    for (frame, values) in samples.chunks_exact(size).enumerate() {
        for (index, (sum, value)) in sum.iter_mut().zip(values).enumerate() {
            // Channels are sampled at the same time.
            let (period, point) = (index / points / channels, index % points);
            let at = (frame * periods + period) * points + point;
            #[expect(clippy::cast_precision_loss, reason = "counts of samples")]
            let turn = at as f64 / (frames * periods * points) as f64 * std::f64::consts::TAU;
            *sum += value * (0.5 - 0.5 * turn.cos());
        }
    }
    // Each of the windows has the mean 1/2.
    #[expect(clippy::cast_precision_loss, reason = "two or three")]
    let share = 2.0 / frames as f64;
    sum.iter_mut().for_each(|sum| *sum *= share);
    sum
}

/// The signal-to-noise ratio of a row of a calibration: values at the positions of the grid beside values of background frames.
///
/// The signal is the median distance from the mean background of the fifth of the positions where it is greatest, so that a row whose
/// pattern fills a part of the grid only is not judged by the rest; the noise is the mean distance of the background frames from their mean
/// (as the reference implementation has it in principle). 0 where there are fewer than two background frames, and infinite without noise.
#[must_use]
pub fn snr(positions: &[Complex64], background: &[Complex64]) -> f64 {
    if positions.is_empty() || background.len() < 2 {
        return 0.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of frames")]
    let count = background.len() as f64;
    let mean: Complex64 = background.iter().sum::<Complex64>() / count;
    let noise: f64 = background.iter().map(|value| (value - mean).norm()).sum::<f64>() / count;
    let mut distances: Vec<f64> = positions.iter().map(|value| (value - mean).norm()).collect();
    distances.sort_unstable_by(|a, b| b.total_cmp(a));
    let strongest = &distances[..distances.len().div_ceil(5)];
    let signal = strongest[strongest.len() / 2];
    if signal == 0.0 { 0.0 } else { signal / noise }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(values: &[f64]) -> Frames {
        let data = values.iter().flat_map(|&value| [Complex64::new(value, 1.0), Complex64::new(0.0, -value)]);
        Frames::new(2, data.collect()).unwrap()
    }

    fn first(frames: &Frames) -> Vec<f64> {
        (0..frames.count()).map(|index| frames.frame(index)[0].re).collect()
    }

    #[test]
    fn a_drift_is_taken_off_by_interpolation() {
        // Two background frames, four of an object of 100 on a drift of 10 a frame, two background frames.
        let scan = frames(&[0.0, 10.0, 120.0, 130.0, 140.0, 150.0, 60.0, 70.0]);
        let words = [true, true, false, false, false, false, true, true];
        let flat = scan.foreground(&words, Background::Interpolated).unwrap();
        assert!(first(&flat).iter().all(|value| (value - 100.0).abs() < 1e-12), "{:?}", first(&flat));
        assert_eq!(flat.frame(0)[0].im, 0.0);
        let mean = scan.foreground(&words, Background::Mean).unwrap();
        assert_eq!(first(&mean), [85.0, 95.0, 105.0, 115.0]);
        let all = scan.foreground(&words, Background::None).unwrap();
        assert_eq!(first(&all), [120.0, 130.0, 140.0, 150.0]);
    }

    #[test]
    fn outside_of_the_runs_the_nearest_counts() {
        let scan = frames(&[5.0, 1.0, 3.0, 9.0]);
        let flat = scan.foreground(&[false, true, true, false], Background::Interpolated).unwrap();
        assert_eq!(first(&flat), [3.0, 7.0]);
        // Runs of unlike length: the mean is over frames.
        let scan = frames(&[6.0, 10.0, 0.0, 0.0]);
        let flat = scan.foreground(&[true, false, true, true], Background::Mean).unwrap();
        assert_eq!(first(&flat), [8.0]);
    }

    #[test]
    fn averages_leave_a_rest_out() {
        let scan = frames(&[1.0, 3.0, 5.0, 7.0, 100.0]);
        assert_eq!(first(&scan.averaged(2).unwrap()), [2.0, 6.0]);
        assert_eq!(first(&scan.averaged(0).unwrap()), [23.2]);
        assert!(scan.averaged(6).unwrap_err().to_string().contains("there are 5"));
    }

    #[test]
    fn what_is_missing_is_told() {
        let scan = frames(&[1.0, 2.0]);
        let message = |words: &[bool], how| scan.foreground(words, how).unwrap_err().to_string();
        assert!(message(&[false, false], Background::Mean).contains("no background frame"));
        assert!(message(&[true, true], Background::Mean).contains("all frames are background"));
        assert!(message(&[true], Background::None).contains("2 frames, and 1 words"));
        assert!(Frames::new(3, vec![Complex64::default(); 4]).is_err());
    }

    #[test]
    fn a_sine_is_one_line_of_its_spectrum() {
        let samples: Vec<f64> =
            (0..24).map(|n| (std::f64::consts::TAU * f64::from(n) * 3.0 / 12.0).cos()).collect();
        let spectra = transform(&samples, 12).unwrap();
        assert_eq!(spectra.len(), 14);
        assert!((spectra[3] - 6.0).norm() < 1e-12 && (spectra[7 + 3] - 6.0).norm() < 1e-12);
        assert!(spectra[2].norm() < 1e-12);
        assert!(transform(&samples, 7).is_err());
    }

    #[test]
    fn signal_to_noise_is_as_it_is_defined() {
        let real = |values: &[f64]| values.iter().map(|&re| Complex64::new(re, 0.0)).collect::<Vec<_>>();
        // Background 1 ± 0.5; the strongest fifth of ten positions are 9 and 7 from it, and the later of two is taken as the median.
        let positions = real(&[10.0, 8.0, 1.0, 1.0, 2.0, 1.0, 1.0, 1.0, 1.0, 0.0]);
        assert_eq!(snr(&positions, &real(&[0.5, 1.5])), 14.0);
        assert_eq!(snr(&positions, &real(&[0.5])), 0.0);
        assert_eq!(snr(&positions, &real(&[0.0, 0.0])), f64::INFINITY);
    }

    #[test]
    fn what_repeats_itself_is_kept_and_what_does_not_is_damped() {
        let (periods, channels, points) = (2, 2, 16);
        let tone = |turns: f64, frames: usize| -> Vec<f64> {
            let mut all = Vec::new();
            for frame in 0..frames {
                for period in 0..periods {
                    for channel in 0..channels {
                        all.extend((0..points).map(|point| {
                            let at = ((frame * periods + period) * points + point) as f64;
                            (at / points as f64 * turns * std::f64::consts::TAU + channel as f64).cos()
                        }));
                    }
                }
            }
            all
        };
        let size = periods * channels * points;
        for frames in [1, 2, 3] {
            let kept = without_leakage(&tone(3.0, frames), frames, [periods, channels, points]);
            let expected = &tone(3.0, 1);
            assert!(kept.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{frames}");
        }
        // Halfway between two lines of a frame of two periods.
        let power = |samples: &[f64]| -> f64 {
            let spectra = transform(samples, points).unwrap();
            let mean: Vec<Complex64> = (0..9).map(|k| (spectra[k] + spectra[2 * 9 + k]) / 2.0).collect();
            mean.iter()
                .enumerate()
                .filter(|(k, _)| (1..=3).contains(&(k.abs_diff(3))))
                .map(|(_, v)| v.norm_sqr())
                .sum()
        };
        let plain = tone(3.25, 3);
        let damped = without_leakage(&plain, 3, [periods, channels, points]);
        assert!(
            power(&damped) < 0.02 * power(&plain[size..2 * size]),
            "{} {}",
            power(&damped),
            power(&plain[size..2 * size])
        );
    }

    #[test]
    fn noise_is_that_of_background_frames() {
        let values = [1.0, 5.0, 3.0, 9.0, 8.0, 100.0].map(|re| Complex64::new(re, 0.0));
        let frames = Frames::new(2, values.to_vec()).unwrap();
        assert_eq!(frames.deviations(&[true, true, false]).unwrap(), [1.0, 2.0]);
        assert!(frames.deviations(&[true, false, false]).is_err());
        assert!(frames.deviations(&[true, true]).is_err());
    }
}
