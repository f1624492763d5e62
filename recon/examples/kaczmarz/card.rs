//! The same requests for a graphics card, whose memory has the only copy of the matrix.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, stdin};
use std::time::Instant;

use hatchway_recon::gpu::{Device, Kind, Options, ShardedMatrix};
use hatchway_recon::solve::{Control, Prepared};
use num_complex::Complex;

use super::{Failed, pair, read, solver, write};

/// The card that the bench measures: the best, a software adapter if there is no other.
fn open() -> Result<Device, Failed> {
    Ok(Device::open(&Options { allow_software: true, ..Options::default() })?)
}

/// Its name, and what a software adapter's figures are worth.
pub(super) fn name() -> Result<(), Failed> {
    let device = open()?;
    let note =
        if device.adapter().kind == Kind::Software { ", software adapter (correctness only)" } else { "" };
    println!("{}{note}", device.adapter().name);
    Ok(())
}

struct Held {
    device: Device,
    file: BufReader<File>,
    data: Vec<Complex<f32>>,
    /// Of the data.
    rows: usize,
    columns: usize,
    /// The matrix of the last request.
    matrix: Option<(usize, ShardedMatrix)>,
}

/// Answers, with numbers: `run ROWS SWEEPS FRAMES [BLOCK]`, `prepare ROWS [BLOCK]`, `image ROWS SWEEPS FILE`; `open` and
/// `upload ROWS` in nanoseconds, too.
pub(super) fn serve(matrix: &str, data: &str, rows: usize, columns: usize) -> Result<(), Failed> {
    let frames = usize::try_from(std::fs::metadata(data)?.len())? / size_of::<Complex<f32>>() / rows;
    let file = BufReader::with_capacity(1 << 20, File::open(matrix)?);
    let started = Instant::now();
    let device = open()?;
    let opened = started.elapsed().as_nanos();
    let data = read(data, rows * frames)?;
    let mut held = Held { device, file, data, rows, columns, matrix: None };
    for line in stdin().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = match words[..] {
            ["open"] => opened,
            ["upload", rows] => held.upload(rows.parse()?)?,
            ["run", rows, sweeps, frames] => {
                held.run(rows.parse()?, sweeps.parse()?, frames.parse()?, None)?
            }
            ["run", rows, sweeps, frames, block] => {
                held.run(rows.parse()?, sweeps.parse()?, frames.parse()?, Some(block.parse()?))?
            }
            ["prepare", rows] => held.prepare(rows.parse()?, None)?,
            ["prepare", rows, block] => held.prepare(rows.parse()?, Some(block.parse()?))?,
            ["image", rows, sweeps, file] => held.image(rows.parse()?, sweeps.parse()?, file)?,
            _ => return Err(format!("`{line}` is no request").into()),
        };
        println!("{answer}");
    }
    Ok(())
}

impl Held {
    /// Puts the first rows into the card's memory, from the file.
    fn upload(&mut self, rows: usize) -> Result<u128, Failed> {
        self.matrix = None;
        self.file.seek(SeekFrom::Start(0))?;
        let (file, mut bytes) = (&mut self.file, vec![0; self.columns * size_of::<Complex<f32>>()]);
        let mut broken = None;
        let started = Instant::now();
        let matrix = ShardedMatrix::new(&self.device, rows, self.columns, |_, row| {
            match file.read_exact(&mut bytes) {
                Ok(()) => row.iter_mut().zip(bytes.chunks_exact(8)).for_each(|(to, from)| *to = pair(from)),
                Err(error) => broken = Some(error),
            }
            Ok(())
        })?;
        let took = started.elapsed().as_nanos();
        self.matrix = Some((rows, matrix));
        broken.map_or(Ok(took), |error| Err(error.into()))
    }

    fn matrix(&mut self, rows: usize) -> Result<&ShardedMatrix, Failed> {
        if self.matrix.as_ref().is_none_or(|(of, _)| *of != rows) {
            self.upload(rows)?;
        }
        let (_, matrix) = self.matrix.as_ref().ok_or("there is no matrix")?;
        Ok(matrix)
    }

    fn frames(&self, rows: usize, frames: usize) -> Vec<Complex<f32>> {
        self.data.chunks_exact(self.rows).take(frames).flat_map(|frame| &frame[..rows]).copied().collect()
    }

    fn run(
        &mut self,
        rows: usize,
        sweeps: usize,
        frames: usize,
        block: Option<usize>,
    ) -> Result<u128, Failed> {
        let (data, solver) = (self.frames(rows, frames), solver(sweeps, block));
        let prepared = Prepared::new(&solver, self.matrix(rows)?, None)?;
        let control = Control { skip_residuals: true, ..Control::default() };
        // The first run takes memory and compiles.
        prepared.run(&data, None, &control)?;
        let started = Instant::now();
        prepared.run(&data, None, &control)?;
        Ok(started.elapsed().as_nanos())
    }

    fn prepare(&mut self, rows: usize, block: Option<usize>) -> Result<u128, Failed> {
        let solver = solver(1, block);
        let matrix = self.matrix(rows)?;
        let started = Instant::now();
        drop(Prepared::new(&solver, matrix, None)?);
        Ok(started.elapsed().as_nanos())
    }

    fn image(&mut self, rows: usize, sweeps: usize, file: &str) -> Result<u128, Failed> {
        let (data, solver) = (self.frames(rows, 1), solver(sweeps, None));
        let solution =
            Prepared::new(&solver, self.matrix(rows)?, None)?.run(&data, None, &Control::default())?;
        write(file, &solution.image)?;
        Ok(0)
    }
}
