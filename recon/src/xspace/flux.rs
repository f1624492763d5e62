//! What the receive chain has lost of a field-free point's signal, from the signal that it has kept.
//!
//! The particles' magnetic flux in a coil depends on where the field-free point is and on nothing else: with ideal particles the signal of
//! channel `c` is `u_c = d/dt F_c(x_s(t))`, with one smooth image `F_c` of all periods. Its slopes are the point-spread tensor's rows. So the
//! spectrum of `u_c` over `iω` is that of the image along the way, and the image is sought that has the kept lines in common with the signal,
//! in the sense of least squares, and bends least. The lines that were lost are then those of the image.
//!
//! A path of drive frequencies alone is a line of the spectrum for each of them: with these lost, `F_c` and `F_c + a·x` cannot be told apart.
//! That is the constant that each partial field of view loses; where periods overlap, they share the image, so only one constant is left
//! for all. It is chosen so that the slope across both ends of the ways is 0 in the mean, for each axis: nothing is there.
//!
//! Sources: Goodwill and Conolly (2011) for the signal; Lu et al. (2013) and Konkle, Goodwill, Hensley, Orendorff, Lustig and Conolly, "A convex
//! formulation for magnetic particle imaging x-space reconstruction", PLoS ONE 10 (2015), for the joint search; März and Weinmann,
//! "Model-based reconstruction for magnetic particle imaging in 2D and 3D", Inverse Problems and Imaging 10 (2016), for the signal as a
//! smooth tensor along the way.

use std::f64::consts::{SQRT_2, TAU};

use num_complex::Complex64;
use rayon::prelude::*;
use realfft::RealFftPlanner;

use super::cg::{Stop, conjugate_gradients};
use super::shares::Shares;
use super::sweep::Sweeps;
use super::{DriveFrequency, Scan, in_time};
use crate::Error;
use crate::physics::Grid;

/// Voxels of a flux image; each takes some 400 bytes in a volume.
const VOXELS_MAX: usize = 1 << 23;

/// The weight of an image's bends beside that of the samples in a voxel. The result hardly depends on it: bends fill voxels that no sample
/// has reached.
const SMOOTH: f64 = 0.02;
const EXACT: Stop = Stop { tolerance: 1e-9, steps: 20_000 };
const ROUGH: Stop = Stop { tolerance: 1e-3, ..EXACT };

/// What the images of flux say of a scan.
pub(super) struct Recovered {
    /// The scan with the lines that it has lost, up to the last one that it has.
    pub(super) scan: Scan,
    /// The grid of the images, from end to end of the ways.
    pub(super) grid: Grid,
    /// The image of each channel, in V·s.
    pub(super) fluxes: Vec<Vec<f64>>,
    /// Energy of what the images leave of the flux at the kept lines, beside that of the flux.
    pub(super) misfit: f64,
}

/// The images of flux of a scan, and the lines that it has lost; a line that is 0 in all periods of a channel counts as lost. `like` says how
/// large a voxel of the images is.
///
/// # Errors
/// No line is left, or the image does not settle.
pub(super) fn recovered(
    scan: &Scan,
    sweeps: &Sweeps,
    like: &Grid,
    drive: DriveFrequency,
) -> Result<Recovered, Error> {
    with(scan, sweeps, like, drive, EXACT)
}

/// The flux is sought all over the way of the field-free point, however small the image is.
fn check_size(grid: &Grid, like: &Grid) -> Result<(), Error> {
    let voxels = grid.size.iter().try_fold(1_usize, |product, edge| product.checked_mul(*edge));
    if voxels.is_some_and(|voxels| voxels <= VOXELS_MAX) {
        return Ok(());
    }
    let millimetres = |edges: [f64; 3]| edges.map(|edge| edge * 1e3);
    Err(Error::XSpace(format!(
        "the way of the field-free point, {:?} mm, has {:?} voxels of {:?} mm, and more than {VOXELS_MAX} are not sought: choose larger ones",
        millimetres(grid.field_of_view),
        grid.size,
        millimetres(like.spacing())
    )))
}

