//! From fields and particles to the spectra that receive coils would see.
//!
//! At a point `x` the field is `B(x, t) = G x + B_offset + B_drive(t)`, and particles of number density `c` have the magnetisation
//! `M = c m L(β|B|) B/|B|`. A coil of sensitivity `p` (the flux density in it of a unit current, in T/A) sees `u(t) = −∫ p·∂M/∂t d³x`.
//! Over a period everything is periodic, so the derivative is exact in the frequency domain: `u_k = −iω_k p·M_k`. There Debye relaxation is a
//! division by `1 + iω_k τ` (Croft, Goodwill and Conolly 2012) and the receive chain a factor.
//!
//! Magnetisation has edges as sharp as particles are large; it is computed on [`OVERSAMPLING`] times as many points as are kept, and what lies
//! above the band of the samples is cut off there, as an ideal filter before the converter would.

use std::f64::consts::TAU;
use std::ops::Range;
use std::sync::Arc;

use num_complex::Complex64;
use rayon::prelude::*;
use realfft::{RealFftPlanner, RealToComplex};

use super::{Cloud, Coil, Grid, Particle, Sequence, Vector, dot, norm, times};
use crate::Error;

/// Points computed for each sample that is kept.
const OVERSAMPLING: usize = 4;

/// Spectra of a frame: periods × coils × frequencies, un-normalised as of a discrete Fourier transform of V samples, K = V/2 + 1.
#[derive(Clone, Debug)]
pub struct Spectra {
    /// Periods of a frame, J.
    pub periods: usize,
    /// Coils, C.
    pub coils: usize,
    /// Frequencies of a coil, K; the first is 0 Hz.
    pub frequencies: usize,
    /// J × C × K values in volts at the converter, frequency fastest.
    pub data: Vec<Complex64>,
}

impl Spectra {
    /// The spectrum of a coil in a period.
    #[must_use]
    pub fn of(&self, period: usize, coil: usize) -> &[Complex64] {
        let start = (period * self.coils + coil) * self.frequencies;
        &self.data[start..start + self.frequencies]
    }
}

/// What is the same for all points: the computed times, and the factors of each frequency.
struct Model<'a> {
    sequence: &'a Sequence,
    particle: &'a Particle,
    coils: &'a [Coil],
    /// Seconds of each computed point.
    times: Vec<f64>,
    /// The frequencies that are wanted.
    band: Range<usize>,
    /// C × K: what turns a coefficient of the magnetisation into one of the voltage.
    factors: Vec<Complex64>,
    transform: Arc<dyn RealToComplex<f64>>,
}

impl<'a> Model<'a> {
    fn new(
        sequence: &'a Sequence,
        particle: &'a Particle,
        coils: &'a [Coil],
        band: Option<Range<usize>>,
    ) -> Result<Self, Error> {
        sequence.check()?;
        particle.check()?;
        for coil in coils {
            coil.check()?;
        }
        let samples = sequence.samples()?;
        let points = samples * OVERSAMPLING;
        #[expect(clippy::cast_precision_loss, reason = "at most 2^26 points")]
        let time = |point: usize| point as f64 / (sequence.base_frequency * OVERSAMPLING as f64);
        let times = (0..points).map(time).collect();
        let band = band.unwrap_or(0..samples / 2 + 1);
        if band.is_empty() || band.end > samples / 2 + 1 {
            return Err(Error::model(
                "signal",
                format!("frequencies {band:?} were asked for, and there are {}", samples / 2 + 1),
            ));
        }
        let mut factors = Vec::new();
        for coil in coils {
            factors.extend(band.clone().map(|k| factor(sequence, samples, particle, coil, k)));
        }
        let transform = RealFftPlanner::new().plan_fft_forward(points);
        Ok(Self { sequence, particle, coils, times, band, factors, transform })
    }

    fn frequencies(&self) -> usize {
        self.band.len()
    }

    /// The drive field of a period at each computed point.
    fn drive(&self, period: usize) -> Vec<Vector> {
        let settings = &self.sequence.periods[period];
        self.times.iter().map(|seconds| self.sequence.drive_field(settings, *seconds)).collect()
    }

    /// Adds what particles at a point contribute to the magnetisation along each coil's sensitivity: coils × points, in T·A·m²/A = V·s.
    fn magnetise(
        &self,
        (period, drive): (usize, &[Vector]),
        point: &Vector,
        particles: f64,
        into: &mut [f64],
    ) {
        let settings = &self.sequence.periods[period];
        let mut fixed = times(&settings.gradient, point);
        for (sum, offset) in fixed.iter_mut().zip(settings.offset) {
            *sum += offset;
        }
        let points = drive.len();
        for (index, drive) in drive.iter().enumerate() {
            let field = [fixed[0] + drive[0], fixed[1] + drive[1], fixed[2] + drive[2]];
            let response = particles * self.particle.response(norm(&field));
            for (coil, row) in self.coils.iter().zip(into.chunks_exact_mut(points)) {
                row[index] += response * dot(&field, &coil.sensitivity);
            }
        }
    }

