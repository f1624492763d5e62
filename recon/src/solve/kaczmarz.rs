//! Kaczmarz's method with Tikhonov regularisation, the workhorse of MPI reconstruction.
//!
//! It minimises ‖A x − b‖² + λ ‖x‖² by going through the rows of the consistent system \[A, √λ I\] (x, v) = b
//! (Kaczmarz 1937; for the augmented system see Herman, Lent and Hurwitz, J. Inst. Math. Appl. 25, 1980; for MPI
//! Knopp et al., Phys. Med. Biol. 55, 2010). For every row k that is not zero, in the order of the sweep:
//!
//! ```text
//! τ = Σ_n a_kn x_n
//! α = (b_k − τ − √λ v_k) / (‖a_k‖² + λ)
//! x_n += α conj(a_kn)
//! v_k += α √λ
//! ```
//!
//! v begins at zero. After every sweep the projections are applied in order, then the penalty's proximal map, once.
//! Without them x goes to (AᴴA + λ I)⁻¹ Aᴴ b, and √λ v to b − A x. The quotient is computed in double precision and
//! then rounded. There is no stop before the last iteration.
//!
//! A λ for every voxel minimises ‖A x − b‖² + Σ λ_n |x_n|²: the method then runs on A diag(1/√λ_n) with λ = 1, which
//! takes a second copy of the matrix; projections and the penalty act on √λ_n x_n.

use num_complex::Complex;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::basis::{Basis, in_voxels};
use super::block::Triangles;
use super::control::{Control, Progress};
use super::frames::{PANEL_FRAMES_MIN, Value, pack, unpack};
use super::kernels::{LANES, Lanes};
use super::matrix::Matrix;
use super::normalise::Normalisation;
use super::operator::{Operator, energies};
use super::order::{Order, SplitMix64, sample, shuffle};
use super::prox::{Penalty, Projection, check_lambda, project};
use super::real::Real;
use super::sweeps::{Job, Map, Rows, Sweeps};
use super::team::Team;
use crate::Error;

/// Rows of a block unless a plan says otherwise.
///
/// A sweep over 2000 rows of 6859 voxels in single precision, one frame, took 5.0 ms in blocks of 8 and 6.7 of 16 on one
/// core with AVX-512 and 1 MiB of second cache, 3.5 and 3.6 on two; for 16 frames 22.5 and 21.8 on one, 12.4 and 11.7 on two.
/// The ignored test `times_of_a_sweep` measures it.
pub const BLOCK_ROWS: usize = 8;

/// λ of the squared norm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Lambda {
    /// The same for all voxels; not negative.
    Same(f64),
    /// One for every voxel; positive.
    PerVoxel(Vec<f64>),
}

/// Parameters of Kaczmarz's method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Kaczmarz {
    /// Sweeps over the rows, at least 1; 10 unless stated.
    pub iterations: usize,
    /// λ before normalisation; 0 unless stated.
    pub lambda: Lambda,
    /// What λ is multiplied with, the penalty's too; by the system matrix unless stated.
    pub normalisation: Normalisation,
    /// Applied after every sweep, in order; none unless stated.
    pub projections: Vec<Projection>,
    /// Its proximal map with its normalised λ follows the projections; none unless stated.
    pub penalty: Option<Penalty>,
    /// Of the rows; natural unless stated.
    pub order: Order,
    /// Rows that are taken together, which changes the time it takes and roundings; 1 is row after row. [`BLOCK_ROWS`]
    /// unless stated, and 1 with [`Order::Sampled`]. A graphics card has a default of its own, and a limit.
    pub block: Option<usize>,
}

impl Default for Kaczmarz {
    fn default() -> Self {
        Self {
            iterations: 10,
            lambda: Lambda::Same(0.0),
            normalisation: Normalisation::default(),
            projections: Vec::new(),
            penalty: None,
            order: Order::default(),
            block: None,
        }
    }
}

impl Kaczmarz {
    /// Checks the parameters against an image of `columns` voxels.
    pub(super) fn check(&self, columns: usize) -> Result<(), Error> {
        super::check_count("iterations", self.iterations)?;
        match &self.lambda {
            Lambda::Same(lambda) => check_lambda(*lambda)?,
            Lambda::PerVoxel(all) => check_per_voxel(all, columns)?,
        }
        if let Some(penalty) = &self.penalty {
            penalty.check(columns)?;
        }
        if let Order::Sampled { fraction, .. } = self.order
            && !(fraction > 0.0 && fraction <= 1.0)
        {
            return Err(Error::Parameter {
                name: "fraction",
                value: fraction,
                range: "above 0 and at most 1",
            });
        }
        match (self.block, self.order) {
            (Some(0), _) => super::check_count("block", 0),
            (Some(block @ 2..), Order::Sampled { .. }) => Err(Error::SampledBlocks { block }),
            _ => Ok(()),
        }
    }
}

