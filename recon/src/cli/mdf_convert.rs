//! `hatchway-recon mdf convert`.

use std::path::Path;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::report::{self, Progress};
use crate::Error;
use crate::mdf::File;
use crate::mdf::convert::{Change, convert};
use crate::mdf::write::{Options, Version};

/// What is to change.
#[derive(Debug, Args)]
pub(super) struct How {
    /// Version of the new file.
    #[arg(long, value_enum, default_value = "2.1.0")]
    version: Named,
    /// Store frames as the fastest dimension, as system matrices have them.
    #[arg(long, conflicts_with = "frames_first")]
    fast_frame_axis: bool,
    /// Store frames one after the other.
    #[arg(long)]
    frames_first: bool,
    /// Store numbers in 32 bits.
    #[arg(long, conflicts_with = "double")]
    single: bool,
    /// Store numbers in 64 bits.
    #[arg(long)]
    double: bool,
    /// Replace the file to write, if it is there.
    #[arg(long)]
    force: bool,
}

/// Versions by the names that the file has.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Named {
    #[value(name = "2.0.1")]
    Old,
    #[value(name = "2.1.0")]
    New,
}

pub(super) fn run(input: &Path, output: &Path, how: &How) -> Result<ExitCode, Error> {
    let version = match how.version {
        Named::Old => Version::V2_0_1,
        Named::New => Version::V2_1_0,
    };
    let either = |yes: bool, no: bool| if yes || no { Some(yes) } else { None };
    let change = Change {
        options: Options { version, overwrite: how.force },
        fast_frames: either(how.fast_frame_axis, how.frames_first),
        single: either(how.single, how.double),
    };
    let mut progress = Progress::new();
    let left_out = convert(&File::open(input)?, output, change, &mut |done, total| progress.at(done, total))?;
    progress.end();
    for path in left_out {
        report::note(format!("`{path}` is left out: MDF has no such field"));
    }
    Ok(ExitCode::SUCCESS)
}
