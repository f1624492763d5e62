//! From a plan to a running shim.
use super::Error;
use hatchway_wire::Bootstrap;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::{FdFlags, fcntl_setfd};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Replaces this process by the shim; returns only if that fails.
///
/// `keep` are descriptors the shim holds as long as the unit lives, such as the tree's lock. Standard input,
/// output and error are handed on as they are; nothing else is.
#[must_use]
#[allow(
    clippy::needless_pass_by_value,
    reason = "the descriptors become the shim's; the caller must not go on with them"
)]
pub fn exec_shim(shim: &Path, bootstrap: &Bootstrap, keep: Vec<OwnedFd>) -> Error {
    match prepare(shim, bootstrap, &keep) {
        Ok((mut command, _memory)) => {
            let source = command.exec();
            Error::Launch { step: format!("execute `{}`", shim.display()), source }
        }
        Err(error) => error,
    }
}

/// Starts a shim, with standard streams as the caller sets them on the command. For the daemon and for tests; the
/// descriptors in `keep` are this process's until the returned one is dropped.
pub fn spawn_shim(
    shim: &Path,
    bootstrap: &Bootstrap,
    keep: &[OwnedFd],
    streams: impl FnOnce(&mut Command),
) -> Result<Child, Error> {
    let (mut command, _memory) = prepare(shim, bootstrap, keep)?;
    streams(&mut command);
    command.spawn().map_err(|source| Error::Launch { step: format!("execute `{}`", shim.display()), source })
}

/// Runs a shim to its end and gives what it said on standard error.
pub(super) fn run_quietly(shim: &Path, bootstrap: &Bootstrap) -> Result<String, Error> {
    let quiet = |command: &mut Command| {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    };
    let child = spawn_shim(shim, bootstrap, &[], quiet)?;
    let output = child
        .wait_with_output()
        .map_err(|source| Error::Launch { step: "wait for the shim".to_owned(), source })?;
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

fn prepare(shim: &Path, bootstrap: &Bootstrap, keep: &[OwnedFd]) -> Result<(Command, OwnedFd), Error> {
    let mut bootstrap = bootstrap.clone();
    bootstrap.keep_fds = keep.iter().map(AsRawFd::as_raw_fd).collect();
    let memory = seal(&bootstrap)?;
    for fd in keep.iter().chain([&memory]) {
        fcntl_setfd(fd, FdFlags::empty()).map_err(|errno| Error::Launch {
            step: "hand over a descriptor".to_owned(),
            source: errno.into(),
        })?;
    }
    let mut command = Command::new(shim);
    command.arg("--bootstrap-fd").arg(memory.as_raw_fd().to_string());
    Ok((command, memory))
}

/// The bootstrap in memory that nobody can change any more.
fn seal(bootstrap: &Bootstrap) -> Result<OwnedFd, Error> {
    let text = serde_json::to_vec(bootstrap)?;
    let write = || -> io::Result<OwnedFd> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = File::from(rustix::fs::memfd_create("hatchway-bootstrap", flags)?);
        file.write_all(&text)?;
        file.rewind()?;
        let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
        rustix::fs::fcntl_add_seals(&file, seals)?;
        Ok(file.into())
    };
    write().map_err(|source| Error::Launch { step: "write the bootstrap".to_owned(), source })
}
