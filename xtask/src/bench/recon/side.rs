//! The programs that are timed: they read a matrix, then a request per line, and answer each with a number.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{COLUMNS, FRAMES, ROWS};
use crate::sh;

const BLOCKS: &str = include_str!("blocks.py");
const PLAIN: &str = include_str!("rows.c");

/// Threads of OpenBLAS wait in a loop for so long before they sleep; the next side should have the processor.
const PAUSE: Duration = Duration::from_millis(40);

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// The crate's example.
    Ours,
    /// With SciPy, and OpenBLAS on two threads.
    NumPy,
    /// Row by row.
    C,
    /// The same with liberties in the order of sums.
    FastC,
    /// The crate's example, on the machine's graphics card.
    Card,
}

/// All programs.
pub(super) struct Sides {
    example: PathBuf,
    /// The name of the graphics card, if there is one.
    card: Option<String>,
    all: Vec<(Who, Side)>,
}

impl Sides {
    /// Builds them, makes the matrix, and starts them.
    pub(super) fn start(scratch: &Path) -> Result<Self> {
        ensure_numpy()?;
        let example = build()?;
        let [matrix, data] = ["matrix", "data"].map(|name| scratch.join(name));
        let [rows, columns, frames] = [ROWS, COLUMNS, FRAMES].map(|count| count.to_string());
        sh::run(Command::new(&example).arg("make").args([&matrix, &data]).args([&rows, &columns, &frames]))?;
        let blocks = scratch.join("blocks.py");
        fs::write(&blocks, BLOCKS)?;
        let mut numpy = Command::new("/usr/bin/python3");
        numpy.arg(&blocks).env("OPENBLAS_NUM_THREADS", "2");
        let mut ours = Command::new(&example);
        ours.arg("serve");
        let mut commands = vec![
            (Who::Ours, ours),
            (Who::NumPy, numpy),
            (Who::C, Command::new(compile(scratch, "plain", &[])?)),
            (Who::FastC, Command::new(compile(scratch, "fast", &["-ffast-math"])?)),
        ];
        let card = sh::capture(Command::new(&example).arg("card")).ok().map(|name| name.trim().to_owned());
        if card.is_some() {
            let mut command = Command::new(&example);
            command.arg("serve-card");
            commands.push((Who::Card, command));
        }
        let start = |(who, mut command): (Who, Command)| {
            command.args([&matrix, &data]).args([&rows, &columns]);
            Ok((who, Side::start(command)?))
        };
        Ok(Self { example, card, all: commands.into_iter().map(start).collect::<Result<_>>()? })
    }

    /// The name of the graphics card, if there is one.
    pub(super) fn card(&self) -> Option<&str> {
        self.card.as_deref()
    }

    /// The number that a program answers.
    pub(super) fn ask(&mut self, who: Who, request: &str) -> Result<f64> {
        let side = self.all.iter_mut().find(|(other, _)| *other == who);
        let answer = side.with_context(|| format!("there is no {who:?}"))?.1.ask(request);
        thread::sleep(PAUSE);
        answer.with_context(|| format!("{who:?} does not answer `{request}`"))
    }

    /// Times of requests in turns, after a round that does not count.
    pub(super) fn in_turns(&mut self, rounds: usize, requests: &[(Who, String)]) -> Result<Vec<Times>> {
        let mut times = vec![Times::default(); requests.len()];
        for round in 0..=rounds {
            for step in 0..requests.len() {
                let index = (round + step) % requests.len();
                let took = self.ask(requests[index].0, &requests[index].1)?;
                if round > 0 {
                    times[index].nanoseconds.push(took);
                }
            }
        }
        ensure!(rounds > 0, "nothing was measured");
        Ok(times)
    }

    /// Bytes per second that two threads of ours read.
    pub(super) fn bandwidth(&self) -> Result<f64> {
        let said = sh::capture(Command::new(&self.example).arg("bandwidth"))?;
        said.trim().parse().with_context(|| format!("`{said}` is no number"))
    }
}

/// SciPy, and the BLAS with threads: Debian's other one would make it easy for us.
fn ensure_numpy() -> Result<()> {
    let has_scipy = sh::succeeds(Command::new("/usr/bin/python3").args(["-c", "import scipy.linalg"]));
    let has_blas = sh::succeeds(Command::new("dpkg-query").args(["--show", "libopenblas0-pthread"]));
    ensure!(
        has_scipy && has_blas,
        "SciPy or OpenBLAS is missing\nhint: apt-get install python3-scipy libopenblas0-pthread"
    );
    Ok(())
}

fn build() -> Result<PathBuf> {
    let args = ["build", "--release", "--package", "hatchway-recon", "--features", "gpu"];
    sh::run(sh::cargo().args(args).args(["--example", "kaczmarz"]))?;
    Ok(sh::target_folder()?.join("release/examples/kaczmarz"))
}

fn compile(folder: &Path, name: &str, options: &[&str]) -> Result<PathBuf> {
    let (source, program) = (folder.join("rows.c"), folder.join(name));
    fs::write(&source, PLAIN)?;
    let mut gcc = Command::new("gcc");
    gcc.args(["-O3", "-march=native", "-std=gnu11"]).args(options);
    sh::run(gcc.arg("-o").arg(&program).arg(&source).arg("-lm"))?;
    Ok(program)
}

/// One program.
struct Side {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Side {
    fn start(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start `{}`", sh::shown(&command)))?;
        let input = child.stdin.take().context("a program without an input")?;
        let output = BufReader::new(child.stdout.take().context("a program without an output")?);
        Ok(Self { child, input, output })
    }

    fn ask(&mut self, request: &str) -> Result<f64> {
        writeln!(self.input, "{request}")?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        line.trim().parse().with_context(|| format!("`{}` is no number", line.trim()))
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // It waits for a request that will not come.
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("warning: a program of the bench stays behind: {error}");
        }
    }
}

/// Times of one request, in the order of the rounds.
#[derive(Debug, Clone, Default)]
pub(super) struct Times {
    nanoseconds: Vec<f64>,
}

impl Times {
    pub(super) fn median_ms(&self) -> f64 {
        spread(self.nanoseconds.iter().copied()).1 / 1e6
    }

    pub(super) fn describe(&self) -> String {
        let (least, median) = spread(self.nanoseconds.iter().copied());
        format!("min {:.2} ms, median {:.2} ms", least / 1e6, median / 1e6)
    }

    /// Over the pairs of one round each.
    pub(super) fn ratio(&self, under: &Self) -> String {
        let pairs = self.nanoseconds.iter().zip(&under.nanoseconds);
        let (least, median) = spread(pairs.map(|(over, under)| over / under));
        format!("median {median:.2}, min {least:.2}")
    }
}

/// The least and the median; NaN of nothing.
fn spread(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    (at(0), at(sorted.len() / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_the_pairs_of_a_round() {
        let [slow, fast] =
            [[4e6, 30e6, 5e6], [2e6, 10e6, 5e6]].map(|times| Times { nanoseconds: times.to_vec() });
        assert_eq!(slow.ratio(&fast), "median 2.00, min 1.00");
        assert_eq!(fast.describe(), "min 2.00 ms, median 5.00 ms");
    }
}
