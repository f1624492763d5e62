//! Objects to be scanned: bodies with a concentration of iron, and the points that stand for their particles.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Grid, Mesh, Particle, Vector, dot, norm};
use crate::Error;

/// The form of a body. Lengths are in metres.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "shape", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Shape {
    /// All points within a distance of a point.
    Ball {
        /// The middle.
        center: Vector,
        /// Above 0.
        radius: f64,
    },
    /// A box along the axes.
    Box {
        /// The middle.
        center: Vector,
        /// Lengths of the edges.
        edges: Vector,
    },
    /// A straight rod with flat ends.
    Cylinder {
        /// The middle.
        center: Vector,
        /// Along the rod, of any length but 0.
        axis: Vector,
        /// Above 0.
        radius: f64,
        /// Above 0.
        length: f64,
    },
    /// A closed surface of triangles from an STL file, which has no unit of its own.
    Stl {
        /// Beside the plan, or absolute.
        file: PathBuf,
        /// Metres of the file's unit.
        #[serde(default = "millimetre")]
        unit: f64,
        /// Where the file's origin lies, in metres.
        #[serde(default)]
        center: Vector,
    },
}

fn millimetre() -> f64 {
    1e-3
}

/// A body and what it is filled with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Solid {
    /// Its form.
    #[serde(flatten)]
    pub shape: Shape,
    /// Concentration of iron in mol/m³, which is mmol/L.
    pub iron: f64,
}

/// Bodies in their order: where two overlap, the later one counts. So a hole is a body with no iron.
#[derive(Clone, Debug, Default)]
pub struct Phantom {
    bodies: Vec<(Body, f64)>,
}

#[derive(Clone, Debug)]
enum Body {
    Plain(Shape),
    Mesh(Mesh),
}

impl Phantom {
    /// A phantom of these bodies; surfaces are read from files beside `folder`.
    ///
    /// # Errors
    /// A body has no volume or a concentration below 0, or a surface cannot be read or is not closed.
    pub fn new(solids: &[Solid], folder: &Path) -> Result<Self, Error> {
        let mut bodies = Vec::with_capacity(solids.len());
        for (index, Solid { shape, iron }) in solids.iter().enumerate() {
            if !(iron.is_finite() && *iron >= 0.0) {
                return Err(Error::model(
                    "phantom",
                    format!("body {index} has {iron} mol/m³ of iron; it must be 0 or more"),
                ));
            }
            if !shape.has_volume() {
                return Err(Error::model("phantom", format!("body {index} has no volume: {shape:?}")));
            }
            let body = match shape {
                Shape::Stl { file, unit, center } => {
                    Body::Mesh(Mesh::open(&folder.join(file))?.placed(*unit, center))
                }
                plain => Body::Plain(plain.clone()),
            };
            bodies.push((body, *iron));
        }
        Ok(Self { bodies })
    }

    /// Concentration of iron at a point in mol/m³.
    #[must_use]
    pub fn iron_at(&self, point: &Vector) -> f64 {
        let body = self.bodies.iter().rev().find(|(body, _)| body.contains(point));
        body.map_or(0.0, |(_, iron)| *iron)
    }

    /// The mean concentration in each voxel of a grid, over `finer`³ points of it: what a perfect scanner would show.
    #[must_use]
    pub fn image(&self, grid: &Grid, finer: usize) -> Vec<f64> {
        let fine = grid.finer(finer);
        let values: Vec<f64> = (0..fine.voxels())
            .into_par_iter()
            .with_min_len(1024)
            .map(|index| self.iron_at(&fine.position(index)))
            .collect();
        let mut image = vec![0.0; grid.voxels()];
        #[expect(clippy::cast_precision_loss, reason = "a few thousand points in a voxel")]
        let share = grid.voxels() as f64 / fine.voxels() as f64;
        for (index, value) in values.iter().enumerate() {
            image[coarse(grid, &fine, index)] += value * share;
        }
        image
    }

    /// Particles at the points of a grid, where there are any.
    #[must_use]
    pub fn cloud(&self, grid: &Grid, particle: &Particle) -> Cloud {
        let volume = grid.volume();
        let points = (0..grid.voxels()).into_par_iter().with_min_len(1024).filter_map(|index| {
            let point = grid.position(index);
            let iron = self.iron_at(&point);
            (iron > 0.0).then(|| (point, particle.density(iron) * volume))
        });
        Cloud { points: points.collect() }
    }
}

/// The voxel of a grid in which a voxel of the finer one lies; by whole numbers, for positions on an edge round either way.
fn coarse(grid: &Grid, fine: &Grid, index: usize) -> usize {
    let [nx, ny, _] = fine.size;
    let at = [index % nx, index / nx % ny, index / nx / ny];
    let at: [usize; 3] = std::array::from_fn(|axis| at[axis] * grid.size[axis] / fine.size[axis]);
    at[0] + grid.size[0] * (at[1] + grid.size[1] * at[2])
}

