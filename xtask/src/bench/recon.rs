//! `cargo xtask bench recon`: what Kaczmarz's method costs, beside NumPy with SciPy in blocks too, and beside a plain loop in C;
//! and on the machine's graphics card.
//!
//! Every side is a program that has the same matrix in memory and is asked in turns, so that a slow moment of the machine
//! hits all of them.

mod card;
mod side;

use std::path::Path;

use anyhow::Result;

use super::machine;
use crate::sh;
use side::{Sides, Who};

/// Rounds over all sides.
const ROUNDS: usize = 11;
/// Rounds that find the size of NumPy's blocks.
const TRIALS: usize = 3;
const ROWS: usize = 6000;
const COLUMNS: usize = 6859;
const FRAMES: usize = 16;
/// Sizes of blocks of which NumPy has its best.
const BLOCKS: [usize; 5] = [16, 32, 64, 128, 256];
/// The period of a frame at 46 frames per second.
const FRAME_MS: f64 = 21.5;
/// Bytes of a complex number in single precision.
const ENTRY_BYTES: f64 = 8.0;
/// Real operations of a complex multiplication and addition.
const OPERATIONS: f64 = 8.0;

type Rows = Vec<(String, String)>;

pub(super) fn measure() -> Result<String> {
    let scratch = sh::Scratch::new("hatchway-bench")?;
    let mut sides = Sides::start(&scratch.path)?;
    let mut rows: Rows = vec![("machine".into(), machine()?)];
    for (count, sweeps) in [(2000, 1), (2000, 3), (6000, 1), (6000, 3)] {
        rows.extend(one_frame(&mut sides, count, sweeps)?);
    }
    rows.push(in_a_frame(&mut sides)?);
    rows.extend(many_frames(&mut sides)?);
    rows.extend(preparation(&mut sides)?);
    rows.extend(memory(&mut sides)?);
    rows.extend(differences(&mut sides, &scratch.path)?);
    rows.extend(card::rows(&mut sides, &scratch.path)?);
    let lines = rows.iter().map(|(what, value)| format!("| {what} | {value} |\n"));
    Ok(format!("| what | value |\n| --- | --- |\n{}", lines.collect::<String>()))
}

/// The size of NumPy's blocks with the shortest time.
fn best_block(sides: &mut Sides, rows: usize, frames: usize) -> Result<usize> {
    let mut found = (f64::INFINITY, BLOCKS[0]);
    for _ in 0..TRIALS {
        for block in BLOCKS {
            let took = sides.ask(Who::NumPy, &format!("run {rows} 1 {frames} {block}"))?;
            if took < found.0 {
                found = (took, block);
            }
        }
    }
    Ok(found.1)
}

/// One frame, all sides.
fn one_frame(sides: &mut Sides, rows: usize, sweeps: usize) -> Result<Rows> {
    let block = best_block(sides, rows, 1)?;
    let times = sides.in_turns(
        ROUNDS,
        &[
            (Who::Ours, format!("run {rows} {sweeps} 1 2")),
            (Who::Ours, format!("run {rows} {sweeps} 1 1")),
            (Who::NumPy, format!("run {rows} {sweeps} 1 {block}")),
            (Who::C, format!("run {rows} {sweeps}")),
            (Who::FastC, format!("run {rows} {sweeps}")),
        ],
    )?;
    let what = format!("{rows} × {COLUMNS}, 1 frame, {}", counted(sweeps));
    let names = [
        "ours, two threads".to_owned(),
        "ours, one thread".to_owned(),
        format!("NumPy and SciPy, blocks of {block}, two threads"),
        "C row by row, `-O3 -march=native`, one thread".to_owned(),
        "the same with `-ffast-math`".to_owned(),
    ];
    let mut out: Rows =
        names.iter().zip(&times).map(|(name, times)| (format!("{what}: {name}"), times.describe())).collect();
    let ratio = |over: usize| times[over].ratio(&times[0]);
    out.push((format!("**NumPy / ours**, {ROUNDS} pairs (wanted: 1.3)"), ratio(2)));
    out.push((format!("**C / ours on two cores**, {ROUNDS} pairs (wanted: 3)"), ratio(3)));
    out.push((format!("`-ffast-math` / ours, {ROUNDS} pairs"), ratio(4)));
    out.push((format!("ours, one thread / two, {ROUNDS} pairs"), ratio(1)));
    Ok(out)
}

fn counted(sweeps: usize) -> String {
    if sweeps == 1 { "1 sweep".to_owned() } else { format!("{sweeps} sweeps") }
}

