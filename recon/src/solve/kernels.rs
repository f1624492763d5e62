//! The inner loops: sums over a row, and a row added to an image.
//!
//! For one frame a row and an image are pairs (re, im) in memory. Products of complex numbers as they stand make
//! LLVM shuffle for every product. Here the loops run over the pairs as plain numbers: one sum of `a[j] * x[j]`
//! and one of `a[j] * x[j ^ 1]`, and only the ends of the loops tell real from imaginary parts. Each sum has as
//! many accumulators as the chunk has numbers, because an addition takes several cycles and may not be reordered.
//!
//! For many frames a voxel holds the real parts of all frames, then the imaginary ones ([`Lanes`]); an entry of
//! the matrix is multiplied with all of them, and nothing is shuffled at all.

use num_complex::Complex;

use super::real::Real;
use super::simd::{Fuse, Kernel, dispatch};

/// Frames that go through the matrix together; a vector of AVX-512 in single precision.
pub const LANES: usize = 16;

/// Pairs per step of a loop over one frame: two sums of one AVX-512 vector in single precision. Twice as many make LLVM
/// take the arrays apart, and the loops five times slower.
const CHUNK: usize = 8;
/// Numbers per step.
const FLAT: usize = 2 * CHUNK;

/// Rows per step: their products share what is loaded of the image.
const GROUP: usize = 4;

/// Voxels per pass over a group of rows, so that the images of 16 frames stay in the first cache (32 KiB in
/// single precision), and that no sum in single precision is longer than that.
const TILE: usize = 256;

/// The values of one voxel, or of one row, in [`LANES`] frames.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(64))]
pub struct Lanes<T> {
    /// The real parts.
    pub re: [T; LANES],
    /// The imaginary parts.
    pub im: [T; LANES],
}

impl<T: Real> Lanes<T> {
    /// Zero in all frames.
    #[must_use]
    #[inline(always)]
    pub fn zero() -> Self {
        Self { re: [T::zero(); LANES], im: [T::zero(); LANES] }
    }

    /// The value in one frame.
    #[must_use]
    pub fn get(&self, lane: usize) -> Complex<T> {
        Complex::new(self.re[lane], self.im[lane])
    }

    /// Sets the value in one frame.
    pub fn set(&mut self, lane: usize, value: Complex<T>) {
        (self.re[lane], self.im[lane]) = (value.re, value.im);
    }

    /// Multiplies all frames with a number.
    pub fn scale(&mut self, factor: T) {
        self.re.iter_mut().chain(&mut self.im).for_each(|value| *value *= factor);
    }

    #[inline(always)]
    fn add(&mut self, other: &Self) {
        for lane in 0..LANES {
            self.re[lane] += other.re[lane];
            self.im[lane] += other.im[lane];
        }
    }
}

#[inline(always)]
fn flat<T: Real>(pairs: &[Complex<T>]) -> [T; FLAT] {
    let mut out = [T::zero(); FLAT];
    for (two, pair) in out.chunks_exact_mut(2).zip(pairs) {
        two[0] = pair.re;
        two[1] = pair.im;
    }
    out
}

/// Sums of products of the numbers at the same place and at the place beside it.
#[derive(Clone, Copy)]
struct Sums<T> {
    same: [T; FLAT],
    beside: [T; FLAT],
}

impl<T: Real> Sums<T> {
    #[inline(always)]
    fn zero() -> Self {
        Self { same: [T::zero(); FLAT], beside: [T::zero(); FLAT] }
    }

    #[inline(always)]
    fn add<F: Fuse>(&mut self, a: &[T; FLAT], x: &[T; FLAT]) {
        for j in 0..FLAT {
            self.same[j] = F::mac(a[j], x[j], self.same[j]);
            self.beside[j] = F::mac(a[j], x[j ^ 1], self.beside[j]);
        }
    }

    /// Σ a x, from the parts re re - im im and re im + im re.
    #[inline(always)]
    fn product(&self) -> Complex<T> {
        let (re_re, im_im) = halves(&self.same);
        let (re_im, im_re) = halves(&self.beside);
        Complex::new(re_re - im_im, re_im + im_re)
    }
}

/// The sums of the numbers at even and at odd places.
#[inline(always)]
fn halves<T: Real>(values: &[T; FLAT]) -> (T, T) {
    let mut tree = *values;
    let mut width = FLAT / 2;
    while width >= 2 {
        for j in 0..width {
            tree[j] += tree[j + width];
        }
        width /= 2;
    }
    (tree[0], tree[1])
}

