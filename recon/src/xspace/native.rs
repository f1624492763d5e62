//! The native image of a field-free point: each sample over its speed, where the point is just then.

use super::shares::Shares;
use super::sweep::Sweeps;
use super::{Part, Scan, Settings, flux, in_time};
use crate::Error;
use crate::physics::{Grid, Tensor, Vector, dot, norm};

/// Entries of a symmetric tensor, and how often each is in it: xx, yy, zz, xy, xz, yz.
pub const ENTRIES: [(usize, usize, f64); 6] =
    [(0, 0, 1.0), (1, 1, 1.0), (2, 2, 1.0), (0, 1, 2.0), (0, 2, 2.0), (1, 2, 2.0)];

/// A voxel with less than this share of the greatest weight was not reached: what little it has lies at its edge.
const REACHED: f64 = 1e-3;

/// A native image, and how its samples came together. Lists are over the voxels of a grid, x fastest.
#[derive(Clone, Debug, PartialEq)]
pub struct Native {
    /// The selection field's gradient in T/m.
    pub gradient: Tensor,
    /// Signal over speed in V·s/T. Voxels that no sample reached have the mean of their neighbours, ring by ring.
    pub image: Vec<f64>,
    /// What the samples of a voxel weigh, of the greatest; 0 for voxels that no sample reached.
    pub weights: Vec<f64>,
    /// The mean of `d dᵀ` over a voxel's samples, by the [`ENTRIES`], where `d` is the direction of the field's change.
    pub directions: Vec<[f64; 6]>,
}

impl Native {
    /// How many voxels no sample reached.
    #[must_use]
    pub fn unreached(&self) -> usize {
        self.weights.iter().filter(|weight| **weight == 0.0).count()
    }
}

/// The native image of a field-free point on a plane or a volume, of a scan whose delay has been seen to.
///
/// The field at the field-free point changes by `w = −dB/dt = G v`, and the signal is `u = S(x_s) w` with a tensor image `S`: the object
/// blurred by the tensor of [`super::point_spread`]. The part of the signal along `w` over its length is `wᵀ S w/|w|²`, an average of the
/// tensor that is positive for any selection field (along the velocity `v` itself it would not be: a gradient has both signs, and what comes
/// along x would cancel what comes along z). Each sample goes to the voxels around its place by their shares, weighted by `|w|²`, for the noise
/// of the signal does not grow with the speed.
///
/// Directions differ from voxel to voxel, and with them the answer, which is longer across the field than along it: with [`Part::Mean`] the
/// image is the tensor's mean over all axes everywhere, by the slopes of the images of flux.
///
/// Lost lines of the spectrum are recovered first, of all periods together (see the module `flux`): partial fields of view that overlap
/// become one image.
///
/// # Errors
/// The scan, the grid or the settings make no sense, a period has no field-free point, the field moves along an axis without a receive
/// channel, what was lost cannot be recovered, or no sample is within the grid.
pub fn native_points(scan: &Scan, grid: &Grid, settings: &Settings) -> Result<Native, Error> {
    scan.check()?;
    settings.check()?;
    grid.check()?;
    let sweeps = Sweeps::new(scan, grid)?;
    let fastest = sweeps.rates.iter().flatten().map(norm).fold(0.0, f64::max);
    let deaf = |rate: &Vector| (scan.channels..3).any(|axis| rate[axis].abs() > 1e-6 * fastest);
    if sweeps.rates.iter().flatten().any(deaf) {
        let text =
            format!("the drive field has an axis for which none of {} receive channels is", scan.channels);
        return Err(Error::XSpace(text));
    }
    let found = flux::recovered(scan, &sweeps, grid, settings.drive_frequency)?;
    let mut sums = Sums::new(grid);
    for (period, (places, rates)) in sweeps.places.iter().zip(&sweeps.rates).enumerate() {
        let signals: Vec<Vec<f64>> = (0..scan.channels)
            .map(|channel| in_time(found.scan.spectrum(period, channel), scan.samples, sweeps.points))
            .collect::<Result<_, _>>()?;
        let shares = Shares::new(grid, places);
        for (point, rate) in rates.iter().enumerate() {
            if norm(rate) > settings.least_speed * fastest {
                let signal: Vector =
                    std::array::from_fn(|axis| signals.get(axis).map_or(0.0, |of| of[point]));
                let along = dot(&signal, rate) / fastest.powi(2);
                sums.add(shares.of(point), &rate.map(|rate| rate / fastest), along);
            }
        }
    }
    if settings.part == Part::Mean {
        sums.average(&found, &sweeps, grid);
    }
    sums.native(grid, sweeps.gradient)
}

