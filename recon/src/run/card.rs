//! Solving on a graphics card.

use super::device::{DevicePlan, Loaded, Source};
use crate::Error;
use crate::gpu::{Choice, Device, Kind, Options, ShardedMatrix};
use crate::solve::{Kaczmarz, Lambda, Solver};

/// A card that is open.
pub(super) type Card = Device;

pub(super) fn open(plan: &DevicePlan) -> Result<Card, Error> {
    let Ok(choice) = plan.adapter.as_deref().unwrap_or("auto").parse::<Choice>();
    Device::open(&Options {
        choice,
        allow_software: plan.allow_software,
        shard_bytes_max: None,
        memory_bytes_max: plan.memory_mib.map(|mib| mib.saturating_mul(1 << 20)),
    })
}

/// Reads a matrix to where it is solved, and says on what.
pub(super) fn load(card: &Card, solver: &Solver, source: &mut Source<'_>) -> Result<Loaded, Error> {
    if let Solver::Kaczmarz(Kaczmarz { lambda: Lambda::PerVoxel(_), .. }) = solver {
        // It needs a second matrix, which would be in this process's memory.
        let what = "Kaczmarz's method with a lambda for every voxel is the processor's";
        return Err(Error::NoGpu(what.to_owned()));
    }
    let mut values = Vec::with_capacity(source.columns);
    let matrix = ShardedMatrix::new(card, source.rows, source.columns, |index, row| {
        values.clear();
        (source.read)(index, &mut values)?;
        if values.len() != row.len() {
            let (expected, found) = (row.len(), values.len());
            return Err(Error::Dimension { what: "entries of a row of the matrix", expected, found });
        }
        row.copy_from_slice(&values);
        Ok(())
    })?;
    let shards = matrix.shards();
    let card = card.clone();
    Ok(Loaded { operator: Box::new(matrix), device: Box::new(move || describe(&card, shards)) })
}

/// What it takes of the card is known once it has solved.
fn describe(card: &Card, shards: usize) -> String {
    let adapter = card.adapter();
    let note = if adapter.kind == Kind::Software { "; software: right, not fast" } else { "" };
    let mib = card.taken_bytes().div_ceil(1 << 20);
    let shards = format!("{shards} shard{}", if shards == 1 { "" } else { "s" });
    format!("{}, {shards}, {mib} MiB ({}{note})", adapter.name, card.reason())
}
