//! Vectors: inner products in double precision, sums of multiples.

use num_complex::Complex;

use super::real::Real;

/// ‖x‖²
pub(super) fn norm_squared<T: Real>(x: &[Complex<T>]) -> f64 {
    x.iter().map(|value| value.re.wide().powi(2) + value.im.wide().powi(2)).sum()
}

/// ‖x‖
pub(super) fn norm<T: Real>(x: &[Complex<T>]) -> f64 {
    norm_squared(x).sqrt()
}

/// The real part of Σ conj(x_n) y_n.
pub(super) fn inner<T: Real>(x: &[Complex<T>], y: &[Complex<T>]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x.re.wide() * y.re.wide() + x.im.wide() * y.im.wide()).sum()
}

/// y += factor x
pub(super) fn add<T: Real>(y: &mut [Complex<T>], factor: f64, x: &[Complex<T>]) {
    let factor = T::of(factor);
    y.iter_mut().zip(x).for_each(|(y, x)| *y += x.scale(factor));
}

/// y = x + factor y
pub(super) fn grow<T: Real>(y: &mut [Complex<T>], factor: f64, x: &[Complex<T>]) {
    let factor = T::of(factor);
    y.iter_mut().zip(x).for_each(|(y, x)| *y = x + y.scale(factor));
}

/// Zeros.
pub(super) fn zeros<T: Real>(length: usize) -> Vec<Complex<T>> {
    vec![Complex::default(); length]
}
