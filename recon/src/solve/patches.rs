//! Several fields of view as one system: patches of a large image, each with the rows of its own measurement.
//!
//! Patch p has a system matrix A_p over a calibration's grid, and a map P_p that takes from the large image what is under
//! that grid. The system is the matrices A_p P_p below each other. Patches whose matrices are the same share it: focus
//! fields move the field of view, and what is measured there stays nearly the same (Szwargulski et al., IEEE Trans. Med.
//! Imaging 38, 2019).

use num_complex::Complex;

use super::kernels::Lanes;
use super::matrix::Matrix;
use super::operator::Operator;
use super::real::Real;
use crate::Error;

/// Where the columns of a matrix are in a large image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    matrix: usize,
    /// Pairs of a column of the image and one of the matrix, the image's ascending.
    pairs: Vec<(usize, usize)>,
    /// Columns of the matrix that were mapped or dropped.
    length: usize,
}

impl Patch {
    /// A patch by an explicit map: `map[n]` is the column of the image for column n of the matrix, `None` if it is none.
    ///
    /// # Errors
    /// [`Error::Patch`] for a column of the image that two have.
    pub fn new(matrix: usize, map: &[Option<usize>]) -> Result<Self, Error> {
        let mut pairs: Vec<_> =
            map.iter().enumerate().filter_map(|(from, to)| Some(((*to)?, from))).collect();
        pairs.sort_unstable();
        if let Some(pair) = pairs.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let problem =
                format!("columns {} and {} of its matrix are both voxel {}", pair[0].1, pair[1].1, pair[0].0);
            return Err(Error::Patch { problem });
        }
        Ok(Self { matrix, pairs, length: map.len() })
    }

    /// A patch whose grid of `small` voxels along x, y, z, x fastest, has its first voxel at `shift` in a grid of `large`
    /// voxels. What is outside of the large grid is dropped.
    ///
    /// # Errors
    /// As [`Patch::new`].
    pub fn shifted(
        matrix: usize,
        small: [usize; 3],
        large: [usize; 3],
        shift: [i64; 3],
    ) -> Result<Self, Error> {
        let along = |axis: usize, at: usize| -> Option<usize> {
            let place = i64::try_from(at).ok()?.checked_add(shift[axis])?;
            usize::try_from(place).ok().filter(|place| *place < large[axis])
        };
        let place = |index: usize| {
            let x = along(0, index % small[0])?;
            let y = along(1, index / small[0] % small[1])?;
            let z = along(2, index / small[0] / small[1])?;
            Some(x + large[0] * (y + large[1] * z))
        };
        let map: Vec<_> = (0..small.iter().product()).map(place).collect();
        Self::new(matrix, &map)
    }

    /// Which matrix it has.
    #[must_use]
    pub fn matrix(&self) -> usize {
        self.matrix
    }

    /// The columns of the image that it has, ascending.
    pub fn voxels(&self) -> impl Iterator<Item = usize> {
        self.pairs.iter().map(|pair| pair.0)
    }

    /// The pairs of `length` columns of the image from `first` on, and the range of the matrix's columns in them.
    fn cut(&self, first: usize, length: usize) -> Cut<'_> {
        let from = self.pairs.partition_point(|pair| pair.0 < first);
        let to = from + self.pairs[from..].partition_point(|pair| pair.0 < first + length);
        let pairs = &self.pairs[from..to];
        let least = pairs.iter().map(|pair| pair.1).min().unwrap_or(0);
        let end = pairs.iter().map(|pair| pair.1 + 1).max().unwrap_or(0);
        Cut { pairs, first, least, length: end - least }
    }
}

/// A part of an image, as a patch has it.
struct Cut<'a> {
    pairs: &'a [(usize, usize)],
    /// The first column of the image.
    first: usize,
    /// The first column of the matrix.
    least: usize,
    /// Columns of the matrix.
    length: usize,
}

impl Cut<'_> {
    /// What is under the patch; `zero` where nothing is.
    fn gather<V: Copy>(&self, x: &[V], zero: V) -> Vec<V> {
        let mut out = vec![zero; self.length];
        self.pairs.iter().for_each(|(to, from)| out[from - self.least] = x[to - self.first]);
        out
    }

    /// The way back.
    fn scatter<V: Copy>(&self, values: &[V], x: &mut [V]) {
        self.pairs.iter().for_each(|(to, from)| x[to - self.first] = values[from - self.least]);
    }
}

