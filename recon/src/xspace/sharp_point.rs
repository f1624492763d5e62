//! Sharpening of a field-free point's native image.

use super::answer::point_answers;
use super::cg::dot;
use super::convolve::Convolver;
use super::deconvolve::Blur;
use super::native::ENTRIES;
use super::{Answer, Deconvolution, DriveFrequency, Native, Settings, Sharp};
use crate::Error;
use crate::physics::Grid;

/// A nuisance that is smaller than this beside what it was before the others were taken off adds nothing to them.
const SLACK: f64 = 1e-9;

/// The object that a native image shows, as a density over its grid in V·s/(T·m³): particles per m³ times `p m β`.
///
/// A voxel of the native image is the tensor's mean over the directions of its own samples; voxels that no sample reached take no part. With
/// the drive frequencies lost, the tensor that is missing everywhere is sought at the same time, so that it does not matter where the native
/// image was taken to be 0. What lies beyond the grid is nothing.
///
/// # Errors
/// The settings or the particles make no sense, or the lists are not those of the grid.
pub fn sharp_points(
    native: &Native,
    grid: &Grid,
    settings: &Settings,
    how: &Deconvolution,
) -> Result<Sharp, Error> {
    settings.check()?;
    how.check()?;
    grid.check()?;
    let voxels = grid.voxels();
    if [native.image.len(), native.weights.len(), native.directions.len()] != [voxels; 3] {
        let text = format!("a native image of {} voxels is not one of {voxels}", native.image.len());
        return Err(Error::XSpace(text));
    }
    let answers = point_answers(&settings.particle, &native.gradient, grid);
    let blur = PointBlur::new(native, grid, answers, settings.drive_frequency)?;
    how.object(&blur, &blur.samples(&native.image))
}

/// From an object to the native image, weighted, without what is lost.
struct PointBlur {
    voxels: usize,
    convolver: Convolver,
    /// Root of each voxel's weight.
    roots: Vec<f64>,
    /// For each answer, what its image is multiplied by in each voxel.
    shares: Vec<Vec<f64>>,
    /// Weighted images of tensors that are the same everywhere, each of length 1 and across the others.
    nuisances: Vec<Vec<f64>>,
}

impl PointBlur {
    fn new(native: &Native, grid: &Grid, answers: [Answer; 6], drive: DriveFrequency) -> Result<Self, Error> {
        let roots: Vec<f64> = native.weights.iter().map(|weight| weight.sqrt()).collect();
        let (mut shares, mut used) = (Vec::new(), Vec::new());
        for ((entry, answer), (_, _, times)) in answers.into_iter().enumerate().zip(ENTRIES) {
            let share: Vec<f64> =
                native.directions.iter().map(|directions| times * directions[entry]).collect();
            if share.iter().any(|share| *share != 0.0) {
                shares.push(share);
                used.push(answer);
            }
        }
        let convolver = Convolver::new(grid.size, &used)?;
        let mut blur = Self { voxels: grid.voxels(), convolver, roots, shares, nuisances: Vec::new() };
        if drive == DriveFrequency::Lost {
            for entry in 0..blur.shares.len() {
                blur.add_nuisance(entry);
            }
        }
        Ok(blur)
    }

    fn add_nuisance(&mut self, entry: usize) {
        let mut image: Vec<f64> =
            self.roots.iter().zip(&self.shares[entry]).map(|(root, share)| root * share).collect();
        let before = dot(&image, &image).sqrt();
        // Twice, for what rounding has left.
        self.take_off(&mut image);
        self.take_off(&mut image);
        let size = dot(&image, &image).sqrt();
        if size > SLACK * before {
            image.iter_mut().for_each(|value| *value /= size);
            self.nuisances.push(image);
        }
    }

    fn take_off(&self, samples: &mut [f64]) {
        for nuisance in &self.nuisances {
            let share = dot(samples, nuisance);
            samples.iter_mut().zip(nuisance).for_each(|(sample, of)| *sample -= share * of);
        }
    }

    /// A native image as samples: weighted, without what is lost.
    fn samples(&self, image: &[f64]) -> Vec<f64> {
        let mut samples: Vec<f64> = image.iter().zip(&self.roots).map(|(value, root)| value * root).collect();
        self.take_off(&mut samples);
        samples
    }
}

impl Blur for PointBlur {
    fn voxels(&self) -> usize {
        self.voxels
    }

    fn blur(&self, object: &[f64]) -> Vec<f64> {
        let mut image = vec![0.0; self.voxels];
        for (blurred, shares) in self.convolver.blur(object).iter().zip(&self.shares) {
            for ((sum, value), share) in image.iter_mut().zip(blurred).zip(shares) {
                *sum += value * share;
            }
        }
        self.samples(&image)
    }

    fn adjoint(&self, samples: &[f64]) -> Vec<f64> {
        let mut rest = samples.to_vec();
        self.take_off(&mut rest);
        rest.iter_mut().zip(&self.roots).for_each(|(value, root)| *value *= root);
        let images: Vec<Vec<f64>> = self
            .shares
            .iter()
            .map(|shares| rest.iter().zip(shares).map(|(value, share)| value * share).collect())
            .collect();
        self.convolver.adjoint(&images)
    }
}