/// What comes together in each voxel.
struct Sums {
    weights: Vec<f64>,
    signals: Vec<f64>,
    directions: Vec<[f64; 6]>,
}

impl Sums {
    fn new(grid: &Grid) -> Self {
        let none = vec![0.0; grid.voxels()];
        Self { weights: none.clone(), signals: none, directions: vec![[0.0; 6]; grid.voxels()] }
    }

    /// A sample with the field's change `w` and `u·w`: the weight `|w|²` times the value `u·w/|w|²`.
    fn add(&mut self, shares: &[(usize, f64)], rate: &Vector, along: f64) {
        for (voxel, share) in shares {
            self.weights[*voxel] += share * dot(rate, rate);
            self.signals[*voxel] += share * along;
            for (sum, (a, b, _)) in self.directions[*voxel].iter_mut().zip(ENTRIES) {
                *sum += share * rate[a] * rate[b];
            }
        }
    }

    /// Puts the tensor's mean over all axes in place of its mean over the directions of a voxel's samples.
    ///
    /// The image of flux changes by `S_cc` along the way that the field-free point goes for a change of the field along axis `c`.
    fn average(&mut self, found: &flux::Recovered, sweeps: &Sweeps, grid: &Grid) {
        let channels = found.fluxes.len();
        #[expect(clippy::cast_precision_loss, reason = "up to 3")]
        let share = 1.0 / channels as f64;
        let mut slopes = vec![0.0; grid.voxels()];
        for (axis, flux) in found.fluxes.iter().enumerate() {
            let way: Vector = std::array::from_fn(|of| sweeps.inverse[of][axis]);
            let step = smallest_edge(grid) / 2.0 / norm(&way);
            let seen = |step: f64| {
                let places: Vec<Vector> = (0..grid.voxels())
                    .map(|voxel| {
                        let place = grid.position(voxel);
                        std::array::from_fn(|axis| place[axis] + step * way[axis])
                    })
                    .collect();
                let shares = Shares::new(&found.grid, &places);
                // In the outer half of a voxel a part of the shares is missing.
                let has = |place: usize| shares.of(place).iter().map(|(_, share)| share).sum::<f64>();
                let is_outside: Vec<bool> = (0..places.len()).map(|place| has(place) < 1.0 - 1e-6).collect();
                (shares.gather(flux), is_outside)
            };
            let ((before, out_before), (after, out_after)) = (seen(-step), seen(step));
            for (voxel, slope) in slopes.iter_mut().enumerate() {
                *slope += share * (after[voxel] - before[voxel]) / (2.0 * step);
                if out_before[voxel] || out_after[voxel] {
                    self.weights[voxel] = 0.0;
                }
            }
        }
        let mean = std::array::from_fn(|entry| if entry < channels { share } else { 0.0 });
        for (voxel, slope) in slopes.iter().enumerate() {
            let weight = self.weights[voxel];
            self.signals[voxel] = weight * slope;
            self.directions[voxel] = mean.map(|entry: f64| weight * entry);
        }
    }

