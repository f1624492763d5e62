//! In place of `card.rs` in programs that are built without the feature `gpu`.

use num_complex::Complex32;

use super::device::{DevicePlan, Solved, Source};
use super::weights::Weights;
use crate::Error;
use crate::solve::{Control, Solver};

/// There is none.
#[derive(Clone, Debug)]
pub(super) enum Card {}

pub(super) fn open(_: &DevicePlan) -> Result<Card, Error> {
    Err(Error::NoGpu(crate::gpu::WITHOUT.to_owned()))
}

pub(super) fn solve(
    card: &Card,
    _: &Solver,
    _: &Weights,
    _: &mut Source<'_>,
    _: &[Complex32],
    _: &Control<'_>,
) -> Result<Solved, Error> {
    match *card {}
}
