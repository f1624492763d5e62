//! On what a system is solved: a graphics card if there is one, else the processor; and always said which.

use num_complex::Complex32;
use serde::{Deserialize, Serialize};

use super::card::{self, Card};
use super::memory::foresee;
use super::weights::Weights;
use crate::Error;
use crate::solve::{Control, Matrix, Operator, Problem, Solution, Solver, solve};

/// What may compute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Use {
    /// A graphics card, if there is a real one that the program can use; else the processor.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// A graphics card.
    Gpu,
}

/// What computes: the table `[device]` of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct DevicePlan {
    /// What may compute; `auto` unless stated.
    #[serde(rename = "use")]
    pub uses: Use,
    /// Which card: its place in the list of `hatchway-recon devices`, or a part of its name; the best unless stated.
    pub adapter: Option<String>,
    /// Whether a software adapter, which is slower than the processor, will do for a card; no unless stated. One that
    /// `adapter` names will always do.
    pub allow_software: bool,
    /// MiB of the card's memory that may be taken; as much as its driver gives unless stated.
    pub memory_mib: Option<u64>,
    /// Whether the processor takes over, with a warning, if a card cannot be used or is lost; yes unless stated. If not,
    /// a card that is lost is an error, and so is one that cannot be used if `use` is `gpu` or `adapter` is given.
    pub fall_back: bool,
}

impl Default for DevicePlan {
    fn default() -> Self {
        Self { uses: Use::Auto, adapter: None, allow_software: false, memory_mib: None, fall_back: true }
    }
}

/// What solves: a card that is open, or the processor.
#[derive(Clone, Debug)]
pub struct Hardware {
    place: Place,
    /// Whether the processor takes over from a card.
    fall_back: bool,
    /// What is to be told whoever wanted a card.
    warning: Option<String>,
}

#[derive(Clone, Debug)]
enum Place {
    /// And why not a card.
    Cpu(String),
    Gpu(Card),
}

/// What appends a row of a matrix.
pub(crate) type Read<'a> = dyn FnMut(usize, &mut Vec<Complex32>) -> Result<(), Error> + 'a;

/// Rows of a system matrix, which are read one after the other, and again if need be.
pub(crate) struct Source<'a> {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) read: &'a mut Read<'a>,
}

/// What came out, and on what.
#[derive(Debug)]
pub(super) struct Solved {
    pub(super) solution: Solution<f32>,
    /// What rows and data were multiplied with.
    pub(super) weights: Option<Vec<f32>>,
    pub(super) device: String,
    pub(super) warnings: Vec<String>,
}

impl Hardware {
    /// The processor.
    #[must_use]
    pub fn cpu() -> Self {
        Self { place: Place::Cpu("as asked for".to_owned()), fall_back: true, warning: None }
    }

    /// Opens what a plan asks for.
    ///
    /// # Errors
    /// [`Error::NoGpu`], [`Error::Gpu`] if there must be a card and the processor may not take over.
    pub fn open(plan: &DevicePlan) -> Result<Self, Error> {
        if plan.uses == Use::Cpu {
            return Ok(Self::cpu());
        }
        match card::open(plan) {
            Ok(card) => Ok(Self { place: Place::Gpu(card), fall_back: plan.fall_back, warning: None }),
            Err(error) => {
                let is_wanted = plan.uses == Use::Gpu || plan.adapter.is_some();
                if is_wanted && !plan.fall_back {
                    return Err(error);
                }
                let why = error.to_string();
                let warning = is_wanted.then(|| format!("{why}; the processor computes instead"));
                Ok(Self { place: Place::Cpu(why), fall_back: plan.fall_back, warning })
            }
        }
    }

    /// The card.
    #[cfg(feature = "gpu")]
    #[must_use]
    pub fn card(&self) -> Option<&crate::gpu::Device> {
        match &self.place {
            Place::Gpu(card) => Some(card),
            Place::Cpu(_) => None,
        }
    }

    /// Reads a matrix to where it will be solved: onto the card, or into memory if there is none or it fails and the processor may take over.
    pub(crate) fn load(
        &self,
        solver: &Solver,
        source: &mut Source<'_>,
    ) -> Result<(Loaded, Vec<String>), Error> {
        let mut warnings: Vec<String> = self.warning.iter().cloned().collect();
        let why = match &self.place {
            Place::Cpu(why) => why.clone(),
            Place::Gpu(card) => match card::load(card, solver, source) {
                Ok(loaded) => return Ok((loaded, warnings)),
                Err(error) => {
                    let (why, warning) = self.instead(error)?;
                    warnings.push(warning);
                    why
                }
            },
        };
        Ok((in_memory(source, why)?, warnings))
    }

    /// Why the processor takes over, and what is told of it.
    ///
    /// # Errors
    /// The error, if it is not the card's, or the processor may not.
    pub(crate) fn instead(&self, error: Error) -> Result<(String, String), Error> {
        if !self.fall_back || !is_of_card(&error) {
            return Err(error);
        }
        let why = error.to_string();
        let then = match error {
            Error::GpuLost { .. } => "began again",
            _ => "computes instead",
        };
        let warning = format!("{why}; the processor {then}");
        Ok((why, warning))
    }

