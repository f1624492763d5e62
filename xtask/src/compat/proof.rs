//! That a program works, seen from outside.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::bench::Bench;
use super::programs::{Program, Proof};
use super::screen::Screen;
use crate::sh;

/// Longest run of a console program.
const CONSOLE: Duration = Duration::from_secs(120);
/// How long a service may take until it answers.
const STARTING: Duration = Duration::from_secs(30);
/// How long a program may take to end when it is asked to.
const ENDING: Duration = Duration::from_secs(20);
/// Bytes of a service's answer that are looked at.
const ANSWER: usize = 4096;

/// One sentence about what was seen.
pub(super) fn prove(bench: &Bench, screen: &Screen, program: &Program) -> Result<String> {
    match program.proof {
        Proof::Prints(words) => prints(bench, program, words),
        Proof::Draws { seconds, acts } => draws(bench, screen, program, seconds, acts),
        Proof::Answers { port, sends, says } => answers(bench, program, port, sends, says),
    }
}

fn words(bench: &Bench, program: &Program) -> Vec<String> {
    let share = bench.share();
    let share = share.to_string_lossy();
    let mut words: Vec<String> = ["run", program.name, "--share"].map(str::to_owned).to_vec();
    words.push(format!("{share}:ro"));
    words.push("--".to_owned());
    words.extend(program.arguments.iter().map(|word| word.replace("SHARE", &share)));
    words
}

fn prints(bench: &Bench, program: &Program, expected: &str) -> Result<String> {
    let words = words(bench, program);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let shown = sh::Shown { stdout: false, stderr: false };
    let finished = sh::run_limited(&mut bench.hatchway(&words), CONSOLE, shown)?;
    let all = finished.stdout + &finished.stderr;
    std::fs::write(bench.log(program), &all).context("cannot write the log")?;
    if !finished.status.success() {
        bail!("it {}: {}", sh::ended(finished.status), all.lines().next_back().unwrap_or_default());
    }
    let line = all.lines().find(|line| line.contains(expected));
    let line = line.with_context(|| format!("it does not print `{expected}`"))?;
    Ok(format!("prints `{}`", line.trim()))
}

/// A program that goes on until it is asked to end.
struct Running {
    child: Child,
}

impl Running {
    fn start(bench: &Bench, program: &Program, display: Option<&str>) -> Result<Self> {
        let words = words(bench, program);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let log = File::create(bench.log(program)).context("cannot write the log")?;
        let mut command = bench.hatchway(&words);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        if let Some(display) = display {
            command.env("DISPLAY", display);
        }
        let child = command.spawn().with_context(|| format!("cannot start `{}`", sh::shown(&command)))?;
        Ok(Self { child })
    }

    fn still_runs(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("it {} too early", sh::ended(status)),
        }
    }

    /// Asks it to end, and waits.
    fn end(mut self) -> Result<()> {
        self.still_runs()?;
        sh::run(std::process::Command::new("kill").args(["-TERM", &self.child.id().to_string()]))?;
        let deadline = Instant::now() + ENDING;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("it does not end when asked to");
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Where it has ended by itself there is nothing to kill.
        if matches!(self.child.try_wait(), Ok(None)) && self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}

fn draws(
    bench: &Bench,
    screen: &Screen,
    program: &Program,
    seconds: u64,
    acts: &[(&str, u64)],
) -> Result<String> {
    let mut running = Running::start(bench, program, Some(screen.display()))?;
    thread::sleep(Duration::from_secs(seconds));
    running.still_runs()?;
    for (act, seconds) in acts {
        screen.act(act)?;
        thread::sleep(Duration::from_secs(*seconds));
    }
    screen.picture(&bench.picture(program))?;
    running.end()?;
    Ok("draws its window, ends when asked to".to_owned())
}

fn answers(bench: &Bench, program: &Program, port: u16, sends: &str, says: &str) -> Result<String> {
    if TcpStream::connect(("127.0.0.1", port)).is_ok() {
        bail!("port {port} is taken on this machine");
    }
    let mut running = Running::start(bench, program, None)?;
    let deadline = Instant::now() + STARTING;
    let mut stream = loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => break stream,
            Err(error) => {
                running.still_runs()?;
                if Instant::now() > deadline {
                    bail!("nothing listens on port {port}: {error}");
                }
                thread::sleep(Duration::from_millis(100));
            }
        }
    };
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(sends.as_bytes())?;
    let mut answer = vec![0; ANSWER];
    let length = stream.read(&mut answer).context("it accepts and does not answer")?;
    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
    if !answer.contains(says) {
        let first = answer.lines().next().unwrap_or_default().escape_default().to_string();
        bail!("it answers `{first}`, not `{}`", says.escape_default());
    }
    drop(stream);
    running.end()?;
    Ok(format!("answers `{}` on port {port}, ends when asked to", says.escape_default()))
}
