//! A sparse matrix of complex numbers: row after row, the entries that are not zero.

use num_complex::Complex;

use super::basis::{Basis, Cosine};
use super::kernels::{LANES, Lanes};
use super::operator::Operator;
use super::real::Real;
use super::simd::{Fuse, Kernel, dispatch};
use crate::Error;

/// Sums that a row's products go to in turn: an addition takes several cycles.
const SUMS: usize = 4;

/// A matrix of M rows and N columns of which few entries are not zero; all are finite. Its columns are voxels, or
/// the coefficients of a cosine transform.
#[derive(Debug, Clone)]
pub struct SparseMatrix<T: Real> {
    columns: usize,
    /// Where each row begins, and where the last ends.
    starts: Vec<usize>,
    /// The column of each entry, ascending within a row.
    places: Vec<u32>,
    values: Vec<Complex<T>>,
    basis: Option<Cosine>,
}

impl<T: Real> SparseMatrix<T> {
    /// A matrix without rows yet, of N voxels.
    ///
    /// # Errors
    /// [`Error::Empty`] for no column, or more than 2³² - 1.
    pub fn new(columns: usize) -> Result<Self, Error> {
        if columns == 0 || u32::try_from(columns).is_err() {
            return Err(Error::Empty { rows: 0, columns });
        }
        Ok(Self { columns, starts: vec![0], places: Vec::new(), values: Vec::new(), basis: None })
    }

    /// A matrix without rows yet, whose columns are the coefficients of an image.
    ///
    /// # Errors
    /// As [`SparseMatrix::new`].
    pub fn of_coefficients(basis: Cosine) -> Result<Self, Error> {
        let empty = Self::new(basis.points())?;
        Ok(Self { basis: Some(basis), ..empty })
    }

    /// Appends a row of columns, ascending, and their values.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for columns that do not ascend or are not there, [`Error::NotFinite`] with the entry's place
    /// in the row; the matrix is as before then.
    pub fn push(&mut self, entries: &[(usize, Complex<T>)]) -> Result<(), Error> {
        let ascend = entries.windows(2).all(|pair| pair[0].0 < pair[1].0);
        if !ascend || entries.last().is_some_and(|last| last.0 >= self.columns) {
            let what =
                format!("the columns {:?} of a row", entries.iter().map(|entry| entry.0).collect::<Vec<_>>());
            return Err(Error::OutOfRange { what, limit: format!("{}, which must ascend", self.columns) });
        }
        if let Some(index) =
            entries.iter().position(|(_, value)| !(value.re.is_finite() && value.im.is_finite()))
        {
            return Err(Error::NotFinite { what: "entry of the row", index });
        }
        for (place, value) in entries {
            // Columns fit, as `new` has seen.
            self.places.push(u32::try_from(*place).unwrap_or(u32::MAX));
            self.values.push(*value);
        }
        self.starts.push(self.values.len());
        Ok(())
    }

    /// How many entries are kept.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.values.len()
    }

    /// Bytes that the entries, their columns and the starts of the rows take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.values.len() * entry_bytes::<T>() + size_of_val(&self.starts[..])
    }

    /// Takes memory for rows and entries at once.
    pub fn reserve(&mut self, rows: usize, entries: usize) {
        self.starts.reserve_exact(rows);
        self.places.reserve_exact(entries);
        self.values.reserve_exact(entries);
    }

    /// Gives back memory that no row has taken.
    pub fn shrink(&mut self) {
        self.starts.shrink_to_fit();
        self.places.shrink_to_fit();
        self.values.shrink_to_fit();
    }

    /// The columns and values of a row.
    fn row(&self, row: usize) -> (&[u32], &[Complex<T>]) {
        let range = self.starts[row]..self.starts[row + 1];
        (&self.places[range.clone()], &self.values[range])
    }

    /// The entries of a row that are in `length` columns from `first` on.
    fn cut(&self, row: usize, first: usize, length: usize) -> Entries<'_, T> {
        let (places, values) = self.row(row);
        let from = places.partition_point(|place| (*place as usize) < first);
        let to = from + places[from..].partition_point(|place| (*place as usize) < first + length);
        Entries { places: &places[from..to], values: &values[from..to], first }
    }
}

