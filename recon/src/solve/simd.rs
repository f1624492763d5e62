//! Which vector instructions an inner loop runs with.
//!
//! The loops are plain Rust over arrays of a fixed length, which LLVM turns into vector instructions. Which ones
//! it may use is decided while the program runs: a build for every x86-64 processor would otherwise stay at 128
//! bits. AVX2 and AVX-512 give the same bits, since both fuse and the length of the arrays does not change.

use super::real::Real;

/// Multiplication and addition, with one rounding where the processor has an instruction for it.
pub(super) trait Fuse {
    /// `a * b + c`.
    fn mac<T: Real>(a: T, b: T, c: T) -> T;
}

/// One rounding. Without the instruction this would be a slow call of the C library.
pub(super) struct Fused;

impl Fuse for Fused {
    #[inline(always)]
    fn mac<T: Real>(a: T, b: T, c: T) -> T {
        a.mul_add(b, c)
    }
}

/// Two roundings.
pub(super) struct Separate;

impl Fuse for Separate {
    #[inline(always)]
    fn mac<T: Real>(a: T, b: T, c: T) -> T {
        a * b + c
    }
}

/// An inner loop. `run` and all that it calls must be `inline(always)`, or it stays at 128 bits.
pub(super) trait Kernel {
    /// What it computes.
    type Output;

    /// The loop.
    fn run<F: Fuse>(self) -> Self::Output;
}

/// Runs a loop with the widest vectors that this processor has.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(super) fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    use fearless_simd::{Level, Simd};

    let level = Level::new();
    if let Some(token) = level.as_avx512() {
        return token.vectorize(
            #[inline(always)]
            || kernel.run::<Fused>(),
        );
    }
    if let Some(token) = level.as_avx2() {
        return token.vectorize(
            #[inline(always)]
            || kernel.run::<Fused>(),
        );
    }
    kernel.run::<Separate>()
}

/// Runs a loop as it was compiled.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
pub(super) fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    if cfg!(target_feature = "fma") || cfg!(target_arch = "aarch64") {
        kernel.run::<Fused>()
    } else {
        kernel.run::<Separate>()
    }
}
