//! Convolutions of images with even answers, by discrete Fourier transforms of a grid that is twice as large.

use std::sync::Arc;

use num_complex::Complex64;
use rayon::prelude::*;
use rustfft::{Fft, FftPlanner};

use super::Answer;
use crate::Error;

/// Transforms of a padded grid, x fastest.
struct Transform {
    size: [usize; 3],
    forward: [Arc<dyn Fft<f64>>; 3],
    inverse: [Arc<dyn Fft<f64>>; 3],
}

impl Transform {
    fn new(size: [usize; 3]) -> Self {
        let mut planner = FftPlanner::new();
        let forward = size.map(|n| planner.plan_fft_forward(n));
        Self { size, forward, inverse: size.map(|n| planner.plan_fft_inverse(n)) }
    }

    /// All three axes, un-normalised.
    fn apply(&self, of: &[Arc<dyn Fft<f64>>; 3], values: &mut [Complex64]) {
        let mut stride = 1;
        for (axis, plan) in of.iter().enumerate() {
            let n = self.size[axis];
            if n > 1 {
                let mut line = vec![Complex64::default(); n];
                let mut scratch = vec![Complex64::default(); plan.get_inplace_scratch_len()];
                for start in (0..values.len()).filter(|index| index / stride % n == 0) {
                    for (step, value) in line.iter_mut().enumerate() {
                        *value = values[start + step * stride];
                    }
                    plan.process_with_scratch(&mut line, &mut scratch);
                    for (step, value) in line.iter().enumerate() {
                        values[start + step * stride] = *value;
                    }
                }
            }
            stride *= n;
        }
    }
}

/// Convolutions with a few answers over one grid.
///
/// Answers are even, so their spectra are real, and two real images go through a transform as one complex one.
pub(super) struct Convolver {
    size: [usize; 3],
    transform: Transform,
    /// The spectrum of each answer.
    spectra: Vec<Vec<f64>>,
}

impl Convolver {
    /// For images of so many voxels.
    ///
    /// # Errors
    /// An answer is not over the distances of such a grid.
    pub(super) fn new(size: [usize; 3], answers: &[Answer]) -> Result<Self, Error> {
        let transform = Transform::new(size.map(|n| smooth(2 * n - 1)));
        let mut convolver = Self { size, transform, spectra: Vec::new() };
        for answer in answers {
            if answer.size != size.map(|n| 2 * n - 1)
                || answer.values.len() != answer.size.iter().product::<usize>()
            {
                let text = format!("an answer of {:?} distances is not one of {size:?} voxels", answer.size);
                return Err(Error::XSpace(text));
            }
            let spectrum = convolver.spectrum(answer);
            convolver.spectra.push(spectrum);
        }
        Ok(convolver)
    }

    fn spectrum(&self, answer: &Answer) -> Vec<f64> {
        let padded = self.transform.size;
        let mut values = vec![Complex64::default(); padded.iter().product()];
        let [nx, ny, _] = answer.size;
        for (index, value) in answer.values.iter().enumerate() {
            let at = [index % nx, index / nx % ny, index / nx / ny];
            // No distance is at the origin, and what is before it at the other end.
            let [x, y, z] =
                std::array::from_fn(|axis| (at[axis] + padded[axis] - (self.size[axis] - 1)) % padded[axis]);
            values[x + padded[0] * (y + padded[1] * z)] += value;
        }
        self.transform.apply(&self.transform.forward, &mut values);
        values.iter().map(|value| value.re).collect()
    }

    /// One or two images (in the real and the imaginary part) on the padded grid, transformed.
    fn transformed(&self, first: &[f64], second: Option<&[f64]>) -> Vec<Complex64> {
        let padded = self.transform.size;
        let mut values = vec![Complex64::default(); padded.iter().product()];
        for (index, value) in first.iter().enumerate() {
            values[self.place(index)] = Complex64::new(*value, second.map_or(0.0, |second| second[index]));
        }
        self.transform.apply(&self.transform.forward, &mut values);
        values
    }

    /// Where a voxel is on the padded grid.
    fn place(&self, index: usize) -> usize {
        let [nx, ny, _] = self.size;
        let [px, py, _] = self.transform.size;
        index % nx + px * (index / nx % ny + py * (index / nx / ny))
    }

    /// From a spectrum back to the voxels of the grid.
    fn back(&self, mut spectrum: Vec<Complex64>) -> Vec<Complex64> {
        self.transform.apply(&self.transform.inverse, &mut spectrum);
        #[expect(clippy::cast_precision_loss, reason = "a number of voxels")]
        let scale = 1.0 / spectrum.len() as f64;
        (0..self.size.iter().product()).map(|index| spectrum[self.place(index)] * scale).collect()
    }