fn check_per_voxel(all: &[f64], columns: usize) -> Result<(), Error> {
    if all.len() != columns {
        return Err(Error::Dimension { what: "values of `lambda`", expected: columns, found: all.len() });
    }
    match all.iter().find(|lambda| !(lambda.is_finite() && **lambda > 0.0)) {
        Some(&value) => Err(Error::Parameter { name: "lambda", value, range: "positive for every voxel" }),
        None => Ok(()),
    }
}

/// What is computed once for an operator, its weights and an order.
#[derive(Debug)]
pub(super) struct System<T> {
    /// The rows that are not zero, in the order of a sweep.
    order: Vec<usize>,
    /// ‖a_k‖² of all rows.
    energies: Vec<T>,
    place: Place<T>,
}

/// Where sweeps are done.
#[derive(Debug)]
enum Place<T> {
    /// By this processor.
    Here(Triangles<T>),
    /// Where the matrix is.
    There(Box<dyn Sweeps<T>>),
}

impl<T: Real> System<T> {
    /// Prepares; fails only where the matrix is not in this process's memory.
    pub(super) fn new(
        operator: &dyn Operator<T>,
        energies: Vec<T>,
        method: &Kaczmarz,
    ) -> Result<Self, Error> {
        let mut order: Vec<usize> = (0..energies.len()).filter(|&k| energies[k] > T::zero()).collect();
        let (mut block, is_sampled) = (method.block, matches!(method.order, Order::Sampled { .. }));
        match method.order {
            Order::Natural => {}
            Order::Shuffled { seed } => shuffle(&mut order, seed),
            Order::Sampled { .. } => block = Some(1),
        }
        let place = match operator.sweeps(&Rows { order: &order, weights: None, block }) {
            Some(sweeps) => Place::There(sweeps?),
            None if is_sampled => Place::Here(Triangles::sequential()),
            None => Place::Here(Triangles::new(operator, &order, block.unwrap_or(BLOCK_ROWS))),
        };
        Ok(Self { order, energies, place })
    }

    /// The norms alone, for other methods.
    pub(super) fn plain(energies: Vec<T>) -> Self {
        Self { order: Vec::new(), energies, place: Place::Here(Triangles::sequential()) }
    }

    /// ‖a_k‖² of all rows.
    pub(super) fn energies(&self) -> &[T] {
        &self.energies
    }
}

/// What a sweep needs beside the operator.
struct Sweep<'a, T> {
    system: &'a System<T>,
    method: &'a Kaczmarz,
    epsilon: T,
    /// 1 / (‖a_k‖² + λ) of all rows.
    inverses: Vec<T>,
    /// The penalty's λ, normalised.
    amount: T,
}

impl<'a, T: Real> Sweep<'a, T> {
    fn new(system: &'a System<T>, method: &'a Kaczmarz, lambda: T, factor: f64) -> Self {
        let inverse = |energy: &T| T::of(1.0 / (*energy + lambda).wide());
        Self {
            system,
            method,
            epsilon: lambda.sqrt(),
            inverses: system.energies.iter().map(inverse).collect(),
            amount: T::of(method.penalty.map_or(0.0, |penalty| penalty.lambda()) * factor),
        }
    }