/// [`Recovered::misfit`] alone, as near as a comparison needs it.
pub(super) fn misfit(scan: &Scan, sweeps: &Sweeps, like: &Grid, drive: DriveFrequency) -> Result<f64, Error> {
    Ok(with(scan, sweeps, like, drive, ROUGH)?.misfit)
}

fn with(
    scan: &Scan,
    sweeps: &Sweeps,
    like: &Grid,
    drive: DriveFrequency,
    stop: Stop,
) -> Result<Recovered, Error> {
    let grid = sweeps.box_of_ways(like);
    check_size(&grid, like)?;
    let shares: Vec<Shares> = sweeps.places.iter().map(|places| Shares::new(&grid, places)).collect();
    let seen = Seen { scan, sweeps, grid: &grid, shares: &shares, stop };
    let channels: Vec<Channel> = (0..scan.channels)
        .into_par_iter()
        .map(|channel| seen.channel(channel, drive))
        .collect::<Result<_, _>>()?;
    let mut whole = scan.clone();
    let frequencies = scan.frequencies();
    for (index, spectrum) in whole.spectra.chunks_exact_mut(frequencies).enumerate() {
        spectrum.copy_from_slice(&channels[index % scan.channels].lines[index / scan.channels]);
    }
    let energy = |of: fn(&Channel) -> f64| channels.iter().map(of).sum::<f64>();
    let misfit = energy(|channel| channel.rest) / energy(|channel| channel.energy);
    Ok(Recovered {
        scan: whole,
        grid,
        misfit,
        fluxes: channels.into_iter().map(|channel| channel.flux).collect(),
    })
}

/// One receive channel.
struct Channel {
    flux: Vec<f64>,
    /// The spectrum of each period, with what was lost.
    lines: Vec<Vec<Complex64>>,
    /// Energy of the flux at the kept lines, and of what the image leaves of it.
    energy: f64,
    rest: f64,
}

/// A scan beside the images' grid.
struct Seen<'a> {
    scan: &'a Scan,
    sweeps: &'a Sweeps,
    grid: &'a Grid,
    shares: &'a [Shares],
    stop: Stop,
}

