//! `hatchway fetch`

use std::path::PathBuf;
use std::process::ExitCode;

use super::NetworkArgs;
use crate::artifact;
use crate::context::Context;
use crate::error::Error;

/// Arguments of `fetch`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// `debian:<suite>/<component>/<package>[:i386]`
    spec: String,
    /// The folder to put the file in
    #[arg(long, default_value = ".")]
    to: PathBuf,
    /// Print the file's path, size and sha256 as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    network: NetworkArgs,
}

pub(super) fn main(args: &Args, quiet: bool) -> Result<ExitCode, Error> {
    let context = Context::open(quiet, args.network.into())?;
    let spec: artifact::ArchiveSpec = args.spec.parse()?;
    let acquired = artifact::acquire(&context, &spec.to_string())?;
    let target = args.to.join(&acquired.file);
    std::fs::copy(&acquired.path, &target).map_err(Error::io("write", &target))?;
    // In the store files are read-only; this one is the person's.
    let writable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&target, writable).map_err(Error::io("write", &target))?;
    if args.json {
        let size = std::fs::metadata(&target).map_err(Error::io("read", &target))?.len();
        let path = target.display().to_string();
        let answer = serde_json::json!({ "path": path, "size": size, "sha256": acquired.sha256.to_string() });
        context.printer.data(super::json(&answer)?);
        return Ok(ExitCode::SUCCESS);
    }
    context.printer.data(target.display());
    Ok(ExitCode::SUCCESS)
}
