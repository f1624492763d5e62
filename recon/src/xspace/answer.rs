//! The particles' answer: what a point of the object looks like in the native image.

use serde::Serialize;

use super::native::ENTRIES;
use crate::physics::{Grid, Particle, Tensor, Vector, langevin_derivative, langevin_over, norm, times};

/// The point-spread tensor of a field-free point at a distance `x` from a particle, by the [`ENTRIES`].
///
/// With `b = G x`, `ξ = β|b|` and `e = b/|b|` it is `L'(ξ) e eᵀ + (L(ξ)/ξ) (1 − e eᵀ)`, 1/3 at the middle: along the field the width at half
/// height is 4.161 in ξ, across it 9.467. The signal of a particle is this tensor times minus the change of the field, times `p m β`. Source:
/// Goodwill and Conolly, "Multidimensional x-space magnetic particle imaging", IEEE TMI 30 (2011), there with the gradient as a factor,
/// for the velocity in place of the field's change.
#[must_use]
pub fn point_spread(particle: &Particle, gradient: &Tensor, x: &Vector) -> [f64; 6] {
    let b = times(gradient, x);
    let strength = norm(&b);
    let xi = particle.beta() * strength;
    let (along, across) = (langevin_derivative(xi), langevin_over(xi));
    let e = if strength > 0.0 { b.map(|b| b / strength) } else { [0.0; 3] };
    ENTRIES.map(|(row, column, _)| {
        let one = if row == column { 1.0 } else { 0.0 };
        across * one + (along - across) * e[row] * e[column]
    })
}

/// A point's image over all distances that two voxels of a grid may have.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answer {
    /// Voxels along each axis of the grid of distances, `2n − 1` of `n`; the middle one is no distance.
    pub size: [usize; 3],
    /// What a voxel of density 1 gives at each distance, x fastest.
    pub values: Vec<f64>,
}

/// The grid of distances between voxels of a grid.
#[must_use]
pub fn distances(grid: &Grid) -> Grid {
    let spacing = grid.spacing();
    let size = grid.size.map(|n| 2 * n - 1);
    #[expect(clippy::cast_precision_loss, reason = "a number of voxels")]
    let field_of_view = std::array::from_fn(|axis| spacing[axis] * size[axis] as f64);
    Grid { size, field_of_view, center: [0.0; 3] }
}

/// The answers of a field-free point for each of the [`ENTRIES`], times the volume of a voxel in m³.
#[must_use]
pub fn point_answers(particle: &Particle, gradient: &Tensor, grid: &Grid) -> [Answer; 6] {
    let (distances, volume) = (distances(grid), grid.volume());
    let tensors: Vec<[f64; 6]> = (0..distances.voxels())
        .map(|voxel| point_spread(particle, gradient, &distances.position(voxel)))
        .collect();
    std::array::from_fn(|entry| {
        let values = tensors.iter().map(|tensor| tensor[entry] * volume).collect();
        Answer { size: distances.size, values }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A quarter of the way round the field is across: the widths at half height are those of the two envelopes.
    #[test]
    fn a_point_is_as_wide_as_published() {
        let particle = Particle { diameter: 22e-9, ..Particle::default() };
        let gradient = [[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 2.0]];
        let width = |axis: usize, entry: usize| {
            let (mut inside, mut outside) = (0.0, 0.1);
            for _ in 0..60 {
                let middle = f64::midpoint(inside, outside);
                let mut x = [0.0; 3];
                x[axis] = middle;
                if point_spread(&particle, &gradient, &x)[entry] > 1.0 / 6.0 {
                    inside = middle;
                } else {
                    outside = middle;
                }
            }
            2.0 * inside * particle.beta()
        };
        assert!((width(0, 0) - 4.161).abs() < 5e-4 && (width(0, 1) - 9.467).abs() < 5e-4);
        // Along z the gradient is twice as steep.
        assert!((width(2, 2) - 4.161 / 2.0).abs() < 5e-4 && (width(2, 0) - 9.467 / 2.0).abs() < 5e-4);
    }

    #[test]
    fn the_tensor_is_the_slope_of_the_magnetisation() {
        let particle = Particle { diameter: 20e-9, ..Particle::default() };
        let gradient = [[-1.0, 0.2, 0.1], [0.2, -1.5, 0.0], [0.1, 0.0, 2.5]];
        let magnetisation =
            |b: Vector| b.map(|component| component * langevin_over(particle.beta() * norm(&b)));
        let x = [0.003, -0.002, 0.001];
        let tensor = point_spread(&particle, &gradient, &x);
        for ((row, column, _), found) in ENTRIES.iter().zip(tensor) {
            let moved = |step: f64| {
                let mut b = times(&gradient, &x);
                b[*column] += step;
                magnetisation(b)[*row]
            };
            let slope = (moved(1e-6) - moved(-1e-6)) / 2e-6;
            assert!((slope - found).abs() < 1e-8, "{row}, {column}: {found} for {slope}");
        }
    }

    #[test]
    fn answers_are_even_and_the_middle_is_a_third() {
        let grid = Grid { size: [4, 3, 1], field_of_view: [0.004, 0.003, 0.002], center: [0.5; 3] };
        let gradient = [[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 2.0]];
        let answers = point_answers(&Particle::default(), &gradient, &grid);
        assert_eq!(answers[0].size, [7, 5, 1]);
        for answer in &answers {
            let back: Vec<f64> = answer.values.iter().rev().copied().collect();
            assert!(answer.values.iter().zip(back).all(|(a, b)| (a - b).abs() < 1e-24));
        }
        let third = grid.volume() / 3.0;
        assert!(answers.iter().take(3).all(|answer| (answer.values[17] - third).abs() < 1e-12 * third));
        assert!(answers.iter().skip(3).all(|answer| answer.values[17] == 0.0));
    }
}