/// Bytes of an entry and its column.
pub(crate) fn entry_bytes<T: Real>() -> usize {
    size_of::<Complex<T>>() + size_of::<u32>()
}

/// Some entries of a row. Places are counted from `first`.
#[derive(Clone, Copy)]
struct Entries<'a, T> {
    places: &'a [u32],
    values: &'a [Complex<T>],
    first: usize,
}

impl<'a, T: Real> Entries<'a, T> {
    #[inline(always)]
    fn each(self) -> impl Iterator<Item = (usize, &'a Complex<T>)> {
        self.places.iter().map(move |place| *place as usize - self.first).zip(self.values)
    }
}

struct Dot<'a, T> {
    row: Entries<'a, T>,
    x: &'a [Complex<T>],
}

impl<T: Real> Kernel for Dot<'_, T> {
    type Output = Complex<T>;

    #[inline(always)]
    fn run<F: Fuse>(self) -> Complex<T> {
        let mut sums = [Complex::new(T::zero(), T::zero()); SUMS];
        for (count, (place, a)) in self.row.each().enumerate() {
            let (x, sum) = (self.x[place], &mut sums[count % SUMS]);
            sum.re = F::mac(-a.im, x.im, F::mac(a.re, x.re, sum.re));
            sum.im = F::mac(a.im, x.re, F::mac(a.re, x.im, sum.im));
        }
        (sums[0] + sums[1]) + (sums[2] + sums[3])
    }
}

struct Axpy<'a, T> {
    row: Entries<'a, T>,
    alpha: Complex<T>,
    x: &'a mut [Complex<T>],
}

impl<T: Real> Kernel for Axpy<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<F: Fuse>(self) {
        let alpha = self.alpha;
        for (place, a) in self.row.each() {
            let x = &mut self.x[place];
            x.re = F::mac(alpha.im, a.im, F::mac(alpha.re, a.re, x.re));
            x.im = F::mac(-alpha.re, a.im, F::mac(alpha.im, a.re, x.im));
        }
    }
}

struct PanelDot<'a, T> {
    row: Entries<'a, T>,
    x: &'a [Lanes<T>],
}

impl<T: Real> Kernel for PanelDot<'_, T> {
    type Output = Lanes<T>;

    #[inline(always)]
    fn run<F: Fuse>(self) -> Lanes<T> {
        let mut sum = Lanes::zero();
        for (place, a) in self.row.each() {
            let x = &self.x[place];
            for lane in 0..LANES {
                let (re, im) = (x.re[lane], x.im[lane]);
                sum.re[lane] = F::mac(-a.im, im, F::mac(a.re, re, sum.re[lane]));
                sum.im[lane] = F::mac(a.im, re, F::mac(a.re, im, sum.im[lane]));
            }
        }
        sum
    }
}

struct PanelAxpy<'a, T> {
    row: Entries<'a, T>,
    alpha: Lanes<T>,
    x: &'a mut [Lanes<T>],
}

impl<T: Real> Kernel for PanelAxpy<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<F: Fuse>(self) {
        for (place, a) in self.row.each() {
            let x = &mut self.x[place];
            for lane in 0..LANES {
                let (re, im) = (self.alpha.re[lane], self.alpha.im[lane]);
                x.re[lane] = F::mac(a.im, im, F::mac(a.re, re, x.re[lane]));
                x.im[lane] = F::mac(-a.im, re, F::mac(a.re, im, x.im[lane]));
            }
        }
    }
}

// A sum, and what is added to a voxel, is computed by one thread, row after row and column after column.
impl<T: Real> Operator<T> for SparseMatrix<T> {
    fn rows(&self) -> usize {
        self.starts.len() - 1
    }