struct Dots<'a, T, const R: usize> {
    rows: [&'a [Complex<T>]; R],
    x: &'a [Complex<T>],
}

impl<T: Real, const R: usize> Kernel for Dots<'_, T, R> {
    type Output = [Complex<T>; R];

    #[inline(always)]
    fn run<F: Fuse>(self) -> Self::Output {
        let length = self.x.len();
        let whole = length - length % CHUNK;
        let mut sums = [Sums::zero(); R];
        let rows = self.rows.map(|row| &row[..length]);
        for at in (0..whole).step_by(CHUNK) {
            let x = flat(&self.x[at..at + CHUNK]);
            for r in 0..R {
                sums[r].add::<F>(&flat(&rows[r][at..at + CHUNK]), &x);
            }
        }
        let x = flat(&self.x[whole..]);
        for r in 0..R {
            sums[r].add::<F>(&flat(&rows[r][whole..]), &x);
        }
        sums.map(|sum| sum.product())
    }
}

struct Axpys<'a, T, const R: usize> {
    rows: [&'a [Complex<T>]; R],
    alpha: [Complex<T>; R],
    x: &'a mut [Complex<T>],
}

impl<T: Real, const R: usize> Kernel for Axpys<'_, T, R> {
    type Output = ();

    #[inline(always)]
    fn run<F: Fuse>(self) {
        // α conj(a) has the parts α.re a.re + α.im a.im and α.im a.re - α.re a.im.
        let same =
            self.alpha.map(|alpha| std::array::from_fn(|j| if j % 2 == 0 { alpha.re } else { -alpha.re }));
        let beside = self.alpha.map(|alpha| [alpha.im; FLAT]);
        let length = self.x.len();
        let rows = self.rows.map(|row| &row[..length]);
        let mut at = 0;
        while at + CHUNK <= length {
            let here = &mut self.x[at..at + CHUNK];
            let mut sum = flat(here);
            for r in 0..R {
                add_row::<T, F>(&mut sum, &flat(&rows[r][at..at + CHUNK]), &same[r], &beside[r]);
            }
            store(here, &sum);
            at += CHUNK;
        }
        let here = &mut self.x[at..];
        let mut sum = flat(here);
        for r in 0..R {
            add_row::<T, F>(&mut sum, &flat(&rows[r][at..]), &same[r], &beside[r]);
        }
        store(here, &sum);
    }
}

#[inline(always)]
fn add_row<T: Real, F: Fuse>(sum: &mut [T; FLAT], row: &[T; FLAT], same: &[T; FLAT], beside: &[T; FLAT]) {
    for j in 0..FLAT {
        sum[j] = F::mac(same[j], row[j], sum[j]);
        sum[j] = F::mac(beside[j], row[j ^ 1], sum[j]);
    }
}

#[inline(always)]
fn store<T: Real>(pairs: &mut [Complex<T>], values: &[T; FLAT]) {
    for (pair, two) in pairs.iter_mut().zip(values.chunks_exact(2)) {
        *pair = Complex::new(two[0], two[1]);
    }
}

struct PanelDots<'a, T, const R: usize> {
    rows: [&'a [Complex<T>]; R],
    x: &'a [Lanes<T>],
}

impl<T: Real, const R: usize> Kernel for PanelDots<'_, T, R> {
    type Output = [Lanes<T>; R];

    #[inline(always)]
    fn run<F: Fuse>(self) -> Self::Output {
        let rows = self.rows.map(|row| &row[..self.x.len()]);
        let mut sums = [Lanes::zero(); R];
        for (n, x) in self.x.iter().enumerate() {
            for r in 0..R {
                let a = rows[r][n];
                for lane in 0..LANES {
                    let (re, im) = (x.re[lane], x.im[lane]);
                    sums[r].re[lane] = F::mac(-a.im, im, F::mac(a.re, re, sums[r].re[lane]));
                    sums[r].im[lane] = F::mac(a.im, re, F::mac(a.re, im, sums[r].im[lane]));
                }
            }
        }
        sums
    }
}

struct PanelAxpys<'a, T, const R: usize> {
    rows: [&'a [Complex<T>]; R],
    alpha: [Lanes<T>; R],
    x: &'a mut [Lanes<T>],
}

