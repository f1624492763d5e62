//! Where the field-free point of each period is, moment by moment.

use super::scan::{at_least, times};
use super::{Path, Scan};
use crate::Error;
use crate::physics::{Grid, Tensor, Vector, norm, times as product};

/// Points in time for each voxel where the field-free point is fastest.
const POINTS: f64 = 4.0;
/// A path that moves less than this share of a voxel along an axis does not move along it.
const STILL: f64 = 1e-6;

/// The ways of the field-free point, at the same points in time of each period.
#[derive(Clone, Debug)]
pub(super) struct Sweeps {
    /// Points of a period, a multiple of its samples.
    pub(super) points: usize,
    /// The selection field's gradient, of all periods.
    pub(super) gradient: Tensor,
    /// Its inverse, in m/T.
    pub(super) inverse: Tensor,
    /// J × points places in metres.
    pub(super) places: Vec<Vec<Vector>>,
    /// J × points of minus the drive field's change, in T/s: the velocity, multiplied by the gradient.
    pub(super) rates: Vec<Vec<Vector>>,
}

impl Sweeps {
    /// # Errors
    /// A period's gradient leaves no point free, or is not that of the others.
    pub(super) fn new(scan: &Scan, grid: &Grid) -> Result<Self, Error> {
        let mut inverses = Vec::new();
        for (period, path) in scan.paths.iter().enumerate() {
            let Some(inverse) = path.inverse() else {
                let text =
                    format!("the gradient of period {period}, {:?} T/m, leaves no point free", path.gradient);
                return Err(Error::XSpace(text));
            };
            if !path.has_gradient_of(&scan.paths[0]) {
                return Err(Error::XSpace(format!(
                    "the gradient of period {period} is not that of period 0"
                )));
            }
            inverses.push(inverse);
        }
        let gradient = scan.paths[0].gradient;
        let spacing = grid.spacing();
        let edges = (0..3).filter(|axis| grid.size[*axis] > 1).map(|axis| spacing[axis]);
        let edge = edges.fold(f64::INFINITY, f64::min);
        let fastest = scan.paths.iter().zip(&inverses).flat_map(|(path, inverse)| {
            times(scan.samples, scan.cycle()).map(|seconds| norm(&product(inverse, &path.rate(seconds))))
        });
        let fastest = fastest.fold(0.0, f64::max);
        let points = at_least(POINTS * fastest * scan.cycle() / edge, scan.samples);
        let each = |of: &dyn Fn(&Path, &Tensor, f64) -> Vector| -> Vec<Vec<Vector>> {
            let periods = scan.paths.iter().zip(&inverses);
            periods
                .map(|(path, inverse)| times(points, scan.cycle()).map(|t| of(path, inverse, t)).collect())
                .collect()
        };
        let places = each(&|path, inverse, seconds| product(inverse, &path.field(seconds)).map(|x| -x));
        let rates = each(&|path, _, seconds| path.rate(seconds).map(|rate| -rate));
        Ok(Self { points, gradient, inverse: inverses[0], places, rates })
    }

    /// A grid from end to end of the ways along each axis, with voxels not larger than those of another grid: every place is between the
    /// middles of its voxels, or in its only layer.
    pub(super) fn box_of_ways(&self, like: &Grid) -> Grid {
        let spacing = like.spacing();
        let mut grid = Grid { size: [1; 3], field_of_view: spacing, center: [0.0; 3] };
        for axis in 0..3 {
            let along = self.places.iter().flatten().map(|place| place[axis]);
            let (low, high) =
                along.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
            grid.center[axis] = f64::midpoint(low, high);
            // Rounding makes no voxel more.
            let steps = ((high - low) / spacing[axis] - STILL).ceil();
            if high - low > STILL * spacing[axis] {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturating")]
                let size = (steps as usize).clamp(2, 1 << 20) + 1;
                grid.size[axis] = size;
                // From middle to middle of the outermost voxels, and a little more, so that rounding puts no place outside.
                #[expect(clippy::cast_precision_loss, reason = "at most 2^20 + 1")]
                let share = size as f64 / (size - 1) as f64;
                grid.field_of_view[axis] = (high - low) * share * (1.0 + 1e-9);
            }
        }
        grid
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xspace::Drive;
    use num_complex::Complex64;

    fn scan(gradients: &[Tensor]) -> Scan {
        let drive = |axis: usize, frequency: f64| Drive { axis, strength: 0.012, frequency, phase: 0.3 };
        let path = |gradient: &Tensor| Path {
            gradient: *gradient,
            offset: [0.002, 0.0, 0.0],
            drive: vec![drive(0, 25e3), drive(1, 50e3)],
        };
        let spectra = vec![Complex64::default(); gradients.len() * 2 * 51];
        Scan { samples: 100, rate: 2.5e6, channels: 2, paths: gradients.iter().map(path).collect(), spectra }
    }

    const GRADIENT: Tensor = [[-1.0, 0.2, 0.1], [0.2, -1.5, 0.0], [0.1, 0.0, 2.5]];

    #[test]
    fn the_field_is_zero_where_the_point_is() {
        let grid = Grid { size: [20, 20, 1], field_of_view: [0.02, 0.02, 0.001], center: [0.0; 3] };
        let scan = scan(&[GRADIENT; 2]);
        let sweeps = Sweeps::new(&scan, &grid).unwrap();
        assert!(sweeps.points > 100 && sweeps.points.is_multiple_of(100));
        for (place, seconds) in sweeps.places[1].iter().zip(times(sweeps.points, scan.cycle())) {
            let field = scan.paths[1].field(seconds);
            let there = product(&GRADIENT, place);
            assert!((0..3).all(|axis| (there[axis] + field[axis]).abs() < 1e-15));
        }
        let ways = sweeps.box_of_ways(&grid);
        assert!(ways.size[0] > 20 && ways.size[2] > 1, "{ways:?}");
        let (spacing, asked) = (ways.spacing(), grid.spacing());
        for place in sweeps.places.iter().flatten() {
            for axis in 0..3 {
                let reach = (ways.field_of_view[axis] - spacing[axis]) / 2.0;
                assert!(
                    (place[axis] - ways.center[axis]).abs() <= reach && spacing[axis] <= asked[axis] * 1.01
                );
            }
        }
    }

    #[test]
    fn what_leaves_no_point_free_is_told() {
        let grid = Grid { size: [20, 20, 1], field_of_view: [0.02, 0.02, 0.001], center: [0.0; 3] };
        let message = |of: &[Tensor]| Sweeps::new(&scan(of), &grid).unwrap_err().to_string();
        let line = [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, -1.0]];
        assert!(message(&[GRADIENT, line]).contains("period 1, [[1.0"));
        let mut other = GRADIENT;
        other[1][1] = -1.6;
        assert!(message(&[GRADIENT, other]).contains("period 1 is not that of period 0"));
    }
}