/// Patches of an image of N voxels. Rows are in the order of the patches, and in each as its matrix has them.
#[derive(Debug)]
pub struct Patches<'a, T: Real> {
    matrices: Vec<Matrix<'a, T>>,
    patches: Vec<Patch>,
    columns: usize,
    /// The first row of each patch, and the number of rows.
    starts: Vec<usize>,
}

impl<'a, T: Real> Patches<'a, T> {
    /// Puts patches together. Matrices may have different rows and columns; each is kept once.
    ///
    /// # Errors
    /// [`Error::Empty`] without patches or voxels, [`Error::OutOfRange`] for a matrix or a voxel that is not there,
    /// [`Error::Dimension`] for a map that is not of its matrix's columns.
    pub fn new(matrices: Vec<Matrix<'a, T>>, patches: Vec<Patch>, columns: usize) -> Result<Self, Error> {
        if patches.is_empty() || columns == 0 {
            return Err(Error::Empty { rows: 0, columns });
        }
        let mut starts = vec![0];
        for (index, patch) in patches.iter().enumerate() {
            let Some(matrix) = matrices.get(patch.matrix) else {
                let what = format!("matrix {} of patch {index} (counted from 0)", patch.matrix);
                return Err(Error::OutOfRange { what, limit: matrices.len().to_string() });
            };
            if matrix.columns() != patch.length {
                let (expected, found) = (matrix.columns(), patch.length);
                return Err(Error::Dimension { what: "columns in the map of a patch", expected, found });
            }
            if let Some(pair) = patch.pairs.last().filter(|pair| pair.0 >= columns) {
                let what = format!("voxel {} of patch {index} (counted from 0)", pair.0);
                return Err(Error::OutOfRange { what, limit: columns.to_string() });
            }
            starts.push(starts[index] + matrix.rows());
        }
        Ok(Self { matrices, patches, columns, starts })
    }

    /// The matrices.
    #[must_use]
    pub fn matrices(&self) -> &[Matrix<'a, T>] {
        &self.matrices
    }

    /// The patches.
    #[must_use]
    pub fn patches(&self) -> &[Patch] {
        &self.patches
    }

    /// The patch of a row.
    fn patch_of(&self, row: usize) -> usize {
        self.starts.partition_point(|start| *start <= row) - 1
    }

    /// The patch of a row, its matrix, and the row in it.
    fn place(&self, row: usize) -> (&Patch, &Matrix<'a, T>, usize) {
        let index = self.patch_of(row);
        let patch = &self.patches[index];
        (patch, &self.matrices[patch.matrix], row - self.starts[index])
    }

    /// Rows that follow each other and are of one patch, with their number in its matrix.
    fn groups<'r>(
        &self,
        rows: &'r [usize],
    ) -> impl Iterator<Item = (&Patch, &Matrix<'a, T>, Vec<usize>)> + use<'_, 'a, 'r, T> {
        rows.chunk_by(|one, other| self.patch_of(*one) == self.patch_of(*other)).map(|rows| {
            let (patch, matrix, _) = self.place(rows[0]);
            let start = self.starts[self.patch_of(rows[0])];
            (patch, matrix, rows.iter().map(|row| row - start).collect())
        })
    }
}

