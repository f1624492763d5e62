//! The two precisions of a solver.

use std::fmt::{Debug, Display};

use num_traits::{Float, FromPrimitive, NumAssign};

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// A real number that a solver computes with: `f32`, as scanners store their matrices, or `f64`.
pub trait Real:
    sealed::Sealed + Float + FromPrimitive + NumAssign + Default + Debug + Display + Send + Sync + 'static
{
    /// The nearest number of this precision; infinite where `value` is beyond its range.
    #[must_use]
    fn of(value: f64) -> Self;

    /// The same number in double precision.
    #[must_use]
    fn wide(self) -> f64;
}

impl Real for f32 {
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "rounding to the nearest is what is asked for")]
    fn of(value: f64) -> Self {
        value as f32
    }

    #[inline]
    fn wide(self) -> f64 {
        f64::from(self)
    }
}

impl Real for f64 {
    #[inline]
    fn of(value: f64) -> Self {
        value
    }

    #[inline]
    fn wide(self) -> f64 {
        self
    }
}

/// A count as a number of double precision. Exact up to 2^53, more than a matrix in memory can have entries.
#[expect(clippy::cast_precision_loss, reason = "counts of rows and columns are far below 2^53")]
pub(super) fn count(value: usize) -> f64 {
    value as f64
}