impl Seen<'_> {
    fn channel(&self, channel: usize, drive: DriveFrequency) -> Result<Channel, Error> {
        let kept = self.kept(channel);
        let Some(last) = kept.iter().rposition(|kept| *kept) else {
            return Err(Error::XSpace(format!(
                "nothing is left of the spectrum of receive channel {channel}"
            )));
        };
        let mut flux = self.flux(channel, &kept)?;
        if drive == DriveFrequency::Lost {
            self.level_ends(&mut flux);
        }
        let (mut energy, mut rest, mut periods) = (0.0, 0.0, Vec::new());
        for (period, shares) in self.shares.iter().enumerate() {
            let seen = transformed(&mut shares.gather(&flux))?;
            let mut lines = self.scan.spectrum(period, channel).to_vec();
            for k in 1..=last {
                let turn = Complex64::new(0.0, self.omega(k));
                let image = seen[k] * self.scale();
                if kept[k] {
                    energy += (lines[k] / turn).norm_sqr();
                    rest += (lines[k] / turn - image).norm_sqr();
                } else {
                    lines[k] = image * turn;
                }
            }
            periods.push(lines);
        }
        Ok(Channel { flux, lines: periods, energy, rest })
    }

    fn kept(&self, channel: usize) -> Vec<bool> {
        let zero = Complex64::default();
        let any =
            |k: usize| (0..self.shares.len()).any(|period| self.scan.spectrum(period, channel)[k] != zero);
        // Of an even number of samples the last line has no phase.
        (0..self.scan.frequencies()).map(|k| k > 0 && 2 * k < self.scan.samples && any(k)).collect()
    }

    fn omega(&self, k: usize) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "at most 2^24 lines")]
        let k = k as f64;
        TAU * k * self.scan.resolution()
    }

    /// From a spectrum of all points to one of the samples.
    fn scale(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "at most 2^24 samples")]
        let scale = self.scan.samples as f64 / self.sweeps.points as f64;
        scale
    }

    /// The image of a channel's flux, in V·s.
    fn flux(&self, channel: usize, kept: &[bool]) -> Result<Vec<f64>, Error> {
        let bends = bends(self.grid.size);
        let mut own = vec![0.0; self.grid.voxels()];
        for shares in self.shares {
            own.iter_mut().zip(shares.squares()).for_each(|(own, more)| *own += more);
        }
        #[expect(clippy::cast_precision_loss, reason = "a count of voxels")]
        let reached = own.iter().filter(|own| **own > 0.0).count() as f64;
        let smooth = SMOOTH * own.iter().sum::<f64>() / reached;
        let mut b = vec![0.0; own.len()];
        for (period, shares) in self.shares.iter().enumerate() {
            let spectrum: Vec<Complex64> =
                self.scan
                    .spectrum(period, channel)
                    .iter()
                    .enumerate()
                    .map(|(k, value)| {
                        if k > 0 { value / Complex64::new(0.0, self.omega(k)) } else { Complex64::default() }
                    })
                    .collect();
            let signal = in_time(&spectrum, self.scan.samples, self.sweeps.points)?;
            b.iter_mut().zip(shares.scatter(&signal)).for_each(|(b, more)| *b += more);
        }
        for bend in &bends {
            bend.voxels
                .iter()
                .zip(bend.factors)
                .for_each(|(voxel, factor)| own[*voxel] += smooth * factor * factor);
        }
        let apply = |image: &[f64]| -> Result<Vec<f64>, Error> {
            let mut result = vec![0.0; image.len()];
            for shares in self.shares {
                let signal = only(shares.gather(image), kept)?;
                result.iter_mut().zip(shares.scatter(&signal)).for_each(|(sum, more)| *sum += more);
            }
            for bend in &bends {
                bend.add(image, smooth, &mut result);
            }
            Ok(result)
        };
        conjugate_gradients(apply, &b, &own, self.stop, "do the samples reach most voxels?")
    }

    /// Takes the linear image off that makes the slope across the ends of each axis 0 in the mean.
    fn level_ends(&self, flux: &mut [f64]) {
        let mut reached = vec![false; flux.len()];
        for shares in self.shares {
            shares.squares().iter().zip(&mut reached).for_each(|(own, reached)| *reached |= *own > 0.0);
        }
        let slopes: [f64; 3] = std::array::from_fn(|axis| end_slope(flux, self.grid, &reached, axis));
        let [nx, ny, _] = self.grid.size;
        for (voxel, value) in flux.iter_mut().enumerate() {
            let at = [voxel % nx, voxel / nx % ny, voxel / nx / ny];
            #[expect(clippy::cast_precision_loss, reason = "a number of voxels")]
            let linear: f64 = (0..3).map(|axis| slopes[axis] * at[axis] as f64).sum();
            *value -= linear;
        }
    }
}

/// The mean change from voxel to voxel across the first and the last pair of layers of an axis, where samples have reached both.
fn end_slope(image: &[f64], grid: &Grid, reached: &[bool], axis: usize) -> f64 {
    let size = grid.size[axis];
    if size < 2 {
        return 0.0;
    }
    let stride: usize = grid.size[..axis].iter().product();
    let (mut sum, mut count) = (0.0, 0.0);
    for (voxel, value) in image.iter().enumerate() {
        let layer = voxel / stride % size;
        if (layer == 0 || layer == size - 2) && reached[voxel] && reached[voxel + stride] {
            sum += image[voxel + stride] - value;
            count += 1.0;
        }
    }
    if count > 0.0 { sum / count } else { 0.0 }
}

/// A second difference of an image.
struct Bend {
    voxels: [usize; 4],
    factors: [f64; 4],
}

impl Bend {
    /// Adds its part of `weight · DᵀD image`.
    fn add(&self, image: &[f64], weight: f64, into: &mut [f64]) {
        let bend: f64 =
            self.voxels.iter().zip(self.factors).map(|(voxel, factor)| factor * image[*voxel]).sum();
        for (voxel, factor) in self.voxels.iter().zip(self.factors) {
            into[*voxel] += weight * factor * bend;
        }
    }
}

