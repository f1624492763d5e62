//! From a plan to a running shim.
use super::Error;
use hatchway_wire::Bootstrap;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::{FdFlags, fcntl_setfd};
use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
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
    let become_shim = || -> Result<Infallible, Error> {
        let memory = seal(bootstrap, &keep)?;
        let copy = copy_of(shim).map_err(|source| Error::Launch {
            step: format!("copy `{}` into memory", shim.display()),
            source,
        })?;
        let kept: Vec<RawFd> = keep.iter().chain([&memory]).map(AsRawFd::as_raw_fd).collect();
        // Whatever else this process was started with would stay open as long as the unit lives.
        hatchway_sys::descriptors::close_on_exec_from(3, &kept)
            .map_err(|source| Error::Launch { step: "hand over descriptors".to_owned(), source })?;
        let mut command = command(Path::new(&format!("/proc/self/fd/{}", copy.as_raw_fd())), &memory);
        let source = command.arg0("hatchway-shim").env_clear().exec();
        Err(Error::Launch { step: format!("execute `{}`", shim.display()), source })
    };
    match become_shim() {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

/// Starts a shim, with standard streams as the caller sets them on the command. For the daemon and for tests; the
/// descriptors in `keep` are this process's until the returned one is dropped. The shim copies itself into memory, since
/// only then is everything closed that other threads have opened meanwhile.
pub fn spawn_shim(
    shim: &Path,
    bootstrap: &Bootstrap,
    keep: &[OwnedFd],
    streams: impl FnOnce(&mut Command),
) -> Result<Child, Error> {
    let memory = seal(bootstrap, keep)?;
    for fd in keep.iter().chain([&memory]) {
        fcntl_setfd(fd, FdFlags::empty()).map_err(|errno| Error::Launch {
            step: "hand over a descriptor".to_owned(),
            source: errno.into(),
        })?;
    }
    let mut command = command(shim, &memory);
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

fn command(shim: &Path, bootstrap: &OwnedFd) -> Command {
    let mut command = Command::new(shim);
    command.arg("--bootstrap-fd").arg(bootstrap.as_raw_fd().to_string());
    command
}

/// The bootstrap in memory.
fn seal(bootstrap: &Bootstrap, keep: &[OwnedFd]) -> Result<OwnedFd, Error> {
    let mut bootstrap = bootstrap.clone();
    bootstrap.keep_fds = keep.iter().map(AsRawFd::as_raw_fd).collect();
    let text = serde_json::to_vec(&bootstrap)?;
    write_sealed("hatchway-bootstrap", MemfdFlags::empty(), &mut &text[..])
        .map_err(|source| Error::Launch { step: "write the bootstrap".to_owned(), source })
}

/// The shim in memory, where nothing can write to it through `/proc/PID/exe`. It would copy itself; done here, that saves
/// a start.
fn copy_of(shim: &Path) -> io::Result<OwnedFd> {
    let mut program = File::open(shim)?;
    // The flag says that it will be executed, which some hosts insist on and kernels before 6.3 do not know.
    write_sealed("hatchway-shim", MemfdFlags::EXEC, &mut program).or_else(|error| {
        let unknown = error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error());
        if unknown { write_sealed("hatchway-shim", MemfdFlags::empty(), &mut program) } else { Err(error) }
    })
}

/// A file in memory that nobody can change any more.
fn write_sealed(name: &str, flags: MemfdFlags, content: &mut impl Read) -> io::Result<OwnedFd> {
    let flags = flags | MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(rustix::fs::memfd_create(name, flags)?);
    io::copy(content, &mut file)?;
    file.rewind()?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}