    /// Draws the rows of one sweep after the other, where they are not always the same.
    fn drawer(&self) -> Option<impl FnMut() -> Vec<usize> + '_> {
        let Order::Sampled { seed, fraction } = self.method.order else {
            return None;
        };
        let mut random = SplitMix64::new(seed);
        let energy = |k: usize| self.system.energies[k].wide();
        Some(move || sample(&self.system.order, energy, fraction, &mut random))
    }

    /// All iterations where the matrix is.
    fn run_there(
        &self,
        sweeps: &dyn Sweeps<T>,
        b: &[Complex<T>],
        x: &mut [Complex<T>],
        done: &dyn Fn(usize) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let penalty = self.method.penalty;
        let apply = penalty.map(|penalty| move |frame: &mut [Complex<T>]| penalty.apply(frame, self.amount));
        let mut draw = self.drawer();
        let job = Job {
            iterations: self.method.iterations,
            epsilon: self.epsilon,
            inverses: &self.inverses,
            data: b,
            projections: &self.method.projections,
            penalty: apply.as_ref().map(|apply| apply as &Map<'_, T>),
            draw: draw.as_mut().map(|draw| draw as &mut dyn FnMut() -> Vec<usize>),
            done,
        };
        sweeps.run(job, x)
    }

    /// All iterations on as many frames as `V` holds; `b`, `x` are frame after frame. Gives v.
    fn run<V: Value<T>>(
        &self,
        (operator, triangles): (&dyn Operator<T>, &Triangles<T>),
        b: &[Complex<T>],
        x: &mut [Complex<T>],
        done: &dyn Fn(usize) -> Result<(), Error>,
    ) -> Result<Vec<V>, Error> {
        let b: Vec<V> = pack(b, operator.rows());
        let mut values: Vec<V> = pack(x, operator.columns());
        let mut v = vec![V::zero(); b.len()];
        let mut draw = self.drawer();
        for iteration in 1..=self.method.iterations {
            let drawn = draw.as_mut().map(|draw| draw());
            let order = drawn.as_deref().unwrap_or(&self.system.order);
            self.rows((operator, triangles), order, &b, &mut values, &mut v);
            self.constrain(operator.basis(), &mut values, x);
            done(iteration)?;
        }
        unpack(&values, x);
        Ok(v)
    }

    fn rows<V: Value<T>>(
        &self,
        (operator, triangles): (&dyn Operator<T>, &Triangles<T>),
        order: &[usize],
        b: &[V],
        x: &mut [V],
        v: &mut [V],
    ) {
        let (inverses, epsilon) = (&self.inverses, self.epsilon);
        let alphas = Team { operator, order, triangles, inverses, epsilon, b, v }.run(x);
        for (alpha, &k) in alphas.iter().zip(order) {
            v[k].add_scaled(epsilon, alpha);
        }
    }

    /// Projections and penalty; `scratch` has room for the frames one after the other.
    fn constrain<V: Value<T>>(
        &self,
        basis: Option<&dyn Basis<T>>,
        values: &mut Vec<V>,
        scratch: &mut [Complex<T>],
    ) {
        if self.method.projections.is_empty() && self.method.penalty.is_none() {
            return;
        }
        unpack(values, scratch);
        scratch.par_chunks_exact_mut(values.len()).for_each(|frame| {
            in_voxels(basis, frame, |frame| {
                project(&self.method.projections, frame);
                if let Some(penalty) = &self.method.penalty {
                    penalty.apply(frame, self.amount);
                }
            });
        });
        *values = pack(scratch, values.len());
    }
}

/// Solves all frames. `factors` has the factor of the normalisation for every frame.
pub(super) fn run<T: Real>(
    (operator, system): (&dyn Operator<T>, &System<T>),
    method: &Kaczmarz,
    factors: &[f64],
    data: &[Complex<T>],
    images: &mut [Complex<T>],
    control: &Control<'_>,
) -> Result<(), Error> {
    let (m, n) = (operator.rows(), operator.columns());
    let mut first = 0;
    while first < factors.len() {
        let same = factors[first..].iter().take_while(|factor| **factor == factors[first]).count();
        let together = match system.place {
            Place::Here(_) if same < PANEL_FRAMES_MIN => 1,
            Place::Here(_) | Place::There(_) => same.min(LANES),
        };
        let end = first + together;
        let done = |iteration| {
            let iterations_max = method.iterations;
            control.done(Progress { frame: first, frames_together: together, iteration, iterations_max })
        };
        let (b, x) = (&data[first * m..end * m], &mut images[first * n..end * n]);
        group((operator, system), method, factors[first], b, x, &done)?;
        first = end;
    }
    Ok(())
}

/// Solves one frame, or several that go through the matrix together.
fn group<T: Real>(
    (operator, system): (&dyn Operator<T>, &System<T>),
    method: &Kaczmarz,
    factor: f64,
    b: &[Complex<T>],
    x: &mut [Complex<T>],
    done: &dyn Fn(usize) -> Result<(), Error>,
) -> Result<(), Error> {
    let go = |sweep: &Sweep<'_, T>, operator: &dyn Operator<T>, x: &mut [Complex<T>]| {
        let triangles = match &sweep.system.place {
            Place::There(sweeps) => return sweep.run_there(&**sweeps, b, x, done),
            Place::Here(triangles) => triangles,
        };
        if b.len() == operator.rows() {
            sweep.run::<Complex<T>>((operator, triangles), b, x, done).map(|_| ())
        } else {
            sweep.run::<Lanes<T>>((operator, triangles), b, x, done).map(|_| ())
        }
    };
    match &method.lambda {
        Lambda::Same(lambda) => go(&Sweep::new(system, method, T::of(lambda * factor), factor), operator, x),
        Lambda::PerVoxel(all) => {
            let columns: Vec<T> = all.iter().map(|lambda| T::of(1.0 / (lambda * factor).sqrt())).collect();
            // A frame of zeros has none that is positive when they are normalised by the measurement.
            if let Some(n) = columns.iter().position(|column| !column.is_normal()) {
                let (value, range) = (all[n] * factor, "a positive number after normalisation");
                return Err(Error::Parameter { name: "lambda", value, range });
            }
            let scaled = scaled(operator, &columns)?;
            let system = System::new(&scaled, energies(&scaled), method)?;
            scale_frames(x, &columns, |value, column| value.unscale(column));
            go(&Sweep::new(&system, method, T::one(), factor), &scaled, x)?;
            scale_frames(x, &columns, |value, column| value.scale(column));
            Ok(())
        }
    }
}

