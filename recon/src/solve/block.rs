//! Kaczmarz's method for several rows at once, with the iterates of one row after the other.
//!
//! Row after row, α_i = d_i (u_i − a_i·x − ε v_i) with d_i = 1 / (‖a_i‖² + λ), and x changes by α_i conj(a_i) in between.
//! Written out for the rows of a block, with x and v as they were before it, r_i = u_i − a_i·x − ε v_i and
//! G_ij = a_i·conj(a_j), that is α_i = d_i (r_i − Σ_{j<i} G_ij α_j), or (D⁻¹ + L) α = r with the strictly lower part L of G.
//! A row occurs once in a sweep, so v_i does not change within a block. What is left are products of the block with
//! the image and the solution of a small triangular system. The same matrix entries are read twice, but the second
//! time from a cache, and rows share what is loaded of the image.

use num_complex::Complex;
use rayon::prelude::*;

use super::frames::Value;
use super::operator::Operator;
use super::real::Real;

/// The triangles L of all blocks of a sweep; they depend on the matrix, the weights and the order, not on λ.
#[derive(Debug)]
pub(super) struct Triangles<T> {
    size: usize,
    /// Block after block; row i of a block begins at i (i − 1) / 2.
    blocks: Vec<Vec<Complex<T>>>,
}

impl<T: Real> Triangles<T> {
    /// Computes the triangles for rows in the order of the sweep. They hold (size − 1) / 2 numbers per row.
    pub(super) fn new(operator: &dyn Operator<T>, order: &[usize], size: usize) -> Self {
        let blocks = if size == 1 {
            Vec::new() // nothing is below the diagonal
        } else {
            order.par_chunks(size).map(|rows| operator.gram(rows)).collect()
        };
        Self { size, blocks }
    }

    /// One row after the other.
    pub(super) fn sequential() -> Self {
        Self { size: 1, blocks: Vec::new() }
    }

    /// Rows of a block.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Solves (D⁻¹ + L) α = r in place, forward. `inverse(i)` is d of the block's row i.
    pub(super) fn substitute<V: Value<T>>(
        &self,
        block: usize,
        alpha: &mut [V],
        inverse: impl Fn(usize) -> T,
    ) {
        for i in 0..alpha.len() {
            let (done, rest) = alpha.split_at_mut(i);
            if i > 0 {
                let row = &self.blocks[block][i * (i - 1) / 2..][..i];
                row.iter().zip(done.iter()).for_each(|(factor, alpha)| rest[0].sub_product(*factor, alpha));
            }
            rest[0].multiply(inverse(i));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::matrix::Matrix;
    use super::*;

    #[test]
    fn the_triangular_system_is_solved() {
        let entries = [(1.0, 2.0), (0.5, 0.0), (0.0, -1.0), (2.0, 1.0), (1.0, 1.0), (3.0, 0.0)];
        let entries = entries.map(|(re, im)| Complex::<f64>::new(re, im));
        let matrix = Matrix::borrowed(3, 2, &entries).unwrap();
        let order = [2, 0, 1];
        let triangles = Triangles::new(&matrix, &order, 3);
        let right = [(1.0, 0.0), (0.0, 1.0), (2.0, -1.0)].map(|(re, im)| Complex::new(re, im));
        let mut alpha = right;
        triangles.substitute(0, &mut alpha, |i| 1.0 / (10.0 + [0.0, 1.0, 2.0][i]));
        for i in 0..3 {
            let mut sum = alpha[i].scale([10.0, 11.0, 12.0][i]);
            for j in 0..i {
                let product = |n: usize| matrix.row(order[i])[n] * matrix.row(order[j])[n].conj();
                sum += (product(0) + product(1)) * alpha[j];
            }
            assert!((sum - right[i]).norm() < 1e-12, "row {i}");
        }
    }
}
