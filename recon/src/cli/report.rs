//! The only place that prints. Data goes to stdout, everything else to stderr; colour is never needed.

use std::error::Error as _;
use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::Error;

/// Columns of a plain terminal.
const COLUMNS: usize = 80;
/// Reads that are over before need no bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// Data for whoever reads stdout.
pub(super) fn data(text: impl Display) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    let text = plain(&text.to_string());
    writeln!(out, "{}", text.trim_end_matches('\n')).and_then(|()| out.flush()).map_err(Error::Output)
}

/// Data as JSON.
pub(super) fn json(value: &impl serde::Serialize) -> Result<(), Error> {
    data(serde_json::to_string_pretty(value).map_err(|error| Error::Output(error.into()))?)
}

/// A picture of the program's own, with the codes that colour it.
pub(super) fn picture(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Error::Output)
}

/// A line for the person.
pub(super) fn say(text: impl Display) {
    // Nobody can be told when stderr is gone.
    drop(writeln!(std::io::stderr().lock(), "{}", plain(&text.to_string())));
}

/// An error with its causes and hints.
pub(super) fn error(error: &Error) {
    let mut text = format!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        let line = error.to_string();
        // Errors of `hdf5-pure` say their source themselves.
        if !text.ends_with(&line) {
            text.push_str(&format!("\n  because: {line}"));
        }
        cause = error.source();
    }
    for hint in error.hints() {
        text.push_str(&format!("\nhint: {hint}"));
    }
    // Nobody can be told when stderr is gone.
    drop(writeln!(std::io::stderr().lock(), "{}", plain(&text)));
}

/// A line for the person.
pub(super) fn note(text: impl Display) {
    // Nobody can be told when stderr is gone.
    drop(writeln!(std::io::stderr().lock(), "note: {}", plain(&text.to_string())));
}

/// Texts of files may hold anything; nothing may steer the terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// Breaks a text between words into lines of 80 columns, each behind `indent` spaces. A word that is longer is broken.
pub(super) fn wrapped(text: &str, indent: usize) -> String {
    let width = COLUMNS.saturating_sub(indent).max(1);
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > width {
            lines.push(String::new());
            used = 0;
        }
        for (at, c) in word.chars().enumerate() {
            if used >= width {
                lines.push(String::new());
                used = 0;
            }
            if at == 0 && used > 0 {
                push(&mut lines, ' ');
                used += 1;
            }
            push(&mut lines, c);
            used += 1;
        }
    }
    let margin = " ".repeat(indent);
    lines.iter().map(|line| format!("{margin}{line}\n")).collect()
}

fn push(lines: &mut [String], c: char) {
    if let Some(line) = lines.last_mut() {
        line.push(c);
    }
}

/// A bar for reads that take over a second, on a terminal only.
pub(super) struct Progress {
    begun: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { begun: Instant::now(), bar: None }
    }

    /// So many of so many bytes are read.
    pub(super) fn at(&mut self, done: u64, total: u64) {
        if self.bar.is_none() && self.begun.elapsed() > PATIENCE && std::io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            if let Ok(style) =
                ProgressStyle::with_template("  reading [{bar:30}] {bytes}/{total_bytes} {eta}")
            {
                bar.set_style(style.progress_chars("=> "));
            }
            self.bar = Some(bar);
        }
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(done);
        }
    }

    pub(super) fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Does something, with a sign of life if it takes over a second, on a terminal only.
pub(super) fn busy<T>(what: &'static str, work: impl FnOnce() -> T) -> T {
    if !std::io::stderr().is_terminal() {
        return work();
    }
    std::thread::scope(|scope| {
        let (done, waits) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || {
            // It is dropped when the work is done, or has panicked.
            if waits.recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
                if let Ok(style) = ProgressStyle::with_template("  {spinner} {msg} {elapsed}") {
                    bar.set_style(style);
                }
                bar.set_message(what);
                bar.enable_steady_tick(Duration::from_millis(100));
                waits.recv().ok();
                bar.finish_and_clear();
            }
        });
        let out = work();
        drop(done);
        out
    })
}

/// A bar for a solver that takes over a second, on a terminal only.
pub(super) struct Steps {
    begun: Instant,
    bar: ProgressBar,
}

impl Steps {
    pub(super) fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template("  {msg} [{bar:30}] {pos}/{len} {eta}") {
            bar.set_style(style.progress_chars("=> "));
        }
        Self { begun: Instant::now(), bar }
    }

    /// So far is the solver.
    pub(super) fn at(&self, progress: crate::solve::Progress) {
        if self.bar.is_hidden() && self.begun.elapsed() > PATIENCE && std::io::stderr().is_terminal() {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.set_length(progress.iterations_max as u64);
        self.bar.set_message(format!("frame {}", progress.frame + 1));
        self.bar.set_position(progress.iteration as u64);
    }

    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_the_terminal() {
        let text = format!("{} {} end", "word ".repeat(40), "x".repeat(200));
        let wrapped = wrapped(&text, 11);
        assert!(wrapped.lines().all(|line| line.chars().count() <= 80), "{wrapped}");
        let words = |text: &str| text.split_whitespace().collect::<String>();
        assert_eq!(words(&wrapped), words(&text));
    }

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(plain("a\x1b[2Jb\n"), "a\u{fffd}[2Jb\n");
    }
}