// What is under a patch is copied, which takes one in as many times as there are rows in a block; products are those of the
// matrix, whose bits do not depend on threads.
impl<T: Real> Operator<T> for Patches<'_, T> {
    fn rows(&self) -> usize {
        self.starts[self.patches.len()]
    }

    fn columns(&self) -> usize {
        self.columns
    }

    fn entries(&self) -> usize {
        self.patches.iter().map(|patch| self.matrices[patch.matrix].rows() * patch.pairs.len()).sum()
    }

    fn row_norm_squared(&self, row: usize) -> T {
        let (patch, matrix, row) = self.place(row);
        let row = matrix.row(row);
        let square = |value: &Complex<T>| value.re.wide().powi(2) + value.im.wide().powi(2);
        T::of(patch.pairs.iter().map(|(_, from)| square(&row[*from])).sum())
    }

    fn copy_row(&self, row: usize, out: &mut [Complex<T>]) {
        let (patch, matrix, row) = self.place(row);
        out.fill(Complex::default());
        patch.pairs.iter().for_each(|(to, from)| out[*to] = matrix.row(row)[*from]);
    }

    fn rows_dot(&self, rows: &[usize], x: &[Complex<T>], out: &mut [Complex<T>]) {
        self.part_dot(rows, 0, x, out);
    }

    fn rows_axpy(&self, rows: &[usize], alpha: &[Complex<T>], x: &mut [Complex<T>]) {
        self.part_axpy(rows, alpha, 0, x);
    }

    fn part_dot(&self, rows: &[usize], first: usize, x: &[Complex<T>], out: &mut [Complex<T>]) {
        let mut done = 0;
        for (patch, matrix, rows) in self.groups(rows) {
            let cut = patch.cut(first, x.len());
            let under = cut.gather(x, Complex::default());
            matrix.part_dot(&rows, cut.least, &under, &mut out[done..done + rows.len()]);
            done += rows.len();
        }
    }

    fn part_axpy(&self, rows: &[usize], alpha: &[Complex<T>], first: usize, x: &mut [Complex<T>]) {
        let mut done = 0;
        for (patch, matrix, rows) in self.groups(rows) {
            let cut = patch.cut(first, x.len());
            let mut under = cut.gather(x, Complex::default());
            matrix.part_axpy(&rows, &alpha[done..done + rows.len()], cut.least, &mut under);
            cut.scatter(&under, x);
            done += rows.len();
        }
    }

    fn panel_dot(&self, rows: &[usize], first: usize, x: &[Lanes<T>], out: &mut [Lanes<T>]) {
        let mut done = 0;
        for (patch, matrix, rows) in self.groups(rows) {
            let cut = patch.cut(first, x.len());
            let under = cut.gather(x, Lanes::zero());
            matrix.panel_dot(&rows, cut.least, &under, &mut out[done..done + rows.len()]);
            done += rows.len();
        }
    }

    fn panel_axpy(&self, rows: &[usize], alpha: &[Lanes<T>], first: usize, x: &mut [Lanes<T>]) {
        let mut done = 0;
        for (patch, matrix, rows) in self.groups(rows) {
            let cut = patch.cut(first, x.len());
            let mut under = cut.gather(x, Lanes::zero());
            matrix.panel_axpy(&rows, &alpha[done..done + rows.len()], cut.least, &mut under);
            cut.scatter(&under, x);
            done += rows.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn voxels_outside_of_the_large_grid_are_dropped() {
        let patch = Patch::shifted(0, [2, 2, 1], [3, 2, 1], [2, -1, 0]).unwrap();
        // Only the voxel (0, 1) of the patch is inside, at (2, 0).
        assert_eq!(patch.pairs, [(2, 2)]);
        let all = Patch::shifted(0, [2, 2, 1], [3, 2, 2], [1, 0, 1]).unwrap();
        assert_eq!(all.pairs, [(7, 0), (8, 1), (10, 2), (11, 3)]);
        assert_eq!(Patch::shifted(0, [2, 2, 1], [3, 2, 1], [i64::MAX, 0, 0]).unwrap().voxels().count(), 0);
    }

    #[test]
    fn patches_that_make_no_sense_are_refused() {
        let matrix = || Matrix::<f64>::new(1, 2, vec![Complex::new(1.0, 0.0); 2]).unwrap();
        let say = |patches: Vec<Patch>, columns| {
            Patches::new(vec![matrix()], patches, columns).map(|_| ()).unwrap_err().to_string()
        };
        let patch = |matrix, map: &[Option<usize>]| Patch::new(matrix, map).unwrap();
        assert_eq!(say(vec![], 3), "a matrix of 0 rows and 3 columns has no solution");
        assert_eq!(
            say(vec![patch(1, &[None, None])], 3),
            "matrix 1 of patch 0 (counted from 0) were asked for, where there are 1"
        );
        assert_eq!(
            say(vec![patch(0, &[None])], 3),
            "there are 1 columns in the map of a patch, where there should be 2"
        );
        assert_eq!(
            say(vec![patch(0, &[Some(3), None])], 3),
            "voxel 3 of patch 0 (counted from 0) were asked for, where there are 3"
        );
        let said = Patch::new(0, &[Some(1), Some(1)]).unwrap_err().to_string();
        assert_eq!(said, "the patch cannot be used: columns 0 and 1 of its matrix are both voxel 1");
    }
}