    /// The voltages' spectra of one period from the magnetisation along each coil, C × K.
    fn induce(&self, magnetisation: &mut [f64]) -> Result<Vec<Complex64>, Error> {
        let points = self.times.len();
        let mut whole = self.transform.make_output_vec();
        let mut voltages = Vec::with_capacity(self.factors.len());
        let coils = magnetisation.chunks_exact_mut(points).zip(self.factors.chunks_exact(self.frequencies()));
        for (signal, factors) in coils {
            self.transform
                .process(signal, &mut whole)
                .map_err(|error| Error::model("signal", error.to_string()))?;
            voltages
                .extend(factors.iter().zip(&whole[self.band.clone()]).map(|(factor, value)| factor * value));
        }
        Ok(voltages)
    }
}

/// `−iω a(ω) / (1 + iωτ)`, and the change of scale from the computed points to the samples that are kept.
fn factor(sequence: &Sequence, samples: usize, particle: &Particle, coil: &Coil, k: usize) -> Complex64 {
    #[expect(clippy::cast_precision_loss, reason = "at most 2^24 samples")]
    let frequency = k as f64 * sequence.base_frequency / samples as f64;
    let omega = TAU * frequency;
    let relaxation = Complex64::new(1.0, omega * particle.relaxation);
    #[expect(clippy::cast_precision_loss, reason = "a small constant")]
    let scale = 1.0 / OVERSAMPLING as f64;
    Complex64::new(0.0, -omega * scale) / relaxation * coil.transfer.at(frequency)
}

/// Spectra of a cloud of particles, one frame, without noise or any other disturbance.
///
/// # Errors
/// The sequence, the particles or a coil make no sense.
pub fn spectra(
    sequence: &Sequence,
    particle: &Particle,
    coils: &[Coil],
    cloud: &Cloud,
) -> Result<Spectra, Error> {
    let model = Model::new(sequence, particle, coils, None)?;
    let length = coils.len() * model.times.len();
    let mut data = Vec::new();
    for period in 0..sequence.periods.len() {
        let drive = model.drive(period);
        // Blocks of a fixed size, summed in their order: the result is the same on any number of threads.
        let parts: Vec<Vec<f64>> = cloud
            .points
            .par_chunks(256)
            .map(|block| {
                let mut sum = vec![0.0; length];
                for (point, particles) in block {
                    model.magnetise((period, &drive), point, *particles, &mut sum);
                }
                sum
            })
            .collect();
        let mut whole = vec![0.0; length];
        for part in parts {
            whole.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
        }
        data.extend(model.induce(&mut whole)?);
    }
    Ok(Spectra {
        periods: sequence.periods.len(),
        coils: coils.len(),
        frequencies: model.frequencies(),
        data,
    })
}

/// Spectra of a delta sample in each voxel of a grid: J × C × K × O values, voxel fastest, for a sample that fills its voxel with a suspension
/// of `iron` mol/m³; K are the frequencies of `band`, all if not given. The sample is computed at `finer`³ points in the voxel (along axes with more than one voxel).
///
/// # Errors
/// The sequence, the particles, a coil or the grid make no sense.
pub fn system_matrix(
    sequence: &Sequence,
    particle: &Particle,
    coils: &[Coil],
    grid: &Grid,
    iron: f64,
    finer: usize,
    band: Option<Range<usize>>,
) -> Result<Vec<Complex64>, Error> {
    grid.check()?;
    let model = Model::new(sequence, particle, coils, band)?;
    let drives: Vec<Vec<Vector>> = (0..sequence.periods.len()).map(|period| model.drive(period)).collect();
    let voxels = grid.voxels();
    let rows = sequence.periods.len() * coils.len() * model.frequencies();
    let columns: Vec<Vec<Complex64>> = (0..voxels)
        .into_par_iter()
        .map(|voxel| {
            let sample = Cloud::filled(&inside(grid, voxel, finer), particle.density(iron));
            let mut column = Vec::with_capacity(rows);
            let mut sum = vec![0.0; coils.len() * model.times.len()];
            for (period, drive) in drives.iter().enumerate() {
                sum.fill(0.0);
                for (point, particles) in &sample.points {
                    model.magnetise((period, drive), point, *particles, &mut sum);
                }
                column.extend(model.induce(&mut sum)?);
            }
            Ok(column)
        })
        .collect::<Result<_, Error>>()?;
    let mut matrix = vec![Complex64::default(); rows * voxels];
    matrix.par_chunks_exact_mut(voxels).enumerate().for_each(|(row, values)| {
        for (value, column) in values.iter_mut().zip(&columns) {
            *value = column[row];
        }
    });
    Ok(matrix)
}