    fn native(mut self, grid: &Grid, gradient: Tensor) -> Result<Native, Error> {
        let most = self.weights.iter().copied().fold(0.0, f64::max);
        if most <= 0.0 {
            let text = format!(
                "no sample is within the grid of {:?} m around {:?} m",
                grid.field_of_view, grid.center
            );
            return Err(Error::XSpace(text));
        }
        for voxel in 0..grid.voxels() {
            let weight = self.weights[voxel];
            let is_reached = weight > REACHED * most;
            let share = if is_reached { 1.0 / weight } else { 0.0 };
            self.signals[voxel] *= share;
            self.directions[voxel].iter_mut().for_each(|entry| *entry *= share);
            self.weights[voxel] = if is_reached { weight / most } else { 0.0 };
        }
        fill(&mut self.signals, &self.weights, grid.size);
        Ok(Native { gradient, image: self.signals, weights: self.weights, directions: self.directions })
    }
}

fn smallest_edge(grid: &Grid) -> f64 {
    let spacing = grid.spacing();
    (0..3).filter(|axis| grid.size[*axis] > 1).fold(f64::INFINITY, |least, axis| least.min(spacing[axis]))
}

/// Gives voxels without a weight the mean of their neighbours that have a value, ring by ring.
fn fill(image: &mut [f64], weights: &[f64], size: [usize; 3]) {
    let mut has: Vec<bool> = weights.iter().map(|weight| *weight > 0.0).collect();
    let stride = [1, size[0], size[0] * size[1]];
    while has.contains(&false) {
        let mut ring = Vec::new();
        for voxel in (0..image.len()).filter(|voxel| !has[*voxel]) {
            let (mut sum, mut count) = (0.0, 0.0);
            for axis in 0..3 {
                let at = voxel / stride[axis] % size[axis];
                let before = (at > 0).then(|| voxel - stride[axis]);
                let after = (at + 1 < size[axis]).then(|| voxel + stride[axis]);
                for other in before.into_iter().chain(after).filter(|other| has[*other]) {
                    sum += image[other];
                    count += 1.0;
                }
            }
            if count > 0.0 {
                ring.push((voxel, sum / count));
            }
        }
        for (voxel, value) in ring {
            image[voxel] = value;
            has[voxel] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::simulated::{SENSITIVITY, off, scan, sequence};
    use super::*;
    use crate::physics::{Particle, Sequence};
    use crate::xspace::{DriveFrequency, point_spread};

    const GRADIENT: Tensor = [[-2.5, 0.0, 0.0], [0.0, -2.5, 0.0], [0.0, 0.0, 5.0]];
    const QUARTER: f64 = std::f64::consts::FRAC_PI_2;

    fn particle() -> Particle {
        Particle { diameter: 22e-9, ..Particle::default() }
    }

    fn object() -> Vec<(Vector, f64)> {
        vec![([0.001, -0.0005, 0.0], 1e12), ([-0.002, 0.001, 0.0], 6e11)]
    }

    fn plane(width: f64) -> Grid {
        Grid { size: [31, 21, 1], field_of_view: [width, 0.0084, 0.001], center: [0.0; 3] }
    }

    fn one_patch() -> Sequence {
        sequence(&GRADIENT, &[(0.016, 102, QUARTER), (0.0105, 96, QUARTER)], &[[0.0; 3]])
    }

    fn settings(drive_frequency: DriveFrequency) -> Settings {
        Settings { drive_frequency, ..Settings::default() }
    }

    /// What the native image of particles is by the formula: `p m β Σ N D:h(x − x_n)` with each voxel's own directions.
    fn expected(native: &Native, grid: &Grid, object: &[(Vector, f64)]) -> Vec<f64> {
        let height = SENSITIVITY * particle().moment() * particle().beta();
        let value = |voxel: usize| -> f64 {
            let place = grid.position(voxel);
            let of = object.iter().map(|(point, particles)| {
                let distance = std::array::from_fn(|axis| place[axis] - point[axis]);
                let tensor = point_spread(&particle(), &native.gradient, &distance);
                let entries = ENTRIES.iter().zip(tensor).zip(native.directions[voxel]);
                particles * entries.map(|((entry, tensor), mean)| entry.2 * tensor * mean).sum::<f64>()
            });
            height * of.sum::<f64>()
        };
        (0..grid.voxels()).map(value).collect()
    }

    /// The values of voxels that samples have reached, without the tensor that is the same everywhere and fits best.
    fn without_constant(native: &Native, image: &[f64]) -> Vec<f64> {
        let reached = || (0..image.len()).filter(|voxel| native.weights[*voxel] > 0.0);
        let mut rest: Vec<f64> = reached().map(|voxel| image[voxel]).collect();
        let mut basis: Vec<Vec<f64>> = Vec::new();
        for entry in [0, 1, 3] {
            let mut of: Vec<f64> = reached().map(|voxel| native.directions[voxel][entry]).collect();
            for other in &basis {
                take_off(&mut of, other);
            }
            take_off(&mut rest, &of);
            basis.push(of);
        }
        rest
    }

    fn take_off(values: &mut [f64], of: &[f64]) {
        let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let share = product(values, of) / product(of, of);
        values.iter_mut().zip(of).for_each(|(value, of)| *value -= share * of);
    }

    #[test]
    fn points_give_their_answer_in_a_plane() {
        let grid = plane(0.0128);
        let scan = scan(&one_patch(), &particle(), &object());
        let native = native_points(&scan, &grid, &settings(DriveFrequency::Kept)).unwrap();
        assert!(native.unreached() < grid.voxels() / 5, "{}", native.unreached());
        let expected = expected(&native, &grid, &object());
        let reached = |of: &[f64]| -> Vec<f64> {
            of.iter()
                .zip(&native.weights)
                .filter(|(_, weight)| **weight > 0.0)
                .map(|(value, _)| *value)
                .collect()
        };
        let error = off(&reached(&native.image), &reached(&expected));
        println!("{error}");
        assert!(error < 0.02, "{error}");
    }

    /// The slopes of the image of flux give the tensor's mean, the same answer everywhere.
    #[test]
    fn points_give_their_mean_answer() {
        let grid = plane(0.0128);
        let scan = scan(&one_patch(), &particle(), &object());
        let settings = Settings { part: Part::Mean, ..settings(DriveFrequency::Kept) };
        let native = native_points(&scan, &grid, &settings).unwrap();
        let inside: Vec<usize> = (0..grid.voxels()).filter(|voxel| native.weights[*voxel] > 0.0).collect();
        assert!(inside.len() > grid.voxels() / 2);
        let half = |of: &[f64; 6]| (of[0] - 0.5).abs() < 1e-12 && of[0] == of[1] && of[2..] == [0.0; 4];
        assert!(inside.iter().all(|voxel| half(&native.directions[*voxel])));
        let expected = expected(&native, &grid, &object());
        let pick = |of: &[f64]| -> Vec<f64> { inside.iter().map(|voxel| of[*voxel]).collect() };
        let error = off(&pick(&native.image), &pick(&expected));
        println!("mean {error}");
        assert!(error < 0.02, "{error}");
    }

    #[test]
    fn points_give_their_answer_in_a_volume() {
        let grid = Grid { size: [13, 13, 9], field_of_view: [0.0104, 0.0104, 0.0036], center: [0.0; 3] };
        let sequence =
            sequence(&GRADIENT, &[(0.012, 48, 0.0), (0.012, 50, 0.0), (0.008, 45, 0.0)], &[[0.0; 3]]);
        let object = vec![([0.001, -0.0005, 0.0003], 1e12)];
        let scan = scan(&sequence, &particle(), &object);
        let native = native_points(&scan, &grid, &settings(DriveFrequency::Kept)).unwrap();
        let expected = expected(&native, &grid, &object);
        let error = off(&native.image, &expected);
        println!("{error}, {}", native.unreached());
        assert!(error < 0.03, "{error}");
    }

    /// What is lost but a tensor that is the same everywhere comes back from the samples alone.
    #[test]
    fn lost_lines_come_back_but_for_a_constant() {
        let grid = plane(0.0128);
        let mut scan = scan(&one_patch(), &particle(), &object());
        scan.drop_drive();
        for spectrum in scan.spectra.chunks_exact_mut(817) {
            spectrum[..4].fill(num_complex::Complex64::default());
        }
        let lost = native_points(&scan, &grid, &settings(DriveFrequency::Lost)).unwrap();
        let expected = expected(&lost, &grid, &object());
        let wanted = without_constant(&lost, &expected);
        let error = off(&without_constant(&lost, &lost.image), &wanted);
        println!("{error}");
        assert!(error < 0.02, "{error}");
        // The constant is such that nothing is at the ends: the image is not below 0 by more than the answer is above it there.
        let most = expected.iter().copied().fold(0.0, f64::max);
        assert!(lost.image.iter().all(|value| *value > -0.2 * most));
    }

    /// One plane in two patches that overlap by a quarter, with a point at the end of one: both have lost their own constant, and what is left
    /// is one for both.
    #[test]
    fn patches_become_one_image() {
        let object = || vec![([0.0016, 0.0, 0.0], 1e12), ([-0.002, 0.001, 0.0], 3e11)];
        let drives = [(0.010, 102, QUARTER), (0.0105, 96, QUARTER)];
        let offsets = [[0.006, 0.0, 0.0], [-0.006, 0.0, 0.0]];
        let grid = plane(0.0128);
        let mut patches = scan(&sequence(&GRADIENT, &drives, &offsets), &particle(), &object());
        patches.drop_drive();
        let joined = native_points(&patches, &grid, &settings(DriveFrequency::Lost)).unwrap();
        let wanted = without_constant(&joined, &expected(&joined, &grid, &object()));
        let error = off(&without_constant(&joined, &joined.image), &wanted);
        // Each for itself they do not fit together.
        let apart = |period: usize| {
            let frequencies = 2 * patches.frequencies();
            let one = Scan {
                paths: vec![patches.paths[period].clone()],
                spectra: patches.spectra[period * frequencies..(period + 1) * frequencies].to_vec(),
                ..patches.clone()
            };
            native_points(&one, &grid, &settings(DriveFrequency::Lost)).unwrap()
        };
        let (left, right) = (apart(0), apart(1));
        let mut mixed = joined.image.clone();
        for (voxel, value) in mixed.iter_mut().enumerate() {
            let (a, b) = (left.weights[voxel], right.weights[voxel]);
            if a + b > 0.0 {
                *value = (a * left.image[voxel] + b * right.image[voxel]) / (a + b);
            }
        }
        let without = off(&without_constant(&joined, &mixed), &wanted);
        println!("joined {error}, apart {without}");
        assert!(error < 0.02 && without > 3.0 * error, "{error}, {without}");
    }

    #[test]
    fn threads_change_no_bit() {
        let mut scan = scan(&one_patch(), &particle(), &object());
        scan.drop_drive();
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| native_points(&scan, &plane(0.0128), &settings(DriveFrequency::Lost))).unwrap()
        };
        assert_eq!(on(1), on(2));
    }

    #[test]
    fn what_cannot_be_put_in_its_place_is_told() {
        let message = |scan: &Scan, grid: &Grid| {
            native_points(scan, grid, &Settings::default()).unwrap_err().to_string()
        };
        let scan = scan(&one_patch(), &particle(), &object());
        let away = Grid { center: [0.1, 0.0, 0.0], ..plane(0.0128) };
        assert!(message(&scan, &away).contains("no sample is within the grid"));
        let mut deep = scan.clone();
        deep.paths[0].drive[1].axis = 2;
        assert!(message(&deep, &plane(0.0128)).contains("none of 2 receive channels"));
        let mut silent = scan.clone();
        silent.spectra.fill(num_complex::Complex64::default());
        assert!(
            message(&silent, &plane(0.0128)).contains("nothing is left of the spectrum of receive channel 0")
        );
    }

    #[test]
    fn gaps_are_filled_from_their_neighbours() {
        let mut image = vec![1.0, 0.0, 3.0, 0.0, 0.0, 0.0];
        let weights = [1.0, 0.0, 1.0, 0.0, 0.0, 0.0];
        fill(&mut image, &weights, [3, 2, 1]);
        assert_eq!(image, [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
    }
}
