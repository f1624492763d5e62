//! `hatchway support`

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::dirs::Dirs;
use crate::error::Error;
use crate::report::Printer;
use crate::support::{self, Archive, Logs, Manifest, Names, Wishes};
use crate::{clock, config};

/// What is done with archives.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Collect what is known of this instrument into one file, without secrets
    Collect(CollectArgs),
    /// Show what an archive has, or one of its files
    Show(ShowArgs),
    /// Say what a stand-in of an archive (`path-3`) stands for, on the machine that made it
    Name {
        /// The stand-in
        name: String,
    },
}

/// Arguments of `support collect`.
#[derive(Debug, clap::Args)]
pub(super) struct CollectArgs {
    /// Where it is written; otherwise `hatchway-support-TIME.tar.zst` here
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// What becomes of what the tools said
    #[arg(long, value_enum, default_value = "structured")]
    logs: Logs,
    /// MiB of the archive at most; logs give way
    #[arg(long, value_name = "MIB", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..))]
    max_size: u16,
    /// Let this word through as it is (several times)
    #[arg(long, value_name = "WORD")]
    keep: Vec<String>,
    /// Only show what would be in it
    #[arg(long)]
    dry_run: bool,
    /// Print the manifest as JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `support show`.
#[derive(Debug, clap::Args)]
pub(super) struct ShowArgs {
    /// The archive
    archive: PathBuf,
    /// One of its files; a list of them without one
    file: Option<String>,
    /// Print the manifest as JSON
    #[arg(long, conflicts_with = "file")]
    json: bool,
}

pub(super) fn main(command: &Command, quiet: bool) -> Result<ExitCode, Error> {
    let printer = Printer::new(quiet);
    match command {
        Command::Collect(args) => collect(args, &printer),
        Command::Show(args) => show(args, &printer),
        Command::Name { name } => named(name, &printer),
    }
}

fn collect(args: &CollectArgs, printer: &Printer) -> Result<ExitCode, Error> {
    let dirs = Dirs::discover();
    let wishes = Wishes {
        logs: args.logs,
        size_max: usize::from(args.max_size) << 20,
        keep: args.keep.clone(),
        driver_root: config::load(&dirs)?.driver_root,
    };
    if args.logs == Logs::Raw {
        printer.warn("what the tools said goes in as it is, with whatever secrets are in it");
    }
    let (_, manifest, packed) = support::collect(&dirs, &wishes)?;
    if args.json {
        printer.data(super::json(&manifest)?);
    } else {
        printer.data(listed(&manifest));
    }
    if args.dry_run {
        printer.say(format!("{} bytes; nothing was written", packed.len()));
        return Ok(ExitCode::SUCCESS);
    }
    let path = args.output.clone().unwrap_or_else(|| file_name(manifest.made_ns).into());
    write(&path, &packed).map_err(Error::io("write", &path))?;
    printer.say(format!("{}: {} bytes", path.display(), packed.len()));
    printer.say(format!("look before it leaves: `hatchway support show {} FILE`", path.display()));
    Ok(ExitCode::SUCCESS)
}

/// For nobody but this user, and never over something that is there.
fn write(path: &Path, packed: &[u8]) -> std::io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(packed).and_then(|()| file.sync_all());
    if written.is_err() {
        // Half an archive is none.
        drop(std::fs::remove_file(path));
    }
    written
}

/// Of digits and letters, so that any system takes it.
fn file_name(made_ns: i64) -> String {
    let time: String =
        clock::shown(made_ns).chars().take("2026-11-30T10:00:00".len()).filter(|c| *c != ':').collect();
    format!("hatchway-support-{time}.tar.zst")
}

fn listed(manifest: &Manifest) -> String {
    let logs = match manifest.logs {
        Logs::None => "none of what the tools said",
        Logs::Structured => {
            "of what the tools said only when and how much; time, level and code of JSON lines"
        }
        Logs::Raw => "all that the tools said, with whatever secrets are in it",
    };
    let mut text = format!("made {} by hatchway {}", clock::shown(manifest.made_ns), manifest.hatchway);
    text.push_str(&format!("\n{logs}\n"));
    for entry in &manifest.files {
        text.push_str(&format!("\n{:>10} {}", entry.size, entry.name));
    }
    for what in &manifest.left_out {
        text.push_str(&format!("\nnot in it: {what}"));
    }
    super::units::plain(&text)
}

fn show(args: &ShowArgs, printer: &Printer) -> Result<ExitCode, Error> {
    let archive = Archive::open(&args.archive)?;
    match &args.file {
        None if args.json => printer.data(super::json(&archive.manifest)?),
        None => printer.data(listed(&archive.manifest)),
        Some(name) => {
            let content = archive.file(name)?;
            printer.data(super::units::plain(String::from_utf8_lossy(&content).trim_end()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// 0 where it is known, 1 where it is not.
fn named(name: &str, printer: &Printer) -> Result<ExitCode, Error> {
    let names = Names::load(&Dirs::discover())?;
    match names.stands_for(name) {
        Some(text) => printer.data(super::units::plain(text)),
        None => printer.say(format!("`{name}` was not given out here")),
    }
    Ok(ExitCode::from(u8::from(names.stands_for(name).is_none())))
}
