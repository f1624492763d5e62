//! One frame, or many side by side: what Kaczmarz's method does with the values of a row.

use num_complex::Complex;

use super::kernels::{LANES, Lanes};
use super::operator::Operator;
use super::real::Real;
use super::vector::norm_squared;

/// From how many frames on a panel is faster than one frame after the other; fewer leave its lanes empty.
pub(super) const PANEL_FRAMES_MIN: usize = 4;

/// The value of a voxel or of a row, in one frame or in [`LANES`].
pub(super) trait Value<T: Real>: Copy + Send + Sync {
    /// Parts of an image in a sweep, at most: as many threads can share it.
    const PARTS_MAX: usize;
    fn zero() -> Self;
    fn get(&self, frame: usize) -> Complex<T>;
    fn set(&mut self, frame: usize, value: Complex<T>);
    /// Multiplies with a number.
    fn multiply(&mut self, factor: T);
    /// self += factor other
    fn add_scaled(&mut self, factor: T, other: &Self);
    /// self -= factor other
    fn sub_product(&mut self, factor: Complex<T>, other: &Self);
    /// [`Operator::part_dot`]
    fn dot(operator: &dyn Operator<T>, rows: &[usize], first: usize, x: &[Self], out: &mut [Self]);
    /// [`Operator::forward`]
    fn forward(operator: &dyn Operator<T>, x: &[Self], y: &mut [Self]);
    /// [`Operator::part_axpy`]
    fn axpy(operator: &dyn Operator<T>, rows: &[usize], alpha: &[Self], first: usize, x: &mut [Self]);
}

impl<T: Real> Value<T> for Complex<T> {
    // One frame waits for memory, of which two threads already took two thirds of what a sum over it does.
    const PARTS_MAX: usize = 2;

    fn zero() -> Self {
        Self::new(T::zero(), T::zero())
    }

    fn get(&self, _: usize) -> Complex<T> {
        *self
    }

    fn set(&mut self, _: usize, value: Complex<T>) {
        *self = value;
    }

    fn multiply(&mut self, factor: T) {
        *self = Self::new(self.re * factor, self.im * factor);
    }

    fn add_scaled(&mut self, factor: T, other: &Self) {
        *self += other.scale(factor);
    }

    fn sub_product(&mut self, factor: Complex<T>, other: &Self) {
        *self -= factor * other;
    }

    fn dot(operator: &dyn Operator<T>, rows: &[usize], first: usize, x: &[Self], out: &mut [Self]) {
        operator.part_dot(rows, first, x, out);
    }

    fn forward(operator: &dyn Operator<T>, x: &[Self], y: &mut [Self]) {
        operator.forward(x, y);
    }

    fn axpy(operator: &dyn Operator<T>, rows: &[usize], alpha: &[Self], first: usize, x: &mut [Self]) {
        operator.part_axpy(rows, alpha, first, x);
    }
}

impl<T: Real> Value<T> for Lanes<T> {
    // Many frames wait for the processor.
    const PARTS_MAX: usize = 8;

    fn zero() -> Self {
        Self::zero()
    }

    fn get(&self, frame: usize) -> Complex<T> {
        Self::get(self, frame)
    }

    fn set(&mut self, frame: usize, value: Complex<T>) {
        Self::set(self, frame, value);
    }

    fn multiply(&mut self, factor: T) {
        Self::scale(self, factor);
    }

    fn add_scaled(&mut self, factor: T, other: &Self) {
        for lane in 0..LANES {
            self.re[lane] += factor * other.re[lane];
            self.im[lane] += factor * other.im[lane];
        }
    }

    fn sub_product(&mut self, factor: Complex<T>, other: &Self) {
        for lane in 0..LANES {
            self.re[lane] -= factor.re * other.re[lane] - factor.im * other.im[lane];
            self.im[lane] -= factor.re * other.im[lane] + factor.im * other.re[lane];
        }
    }

    fn dot(operator: &dyn Operator<T>, rows: &[usize], first: usize, x: &[Self], out: &mut [Self]) {
        operator.panel_dot(rows, first, x, out);
    }

    fn forward(operator: &dyn Operator<T>, x: &[Self], y: &mut [Self]) {
        operator.panel_forward(x, y);
    }

    fn axpy(operator: &dyn Operator<T>, rows: &[usize], alpha: &[Self], first: usize, x: &mut [Self]) {
        operator.panel_axpy(rows, alpha, first, x);
    }
}

/// Puts frames, one after the other in memory, side by side; at most as many as a value holds. The lanes that are
/// left are zero.
pub(super) fn pack<T: Real, V: Value<T>>(frames: &[Complex<T>], length: usize) -> Vec<V> {
    let mut out = vec![V::zero(); length];
    for (lane, frame) in frames.chunks_exact(length).enumerate() {
        out.iter_mut().zip(frame).for_each(|(to, from)| to.set(lane, *from));
    }
    out
}

/// The way back.
pub(super) fn unpack<T: Real, V: Value<T>>(values: &[V], frames: &mut [Complex<T>]) {
    for (lane, frame) in frames.chunks_exact_mut(values.len()).enumerate() {
        frame.iter_mut().zip(values).for_each(|(to, from)| *to = from.get(lane));
    }
}

/// ‖A x − b‖ of every frame, b and x being frame after frame.
pub(super) fn residuals<T: Real>(operator: &dyn Operator<T>, b: &[Complex<T>], x: &[Complex<T>]) -> Vec<f64> {
    let (m, n) = (operator.rows(), operator.columns());
    let group = |b: &[Complex<T>], x: &[Complex<T>]| {
        if b.len() / m < PANEL_FRAMES_MIN {
            b.chunks_exact(m)
                .zip(x.chunks_exact(n))
                .flat_map(|(b, x)| few::<T, Complex<T>>(operator, b, x))
                .collect()
        } else {
            few::<T, Lanes<T>>(operator, b, x)
        }
    };
    b.chunks(LANES * m).zip(x.chunks(LANES * n)).flat_map(|(b, x)| group(b, x)).collect()
}

/// [`residuals`] of as many frames as a value holds.
fn few<T: Real, V: Value<T>>(operator: &dyn Operator<T>, b: &[Complex<T>], x: &[Complex<T>]) -> Vec<f64> {
    let (m, n) = (operator.rows(), operator.columns());
    let x: Vec<V> = pack(x, n);
    let mut ax = vec![V::zero(); m];
    V::forward(operator, &x, &mut ax);
    let residual = |(lane, b): (usize, &[Complex<T>])| {
        let squares = ax.iter().zip(b).map(|(ax, b)| norm_squared(&[ax.get(lane) - b]));
        squares.sum::<f64>().sqrt()
    };
    b.chunks_exact(m).enumerate().map(residual).collect()
}