/// All second differences, along each axis and across each pair of axes (these count twice, as in the Hessian).
fn bends(size: [usize; 3]) -> Vec<Bend> {
    let stride = [1, size[0], size[0] * size[1]];
    let mut bends = Vec::new();
    for voxel in 0..size.iter().product() {
        let left = |axis: usize| size[axis] - 1 - voxel / stride[axis] % size[axis];
        for axis in 0..3 {
            if left(axis) >= 2 {
                let voxels = [voxel, voxel + stride[axis], voxel + 2 * stride[axis], voxel];
                bends.push(Bend { voxels, factors: [1.0, -2.0, 1.0, 0.0] });
            }
            for other in axis + 1..3 {
                if left(axis) >= 1 && left(other) >= 1 {
                    let (a, b) = (stride[axis], stride[other]);
                    let voxels = [voxel, voxel + a, voxel + b, voxel + a + b];
                    bends.push(Bend { voxels, factors: [SQRT_2, -SQRT_2, -SQRT_2, SQRT_2] });
                }
            }
        }
    }
    bends
}

/// The un-normalised spectrum of a signal.
fn transformed(signal: &mut [f64]) -> Result<Vec<Complex64>, Error> {
    let plan = RealFftPlanner::new().plan_fft_forward(signal.len());
    let mut spectrum = plan.make_output_vec();
    plan.process(signal, &mut spectrum).map_err(|error| Error::XSpace(error.to_string()))?;
    Ok(spectrum)
}

/// A signal without the lines that are not kept; there are none above the last one.
fn only(mut signal: Vec<f64>, kept: &[bool]) -> Result<Vec<f64>, Error> {
    let mut spectrum = transformed(&mut signal)?;
    #[expect(clippy::cast_precision_loss, reason = "at most 2^34 points")]
    let scale = 1.0 / signal.len() as f64;
    for (k, value) in spectrum.iter_mut().enumerate() {
        *value = if kept.get(k) == Some(&true) { *value * scale } else { Complex64::default() };
    }
    let last = spectrum.len() - 1;
    spectrum[last].im = 0.0;
    let plan = RealFftPlanner::new().plan_fft_inverse(signal.len());
    plan.process(&mut spectrum, &mut signal).map_err(|error| Error::XSpace(error.to_string()))?;
    Ok(signal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_image_has_no_bends() {
        let size = [4, 3, 5];
        let linear = |voxel: usize, curved: f64| {
            let [x, y, z] =
                [voxel % 4, voxel / 4 % 3, voxel / 12].map(|n| f64::from(u32::try_from(n).unwrap()));
            2.0 + 3.0 * x - y + 0.5 * z + curved * x * z
        };
        let energy = |curved: f64| {
            let image: Vec<f64> = (0..60).map(|voxel| linear(voxel, curved)).collect();
            let mut sum = vec![0.0; 60];
            bends(size).iter().for_each(|bend| bend.add(&image, 1.0, &mut sum));
            sum.iter().zip(&image).map(|(a, b)| a * b).sum::<f64>()
        };
        assert!(energy(0.0).abs() < 1e-9);
        // Twice the square of the mixed difference of 1, in 3 × 4 places of each of 3 layers.
        assert!((energy(1.0) - 72.0).abs() < 1e-9, "{}", energy(1.0));
    }

    #[test]
    fn only_kept_lines_are_left() {
        let wave = |line: f64, point: u32| (TAU * line * f64::from(point) / 20.0).cos();
        let signal: Vec<f64> =
            (0..20).map(|point| 5.0 + wave(1.0, point) + wave(3.0, point) + wave(9.0, point)).collect();
        let left = only(signal, &[false, false, true, true]).unwrap();
        let expected: Vec<f64> = (0..20).map(|point| wave(3.0, point)).collect();
        assert!(left.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-12), "{left:?}");
    }

    #[test]
    fn the_slope_of_the_ends_leaves_what_was_not_reached_out() {
        let grid = Grid { size: [4, 2, 1], field_of_view: [4.0, 2.0, 1.0], center: [0.0; 3] };
        let image = [0.0, 1.0, 7.0, 10.0, 0.0, 100.0, 7.0, 12.0];
        let mut reached = [true; 8];
        reached[4] = false;
        assert_eq!(end_slope(&image, &grid, &reached, 0), (1.0 + 3.0 + 5.0) / 3.0);
        assert_eq!(end_slope(&image, &grid, &reached, 2), 0.0);
    }
}
