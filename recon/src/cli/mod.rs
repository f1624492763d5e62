//! The command line, one file a verb.

mod devices;
mod generate;
mod mdf;
mod mdf_check;
mod mdf_convert;
mod mdf_show;
mod outputs;
mod reconstruct;
mod report;
mod serve;
mod simulate;
mod view;

use std::path::Path;
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
    /// Compute what a scanner would measure of an object, and its calibration.
    Simulate(simulate::Simulate),
    /// Make images of a scan by a plan.
    Reconstruct(reconstruct::Reconstruct),
    /// Make images while a scan runs: frames come in over a socket, images go out.
    Serve(serve::Serve),
    /// Send a scan to `serve` as if it were measured now.
    Feed(serve::Feed),
    /// Watch the images of `serve`.
    Watch(serve::Watch),
    /// Show an image in the terminal, or write it as a picture or for 3D Slicer.
    View(view::View),
    /// Say how alike two images are.
    Compare(view::Compare),
    /// Print completions for a shell.
    Completions(generate::Completions),
    /// Print generated documentation.
    #[command(subcommand, hide = true)]
    Generate(generate::Generate),
    /// List the graphics cards that can compute.
    Devices(devices::Devices),
}

/// Runs the command line of this process. 0: yes; 1: the answer is no; 2: usage or failure.
#[must_use]
pub fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Mdf(verb) => mdf::run(&verb),
        Verb::Simulate(args) => simulate::run(&args),
        Verb::Reconstruct(args) => reconstruct::run(&args),
        Verb::Serve(args) => serve::run(&args),
        Verb::Feed(args) => serve::run_feed(&args),
        Verb::Watch(args) => serve::run_watch(&args),
        Verb::View(args) => view::run(&args),
        Verb::Compare(args) => view::run_compare(&args),
        Verb::Completions(args) => generate::run_completions(&args),
        Verb::Generate(what) => generate::run(&what),
        Verb::Devices(args) => devices::run(&args),
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

/// Where the paths of a plan begin; nothing for a plan in the working folder, so that they are told as they are written.
fn folder_of(plan: &Path) -> &Path {
    plan.parent().unwrap_or(Path::new(""))
}
