//! The fhs rung: this process becomes the shim.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

use hatchway_envs::sandbox::{self, HostFacts, HostPath, Spec};
use hatchway_wire::bootstrap::Control;
use hatchway_wire::{Bootstrap, control};

use super::companion::Running;
use super::{Asked, Run, explain, interpreter, packets, shim};
use crate::error::Error;

/// Comes back only with an error, or when explaining.
///
/// # Errors
/// What the plan cannot have, and a shim that cannot be executed.
pub(super) fn run(
    run: &Run<'_>,
    spec: &Spec,
    host: &HostFacts,
    running: &mut Running,
) -> Result<ExitCode, Error> {
    let mut bootstrap = sandbox::plan(spec, host)?;
    if let Some(form) = run.request.explain {
        explain(run.context, form, &bootstrap, &Asked { whom: "", lines: &[] });
        return Ok(ExitCode::SUCCESS);
    }
    bootstrap.missing = interpreter::missing(run.context, run.located, run.tree, &bootstrap.process);
    let copies = run.held.iter().map(OwnedFd::try_clone).collect::<std::io::Result<Vec<_>>>();
    let mut keep = copies.map_err(Error::io("hold", run.folder))?;
    keep.append(&mut running.held);
    keep.push(visitors(run.folder, &mut bootstrap)?);
    // Had it worked, this process would be the shim now, and what runs beside the tool its to end.
    Err(sandbox::exec_shim(&shim()?, &bootstrap, keep).into())
}

/// The socket at which the shim waits for those who come to the unit while it runs.
pub(super) fn visitors(run: &Path, bootstrap: &mut Bootstrap) -> Result<OwnedFd, Error> {
    let path = run.join(control::SOCKET);
    let socket = packets::Listener::new(run, control::SOCKET).map_err(Error::io("listen at", &path))?;
    let socket = socket.into_descriptor();
    let path = HostPath::try_from(path.as_path()).map_err(sandbox::Error::from)?;
    bootstrap.control = Some(Control::Listener { fd: socket.as_raw_fd(), path });
    Ok(socket)
}
