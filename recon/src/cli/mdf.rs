//! `hatchway-recon mdf`: verbs about files.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use super::{mdf_check, mdf_convert, mdf_show};
use crate::Error;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Tell everything in which a file differs from the specification.
    ///
    /// The answer is 0 if the file keeps to it, 1 if it does not, and 2 if it cannot be read. Data are read once, in
    /// parts; a file may be larger than memory.
    #[command(
        after_help = "Examples:\n  hatchway-recon mdf check scan.mdf\n  hatchway-recon mdf check --strict \
                            --json scan.mdf | jq .findings"
    )]
    Check {
        /// The file.
        file: PathBuf,
        /// Print the report as JSON.
        #[arg(long)]
        json: bool,
        /// Let warnings count as violations.
        #[arg(long)]
        strict: bool,
    },
    /// Summarise a file: what it is, and how it was acquired.
    #[command(
        after_help = "Examples:\n  hatchway-recon mdf show scan.mdf\n  hatchway-recon mdf show --fields \
                            scan.mdf"
    )]
    Show {
        /// The file.
        file: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// List every dataset with its shape, type and storage instead.
        #[arg(long)]
        fields: bool,
    },
    /// Write a file anew: contiguous, in another order, precision or version.
    ///
    /// Data are read and written in parts. Sparse rows become whole ones. Metadata stay as they are, with the UUID and the
    /// time; fields that MDF has not are left out, and named.
    #[command(
        after_help = "Examples:\n  hatchway-recon mdf convert packed.mdf plain.mdf\n  hatchway-recon mdf \
                            convert --fast-frame-axis --single scan.mdf matrix.mdf"
    )]
    Convert {
        /// The file to read.
        input: PathBuf,
        /// The file to write.
        output: PathBuf,
        /// The order, precision and version of the new file.
        #[command(flatten)]
        how: mdf_convert::How,
    },
}

pub(super) fn run(verb: &Verb) -> Result<ExitCode, Error> {
    match verb {
        Verb::Check { file, json, strict } => mdf_check::run(file, *json, *strict),
        Verb::Show { file, json, fields: false } => mdf_show::summary(file, *json),
        Verb::Show { file, json, fields: true } => mdf_show::fields(file, *json),
        Verb::Convert { input, output, how } => mdf_convert::run(input, output, how),
    }
}
