//! The front of the solvers: which method, on what, and what comes out.

use num_complex::Complex;
use serde::{Deserialize, Serialize};

use super::admm::Admm;
use super::cgnr::Cgnr;
use super::control::{Control, Progress};
use super::direct::{Direct, Factor};
use super::fista::Fista;
use super::frames::residuals;
use super::kaczmarz::{self, Kaczmarz, Lambda, System};
use super::matrix::check_finite;
use super::normalise::Normalisation;
use super::operator::{Operator, Weighted, energies};
use super::prox::{Projection, project};
use super::real::Real;
use super::vector::zeros;
use super::{Penalty, Step};
use crate::Error;

/// A method and its parameters, as a plan in TOML has them: `method = "kaczmarz"` and the fields of the method, all of
/// which have defaults; a field that the method does not know is refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "kebab-case")]
pub enum Solver {
    /// Row after row.
    Kaczmarz(Kaczmarz),
    /// Conjugate gradients.
    Cgnr(Cgnr),
    /// Proximal gradients.
    Fista(Fista),
    /// Alternating directions.
    Admm(Admm),
    /// A decomposition.
    Direct(Direct),
}

impl Solver {
    /// Checks the parameters against an image of `columns` voxels.
    ///
    /// # Errors
    /// [`Error::Parameter`], [`Error::Dimension`], [`Error::Grid`] or [`Error::SampledBlocks`], with the number.
    pub fn check(&self, columns: usize) -> Result<(), Error> {
        match self {
            Self::Kaczmarz(method) => method.check(columns),
            Self::Cgnr(method) => method.check(),
            Self::Fista(method) => method.check(columns),
            Self::Admm(method) => method.check(columns),
            Self::Direct(method) => method.check(),
        }
    }

    fn normalisation(&self) -> Normalisation {
        match self {
            Self::Kaczmarz(method) => method.normalisation,
            Self::Cgnr(method) => method.normalisation,
            Self::Fista(method) => method.normalisation,
            Self::Admm(method) => method.normalisation,
            Self::Direct(method) => method.normalisation,
        }
    }

    /// Projections that the result is known to be on.
    fn settled(&self) -> &[Projection] {
        match self {
            // The penalty comes after them.
            Self::Kaczmarz(Kaczmarz { penalty: Some(_), .. }) => &[],
            Self::Kaczmarz(method) => &method.projections,
            Self::Cgnr(method) => &method.projections,
            Self::Fista(method) => &method.projections,
            Self::Admm(method) => &method.projections,
            Self::Direct(method) => &method.projections,
        }
    }

    /// λ as it is in the plan; that of the penalty where there is no other, none where it is per voxel.
    fn lambda(&self) -> Option<f64> {
        let of = |penalty: &Option<Penalty>| penalty.map(|penalty| penalty.lambda());
        match self {
            Self::Kaczmarz(method) => match method.lambda {
                Lambda::Same(lambda) => Some(lambda),
                Lambda::PerVoxel(_) => None,
            },
            Self::Cgnr(method) => Some(method.lambda),
            Self::Fista(method) => of(&method.penalty),
            Self::Admm(method) => of(&method.penalty),
            Self::Direct(method) => Some(method.lambda),
        }
    }
}

/// A linear system: images x with A x ≈ b, for one or more frames b.
#[derive(Clone, Copy)]
pub struct Problem<'a, T: Real> {
    /// A: M rows, N columns. Calibration and data in the same unit give an image in the unit of the calibration. Squares
    /// of entries must be numbers of the precision: in single precision, a row whose entries are all below 1e-23 counts
    /// as zero, and one above 1e19 is refused. Where its columns are coefficients ([`Operator::basis`]), images are of
    /// voxels all the same.
    pub operator: &'a dyn Operator<T>,
    /// w: both row k of A and b_k are multiplied with w_k. M finite numbers that are not negative.
    pub weights: Option<&'a [T]>,
    /// Frames of M values, one after the other.
    pub data: &'a [Complex<T>],
    /// The image of N voxels that every frame begins with; zeros unless given. The direct solution does not need it.
    pub start: Option<&'a [Complex<T>]>,
}

impl<T: Real> std::fmt::Debug for Problem<'_, T> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = out.debug_struct("Problem");
        out.field("rows", &self.operator.rows()).field("columns", &self.operator.columns());
        out.field("values", &self.data.len()).finish_non_exhaustive()
    }
}

/// Images, and how they came about.
#[derive(Debug, Clone, PartialEq)]
pub struct Solution<T> {
    /// Frames of N voxels, one after the other.
    pub image: Vec<Complex<T>>,
    /// How.
    pub report: Report,
}

