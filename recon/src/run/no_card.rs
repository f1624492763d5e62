//! In place of `card.rs` in programs that are built without the feature `gpu`.

use num_complex::Complex32;

use super::device::{DevicePlan, Source};
use crate::Error;
use crate::solve::{Control, Solution, Solver};

/// There is none.
#[derive(Clone, Debug)]
pub(super) enum Card {}

pub(super) fn open(_: &DevicePlan) -> Result<Card, Error> {
    Err(Error::NoGpu(crate::gpu::WITHOUT.to_owned()))
}

pub(super) fn solve(
    card: &Card,
    _: &Solver,
    _: &mut Source<'_>,
    _: &[Complex32],
    _: &Control<'_>,
) -> Result<(Solution<f32>, String), Error> {
    match *card {}
}