/// A diag(columns), as a matrix of its own.
fn scaled<T: Real>(operator: &dyn Operator<T>, columns: &[T]) -> Result<Matrix<'static, T>, Error> {
    let mut entries = vec![Complex::default(); operator.rows() * operator.columns()];
    entries.par_chunks_exact_mut(operator.columns()).enumerate().for_each(|(k, row)| {
        operator.copy_row(k, row);
        row.iter_mut().zip(columns).for_each(|(value, column)| *value = value.scale(*column));
    });
    Matrix::new(operator.rows(), operator.columns(), entries)
}

fn scale_frames<T: Real>(x: &mut [Complex<T>], columns: &[T], scale: impl Fn(Complex<T>, T) -> Complex<T>) {
    for frame in x.chunks_exact_mut(columns.len()) {
        frame.iter_mut().zip(columns).for_each(|(value, column)| *value = scale(*value, *column));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(length: usize, seed: u64) -> Vec<Complex<f64>> {
        let mut source = SplitMix64::new(seed);
        (0..length).map(|_| Complex::new(source.unit() - 0.5, source.unit() - 0.5)).collect()
    }

    #[test]
    fn the_multiplier_becomes_the_residual() {
        let (m, n, lambda) = (12, 8, 0.5);
        let matrix = Matrix::new(m, n, random(m * n, 1)).unwrap();
        let b = random(m, 2);
        let method = Kaczmarz { iterations: 3000, ..Kaczmarz::default() };
        let system = System::new(&matrix, energies(&matrix), &method).unwrap();
        let mut x = vec![Complex::default(); n];
        let sweep = Sweep::new(&system, &method, lambda, 1.0);
        let Place::Here(triangles) = &system.place else { panic!("the matrix is here") };
        let v: Vec<Complex<f64>> = sweep.run((&matrix, triangles), &b, &mut x, &|_| Ok(())).unwrap();
        let mut ax = vec![Complex::default(); m];
        matrix.forward(&x, &mut ax);
        for k in 0..m {
            assert!((v[k] * lambda.sqrt() - (b[k] - ax[k])).norm() < 1e-12, "row {k}");
        }
        // And x solves the normal equations: Aᴴ (b − A x) = λ x.
        let rest: Vec<_> = b.iter().zip(&ax).map(|(b, ax)| b - ax).collect();
        let mut gradient = vec![Complex::default(); n];
        matrix.adjoint(&rest, &mut gradient);
        assert!(gradient.iter().zip(&x).all(|(g, x)| (g - x * lambda).norm() < 1e-12));
    }

    #[test]
    fn parameters_out_of_range_are_refused_with_numbers() {
        let say = |method: Kaczmarz| method.check(2).unwrap_err().to_string();
        let base = Kaczmarz::default;
        assert_eq!(say(Kaczmarz { iterations: 0, ..base() }), "`iterations` is 0, and should be at least 1");
        assert_eq!(say(Kaczmarz { block: Some(0), ..base() }), "`block` is 0, and should be at least 1");
        let lambda = |lambda| Kaczmarz { lambda, ..base() };
        assert_eq!(
            say(lambda(Lambda::Same(-0.5))),
            "`lambda` is -0.5, and should be finite and not negative"
        );
        assert_eq!(
            say(lambda(Lambda::PerVoxel(vec![1.0]))),
            "there are 1 values of `lambda`, where there should be 2"
        );
        assert_eq!(
            say(lambda(Lambda::PerVoxel(vec![1.0, 0.0]))),
            "`lambda` is 0, and should be positive for every voxel"
        );
        let sampled =
            |fraction, block| say(Kaczmarz { order: Order::Sampled { seed: 1, fraction }, block, ..base() });
        assert_eq!(sampled(0.0, None), "`fraction` is 0, and should be above 0 and at most 1");
        assert_eq!(
            sampled(0.5, Some(64)),
            "rows that are drawn anew in every sweep cannot be taken in blocks of 64"
        );
    }
}