/// How images came about.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Iterations done, for every frame; the direct solution has none.
    pub iterations: Vec<usize>,
    /// ‖A x − b‖ of the weighted system, for every frame; empty with [`Control::skip_residuals`].
    pub residuals: Vec<f64>,
    /// λ after normalisation, for every frame; none without a λ or with one per voxel.
    pub lambdas: Vec<Option<f64>>,
    /// Rows that are not zero.
    pub rows_used: usize,
    /// Rows that are zero.
    pub rows_skipped: usize,
}

/// What is computed once for a matrix, weights and a method, and used for any number of frames: the norms of the rows,
/// the order and the triangles of Kaczmarz's method.
#[derive(Debug)]
pub struct Prepared<'a, T: Real> {
    solver: &'a Solver,
    weights: Option<&'a [T]>,
    operator: Hidden<'a, T>,
    system: System<T>,
}

/// An operator, which has nothing to print.
struct Hidden<'a, T>(&'a dyn Operator<T>);

impl<T> std::fmt::Debug for Hidden<'_, T> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Operator")
    }
}

impl<'a, T: Real> Prepared<'a, T> {
    /// Checks and prepares; weights as in [`Problem`].
    ///
    /// # Errors
    /// What [`Solver::check`] and [`Weighted::new`] refuse, [`Error::Empty`], [`Error::Together`], [`Error::AllZero`], and
    /// [`Error::NotFinite`] for a row whose squared norm is beyond the precision. [`Error::Gpu`], [`Error::GpuMemory`] and
    /// [`Error::GpuLost`] of a matrix on a graphics card.
    pub fn new(
        solver: &'a Solver,
        operator: &'a dyn Operator<T>,
        weights: Option<&'a [T]>,
    ) -> Result<Self, Error> {
        let (rows, columns) = (operator.rows(), operator.columns());
        if rows == 0 || columns == 0 {
            return Err(Error::Empty { rows, columns });
        }
        solver.check(columns)?;
        check_basis(solver, operator)?;
        let system = with_weights(operator, weights, |operator| {
            let energies = energies(operator);
            if let Some(index) = energies.iter().position(|energy| !energy.is_finite()) {
                return Err(Error::NotFinite { what: "squared norm of row", index });
            }
            if energies.iter().all(|energy| *energy <= T::zero()) {
                return Err(Error::AllZero { rows });
            }
            match solver {
                // With a λ per voxel the method has a matrix of its own.
                Solver::Kaczmarz(method) if matches!(method.lambda, Lambda::Same(_)) => {
                    System::new(operator, energies, method)
                }
                _ => Ok(System::plain(energies)),
            }
        })?;
        operator.check()?;
        Ok(Self { solver, weights, operator: Hidden(operator), system })
    }

    /// Solves frames; `data` and `start` as in [`Problem`].
    ///
    /// # Errors
    /// [`Error::Dimension`], [`Error::NotFinite`] for what comes in, [`Error::Singular`], [`Error::Diverged`],
    /// [`Error::Cancelled`]; of a matrix on a graphics card [`Error::Gpu`], [`Error::GpuMemory`] and [`Error::GpuLost`].
    pub fn run(
        &self,
        data: &[Complex<T>],
        start: Option<&[Complex<T>]>,
        control: &Control<'_>,
    ) -> Result<Solution<T>, Error> {
        let (m, n) = (self.operator.0.rows(), self.operator.0.columns());
        check_data(data, m, start, n)?;
        let frames = data.len() / m;
        let mut image = match start {
            Some(start) => self.unknowns(start).repeat(frames),
            None => zeros(frames * n),
        };
        let mut data = data.to_vec();
        if let Some(weights) = self.weights {
            for frame in data.chunks_exact_mut(m) {
                frame.iter_mut().zip(weights).for_each(|(value, weight)| *value = value.scale(*weight));
            }
        }
        let normalisation = self.solver.normalisation();
        let energies = self.system.energies();
        let factors: Vec<f64> = match normalisation {
            Normalisation::Measurement => {
                data.chunks_exact(m).map(|frame| normalisation.factor(energies, n, frame)).collect()
            }
            _ => vec![normalisation.factor(energies, n, &[]); frames],
        };
        with_weights(self.operator.0, self.weights, |operator| {
            let iterations = self.frames(operator, &factors, &data, &mut image, control);
            // Zeros of a card that is lost may have looked like another error.
            operator.check()?;
            let iterations = iterations?;
            if let Err(Error::NotFinite { index, .. }) = check_finite("voxel of the image", &image) {
                return Err(Error::Diverged { frame: index / n, iteration: iterations[index / n] });
            }
            let residuals =
                if control.skip_residuals { Vec::new() } else { residuals(operator, &data, &image) };
            operator.check()?;
            self.to_voxels(&mut image);
            let lambda = self.solver.lambda();
            let lambdas = factors.iter().map(|factor| lambda.map(|lambda| lambda * factor)).collect();
            let rows_used = energies.iter().filter(|energy| **energy > T::zero()).count();
            let rows_skipped = m - rows_used;
            let report = Report { iterations, residuals, lambdas, rows_used, rows_skipped };
            Ok(Solution { image, report })
        })
    }