#[cfg(test)]
mod tests {
    use super::super::simulated::{SENSITIVITY, off, scan, sequence};
    use super::*;
    use crate::physics::{Particle, Tensor, Vector};
    use crate::xspace::{NonNegative, Scan, Wiener, native_points};
    use proptest::prelude::*;

    const GRADIENT: Tensor = [[-2.5, 0.0, 0.0], [0.0, -2.5, 0.0], [0.0, 0.0, 5.0]];
    const QUARTER: f64 = std::f64::consts::FRAC_PI_2;

    fn grid() -> Grid {
        Grid { size: [27, 19, 1], field_of_view: [0.0135, 0.0095, 0.001], center: [0.0; 3] }
    }

    fn settings() -> Settings {
        Settings { particle: Particle { diameter: 25e-9, ..Particle::default() }, ..Settings::default() }
    }

    /// A bar and a dot, on the voxels of the grid.
    fn object() -> Vec<f64> {
        let value = |voxel: usize| {
            let [x, y, _] = grid().position(voxel);
            if x.abs() < 0.0031 && (y - 0.001).abs() < 6e-4 {
                1.0
            } else if (x - 0.004).hypot(y + 0.0015) < 8e-4 {
                2.0
            } else {
                0.0
            }
        };
        (0..grid().voxels()).map(value).collect()
    }

    /// Each voxel as points over its area.
    fn cloud() -> Vec<(Vector, f64)> {
        let quarter = grid().spacing()[0] / 4.0;
        let corners = [[-quarter, -quarter], [quarter, -quarter], [-quarter, quarter], [quarter, quarter]];
        let points = |(voxel, value): (usize, &f64)| {
            let [x, y, _] = grid().position(voxel);
            corners.map(|[dx, dy]| ([x + dx, y + dy, 0.0], value * 1e12 / 4.0))
        };
        object().iter().enumerate().filter(|(_, value)| **value > 0.0).flat_map(points).collect()
    }

    fn lost(amplitude: f64, offsets: &[Vector]) -> Scan {
        let drives = [(amplitude, 102, QUARTER), (0.0118, 96, QUARTER)];
        let mut scan = scan(&sequence(&GRADIENT, &drives, offsets), &settings().particle, &cloud());
        scan.drop_drive();
        scan
    }

    fn sharp(scan: &Scan, how: Deconvolution) -> Vec<f64> {
        let native = native_points(scan, &grid(), &settings()).unwrap();
        sharp_points(&native, &grid(), &settings(), &how).unwrap().image
    }

    /// The object as a density in the unit of the images.
    fn truth() -> Vec<f64> {
        let particle = settings().particle;
        let one = SENSITIVITY * particle.moment() * particle.beta() * 1e12 / grid().volume();
        object().iter().map(|value| value * one).collect()
    }

    #[test]
    fn the_object_comes_back_in_its_unit() {
        let scan = lost(0.0168, &[[0.0; 3]]);
        let search = Deconvolution::NonNegative(NonNegative::default());
        let found = off(&sharp(&scan, search), &truth());
        let filtered = off(&sharp(&scan, Deconvolution::Wiener(Wiener::default())), &truth());
        let native = native_points(&scan, &grid(), &settings()).unwrap();
        let scale = native.image.iter().zip(truth()).map(|(a, b)| a * b).sum::<f64>()
            / native.image.iter().map(|a| a * a).sum::<f64>();
        let scaled: Vec<f64> = native.image.iter().map(|value| value * scale).collect();
        let blurred = off(&scaled, &truth());
        println!("search {found}, wiener {filtered}, native {blurred}");
        assert!(found < 0.1, "{found}");
        assert!(filtered < 0.6 * blurred, "{filtered} of {blurred}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(6))]
        /// A patch that is cut in two which overlap shows the same object, wherever it is cut and however far they overlap.
        #[test]
        fn two_patches_are_as_good_as_one(cut in -0.003..0.003_f64, overlap in 0.002..0.006_f64) {
            let search = Deconvolution::NonNegative(NonNegative { iterations: 150, ..NonNegative::default() });
            let whole = sharp(&lost(0.0168, &[[0.0; 3]]), search);
            // In tesla: both reach to the ends of the whole, or beyond.
            let amplitude = (0.0168 + overlap) / 2.0 + cut.abs();
            let ends = [0.0168 - amplitude, amplitude - 0.0168].map(|offset| [offset, 0.0, 0.0]);
            let joined = sharp(&lost(amplitude, &ends), search);
            let error = off(&joined, &whole);
            prop_assert!(error < 0.03, "{error}");
        }
    }

    #[test]
    fn threads_change_no_bit() {
        let scan = lost(0.0168, &[[0.0; 3]]);
        let search = Deconvolution::NonNegative(NonNegative { iterations: 20, ..NonNegative::default() });
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| (sharp(&scan, search), sharp(&scan, Deconvolution::Wiener(Wiener::default()))))
        };
        assert_eq!(on(1), on(2));
    }

    #[test]
    fn lists_of_another_grid_are_told() {
        let native = native_points(&lost(0.0168, &[[0.0; 3]]), &grid(), &settings()).unwrap();
        let other = Grid { size: [26, 19, 1], ..grid() };
        let how = Deconvolution::Wiener(Wiener::default());
        let error = sharp_points(&native, &other, &settings(), &how).unwrap_err().to_string();
        assert!(error.contains("513 voxels is not one of 494"), "{error}");
    }
}