    /// An image convolved with each answer.
    pub(super) fn blur(&self, image: &[f64]) -> Vec<Vec<f64>> {
        let spectrum = self.transformed(image, None);
        let pair = |answers: &[Vec<f64>]| -> Vec<Vec<f64>> {
            let both =
                |index: usize| Complex64::new(answers[0][index], answers.get(1).map_or(0.0, |of| of[index]));
            let product = spectrum.iter().enumerate().map(|(index, value)| value * both(index)).collect();
            let blurred = self.back(product);
            let first = blurred.iter().map(|value| value.re).collect();
            let second = || blurred.iter().map(|value| value.im).collect();
            if answers.len() > 1 { vec![first, second()] } else { vec![first] }
        };
        self.spectra.par_chunks(2).flat_map_iter(pair).collect()
    }

    /// The adjoint of [`Convolver::blur`]: the sum of images, one for each answer, each convolved with its own.
    pub(super) fn adjoint(&self, images: &[Vec<f64>]) -> Vec<f64> {
        let pairs: Vec<Vec<Complex64>> = images
            .par_chunks(2)
            .zip(self.spectra.par_chunks(2))
            .map(|(images, answers)| {
                let mut spectrum = self.transformed(&images[0], images.get(1).map(Vec::as_slice));
                // The imaginary part of a value is the real part of −i times it.
                for (index, value) in spectrum.iter_mut().enumerate() {
                    *value *= Complex64::new(answers[0][index], -answers.get(1).map_or(0.0, |of| of[index]));
                }
                spectrum
            })
            .collect();
        let mut sum = vec![Complex64::default(); self.transform.size.iter().product()];
        for pair in pairs {
            sum.iter_mut().zip(pair).for_each(|(sum, value)| *sum += value);
        }
        self.back(sum).iter().map(|value| value.re).collect()
    }
}

/// The least number not below `n` without a prime factor above 5: transforms of such lengths are fast.
fn smooth(n: usize) -> usize {
    let is_smooth = |n: usize| {
        let mut rest = n;
        for prime in [2, 3, 5] {
            while rest.is_multiple_of(prime) {
                rest /= prime;
            }
        }
        rest == 1
    };
    (n.max(1)..).find(|n| is_smooth(*n)).unwrap_or(n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer(size: [usize; 3], width: f64) -> Answer {
        let size = size.map(|n| 2 * n - 1);
        let value = |index: usize| {
            let at = [index % size[0], index / size[0] % size[1], index / size[0] / size[1]];
            #[expect(clippy::cast_precision_loss, reason = "small")]
            let squares = (0..3).map(|axis| (at[axis] as f64 - (size[axis] / 2) as f64).powi(2)).sum::<f64>();
            1.0 / (1.0 + squares / width)
        };
        Answer { size, values: (0..size.iter().product()).map(value).collect() }
    }

    fn slow(image: &[f64], size: [usize; 3], answer: &Answer) -> Vec<f64> {
        let at = |index: usize| [index % size[0], index / size[0] % size[1], index / size[0] / size[1]];
        let value = |to: usize| -> f64 {
            let sum = image.iter().enumerate().map(|(from, value)| {
                let [x, y, z] = std::array::from_fn(|axis| at(to)[axis] + size[axis] - 1 - at(from)[axis]);
                value * answer.values[x + answer.size[0] * (y + answer.size[1] * z)]
            });
            sum.sum()
        };
        (0..image.len()).map(value).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        /// Three answers at once, beside the sums, and the adjoint beside the convolution.
        #[test]
        fn a_convolution_is_its_sum(
            size in prop::array::uniform3(1..6_usize),
            seed in prop::collection::vec(-1.0..1.0_f64, 127),
        ) {
            let voxels: usize = size.iter().product();
            let image = &seed[..voxels];
            let answers = [answer(size, 1.0), answer(size, 3.0), answer(size, 0.3)];
            let convolver = Convolver::new(size, &answers).unwrap();
            let fast = convolver.blur(image);
            prop_assert_eq!(fast.len(), 3);
            let mut both = 0.0;
            let others: Vec<Vec<f64>> = (0..3).map(|n| seed.iter().rev().skip(n).take(voxels).copied().collect()).collect();
            for ((fast, answer), other) in fast.iter().zip(&answers).zip(&others) {
                let slow = slow(image, size, answer);
                prop_assert!(fast.iter().zip(&slow).all(|(a, b)| (a - b).abs() < 1e-11));
                both += other.iter().zip(fast).map(|(a, b)| a * b).sum::<f64>();
            }
            let adjoint = convolver.adjoint(&others);
            let same: f64 = adjoint.iter().zip(image).map(|(a, b)| a * b).sum();
            prop_assert!((same - both).abs() < 1e-10, "{same} for {both}");
        }
    }

    #[test]
    fn an_answer_of_another_grid_is_told() {
        let error = Convolver::new([4, 4, 1], &[answer([4, 3, 1], 1.0)]).err().unwrap().to_string();
        assert!(error.contains("[7, 5, 1]") && error.contains("[4, 4, 1]"), "{error}");
        assert_eq!([smooth(1), smooth(7), smooth(37), smooth(55)], [1, 8, 40, 60]);
    }
}
