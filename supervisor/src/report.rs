//! The only place that prints. Data goes to stdout, everything else to stderr; colour is never needed.

use std::error::Error as _;
use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::sync::Mutex;

use hatchway_envs::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::error::Error;

/// What a verb that fails ends with, unless it is told otherwise.
const FAILURE: u8 = 2;

/// Where messages and progress go.
#[derive(Debug)]
pub struct Printer {
    /// Nothing but errors and data.
    pub quiet: bool,
    /// The exit code where data cannot be written: the verb's own for a failure of Hatchway's.
    failure: u8,
    bar: Mutex<Option<ProgressBar>>,
}

impl Default for Printer {
    fn default() -> Self {
        Self::new(false)
    }
}

impl Printer {
    /// A printer; a quiet one prints only data and errors.
    #[must_use]
    pub fn new(quiet: bool) -> Self {
        Self { quiet, failure: FAILURE, bar: Mutex::new(None) }
    }

    /// Data that cannot be written ends the program with this code.
    pub(crate) fn failing_with(&mut self, code: u8) {
        self.failure = code;
    }

    /// Data for whoever reads stdout. A closed pipe ends the program quietly, as with other tools; any other failure is told.
    pub fn data(&self, text: impl Display) {
        let mut out = std::io::stdout().lock();
        let written = writeln!(out, "{text}").and_then(|()| out.flush());
        if let Err(error) = written {
            self.give_up(&error);
        }
    }

    /// Whoever was to read the data has not got it: no verb may end as if it had.
    #[allow(clippy::exit, reason = "data is written last, and there is nothing to undo")]
    fn give_up(&self, error: &std::io::Error) -> ! {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            // What SIGPIPE would have given.
            std::process::exit(141);
        }
        self.line(&format!("error: cannot write to standard output\n  because: {error}"));
        std::process::exit(self.failure.into());
    }

    /// Data without a line's end of its own.
    pub fn raw(&self, text: &str) {
        self.data(text.trim_end_matches('\n'));
    }

    /// A line for the person.
    pub fn say(&self, text: impl Display) {
        if !self.quiet {
            self.line(&text.to_string());
        }
    }

    /// Something that may surprise, whether quiet or not.
    pub fn warn(&self, text: impl Display) {
        self.line(&format!("warning: {text}"));
    }

    /// An error with its causes and hints.
    pub fn error(&self, error: &Error) {
        let mut text = format!("error: {error}");
        let mut cause = error.source();
        while let Some(error) = cause {
            text.push_str(&format!("\n  because: {error}"));
            cause = error.source();
        }
        for hint in error.hints() {
            text.push_str(&format!("\nhint: {hint}"));
        }
        self.line(&text);
    }

    pub(crate) fn line(&self, text: &str) {
        // Names in messages may be a vendor's. Lines that we broke ourselves stay; nothing may steer the terminal.
        let text: String = text
            .chars()
            .map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c })
            .collect();
        let print = || {
            // Nobody can be told when stderr is gone.
            drop(writeln!(std::io::stderr().lock(), "{text}"));
        };
        match self.bar.lock().ok().and_then(|bar| bar.clone()) {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}

/// An error and its causes, for programs.
pub(crate) fn one_line(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

impl Progress for Printer {
    fn begin(&self, phase: &str, total: u64) {
        if self.quiet {
            return;
        }
        if !std::io::stderr().is_terminal() {
            if total == 0 {
                return;
            }
            let megabytes = total.div_ceil(1 << 20);
            self.line(&format!("  {phase} ({megabytes} MiB)"));
            return;
        }
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        let template = "  {msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(phase.to_owned());
        if let Ok(mut slot) = self.bar.lock() {
            *slot = Some(bar);
        }
    }

    fn advance(&self, amount: u64) {
        if let Some(bar) = self.bar.lock().ok().and_then(|bar| bar.clone()) {
            bar.inc(amount);
        }
    }

    fn end(&self) {
        if let Some(bar) = self.bar.lock().ok().and_then(|mut bar| bar.take()) {
            bar.finish_and_clear();
        }
    }

    fn note(&self, line: &str) {
        self.say(format!("  {line}"));
    }

    fn warn(&self, line: &str) {
        Self::warn(self, line);
    }
}
