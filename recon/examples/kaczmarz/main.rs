//! Kaczmarz's method on request: the program that `cargo xtask bench recon` times beside others.
//!
//! `kaczmarz make MATRIX DATA ROWS COLUMNS FRAMES` writes a random matrix and frames that fit it, complex numbers of two
//! little-endian singles. `kaczmarz bandwidth` says how many bytes per second two threads read. `kaczmarz serve
//! MATRIX DATA ROWS COLUMNS` reads them and answers lines, each with a number on a line of its own:
//!
//! - `run ROWS SWEEPS FRAMES THREADS [BLOCK]`: nanoseconds of the solution with the first rows, without preparation.
//! - `prepare ROWS THREADS`: nanoseconds of norms and triangles.
//! - `image ROWS SWEEPS BLOCK FILE`: writes the image of the first frame; answers 0.
//! - `memory`: the most that was ever resident, in KiB.
//!
//! With the feature `gpu` there are `kaczmarz card`, which says which graphics card there is, and `kaczmarz serve-card`, which
//! answers like `serve` from it.
#![allow(clippy::print_stdout, reason = "what it prints is its result")]

#[cfg(feature = "gpu")]
mod card;

use std::error::Error;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write, stdin};
use std::time::Instant;

use hatchway_recon::solve::{
    Control, Kaczmarz, Lambda, Matrix, Normalisation, Operator, Prepared, Projection, Solver, SplitMix64,
};
use num_complex::Complex;
use rayon::prelude::*;

type Failed = Box<dyn Error + Send + Sync>;

/// λ, not normalised; the other sides have the same.
const LAMBDA: f64 = 1.0;

/// Bytes that the probe of the memory's bandwidth reads.
const PROBED: usize = 1 << 30;

fn main() -> Result<(), Failed> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["make", matrix, data, rows, columns, frames] => {
            make(matrix, data, rows.parse()?, columns.parse()?, frames.parse()?)
        }
        ["bandwidth"] => bandwidth(),
        ["serve", matrix, data, rows, columns] => serve(matrix, data, rows.parse()?, columns.parse()?),
        #[cfg(feature = "gpu")]
        ["card"] => card::name(),
        #[cfg(feature = "gpu")]
        ["serve-card", matrix, data, rows, columns] => {
            card::serve(matrix, data, rows.parse()?, columns.parse()?)
        }
        _ => Err("usage: kaczmarz make|bandwidth|serve ARGUMENTS".into()),
    }
}

fn make(matrix: &str, data: &str, rows: usize, columns: usize, frames: usize) -> Result<(), Failed> {
    let mut random = SplitMix64::new(1);
    #[expect(clippy::cast_possible_truncation, reason = "random numbers, rounded to single precision")]
    let mut next = || random.unit() as f32;
    let entries = (0..rows * columns).map(|_| Complex::new(next() - 0.5, next() - 0.5)).collect();
    let made = Matrix::new(rows, columns, entries)?;
    write(matrix, made.entries())?;
    let mut all = Vec::with_capacity(rows * frames);
    for _ in 0..frames {
        let image: Vec<_> = (0..columns).map(|_| Complex::new(next(), 0.0)).collect();
        let mut frame = vec![Complex::default(); rows];
        made.forward(&image, &mut frame);
        all.extend(frame);
    }
    write(data, &all)
}

fn write(path: &str, values: &[Complex<f32>]) -> Result<(), Failed> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    for value in values {
        file.write_all(&value.re.to_le_bytes())?;
        file.write_all(&value.im.to_le_bytes())?;
    }
    Ok(file.flush()?)
}

fn read(path: &str, count: usize) -> Result<Vec<Complex<f32>>, Failed> {
    let mut file = BufReader::with_capacity(1 << 20, File::open(path)?);
    let mut values = Vec::with_capacity(count);
    let mut bytes = [0; 8];
    for _ in 0..count {
        file.read_exact(&mut bytes)?;
        values.push(pair(&bytes));
    }
    Ok(values)
}

/// A complex number of eight bytes.
fn pair(bytes: &[u8]) -> Complex<f32> {
    let part = |at: usize| f32::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]));
    Complex::new(part(0), part(4))
}

