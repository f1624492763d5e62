//! The threads of a sweep: they share the voxels, block of rows after block of rows.
//!
//! An image is cut into parts of consecutive voxels. A step of the sweep changes every part by the rows of the last block
//! and computes its inner products with the rows of the next. Then one thread, the leader, adds up all parts' products in
//! their order and solves the triangular system. So threads wait for each other once per block, and the second time
//! entries are read they are in a near cache. The parts depend on the number of voxels alone, and so do the bits.
//!
//! These are threads of their own, not tasks of a pool: blocks take some ten microseconds, as long as it takes a pool to
//! wake a thread, so they wait in a loop. Whoever is free takes the next part; a thread that does not get a processor
//! holds nobody up, unless it is in the middle of a part.

use std::hint;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::thread;

use super::block::Triangles;
use super::frames::Value;
use super::operator::Operator;
use super::real::Real;

/// Voxels of a part, at least. Below, the ends of the sums take as long as the sums.
const VOXELS_MIN: usize = 512;

/// A part is a multiple of as many voxels, which loops take at once.
const VOXELS_STEP: usize = 32;

/// Entries of a sweep from which on a thread more is worth its start: half a millisecond of work, where starting takes
/// 50 µs.
const ENTRIES_PER_THREAD: usize = 1 << 20;

/// Looks at a count before a waiting thread lets others run; some ten microseconds.
const LOOKS: usize = 1 << 12;

/// One sweep.
pub(super) struct Team<'a, T: Real, V> {
    pub(super) operator: &'a dyn Operator<T>,
    /// The rows, in their order; each at most once.
    pub(super) order: &'a [usize],
    pub(super) triangles: &'a Triangles<T>,
    /// 1 / (‖a_k‖² + λ) of all rows.
    pub(super) inverses: &'a [T],
    /// √λ
    pub(super) epsilon: T,
    /// The data.
    pub(super) b: &'a [V],
    /// As before the sweep.
    pub(super) v: &'a [V],
}

/// Consecutive voxels.
struct Part<'a, V> {
    /// The first.
    first: usize,
    x: &'a mut [V],
    /// Inner products with the rows of a block.
    products: Vec<V>,
}

/// What threads share. Step s is over when all parts were changed by block s - 1 and multiplied with block s.
struct Shared<'a, V> {
    parts: Vec<Mutex<Part<'a, V>>>,
    /// The step that comes next, for every part; who counts it up does it.
    next: Vec<AtomicUsize>,
    /// The step that is being done.
    step: AtomicUsize,
    /// Parts that were done, in all steps.
    done: AtomicUsize,
    /// α of the last block.
    alpha: RwLock<Vec<V>>,
    is_broken: AtomicBool,
}

impl<T: Real, V: Value<T>> Team<'_, T, V> {
    /// Goes through all rows, changes `x`, and gives α of every row in their order.
    pub(super) fn run(&self, x: &mut [V]) -> Vec<V> {
        let entries = self.operator.entries() / self.operator.rows() * self.order.len();
        let size = part_size(x.len(), V::PARTS_MAX);
        let shared = Shared::new(x, size, self.triangles.size());
        let worth = entries / ENTRIES_PER_THREAD;
        let threads = rayon::current_num_threads().min(worth).clamp(1, shared.parts.len());
        thread::scope(|scope| {
            for helper in 1..threads {
                let shared = &shared;
                scope.spawn(move || self.help(shared, helper * shared.parts.len() / threads));
            }
            self.lead(&shared)
        })
    }

    fn blocks(&self) -> usize {
        self.order.len().div_ceil(self.triangles.size())
    }

    fn rows(&self, block: usize) -> &[usize] {
        let start = block * self.triangles.size();
        &self.order[start..self.order.len().min(start + self.triangles.size())]
    }

    fn lead(&self, shared: &Shared<'_, V>) -> Vec<V> {
        let _end = End { step: &shared.step, is_broken: &shared.is_broken };
        let mut alphas = Vec::with_capacity(self.order.len());
        for step in 0..=self.blocks() {
            shared.step.store(step, Ordering::Release);
            self.take_parts(shared, step, 0);
            shared.wait(|| shared.done.load(Ordering::Acquire) == (step + 1) * shared.parts.len());
            if step < self.blocks() {
                let mut alpha = shared.alpha.write().unwrap_or_else(PoisonError::into_inner);
                self.solve(step, shared, &mut alpha);
                alphas.extend_from_slice(&alpha);
            }
        }
        alphas
    }

    /// What other threads do until the leader has ended.
    fn help(&self, shared: &Shared<'_, V>, first: usize) {
        let _end = End { step: &AtomicUsize::new(0), is_broken: &shared.is_broken };
        let mut step = 0;
        while step <= self.blocks() {
            self.take_parts(shared, step, first);
            shared.wait(|| shared.step.load(Ordering::Acquire) > step);
            step = shared.step.load(Ordering::Acquire);
        }
    }

    /// Does a step of all parts that nobody else does, the ones from `first` on before the others: a thread should get
    /// the same parts again, which are in its cache.
    fn take_parts(&self, shared: &Shared<'_, V>, step: usize, first: usize) {
        for index in (first..shared.parts.len()).chain(0..first) {
            let next = &shared.next[index];
            if next.compare_exchange(step, step + 1, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                self.change(shared, step, &mut shared.part(index));
                shared.done.fetch_add(1, Ordering::AcqRel);
            }
        }
    }

    fn change(&self, shared: &Shared<'_, V>, step: usize, part: &mut Part<'_, V>) {
        if let Some(before) = step.checked_sub(1) {
            let alpha = shared.alpha.read().unwrap_or_else(PoisonError::into_inner);
            V::axpy(self.operator, self.rows(before), &alpha, part.first, part.x);
        }
        if step < self.blocks() {
            let rows = self.rows(step);
            V::dot(self.operator, rows, part.first, part.x, &mut part.products[..rows.len()]);
        }
    }

    /// α of a block.
    fn solve(&self, block: usize, shared: &Shared<'_, V>, alpha: &mut Vec<V>) {
        let rows = self.rows(block);
        alpha.clear();
        for &k in rows {
            let mut rest = self.b[k];
            rest.add_scaled(-self.epsilon, &self.v[k]);
            alpha.push(rest);
        }
        for index in 0..shared.parts.len() {
            let part = shared.part(index);
            alpha.iter_mut().zip(&part.products).for_each(|(alpha, part)| alpha.add_scaled(-T::one(), part));
        }
        self.triangles.substitute(block, alpha, |i| self.inverses[rows[i]]);
    }
}

