//! Places between the voxels of a grid, and what each voxel has of them.

use crate::physics::{Grid, Vector};

/// A layer's ends may be missed by this share of its thickness.
const SLACK: f64 = 1e-9;

/// For each of a list of places, the voxels around it with their shares: linear between the middles of voxels along each axis.
///
/// Along an axis with one voxel only, a place in the layer belongs to it and one outside to none. In the outer half of a voxel at the edge the
/// shares of voxels that are not there are left out, so a place has shares of at most 1 together.
#[derive(Clone, Debug)]
pub(super) struct Shares {
    voxels: usize,
    /// Where the entries of each place begin, and the end.
    starts: Vec<usize>,
    entries: Vec<(usize, f64)>,
}

impl Shares {
    pub(super) fn new<'a>(grid: &Grid, places: impl IntoIterator<Item = &'a Vector>) -> Self {
        let mut shares = Self { voxels: grid.voxels(), starts: vec![0], entries: Vec::new() };
        for place in places {
            shares.entries.extend(around(grid, place));
            shares.starts.push(shares.entries.len());
        }
        shares
    }

    /// How many places.
    pub(super) fn places(&self) -> usize {
        self.starts.len() - 1
    }

    /// The voxels around a place.
    pub(super) fn of(&self, place: usize) -> &[(usize, f64)] {
        &self.entries[self.starts[place]..self.starts[place + 1]]
    }

    /// The values at all places of an image.
    pub(super) fn gather(&self, image: &[f64]) -> Vec<f64> {
        let value =
            |place: usize| self.of(place).iter().map(|(voxel, share)| share * image[*voxel]).sum::<f64>();
        (0..self.places()).map(value).collect()
    }

    /// The adjoint of [`Shares::gather`]: what comes together in each voxel.
    pub(super) fn scatter(&self, values: &[f64]) -> Vec<f64> {
        let mut image = vec![0.0; self.voxels];
        for (place, value) in values.iter().enumerate() {
            for (voxel, share) in self.of(place) {
                image[*voxel] += share * value;
            }
        }
        image
    }

    /// The sum of the squares of each voxel's shares.
    pub(super) fn squares(&self) -> Vec<f64> {
        let mut sums = vec![0.0; self.voxels];
        for (voxel, share) in &self.entries {
            sums[*voxel] += share * share;
        }
        sums
    }
}

/// The voxels around a place; none if it is outside.
fn around(grid: &Grid, place: &Vector) -> Vec<(usize, f64)> {
    let spacing = grid.spacing();
    let mut entries = vec![(0, 1.0)];
    let mut stride = 1;
    for axis in 0..3 {
        let Some(pair) = along(grid, axis, (place[axis] - grid.center[axis]) / spacing[axis]) else {
            return Vec::new();
        };
        let both = |(voxel, share): (usize, f64)| {
            pair.into_iter().flatten().map(move |(step, own)| (voxel + stride * step, share * own))
        };
        entries = entries.into_iter().flat_map(both).collect();
        stride *= grid.size[axis];
    }
    entries
}

/// The one or two voxels along an axis around a place so many voxels from the middle.
fn along(grid: &Grid, axis: usize, from_middle: f64) -> Option<[Option<(usize, f64)>; 2]> {
    let size = grid.size[axis];
    if size == 1 {
        return (from_middle.abs() <= 0.5 + SLACK).then_some([Some((0, 1.0)), None]);
    }
    #[expect(clippy::cast_precision_loss, reason = "grids have fewer than 2^52 voxels along an edge")]
    let (steps, last) = (from_middle + (size as f64 - 1.0) / 2.0, (size - 1) as f64);
    if !(-0.5..=last + 0.5).contains(&steps) {
        return None;
    }
    let low = steps.floor();
    let share = steps - low;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the grid, as asked")]
    let voxel =
        |at: f64, share: f64| (at >= 0.0 && at <= last && share > 0.0).then_some((at as usize, share));
    Some([voxel(low, 1.0 - share), voxel(low + 1.0, share)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn grid() -> Grid {
        Grid { size: [5, 4, 3], field_of_view: [0.01, 0.006, 0.009], center: [0.001, 0.0, -0.002] }
    }

    proptest! {
        /// A linear image is seen exactly at every place between the middles of the outermost voxels.
        #[test]
        fn a_linear_image_is_seen_as_it_is(at in prop::array::uniform3(0.0..1.0_f64)) {
            let grid = grid();
            let spacing = grid.spacing();
            let inner = |axis: usize| (grid.field_of_view[axis] - spacing[axis]) * (at[axis] - 0.5);
            let place: Vector = std::array::from_fn(|axis| grid.center[axis] + inner(axis));
            let value = |x: &Vector| 3.0 + 200.0 * x[0] - 500.0 * x[1] + 70.0 * x[2];
            let image: Vec<f64> = (0..grid.voxels()).map(|voxel| value(&grid.position(voxel))).collect();
            let shares = Shares::new(&grid, [&place]);
            prop_assert!((shares.gather(&image)[0] - value(&place)).abs() < 1e-12);
            // And the adjoint is one.
            let back = shares.scatter(&[2.0]);
            let both: f64 = back.iter().zip(&image).map(|(a, b)| a * b).sum();
            prop_assert!((both - 2.0 * value(&place)).abs() < 1e-12);
        }
    }

    #[test]
    fn places_outside_have_no_voxel() {
        let plane = Grid { size: [5, 4, 1], field_of_view: [0.005, 0.004, 0.001], center: [0.0; 3] };
        let places = [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0006], [0.0026, 0.0, 0.0], [0.0024, 0.0, 0.0]];
        let shares = Shares::new(&plane, &places);
        let sums: Vec<f64> =
            (0..4).map(|place| shares.of(place).iter().map(|(_, share)| share).sum()).collect();
        assert_eq!(sums[..3], [1.0, 0.0, 0.0]);
        // In the outer half of the last voxel only that one is left.
        assert!((sums[3] - 0.6).abs() < 1e-12, "{sums:?}");
        assert!((shares.squares().iter().sum::<f64>() - (0.5 + 0.18)).abs() < 1e-12);
    }
}