/// The best of some passes over a large buffer.
#[expect(clippy::cast_precision_loss, reason = "a rate to three digits")]
fn bandwidth() -> Result<(), Failed> {
    let buffer = vec![1_u64; PROBED / size_of::<u64>()];
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build()?;
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let started = Instant::now();
        let sum: u64 = pool.install(|| buffer.par_chunks(1 << 16).map(|part| part.iter().sum::<u64>()).sum());
        best = best.min(started.elapsed().as_secs_f64());
        if sum != buffer.len() as u64 {
            return Err(format!("{} ones add up to {sum}", buffer.len()).into());
        }
    }
    println!("{}", PROBED as f64 / best);
    Ok(())
}

/// What requests are about.
struct Held {
    entries: Vec<Complex<f32>>,
    data: Vec<Complex<f32>>,
    rows: usize,
    columns: usize,
}

fn serve(matrix: &str, data: &str, rows: usize, columns: usize) -> Result<(), Failed> {
    let frames = usize::try_from(std::fs::metadata(data)?.len())? / size_of::<Complex<f32>>() / rows;
    let held =
        Held { entries: read(matrix, rows * columns)?, data: read(data, rows * frames)?, rows, columns };
    for line in stdin().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = match words[..] {
            ["run", rows, sweeps, frames, threads] => {
                let solver = solver(sweeps.parse()?, None);
                pool(threads)?.install(|| held.run(rows.parse()?, &solver, frames.parse()?))?
            }
            ["run", rows, sweeps, frames, threads, block] => {
                let solver = solver(sweeps.parse()?, Some(block.parse()?));
                pool(threads)?.install(|| held.run(rows.parse()?, &solver, frames.parse()?))?
            }
            ["prepare", rows, threads] => pool(threads)?.install(|| held.prepare(rows.parse()?))?,
            ["image", rows, sweeps, block, file] => {
                held.image(rows.parse()?, sweeps.parse()?, block.parse()?, file)?
            }
            ["memory"] => memory()?,
            _ => return Err(format!("`{line}` is no request").into()),
        };
        println!("{answer}");
    }
    Ok(())
}

/// Threads that are there before the clock runs.
fn pool(threads: &str) -> Result<rayon::ThreadPool, Failed> {
    Ok(rayon::ThreadPoolBuilder::new().num_threads(threads.parse()?).build()?)
}

impl Held {
    fn matrix(&self, rows: usize) -> Result<Matrix<'_, f32>, Failed> {
        Ok(Matrix::borrowed(rows, self.columns, &self.entries[..rows * self.columns])?)
    }

    /// The first rows of the first frames.
    fn frames(&self, rows: usize, frames: usize) -> Vec<Complex<f32>> {
        self.data.chunks_exact(self.rows).take(frames).flat_map(|frame| &frame[..rows]).copied().collect()
    }

    fn run(&self, rows: usize, solver: &Solver, frames: usize) -> Result<u128, Failed> {
        let (matrix, data) = (self.matrix(rows)?, self.frames(rows, frames));
        let prepared = Prepared::new(solver, &matrix, None)?;
        let started = Instant::now();
        let solution = prepared.run(&data, None, &Control { skip_residuals: true, ..Control::default() })?;
        let took = started.elapsed().as_nanos();
        drop(solution);
        Ok(took)
    }

    fn prepare(&self, rows: usize) -> Result<u128, Failed> {
        let (matrix, solver) = (self.matrix(rows)?, solver(1, None));
        let started = Instant::now();
        let prepared = Prepared::new(&solver, &matrix, None)?;
        let took = started.elapsed().as_nanos();
        drop(prepared);
        Ok(took)
    }

    fn image(&self, rows: usize, sweeps: usize, block: usize, file: &str) -> Result<u128, Failed> {
        let (matrix, solver) = (self.matrix(rows)?, solver(sweeps, Some(block)));
        let solution =
            Prepared::new(&solver, &matrix, None)?.run(&self.frames(rows, 1), None, &Control::default())?;
        write(file, &solution.image)?;
        Ok(0)
    }
}

/// What is measured: λ > 0, and no negative voxels.
fn solver(sweeps: usize, block: Option<usize>) -> Solver {
    Solver::Kaczmarz(Kaczmarz {
        iterations: sweeps,
        lambda: Lambda::Same(LAMBDA),
        normalisation: Normalisation::None,
        projections: vec![Projection::Positive],
        block,
        ..Kaczmarz::default()
    })
}

fn memory() -> Result<u128, Failed> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("there is no `VmHWM`")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
