//! Solving on a graphics card.

use num_complex::Complex32;

use super::device::{DevicePlan, Solved, Source, run};
use super::weights::Weights;
use crate::Error;
use crate::gpu::{Choice, Device, Kind, Options, ShardedMatrix};
use crate::solve::{Control, Kaczmarz, Lambda, Solver};

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

/// Solves, and says on what.
pub(super) fn solve(
    card: &Card,
    solver: &Solver,
    weights: &Weights,
    source: &mut Source<'_>,
    data: &[Complex32],
    control: &Control<'_>,
) -> Result<Solved, Error> {
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
    let (solution, weights) = run(solver, &matrix, weights, data, control)?;
    let (adapter, shards) = (card.adapter(), matrix.shards());
    let note = if adapter.kind == Kind::Software { "; software: right, not fast" } else { "" };
    let mib = card.taken_bytes().div_ceil(1 << 20);
    let shards = format!("{shards} shard{}", if shards == 1 { "" } else { "s" });
    let device = format!("{}, {shards}, {mib} MiB ({}{note})", adapter.name, card.reason());
    Ok(Solved { solution, weights, device, warnings: Vec::new() })
}