    /// Solves. If the card fails, the processor begins again where it may.
    pub(super) fn solve(
        &self,
        solver: &Solver,
        weights: &Weights,
        mut source: Source<'_>,
        data: &[Complex32],
        control: &Control<'_>,
    ) -> Result<Solved, Error> {
        let (loaded, mut warnings) = self.load(solver, &mut source)?;
        let (loaded, (solution, weights)) = match run(solver, &*loaded.operator, weights, data, control) {
            Ok(done) => (loaded, done),
            Err(error) => {
                let (why, warning) = self.instead(error)?;
                warnings.push(warning);
                drop(loaded);
                let loaded = in_memory(&mut source, why)?;
                let done = run(solver, &*loaded.operator, weights, data, control)?;
                (loaded, done)
            }
        };
        Ok(Solved { solution, weights, device: (loaded.device)(), warnings })
    }

    /// Solves with an operator that only the processor has; `what` names such operators.
    pub(super) fn solve_here(
        &self,
        what: &str,
        solver: &Solver,
        weights: &Weights,
        operator: &dyn Operator<f32>,
        data: &[Complex32],
        control: &Control<'_>,
    ) -> Result<Solved, Error> {
        let mut warnings: Vec<String> = self.warning.iter().cloned().collect();
        let why = match &self.place {
            Place::Cpu(why) => why.clone(),
            Place::Gpu(_) => {
                let why = without_card(what, self.fall_back)?;
                warnings.push(format!("{why}; the processor computes instead"));
                why
            }
        };
        let (solution, weights) = run(solver, operator, weights, data, control)?;
        Ok(Solved { solution, weights, device: processor(&why), warnings })
    }
}

/// Why a card does not compute what is the processor's.
fn without_card(what: &str, fall_back: bool) -> Result<String, Error> {
    let error = Error::NoGpu(format!("{what} are the processor's"));
    if fall_back { Ok(error.to_string()) } else { Err(error) }
}

fn processor(why: &str) -> String {
    let threads = rayon::current_num_threads();
    format!("CPU, {threads} thread{} ({why})", if threads == 1 { "" } else { "s" })
}

/// A matrix where it will be solved.
pub(crate) struct Loaded {
    pub(crate) operator: Box<dyn Operator<f32>>,
    /// What solves, and why that.
    pub(crate) device: Box<dyn Fn() -> String>,
}

/// Reads a matrix into memory. `why` it is not a card that solves.
pub(crate) fn in_memory(source: &mut Source<'_>, why: String) -> Result<Loaded, Error> {
    foresee(source.rows, source.columns)?;
    let mut entries = Vec::with_capacity(source.rows * source.columns);
    for index in 0..source.rows {
        (source.read)(index, &mut entries)?;
    }
    let matrix = Matrix::new(source.rows, source.columns, entries)?;
    Ok(Loaded { operator: Box::new(matrix), device: Box::new(move || processor(&why)) })
}

/// Solves with a matrix, wherever it is; gives the weights of its rows, too.
pub(super) fn run(
    solver: &Solver,
    operator: &dyn Operator<f32>,
    weights: &Weights,
    data: &[Complex32],
    control: &Control<'_>,
) -> Result<(Solution<f32>, Option<Vec<f32>>), Error> {
    let weights = weights.of(operator);
    let problem = Problem { operator, weights: weights.as_deref(), data, start: None };
    Ok((solve(solver, &problem, control)?, weights))
}

/// Whether it is the card that failed, not the problem.
fn is_of_card(error: &Error) -> bool {
    matches!(error, Error::NoGpu(_) | Error::Gpu { .. } | Error::GpuMemory { .. } | Error::GpuLost { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read_with_its_defaults() {
        let read = |text: &str| toml::from_str::<DevicePlan>(text);
        assert_eq!(read("").unwrap(), DevicePlan::default());
        let all =
            "use = \"gpu\"\nadapter = \"iris\"\nallow-software = true\nmemory-mib = 100\nfall-back = false";
        let expected = DevicePlan {
            uses: Use::Gpu,
            adapter: Some("iris".to_owned()),
            allow_software: true,
            memory_mib: Some(100),
            fall_back: false,
        };
        assert_eq!(read(all).unwrap(), expected);
        assert!(read("use = \"tpu\"").is_err() && read("lemon = 1").is_err());
    }

    #[test]
    fn a_card_leaves_to_the_processor_what_it_cannot_do() {
        let text = "no graphics card can be used: compressed matrices are the processor's";
        assert_eq!(without_card("compressed matrices", true).unwrap(), text);
        assert_eq!(without_card("compressed matrices", false).unwrap_err().to_string(), text);
    }

    #[test]
    fn the_processor_says_why_it_computes() {
        let entries = [Complex32::new(2.0, 0.0)];
        let plan = DevicePlan { uses: Use::Cpu, ..DevicePlan::default() };
        let hardware = Hardware::open(&plan).unwrap();
        let mut read = |_: usize, out: &mut Vec<Complex32>| {
            out.extend(entries);
            Ok(())
        };
        let source = Source { rows: 1, columns: 1, read: &mut read };
        let solver: Solver = toml::from_str("method = \"direct\"").unwrap();
        let solved = hardware.solve(
            &solver,
            &Weights::default(),
            source,
            &[Complex32::new(1.0, 0.0)],
            &Control::default(),
        );
        let solved = solved.unwrap();
        assert!((solved.solution.image[0].re - 0.5).abs() < 1e-6);
        assert!(solved.device.starts_with("CPU, ") && solved.device.ends_with(" (as asked for)"));
        assert!(solved.warnings.is_empty());
    }
}
