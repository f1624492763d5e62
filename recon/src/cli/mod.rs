//! The command line, one file a verb.

mod mdf;
mod mdf_check;
mod mdf_convert;
mod mdf_show;
mod report;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::Error;

/// Magnetic particle imaging: files, reconstruction, images.
#[derive(Debug, Parser)]
#[command(name = "hatchway-recon", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Check and show files in the Magnetic Particle Imaging Data Format.
    #[command(subcommand)]
    Mdf(mdf::Verb),
}

/// Runs the command line of this process. 0: yes; 1: the answer is no; 2: usage or failure.
#[must_use]
pub fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Mdf(verb) => mdf::run(&verb),
    };
    match done {
        Ok(code) => code,
        // What SIGPIPE would have given: whoever read has enough.
        Err(Error::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::from(141),
        Err(error) => {
            report::error(&error);
            ExitCode::from(2)
        }
    }
}