impl<T: Real, const R: usize> Kernel for PanelAxpys<'_, T, R> {
    type Output = ();

    #[inline(always)]
    fn run<F: Fuse>(self) {
        let rows = self.rows.map(|row| &row[..self.x.len()]);
        for (n, x) in self.x.iter_mut().enumerate() {
            let mut sum = *x;
            for (row, alpha) in rows.iter().zip(&self.alpha) {
                let a = row[n];
                for lane in 0..LANES {
                    let (re, im) = (alpha.re[lane], alpha.im[lane]);
                    sum.re[lane] = F::mac(a.im, im, F::mac(a.re, re, sum.re[lane]));
                    sum.im[lane] = F::mac(-a.im, re, F::mac(a.re, im, sum.im[lane]));
                }
            }
            *x = sum;
        }
    }
}

struct Energy<'a, T> {
    row: &'a [Complex<T>],
}

impl<T: Real> Kernel for Energy<'_, T> {
    type Output = f64;

    #[inline(always)]
    fn run<F: Fuse>(self) -> f64 {
        let mut sums = [0.0; CHUNK];
        let (chunks, rest) = self.row.as_chunks::<CHUNK>();
        for chunk in chunks {
            for (sum, a) in sums.iter_mut().zip(chunk) {
                *sum = F::mac(a.re.wide(), a.re.wide(), F::mac(a.im.wide(), a.im.wide(), *sum));
            }
        }
        let tail: f64 = rest.iter().map(|a| a.re.wide() * a.re.wide() + a.im.wide() * a.im.wide()).sum();
        sums.iter().sum::<f64>() + tail
    }
}

/// Σ |`row[n]`|², in double precision.
pub(crate) fn energy<T: Real>(row: &[Complex<T>]) -> f64 {
    dispatch(Energy { row })
}

/// `out[i]` = Σ `rows[i][n] x[n]`, without conjugation. All rows are as long as `x`.
pub(super) fn dots<T: Real>(rows: &[&[Complex<T>]], x: &[Complex<T>], out: &mut [Complex<T>]) {
    for (group, out) in rows.chunks(GROUP).zip(out.chunks_mut(GROUP)) {
        if let Ok(rows) = <[_; GROUP]>::try_from(group) {
            out.copy_from_slice(&dispatch(Dots { rows, x }));
        } else {
            for (row, out) in group.iter().zip(out) {
                [*out] = dispatch(Dots { rows: [row], x });
            }
        }
    }
}

/// `x[n]` += Σ `alpha[i] conj(rows[i][n])`.
pub(super) fn axpys<T: Real>(rows: &[&[Complex<T>]], alpha: &[Complex<T>], x: &mut [Complex<T>]) {
    for (group, some) in rows.chunks(GROUP).zip(alpha.chunks(GROUP)) {
        let alpha = std::array::from_fn(|r| some.get(r).copied().unwrap_or_default());
        dispatch(Axpys { rows: filled(group, 0, x.len()), alpha, x });
    }
}

/// [`dots`] for many frames.
pub(super) fn panel_dots<T: Real>(rows: &[&[Complex<T>]], x: &[Lanes<T>], out: &mut [Lanes<T>]) {
    out.fill(Lanes::zero());
    for start in (0..x.len()).step_by(TILE) {
        let end = x.len().min(start + TILE);
        for (group, out) in rows.chunks(GROUP).zip(out.chunks_mut(GROUP)) {
            let sums = dispatch(PanelDots { rows: filled(group, start, end), x: &x[start..end] });
            out.iter_mut().zip(&sums).for_each(|(out, sum)| out.add(sum));
        }
    }
}

/// [`axpys`] for many frames.
pub(super) fn panel_axpys<T: Real>(rows: &[&[Complex<T>]], alpha: &[Lanes<T>], x: &mut [Lanes<T>]) {
    let mut start = 0;
    for x in x.chunks_mut(TILE) {
        let end = start + x.len();
        for (group, some) in rows.chunks(GROUP).zip(alpha.chunks(GROUP)) {
            let alpha = std::array::from_fn(|r| some.get(r).copied().unwrap_or_else(Lanes::zero));
            dispatch(PanelAxpys { rows: filled(group, start, end), alpha, x });
        }
        start = end;
    }
}

/// Columns of a group of rows, the first row again where there are fewer: they are added zero times, or their sums are
/// dropped. With one row LLVM would vectorise over the voxels, which takes eight times as long as four rows.
fn filled<'a, T>(group: &[&'a [Complex<T>]], start: usize, end: usize) -> [&'a [Complex<T>]; GROUP] {
    std::array::from_fn(|r| &group.get(r).unwrap_or(&group[0])[start..end])
}