impl Shape {
    fn has_volume(&self) -> bool {
        let all_above = |lengths: &[f64]| lengths.iter().all(|length| length.is_finite() && *length > 0.0);
        match self {
            Self::Ball { radius, .. } => all_above(&[*radius]),
            Self::Box { edges, .. } => all_above(edges),
            Self::Cylinder { axis, radius, length, .. } => all_above(&[norm(axis), *radius, *length]),
            Self::Stl { unit, .. } => all_above(&[*unit]),
        }
    }
}

impl Body {
    fn contains(&self, point: &Vector) -> bool {
        let from = |center: &Vector| [point[0] - center[0], point[1] - center[1], point[2] - center[2]];
        match self {
            Self::Plain(Shape::Ball { center, radius }) => norm(&from(center)) <= *radius,
            Self::Plain(Shape::Box { center, edges }) => {
                from(center).iter().zip(edges).all(|(distance, edge)| distance.abs() <= edge / 2.0)
            }
            Self::Plain(Shape::Cylinder { center, axis, radius, length }) => {
                let away = from(center);
                let along = dot(&away, axis) / norm(axis);
                let across = (dot(&away, &away) - along * along).max(0.0).sqrt();
                along.abs() <= length / 2.0 && across <= *radius
            }
            // `Phantom::new` has put a mesh in its place.
            Self::Plain(Shape::Stl { .. }) => false,
            Self::Mesh(mesh) => mesh.contains(point),
        }
    }
}

/// Particles, gathered at points.
#[derive(Clone, Debug, Default)]
pub struct Cloud {
    /// Where, and how many particles.
    pub points: Vec<(Vector, f64)>,
}

impl Cloud {
    /// A box filled evenly with `density` particles per m³, a point in each voxel of its grid.
    #[must_use]
    pub fn filled(grid: &Grid, density: f64) -> Self {
        let particles = density * grid.volume();
        Self { points: (0..grid.voxels()).map(|index| (grid.position(index), particles)).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn solid(shape: Shape, iron: f64) -> Solid {
        Solid { shape, iron }
    }

    fn phantom(solids: &[Solid]) -> Phantom {
        Phantom::new(solids, Path::new(".")).unwrap()
    }

    #[test]
    fn bodies_hold_as_much_as_their_volume() {
        let center = [0.001, -0.002, 0.0005];
        let (radius, length) = (0.006, 0.01);
        let volumes = [
            (Shape::Ball { center, radius }, 4.0 / 3.0 * std::f64::consts::PI * radius.powi(3)),
            (Shape::Box { center, edges: [0.0141, 0.0163, 0.0187] }, 0.0141 * 0.0163 * 0.0187),
            (
                Shape::Cylinder { center, axis: [1.0, 2.0, -0.5], radius, length },
                std::f64::consts::PI * radius * radius * length,
            ),
        ];
        let grid = Grid { size: [12, 10, 14], field_of_view: [0.03; 3], center: [0.0; 3] };
        for (shape, volume) in volumes {
            let image = phantom(&[solid(shape.clone(), 10.0)]).image(&grid, 12);
            let iron: f64 = image.iter().sum::<f64>() * grid.volume();
            assert!((iron / (10.0 * volume) - 1.0).abs() < 0.02, "{shape:?}: {iron} mol");
        }
    }

    #[test]
    fn a_later_body_cuts_a_hole() {
        let ball = |radius| Shape::Ball { center: [0.0; 3], radius };
        let hollow = phantom(&[solid(ball(0.01), 5.0), solid(ball(0.004), 0.0)]);
        assert_eq!(hollow.iron_at(&[0.0; 3]), 0.0);
        assert_eq!(hollow.iron_at(&[0.0, 0.007, 0.0]), 5.0);
        assert_eq!(hollow.iron_at(&[0.0, 0.012, 0.0]), 0.0);
    }

    #[test]
    fn a_cloud_has_the_particles_of_its_image() {
        let ball = phantom(&[solid(Shape::Ball { center: [0.0; 3], radius: 0.01 }, 5.0)]);
        let grid = Grid { size: [9, 9, 9], field_of_view: [0.03; 3], center: [0.0; 3] };
        let particle = Particle::default();
        let fine = grid.finer(3);
        let particles: f64 = ball.cloud(&fine, &particle).points.iter().map(|(_, n)| n).sum();
        let iron: f64 = ball.image(&grid, 3).iter().sum::<f64>() * grid.volume();
        assert!((particles / (particle.density(1.0) * iron) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn bodies_without_volume_are_refused() {
        let flat = solid(Shape::Box { center: [0.0; 3], edges: [0.01, 0.0, 0.01] }, 1.0);
        assert!(Phantom::new(&[flat], Path::new(".")).unwrap_err().to_string().contains("body 0"));
        let less = solid(Shape::Ball { center: [0.0; 3], radius: 0.01 }, -1.0);
        assert!(Phantom::new(&[less], Path::new(".")).is_err());
    }
}