    /// What the solver works on, of an image.
    fn unknowns(&self, image: &[Complex<T>]) -> Vec<Complex<T>> {
        let mut unknowns = image.to_vec();
        if let Some(basis) = self.operator.0.basis() {
            basis.coefficients(&mut unknowns);
        }
        unknowns
    }

    /// The way back, for all frames.
    fn to_voxels(&self, frames: &mut [Complex<T>]) {
        let Some(basis) = self.operator.0.basis() else {
            return;
        };
        for frame in frames.chunks_exact_mut(self.operator.0.columns()) {
            basis.voxels(frame);
            // To coefficients and back, zeros have become roundings.
            project(self.solver.settled(), frame);
        }
    }

    fn frames(
        &self,
        operator: &dyn Operator<T>,
        factors: &[f64],
        data: &[Complex<T>],
        image: &mut [Complex<T>],
        control: &Control<'_>,
    ) -> Result<Vec<usize>, Error> {
        if let Solver::Kaczmarz(method) = self.solver {
            kaczmarz::run((operator, &self.system), method, factors, data, image, control)?;
            return Ok(vec![method.iterations; factors.len()]);
        }
        let mut kept: Option<(f64, Factor<T>)> = None;
        let frames = data.chunks_exact(operator.rows()).zip(image.chunks_exact_mut(operator.columns()));
        let mut iterations = Vec::with_capacity(factors.len());
        for (frame, (&factor, (b, x))) in factors.iter().zip(frames).enumerate() {
            let done = |iteration, iterations_max| {
                operator.check()?;
                control.done(Progress { frame, frames_together: 1, iteration, iterations_max })
            };
            let step = |max: usize, solve: &mut dyn FnMut(&Step<'_>) -> Result<usize, Error>| {
                solve(&Step { factor, done: &|iteration| done(iteration, max) })
            };
            iterations.push(match self.solver {
                Solver::Kaczmarz(_) => 0,
                Solver::Cgnr(method) => {
                    step(method.iterations.min(x.len()), &mut |step| method.run(operator, b, x, step))?
                }
                Solver::Fista(method) => {
                    step(method.iterations, &mut |step| method.run(operator, b, x, step))?
                }
                Solver::Admm(method) => {
                    step(method.iterations, &mut |step| method.run(operator, b, x, step))?
                }
                Solver::Direct(method) => {
                    let lambda = method.lambda * factor;
                    let decomposed = match kept.take() {
                        Some((of, decomposed)) if of.total_cmp(&lambda).is_eq() => decomposed,
                        _ => Factor::new(operator, lambda)?,
                    };
                    method.run(operator, &decomposed, b, x);
                    kept = Some((lambda, decomposed));
                    done(0, 0)?;
                    0
                }
            });
        }
        Ok(iterations)
    }
}

/// Solves a problem.
///
/// # Errors
/// As [`Prepared::new`] and [`Prepared::run`].
pub fn solve<T: Real>(
    solver: &Solver,
    problem: &Problem<'_, T>,
    control: &Control<'_>,
) -> Result<Solution<T>, Error> {
    Prepared::new(solver, problem.operator, problem.weights)?.run(problem.data, problem.start, control)
}

/// Refuses parameters that are of voxels and cannot be carried to coefficients.
fn check_basis<T: Real>(solver: &Solver, operator: &dyn Operator<T>) -> Result<(), Error> {
    match solver {
        Solver::Kaczmarz(Kaczmarz { lambda: Lambda::PerVoxel(_), .. }) if operator.basis().is_some() => {
            Err(Error::Together {
                one: "a `lambda` for every voxel",
                other: "a compressed matrix",
                why: "its columns are coefficients, not voxels",
            })
        }
        _ => Ok(()),
    }
}

fn with_weights<T: Real, R>(
    operator: &dyn Operator<T>,
    weights: Option<&[T]>,
    then: impl FnOnce(&dyn Operator<T>) -> Result<R, Error>,
) -> Result<R, Error> {
    match weights {
        Some(weights) => then(&Weighted::new(operator, weights)?),
        None => then(operator),
    }
}

fn check_data<T: Real>(
    data: &[Complex<T>],
    rows: usize,
    start: Option<&[Complex<T>]>,
    columns: usize,
) -> Result<(), Error> {
    if data.is_empty() || !data.len().is_multiple_of(rows) {
        let expected = data.len().div_ceil(rows).max(1) * rows;
        return Err(Error::Dimension { what: "values of data", expected, found: data.len() });
    }
    check_finite("value of the data", data)?;
    let Some(start) = start else {
        return Ok(());
    };
    if start.len() != columns {
        return Err(Error::Dimension { what: "voxels to start with", expected: columns, found: start.len() });
    }
    check_finite("voxel to start with", start)
}