/// The points at which a voxel is computed, as a grid of its own.
fn inside(grid: &Grid, voxel: usize, finer: usize) -> Grid {
    let size = grid.size.map(|n| if n > 1 { finer } else { 1 });
    Grid { size, field_of_view: grid.spacing(), center: grid.position(voxel) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::physics::{DriveChannel, Period, Tensor, langevin_derivative};

    const ALONG_X: Tensor = [[5.7, 0.0, 0.0], [0.0, -2.85, 0.0], [0.0, 0.0, -2.85]];

    fn one_channel() -> Sequence {
        let channel = DriveChannel {
            direction: [1.0, 0.0, 0.0],
            amplitude: 0.02,
            divider: 128,
            phase: std::f64::consts::FRAC_PI_2,
        };
        Sequence {
            base_frequency: 5.76e6,
            channels: vec![channel],
            periods: vec![Period { gradient: ALONG_X, offset: [0.0; 3], drive: vec![] }],
        }
    }

    fn coil(sensitivity: Vector) -> Coil {
        serde_json::from_value(serde_json::json!({ "sensitivity": sensitivity })).unwrap()
    }

    /// The n-th harmonic of a particle at `x` under a drive field `A cos ωt` is
    /// `i (ω/π) ∫ M'(u + Gx) U_{n−1}(u/A) √(1 − (u/A)²) du` from −A to A: Chebyshev polynomials of the second kind. With u = A cos θ the
    /// trapezoid rule is exact to rounding for it.
    fn harmonic(n: u32, at: f64, particle: &Particle, amplitude: f64, omega: f64) -> Complex64 {
        let steps = 4000;
        let mut sum = 0.0;
        for step in 0..steps {
            let theta = std::f64::consts::PI * (f64::from(step) + 0.5) / f64::from(steps);
            let field = amplitude * theta.cos() + at;
            let slope = particle.moment() * particle.beta() * langevin_derivative(particle.beta() * field);
            sum += slope * (f64::from(n) * theta).sin() * theta.sin();
        }
        Complex64::new(0.0, omega * amplitude / f64::from(steps) * sum)
    }

    #[test]
    fn harmonics_are_those_of_chebyshev() {
        let (sequence, particle) = (one_channel(), Particle::default());
        let particles = 1e13;
        let x = 0.0021;
        let cloud = Cloud { points: vec![([x, 0.0, 0.0], particles)] };
        let found = spectra(&sequence, &particle, &[coil([1.5e-3, 0.0, 0.0])], &cloud).unwrap();
        assert_eq!((found.periods, found.coils, found.frequencies), (1, 1, 65));
        let omega = TAU * 45e3;
        let first = found.data[1].norm();
        for n in 1..=30 {
            // A voltage is minus the change of flux, and a sum over V samples is V times the coefficient of the series.
            let expected = -128.0 * 1.5e-3 * particles * harmonic(n, 5.7 * x, &particle, 0.02, omega);
            let error = (found.data[n as usize] - expected).norm();
            assert!(error < 1e-9 * first, "{n}: {} for {expected}", found.data[n as usize]);
        }
    }

    #[test]
    fn a_column_is_what_a_full_voxel_gives() {
        let (mut sequence, particle) = (one_channel(), Particle::default());
        sequence.periods.push(Period { gradient: ALONG_X, offset: [0.005, 0.0, 0.001], drive: vec![0.7] });
        let coils = [coil([1e-3, 0.0, 0.0]), coil([0.0, 2e-3, 1e-3])];
        let grid = Grid { size: [3, 2, 1], field_of_view: [0.006, 0.004, 0.001], center: [0.001, 0.0, 0.0] };
        let matrix = system_matrix(&sequence, &particle, &coils, &grid, 10.0, 2, None).unwrap();
        let voxel = 4;
        let points = inside(&grid, voxel, 2);
        assert_eq!(points.size, [2, 2, 1]);
        let cloud = Cloud::filled(&points, particle.density(10.0));
        let expected = spectra(&sequence, &particle, &coils, &cloud).unwrap();
        assert_eq!(matrix.len(), 2 * 2 * 65 * 6);
        let scale = expected.data.iter().map(|value| value.norm()).fold(0.0, f64::max);
        for (row, value) in expected.data.iter().enumerate() {
            assert!((matrix[row * 6 + voxel] - value).norm() < 1e-12 * scale, "row {row}");
        }
        // A part of the frequencies is that part of the matrix.
        let part = system_matrix(&sequence, &particle, &coils, &grid, 10.0, 2, Some(3..7)).unwrap();
        assert_eq!(part.len(), 2 * 2 * 4 * 6);
        assert_eq!(part[4 * 6 + 1], matrix[(65 + 3) * 6 + 1]);
        assert!(system_matrix(&sequence, &particle, &coils, &grid, 10.0, 2, Some(3..66)).is_err());
    }

    #[test]
    fn threads_change_no_bit() {
        let (sequence, particle, coils) = (one_channel(), Particle::default(), [coil([1e-3, 0.0, 0.0])]);
        let grid = Grid { size: [10, 10, 10], field_of_view: [0.01; 3], center: [0.0; 3] };
        let cloud = Cloud::filled(&grid, 1e18);
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| spectra(&sequence, &particle, &coils, &cloud)).unwrap().data
        };
        assert_eq!(on(1), on(2));
    }
}
