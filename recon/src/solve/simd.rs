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

/// A set of instructions that this processor has.
#[derive(Debug, Clone, Copy)]
pub(super) enum Instructions {
    /// What the program was compiled for.
    Compiled,
    /// 256 bits, fused.
    #[cfg(target_arch = "x86_64")]
    Avx2(fearless_simd::Avx2),
    /// 512 bits, fused.
    #[cfg(target_arch = "x86_64")]
    Avx512(fearless_simd::Avx512),
}

impl Instructions {
    /// The widest.
    #[inline]
    pub(super) fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let level = fearless_simd::Level::new();
            if let Some(token) = level.as_avx512() {
                return Self::Avx512(token);
            }
            if let Some(token) = level.as_avx2() {
                return Self::Avx2(token);
            }
        }
        Self::Compiled
    }

    /// Runs a loop with them.
    #[inline]
    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(token) => fearless_simd::Simd::vectorize(
                token,
                #[inline(always)]
                || kernel.run::<Fused>(),
            ),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(token) => fearless_simd::Simd::vectorize(
                token,
                #[inline(always)]
                || kernel.run::<Fused>(),
            ),
            Self::Compiled if cfg!(any(target_feature = "fma", target_arch = "aarch64")) => {
                kernel.run::<Fused>()
            }
            Self::Compiled => kernel.run::<Separate>(),
        }
    }
}

/// Runs a loop with the widest vectors that this processor has.
#[inline]
pub(super) fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    Instructions::best().run(kernel)
}