#[cfg(test)]
mod tests {
    use super::super::order::SplitMix64;
    use super::super::simd::Instructions;
    use super::*;

    fn random<T: Real>(length: usize, seed: u64) -> Vec<Complex<T>> {
        let mut source = SplitMix64::new(seed);
        let mut next = || T::of(source.unit() - 0.5);
        (0..length).map(|_| Complex::new(next(), next())).collect()
    }

    /// Lengths around the chunk and the tile, rows around the group.
    fn cases() -> impl Iterator<Item = (usize, usize)> {
        [1, 7, 8, 9, 31, 255, 256, 257, 600].into_iter().flat_map(|n| [1, 3, 4, 5, 9].map(|rows| (rows, n)))
    }

    #[test]
    fn sums_of_one_frame_are_those_of_the_definition() {
        for (count, n) in cases() {
            let (a, mut x) = (random::<f64>(count * n, 1), random::<f64>(n, 2));
            let rows: Vec<&[_]> = a.chunks(n).collect();
            let mut out = vec![Complex::default(); count];
            dots(&rows, &x, &mut out);
            for (row, out) in rows.iter().zip(&out) {
                let expected: Complex<f64> = row.iter().zip(&x).map(|(a, x)| a * x).sum();
                assert!((expected - out).norm() < 1e-12, "{count} rows of {n}");
            }
            let alpha = random::<f64>(count, 3);
            let mut expected = x.clone();
            for (row, alpha) in rows.iter().zip(&alpha) {
                expected.iter_mut().zip(*row).for_each(|(x, a)| *x += alpha * a.conj());
            }
            axpys(&rows, &alpha, &mut x);
            assert!(x.iter().zip(&expected).all(|(x, y)| (x - y).norm() < 1e-12), "{count} rows of {n}");
        }
    }

    #[test]
    fn avx2_and_avx512_give_the_same_bits_and_others_the_same_numbers() {
        let level = fearless_simd::Level::new();
        let avx2 = Instructions::Avx2(level.as_avx2().expect("the test needs a processor with AVX2"));
        let (a, x) = (random::<f32>(4 * 1000, 8), random::<f32>(1000, 9));
        let rows: [&[_]; GROUP] = std::array::from_fn(|r| &a[r * 1000..][..1000]);
        let dots = |with: Instructions| with.run(Dots { rows, x: &x });
        let axpys = |with: Instructions| {
            let mut out = x.clone();
            with.run(Axpys { rows, alpha: [x[0]; GROUP], x: &mut out });
            out
        };
        assert_eq!(dots(avx2), dots(Instructions::best()));
        assert_eq!(axpys(avx2), axpys(Instructions::best()));
        let near = |a: &[Complex<f32>], b: &[Complex<f32>]| {
            a.iter().zip(b).all(|(a, b)| (a - b).norm() < 1e-5 * (1.0 + a.norm()))
        };
        assert!(near(&dots(avx2), &dots(Instructions::Compiled)));
        assert!(near(&axpys(avx2), &axpys(Instructions::Compiled)));
    }

    #[test]
    fn every_lane_of_a_panel_is_a_frame_of_its_own() {
        for (count, n) in cases() {
            let a = random::<f64>(count * n, 4);
            let rows: Vec<&[_]> = a.chunks(n).collect();
            let mut panel = vec![Lanes::zero(); n];
            let mut out = vec![Lanes::zero(); count];
            let mut frames: Vec<_> = (0..LANES).map(|lane| random::<f64>(n, 5 + lane as u64)).collect();
            for (lane, frame) in frames.iter().enumerate() {
                panel.iter_mut().zip(frame).for_each(|(to, from)| to.set(lane, *from));
            }
            panel_dots(&rows, &panel, &mut out);
            panel_axpys(&rows, &out, &mut panel);
            for (lane, frame) in frames.iter_mut().enumerate() {
                let mut alone = vec![Complex::default(); count];
                dots(&rows, frame, &mut alone);
                axpys(&rows, &alone, frame);
                let far = panel.iter().zip(&*frame).any(|(a, b)| (a.get(lane) - b).norm() > 1e-10);
                assert!(!far, "lane {lane}, {count} rows of {n}");
            }
        }
    }
}