    fn columns(&self) -> usize {
        self.columns
    }

    fn entries(&self) -> usize {
        self.values.len()
    }

    fn basis(&self) -> Option<&dyn Basis<T>> {
        self.basis.as_ref().map(|basis| basis as &dyn Basis<T>)
    }

    fn row_norm_squared(&self, row: usize) -> T {
        T::of(super::kernels::energy(self.row(row).1))
    }

    fn copy_row(&self, row: usize, out: &mut [Complex<T>]) {
        out.fill(Complex::default());
        self.cut(row, 0, self.columns).each().for_each(|(place, value)| out[place] = *value);
    }

    fn rows_dot(&self, rows: &[usize], x: &[Complex<T>], out: &mut [Complex<T>]) {
        self.part_dot(rows, 0, x, out);
    }

    fn rows_axpy(&self, rows: &[usize], alpha: &[Complex<T>], x: &mut [Complex<T>]) {
        self.part_axpy(rows, alpha, 0, x);
    }

    fn part_dot(&self, rows: &[usize], first: usize, x: &[Complex<T>], out: &mut [Complex<T>]) {
        for (&row, out) in rows.iter().zip(out) {
            *out = dispatch(Dot { row: self.cut(row, first, x.len()), x });
        }
    }

    fn part_axpy(&self, rows: &[usize], alpha: &[Complex<T>], first: usize, x: &mut [Complex<T>]) {
        for (&row, &alpha) in rows.iter().zip(alpha) {
            dispatch(Axpy { row: self.cut(row, first, x.len()), alpha, x });
        }
    }

    fn panel_dot(&self, rows: &[usize], first: usize, x: &[Lanes<T>], out: &mut [Lanes<T>]) {
        for (&row, out) in rows.iter().zip(out) {
            *out = dispatch(PanelDot { row: self.cut(row, first, x.len()), x });
        }
    }

    fn panel_axpy(&self, rows: &[usize], alpha: &[Lanes<T>], first: usize, x: &mut [Lanes<T>]) {
        for (&row, &alpha) in rows.iter().zip(alpha) {
            dispatch(PanelAxpy { row: self.cut(row, first, x.len()), alpha, x });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_make_no_sense_are_refused_and_change_nothing() {
        let one = Complex::new(1.0, 0.0);
        let mut matrix = SparseMatrix::<f64>::new(3).unwrap();
        for bad in [&[(1, one), (0, one)][..], &[(3, one)], &[(1, one), (1, one)]] {
            let said = matrix.push(bad).unwrap_err().to_string();
            assert!(said.ends_with("were asked for, where there are 3, which must ascend"), "{said}");
        }
        let said = matrix.push(&[(0, one), (2, one * f64::NAN)]).unwrap_err().to_string();
        assert_eq!(said, "entry of the row number 1 (counted from 0) is not finite");
        assert_eq!((matrix.rows(), matrix.kept()), (0, 0));
        assert!(SparseMatrix::<f64>::new(0).is_err());
    }

    #[test]
    fn memory_is_that_of_entries_and_their_columns() {
        let mut matrix = SparseMatrix::<f32>::new(100).unwrap();
        let one = Complex::new(1.0, 0.0);
        matrix.push(&[(5, one), (99, one)]).unwrap();
        matrix.push(&[]).unwrap();
        // 2 entries of 8 + 4 bytes, and 3 starts.
        assert_eq!((matrix.kept(), matrix.bytes()), (2, 24 + 3 * size_of::<usize>()));
        let parts = size_of_val(&matrix.places[..]) + size_of_val(&matrix.values[..]);
        assert_eq!(matrix.bytes(), parts + size_of_val(&matrix.starts[..]));
        matrix.reserve(100, 100);
        matrix.shrink();
        let taken = 8 * matrix.values.capacity() + 4 * matrix.places.capacity();
        assert_eq!(matrix.bytes(), taken + size_of::<usize>() * matrix.starts.capacity());
    }
}
