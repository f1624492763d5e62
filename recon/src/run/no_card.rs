//! In place of `card.rs` in programs that are built without the feature `gpu`.

use super::device::{DevicePlan, Loaded, Source};
use crate::Error;
use crate::solve::Solver;

/// There is none.
#[derive(Clone, Debug)]
pub(super) enum Card {}

pub(super) fn open(_: &DevicePlan) -> Result<Card, Error> {
    Err(Error::NoGpu(crate::gpu::WITHOUT.to_owned()))
}

pub(super) fn load(card: &Card, _: &Solver, _: &mut Source<'_>) -> Result<Loaded, Error> {
    match *card {}
}
