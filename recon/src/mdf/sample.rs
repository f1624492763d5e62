//! The number types in which samples can be had.

use num_complex::Complex;

/// What samples are wanted as.
pub trait Sample: Copy + Default {
    /// It has an imaginary part.
    const COMPLEX: bool;
    /// Rounds to it. A real type leaves the imaginary part out.
    fn from_complex(number: Complex<f64>) -> Self;
}

impl Sample for f64 {
    const COMPLEX: bool = false;
    fn from_complex(number: Complex<f64>) -> Self {
        number.re
    }
}

impl Sample for f32 {
    const COMPLEX: bool = false;
    #[expect(clippy::cast_possible_truncation, reason = "the caller asked for single precision")]
    fn from_complex(number: Complex<f64>) -> Self {
        number.re as Self
    }
}

/// Towards 0, and to the nearest that there is.
impl Sample for i16 {
    const COMPLEX: bool = false;
    #[expect(clippy::cast_possible_truncation, reason = "the caller asked for integers")]
    fn from_complex(number: Complex<f64>) -> Self {
        number.re as Self
    }
}

/// Towards 0, and to the nearest that there is.
impl Sample for i32 {
    const COMPLEX: bool = false;
    #[expect(clippy::cast_possible_truncation, reason = "the caller asked for integers")]
    fn from_complex(number: Complex<f64>) -> Self {
        number.re as Self
    }
}

impl Sample for Complex<f64> {
    const COMPLEX: bool = true;
    fn from_complex(number: Complex<f64>) -> Self {
        number
    }
}

impl Sample for Complex<f32> {
    const COMPLEX: bool = true;
    fn from_complex(number: Complex<f64>) -> Self {
        Self::new(f32::from_complex(number), f32::from_complex(Complex::new(number.im, 0.0)))
    }
}