/// Voxels of a part.
fn part_size(voxels: usize, parts_max: usize) -> usize {
    voxels.div_ceil(parts_max).max(VOXELS_MIN).next_multiple_of(VOXELS_STEP)
}

impl<'a, V> Shared<'a, V> {
    fn new<T: Real>(x: &'a mut [V], size: usize, block: usize) -> Self
    where
        V: Value<T>,
    {
        let part = |(index, x)| Mutex::new(Part { first: index * size, x, products: vec![V::zero(); block] });
        let parts: Vec<_> = x.chunks_mut(size).enumerate().map(part).collect();
        Self {
            next: parts.iter().map(|_| AtomicUsize::new(0)).collect(),
            parts,
            step: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
            alpha: RwLock::new(Vec::with_capacity(block)),
            is_broken: AtomicBool::new(false),
        }
    }

    fn part(&self, index: usize) -> MutexGuard<'_, Part<'a, V>> {
        self.parts[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits in a loop. Panics if another thread has.
    fn wait(&self, is_over: impl Fn() -> bool) {
        let mut looks = 0;
        while !is_over() {
            assert!(!self.is_broken.load(Ordering::Relaxed), "another thread of the sweep has panicked");
            if looks < LOOKS {
                looks += 1;
                hint::spin_loop();
            } else {
                thread::yield_now();
            }
        }
    }
}

/// Tells the others that a thread has ended.
struct End<'a> {
    step: &'a AtomicUsize,
    is_broken: &'a AtomicBool,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.is_broken.store(true, Ordering::Relaxed);
        }
        self.step.store(usize::MAX, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use num_complex::Complex;

    use super::super::frames::pack;
    use super::super::kernels::Lanes;
    use super::super::matrix::Matrix;
    use super::super::order::SplitMix64;
    use super::*;

    #[test]
    fn parts_cover_an_image_and_are_few() {
        for voxels in [1, 511, 512, 513, 2048, 2049, 6859, 100_000] {
            let size = part_size(voxels, 4);
            assert!(voxels.div_ceil(size) <= 4, "{voxels} voxels");
            assert!(size >= VOXELS_MIN && size.is_multiple_of(VOXELS_STEP), "{voxels} voxels");
        }
        assert_eq!(6859_usize.div_ceil(part_size(6859, 4)), 4);
    }

    /// More threads than most machines have processors, so that some are late.
    #[test]
    fn threads_change_no_bit() {
        let (m, n) = (2100, 2100);
        assert!(m * n / ENTRIES_PER_THREAD >= 4);
        let mut source = SplitMix64::new(5);
        let mut random = |length: usize| -> Vec<Complex<f64>> {
            (0..length).map(|_| Complex::new(source.unit() - 0.5, source.unit() - 0.5)).collect()
        };
        let matrix = Matrix::new(m, n, random(m * n)).unwrap();
        let (b, v, start) = (random(m), random(m), random(n));
        let order: Vec<usize> = (0..m).rev().collect();
        let triangles = Triangles::new(&matrix, &order, 16);
        let inverses = vec![1.0 / 700.0; m];
        let (operator, order, triangles, epsilon) =
            (&matrix as &dyn Operator<f64>, &order[..], &triangles, 1.0);
        let team = Team { operator, order, triangles, inverses: &inverses, epsilon, b: &b, v: &v };
        threads_change_nothing(&team, &start);
        let (b, v, start): (Vec<Lanes<f64>>, _, _) = (pack(&b, m), pack(&v, m), pack(&start, n));
        threads_change_nothing(
            &Team { operator, order, triangles, inverses: &inverses, epsilon, b: &b, v: &v },
            &start,
        );
    }

    fn threads_change_nothing<V: Value<f64> + PartialEq>(team: &Team<'_, f64, V>, start: &[V]) {
        let run = |threads| {
            let mut x = start.to_vec();
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let alphas = pool.install(|| team.run(&mut x));
            (x, alphas)
        };
        let alone = run(1);
        assert!(alone.0 != start);
        for threads in [2, 3, 4] {
            assert!(run(threads) == alone, "{threads} threads");
        }
    }

    #[test]
    fn a_thread_that_panics_does_not_leave_others_waiting() {
        let (is_broken, mut x) = (AtomicBool::new(false), [Complex::<f64>::default()]);
        let shared = Shared::new(&mut x, 1, 1);
        let ended = thread::scope(|scope| {
            let broken = scope.spawn(|| {
                let _end = End { step: &AtomicUsize::new(0), is_broken: &shared.is_broken };
                panic!("as the test wants");
            });
            let waiting = scope.spawn(|| shared.wait(|| is_broken.load(Ordering::Relaxed)));
            (broken.join().is_err(), waiting.join().is_err())
        });
        assert_eq!(ended, (true, true));
    }
}
