//! A regular grid of voxels in space.

use serde::{Deserialize, Serialize};

use super::Vector;
use crate::Error;

/// Voxels in a box; x is the fastest index, as in MDF's default order `xyz`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Grid {
    /// Voxels along x, y and z.
    pub size: [usize; 3],
    /// Edges of the box in metres.
    pub field_of_view: Vector,
    /// The middle of the box in metres.
    #[serde(default)]
    pub center: Vector,
}

impl Grid {
    /// How many voxels.
    #[must_use]
    pub fn voxels(&self) -> usize {
        self.size.iter().product()
    }

    /// Edges of one voxel in metres.
    #[must_use]
    pub fn spacing(&self) -> Vector {
        #[expect(clippy::cast_precision_loss, reason = "grids have fewer than 2^52 voxels along an edge")]
        let along = |axis: usize| self.field_of_view[axis] / self.size[axis] as f64;
        [along(0), along(1), along(2)]
    }

    /// Volume of one voxel in m³.
    #[must_use]
    pub fn volume(&self) -> f64 {
        self.spacing().iter().product()
    }

    /// The middle of the voxel of this index.
    #[must_use]
    pub fn position(&self, index: usize) -> Vector {
        let [nx, ny, _] = self.size;
        let at = [index % nx, index / nx % ny, index / nx / ny];
        let spacing = self.spacing();
        std::array::from_fn(|axis| {
            #[expect(clippy::cast_precision_loss, reason = "grids have fewer than 2^52 voxels along an edge")]
            let steps = at[axis] as f64 + 0.5 - self.size[axis] as f64 / 2.0;
            self.center[axis] + steps * spacing[axis]
        })
    }

    /// The voxel that holds a point, if one does.
    #[must_use]
    pub fn index_of(&self, point: &Vector) -> Option<usize> {
        let spacing = self.spacing();
        let mut at = [0; 3];
        for axis in 0..3 {
            let steps = (point[axis] - self.center[axis] + self.field_of_view[axis] / 2.0) / spacing[axis];
            #[expect(clippy::cast_precision_loss, reason = "grids have fewer than 2^52 voxels along an edge")]
            let inside = steps >= 0.0 && steps < self.size[axis] as f64;
            if !inside {
                return None;
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 0 and the size, as just seen"
            )]
            let step = steps as usize;
            at[axis] = step.min(self.size[axis] - 1);
        }
        Some(at[0] + self.size[0] * (at[1] + self.size[1] * at[2]))
    }

    /// The same box with each voxel cut into `factor` along every axis that has more than one voxel.
    #[must_use]
    pub fn finer(&self, factor: usize) -> Self {
        let size = self.size.map(|n| if n > 1 { n * factor } else { n });
        Self { size, ..self.clone() }
    }

    /// A grid without voxels or without extent is refused.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let voxels = self.size.iter().try_fold(1_usize, |all, &n| all.checked_mul(n));
        if voxels.is_none_or(|voxels| voxels == 0) {
            return Err(Error::model(
                "grid",
                format!("its size is {:?}; each edge needs a voxel", self.size),
            ));
        }
        let finite = self.center.iter().all(|value| value.is_finite());
        if !finite || self.field_of_view.iter().any(|edge| !(edge.is_finite() && *edge > 0.0)) {
            let text = format!("its field of view is {:?} m around {:?} m", self.field_of_view, self.center);
            return Err(Error::model("grid", text));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_and_indices_are_inverse() {
        let grid =
            Grid { size: [4, 3, 2], field_of_view: [0.04, 0.06, 0.01], center: [0.001, -0.002, 0.003] };
        for index in 0..grid.voxels() {
            assert_eq!(grid.index_of(&grid.position(index)), Some(index));
        }
        let first = grid.position(0);
        let expected = [0.001 - 0.015, -0.002 - 0.02, 0.003 - 0.0025];
        assert!((0..3).all(|axis| (first[axis] - expected[axis]).abs() < 1e-15), "{first:?}");
        assert!((grid.position(1)[0] - first[0] - 0.01).abs() < 1e-15);
        assert_eq!(grid.index_of(&[0.03, 0.0, 0.0]), None);
        assert_eq!(grid.index_of(&[f64::NAN, 0.0, 0.0]), None);
    }

    #[test]
    fn a_finer_grid_fills_the_same_box() {
        let grid = Grid { size: [5, 5, 1], field_of_view: [0.02, 0.02, 0.001], center: [0.0; 3] };
        let fine = grid.finer(3);
        assert_eq!(fine.size, [15, 15, 1]);
        assert!((fine.volume() * 9.0 - grid.volume()).abs() < 1e-20);
    }

    #[test]
    fn an_empty_grid_is_refused() {
        let grid = Grid { size: [5, 0, 1], field_of_view: [0.02; 3], center: [0.0; 3] };
        assert!(grid.check().unwrap_err().to_string().contains("[5, 0, 1]"));
        let flat = Grid { size: [5, 1, 1], field_of_view: [0.02, 0.0, 0.1], center: [0.0; 3] };
        assert!(flat.check().is_err());
    }
}