/// What a scanner with 46 frames per second leaves time for.
fn in_a_frame(sides: &mut Sides) -> Result<(String, String)> {
    let times = sides.in_turns(2 * ROUNDS, &[(Who::Ours, "run 3000 3 1 2".to_owned())])?;
    let what = format!("**3 sweeps over 3000 × {COLUMNS}, 1 frame, two threads** (wanted: {FRAME_MS} ms)");
    Ok((what, times[0].describe()))
}

/// 16 frames, beside NumPy and beside what the processor can do.
#[expect(clippy::cast_precision_loss, reason = "operations to three digits")]
fn many_frames(sides: &mut Sides) -> Result<Rows> {
    let rows = 2000;
    let block = best_block(sides, rows, FRAMES)?;
    let requests = [
        (Who::Ours, format!("run {rows} 1 {FRAMES} 2")),
        (Who::Ours, format!("run {rows} 1 {FRAMES} 1")),
        (Who::NumPy, format!("run {rows} 1 {FRAMES} {block}")),
    ];
    let times = sides.in_turns(ROUNDS, &requests)?;
    let peak = sides.ask(Who::NumPy, "peak")?;
    // Two passes; what the triangles need is left out.
    let operations = 2.0 * (rows * COLUMNS * FRAMES) as f64 * OPERATIONS;
    let reached = operations / (times[0].median_ms() * 1e6);
    let what = format!("{rows} × {COLUMNS}, {FRAMES} frames, 1 sweep");
    Ok(vec![
        (format!("{what}: ours, two threads"), times[0].describe()),
        (format!("{what}: ours, one thread"), times[1].describe()),
        (format!("{what}: NumPy and SciPy, blocks of {block}, two threads"), times[2].describe()),
        (
            format!("**NumPy / ours, {FRAMES} frames**, {ROUNDS} pairs (wanted: 1.3)"),
            times[2].ratio(&times[0]),
        ),
        (
            "ours: 2 passes × rows × columns × 8 operations × frames, by the median".to_owned(),
            format!("{reached:.0} GFLOP/s"),
        ),
        (
            "complex matrix product of OpenBLAS, two threads, at its best size".to_owned(),
            format!("{peak:.0} GFLOP/s"),
        ),
        ("**ours / matrix product** (wanted: 0.5)".to_owned(), format!("{:.2}", reached / peak)),
    ])
}

/// What is done once for a matrix.
fn preparation(sides: &mut Sides) -> Result<Rows> {
    let block = best_block(sides, 2000, 1)?;
    let requests = [(Who::Ours, "prepare 2000 2".to_owned()), (Who::NumPy, format!("prepare 2000 {block}"))];
    let times = sides.in_turns(TRIALS, &requests)?;
    Ok(vec![
        (format!("preparation for 2000 × {COLUMNS}: ours, two threads"), times[0].describe()),
        (format!("the same: NumPy, blocks of {block}"), times[1].describe()),
    ])
}

/// How fast memory is, and how much of it is taken.
#[expect(clippy::cast_precision_loss, reason = "rates and sizes to three digits")]
fn memory(sides: &mut Sides) -> Result<Rows> {
    let ours = sides.bandwidth()? / 1e9;
    let theirs = sides.ask(Who::NumPy, "bandwidth")? / 1e9;
    let resident = sides.ask(Who::Ours, "memory")? * 1024.0 / 1e6;
    let matrix = (ROWS * COLUMNS) as f64 * ENTRY_BYTES / 1e6;
    Ok(vec![
        ("sum over 1 GiB: ours, two threads".to_owned(), format!("{ours:.1} GB/s")),
        ("sum over 1 GiB: NumPy, one thread".to_owned(), format!("{theirs:.1} GB/s")),
        (
            format!("resident at most, after all of ours; the matrix has {matrix:.0} MB"),
            format!("{resident:.0} MB"),
        ),
    ])
}

/// How far images are from the definition in double precision.
fn differences(sides: &mut Sides, scratch: &Path) -> Result<Rows> {
    let (blocks, rows) = (scratch.join("blocks"), scratch.join("rows"));
    sides.ask(Who::Ours, &format!("image 2000 3 8 {}", blocks.display()))?;
    sides.ask(Who::Ours, &format!("image 2000 3 1 {}", rows.display()))?;
    let far = sides.ask(Who::NumPy, &format!("far 2000 3 {}", blocks.display()))?;
    let apart = sides.ask(Who::NumPy, &format!("apart {} {}", blocks.display(), rows.display()))?;
    let what = format!("2000 × {COLUMNS}, 3 sweeps");
    Ok(vec![
        (
            format!("{what}: ours in single precision, from NumPy row by row in double precision, relative"),
            format!("{far:.1e}"),
        ),
        (format!("{what}: ours in blocks from ours row by row, relative"), format!("{apart:.1e}")),
    ])
}
